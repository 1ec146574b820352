"""Who reassigns the rows of a bundle, and makes all that follows anew, is found out though no value was invented."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.core import protocol as protocols
from reprise.core import results, spec
from reprise.core.dataset import DatasetInfo
from reprise.core.declared import declared
from reprise.core.errors import UsageError
from reprise.core.protocol import dataset, metric, model
from reprise.core.results import ResultRow
from reprise.core.workspace import Workspace
from reprise.evidence import crate
from reprise.evidence.bundle import bundle
from reprise.evidence.known import Known
from reprise.evidence.ties import contradictions, read_run
from reprise.evidence.verify import UNCHECKED, verify
from reprise.launch.plan import Request, plan
from reprise.launch.work import _description

from .bundles import contents, forged, measure, with_manifest, written
from .laboratory_cli import installed

HERE = Path(__file__).resolve().parent
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Real runs on real data at tier demo, and two that `--set` changed."""
    with installed():
        where = Workspace(tmp_path_factory.mktemp("pair"))
        measure(Request("pair", "demo"), where)
        steps = (("training.steps", "5"),)
        measure(Request("tiny", "demo", ("Sketch",), (), ("Bound",), changes=steps), where)
        yield where.root


@pytest.fixture(scope="module")
def pair(root: Path) -> Files:
    """The files of an honest bundle."""
    bundle(Workspace(root), "pair", "demo", root / "pair.zip")
    return contents(root / "pair.zip")


@pytest.fixture(scope="module")
def tiny(root: Path) -> Files:
    """The same of a run that `--set` changed."""
    bundle(Workspace(root), "tiny", "demo", root / "tiny.zip")
    return contents(root / "tiny.zip")


def rows_of(files: Mapping[str, bytes]) -> list[ResultRow]:
    return results.parse(files[crate.ROWS].decode(), ResultRow, "")


def with_rows(files: Files, rows: list[ResultRow]) -> Files:
    return {**files, crate.ROWS: results.to_csv(rows, ResultRow).encode()}


def each(files: Files, change: Callable[[ResultRow], dict[str, Any]]) -> Files:
    """The files with some columns of every row changed."""
    return with_rows(files, [dataclasses.replace(r, **change(r)) for r in rows_of(files)])


def with_evidence(files: Files, change: Callable[[dict[str, Any]], None]) -> Files:
    found = json.loads(files[crate.EVIDENCE])
    change(found)
    return {**files, crate.EVIDENCE: crate.to_json(found).encode()}


def with_run(files: Files, change: Callable[[dict[str, Any]], None]) -> Files:
    """The files with every run.json changed."""
    found = dict(files)
    for name in files:
        if name.endswith("/run.json"):
            described = json.loads(files[name])
            change(described)
            found[name] = json.dumps(described).encode()
    return found


OTHER = {"Sketch": "Sketch-2", "Sketch-2": "Sketch", "Half": "Half"}


def labels_swapped(files: Files) -> Files:
    return each(files, lambda row: {"model": OTHER[row.model]})


def labels_and_specs_swapped(files: Files) -> Files:
    spec_of = {row.model: row.model_spec for row in rows_of(files)}
    return each(
        files, lambda row: {"model": OTHER[row.model], "model_spec": spec_of[OTHER[row.model]]}
    )


def labels_specs_and_runs_swapped(files: Files) -> Files:
    """As before, and each run.json is the other's."""
    a, b = sorted({row.run for row in rows_of(files)})
    found = labels_and_specs_swapped(files)
    names = f"runs/{a}/run.json", f"runs/{b}/run.json"
    return {**found, names[0]: files[names[1]], names[1]: files[names[0]]}


def cells_swapped(files: Files) -> Files:
    """The numbers of LL and LL-2 of each run stand under each other's label."""
    rows = {row.key: row for row in rows_of(files)}
    others = {"LL": "LL-2", "LL-2": "LL", "D-Steps": "D-Steps"}

    def change(row: ResultRow) -> dict[str, Any]:
        other = rows[row.model, row.dataset, others[row.metric], row.seed]
        columns = ("cell", "value", "stderr", "n", "artifact", "artifact_digest", "data_digest")
        return {column: getattr(other, column) for column in columns}

    return each(files, change)


