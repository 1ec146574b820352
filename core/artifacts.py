"""The arrays stored beside cells. No torch here."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .reductions import digest
from .results import ResultRow

__all__ = ["Artifacts", "read_arrays", "stored_at"]

log = logging.getLogger(__name__)


def stored_at(runs: Path, artifact: str) -> Path | None:
    """The file of arrays that a row names below `runs`; None where it is not there, or the row names another place.

    The name alone decides what lies below: the folder of a run may be a link to another disk.
    """
    named = Path(artifact)
    if named.anchor or ".." in named.parts:
        return None
    path = runs / named
    return path if os.path.isfile(path) else None


def read_arrays(runs: Path, artifact: str) -> dict[str, NDArray[Any]]:
    """The arrays that a row names, by name. Raises DataError where they are not there or cannot be read."""
    path = stored_at(runs, artifact)
    if path is None:
        raise DataError(f"runs/{artifact} is not there")
    try:
        # numpy closes no file that it opened itself and could not read
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (
        OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, MemoryError, zlib.error, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        why = error.strerror if isinstance(error, OSError) else ""
        raise DataError(f"runs/{artifact} cannot be read ({why or error})") from error


class Artifacts(Mapping[tuple[str, str, str, int], Mapping[str, NDArray[Any]]]):
    """The arrays stored beside cells, by the key of their row. Only those that are there, can be read and are those
    that the row was measured with: a run of the same name on another machine has other bits.
    """

    def __init__(self, runs: Path, rows: Sequence[ResultRow]) -> None:
        self.named = {row.key: row for row in rows if row.artifact and row.status == "ok"}
        self._runs = runs

    @cached_property
    def _whole(self) -> dict[tuple[str, str, str, int], dict[str, NDArray[Any]]]:
        found = {}
        for key, row in self.named.items():
            if stored_at(self._runs, row.artifact) is None:
                continue
            try:
                arrays = read_arrays(self._runs, row.artifact)
            except DataError as error:
                log.warning("%s; its images are left out", error)
                continue
            if row.artifact_digest and digest(arrays) != row.artifact_digest:
                log.warning(
                    "runs/%s is not what %s of %s on %s, seed %d, was measured with; its images are left out",
                    row.artifact, row.metric, row.model, row.dataset, row.seed,
                )  # fmt: skip
                continue
            found[key] = arrays
        return found

    def __getitem__(self, key: tuple[str, str, str, int]) -> Mapping[str, NDArray[Any]]:
        return self._whole[key]

    def __iter__(self) -> Iterator[tuple[str, str, str, int]]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)

    @property
    def gone(self) -> int:
        """How many arrays the rows name that are not there."""
        return len(self.named) - len(self._whole)

    @property
    def source(self) -> str:
        """Twelve hexadecimal digits of which arrays the rows name, there or not."""
        named = [
            repr((row.key, row.artifact_digest or row.artifact)) for row in self.named.values()
        ]
        return hashlib.sha256(repr(sorted(named)).encode()).hexdigest()[:12]
