"""One-shot classification: twenty episodes in which every class was seen once.

Lake, Salakhutdinov & Tenenbaum, Science 2015: the twenty runs that come with Omniglot, each of 20 characters of one
alphabet, one drawing of each to learn from (support) and one, by somebody else, to classify (query). The runs were
fixed by their authors; nothing is drawn at random here. Where there is nothing to fetch, episodes made of
scikit-learn's digits stand in: ten classes, and for each two different ones of the test digits.

Axes: `E` = 20 episodes, `W` ways (classes of an episode).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset, DatasetInfo, Examples, Split
from ..core.errors import DataError, UsageError
from ..core.randomness import stream
from ..core.workspace import data_root
from . import _counter, _digits, _omniglot
from ._glyph_files import Images
from .glyphs import framed_digits, resized

__all__ = ["OneShot"]

SIDE = _omniglot.SIDE


class _Episodes(NamedTuple):
    """image: (E * 2 W, S, S) uint8, white on black. label: (E * 2 W,). raw: (E * 2 W, 105, 105) bool."""

    image: NDArray[np.uint8]
    label: NDArray[np.int64]
    raw: NDArray[np.bool_]


@dataclass(frozen=True)
class OneShot(Dataset):
    """Only the test split: episode after episode, its W supports and then its W queries, (E * 2 W, 1, canvas, canvas).

    label: the class 0..W - 1 within its episode; support i has label i. Of Omniglot E = W = 20: 800 images.
    `raw()` has the same drawings in the same order, 105 x 105 and binary.
    source: "omniglot", or "digits" for scikit-learn's. canvas: pixels of a side, resized as in `glyphs`.
    """

    source: Literal["omniglot", "digits"] = "omniglot"
    canvas: int = 50

    episodes: ClassVar[int] = _omniglot.RUNS
    tiers: ClassVar = {"demo": {"source": "digits", "canvas": 28}}

    def __post_init__(self) -> None:
        if not 8 <= self.canvas <= 512:
            raise UsageError(f"dataset.canvas={self.canvas}; expected 8 to 512 pixels")

    @property
    def ways(self) -> int:
        """How many classes an episode has."""
        return _omniglot.WAYS if self.source == "omniglot" else 10

    @property
    def info(self) -> DatasetInfo:
        """`one-shot`, or `one-shot-digits`."""
        shape = (1, self.canvas, self.canvas)
        if self.source == "omniglot":
            return DatasetInfo("one-shot", shape)
        said = f"episodes of {_digits.STAND_IN['digits']}"
        return DatasetInfo("one-shot-digits", shape, stand_in=said)

    @property
    def digest(self) -> str:
        """Of every image, label and raw drawing."""
        digest = hashlib.sha256()
        for array in _episodes(self, data_root()):
            digest.update(array.tobytes())
        return digest.hexdigest()[:12]

    def split(self, name: Split) -> Examples:
        """The episodes. Raises DataError for any split but "test", and where the files are not there."""
        if name != "test":
            raise DataError(
                f"one_shot has no {name} split: it is only measured on; "
                "train on dataset glyphs, source=omniglot, whose training images are the background set"
            )
        episodes = _episodes(self, data_root())
        return Examples(episodes.image[:, None], episodes.label)

    def raw(self) -> NDArray[np.bool_]:
        """(E * 2 W, 105, 105), True where there is ink: the drawings before they were resized, in the split's order."""
        return _episodes(self, data_root()).raw


@lru_cache(maxsize=4)
def _episodes(data: OneShot, root: Path) -> _Episodes:
    if data.source == "omniglot":
        packed, label = _omniglot.runs()
        raw = _omniglot.ink(packed)
        made = _Episodes(resized(raw.view(np.uint8) * np.uint8(255), data.canvas), label, raw)
    else:
        image, label = _of_digits(data.episodes)
        large = resized(image, SIDE)
        made = _Episodes(resized(image, data.canvas), label, large >= 128)
    for array in made:
        array.flags.writeable = False  # shared by all who ask
    return made


def _of_digits(episodes: int) -> Images:
    """(E * 20, 12, 12): of every class two test digits, the first to learn from."""
    image, label = framed_digits("test")
    classes = [np.flatnonzero(label == digit) for digit in range(10)]
    rows, labels = [], []
    for episode in range(episodes):
        pairs = np.stack(
            [
                which[_counter.shuffled(stream("one shot", episode, digit), len(which))[:2]]
                for digit, which in enumerate(classes)
            ]
        )  # (10, 2)
        order = _counter.shuffled(stream("one shot", episode, "queries"), 10)
        rows += [*pairs[:, 0], *pairs[order, 1]]
        labels += [*range(10), *order]
    return Images(image[np.array(rows)], np.array(labels, dtype=np.int64))
