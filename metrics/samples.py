"""Samples: images from the model's prior, kept for galleries beside as many real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.dataset import Dataset
from ..core.metric import Measurement, Metric
from ..core.model import GenerativeModel
from ._evaluation import sample_bytes, test_split

__all__ = ["Samples"]


@dataclass(frozen=True)
class Samples(Metric):
    """images: how many; 50 as on one sheet of the authors' samples."""

    better = "neither"

    images: int = 50

    @property
    def dialect(self) -> str:
        """Mean brightness in [0, 1] of images with 8 bit."""
        return "brightness"

    def __call__(self, model: GenerativeModel[Any], data: Dataset) -> Measurement:
        """Mean brightness of the samples: far from that of data, or zero, something is wrong.

        Arrays: samples (N, C, H, W) uint8; data, as many test images; value, each sample's brightness.
        """
        test, index = test_split(data, self.images)
        samples = sample_bytes(model, self.images, "samples")
        brightness = samples.mean((1, 2, 3), dtype=np.float64) / 255
        return Measurement.mean(brightness, samples=samples, data=test.image[index])
