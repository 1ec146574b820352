"""Writing an evidence bundle: one archive with everything behind a protocol's table. `crate.py` says what is in it.

The same inputs give the same bytes: files in a fixed order, with a fixed time. What cannot be found is said in the
bundle and by the command, and nothing is left out silently.
"""

from __future__ import annotations

import dataclasses
import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import reductions, results, spec
from ..core.artifacts import read_arrays
from ..core.errors import DataError, UsageError
from ..core.files import writing
from ..core.progress import track
from ..core.protocol import load, published_path
from ..core.published import published
from ..core.results import PublishedValue, ResultRow
from ..core.workspace import Workspace
from . import crate
from .crate import Cell, Contents, Digest, Evidence
from .ties import Ran, Specs, contradictions, read_run

__all__ = ["Bundled", "bundle"]

_ROOT = Path(__file__).resolve().parent.parent
WHEN = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip archive can say


@dataclass(frozen=True)
class Bundled:
    """What was written. counts: "recomputable", "as recorded", "missing" -> numbers of them. unmade: cell -> why.

    wrong: sentences on what contradicts itself: a number its own stored values, a row its run or its label.
    """

    path: Path
    size: int
    counts: Counter[str]
    unmade: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    wrong: tuple[str, ...]


def bundle(workspace: Workspace, protocol: str, tier: str, path: Path) -> Bundled:
    """Write the bundle of one protocol at one tier. Raises DataError where there are no results of it."""
    name, found, docstring = load(protocol)
    source = workspace.results(tier, name)
    rows = results.read(source, ResultRow)
    if not rows:
        raise DataError(f"{source} holds no rows; `run_protocol {name} --tier {tier}` makes them")
    if odd := crate.unprintable(rows):
        raise DataError(
            f"{source} has a text that cannot be printed in its place ({odd[:80]!r}); "
            "give it another name and measure again"
        )
    for folder in {row.run for row in rows} | {row.cell for row in rows} - {""}:
        if folder and ("/" in folder or crate.refused(folder)):
            raise DataError(
                f"{source} names a run or cell {folder!r}, and no file of a bundle can be called so; "
                "name the data set or the model with letters, digits and hyphens and measure again"
            )
    for row in rows:
        try:
            Specs.of(row)
        except ValueError as error:
            raise DataError(f"{source}: {crate.label(row)}: {error}; measure it again") from None
    title = docstring.strip().partition("\n")[0] or name
    missing: list[str] = []
    given = _files(workspace, name, tier, rows, missing)
    given[crate.PROTOCOL] = crate.described(name, title, found).encode()
    published = _published(given)
    cells: dict[str, Cell] = {}
    unmade: list[tuple[str, str]] = []
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    digests: dict[str, Digest] = {}
    with writing(path, "--out") as file, zipfile.ZipFile(file, "w") as archive:

        def add(name: str, content: bytes) -> None:
            if why := crate.refused(name):
                raise DataError(f"a bundle cannot hold {name!r}, which {why}")
            if sum(digest.size for digest in digests.values()) + len(content) > crate.MOST_BYTES:
                raise DataError(
                    f"the bundle would unpack to more than {crate.MOST_BYTES:,} bytes, which nobody would verify; "
                    "bundle a smaller tier"
                )
            info = zipfile.ZipInfo(name, WHEN)
            info.external_attr, info.create_system = 0o100644 << 16, 3
            packed = len(zlib.compress(content, 9))
            plain = len(content) > 4096 and len(content) > crate.MOST_RATIO * packed
            how = zipfile.ZIP_STORED if plain else zipfile.ZIP_DEFLATED
            archive.writestr(info, content, how, 9)
            digests[name] = Digest.of(content)

        for row in track([row for row in rows if row.status == "ok"], "bundle"):
            state, cell, arrays = _cell(workspace, row)
            if row.cell not in cells:
                for array in sorted(arrays):
                    add(crate.values_path(row.run, row.cell, array), _npy(arrays[array]))
            cells[row.cell] = cell
            counts[state] += 1
            if cell.why:
                unmade.append((crate.label(row), cell.why))
            elif trouble := contradiction(
                row, reductions.reduced(cell.reduction, arrays, row.dialect)
            ):
                wrong.append(f"{crate.label(row)}: {trouble}")
        evidence = Evidence(name, tier, cells, tuple(missing))
        wrong += contradictions(rows, found, evidence, _runs(rows, given, wrong))
        given[crate.EVIDENCE] = evidence.text().encode()
        for part, content in sorted(given.items()):
            add(part, content)
        contents = Contents(
            title=title,
            protocol=found,
            rows=rows,
            published=published,
            evidence=evidence,
            citation=given[crate.CITATION].decode(),
            given=dict(digests),
        )
        for part, content in crate.made(contents).items():
            add(part, content)
    return Bundled(path, path.stat().st_size, counts, tuple(unmade), tuple(missing), tuple(wrong))


def contradiction(row: ResultRow, found: reductions.Reduced) -> str:
    """What a row says otherwise than its values make; "" if nothing."""
    said = (row.value, row.stderr, row.n, row.censored)
    makes = (found.value, found.stderr, found.n, found.censored)
    if said == makes:
        return ""
    words = (
        f"{name} {ours!r} instead of {theirs!r}"
        for name, theirs, ours in zip(
            ("value", "stderr", "n", "censored"), said, makes, strict=True
        )
        if theirs != ours
    )
    return f"the stored values make {', '.join(words)}"


