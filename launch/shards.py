"""More than one machine without a scheduler: each makes a part of the runs, and the parts are joined with care.

`run_protocol table1 --shard 2/4` makes the second of four parts; which runs these are follows from what was asked for
alone, so four machines that are asked the same share all runs between them, whatever each has done already. Every one
writes `results/<tier>/shards/<protocol>.2-of-4.csv`; brought together in one folder, `reprise merge` joins them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..core import protocol as protocols
from ..core import results
from ..core.errors import DataError, UsageError
from ..core.locks import locked
from ..core.protocol import TIERS
from ..core.results import TIMING, ResultRow
from ..core.run import Run
from ..core.workspace import BY_HAND, Shard, Workspace, row_files
from .known import DONE, SHARD
from .plan import Plan, in_order

# Where a row was made may differ between two measurements of one cell; everything else is the number or its meaning.
MAY_DIFFER = {*TIMING, "device"}
Key: TypeAlias = tuple[str, str, str, int]  # of a row within its protocol and tier


def part(plans: Sequence[Plan], shard: Shard | None) -> list[Plan]:
    """The plans with the runs of one shard alone; cells that need no run are in every shard.

    Runs are dealt out like cards, in the order of their models and data, so that each shard gets its share of the long
    ones.
    """
    if shard is None:
        return list(plans)
    runs = {p.run.id: p.run for plan in plans for p in plan.cells if p.run is not None}
    mine = {run.id for run in sorted(runs.values(), key=_kind)[shard.index - 1 :: shard.count]}
    return [
        dataclasses.replace(
            plan,
            cells=tuple(p for p in plan.cells if p.run is None or p.run.id in mine),
            jobs=tuple(job for job in plan.jobs if job.run.id in mine),
        )
        for plan in plans
    ]


def _kind(run: Run) -> tuple[int, str, str, str]:
    return -run.recipe.training.steps, str(run.model), str(run.dataset), run.id


@dataclass(frozen=True)
class Conflict:
    """Two rows that say different things of one cell. differences: column -> (in `first`, in `second`)."""

    row: ResultRow
    first: Path
    second: Path
    differences: Mapping[str, tuple[object, object]]


@dataclass(frozen=True)
class Merged:
    """What became of the CSVs of one protocol at one tier. missing: shards of which no file was there."""

    path: Path
    rows: int
    files: tuple[Path, ...]
    missing: tuple[str, ...]


def merge(workspace: Workspace, paths: Sequence[Path] = ()) -> tuple[list[Merged], list[Conflict]]:
    """Join the CSVs of shards into results/<tier>/<protocol>.csv, with what is there already.

    paths: CSVs, or folders that hold some; results/*/shards/ when none is given. Rows that agree become one; a
    finished cell replaces a failed one. Where two rows conflict nothing at all is written. Raises DataError where there
    is nothing to join, or a file cannot be read.
    """
    found = _by_protocol(_files(workspace, paths))
    if not any(rows for by_file in found.values() for rows in by_file.values()):
        raise DataError("the files that were named hold no rows; nothing was joined")
    joined, conflicts, all_merged = {}, list[Conflict](), []
    with locked(workspace.root / "runs" / "collect.lock"):
        for (tier, name), by_file in found.items():
            if tier not in TIERS:
                raise DataError(
                    f"{next(iter(by_file))} has rows of a tier {tier!r}; known: {', '.join(TIERS)}"
                )
            target = workspace.results(tier, name)
            if target.exists():
                by_file = {target: results.read(target, ResultRow), **by_file}
            rows, disagree = _joined(by_file)
            conflicts += disagree
            _, protocol, _ = protocols.load(name)
            joined[target] = in_order(rows, protocol)
            files = tuple(path for path in by_file if path != target)
            beside = _joined_before(files, {row.key for row in rows})
            all_merged.append(Merged(target, len(rows), files, _missing([*files, *beside])))
        if conflicts:
            return [], conflicts
        for path, ordered in joined.items():
            results.write(path, ordered, ResultRow)
    return all_merged, []


def _files(workspace: Workspace, paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            # What people judged follows from their labels: `reprise label import` makes its rows, and no shard does.
            found += [file for file in row_files(path) if not file.stem.endswith(BY_HAND)]
        elif path.stem.endswith(BY_HAND):
            raise UsageError(
                f"{path} holds what people judged, which is not joined; `reprise label import` makes it of their labels"
            )
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(
                f"{path} does not exist; expected a CSV of results, or a folder of them"
            )
    if not paths:
        found = sorted((workspace.root / "results").glob("*/shards/*.csv"))
    if not found:
        where = ", ".join(map(str, paths)) or f"{workspace.root / 'results'}/*/shards"
        raise DataError(
            f"there is no CSV in {where}; `run_protocol PROTOCOL --shard 1/4` writes the first of four"
        )
    return list(dict.fromkeys(found))


