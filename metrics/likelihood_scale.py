"""What a log-likelihood is worth: those of a black image, of the mean image, and of every image as its own.

A density has no zero to be counted from. log N(x; image, sigma^2), in nats per image, with the model's own sigma, where
the image is black, or the mean of the training images, or x itself: the last is the most that the likelihood can give,
with no prior to pay. A model below the mean image has learnt less than one constant.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import NothingToMeasure, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import GenerativeModel
from ..core.progress import track
from ..nn.distributions import image_log_prob
from ._evaluation import as_floats, chunks, pixel_sigma, some, test_split

__all__ = ["LikelihoodScale"]


@dataclass(frozen=True)
class LikelihoodScale(Metric):
    """shows: the image in the place of the model's. images: as in log_marginal, which measures on the same ones.

    learnt: the mean is that of at most this many training images.
    """

    better = "neither"
    reads = ("train", "test")
    tiers: ClassVar = {"demo": {"images": 16}, "mini": {"images": 256}}  # those of log_marginal

    shows: Literal["black", "mean", "itself"] = "mean"
    images: int | None = None
    learnt: int = 6_000

    def __post_init__(self) -> None:
        if self.learnt < 1 or (self.images is not None and self.images < 1):
            raise UsageError(f"likelihood_scale needs learnt >= 1 and images >= 1; got {self}")

    @property
    def needs_training(self) -> bool:
        """Never: of the model it takes sigma."""
        return False

    @property
    def dialect(self) -> str:
        """What is shown; sigma is learnt from the model."""
        return f"shows={self.shows}" + (f" learnt={self.learnt}" if self.shows == "mean" else "")

    def __call__(self, model: GenerativeModel[Any], data: Dataset) -> Measurement:
        """The mean over images. Arrays: value (N,), per image; shown (C, H, W), but for `itself`.

        Raises NothingToMeasure for a model whose pixels are not normal with one sigma, in its config.
        """
        sigma = pixel_sigma(model)
        if sigma is None:
            raise NothingToMeasure(
                f"the pixels of {type(model).__name__} are not normal with a config.sigma"
            )
        test, index = test_split(data, self.images)
        shown = np.zeros(data.info.shape)
        if self.shows == "mean":
            train = data.split("train").image
            parts = chunks(some(len(train), self.learnt), 100)
            sums = [train[part].sum(0, dtype=np.int64) for part in track(parts, "mean image")]
            shown = np.sum(sums, axis=0) / (255 * sum(map(len, parts)))
        value = np.empty(len(index))
        for part in chunks(np.arange(len(index)), 100):
            x = as_floats(test.image[index[part]], model.device)
            mean = x if self.shows == "itself" else x.new_tensor(shown).expand_as(x)
            value[part] = image_log_prob(x, mean, sigma).double().cpu().numpy()
        measured = Measurement.mean(value)
        arrays = dict(measured.arrays)
        if self.shows != "itself":
            arrays["shown"] = shown.astype(np.float32)
        return dataclasses.replace(measured, arrays=arrays, dialect=f"sigma={sigma:g}")
