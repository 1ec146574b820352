"""PPCA, the ruler: a generative model whose log p(x) is known exactly (Tipping & Bishop, JRSS B 1999).

    p(x, z) = N(z; 0, I) N(x; W z + μ, σ² I)      p(x) = N(μ, W Wᵀ + σ² I)      p(z | x) = N(M⁻¹ Wᵀ(x - μ), σ² M⁻¹)

with M = Wᵀ W + σ² I. The proposal q is the exact posterior with its standard deviation multiplied by `widen`: at 1
every weight equals p(x) exactly; above 1 the estimators have something to estimate, and can be held against the truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.model import GenerativeModel, Recipe, Training, evaluation_option
from ..nn.distributions import normal

__all__ = ["PPCA"]


@dataclass(frozen=True)
class PPCAConfig:
    """latent: dimensions of z. widen: standard deviation of q over that of the exact posterior."""

    latent: int = 8
    widen: float = evaluation_option(1.2)


class Latents(NamedTuple):
    """z: (B, D)."""

    z: Tensor


class PPCA(GenerativeModel[Latents]):
    """See the module. Everything in fp64: it is a ruler."""

    def __init__(self, config: PPCAConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.config, self.shape = config, data.shape
        pixels = math.prod(data.shape)
        self.weight = nn.Parameter(0.1 * torch.randn(pixels, config.latent, dtype=torch.float64))
        self.mean = nn.Parameter(torch.zeros(pixels, dtype=torch.float64))
        self.log_sigma = nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """Ours: Adam reaches the maximum-likelihood subspace of the scenes within these steps."""
        return Recipe(
            PPCAConfig(),
            Training(steps=2_000, batch_size=64, optimizer="adam", lr=1e-2, clip_norm=None),
        )

    # The generative model.

    def prior(self, n: int) -> Latents:
        """z ~ N(0, I)."""
        return Latents(torch.randn(n, self.config.latent, dtype=torch.float64, device=self.device))

    def decode(self, z: Latents) -> Tensor:
        """W z + μ."""
        image: Tensor = (z.z @ self.weight.T + self.mean).unflatten(1, self.shape)
        return image

    def exact_log_marginal(self, x: Tensor) -> Tensor:
        """log p(x) in closed form: (B,), nats. The D x D covariance enters through the determinant lemma."""
        error, m, factor = self._centred(x), self._m(), torch.linalg.cholesky(self._m())
        pixels, latent = self.weight.shape
        variance = (2 * self.log_sigma).exp()
        projected = error @ self.weight
        distance: Tensor = (
            error.square().sum(1) - (projected @ torch.linalg.inv(m) * projected).sum(1)
        ) / variance
        log_det: Tensor = 2 * factor.diagonal().log().sum() + (pixels - latent) * 2 * self.log_sigma
        log_p: Tensor = -0.5 * (pixels * math.log(2 * math.pi) + log_det + distance)
        return log_p

    # The inference network.

    def infer(self, x: Tensor) -> Latents:
        """One draw from q(z | x)."""
        mean, factor = self._posterior(x)
        return Latents(mean + normal(mean) @ factor.T)

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """log p(x | z) + log p(z) - log q(z | x)."""
        mean, factor = self._posterior(x)
        noise = torch.randn(particles, *mean.shape, dtype=mean.dtype, device=mean.device)
        z = mean + noise @ factor.T  # (K, B, D)
        error = self._centred(x) - z @ self.weight.T
        pixels = len(self.weight)
        constant = (
            -pixels * (self.log_sigma + 0.5 * math.log(2 * math.pi)) + factor.diagonal().log().sum()
        )
        # the (2 pi)^(-D/2) of p(z) and q(z | x) cancel
        quadratic = error.square().sum(-1) / (2 * self.log_sigma).exp() + z.square().sum(-1)
        return constant - 0.5 * (quadratic - noise.square().sum(-1))

    def _centred(self, x: Tensor) -> Tensor:
        return x.flatten(1).double() - self.mean

    def _m(self) -> Tensor:
        identity = torch.eye(self.config.latent, dtype=torch.float64, device=self.device)
        return self.weight.T @ self.weight + (2 * self.log_sigma).exp() * identity

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and the Cholesky factor (D, D) of q's covariance."""
        inverse = torch.linalg.inv(self._m())
        covariance = (2 * self.log_sigma).exp() * (inverse + inverse.T) / 2
        return self._centred(x) @ self.weight @ inverse, self.config.widen * torch.linalg.cholesky(
            covariance
        )

    # The objective.

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x), exactly."""
        log_p = self.exact_log_marginal(x).mean()
        return -log_p, {"log_marginal": log_p}
