"""GNM: Generative Neurosymbolic Machines. Jiang & Ahn, NeurIPS 2020.

    p(x, z) = p(z^g) p(z^s | z^g) p(z^b | z^g) p(x | z^s, z^b)      q(z | x) = q(z^g | x) q(z^s | x) q(z^b | x)

A distributed latent z^g (StructDRAW, L steps) says how a scene is composed; a structured one, z^s, says for each
of O = 16 cells whether there is an object (z_pres), where (z_where), how deep (z_depth) and what it looks like
(z_what); z^b is the background. x is rendered from z^s and z^b alone.

Two configurations were released. For the Arrow room (`ArrowConfig`): colour glimpses with masks, nearer ones hide
others, a background behind. For the MNIST scenes (`GNMConfig`): glimpses added to black; z^b has no dimensions, and
depth is sampled and pays its KL but renders nothing.

Axes: `K` particles, `B` batch, `O` cells in row-major order, `C H W` image, `G` glimpse side.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ...core.dataset import DatasetInfo
from ...core.errors import UsageError
from ...core.model import (
    Decomposes,
    Decomposition,
    GenerativeModel,
    Locates,
    Location,
    Recipe,
    Resamples,
    Training,
    Traverses,
    refuse_idle,
)
from ...nn.active import Active
from ...nn.blocks import Layer, SubPixelStack, image_encoder
from ...nn.compositing import EMPTY, composite, masked, over, shares, straight_through_clamp
from ...nn.distributions import Gaussian, image_log_prob, linear
from ...nn.spatial_transformer import paste, paste_sum
from ...nn.structdraw import GRID, Drawing, StructDRAW
from .config import ArrowConfig, GNMConfig
from .networks import CELLS, Background, GaussianGlobal, Latents, LocalHead, NoBackground, Structure

__all__ = ["GNM"]


class GNM(GenerativeModel[Latents], Locates, Resamples, Decomposes, Traverses):
    """See the module. 8,636,446 parameters for the Arrow room, 2,930,708 for the MNIST scenes (supplement Table 3)."""

    # The Arrow room's curriculum buys time in updates, in which boxes find objects before the background explains them:
    # squeezed like a schedule it would last 15 updates at tier mini, and presence falls to 0.
    tiers: ClassVar = {
        "mini": {"mask_until": 499 / 0.03, "beta_where_until": 500 / 0.03},
        "demo": {"mask_until": 100 / 0.003, "beta_where_until": 100 / 0.003},
    }

    temperature: Tensor
    where_mean: Tensor
    where_std: Tensor
    cell: Tensor

    def __init__(self, config: GNMConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.config, self.data = config, data
        channels, size, _ = data.shape
        self.encoder = image_encoder(channels, config.width, size)
        hidden = (512, 1024) if isinstance(config, ArrowConfig) else (512, 512)
        self.global_latent: StructDRAW | GaussianGlobal
        if config.global_prior == "structdraw":
            self.global_latent = StructDRAW(
                config.width, interaction=config.interaction, kernel=config.kernel, z_decoder=hidden
            )
        else:
            of_structdraw = ("draw_steps", "interaction", "kernel")
            refuse_idle(config, type(config)(), of_structdraw, "global_prior=gaussian")
            self.global_latent = GaussianGlobal(config.width, hidden)
        self.local = LocalHead(config.width, config.what, config.presence_logit)
        self.background: Background | NoBackground
        if isinstance(config, ArrowConfig):
            layers = [Layer(3, c, 2) for c in (128, 64, 32, 16, 8, channels + 1)]
            self.background = Background(config, channels, size)
        else:
            layers = [
                Layer(1, 64, 4), Layer(1, 64, 2), Layer(1, 32, 2), Layer(1, 16, 2), Layer(3, 8), Layer(3, channels),
            ]  # fmt: skip
            self.background = NoBackground()
        if size == 64:
            del layers[1]  # glimpses have half the side on a canvas of half the side
        self.object_decoder = SubPixelStack(config.what, layers)
        self.register_buffer("temperature", torch.tensor(1.0))
        where = {
            "where_mean": (config.scale_mean, 0.0, 0.0, 0.0),
            "where_std": (config.scale_std, config.ratio_std, 1.0, 1.0),
        }
        for name, values in where.items():
            self.register_buffer(name, torch.tensor(values), persistent=False)
        row, column = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
        cell = torch.stack([column, row], -1).reshape(CELLS, 2) + 0.5  # (O, 2): x, y
        self.register_buffer("cell", cell, persistent=False)

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """The authors' released configurations: for colour images Arrow room's, for grey ones that of their MNIST sets.

        600 epochs of 1,875 steps for both.
        """
        channels, *sides = data.shape
        if channels not in (1, 3) or sides not in ([128, 128], [64, 64]):
            raise UsageError(
                "gnm is configured for grey or colour images of 128 (or 64) pixels a side; "
                f"{data.name} has {data.shape}"
            )
        return Recipe(
            GNMConfig() if channels == 1 else ArrowConfig(),
            Training(steps=1_125_000, batch_size=32, optimizer="rmsprop", lr=1e-4, clip_norm=1.0),
        )

    # The generative model.

    def prior(self, n: int) -> Latents:
        """z^g from its prior, and the mode of everything below it, which is how the authors sample, or a draw."""
        drawing = self.global_latent(None, self.config.draw_steps, n)
        below = self.mode if self.config.samples == "mode" else self.draw
        return below(torch.stack(drawing.z, 1), drawing.f)

    def mode(self, z_global: Tensor, f: Tensor) -> Latents:
        """The mode of p(z^s | z^g) and p(z^b | z^g). f: what z^g draws, (B, width, 4, 4)."""
        p, p_b = self.local(f), self.background.prior(z_global)
        return Latents(z_global, p.pres.mode(), p.where.mean, p.depth.mean, p.what.mean, p_b.mean)

    def draw(self, z_global: Tensor, f: Tensor) -> Latents:
        """A draw from p(z^s | z^g) and p(z^b | z^g), presence discrete; as `mode`."""
        p, p_b = self.local(f), self.background.prior(z_global)
        return Latents(
            z_global, p.pres.sample(), p.where.sample(), p.depth.sample(), p.what.sample(), p_b.sample()
        )  # fmt: skip

    def decode(self, z: Latents) -> Tensor:
        """Mean image (B, C, H, W), not clamped.

        Arrow room: x̃ = x_fg + (1 - M) x_b (supplement, Algorithm 2). MNIST scenes: x̃ = Σ_o z_pres paste(glimpse_o).
        """
        return self.render(z)

    def render(self, z: Latents, early: Tensor | None = None) -> Tensor:
        """`decode`; where `early` (), a boolean, is true, masks are those of the mask curriculum."""
        c, box, side = self.config, self.box(z.z_where), self.data.shape[1]
        glimpse, weight, presence = self.objects(z, early)
        if not isinstance(c, ArrowConfig):
            return paste_sum(glimpse, *box, side)
        foreground, mask = composite(glimpse, weight, *box, side, presence)
        if c.rendering == "paper":
            mask = mask.clamp(max=1)
        else:
            mask = straight_through_clamp(mask, EMPTY, 1 - EMPTY)
        if c.curriculum == "image" and early is not None:
            mask = torch.where(early, c.mask_value, mask)
        assert isinstance(self.background, Background)
        return over(foreground, mask, self.background.logits(z.z_background))

    def objects(
        self, z: Latents, early: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Glimpses (B, O, C, G, G), and how much each hides of what lies with it, (B, O).

        Those of the Arrow room have their mask as last channel; the others are added, and have no weights. The third is
        None where glimpses are as they are pasted; or they are logits, and it is the presence that `masked` asks for.
        """
        c, z_pres = self.config, z.z_pres[..., None, None]
        logits = self._glimpses(z).unflatten(0, z.z_what.shape[:2])  # (B, O, C, G, G)
        if not isinstance(c, ArrowConfig):
            return z_pres * logits.float().sigmoid(), z.z_depth[..., 0], None
        if c.curriculum == "boxes" and early is not None:
            colour, mask = logits.split([self.data.shape[0], 1], 2)
            mask = torch.where(early, math.log(c.mask_value / (1 - c.mask_value)), mask)
            logits = torch.cat([colour, mask], 2)
        near = (-z.z_depth).sigmoid()[..., 0]
        if c.rendering == "paper":
            return logits.float().sigmoid(), z.z_pres[..., 0] * near, None
        # Algorithm 2 pastes the colours as they are; the code multiplies them by their mask and presence, and M too
        return logits, near, z.z_pres[..., 0]

    def _glimpses(self, z: Latents) -> Tensor:
        """Logits of what each cell shows, (B O, C, G, G); those of absent cells are 0 where gradients are not kept."""
        what = z.z_what.flatten(0, 1)[:, :, None, None]
        if torch.is_grad_enabled() or self._shows_what_is_absent:
            logits: Tensor = self.object_decoder(what)
            return logits
        return Active(z.z_pres.flatten())(self.object_decoder, what)

    @property
    def _shows_what_is_absent(self) -> bool:
        """Algorithm 2 to the letter pastes the colours of all objects, present or not."""
        return isinstance(self.config, ArrowConfig) and self.config.rendering == "paper"

    def box(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Extent as a fraction of the image and centre in [-1, 1], (..., O, 2) each, of z_where (..., O, 4)."""
        scale, ratio = where[..., :1].sigmoid(), where[..., 1:2].exp().sqrt()
        extent = torch.cat([scale / ratio, scale * ratio], -1)
        # tanh: a centre moves one cell at most
        centre = 2 / GRID * (self.cell + where[..., 2:].tanh()) - 1
        return extent, centre

    # The inference network.

    def infer(self, x: Tensor) -> Latents:
        """One draw from q(z^g | x) q(z^s | x) q(z^b | x), presence discrete."""
        f_x = self.encoder(x)
        drawing = self.global_latent(f_x, self.config.draw_steps, len(x))
        q, q_b = self.local(f_x), self.background.posterior(f_x)
        return Latents(
            torch.stack(drawing.z, 1),
            q.pres.sample(), q.where.sample(), q.depth.sample(), q.what.sample(), q_b.sample(),
        )  # fmt: skip

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """Learned conditional priors only: the fixed auxiliary priors, beta and the schedules have no part in it."""
        f_x = self.encoder(x)  # once per image, not per particle
        q = self.local(f_x).repeat(particles)
        q_b = Gaussian(*(part.repeat(particles, 1) for part in self.background.posterior(f_x)))
        drawing = self.global_latent(f_x, self.config.draw_steps, particles * len(x))
        z_global = torch.stack(drawing.z, 1)
        p, p_b = self.local(drawing.f), self.background.prior(z_global)
        relaxed = self.config.presence == "relaxed"
        z_pres = q.pres.relaxed_sample(self.temperature) if relaxed else q.pres.sample()
        z = Latents(
            z_global, z_pres, q.where.sample(), q.depth.sample(), q.what.sample(), q_b.sample()
        )
        mean = self.decode(z).unflatten(0, (particles, len(x)))  # (K, B, C, H, W)
        ratio: Tensor = drawing.log_ratio() + p.log_prob(z) - q.log_prob(z)
        ratio = ratio + (p_b.log_prob(z.z_background) - q_b.log_prob(z.z_background)).sum(-1)
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

    def decompose(self, x: Tensor) -> Decomposition:
        """The 16 cells in row-major order, then the background.

        A cell's mask is its share of the clamped M; where M is over 1 its component is darker than its glimpse, for
        that is how it is rendered. On the MNIST scenes a component is white, its mask the ink, the background black.
        With Algorithm 2 to the letter a component may exceed 1, and absent objects darken the background's.
        """
        z = self.infer(x)
        glimpse, weight, presence = self.objects(z)
        if presence is not None:
            glimpse = masked(glimpse, presence)
        pasted = paste(glimpse, *self.box(z.z_where), self.data.shape[1])  # (B, O, C, H, W)
        if isinstance(self.background, Background):
            colour, alpha = pasted.split([self.data.shape[0], 1], 2)
            share = shares(alpha, weight)
            m = alpha.sum(1, keepdim=True).clamp(EMPTY, 1)
            mask, component = m * share, colour / m
            hidden = m * (1 - share.sum(1, keepdim=True))  # by nobody, but in the paper's rendering
            background = (1 - hidden) * self.background.decode(z.z_background)[:, None]
        else:
            ink = pasted.sum(1, keepdim=True).clamp_min(1)
            mask, component = pasted / ink, ink.expand_as(pasted)
            background = torch.zeros_like(ink)
        rest = (1 - mask.sum(1, keepdim=True)).clamp_min(0)
        return Decomposition(torch.cat([mask, rest], 1), torch.cat([component, background], 1))

    def resample(self, x: Tensor | None, rows: int, draws: int) -> Tensor:
        """Supplement Figures 5 and 6: z^g fixed per row, z^s ~ p(z^s | z^g), presence drawn too, z^b ~ p(z^b | z^g)."""
        f_x = None if x is None else self.encoder(x)
        drawing = self.global_latent(f_x, self.config.draw_steps, rows)
        z_global = torch.stack(drawing.z, 1).repeat_interleave(draws, 0)
        z = self.draw(z_global, drawing.f.repeat_interleave(draws, 0))
        return self.decode(z).clamp(0, 1).view(rows, draws, *self.data.shape)

    def move(self, x: Tensor, object: Tensor, shifts: Tensor) -> Tensor:
        """One object's z_where; a centre stays within one cell of its cell's middle."""
        f_x = self.encoder(x)
        q = self.local(f_x)
        z = Latents(
            f_x, q.pres.mode(), q.where.mean, q.depth.mean, q.what.mean, self.background.posterior(f_x).mean
        )  # fmt: skip
        z = Latents(*(part.repeat_interleave(len(shifts), 0) for part in z))  # (B S, ...)
        mine = torch.arange(len(z.z_where)), object.repeat_interleave(len(shifts))
        cells = shifts.repeat(len(x), 1) * GRID / self.data.shape[1]
        where = z.z_where.clone()
        where[*mine, 2:] = (where[*mine, 2:].tanh() + cells).clamp(-0.999, 0.999).atanh()
        images = self.decode(z._replace(z_where=where)).clamp(0, 1)
        return images.view(len(x), len(shifts), *self.data.shape)

    def interpolate(self, x0: Tensor, x1: Tensor, steps: int) -> Tensor:
        """z^g moves, and z^s and z^b follow with their modes."""
        ends = (self.infer(x).z_global for x in (x0, x1))
        z0, z1 = (z[:, None] for z in ends)  # (B, 1, L, ...)
        share = torch.linspace(0, 1, steps, device=z0.device).view(-1, *[1] * (z0.dim() - 2))
        z_global = torch.lerp(z0, z1, share).flatten(0, 1)  # (B steps, L, ...)
        f = self.global_latent.replay(list(z_global.unbind(1)))
        images = self.decode(self.mode(z_global, f)).clamp(0, 1)
        return images.view(len(x0), steps, *self.data.shape)

    # The objective.

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x | z) + β KL(z^g) + KL(q(z^s | x) || p(z^s | z^g)) + KLs of q(z^s | x) to fixed priors; so of z^b.

        The last are the paper's auxiliary terms (supplement eq. 3-5). Those of where, depth and what are gated by the
        sampled presence with its gradient, which is what presses cells off (released code).
        """
        c = self.config
        beta = linear(step, 0.0, c.beta, 0, c.beta_until)
        rate = linear(step, 0.1, 1e-3, 0, c.rate_until)
        with torch.no_grad():
            self.temperature.copy_(linear(step, 1.0, 0.5, c.temperature_from, c.temperature_until))

        f_x = self.encoder(x)
        q: Structure = self.local(f_x)
        q_b = self.background.posterior(f_x)
        drawing: Drawing = self.global_latent(f_x, c.draw_steps, len(x))
        z_global = torch.stack(drawing.z, 1)
        p: Structure = self.local(drawing.f)
        p_b = self.background.prior(z_global)
        z_pres, early = q.pres.relaxed_sample(self.temperature), None
        if isinstance(c, ArrowConfig) and c.curriculum != "off":
            early = step < c.mask_until
            if c.curriculum == "image":
                z_pres = torch.where(early, z_pres.clamp(max=0.99), z_pres)
        z = Latents(
            z_global, z_pres, q.where.sample(), q.depth.sample(), q.what.sample(), q_b.sample()
        )
        likelihood = image_log_prob(x, self.render(z, early), c.sigma)

        conditional = {
            "kl_pres": q.pres.kl(p.pres), "kl_where": q.where.kl(p.where),
            "kl_depth": q.depth.kl(p.depth), "kl_what": q.what.kl(p.what),
        }  # fmt: skip
        gate = z_pres.clamp_min(1e-5)
        auxiliary = {
            "aux_pres": q.pres.kl_to(rate), "aux_where": gate * q.where.kl_to(self.where_mean, self.where_std),
            "aux_depth": gate * q.depth.kl_to(0, 1), "aux_what": gate * q.what.kl_to(0, 1),
        }  # fmt: skip
        weights: dict[str, Tensor] = {}
        if isinstance(c, ArrowConfig):
            conditional["kl_background"] = q_b.kl(p_b)[:, None]
            auxiliary["aux_background"] = q_b.kl_to(0, 1)[:, None]
            b_from = 1.0 if c.curriculum == "off" else c.beta_background
            weights["aux_background"] = linear(step, b_from, 1.0, 0, c.beta_background_until)
            weights["aux_where"] = linear(step, c.beta_where, 1.0, 0, c.beta_where_until)
        terms = {
            name: term.sum((-2, -1)).mean() for name, term in (conditional | auxiliary).items()
        }
        kl_global = drawing.kl().mean()
        kl_structure = torch.stack([terms[name] for name in conditional]).sum()
        if c.beta_on == "all":
            kl_structure = c.beta * kl_structure
        fixed = torch.stack([weights.get(name, 1.0) * terms[name] for name in auxiliary]).sum()
        total = -likelihood.mean() + beta * kl_global + kl_structure + fixed
        present = q.pres.probability.sum((-2, -1)).mean()
        betas = {name.replace("aux", "beta"): weight for name, weight in weights.items()}
        return total, {
            "log_likelihood": likelihood.mean(), "kl_global": kl_global, **terms, "present": present,
            "beta": beta, **betas,
        }  # fmt: skip
