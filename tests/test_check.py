"""The regression check and the comparison: exit codes, both sides, and what cannot be judged."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.commands._arguments import as_allowance
from reprise.core.errors import DataError, UsageError
from reprise.core.results import ResultRow, write
from reprise.core.workspace import Shard, Workspace
from reprise.render.check import Outcome, Tolerance, check, check_folders
from reprise.render.compare import compare, select

BASE = ResultRow(
    protocol="p",
    tier="mini",
    model="GNM",
    train="scenes()",
    dataset="MNIST-4",
    metric="LL",
    dialect="particles=100",
    value=100.0,
    stderr=1.0,
    n=100,
    better="higher",
    data_digest="aa",
)


def row(**changes: Any) -> ResultRow:
    return dataclasses.replace(BASE, **changes)


def outcome(now: list[ResultRow], before: list[ResultRow], **tolerance: Any) -> tuple[Outcome, int]:
    report = check(now, before, Tolerance(**tolerance))
    return report.findings[0].outcome, report.code


def test_unchanged_results_hold() -> None:
    assert outcome([row()], [row()]) == (Outcome.HOLDS, 0)
    assert "1 of 1" in str(check([row()], [row()]))


def test_the_tolerance_is_that_of_both_standard_errors() -> None:
    allowed = 3 * 2**0.5
    for sign in (1, -1):
        assert outcome([row(value=100 + sign * 0.99 * allowed)], [row()]) == (Outcome.HOLDS, 0)
    now = [row(value=100 - 1.01 * allowed)]
    assert outcome(now, [row()], same_weights=True) == (Outcome.WORSE, 1)
    assert outcome(now, [row()], same_weights=True, z=4.0) == (Outcome.HOLDS, 0)


def test_one_seed_does_not_know_how_far_retraining_moves_it() -> None:
    """Its standard error is over the test images; another seed of the same training may be further away."""
    for value in (0.0, 105.0, 200.0):
        assert outcome([row(value=value)], [row()]) == (Outcome.UNKNOWN, 2)
        assert outcome([row(value=value)], [row()], same_weights=True)[1] == 1
        assert outcome([row(value=value)], [row()], absolute={"LL": 1.0})[1] == 1
    (found,) = check([row(value=105.0)], [row()]).findings
    assert "which know nothing of retraining" in found.origin
    assert "measure it with `reprise noise p --tier mini --repeats 5`" in found.detail


@pytest.mark.parametrize("better", ["higher", "lower", "neither"])
def test_an_improvement_beyond_the_tolerance_is_a_finding_too(better: str) -> None:
    sides = {"higher": Outcome.BETTER, "lower": Outcome.WORSE, "neither": Outcome.MOVED}
    now, before = row(value=200.0, better=better), row(better=better)
    assert outcome([now], [before], same_weights=True) == (sides[better], 1)


def test_deterministic_quantities_must_be_equal() -> None:
    exact = {"stderr": None, "dialect": "exact"}
    assert outcome([row(**exact)], [row(**exact)]) == (Outcome.HOLDS, 0)
    assert outcome([row(value=100.0000001, **exact)], [row(**exact)])[1] == 1


def test_an_exact_quantity_is_the_same_before_training_and_after() -> None:
    exact = {"stderr": None, "dialect": "exact", "parameters": 100}
    trained, counted = row(steps=9000, **exact), row(steps=0, **exact)
    assert outcome([counted], [trained]) == (Outcome.HOLDS, 0)
    more = dataclasses.replace(counted, value=101.0, parameters=101)
    assert outcome([more], [trained]) == (Outcome.BETTER, 1)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("metric_spec", "log_marginal(particles=1)"), ("dataset_spec", "glyphs()"), ("train", "glyphs()"),
        ("model_spec", "gnm(presence='relaxed')"), ("stand_in", "ArrowRoom-R"), ("steps", 0), ("parameters", 7),
        ("dialect", "particles=10"), ("data_digest", "bb"), ("censored", ">"),
    ],
)  # fmt: skip
def test_what_is_not_the_same_quantity_is_not_compared(column: str, value: Any) -> None:
    """Equal numbers of two quantities are a coincidence; the finding names the column and both values."""
    before = row(steps=9000)
    assert outcome([row(steps=9000, n=99, precision="bf16", run="r")], [before])[0] is Outcome.HOLDS
    changed = dataclasses.replace(before, **{column: value})
    for now, was in ((changed, before), (before, changed)):
        (found,) = check([now], [was]).findings
        said = [getattr(one, column) for one in (was, now)]
        words = ["none" if one in ("", None) else str(one) for one in said]
        assert (found.outcome, found.outcome.code) == (Outcome.CHANGED, 2)
        assert found.detail == f"{column.replace('_', ' ')}: {words[0]} became {words[1]}"


def test_what_cannot_be_judged_is_two() -> None:
    assert outcome([], [row()]) == (Outcome.MISSING, 2)
    assert outcome([row(seed=1)], [row()]) == (Outcome.MISSING, 2)
    assert outcome([row(status="not available yet", value=None)], [row()]) == (Outcome.MISSING, 2)
    assert outcome([row(stderr=None, value=101.0)], [row(stderr=None)]) == (Outcome.UNKNOWN, 2)
    assert outcome([row(value=float("nan"))], [row()]) == (Outcome.UNKNOWN, 2)
    assert check([], []).code == 2


def test_unknown_noise_is_judged_by_an_absolute_tolerance() -> None:
    now, before = [row(stderr=None, value=101.0)], [row(stderr=None)]
    assert outcome(now, before, absolute={"LL": 2.0}) == (Outcome.HOLDS, 0)
    assert outcome(now, before, absolute={"LL": 0.5}) == (Outcome.BETTER, 1)
    assert outcome([row(stderr=None)], before) == (Outcome.HOLDS, 0)


def test_seeds_give_the_noise_where_no_standard_error_does() -> None:
    before = [row(seed=s, stderr=None, value=100.0 + s) for s in range(3)]
    near = [row(seed=s, stderr=None, value=101.0 + s) for s in range(3)]
    far = [row(seed=s, stderr=None, value=150.0 + s) for s in range(3)]
    assert outcome(near, before) == (Outcome.HOLDS, 0)
    assert outcome(far, before) == (Outcome.BETTER, 1)


def seeds(values: Iterable[float], **changes: Any) -> list[ResultRow]:
    return [row(seed=seed, value=float(value), **changes) for seed, value in enumerate(values)]


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_seeds_of_the_same_code_are_called_moved_as_rarely_as_many(n: int) -> None:
    """Student's t pays for a spread that is known from few; what evaluation adds to it is little here."""
    random = np.random.default_rng(n)
    pairs = random.normal(0.0, 10.0, (2_000, 2, n))
    found = [outcome(seeds(now, stderr=0.1), seeds(before, stderr=0.1)) for now, before in pairs]
    wrong = sum(code == 1 for _, code in found) / 2_000
    assert wrong < 0.0027 + 3 * (0.0027 / 2_000) ** 0.5


