"""Batch normalisation and ELU in one operation: what torch's CPU kernels need several passes for, in bf16 slow ones.

`norm_and_elu(x, norm)` is `elu(norm(x))`. While a network is trained, where an engine asks for it, on a CPU, with numba
(the extra `fast`) and channels-last memory, it is compiled code: forward reads x twice and writes once, backward reads
x twice, the incoming gradient once, and what it wrote of the result once, and nothing but x is kept between them. Sums
of many rows are fp64. Everywhere else it is the two modules, one after the other; tests/test_batch_norm.py holds one
against the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from .channels_last import elu
from .fused import enabled, is_dense, tiled


def norm_and_elu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """(B, C, H, W) -> the same, in x's precision; the running statistics follow as torch's do."""
    # torch's own compiler cannot see into these kernels; it makes others
    asked = enabled() and norm.training and not torch.compiler.is_compiling()
    possible = asked and x.device.type == "cpu" and is_dense(x)
    count = x.numel() // x.shape[1]
    if (
        not possible
        or count < 2
        or norm.running_mean is None
        or norm.momentum is None
        or not norm.affine
    ):
        return elu(norm(x))
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    out, mean, variance = _NormAndELU.apply(x, norm.weight, norm.bias, norm.eps)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    activated: Tensor = out
    return activated


class _NormAndELU(torch.autograd.Function):
    """Out, and the batch's mean and variance (C,). Saved for backward: x, and a few numbers per channel."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        rows, count = tiled(x), x.numel() // channels
        # about a value of the channel itself, or the variance of a large mean would cancel
        origin = x.detach()[0, :, 0, 0].double()
        first, second = _of_channels(_compiled().moments(rows, _of_row(origin, rows)), channels) / count  # fmt: skip
        mean, variance = origin + first, second - first.square()
        scale = weight.detach().double() * (variance + eps).rsqrt()
        offset = bias.detach().double() - mean * scale
        out = torch.empty_like(x)
        _compiled().activate(rows, _of_row(scale, rows), _of_row(offset, rows), tiled(out))
        ctx.save_for_backward(x, weight, mean, variance, scale, offset)
        ctx.eps = eps
        found = mean.to(weight.dtype), variance.to(weight.dtype)
        ctx.mark_non_differentiable(*found)
        return out, *found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, scale, offset = ctx.saved_tensors
        if not (is_dense(grad) and grad.dtype == x.dtype):
            grad = grad.to(x.dtype).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        channels = x.shape[1]
        rows, count = tiled(x), x.numel() // channels
        of_x = torch.empty_like(x)
        about, gain = _of_row(mean, rows), _of_row(scale, rows)
        shift = _of_row(offset + mean * scale, rows)
        sums = _compiled().upstream(rows, tiled(grad), tiled(of_x), about, gain, shift)
        first, second = _of_channels(sums, channels)
        constant, slope = scale * first / count, scale * second / count / (variance + ctx.eps)
        rest = [_of_row(each, rows) for each in (constant, slope)]
        _compiled().gradient(rows, tiled(of_x), about, gain, *rest)
        of_weight = second * (variance + ctx.eps).rsqrt()
        return of_x, of_weight.to(weight.dtype), first.to(weight.dtype), None


def _of_row(channels: Tensor, rows: Tensor) -> Tensor:
    """(C,) as (T,), once for every pixel of a row, fp32."""
    return channels.float().repeat(rows.shape[2] // len(channels))


def _of_channels(sums: Tensor, channels: int) -> Tensor:
    """(2, T) summed over the pixels of a row: (2, C)."""
    return sums.view(2, -1, channels).sum(1)


@lru_cache
def _compiled() -> Any:
    from . import _batch_norm_cpu

    return _batch_norm_cpu
