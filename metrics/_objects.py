"""What the metrics of object representations share: what a model sees in many images, and what is there."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..core.dataset import Dataset, Examples, Objects
from ..core.errors import UsageError
from ..core.model import Location, checked_location
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


def location(model: Any, x: Tensor) -> Location:
    """`model.locate(x)`, checked.

    Raises ContractError for what is no Location, FloatingPointError for numbers that are not finite.
    """
    name = type(model).__name__
    found = checked_location(model.locate(x), name, len(x))
    if not all(bool(field.isfinite().all()) for field in found):
        raise FloatingPointError(
            f"{name}.locate gives numbers that are not finite; did its training diverge?"
        )
    return found


def located(model: Any, examples: Examples, index: NDArray[np.int64], what: str) -> Seen:
    """The `location` of the images `index`, in that order. what: the name of the work, for its progress."""
    parts: list[Seen] = []
    for part in track(chunks(index, BATCH), what):
        found = location(model, as_floats(examples.image[part], model.device))
        parts.append(Seen(*(field.double().cpu().numpy() for field in found)))
    return Seen(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def truth(examples: Examples, data: Dataset, metric: str) -> Objects:
    """The objects that are there. Raises UsageError where the data do not say."""
    if examples.objects is None:
        raise UsageError(
            f"{metric} needs a dataset that says what objects are there; {data.info.name} does not"
        )
    return examples.objects