def test_two_seeds_hold_within_the_noise_of_evaluation_and_have_moved_beyond_all() -> None:
    """Between the two nobody knows: a spread of one degree on each side makes a tolerance 6.4 times as wide."""
    before = seeds([99.0, 101.0], stderr=0.1)
    for by, outcome_code in (
        (0.2, (Outcome.HOLDS, 0)),
        (10, (Outcome.UNKNOWN, 2)),
        (99, (Outcome.BETTER, 1)),
    ):
        assert outcome(seeds([99.0 + by, 101.0 + by], stderr=0.1), before) == outcome_code


def test_the_same_weights_under_several_seeds_do_not_spread_by_training() -> None:
    before, now = seeds([50.0, 100.0, 150.0]), seeds([55.0, 105.0, 155.0])
    assert outcome(now, before, same_weights=True) == (Outcome.BETTER, 1)
    assert outcome(now, before) == (Outcome.HOLDS, 0)


def test_a_cell_that_worked_and_fails_now_has_regressed() -> None:
    failed = row(status="failed", value=None, note="out of memory")
    assert outcome([failed], [row()]) == (Outcome.FAILS, 1)
    assert "out of memory" in str(check([failed], [row()]))


@pytest.mark.parametrize("status", ["failed", "diverged", "n/a", "not available yet", "missing"])
def test_a_reference_without_a_number_is_not_compared(status: str) -> None:
    """It neither holds nor counts, whatever is there now; and where nothing was compared nothing holds."""
    hole = row(model="hole", status=status, value=None)
    for now in ([], [hole], [row(model="hole")]):
        assert outcome(now, [hole]) == (Outcome.NUMBERLESS, 2)
        report = check([*now, row()], [hole, row()])
        assert report.code == 0
        said = "holds: 1 of 1 reference cells within tolerance; 1 without a number in the reference"
        assert said in str(report)
    assert check([row()], [hole]).code == 2, "what is new was not compared either"


