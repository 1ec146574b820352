"""Figures: galleries of stored arrays, plots of numbers, and ours beside published at a glance. No torch here.

The same rows and arrays give the same bytes: fonts are matplotlib's own, and nothing of the day or the machine is
written into a file. A PNG remembers the digest of what it was drawn from, so that a page can say whether the figure
beside it still belongs to its numbers when the arrays themselves are gone (`runs/` is not kept for ever).
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ..core.files import write_bytes
from ..core.protocol import Axis, Curves, Gallery, Plot, after
from ..core.results import PublishedValue, ResultRow
from ..core.spec import SHARES
from .table import Entry, ResultTable, briefly

__all__ = ["Artifacts", "Drawn", "draw_all", "inches", "sheets"]

log = logging.getLogger(__name__)

# Okabe & Ito 2008, distinguishable with every common colour blindness; yellow is left out (unreadable on white).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT = "#1d1d1f", "#8a8a8f"
MOST_BYTES = 300_000  # a figure is committed with every report
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
    """

    title: str
    caption: str
    path: Path | None
    stale: str = ""


class Artifacts(Mapping[tuple[str, str, str, int], Mapping[str, NDArray[Any]]]):
    """The arrays stored beside cells, by the key of their row; read when asked for. Only those that are there."""

    def __init__(self, runs: Path, rows: Sequence[ResultRow]) -> None:
        self.named = {row.key: row for row in rows if row.artifact and row.status == "ok"}
        self._paths = {
            key: path
            for key, row in self.named.items()
            if (path := (runs / row.artifact).resolve()).is_relative_to(runs.resolve())
            and path.is_file()
        }
        self._read: dict[tuple[str, str, str, int], dict[str, NDArray[Any]]] = {}

    def __getitem__(self, key: tuple[str, str, str, int]) -> Mapping[str, NDArray[Any]]:
        if key not in self._read:
            try:
                # numpy closes no file that it opened itself and could not read
                with (
                    self._paths[key].open("rb") as file,
                    np.load(file, allow_pickle=False) as stored,
                ):
                    self._read[key] = {name: stored[name] for name in stored.files}
            except (
                OSError,
                ValueError,
                KeyError,
                EOFError,
                MemoryError,
                NotImplementedError,
                zlib.error,
                zipfile.BadZipFile,
            ) as error:
                log.warning(
                    "%s cannot be read (%s); its images are left out", self._paths[key], error
                )
                self._read[key] = {}
        return self._read[key]

    def __iter__(self) -> Iterator[tuple[str, str, str, int]]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def gone(self) -> int:
        """How many arrays the rows name that are not there."""
        return len(self.named) - len(self._paths)


def draw_all(
    table: ResultTable,
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    folder: Path,
    runs: Path,
) -> list[Drawn]:
    """Every figure of one page, written below `folder`/figures where it changed."""
    with matplotlib.rc_context(STYLE):
        return list(_draw_all(table, rows, published, folder, runs))


def _draw_all(
    table: ResultTable,
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    folder: Path,
    runs: Path,
) -> Iterator[Drawn]:
    artifacts = Artifacts(runs, rows)
    protocol = table.protocol
    base = folder / "figures"
    if protocol.draw is not None:
        yield _custom(table, rows, published, artifacts, base / f"{table.name}.png")
    elif isinstance(protocol, Gallery):
        yield _gallery(table, protocol, artifacts, base / f"{table.name}.png")
    elif isinstance(protocol, Plot):
        yield _numbers(table, base / f"{table.name}.png", plot(table, protocol))
    elif isinstance(protocol, Curves):
        yield _curves(table, base / f"{table.name}.png")
    else:
        if _comparable_columns(table):
            yield _numbers(table, base / f"{table.name}.png", side_by_side(table))
        if any(row.artifact for row in rows):
            samples = Gallery(
                paper=protocol.paper,
                models=protocol.models,
                datasets=protocol.datasets,
                metrics=protocol.metrics,
                array="samples",
            )
            path = base / f"{table.name}_samples.png"
            if path.is_file() or any("samples" in arrays for arrays in artifacts.values()):
                yield _gallery(table, samples, artifacts, path)


# Galleries ----------------------------------------------------------------------------------------------------------


