"""The Arrow room as Mitsuba 3 sees it: CLEVR's ground, lamps, materials and colours; one image and its masks.

Values are those of CLEVR's Blender files (Johnson et al., "CLEVR", CVPR 2017; base_scene.blend, Rubber and MyMetal),
in Mitsuba's nearest terms; what had to be approximated is said where it is done. Only the variant `scalar_rgb` is used:
it needs no compiler at run time and gives the same numbers whatever else the machine does.

An image affords few samples per pixel, so they go where they are seen:

*Objects* are rendered in windows around them, with many samples.
*The ground* is the empty room, which is the same in every image and is rendered once, plus what the objects change of
it: (the scene) - (the empty room), both with the same few samples and the same random numbers, smoothed. Away from
objects and their shadows that is zero, noise included.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..core.errors import DataError
from ._arrow_scene import (
    CAMERA,
    COLOURS,
    FIELD_OF_VIEW,
    MATERIALS,
    RADIUS,
    Thing,
    mesh,
    placed,
    turned,
)

OBJECT_SAMPLES = 16  # per pixel and pass
# Of three passes the middle counts: a glint that one met by chance is none. Rubber has no glints.
OBJECT_PASSES = {"rubber": 2, "metal": 3}
GROUND_SAMPLES = 16  # as many as give every lamp its share; on a canvas of half the side
# Mitsuba's count of a path's segments. Metal: what metal throws onto the ground is not followed (see `render`).
DEPTH = {"rubber": 4, "metal": 3, "ground": 3}
PATTERNS = 8  # how many sets of random numbers the images share

# position, colour and watts of CLEVR's square lamps; all of them look at the origin. At 7 to 8 units' distance squares
# of 0.5 and 1 are as good as points, which make no noise; and, unlike Mitsuba's squares, points cast no shadow.
LAMPS = {
    "key": ((6.4467, -2.9052, 4.2584), (1.0, 0.9323, 0.8167), 100.0),
    "fill": ((-4.6711, -4.0136, 3.0112), (0.7617, 0.8177, 1.0), 30.0),
    "back": ((-1.1685, 2.6460, 5.8157), (1.0, 1.0, 1.0), 50.0),
}
# A spot's light falls off linearly between these angles, a square's with the cosine: up to 60 degrees the difference is
# at most 0.06.
SPOT = (12.0, 120.0)
# Direction and irradiance. The strength of 0.45 in CLEVR's file would come to another number; with this one the empty
# room has the tones of the published backgrounds (root mean square of the difference: 0.01 of white, in linear light).
SUN = ((-0.4145, 0.1946, -0.889), 0.965)
SUN_RADIUS = 0.06  # of its disc, in radians: the softness of shadows
SUN_POINTS = 5  # that the disc is made of
_REACH = 2
_MATTE = "matte"  # what the ground sees of every object
GROUND = 0.8  # the grey of a mesh without material
# Profile of the sweep: distance from the origin along WALL, and height there.
WALL = (-0.903, 0.429)
SWEEP = ((-40, 0), (0, 0), (4, 0.03), (7, 0.10), (11.4, 0.50), (13.3, 1.11), (14.6, 2.17), (15.8, 4.39), (16.6, 7.99),
         (18.1, 23.2))  # fmt: skip
WIDTH = (-30, 27)


@functools.lru_cache(maxsize=1)
def mitsuba() -> Any:
    """The module, with its variant chosen. Raises DataError where it is not installed."""
    try:
        import mitsuba as mi
    except ImportError as error:
        raise DataError(
            "rendering the Arrow room needs Mitsuba 3, which is not installed; "
            "`pip install 'reprise[render]'` (in a clone: `pip install -e '.[render]'`) brings it"
        ) from error
    mi.set_variant("scalar_rgb")
    mi.set_log_level(mi.LogLevel.Error)
    return mi


@dataclass(frozen=True)
class Rendered:
    """One image. image: (3, H, W) uint8. mask: (H, W) int, which object the ray through each pixel's middle meets
    (its place in the scene), -1 for none."""

    image: NDArray[np.uint8]
    mask: NDArray[np.int64]


class Renderer:
    """Renders scenes on a canvas of `side` pixels. Make one per process: the empty room is rendered first."""

    def __init__(self, side: int) -> None:
        mi = mitsuba()
        self.side = side
        self.version = str(mi.__version__)
        self.stage = _stage(mi)
        self.materials = {
            (name, colour): mi.load_dict({"type": "twosided", "bsdf": _material(name, colour)})
            for name in (*MATERIALS, _MATTE)
            for colour in COLOURS
        }
        # One block: the order in which blocks are summed, and so the last bit, cannot depend on threads.
        block = {"block_size": 1 << (side - 1).bit_length()}
        self.light = {
            name: mi.load_dict({"type": "path", "max_depth": depth, **block})
            for name, depth in DEPTH.items()
        }
        self.which = mi.load_dict({"type": "aov", "aovs": "which:shape_index", **block})
        self.coarse = _sensor(side // 2, (0, 0, side // 2, side // 2), GROUND_SAMPLES)
        self.middles = _sensor(side, (0, 0, side, side), 1, middles=True)
        empty = mi.load_dict(self.stage)
        self.patterns = [
            self._light("ground", empty, self.coarse, pattern) for pattern in range(PATTERNS)
        ]
        mean = np.mean(self.patterns, axis=0)
        self.room = _doubled(
            ndimage.gaussian_filter(mean, (side / 64, side / 64, 0), mode="nearest")
        )

    def render(self, things: tuple[Thing, ...], pattern: int) -> Rendered:
        """One scene with sampling pattern `pattern` (taken modulo PATTERNS)."""
        mi = mitsuba()
        pattern %= PATTERNS
        names = [f"thing{place}" for place in range(len(things))]
        real, matte = (
            mi.load_dict(
                {
                    **self.stage,
                    **{
                        name: self._shape(thing, material or thing.material)
                        for name, thing in zip(names, things, strict=True)
                    },
                }
            )
            for material in (None, _MATTE)
        )
        which = np.array(mi.render(real, sensor=self.middles, integrator=self.which, spp=1))
        mask = _places(real, names, which[..., -1])
        # An object's edge reaches half a pixel further, and the darkest of its shadow another pixel.
        touched = ndimage.binary_dilation(
            mask >= 0, np.ones((2 * _REACH + 1, 2 * _REACH + 1), bool)
        )

        # What metal throws back onto the ground (caustics) is left out: CLEVR's renderer smooths it away, and here
        # it would be noise. So the ground sees matte objects.
        change = self._light("ground", matte, self.coarse, pattern) - self.patterns[pattern]
        light = self.room + _doubled(_filled(change, touched))
        ground = light.copy()
        seen_things = [things[place] for place in np.unique(mask[mask >= 0])]
        for thing, window in zip(seen_things, _windows(mask), strict=True):
            material = thing.material
            left, top, right, bottom = window
            sensor = _sensor(self.side, window, OBJECT_SAMPLES)
            passes = [
                self._light(material, real, sensor, pattern + PATTERNS * number)
                for number in range(OBJECT_PASSES[material])
            ]
            here = touched[top:bottom, left:right]
            light[top:bottom, left:right][here] = np.median(passes, axis=0)[here]
        # Around an object is ground, or a mixture of the two; what is brighter than both is a glint on the ground.
        seen = np.where((mask >= 0)[..., None], light, 0)
        edge = touched & (mask < 0)
        light[edge] = np.minimum(light, np.maximum(ground, _most(seen)))[edge]
        # Rubber reflects nothing that a pixel's neighbours do not show as well.
        rubber = [place for place, thing in enumerate(things) if thing.material == "rubber"]
        inside = _inside(mask) & np.isin(mask, rubber)
        light[inside] = ndimage.median_filter(light, (3, 3, 1))[inside]
        # With its own box a pixel's filter becomes a tent, as a bilinear reduction of a larger picture has it, which is
        # what the authors' loader makes.
        for axis in (0, 1):
            light = ndimage.correlate1d(light, [1 / 8, 6 / 8, 1 / 8], axis, mode="nearest")
        return Rendered(displayed(light), mask)

    def _light(self, what: str, scene: Any, sensor: Any, seed: int) -> NDArray[np.float64]:
        """(H, W, 3), linear."""
        image = mitsuba().render(scene, sensor=sensor, integrator=self.light[what], seed=seed)
        return np.array(image, dtype=np.float64)

    def _shape(self, thing: Thing, material_name: str) -> Any:
        mi = mitsuba()
        material = self.materials[material_name, thing.colour]
        if thing.shape == "sphere":
            return {
                "type": "sphere",
                "center": list(thing.position),
                "radius": RADIUS,
                "bsdf": material,
            }
        form = mesh(thing.shape)
        normal = form.normal @ turned(thing.yaw).T
        return _mesh(mi, placed(thing), normal, form.face, material)


def _sensor(
    side: int, window: tuple[int, int, int, int], samples: int, middles: bool = False
) -> Any:
    """CLEVR's camera on a window (x0, y0, x1, y1) of the canvas; `middles`: one ray through each pixel's middle."""
    mi = mitsuba()
    look = mi.ScalarTransform4f().look_at(origin=list(CAMERA), target=[0, 0, 0], up=[0, 0, 1])
    film = {
        "type": "hdrfilm",
        "width": side,
        "height": side,
        "crop_offset_x": window[0],
        "crop_offset_y": window[1],
        "crop_width": window[2] - window[0],
        "crop_height": window[3] - window[1],
        "pixel_format": "rgb",
        "component_format": "float32",
        "rfilter": {
            "type": "box"
        },  # so that the samples of a pixel are its own, and stay stratified
    }
    sampler = {"type": "stratified", "jitter": False} if middles else {"type": "multijitter"}
    return mi.load_dict(
        {
            "type": "perspective",
            "fov": FIELD_OF_VIEW,
            "to_world": look,
            "film": film,
            "sampler": {**sampler, "sample_count": samples},
        }
    )


def _places(scene: Any, names: list[str], number: NDArray[np.float32]) -> NDArray[np.int64]:
    """Mitsuba's numbers of shapes (from 1; 0 is nothing) as places in `names`; -1 for whatever else is there."""
    places = np.full(len(scene.shapes()) + 1, -1)
    for index, shape in enumerate(scene.shapes(), 1):
        if shape.id() in names:
            places[index] = names.index(shape.id())
    return places[np.rint(number).astype(np.int64)]


