"""What a number opens: all that is known of one cell, for the HTML page's panels and the PDF's last pages. No torch."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..core.results import PublishedValue, ResultRow
from ..core.trained import Settings, Trained
from .curves import Chart, charts_of
from .drawing import Drawn
from .table import Entry, ResultTable

__all__ = ["Difference", "Panel", "command_of", "page_command_of", "panels_of", "precision_of"]

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Difference:
    """An option that is not what the paper's, or that of a visitor's recipe, would be."""

    option: str
    here: str
    paper: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One cell, opened.

    command: measures it again. verdict: what may be said of it, and on what that rests. seeds: (seed, value, standard
    error and n, run), one per row. standard: whose configuration this one is laid beside, "the paper's" or "the
    recipe's" for a visitor's model. differences: from that; None where the configuration is not known. settings: the
    effective options. charts: how it was trained. sheet: its first images.
    """

    entry: Entry
    command: str
    verdict: Facts
    seeds: tuple[tuple[str, str, str, str], ...]
    standard: str
    differences: tuple[Difference, ...] | None
    settings: Facts
    provenance: Facts
    charts: tuple[Chart, ...]
    sheet: Drawn | None

    @property
    def identifier(self) -> str:
        """The same as long as the labels are: a link to a number stays good when others are added."""
        key = repr((self.entry.model, self.entry.dataset, self.entry.metric))
        return "cell-" + hashlib.sha256(key.encode()).hexdigest()[:8]

    @property
    def title(self) -> str:
        """Model, dataset, metric."""
        return f"{self.entry.model} · {self.entry.heading} · {self.entry.metric}"


def panels_of(
    table: ResultTable, kept: Mapping[str, Trained], sheets: Mapping[str, Drawn]
) -> tuple[Panel, ...]:
    """One panel per entry, in reading order. kept: run id -> how it was trained. sheets: cell id -> its images."""
    made = []
    charts: dict[tuple[str, ...], tuple[Chart, ...]] = {}  # many cells are of the same runs
    for entry in table.entries:
        known = [kept[run] for run in entry.runs if run in kept]
        if entry.runs not in charts:
            charts[entry.runs] = charts_of(known)
        shown = (sheets[row.cell] for row in entry.rows if row.cell in sheets)
        made.append(
            Panel(
                entry=entry,
                command=command_of(table, entry),
                verdict=tuple(_verdict(table, entry)),
                seeds=tuple(map(_seed, entry.rows)),
                standard="the paper's" if _is_own(table, entry) else "the recipe's",
                differences=_differences(table, entry, known),
                settings=tuple(_settings(known[0].settings)) if known else (),
                provenance=tuple(_provenance(entry.rows)),
                charts=charts[entry.runs],
                sheet=next(shown, None),
            )
        )
    return tuple(made)


def command_of(table: ResultTable, entry: Entry) -> str:
    """The command that measures this cell again."""

    def named(label: str) -> str:
        return label.replace(",", "\\,")  # a bare comma separates labels

    rater = next((row.dialect for row in entry.rows if row.metric_spec == "by hand"), "")
    if rater:
        words = ["reprise", "label", "export", table.name, "--tier", table.tier]
        return shlex.join(
            [*words, "--models", named(entry.model), "--datasets", named(entry.dataset)]
        )
    words = ["run_protocol", table.name, "--tier", table.tier, *_added(table, entry)]
    label, changes = _parts(entry)
    words += ["--models", named(label), "--datasets", named(entry.dataset)]
    words += ["--metrics", named(entry.metric)]
    for change in filter(None, re.split(r", (?=[\w.]+=)", changes)):
        key, _, value = change.partition("=")
        value = "none" if value == "None" else value
        words += ["--set", f"{key if '.' in key else f'model.{key}'}={value}"]
    seeds = max([row.seed + 1 for row in entry.rows], default=table.seeds)
    return shlex.join([*words, "--seeds", str(seeds), *precision_of(entry.rows)])


def page_command_of(table: ResultTable) -> str:
    """The command that measures the cells of a page again, but for what `--set` changed."""
    words = ["run_protocol", table.name, "--tier", table.tier]
    added = {tuple(_added(table, entry)): None for entry in table.entries if not _parts(entry)[1]}
    rows = (row for entry in table.entries for row in entry.rows)
    return shlex.join([*words, *itertools.chain(*added), *precision_of(rows)])


def _parts(entry: Entry) -> tuple[str, str]:
    """The label, and what was changed with `--set`: `GNM [lr=0.0003, metric.particles=10]`."""
    label, _, changes = entry.model.partition(" [")
    return label, changes.removesuffix("]")


def _is_own(table: ResultTable, entry: Entry) -> bool:
    """Whether the model is one of the protocol's own."""
    return _parts(entry)[0] in table.protocol.models


def _added(table: ResultTable, entry: Entry) -> list[str]:
    """`--model` for a visitor's model: its class alone, for its options are what `--set` and the tier give it."""
    label, _ = _parts(entry)
    spec = next((row.model_spec for row in entry.rows if row.model_spec), "")
    if _is_own(table, entry) or not spec or not label.isprintable():  # a CSV may hold anything
        return []
    return ["--model", f"{label}={spec.partition('(')[0]}"]


def precision_of(rows: Iterable[ResultRow]) -> list[str]:
    """`--precision` for most of the trainings of these rows, where their device would have taken another."""
    used = Counter((row.precision, row.device.startswith("cpu")) for row in rows if row.steps)
    if not used:
        return []
    (precision, on_cpu), _ = used.most_common(1)[0]
    return ["--precision", precision] if precision != ("fp32" if on_cpu else "bf16") else []


