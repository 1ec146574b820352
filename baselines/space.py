"""SPACE (Lin et al., ICLR 2020) as Jiang & Ahn 2020 compare with it: objects in cells before a segmented background.

    p(x | z) = Π_pixels [ α N(x; x_fg, σ²) + (1 - α) Σ_k m_k N(x; x_k, σ_bg²) ]

Foreground: for each of O = grid x grid cells whether there is an object (z_pres), its box (z_where), how deep it lies
(z_depth) and what it looks like (z_what), all under fixed priors: there is no learned layout, and samples of the prior
are scattered objects. q(z_what) looks at a glimpse of the image cropped by z_where. Background: K components, each a
mask and an image (_space_background.py). The defaults are the released settings for three-dimensional rooms.

How SPACE was set up for the comparison on MNIST is not known. The recipe for grey images: no background module, a black
background N(x; 0, σ²) in its place, no boundary loss, GNM's z_what, fixed priors, rates and sigma; and, since on black
nothing else presses cells off, their paper's prior, by which a cell without an object has no other latents (`kl`), and
relaxed presences at a constant temperature, as in others of the authors' settings.

Axes: `K` particles (and background components), `B` batch, `O` cells in row-major order, `C H W` image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ..core.dataset import DatasetInfo
from ..core.errors import UsageError
from ..core.model import (
    Decomposes,
    Decomposition,
    GenerativeModel,
    Locates,
    Location,
    Recipe,
    Training,
    evaluation_option,
)
from ..nn.distributions import HALF_LOG_2PI, Bernoulli, Gaussian, linear
from ._space_background import LATENT, Background, Scene
from ._space_foreground import Cells, Foreground, Layers
from ._space_layers import full

__all__ = ["SPACE"]

EPSILON = (
    1e-5  # added to every mixture weight; the sum is divided out, so that p(x | z) is a density
)


@dataclass(frozen=True)
class SPACEConfig:
    """The authors' released settings for their 3-D rooms; `SPACE.recipe` gives those for grey images."""

    grid: int = 4  # cells per side: 4, 8 or 16
    components: int = 5  # of the background; 0 is a black background without parameters
    what: int = 32
    presence_logit: float = 8.8  # logits are 8.8 tanh(.), as in GNM
    sigma: float = 0.15  # of the foreground
    background_sigma: float = 0.15
    background_lr: float = (
        1e-3  # of Adam, for the background; Training's optimiser and rate are the foreground's
    )
    rate_end: float = 0.01  # rho: 0.1 -> rate_end
    rate_from: float = 4_000
    rate_until: float = 10_000
    scale_mean: float = -1.0  # fixed prior of the pre-sigmoid scale: scale_mean -> scale_mean_end
    scale_mean_end: float = -2.0
    scale_from: float = 10_000
    scale_until: float = 20_000
    scale_std: float = 0.1
    temperature_end: float = 0.5  # tau: 2.5 -> temperature_end
    temperature_until: float = 20_000
    # Whose KL of z_where, z_depth and z_what counts: of every cell (the authors' code), or times its presence, which is
    # their paper's prior: a cell without an object has none of them
    kl: Literal["all", "present"] = "all"
    boundary_until: float = 100_000  # steps with the boundary loss; 0: none
    # How z_pres is drawn and scored in log_weights; "relaxed" is how training does it, and no bound.
    presence: Literal["discrete", "relaxed"] = evaluation_option("discrete")


class Latents(NamedTuple):
    """z_pres (B, O, 1); z_where (B, O, 4) before squashing: scale x, scale y, shift x, shift y; z_depth (B, O, 1);
    z_what (B, O, D). Of the background's K components: z_mask (B, K, 32), z_component (B, K, 32).
    """

    z_pres: Tensor
    z_where: Tensor
    z_depth: Tensor
    z_what: Tensor
    z_mask: Tensor
    z_component: Tensor


