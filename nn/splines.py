"""Strokes as images: Bézier curves drawn with ink that fades like a Gaussian (Liang et al. 2022, section 3).

A curve of order P - 1 has P control points; it is sampled at N equally spaced parameters, and every pixel receives

    R[h, w] = Σ_i exp(-((x_i - w/S)² + (y_i - h/S)²) / 2σ²),

where (x, y) = (0, 0) is the upper left pixel and (1, 1) one step beyond the lower right one. The Gaussian factorises:
R = E_yᵀ E_x with E_x[i, w] = exp(-(x_i - w/S)² / 2σ²): one small matrix product in place of S² N exponentials. The
double sum is the oracle in tests/test_splines.py.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb

import torch
from torch import Tensor

SAMPLES = 100
"""Points along a curve (the authors' code)."""


@lru_cache
def _basis(control: int, samples: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # kept, so it must serve those who need gradients, too
        u = torch.linspace(0, 1, samples, dtype=torch.float64, device=device)
        degree = control - 1
        terms = [comb(degree, k) * u**k * (1 - u) ** (degree - k) for k in range(control)]
        return torch.stack(terms, 1).to(dtype)


def bezier(points: Tensor, samples: int = SAMPLES) -> Tensor:
    """Points along the curve: control points (..., P, 2) -> (..., N, 2)."""
    return _basis(points.shape[-2], samples, points.device, points.dtype) @ points


def ink(points: Tensor, sigma: Tensor, side: int, samples: int = SAMPLES) -> Tensor:
    """R of each stroke: control points (..., P, 2), sigma (...,) -> (..., side, side). At most N; not normalised."""
    with torch.autocast(points.device.type, enabled=False):
        curve = bezier(points, samples)  # (..., N, 2)
        pixel = torch.arange(side, device=points.device, dtype=points.dtype) / side
        distance = curve[..., None] - pixel  # (..., N, 2, side)
        spread = (-0.5 / sigma.square())[..., None, None, None]
        columns, rows = (distance.square() * spread).exp().unbind(-2)
        return rows.mT @ columns
