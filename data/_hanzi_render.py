"""How a composed character is drawn: its strokes are moved about, as a hand would, and inked.

For each image: the corners of each part's box are moved by N(0, 0.02) of the character's square, each control point by
N(0, 0.025) of its part's box, everything is mapped by I + N(0, 0.06) (2 x 2); bent strokes are rounded by two rounds of
cutting corners (Chaikin 1974); the whole is brought to the unit square with a margin of 4 %, its proportions kept.
Strokes have round ends and the width 0.05 S U(0.75, 1.3), each of them times U(0.85, 1.15), on S x S pixels; they are
drawn three times as fine, blurred by 0.4 S / 50 pixels, averaged over 3 x 3, and multiplied by an ink of U(0.7, 1).
From the moved strokes on all sums are of whole numbers: nothing depends on the order in which a machine adds.

Axes: `N` images of one character, `L` the `n` points of one stroke, `F` fine pixels, three times S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from . import _counter
from ._counter import Integers, Words
from ._glyphs import tight_boxes
from ._hanzi_strokes import Part

FINE = 3  # fine pixels a pixel
NOBODY = 255
FAINT = 16  # of 255: paler than this is the blur around a stroke, of which nobody is the owner
_MARGIN, _WIDTH, _BLUR = 0.04, 0.05, 0.4 / 50
_ONE = 1 << 10
_PIECE = 12  # fine pixels

Numbers = NDArray[np.float64]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Hand:
    """What a writer does to all of a character. affine: (N, 2, 2). width: (N,) of a stroke, in S. ink: (N,)."""

    affine: Numbers
    width: Numbers
    ink: Numbers

    def rows(self, index: slice) -> Hand:
        """Some of the writers."""
        return Hand(self.affine[index], self.width[index], self.ink[index])


class Drawn(NamedTuple):
    """N images of one character: image (N, S, S), owner (N, S, S) 0 or 1 or 255, box (N, 2, 4) of the parts' ink."""

    image: Pixels
    owner: Pixels
    box: NDArray[np.int64]


def hands(keys: Words) -> Hand:
    """Of N writers, each a function of its key."""
    width, ink = unit(keys, np.array([0, 1])).T
    affine = np.eye(2) + 0.06 * normal(keys, 2 + np.arange(4)).reshape(-1, 2, 2)
    return Hand(affine, _WIDTH * (0.75 + 0.55 * width), 0.7 + 0.3 * ink)


def unit(keys: Words, numbers: Integers) -> Numbers:
    """(N, D) draws, uniform between 0 and 1."""
    drawn: Numbers = (_counter.uniform(keys, numbers, 1 << 32) + 0.5) / 2**32
    return drawn


def normal(keys: Words, numbers: Integers) -> Numbers:
    """(N, D) draws from N(0, 1)."""
    drawn: Numbers = special.ndtri(unit(keys, numbers))
    return drawn


def draw(parts: tuple[Part, Part], keys: Words, hand: Hand, side: int, shake: float = 1.0) -> Drawn:
    """N images (side x side) of one character, each a function of its key and its writer.

    shake: how much corners and points are moved, in terms of what a hand moves them; 0 for strokes as they are.
    """
    lines, widths = moved(parts, keys, hand, shake)
    fine = np.zeros((len(keys), len(parts), FINE * side, FINE * side), dtype=bool)
    for place, (part, width) in enumerate(zip(lines, widths, strict=True)):
        for line, thickness in zip(part, width.T, strict=True):
            _stroke(fine[:, place], line * FINE * side, thickness * FINE * side / 2)
    paint = np.rint(hand.ink * _ONE).astype(np.int64)
    image = _inked(fine[:, 0] | fine[:, 1], paint)
    ink = np.stack([_inked(fine[:, place], paint) for place in range(len(parts))], axis=1)
    owner = ink.argmax(1).astype(np.uint8)  # of two equals the first
    owner[ink.max(1) < FAINT] = NOBODY
    box = tight_boxes((ink * (ink >= FAINT)).reshape(-1, side, side)).reshape(len(keys), -1, 4)
    return Drawn(image, owner, box)


