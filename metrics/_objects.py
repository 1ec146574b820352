"""What the metrics of object representations share: what a model sees in many images, and what is there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset, Examples, Objects
from ..core.errors import ContractError, UsageError
from ..core.progress import track
from ._evaluation import BATCH, as_floats, chunks

PRESENT = 0.5
"""An object is seen where its presence is more probable than not."""

Floats = NDArray[np.float64]


class Seen(NamedTuple):
    """What a model sees in N images: box (N, O, 4) in pixels, presence (N, O), what (N, O, D)."""

    box: Floats
    presence: Floats
    what: Floats


def located(model: Any, examples: Examples, index: NDArray[np.int64], what: str) -> Seen:
    """`model.locate` of the images `index`, in that order. what: the name of the work, for its progress.

    Raises ContractError for shapes that are not a Location's, FloatingPointError for numbers that are not finite.
    """
    parts: list[Seen] = []
    for part in track(chunks(index, BATCH), what):
        found = model.locate(as_floats(examples.image[part], model.device))
        seen = Seen(*(field.double().cpu().numpy() for field in found))
        objects = seen.presence.shape[-1]
        shapes = (len(part), objects, 4), (len(part), objects), (len(part), objects)
        if (seen.box.shape, seen.presence.shape, seen.what.shape[:2]) != shapes:
            raise ContractError(
                f"{type(model).__name__}.locate must return box (B, O, 4), presence (B, O) and what (B, O, D); got "
                f"{', '.join(str(field.shape) for field in seen)} for {len(part)} images"
            )
        if not all(np.isfinite(field).all() for field in seen):
            raise FloatingPointError(
                f"{type(model).__name__}.locate gives numbers that are not finite; did its training diverge?"
            )
        parts.append(seen)
    return Seen(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def truth(examples: Examples, data: Dataset, metric: str) -> Objects:
    """The objects that are there. Raises UsageError where the data do not say."""
    if examples.objects is None:
        raise UsageError(
            f"{metric} needs a dataset that says what objects are there; {data.info.name} does not"
        )
    return examples.objects
