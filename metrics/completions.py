"""Completions: ways to go on with a drawing that has been begun (DooD, Figure 8).

Each row begins with one part drawn from the prior; the model is shown its image alone, and goes on several times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Completes
from ._drawing import refuse_other_shape, spread
from ._evaluation import as_bytes, as_floats

__all__ = ["Completions"]


@dataclass(frozen=True)
class Completions(Metric):
    """rows: begun drawings. draws: ways to go on from each; the figure shows six, the authors' script draws eight."""

    better = "neither"
    requires = (Completes,)

    rows: int = 4
    draws: int = 6

    def __post_init__(self) -> None:
        if self.rows < 1 or self.draws < 2:
            raise UsageError(f"completions needs rows >= 1 and draws >= 2; got {self}")

    @property
    def dialect(self) -> str:
        """How many ways to go on the spread is of."""
        return f"draws={self.draws}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Standard deviation of a pixel in [0, 1] over the draws, root mean square over pixels, mean over rows.

        Arrays: grid (rows, 1 + draws, C, H, W) uint8, the begun drawing before what became of it; value, per row.
        """
        name, shape = type(model).__name__, data.info.shape
        begun = model.begin(self.rows)
        refuse_other_shape(begun, (self.rows, *shape), f"{name}.begin")
        prefix = as_bytes(begun, f"a drawing begun by {name}")
        # The model is given the image that is shown, of 8 bit.
        images = model.complete(as_floats(prefix, model.device), self.draws)
        refuse_other_shape(images, (self.rows, self.draws, *shape), f"{name}.complete")
        completed = as_bytes(images, f"a drawing completed by {name}")
        return Measurement.mean(
            spread(completed), grid=np.concatenate([prefix[:, None], completed], 1)
        )
