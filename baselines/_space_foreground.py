"""SPACE's foreground: where objects are, what they look like, and how they are laid over each other.

Axes: `B` batch, `O` cells in row-major order, `C H W` image, `G` glimpse side, `D` z_what.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..nn.blocks import Stack
from ..nn.compositing import compete, softmax_shares
from ..nn.distributions import Bernoulli, Gaussian
from ..nn.spatial_transformer import crop, paste, paste_sum
from ._space_layers import full, gaussian, layer, sub_pixel

FLOOR = 1e-15  # under every standard deviation: only guards against an exact 0
FRAME_VALUE = 1 / 1024  # of the boundary loss's kernel; with its factor of 1000 nearly 1


class Cells(NamedTuple):
    """q(z_pres, z_where, z_depth | x): one distribution per cell; trailing axes (O, 1), (O, 4), (O, 1)."""

    pres: Bernoulli
    where: Gaussian
    depth: Gaussian


class Layers(NamedTuple):
    """The foreground, rendered. mean: (B, C, H, W). alpha: (B, 1, H, W), how much of a pixel it explains."""

    mean: Tensor
    alpha: Tensor


class Foreground(nn.Module):
    """A grid of cells with one object each at most. 2,357,167 parameters for RGB at 128 pixels with a 4 x 4 grid."""

    cell: Tensor
    frame: Tensor

    def __init__(
        self, channels: int, size: int, grid: int, what: int, presence_logit: float
    ) -> None:
        super().__init__()
        self.size, self.grid, self.presence_logit = size, grid, presence_logit
        self.glimpse = size // 4  # 32 at the published size
        stride = (
            size // grid // 8
        )  # what the two convolutions of stride 1 or 2 must reduce by: 4, 2 or 1
        self.encoder = Stack(
            *layer(channels, 16, 4, 2, 1),
            *layer(16, 32, 4, 2, 1),
            *layer(32, 64, 4, 2, 1),
            *layer(64, 128, 3, 2 if stride == 4 else 1),
            *layer(128, 256, 3, 2 if stride >= 2 else 1, groups=32),
            *layer(256, 128, 1),
        )
        self.lateral = Stack(*layer(128, 128, 3), *layer(128, 128, 3))
        self.merge = Stack(*layer(256, 128, 3))
        self.scale = nn.Conv2d(128, 4, 1)
        self.shift = nn.Conv2d(128, 4, 1)
        self.pres = nn.Conv2d(128, 1, 1)
        self.depth = nn.Conv2d(128, 2, 1)
        # A canvas of 64 pixels has glimpses of 16: one halving and one doubling less.
        half = self.glimpse == 16
        self.look_closely = Stack(
            *layer(channels, 16, 3),
            *([] if half else layer(16, 32, 4, 2, 1)),
            *layer(16 if half else 32, 32, 3, groups=4),
            *layer(32, 64, 4, 2, 1),
            *layer(64, 128, 4, 2, 1, groups=8),
            *layer(128, 256, 4, padding=0),
            nn.Flatten(),
            nn.Linear(256, 2 * what),
        )
        widths = [256, 128, 128, 64, 32, 16]
        if half:
            del widths[1]
        blocks = [sub_pixel(a, b, 2) for a, b in itertools.pairwise(widths)]
        self.decoder = Stack(*layer(what, 256, 1), *(each for block in blocks for each in block))
        self.appearance = nn.Conv2d(16, channels, 3, padding=1)
        self.opacity = nn.Conv2d(16, 1, 3, padding=1)
        row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
        cell = torch.stack([column, row], -1).reshape(grid * grid, 2) + 0.5  # (O, 2): x, y
        self.register_buffer("cell", cell, persistent=False)
        # The authors keep the frame as a frozen parameter of 1,024 numbers; it is none.
        frame = torch.full((self.glimpse, self.glimpse), FRAME_VALUE)
        border = 6 * self.glimpse // 32
        frame[border:-border, border:-border] = 0
        self.register_buffer("frame", frame, persistent=False)

    def forward(self, x: Tensor) -> Cells:
        """x: (B, C, H, W)."""
        features = self.encoder(x)
        features = self.merge(torch.cat([self.lateral(features), features], 1))
        raw_scale, raw_shift, pres, depth = (
            full(head(features).flatten(2).mT)
            for head in (self.scale, self.shift, self.pres, self.depth)
        )  # (B, O, .)
        scale, shift = gaussian(raw_scale, FLOOR), gaussian(raw_shift, FLOOR)
        where = Gaussian(
            torch.cat([scale.mean, shift.mean], -1), torch.cat([scale.std, shift.std], -1)
        )
        return Cells(Bernoulli(self.presence_logit * pres.tanh()), where, gaussian(depth, FLOOR))

    def box(self, where: Tensor) -> tuple[Tensor, Tensor]:
        """Extent as a fraction of the image and centre in [-1, 1], (..., O, 2) each, of z_where (..., O, 4)."""
        centre = 2 / self.grid * (self.cell + where[..., 2:].tanh()) - 1
        return where[..., :2].sigmoid(), centre

    def what(self, x: Tensor, z_where: Tensor) -> Gaussian:
        """q(z_what | x, z_where): each box's glimpse through an encoder; (B, O, D)."""
        with torch.autocast(x.device.type, enabled=False):
            glimpse = crop(x, *self.box(z_where), self.glimpse)  # (B, O, C, G, G)
        glimpse = glimpse.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        raw: Tensor = self.look_closely(glimpse)
        return gaussian(raw.unflatten(0, z_where.shape[:2]), FLOOR)

    def objects(self, z_what: Tensor) -> tuple[Tensor, Tensor]:
        """Appearance (B, O, C, G, G) and opacity (B, O, 1, G, G) of each object, both in (0, 1)."""
        features = self.decoder(z_what.flatten(0, 1)[:, :, None, None])
        heads = self.appearance(features), self.opacity(features)
        appearance, opacity = (
            full(head).sigmoid().unflatten(0, z_what.shape[:2]) for head in heads
        )
        return appearance, opacity

    def render(self, z_pres: Tensor, z_where: Tensor, z_depth: Tensor, z_what: Tensor) -> Layers:
        """Cells compete for every pixel in a softmax over (depth and opacity); all in fp32, logits reach 100."""
        appearance, opacity = self.objects(z_what)
        with torch.autocast(z_what.device.type, enabled=False):
            opacity = opacity * z_pres[..., None, None]
            glimpse = torch.cat([opacity * appearance, opacity], 2)  # (B, O, C + 1, G, G)
            together = compete(glimpse, self.nearness(z_depth), *self.box(z_where), self.size)
        return Layers(together[:, :-1], together[:, -1:])

    def cover(self, z_pres: Tensor, z_where: Tensor, z_depth: Tensor, z_what: Tensor) -> Tensor:
        """How much of every pixel each cell explains, (B, O, 1, H, W); alpha is their sum."""
        _, opacity = self.objects(z_what)
        with torch.autocast(z_what.device.type, enabled=False):
            pasted = paste(opacity * z_pres[..., None, None], *self.box(z_where), self.size)
            return softmax_shares(pasted, self.nearness(z_depth)) * pasted

    def nearness(self, z_depth: Tensor) -> Tensor:
        """What an object's opacity is multiplied by to be its logit: (B, O, 1) -> (B, O)."""
        return 100 * (-z_depth[..., 0]).sigmoid()

    def boundary_loss(self, z_pres: Tensor, z_where: Tensor, alpha: Tensor) -> Tensor:
        """The price of an object that reaches into the frame of its box: (B,), nats.

        -log N(b; 0, 0.7²) over pixels, b being the pasted frames of all boxes times the foreground's alpha.
        """
        with torch.autocast(alpha.device.type, enabled=False):
            frames = z_pres[..., None, None] * self.frame
            b = 1000 * paste_sum(frames, *self.box(z_where), self.size) * alpha
            return -Gaussian(b.new_zeros(()), b.new_full((), 0.7)).log_prob(b).sum((-3, -2, -1))
