"""The report in a real browser: every number opens, by mouse and by keyboard, and nothing but reading happens."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.core.protocol import dataset, model
from reprise.core.reductions import digest
from reprise.core.trained import Trained
from reprise.core.trained import write as write_trained
from reprise.render.document import Subject, report_on

from .browsing import Visit, visit
from .test_render import DOCSTRING, PUBLISHED, SUBJECT, TABLE, values, workspace

LINES_OF_NAMES = """Array.from(document.querySelectorAll('.pivot tbody th'), name => {
  const all = document.createRange()
  all.selectNodeContents(name)
  return all.getClientRects().length
})"""
WIDEST_NAME = (
    "Math.max(...Array.from(document.querySelectorAll('tbody th'), name => name.offsetWidth))"
)
NASTY = (
    "<script>document.title = 'injected'</script>",
    '"><img src=x onerror="document.title=`injected`">',
    "</script><script>document.title = 'injected'</script><!--",
    "]]>{{ 7*7 }}${document.title = 'injected'}",
    "\u202eright to left\u202c \u05d0\u05d1\u05d2",
    "very long " + "x" * 400,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with curves, settings and images in its panels."""
    root = tmp_path_factory.mktemp("report")
    rows = [dataclasses.replace(row, cell=f"{n:012x}") for n, row in enumerate(values())]
    for row in rows[:3]:
        steps = tuple(range(100, 1100, 100))
        trained = Trained(
            run=row.run,
            settings={"model": {"width": 64}, "training": {"steps": 1000, "lr": 1e-4}},
            recipe={"model": {}, "training": {"steps": 1_125_000}},
            log={"step": steps, "loss": tuple(1.0 / step for step in steps)},
        )
        write_trained(root / "results/paper/trained" / f"{row.run}.json", trained)
    arrays = root / "runs/gnm/cells/a.npz"
    arrays.parent.mkdir(parents=True)
    samples = np.full((10, 1, 16, 16), 200, np.uint8)
    np.savez(arrays, samples=samples)
    there = {"artifact": "gnm/cells/a.npz", "artifact_digest": digest({"samples": samples})}
    rows[0] = dataclasses.replace(rows[0], **there)  # type: ignore[arg-type]
    place = workspace(root, rows)
    holes_between = {name: TABLE.models[name] for name in ("GNM", "GENESIS", "VAE")}
    protocol = dataclasses.replace(TABLE, models=holes_between)
    report_on(place, "paper", [dataclasses.replace(SUBJECT, protocol=protocol)])
    return place.reports("paper") / "p.html"


@pytest.fixture
def reader(chromium: Any, file: Path) -> Iterator[Visit]:
    made = visit(chromium, file, permissions=["clipboard-read", "clipboard-write"])
    yield made
    assert made.is_quiet()
    made.page.context.close()


def opened(page: Any) -> str:
    """The text of the open panel, "" if none is open."""
    return str(page.evaluate("document.querySelector(':popover-open')?.innerText ?? ''"))


def shown(page: Any) -> list[str]:
    """Model, metric of the visible lines of the table of all cells."""
    lines = page.locator("#cells tbody tr:visible")
    names = ("data-model", "data-metric")
    return [" ".join(line.get_attribute(name) for name in names) for line in lines.all()]


def test_a_click_opens_everything_that_is_known_of_a_number(reader: Visit) -> None:
    page = reader.page
    page.locator("table.pivot button").first.click()
    text = opened(page)
    for fact in (
        "GNM · MNIST-4 · S-Acc",
        "equivalent: the 90 % interval of the difference lies inside the margin",
        "0.982 ± 0.001 (mean ± std over 3 seeds)",
        "Somebody 2020, Table 9, p. 6",
        "clean",
        "90 % interval",
        "2 x the noise of the published evaluation (binomial, 250 examples)",
        "run_protocol p --tier paper --models GNM --datasets MNIST-4 --metrics S-Acc --seeds 3",
        "gnm-mnist4-s2-00000002",
        "training.steps",
        "1,125,000",
        "0123456789abcdef (clean)",
        "0123456789ab",
        "cpu",
        "2.13.0",
    ):
        assert fact in text
    lines = page.locator(":popover-open svg use")
    target = page.evaluate("document.querySelector(':popover-open svg use').getAttribute('href')")
    assert lines.count() == 1
    assert page.locator(f"{target} polyline").count() == 3  # one per seed
    image = ":popover-open img.sheet"
    assert page.evaluate(f"document.querySelector('{image}').naturalWidth") > 16
    page.get_by_role("button", name="Close").click()
    assert opened(page) == ""


