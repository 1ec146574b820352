"""Documents: one page per protocol as Markdown, HTML, PDF and LaTeX, and an index per tier. No torch here.

A page is first gathered as plain text (`Page`), then put into templates/. Nothing in a page changes unless the rows,
the published values, the figures or the protocol do: no dates, no paths, no machine. Files are written only if
they change, so a report over unchanged results touches nothing.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pikepdf
import typst

from ..core import progress
from ..core.errors import DataError, UsageError
from ..core.files import write_bytes, write_text
from ..core.protocol import TIERS, Axis, Deviation, Protocol, Tier, load, names
from ..core.published import published
from ..core.results import PublishedValue, ResultRow, rows_of
from ..core.trained import Trained
from ..core.trained import read as read_trained
from ..core.verdict import Verdict, is_exact
from ..core.workspace import Workspace
from . import curves, effects, figures, galleries
from .drawing import Drawn
from .label import ByHand, by_hand
from .panel import Panel, command_of, page_command_of, panels_of
from .table import (
    Entry,
    Pivot,
    ResultTable,
    build,
    long,
    overall,
    pivot,
    pivot_grid,
    to_latex,
    to_markdown,
)
from .templating import TEMPLATES, render, spans

__all__ = ["Page", "Subject", "command_of", "page", "report", "report_on"]

log = logging.getLogger(__name__)

MOST_IMAGES = 800_000
"""Bytes of all images of a page, which becomes a third larger by holding them as text."""


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
        return cls(full, protocol, docstring, tuple(published(full)))

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
    drawn: tuple[Drawn, ...]
    warnings: tuple[str, ...]
    command: str
    provenance: tuple[tuple[str, str], ...]
    panels: tuple[Panel, ...]
    # what each deviation changes, in words; "" if there is no other option
    ledger: tuple[tuple[Deviation, str], ...]
    hand: ByHand | None = None
    hand_panels: tuple[Panel, ...] = ()

    @property
    def command_anew(self) -> str:
        """What measures again: where there are rows, the command itself finds nothing to do."""
        return f"{self.command} --root build/again"

    @property
    def opened(self) -> dict[int, Panel]:
        """id(entry) -> what its number opens, of every entry of the page."""
        return {id(panel.entry): panel for panel in (*self.panels, *self.hand_panels)}

    @property
    def charts(self) -> list[curves.Chart]:
        """Every learning curve of the page, once."""
        found = (chart for panel in self.panels for chart in panel.charts)
        return list({chart.identifier: chart for chart in found}.values())

    @property
    def banner(self) -> str:
        """What the tier means for every number on the page."""
        text = f"Tier {self.tier.name}: {self.tier.description}."
        if self.tier.name == "paper":
            return text
        numbers = [entry.rows for entry in self.table.entries if entry.has_number]
        if self.tier.name != "demo" and numbers and all(map(is_exact, numbers)):
            return f"{text} The numbers here are exact, and depend on no training."
        order = "; the order of the models may be" if self.table.has_published else ""
        return f"{text} Not comparable in value with the paper{order}."

    @property
    def pivot(self) -> Pivot:
        """The table as printed."""
        return pivot(self.table)

    @property
    def hand_pivot(self) -> Pivot | None:
        """What people judged, laid out as the table is."""
        return pivot(self.hand.table) if self.hand else None

    @property
    def orders(self) -> list[tuple[str, str, str]]:
        """(dataset, metric, agreement in words) of each column that can be ordered."""
        words = []
        for dataset, metric, order in self.table.orders:
            words.append((self.table.headings[dataset], metric, str(order)))
        return words

    @property
    def findings(self) -> list[tuple[str, str, str, str]]:
        """(claim, where it is made, what became of it, the numbers it rests on)."""
        rows = [row for entry in self.table.entries for row in entry.rows]
        tested = [
            (claim, claim.test(rows, self.table.seeds)) for claim in self.table.protocol.claims
        ]
        return [(claim.text, claim.source, found.outcome, found.words) for claim, found in tested]


def report(workspace: Workspace, tier: str, protocols: Sequence[str]) -> list[Path]:
    """Write the pages of `protocols` at `tier`, and the tier's index; the paths of all of them, changed or not.

    The index covers every protocol whose results at this tier can be read. Raises UsageError for an unknown name.
    """
    known = {path.stem for path in workspace.results(tier, "x").parent.glob("*.csv")}
    asked = [Subject.load(name) for name in protocols]
    others = known.intersection(names()) - {subject.name for subject in asked}
    readable = [name for name in sorted(others) if _is_readable(workspace, tier, name)]
    return report_on(workspace, tier, asked, [Subject.load(name) for name in readable])


def report_on(
    workspace: Workspace, tier: str, subjects: Sequence[Subject], others: Sequence[Subject] = ()
) -> list[Path]:
    """As `report`, for subjects that are at hand; `others` are listed in the index only."""
    if tier not in TIERS:
        raise UsageError(f"unknown tier {tier!r}; known: {', '.join(TIERS)}")
    folder = workspace.reports(tier)
    written: list[Path] = []
    pages = []

    at_hand = {subject.name: subject for subject in (*subjects, *others)}

    @cache
    def table_of(name: str) -> ResultTable:
        subject = at_hand.get(name) or Subject.load(name)
        there = name in at_hand or _is_readable(workspace, tier, name)
        rows = rows_of(workspace, tier, subject.name) if there else []
        return build(subject.name, subject.protocol, rows, subject.published, tier)

    with ThreadPoolExecutor(1) as printer:  # typst computes beside Python
        printed = []
        for subject in progress.track(subjects, "report"):
            rows = rows_of(workspace, tier, subject.name)
            table = table_of(subject.name)
            runs = workspace.root / "runs"
            drawn = figures.draw_all(table, rows, subject.published, folder, runs)
            made = page(
                subject,
                table,
                drawn,
                kept=_kept(workspace, tier, rows),
                sheets=galleries.sheets(table, folder, runs),
                hand=by_hand(workspace, tier, subject.name, subject.protocol, subject.published),
                changes={
                    entry: effects.words(entry, table_of, tier)
                    for entry in subject.protocol.deviations
                },
            )
            pages.append(made)
            written += _write(folder, made)
            pdf = folder / f"{subject.name}.pdf"
            printed.append(printer.submit(_print, pdf, made, folder))
            written.append(pdf)
            written += [figure.path for figure in drawn if figure.path is not None]
        for done in printed:
            done.result()
    pages += [page(subject, table_of(subject.name), ()) for subject in others]
    pages.sort(key=_place)
    total = overall(made.table for made in pages)
    there = {made.subject.name for made in pages}
    not_run = _not_run(table_of(name) for name in names() if name not in there)
    for name, template in (("index.html", "index.html.j2"), ("README.md", "index.md.j2")):
        text = render(
            template, pages=pages, tier=_tier(tier), bar_of=_bar, overall=total, not_run=not_run
        )
        write_text(folder / name, text)
        written.append(folder / name)
    return written


def _not_run(tables: Iterable[ResultTable]) -> str:
    """One sentence about the published numbers of protocols that have no page; "" if there are none."""
    counts = {
        table.name: sum(entry.printed is not None for entry in table.entries) for table in tables
    }
    said = [f"{name} ({count})" for name, count in counts.items() if count]
    return f"No run yet of protocols with published numbers: {', '.join(said)}." if said else ""


def page(
    subject: Subject,
    table: ResultTable,
    drawn: Iterable[Drawn],
    *,
    kept: Mapping[str, Trained] | None = None,
    sheets: Mapping[str, Drawn] | None = None,
    hand: ByHand | None = None,
    changes: Mapping[Deviation, str] | None = None,
) -> Page:
    """Gather a page from a table and the figures that were drawn of it.

    kept: run id -> how it was trained. sheets: cell id -> its images. hand: what people said of the samples. changes:
    what each deviation changes, in words.
    """
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
    if len(precisions := sorted({row.precision for row in rows if row.steps})) > 1:
        warnings.append(
            f"Trained in {' and '.join(precisions)}; the command of each cell says in which."
        )
    if any(row.dirty for row in rows):
        warnings.append("Some numbers were measured with uncommitted changes in the code.")
    if any("-dirty" in row.trained_commit for row in rows):
        warnings.append("Some models were trained with uncommitted changes in the code.")
    trained = [row.trained_commit for row in rows if row.status == "ok" and row.steps]
    if unnamed := trained.count(""):
        warnings.append(
            f"Of {unnamed} of {len(trained)} numbers it is not known which commit trained the model."
        )
    warnings += _of_two_runs(rows)
    warnings += _trained_twice(rows)
    return Page(
        subject=subject,
        tier=_tier(table.tier),
        table=table,
        drawn=tuple(drawn),
        warnings=tuple(warnings),
        command=page_command_of(table),
        provenance=tuple(_provenance(rows)),
        panels=panels_of(table, kept or {}, sheets or {}),
        ledger=tuple(
            (entry, (changes or {}).get(entry, "")) for entry in subject.protocol.deviations
        ),
        hand=hand,
        hand_panels=panels_of(hand.table, kept or {}, {}) if hand else (),
    )


def _place(made: Page) -> tuple[bool, bool, str]:
    """The index begins with what has numbers to compare, and main papers stand before supplements."""
    supplement = "supplement" in made.table.protocol.paper
    return not made.table.has_published, supplement, made.subject.name


def _tier(name: str) -> Tier:
    return TIERS[name]  # type: ignore[index]  # checked by report_on


def _kept(workspace: Workspace, tier: str, rows: Iterable[ResultRow]) -> dict[str, Trained]:
    """How the runs behind the rows were trained, as far as it is known."""
    paths = {row.run: workspace.trained(tier, row.run) for row in rows if _is_name(row.run)}
    found = ((run, read_trained(path)) for run, path in paths.items())
    return {run: trained for run, trained in found if trained is not None}


def _is_name(text: str) -> bool:
    """Whether it can be a file's name and nothing else: a CSV may hold anything."""
    return re.fullmatch(r"\w[\w.-]{0,200}", text) is not None


