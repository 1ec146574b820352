"""Drawings whose every part is known, for the tests of the metrics of drawing models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reprise.core.dataset import Dataset, DatasetInfo, Examples, Split
from reprise.core.metric import Measurement, Metric
from reprise.core.model import Completes, Drawing, Draws, Matches, Varies
from reprise.core.randomness import seeded

SIDE, PARTS = 12, 3


@dataclass(frozen=True)
class Bars(Dataset):
    """Image i has 1 + i % 3 lying bars of random length, top to bottom; its class is their number less one."""

    train: int = 60
    test: int = 30
    classes: bool = True

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo("bars", (1, SIDE, SIDE))

    def split(self, name: Split) -> Examples:
        n = self.train if name == "train" else self.test
        random = np.random.default_rng({"train": 1, "valid": 2, "test": 3}[name])
        image = np.zeros((n, 1, SIDE, SIDE), np.uint8)
        for i in range(n):
            for bar in range(1 + i % 3):
                image[i, 0, 4 * bar : 4 * bar + 2, : random.integers(4, SIDE)] = 255
        return Examples(image, np.arange(n) % 3 if self.classes else None)

    @property
    def digest(self) -> str:
        return "0" * 12


class Drawer(nn.Module, Draws, Completes, Varies, Matches):
    """Draws bar after bar without a mistake but `error`: what is (the bar's number, its length), where its height.

    noise: standard deviation of what, where a part is drawn at all. In train mode it draws one part too many.
    """

    def __init__(self, error: float = 0.0, noise: float = 0.0, steps: int = PARTS) -> None:
        super().__init__()
        self.error, self.noise, self.steps = error, noise, steps
        self.device = torch.device("cpu")
        self.asked: list[tuple[int, ...]] = []
        self.eval()

    def draw(self, x: Tensor, sample: bool = True) -> Drawing:
        present = torch.zeros(len(x), self.steps)
        canvas = torch.zeros(len(x), self.steps, *x.shape[1:])
        what, where = torch.full((len(x), self.steps, 2), 99.0), torch.zeros(len(x), self.steps, 4)
        for step in range(self.steps):
            rows = x[:, :, 4 * step : 4 * step + 2]
            there = rows.amax((1, 2, 3)) > 0 if step < PARTS else torch.zeros(len(x))
            canvas[:, step:, :, 4 * step : 4 * step + 2] = rows[:, None]
            present[:, step], length = there.float(), rows.sum((1, 2, 3)) / 2
            number = torch.full_like(length, float(step))
            what[:, step] = torch.stack([number, length], 1) + self.noise * torch.randn(len(x), 2)
            where[:, step, 1] = 4 * step
        if self.training:
            present = torch.cat([torch.ones(len(x), 1), present[:, :-1]], 1)
        error = self.error * torch.rand(len(x), self.steps, 1, 1, 1)  # another for every canvas
        return Drawing(present, (canvas + error).clamp(0, 1), what, where)

    def sample(self, n: int) -> Tensor:
        return torch.rand(n, 1, SIDE, SIDE)

    def begin(self, n: int) -> Tensor:
        begun = torch.zeros(n, 1, SIDE, SIDE)
        begun[:, :, :2] = 1
        return begun

    def complete(self, x: Tensor, draws: int) -> Tensor:
        """Every other draw adds a second bar."""
        images = x[:, None].repeat(1, draws, 1, 1, 1)
        images[:, ::2, :, 4:6] = 1
        return images

    def vary(self, x: Tensor, draws: int) -> Tensor:
        """Darker from draw to draw."""
        level = torch.linspace(1, 0, draws)[None, :, None, None, None]
        return x[:, None] * level

    def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
        """Squared distances, changed by a constant that may depend on the query."""
        self.asked.append((len(support), len(query), parses, steps))
        near: Tensor = -torch.cdist(query.flatten(1), support.flatten(1)).square()
        return near + query.sum((1, 2, 3))[:, None]

    def log_marginal(self, x: Tensor, particles: int) -> Tensor:
        return -x.sum((1, 2, 3)) * particles


@dataclass(frozen=True)
class Runs(Dataset):
    """Episodes of `ways` things each: query q shows the pixels of support q + 1 (the last one those of the first), all
    moved by a pixel.

    wrong: so many queries of each episode that say they are of the next class. raw() are the images themselves.
    turned: the first support is not of class 0 but of class 1, and so on.
    """

    episodes: int = 3
    ways: int = 4
    wrong: int = 0
    turned: bool = False

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo("runs", (1, SIDE, SIDE))

    def split(self, name: Split) -> Examples:
        ink = self.raw()
        supports = (np.arange(self.ways) + self.turned) % self.ways
        queries = np.roll(supports, -1)
        queries[: self.wrong] = (queries[: self.wrong] + 1) % self.ways
        label = np.tile(np.concatenate([supports, queries]), self.episodes)
        return Examples((ink * 255).astype(np.uint8)[:, None], label)

    def raw(self) -> NDArray[np.bool_]:
        random = np.random.default_rng(5)
        ink = np.zeros((self.episodes, 2, self.ways, SIDE, SIDE), bool)
        for episode in range(self.episodes):
            for way in range(self.ways):
                glyph = random.random((SIDE - 2, SIDE - 2)) < 0.15
                glyph[0, :] = True  # never empty
                ink[episode, 0, way, 1:-1, 1:-1] = glyph
                ink[episode, 1, way - 1, 1:-1, 2:] = glyph
        return ink.reshape(-1, SIDE, SIDE)

    @property
    def digest(self) -> str:
        return "0" * 12


def measure(how: Metric, model: object, data: Dataset, seed: int = 0) -> Measurement:
    """As the launcher does: a seeded generator, no gradients."""
    with seeded(seed), torch.no_grad():
        return how(model, data)
