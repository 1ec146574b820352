"""Documents: one page per protocol as Markdown, HTML, PDF and LaTeX, and an index per tier. No torch here.

A page is first gathered as plain text (`Page`), then put into templates/. Nothing in a page changes unless the rows,
the published values, the figures or the protocol do: no dates, no paths, no machine. Files are written only if
they change, so a report over unchanged results touches nothing.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jinja2
import typst

from ..core import progress
from ..core.errors import UsageError
from ..core.files import write_bytes, write_text
from ..core.protocol import TIERS, Deviation, Protocol, Tier, load, names, published_path
from ..core.results import PublishedValue, ResultRow, read
from ..core.verdict import Verdict
from ..core.workspace import Workspace
from . import figures
from .table import (
    Entry,
    Pivot,
    ResultTable,
    build,
    escape_markdown,
    long,
    pivot,
    pivot_grid,
    to_latex,
    to_markdown,
)

__all__ = ["Page", "Subject", "page", "report", "report_on"]

TEMPLATES = Path(__file__).resolve().parent / "templates"

# A shape beside each colour: nobody needs to tell green from orange.
SYMBOLS: Mapping[str, str] = {
    "equivalent": "●",
    "better": "▲",
    "worse": "▼",
    "inconclusive": "◐",
    "incomparable": "○",
    "missing": "·",
    "none": "",
}


@dataclass(frozen=True)
class Subject:
    """What a page is about: a protocol under its name, the docstring that answers for it, its published values."""

    name: str
    protocol: Protocol
    docstring: str
    published: tuple[PublishedValue, ...]

    @classmethod
    def load(cls, name: str) -> Subject:
        """The protocol of that name. Raises UsageError if there is none."""
        full, protocol, docstring = load(name)
        path = published_path(full)
        published = tuple(read(path, PublishedValue)) if path.is_file() else ()
        return cls(full, protocol, docstring, published)

    @property
    def title(self) -> str:
        """The docstring's first line."""
        return self.docstring.strip().partition("\n")[0] or self.name

    @property
    def answers(self) -> list[str]:
        """The docstring's paragraphs after the first line, each on one line."""
        text = self.docstring.strip().partition("\n")[2]
        return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that stands on one page, in the order in which it is read."""

    subject: Subject
    tier: Tier
    table: ResultTable
    drawn: tuple[figures.Drawn, ...]
    warnings: tuple[str, ...]
    command: str
    provenance: tuple[tuple[str, str], ...]

    @property
    def banner(self) -> str:
        """What the tier means for every number on the page."""
        text = f"Tier {self.tier.name}: {self.tier.description}."
        if self.tier.name == "paper":
            return text
        order = "; the order of the models may be" if self.table.has_published else ""
        return f"{text} Not comparable in value with the paper{order}."

    @property
    def pivot(self) -> Pivot:
        """The table as printed."""
        return pivot(self.table)

    @property
    def orders(self) -> list[tuple[str, str, str]]:
        """(dataset, metric, agreement in words) of each column that can be ordered."""
        words = []
        for dataset, metric, order in self.table.orders:
            tau = f"τ = {order.tau:+.2f}".replace("-", "−") if order.tau is not None else "all tied"
            pairs = order.n * (order.n - 1) // 2
            agreement = f"{tau}, {order.agree} of {pairs} pairs, n={order.n}"
            words.append((self.table.headings[dataset], metric, agreement))
        return words

    @property
    def findings(self) -> list[tuple[str, str, str, str]]:
        """(claim, where it is made, what became of it, the numbers it rests on)."""
        rows = [row for entry in self.table.entries for row in entry.rows]
        tested = [
            (claim, claim.test(rows, self.table.seeds)) for claim in self.table.protocol.claims
        ]
        return [(claim.text, claim.source, found.outcome, found.words) for claim, found in tested]

    @property
    def deviations(self) -> tuple[Deviation, ...]:
        """This item's part of the deviation ledger."""
        return self.table.protocol.deviations


def report(workspace: Workspace, tier: str, protocols: Sequence[str]) -> list[Path]:
    """Write the pages of `protocols` at `tier`, and the tier's index; the paths of all of them, changed or not.

    The index covers every protocol that has results at this tier. Raises UsageError for an unknown name.
    """
    known = {path.stem for path in workspace.results(tier, "x").parent.glob("*.csv")}
    asked = [Subject.load(name) for name in protocols]
    others = known.intersection(names()) - {subject.name for subject in asked}
    return report_on(workspace, tier, asked, [Subject.load(name) for name in sorted(others)])


