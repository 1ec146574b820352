"""GENESIS (Engelcke et al., ICLR 2020) as Jiang & Ahn 2020 train it: K components that share out the pixels.

    p(x, z^m, z^c) = Π_k p(z^m_k | z^m_<k) p(z^c_k | z^m_k) Π_pixels Σ_k m_k N(x; x_k, 0.2²)
    q(z^m, z^c | x) = Π_k q(z^m_k | x, z^m_<k) q(z^c_k | x, m_k)

z^m_k says where component k is: masks m_k = (share a_k of what the components before it left), the last takes the rest.
z^c_k says what x_k looks like there. Both priors are learned; samples are drawn ancestrally through both.

The authors of GNM changed three things (supplement 4.2): a fixed beta (15 on the Arrow room, 10 on MNIST) in place
of GECO, a broadcast decoder of 3 layers in place of 4, a learning rate that is lowered after a few thousand steps.
The first two are the defaults; GECO, 4 layers and sigma 0.7 are options. The rates are unstated. That of GENESIS's own
code is kept from first to last: on the digits, at a start of 1e-3 (and on 32 pixels with GECO at 3e-4) the sigmoids
saturate at black within the first 500 steps, and all gradients end there. K is the objects of an image and one for
the background.

Where the code of GENESIS and the mathematics part, the mathematics is used: log Σ_k by logsumexp, masks in logs. Batch
normalisation takes the batch's statistics in the training objective and the running ones everywhere else.

Axes: `K` components, `P` particles, `B` batch, `C H W` image, `D` latent.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.errors import UsageError
from ..core.model import (
    Decomposes,
    Decomposition,
    GenerativeModel,
    Recipe,
    Training,
    refuse_idle,
)
from ..nn.chunks import sum_over_chunks
from ..nn.distributions import HALF_LOG_2PI, Gaussian
from ..nn.gating import gate, normalised_gate

__all__ = ["GENESIS"]


@dataclass(frozen=True)
class GENESISConfig:
    """Architecture and GECO: defaults of GENESIS's code; sigma: unstated, see the protocol's deviations."""

    components: int = 5
    objective: Literal["beta", "geco"] = "beta"
    beta: float = 10.0
    decoder_layers: int = 3  # 4 in GENESIS's code
    sigma: float = (
        0.2  # 0.7 in GENESIS's code, with which no published log-likelihood could be reached
    )
    mask_latent: int = 64
    component_latent: int = 16
    geco_goal: float = 0.5655  # nats per pixel and channel, at sigma 0.7
    geco_lr: float = 1e-5  # on 64 x 64 pixels; divided by the number of pixels over 64²
    geco_momentum: float = 0.99
    geco_speed_up: float = 10.0


class Latents(NamedTuple):
    """z_mask: (B, K, 64). z_component: (B, K, 16)."""

    z_mask: Tensor
    z_component: Tensor


class GENESIS(GenerativeModel[Latents], Decomposes):
    """See the module. 13,393,890 parameters on gray images of 128 pixels, 13,397,732 on colour."""

    # A step costs many times one of GNM. demo: a few show that it runs, and no more. mini: an hour of a core.
    tiers: ClassVar = {
        "demo": {"steps": 20, "batch_size": 8},
        "mini": {"steps": 2_500, "batch_size": 8},
    }

    geco_beta: Tensor
    geco_error: Tensor

    def __init__(self, config: GENESISConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.config, self.data = config, data
        channels, size, _ = data.shape
        if config.objective == "geco":
            idle: tuple[str, ...] = ("beta",)
        else:
            idle = ("geco_goal", "geco_lr", "geco_momentum", "geco_speed_up")
        refuse_idle(config, self.recipe(data).config, idle, f"objective={config.objective}")
        self.mask_encoder = MaskEncoder(channels, size)
        self.mask_posterior = MaskPosterior(config.mask_latent)
        self.mask_prior = MaskPrior(config.mask_latent)
        self.mask_decoder = MaskDecoder(config.mask_latent, size)
        self.component_encoder = ComponentEncoder(channels, config.component_latent, size)
        self.component_prior = ComponentPrior(config.mask_latent, config.component_latent)
        self.component_decoder = BroadcastDecoder(
            config.component_latent, channels, config.decoder_layers, size
        )
        self.register_buffer("geco_beta", torch.tensor(1.0))
        self.register_buffer("geco_error", torch.tensor(math.inf))  # no step was taken yet

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """The rates, K, sigma and the length are unstated: GENESIS's own or ours, see the deviations."""
        channels, height, width = data.shape
        if channels not in (1, 3) or height != width or height not in (32, 64, 128):
            raise UsageError(
                f"genesis is configured for gray or RGB images of 128 (64 or 32) pixels; {data.name} has {data.shape}"
            )
        if data.objects < 1:
            raise UsageError(
                f"genesis has one component per object and one for the background; {data.name} says that its images "
                "hold no objects, expected DatasetInfo.objects >= 1"
            )
        beta = 15.0 if channels == 3 else 10.0
        return Recipe(
            GENESISConfig(components=data.objects + 1, beta=beta),
            Training(steps=1_125_000, batch_size=32, optimizer="adam", lr=1e-4, clip_norm=None),
        )

    # The generative model.

    def prior(self, n: int) -> Latents:
        """z^m_k ~ p(z^m_k | z^m_<k), z^c_k ~ p(z^c_k | z^m_k)."""
        noise = torch.randn(n, self.config.components, self.config.mask_latent, device=self.device)
        z_mask = self.mask_prior.sample(noise)
        return Latents(z_mask, self.component_prior(z_mask).sample())

    def decode(self, z: Latents) -> Tensor:
        """Σ_k m_k x_k: (B, C, H, W)."""
        mask, component = self._layers(z)
        return (mask * component).sum(1)

    def _layers(self, z: Latents) -> Decomposition:
        """A few images at a time: the maps of all components at once would take gigabytes."""
        parts = []
        for z_mask, z_component in zip(
            z.z_mask.split(self._chunk), z.z_component.split(self._chunk), strict=True
        ):
            log_mask = self.mask_decoder(z_mask, batch_statistics=False)
            component = self.component_decoder(z_component, self.component_decoder.positions())
            parts.append(Decomposition(log_mask.exp(), component.sigmoid()))
        return Decomposition(*(torch.cat(part) for part in zip(*parts, strict=True)))

    @property
    def _chunk(self) -> int:
        """Images decoded at a time: on a CPU so few that their maps stay in its caches (one of 128 pixels)."""
        return 128**2 // self.data.shape[1] ** 2 if self.device.type == "cpu" else 32

    def log_likelihood(self, x: Tensor, log_mask: Tensor, logits: Tensor) -> Tensor:
        """log Π Σ_k m_k N(x; x_k, σ²) over pixels and channels: (B,).

        x: (B, C, H, W). log_mask: (B, K, 1, H, W). logits: (B, K, C, H, W), of the components' means.
        """
        sigma = self.config.sigma
        error = (x[:, None] - logits.float().sigmoid()) * (math.sqrt(0.5) / sigma)
        mixed = (log_mask - error.square()).logsumexp(1).sum((1, 2, 3))
        result: Tensor = mixed - x[0].numel() * (math.log(sigma) + HALF_LOG_2PI)
        return result

    # The inference network.

    def infer(self, x: Tensor) -> Latents:
        """One draw from q(z^m, z^c | x)."""
        z_mask, _ = self._infer_masks(self.mask_encoder(x, batch_statistics=False))
        log_mask = self._log_masks(z_mask)
        return Latents(z_mask, self.component_encoder(x, log_mask).sample())

    def _infer_masks(self, h: Tensor) -> tuple[Tensor, Gaussian]:
        """A draw of z^m (B, K, D) and the q it comes from. h: (B, 256)."""
        noise = torch.randn(
            len(h), self.config.components, self.config.mask_latent, device=h.device
        )
        drawn: tuple[Tensor, Gaussian] = self.mask_posterior(h, noise)
        return drawn

    def _log_masks(self, z_mask: Tensor) -> Tensor:
        parts = [self.mask_decoder(z, batch_statistics=False) for z in z_mask.split(self._chunk)]
        return torch.cat(parts)

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """log Σ_k m_k N(x; x_k, σ²) over pixels + Σ_k [log p - log q](z^m_k) + Σ_k [log p - log q](z^c_k)."""
        h = self.mask_encoder(x, batch_statistics=False)  # once per image, not per particle
        z_mask, q_mask = self._infer_masks(h.repeat(particles, 1))  # (P B, K, D)
        kl = self.kl_mask(z_mask, q_mask)
        noise = torch.randn(*z_mask.shape[:2], self.config.component_latent, device=x.device)
        positions = self.component_decoder.positions()
        of_images = self.component_encoder.of_image(x)
        weights = []
        for at in range(0, len(z_mask), self._chunk):  # as many maps as fit the caches
            part = slice(at, at + self._chunk)
            image = torch.arange(len(z_mask), device=x.device)[part] % len(x)
            log_mask = self.mask_decoder(z_mask[part], batch_statistics=False)
            q = self.component_encoder(x[image], log_mask, of_images[image])
            z_component = q.mean + q.std * noise[part]
            logits = self.component_decoder(z_component, positions)
            p = self.component_prior(z_mask[part])
            ratio = (p.log_prob(z_component) - q.log_prob(z_component)).sum((1, 2))
            weights.append(self.log_likelihood(x[image], log_mask, logits) + ratio)
        return (torch.cat(weights) - kl).view(particles, len(x))

    def kl_mask(self, z_mask: Tensor, q: Gaussian) -> Tensor:
        """Σ_k log q - log p at the draw: one sample of KL(q(z^m | x) || p(z^m)), (B,)."""
        ratio: Tensor = q.log_prob(z_mask) - self.mask_prior(z_mask).log_prob(z_mask)
        return ratio.sum((1, 2))

    def decompose(self, x: Tensor) -> Decomposition:
        """Masks and components of one draw from q."""
        return self._layers(self.infer(x))

    # The objective.

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x | z) + β [log q(z^m, z^c | x) - log p(z^m, z^c)] at one draw: its KLs are Monte-Carlo estimates."""
        z_mask, q_mask = self._infer_masks(self.mask_encoder(x, batch_statistics=self.training))
        log_mask = self.mask_decoder(z_mask, batch_statistics=self.training)
        q_component = self.component_encoder(x, log_mask)
        z_component = q_component.sample()
        p_component = self.component_prior(z_mask)
        kl_mask = self.kl_mask(z_mask, q_mask).mean()
        kl_component = q_component.log_prob(z_component) - p_component.log_prob(z_component)
        kl_component = kl_component.sum((1, 2)).mean()
        likelihood = self._mean_log_likelihood(x, log_mask, z_component)
        beta = self._beta(-likelihood)
        loss = -likelihood + beta * (kl_mask + kl_component)
        return loss, {
            "log_likelihood": likelihood, "kl_mask": kl_mask, "kl_component": kl_component, "beta": beta,
        }  # fmt: skip

    def _mean_log_likelihood(self, x: Tensor, log_mask: Tensor, z_component: Tensor) -> Tensor:
        """Of the batch, decoding a few images at a time."""
        decoder = self.component_decoder

        def of_chunk(x: Tensor, log_mask: Tensor, z: Tensor, positions: Tensor) -> Tensor:
            return self.log_likelihood(x, log_mask, decoder(z, positions))

        total = sum_over_chunks(
            of_chunk, self._chunk, (x, log_mask, z_component), (decoder.positions(),), list(decoder.parameters())
        )  # fmt: skip
        return total / len(x)

    def _beta(self, error: Tensor) -> Tensor:
        """The KLs' weight: fixed, or GECO's (Rezende & Viola 2018), which falls while the error exceeds its goal."""
        c = self.config
        if c.objective == "beta":
            return torch.full((), c.beta, device=error.device)
        beta = self.geco_beta.clone()
        if self.training:
            with torch.no_grad():
                pixels = self.data.shape[1] * self.data.shape[2]
                goal = self.goal() * pixels * self.data.shape[0]
                mean = c.geco_momentum * self.geco_error + (1 - c.geco_momentum) * error
                self.geco_error.copy_(torch.where(self.geco_error.isinf(), error, mean))
                slack = goal - self.geco_error
                rate = c.geco_lr * 64**2 / pixels * torch.where(slack > 0, c.geco_speed_up, 1.0)
                self.geco_beta.mul_((rate * slack).exp()).clamp_(1e-10, 1e10)
        return beta

    def goal(self) -> float:
        """GECO's, per pixel and channel, for this sigma: that of the squared error that `geco_goal` is at 0.7.

        -log N(x; m, s²) = ln s + ln(2 pi) / 2 + (x - m)² / (2 s²). Unchanged, a black image would meet it at sigma 0.2.
        """
        sigma, released = self.config.sigma, 0.7
        of_error = (self.config.geco_goal - math.log(released) - HALF_LOG_2PI) * released**2
        return math.log(sigma) + HALF_LOG_2PI + of_error / sigma**2


class GatedConv(nn.Module):
    """(Transposed) convolution to h and g, batch normalisation of both, h · sigmoid(g).

    (B, C, H, W) -> (B, C', H / s, W / s), or (B, C', s H, s W) when transposed; 5 x 5, stride s.
    """

    mean: Tensor
    variance: Tensor
    MOMENTUM, EPSILON = 0.1, 1e-5

    def __init__(self, channels: int, out: int, stride: int, *, transposed: bool = False) -> None:
        super().__init__()
        self.convolution: nn.Conv2d | nn.ConvTranspose2d
        if transposed:
            self.convolution = nn.ConvTranspose2d(channels, 2 * out, 5, stride, 2, stride - 1)
        else:
            self.convolution = nn.Conv2d(channels, 2 * out, 5, stride, 2)
        self.gain = nn.Parameter(torch.ones(2 * out))
        self.shift = nn.Parameter(torch.zeros(2 * out))
        self.register_buffer("mean", torch.zeros(2 * out))
        self.register_buffer("variance", torch.ones(2 * out))

    def forward(self, x: Tensor, batch_statistics: bool) -> Tensor:
        """batch_statistics: normalise by those of x, and let the running ones follow; else by the running ones."""
        running, affine = (self.mean, self.variance), (self.gain, self.shift)
        if not batch_statistics:
            u = F.batch_norm(self.convolution(x), *running, *affine, False, 0.0, self.EPSILON)
            return gate(u)
        bias = self.convolution.bias
        assert bias is not None
        u = self._without_bias(x)
        return normalised_gate(u, bias, *affine, *running, self.MOMENTUM, self.EPSILON)

    def _without_bias(self, x: Tensor) -> Tensor:
        layer = self.convolution
        if isinstance(layer, nn.Conv2d):
            return F.conv2d(x, layer.weight, None, layer.stride, layer.padding)
        return F.conv_transpose2d(
            x, layer.weight, None, layer.stride, layer.padding, layer.output_padding  # type: ignore[arg-type]
        )  # fmt: skip


class MaskEncoder(nn.Module):
    """Image (B, C, S, S) -> h (B, 256): to a map of S / 8, then one convolution as large as the map."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        plan = ((channels, 32, 2), (32, 32, 2), (32, 64, 2), (64, 64, 1), (64, 64, 1))
        self.layers = nn.ModuleList(GatedConv(*each) for each in plan)
        self.whole = nn.Conv2d(64, 2 * 256, size // 8)

    def forward(self, x: Tensor, batch_statistics: bool) -> Tensor:
        """h."""
        for layer in self.layers:
            x = layer(x, batch_statistics)
        # on a map of its own size a convolution is a matrix product; pixels before channels, as both lie in memory
        weight = self.whole.weight.permute(0, 2, 3, 1).flatten(1)
        return gate(F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, self.whole.bias)).float()


