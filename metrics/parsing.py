"""Parsing: how an image is put together step by step, with the window of every step and the slot that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Attends
from ._attention import read
from ._evaluation import as_bytes, test_split
from ._windows_drawn import enlarged, with_windows

__all__ = ["Parsing"]


@dataclass(frozen=True)
class Parsing(Metric):
    """images: of the test split."""

    better = "lower"
    requires = (Attends,)

    images: int = 8

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UsageError(f"parsing needs images >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """Squared error per pixel and channel, of images in [0, 1], from the mode of the posterior."""
        return "mse steps=mode canvas=sum"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Mean squared error of the whole. Arrays: inputs (N, C, H, W); grid (N, 3 + T, 3, H', W') uint8, enlarged:
        the image with its true parts (white where the data do not say them), the image, the sum of the layers up to
        each step with their windows, the whole without windows; slot (N, T) int64, the most probable slot of each
        step, -1 where the step is not present or there is no memory; present (N, T); value (N,), error per image.
        """
        test, index = test_split(data, self.images)
        rows, slots, presents, errors = [], [], [], []
        for part, found in read(model, test, index, "parsing", sample=False):
            image = test.image[part]
            present, window = found.present.numpy() > 0.5, found.window.numpy()
            sums = found.layer.cumsum(1).clamp(0, 1)
            layers = as_bytes(sums, f"a step of {type(model).__name__}")
            if test.objects is None:
                parts = np.full_like(enlarged(image), 255)
            else:
                there = test.objects.label[part] >= 0
                parts = with_windows(image, test.objects.box[part], there)
            columns = [parts, enlarged(image)]
            for step in range(present.shape[1]):
                upto = present & (np.arange(present.shape[1]) <= step)
                columns.append(with_windows(layers[:, step], window, upto))
            columns.append(enlarged(layers[:, -1]))
            rows.append(np.stack(columns, 1))
            slot = (
                found.slot.argmax(-1).numpy()
                if found.slot.shape[-1]
                else np.full(present.shape, -1)
            )
            slots.append(np.where(present, slot, -1))
            presents.append(present)
            errors.append(
                np.square((image.astype(np.float64) - layers[:, -1]) / 255).mean((1, 2, 3))
            )
        return Measurement.mean(
            np.concatenate(errors),
            inputs=test.image[index],
            grid=np.concatenate(rows),
            slot=np.concatenate(slots),
            present=np.concatenate(presents),
        )
