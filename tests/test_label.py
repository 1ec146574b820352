"""Samples judged by hand: raters see no names, every doubtful file is refused, and what comes in is counted right."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise import cli
from reprise.core.errors import DataError, UsageError
from reprise.core.reductions import digest
from reprise.core.results import PublishedValue, ResultRow, read, write
from reprise.core.workspace import Workspace
from reprise.render.check import check_folders
from reprise.render.document import report
from reprise.render.label import Exported, agreement, export, import_labels, read_labels

from .browsing import visit

IMAGES = 6
TIME = "2026-01-02T03:04:05Z"


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Three models with stored samples of MNIST-4, and one that has none."""
    rows = []
    for n, label in enumerate(("GNM", "ConvDRAW", "VAE")):
        run, cell = f"run{n}", f"{n:012x}"
        images = np.random.default_rng(n).integers(0, 256, (IMAGES, 1, 16, 16), dtype=np.uint8)
        path = tmp_path / "runs" / run / "cells" / f"{cell}.npz"
        path.parent.mkdir(parents=True)
        verdict = np.arange(IMAGES) < 2 * n
        arrays = {"samples": images, "verdict": verdict}
        np.savez(path, allow_pickle=False, **arrays)
        rows.append(
            ResultRow(
                protocol="gnm_table1", tier="mini", model=label, train="scenes(rule='mnist4')",
                dataset="MNIST-4", metric="S-Acc", dialect="judge=v4", value=float(verdict.mean()), n=IMAGES,
                better="higher", run=run, cell=cell, artifact=f"{run}/cells/{cell}.npz", artifact_digest=digest(arrays),
                model_spec=label.lower(), metric_spec="structure_accuracy", commit="abc", dirty=False,
            )
        )  # fmt: skip
    rows.append(dataclasses.replace(rows[0], metric="LL", cell="f" * 12, value=9.0))
    made = Workspace(tmp_path)
    write(made.results("mini", "gnm_table1"), rows, ResultRow)
    return made


def made(place: Workspace) -> Exported:
    return export(place, "gnm_table1", "mini", folder=place.root)


def items_of(exported: Exported) -> dict[str, Any]:
    text = exported.page.read_text(encoding="utf-8")
    (data,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL
    )
    found: dict[str, Any] = json.loads(data)
    return found


def said(
    exported: Exported, rater: str, judge: Callable[[list[Any]], bool], name: str = "x.csv"
) -> Path:
    """What `rater` would export who judges each line of the key by `judge`."""
    key = json.loads(exported.key.read_text())
    lines = ["page,rater,item,verdict,time"]
    for item, meaning in key["items"].items():
        verdict = "success" if judge(meaning) else "failure"
        lines.append(f"{key['page']},{rater},{item},{verdict},{TIME}")
    path = exported.page.parent / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_page_shows_every_sample_once_and_names_nothing_that_a_rater_could_read(
    place: Workspace,
) -> None:
    exported = made(place)
    found = items_of(exported)
    assert exported.items == len(found["items"]) == 3 * IMAGES
    assert len({item["image"] for item in found["items"]}) == 3 * IMAGES
    text = exported.page.read_text(encoding="utf-8")
    for item in found["items"]:
        text = text.replace(item["image"], "")
        assert item.keys() == {"id", "law", "image"}
    for secret in (
        "gnm",
        "convdraw",
        "vae",
        "mnist",
        "table1",
        "run0",
        "000000000001",
        '"verdict"',
    ):
        assert secret not in text.lower()
    key = json.loads(exported.key.read_text())["items"]
    order = [key[item["id"]][1] for item in found["items"]]
    assert order != sorted(order)
    assert exported.key.is_relative_to(place.root / "runs")
    assert "Exactly four digits" in found["laws"][0]


