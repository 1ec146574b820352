"""The regression check: are the numbers still what they were? Two-sided: a number that improved has moved as well.

    exit code | meaning
    0         | every reference cell that has a number is there and holds
    1         | a metric moved by more than its tolerance, in either direction, or a cell that worked fails now
    2         | something could not be judged: missing cells, not the same quantity, too little known of the noise, or
              | no reference cell that has a number
    3         | bad usage (files that are not there): raised as UsageError, which the command line turns into 3

A movement that is certain outweighs a doubt, so 1 wins over 2. Equal numbers hold, whatever is known of the noise.

How far a mean may move follows from measured noise (results/noise.csv, by `reprise noise`): that of training, for
weights may have been made anew elsewhere, or that of evaluation alone if they are said to be the same weights; that of
threads or of precision besides, where the rows name another device or precision. Test images are the same, so their
noise has no part in it. Noise of few repeats gives a wide tolerance: beyond it a number has moved, but within one that
is wider for that alone nothing is said to hold.

A cell whose noise was not measured is judged by what its rows carry. The spread over its seeds is noise of training,
known as badly as so few seeds know it. Of one seed there is the standard error over the test images alone, and how far
retraining moves the number is not known: within that error it holds, beyond it could not be judged, unless the weights
are the same. Every tolerance is printed with its origin.
"""

from __future__ import annotations

import enum
import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.etree import ElementTree

from tabulate import tabulate

from ..core.errors import UsageError, unknown
from ..core.files import write_bytes, write_text
from ..core.power import t_quantile
from ..core.results import NoiseRow, ResultRow, Source, read_all
from ..core.verdict import is_exact, is_share, standard_error
from ..core.workspace import unsharded

__all__ = ["CellKey", "Finding", "Outcome", "Report", "Tolerance", "check", "check_folders"]

CellKey = tuple[str, str, str, str, str]  # protocol, tier, model, dataset, metric

WIDEST = 4.0
"""A tolerance more than so many times as wide as if its noise were well known does not show that anything holds. At
three standard errors that of three repeats is 6.4 times as wide, that of four 3.1 times."""


class Outcome(enum.Enum):
    """What may be said of one cell."""

    HOLDS = "holds"
    BETTER = "moved, better"
    WORSE = "moved, worse"
    MOVED = "moved"  # of a metric of which neither direction is better
    FAILS = "fails now"
    MISSING = "missing"
    CHANGED = "not the same quantity"
    UNKNOWN = "could not be judged"
    NUMBERLESS = "without a number in the reference"
    NEW = "new"

    @property
    def compared(self) -> bool:
        """Whether there was a number to be held against."""
        return self not in (Outcome.NUMBERLESS, Outcome.NEW)

    @property
    def code(self) -> int:
        """The exit code that this alone would give."""
        if self is Outcome.HOLDS or not self.compared:
            return 0
        return 1 if self in (Outcome.BETTER, Outcome.WORSE, Outcome.MOVED, Outcome.FAILS) else 2


