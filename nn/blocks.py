"""The layers that GNM and its baselines are made of (GNM's supplement, section 4).

In all of them the activation comes *before* the normalisation, and the normalisation is GroupNorm with one
group: zero mean and unit variance over (C, H, W), with a gain and a shift per channel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .batch_norm import norm_and_elu
from .channels_last import ELU
from .convolution import at_precision, convolve, convolved
from .fused import (
    Sequel,
    SubPixel,
    activate_and_norm,
    activate_norm_and_follow,
    can_follow,
    fusible,
)
from .gathered import Gathered
from .lstm import cell
from .pixels import Move, moved, pixel_by_pixel

Activation = Callable[[], nn.Module]


class Layer(NamedTuple):
    """One convolution: kernel side, output channels, stride (ConvStack) or upscaling (SubPixelStack)."""

    kernel: int
    channels: int
    factor: int = 1


class Stack(nn.Sequential):
    """nn.Sequential, in which a norm and the activation beside it are one operation where they can be."""

    def forward(self, x: Tensor) -> Tensor:
        """The modules in order."""
        return in_order(self, x)


class ConvStack(Stack):
    """Convolution, activation, GroupNorm per layer; padding (k - 1) // 2. (B, C, H, W) -> (B, C', H', W').

    final_plain: the last layer is a convolution alone.
    """

    def __init__(
        self, channels: int, layers: Sequence[Layer], *, act: Activation = nn.CELU, final_plain: bool = False
    ) -> None:  # fmt: skip
        modules: list[nn.Module] = []
        for kernel, width, stride in layers:
            modules += [
                nn.Conv2d(channels, width, kernel, stride, (kernel - 1) // 2),
                act(),
                nn.GroupNorm(1, width),
            ]
            channels = width
        super().__init__(*(modules[:-2] if final_plain else modules))


class Run(NamedTuple):
    """Sub-pixel layers that are computed together, (factor, modules) each: one, or several of kernel 1.

    then, last: what is made with the norm at its end: a sub-pixel layer of kernel 1 that is alone, and the plain
    convolution with which the stack ends.
    """

    pointwise: bool
    layers: list[tuple[int, list[nn.Module]]]
    then: tuple[int, list[nn.Module]] | None = None
    last: nn.Conv2d | None = None

    @property
    def is_single(self) -> bool:
        """Whether it is one layer of kernel 1, with a norm."""
        return self.pointwise and len(self.layers) == 1 and len(self.layers[0][1]) > 2

    @property
    def is_in_place(self) -> bool:
        """Whether it is one layer whose pixels stay as they are."""
        return not self.pointwise and self.layers[0][0] == 1


class SubPixelStack(nn.Sequential):
    """Convolution to f * u * u channels, PixelShuffle(u), activation, GroupNorm per layer.

    (B, C, H, W) -> (B, C', U H, U W), U the product of the factors. Shi et al., CVPR 2016.
    final_plain: the last layer has neither activation nor normalisation.

    Layers with kernel 1 act on every pixel alone. A run of them is computed as matrix products over pixels in whatever
    order the factors leave them, with one rearrangement at its end. Everywhere the channels are computed in the order
    in which PixelShuffle can move whole pixels. Calling the modules in turn gives the same numbers.
    """

    def __init__(
        self, channels: int, layers: Sequence[Layer], *, act: Activation = nn.CELU, final_plain: bool = True
    ) -> None:  # fmt: skip
        stages: list[list[nn.Module]] = []
        for kernel, width, up in layers:
            convolution = nn.Conv2d(channels, width * up * up, kernel, 1, (kernel - 1) // 2)
            shuffle = [nn.PixelShuffle(up)] if up > 1 else []
            stages.append([convolution, *shuffle, act(), nn.GroupNorm(1, width)])
            channels = width
        if final_plain:
            del stages[-1][-2:]
        super().__init__(*itertools.chain(*stages))
        ends = final_plain and len(layers) > 1 and layers[-1].factor == 1
        last = stages.pop()[0] if ends else None
        runs: list[Run] = []
        for layer, stage in zip(layers, stages, strict=False):
            if layer.kernel == 1 and runs and runs[-1].pointwise:
                runs[-1].layers.append((layer.factor, stage))
            else:
                runs.append(Run(layer.kernel == 1, [(layer.factor, stage)]))
        if isinstance(last, nn.Conv2d):
            runs[-1] = runs[-1]._replace(last=last)
        for at in reversed(range(1, len(runs))):
            before, run = runs[at - 1 : at + 1]
            if before.is_in_place and run.is_single:
                runs[at - 1 : at + 1] = [before._replace(then=run.layers[0], last=run.last)]
        self._runs = runs

    def forward(self, x: Tensor) -> Tensor:
        """The layers in order."""
        for run in self._runs:
            up, stage = run.layers[0]
            if run.pointwise:
                x = _pointwise(x, run)
            elif up > 1:
                x = _upscaled(x, up, stage, run.last)
            else:
                x = in_order(stage, x, sequel=_sequel(run.then, run.last, *x.shape[2:]))
        return x


def _pointwise(x: Tensor, run: Run) -> Tensor:
    """Layers of kernel 1, and the last convolution: (B, C, H, W) -> (B, C', U H, U W)."""
    batch, _, height, width = x.shape
    factors = [up for up, _ in run.layers for _ in range(2)]
    rows, columns = range(2, len(factors) + 2, 2), range(3, len(factors) + 2, 2)
    move = Move((height, width, *factors), (0, *rows, 1, *columns))
    scale = math.prod(factors[::2])
    # (B, C, P, 1) in channels-last memory: pixels ordered by (h, w, u_1, u_1, u_2, u_2, ...)
    x = x.permute(0, 2, 3, 1).reshape(batch, -1, 1, x.shape[1]).permute(0, 3, 1, 2)
    for up, stage in run.layers[:-1]:
        x = _stage(x, up, stage)
    up, stage = run.layers[-1]
    height, width = height * scale, width * scale
    x = _stage(x, up, stage, move, _sequel(None, run.last, height, width, move))
    return _image(x, height, width)


def _upscaled(x: Tensor, up: int, stage: list[nn.Module], last: nn.Conv2d | None) -> Tensor:
    """One sub-pixel layer, whatever its kernel, and the last convolution: (B, C, H, W) -> (B, C', u H, u W)."""
    height, width = x.shape[2:]
    move = _shuffle(height, width, up)
    x = _stage(x, up, stage, move, _sequel(None, last, height * up, width * up, move))
    return _image(x, height * up, width * up)


def _shuffle(height: int, width: int, up: int) -> Move:
    """Pixels (h, w, i, j) become (h, i, w, j)."""
    return Move((height, width, up, up), (0, 2, 1, 3))


def _stage(
    x: Tensor, up: int, stage: list[nn.Module], move: Move | None = None, sequel: Sequel | None = None
) -> Tensor:  # fmt: skip
    """A sub-pixel layer whose pixels stay where they are, or are moved: (B, C, H, W) -> (B, C', u u H W, 1)."""
    convolution, *rest = _without_shuffle(stage)
    assert isinstance(convolution, nn.Conv2d)
    x = convolved(x, *pixel_by_pixel(convolution, up), padding=int(convolution.padding[0]))
    batch, channels = x.shape[:2]
    x = x.permute(0, 2, 3, 1).reshape(batch, -1, 1, channels // (up * up)).permute(0, 3, 1, 2)
    return in_order(rest, x, move, sequel)


def _without_shuffle(stage: list[nn.Module]) -> list[nn.Module]:
    return [module for module in stage if not isinstance(module, nn.PixelShuffle)]


def _image(x: Tensor, height: int, width: int) -> Tensor:
    """(B, C, H W, 1), or an image as it is, as (B, C, H, W)."""
    return x.permute(0, 2, 3, 1).reshape(len(x), height, width, -1).permute(0, 3, 1, 2)


def _sequel(
    then: tuple[int, list[nn.Module]] | None,
    last: nn.Conv2d | None,
    height: int,
    width: int,
    move: Move | None = None,
) -> Sequel | None:
    """What follows an image of these sides, whose pixels are moved first where nothing is between."""
    if then is None:
        return None if last is None else Sequel(None, last, (height, width), move)
    up, stage = then
    convolution, act, norm = _without_shuffle(stage)
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.GroupNorm)
    layer = SubPixel(up, convolution, act, norm)
    return Sequel(layer, last, (height * up, width * up), _shuffle(height, width, up))


def in_order(
    modules: Iterable[nn.Module], x: Tensor, move: Move | None = None, sequel: Sequel | None = None
) -> Tensor:
    """What nn.Sequential does, a norm and its activation in one; then pixels are moved, and the sequel follows."""
    queue = list(modules)
    while queue:
        module = queue.pop(0)
        if queue and fusible(module, norm := queue[0]):
            assert isinstance(norm, nn.GroupNorm)
            del queue[0]
            if sequel is not None and not queue and can_follow(x, module, norm, sequel):
                return activate_norm_and_follow(x, module, norm, sequel)
            x = activate_and_norm(x, module, norm, None if queue else move)
            move = move if queue else None
        elif queue and isinstance(module, nn.BatchNorm2d) and isinstance(queue[0], ELU):
            del queue[0]
            x = norm_and_elu(x, module)
        else:
            x = convolve(x, module) if isinstance(module, nn.Conv2d) else module(x)
    x = x if move is None else moved(x, move)
    if sequel is None:
        return x
    if sequel.layer is not None:
        up, *stage = sequel.layer
        return _pointwise(x, Run(True, [(up, stage)], last=sequel.convolution))
    x = _image(x, *sequel.sides)
    return x if sequel.convolution is None else convolve(x, sequel.convolution)


class MLP(nn.Sequential):
    """Linear, CELU, LayerNorm per layer. (B, sizes[0]) -> (B, sizes[-1]).

    final_plain: the last layer is linear alone.
    """

    def __init__(self, sizes: Sequence[int], *, final_plain: bool = True) -> None:
        modules: list[nn.Module] = []
        for inner, outer in itertools.pairwise(sizes):
            modules += [Gathered(inner, outer), nn.CELU(), nn.LayerNorm(outer)]
        super().__init__(*(modules[:-2] if final_plain else modules))


class Unrolled(NamedTuple):
    """A ConvLSTM between two steps. h, c: (B, hidden, grid, grid), (1, ...) where all images share them.

    same: what inputs that are the same in every step add to the gates, with the bias, (B, 4 hidden, grid, grid); or
    None, and there is a bias. weight: of the inputs to come, and of h.
    """

    h: Tensor
    c: Tensor
    weight: Tensor
    bias: Tensor | None
    same: Tensor | None = None


class ConvLSTM(nn.Module):
    """Convolutional LSTM cell: no peepholes, no forget bias; learned initial states (GNM's code; Algorithm 1: zero).

    One convolution on [inputs, h] gives the gates in the order input, forget, output, candidate. It is linear: inputs
    that stay the same are convolved once, when it starts, and what all images share once for all of them.
    """

    def __init__(self, channels: int, hidden: int, grid: int, kernel: int = 1) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels + hidden, 4 * hidden, kernel, padding=(kernel - 1) // 2)
        self.h_0 = nn.Parameter(torch.zeros(1, hidden, grid, grid))
        self.c_0 = nn.Parameter(torch.zeros(1, hidden, grid, grid))

    def start(self, x: Tensor | None = None, *, in_next: int = 0) -> Unrolled:
        """Before its first step. x: (B, C, grid, grid), which is the first input in every step.

        in_next: of how many inputs after it x is a summand too. The steps are given the rest of these, and all others.
        """
        assert self.gates.bias is not None
        weight, bias = at_precision(self.gates.weight), at_precision(self.gates.bias)
        if x is None:
            return Unrolled(self.h_0, self.c_0, weight, bias)
        channels = x.shape[1]
        of_x, weight = weight.split([channels, weight.shape[1] - channels], 1)
        for other in weight[:, : in_next * channels].split(channels, 1):
            of_x = of_x + other
        same = convolved(x, of_x, bias, self._padding)
        return Unrolled(self.h_0, self.c_0, weight, None, same)

    def forward(self, inputs: Sequence[Tensor], state: Unrolled) -> Unrolled:
        """One step. inputs: maps (B, ., grid, grid), or (1, ...), that are concatenated."""
        parts = [*inputs, state.h]
        batch = max(len(part) for part in parts)
        seen = torch.cat([part.expand(batch, -1, -1, -1) for part in parts], 1)
        gates = convolved(seen, state.weight, state.bias, self._padding)
        gates = gates if state.same is None else state.same + gates
        h, c = cell(gates, state.c.expand(len(gates), -1, -1, -1))
        return state._replace(h=h, c=c)

    @property
    def _padding(self) -> int:
        return int(self.gates.padding[0])


def image_encoder(channels: int, width: int, size: int) -> ConvStack:
    """Image (B, C, size, size) -> feature map (B, width, 4, 4). Supplement Table 4; the last layer is not plain.

    width: 128 (Arrow room) or 64 (MNIST), the cap on the channels. size: 8, 16, 32, 64 or 128; below 128 the first
    layers of stride 2 are left out, one per halving, so that the map stays 4 x 4.
    """
    layers = [
        Layer(4, 16, 2), Layer(3, 16), Layer(4, 32, 2), Layer(3, 32), Layer(4, 64, 2), Layer(3, 64),
        Layer(4, 128, 2), Layer(3, 128), Layer(4, 128, 2),
    ]  # fmt: skip
    for _ in range({8: 4, 16: 3, 32: 2, 64: 1, 128: 0}[size]):
        layers.remove(next(layer for layer in layers if layer.factor == 2))
    return ConvStack(channels, [Layer(k, min(c, width), s) for k, c, s in layers])


def image_decoder(channels: int, out: int, size: int) -> SubPixelStack:
    """Feature map (B, channels, 4, 4) -> logits of the mean image (B, out, size, size). Supplement Table 9, ReLU.

    A canvas of 64 px has one stage less: the second of the two of 16 channels.
    """
    layers = [
        Layer(3, 128), Layer(1, 64, 2), Layer(3, 64), Layer(1, 32, 2), Layer(3, 32), Layer(1, 16, 2), Layer(3, 16),
        Layer(1, 16, 2), Layer(3, 16), Layer(1, 8, 2), Layer(3, out),
    ]  # fmt: skip
    if size == 64:
        del layers[7:9]
    return SubPixelStack(channels, layers, act=nn.ReLU)


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them, none at the end."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def tanh_mlp(inner: int, outer: int, *, hidden: int = 2, width: int = 256) -> nn.Sequential:
    """`hidden` layers of `width` with tanh, then a linear one."""
    sizes = [inner, *[width] * hidden]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outer))
