"""Multi-MNIST: none, one or two handwritten digits at random places of a 50 x 50 canvas.

Min, Su, Zhu & Zhang, "Discrete Memory Addressing Variational Autoencoder for Visual Concept Learning", IJCNN 2020:
20,000 images of each count, 60,000 in all, of which 2,000 are held out for test. The paper says no more than "following
the experiment settings in AIR" (Eslami et al., NeurIPS 2016), so where a digit stands is an option:

layout "aak": a digit has its native size and is cropped to its ink; its box lies uniformly on the canvas, a second one
is placed until the boxes are disjoint, up to 100 times, else the image begins anew. These conventions (and the 20,000
per count) are those of the public re-implementation of AIR whose other settings are DM-VAE's too.

layout "pyro": the whole 28 x 28 frame is reduced (cubic, as Pillow's default) to a side of floor(28 / scale), scale ~
N(1.3, 0.1), its left and top edge uniform on {0..49 - side}; a second digit is drawn anew only while ink adds up to
more than 255, so digits may touch. The conventions of Pyro's AIR example, except that it draws counts at random; here
there are as many of each as the paper says.

All images are shuffled by a fixed seed: the first 2,000 are test, the next 2,000 valid (the paper has no such split;
nothing may be chosen on the test images), the others train. Nothing is stored: an image is a function of (seed, its
place), painted when it is asked for. Axes: `N` images, `O` = 2 objects, `G` digits of the pool, `P` side of a patch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core import progress
from ..core.dataset import SPLITS, Dataset, DatasetInfo, Examples, Objects, Split
from ..core.errors import UsageError
from ..core.randomness import stream
from ..core.workspace import data_root
from . import _counter
from ._counter import Integers, Words
from ._digits import STAND_IN, Source, digits
from ._glyphs import tight_boxes

__all__ = ["MultiMNIST"]

CANVAS, FRAME, MOST = 50, 28, 2
TRIES = 100
_NOBODY = 255  # in `Examples.owner`

Kind = Literal["aak", "pyro"]
Pixels = NDArray[np.uint8]


class Layout(NamedTuple):
    """Which digit stands where in N images: arrays (N, O) int64, -1 where there is no digit, and boxes.

    glyph: index into the pool. side: of the frame ("pyro"), 0 where the digit is cropped to its ink ("aak").
    x, y: left and top edge of what is pasted, the frame or the ink. box: (N, O, 4) tight (x0, y0, x1, y1) of the ink.
    """

    glyph: Integers
    side: Integers
    x: Integers
    y: Integers
    box: Integers

    def rows(self, index: Integers | slice) -> Layout:
        """The layout of some of the images."""
        return Layout(*(field[index] for field in self))


class Pool(NamedTuple):
    """The digits of a split. frame: (G, 28, 28). ink: (G, P, P), the same cropped to its ink, at the top left.

    box: (G, 4) tight (x0, y0, x1, y1) in `ink`. label: (G,).
    """

    frame: Pixels
    ink: Pixels
    box: Integers
    label: Integers


@dataclass(frozen=True)
class MultiMNIST(Dataset):
    """Images of 0, 1 or 2 digits. layout, see above. source: MNIST's digits or scikit-learn's (enlarged 2.5 times).

    digits: "clean" makes train, valid and test images of the train, valid and test digits; "paper" makes all of them of
    the training digits, as the re-implementation does. per_count: images of each count, over all splits. valid, test:
    how many of them these splits get; the others are train. seed: names all randomness.
    `Examples.label` is the count, `objects` the digits in the order in which they were placed.
    """

    layout: Kind = "aak"
    digits: Literal["clean", "paper"] = "clean"
    source: Source = "mnist"
    per_count: int = 20_000
    valid: int = 2_000
    test: int = 2_000
    seed: int = 0

    tiers: ClassVar = {"demo": {"source": "digits", "per_count": 3_000, "valid": 500, "test": 500}}

    def __post_init__(self) -> None:
        for name in ("per_count", "valid", "test"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"dataset.{name}={getattr(self, name)} is too few; expected at least 1 image"
                )
        if self.valid + self.test >= self.images:
            raise UsageError(
                f"dataset.valid={self.valid} and dataset.test={self.test} leave none of the {self.images} images "
                "to train on; expected a smaller sum, or a larger dataset.per_count"
            )

    @property
    def images(self) -> int:
        """How many images all splits have together."""
        return (MOST + 1) * self.per_count

    @property
    def info(self) -> DatasetInfo:
        """`multimnist` with MNIST's digits, `multidigits` with scikit-learn's."""
        name = "multimnist" if self.source == "mnist" else "multidigits"
        return DatasetInfo(name, (1, CANVAS, CANVAS), objects=MOST, stand_in=STAND_IN[self.source])

    @property
    def digest(self) -> str:
        """Of the options, the digits, every layout, and the first 64 images of each split."""
        return _digest(self, data_root())

    def split(self, name: Split) -> Examples:
        """The images of one split, painted on demand."""
        layout, pool = self.where(name), self.pool(name)
        there = layout.glyph >= 0  # (N, O)
        objects = Objects(
            label=np.where(there, pool.label[layout.glyph], -1), box=layout.box.astype(np.float32)
        )
        return Examples(
            image=_Painted(pool, layout),
            label=there.sum(1).astype(np.int64),
            objects=objects,
            owner=_Owners(pool, layout),
        )

    def pool(self, name: Split) -> Pool:
        """The digits that images of this split are made of."""
        return _pool(self.source, name if self.digits == "clean" else None, data_root())

    def where(self, name: Split) -> Layout:
        """What stands where in every image of one split."""
        return _layout(self, name, data_root())


@dataclass(frozen=True)
class _Painted:
    """The images of one split: `painted[index]` is uint8 (B, 1, H, W)."""

    pool: Pool
    layout: Layout

    def __len__(self) -> int:
        return len(self.layout.glyph)

    def __getitem__(self, index: Integers | slice) -> Pixels:
        one, two = np.moveaxis(apart(self.pool, self.layout.rows(index)), 1, 0)
        image: Pixels = one + np.minimum(two, 255 - one)
        return image[:, None]


@dataclass(frozen=True)
class _Owners:
    """Which object each pixel's ink comes from, of two equals the first: `owners[index]` is uint8 (B, H, W)."""

    pool: Pool
    layout: Layout

    def __len__(self) -> int:
        return len(self.layout.glyph)

    def __getitem__(self, index: Integers | slice) -> Pixels:
        one, two = np.moveaxis(apart(self.pool, self.layout.rows(index)), 1, 0)
        owner: Pixels = np.where(two > one, 1, 0).astype(np.uint8)
        owner[(one | two) == 0] = _NOBODY
        return owner


