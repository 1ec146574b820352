"""Glyphs: digits cropped to their ink and centred by their bounding box, ready to be pasted on a canvas.

Spec of the MNIST-4 and MNIST-10 scenes (measured on the published samples): a digit keeps its native size and grey
levels, is cropped to the tight box of its non-zero pixels and centred *by that box* (MNIST centres by mass, which would
break the scenes' mirror symmetry by up to 2 pixels) in a patch of 20 x 20 on a canvas of 128 x 128.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Split
from ..core.workspace import data_root
from ._digits import Source, digits

CANVAS, PATCH = 128, 20
# (patch, canvas) that fit a source's digits at their native scale.
_NATIVE: dict[Source, tuple[int, int]] = {"mnist": (20, 128), "digits": (10, 64)}


class Glyphs(NamedTuple):
    """N centred digits. patch: (N, P, P) uint8. label: (N,) int64. box: (N, 4) tight (x0, y0, x1, y1) in the patch."""

    patch: NDArray[np.uint8]
    label: NDArray[np.int64]
    box: NDArray[np.int64]


def glyphs(source: Source, split: Split, canvas: int) -> Glyphs:
    """The glyphs of one split for a canvas of 32, 64 or 128 pixels; P = 20 * canvas / 128."""
    return _glyphs(source, split, canvas, data_root())


@lru_cache(maxsize=8)
def _glyphs(source: Source, split: Split, canvas: int, root: Path) -> Glyphs:
    image, label = digits(source, split)
    native, native_canvas = _NATIVE[source]
    patch = _scaled(_centred(image, native), canvas, native_canvas)
    for array in (patch, label):
        array.flags.writeable = False  # shared by every scene of the process
    return Glyphs(patch, label, tight_boxes(patch))


def tight_boxes(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N, 4) tight (x0, y0, x1, y1), ends exclusive, of the pixels above zero of (N, H, W); (W, H, 0, 0) for none."""
    _, height, width = image.shape
    ink: NDArray[np.bool_] = image > 0
    columns, rows = np.any(ink, axis=1), np.any(ink, axis=2)  # (N, W), (N, H)
    x0, y0 = columns.argmax(1), rows.argmax(1)
    x1, y1 = width - columns[:, ::-1].argmax(1), height - rows[:, ::-1].argmax(1)
    box = np.stack([x0, y0, x1, y1], axis=1).astype(np.int64)
    box[~rows.any(1)] = (width, height, 0, 0)
    return box


def _centred(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(N, S, S) to (N, side, side): the tight box in the middle, odd remainders one pixel up and left."""
    x0, y0, x1, y1 = tight_boxes(image).T
    width, height = x1 - x0, y1 - y0
    if max(width.max(), height.max()) > side:
        raise ValueError(f"a digit is larger than the {side}-pixel patch")
    # All ink lies inside the box, so a window around it holds nothing else.
    padded = np.pad(image, ((0, 0), (side, side), (side, side)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    top = y0 - (side - height) // 2 + side
    left = x0 - (side - width) // 2 + side
    return np.ascontiguousarray(windows[np.arange(len(image)), top, left])


def _scaled(patch: NDArray[np.uint8], canvas: int, native: int) -> NDArray[np.uint8]:
    """The patch of another canvas: pixels repeated, or averaged over squares."""
    if canvas >= native:
        times = canvas // native
        return patch.repeat(times, axis=1).repeat(times, axis=2)
    times = native // canvas
    count, side, _ = patch.shape
    squares = patch.reshape(count, side // times, times, side // times, times)
    mean = (squares.sum(axis=(2, 4), dtype=np.int64) + times**2 // 2) // times**2
    scaled: NDArray[np.uint8] = mean.astype(np.uint8)
    return scaled