def report_on(
    workspace: Workspace, tier: str, subjects: Sequence[Subject], others: Sequence[Subject] = ()
) -> list[Path]:
    """As `report`, for subjects that are at hand; `others` are listed in the index only."""
    if tier not in TIERS:
        raise UsageError(f"unknown tier {tier!r}; known: {', '.join(TIERS)}")
    folder = workspace.reports(tier)
    written: list[Path] = []
    pages = []
    for subject in progress.track(subjects, "report"):
        rows = _rows(workspace, tier, subject.name)
        table = build(subject.name, subject.protocol, rows, subject.published, tier)
        drawn = figures.draw_all(table, rows, subject.published, folder, workspace.root / "runs")
        made = page(subject, table, drawn)
        pages.append(made)
        written += _write(folder, made)
        written += [figure.path for figure in drawn if figure.path is not None]
    for subject in others:
        rows = _rows(workspace, tier, subject.name)
        table = build(subject.name, subject.protocol, rows, subject.published, tier)
        pages.append(page(subject, table, ()))
    pages.sort(key=_place)
    for name, template in (("index.html", "index.html.j2"), ("README.md", "index.md.j2")):
        write_text(folder / name, _render(template, pages=pages, tier=_tier(tier)))
        written.append(folder / name)
    return written


def page(subject: Subject, table: ResultTable, drawn: Iterable[figures.Drawn]) -> Page:
    """Gather a page from a table and the figures that were drawn of it."""
    rows = [row for entry in table.entries for row in entry.rows]
    warnings = []
    if others := {e.dataset: e.stand_in for e in table.entries if e.has_number and e.stand_in}:
        data = "; ".join(f"{label} on {stand_in}" for label, stand_in in others.items())
        warnings.append(f"Measured on stand-in data, not the data of the paper: {data}.")
    if holes := sum(not entry.has_number for entry in table.entries):
        warnings.append(f"Partial: {holes} of {len(table.entries)} cells have no number yet.")
    whole, part = (
        len(list(subject.protocol.cells(subject.name, 1, tier.name)))
        for tier in (TIERS["paper"], _tier(table.tier))
    )
    if part < whole:
        warnings.append(
            f"Tier {table.tier} makes {part} of the {whole} cells; name models or datasets to get others."
        )
    if any(row.dirty for row in rows):
        warnings.append("Some numbers were measured with uncommitted changes in the code.")
    return Page(
        subject=subject,
        tier=_tier(table.tier),
        table=table,
        drawn=tuple(drawn),
        warnings=tuple(warnings),
        command=f"run_protocol {subject.name} --tier {table.tier}",
        provenance=tuple(_provenance(rows)),
    )


def _place(made: Page) -> tuple[bool, bool, str]:
    """The index begins with what has numbers to compare, and main papers stand before supplements."""
    supplement = "supplement" in made.table.protocol.paper
    return not made.table.has_published, supplement, made.subject.name


def _tier(name: str) -> Tier:
    return TIERS[name]  # type: ignore[index]  # checked by report_on


def _rows(workspace: Workspace, tier: str, name: str) -> list[ResultRow]:
    path = workspace.results(tier, name)
    return read(path, ResultRow) if path.is_file() else []


# Where the numbers come from ----------------------------------------------------------------------------------------


def _provenance(rows: Sequence[ResultRow]) -> Iterable[tuple[str, str]]:
    """What all numbers of the page share, in one line per kind."""
    ok = [row for row in rows if row.status == "ok"]

    def distinct(values: Iterable[str]) -> str:
        return ", ".join(sorted(set(values) - {""}))

    yield "commit", distinct(row.commit[:10] + (" (modified)" if row.dirty else "") for row in ok)
    yield "trained by commit", distinct(row.trained_commit for row in ok)
    yield "torch", distinct(row.torch for row in ok)
    yield "device", distinct(row.device for row in ok)
    yield "precision", distinct(row.precision for row in ok)
    yield "training steps", distinct(f"{row.steps:,}" for row in ok if row.steps is not None)
    yield "data", distinct(f"{row.dataset_spec} {row.data_digest}".strip() for row in ok)
    yield "dialects", distinct(f"{row.metric}: {row.dialect}" for row in ok if row.dialect)


