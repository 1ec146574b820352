"""Detections: the boxes that a model infers, drawn on the images beside the true ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.dataset import Dataset
from ..core.detection import Detections as Boxes
from ..core.detection import hits
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Locates
from ._evaluation import test_split
from ._objects import PRESENT, located, truth
from .reconstructions import as_rgb, with_boxes

__all__ = ["Detections"]

TRUE = (64, 160, 255)


@dataclass(frozen=True)
class Detections(Metric):
    """images: of the test split, drawn."""

    better = "higher"
    requires = (Locates,)

    images: int = 50

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UsageError(f"detections needs images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """When an object is seen, and when it is hit."""
        return f"iou=0.5 presence={PRESENT}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Share of an image's true objects that are hit (IoU above 0.5), mean over images.

        Arrays: inputs (N, C, H, W) uint8; overlay (N, 3, H, W) uint8, the image with a blue outline around every
        true object and, over it, a red one around every object seen; box (N, O, 4), presence (N, O); value, per image.
        Raises UsageError where the data have no objects.
        """
        test, index = test_split(data, self.images)
        objects = truth(test, data, "detections")
        seen = located(model, test, index, "detections")
        present, there = seen.presence > PRESENT, objects.label[index] >= 0
        true = objects.box[index]
        inputs = test.image[index]
        overlay = with_boxes(as_rgb(inputs), true, there, TRUE)
        overlay = with_boxes(overlay, seen.box, present)
        images = (
            Boxes(box[shown], confidence[shown], boxes[real].astype(np.float64))
            for box, confidence, shown, boxes, real in zip(
                seen.box, seen.presence, present, true, there, strict=True
            )
        )
        found = [hits(image, np.array([0.5])).sum() / max(1, len(image.true)) for image in images]
        return Measurement.mean(
            np.array(found, dtype=np.float64),
            inputs=inputs, overlay=overlay, box=seen.box, presence=seen.presence,
        )  # fmt: skip
