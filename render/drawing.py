"""What all figures share: their style, their labels, and PNGs that remember what they were drawn from. No torch here.

The same rows and arrays give the same bytes: fonts are matplotlib's own, and nothing of the day or the machine is
written into a file. A PNG remembers the digest of what it was drawn from, so that a page can say whether the figure
beside it still belongs to its numbers when the arrays themselves are gone (`runs/` is not kept for ever).
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from matplotlib.figure import Figure
from PIL import Image, ImageChops, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ..core.files import write_bytes
from .table import ResultTable, briefly

# Okabe & Ito 2008, distinguishable with every common colour blindness; yellow is left out (unreadable on white).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT = "#1d1d1f", "#8a8a8f"
MOST_BYTES = 300_000  # a figure is committed with every report
GREY = 6  # how far apart, of 255, the channels of what is as good as grey may be
SHARP = 200  # dots per inch of a figure that stays below that
OUTDATED = "drawn from earlier or fewer arrays than the rows name"

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e4e4e7",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "reprise",
    "text.parse_math": False,  # a label is text, whatever dollars it holds
}


@dataclass(frozen=True)
class Drawn:
    """A figure of a page. path: the PNG, None if it could not be drawn and no earlier one stands.

    title and caption: what the page says of it. stale: why it may not belong to the rows, or why it is not there.
    gone: whether it is not there because its arrays, which were measured once, are not.
    """

    title: str
    caption: str
    path: Path | None
    stale: str = ""
    gone: bool = False


def short(label: str) -> str:
    """A label that leaves room for the picture."""
    label = " ".join(label.split())
    return label if len(label) <= 28 else f"{label[:27]}…"


def on(table: ResultTable, dataset: str) -> str:
    """A dataset's label, and below it what stood in for the published images."""
    return short(dataset) + ours_on(table, dataset)


def ours_on(table: ResultTable, dataset: str) -> str:
    """What stood in for the published images, as a line below the label; "" where nothing did."""
    found = next((e.stand_in for e in table.entries if e.dataset == dataset and e.stand_in), "")
    return f"\n(ours: {briefly(found)})" if found else ""


@dataclass(frozen=True)
class Memory:
    """What a PNG remembers: the digest of what it was drawn from, the sentence on what it lacks, a gallery's panels."""

    source: str
    absent: str
    panels: frozenset[str] = frozenset()


def remembered(path: Path) -> Memory | None:
    """What the figure at `path` remembers; None if there is no figure."""
    try:
        with Image.open(path) as image:
            info = image.info
            panels = map(unquote, str(info.get("Panels", "")).split())
            said = unquote(str(info.get("Description", "")))
            return Memory(str(info.get("Source", "")), said, frozenset(panels))
    except (OSError, UnidentifiedImageError):
        return None


def save(
    figure: Figure, path: Path, source: str, absent: str = "", panels: Iterable[object] = ()
) -> None:
    """Write the figure as PNG, as sharp as MOST_BYTES allows, with what `remembered` will be asked for."""
    text = PngInfo()
    text.add_text("Source", source)
    text.add_text("Description", quote(absent))
    if shown := " ".join(quote(repr(key)) for key in panels):
        text.add_text("Panels", shown)
    if figure.get_layout_engine() is not None:
        figure.set_dpi(SHARP)
        figure.draw_without_rendering()  # lays it out, once: savefig would for its margins and again for the picture
        figure.set_layout_engine("none")
    for dpi in (SHARP, 160, 130, 110, 90, 72):
        plain, out = io.BytesIO(), io.BytesIO()
        figure.savefig(
            plain,
            format="png",
            dpi=dpi,
            bbox_inches="tight",
            pad_inches=0.08,
            pil_kwargs={"compress_level": 0},
        )
        image = _lean(Image.open(plain))
        image.save(out, format="png", dpi=(dpi, dpi), pnginfo=text)
        if out.tell() <= MOST_BYTES:
            break
    write_bytes(path, out.getvalue())


def _lean(image: Image.Image) -> Image.Image:
    """Without transparency, and with one channel where it is as good as grey: fewer bytes, or so much sharper."""
    image = image.convert("RGB")
    red, green, blue = image.split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    least = ImageChops.darker(ImageChops.darker(red, green), blue)
    coloured = any(ImageChops.subtract(most, least).histogram()[GREY + 1 :])
    return image if coloured else image.convert("L")


def save_image(image: Image.Image, path: Path, memory: Memory) -> None:
    """Write an image as it is, with what `remembered` will be asked for."""
    out, text = io.BytesIO(), PngInfo()
    text.add_text("Source", memory.source)
    text.add_text("Description", quote(memory.absent))
    image.save(out, format="png", optimize=True, pnginfo=text)
    write_bytes(path, out.getvalue())


def inches(path: Path) -> float:
    """How wide the figure was drawn, whatever its resolution."""
    with Image.open(path) as image:
        return float(image.width / image.info.get("dpi", (100, 100))[0])