def command_of(table: ResultTable, entry: Entry) -> str:
    """The command that measures this cell again."""
    words = ["run_protocol", table.name, "--tier", table.tier]
    spec = next((row.model_spec for row in entry.rows if row.model_spec), "")
    label, _, changes = entry.model.partition(
        " ["
    )  # `GNM [lr=0.0003, metric.particles=10]`: made with --set
    if label not in table.protocol.models and spec:
        words += ["--model", f"{label}={spec}"]
    words += ["--models", label, "--datasets", entry.dataset, "--metrics", entry.metric]
    for change in filter(None, changes.removesuffix("]").split(", ")):
        words += ["--set", change if "." in change.partition("=")[0] else f"model.{change}"]
    seeds = max([row.seed + 1 for row in entry.rows], default=table.seeds)
    return shlex.join([*words, "--seeds", str(seeds)])


def facts_of(table: ResultTable, entry: Entry) -> list[tuple[str, str]]:
    """Everything known of one cell, as (what, text): for the reader who clicks a number."""
    judgement, printed = entry.judgement, entry.printed
    facts = [("verdict", f"{judgement.verdict.value}: {judgement.reason}")]
    if judgement.mean is not None:
        facts.append(("ours", f"{entry.ours.body}, {entry.seeds}"))
    if printed is not None:
        where = ", ".join(
            part
            for part in (
                printed.table,
                f"p. {printed.page}" if printed.page else "",
                f"row {printed.row}" if printed.row else "",
                f"column {printed.column}" if printed.column else "",
            )
            if part
        )
        note = f"; {printed.note}" if printed.note else ""
        facts.append(
            (
                "published",
                f"{printed.printed} ({where or 'place not recorded'}), {printed.confidence}{note}",
            )
        )
    if judgement.interval is not None:
        low, high = (f"{end:+.4g}" for end in judgement.interval)
        facts.append(("90 % interval", f"{low} to {high}, of the difference"))
    if judgement.margin is not None:
        facts.append(("margin", f"{judgement.margin:.4g}, {judgement.margin_origin}"))
    facts.append(("command", command_of(table, entry)))
    for row in entry.rows:
        value = row.status if row.value is None else f"{row.censored}{row.value!r}"
        error = f" ± {row.stderr:.3g} (standard error, n={row.n})" if row.stderr is not None else ""
        note = f": {row.note}" if row.note else ""
        facts.append((f"seed {row.seed}", value + error + note))
    for label, values in (
        ("run", (row.run for row in entry.rows)),
        ("cell", (row.cell for row in entry.rows)),
        ("stands in for the paper's data", (row.stand_in for row in entry.rows)),
        ("model", (row.model_spec for row in entry.rows)),
        ("trained on", (row.train for row in entry.rows)),
        ("measured on", (f"{row.dataset_spec} {row.data_digest}".strip() for row in entry.rows)),
        ("metric", (row.metric_spec for row in entry.rows)),
        ("dialect", (row.dialect for row in entry.rows)),
        ("commit", (row.commit + (" (modified)" if row.dirty else "") for row in entry.rows)),
        ("trained by commit", (row.trained_commit for row in entry.rows)),
        (
            "device",
            (" ".join((row.device, row.precision, row.torch)).strip() for row in entry.rows),
        ),
        ("steps", ("" if row.steps is None else f"{row.steps:,}" for row in entry.rows)),
        ("arrays", (f"{row.artifact} {row.artifact_digest}".strip() for row in entry.rows)),
    ):
        if text := ", ".join(dict.fromkeys(value for value in values if value)):
            facts.append((label, text))
    return facts


# Files --------------------------------------------------------------------------------------------------------------


def _write(folder: Path, made: Page) -> list[Path]:
    name = made.subject.name
    paths = [folder / f"{name}.{ending}" for ending in ("md", "html", "tex", "pdf")]
    markdown, html, tex, pdf = paths
    write_text(markdown, to_markdown_page(made))
    write_text(html, to_html_page(made))
    write_text(tex, to_latex(made.table))
    write_bytes(pdf, to_pdf(made, folder))
    return paths


def to_markdown_page(made: Page) -> str:
    """The page as a code host shows it: the printed table first, then everything line by line."""
    return _render(
        "page.md.j2",
        page=made,
        compact=to_markdown(pivot_grid(made.table)),
        long=to_markdown(long(made.table)),
    )