def moved(
    parts: tuple[Part, Part], keys: Words, hand: Hand, shake: float = 1.0
) -> tuple[list[list[Numbers]], list[Numbers]]:
    """The strokes of each part, (N, n, 2) each, in the unit square, and their widths, (N, strokes)."""
    lines, widths, number = [], [], 0

    def numbers(count: int) -> Integers:
        nonlocal number
        number += count
        return np.arange(number - count, number)

    for part in parts:
        box = part.box + shake * 0.02 * normal(keys, numbers(4))  # (N, 4)
        corner, size = box[:, None, :2], box[:, None, 2:] - box[:, None, :2]  # (N, 1, 2)
        own = []
        for stroke in part.strokes:
            noise = normal(keys, numbers(stroke.size)).reshape(-1, *stroke.shape)
            line = corner + size * (stroke + shake * 0.025 * noise)  # (N, n, 2)
            x, y = line[..., 0], line[..., 1]
            (a, b), (c, d) = np.moveaxis(hand.affine, 0, -1)[..., None]  # (N, 1) each
            own.append(_rounded(np.stack([a * x + b * y, c * x + d * y], axis=-1)))
        lines.append(own)
        wide = 0.85 + 0.3 * unit(keys, numbers(len(part.strokes)))
        widths.append(hand.width[:, None] * wide)
    every = np.concatenate([line for own in lines for line in own], axis=1)
    low, high = every.min(1), every.max(1)  # (N, 2)
    scale = (1 - 2 * _MARGIN) / (high - low).max(1)[:, None, None]
    middle = ((low + high) / 2)[:, None]
    return [[0.5 + scale * (line - middle) for line in own] for own in lines], widths


def _rounded(line: Numbers) -> Numbers:
    """Polylines (N, n, 2) with their corners cut twice, at 1/4 and 3/4 of each edge; the ends stay."""
    if line.shape[1] < 3:
        return line
    for _ in range(2):
        start, end = line[:, :-1], line[:, 1:]
        cut = np.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], axis=2)
        cut = cut.reshape(len(line), -1, 2)
        line = np.concatenate([line[:, :1], cut[:, 1:-1], line[:, -1:]], axis=1)
    return line


def _stroke(fine: NDArray[np.bool_], line: Numbers, radius: Numbers) -> None:
    """Ink (N, F, F) in place: all within `radius` (N,) of the polylines (N, n, 2), in fine pixels."""
    side = fine.shape[-1]
    reach = int(np.ceil(radius.max())) + 1
    line, radius = line.astype(np.float32), radius.astype(np.float32)
    for first in range(line.shape[1] - 1):
        start, end = line[:, first], line[:, first + 1]
        # In short pieces, so that each lies in a small window.
        count = max(1, math.ceil(np.hypot(*(end - start).T).max() / _PIECE))
        step = (end - start) / np.float32(count)
        window = np.arange(2 * reach + _PIECE + 2, dtype=np.float32) + np.float32(0.5)
        for piece in range(count):
            a = start + np.float32(piece) * step  # (N, 2)
            corner = np.floor(np.minimum(a, a + step)) - reach
            corner = np.clip(corner, 0, side - len(window)).astype(np.float32)
            # From a to the middle of each pixel of the window.
            x, y = np.moveaxis((corner - a)[:, None] + window[:, None], -1, 0)
            x, y = x[:, None, :], y[:, :, None]  # (N, 1, w), (N, w, 1)
            dx, dy = step.T[..., None, None]
            along = np.clip((x * dx + y * dy) / np.maximum(dx**2 + dy**2, np.float32(1e-12)), 0, 1)
            inside = (x - along * dx) ** 2 + (y - along * dy) ** 2 <= radius[:, None, None] ** 2
            for image, (left, top), mask in zip(
                fine, corner.astype(int).tolist(), inside, strict=True
            ):
                image[top : top + len(window), left : left + len(window)] |= mask


def _inked(fine: NDArray[np.bool_], paint: Integers) -> Pixels:
    """(N, F, F) fine pixels to (N, S, S): blurred, averaged, and multiplied by `paint` (N,) / 2^10."""
    taps = _taps(fine.shape[-1] // FINE)
    reach = len(taps) // 2 - 1  # beside the three fine pixels of a pixel
    count = fine.shape[-1] // FINE
    padded = np.pad(fine, ((0, 0), (reach, reach), (reach, reach))).astype(np.int32)
    end = FINE * (count - 1) + 1
    rows = np.zeros((len(fine), count, padded.shape[2]), np.int32)
    for k, tap in enumerate(taps.tolist()):
        rows += tap * padded[:, k : k + end : FINE]
    both = np.zeros((len(fine), count, count), np.int64)
    for k, tap in enumerate(taps.tolist()):
        both += tap * rows[..., k : k + end : FINE]
    grey = both * paint[:, None, None] * 255  # of 2^30
    image: Pixels = ((grey + (1 << 29)) >> 30).astype(np.uint8)
    return image


@lru_cache(maxsize=4)
def _taps(side: int) -> Integers:
    """The weights, in 1 / 2^10, of the fine pixels in and around a pixel: a Gaussian over three of them in a row."""
    sigma = _BLUR * side * FINE
    reach = math.ceil(3 * sigma)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    wide = np.convolve(bell, np.ones(FINE))
    taps: Integers = np.rint(wide / wide.sum() * _ONE).astype(np.int64)
    taps[len(taps) // 2] += _ONE - taps.sum()
    return taps
