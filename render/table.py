"""One table model, laid out once and written four ways: terminal and Markdown, HTML, Typst, LaTeX. No torch here.

`build` lays rows beside published values and judges each cell (core/verdict.py). From the result come two layouts:
`long`, one line per cell with everything known, and `pivot`, the table as it is printed in the paper.
A layout is text with marks; the writers below only escape and align it.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tabulate import tabulate

from ..core.declared import declared
from ..core.order import OrderAgreement, order_agreement
from ..core.protocol import TIERS, Axis, Protocol, Table
from ..core.results import PublishedValue, ResultRow
from ..core.verdict import (
    Judgement,
    Verdict,
    is_exact,
    judge,
    summary,
)
from .latex import escape_latex

# Marks on numbers are symbols and letters; superscript digits, which would read as powers, are for words only.
CONFIDENCE_MARKS = {
    "doubtful digit": ("†", "last digit doubtful in the copy at hand"),
    "read off a figure": ("‡", "read off a figure"),
    "recovered from the authors' files": ("§", "recovered from the authors' files"),
    "recovered, doubtful": ("¶", "recovered from the authors' files, which leave a doubt"),
}
STAND_IN_MARK = "*"  # one more of them for each further kind of stand-in data on a page
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ"
NO_VALUE = "–"


@dataclass(frozen=True)
class Text:
    """What stands in one field: words, and the marks of its footnotes."""

    body: str
    marks: str = ""

    def __str__(self) -> str:
        return self.body + self.marks


@dataclass(frozen=True)
class Footnote:
    """A mark and what it means."""

    mark: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell: what is known, and how it is written.

    ours: "0.973 ± 0.004" or the status that stands in its place. seeds: "n=3", "" if there is no number.
    """

    model: str
    dataset: str
    metric: str
    rows: tuple[ResultRow, ...]
    printed: PublishedValue | None
    judgement: Judgement
    ours: Text
    seeds: str
    published: Text
    difference: Text
    margin: Text
    verdict: Text

    @property
    def has_number(self) -> bool:
        """Whether all seeds were measured, and of one thing."""
        return self.judgement.mean is not None

    @property
    def kind(self) -> str:
        """The verdict's word, or "none" where the paper prints nothing."""
        judged = self.printed is not None or not self.has_number
        return self.judgement.verdict.value if judged else "none"

    @property
    def stand_in(self) -> str:
        """The images that stood in for the published ones behind our number; "" if none did, or there is no number."""
        return ", ".join(dict.fromkeys(row.stand_in for row in self.rows if row.stand_in))

    @property
    def heading(self) -> str:
        """The dataset's label as printed; with what ours was measured on, where that is something else."""
        return f"{self.dataset} (ours: {briefly(self.stand_in)})" if self.stand_in else self.dataset

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of the runs behind the number."""
        return tuple(dict.fromkeys(row.run for row in self.rows if row.run))

    @property
    def source(self) -> str:
        """The id of the first run, and how many more there are."""
        more = f" +{len(self.runs) - 1}" if len(self.runs) > 1 else ""
        return self.runs[0] + more if self.runs else ""


@dataclass(frozen=True)
class Head:
    """A heading over `span` columns."""

    text: str
    span: int = 1


@dataclass(frozen=True)
class Grid:
    """A laid-out table: levels of headings, lines of fields, and how many leading columns are labels."""

    header: tuple[tuple[Head, ...], ...]
    lines: tuple[tuple[Text, ...], ...]
    labels: int
    numeric: frozenset[int] = frozenset()  # columns aligned to the right


@dataclass(frozen=True, kw_only=True)
class Pivot:
    """The table as printed: headings, and one line of entries per label; None where the protocol has no cell."""

    header: tuple[tuple[Head, ...], ...]
    lines: tuple[tuple[tuple[str, ...], tuple[Entry | None, ...]], ...]
    labels: tuple[str, ...]  # names of the label columns


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """Everything a page says about one protocol at one tier, in reading order."""

    name: str
    tier: str
    seeds: int
    protocol: Protocol
    entries: tuple[Entry, ...]
    footnotes: tuple[Footnote, ...]
    orders: tuple[tuple[str, str, OrderAgreement], ...]  # dataset, metric, agreement

    @cached_property
    def counts(self) -> Counter[str]:
        """Verdicts of the cells that have a published value; "none": measured, but nothing printed."""
        return Counter(entry.kind for entry in self.entries)

    @cached_property
    def headings(self) -> dict[str, str]:
        """Dataset label -> its heading: whatever any of its numbers was measured on is said over all of them."""
        found: dict[str, str] = {}
        for entry in self.entries:
            if found.get(entry.dataset, entry.dataset) == entry.dataset:
                found[entry.dataset] = entry.heading
        return found

    def labels(self, axis: Axis) -> list[str]:
        """The labels on one axis in the protocol's order, and after them those that the command line added."""
        there = dict.fromkeys(getattr(entry, axis) for entry in self.entries)
        own = [label for label in getattr(self.protocol, f"{axis}s") if label in there]
        return list(dict.fromkeys([*own, *there]))

    @property
    def has_published(self) -> bool:
        """Whether the paper prints any number here."""
        return any(entry.printed is not None for entry in self.entries)

    @property
    def summary(self) -> str:
        """One sentence: how many cells are what."""
        published = [entry for entry in self.entries if entry.printed is not None]
        if not published:
            measured = sum(entry.has_number for entry in self.entries)
            return f"{measured} of {len(self.entries)} cells measured; the paper prints no numbers here"
        return summary((entry.judgement.verdict for entry in published), self.tier)

    @property
    def outlooks(self) -> list[str]:
        """What would decide each inconclusive cell: "GNM, MNIST-4, LL: 4 more seeds would decide this cell: ..."."""
        return [
            f"{entry.model}, {entry.dataset}, {entry.metric}: {entry.judgement.outlook}"
            for entry in self.entries
            if entry.judgement.outlook is not None
        ]


