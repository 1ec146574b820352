"""Single handwritten digits: MNIST (28 x 28), or at the demo tier the ones embedded in scikit-learn (8 x 8).

LeCun, Cortes & Burges, "The MNIST database of handwritten digits", 1998. Train: the first 55,000 training digits;
valid: the last 5,000; test: the 10,000 test digits, all in file order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from ..core.dataset import SPLITS, Dataset, DatasetInfo, Examples, Split
from ..core.workspace import data_root
from ._digits import SIDE, STAND_IN, Source, digits

__all__ = ["MNIST"]


@dataclass(frozen=True)
class MNIST(Dataset):
    """Digits and their classes 0..9. source: "mnist", or "digits" for scikit-learn's."""

    source: Source = "mnist"

    tiers: ClassVar = {"demo": {"source": "digits"}}

    @property
    def info(self) -> DatasetInfo:
        """Named after the source, so that nobody takes one for the other."""
        side = SIDE[self.source]
        return DatasetInfo(self.source, (1, side, side), stand_in=STAND_IN[self.source])

    def split(self, name: Split) -> Examples:
        """The digits of one split, in file order."""
        image, label = digits(self.source, name)
        return Examples(image[:, None], label)

    @property
    def digest(self) -> str:
        """Of all images and labels, split by split."""
        return _digest(self.source, data_root())


@lru_cache(maxsize=2)
def _digest(source: Source, root: Path) -> str:
    digest = hashlib.sha256()
    for name in SPLITS:
        image, label = digits(source, name)
        digest.update(image.tobytes() + label.astype("<i8").tobytes())
    return digest.hexdigest()[:12]
