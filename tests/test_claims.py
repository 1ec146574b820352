"""Claims hold where the numbers say so, do not where they say the contrary, and never by a hole or one seed."""

import dataclasses
import math
from typing import Any

import pytest

from reprise.core.claims import (
    Key,
    Test,
    at_most,
    best_reaches,
    difference,
    lower,
    some_seed_fails,
    values_of,
    within,
)
from reprise.core.protocol import TIERS, Table, model
from reprise.core.results import ResultRow

A, B = ("A", "data", "NLL"), ("B", "data", "NLL")


def rows(key: Key, *values: float, **more: Any) -> list[ResultRow]:
    model, dataset, metric = key
    of = ResultRow(
        protocol="p", tier="mini", model=model, train="t", dataset=dataset, metric=metric
    )
    return [
        dataclasses.replace(of, seed=seed, value=value, **more) for seed, value in enumerate(values)
    ]


def outcome(test: Test, *found: list[ResultRow], seeds: int = 3) -> str:
    return test([row for part in found for row in part], seeds).outcome


LOW, HIGH, WIDE = (100.0, 101.0, 102.0), (150.0, 151.0, 152.0), (60.0, 100.0, 160.0)


@pytest.mark.parametrize(
    ("test", "a", "b", "expected"),
    [
        (lower(A, B), LOW, HIGH, "holds"),
        (lower(A, B), HIGH, LOW, "does not hold"),
        (lower(A, B), WIDE, LOW, "undecided"),
        (lower(A, B, factor=0.5), LOW, HIGH, "does not hold"),  # 101 is not below 75.5
        (within(A, B, 10), LOW, (103.0, 104.0, 105.0), "holds"),
        (within(A, B, 10), LOW, HIGH, "does not hold"),
        (within(A, B, 10), LOW, WIDE, "undecided"),
        (at_most(A, 110), LOW, HIGH, "holds"),
        (at_most(A, 90), LOW, HIGH, "does not hold"),
        (at_most(A, 101), LOW, HIGH, "undecided"),
        (best_reaches(A, 101.5), LOW, HIGH, "holds"),
        (best_reaches(A, 102.5), LOW, HIGH, "does not hold"),
        (some_seed_fails(A, 1.2), WIDE, HIGH, "holds"),
        (some_seed_fails(A, 1.2), LOW, HIGH, "does not hold"),
    ],
)
def test_a_claim_is_judged_by_its_whole_interval(
    test: Test, a: tuple[float, ...], b: tuple[float, ...], expected: str
) -> None:
    assert outcome(test, rows(A, *a), rows(B, *b)) == expected


def test_one_seed_decides_no_claim_of_a_difference() -> None:
    for test in (lower(A, B), within(A, B, 1000), at_most(A, 1000), some_seed_fails(A, 1.2)):
        found = test(rows(A, 1.0) + rows(B, 500.0), 1)
        assert found.outcome == "undecided"
        assert "one seed" in found.words


def test_a_difference_says_what_was_taken_from_what() -> None:
    """That LL is higher is tested as the other's being lower: −400 alone would read as the contrary."""
    one, other = ("DooD", "MNIST", "LL"), ("AIR", "MNIST", "LL")
    found = [row for key, value in ((one, 500.0), (other, 100.0)) for row in rows(key, value)]
    assert lower(other, one)(found, 1).words.startswith("AIR − DooD = −400 (")
    elsewhere = ("DooD", "EMNIST", "LL")
    found += rows(elsewhere, 50.0)
    assert lower(elsewhere, one, 0.5)(found, 1).words.startswith("EMNIST − 0.5 × MNIST = −200 (")
    assert within(elsewhere, other, 9)(found, 1).words.startswith("DooD EMNIST − AIR MNIST = −50 (")


@pytest.mark.parametrize("status", ["failed", "diverged", "n/a"])
def test_no_claim_rests_on_a_hole(status: str) -> None:
    holes: Any = status
    broken = [*rows(A, 1.0, 2.0), *rows(A, 0.0, 0.0, 0.0, status=holes, note="why")[2:]]
    for test in (lower(A, B), lower(B, A), within(A, B, 1), at_most(A, 3), best_reaches(A, 0)):
        found = test(broken + rows(B, *HIGH), 3)
        assert found.outcome == "not measured"
        assert f"{status} in seed 2" in found.words
        assert "why" in found.words
    assert values_of(rows(A, 1.0, 2.0), A, 3) == "NLL of A on data: 2 of 3 seeds measured"


def test_a_diverged_seed_is_a_failed_one_and_not_a_hole_where_failing_is_the_question() -> None:
    seeds = [
        *rows(A, 1.0, 1.1),
        dataclasses.replace(rows(A, 0.0)[0], seed=2, status="diverged", value=None),
    ]
    found = some_seed_fails(A, 1.2)(seeds, 3)
    assert found.outcome == "holds"
    assert "1 of 3 seeds diverged" in found.words


def test_the_interval_is_that_of_scipy_and_the_bootstrap_lies_about_the_difference() -> None:
    from scipy.stats import ttest_ind

    a, b = [154.0, 142.0, 163.0, 150.0], [185.0, 180.0, 190.5]
    found = difference(a, b)
    theirs = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.welch == pytest.approx((theirs.low, theirs.high))
    assert found.bootstrap is not None
    low, high = found.bootstrap
    assert low < found.difference < high
    assert difference(a, b) == found  # the same numbers give the same words
    assert difference([2.0, 2.0], [1.0, 1.0]).welch == (1.0, 1.0)
    assert math.isclose(found.difference, 152.25 - 185.1666666666)


def test_a_success_rate_counts_every_seed() -> None:
    found = best_reaches(A, 0.95)(rows(A, 0.99, 0.33, 0.96), 3)
    assert found.outcome == "holds"
    assert "2 of 3 seeds reach 0.95 (success rate 67%)" in found.words


def test_a_protocol_may_ask_for_more_seeds_at_a_tier_than_the_tier_has() -> None:
    plain = Table(paper="p", models={"A": model("ppca")}, datasets={}, metrics={}, seeds=10)
    asking = dataclasses.replace(plain, seeds_at={"mini": 3})
    assert [plain.seeds_for(tier) for tier in TIERS] == [1, 1, 10]
    assert [asking.seeds_for(tier) for tier in TIERS] == [1, 3, 10]
