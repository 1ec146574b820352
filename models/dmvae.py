"""DM-VAE: objects from a memory of discrete slots (Min, Su, Zhu & Zhang, "Discrete Memory Addressing Variational
Autoencoder for Visual Concept Learning", IJCNN 2020).

The generative model. A memory M of slots m_k; per object a type picks a slot, and the slot says how it varies:

    type_t ~ Cat(1/K)    ε_t ~ N(mean(m), std(m)²), m = M[type_t]    patch_t = g(ε_t, m)    c = Σ_t paste(patch_t, u_t)

The inference network. As AIR's (nn/attend.py), then the memory is addressed by what the window shows:

    q(type = k | glimpse) ∝ exp(β cos(h_x(glimpse), h_m(m_k)))        q(ε | glimpse, m)

The objective. The ELBO with Concrete relaxations of z_pres and type, plus γ times the information loss: patches drawn
from slot k should be recognised as k (eq. 8 and 9).

Two readings, `kl_type`. "relaxed" is the paper's: the KL of the relaxed type is that between Concrete densities, which
has no bound of log K, pushes q(type) flat, and so needs the information loss. "categorical" is the KL of the discrete
type itself, with a temperature that falls. β is ours: in a softmax without a key strength, cosines cannot address
anything. (The paper has q in proportion to a similarity, which may be negative.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.model import Recipe, Remembers
from ..nn import concrete
from ..nn.attend import DEMO, MINI, Appearance, AttendConfig, AttendInferRepeat, Draw, published
from ..nn.blocks import mlp
from ..nn.distributions import Gaussian, linear, normal

__all__ = ["DMVAE"]

LOG_KEY_STRENGTHS = math.log(1), math.log(30)  # of β, least and most; unstated


@dataclass(frozen=True)
class DMVAEConfig(AttendConfig):
    """See AttendConfig. What the paper does not say is marked; ours are the values that trained in short runs."""

    memory: int = 15  # K; 50 for characters
    slot: int = 64  # d, unstated
    memory_range: float = 1.0  # M starts uniform in [-range, range]; unstated
    noise: int = 32  # of ε
    kl_type: Literal["categorical", "relaxed"] = "categorical"
    # T of the type: constant; None is 2/3 with the relaxed KL, and 1 -> 0.3 with the categorical. Values are lost.
    type_temperature: float | None = None
    straight_through: bool = (
        False  # the slot that is read is one, its gradient that of the relaxed type
    )
    temperature_until: float = 25_000  # steps over which it falls
    information: float = 1.0  # γ, unstated
    information_from: float = 0.0  # the step from which γ is on
    patches_per_slot: int = 4  # drawn for the information loss, unstated
    key_strength: float = 5.0  # β to begin with; learnt, within [1, 30]
    # "2-layer, 256 and 128" (section V.A) as the encoder's, mirrored, or in the order in which they are named
    generator: Literal["mirrored", "literal"] = "mirrored"


class DMVAE(AttendInferRepeat, Remembers):
    """See the module. 2,200,794 parameters with 15 slots and 2,238,874 with 50, for 50 x 50 pixels."""

    tiers: ClassVar = {"demo": DEMO, "mini": MINI}

    def __init__(self, config: DMVAEConfig, data: DatasetInfo) -> None:
        super().__init__(config, data, Memory(config))

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """Section V of the paper: see `published`."""
        training, scale_std = published(data)
        return Recipe(DMVAEConfig(scale_std=scale_std), training)

    def recall(self, draws: int) -> Tensor:
        """Patches of every slot: at the mean of p(ε | m), then drawn from it; (K, 1 + draws, 1, G, G)."""
        memory = self.appearance
        assert isinstance(memory, Memory)
        slots, side = memory.config.memory, self.config.glimpse
        p = memory.variation(memory.slots)
        drawn = p.mean[:, None] + p.std[:, None] * torch.randn(
            slots, draws, memory.config.noise, device=self.device
        )
        epsilon = torch.cat([p.mean[:, None], drawn], 1)  # (K, 1 + draws, 32)
        m = memory.slots[:, None].expand(-1, 1 + draws, -1)
        patches = memory.generate(epsilon.flatten(0, 1), m.flatten(0, 1))
        return patches.view(slots, 1 + draws, 1, side, side)


class Belief(NamedTuple):
    """q(type), q(ε), p(ε | m) and what was drawn.

    log_q: (B, K), normalised. drawn: (B, K), log of the weights of the slots: relaxed, or of one slot (0, else -inf).
    m: (B, d), the slot's content as it was read.
    """

    log_q: Tensor
    drawn: Tensor
    m: Tensor
    mean: Tensor
    std: Tensor
    epsilon: Tensor


class Memory(Appearance):
    """Slots, how they are addressed, and how they become patches. A code is [weights of the slots (K), ε (32)]."""

    temperature: Tensor
    gamma: Tensor

    def __init__(self, config: DMVAEConfig) -> None:
        super().__init__()
        self.config = config
        pixels, d = config.glimpse**2, config.slot
        self.size = config.memory + config.noise
        self.slots = nn.Parameter(
            torch.empty(config.memory, d).uniform_(-config.memory_range, config.memory_range)
        )
        self.h_x = mlp(
            pixels, 256, 128, 128
        )  # the paper's two layers, then a linear one to compare in
        self.h_m = mlp(d, 256, 128, 128)
        self.log_key_strength = nn.Parameter(torch.tensor(math.log(config.key_strength)))
        self.epsilon_posterior = mlp(pixels + d, 256, 128, 2 * config.noise)
        self.epsilon_prior = mlp(d, 256, 128, 2 * config.noise)
        hidden = (128, 256) if config.generator == "mirrored" else (256, 128)
        self.generator = mlp(config.noise + d, *hidden, pixels)
        nn.init.constant_(self.generator[-1].bias, -2.0)  # type: ignore[arg-type]  # patches start dark
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("gamma", torch.tensor(config.information))

    def advance(self, step: Tensor) -> None:
        """The temperature of the type, whether the information loss is on yet, and β back within its bounds.

        Beyond them it would stay for good: a clamp has no gradient there.
        """
        config = self.config
        with torch.no_grad():
            self.log_key_strength.clamp_(*LOG_KEY_STRENGTHS)
        constant = config.type_temperature
        if constant is None and config.kl_type == "relaxed":
            constant = 2 / 3
        start, end = (1.0, 0.3) if constant is None else (constant, constant)
        self.temperature.copy_(linear(step, start, end, 0, config.temperature_until))
        self.gamma.copy_(config.information * (step >= config.information_from))

    # Addressing.

    def prepare(self) -> Tensor:
        """The keys of the slots, of length β: (K, 128)."""
        return self.key_strength() * F.normalize(self.h_m(self.slots).float(), dim=-1)

    def key_strength(self) -> Tensor:
        """β."""
        return self.log_key_strength.clamp(*LOG_KEY_STRENGTHS).exp()

    def address(self, glimpse: Tensor, keys: Tensor) -> Tensor:
        """log q(type | glimpse): (B, K)."""
        query = F.normalize(self.h_x(glimpse).float(), dim=-1)
        with torch.autocast(query.device.type, enabled=False):  # a product would be bf16 again
            return (query @ keys.T).log_softmax(-1)

    def variation(self, m: Tensor) -> Gaussian:
        """p(ε | m)."""
        return Gaussian.bounded(self.epsilon_prior(m))

    def infer(self, glimpse: Tensor, keys: Tensor, draw: Draw) -> tuple[Tensor, Belief]:
        """The type by addressing, then ε from the glimpse and what was read from the memory."""
        log_q = self.address(glimpse, keys)
        if draw == "relaxed":
            drawn = concrete.categorical(log_q, self.temperature)
            weights = drawn.exp()
            if self.config.straight_through:
                hard = F.one_hot(weights.argmax(-1), self.config.memory).to(weights.dtype)
                weights = hard + weights - weights.detach()
        else:
            index = log_q.argmax(-1)
            if draw == "sample":  # Gumbel's trick: no wait for the host
                index = concrete.categorical(log_q, 1.0).argmax(-1)
            weights = F.one_hot(index, self.config.memory).to(log_q.dtype)
            drawn = weights.log()
        m = weights @ self.slots
        q = Gaussian.bounded(self.epsilon_posterior(torch.cat([glimpse, m], -1)))
        epsilon = q.mean if draw == "mode" else q.sample()
        return torch.cat([weights, epsilon], -1), Belief(log_q, drawn, m, *q, epsilon)

    # What it costs.

    def kl(self, belief: Belief) -> dict[str, Tensor]:
        """KL(q(type) || uniform), of the discrete or of the relaxed type, and KL(q(ε) || p(ε | m))."""
        slots = self.config.memory
        if self.config.kl_type == "categorical":
            of_type = (belief.log_q.exp() * (belief.log_q + math.log(slots))).sum(-1)
        else:
            prior = torch.full_like(belief.log_q, -math.log(slots))
            of_type = concrete.categorical_log_prob(belief.drawn, belief.log_q, self.temperature)
            of_type = of_type - concrete.categorical_log_prob(belief.drawn, prior, self.temperature)
        of_epsilon = Gaussian(belief.mean, belief.std).kl(self.variation(belief.m)).sum(-1)
        return {"type": of_type, "epsilon": of_epsilon}

    def log_ratio(self, belief: Belief) -> dict[str, Tensor]:
        """log p - log q of the slot that was drawn, and of ε."""
        chosen = belief.log_q.gather(-1, belief.drawn.argmax(-1, keepdim=True))[..., 0]
        p, q = self.variation(belief.m), Gaussian(belief.mean, belief.std)
        of_epsilon = (p.log_prob(belief.epsilon) - q.log_prob(belief.epsilon)).sum(-1)
        return {"type": -math.log(self.config.memory) - chosen, "epsilon": of_epsilon}

    # Patches.

    def generate(self, epsilon: Tensor, m: Tensor) -> Tensor:
        """g(ε, m): (B, G²) in [0, 1]."""
        patch: Tensor = self.generator(torch.cat([epsilon, m], -1)).float().sigmoid()
        return patch

    def decode(self, code: Tensor) -> Tensor:
        """The patch of a code."""
        weights, epsilon = code.split([self.config.memory, self.config.noise], -1)
        return self.generate(epsilon, weights @ self.slots)

    def prior(self, n: int) -> Tensor:
        """A slot, each as likely, then ε ~ p(ε | m)."""
        index = torch.randint(self.config.memory, (n,), device=self.slots.device)
        weights = F.one_hot(index, self.config.memory).to(self.slots.dtype)
        return torch.cat([weights, self.variation(weights @ self.slots).sample()], -1)

    def describe(self, code: Tensor, belief: Belief) -> tuple[Tensor, Tensor]:
        """What was read and how it varies, [m, ε]; and q(type)."""
        return torch.cat([belief.m, belief.epsilon], -1), belief.log_q.exp()

    def auxiliary(self) -> tuple[Tensor | float, dict[str, Tensor]]:
        """γ Σ_k mean log q(type = k | patch of slot k), and how often such a patch is recognised (eq. 8)."""
        terms = {"temperature": self.temperature.clone(), "key_strength": self.key_strength()}
        if self.config.information == 0:
            return 0.0, terms
        slots, each = self.config.memory, self.config.patches_per_slot
        m = self.slots.repeat_interleave(each, 0)  # (K n, d)
        p = self.variation(m)
        patches = self.generate(p.mean + p.std * normal(p.mean), m)
        log_q = self.address(patches, self.prepare())
        own = torch.arange(slots, device=log_q.device).repeat_interleave(each)
        information = log_q.gather(1, own[:, None]).sum() / each
        recognised = (log_q.argmax(1) == own).float().mean()
        terms |= {"information": information, "recognised": recognised}
        return self.gamma * information, terms
