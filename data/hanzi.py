"""Composed characters: 50 Chinese characters of two parts each, drawn from a font's strokes as if by hand, 64 x 64.

They stand in for the 50 characters of CASIA-HWDB1.1 in Min, Su, Zhu & Zhang, "Discrete Memory Addressing Variational
Autoencoder for Visual Concept Learning", IJCNN 2020 (`casia`), for everyone without that licence; they are never the
published set. The paper names neither its characters nor its image size: `_hanzi_strokes` has which characters there
are and where their strokes come from, `_hanzi_render` how an image is drawn. 300 images of each character, of which a
tenth is test as in the paper, chosen at random (how is not stated there) or by writer. What they look like:
reports/hanzi.md.

Image k of a character is a function of (seed, character, k). All are drawn once, into the cache folder, by whoever
needs them first. Axes: `N` images, `O` = 2 parts.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core import progress
from ..core.dataset import SPLITS, Dataset, DatasetInfo, Examples, Objects, Split
from ..core.errors import DataError, UsageError
from ..core.files import writing
from ..core.randomness import stream
from ..core.workspace import cache_folder, data_root
from . import _counter, _hanzi_render
from ._counter import Integers
from ._hanzi_strokes import PARTS, Part, Strokes, characters

__all__ = ["Hanzi"]

SIDE = 64
_TOGETHER = 30  # images that are drawn at once: their fine pixels fit in a processor's cache
_VERY_FEW = 20


class Drawn(NamedTuple):
    """All images in the order of the characters. image: (N, 1, S, S). owner: (N, S, S). box: (N, O, 4). label: (N,)."""

    image: NDArray[np.uint8]
    owner: NDArray[np.uint8]
    box: NDArray[np.int64]
    label: Integers


@dataclass(frozen=True)
class Hanzi(Dataset):
    """Composed characters. strokes: "makemeahanzi" (50 of them; `reprise data fetch hanzi`) or "typed" (15; no file).

    per_class: images of each character. held_out: "random" makes test of a tenth of all images, each with a writer of
    its own; "writer" has as many writers as images of a character, who write each character once, and makes test of a
    tenth of them. Of what is left valid is as much as a twentieth of all. seed: names all randomness.
    `Examples.label` is the place of the character in `names`; `objects` are its two parts, each with its place in
    `part_names` and the tight box of its ink, first the part that is written first; `owner` is the part by pixel, 255
    where ink is paler than 1/16.
    """

    strokes: Strokes = "makemeahanzi"
    per_class: int = 300
    held_out: Literal["random", "writer"] = "random"
    seed: int = 0

    tiers: ClassVar = {"demo": {"strokes": "typed", "per_class": 60}}

    def __post_init__(self) -> None:
        if self.per_class < _VERY_FEW:
            raise UsageError(
                f"dataset.per_class={self.per_class} is too few to split; expected at least {_VERY_FEW}"
            )

    @property
    def info(self) -> DatasetInfo:
        """`hanzi`, or `hanzi-typed`; both stand in for CASIA's characters."""
        shape = (1, SIDE, SIDE)
        if self.strokes == "typed":
            return DatasetInfo(
                "hanzi-typed", shape, objects=2, stand_in="composed characters (typed)"
            )
        return DatasetInfo("hanzi", shape, objects=2, stand_in="composed characters")

    @property
    def names(self) -> tuple[str, ...]:
        """The characters, in the order of `Examples.label`. Raises DataError where their strokes are not there."""
        return tuple(characters(self.strokes))

    @property
    def part_names(self) -> tuple[str, ...]:
        """All parts, in the order of `Objects.label`."""
        return tuple(PARTS)

    @property
    def digest(self) -> str:
        """Of every image, its label, its owners and its boxes, split by split."""
        digest = hashlib.sha256()
        for name in SPLITS:
            digest.update(bytes.fromhex(self.split_digest(name)))
        return digest.hexdigest()[:12]

    def split_digest(self, name: Split) -> str:
        """SHA-256 of one split; hexadecimal."""
        return _split_digest(self, name, cache_folder(), data_root())

    def split(self, name: Split) -> Examples:
        """The images of one split, in an order of its own; drawn now where they are not there yet."""
        drawn, rows = _drawn(self, cache_folder(), data_root()), self.rows(name)
        label = drawn.label[rows]
        parts = [[list(PARTS).index(part.name) for part in two] for two in self._parts()]
        objects = Objects(np.array(parts)[label], drawn.box[rows].astype(np.float32))
        return Examples(drawn.image[rows], label, objects, drawn.owner[rows])

    def rows(self, name: Split) -> Integers:
        """Which of all images, in the order of the characters, are in one split, shuffled."""
        count = len(self.names) * self.per_class
        order = _counter.shuffled(stream("hanzi", self.seed), count)
        if self.held_out == "random":
            place = np.argsort(order)  # where in the order each image is
        else:
            writers = _counter.shuffled(stream("hanzi", self.seed, "held out"), self.per_class)
            place, count = np.tile(np.argsort(writers), len(self.names)), self.per_class
        test, valid = count // 10, count // 10 + count // 20
        low, high = {"test": (0, test), "valid": (test, valid)}.get(name, (valid, count))
        chosen: Integers = order[((place >= low) & (place < high))[order]]
        return chosen

    def prepare(self, name: Split, workers: int = 0) -> None:
        """Draw the images that are not there, of all splits alike, in this process whatever `workers` is."""
        _drawn(self, cache_folder(), data_root())

    def _parts(self) -> list[tuple[Part, Part]]:
        return list(characters(self.strokes).values())

    def _folder(self) -> Path:
        hands = "" if self.held_out == "random" else "-writers"
        options = f"v{self.version}-{self.strokes}-s{self.seed}-{self.per_class}{hands}"
        return cache_folder() / "hanzi" / options


