"""How a run was trained is kept beside the results, and the report says it when runs/ is gone."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from reprise.core import protocol as protocols
from reprise.core.errors import DataError
from reprise.core.locks import locked
from reprise.core.protocol import TierName
from reprise.core.reductions import digest
from reprise.core.results import ResultRow, rows_of
from reprise.core.results import read as read_rows
from reprise.core.results import write as write_rows
from reprise.core.trained import MOST_POINTS, Trained, differing, read, read_curve, thinned, write
from reprise.core.workspace import Workspace
from reprise.launch import cells
from reprise.launch.keep import keep
from reprise.launch.plan import Request, collect, plan
from reprise.launch.provenance import provenance
from reprise.launch.work import Ended, work
from reprise.render.curves import charts_of
from reprise.render.document import Subject, page, report_on, to_html_page
from reprise.render.panel import panels_of
from reprise.render.table import build
from reprise.training.engine import choose
from reprise.training.fit import Stop

from .test_render import PUBLISHED, SUBJECT, TABLE, values

RESULTS = Path(__file__).resolve().parent.parent / "results"
REPORTS = RESULTS.parent / "reports"
KEPT = Trained(
    run="gnm-mnist4-s0-00000000",
    settings={"model": {"width": 64, "sigma": 0.2}, "training": {"steps": 9000, "clip_norm": None}},
    recipe={"model": {}, "training": {"steps": 1_125_000}},
    log={"step": (100, 200), "loss": (1.5, None)},
)


@pytest.mark.parametrize(
    "path", sorted(RESULTS.glob("*/*.csv")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_every_committed_number_is_of_what_its_label_now_means(path: Path, tmp_path: Path) -> None:
    """Of no earlier version of its model, its metric or its data."""
    tier, name = cast(TierName, path.parent.name), path.stem
    place = Workspace(tmp_path)
    place.results(tier, name).parent.mkdir(parents=True)
    shutil.copy(path, place.results(tier, name))
    rows = {row.key: row for row in rows_of(place, tier, name)}
    _, protocol, _ = protocols.load(name)
    seeds = 1 + max((row.seed for row in rows.values()), default=0)
    of = tuple(protocol.models), tuple(protocol.datasets), tuple(protocol.metrics)
    planned = {one.row.key: one.row for one in plan(Request(name, tier, *of, seeds), place).cells}
    for key, row in rows.items():
        if row.status == "ok" and row.metric_spec != "by hand":
            assert (row.run, row.cell) == (planned[key].run, planned[key].cell), key


def test_what_is_kept_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert write(path, KEPT)
    assert read(path) == KEPT
    assert not write(path, KEPT)
    assert read(tmp_path / "b.json") is None
    for damage in ('{"run": 1', "[]", '{"run": "x"}', path.read_text().replace("1.5", '"1.5"')):
        path.write_text(damage)
        with pytest.raises(DataError, match="damaged"):
            read(path)


@pytest.mark.parametrize("count", [0, 1, 7, 99, 100, 101, 1234, 11_250])
def test_a_thinned_curve_is_short_evenly_spaced_and_ends_where_the_run_did(count: int) -> None:
    log = {"step": [100.0 * (n + 1) for n in range(count)], "loss": [1 / 3] * count}
    found = thinned({**log, "steps_per_second": [2.0] * count})
    assert set(found) == {"step", "loss"}
    assert len(found["step"]) == min(count, MOST_POINTS)
    if count:
        assert found["step"][-1] == 100 * count
        assert found["loss"][0] == 0.33333
        steps = [step for step in found["step"] if step is not None]
        gaps = {b - a for a, b in itertools.pairwise(steps)}
        assert not gaps or max(gaps) - min(gaps) <= 100
        assert all(gap > 0 for gap in gaps)


def test_a_value_that_is_no_number_leaves_a_hole_in_the_curve() -> None:
    found = thinned({"step": [1.0, 2.0, 3.0], "loss": [1.0, math.nan, math.inf]})
    assert found["loss"] == (1.0, None, None)
    (chart,) = charts_of(
        [dataclasses.replace(KEPT, log={"step": (1, 2, 3), "loss": (1.0, None, 2.0)})]
    )
    assert len(chart.lines[0]) == 2
    assert chart.last == (2.0,)


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    assert read_curve(path) == {}
    path.write_text("step,loss\n100,1.0\n200,\n")
    with pytest.raises(DataError, match=r"log\.csv is damaged"):
        read_curve(path)


def test_differing_names_what_the_recipe_has_otherwise() -> None:
    assert differing({"a": {"x": 1, "y": 2, "z": 3}}, {"a": {"x": 1, "y": 5}, "b": {}}) == {
        "a": {"y": 5}
    }


def test_a_run_is_kept_with_the_recipes_values_and_never_replaced_by_nothing(
    tmp_path: Path,
) -> None:
    place = Workspace(tmp_path)
    cell = plan(Request("gnm_table1", "demo", ("GNM",), ("MNIST-4",), ("LL",)), place).cells[0]
    run = cell.run
    assert run is not None
    data = TABLE.datasets["MNIST-4"]
    assert not keep(place, "demo", run, data)
    folder = place.run(run.id)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"id": run.id, "settings": run.settings}))
    (folder / "log.csv").write_text("step,loss,steps_per_second\n100,2.0,3\n200,1.0,3\n")
    assert keep(place, "demo", run, data)
    kept = read(place.trained("demo", run.id))
    assert kept is not None
    assert kept.log == {"step": (100, 200), "loss": (2.0, 1.0)}
    assert kept.settings == run.settings
    assert kept.recipe["training"]["steps"] == 1_125_000
    assert kept.recipe["dataset"]["source"] == "mnist"  # demo's digits are scikit-learn's
    assert "width" not in kept.recipe["model"]
    assert not keep(place, "demo", run, data)
    (folder / "log.csv").write_text("step,loss\n100,\n")
    assert not keep(place, "demo", run, data)
    shutil.rmtree(folder)
    assert not keep(place, "demo", run, data)
    assert read(place.trained("demo", run.id)) == kept


def test_a_training_begun_anew_tells_nothing_of_the_rows_before_it(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    todo = plan(Request("gnm_table1", "demo", ("GNM",), ("MNIST-4",), ("LL",)), place)
    (planned,) = todo.cells
    run = planned.run
    assert run is not None
    row = dataclasses.replace(planned.row, value=10.0, stderr=1.0, n=5)
    write_rows(place.results("demo", "gnm_table1"), [row], ResultRow)
    file = place.trained("demo", run.id)
    write(file, dataclasses.replace(KEPT, run=run.id, settings=run.settings))
    before = file.read_bytes()
    folder = place.run(run.id)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"id": run.id, "settings": run.settings}))
    (folder / "log.csv").write_text("step,loss\n100,2.0\n")
    collect(todo, place)
    assert file.read_bytes() == before
    cells.write(place, run.id, planned.id, cells.measured(row))
    collect(todo, place)
    kept = read(file)
    assert kept is not None
    assert kept.log == {"step": (100,), "loss": (2.0,)}


def test_a_number_that_no_training_was_needed_for_leaves_what_is_kept_of_one(
    tmp_path: Path,
) -> None:
    place = Workspace(tmp_path)
    asked = Request("gnm_supp_table3", "demo", ("GNM",), ("MNIST-4",))
    (planned,) = plan(asked, place).cells
    run = planned.run
    assert run is not None
    folder, file = place.run(run.id), place.trained("demo", run.id)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"id": run.id, "settings": run.settings}))
    counted = {"status": "ok", "value": 5.0, "n": 1, "steps": 0, "dialect": planned.row.dialect}
    cells.write(place, run.id, planned.id, counted)
    collect(plan(asked, place), place)
    kept = read(file)
    assert kept is not None
    assert kept.settings == run.settings  # by which a change of the recipe is noticed
    assert kept.log == {}
    write(file, dataclasses.replace(KEPT, run=run.id, settings=run.settings))
    before = file.read_bytes()
    (folder / "log.csv").write_text("step,loss\n100,2.0\n")  # of a training that goes on
    collect(plan(asked, place), place)
    assert file.read_bytes() == before


def test_a_number_that_no_training_is_needed_for_waits_for_none(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    (job,) = plan(Request("gnm_supp_table3", "demo", ("VAE",), ("MNIST-4",)), place).jobs
    with locked(place.run(job.run.id) / "lock"):  # somebody trains it
        ended = work(job, place, choose("cpu"), provenance(), Stop(), lambda kind, text: None)
    assert ended == Ended("finished")
    (planned,) = job.cells
    found = cells.read(place, job.run.id, planned.id)
    assert found is not None
    assert (found["status"], found["steps"], found["data_digest"]) == ("ok", 0, "")


def test_a_number_says_where_its_configuration_differs_from_the_papers() -> None:
    rows = values()[:3]
    table = build("p", TABLE, rows, PUBLISHED, "paper")
    kept = {row.run: dataclasses.replace(KEPT, run=row.run) for row in rows}
    entry, *_ = panels_of(table, kept, {})
    assert entry.differences is not None
    assert [dataclasses.astuple(d) for d in entry.differences] == [
        ("training.steps", "9,000", "1,125,000")
    ]
    assert ("model.sigma", "0.2") in entry.settings
    unknown, *_ = panels_of(table, {}, {})
    assert unknown.differences is None
    assert "was not kept" in to_html_page(page(SUBJECT, table, ()))
    published = dataclasses.replace(KEPT, recipe={"model": {}, "training": {}})
    same, *_ = panels_of(table, {row.run: published for row in rows}, {})
    assert same.differences == ()


def test_the_rows_own_options_are_the_papers_and_no_difference() -> None:
    """ConvDRAW-8 has eight steps in the paper, whatever its recipe's default is."""
    models = {"GNM": TABLE.models["GNM"].with_options(draw_steps=8)}
    protocol = dataclasses.replace(TABLE, models=models)
    rows = values()[:1]
    table = build("p", protocol, rows, PUBLISHED, "paper")
    kept = dataclasses.replace(
        KEPT, settings={"model": {"draw_steps": 8}}, recipe={"model": {"draw_steps": 4}}
    )
    entry, *_ = panels_of(table, {rows[0].run: kept}, {})
    assert entry.differences == ()
    changed = dataclasses.replace(kept, settings={"model": {"draw_steps": 2}})
    entry, *_ = panels_of(table, {rows[0].run: changed}, {})
    assert entry.differences is not None
    assert dataclasses.astuple(entry.differences[0]) == ("model.draw_steps", "2", "8")


