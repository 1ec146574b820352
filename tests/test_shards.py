"""Runs divided among machines make the same rows, and what is joined is checked."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from reprise import cli
from reprise.core import results
from reprise.core.errors import UsageError
from reprise.core.results import ResultRow
from reprise.core.spec import names
from reprise.core.workspace import Shard, Workspace
from reprise.launch.plan import Plan, Request, plan
from reprise.launch.shards import merge, part

from .driving import call_here, table

TABLE = Request("gnm_table1", "mini", seeds=3)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan(TABLE, Workspace(tmp_path_factory.mktemp("empty")))


def test_a_plan_looks_up_what_is_installed_once_however_many_cells_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    entry_points = importlib.metadata.entry_points

    def counted(*, group: str) -> importlib.metadata.EntryPoints:
        asked.append(group)
        return entry_points(group=group)

    monkeypatch.setattr(importlib.metadata, "entry_points", counted)
    names.cache_clear()
    made = plan(TABLE, Workspace(tmp_path))
    assert len(made.cells) > 100
    assert sorted(asked) == ["reprise.data", "reprise.metrics", "reprise.models"]


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_every_run_is_in_exactly_one_shard_and_the_shards_are_alike_in_size(
    count: int, planned: Plan
) -> None:
    shards = [part([planned], Shard(i, count))[0] for i in range(1, count + 1)]
    runs = [{p.run.id for p in shard.cells if p.run is not None} for shard in shards]
    every = {p.run.id for p in planned.cells if p.run is not None}
    assert sum(map(len, runs)) == len(every)
    assert set().union(*runs) == every
    assert max(map(len, runs)) - min(map(len, runs)) <= 1
    jobs = [job.run.id for shard in shards for job in shard.jobs]
    assert sorted(jobs) == sorted(job.run.id for job in planned.jobs)


def test_what_a_machine_has_done_does_not_change_what_is_its_part(planned: Plan) -> None:
    half_done = replace(planned, jobs=planned.jobs[: len(planned.jobs) // 2])
    for index in (1, 2, 3):
        mine = part([planned], Shard(index, 3))[0]
        assert part([half_done], Shard(index, 3))[0].cells == mine.cells


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected I/N"):
        Shard.read(text)


ASKED = ("run", "tiny", "--models", "Sketch,Slow", "--metrics", "Bound,Needy", "--seeds", "2")


def test_shards_made_apart_and_joined_are_the_rows_of_one_call(tmp_path: Path) -> None:
    """Three machines of which the first two are ready: then the third one is named, and may still come."""
    assert call_here(tmp_path / "whole", *ASKED)[0] == 0
    home = tmp_path / "home" / "results" / "demo" / "shards"
    home.mkdir(parents=True)
    for index in (1, 2, 3):
        root = tmp_path / str(index)
        code, out, err = call_here(root, *ASKED, "--shard", f"{index}/3")
        assert code == 0, err
        (made,) = (root / "results" / "demo" / "shards").iterdir()
        assert out.strip() == str(made)
        assert not (root / "results" / "demo" / "tiny.csv").exists()
        shutil.copy(made, home)
        code, out, err = call_here(tmp_path / "home", "merge")
        assert (code, "missing: shard" in err) == ((2, True) if index < 3 else (0, False)), err
        if index == 2:
            assert err.strip() == "missing: shard 3/3 of tiny"
    joined = tmp_path / "home" / "results" / "demo" / "tiny.csv"
    assert table(tmp_path / "home") == table(tmp_path / "whole")
    before = joined.read_bytes()
    assert call_here(tmp_path / "home", "merge")[0] == 0
    assert joined.read_bytes() == before
    # What is joined counts as done: a machine with the rows has nothing left to make.
    assert "0 to do in 0 runs" in call_here(tmp_path / "home", *ASKED)[2]


BASE = ResultRow(
    protocol="gnm_table1", tier="mini", model="GNM", train="t", dataset="MNIST-4", metric="LL",
    dialect="particles=100", value=100.0, cell="c", run="r", commit="aaa", data_digest="dd",
    device="cpu x1 thread", train_seconds=1.0, finished="2026-01-01",
)  # fmt: skip


def shard(root: Path, index: int, rows: Iterable[ResultRow]) -> Path:
    path = Workspace(root).results("mini", "gnm_table1", Shard(index, 2))
    results.write(path, rows, ResultRow)
    return path


@pytest.mark.parametrize(
    "change",
    [{"value": 101.0}, {"commit": "bbb"}, {"dialect": "particles=10"}, {"data_digest": "ee"},
     {"status": "n/a", "value": None}, {"cell": "d"}],
)  # fmt: skip
def test_two_rows_that_disagree_are_shown_and_nothing_is_written(
    change: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = shard(tmp_path, 1, [BASE, replace(BASE, seed=1)])
    second = shard(tmp_path, 2, [replace(BASE, **change)])  # type: ignore[arg-type]
    assert cli.main(["merge", "--root", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    (name, *_), (value, *_) = change.keys(), change.values()
    assert name in out
    assert str(value) in out
    assert first.name in out
    assert second.name in out
    assert "two files disagree about 1 cell; nothing was written" in err
    assert not Workspace(tmp_path).results("mini", "gnm_table1").exists()


def test_rows_that_differ_in_where_and_how_long_are_one(tmp_path: Path) -> None:
    shard(tmp_path, 1, [BASE])
    shard(tmp_path, 2, [replace(BASE, device="H100", train_seconds=9.0, finished="2026-02-02")])
    merged, conflicts = merge(Workspace(tmp_path))
    assert conflicts == []
    assert [(one.rows, one.missing) for one in merged] == [(1, ())]
    assert results.read(merged[0].path, ResultRow) == [BASE]


def test_a_shard_without_a_run_is_not_missing(tmp_path: Path) -> None:
    """Three machines and two runs: the third has a file without a row, wherever the files were copied to."""
    place = Workspace(tmp_path)
    paths = [place.results("mini", "gnm_table1", Shard(i, 3)) for i in (1, 2, 3)]
    for path, rows in zip(paths, ([BASE], [replace(BASE, seed=1)], []), strict=True):
        results.write(path, rows, ResultRow)
    copies = tmp_path / "mail"
    shutil.copytree(paths[0].parent, copies)
    for named in ((), paths, [paths[0].parent], [tmp_path], [copies]):
        ((one,), _) = merge(place, named)
        assert (one.rows, one.missing) == (2, ()), named
    paths[2].unlink()
    ((one,), _) = merge(place)
    assert one.missing == ("3/3",)


def test_a_shard_that_was_joined_before_is_not_missing(tmp_path: Path) -> None:
    first = shard(tmp_path, 1, [BASE])
    second = shard(tmp_path, 2, [replace(BASE, seed=1)])
    place = Workspace(tmp_path)
    assert merge(place, [first])[0][0].missing == ("2/2",)  # its rows are in nothing yet
    assert merge(place)[0][0].missing == ()
    for path in (first, second):
        assert merge(place, [path])[0][0].missing == ()
    shard(tmp_path, 2, [replace(BASE, seed=1), replace(BASE, seed=2)])
    assert merge(place, [first])[0][0].missing == ("2/2",)


def test_files_without_any_row_are_nothing_to_join(tmp_path: Path) -> None:
    shard(tmp_path, 1, [])
    with pytest.raises(UsageError, match="hold no rows"):
        merge(Workspace(tmp_path))
    assert not Workspace(tmp_path).results("mini", "gnm_table1").exists()


def test_measured_noise_and_what_people_judged_are_no_shards(tmp_path: Path) -> None:
    """They stand below results/ as well, and a folder is joined with them in it."""
    shard(tmp_path, 1, [BASE])
    shard(tmp_path, 2, [replace(BASE, seed=1)])
    place = Workspace(tmp_path)
    shutil.copy(Path(__file__).parent.parent / "results" / "noise.csv", place.noise)
    hand = place.results("mini", "gnm_table1_by_hand")
    judged = replace(BASE, protocol=hand.stem, metric="S-Acc (by hand, AB)", metric_spec="by hand")
    results.write(hand, [judged], ResultRow)
    for folder in (tmp_path, tmp_path / "results"):
        assert [one.rows for one in merge(place, [folder])[0]] == [2]
    assert results.read(hand, ResultRow) == [judged]
    with pytest.raises(UsageError, match="`reprise label import` makes it"):
        merge(place, [hand])


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_cell_that_failed_gives_way_to_one_that_did_not(
    order: tuple[int, int], tmp_path: Path
) -> None:
    failed = replace(BASE, status="failed", value=None, note="the node was full")
    for index, row in zip(order, (failed, BASE), strict=True):
        shard(tmp_path, index, [row])
    ((one,), _) = merge(Workspace(tmp_path))
    assert results.read(one.path, ResultRow) == [BASE]


def test_what_stands_in_the_results_already_is_kept_and_can_conflict(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    results.write(place.results("mini", "gnm_table1"), [BASE, replace(BASE, seed=7)], ResultRow)
    shard(tmp_path, 1, [BASE, replace(BASE, seed=1)])
    ((one,), _) = merge(place)
    assert [row.seed for row in results.read(one.path, ResultRow)] == [0, 1, 7]
    assert one.missing == ("2/2",)
    before = one.path.read_bytes()
    assert merge(place, [shard(tmp_path, 2, [replace(BASE, seed=7, value=0.0)])])[1] != []
    assert one.path.read_bytes() == before


@pytest.mark.parametrize(
    ("paths", "words"), [((), "--shard 1/4"), (("nowhere.csv",), "does not exist")]
)
def test_nothing_to_join_is_told(
    paths: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["merge", "--root", str(tmp_path), *paths]) == 3
    assert words in capsys.readouterr().err
