"""GNM: Generative Neurosymbolic Machines. Jiang & Ahn, NeurIPS 2020.

    p(x, z^s, z^g) = p(z^g) p(z^s | z^g) p(x | z^s)      q(z^g, z^s | x) = q(z^g | x) q(z^s | x)

A distributed latent z^g (StructDRAW, L steps) says how a scene is composed; a structured one, z^s, says for each
of O = 16 cells whether there is an object (z_pres), where (z_where), how deep (z_depth) and what it looks like
(z_what). x is rendered from z^s alone. This file holds the MNIST configuration: grey images on black, no
background, additive rendering; depth is sampled and pays its KL but renders nothing, as in the authors' code.

Axes: `K` particles, `B` batch, `O` cells in row-major order, `C H W` image, `G` glimpse side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.errors import UsageError
from ..core.model import (
    GenerativeModel,
    Locates,
    Location,
    Recipe,
    Resamples,
    Training,
    evaluation_option,
)
from ..nn.blocks import MLP, ConvStack, Layer, SubPixelStack, image_encoder
from ..nn.distributions import Bernoulli, Gaussian, image_log_prob, linear
from ..nn.spatial_transformer import paste_sum
from ..nn.structdraw import GRID, Drawing, StructDRAW

__all__ = ["GNM"]

CELLS = GRID * GRID


@dataclass(frozen=True)
class GNMConfig:
    """The authors' released configuration for their MNIST sets, where the paper is silent, and the paper's variants."""

    draw_steps: int = 4  # L; 8 is "GNM-8"
    beta: float = 1.0  # final weight of the KL of z^g; 2 is "GNM-β-2"
    beta_on: Literal["global", "conditional"] = (
        "global"  # which KLs beta multiplies is not stated (3.9)
    )
    global_prior: Literal["structdraw", "gaussian"] = "structdraw"  # "gaussian": GNM-Gaussian
    interaction: Literal["mlp", "cnn"] = "mlp"  # "cnn": GNM-NoMLP
    kernel: int = 1  # of the LSTMs; Table 7 prints 3, the parameter count of Table 3 proves 1
    width: int = 64  # D_e
    what: int = 20
    sigma: float = 0.2  # of the likelihood; not in the paper, config
    scale_mean: float = (
        -1.6
    )  # fixed prior of the pre-sigmoid scale: sigmoid(-1.6) = 0.168, 21.5 px of 128
    scale_std: float = 0.1
    ratio_std: float = 0.3
    presence_logit: float = 8.8  # logits are 8.8 tanh(.), so p(z_pres) in [1.5e-4, 0.99985]
    beta_until: float = 100_000  # beta: 0 -> beta (supplement 3: "the first 100k steps")
    temperature_from: float = 1_000  # tau: 1 -> 0.5
    temperature_until: float = 20_000
    rate_until: float = 4_000  # rho: 0.1 -> 0.001
    # How z_pres is drawn and scored in log_weights. "relaxed" is what the authors' code does: a relaxed draw, scored
    # with the Bernoulli formula, which is the density of nothing and no bound.
    presence: Literal["discrete", "relaxed"] = evaluation_option("discrete")


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


class Latents(NamedTuple):
    """z_global: (B, L, 32), (B, 1, 128) for GNM-Gaussian, (B, L, 32, 4, 4) for GNM-NoMLP.

    z_pres (B, O, 1), z_where (B, O, 4) before squashing: scale, ratio, shift x, shift y;
    z_depth (B, O, 1), z_what (B, O, D).
    """

    z_global: Tensor
    z_pres: Tensor
    z_where: Tensor
    z_depth: Tensor
    z_what: Tensor


class GNM(GenerativeModel[Latents], Locates, Resamples):
    """See the module. 2,930,708 parameters with the defaults (supplement Table 3: 2.9M)."""

    temperature: Tensor
    cell: Tensor

    def __init__(self, config: GNMConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.config, self.data = config, data
        channels, size, _ = data.shape
        self.encoder = image_encoder(channels, config.width, size)
        self.global_latent: StructDRAW | GaussianGlobal
        if config.global_prior == "structdraw":
            self.global_latent = StructDRAW(
                config.width, interaction=config.interaction, kernel=config.kernel
            )
        else:
            self.global_latent = GaussianGlobal(config.width)
        self.local = LocalHead(config.width, config.what, config.presence_logit)
        layers = [
            Layer(1, 64, 4),
            Layer(1, 64, 2),
            Layer(1, 32, 2),
            Layer(1, 16, 2),
            Layer(3, 8),
            Layer(3, channels),
        ]
        if size == 64:
            del layers[1]  # G = 32 on a canvas of 128 pixels, 16 on one of 64
        self.object_decoder = SubPixelStack(config.what, layers)
        self.register_buffer("temperature", torch.tensor(1.0))
        row, column = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        cell = torch.stack([column, row], -1).reshape(CELLS, 2) + 0.5  # (O, 2): x, y
        self.register_buffer("cell", cell, persistent=False)

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """The authors' released configuration for their MNIST sets: 600 epochs of 1,875 steps."""
        if data.shape not in ((1, 128, 128), (1, 64, 64)):
            raise UsageError(
                f"gnm is configured for grey images of 128 (or 64) pixels; {data.name} has {data.shape}"
            )
        return Recipe(
            GNMConfig(),
            Training(steps=1_125_000, batch_size=32, optimizer="rmsprop", lr=1e-4, clip_norm=1.0),
        )

    # The generative model.

    def prior(self, n: int) -> Latents:
        """z^g from its prior, the mode of everything below it: how the authors sample."""
        drawing = self.global_latent(None, self.config.draw_steps, n)
        p = self.local(drawing.f)
        return Latents(
            torch.stack(drawing.z, 1), p.pres.mode(), p.where.mean, p.depth.mean, p.what.mean
        )

    def decode(self, z: Latents) -> Tensor:
        """x̃ = Σ_o z_pres · paste(object(z_what), z_where): (B, C, H, W). Not clamped: overlaps can exceed 1."""
        glimpse = self.object_decoder(z.z_what.flatten(0, 1)[:, :, None, None])  # (B O, C, G, G)
        glimpse = glimpse.float().sigmoid().unflatten(0, z.z_what.shape[:2])
        scale, shift = self.box(z.z_where)
        return paste_sum(z.z_pres[..., None, None] * glimpse, scale, shift, self.data.shape[1])

    def box(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Extent as a fraction of the image and centre in [-1, 1], (..., O, 2) each, of z_where (..., O, 4)."""
        scale, ratio = where[..., :1].sigmoid(), where[..., 1:2].exp().sqrt()
        extent = torch.cat([scale / ratio, scale * ratio], -1)
        # tanh: a centre moves one cell at most
        centre = 2 / GRID * (self.cell + where[..., 2:].tanh()) - 1
        return extent, centre

    # The inference network.

    def infer(self, x: Tensor) -> Latents:
        """One draw from q(z^g | x) q(z^s | x), presence discrete."""
        f_x = self.encoder(x)
        drawing, q = self.global_latent(f_x, self.config.draw_steps, len(x)), self.local(f_x)
        return Latents(
            torch.stack(drawing.z, 1), q.pres.sample(), q.where.sample(), q.depth.sample(), q.what.sample()
        )  # fmt: skip

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """Learned conditional priors only: the fixed auxiliary priors, beta and the schedules have no part in it."""
        f_x = self.encoder(x)  # once per image, not per particle
        q = _repeat(self.local(f_x), particles)
        drawing = self.global_latent(
            f_x.repeat(particles, 1, 1, 1), self.config.draw_steps, particles * len(x)
        )
        p = self.local(drawing.f)
        relaxed = self.config.presence == "relaxed"
        z_pres = q.pres.relaxed_sample(self.temperature) if relaxed else q.pres.sample()
        z = Latents(
            torch.stack(drawing.z, 1), z_pres, q.where.sample(), q.depth.sample(), q.what.sample()
        )
        mean = self.decode(z).unflatten(0, (particles, len(x)))  # (K, B, C, H, W)
        ratio: Tensor = drawing.log_ratio() + p.log_prob(z) - q.log_prob(z)
        ratio = ratio.view(particles, len(x))
        return image_log_prob(x, mean, self.config.sigma) + ratio

    def locate(self, x: Tensor) -> Location:
        """Posterior means of boxes and appearances; presence is q(z_pres = 1 | x)."""
        q = self.local(self.encoder(x))
        extent, centre = self.box(q.where.mean)
        middle, half = (centre + 1) / 2, extent / 2
        side = self.data.shape[1]
        return Location(
            torch.cat([middle - half, middle + half], -1) * side,
            q.pres.probability[..., 0],
            q.what.mean,
        )

    def resample(self, x: Tensor | None, rows: int, draws: int) -> Tensor:
        """Supplement Figures 5 and 6: z^g fixed per row, z^s ~ p(z^s | z^g), presence drawn too."""
        f_x = None if x is None else self.encoder(x)
        f = self.global_latent(f_x, self.config.draw_steps, rows).f.repeat_interleave(draws, 0)
        p = self.local(f)
        unused = f.new_zeros(len(f), 0)  # decode reads z^s alone
        z = Latents(unused, p.pres.sample(), p.where.sample(), p.depth.sample(), p.what.sample())
        return self.decode(z).clamp(0, 1).view(rows, draws, *self.data.shape)

    # The objective.

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x | z) + β KL(z^g) + KL(q(z^s | x) || p(z^s | z^g)) + KLs of q(z^s | x) to fixed priors.

        The last are the paper's auxiliary terms (supplement eq. 4). Those of where, depth and what are gated by the
        sampled presence with its gradient, which is what presses cells off (released code).
        """
        c = self.config
        beta = linear(step, 0.0, c.beta, 0, c.beta_until)
        rate = linear(step, 0.1, 1e-3, 0, c.rate_until)
        with torch.no_grad():
            self.temperature.copy_(linear(step, 1.0, 0.5, c.temperature_from, c.temperature_until))

        f_x = self.encoder(x)
        q: Structure = self.local(f_x)
        drawing: Drawing = self.global_latent(f_x, c.draw_steps, len(x))
        p: Structure = self.local(drawing.f)
        z_pres = q.pres.relaxed_sample(self.temperature)
        z = Latents(f_x, z_pres, q.where.sample(), q.depth.sample(), q.what.sample())
        likelihood = image_log_prob(x, self.decode(z), c.sigma)

        conditional = {
            "kl_pres": q.pres.kl(p.pres), "kl_where": q.where.kl(p.where),
            "kl_depth": q.depth.kl(p.depth), "kl_what": q.what.kl(p.what),
        }  # fmt: skip
        gate = z_pres.clamp_min(1e-5)
        mean = q.where.mean.new_tensor([c.scale_mean, 0, 0, 0])
        std = q.where.mean.new_tensor([c.scale_std, c.ratio_std, 1, 1])
        auxiliary = {
            "aux_pres": q.pres.kl_to(rate), "aux_where": gate * q.where.kl_to(mean, std),
            "aux_depth": gate * q.depth.kl_to(0, 1), "aux_what": gate * q.what.kl_to(0, 1),
        }  # fmt: skip
        terms = {
            name: term.sum((-2, -1)).mean() for name, term in (conditional | auxiliary).items()
        }
        kl_global = drawing.kl().mean()
        kl_structure = torch.stack([terms[name] for name in conditional]).sum()
        if c.beta_on == "conditional":
            kl_structure = c.beta * kl_structure
            kl_global_weighted = linear(step, 0.0, 1.0, 0, c.beta_until) * kl_global
        else:
            kl_global_weighted = beta * kl_global
        fixed = torch.stack([terms[name] for name in auxiliary]).sum()
        total = -likelihood.mean() + kl_global_weighted + kl_structure + fixed
        present = q.pres.probability.sum((-2, -1)).mean()
        return total, {
            "log_likelihood": likelihood.mean(), "kl_global": kl_global, **terms, "present": present, "beta": beta,
        }  # fmt: skip


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


class GaussianGlobal(nn.Module):
    """z^g of GNM-Gaussian: one 128-d vector, p = N(0, I). The text says only "same as VAE"; the sizes are ours."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.posterior = MLP([width * CELLS, 512, 512, 256])
        self.decode_z = MLP([128, 512, 512, width * CELLS], final_plain=False)

    def forward(self, f_x: Tensor | None, steps: int, batch: int) -> Drawing:
        """As StructDRAW.forward, with one step whatever `steps` says."""
        zero = next(self.parameters()).new_zeros(batch, 128)
        prior = Gaussian(zero, zero + 1)
        posterior = [] if f_x is None else [Gaussian.split(self.posterior(f_x.flatten(1)), 1)]
        z = (posterior[0] if posterior else prior).sample()
        f = self.decode_z(z).unflatten(1, (self.width, GRID, GRID))
        return Drawing(f, [z], [prior], posterior)


def _repeat(q: Structure, particles: int) -> Structure:
    """Every tensor of q (B, O, D) repeated to (K B, O, D), particles outermost."""
    return Structure(
        Bernoulli(q.pres.logit.repeat(particles, 1, 1)),
        *(Gaussian(g.mean.repeat(particles, 1, 1), g.std.repeat(particles, 1, 1)) for g in (q.where, q.depth, q.what)),
    )  # fmt: skip