def reported(root: Path, models: int = 1, side: int = 16) -> tuple[Workspace, Subject]:
    """A page of that many models, each with noise of that size as its images and with a kept run."""
    names = {f"M{n:02d}": TABLE.models["GNM"] for n in range(models)}
    subject = dataclasses.replace(SUBJECT, protocol=dataclasses.replace(TABLE, models=names))
    rows = []
    for n, name in enumerate(names):
        path = root / "runs" / name / "cells" / "a.npz"
        path.parent.mkdir(parents=True)
        noise = np.random.default_rng(n).integers(0, 256, (10, 3, side, side), dtype=np.uint8)
        noise[:8] = 0  # the page's own figure shows eight, a panel ten
        np.savez(path, samples=noise)
        artifact = {
            "artifact": f"{name}/cells/a.npz",
            "artifact_digest": digest({"samples": noise}),
            "cell": f"{n:012x}",
        }
        rows += [dataclasses.replace(row, model=name, run=name, **artifact) for row in values()[:1]]  # type: ignore[arg-type]  # fmt: skip
        write(root / "results/paper/trained" / f"{name}.json", dataclasses.replace(KEPT, run=name))
    place = Workspace(root)
    write_rows(place.results("paper", "p"), rows, ResultRow)
    report_on(place, "paper", [subject])
    return place, subject


