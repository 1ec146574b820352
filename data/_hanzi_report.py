"""Composed characters, looked at and measured: writes reports/hanzi.md and reports/hanzi.png.

python -m reprise.data._hanzi_report [ROOT]
"""

from __future__ import annotations

import io
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..core.dataset import SPLITS
from ..core.files import write_bytes, write_text
from . import _hanzi_render
from ._hanzi_strokes import COMPOSED, PARTS, characters
from .hanzi import SIDE, Hanzi

COLUMNS = 10
FIRST, SECOND = (214, 69, 65), (31, 97, 141)
Picture = NDArray[np.uint8]  # (H, W, 3)


def main(root: Path = Path()) -> None:
    """Write the picture and the page below `root`."""
    data = Hanzi()
    test = data.split("test")
    assert test.label is not None
    assert test.objects is not None
    assert test.owner is not None
    rows: list[list[Picture]] = [[], [], [], []]
    for label, name in enumerate(data.names):
        one, two, three = np.flatnonzero(test.label == label)[:3].tolist()
        rows[0].append(_grey(_still(name)))
        for row, index in ((1, one), (2, two)):
            rows[row].append(_grey(test.image[np.array([index])][0, 0]))
        chosen = np.array([three])
        box = test.objects.box[three].astype(int)
        rows[3].append(_parts(test.image[chosen][0, 0], test.owner[chosen][0], box))
    blocks = [
        np.concatenate([np.concatenate(row[start : start + COLUMNS], axis=1) for row in rows])
        for start in range(0, len(data.names), COLUMNS)
    ]
    gap = np.full((6, COLUMNS * SIDE, 3), 235, np.uint8)
    sheet = np.concatenate([piece for block in blocks for piece in (block, gap)][:-1])
    buffer = io.BytesIO()
    # The last two bits of a colour are not seen, and take half of the file.
    Image.fromarray(sheet | 0x03).save(buffer, "PNG", optimize=True)
    write_bytes(root / "reports" / "hanzi.png", buffer.getvalue())
    write_text(root / "reports" / "hanzi.md", _page(data))


def _still(name: str) -> NDArray[np.uint8]:
    """A character as its strokes are, before anything is moved."""
    calm = _hanzi_render.Hand(np.eye(2)[None], np.array([0.05]), np.ones(1))
    parts = characters("makemeahanzi")[name]
    drawn = _hanzi_render.draw(parts, np.zeros(1, np.uint64), calm, SIDE, shake=0)
    image: NDArray[np.uint8] = drawn.image[0]
    return image


def _grey(image: NDArray[np.uint8]) -> Picture:
    picture: Picture = np.repeat(255 - image[..., None], 3, axis=2)
    return picture


def _parts(image: NDArray[np.uint8], owner: NDArray[np.uint8], box: NDArray[np.int64]) -> Picture:
    """Each part's ink in its colour, with its box."""
    picture = _grey(image).astype(float)
    for place, colour in enumerate((FIRST, SECOND)):
        share = image[owner == place][:, None] / 255
        picture[owner == place] = 255 * (1 - share) + np.array(colour) * share
        x0, y0, x1, y1 = box[place]
        for edge in (
            np.s_[y0, x0:x1],
            np.s_[y1 - 1, x0:x1],
            np.s_[y0:y1, x0],
            np.s_[y0:y1, x1 - 1],
        ):
            picture[edge] = 0.5 * picture[edge] + 0.5 * np.array(colour)
    return picture.astype(np.uint8)


def _page(data: Hanzi) -> str:
    used = Counter(part for two in COMPOSED.values() for part in two)
    return _PAGE.format(
        rows="\n".join(_measured(one) for one in (data, Hanzi("typed"))),
        names="".join(data.names),
        common=", ".join(f"{part} {count}" for part, count in used.most_common()),
        parts=len(PARTS),
    )


def _measured(data: Hanzi) -> str:
    """A row of the table of statistics: of all images of all splits."""
    splits = [data.split(name) for name in SPLITS]
    image = np.concatenate([part.image[:] for part in splits]) / np.float32(255)
    box = np.concatenate([part.objects.box for part in splits if part.objects is not None])
    width, height = np.median(box[..., 2:] - box[..., :2], axis=(0, 1))
    return (
        f"| {data.info.stand_in} | {len(data.names)} | {len(image):,} | {image.mean():.3f} "
        f"| {(image > 0.1).mean():.3f} "
        f"| {(image**2).sum((1, 2, 3)).mean():.0f} | {width:.0f} x {height:.0f} | {data.digest} |"
    )


_PAGE = """# Composed characters

Written by `python -m reprise.data._hanzi_report`. For each of the 50 characters, from above: its strokes as the
font has them, drawn but not moved; the first two test images of the character, not chosen; the third, with its
first part red, its second blue, and the boxes of both.

![Composed characters](hanzi.png)

They stand in for the 50 characters of CASIA-HWDB1.1 in Min et al. (2020), which need a licence and are not known by
name. They are not the published set, and no number measured on them is a number measured on the published set.

## What they are made of

Medians of the strokes from [Make Me a Hanzi](https://github.com/skishore/makemeahanzi) (Arphic Public License),
which say which strokes belong to which part and where a part stands; bends flatter than 1.2 % of the character's
square are left out. The hand is ours: what is moved, by how much, how wide and how dark a stroke is stands in
`data/_hanzi_render.py`.

{parts} parts make {names}. How often each is used: {common}.

## Statistics

Of all images. Inked: brighter than a tenth. Squares: the sum of all squared intensities of an image. A box: median
width and height of a part. The recipe asks for a mean of 0.15 and about 25 % inked, as tightly cropped samples of
CASIA have.

| | characters | images | mean | inked | squares | box | digest |
|---|---|---|---|---|---|---|---|
{rows}

## What was looked at

- Every character reads as itself, and every stroke has the colour of its part: strokes that close a frame (困, 因)
  belong to the frame, though they are written last.
- Where two parts cross or touch (香, 字), a pixel belongs to the part with more ink there, so the box of a part may
  hold a little of the other's.
- These are neat hands of one school: the order and the number of strokes never change, strokes are never joined,
  and no part is left out. CASIA's writers do all of that; a model that finds parts here has had it easier.
- Pens do not fade within a stroke, and a character is always as large as the image allows.
"""


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
