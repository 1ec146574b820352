"""SPACE's background: K components, each a mask and an image, inferred one after the other.

    p(z_mask, z_component) = Π_k p(z_mask_k | z_mask_<k) p(z_component_k | z_mask_k)
    q(z_mask, z_component | x) = Π_k q(z_mask_k | x, z_mask_<k) q(z_component_k | x, mask_k)

Axes: `B` batch, `K` components, `C H W` image, `N` = B K.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.blocks import Stack
from ..nn.channels_last import ELU, broadcast_elu
from ..nn.distributions import Gaussian
from ._space_layers import full, gaussian, layer, sub_pixel

LATENT, HIDDEN = 32, 64
FLOOR = 1e-4  # under every standard deviation


class Scene(NamedTuple):
    """A background drawn from its posterior. z_mask, z_component: (B, K, 32), and their posteriors and priors.

    mask: (B, K, 1, H, W), sum 1 over K. component: (B, K, C, H, W).
    """

    z_mask: Tensor
    z_component: Tensor
    q_mask: Gaussian
    p_mask: Gaussian
    q_component: Gaussian
    p_component: Gaussian
    mask: Tensor
    component: Tensor


class Background(nn.Module):
    """2,950,484 parameters for RGB at 128 pixels and K > 1; 5,331,748 with K = 1, whose decoder is another."""

    def __init__(self, channels: int, size: int, components: int) -> None:
        super().__init__()
        self.size, self.components = size, components
        # A canvas of 64 pixels: one halving and one doubling less.
        half = size == 64
        self.code = Stack(
            *_halvings(channels, [64] * (3 if half else 4)),
            nn.Flatten(),
            nn.Linear(4096, HIDDEN),
            nn.ELU(),
        )
        self.mask_posterior = Recurrence(LATENT + HIDDEN)
        self.z_mask_0 = nn.Parameter(torch.zeros(LATENT))
        self.mask_prior = Recurrence(LATENT)
        self.mask_decoder = _doublings([4, 2, 2 if half else 4, 4], 1)
        self.component_encoder = Stack(
            *_halvings(channels + 1, [32, 64, 64] if half else [32, 32, 64, 64]),
            nn.Flatten(),
            nn.Linear(4096, 2 * LATENT),
        )
        self.component_prior = nn.Sequential(
            nn.Linear(LATENT, HIDDEN),
            nn.ELU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ELU(),
            nn.Linear(HIDDEN, 2 * LATENT),
        )
        self.component_decoder = (
            BroadcastDecoder(channels, size)
            if components > 1
            else _doublings([4, 2 if half else 4, 2, 4], channels)
        )

    def forward(self, x: Tensor) -> Scene:
        """One draw from the posterior: x (B, C, H, W)."""
        z_mask, q_mask = self._infer_masks(self.code(x))
        mask = self.masks(z_mask)
        q_component = self._component_posterior(x, mask)
        z_component = q_component.sample()
        return Scene(
            z_mask, z_component, q_mask, self.mask_prior.following(z_mask), q_component,
            self.given_masks(z_mask), mask, self.images(z_component),
        )  # fmt: skip

    def prior(self, n: int) -> tuple[Tensor, Tensor]:
        """z_mask and z_component of n scenes: (n, K, 32) each."""
        state, z_mask = self.mask_prior.start(n), list[Tensor]()
        for _ in range(self.components):
            z_mask.append(self.mask_prior.gaussian(state).sample())
            state = self.mask_prior(z_mask[-1], state)
        z = torch.stack(z_mask, 1)
        return z, self.given_masks(z).sample()

    def _infer_masks(self, code: Tensor) -> tuple[Tensor, Gaussian]:
        """z_mask (B, K, 32) and its posterior, step by step from the image's code (B, 64)."""
        state, z = self.mask_posterior.start(len(code)), [self.z_mask_0.expand(len(code), -1)]
        steps = list[Gaussian]()
        for _ in range(self.components):
            state = self.mask_posterior(torch.cat([z[-1].to(code.dtype), code], 1), state)
            steps.append(self.mask_posterior.gaussian(state))
            z.append(steps[-1].sample())
        return torch.stack(z[1:], 1), stacked(steps)

    def masks(self, z_mask: Tensor) -> Tensor:
        """Stick breaking: mask k takes its share of what is left, the last takes the rest. (B, K, 1, H, W)"""
        left = z_mask.new_ones(len(z_mask), 1, self.size, self.size)
        if self.components == 1:
            return left[:, None]
        z = z_mask[:, :-1]  # the last mask is not decoded, and GroupNorm mixes no samples
        logits: Tensor = self.mask_decoder(z.flatten(0, 1))
        masks = list[Tensor]()
        for share in full(logits).sigmoid().unflatten(0, z.shape[:2]).unbind(1):
            masks.append(share * left)
            left = left - masks[-1]
        return torch.stack([*masks, left], 1)

    def _component_posterior(self, x: Tensor, mask: Tensor) -> Gaussian:
        """q(z_component | x, mask): (B, K, 32)."""
        images = x[:, None].expand(-1, self.components, -1, -1, -1)
        inputs = torch.cat([(mask + 1e-5).log(), images], 2).flatten(0, 1)
        raw: Tensor = self.component_encoder(inputs.contiguous(memory_format=torch.channels_last))
        raw = raw.view(len(x), self.components, -1)
        return gaussian(raw, FLOOR)

    def given_masks(self, z_mask: Tensor) -> Gaussian:
        """p(z_component | z_mask): (B, K, 32)."""
        return gaussian(self.component_prior(z_mask), FLOOR)

    def images(self, z_component: Tensor) -> Tensor:
        """Each component's image: (B, K, C, H, W) in (0, 1)."""
        logits: Tensor = self.component_decoder(z_component.flatten(0, 1))
        images: Tensor = full(logits).sigmoid().unflatten(0, z_component.shape[:2])
        return images