def _cell(workspace: Workspace, row: ResultRow) -> tuple[str, Cell, Mapping[str, NDArray[Any]]]:
    """(what can be made of it, what is said of it, its arrays)."""
    try:
        reduction = spec.load(spec.metric(row.metric_spec.partition("(")[0])).reduction
        unknown = ""
    except UsageError as error:
        reduction, unknown = "", f"its metric cannot be found here: {error}"
    identity = _identity(row)
    if row.artifact:
        try:
            arrays = _arrays(workspace, row)
        except DataError as error:
            return "missing", Cell(row.run, reduction, str(error), identity), {}
    else:
        arrays = {}
    why = unknown
    if not why and not arrays:
        why = f"{row.metric_spec} stores nothing but the number"
    elif not why and not reduction:
        why = f"{row.metric_spec} names no reduction that makes its number of what it stores"
    elif not why and reductions.argument(reduction) not in arrays:
        why = f"{row.metric_spec} stores no array {reductions.argument(reduction)!r}"
    elif not why:
        try:
            reductions.reduced(reduction, arrays, row.dialect)
        except UsageError as error:
            why = str(error)
    state = "as recorded" if why else "recomputable"
    return state, Cell(row.run, reduction, why, identity), arrays


def _identity(row: ResultRow) -> list[Any] | None:
    """What the cell's id is the hash of; None where this program would call such a cell otherwise."""
    from ..core.run import Run  # models come with torch, and `verify` imports this file

    try:
        specs = Specs.of(row)
        run = Run(dataclasses.replace(specs.model, trained=1.0), specs.train, (), row.seed)
        # its training options, which change its id alone, are not known from the row
        made = run.identity_of_cell(specs.model.trained, specs.dataset, specs.metric)
        found = [row.run, *made[1:]]
        crate.to_json(found)
    except (UsageError, ValueError, ImportError):
        return None
    return found if spec.identifier(found, 12) == row.cell else None


def _arrays(workspace: Workspace, row: ResultRow) -> dict[str, NDArray[Any]]:
    """What was stored beside a cell. Raises DataError unless it is there, whole, and that of the row."""
    arrays = read_arrays(workspace.root / "runs", row.artifact)
    for name, array in arrays.items():
        if array.dtype.kind not in crate.KINDS or array.nbytes > crate.MOST_READ // 2:
            raise DataError(
                f"runs/{row.artifact} holds {name!r}, {array.nbytes:,} bytes of {array.dtype}, which no bundle can"
            )
    if (found := reductions.digest(arrays)) != row.artifact_digest:
        raise DataError(
            f"runs/{row.artifact} is not what the row was measured with: digest {found}, not {row.artifact_digest}"
        )
    return arrays


def _npy(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.require(array, requirements="C"), (1, 0), allow_pickle=False)
    return out.getvalue()


def _files(
    workspace: Workspace, name: str, tier: str, rows: list[ResultRow], missing: list[str]
) -> dict[str, bytes]:
    """Path in the bundle -> content, of what lies about as files; what does not is added to `missing`."""
    found: dict[str, bytes] = {}

    def take(part: str, path: Path, sentence: str) -> None:
        try:
            found[part] = path.read_bytes()
        except FileNotFoundError:
            missing.append(sentence)
        except OSError as error:
            missing.append(f"{sentence} ({error.strerror})")

    for part in (crate.CITATION, crate.LICENCE, crate.LOCK):
        take(part, _ROOT / part, f"{part}: it is not installed with this copy of the program")
    if crate.CITATION not in found:
        raise DataError(f"{_ROOT / crate.CITATION} does not exist; a bundle says who made it")
    first = published_path(name)
    if published(name):
        take(crate.PUBLISHED, first, f"{crate.PUBLISHED}: {first.name} cannot be read")
        second = first.parent / "second_reading" / first.name
        take(crate.SECOND, second, f"{crate.SECOND}: the published values were read once only")
    for run in sorted({row.run for row in rows if row.run}):
        for part, path in (
            ("run.json", workspace.run(run) / "run.json"),
            ("log.csv", workspace.run(run) / "log.csv"),
            ("trained.json", workspace.trained(tier, run)),
        ):
            place = path.relative_to(workspace.root).as_posix()
            take(f"runs/{run}/{part}", path, f"runs/{run}/{part}: {place} is not there")
    for path in sorted(workspace.labels(tier, name, "x").parent.glob(f"{name}-*.json")):
        missing.append(f"{path.stem}: what this rater judged by hand is no part of a bundle")
    return found


def _runs(rows: list[ResultRow], given: Mapping[str, bytes], wrong: list[str]) -> dict[str, Ran]:
    runs = {}
    for run in sorted({row.run for row in rows if row.run}):
        part = f"runs/{run}/run.json"
        try:
            if part in given:
                runs[run] = read_run(run, given[part].decode())
        except ValueError as error:
            wrong.append(f"{part}: {error}")
    return runs


def _published(given: Mapping[str, bytes]) -> list[PublishedValue]:
    text = given.get(crate.PUBLISHED)
    return results.parse(text.decode(), PublishedValue, crate.PUBLISHED) if text else []
