"""Drawings that nobody drew: a few strokes with independent random curves, painted as DooD's renderer paints them.

The authors' repository trains on such a set besides the five of the paper. A stroke is a Bezier curve of five control
points, N(0.5, 0.4^2) in a frame of its own, 0..1 from left to right and from top to bottom; the frame is shifted by
N(0, 0.2^2) along each axis, scaled by N(1, 0.2^2) and turned by N(0, 0.4^2) radians about the middle of the canvas. Its
pixels are the sum of 100 Gaussians along the curve, divided by their maximum, through tanh(. / 0.7); the image is the
sum of its strokes through tanh(. / 0.46). How many strokes is uniform.

Drawing i is a function of (seed, split, i). Axes: `N` drawings, `T` strokes, `P` = 100 points along a curve.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core import progress
from . import _counter
from ._counter import Integers, Words

DEGREE = 4
POINTS = 100
WIDTH = 0.026  # standard deviation of the pen, in canvases
_STROKE_SLOPE, _SLOPE = 0.7, 0.46
_SHIFT, _SCALE, _ANGLE = 0.2, 0.2, 0.4
_TOGETHER = 250  # drawings
_FAINT = 1e-4  # a curve that hardly meets the canvas is not made brighter

Floats = NDArray[np.float64]


class Style(NamedTuple):
    """How many strokes a drawing has, at least and at most, and how wide the pen is, in canvases."""

    fewest: int = 1
    most: int = 5
    width: float = WIDTH


class Drawn(NamedTuple):
    """image: (N, canvas, canvas) uint8, white on black. label: (N,) strokes."""

    image: NDArray[np.uint8]
    label: Integers


def draw(seed: int, count: int, canvas: int, style: Style) -> Drawn:
    """The first `count` drawings of a seed."""
    keys = _counter.keys(seed, np.arange(count))
    strokes = (
        style.fewest + _counter.uniform(keys, np.array([0]), style.most + 1 - style.fewest)[:, 0]
    )
    pieces = [slice(start, start + _TOGETHER) for start in range(0, count, _TOGETHER)]
    images = [
        _painted(_curves(keys[piece], style.most), strokes[piece], canvas, style.width)
        for piece in progress.track(pieces, "draw strokes")
    ]
    return Drawn(np.concatenate(images), strokes)


def _curves(keys: Words, most: int) -> Floats:
    """(N, T, P, 2): x and y of every point of every curve, in canvases."""
    numbers = 14 * most  # five points of two coordinates, and shift x, shift y, scale, angle
    normal = _normal(keys, numbers).reshape(len(keys), most, 14)
    control = 2 * (0.5 + 0.4 * normal[..., :10].reshape(len(keys), most, DEGREE + 1, 2)) - 1
    shift, scale, angle = normal[..., 10:12], normal[..., 12], normal[..., 13]
    x, y = np.moveaxis(control, -1, 0)  # (N, T, 5)
    sine, cosine = np.sin(_ANGLE * angle)[..., None], np.cos(_ANGLE * angle)[..., None]
    size = (1 + _SCALE * scale)[..., None]
    there = np.stack([size * (cosine * x - sine * y), size * (sine * x + cosine * y)], axis=-1)
    there = (there + _SHIFT * shift[:, :, None] + 1) / 2  # (N, T, 5, 2)
    along = np.linspace(0, 1, POINTS)
    basis = np.stack(
        [math.comb(DEGREE, k) * along**k * (1 - along) ** (DEGREE - k) for k in range(DEGREE + 1)]
    )  # (5, P)
    curves: Floats = np.einsum("kp,ntkc->ntpc", basis, there)
    return curves


def _painted(curves: Floats, strokes: Integers, canvas: int, width: float) -> NDArray[np.uint8]:
    """(N, canvas, canvas)."""
    grid = np.arange(canvas) / canvas
    ink = np.zeros((len(curves), canvas, canvas))
    for place in range(curves.shape[1]):
        (rows,) = np.nonzero(strokes > place)
        near = np.exp(-((curves[rows, place, :, None] - grid[:, None]) ** 2) / (2 * width**2))
        x, y = near[..., 0], near[..., 1]  # (n, P, canvas): a Gaussian is a product of two
        stroke = np.swapaxes(y, 1, 2) @ x
        brightest = stroke.max((1, 2), keepdims=True)
        stroke /= np.where(brightest >= _FAINT, brightest, 1)
        ink[rows] += np.tanh(stroke / _STROKE_SLOPE)
    image: NDArray[np.uint8] = np.rint(np.tanh(ink / _SLOPE) * 255).astype(np.uint8)
    return image


def _normal(keys: Words, numbers: int) -> Floats:
    """(N, numbers) standard normal numbers, two of each pair of uniform ones (Box & Muller)."""
    bits = _counter.uniform(keys, 1 + np.arange(2 * ((numbers + 1) // 2)), 1 << 32)
    first, second = np.split((bits + 0.5) / 2**32, 2, axis=1)
    radius, turn = np.sqrt(-2 * np.log(first)), 2 * math.pi * second
    both: Floats = np.concatenate([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    return both[:, :numbers]
