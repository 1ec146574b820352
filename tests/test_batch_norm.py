"""The compiled batch normalisation with ELU says what the two modules say, and keeps their statistics."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from reprise.nn.batch_norm import norm_and_elu
from reprise.nn.blocks import Stack
from reprise.nn.channels_last import ELU
from reprise.nn.fused import kernels

pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
SHAPES = [(4, 32, 9, 7), (3, 5, 8, 8), (1, 64, 2, 3), (2, 3, 40, 31), (7, 1, 1, 2)]


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    spread, mean = torch.randn(2, shape[1], 1, 1).exp()
    x: Tensor = mean + spread * torch.randn(shape)
    return x.to(dtype, memory_format=torch.channels_last)


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        for each in (norm.weight, norm.bias, norm.running_mean):
            assert each is not None
            each.normal_()
    return norm


def result(x: Tensor, norm: nn.BatchNorm2d, grad: Tensor, compiled: bool) -> list[Tensor]:
    """out, the gradients of x, gain and shift, and the running statistics after; `norm` stays as it is."""
    x, norm = x.clone().requires_grad_(), copy.deepcopy(norm)
    with kernels(compiled):
        out = norm_and_elu(x, norm)
    assert ("NormAndELU" in type(out.grad_fn).__name__) == compiled
    out.backward(grad)
    assert norm.num_batches_tracked == 1
    found = [x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var]
    return [out.detach(), *(each for each in found if each is not None)]


def both(x: Tensor, grad: Tensor, norm: nn.BatchNorm2d) -> list[list[Tensor]]:
    """By the modules in fp64, by the modules, compiled."""
    exact = result(x.double(), copy.deepcopy(norm).double(), grad.double(), False)
    return [exact, result(x, norm, grad, False), result(x, norm, grad, True)]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))


@pytest.mark.parametrize("shape", SHAPES)
def test_values_gradients_and_statistics_are_those_of_the_modules(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    exact, plain, ours = both(batch(shape), batch(shape), norm_of(shape[1]))
    for place, (a, b, c) in enumerate(zip(exact, plain, ours, strict=True)):
        assert relative(c, a) <= max(1e-6, 2 * relative(b, a)), place


def test_bf16_is_nearer_to_exact_than_torchs_own() -> None:
    torch.manual_seed(0)
    x, grad = (batch((8, 16, 16, 16), torch.bfloat16) for _ in range(2))
    exact, plain, ours = both(x, grad, norm_of(16))
    assert ours[0].dtype == ours[1].dtype == torch.bfloat16
    for a, b, c in zip(exact, plain, ours, strict=True):
        assert relative(c, a) <= 1.05 * relative(b, a) + 1e-6


def test_a_large_mean_does_not_cost_the_variance() -> None:
    torch.manual_seed(0)
    x, grad = 1000 + batch((4, 8, 8, 8)), batch((4, 8, 8, 8))
    exact, _, ours = both(x, grad, norm_of(8))
    for a, c in zip(exact, ours, strict=True):
        assert relative(c, a) < 1e-3


def test_the_number_of_threads_changes_roundings_alone() -> None:
    torch.manual_seed(0)
    x, grad, norm = batch((5, 16, 12, 12)), batch((5, 16, 12, 12)), norm_of(16)
    two = result(x, norm, grad, True)
    torch.set_num_threads(1)
    one = result(x, norm, grad, True)
    for a, b in zip(one, two, strict=True):
        assert relative(a, b) < 1e-6


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_not_swallowed(bad: float) -> None:
    x = batch((3, 8, 4, 4))
    x[1, 2, 3, 0] = bad
    with kernels(True):
        out = norm_and_elu(x, nn.BatchNorm2d(8))
    assert out[:, 2].isnan().any()
    assert out[:, [0, 1, 3, 4, 5, 6, 7]].isfinite().all(), "the other channels are not touched"


@pytest.mark.parametrize("compiled", [True, False])
def test_in_evaluation_the_running_statistics_speak_and_stay(compiled: bool) -> None:
    torch.manual_seed(0)
    norm = norm_of(8).eval()
    before = {name: each.clone() for name, each in norm.state_dict().items()}
    x = batch((3, 8, 4, 4))
    with kernels(compiled):
        out = norm_and_elu(x, norm)
    torch.testing.assert_close(out, nn.functional.elu(norm(x)))
    assert all(torch.equal(before[name], each) for name, each in norm.state_dict().items())


def test_a_stack_makes_the_two_one() -> None:
    stack = Stack(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), ELU(), nn.Conv2d(4, 2, 1))
    stack.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = batch((2, 3, 8, 8))
    expected = nn.Sequential(*stack)(x)
    with kernels(True):
        out = stack(x)
    assert "NormAndELU" in type(out.grad_fn.next_functions[0][0]).__name__
    torch.testing.assert_close(out, expected)


def test_one_number_per_channel_is_refused_as_torch_does() -> None:
    with kernels(True), pytest.raises(ValueError, match="more than 1 value"):
        norm_and_elu(torch.randn(1, 8, 1, 1), nn.BatchNorm2d(8))