def apart(pool: Pool, layout: Layout) -> Pixels:
    """Each digit alone on its canvas: (N, O, H, W)."""
    count = len(layout.glyph)
    rows, objects = np.nonzero(layout.glyph >= 0)
    glyph, side, x, y = (field[rows, objects] for field in layout[:4])
    ink = patches(pool, glyph, side)
    edge = ink.shape[1]
    # Room at the right and below: the ink of a patch may end before the patch does.
    canvas = np.zeros((count * MOST, CANVAS + edge, CANVAS + edge), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(
        canvas, (edge, edge), axis=(1, 2), writeable=True
    )
    windows[rows * MOST + objects, y, x] = ink
    return canvas.reshape(count, MOST, *canvas.shape[1:])[..., :CANVAS, :CANVAS]


def patches(pool: Pool, glyph: Integers, side: Integers) -> Pixels:
    """What is pasted of some digits: (N, P, P), ink or reduced frame at the top left."""
    if not side.any():
        return pool.ink[glyph]
    reduced = np.zeros((len(glyph), side.max(), side.max()), np.uint8)
    for length in np.unique(side):
        (rows,) = np.nonzero(side == length)
        weights = _reducing(int(length))  # (length, 28)
        # Whole numbers below 2^53: exact in whatever order they are added.
        mean = weights @ pool.frame[glyph[rows]].astype(np.float64) @ weights.T / _ONE**2
        reduced[rows, :length, :length] = np.clip(np.floor(mean + 0.5), 0, 255)
    return reduced


_ONE = 1 << 14


@lru_cache(maxsize=64)
def _reducing(side: int) -> NDArray[np.float64]:
    """(side, 28): the weights, in 1 / 2^14, that make `side` pixels of 28."""
    place, source = np.arange(side)[:, None], np.arange(FRAME)
    # In 1 / (2 * side) of a pixel of the frame; the cubic is as wide as the larger of the two kinds of pixels asks.
    weight = _cubic((2 * source + 1) * side - (2 * place + 1) * FRAME, 2 * max(FRAME, side))
    total = weight.sum(1, keepdims=True)
    rounded: NDArray[np.float64] = ((2 * _ONE * weight + total) // (2 * total)).astype(np.float64)
    return rounded


def _cubic(distance: Integers, unit: int) -> Integers:
    """Keys' cubic convolution kernel (1981, a = -1/2) at distance / unit, times 2 unit^3: whole numbers."""
    d, u = np.abs(distance), unit
    near = 3 * d**3 - 5 * u * d**2 + 2 * u**3
    far = -(d**3) + 5 * u * d**2 - 8 * u**2 * d + 4 * u**3
    kernel: Integers = np.where(d <= u, near, np.where(d < 2 * u, far, 0))
    return kernel


@lru_cache(maxsize=8)
def _pool(source: Source, name: Split | None, root: Path) -> Pool:
    """name: whose digits; None for all training digits (train and valid)."""
    parts = [digits(source, part) for part in (("train", "valid") if name is None else (name,))]
    image = np.concatenate([part.image for part in parts])
    label = np.concatenate([part.label for part in parts])
    frame = image if source == "mnist" else _enlarged(image)
    x0, y0, x1, y1 = (box := tight_boxes(frame)).T
    edge = int(max((x1 - x0).max(), (y1 - y0).max()))
    room = np.pad(frame, ((0, 0), (0, edge), (0, edge)))
    windows = np.lib.stride_tricks.sliding_window_view(room, (edge, edge), axis=(1, 2))
    # Nothing but a digit's own ink is right of and below the corner of its box.
    ink = np.ascontiguousarray(windows[np.arange(len(frame)), y0, x0])
    pool = Pool(frame, ink, box - np.stack([x0, y0, x0, y0], axis=1), label)
    for array in pool:
        array.flags.writeable = False  # shared by all who ask
    return pool


_FAINT = 32  # of 255: what interpolation leaves beside a stroke is no ink


def _enlarged(image: Pixels) -> Pixels:
    """scikit-learn's digits (N, 8, 8) in MNIST's frame (N, 28, 28): 2.5 times as large, about 20 pixels high.

    By cubic convolution in whole numbers; what is fainter than 1/8 becomes 0.
    """
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1))).astype(np.int64)  # (N, 10, 10)
    # Where the middle of each of the 25 pixels is in the source, in tenths of its pixels.
    place = 4 * np.arange(25) + 2 - 5
    weight = _cubic(place[:, None] - 10 * np.arange(10), 10)  # (25, 10), of 2,000
    exact = np.einsum("ia,nab,jb->nij", weight, padded, weight, optimize=True)
    value = np.clip((exact + 2_000_000) // 4_000_000, 0, 255)
    value[value < _FAINT] = 0
    return np.pad(value.astype(np.uint8), ((0, 0), (1, 2), (1, 2)))


def shares(images: int, name: Split, seed: int, valid: int, test: int) -> Integers:
    """The places 0..images - 1 of one split's images, in its order."""
    order = _counter.shuffled(stream("multimnist", seed), images)
    parts = {"test": slice(0, test), "valid": slice(test, test + valid)}
    place: Integers = order[parts.get(name, slice(test + valid, images))]
    return place


@lru_cache(maxsize=8)
def _layout(data: MultiMNIST, name: Split, root: Path) -> Layout:
    place = shares(data.images, name, data.seed, data.valid, data.test)
    keys = _counter.keys(stream("multimnist", data.seed, "images"), place)
    pool, count = data.pool(name), place // data.per_count
    pieces = [slice(start, start + _PIECE) for start in range(0, len(place), _PIECE)]
    parts = [
        _arranged(data.layout, pool, keys[piece], count[piece])
        for piece in progress.track(pieces, f"{data.info.name} {name}: where digits are")
    ]
    layout = Layout(*(np.concatenate(field) for field in zip(*parts, strict=True)))
    for field in layout:
        field.flags.writeable = False  # shared by all who ask
    return layout


_PIECE = 4_096  # images


def _arranged(kind: Kind, pool: Pool, keys: Words, count: Integers) -> Layout:
    """Where `count` (N,) digits stand."""
    none = np.full((len(keys), MOST), -1)
    layout = Layout(none, none.copy(), none.copy(), none.copy(), none[..., None].repeat(4, -1))
    left, beginning = np.flatnonzero(count), 0
    while len(left):
        _put(layout, left, 0, _drawn(kind, pool, keys[left], beginning, 0, 0))
        left = left[count[left] == MOST]
        for attempt in range(TRIES):
            if not len(left):
                break
            _put(layout, left, 1, _drawn(kind, pool, keys[left], beginning, 1, attempt))
            left = left[_in_the_way(kind, pool, layout.rows(left))]
        beginning += 1
    return layout


def _put(layout: Layout, rows: Integers, object_: int, drawn: Layout) -> None:
    for whole, some in zip(layout, drawn, strict=True):
        whole[rows, object_] = some


def _drawn(
    kind: Kind, pool: Pool, keys: Words, beginning: int, object_: int, attempt: int
) -> Layout:
    """One digit for each image, fields (N,): a function of the image, the beginning, the object and the attempt."""
    first = (beginning << 32) + 4 * TRIES * object_
    numbers = first + 4 * attempt + np.arange(4)
    if kind == "aak":
        # The same digit at another place: drawn anew, a large one would be rarer beside another.
        (glyph,) = _counter.uniform(keys, np.array([first]), len(pool.label)).T
        box = pool.box[glyph]
        room = CANVAS + 1 - box[:, 2:]  # (N, 2)
        x, y = _counter.uniform(keys, numbers[2:], room).T
        side = np.zeros_like(glyph)
    else:
        (glyph,) = _counter.uniform(keys, numbers[:1], len(pool.label)).T
        side = np.searchsorted(
            _sides(), _counter.uniform(keys, numbers[1:2], 1 << 32)[:, 0], "right"
        )
        x, y = _counter.uniform(keys, numbers[2:], CANVAS - side[:, None]).T
        box = tight_boxes(patches(pool, glyph, side))
    return Layout(glyph, side, x, y, box + np.stack([x, y, x, y], axis=1))


@lru_cache(maxsize=1)
def _sides() -> Integers:
    """(50,): the probability, in 1 / 2^32, of a side of at most 0..49 pixels where side = floor(28 / N(1.3, 0.1))."""
    scale = FRAME / np.arange(1, CANVAS + 1)  # a larger one gives this side or less
    upper = [math.erfc((value - 1.3) / 0.1 / math.sqrt(2)) / 2 for value in scale]
    sides: Integers = np.rint(np.array(upper) * 2**32).astype(np.int64)
    sides[-1] = 1 << 32
    return sides


def _in_the_way(kind: Kind, pool: Pool, layout: Layout) -> NDArray[np.bool_]:
    """(N,): whether two digits may not stand like this."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = np.moveaxis(layout.box, 0, -1)
    meet: NDArray[np.bool_] = (ax0 < bx1) & (bx0 < ax1) & (ay0 < by1) & (by0 < ay1)
    if kind == "pyro":
        one, two = np.moveaxis(apart(pool, layout.rows(np.flatnonzero(meet))), 1, 0)
        meet[meet] = (one > 255 - two).any(axis=(1, 2))
    return meet


@lru_cache(maxsize=8)
def _digest(data: MultiMNIST, root: Path) -> str:
    options = {**dataclasses.asdict(data), "version": data.version}
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
    for name in SPLITS:
        pool, layout = data.pool(name), data.where(name)
        digest.update(pool.frame.tobytes() + pool.label.astype("<i8").tobytes())
        for field in layout:
            digest.update(np.ascontiguousarray(field, "<i8").tobytes())
        digest.update(data.split(name).image[:64].tobytes())
    return digest.hexdigest()[:12]
