"""Single glyphs on a canvas of 50 x 50: the five data sets between which DooD transfers, and what stands in for them.

Liang, Tenenbaum, Le & Siddharth, "Drawing out of Distribution with Neuro-Symbolic Generative Models", NeurIPS 2022:
MNIST, EMNIST, KMNIST, QuickDraw and Omniglot, in grey, white on black, resized as torchvision resizes a picture
(Pillow, bilinear, antialiased), neither binarised nor augmented. Which images are in which split: `_glyph_files`.

`extent` says how much of a set there is. "whole": the published one. "part": of EMNIST, KMNIST and QuickDraw less, as
`_glyph_files` has it, named "partial" in every row that it touches; MNIST and Omniglot are whole all the same.
"embedded": nothing to fetch, another set that stands in: scikit-learn's digits for MNIST, the same transposed for
EMNIST (whose files are), and strokes that nobody drew (`_strokes`) for the others, fewer and thinner ones for Omniglot
and more for KMNIST. Axes: `N` images.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core import progress
from ..core.dataset import SPLITS, Dataset, DatasetInfo, Examples, Split
from ..core.errors import UsageError
from ..core.randomness import stream
from ..core.workspace import data_root
from . import _counter, _digits, _glyph_files, _strokes
from ._glyph_files import NAMES, PART, PART_TRAIN, Alphabets, Images, Pixels
from ._strokes import Style

__all__ = ["Glyphs"]

Source = Literal["mnist", "emnist", "kmnist", "quickdraw", "omniglot", "digits", "strokes"]
_ROTATED_AT = 120  # pixels: where the official script turns its images


class _Embedded(NamedTuple):
    """A set that needs no file. name, said: in run ids and in rows."""

    name: str
    said: str
    style: Style | None = None  # of strokes; None: scikit-learn's digits
    transposed: bool = False


_DIGITS = _Embedded("digits", _digits.STAND_IN["digits"])
_STROKES = _Embedded("strokes", "synthetic strokes", Style())
_EMBEDDED: dict[Source, _Embedded] = {
    "mnist": _DIGITS,
    "emnist": _Embedded("digits-transposed", f"{_DIGITS.said}, transposed", transposed=True),
    "kmnist": _Embedded("strokes-many", "synthetic strokes (3 to 6)", Style(3, 6)),
    "quickdraw": _STROKES,
    "omniglot": _Embedded("strokes-thin", "synthetic strokes (1 to 3, thin)", Style(1, 3, 0.02)),
    "digits": _DIGITS,
    "strokes": _STROKES,
}
_STROKE_COUNT: dict[Split, int] = {"train": 55_000, "valid": 5_000, "test": 10_000}
_EMBEDDED_COUNT: dict[Split, int] = {"train": 1_285, "valid": 256, "test": 256}  # as many as digits


@dataclass(frozen=True)
class Glyphs(Dataset):
    """Glyphs and their classes (of strokes: how many there are). source: which set; extent: how much of it, see above.

    "digits" and "strokes" are sets of their own, and need no file whatever `extent` is. canvas: pixels of a side.
    upright: turn EMNIST's letters, which its files hold transposed, the way they are read; the authors' code does not.
    alphabets: of Omniglot's training images, "small1" or "small2" are the published five alphabets instead of all 30.
    rotation: turn every image about its middle by an angle uniform on -rotation..rotation degrees, at 120 x 120 and by
    the nearest pixel, as the official FID script does (30) with real MNIST, EMNIST and KMNIST images.
    seed: names the randomness of strokes and rotations.
    """

    source: Source
    extent: Literal["whole", "part", "embedded"] = "whole"
    canvas: int = 50
    upright: bool = False
    alphabets: Alphabets = "all"
    rotation: int = 0
    seed: int = 0

    tiers: ClassVar = {"demo": {"extent": "embedded", "canvas": 28}, "mini": {"extent": "part"}}

    def __post_init__(self) -> None:
        if not 8 <= self.canvas <= 512:
            raise UsageError(f"dataset.canvas={self.canvas}; expected 8 to 512 pixels")
        if not 0 <= self.rotation <= 180:
            raise UsageError(f"dataset.rotation={self.rotation}; expected 0 to 180 degrees")
        if self.upright and self.source != "emnist":
            raise UsageError(
                f"dataset.upright=True goes with source='emnist'; {self.source}'s images are upright anyway"
            )
        if self.alphabets != "all" and self.source != "omniglot":
            raise UsageError(
                f"dataset.alphabets={self.alphabets!r} goes with source='omniglot', not {self.source!r}"
            )

    @property
    def info(self) -> DatasetInfo:
        """Named after what the images are, so that nobody takes a part, or what stands in, for the whole."""
        shape = (1, self.canvas, self.canvas)
        if (embedded := self._embedded) is not None:
            said = "" if self.source == "strokes" and self.extent != "embedded" else embedded.said
            name = embedded.name.removesuffix("-transposed" if self.upright else "")
            return DatasetInfo(name, shape, stand_in=said)
        name = self.source if self.alphabets == "all" else f"{self.source}-{self.alphabets}"
        if not self._partial:
            return DatasetInfo(name, shape)
        said, of_train = (known.get(self._file, "") for known in (PART, PART_TRAIN))
        return DatasetInfo(f"{name}-part", shape, stand_in=said, stand_in_train=of_train)

    @property
    def names(self) -> tuple[str, ...]:
        """What the labels stand for. Raises DataError where Omniglot's files, which say it, are not there."""
        if (embedded := self._embedded) is not None:
            classes = 10 if embedded.style is None else embedded.style.most + 1
            return tuple(str(number) for number in range(classes))
        return _glyph_files.names(self._file, part=self._partial)

    @property
    def digest(self) -> str:
        """Of every label and image as its file holds it, split by split, of the options, and of the first 64 images."""
        return _digest(self, data_root())

    def split(self, name: Split) -> Examples:
        """The images of one split. Raises DataError where the files are not there."""
        image, label = _on_canvas(self, name, data_root())
        return Examples(image[:, None], label)

    @property
    def _embedded(self) -> _Embedded | None:
        """What needs no file, if that is what was asked for."""
        asked = self.extent == "embedded" or self.source not in NAMES
        return _EMBEDDED[self.source] if asked else None

    @property
    def _file(self) -> _glyph_files.Name:
        assert self.source in NAMES
        return self.source

    @property
    def _partial(self) -> bool:
        return self.extent == "part" and (self._file in PART or self._file in PART_TRAIN)


