"""AIR, DAIR and DM-VAE as a reader of the papers would write them: oracle of the tests, opponent in benchmarks/.

Step by step: glimpses cropped and pasted with affine_grid and grid_sample, each patch decoded and pasted when it is
found, every density from torch.distributions, one particle after the other, eager. Its noise comes in the order of
nn/attend.py: pose, code, presence, and what the information loss draws at the end.
"""

from __future__ import annotations

import abc
import copy
import math
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as D
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from reprise.baselines.air import AIR, Glimpses
from reprise.models.dmvae import DMVAE, DMVAEConfig, Memory
from reprise.nn.attend import AttendInferRepeat
from reprise.nn.distributions import uniform

from .straightforward import paste_literally, plainly
from .straightforward_space import crop_literally, drawn


class Step(NamedTuple):
    """One step of the reading, (B, ...) each. cost: of each latent, where it is there. painted: the patch pasted."""

    seen: Tensor
    log_q: Tensor  # of z_pres
    before: Tensor
    alive: Tensor
    cost: dict[str, Tensor]
    painted: Tensor  # (B, 1, S, S), times alive

    def paid(self, name: str) -> Tensor:
        """z_pres is decided if all before it were present; the others are there if it is present as well."""
        return self.cost[name] * (self.before if name == "presence" else self.alive)


