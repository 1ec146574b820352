"""ArrowRoom-R beside real images, looked at and measured: writes reports/arrow_room.md and reports/arrow_room.png.

    python -m reprise.data._arrow_report [ROOT]

Needs two files in the data root that cannot be fetched: `gnm_reference_samples_mnist4.npz` (key `arrow_input_fig10`:
ten inputs cut from the figure in the authors' repository, 112 x 112) and `clevr_examples8.npz` (eight example images of
the CLEVR generator's repository).
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ..core.errors import DataError
from ..core.files import write_bytes, write_text
from ..core.workspace import data_root
from . import _arrow_render, _arrow_scene
from ._arrow_scene import SLOTS
from .arrow_room import ArrowRoom, render

Pictures = NDArray[np.uint8]  # (N, H, W, 3)
SIDE = 128
LAYOUTS = 4_000
_ALL = slice(None)

# Measured on 250 published samples and ten published inputs: 5th, 50th and 95th percentile of the box's middle, and the
# typical width and height, in pixels.
PUBLISHED = {
    "left": ((20, 25, 36), (53, 59, 66), 33, 30),
    "middle": ((57, 63, 72), (43, 46, 52), 24, 23),
    "right": ((91, 101, 109), (54, 59, 66), 33, 30),
    "front": ((42, 64, 84), (78, 91, 106), 29, 25),
}


def main(root: Path = Path()) -> None:
    """Write the picture and the page below `root`."""
    inputs = _loaded("gnm_reference_samples_mnist4.npz", "arrow_input_fig10")
    clevr = _loaded("clevr_examples8.npz", "images")
    # One pixel of the figure's frame is on every side of the cut.
    real = _resized(inputs[:, 1:-1, 1:-1], SIDE, SIDE)
    began = time.process_time()
    drawn = [render(0, "test", SIDE, index) for index in range(40)]
    seconds = (time.process_time() - began) / len(drawn)
    ours = np.stack([image for image, _ in drawn]).transpose(0, 2, 3, 1)
    # CLEVR's examples are 320 x 240; the middle of each, as high as it is wide.
    rows = [_row(real), _row(ours[:10]), _row(_resized(clevr[:, :, 40:280], SIDE, SIDE))]
    buffer = io.BytesIO()
    picture = Image.fromarray(np.concatenate(rows))
    # The last bit of a colour is not seen, and takes a third of the file.
    Image.fromarray(np.asarray(picture) & 0xFE).save(buffer, "PNG", optimize=True)
    write_bytes(root / "reports" / "arrow_room.png", buffer.getvalue())
    write_text(root / "reports" / "arrow_room.md", _page(real, ours, seconds))


def _loaded(file: str, key: str) -> Pictures:
    path = data_root() / file
    if not path.exists():
        raise DataError(f"{path} does not exist; the comparison needs it (see the docstring)")
    with np.load(path, allow_pickle=False) as arrays:
        found: Pictures = arrays[key]
    return found


def _resized(pictures: Pictures, width: int, height: int) -> Pictures:
    return np.stack(
        [
            np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC))
            for one in pictures
        ]
    )


def _row(pictures: Pictures) -> Pictures:
    """Pictures side by side, with a white line below."""
    row = np.concatenate(pictures, axis=1)
    row = np.pad(row, ((0, 2), (0, max(0, 10 * SIDE - row.shape[1])), (0, 0)), constant_values=255)
    return row[:, : 10 * SIDE]


def _boxes() -> NDArray[np.float64]:
    """(N, 4, 4): boxes (x0, y0, x1, y1) of the objects of many scenes in pixels, cut at the image's border."""
    data = ArrowRoom()
    boxes = [
        [_arrow_scene.projected_box(thing) for thing in data.scene("train", index)]
        for index in range(LAYOUTS)
    ]
    cut: NDArray[np.float64] = np.clip(np.array(boxes) * SIDE, 0, SIDE)
    return cut


def _found(pictures: Pictures) -> dict[str, NDArray[np.float64]]:
    """Boxes by slot, (N, 4), found by colour and darkness alone: what differs from the empty room, in one piece.

    Pieces of two objects that overlap are left out, so is what the border cuts.
    """
    room = _arrow_render.Renderer(SIDE).room
    empty = _arrow_render.displayed(room).transpose(1, 2, 0).astype(float)
    boxes: dict[str, list[Any]] = {slot: [] for slot in SLOTS}
    for picture in pictures.astype(float):
        # Shadows are grey, and no darker than this; objects have a colour or are darker.
        difference = picture - empty
        tinted = np.ptp(difference, axis=-1) > 30
        there = ndimage.binary_opening(tinted | (difference.mean(-1) < -35))
        number, count = ndimage.label(there)
        if count != 4:
            continue
        found = []
        for rows, columns in ndimage.find_objects(number):
            found.append((columns.start, rows.start, columns.stop, rows.stop))
        *back, front = sorted(found, key=lambda box: box[1] + box[3])
        for slot, box in zip(SLOTS, [*sorted(back), front], strict=True):
            if box[0] > 0 and box[2] < SIDE:
                boxes[slot].append(box)
    return {slot: np.array(found, float).reshape(-1, 4) for slot, found in boxes.items()}


