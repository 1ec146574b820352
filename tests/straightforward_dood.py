"""DooD and Difference-AIR as a reader would write them: one operation after another, the double sum over pixels and
points, every network called where the paper calls it, fp32, eager. The oracle of the tests and the opponent in
benchmarks/."""

from __future__ import annotations

import torch
from reprise.models.dood import POINTS, DooD
from reprise.nn.splines import SAMPLES
from torch import Tensor


def ink_literally(points: Tensor, sigma: Tensor, side: int) -> Tensor:
    """Σ_i exp(-((x_i - w/S)² + (y_i - h/S)²) / 2σ²): (N, P, 2), (N,) -> (N, side, side)."""
    u = torch.linspace(0, 1, SAMPLES, dtype=points.dtype)
    order = points.shape[1] - 1
    curve = torch.zeros(len(points), SAMPLES, 2, dtype=points.dtype)
    for k in range(order + 1):
        binomial = 1.0
        for j in range(k):
            binomial = binomial * (order - j) / (j + 1)
        curve = (
            curve + (binomial * u**k * (1 - u) ** (order - k))[None, :, None] * points[:, k : k + 1]
        )
    grid = torch.arange(side, dtype=points.dtype) / side
    dx = curve[:, None, None, :, 0] - grid[None, None, :, None]  # (N, 1, W, I)
    dy = curve[:, None, None, :, 1] - grid[None, :, None, None]  # (N, H, 1, I)
    return torch.exp(-(dx**2 + dy**2) / (2 * sigma[:, None, None, None] ** 2)).sum(-1)


class StraightforwardDooD(DooD):
    """DooD whose features of the image are computed at every step again, and whose ink is a double sum."""

    def _wet(self, where: Tensor, what: Tensor, sigma: Tensor) -> Tensor:
        from reprise.nn.pose import frame, move, place

        points = what.unflatten(-1, (POINTS, 2))
        if self.config.affine_on == "points":
            return ink_literally(move(points, frame(where)), sigma, self.side)[:, None]
        return place(ink_literally(points, sigma, self.side)[:, None], where)

    def target_features(self, x: Tensor, particles: int) -> Tensor:
        return torch.stack([self.image(x.repeat(particles, 1, 1, 1)) for _ in range(self.steps)])
