"""z^what classification: does the appearance that a model infers for an object say what the object is?

A two-layer MLP learns to read an object's class from the posterior mean of its z^what, on training images, and is
scored on test images. The class is that of the true object whose centre is nearest; cells whose nearest object is
too far away have no class and are left out (`matched_objects` says how many). Jiang & Ahn 2020 (supplement, section
2.2) say: two layers, ten classes, the label of the nearest object, the test set. All the rest is chosen here, once.

Two controls say what the number would be for nothing. "untrained": the same cells and classes, but z^what by a model of
the same architecture with fresh weights: what an encoder knows before it learns. "shuffled": the classes of
the training vectors are permuted, so nothing can be learnt but how frequent each class is: 10% on MNIST-10, at most
14% on MNIST-4, where a digit in the middle of the range is in four scenes of seven and 0 in one. What it then takes a
whole class of vectors for is a matter of luck, and may be the truth: several permutations are averaged.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..core.dataset import SPLITS, Dataset, Examples, Split
from ..core.errors import ContractError, NothingToMeasure, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Locates
from ..core.progress import track
from ..core.randomness import seeded, stream
from ._evaluation import BATCH, chunks, test_split
from ._objects import PRESENT, Floats, located, truth

__all__ = ["WhatClassification"]

CANVAS = 128  # the image side, in pixels, that `within` is meant for


@dataclass(frozen=True)
class WhatClassification(Metric):
    """vectors: z^what of the training split to learn from, of the validation split a tenth as many; fewer if that many
    images do not have them.

    within: pixels, on an image of 128, between the centres of a box and of the object whose class it gets. control: see
    the module. images: at most this many of the test split; None for all. hidden, lr, batch, epochs: of the
    MLP and of Adam; of all epochs the one that reads the validation vectors best is kept. permutations: of the classes,
    R for the control "shuffled", whose standard error is that over them; R is 1 otherwise.
    """

    better = "higher"
    reads = SPLITS
    requires = (Locates,)
    tiers: ClassVar = {
        "demo": {"vectors": 1_000, "images": 100},
        "mini": {"vectors": 20_000, "images": 1_000},
    }

    control: Literal["none", "untrained", "shuffled"] = "none"
    vectors: int = 200_000
    within: float = 10.0
    images: int | None = None
    hidden: int = 256
    lr: float = 1e-3
    batch: int = 256
    epochs: int = 20
    permutations: int = 5

    def __post_init__(self) -> None:
        counts = (
            self.vectors,
            self.hidden,
            self.batch,
            self.epochs,
            self.images or 1,
            self.permutations,
        )
        if min(counts) < 1 or self.within <= 0:
            raise UsageError(f"what_classification needs positive counts and distances; got {self}")

    @property
    def dialect(self) -> str:
        """What is classified, by what, learnt from how much."""
        return (
            f"batch={self.batch} classifier=mlp-{self.hidden} control={self.control} epochs={self.epochs} feature=mean "
            f"lr={self.lr:g} presence={PRESENT} vectors={self.vectors} within={self.within:g}"
        )

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Share of test vectors that are read right.

        Arrays: value (M,), 1 where right, or (R,), the share; label (M,); predicted (R, M); validation (R, epochs);
        vectors (3,), how many of train, valid and test were used; discarded (3,), the share without an object nearby.
        Raises UsageError where the data have no objects, NothingToMeasure where the model sees none near any.
        """
        seed = torch.initial_seed()
        what = untrained(model, data, seed) if self.control == "untrained" else model
        limit = within_pixels(self.within, data)
        most = {"train": self.vectors, "valid": max(1, self.vectors // 10), "test": None}
        found = {
            name: gather(model, what, data, name, limit, most[name], self.images) for name in SPLITS
        }
        train, valid, test = (found[name] for name in SPLITS)
        for name, vectors in found.items():
            if not len(vectors.label):
                raise NothingToMeasure(
                    f"{type(model).__name__} sees no object within {limit:g} pixels of a true one in the {name} "
                    "split, so there is nothing to classify"
                )
        mean, std = train.what.mean(0), train.what.std(0)
        std = np.where(std > 0, std, 1.0)  # a latent that is not used
        x = {
            name: torch.from_numpy((part.what - mean) / std).float().to(model.device)
            for name, part in found.items()
        }
        repeats = self.permutations if self.control == "shuffled" else 1
        classes = 1 + max(int(part.label.max()) for part in found.values())
        predicted = np.empty((repeats, len(test.label)), dtype=np.int64)
        validation = np.empty((repeats, self.epochs))
        for repeat in range(repeats):
            random = np.random.default_rng([seed, repeat])
            y_train, y_valid = train.label, valid.label
            if self.control == "shuffled":
                y_train, y_valid = random.permutation(y_train), random.permutation(y_valid)
            with seeded(stream(seed, "classifier", repeat)):
                predicted[repeat], validation[repeat] = self._learnt(
                    x, y_train, y_valid, classes, random
                )
        right = (predicted == test.label).astype(np.float64)
        measured = Measurement.mean(right[0] if repeats == 1 else right.mean(1))
        return dataclasses.replace(
            measured,
            arrays={
                **measured.arrays,
                "label": test.label,
                "predicted": predicted,
                "validation": validation,
                "vectors": np.array([len(part.label) for part in found.values()]),
                "discarded": np.array([part.discarded for part in found.values()]),
            },
        )

    def _learnt(
        self,
        x: dict[Split, Tensor],
        train: NDArray[np.int64],
        valid: NDArray[np.int64],
        classes: int,
        random: np.random.Generator,
    ) -> tuple[NDArray[np.int64], Floats]:
        """Train on x["train"] (N, D) and the classes `train`; what the best epoch reads in x["test"], and all epochs'
        accuracies on x["valid"].
        """
        with torch.inference_mode(False), torch.enable_grad():
            inputs = {name: part.clone() for name, part in x.items()}  # no inference tensors
            device = inputs["train"].device
            y_train, y_valid = (torch.from_numpy(label).to(device) for label in (train, valid))
            network = nn.Sequential(
                nn.Linear(inputs["train"].shape[1], self.hidden), nn.ReLU(), nn.Linear(self.hidden, classes)
            ).to(device)  # fmt: skip
            optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
            accuracy, best, kept = np.zeros(self.epochs), -1.0, y_valid
            for epoch in track(range(self.epochs), "z^what: classifier"):
                for part in chunks(random.permutation(len(y_train)), self.batch):
                    loss = functional.cross_entropy(network(inputs["train"][part]), y_train[part])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                with torch.no_grad():
                    right = read(network, inputs["valid"]) == y_valid
                    accuracy[epoch] = float(right.double().mean())
                    if accuracy[epoch] > best:
                        best, kept = accuracy[epoch], read(network, inputs["test"])
        return kept.cpu().numpy(), accuracy


def read(network: nn.Module, x: Tensor) -> Tensor:
    """The likeliest class of each vector: (M,)."""
    return network(x).argmax(1)  # type: ignore[no-any-return]


class Vectors(NamedTuple):
    """Of M objects seen: what (M, D), label (M,). discarded: the share of those seen that are near no true one."""

    what: Floats
    label: NDArray[np.int64]
    discarded: float


def gather(
    model: Any,
    what: Any,
    data: Dataset,
    name: Split,
    within: float,
    most: int | None,
    images: int | None,
) -> Vectors:
    """z^what by the model `what` of the objects that `model` sees in a split: at most `most`, or those of `images`.

    Images come in an order that is random but the same for every model, until there are enough objects, or as many
    images as objects were asked for.
    """
    examples: Examples
    if most is None:
        examples, index = test_split(data, images)
        parts = [index]
    else:
        examples = data.split(name)
        order = np.random.default_rng(stream("what classification", name))
        parts = chunks(order.permutation(len(examples))[:most], 10 * BATCH)
    objects = truth(examples, data, "what_classification")
    vectors: list[Floats] = []
    labels: list[NDArray[np.int64]] = []
    seen_in_all, kept = 0, 0
    for part in parts:
        seen = located(model, examples, part, f"z^what: {name}")
        present = seen.presence > PRESENT
        nearest, distance = nearest_objects(seen.box, objects.box[part], objects.label[part])
        near = present & (distance <= within)
        seen_in_all += int(present.sum())
        if not near.any():
            continue
        appearance = seen.what
        if what is not model:
            appearance = located(what, examples, part, f"z^what: {name}, untrained").what
        vectors.append(appearance[near])
        labels.append(nearest[near])
        kept += int(near.sum())
        if most is not None and kept >= most:
            break
    discarded = 1 - kept / seen_in_all if seen_in_all else 0.0
    if not kept:
        return Vectors(np.empty((0, 0)), np.empty(0, np.int64), discarded)
    return Vectors(np.concatenate(vectors)[:most], np.concatenate(labels)[:most], discarded)


def nearest_objects(
    box: Floats, true: NDArray[np.float32], label: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Floats]:
    """Class (N, O) and distance in pixels (N, O), centre to centre, of the true object nearest to each box (N, O, 4).

    true (N, G, 4), label (N, G), -1 where there is no object; the distance is infinite where an image has none.
    """
    centre, real = ((b[..., :2] + b[..., 2:]) / 2 for b in (box, true.astype(np.float64)))
    distance = np.linalg.norm(centre[:, :, None] - real[:, None], axis=-1)  # (N, O, G)
    distance = np.where(label[:, None] >= 0, distance, np.inf)
    nearest = distance.argmin(-1)
    return np.take_along_axis(label, nearest, 1), distance.min(-1)


def within_pixels(within: float, data: Dataset) -> float:
    """A distance meant for images of 128 pixels, on these images."""
    return within * data.info.shape[-1] / CANVAS


def untrained(model: Any, data: Dataset, seed: int) -> Any:
    """A model of the same class and config with fresh weights. Raises ContractError where it has no config."""
    config = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config):
        raise ContractError(
            f"{type(model).__name__} keeps no `config`, so an untrained one cannot be made for the control"
        )
    with seeded(stream(seed, "untrained")):
        return type(model)(config, data.info).to(model.device).eval()
