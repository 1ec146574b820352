"""Part counts: of how many parts a model draws an image (DooD, Figure 3 b-d: strokes).

Liang et al., "Drawing out of Distribution", NeurIPS 2022: a model trained on MNIST draws at most ten strokes, once per
image, for 704 test images of each dataset. The most parts that there can be is an option of the model.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Draws
from ..core.progress import track
from ._drawing import drawings, dropping_out
from ._evaluation import BATCH, chunks, test_split

__all__ = ["PartCounts"]


@dataclass(frozen=True)
class PartCounts(Metric):
    """quantity: "mean", the mean number of parts; "at_cap", the share of images that are drawn with as many parts as
    there can be. images: at most this many test images; None for all. dropout: as the authors' script had it, which
    left the model in train mode.
    """

    better = "neither"
    requires = (Draws,)
    learns = ("cap",)
    tiers: ClassVar = {"demo": {"images": 100}}

    quantity: Literal["mean", "at_cap"] = "mean"
    images: int | None = 704
    dropout: bool = False

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise UsageError(f"part_counts needs images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """One draw per image; the most parts that there can be are learnt when it is measured."""
        return f"draws=1 dropout={self.dropout}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Arrays: value (N,), per image; count (N,) int64; histogram (T + 1,) int64, images by their count."""
        test, index = test_split(data, self.images)
        with dropping_out(model, self.dropout):
            parts = [
                found.present.numpy() > 0.5
                for _, found in drawings(model, test, track(chunks(index, BATCH), "part counts"))
            ]
        present = np.concatenate(parts)  # (N, T)
        count, cap = present.sum(1), present.shape[1]
        value = count if self.quantity == "mean" else count == cap
        histogram = np.bincount(count, minlength=cap + 1)
        measured = Measurement.mean(value.astype(np.float64), count=count, histogram=histogram)
        return dataclasses.replace(measured, dialect=f"cap={cap}")
