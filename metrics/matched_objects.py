"""Matched objects: what share of the objects that a model sees is near one that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import NothingToMeasure, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Locates
from ._evaluation import test_split
from ._objects import PRESENT, located, truth
from .what_classification import nearest_objects, within_pixels

__all__ = ["MatchedObjects"]


@dataclass(frozen=True)
class MatchedObjects(Metric):
    """within: pixels, on an image of 128, between centres. images: at most this many of the test split; None for all.

    The rest is what `what_classification` discards.
    """

    better = "higher"
    requires = (Locates,)
    tiers: ClassVar = {"demo": {"images": 100}, "mini": {"images": 1_000}}

    within: float = 10.0
    images: int | None = None

    def __post_init__(self) -> None:
        if self.within <= 0 or (self.images or 1) < 1:
            raise UsageError(f"matched_objects needs positive counts and distances; got {self}")

    @property
    def dialect(self) -> str:
        """From which presence on an object is seen, and what is near."""
        return f"presence={PRESENT} within={self.within:g}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Share of all objects seen. Arrays: value (M,); distance (M,), of each to the nearest true centre.

        Raises UsageError where the data have no objects, NothingToMeasure where the model sees none.
        """
        test, index = test_split(data, self.images)
        objects = truth(test, data, "matched_objects")
        seen = located(model, test, index, "matched objects")
        _, distance = nearest_objects(seen.box, objects.box[index], objects.label[index])
        distance = distance[seen.presence > PRESENT]
        if not len(distance):
            raise NothingToMeasure(f"{type(model).__name__} sees no object in {len(index)} images")
        near = distance <= within_pixels(self.within, data)
        return Measurement.mean(near.astype(np.float64), distance=distance)
