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
    source, scale, shift = source.float(), scale.float(), shift.float()
    kind = _ByOperators if torch.compiler.is_compiling() else _Resample
    found: Tensor = kind.apply(source, scale, shift, side, add)  # type: ignore[no-untyped-call]
    return found


def _forward(source: Tensor, scale: Tensor, shift: Tensor, side: int, add: bool) -> Tensor:
    source, scale, shift = (part.contiguous() for part in (source, scale, shift))
    out = source.new_zeros(_shape(source, scale, side, add))
    _compiled().forward(source, scale, shift, out)
    return out


def _shape(source: Tensor, scale: Tensor, side: int, add: bool) -> tuple[int, ...]:
    return len(scale), 1 if add else scale.shape[1], source.shape[2], side, side


def _backward(
    source: Tensor, scale: Tensor, shift: Tensor, grad: Tensor, of_source: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Adds to of_source, if it is wanted; the gradients of scale and shift."""
    source, scale, shift = (part.contiguous() for part in (source, scale, shift))
    of_scale, of_shift = scale.new_zeros(scale.shape), shift.new_zeros(shift.shape)
    grad = grad.float().contiguous()
    _compiled().backward(source, scale, shift, grad, of_source, of_scale, of_shift)
    return of_scale, of_shift


class _Resample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: Tensor, scale: Tensor, shift: Tensor, side: int, add: bool
    ) -> Tensor:
        ctx.save_for_backward(source, scale, shift)
        return _forward(source, scale, shift, side, add)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, scale, shift = ctx.saved_tensors
        of_source = source.new_zeros(source.shape) if ctx.needs_input_grad[0] else None
        of_scale, of_shift = _backward(source, scale, shift, grad, of_source)
        return of_source, of_scale, of_shift, None, None


# The same as operators that torch's own compiler takes as they are; defined as those of nn/fused.py are.
# wanted: whether the gradient of the source is; else it is empty.

torch.library.define(
    "reprise::resample", "(Tensor source, Tensor scale, Tensor shift, int side, bool add) -> Tensor"
)
torch.library.define(
    "reprise::resample_backward",
    "(Tensor source, Tensor scale, Tensor shift, Tensor grad, bool wanted) -> (Tensor, Tensor, Tensor)",
)


def _in_shape(source: Tensor, scale: Tensor, shift: Tensor, side: int, add: bool) -> Tensor:
    return source.new_empty(_shape(source, scale, side, add))


def _backward_on_cpu(
    source: Tensor, scale: Tensor, shift: Tensor, grad: Tensor, wanted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    of_source = source.new_zeros(source.shape) if wanted else None
    of_scale, of_shift = _backward(source, scale, shift, grad, of_source)
    return source.new_empty(0) if of_source is None else of_source, of_scale, of_shift


def _backward_in_shape(
    source: Tensor, scale: Tensor, shift: Tensor, grad: Tensor, wanted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    of_source = source.new_empty(source.shape if wanted else 0)
    return of_source, scale.new_empty(scale.shape), shift.new_empty(shift.shape)


torch.library.impl("reprise::resample", "CPU", _forward)
torch.library.impl("reprise::resample_backward", "CPU", _backward_on_cpu)
torch.library.register_fake("reprise::resample", _in_shape)
torch.library.register_fake("reprise::resample_backward", _backward_in_shape)


class _ByOperators(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: Tensor, scale: Tensor, shift: Tensor, side: int, add: bool
    ) -> Tensor:
        ctx.save_for_backward(source, scale, shift)
        out: Tensor = torch.ops.reprise.resample(source, scale, shift, side, add)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        source, scale, shift = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0]
        of_source, of_scale, of_shift = torch.ops.reprise.resample_backward(
            source, scale, shift, grad, wanted
        )
        return of_source if wanted else None, of_scale, of_shift, None, None


@lru_cache
def _compiled() -> Any:
    from . import _resampling_cpu

    return _resampling_cpu