def _windows(mask: NDArray[np.int64]) -> list[tuple[int, int, int, int]]:
    """Windows (x0, y0, x1, y1) one for each object that is seen, and _REACH around it."""
    height, width = mask.shape
    windows = []
    for rows, columns in filter(None, ndimage.find_objects(mask + 1)):
        windows.append(
            (
                max(columns.start - _REACH, 0),
                max(rows.start - _REACH, 0),
                min(columns.stop + _REACH, width),
                min(rows.stop + _REACH, height),
            )
        )
    return windows


def _inside(mask: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(H, W): whether a pixel and its eight neighbours all show the same object."""
    least = ndimage.minimum_filter(mask, 3, mode="nearest")
    most = ndimage.maximum_filter(mask, 3, mode="nearest")
    inside: NDArray[np.bool_] = (least == most) & (mask >= 0)
    return inside


def _most(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W, 3): the largest value among each pixel and those within _REACH of it."""
    most: NDArray[np.float64] = ndimage.maximum_filter(
        image, (2 * _REACH + 1, 2 * _REACH + 1, 1), mode="nearest"
    )
    return most


def _filled(image: NDArray[np.float64], hidden: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(h, w, 3) where squares of two by two pixels that are `hidden` (2h, 2w) take the value of the nearest that is
    not; then smoothed."""
    squares = hidden.reshape(image.shape[0], 2, image.shape[1], 2)
    half_hidden = np.asarray(np.any(squares, axis=(1, 3)))
    _, nearest = ndimage.distance_transform_edt(half_hidden, return_indices=True)
    smooth: NDArray[np.float64] = ndimage.gaussian_filter(
        image[tuple(nearest)], (0.7, 0.7, 0), mode="nearest"
    )
    return smooth


def _doubled(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """(h, w, 3) to (2h, 2w, 3), linear between the pixels' middles."""
    doubled: NDArray[np.float64] = ndimage.zoom(
        image, (2, 2, 1), order=1, mode="nearest", grid_mode=True
    )
    return doubled


def displayed(light: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W, 3) linear to (3, H, W) sRGB bytes, as Blender's view transform "Default"."""
    light = np.clip(light, 0, 1)
    display = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.ascontiguousarray(np.rint(display * 255).astype(np.uint8).transpose(2, 0, 1))


def _mesh(mi: Any, vertex: Any, normal: Any, face: Any, material: Any) -> Any:
    properties = mi.Properties()
    properties["bsdf"] = material
    made = mi.Mesh(
        "mesh", len(vertex), len(face), properties, has_vertex_normals=normal is not None
    )
    parameters = mi.traverse(made)
    parameters["vertex_positions"] = np.ravel(vertex).astype(np.float32)
    if normal is not None:
        parameters["vertex_normals"] = np.ravel(normal).astype(np.float32)
    parameters["faces"] = np.ravel(face).astype(np.uint32)
    parameters.update()
    return made


def _stage(mi: Any) -> dict[str, Any]:
    """Ground and lamps, made once and shared by all scenes."""
    along = np.array([*WALL, 0]) / np.linalg.norm(WALL)
    across = np.cross([0, 0, 1], along)
    profile = np.array(SWEEP, dtype=float)
    vertex = np.concatenate(
        [profile[:, :1] * along + profile[:, 1:] * [0, 0, 1] + side * across for side in WIDTH]
    )
    slope = np.gradient(profile[:, 1], profile[:, 0])
    normal = np.stack([-slope[:, None] * along + [0, 0, 1]] * 2).reshape(-1, 3)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    n = len(profile)
    left = np.arange(n - 1)
    face = np.concatenate(
        [np.stack([left + n, left + 1 + n, left + 1], 1), np.stack([left + n, left + 1, left], 1)]
    )
    grey = mi.load_dict(
        {
            "type": "twosided",
            "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": GROUND}},
        }
    )
    stage: dict[str, Any] = {"type": "scene", "ground": _mesh(mi, vertex, normal, face, grey)}
    for name, (position, colour, power) in LAMPS.items():
        look = mi.ScalarTransform4f().look_at(origin=list(position), target=[0, 0, 0], up=[0, 0, 1])
        # CLEVR's renderer lets a lamp of area A send power / (4 A) in every direction.
        intensity = [power / 4 * part for part in colour]
        stage[name] = mi.load_dict(
            {
                "type": "spot",
                "to_world": look,
                "beam_width": SPOT[0],
                "cutoff_angle": SPOT[1],
                "intensity": {"type": "rgb", "value": intensity},
            }
        )
    direction, irradiance = SUN
    for point in range(SUN_POINTS):
        stage[f"sun{point}"] = mi.load_dict(
            {
                "type": "directional",
                "direction": list(_sun_point(np.array(direction), point)),
                "irradiance": {"type": "rgb", "value": irradiance / SUN_POINTS},
            }
        )
    return stage


