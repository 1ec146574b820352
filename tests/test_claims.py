"""Claims hold where the numbers say so, do not where they say the contrary, and never by a hole or one seed."""

import dataclasses
import math
import statistics
from typing import Any

import pytest

from reprise.core.claims import (
    Key,
    Test,
    Values,
    at_least,
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

    def of(values: list[float]) -> Values:
        return Values(tuple(values), statistics.stdev(values) / math.sqrt(len(values)))

    found = difference(of(a), of(b))
    theirs = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.welch == pytest.approx((theirs.low, theirs.high))
    assert found.bootstrap is not None
    low, high = found.bootstrap
    assert low < found.difference < high
    assert difference(of(a), of(b)) == found  # the same numbers give the same words
    assert difference(Values((2.0, 2.0), 0.0), Values((1.0, 1.0), 0.0)).welch == (1.0, 1.0)
    shrunk = difference(of(b).times(0.5), of(b))
    assert shrunk.difference == pytest.approx(-0.5 * statistics.fmean(b))
    assert math.isclose(found.difference, 152.25 - 185.1666666666)


SAME, MORE = (40.0, 40.0, 40.0), (80.0, 80.0, 80.0)


def test_a_censored_value_bounds_one_side_only() -> None:
    """`>2000` is at least that much: it may be above anything, and is below nothing."""
    bound = rows(A, 2000.0, 2000.0, 2000.0, censored=">")
    for test, expected in (
        (lower(A, B), "does not hold"),
        (lower(B, A), "holds"),
        (within(A, B, 3000), "undecided"),
        (at_most(A, 3000), "undecided"),
        (at_least(A, 1000), "holds"),
        (at_most(A, 1000), "does not hold"),
    ):
        assert outcome(test, bound, rows(B, *MORE, stderr=1.0)) == expected
    assert lower(A, B)([*bound, *rows(B, 9000.0, 9010.0, 9020.0)], 3).outcome == "undecided"
    both = [*bound, *rows(B, 2000.0, 2000.0, 2000.0, censored=">")]
    assert lower(A, B)(both, 3).outcome == "undecided"


def test_seeds_that_agree_to_the_last_bit_decide_nothing_unless_the_quantity_is_exact() -> None:
    """Updates counted in steps of 40 agree by their grain."""
    for test in (lower(A, B), within(A, B, 100), at_most(A, 50), at_least(A, 10)):
        found = test([*rows(A, *SAME), *rows(B, *MORE)], 3)
        assert found.outcome == "undecided"
        assert "last bit" in found.words
        exact = [*rows(A, *SAME, dialect="exact"), *rows(B, *MORE, dialect="exact")]
        assert test(exact, 3).outcome == "holds"
    for level in (at_most(A, 40), at_least(A, 40)):
        assert outcome(level, rows(A, *SAME, dialect="exact")) == "holds"


def test_the_noise_of_a_seed_is_not_below_that_of_its_evaluation() -> None:
    """None of 250 samples, thrice, is not shown to be fewer than one of 250."""
    none, one = ((p, p, p) for p in (0.0, 1 / 250))
    found = [
        dataclasses.replace(row, n=250, stderr=math.sqrt(row.value * (1 - row.value) / 250))
        for row in (*rows(A, *none), *rows(B, *one))
        if row.value is not None
    ]
    assert lower(A, B)(found, 3).outcome == "undecided"


def test_numbers_of_contradicting_dialects_are_not_compared() -> None:
    one = rows(A, *LOW, dialect="sigma=0.2 particles=100 presence=discrete")
    found = lower(A, B)([*one, *rows(B, *HIGH, dialect="sigma=0.5 particles=100")], 3)
    assert found.outcome == "not measured"
    assert "sigma=0.2 and sigma=0.5" in found.words
    assert outcome(lower(A, B), one, rows(B, *HIGH, dialect="sigma=0.2 count=all")) == "holds"


def test_a_success_rate_counts_every_seed() -> None:
    found = best_reaches(A, 0.95)(rows(A, 0.99, 0.33, 0.96), 3)
    assert found.outcome == "holds"
    assert "2 of 3 seeds reach 0.95 (success rate 67%)" in found.words


def test_a_protocol_may_ask_for_more_seeds_at_a_tier_than_the_tier_has() -> None:
    plain = Table(paper="p", models={"A": model("ppca")}, datasets={}, metrics={}, seeds=10)
    asking = dataclasses.replace(plain, seeds_at={"mini": 3})
    assert [plain.seeds_for(tier) for tier in TIERS] == [1, 1, 10]
    assert [asking.seeds_for(tier) for tier in TIERS] == [1, 3, 10]
