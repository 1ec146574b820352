"""What stands where in the Arrow room: the sampling rule, the shapes and the camera. No renderer here.

Jiang & Ahn, "Generative Neurosymbolic Machines", NeurIPS 2020, section 4: a room with four objects of CLEVR's eight
colours and two materials, one material per image. One object is an arrow, nearest to the camera; of the other three two
share a shape, the third has another, and the arrow points at that one. Where things stand is stated nowhere; the slots
below were fitted to the positions measured on the published samples (reports/arrow_room.md lays them side by side).

Lengths are CLEVR's (Blender units, z up, the ground at z = 0); pixels count from the top left corner, x to the right.
The *room's frame* is (right, away, up) as the camera sees it, with the origin where the camera looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Split
from ..core.randomness import stream

Floats = NDArray[np.float64]

SHAPES = ("cube", "cylinder", "sphere", "arrow")
SLOTS = ("left", "middle", "right", "front")
MATERIALS = ("rubber", "metal")
# CLEVR gives its renderer these bytes / 255 as *linear* colours: they come out paler than they are written.
COLOURS = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}

# CLEVR's camera without its jitter (the published backgrounds do not move): it looks at the origin.
CAMERA = np.array([7.4811, -6.5076, 5.3437])
FIELD_OF_VIEW = 2 * math.degrees(math.atan(16 / 35))  # 35 mm lens on a 32 mm sensor

RADIUS = 0.85  # half the side of a cube, the radius of cylinders and spheres; every object is of this size
ARROW_HALF_LENGTH = 1.0
ARROW_HEIGHT = 0.42
# Where an object's centre may be, uniformly: (right, away) from ... to, in the room's frame.
ZONES = {
    "left": ((-3.30, -2.00), (-1.85, 0.35)),
    "middle": ((-0.65, 0.80), (0.45, 2.50)),
    "right": ((1.95, 3.30), (-1.85, 0.35)),
    "front": ((-1.45, 1.35), (-4.75, -2.15)),
}
YAW_ERROR = 3.0  # degrees either way
GAP = 0.15  # between the discs that objects stand on
HIDDEN = 0.5  # at most this much of an object's pixel box lies behind a nearer one's, or outside the image


@dataclass(frozen=True)
class Thing:
    """One object. position: (x, y, z) of its centre in the world. yaw: degrees counter-clockwise from the x axis,
    for the arrow the direction it points in. unique: whether it is the one that the arrow points at."""

    shape: str
    colour: str
    material: str
    slot: str
    position: tuple[float, float, float]
    yaw: float
    unique: bool


def sample(seed: int, split: Split, index: int) -> tuple[Thing, ...]:
    """The four objects of one scene in the order of SLOTS: a function of (seed, split, index) and nothing else."""
    key = ("arrow_room", seed, split, index)

    def uniform(low: float, high: float, *names: object) -> float:
        return low + (high - low) * stream(*key, *names) / 2**63

    common = SHAPES[stream(*key, "common") % 3]
    others = [shape for shape in SHAPES[:3] if shape != common]
    odd = others[stream(*key, "unique") % 2]
    chosen = stream(*key, "unique slot") % 3
    shapes = [odd if slot == chosen else common for slot in range(3)] + ["arrow"]
    colours = [list(COLOURS)[stream(*key, "colour", slot) % 8] for slot in SLOTS]
    material = MATERIALS[stream(*key, "material") % 2]
    attempt = 0
    while True:
        things: list[Thing] = []
        for slot, shape, colour in zip(SLOTS, shapes, colours, strict=True):
            right, away = (
                uniform(low, high, attempt, slot, axis)
                for axis, (low, high) in enumerate(ZONES[slot])
            )
            height = ARROW_HEIGHT / 2 if shape == "arrow" else RADIUS
            x, y, z = to_world(np.array([right, away, height]))
            unique = SLOTS.index(slot) == chosen
            if shape == "arrow":
                target = things[chosen].position
                yaw = math.degrees(math.atan2(target[1] - y, target[0] - x))
                yaw = (yaw + uniform(-YAW_ERROR, YAW_ERROR, attempt, "yaw error")) % 360
            else:
                yaw = uniform(0, 360, attempt, slot, "yaw")
            things.append(
                Thing(shape, colour, material, slot, (float(x), float(y), float(z)), yaw, unique)
            )
        if _lawful(things):
            return tuple(things)
        attempt += 1


def _lawful(things: list[Thing]) -> bool:
    """Whether nothing touches and enough of everything can be seen."""
    for one, other in combinations(things, 2):
        apart = math.dist(one.position[:2], other.position[:2])
        if apart < _footprint(one.shape) + _footprint(other.shape) + GAP:
            return False
    boxes = [projected_box(thing) for thing in things]
    depths = [float(project(np.array([thing.position]))[0, 2]) for thing in things]
    if depths.index(min(depths)) != SLOTS.index("front"):
        return False
    for box, depth in zip(boxes, depths, strict=True):
        if _overlap(box, (0, 0, 1, 1)) < (1 - HIDDEN) * _area(box):
            return False
        for cover, nearer in zip(boxes, depths, strict=True):
            if nearer < depth and _overlap(box, cover) > HIDDEN * _area(box):
                return False
    return True


def _footprint(shape: str) -> float:
    """Radius of the disc that an object stands on."""
    return {"cube": math.sqrt(2) * RADIUS, "arrow": ARROW_HALF_LENGTH}.get(shape, RADIUS)


Box = tuple[float, float, float, float]


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def _overlap(one: Box, other: Box) -> float:
    return _area(
        (
            max(one[0], other[0]),
            max(one[1], other[1]),
            min(one[2], other[2]),
            min(one[3], other[3]),
        )
    )


# --- the camera ---------------------------------------------------------------------------------------------------

_FORWARD = -CAMERA / np.linalg.norm(CAMERA)
_AWAY = np.array([_FORWARD[0], _FORWARD[1], 0]) / math.hypot(_FORWARD[0], _FORWARD[1])
_RIGHT = np.cross(_AWAY, [0, 0, 1])
_DOWN = np.cross(_FORWARD, _RIGHT)
_FOCAL = 0.5 / math.tan(math.radians(FIELD_OF_VIEW / 2))  # in units of the image's side


def to_world(point: Floats) -> Floats:
    """(..., 3) points of the room's frame (right, away, up) in the world."""
    world: Floats = point[..., :1] * _RIGHT + point[..., 1:2] * _AWAY
    world[..., 2] += point[..., 2]
    return world