@dataclass(frozen=True)
class Tolerance:
    """How far a metric may move: `z` combined standard errors, and never less than `absolute` for its metric.

    absolute: metric label -> the movement that is allowed whatever the noise; also what judges a metric of
    whose noise too little is known. Deterministic quantities (dialect "exact") must be equal.
    noise: what was measured of it. same_weights: whether current and reference measured the same checkpoints.
    """

    z: float = 3.0
    absolute: Mapping[str, float] = field(default_factory=dict)
    noise: Sequence[NoiseRow] = ()
    same_weights: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for what would let any movement pass, or means nothing."""
        if not 0 < self.z < math.inf:
            raise UsageError(f"{self.z:g} standard errors are none; expected a number above 0")
        for metric, amount in self.absolute.items():
            if not 0 <= amount < math.inf:
                raise UsageError(
                    f"a movement of {metric} by {amount:g} is none; expected 0 or more"
                )


@dataclass(frozen=True)
class Finding:
    """What became of one cell; current, reference and tolerance are None where they mean nothing.

    origin: where the tolerance comes from.
    """

    key: CellKey
    outcome: Outcome
    detail: str
    current: float | None = None
    reference: float | None = None
    tolerance: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, in the order of the reference. rows: those that were held against it."""

    findings: tuple[Finding, ...]
    rows: tuple[ResultRow, ...] = ()

    @property
    def code(self) -> int:
        """The exit code."""
        codes = {finding.outcome.code for finding in self.findings if finding.outcome.compared}
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
        notes = [f"Tolerance of {what}" for what in self.origins]
        said = [f"{name}: {text}" for name, text in self.summaries.items()]
        if len(said) == 1:
            said = []
        words = {0: "holds", 1: "REGRESSED", 2: "COULD NOT BE JUDGED"}[self.code]
        parts = [table] if lines else []
        parts += ["\n".join(notes)] if notes else []
        parts.append("\n".join([*said, f"{words}: {_counted(self.findings)}"]))
        return "\n\n".join(parts)

    @property
    def origins(self) -> list[str]:
        """Where each tolerance comes from: "LL of GNM (mini): 4.5 x ..."; equal ones are said once."""
        found: dict[tuple[str, str], dict[tuple[str, str], None]] = defaultdict(dict)
        for finding in self.findings:
            if finding.origin:
                _, tier, model, _, metric = finding.key
                found[tier, finding.origin][metric, model] = None
        lines = []
        for (tier, origin), cells in found.items():
            metrics = list(dict.fromkeys(metric for metric, _ in cells))
            models = list(dict.fromkeys(model for _, model in cells))
            whose = f" of {', '.join(models)}" if len(metrics) == 1 else ""
            lines.append(f"{', '.join(metrics)}{whose} ({tier}): {origin}")
        return lines

    @property
    def summaries(self) -> dict[str, str]:
        """One sentence per protocol and tier."""
        parts: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            parts[f"{finding.key[0]} ({finding.key[1]})"].append(finding)
        return {name: _counted(findings) for name, findings in parts.items()}

    def to_json(self) -> str:
        """Everything, for programs: `{"code": 1, "summary": ..., "findings": [...]}`; numbers not finite are null."""
        findings = [
            {
                **dict(
                    zip(("protocol", "tier", "model", "dataset", "metric"), one.key, strict=True)
                ),
                "outcome": one.outcome.name.lower(),
                "code": one.outcome.code,
                "current": _finite(one.current),
                "reference": _finite(one.reference),
                "tolerance": _finite(one.tolerance),
                "origin": one.origin,
                "detail": one.detail,
            }
            for one in self.findings
        ]
        whole = {"code": self.code, "summary": _counted(self.findings), "findings": findings}
        return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def to_junit(self) -> bytes:
        """JUnit XML as CI services read it: a suite per protocol and tier, a test case per cell.

        What moved or fails is a failure, what could not be judged an error; what was not compared is skipped.
        """
        suites: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            suites[f"{finding.key[1]}.{finding.key[0]}"].append(finding)
        root = ElementTree.Element("testsuites", _totals("reprise check", self.findings))
        for name, findings in suites.items():
            suite = ElementTree.SubElement(root, "testsuite", _totals(_xml(name), findings))
            for one in findings:
                named = {"classname": _xml(name), "name": _xml(", ".join(one.key[2:])), "time": "0"}
                case = ElementTree.SubElement(suite, "testcase", named)
                kind = {1: "failure", 2: "error"}.get(one.outcome.code)
                if not one.outcome.compared:
                    ElementTree.SubElement(case, "skipped", {"message": _xml(_sentence(one))})
                elif kind is not None:
                    said = {"type": one.outcome.value, "message": _xml(_sentence(one))}
                    ElementTree.SubElement(case, kind, said).text = _xml(one.origin)
        ElementTree.indent(root)
        return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"

    def write(self, junit: Path | None = None, json_file: Path | None = None) -> None:
        """Write what was asked for, whole."""
        if junit is not None:
            write_bytes(junit, self.to_junit(), "--junit")
        if json_file is not None:
            write_text(json_file, self.to_json(), "--json")


def _counted(findings: Sequence[Finding]) -> str:
    """`8 of 10 reference cells within tolerance, 1 moved, worse, 1 missing`."""
    counts = Counter(finding.outcome for finding in findings)
    compared = sum(finding.outcome.compared for finding in findings)
    others = [
        f"{counts[outcome]} {outcome.value}"
        for outcome in Outcome
        if outcome is not Outcome.HOLDS and counts[outcome]
    ]
    text = f"{counts[Outcome.HOLDS]} of {compared} reference cells within tolerance"
    return "; ".join([text, *others])