def framed_digits(name: Split) -> Images:
    """scikit-learn's digits, which fill their 8 x 8 pixels, with about the margins of MNIST's: 12 x 12."""
    image, label = _digits.digits("digits", name)
    return Images(np.pad(image, ((0, 0), (2, 2), (2, 2))), label)


def resized(image: Pixels, side: int) -> Pixels:
    """Each of (N, S, S) as a picture of side x side: what torchvision's Resize makes of it."""
    small = np.empty((len(image), side, side), np.uint8)
    for index, picture in enumerate(progress.track(image, f"resize to {side} x {side}")):
        small[index] = np.asarray(
            Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
        )
    return small


def rotated(image: Pixels, degrees: NDArray[np.float64]) -> Pixels:
    """Each of (N, S, S) turned about its middle, anticlockwise; black where nothing was. What torchvision does."""
    turned = np.empty_like(image)
    pairs = zip(image, degrees, strict=True)
    for index, (picture, angle) in enumerate(progress.track(pairs, "rotate", len(image))):
        turned[index] = np.asarray(
            Image.fromarray(picture).rotate(float(angle), Image.Resampling.NEAREST, fillcolor=0)
        )
    return turned


def _native(data: Glyphs, name: Split) -> Images:
    """The images of one split as they are before they are resized; strokes have no size of their own."""
    embedded = data._embedded
    if embedded is None:
        found = _glyph_files.images(data._file, name, part=data._partial, alphabets=data.alphabets)
        transposed = data.upright
    elif embedded.style is None:
        found = framed_digits(name)
        transposed = embedded.transposed and not data.upright
    else:
        counts = _EMBEDDED_COUNT if data.extent == "embedded" else _STROKE_COUNT
        seed = stream("strokes", data.seed, name)
        return Images(*_strokes.draw(seed, counts[name], data.canvas, embedded.style))
    return Images(found.image.transpose(0, 2, 1), found.label) if transposed else found


def _placed(data: Glyphs, name: Split, image: Pixels) -> Pixels:
    """The first images of a split on the canvas: (N, canvas, canvas)."""
    if data.rotation:
        keys = _counter.keys(stream("rotation", data.seed, name), np.arange(len(image)))
        share = _counter.uniform(keys, np.array([0]), 1 << 32)[:, 0] / 2**32
        image = rotated(resized(image, _ROTATED_AT), data.rotation * (2 * share - 1))
    return image if image.shape[1] == data.canvas else resized(image, data.canvas)


@lru_cache(maxsize=8)
def _on_canvas(data: Glyphs, name: Split, root: Path) -> Images:
    image, label = _native(data, name)
    found = Images(np.array(_placed(data, name, image)), np.array(label))
    for array in found:
        array.flags.writeable = False  # shared by all who ask
    return found


@lru_cache(maxsize=16)
def _digest(data: Glyphs, root: Path) -> str:
    options = {**dataclasses.asdict(data), "version": data.version}
    digest = hashlib.sha256(repr(sorted(options.items())).encode())
    for name in SPLITS:
        image, label = _native(data, name)
        digest.update(np.ascontiguousarray(image).tobytes() + label.astype("<i8").tobytes())
        digest.update(_placed(data, name, image[:64]).tobytes())
    return digest.hexdigest()[:12]
