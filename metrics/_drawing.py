"""What the metrics of drawing models share: the parts of many images, and what such a model was asked.

Axes: `N` images, `T` parts, `D` numbers that say what a part is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Examples
from ..core.errors import ContractError
from ..core.model import Drawing
from ._evaluation import as_floats

Floats = NDArray[np.float64]


def drawings(
    model: Any, examples: Examples, parts: Iterable[NDArray[np.int64]], sample: bool = True
) -> Iterator[tuple[NDArray[np.int64], Drawing]]:
    """(which images, `model.draw` of them, on the CPU) for each of `parts`.

    Raises ContractError for shapes that are not a Drawing's, FloatingPointError for numbers that are not finite.
    """
    for part in parts:
        x = as_floats(examples.image[part], model.device)
        found = Drawing(*(field.float().cpu() for field in model.draw(x, sample=sample)))
        batch, steps = len(part), found.present.shape[-1]
        got = [tuple(field.shape) for field in found]
        shapes = [(batch, steps), (batch, steps, *x.shape[1:]), got[2], (batch, steps, 4)]
        if got != shapes or len(got[2]) != 3 or got[2][:2] != (batch, steps):
            raise ContractError(
                f"{type(model).__name__}.draw must return present (B, T), canvas (B, T, C, H, W), what (B, T, D) and "
                f"where (B, T, 4); got {got} for images {tuple(x.shape)}"
            )
        if not all(bool(field.isfinite().all()) for field in found):
            raise FloatingPointError(
                f"{type(model).__name__}.draw gives numbers that are not finite; did its training diverge?"
            )
        present = found.present
        if not bool(((present == 0) | (present == 1)).all()) or bool(
            (present.diff(dim=1) > 0).any()
        ):
            raise ContractError(
                f"{type(model).__name__}.draw must return present in {{0, 1}}, 0 from the first 0 on"
            )
        yield part, found


@contextlib.contextmanager
def dropping_out(model: Any, dropout: bool) -> Iterator[None]:
    """With `dropout`, the model in train mode inside, as the DooD authors' scripts left it; in eval mode after."""
    if dropout:
        model.train()
    try:
        yield
    finally:
        if dropout:
            model.eval()


def spread(images: NDArray[np.uint8]) -> Floats:
    """(R, K, C, H, W), K draws each -> (R,): standard deviation of a pixel in [0, 1], root mean square over pixels."""
    deviation: Floats = np.sqrt((images / 255.0).var(1, ddof=1).mean((1, 2, 3)))
    return deviation


def refuse_other_shape(found: Any, expected: tuple[int, ...], whose: str) -> None:
    """Raise ContractError unless the tensor `found` has the shape expected of `whose`."""
    if tuple(found.shape) != expected:
        raise ContractError(f"{whose} must return shape {expected}; got {tuple(found.shape)}")
