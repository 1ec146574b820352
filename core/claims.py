"""Claims: what a paper says in words, tested on the rows that were measured. No torch here.

A claim of a difference is judged by the 95 % interval of Welch's t over seeds; a bootstrap over seeds stands beside it.
The noise of a seed is never taken below that of its evaluation, and where all seeds agree to the last bit there is no
interval, unless the quantity is exact. A censored value bounds its side of the interval from below only.

A claim holds where the whole interval says so, does not hold where the whole interval says the contrary, and is
undecided in between: with few seeds much is. Nothing is averaged over holes, and numbers of contradicting dialects are
not compared: such a claim is not measured, and says why.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from .power import t_quantile
from .results import ResultRow
from .verdict import contradict, is_exact, is_share, mixed, standard_error

__all__ = [
    "Claim",
    "Finding",
    "Interval",
    "Key",
    "all_of",
    "at_least",
    "at_most",
    "best_reaches",
    "difference",
    "each",
    "lower",
    "some_seed_fails",
    "values_of",
    "within",
]

Outcome = Literal["holds", "does not hold", "undecided", "not measured"]
Key: TypeAlias = tuple[str, str, str]
"""Which cells: the labels of a model, a dataset and a metric."""

LEVEL = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Finding:
    """What became of a claim. words: the numbers it rests on, with n."""

    outcome: Outcome
    words: str


Test: TypeAlias = Callable[[Sequence[ResultRow], int], Finding]
"""Called with the rows of a protocol at one tier and the number of seeds that a cell has there."""


@dataclass(frozen=True)
class Claim:
    """A sentence that our numbers bear out or do not. source: where it is said. test: how it is tested."""

    text: str
    source: str
    test: Test


@dataclass(frozen=True)
class Values:
    """A cell's values by seed. error: standard error of their mean, 0 where it is exact, None where nobody knows it.

    bound: whether any is censored, so that the mean is at least so much. dialect: of all of them.
    """

    values: tuple[float, ...]
    error: float | None
    bound: bool = False
    dialect: str = ""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.fmean(self.values)

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.values)

    def times(self, factor: float) -> Values:
        """All of them times a positive number."""
        error = None if self.error is None else factor * self.error
        return replace(self, values=tuple(factor * value for value in self.values), error=error)


@dataclass(frozen=True)
class Interval:
    """A difference of means over seeds, and how far it can be trusted; None where one seed cannot say."""

    difference: float
    welch: tuple[float, float] | None
    bootstrap: tuple[float, float] | None
    n: tuple[int, int]

    def __str__(self) -> str:
        """`−31.1 (95 % interval −40.2 to −22; bootstrap −38 to −24; n = 3 and 3)`."""
        seeds = f"n = {self.n[0]} and {self.n[1]}"
        if self.welch is None or self.bootstrap is None:
            why = "from one seed" if min(self.n) < 2 else "where seeds agree to the last bit"
            return f"{_number(self.difference)} (no interval {why}; {seeds})"
        low, high = (" to ".join(map(_number, ends)) for ends in (self.welch, self.bootstrap))
        return f"{_number(self.difference)} (95 % interval {low}; bootstrap {high}; {seeds})"


def lower(smaller: Key, larger: Key, factor: float = 1.0) -> Test:
    """That the mean of one cell is below `factor` times that of another."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        pair = _pair(rows, smaller, larger, seeds)
        if isinstance(pair, Finding):
            return pair
        found = difference(pair[0], pair[1].times(factor))
        outcome: Outcome = "undecided"
        if found.welch is not None and found.welch[1] < 0:
            outcome = "holds"
        elif found.welch is not None and found.welch[0] >= 0:
            outcome = "does not hold"
        return Finding(outcome, f"{_less(smaller, larger, factor)} = {found}")

    return test