def test_the_same_call_makes_the_same_page_and_key_again(place: Workspace) -> None:
    first = made(place)
    page, key = first.page.read_bytes(), first.key.read_bytes()
    first.key.unlink()
    again = made(place)
    assert again == first
    assert (again.page.read_bytes(), again.key.read_bytes()) == (page, key)
    fewer = export(place, "gnm_table1", "mini", models=("VAE",), images=3, folder=place.root)
    assert fewer.items == 3
    assert fewer.page != first.page


def test_what_cannot_be_judged_is_refused(place: Workspace) -> None:
    with pytest.raises(UsageError, match="did you mean 'GNM'"):
        export(place, "gnm_table1", "mini", models=("GMN",), folder=place.root)
    with pytest.raises(UsageError, match="nothing that people judge"):
        export(place, "gnm_presence", "mini", folder=place.root)
    stored = place.root / "runs/run1/cells/000000000001.npz"
    np.savez(stored, samples=np.zeros((IMAGES, 1, 16, 16), np.uint8), verdict=np.ones(IMAGES, bool))
    with pytest.raises(DataError, match="samples of ConvDRAW on MNIST-4"):  # another model's
        made(place)
    stored.unlink()
    with pytest.raises(DataError, match="samples of ConvDRAW on MNIST-4"):
        made(place)
    with pytest.raises(DataError, match="does not exist"):
        export(place, "gnm_table1", "paper", folder=place.root)


def test_labels_become_rows_with_the_raters_initials(place: Workspace) -> None:
    before = read(place.results("mini", "gnm_table1"), ResultRow)
    exported = made(place)
    written, sentence = import_labels(place, said(exported, "AB", lambda item: item[1] == "GNM"))
    assert sentence == f"AB judged {3 * IMAGES} images of gnm_table1, {IMAGES} of them right"
    labels = read_labels(written[0])
    assert len(labels) == 3 * IMAGES
    assert {(label.item.model, label.success) for label in labels} == {
        ("GNM", True), ("ConvDRAW", False), ("VAE", False),
    }  # fmt: skip
    rows = {row.model: row for row in read(written[1], ResultRow)}
    assert {model: row.value for model, row in rows.items()} == {"GNM": 1, "ConvDRAW": 0, "VAE": 0}
    assert {row.metric for row in rows.values()} == {"S-Acc (by hand, AB)"}
    assert rows["GNM"].dialect == "judge=hand rater=AB"
    assert rows["GNM"].n == IMAGES
    assert rows["GNM"].run == "run0"
    assert rows["GNM"].cell not in {row.cell for row in before}
    assert read(place.results("mini", "gnm_table1"), ResultRow) == before
    shutil.copytree(place.root / "results", place.root / "copy")
    assert check_folders(place.root / "results", place.root / "copy").code == 0
    again, _ = import_labels(place, said(exported, "AB", lambda item: item[1] == "GNM"))
    assert again == written


