"""Densities against torch.distributions; schedules and the likelihood's ceiling against the specification."""

from __future__ import annotations

import pytest
import torch
from reprise.nn.distributions import Bernoulli, Gaussian, ceiling, image_log_prob, linear
from torch import distributions as D


def test_gaussian_agrees_with_torch() -> None:
    q = Gaussian(torch.randn(5, 3), torch.rand(5, 3) + 0.1)
    p = Gaussian(torch.randn(5, 3), torch.rand(5, 3) + 0.1)
    z = torch.randn(5, 3)
    reference = D.Normal(q.mean, q.std), D.Normal(p.mean, p.std)
    assert torch.allclose(q.log_prob(z), reference[0].log_prob(z), atol=1e-5)
    assert torch.allclose(q.kl(p), D.kl_divergence(*reference), atol=1e-5)
    assert torch.allclose(
        q.kl_to(0.5, 2.0), D.kl_divergence(reference[0], D.Normal(0.5, 2.0)), atol=1e-5
    )


def test_bernoulli_agrees_with_torch() -> None:
    q, p = Bernoulli(torch.linspace(-8.8, 8.8, 9)), Bernoulli(torch.linspace(3, -3, 9))
    reference = D.Bernoulli(logits=q.logit), D.Bernoulli(logits=p.logit)
    for z in (torch.zeros(9), torch.ones(9)):
        assert torch.allclose(q.log_prob(z), reference[0].log_prob(z), atol=1e-5)
    assert torch.allclose(q.kl(p), D.kl_divergence(*reference), atol=1e-4)
    assert torch.allclose(
        q.kl_to(torch.tensor(0.001)), D.kl_divergence(reference[0], D.Bernoulli(0.001)), atol=1e-4
    )


def test_relaxed_draws_become_discrete_ones_as_the_temperature_falls() -> None:
    q = Bernoulli(torch.full((20_000,), 0.7))
    cold = q.relaxed_sample(torch.tensor(0.01))
    assert ((cold < 0.01) | (cold > 0.99)).float().mean() > 0.95
    assert abs(cold.mean() - q.probability[0]) < 0.02


@pytest.mark.parametrize(("channels", "expected"), [(1, 11313.14), (3, 33939.43)])
def test_a_perfect_reconstruction_reaches_the_ceiling(channels: int, expected: float) -> None:
    x = torch.rand(2, channels, 128, 128)
    assert image_log_prob(x, x, 0.2).tolist() == pytest.approx([expected] * 2, abs=0.01)
    assert ceiling(channels * 128 * 128, 0.2) == pytest.approx(expected, abs=0.01)


def test_image_log_prob_is_a_gaussian_density_summed_over_pixels() -> None:
    x, mean = torch.rand(3, 1, 8, 8), torch.rand(4, 3, 1, 8, 8)
    expected = D.Normal(mean, 0.2).log_prob(x).sum((-3, -2, -1))
    assert torch.allclose(image_log_prob(x, mean, 0.2), expected, rtol=1e-4)


STEPS = [0, 250, 500, 2_000, 4_000, 10_500, 20_000, 50_000, 100_000]
SCHEDULES = {  # the released configurations, at STEPS
    "beta_aw": ((10, 1, 0, 500), [10, 5.5, 1, 1, 1, 1, 1, 1, 1]),
    "rate": (
        (0.1, 1e-3, 0, 4_000),
        [0.1, 0.0938, 0.0876, 0.0505, 0.001, 0.001, 0.001, 0.001, 0.001],
    ),
    "temperature": ((1.0, 0.5, 1_000, 20_000), [1, 1, 1, 0.974, 0.921, 0.75, 0.5, 0.5, 0.5]),
    "beta": ((0.0, 1.0, 0, 100_000), [0, 0.0025, 0.005, 0.02, 0.04, 0.105, 0.2, 0.5, 1]),
    "beta_b": ((50.0, 1.0, 0, 50_000), [50, 49.755, 49.51, 48.04, 46.08, 39.71, 30.4, 1, 1]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_pass_through_the_published_values(name: str) -> None:
    arguments, expected = SCHEDULES[name]
    values = [float(linear(torch.tensor(float(step)), *arguments)) for step in STEPS]
    assert values == pytest.approx(expected, abs=6e-4)