def reduced_otherwise(files: Files) -> Files:
    """LL is said to be the mean of its effective sample sizes, and is."""

    def change(found: dict[str, Any]) -> None:
        for row in rows_of(files):
            if row.metric == "LL":
                found["cells"][row.cell]["reduction"] = "mean(ess)"

    found = with_evidence(files, change)
    rows = []
    for row in rows_of(found):
        if row.metric == "LL":
            ess = values(found, row, "ess")
            row = dataclasses.replace(
                row, value=float(ess.mean()), stderr=float(ess.std(ddof=1) / len(ess) ** 0.5)
            )
        rows.append(row)
    return with_rows(found, rows)


def values(files: Files, row: ResultRow, array: str) -> Any:
    return np.load(io.BytesIO(files[crate.values_path(row.run, row.cell, array)]))


def only(files: Files, keep: Callable[[ResultRow], bool]) -> Files:
    """The files of some of the rows."""
    rows = [row for row in rows_of(files) if keep(row)]
    cells, runs = {row.cell for row in rows}, {row.run for row in rows}
    parts = {name: name.split("/") for name in files}
    found = {
        name: content
        for name, content in files.items()
        if parts[name][0] not in ("runs", "values")
        or (parts[name][1] in runs and (parts[name][0] == "runs" or parts[name][2] in cells))
    }

    def change(evidence: dict[str, Any]) -> None:
        evidence["cells"] = {k: v for k, v in evidence["cells"].items() if k in cells}

    return with_rows(with_evidence(found, change), rows)


def without_sketch(files: Files) -> Files:
    return only(files, lambda row: row.model == "Sketch-2")


def halves_alone(files: Files) -> Files:
    return each(only(files, lambda row: row.model == "Half"), lambda _: {"model": "Sketch"})


def steps_times_400(files: Files) -> Files:
    def change(row: ResultRow) -> dict[str, Any]:
        if row.metric != "D-Steps":
            return {}
        assert row.value is not None
        stderr = None if row.stderr is None else 400 * row.stderr
        dialect = row.dialect.replace("every=10", "every=4000")
        return {"dialect": dialect, "value": 400 * row.value, "stderr": stderr}

    return each(files, change)


def as_three_seeds(files: Files) -> Files:
    rows = rows_of(files)
    return with_rows(
        files, [dataclasses.replace(row, seed=seed) for row in rows for seed in range(3)]
    )


def unmade(files: Files) -> Files:
    """A number is another, and is said not to follow from its values."""

    def change(found: dict[str, Any]) -> None:
        for cell in found["cells"].values():
            cell["why"] = "it stores nothing but the number"

    return with_evidence(each(files, lambda row: {"value": 1.5}), change)


def trained_longer(described: dict[str, Any]) -> None:
    described["identity"]["training"]["steps"] = 3000
    described["settings"]["training"]["steps"] = 3000


def settled_longer(described: dict[str, Any]) -> None:
    described["settings"]["training"]["steps"] = 3000


def another_data_seed(described: dict[str, Any]) -> None:
    described["settings"]["dataset"]["seed"] = 7


def in_format_1(found: dict[str, Any]) -> None:
    found["format"] = 1
    for cell in found["cells"].values():
        del cell["identity"]


def without_runs(files: Files) -> Files:
    names = [name for name in files if name.endswith("/run.json")]

    def change(found: dict[str, Any]) -> None:
        found["missing"] += [f"{name}: it is not there" for name in names]

    rest = {name: content for name, content in files.items() if name not in names}
    return with_evidence(rest, change)


def stating(**columns: Any) -> Callable[[Files], Files]:
    return lambda files: each(files, lambda row: columns)


def replacing(column: str, old: str, new: str) -> Callable[[Files], Files]:
    return lambda files: each(files, lambda row: {column: getattr(row, column).replace(old, new)})


def in_turn(*changes: Callable[[Files], Files]) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        for one in changes:
            files = one(files)
        return files

    return change


ALONE = (replacing("model", "Sketch", "Visitor"), replacing("metric", "L", "M"))
"""Labels that stand for nothing in the protocol."""

