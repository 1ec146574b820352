"""Objects that are none: what a model draws that cannot decide, for the Arrow judge to learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ._judge_arrow_scenes import CANVAS, Picture

Random = np.random.Generator
Floats = NDArray[np.float64]


class Layer(NamedTuple):
    """One object alone. colour: (3, H, W), of meaning where it covers. cover: (H, W) in [0, 1]."""

    colour: Floats
    cover: Floats


def lifted(picture: Picture, place: int) -> Layer:
    """The object at `place` of a picture; its outline is a little soft."""
    there = (picture.mask == place).astype(np.float64)
    return Layer(picture.image.astype(np.float64), ndimage.gaussian_filter(there, 0.5))


def cleared(picture: Picture, place: int) -> Floats:
    """The image (3, H, W) without the object; what it hid is like the nearest ground that is seen, in shadow or not."""
    own = picture.mask == place
    # the outline of an object reaches a pixel or two further than its mask; not over its neighbours
    near = own | (ndimage.binary_dilation(own, iterations=2) & (picture.mask < 0))
    anything = ndimage.binary_dilation(picture.mask >= 0, iterations=3)
    image = picture.image.astype(np.float64)
    _, nearest = ndimage.distance_transform_edt(anything, return_indices=True)
    ground = image[:, nearest[0], nearest[1]]
    ground = ndimage.gaussian_filter(ground, (0, 3 * _scale(picture), 3 * _scale(picture)))
    cleared: Floats = np.where(near, ground, image)
    return cleared


def laid(base: Floats, layer: Layer) -> Floats:
    return base * (1 - layer.cover) + layer.colour * layer.cover


def at(layer: Layer, centre: tuple[float, float], height: float) -> Layer:
    """The layer moved and scaled, so that its box has this middle (row, column) and height in pixels."""
    rows, columns = np.nonzero(layer.cover > 0.5)
    if len(rows) == 0:
        return layer
    middle = ((rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2)
    scale = (rows.max() - rows.min() + 1) / max(height, 2)
    grid = np.indices(layer.cover.shape).astype(np.float64)
    where = np.stack([(grid[k] - centre[k]) * scale + middle[k] for k in (0, 1)])
    colour = np.stack([ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in layer.colour])  # fmt: skip
    return Layer(colour, ndimage.map_coordinates(layer.cover, where, order=1))


def box_of(layer: Layer) -> tuple[float, float, float, float]:
    """Middle row and column, height and width of what a layer covers."""
    rows, columns = np.nonzero(layer.cover > 0.5)
    if len(rows) == 0:
        return 0, 0, 0, 0
    return (
        (rows.min() + rows.max()) / 2,
        (columns.min() + columns.max()) / 2,
        rows.max() - rows.min() + 1,
        columns.max() - columns.min() + 1,
    )


Drawing = Callable[[Layer, Sequence[Layer], float, Random], Layer]
"""Called with an object, objects of other shapes in its place, pixels per pixel of a 128-pixel canvas, and chance."""


def _blurred_away(own: Layer, others: Sequence[Layer], scale: float, random: Random) -> Layer:
    sigma = random.uniform(4, 7) * scale
    cover = ndimage.gaussian_filter(own.cover, sigma)
    colour = [ndimage.gaussian_filter(c * own.cover, sigma) / (cover + 1e-6) for c in own.colour]
    return Layer(np.stack(colour), np.minimum(1, cover * random.uniform(1, 1.6)))


def _several_at_once(own: Layer, others: Sequence[Layer], scale: float, random: Random) -> Layer:
    """A mean of two or three objects of different shapes, none of which prevails."""
    chosen = [own, *others][: int(random.integers(2, 4))]
    share = random.dirichlet([12] * len(chosen))
    cover = np.sum([s * each.cover for s, each in zip(share, chosen, strict=True)], axis=0)
    light = [s * each.colour * each.cover for s, each in zip(share, chosen, strict=True)]
    colour = np.sum(light, axis=0) / (cover + 1e-6)
    return Layer(colour, cover)


def _half(own: Layer, others: Sequence[Layer], scale: float, random: Random) -> Layer:
    """What lies on one side of a line near the middle."""
    row, column, height, _ = box_of(own)
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.indices(own.cover.shape)
    ahead = (y - row) * np.sin(angle) + (x - column) * np.cos(angle)
    edge = random.uniform(0.5, 3) * scale
    return own._replace(cover=own.cover * ((ahead + random.uniform(-0.1, 0.1) * height) / edge).clip(0, 1))  # fmt: skip


def _chimera(own: Layer, others: Sequence[Layer], scale: float, random: Random) -> Layer:
    """One side of an object, the other side of another."""
    row, column, _, _ = box_of(own)
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.indices(own.cover.shape)
    first = ((y - row) * np.sin(angle) + (x - column) * np.cos(angle) > 0).astype(np.float64)
    first = ndimage.gaussian_filter(first, 0.7 * scale)
    other = others[0]
    return Layer(
        own.colour * first + other.colour * (1 - first),
        own.cover * first + other.cover * (1 - first),
    )


def _scrambled(own: Layer, others: Sequence[Layer], scale: float, random: Random) -> Layer:
    """Its quarters, each in another corner."""
    row, column, height, width = (int(v) for v in box_of(own))
    h, w = max(height // 2, 2), max(width // 2, 2)
    colour, cover = own.colour.copy(), own.cover.copy()
    corners = [(row - h, column - w), (row - h, column), (row, column - w), (row, column)]
    order = ([3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1])[random.integers(3)]
    high, long = cover.shape
    for (y, x), k in zip(corners, order, strict=True):
        v, u = corners[k]
        rows, columns = np.arange(h).clip(0), np.arange(w)
        into = np.ix_((y + rows).clip(0, high - 1), (x + columns).clip(0, long - 1))
        out = np.ix_((v + rows).clip(0, high - 1), (u + columns).clip(0, long - 1))
        cover[into] = own.cover[out]
        for c in range(3):
            colour[c][into] = own.colour[c][out]
    return Layer(colour, ndimage.gaussian_filter(cover, 0.5))


def _melted(own: Layer, others: Sequence[Layer], scale: float, random: Random) -> Layer:
    """Displaced by a smooth random field of several pixels."""
    field = ndimage.gaussian_filter(random.normal(size=(2, *own.cover.shape)), (0, 4 * scale, 4 * scale))  # fmt: skip
    field *= random.uniform(4.5, 7) * scale / field.std()
    where = np.indices(own.cover.shape) + field
    colour = [ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in own.colour]
    return Layer(np.stack(colour), ndimage.map_coordinates(own.cover, where, order=1))


def _blob(own: Layer, others: Sequence[Layer], scale: float, random: Random) -> Layer:
    """A patch without form in the object's colour, unevenly lit."""
    row, column, height, width = box_of(own)
    y, x = np.indices(own.cover.shape)
    away = np.hypot((y - row) / max(height, 8 * scale), (x - column) / max(width, 8 * scale))
    smooth = random.uniform(2.5, 4.5) * scale
    form = ndimage.gaussian_filter(random.normal(size=own.cover.shape), smooth)
    light = ndimage.gaussian_filter(random.normal(size=own.cover.shape), smooth)
    form, light = form / form.std(), light / light.std()
    cover = (((0.55 - away) * 5 + 0.8 * form) / random.uniform(0.4, 2)).clip(0, 1)
    return Layer(_mean(own)[:, None, None] * (1 + random.uniform(0.05, 0.3) * light), cover)


