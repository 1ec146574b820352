"""The arrays stored beside cells. No torch here."""

from __future__ import annotations

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.results import ResultRow

__all__ = ["Artifacts"]

log = logging.getLogger(__name__)


class Artifacts(Mapping[tuple[str, str, str, int], Mapping[str, NDArray[Any]]]):
    """The arrays stored beside cells, by the key of their row; read when asked for. Only those that are there."""

    def __init__(self, runs: Path, rows: Sequence[ResultRow]) -> None:
        self.named = {row.key: row for row in rows if row.artifact and row.status == "ok"}
        self._paths = {
            key: path
            for key, row in self.named.items()
            if (path := (runs / row.artifact).resolve()).is_relative_to(runs.resolve())
            and path.is_file()
        }
        self._read: dict[tuple[str, str, str, int], dict[str, NDArray[Any]]] = {}

    def __getitem__(self, key: tuple[str, str, str, int]) -> Mapping[str, NDArray[Any]]:
        if key not in self._read:
            try:
                # numpy closes no file that it opened itself and could not read
                with (
                    self._paths[key].open("rb") as file,
                    np.load(file, allow_pickle=False) as stored,
                ):
                    self._read[key] = {name: stored[name] for name in stored.files}
            except (
                OSError,
                ValueError,
                KeyError,
                EOFError,
                MemoryError,
                NotImplementedError,
                zlib.error,
                zipfile.BadZipFile,
            ) as error:
                log.warning(
                    "%s cannot be read (%s); its images are left out", self._paths[key], error
                )
                self._read[key] = {}
        return self._read[key]

    def __iter__(self) -> Iterator[tuple[str, str, str, int]]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def gone(self) -> int:
        """How many arrays the rows name that are not there."""
        return len(self.named) - len(self._paths)

    @property
    def source(self) -> str:
        """Twelve hexadecimal digits of which arrays the rows name, there or not."""
        named = [
            repr((row.key, row.artifact_digest or row.artifact)) for row in self.named.values()
        ]
        return hashlib.sha256(repr(sorted(named)).encode()).hexdigest()[:12]
