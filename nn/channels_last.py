"""Layers whose kernels in torch are slow on a CPU for bf16 images in channels-last order, with the same numbers.

`elu`: torch's bf16 kernel takes several times as long as its fp32 one. `GroupNorm`: torch's backward pass takes up to
ten times as long in channels-last order as sums and products over the same images do. `broadcast_elu`: the images
are never held in fp32.
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


class GroupNorm(nn.GroupNorm):
    """torch's, with another backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, H, W)."""
        if not x.requires_grad:
            return super().forward(x)
        result: Tensor = _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)  # type: ignore[no-untyped-call]
        return result


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


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:  # fmt: skip
        batch, channels, height, width = x.shape  # x may be bf16 beside parameters in fp32
        y, mean, rstd = torch.native_group_norm(
            x, weight, bias, batch, channels, height * width, groups, eps
        )
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        (dy,) = gradients
        exact = torch.promote_types(x.dtype, torch.float32)
        groups, members = mean.shape[1], x.shape[1] // mean.shape[1]
        sum_dy = dy.sum((2, 3)).to(exact).unflatten(1, (groups, members))  # (N, G, C / G)
        sum_dy_x = (dy * x).sum((2, 3)).to(exact).unflatten(1, (groups, members))
        mean, rstd = mean.to(exact)[..., None], rstd.to(exact)[..., None]
        gain = weight.to(exact).view(groups, members)
        # y = gain (x - mean) rstd + bias
        sum_dy_normed = (sum_dy_x - mean * sum_dy) * rstd
        count = members * x.shape[2] * x.shape[3]
        along_x = (gain * sum_dy_normed).sum(2, keepdim=True) * rstd.square() / count
        along_1 = (gain * sum_dy).sum(2, keepdim=True) * rstd / count
        factors = gain * rstd, -along_x.expand_as(sum_dy), (along_x * mean - along_1).expand_as(sum_dy)  # fmt: skip
        of_dy, of_x, constant = (
            factor.flatten(1)[..., None, None].to(x.dtype) for factor in factors
        )
        dx = torch.addcmul(constant, x, of_x).addcmul_(dy, of_dy)
        return dx, sum_dy_normed.sum(0).flatten(), sum_dy.sum(0).flatten(), None, None


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