def within(one: Key, other: Key, margin: float) -> Test:
    """That the means of two cells differ by at most `margin`."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        pair = _pair(rows, one, other, seeds)
        if isinstance(pair, Finding):
            return pair
        found = difference(*pair)
        outcome: Outcome = "undecided"
        if found.welch is not None:
            low, high = found.welch
            if -margin <= low and high <= margin:
                outcome = "holds"
            elif low > margin or high < -margin:
                outcome = "does not hold"
        return Finding(outcome, f"{_less(one, other)} = {found}, within ±{margin:g} asked")

    return test


def at_most(key: Key, level: float) -> Test:
    """That the mean of a cell is at most `level`."""
    return _compared(key, level, "at most", lambda low, high: (high <= level, low > level))


def at_least(key: Key, level: float) -> Test:
    """That the mean of a cell is at least `level`."""
    return _compared(key, level, "at least", lambda low, high: (low >= level, high < level))


def _compared(
    key: Key, level: float, how: str, holds_fails: Callable[[float, float], tuple[bool, bool]]
) -> Test:
    """A mean against a level: whether its interval, (low, high), says so, and whether it says the contrary."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        found = values_of(rows, key, seeds)
        if isinstance(found, str):
            return Finding("not measured", found)
        asked = f"{how} {level:g} asked"
        if found.error is None:
            why = "one seed" if found.n < 2 else "seeds that agree to the last bit"
            return Finding("undecided", f"{_number(found.mean)}, {asked} ({why})")
        radius = t_quantile(found.n - 1, (1 + LEVEL) / 2) * found.error if found.error else 0.0
        low, high = found.mean - radius, math.inf if found.bound else found.mean + radius
        words = f"mean {_number(found.mean)} (95 % interval {_number(low)} to {_number(high)}; n = {found.n})"
        holds, fails = holds_fails(low, high)
        outcome: Outcome = "holds" if holds else "does not hold" if fails else "undecided"
        return Finding(outcome, f"{words}, {asked}")

    return test


def best_reaches(key: Key, level: float) -> Test:
    """That the best seed of a cell, where higher is better, reaches `level`; says how many seeds do."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        found = values_of(rows, key, seeds)
        if isinstance(found, str):
            return Finding("not measured", found)
        values = found.values
        reached, n = sum(value >= level for value in values), len(values)
        words = f"best {_number(max(values))}, median {_number(statistics.median(values))}; "
        words += f"{reached} of {n} seeds reach {level:g} (success rate {reached / n:.0%})"
        return Finding("holds" if reached else "does not hold", words)

    return test


def some_seed_fails(key: Key, factor: float) -> Test:
    """That training fails in some runs: it diverges, or ends above `factor` times the value of the best seed."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        of_cell = [row for row in rows if row.key[:3] == key]
        diverged = sum(row.status == "diverged" for row in of_cell)
        values = [row.value for row in of_cell if row.status == "ok" and row.value is not None]
        n = len(values) + diverged
        if n < seeds or not n:
            return Finding("not measured", f"{_named(key)}: {n} of {seeds} seeds")
        far = sum(value > factor * min(values) for value in values)
        words = f"{diverged} of {n} seeds diverged, {far} ended above {factor:g} times the best"
        if n < 2:
            return Finding("undecided", f"{words} (one seed)")
        return Finding("holds" if diverged + far else "does not hold", words)

    return test


def all_of(*tests: Test) -> Test:
    """That several things hold: it does not where one does not, and is undecided or not measured where one is."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        found = [one(rows, seeds) for one in tests]
        return Finding(_worst(found), "; ".join(dict.fromkeys(f.words for f in found)))

    return test


def each(tests: Mapping[str, Test]) -> Test:
    """As `all_of`; the words say which of the named things is which, and of those not measured only how many."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        found = {name: one(rows, seeds) for name, one in tests.items()}
        words = [f"{n}: {f.words}" for n, f in found.items() if f.outcome != "not measured"]
        missing = [name for name, finding in found.items() if finding.outcome == "not measured"]
        if missing:
            words.append(
                f"{found[missing[0]].words} (so {len(missing)} of {len(found)} not measured)"
            )
        return Finding(_worst(found.values()), "; ".join(words))

    return test


