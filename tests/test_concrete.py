"""Concrete variables: torch's densities, draws that have them, and the discrete variable they relax."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from reprise.nn import concrete

TEMPERATURES = [0.1, 0.5, 2 / 3, 1.0, 2.0]
F64 = torch.float64


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_binary_density_is_torchs(temperature: float) -> None:
    logit, y = 4 * torch.randn(200, dtype=F64), 4 * torch.randn(200, dtype=F64)
    theirs = LogitRelaxedBernoulli(torch.tensor(temperature, dtype=F64), logits=logit).log_prob(y)
    ours = concrete.binary_log_prob(y, logit, temperature)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("categories", [2, 15, 50])
def test_the_categorical_density_is_torchs(temperature: float, categories: int) -> None:
    log_probs = (3 * torch.randn(100, categories, dtype=F64)).log_softmax(-1)
    v = concrete.categorical(log_probs, temperature)
    theirs = ExpRelaxedCategorical(torch.tensor(temperature, dtype=F64), logits=log_probs).log_prob(v)  # fmt: skip
    ours = concrete.categorical_log_prob(v, log_probs, temperature)
    assert ours.shape == (100,)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    shifted = concrete.categorical_log_prob(v, log_probs + 7, temperature)
    torch.testing.assert_close(shifted, ours, rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_binary_draws_have_that_density(temperature: float) -> None:
    """E[f] under the draws is the integral of f times the density, on a grid."""
    logit = torch.tensor(0.8, dtype=F64)
    y = concrete.binary(logit.expand(40_000), temperature)
    grid = torch.linspace(-60, 60, 200_001, dtype=F64)
    density = concrete.binary_log_prob(grid, logit, temperature).exp()
    assert float(density.sum() * 120 / 200_000) == pytest.approx(1, abs=1e-6)
    for f in (torch.sigmoid, lambda t: (t > 0).to(F64)):
        expected = float((f(grid) * density).sum() * 120 / 200_000)
        assert float(f(y).mean()) == pytest.approx(expected, abs=5 * 0.5 / math.sqrt(40_000))


def test_categorical_draws_have_that_density_and_the_probabilities_asked_for() -> None:
    """The importance weights between two Concrete densities average to 1; the largest weight is as likely as asked."""
    p = torch.tensor([0.6, 0.3, 0.1], dtype=F64)
    v = concrete.categorical(p.log().expand(40_000, 3), 0.7)
    assert v.exp().sum(-1).tolist() == pytest.approx([1] * 40_000)
    other = torch.full((3,), 1 / 3, dtype=F64).log()
    of_other = concrete.categorical_log_prob(v, other, 0.7)
    ratio = (of_other - concrete.categorical_log_prob(v, p.log(), 0.7)).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=5 * float(ratio.std()) / 200)
    share = torch.bincount(v.argmax(-1), minlength=3) / 40_000
    assert share.tolist() == pytest.approx(p.tolist(), abs=5 * 0.5 / 200)


def test_two_categories_are_a_binary_variable() -> None:
    """y = v_1 - v_0; v = (-softplus(y), -softplus(-y)), and torch's density is that of y: no factor between them."""
    y, logit, temperature = torch.randn(50, dtype=F64), torch.randn(50, dtype=F64), 0.6
    v = torch.stack([torch.zeros_like(y), y], 1).log_softmax(-1)
    two = torch.stack([torch.zeros_like(logit), logit], 1)
    ours = concrete.categorical_log_prob(v, two, temperature)
    torch.testing.assert_close(ours, concrete.binary_log_prob(y, logit, temperature))


@pytest.mark.parametrize("logit", [-80.0, 0.0, 80.0])
def test_draws_and_densities_are_finite_in_fp32_and_so_are_their_gradients(
    logit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the two ends of the noise."""
    for u in (0.0, 0.5, 1.0 - 2**-24):
        monkeypatch.setattr(concrete, "uniform", lambda like, u=u: torch.full_like(like, u))
        l = torch.tensor([logit], requires_grad=True)
        y = concrete.binary(l, 0.1)
        value = concrete.binary_log_prob(y, l, 0.1)
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), l)[0].isfinite().all()
        logits = torch.tensor([[logit, 0.0, 1.0]], requires_grad=True)
        v = concrete.categorical(logits, 0.1)
        value = concrete.categorical_log_prob(v, logits, 0.1)
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


def test_draws_differentiate_along_the_path() -> None:
    logit = torch.tensor([0.3], dtype=F64, requires_grad=True)
    y = concrete.binary(logit, 0.5)
    assert torch.autograd.grad(y.sum(), logit)[0].item() == pytest.approx(2)


def test_the_relaxed_kl_is_not_capped_by_the_discrete_one() -> None:
    """Of a type that stands out by 10 among 15: log 15 = 2.7 nats, and 8.9 between the Concrete densities."""
    log_probs = torch.tensor([10.0] + [0.0] * 14, dtype=F64).log_softmax(0).expand(20_000, 15)
    discrete = float((log_probs[0].exp() * (log_probs[0] + math.log(15))).sum())
    assert discrete == pytest.approx(2.70, abs=0.01)
    for temperature in (0.3, 1.0):
        v = concrete.categorical(log_probs, temperature)
        q = concrete.categorical_log_prob(v, log_probs, temperature)
        p = concrete.categorical_log_prob(v, torch.zeros_like(log_probs), temperature)
        assert float((q - p).mean()) == pytest.approx(8.9, abs=0.15)
