"""What the Arrow judge says of images whose verdict is known: lawful, lawful but badly shown, unlawful.

All are of a split that it has not learnt from. The unlawful ones are drawn anew from the description of a lawful scene
with one thing changed, or show a lawful scene in which one object has become none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from ..core.dataset import Split
from ..core.progress import track
from ..core.randomness import stream
from ..core.workspace import data_root
from . import _judge_arrow_junk as junk
from ._judge_arrow_junk import Drawing, Layer, box_of, with_junk
from ._judge_arrow_scenes import BROKEN, CANVAS, Picture, Room, broken, pictures
from ._judge_validation import BLURRED, SHOULD_FAIL, Judged, Row

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]
Random = np.random.Generator

SHOULD_PASS = 0.97
Disturbance = Callable[[Floats, float, Random], Floats]
"""Called with an image (3, H, W) in [0, 255], pixels per pixel of a 128-pixel canvas, and chance."""


def validate(
    judged: Judged, room: Room, n: int, split: Split = "test", only: str = ""
) -> list[Row]:
    """Judge n images of every kind (3, H, W): the same images every time. Draws what is not in the cache.

    only: the kinds whose name contains this.
    """
    published = published_inputs(room.canvas)
    expected: dict[str, tuple[Literal["right", "wrong"], float | None]] = {
        **{name: ("right", required) for name, (_, required) in LAWFUL.items()},
        **dict.fromkeys((*BROKEN, *NONE), ("wrong", SHOULD_FAIL)),
    }
    if len(published):
        expected[PUBLISHED] = ("right", None)
    rows = []
    chosen = [name for name in expected if only in name]
    for name in track(chosen, "validating the judge"):
        verdict, required = expected[name]
        images = published if name == PUBLISHED else np.stack(made(name, room, n, split))
        as_expected = judged(images) == (verdict == "right")
        rate = float(as_expected.mean())
        rows.append(Row(name, verdict, rate, required, len(images), images[~as_expected][:25]))
    return rows


def made(name: str, room: Room, n: int, split: Split) -> list[Images]:
    """The first n images of one kind, each (3, H, W)."""
    if name in BROKEN:
        scenes = functools.partial(broken, room, name, split)
        return [picture.image for picture in pictures(room, f"{split} {name}", range(n), scenes)]
    real = pictures(room, f"{split} lawful", range(n), functools.partial(room.scene, split))
    result = []
    for i, picture in enumerate(real):
        random = np.random.default_rng(stream("arrow judge validation", name, split, i))
        if name in LAWFUL:
            image = LAWFUL[name][0](picture.image.astype(float), room.canvas / CANVAS, random)
            result.append(np.rint(image).clip(0, 255).astype(np.uint8))
        else:
            result.append(_one_that_is_none(picture, real, NONE[name], random))
    return result


PUBLISHED = "published inputs"


def published_inputs(canvas: int) -> Images:
    """The ten inputs of the published set that the figure in its authors' repository shows (10, 3, H, W).

    All are lawful to the eye. They are 112 x 112 there, with one pixel of the figure's frame on every side. There are
    none (0, ...) where the data root does not have them: they cannot be fetched. No limit was ever fitted to them.
    """
    path = data_root() / "gnm_reference_samples_mnist4.npz"
    if not path.exists():
        return np.zeros((0, 3, canvas, canvas), np.uint8)
    with np.load(path, allow_pickle=False) as arrays:
        inputs = arrays["arrow_input_fig10"][:, 1:-1, 1:-1]
    resized = [
        np.asarray(Image.fromarray(one).resize((canvas, canvas), Image.Resampling.BICUBIC))
        for one in inputs
    ]
    return np.stack(resized).transpose(0, 3, 1, 2)


def sheet(rows: Sequence[Row], across: int = 8) -> Image.Image:
    """The first wrongly judged images of every test that has any: one line each, under the test's name."""
    failed = [row for row in rows if len(row.images)]
    if not failed:
        return Image.new("RGB", (across * 8, 8), "white")
    side = failed[0].images.shape[-1] + 2
    page = Image.new("RGB", (across * side, len(failed) * (side + HEADING)), "white")
    write = ImageDraw.Draw(page)
    for line, row in enumerate(failed):
        top = line * (side + HEADING)
        wrong = round((1 - row.rate) * row.n)
        write.text((2, top + 2), f"{row.test}: {wrong} of {row.n} judged wrongly", "black")
        for k, image in enumerate(row.images[:across].transpose(0, 2, 3, 1)):
            page.paste(Image.fromarray(image), (k * side, top + HEADING))
    # a palette takes a third of the file, and is not seen
    return page.quantize(128)


HEADING = 16  # pixels above a line of the sheet


def _one_that_is_none(
    picture: Picture, others: list[Picture], drawing: Drawing, random: Random
) -> Images:
    place = int(random.integers(len(picture.things)))
    return with_junk(picture, place, others, drawing, random)