class MaskDecoder(nn.Module):
    """z^m (B, K, D) -> log m (B, K, 1, S, S) in fp32, whose exponentials add up to 1 over K.

    The last mask is what the others leave, so only K - 1 are decoded; batch statistics are those of all K - 1 together.
    """

    def __init__(self, latent: int, size: int) -> None:
        super().__init__()
        self.whole = nn.ConvTranspose2d(latent, 2 * 64, size // 8)
        plan = ((64, 64, 1), (64, 32, 1), (32, 32, 2), (32, 32, 2), (32, 32, 2))
        self.layers = nn.ModuleList(GatedConv(*each, transposed=True) for each in plan)
        self.logit = nn.Conv2d(32, 1, 1)

    def forward(self, z: Tensor, batch_statistics: bool) -> Tensor:
        """Stick breaking in logs: log m_k = log σ(a_k) + Σ_{j<k} log σ(-a_j)."""
        batch, components = z.shape[:2]
        if components == 1:
            side = 8 * self.whole.kernel_size[0]
            return z.new_zeros(batch, 1, 1, side, side)
        # on a single pixel a transposed convolution is a matrix product
        side = self.whole.kernel_size[0]
        weight = self.whole.weight.permute(0, 2, 3, 1).reshape(z.shape[2], -1)
        u = (z[:, :-1].flatten(0, 1) @ weight).view(-1, side, side, 2 * 64).permute(0, 3, 1, 2)
        assert self.whole.bias is not None
        u = gate(u + self.whole.bias[:, None, None])
        for layer in self.layers:
            u = layer(u, batch_statistics)
        return break_stick(self.logit(u).float().unflatten(0, (batch, components - 1)))


def break_stick(logit: Tensor) -> Tensor:
    """Logits a (B, K - 1, 1, H, W) -> log masks (B, K, 1, H, W)."""
    taken, left = F.logsigmoid(logit), F.logsigmoid(-logit)
    log_masks, log_scope = [], torch.zeros_like(logit[:, 0])
    for k in range(logit.shape[1]):
        log_masks.append(log_scope + taken[:, k])
        log_scope = log_scope + left[:, k]
    return torch.stack([*log_masks, log_scope], 1)


class MaskPosterior(nn.Module):
    """q(z^m_k | x, z^m_<k): an LSTM over the components; the first comes from h alone."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.first_mean = nn.Linear(256, latent)
        self.first_std = nn.Linear(256, latent)
        self.lstm = nn.LSTMCell(256 + latent, 128)
        self.later = nn.Linear(128, 2 * latent)

    def forward(self, h: Tensor, noise: Tensor) -> tuple[Tensor, Gaussian]:
        """z^m = mean + std · noise, and q. h: (B, 256). noise: (B, K, D)."""
        state: tuple[Tensor, Tensor] | None = None
        parts = [_posterior(self.first_mean(h), self.first_std(h))]
        z = [parts[0].mean + parts[0].std * noise[:, 0]]
        for k in range(1, noise.shape[1]):
            state = self.lstm(torch.cat([h, z[-1]], 1), state)
            parts.append(_posterior(*self.later(state[0]).chunk(2, 1)))
            z.append(parts[-1].mean + parts[-1].std * noise[:, k])
        mean, std = (torch.stack(part, 1) for part in zip(*parts, strict=True))
        return torch.stack(z, 1), Gaussian(mean, std)


class MaskPrior(nn.Module):
    """p(z^m_k | z^m_<k): z^m_1 ~ N(0, I), then an LSTM over the components."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(latent, 256, batch_first=True)
        self.later = nn.Linear(256, 2 * latent)

    def forward(self, z: Tensor) -> Gaussian:
        """The prior of every z^m_k given the ones before it. z: (B, K, D)."""
        if z.shape[1] == 1:
            return Gaussian(torch.zeros_like(z), torch.ones_like(z))
        later = _prior(self.later(self.lstm(z[:, :-1])[0]))
        first = torch.zeros_like(z[:, :1])
        return Gaussian(torch.cat([first, later.mean], 1), torch.cat([first + 1, later.std], 1))

    def sample(self, noise: Tensor) -> Tensor:
        """One ancestral draw. noise: (B, K, D)."""
        state: tuple[Tensor, Tensor] | None = None
        z = [noise[:, :1]]
        for k in range(1, noise.shape[1]):
            hidden, state = self.lstm(z[-1], state)
            p = _prior(self.later(hidden))
            z.append(p.mean + p.std * noise[:, k : k + 1])
        return torch.cat(z, 1)


class ComponentEncoder(nn.Module):
    """q(z^c_k | x, m_k) of all components, by one network: image (B, C, S, S), log masks (B, K, 1, S, S)."""

    def __init__(self, channels: int, latent: int, size: int) -> None:
        super().__init__()
        widths = (1 + channels, 32, 32, 64, 64)
        self.layers = nn.ModuleList(
            nn.Conv2d(inner, outer, 3, 2, 1) for inner, outer in itertools.pairwise(widths)
        )
        self.hidden = nn.Linear(64 * (size // 16) ** 2, 256)
        self.out = nn.Linear(256, 2 * latent)

    def of_image(self, x: Tensor) -> Tensor:
        """The first layer's response to the image, the same for all components: (B, 32, S / 2, S / 2)."""
        first = self.layers[0]
        assert isinstance(first, nn.Conv2d)
        return F.conv2d(x, first.weight[:, 1:], first.bias, 2, 1)

    def forward(self, x: Tensor, log_mask: Tensor, of_image: Tensor | None = None) -> Gaussian:
        """q, (B, K, D). The first layer sees cat[log m_k, x] and is linear: its two parts are computed apart."""
        first = self.layers[0]
        assert isinstance(first, nn.Conv2d)
        shared = self.of_image(x) if of_image is None else of_image
        of_mask = F.conv2d(log_mask.flatten(0, 1), first.weight[:, :1], None, 2, 1)
        batch, components = log_mask.shape[:2]
        u = F.elu(of_mask.unflatten(0, (batch, components)) + shared[:, None]).flatten(0, 1)
        for layer in self.layers[1:]:
            u = F.elu(layer(u))
        raw = self.out(F.elu(self.hidden(u.flatten(1)))).unflatten(0, (batch, components))
        return _posterior(*raw.chunk(2, -1))


class ComponentPrior(nn.Module):
    """p(z^c_k | z^m_k): (B, K, D_m) -> (B, K, D_c)."""

    def __init__(self, mask_latent: int, latent: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(mask_latent, 256), nn.ELU(), nn.Linear(256, 256), nn.ELU(), nn.Linear(256, 2 * latent)
        )  # fmt: skip

    def forward(self, z: Tensor) -> Gaussian:
        """p."""
        return _prior(self.layers(z))


class BroadcastDecoder(nn.Module):
    """z^c (B, K, D) -> logits of x_k (B, K, C, S, S). Spatial broadcast (Watters et al. 2019).

    z and two coordinates in [-1, 1] at every pixel of a map wider by n on each side; n valid 3 x 3 convolutions with
    ELU; one of 1 x 1.
    """

    def __init__(self, latent: int, channels: int, layers: int, size: int) -> None:
        super().__init__()
        self.side = size + 2 * layers
        self.first = nn.Conv2d(latent + 2, 32, 3)
        self.rest = nn.ModuleList(nn.Conv2d(32, 32, 3) for _ in range(layers - 1))
        self.last = nn.Conv2d(32, channels, 1)

    def positions(self) -> Tensor:
        """What the first layer makes of the coordinates and its bias, the same for every z: (1, 32, S', S') in fp32."""
        line = torch.linspace(-1, 1, self.side, device=self.first.weight.device)
        row, column = torch.meshgrid(line, line, indexing="ij")
        # in bf16 neighbouring pixels would share a coordinate
        with torch.autocast(row.device.type, enabled=False):
            return F.conv2d(
                torch.stack([column, row])[None], self.first.weight[:, -2:], self.first.bias
            )

    def forward(self, z: Tensor, positions: Tensor) -> Tensor:
        """The first layer sees z constant over the map: it answers with one number per channel, added everywhere."""
        of_z = z.flatten(0, 1) @ self.first.weight[:, :-2].sum((2, 3)).T
        parts = []
        # on a CPU as many maps at a time as stay in its caches: one of 128 pixels
        size = max(1, 140**2 // self.side**2) if z.device.type == "cpu" else len(of_z)
        for response in of_z.split(size):
            u = F.elu(positions + response[:, :, None, None])
            for layer in self.rest:
                u = F.elu(layer(u))
            parts.append(self.last(u))
        logits: Tensor = torch.cat(parts).unflatten(0, z.shape[:2])
        return logits


def _posterior(mean: Tensor, raw: Tensor) -> Gaussian:
    """std = softplus(raw + 0.5) + 1e-8."""
    return Gaussian(mean.float(), F.softplus(raw.float() + 0.5) + 1e-8)


def _prior(raw: Tensor) -> Gaussian:
    """mean = tanh, std = sigmoid(raw + 4) + 1e-4, so near 1 at first."""
    mean, std = raw.float().chunk(2, -1)
    return Gaussian(mean.tanh(), (std + 4).sigmoid() + 1e-4)
