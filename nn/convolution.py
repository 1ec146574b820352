"""Convolutions that torch's CPU kernels are slow at: of maps of a few pixels, of a few channels, and of grey images.

With few pixels the weights' gradient takes longer than all the rest; it is one product of two matrices: of what each
output pixel saw, and the gradient it received. Where each sees one pixel alone, or one all, it is a linear layer.

With few channels most of a vector is empty. In channels-last memory two neighbours in a row are one pixel of twice the
channels, without a copy, and a kernel of 3 x 3 is one of 3 x 3 such pairs, half of it zeros.

With one channel torch cannot tell one layout from the other, and copies the gradient. A kernel of 4 x 4 that moves by
two pixels is one of 2 x 2 blocks of 2 x 2 pixels that moves by one, and these have four channels.

Many maps of 4 x 4, as a likelihood with its particles has them, take a quarter of the products in another basis, where
no gradient is asked for: Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin & Gray, CVPR 2016).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .pixels import Move, moved

FEW = 16  # pixels; above, torch's own kernels are faster
MANY = 64  # maps of 4 x 4; below, another basis does not pay
NARROW = 8  # channels that come out, of at most twice as many; above, pairs are no faster


def convolve(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """layer(x), by `convolved` where that is the same."""
    k, stride = layer.kernel_size[0], layer.stride[0]
    square = (layer.kernel_size, layer.stride) == ((k, k), (stride, stride))
    plain = layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == "zeros"
    padding = layer.padding
    if not (square and plain and isinstance(padding, tuple) and padding[0] == padding[1]):
        found: Tensor = layer(x)
        return found
    return convolved(x, layer.weight, layer.bias, padding[0], stride)


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, stride: int = 1
) -> Tensor:
    """F.conv2d: (B, C, H, W), (C', C, k, k), (C',) -> (B, C', H', W')."""
    k, sides = weight.shape[-1], x.shape[2:]
    height, width = ((side + 2 * padding - k) // stride + 1 for side in sides)
    ours = x.device.type == "cpu"
    few = ours and height * width <= FEW
    if few and padding == 0 and (k == stride == 1 or sides == (k, k)):
        seen = x.permute(0, 2, 3, 1).reshape(len(x) * height * width, -1)
        pixels = F.linear(seen, weight.permute(0, 2, 3, 1).flatten(1), bias)
        return pixels.view(len(x), height, width, -1).permute(0, 3, 1, 2)
    if ours and not few and stride == 1 and _narrow(x, weight, padding):
        return _in_pairs(x, weight, bias)
    if ours and not few and _grey(x, weight, padding, stride):
        return _in_blocks(x, weight, bias, padding, stride)
    if not few or not torch.is_grad_enabled():
        if ours and stride == 1 and _minimal(x, weight, padding):
            return _filtered(x, weight, bias)
        return F.conv2d(x, weight, bias, stride, padding)
    x, weight = at_precision(x), at_precision(weight)
    bias = None if bias is None else at_precision(bias)
    found: Tensor = _Convolved.apply(x, weight, bias, padding, stride)  # type: ignore[no-untyped-call]
    return found


def at_precision(x: Tensor) -> Tensor:
    """x as autocast, where it is on, hands it to a convolution."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def _narrow(x: Tensor, weight: Tensor, padding: int) -> bool:
    """Whether a convolution is faster on pairs: in bf16 it is, in fp32 it is not."""
    lower = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    of_three = weight.shape[2:] == (3, 3) and padding == 1 and x.shape[3] % 2 == 0
    return lower and of_three and weight.shape[0] <= NARROW and weight.shape[1] <= 2 * NARROW


def _in_pairs(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.conv2d with padding 1: (B, C, H, W), (C', C, 3, 3), (C',) -> (B, C', H, W)."""
    batch, _, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(batch, height, width // 2, -1).permute(0, 3, 1, 2)
    with torch.autocast(x.device.type, enabled=False):
        kernel = torch.einsum("ocyd,jibd->joicyb", weight, PAIRS.to(weight))
    kernel = kernel.flatten(2, 3).flatten(0, 1)  # (2 C', 2 C, 3, 3)
    pairs = F.conv2d(x, kernel, None if bias is None else bias.repeat(2), padding=1)
    return pairs.permute(0, 2, 3, 1).reshape(batch, height, width, -1).permute(0, 3, 1, 2)


def _pairs() -> Tensor:
    places = torch.arange(2), torch.arange(2), torch.arange(3), torch.arange(3)
    j, i, b, d = torch.meshgrid(*places, indexing="ij")
    return (2 * (b - 1) + i - j == d - 1).float()


PAIRS = _pairs()
"""(2, 2, 3, 3): 1 where pixel j of a pair sees, with column d of a kernel, pixel i of its pair's neighbour b."""


def _grey(x: Tensor, weight: Tensor, padding: int, stride: int) -> bool:
    """Whether x has one channel, nobody asks for its gradient, and the kernel is made of whole blocks."""
    sides = (weight.shape[-1], *(side + 2 * padding for side in x.shape[2:]))
    whole = stride > 1 and all(side % stride == 0 for side in sides)
    return whole and x.shape[1] == 1 and not x.requires_grad


def _in_blocks(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, stride: int) -> Tensor:
    """F.conv2d: (B, C, H, W), (C', C, k, k), (C',) -> (B, C', H', W'), k and H + 2 padding multiples of the stride."""
    batch, channels, height, width = x.shape
    rows, columns = ((side + 2 * padding) // stride for side in (height, width))
    x = F.pad(at_precision(x), (padding, padding, padding, padding))
    x = x.permute(0, 2, 3, 1).reshape(batch, -1, 1, channels).permute(0, 3, 1, 2)
    x = moved(x, Move((rows, stride, columns, stride), (0, 2, 1, 3)))
    x = x.permute(0, 2, 3, 1).reshape(batch, rows, columns, -1).permute(0, 3, 1, 2)
    side = weight.shape[-1] // stride
    blocks = weight.unflatten(3, (side, stride)).unflatten(2, (side, stride))
    kernel = blocks.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)  # (C', s s C, k / s, k / s)
    return F.conv2d(x, kernel, bias)


def _minimal(x: Tensor, weight: Tensor, padding: int) -> bool:
    """Whether x are many maps of 4 x 4 in fp32, and the kernel keeps their size."""
    exact = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    mine = x.shape[2:] == (4, 4) and weight.shape[2:] == (3, 3) and padding == 1
    return exact and mine and len(x) >= MANY and not torch.is_grad_enabled()


def _filtered(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.conv2d with padding 1: (B, C, 4, 4), (C', C, 3, 3), (C',) -> (B, C', 4, 4), in fp32."""
    of_x, of_weight, back = _winograd()
    maps = of_x @ x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, 36, C)
    kernels = of_weight @ weight.permute(2, 3, 1, 0).reshape(9, -1)
    products = maps.transpose(0, 1) @ kernels.view(36, x.shape[1], -1)  # (36, B, C')
    pixels: Tensor = back @ products.transpose(0, 1)  # (B, 16, C')
    if bias is not None:
        pixels += bias
    return pixels.view(len(x), 4, 4, -1).permute(0, 3, 1, 2)


@lru_cache
def _winograd() -> tuple[Tensor, Tensor, Tensor]:
    """The bases of a map (36, 16), of a kernel (36, 9), and of what comes out (16, 36).

    Toom and Cook: two polynomials of degrees 3 and 2 are multiplied by their values at five points and at infinity. A
    convolution is the transpose of that. Points and the size of the rows are such that little is cancelled.
    """
    values = np.vander([0, 1, -1, 0.5, -2], 6, increasing=True)
    values = np.vstack([values, np.eye(6)[5]])
    back = np.vstack([values[:5, :4], np.eye(4)[3]]).T
    of_weight = np.vstack([values[:5, :3], np.eye(3)[2]])
    of_x = np.linalg.inv(values).T
    size = np.sqrt(np.abs(of_x).sum(1) / np.abs(of_weight).sum(1))[:, None]
    of_x, of_weight = of_x / size, of_weight * size
    inside = np.kron(of_x[:, 1:5], of_x[:, 1:5])  # what lies around the map is zero
    pair = np.kron(of_weight, of_weight), np.kron(back, back)
    of_map, of_kernel, of_pixels = (torch.from_numpy(m).float() for m in (inside, *pair))
    return of_map, of_kernel, of_pixels


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, stride: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.stride, ctx.has_bias = padding, stride, bias is not None
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, one = ((n, n) for n in (ctx.stride, ctx.padding, 1))
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x, _, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, stride, padding, one, False, (0, 0), 1, (True, False, False)
            )
        received = grad.permute(0, 2, 3, 1).flatten(0, 2)  # (B H' W', C')
        of_weight = received.T @ _seen(x, weight.shape[-1], ctx.padding, ctx.stride)
        k, inputs = weight.shape[-1], weight.shape[1]
        of_weight = of_weight.view(-1, k, k, inputs).permute(0, 3, 1, 2)
        return of_x, of_weight, received.sum(0) if ctx.has_bias else None, None, None


def _seen(x: Tensor, k: int, padding: int, stride: int) -> Tensor:
    """What each pixel of the output sees of (B, C, H, W): (B H' W', k k C)."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    windows = padded.unfold(1, k, stride).unfold(2, k, stride)  # (B, H', W', C, k, k)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
