"""NLL: negative log-likelihood of the test images, by one of two estimators, both upper bounds in expectation.

"nelbo": -E_q[log p(x, z) - log q(z | x)], the mean over `particles` draws of the discrete latents.
"iwae":  -log 1/K sum_k w_k (Burda et al., ICLR 2016), tighter with every particle.

In nats per image, summed over pixels. How the model scores (its count prior, its likelihood) is part of the dialect:
with a prior odds of 1e-5 every object that is used costs 11.5 nats, with 1e-8 it costs 18.4, so numbers under different
count priors are never compared.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset
from ..core.errors import ContractError, NothingToMeasure, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import GenerativeModel, Itemizes
from ..core.progress import track
from ._attention import by_count, counts_of
from ._evaluation import as_floats, chunks, evaluation_dialect, test_split
from .log_marginal import log_mean, refuse_non_finite

__all__ = ["NLL"]

# Memory is that of IMAGES x PARTICLES decoded images, whatever the options. Fixed: the noise is drawn in this order.
IMAGES, PARTICLES = 50, 10


@dataclass(frozen=True)
class NLL(Metric):
    """estimator: see the module. particles: draws per image.

    count: only images with so many objects; None for all. A blank image has an NLL near 0 and hides what others have.
    images: measure on at most this many test images (before `count` chooses among them); None for all of them.
    """

    better = "lower"
    tiers: ClassVar = {"demo": {"images": 64}}

    estimator: Literal["nelbo", "iwae"] = "nelbo"
    particles: int = 10
    count: int | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        if self.particles < 1 or (self.images is not None and self.images < 1):
            raise UsageError(f"nll needs particles >= 1 and images >= 1; got {self}")
        if self.count is not None and self.count < 0:
            raise UsageError(f"nll needs a count >= 0; got {self}")

    @property
    def dialect(self) -> str:
        """The bound and its draws; how the model scores is learnt when it is measured."""
        some = "" if self.count is None else f" count={self.count}"
        return f"estimator={self.estimator} particles={self.particles}{some}"

    def __call__(self, model: GenerativeModel[Any], data: Dataset) -> Measurement:
        """The mean over images. Arrays, per image: value; nelbo, from the same draws; count, where the data say it.

        by_count (C + 1,): the mean value of images with 0, 1, ... objects. For a model that itemizes its log-weights
        also term (S,), the terms' names; terms (S, N), each image's mean over draws, which add up to -nelbo;
        terms_by_count (S, C + 1). Raises UsageError where `count` is asked of data that do not say how many there are,
        NothingToMeasure where no image has so many.
        """
        test, index = test_split(data, self.images)
        counts = None if test.objects is None else counts_of(test.objects, index)
        if self.count is not None:
            if counts is None:
                raise UsageError(
                    f"nll with a count needs objects; {data.info.name} does not say them"
                )
            index = index[counts == self.count]
            if not len(index):
                raise NothingToMeasure(f"no image of {data.info.name} has {self.count} objects")
            counts = counts[counts == self.count]
        weights = np.empty((self.particles, len(index)))  # (K, N) nats, fp64
        sums: dict[str, NDArray[np.float64]] = {}
        for part in track(chunks(np.arange(len(index)), IMAGES), "NLL"):
            x = as_floats(test.image[index[part]], model.device)
            for begin in range(0, self.particles, PARTICLES):
                size = min(PARTICLES, self.particles - begin)
                terms = log_weight_terms(model, x, size)
                drawn = np.sum(list(terms.values()), axis=0)
                refuse_non_finite(drawn, index[part], type(model).__name__)
                weights[begin : begin + size, part] = drawn
                for name, term in terms.items():
                    sums.setdefault(name, np.zeros(len(index)))[part] += term.sum(0)
        nelbo = -weights.mean(0)
        values = nelbo if self.estimator == "nelbo" else -log_mean(weights, 0)
        arrays: dict[str, NDArray[Any]] = {"nelbo": nelbo}
        if counts is not None:
            most = max(data.info.objects, int(counts.max()))
            arrays |= {"count": counts, "by_count": by_count(values, counts, most)}
        if isinstance(model, Itemizes):
            terms_of = np.stack([total / self.particles for total in sums.values()])
            arrays |= {"term": np.array(list(sums)), "terms": terms_of}
            if counts is not None:
                arrays["terms_by_count"] = np.stack([by_count(t, counts, most) for t in terms_of])
        measured = Measurement.mean(values)
        return dataclasses.replace(
            measured, arrays={**measured.arrays, **arrays}, dialect=evaluation_dialect(model)
        )


def log_weight_terms(
    model: GenerativeModel[Any], x: Any, particles: int
) -> dict[str, NDArray[np.float64]]:
    """What the log-weights of a batch are made of, each (K, B) nats; one term where the model does not itemize them."""
    if isinstance(model, Itemizes):
        terms, who = model.log_weight_terms(x, particles), "log_weight_terms"
    else:
        terms, who = {"log_weights": model.log_weights(x, particles)}, "log_weights"
    for term in terms.values():
        if term.shape != (particles, len(x)):
            raise ContractError(
                f"{type(model).__name__}.{who} must return (particles, batch) = {(particles, len(x))}; "
                f"got {tuple(term.shape)}"
            )
    return {name: term.double().cpu().numpy() for name, term in terms.items()}
