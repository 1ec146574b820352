"""What the judge says of images whose verdict is known: lawful scenes, lawful scenes drawn badly, unlawful scenes.

All are made of test digits, which the judge has never seen. The unlawful ones differ from a lawful one in one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.dataset import Split
from ..core.progress import track
from ..core.randomness import stream
from ._judge_reader import CANVAS

Integers = NDArray[np.int64]
Images = NDArray[np.uint8]
Random = np.random.Generator

SHOULD_PASS, SHOULD_FAIL, BLURRED = 0.99, 0.98, 0.95
MOVED = 10  # pixels of a 128-pixel canvas
CHUNK = 50


class Row(NamedTuple):
    """One line of the table. rate: the fraction judged as it should be. requirement: its lower bound, None for none.

    expected: what the verdict should be. n: images. images: the first ones judged wrongly, at most 25, for the eye.
    """

    test: str
    expected: Literal["right", "wrong"]
    rate: float
    requirement: float | None
    n: int
    images: Images

    @property
    def holds(self) -> bool:
        """Whether the requirement is met; true where there is none."""
        return self.requirement is None or self.rate >= self.requirement


class Layout(Protocol):
    """Which glyph stands where in N scenes: three arrays (N, O); glyph -1 where there is no object."""

    @property
    def glyph(self) -> Integers: ...

    @property
    def x(self) -> Integers: ...

    @property
    def y(self) -> Integers: ...


class Patches(Protocol):
    """Single digits. patch: (G, P, P) uint8. label: (G,)."""

    @property
    def patch(self) -> Images: ...

    @property
    def label(self) -> Integers: ...


class Painter(Protocol):
    """Scenes that can also be painted after a change of their layout."""

    @property
    def canvas(self) -> int: ...

    def glyphs(self, name: Split, /) -> Patches: ...

    def layout(self, name: Split, /) -> Layout: ...


Judged = Callable[[Images], NDArray[np.bool_]]
"""Images (N, 1, H, W) to verdicts (N,), true for right."""


def validate(
    judged: Judged, scenes: Painter, n: int, split: Split = "test", only: str = ""
) -> list[Row]:
    """Judge n images of every kind, or as many as the split has. The same images every time.

    only: the kinds whose name contains this.
    """
    workshop = _Workshop(scenes, split)
    n = min(n, len(workshop.scenes))
    chosen = [each for each in _TESTS if only in each[0]]
    rows = []
    for test, make, expected, requirement in track(chosen, "validating the judge"):
        random = np.random.default_rng(stream("judge validation", test))
        right: list[NDArray[np.bool_]] = []
        wrong_images: list[Images] = []
        for start in range(0, n, CHUNK):
            made = [make(workshop, i, random) for i in range(start, min(n, start + CHUNK))]
            images = np.stack([image for image in made if image is not None])[:, None]
            as_expected = judged(images) == (expected == "right")
            right.append(as_expected)
            wrong_images.append(images[~as_expected])
        every = np.concatenate(right)
        rows.append(
            Row(
                test,
                expected,
                float(every.mean()),
                requirement,
                len(every),
                np.concatenate(wrong_images)[:25],
            )
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one line each."""
    lines = [f"{'test':<46}{'judged so':>10}{'required':>10}{'n':>7}"]
    for row in rows:
        required = "" if row.requirement is None else f">= {row.requirement:.2f}"
        mark = "" if row.holds else "  NOT MET"
        name = f"{row.test}: {row.expected}"
        lines.append(f"{name:<46}{row.rate:>10.4f}{required:>10}{row.n:>7}{mark}")
    return "\n".join(lines)


class Digit(NamedTuple):
    """One object of a scene: index of its glyph and the corner of its patch."""

    glyph: int
    x: int
    y: int


