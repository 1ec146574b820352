"""Training loss: how a training went, and whether it went as a plateau that a fast drop ends. quantity:

final     the mean over the last twentieth of the training
drop      the greatest share of itself that the loss loses within a tenth of the training, the first fiftieth left out,
          in which every model learns that images are mostly black
plateau   the share of the training before that drop throughout which the loss stayed within a tenth of where it began

A plateau and then a drop is a large share of each; a loss that falls steadily has a small plateau, one that hardly
falls a small drop. Read from the log that the training wrote, which is stored as arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import NothingToMeasure
from ..core.metric import Measurement, TrainingMetric

__all__ = ["TrainingLoss"]

FIRST, WITHIN, NEAR, LAST = 0.02, 0.1, 0.1, 0.05


@dataclass(frozen=True)
class TrainingLoss(TrainingMetric):
    """quantity: see the module."""

    better = "neither"
    reduction = ""

    quantity: Literal["final", "drop", "plateau"] = "final"

    @property
    def dialect(self) -> str:
        """Which loss: the one that was minimised, with whatever terms and weights it has at each step."""
        return "objective=trained"

    def of_log(self, log: Mapping[str, NDArray[np.float64]]) -> Measurement:
        """One number of the curve. Arrays: every column of the log, (S,) each.

        Raises NothingToMeasure where the loss of a drop is not positive, so that it has no shares, or where the log is
        too short to have a drop.
        """
        step, loss = log["step"], log["loss"]
        arrays = {name: values for name, values in log.items() if name != "steps_per_second"}
        if self.quantity == "final":
            value = float(loss[step > (1 - LAST) * step[-1]].mean())
        else:
            start, drop = steepest(step, loss)
            value = drop if self.quantity == "drop" else plateau(step, loss, start)
        return Measurement(value, None, len(step), arrays=arrays)


def steepest(step: NDArray[np.float64], loss: NDArray[np.float64]) -> tuple[int, float]:
    """(line at which it begins, share of the loss that is lost) of the greatest drop."""
    total = step[-1]
    best: tuple[int, float] | None = None
    for begin in np.flatnonzero(step >= FIRST * total):
        if step[begin] + WITHIN * total > total:
            break
        if loss[begin] <= 0:
            raise NothingToMeasure("the loss is not positive, so a share of it means nothing")
        later = loss[(step > step[begin]) & (step <= step[begin] + WITHIN * total)]
        if len(later):
            drop = 1 - float(later.min()) / float(loss[begin])
            if best is None or drop > best[1]:
                best = int(begin), drop
    if best is None:
        raise NothingToMeasure(f"a log of {len(step)} lines is too short to have a drop")
    return best


def plateau(step: NDArray[np.float64], loss: NDArray[np.float64], end: int) -> float:
    """The share of the training, up to line `end`, throughout which the loss was within NEAR of what it is there."""
    far = np.flatnonzero(np.abs(loss[: end + 1] - loss[end]) > NEAR * abs(loss[end]))
    begin = step[far[-1]] if len(far) else 0.0
    return float((step[end] - begin) / step[-1])
