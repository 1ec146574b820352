"""What SPACE's networks are made of: convolution, CELU, GroupNorm, in this order; Gaussians with a floor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.distributions import Gaussian

GROUPS = {16: 4, 32: 8, 64: 8, 128: 16, 256: 16}


def layer(
    inner: int, outer: int, kernel: int, stride: int = 1, padding: int | None = None, groups: int = 0
) -> list[nn.Module]:  # fmt: skip
    """One convolution, CELU and GroupNorm. padding: (kernel - 1) // 2 when None; groups: of GROUPS when 0."""
    padding = (kernel - 1) // 2 if padding is None else padding
    return [
        nn.Conv2d(inner, outer, kernel, stride, padding),
        nn.CELU(),
        nn.GroupNorm(groups or GROUPS[outer], outer),
    ]


def sub_pixel(inner: int, outer: int, up: int) -> list[nn.Module]:
    """A pointwise convolution to `up` x `up` pixels and a 3 x 3 one, CELU and GroupNorm after each."""
    return [
        nn.Conv2d(inner, outer * up * up, 1),
        nn.PixelShuffle(up),
        nn.CELU(),
        nn.GroupNorm(GROUPS[outer], outer),
        *layer(outer, outer, 3),
    ]


def full(t: Tensor) -> Tensor:
    """In fp32, or better if it is already: what bf16 must not touch."""
    return t.to(torch.promote_types(t.dtype, torch.float32))


def gaussian(raw: Tensor, floor: float) -> Gaussian:
    """From [mean, s] along the last axis; the standard deviation is softplus(s) + floor."""
    mean, s = full(raw).chunk(2, -1)
    return Gaussian(mean, F.softplus(s) + floor)