def _sentence(finding: Finding) -> str:
    """One finding in words."""
    numbers = ""
    if finding.current is not None and finding.reference is not None:
        numbers = f": {finding.reference:.6g} became {finding.current:.6g}"
    allowed = "" if finding.tolerance is None else f", tolerance {finding.tolerance:.3g}"
    detail = f" ({finding.detail})" if finding.detail else ""
    return f"{finding.outcome.value}{numbers}{allowed}{detail}"


def _totals(name: str, findings: Sequence[Finding]) -> dict[str, str]:
    codes = Counter(finding.outcome.code for finding in findings)
    skipped = sum(not finding.outcome.compared for finding in findings)
    counts = {"tests": len(findings), "failures": codes[1], "errors": codes[2], "skipped": skipped}
    return {"name": name, **{key: str(count) for key, count in counts.items()}, "time": "0"}


def _xml(text: str) -> str:
    """`text` without the characters that XML 1.0 cannot hold even escaped: a name may be anything."""
    return "".join(
        c
        if c in "\t\n\r" or " " <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff"
        else "\ufffd"
        for c in text
    )


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def check(
    current: Sequence[ResultRow],
    reference: Sequence[ResultRow],
    tolerance: Tolerance | None = None,
) -> Report:
    """Compare every cell of `reference` with the same cell of `current`; further cells of current are "new".

    Raises UsageError for a movement that is allowed of a metric of which the reference has no cell.
    """
    tolerance = tolerance or Tolerance()
    metrics = {row.metric for row in reference}
    for metric in tolerance.absolute:
        if metric not in metrics:
            raise unknown("metric", metric, metrics)
    now, before = _by_cell(current), _by_cell(reference)
    findings = [_finding(key, now.get(key, []), rows, tolerance) for key, rows in before.items()]
    findings += [
        Finding(key, Outcome.NEW, "not in the reference") for key in now if key not in before
    ]
    return Report(tuple(findings), tuple(current))


def check_folders(
    current: Path, against: Path, tolerance: Tolerance | None = None, tiers: Sequence[str] = ()
) -> Report:
    """`check` between result folders: the CSVs below `against` (a folder like results/, or one CSV) with `current`'s.

    tiers: only these, all when empty. Raises UsageError where there is nothing to compare, or a file with itself, and
    DataError where two files hold a row of the same cell.
    """
    for path in (against, current):
        if not path.exists():
            raise UsageError(f"{path} does not exist; expected a results folder or a CSV file")
    references = unsharded(against)
    reference = [row for row in read_all(references) if not tiers or row.tier in tiers]
    if not reference:
        kind = f" of tier {', '.join(tiers)}" if tiers else ""
        raise UsageError(f"{against} holds no results{kind}; expected CSVs as below results/")
    wanted = {(row.tier, row.protocol) for row in reference}
    files = _of(current, wanted) if current.is_dir() else [current]
    if not files:
        names = ", ".join(sorted({f"{tier}/{protocol}.csv" for tier, protocol in wanted}))
        raise UsageError(
            f"{current} holds no results to be compared with {against}; expected {names}, or some of them"
        )
    same = {file.resolve() for file in files} & {file.resolve() for file in references}
    if same:  # which would hold whatever it says
        raise UsageError(
            f"{min(same)} would be compared with itself; make fresh rows in a folder of their own (`run_protocol "
            "PROTOCOL --root build/again`) and name it here too (`--root build/again`), or name an older copy"
        )
    rows = [row for row in read_all(files) if (row.tier, row.protocol) in wanted]
    return check(rows, reference, tolerance)


def _of(folder: Path, wanted: Iterable[tuple[str, str]]) -> list[Path]:
    """The CSVs of these (tier, protocol) in a folder like results/, in the root above it, or in that of one tier."""
    found = []
    for tier, name in sorted(wanted):
        below = (folder / tier, folder / "results" / tier, folder)
        found += [part / f"{name}.csv" for part in below if (part / f"{name}.csv").is_file()][:1]
    return list(dict.fromkeys(found))


def _by_cell(rows: Sequence[ResultRow]) -> dict[CellKey, list[ResultRow]]:
    cells: dict[CellKey, list[ResultRow]] = defaultdict(list)
    for row in rows:
        cells[row.protocol, row.tier, row.model, row.dataset, row.metric].append(row)
    return cells


