"""Claims: what a paper says in words, tested on the rows that were measured. No torch here.

A claim of a difference is judged by the 95 % interval of Welch's t over seeds; a bootstrap over seeds stands beside it.
It holds where the whole interval says so, does not hold where the whole interval says the contrary, and is undecided
in between: with few seeds much is. Nothing is averaged over holes: a claim whose cells are not all there says which.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .power import t_quantile
from .results import ResultRow
from .verdict import mixed

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
            return f"{_number(self.difference)} (no interval from one seed; {seeds})"
        low, high = (" to ".join(map(_number, ends)) for ends in (self.welch, self.bootstrap))
        return f"{_number(self.difference)} (95 % interval {low}; bootstrap {high}; {seeds})"


def lower(smaller: Key, larger: Key, factor: float = 1.0) -> Test:
    """That the mean of one cell is below `factor` times that of another."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        pair = [values_of(rows, key, seeds) for key in (smaller, larger)]
        if hole := _hole(pair):
            return hole
        a, b = (part for part in pair if not isinstance(part, str))
        found = difference(a, [factor * value for value in b])
        words = f"{_less(smaller, larger, factor)} = {found}"
        return Finding(_side(found.welch, 0.0), words)

    return test


def within(one: Key, other: Key, margin: float) -> Test:
    """That the means of two cells differ by at most `margin`."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        pair = [values_of(rows, key, seeds) for key in (one, other)]
        if hole := _hole(pair):
            return hole
        a, b = (part for part in pair if not isinstance(part, str))
        found = difference(a, b)
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

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        values = values_of(rows, key, seeds)
        if isinstance(values, str):
            return Finding("not measured", values)
        mean, n = statistics.fmean(values), len(values)
        if n < 2:
            return Finding("undecided", f"{_number(mean)}, at most {level:g} asked (one seed)")
        radius = t_quantile(n - 1, (1 + LEVEL) / 2) * statistics.stdev(values) / math.sqrt(n)
        interval = mean - radius, mean + radius
        words = f"mean {_number(mean)} (95 % interval {_number(interval[0])} to {_number(interval[1])}; n = {n})"
        return Finding(_side(interval, level), f"{words}, at most {level:g} asked")

    return test


def at_least(key: Key, level: float) -> Test:
    """That the mean of a cell is at least `level`."""
    below = at_most(key, level)
    contrary: dict[Outcome, Outcome] = {"holds": "does not hold", "does not hold": "holds"}

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        found = below(rows, seeds)
        words = found.words.replace("at most", "at least")
        return Finding(contrary.get(found.outcome, found.outcome), words)

    return test


def best_reaches(key: Key, level: float) -> Test:
    """That the best seed of a cell, where higher is better, reaches `level`; says how many seeds do."""

    def test(rows: Sequence[ResultRow], seeds: int) -> Finding:
        values = values_of(rows, key, seeds)
        if isinstance(values, str):
            return Finding("not measured", values)
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


def values_of(rows: Sequence[ResultRow], key: Key, seeds: int) -> list[float] | str:
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
    return values


def difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a minus mean of b, with Welch's t interval and a bootstrap of each side (percentiles, seeded)."""
    middle, n = statistics.fmean(a) - statistics.fmean(b), (len(a), len(b))
    if min(n) < 2:
        return Interval(middle, None, None, n)
    import numpy as np

    terms = [statistics.variance(side) / len(side) for side in (a, b)]
    error = math.sqrt(sum(terms))
    if error == 0:
        return Interval(middle, (middle, middle), (middle, middle), n)
    freedom = sum(terms) ** 2 / sum(
        term**2 / (len(side) - 1) for term, side in zip(terms, (a, b), strict=True)
    )
    radius = t_quantile(freedom, (1 + LEVEL) / 2) * error
    random = np.random.default_rng(0)
    means = [
        np.asarray(side)[random.integers(len(side), size=(RESAMPLES, len(side)))].mean(1)
        for side in (a, b)
    ]
    low, high = np.quantile(means[0] - means[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(middle, (middle - radius, middle + radius), (float(low), float(high)), n)


def _side(interval: tuple[float, float] | None, level: float) -> Outcome:
    """Whether an interval lies below a level, above it, or on both sides."""
    if interval is None:
        return "undecided"
    if interval[1] <= level and interval[0] < level:
        return "holds"
    return "does not hold" if interval[0] >= level else "undecided"


def _hole(parts: Sequence[list[float] | str]) -> Finding | None:
    missing = [part for part in parts if isinstance(part, str)]
    return Finding("not measured", "; ".join(missing)) if missing else None


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
    digits = f"{value:.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return digits.replace("-", "−")
