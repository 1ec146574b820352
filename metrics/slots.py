"""Slots: does a memory slot stand for one kind of thing, and does the model know which slot it reads?

Every step that a model takes (the mode of its posterior) is matched to a true object, and grouped by its most probable
slot. quantity:

purity                  share of matched steps whose class is the commonest one of their slot
nmi                     mutual information of slot and class over the arithmetic mean of their entropies; in [0, 1]
used                    slots that more than 1 % of the matched steps read
usage_entropy           H of the mean of q(slot | x), nats; at most log M
conditional_entropy     mean H of q(slot | x), nats: log M where the posterior is flat
mutual_information      the difference of the two: what the slot says of the image, nats

groups="k-means" groups by k-means of the appearance z^what instead: what a model without a memory must be compared
with. Purity grows with the number of groups and NMI is biased upwards by it; so the number of clusters is that of
slots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.dataset import Dataset
from ..core.errors import NothingToMeasure, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Attends
from ._attention import OVERLAP, Floats, attended, matches
from ._evaluation import test_split
from ._objects import truth

__all__ = ["Slots"]

LEAST_USE = 0.01
HARD = ("purity", "nmi", "used")


@dataclass(frozen=True)
class Slots(Metric):
    """quantity, groups: see the module. clusters: of k-means. images: at most this many test images; None for all."""

    better = "neither"
    reduction = ""
    requires = (Attends,)
    tiers: ClassVar = {"demo": {"images": 100}}

    quantity: Literal[
        "purity", "nmi", "used", "usage_entropy", "conditional_entropy", "mutual_information"
    ] = "nmi"
    groups: Literal["slot", "k-means"] = "slot"
    clusters: int = 15
    images: int | None = None

    def __post_init__(self) -> None:
        if self.clusters < 1 or (self.images is not None and self.images < 1):
            raise UsageError(f"slots needs clusters >= 1 and images >= 1; got {self}")
        if self.groups == "k-means" and self.quantity not in HARD:
            raise UsageError(f"k-means has no probabilities: {self.quantity} needs groups='slot'")

    @property
    def dialect(self) -> str:
        """What is grouped, and what is matched."""
        how = f"{self.groups}({self.clusters})" if self.groups == "k-means" else self.groups
        return f"groups={how} iou={OVERLAP} steps=mode"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """One number of all matched steps; n is how many there are. Arrays: joint (M, L) int64, matched steps by group
        and class; matched, share of the present steps that are; for slots also usage (M,), the mean of q(slot | x).

        Raises UsageError where the data do not say what is there; NothingToMeasure where the model has no slots or no
        step is matched.
        """
        test, index = test_split(data, self.images)
        objects = truth(test, data, "slots")
        steps = attended(model, test, index, "slots")
        name, slots = type(model).__name__, steps.slot.shape[-1]
        if self.groups == "slot" and slots == 0:
            raise NothingToMeasure(
                f"{name} has no memory slots; groups='k-means' measures its z^what"
            )
        match = matches(steps, objects, index)
        at = match >= 0
        if not at.any():
            raise NothingToMeasure(
                f"no step of {name} is matched to an object in {len(index)} images"
            )
        label = np.take_along_axis(objects.label[index], match.clip(0), 1)[at]
        groups = (
            steps.slot[at].argmax(-1) if self.groups == "slot" else self._clusters(steps.what[at])
        )
        most = slots if self.groups == "slot" else self.clusters
        joint = joint_counts(groups, label, most)
        arrays: dict[str, NDArray[Any]] = {
            "joint": joint,
            "matched": np.array(at.sum() / max(1, steps.present.sum())),
        }
        if self.groups == "slot":
            arrays["usage"] = steps.slot[at].mean(0)
        value = self._value(joint, steps.slot[at])
        return Measurement(value, None, int(at.sum()), arrays=arrays)

    def _clusters(self, what: Floats) -> NDArray[np.int64]:
        """Groups of (S, D) appearances. Fewer different ones than clusters are groups as they are."""
        from sklearn.cluster import KMeans

        different, group = np.unique(what, axis=0, return_inverse=True)
        if len(different) <= self.clusters:
            return group.reshape(-1).astype(np.int64)
        random = torch.initial_seed() % 2**32
        fitted = KMeans(self.clusters, n_init=10, random_state=random).fit(what)
        return np.asarray(fitted.labels_, dtype=np.int64)

    def _value(self, joint: NDArray[np.int64], q: Floats) -> float:
        if self.quantity == "purity":
            return purity(joint)
        if self.quantity == "nmi":
            return normalized_mutual_information(joint)
        if self.quantity == "used":
            return float((joint.sum(1) > LEAST_USE * joint.sum()).sum())
        usage, conditional = entropy(q.mean(0)), float(np.mean([entropy(row) for row in q]))
        return {
            "usage_entropy": usage,
            "conditional_entropy": conditional,
            "mutual_information": usage - conditional,
        }[self.quantity]


def joint_counts(
    groups: NDArray[np.int64], label: NDArray[np.int64], most: int
) -> NDArray[np.int64]:
    """(S,) groups in 0 .. most - 1 and (S,) classes -> how often they meet, (most, L)."""
    joint = np.zeros((most, int(label.max()) + 1), np.int64)
    np.add.at(joint, (groups, label), 1)
    return joint


def purity(joint: NDArray[np.int64]) -> float:
    """sum_k max_c n_kc / sum n."""
    return float(joint.max(1).sum() / joint.sum())


def normalized_mutual_information(joint: NDArray[np.int64]) -> float:
    """scikit-learn's, with the arithmetic mean of the entropies, but 0 where one of them is 0: nothing is shared.

    (scikit-learn calls a single slot that reads a single class a perfect match.)
    """
    from sklearn.metrics import normalized_mutual_info_score

    if (joint.sum(0) > 0).sum() < 2 or (joint.sum(1) > 0).sum() < 2:
        return 0.0
    groups, label = (
        np.repeat(places, joint.ravel()) for places in np.indices(joint.shape).reshape(2, -1)
    )
    return float(normalized_mutual_info_score(label, groups, average_method="arithmetic"))


def entropy(p: Floats) -> float:
    """Of a distribution (M,), in nats; whatever it adds up to is taken as 1."""
    p = p[p > 0] / p.sum()
    return max(0.0, -sum(float(one) * math.log(one) for one in p))
