"""Reconstructions: what the model sees in an image; with boxes where it says where objects are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset
from ..core.metric import Measurement, Metric
from ..core.model import GenerativeModel, Locates
from ..core.progress import track
from ._evaluation import BATCH, as_bytes, as_floats, chunks, test_split
from ._objects import location

__all__ = ["Reconstructions"]

COLOUR = (255, 64, 64)


@dataclass(frozen=True)
class Reconstructions(Metric):
    """images: of the test split."""

    better = "lower"

    images: int = 50

    @property
    def dialect(self) -> str:
        """Squared error per pixel and channel, of images in [0, 1], from one draw of the latents."""
        return "mse draws=1"

    def __call__(self, model: GenerativeModel[Any], data: Dataset) -> Measurement:
        """Mean squared error.

        Arrays: inputs, reconstructions (N, C, H, W) uint8; grid (N, 2, 3, H, W) uint8, input and reconstruction as
        RGB, and for a model that locates objects a third column, the reconstruction with a box around every object
        whose presence exceeds one half, and the arrays box (N, O, 4) and presence (N, O); value, error per image.
        """
        test, index = test_split(data, self.images)
        reconstructions, boxes, presences = [], [], []
        for part in track(chunks(index, BATCH), "reconstructions"):
            x = as_floats(test.image[part], model.device)
            reconstructions.append(
                as_bytes(model.reconstruct(x), f"a reconstruction by {type(model).__name__}")
            )
            if isinstance(model, Locates):
                seen = location(model, x)
                boxes.append(seen.box.float().cpu().numpy())
                presences.append(seen.presence.float().cpu().numpy())
        inputs, outputs = test.image[index], np.concatenate(reconstructions)
        error = np.square((inputs.astype(np.float64) - outputs) / 255).mean((1, 2, 3))
        arrays: dict[str, NDArray[Any]] = {"inputs": inputs, "reconstructions": outputs}
        columns = [as_rgb(inputs), as_rgb(outputs)]
        if boxes:
            arrays |= {"box": np.concatenate(boxes), "presence": np.concatenate(presences)}
            columns.append(with_boxes(as_rgb(outputs), arrays["box"], arrays["presence"] > 0.5))
        measured = Measurement.mean(error, grid=np.stack(columns, 1))
        return dataclasses.replace(measured, arrays={**measured.arrays, **arrays})


def as_rgb(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 1 or 3, H, W) -> (N, 3, H, W)."""
    return np.repeat(images, 3, 1) if images.shape[1] == 1 else images


def with_boxes(
    images: NDArray[np.uint8],
    box: NDArray[np.floating[Any]],
    shown: NDArray[np.bool_],
    colour: tuple[int, int, int] = COLOUR,
) -> NDArray[np.uint8]:
    """A copy of (N, 3, H, W) with an outline, one pixel wide, around each shown box (N, O, 4), hiding none of it.

    Boxes are (x0, y0, x1, y1), x1 and y1 exclusive; what lies outside the image is not drawn.
    """
    images = images.copy()
    _, _, height, width = images.shape
    for image, boxes, visible in zip(images, box, shown, strict=True):
        for x0, y0, x1, y1 in np.rint(boxes[visible]).astype(int):
            across = slice(max(x0 - 1, 0), max(x1 + 1, 0))
            down = slice(max(y0 - 1, 0), max(y1 + 1, 0))
            for y in {y0 - 1, y1} & set(range(height)):
                image[:, y, across] = np.array(colour)[:, None]
            for x in {x0 - 1, x1} & set(range(width)):
                image[:, down, x] = np.array(colour)[:, None]
    return images