class _Workshop:
    """The scenes of a split as lists of digits, and how to paint such a list."""

    def __init__(self, scenes: Painter, split: Split) -> None:
        self.canvas = scenes.canvas
        self.glyphs = scenes.glyphs(split)
        self.side = self.glyphs.patch.shape[1]
        layout = scenes.layout(split)
        self.scenes = [
            [Digit(*map(int, digit)) for digit in zip(*rows, strict=True) if digit[0] >= 0]
            for rows in zip(layout.glyph, layout.x, layout.y, strict=True)
        ]

    def label(self, digit: Digit) -> int:
        return int(self.glyphs.label[digit.glyph])

    def paint(self, digits: Sequence[Digit]) -> Images:
        """(H, W) uint8."""
        return self.paste([(self.glyphs.patch[d.glyph], d.x, d.y) for d in digits])

    def paste(self, patches: Sequence[tuple[Images, int, int]]) -> Images:
        """Patches at (x, y): (H, W) uint8; grey levels add up to 255 at most."""
        image = np.zeros((self.canvas, self.canvas), dtype=np.int64)
        for patch, x, y in patches:
            image[y : y + self.side, x : x + self.side] += patch
        return np.minimum(image, 255).astype(np.uint8)

    def random_glyph(self, random: Random, but: int) -> int:
        """A glyph of any class but one, all other classes equally likely."""
        label = int(random.choice([c for c in range(10) if c != but]))
        return int(random.choice(np.flatnonzero(self.glyphs.label == label)))

    def free(self, x: int, y: int, others: Sequence[Digit]) -> bool:
        """Whether a patch at (x, y) lies on the canvas and upon no other."""
        inside = min(x, y) >= 0 and max(x, y) <= self.canvas - self.side
        return inside and all(max(abs(x - d.x), abs(y - d.y)) >= self.side for d in others)


Maker = Callable[[_Workshop, int, Random], Images | None]
"""The image (H, W) of one test made of scene i; None where this scene cannot be changed so."""


# --- lawful -----------------------------------------------------------------------------------------------------------


def _real(shop: _Workshop, i: int, random: Random) -> Images:
    return shop.paint(shop.scenes[i])


def _blurred(shop: _Workshop, i: int, random: Random) -> Images:
    return _to_bytes(_blur(_real(shop, i, random).astype(np.float64), shop, 1.0))


def _uneven(shop: _Workshop, i: int, random: Random) -> Images:
    """Every digit as bright as 0.6 to 1."""
    return shop.paste(
        [
            ((shop.glyphs.patch[d.glyph] * random.uniform(0.6, 1)).astype(np.uint8), d.x, d.y)
            for d in shop.scenes[i]
        ]
    )


def _warped(shop: _Workshop, i: int, random: Random) -> Images:
    """Displaced by a smooth random field of about 1 px, correlated over about 8 px."""
    return _to_bytes(_warp(_real(shop, i, random).astype(np.float64), shop, random))


def _thinned(shop: _Workshop, i: int, random: Random) -> Images:
    return _to_bytes(
        _stroke(_real(shop, i, random).astype(np.float64), shop, -random.uniform(0.3, 0.6))
    )


def _thickened(shop: _Workshop, i: int, random: Random) -> Images:
    return _to_bytes(
        _stroke(_real(shop, i, random).astype(np.float64), shop, random.uniform(0.3, 0.8))
    )


def _speckled(shop: _Workshop, i: int, random: Random) -> Images:
    """A faint uneven background up to a tenth of the ink, and eight dim specks."""
    return _to_bytes(_speckle(_real(shop, i, random).astype(np.float64), shop, random))


def _as_generated(shop: _Workshop, i: int, random: Random) -> Images:
    """All of the above at once, each a little: as a model might draw."""
    image = _uneven(shop, i, random).astype(np.float64)
    image = _warp(image, shop, random)
    image = _stroke(image, shop, random.uniform(-0.3, 0.5))
    image = _blur(image, shop, random.uniform(0.3, 1.0))
    return _to_bytes(_speckle(image, shop, random))


def _to_bytes(image: NDArray[np.float64]) -> Images:
    return np.rint(image).clip(0, 255).astype(np.uint8)


def _blur(image: NDArray[np.float64], shop: _Workshop, sigma: float) -> NDArray[np.float64]:
    """Gaussian blur; sigma in pixels of a 128-pixel canvas."""
    soft: NDArray[np.float64] = ndimage.gaussian_filter(image, sigma * shop.canvas / CANVAS)
    return soft


def _warp(image: NDArray[np.float64], shop: _Workshop, random: Random) -> NDArray[np.float64]:
    scale = shop.canvas / CANVAS
    field = ndimage.gaussian_filter(
        random.normal(size=(2, *image.shape)), (0, 4 * scale, 4 * scale)
    )
    field *= scale / field.std()
    warped: NDArray[np.float64] = ndimage.map_coordinates(
        image, np.indices(image.shape) + field, order=1
    )
    return warped