def replaced(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


BAD: dict[str, Callable[[str], str]] = {
    "expected the columns": replaced("verdict", "said"),
    "holds no labels": lambda text: text.partition("\n")[0] + "\n",
    "another number of columns": replaced(",AB,", ",AB,x,"),
    "must hold one page and one rater": replaced(",AB,", ",CD,"),
    "is not two to four capital letters": lambda text: text.replace(",AB,", ",a<b,"),
    "whose key is not below": lambda text: re.sub(r"^[0-9a-f]{16}", "0" * 16, text, flags=re.M),
    "belongs to the page '../x'": lambda text: re.sub(r"^[0-9a-f]{16}", "../x", text, flags=re.M),
    "no image '": lambda text: re.sub(r"AB,\w+", "AB,zz", text, count=1),
    "a second time": lambda text: text + text.splitlines()[-1] + "\n",
    "'maybe' is neither success nor failure": replaced(",success,", ",maybe,"),
    "is no time in ISO 8601": replaced(TIME, "noon"),
    "lacks 1 of the page's 18 images": lambda text: "\n".join(text.splitlines()[:-1]) + "\n",
    "cannot be read": lambda text: "\udcff" + text,
}


@pytest.mark.parametrize("message", BAD)
def test_a_file_that_is_not_whole_changes_nothing_and_exits_with_3(
    message: str, place: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    path = said(made(place), "AB", lambda item: item[6] % 2 == 0)
    path.write_bytes(BAD[message](path.read_text()).encode(errors="surrogateescape"))
    before = sorted(place.root.rglob("*"))
    assert cli.main(["label", "import", str(path), "--root", str(place.root)]) == 3
    assert message in capsys.readouterr().err
    assert sorted(place.root.rglob("*")) == before


def test_changed_verdicts_and_changed_samples_are_refused(place: Workspace) -> None:
    exported = made(place)
    import_labels(place, said(exported, "AB", lambda item: True))
    with pytest.raises(DataError, match="judged 6 of these images otherwise before"):
        import_labels(place, said(exported, "AB", lambda item: item[1] != "VAE"))
    path = place.results("mini", "gnm_table1")
    rows = read(path, ResultRow)
    write(path, [dataclasses.replace(row, artifact_digest="new") for row in rows], ResultRow)
    with pytest.raises(DataError, match="no longer those of"):
        import_labels(place, said(exported, "CD", lambda item: True))


def test_two_pages_of_one_rater_are_kept_together(place: Workspace) -> None:
    for model in ("GNM", "VAE"):
        page = export(place, "gnm_table1", "mini", models=(model,), folder=place.root)
        (path, rows), _ = import_labels(place, said(page, "AB", lambda item: True))
    assert {label.item.model for label in read_labels(path)} == {"GNM", "VAE"}
    assert {row.model for row in read(rows, ResultRow)} == {"GNM", "VAE"}


def test_kappa_is_cohens() -> None:
    """Cohen's own kind of table: 20 both, 5 and 10 alone, 15 neither gives 0.4."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    found = agreement("d", "AB", "CD", pairs)
    assert (found.both, found.first_only, found.second_only, found.neither) == (20, 5, 10, 15)
    assert found.kappa == pytest.approx(0.4)
    assert found.words == "κ = 0.40; 70.0% alike"
    alone = agreement("d", "AB", "CD", [(False, False)] * 9)
    assert alone.kappa is None
    assert alone.words == "κ = not defined, one verdict for all; 100.0% alike"
    worse = agreement("d", "AB", "CD", [(True, False)] * 5 + [(False, True)] * 5)
    assert worse.words == "κ = −1.00; 0.0% alike"


def test_the_report_lays_raters_beside_the_paper_and_the_judge(place: Workspace) -> None:
    exported = made(place)
    report(place, "mini", ["gnm_table1"])
    pages = place.reports("mini")
    assert "Judged by hand" not in (pages / "gnm_table1.md").read_text(encoding="utf-8")
    import_labels(place, said(exported, "AB", lambda item: bool(item[7])))  # as the judge
    import_labels(place, said(exported, "CD", lambda item: item[1] == "GNM"))
    report(place, "mini", ["gnm_table1"])
    for ending in ("md", "html"):
        text = (pages / f"gnm_table1.{ending}").read_text(encoding="utf-8")
        assert "Judged by hand" in text
        assert "S-Acc (by hand, AB)" in text
        assert "κ = 1.00; 100.0% alike" in text
        # 6 of 18 by the judge, 6 others by CD, so p_e = (6 * 6 + 12 * 12) / 18^2 and p_o = 6 / 18
        assert "κ = −0.50; 33.3% alike" in text
        assert "0.984" in text
    html = (pages / "gnm_table1.html").read_text(encoding="utf-8")
    assert "reprise label export gnm_table1 --tier mini --models GNM" in re.sub(
        "</?span>", "", html
    )
    before = {path: path.read_bytes() for path in pages.rglob("*") if path.is_file()}
    report(place, "mini", ["gnm_table1"])
    assert {path: path.read_bytes() for path in pages.rglob("*") if path.is_file()} == before


def test_the_published_number_is_compared_with_the_raters() -> None:
    from reprise.core import protocol

    _, table1, _ = protocol.load("gnm_table1")
    printed = read(protocol.published_path("gnm_table1"), PublishedValue)
    assert {value.dataset for value in printed if value.metric == "S-Acc"} <= table1.by_hand[
        "S-Acc"
    ].keys()


# In a browser ---------------------------------------------------------------------------------------------------------


def start(page: Any, initials: str) -> None:
    page.locator("#initials").fill(initials)
    page.locator("#initials").press("Enter")


def test_five_images_are_judged_by_keyboard_through_a_reload_and_come_back_as_rows(
    chromium: Any, place: Workspace
) -> None:
    exported = export(place, "gnm_table1", "mini", models=("GNM",), images=5, folder=place.root)
    order = [item["id"] for item in items_of(exported)["items"]]
    made = visit(chromium, exported.page, accept_downloads=True)
    page = made.page
    start(page, "A1")
    assert page.locator("#judge").is_hidden()
    start(page, "ab")
    assert page.locator("#law").inner_text().startswith("Exactly four digits")
    assert page.evaluate("document.querySelector('#picture').naturalWidth") == 16
    page.keyboard.press("ArrowRight")
    page.keyboard.press("f")
    page.keyboard.press("s")
    page.keyboard.press("Backspace")  # no, it was a failure
    page.keyboard.press("ArrowLeft")
    assert page.locator("#done").inner_text().startswith("AB: 3 of 5 judged")
    page.reload()
    start(page, "AB")
    assert page.locator("#done").inner_text().startswith("AB: 3 of 5 judged")
    assert page.locator("#progress").get_attribute("value") is not None
    page.keyboard.press("s")
    page.locator("#success").click()
    page.keyboard.press("s")  # nothing is left to judge
    assert page.locator("#end").is_visible()
    with page.expect_download() as download:
        page.locator("#export").click()
    path = place.root / "exported.csv"
    download.value.save_as(path)
    assert download.value.suggested_filename.endswith("-AB.csv")
    assert made.is_quiet()
    page.context.close()
    lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [line["item"] for line in lines] == order
    assert [line["verdict"] for line in lines] == [
        "success",
        "failure",
        "failure",
        "success",
        "success",
    ]
    (_, rows), sentence = import_labels(place, path)
    assert "5 images" in sentence
    assert [row.value for row in read(rows, ResultRow)] == [3 / 5]


def test_raters_at_one_browser_are_kept_apart_and_pages_do_not_mix(
    chromium: Any, place: Workspace
) -> None:
    pages = [export(place, "gnm_table1", "mini", images=n, folder=place.root).page for n in (2, 3)]
    made = visit(chromium, pages[0])
    page = made.page
    for rater, count in (("AB", 2), ("CD", 1)):
        start(page, rater)
        for _ in range(count):
            page.keyboard.press("s")
        assert f"{rater}: {count} of 6" in page.locator("#done").inner_text()
        page.locator("#other").click()
    start(page, "AB")
    assert "AB: 2 of 6" in page.locator("#done").inner_text()
    page.goto(pages[1].as_uri())
    start(page, "AB")
    assert "AB: 0 of 9" in page.locator("#done").inner_text()
    assert made.said == []
    page.context.close()


def test_a_browser_that_keeps_nothing_says_so(chromium: Any, place: Workspace) -> None:
    exported = made(place)
    found = visit(chromium, exported.page)
    assert found.page.locator("#warning").is_hidden()
    found.page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); };")
    found.page.reload()
    assert found.page.locator("#warning").is_visible()
    start(found.page, "AB")
    found.page.keyboard.press("s")
    assert "AB: 1 of 18" in found.page.locator("#done").inner_text()
    found.page.context.close()


def test_a_phone_shows_the_whole_page_without_scrolling_sideways(
    chromium: Any, place: Workspace
) -> None:
    found = visit(chromium, made(place).page, width=360, height=740)
    width = "document.documentElement.scrollWidth"
    assert found.page.evaluate(width) == 360
    start(found.page, "AB")
    assert found.page.locator("#failure").is_visible()
    assert found.page.evaluate(width) == 360
    found.page.context.close()
