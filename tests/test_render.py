"""Reports: what a page says, byte for byte, and what nothing in it may do."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import io
import math
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pikepdf
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation
from numpy.typing import NDArray
from PIL import Image

from reprise.core.artifacts import Artifacts, stored_at
from reprise.core.files import write_bytes
from reprise.core.protocol import (
    TIERS,
    Curves,
    Deviation,
    Gallery,
    Plot,
    Protocol,
    Table,
    TierName,
    dataset,
    load,
    metric,
    model,
    names,
    published_path,
    through_training,
)
from reprise.core.published import published
from reprise.core.reductions import digest
from reprise.core.results import PublishedValue, ResultRow, read, write
from reprise.core.workspace import Workspace
from reprise.render import plots
from reprise.render.document import Subject, report, report_on, to_html_page
from reprise.render.document import page as page_of
from reprise.render.drawing import COLOURS, FAINT, INK, OUTDATED, save
from reprise.render.galleries import _alike, _cut_to, _from_sheets, _panels
from reprise.render.galleries import gallery as gallery_figure
from reprise.render.latex import escape_latex
from reprise.render.panel import command_of, panels_of, precision_of
from reprise.render.plots import curves
from reprise.render.table import (
    build,
    escape_markdown,
    long,
    pivot,
    pivot_grid,
    to_latex,
    to_markdown,
    to_terminal,
)

GOLDEN = Path(__file__).parent / "golden"
MODELS = {"GNM": model("gnm"), "VAE": model("vae"), "GENESIS": model("genesis")}
DATASETS = {"MNIST-4": dataset("scenes", rule="mnist4")}
METRICS = {"S-Acc": metric("structure_accuracy"), "LL": metric("log_marginal", particles=100)}

TABLE = Table(
    paper="Somebody 2020, Table 9",
    models=MODELS,
    datasets=DATASETS,
    metrics=METRICS,
    seeds=3,
    pending=("genesis",),
    deviations=(Deviation("kernel", "3", "1", "1: only this fits", "Table 7"),),
)
DOCSTRING = """Somebody, Table 9: is a page what it should be?

Two models, and one that is not there yet; `run_protocol` measures them.

Expect *little*.
"""


def values(protocol: str = "p", **changes: Any) -> list[ResultRow]:
    """Three seeds of GNM and VAE; the VAE's likelihood diverged once."""
    base = ResultRow(
        protocol=protocol,
        tier="paper",
        model="",
        train="scenes(rule='mnist4')",
        dataset="MNIST-4",
        metric="",
        dialect="particles=100",
        stderr=0.002,
        n=250,
        better="higher",
        commit="0123456789abcdef",
        dirty=False,
        trained_commit="0123456789abcdef",
        torch="2.13.0",
        device="cpu",
        precision="fp32",
        steps=1000,
        dataset_spec="scenes(rule='mnist4')",
        data_digest="0123456789ab",
    )
    rows = []
    numbers = {
        ("GNM", "S-Acc"): 0.982,
        ("GNM", "LL"): 10960.2,
        ("VAE", "S-Acc"): 0.1,
        ("VAE", "LL"): 10800.0,
    }
    for (label, name), value in numbers.items():
        for seed, shift in enumerate((-0.001, 0.0, 0.001)):
            mean = value * (1 + shift)
            rows.append(
                dataclasses.replace(
                    base,
                    model=label,
                    metric=name,
                    seed=seed,
                    value=mean,
                    stderr=(mean * (1 - mean) / 250) ** 0.5 if name == "S-Acc" else base.stderr,
                    metric_spec={"S-Acc": "structure_accuracy", "LL": "log_marginal"}[name],
                    run=f"{label.lower()}-mnist4-s{seed}-0000000{seed}",
                    cell=f"c{seed}",
                )
            )
    rows[-1] = dataclasses.replace(
        rows[-1], status="diverged", value=None, note="loss is NaN at step 7"
    )
    return [dataclasses.replace(row, **changes) for row in rows]


def printed(label: str, name: str, text: str, **changes: Any) -> PublishedValue:
    return PublishedValue(
        model=label,
        dataset="MNIST-4",
        metric=name,
        value=float(text),
        printed=text,
        better="higher",
        page="6",
        **changes,
    )


PUBLISHED = (
    printed("GNM", "S-Acc", "0.984", n=250),
    printed("GNM", "LL", "10964"),
    printed("VAE", "S-Acc", "0.000", n=250),
    printed("VAE", "LL", "10895", confidence="doubtful digit"),
    printed("GENESIS", "S-Acc", "0.296"),
    printed("GENESIS", "LL", "10496"),
)
SUBJECT = Subject("p", TABLE, DOCSTRING, PUBLISHED)


def workspace(root: Path, rows: list[ResultRow], tier: str = "paper", name: str = "p") -> Workspace:
    made = Workspace(root)
    write(made.results(tier, name), rows, ResultRow)
    return made


