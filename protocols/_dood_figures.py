"""What the figures of the DooD protocols are drawn with. Nothing here is imported before a figure is asked for.

Axes: `N` images, `T` parts, `C H W` image. A key is (model, dataset, metric, seed), as the rows have it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ..core.protocol import Protocol
from ..core.results import PublishedValue, ResultRow
from ..core.verdict import means

Key: TypeAlias = tuple[str, str, str, int]
Arrays: TypeAlias = Mapping[Any, Mapping[str, Any]]

WIDTH = 7.4  # inches, of a page's text
FAINT = "#8a8a8f"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#000000")


def columns_of_tiles(
    rows: Sequence[ResultRow],
    artifacts: Arrays,
    panels: Sequence[tuple[str, Key, str]],
    across: int,
    columns: int,
    first: bool = True,
) -> Any:
    """A figure of panels, `across` to a line; below a column's first image stand those that belong to it.

    panels: (title, key, name of its array): a grid (N, 1 + D, C, H, W), of which the first `columns` rows become
    columns, their first image set apart where `first`; or images (N, C, H, W), `columns` to a line, four lines.
    A panel without an array says why, if its row does.
    """
    from matplotlib.figure import Figure

    why = {row.key: row.note for row in rows if row.status != "ok"}
    across = max(1, min(across, len(panels)))
    lines = -(-len(panels) // across)
    found = [artifacts.get(key, {}).get(name) for _, key, name in panels]
    pictures = [None if grid is None else mosaic(upright(grid, columns), first) for grid in found]
    tall = max(
        (picture.shape[0] / picture.shape[1] for picture in pictures if picture is not None),
        default=1.0,
    )
    width = WIDTH / max(across, 3)
    figure = Figure(figsize=(width * across, lines * (width * tall + 0.45)), layout="constrained")
    axes = figure.subplots(lines, across, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, key, _), picture in zip(axes.flat, panels, pictures, strict=False):
        axis.set_title(title, fontsize=8)
        if picture is None:
            axis.set_box_aspect(tall)
        _show(axis, picture, why.get(key, ""))
    return figure


def step_by_step(
    artifacts: Arrays, models: Sequence[str], datasets: Sequence[str], measured: str, images: int
) -> Any:
    """A panel per model, a column per image, `images` of each dataset: the image, then the canvas after each part."""
    import numpy as np
    from matplotlib.figure import Figure

    grids = {
        (model, dataset): artifacts.get((model, dataset, measured, 0), {}).get("grid")
        for model in models
        for dataset in datasets
    }
    there = [grid for grid in grids.values() if grid is not None]
    if not there:
        return _nothing("no drawings yet")
    shape, steps = there[0].shape[2:], max(grid.shape[1] for grid in there)
    across = WIDTH / (len(datasets) * images + 1)
    figure = Figure(
        figsize=(WIDTH, len(models) * (across * steps + 0.3) + 0.3), layout="constrained"
    )
    axes = figure.subplots(len(models), len(datasets), squeeze=False)
    for line, (row, model) in enumerate(zip(axes, models, strict=True)):
        for axis, dataset in zip(row, datasets, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if line == 0:
                axis.set_title(dataset, fontsize=8)
            grid = grids[model, dataset]
            if grid is None:
                axis.set_box_aspect(steps / images)
                _show(axis, None)
                continue
            whole = np.full((images, steps, *shape), 255, np.uint8)
            part = grid[:images]
            whole[: len(part), : grid.shape[1]] = part
            _show(axis, mosaic(upright(whole, images), first=True))
        row[0].set_ylabel(model, fontsize=8, fontweight="bold")
    return figure


def transfer(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Arrays,
    protocol: Protocol,
    models: Sequence[str],
    labels: Sequence[str],
    measured: str,
    drawn: str,
    images: int = 3,
) -> Any:
    """Tables of source (down) by target (across), published above ours, a column per model; the darker the worse.

    labels: sources and targets. drawn: the metric that stored "inputs" and "reconstructions", some of which stand in
    our cells. Colours end at the least and largest published number of the first model.
    """
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    theirs = {v.key: v.value for v in published if v.metric == measured and v.value is not None}
    of_first = [value for key, value in theirs.items() if key[0].startswith(f"{models[0]} (")]
    norm = Normalize(min(of_first, default=0.0), max(of_first, default=1.0))
    ours = {key: mean for key, mean in means(rows, protocol).items() if key[2] == measured}
    tier = rows[0].tier if rows else ""
    made = [s for s in labels if any(f"({s})" in key[0] for key in ours)] or list(labels)
    heights = 0.4 * len(labels) + 0.5, 0.65 * len(made) + 0.8  # inches
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(2, len(models), squeeze=False, height_ratios=heights)
    for line, (values, title, sources, tall) in enumerate(
        (
            (theirs, "published", labels, 0.62),
            (ours, f"ours, tier {tier}" if tier else "ours", made, 1.0),
        )
    ):
        for axis, model in zip(axes[line], models, strict=True):
            axis.set_title(f"{model}, {title}", fontsize=9)
            for y, source in enumerate(sources):
                for x, target in enumerate(labels):
                    key = (f"{model} ({source})", target, measured)
                    pictures = artifacts.get((*key[:2], drawn, 0), {}) if line else {}
                    _cell(
                        axis,
                        x,
                        y * tall,
                        tall,
                        values.get(key),
                        norm,
                        pictures.get("reconstructions"),
                        images,
                    )
                    if line and y == 0:
                        _strip(
                            axis, _inputs(artifacts, model, labels, target, drawn), x, -0.42, images
                        )
            top = -0.5 if line else 0
            axis.set_xlim(0, len(labels))
            axis.set_ylim(len(sources) * tall, top)
            axis.set_xticks([x + 0.5 for x in range(len(labels))], labels, fontsize=6.5)
            axis.set_yticks([(y + 0.5) * tall for y in range(len(sources))], sources, fontsize=6.5)
            axis.tick_params(length=0)
            axis.xaxis.tick_top()
            for spine in axis.spines.values():
                spine.set_visible(False)
        axes[line][0].set_ylabel("trained on", fontsize=8)
    return figure


def histograms(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Arrays,
    models: Sequence[str],
    datasets: Sequence[str],
    measured: str,
    printed_as: str,
) -> Any:
    """A panel per model: share of images by their number of parts, all seeds together, a colour per dataset.

    A triangle above the bars is the mean of one seed of ours, a ring the mean that was published.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    found = [row for row in rows if row.status == "ok" and row.metric == measured]
    theirs = {value.key: value.value for value in published if value.metric == printed_as}
    across = min(3, len(models))
    lines = -(-len(models) // across)
    figure = Figure(figsize=(WIDTH, 2.3 * lines + 0.5), layout="constrained")
    axes = figure.subplots(lines, across, squeeze=False, sharey=True)
    for axis in axes.flat[len(models) :]:
        axis.set_visible(False)
    for axis, model in zip(axes.flat, models, strict=False):
        axis.set_title(model)
        axis.set_xlabel("strokes")
        axis.grid(axis="y")
        axis.set_axisbelow(True)
        axis.set_ylim(0, 112)
        axis.set_yticks(range(0, 101, 25))
        empty = True
        for index, dataset in enumerate(datasets):
            ours = [row for row in found if (row.model, row.dataset) == (model, dataset)]
            arrays = [artifacts.get(row.key, {}) for row in ours]
            counted = [each["histogram"] for each in arrays if "histogram" in each]
            height = 110 - 4 * index
            if counted:
                empty, histogram = False, np.sum(counted, 0)
                wide = 0.8 / len(datasets)
                places = [n - 0.4 + (index + 0.5) * wide for n in range(len(histogram))]
                axis.bar(places, 100 * histogram / histogram.sum(), wide, color=COLOURS[index])
                axis.set_xticks(range(len(histogram)))
            if values := [row.value for row in ours]:
                high = [height] * len(values)
                axis.plot(values, high, "v", color=COLOURS[index], ms=5, clip_on=False)
            if (value := theirs.get((model, dataset, printed_as))) is not None:
                axis.plot(
                    [value], [height], "o", color=COLOURS[index], mfc="none", ms=7, clip_on=False
                )
        if empty:
            axis.text(
                0.5, 0.45, "not measured yet", ha="center", color=FAINT, transform=axis.transAxes
            )
    for row in axes:
        row[0].set_ylabel("% of a dataset's images")
    handles: list[Any] = [Patch(color=COLOURS[i], label=d) for i, d in enumerate(datasets)]
    handles += [
        Line2D([], [], ls="none", marker="v", color=FAINT, label="our mean, by seed"),
        Line2D([], [], ls="none", marker="o", mfc="none", color=FAINT, label="published mean"),
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8
    )
    return figure


def clusters(
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Arrays,
    keys: Mapping[str, Key],
    thumbnails: int = 60,
) -> Any:
    """A panel per model: its parts where t-SNE puts them, in the colour of their cluster, and some parts on top.

    keys: title -> key of a cell that stored tsne (S, 2), shown (S,), cluster (V,) and part (S, C, H, W) uint8.
    """
    from matplotlib.figure import Figure
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    ours = {row.key: row.value for row in rows if row.status == "ok"}
    theirs = {value.key: value.printed for value in published}
    figure = Figure(figsize=(WIDTH, WIDTH / len(keys) + 0.4), layout="constrained")
    axes = figure.subplots(1, len(keys), squeeze=False)
    for axis, (title, key) in zip(axes[0], keys.items(), strict=True):
        said = [f"published {theirs[key[:3]]}"] if key[:3] in theirs else []
        if (value := ours.get(key)) is not None:
            said.append(f"ours {value:.2f}")
        axis.set_title(f"{title}: silhouette {', '.join(said)}" if said else title, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        stored = artifacts.get(key, {})
        if not {"tsne", "shown", "cluster", "part"} <= stored.keys() or not len(stored["tsne"]):
            _show(axis, None)
            continue
        place, cluster = stored["tsne"], stored["cluster"][stored["shown"]]
        axis.scatter(*place.T, s=3, lw=0, c=[COLOURS[index % len(COLOURS)] for index in cluster])
        for index in _apart(place, thumbnails):
            picture = 255 - stored["part"][index, 0]  # dark ink on white
            axis.add_artist(
                AnnotationBbox(
                    OffsetImage(
                        picture,
                        zoom=16 / len(picture),
                        cmap="gray",
                        norm=None,
                        interpolation="antialiased",
                    ),
                    place[index],
                    pad=0.08,
                    bboxprops={"edgecolor": COLOURS[cluster[index] % len(COLOURS)], "lw": 1.2},
                )
            )
    return figure


def _apart(place: Any, most: int) -> list[int]:
    """Indices of at most `most` points (S, 2) no two of which are near to one another, in their order."""
    import numpy as np

    extent = np.ptp(place, axis=0)
    scaled = (place - place.min(0)) / np.where(extent > 0, extent, 1)
    chosen: list[int] = []
    for index, point in enumerate(scaled):
        if not chosen or np.abs(scaled[chosen] - point).max(1).min() > 0.085:
            chosen.append(index)
        if len(chosen) == most:
            break
    return chosen


def upright(array: Any, columns: int) -> Any:
    """Tiles (rows, columns, C, H, W): a grid (N, D, C, H, W) with its rows as columns, or four lines of images."""
    import numpy as np

    if array.ndim == 4:
        array = array[: 4 * columns]
        short = -len(array) % columns
        blank = np.full((short, *array.shape[1:]), 255, array.dtype)
        tiles = np.concatenate([array, blank])
        return tiles.reshape(-1, columns, *array.shape[1:])
    return array[:columns].swapaxes(0, 1)


def mosaic(tiles: Any, first: bool) -> Any:
    """Tiles (R, D, C, H, W) uint8 as one RGB image, white between them; `first`: more of it below the first row."""
    import numpy as np

    rows, columns, channels, height, width = tiles.shape
    gap = max(1, height // 16)
    apart = 3 * gap if first and rows > 1 else 0
    out = np.full(
        (rows * (height + gap) - gap + apart, columns * (width + gap) - gap, 3), 255, np.uint8
    )
    for r in range(rows):
        for c in range(columns):
            y, x = r * (height + gap) + (apart if r else 0), c * (width + gap)
            tile = tiles[r, c].transpose(1, 2, 0)
            out[y : y + height, x : x + width] = tile if channels == 3 else np.repeat(tile, 3, -1)
    return out


def _show(axis: Any, picture: Any, why: str = "") -> None:
    if picture is None:
        said = textwrap.fill(why, 20, max_lines=6) or "no images yet"
        axis.text(
            0.5,
            0.5,
            said,
            ha="center",
            va="center",
            color=FAINT,
            transform=axis.transAxes,
        )
        return
    axis.imshow(picture, interpolation="antialiased")


def _cell(
    axis: Any,
    x: int,
    y: float,
    tall: float,
    value: float | None,
    norm: Any,
    pictures: Any,
    images: int,
) -> None:
    """One cell of a table of transfer: its colour, its number and, where there are some, pictures above it."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    colour: Any = (
        "#f4f4f5"
        if value is None
        else colormaps["cividis"](float(norm(min(max(value, norm.vmin), norm.vmax))))
    )
    axis.add_patch(Rectangle((x, y), 1, tall, facecolor=colour, edgecolor="white", lw=1))
    dark = value is not None and norm(value) < 0.55
    text = "–" if value is None else f"{value:,.1f}".replace("-", "−").replace(",", "\u2009")
    place = y + tall * (0.5 if pictures is None else 0.76)
    shade = FAINT if value is None else "white" if dark else "#1d1d1f"
    axis.text(x + 0.5, place, text, ha="center", va="center", fontsize=6, color=shade)
    _strip(axis, pictures, x, y + 0.12, images)


def _strip(axis: Any, pictures: Any, x: float, y: float, images: int) -> None:
    """The first `images` of (N, C, H, W) side by side in the width of a cell whose left edge is at x."""
    if pictures is None:
        return
    wide = 0.9 / images
    for index, picture in enumerate(pictures[:images]):
        left = x + 0.05 + index * wide
        shown = picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0)
        axis.imshow(
            shown, cmap="gray", vmin=0, vmax=255, extent=(left, left + 0.95 * wide, y + 0.95 * wide * 1.3, y),
            aspect="auto", interpolation="antialiased", zorder=2,
        )  # fmt: skip


def _inputs(artifacts: Arrays, model: str, sources: Sequence[str], target: str, drawn: str) -> Any:
    """The target's images, as any source's cell stored them."""
    for source in sources:
        found = artifacts.get((f"{model} ({source})", target, drawn, 0), {}).get("inputs")
        if found is not None:
            return found
    return None


def said_of_data(figure: Any, rows: Sequence[ResultRow]) -> Any:
    """The figure, with a line on the images that stood in for the published ones, if any did."""
    found = dict.fromkeys((row.dataset, row.stand_in) for row in rows if row.stand_in)
    by_data: dict[str, list[str]] = {}
    for label, stand_in in found:
        by_data.setdefault(stand_in, []).append(label)
    said = [f"{', '.join(labels)}: {stand_in}" for stand_in, labels in by_data.items()]
    if said:
        figure.supxlabel("Our images. " + ". ".join(said), fontsize=7, color=FAINT, wrap=True)
    return figure


def _nothing(text: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 1))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=FAINT)
    return figure
