"""SPACE as a reader of the paper would write it: the oracle of the tests, and the opponent in benchmarks/.

Glimpses cropped and pasted with affine_grid and grid_sample, every cell on a canvas of its own, every network called
layer by layer, every density from torch.distributions. Its noise comes in the order of
baselines/space.py.
"""

from __future__ import annotations

import copy
from typing import NamedTuple, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as D

from reprise.baselines._space_background import Background, BroadcastDecoder
from reprise.baselines.space import SPACE
from reprise.nn.channels_last import ELU
from reprise.nn.distributions import linear, normal, uniform

from .straightforward import paste_literally, plainly

Distributions: TypeAlias = dict[str, D.Distribution]


def crop_literally(image: Tensor, scale: Tensor, shift: Tensor, glimpse: int) -> Tensor:
    """The straightforward spatial transformer: (N, C, H, H), (N, 2), (N, 2) -> (N, C, glimpse, glimpse)."""
    theta = image.new_zeros(len(image), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale[:, 0], scale[:, 1], shift
    grid = F.affine_grid(theta, [*image.shape[:2], glimpse, glimpse], align_corners=False)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def broadcast_literally(decoder: BroadcastDecoder, z: Tensor) -> Tensor:
    """z (N, 32) at every pixel, beside the coordinates, through the layers as they come: logits (N, C, H, W)."""
    coordinates = decoder.coordinates.expand(len(z), -1, -1, -1)
    h = torch.cat([z[:, :, None, None].expand(-1, -1, *coordinates.shape[2:]), coordinates], 1)
    logits: Tensor = decoder.last(decoder.others(F.elu(decoder.first_norm(decoder.first(h)))))
    return logits


def split(raw: Tensor, floor: float) -> D.Normal:
    mean, s = raw.chunk(2, -1)
    return D.Normal(mean, F.softplus(s) + floor)


def drawn(q: D.Normal) -> Tensor:
    return q.loc + q.scale * normal(q.loc)


class Drawn(NamedTuple):
    """Posteriors, priors that the background's draws give, draws, and what is rendered of them."""

    q: Distributions
    p: Distributions
    z: dict[str, Tensor]
    foreground: Tensor  # (B, C, H, W)
    alpha: Tensor  # (B, 1, H, W)
    mask: list[Tensor]  # K times (B, 1, H, W); empty without a background module
    component: list[Tensor]
    extent: Tensor  # (B, O, 2)
    centre: Tensor


class StraightforwardSPACE(SPACE):
    """The same parameters; `loss` and `log_weights` written out."""

    def draw(self, x: Tensor, relaxed: bool) -> Drawn:
        net, c = self.foreground, self.config
        features = net.encoder(x)
        features = net.merge(torch.cat([net.lateral(features), features], 1))
        scale, shift, pres, depth = (
            head(features).flatten(2).mT for head in (net.scale, net.shift, net.pres, net.depth)
        )
        scale, shift = split(scale, 1e-15), split(shift, 1e-15)
        q: Distributions = {
            "pres": D.Bernoulli(logits=8.8 * pres.tanh()),
            "where": D.Normal(torch.cat([scale.loc, shift.loc], -1), torch.cat([scale.scale, shift.scale], -1)),
            "depth": split(depth, 1e-15),
        }  # fmt: skip
        u = uniform(pres)
        z = {}
        if relaxed:
            u = u.clamp(1e-7, 1 - 1e-7)
            noise = torch.log(u) - torch.log(1 - u)
            z["pres"] = torch.sigmoid((8.8 * pres.tanh() + noise) / self.temperature)
        else:
            z["pres"] = (u < torch.sigmoid(8.8 * pres.tanh())).float()
        z["where"] = drawn(cast(D.Normal, q["where"]))
        z["depth"] = drawn(cast(D.Normal, q["depth"]))
        batch, cells, size = len(x), c.grid**2, x.shape[-1]
        row, column = torch.arange(cells) // c.grid, torch.arange(cells) % c.grid
        cell = torch.stack([column, row], -1)
        extent = torch.sigmoid(z["where"][..., :2])
        centre = 2 / c.grid * (cell + 0.5 + torch.tanh(z["where"][..., 2:])) - 1
        glimpses = crop_literally(
            x.repeat_interleave(cells, 0), extent.flatten(0, 1), centre.flatten(0, 1), net.glimpse
        )
        q["what"] = split(net.look_closely(glimpses).view(batch, cells, -1), 1e-15)
        z["what"] = drawn(cast(D.Normal, q["what"]))

        decoded = net.decoder(z["what"].flatten(0, 1)[:, :, None, None])
        appearance = torch.sigmoid(net.appearance(decoded))
        opacity = torch.sigmoid(net.opacity(decoded)) * z["pres"].flatten(0, 1)[..., None, None]

        def paste(glimpse: Tensor) -> Tensor:
            canvas = paste_literally(glimpse, extent.flatten(0, 1), centre.flatten(0, 1), size)
            return canvas.view(batch, cells, -1, size, size)

        nearness = torch.sigmoid(-z["depth"]).flatten(0, 1)[..., None, None]
        importance = torch.softmax(paste(opacity * 100 * nearness), 1)
        foreground = (importance * paste(opacity * appearance)).sum(1)
        alpha = (importance * paste(opacity)).sum(1)

        p: Distributions = {}
        mask: list[Tensor] = []
        component: list[Tensor] = []
        if self.background is not None:
            mask, component = self.draw_background(self.background, x, q, p, z)
        return Drawn(q, p, z, foreground, alpha, mask, component, extent, centre)

    def draw_background(
        self, net: Background, x: Tensor, q: Distributions, p: Distributions, z: dict[str, Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
        code = net.code(x)
        recurrence = net.mask_posterior
        h, cell = recurrence.h_0.expand(len(x), -1), recurrence.c_0.expand(len(x), -1)
        z_masks, posteriors, previous = [], [], net.z_mask_0.expand(len(x), -1)
        for _ in range(net.components):
            h, cell = recurrence.cell(torch.cat([previous, code], 1), (h, cell))
            posteriors.append(split(recurrence.head(h), 1e-4))
            previous = drawn(posteriors[-1])
            z_masks.append(previous)
        left = x.new_ones(len(x), 1, *x.shape[2:])
        masks = []
        for k, each in enumerate(z_masks):
            share = torch.sigmoid(net.mask_decoder(each))
            masks.append(left if k == net.components - 1 else share * left)
            left = left * (1 - share)
        raw = [net_inputs(mask, x) for mask in masks]
        encoded = net.component_encoder(torch.stack(raw, 1).flatten(0, 1))
        q_component = split(encoded.view(len(x), net.components, -1), 1e-4)
        z_component = drawn(q_component)
        decoder = net.component_decoder
        flat = z_component.flatten(0, 1)
        if isinstance(decoder, BroadcastDecoder):
            logits = broadcast_literally(decoder, flat)
        else:
            logits = decoder(flat)
        components = torch.sigmoid(logits).view(len(x), net.components, *x.shape[1:])

        prior = net.mask_prior
        h, cell = prior.h_0.expand(len(x), -1), prior.c_0.expand(len(x), -1)
        priors = []
        for each in z_masks:
            priors.append(split(prior.head(h), 1e-4))
            h, cell = prior.cell(each, (h, cell))
        z["mask"], z["component"] = torch.stack(z_masks, 1), z_component
        q["mask"], p["mask"] = joined(posteriors), joined(priors)
        q["component"] = q_component
        p["component"] = split(net.component_prior(z["mask"]), 1e-4)
        return masks, list(components.unbind(1))

    def likelihood(self, x: Tensor, seen: Drawn) -> Tensor:
        """(B,): a mixture per pixel and channel, its weights brought to the sum 1 after 1e-5 was added to each."""
        c = self.config
        if seen.mask:
            weight = torch.stack(seen.mask, -1) + 1e-5
            behind: D.Distribution = D.MixtureSameFamily(
                D.Categorical(probs=(weight / weight.sum(-1, keepdim=True)).expand(*x.shape, -1)),
                D.Normal(torch.stack(seen.component, -1), c.background_sigma),
            )
        else:
            behind = D.Normal(torch.zeros_like(x), c.background_sigma)
        weight = torch.cat([seen.alpha + 1e-5, 1 - seen.alpha + 1e-5], 1)
        log_weight = (weight / weight.sum(1, keepdim=True)).log()
        terms = torch.stack(
            [D.Normal(seen.foreground, c.sigma).log_prob(x) + log_weight[:, :1], behind.log_prob(x) + log_weight[:, 1:]]
        )  # fmt: skip
        mixed: Tensor = terms.logsumexp(0)
        return mixed.flatten(1).sum(1)

    def fixed(self, step: Tensor) -> Distributions:
        c = self.config
        rate = linear(step, 0.1, c.rate_end, c.rate_from, c.rate_until)
        scale = linear(step, c.scale_mean, c.scale_mean_end, c.scale_from, c.scale_until).item()
        where = D.Normal(
            torch.tensor([scale, scale, 0, 0]), torch.tensor([c.scale_std] * 2 + [1.0] * 2)
        )
        return {"pres": D.Bernoulli(rate), "where": where, "depth": D.Normal(0, 1), "what": D.Normal(0, 1)}  # fmt: skip

    def counted(self, name: str, term: Tensor, seen: Drawn) -> Tensor:
        """A cell without an object has no box, depth or appearance to pay for, where the model says so."""
        if self.config.kl == "present" and name in ("where", "depth", "what"):
            return seen.z["pres"] * term
        return term

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        c = self.config
        self.temperature.copy_(linear(step, 2.5, c.temperature_end, 0, c.temperature_until))
        seen = self.draw(x, relaxed=True)
        priors = self.fixed(step) | seen.p
        kl = sum(
            self.counted(name, D.kl_divergence(q, priors[name]), seen).flatten(1).sum(1)
            for name, q in seen.q.items()
        )
        total = -self.likelihood(x, seen) + cast(Tensor, kl)
        if step < c.boundary_until:
            total = total + boundary_literally(seen, self.foreground.glimpse)
        return total.mean(), {}

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        weights = []
        for _ in range(particles):
            seen = self.draw(x, relaxed=False)
            priors = self.fixed(torch.tensor(1e9)) | seen.p
            ratio = torch.zeros(len(x))
            for name, q in seen.q.items():
                of_each = priors[name].log_prob(seen.z[name]) - q.log_prob(seen.z[name])
                ratio = ratio + self.counted(name, of_each, seen).flatten(1).sum(1)
            weights.append(self.likelihood(x, seen) + ratio)
        return torch.stack(weights)


def boundary_literally(seen: Drawn, glimpse: int) -> Tensor:
    """(B,): a frame in every box, 1/1024 within 6 of 32 pixels of the border, times 1000 and the foreground's alpha."""
    border = 6 * glimpse // 32
    frame = torch.tensor([
        [1 / 1024 if min(i, j, glimpse - 1 - i, glimpse - 1 - j) < border else 0.0 for j in range(glimpse)]
        for i in range(glimpse)
    ])  # fmt: skip
    batch, cells = seen.extent.shape[:2]
    size = seen.alpha.shape[-1]
    frames = seen.z["pres"].flatten(0, 1)[..., None, None] * frame
    pasted = paste_literally(frames, seen.extent.flatten(0, 1), seen.centre.flatten(0, 1), size)
    b = 1000 * pasted.view(batch, cells, 1, size, size).sum(1) * seen.alpha
    log_prob: Tensor = D.Normal(0.0, 0.7).log_prob(b)
    return -log_prob.flatten(1).sum(1)


def net_inputs(mask: Tensor, x: Tensor) -> Tensor:
    return torch.cat([torch.log(mask + 1e-5), x], 1)


def joined(steps: list[D.Normal]) -> D.Normal:
    return D.Normal(
        torch.stack([g.loc for g in steps], 1), torch.stack([g.scale for g in steps], 1)
    )


def straightforward_space(model: SPACE) -> StraightforwardSPACE:
    """The same parameters (and buffers of its own) in torch's own layers, written out."""
    plain = plainly(model)
    for module in plain.modules():
        module._buffers = copy.deepcopy(module._buffers)
        if isinstance(module, nn.Sequential):
            module.__class__ = nn.Sequential
        for name, child in list(module._modules.items()):
            if isinstance(child, ELU):
                module._modules[name] = nn.ELU()
    plain.__class__ = StraightforwardSPACE
    return cast(StraightforwardSPACE, plain)