def digests(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_markdown_and_latex_pages_read_as_the_committed_ones_do(tmp_path: Path) -> None:
    """After a change that was meant: REPRISE_GOLDEN=write pytest, and look at the difference."""
    place = workspace(tmp_path, values())
    report_on(place, "paper", [SUBJECT])
    for ending in ("md", "tex"):
        text = (place.reports("paper") / f"p.{ending}").read_bytes()
        golden = GOLDEN / f"report.{ending}"
        if os.environ.get("REPRISE_GOLDEN") == "write":
            write_bytes(golden, text)
        assert text.decode() == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", names())
def test_the_latex_table_of_every_protocol_is_ascii(name: str) -> None:
    """pdflatex stops at a bare γ."""
    full, protocol, _ = load(name)
    for tier in ("mini", "paper"):
        rows = [] if tier == "paper" else rows_at_hand(full)
        assert to_latex(build(full, protocol, rows, published(full), tier)).isascii()


def rows_at_hand(name: str) -> list[ResultRow]:
    path = Path(__file__).parent.parent / "results" / "mini" / f"{name}.csv"
    return read(path, ResultRow) if path.is_file() else []


def test_every_greek_letter_of_a_label_is_one_in_latex() -> None:
    plain = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (FINAL )?[A-Z]+")
    letters = [c for c in map(chr, range(0x391, 0x3CA)) if plain.fullmatch(unicodedata.name(c, ""))]
    assert len(letters) == 49  # both cases of 24, and the final sigma
    found = [escape_latex(letter) for letter in letters]
    assert all(text.isascii() for text in found)
    for letter, text in zip(letters, found, strict=True):
        name = unicodedata.name(letter).rpartition(" ")[2].lower().replace("lamda", "lambda")
        assert len(text) == 1 or name in text.lower()


def test_a_second_report_changes_no_byte(tmp_path: Path) -> None:
    place = workspace(tmp_path, values())
    first = report_on(place, "paper", [SUBJECT])
    before = digests(place.reports("paper"))
    assert {path.suffix for path in first} == {".md", ".html", ".tex", ".pdf", ".png"}
    assert report_on(place, "paper", [SUBJECT]) == first
    assert digests(place.reports("paper")) == before


def test_the_pdf_is_the_same_bytes_wherever_it_is_made(tmp_path: Path) -> None:
    for name in ("one", "two"):
        report_on(workspace(tmp_path / name, values()), "paper", [SUBJECT])
    one, two = ((tmp_path / n / "reports/paper/p.pdf").read_bytes() for n in ("one", "two"))
    assert one == two
    assert one.startswith(b"%PDF")
    with pikepdf.open(tmp_path / "one/reports/paper/p.pdf") as document:
        assert "/CreationDate" not in document.docinfo
        assert "/StructTreeRoot" in document.Root, "a screen reader finds its way"


class Elements(html.parser.HTMLParser):
    """Names of all elements of a page, its scripts and policy, and what attributes could do something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.acts: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.policy = ""
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.acts += [name for name, _ in attributes if name.startswith("on")]
        self.links += [text or "" for name, text in attributes if name in ("src", "href")]
        self.inside = tag == "script"
        if self.inside:
            self.scripts.append("")
        named = dict(attributes)
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.inside = False


HOSTILE = '<script>alert(1)</script>" onload=\'x\' | $x$ \\input{a} #read("/etc/passwd") {{ 7*7 }} `a` \n& ]]>'


def test_no_label_can_become_markup_in_any_output(tmp_path: Path) -> None:
    protocol = dataclasses.replace(
        TABLE, models={HOSTILE: model("gnm"), "VAE": model("vae")}, paper=HOSTILE
    )
    rows = [
        dataclasses.replace(row, model=HOSTILE, note=HOSTILE)
        for row in values()
        if row.model == "GNM"
    ]
    rows[0] = dataclasses.replace(
        rows[0], status="failed", value=None, run=HOSTILE, dialect=HOSTILE
    )
    place = workspace(tmp_path, rows)
    report_on(place, "paper", [Subject("p", protocol, f"{HOSTILE}\n\n{HOSTILE}", PUBLISHED)])
    folder = place.reports("paper")
    for page in ("p.html", "index.html"):
        elements = Elements((folder / page).read_text(encoding="utf-8"))
        assert not elements.tags & {"iframe", "object", "embed", "form", "base", "link"}
        assert elements.acts == []
        (script,) = elements.scripts
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in elements.policy
        assert elements.policy.startswith("default-src 'none';")
    for page in ("p.md", "README.md"):
        assert "<script" not in (folder / page).read_text(encoding="utf-8")
    latex = (folder / "p.tex").read_text(encoding="utf-8")
    assert r"\input" not in latex
    assert "$x$" not in latex
    assert (folder / "p.pdf").stat().st_size > 1000


def test_the_html_page_needs_no_other_file_and_no_network(tmp_path: Path) -> None:
    place = workspace(tmp_path, values())
    report_on(place, "paper", [SUBJECT])
    for page in ("p.html", "index.html"):
        text = (place.reports("paper") / page).read_text(encoding="utf-8")
        assert not re.search(r"https?://|@import|url\(", text)
        for link in Elements(text).links:
            assert (
                link.startswith(("data:image/png;base64,", "#curve-"))
                or (place.reports("paper") / link).is_file()
            )


def test_every_number_opens_its_provenance() -> None:
    table = build("p", TABLE, values(), PUBLISHED, "paper")
    text = to_html_page(page_of(SUBJECT, table, ()))
    opened = set(re.findall(r'popovertarget="(cell-\w+)"', text))
    assert opened == set(re.findall(r'id="(cell-\w+)" role="dialog"', text))
    assert len(opened) == len(table.entries)
    for fact in (
        "0123456789abcdef",
        "particles=100",
        "gnm-mnist4-s2-00000002",
        "0123456789ab",
        "Somebody 2020, Table 9, p. 6",
    ):
        assert fact in text
    assert "--metrics LL" in re.sub(r"<span>|</span>", "", text)


def test_doubtful_digits_are_marked_and_explained_wherever_they_stand() -> None:
    table = build("p", TABLE, values(), PUBLISHED, "paper")
    for text in (to_terminal(table), to_markdown(long(table)), to_markdown(pivot_grid(table))):
        assert "10895†" in text
        assert "10964†" not in text
    assert r"10895$^\dagger$" in to_latex(table)
    assert any(note.mark == "†" and "doubtful" in note.text for note in table.footnotes)


def test_holes_are_named_and_never_averaged_over() -> None:
    table = build("p", TABLE, values(), PUBLISHED, "paper")
    shown = {(e.model, e.metric): (str(e.ours), e.verdict.body) for e in table.entries}
    assert shown["GENESIS", "LL"] == ("not available yet", "missing")
    assert shown["VAE", "LL"][0].startswith("diverged")
    assert any("loss is NaN at step 7" in note.text for note in table.footnotes)
    two = [row for row in values() if row.metric == "S-Acc" and row.seed < 2]
    partial = build("p", TABLE, two, PUBLISHED, "paper").entries[0]
    assert partial.ours.body == "0.981, 0.982 (2 of 3 seeds)"
    lacking = [dataclasses.replace(two[0], status="n/a", value=None)]
    assert build("p", TABLE, lacking, PUBLISHED, "paper").entries[0].ours.body == "n/a"


def test_numbers_carry_the_digits_that_the_paper_prints() -> None:
    entries = build("p", TABLE, values(), PUBLISHED, "paper").entries
    assert entries[0].ours.body == "0.982 ± 0.001"
    assert entries[1].ours.body == "10960 ± 11"
    assert entries[1].difference.body == "−4"
    count = PublishedValue(model="GNM", dataset="MNIST-4", metric="LL", value=2.9e6, printed="2.9M")
    rows = [dataclasses.replace(values()[3], value=2930708.0, stderr=None, dialect="exact", seed=0)]
    one = dataclasses.replace(TABLE, seeds=1)
    found = {
        e.metric: e for e in build("p", one, rows, [count], "paper").entries if e.model == "GNM"
    }
    assert found["LL"].ours.body == "2,930,708"
    assert found["LL"].verdict.body == "equivalent"


@pytest.mark.parametrize(
    ("seen", "shown"),
    [
        ((0.0479, 0.0485, 0.0490), "0.04847 ± 0.00055"),
        ((21.9, 8.22, 10.6), "13.6 ± 7.3"),
        ((1500, 1510, 1490), "1500 ± 10"),
    ],
)
def test_where_the_paper_prints_nothing_the_spread_decides_the_digits(
    seen: tuple[float, ...], shown: str
) -> None:
    rows = [row for row in values() if (row.model, row.metric) == ("GNM", "LL")]
    rows = [dataclasses.replace(row, value=value) for row, value in zip(rows, seen, strict=True)]
    table = build("p", TABLE, rows, (), "paper")
    (entry,) = [entry for entry in table.entries if entry.has_number]
    assert str(entry.ours) == shown


def test_stand_in_data_is_said_on_the_page_and_in_each_row(tmp_path: Path) -> None:
    rows = values(tier="demo", stand_in="scikit-learn's digits")
    rows = [row for row in rows if row.seed == 0]
    table = build("p", TABLE, rows, PUBLISHED, "demo")
    assert all(
        e.ours.marks == "*" and e.verdict.body == "incomparable"
        for e in table.entries
        if e.has_number
    )
    place = workspace(tmp_path, rows, "demo")
    report_on(place, "demo", [SUBJECT])
    for page in ("p.md", "p.html"):
        text = (place.reports("demo") / page).read_text(encoding="utf-8")
        assert "Measured on stand-in data" in text
        assert "Tier demo" in text


def test_what_a_few_seeds_measured_on_stand_in_data_says_so_too() -> None:
    some = [row for row in values(stand_in="renders") if row.model == "GNM" and row.seed < 2]
    table = build("p", TABLE, some, PUBLISHED, "paper")
    (entry,) = [e for e in table.entries if (e.model, e.metric) == ("GNM", "LL")]
    assert str(entry.ours).endswith(" (2 of 3 seeds)*")
    assert "*" in [note.mark for note in table.footnotes]


def test_a_command_names_the_precision_that_its_device_would_not_have_taken() -> None:
    def command(**changes: Any) -> str:
        table = build("p", TABLE, values(steps=10, **changes), PUBLISHED, "paper")
        return command_of(table, table.entries[0])

    for device, precision in (("cpu x2 threads", "bf16"), ("NVIDIA H100", "fp32")):
        assert command(device=device, precision=precision).endswith(f" --precision {precision}")
    for device, precision in (("cpu x2 threads", "fp32"), ("NVIDIA H100", "bf16")):
        assert "--precision" not in command(device=device, precision=precision)
    untrained = values(steps=0, device="cpu", precision="bf16")
    assert precision_of(untrained) == []


def test_latex_explains_every_mark_in_it_and_no_other() -> None:
    latex = to_latex(build("p", TABLE, values(stand_in="digits"), PUBLISHED, "paper"))
    table, _, notes = latex.partition(r"\end{tabular}")
    marks = set(re.findall(r"\$\^[^$]*\$", table))
    assert marks == {"$^{2}$", "$^*$", r"$^\dagger$"}
    assert marks == set(re.findall(r"\$\^[^$]*\$", notes))
    assert "$^{2}$ diverged: loss is NaN at step 7." in notes


def test_the_latex_caption_says_of_how_many_seeds_a_mean_is() -> None:
    def caption(rows: list[ResultRow], printed: tuple[PublishedValue, ...] = PUBLISHED) -> str:
        latex = to_latex(build("p", TABLE, rows, printed, "paper"))
        return latex.partition("\\caption{")[2].partition("}\n")[0]

    one = [row for row in values() if row.seed == 0]
    assert "over 3 seeds." in caption(values())
    assert "seeds" not in caption(one)
    assert "ours / published" in caption(one)
    assert "published" not in caption(one, ())


def test_a_column_of_ours_is_never_headed_by_the_published_label_alone(tmp_path: Path) -> None:
    """The label is the key to what the paper printed; what ours was measured on stands beside it, at every tier."""
    both = {"ARROW": dataset("arrow_room"), **DATASETS}
    protocol = dataclasses.replace(TABLE, datasets=both)
    arrow = [
        dataclasses.replace(row, dataset="ARROW", stand_in="ArrowRoom-R")
        for row in values()
        if row.status == "ok"
    ]
    rows = [*values(), *arrow]
    published = [*PUBLISHED, *(dataclasses.replace(p, dataset="ARROW") for p in PUBLISHED)]
    table = build("p", protocol, rows, published, "paper")
    heading = "ARROW (ours: ArrowRoom-R)"
    assert [head.text for head in pivot(table).header[0]] == [heading, "MNIST-4"]
    turned = dataclasses.replace(table, protocol=dataclasses.replace(protocol, rows=("dataset",)))
    assert {labels[0] for labels, _ in pivot(turned).lines} == {heading, "MNIST-4"}
    measured = [e for e in table.entries if e.has_number]
    assert {e.dataset: (e.ours.marks, e.heading) for e in measured} == {
        "ARROW": ("*", heading),
        "MNIST-4": ("", "MNIST-4"),
    }
    for entry in measured:
        if entry.dataset == "ARROW":
            assert entry.verdict.body == "incomparable"
            assert "ArrowRoom-R" in entry.judgement.reason
        elif entry.printed is not None:
            assert "stand-in" not in entry.judgement.reason
    assert "(tier paper)" not in table.summary
    place = workspace(tmp_path, rows, "paper")
    report_on(
        place,
        "paper",
        [dataclasses.replace(SUBJECT, protocol=protocol, published=tuple(published))],
    )
    for page in ("p.md", "p.html", "p.tex"):
        assert heading in (place.reports("paper") / page).read_text(encoding="utf-8")
    assert "ArrowRoom-R" in to_terminal(table)


def test_two_kinds_of_stand_in_data_have_two_marks() -> None:
    rows = [dataclasses.replace(row, stand_in=row.metric) for row in values()]
    table = build("p", TABLE, rows, PUBLISHED, "paper")
    notes = {note.mark: note.text for note in table.footnotes if note.mark.strip("*") == ""}
    assert {mark: text.partition("(")[2].partition(")")[0] for mark, text in notes.items()} == {
        "*": "S-Acc",
        "**": "LL",
    }
    assert {e.metric: e.ours.marks for e in table.entries if e.has_number} == {
        "S-Acc": "*",
        "LL": "**",
    }


def test_the_terminal_table_fits_120_columns() -> None:
    lines = to_terminal(build("p", TABLE, values(), PUBLISHED, "paper")).splitlines()
    head = [line for line in lines if not line[:1] or line[0] not in "†*ᵃᵇᶜ¹²³⁴"]
    assert max(map(len, head)) <= 120


def test_the_printed_layout_follows_the_axes_of_the_protocol() -> None:
    across = pivot(build("p", TABLE, values(), PUBLISHED, "paper"))
    assert [[h.text for h in level] for level in across.header] == [["MNIST-4"], ["S-Acc", "LL"]]
    assert across.labels == ("Model",)
    turned = dataclasses.replace(TABLE, rows=("dataset", "metric"), columns=("model",))
    down = pivot(build("p", turned, values(), PUBLISHED, "paper"))
    assert down.labels == ("Dataset", "Metric")
    assert [labels for labels, _ in down.lines] == [("MNIST-4", "S-Acc"), ("MNIST-4", "LL")]
    assert [h.text for h in down.header[0]] == ["GNM", "VAE", "GENESIS"]


def test_a_model_added_on_the_command_line_gets_its_row(tmp_path: Path) -> None:
    rows = [
        dataclasses.replace(row, model="SLATE", model_spec="my_lab.slate:SLATE")
        for row in values()[:3]
    ]
    place = workspace(tmp_path, rows)
    report_on(place, "paper", [SUBJECT])
    text = (place.reports("paper") / "p.html").read_text(encoding="utf-8")
    assert "--model SLATE=my_lab.slate:SLATE --models SLATE" in re.sub(r"</?span>", "", text)
    markdown = (place.reports("paper") / "p.md").read_text(encoding="utf-8")
    assert "\nrun_protocol p --tier paper --model SLATE=my_lab.slate:SLATE\n" in markdown


def test_a_visitors_model_is_laid_beside_its_recipe_and_no_paper() -> None:
    ours, theirs, *_ = values()
    rows = [ours, dataclasses.replace(theirs, model="SLATE", model_spec="my_lab.slate:SLATE")]
    opened = panels_of(build("p", TABLE, rows, PUBLISHED, "paper"), {}, {})
    standards = {panel.entry.model: panel.standard for panel in opened}
    assert standards["GNM"] == "the paper's"
    assert standards["SLATE"] == "the recipe's"


def test_a_printed_page_names_a_run_by_its_digits() -> None:
    table = build("p", TABLE, values(), PUBLISHED, "paper")
    assert str(long(table).lines[0][-1]) == "gnm-mnist4-s0-00000000 +2"
    assert str(long(table, short_ids=True).lines[0][-1]) == "00000000 +2"


def test_labels_stand_in_the_order_of_the_protocol() -> None:
    """Though the first model has no cell of the first metric."""
    protocol = dataclasses.replace(TABLE, only={"GNM": ("LL",)})
    heads = pivot(build("p", protocol, [], PUBLISHED, "paper")).header
    assert [head.text for head in heads[-1]] == ["S-Acc", "LL"]


def test_a_number_without_a_published_one_has_its_dash_explained() -> None:
    said = "– the paper prints no value"
    some = build("p", TABLE, values(), PUBLISHED[:1], "paper")
    assert said in to_terminal(some)
    assert said not in to_terminal(build("p", TABLE, values(), PUBLISHED, "paper"))
    assert said not in to_terminal(build("p", TABLE, values(), [], "paper"))


def test_a_page_of_exact_numbers_alone_is_not_called_incomparable() -> None:
    def banner(**changes: Any) -> str:
        rows = [dataclasses.replace(row, tier="mini", **changes) for row in values()[:3]]
        table = build("p", TABLE, rows, PUBLISHED, "mini")
        return page_of(SUBJECT, table, ()).banner

    assert "Not comparable in value" in banner()
    assert "Not comparable" not in banner(value=3.0, stderr=None, dialect="exact")


def test_escapes_leave_plain_words_alone() -> None:
    assert escape_markdown("GNM (as coded) 0.98 ± 0.01") == "GNM (as coded) 0.98 ± 0.01"
    assert escape_markdown("a|b\n<c>") == r"a\|b &lt;c&gt;"
    assert escape_latex("50% & $x_1$ \\y") == r"50\% \& \$x\_1\$ \textbackslash{}y"


def gallery(root: Path, seed: int = 0) -> tuple[Workspace, Subject, list[ResultRow]]:
    protocol = Gallery(
        paper="Somebody 2020, Figure 1",
        models={"GNM": model("gnm"), "VAE": model("vae")},
        datasets=DATASETS,
        metrics={"Samples": metric("samples")},
        reference="data",
    )
    rows = []
    for label in protocol.models:
        images = np.random.default_rng(seed).integers(0, 256, (8, 1, 16, 16), dtype=np.uint8)
        path = root / "runs" / label / "cells" / "a.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"samples": images, "data": images}
        np.savez(path, allow_pickle=False, **arrays)
        rows.append(
            dataclasses.replace(
                values()[0],
                model=label,
                metric="Samples",
                cell=label.lower(),
                artifact=f"{label}/cells/a.npz",
                artifact_digest=digest(arrays),
            )
        )
    return workspace(root, rows), Subject("p", protocol, "Figure 1.", ()), rows


def test_panels_of_a_gallery_are_as_large_as_its_largest_and_can_stand_below_each_other(
    tmp_path: Path,
) -> None:
    _, subject, rows = gallery(tmp_path)
    protocol = subject.protocol
    assert isinstance(protocol, Gallery)
    wide = dataclasses.replace(protocol, array="grid", reference="", rows=3, columns=7)
    for label, shape in (("GNM", (3, 5, 1, 8, 8)), ("VAE", (2, 7, 1, 8, 8))):
        path = tmp_path / "runs" / label / "cells" / "a.npz"
        np.savez(path, grid=np.zeros(shape, np.uint8))
    rows = [dataclasses.replace(row, artifact_digest="") for row in rows]
    laid = build("p", wide, rows, [], "paper")
    panels = _alike(_panels(laid, wide, Artifacts(tmp_path / "runs", rows)))
    assert {tiles.shape for tiles in panels.values()} == {(3, 7, 1, 8, 8)}
    gnm = next(tiles for (label, _), tiles in panels.items() if label == "GNM")
    assert not gnm[:, :5].any()
    assert (gnm[:, 5:] == 255).all()
    for stacked in (False, True):
        chosen = dataclasses.replace(wide, stacked=stacked)
        figure = gallery_figure(laid, chosen, panels)
        shown = len({dataset for _, dataset in panels})
        assert len({axis.get_position().x0.round(3) for axis in figure.axes}) == (
            1 if stacked else shown
        )
        assert len(figure.axes) == 2 * shown
        heads = [axis.get_title() for axis in figure.axes if axis.get_title()]
        assert heads == ([] if stacked else list(DATASETS))
        assert all(axis.images or axis.texts for axis in figure.axes)
    two = dataclasses.replace(
        wide, stacked=True, datasets={**DATASETS, "MNIST-10": dataset("scenes", rule="mnist10")}
    )
    (first,) = DATASETS
    some = dict.fromkeys((("GNM", first), ("GNM", "MNIST-10"), ("VAE", first)), gnm)
    figure = gallery_figure(build("p", two, rows, [], "paper"), two, some)
    sides = {bool(axis.images): axis.get_box_aspect() for axis in figure.axes}
    assert sides == {True: 3 / 7, False: 1 / 7}  # what is absent is one tile high


def test_no_panel_is_longer_than_what_is_left_of_others() -> None:
    def tiles(rows: int) -> NDArray[np.uint8]:
        return np.zeros((rows, 3, 8, 8, 1), np.uint8)

    whole, left = {("GNM", "MNIST-4"): tiles(6)}, {("GNM", "MNIST-10"): tiles(2)}
    assert {len(panel) for panel in _cut_to(left, {**whole, **left}).values()} == {2}
    assert len(_cut_to({}, whole)["GNM", "MNIST-4"]) == 6


def test_a_gallery_whose_arrays_are_gone_keeps_its_figure(tmp_path: Path) -> None:
    place, subject, rows = gallery(tmp_path)
    more = {**subject.protocol.models, "GENESIS": model("genesis")}
    subject = dataclasses.replace(
        subject, protocol=dataclasses.replace(subject.protocol, models=more)
    )
    report_on(place, "paper", [subject])
    assert "Without images so far: GENESIS." in (place.reports("paper") / "p.md").read_text()
    figure = place.reports("paper") / "figures" / "p.png"
    drawn = figure.read_bytes()
    before = digests(place.reports("paper"))
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    report_on(place, "paper", [subject])
    assert digests(place.reports("paper")) == before

    newer = [dataclasses.replace(row, artifact_digest="ffffffffffff") for row in rows]
    report_on(workspace(tmp_path, newer), "paper", [subject])
    assert figure.read_bytes() == drawn
    assert OUTDATED in (place.reports("paper") / "p.md").read_text(encoding="utf-8")


def test_a_figure_whose_arrays_are_gone_is_made_by_measuring_again(tmp_path: Path) -> None:
    """As in a clone, which has rows and no runs: there the command itself has nothing to do."""
    place, subject, rows = gallery(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    folder, command = place.reports("paper"), "run_protocol p --tier paper"
    report_on(place, "paper", [subject])
    markdown, html = ((folder / f"p.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    assert (
        "No figure: the stored arrays are no longer there. "
        f"`{command} --root build/again` measures again in an empty folder" in markdown
    )
    assert "makes it" not in markdown + html
    assert "measures again in an empty folder" in html
    assert f"{command} --root build/again" in re.sub("<[^>]*>", "", html)

    missing = [dataclasses.replace(row, status="failed", value=None, artifact="") for row in rows]
    report_on(workspace(tmp_path, missing), "paper", [subject])
    markdown, html = ((folder / f"p.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    assert "no cell of this figure has been measured" in markdown
    assert f"`{command}` makes it" in markdown
    assert "This makes it" in html
    assert "build/again" not in markdown + html


def test_a_gallery_is_renewed_from_the_small_images_of_what_is_gone(tmp_path: Path) -> None:
    """GNM was trained again where the VAE's arrays are not: its new images stand beside what was kept of the VAE."""
    place, subject, before = gallery(tmp_path)
    report_on(place, "paper", [subject])
    folder = place.reports("paper")
    drawn = (folder / "figures/p.png").read_bytes()
    _, _, anew = gallery(tmp_path, seed=1)
    (tmp_path / "runs/VAE/cells/a.npz").unlink()
    place = workspace(tmp_path, [anew[0], before[1]])
    for _ in range(2):  # and stays as it is
        report_on(place, "paper", [subject])
        text = (folder / "p.md").read_text(encoding="utf-8")
        assert "VAE on MNIST-4: from the small images" in text
        assert OUTDATED not in text
    assert (folder / "figures/p.png").read_bytes() != drawn
    assert isinstance(subject.protocol, Gallery)
    table = build("p", subject.protocol, before, [], "paper")
    sheets = _from_sheets(table, subject.protocol, folder / "figures/cells", {("GNM", "MNIST-4")})
    images = np.random.default_rng(0).integers(0, 256, (8, 1, 16, 16), dtype=np.uint8)
    assert np.array_equal(sheets["VAE", "MNIST-4"].reshape(images.shape), images)

    drawn = (folder / "figures/p.png").read_bytes()
    (folder / f"figures/cells/{before[1].cell}.png").unlink()
    newer = dataclasses.replace(anew[0], artifact_digest="ffffffffffff")
    report_on(workspace(tmp_path, [newer, before[1]]), "paper", [subject])
    assert (folder / "figures/p.png").read_bytes() == drawn
    assert OUTDATED in (folder / "p.md").read_text(encoding="utf-8")


def test_a_broken_array_file_does_not_stop_the_report(tmp_path: Path) -> None:
    place, subject, rows = gallery(tmp_path)
    path = tmp_path / "runs/GNM/cells/a.npz"
    one_array, locked = io.BytesIO(), bytearray(path.read_bytes())
    np.save(one_array, np.zeros(3))
    locked[locked.index(b"PK\1\2") + 8] |= 1  # says that it is encrypted
    for broken in (b"PK not a zip", one_array.getvalue(), bytes(locked)):
        path.write_bytes(broken)
        report_on(workspace(tmp_path, rows), "paper", [subject])
        text = (place.reports("paper") / "p.md").read_text(encoding="utf-8")
        assert "Without images so far: GNM." in text


def test_arrays_that_a_row_was_not_measured_with_are_not_shown_as_its_own(tmp_path: Path) -> None:
    """A run of the same name on another machine has other bits; a row that came from there has no images here."""
    place, subject, rows = gallery(tmp_path)
    report_on(place, "paper", [subject])
    figure = place.reports("paper") / "figures" / "p.png"
    drawn = figure.read_bytes()
    _, _, other = gallery(tmp_path, seed=1)
    report_on(workspace(tmp_path, rows), "paper", [subject])
    assert figure.read_bytes() == drawn, "what was drawn of the row's own arrays stays"
    assert Artifacts(tmp_path / "runs", rows).gone == len(rows)
    assert Artifacts(tmp_path / "runs", other).gone == 0


def test_arrays_are_read_from_below_runs_only(tmp_path: Path) -> None:
    _, _, rows = gallery(tmp_path)
    outside = dataclasses.replace(rows[0], artifact="../elsewhere.npz")
    np.savez(tmp_path / "elsewhere.npz", samples=np.zeros((1, 1, 4, 4), np.uint8))
    found = Artifacts(tmp_path / "runs", [outside, rows[1]])
    assert list(found) == [rows[1].key]
    assert found.gone == 1
    for hostile in ("../elsewhere.npz", str(tmp_path / "elsewhere.npz"), "GNM/../../elsewhere.npz"):
        assert stored_at(tmp_path / "runs", hostile) is None
    for odd in ("", ".", "GNM", "a\0b", "a" * 10_000):
        assert stored_at(tmp_path / "runs", odd) is None


def test_a_run_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    _, _, rows = gallery(tmp_path)
    whole = dict(Artifacts(tmp_path / "runs", rows))
    (tmp_path / "runs" / "GNM").rename(tmp_path / "elsewhere")
    (tmp_path / "runs" / "GNM").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    found = Artifacts(tmp_path / "runs", rows)
    assert found.gone == 0
    for key, arrays in whole.items():
        assert all(np.array_equal(found[key][name], array) for name, array in arrays.items())


def test_the_index_lists_every_protocol_that_has_results_and_no_other(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    for name in ("gnm_table1", "gnm_figure2", "of_another_branch"):
        write(place.results("mini", name), [], ResultRow)
    report(place, "mini", ["table1"])
    text = (place.reports("mini") / "README.md").read_text(encoding="utf-8")
    assert text.index("gnm_table1.md") < text.index("gnm_figure2.md")
    assert "of_another_branch" not in text
    assert "0 of 48 published cells equivalent, 48 missing" in text


def test_the_index_counts_the_published_numbers_of_what_has_not_been_run(tmp_path: Path) -> None:
    place = workspace(tmp_path, values("gnm_table1", tier="mini"), "mini", "gnm_table1")
    report(place, "mini", ["gnm_table1"])
    index = (place.reports("mini") / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in index.splitlines() if line.startswith("No run yet")]
    assert "gnm\\_supp\\_table1 (27)" in line
    assert "gnm\\_table1" not in line.replace("supp\\_table1", "")


def test_figures_stay_below_300_kilobytes_and_name_no_day(tmp_path: Path) -> None:
    place, subject, _ = gallery(tmp_path)
    report_on(place, "paper", [subject])
    png = (place.reports("paper") / "figures" / "p.png").read_bytes()
    assert len(png) <= 300_000
    assert b"Software" not in png
    assert b"tIME" not in png


@pytest.mark.parametrize(("colour", "mode"), [(INK, "L"), (FAINT, "L"), (COLOURS[2], "RGB")])
def test_a_grey_figure_has_one_channel_and_another_its_colours(
    colour: str, mode: str, tmp_path: Path
) -> None:
    figure = Figure(figsize=(2, 2))
    figure.add_artist(Rectangle((0.2, 0.2), 0.6, 0.6, color=colour))
    save(figure, tmp_path / "f.png", "source")
    with Image.open(tmp_path / "f.png") as image:
        assert image.mode == mode
        assert image.info["Source"] == "source"
        seen = np.asarray(image.convert("RGB"), int)[image.height // 2, image.width // 2]
    meant = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    assert np.abs(seen - meant).max() <= (0 if mode == "RGB" else 6)


def test_a_plot_is_drawn_from_the_numbers_alone(tmp_path: Path) -> None:
    plot = Plot(
        paper="p", models=MODELS, datasets=DATASETS, metrics=METRICS, seeds=3, hue="dataset"
    )
    place = workspace(tmp_path, values())
    report_on(place, "paper", [Subject("p", plot, "A plot.", PUBLISHED)])
    assert (place.reports("paper") / "figures" / "p.png").stat().st_size > 5000


@pytest.mark.parametrize("draw", ["plot", "side by side"])
def test_a_figure_of_numbers_tells_a_bound_a_stand_in_and_the_tier(draw: str) -> None:
    protocol = Plot(
        paper="p", models=MODELS, datasets=DATASETS, metrics=METRICS, seeds=3, hue="dataset"
    )
    rows = [
        dataclasses.replace(row, censored=">" if (row.model, row.metric) == ("GNM", "LL") else "")
        for row in values(stand_in="digits")
    ]
    bound = dataclasses.replace(PUBLISHED[2], printed="<0.010", value=0.01)
    printed = (*PUBLISHED[:2], bound, *PUBLISHED[3:])
    table = build("p", protocol, rows, printed, "mini")
    figure = plots.plot(table, protocol) if draw == "plot" else plots.side_by_side(table)
    acc, likelihood = figure.axes
    along = 1 if draw == "plot" else 0
    for axis, sign in ((acc, -1), (likelihood, 1)):
        (arrow,) = axis.texts
        assert isinstance(arrow, Annotation)
        assert np.sign(arrow.xyann[along]) == sign
        assert "(ours: digits)" in axis.get_title()
    (legend,) = figure.legends
    assert "ours, tier mini" in [t.get_text() for t in legend.get_texts()]


def test_curves_show_what_was_measured_and_say_what_was_not() -> None:
    """A panel without a number says so, and a model without one is in no legend."""
    base = values()[0]
    protocol = Curves(
        paper="Somebody 2020",
        models=through_training({"GNM": model("gnm"), "VAE": model("vae")}),
        datasets={**DATASETS, "MNIST-10": dataset("scenes", rule="mnist10")},
        metrics={"LL": METRICS["LL"]},
    )
    rows = [
        dataclasses.replace(base, model=label, metric="LL", value=value, steps=steps)
        for label, value, steps in (("GNM, 50 %", 1.0, 500), ("GNM", 2.0, 1_000))
    ]
    figure = curves(build("p", protocol, rows, (), "paper"))
    measured, missing = figure.axes
    (line,) = measured.lines
    assert np.array_equal(line.get_xdata(), [500, 1_000])
    assert [text.get_text() for text in missing.texts] == ["not run yet"]
    assert not measured.texts
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["GNM"]
    assert not curves(build("p", protocol, (), (), "paper")).legends


def test_a_curve_has_a_gap_where_a_seed_has_none() -> None:
    """Of seeds 0, 1 and 1 at three stages, where at the second only the first of them is there."""
    protocol = Curves(
        paper="Somebody 2020",
        models=through_training({"GNM": model("gnm")}),
        datasets=DATASETS,
        metrics={"LL": METRICS["LL"]},
        seeds=2,
    )
    rows = [
        dataclasses.replace(
            values()[0], model=label, metric="LL", value=float(seed), steps=steps, seed=seed
        )
        for label, steps in (("GNM, 30 %", 300), ("GNM, 50 %", 500), ("GNM", 1_000))
        for seed in (0, 1)
    ]
    rows[3] = dataclasses.replace(rows[3], status="failed", value=None)
    figure = curves(build("p", protocol, rows, (), "paper"))
    mean = figure.axes[0].lines[-1]
    assert np.array_equal(mean.get_xdata(), [300, 500, 1_000])
    assert np.array_equal(mean.get_ydata(), [0.5, math.nan, 0.5], equal_nan=True)


def test_shares_have_one_height_on_every_dataset_and_other_numbers_their_own() -> None:
    base = values()[0]
    protocol = Curves(
        paper="Somebody 2020",
        models=through_training({"GNM": model("gnm")}),
        datasets={**DATASETS, "MNIST-10": dataset("scenes", rule="mnist10")},
        metrics={"LL": METRICS["LL"]},
    )
    first, second = protocol.datasets
    for scale, one in ((1.0, True), (100.0, False)):
        rows = [
            dataclasses.replace(
                base, model=label, dataset=where, metric="LL", value=value * scale, steps=steps
            )
            for where, most in ((first, 0.9), (second, 0.5))
            for label, value, steps in (("GNM, 50 %", 0.0, 500), ("GNM", most, 1_000))
        ]
        left, right = curves(build("p", protocol, rows, (), "paper")).axes
        assert (left.get_ylim() == right.get_ylim()) == one
        assert left.get_ylim()[1] > 0.9 * scale


def test_a_protocol_may_draw_its_own_figure(tmp_path: Path) -> None:

    seen: list[int] = []

    def draw(
        rows: list[ResultRow], published: tuple[PublishedValue, ...], artifacts: Any
    ) -> Figure:
        seen.extend((len(rows), len(published), len(artifacts)))
        figure = Figure(figsize=(1, 1))
        figure.subplots()
        return figure

    own: Protocol = dataclasses.replace(TABLE, draw=draw)
    place = workspace(tmp_path, values())
    report_on(place, "paper", [Subject("p", own, "A figure.", PUBLISHED)])
    assert seen == [12, 6, 0]
    assert (place.reports("paper") / "figures" / "p.png").is_file()


@pytest.mark.parametrize("name", names())
def test_every_protocol_of_the_folder_has_a_page_before_anything_is_measured(
    name: str, tmp_path: Path
) -> None:
    full, protocol, _ = load(name)
    # where tier mini makes a part of the cells, the page of tier paper is the one with all published numbers
    tier: TierName = "paper" if "mini" in protocol.sizes else "mini"
    paths = report(Workspace(tmp_path), tier, [name])
    text = (tmp_path / "reports" / tier / f"{full}.md").read_text(encoding="utf-8")
    assert all(path.is_file() for path in paths)
    assert "not available yet" in text or not protocol.pending
    if published_path(full).is_file():
        for value in read(published_path(full), PublishedValue):
            assert value.value is None or value.printed in text
    assert TIERS[tier].description in text