def _is_readable(workspace: Workspace, tier: str, name: str) -> bool:
    """Whether the rows of a protocol that was not asked for can be read; if not, who was asked for goes without it."""
    try:
        rows_of(workspace, tier, name)
    except DataError as error:
        log.warning("left out: %s", error)
        return False
    return True


# Where the numbers come from ----------------------------------------------------------------------------------------


def _of_two_runs(rows: Iterable[ResultRow]) -> Iterable[str]:
    """A sentence about each label whose numbers are of two things that it has meant: of two versions, say."""
    runs: dict[tuple[str, str, int], dict[str, None]] = {}
    for row in rows:
        if row.status == "ok" and row.run:
            runs.setdefault((row.model, row.train, row.seed), {})[row.run] = None
    for (model, _, seed), meant in runs.items():
        if len(meant) > 1:
            yield (
                f"The numbers of {model}, seed {seed}, are of {len(meant)} different runs, which are not one model: "
                f"{', '.join(meant)}; `reprise run` measures what its label now means."
            )


def _trained_twice(rows: Iterable[ResultRow]) -> Iterable[str]:
    """A sentence about each run whose numbers are of more than one training: the same recipe, not the same weights."""
    trainings: dict[tuple[str, int | None], dict[str, None]] = {}
    for row in rows:
        if row.status == "ok" and row.run:
            by = row.trained_commit[:10] or "an unnamed commit"
            how = f"{row.precision} on {row.device.partition(';')[0]} by {by}"
            trainings.setdefault((row.run, row.steps), {})[how] = None
    for run, hows in {run: hows for (run, _), hows in trainings.items() if len(hows) > 1}.items():
        yield (
            f"The numbers of {run} are of {len(hows)} trainings, of one recipe but not of one set of weights: "
            f"{'; '.join(hows)}."
        )


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


