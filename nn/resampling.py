"""Boxes cut out and pasted by compiled code: what nn/spatial_transformer.py says in matrices, without the matrices.

A row of an interpolation matrix has two entries, so that a pixel of the result is made of four; here they are looked
up, and only where a box is. Used by crop, paste and paste_sum where an engine asks for compiled kernels
(nn/fused.py), in fp32 whatever the precision of the network; tests/test_resampling.py holds the two together.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from . import fused


def possible(source: Tensor, scale: Tensor) -> bool:
    """Whether the compiled kernels are asked for, and are for tensors like these."""
    known = (torch.float32, torch.bfloat16)
    on_cpu = source.device.type == "cpu" and source.dtype in known and scale.dtype in known
    return fused.enabled() and on_cpu


def resample(source: Tensor, scale: Tensor, shift: Tensor, side: int, add: bool) -> Tensor:
    """A_y · source · A_xᵀ for each box: (B, O or 1, C, G, G), (B, O, 2), (B, O, 2) -> (B, O, C, side, side).

    Boxes are those of `interpolation`. One source may serve all boxes. add: their sum, (B, 1, C, side, side).
    """
    return _Resample.apply(source.float(), scale.float(), shift.float(), side, add)  # type: ignore[no-any-return, no-untyped-call]


class _Resample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: Tensor, scale: Tensor, shift: Tensor, side: int, add: bool
    ) -> Tensor:
        source, scale, shift = (part.contiguous() for part in (source, scale, shift))
        batch, objects = scale.shape[:2]
        out = source.new_zeros(batch, 1 if add else objects, source.shape[2], side, side)
        _compiled().forward(source, scale, shift, out)
        ctx.save_for_backward(source, scale, shift)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, scale, shift = ctx.saved_tensors
        of_source = torch.zeros_like(source) if ctx.needs_input_grad[0] else None
        of_scale, of_shift = torch.zeros_like(scale), torch.zeros_like(shift)
        _compiled().backward(
            source, scale, shift, grad.float().contiguous(), of_source, of_scale, of_shift
        )
        return of_source, of_scale, of_shift, None, None


@lru_cache
def _compiled() -> Any:
    from . import _resampling_cpu

    return _resampling_cpu
