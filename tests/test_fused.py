"""The compiled kernels say what torch's modules say, on every shape, precision and number of threads."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reprise.core.errors import UsageError
from reprise.nn import fused
from reprise.nn.fused import activate_and_norm, kernels
from reprise.nn.pixels import Move, blocks
from reprise.training.engine import choose, computing

pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")

ACTIVATIONS = [nn.CELU(), nn.ReLU()]
# (B, C, H, W), groups: tiles of one pixel and of many, pixels that no power of two divides, one sample, one pixel
SHAPES = [
    ((6, 8, 16, 16), 1), ((3, 20, 3, 3), 1), ((2, 64, 4, 4), 4),
    ((1, 6, 5, 7), 3), ((5, 128, 1, 1), 1), ((4, 16, 8, 8), 2),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return (2 * torch.randn(shape)).to(dtype, memory_format=torch.channels_last)


def norm_of(channels: int, groups: int) -> nn.GroupNorm:
    norm = nn.GroupNorm(groups, channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def result(
    x: Tensor,
    act: nn.Module,
    norm: nn.GroupNorm,
    grad: Tensor,
    compiled: bool,
    move: Move | None = None,
) -> list[Tensor]:
    """out, and the gradients of x, gain and shift."""
    x = x.clone().requires_grad_()
    norm.zero_grad()
    with kernels(compiled):
        out = activate_and_norm(x, act, norm, move)
    out.backward(grad)
    assert x.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    if move is None or blocks(move, x.shape[1]) is not None:
        assert ("ActivateAndNorm" in type(out.grad_fn).__name__) == compiled
    return [out.detach(), x.grad, norm.weight.grad.clone(), norm.bias.grad.clone()]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))


@pytest.mark.parametrize("act", ACTIVATIONS, ids=["celu", "relu"])
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_values_and_gradients_are_those_of_the_modules(
    shape: tuple[int, ...], groups: int, act: nn.Module
) -> None:
    torch.manual_seed(0)
    x, grad, norm = batch(shape), batch(shape), norm_of(shape[1], groups)
    expected = result(x.double(), act, norm.double(), grad.double(), False)
    found = result(x, act, norm.float(), grad, True)
    for name, a, b in zip(("out", "of x", "of gain", "of shift"), found, expected, strict=True):
        assert relative(a, b) < 1e-5, name


@pytest.mark.parametrize("act", ACTIVATIONS, ids=["celu", "relu"])
def test_bf16_is_as_near_to_exact_as_torchs_own(act: nn.Module) -> None:
    torch.manual_seed(0)
    x, grad = (batch((8, 16, 16, 16), torch.bfloat16) for _ in range(2))
    norm = norm_of(16, 1)
    exact = result(x.double(), act, norm.double(), grad.double(), False)
    norm.float()
    ours, theirs = (result(x, act, norm, grad, compiled) for compiled in (True, False))
    assert ours[0].dtype == torch.bfloat16
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert relative(a, c) < 1.1 * relative(b, c) + 1e-6


def test_the_exponential_is_right_to_the_last_places() -> None:
    """With gain 1 and shift 0 the norm is linear, so the ratio of two differences is CELU's own."""
    x = -torch.logspace(-6, 1.9, 4096).view(1, 1, 64, 64)
    norm = nn.GroupNorm(1, 1, eps=0.0)
    with torch.no_grad(), kernels(True):
        out = activate_and_norm(x, nn.CELU(), norm).double()
    exact = torch.expm1(x.double())
    exact = (exact - exact.mean()) / exact.std(unbiased=False)
    assert float((out - exact).abs().max()) < 1e-6


def test_in_bf16_nearly_every_value_is_the_nearest_to_the_exact_one() -> None:
    """The exponential is an error far below the rounding, which 1 % could not tell from a coin on the edge."""
    x = -torch.logspace(-6, 1.9, 4096).view(1, 1, 64, 64).bfloat16()
    norm = nn.GroupNorm(1, 1, eps=0.0)
    with torch.no_grad(), kernels(True):
        out = activate_and_norm(x, nn.CELU(), norm)
    exact = torch.expm1(x.double())
    exact = (exact - exact.mean()) / exact.std(unbiased=False)
    assert float((out != exact.bfloat16()).double().mean()) < 0.01


