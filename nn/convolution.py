"""Convolutions that torch's CPU kernels are slow at: of maps of a few pixels, and of a few channels.

With few pixels the weights' gradient takes longer than all the rest; it is one product of two matrices: of what each
output pixel saw, and the gradient it received. Where each sees one pixel alone, or one all, it is a linear layer.

With few channels most of a vector is empty. In channels-last memory two neighbours in a row are one pixel of twice the
channels, without a copy, and a kernel of 3 x 3 is one of 3 x 3 such pairs, half of it zeros.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 16  # pixels; above, torch's own kernels are faster
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
    if layer.bias is None:
        return F.conv2d(x, layer.weight, None, stride, padding)
    return convolved(x, layer.weight, layer.bias, padding[0], stride)


def convolved(x: Tensor, weight: Tensor, bias: Tensor, padding: int, stride: int = 1) -> Tensor:
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
    if not few or not torch.is_grad_enabled():
        return F.conv2d(x, weight, bias, stride, padding)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    found: Tensor = _Convolved.apply(x, weight, bias, padding, stride)  # type: ignore[no-untyped-call]
    return found


def _narrow(x: Tensor, weight: Tensor, padding: int) -> bool:
    """Whether a convolution is faster on pairs: in bf16 it is, in fp32 it is not."""
    lower = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    of_three = weight.shape[2:] == (3, 3) and padding == 1 and x.shape[3] % 2 == 0
    return lower and of_three and weight.shape[0] <= NARROW and weight.shape[1] <= 2 * NARROW


def _in_pairs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.conv2d with padding 1: (B, C, H, W), (C', C, 3, 3), (C',) -> (B, C', H, W)."""
    batch, _, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(batch, height, width // 2, -1).permute(0, 3, 1, 2)
    with torch.autocast(x.device.type, enabled=False):
        kernel = torch.einsum("ocyd,jibd->joicyb", weight, PAIRS.to(weight))
    kernel = kernel.flatten(2, 3).flatten(0, 1)  # (2 C', 2 C, 3, 3)
    pairs = F.conv2d(x, kernel, bias.repeat(2), padding=1)
    return pairs.permute(0, 2, 3, 1).reshape(batch, height, width, -1).permute(0, 3, 1, 2)


def _pairs() -> Tensor:
    places = torch.arange(2), torch.arange(2), torch.arange(3), torch.arange(3)
    j, i, b, d = torch.meshgrid(*places, indexing="ij")
    return (2 * (b - 1) + i - j == d - 1).float()


PAIRS = _pairs()
"""(2, 2, 3, 3): 1 where pixel j of a pair sees, with column d of a kernel, pixel i of its pair's neighbour b."""


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: int, stride: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.stride = padding, stride
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
        return of_x, of_weight, received.sum(0), None, None


def _seen(x: Tensor, k: int, padding: int, stride: int) -> Tensor:
    """What each pixel of the output sees of (B, C, H, W): (B H' W', k k C)."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    windows = padded.unfold(1, k, stride).unfold(2, k, stride)  # (B, H', W', C, k, k)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
