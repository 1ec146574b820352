"""The files of a measured cell, runs/<run>/cells/<cell>.json and .npz: where measuring and collecting meet."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import reductions, results
from ..core.files import write_bytes, write_text
from ..core.results import ResultRow
from ..core.workspace import Workspace

# What a cell file holds: everything of a row but what it is, which the plan knows and labels differently per protocol.
PLANNED = {"protocol", "tier", "model", "train", "dataset", "metric", "seed", "stand_in", "better"}
PLANNED |= {"model_spec", "dataset_spec", "metric_spec", "run", "cell"}
CHECKSUM = "checksum"
MEASURED = tuple(f.name for f in dataclasses.fields(ResultRow) if f.name not in PLANNED)


def path(workspace: Workspace, run: str, cell: str) -> Path:
    """Where a cell's numbers are."""
    return workspace.run(run) / "cells" / f"{cell}.json"


def read(workspace: Workspace, run: str, cell: str) -> dict[str, Any] | None:
    """What was measured, or None: not measured, or the file is damaged or holds what no row can, and then it is
    measured again.
    """
    try:
        stored = json.loads(path(workspace, run, cell).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict):
        return None
    checksum = stored.pop(CHECKSUM, None)  # None: written before there were any
    if checksum is not None and checksum != _checksum(stored):
        return None
    if stored.keys() != set(MEASURED):
        return None
    return stored if all(results.fits(*one) for one in stored.items()) else None


def write(workspace: Workspace, run: str, cell: str, found: Mapping[str, Any]) -> None:
    """Write a cell's numbers whole."""
    blank = {f.name: f.default for f in dataclasses.fields(ResultRow) if f.name in MEASURED}
    whole = {**blank, **found}
    text = json.dumps(
        {**whole, CHECKSUM: _checksum(whole)}, indent=1, sort_keys=True, allow_nan=False
    )
    write_text(path(workspace, run, cell), text + "\n")


def _checksum(stored: Mapping[str, Any]) -> str:
    """Of what was measured: a digit that a failing disk has changed must not enter a table."""
    text = json.dumps(dict(stored), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def measured(row: ResultRow) -> dict[str, Any]:
    """The measured columns of a row."""
    return {name: getattr(row, name) for name in MEASURED}


def row(planned: ResultRow, stored: Mapping[str, Any]) -> ResultRow:
    """The row of a cell: what it is, from the plan, and the number, from its file."""
    return dataclasses.replace(planned, **stored)


def write_arrays(
    workspace: Workspace, run: str, cell: str, arrays: Mapping[str, NDArray[Any]]
) -> tuple[str, str]:
    """Store arrays beside the cell; (path below runs/, digest of their names, types, shapes and values)."""
    if not arrays:
        return "", ""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{k: arrays[k] for k in sorted(arrays)})
    target = path(workspace, run, cell).with_suffix(".npz")
    write_bytes(target, buffer.getvalue())
    return f"{run}/cells/{target.name}", reductions.digest(arrays)


def arrays_are_whole(workspace: Workspace, run: str, cell: str) -> bool:
    """Whether the arrays beside a cell can be read, or there are none (they are not committed, so that is no fault)."""
    target = path(workspace, run, cell).with_suffix(".npz")
    if not target.exists():
        return True
    try:
        with zipfile.ZipFile(target) as archive:
            return archive.testzip() is None
    except (OSError, ValueError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile):
        return False
