"""Do ours and theirs order the models of a column alike? Kendall's tau with its exact permutation test.

Values need not be comparable for that: a smaller tier may well order the models as the paper does.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .power import ALPHA
from .results import PublishedValue, ResultRow
from .verdict import contradict, hole, mixed

__all__ = ["OrderAgreement", "order_agreement"]


@dataclass(frozen=True)
class OrderAgreement:
    """How far ours and theirs order the models of one column alike.

    tau: Kendall's tau-b, None if either order is a single tie. n: models compared.
    agree, disagree: pairs of models; the rest are ties.
    p: how often orders that have nothing to do with each other agree at least as well: over all n! ways to assign our
    numbers to the models (one-sided: the claim is that we order *as* the paper does). least_p: the p of the best order
    that these ties allow; above 0.05 no order of so few models could convince. Both are None with tau, and where ties
    or bounds leave too many ways to count.
    """

    n: int
    agree: int
    disagree: int
    tau: float | None
    p: float | None = None
    least_p: float | None = None

    def __str__(self) -> str:
        pairs = self.n * (self.n - 1) // 2
        counted = f"{self.agree} of {pairs} pairs, n={self.n}"
        if self.tau is None:
            return f"all tied, {counted}"
        text = f"τ = {self.tau:+.2f}, {counted}, "
        if self.p is None or self.least_p is None:
            text += "p unknown (too many ties to count)"
        else:
            text += f"p = {self.p:.2g}"
            if self.least_p > ALPHA:
                text += f" (never below {self.least_p:.2g} with {self.n} models)"
        return text.replace("-", "−")


def order_agreement(
    models: Iterable[tuple[Sequence[ResultRow], PublishedValue | None]], seeds: int = 1
) -> OrderAgreement | None:
    """Rank agreement over the models of one column; None for fewer than two of them.

    Models with a hole, with seeds of several things, in a dialect that contradicts that of those before, or without a
    printed value are left out, and a second reading of a number that is printed once.
    """
    pairs: list[tuple[tuple[float, str], tuple[float, str]]] = []
    places: set[tuple[str, ...]] = set()
    dialects: set[str] = set()
    for rows, published in models:
        ok = [row for row in rows if row.status == "ok" and row.value is not None]
        if published is None or published.value is None or hole(rows, seeds):
            continue
        if mixed(ok):
            continue
        place = (published.page, published.table, published.row, published.column)
        if all(place) and place in places:
            continue
        if any(contradict(ok[0].dialect, dialect) for dialect in dialects):
            continue
        dialects.add(ok[0].dialect)
        places.add(place)
        mean = statistics.fmean(row.value for row in ok if row.value is not None)
        sign = published.printed.strip()[:1]
        ours = (mean, ">" if any(row.censored for row in ok) else "")
        pairs.append((ours, (published.value, sign if sign in ("<", ">") else "")))
    if len(pairs) < 2:
        return None
    above_ours, above_theirs = (
        [[_order(a, b) for b in column] for a in column]
        for column in ([o for o, _ in pairs], [t for _, t in pairs])
    )
    both = list(itertools.combinations(range(len(pairs)), 2))
    products = [above_ours[i][j] * above_theirs[i][j] for i, j in both]
    untied = math.sqrt(
        sum(above_ours[i][j] != 0 for i, j in both) * sum(above_theirs[i][j] != 0 for i, j in both)
    )
    p, least_p = _permutation_p(above_ours, above_theirs) if untied else (None, None)
    return OrderAgreement(
        n=len(pairs),
        agree=products.count(1),
        disagree=products.count(-1),
        tau=sum(products) / untied if untied else None,
        p=p,
        least_p=least_p,
    )


def _order(a: tuple[float, str], b: tuple[float, str]) -> int:
    """1 if a > b, -1 if a < b, 0 if equal or if a bound leaves it open."""
    return _above(a, b) - _above(b, a)


def _above(a: tuple[float, str], b: tuple[float, str]) -> bool:
    """Whether a > b wherever below or above their values the bounds lie: 5 is above <5, and >5 above 5."""
    (x, x_sign), (y, y_sign) = a, b
    if x_sign == "<" or y_sign == ">":
        return False
    return x > y or (x == y and (x_sign, y_sign) != ("", ""))


Signs = Sequence[Sequence[int]]
"""(n, n): 1 where the model of the row stands above that of the column, -1 where below, 0 where that is open."""

# Models: 40,320 permutations. More are counted only where one of the orders has ties, but no bounds.
ENUMERATED = 8

# Counts that `_agreements` may keep: a second or two. 13 models with one tie in each order have 479,232.
MOST_COUNTS = 1_000_000


def _permutation_p(ours: Signs, theirs: Signs) -> tuple[float | None, float | None]:
    """P(agreement >= the one seen) over all permutations, and P(the greatest agreement there is); None: too many."""
    counts = _counts(ours, theirs)
    if counts is None:
        return None, None
    both = itertools.combinations(range(len(ours)), 2)
    seen = sum(ours[i][j] * theirs[i][j] for i, j in both)
    total = counts.total()
    at_least = sum(count for value, count in counts.items() if value >= seen)
    return at_least / total, counts[max(counts)] / total


def _counts(ours: Signs, theirs: Signs) -> Counter[int] | None:
    """How many of the n! ways to shuffle the models agree by so much, exactly; None where they are too many."""
    n = len(ours)
    our_levels, their_levels = _levels(ours), _levels(theirs)
    if our_levels is not None and their_levels is not None:
        if len(our_levels) == n:
            return _agreements_with_strict(their_levels)
        if len(their_levels) == n:
            return _agreements_with_strict(our_levels)
    ways = [(our_levels, theirs), (their_levels, ours)]
    levels, signs = min(ways, key=lambda way: math.inf if way[0] is None else _size(way[1]))
    if levels is not None and _size(signs) <= MOST_COUNTS:
        return _agreements(levels, signs)
    if n > ENUMERATED:
        return None
    both = list(itertools.combinations(range(n), 2))
    return Counter(
        sum(ours[i][j] * theirs[order[i]][order[j]] for i, j in both)
        for order in itertools.permutations(range(n))
    )


def _levels(signs: Signs) -> list[int] | None:
    """How many models share each level, the highest first; None where bounds leave more open than ties do."""
    alike = Counter(tuple(row) for row in signs)
    if any(row.count(0) != size for row, size in alike.items()):
        return None
    return [alike[row] for row in sorted(alike, key=sum, reverse=True)]


def _agreements_with_strict(levels: Sequence[int]) -> Counter[int]:
    """As `_agreements`, with an order that has no ties.

    The discordant pairs are then the inversions of a word with `levels` letters of each kind. Its generating function
    is the Gaussian multinomial: the product of 1 - q^i over i <= n, divided by that over i <= size for each level.
    """
    n = sum(levels)
    pairs = math.comb(n, 2) - sum(math.comb(size, 2) for size in levels)  # the rest are ties
    words = [1] + [0] * pairs  # how many have so many inversions
    for i in range(1, n + 1):
        for inversions in range(pairs, i - 1, -1):
            words[inversions] -= words[inversions - i]
    for i in (i for size in levels for i in range(1, size + 1)):
        for inversions in range(i, pairs + 1):
            words[inversions] += words[inversions - i]
    ways = math.prod(map(math.factorial, levels))  # to make each word of n models
    return Counter({pairs - 2 * inversions: ways * count for inversions, count in enumerate(words)})


def _size(signs: Signs) -> int:
    """How many counts `_agreements` may keep: its states times the pairs of models, which bound the agreement."""
    alike = Counter(tuple(row) for row in signs)
    return math.prod(count + 1 for count in alike.values()) * math.comb(len(signs), 2)


def _agreements(levels: Sequence[int], signs: Signs) -> Counter[int]:
    """How many of the n! ways to put models on `levels` agree with `signs` by so much, exactly.

    Level by level. Models that `signs` does not tell apart are one kind, so a state is how many of each are placed.
    """
    alike = Counter(tuple(row) for row in signs)
    kinds = list(alike)
    first = [next(i for i, row in enumerate(signs) if tuple(row) == kind) for kind in kinds]
    above = [[signs[i][j] for j in first] for i in first]  # between kinds
    states: dict[tuple[int, ...], Counter[int]] = {(0,) * len(kinds): Counter({0: 1})}
    for size in levels:
        following: dict[tuple[int, ...], Counter[int]] = {}
        for placed, counts in states.items():
            left = [alike[kind] - done for kind, done in zip(kinds, placed, strict=True)]
            gain = [
                sum(done * above[i][j] for i, done in enumerate(placed)) for j in range(len(kinds))
            ]
            for chosen in _choices(size, left):
                ways = math.factorial(size) * math.prod(map(math.comb, left, chosen))
                more = sum(g * count for g, count in zip(gain, chosen, strict=True))
                state = tuple(map(sum, zip(placed, chosen, strict=True)))
                into = following.setdefault(state, Counter())
                for value, count in counts.items():
                    into[value + more] += ways * count
        states = following
    (counts,) = states.values()
    return counts


def _choices(size: int, left: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All ways to take `size` things of several kinds, of which so many are left."""
    if not left:
        if size == 0:
            yield ()
        return
    for count in range(min(size, left[0]), -1, -1):
        for rest in _choices(size - count, left[1:]):
            yield (count, *rest)
