"""DooD, Difference-AIR and AIR as a reader would write them: oracle of the tests, opponent in benchmarks/.

One operation after another in the order of the paper's steps: torch's own dropout, every network called wherever the
paper looks with it, every pixel of a stroke a sum over the curve's points, frames inverted as matrices and applied with
affine_grid and grid_sample, every density from torch.distributions, the prior's terms inside the loop, one particle
after the other, eager. Noise comes in the order of the models: DooD's stop, frame, stroke; AIR's frame, stop, code.
"""

from __future__ import annotations

import abc
import copy
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as D

from reprise.baselines.difference_air import DifferenceAIR
from reprise.models.dood import DooD
from reprise.nn.distributions import normal, uniform
from reprise.nn.drawing import Features, PartByPart

from .straightforward import plainly

HIDDEN, POINTS, SAMPLES = 256, 5, 100


def squash(raw: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.sigmoid(raw)


def bezier_literally(points: Tensor) -> Tensor:
    """The curve by de Casteljau's construction: (N, P, 2) -> (N, SAMPLES, 2)."""
    u = torch.linspace(0, 1, SAMPLES, dtype=points.dtype)[None, None, :, None]
    level = points[:, :, None, :]
    while level.shape[1] > 1:
        level = (1 - u) * level[:, :-1] + u * level[:, 1:]
    return level[:, 0]


def ink_literally(points: Tensor, sigma: Tensor, side: int) -> Tensor:
    """Σ_i exp(-((x_i - w/S)² + (y_i - h/S)²) / 2σ²): (N, P, 2), (N,) -> (N, side, side)."""
    curve = bezier_literally(points)
    grid = torch.arange(side, dtype=points.dtype) / side
    dx = curve[:, None, None, :, 0] - grid[None, None, :, None]  # (N, 1, W, I)
    dy = curve[:, None, None, :, 1] - grid[None, :, None, None]  # (N, H, 1, I)
    return torch.exp(-(dx**2 + dy**2) / (2 * sigma[:, None, None, None] ** 2)).sum(-1)


def matrix_literally(pose: Tensor) -> Tensor:
    """A with a last row 0 0 1: (N, 4) -> (N, 3, 3)."""
    x, y, scale, angle = pose.unbind(1)
    a = torch.zeros(len(pose), 3, 3, dtype=pose.dtype)
    a[:, 0, 0], a[:, 0, 1], a[:, 0, 2] = scale * torch.cos(angle), -scale * torch.sin(angle), x
    a[:, 1, 0], a[:, 1, 1], a[:, 1, 2] = scale * torch.sin(angle), scale * torch.cos(angle), y
    a[:, 2, 2] = 1
    return a


def warp_literally(image: Tensor, matrix: Tensor) -> Tensor:
    grid = F.affine_grid(matrix[:, :2], list(image.shape), align_corners=True)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def look_literally(image: Tensor, pose: Tensor) -> Tensor:
    return warp_literally(image, matrix_literally(pose))


def place_literally(image: Tensor, pose: Tensor) -> Tensor:
    return warp_literally(image, torch.linalg.inv(matrix_literally(pose)))


class PlainFeatures(nn.Module):
    """φ in torch's layers. Pixels are flattened after channels, so that the weight behind is a permuted copy."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.first, self.second = features.first, features.second
        inner, tanh, outer = features.vector
        flat = cast(nn.Linear, inner).weight.detach()
        side = round((flat.shape[1] / 16) ** 0.5)
        own = nn.Linear(flat.shape[1], len(flat))
        own.weight.data = flat.view(-1, side, side, 16).permute(0, 3, 1, 2).flatten(1).clone()
        own.bias = cast(nn.Linear, inner).bias
        self.vector = nn.Sequential(own, tanh, outer)
        self.train(features.training)

    def forward(self, image: Tensor) -> Tensor:
        maps = F.relu(self.second(F.relu(self.first(image))))
        found: Tensor = self.vector(F.dropout(maps, 0.5, self.training).flatten(1))
        return found


def as_ours(name: str, gradient: Tensor) -> Tensor:
    """A gradient of the permuted copy in the order of the model's weight."""
    if name not in ("image.vector.0.weight", "residual.vector.0.weight"):
        return gradient
    side = round((gradient.shape[1] / 16) ** 0.5)
    return gradient.view(-1, 16, side, side).permute(0, 2, 3, 1).flatten(1)


class Step(NamedTuple):
    """One step of the reading, (B, ...) each. log_p, log_q: of each latent. seen: by the baseline."""

    before: Tensor
    alive: Tensor
    log_p: dict[str, Tensor]
    log_q: dict[str, Tensor]
    seen: Tensor

    def cost(self, name: str) -> Tensor:
        """log q - log p; z_pres is decided if all before it were present, the others are there if it is as well."""
        mask = self.before if name == "stop" else self.alive
        return mask * (self.log_q[name] - self.log_p[name])


class Straightforward(PartByPart):
    """The same parameters; `loss` and `log_weights` written out."""

    @abc.abstractmethod
    def walk(self, x: Tensor) -> tuple[list[Step], Tensor]:
        """All steps, and the canvas at the end."""

    def count(self) -> int:
        c = self.config
        return c.parts if self.training or c.reads is None else c.reads

    def likelihood(self, x: Tensor, canvas: Tensor) -> Tensor:
        b = squash(self.scale_logit, self.config.scale_least, self.config.scale_most)
        kind: Any = D.Laplace if self.config.likelihood == "laplace" else D.Normal
        return cast(Tensor, kind(canvas, b, validate_args=False).log_prob(x)).sum((1, 2, 3))

    def beta_of_stop(self) -> float:
        """What weighs the KL of the stop variables, in the objective and in the signal."""
        return 1.0

    def beta_of_signal(self) -> float:
        """What divides the likelihood in the signal."""
        return self.config.beta

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        steps, canvas = self.walk(x)
        likelihood = self.likelihood(x, canvas)
        elbo, objective = likelihood, likelihood
        for each in steps:
            for name in each.log_q:
                weight = self.beta_of_stop() if name == "stop" else 1.0
                elbo = elbo - each.cost(name)
                objective = objective - weight * each.cost(name)

        signals, expected, state = [], [], None
        for t, each in enumerate(steps):
            signal = -likelihood / self.beta_of_signal()
            for later in steps[t:]:
                for name in later.log_q:
                    weight = self.beta_of_stop() if name == "stop" else 1.0
                    signal = signal + weight * later.cost(name)
            signals.append((each.before * signal).detach())
            hidden, state = self.baseline_rnn(each.seen.detach()[:, None], state)
            expected.append(each.before * self.baseline(hidden[:, 0])[:, 0])

        before = torch.stack([each.before for each in steps], 1)
        advantage = torch.stack([g - b for g, b in zip(signals, expected, strict=True)], 1).detach()
        running = self.standardised
        if self.training:
            made = before.sum()
            mean = (before * advantage).sum() / made
            variance = (before * (advantage - mean) ** 2).sum() / made
            old = 0.0 if running.updates == 0 else self.config.signal_decay
            running.mean.copy_(old * running.mean + (1 - old) * mean)
            running.variance.copy_(old * running.variance + (1 - old) * variance)
            running.updates += 1
        advantage = (advantage - running.mean) / max(1.0, float(running.variance) ** 0.5)

        score, regression = torch.zeros_like(likelihood), torch.zeros_like(likelihood)
        for t, each in enumerate(steps):
            score = score + each.before * advantage[:, t] * each.log_q["stop"]
            regression = regression + each.before * (expected[t] - signals[t]) ** 2
        terms = {
            f"kl_{name}": torch.stack([s.cost(name) for s in steps]).sum(0).mean()
            for name in ("stop", "where", "what")
        }
        terms |= {"elbo": elbo.mean(), "log_likelihood": likelihood.mean()}
        terms["parts"] = torch.stack([s.alive for s in steps]).sum(0).mean()
        b = squash(self.scale_logit, self.config.scale_least, self.config.scale_most)
        terms |= {"scale": b.mean(), "baseline": regression.mean()}
        return (score - objective + regression).mean(), terms

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        weights = []
        for _ in range(particles):
            steps, canvas = self.walk(x)
            weight = self.likelihood(x, canvas)
            for each in steps:
                for name in each.log_q:
                    weight = weight - each.cost(name)
            weights.append(weight)
        return torch.stack(weights)


class StraightforwardDooD(Straightforward, DooD):
    @property
    def coded(self) -> bool:
        return self.config.fidelity == "code"

    def beta_of_stop(self) -> float:
        return 1.0 if self.coded else self.config.beta

    def beta_of_signal(self) -> float:
        return self.config.beta if self.coded else 1.0

    # Distributions.

    def of_layout(self, raw: Tensor) -> D.MultivariateNormal:
        """(..., 9) -> over (..., 4)."""
        quarter = 3.141592653589793 / 4
        mean = torch.stack(
            [
                squash(raw[..., 0], -0.8, 0.8),
                squash(raw[..., 1], -0.8, 0.8),
                squash(raw[..., 2], 0.25, 1.0),
                squash(raw[..., 3], -quarter, quarter),
            ],
            -1,
        )
        tril = torch.diag_embed(squash(raw[..., 4:8], 1e-9, 1.0))
        if self.coded:
            tril[..., 1, 0] = squash(raw[..., 8], -1.0, 1.0)
        return D.MultivariateNormal(mean, scale_tril=tril, validate_args=False)

    def of_point(self, raw: Tensor) -> D.MultivariateNormal:
        """(..., 5) -> over (..., 2)."""
        mean = squash(raw[..., 0:2], -0.2, 1.2)
        tril = torch.diag_embed(torch.sigmoid(raw[..., 2:4]) + 1e-9)
        if self.coded:
            tril[..., 1, 0] = squash(raw[..., 4], -1.0, 1.0)
        return D.MultivariateNormal(mean, scale_tril=tril, validate_args=False)

    def p_layout_of(self, hidden: Tensor) -> D.Distribution:
        if self.config.prior == "independent":
            p = D.Normal(torch.tensor([0, 0, 0.8, 0]), torch.tensor([0.2, 0.2, 0.2, 0.4]))
            return D.Independent(p, 1)
        raw = self.p_layout(hidden).view(len(hidden), self.config.mixtures, 10)
        choice = D.Categorical(logits=raw[..., 0], validate_args=False)
        return D.MixtureSameFamily(choice, self.of_layout(raw[..., 1:]), validate_args=False)

    def p_stroke_of(self, seen: list[Tensor]) -> D.Distribution:
        if self.config.prior == "independent":
            return D.Independent(D.Normal(torch.tensor(0.5).expand(2), torch.tensor(0.2)), 1)
        raw = self.p_stroke(torch.cat(seen, 1))
        raw = raw.view(len(raw), POINTS, self.config.mixtures, 6)
        choice = D.Categorical(logits=raw[..., 0], validate_args=False)
        return D.MixtureSameFamily(choice, self.of_point(raw[..., 1:]), validate_args=False)

    # Drawing.

    def stroke_literally(self, alive: Tensor, where: Tensor, what: Tensor, pen: Tensor) -> Tensor:
        side = self.side
        if self.config.renderer == "mlp":
            image = F.softplus(self.painter(what) - 2).view(-1, 1, side, side)
            image = place_literally(alive[:, None, None, None] * image, where)
        else:
            points = what.view(-1, POINTS, 2)
            if self.config.affine_on == "points":
                ones = torch.ones(len(points), POINTS, 1)
                moved = torch.cat([2 * points - 1, ones], 2) @ matrix_literally(where).mT
                points = moved[:, :, :2] / 2 + 0.5
            image = alive[:, None, None, None] * ink_literally(points, pen[:, 0], side)[:, None]
            if self.config.affine_on == "image":
                image = place_literally(image, where)
        most = image.detach().flatten(1).max(1).values
        most = torch.where(most < 1e-4, torch.ones_like(most), most)[:, None, None, None]
        return torch.tanh(image / most / pen[:, 1, None, None, None])

    def pen_of(self, q_l_sees: Tensor, q_s_sees: Tensor, where: Tensor) -> Tensor:
        if self.coded and not self.training and self.config.rendering == "median":
            return self.pen_median.expand(len(where), 3)
        if self.coded:
            local = self.local_pen(torch.cat([q_s_sees, where], 1))
            raw = torch.cat([local, self.global_slope(q_l_sees)], 1)
        else:
            raw = self.pen_logit.expand(len(where), 3)
        least = 0.01 if self.config.affine_on == "image" else 0.005
        return torch.stack(
            [
                squash(raw[:, 0], least, 0.04),
                squash(raw[:, 1], 0.1, 0.9),
                squash(raw[:, 2], 0.1, 1.5),
            ],
            1,
        )

    def walk(self, x: Tensor) -> tuple[list[Step], Tensor]:
        c, batch, coded = self.config, len(x), self.coded
        phi, rest = self.image, cast(Any, self.residual)
        h_l, h_s = torch.zeros(batch, HIDDEN), torch.zeros(batch, HIDDEN)
        where, what, alive = torch.zeros(batch, 4), torch.zeros(batch, 10), torch.ones(batch)
        canvas = torch.zeros_like(x)
        strokes, slopes, steps = [], [], []
        for _ in range(self.count()):
            canvas = canvas.detach()
            before = alive
            if c.guided:
                e_c = phi(canvas)
                left = x - canvas
                e_left = rest(left)
                share = torch.nan_to_num(left.sum((1, 2, 3)) / x.sum((1, 2, 3)), 0.0)[:, None]
                h_l = self.layout_rnn(torch.cat([where, e_c], 1), h_l)
                h_s = self.stroke_rnn(torch.cat([what, e_c], 1), h_s)
            else:
                h_l, h_s = self.layout_rnn(where, h_l), self.stroke_rnn(what, h_s)
            e_x = phi(x)
            seen = [e_x, before[:, None], where, what, *([e_c] if c.guided else [])]

            if not c.guided:
                stop_sees, q_l_sees = e_x.detach(), [h_l, e_x]
            elif coded:
                stop_sees, q_l_sees = torch.cat([e_left, share], 1), [h_l, e_x, e_left, share]
            else:
                stop_sees, q_l_sees = e_left, [h_l, e_left]
            q = squash(self.q_stop(stop_sees)[:, 0], 1e-9, 1 - 1e-9)
            q_o = D.Bernoulli((q * before).clamp(1e-12, 1 - 1e-12), validate_args=False)
            alive = before * (uniform(q) < q).to(x.dtype)

            q_l = self.of_layout(self.q_layout(torch.cat(q_l_sees, 1)))
            where = drawn(q_l)

            if not c.guided:
                q_s_sees = [h_s, phi(look_literally(x, where))]
            elif coded:
                glimpses = [phi(look_literally(x, where)), rest(look_literally(left, where))]
                q_s_sees = [h_s, *glimpses]
            else:
                q_s_sees = [h_s, rest(look_literally(left, where))]
            q_s = self.of_point(self.q_stroke(torch.cat(q_s_sees, 1)).view(batch, POINTS, 5))
            points = drawn(q_s)
            what = points.flatten(1)
            pen = self.pen_of(torch.cat(q_l_sees, 1), torch.cat(q_s_sees, 1), where)

            strokes.append(self.stroke_literally(alive, where, what, pen))
            slopes.append(pen[:, 2, None, None, None])

            p_s_sees = [h_s, where]
            if c.prior == "independent":
                p = torch.full((batch,), 0.5)
            else:
                p = squash(self.p_stop(phi(canvas) if c.guided else e_x)[:, 0], 1e-9, 1 - 1e-9)
                if c.guided:
                    p_s_sees.append(phi(look_literally(canvas, where)))
            p_o = D.Bernoulli((p * before).clamp(1e-12, 1 - 1e-12), validate_args=False)
            steps.append(
                Step(
                    before,
                    alive,
                    {
                        "stop": p_o.log_prob(alive),
                        "where": self.p_layout_of(h_l).log_prob(where),
                        "what": self.p_stroke_of(p_s_sees).log_prob(points).sum(1),
                    },
                    {
                        "stop": q_o.log_prob(alive),
                        "where": q_l.log_prob(where),
                        "what": q_s.log_prob(points).sum(1),
                    },
                    torch.cat(seen, 1),
                )
            )
            slope = slopes[0] if c.guided else slopes[-1]
            canvas = torch.tanh(torch.stack(strokes).sum(0) / slope)
        return steps, canvas


class StraightforwardDifferenceAIR(Straightforward, DifferenceAIR):
    def walk(self, x: Tensor) -> tuple[list[Step], Tensor]:
        c, batch, side = self.config, len(x), self.side
        h, h_what = torch.zeros(batch, HIDDEN), torch.zeros(batch, HIDDEN)
        alive, where, what = torch.ones(batch), torch.zeros(batch, 4), torch.zeros(batch, c.what)
        canvas = torch.zeros_like(x)
        p_l = D.Normal(torch.tensor([0, 0, 0.8, 0]), torch.tensor([0.2, 0.2, 0.2, 0.4]))
        p_w = D.Normal(torch.zeros(c.what), torch.ones(c.what))
        p_o = D.Bernoulli(torch.tensor(0.5))
        steps = []
        for _ in range(self.count()):
            before = alive
            source, phi = x, self.image
            if c.difference:
                source, phi = x - canvas.detach(), cast(Features, self.residual)
            last = [before[:, None], where, what]
            e_x = self.image(x)
            h = self.where_rnn(torch.cat([*last, phi(source) if c.difference else e_x], 1), h)
            raw = self.where_head(h)
            mean = torch.stack(
                [
                    squash(raw[:, 1], -0.8, 0.8),
                    squash(raw[:, 2], -0.8, 0.8),
                    F.softplus(raw[:, 3]) + 1e-6,
                    raw[:, 4],
                ],
                1,
            )
            q_l = D.Normal(mean, F.softplus(raw[:, 5:9]), validate_args=False)
            where = q_l.mean + q_l.stddev * normal(q_l.mean)
            q = torch.sigmoid(raw[:, 0])
            q_o = D.Bernoulli((q * before).clamp(1e-12, 1 - 1e-12), validate_args=False)
            alive = before * (uniform(q) < q).to(x.dtype)

            h_what = self.what_rnn(phi(look_literally(source, where)), h_what)
            raw = self.what_head(h_what)
            std = F.softplus(raw[:, c.what :]) + 1e-6
            q_w = D.Normal(torch.tanh(raw[:, : c.what]), std, validate_args=False)
            what = q_w.mean + q_w.stddev * normal(q_w.mean)

            image = F.softplus(self.decoder(what) - 2).view(-1, 1, side, side)
            canvas = canvas + place_literally(alive[:, None, None, None] * image, where)
            steps.append(
                Step(
                    before,
                    alive,
                    {
                        "stop": p_o.log_prob(alive),
                        "where": p_l.log_prob(where).sum(1),
                        "what": p_w.log_prob(what).sum(1),
                    },
                    {
                        "stop": q_o.log_prob(alive),
                        "where": q_l.log_prob(where).sum(1),
                        "what": q_w.log_prob(what).sum(1),
                    },
                    torch.cat([e_x, *last], 1),
                )
            )
        return steps, canvas


def drawn(q: D.MultivariateNormal) -> Tensor:
    """One reparametrised draw."""
    return q.mean + (q.scale_tril @ normal(q.mean)[..., None])[..., 0]


def straightforward_dood(model: PartByPart) -> Straightforward:
    """The same parameters (and buffers of its own), written out."""
    plain = plainly(model)
    for module in plain.modules():
        module._buffers = copy.deepcopy(module._buffers)
    for name in ("image", "residual"):
        features = getattr(model, name)
        if features is not None:
            plain._modules[name] = PlainFeatures(features)
    if isinstance(model, DooD):
        plain.__class__ = StraightforwardDooD
    elif isinstance(model, DifferenceAIR):
        plain.__class__ = StraightforwardDifferenceAIR
    else:
        raise TypeError(f"{type(model).__name__} has no straightforward code")
    return cast(Straightforward, plain)