def _worst(found: Iterable[Finding]) -> Outcome:
    order: tuple[Outcome, ...] = ("not measured", "does not hold", "undecided", "holds")
    outcomes = {finding.outcome for finding in found}
    return next(outcome for outcome in order if outcome in outcomes)


def values_of(rows: Sequence[ResultRow], key: Key, seeds: int) -> Values | str:
    """A cell's values by seed, or, if one of `seeds` is not there, what stands in its place."""
    of_cell = sorted((row for row in rows if row.key[:3] == key), key=lambda row: row.seed)
    for row in of_cell:
        if row.status != "ok":
            note = f" ({row.note})" if row.note else ""
            return f"{_named(key)}: {row.status} in seed {row.seed}{note}"
    values = [row.value for row in of_cell if row.value is not None and math.isfinite(row.value)]
    if len(values) < max(seeds, 1):
        return f"{_named(key)}: {len(values)} of {seeds} seeds measured"
    if why := mixed(of_cell):
        return f"{_named(key)}: {why}"
    error: float | None = standard_error(of_cell, fraction=is_share(of_cell))
    if is_exact(of_cell):
        error = 0.0
    elif len(values) < 2 or (error == 0 and not all(row.censored for row in of_cell)):
        error = None
    bound = any(row.censored for row in of_cell)
    return Values(tuple(values), error, bound, of_cell[0].dialect)


def difference(a: Values, b: Values) -> Interval:
    """Mean of a minus mean of b, with Welch's t interval and a bootstrap of each side (percentiles, seeded)."""
    middle, n = a.mean - b.mean, (a.n, b.n)
    if a.error is None or b.error is None:
        return Interval(middle, None, None, n)
    import numpy as np

    terms = [(a.error**2, a.n), (b.error**2, b.n)]
    total = sum(term for term, _ in terms)
    radius = 0.0
    if total > 0:  # not both are exact
        freedom = total**2 / sum(term**2 / (seeds - 1) for term, seeds in terms if term > 0)
        radius = t_quantile(freedom, (1 + LEVEL) / 2) * math.sqrt(total)
    random = np.random.default_rng(0)
    means = [
        np.asarray(side.values)[random.integers(side.n, size=(RESAMPLES, side.n))].mean(1)
        for side in (a, b)
    ]
    low, high = np.quantile(means[0] - means[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    welch = (
        -math.inf if b.bound else middle - radius,
        math.inf if a.bound else middle + radius,
    )
    return Interval(middle, welch, (float(low), float(high)), n)


def _pair(
    rows: Sequence[ResultRow], one: Key, other: Key, seeds: int
) -> tuple[Values, Values] | Finding:
    """Two cells that can be compared, or why they cannot."""
    pair = [values_of(rows, key, seeds) for key in (one, other)]
    if missing := [part for part in pair if isinstance(part, str)]:
        return Finding("not measured", "; ".join(missing))
    a, b = (part for part in pair if not isinstance(part, str))
    same = one[2] == other[2]  # two metrics may well be said in two ways
    if same and (words := contradict(a.dialect, b.dialect)):
        return Finding("not measured", f"{_named(one)} and {_named(other)} differ in {words}")
    return a, b


def _named(key: Key) -> str:
    return f"{key[2]} of {key[0]} on {key[1]}"


def _less(one: Key, other: Key, factor: float = 1.0) -> str:
    """`AIR − DooD`: in the words in which the two cells differ, what was taken from what."""
    names = [
        " ".join(p for p, q in zip(a, b, strict=True) if p != q) or _named(a)
        for a, b in ((one, other), (other, one))
    ]
    return f"{names[0]} − {'' if factor == 1 else f'{factor:g} × '}{names[1]}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    digits = f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return digits.replace("-", "−")