def _sun_point(direction: NDArray[np.float64], point: int) -> NDArray[np.float64]:
    """One of SUN_POINTS directions evenly spread over the sun's disc (a sunflower's seeds)."""
    radius = SUN_RADIUS * np.sqrt((point + 0.5) / SUN_POINTS)
    angle = point * np.pi * (3 - np.sqrt(5))
    across = np.cross(direction, [0, 0, 1])
    across /= np.linalg.norm(across)
    along = np.cross(across, direction)
    moved: NDArray[np.float64] = direction + radius * (
        np.cos(angle) * across + np.sin(angle) * along
    )
    return moved


def _material(name: str, colour: str) -> dict[str, Any]:
    paint = {"type": "rgb", "value": [byte / 255 for byte in COLOURS[colour]]}
    if name == "rubber":
        # Fresnel (1.2) between the colour and a rough 0.8 grey. CLEVR's second layer, 3 % velvet, is left out.
        return {
            "type": "roughplastic",
            "distribution": "ggx",
            "int_ior": 1.2,
            "alpha": 0.35,
            "diffuse_reflectance": paint,
            "specular_reflectance": {"type": "rgb", "value": 0.8},
        }
    if name == _MATTE:
        return {"type": "diffuse", "reflectance": paint}
    # 40 % rough, 60 % nearly a mirror, both in the colour; the anisotropy of 0.25 is left out. The mirror is
    # rougher than CLEVR's 0.01, so that a point's reflection is as wide as the square lamp's would be.
    rough, mirror = (
        {
            "type": "roughconductor",
            "distribution": "ggx",
            "material": "none",
            "alpha": alpha,
            "specular_reflectance": paint,
        }
        for alpha in (0.2, 0.04)
    )
    return {"type": "blendbsdf", "weight": 0.6, "rough": rough, "mirror": mirror}
