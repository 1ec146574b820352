"""GNM's latents, and the networks that give their distributions (supplement, Tables 6 and 7)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...nn.blocks import MLP, ConvStack, Layer, SubPixelStack
from ...nn.distributions import Bernoulli, Gaussian
from ...nn.structdraw import GRID, LATENT, Drawing
from .config import ArrowConfig

CELLS = GRID * GRID


class Latents(NamedTuple):
    """z_global: (B, L, 32), (B, 1, 128) for GNM-Gaussian, (B, L, 32, 4, 4) for GNM-NoMLP.

    z_pres (B, O, 1), z_where (B, O, 4) before squashing: scale, ratio, shift x, shift y;
    z_depth (B, O, 1), z_what (B, O, D), z_background (B, 10), (B, 0) for the MNIST scenes.
    """

    z_global: Tensor
    z_pres: Tensor
    z_where: Tensor
    z_depth: Tensor
    z_what: Tensor
    z_background: Tensor


class Structure(NamedTuple):
    """q(z^s | x) or p(z^s | z^g): one distribution per cell. Trailing axes (O, D)."""

    pres: Bernoulli
    where: Gaussian
    depth: Gaussian
    what: Gaussian

    def log_prob(self, z: Latents) -> Tensor:
        """Log-density of z^s, summed over cells: (B,). Not gated by presence."""
        pairs = (
            (self.pres, z.z_pres),
            (self.where, z.z_where),
            (self.depth, z.z_depth),
            (self.what, z.z_what),
        )
        return torch.stack([part.log_prob(value).sum((-2, -1)) for part, value in pairs]).sum(0)

    def repeat(self, particles: int) -> Structure:
        """Every tensor (B, O, D) repeated to (K B, O, D), particles outermost."""
        gaussians = (self.where, self.depth, self.what)
        return Structure(
            Bernoulli(self.pres.logit.repeat(particles, 1, 1)),
            *(Gaussian(*(part.repeat(particles, 1, 1) for part in g)) for g in gaussians),
        )


class LocalHead(nn.Module):
    """Features of the 4 x 4 cells -> a distribution over z^s; one module for q(z^s | x) and p(z^s | z^g)."""

    def __init__(self, width: int, what: int, presence_logit: float) -> None:
        super().__init__()
        self.presence_logit = presence_logit
        self.trunk = ConvStack(width, [Layer(1, width), Layer(1, width)])
        self.pres = nn.Conv2d(width, 1, 1)
        self.depth = nn.Conv2d(width, 2, 1)
        self.where = nn.Conv2d(width, 8, 1)
        self.what = nn.Conv2d(width, 2 * what, 1)
        nn.init.uniform_(self.where.weight, -0.01, 0.01)
        bias = torch.zeros(8)
        bias[0] = -1.0  # the mean of the scale: boxes begin at sigmoid(-1) = 0.27 of the image
        self.where.bias = nn.Parameter(bias)

    def forward(self, f: Tensor) -> Structure:
        """f: (B, width, 4, 4)."""
        f = self.trunk(f)
        pres, where, depth, what = (
            head(f).flatten(2).mT.float() for head in (self.pres, self.where, self.depth, self.what)
        )  # (B, O, D)
        return Structure(
            Bernoulli(self.presence_logit * pres.tanh()),
            *(Gaussian.split(raw) for raw in (where, depth, what)),
        )  # fmt: skip


class Background(nn.Module):
    """z^b, one vector, and the image that it stands for. Supplement Tables 6 and 7."""

    def __init__(self, config: ArrowConfig, channels: int, size: int) -> None:
        super().__init__()
        z_global = 128 if config.global_prior == "gaussian" else config.draw_steps * LATENT
        self.of_image = MLP([config.width * CELLS, 512, 256, 2 * config.background])
        self.of_global = MLP([z_global, 128, 64, 2 * config.background])
        layers = [  # Table 6 prints 4 channels for the last; the code has those of the image
            Layer(1, 128, 4), Layer(1, 64, 2), Layer(1, 32, 4), Layer(1, 16, 2), Layer(1, 8, 2), Layer(3, channels),
        ]  # fmt: skip
        if size == 64:
            del layers[1]
        self.decoder = SubPixelStack(config.background, layers)

    def posterior(self, f_x: Tensor) -> Gaussian:
        """q(z^b | f_x), (B, D), of f_x (B, width, 4, 4)."""
        return Gaussian.split(self.of_image(f_x.flatten(1)))

    def prior(self, z_global: Tensor) -> Gaussian:
        """p(z^b | z^g), (B, D), of all L steps of z^g (B, L, ...)."""
        if z_global.dim() == 5:  # maps, of GNM-NoMLP: the mean over their places
            z_global = z_global.mean((-2, -1))
        return Gaussian.split(self.of_global(z_global.flatten(1)))

    def logits(self, z_background: Tensor) -> Tensor:
        """Of the image: (B, D) -> (B, C, H, W)."""
        found: Tensor = self.decoder(z_background[:, :, None, None])
        return found

    def decode(self, z_background: Tensor) -> Tensor:
        """(B, D) -> (B, C, H, W) in (0, 1)."""
        return self.logits(z_background).float().sigmoid()


class NoBackground(nn.Module):
    """Of the MNIST scenes: a z^b without dimensions, and nothing behind the objects."""

    def posterior(self, f_x: Tensor) -> Gaussian:
        """(B, 0)."""
        return Gaussian(f_x.new_zeros(len(f_x), 0), f_x.new_ones(len(f_x), 0))

    prior = posterior


class GaussianGlobal(nn.Module):
    """z^g of GNM-Gaussian: one 128-d vector, p = N(0, I). The text says only "same as VAE"; the sizes are ours."""

    def __init__(self, width: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.width = width
        self.posterior = MLP([width * CELLS, 512, 512, 256])
        self.decode_z = MLP([128, *hidden, width * CELLS], final_plain=False)

    def forward(self, f_x: Tensor | None, steps: int, batch: int) -> Drawing:
        """As StructDRAW.forward, with one step whatever `steps` says."""
        zero = next(self.parameters()).new_zeros(batch, 128)
        prior = Gaussian(zero, zero + 1)
        posterior = []
        if f_x is not None:
            q = self.posterior(f_x.flatten(1)).repeat(batch // len(f_x), 1)
            posterior = [Gaussian.split(q, 1)]
        z = (posterior[0] if posterior else prior).sample()
        return Drawing(self.replay([z]), [z], [prior], posterior)

    def replay(self, z: list[Tensor]) -> Tensor:
        """As StructDRAW.replay, of one z (B, 128)."""
        f: Tensor = self.decode_z(z[0]).unflatten(1, (self.width, GRID, GRID))
        return f
