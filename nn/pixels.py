"""Pixels in another order, their channels kept together: what a sub-pixel layer does in channels-last memory."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

BLOCK = 16  # numbers that the compiled kernels move at once


class Move(NamedTuple):
    """The pixels of an image, counted in axes of these sizes, in another order of the axes."""

    axes: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def inverse(self) -> Move:
        """From where the pixels went back to where they were."""
        return Move(
            tuple(self.axes[i] for i in self.order),
            tuple(self.order.index(i) for i in range(len(self.order))),
        )


def moved(x: Tensor, move: Move) -> Tensor:
    """(B, C, P, 1), P = prod(move.axes), to the same; both channels-last in memory."""
    batch, channels = x.shape[:2]
    pixels: Tensor = _Moved.apply(x.permute(0, 2, 3, 1).reshape(batch, *move.axes, channels), move)  # type: ignore[no-untyped-call]
    return pixels.view(batch, -1, 1, channels).permute(0, 3, 1, 2)


class _Moved(torch.autograd.Function):
    """(B, *axes, C) -> (B, *axes in order, C), contiguous. What stays together travels as numbers of up to 16 bytes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, move: Move) -> Tensor:
        ctx.move = move
        axes, order, shape = list(move.axes), list(move.order), (len(x), *move.axes, x.shape[-1])
        run = x.shape[-1]
        while order and order[-1] == len(axes) - 1:  # axes that stay last belong to the run
            run *= axes.pop()
            order.pop()
        there = x.contiguous().view(len(x), *axes, run)
        wide = [kind for size, kind in WIDE if run * x.element_size() % size == 0]
        there = there.view(wide[0]) if wide else there
        there = there.permute(0, *(i + 1 for i in order), len(order) + 1).contiguous()
        return there.view(x.dtype).view(len(x), *(shape[i + 1] for i in move.order), shape[-1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Moved.apply(grad, ctx.move.inverse), None  # type: ignore[no-untyped-call]


def pixel_by_pixel(convolution: nn.Conv2d, up: int) -> tuple[Tensor, Tensor]:
    """Its weight and bias, outputs numbered (i, j, f) where PixelShuffle has (f, i, j): whole pixels can be moved."""
    assert convolution.bias is not None
    weight, bias = (
        p.unflatten(0, (-1, up * up)).transpose(0, 1)
        for p in (convolution.weight, convolution.bias)
    )
    return weight.flatten(0, 1), bias.flatten()


WIDE = ((16, torch.complex128), (8, torch.float64), (4, torch.float32))
"""Bytes of a number that is copied at once; for fewer there are no kinds that are faster."""


@lru_cache
def blocks(move: Move, channels: int) -> Tensor | None:
    """Where every BLOCK numbers of an image (P, C) go, in blocks: (P C / BLOCK,) int32. None where some are parted."""
    pixels = math.prod(move.axes)
    if pixels * channels % BLOCK:
        return None
    number = np.arange(pixels * channels).reshape(*move.axes, channels)
    from_ = number.transpose(*move.order, len(move.order)).reshape(-1, BLOCK)
    first = from_[:, :1]
    if (first % BLOCK).any() or (from_ != first + np.arange(BLOCK)).any():
        return None
    to = np.empty(len(from_), np.int32)
    to[first[:, 0] // BLOCK] = np.arange(len(from_))
    return torch.from_numpy(to)
