"""The cell of a convolutional LSTM: what comes after its gates' convolution.

    c' = σ(f) c + σ(i) tanh(g)        h' = σ(o) tanh(c')

Where an engine asks for compiled kernels (nn/fused.py), one call instead of torch's ten, and of twenty backwards, on
maps so small that calling is what they cost; elsewhere those. tests/test_lstm.py holds one against the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from . import fused


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(h', c'): (B, 4 C, H, W), input, forget, output, candidate, and (B, C, H, W) -> (B, C, H, W) each."""
    known = gates.dtype in (torch.float32, torch.bfloat16) and c.dtype == torch.float32
    possible = fused.enabled() and not torch.compiler.is_compiling() and gates.device.type == "cpu"
    if possible and known:
        h, c = _Cell.apply(gates, c)  # type: ignore[no-untyped-call]
        return h, c
    i, f, o, g = gates.chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


class _Cell(torch.autograd.Function):
    """Saved for backward: the gates as they are, and c before and after."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        shape = (len(c), *c.shape[2:], c.shape[1])
        gates, c = _pixels(gates), _pixels(c)
        h, c_next = torch.empty_like(c), torch.empty_like(c)
        _compiled().forward(gates, c, h, c_next)
        ctx.save_for_backward(gates, c, c_next)
        return _map(h, shape), _map(c_next, shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_h: Tensor, of_c_next: Tensor) -> tuple[Tensor, Tensor]:
        gates, c, c_next = ctx.saved_tensors
        shape = (len(of_h), *of_h.shape[2:], of_h.shape[1])
        of_gates, of_c = torch.empty_like(gates), torch.empty_like(c)
        of_h, of_c_next = _pixels(of_h).float(), _pixels(of_c_next).float()
        _compiled().backward(gates, c, c_next, of_h, of_c_next, of_gates, of_c)
        return _map(of_gates, (*shape[:-1], 4 * shape[-1])), _map(of_c, shape)


def _pixels(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B H W, C); a copy where memory is not channels-last."""
    return x.detach().permute(0, 2, 3, 1).reshape(-1, x.shape[1]).contiguous()


def _map(pixels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The reverse; shape (B, H, W, C)."""
    return pixels.view(shape).permute(0, 3, 1, 2)


@lru_cache
def _compiled() -> Any:
    from . import _lstm_cpu

    return _lstm_cpu