def to_html_page(made: Page) -> str:
    """One file that needs no other: style and images are inside. No script; labels are text whatever they hold."""
    identifiers = {id(entry): f"cell-{n}" for n, entry in enumerate(made.table.entries)}
    return _render(
        "page.html.j2",
        page=made,
        identifier=lambda entry: identifiers[id(entry)],
        facts=lambda entry: facts_of(made.table, entry),
        bar=_bar(made.table),
    )


def to_pdf(made: Page, folder: Path) -> bytes:
    """The page for print. The same page gives the same bytes: no date, and only typst's own fonts.

    The text goes in as data that templates/page.typ reads, so nothing in it can be taken for markup.
    """
    source: Any = (
        TEMPLATES / "page.typ"
    ).read_bytes()  # its stub wants the types of source and root alike
    return typst.compile(
        source,
        root=str(folder),
        format="pdf",
        ignore_system_fonts=True,
        sys_inputs={"page": json.dumps(_for_print(made, folder))},
    )


def _for_print(made: Page, folder: Path) -> dict[str, Any]:
    layout = made.pivot
    grid = long(made.table)

    def field(entry: Entry | None) -> dict[str, str]:
        if entry is None:
            return {"ours": "", "spread": "", "published": "", "kind": "none"}
        ours, _, spread = entry.ours.body.partition(" ± ")
        return {
            "ours": ours + ("" if spread else entry.ours.marks),
            "spread": f"± {spread}{entry.ours.marks}" if spread else "",
            "published": str(entry.published) if entry.printed else "",
            "kind": entry.kind if entry.has_number else "missing",
        }

    return {
        "title": made.subject.title,
        "paper": made.table.protocol.paper,
        "name": made.subject.name,
        "tier": made.tier.name,
        "banner": made.banner,
        "warnings": made.warnings,
        "summary": f"{made.table.summary}.",
        "has_published": made.table.has_published,
        "pivot": {
            "labels": layout.labels,
            "header": [
                [{"text": h.text, "span": h.span} for h in level] for level in layout.header
            ],
            "lines": [
                {"labels": labels, "cells": [field(entry) for entry in entries]}
                for labels, entries in layout.lines
            ],
        },
        "long": {
            "header": [head.text for head in grid.header[-1]],
            "numeric": sorted(grid.numeric),
            "lines": [[str(text) for text in line] for line in grid.lines],
        },
        "orders": made.orders,
        "findings": made.findings,
        "figures": [
            {
                "title": drawn.title,
                "caption": drawn.caption,
                "stale": drawn.stale,
                "path": "/" + drawn.path.relative_to(folder).as_posix() if drawn.path else "",
            }
            for drawn in made.drawn
        ],
        "answers": [spans(paragraph) for paragraph in made.subject.answers],
        "deviations": [
            [entry.what, entry.paper, entry.code, entry.ours, entry.source]
            for entry in made.deviations
        ],
        "footnotes": [[note.mark, note.text] for note in made.table.footnotes],
        "command": made.command,
        "provenance": [[label, text] for label, text in made.provenance if text],
    }


def spans(text: str) -> list[tuple[Literal["text", "code"], str]]:
    """Prose with `code` in it, taken apart."""
    parts = re.split(r"`([^`]*)`", text)
    kinds: itertools.cycle[Literal["text", "code"]] = itertools.cycle(("text", "code"))
    return [(kind, part) for kind, part in zip(kinds, parts, strict=False) if part]


def _bar(table: ResultTable) -> list[tuple[str, int, float]]:
    """(verdict, count, percent) of the cells that have a published value."""
    published = [entry for entry in table.entries if entry.printed is not None]
    counts = [
        (verdict.value, sum(entry.judgement.verdict is verdict for entry in published))
        for verdict in Verdict
    ]
    return [(word, count, 100 * count / len(published)) for word, count in counts if count]


def _prose_markdown(text: str) -> str:
    return "".join(
        f"`{part}`" if kind == "code" else escape_markdown_prose(part) for kind, part in spans(text)
    )


def escape_markdown_prose(text: str) -> str:
    """As `escape_markdown`, but keeping the spaces at both ends."""
    left, right = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{left and ' '}{escape_markdown(text)}{right and ' '}"


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(("html.j2",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "md": escape_markdown,
        "prose": _prose_markdown,
        "spans": spans,
        "data_uri": _data_uri,
        "pixels": lambda path: round(110 * figures.inches(path)),
    }
    environment.globals |= {"symbols": SYMBOLS, "bar_of": _bar}
    return environment


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
