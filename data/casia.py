"""CASIA: handwritten Chinese characters of HWDB1.1, from the .gnt files of a user who has its licence; 64 x 64.

Liu, Yin, Wang & Wang, "CASIA Online and Offline Chinese Handwriting Databases", ICDAR 2011: 300 writers, one file each,
about 300 samples of each of 3,755 characters. The files need a signed licence (from the Institute of Automation of the
Chinese Academy of Sciences), cannot be fetched, and nothing of them is kept in this repository. They are read from
`casia/HWDB1.1/` below the data root, wherever in it they lie: `HWDB1.1trn_gnt/1001-c.gnt` and so on.

Min, Su, Zhu & Zhang (IJCNN 2020) take 50 characters that share about 30 parts, 300 samples of each, a tenth for test;
they name neither the characters, nor the size of an image, nor what they do to grey levels. Here the characters are
those of `_hanzi_strokes`, and a sample is inverted, put into a square with a margin of 6 %, and brought to 64 x 64 by
averaging areas. `hanzi` is what stands in for these images. Axes: `N` images.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core import progress
from ..core.dataset import SPLITS, Dataset, DatasetInfo, Examples, Split
from ..core.errors import DataError, UsageError
from ..core.randomness import stream
from ..core.workspace import data_root
from . import _counter, _gnt, _registry
from ._counter import Integers
from ._hanzi_strokes import COMPOSED

__all__ = ["CASIA"]

SIDE = 64
FOLDER = Path("casia") / "HWDB1.1"
_MARGIN = 0.06


class Samples(NamedTuple):
    """All samples in the order of the characters, then of the writers.

    image: (N, 1, S, S). label: (N,). writer: (N,), the place of the file among all files.
    """

    image: NDArray[np.uint8]
    label: Integers
    writer: Integers


@dataclass(frozen=True)
class CASIA(Dataset):
    """50 characters of HWDB1.1. per_class: samples of each at most (the set has fewer of some), by file name.

    held_out: "random" makes test of a tenth of all samples, as the paper; "writer" of the samples of a fifth of the
    writers, as is usual for this set (240 and 60). Of what is left valid is a twentieth of all samples, or of all
    writers. contrast: "raw" keeps the grey levels, "max" makes each image's darkest ink black. seed: names all
    randomness. `Examples.label` is the place of the character in `names`. Nobody has marked the parts: no objects.
    """

    per_class: int = 300
    held_out: Literal["random", "writer"] = "random"
    contrast: Literal["raw", "max"] = "raw"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise UsageError(
                f"dataset.per_class={self.per_class} is too few; expected at least 1 sample"
            )

    @property
    def info(self) -> DatasetInfo:
        """Which 50 characters the paper took is not known, so these may be others: named in every row."""
        return DatasetInfo(
            "casia", (1, SIDE, SIDE), objects=2, stand_in="50 characters of our choice"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The characters, in the order of `Examples.label`."""
        return tuple(COMPOSED)

    @property
    def digest(self) -> str:
        """Of every image and label, split by split."""
        return _digest(self, data_root())

    def split(self, name: Split) -> Examples:
        """The samples of one split, in an order of its own. Raises DataError without whole files."""
        samples, rows = _samples(self.per_class, self.contrast, data_root()), self.rows(name)
        return Examples(samples.image[rows], samples.label[rows])

    def rows(self, name: Split) -> Integers:
        """Which of all samples are in one split, shuffled."""
        samples = _samples(self.per_class, self.contrast, data_root())
        order = _counter.shuffled(stream("casia", self.seed), len(samples.label))
        if self.held_out == "random":
            count, tenths = len(order), 1
            place = np.argsort(order)
        else:
            known, writer = np.unique(samples.writer, return_inverse=True)
            count, tenths = len(known), 2
            shuffled = _counter.shuffled(stream("casia", self.seed, "writers"), count)
            place = np.argsort(shuffled)[writer]
        test = count * tenths // 10
        valid = test + count // 20
        low, high = {"test": (0, test), "valid": (test, valid)}.get(name, (valid, count))
        chosen: Integers = order[((place >= low) & (place < high))[order]]
        return chosen


def files(root: Path) -> list[Path]:
    """The .gnt files of HWDB1.1 below the data root, by name. Raises DataError where there is none."""
    found = sorted((root / FOLDER).rglob("*.gnt"), key=lambda path: (path.name, path))
    if not found:
        raise _registry.by_hand("casia")
    return found


def prepared(
    pixels: NDArray[np.uint8], contrast: Literal["raw", "max"] = "raw"
) -> NDArray[np.uint8]:
    """A sample (h, w), 255 for paper, as an image (S, S) of ink on 0: square, with a margin, averaged down or up."""
    ink = (255 - pixels.astype(np.float64)) / 255
    if contrast == "max" and ink.any():
        ink /= ink.max()
    height, width = ink.shape
    # The larger side takes what the margins leave; pixels are averaged over the area that each of ours covers.
    square = max(height, width) / (1 - 2 * _MARGIN)
    rows = _areas(height, (square - height) / 2, square)  # (S, h)
    columns = _areas(width, (square - width) / 2, square)  # (S, w)
    image: NDArray[np.uint8] = np.clip(np.rint(rows @ ink @ columns.T * 255), 0, 255).astype(
        np.uint8
    )
    return image


def _areas(length: int, before: float, square: float) -> NDArray[np.float64]:
    """(S, length): which share of each of our pixels each of a sample's covers, after a margin of `before` of them."""
    edge = np.arange(SIDE + 1) * square / SIDE - before  # of our pixels, in the sample's
    start, end = edge[:-1, None], edge[1:, None]
    pixel = np.arange(length)
    shared: NDArray[np.float64] = np.minimum(end, pixel + 1) - np.maximum(start, pixel)
    return np.maximum(shared, 0) * SIDE / square


@lru_cache(maxsize=2)
def _samples(per_class: int, contrast: Literal["raw", "max"], root: Path) -> Samples:
    chosen: dict[str, list[tuple[int, _gnt.Record]]] = {character: [] for character in COMPOSED}
    for writer, path in enumerate(progress.track(files(root), "index CASIA-HWDB1.1")):
        for record in _gnt.index(path, chosen):
            if len(chosen[record.character]) < per_class:
                chosen[record.character].append((writer, record))
    missing = [character for character, records in chosen.items() if not records]
    if missing:
        raise DataError(
            f"the files in {root / FOLDER} hold no sample of {''.join(missing)}; "
            "expected HWDB1.1, which has about 300 of each"
        )
    images, labels, writers = [], [], []
    for label, records in enumerate(progress.track(chosen.values(), "read CASIA-HWDB1.1")):
        for writer, record in records:
            images.append(prepared(record.pixels(), contrast))
            labels.append(label)
            writers.append(writer)
    samples = Samples(np.stack(images)[:, None], np.array(labels), np.array(writers))
    for array in samples:
        array.flags.writeable = False  # shared by all who ask
    return samples


@lru_cache(maxsize=4)
def _digest(data: CASIA, root: Path) -> str:
    digest = hashlib.sha256()
    for name in SPLITS:
        examples = data.split(name)
        assert examples.label is not None
        digest.update(examples.image[:].tobytes() + examples.label.astype("<i8").tobytes())
    return digest.hexdigest()[:12]
