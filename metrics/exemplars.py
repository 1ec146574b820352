"""Exemplars: an image, and the same thing drawn anew (DooD, Figure 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.dataset import Dataset
from ..core.errors import UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Varies
from ..core.progress import track
from ._drawing import refuse_other_shape, spread
from ._evaluation import as_bytes, as_floats, chunks, test_split

__all__ = ["Exemplars"]

AT_ONCE = 4  # each image becomes `draws` images, of which a model may try many


@dataclass(frozen=True)
class Exemplars(Metric):
    """images: of the test split. draws: new exemplars of each; the figure has five targets, each over five of them."""

    better = "neither"
    requires = (Varies,)

    images: int = 5
    draws: int = 5

    def __post_init__(self) -> None:
        if self.images < 1 or self.draws < 2:
            raise UsageError(f"exemplars needs images >= 1 and draws >= 2; got {self}")

    @property
    def dialect(self) -> str:
        """How many exemplars the spread is of."""
        return f"draws={self.draws}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Standard deviation of a pixel in [0, 1] over the draws, root mean square over pixels, mean over images.

        Arrays: grid (N, 1 + draws, C, H, W) uint8, the image before its exemplars; value, per image.
        """
        test, index = test_split(data, self.images)
        name, found = type(model).__name__, []
        for part in track(chunks(index, AT_ONCE), "exemplars"):
            images = model.vary(as_floats(test.image[part], model.device), self.draws)
            refuse_other_shape(images, (len(part), self.draws, *data.info.shape), f"{name}.vary")
            found.append(as_bytes(images, f"an exemplar by {name}"))
        exemplars = np.concatenate(found)
        grid = np.concatenate([test.image[index][:, None], exemplars], 1)
        return Measurement.mean(spread(exemplars), grid=grid)
