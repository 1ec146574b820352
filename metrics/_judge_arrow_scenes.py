"""Arrow-room scenes for the judge to learn from and to be tried on: lawful with one thing changed, and any at all.

Scenes are descriptions, tuples of the data set's own objects ("things"); the data set draws them. What has been drawn
is kept in the user's cache.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Examples, Split
from ..core.errors import DataError
from ..core.files import write_bytes
from ..core.progress import report
from ..core.randomness import stream
from ..core.workspace import cache_folder

VERSION = 1  # raise it when the same name begins to mean another scene
Thing = Any  # shape, colour, material, position (x, y, z; z up), yaw (degrees), unique: the data set's frozen dataclass
Things = tuple[Thing, ...]
Random = np.random.Generator
Floats = NDArray[np.float64]

SOLIDS = ("cube", "cylinder", "sphere")
SHAPES = (*SOLIDS, "arrow")
MATERIALS = ("rubber", "metal")
COLOURS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
CANVAS = 128  # the canvas that lengths in pixels are given for; other canvases scale them
CHUNK = 50  # pictures per file of the cache


class Room(Protocol):
    """What the judge asks of the Arrow room: descriptions of lawful scenes, pictures of any scene, and the camera."""

    @property
    def canvas(self) -> int: ...

    @property
    def version(self) -> int: ...

    def annotated(self, train: int, /) -> Room: ...

    def split(self, name: Split, /) -> Examples: ...

    def scene(self, name: Split, index: int, /) -> Things: ...

    def draw(
        self, things: Things, pattern: int, /
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]: ...

    def project(self, points: Floats, /) -> Floats: ...


class Picture(NamedTuple):
    """A scene that has been drawn. image: (3, H, W) uint8. mask: (H, W) int8, which thing is seen, -1 for none."""

    things: Things
    image: NDArray[np.uint8]
    mask: NDArray[np.int8]


def pictures(
    room: Room, what: str, index: Sequence[int], make: Callable[[int], Things]
) -> list[Picture]:
    """The scenes make(i) for every i in `index`, drawn now or kept from before. what: their name, for the cache."""
    found: list[Picture] = []
    folder = cache_folder() / "judge" / f"arrow-scenes-v{VERSION}-{room.version}-{room.canvas}"
    for start in range(0, len(index), CHUNK):
        here = list(index[start : start + CHUNK])
        path = folder / f"{what.replace(' ', '-')}-{here[0]:05d}-{len(here):03d}.npz"
        scenes = [make(i) for i in here]
        if not path.exists():
            drawn = []
            for k, (i, things) in enumerate(zip(here, scenes, strict=True)):
                report(f"drawing scenes for the judge: {what}", start + k, len(index))
                drawn.append(room.draw(things, stream("judge pictures", what, i) % 8))
            buffer = io.BytesIO()
            np.savez_compressed(
                buffer,
                image=np.stack([image for image, _ in drawn]),
                mask=np.stack([mask for _, mask in drawn]).astype(np.int8),
            )
            write_bytes(path, buffer.getvalue())
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
                images, masks = stored["image"], stored["mask"]
        except Exception as error:  # numpy and zipfile each have their own for a damaged file
            raise DataError(
                f"{path} cannot be read ({type(error).__name__}); delete it, and it is drawn again"
            ) from error
        found += [Picture(*each) for each in zip(scenes, images, masks, strict=True)]
    return found


# --- one thing changed ------------------------------------------------------------------------------------------------


def _arrow(things: Things) -> int:
    return next(place for place, thing in enumerate(things) if thing.shape == "arrow")


def _replaced(things: Things, place: int, **changes: Any) -> Things:
    changed = dataclasses.replace(things[place], **changes)
    return (*things[:place], changed, *things[place + 1 :])


def towards(one: Thing, other: Thing) -> float:
    """The direction from one thing to another seen from above, in degrees counter-clockwise."""
    dx, dy = (b - a for a, b in zip(one.position[:2], other.position[:2], strict=True))
    return math.degrees(math.atan2(dy, dx)) % 360


def _solids(things: Things, unique: bool) -> list[int]:
    return [k for k, t in enumerate(things) if t.shape != "arrow" and t.unique == unique]


def _arrow_turned(room: Room, things: Things, random: Random) -> Things:
    """The arrow points at one of the two equal objects, as exactly as at the odd one before."""
    place, target = _arrow(things), int(random.choice(_solids(things, unique=False)))
    yaw = towards(things[place], things[target]) + random.uniform(-3, 3)
    return _replaced(things, place, yaw=yaw % 360)


def _all_equal(room: Room, things: Things, random: Random) -> Things:
    (odd,), (common, _) = _solids(things, unique=True), _solids(things, unique=False)
    return _replaced(things, odd, shape=things[common].shape)


def _all_different(room: Room, things: Things, random: Random) -> Things:
    shapes = {thing.shape for thing in things}
    (third,) = [shape for shape in SOLIDS if shape not in shapes]
    return _replaced(things, int(random.choice(_solids(things, unique=False))), shape=third)


def _mixed_material(room: Room, things: Things, random: Random) -> Things:
    """One object, or the arrow, of the other material."""
    place = int(random.integers(len(things)))
    (other,) = [material for material in MATERIALS if material != things[place].material]
    return _replaced(things, place, material=other)


def _three(room: Room, things: Things, random: Random) -> Things:
    """One of the objects, not the arrow, is gone."""
    place = int(random.choice([k for k in range(len(things)) if k != _arrow(things)]))
    return (*things[:place], *things[place + 1 :])


def _five(room: Room, things: Things, random: Random) -> Things:
    """One object more, of any shape and colour, not the arrow's."""
    extra = dataclasses.replace(
        things[_solids(things, unique=True)[0]],
        shape=str(random.choice(SOLIDS)),
        colour=str(random.choice(COLOURS)),
        yaw=random.uniform(0, 360),
        unique=False,
    )
    while (added := _put(room, things, extra, random, apart=17)) is None:
        pass
    return (*things, added)