CONTRADICTIONS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "labels swapped": (labels_swapped, "its label stands for laboratory:Sketch(latents=2) in the protocol"),
    "labels and specs swapped": (labels_and_specs_swapped, "it says laboratory:Sketch(latents=2); its run has"),
    "labels, specs and run.json swapped": (labels_specs_and_runs_swapped, "it is of another run"),
    "another model and no run.json": (
        in_turn(*ALONE, stating(model_spec="vae"), without_runs), "not one of vae with this seed",
    ),
    "half of it as the whole": (halves_alone, "its label stands for laboratory:Sketch in the protocol"),
    "cells swapped": (cells_swapped, "which is not what the row says"),
    "another reduction": (reduced_otherwise, "by mean(value), which the metric says here, the stored values make"),
    "another grain of steps": (steps_times_400, "the stored steps are not those of scores every 4000"),
    "a run as three seeds": (as_three_seeds, "with this seed"),
    "a number that cannot be made": (unmade, "the stored values make value"),
    "another metric": (
        replacing("metric_spec", "particles=3", "particles=300"), "stands for log_marginal(images=4, particles=3)",
    ),
    "another metric of another name": (
        in_turn(*ALONE, replacing("metric_spec", "particles=2", "particles=9")), "not what the row says",
    ),
    "another canvas": (replacing("dataset_spec", "canvas=64", "canvas=128"), "which is not what the row says"),
    "trained on another canvas": (replacing("train", "canvas=64", "canvas=128"), "its run has scenes with"),
    "trained longer": (lambda files: with_run(files, trained_longer), "it is of another run"),
    "longer by its settings": (lambda files: with_run(files, settled_longer), "its settings 3000"),
    "more steps": (stating(steps=3000), "its run was trained for 300"),
    "another cell's values": (replacing("artifact", ".npz", "0.npz"), "which are another cell's"),
    "rows of no run": (stating(run=""), "its run is ''"),
    "another option of the model": (
        replacing("dialect", "sigma=0.3", "sigma=0.2"), "its dialect says sigma=0.2; it was measured with sigma=0.3",
    ),
    "another evaluation of the model": (
        replacing("dialect", "spread=1.0", "spread=2.0"),
        "its dialect says spread=2.0; it was measured with spread=1.0",
    ),
    "a word twice": (
        replacing("dialect", "spread=1.0", "spread=1.0 spread=2.0"), "its dialect says spread=2.0",
    ),
    "a spec that is none": (stating(model_spec="laboratory:Sketch(latents=[])"), "names no model and its options"),
}  # fmt: skip

DOUBTS: dict[str, tuple[Callable[[Files], Files], str]] = {
    "nothing stands in": (stating(stand_in=""), "nothing is said to stand in"),
    "another cap": (replacing("dialect", "cap=20", "cap=50000"), "that of discriminator_steps"),
    "no training": (stating(steps=0), "nothing was trained for it; log_marginal needs a trained model"),
    "a word that no metric says": (
        replacing("dialect", "every=10", "every=10 exact"), "its dialect says exact, of which nothing is known here",
    ),
    "the other way is better": (stating(better="lower"), "which is better is said to be lower"),
    "one model as another": (
        in_turn(without_sketch, replacing("model", "Sketch-2", "Sketch")), "latents stays as it is here",
    ),
    "before cells said what they are": (
        lambda files: with_evidence(files, in_format_1), "do not say what their ids are the hash of",
    ),
    "without run.json": (without_runs, "run.json is not there: what was trained stands as it was recorded"),
    "another default of the data": (lambda files: with_run(files, another_data_seed), "says dataset.seed=7"),
    "an option that was none": (
        replacing("dataset_spec", "rule='mnist4', ", "rule='mnist4', seed=1, "), "its cell was measured without seed=1",
    ),
    "an evaluation option that was none": (
        in_turn(
            ALONE[0],
            replacing("model_spec", "(latents=2)", "(latents=2, spread=2.0)"),
            lambda files: each(files, lambda row: {"dialect": row.dialect.replace("spread=1.0", "spread=2.0")}
                               if "spread" in row.model_spec else {}),
        ),
        "neither its run nor its cell has spread=2.0",
    ),
}  # fmt: skip


