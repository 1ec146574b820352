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
paper's own repetitions. The published number's noise enters through the margin alone; the interval holds only ours:
that of the mean over seeds, and that of the test images, which all seeds share and no further seed makes smaller.

A claim of difference (BETTER, WORSE, DIFFERENT) must be surer: a published number without a spread is taken as a single
run that varies as ours do (and one that does not say on how many examples, as measured on as many others), or else more
seeds of ours would make a faithful reproduction "worse" by the paper's own luck; and the interval is the 95 % one, so
that of equal truths at most one in twenty is called better or worse, both together.

A cell that stays open says what would close it: the least number of seeds at which the same test would decide with
80 % probability, were the difference and the spread exactly those seen so far (core/power.py).
"""

from __future__ import annotations

import enum
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from .power import ALPHA, Outlook, outlook, t_quantile
from .results import PublishedValue, ResultRow

if TYPE_CHECKING:
    from .protocol import Protocol, TierName

__all__ = [
    "Judgement",
    "Noise",
    "Verdict",
    "contradict",
    "hole",
    "is_exact",
    "is_share",
    "judge",
    "margin_of",
    "means",
    "mixed",
    "noise_of",
    "standard_error",
    "summary",
]

SPREADS = 2.0  # k of the table above


class Verdict(enum.Enum):
    """What may be said of one cell."""

    EQUIVALENT = "equivalent"  # shown to differ by less than the margin
    BETTER = "better"  # shown to differ by more than the margin, in the better direction
    WORSE = "worse"  # shown to differ by more than the margin, in the other direction
    DIFFERENT = (
        "different"  # shown to differ by more than the margin, where neither direction is better
    )
    INCONCLUSIVE = "inconclusive"  # comparable, but too few seeds or too much noise to say
    INCOMPARABLE = "incomparable"  # not the same quantity: another tier, other data or dialect
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


def judge(
    rows: Sequence[ResultRow],
    published: PublishedValue | None,
    *,
    tier: str,
    seeds: int = 1,
    drawn: bool = False,
) -> Judgement:
    """The verdict on one cell.

    rows: those of one cell, one per seed. published: None if the paper prints nothing for it.
    tier: where the rows come from. seeds: how many the tier asks for; fewer are a hole, and nothing is
    averaged over holes. drawn: whether every seed was measured on examples of its own; see `noise_of`.
    """
    ok = [row for row in rows if row.status == "ok" and row.value is not None]
    if why := hole(rows, seeds):
        return Judgement(verdict=Verdict.MISSING, reason=why, n=len(ok))
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
        same = abs(difference) <= margin * (1 + 1e-9)  # half a digit is in no binary fraction
        return replace(
            ours,
            verdict=Verdict.EQUIVALENT if same else _side(difference, ok, published),
            reason="an exact quantity, compared at the printed digits",
            interval=(difference, difference),
        )
    if len(ok) < 2:
        why = "one seed is never a pass: the spread over seeds is unknown"
        return replace(ours, verdict=Verdict.INCONCLUSIVE, reason=why)  # no spread, no outlook
    noise = noise_of(ok, fraction=_is_fraction(published, ok), drawn=drawn)
    error = noise.of_mean(len(ok))
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

    # A published single run is one more draw; a published spread is already in the margin. So is the noise of the
    # published evaluation where its size is known; else it is taken as large as ours.
    single_run = (ours.std or 0.0) if published.spread is None else 0.0
    theirs = math.hypot(single_run, 0.0 if published.n else noise.shared)
    radius = t_quantile(len(ok) - 1, 1 - ALPHA / 2) * math.hypot(error, theirs)
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
    ahead = outlook(
        difference,
        noise.by_seed,
        margin,
        len(ok),
        shared=noise.shared,
        single_run=theirs,
        least=sign != ">",
        most=not our_bound and sign != "<",
    )
    return replace(ours, verdict=Verdict.INCONCLUSIVE, reason=why, outlook=ahead)


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


@dataclass(frozen=True)
class Noise:
    """How far a mean over seeds may be off: standard deviations, of what each seed has anew and of what all share."""

    by_seed: float
    shared: float = 0.0

    def of_mean(self, seeds: int) -> float:
        """Standard error of the mean of so many seeds."""
        return math.hypot(self.by_seed / math.sqrt(seeds), self.shared)


def noise_of(rows: Sequence[ResultRow], *, fraction: bool = False, drawn: bool = False) -> Noise:
    """The noise of a cell's seeds and of its examples.

    Examples that every seed draws for itself (samples of the model, say) make the seeds differ, but three seeds can
    agree by luck: the noise of a seed is never below that of its evaluation. Test images are the same for all seeds,
    and further seeds take nothing of their noise away. fraction: values are counts / n, whose stderr near 0 and 1 is
    taken as `_binomial_error` does.
    """
    values = [row.value for row in rows if row.value is not None]
    over_seeds = statistics.stdev(values) if len(values) > 1 else 0.0
    evaluations = [
        max(row.stderr or 0.0, _binomial_error(row.value, row.n) if fraction and row.n else 0.0)
        for row in rows
        if row.value is not None
    ]
    evaluation = math.sqrt(statistics.fmean(error**2 for error in evaluations))
    return Noise(max(over_seeds, evaluation)) if drawn else Noise(over_seeds, evaluation)


def standard_error(rows: Sequence[ResultRow], *, fraction: bool = False) -> float:
    """Standard error of the mean over seeds beside that of another model on the same examples, whose noise both share;
    never below what each evaluation alone would allow, were its examples its own.
    """
    values = [row.value for row in rows if row.value is not None]
    return noise_of(rows, fraction=fraction, drawn=True).of_mean(len(values))


def is_exact(rows: Sequence[ResultRow]) -> bool:
    """Whether the cell is a deterministic quantity: declared so by its dialect, and no seed says otherwise."""
    return (
        bool(rows)
        and all(row.stderr is None and "exact" in row.dialect.split() for row in rows)
        and len({row.value for row in rows}) == 1
    )


def hole(rows: Sequence[ResultRow], seeds: int) -> str:
    """Why the cell has no mean: the status that stands in it, or "" if it is whole."""
    for row in rows:
        if row.status != "ok":
            whole = row.status in ("n/a", "not available yet")
            return row.status if whole or len(rows) == 1 else f"{row.status} (seed {row.seed})"
        if row.value is None or not math.isfinite(row.value):
            return f"not a number (seed {row.seed})" if len(rows) > 1 else "not a number"
    ok = len(rows)
    if ok == 0:
        return "not measured yet"
    return f"{ok} of {seeds} seeds measured" if ok < seeds else ""


def means(rows: Sequence[ResultRow], protocol: Protocol) -> dict[tuple[str, str, str], float]:
    """The mean over seeds of every cell of a protocol, at the tier of its rows, that has one: no hole, and seeds of one
    thing.
    """
    cells: dict[tuple[str, str, str], list[ResultRow]] = {}
    for row in rows:
        cells.setdefault(row.key[:3], []).append(row)
    seeds = protocol.seeds_for(cast("TierName", rows[0].tier)) if rows else protocol.seeds
    return {
        key: statistics.fmean(row.value for row in of_cell if row.value is not None)
        for key, of_cell in cells.items()
        if not hole(of_cell, seeds) and not mixed(of_cell)
    }


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
    if not is_exact(ok) and (others := sorted({row.tier for row in ok} - {tier})):
        reasons.append(f"its rows are of tier {', '.join(others)}")
    return "; ".join(reasons)


def contradict(one: str, other: str) -> str:
    """The first `key=value` to which another dialect gives another value; "" if there is none. Of two models each may
    need words that the other has no use for, as GNM says how it scores a presence.
    """
    said = dict(word.split("=", 1) for word in other.split() if "=" in word)
    words = (word.partition("=") for word in one.split() if "=" in word)
    return next((f"{k}={v} and {k}={said[k]}" for k, _, v in words if said.get(k, v) != v), "")


def _unlike(ours: str, theirs: str) -> str:
    """The first `key=value` of the published dialect that ours does not say; "" if there is none."""
    said = set(ours.split())
    return next((word for word in theirs.split() if word not in said), "")


def _side(difference: float, ok: Sequence[ResultRow], published: PublishedValue) -> Verdict:
    better = published.better if published.better != "neither" else ok[0].better
    if better not in ("higher", "lower"):
        return Verdict.DIFFERENT
    return Verdict.BETTER if (difference > 0) == (better == "higher") else Verdict.WORSE


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
