"""The convolution that ends a decoder, made with the norm before it, says what torch's modules say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reprise.nn import fused
from reprise.nn.blocks import Activation, Layer, SubPixelStack
from reprise.nn.fused import kernels
from reprise.training.engine import choose, computing

pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")


class Counted:
    """How often the pass is taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        ended = fused.activate_norm_and_convolve

        def counted(*given: Any) -> Tensor:
            self.times += 1
            return ended(*given)

        monkeypatch.setattr("reprise.nn.blocks.activate_norm_and_convolve", counted)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def stack(layers: list[Layer], act: Activation) -> SubPixelStack:
    torch.manual_seed(0)
    made = SubPixelStack(5, layers, act=act)
    for module in made:
        if isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return made


STACKS = {
    "moved, of kernel 1": [Layer(1, 16, 2), Layer(1, 8, 2), Layer(3, 1)],
    "moved, of kernel 3": [Layer(3, 16), Layer(3, 8, 2), Layer(3, 3)],
    "an image already": [Layer(1, 16, 4), Layer(3, 8), Layer(3, 4)],
}


@pytest.mark.parametrize("act", [nn.ReLU, nn.CELU])
@pytest.mark.parametrize("kind", STACKS)
def test_it_is_the_modules_one_after_the_other(kind: str, act: Activation, passes: Counted) -> None:
    """Images that are not square, one thread and two, values about a large mean, one sample."""
    layers = stack(STACKS[kind], act)
    for batch, offset in ((5, 0.0), (1, 0.0), (3, 100.0)):
        x = offset + torch.randn(batch, 5, 4, 2).to(memory_format=torch.channels_last)
        with torch.no_grad():
            expected = nn.Sequential(*layers.double())(x.double())
            layers.float()
            for threads in (1, 2):
                with computing(choose("cpu", "fp32", threads)):
                    found = layers(x)
                assert found.shape == expected.shape
                torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=2e-5)
    assert passes.times == 6


def test_it_is_for_fp32_without_gradients_alone(passes: Counted) -> None:
    layers, x = stack(STACKS["an image already"], nn.ReLU), torch.randn(2, 5, 4, 4)
    with kernels(True):
        layers(x)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            layers(x)
        with torch.no_grad():
            stack([Layer(1, 16, 4), Layer(3, 16), Layer(3, 1)], nn.ReLU)(x)
            stack([Layer(1, 8, 4), Layer(1, 1)], nn.ReLU)(x)
    with kernels(False), torch.no_grad():
        layers(x)
    assert passes.times == 0


@pytest.mark.parametrize(
    ("layers", "width"),
    [([Layer(3, 8), Layer(3, 1)], 5), ([Layer(1, 8, 3), Layer(3, 1)], 8), ([Layer(3, 8, 3), Layer(3, 1)], 8)],
)  # fmt: skip
def test_lines_and_moves_that_are_not_whole_blocks_are_left_to_the_modules(
    layers: list[Layer], width: int, passes: Counted
) -> None:
    made, x = stack(layers, nn.ReLU), torch.randn(2, 5, 8, width)
    with torch.no_grad(), kernels(True):
        found = made(x)
    assert passes.times == 0
    torch.testing.assert_close(found, nn.Sequential(*made)(x), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_not_swallowed(bad: float, passes: Counted) -> None:
    layers, x = stack(STACKS["an image already"], nn.ReLU), torch.randn(3, 5, 4, 4)
    x[1, 2, 3, 0] = bad
    with kernels(True), torch.no_grad():
        found = layers(x)
    assert passes.times == 1
    assert found[1].isnan().any()
    assert found[[0, 2]].isfinite().all(), "the other samples are not touched"


def test_parameters_keep_their_names() -> None:
    """The last convolution is one module among the others, whoever calls it."""
    names = [name for name, _ in stack(STACKS["an image already"], nn.ReLU).named_parameters()]
    assert len(names) == len(set(names)) == 10
    assert names[-1].split(".") == ["7", "bias"]