def _no_arrow(room: Room, things: Things, random: Random) -> Things:
    """The arrow is gone, or another object is in its place."""
    place = _arrow(things)
    if random.random() < 0.5:
        return (*things[:place], *things[place + 1 :])
    x, y, _ = things[place].position
    height = things[_solids(things, unique=True)[0]].position[2]
    return _replaced(things, place, shape=str(random.choice(SOLIDS)), position=(x, y, height))


def _two_arrows(room: Room, things: Things, random: Random) -> Things:
    """One of the objects is another arrow, which points anywhere."""
    first = things[_arrow(things)]
    place = int(random.choice([k for k in range(len(things)) if k != _arrow(things)]))
    x, y, _ = things[place].position
    position = (x, y, first.position[2])
    return _replaced(things, place, shape="arrow", position=position, yaw=random.uniform(0, 360))


BROKEN: dict[str, Callable[[Room, Things, Random], Things]] = {
    "arrow turned to another object": _arrow_turned,
    "all three shapes equal": _all_equal,
    "all three shapes different": _all_different,
    "one object of the other material": _mixed_material,
    "three objects": _three,
    "five objects": _five,
    "no arrow": _no_arrow,
    "two arrows": _two_arrows,
}


def broken(room: Room, how: str, name: Split, index: int) -> Things:
    """A lawful scene of a split after one change."""
    random = np.random.default_rng(stream("broken scene", VERSION, how, name, index))
    return BROKEN[how](room, room.scene(name, index), random)


# --- anything at all --------------------------------------------------------------------------------------------------


def anything(room: Room, index: int) -> Things:
    """Two to six objects of any kind anywhere on the floor: what no rule makes likely."""
    random = np.random.default_rng(stream("any scene", VERSION, index))
    example = room.scene("train", index)
    arrow_height = example[_arrow(example)].position[2]
    height = example[_solids(example, unique=True)[0]].position[2]
    mixed, material = random.random() < 0.5, str(random.choice(MATERIALS))
    count = int(random.integers(2, 7))
    things: Things = ()
    for k in range(count):
        arrow = random.random() < (0.7 if k == 0 else 0.15)
        thing = dataclasses.replace(
            example[0],
            shape="arrow" if arrow else str(random.choice(SOLIDS)),
            colour=str(random.choice(COLOURS)),
            material=str(random.choice(MATERIALS)) if mixed else material,
            position=(0.0, 0.0, arrow_height if arrow else height),
            yaw=random.uniform(0, 360),
            unique=False,
        )
        added = _put(room, things, thing, random, apart=13)
        if added is None:
            break
        things = (*things, added)
    for place, thing in enumerate(things):
        if thing.shape == "arrow" and len(things) > 1 and random.random() < 0.6:
            target = int(random.choice([k for k in range(len(things)) if k != place]))
            yaw = towards(thing, things[target]) + random.uniform(-3, 3)
            things = _replaced(things, place, yaw=yaw % 360)
    return things


def _put(room: Room, things: Things, thing: Thing, random: Random, apart: float) -> Thing | None:
    """The thing where it touches no other and is at least `apart` pixels from each; None if no place was found.

    Places are those of lawful scenes and what lies between two of them.
    """
    there = np.array([t.position for t in things]).reshape(-1, 3)
    seen = room.project(there) if len(there) else np.zeros((0, 2))
    for _ in range(60):
        ends = [
            np.array(room.scene("train", int(random.integers(10_000)))[k].position)
            for k in random.integers(4, size=2)
        ]
        share = random.random() if random.random() < 0.5 else 0.0
        x, y, _ = (1 - share) * ends[0] + share * ends[1]
        position = np.array([[x, y, thing.position[2]]])
        here = room.project(position)
        clear = np.hypot(*(there - position)[:, :2].T) > 2.1
        if clear.all() and (np.hypot(*(seen - here).T) > apart * room.canvas / CANVAS).all():
            return dataclasses.replace(thing, position=tuple(map(float, position[0])))
    return None


def bank(room: Room, count: int) -> list[Picture]:
    """`count` pictures that keep no rule: half are lawful scenes with one thing changed, half are anything at all.

    Made of layouts of the training split.
    """
    kinds = list(BROKEN)

    def make(index: int) -> Things:
        if index % 2:
            return anything(room, index)
        return broken(room, kinds[index // 2 % len(kinds)], "train", 20_000 + index)

    return pictures(room, "without rule", range(count), make)