def test_an_honest_bundle_verifies_whole(pair: Files, tiny: Files, tmp_path: Path) -> None:
    for files, count in ((pair, 9), (tiny, 1)):
        found = verify(written(tmp_path / "a.zip", forged(files)))
        assert (found.code, found.troubles, found.open) == (0, [], [])
        assert found.count("recomputed") == count


@pytest.mark.parametrize("how", CONTRADICTIONS)
def test_a_bundle_that_contradicts_itself_does_not_verify(
    how: str, pair: Files, tmp_path: Path
) -> None:
    change, sentence = CONTRADICTIONS[how]
    found = verify(written(tmp_path / "a.zip", forged(change(pair))))
    assert found.code == 1
    assert any(sentence in trouble for trouble in found.troubles), found.troubles


def test_rows_that_stand_there_twice_are_not_read(pair: Files, tmp_path: Path) -> None:
    doubled = with_manifest(with_rows(pair, rows_of(pair) * 2))
    found = verify(written(tmp_path / "a.zip", doubled))
    assert found.code == 1
    assert any("has a row already" in trouble for trouble in found.troubles), found.troubles


@pytest.mark.parametrize("how", DOUBTS)
def test_what_is_otherwise_here_stands_as_it_was_recorded(
    how: str, pair: Files, tmp_path: Path
) -> None:
    change, sentence = DOUBTS[how]
    found = verify(written(tmp_path / "a.zip", forged(change(pair))))
    assert (found.code, found.troubles) == (2, [])
    assert any(sentence in doubt for doubt in found.open), found.open


def test_every_column_is_checked_or_said_to_stand_as_it_was_recorded(
    pair: Files, tmp_path: Path
) -> None:
    hints = typing.get_type_hints(ResultRow)
    others = {"model": OTHER, "status": {"ok": "failed"}, "censored": {"": ">", ">": ""}}

    def other(row: ResultRow, column: str) -> Any:
        value = getattr(row, column)
        if column in others:
            return others[column][value]
        if hints[column] == bool | None:
            return not value
        return f"{value}0" if hints[column] is str else (value or 0) + 1

    for column in hints.keys() - {"cell"}:  # of another one no table can be made
        changed = each(pair, lambda row, column=column: {column: other(row, column)})  # type: ignore[misc]
        found = verify(written(tmp_path / "a.zip", forged(changed)))
        assert (found.code == 0) == (column in UNCHECKED), (column, found.troubles, found.open)
    assert str(found).endswith(f"stand {', '.join(UNCHECKED)}")


def test_a_label_must_say_what_was_changed(tiny: Files, tmp_path: Path) -> None:
    plain = each(tiny, lambda row: {"model": "Sketch"})
    found = verify(written(tmp_path / "a.zip", forged(plain)))
    assert found.code == 2
    assert any("trained with steps=5; at tier demo it is steps=300" in s for s in found.open)
    longer = each(tiny, lambda row: {"model": "Sketch [steps=500]"})
    found = verify(written(tmp_path / "a.zip", forged(longer)))
    assert found.code == 1
    assert any("its label says steps=500" in trouble for trouble in found.troubles)


def test_who_bundles_rows_that_were_reassigned_is_told(root: Path, pair: Files) -> None:
    where = Workspace(root)
    path = where.results("demo", "pair")
    before = path.read_bytes()
    try:
        path.write_bytes(labels_swapped(pair)[crate.ROWS])
        made = bundle(where, "pair", "demo", root / "swapped.zip")
    finally:
        path.write_bytes(before)
    assert any("its label stands for" in sentence for sentence in made.wrong)