def project(point: Floats) -> Floats:
    """(N, 3) world points as (N, 3): x and y in units of the image's side from the top left, and the depth."""
    from_camera = point - CAMERA
    depth = from_camera @ _FORWARD
    x = 0.5 + _FOCAL * (from_camera @ _RIGHT) / depth
    y = 0.5 + _FOCAL * (from_camera @ _DOWN) / depth
    return np.stack([x, y, depth], axis=1)


def projected_box(thing: Thing) -> Box:
    """The box (x0, y0, x1, y1) around the object's silhouette, in units of the image's side, whatever hides it."""
    x, y, _ = project(placed(thing)).T
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


# --- the shapes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mesh:
    """A closed surface around the origin. vertex: (V, 3). normal: (V, 3), where it is smooth. face: (F, 3)."""

    vertex: Floats
    normal: Floats
    face: NDArray[np.int64]


def placed(thing: Thing) -> Floats:
    """(V, 3): the vertices of an object's mesh in the world."""
    vertex: Floats = mesh(thing.shape).vertex @ turned(thing.yaw).T + np.array(thing.position)
    return vertex


def turned(yaw: float) -> Floats:
    """(3, 3): the rotation by `yaw` degrees about the vertical."""
    cos, sin = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


@cache
def mesh(shape: str) -> Mesh:
    """The mesh of "cube", "cylinder", "sphere" or "arrow" (pointing along x)."""
    makers: dict[str, Callable[[], Mesh]] = {
        "cube": _cube,
        "cylinder": _cylinder,
        "sphere": _sphere,
        "arrow": _arrow,
    }
    return makers[shape]()


def _cube(bevel: float = 0.1, steps: int = 4) -> Mesh:
    """A cube with rounded edges: its surface is pulled onto the ball of radius `bevel` around an inner cube."""
    arc = np.tan(np.linspace(0, math.pi / 4, steps + 1))
    half = 1 - bevel + bevel * arc
    line = np.concatenate([-half[::-1], half])  # from edge to edge, dense where it is round
    u, v = np.meshgrid(line, line, indexing="ij")
    side = len(line)
    corner = np.arange(side * side).reshape(side, side)
    vertices: list[Floats] = []
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            point = np.empty((side * side, 3))
            point[:, axis] = sign
            point[:, (axis + 1) % 3], point[:, (axis + 2) % 3] = u.ravel() * sign, v.ravel()
            faces.append(_quads(corner) + len(vertices) * side * side)
            vertices.append(point)
    point = np.concatenate(vertices)
    inner = np.clip(point, bevel - 1, 1 - bevel)
    normal = _unit(point - inner)
    return Mesh(RADIUS * (inner + bevel * normal), normal, np.concatenate(faces))


