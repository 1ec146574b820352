"""Densities against torch.distributions; schedules and the likelihood's ceiling against the specification."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as D

from reprise.core.dataset import DatasetInfo
from reprise.models.dood import DooD
from reprise.nn.distributions import (
    Bernoulli,
    Gaussian,
    Mixture,
    Tilted,
    ceiling,
    image_log_prob,
    linear,
    pixel_log_prob,
)


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


def test_a_schedule_of_no_length_is_over_when_it_begins() -> None:
    for step in (0.0, 1.0, 1e6):
        assert float(linear(torch.tensor(step), 0.0, 2.0, 0, 0)) == 2.0
    for until in (0, 5):  # where priors are read
        assert float(linear(torch.tensor(math.inf), 0.0, 2.0, 0, until)) == 2.0
        assert float(linear(torch.tensor(step), 0.0, 2.0, 0, 1e-9)) == (2.0 if step else 0.0)


# Gaussians with a tilt, and mixtures of them.


def tilted(*shape: int, dtype: torch.dtype = torch.float32) -> Tilted:
    """shape: (..., D)."""
    mean, diagonal = torch.randn(*shape, dtype=dtype), torch.rand(*shape, dtype=dtype) + 0.2
    return Tilted(mean, diagonal, 2 * torch.rand(shape[:-1], dtype=dtype) - 1)


def as_torch(q: Tilted) -> Any:
    lower = torch.diag_embed(q.diagonal)
    lower[..., 1, 0] = q.corner
    return D.MultivariateNormal(q.mean, scale_tril=lower)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_tilted_gaussian_agrees_with_torch(size: int) -> None:
    q = tilted(5, 3, size, dtype=torch.float64)
    z = torch.randn(5, 3, size, dtype=torch.float64)
    torch.testing.assert_close(q.log_prob(z), as_torch(q).log_prob(z))
    rough = Tilted(*(part.float() for part in q))
    torch.testing.assert_close(
        rough.log_prob(z.float()), q.log_prob(z).float(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("size", [2, 4])
def test_draws_of_a_tilted_gaussian_have_its_mean_and_covariance(size: int) -> None:
    q, n = tilted(size), 40_000
    z = Tilted(*(part.expand(n, *part.shape) for part in q)).sample()
    assert z.shape == (n, size)
    wanted = as_torch(q).covariance_matrix
    scale = wanted.diagonal().sqrt()
    assert float(((z.mean(0) - q.mean) / scale).abs().max()) < 5 / math.sqrt(n)
    off = (z.T.cov() - wanted) / (scale[:, None] * scale)
    assert float(off.abs().max()) < 5 * math.sqrt(2 / n)


def test_its_draws_are_reparametrised() -> None:
    parts = [part.requires_grad_() for part in tilted(3, 4)]
    Tilted(*parts).sample().square().sum().backward()
    assert all(part.grad is not None and (part.grad != 0).all() for part in parts)


def mixture(*shape: int, dtype: torch.dtype = torch.float32) -> Mixture:
    """shape: (..., K, D)."""
    return Mixture(2 * torch.randn(shape[:-1], dtype=dtype), tilted(*shape, dtype=dtype))


@pytest.mark.parametrize("size", [2, 4])
def test_a_mixture_agrees_with_torch(size: int) -> None:
    p = mixture(6, 5, size, dtype=torch.float64)
    z = torch.randn(6, size, dtype=torch.float64)
    reference: Any = D.MixtureSameFamily(D.Categorical(logits=p.logits), as_torch(p.parts))
    torch.testing.assert_close(p.log_prob(z), reference.log_prob(z))


def test_draws_of_a_mixture_come_from_its_components_as_often_as_it_says() -> None:
    n = 20_000
    means = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    logits = torch.tensor([0.5, 0.3, 0.2]).log() + 3  # however they are shifted
    parts = Tilted(means, torch.full((3, 2), 0.5), torch.tensor([0.0, 0.4, -0.4]))
    p = Mixture(logits.expand(n, -1), Tilted(*(part.expand(n, *part.shape) for part in parts)))
    z = p.sample()
    nearest = (z[:, None] - means).norm(dim=2).argmin(1)
    share = torch.bincount(nearest, minlength=3) / n
    assert share.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=5 * 0.5 / math.sqrt(n))
    for k in range(3):
        mine = z[nearest == k]
        assert float((mine.mean(0) - means[k]).abs().max()) < 5 * 0.7 / math.sqrt(len(mine))
        tied = float((mine.T.cov())[0, 1])
        assert tied == pytest.approx(0.5 * float(parts.corner[k]), abs=0.03)


def mass(log_density: Any, low: float, high: float, points: int) -> float:
    """The integral of a density over a square, by the midpoint rule."""
    step = (high - low) / points
    along = low + step * (torch.arange(points, dtype=torch.float64) + 0.5)
    grid = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1).view(-1, 2)
    return float(log_density(grid).exp().sum()) * step**2


def test_a_mixture_is_normalised() -> None:
    p = mixture(40, 2, dtype=torch.float64)
    assert mass(p.log_prob, -9, 9, 300) == pytest.approx(1, abs=1e-5)


def test_the_mixtures_that_dood_starts_with_are_normalised() -> None:
    """All forty components of a control point's, and of a frame's, whose shift is independent of scale and angle."""
    data = DatasetInfo("small", (1, 12, 12), objects=1)
    model = DooD(DooD.recipe(data).config, data)
    hidden, where, glimpse = torch.randn(1, 256), torch.randn(1, 4), torch.randn(1, 256)
    with torch.no_grad():
        stroke = model.prior_stroke(hidden, where, glimpse)
        layout = model.prior_layout(hidden)
    assert stroke.logits.shape == (1, 5, 40)
    assert layout.logits.shape == (1, 40)

    def double(p: Mixture) -> Mixture:
        return Mixture(p.logits.double(), Tilted(*(part.double() for part in p.parts)))

    for point in range(5):
        parts = Tilted(*(part[0, point] for part in stroke.parts))
        p = double(Mixture(stroke.logits[0, point], parts))
        assert mass(p.log_prob, -1.0, 2.0, 200) == pytest.approx(1, abs=1e-6)
    one = double(Mixture(layout.logits[0], Tilted(*(part[0] for part in layout.parts))))
    for first, second in ((0, 1), (2, 3)):
        pick = [first, second]
        corner = one.parts.corner if first == 0 else torch.zeros_like(one.parts.corner)
        part = Tilted(one.parts.mean[:, pick], one.parts.diagonal[:, pick], corner)
        centre = part.mean.mean(0)
        marginal = Mixture(one.logits, part._replace(mean=part.mean - centre))
        assert mass(marginal.log_prob, -0.3, 0.3, 200) == pytest.approx(1, abs=1e-6)
    z = one.parts.mean[0] + 0.02 * torch.randn(9, 4, dtype=torch.float64)
    wide = Mixture(one.logits.expand(9, 40), Tilted(*(p.expand(9, *p.shape) for p in one.parts)))
    reference: Any = D.MixtureSameFamily(D.Categorical(logits=wide.logits), as_torch(wide.parts))
    torch.testing.assert_close(wide.log_prob(z), reference.log_prob(z))


# Pixels with a scale each.


@pytest.mark.parametrize(("kind", "cls"), [("laplace", D.Laplace), ("normal", D.Normal)])
def test_pixel_log_prob_agrees_with_torch(kind: Any, cls: Any) -> None:
    x, mean = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8)
    scale = torch.rand(1, 8, 8) + 0.05
    expected: Tensor = cls(mean, scale).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(pixel_log_prob(x, mean, scale, kind), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "most"), [("laplace", 9_780.06), ("normal", 2_500 * 3.6862316)]
)  # 2,500 ln(1 / 0.02); 2,500 (ln 100 - ln(2 pi) / 2)
def test_a_perfect_reconstruction_reaches_the_scales_ceiling(kind: Any, most: float) -> None:
    x, scale = torch.rand(2, 1, 50, 50), torch.full((1, 50, 50), 0.01)
    assert pixel_log_prob(x, x, scale, kind).tolist() == pytest.approx([most] * 2, abs=0.05)
    assert (pixel_log_prob(x, x + 0.01, scale, kind) < most - 1_000).all()