def _finding(
    key: CellKey, now: Sequence[ResultRow], before: Sequence[ResultRow], tolerance: Tolerance
) -> Finding:
    """What became of one cell; only seeds that had a number are compared."""
    worked = {row.seed: row for row in before if row.status == "ok" and row.value is not None}
    if not worked:
        return Finding(key, Outcome.NUMBERLESS, before[0].status)
    same = {row.seed: row for row in now if row.seed in worked}
    if broken := [row for row in same.values() if row.status in ("failed", "diverged")]:
        note = f": {broken[0].note}" if broken[0].note else ""
        return Finding(key, Outcome.FAILS, f"seed {broken[0].seed} {broken[0].status}{note}")
    ok = {seed: row for seed, row in same.items() if row.status == "ok" and row.value is not None}
    if absent := sorted(worked.keys() - ok.keys()):
        return Finding(key, Outcome.MISSING, f"no value for seed {', '.join(map(str, absent))}")
    seeds = sorted(worked)
    pair = [ok[seed] for seed in seeds], [worked[seed] for seed in seeds]
    if why := _changed(*pair):
        return Finding(key, Outcome.CHANGED, why)
    return _moved(key, *pair, tolerance)


def _changed(now: Sequence[ResultRow], before: Sequence[ResultRow]) -> str:
    """The first column that makes these another quantity, and both its values; "" if none does."""
    columns = [
        "dialect", "data_digest", "censored", "metric_spec", "dataset_spec", "train", "model_spec", "stand_in",
    ]  # fmt: skip
    if not is_exact(before):  # which no training changes; the parameters may be the number itself
        columns += ["steps", "parameters"]
    for column in columns:
        for is_now, was in zip(now, before, strict=True):
            values = [getattr(row, column) for row in (was, is_now)]
            if values[0] != values[1]:
                said = ["none" if value in ("", None) else str(value) for value in values]
                return f"{column.replace('_', ' ')}: {said[0]} became {said[1]}"
    return ""


@dataclass(frozen=True)
class _Limits:
    """A mean that moved by at most `holds` holds, by more than `moves` has moved; `doubt`: why neither is said between.

    origin: where they come from; empty where nothing is known of the noise.
    """

    holds: float
    moves: float
    origin: str
    doubt: str = ""


def _moved(
    key: CellKey, now: Sequence[ResultRow], before: Sequence[ResultRow], tolerance: Tolerance
) -> Finding:
    """Whether the mean over the same seeds moved by more than the tolerance."""
    means = [
        statistics.fmean(row.value for row in rows if row.value is not None)
        for rows in (now, before)
    ]
    difference = means[0] - means[1]
    if not math.isfinite(difference):
        return Finding(key, Outcome.UNKNOWN, "a value is not a number", means[0], means[1])
    limits = _limits(key, now, before, tolerance)
    outcome, detail, allowed = Outcome.HOLDS, "", limits.moves
    if abs(difference) > allowed:
        better = now[0].better
        wanted = difference > 0 if better == "higher" else difference < 0
        sides = Outcome.BETTER if wanted else Outcome.WORSE
        outcome = sides if better in ("higher", "lower") else Outcome.MOVED
        detail = f"by {difference:+.4g}"
    elif abs(difference) > limits.holds:
        outcome, detail = Outcome.UNKNOWN, limits.doubt
    shown = allowed if math.isfinite(allowed) else limits.holds if limits.origin else None
    return Finding(key, outcome, detail, means[0], means[1], shown, limits.origin)


def _limits(
    key: CellKey, now: Sequence[ResultRow], before: Sequence[ResultRow], tolerance: Tolerance
) -> _Limits:
    """The movement that noise explains, and what --allow adds to it."""
    if is_exact(before):
        found = _Limits(0.0, 0.0, "an exact quantity")
    else:
        found = _measured(key, now, before, tolerance)
    if is_share([*now, *before]):
        mean = statistics.fmean(row.value for row in before if row.value is not None)
        if found.holds >= max(mean, 1 - mean):
            doubt = "no share can move by more than its tolerance; more seeds narrow it"
            found = replace(found, holds=0.0, doubt=doubt)
    floor = tolerance.absolute.get(key[-1])
    if floor is None:
        return found
    if floor >= found.holds:
        return _Limits(floor, floor, "given with --allow")
    return _Limits(found.holds, found.holds, found.origin)


