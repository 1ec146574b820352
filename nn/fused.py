"""Activation and group norm in one pass: what torch's CPU kernels need five for.

`activate_and_norm(x, act, norm)` is `norm(act(x))` for act CELU or ReLU. Where an engine asks for it, on a CPU, with
numba installed (the extra `fast`) and channels-last memory, it is compiled code: forward reads x twice and writes
once, backward reads x and the incoming gradient twice and writes once, and nothing but x is kept between them. Sums are
fp32 in both precisions. Where the pixels are moved after (nn/pixels.py), they are written there. Everywhere else
it is the two modules, one after the other; tests/test_fused.py holds one against the other.

`activate_norm_and_follow` is that and what follows in a decoder, where nobody asks for a gradient;
tests/test_sequel.py holds it against the modules.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from .pixels import BLOCK, Move, blocks, moved, pixel_by_pixel

TILE = 128  # floats that are worked on at once: eight vectors of AVX-512
NARROW = 8  # channels that the convolution of a `Sequel` sees
BEFORE = 16  # channels that its sub-pixel layer sees

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
    if not (_enabled and fusible(act, norm) and x.is_cpu and is_dense(x)):
        plain: Tensor = norm(act(x))
        return plain if move is None else moved(plain, move)
    alpha = 1.0 if isinstance(act, nn.CELU) else 0.0
    if torch.compiler.is_compiling():
        axes, order = ([], []) if move is None else (list(move.axes), list(move.order))
        found: Tensor = _ByOperators.apply(  # type: ignore[no-untyped-call]
            x, norm.weight, norm.bias, norm.num_groups, norm.eps, alpha, axes, order
        )
        return found
    to = None if move is None else blocks(move, x.shape[1])
    out: Tensor = _ActivateAndNorm.apply(  # type: ignore[no-untyped-call]
        x, norm.weight, norm.bias, norm.num_groups, norm.eps, alpha, to
    )
    return out if move is None or to is not None else moved(out, move)


class SubPixel(NamedTuple):
    """A sub-pixel layer of kernel 1."""

    factor: int
    convolution: nn.Conv2d
    act: nn.Module
    norm: nn.GroupNorm


class Sequel(NamedTuple):
    """What follows a norm: a sub-pixel layer of kernel 1, a plain convolution of kernel 3, or one after the other.

    sides: H and W of the image that comes out; move: its pixels come to stand so, before the convolution.
    """

    layer: SubPixel | None
    convolution: nn.Conv2d | None
    sides: tuple[int, int]
    move: Move | None


def activate_norm_and_follow(
    x: Tensor, act: nn.Module, norm: nn.GroupNorm, sequel: Sequel
) -> Tensor:
    """`sequel` of norm(act(x)): (B, C, P, 1) or (B, C, H', W') -> (B, C', H, W).

    For what `can_follow`, where no gradient is asked for: no map between x and what comes out is written.
    """
    layer, convolution, sides, move = sequel
    last = norm if layer is None else layer.norm
    channels = last.num_channels if convolution is None else convolution.out_channels
    if convolution is None:
        out = x.new_empty(len(x), *sides, channels).permute(0, 3, 1, 2)
    else:
        out = x.new_empty(len(x), channels, *sides)
    alpha = 1.0 if isinstance(act, nn.CELU) else 0.0
    widening = None
    if layer is not None:
        widening = *pixel_by_pixel(layer.convolution, layer.factor), layer.norm
    ending = None if convolution is None else (convolution.weight, convolution.bias)
    _of_sequel().follow(x, norm, alpha, widening, ending, move, out)
    return out


def can_follow(x: Tensor, act: nn.Module, norm: nn.GroupNorm, sequel: Sequel) -> bool:
    """Whether `activate_norm_and_follow` takes these: no gradients, fp32, few channels, whole blocks."""
    if torch.is_grad_enabled() or not _enabled or torch.compiler.is_compiling():
        return False
    layer, convolution, (_, width), move = sequel
    here = x.device.type == "cpu" and x.dtype == torch.float32 and is_dense(x)
    exact = here and not torch.is_autocast_enabled("cpu") and norm.weight.dtype == torch.float32
    whole = x.numel() > 0 and x.shape[1:].numel() % TILE == 0
    if not (exact and whole and norm.num_groups == 1 and fusible(act, norm)):
        return False
    channels = x.shape[1]
    if layer is not None:
        alike = type(act) is type(layer.act) and fusible(layer.act, layer.norm)
        alone = _is_plain(layer.convolution, 1) and layer.norm.num_groups == 1
        if not (alike and alone and channels == BEFORE and layer.factor == 2):
            return False
        channels = layer.norm.num_channels
    if convolution is not None:
        few = channels == NARROW >= convolution.out_channels and width * NARROW % BLOCK == 0
        if not (few and _is_plain(convolution, 3)):
            return False
    elif channels != BEFORE:
        return False
    return move is None or blocks(move, channels) is not None


def _is_plain(convolution: nn.Conv2d, kernel: int) -> bool:
    """Whether it is a square kernel of so many pixels that keeps an image's size, and has a bias."""
    side = (kernel - 1) // 2
    shape = convolution.kernel_size, convolution.padding, convolution.stride, convolution.dilation
    ordinary = convolution.groups == 1 and convolution.padding_mode == "zeros"
    mine = shape == ((kernel, kernel), (side, side), (1, 1), (1, 1))
    return mine and ordinary and convolution.bias is not None


def fusible(act: nn.Module, norm: nn.Module) -> bool:
    """Whether the two modules are of a kind that has a kernel."""
    known = isinstance(act, nn.ReLU) or (isinstance(act, nn.CELU) and act.alpha == 1)
    return known and isinstance(norm, nn.GroupNorm) and norm.affine


def is_dense(x: Tensor) -> bool:
    """Whether a kernel can read x (B, C, H, W): channels-last memory, fp32 or bf16."""
    known = x.dtype in (torch.float32, torch.bfloat16)
    return known and x.is_contiguous(memory_format=torch.channels_last)


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    alpha: float,
    to: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The result, and (B, 2, groups) mean and 1 / standard deviation."""
    forward, _ = _compiled()
    out, moments = torch.empty_like(x), torch.empty(len(x), 2, groups)
    forward(x, tile(x), weight.float(), bias.float(), out, moments, eps, alpha, to)
    return out, moments


def _backward(
    x: Tensor, weight: Tensor, moments: Tensor, grad: Tensor, alpha: float, to: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The gradients of x, and of weight and bias, (2, C)."""
    _, backward = _compiled()
    if not (is_dense(grad) and grad.dtype == x.dtype):
        grad = grad.to(x.dtype).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    of_x = torch.empty_like(x)
    return of_x, backward(x, tile(x), weight.float(), moments, grad, of_x, alpha, to)


class _ActivateAndNorm(torch.autograd.Function):
    """Saved for backward: x, the gain, and the moments."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, alpha: float,
        to: Tensor | None,
    ) -> Tensor:  # fmt: skip
        out, moments = _forward(x, weight, bias, groups, eps, alpha, to)
        ctx.save_for_backward(x, weight, moments)
        ctx.alpha, ctx.to = alpha, to
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, moments = ctx.saved_tensors
        of_x, (of_weight, of_bias) = _backward(x, weight, moments, grad, ctx.alpha, ctx.to)
        return of_x, of_weight, of_bias, None, None, None, None


# The same as operators that torch's own compiler takes as they are. axes and order: of a Move, or empty. Defined with
# torch.library's lower half: its `custom_op` looks for aliases in every call, for longer than a small norm takes.

_REST = "float alpha, int[] axes, int[] order"
torch.library.define(
    "reprise::activate_and_norm",
    f"(Tensor x, Tensor weight, Tensor bias, int groups, float eps, {_REST}) -> (Tensor, Tensor)",
)
torch.library.define(
    "reprise::activate_and_norm_backward",
    f"(Tensor x, Tensor weight, Tensor moments, Tensor grad, {_REST}) -> (Tensor, Tensor)",
)


@torch.library.impl("reprise::activate_and_norm", "CPU")
def _on_cpu(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, alpha: float, axes: list[int], order: list[int]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    move = Move(tuple(axes), tuple(order))
    to = blocks(move, x.shape[1]) if axes else None
    out, moments = _forward(_densely(x), weight, bias, groups, eps, alpha, to)
    return (moved(out, move) if axes and to is None else out), moments


def _in_shape(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, alpha: float, axes: list[int], order: list[int]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    out = torch.empty_like(x, memory_format=torch.channels_last)
    return out, x.new_empty((len(x), 2, groups), dtype=torch.float32)


@torch.library.impl("reprise::activate_and_norm_backward", "CPU")
def _backward_on_cpu(
    x: Tensor, weight: Tensor, moments: Tensor, grad: Tensor, alpha: float, axes: list[int], order: list[int]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    move = Move(tuple(axes), tuple(order))
    to = blocks(move, x.shape[1]) if axes else None
    grad = moved(grad, move.inverse) if axes and to is None else grad
    return _backward(_densely(x), weight, moments, grad, alpha, to)


def _backward_in_shape(
    x: Tensor, weight: Tensor, moments: Tensor, grad: Tensor, alpha: float, axes: list[int], order: list[int]
) -> tuple[Tensor, Tensor]:  # fmt: skip
    of_x = torch.empty_like(x, memory_format=torch.channels_last)
    return of_x, x.new_empty((2, x.shape[1]), dtype=torch.float32)


torch.library.register_fake("reprise::activate_and_norm", _in_shape)
torch.library.register_fake("reprise::activate_and_norm_backward", _backward_in_shape)


class _ByOperators(torch.autograd.Function):
    """The operators know nothing of gradients: one that does is two calls of Python, and for a compiler no better."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, alpha: float,
        axes: list[int], order: list[int],
    ) -> Tensor:  # fmt: skip
        out: Tensor
        out, moments = torch.ops.reprise.activate_and_norm(
            x, weight, bias, groups, eps, alpha, axes, order
        )
        ctx.save_for_backward(x, weight, moments)
        ctx.alpha, ctx.axes, ctx.order = alpha, axes, order
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, moments = ctx.saved_tensors
        of_x, of_tile = torch.ops.reprise.activate_and_norm_backward(
            x, weight, moments, grad, ctx.alpha, ctx.axes, ctx.order
        )
        return of_x, of_tile[0], of_tile[1], None, None, None, None, None


def _densely(x: Tensor) -> Tensor:
    return x if is_dense(x) else x.contiguous(memory_format=torch.channels_last)


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
def _of_sequel() -> Any:
    from . import _sequel_cpu

    return _sequel_cpu


@lru_cache
def _compiled() -> tuple[Any, Any]:
    from ._fused_cpu import backward, forward

    return forward, backward
