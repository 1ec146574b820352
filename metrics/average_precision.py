"""Average precision (AP): do the boxes that a model infers without supervision sit on the objects that are there?

Two rules of the same name, which give two numbers. Predictions are a model's boxes with presence above one half, its
presence their confidence; the truth is the tight box of each object's visible pixels.

"11-point" is the rule of SPACE's released code (after PASCAL VOC 2007), which fits the published numbers. Within an
image, in order of confidence, a prediction belongs to the true box that it overlaps most, and is a hit if their
intersection over union exceeds the threshold and no earlier prediction hit that box. All images are pooled; precision
at recall r is the best one reached at any recall >= r; AP is its mean over r = 0, 0.1, ..., 1.

Its ceiling. Unless *every* object of *every* image is hit, recall never reaches 1, the eleventh precision is 0 and AP
is at most 10/11 = 0.909. The published 0.905 and 0.906 are therefore nearly perfect detection, not one miss in ten.

"101-point" is COCO's, by COCO's own code (pycocotools): a prediction may take its second-best box where the best is
taken, a hit needs IoU >= threshold, and the mean is over r = 0, 0.01, ..., 1. Among equal confidences it stops after
every single prediction, so that where presences saturate AP depends on the order of the images, which is the data's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..core.dataset import Dataset
from ..core.detection import Detections, average_precision, thresholds
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Locates
from ._evaluation import test_split
from ._objects import PRESENT, located, truth

__all__ = ["AveragePrecision"]


@dataclass(frozen=True)
class AveragePrecision(Metric):
    """iou: one threshold, or the mean of the APs at 0.5, 0.55, ..., 0.95. interpolation: see the module.

    images: measure on at most this many test images; None for all of them.
    """

    better = "higher"
    reduction = "average_precision(box)"
    requires = (Locates,)
    tiers: ClassVar = {"demo": {"images": 100}, "mini": {"images": 1_000}}

    iou: Literal["0.5", "0.5:0.95"] = "0.5:0.95"
    interpolation: Literal["11-point", "101-point"] = "11-point"
    images: int | None = None

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise UsageError(f"average_precision needs images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """The rule, the thresholds, which predictions count and which boxes are true."""
        return f"boxes=tight interpolation={self.interpolation} iou={self.iou} presence={PRESENT}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """The mean over thresholds; n is the number of images.

        Arrays: threshold (T,); ap (T,); precision (T, 11 or 101), interpolated; recall (T,), of all predictions. What
        they are made of, image after image: box (P, 4) and confidence (P,) predicted, true (G, 4); predictions (N,)
        and objects (N,), how many of each an image has. Raises UsageError where the data have no objects.
        """
        test, index = test_split(data, self.images)
        objects = truth(test, data, "average_precision")
        seen = located(model, test, index, "AP: boxes")
        there = objects.label[index] >= 0
        images = [
            Detections(box[present > PRESENT], present[present > PRESENT], true[real])
            for box, present, true, real in zip(
                seen.box, seen.presence, objects.box[index].astype(np.float64), there, strict=True
            )
        ]
        if not there.any():
            raise UsageError(f"average_precision needs objects; {data.info.name} has none")
        precision, recall = average_precision(images, self.interpolation, self.iou)
        ap = precision.mean(1)
        arrays = {
            "threshold": thresholds(self.iou),
            "ap": ap,
            "precision": precision,
            "recall": recall,
            "box": np.concatenate([image.box for image in images]),
            "confidence": np.concatenate([image.confidence for image in images]),
            "true": np.concatenate([image.true for image in images]),
            "predictions": np.array([len(image.box) for image in images]),
            "objects": np.array([len(image.true) for image in images]),
        }
        return Measurement(float(ap.mean()), None, len(index), arrays=arrays)