class Recurrence(nn.Module):
    """An LSTM over components with learned initial states, and a Gaussian over z_mask from its state."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(inputs, HIDDEN)
        self.h_0 = nn.Parameter(torch.zeros(HIDDEN))
        self.c_0 = nn.Parameter(torch.zeros(HIDDEN))
        self.head = nn.Linear(HIDDEN, 2 * LATENT)

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        """(h_0, c_0) for a batch: (B, 64) each."""
        return self.h_0.expand(batch, -1), self.c_0.expand(batch, -1)

    def forward(self, inputs: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One step: the next (h, c)."""
        with torch.autocast(inputs.device.type, enabled=False):  # tiny, and its state accumulates
            next_state: tuple[Tensor, Tensor] = self.cell(full(inputs), state)
        return next_state

    def gaussian(self, state: tuple[Tensor, Tensor]) -> Gaussian:
        """The distribution that a state stands for: (B, 32)."""
        return gaussian(self.head(state[0]), FLOOR)

    def following(self, z: Tensor) -> Gaussian:
        """p(z_k | z_<k) for given z (B, K, 32); p(z_1) comes from the initial state."""
        state, steps = self.start(len(z)), list[Gaussian]()
        for k in range(z.shape[1]):
            steps.append(self.gaussian(state))
            if k + 1 < z.shape[1]:
                state = self(z[:, k], state)
        return stacked(steps)


class BroadcastDecoder(nn.Module):
    """Spatial broadcast decoder (Watters et al. 2019): z (N, 32) at every pixel beside two coordinates, four valid
    3 x 3 convolutions with BatchNorm and ELU, one pointwise. -> logits (N, C, H, W).

    The first convolution sees a vector that is the same everywhere and coordinates that are the same for all samples:
    its output is a vector per sample plus one map, and so are its BatchNorm's statistics.
    """

    coordinates: Tensor

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(LATENT + 2, 32, 3)
        self.first_norm = nn.BatchNorm2d(32)
        self.others = Stack(
            *(each for _ in range(3) for each in (nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32), ELU()))
        )
        self.last = nn.Conv2d(32, channels, 1)
        line = torch.linspace(-1, 1, size + 8)
        y, x = torch.meshgrid(line, line, indexing="ij")
        self.register_buffer("coordinates", torch.stack([x, y])[None], persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """z: (N, 32)."""
        with torch.autocast(z.device.type, enabled=False):
            weight = self.first.weight
            vector = F.linear(full(z), weight[:, :LATENT].sum((2, 3)), self.first.bias)  # (N, 32)
            place = F.conv2d(self.coordinates, weight[:, LATENT:])  # (1, 32, H + 6, W + 6)
            vector, place = _normalised_sum(vector, place, self.first_norm)
        kind = z.device.type
        lower = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if lower else place.dtype
        logits: Tensor = self.last(self.others(broadcast_elu(vector, place, dtype)))
        return logits


def _normalised_sum(vector: Tensor, place: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm of vector (N, F) + place (1, F, H, W), as two tensors of the same shapes whose sum it is.

    Every vector meets every place, so the mean and the variance of the sum are the sums of means and variances.
    """
    if norm.training:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        count = len(vector) * place[0, 0].numel()
        mean = vector.mean(0) + place.mean((0, 2, 3))
        variance = vector.var(0, correction=0) + place.var((0, 2, 3), correction=0)
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean, norm.momentum or 0.0)
            norm.running_var.lerp_(variance * count / (count - 1), norm.momentum or 0.0)
    else:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean, variance = norm.running_mean, norm.running_var
    gain = norm.weight / (variance + norm.eps).sqrt()
    return (vector - mean) * gain + norm.bias, place * gain[:, None, None]


def _halvings(channels: int, widths: list[int]) -> list[nn.Module]:
    """3 x 3 convolutions of stride 2, with BatchNorm and ELU."""
    modules: list[nn.Module] = []
    for width in widths:
        modules += [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), ELU()]
        channels = width
    return modules


def _doublings(ups: list[int], out: int) -> Stack:
    """(N, 32) -> logits (N, out, H, W), by sub-pixel layers that enlarge by `ups`."""
    widths = [256, 256, 128, 64, 16]
    blocks = zip(widths[:-1], widths[1:], ups, strict=True)
    return Stack(
        nn.Unflatten(1, (LATENT, 1, 1)),
        *layer(LATENT, 256, 1),
        *(each for inner, outer, up in blocks for each in sub_pixel(inner, outer, up)),
        *layer(16, 16, 3),
        nn.Conv2d(16, out, 3, padding=1),
    )


def stacked(steps: list[Gaussian]) -> Gaussian:
    """K Gaussians over (B, D) as one over (B, K, D)."""
    return Gaussian(torch.stack([g.mean for g in steps], 1), torch.stack([g.std for g in steps], 1))
