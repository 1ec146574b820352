"""The command beside a number makes that number: what a page prints is parsed and planned again."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from reprise.cli import parser
from reprise.commands.run import request_of
from reprise.core.protocol import load
from reprise.core.workspace import Workspace
from reprise.launch.plan import Request, plan
from reprise.render.document import command_of
from reprise.render.table import build

ONE = Request("gnm_table1", "demo", models=("VAE",), datasets=("MNIST-4",), metrics=("LL",))


@pytest.mark.parametrize(
    "asked",
    [
        ONE,
        dataclasses.replace(ONE, changes=(("model.lr", "3e-4"), ("metric.particles", "10"))),
        Request("gnm_table1", "demo", ("GNM (as coded)",), ("MNIST-10",), ("LL",), seeds=2),
        Request("dmvae_figure4", "demo", ("DM-VAE, γ=0",), seeds=1),  # a comma within a label
    ],
)  # fmt: skip
def test_the_command_beside_a_number_plans_the_same_cells(asked: Request, tmp_path: Path) -> None:
    planned = plan(asked, Workspace(tmp_path)).cells
    rows = [dataclasses.replace(cell.row, value=1.0) for cell in planned]
    name, protocol, _ = load(asked.protocol)
    table = build(name, protocol, rows, [], "demo")
    (entry,) = [entry for entry in table.entries if entry.rows]
    words = shlex.split(command_of(table, entry))
    assert words[0] == "run_protocol"
    again = plan(request_of(parser().parse_args(["run", *words[1:]])), Workspace(tmp_path)).cells
    assert [cell.id for cell in again] == [cell.id for cell in planned]
    assert [cell.row.key for cell in again] == [cell.row.key for cell in planned]