def test_a_report_is_the_same_byte_for_byte_when_runs_is_gone(tmp_path: Path) -> None:
    place, subject = reported(tmp_path)
    folder = place.reports("paper")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    text = (folder / "p.html").read_text(encoding="utf-8")
    assert 'class="sheet"' in text
    assert "1,125,000" in text
    shutil.rmtree(tmp_path / "runs")
    report_on(place, "paper", [subject])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_images_that_would_make_a_page_too_large_are_named_instead(tmp_path: Path) -> None:
    place, _ = reported(tmp_path, models=24, side=96)
    page = place.reports("paper") / "p.html"
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 1_500_000
    assert 1 <= text.count('class="sheet"') < 24
    assert "They are in figures/cells/000000000017.png" in text
    assert (place.reports("paper") / "figures/cells/000000000017.png").is_file()


def test_numbers_of_two_trainings_under_one_name_are_told() -> None:
    """As where a run was trained again elsewhere, to measure what it lacked."""
    rows = values()
    assert not any("trainings" in text for text in warnings_of(rows))
    other = next(n for n, row in enumerate(rows) if row.metric == "LL")
    rows[other] = dataclasses.replace(rows[other], precision="bf16", trained_commit="5eed" * 10)
    (told,) = (text for text in warnings_of(rows) if "trainings" in text)
    assert rows[other].run in told
    assert "of 2 trainings" in told
    assert "bf16 on cpu by 5eed5eed5e" in told
    # a share of a training is another row
    rows[other] = dataclasses.replace(rows[other], steps=500)
    assert not any("trainings" in text for text in warnings_of(rows))


