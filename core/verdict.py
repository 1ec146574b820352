"""Verdict: does what we measured agree with what is printed? One classifier. No torch here.

The test is one of *equivalence* (two one-sided tests, TOST, at 5 %). It does not ask whether a difference could be
found, which noise alone would hide, but whether the difference is shown to be smaller than a margin. Equivalently:
the 90 % interval of (mean of ours - published) must lie inside (-margin, margin).

The margin is the largest of those that apply, and is printed with its origin:

origin                           | size                          | applies when
---------------------------------|-------------------------------|------------------------------------------------
the printed digits               | half of the last printed digit| always
a doubtful last digit            | 5 units of it                 | the last digit could not be read with certainty
k x the published spread         | 2 x std                       | the paper gives a spread over seeds
noise of the published evaluation| 2 x standard error            | the paper says how many examples it evaluated

The last is binomial for a fraction of n examples (S-Acc: 250 images), which our rows show it to be, and otherwise the
spread of our examples (standard error x sqrt(n)) over the *published* number of examples. So nothing that we choose
widens it: neither a smaller test set nor noisier training makes a pass easier. k = 2, the range of about 95 % of the
paper's own repetitions. The published number's noise enters through the margin alone; the interval holds only ours.

A claim of difference (BETTER, WORSE) must be surer: a published number without a spread is taken as a single run that
varies as ours do, or else more seeds of ours would make a faithful reproduction "worse" by the paper's own luck; and
the interval is the 95 % one, so that of equal truths at most one in twenty is called better or worse, both together.

A cell that stays open says what would close it: the least number of seeds at which the same test would decide with
80 % probability, were the difference and the spread exactly those seen so far (no simulation: the noncentral t).
"""

from __future__ import annotations

import enum
import itertools
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from .results import PublishedValue, ResultRow

__all__ = [
    "Judgement",
    "OrderAgreement",
    "Outlook",
    "Verdict",
    "difference_power",
    "equivalence_power",
    "is_exact",
    "is_share",
    "judge",
    "margin_of",
    "mixed",
    "order_agreement",
    "outlook",
    "standard_error",
    "summary",
    "t_quantile",
]

ALPHA = 0.05
SPREADS = 2.0  # k of the table above
POWER = 0.8  # how probable a decision must be to be called one that more seeds would bring
MOST_SEEDS = 1_000  # nobody trains more


