"""Learning curves as small inline drawings: geometry only, templates/ put it into elements. No torch here.

A column's name is a third party's (a term that some model's loss returns) and stays text until a template escapes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.trained import Trained

__all__ = ["HEIGHT", "WIDTH", "Chart", "charts_of"]

WIDTH, HEIGHT = 240.0, 84.0  # of the drawing, in its own units
SETTINGS = ("step", "gradient_norm", "beta")  # columns that are no terms of the objective
MOST = 3
BURN_IN = 0.1  # the share of a run whose first, huge values may leave the frame


@dataclass(frozen=True)
class Chart:
    """One column over the steps of one or several seeds.

    lines: per seed, points (x, y) with 0 <= x <= WIDTH and y downwards; what lies outside the frame is cut off by it.
    low, high: the frame's values; steps: its right edge. last: the last finite value of each line.
    """

    name: str
    lines: tuple[tuple[tuple[float, float], ...], ...]
    low: float
    high: float
    steps: int
    last: tuple[float, ...]

    @property
    def identifier(self) -> str:
        """Of the drawing: the same one is shown by every cell of its runs, and stands on the page once."""
        return "curve-" + hashlib.sha256(repr(self).encode()).hexdigest()[:10]

    @property
    def words(self) -> str:
        """What the drawing shows, for those who do not see it."""
        ends = ", ".join(f"{value:.4g}" for value in self.last)
        return f"{self.name} over {self.steps:,} steps, ending at {ends}".replace("-", "−")


def charts_of(kept: Sequence[Trained]) -> tuple[Chart, ...]:
    """The loss and the first terms of it, at most three charts; runs of other seeds lie in the same ones."""
    columns = dict.fromkeys(
        name for trained in kept for name in trained.log if name not in SETTINGS
    )
    drawn = (_chart(name, [trained.log for trained in kept]) for name in columns)
    return tuple(chart for chart in drawn if chart is not None)[:MOST]


def _chart(name: str, logs: Sequence[Mapping[str, tuple[float | None, ...]]]) -> Chart | None:
    lines = [
        [
            (float(step), float(value))
            for step, value in zip(log.get("step", ()), log.get(name, ()), strict=False)
            if step is not None and value is not None and math.isfinite(value)
        ]
        for log in logs
    ]
    lines = [line for line in lines if len(line) > 1]
    if not lines:
        return None
    steps = max(line[-1][0] for line in lines)
    seen = [value for line in lines for step, value in line if step >= BURN_IN * steps]
    low, high = min(seen), max(seen)
    span = (high - low) or 1.0

    def place(step: float, value: float) -> tuple[float, float]:
        height = min(5.0, max(-5.0, (value - low) / span))
        return round(WIDTH * step / steps, 1), round(HEIGHT * (1 - height), 1)

    return Chart(
        name=name,
        lines=tuple(tuple(place(*point) for point in line) for line in lines),
        low=low,
        high=high,
        steps=int(steps),
        last=tuple(line[-1][1] for line in lines),
    )