def _gallery(table: ResultTable, protocol: Gallery, artifacts: Artifacts, path: Path) -> Drawn:
    """Draw the gallery if all its arrays, or small images of them, are there; else keep the figure that stands."""
    title = "Images"
    caption = f"The arrays “{protocol.array}” that were stored beside the cells, first seed."
    source = _digest(
        [(row.key, row.artifact_digest or row.artifact) for row in artifacts.named.values()]
    )
    panels, stands = _panels(table, protocol, artifacts), _remembered(path)
    small = _from_sheets(table, protocol, path.parent / "cells", panels) if artifacts.gone else {}
    panels = _alike({**panels, **small})
    # What stands is as good as its arrays were; sheets are for one that other rows have outdated, and lose it nothing
    # that it remembers.
    worse = stands is not None and (
        stands.source == source
        or not stands.panels
        or not stands.panels <= {repr(key) for key in panels}
    )
    if panels and not (artifacts.gone and worse):
        absent = _left_out(table, panels, small)
        _save(gallery(table, protocol, panels), path, source, absent, panels)
        return Drawn(title, caption + absent, path)
    if stands is not None:
        log.info("%s: arrays are gone; %s is kept as it is", table.name, path)
        fresh = "" if stands.source == source else OUTDATED
        return Drawn(title, caption + stands.absent, path, fresh)
    if artifacts.named:
        return Drawn(title, caption, None, "the stored arrays are no longer there")
    return Drawn(title, caption, None, "no arrays yet: no cell of this figure has been measured")