# Files --------------------------------------------------------------------------------------------------------------


def _write(folder: Path, made: Page) -> list[Path]:
    name = made.subject.name
    paths = [folder / f"{name}.{ending}" for ending in ("md", "html", "tex")]
    markdown, html, tex = paths
    write_text(markdown, to_markdown_page(made))
    write_text(html, to_html_page(made))
    write_text(tex, to_latex(made.table))
    return paths


def _print(path: Path, made: Page, folder: Path) -> None:
    write_bytes(path, to_pdf(made, folder))


def to_markdown_page(made: Page) -> str:
    """The page as a code host shows it: the printed table first, then everything line by line."""
    return render(
        "page.md.j2",
        page=made,
        compact=to_markdown(pivot_grid(made.table)),
        long=to_markdown(long(made.table)),
        by_hand=to_markdown(pivot_grid(made.hand.table)) if made.hand else "",
    )


def to_html_page(made: Page) -> str:
    """One file that needs no other: style, script and images are inside; labels are text whatever they hold.

    The policy in its head lets this one script run and no other, and nothing be fetched.
    """
    opened = made.opened
    return render(
        "page.html.j2",
        page=made,
        identifier=lambda entry: opened[id(entry)].identifier,
        bar=_bar(made.table),
        choices=_choices(made.table),
        drawing=(curves.WIDTH, curves.HEIGHT),
        embedded=_embedded(made),
    )


def _choices(table: ResultTable) -> list[tuple[str, list[str]]]:
    """What the cells can be filtered by."""
    axes: tuple[Axis, ...] = ("model", "dataset", "metric")
    found: dict[str, list[str]] = {axis: table.labels(axis) for axis in axes}
    if table.has_published:
        found["verdict"] = list(dict.fromkeys(entry.verdict.body for entry in table.entries))
    return list(found.items())


