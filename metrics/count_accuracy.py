"""Count accuracy: in how many images does a model take as many steps as there are objects?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Attends
from ._attention import counts_of, read
from ._evaluation import test_split
from ._objects import truth

__all__ = ["CountAccuracy"]


@dataclass(frozen=True)
class CountAccuracy(Metric):
    """presence: steps drawn from the posterior, or those more probable than not, up to the first that is not.

    images: measure on at most this many test images; None for all of them.
    """

    better = "higher"
    requires = (Attends,)
    tiers: ClassVar = {"demo": {"images": 100}}

    presence: Literal["sampled", "mode"] = "sampled"
    images: int | None = None

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise UsageError(f"count_accuracy needs images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """Whether steps are drawn."""
        return f"presence={self.presence}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """The share of images with the right number. Arrays, per image: value, found, there.

        confusion (C + 1, T + 1) int64: images by how many objects are there and how many steps are taken.
        Raises UsageError where the data do not say what is there.
        """
        test, index = test_split(data, self.images)
        there = counts_of(truth(test, data, "count_accuracy"), index)
        sample = self.presence == "sampled"
        parts = [
            found.present.numpy() > 0.5
            for _, found in read(model, test, index, "count accuracy", sample)
        ]
        present = np.concatenate(parts)  # (N, T)
        found = present.sum(1)
        confusion = np.zeros(
            (max(data.info.objects, int(there.max())) + 1, present.shape[1] + 1), np.int64
        )
        np.add.at(confusion, (there, found), 1)
        right = (found == there).astype(np.float64)
        return Measurement.mean(right, found=found, there=there, confusion=confusion)