def _stroke(image: NDArray[np.float64], shop: _Workshop, weight: float) -> NDArray[np.float64]:
    """A share of the grey dilation (weight > 0) or erosion (< 0) by 3 x 3 pixels of a 128-pixel canvas."""
    weight *= shop.canvas / CANVAS
    other = (ndimage.grey_dilation if weight > 0 else ndimage.grey_erosion)(image, (3, 3))
    mixed: NDArray[np.float64] = image + abs(weight) * (other - image)
    return mixed


def _speckle(image: NDArray[np.float64], shop: _Workshop, random: Random) -> NDArray[np.float64]:
    haze = _blur(random.normal(size=image.shape), shop, 2.0)
    image = image + 25 * (haze / np.abs(haze).max()).clip(0)
    y, x = random.integers(shop.canvas, size=(2, 8))
    image[y, x] += random.uniform(30, 120, size=8)
    return image


# --- unlawful ---------------------------------------------------------------------------------------------------------


def _one_class_changed(shop: _Workshop, i: int, random: Random) -> Images:
    digits = list(shop.scenes[i])
    k = int(random.integers(len(digits)))
    digits[k] = digits[k]._replace(glyph=shop.random_glyph(random, but=shop.label(digits[k])))
    return shop.paint(digits)


def _two_swapped(shop: _Workshop, i: int, random: Random) -> Images:
    """Two digits change places; in an MNIST-10 scene not two of {2, 3, 4} or of {5, 6, 7}, whose places are free."""
    digits = list(shop.scenes[i])
    while True:
        a, b = random.choice(len(digits), 2, replace=False)
        both = {shop.label(digits[a]), shop.label(digits[b])}
        if len(digits) == 4 or not (both <= {2, 3, 4} or both <= {5, 6, 7}):
            break
    first, second = digits[a].glyph, digits[b].glyph
    digits[a], digits[b] = digits[a]._replace(glyph=second), digits[b]._replace(glyph=first)
    return shop.paint(digits)


def _one_missing(shop: _Workshop, i: int, random: Random) -> Images:
    digits = list(shop.scenes[i])
    del digits[random.integers(len(digits))]
    return shop.paint(digits)


def _one_extra(shop: _Workshop, i: int, random: Random) -> Images | None:
    digits = shop.scenes[i]
    for x, y in random.integers(shop.canvas - shop.side + 1, size=(500, 2)):
        if shop.free(int(x), int(y), digits):
            glyph = int(random.integers(len(shop.glyphs.label)))
            return shop.paint([*digits, Digit(glyph, int(x), int(y))])
    return None  # no room is left


def _one_moved(shop: _Workshop, i: int, random: Random) -> Images | None:
    """One digit 10 px aside, in its quadrant; in an MNIST-10 scene one of 0, 1, 8, 9, whose places are bound."""
    digits = list(shop.scenes[i])
    half = shop.canvas // 2
    bound = [k for k, d in enumerate(digits) if len(digits) == 4 or shop.label(d) in (0, 1, 8, 9)]
    for _ in range(500):
        k, angle = int(random.choice(bound)), random.uniform(0, 2 * np.pi)
        step = MOVED * shop.canvas / CANVAS
        d = digits[k]
        x, y = round(d.x + step * np.cos(angle)), round(d.y + step * np.sin(angle))
        here = all(
            a // half == b // half and a % half <= half - shop.side for a, b in ((x, d.x), (y, d.y))
        )
        if here and shop.free(x, y, digits[:k] + digits[k + 1 :]):
            digits[k] = Digit(d.glyph, x, y)
            return shop.paint(digits)
    return None  # hemmed in on all sides


def _wrong_diagonal(shop: _Workshop, i: int, random: Random) -> Images:
    """MNIST-4: the digits run counterclockwise. MNIST-10: the upper two quadrants change places."""
    digits, half = shop.scenes[i], shop.canvas // 2
    if len(digits) == 4:
        first, second, third, fourth = digits
        return shop.paint(
            [
                first,
                second._replace(glyph=fourth.glyph),
                third,
                fourth._replace(glyph=second.glyph),
            ]
        )
    return shop.paint(
        [d._replace(x=(d.x + half) % (2 * half)) if d.y < half else d for d in digits]
    )


def _exchanged(shop: _Workshop, i: int, random: Random) -> Images:
    """The left half changes places with the right one: what belongs on one diagonal stands on the other."""
    half = shop.canvas // 2
    return shop.paint([d._replace(x=(d.x + half) % (2 * half)) for d in shop.scenes[i]])


