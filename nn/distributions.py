"""Densities in nats, elementwise; the caller sums over what belongs to one image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def normal(like: Tensor) -> Tensor:
    """Standard normal noise of the shape of `like`, drawn in the order of its axes.

    `torch.randn_like` follows the order in memory, so that another layout or a compiler would draw other noise.
    """
    if torch.compiler.is_compiling():
        return _next(torch.ops.reprise.normal, like)
    return torch.randn(like.shape, device=like.device, dtype=like.dtype)


def uniform(like: Tensor) -> Tensor:
    """Noise from [0, 1), as `normal`."""
    if torch.compiler.is_compiling():
        return _next(torch.ops.reprise.uniform, like)
    return torch.rand(like.shape, device=like.device, dtype=like.dtype)


# When torch's own compiler makes a pass it moves draws, which depend on nothing, to where they suit it, and each would
# have another's numbers. There a draw is an operator that is given the one before it.

_last: list[Tensor | None] = [None]


def first_draw() -> None:
    """The next draw is the first of a pass that is compiled. To be called at its end, too."""
    _last[0] = None


def _next(draw: Callable[[Tensor, Tensor | None], Tensor], like: Tensor) -> Tensor:
    _last[0] = drawn = draw(like.detach(), _last[0])
    return drawn


def _in_shape(like: Tensor, after: Tensor | None) -> Tensor:
    return like.new_empty(like.shape)


def _drawing(name: str, draw: Callable[..., Tensor]) -> None:
    def on_cpu(like: Tensor, after: Tensor | None) -> Tensor:
        return draw(like.shape, dtype=like.dtype)

    torch.library.define(f"reprise::{name}", "(Tensor like, Tensor? after) -> Tensor")
    torch.library.impl(f"reprise::{name}", "CPU", on_cpu)
    torch.library.register_fake(f"reprise::{name}", _in_shape)


_drawing("normal", torch.randn)
_drawing("uniform", torch.rand)


class Gaussian(NamedTuple):
    """A diagonal Gaussian: mean and standard deviation of the same shape (or a float)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def split(cls, raw: Tensor, dim: int = -1) -> Gaussian:
        """From [mean, s] stacked along `dim`, with std = softplus(s) and no floor, as in GNM's code.

        Computed in fp32 whatever the precision of the network: a small std is lost in bf16.
        """
        mean, s = raw.float().chunk(2, dim)
        return cls(mean, F.softplus(s))

    @classmethod
    def bounded(cls, raw: Tensor) -> Gaussian:
        """From [mean, log std] stacked along the last axis, the log std kept in [-6, 2]; in fp32, as `split`."""
        mean, log_std = raw.float().chunk(2, -1)
        return cls(mean, log_std.clamp(-6, 2).exp())

    def sample(self) -> Tensor:
        """One reparametrised draw."""
        return self.mean + self.std * normal(self.mean)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of each entry of z."""
        return -0.5 * ((z - self.mean) / self.std).square() - self.std.log() - HALF_LOG_2PI

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other) of each entry."""
        ratio = self.std / other.std
        return (
            0.5 * (ratio.square() + ((self.mean - other.mean) / other.std).square() - 1)
            - ratio.log()
        )

    def kl_to(self, mean: Tensor | float, std: Tensor | float) -> Tensor:
        """KL(self || N(mean, std^2)) of each entry, for fixed priors."""
        ratio = self.std / std
        return 0.5 * (ratio.square() + ((self.mean - mean) / std).square() - 1) - ratio.log()


class Tilted(NamedTuple):
    """N(mean, L Lᵀ) over the last axis, L diagonal but for one entry that ties the second coordinate to the first.

    mean: (..., D). diagonal: (..., D), of L. corner: (...,), L[1, 0]; not a correlation.
    """

    mean: Tensor
    diagonal: Tensor
    corner: Tensor

    def sample(self) -> Tensor:
        """One reparametrised draw: (..., D)."""
        noise = normal(self.mean)
        tilt = F.pad((self.corner * noise[..., 0])[..., None], (1, self.mean.shape[-1] - 2))
        return self.mean + self.diagonal * noise + tilt

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density: (..., D) -> (...,)."""
        x, y, *others = ((z - self.mean) / self.diagonal).unbind(-1)
        y = y - self.corner / self.diagonal[..., 1] * x
        squares = x.square() + y.square()
        for other in others:
            squares = squares + other.square()
        return -0.5 * squares - self.diagonal.log().sum(-1) - HALF_LOG_2PI * z.shape[-1]


class Mixture(NamedTuple):
    """A mixture of K of them. logits: (..., K). parts: (..., K, D), (..., K, D), (..., K)."""

    logits: Tensor
    parts: Tilted

    def sample(self) -> Tensor:
        """One draw: (..., D); no gradient reaches the choice of the component."""
        gumbel = -(-uniform(self.logits).clamp(1e-7, 1 - 1e-7).log()).log()
        chosen = (self.logits + gumbel).argmax(-1)[..., None]
        wide = chosen[..., None].expand(*chosen.shape, self.parts.mean.shape[-1])
        return Tilted(
            self.parts.mean.gather(-2, wide)[..., 0, :],
            self.parts.diagonal.gather(-2, wide)[..., 0, :],
            self.parts.corner.gather(-1, chosen)[..., 0],
        ).sample()

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density: (..., D) -> (...,)."""
        return (self.logits.log_softmax(-1) + self.parts.log_prob(z[..., None, :])).logsumexp(-1)


