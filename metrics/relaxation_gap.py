"""Relaxation gap: how much better a relaxed objective looks than the bound it stands for.

A model that is trained on a continuous relaxation of its discrete latents can use what no discrete latent could hold:
over-bright patches under presences below one, mixtures of slots. The gap is

    (negative ELBO with relaxed latents) - (negative ELBO with discrete ones),

in nats per image; far below zero where the relaxation is exploited. The relaxed number bounds nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..core.dataset import Dataset
from ..core.errors import ContractError, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Relaxes
from ..core.progress import track
from ._evaluation import as_floats, chunks, evaluation_dialect, test_split

__all__ = ["RelaxationGap"]

IMAGES = 50


@dataclass(frozen=True)
class RelaxationGap(Metric):
    """draws: of each kind, per image. images: at most this many test images; None for all of them."""

    better = "neither"
    requires = (Relaxes,)
    tiers: ClassVar = {"demo": {"images": 64}}

    draws: int = 10
    images: int | None = None

    def __post_init__(self) -> None:
        if self.draws < 1 or (self.images is not None and self.images < 1):
            raise UsageError(f"relaxation_gap needs draws >= 1 and images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """Which minus which."""
        return f"gap=relaxed-minus-discrete draws={self.draws}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Mean over images. Arrays, per image, in nats: value; relaxed, discrete: the two negative ELBOs."""
        test, index = test_split(data, self.images)
        relaxed, discrete = np.empty((2, len(index)))
        for part in track(chunks(np.arange(len(index)), IMAGES), "relaxation gap"):
            x = as_floats(test.image[index[part]], model.device)
            soft = torch.stack([model.relaxed_elbo(x) for _ in range(self.draws)])
            if soft.shape != (self.draws, len(part)):
                raise ContractError(
                    f"{type(model).__name__}.relaxed_elbo must return (batch,) = {(len(part),)}; "
                    f"got {tuple(soft.shape[1:])}"
                )
            relaxed[part] = -soft.double().mean(0).cpu().numpy()
            discrete[part] = -model.elbo(x, self.draws).double().cpu().numpy()
        if not np.isfinite([relaxed, discrete]).all():
            raise FloatingPointError(
                f"bounds of {type(model).__name__} are not finite; did its training diverge?"
            )
        measured = Measurement.mean(relaxed - discrete, relaxed=relaxed, discrete=discrete)
        return dataclasses.replace(measured, dialect=evaluation_dialect(model))