def test_the_keyboard_alone_opens_walks_copies_and_closes(reader: Visit) -> None:
    page = reader.page
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.closest('table.pivot') === null"):
        page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.textContent")
    assert first == "0.982"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") == "10960"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "not available yet"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    assert "GENESIS · MNIST-4 · S-Acc" in opened(page)
    page.keyboard.press("ArrowLeft")
    assert "GNM · MNIST-4 · LL" in opened(page)
    page.keyboard.press("c")
    page.get_by_role("button", name="Copied").wait_for()
    command = "run_protocol p --tier paper --models GNM --datasets MNIST-4 --metrics LL --seeds 3"
    assert page.evaluate("navigator.clipboard.readText()") == command
    page.keyboard.press("Escape")
    assert opened(page) == ""
    assert page.evaluate("document.activeElement.textContent") == "10960"


def test_a_command_is_copied_by_its_button(reader: Visit) -> None:
    page = reader.page
    page.locator("#cells button[popovertarget]").first.click()
    page.locator(":popover-open button.copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()").startswith("run_protocol p --tier paper")


def test_where_there_is_no_clipboard_the_command_is_selected(reader: Visit) -> None:
    page = reader.page
    page.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }"
    )
    page.locator("#cells button[popovertarget]").first.click()
    page.locator(":popover-open button.copy").click()
    page.get_by_role("button", name="Copied").or_(
        page.get_by_role("button", name="Selected")
    ).wait_for()
    assert page.evaluate("getSelection().toString()").startswith("run_protocol p --tier paper")


def test_the_address_names_the_open_number_and_a_link_opens_it(reader: Visit, file: Path) -> None:
    page = reader.page
    page.locator("table.pivot button").nth(1).click()
    address = page.evaluate("location.href")
    assert "#cell-" in address
    page.goto("about:blank")
    page.goto(address)
    assert "GNM · MNIST-4 · LL" in opened(page)
    reader.fetched.clear()  # the blank page was our own doing


def test_cells_are_filtered_by_model_metric_verdict_and_words(reader: Visit) -> None:
    page = reader.page
    assert len(shown(page)) == 6
    page.locator("#filters [name=model]").select_option(label="GNM")
    assert shown(page) == ["GNM S-Acc", "GNM LL"]
    page.locator("#filters [name=metric]").select_option(label="LL")
    assert shown(page) == ["GNM LL"]
    assert page.locator("#count").inner_text() == "1 of 6 cells"
    page.get_by_role("button", name="Reset").click()
    page.locator("#filters [name=verdict]").select_option(label="missing")
    assert shown(page) == ["GENESIS S-Acc", "GENESIS LL", "VAE LL"]
    page.locator("#filters input").fill("not available")
    assert shown(page) == ["GENESIS S-Acc", "GENESIS LL"]
    page.get_by_role("button", name="Reset").click()
    assert page.locator("#count").inner_text() == "6 cells"


def test_cells_are_sorted_by_number_both_ways_with_holes_last_and_back(reader: Visit) -> None:
    page = reader.page
    before = shown(page)
    head = page.locator("#cells thead").get_by_role("button", name="Published")
    head.click()
    assert [line.split()[1] for line in shown(page)] == ["S-Acc"] * 3 + ["LL"] * 3
    assert shown(page)[0] == "VAE S-Acc"
    head.press("Enter")
    assert shown(page)[0] == "GNM LL"
    assert page.locator("#cells th[aria-sort=descending]").count() == 1
    head.click()
    assert shown(page) == before
    ours = page.locator("#cells thead").get_by_role("button", name="Ours")
    for order in ("ascending", "descending"):
        ours.click()
        assert page.locator(f"#cells th[aria-sort={order}]").count() == 1
        assert set(shown(page)[-3:]) == {"VAE LL", "GENESIS S-Acc", "GENESIS LL"}