class Bernoulli(NamedTuple):
    """Presence variables, by logit."""

    logit: Tensor

    @property
    def probability(self) -> Tensor:
        """p(z = 1)."""
        return self.logit.sigmoid()

    def mode(self) -> Tensor:
        """1 where the logit is positive."""
        return (self.logit > 0).to(self.logit.dtype)

    def sample(self) -> Tensor:
        """A draw from {0, 1}; no gradient."""
        return (uniform(self.logit) < self.probability).to(self.logit.dtype)

    def relaxed_sample(self, temperature: Tensor) -> Tensor:
        """A reparametrised draw from the relaxed Bernoulli (Maddison et al., Jang et al. 2017), in (0, 1)."""
        u = uniform(self.logit).clamp(1e-7, 1 - 1e-7)
        return ((self.logit + u.log() - (-u).log1p()) / temperature).sigmoid()

    def log_prob(self, z: Tensor) -> Tensor:
        """z log p + (1 - z) log(1 - p): the log-mass at z in {0, 1}, and the authors' formula in between."""
        return z * F.logsigmoid(self.logit) + (1 - z) * F.logsigmoid(-self.logit)

    def kl(self, other: Bernoulli) -> Tensor:
        """KL(self || other)."""
        return self.probability * (F.logsigmoid(self.logit) - F.logsigmoid(other.logit)) + (
            -self.logit
        ).sigmoid() * (F.logsigmoid(-self.logit) - F.logsigmoid(-other.logit))

    def kl_to(self, rate: Tensor) -> Tensor:
        """KL(self || Bernoulli(rate))."""
        return self.kl(Bernoulli(rate.log() - (-rate).log1p()))


def image_log_prob(x: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """log N(x; mean, sigma^2 I), summed over the last three axes; at most `ceiling`."""
    x, mean = torch.broadcast_tensors(x.float(), mean.float())
    error = F.mse_loss(mean, x, reduction="none").sum((-3, -2, -1))
    return ceiling(x[0].numel() if x.dim() == 4 else x[0, 0].numel(), sigma) - error / (
        2 * sigma**2
    )


def bernoulli_log_prob(x: Tensor, mean: Tensor, margin: float) -> Tensor:
    """Bernoulli cross-entropy with soft targets, Σ x log c + (1 - x) log(1 - c), summed over the last three axes.

    mean is clamped to [margin, 1 - margin], which also stops its gradient there. At most 0; for x strictly between
    0 and 1 the most that can be reached is minus the pixels' entropies.
    """
    with torch.autocast(x.device.type, enabled=False):
        c, x = mean.float().clamp(margin, 1 - margin), x.float()
        return (x * c.log() + (1 - x) * (-c).log1p()).sum((-3, -2, -1))


def pixel_log_prob(
    x: Tensor, mean: Tensor, scale: Tensor, kind: Literal["laplace", "normal"]
) -> Tensor:
    """log p(x | mean, scale) of independent pixels, summed over the last three axes. scale: (C, H, W) or broadcast."""
    error = (x.float() - mean.float()).abs() / scale
    if kind == "laplace":
        return -(error + (2 * scale).log()).sum((-3, -2, -1))
    return -(0.5 * error.square() + scale.log() + HALF_LOG_2PI).sum((-3, -2, -1))


def ceiling(dimensions: int, sigma: float) -> float:
    """The largest log-likelihood that a Gaussian of this sigma can give an image: D (-ln sigma - ln(2 pi) / 2)."""
    return dimensions * (-math.log(sigma) - HALF_LOG_2PI)


def linear(step: Tensor, start: float, end: float, begin: float, until: float) -> Tensor:
    """A schedule: `start` up to step `begin`, linear to `end` at step `until`, `end` after.

    One of no length is over when it begins: `end`. (In the configuration of GNM's code an `until` of 0 means `start`
    for ever; no released value is 0.)
    """
    if until <= begin:
        return torch.full_like(step, end)  # at step infinity, too, where priors are read
    return start + (end - start) * ((step - begin) / (until - begin)).clamp(0, 1)