def overall(tables: Iterable[ResultTable]) -> str:
    """One sentence about all cells of several protocols of one tier that have a published value; "" if none has."""
    tables = [table for table in tables if table.has_published]
    verdicts = [e.judgement.verdict for t in tables for e in t.entries if e.printed is not None]
    tiers = {table.tier for table in tables}
    if not verdicts:
        return ""
    return (
        f"{summary(verdicts, tiers.pop() if len(tiers) == 1 else '')}, in {len(tables)} protocols"
    )


def build(
    name: str,
    protocol: Protocol,
    rows: Iterable[ResultRow],
    published: Iterable[PublishedValue],
    tier: str,
) -> ResultTable:
    """Lay `rows` (of this protocol and tier) beside `published`, judge every cell, and write down each field."""
    seeds = protocol.seeds_for(tier) if tier in TIERS else protocol.seeds  # type: ignore[arg-type]  # a user's name
    measured: dict[tuple[str, str, str], list[ResultRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.seed):
        measured[row.model, row.dataset, row.metric].append(row)
    printed = {value.key: value for value in published if value.value is not None}
    digits = _digits_by_metric(printed.values())
    percent = {value.metric for value in printed.values() if value.printed.endswith("%")}

    # A cell the protocol does not name, of a model added on the command line, still gets its line.
    keys = dict.fromkeys(
        (cell.model_label, cell.dataset_label, cell.metric_label)
        for cell in protocol.cells(name, 1, tier)  # type: ignore[arg-type]  # a name of the user's
    )
    keys |= dict.fromkeys(measured)
    notes = _Notes()
    entries = []
    for model, dataset, metric in keys:
        key = (model, dataset, metric)
        entries.append(
            _entry(
                key,
                tuple(measured.get(key, ())),
                printed.get(key),
                digits.get(metric),
                metric in percent,
                _is_pending(protocol, key),
                tier,
                seeds,
                notes,
            )
        )
    unprinted = any(entry.has_number and entry.printed is None for entry in entries)
    if unprinted and any(entry.printed for entry in entries):
        notes.symbol(NO_VALUE, "the paper prints no value")
    return ResultTable(
        name=name,
        tier=tier,
        seeds=seeds,
        protocol=protocol,
        entries=tuple(entries),
        footnotes=notes.footnotes(),
        orders=tuple(_orders(entries, seeds)),
    )


def _drawn(rows: Sequence[ResultRow]) -> bool:
    """Whether every seed was measured on examples of its own, as the metric's class says (`Metric.drawn`)."""
    name = rows[0].metric_spec.partition("(")[0] if rows else ""
    metric = declared("metric", name) if name else None
    return metric is not None and metric.attributes.get("drawn") is True


# The fields of one cell ---------------------------------------------------------------------------------------------


@dataclass
class _Notes:
    """Footnotes in the order in which they are first needed."""

    symbols: dict[str, str] = field(default_factory=dict)
    lettered: dict[str, str] = field(default_factory=dict)
    numbered: dict[str, str] = field(default_factory=dict)
    stand_ins: list[str] = field(default_factory=list)

    def stand_in(self, data: str) -> str:
        """The mark of a number that was measured on `data` instead of the paper's."""
        if data not in self.stand_ins:
            self.stand_ins.append(data)
        mark = STAND_IN_MARK * (self.stand_ins.index(data) + 1)
        return self.symbol(
            mark, f"measured on stand-in data ({data}), which is not the data of the paper"
        )

    def symbol(self, mark: str, text: str) -> str:
        self.symbols[mark] = text
        return mark

    def letter(self, text: str) -> str:
        times, place = divmod(len(self.lettered), len(LETTERS))
        return self.lettered.setdefault(text, LETTERS[place] * (times + 1))

    def number(self, text: str) -> str:
        return self.numbered.setdefault(text, str(len(self.numbered) + 1).translate(SUPERSCRIPTS))

    def footnotes(self) -> tuple[Footnote, ...]:
        symbols = [Footnote(mark, text) for mark, text in self.symbols.items()]
        others = [*self.lettered.items(), *self.numbered.items()]
        return (*symbols, *(Footnote(mark, text) for text, mark in others))


def _entry(
    key: tuple[str, str, str],
    rows: tuple[ResultRow, ...],
    printed: PublishedValue | None,
    decimals: int | None,
    percent: bool,
    pending: bool,
    tier: str,
    seeds: int,
    notes: _Notes,
) -> Entry:
    judgement = judge(rows, printed, tier=tier, seeds=seeds, drawn=_drawn(rows))
    # A cell without a published value is written as those of its metric are.
    unit = "%" if percent else ""
    if decimals is None and judgement.std and not percent:
        decimals = _decimals_of(judgement.std)
    number = _Number(printed.printed if printed else unit, decimals, is_exact(rows))
    if judgement.mean is None:
        ours, seeds_text = _hole(rows, judgement, pending, seeds, number, notes), ""
    else:
        bound = ">" if any(row.censored for row in rows) else ""
        varies = judgement.std is not None and not (number.exact and judgement.std == 0)
        spread = f" ± {number(judgement.std)}" if varies else ""
        ours = Text(f"{bound}{number(judgement.mean)}{spread}")
        seeds_text = f"n={judgement.n}"
    if data := next((row.stand_in for row in rows if row.stand_in and row.value is not None), ""):
        ours = Text(ours.body, ours.marks + notes.stand_in(data))

    published = difference = margin = Text(NO_VALUE)
    if printed is not None:
        spread = f" ± {printed.spread:g}" if printed.spread is not None else ""
        mark, text = CONFIDENCE_MARKS.get(printed.confidence, ("", ""))
        published = Text(printed.printed + spread, notes.symbol(mark, text) if mark else "")
    if judgement.difference is not None:
        difference = Text(number(judgement.difference, signed=True))
    if judgement.margin is not None:
        origin = f"margin: {judgement.margin_origin}"
        size = f"{judgement.margin:.3g}" if judgement.margin < 1000 else f"{judgement.margin:,.0f}"
        margin = Text(size, notes.letter(origin))
    verdict = Text(NO_VALUE)
    if printed is not None or judgement.mean is None:
        explained = judgement.verdict in (Verdict.INCOMPARABLE, Verdict.INCONCLUSIVE)
        mark = notes.number(judgement.reason) if explained else ""
        verdict = Text(judgement.verdict.value, mark)
    return Entry(
        model=key[0],
        dataset=key[1],
        metric=key[2],
        rows=rows,
        printed=printed,
        judgement=judgement,
        ours=ours,
        seeds=seeds_text,
        published=published,
        difference=difference,
        margin=margin,
        verdict=verdict,
    )


def _hole(
    rows: Sequence[ResultRow],
    judgement: Judgement,
    pending: bool,
    seeds: int,
    number: _Number,
    notes: _Notes,
) -> Text:
    """What stands where the mean would: never a mean over the seeds that happen to be there."""
    if not rows:
        return Text("not available yet" if pending else "not run yet")
    bad = next((row for row in rows if row.status != "ok"), None)
    if bad is not None:
        why = f"{bad.status}: {bad.note}" if bad.note else ""
        return Text(bad.status, notes.number(why) if why else "")
    values = ", ".join(number(row.value) for row in rows)
    return Text(f"{values} ({judgement.n} of {seeds} seeds)")


@dataclass(frozen=True)
class _Number:
    """Writes numbers with the digits that the paper prints, so that the eye can compare them."""

    printed: str
    decimals: int | None
    exact: bool

    def __call__(self, value: float | None, signed: bool = False) -> str:
        if value is None or not math.isfinite(value):
            return NO_VALUE
        sign = "+" if signed else ""
        if self.printed.endswith("%"):
            text = f"{100 * value:{sign}.{self.decimals or 0}f}%"
        elif self.exact or self.printed.endswith(("M", "k")):
            text = f"{value:{sign},.0f}"
        elif self.decimals is not None:
            text = f"{value:{sign}.{self.decimals}f}"
        else:
            text = ("+" if signed and value > 0 else "") + _short(value)
        if signed and not text.strip("+-0.%"):
            text = text[1:]  # neither +0 nor -0
        return text.replace("-", "−")


def _decimals_of(std: float) -> int:
    """Decimals that write a standard deviation with two significant digits: what lies beyond says nothing."""
    return min(max(1 - math.floor(math.log10(std)), 0), 6)


def _short(value: float) -> str:
    """Four significant digits, never in powers of ten below a million."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}" if abs(value) >= 1e-4 else f"{value:.1e}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def briefly(stand_in: str) -> str:
    """What stood in, without what stands in brackets behind it: the note below a table says all of it."""
    return re.sub(r" \([^()]*\)", "", stand_in)


def _digits_by_metric(published: Iterable[PublishedValue]) -> dict[str, int]:
    """The most decimals that the paper prints for each metric."""
    digits: dict[str, int] = {}
    for value in published:
        decimals = len(value.printed.rstrip("%Mk").partition(".")[2])
        digits[value.metric] = max(digits.get(value.metric, 0), decimals)
    return digits


def _is_pending(protocol: Protocol, key: tuple[str, str, str]) -> bool:
    model, dataset, metric = key
    specs = (
        protocol.models.get(model),
        protocol.datasets.get(dataset),
        protocol.train.get(model),
        protocol.train.get(dataset),
        protocol.metrics.get(metric),
    )
    return any(spec is not None and spec.name in protocol.pending for spec in specs)


def _orders(entries: Sequence[Entry], seeds: int) -> Iterable[tuple[str, str, OrderAgreement]]:
    columns: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        columns[entry.dataset, entry.metric].append(entry)
    for (dataset, metric), column in columns.items():
        agreement = order_agreement(((e.rows, e.printed) for e in column), seeds)
        if agreement is not None:
            yield dataset, metric, agreement


# Layouts ------------------------------------------------------------------------------------------------------------


def long(table: ResultTable, *, terminal: bool = False, short_ids: bool = False) -> Grid:
    """One line per cell. short_ids: of a run's id its digits only. terminal: no repeated labels either, to stay within
    120 columns."""
    margins = any(entry.judgement.margin is not None for entry in table.entries)
    heads = ["Model", "Dataset", "Metric", "Ours"]
    if table.has_published:
        heads += ["Published", "Difference", *(["Margin"] if margins else []), "Verdict"]
    heads.append("Run")
    lines = []
    last = ("", "")
    for entry in table.entries:
        repeated = terminal and last[0] == entry.model
        # Footnotes stand right below a terminal's table, and its lines are short.
        dataset = entry.dataset if terminal else entry.heading
        labels = [
            Text("" if repeated else entry.model),
            Text("" if repeated and last[1] == entry.dataset else dataset),
            Text(entry.metric),
        ]
        last = (entry.model, entry.dataset)
        ours = Text(f"{entry.ours}, {entry.seeds}" if entry.seeds else str(entry.ours))
        fields = [ours]
        if table.has_published:
            fields += [entry.published, entry.difference]
            fields += [entry.margin] if margins else []
            fields.append(entry.verdict)
        source = entry.source
        if (terminal or short_ids) and source:
            run, _, more = source.partition(" ")
            source = f"{run.rpartition('-')[2]} {more}".strip()
        lines.append((*labels, *fields, Text(source)))
    numeric = {heads.index(h) for h in ("Ours", "Published", "Difference", "Margin") if h in heads}
    return Grid((tuple(Head(h) for h in heads),), tuple(lines), 3, frozenset(numeric))


def pivot(table: ResultTable) -> Pivot:
    """The table as printed in the paper: the protocol's axes along its rows and columns."""
    protocol = table.protocol
    columns: tuple[Axis, ...] = ("dataset", "metric")
    if isinstance(protocol, Table):
        columns = protocol.columns
    axes: tuple[Axis, ...] = ("model", "dataset", "metric")
    rows = protocol.rows if isinstance(protocol, Table) else ("model",)
    # An axis that the protocol does not lay out joins the rows, unless there is nothing to tell apart on it.
    rows += tuple(
        axis
        for axis in axes
        if axis not in (*rows, *columns) and len({getattr(e, axis) for e in table.entries}) > 1
    )

    def key(entry: Entry, over: Sequence[Axis]) -> tuple[str, ...]:
        return tuple(getattr(entry, axis) for axis in over)

    row_keys = list(dict.fromkeys(key(entry, rows) for entry in table.entries))
    column_keys = list(dict.fromkeys(key(entry, columns) for entry in table.entries))
    order = {axis: table.labels(axis) for axis in axes}
    for keys, along in ((row_keys, rows), (column_keys, columns)):
        keys.sort(key=lambda k: [order[axis].index(v) for axis, v in zip(along, k, strict=True)])
    cells = {(key(entry, rows), key(entry, columns)): entry for entry in table.entries}
    header = []
    for level in range(len(columns)):
        groups = itertools.groupby(column_keys, key=lambda k: k[: level + 1])
        named = columns[level] == "dataset"
        header.append(
            tuple(Head(table.headings[k[-1]] if named else k[-1], len(list(g))) for k, g in groups)
        )

    def said(labels: tuple[str, ...]) -> tuple[str, ...]:
        pairs = zip(rows, labels, strict=True)
        return tuple(table.headings[text] if axis == "dataset" else text for axis, text in pairs)

    return Pivot(
        header=tuple(header),
        lines=tuple((said(r), tuple(cells.get((r, c)) for c in column_keys)) for r in row_keys),
        labels=tuple(axis.capitalize() for axis in rows),
    )


def pivot_grid(table: ResultTable) -> Grid:
    """The pivot with `ours / published` in one field, for outputs without stacked fields.

    Where there is no number yet stands a dash: the long layout says why.
    """
    layout = pivot(table)
    blank = tuple(Head("") for _ in layout.labels)
    names = tuple(Head(label) for label in layout.labels)
    header = [
        (blank, names)[level == len(layout.header) - 1] + heads
        for level, heads in enumerate(layout.header)
    ]
    lines = []
    for labels, entries in layout.lines:
        fields = [Text(label) for label in labels]
        for entry in entries:
            if entry is None:
                fields.append(Text(""))
                continue
            pending = not entry.rows
            ours = NO_VALUE if pending else str(entry.ours)
            fields.append(Text(f"{ours} / {entry.published}" if table.has_published else ours))
        lines.append(tuple(fields))
    width = len(layout.labels) + sum(head.span for head in layout.header[0])
    numeric = frozenset(range(len(layout.labels), width))
    return Grid(tuple(header), tuple(lines), len(layout.labels), numeric)


# Writers ------------------------------------------------------------------------------------------------------------


def to_terminal(table: ResultTable) -> str:
    """Plain text of the long layout, its summary and footnotes; no trailing newline."""
    grid = long(table, terminal=True)
    text = tabulate(
        [[str(f) for f in line] for line in grid.lines],
        [head.text for head in grid.header[-1]],
        tablefmt="simple",
        disable_numparse=True,
        colalign=_alignment(grid),
    )
    notes = [f"{note.mark} {note.text}" for note in table.footnotes]
    orders = [f"Order of the models, {d}, {m}: {agreement}." for d, m, agreement in table.orders]
    wrapped = [textwrap.fill(f"{line}.", 120, subsequent_indent="  ") for line in table.outlooks]
    said = f"{table.summary[:1].upper()}{table.summary[1:]}."
    return "\n".join([text, "", *notes, *wrapped, *orders, said])


def to_markdown(grid: Grid) -> str:
    """A pipe table; levels of headings are joined by a line break."""
    heads: list[list[str]] = [[] for _ in range(sum(head.span for head in grid.header[0]))]
    for level in grid.header:
        position = 0
        for head in level:
            for column in heads[position : position + head.span]:
                if head.text:
                    column.append(escape_markdown(head.text))
            position += head.span
    return tabulate(
        [[escape_markdown(str(field)) for field in line] for line in grid.lines],
        ["<br>".join(column) for column in heads],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=_alignment(grid),
    )


def _caption(table: ResultTable) -> str:
    """Of what the table is, and what a cell of it says."""
    says = "ours / published" if table.has_published else "ours"
    counts = sorted({e.judgement.n for e in table.entries if e.judgement.mean is not None})
    if counts and counts != [1]:
        seeds = " or ".join(str(count) for count in counts if count > 1)
        says += f"; mean ± standard deviation over {seeds} seeds"
        says += ", or one seed" * (counts[0] == 1)
    return f"{table.protocol.paper}, tier {table.tier}: {says}."


def to_latex(table: ResultTable) -> str:
    """The pivot as a booktabs table, to be put into a paper with \\input; needs \\usepackage{booktabs}."""
    grid = pivot_grid(table)
    columns = sum(head.span for head in grid.header[0])
    spec = "l" * grid.labels + "r" * (columns - grid.labels)
    out = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape_latex(_caption(table))}}}",
        rf"  \label{{tab:{''.join(c for c in table.name if c.isalnum() or c in '-_:')}}}",
        rf"  \begin{{tabular}}{{{spec}}}",
        r"    \toprule",
    ]
    for level, heads in enumerate(grid.header):
        spans, rules, position = [], [], 1
        for head in heads:
            text = escape_latex(head.text)
            spans.append(text if head.span == 1 else rf"\multicolumn{{{head.span}}}{{c}}{{{text}}}")
            if head.span > 1:
                rules.append(rf"\cmidrule(lr){{{position}-{position + head.span - 1}}}")
            position += head.span
        out.append(f"    {' & '.join(spans)} \\\\")
        if rules and level < len(grid.header) - 1:
            out.append(f"    {' '.join(rules)}")
    out.append(r"    \midrule")
    out += [f"    {' & '.join(escape_latex(str(f)) for f in line)} \\\\" for line in grid.lines]
    out += [r"    \bottomrule", r"  \end{tabular}"]
    # no letters and numbers of margins and verdicts, which do not stand in it
    shown = " ".join(f"{entry.ours.marks} {entry.published.marks}" for entry in table.entries)
    marks = set(re.findall(r"[⁰¹²³⁴⁵⁶⁷⁸⁹]+|\*+|\S", shown))
    if used := [f"{note.mark} {note.text}." for note in table.footnotes if note.mark in marks]:
        out.append(rf"  \par\smallskip\footnotesize {escape_latex(' '.join(used))}")
    out.append(r"\end{table}")
    return "\n".join(out) + "\n"


def escape_markdown(text: str) -> str:
    """Text that Markdown and the HTML in it show as it is; one line."""
    text = " ".join(text.split())
    for character, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, instead)
    for character in "\\`*_[]|#!~":
        text = text.replace(character, "\\" + character)
    return text


def _alignment(grid: Grid) -> list[str]:
    columns = sum(head.span for head in grid.header[0])
    return ["right" if column in grid.numeric else "left" for column in range(columns)]
