"""Verifying an evidence bundle: each number from its stored values, each table from the numbers. No torch, no network.

Nothing in the file is believed: it is never unpacked to disk, nothing of it is run, and sizes, names and digests are
checked before anything is read. A number is followed back to the label that it stands under (`ties.py`) and to what is
installed here (`known.py`). What remains beyond checking: values that were invented as a whole, with the runs that they
are said to come from and all that follows, verify as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import math
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from ..core import reductions, results
from ..core.errors import DataError, UsageError
from ..core.progress import track
from ..core.protocol import Protocol
from ..core.results import PublishedValue, ResultRow
from . import crate
from .bundle import contradiction
from .crate import Cell, Contents, Digest, Evidence
from .known import Known, differences
from .ties import Ran, Specs, contradictions, read_run

__all__ = ["Verified", "verify"]

VERIFIED, DIFFERS, UNDECIDED = 0, 1, 2
STATES = ("recomputed", "as recorded", "missing", "wrong")
MOST_TEXT = 64 * 2**20  # bytes of one file that is not an array
SMALL = (
    256 * 2**20
)  # bytes that any archive may unpack to; a larger one only to MOST_RATIO times its size
DAMAGED: tuple[type[Exception], ...] = (
    OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
SHOWN = 20  # sentences of a kind
UNCHECKED = (
    "commit", "dirty", "trained_commit", "torch", "device", "precision", "parameters", "data_digest", "note",
    *results.TIMING,
)  # fmt: skip
"""Columns of a row that follow from nothing else in a bundle."""


class Broken(Exception):
    """The bundle is not what a bundle is; the message says how."""


@dataclass
class Verified:
    """What was found. counts: (metric, reduction) -> state -> rows. troubles: what does not match. open: what could not
    be judged, and why. absent: what the bundle itself says is not in it. without: rows that have no number.
    """

    name: str = ""
    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    without: int = 0
    files: int = 0

    @property
    def code(self) -> int:
        """0: everything was made again and matches; 1: something does not match; 2: not all could be judged."""
        return DIFFERS if self.troubles else UNDECIDED if self.open else VERIFIED

    def count(self, state: str) -> int:
        """How many rows are in a state."""
        return sum(counter[state] for counter in self.counts.values())

    def __str__(self) -> str:
        """A table of metrics, what does not match, what could not be judged, and the outcome in a sentence."""
        parts = []
        if self.counts:
            lines = [
                [_plain(metric), _plain(how) or NO_REDUCTION, *(counter[state] for state in STATES)]
                for (metric, how), counter in self.counts.items()
            ]
            lines.append(["together", "", *(self.count(state) for state in STATES)])
            parts.append(tabulate(lines, ["metric", "from", *STATES], disable_numparse=True))
        lists = (
            ("Does not match:", self.troubles),
            ("Not judged:", self.open),
            ("Not in the bundle, as it says:", self.absent),
        )
        for title, found in lists:
            if found:
                more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
                shown = [f"  {_plain(sentence)}" for sentence in [*found[:SHOWN], *more]]
                parts.append("\n".join([title, *shown]))
        words = {
            VERIFIED: "verified: every number and every table follows from the stored values, byte for byte",
            DIFFERS: "NOT verified: the bundle contradicts itself",
            UNDECIDED: "not verified in full: what could be made again matches",
        }[self.code]
        measured = f"; {self.without} rows have no number (failed, n/a)" if self.without else ""
        recorded = f"as recorded, beyond checking, stand {', '.join(UNCHECKED)}"
        parts.append(
            f"{_plain(self.name or 'bundle')}: {words}; {self.files} files{measured}; {recorded}"
        )
        return "\n\n".join(parts)


NO_REDUCTION = "(no reduction)"


def verify(path: Path) -> Verified:
    """Make everything again and compare. Raises DataError where there is no such file."""
    if not path.is_file():
        raise DataError(f"{path} is not a file; `reprise bundle PROTOCOL -o {path}` writes one")
    found = Verified()
    try:
        with Archive(path) as archive:
            _verify(archive, found)
    except Broken as error:
        found.troubles.append(str(error))
    except RecursionError:
        found.troubles.append("something in it nests too deeply to be read")
    return found


def _verify(archive: Archive, found: Verified) -> None:
    found.files = len(archive.names)
    digests = _digests(archive, found)
    evidence = _evidence(archive)
    found.name = f"{evidence.name}, tier {evidence.tier}"
    title, protocol = _protocol(archive)
    rows = _rows(archive, crate.ROWS, ResultRow)
    published = (
        _rows(archive, crate.PUBLISHED, PublishedValue) if crate.PUBLISHED in digests else []
    )
    if odd := crate.unprintable(rows):
        raise Broken(f"{crate.ROWS} has a text that cannot be printed in its place: {odd[:80]!r}")
    for row in rows:
        if (row.protocol, row.tier) != (evidence.name, evidence.tier):
            raise Broken(f"{crate.ROWS} has a row of {row.protocol}, tier {row.tier}")
        if row.status == "ok" and row.cell not in evidence.cells:
            raise Broken(f"{crate.EVIDENCE} says nothing of {crate.label(row)}")
        try:
            Specs.of(row)
        except ValueError as error:
            raise Broken(f"{crate.ROWS}: {crate.label(row)}: {error}") from None
    _check_extras(archive, evidence, rows, found)
    runs = _runs(archive, rows, found)
    found.troubles += contradictions(rows, protocol, evidence, runs)
    known = Known(evidence.name, evidence.tier, protocol)
    again = [
        _recomputed(archive, evidence.cells[row.cell], row, known, runs.get(row.run), found)
        if row.status == "ok"
        else row
        for row in track(rows, "verify")
    ]
    found.without = sum(row.status != "ok" for row in rows)
    contents = Contents(
        title=title,
        protocol=protocol,
        rows=again,
        published=published,
        evidence=evidence,
        citation=archive.text(crate.CITATION),
        given={path: digest for path, digest in digests.items() if path not in crate.MADE},
    )
    try:
        made = crate.made(contents)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise Broken(f"its tables cannot be made: {error}") from error
    for path, content in made.items():
        if path == crate.MANIFEST and found.troubles:
            continue  # what it should say depends on what was told already
        if path not in archive.names:
            found.troubles.append(f"{path} is missing")
        elif (stored := archive.read(path, MOST_TEXT)) != content:
            found.troubles.append(_first_difference(path, stored, content))
    found.absent += evidence.missing
    if unnamed := sum(cell.identity is None for cell in evidence.cells.values()):
        found.open.append(
            f"{unnamed} cells do not say what their ids are the hash of: their specs stand as they were recorded"
        )
    found.open += differences(evidence.name, archive.text(crate.PROTOCOL), published)


# The archive ----------------------------------------------------------------------------------------------------------


class Archive:
    """A zip archive of somebody else's, read in memory; its directory is checked when it is opened."""

    def __init__(self, path: Path) -> None:
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeError, EOFError) as error:  # fmt: skip
            raise Broken(f"it is no zip archive, or a damaged one ({error})") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        try:
            self.names = self._checked(path.stat().st_size)
        except Broken:
            self.zip.close()
            raise
        self.arrays: dict[tuple[str, str], dict[str, str]] = {}
        for name in self.names:
            if named := crate.array_of(name):
                self.arrays.setdefault(named[:2], {})[named[2]] = name

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.zip.close()

    def _checked(self, size: int) -> dict[str, zipfile.ZipInfo]:
        infos = self.zip.infolist()
        if len(infos) > crate.MOST_FILES:
            raise Broken(f"it holds {len(infos):,} files, more than any bundle")
        names: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            # zipfile cuts a name at its first NUL; orig_filename is what is written
            name = info.orig_filename
            if why := crate.refused(name):
                raise Broken(f"a file in it is called {name!r}, which {why}")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise Broken(f"{name} is no plain file but a link or something else")
            if info.flag_bits & 1:
                raise Broken(f"{name} is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Broken(f"{name} is packed in a way that no bundle is")
            if name in names:
                raise Broken(f"{name} is in it twice")
            names[name] = info
        packed, unpacked = (
            sum(getattr(info, what) for info in infos) for what in ("compress_size", "file_size")
        )
        if packed > size or unpacked > min(crate.MOST_BYTES, max(SMALL, crate.MOST_RATIO * size)):
            raise Broken(
                f"its {size:,} bytes would unpack to {unpacked:,}; it is made to fill a disk or memory"
            )
        return names

    def chunks(self, name: str) -> Iterator[bytes]:
        """A file in parts."""
        if name not in self.names:
            raise Broken(f"{name} is missing")
        try:
            with self.zip.open(self.names[name]) as file:
                while chunk := file.read(2**20):
                    yield chunk
        except DAMAGED as error:
            raise Broken(f"{name} is damaged ({error})") from error

    def read(self, name: str, most: int = crate.MOST_READ) -> bytes:
        """A file whole, unless it is longer than any such file."""
        if name in self.names and self.names[name].file_size > most:
            raise Broken(
                f"{name} is {self.names[name].file_size:,} bytes long, more than any such file"
            )
        return b"".join(self.chunks(name))

    def text(self, name: str) -> str:
        """A file as text."""
        try:
            return self.read(name, MOST_TEXT).decode()
        except UnicodeDecodeError as error:
            raise Broken(f"{name} is no UTF-8 text ({error.reason})") from None


def _digests(archive: Archive, found: Verified) -> dict[str, Digest]:
    """The digest of every file, held against the manifest; the manifest itself is left out."""
    said: dict[str, str] = {}
    for line in archive.text(crate.MANIFEST).splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None or match[2] in said:
            raise Broken(f"{crate.MANIFEST} has a line that is no digest and name: {line[:80]!r}")
        said[match[2]] = match[1]
    there = archive.names.keys() - {crate.MANIFEST}
    for name in sorted(said.keys() - there):
        found.troubles.append(f"{name} is missing, which the manifest names")
    for name in sorted(there - said.keys()):
        found.troubles.append(f"{name} was added: the manifest does not name it")
    digests = {}
    for name in track(sorted(there), "digests"):
        digest, size = hashlib.sha256(), 0
        for chunk in archive.chunks(name):
            digest.update(chunk)
            size += len(chunk)
        digests[name] = Digest(size, digest.hexdigest())
        if name in said and said[name] != digests[name].sha256:
            found.troubles.append(f"{name} was changed: its digest is not that of the manifest")
    return digests


def _evidence(archive: Archive) -> Evidence:
    try:
        return crate.read_evidence(archive.text(crate.EVIDENCE))
    except (ValueError, KeyError, TypeError) as error:
        raise Broken(f"{crate.EVIDENCE} cannot be read: {error}") from error


def _protocol(archive: Archive) -> tuple[str, Protocol]:
    try:
        return crate.restored(archive.text(crate.PROTOCOL))
    except KeyError as error:
        raise Broken(f"{crate.PROTOCOL} does not say {error.args[0]!r}") from error
    except (ValueError, TypeError) as error:
        raise Broken(f"{crate.PROTOCOL} cannot be read: {error}") from error


def _rows(archive: Archive, name: str, cls: type[Any]) -> list[Any]:
    try:
        return results.parse(archive.text(name), cls, name)
    except DataError as error:
        raise Broken(str(error).partition(";")[0]) from error


def _check_extras(
    archive: Archive, evidence: Evidence, rows: list[ResultRow], found: Verified
) -> None:
    """Whatever belongs to no row and no run is not part of the evidence, and whatever does is there or said not to be,
    also where the manifest has been made to fit.
    """
    runs = {row.run for row in rows if row.run}
    cells = {(row.run, row.cell) for row in rows if row.status == "ok"}
    known = {*crate.MADE, *crate.GIVEN}
    known |= {f"runs/{run}/{name}" for run in runs for name in crate.OF_RUN}
    for name in sorted(archive.names.keys() - known):
        array = crate.array_of(name)
        if array is None or array[:2] not in cells:
            found.troubles.append(f"{name} belongs to no row of {crate.ROWS}")
    expected = [f"runs/{run}/{name}" for run in sorted(runs) for name in crate.OF_RUN]
    for name in (*expected, crate.LICENCE, crate.LOCK):
        if name not in archive.names and not any(
            s.startswith(f"{name}:") for s in evidence.missing
        ):
            found.troubles.append(f"{name} is not there, and the bundle does not say so")
    for cell in sorted(evidence.cells.keys() - {row.cell for row in rows if row.status == "ok"}):
        found.troubles.append(f"{crate.EVIDENCE} speaks of cell {cell}, which is in no row")


def _runs(archive: Archive, rows: list[ResultRow], found: Verified) -> dict[str, Ran]:
    """What every run was made of, where its run.json is there and is that run's."""
    runs = {}
    for run in sorted({row.run for row in rows if row.run}):
        name = f"runs/{run}/run.json"
        if name not in archive.names:
            found.open.append(f"{name} is not there: what was trained stands as it was recorded")
            continue
        try:
            runs[run] = read_run(run, archive.text(name))
        except ValueError as error:
            found.troubles.append(f"{name}: {error}")
    return runs


# One number -----------------------------------------------------------------------------------------------------------


def _recomputed(
    archive: Archive, cell: Cell, row: ResultRow, known: Known, ran: Ran | None, found: Verified
) -> ResultRow:
    """The row with the number that its values make; as it is where they cannot make it, and that is noted."""
    label, again, state = crate.label(row), row, "recomputed"
    try:
        arrays = _arrays(archive, row)
        if arrays and reductions.digest(arrays) != row.artifact_digest:
            raise Broken(
                f"its arrays have the digest {reductions.digest(arrays)}, the row says {row.artifact_digest!r}"
            )
        if row.artifact and not arrays and not cell.why:
            raise Broken("its values are missing, and nothing says why")
        if not cell.why:
            number = reductions.reduced(cell.reduction, arrays, row.dialect)
            again = dataclasses.replace(row, **vars(number))
            if trouble := contradiction(row, number):
                raise Broken(trouble)
        if arrays and (own := known.reduction(row, cell)):
            # whatever the bundle says of it: the metric's own reduction must not make another number
            with contextlib.suppress(UsageError):
                if trouble := contradiction(row, reductions.reduced(own, arrays, row.dialect)):
                    raise Broken(f"by {own}, which the metric says here, {trouble}")
        if trouble := next(known.contradictions(row, cell, ran), ""):
            raise Broken(trouble)
        doubts = [*known.doubts(row, cell, ran)]
        if cell.why or doubts:
            state = "missing" if row.artifact and not arrays else "as recorded"
        if cell.why:
            found.open.append(f"{label} ({state}): {cell.why}")
        found.open += [f"{label}: {doubt}" for doubt in doubts]
    except (Broken, UsageError) as error:
        state = "wrong"
        found.troubles.append(f"{label}: {error}")
    found.counts.setdefault((row.metric, cell.reduction), Counter())[state] += 1
    return again


def _arrays(archive: Archive, row: ResultRow) -> dict[str, NDArray[Any]]:
    paths = archive.arrays.get((row.run, row.cell), {})
    return {array: _array(archive.read(path), path) for array, path in paths.items()}


def _array(content: bytes, name: str) -> NDArray[Any]:
    """An NPY file of plain numbers, truth values or text; nothing is allocated that is not there."""
    file = io.BytesIO(content)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("it is of another version of the format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        rest = content[file.tell() :]
        if dtype.hasobject or dtype.kind not in crate.KINDS or fortran:
            raise ValueError(f"{dtype} is no type of a stored value")
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(rest):
            raise ValueError(f"shape {shape} is not what it holds")
        found: NDArray[Any] = np.frombuffer(rest, dtype).reshape(shape)
    except (ValueError, TypeError, OverflowError, SyntaxError, RecursionError, MemoryError) as error:  # fmt: skip
        raise Broken(f"{name} is no array: {error}") from error
    return found


# What it is held against ----------------------------------------------------------------------------------------------


def _first_difference(path: str, stored: bytes, made: bytes) -> str:
    theirs, ours = (text.decode(errors="replace").splitlines() for text in (stored, made))
    for number, (their, our) in enumerate(zip(theirs, ours, strict=False), 1):
        if their != our:
            begin = max(0, next(i for i in range(len(their) + 1) if their[:i] != our[:i]) - 20)
            return (
                f"{path}, line {number}, is not what its sources make: "
                f"{their[begin : begin + 60]!r} instead of {our[begin : begin + 60]!r}"
            )
    return f"{path} is not what its sources make: {len(stored)} bytes instead of {len(made)}"


def _plain(text: str) -> str:
    """Text for a terminal: one line, and nothing that could steer it."""
    return "".join(character if character.isprintable() else "�" for character in text)