def test_a_certain_movement_outweighs_a_doubt() -> None:
    before = [row(), row(metric="S-Acc")]
    assert check([row(status="failed", value=None)], before).code == 1
    assert check([row()], before).code == 2
    assert check([*before, row(metric="new")], before).code == 0


def test_folders_are_matched_by_tier_and_protocol(tmp_path: Path) -> None:
    now, before = tmp_path / "results", tmp_path / "reference"
    for folder in (now, before):
        write(folder / "mini" / "p.csv", [row()], ResultRow)
    write(now / "mini" / "q.csv", [row(protocol="q", value=0.0)], ResultRow)
    assert check_folders(now, before).code == 0
    assert check_folders(now, before / "mini" / "p.csv").code == 0
    assert check_folders(now / "mini" / "p.csv", before).code == 0
    for pair in ((now, tmp_path / "absent"), (tmp_path / "absent", before)):
        with pytest.raises(UsageError, match="absent does not exist"):
            check_folders(*pair)
    with pytest.raises(UsageError, match="tier paper"):
        check_folders(now, before, tiers=["paper"])


def test_a_folder_of_one_tier_is_a_folder_of_results_too(tmp_path: Path) -> None:
    """`--current results/mini` beside `--against old/mini/p.csv`, and the other ways to name the same files."""
    for name, value in {"now": 100.0, "moved": 50.0, "old": 100.0}.items():
        write(Workspace(tmp_path / name).results("mini", "p"), [row(value=value)], ResultRow)
    ways, same = ("", "results", "results/mini", "results/mini/p.csv"), Tolerance(same_weights=True)
    for against in ways:
        for current in ways:
            reference = tmp_path / "old" / against
            assert check_folders(tmp_path / "now" / current, reference).code == 0
            moved = check_folders(tmp_path / "moved" / current, reference, same)
            assert moved.code == 1
            with pytest.raises(UsageError, match="compared with itself"):
                check_folders(tmp_path / "old" / current, reference)


def test_a_folder_without_any_of_the_files_is_bad_usage(tmp_path: Path) -> None:
    """Where some are there, the rest is missing, which is a finding."""
    old, now = tmp_path / "old", tmp_path / "now"
    write(old / "mini" / "p.csv", [row()], ResultRow)
    write(old / "mini" / "q.csv", [row(protocol="q")], ResultRow)
    write(now / "mini" / "r.csv", [row(protocol="r")], ResultRow)
    with pytest.raises(UsageError, match=r"holds no results .* expected mini/p.csv, mini/q.csv"):
        check_folders(now, old)
    write(now / "mini" / "p.csv", [row()], ResultRow)
    assert check_folders(now, old).code == 2


@pytest.mark.parametrize(
    "tolerance",
    [
        {"z": float("nan")}, {"z": float("inf")}, {"z": 0.0}, {"z": -3.0},
        {"absolute": {"LL": float("nan")}}, {"absolute": {"LL": float("inf")}},
        {"absolute": {"LL": -1.0}}, {"absolute": {"LLL": 5.0}},
    ],
)  # fmt: skip
def test_no_tolerance_lets_everything_pass(tolerance: dict[str, Any]) -> None:
    """500 nats less hold for nobody, and an allowance for a metric that is none is not passed over."""
    with pytest.raises(UsageError):
        check([row(value=-400.0)], [row()], Tolerance(**tolerance))


@pytest.mark.parametrize("text", ["5000", "=5000", "LL=", "LL=much"])
def test_an_allowance_names_its_metric(text: str) -> None:
    with pytest.raises(UsageError, match="expected METRIC=X"):
        as_allowance(text)