class Verdict(enum.Enum):
    """What may be said of one cell."""

    EQUIVALENT = "equivalent"  # shown to differ by less than the margin
    BETTER = "better"  # shown to differ by more than the margin, in the better direction
    WORSE = "worse"  # shown to differ by more than the margin, in the other (or, if neither is better, in any)
    INCONCLUSIVE = "inconclusive"  # comparable, but too few seeds or too much noise to say
    INCOMPARABLE = (
        "incomparable"  # not the same quantity: another tier, other data, another dialect
    )
    MISSING = "missing"  # not all seeds are there


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict on one cell and everything it rests on; numbers are None where they were not computed.

    reason: one clause without numbers, so that equal reasons can share a footnote.
    mean, std (ddof=1), n: over seeds. difference: mean - published.
    interval: the 90 % interval of the difference. margin and where it comes from. outlook: of an inconclusive cell.
    """

    verdict: Verdict
    reason: str
    mean: float | None = None
    std: float | None = None
    n: int = 0
    difference: float | None = None
    interval: tuple[float, float] | None = None
    margin: float | None = None
    margin_origin: str = ""
    outlook: Outlook | None = None


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


def judge(
    rows: Sequence[ResultRow],
    published: PublishedValue | None,
    *,
    tier: str,
    seeds: int = 1,
) -> Judgement:
    """The verdict on one cell.

    rows: those of one cell, one per seed. published: None if the paper prints nothing for it.
    tier: where the rows come from. seeds: how many the tier asks for; fewer are a hole, and nothing is
    averaged over holes.
    """
    ok = [row for row in rows if row.status == "ok" and row.value is not None]
    if hole := _hole(rows, len(ok), seeds):
        return Judgement(verdict=Verdict.MISSING, reason=hole, n=len(ok))
    if why := mixed(ok):
        return Judgement(verdict=Verdict.INCOMPARABLE, reason=why, n=len(ok))
    values = [row.value for row in ok if row.value is not None]
    ours = Judgement(
        verdict=Verdict.INCOMPARABLE,
        reason="the paper prints no value for this cell",
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
    )
    if published is None or published.value is None or ours.mean is None:
        return ours
    if published.resolution is None:  # what stands in an archive may be anything
        return replace(ours, reason="the digits of the printed value are not known")
    difference = ours.mean - published.value
    ours = replace(ours, difference=difference)
    if why := _incomparable(ok, published, tier):
        return replace(ours, reason=why)

    margin, origin = margin_of(published, ok)
    ours = replace(ours, margin=margin, margin_origin=origin)
    if is_exact(ok):
        same = abs(difference) <= margin
        return replace(
            ours,
            verdict=Verdict.EQUIVALENT if same else _side(difference, ok, published),
            reason="an exact quantity, compared at the printed digits",
            interval=(difference, difference),
        )
    if len(ok) < 2:
        why = "one seed is never a pass: the spread over seeds is unknown"
        return replace(ours, verdict=Verdict.INCONCLUSIVE, reason=why)  # no spread, no outlook
    error = standard_error(ok, fraction=_is_fraction(published, ok))
    if error == 0 and not all(row.censored for row in ok):
        why = "all seeds agree to the last bit, so their spread cannot be judged"
        return replace(ours, verdict=Verdict.INCONCLUSIVE, reason=why)
    quantile = t_quantile(len(ok) - 1)
    low, high = difference - quantile * error, difference + quantile * error
    ours = replace(ours, interval=(low, high))
    sign = published.printed.strip()[:1]
    our_bound, their_bound = any(row.censored for row in ok), sign in ("<", ">")
    if -margin < low and high < margin and not our_bound and not their_bound:
        why = "the 90 % interval of the difference lies inside the margin"
        return replace(ours, verdict=Verdict.EQUIVALENT, reason=why)

    # A published single run is one more draw; a published spread is already in the margin.
    single_run = (ours.std or 0.0) if published.spread is None else 0.0
    radius = t_quantile(len(ok) - 1, 1 - ALPHA / 2) * math.hypot(error, single_run)
    # ">2000" of ours bounds the difference from below only; ">2000" of theirs from above only.
    least = -math.inf if sign == ">" else difference - radius
    most = math.inf if our_bound or sign == "<" else difference + radius
    if least > margin or most < -margin:
        why = "the difference is beyond the margin by more than the noise"
        return replace(ours, verdict=_side(difference, ok, published), reason=why)
    if our_bound or their_bound:
        why = "a censored value is a bound and never equal to anything"
    else:
        why = "the noise is too wide to say whether the difference is within the margin"
    spread = error * math.sqrt(len(ok))
    ahead = outlook(
        difference,
        spread,
        margin,
        len(ok),
        single_run=single_run,
        least=sign != ">",
        most=not our_bound and sign != "<",
    )
    return replace(ours, verdict=Verdict.INCONCLUSIVE, reason=why, outlook=ahead)


def outlook(
    difference: float,
    spread: float,
    margin: float,
    seeds: int,
    *,
    single_run: float = 0.0,
    least: bool = True,
    most: bool = True,
) -> Outlook:
    """How many more seeds would decide, if difference and spread (standard deviation of one seed, > 0) stay.

    single_run: standard deviation that the published number is taken to have. least, most: whether the difference is
    bounded from below and from above at all; a censored value bounds it from one side only.
    """
    if spread <= 0:
        return Outlook(None, "the seeds show no spread")
    if abs(difference) < margin:
        if not (least and most):
            return Outlook(None, "a censored value is a bound and never equal to anything")
        chance: Callable[[int], float] = lambda n: equivalence_power(difference, spread, margin, n)  # noqa: E731
        wanted, limit = "equivalent", "the difference is too close to the margin"
    else:
        if not (least if difference > 0 else most):
            return Outlook(None, "a censored value is a bound, and the difference lies beyond it")
        chance = lambda n: difference_power(difference, spread, margin, n, single_run)  # noqa: E731
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
    why = f"{wanted}, with {POWER:.0%} probability, if difference and spread stay".replace(
        "%", " %"
    )
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


def margin_of(published: PublishedValue, rows: Iterable[ResultRow] = ()) -> tuple[float, str]:
    """The margin of equivalence and its origin: the largest of those in the table at the top."""
    half, rows = published.resolution, list(rows)
    if half is None or published.value is None:
        raise ValueError(f"{published.key} has no printed number to be compared with")
    origins = [(half, "half of the last printed digit")]
    if published.confidence == "doubtful digit":
        origins.append((10 * half, "5 units of the last digit, which is doubtful"))
    if published.spread is not None:
        kind = published.spread_kind or "std"
        origins.append((SPREADS * published.spread, f"{SPREADS:g} x the published spread ({kind})"))
    if published.n:
        if _is_fraction(published, rows):
            noise = _binomial_error(published.value, published.n)
            kind = f"binomial, {published.n} examples"
        else:
            per_example = [
                row.stderr * math.sqrt(row.n) for row in rows if row.stderr is not None and row.n
            ]
            noise = statistics.fmean(per_example) / math.sqrt(published.n) if per_example else 0.0
            kind = f"our spread over examples, {published.n} of them"
        origins.append(
            (SPREADS * noise, f"{SPREADS:g} x the noise of the published evaluation ({kind})")
        )
    return max(origins, key=lambda origin: origin[0])


def standard_error(rows: Sequence[ResultRow], *, fraction: bool = False) -> float:
    """Standard error of the mean over seeds, never below what each evaluation alone would allow.

    Three seeds can agree by luck; each was still measured on n examples only. fraction: values are counts / n,
    whose stderr near 0 and 1 is taken as `_binomial_error` does.
    """
    values = [row.value for row in rows if row.value is not None]
    over_seeds = statistics.stdev(values) if len(values) > 1 else 0.0
    evaluations = [
        max(row.stderr or 0.0, _binomial_error(row.value, row.n) if fraction and row.n else 0.0)
        for row in rows
        if row.value is not None
    ]
    evaluation = math.sqrt(statistics.fmean(error**2 for error in evaluations))
    return max(over_seeds, evaluation) / math.sqrt(len(values))


def t_quantile(degrees: int, level: float = 1 - ALPHA) -> float:
    """Student's t, one-sided."""
    from scipy.special import (
        stdtrit,
    )  # what scipy.stats.t.ppf calls; importing scipy.stats takes a second

    return float(stdtrit(degrees, level))


