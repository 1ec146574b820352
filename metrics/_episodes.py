"""One-shot episodes: W things shown once each, then W others to be told which of them they are (Lake et al., 2015).

Lake, Salakhutdinov & Tenenbaum, "Human-level concept learning through probabilistic program induction", Science 2015:
20 runs of 20 characters of one alphabet. Axes: `E` episodes, `W` ways (and queries).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset
from ..core.errors import UsageError

Indices = NDArray[np.int64]


class Episodes(NamedTuple):
    """Indices into the test split, support and query (E, W), and label (E, W): which support each query is."""

    support: Indices
    query: Indices
    label: Indices


def episodes(data: Dataset, at_most: int | None, metric: str) -> Episodes:
    """The first `at_most` episodes of a test split that holds them one after another, W supports and then W queries.

    `label` numbers the classes of each episode from 0; every class has one support. Raises UsageError for other data.
    """
    label = data.split("test").label
    ways = 0 if label is None or len(label) == 0 else int(label.max()) + 1
    if label is None or ways < 2 or len(label) % (2 * ways):
        raise UsageError(_refusal(metric, data))
    runs = label.reshape(-1, 2, ways)
    if not (np.sort(runs[:, 0], 1) == np.arange(ways)).all() or runs.min() < 0:
        raise UsageError(_refusal(metric, data))
    index = np.arange(len(label)).reshape(runs.shape)[:at_most]
    # The place of a query's class among the supports, which need not be in order.
    place = np.argsort(runs[:at_most, 0], 1)
    return Episodes(index[:, 0], index[:, 1], np.take_along_axis(place, runs[:at_most, 1], 1))


def _refusal(metric: str, data: Dataset) -> str:
    return (
        f"{metric} needs a test split of one-shot episodes, as many queries as supports, each class once among the "
        f"supports (dataset one_shot); {data.info.name} has none"
    )