@lru_cache(maxsize=2)
def _drawn(data: Hanzi, cache: Path, root: Path) -> Drawn:
    parts = []
    for label, character in enumerate(
        progress.track(data.names, f"draw composed characters ({data.strokes})")
    ):
        path = data._folder() / f"{label:02d}.npz"
        if not path.exists():
            drawn = _of_one(data, character)
            with writing(path) as file:
                np.savez_compressed(file, **drawn._asdict())
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                parts.append([arrays[name] for name in ("image", "owner", "box")])
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} cannot be read: {error}; remove it, and its images are drawn again"
            ) from error
    image, owner, box = (np.concatenate(field) for field in zip(*parts, strict=True))
    label_of = np.repeat(np.arange(len(parts)), data.per_class)
    for array in (image, owner, box, label_of):
        array.flags.writeable = False  # shared by all who ask
    return Drawn(image[:, None], owner, box, label_of)


def _of_one(data: Hanzi, character: str) -> _hanzi_render.Drawn:
    """All images of one character."""
    number = np.arange(data.per_class)
    keys = _counter.keys(stream("hanzi", data.seed, character), number)
    own = (character,) if data.held_out == "random" else ()
    hand = _hanzi_render.hands(_counter.keys(stream("hanzi", data.seed, "hand", *own), number))
    two = characters(data.strokes)[character]
    pieces = [slice(start, start + _TOGETHER) for start in range(0, len(number), _TOGETHER)]
    drawn = [_hanzi_render.draw(two, keys[piece], hand.rows(piece), SIDE) for piece in pieces]
    return _hanzi_render.Drawn(*(np.concatenate(field) for field in zip(*drawn, strict=True)))


@lru_cache(maxsize=16)
def _split_digest(data: Hanzi, name: Split, cache: Path, root: Path) -> str:
    drawn, rows = _drawn(data, cache, root), data.rows(name)
    digest = hashlib.sha256(" ".join((*data.names, *data.part_names)).encode())
    for array in (drawn.image, drawn.owner, drawn.box.astype("<i8"), drawn.label.astype("<i8")):
        digest.update(array[rows].tobytes())
    return digest.hexdigest()
