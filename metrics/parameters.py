"""Parameters: how many numbers a model learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..core.dataset import Dataset
from ..core.metric import Measurement, Metric
from ..core.model import GenerativeModel

__all__ = ["Parameters"]


@dataclass(frozen=True)
class Parameters(Metric):
    """All of them, the ones that only inference uses too; buffers (temperatures, schedules) are none."""

    better = "neither"
    reduction = ""
    reads = ()

    @property
    def needs_training(self) -> bool:
        """Never: the weights are counted, not read."""
        return False

    @property
    def dialect(self) -> str:
        """Counted, not rounded."""
        return "exact"

    def __call__(self, model: GenerativeModel[Any], data: Dataset) -> Measurement:
        """The exact number; it depends on neither seed nor data."""
        return Measurement(float(sum(parameter.numel() for parameter in model.parameters())))