def _cylinder(bevel: float = 0.08, steps: int = 4, around: int = 64) -> Mesh:
    """A cylinder with rounded rims: a profile turned about the vertical."""
    angle = np.linspace(0, math.pi / 2, steps + 1)
    rim_normal = np.stack(
        [np.sin(angle), np.cos(angle)], axis=1
    )  # (radius, height), from the top outwards
    rim = 1 - bevel + bevel * rim_normal
    down = np.array([1.0, -1.0])
    profile = np.concatenate([[[0.0, 1.0]], rim, (rim * down)[::-1], [[0.0, -1.0]]])
    across = np.concatenate([[[0.0, 1.0]], rim_normal, (rim_normal * down)[::-1], [[0.0, -1.0]]])
    return _turned_about(RADIUS * profile, across, around)


def _sphere(steps: int = 24, around: int = 48) -> Mesh:
    angle = np.linspace(0, math.pi, steps + 1)
    profile = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return _turned_about(RADIUS * profile, profile, around)


def _turned_about(profile: Floats, normal: Floats, around: int) -> Mesh:
    """The surface that a profile (P, 2) of (radius, height) and its normals make when turned about the vertical."""
    turn = np.linspace(0, 2 * math.pi, around, endpoint=False)
    spin = np.stack([np.cos(turn), np.sin(turn)], axis=1)  # (A, 2)

    def swept(curve: Floats) -> Floats:
        flat = curve[:, None, :1] * spin  # (P, A, 2)
        high = np.broadcast_to(curve[:, None, 1:], (*flat.shape[:2], 1))
        return np.concatenate([flat, high], axis=2).reshape(-1, 3)

    corner = np.arange(len(profile) * around).reshape(len(profile), around)
    closed = np.concatenate([corner, corner[:, :1]], axis=1)
    return Mesh(swept(profile), swept(normal), _quads(closed))


def _arrow(bevel: float = 0.04) -> Mesh:
    """A block arrow: seven corners, upright walls, a chamfered upper edge."""
    neck, head, shaft = -0.05, 0.62, 0.27  # where the head begins, half its width, half the shaft's
    outline = ARROW_HALF_LENGTH * np.array(
        [
            (1, 0),
            (neck, head),
            (neck, shaft),
            (-1, shaft),
            (-1, -shaft),
            (neck, -shaft),
            (neck, -head),
        ]
    )  # counter-clockwise from the tip
    half = ARROW_HEIGHT / 2
    rings = [
        np.column_stack([ring, np.full(7, height)])
        for ring, height in (
            (outline, -half),
            (outline, half - bevel),
            (_inset(outline, bevel), half),
        )
    ]
    triangles = []
    for lower, upper in pairwise(rings):
        for i in range(7):
            j = (i + 1) % 7
            triangles += [(lower[i], lower[j], upper[j]), (lower[i], upper[j], upper[i])]
    for a, b, c in ((0, 1, 6), (2, 3, 4), (2, 4, 5)):
        triangles.append((rings[2][a], rings[2][b], rings[2][c]))
        triangles.append((rings[0][c], rings[0][b], rings[0][a]))
    corner = np.array(triangles)  # (F, 3, 3), flat: every triangle has vertices of its own
    normal = _unit(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]))
    face = np.arange(3 * len(corner)).reshape(-1, 3)
    return Mesh(corner.reshape(-1, 3), normal.repeat(3, axis=0), face)


def _inset(outline: Floats, by: float) -> Floats:
    """A counter-clockwise polygon (P, 2) with every edge moved inwards by `by`."""
    edge = _unit(np.roll(outline, -1, axis=0) - outline)
    inwards = np.stack([-edge[:, 1], edge[:, 0]], axis=1)
    before = np.roll(inwards, 1, axis=0)
    # The corner of two moved lines: along the bisector, by / cos(half the angle between their normals).
    bisector = inwards + before
    moved: Floats = outline + by * 2 * bisector / (bisector**2).sum(axis=1, keepdims=True)
    return moved


def _quads(corner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Two triangles for each cell of a grid of vertex numbers."""
    a, b, c, d = (
        part.ravel()
        for part in (corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:])
    )
    return np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])


def _unit(vector: Floats) -> Floats:
    unit: Floats = vector / np.linalg.norm(vector, axis=-1, keepdims=True)
    return unit
