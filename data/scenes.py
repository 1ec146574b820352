"""Scenes of handwritten digits whose layout obeys a rule: MNIST-4, MNIST-10 and MNIST-4-10.

Jiang & Ahn, "Generative Neurosymbolic Machines", NeurIPS 2020. The paper describes the scenes in words; positions,
spacing and symmetry are those measured on the 250 published samples per set. On a 128 x 128 canvas with 20 x 20 glyphs:

MNIST-4. Four digits c, c + 1, c + 2, c + 3 clockwise from the top left, c uniform on 0..6; the top-left patch at an
offset uniform on {0..44}^2, the others its mirror images about the two centre axes.

MNIST-10. Every digit once: {0, 1} top left, {2, 3, 4} top right, {8, 9} bottom right, {5, 6, 7} bottom left; each
of the two diagonals swapped with probability 1/2. Patches lie at offsets uniform on {0..44}^2 in their quadrant,
redrawn until max(|dx|, |dy|) >= 24 for every two of a quadrant. 8 repeats the offset of 0, and 9 that of 1.

MNIST-4-10. Even images are MNIST-4 scenes, odd ones MNIST-10 scenes (the paper states no mixture).

Nothing is stored: image i is a function of (seed, split, i), painted when it is asked for.
Axes: `N` images, `O` objects.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import SPLITS, Dataset, DatasetInfo, Examples, Objects, Split
from ..core.errors import UsageError
from ..core.randomness import stream
from ..core.workspace import data_root
from . import _counter, _glyphs
from ._counter import Integers, Words
from ._digits import STAND_IN, Source
from ._glyphs import Glyphs

__all__ = ["Scenes"]

Rule = Literal["mnist4", "mnist10", "mnist4_10"]

# MNIST-10: the side of each digit 0..9 before any swap, and which of the two diagonals it is on.
_RIGHT = np.array([0, 0, 1, 1, 1, 0, 0, 0, 1, 1], dtype=bool)
_LOWER = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1], dtype=bool)
_DIAGONAL = np.array([0, 0, 1, 1, 1, 1, 1, 1, 0, 0])


class Layout(NamedTuple):
    """Which glyph stands where in N scenes: three arrays (N, O) int64; -1 where there is no object.

    glyph: index into `Scenes.glyphs(split)`. x, y: left and top edge of its patch, in pixels.
    Objects are in the rule's order: clockwise from the top left (MNIST-4), by digit (MNIST-10).
    """

    glyph: Integers
    x: Integers
    y: Integers

    def rows(self, index: Integers | slice) -> Layout:
        """The layout of some of the scenes."""
        return Layout(self.glyph[index], self.x[index], self.y[index])


@dataclass(frozen=True)
class Scenes(Dataset):
    """Digit scenes. rule: which layout. source: where the digits come from. canvas: 32, 64 or 128 pixels.

    train, valid, test: how many scenes of each split (a longer split begins with the same scenes). Train and valid
    scenes are made of disjoint training digits, test scenes of test digits. seed: names all randomness.
    `Examples.label` is 0 for an MNIST-4 scene and 1 for an MNIST-10 scene.
    """

    rule: Rule
    source: Source = "mnist"
    canvas: int = 128
    train: int = 60_000
    valid: int = 6_000
    test: int = 6_000
    seed: int = 0

    tiers: ClassVar = {
        "demo": {"source": "digits", "canvas": 64, "train": 6_000, "valid": 600, "test": 600}
    }

    def __post_init__(self) -> None:
        if self.canvas not in (32, 64, 128):
            raise UsageError(f"dataset.canvas={self.canvas} is not one of 32, 64, 128")
        for name in SPLITS:
            if getattr(self, name) < 1:
                raise UsageError(
                    f"dataset.{name}={getattr(self, name)} is too few; expected at least 1 scene"
                )

    @property
    def info(self) -> DatasetInfo:
        """`mnist4` with MNIST's digits, `digits4` with scikit-learn's, so that nobody takes one for the other."""
        return DatasetInfo(
            name=self.rule.replace("mnist", self.source),
            shape=(1, self.canvas, self.canvas),
            objects=4 if self.rule == "mnist4" else 10,
            stand_in=STAND_IN[self.source],
        )

    @property
    def digest(self) -> str:
        """Of the glyphs, the options, and the first 64 scenes of each split."""
        return _digest(self, data_root())

    def split(self, name: Split) -> Examples:
        """The scenes of one split, painted on demand."""
        layout, glyphs = self.layout(name), self.glyphs(name)
        there = layout.glyph >= 0  # (N, O)
        corner = np.stack([layout.x, layout.y, layout.x, layout.y], axis=-1)
        box = np.where(there[..., None], corner + glyphs.box[layout.glyph], -1)  # (N, O, 4)
        objects = Objects(
            label=np.where(there, glyphs.label[layout.glyph], -1), box=box.astype(np.float32)
        )
        rule = _rule_of(self.rule, len(there)).astype(np.int64)
        return Examples(_Painted(self, name, layout), rule, objects)

    def glyphs(self, name: Split) -> Glyphs:
        """The digits that scenes of this split are made of: patches (G, P, P), P = 20 * canvas / 128, and labels."""
        return _glyphs.glyphs(self.source, name, self.canvas)

    def layout(self, name: Split) -> Layout:
        """What stands where in every scene of one split."""
        return _layout(self, name, getattr(self, name), data_root())

    def render(self, name: Split, layout: Layout) -> NDArray[np.uint8]:
        """Paint any layout of this split's glyphs, lawful or not: (N, 1, H, W).

        Where patches overlap their grey levels add up to 255 at most. Raises ValueError for a patch off the canvas.
        """
        return paint(self.glyphs(name).patch, layout, self.canvas)


@dataclass(frozen=True)
class _Painted:
    """The images of one split: `painted[index]` is uint8 (B, 1, H, W)."""

    scenes: Scenes
    name: Split
    layout: Layout

    def __len__(self) -> int:
        return len(self.layout.glyph)

    def __getitem__(self, index: Integers | slice) -> NDArray[np.uint8]:
        return self.scenes.render(self.name, self.layout.rows(index))


def paint(patch: NDArray[np.uint8], layout: Layout, canvas: int) -> NDArray[np.uint8]:
    """Paste patches (G, P, P) where `layout` says: (N, 1, canvas, canvas)."""
    side = patch.shape[1]
    there = layout.glyph >= 0
    for edge in (layout.x, layout.y):
        if ((edge < 0) | (edge > canvas - side))[there].any():
            raise ValueError(f"a patch of {side} pixels lies off the canvas of {canvas} pixels")
    image = np.zeros((len(there), canvas, canvas), dtype=np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(
        image, (side, side), axis=(1, 2), writeable=True
    )  # (N, canvas - side + 1, canvas - side + 1, side, side), all of them views of `image`
    for object_ in range(there.shape[1]):
        # One object of every scene at a time: no two of these patches share a pixel.
        (rows,) = np.nonzero(there[:, object_])
        where = rows, layout.y[rows, object_], layout.x[rows, object_]
        ink = patch[layout.glyph[rows, object_]]
        windows[where] = ink + np.minimum(windows[where], 255 - ink)
    return image[:, None]


@lru_cache(maxsize=16)
def _layout(scenes: Scenes, name: Split, count: int, root: Path) -> Layout:
    classes = _Classes(scenes.glyphs(name).label)
    keys = _counter.keys(stream("scenes", scenes.seed, name), np.arange(count))
    patch = scenes.canvas * _glyphs.PATCH // _glyphs.CANVAS
    ten = _rule_of(scenes.rule, count)
    layout = Layout(*(np.full((count, scenes.info.objects), -1) for _ in Layout._fields))
    for rows, place in ((~ten, _mnist4), (ten, _mnist10)):
        if rows.any():
            part = place(keys[rows], classes, scenes.canvas, patch)
            for whole, some in zip(layout, part, strict=True):
                whole[rows, : some.shape[1]] = some
    for field in layout:
        field.flags.writeable = False  # shared by all who ask
    return layout


def _rule_of(rule: Rule, count: int) -> NDArray[np.bool_]:
    """(N,): whether each scene obeys the MNIST-10 rule."""
    if rule == "mnist4_10":
        odd: NDArray[np.bool_] = np.arange(count) % 2 == 1
        return odd
    return np.full(count, rule == "mnist10")


def _mnist4(keys: Words, classes: _Classes, canvas: int, patch: int) -> Layout:
    first = _counter.uniform(keys, np.array([0]), 7)  # (N, 1)
    label = first + np.arange(4)  # (N, 4), clockwise from the top left
    near = _counter.uniform(keys, np.array([1, 2]), canvas // 2 - patch + 1)
    far = canvas - patch - near  # the mirror image
    x = np.stack([near[:, 0], far[:, 0], far[:, 0], near[:, 0]], axis=1)
    y = np.stack([near[:, 1], near[:, 1], far[:, 1], far[:, 1]], axis=1)
    return Layout(classes.pick(keys, label), x, y)


def _mnist10(keys: Words, classes: _Classes, canvas: int, patch: int) -> Layout:
    label = np.broadcast_to(np.arange(10), (len(keys), 10))
    apart, span = canvas * 24 // 128, canvas // 2 - patch + 1
    pair, upper, lower = (
        _apart(keys, block, count, apart, span) for block, count in ((1, 2), (2, 3), (3, 3))
    )
    offset = np.concatenate([pair, upper, lower, pair], axis=1)  # (N, 10, 2), by digit
    swap = _counter.uniform(keys, np.array([0, 1]), 2).astype(bool)[:, _DIAGONAL]  # (N, 10)
    x = offset[..., 0] + (_RIGHT ^ swap) * (canvas // 2)
    y = offset[..., 1] + (_LOWER ^ swap) * (canvas // 2)
    return Layout(classes.pick(keys, label), x, y)


def _apart(keys: Words, block: int, count: int, apart: int, span: int) -> Integers:
    """Offsets (N, count, 2), uniform below `span` given that every two are `apart` (Chebyshev distance).

    Attempt a of scene i is a function of (i, block, a), so the scenes still in play never disturb each other.
    """
    offset = np.empty((len(keys), count, 2), dtype=np.int64)
    left, attempt = np.arange(len(keys)), 0
    while len(left):
        numbers = (block << 32) + attempt * 2 * count + np.arange(2 * count)
        drawn = _counter.uniform(keys[left], numbers, span).reshape(-1, count, 2)
        clear = np.all(
            [
                np.abs(drawn[:, a] - drawn[:, b]).max(1) >= apart
                for a, b in combinations(range(count), 2)
            ],
            axis=0,
        )
        offset[left[clear]] = drawn[clear]
        left, attempt = left[~clear], attempt + 1
    return offset


class _Classes:
    """The glyphs of each class, to pick from uniformly."""

    def __init__(self, label: Integers) -> None:
        self.order = np.argsort(label, kind="stable")
        self.size = np.bincount(label, minlength=10)
        self.start = np.cumsum(self.size) - self.size

    def pick(self, keys: Words, label: Integers) -> Integers:
        """A glyph of each class in `label` (N, O), each an independent draw."""
        numbers = (4 << 32) + np.arange(label.shape[1])
        glyph: Integers = self.order[
            self.start[label] + _counter.uniform(keys, numbers, self.size[label])
        ]
        return glyph


@lru_cache(maxsize=16)
def _digest(scenes: Scenes, root: Path) -> str:
    options = {**dataclasses.asdict(scenes), "version": scenes.version}
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
    for name in SPLITS:
        glyphs = scenes.glyphs(name)
        digest.update(glyphs.patch.tobytes() + glyphs.label.astype("<i8").tobytes())
        digest.update(scenes.split(name).image[:64].tobytes())
    return digest.hexdigest()[:12]