def _ghost(own: Layer, others: Sequence[Layer], scale: float, random: Random) -> Layer:
    return own._replace(cover=own.cover * random.uniform(0.2, 0.5))


def _figure(own: Layer, others: Sequence[Layer], scale: float, random: Random) -> Layer:
    """A star, a triangle, a cross or a ring, lit from one side."""
    row, column, height, width = box_of(own)
    reach = max(height, width, 10 * scale) / 2
    y, x = np.indices(own.cover.shape)
    v, u = (y - row) / reach, (x - column) / reach
    angle, away = np.arctan2(v, u) + random.uniform(0, 2 * np.pi), np.hypot(v, u)
    kind = int(random.integers(4))
    if kind == 0:
        corners = int(random.integers(3, 7))
        edge = 0.75 + 0.35 * np.cos(corners * angle)
    elif kind == 1:
        edge = 0.5 / np.cos((angle % (2 * np.pi / 3)) - np.pi / 3)
    elif kind == 2:
        arm = random.uniform(0.2, 0.35)
        along = np.maximum(abs(away * np.cos(angle)), abs(away * np.sin(angle)))
        across = np.minimum(abs(away * np.cos(angle)), abs(away * np.sin(angle)))
        edge = np.where((across < arm) & (along < 1), 2 * away + 0.1, 0)
    else:
        edge = np.where(away > random.uniform(0.4, 0.6), 1, 0)
    cover = ndimage.gaussian_filter((away < edge).astype(np.float64), 0.6 * scale)
    light = 1 + random.uniform(-0.4, 0.4) * v + random.uniform(-0.4, 0.4) * u
    return Layer(_mean(own)[:, None, None] * light, cover)


def _mean(layer: Layer) -> Floats:
    weight = layer.cover / max(layer.cover.sum(), 1e-6)
    mean: Floats = (layer.colour * weight).sum((1, 2))
    return mean


JUNK: tuple[Drawing, ...] = (
    _blurred_away,
    _several_at_once,
    _several_at_once,
    _several_at_once,
    _half,
    _chimera,
    _scrambled,
    _melted,
    _blob,
    _blob,
    _ghost,
    _figure,
)


def spoiled(
    picture: Picture, others: Sequence[Picture], random: Random
) -> tuple[Picture, list[int]]:
    """A picture of which one or two objects have become junk, and their places. others: where the other shapes of
    mixtures come from."""
    seen = [
        k
        for k in range(len(picture.things))
        if (picture.mask == k).sum() > 60 * _scale(picture) ** 2
    ]
    places = [int(k) for k in random.permutation(seen)[: 1 + int(random.random() < 0.3)]]
    for place in places:
        drawing = JUNK[int(random.integers(len(JUNK)))]
        image = with_junk(picture, place, others, drawing, random)
        picture = picture._replace(image=image)
    return picture, places


def with_junk(
    picture: Picture,
    place: int,
    others: Sequence[Picture],
    drawing: Drawing,
    random: Random,
) -> NDArray[np.uint8]:
    """The image (3, H, W) with one object replaced by a drawing that is none."""
    own = lifted(picture, place)
    row, column, height, _ = box_of(own)
    shapes = {picture.things[place].shape}
    instead: list[Layer] = []
    while len(instead) < 2:
        donor = others[int(random.integers(len(others)))]
        k = int(random.integers(len(donor.things)))
        whole = (donor.mask == k).sum() > 250 * _scale(donor) ** 2
        if whole and donor.things[k].shape not in shapes:
            shapes.add(donor.things[k].shape)
            instead.append(at(lifted(donor, k), (row, column), height))
    drawn = drawing(own, instead, _scale(picture), random)
    image = laid(cleared(picture, place), drawn)
    # what stands before it still does
    image = np.where((picture.mask >= 0) & (picture.mask != place), picture.image, image)
    return np.rint(image).clip(0, 255).astype(np.uint8)


def _scale(picture: Picture) -> float:
    return float(picture.image.shape[-1] / CANVAS)
