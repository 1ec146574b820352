"""What the metrics of attention share: the steps a model takes on many images, matched to what is there.

Axes: `N` images, `T` steps, `G` true objects, `M` memory slots, `D` appearance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ..core.dataset import Examples, Objects
from ..core.detection import intersection_over_union
from ..core.errors import ContractError
from ..core.model import Attention
from ..core.progress import track
from ._evaluation import BATCH, as_floats, chunks

Floats = NDArray[np.float64]

INK = 0.1
"""A step's box is tight about what it paints above this share of its brightest pixel (windows have a margin)."""
OVERLAP = 0.3
"""The least intersection over union at which a step is matched to an object by overlap."""


class Steps(NamedTuple):
    """The steps taken on N images. present: (N, T) bool. window, box: (N, T, 4) in pixels; box is tight about the ink.

    what: (N, T, D). slot: (N, T, M).
    """

    present: NDArray[np.bool_]
    window: Floats
    box: Floats
    what: Floats
    slot: Floats


def read(
    model: Any, examples: Examples, index: NDArray[np.int64], what: str, sample: bool
) -> Iterator[tuple[NDArray[np.int64], Attention]]:
    """(which images, `model.attend` of them), batch by batch; what: the name of the work, for its progress.

    Raises ContractError for shapes that are not an Attention's, FloatingPointError for numbers that are not finite.
    """
    for part in track(chunks(index, BATCH), what):
        x = as_floats(examples.image[part], model.device)
        found = Attention(*(field.float().cpu() for field in model.attend(x, sample=sample)))
        batch, steps = len(part), found.present.shape[-1]
        shapes = [(batch, steps), (batch, steps), (batch, steps, 4), (batch, steps, *x.shape[1:])]
        got = [tuple(field.shape) for field in found]
        if got[:4] != shapes or [shape[:2] for shape in got[4:]] != [(batch, steps)] * 2:
            raise ContractError(
                f"{type(model).__name__}.attend must return present, probability (B, T), window (B, T, 4), layer "
                f"(B, T, C, H, W), what (B, T, D) and slot (B, T, M); got {got} for images {tuple(x.shape)}"
            )
        if not all(bool(field.isfinite().all()) for field in found):
            raise FloatingPointError(
                f"{type(model).__name__}.attend gives numbers that are not finite; did its training diverge?"
            )
        present = found.present
        if not bool(((present == 0) | (present == 1)).all()) or bool(
            (present.diff(dim=1) > 0).any()
        ):
            raise ContractError(
                f"{type(model).__name__}.attend must return present in {{0, 1}}, 0 from the first 0 on"
            )
        yield part, found


def attended(
    model: Any, examples: Examples, index: NDArray[np.int64], what: str, sample: bool = False
) -> Steps:
    """All steps of the images `index`, in that order."""
    parts = []
    for _, found in read(model, examples, index, what, sample):
        present = found.present.numpy() > 0.5
        fields = (found.window, found.what, found.slot)
        window, appearance, slot = (field.double().numpy() for field in fields)
        box = tight(found.layer.numpy())
        parts.append(Steps(present, window, box, appearance, slot))
    return Steps(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def tight(layer: NDArray[np.float32]) -> Floats:
    """(..., C, H, W) -> (..., 4): the extent of what is above INK of the brightest pixel; zeros where all is black."""
    ink = layer.max(-3)  # (..., H, W)
    brightest = ink.max((-2, -1), keepdims=True)
    seen = (ink > INK * brightest) & (brightest > 0)
    edges = []
    for axis in (-2, -1):  # columns are those with ink in any row
        line = seen.any(axis)
        size = line.shape[-1]
        first, past = line.argmax(-1), size - line[..., ::-1].argmax(-1)
        some = line.any(-1)
        edges.append((np.where(some, first, 0), np.where(some, past, 0)))
    (x0, x1), (y0, y1) = edges
    return np.stack([x0, y0, x1, y1], -1).astype(np.float64)


def matches(steps: Steps, objects: Objects, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N, T): which object each step is matched to, -1 for none; an object is matched to one step at most.

    First by overlap of the tight boxes, the assignment with the greatest total among pairs above OVERLAP; then, of
    those left over, steps whose window's centre lies inside an object's box, nearest centres first.
    """
    found = np.full(steps.present.shape, -1, np.int64)
    for image, (present, truth) in enumerate(zip(steps.present, index, strict=True)):
        at = np.flatnonzero(present)
        real = np.flatnonzero(objects.label[truth] >= 0)
        true = objects.box[truth][real].astype(np.float64)
        overlap = intersection_over_union(steps.box[image, at], true)
        for step, one in assigned(overlap, overlap >= OVERLAP):
            found[image, at[step]] = real[one]
        at = at[found[image, at] < 0]
        free = ~np.isin(real, found[image])
        real, true = real[free], true[free]
        centre = (steps.window[image, at, :2] + steps.window[image, at, 2:]) / 2  # (P, 2)
        inside = (
            (centre[:, None] >= true[None, :, :2]) & (centre[:, None] < true[None, :, 2:])
        ).all(-1)
        away = np.linalg.norm(
            centre[:, None] - (true[None, :, :2] + true[None, :, 2:]) / 2, axis=-1
        )
        for step, one in assigned(1 / (1 + away), inside):
            found[image, at[step]] = real[one]
    return found


def assigned(gain: Floats, allowed: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The pairs (row, column) of the assignment with the greatest total gain among those that are allowed."""
    pairs = zip(*linear_sum_assignment(np.where(allowed, gain, 0.0), maximize=True), strict=True)
    return [(int(row), int(column)) for row, column in pairs if allowed[row, column]]


def counts_of(objects: Objects, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) how many objects are there."""
    counts: NDArray[np.int64] = (objects.label[index] >= 0).sum(1)
    return counts


def by_count(
    values: Floats, counts: NDArray[np.int64], most: int, over: Callable[[Floats], Any] = np.mean
) -> Floats:
    """(most + 1,): the mean of the values (N,) of images with 0, 1, ... objects; NaN where there is no such image."""
    return np.array(
        [over(values[counts == c]) if (counts == c).any() else np.nan for c in range(most + 1)]
    )