def test_real_metrics_and_data_are_verified_without_torch_or_the_network(
    pair: Files, tmp_path: Path
) -> None:
    whole = written(tmp_path / "a.zip", pair)
    emptied = each(pair, lambda row: {"stand_in": ""})
    written(tmp_path / "b.zip", forged(emptied))
    script = f"""
import sys
sys.modules["torch"] = None  # importing it raises
def refuse(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "urllib", "subprocess")):
        raise RuntimeError(event)
sys.addaudithook(refuse)
sys.path.insert(0, {str(HERE)!r})
import laboratory_cli
with laboratory_cli.installed():
    assert laboratory_cli.cli.main(["verify-bundle", {str(whole)!r}]) == 0
    assert laboratory_cli.cli.main(["verify-bundle", {str(tmp_path / "b.zip")!r}]) == 2
assert not [name for name in sys.modules if name.startswith("torch.")]
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_cell_of_table_1_would_be_doubted(tmp_path: Path) -> None:
    """What the plan makes of a protocol at a tier is what a verification expects of it, of every kind of model."""
    name, known, _ = protocols.load("gnm_table1")
    _, bundled = crate.restored(crate.described(name, "", known))
    rows, cells, runs = [], {}, {}
    for planned in plan(Request(name, "demo"), Workspace(tmp_path)).cells:
        run = planned.run
        assert run is not None
        row = dataclasses.replace(planned.row, status="ok", steps=run.recipe.training.steps)
        named = run.identity_of_cell(
            planned.cell.model.trained, planned.cell.dataset, planned.cell.metric
        )
        reduction = spec.load(planned.cell.metric).reduction
        rows.append(row)
        cells[row.cell] = crate.Cell(row.run, reduction, "", named)
        runs[row.run] = read_run(row.run, json.dumps(_description(run)))
    assert len(rows) == 19
    assert not [*contradictions(rows, bundled, crate.Evidence(name, "demo", cells, ()), runs)]
    here = Known(name, "demo", bundled)
    for row in rows:
        assert not [*here.doubts(row, cells[row.cell], runs[row.run])]


# What specs and classes say -------------------------------------------------------------------------------------------


def test_every_spec_of_every_protocol_is_read_back() -> None:
    for name in protocols.names():
        known = protocols.load(name)[1]
        everything = (known.models, known.datasets, known.metrics, known.train)
        for one in (one for group in everything for one in group.values()):
            assert spec.read(one.kind, str(one)) == one
    odd = model("a.b:C", x="1, y=(2)'", y=float("inf"), z=None, u=True, v=-3e-9).trained_for(0.05)
    assert spec.read("model", str(odd)) == odd


@pytest.mark.parametrize(
    "text",
    ["", "a(", "a(1)", "a(x=[1])", "a(**x)", "a(x=b)", "a(x=1).b(y=2)", "a(x=1, x=1)", "a(x = 1)", "a(x=" + "(" * 999,
     "a(x=" + "-" * 3900 + "1)", "a(x='" + "b" * 9000 + "')"],
)  # fmt: skip
def test_what_no_spec_writes_is_no_spec(text: str) -> None:
    with pytest.raises(ValueError, match="names no model"):
        spec.read("model", text)


IMAGES = [
    DatasetInfo(name, (channels, side, side), objects=4)
    for name, channels, side in (("mnist4", 1, 128), ("arrow-room", 3, 128), ("multimnist", 1, 50), ("omniglot", 1, 50))
]  # fmt: skip
NAMES = [(kind, name) for kind in spec.FOLDERS for name in spec.names(kind)]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_what_a_class_declares_is_read_from_its_source(kind: spec.Kind, name: str) -> None:
    """Whoever has no torch must know of a metric, a model or a data set what whoever has it knows."""
    found, cls = declared(kind, name), spec.load(spec.Spec(kind, name))
    assert found is not None
    of_metric = ("raised", "reduction", "better", "reads", "learns") if kind == "metric" else ()
    for attribute in ("version", "tiers", *of_metric):
        assert found.attributes[attribute] == getattr(cls, attribute)
    if kind != "model":
        fields = {field.name: field.default for field in dataclasses.fields(cls)}
        assert found.options == fields
    if kind == "model":
        for data in IMAGES:
            with contextlib.suppress(UsageError):  # it is of other images
                config = cls.recipe(data).config
                assert found.evaluation == {
                    field.name: getattr(config, field.name)
                    for field in dataclasses.fields(config)
                    if field.metadata.get("evaluation")
                }
    if kind == "metric":
        for options in (*cls.tiers.values(), {}):
            assert found.dialect(options) == cls(**options).dialect
            assert found.needs_training(options) == cls(**options).needs_training


def test_what_cannot_be_read_is_not_known() -> None:
    for name in ("nothing", "no.such:Thing", "../x:Y", "sys:Thing", "reprise.core.metric:Thing"):
        assert declared("metric", name) is None
    assert dataset("scenes", rule="mnist4").name in spec.names("dataset")
    assert metric("fid").name in spec.names("metric")
