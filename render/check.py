"""The regression check: are the numbers still what they were? Two-sided: a number that improved has moved as well.

    exit code | meaning
    0         | every reference cell is there and holds
    1         | a metric moved by more than its tolerance, in either direction, or a cell that worked fails now
    2         | something could not be judged: missing cells, another dialect, other data, no known noise
    3         | bad usage (files that are not there): raised as UsageError, which the command line turns into 3

A movement that is certain outweighs a doubt, so 1 wins over 2.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from ..core.errors import UsageError
from ..core.results import ResultRow, read
from ..core.verdict import is_exact, standard_error

__all__ = ["CellKey", "Finding", "Outcome", "Report", "Tolerance", "check", "check_folders"]

CellKey = tuple[str, str, str, str, str]  # protocol, tier, model, dataset, metric


class Outcome(enum.Enum):
    """What may be said of one cell."""

    HOLDS = "holds"
    BETTER = "moved, better"
    WORSE = "moved, worse"
    MOVED = "moved"  # of a metric of which neither direction is better
    FAILS = "fails now"
    MISSING = "missing"
    CHANGED = "not the same quantity"
    UNKNOWN = "noise unknown"
    NEW = "new"

    @property
    def code(self) -> int:
        """The exit code that this alone would give."""
        if self in (Outcome.HOLDS, Outcome.NEW):
            return 0
        return 1 if self in (Outcome.BETTER, Outcome.WORSE, Outcome.MOVED, Outcome.FAILS) else 2


@dataclass(frozen=True)
class Tolerance:
    """How far a metric may move: `z` combined standard errors, and never less than `absolute` for its metric.

    absolute: metric label -> the movement that is allowed whatever the noise; also what judges a metric
    without any known noise. Deterministic quantities (dialect "exact") must be equal.
    """

    z: float = 3.0
    absolute: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What became of one cell; current, reference and tolerance are None where they mean nothing."""

    key: CellKey
    outcome: Outcome
    detail: str
    current: float | None = None
    reference: float | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class Report:
    """All findings, in the order of the reference."""

    findings: tuple[Finding, ...]

    @property
    def code(self) -> int:
        """The exit code."""
        codes = {finding.outcome.code for finding in self.findings}
        return 1 if 1 in codes else 2 if 2 in codes or not codes else 0

    def __str__(self) -> str:
        lines = [
            (
                " ".join((finding.key[1], finding.key[0])),
                *finding.key[2:],
                *(
                    "" if number is None else f"{number:.6g}"
                    for number in (finding.current, finding.reference)
                ),
                "" if finding.tolerance is None else f"± {finding.tolerance:.3g}",
                finding.outcome.value,
                finding.detail,
            )
            for finding in self.findings
            if finding.outcome is not Outcome.HOLDS
        ]
        heads = (
            "Protocol",
            "Model",
            "Dataset",
            "Metric",
            "Now",
            "Before",
            "Tolerance",
            "Finding",
            "",
        )
        table = tabulate(lines, heads, tablefmt="simple", disable_numparse=True)
        holds = sum(finding.outcome is Outcome.HOLDS for finding in self.findings)
        compared = sum(finding.outcome is not Outcome.NEW for finding in self.findings)
        words = {0: "holds", 1: "REGRESSED", 2: "COULD NOT BE JUDGED"}[self.code]
        summary = f"{words}: {holds} of {compared} reference cells within tolerance"
        return f"{table}\n\n{summary}" if lines else summary


def check(
    current: Sequence[ResultRow],
    reference: Sequence[ResultRow],
    tolerance: Tolerance | None = None,
) -> Report:
    """Compare every cell of `reference` with the same cell of `current`; further cells of current are "new"."""
    tolerance = tolerance or Tolerance()
    now, before = _by_cell(current), _by_cell(reference)
    findings = [_finding(key, now.get(key, []), rows, tolerance) for key, rows in before.items()]
    findings += [
        Finding(key, Outcome.NEW, "not in the reference") for key in now if key not in before
    ]
    return Report(tuple(findings))