class SPACE(GenerativeModel[Latents], Locates, Decomposes):
    """See the module. With the defaults, RGB, 128 pixels: 2,357,167 + 2,950,484 parameters (the authors count 1,024
    more, a constant kernel); with one background component 2,357,167 + 5,331,748.
    """

    version: ClassVar = 2  # 1: on grey images the KL of every cell, the temperature falling to 0.5
    temperature: Tensor

    # A step on images in colour costs three of GNM.
    tiers: ClassVar = {"demo": {"steps": 80}}

    def __init__(self, config: SPACEConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.config, self.data = config, data
        channels, size, _ = data.shape
        if config.grid not in (4, 8, 16) or size // config.grid < 8:
            raise UsageError(
                f"model.grid={config.grid} does not fit an image of {size} pixels; expected 4, 8 or 16, and cells of "
                "at least 8 pixels"
            )
        self.foreground = Foreground(
            channels, size, config.grid, config.what, config.presence_logit
        )
        self.background = (
            Background(channels, size, config.components) if config.components else None
        )
        self.register_buffer("temperature", torch.tensor(2.5))

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """RGB: the released room settings. Grey: ours (see the module), trained as GNM is, for 160,000 steps."""
        if data.shape in ((3, 128, 128), (3, 64, 64)):
            return Recipe(
                SPACEConfig(), Training(steps=160_000, batch_size=12, optimizer="rmsprop", lr=1e-5, clip_norm=1.0)
            )  # fmt: skip
        if data.shape in ((1, 128, 128), (1, 64, 64)):
            config = SPACEConfig(
                components=0, what=20, sigma=0.2, background_sigma=0.2, rate_end=1e-3, rate_from=0, rate_until=4_000,
                scale_mean=-1.6, scale_mean_end=-1.6, boundary_until=0, kl="present", temperature_end=2.5,
            )  # fmt: skip
            return Recipe(
                config, Training(steps=160_000, batch_size=32, optimizer="rmsprop", lr=1e-4, clip_norm=1.0)
            )  # fmt: skip
        raise UsageError(
            f"space is configured for grey or RGB images of 128 (or 64) pixels; {data.name} has {data.shape}"
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The foreground with the training's own optimiser (RMSprop), the background with Adam."""
        groups: list[dict[str, Any]] = [{"params": list(self.foreground.parameters())}]
        if self.background is not None:
            parameters = list(self.background.parameters())
            groups.append(
                {"params": parameters, "lr": self.config.background_lr, "optimizer": "adam"}
            )
        return groups

    # The generative model.

    def prior(self, n: int) -> Latents:
        """Every latent from its prior, the fixed ones at the end of their schedules."""
        rate, where, normal = self._fixed_priors(torch.full((), math.inf, device=self.device))
        presence = rate.logit().expand(n, self.config.grid**2, 1)
        return Latents(
            Bernoulli(presence).sample(),
            _expanded(where, presence, 4).sample(),
            _expanded(normal, presence, 1).sample(),
            _expanded(normal, presence, self.config.what).sample(),
            *self._background_prior(n),
        )

    def _background_prior(self, n: int) -> tuple[Tensor, Tensor]:
        """z_mask and z_component of n images; (n, 0, 32) each where there is no background module."""
        if self.background is None:
            none = torch.zeros(n, 0, LATENT, device=self.device)
            return none, none
        return self.background.prior(n)

    def _fixed_priors(self, step: Tensor) -> tuple[Tensor, Gaussian, Gaussian]:
        """At a step: the rate of presence, the prior of z_where (4,), and N(0, 1)."""
        c = self.config
        rate = linear(step, 0.1, c.rate_end, c.rate_from, c.rate_until)
        scale = linear(step, c.scale_mean, c.scale_mean_end, c.scale_from, c.scale_until)
        zero = torch.zeros_like(scale)
        mean = torch.stack([scale, scale, zero, zero])
        std = torch.cat([mean.new_full((2,), c.scale_std), mean.new_ones(2)])
        return rate, Gaussian(mean, std), Gaussian(zero, zero + 1)

    def decode(self, z: Latents) -> Tensor:
        """The mean of p(x | z): α x_fg + (1 - α) Σ_k m_k x_k."""
        layers = self.foreground.render(z.z_pres, z.z_where, z.z_depth, z.z_what)
        behind = torch.zeros_like(layers.mean)
        if self.background is not None:
            mask, component = self.background.masks(z.z_mask), self.background.images(z.z_component)
            behind = (mask * component).sum(1)
        return layers.alpha * layers.mean + (1 - layers.alpha) * behind

    def _log_likelihood(self, x: Tensor, layers: Layers, scene: Scene | None) -> Tensor:
        """log p(x | z): (B,), a mixture per pixel and channel."""
        c, x = self.config, full(x)
        if scene is None:
            behind = _log_normal(x, torch.zeros_like(x), c.background_sigma)
        else:
            weight = (scene.mask + EPSILON) / (1 + c.components * EPSILON)
            parts = _log_normal(x[:, None], scene.component, c.background_sigma) + weight.log()
            behind = parts.logsumexp(1)
        before = _log_normal(x, layers.mean, c.sigma)
        alpha = (layers.alpha + EPSILON) / (1 + 2 * EPSILON)
        mixture = torch.logaddexp(before + alpha.log(), behind + (1 - alpha).log())
        return mixture.sum((-3, -2, -1))

    # The inference network.

    def infer(self, x: Tensor) -> Latents:
        """One draw from the posterior, presence discrete."""
        cells: Cells = self.foreground(x)
        z_where, z_depth = cells.where.sample(), cells.depth.sample()
        z_what = self.foreground.what(x, z_where).sample()
        if self.background is None:
            none = x.new_zeros(len(x), 0, LATENT)
            return Latents(cells.pres.sample(), z_where, z_depth, z_what, none, none)
        scene: Scene = self.background(x)
        return Latents(
            cells.pres.sample(), z_where, z_depth, z_what, scene.z_mask, scene.z_component
        )

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """Under the fixed priors at the end of their schedules; no boundary loss. Particle by particle, for memory.

        Raises UsageError in training mode, where BatchNorm would let the images of a batch explain each other.
        """
        if self.training:
            raise UsageError(
                "SPACE.log_weights needs BatchNorm's running statistics; call model.eval() first"
            )
        cells: Cells = self.foreground(x)  # once per image
        return torch.stack([self._log_weight(x, cells) for _ in range(particles)])

    def _log_weight(self, x: Tensor, cells: Cells) -> Tensor:
        """One particle per image: (B,)."""
        rate, where, normal = self._fixed_priors(torch.full((), math.inf, device=x.device))
        relaxed = self.config.presence == "relaxed"
        z_pres = cells.pres.relaxed_sample(self.temperature) if relaxed else cells.pres.sample()
        z_where, z_depth = cells.where.sample(), cells.depth.sample()
        what = self.foreground.what(x, z_where)
        z_what = what.sample()
        gate = self._counts(z_pres)
        ratios = [
            Bernoulli(rate.logit()).log_prob(z_pres) - cells.pres.log_prob(z_pres),
            gate * (where.log_prob(z_where) - cells.where.log_prob(z_where)),
            gate * (normal.log_prob(z_depth) - cells.depth.log_prob(z_depth)),
            gate * (normal.log_prob(z_what) - what.log_prob(z_what)),
        ]
        scene = None
        if self.background is not None:
            scene = self.background(x)
            ratios += [
                scene.p_mask.log_prob(scene.z_mask) - scene.q_mask.log_prob(scene.z_mask),
                scene.p_component.log_prob(scene.z_component)
                - scene.q_component.log_prob(scene.z_component),
            ]
        layers = self.foreground.render(z_pres, z_where, z_depth, z_what)
        ratio = torch.stack([each.sum((-2, -1)) for each in ratios]).sum(0)
        return self._log_likelihood(x, layers, scene) + ratio

    def locate(self, x: Tensor) -> Location:
        """Posterior means of boxes and, in those boxes, of appearances; presence is q(z_pres = 1 | x)."""
        cells: Cells = self.foreground(x)
        extent, centre = self.foreground.box(cells.where.mean)
        middle, half = (centre + 1) / 2, extent / 2
        box = torch.cat([middle - half, middle + half], -1) * self.data.shape[1]
        what = self.foreground.what(x, cells.where.mean).mean
        return Location(box, cells.pres.probability[..., 0], what)

    def decompose(self, x: Tensor) -> Decomposition:
        """First the O cells: how much of each pixel a cell explains, all sharing the foreground's one mean image, which
        is how the likelihood sees them; then the background's components, or black.
        """
        z = self.infer(x)
        objects = z.z_pres, z.z_where, z.z_depth, z.z_what
        layers, cover = self.foreground.render(*objects), self.foreground.cover(*objects)
        if self.background is None:
            mask, component = torch.ones_like(layers.alpha)[:, None], torch.zeros_like(x)[:, None]
        else:
            mask, component = self.background.masks(z.z_mask), self.background.images(z.z_component)
        behind = (1 - layers.alpha)[:, None] * mask
        shared = layers.mean[:, None].expand(-1, self.config.grid**2, -1, -1, -1)
        return Decomposition(torch.cat([cover, behind], 1), torch.cat([shared, component], 1))

    # The objective.

    def _counts(self, z_pres: Tensor) -> Tensor:
        """By how much the other latents of a cell count: z_pres (B, O, 1), or 1."""
        return z_pres if self.config.kl == "present" else torch.ones_like(z_pres)

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x | z) + KL(q || p) of every latent, gated by presence or not (`kl`), + the boundary loss.

        The priors of the foreground are fixed but scheduled; those of the background are given the posterior's draws.
        """
        c = self.config
        rate, where_prior, normal = self._fixed_priors(step)
        with torch.no_grad():
            self.temperature.copy_(linear(step, 2.5, c.temperature_end, 0, c.temperature_until))

        cells: Cells = self.foreground(x)
        z_pres = cells.pres.relaxed_sample(self.temperature)
        z_where, z_depth = cells.where.sample(), cells.depth.sample()
        what = self.foreground.what(x, z_where)
        layers = self.foreground.render(z_pres, z_where, z_depth, what.sample())
        scene: Scene | None = None if self.background is None else self.background(x)
        likelihood = self._log_likelihood(x, layers, scene)

        gate = self._counts(z_pres)
        kl = {
            "kl_pres": cells.pres.kl_to(rate), "kl_where": gate * cells.where.kl(where_prior),
            "kl_depth": gate * cells.depth.kl(normal), "kl_what": gate * what.kl(normal),
        }  # fmt: skip
        if scene is not None:
            kl["kl_mask"] = scene.q_mask.kl(scene.p_mask)
            kl["kl_component"] = scene.q_component.kl(scene.p_component)
        terms = {name: term.sum((-2, -1)).mean() for name, term in kl.items()}
        total = -likelihood.mean() + torch.stack(list(terms.values())).sum()
        if c.boundary_until > 0:
            boundary = self.foreground.boundary_loss(z_pres, z_where, layers.alpha).mean()
            terms["boundary"] = boundary
            total = total + (step < c.boundary_until) * boundary
        present = cells.pres.probability.sum((-2, -1)).mean()
        alpha = layers.alpha.mean()
        return total, {
            "log_likelihood": likelihood.mean(),
            **terms,
            "present": present,
            "alpha": alpha,
        }


def _expanded(prior: Gaussian, cells: Tensor, size: int) -> Gaussian:
    """One distribution for every cell: (B, O, size), like `cells` (B, O, 1)."""
    shape = (*cells.shape[:2], size)
    return Gaussian(prior.mean.expand(shape), prior.std.expand(shape))


def _log_normal(x: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """log N(x; mean, sigma²) of each entry."""
    return -(x - mean).square() / (2 * sigma**2) - (math.log(sigma) + HALF_LOG_2PI)