def _embedded(made: Page) -> set[Path]:
    """The sheets that fit into the page beside its figures; the panels of the others name their file."""
    found: set[Path] = set()
    left = MOST_IMAGES - sum(drawn.path.stat().st_size for drawn in made.drawn if drawn.path)
    for panel in made.panels:
        if panel.sheet is not None and panel.sheet.path is not None:
            left -= panel.sheet.path.stat().st_size
            if left >= 0:
                found.add(panel.sheet.path)
    return found


def to_pdf(made: Page, folder: Path) -> bytes:
    """The page for print. The same page gives the same bytes: no date, and only typst's own fonts.

    The text goes in as data that templates/page.typ reads, so nothing in it can be taken for markup.
    """
    source: Any = (
        TEMPLATES / "page.typ"
    ).read_bytes()  # its stub wants the types of source and root alike
    printed = typst.compile(
        source,
        root=str(folder),
        format="pdf",
        ignore_system_fonts=True,
        sys_inputs={"page": json.dumps(_for_print(made, folder))},
    )
    return _packed(printed)


def _packed(pdf: bytes) -> bytes:
    """The same document in half the bytes: its thousands of small objects, tags for screen readers, are compressed."""
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as document:
        together = pikepdf.ObjectStreamMode.generate
        document.save(out, object_stream_mode=together, deterministic_id=True)
    return out.getvalue()


def _for_print(made: Page, folder: Path) -> dict[str, Any]:
    layout = made.pivot
    grid = long(made.table, short_ids=True)

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
        "summary": " ".join(f"{line}." for line in (made.table.summary, *made.table.outlooks)),
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
                "gone": drawn.gone,
                "path": "/" + drawn.path.relative_to(folder).as_posix() if drawn.path else "",
            }
            for drawn in made.drawn
        ],
        "answers": [spans(paragraph) for paragraph in made.subject.answers],
        "deviations": [
            [entry.what, entry.paper, entry.code, entry.ours, effect, entry.source]
            for entry, effect in made.ledger
        ],
        "footnotes": [[note.mark, note.text] for note in made.table.footnotes],
        "command": made.command,
        "command_anew": made.command_anew,
        "provenance": [[label, text] for label, text in made.provenance if text],
        "hand": _hand_for_print(made),
        "panels": [_panel_for_print(panel) for panel in made.opened.values() if panel.entry.rows],
    }


def _hand_for_print(made: Page) -> dict[str, Any]:
    """What people judged, as lines."""
    if made.hand is None:
        return {"cells": [], "agreements": []}
    return {
        "cells": [
            [e.model, e.heading, e.metric, str(e.ours), str(e.published)]
            for e in made.hand.table.entries
        ],
        "agreements": [
            [a.dataset, f"{a.first} and {a.second}", str(a.n), a.words]
            + [str(count) for count in (a.both, a.first_only, a.second_only, a.neither)]
            for a in made.hand.agreements
        ],
    }


def _panel_for_print(panel: Panel) -> dict[str, Any]:
    """What a number opens on the screen, in lines: the settings that differ, not all of them."""
    if panel.differences is None:
        configuration = "not known: it was not kept beside the results"
    else:
        changes = (f"{d.option} {d.here} ({panel.standard}: {d.paper})" for d in panel.differences)
        configuration = "; ".join(changes) or f"{panel.standard}, unchanged"
    seeds = "; ".join(
        f"{seed}: {value} {error}".strip() + (f" [{run}]" if run else "")
        for seed, value, error, run in panel.seeds
    )
    return {
        "title": panel.title,
        "command": panel.command,
        "facts": [
            *panel.verdict,
            ("every seed", seeds),
            ("configuration", configuration),
            *(fact for fact in panel.provenance if fact[0] not in ("run", "arrays")),
        ],
        "charts": [
            {
                "name": chart.name,
                "lines": chart.lines,
                "low": f"{chart.low:.4g}".replace("-", "−"),
                "high": f"{chart.high:.4g}".replace("-", "−"),
                "steps": f"{chart.steps:,}",
            }
            for chart in panel.charts
        ],
    }


def _bar(table: ResultTable) -> list[tuple[str, int, float]]:
    """(verdict, count, percent) of the cells that have a published value."""
    published = [entry for entry in table.entries if entry.printed is not None]
    counts = [
        (verdict.value, sum(entry.judgement.verdict is verdict for entry in published))
        for verdict in Verdict
    ]
    return [(word, count, 100 * count / len(published)) for word, count in counts if count]
