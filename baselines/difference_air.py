"""Difference-AIR and AIR (Eslami et al., NeurIPS 2016) as DooD is compared with them (Liang et al., NeurIPS 2022).

    o_t ~ Bernoulli(1/2)    l_t ~ N    z_t ~ N(0, I)    c = Σ_t o_t (decoder(z_t) placed at l_t)    x ~ Laplace(c, b)

Difference-AIR, which the paper calls AIR nearly everywhere, looks at what is not painted yet, Δ_t = x - c_t, and never
at x; `difference=False` is AIR, which looks at x at every step. Everything else is DooD's: nn/drawing.py. (AIR as
DM-VAE is compared with it is another model: baselines/air.py.)

Source: the authors' code, as specified for this project; the paper's main text gives no sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.model import Recipe, evaluation_option
from ..nn.active import Active
from ..nn.blocks import tanh_mlp
from ..nn.distributions import Bernoulli, Gaussian
from ..nn.drawing import (
    DEMO,
    HIDDEN,
    MINI,
    Draw,
    DrawingConfig,
    Features,
    PartByPart,
    Parts,
    Reading,
    published,
    squash,
    stop,
)
from ..nn.pose import inverse_map, look, place, warp

__all__ = ["DifferenceAIR"]


@dataclass(frozen=True)
class DifferenceAIRConfig(DrawingConfig):
    """See DrawingConfig.

    refit: what `match` may change; as coded the warped image is made and not used, so that "shape" is what was run.
    what_noise: standard deviation of z in a new exemplar; unstated, ours.
    """

    beta: float = 5.0
    difference: bool = True
    what: int = 10  # numbers in z_t
    what_noise: float = evaluation_option(0.3, scores=False)
    refit: Literal["affine", "shape"] = evaluation_option("affine")


class DifferenceAIR(PartByPart):
    """See the module. 20,055,142 parameters for 50 x 50 pixels; 11,320,710 without the difference."""

    config: DifferenceAIRConfig
    where_mean: Tensor
    where_std: Tensor
    tiers: ClassVar = {"demo": DEMO, "mini": MINI}

    def __init__(self, config: DifferenceAIRConfig, data: DatasetInfo) -> None:
        super().__init__(config, data, config.features + 1 + 4 + config.what, (2, 512))
        self.residual = Features(self.side, config.features) if config.difference else None
        self.where_rnn = nn.GRUCell(1 + 4 + config.what + config.features, HIDDEN)
        self.where_head = tanh_mlp(HIDDEN, 1 + 4 + 4)
        self.what_rnn = nn.GRUCell(config.features, HIDDEN)
        self.what_head = tanh_mlp(HIDDEN, 2 * config.what)
        self.decoder = tanh_mlp(config.what, self.side**2)
        for name, values in (("mean", [0, 0, 0.8, 0]), ("std", [0.2, 0.2, 0.2, 0.4])):
            self.register_buffer(f"where_{name}", torch.tensor(values), persistent=False)

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """The authors' settings: DooD's but for β = 5; on Omniglot the likelihood is Gaussian."""
        kind: Literal["laplace", "normal"] = (
            "normal" if data.name.partition("-")[0] == "omniglot" else "laplace"
        )
        return Recipe(DifferenceAIRConfig(likelihood=kind), published(data))

    # From parts to an image.

    def painted(self, present: Tensor, where: Tensor, what: Tensor) -> Tensor:
        """The picture of each part: (N,), (N, 4), (N, D) -> (N, 1, S, S). At least 0, and without a bound."""
        glimpse = F.softplus(self.decoder(what).float() - 2).view(-1, 1, self.side, self.side)
        return place(present[:, None, None, None] * glimpse, where)

    def canvas(self, z: Parts) -> Tensor:
        """The sum of all parts: (B, 1, S, S)."""
        parts = self.painted(*(part.flatten(0, 1) for part in z[:3]))
        return parts.view(*z.present.shape, *parts.shape[1:]).sum(1)

    # The inference network.

    def read(self, x: Tensor, draw: Draw = "sample", particles: int = 1) -> Reading:
        """See PartByPart. There is no pen."""
        n, steps = len(x) * particles, self.steps
        target_of = self.targets(x, particles)
        copies = x.repeat(particles, 1, 1, 1)
        alive, where = copies.new_ones(n), copies.new_zeros(n, 4)
        what = copies.new_zeros(n, self.config.what)
        hidden, hidden_what = copies.new_zeros(n, HIDDEN), copies.new_zeros(n, HIDDEN)
        canvas = torch.zeros_like(copies)
        found = []
        for _ in range(steps):
            before, goes_on = alive, Active(alive)
            target = target_of(goes_on)
            left = copies - canvas.detach()
            last = torch.cat([before[:, None], where, what], -1)
            seen = target if self.residual is None else goes_on(self.residual, left)
            hidden = goes_on(self.where_rnn, torch.cat([last, seen], -1), hidden)
            raw = goes_on(self.where_head, hidden).float()
            logit, mean, spread = raw.split([1, 4, 4], -1)
            shift, scale, angle = mean.split([2, 1, 1], -1)
            mean = torch.cat([squash(shift, -0.8, 0.8), F.softplus(scale) + 1e-6, angle], -1)
            q_l = Gaussian(mean, F.softplus(spread))
            where = q_l.mean if draw == "mode" else q_l.sample()
            alive = before * stop(logit[:, 0], draw)

            draws = Active(alive)
            source = copies if self.residual is None else left
            glimpse = draws(self._glimpse, source, where)
            hidden_what = draws(self.what_rnn, glimpse, hidden_what)
            mean, spread = draws(self.what_head, hidden_what).float().chunk(2, -1)
            q_s = Gaussian(mean.tanh(), F.softplus(spread) + 1e-6)
            what = q_s.mean if draw == "mode" else q_s.sample()

            canvas = canvas + draws(self.painted, alive, where, what)
            log_q = (q_l.log_prob(where).sum(-1), q_s.log_prob(what).sum(-1))
            baseline = torch.cat([target, last], -1)
            found.append((alive, where, what, before, logit[:, 0], *log_q, canvas, baseline))
        stacked = [torch.stack(parts, 1) for parts in zip(*found, strict=True)]
        present, where, what, before, logit, of_where, of_what, canvases, seen = stacked
        p_l = Gaussian(self.where_mean, self.where_std)
        log_p = {
            "stop": Bernoulli(torch.zeros_like(logit)).log_prob(present),
            "where": p_l.log_prob(where).sum(-1),
            "what": Gaussian(torch.zeros_like(what), torch.ones_like(what)).log_prob(what).sum(-1),
        }
        q_stop = Bernoulli(logit).log_prob(present)
        return Reading(
            Parts(present, where, what, present.new_zeros(*present.shape, 0)),
            before,
            log_p,
            {"stop": q_stop, "where": of_where, "what": of_what},
            canvases,
            seen,
        )

    def _glimpse(self, source: Tensor, where: Tensor) -> Tensor:
        """Features of what the frame shows of the residual, or of the image."""
        features = self.image if self.residual is None else self.residual
        found: Tensor = features(look(source, where))
        return found

    def prior(self, n: int) -> Parts:
        """Everything from its fixed prior."""
        shape, device = (n, self.steps), self.device
        present = (torch.rand(shape, device=device) < 0.5).float().cumprod(1)
        where = self.where_mean + self.where_std * torch.randn(*shape, 4, device=device)
        what = torch.randn(*shape, self.config.what, device=device)
        return Parts(present, where, what, present.new_zeros(*shape, 0))

    # Other exemplars.

    @property
    def degrees(self) -> bool:
        """In radians: what the code does with the angle has no effect there."""
        return False

    def perturb(self, z: Parts) -> Parts:
        """Noise on every z."""
        return z._replace(what=z.what + self.config.what_noise * torch.randn_like(z.what))

    def editable(self, z: Parts) -> Tensor:
        """z of every part."""
        return z.what

    def redraw(self, z: Parts, edited: Tensor, matrix: Tensor) -> Tensor:
        """The parts painted, the whole warped and cut to [0, 1]."""
        image = self.canvas(z._replace(what=edited))
        return self.transformed(image, matrix).clamp(0, 1)

    def transformed(self, image: Tensor, matrix: Tensor) -> Tensor:
        """The image under the map, where the map may act."""
        if self.config.refit == "shape":
            return image
        return warp(image, inverse_map(matrix))
