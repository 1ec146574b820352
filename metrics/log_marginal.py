"""LL: the log-likelihood of the test images by importance sampling (Burda et al., ICLR 2016).

    log p(x) ~ log 1/K sum_k w_k,   w_k = p(x, z_k) / q(z_k | x),   z_k ~ q(z | x)

in nats per image, summed over pixels; no dequantisation, no bits per dimension. A lower bound on average, tighter
with every particle. From the same weights come the ELBO (one particle) and the bound with ten.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ..core.dataset import Dataset
from ..core.errors import ContractError, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import GenerativeModel
from ..core.progress import track
from ._evaluation import as_floats, chunks, evaluation_dialect, test_split

__all__ = ["LogMarginal"]

# Memory is that of IMAGES x PARTICLES decoded images, whatever the options. Fixed: the noise is drawn in this order.
IMAGES, PARTICLES = 16, 25


@dataclass(frozen=True)
class LogMarginal(Metric):
    """particles: K. images: measure on at most this many test images; None for all of them."""

    better = "higher"
    tiers: ClassVar = {"demo": {"images": 16}, "mini": {"images": 256}}

    particles: int = 100
    images: int | None = None

    def __post_init__(self) -> None:
        if self.particles < 1 or (self.images is not None and self.images < 1):
            raise UsageError(f"log_marginal needs particles >= 1 and images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """The bound depends on K; how the model scores is learnt when it is measured."""
        return f"particles={self.particles}"

    def __call__(self, model: GenerativeModel[Any], data: Dataset) -> Measurement:
        """The mean over images. Arrays, per image: value, elbo, ll10 (from ten particles on), ess.

        ess: effective number of particles, (sum w)^2 / sum w^2; near one, `value` is far below log p(x).
        """
        test, index = test_split(data, self.images)
        weights = np.empty((self.particles, len(index)))  # (K, N) nats, fp64
        for part in track(chunks(np.arange(len(index)), IMAGES), "LL"):
            x = as_floats(test.image[index[part]], model.device)
            for begin in range(0, self.particles, PARTICLES):
                size = min(PARTICLES, self.particles - begin)
                w = model.log_weights(x, size)
                if w.shape != (size, len(part)):
                    raise ContractError(
                        f"{type(model).__name__}.log_weights must return (particles, batch) = "
                        f"{(size, len(part))}; got {tuple(w.shape)}"
                    )
                weights[begin : begin + size, part] = w.double().cpu().numpy()
            refuse_non_finite(weights[:, part], index[part], type(model).__name__)
        arrays = {
            "elbo": weights.mean(0),
            "ess": np.exp(2 * logsumexp(weights, 0) - logsumexp(2 * weights, 0)),
        }
        if self.particles >= 10:
            # every group of ten is an estimate: their mean is less noisy, and at most LL_K, image by image
            groups = weights[: self.particles // 10 * 10].reshape(-1, 10, len(index))
            arrays["ll10"] = log_mean(groups, 1).mean(0)
        measured = Measurement.mean(log_mean(weights, 0), **arrays)
        return dataclasses.replace(measured, dialect=evaluation_dialect(model))


def log_mean(log_weights: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """log of the mean of exp(log_weights) along an axis, without overflow."""
    total: NDArray[np.float64] = logsumexp(log_weights, axis)
    return total - math.log(log_weights.shape[axis])


def refuse_non_finite(weights: NDArray[np.float64], index: NDArray[np.int64], name: str) -> None:
    """Raise FloatingPointError naming the first test image whose weights (K, N) are not all finite."""
    wrong = np.argwhere(~np.isfinite(weights.T))
    if len(wrong):
        image, particle = wrong[0]
        raise FloatingPointError(
            f"log weights of {name} are not finite at test image {index[image]} ({weights[particle, image]} for "
            f"particle {particle}, {len(wrong)} of {weights.size} in its batch); did its training diverge?"
        )
