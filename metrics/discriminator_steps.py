"""D-Steps: how many steps a classifier must be trained before it tells samples from real images 90% of the time.

More is better: the samples are harder to find out. The paper (Jiang & Ahn 2020, section 4) says no more than that;
all the rest is chosen here, once. The classifier is GNM's image encoder at its Arrow width, then two linear layers;
it sees images of 8 bit, 32 real and 32 generated per step, and is scored on images of both kinds that it has not
been trained on.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import GenerativeModel
from ..core.progress import track
from ..core.randomness import seeded, stream
from ..nn.blocks import image_encoder
from ._evaluation import BATCH, as_floats, chunks, sample_bytes, some

__all__ = ["DiscriminatorSteps"]


@dataclass(frozen=True)
class DiscriminatorSteps(Metric):
    """Training stops at `cap` steps; a capped number is censored: the true one is larger.

    pool: generated images, and real ones of the training split, to train on; each at most once per epoch. Where the
    split has fewer, the dialect says real_pool and other_pool, the numbers that were there.
    held_out: generated images, and real ones of the test split, to be scored on. every: steps between scores, None for
    the paper's grain, 40 on gray and 100 on colour images. batch: of each kind. target: the accuracy to reach.
    repeats: classifiers trained, each with its own initial weights and order of images.
    control: "real" has training images in the place of the model's, none of which is among those that count as real;
    at most half of the split each. No classifier can tell them apart, and one that reaches the target found a leak.
    """

    better = "higher"
    reads = ("train", "test")
    reduction = "steps_until(accuracy)"
    learns = ("real_pool", "other_pool")
    tiers: ClassVar = {
        "demo": {"pool": 320, "held_out": 100, "cap": 120, "every": 10, "batch": 16, "repeats": 1},
        "mini": {"pool": 6_000, "held_out": 500, "cap": 2_000, "repeats": 1},
    }

    pool: int = 60_000
    held_out: int = 1_000
    cap: int = 50_000
    every: int | None = None
    batch: int = 32
    lr: float = 1e-4
    target: float = 0.9
    repeats: int = 5
    control: Literal["none", "real"] = "none"

    def __post_init__(self) -> None:
        if (
            min(self.batch, self.held_out, self.repeats, self.every or 1) < 1
            or not 0.5 < self.target <= 1
        ):
            raise UsageError(
                f"discriminator_steps needs positive counts and a target in (0.5, 1]; got {self}"
            )
        if self.pool < self.batch or self.cap < (self.every or 100):
            raise UsageError(
                f"discriminator_steps needs pool >= batch and cap >= every; got {self}"
            )

    @property
    def needs_training(self) -> bool:
        """Not for real images in the place of samples."""
        return self.control != "real"

    @property
    def dialect(self) -> str:
        """All of it: no two numbers under different rules can be compared."""
        control = "" if self.control == "none" else f" control={self.control}"
        repeats = "" if self.repeats == 1 else f" repeats={self.repeats}"
        return (
            f"batch={self.batch} cap={self.cap} held_out={self.held_out} lr={self.lr:g} pool={self.pool} "
            f"target={self.target:g}{control}{repeats}"
        )

    def __call__(self, model: GenerativeModel[Any], data: Dataset) -> Measurement:
        """Mean over repeats. Arrays: steps (R,); area (R,); accuracy (R, E), every `every` steps, NaN after the end.

        area: under the curve of the held-out error, from one half at step 0 to the end, in steps: a smooth D-Steps.
        """
        seed = torch.initial_seed()
        every = self.every or (40 if data.info.shape[0] == 1 else 100)
        train, test = data.split("train").image, data.split("test").image
        if len(test) < self.held_out or len(train) < self.batch:
            raise UsageError(
                f"discriminator_steps needs {self.held_out} test and {self.batch} training images; {data.info.name} "
                f"has {len(test)} and {len(train)}; lower held_out or batch"
            )
        if self.control == "real":
            shuffled = np.random.default_rng([seed, 1]).permutation(len(train))
            real, others = np.array_split(shuffled, 2)
            real, generated = real[: self.pool], train[others[: self.pool + self.held_out]]
        else:
            real = some(len(train), self.pool)
            generated = sample_bytes(model, self.pool + self.held_out, "D-Steps: samples")
        pool = len(generated) - self.held_out
        if pool < self.batch:
            raise UsageError(
                f"discriminator_steps of real images needs {2 * (self.batch + self.held_out)} training images; "
                f"{data.info.name} has {len(train)}; lower held_out or batch"
            )
        held_out = [generated[pool:], test[some(len(test), self.held_out)]]
        accuracy = np.full((self.repeats, self.cap // every), np.nan)
        for repeat in range(self.repeats):
            with (
                seeded(stream(seed, "classifier", repeat)),
                torch.inference_mode(False),
                torch.enable_grad(),
            ):
                discriminator = Discriminator(data.info.shape, self.lr, model.device)
            order = np.random.default_rng([seed, repeat])
            real_order, generated_order = Epochs(real, order), Epochs(np.arange(pool), order)
            for check in track(
                range(self.cap // every), f"D-Steps: classifier {repeat + 1} of {self.repeats}"
            ):
                for _ in range(every):
                    discriminator.step(
                        generated[generated_order.next(self.batch)],
                        train[real_order.next(self.batch)],
                    )
                accuracy[repeat, check] = discriminator.accuracy(*held_out)
                if accuracy[repeat, check] >= self.target:
                    break
        steps = np.sum(~np.isnan(accuracy), 1) * float(every)
        caught = np.nanmax(accuracy, 1) >= self.target
        error = np.concatenate([np.full((self.repeats, 1), 0.5), 1 - accuracy], 1)
        area = np.nansum((error[:, 1:] + error[:, :-1]) / 2, 1) * every
        found = Measurement.mean(steps, "steps", accuracy=accuracy, area=area)
        censored: Literal["", ">"] = "" if caught.all() else ">"
        fewer = (
            f" real_pool={len(real)} other_pool={pool}" if min(len(real), pool) < self.pool else ""
        )
        return dataclasses.replace(found, censored=censored, dialect=f"every={every}{fewer}")


class Epochs:
    """Indices in random order, each once before any comes again."""

    def __init__(self, index: NDArray[np.int64], order: np.random.Generator) -> None:
        self.index, self.order = index, order
        self.left = order.permutation(index)

    def next(self, size: int) -> NDArray[np.int64]:
        """The next `size` indices; an incomplete rest of an epoch is dropped."""
        if len(self.left) < size:
            self.left = self.order.permutation(self.index)
        now, self.left = self.left[:size], self.left[size:]
        return now


class Discriminator:
    """The classifier and its optimiser."""

    def __init__(self, shape: tuple[int, int, int], lr: float, device: torch.device) -> None:
        self.device = device
        self.network = network(shape).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr)

    def step(self, generated: NDArray[np.uint8], real: NDArray[np.uint8]) -> None:
        """One update on a batch of each kind."""
        with torch.inference_mode(False), torch.enable_grad():
            x = self._images(np.concatenate([generated, real]))
            truth = torch.zeros(len(x), device=self.device)
            truth[len(generated) :] = 1
            loss = functional.binary_cross_entropy_with_logits(self.network(x)[:, 0], truth)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def accuracy(self, generated: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
        """Share of images, of both kinds together, that are told right."""
        right = 0
        for images, is_real in ((generated, False), (real, True)):
            for part in chunks(np.arange(len(images)), BATCH):
                logit = self.network(self._images(images[part]))[:, 0]
                right += int(((logit > 0) == is_real).sum())
        return right / (len(generated) + len(real))

    def _images(self, images: NDArray[np.uint8]) -> Tensor:
        return as_floats(images, self.device).contiguous(memory_format=torch.channels_last)


def network(shape: tuple[int, int, int]) -> nn.Module:
    """(B, C, S, S) -> one logit per image (B, 1), large for real. Below 128 pixels the first halvings are left out.

    Raises UsageError unless S is 8, 16, 32, 64 or 128.
    """
    channels, height, width = shape
    if height != width or height not in (8, 16, 32, 64, 128):
        raise UsageError(
            f"discriminator_steps needs square images of 8, 16, 32, 64 or 128 pixels; got {shape}"
        )
    return nn.Sequential(
        image_encoder(channels, 128, height), nn.Flatten(), nn.Linear(128 * 4 * 4, 256), nn.CELU(), nn.Linear(256, 1)
    )  # fmt: skip