def _percentiles(values: NDArray[np.float64]) -> str:
    return " / ".join(f"{value:.0f}" for value in np.percentile(values, [5, 50, 95]))


def _page(real: Pictures, ours: Pictures, seconds: float) -> str:
    x0, y0, x1, y1 = np.moveaxis(_boxes(), -1, 0)  # each (N, 4)
    lines = []
    for place, slot in enumerate(SLOTS):
        x, y, width, height = PUBLISHED[slot]
        name = "arrow" if slot == "front" else f"{slot} object"
        measured = (
            _percentiles((x0 + x1)[:, place] / 2),
            _percentiles((y0 + y1)[:, place] / 2),
            f"{np.median((x1 - x0)[:, place]):.0f} × {np.median((y1 - y0)[:, place]):.0f}",
        )
        given = (" / ".join(map(str, x)), " / ".join(map(str, y)), f"{width} × {height}")
        cells = [cell for pair in zip(given, measured, strict=True) for cell in pair]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    sizes = []
    theirs, mine = _found(real), _found(ours)
    for slot in SLOTS:
        cells = []
        for found in (theirs[slot], mine[slot]):
            wide, high = found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]
            both = f"{np.median(wide):.0f} × {np.median(high):.0f}" if len(found) else "–"
            cells.append(f"{both} ({len(found)})")
        sizes.append(
            f"| {'arrow' if slot == 'front' else f'{slot} object'} | {' | '.join(cells)} |"
        )
    tones = []
    parts: dict[str, tuple[slice, int | slice, slice]] = {
        "whole image": (_ALL, _ALL, _ALL),
        "top row": (_ALL, 1, _ALL),
        "bottom row": (_ALL, -2, _ALL),
        "lower left corner": (_ALL, slice(-20, None), slice(1, 11)),
        "lower right corner": (_ALL, slice(-20, None), slice(-11, -1)),
    }
    for name, part in parts.items():
        cells = [
            " ".join(f"{value:.2f}" for value in pictures[part].reshape(-1, 3).mean(0) / 255)
            for pictures in (real, ours)
        ]
        tones.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return PAGE.format(
        layout="\n".join(lines),
        sizes="\n".join(sizes),
        tones="\n".join(tones),
        layouts=LAYOUTS,
        seconds=seconds,
    )


PAGE = """# ArrowRoom-R beside real images

Written by `python -m reprise.data._arrow_report`. Upper row: ten inputs of the published Arrow room, cut from
the figure in the authors' repository (112 × 112 there, enlarged to 128). Middle row: ArrowRoom-R, the first ten test
scenes, not chosen. Lower row: example images of the CLEVR generator (the middle square of each).

![Arrow room, ArrowRoom-R and CLEVR](arrow_room.png)

ArrowRoom-R is our own rendering of the rule of Jiang & Ahn (2020), section 4. It is not the published set, and no
number measured on it is a number measured on the published set.

## Where things are

5th / 50th / 95th percentile of the middle of an object's box, and its typical size, in pixels of a 128 × 128 image.
"Published": as measured on the 250 published samples and ten inputs. "Ours": {layouts:,} scenes.

| | x published | x ours | y published | y ours | size published | size ours |
|---|---|---|---|---|---|---|
{layout}

By these numbers the widths are smaller here, though spheres are round and cylinders higher than wide in both. One plain
segmentation (what differs in colour or darkness from the empty room) of the ten inputs and of 40 of ours finds the
same sizes in both (median width × height, with the number of objects that were found whole and apart):

| | ten published inputs | ArrowRoom-R |
|---|---|---|
{sizes}

## Tones

Mean red, green and blue, 1 = white.

| | ten published inputs | ArrowRoom-R |
|---|---|---|
{tones}

## What was looked at

- The camera is CLEVR's, without jitter: spheres in the inputs shrink and rise with distance as its height and tilt
  demand.
- The lamps are CLEVR's at CLEVR's strengths. The strength of the sun was fitted to the empty parts of the inputs, one
  number for all three colours.
- The ground's shading, the soft shadows, the pale matte colours and the dark upper faces of metal agree by eye.
- Metal is a little grainier than in the inputs, shows other metal darker (few reflections are followed), and throws no
  light onto the ground. The inputs are softer, having been reduced twice.
- One picture took {seconds:.2f} s of processor time on the machine that wrote this page, while other work was running.
"""


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
