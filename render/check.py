"""The regression check: are the numbers still what they were? Two-sided: a number that improved has moved as well.

    exit code | meaning
    0         | every reference cell is there and holds
    1         | a metric moved by more than its tolerance, in either direction, or a cell that worked fails now
    2         | something could not be judged: missing cells, another dialect, other data, no known noise
    3         | bad usage (files that are not there): raised as UsageError, which the command line turns into 3

A movement that is certain outweighs a doubt, so 1 wins over 2.

How far a mean may move follows from measured noise (results/noise.csv, by `reprise noise`): that of training, for
weights may have been made anew elsewhere, or that of evaluation alone if they are said to be the same weights; that of
threads or of precision besides, where the rows name another device or precision. Test images are the same, so their
noise has no part in it. A cell whose noise was not measured is judged by the standard errors that its rows carry, as if
the test images were others: wider, and said to be so. Every tolerance is printed with its origin.
"""

from __future__ import annotations

import enum
import json
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tabulate import tabulate

from ..core.errors import UsageError, unknown
from ..core.files import write_bytes, write_text
from ..core.results import NoiseRow, ResultRow, Source, read_all
from ..core.verdict import is_exact, is_share, standard_error
from ..core.workspace import unsharded

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

        What moved or fails is a failure, what could not be judged an error, what is new is skipped.
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
                if kind is None and one.outcome is Outcome.NEW:
                    ElementTree.SubElement(case, "skipped", {"message": _xml(one.detail)})
                elif kind is not None:
                    said = {"type": one.outcome.value, "message": _xml(_sentence(one))}
                    ElementTree.SubElement(case, kind, said).text = _xml(one.origin)
        ElementTree.indent(root)
        return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"

    def write(self, junit: Path | None = None, json_file: Path | None = None) -> None:
        """Write what was asked for, whole."""
        if junit is not None:
            write_bytes(junit, self.to_junit())
        if json_file is not None:
            write_text(json_file, self.to_json())


def _counted(findings: Sequence[Finding]) -> str:
    """`8 of 10 reference cells within tolerance, 1 moved, worse, 1 missing`."""
    counts = Counter(finding.outcome for finding in findings)
    compared = counts.total() - counts[Outcome.NEW]
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
    new = sum(finding.outcome is Outcome.NEW for finding in findings)
    counts = {"tests": len(findings), "failures": codes[1], "errors": codes[2], "skipped": new}
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
    allowed, origin = _allowed(key, now, before, tolerance)
    if not math.isfinite(difference):
        return Finding(key, Outcome.UNKNOWN, "a value is not a number", means[0], means[1])
    if allowed is None:
        if [row.value for row in now] == [row.value for row in before]:
            return Finding(key, Outcome.HOLDS, "identical", means[0], means[1])
        return Finding(key, Outcome.UNKNOWN, origin, means[0], means[1])
    outcome, detail = Outcome.HOLDS, ""
    if abs(difference) > allowed:
        better = now[0].better
        wanted = difference > 0 if better == "higher" else difference < 0
        sides = Outcome.BETTER if wanted else Outcome.WORSE
        outcome = sides if better in ("higher", "lower") else Outcome.MOVED
        detail = f"by {difference:+.4g}"
    return Finding(key, outcome, detail, means[0], means[1], allowed, origin)


def _allowed(
    key: CellKey, now: Sequence[ResultRow], before: Sequence[ResultRow], tolerance: Tolerance
) -> tuple[float | None, str]:
    """The movement that noise explains and why; None if no noise is known."""
    floor = tolerance.absolute.get(key[-1])
    given = "given with --allow"
    if is_exact(before):
        return (floor, given) if floor else (0.0, "an exact quantity")
    measured, origin = _measured(key, now, before, tolerance)
    if measured is None:
        errors = [standard_error(rows, fraction=is_share(rows)) for rows in (now, before)]
        if all(row.stderr is not None for row in (*now, *before)) or len(before) > 1:
            measured = tolerance.z * math.hypot(*errors)
            origin = f"{tolerance.z:g} x the rows' own standard errors ({origin})"
    if measured is None:
        if floor is not None:
            return floor, given
        return None, f"no standard error and one seed, and {origin}: measure it, or give --allow"
    return (floor, given) if floor is not None and floor > measured else (measured, origin)


def _measured(
    key: CellKey, now: Sequence[ResultRow], before: Sequence[ResultRow], tolerance: Tolerance
) -> tuple[float | None, str]:
    """The movement that measured noise explains, or None; and which noise that is, or why there is none."""
    _, tier, model, dataset, metric = key
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
    if len(found) < len(wanted):
        absent = next(source for source in wanted if source not in known)
        return None, f"noise of the {absent} was not measured"
    if not 0 < sum(row.std for row in found) < math.inf:
        return None, "its noise is too small to be seen in the repeats that were measured"
    # Few repeats know a standard deviation badly, so each has a factor of its own.
    factors = [_factor(tolerance.z, row.degrees) for row in found]
    allowed = math.hypot(*(f * row.std for f, row in zip(factors, found, strict=True)))
    parts = " and ".join(
        f"{f:.2g} x {row.source} {row.std:.3g} ({row.repeats} repeats)"
        for f, row in zip(factors, found, strict=True)
    )
    return allowed * math.sqrt(2 / len(now)), f"{parts}, x sqrt 2: two measurements differ"


def _factor(z: float, degrees: int) -> float:
    """What z standard errors are where the standard error is known with few degrees of freedom."""
    from scipy.special import ndtr, stdtrit

    return float(stdtrit(degrees, ndtr(z)))
