"""Two sets of results side by side: two files, two tiers, or two models of one tier (`reprise compare A B`)."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product, starmap
from pathlib import Path

from tabulate import tabulate

from ..core.errors import UsageError, unknown
from ..core.protocol import TIERS
from ..core.results import ResultRow, read_all
from ..core.verdict import contradict, standard_error
from ..core.workspace import Workspace, unsharded

__all__ = ["Comparison", "Side", "compare", "select"]

Where = tuple[str, str, str, str]  # protocol, model (empty between models), dataset, metric


@dataclass(frozen=True)
class Side:
    """What is laid on one side: its heading and its rows, of one tier. model: whether it is one model of it."""

    title: str
    rows: tuple[ResultRow, ...]
    model: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for rows of several tiers, which would pass for seeds of one cell."""
        tiers = sorted({row.tier for row in self.rows})
        if len(tiers) > 1:
            raise UsageError(
                f"{self.title} holds rows of the tiers {', '.join(tiers)}, and a side has one; name one: {tiers[0]}, "
                "or a folder or file of it"
            )


@dataclass(frozen=True)
class Line:
    """One cell on both sides: text as shown, and how many standard errors lie between, if that is known."""

    where: Where
    left: str
    right: str
    difference: float | None
    errors: float | None
    note: str


@dataclass(frozen=True)
class Comparison:
    """All cells that either side has."""

    left: str
    right: str
    lines: tuple[Line, ...]

    def __str__(self) -> str:
        several = len({line.where[0] for line in self.lines}) > 1
        table = [
            (
                *(line.where if several else line.where[1:]),
                line.left,
                line.right,
                "" if line.difference is None else f"{line.difference:+.4g}".replace("-", "−"),
                "" if line.errors is None else f"{line.errors:.1f}",
                line.note,
            )
            for line in self.lines
        ]
        heads = ["Protocol", "Model", "Dataset", "Metric", self.left, self.right]
        heads += ["Difference", "in std. errors", ""]
        return tabulate(
            table, heads if several else heads[1:], tablefmt="simple", disable_numparse=True
        )


def select(workspace: Workspace, text: str) -> Side:
    """What `text` names: a CSV, a folder of CSVs, a tier (`mini`), a protocol of one (`mini/gnm_table1`), or one model
    of a tier (`mini:GNM`; of the largest tier with results if only `GNM` is given). Raises UsageError if nothing, or if
    rows of several tiers.
    """
    path = Path(text)
    if path.is_file() or path.is_dir():
        held = read_all(unsharded(path))
        if not held:
            raise UsageError(
                f"{text} holds no rows; expected a CSV of results, or a folder of them"
            )
        return Side(text, tuple(held))
    results = workspace.root / "results"
    tier, _, rest = text.partition("/")
    if tier in TIERS and (not rest or (results / tier / f"{rest}.csv").is_file()):
        found = read_all(unsharded(results / tier / f"{rest}.csv" if rest else results / tier))
        if not found:
            raise UsageError(f"no results at tier {tier}; run_protocol … --tier {tier} makes them")
        return Side(text, tuple(found))
    tier, colon, label = text.partition(":")
    of_tier = bool(colon) and tier in TIERS
    tiers: list[str] = [tier] if of_tier else list(reversed(list(TIERS)))
    label = label if of_tier else text
    labels: set[str] = set()
    for name in tiers:
        rows = read_all(unsharded(results / name))
        labels |= {row.model for row in rows}
        if mine := tuple(row for row in rows if row.model == label):
            return Side(f"{label} ({name})", mine, model=True)
    if of_tier:
        raise unknown("model", text, [f"{tier}:{known}" for known in labels])
    raise unknown("file, tier or model", text, [*TIERS, *labels])


def compare(left: Side, right: Side) -> Comparison:
    """Lay the cells of both sides beside each other. Two models are matched by dataset and metric alone."""
    models = left.model and right.model
    cells: dict[Where, tuple[list[ResultRow], list[ResultRow]]] = defaultdict(lambda: ([], []))
    for place, side in enumerate((left, right)):
        for row in side.rows:
            where = (row.protocol, "" if models else row.model, row.dataset, row.metric)
            cells[where][place].append(row)
    if left.model != right.model:
        named = left if left.model else right
        cells = {k: v for k, v in cells.items() if k[1] == named.rows[0].model}
    return Comparison(
        left.title, right.title, tuple(_line(where, *pair) for where, pair in cells.items())
    )


def _line(where: Where, left: Sequence[ResultRow], right: Sequence[ResultRow]) -> Line:
    means = [_mean(rows) for rows in (left, right)]
    difference = errors = None
    note = ""
    if means[0] is not None and means[1] is not None:
        difference = means[1] - means[0]
        noise = math.hypot(standard_error(left), standard_error(right))
        errors = abs(difference) / noise if noise > 0 else None
        said = [{row.dialect for row in rows} for rows in (left, right)]
        if said[0] != said[1] and (where[1] or any(starmap(contradict, product(*said)))):
            note = "different dialects: not the same quantity"
        elif {row.data_digest for row in left} != {row.data_digest for row in right}:
            note = "different data: not the same quantity"
        if note:  # how many standard errors lie between two quantities means nothing
            errors = None
    return Line(where, _text(left), _text(right), difference, errors, note)


def _mean(rows: Sequence[ResultRow]) -> float | None:
    """The mean over seeds; None if any is a hole."""
    values = [row.value for row in rows if row.status == "ok" and row.value is not None]
    return statistics.fmean(values) if values and len(values) == len(rows) else None


def _text(rows: Sequence[ResultRow]) -> str:
    mean = _mean(rows)
    if mean is None:
        return next((row.status for row in rows if row.status != "ok"), "–")
    values = [row.value for row in rows if row.value is not None]
    spread = f" ± {statistics.stdev(values):.3g}" if len(values) > 1 else ""
    bound = ">" if any(row.censored for row in rows) else ""
    return f"{bound}{mean:.6g}{spread}, n={len(values)}"
