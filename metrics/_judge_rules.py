"""The written rules that a scene must obey, and how far a drawn scene is from obeying them.

MNIST-4. Four digits, one per quadrant, c, c + 1, c + 2, c + 3 clockwise from the top left; centres are mirror images.
MNIST-10. Every digit once; {0, 1} and {8, 9} in the upper left and the lower right quadrant, {2, 3, 4} and {5, 6, 7} in
the other two, either way round; 0 stands in its quadrant where 8 stands in its own, and 1 where 9 does.

A person who checks a rule reads an ambiguous stroke as the digit that belongs there, if it can be that digit at all. So
does the judge: a scene is right if there is *one* reading of it that obeys the rule and gives every object a class that
it can be, both among the digits and against being none. Ten digits read out of context, each 99.5 % right, would fail
one real MNIST-10 scene in 20. Both limits (`Limits`) were set on validation scenes, whose digits are people's: a model
that draws digits which are nearly right is given more by them than by a reader who takes each for what it most likely
is.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._judge_finder import Found
from ._judge_reader import CANVAS, NOT_A_DIGIT

Rule = Literal["mnist4", "mnist10", "mnist4_10"]

UNREADABLE = 0.8  # above this probability of "not a digit" a small object is dirt
DEBRIS = 6  # an unreadable object whose longer side is at most this is dirt and not an object

NEVER = float("inf")


class Limits(NamedTuple):
    """A digit can be read as every class that is at least `plausible`, given that it is a digit, and at least
    `against_none` times as likely as that it is none.
    """

    plausible: float = 0.003
    against_none: float = 0.05


CHARITABLE = Limits()


def displacement(found: Found, rule: Rule, canvas: int, limits: Limits = CHARITABLE) -> float:
    """How far, in pixels of a 128-pixel canvas, the scene's digits are from where the rule wants them.

    The largest distance over the pairs of digits that should coincide, in the best of all readings that obey the
    rule; infinite if no reading does. A scene is right at tolerance t if this is at most t.
    """
    scale = canvas / CANVAS
    none = found.probability[:, NOT_A_DIGIT]
    dirt = (none > UNREADABLE) & (found.side <= DEBRIS * scale)
    centre = found.centre[~dirt] / scale  # (O, 2) in 0..128
    digit = found.probability[~dirt, :NOT_A_DIGIT]
    can_be = digit >= limits.plausible * digit.sum(1, keepdims=True)  # (O, 10)
    can_be &= digit >= limits.against_none * none[~dirt, None]
    quadrant = _quadrant(centre)
    distance = NEVER
    if rule != "mnist10":
        distance = min(distance, _mnist4(centre, can_be, quadrant))
    if rule != "mnist4":
        distance = min(distance, _mnist10(centre, can_be, quadrant))
    return distance


def _quadrant(centre: NDArray[np.float64]) -> NDArray[np.int64]:
    """Clockwise from the top left: 0, 1, 2, 3."""
    right, lower = (centre > CANVAS / 2).T
    clockwise: NDArray[np.int64] = np.where(lower, 3 - right.astype(np.int64), right)
    return clockwise


def _mnist4(
    centre: NDArray[np.float64], can_be: NDArray[np.bool_], quadrant: NDArray[np.int64]
) -> float:
    if sorted(quadrant) != [0, 1, 2, 3]:
        return NEVER
    order = np.argsort(quadrant)
    if not any(can_be[order, np.arange(c, c + 4)].all() for c in range(7)):
        return NEVER
    folded = np.minimum(centre, CANVAS - centre)  # all four mirrored into the top left
    return float(np.linalg.norm(folded[:, None] - folded[None], axis=-1).max())


def _mnist10(
    centre: NDArray[np.float64], can_be: NDArray[np.bool_], quadrant: NDArray[np.int64]
) -> float:
    inside = [np.flatnonzero(quadrant == q) for q in range(4)]
    distance = NEVER
    upper_left, upper_right, lower_right, lower_left = inside
    for (first, second), (third, fourth) in product(
        permutations((upper_left, lower_right)), permutations((upper_right, lower_left))
    ):
        if (len(first), len(second), len(third), len(fourth)) != (2, 2, 3, 3):
            continue
        if not (_readings(third, (2, 3, 4), can_be) and _readings(fourth, (5, 6, 7), can_be)):
            continue
        within = centre % (CANVAS / 2)
        for low in _readings(first, (0, 1), can_be):
            for high in _readings(second, (8, 9), can_be):
                apart = np.linalg.norm(within[list(low)] - within[list(high)], axis=1).max()
                distance = min(distance, float(apart))
    return distance


def _readings(
    objects: NDArray[np.int64], classes: tuple[int, ...], can_be: NDArray[np.bool_]
) -> list[tuple[int, ...]]:
    """All orders of the objects in which the first can be the first class, and so on."""
    return [
        order
        for order in permutations(objects.tolist())
        if all(can_be[i, c] for i, c in zip(order, classes, strict=True))
    ]
