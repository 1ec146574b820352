"""Modified Hausdorff distance: one-shot classification without a model, the control of the one-shot runs.

Dubuisson & Jain, "A modified Hausdorff distance for object matching", ICPR 1994: between two sets of points

    max( mean_a min_b |a - b|, mean_b min_a |a - b| ).

As in the demonstration that comes with Lake's runs (github.com/brendenlake/omniglot): the points are the pixels with
ink of the 105 x 105 images, by row and column, less their mean; a query belongs to the nearest support, the first one
of several. On the 20 runs that makes 38.75 % errors, so 61.25 % are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.progress import track
from ..core.reductions import reduced
from ._episodes import episodes

__all__ = ["ModifiedHausdorff"]

Floats = NDArray[np.float64]


class Inked(Protocol):
    """Data that know the images of their test split before they were scaled: (N, H, W) bool, True for ink."""

    def raw(self) -> NDArray[np.bool_]: ...


@dataclass(frozen=True)
class ModifiedHausdorff(Metric):
    """The model is not asked: the number is of the data. episodes: the first so many of them."""

    better = "higher"
    reduction = "exact_fraction(verdict)"

    episodes: int = 20

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise UsageError(f"modified_hausdorff needs episodes >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """Of which points, and where they are put; exact, since it depends on neither seed nor training."""
        return "exact points=ink centred=mean"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """The share of queries that are told right.

        Arrays, of E episodes of W queries and W supports: verdict (E * W,) bool, episode after episode; distance (E, W,
        W) pixels, of each query from each support; label, predicted (E, W) int64; error (E,), the share told wrong.
        """
        found = episodes(data, self.episodes, "modified_hausdorff")
        if not hasattr(data, "raw"):
            raise UsageError(
                f"modified_hausdorff needs data with raw ink (dataset one_shot); {data.info.name} has none"
            )
        ink = cast(Inked, data).raw()
        distance = np.empty((*found.query.shape, found.support.shape[1]))  # (E, W, W)
        for episode in track(range(len(distance)), "modified Hausdorff distance"):
            support, query = (
                [KDTree(centred(ink[one])) for one in index[episode]]
                for index in (found.support, found.query)
            )
            distance[episode] = [[modified_hausdorff(q, s) for s in support] for q in query]
        predicted = distance.argmin(-1)
        right = predicted == found.label
        arrays = {
            "verdict": right.reshape(-1),
            "distance": distance,
            "label": found.label,
            "predicted": predicted,
            "error": 1 - right.mean(1),
        }
        share = reduced(self.reduction, arrays, "")
        return Measurement(share.value, share.stderr, share.n, arrays=arrays)


def centred(ink: NDArray[np.bool_]) -> Floats:
    """(H, W) -> (P, 2): row and column of each pixel with ink, less their mean. Raises UsageError for no ink."""
    points: Floats = np.argwhere(ink).astype(np.float64)
    if not len(points):
        raise UsageError("an image of the one-shot episodes has no ink; check the data set's files")
    points -= points.mean(0)
    return points


def modified_hausdorff(a: KDTree, b: KDTree) -> float:
    """Between two sets of points, in their unit. Trees, for an image is compared with many: five times faster."""
    return float(max(np.mean(a.query(b.data)[0]), np.mean(b.query(a.data)[0])))
