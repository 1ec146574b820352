"""What follows a norm in a decoder and is made with it says what torch's modules say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reprise.nn import fused
from reprise.nn.blocks import Activation, Layer, SubPixelStack
from reprise.nn.fused import Sequel, kernels
from reprise.training.engine import choose, computing

pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")


class Passes:
    """Which were taken: each with a sub-pixel layer and a convolution, or one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: list[str] = []
        plain = fused.activate_norm_and_follow

        def noted(x: Tensor, act: nn.Module, norm: nn.GroupNorm, sequel: Sequel) -> Tensor:
            parts = {"layer": sequel.layer, "convolution": sequel.convolution}
            self.taken.append(", ".join(name for name, part in parts.items() if part is not None))
            return plain(x, act, norm, sequel)

        monkeypatch.setattr("reprise.nn.blocks.activate_norm_and_follow", noted)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    return Passes(monkeypatch)


def stack(layers: list[Layer], act: Activation) -> SubPixelStack:
    torch.manual_seed(0)
    made = SubPixelStack(5, layers, act=act)
    for module in made:
        if isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return made


END, BOTH = ["convolution"], ["layer, convolution"]
STACKS = {
    "moved, of kernel 1": ([Layer(1, 16, 2), Layer(1, 8, 2), Layer(3, 1)], END),
    "moved, of kernel 3": ([Layer(3, 16), Layer(3, 8, 2), Layer(3, 3)], END),
    "an image already": ([Layer(1, 16, 4), Layer(3, 8), Layer(3, 4)], END),
    "a layer before": ([Layer(1, 4, 2), Layer(3, 16), Layer(1, 8, 2), Layer(3, 1)], BOTH),
    "a layer alone, and one that makes too few channels": (
        [Layer(3, 16), Layer(1, 16, 2), Layer(3, 16), Layer(1, 8, 2), Layer(3, 5), Layer(3, 2)],
        ["layer"],
    ),
    "all": ([Layer(3, 16), Layer(1, 16, 2), Layer(3, 16), Layer(1, 8, 2), Layer(3, 2)], ["layer", *BOTH]),
}  # fmt: skip


@pytest.mark.parametrize("act", [nn.ReLU, nn.CELU])
@pytest.mark.parametrize("kind", STACKS)
def test_it_is_the_modules_one_after_the_other(kind: str, act: Activation, passes: Passes) -> None:
    """Images that are not square, one thread and two, values about a large mean, one sample."""
    of, expected_passes = STACKS[kind]
    layers = stack(of, act)
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
    assert passes.taken == 6 * expected_passes


def test_it_is_for_fp32_without_gradients_alone(passes: Passes) -> None:
    layers, x = stack(STACKS["an image already"][0], nn.ReLU), torch.randn(2, 5, 4, 4)
    with kernels(True):
        layers(x)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            layers(x)
        with torch.no_grad():
            stack(
                [Layer(3, 16), Layer(1, 8, 4), Layer(3, 8), Layer(1, 4, 2), Layer(3, 1)], nn.ReLU
            )(x)
            stack([Layer(1, 16, 4), Layer(3, 16), Layer(3, 1)], nn.ReLU)(x)
            stack([Layer(1, 8, 4), Layer(1, 1)], nn.ReLU)(x)
    with kernels(False), torch.no_grad():
        layers(x)
    assert not passes.taken


@pytest.mark.parametrize(
    ("layers", "width"),
    [([Layer(3, 8), Layer(3, 1)], 5), ([Layer(1, 8, 3), Layer(3, 1)], 8), ([Layer(3, 8, 3), Layer(3, 1)], 8)],
)  # fmt: skip
def test_lines_and_moves_that_are_not_whole_blocks_are_left_to_the_modules(
    layers: list[Layer], width: int, passes: Passes
) -> None:
    made, x = stack(layers, nn.ReLU), torch.randn(2, 5, 8, width)
    with torch.no_grad(), kernels(True):
        found = made(x)
    assert not passes.taken
    torch.testing.assert_close(found, nn.Sequential(*made)(x), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_not_swallowed(bad: float, passes: Passes) -> None:
    layers, x = stack(STACKS["an image already"][0], nn.ReLU), torch.randn(3, 5, 4, 4)
    x[1, 2, 3, 0] = bad
    with kernels(True), torch.no_grad():
        found = layers(x)
    assert passes.taken == END
    assert found[1].isnan().any()
    assert found[[0, 2]].isfinite().all(), "the other samples are not touched"


def test_parameters_keep_their_names() -> None:
    """The last convolution is one module among the others, whoever calls it."""
    names = [name for name, _ in stack(STACKS["an image already"][0], nn.ReLU).named_parameters()]
    assert len(names) == len(set(names)) == 10
    assert names[-1].split(".") == ["7", "bias"]
