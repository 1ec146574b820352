"""Galleries of stored arrays, and a small sheet of each cell's own images. No torch here.

A gallery whose arrays are gone is kept as it stands, or drawn anew from the sheets where they hold as much.
"""

from __future__ import annotations

import logging
import re
import textwrap
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ..core.artifacts import Artifacts
from ..core.protocol import Gallery
from .drawing import FAINT, OUTDATED, Drawn, Memory, on, remembered, save, save_image, short
from .table import ResultTable

__all__ = ["drawn", "gallery", "sheets"]

log = logging.getLogger(__name__)

BESIDE = 16  # characters of a line of a label, for which there is room beside the images

Panels = dict[tuple[str, str], NDArray[np.uint8]]


def drawn(table: ResultTable, protocol: Gallery, artifacts: Artifacts, path: Path) -> Drawn:
    """Draw the gallery if all its arrays, or small images of them, are there; else keep the figure that stands."""
    title = "Images"
    caption = f"The arrays “{protocol.array}” that were stored beside the cells, first seed."
    source = artifacts.source
    panels, stands = _panels(table, protocol, artifacts), remembered(path)
    small = _from_sheets(table, protocol, path.parent / "cells", panels) if artifacts.gone else {}
    panels = _alike(_cut_to(small, {**panels, **small}))
    # What stands is as good as its arrays were; sheets are for one that other rows have outdated, and lose it nothing
    # that it remembers.
    worse = stands is not None and (
        stands.source == source
        or not stands.panels
        or not stands.panels <= {repr(key) for key in panels}
    )
    if panels and not (artifacts.gone and worse):
        absent = _left_out(table, panels, small)
        save(gallery(table, protocol, panels), path, source, absent, panels)
        return Drawn(title, caption + absent, path)
    if stands is not None:
        log.info("%s: arrays are gone; %s is kept as it is", table.name, path)
        fresh = "" if stands.source == source else OUTDATED
        return Drawn(title, caption + stands.absent, path, fresh)
    if artifacts.named:
        return Drawn(title, caption, None, "the stored arrays are no longer there", gone=True)
    return Drawn(title, caption, None, "no arrays yet: no cell of this figure has been measured")


def _panels(table: ResultTable, protocol: Gallery, artifacts: Artifacts) -> Panels:
    """(model, dataset) -> tiles (rows, columns, C, H, W), first seed and first metric that stored the array."""
    panels: Panels = {}
    reference = protocol.reference
    for (model, dataset, _, _), arrays in sorted(artifacts.items(), key=lambda item: item[0][3]):
        for label, name in ((model, protocol.array), ("Data", reference)):
            if name and name in arrays and (label, dataset) not in panels:
                tiles = _tiles(arrays[name], protocol.rows, protocol.columns)
                if tiles is not None:
                    panels[label, dataset] = tiles
    return panels


def _from_sheets(
    table: ResultTable, protocol: Gallery, folder: Path, there: Collection[tuple[str, str]]
) -> Panels:
    """The panels whose arrays are gone, from the small sheets of their cells in `folder`: ten images at most."""
    panels: Panels = {}
    if protocol.array == "grid" and protocol.columns > SHEET[1]:
        return panels  # a sheet holds its first rows, but no whole one of them
    for entry in table.entries:
        key = (entry.model, entry.dataset)
        row = next((row for row in entry.rows if row.artifact and row.status == "ok"), None)
        if row is None or key in there or key in panels or not _is_a_cells(row.cell):
            continue
        path = folder / f"{row.cell}.png"
        sheet = remembered(path)
        if sheet is None or sheet.source != row.artifact_digest:
            continue
        if not sheet.absent.startswith(f"“{protocol.array}”"):
            continue
        cut = _cut(path)
        if cut is None:
            continue
        images = cut if protocol.array == "grid" else cut.reshape(-1, *cut.shape[2:])
        tiles = _tiles(images, protocol.rows, protocol.columns)
        if tiles is not None:
            panels[key] = tiles
    return panels


