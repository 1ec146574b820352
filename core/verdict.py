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

The last is binomial for a fraction of n examples (S-Acc: 250 images), and otherwise the spread of our examples
(standard error x sqrt(n)) over the *published* number of examples. So nothing that we choose widens it: neither
a smaller test set nor noisier training makes a pass easier. k = 2, the range of about 95 % of the paper's own
repetitions. The published number's noise enters through the margin alone; the interval holds only ours.

A claim of difference (BETTER, WORSE) must be surer: a published number without a spread is taken as a single run that
varies as ours do, or else more seeds of ours would make a faithful reproduction "worse" by the paper's own luck.
"""

from __future__ import annotations

import enum
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .results import PublishedValue, ResultRow

__all__ = [
    "Judgement",
    "OrderAgreement",
    "Verdict",
    "is_exact",
    "judge",
    "margin_of",
    "order_agreement",
    "standard_error",
    "t_quantile",
]

ALPHA = 0.05
SPREADS = 2.0  # k of the table above


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
    interval: the 90 % interval of the difference. margin and where it comes from.
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
        return replace(ours, verdict=Verdict.INCONCLUSIVE, reason=why)
    error = standard_error(ok, fraction=_is_fraction(published))
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
    radius = quantile * math.hypot(error, single_run)
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
    return replace(ours, verdict=Verdict.INCONCLUSIVE, reason=why)


def margin_of(published: PublishedValue, rows: Iterable[ResultRow] = ()) -> tuple[float, str]:
    """The margin of equivalence and its origin: the largest of those in the table at the top."""
    half = published.resolution
    if half is None or published.value is None:
        raise ValueError(f"{published.key} has no printed number to be compared with")
    origins = [(half, "half of the last printed digit")]
    if published.confidence == "doubtful digit":
        origins.append((10 * half, "5 units of the last digit, which is doubtful"))
    if published.spread is not None:
        kind = published.spread_kind or "std"
        origins.append((SPREADS * published.spread, f"{SPREADS:g} x the published spread ({kind})"))
    if published.n:
        if _is_fraction(published):
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


def _incomparable(ok: Sequence[ResultRow], published: PublishedValue, tier: str) -> str:
    """Why ours and theirs are not the same quantity, or ""."""
    reasons = []
    # A parameter count does not depend on the training budget; at tier demo the canvas is another one.
    if tier == "demo" or (tier != "paper" and not is_exact(ok)):
        reasons.append(f"tier {tier} is not the published setting")
    # Nor does it depend on the images; but every number that was measured on others does, at whatever tier.
    if not is_exact(ok) and (data := sorted({row.stand_in for row in ok} - {""})):
        reasons.append(f"measured on stand-in data ({', '.join(data)})")
    if len({row.dialect for row in ok}) > 1:
        reasons.append("its seeds were measured in different dialects")
    elif wrong := _unlike(ok[0].dialect, published.dialect):
        reasons.append(f"the published number is in another dialect ({wrong})")
    return "; ".join(reasons)


def _unlike(ours: str, theirs: str) -> str:
    """The first `key=value` of the published dialect that ours does not say; "" if there is none."""
    said = set(ours.split())
    return next((word for word in theirs.split() if word not in said), "")


def _side(difference: float, ok: Sequence[ResultRow], published: PublishedValue) -> Verdict:
    better = published.better if published.better != "neither" else ok[0].better
    wanted = {"higher": difference > 0, "lower": difference < 0}.get(better, False)
    return Verdict.BETTER if wanted else Verdict.WORSE


def _is_fraction(published: PublishedValue) -> bool:
    """Whether the printed value is a count of successes over `n` examples, as S-Acc is."""
    value, n, half = published.value, published.n, published.resolution
    if value is None or not n or half is None or not 0 <= value <= 1:
        return False
    return abs(value - round(value * n) / n) <= half


def _binomial_error(p: float, n: int) -> float:
    """Standard error of a fraction; with two successes and failures added, so that 0 of 250 is not certainty."""
    centre = (p * n + 2) / (n + 4)
    return math.sqrt(max(centre * (1 - centre), 0.0) / (n + 4))


@dataclass(frozen=True)
class OrderAgreement:
    """How far ours and theirs order the models of one column alike.

    tau: Kendall's tau-b, None if either order is a single tie. n: models compared.
    agree, disagree: pairs of models; the rest are ties.
    """

    n: int
    agree: int
    disagree: int
    tau: float | None


def order_agreement(
    column: Iterable[tuple[Sequence[ResultRow], PublishedValue | None]], seeds: int = 1
) -> OrderAgreement | None:
    """Rank agreement over the models of one column; None for fewer than two of them.

    Models with a hole or without a printed value are left out. This needs no comparable values: a smaller
    tier may well order the models as the paper does.
    """
    pairs: list[tuple[tuple[float, str], tuple[float, str]]] = []
    for rows, published in column:
        ok = [row for row in rows if row.status == "ok" and row.value is not None]
        if published is None or published.value is None or _hole(rows, len(ok), seeds):
            continue
        mean = statistics.fmean(row.value for row in ok if row.value is not None)
        sign = published.printed.strip()[:1]
        ours = (mean, ">" if any(row.censored for row in ok) else "")
        pairs.append((ours, (published.value, sign if sign in ("<", ">") else "")))
    if len(pairs) < 2:
        return None
    signs = [
        (_order(ours_a, ours_b), _order(theirs_a, theirs_b))
        for (ours_a, theirs_a), (ours_b, theirs_b) in itertools.combinations(pairs, 2)
    ]
    products = [ours * theirs for ours, theirs in signs]
    untied = math.sqrt(sum(o != 0 for o, _ in signs) * sum(t != 0 for _, t in signs))
    return OrderAgreement(
        n=len(pairs),
        agree=products.count(1),
        disagree=products.count(-1),
        tau=sum(products) / untied if untied else None,
    )


def _order(a: tuple[float, str], b: tuple[float, str]) -> int:
    """1 if a > b, -1 if a < b, 0 if equal or if a bound leaves it open."""
    (x, x_sign), (y, y_sign) = a, b
    if x > y or (x == y and x_sign == ">" and not y_sign):
        return 0 if x_sign == "<" or y_sign == ">" else 1
    if x < y or (x == y and y_sign == ">" and not x_sign):
        return 0 if x_sign == ">" or y_sign == "<" else -1
    return 0
