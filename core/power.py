"""How many more seeds would decide a cell that is inconclusive: the power of the tests of core/verdict.py.

No simulation: were the difference and the spread exactly those seen so far, the statistics are noncentral t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "ALPHA",
    "MOST_SEEDS",
    "POWER",
    "Outlook",
    "difference_power",
    "equivalence_power",
    "outlook",
    "t_quantile",
]

ALPHA = 0.05
POWER = 0.8  # how probable a decision must be to be called one that more seeds would bring
MOST_SEEDS = 1_000  # nobody trains more


@dataclass(frozen=True)
class Outlook:
    """What would decide a cell that is inconclusive. more: further seeds; None where no number of them would.

    why: one clause, to stand after "4 more seeds would decide this cell: " or "cannot be decided by seeds: ".
    """

    more: int | None
    why: str

    def __str__(self) -> str:
        if self.more is None:
            return f"cannot be decided by seeds: {self.why}"
        plural = "s" if self.more != 1 else ""
        return f"{self.more} more seed{plural} would decide this cell: {self.why}"


def outlook(
    difference: float,
    spread: float,
    margin: float,
    seeds: int,
    *,
    shared: float = 0.0,
    single_run: float = 0.0,
    least: bool = True,
    most: bool = True,
) -> Outlook:
    """How many more seeds would decide, if difference and spread (standard deviation of one seed, > 0) stay.

    shared: standard error of what all seeds share, which stays however many there are; it is counted to the spread
    of so many seeds. single_run: standard deviation that the published number is taken to have. least, most:
    whether the difference is bounded from below and from above at all; a censored value bounds it from one side
    only.
    """
    if spread <= 0:
        return Outlook(None, "the seeds show no spread")

    def spread_of(n: int) -> float:
        return math.hypot(spread, shared * math.sqrt(n))

    if abs(difference) < margin:
        if not (least and most):
            return Outlook(None, "a censored value is a bound and never equal to anything")
        chance: Callable[[int], float] = lambda n: equivalence_power(  # noqa: E731
            difference, spread_of(n), margin, n
        )
        wanted, limit = "equivalent", "the difference is too close to the margin"
        if shared:
            limit += ", or the examples that all seeds share are too few"
    else:
        if not (least if difference > 0 else most):
            return Outlook(None, "a censored value is a bound, and the difference lies beyond it")
        chance = lambda n: difference_power(  # noqa: E731
            difference, spread_of(n), margin, n, single_run
        )
        wanted = "different"
        limit = "the difference is beyond the margin, but too close to it"
        if single_run:
            limit = "the difference is beyond the margin, but one published run may vary as much"
    if chance(MOST_SEEDS) < POWER:  # power grows with the seeds
        return Outlook(None, limit)
    low, high = seeds, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    why = f"{wanted}, with {100 * POWER:g} % probability, if difference and spread stay"
    return Outlook(high - seeds, why)


def equivalence_power(difference: float, spread: float, margin: float, n: int) -> float:
    """Probability that n >= 2 seeds are judged equivalent, given the true difference and standard deviation.

    Each of the two one-sided tests rejects with the tail of a noncentral t; both do with at least the sum of the two
    less one (Phillips, J. Pharmacokin. Biopharm. 1990), exact but for samples so spread that neither rejects.
    """
    from scipy.special import nctdtr

    degrees, error, quantile = n - 1, spread / math.sqrt(n), t_quantile(n - 1)
    below_upper = float(nctdtr(degrees, (difference - margin) / error, -quantile))
    above_lower = 1 - float(nctdtr(degrees, (difference + margin) / error, quantile))
    # Far from zero the noncentral t is not computed; there the test is decided, and its normal limit says how.
    pair = []
    for value, shift in ((below_upper, margin - difference), (above_lower, margin + difference)):
        normal = 0.5 * math.erfc(-(shift / error - quantile) / math.sqrt(2))
        pair.append(value if math.isfinite(value) else normal)
    return max(0.0, sum(pair) - 1)


def difference_power(
    difference: float, spread: float, margin: float, n: int, single_run: float = 0.0
) -> float:
    """Probability that n >= 2 seeds are judged better or worse, on the side of the true difference (beyond the margin).

    single_run: standard deviation of the published number, 0 where its spread is in the margin already.
    """
    from scipy.special import nctdtr

    error = spread / math.sqrt(n)
    # The radius t sqrt(s^2 / n + s1^2), s1 in proportion to s, is a multiple of t s / sqrt(n).
    bound = t_quantile(n - 1, 1 - ALPHA / 2) * math.hypot(1, single_run / error)
    beyond = (abs(difference) - margin) / error
    power = 1 - float(nctdtr(n - 1, beyond, bound))
    if not math.isfinite(power):
        power = 0.5 * math.erfc(-(beyond - bound) / math.sqrt(2))
    return min(1.0, max(0.0, power))


def t_quantile(degrees: float, level: float = 1 - ALPHA) -> float:
    """Student's t, one-sided."""
    # What scipy.stats.t.ppf calls; importing scipy.stats takes a second.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, level))