def is_exact(rows: Sequence[ResultRow]) -> bool:
    """Whether the cell is a deterministic quantity: declared so by its dialect, and no seed says otherwise."""
    return (
        bool(rows)
        and all(
            row.stderr is None and "exact" in re.split(r"[\s=,;]+", row.dialect) for row in rows
        )
        and len({row.value for row in rows}) == 1
    )


def _hole(rows: Sequence[ResultRow], ok: int, seeds: int) -> str:
    """Why the cell has no mean: the status that stands in it, or "" if it is whole."""
    for row in rows:
        if row.status != "ok":
            whole = row.status in ("n/a", "not available yet")
            return row.status if whole or len(rows) == 1 else f"{row.status} (seed {row.seed})"
        if row.value is None or not math.isfinite(row.value):
            return f"not a number (seed {row.seed})" if len(rows) > 1 else "not a number"
    if ok == 0:
        return "not measured yet"
    return f"{ok} of {seeds} seeds measured" if ok < seeds else ""


def mixed(ok: Sequence[ResultRow]) -> str:
    """Why these are no seeds of one thing, so that a mean of them would mean nothing; "" if they are."""
    if len({row.dialect for row in ok}) > 1:
        return "its seeds were measured in different dialects, and are not averaged"
    if len({row.parameters for row in ok} - {None}) > 1:
        return "its seeds are of models with different numbers of parameters, and are not averaged"
    if len({row.precision for row in ok} - {""}) > 1 and not is_exact(ok):
        return "its seeds were trained in different precisions, and are not averaged"
    return ""