def _cut(path: Path) -> NDArray[np.uint8] | None:
    """The square tiles (R, D, C, H, W) that `_mosaic` laid into a sheet; None if it holds others."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    for rows in range(SHEET[0], 0, -1):
        for side in range(1, TILE + 1):
            gap = max(1, side // 32)
            across, rest = divmod(pixels.shape[1] + gap, side + gap)
            if rows * (side + gap) - gap == pixels.shape[0] and rest == 0 and across <= SHEET[1]:
                step = side + gap
                cut = [
                    [pixels[r * step : r * step + side, c * step : c * step + side] for c in range(across)]
                    for r in range(rows)
                ]  # fmt: skip
                return np.array(cut).transpose(0, 1, 4, 2, 3)
    return None


def _cut_to(small: Panels, panels: Panels) -> Panels:
    """No panel with more rows than what is left of those whose arrays are gone: the rest of the page would be blank."""
    rows = max((tiles.shape[0] for tiles in small.values()), default=None)
    return {key: tiles[:rows] for key, tiles in panels.items()}


def _alike(panels: Panels) -> Panels:
    """All panels with as many rows and columns as the largest: models with fewer components leave tiles white."""
    rows, columns = (max((t.shape[axis] for t in panels.values()), default=0) for axis in (0, 1))
    return {
        key: np.pad(
            tiles,
            [(0, rows - tiles.shape[0]), (0, columns - tiles.shape[1]), (0, 0), (0, 0), (0, 0)],
            constant_values=255,
        )
        for key, tiles in panels.items()
    }


def _tiles(array: NDArray[Any], rows: int, columns: int) -> NDArray[np.uint8] | None:
    """The first rows x columns images of (N, C, H, W), or the corner of a grid (R, D, C, H, W); None if neither."""
    if array.ndim == 4:
        array = array[: rows * columns]
        short = rows * columns - len(array)
        blank = np.full((short, *array.shape[1:]), 255, array.dtype)
        array = np.concatenate([array, blank]).reshape(rows, columns, *array.shape[1:])
    if array.ndim != 5 or array.shape[2] not in (1, 3) or not array.size:
        return None
    if array.dtype != np.uint8:
        array = (np.clip(array.astype(np.float64), 0, 1) * 255).round().astype(np.uint8)
    return np.asarray(array[:rows, :columns], dtype=np.uint8)


def gallery(table: ResultTable, protocol: Gallery, panels: Panels) -> Figure:
    """Models down, datasets across (or down too), without those that have no image; an absent panel says why.

    A line with nothing but absent panels is one tile high.
    """
    models = ["Data", *dict.fromkeys(entry.model for entry in table.entries)]
    models = [label for label in models if any(model == label for model, _ in panels)]
    datasets = list(dict.fromkeys(entry.dataset for entry in table.entries))
    datasets = [label for label in datasets if any(dataset == label for _, dataset in panels)]
    rows, columns = next(iter(panels.values())).shape[:2]
    across = [None] if protocol.stacked else datasets
    down = (
        [(d, m) for d in datasets for m in models]
        if protocol.stacked
        else [(None, m) for m in models]
    )
    width = min(1.0 * columns, 7.2 / len(across))
    tall = [
        rows if any((model, below or beside) in panels for beside in across) else 1
        for below, model in down
    ]
    size = width * len(across) + 1.1, width / columns * sum(tall) + 0.6
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(
        len(down), len(across), squeeze=False, gridspec_kw={"height_ratios": tall}
    )
    for place, (row, (below, model)) in enumerate(zip(axes, down, strict=True)):
        for axis, beside in zip(row, across, strict=True):
            dataset = below or beside or ""
            _panel(axis, panels.get((model, dataset)), _absence(table, model, dataset))
            axis.set_box_aspect(tall[place] / columns)
            if place == 0 and beside:
                axis.set_title(on(table, beside))
        label = textwrap.fill(short(model), BESIDE)
        label = f"{label}\n{on(table, below)}" if below else label
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontweight="bold")
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.04, h_pad=0.04, wspace=0.02, hspace=0.02)
    return figure


def _panel(axis: Axes, tiles: NDArray[np.uint8] | None, absence: str) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
    if tiles is None:
        axis.set_facecolor("#f4f4f5")
        axis.text(
            0.5, 0.5, absence, ha="center", va="center", color=FAINT, transform=axis.transAxes
        )
        return
    axis.imshow(_mosaic(tiles), cmap="gray", vmin=0, vmax=255, interpolation="antialiased")


def _mosaic(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(R, D, C, H, W) -> one image (H', W') or (H', W', 3) with white lines between tiles."""
    rows, columns, channels, height, width = tiles.shape
    gap = max(1, height // 32)
    out = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, np.uint8
    )
    for r in range(rows):
        for c in range(columns):
            y, x = r * (height + gap), c * (width + gap)
            out[y : y + height, x : x + width] = tiles[r, c].transpose(1, 2, 0)
    return out[..., 0] if channels == 1 else out