# --- lawful, shown badly ----------------------------------------------------------------------------------------------


def _real(image: Floats, scale: float, random: Random) -> Floats:
    return image


def _blurred(image: Floats, scale: float, random: Random) -> Floats:
    soft: Floats = ndimage.gaussian_filter(image, (0, scale, scale))
    return soft


def _warped(image: Floats, scale: float, random: Random) -> Floats:
    """Displaced by a smooth random field of about 1 px, correlated over about 8 px."""
    field = ndimage.gaussian_filter(
        random.normal(size=(2, *image.shape[1:])), (0, 4 * scale, 4 * scale)
    )
    field *= scale / field.std()
    where = np.indices(image.shape[1:]) + field
    return np.stack([ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in image])


def _other_light(image: Floats, scale: float, random: Random) -> Floats:
    """Brighter or darker by up to 12 %, a tint of up to 5 %, gamma 0.85 to 1.2."""
    light = (image / 255) ** random.uniform(0.85, 1.2) * random.uniform(0.88, 1.12)
    tinted: Floats = 255 * light * random.uniform(0.95, 1.05, size=(3, 1, 1))
    return tinted


def _noisy(image: Floats, scale: float, random: Random) -> Floats:
    noisy: Floats = image + random.normal(scale=6, size=image.shape)
    return noisy


def _resampled(image: Floats, scale: float, random: Random) -> Floats:
    """Reduced to seven eighths and enlarged again."""
    side = image.shape[-1]
    picture = Image.fromarray(image.round().astype(np.uint8).transpose(1, 2, 0))
    small = picture.resize((side * 7 // 8,) * 2, Image.Resampling.BILINEAR)
    back = small.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(back).astype(np.float64).transpose(2, 0, 1)


def _nearer(image: Floats, scale: float, random: Random) -> Floats:
    """Enlarged or reduced by up to 6 %, and 2 px aside: another camera."""
    zoom, side = random.uniform(0.94, 1.06), image.shape[-1]
    aside = random.uniform(-2, 2, size=2) * scale
    where = np.indices((side, side)).astype(float)
    where = (where - side / 2) * zoom + side / 2 + aside[:, None, None]
    return np.stack([ndimage.map_coordinates(c, where, order=1, mode="nearest") for c in image])


def _all_at_once(image: Floats, scale: float, random: Random) -> Floats:
    image = _blurred(_warped(image, scale, random), 0.7 * scale, random)
    return 0.7 * _noisy(image, scale, random) + 0.3 * _other_light(
        image.clip(0, 255), scale, random
    )


LAWFUL: dict[str, tuple[Disturbance, float | None]] = {
    "real": (_real, SHOULD_PASS),
    "blurred (sigma 1)": (_blurred, BLURRED),
    "warped": (_warped, None),
    "in another light": (_other_light, None),
    "noisy": (_noisy, None),
    "resampled": (_resampled, None),
    "from another distance": (_nearer, None),
    "all of these at once": (_all_at_once, None),
}


# --- objects that are none --------------------------------------------------------------------------------------------


def _blob(own: Layer, others: object, scale: float, random: Random) -> Layer:
    """A smooth closed outline that wanders, shaded like a ball: not what the judge has seen of blobs."""
    row, column, height, width = box_of(own)
    reach = max(height, width, 12 * scale) / 2
    y, x = np.indices(own.cover.shape)
    angle, away = np.arctan2(y - row, x - column), np.hypot(y - row, x - column) / reach
    edge = 0.8 + sum(
        random.uniform(0.1, 0.22) * np.cos(k * angle + random.uniform(0, 6.3)) for k in (2, 3, 5)
    )
    cover = ((edge - away) * reach / (1.5 * scale)).clip(0, 1)
    light = 1.25 - 0.6 * np.hypot((y - row) / reach + 0.4, (x - column) / reach + 0.3)
    colour = (own.colour * own.cover).sum((1, 2)) / max(own.cover.sum(), 1e-6)
    return Layer(colour[:, None, None] * light.clip(0.3, 1.3), cover)


def _smear(own: Layer, others: object, scale: float, random: Random) -> Layer:
    """Drawn out by 22 px in any direction."""
    angle = random.uniform(0, np.pi)
    steps = np.linspace(-11, 11, 23) * scale
    moved = [(s * np.sin(angle), s * np.cos(angle)) for s in steps]
    cover = np.mean([ndimage.shift(own.cover, m, order=1) for m in moved], axis=0)
    colour = [
        np.mean([ndimage.shift(c * own.cover, m, order=1) for m in moved], axis=0) / (cover + 1e-6)
        for c in own.colour
    ]
    return Layer(np.stack(colour), cover)


NONE: dict[str, Drawing] = {
    "a blob for an object": _blob,
    "a smear for an object": _smear,
    "half an object": junk._half,
    "a scrambled object": junk._scrambled,
    "a mean of objects for an object": junk._several_at_once,
}