def _incomparable(ok: Sequence[ResultRow], published: PublishedValue, tier: str) -> str:
    """Why ours and theirs are not the same quantity, or ""."""
    reasons = []
    # A parameter count does not depend on the training budget; at tier demo the canvas is another one.
    if tier == "demo" or (tier != "paper" and not is_exact(ok)):
        reasons.append(f"tier {tier} is not the published setting")
    # Nor does it depend on the images; but every number that was measured on others does, at whatever tier.
    if not is_exact(ok) and (data := sorted({row.stand_in for row in ok} - {""})):
        reasons.append(f"measured on stand-in data ({', '.join(data)})")
    if wrong := _unlike(ok[0].dialect, published.dialect):
        reasons.append(f"the published number is in another dialect ({wrong})")
    if len({row.data_digest for row in ok}) > 1:
        reasons.append("its seeds were measured on different data")
    if len({row.tier for row in ok}) > 1:
        reasons.append("its seeds are of several tiers")
    return "; ".join(reasons)


def _unlike(ours: str, theirs: str) -> str:
    """The first `key=value` of the published dialect that ours does not say; "" if there is none."""
    said = set(ours.split())
    return next((word for word in theirs.split() if word not in said), "")


def _side(difference: float, ok: Sequence[ResultRow], published: PublishedValue) -> Verdict:
    better = published.better if published.better != "neither" else ok[0].better
    wanted = {"higher": difference > 0, "lower": difference < 0}.get(better, False)
    return Verdict.BETTER if wanted else Verdict.WORSE


def is_share(rows: Iterable[ResultRow]) -> bool:
    """Whether all values are counts over n, as S-Acc is: 0 of 250 is then no certainty.

    Their standard errors tell: values between 0 and 1 of mean p have at most the variance p (1 - p), and have it only
    if all of them are 0 or 1 (Bhatia & Davis 2000). It is divided by n or, of a mean of values, by n - 1.
    """
    return all(
        row.value is not None
        and row.n is not None
        and row.n > 1
        and row.stderr is not None
        and 0 <= row.value <= 1
        and any(
            math.isclose(row.stderr, math.sqrt(row.value * (1 - row.value) / n), abs_tol=1e-9)
            for n in (row.n, row.n - 1)
        )
        for row in rows
    )


def _is_fraction(published: PublishedValue, rows: Sequence[ResultRow]) -> bool:
    """Whether the printed value is a count of successes over `n` examples, as S-Acc is.

    It must be a count within its digits, and ours must be shares. Where ours are 0 or 1 and so may be anything, the
    digits alone must tell, which they cannot of so many examples that every number is within half a digit of a count.
    """
    value, n, half = published.value, published.n, published.resolution
    if value is None or not n or half is None or not 0 <= value <= 1:
        return False
    if abs(value - round(value * n) / n) > half or not is_share(rows):
        return False
    return 2 * half * n < 1 or any(row.value not in (0, 1) for row in rows)


def _binomial_error(p: float, n: int) -> float:
    """Standard error of a fraction; with two successes and failures added, so that 0 of 250 is not certainty."""
    centre = (p * n + 2) / (n + 4)
    return math.sqrt(max(centre * (1 - centre), 0.0) / (n + 4))


