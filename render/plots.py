"""Plots of numbers: ours beside published, along an axis, along a training. Each returns a figure. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from ..core.protocol import Axis, Plot, after
from ..core.results import ResultRow
from ..core.spec import SHARES
from .drawing import COLOURS, INK, MARKERS, on, ours_on, short
from .table import Entry, ResultTable

__all__ = ["comparable_columns", "curves", "plot", "side_by_side"]


def plot(table: ResultTable, protocol: Plot) -> Figure:
    """One panel per label of `panels`: `x` across, one colour per `hue`; filled is ours, open is published."""

    def labels(axis: Axis) -> list[str]:
        return list(dict.fromkeys(getattr(entry, axis) for entry in table.entries))

    def said(axis: Axis, label: str) -> str:
        return on(table, label) if axis == "dataset" else short(label)

    xs, panels = labels(protocol.x), labels(protocol.panels)
    hues = labels(protocol.hue) if protocol.hue != protocol.x else [""]
    named = (protocol.x, protocol.panels, protocol.hue if len(hues) > 1 else "")
    unnamed = [] if "dataset" in named else labels("dataset")
    elsewhere = "".join(ours_on(table, dataset) for dataset in unnamed)
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(max(2.9 * columns, 4.2), 2.6 * lines + 0.4), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        axis.set_title(said(protocol.panels, panel) + elsewhere)
        axis.set_xticks(range(len(xs)), [said(protocol.x, x) for x in xs])
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
            _points(axis, [found.get(x) for x in xs], shift, index, said(protocol.hue, hue))
    handles = axes.flat[0].get_legend_handles_labels()[0] if len(hues) > 1 else []
    handles = [*handles, *_rings_and_dots(table)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return figure


def curves(table: ResultTable) -> Figure:
    """A panel per dataset and metric: each model's mean over seeds against steps, its single seeds behind it.

    Shares, which lie between 0 and 1, have one height in all panels of their metric, to be compared across datasets.
    """
    models = [label for label, spec in table.protocol.models.items() if spec.trained == 1]
    panels = list(dict.fromkeys((entry.dataset, entry.metric) for entry in table.entries))
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(max(2.9 * across, 4.2), 2.6 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (dataset, metric) in zip(axes.flat, panels, strict=False):
        axis.set_title(f"{short(metric)}, {short(dataset)}{ours_on(table, dataset)}")
        axis.set_xlabel("training steps")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.grid(axis="y")
        for index, model in enumerate(models):
            along = {after(model, share): share for share in (*SHARES, 1.0)}
            entries = [
                entry
                for entry in table.entries
                if entry.model in along and (entry.dataset, entry.metric) == (dataset, metric)
            ]
            if any(_measured(entry) for entry in entries):
                colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
                _line(axis, entries, colour, marker, model)
        if not axis.lines:
            axis.set_axis_off()
            axis.text(0.5, 0.5, "not run yet", transform=axis.transAxes, ha="center", color="0.6")
    for metric in dict.fromkeys(metric for _, metric in panels):
        _one_height([a for a, (_, its) in zip(axes.flat, panels, strict=False) if its == metric])
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


def _one_height(panels: Sequence[Axes]) -> None:
    """One y axis for all of them, where what is drawn lies between 0 and 1."""
    measured = [axis for axis in panels if axis.lines]
    heights = [np.asarray(line.get_ydata(), float) for axis in measured for line in axis.lines]
    if measured and all(((ys >= 0) & (ys <= 1)).all() for ys in heights):
        for axis in measured[1:]:
            axis.sharey(measured[0])
        measured[0].autoscale_view()


def _measured(entry: Entry) -> list[ResultRow]:
    """The seeds of a cell that have a number and say after how many steps."""
    return [row for row in entry.rows if row.status == "ok" and None not in (row.value, row.steps)]


def _line(axis: Axes, entries: Sequence[Entry], colour: str, marker: str, model: str) -> None:
    """One model's curve in its colour, with a gap where a cell has no mean; faint lines are single seeds where there
    are several.
    """
    rows = [row for entry in entries for row in _measured(entry)]
    seeds = sorted({row.seed for row in rows})
    for seed in seeds if len(seeds) > 1 else ():
        own = sorted((row.steps or 0, row.value or 0.0) for row in rows if row.seed == seed)
        axis.plot(*zip(*own, strict=True), color=colour, lw=0.7, alpha=0.4)
    means = {
        row.steps or 0: math.nan if entry.judgement.mean is None else entry.judgement.mean
        for entry in entries
        for row in _measured(entry)
    }
    axis.plot(
        *zip(*sorted(means.items()), strict=True),
        color=colour,
        marker=marker,
        ms=4,
        lw=1.5,
        label=model,
    )


def _points(
    axis: Axes, entries: Sequence[Entry | None], shift: float, index: int, hue: str
) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    style: dict[str, Any] = {"color": colour, "marker": marker, "ls": "none", "ms": 5.5}
    theirs = [
        (x + shift, e.printed.value or 0.0, e.published.body)
        for x, e in enumerate(entries)
        if e and e.printed
    ]
    ours = [(x + shift, e) for x, e in enumerate(entries) if e and e.judgement.mean is not None]
    axis.plot([x for x, *_ in theirs], [y for _, y, _ in theirs], mfc="white", **style)
    axis.errorbar(
        [x for x, _ in ours],
        [e.judgement.mean or 0.0 for _, e in ours],
        [e.judgement.std or 0.0 for _, e in ours],
        capsize=2,
        label=hue or None,
        **style,
    )
    for x, y, text in (*theirs, *((x, e.judgement.mean or 0.0, e.ours.body) for x, e in ours)):
        _arrow(axis, text, (x, y), (0, 16), colour)


def _arrow(
    axis: Axes, text: str, point: tuple[float, float], up: tuple[int, int], colour: str
) -> None:
    """From a value that is written as a bound to where the true one lies. up: where greater ones lie, in points."""
    way = {">": 1, "<": -1}.get(text.strip()[:1], 0)
    if way:
        axis.annotate(
            "",
            point,
            (way * up[0], way * up[1]),
            textcoords="offset points",
            arrowprops={"arrowstyle": "<-", "color": colour},
        )


def side_by_side(table: ResultTable) -> Figure:
    """A panel per column of the table: each model's published value (open) and ours (filled) on one line."""
    columns = comparable_columns(table)
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
        axis.set_title(f"{short(dataset)}  {short(metric)}{ours_on(table, dataset)}")
        axis.set_yticks(range(len(models)), [short(model) for model in models])
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
    figure.legend(
        handles=_rings_and_dots(table), loc="outside lower center", ncols=2, frameon=False
    )
    return figure


def _rings_and_dots(table: ResultTable) -> list[Line2D]:
    """What a legend says of published values and ours."""
    bars = " (bar: std over seeds)" if table.seeds > 1 else ""
    ring: dict[str, Any] = {"color": INK, "mfc": "none", "ms": 9, "mew": 1.2}
    return [
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


def comparable_columns(table: ResultTable) -> list[tuple[str, str]]:
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
        _arrow(axis, entry.published.body, (theirs, y), (16, 0), INK)
    if ours is not None:
        error = entry.judgement.std or 0.0
        axis.errorbar([ours], [y], xerr=[error], fmt="o", color=COLOURS[0], ms=5, zorder=2)
        _arrow(axis, entry.ours.body, (ours, y), (16, 0), COLOURS[0])
