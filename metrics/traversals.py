"""Traversals: one object pushed across its image, and one scene turned into another (Jiang & Ahn 2020, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.dataset import Dataset
from ..core.errors import ContractError, NothingToMeasure, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Locates, Traverses
from ..core.progress import track
from ._evaluation import as_bytes, as_floats, chunks, test_split
from ._objects import PRESENT, located
from .reconstructions import as_rgb, with_boxes

__all__ = ["Traversals"]

LOOKED_AT = 50  # test images among which those are sought where the model sees anything
AT_ONCE = 4  # each image becomes `steps` images


@dataclass(frozen=True)
class Traversals(Metric):
    """images: of the test split, in which an object is seen. steps: on each way.

    reach: how far the object goes to either side, as a part of the image's side; 0.25 is one of GNM's cells.
    """

    better = "neither"
    requires = (Traverses, Locates)

    images: int = 2
    steps: int = 9
    reach: float = 0.25

    def __post_init__(self) -> None:
        if self.images < 2 or self.steps < 2:
            raise UsageError(f"traversals needs images >= 2 and steps >= 2; got {self}")
        if not 0 < self.reach <= 1:
            raise UsageError(f"metric.reach={self.reach} must lie in (0, 1], parts of the image")

    @property
    def dialect(self) -> str:
        """How far, and which object."""
        return f"object=surest reach={self.reach:g} steps={self.steps}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """How much of what changes when an object is pushed lies where it goes: mean over images; 1 if all of it does.

        What changes: squared differences of pixels from the object's own place. Where it goes: its box, swept along
        the way. The object is the surest of its image.
        Arrays: moved (N, 2, S, C, H, W) uint8, pushed along x and along y; interpolated (N, S, C, H, W), from the
        scene of each image to that of the next; path (N,), how long that way is in pixels, over the distance of its
        ends (1: one fades into the other; more: things move); value, per image; grid (3N, S + 2, 3, H, W), three rows
        per image: the image with the object's box, then pushed along x; the same along y; the way to the next image,
        which stands at its end.
        Raises NothingToMeasure where the model sees objects in fewer images than asked for.
        """
        test, index = test_split(data, max(LOOKED_AT, self.images))
        seen = located(model, test, index, "traversals")
        some = np.flatnonzero(seen.presence.max(1) > PRESENT)[: self.images]
        if len(some) < self.images:
            raise NothingToMeasure(
                f"an object is seen in {len(some)} of {len(index)} test images; traversals needs {self.images}"
            )
        surest = seen.presence[some].argmax(1)
        box = seen.box[some, surest]  # (N, 4)
        inputs = test.image[index[some]]
        side = data.info.shape[1]
        along = np.linspace(-self.reach, self.reach, self.steps) * side
        shifts = np.zeros((2, self.steps, 2))
        shifts[0, :, 0], shifts[1, :, 1] = along, along

        name, shape = type(model).__name__, data.info.shape
        moved, rest, ways = [], [], []
        for part in track(chunks(np.arange(len(some)), AT_ONCE), "traversals"):
            x, x1 = (as_floats(inputs[p], model.device) for p in (part, (part + 1) % len(some)))
            these = torch.from_numpy(surest[part]).to(model.device)
            all_shifts = np.concatenate([shifts.reshape(-1, 2), np.zeros((1, 2))])
            to = torch.from_numpy(all_shifts).to(x)
            images = model.move(x, these, to)
            refuse(images, (len(part), len(all_shifts), *shape), f"{name}.move")
            pushed = as_bytes(images, f"an image of {name}")
            moved.append(pushed[:, :-1].reshape(len(part), 2, self.steps, *shape))
            rest.append(pushed[:, -1])
            images = model.interpolate(x, x1, self.steps)
            refuse(images, (len(part), self.steps, *shape), f"{name}.interpolate")
            ways.append(as_bytes(images, f"an image of {name}"))
        pushed, way = np.concatenate(moved), np.concatenate(ways)
        return Measurement.mean(
            share_swept(pushed, np.concatenate(rest), box, shifts),
            moved=pushed,
            interpolated=way,
            path=detour(way),
            grid=_grid(inputs, box, pushed, way),
        )


def share_swept(
    moved: NDArray[np.uint8], rest: NDArray[np.uint8], box: NDArray[np.float64], shifts: NDArray[np.float64]
) -> NDArray[np.float64]:  # fmt: skip
    """(N,): the share of what differs from `rest` (N, C, H, W) in `moved` (N, 2, S, C, H, W) inside the swept boxes.

    box: (N, 4), where each object stood. shifts: (2, S, 2), how far it went. 1 where nothing differs.
    """
    change = np.square(moved.astype(np.float64) - rest[:, None, None]).sum(3)  # (N, 2, S, H, W)
    height, width = change.shape[-2:]
    # The box at both ends of the way and all between; a pixel belongs to it if any of its area does.
    first = np.minimum(box[:, None, None, :2], box[:, None, None, :2] + shifts)  # (N, 2, S, 2)
    last = np.maximum(box[:, None, None, 2:], box[:, None, None, 2:] + shifts)
    x, y = np.arange(width), np.arange(height)
    inside_x = (x >= np.floor(first[..., :1])) & (x < np.ceil(last[..., :1]))  # (N, 2, S, W)
    inside_y = (y >= np.floor(first[..., 1:])) & (y < np.ceil(last[..., 1:]))
    within = np.einsum("ndshw,ndsh,ndsw->n", change, inside_y * 1.0, inside_x * 1.0)
    total = change.sum((1, 2, 3, 4))
    share: NDArray[np.float64] = np.divide(within, total, out=np.ones_like(total), where=total > 0)
    return share


def detour(way: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N,): the length of each way (N, S, C, H, W) in pixel space over the distance of its ends; at least 1."""
    steps = np.diff(way.astype(np.float64), axis=1)
    length = np.sqrt(np.square(steps).sum((2, 3, 4))).sum(1)
    ends = np.sqrt(np.square(steps.sum(1)).sum((1, 2, 3)))
    ratio: NDArray[np.float64] = np.divide(length, ends, out=np.ones_like(length), where=ends > 0)
    return ratio


def refuse(images: Tensor, expected: tuple[int, ...], whose: str) -> None:
    """Raise ContractError for images of another shape."""
    if tuple(images.shape) != expected:
        raise ContractError(f"{whose} must return {expected}; got {tuple(images.shape)}")


def _grid(
    inputs: NDArray[np.uint8], box: NDArray[np.float64], moved: NDArray[np.uint8], way: NDArray[np.uint8]
) -> NDArray[np.uint8]:  # fmt: skip
    boxed = with_boxes(as_rgb(inputs), box[:, None], np.ones((len(box), 1), dtype=bool))
    plain = as_rgb(inputs)
    white = np.full_like(plain[:1], 255)
    rows = []
    for n in range(len(inputs)):
        for images in moved[n]:
            rows.append(np.concatenate([boxed[n : n + 1], as_rgb(images), white]))
        after = (n + 1) % len(inputs)
        rows.append(np.concatenate([plain[n : n + 1], as_rgb(way[n]), plain[after : after + 1]]))
    return np.stack(rows)