def warnings_of(rows: list[ResultRow]) -> tuple[str, ...]:
    return page(SUBJECT, build("p", TABLE, rows, PUBLISHED, "paper"), ()).warnings


def test_numbers_of_two_runs_under_one_label_are_told() -> None:
    """As where a model was changed and only some of its numbers were measured anew."""
    rows = values()
    assert not any("different runs" in text for text in warnings_of(rows))
    rows[3] = dataclasses.replace(rows[3], run="gnm-mnist4-s0-version2")
    (told,) = (text for text in warnings_of(rows) if "different runs" in text)
    assert rows[0].run in told
    assert rows[3].run in told


def test_code_that_no_commit_has_is_told_of_training_as_of_measuring() -> None:
    rows = [dataclasses.replace(row, trained_commit="5eed" * 10) for row in values()]
    assert not any("uncommitted" in text or "not known" in text for text in warnings_of(rows))
    rows[0] = dataclasses.replace(rows[0], trained_commit=f"{'5eed' * 10}-dirty")
    assert any("trained with uncommitted changes" in text for text in warnings_of(rows))
    rows[0] = dataclasses.replace(rows[0], trained_commit="")
    assert any("not known which commit trained" in text for text in warnings_of(rows))


@pytest.mark.parametrize("tier", ["demo", "mini", "paper"])
def test_committed_numbers_of_a_run_are_of_one_training(tier: str) -> None:
    made: dict[tuple[str, int | None], set[tuple[str, str]]] = {}
    for path in (REPORTS.parent / "results" / tier).glob("*.csv"):
        for row in read_rows(path, ResultRow):
            if row.status == "ok" and row.run:
                by = (row.trained_commit, row.precision)
                made.setdefault((row.run, row.steps), set()).add(by)
    assert {run: found for run, found in made.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", sorted(REPORTS.rglob("*.html")), ids=lambda path: path.name)
def test_committed_pages_stay_small(path: Path) -> None:
    assert path.stat().st_size < 1_500_000
