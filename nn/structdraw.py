"""StructDRAW: an autoregressive prior and posterior over a global latent (GNM 3.2-3.3; supplement Alg. 1, Fig. 8).

A canvas f of abstract features (B, width, 4, 4) is drawn in L steps,

    h_enc = LSTM_enc(h_enc, [f_x, f_x - f, h_dec])      q(z_l | x, z_<l) = N(interaction_enc(h_enc))
                                                        p(z_l | z_<l)    = N(interaction_dec(h_dec))
    h_dec = LSTM_dec(h_dec, [decode(z_l), f])           f <- f + CNN(h_dec)

GNM uses it over structure, with an MLP as the interaction layer; ConvDRAW over features of the image, with a CNN.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .blocks import MLP, ConvLSTM, ConvStack, Layer, Unrolled
from .distributions import Gaussian

GRID = 4
LATENT = 32


class Drawing(NamedTuple):
    """What L steps drew. f: (B, width, 4, 4). z, and posterior and prior of each step: lists of L, (B, ...) each.

    posterior is empty when the latents were drawn from the prior.
    """

    f: Tensor
    z: list[Tensor]
    prior: list[Gaussian]
    posterior: list[Gaussian]

    def kl(self) -> Tensor:
        """Sum over steps of KL(q || p): (B,)."""
        pairs = zip(self.posterior, self.prior, strict=True)
        return torch.stack([q.kl(p).flatten(1).sum(1) for q, p in pairs]).sum(0)

    def log_ratio(self) -> Tensor:
        """log p(z) - log q(z | x) at the draw: (B,)."""
        triples = zip(self.z, self.prior, self.posterior, strict=True)
        terms = [(p.log_prob(z) - q.log_prob(z)).flatten(1).sum(1) for z, p, q in triples]
        return torch.stack(terms).sum(0)


class StructDRAW(nn.Module):
    """See above.

    interaction: "mlp" sees the whole map at once and gives z_l (B, 32); "cnn" is local, z_l (B, 32, 4, 4).
    kernel: of both LSTMs; the supplement's Table 7 says 3, the parameter count of its Table 3 proves 1 for GNM.
    feed_canvas: whether LSTM_dec sees f besides decode(z): the code and the prose say yes, Alg. 1 says no.
    z_decoder: width of the middle layers of the MLP that decodes z. flat_decoder: an MLP decodes the flattened z of the
    local interaction too, instead of a convolution.
    """

    def __init__(
        self,
        width: int,
        *,
        interaction: Literal["mlp", "cnn"] = "mlp",
        kernel: int = 1,
        feed_canvas: bool = True,
        z_decoder: tuple[int, ...] = (512, 512),
        flat_decoder: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.interaction, self.feed_canvas = width, interaction, feed_canvas
        self.lstm_enc = ConvLSTM(3 * width, width, GRID, kernel)
        self.lstm_dec = ConvLSTM((2 if feed_canvas else 1) * width, width, GRID, kernel)
        self.interaction_enc = self._interaction()
        self.interaction_dec = self._interaction()
        self.decode_z: nn.Module
        self.flat = interaction == "mlp" or flat_decoder
        if self.flat:
            latent = LATENT if interaction == "mlp" else LATENT * GRID**2
            self.decode_z = MLP([latent, *z_decoder, width * GRID**2], final_plain=False)
        else:
            self.decode_z = ConvStack(LATENT, [Layer(3, width)])
        self.cnn_out = nn.Conv2d(width, width, 3, padding=1)

    def _interaction(self) -> nn.Module:
        if self.interaction == "mlp":
            return MLP([self.width * GRID**2, 512, 512, 2 * LATENT])
        return ConvStack(self.width, [Layer(3, 128), Layer(3, 2 * LATENT)], final_plain=True)

    def _gaussian(self, network: nn.Module, h: Tensor) -> Gaussian:
        return Gaussian.split(network(h.flatten(1) if self.interaction == "mlp" else h), dim=1)

    def forward(self, f_x: Tensor | None, steps: int, batch: int) -> Drawing:
        """Draw z from the posterior given f_x, or from the prior when it is None: `batch` times.

        f_x: (B, width, 4, 4), drawn for batch / B times in turn.
        """
        # [f_x, f_x - f, h_dec] is [f_x, f_x, 0] + [0, -f, h_dec], and the first is the same in every step
        enc = None
        if f_x is not None:
            enc = self.lstm_enc.start(f_x, in_next=1)
            assert enc.same is not None
            enc = enc._replace(same=enc.same.repeat(batch // len(f_x), 1, 1, 1))
        dec = self.lstm_dec.start()
        f = dec.h.new_zeros(1, self.width, GRID, GRID)
        drawing = Drawing(f, [], [], [])
        for _ in range(steps):
            prior = self._gaussian(self.interaction_dec, dec.h)
            prior = Gaussian(*(part.expand(batch, *part.shape[1:]) for part in prior))
            drawing.prior.append(prior)
            if enc is None:
                z = prior.sample()
            else:
                enc = self.lstm_enc([-f, dec.h], enc)
                posterior = self._gaussian(self.interaction_enc, enc.h)
                drawing.posterior.append(posterior)
                z = posterior.sample()
            drawing.z.append(z)
            f, dec = self.draw(z, f, dec)
        return drawing._replace(f=f)

    def draw(self, z: Tensor, f: Tensor, dec: Unrolled) -> tuple[Tensor, Unrolled]:
        """One step of drawing: the next canvas and decoder state."""
        d = self.decode_z(z.flatten(1) if self.flat else z)
        if self.flat:
            d = d.unflatten(1, (self.width, GRID, GRID))
        dec = self.lstm_dec([d, f] if self.feed_canvas else [d], dec)
        return f + self.cnn_out(dec.h), dec

    def replay(self, z: list[Tensor]) -> Tensor:
        """The canvas f that given latents draw: L tensors -> (B, width, 4, 4)."""
        dec = self.lstm_dec.start()
        f = dec.h.new_zeros(1, self.width, GRID, GRID)
        for z_l in z:
            f, dec = self.draw(z_l, f, dec)
        return f