def _replaced(drawing: Callable[[_Workshop, Random, Digit], Images]) -> Maker:
    """One digit gives way to a drawing that is none."""

    def make(shop: _Workshop, i: int, random: Random) -> Images:
        digits = shop.scenes[i]
        k = int(random.integers(len(digits)))
        patches = [(shop.glyphs.patch[d.glyph], d.x, d.y) for d in digits]
        patches[k] = (drawing(shop, random, digits[k]), digits[k].x, digits[k].y)
        return shop.paste(patches)

    return make


# Strokes between points of the unit square, (x, y) from the top left: no digit in anybody's hand.
_SHAPES: dict[str, list[list[tuple[float, float]]]] = {
    "square": [[(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]],
    "triangle": [[(0.5, 0), (1, 1), (0, 1), (0.5, 0)]],
    "cross": [[(0, 0), (1, 1)], [(0, 1), (1, 0)]],
    "star": [[(0.5, 0), (0.5, 1)], [(0.07, 0.25), (0.93, 0.75)], [(0.07, 0.75), (0.93, 0.25)]],
    "rails": [[(0, 0.15), (1, 0.15)], [(0, 0.5), (1, 0.5)], [(0, 0.85), (1, 0.85)]],
    "fork": [[(0, 0), (0, 1)], [(0.5, 0), (0.5, 1)], [(1, 0), (1, 1)], [(0, 0.5), (1, 0.5)]],
}


def _shape(shop: _Workshop, random: Random, digit: Digit) -> Images:
    side = shop.side
    margin, width = 0.1 * side, 0.06 * side
    y, x = np.indices((side, side))
    ink = np.zeros((side, side))
    lines = _SHAPES[str(random.choice(list(_SHAPES)))]
    for line in lines:
        points = np.array(line) * (side - 1 - 2 * margin) + margin
        for (x0, y0), (x1, y1) in pairwise(points):
            along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / (
                (x1 - x0) ** 2 + (y1 - y0) ** 2
            )
            away = np.hypot(x - x0 - along.clip(0, 1) * (x1 - x0), y - y0 - along.clip(0, 1) * (y1 - y0))  # fmt: skip
            ink = np.maximum(ink, (width + 0.5 - away).clip(0, 1))
    return _to_bytes(255 * ink)


def _scrambled(shop: _Workshop, random: Random, digit: Digit) -> Images:
    """The quarters of the digit, each moved to another corner."""
    patch, half = shop.glyphs.patch[digit.glyph], shop.side // 2
    quarters = [patch[y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    a, b, c, d = [quarters[k] for k in ([3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1])[random.integers(3)]]  # fmt: skip
    return np.block([[a, b], [c, d]])


def _undecided(shop: _Workshop, random: Random, digit: Digit) -> Images:
    """The mean of four digits of other classes, as bright as one: what a model draws that cannot decide."""
    own = shop.label(digit)
    classes = random.choice([c for c in range(10) if c != own], 4, replace=False)
    chosen = [int(random.choice(np.flatnonzero(shop.glyphs.label == c))) for c in classes]
    mean = shop.glyphs.patch[chosen].mean(0)
    return _to_bytes(mean * (255 / mean.max()))


_TESTS: list[tuple[str, Maker, Literal["right", "wrong"], float | None]] = [
    ("real", _real, "right", SHOULD_PASS),
    ("blurred (sigma 1)", _blurred, "right", BLURRED),
    ("digits of uneven brightness", _uneven, "right", None),
    ("warped", _warped, "right", None),
    ("thin strokes", _thinned, "right", None),
    ("thick strokes", _thickened, "right", None),
    ("haze and specks", _speckled, "right", None),
    ("all of these at once", _as_generated, "right", None),
    ("one class changed", _one_class_changed, "wrong", SHOULD_FAIL),
    ("two digits swapped", _two_swapped, "wrong", SHOULD_FAIL),
    ("one digit missing", _one_missing, "wrong", SHOULD_FAIL),
    ("one digit extra", _one_extra, "wrong", SHOULD_FAIL),
    ("one digit moved by 10 px", _one_moved, "wrong", SHOULD_FAIL),
    ("wrong diagonal", _wrong_diagonal, "wrong", SHOULD_FAIL),
    ("left and right exchanged", _exchanged, "wrong", SHOULD_FAIL),
    ("a shape for a digit", _replaced(_shape), "wrong", SHOULD_FAIL),
    ("a scrambled digit for a digit", _replaced(_scrambled), "wrong", SHOULD_FAIL),
    ("a mean of four digits for a digit", _replaced(_undecided), "wrong", SHOULD_FAIL),
]
