"""Drawing an image part by part: what DooD (Liang, Tenenbaum, Le & Siddharth, NeurIPS 2022) and its AIRs share.

The generative model. At most T parts; at each step a stop variable o_t (0 ends the drawing), a frame l_t (shift, scale,
angle) and what is drawn in it, s_t; the parts so far make a canvas, and the last canvas is the image but for noise:

    o_t ~ Bernoulli    l_t, s_t ~ what the model says    x ~ Laplace(canvas, b) with one learnt b per pixel

The inference network takes the same steps, q(o_t), q(l_t), q(s_t) one after another, seeing what it may.

The objective. The ELBO from one draw, whose gradient through o_t is NVIL's: the signal of decision t is everything that
comes after it. As coded, the likelihood in that signal (and nowhere else) is divided by β; as the paper says, β weighs
the KL of o_t. Terms of a step that is not taken are 0: those of o_t are weighed by `before` = o_{t-1}, others by o_t.

Axes: `B` batch, `T` steps, `S` canvas side, `F` features.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.errors import UsageError
from ..core.model import (
    Drawing,
    Draws,
    GenerativeModel,
    Itemizes,
    Matches,
    Training,
    Varies,
    evaluation_option,
)
from . import nvil
from .active import Active
from .blocks import tanh_mlp
from .distributions import Bernoulli, pixel_log_prob
from .dropout import half
from .gathered import Gathered

Draw = Literal["sample", "mode"]
HIDDEN = 256
DARK = 1e-4  # a part whose brightest pixel is below this is not normalised


@dataclass(frozen=True)
class DrawingConfig:
    """What is common to all; values are those of the authors' code.

    reads: the most parts at test time, `parts` when None. scale_lr: the rate of the pixels' b alone, the training's
    when None: its logit moves by one rate per step at most, so that short trainings cannot reach a small b with it.
    """

    parts: int = 6  # T
    features: int = HIDDEN
    beta: float = 4.0
    likelihood: Literal["laplace", "normal"] = "laplace"
    scale_least: float = 0.01  # of b
    scale_most: float = 1.0
    scale_lr: float | None = None
    baseline_lr: float = 1e-3
    signal_decay: float = 0.8  # of NVIL's running statistics
    # standard deviation of what `match` may change, per number
    shape_noise: float = evaluation_option(0.001, scores=False)
    reads: int | None = evaluation_option(None)


class Parts(NamedTuple):
    """The latents of an image. present: (B, T), o. where: (B, T, 4), l. what: (B, T, D), s. pen: (B, T, R)."""

    present: Tensor
    where: Tensor
    what: Tensor
    pen: Tensor


class Reading(NamedTuple):
    """Everything that reading images gave.

    before: (B, T), o_{t-1}. log_q_stop: (B, T), log q(o_t). log_p, log_q: latent -> (B, T), not masked yet.
    canvas: (B, T, 1, S, S), after each step; gradients reach the parts through the last one only.
    seen: (B, T, ·), what NVIL's baseline may look at.
    """

    parts: Parts
    before: Tensor
    log_p: dict[str, Tensor]
    log_q: dict[str, Tensor]
    canvas: Tensor
    seen: Tensor


class Features(nn.Module):
    """An image as F numbers: two 3 x 3 convolutions (8 and 16 channels, no padding), dropout of a half, a tanh MLP.

    8,734,432 parameters for 50 x 50 pixels and F = 256. `maps` is what does not depend on dropout.
    """

    def __init__(self, side: int, features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.second = nn.Conv2d(8, 16, 3)
        inner = Gathered(16 * (side - 4) ** 2, HIDDEN)
        self.vector = nn.Sequential(inner, nn.Tanh(), nn.Linear(HIDDEN, features))

    def maps(self, image: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, 16 (S - 4)²), channels innermost, as convolutions leave them."""
        found = F.relu_(self.second(F.relu_(self.first(image))))
        return found.permute(0, 2, 3, 1).flatten(1)

    def head(self, maps: Tensor) -> Tensor:
        """(B, 16 (S - 4)²) -> (B, F); every call draws a dropout of its own."""
        found: Tensor = self.vector(half(maps, self.training))
        return found

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, S, S) -> (B, F)."""
        return self.head(self.maps(image))


class PartByPart(GenerativeModel[Parts], Draws, Varies, Matches, Itemizes):
    """See the module. A model of this kind says how to read, what a prior is and how parts become a canvas."""

    unit: Tensor

    def __init__(
        self, config: DrawingConfig, data: DatasetInfo, seen: int, baseline_hidden: tuple[int, int]
    ) -> None:
        super().__init__(config, data)
        side = drawable(data)
        self.config, self.data, self.side = config, data, side
        self.image = Features(side, config.features)  # φ of the image itself
        self.scale_logit = nn.Parameter(torch.zeros(1, side, side))
        self.baseline_rnn = nn.GRU(seen, HIDDEN, batch_first=True)
        hidden, width = baseline_hidden
        self.baseline = tanh_mlp(HIDDEN, 1, hidden=hidden, width=width)
        self.standardised = nvil.Standardised(config.signal_decay)

    # What a model of this kind says.

    @abc.abstractmethod
    def read(self, x: Tensor, draw: Draw = "sample", particles: int = 1) -> Reading:
        """Take all steps on each of K copies of x: fields are (K B, …), copies outermost."""

    @abc.abstractmethod
    def canvas(self, z: Parts) -> Tensor:
        """The image of the parts: (B, 1, S, S)."""

    @abc.abstractmethod
    def editable(self, z: Parts) -> Tensor:
        """The numbers of each part that another exemplar may change: (B, T, E)."""

    @abc.abstractmethod
    def redraw(self, z: Parts, edited: Tensor, matrix: Tensor) -> Tensor:
        """The image with `editable` replaced and all under an affine map: (B, T, E), (B, 2, 3) -> (B, 1, S, S)."""

    @abc.abstractmethod
    def perturb(self, z: Parts) -> Parts:
        """The latents with the noise of another exemplar on them."""

    @property
    @abc.abstractmethod
    def degrees(self) -> bool:
        """Whether `match` and `vary` turn by radians read as degrees, as coded: hardly at all."""

    def tried(self) -> int:
        """How many posterior draws an explanation is the best of."""
        return 1

    # What follows.

    @property
    def steps(self) -> int:
        """The most parts that are drawn now: `reads` wherever nothing is learnt, with dropout or without."""
        reads = self.config.reads
        learning = self.training and torch.is_grad_enabled()
        return self.config.parts if learning or reads is None else reads

    def targets(self, x: Tensor, particles: int) -> Callable[[Active], Tensor]:
        """What gives φ(x) at a step, (K B, F). Dropout is drawn anew at each; the convolutions are not done again."""
        maps = self.image.maps(x)
        if not self.training:
            features = self.image.head(maps).repeat(particles, 1)
            return lambda active: features
        maps = maps.repeat(particles, 1)
        return lambda active: active(self.image.head, maps)

    def scale(self) -> Tensor:
        """b of each pixel: (1, S, S)."""
        return squash(self.scale_logit, self.config.scale_least, self.config.scale_most)

    def log_likelihood(self, x: Tensor, canvas: Tensor) -> Tensor:
        """log p(x | canvas): (B,)."""
        with torch.autocast(x.device.type, enabled=False):
            return pixel_log_prob(x, canvas, self.scale(), self.config.likelihood)

    def decode(self, z: Parts) -> Tensor:
        """The canvas."""
        return self.canvas(z)

    def infer(self, x: Tensor) -> Parts:
        """One draw of the latents per image."""
        return self.read(x).parts

    def draw(self, x: Tensor, sample: bool = True) -> Drawing:
        """See Draws."""
        reading = self.read(x, "sample" if sample else "mode")
        z = reading.parts
        return Drawing(z.present, reading.canvas.clamp(0, 1), z.what, z.where)

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-ELBO with NVIL's gradient through the stop variables, and the regression of the baseline."""
        reading = self.read(x)
        self.remember(reading)
        costs = self.costs(reading)
        likelihood = self.log_likelihood(x, reading.canvas[:, -1])
        elbo = likelihood - torch.stack(list(costs.values())).sum((0, 2))
        weighed, signal_likelihood = self.weigh(costs, likelihood)
        every = torch.stack(list(weighed.values())).sum(0)
        to_come = every.flip(1).cumsum(1).flip(1) - signal_likelihood[:, None]
        to_come = (reading.before * to_come).detach()  # G_t: what decision t can still cost
        hidden, _ = self.baseline_rnn(reading.seen.detach())
        expected = reading.before * self.baseline(hidden)[..., 0].float()
        advantage = self.standardised(to_come - expected, reading.before)
        log_q = reading.log_q["stop"]
        score = nvil.surrogate(log_q, reading.before, -advantage)
        regression = (reading.before * (expected - to_come).square()).sum(1).mean()
        loss = -self.objective(elbo, costs).mean() - score.mean() + regression
        named = {f"kl_{name}": cost.sum(1).mean() for name, cost in costs.items()}
        named |= {
            "elbo": elbo.mean(),
            "log_likelihood": likelihood.mean(),
            "parts": reading.parts.present.sum(1).mean(),
            "scale": self.scale().mean(),
            "baseline": regression,
        }
        return loss, named

    def weigh(
        self, costs: dict[str, Tensor], likelihood: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Costs (B, T) and likelihood (B,) as they enter NVIL's signal: as coded, the likelihood is divided by β."""
        return costs, likelihood / self.config.beta

    def objective(self, elbo: Tensor, costs: dict[str, Tensor]) -> Tensor:
        """What reparametrised gradients maximise, (B,): as coded, the plain ELBO."""
        return elbo

    def remember(self, reading: Reading) -> None:
        """Keep what later sampling needs of this batch, in buffers."""

    def costs(self, reading: Reading) -> dict[str, Tensor]:
        """log q - log p of each latent at each step, weighed by whether it is there: (B, T) each."""
        return {
            name: self.where_taken(reading, name) * (reading.log_q[name] - log_p)
            for name, log_p in reading.log_p.items()
        }

    @staticmethod
    def where_taken(reading: Reading, latent: str) -> Tensor:
        """1 where a latent is there at all, (B, T): o_t while the drawing goes on, the others where o_t is 1."""
        return reading.before if latent == "stop" else reading.parts.present

    def log_weight_terms(self, x: Tensor, particles: int) -> dict[str, Tensor]:
        """log p(x | z), and log p(z) - log q(z | x) of every latent."""
        reading = self.read(x, particles=particles)
        copies = x.repeat(particles, 1, 1, 1)
        terms = {"log_likelihood": self.log_likelihood(copies, reading.canvas[:, -1])}
        terms |= {name: -cost.sum(1) for name, cost in self.costs(reading).items()}
        return {name: term.unflatten(0, (particles, len(x))) for name, term in terms.items()}

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """The sum of `log_weight_terms`."""
        return torch.stack(list(self.log_weight_terms(x, particles).values())).sum(0)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """NVIL's baseline learns at a rate of its own, and b may."""
        baseline = [*self.baseline_rnn.parameters(), *self.baseline.parameters()]
        apart = {id(p) for p in [*baseline, self.scale_logit]}
        others = [p for p in self.parameters() if id(p) not in apart]
        scale: dict[str, Any] = {"params": [self.scale_logit]}
        if self.config.scale_lr is not None:
            scale["lr"] = self.config.scale_lr
        return [{"params": others}, scale, {"params": baseline, "lr": self.config.baseline_lr}]

    # New exemplars, and whether one image is another exemplar of what a second one shows (section 3.2, as coded).

    def vary(self, x: Tensor, draws: int) -> Tensor:
        """Each exemplar: the latents of x, then noise on the shapes and one affine map of the whole."""
        images = []
        for _ in range(draws):
            z, _ = self.explain(x, 1, by="likelihood")
            z = self.perturb(z)
            matrix = self.affine(torch.randn(len(x), 7, device=x.device), EXEMPLAR)
            images.append(self.redraw(z, self.editable(z), matrix))
        return torch.stack(images, 1).clamp(0, 1)

    def explain(
        self, x: Tensor, parses: int, by: Literal["joint", "likelihood"] = "joint"
    ) -> tuple[Parts, Tensor]:
        """`parses` explanations of each image and their log p(x, z): (B P, …), (B, P) nats.

        Each is the best of `tried` draws by that, or by log p(x | z) alone.
        """
        found: list[tuple[Parts, Tensor]] = []
        for _ in range(parses):
            reading = self.read(x, particles=self.tried())
            prior = torch.stack(
                [(self.where_taken(reading, n) * p).sum(1) for n, p in reading.log_p.items()]
            ).sum(0)
            copies = x.repeat(self.tried(), 1, 1, 1)
            likelihood = self.log_likelihood(copies, reading.canvas[:, -1])
            joint = prior + likelihood
            score = joint if by == "joint" else likelihood
            best = score.unflatten(0, (-1, len(x))).argmax(0)
            rows = best * len(x) + torch.arange(len(x), device=x.device)
            found.append((Parts(*(part[rows] for part in reading.parts)), joint[rows]))
        parts = Parts(
            *(torch.stack(p, 1).flatten(0, 1) for p in zip(*(z for z, _ in found), strict=True))
        )
        return parts, torch.stack([score for _, score in found], 1)

    def affine(self, raw: Tensor, limits: Limits) -> Tensor:
        """Seven unbounded numbers as a map of [-1, 1]²: (..., 7) -> (..., 2, 3). Zeros are the identity."""

        def bound(r: Tensor, by: float) -> Tensor:
            return squash(r, -by, by)

        x, y, wide, high, angle, a, b = raw.unbind(-1)
        x, y = bound(x, limits.shift), bound(y, limits.shift)
        wide, high = 1 + bound(wide, limits.scale), 1 + bound(high, limits.scale)
        angle = bound(angle, limits.angle)
        if self.degrees:
            angle = angle * (math.pi / 180)
        a, b = bound(a, limits.shear), bound(b, limits.shear)
        c, s = angle.cos(), angle.sin()
        sheared = 1 + a * b
        first = torch.stack([(c * sheared + s * a) * wide, (-s * sheared + c * a) * high, x], -1)
        second = torch.stack([(c * b + s) * wide, (c - s * b) * high, y], -1)
        return torch.stack([first, second], -2)

    def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
        """log Σ_k w_k p(query | explanation k of the support image), each fitted to each query by Adam at 1e-2.

        What is fitted: the shapes, held to the explanation by N(0, shape_noise²), and an affine map, held by nothing.
        """
        with torch.no_grad():
            z, joint = self.explain(support, parses)
            start = self.editable(z)
        score = support.new_empty(len(query), len(support) * parses)
        for row, image in enumerate(query):
            score[row] = self._fit(z, start, image.expand(len(start), -1, -1, -1), steps)
        weighed = score.view(len(query), len(support), parses) + joint.log_softmax(1)
        return weighed.logsumexp(2)

    def _fit(self, z: Parts, start: Tensor, image: Tensor, steps: int) -> Tensor:
        """What each explanation gives to its image, once fitted: (N,)."""
        frozen = [p for p in self.parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            # whoever measures does so in inference mode, whose tensors know of no gradient: copies do
            with torch.inference_mode(False), torch.enable_grad():
                z, image = Parts(*(part.clone() for part in z)), image.clone()
                start = start.clone()
                edited = start.clone().requires_grad_(True)
                raw = start.new_zeros(len(start), 7).requires_grad_(True)
                optimizer = torch.optim.Adam([edited, raw], lr=1e-2)
                for _ in range(steps):
                    optimizer.zero_grad()
                    (-self._fitted(z, start, edited, raw, image).mean()).backward()
                    optimizer.step()
                return self._fitted(z, start, edited, raw, image).detach()
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    def _fitted(
        self, z: Parts, start: Tensor, edited: Tensor, raw: Tensor, image: Tensor
    ) -> Tensor:
        std = self.config.shape_noise
        error = (
            ((edited - start) / std).square() * 0.5 + math.log(std) + 0.5 * math.log(2 * math.pi)
        )
        per_part = z.present * error.sum(2)
        shape = -per_part.sum(1) / z.present.sum(1).clamp(min=1)
        return shape + self.log_likelihood(image, self.redraw(z, edited, self.affine(raw, REFIT)))


class Limits(NamedTuple):
    """How far an affine map may go: shift in [-1, 1] units, scale about 1, angle and shear in radians, as coded."""

    shift: float
    scale: float
    angle: float
    shear: float


EXEMPLAR = Limits(0.1, 0.1, 0.1 * math.pi, 0.1 * math.pi)
REFIT = Limits(0.2, 0.4, 0.25 * math.pi, 0.3 * math.pi)


def squash(raw: Tensor, low: float, high: float) -> Tensor:
    """Any number into (low, high)."""
    return low + (high - low) * raw.sigmoid()


def stop(logit: Tensor, draw: Draw) -> Tensor:
    """o_t before it is masked: (B,) in {0, 1}."""
    return Bernoulli(logit).mode() if draw == "mode" else Bernoulli(logit).sample()


def drawable(data: DatasetInfo) -> int:
    """The side of the images. Raises UsageError where they are not square and grey."""
    channels, side, width = data.shape
    if channels != 1 or side != width:
        raise UsageError(f"draws square grey images; {data.name} has {data.shape} (C, H, W)")
    return side


def published(data: DatasetInfo) -> Training:
    """The authors' settings: 500,000 batches of 64, Adam at 1e-4; no clipping, no schedule."""
    drawable(data)
    return Training(steps=500_000, batch_size=64, optimizer="adam", lr=1e-4, clip_norm=None)


MINI = {"steps": 4_000, "batch_size": 32, "lr": 2e-4, "scale_lr": 4e-3}
"""Tier mini. Twice the published rate still learns to draw; at ten times it all strokes are switched off within 50
updates, for good. b's logit has to cover in 4,000 updates what it covers in 500,000 at 1e-4, so it has its own rate."""
DEMO = {"steps": 300, "batch_size": 16, "lr": 2e-4, "scale_lr": 2e-2}
