"""What the pictures of attention share: enlarged images with a coloured outline for every step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reconstructions import as_rgb, with_boxes

COLOURS = ((255, 64, 64), (64, 200, 80), (80, 140, 255), (240, 180, 40))
"""Of the first step, the second, the third, ...; from the fifth on they begin anew."""
SIDE = 128
"""Images are enlarged to about this many pixels, so that an outline of one pixel is slim and hides little."""


def enlarged(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 1 or 3, H, W) -> (N, 3, sH, sW) with every pixel repeated s times each way; s H is about SIDE."""
    by = scale(images.shape[-2])
    return as_rgb(images.repeat(by, -2).repeat(by, -1))


def scale(height: int) -> int:
    """How many times a pixel is repeated."""
    return max(1, round(SIDE / height))


def with_windows(
    images: NDArray[np.uint8], window: NDArray[np.floating[Any]], shown: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """(N, C, H, W) enlarged, with outlines around the windows (N, T, 4) of the steps shown (N, T), the first on top."""
    out, by = enlarged(images), scale(images.shape[-2])
    for step in reversed(range(window.shape[1])):
        colour = COLOURS[step % len(COLOURS)]
        out = with_boxes(out, window[:, step : step + 1] * by, shown[:, step : step + 1], colour)
    return out
