"""Linear probe: do the parts that a model draws an image with say what the image is?

The features of an image are what and where of each of its parts, drawn once from the posterior, zero where there is no
such part (84 numbers for DooD's six strokes), standardised over the training images. One linear layer reads the class.

The authors' code trains that layer by Adam at 1e-5 for 800,000 updates of 64 images, never zeroes its gradients, and
reports the best test accuracy of all epochs. Here it is multinomial logistic regression (scikit-learn's, L2 penalty
with C = 1), taken to convergence: nothing is tuned, and no test image has a say. The numbers are in the authors'
repository alone, not in the paper.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset, Split
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Draws
from ..core.progress import report, track
from ..core.reductions import reduced
from ._drawing import Floats, drawings
from ._evaluation import BATCH, chunks, some

__all__ = ["LinearProbe"]

MOST_ITERATIONS, TOLERANCE = (
    2_000,
    1e-6,
)  # of L-BFGS; a convex problem of this size takes hundreds at most


@dataclass(frozen=True)
class LinearProbe(Metric):
    """train, images: of the training and the test split, at most so many images; None for all."""

    better = "higher"
    requires = (Draws,)
    reduction = "fraction(verdict)"
    reads: ClassVar[tuple[Split, ...]] = ("train", "test")
    tiers: ClassVar = {
        "demo": {"train": 500, "images": 100},
        "mini": {"train": 10_000, "images": 2_000},
    }

    train: int | None = None
    images: int | None = None

    def __post_init__(self) -> None:
        if (self.train or 2) < 2 or (self.images or 1) < 1:
            raise UsageError(f"linear_probe needs train >= 2 and images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """What is read, by what, learnt from how much."""
        train = "all" if self.train is None else self.train
        return f"classifier=logistic C=1 feature=what+where draws=1 train={train}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """The share of test images that are read right, with its binomial standard error.

        Arrays: verdict (N,) bool; label, predicted (N,) int64; chance, the share of the commonest class of the training
        images among them; iterations, of the solver.
        Raises UsageError where the images have no classes, ArithmeticError where the solver does not converge.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        train = gather(model, data, "train", self.train)
        test = gather(model, data, "test", self.images)
        mean, std = train.feature.mean(0), train.feature.std(0)
        std = np.where(std > 0, std, 1.0)  # a part that no image has
        classes, counts = np.unique(train.label, return_counts=True)
        if len(classes) < 2:
            raise UsageError(f"linear_probe needs two classes; {len(train.label)} training images of "
                             f"{data.info.name} have {len(classes)}")  # fmt: skip
        report("linear probe", 0)
        probe = LogisticRegression(C=1.0, tol=TOLERANCE, max_iter=MOST_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit((train.feature - mean) / std, train.label)
        iterations = int(probe.n_iter_.max())
        if iterations >= MOST_ITERATIONS:
            raise ArithmeticError(f"the linear probe has not converged after {iterations} steps")
        predicted = probe.predict((test.feature - mean) / std)
        arrays = {
            "verdict": predicted == test.label,
            "label": test.label,
            "predicted": predicted.astype(np.int64),
            "chance": np.array((test.label == classes[counts.argmax()]).mean()),
            "iterations": np.array(iterations),
        }
        share = reduced(self.reduction, arrays, "")
        return Measurement(share.value, share.stderr, share.n, arrays=arrays)


class Features(NamedTuple):
    """Of N images: feature (N, F), label (N,)."""

    feature: Floats
    label: NDArray[np.int64]


def gather(model: Any, data: Dataset, name: Split, at_most: int | None) -> Features:
    """What and where of every part of at most so many images of a split, zero where there is none."""
    examples = data.split(name)
    if examples.label is None:
        raise UsageError(f"linear_probe needs images with classes; {data.info.name} has none")
    index = some(len(examples), at_most)
    features = []
    parts = track(chunks(index, BATCH), f"linear probe: {name}")
    for _, found in drawings(model, examples, parts):
        part = np.concatenate([found.what.numpy(), found.where.numpy()], 2)  # (B, T, D + 4)
        part = np.where(found.present.numpy()[:, :, None] > 0.5, part, 0.0)
        features.append(part.reshape(len(part), -1).astype(np.float64))
    return Features(np.concatenate(features), examples.label[index].astype(np.int64))
