"""FID: how far the features of samples are from those of training images (Heusel et al., NeurIPS 2017).

Both sets of features are taken for normal, and compared by the squared Frechet distance, with unbiased covariances in
float64. Lower is better; it depends on the number of images, and means nothing beside another extractor's (_features).

DooD (Figure 6) compares 1,500 samples with 1,500 images of the training set, by `inception_softmax` at 128 x 128 (the
default of pytorch-ignite), so that its trace is at most 1 and its values lie about 0.1; and the official script turns
real images of MNIST, EMNIST and KMNIST by up to 30 degrees either way, which no sample is: rotation="official".
Its row of real images against real ones is of="real".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset, Split
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import GenerativeModel
from ..core.reductions import reduced
from ._drawing import Floats
from ._evaluation import sample_bytes, some
from ._features import Name, extractor

__all__ = ["FID"]

TURNED, DEGREES = ("mnist", "emnist", "kmnist"), 30


@dataclass(frozen=True)
class FID(Metric):
    """features: see _features. images: of each set, at least two. of: the model's samples, or real images that are
    not among those they are compared with; then the model is not asked.

    rotation: "official" turns the real images of the three data sets that the official script turns (dataset `glyphs`
    can), from their own size, and no others.
    """

    better = "lower"
    reduction = "frechet_distance(factor)"
    reads: ClassVar[tuple[Split, ...]] = ("train",)
    learns: ClassVar = ("extractor",)
    tiers: ClassVar = {"demo": {"images": 200}}

    features: Name = "domain"
    images: int = 1_500
    of: Literal["samples", "real"] = "samples"
    rotation: Literal["none", "official"] = "none"

    def __post_init__(self) -> None:
        if self.images < 2:
            raise UsageError(f"metric.images={self.images} is too few; expected at least 2")

    @property
    def dialect(self) -> str:
        """All of it; the digest of the extractor follows when it has been made."""
        return (
            f"features={self.features} images={self.images} of={self.of} rotation={self.rotation}"
        )

    def __call__(self, model: GenerativeModel[Any], data: Dataset) -> Measurement:
        """The distance. Arrays: mean (2, D), factor (2, R, D) float32, of the samples (or the other real images) and of
        the real ones: their covariances are factor^T factor.
        """
        features = extractor(self.features, data, model.device)
        real, other = self._real(data)
        if self.of == "samples":
            other = sample_bytes(model, self.images, "FID: samples")
        normals = [normal(features(images, "FID: features")) for images in (other, real)]
        arrays = {
            name: np.stack(parts).astype(np.float32)
            for name, parts in zip(("mean", "factor"), zip(*normals, strict=True), strict=True)
        }
        found = reduced(self.reduction, arrays, self.dialect)
        said = f"extractor={features.digest}"
        return Measurement(found.value, None, found.n, arrays=arrays, dialect=said)

    def _real(self, data: Dataset) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Training images to compare with, the same for every model; and as many others for of="real", else none."""
        train = self._turned(data).split("train")
        total = self.images * (2 if self.of == "real" else 1)
        if len(train) < total:
            raise UsageError(
                f"fid needs {total} training images; {data.info.name} has {len(train)}: choose fewer metric.images"
            )
        first = some(len(train), self.images)
        return train.image[first], train.image[np.setdiff1d(some(len(train), total), first)]

    def _turned(self, data: Dataset) -> Dataset:
        """The data as the official script loads them, or as they are."""
        if self.rotation == "none":
            return data
        if not hasattr(data, "source") or not hasattr(data, "rotation"):
            raise UsageError(
                f"rotation='official' needs data that can be turned (dataset glyphs); {data.info.name} cannot"
            )
        if data.source not in TURNED:
            return data
        return cast(Dataset, dataclasses.replace(cast(Any, data), rotation=DEGREES))


def normal(features: Floats) -> tuple[Floats, Floats]:
    """(N, D) -> mean (D,) and factor (min(N, D), D) of the unbiased covariance, factor^T factor."""
    mean = features.mean(0)
    centred = (features - mean) / np.sqrt(len(features) - 1)
    factor: Floats = np.asarray(np.linalg.qr(centred, mode="r"))
    return mean, factor