def check_folders(
    current: Path, against: Path, tolerance: Tolerance | None = None, tiers: Sequence[str] = ()
) -> Report:
    """`check` between result folders: the CSVs below `against` (a folder like results/, or one CSV) with `current`'s.

    tiers: only these, all when empty. Raises UsageError when there is nothing to compare with.
    """
    if not against.exists():
        raise UsageError(f"{against} does not exist; expected a results folder or a CSV file")
    files = sorted(against.rglob("*.csv")) if against.is_dir() else [against]
    reference = [row for file in files for row in read(file, ResultRow)]
    reference = [row for row in reference if not tiers or row.tier in tiers]
    if not reference:
        kind = f" of tier {', '.join(tiers)}" if tiers else ""
        raise UsageError(f"{against} holds no results{kind}; expected CSVs as below results/")
    wanted = {(row.tier, row.protocol) for row in reference}
    files = (
        [current] if current.is_file() else [current / t / f"{p}.csv" for t, p in sorted(wanted)]
    )
    rows = [row for file in files if file.is_file() for row in read(file, ResultRow)]
    return check([row for row in rows if (row.tier, row.protocol) in wanted], reference, tolerance)


def _by_cell(rows: Sequence[ResultRow]) -> dict[CellKey, list[ResultRow]]:
    cells: dict[CellKey, list[ResultRow]] = defaultdict(list)
    for row in rows:
        cells[row.protocol, row.tier, row.model, row.dataset, row.metric].append(row)
    return cells


def _finding(
    key: CellKey, now: Sequence[ResultRow], before: Sequence[ResultRow], tolerance: Tolerance
) -> Finding:
    """What became of one cell; only seeds that had a number are compared."""
    worked = {row.seed for row in before if row.status == "ok" and row.value is not None}
    if not worked:
        return Finding(key, Outcome.HOLDS, f"had no number ({before[0].status})")
    same = {row.seed: row for row in now if row.seed in worked}
    if broken := [row for row in same.values() if row.status in ("failed", "diverged")]:
        note = f": {broken[0].note}" if broken[0].note else ""
        return Finding(key, Outcome.FAILS, f"seed {broken[0].seed} {broken[0].status}{note}")
    ok = {seed: row for seed, row in same.items() if row.status == "ok" and row.value is not None}
    if absent := sorted(worked - ok.keys()):
        return Finding(key, Outcome.MISSING, f"no value for seed {', '.join(map(str, absent))}")
    seeds = sorted(worked)
    pair = [ok[s] for s in seeds], [row for s in seeds for row in before if row.seed == s]
    for what in ("dialect", "data_digest", "censored"):
        found = [{getattr(row, what) for row in rows} for rows in pair]
        if found[0] != found[1]:
            was, is_now = ("/".join(sorted(values)) or "none" for values in reversed(found))
            return Finding(key, Outcome.CHANGED, f"{what.replace('_', ' ')}: {was} became {is_now}")
    return _moved(key, *pair, tolerance)


def _moved(
    key: CellKey, now: Sequence[ResultRow], before: Sequence[ResultRow], tolerance: Tolerance
) -> Finding:
    """Whether the mean over the same seeds moved by more than the tolerance."""
    means = [
        statistics.fmean(row.value for row in rows if row.value is not None)
        for rows in (now, before)
    ]
    difference = means[0] - means[1]
    allowed = _allowed(key, now, before, tolerance)
    if not math.isfinite(difference):
        return Finding(key, Outcome.UNKNOWN, "a value is not a number", means[0], means[1])
    if allowed is None:
        if [row.value for row in now] == [row.value for row in before]:
            return Finding(key, Outcome.HOLDS, "identical", means[0], means[1])
        why = "no standard error and one seed: give an absolute tolerance"
        return Finding(key, Outcome.UNKNOWN, why, means[0], means[1])
    outcome, detail = Outcome.HOLDS, ""
    if abs(difference) > allowed:
        better = now[0].better
        wanted = difference > 0 if better == "higher" else difference < 0
        sides = Outcome.BETTER if wanted else Outcome.WORSE
        outcome = sides if better in ("higher", "lower") else Outcome.MOVED
        detail = f"by {difference:+.4g}"
    return Finding(key, outcome, detail, means[0], means[1], allowed)


def _allowed(
    key: CellKey, now: Sequence[ResultRow], before: Sequence[ResultRow], tolerance: Tolerance
) -> float | None:
    """The movement that noise explains; None if no noise is known."""
    floor = tolerance.absolute.get(key[-1])
    if is_exact(before):
        return floor or 0.0
    errors = [standard_error(rows) for rows in (now, before)]
    known = all(row.stderr is not None for row in (*now, *before)) or len(before) > 1
    if not known:
        return floor
    return max(tolerance.z * math.hypot(*errors), floor or 0.0)
