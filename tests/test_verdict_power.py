"""What would decide a cell, how surely orders agree, and how often a verdict is wrong."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from reprise.core.order import _permutation_p, order_agreement
from reprise.core.power import (
    MOST_SEEDS,
    difference_power,
    equivalence_power,
    outlook,
    t_quantile,
)
from reprise.core.protocol import load
from reprise.core.results import PublishedValue, ResultRow
from reprise.core.verdict import Verdict, judge, summary
from reprise.render.table import build, overall, to_terminal

ROW = ResultRow(
    protocol="p", tier="paper", model="A", train="t", dataset="D", metric="M", better="higher"
)
PRINTED = PublishedValue(
    model="A", dataset="D", metric="M", value=0.0, printed="0.0", better="higher"
)


def rows(values: Any, **changes: Any) -> list[ResultRow]:
    return [
        dataclasses.replace(ROW, value=float(value), seed=seed, **changes)
        for seed, value in enumerate(values)
    ]


def verdict(values: Any, printed: PublishedValue = PRINTED, **changes: Any) -> Verdict:
    return judge(rows(values, **changes), printed, tier="paper", seeds=len(values)).verdict


def exact_equivalence_power(difference: float, spread: float, margin: float, n: int) -> float:
    """By integration over the estimated standard deviation: the definition, without any noncentral t."""
    error, quantile = spread / math.sqrt(n), stats.t.ppf(0.95, n - 1)

    def inside(estimate: float) -> float:
        half = margin - quantile * error * estimate
        if half <= 0:
            return 0.0
        low, high = (-half - difference) / error, (half - difference) / error
        density = stats.chi.pdf(estimate * math.sqrt(n - 1), n - 1) * math.sqrt(n - 1)
        return float((stats.norm.cdf(high) - stats.norm.cdf(low)) * density)

    return float(integrate.quad(inside, 0, margin / (quantile * error), limit=200)[0])


@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("difference", [0.0, 0.3, -0.6])
def test_the_power_of_equivalence_is_that_of_its_definition(n: int, difference: float) -> None:
    for spread in (0.02, 0.1, 0.3):
        ours = equivalence_power(difference, spread, 1.0, n)
        exact = exact_equivalence_power(difference, spread, 1.0, n)
        assert ours <= exact + 1e-6, "more was promised than the test can hold"
        if exact > 0.5:
            assert ours == pytest.approx(exact, abs=0.02 if n < 5 else 1e-3)


def test_the_powers_are_the_rates_at_which_the_classifier_decides() -> None:
    random = np.random.default_rng(1)
    seen = {Verdict.EQUIVALENT: 0, Verdict.BETTER: 0}
    printed = dataclasses.replace(PRINTED, spread=0.5)  # margin 1
    for _ in range(600):
        seen[Verdict.EQUIVALENT] += (
            verdict(random.normal(0.2, 0.7, 6), printed) is Verdict.EQUIVALENT
        )
        seen[Verdict.BETTER] += verdict(random.normal(2.0, 0.7, 4), printed) is Verdict.BETTER
    expected = equivalence_power(0.2, 0.7, 1.0, 6), difference_power(2.0, 0.7, 1.0, 4)
    for count, power in zip(seen.values(), expected, strict=True):
        assert 0.3 < power < 0.95
        assert abs(count / 600 - power) < 4 * math.sqrt(power * (1 - power) / 600)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_test_images_that_all_seeds_share_are_drawn_once(seeds: int) -> None:
    """Image noise 10, seed noise 0.3: equal truths are called different, and truths that are a margin apart
    equivalent, in at most one of twenty repetitions, however many seeds there are.
    """
    random = np.random.default_rng(3)
    apart = called = 0
    for _ in range(600):
        ours = random.normal(random.normal(0, 10), 0.3, seeds)
        theirs = random.normal(random.normal(0, 10), 0.3)
        published = dataclasses.replace(PRINTED, value=theirs, printed=f"{theirs:.2f}")
        apart += judge(
            rows(ours, stderr=10.0, n=1000), published, tier="paper", seeds=seeds
        ).verdict in (Verdict.BETTER, Verdict.WORSE)
        at_margin = dataclasses.replace(published, value=20.0, printed="20.00", n=1000)
        called += (
            judge(rows(ours, stderr=10.0, n=1000), at_margin, tier="paper", seeds=seeds).verdict
            is Verdict.EQUIVALENT
        )
    assert max(apart, called) < 600 * 0.05 + 3 * math.sqrt(600 * 0.05 * 0.95)


def test_no_seed_makes_the_noise_of_shared_test_images_smaller() -> None:
    assert outlook(0.0, 0.1, 1.0, 3).more is not None
    assert outlook(0.0, 0.1, 1.0, 3, shared=3.0).more is None
    assert outlook(12.0, 0.1, 1.0, 3, shared=3.0).more is not None
    assert outlook(3.0, 0.1, 1.0, 3, shared=3.0).more is None


def test_a_published_single_run_is_allowed_for_in_the_power() -> None:
    random = np.random.default_rng(2)
    count = sum(verdict(random.normal(1.5, 0.5, 6)) is Verdict.BETTER for _ in range(600))
    power = difference_power(1.5, 0.5, 0.05, 6, single_run=0.5)
    assert 0.3 < power < 0.95
    assert abs(count / 600 - power) < 4 * math.sqrt(power * (1 - power) / 600)


@pytest.mark.parametrize("difference", [0.0, 0.5, 0.9, 1.5, 3.0, -2.0])
def test_the_seeds_that_are_named_decide_and_one_less_would_not(difference: float) -> None:
    ahead = outlook(difference, 0.8, 1.0, 2)
    assert ahead.more is not None
    n = 2 + ahead.more
    inside = abs(difference) < 1
    power = equivalence_power if inside else difference_power
    assert power(difference, 0.8, 1.0, n) >= 0.8
    assert n == 3 or power(difference, 0.8, 1.0, n - 1) < 0.8
    assert ("equivalent" if inside else "different") in str(ahead)
    assert str(ahead).startswith(f"{ahead.more} more seed")


def test_power_grows_with_the_seeds() -> None:
    for difference in (0.0, 0.8, 1.3):
        power = equivalence_power if difference < 1 else difference_power
        grown = [power(difference, 0.5, 1.0, n) for n in (2, 3, 4, 6, 10, 30, 100, 999, MOST_SEEDS)]
        assert grown == sorted(grown)
        assert all(0 <= p <= 1 for p in grown)


def test_what_no_number_of_seeds_decides_is_said() -> None:
    assert outlook(0.999, 1.0, 1.0, 3).more is None
    single = outlook(1.5, 1.0, 1.0, 3, single_run=1.0)
    assert single.more is None
    assert "beyond the margin" in str(single)
    assert "cannot be decided by seeds" in str(single)
    assert outlook(0.0, 1.0, 5.0, 3, most=False).more is None
    assert outlook(9.0, 1.0, 5.0, 3, most=False).more is not None
    assert outlook(-9.0, 1.0, 5.0, 3, most=False).more is None
    assert outlook(0.0, 0.0, 1.0, 3).more is None


def test_only_an_open_cell_with_a_known_spread_has_an_outlook() -> None:
    printed = dataclasses.replace(PRINTED, spread=0.5)
    open_cell = judge(rows([0.3, -0.9, 0.8]), printed, tier="paper", seeds=3)
    assert open_cell.verdict is Verdict.INCONCLUSIVE
    assert open_cell.outlook is not None
    assert open_cell.outlook.more is not None
    for values in ([0.0], [0.1, 0.0, -0.1], [9.0, 9.1, 9.2]):
        assert judge(rows(values), printed, tier="paper", seeds=len(values)).outlook is None
    assert judge(rows([0.3, -0.9]), printed, tier="mini", seeds=2).outlook is None


# How often a verdict is wrong. Truths are drawn, so each rate is judged with its own sampling error.

TRIALS = 1_000
NOT_ABOVE_5 = 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("spread", [0.05, 0.3])
def test_a_difference_as_large_as_the_margin_is_called_equivalent_once_in_twenty(
    n: int, spread: float
) -> None:
    random = np.random.default_rng([n, int(100 * spread)])
    printed = dataclasses.replace(PRINTED, spread=0.5)  # margin 1
    draws = random.normal(1.0, spread, (TRIALS, n))
    wrong = sum(verdict(values, printed) is Verdict.EQUIVALENT for values in draws)
    assert wrong / TRIALS < NOT_ABOVE_5


@pytest.mark.parametrize("n", [2, 3, 10])
def test_equal_truths_are_called_better_or_worse_once_in_twenty(n: int) -> None:
    random = np.random.default_rng(n)
    sides = (Verdict.BETTER, Verdict.WORSE)
    wrong = 0
    for theirs, *ours in random.normal(0.0, 3.0, (TRIALS, n + 1)):
        single = dataclasses.replace(PRINTED, value=theirs, printed=f"{theirs:.2f}")
        wrong += verdict(ours, single) in sides
    assert wrong / TRIALS < NOT_ABOVE_5


@pytest.mark.parametrize("n", [2, 5])
def test_a_published_mean_with_a_spread_is_not_contradicted_more_often_either(n: int) -> None:
    random = np.random.default_rng(n)
    sides = (Verdict.BETTER, Verdict.WORSE)
    wrong = 0
    for _ in range(TRIALS):
        theirs = random.normal(0.0, 1.0, 5)
        mean, spread = float(theirs.mean()), float(theirs.std(ddof=1))
        printed = dataclasses.replace(PRINTED, value=mean, printed=f"{mean:.3f}", spread=spread)
        wrong += verdict(random.normal(0.0, 1.0, n), printed) in sides
    assert wrong / TRIALS < NOT_ABOVE_5


# Dialects: every refusal.

SAME = {"dialect": "particles=100 sigma=0.2", "data_digest": "aa"}


@pytest.mark.parametrize(
    ("changes", "published", "tier", "why"),
    [
        ({"tier": "demo"}, {}, "demo", "tier demo"),
        ({"tier": "mini"}, {}, "mini", "tier mini"),
        ({"stand_in": "ArrowRoom-R"}, {}, "paper", "ArrowRoom-R"),
        ({"dialect": "particles=10 sigma=0.2"}, {}, "paper", "particles=100"),
        ({"dialect": "particles=1000 sigma=0.2"}, {}, "paper", "particles=100"),
        ({"dialect": ""}, {}, "paper", "particles=100"),
        ({}, {"dialect": "classifier=authors"}, "paper", "classifier=authors"),
        ({1: {"dialect": "particles=100 sigma=0.2 v=2"}}, {}, "paper", "different dialects"),
        ({1: {"data_digest": "bb"}}, {}, "paper", "different data"),
        ({1: {"stand_in": "ArrowRoom-R"}}, {}, "paper", "ArrowRoom-R"),
        ({1: {"tier": "mini"}}, {}, "paper", "of tier mini"),
        ({"tier": "mini"}, {}, "paper", "of tier mini"),
    ],
)  # fmt: skip
def test_unlike_quantities_are_not_compared(
    changes: dict[Any, Any], published: dict[str, Any], tier: str, why: str
) -> None:
    printed = dataclasses.replace(
        PRINTED, **{"dialect": "particles=100", "spread": 1.0, **published}
    )
    like = rows([0.01, 0.0, -0.01], **SAME)
    agreed = dataclasses.replace(printed, dialect="particles=100")
    assert judge(like, agreed, tier="paper", seeds=3).verdict is Verdict.EQUIVALENT
    unlike = [
        dataclasses.replace(row, **(changes.get(row.seed, {}) if 1 in changes else changes))
        for row in like
    ]
    judged = judge(unlike, printed, tier=tier, seeds=3)
    assert judged.verdict is Verdict.INCOMPARABLE
    assert why in judged.reason


# Order.


def column(ours: list[Any], theirs: list[str]) -> list[tuple[list[ResultRow], PublishedValue]]:
    return [
        (
            rows([str(a).lstrip(">")], censored=">" if str(a).startswith(">") else ""),
            dataclasses.replace(PRINTED, value=float(b.lstrip("<>")), printed=b),
        )
        for a, b in zip(ours, theirs, strict=True)
    ]


def by_enumeration(pairs: list[tuple[list[ResultRow], PublishedValue]]) -> tuple[float, float]:
    """The definition: shuffle our rows over the models in every way."""
    found = []
    for order in itertools.permutations(pairs):
        mixed = [(ours, theirs) for (ours, _), (_, theirs) in zip(order, pairs, strict=True)]
        agreement = order_agreement(mixed)
        assert agreement is not None
        found.append(agreement.agree - agreement.disagree)
    seen = order_agreement(pairs)
    assert seen is not None
    least = max(found)
    return (
        sum(value >= seen.agree - seen.disagree for value in found) / len(found),
        found.count(least) / len(found),
    )


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([1, 2, 3], ["1", "2", "3"]),
        ([3, 1, 2, 4], ["1", "2", "3", "4"]),
        ([1, 1, 2, 3], ["5", "1", "1", "2"]),
        ([0, 0, 0, 1], ["0", "0", "3", "2"]),
        ([1, 2, ">2", 3], ["5", "1", "1", "2"]),
        ([1, 2, 3, 4], ["5", ">4", "1", ">2"]),
        ([1, ">2", 3, 1], ["5", ">4", "1", ">2"]),
    ],
)
def test_p_is_that_of_all_permutations(ours: list[Any], theirs: list[str]) -> None:
    pairs = column(ours, theirs)
    agreement = order_agreement(pairs)
    assert agreement is not None
    assert (agreement.p, agreement.least_p) == pytest.approx(by_enumeration(pairs))


def test_p_is_scipys_where_scipy_knows_it() -> None:
    random = np.random.default_rng(0)
    for n in (3, 5, 8, 11):
        ours, theirs = random.permutation(n).tolist(), random.permutation(n).tolist()
        agreement = order_agreement(column(ours, [str(value) for value in theirs]))
        expected = stats.kendalltau(ours, theirs, method="exact", alternative="greater")
        assert agreement is not None
        assert agreement.p == pytest.approx(expected.pvalue)
        assert agreement.least_p == pytest.approx(1 / math.factorial(n))


def tie_patterns(n: int) -> list[list[int]]:
    """The ranks of n models, in order, with ties of every size at every place: 2^(n - 1) ways."""
    steps = itertools.product((0, 1), repeat=n - 1)
    return [[0, *itertools.accumulate(step)] for step in steps]


def above(ranks: Any) -> list[list[int]]:
    return [[(a > b) - (a < b) for b in ranks] for a in ranks]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_p_is_that_of_all_permutations_for_every_pattern_of_ties(n: int) -> None:
    """Ties in neither order, in one, in both: the agreements of one permutation after another, all of them kept."""
    both = list(itertools.combinations(range(n), 2))
    first, second = (np.array(side) for side in zip(*both, strict=True))
    orders = np.array(list(itertools.permutations(range(n))))  # (n!, n)
    for ours in tie_patterns(n):
        ranks = np.array(ours)
        signs = np.sign(ranks[first] - ranks[second])
        for theirs in tie_patterns(n):
            shuffled = np.array(theirs)[orders]  # (n!, n)
            found = np.sign(shuffled[:, first] - shuffled[:, second]) @ signs  # (n!,)
            least = np.mean(found == found.max())
            for which in {0, len(orders) // 2, len(orders) - 1}:
                expected = (np.mean(found >= found[which]), least)
                p = _permutation_p(above(ours), above(shuffled[which].tolist()))
                assert p == pytest.approx(expected), (ours, shuffled[which])


@pytest.mark.parametrize("theirs", [list(range(20)), [0, 0, 0, *range(1, 16), 16, 16]])
def test_p_of_twenty_models_is_there_at_once(theirs: list[int]) -> None:
    """Each way to agree best is one of so many that put tied models in another order."""
    began = time.process_time()
    agreement = order_agreement(column(list(range(20)), [str(value) for value in theirs]))
    assert time.process_time() - began < 1
    assert agreement is not None
    ties = math.prod(math.factorial(theirs.count(value)) for value in set(theirs))
    assert agreement.p == agreement.least_p == pytest.approx(ties / math.factorial(20))


def test_p_without_ties_is_scipys_for_thirty_models() -> None:
    random = np.random.default_rng(1)
    theirs = [value + 10 * random.standard_normal() for value in range(30)]
    agreement = order_agreement(column(list(range(30)), [str(value) for value in theirs]))
    expected = stats.kendalltau(range(30), theirs, method="exact", alternative="greater")
    assert agreement is not None
    assert agreement.p == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ([i // 2 for i in range(20)], [str(i // 2) for i in range(20)]),
        (list(range(20)), [*map(str, range(18)), ">9", ">19"]),
    ],
)
def test_too_many_ties_and_bounds_to_count_are_said_to_be_so(
    ours: list[int], theirs: list[str]
) -> None:
    """No page waits for them, and tau is there all the same."""
    began = time.process_time()
    agreement = order_agreement(column(ours, theirs))
    assert time.process_time() - began < 1
    assert agreement is not None
    assert agreement.p is agreement.least_p is None
    assert str(agreement).startswith("τ = +")
    assert str(agreement).endswith("n=20, p unknown (too many ties to count)")


def test_three_models_can_never_convince_and_the_words_say_so() -> None:
    agreement = order_agreement(column([1, 2, 3], ["1", "2", "3"]))
    assert agreement is not None
    assert (
        str(agreement) == "τ = +1.00, 3 of 3 pairs, n=3, p = 0.17 (never below 0.17 with 3 models)"
    )
    five = order_agreement(column([1, 2, 3, 4, 5], ["5", "4", "3", "2", "1"]))
    assert str(five) == "τ = −1.00, 0 of 10 pairs, n=5, p = 1"
    assert "all tied" in str(order_agreement(column([1, 1], ["1", "2"])))


# Summaries.


def test_a_summary_counts_every_published_cell_once() -> None:
    kinds = [Verdict.EQUIVALENT] * 2 + [Verdict.INCOMPARABLE] * 3 + [Verdict.MISSING]
    assert summary(kinds, "mini") == (
        "2 of 6 published cells equivalent, 3 incomparable (tier mini), 1 missing"
    )
    assert summary(kinds, "paper").endswith("3 incomparable, 1 missing")


def test_tables_say_what_would_decide_and_the_index_sums_them_up(tmp_path: Path) -> None:
    name, protocol, _ = load("gnm_supp_table3")
    _, table1, _ = load("gnm_table1")
    values = [9990.0, 10000.0, 10012.0]
    ours = [
        dataclasses.replace(
            ROW, value=v, seed=s, protocol="gnm_table1", model="GNM", dataset="MNIST-4", metric="LL"
        )
        for s, v in enumerate(values)
    ]
    printed = dataclasses.replace(
        PRINTED, model="GNM", dataset="MNIST-4", metric="LL", value=1e4, printed="10000", spread=6.0
    )
    laid = build("gnm_table1", dataclasses.replace(table1, seeds=3), ours, [printed], "paper")
    (line,) = laid.outlooks
    assert line.startswith("GNM, MNIST-4, LL: ")
    assert "more seed" in line
    assert line in " ".join(to_terminal(laid).split())
    other = build(name, protocol, [], [dataclasses.replace(printed, metric="Parameters")], "paper")
    assert overall([laid, other]) == (
        "0 of 2 published cells equivalent, 1 inconclusive, 1 missing, in 2 protocols"
    )
    assert overall([]) == ""


def test_the_quantile_is_students() -> None:
    assert t_quantile(4, 0.975) == pytest.approx(stats.t.ppf(0.975, 4))