def _by_protocol(
    files: Iterable[Path],
) -> dict[tuple[str, str], dict[Path, list[ResultRow]]]:
    """(tier, protocol) -> the rows of each file.

    A shard without a run has a file without a row, and is there all the same: its name says of what, its folder at
    which tier; where the folder does not, it is at each tier that the other files have of its protocol.
    """
    found: dict[tuple[str, str], dict[Path, list[ResultRow]]] = {}
    without_rows = []
    for path in files:
        rows = results.read(path, ResultRow)
        for row in rows:
            by_file = found.setdefault((row.tier, row.protocol), {})
            by_file.setdefault(path, []).append(row)
        if not rows and (named := SHARD.fullmatch(path.stem)):
            tier = path.resolve().parent.parent.name
            if tier in TIERS:
                found.setdefault((tier, named["protocol"]), {})[path] = []
            else:
                without_rows.append((path, named["protocol"]))
    for path, protocol in without_rows:
        for (_, name), by_file in found.items():
            if name == protocol:
                by_file[path] = []
    return found


def _joined_before(files: Iterable[Path], keys: Container[Key]) -> Iterator[Path]:
    """Shards beside those that are joined now, all of whose rows stand in the joined file already."""
    for folder, protocol, count in {
        (path.parent, named["protocol"], named["count"])
        for path in files
        if (named := SHARD.fullmatch(path.stem))
    }:
        for path in sorted(folder.glob(f"{protocol}.*-of-{count}.csv")):
            if path not in files and all(row.key in keys for row in results.read(path, ResultRow)):
                yield path


def _joined(
    by_file: Mapping[Path, Iterable[ResultRow]],
) -> tuple[list[ResultRow], list[Conflict]]:
    kept: dict[Key, tuple[ResultRow, Path]] = {}
    conflicts = []
    for path, rows in by_file.items():
        for row in rows:
            before, where = kept.setdefault(row.key, (row, path))
            if before is row:
                continue
            if row.status in DONE and before.status not in DONE:
                kept[row.key] = (row, path)
            elif row.status in DONE and (differences := _differences(before, row)):
                conflicts.append(Conflict(row, where, path, differences))
    return [row for row, _ in kept.values()], conflicts


def _differences(first: ResultRow, second: ResultRow) -> dict[str, tuple[object, object]]:
    names = [f.name for f in dataclasses.fields(ResultRow) if f.name not in MAY_DIFFER]
    both = {name: (getattr(first, name), getattr(second, name)) for name in names}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _missing(files: Iterable[Path]) -> tuple[str, ...]:
    """The shards that belong to those that are there: `2/4` beside `1/4`, `3/4` and `4/4`."""
    there: dict[int, set[int]] = {}
    for path in files:
        if named := SHARD.fullmatch(path.stem):
            there.setdefault(int(named["count"]), set()).add(int(named["index"]))
    return tuple(
        str(Shard(index, count))
        for count, found in sorted(there.items())
        for index in range(1, count + 1)
        if index not in found
    )
