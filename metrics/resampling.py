"""Resampling: what is left to z^s once z^g is fixed (Jiang & Ahn 2020, supplement Figures 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import ContractError, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Resamples
from ._evaluation import as_bytes, as_floats, test_split

__all__ = ["Resampling"]


@dataclass(frozen=True)
class Resampling(Metric):
    """source: z^g is inferred from test images, or drawn. rows: how many z^g. draws: how many z^s for each."""

    better = "neither"
    requires = (Resamples,)

    source: Literal["posterior", "prior"] = "posterior"
    rows: int = 5
    draws: int = 10

    def __post_init__(self) -> None:
        if self.rows < 1 or self.draws < 2:
            raise UsageError(f"resampling needs rows >= 1 and draws >= 2; got {self}")

    @property
    def dialect(self) -> str:
        """Where z^g comes from, and how many z^s there are."""
        return f"draws={self.draws} source={self.source}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Standard deviation of a pixel in [0, 1] over the draws, root mean square over pixels, mean over rows.

        Arrays: resampled (rows, draws, C, H, W) uint8; grid, the same, with the input before it where there is one
        (rows, 1 + draws, C, H, W); value, per row.
        """
        test, index = test_split(data, self.rows)
        if len(index) < self.rows:
            raise UsageError(
                f"resampling needs {self.rows} test images; {data.info.name} has {len(index)}"
            )
        inputs = test.image[index]
        x = as_floats(inputs, model.device) if self.source == "posterior" else None
        images = model.resample(x, self.rows, self.draws)
        expected = (self.rows, self.draws, *data.info.shape)
        if tuple(images.shape) != expected:
            raise ContractError(
                f"{type(model).__name__}.resample must return (rows, draws, C, H, W) = {expected}; "
                f"got {tuple(images.shape)}"
            )
        resampled = as_bytes(images, f"an image of {type(model).__name__}")
        grid = np.concatenate([inputs[:, None], resampled], 1) if x is not None else resampled
        spread = np.sqrt((resampled / 255.0).var(1, ddof=1).mean((1, 2, 3)))
        return Measurement.mean(spread, resampled=resampled, grid=grid)