def _left_out(table: ResultTable, panels: Panels, small: Panels) -> str:
    """Which models and datasets have no image, and which panels are of small ones: what a figure remembers."""
    shown = {label for key in panels for label in key}
    labels = dict.fromkeys(e.model for e in table.entries) | dict.fromkeys(
        e.dataset for e in table.entries
    )
    missing = [label for label in labels if label not in shown]
    few = [f"{model} on {dataset}" for model, dataset in small]
    said = f" Without images so far: {', '.join(missing)}." if missing else ""
    return said + (
        f" {', '.join(few)}: from the small images that were kept of each cell." if few else ""
    )


def _absence(table: ResultTable, model: str, dataset: str) -> str:
    entries = [e for e in table.entries if (e.model, e.dataset) == (model, dataset)]
    stored = "no images stored" if entries else "no longer there"
    return entries[0].ours.body if entries and not entries[0].has_number else stored


# One cell -----------------------------------------------------------------------------------------------------------

SHEET = (2, 5)  # rows and columns of a cell's own images
TILE = 96  # their height in pixels, at most
SHOWN = ("samples", "overlay", "reconstructions", "grid", "resampled", "inputs")


def sheets(table: ResultTable, folder: Path, runs: Path) -> dict[str, Drawn]:
    """Cell id -> a small sheet of the first images stored beside it, written below `folder`/figures/cells.

    A sheet remembers the digest of its arrays: it is drawn once, and stands when runs/ is gone.
    """
    protocol = table.protocol
    names = (*((protocol.array,) if isinstance(protocol, Gallery) else ()), *SHOWN)
    found: dict[str, Drawn] = {}
    for entry in table.entries:
        rows = [row for row in entry.rows if row.artifact and row.status == "ok"]
        if not rows or not _is_a_cells(rows[0].cell):
            continue
        row, path = rows[0], folder / "figures" / "cells" / f"{rows[0].cell}.png"
        stands = remembered(path)
        if stands is None or stands.source != row.artifact_digest:
            arrays = Artifacts(runs, [row]).get(row.key, {})
            name = next((name for name in names if name in arrays), "")
            tiles = _tiles(arrays[name], *SHEET) if name else None
            if tiles is not None:
                stands = Memory(
                    row.artifact_digest, f"“{name}”, the first of them, seed {row.seed}"
                )
                _save_sheet(tiles, path, stands)
        if stands is not None:
            fresh = stands.source == row.artifact_digest
            stale = "" if fresh else "drawn from earlier arrays than the row names"
            found[row.cell] = Drawn(
                "Images", f"Stored beside the cell: {stands.absent}.", path, stale
            )
    return found


def _is_a_cells(name: str) -> bool:
    """Whether it can be a cell's id: it is its sheet's file name, and a CSV may hold anything."""
    return re.fullmatch(r"[0-9a-z]{1,32}", name) is not None


def _save_sheet(tiles: NDArray[np.uint8], path: Path, memory: Memory) -> None:
    height = min(TILE, tiles.shape[3])
    image = Image.fromarray(_mosaic(tiles))
    scale = height / tiles.shape[3]
    if scale < 1:
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    save_image(image, path, memory)
