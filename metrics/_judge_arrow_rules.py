"""The law of the Arrow room, applied to what the parser saw.

Jiang & Ahn (2020), section 4: four objects of one material; one is an arrow, nearest to the camera; two of the other
three share a shape, the third has another, and the arrow points at that one.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._judge_arrow_parser import NO_SHAPE, Parsed
from ._judge_arrow_scenes import SHAPES

# Chosen on validation scenes alone (reports/arrow_judge.md).
SOMETHING = 0.3  # an object is what the parser is at least this sure of
SHAPE = 0.95  # it is recognised if one shape is at least this likely
ANGLE = 25.0  # degrees between where the arrow points and the object that it points at

LAWS = (
    "lawful",
    "not four objects",
    "an object of no known shape",
    "not one arrow",
    "not two equal shapes and one other",
    "the arrow is not the lowest",
    "not one material",
    "the arrow points at another object",
    "the arrow points past the odd one",
)
"""What a scene can be; the first law that it breaks, in this order."""


class Ruling(NamedTuple):
    """law: place in LAWS, 0 for a lawful scene. angle: degrees between the arrow's heading and the odd one's direction,
    NaN where there is no telling."""

    law: int
    angle: float


def ruling(parsed: Parsed) -> Ruling:
    """Which law the objects of one image break, if any."""
    unknown = math.nan
    seen = np.flatnonzero(parsed.sure >= SOMETHING)
    if len(seen) != 4:
        return Ruling(1, unknown)
    shape = parsed.shape[seen].argmax(1)
    if (shape == NO_SHAPE).any() or (parsed.shape[seen].max(1) < SHAPE).any():
        return Ruling(2, unknown)
    is_arrow = shape == SHAPES.index("arrow")
    if is_arrow.sum() != 1:
        return Ruling(3, unknown)
    arrow, others = int(seen[is_arrow][0]), seen[~is_arrow]
    count = Counter(shape[~is_arrow].tolist())
    if len(count) != 2:
        return Ruling(4, unknown)
    (odd_shape,) = [each for each, times in count.items() if times == 1]
    odd = int(np.flatnonzero(shape[~is_arrow] == odd_shape)[0])
    # The ray runs along the floor, from the arrow's middle past the others' feet.
    angle = [
        angle_between(parsed.heading[arrow], parsed.foot[other] - parsed.centre[arrow])
        for other in others
    ]
    if not (parsed.centre[arrow, 1] > parsed.centre[others, 1]).all():
        return Ruling(5, angle[odd])
    metal = parsed.metal[seen] > 0.5
    if metal.any() and not metal.all():
        return Ruling(6, angle[odd])
    if angle[odd] > min(angle):
        return Ruling(7, angle[odd])
    if not angle[odd] < ANGLE:
        return Ruling(8, angle[odd])
    return Ruling(0, angle[odd])


def angle_between(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The angle between two vectors (2,) of the image, in degrees from 0 to 180."""
    cross = one[0] * other[1] - one[1] * other[0]
    return math.degrees(abs(math.atan2(cross, float(one @ other))))
