"""GENESIS as a reader of the paper would write it: every map of every component at once, torch's layers, fp32.

The oracle of the tests, and the opponent in benchmarks/. The noise is drawn in the order of the fast code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from reprise.baselines.genesis import GENESIS, GatedConv


def gated(layer: GatedConv, x: Tensor, training: bool) -> Tensor:
    """Two convolutions' outputs, each normalised by itself, one gating the other."""
    parts = []
    for raw, mean, variance, gain, shift in zip(
        layer.convolution(x).chunk(2, 1), *(t.chunk(2) for t in (layer.mean, layer.variance, layer.gain, layer.shift)),
        strict=True,
    ):  # fmt: skip
        parts.append(F.batch_norm(raw, mean, variance, gain, shift, training, 0.1, 1e-5))
    return parts[0] * parts[1].sigmoid()


def posterior(mean: Tensor, raw: Tensor) -> Normal:
    return Normal(mean, F.softplus(raw + 0.5) + 1e-8)


def prior(raw: Tensor) -> Normal:
    mean, std = raw.chunk(2, -1)
    return Normal(mean.tanh(), torch.sigmoid(std + 4) + 1e-4)


class StraightforwardGENESIS(GENESIS):
    """The same parameters, one operation after the other."""

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        likelihood, ratio_mask, ratio_component = self.terms(x, self.training)
        kl = -(ratio_mask + ratio_component).mean()
        return -likelihood.mean() + self.config.beta * kl, {}

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        return torch.stack([sum(self.terms(x, False), x.new_zeros(())) for _ in range(particles)])

    def terms(self, x: Tensor, training: bool) -> tuple[Tensor, Tensor, Tensor]:
        """log p(x | z), log p(z^m) - log q(z^m | x), log p(z^c | z^m) - log q(z^c | x, z^m): (B,) each."""
        components, batch = self.config.components, len(x)
        noise = torch.randn(batch, components, self.config.mask_latent)

        h = x
        for layer in self.mask_encoder.layers:
            assert isinstance(layer, GatedConv)
            h = gated(layer, h, training)
        a, g = self.mask_encoder.whole(h).flatten(1).chunk(2, 1)
        h = a * g.sigmoid()

        net, log_p, log_q = self.mask_posterior, [], []
        q = posterior(net.first_mean(h), net.first_std(h))
        p = Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
        state, prior_state = None, None
        z_masks: list[Tensor] = []
        for k in range(components):
            if k > 0:
                state = net.lstm(torch.cat([h, z_masks[-1]], 1), state)
                q = posterior(*net.later(state[0]).chunk(2, 1))
                hidden, prior_state = self.mask_prior.lstm(z_masks[-1][:, None], prior_state)
                p = prior(self.mask_prior.later(hidden[:, 0]))
            z = q.mean + q.stddev * noise[:, k]
            z_masks.append(z)
            log_p.append(p.log_prob(z).sum(1))
            log_q.append(q.log_prob(z).sum(1))
        ratio_mask = sum(log_p) - sum(log_q)

        masks = self.masks(torch.stack(z_masks, 1), training)
        q_components = []
        for mask in masks:
            u = torch.cat([mask.log(), x], 1)
            for conv in self.component_encoder.layers:
                u = F.elu(conv(u))
            raw = self.component_encoder.out(F.elu(self.component_encoder.hidden(u.flatten(1))))
            q_components.append(posterior(*raw.chunk(2, 1)))
        mean = torch.stack([q.mean for q in q_components], 1)
        noise = torch.randn(mean.shape)
        log_p, log_q, mixture = [], [], []
        for k in range(components):
            q = q_components[k]
            z = q.mean + q.stddev * noise[:, k]
            log_p.append(prior(self.component_prior.layers(z_masks[k])).log_prob(z).sum(1))
            log_q.append(q.log_prob(z).sum(1))
            mixture.append(masks[k].log() + Normal(self.image(z), self.config.sigma).log_prob(x))
        likelihood = torch.stack(mixture).logsumexp(0).sum((1, 2, 3))
        return likelihood, ratio_mask, sum(log_p) - sum(log_q)

    def masks(self, z: Tensor, training: bool) -> list[Tensor]:
        """K masks (B, 1, H, W) from (B, K, D), by shares of what is left."""
        u = self.mask_decoder.whole(z[:, :-1].flatten(0, 1)[:, :, None, None])
        a, g = u.chunk(2, 1)
        u = a * g.sigmoid()
        for layer in self.mask_decoder.layers:
            assert isinstance(layer, GatedConv)
            u = gated(layer, u, training)
        share = self.mask_decoder.logit(u).sigmoid().unflatten(0, (len(z), z.shape[1] - 1))
        masks, scope = [], torch.ones_like(share[:, 0])
        for k in range(share.shape[1]):
            masks.append(scope * share[:, k])
            scope = scope * (1 - share[:, k])
        return [*masks, scope]

    def image(self, z: Tensor) -> Tensor:
        """x_k (B, C, H, W) of z^c_k (B, D): z and two coordinates at every pixel, then convolutions."""
        decoder = self.component_decoder
        line = torch.linspace(-1, 1, decoder.side)
        row, column = torch.meshgrid(line, line, indexing="ij")
        coordinates = torch.stack([column, row]).expand(len(z), -1, -1, -1)
        u = torch.cat([z[:, :, None, None].expand(-1, -1, *row.shape), coordinates], 1)
        for conv in (decoder.first, *decoder.rest):
            u = F.elu(conv(u))
        image: Tensor = decoder.last(u).sigmoid()
        return image
