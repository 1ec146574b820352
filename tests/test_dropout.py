"""Dropout of a half from single bits: every bit a fair coin of its own."""

from __future__ import annotations

import math

import pytest
import torch

from reprise.nn.dropout import half, mask

CPU = torch.device("cpu")
WORDS = 4_000


def bits(count: int) -> torch.Tensor:
    return mask(torch.Size([count]), torch.float32, CPU)


def test_every_bit_of_a_word_is_a_fair_coin() -> None:
    """Also the highest of each byte and the sign of each word."""
    each = bits(64 * WORDS).view(WORDS, 64)
    assert set(each.unique().tolist()) == {0.0, 2.0}
    share = each.mean(0) / 2
    assert float((share - 0.5).abs().max()) < 5 * 0.5 / math.sqrt(WORDS)


def test_bits_know_nothing_of_each_other() -> None:
    each = bits(64 * WORDS).view(WORDS, 64) - 1
    correlation = each.T @ each / WORDS - torch.eye(64)
    assert float(correlation.abs().max()) < 5.5 / math.sqrt(WORDS)
    stream = bits(64 * WORDS) - 1
    for lag in (1, 7, 8, 63, 64, 65, 512):
        assert abs(float((stream[lag:] * stream[:-lag]).mean())) < 5 / math.sqrt(64 * WORDS)


def test_runs_are_as_long_as_those_of_a_coin() -> None:
    stream = bits(64 * WORDS)
    changes = int((stream.diff() != 0).sum())
    assert abs(changes - 32 * WORDS) < 5 * math.sqrt(16 * WORDS)


@pytest.mark.parametrize("shape", [(1,), (63,), (64,), (65,), (3, 5, 7), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_has_the_shape_and_type_that_were_asked_for(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    found = mask(torch.Size(shape), dtype, CPU)
    assert (found.shape, found.dtype) == (shape, dtype)
    assert ((found == 0) | (found == 2)).all()


def test_what_is_kept_is_doubled_so_that_nothing_changes_on_average() -> None:
    x = torch.rand(100) + 1
    dropped = torch.stack([half(x, True) for _ in range(4_000)])
    assert ((dropped == 0) | (dropped == 2 * x)).all()
    assert float((dropped.mean(0) / x - 1).abs().max()) < 5 / math.sqrt(4_000)


def test_an_evaluation_drops_nothing() -> None:
    x = torch.randn(50)
    assert half(x, False) is x


def test_each_call_draws_anew_and_a_seed_brings_it_back() -> None:
    x = torch.ones(500)
    torch.manual_seed(3)
    first, second = half(x, True), half(x, True)
    torch.manual_seed(3)
    assert torch.equal(half(x, True), first)
    assert (first != second).any()
    torch.manual_seed(4)
    assert (half(x, True) != first).any()


def test_the_gradient_is_dropped_with_the_value() -> None:
    x = torch.randn(500, requires_grad=True)
    y = half(x, True)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def test_gradients_come_after_a_first_call_that_wanted_none() -> None:
    with torch.inference_mode():
        half(torch.ones(3, dtype=torch.float16), True)
    x = torch.ones(3, dtype=torch.float16, requires_grad=True)
    half(x, True).sum().backward()
    assert x.grad is not None
