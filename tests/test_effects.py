"""The ledger says what a deviation changes: in numbers of both readings, of one tier, where both were measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprise.core.protocol import Deviation, Effect, Table, dataset, load, metric, model
from reprise.core.results import ResultRow, write
from reprise.core.workspace import Workspace
from reprise.render.document import report
from reprise.render.effects import words
from reprise.render.table import ResultTable, build

PROTOCOL = Table(
    paper="Somebody 2020",
    models={"GNM": model("gnm"), "GNM (as coded)": model("gnm", presence="relaxed")},
    datasets={
        "MNIST-4": dataset("scenes", rule="mnist4"),
        "MNIST-10": dataset("scenes", rule="mnist10"),
    },
    metrics={"LL": metric("log_marginal"), "LL of 30": metric("log_marginal", particles=30)},
)
ROW = Effect("p", "GNM", "GNM (as coded)")
COLUMN = Effect("p", "LL", "LL of 30", "metric")


def row(
    protocol: str, of: str, on: str, what: str, value: float, tier: str, precision: str = "fp32"
) -> ResultRow:
    """A number of one seed."""
    return ResultRow(
        protocol=protocol, tier=tier, model=of, train="t", dataset=on, metric=what, seed=0, status="ok", value=value,
        better="higher", precision=precision,
    )  # fmt: skip


def said(effect: Effect, *numbers: tuple[str, str, str, float], tier: str = "mini") -> str:
    """What the ledger says of an effect where these cells have been measured, once each."""
    rows = [row("p", *number, tier) for number in numbers]

    def table_of(name: str) -> ResultTable:
        return build(name, PROTOCOL, rows, (), tier)

    return words(Deviation("w", "p", "c", "o", "s", (effect,)), table_of, tier)


def test_both_readings_stand_beside_one_another_wherever_both_were_measured() -> None:
    text = said(
        ROW,
        ("GNM", "MNIST-4", "LL", 9670.0),
        ("GNM (as coded)", "MNIST-4", "LL", 9668.0),
        ("GNM", "MNIST-10", "LL", 9000.0),  # the other reading is missing there
    )
    assert text == "“GNM (as coded)”, tier mini, n=1: LL on MNIST-4 9668 beside 9670 (p)."


def test_two_columns_are_compared_for_each_model() -> None:
    text = said(
        COLUMN, ("GNM", "MNIST-4", "LL", 9670.0), ("GNM", "MNIST-4", "LL of 30", 9665.0),
        ("GNM (as coded)", "MNIST-4", "LL", 1.0),
    )  # fmt: skip
    assert text == "“LL of 30”, tier mini, n=1: GNM on MNIST-4 9665 beside 9670 (p)."


def test_readings_that_were_trained_in_other_precisions_say_so() -> None:
    rows = [
        row("p", "GNM", "MNIST-4", "LL", 9670.0, "mini"),
        row("p", "GNM (as coded)", "MNIST-4", "LL", 9668.0, "mini", "bf16"),
    ]
    told = words(
        Deviation("w", "p", "c", "o", "s", (ROW,)),
        lambda name: build(name, PROTOCOL, rows, (), "mini"),
        "mini",
    )
    assert "n=1, trained in bf16 and fp32: LL on MNIST-4 9668 beside 9670" in told


@pytest.mark.parametrize("numbers", [(), (("GNM", "MNIST-4", "LL", 9670.0),)])
def test_what_was_not_measured_is_said_to_be_missing(
    numbers: tuple[tuple[str, str, str, float], ...],
) -> None:
    assert said(ROW, *numbers) == "“GNM (as coded)” (p) has not been measured at tier mini."


def test_a_deviation_without_another_option_says_nothing() -> None:
    assert words(Deviation("w", "p", "c", "o", "s"), lambda name: pytest.fail(name), "mini") == ""


def test_the_pages_of_other_protocols_say_it_too(tmp_path: Path) -> None:
    """An entry is part of many pages; its numbers come from one protocol's rows at the page's tier."""
    workspace = Workspace(tmp_path)
    rows = [
        row("gnm_table1", label, "MNIST-4", "LL", value, "mini")
        for label, value in (("GNM", 9670.0), ("GNM (as coded)", 9668.0))
    ]
    write(workspace.results("mini", "gnm_table1"), rows, ResultRow)
    report(workspace, "mini", ["gnm_ablations"])
    entries = [
        e for e in load("gnm_ablations")[1].deviations if e.what == "presence in the log-likelihood"
    ]
    assert len(entries) == 1
    sentence = "n=1: LL on MNIST-4 9668 beside 9670 (gnm_table1)"
    for ending in ("html", "md"):
        page = (workspace.reports("mini") / f"gnm_ablations.{ending}").read_text(encoding="utf-8")
        assert sentence in page.replace("\\", "").replace("&#39;", "'"), ending
