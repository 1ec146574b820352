"""Foreground ARI: are the pixels of one object explained by one step, and those of two objects by two?

The adjusted Rand index (Hubert & Arabie 1985) of two groupings of an image's inked pixels: by the object whose ink it
is, and by the step that paints most there. 1 for the same grouping, 0 on average for one by chance. Of images with two
objects or more, since one object cannot be confused with another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset
from ..core.errors import NothingToMeasure, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Attends
from ._attention import counts_of, read
from ._evaluation import test_split
from ._objects import truth

__all__ = ["ForegroundARI"]

INK = 0.1
NOBODY = 255


@dataclass(frozen=True)
class ForegroundARI(Metric):
    """images: measure on at most this many test images; None for all of them."""

    better = "higher"
    requires = (Attends,)
    tiers: ClassVar = {"demo": {"images": 100}}

    images: int | None = None

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise UsageError(f"foreground_ari needs images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """Which pixels, of which images, by which steps."""
        return f"pixels_above={INK} objects_from=2 steps=mode"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Mean over images. Arrays: value, per image; image, their indices in the test split.

        Raises UsageError where the data do not say whose a pixel is; NothingToMeasure where no image has two objects.
        """
        test, index = test_split(data, self.images)
        counts = counts_of(truth(test, data, "foreground_ari"), index)
        if test.owner is None:
            raise UsageError(
                f"foreground_ari needs a dataset that says whose a pixel is; {data.info.name} does not"
            )
        index = index[counts >= 2]
        if not len(index):
            raise NothingToMeasure(f"no image of {data.info.name} has two objects")
        values = []
        for part, found in read(model, test, index, "foreground ARI", sample=False):
            image, owner = test.image[part].max(1) / 255, test.owner[part]
            painted = found.layer.numpy().max(2)  # (B, T, H, W)
            for x, true, layer in zip(image, owner, painted, strict=True):
                seen = (x > INK) & (true != NOBODY)
                values.append(rand_index(true[seen], by_step(layer)[seen]))
        return Measurement.mean(np.array(values), image=index)


def by_step(layer: NDArray[np.float32]) -> NDArray[np.int64]:
    """(T, H, W) -> (H, W): the step that paints most, T where none paints."""
    steps: NDArray[np.int64] = np.where(layer.max(0) > 0, layer.argmax(0), len(layer))
    return steps


def rand_index(true: NDArray[Any], found: NDArray[Any]) -> float:
    """scikit-learn's adjusted Rand index of two groupings of pixels (P,)."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(true, found))
