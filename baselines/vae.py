"""VAE: the case without structure and without an autoregressive prior (GNM, Jiang & Ahn 2020, section 4).

    p(x, z) = N(z; 0, I) N(x; decode(z), 0.2² I)      q(z | x) = N(mean(x), std(x)²)

The supplement's tables contradict each other: the head's width 128 means z of 64 dimensions, the decoder is
listed with 128 inputs, and 1.5M parameters for all data sets fits only the 128-wide encoder.
Here z has 64 (1.42M parameters); `latent=128` is the other reading (1.81M). Optimisation is unstated: as GNM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.errors import UsageError
from ..core.model import GenerativeModel, Recipe, Training
from ..nn.blocks import ConvStack, Layer, SubPixelStack, image_decoder, image_encoder
from ..nn.distributions import Gaussian, image_log_prob, linear

__all__ = ["VAE"]


@dataclass(frozen=True)
class VAEConfig:
    """See the module; sigma and the KL warm-up are unstated in the paper: GNM's."""

    latent: int = 64
    width: int = 128
    beta: float = 1.0
    beta_until: float = 100_000
    sigma: float = 0.2


class Latents(NamedTuple):
    """z: (B, D)."""

    z: Tensor


class VAE(GenerativeModel[Latents]):
    """See the module."""

    def __init__(self, config: VAEConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.config, self.data = config, data
        channels, size, _ = data.shape
        self.encoder = nn.Sequential(
            image_encoder(channels, config.width, size),
            ConvStack(config.width, [Layer(3, 128)]),
            nn.Conv2d(128, 2 * config.latent, 4),
            nn.Flatten(),
        )
        # Supplement Table 8: one sub-pixel layer from 1 x 1 to 4 x 4, then Table 9.
        self.decoder = nn.Sequential(
            SubPixelStack(config.latent, [Layer(1, 128, 4)], act=nn.ReLU, final_plain=False),
            image_decoder(128, channels, size),
            nn.Sigmoid(),
        )

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """Unstated in the paper: GNM's settings, so that all models of a dataset train alike."""
        if data.shape[1:] not in ((128, 128), (64, 64)):
            raise UsageError(
                f"vae is configured for images of 128 (or 64) pixels; {data.name} has {data.shape}"
            )
        return Recipe(
            VAEConfig(),
            Training(steps=1_125_000, batch_size=32, optimizer="rmsprop", lr=1e-4, clip_norm=1.0),
        )

    # The generative model.

    def prior(self, n: int) -> Latents:
        """z ~ N(0, I)."""
        return Latents(torch.randn(n, self.config.latent, device=self.device))

    def decode(self, z: Latents) -> Tensor:
        """The mean image."""
        image: Tensor = self.decoder(z.z[:, :, None, None])
        return image.float()

    # The inference network.

    def posterior(self, x: Tensor) -> Gaussian:
        """q(z | x), (B, D)."""
        return Gaussian.split(self.encoder(x))

    def infer(self, x: Tensor) -> Latents:
        """One draw from q(z | x)."""
        return Latents(self.posterior(x).sample())

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """log p(x | z) + log p(z) - log q(z | x)."""
        q = self.posterior(x)
        q = Gaussian(q.mean.repeat(particles, 1), q.std.repeat(particles, 1))  # (K B, D)
        z = q.sample()
        p = Gaussian(torch.zeros_like(z), torch.ones_like(z))
        mean = self.decode(Latents(z)).unflatten(0, (particles, len(x)))
        ratio: Tensor = (p.log_prob(z) - q.log_prob(z)).sum(1).unflatten(0, (particles, len(x)))
        return image_log_prob(x, mean, self.config.sigma) + ratio

    # The objective.

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x | z) + β KL(q || p)."""
        q = self.posterior(x)
        likelihood = image_log_prob(x, self.decode(Latents(q.sample())), self.config.sigma).mean()
        kl = q.kl_to(0, 1).sum(1).mean()
        beta = linear(step, 0.0, self.config.beta, 0, self.config.beta_until)
        return -likelihood + beta * kl, {"log_likelihood": likelihood, "kl": kl, "beta": beta}
