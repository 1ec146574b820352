"""The command beside a number makes that number: what a page prints is parsed and planned again."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from reprise.cli import parser
from reprise.commands._arguments import as_addition, as_change, as_labels
from reprise.commands.run import request_of
from reprise.core.errors import UsageError, unknown
from reprise.core.protocol import load, names
from reprise.core.workspace import Workspace
from reprise.launch.plan import Request, plan
from reprise.render.document import command_of
from reprise.render.table import build

ONE = Request("gnm_table1", "demo", models=("VAE",), datasets=("MNIST-4",), metrics=("LL",))


def own(label: str, *changes: str, seeds: int | None = None) -> Request:
    """A visitor's model, changed with --set."""
    return dataclasses.replace(
        ONE,
        models=(label,),
        seeds=seeds,
        changes=tuple(map(as_change, changes)),
        extra=(as_addition(f"{label}=laboratory:Stepping"),),
    )


@pytest.mark.parametrize(
    "asked",
    [
        ONE,
        dataclasses.replace(ONE, changes=(("model.lr", "3e-4"), ("metric.particles", "10"))),
        Request("gnm_table1", "demo", ("GNM (as coded)",), ("MNIST-10",), ("LL",), seeds=2),
        Request("dmvae_figure4", "demo", ("DM-VAE, γ=0",), seeds=1),  # a comma within a label
        own("Mine"),
        own("Mine", "model.latents=4", "training.steps=7", "metric.particles=3", seeds=2),
        own("Mine, γ=0 (it's \"b\")", "model.sigma=3e-1"),
        own("γ=0, lr=1", "training.lr=1e-5", "dataset.canvas=128"),
        own("Mine", "model.reads=none", "model.steps=4"),
        own("Mine", "training.steps=4"),
        own("Mine", "training.steps=4", "model.steps=5", "model.reads=2"),
    ],
)  # fmt: skip
def test_the_command_beside_a_number_plans_the_same_cells(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # where a visitor's own module would be
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


@pytest.mark.parametrize("label", ["GNM [mine]", "Mine [", "a\\,b"])
def test_a_label_that_could_not_be_told_from_a_changed_one_is_refused(label: str) -> None:
    with pytest.raises(UsageError, match="choose another"):
        as_addition(f"{label}=laboratory:Sketch")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("GNM, VAE,,", ("GNM", "VAE")),
        ("DM-VAE (mem=15, corrected),AIR", ("DM-VAE (mem=15, corrected)", "AIR")),
        ("DM-VAE (mem=15\\, corrected),AIR", ("DM-VAE (mem=15, corrected)", "AIR")),
        ("DM-VAE\\, γ=0,AIR (MNIST)", ("DM-VAE, γ=0", "AIR (MNIST)")),
        ("one (a,two (b)", ("one (a", "two (b)")),
    ],
)
def test_a_comma_parts_labels_unless_it_is_escaped_or_in_parentheses(
    text: str, labels: tuple[str, ...]
) -> None:
    assert as_labels(text) == labels


@pytest.mark.parametrize("name", names())
def test_the_labels_of_a_protocol_can_be_asked_for_together_as_a_page_writes_them(
    name: str,
) -> None:
    protocol = load(name)[1]
    for labels in (protocol.models, protocol.datasets, protocol.metrics):
        assert as_labels(",".join(label.replace(",", "\\,") for label in labels)) == tuple(labels)


def test_a_label_cut_at_its_comma_is_told_how_to_write_one() -> None:
    found = str(unknown("model", "γ=0", ["DM-VAE", "DM-VAE, γ=0"]))
    assert r"one inside a name is written \," in found
    assert r"\," not in str(unknown("model", "GNN", ["GNM", "VAE"]))
