"""Attended reconstructions: an image, and beside it what the model puts together, with the window of every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Attends
from ._attention import read
from ._evaluation import as_bytes, test_split
from ._windows_drawn import enlarged, with_windows

__all__ = ["AttendedReconstructions"]


@dataclass(frozen=True)
class AttendedReconstructions(Metric):
    """images: of the test split. pairs: of image and reconstruction in a row of the grid."""

    better = "lower"
    requires = (Attends,)

    images: int = 512
    pairs: int = 4

    def __post_init__(self) -> None:
        if min(self.images, self.pairs) < 1:
            raise UsageError(
                f"attended_reconstructions needs images >= 1 and pairs >= 1; got {self}"
            )

    @property
    def dialect(self) -> str:
        """Squared error per pixel and channel, of images in [0, 1], from one draw of the latents."""
        return "mse draws=1 canvas=sum"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Mean squared error of the sum of the layers, cut at 1. Arrays of the first 16 images: inputs and
        reconstructions (16, C, H, W) uint8; window (16, T, 4), present (16, T); grid (R, 2 pairs, 3, H', W') uint8,
        enlarged, windows red, green, blue, yellow in the order of the steps. And value (N,), error per image.
        """
        test, index = test_split(data, self.images)
        inputs, outputs, windows, presents = [], [], [], []
        for part, found in read(model, test, index, "reconstructions", sample=True):
            canvas = found.layer.sum(1).clamp(0, 1)
            inputs.append(test.image[part])
            outputs.append(as_bytes(canvas, f"a reconstruction by {type(model).__name__}"))
            windows.append(found.window.numpy())
            presents.append(found.present.numpy() > 0.5)
        images, made = np.concatenate(inputs), np.concatenate(outputs)
        error = np.square((images.astype(np.float64) - made) / 255).mean((1, 2, 3))
        drawn = slice(0, 16)
        window, present = np.concatenate(windows)[drawn], np.concatenate(presents)[drawn]
        images, made = images[drawn], made[drawn]
        pairs = np.stack([enlarged(images), with_windows(made, window, present)], 1)
        blank = np.full((-len(pairs) % self.pairs, *pairs.shape[1:]), 255, np.uint8)
        grid = np.concatenate([pairs, blank]).reshape(-1, 2 * self.pairs, *pairs.shape[2:])
        return Measurement.mean(
            error, inputs=images, reconstructions=made, window=window, present=present, grid=grid
        )