def test_a_large_mean_does_not_cost_the_variance() -> None:
    torch.manual_seed(0)
    x, grad, norm = 1000 + batch((4, 8, 8, 8)), batch((4, 8, 8, 8)), norm_of(8, 1)
    expected = result(x.double(), nn.CELU(), norm.double(), grad.double(), False)
    found = result(x, nn.CELU(), norm.float(), grad, True)
    assert relative(found[0], expected[0]) < 1e-3
    assert relative(found[1], expected[1]) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_not_swallowed(dtype: torch.dtype, bad: float) -> None:
    """A run that diverges must be seen to."""
    x = batch((3, 8, 4, 4), dtype)
    x[1, 2, 3, 0] = bad
    with kernels(True):
        out = activate_and_norm(x, nn.CELU(), nn.GroupNorm(1, 8))
    assert out[1].isnan().any()
    assert out[[0, 2]].isfinite().all(), "the other samples are not touched"


def test_every_number_of_threads_gives_the_same_values() -> None:
    torch.manual_seed(0)
    x, grad, norm = batch((7, 8, 8, 8)), batch((7, 8, 8, 8)), norm_of(8, 1)
    results = []
    for count in (1, 2):
        torch.set_num_threads(count)
        results.append(result(x, nn.CELU(), norm, grad, True))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    for a, b in zip(results[0][2:], results[1][2:], strict=True):
        assert relative(a, b) < 1e-6


@pytest.mark.skipif(sys.platform != "linux", reason="torch has GNU OpenMP on Linux alone")
def test_another_package_s_openmp_does_not_leave_the_kernels_alone() -> None:
    """scikit-learn brings a GNU OpenMP of its own, which is not the one that torch's threads wait in."""
    pytest.importorskip("sklearn.cluster")
    kernel: Any = importlib.import_module("reprise.nn._fused_cpu")
    kernel._openmp.cache_clear()
    assert kernel._threads(8) == torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "x", [torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 8)[..., ::2], batch((2, 8, 4, 4)).double()]
)
def test_other_memory_and_precisions_take_the_modules(x: Tensor) -> None:
    norm = norm_of(8, 1).to(x.dtype)
    with kernels(True):
        out = activate_and_norm(x, nn.CELU(), norm)
    assert torch.equal(out, norm(nn.CELU()(x)))


def test_an_activation_without_a_kernel_is_not_taken_for_another() -> None:
    assert not fused.fusible(nn.ELU(), nn.GroupNorm(1, 8))
    assert not fused.fusible(nn.CELU(alpha=2.0), nn.GroupNorm(1, 8))
    assert not fused.fusible(nn.CELU(), nn.GroupNorm(1, 8, affine=False))


def test_outside_an_engine_nothing_is_compiled() -> None:
    x, norm = batch((2, 8, 4, 4)), norm_of(8, 1)
    assert "ActivateAndNorm" not in type(activate_and_norm(x, nn.CELU(), norm).grad_fn).__name__
    with computing(choose("cpu", "fp32", 1)):
        assert "ActivateAndNorm" in type(activate_and_norm(x, nn.CELU(), norm).grad_fn).__name__


def test_a_run_that_began_with_kernels_does_not_go_on_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = choose("cpu", "fp32", 1)
    assert str(began).endswith("fused")
    monkeypatch.setattr(fused, "installed", lambda: False)
    with pytest.raises(UsageError, match="reprise\\[fast\\]"), computing(began):
        pass


MOVES = [
    (16, Move((2, 3, 2, 2), (0, 2, 1, 3))),  # a sub-pixel layer
    (8, Move((4, 2, 2, 2, 4, 2), (0, 2, 4, 1, 3, 5))),  # a run of them; two pixels make one block
    (64, Move((4, 3, 2, 2), (0, 2, 1, 3))),
    (4, Move((3, 2, 2, 2), (0, 2, 1, 3))),  # two pixels are less than a block: moved afterwards
]


@pytest.mark.parametrize(("channels", "move"), MOVES)
@pytest.mark.parametrize("act", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_are_moved_as_by_a_permutation(
    channels: int, move: Move, act: nn.Module, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    pixels = math.prod(move.axes)
    x, norm = batch((5, channels, pixels, 1), dtype), norm_of(channels, 1)
    grad = batch((5, channels, pixels, 1), dtype)
    number = torch.arange(pixels).view(move.axes).permute(move.order).flatten()
    plain = result(x, act, norm, grad[:, :, number.argsort()], True)
    plain[0] = plain[0][:, :, number]
    for ours, theirs in zip(result(x, act, norm, grad, True, move), plain, strict=True):
        assert relative(ours, theirs) < 1e-6, "the same numbers elsewhere"
    assert (blocks(move, channels) is None) == (channels == 4)