Panels = dict[tuple[str, str], NDArray[np.uint8]]


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
    if protocol.array == "grid" and (protocol.rows > SHEET[0] or protocol.columns > SHEET[1]):
        return panels  # a sheet holds no more than a corner of it
    for entry in table.entries:
        key = (entry.model, entry.dataset)
        row = next((row for row in entry.rows if row.artifact and row.status == "ok"), None)
        if row is None or key in there or key in panels or not _is_a_cells(row.cell):
            continue
        path = folder / f"{row.cell}.png"
        sheet = _remembered(path)
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
    """Models down, datasets across (or down too), without those that have no image; an absent panel says why."""
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
    height = width / columns * rows
    figure = Figure(
        figsize=(width * len(across) + 1.1, height * len(down) + 0.6), layout="constrained"
    )
    axes = figure.subplots(len(down), len(across), squeeze=False)
    for place, (row, (below, model)) in enumerate(zip(axes, down, strict=True)):
        for axis, beside in zip(row, across, strict=True):
            dataset = below or beside or ""
            _panel(axis, panels.get((model, dataset)), _absence(table, model, dataset))
            axis.set_box_aspect(rows / columns)
            if place == 0 and beside:
                axis.set_title(_on(table, beside))
        label = f"{_short(model)}\n{_on(table, below)}" if below else _short(model)
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
        stands = _remembered(path)
        if stands is None or stands.source != row.artifact_digest:
            arrays = Artifacts(runs, [row]).get(row.key, {})
            name = next((name for name in names if name in arrays), "")
            tiles = _tiles(arrays[name], *SHEET) if name else None
            if tiles is not None:
                stands = _Memory(
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


def _save_sheet(tiles: NDArray[np.uint8], path: Path, memory: _Memory) -> None:
    height = min(TILE, tiles.shape[3])
    image = Image.fromarray(_mosaic(tiles))
    scale = height / tiles.shape[3]
    if scale < 1:
        size = (round(image.width * scale), round(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
    out, text = io.BytesIO(), PngInfo()
    text.add_text("Source", memory.source)
    text.add_text("Description", quote(memory.absent))
    image.save(out, format="png", optimize=True, pnginfo=text)
    write_bytes(path, out.getvalue())


# Numbers ------------------------------------------------------------------------------------------------------------


def plot(table: ResultTable, protocol: Plot) -> Figure:
    """One panel per label of `panels`: `x` across, one colour per `hue`; filled is ours, open is published."""

    def labels(axis: Axis) -> list[str]:
        return list(dict.fromkeys(getattr(entry, axis) for entry in table.entries))

    xs, panels = labels(protocol.x), labels(protocol.panels)
    hues = labels(protocol.hue) if protocol.hue != protocol.x else [""]
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(max(2.9 * columns, 4.2), 2.6 * lines + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        axis.set_title(_short(panel))
        axis.set_xticks(range(len(xs)), [_short(x) for x in xs])
        axis.set_xlim(-0.5, len(xs) - 0.5)
        if max(map(len, xs)) * len(xs) > 32:
            axis.tick_params(axis="x", rotation=35)
        axis.grid(axis="y")
        for index, hue in enumerate(hues):
            found = {
                getattr(e, protocol.x): e
                for e in table.entries
                if getattr(e, protocol.panels) == panel
                and (not hue or getattr(e, protocol.hue) == hue)
            }
            shift = (index - (len(hues) - 1) / 2) * 0.12
            _points(axis, [found.get(x) for x in xs], shift, index, hue)
    if len(hues) > 1:
        handles, names = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def curves(table: ResultTable) -> Figure:
    """A panel per dataset and metric: each model's mean over seeds against steps, its single seeds behind it."""
    models = [label for label, spec in table.protocol.models.items() if spec.trained == 1]
    panels = list(dict.fromkeys((entry.dataset, entry.metric) for entry in table.entries))
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(max(2.9 * across, 4.2), 2.6 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (dataset, metric) in zip(axes.flat, panels, strict=False):
        axis.set_title(f"{_short(metric)}, {_short(dataset)}{_ours_on(table, dataset)}")
        axis.set_xlabel("training steps")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.grid(axis="y")
        for index, model in enumerate(models):
            along = {after(model, share): share for share in (*SHARES, 1.0)}
            rows = [
                row
                for entry in table.entries
                if entry.model in along and (entry.dataset, entry.metric) == (dataset, metric)
                for row in entry.rows
                if row.status == "ok" and row.value is not None and row.steps is not None
            ]
            if rows:
                colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
                _line(axis, rows, colour, marker, model)
        if not axis.lines:
            axis.set_axis_off()
            axis.text(0.5, 0.5, "not run yet", transform=axis.transAxes, ha="center", color="0.6")
    drawn = {
        name: handle
        for axis in axes.flat
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    known = {model: drawn[model] for model in models if model in drawn}
    across = 4 if max(map(len, known), default=0) <= 20 else 2
    if known:
        figure.legend(
            known.values(), known, loc="outside lower center", ncols=across, frameon=False
        )
    return figure


def _line(axis: Axes, rows: Sequence[ResultRow], colour: str, marker: str, model: str) -> None:
    """One model's curve in its colour; faint lines are single seeds where there are several."""
    seeds = sorted({row.seed for row in rows})
    means: dict[int, list[float]] = {}
    for seed in seeds:
        own = sorted((row.steps or 0, row.value or 0.0) for row in rows if row.seed == seed)
        for step, value in own:
            means.setdefault(step, []).append(value)
        if len(seeds) > 1:
            axis.plot(*zip(*own, strict=True), color=colour, lw=0.7, alpha=0.4)
    steps = sorted(means)
    heights = [sum(means[step]) / len(means[step]) for step in steps]
    axis.plot(steps, heights, color=colour, marker=marker, ms=4, lw=1.5, label=model)


def _curves(table: ResultTable, path: Path) -> Drawn:
    _save(curves(table), path, table.name)
    single = "; faint lines are single seeds" if table.seeds > 1 else ""
    caption = f"Each point is a row of its own, measured with the weights of that step{single}."
    return Drawn("Along the training", caption, path)


def _points(
    axis: Axes, entries: Sequence[Entry | None], shift: float, index: int, hue: str
) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    style: dict[str, Any] = {"color": colour, "marker": marker, "ls": "none", "ms": 5.5}
    theirs = [(x + shift, e.printed.value or 0.0) for x, e in enumerate(entries) if e and e.printed]
    ours = [(x + shift, e) for x, e in enumerate(entries) if e and e.judgement.mean is not None]
    axis.plot([x for x, _ in theirs], [y for _, y in theirs], mfc="white", **style)
    axis.errorbar(
        [x for x, _ in ours],
        [e.judgement.mean or 0.0 for _, e in ours],
        [e.judgement.std or 0.0 for _, e in ours],
        capsize=2,
        label=_short(hue) or None,
        **style,
    )


def side_by_side(table: ResultTable) -> Figure:
    """A panel per column of the table: each model's published value (open) and ours (filled) on one line."""
    columns = _comparable_columns(table)
    shown = [e for e in table.entries if (e.dataset, e.metric) in columns]
    models = list(dict.fromkeys(e.model for e in shown if e.printed or e.has_number))
    across = min(3, len(columns))
    lines = -(-len(columns) // across)
    figure = Figure(
        figsize=(2.5 * across + 1.2, (0.24 * len(models) + 0.75) * lines + 0.3),
        layout="constrained",
    )
    axes = figure.subplots(lines, across, squeeze=False, sharey=True)
    for axis in axes.flat[len(columns) :]:
        axis.set_visible(False)
    for axis, (dataset, metric) in zip(axes.flat, columns, strict=False):
        axis.set_title(f"{_short(dataset)}  {_short(metric)}{_ours_on(table, dataset)}")
        axis.set_yticks(range(len(models)), [_short(model) for model in models])
        axis.set_ylim(len(models) - 0.5, -0.5)
        axis.grid(axis="x")
        axis.tick_params(axis="y", length=0)
        axis.locator_params(axis="x", nbins=4)
        if max(e.printed.value or 0 for e in table.entries if e.printed) >= 1e5:
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))  # 2.9M rather than 0.29 x 1e7
        axis.spines["left"].set_visible(False)
        for entry in shown:
            if (entry.dataset, entry.metric) == (dataset, metric) and entry.model in models:
                _dumbbell(axis, models.index(entry.model), entry)
    bars = " (bar: std over seeds)" if table.seeds > 1 else ""
    ring: dict[str, Any] = {"color": INK, "mfc": "none", "ms": 9, "mew": 1.2}
    handles = [
        Line2D([], [], ls="none", marker="o", label="published", **ring),
        Line2D(
            [],
            [],
            ls="none",
            marker="o",
            color=COLOURS[0],
            ms=5,
            label=f"ours, tier {table.tier}{bars}",
        ),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _comparable_columns(table: ResultTable) -> list[tuple[str, str]]:
    """(dataset, metric) of each column with a published number and one of ours, whichever the models."""
    printed = dict.fromkeys((e.dataset, e.metric) for e in table.entries if e.printed)
    measured = {(e.dataset, e.metric) for e in table.entries if e.has_number}
    return [column for column in printed if column in measured]


def _dumbbell(axis: Axes, y: int, entry: Entry) -> None:
    ours = entry.judgement.mean
    theirs = entry.printed.value if entry.printed else None
    if ours is not None and theirs is not None:
        axis.plot([theirs, ours], [y, y], color="#c9c9ce", lw=1.5, zorder=1)
    if theirs is not None:
        axis.plot([theirs], [y], "o", color=INK, mfc="none", ms=9, mew=1.2, zorder=3)
    if ours is not None:
        error = entry.judgement.std or 0.0
        axis.errorbar([ours], [y], xerr=[error], fmt="o", color=COLOURS[0], ms=5, zorder=2)


def _numbers(table: ResultTable, path: Path, figure: Figure) -> Drawn:
    _save(figure, path, table.name)
    caption = "Rings are the published values, filled markers ours"
    caption += "; bars are one standard deviation over seeds." if table.seeds > 1 else "."
    return Drawn("Ours beside published", caption, path)


def _custom(
    table: ResultTable,
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Artifacts,
    path: Path,
) -> Drawn:
    """The protocol's own `draw(rows, published, artifacts) -> Figure`."""
    draw = table.protocol.draw
    source = _digest(
        [(row.key, row.artifact_digest or row.artifact) for row in artifacts.named.values()]
    )
    stands = _remembered(path)
    if draw is None or (artifacts.gone and stands is not None):
        fresh = "" if stands and stands.source == source else OUTDATED
        return Drawn("Figure", "", path if stands is not None else None, fresh)
    _save(draw(rows, published, artifacts), path, source)
    return Drawn("Figure", "", path)


def _on(table: ResultTable, dataset: str) -> str:
    """A dataset's label, and below it what stood in for the published images."""
    return _short(dataset) + _ours_on(table, dataset)


def _ours_on(table: ResultTable, dataset: str) -> str:
    found = next((e.stand_in for e in table.entries if e.dataset == dataset and e.stand_in), "")
    return f"\n(ours: {briefly(found)})" if found else ""


# Files --------------------------------------------------------------------------------------------------------------


def _short(label: str) -> str:
    """A label that leaves room for the picture."""
    label = " ".join(label.split())
    return label if len(label) <= 28 else f"{label[:27]}…"


def _save(
    figure: Figure, path: Path, source: str, absent: str = "", panels: Iterable[object] = ()
) -> None:
    """Write the figure as PNG, as sharp as MOST_BYTES allows, with what `_remembered` will be asked for."""
    # Software is None: matplotlib would write its version, which is no part of the picture.
    metadata = {"Software": None, "Source": source, "Description": quote(absent)}
    if shown := " ".join(quote(repr(key)) for key in panels):
        metadata["Panels"] = shown
    if figure.get_layout_engine() is not None:
        figure.set_dpi(SHARP)
        figure.draw_without_rendering()  # lays it out, once: savefig would for its margins and again for the picture
        figure.set_layout_engine("none")
    for dpi in (SHARP, 160, 130, 110, 90, 72):
        out = io.BytesIO()
        figure.savefig(
            out, format="png", dpi=dpi, metadata=metadata, bbox_inches="tight", pad_inches=0.08
        )
        if out.tell() <= MOST_BYTES:
            break
    write_bytes(path, out.getvalue())


@dataclass(frozen=True)
class _Memory:
    """What a PNG remembers: the digest of what it was drawn from, the sentence on what it lacks, a gallery's panels."""

    source: str
    absent: str
    panels: frozenset[str] = frozenset()


def _remembered(path: Path) -> _Memory | None:
    """What the figure at `path` remembers; None if there is no figure."""
    try:
        with Image.open(path) as image:
            info = image.info
            panels = map(unquote, str(info.get("Panels", "")).split())
            said = unquote(str(info.get("Description", "")))
            return _Memory(str(info.get("Source", "")), said, frozenset(panels))
    except (OSError, UnidentifiedImageError):
        return None


def inches(path: Path) -> float:
    """How wide the figure was drawn, whatever its resolution."""
    with Image.open(path) as image:
        return float(image.width / image.info.get("dpi", (100, 100))[0])


def _digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(repr(sorted(map(repr, parts))).encode()).hexdigest()[:12]
