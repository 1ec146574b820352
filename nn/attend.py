"""Attend, infer, repeat: an image read object by object (Eslami et al., NeurIPS 2016). What AIR, DAIR and DM-VAE share.

The generative model. n objects, coded as z_pres = 1 … 1 0; each has a pose u and a code, from which comes its patch:

    u_t ~ N(mean, std²)    code_t ~ appearance    c = Σ_t z_pres_t paste(patch(code_t), window(u_t))    x ~ p(x | c)

The inference network. h_t = LSTM([embedding of x, z_pres, window, code of t - 1]); from h_t come z_pres_t and u_t; the
code comes from what the window shows.

The objective. The ELBO, with z_pres relaxed (Concrete) or drawn and scored by NVIL. A step that is not taken costs
nothing: its presence is weighed by `before` (all earlier steps present), everything else by `alive` (this one as well).

Axes: `B` batch, `T` steps, `P` pose, `D` code, `S` canvas side, `G` glimpse side.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.errors import UsageError
from ..core.model import (
    Attends,
    Attention,
    GenerativeModel,
    Itemizes,
    Locates,
    Location,
    Relaxes,
    Training,
    evaluation_option,
    refuse_idle,
)
from . import concrete, nvil
from .blocks import mlp
from .distributions import Bernoulli, Gaussian, bernoulli_log_prob, image_log_prob
from .spatial_transformer import crop, paste, paste_sum

Draw = Literal["relaxed", "sample", "mode"]
"""How latents are drawn: relaxed where they are discrete, for training; as they are; or their likeliest value."""

EXTENT = 0.1  # an object is where its pasted patch is above this share of its brightest pixel


@dataclass(frozen=True)
class AttendConfig:
    """What is common to all; the models' own files say which paper or code each value is from.

    odds: prior odds of one more object, from `odds_from` down a factor of ten every `odds_decade` steps to
    `odds_until`. count_prior: how log_weights scores z_pres: with the odds that training ended with, or n uniform.
    """

    objects: int = 3  # N, the most that are read
    glimpse: int = 28  # G
    pose: int = 4  # u: two scales and two shifts; 3 ties the scales
    embed: Literal["mlp", "pixels"] = "mlp"  # what of the image the LSTM sees
    gradient: Literal["nvil", "concrete"] = "concrete"  # through z_pres
    presence_temperature: float = 1.0
    odds_from: float = 1e4
    odds_decade: float = 5_000
    odds_until: float = 1e-5
    scale_mean: float = 0.0  # of u, before the sigmoid
    scale_std: float = 0.32
    shift_std: float = 1.0
    scale_least: float = 0.05
    likelihood: Literal["bernoulli", "normal"] = "bernoulli"
    sigma: float = 0.3  # of the normal likelihood
    margin: float = 1e-4  # of the canvas from 0 and 1
    baseline_lr: float = 1e-3
    # NVIL's signal less its running mean, over its running standard deviation, where that exceeds 1
    normalize_signal: bool = False
    difference: bool = False  # the LSTM sees what is not explained yet, not the image
    residual_detach: bool = True
    crop_from: Literal["image", "residual"] = "image"
    # "none": two layers that see what is not explained yet and nothing else, in the LSTM's place; a switch in the code
    # that DAIR is after
    recurrence: Literal["lstm", "none"] = "lstm"
    count_prior: Literal["annealed", "uniform"] = evaluation_option("annealed")


class Appearance(nn.Module, abc.ABC):
    """The latents of what one step sees, and back: a code of `size` numbers.

    A belief is a NamedTuple of tensors (B, …): what the costs are computed from. memory: what `prepare` returned.
    """

    size: int

    def advance(self, step: Tensor) -> None:
        """Move whatever is annealed to a (published) step of the training."""

    def prepare(self) -> Any:
        """What all steps and images share, computed once per pass."""
        return None

    @abc.abstractmethod
    def infer(self, glimpse: Tensor, memory: Any, draw: Draw) -> tuple[Tensor, Any]:
        """(B, G²) -> code (B, D) and the belief it was drawn from."""

    @abc.abstractmethod
    def kl(self, belief: Any) -> dict[str, Tensor]:
        """The costs of training, by latent: (B,) each, from a belief whose tensors are (B, …)."""

    @abc.abstractmethod
    def log_ratio(self, belief: Any) -> dict[str, Tensor]:
        """log p - log q of what was drawn, by latent: (B,) each."""

    @abc.abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """(B, D) -> patches (B, G²) in [0, 1]."""

    @abc.abstractmethod
    def prior(self, n: int) -> Tensor:
        """n codes from the prior."""

    @abc.abstractmethod
    def describe(self, code: Tensor, belief: Any) -> tuple[Tensor, Tensor]:
        """(what (B, D'), probabilities of the memory slots (B, M)); M is 0 without a memory."""

    def auxiliary(self) -> tuple[Tensor | float, dict[str, Tensor]]:
        """What else is to be maximised, and its terms for the log."""
        return 0.0, {}


class Scene(NamedTuple):
    """The latents of an image. present: (B, T), z_pres. pose: (B, T, P), before squashing. code: (B, T, D)."""

    present: Tensor
    pose: Tensor
    code: Tensor


class Reading(NamedTuple):
    """Everything that reading images gave, a step at a time.

    logit: (B, T) of q(z_pres). drawn: (B, T), what was drawn of it: y before the sigmoid if relaxed, else 0 or 1.
    before, alive: (B, T). where: of u, (B, T, P). scene: with `alive` as its `present`. belief: tensors (B, T, …).
    seen: (B, T, …), the LSTM's inputs.
    """

    logit: Tensor
    drawn: Tensor
    before: Tensor
    alive: Tensor
    where: Gaussian
    scene: Scene
    belief: Any
    seen: Tensor


class AttendInferRepeat(GenerativeModel[Scene], Attends, Locates, Relaxes, Itemizes):
    """See the module. A model of this kind is this with an Appearance of its own."""

    prior_logit: Tensor
    pose_mean: Tensor
    pose_std: Tensor

    def __init__(
        self, config: AttendConfig, data: DatasetInfo, appearance: Appearance, recurrent: int = 256
    ) -> None:
        super().__init__(config, data)
        self.config, self.data, self.appearance = config, data, appearance
        if not config.difference:
            idle = ("crop_from", "residual_detach")
            refuse_idle(config, AttendConfig(), idle, "difference=false")
        if config.gradient == "concrete":
            idle = ("baseline_lr", "normalize_signal")
            refuse_idle(config, AttendConfig(), idle, "gradient=concrete")
        self.size = data.shape[-1]
        pixels, scales = self.size**2, config.pose - 2
        self.embedding = (
            nn.Sequential(mlp(pixels, 256, 128), nn.ReLU()) if config.embed == "mlp" else None
        )
        embedded = 128 if self.embedding is not None else pixels
        inputs = embedded + 1 + 4 + appearance.size
        self.lstm: nn.LSTMCell | None = None
        self.memoryless: nn.Sequential | None = None
        if config.recurrence == "lstm":
            self.lstm = nn.LSTMCell(inputs, recurrent)
        elif config.difference:
            self.memoryless = nn.Sequential(mlp(embedded, recurrent, recurrent), nn.ReLU())
        else:
            raise UsageError(
                "model.recurrence=none needs model.difference=true: without a state, every step would see the same"
            )
        self.recurrent = recurrent
        self.presence = mlp(recurrent, 256, 128, 1)
        self.where = mlp(recurrent, 256, 128, 2 * config.pose)
        self.baseline = nvil.Baseline(inputs) if config.gradient == "nvil" else None
        self.standardised = nvil.Standardised() if config.normalize_signal else None
        mean = torch.tensor([config.scale_mean] * scales + [0.0, 0.0])
        std = torch.tensor([config.scale_std] * scales + [config.shift_std] * 2)
        self.register_buffer("pose_mean", mean, persistent=False)
        self.register_buffer("pose_std", std, persistent=False)
        self.register_buffer("prior_logit", torch.tensor(math.log(config.odds_from)))
        # Without these all steps switch off at once (grey patches are punished), or windows start degenerate.
        presence, where = self.presence[-1], self.where[-1]
        assert isinstance(presence, nn.Linear)
        assert isinstance(where, nn.Linear)
        with torch.no_grad():
            presence.bias.fill_(2.0)
            where.weight.mul_(0.1)
            where.bias.copy_(torch.cat([mean, torch.full_like(mean, -2.0)]))

    # The generative model.

    def prior_logits(self, count_prior: str) -> Tensor:
        """log odds of one more object after 0 … T - 1 others: (T,)."""
        if count_prior == "annealed":
            return self.prior_logit.expand(self.config.objects)
        left = torch.arange(self.config.objects, 0, -1, device=self.device)
        return (
            left.float().log()
        )  # n uniform on 0 … T: of the T - t + 1 counts that remain, one stops here

    def prior(self, n: int) -> Scene:
        """Latents from the prior, the count as `count_prior` says."""
        logits = self.prior_logits(self.config.count_prior).expand(n, -1)
        pose = self.pose_mean + self.pose_std * torch.randn(
            n, self.config.objects, self.config.pose, device=self.device
        )
        code = self.appearance.prior(n * self.config.objects).unflatten(0, (n, self.config.objects))
        return Scene(Bernoulli(logits).sample().cumprod(1), pose, code)

    def window(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """scale and shift, (…, 2) each as (x, y): the share of the canvas, and the centre in [-1, 1]."""
        scale, shift = pose.split([pose.shape[-1] - 2, 2], -1)
        scale = scale.sigmoid().clamp(min=self.config.scale_least)
        return scale.expand(shift.shape), shift.tanh()

    def patches(self, code: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, 1, G, G)."""
        side = self.config.glimpse
        return self.appearance.decode(code.flatten(0, 1)).view(*code.shape[:2], 1, side, side)

    def decode(self, z: Scene) -> Tensor:
        """The canvas: the sum of all pasted patches, (B, 1, S, S)."""
        patches = z.present[:, :, None, None, None] * self.patches(z.code)
        return paste_sum(patches, *self.window(z.pose), self.size)

    def log_likelihood(self, x: Tensor, canvas: Tensor) -> Tensor:
        """log p(x | c): (B,)."""
        if self.config.likelihood == "normal":
            return image_log_prob(x, canvas, self.config.sigma)
        return bernoulli_log_prob(x, canvas, self.config.margin)

    # The inference network.

    def read(self, x: Tensor, draw: Draw, particles: int = 1) -> Reading:
        """Take all T steps on each of K copies of x: fields are (K B, …), copies outermost.

        draw: "relaxed" is training: what is discrete is relaxed, but z_pres only where its gradient is Concrete's.
        """
        config = self.config
        presence_draw = "sample" if draw == "relaxed" and self.baseline is not None else draw
        pixels = x.flatten(1)
        embedded = self._embed(pixels).repeat(particles, 1)
        x = x.repeat(particles, 1, 1, 1)
        memory = self.appearance.prepare()
        n = len(x)
        state = (x.new_zeros(n, self.recurrent), x.new_zeros(n, self.recurrent))
        alive = x.new_ones(n)
        last = torch.cat([x.new_ones(n, 1), x.new_zeros(n, 4 + self.appearance.size)], 1)
        source, canvas = x, torch.zeros_like(x)
        steps: list[tuple[Tensor, ...]] = []
        beliefs = []
        for t in range(config.objects):
            seen = torch.cat([embedded, last], 1)
            if self.lstm is not None:
                state = self.lstm(seen, state)
            hidden = state[0] if self.memoryless is None else self.memoryless(embedded)
            logit = self.presence(hidden).float()[:, 0]
            where = Gaussian.bounded(self.where(hidden))
            pose = where.mean if draw == "mode" else where.sample()
            scale, shift = self.window(pose)
            glimpse = crop(source, scale[:, None], shift[:, None], config.glimpse).flatten(1)
            code, belief = self.appearance.infer(glimpse, memory, draw)
            drawn, present = _present(logit, presence_draw, config.presence_temperature)
            before, alive = alive, alive * present
            last = torch.cat([alive[:, None], scale, shift, code], 1)
            steps.append((logit, drawn, before, alive, *where, pose, code, seen))
            beliefs.append(belief)
            if config.difference and t + 1 < config.objects:
                patch = self.patches(code[:, None])[:, 0] * alive[:, None, None, None]
                canvas = canvas + paste(patch, scale, shift, self.size)
                residual = x - (canvas.detach() if config.residual_detach else canvas)
                embedded = self._embed(residual.flatten(1))
                source = residual if config.crop_from == "residual" else x
        stacked = [torch.stack(parts, 1) for parts in zip(*steps, strict=True)]
        logit, drawn, before, alive, mean, std, pose, code, seen = stacked
        belief = type(beliefs[0])(*(torch.stack(b, 1) for b in zip(*beliefs, strict=True)))
        scene = Scene(alive, pose, code)
        return Reading(logit, drawn, before, alive, Gaussian(mean, std), scene, belief, seen)

    def _embed(self, pixels: Tensor) -> Tensor:
        return pixels if self.embedding is None else self.embedding(pixels)

    def infer(self, x: Tensor) -> Scene:
        """One draw of the latents per image."""
        return self.read(x, "sample").scene

    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        """See Attends."""
        reading = self.read(x, "sample" if sample else "mode")
        scene = reading.scene
        scale, shift = self.window(scene.pose)
        patches = scene.present[:, :, None, None, None] * self.patches(scene.code)
        what, slot = self.appearance.describe(scene.code, reading.belief)
        return Attention(
            present=reading.alive,
            probability=reading.logit.sigmoid(),
            window=box(scale, shift, self.size),
            layer=paste(patches, scale, shift, self.size),
            what=what,
            slot=slot,
        )

    def locate(self, x: Tensor) -> Location:
        """Boxes are the extents of what is painted, not the windows, which have a margin."""
        reading = self.read(x, "mode")
        scale, shift = self.window(reading.scene.pose)
        painted = paste(self.patches(reading.scene.code), scale, shift, self.size)
        what, _ = self.appearance.describe(reading.scene.code, reading.belief)
        return Location(extent(painted), reading.logit.sigmoid().cumprod(1), what)

    # The objective.

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-ELBO with its gradient through z_pres, minus whatever else the appearance asks for."""
        decades = step / self.config.odds_decade
        ceiling, floor = (math.log(o) for o in (self.config.odds_from, self.config.odds_until))
        self.prior_logit.copy_((ceiling - math.log(10) * decades).clamp(min=floor))
        self.appearance.advance(step)
        reading = self.read(x, "relaxed")
        costs = self.costs(reading)
        likelihood = self.log_likelihood(x, self.decode(reading.scene))
        elbo = likelihood - sum(cost.sum(1) for cost in costs.values())
        auxiliary, terms = self.appearance.auxiliary()
        loss = -elbo.mean() - auxiliary
        named = {"log_likelihood": likelihood.mean(), "elbo": elbo.mean()}
        named |= {f"kl_{name}": cost.sum(1).mean() for name, cost in costs.items()}
        named |= {
            "steps": reading.alive.sum(1).mean(),
            "prior_logit": self.prior_logit.clone(),
            **terms,
        }
        if self.baseline is not None:
            # What z_pres_t can change: the likelihood, the costs from its own object on, later presences.
            every = torch.stack(list(costs.values())).sum(0)
            reward = likelihood[:, None] - _from_the_end(every) + costs["presence"]
            baseline, regression = self.baseline.fit(reading.seen, reading.before, reward)
            signal = reward - baseline
            if self.standardised is not None:
                signal = self.standardised(signal, reading.before)
            log_q = Bernoulli(reading.logit).log_prob(reading.drawn)
            loss = loss - nvil.surrogate(log_q, reading.before, signal).mean()
            loss = loss + regression
            named["baseline"] = regression
        return loss, named

    def costs(self, reading: Reading) -> dict[str, Tensor]:
        """The KL of each latent at each step, weighed by whether it is there: (B, T) each."""
        prior = self.prior_logits("annealed")
        if self.baseline is not None:
            presence = Bernoulli(reading.logit).kl(Bernoulli(prior.expand_as(reading.logit)))
        else:
            temperature = self.config.presence_temperature
            presence = concrete.binary_log_prob(reading.drawn, reading.logit, temperature)
            presence = presence - concrete.binary_log_prob(reading.drawn, prior, temperature)
        where = reading.where.kl_to(self.pose_mean, self.pose_std).sum(2)
        flat = type(reading.belief)(*(part.flatten(0, 1) for part in reading.belief))
        of_code = self.appearance.kl(flat)
        costs = {"where": where} | {k: v.view_as(where) for k, v in of_code.items()}
        weighed = {name: reading.alive * cost for name, cost in costs.items()}
        return {"presence": reading.before * presence, **weighed}

    def relaxed_elbo(self, x: Tensor) -> Tensor:
        """The objective without its auxiliary terms, at the temperatures and prior of the end of training."""
        reading = self.read(x, "relaxed")
        likelihood = self.log_likelihood(x, self.decode(reading.scene))
        return likelihood - sum(cost.sum(1) for cost in self.costs(reading).values())

    def log_weight_terms(self, x: Tensor, particles: int) -> dict[str, Tensor]:
        """log p(x | z), and log p(z) - log q(z | x) of every latent; all latents as they are, none relaxed."""
        r = self.read(x, "sample", particles)
        p = Bernoulli(self.prior_logits(self.config.count_prior).expand_as(r.logit))
        presence = p.log_prob(r.drawn) - Bernoulli(r.logit).log_prob(r.drawn)
        of_pose = Gaussian(self.pose_mean, self.pose_std).log_prob(r.scene.pose)
        where = (of_pose - r.where.log_prob(r.scene.pose)).sum(2)
        flat = type(r.belief)(*(part.flatten(0, 1) for part in r.belief))
        of_code = {k: v.view_as(where) for k, v in self.appearance.log_ratio(flat).items()}
        canvas = self.decode(r.scene)
        terms = {
            "log_likelihood": self.log_likelihood(x.repeat(particles, 1, 1, 1), canvas),
            "presence": (r.before * presence).sum(1),
            "where": (r.alive * where).sum(1),
            **{name: (r.alive * part).sum(1) for name, part in of_code.items()},
        }
        return {name: term.unflatten(0, (particles, len(x))) for name, term in terms.items()}

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """The sum of `log_weight_terms`."""
        return torch.stack(list(self.log_weight_terms(x, particles).values())).sum(0)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """NVIL's baseline learns at a rate of its own."""
        if self.baseline is None:
            return super().parameter_groups()
        apart = {id(p) for p in self.baseline.parameters()}
        others = [p for p in self.parameters() if id(p) not in apart]
        baseline = {"params": list(self.baseline.parameters()), "lr": self.config.baseline_lr}
        return [{"params": others}, baseline]


def box(scale: Tensor, shift: Tensor, size: int) -> Tensor:
    """Windows as (x0, y0, x1, y1) in pixels: (…, 2), (…, 2) -> (…, 4)."""
    centre, half = (shift + 1) * size / 2, scale * size / 2
    return torch.cat([centre - half, centre + half], -1)


def extent(painted: Tensor) -> Tensor:
    """The least box around all pixels above EXTENT of the brightest: (…, C, S, S) -> (…, 4), x1 and y1 exclusive."""
    bright = painted.amax(-3)
    lit = bright > EXTENT * bright.amax((-2, -1), keepdim=True)
    sides = []
    for across in (lit.any(-2), lit.any(-1)):  # (…, S)
        first = across.int().argmax(-1)
        last = across.shape[-1] - across.flip(-1).int().argmax(-1)
        sides.append((first, torch.where(across.any(-1), last, first)))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], -1).float()


def _present(logit: Tensor, draw: str, temperature: float) -> tuple[Tensor, Tensor]:
    """(what was drawn, the presence it means), both (B,)."""
    if draw == "relaxed":
        y = concrete.binary(logit, temperature)
        return y, y.sigmoid()
    drawn = Bernoulli(logit).mode() if draw == "mode" else Bernoulli(logit).sample()
    return drawn, drawn


def _from_the_end(x: Tensor) -> Tensor:
    """Σ_{j >= t} x_j for every t: (B, T)."""
    return x.flip(1).cumsum(1).flip(1)


MINI = {"steps": 12_000, "time_scale": 0.3, "lr": 3e-4}
"""Tier mini: the rate, and a decade of the count prior every 1,500 updates, at which short runs learnt to count."""
DEMO = {"steps": 1_000, "batch_size": 32, "time_scale": 0.015, "lr": 1e-3}


def published(data: DatasetInfo) -> tuple[Training, float]:
    """DM-VAE's training (section V) and the scale_std for `data`, which all models of its Table I share.

    Batches of 64, Adam at 1e-4; 300 epochs of 58,000 images of 50 x 50, or 3,000 epochs of 13,500 characters. Clipping
    and the prior of poses are not in the paper: windows of about half the canvas for digits, anything for parts.
    Raises UsageError for images that are not square and grey.
    """
    channels, height, width = data.shape
    if channels != 1 or height != width:
        raise UsageError(f"reads square grey images; {data.name} has {data.shape} (C, H, W)")
    digits = height <= 50
    batches = 300 * 906 if digits else 3_000 * 211
    training = Training(steps=batches, batch_size=64, optimizer="adam", lr=1e-4, clip_norm=100.0)
    return training, 0.32 if digits else 0.7
