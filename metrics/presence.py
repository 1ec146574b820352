"""Presence: how many objects a model sees, beside how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Locates
from ..core.progress import track
from ._evaluation import BATCH, as_floats, chunks, test_split
from ._objects import location

__all__ = ["Presence"]


@dataclass(frozen=True)
class Presence(Metric):
    """count: objects the model has found, objects that are there, or the share of images with the right number.

    images: measure on at most this many test images; None for all of them.
    """

    better = "neither"
    requires = (Locates,)
    tiers: ClassVar = {"demo": {"images": 64}, "mini": {"images": 512}}

    count: Literal["found", "there", "right"] = "found"
    images: int | None = None

    @property
    def dialect(self) -> str:
        """An object is present from a probability of one half on."""
        return f"count={self.count} threshold=0.5"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Mean over images. Arrays, per image: value, found, there. Raises UsageError where the data has no objects."""
        test, index = test_split(data, self.images)
        if test.objects is None:
            raise UsageError(
                f"presence needs a dataset that says what objects are there; {data.info.name} does not"
            )
        found = np.concatenate(
            [
                (location(model, as_floats(test.image[part], model.device)).presence > 0.5)
                .sum(1)
                .cpu()
                .numpy()
                for part in track(chunks(index, BATCH), "presence")
            ]
        )
        there = (test.objects.label[index] >= 0).sum(1)
        values = {"found": found, "there": there, "right": found == there}[self.count]
        return Measurement.mean(values.astype(np.float64), found=found, there=there)
