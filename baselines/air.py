"""AIR and DAIR: attend, infer, repeat (Eslami et al., NeurIPS 2016), as baselines of DM-VAE (Min et al., IJCNN 2020).

    n ~ p(n)    u_t ~ N    z_what_t ~ N(0, I)    c = Σ_t paste(decoder(z_what_t), u_t)    x ~ Bernoulli(c)

nn/attend.py is the frame: reading, poses, counts and the objective. Here is what AIR puts into it: a small variational
auto-encoder of glimpses. DAIR (`difference=True`) shows its LSTM what is not explained yet instead of the image.

DM-VAE's authors say only: "similar model complexity as ours", an LSTM of 256 and two-layer MLPs of the same size. So
sizes are DM-VAE's; z_what = 50, N = 3 and glimpses of 28 are AIR's. No released code of the comparison is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ..core.dataset import DatasetInfo
from ..core.model import Recipe
from ..nn.attend import DEMO, MINI, Appearance, AttendConfig, AttendInferRepeat, Draw, published
from ..nn.blocks import mlp
from ..nn.distributions import Gaussian

__all__ = ["AIR"]


@dataclass(frozen=True)
class AIRConfig(AttendConfig):
    """See AttendConfig. z_pres is relaxed as DM-VAE's is; `gradient="nvil"` is AIR's own paper's.

    What the authors of the comparison did is not said. The public code whose other settings are theirs relaxes; and
    under this prior, which begins by asking for every step, NVIL saturates and then never draws an absent one.
    """

    what: int = 50


class AIR(AttendInferRepeat):
    """See the module. 1,811,069 parameters for 50 x 50 pixels, without NVIL's baseline."""

    tiers: ClassVar = {"demo": DEMO, "mini": MINI}

    def __init__(self, config: AIRConfig, data: DatasetInfo) -> None:
        super().__init__(config, data, Glimpses(config.glimpse, config.what))

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """As DM-VAE's authors train it: see `published`."""
        training, scale_std = published(data)
        return Recipe(AIRConfig(scale_std=scale_std), training)


class Belief(NamedTuple):
    """q(z_what | glimpse) and what was drawn from it: (B, D) each."""

    mean: Tensor
    std: Tensor
    what: Tensor


class Glimpses(Appearance):
    """A variational auto-encoder of glimpses: z_what ~ N(0, I)."""

    def __init__(self, side: int, what: int) -> None:
        super().__init__()
        self.size = what
        self.encoder = mlp(side**2, 256, 128, 2 * what)
        self.decoder = mlp(what, 128, 256, side**2)
        nn.init.constant_(self.decoder[-1].bias, -2.0)  # type: ignore[arg-type]  # patches start dark

    def infer(self, glimpse: Tensor, memory: None, draw: Draw) -> tuple[Tensor, Belief]:
        """z_what from q(z_what | glimpse)."""
        q = Gaussian.bounded(self.encoder(glimpse))
        what = q.mean if draw == "mode" else q.sample()
        return what, Belief(*q, what)

    def kl(self, belief: Belief) -> dict[str, Tensor]:
        """KL(q || N(0, I))."""
        return {"what": Gaussian(belief.mean, belief.std).kl_to(0, 1).sum(-1)}

    def log_ratio(self, belief: Belief) -> dict[str, Tensor]:
        """log N(z; 0, I) - log q(z)."""
        q = Gaussian(belief.mean, belief.std)
        p = Gaussian(torch.zeros_like(q.mean), torch.ones_like(q.std))
        return {"what": (p.log_prob(belief.what) - q.log_prob(belief.what)).sum(-1)}

    def decode(self, code: Tensor) -> Tensor:
        """The patch of z_what."""
        patch: Tensor = self.decoder(code).float().sigmoid()
        return patch

    def prior(self, n: int) -> Tensor:
        """z_what ~ N(0, I)."""
        return torch.randn(n, self.size, device=next(self.parameters()).device)

    def describe(self, code: Tensor, belief: Belief) -> tuple[Tensor, Tensor]:
        """z_what; there is no memory."""
        return code, code.new_zeros(*code.shape[:-1], 0)
