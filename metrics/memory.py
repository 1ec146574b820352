"""Memory: what every slot of a memory stands for, drawn from the slot alone.

The number beside the picture is the share of the patches' variance that lies between slots (eta squared): near 0 where
all slots draw the same mixture, near 1 where every slot draws one thing of its own. Of each slot's draws, pixel by
pixel. It says that slots differ, not that they mean anything: `slots` compares them with true classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset
from ..core.errors import ContractError, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Attends, Remembers
from ._attention import Floats, attended
from ._evaluation import as_bytes, test_split

__all__ = ["Memory"]


@dataclass(frozen=True)
class Memory(Metric):
    """draws: per slot, beside the mean of its prior. rows: slots in the grid; None for all.

    order: of the grid's rows: by the slots' index, or those first that most steps on test images read (`images` of
    them; None for all). The second needs a model that attends.
    """

    better = "neither"
    reduction = ""
    requires = (Remembers,)
    tiers: ClassVar = {"demo": {"images": 100}}

    draws: int = 10
    rows: int | None = None
    order: Literal["index", "use"] = "index"
    images: int | None = None

    def __post_init__(self) -> None:
        if self.draws < 2 or (self.rows or 1) < 1 or (self.images or 1) < 1:
            raise UsageError(f"memory needs draws >= 2, rows >= 1 and images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """Of what the variance is."""
        return f"share=eta-squared draws={self.draws}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Share of variance between slots, of all slots. Arrays: recalled (M, 1 + draws, C, G, G) uint8, by index;
        grid, the rows shown in their order; slot, their indices; for a model that attends use (M,), how many steps
        read each slot.
        """
        recalled = model.recall(self.draws)
        if recalled.ndim != 5 or recalled.shape[1] != 1 + self.draws:
            raise ContractError(
                f"{type(model).__name__}.recall must return (M, 1 + draws, C, G, G); got {tuple(recalled.shape)}"
            )
        patches = as_bytes(recalled, f"a slot of {type(model).__name__}")
        slots = len(patches)
        arrays: dict[str, NDArray[Any]] = {"recalled": patches}
        shown = np.arange(slots)
        if isinstance(model, Attends):
            test, index = test_split(data, self.images)
            steps = attended(model, test, index, "memory: use")
            use = np.bincount(steps.slot[steps.present].argmax(-1), minlength=slots)
            arrays["use"] = use
            if self.order == "use":
                shown = np.argsort(-use, kind="stable")
        elif self.order == "use":
            raise ContractError(
                f"{type(model).__name__} does not attend: its slots have no order of use"
            )
        shown = shown[: self.rows]
        arrays |= {"grid": patches[shown], "slot": shown}
        value = between(patches[:, 1:].astype(np.float64) / 255)
        return Measurement(value, None, slots, arrays=arrays)


def between(patches: Floats) -> float:
    """(M, D, ...) draws of M slots -> share of their variance that lies between slots; 0 where nothing varies."""
    flat = patches.reshape(*patches.shape[:2], -1)
    total = flat.var((0, 1)).sum()
    return float(flat.mean(1).var(0).sum() / total) if total > 0 else 0.0
