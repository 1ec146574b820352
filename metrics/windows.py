"""Windows: where a model looks. quantity:

overlap   intersection over union of every two windows of an image, mean over its pairs; images with two steps or more
area      share of the image that a window covers, mean over the image's steps; images with one step or more
steps     how many steps an image takes
first     share of all that is painted which the first step paints: near 1 for a model that draws the whole at once and
          then refines; images with something painted

Windows are cut at the edges of the image: what lies outside shows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset
from ..core.detection import intersection_over_union
from ..core.errors import NothingToMeasure, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Attends
from ._attention import Floats, read
from ._evaluation import test_split

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows(Metric):
    """quantity: see the module. images: measure on at most this many test images; None for all of them."""

    better = "neither"
    requires = (Attends,)
    tiers: ClassVar = {"demo": {"images": 100}}

    quantity: Literal["overlap", "area", "steps", "first"] = "overlap"
    images: int | None = None

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise UsageError(f"windows needs images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """Which windows, and what of them."""
        return f"{self.quantity} cut steps=mode"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Mean over the images that have such a number. Arrays: value, per image; image, their indices; steps (N,), of
        all images. Raises NothingToMeasure where no image has one.
        """
        test, index = test_split(data, self.images)
        height, width = data.info.shape[1:]
        values: list[float] = []
        images: list[int] = []
        steps: list[int] = []
        for part, found in read(model, test, index, "windows", sample=False):
            present = found.present.numpy() > 0.5
            window = cut(found.window.double().numpy(), width, height)
            ink = found.layer.double().sum((2, 3, 4)).numpy()  # (B, T)
            for image, shown, boxes, painted in zip(part, present, window, ink, strict=True):
                steps.append(int(shown.sum()))
                value = self._value(boxes[shown], painted[shown], width * height)
                if value is not None:
                    values.append(value)
                    images.append(int(image))
        if not values:
            raise NothingToMeasure(
                f"{type(model).__name__} takes too few steps in {len(index)} images for {self.quantity}"
            )
        return Measurement.mean(np.array(values), image=np.array(images), steps=np.array(steps))

    def _value(self, windows: Floats, ink: Floats, pixels: int) -> float | None:
        if self.quantity == "steps":
            return float(len(windows))
        if self.quantity == "area":
            return float(areas(windows).mean() / pixels) if len(windows) else None
        if self.quantity == "first":
            return float(ink[0] / ink.sum()) if len(ink) and ink.sum() > 0 else None
        return pairwise_overlap(windows) if len(windows) >= 2 else None


def cut(windows: Floats, width: int, height: int) -> Floats:
    """Windows (..., 4) within the image; one that lies wholly outside has no area."""
    return np.clip(windows, 0, np.array([width, height, width, height]))


def areas(windows: Floats) -> Floats:
    """(P, 4) -> (P,) pixels."""
    size: NDArray[np.float64] = (windows[:, 2:] - windows[:, :2]).clip(0).prod(-1)
    return size


def pairwise_overlap(windows: Floats) -> float:
    """Mean intersection over union of every two of (P, 4), P >= 2."""
    above = np.triu_indices(len(windows), 1)
    return float(intersection_over_union(windows, windows)[above].mean())
