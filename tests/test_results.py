"""Rows as they are written and read, and what is taken for measured of the files that lie in a folder."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.cli import main
from reprise.core.errors import ContractError, DataError, StaleError
from reprise.core.metric import Measurement
from reprise.core.results import NEEDED, ResultRow, fits, read, rows_of, write
from reprise.core.workspace import Shard, Workspace
from reprise.launch import cells
from reprise.launch.plan import Plan, Request, collect, plan

REQUEST = Request("gnm_table1", "demo", ("VAE",), ("MNIST-4",), ("LL",))
ROW = ResultRow(
    protocol="p", tier="demo", model="GNM", train="t", dataset="D", metric="LL", value=0.984,
    stderr=0.001, n=250, run="r", cell="c0ffee",
)  # fmt: skip


def measured(place: Workspace, **changes: Any) -> ResultRow:
    """The row of the one cell of REQUEST, as if it had been measured."""
    (planned,) = plan(REQUEST, place).cells
    return dataclasses.replace(planned.row, value=10.0, stderr=1.0, n=5, **changes)


def put(place: Workspace, name: str, row: ResultRow, shard: Shard | None = None) -> Path:
    path = place.results("demo", name, shard)
    write(path, [row], ResultRow)
    return path


def collected(place: Workspace) -> tuple[Plan, list[ResultRow]]:
    found = plan(REQUEST, place)
    collect(found, place)
    return found, read(place.results("demo", "gnm_table1"), ResultRow)


def test_a_file_that_is_named_after_no_protocol_changes_no_number(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    row = measured(place)
    path = put(place, "gnm_table1", row)
    before = path.read_bytes()
    for name in ("gnm_table1_old", "a", "zzz"):
        put(place, name, dataclasses.replace(row, value=11.0))
    put(place, "shards/gnm_table1.old", dataclasses.replace(row, value=12.0))
    found, rows = collected(place)
    assert found.missing == 0
    assert rows == [row]
    assert path.read_bytes() == before
    path.unlink()
    assert plan(REQUEST, place).missing == 1, "a stray copy is nobody's memory"


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_two_files_that_disagree_about_a_cell_are_both_named(
    shard: Shard | None, tmp_path: Path
) -> None:
    place = Workspace(tmp_path)
    row = measured(place, finished="2026-01-02T03:04:05+00:00")
    own = put(place, "gnm_table1", row)
    name = "gnm_figure2" if shard is None else "gnm_table1"
    theirs = dataclasses.replace(row, protocol=name, finished="2026-02-02T03:04:05+00:00")
    other = put(place, name, theirs, shard)
    assert collected(place)[1] == [row], "the protocol's own row, where they agree"
    put(place, name, dataclasses.replace(theirs, value=11.0), shard)
    with pytest.raises(DataError, match=r"disagree about LL .* seed 0: 10\.0 and 11\.0") as told:
        plan(REQUEST, place)
    assert str(own) in str(told.value)
    assert str(other) in str(told.value)


def test_numbers_of_what_a_label_no_longer_means_do_not_stay_beside_new_ones(
    tmp_path: Path,
) -> None:
    """Of a model's earlier version, and of a metric's: a mean or a line of the table would mix the two."""
    place = Workspace(tmp_path)
    two = plan(dataclasses.replace(REQUEST, seeds=2), place).cells
    first, second = (dataclasses.replace(one.row, value=10.0, stderr=1.0, n=5) for one in two)
    stays = dataclasses.replace(first, metric="S-Acc", cell="a")
    elsewhere = dataclasses.replace(stays, train="other data", run="vae-elsewhere", dataset="ARROW")
    earlier = [
        dataclasses.replace(stays, metric="D-Steps", run="vae-earlier"),
        dataclasses.replace(stays, seed=1, run="vae-earlier"),
        dataclasses.replace(second, cell="earlier"),
    ]
    path = place.results("demo", "gnm_table1")
    write(path, [first, stays, elsewhere, *earlier], ResultRow)
    assert {row.key for row in collected(place)[1]} == {first.key, stays.key, elsewhere.key}
    write(path, [first, second], ResultRow)
    assert collected(place)[1] == [first, second]


def test_a_number_whose_metric_now_means_something_else_is_refused(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    row = measured(place)
    put(place, "gnm_table1", dataclasses.replace(row, dialect=f"{row.dialect} judge=1"))
    assert plan(REQUEST, place).missing == 0, "it learnt a word while it ran"
    put(place, "gnm_table1", dataclasses.replace(row, dialect="particles=7"))
    with pytest.raises(StaleError, match=r"LL of VAE .* as 'particles=7', which now reads"):
        plan(REQUEST, place)


@pytest.mark.parametrize("of", [{"tier": "mini"}, {"protocol": "gnm_figure2"}])
def test_rows_of_another_tier_or_protocol_are_believed_by_nobody(
    of: dict[str, Any], tmp_path: Path
) -> None:
    """Copied below results/paper, rows of tier mini would be laid beside the published numbers."""
    place = Workspace(tmp_path)
    path = put(place, "gnm_table1", dataclasses.replace(measured(place), **of))
    for read_it in (
        lambda: rows_of(place, "demo", "gnm_table1"),
        lambda: plan(REQUEST, place),
    ):
        with pytest.raises(DataError, match="holds a row of") as told:
            read_it()
        assert str(path) in str(told.value)


def test_another_protocols_unreadable_file_is_told_and_stops_nobody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Workspace(tmp_path)
    row = measured(place)
    own, other = put(place, "gnm_table1", row), put(place, "gnm_figure2", row)
    other.write_text(other.read_text().replace(",ok,", ",fine,"))
    found, rows = collected(place)
    assert (found.missing, rows) == (0, [row])
    assert [str(other) in trouble for trouble in found.troubles] == [True]
    root = ["--root", str(tmp_path)]
    assert main(["list", *root]) == 3
    assert "unreadable" in capsys.readouterr().out
    assert main(["show", "table1", "--tier", "demo", *root]) == 0
    assert main(["report", "table1", "--tier", "demo", *root]) == 0
    assert (place.reports("demo") / "gnm_table1.md").is_file()
    capsys.readouterr()
    assert main(["report", "--tier", "demo", *root]) == 3
    assert str(other) in capsys.readouterr().err
    own.write_text(own.read_text().replace(",ok,", ",fine,"))
    with pytest.raises(DataError, match="gnm_table1"):
        plan(REQUEST, place)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("censored", "<"), ("censored", None), ("stderr", math.nan), ("stderr", -1.0), ("stderr", math.inf),
        ("n", 2.5), ("n", 0), ("n", None), ("dialect", None),
    ],
)  # fmt: skip
def test_a_measurement_that_no_row_can_hold_names_the_metric_and_the_field(
    field: str, value: Any
) -> None:
    found = dataclasses.replace(Measurement(0.5, 0.1, 10), **{field: value})
    with pytest.raises(ContractError, match=rf"my_metric returned .* {field}="):
        found.checked("my_metric")
    assert Measurement(0.5, np.float64(0.1), np.int64(10), ">").checked("m").n == 10  # type: ignore[arg-type]


def test_a_cell_that_no_row_can_hold_counts_as_not_measured(tmp_path: Path) -> None:
    """What is collected can be read again, whoever wrote the cell."""
    place = Workspace(tmp_path)
    cells.write(place, "r", "c", cells.measured(ROW))
    assert cells.read(place, "r", "c") == cells.measured(ROW)
    path = cells.path(place, "r", "c")
    whole = json.loads(path.read_text())
    del whole["checksum"]
    for column, value in (
        ("censored", "<"), ("stderr", math.nan), ("value", math.inf), ("n", 2.5), ("n", "5"),
        ("status", "fine"), ("dirty", 0), ("note", 3), ("note", "\udc80"), ("value", [1.0]),
    ):  # fmt: skip
        path.write_text(json.dumps({**whole, column: value}))
        assert cells.read(place, "r", "c") is None, (column, value)
        assert not fits(column, value)


def test_a_row_that_stands_twice_is_no_further_seed(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write(path, [ROW, dataclasses.replace(ROW, seed=1)], ResultRow)
    assert len(read(path, ResultRow)) == 2
    for again in (ROW, dataclasses.replace(ROW, value=0.9)):
        write(path, [ROW, again], ResultRow)
        with pytest.raises(DataError, match=r"line 3: LL of GNM on D, seed 0, has a row already"):
            read(path, ResultRow)


@pytest.mark.parametrize("column", [*NEEDED, "stand_in"])
def test_a_column_without_which_a_row_would_say_more_must_be_there(
    column: str, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    write(path, [dataclasses.replace(ROW, tier="paper")], ResultRow)
    header, line = (text.split(",") for text in path.read_text().splitlines())
    place = header.index(column)
    del header[place], line[place]
    path.write_text("\n".join([",".join(header), ",".join(line), ""]))
    with pytest.raises(DataError, match="is missing"):
        read(path, ResultRow)


def test_a_file_with_windows_line_ends_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write(path, [ROW], ResultRow)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert read(path, ResultRow) == [ROW]
