"""The straightforward code: what a reader of the papers would write, one operation after the other.

The oracle of the tests, and the opponent in benchmarks/: glimpses pasted one by one with affine_grid and grid_sample,
layers of torch as they come, fp32, eager, every particle through the whole model.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.core.model import GenerativeModel
from reprise.models.gnm import GNM
from reprise.models.gnm.config import ArrowConfig
from reprise.models.gnm.networks import Background, Latents
from reprise.nn.blocks import ConvLSTM, Stack, SubPixelStack
from reprise.nn.lstm import cell
from reprise.nn.structdraw import GRID, Drawing, StructDRAW


def paste_literally(glimpse: Tensor, scale: Tensor, shift: Tensor, canvas: int) -> Tensor:
    """The straightforward inverse spatial transformer: the oracle, and the opponent in the benchmarks.

    glimpse (N, C, G, G); scale, shift (N, 2) -> (N, C, canvas, canvas).
    """
    inverse = 1 / (scale + 1e-15)
    theta = glimpse.new_zeros(len(glimpse), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = inverse[:, 0], inverse[:, 1]
    theta[:, :, 2] = -shift * inverse
    grid = F.affine_grid(
        theta, [len(glimpse), glimpse.shape[1], canvas, canvas], align_corners=False
    )
    return F.grid_sample(glimpse, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def plainly(module: nn.Module) -> nn.Module:
    """The same parameters in torch's own layers, called one after the other."""
    module = copy.copy(module)
    module._modules = {name: plainly(child) for name, child in module.named_children()}
    if isinstance(module, SubPixelStack | Stack):
        module.__class__ = nn.Sequential  # type: ignore[assignment]
    if isinstance(module, StructDRAW):
        module.__class__ = StraightforwardStructDRAW
    return module


class StraightforwardStructDRAW(StructDRAW):
    """Algorithm 1 to the letter: in every step all that an LSTM sees is concatenated, and convolved."""

    def forward(self, f_x: Tensor | None, steps: int, batch: int) -> Drawing:
        enc, dec = (
            (lstm.h_0.expand(batch, -1, -1, -1), lstm.c_0.expand(batch, -1, -1, -1))
            for lstm in (self.lstm_enc, self.lstm_dec)
        )
        f = dec[0].new_zeros(batch, self.width, GRID, GRID)
        drawing = Drawing(f, [], [], [])
        for _ in range(steps):
            prior = self._gaussian(self.interaction_dec, dec[0])
            drawing.prior.append(prior)
            if f_x is None:
                z = prior.sample()
            else:
                enc = self._next(self.lstm_enc, [f_x, f_x - f, dec[0]], enc)
                drawing.posterior.append(self._gaussian(self.interaction_enc, enc[0]))
                z = drawing.posterior[-1].sample()
            drawing.z.append(z)
            d = self.decode_z(z.flatten(1) if self.flat else z)
            d = d.unflatten(1, (self.width, GRID, GRID)) if self.flat else d
            dec = self._next(self.lstm_dec, [d, f] if self.feed_canvas else [d], dec)
            f = f + self.cnn_out(dec[0])
        return drawing._replace(f=f)

    @staticmethod
    def _next(
        lstm: ConvLSTM, inputs: list[Tensor], state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        return cell(lstm.gates(torch.cat([*inputs, state[0]], 1)), state[1])


class StraightforwardGNM(GNM):
    """GNM whose glimpses are pasted on a canvas each, then added or composited."""

    def render(self, z: Latents, early: Tensor | None = None) -> Tensor:
        glimpse: Tensor = self.object_decoder(z.z_what.flatten(0, 1)[:, :, None, None]).sigmoid()
        scale, shift = (part.flatten(0, 1) for part in self.box(z.z_where))
        cells, side = z.z_what.shape[:2], self.data.shape[1]
        z_pres, z_depth = z.z_pres[..., None, None], z.z_depth[..., None, None]
        c = self.config
        if not isinstance(c, ArrowConfig):
            canvas = paste_literally(glimpse, scale, shift, side).unflatten(0, cells)
            added: Tensor = (z_pres * canvas).sum(1)
            return added
        if c.rendering != "code" or c.curriculum == "boxes":
            raise NotImplementedError(
                "the straightforward code has the released code's reading alone"
            )
        alpha = glimpse[:, 3:] * z_pres.flatten(0, 1)
        y = paste_literally(alpha * glimpse[:, :3], scale, shift, side).unflatten(0, cells)
        weight = alpha * (-z_depth).sigmoid().flatten(0, 1)
        w = paste_literally(weight, scale, shift, side).unflatten(0, cells)
        w = w / (w.sum(1, keepdim=True) + 1e-15)
        foreground = (y * w).sum(1)
        m = paste_literally(alpha, scale, shift, side).unflatten(0, cells).sum(1)
        m = m + (m.clamp(1e-15, 1 - 1e-15) - m).detach()
        if early is not None:
            m = torch.where(early, 0.9, m)
        assert isinstance(self.background, Background)
        image: Tensor = foreground + (1 - m) * self.background.decode(z.z_background)
        return image


class StraightforwardTraining:
    """Updates of a model as torch's tutorials make them. Called with images (B, C, H, W) in [0, 1] and the step."""

    def __init__(
        self, model: GenerativeModel[Any], lr: float = 1e-4, clip_norm: float = 1.0
    ) -> None:
        self.model, self.clip_norm = model.train(), clip_norm
        self.optimizer = torch.optim.RMSprop(model.parameters(), lr=lr, foreach=False)

    def __call__(self, x: Tensor, step: float) -> float:
        self.optimizer.zero_grad()
        loss, _ = self.model.loss(x, torch.tensor(step))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm, foreach=False)
        self.optimizer.step()
        return loss.item()


def log_weights(model: GenerativeModel[Any], x: Tensor, particles: int) -> Tensor:
    """(K, B), one particle after the other, each with an encoding of its own."""
    return torch.cat([model.log_weights(x, 1) for _ in range(particles)])
