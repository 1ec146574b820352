"""Layers whose kernels in torch are slow on a CPU for bf16 images in channels-last order, with the same numbers.

`elu`: torch's bf16 kernel takes several times as long as its fp32 one. `broadcast_elu`: the images are never held in
fp32. An activation with a GroupNorm behind it: nn/fused.py.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def elu(x: Tensor) -> Tensor:
    """ELU with alpha 1 (CELU with alpha 1 is the same function). It takes the place of x, which is gone after it."""
    result: Tensor = _ELU.apply(x)  # type: ignore[no-untyped-call]
    return result


def broadcast_elu(vector: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
    """ELU of a vector per image plus one map: (N, C), (1, C, H, W) -> (N, C, H, W) of `dtype`, channels-last."""
    result: Tensor = _BroadcastELU.apply(vector, place, dtype)  # type: ignore[no-untyped-call]
    return result


class ELU(nn.Module):
    """`elu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; x is overwritten."""
        return elu(x)


class _ELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        if x.dtype == torch.bfloat16 and x.device.type == "cpu":
            for part in x.split(1):  # image by image: the fp32 copy never leaves the cache
                part.copy_(F.elu_(part.float()))
        else:
            F.elu_(x)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        found: Tensor = torch.ops.aten.elu_backward(gradients[0], 1.0, 1.0, 1.0, True, y)
        return found


class _BroadcastELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vector: Tensor, place: Tensor, dtype: torch.dtype) -> Tensor:
        place = place.contiguous(memory_format=torch.channels_last)
        shape = (len(vector), *place.shape[1:])
        y = torch.empty(shape, dtype=dtype, device=place.device, memory_format=torch.channels_last)
        for image, v in zip(y.split(1), vector.split(1), strict=True):
            image.copy_(F.elu_(place + v[:, :, None, None]))
        ctx.save_for_backward(y)
        ctx.dtypes = vector.dtype, place.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        of_vector, of_place = ctx.dtypes
        d_place = torch.zeros(
            (1, *y.shape[1:]), dtype=torch.promote_types(of_place, torch.float32), device=y.device
        ).contiguous(memory_format=torch.channels_last)
        d_vector = []
        for image, gradient in zip(y.split(1), gradients[0].split(1), strict=True):
            d = torch.ops.aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, image)
            d_place += d
            d_vector.append(d.sum((2, 3)))
        return torch.cat(d_vector).to(of_vector), d_place.to(of_place), None