def test_two_tiers_two_files_and_two_models_lie_side_by_side(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    vae = row(model="VAE", value=90.0)
    write(place.results("mini", "p"), [row(), vae], ResultRow)
    write(place.results("paper", "p"), [row(tier="paper", value=103.0)], ResultRow)
    tiers = compare(select(place, "mini"), select(place, "paper/p"))
    assert [(line.where[1], line.difference) for line in tiers.lines] == [
        ("GNM", 3.0),
        ("VAE", None),
    ]
    assert tiers.lines[0].errors == pytest.approx(3 / 2**0.5)
    with pytest.raises(UsageError, match="did you mean 'mini:GNM'"):
        select(place, "mini:GNMM")
    models = compare(select(place, "mini:GNM"), select(place, "mini:VAE"))
    assert [line.difference for line in models.lines] == [-10.0]
    assert select(place, "GNM").title == "GNM (paper)"
    files = compare(*(select(place, str(place.results(t, "p"))) for t in ("mini", "paper")))
    assert "+3" in str(files)
    with pytest.raises(UsageError, match="did you mean 'GNM'"):
        select(place, "GNMM")


def test_a_folder_of_results_is_compared_with_measured_noise_in_it(tmp_path: Path) -> None:
    for name, value in {"old": 100.0, "new": 101.0}.items():
        place = Workspace(tmp_path / name)
        write(place.results("mini", "p"), [row(value=value)], ResultRow)
        shutil.copy(Path(__file__).parent.parent / "results" / "noise.csv", place.noise)
        write(place.results("mini", "p", Shard(1, 2)), [row(value=value)], ResultRow)
    for below in ("", "results"):
        sides = [
            select(Workspace(tmp_path), str(tmp_path / name / below)) for name in ("old", "new")
        ]
        assert [line.difference for line in compare(*sides).lines] == [1.0]
        assert all(len(side.rows) == 1 for side in sides)  # those of shards would count twice


def test_two_models_are_compared_where_their_dialects_do_not_contradict_each_other(
    tmp_path: Path,
) -> None:
    place = Workspace(tmp_path)
    theirs = row(model="VAE", dialect="particles=100 sigma=0.2")
    for dialect, comparable in (
        ("particles=100 sigma=0.2 presence=discrete", True),
        ("particles=10 sigma=0.2", False),
    ):
        write(place.results("mini", "p"), [row(model="GNM", dialect=dialect), theirs], ResultRow)
        said = str(compare(select(place, "mini:GNM"), select(place, "mini:VAE")))
        assert ("different dialects" not in said) == comparable


def test_a_folder_without_results_is_no_side_of_a_comparison(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no rows; expected a CSV of results"):
        select(Workspace(tmp_path), str(tmp_path))


def test_a_comparison_says_where_the_two_are_not_the_same_quantity(tmp_path: Path) -> None:
    for name, changes in {"a": {}, "b": {"dialect": "x"}, "c": {"data_digest": "x"}}.items():
        write(tmp_path / f"{name}.csv", [row(**changes)], ResultRow)
    sides = [select(Workspace(tmp_path), str(tmp_path / f"{name}.csv")) for name in "abc"]
    assert "different dialects" in str(compare(sides[0], sides[1]))
    assert "different data" in str(compare(sides[0], sides[2]))


def test_two_files_with_a_row_of_one_cell_are_no_two_seeds(tmp_path: Path) -> None:
    """An old copy beside the current file: (100 + 0) / 2 is nobody's mean, and n is not 2."""
    now, old = tmp_path / "now", tmp_path / "old"
    current = Workspace(now).results("mini", "p")
    write(current, [row(value=50.0)], ResultRow)
    write(Workspace(old).results("mini", "p"), [row()], ResultRow)
    copy = Workspace(old).results("mini/before", "p")
    write(copy, [row(value=0.0)], ResultRow)
    for act in (
        lambda: select(Workspace(tmp_path), str(old)),
        lambda: select(Workspace(old), "mini"),
        lambda: select(Workspace(old), "GNM"),
        lambda: check_folders(now, old),
    ):
        with pytest.raises(DataError, match="LL of GNM on MNIST-4, seed 0") as caught:
            act()
        assert str(copy) in str(caught.value)
        assert str(Workspace(old).results("mini", "p")) in str(caught.value)
    write(copy, [row(seed=1, value=0.0)], ResultRow)  # another seed, which is what it seems
    assert len(select(Workspace(tmp_path), str(old)).rows) == 2


def test_a_folder_of_two_tiers_is_no_side_of_a_comparison(tmp_path: Path) -> None:
    """Neither tier is a seed of the other; the check, which tells tiers apart, takes them."""
    for name in ("now", "old"):
        for tier, value in {"demo": 1.0, "mini": 100.0}.items():
            path = Workspace(tmp_path / name).results(tier, "p")
            write(path, [row(tier=tier, value=value)], ResultRow)
    place = Workspace(tmp_path / "now")
    with pytest.raises(UsageError, match=r"rows of the tiers demo, mini, .* name one: demo"):
        select(place, str(tmp_path / "old"))
    sides = select(place, "mini"), select(place, str(tmp_path / "old" / "results" / "mini"))
    (line,) = compare(*sides).lines
    assert (line.left, line.right) == ("100, n=1", "100, n=1")
    found = check_folders(tmp_path / "now", tmp_path / "old")
    assert (len(found.findings), found.code) == (2, 0)