@dataclass(frozen=True)
class OrderAgreement:
    """How far ours and theirs order the models of one column alike.

    tau: Kendall's tau-b, None if either order is a single tie. n: models compared.
    agree, disagree: pairs of models; the rest are ties.
    p: how often orders that have nothing to do with each other agree at least as well: over all n! ways to assign our
    numbers to the models (one-sided: the claim is that we order *as* the paper does). least_p: the p of the best order
    that these ties allow; above 0.05 no order of so few models could convince. None with tau.
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
        if self.tau is None or self.p is None or self.least_p is None:
            return f"all tied, {counted}"
        text = f"τ = {self.tau:+.2f}, {counted}, p = {self.p:.2g}"
        if self.least_p > ALPHA:
            text += f" (never below {self.least_p:.2g} with {self.n} models)"
        return text.replace("-", "−")


def order_agreement(
    models: Iterable[tuple[Sequence[ResultRow], PublishedValue | None]], seeds: int = 1
) -> OrderAgreement | None:
    """Rank agreement over the models of one column; None for fewer than two of them.

    Models with a hole, with seeds of several things or without a printed value are left out, and a second reading of a
    number that is printed once. This needs no comparable values: a smaller tier may well order the models as the paper
    does.
    """
    pairs: list[tuple[tuple[float, str], tuple[float, str]]] = []
    places: set[tuple[str, ...]] = set()
    for rows, published in models:
        ok = [row for row in rows if row.status == "ok" and row.value is not None]
        if published is None or published.value is None or _hole(rows, len(ok), seeds):
            continue
        if mixed(ok):
            continue
        place = (published.page, published.table, published.row, published.column)
        if all(place) and place in places:
            continue
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


Signs = Sequence[Sequence[int]]
"""(n, n): 1 where the model of the row stands above that of the column, -1 where below, 0 where that is open."""

ENUMERATED = (
    8  # models: 40,320 permutations; more only where one of the orders has ties, but no bounds
)


def _permutation_p(ours: Signs, theirs: Signs) -> tuple[float | None, float | None]:
    """P(agreement >= the one seen) over all permutations, and P(the greatest agreement there is); None: too many."""
    n = len(ours)
    seen = sum(ours[i][j] * theirs[i][j] for i, j in itertools.combinations(range(n), 2))
    if (levels := _levels(ours)) is not None:
        counts = _agreements(levels, theirs)
    elif (levels := _levels(theirs)) is not None:
        counts = _agreements(levels, ours)
    elif n <= ENUMERATED:
        both = list(itertools.combinations(range(n), 2))
        counts = Counter(
            sum(ours[i][j] * theirs[order[i]][order[j]] for i, j in both)
            for order in itertools.permutations(range(n))
        )
    else:
        return None, None
    total = counts.total()
    at_least = sum(count for value, count in counts.items() if value >= seen)
    return at_least / total, counts[max(counts)] / total


def _levels(signs: Signs) -> list[int] | None:
    """How many models share each level, the highest first; None where bounds leave more open than ties do."""
    alike = Counter(tuple(row) for row in signs)
    if any(row.count(0) != size for row, size in alike.items()):
        return None
    return [alike[row] for row in sorted(alike, key=sum, reverse=True)]


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


def summary(verdicts: Iterable[Verdict], tier: str = "") -> str:
    """One sentence about published cells: `12 of 45 published cells equivalent, 20 incomparable (tier mini)`."""
    counts = Counter(verdicts)
    parts = [f"{counts[Verdict.EQUIVALENT]} of {counts.total()} published cells equivalent"]
    for verdict in list(Verdict)[1:]:
        if counts[verdict]:
            below = verdict is Verdict.INCOMPARABLE and tier not in ("", "paper")
            parts.append(
                f"{counts[verdict]} {verdict.value}" + (f" (tier {tier})" if below else "")
            )
    return ", ".join(parts)


def _order(a: tuple[float, str], b: tuple[float, str]) -> int:
    """1 if a > b, -1 if a < b, 0 if equal or if a bound leaves it open."""
    (x, x_sign), (y, y_sign) = a, b
    if x > y or (x == y and x_sign == ">" and not y_sign):
        return 0 if x_sign == "<" or y_sign == ">" else 1
    if x < y or (x == y and y_sign == ">" and not x_sign):
        return 0 if x_sign == ">" or y_sign == "<" else -1
    return 0
