"""Drawings: an image drawn again part by part, the canvas after each (DooD, Figures 1 and 3 a)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Draws
from ..core.progress import track
from ._drawing import drawings
from ._evaluation import BATCH, as_bytes, chunks, test_split

__all__ = ["Drawings"]


@dataclass(frozen=True)
class Drawings(Metric):
    """images: of the test split.

    best_of: draws per image, of which the closest to it is kept: that with the least sum of absolute differences. The
    authors kept the likeliest of 20, which is the same for a Laplace likelihood with one scale for all pixels.
    """

    better = "neither"
    requires = (Draws,)

    images: int = 8
    best_of: int = 1

    def __post_init__(self) -> None:
        if self.images < 1 or self.best_of < 1:
            raise UsageError(f"drawings needs images >= 1 and best_of >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """Squared error per pixel and channel of the finished canvas, of images in [0, 1]."""
        return f"mse best_of={self.best_of} by=l1"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Mean squared error of what is drawn in the end.

        Arrays: inputs (N, C, H, W) uint8; grid (N, 1 + T, C, H, W) uint8, the image, then the canvas after each part,
        white where there is no such part; count (N,) int64, parts; value (N,), error per image.
        """
        test, index = test_split(data, self.images)
        inputs = test.image[index]
        best = np.full(len(index), np.inf)  # the least sum of absolute differences so far
        for attempt in track(range(self.best_of), "drawings"):
            found = list(drawings(model, test, chunks(index, BATCH)))
            name = f"a drawing by {type(model).__name__}"
            canvas = np.concatenate([as_bytes(one.canvas, name) for _, one in found])
            count = np.concatenate(
                [one.present.sum(1).numpy().astype(np.int64) for _, one in found]
            )
            distance = np.abs(inputs.astype(np.float64) - canvas[:, -1]).sum((1, 2, 3))
            if attempt == 0:
                kept, parts = canvas, count
            closer = distance < best
            kept[closer], parts[closer], best[closer] = (
                canvas[closer],
                count[closer],
                distance[closer],
            )
        error = np.square((inputs.astype(np.float64) - kept[:, -1]) / 255).mean((1, 2, 3))
        absent = np.arange(kept.shape[1]) >= parts[:, None]  # (N, T)
        shown = np.where(absent[:, :, None, None, None], np.uint8(255), kept)
        grid = np.concatenate([inputs[:, None], shown], 1)
        measured = Measurement.mean(error, grid=grid, count=parts)
        return dataclasses.replace(measured, arrays={**measured.arrays, "inputs": inputs})
