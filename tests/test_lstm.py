"""The compiled cell of a convolutional LSTM against torch's operations in float64, with every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reprise.nn.fused import kernels
from reprise.nn.lstm import cell

pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")


def passed(gates: Tensor, c: Tensor, compiled: bool) -> list[Tensor]:
    """h', c' and the gradients of both inputs, of a loss in which both results count."""
    given = [part.clone().requires_grad_() for part in (gates, c)]
    with kernels(compiled):
        h, after = cell(*given)
    assert ("Cell" in type(h.grad_fn).__name__) == compiled
    wave = torch.linspace(-3, 3, h.numel(), dtype=h.dtype).view_as(h).cos()
    return [h, after, *torch.autograd.grad((h * wave).sum() + (after.square() * wave).sum(), given)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(3, 16, 4, 4), (1, 5, 1, 1), (5, 33, 3, 2)])
def test_it_is_torchs(
    shape: tuple[int, int, int, int], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    """Gates out to where a sigmoid is 0 and 1, small ones, and a state that all examples share."""
    torch.manual_seed(0)
    batch, channels, *sides = shape
    spread = torch.tensor([1e-4, 1.0, 30.0, 100.0]).repeat_interleave(channels)
    gates = torch.randn(batch, 4 * channels, *sides) * spread.roll(batch)[:, None, None]
    gates = gates.to(dtype).to(memory_format=layout)
    c = torch.randn(1, channels, *sides).expand(batch, -1, -1, -1)
    found = passed(gates, c, compiled=True)
    exact = passed(gates.double(), c.double(), compiled=False)
    assert [part.dtype for part in found] == [torch.float32, torch.float32, dtype, torch.float32]
    for place, (ours, theirs) in enumerate(zip(found, exact, strict=True)):
        least = 4e-3 if place == 2 and dtype == torch.bfloat16 else 2e-6
        assert (ours - theirs).norm() <= least * theirs.norm()


def test_a_small_candidate_keeps_its_digits() -> None:
    """tanh(x) of x near zero is x, not the rounding of a sum with 1."""
    gates = torch.tensor([0.0, 0.0, 0.0, 1e-12]).view(1, 4, 1, 1)
    with kernels(True):
        _, after = cell(gates, torch.zeros(1, 1, 1, 1))
    assert float(after) == pytest.approx(0.5e-12, rel=1e-5)


def test_what_is_no_number_is_not_swallowed() -> None:
    gates = torch.zeros(1, 8, 1, 1)
    gates[0, 1] = torch.nan
    with kernels(True):
        h, after = cell(gates, torch.ones(1, 2, 1, 1))
    assert after.flatten().isnan().tolist() == h.flatten().isnan().tolist() == [False, True]


def test_a_result_that_nobody_uses_has_no_gradient() -> None:
    gates, c = torch.randn(2, 12, 2, 2, requires_grad=True), torch.randn(2, 3, 2, 2)
    with kernels(True):
        h, _ = cell(gates, c)
    found = torch.autograd.grad(h.sum(), gates)[0]
    with kernels(False):
        h, _ = cell(gates, c)
    torch.testing.assert_close(found, torch.autograd.grad(h.sum(), gates)[0])