def _measured(
    key: CellKey, now: Sequence[ResultRow], before: Sequence[ResultRow], tolerance: Tolerance
) -> _Limits:
    """The movement that measured noise explains; where it was not measured, what the rows know of it."""
    protocol, tier, model, dataset, metric = key
    known = {
        row.source: row
        for row in tolerance.noise
        if (row.tier, row.model, row.dataset, row.metric) == (tier, model, dataset, metric)
        and row.dialect == before[0].dialect
    }
    wanted: list[Source] = ["evaluation seed" if tolerance.same_weights else "training seed"]
    if {row.device for row in now} != {row.device for row in before}:
        wanted.append("threads")
    if {row.precision for row in now} != {row.precision for row in before}:
        wanted.append("precision")
    found = [known[source] for source in wanted if source in known]
    std = math.hypot(*(row.std for row in found))
    remedy = (
        f"measure it with `reprise noise {protocol} --tier {tier} --repeats 5`, or give --allow"
    )
    if len(found) < len(wanted):
        absent = next(source for source in wanted if source not in known)
        return _own(now, before, tolerance, f"noise of the {absent} was not measured", remedy)
    if not 0 < std < math.inf:
        why = "its noise is too small to be seen in the repeats that were measured"
        return _own(now, before, tolerance, why, remedy)
    # Few repeats know a standard deviation badly, so each has a factor of its own.
    factors = [_factor(tolerance.z, row.degrees) for row in found]
    allowed = math.hypot(*(f * row.std for f, row in zip(factors, found, strict=True)))
    parts = " and ".join(
        f"{f:.2g} x {row.source} {row.std:.3g} ({row.repeats} repeats)"
        for f, row in zip(factors, found, strict=True)
    )
    origin = f"{parts}, x sqrt 2: two measurements differ"
    wide = allowed / (tolerance.z * std)
    return _unless_wide(allowed * math.sqrt(2 / len(now)), origin, wide, remedy)


def _own(
    now: Sequence[ResultRow],
    before: Sequence[ResultRow],
    tolerance: Tolerance,
    why: str,
    remedy: str,
) -> _Limits:
    """The movement that the rows' own standard errors explain. why: why no measured noise is taken."""
    pair, z, seeds = (now, before), tolerance.z, len(before)
    evaluation = z * math.hypot(*map(_evaluation_error, pair))
    if not 0 < evaluation < math.inf:
        evaluation = 0.0
    if evaluation and tolerance.same_weights:
        return _Limits(evaluation, evaluation, f"{z:g} x the rows' own standard errors ({why})")
    if evaluation and seeds == 1:
        origin = f"{z:g} x the rows' own standard errors, which know nothing of retraining ({why})"
        doubt = f"more than evaluation explains, and {why}: {remedy} or --same-weights"
        return _Limits(evaluation, math.inf, origin, doubt)
    spread = math.hypot(*(standard_error(rows, fraction=is_share(rows)) for rows in pair))
    if seeds == 1 or not 0 < spread < math.inf:
        return _Limits(0.0, math.inf, "", f"no standard error, and {why}: {remedy}")
    # Unless something has moved, both sides vary alike: Student's t with the degrees of both.
    factor = _factor(z, 2 * (seeds - 1))
    origin = f"{factor:.2g} x the rows' own standard errors over {seeds} seeds ({why})"
    return _unless_wide(factor * spread, origin, factor / z, remedy, evaluation)


def _evaluation_error(rows: Sequence[ResultRow]) -> float:
    """Standard error of the mean of these weights, not of others; not a number where a row has none."""
    if any(row.stderr is None for row in rows):
        return math.nan
    share = is_share(rows)
    return math.hypot(*(standard_error([row], fraction=share) for row in rows)) / len(rows)


def _unless_wide(
    allowed: float, origin: str, wide: float, remedy: str, least: float = 0.0
) -> _Limits:
    """A tolerance of `allowed`; one `wide` times that of well-known noise lets only `least` hold."""
    if wide <= WIDEST:
        return _Limits(allowed, allowed, origin)
    doubt = f"noise known so badly makes the tolerance {wide:.2g} times as wide: {remedy}"
    return _Limits(least, allowed, origin, doubt)


def _factor(z: float, degrees: int) -> float:
    """What z standard errors are where the standard error is known with few degrees of freedom."""
    from scipy.special import ndtr

    return -t_quantile(degrees, float(ndtr(-z)))  # of the upper tail no digits are left
