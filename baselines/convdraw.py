"""ConvDRAW (Gregor et al. 2016) as Jiang & Ahn 2020 compare with it: density without structure.

    p(x, z) = Π_l p(z_l | z_<l) N(x; decode(f_L), 0.2² I)      q(z | x) = Π_l q(z_l | x, z_<l)

GNM's image encoder, StructDRAW with its interaction MLP replaced by a two-layer 3 x 3 CNN, and a sub-pixel decoder
from the last feature map f_L to the image (supplement section 4). The supplement leaves open the LSTMs' kernel, whether
LSTM_dec sees the canvas (Algorithm 1: no), and how z_l is decoded; no reading gives both published sizes:

kernel | LSTM_dec sees | z_l decoded by | Arrow room  | MNIST
-------|---------------|----------------|-------------|------
       |               | published      | 4.7M        | 1.5M
3      | z_l           | a convolution  | 5.05M       | 1.67M   the default, because it is purely local
3      | z_l, canvas   | a convolution  | 5.64M       | 1.82M
1      | z_l           | a convolution  | 1.91M       | 0.88M
1      | z_l           | an MLP         | 4.76M       | 1.92M
1      | z_l, canvas   | an MLP         | 4.83M       | 1.94M

On the Arrow room these are the options `kernel`, `feed_canvas` and `z_decoder`. `interaction="mlp"` is ConvDRAW-MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ..core.dataset import DatasetInfo
from ..core.errors import UsageError
from ..core.model import GenerativeModel, Recipe, Training
from ..nn.blocks import image_decoder, image_encoder
from ..nn.distributions import image_log_prob, linear
from ..nn.structdraw import StructDRAW

__all__ = ["ConvDRAW"]


@dataclass(frozen=True)
class ConvDRAWConfig:
    """See the module; sigma and the KL warm-up are unstated in the paper: GNM's."""

    draw_steps: int = 4  # 8 is "ConvDRAW-8"
    beta: float = 1.0  # 10 is "ConvDRAW-β-10"
    interaction: Literal["cnn", "mlp"] = "cnn"
    kernel: int = 3
    feed_canvas: bool = False
    width: int = 64
    sigma: float = 0.2
    beta_until: float = 100_000


@dataclass(frozen=True)
class ArrowConfig(ConvDRAWConfig):
    """For images in colour: as wide as GNM for the Arrow room."""

    width: int = 128
    z_decoder: Literal["cnn", "mlp"] = "cnn"  # "mlp" sees the whole map, as with interaction="mlp"


class Latents(NamedTuple):
    """z: (B, L, 32, 4, 4), or (B, L, 32) with the MLP."""

    z: Tensor


class ConvDRAW(GenerativeModel[Latents]):
    """See the module."""

    # At tier demo it trains in nine variants, and all protocols together have twenty minutes of two cores.
    tiers: ClassVar = {"demo": {"steps": 120, "time_scale": 0.0012}}

    def __init__(self, config: ConvDRAWConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.config, self.data = config, data
        channels, size, _ = data.shape
        self.encoder = image_encoder(channels, config.width, size)
        self.draw = StructDRAW(
            config.width,
            interaction=config.interaction,
            kernel=config.kernel,
            feed_canvas=config.feed_canvas,
            z_decoder=(512, 1024) if isinstance(config, ArrowConfig) else (512, 512),  # GNM's
            flat_decoder=isinstance(config, ArrowConfig) and config.z_decoder == "mlp",
        )
        self.decoder = image_decoder(config.width, channels, size)

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """Unstated in the paper: GNM's settings, so that all models of a dataset train alike."""
        if data.shape[0] not in (1, 3) or data.shape[1:] not in ((128, 128), (64, 64)):
            raise UsageError(
                "convdraw is configured for grey or RGB images of 128 (or 64) pixels; "
                f"{data.name} has {data.shape}"
            )
        config = ArrowConfig() if data.shape[0] == 3 else ConvDRAWConfig()
        return Recipe(
            config, Training(steps=1_125_000, batch_size=32, optimizer="rmsprop", lr=1e-4, clip_norm=1.0)
        )  # fmt: skip

    # The generative model.

    def prior(self, n: int) -> Latents:
        """z_l ~ p(z_l | z_<l)."""
        return Latents(torch.stack(self.draw(None, self.config.draw_steps, n).z, 1))

    def decode(self, z: Latents) -> Tensor:
        """The mean image."""
        return self._image(self.draw.replay(list(z.z.unbind(1))))

    def _image(self, f: Tensor) -> Tensor:
        logits: Tensor = self.decoder(f)
        return logits.float().sigmoid()

    # The inference network.

    def infer(self, x: Tensor) -> Latents:
        """One draw from q(z | x)."""
        return Latents(torch.stack(self.draw(self.encoder(x), self.config.draw_steps, len(x)).z, 1))

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """log p(x | z) + Σ_l [log p(z_l | z_<l) - log q(z_l | x, z_<l)]."""
        shape = (particles, len(x))
        drawing = self.draw(self.encoder(x), self.config.draw_steps, particles * len(x))
        likelihood = image_log_prob(
            x, self._image(drawing.f).unflatten(0, shape), self.config.sigma
        )
        ratio: Tensor = drawing.log_ratio().unflatten(0, shape)
        return likelihood + ratio

    # The objective.

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x | z) + β Σ_l KL(q_l || p_l)."""
        drawing = self.draw(self.encoder(x), self.config.draw_steps, len(x))
        likelihood = image_log_prob(x, self._image(drawing.f), self.config.sigma).mean()
        kl = drawing.kl().mean()
        beta = linear(step, 0.0, self.config.beta, 0, self.config.beta_until)
        return -likelihood + beta * kl, {"log_likelihood": likelihood, "kl": kl, "beta": beta}