def test_light_and_dark_follow_the_system_until_the_reader_chooses(
    chromium: Any, file: Path
) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    for scheme, colour in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(23, 23, 26)")):
        made = visit(chromium, file, color_scheme=scheme)
        assert made.page.evaluate(paper) == colour
        made.page.locator("#theme").click()
        other = made.page.evaluate(paper)
        assert other in ("rgb(255, 255, 255)", "rgb(23, 23, 26)")
        assert other != colour
        made.page.reload()
        assert made.page.evaluate(paper) == other
        assert made.is_quiet()
        made.page.context.close()


def test_a_phone_scrolls_the_tables_sideways_and_never_the_page(chromium: Any, file: Path) -> None:
    made = visit(chromium, file, width=360, height=740)
    widths = "[document.documentElement.scrollWidth, innerWidth]"
    assert made.page.evaluate(widths) == [360, 360]
    made.page.locator("table.pivot button").first.click()
    panel = made.page.evaluate(
        "(({left, right}) => [left, right])(document.querySelector(':popover-open').getBoundingClientRect())"
    )
    assert panel[0] >= 0
    assert panel[1] <= 360
    sideways = "(({scrollWidth, clientWidth}) => scrollWidth - clientWidth)(document.querySelector(':popover-open'))"
    assert made.page.evaluate(sideways) == 0
    assert made.page.evaluate(widths) == [360, 360]
    assert made.is_quiet()
    made.page.context.close()


def test_no_name_breaks_inside_a_word_where_a_table_is_narrow(chromium: Any, file: Path) -> None:
    made = visit(chromium, file, width=200, height=740)
    assert made.page.evaluate(LINES_OF_NAMES) == [1, 1, 1]
    made.page.context.close()


def test_everything_opens_without_any_script(chromium: Any, file: Path) -> None:
    made = visit(chromium, file, java_script_enabled=False)
    made.page.locator("table.pivot button").first.click()
    panel = made.page.get_by_role("dialog")
    assert "Somebody 2020, Table 9" in panel.inner_text()
    assert made.page.locator("#filters:visible").count() == 0
    made.page.context.close()


def test_no_name_of_anybody_becomes_markup_script_or_overflow(
    chromium: Any, tmp_path: Path
) -> None:
    models = {name: model("gnm") for name in NASTY}
    protocol = dataclasses.replace(
        TABLE, models=models, paper=NASTY[0], datasets={NASTY[1]: dataset("scenes", rule="mnist4")}
    )
    rows = [
        dataclasses.replace(
            row, model=name, dataset=NASTY[1], cell=f"{n:012x}", run=f"run-{n}", note=name, dialect=name,
            device=name, commit=name, model_spec=f"my_lab.x:{name}", data_digest=name,
        )
        for n, name in enumerate(NASTY)
        for row in values()[:6]
    ]  # fmt: skip
    for n, name in enumerate(NASTY):
        trained = Trained(
            run=f"run-{n}",
            settings={"model": {name: name}, "training": {"steps": 7}},
            recipe={"model": {name: NASTY[0]}},
            log={"step": (1, 2, 3), name: (1.0, 2.0, 3.0)},
        )
        write_trained(tmp_path / "results/paper/trained" / f"run-{n}.json", trained)
    published = [
        dataclasses.replace(value, model=name, dataset=NASTY[1], note=name)
        for value, name in zip(PUBLISHED, NASTY, strict=True)
    ]
    place = workspace(tmp_path, rows)
    report_on(
        place, "paper", [Subject("p", protocol, f"{NASTY[0]}\n\n{DOCSTRING}", tuple(published))]
    )
    for name in ("p.html", "index.html"):
        made = visit(chromium, place.reports("paper") / name, width=360, height=740)
        page = made.page
        assert page.title() != "injected"
        assert page.locator("script").count() == 1
        assert page.locator("[onerror], img[src='x'], iframe, object").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate(WIDEST_NAME) < 360
        if name == "p.html":
            labels = page.locator("#cells tbody th").all_inner_texts()
            assert {" ".join(NASTY[n].split()) for n in range(4)} <= {
                " ".join(t.split()) for t in labels
            }
            for button in page.locator("table.pivot button").all():
                button.focus()
                button.press("Enter")
                assert opened(page) != ""
                page.keyboard.press("Escape")
            page.locator("#filters [name=model]").select_option(index=2)
            assert {line.rpartition(" ")[0] for line in shown(page)} == {NASTY[1]}
        assert made.is_quiet()
        page.context.close()
