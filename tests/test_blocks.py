"""The fast forms of the layers against torch's own, one module after the other, in fp64 with every gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from reprise.nn.blocks import Layer, SubPixelStack

from .straightforward import plainly


def with_gradients(
    function: Callable[[Tensor], Tensor], x: Tensor, module: nn.Module
) -> list[Tensor]:
    y = function(x)
    weight = torch.linspace(0, 9, y.numel(), dtype=y.dtype).cos().view(y.shape)
    return [y, *torch.autograd.grad((y * weight).sum(), [x, *module.parameters()])]


def drawn_anew(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


STACKS = [
    [Layer(1, 8, 4), Layer(1, 6, 2), Layer(1, 5, 2), Layer(3, 4), Layer(3, 1)],
    [Layer(3, 8), Layer(1, 6, 2), Layer(3, 5), Layer(1, 4, 3)],
    [Layer(1, 3), Layer(3, 3, 2)],
]


@pytest.mark.parametrize("layers", STACKS)
@pytest.mark.parametrize("final_plain", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_sub_pixel_stack_is_its_modules_in_turn(
    layers: list[Layer], final_plain: bool, layout: torch.memory_format
) -> None:
    stack = SubPixelStack(7, layers, final_plain=final_plain).double()
    drawn_anew(stack)
    x = torch.randn(2, 7, 3, 2, dtype=torch.double).to(memory_format=layout).requires_grad_()
    fast = with_gradients(stack, x, stack)
    plain = with_gradients(plainly(stack), x, stack)
    for ours, theirs in zip(fast, plain, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-11)


def test_a_map_of_one_pixel_is_enlarged_in_bf16_too() -> None:
    """Memory of one pixel has strides that say nothing."""
    stack = SubPixelStack(6, [Layer(1, 8, 4), Layer(3, 4, 2)]).bfloat16()
    drawn_anew(stack)
    x = torch.randn(3, 6, 1, 1).bfloat16()
    found = stack(x)
    exact = plainly(stack.double())(x.double())
    assert found.shape == (3, 4, 8, 8)
    assert (found - exact).norm() < 0.02 * exact.norm()