def _verdict(table: ResultTable, entry: Entry) -> Iterable[tuple[str, str]]:
    judgement = entry.judgement
    yield "verdict", f"{judgement.verdict.value}: {judgement.reason}"
    if judgement.mean is not None:
        count = "one seed" if judgement.n == 1 else f"mean ± std over {judgement.n} seeds"
        yield "ours", f"{entry.ours.body} ({count})"
    if entry.printed is not None:
        yield "published", str(entry.published)
        yield "printed in", _citation(table.protocol.paper, entry.printed)
        yield "confidence", entry.printed.confidence
        if entry.printed.note:
            yield "note", entry.printed.note
    if judgement.difference is not None:
        yield "difference", f"{judgement.difference:+.4g}".replace("-", "−")
    if judgement.interval is not None:
        low, high = (f"{end:+.4g}".replace("-", "−") for end in judgement.interval)
        yield "90 % interval", f"{low} to {high}, of the difference"
    if judgement.outlook is not None:
        yield "outlook", str(judgement.outlook)
    if judgement.margin is not None:
        yield "margin", f"{judgement.margin:.4g}, {judgement.margin_origin}"
    if entry.stand_in:
        yield "stand-in", f"measured on {entry.stand_in}, which is not the data of the paper"


def _citation(paper: str, printed: PublishedValue) -> str:
    parts = (
        paper,
        printed.table if printed.table not in paper else "",
        f"p. {printed.page}" if printed.page.isdigit() else printed.page,
        f"row {printed.row}" if printed.row else "",
        f"column {printed.column}" if printed.column else "",
    )
    return ", ".join(part for part in parts if part)


def _seed(row: ResultRow) -> tuple[str, str, str, str]:
    value = row.status if row.value is None else f"{row.censored}{row.value!r}".replace("-", "−")
    error = f"± {row.stderr:.3g}, n={row.n}" if row.stderr is not None else ""
    return str(row.seed), f"{value}: {row.note}" if row.note else value, error, row.run


# The configuration ----------------------------------------------------------------------------------------------------


def _differences(
    table: ResultTable, entry: Entry, known: Sequence[Trained]
) -> tuple[Difference, ...] | None:
    """What the paper's run, or the recipe's, would do otherwise: the tier's and the caller's changes, not the row's own
    options.
    """
    row = next(iter(entry.rows), None)
    if row is None or (row.run and not known):
        return None
    protocol = table.protocol
    label, _ = _parts(entry)
    own = dict(protocol.models[label].options) if label in protocol.models else {}
    found = [
        Difference(f"{kind}.{option}", shown(here), shown(paper))
        for kind, options in (known[0].recipe if known else {}).items()
        for option, value in options.items()
        for here in [known[0].settings[kind].get(option)]
        for paper in [own.get(option, value) if kind == "model" else value]
        if here != paper
    ]
    for what, here, theirs in (
        ("measured on", row.dataset_spec, protocol.datasets.get(entry.dataset)),
        ("measured by", row.metric_spec, protocol.metrics.get(entry.metric)),
    ):
        if theirs is not None and here and here != str(theirs):
            found.append(Difference(what, here, str(theirs)))
    return tuple(found)


def _settings(settings: Settings) -> Iterable[tuple[str, str]]:
    for kind in ("model", "training", "dataset"):
        for option, value in settings.get(kind, {}).items():
            yield f"{kind}.{option}", shown(value)


def shown(value: object) -> str:
    """An option's value, for reading."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


# Where it came from ---------------------------------------------------------------------------------------------------


def _provenance(rows: Sequence[ResultRow]) -> Iterable[tuple[str, str]]:
    lines: tuple[tuple[str, Iterable[str]], ...] = (
        ("commit", (_commit(row) for row in rows)),
        ("trained by", (row.trained_commit for row in rows)),
        ("model", (row.model_spec for row in rows)),
        ("parameters", ("" if row.parameters is None else f"{row.parameters:,}" for row in rows)),
        ("trained on", (row.train for row in rows)),
        ("steps", ("" if row.steps is None else f"{row.steps:,}" for row in rows)),
        ("measured on", (row.dataset_spec for row in rows)),
        ("data digest", (row.data_digest for row in rows)),
        ("stand-in", (row.stand_in for row in rows)),
        ("metric", (row.metric_spec for row in rows)),
        ("dialect", (row.dialect for row in rows)),
        ("device", (row.device for row in rows)),
        ("precision", (row.precision for row in rows)),
        ("torch", (row.torch for row in rows)),
        ("training took", (_seconds(row.train_seconds) for row in rows)),
        ("measuring took", (_seconds(row.measure_seconds) for row in rows)),
        ("finished", (row.finished for row in rows)),
        ("run", (row.run for row in rows)),
        ("cell", (row.cell for row in rows)),
        ("arrays", (f"{row.artifact} {row.artifact_digest}".strip() for row in rows)),
    )
    for label, values in lines:
        if text := ", ".join(dict.fromkeys(value for value in values if value)):
            yield label, text


def _commit(row: ResultRow) -> str:
    state = {True: "with uncommitted changes", False: "clean", None: ""}[row.dirty]
    return f"{row.commit} ({state})" if row.commit and state else row.commit


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.0f} s"
