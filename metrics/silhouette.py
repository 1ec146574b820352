"""Silhouette: do the parts that a model draws with come in kinds (DooD, Figure 5)?

The parts of training images, one posterior draw per image until there are enough, are grouped by k-means of `what`
(ten numbers per stroke in its own frame; z^what for AIR). The silhouette (Rousseeuw 1987) of a part compares its mean
distance a from its own cluster with that from the nearest other one, b: (b - a) / max(a, b), in [-1, 1]; the number is
the mean over parts, in the space of `what` and not in that of the picture. The picture is a t-SNE of the same parts.

The authors' script leaves the model in train mode; here that is an option. The number moves by +-0.02 with the seed.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.dataset import Dataset, Split
from ..core.errors import NothingToMeasure, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Draws
from ..core.progress import report
from ..core.randomness import stream
from ._drawing import Floats, drawings, dropping_out
from ._evaluation import BATCH, as_bytes, chunks

__all__ = ["Silhouette"]

MEGABYTES = 256  # of distances at a time
PERPLEXITY = 30.0  # scikit-learn's default; it must be less than the number of points


@dataclass(frozen=True)
class Silhouette(Metric):
    """clusters: of k-means. vectors: so many parts are grouped, fewer if the training images do not have them.

    shown: so many of them in the picture, whose t-SNE takes a minute for 10,000. dropout: as the authors' script was.
    """

    better = "higher"
    requires = (Draws,)
    reduction = "mean(silhouette)"
    reads: ClassVar[tuple[Split, ...]] = ("train",)
    tiers: ClassVar = {"demo": {"vectors": 400, "shown": 200}, "mini": {"shown": 2_000}}

    clusters: int = 8
    vectors: int = 10_000
    shown: int = 10_000
    dropout: bool = False

    def __post_init__(self) -> None:
        if self.clusters < 2 or self.vectors <= self.clusters or self.shown < 0:
            raise UsageError(
                f"silhouette needs clusters >= 2, more vectors than clusters and shown >= 0; got {self}"
            )

    @property
    def dialect(self) -> str:
        """What is grouped, and how."""
        return f"clusters={self.clusters} vectors={self.vectors} dropout={self.dropout}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """The mean over parts; its standard error takes them for independent, which parts of one image are not.

        Arrays: silhouette (V,), per part; cluster (V,) int64, in falling order of size. Of the S parts in the picture:
        shown (S,) int64, which they are; tsne (S, 2); part (S, C, H, W) uint8, what each adds to the canvas.
        Raises NothingToMeasure where there are not more different parts than clusters.
        """
        from sklearn import config_context
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_samples
        from threadpoolctl import threadpool_limits

        seed = torch.initial_seed() % 2**32
        found = self._parts(model, data)
        different = len(np.unique(found.what, axis=0))
        if different <= self.clusters:
            raise NothingToMeasure(
                f"{type(model).__name__} draws the training images with {different} different parts; "
                f"{self.clusters} clusters need more"
            )
        with threadpool_limits(1):  # sums are taken in the same order however many cores there are
            report("silhouette: k-means", 0)
            # ten beginnings, scikit-learn's default when the paper was written
            means = KMeans(self.clusters, n_init=10, random_state=seed)
            cluster = means.fit(found.what).labels_
            report("silhouette: distances", 0)
            with config_context(working_memory=MEGABYTES):
                silhouette = silhouette_samples(found.what, cluster).astype(np.float64)
            shown = np.random.default_rng(seed).permutation(len(cluster))[: self.shown]
            shown.sort()
            placed = self._placed(found.what[shown], seed)
        by_size = np.argsort(-np.bincount(cluster, minlength=self.clusters), kind="stable")
        measured = Measurement.mean(silhouette, "silhouette")
        arrays = {
            "cluster": np.argsort(by_size)[cluster],
            "shown": shown,
            "tsne": placed,
            "part": found.part[shown],
        }
        return dataclasses.replace(measured, arrays={**measured.arrays, **arrays})

    def _parts(self, model: Any, data: Dataset) -> Parts:
        """The first `vectors` parts of training images in an order that is random but the same for every model."""
        train = data.split("train")
        order = np.random.default_rng(stream("silhouette", "train")).permutation(len(train))
        whats, parts, count = [], [], 0
        with dropping_out(model, self.dropout):
            for _, found in drawings(model, train, chunks(order, BATCH)):
                present = found.present > 0.5
                before = torch.cat([torch.zeros_like(found.canvas[:, :1]), found.canvas[:, :-1]], 1)
                added = (found.canvas - before)[present]
                whats.append(found.what[present].double().numpy())
                parts.append(as_bytes(added, f"a part by {type(model).__name__}"))
                count += len(added)
                report("silhouette: parts", min(count, self.vectors), self.vectors)
                if count >= self.vectors:
                    break
        return Parts(*(np.concatenate(field)[: self.vectors] for field in (whats, parts)))

    def _placed(self, what: Floats, seed: int) -> Floats:
        """(S, D) -> (S, 2) by t-SNE; nothing is placed where there are too few points to have neighbours."""
        from sklearn.manifold import TSNE

        if len(what) < 4:
            return np.zeros((len(what), 2))
        report("silhouette: t-SNE", 0)
        perplexity = min(PERPLEXITY, (len(what) - 1) / 3)
        placed: Floats = TSNE(2, perplexity=perplexity, random_state=seed).fit_transform(what)
        return placed.astype(np.float64)


class Parts(NamedTuple):
    """what (V, D) and part (V, C, H, W) uint8, what each adds to the canvas, of V parts."""

    what: Floats
    part: NDArray[np.uint8]
