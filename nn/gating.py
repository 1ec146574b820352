"""Half of a map's channels let the other half through: h · sigmoid(g), with batch normalisation before it.

On a CPU `normalised_gate` never holds the normalised map: it goes through a few examples at a time, whose maps stay in
the caches. Elsewhere it is torch's two operations; tests/test_genesis.py holds the two together.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def gate(u: Tensor) -> Tensor:
    """h · sigmoid(g) of [h, g] stacked along the channels. (B, 2 C, ...) -> (B, C, ...)."""
    h, opened = _halves(u)
    return h * opened


def normalised_gate(
    u: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, running_mean: Tensor, running_variance: Tensor,
    momentum: float, epsilon: float,
) -> Tensor:  # fmt: skip
    """`gate` of u + bias (B, 2 C, H, W) normalised by the batch's statistics; the running ones follow.

    What is normalised by its own mean forgets its bias: that moves the running mean alone, its gradient is zero, and
    summing it over all pixels would be half of a transposed convolution's backward pass.
    """
    if u.device.type == "cpu":
        gated: Tensor = _NormalisedGate.apply(  # type: ignore[no-untyped-call]
            u, bias, gain, shift, running_mean, running_variance, momentum, epsilon
        )
    else:
        gated = gate(normalised(u, gain, shift, running_mean, running_variance, momentum, epsilon))
    with torch.no_grad():
        running_mean.add_(momentum * bias)
    return gated


def normalised(
    u: Tensor, gain: Tensor, shift: Tensor, running_mean: Tensor, running_variance: Tensor,
    momentum: float, epsilon: float,
) -> Tensor:  # fmt: skip
    """Batch normalisation by the batch's statistics; the running ones follow, and may be written to afterwards.

    torch's own keeps the running ones it is given for its backward pass, and refuses that if they have changed.
    """
    mean, variance = running_mean.clone(), running_variance.clone()
    u = F.batch_norm(u, mean, variance, gain, shift, True, momentum, epsilon)
    with torch.no_grad():
        running_mean.copy_(mean)
        running_variance.copy_(variance)
    return u


class _NormalisedGate(torch.autograd.Function):
    """Keeps its input alone for the backward pass; both passes go through a few examples at a time."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, bias: Tensor, gain: Tensor, shift: Tensor, running_mean: Tensor, running_variance: Tensor,
        momentum: float, epsilon: float,
    ) -> Tensor:  # fmt: skip
        mean, variance = torch.ops.aten.batch_norm_update_stats(
            u, running_mean, running_variance, momentum
        )
        ctx.save_for_backward(u, bias, gain, shift, mean, variance)
        ctx.epsilon = epsilon
        out = torch.empty_like(u[:, : u.shape[1] // 2], memory_format=torch.channels_last)
        for part in _parts(u):
            h, opened = _opened(u[part], gain, shift, mean, variance, epsilon)
            torch.mul(h, opened, out=out[part])
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        u, bias, gain, shift, mean, variance = ctx.saved_tensors
        into = torch.empty_like(u)
        for part in _parts(u):
            h, opened = _opened(u[part], gain, shift, mean, variance, ctx.epsilon)
            d = upstream[part].contiguous(memory_format=torch.channels_last)
            of_g = torch.ops.aten.sigmoid_backward(d * h, opened)
            torch.cat([d * opened, of_g], 1, out=into[part])
        inverse = (variance + ctx.epsilon).rsqrt()
        of_u, of_gain, of_shift = torch.ops.aten.native_batch_norm_backward(
            into, u, gain, None, None, mean, inverse, True, ctx.epsilon, [True, True, True]
        )
        return of_u, torch.zeros_like(bias), of_gain, of_shift, None, None, None, None


def _parts(u: Tensor) -> list[slice]:
    """Slices of the batch with about a million numbers each."""
    size = max(1, 2**20 // u[0].numel())
    return [slice(at, at + size) for at in range(0, len(u), size)]


def _opened(
    u: Tensor, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """(h, sigmoid(g)) of the normalised maps [h, g]."""
    return _halves(F.batch_norm(u, mean, variance, gain, shift, False, 0.0, epsilon))


def _halves(u: Tensor) -> tuple[Tensor, Tensor]:
    """(h, sigmoid(g)). g is copied first: on a CPU the sigmoid of a slice in bf16 takes seven times as long."""
    h, g = u.chunk(2, 1)
    return h, g.clone(memory_format=torch.preserve_format).sigmoid()