class Straightforward(AttendInferRepeat):
    """The same parameters; `loss` and `log_weights` written out."""

    @abc.abstractmethod
    def look(self, glimpse: Tensor, training: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """(code, what it costs): KL in training, log q - log p of what was drawn otherwise."""

    @abc.abstractmethod
    def patch(self, code: Tensor) -> Tensor:
        """(B, G²)."""

    def extra(self, step: Tensor) -> tuple[Tensor | float, dict[str, Tensor]]:
        return 0.0, {}

    def walk(self, x: Tensor, prior_logit: list[float], training: bool) -> list[Step]:
        c, batch = self.config, len(x)
        relaxed = training and c.gradient == "concrete"
        h, cell = x.new_zeros(batch, 256), x.new_zeros(batch, 256)
        alive, scale, shift = x.new_ones(batch), x.new_zeros(batch, 2), x.new_zeros(batch, 2)
        code = x.new_zeros(batch, self.appearance.size)
        canvas = torch.zeros_like(x)
        steps: list[Step] = []
        for t in range(c.objects):
            residual = x - (canvas.detach() if c.residual_detach else canvas)
            e = (residual if c.difference else x).flatten(1)
            if c.embed == "mlp":
                e = cast(Any, self.embedding)(e)
            seen = torch.cat([e, alive[:, None], scale, shift, code], 1)
            if c.recurrence == "lstm":
                h, cell = cast(Any, self.lstm)(seen, (h, cell))
            else:
                h = cast(Any, self.memoryless)(e)

            mean, log_sd = self.where(h).chunk(2, 1)
            q_u = D.Normal(mean, log_sd.clamp(-6, 2).exp())
            u = drawn(q_u)
            if c.pose == 3:
                scale = torch.stack([u[:, 0], u[:, 0]], 1)
            else:
                scale = u[:, :2]
            scale, shift = scale.sigmoid().clamp(min=c.scale_least), u[:, -2:].tanh()
            p_u = D.Normal(
                u.new_tensor([c.scale_mean] * (c.pose - 2) + [0.0, 0.0]),
                u.new_tensor([c.scale_std] * (c.pose - 2) + [c.shift_std] * 2),
            )
            source = residual if c.difference and c.crop_from == "residual" else x
            glimpse = crop_literally(source, scale, shift, c.glimpse).flatten(1)
            code, cost = self.look(glimpse, training)
            cost["where"] = price(q_u, p_u, u, training)

            logit = self.presence(h)[:, 0]
            q: D.Distribution
            p: D.Distribution
            q, p = D.Bernoulli(logits=logit), D.Bernoulli(logits=logit.new_tensor(prior_logit[t]))
            noise = uniform(logit)
            if relaxed:
                noise = noise.clamp(1e-7, 1 - 1e-7)
                y = (logit + noise.log() - torch.log(1 - noise)) / c.presence_temperature
                temperature = logit.new_tensor(c.presence_temperature)
                q = LogitRelaxedBernoulli(temperature, logits=logit)
                p = LogitRelaxedBernoulli(temperature, logits=torch.full_like(logit, prior_logit[t]))  # fmt: skip
                log_q, present = q.log_prob(y), y.sigmoid()
                cost["presence"] = log_q - p.log_prob(y)
            else:
                present = (noise < torch.sigmoid(logit)).to(x.dtype)
                log_q = q.log_prob(present)
                if training:
                    cost["presence"] = D.kl_divergence(q, p)
                else:
                    cost["presence"] = log_q - p.log_prob(present)

            before, alive = alive, alive * present
            patch = self.patch(code).view(batch, 1, c.glimpse, c.glimpse)
            painted = alive[:, None, None, None] * paste_literally(patch, scale, shift, x.shape[-1])
            canvas = canvas + painted
            steps.append(Step(seen, log_q, before, alive, cost, painted))
        return steps

    def likelihood(self, x: Tensor, steps: list[Step]) -> Tensor:
        c = self.config
        canvas = torch.zeros_like(x)
        for step in steps:
            canvas = canvas + step.painted
        if c.likelihood == "normal":
            return cast(Tensor, D.Normal(canvas, c.sigma).log_prob(x)).sum((1, 2, 3))
        canvas = canvas.clamp(c.margin, 1 - c.margin)
        return -F.binary_cross_entropy(canvas, x, reduction="none").sum((1, 2, 3))

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        c = self.config
        odds = max(c.odds_until, c.odds_from * 10 ** (-step.item() / c.odds_decade))
        self.prior_logit.fill_(math.log(odds))
        steps = self.walk(x, [math.log(odds)] * c.objects, True)
        likelihood = self.likelihood(x, steps)
        names = list(steps[0].cost)
        costs = {name: sum_of([s.paid(name) for s in steps]) for name in names}
        elbo = likelihood - sum_of(list(costs.values()))
        extra, terms = self.extra(step)
        loss = -elbo.mean() - extra
        terms |= {f"kl_{name}": cost.mean() for name, cost in costs.items()}
        terms |= {"log_likelihood": likelihood.mean(), "elbo": elbo.mean()}
        terms |= {"steps": sum_of([s.alive for s in steps]).mean(), "prior_logit": self.prior_logit}
        if c.gradient == "nvil":
            score, regression = self.nvil(steps, likelihood)
            terms["baseline"] = regression
            loss = loss - score + regression
        return loss, terms

    def nvil(self, steps: list[Step], likelihood: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be added to the ELBO, and the baseline's loss."""
        rewards = []
        for i in range(len(steps)):
            reward = likelihood
            for j in range(i, len(steps)):
                for name in steps[j].cost:
                    if (i, "presence") != (
                        j,
                        name,
                    ):  # what z_pres_i costs is known before it is drawn
                        reward = reward - steps[j].paid(name)
            rewards.append(reward.detach())

        net = cast(Any, self.baseline)

        def standard() -> tuple[float, float]:
            correction = 1 - 0.99 ** max(float(net.updates), 1.0)
            mean = net.mean.item() / correction
            return mean, math.sqrt(max(net.square.item() / correction - mean**2, 1.0))

        known = standard() if float(net.updates) else None  # what earlier batches taught
        if self.training:
            made = max(float(sum(s.before.sum() for s in steps)), 1.0)
            first = sum((s.before * r).sum() for s, r in zip(steps, rewards, strict=True)) / made
            second = sum((s.before * r**2).sum() for s, r in zip(steps, rewards, strict=True)) / made  # fmt: skip
            net.mean.copy_(0.99 * net.mean + 0.01 * first)
            net.square.copy_(0.99 * net.square + 0.01 * second)
            net.updates += 1
        mean, std = known or standard()

        signals, regression, state = [], torch.zeros_like(likelihood), None
        for step, reward in zip(steps, rewards, strict=True):
            hidden, state = net.lstm(step.seen.detach()[:, None], state)
            b = net.head(hidden[:, 0])[:, 0]
            signals.append(reward - (mean + std * b.detach()))
            regression = regression + 0.5 * step.before * ((reward - mean) / std - b) ** 2
        if self.config.normalize_signal:
            signals = self.standard_signals(signals, [step.before for step in steps])
        score = sum_of([s.before * s.log_q * v for s, v in zip(steps, signals, strict=True)])
        return score.mean(), regression.mean()

    def standard_signals(self, signals: list[Tensor], before: list[Tensor]) -> list[Tensor]:
        """Less their running mean, over their running deviation where it exceeds 1; this batch counts a fifth."""
        known = self.standardised
        assert known is not None
        if self.training:
            of_made = torch.cat([v[b == 1] for v, b in zip(signals, before, strict=True)])
            share = 0.2 if float(known.updates) else 1.0
            mean, variance = of_made.mean(), of_made.var(correction=0)
            known.mean.copy_((1 - share) * known.mean + share * mean)
            known.variance.copy_((1 - share) * known.variance + share * variance)
            known.updates += 1
        return [(v - known.mean) / max(math.sqrt(float(known.variance)), 1.0) for v in signals]

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        c = self.config
        if c.count_prior == "uniform":  # p(n > t | n >= t) = (N - t) / (N - t + 1)
            prior = [math.log(c.objects - t) for t in range(c.objects)]
        else:
            prior = [self.prior_logit.item()] * c.objects
        weights = []
        for _ in range(particles):
            steps = self.walk(x, prior, False)
            weight = self.likelihood(x, steps)
            for step in steps:
                for name in step.cost:
                    weight = weight - step.paid(name)
            weights.append(weight)
        return torch.stack(weights)


class StraightforwardAIR(Straightforward):
    def look(self, glimpse: Tensor, training: bool) -> tuple[Tensor, dict[str, Tensor]]:
        net = cast(Glimpses, self.appearance)
        mean, log_sd = net.encoder(glimpse).chunk(2, 1)
        q = D.Normal(mean, log_sd.clamp(-6, 2).exp())
        z = drawn(q)
        p = D.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        return z, {"what": price(q, p, z, training)}

    def patch(self, code: Tensor) -> Tensor:
        return torch.sigmoid(cast(Glimpses, self.appearance).decoder(code))


class StraightforwardDMVAE(Straightforward):
    @property
    def net(self) -> Memory:
        return cast(Memory, self.appearance)

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        c = cast(DMVAEConfig, self.config)
        if c.type_temperature is not None:
            temperature = c.type_temperature
        elif c.kl_type == "relaxed":
            temperature = 2 / 3
        else:
            temperature = 1.0 - 0.7 * min(step.item() / c.temperature_until, 1.0)
        self.net.temperature.fill_(temperature)
        return super().loss(x, step)

    def logits(self, patch: Tensor) -> Tensor:
        """β cos(h_x(patch), h_m(m_k)): (B, K)."""
        query, keys = self.net.h_x(patch), self.net.h_m(self.net.slots)
        cosine = F.cosine_similarity(query[:, None], keys[None], dim=-1)
        return self.net.log_key_strength.exp().clamp(1, 30) * cosine

    def noise_given(self, m: Tensor) -> D.Normal:
        mean, log_sd = self.net.epsilon_prior(m).chunk(2, -1)
        return D.Normal(mean, log_sd.clamp(-6, 2).exp())

    def look(self, glimpse: Tensor, training: bool) -> tuple[Tensor, dict[str, Tensor]]:
        c, slots = cast(DMVAEConfig, self.config), self.net.slots
        q_type = D.Categorical(logits=self.logits(glimpse))
        uniform_type = D.Categorical(logits=torch.zeros_like(q_type.logits))
        u = uniform(q_type.logits).clamp(1e-20, 1 - 1e-7)
        gumbel = -torch.log(-torch.log(u))
        if training:
            temperature = self.net.temperature
            v = torch.log_softmax((q_type.logits + gumbel) / temperature, 1)
            weights = v.exp()
            if c.straight_through:  # one slot forwards, the relaxed weights backwards
                one = F.one_hot(weights.argmax(1), len(slots)).to(slots.dtype)
                weights = weights + (one - weights).detach()
            if c.kl_type == "relaxed":
                q_v = ExpRelaxedCategorical(temperature, logits=q_type.logits)
                p_v = ExpRelaxedCategorical(temperature, logits=uniform_type.logits)
                of_type = q_v.log_prob(v) - p_v.log_prob(v)
            else:
                of_type = D.kl_divergence(q_type, uniform_type)
        else:
            index = (q_type.logits + gumbel).argmax(1)
            weights = F.one_hot(index, len(slots)).to(slots.dtype)
            of_type = q_type.log_prob(index) - uniform_type.log_prob(index)
        m = weights @ slots
        mean, log_sd = self.net.epsilon_posterior(torch.cat([glimpse, m], 1)).chunk(2, 1)
        q_epsilon = D.Normal(mean, log_sd.clamp(-6, 2).exp())
        epsilon = drawn(q_epsilon)
        of_epsilon = price(q_epsilon, self.noise_given(m), epsilon, training)
        return torch.cat([weights, epsilon], 1), {"type": of_type, "epsilon": of_epsilon}

    def patch(self, code: Tensor) -> Tensor:
        weights, epsilon = code[:, : len(self.net.slots)], code[:, len(self.net.slots) :]
        return torch.sigmoid(self.net.generator(torch.cat([epsilon, weights @ self.net.slots], 1)))

    def extra(self, step: Tensor) -> tuple[Tensor | float, dict[str, Tensor]]:
        """γ Σ_k mean_j log q(type = k | g(ε_kj, m_k))."""
        c = cast(DMVAEConfig, self.config)
        terms = {
            "temperature": self.net.temperature,
            "key_strength": self.net.log_key_strength.exp(),
        }
        if c.information == 0:
            return 0.0, terms
        k = torch.arange(c.memory).repeat_interleave(c.patches_per_slot)
        m = self.net.slots[k]
        patches = torch.sigmoid(self.net.generator(torch.cat([drawn(self.noise_given(m)), m], 1)))
        q = D.Categorical(logits=self.logits(patches))
        of_slots = q.log_prob(k).view(c.memory, c.patches_per_slot).mean(1)
        terms["information"] = of_slots.sum()
        terms["recognised"] = (q.probs.argmax(1) == k).to(m.dtype).mean()
        gamma = c.information if step.item() >= c.information_from else 0.0
        return gamma * terms["information"], terms


def price(q: D.Distribution, p: D.Distribution, z: Tensor, analytic: bool) -> Tensor:
    """KL(q || p), or its one-sample estimate, of each image: (B,)."""
    each = D.kl_divergence(q, p) if analytic else q.log_prob(z) - p.log_prob(z)
    return each.sum(1)


def sum_of(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0)


def straightforward_air(model: AttendInferRepeat) -> Straightforward:
    """The same parameters (and buffers of its own), written out."""
    plain = plainly(model)
    for module in plain.modules():
        module._buffers = copy.deepcopy(module._buffers)
    if isinstance(model, AIR):
        plain.__class__ = StraightforwardAIR
    elif isinstance(model, DMVAE):
        plain.__class__ = StraightforwardDMVAE
    else:
        raise TypeError(f"{type(model).__name__} has no straightforward code")
    return cast(Straightforward, plain)
