"""The figures of a page: a gallery, a plot or what the protocol draws itself, and what each is drawn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from ..core.artifacts import Artifacts
from ..core.protocol import Curves, Gallery, Plot
from ..core.results import PublishedValue, ResultRow
from . import galleries, plots
from .drawing import OUTDATED, STYLE, Drawn, remembered, save
from .table import ResultTable

__all__ = ["draw_all"]


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
        yield galleries.drawn(table, protocol, artifacts, base / f"{table.name}.png")
    elif isinstance(protocol, Plot):
        yield _numbers(table, base / f"{table.name}.png", plots.plot(table, protocol))
    elif isinstance(protocol, Curves):
        yield _curves(table, base / f"{table.name}.png")
    else:
        if plots.comparable_columns(table):
            yield _numbers(table, base / f"{table.name}.png", plots.side_by_side(table))
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
                yield galleries.drawn(table, samples, artifacts, path)


def _curves(table: ResultTable, path: Path) -> Drawn:
    save(plots.curves(table), path, table.name)
    single = "; faint lines are single seeds" if table.seeds > 1 else ""
    caption = f"Each point is a row of its own, measured with the weights of that step{single}."
    return Drawn("Along the training", caption, path)


def _numbers(table: ResultTable, path: Path, figure: Figure) -> Drawn:
    save(figure, path, table.name)
    caption = "Rings are the published values, filled markers ours"
    caption += "; bars are one standard deviation over seeds" if table.seeds > 1 else ""
    texts = [str(text) for entry in table.entries for text in (entry.ours, entry.published)]
    bounds = any(text.startswith(("<", ">")) for text in texts)
    caption += "; an arrow leads from a bound to where the number lies" if bounds else ""
    return Drawn("Ours beside published", f"{caption}.", path)


def _custom(
    table: ResultTable,
    rows: Sequence[ResultRow],
    published: Sequence[PublishedValue],
    artifacts: Artifacts,
    path: Path,
) -> Drawn:
    """The protocol's own `draw(rows, published, artifacts) -> Figure`."""
    draw = table.protocol.draw
    source = artifacts.source
    stands = remembered(path)
    if draw is None or (artifacts.gone and stands is not None):
        fresh = "" if stands and stands.source == source else OUTDATED
        return Drawn("Figure", "", path if stands is not None else None, fresh)
    save(draw(rows, published, artifacts), path, source)
    return Drawn("Figure", "", path)
