"""Activation and group norm in one pass: what torch's CPU kernels need five for.

`activate_and_norm(x, act, norm)` is `norm(act(x))` for act CELU or ReLU. Where an engine asks for it, on a CPU, with
numba installed (the extra `fast`) and channels-last memory, it is compiled code: forward reads x twice and writes
once, backward reads x and the incoming gradient twice and writes once, and nothing but x is kept between them. Sums are
fp32 in both precisions. Where the pixels are moved after (nn/pixels.py), they are written there. Everywhere else
it is the two modules, one after the other; tests/test_fused.py holds one against the other.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from .pixels import Move, blocks, moved

TILE = 64  # floats that are worked on at once: four vectors of AVX-512

_enabled = False


def installed() -> bool:
    """Whether numba is."""
    return importlib.util.find_spec("numba") is not None


@contextmanager
def kernels(enabled: bool) -> Iterator[None]:
    """Whether compiled kernels are used inside, where they can be. Raises UsageError for one that is not there."""
    global _enabled
    if enabled and not installed():
        raise UsageError(
            "this run began with compiled kernels, which need numba: pip install 'reprise[fast]'"
        )
    before, _enabled = _enabled, enabled
    try:
        yield
    finally:
        _enabled = before


def enabled() -> bool:
    """Whether compiled kernels are asked for here."""
    return _enabled


def activate_and_norm(
    x: Tensor, act: nn.Module, norm: nn.GroupNorm, move: Move | None = None
) -> Tensor:
    """norm(act(x)): (B, C, H, W) -> the same, in x's precision; with a move, of (B, C, P, 1), its pixels moved then."""
    # torch's own compiler cannot see into these kernels; it makes others
    possible = _enabled and not torch.compiler.is_compiling()
    if not (possible and fusible(act, norm) and x.device.type == "cpu" and is_dense(x)):
        plain: Tensor = norm(act(x))
        return plain if move is None else moved(plain, move)
    alpha = 1.0 if isinstance(act, nn.CELU) else 0.0
    to = None if move is None else blocks(move, x.shape[1])
    out: Tensor = _ActivateAndNorm.apply(  # type: ignore[no-untyped-call]
        x, norm.weight, norm.bias, norm.num_groups, norm.eps, alpha, to
    )
    return out if move is None or to is not None else moved(out, move)


def fusible(act: nn.Module, norm: nn.Module) -> bool:
    """Whether the two modules are of a kind that has a kernel."""
    known = isinstance(act, nn.ReLU) or (isinstance(act, nn.CELU) and act.alpha == 1)
    return known and isinstance(norm, nn.GroupNorm) and norm.affine


def is_dense(x: Tensor) -> bool:
    """Whether a kernel can read x (B, C, H, W): channels-last memory, fp32 or bf16."""
    return x.dtype in (torch.float32, torch.bfloat16) and x.permute(0, 2, 3, 1).is_contiguous()


class _ActivateAndNorm(torch.autograd.Function):
    """Saved for backward: x, the gain, and (B, 2, groups) mean and 1 / standard deviation."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, alpha: float,
        to: Tensor | None,
    ) -> Tensor:  # fmt: skip
        forward, _ = _compiled()
        out, moments = torch.empty_like(x), torch.empty(len(x), 2, groups)
        gain, shift = weight.float(), bias.float()
        forward(x, tile(x), gain, shift, out, moments, eps, alpha, to)
        ctx.save_for_backward(x, gain, moments)
        ctx.alpha, ctx.to = alpha, to
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        _, backward = _compiled()
        x, gain, moments = ctx.saved_tensors
        if not (is_dense(grad) and grad.dtype == x.dtype):
            grad = grad.to(x.dtype).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        of_x = torch.empty_like(x)
        of_weight, of_bias = backward(x, tile(x), gain, moments, grad, of_x, ctx.alpha, ctx.to)
        return of_x, of_weight, of_bias, None, None, None, None


def tile(x: Tensor) -> tuple[int, int]:
    """(rows, k C), as which kernels read (B, C, H, W) in channels-last memory; k C >= TILE where the pixels allow."""
    _, channels, height, width = x.shape
    pixels, k = height * width, 1
    while k * channels < TILE and pixels % (2 * k) == 0:
        k *= 2
    return pixels // k, k * channels


def tiled(x: Tensor) -> Tensor:
    """x as its `tile` says, (B, rows, k C); no copy."""
    return x.detach().permute(0, 2, 3, 1).view(len(x), *tile(x))


@lru_cache
def _compiled() -> tuple[Any, Any]:
    from ._fused_cpu import backward, forward

    return forward, backward
