"""What is measured already: rows beside the results and cells in runs/; and whether it is of what the names now mean.

Rows are read from the files that are named after protocols, and from those of shards; of any other file nobody knows
why it lies there. A protocol's own file comes first. Where two files say different things of one cell, neither is
believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import protocol as protocols
from ..core import results, trained
from ..core.errors import DataError
from ..core.results import ResultRow
from ..core.run import Run
from ..core.workspace import Workspace
from . import cells

if TYPE_CHECKING:
    from .plan import Planned

DONE = ("ok", "n/a", "diverged")
SHARD = re.compile(r"(?P<protocol>\w+)\.(?P<index>\d+)-of-(?P<count>\d+)")
NUMBER = ("status", "value", "stderr", "n", "censored")


class Known:
    """What one protocol may take as measured at one tier.

    troubles: a sentence about each file of another protocol that cannot be read.
    """

    def __init__(self, workspace: Workspace, tier: str, protocol: str) -> None:
        self.workspace, self.tier, self.protocol = workspace, tier, protocol
        self.troubles: list[str] = []
        self._rows: dict[str, tuple[ResultRow, Path]] = {}  # cell id -> finished row, where first
        self._runs: set[str] = set()  # of which there are such rows
        self._conflicts: dict[str, str] = {}  # cell id -> a sentence about the files that disagree
        self._doubts: dict[str, str] = {}
        for path, row in self._read():
            self._lay(path, row)

    def has_rows(self, run: Run) -> bool:
        """Whether finished rows of a run are there, of whatever metric."""
        return run.id in self._runs

    def measured(self, planned: Planned) -> dict[str, Any] | None:
        """What was measured of a cell, finished or failed; None if nothing was.

        Raises DataError where two files disagree about it.
        """
        assert planned.run is not None
        if planned.id in self._conflicts:
            raise DataError(self._conflicts[planned.id])
        if planned.id in self._rows:
            return cells.measured(self._rows[planned.id][0])
        return cells.read(self.workspace, planned.run.id, planned.id)

    def doubt(self, run: Run) -> str:
        """Why what was measured of a run does not belong to its name any more, as a sentence; "" if it does.

        Rows of which nothing is kept but themselves are taken at their word.
        """
        if run.id not in self._doubts:
            self._doubts[run.id] = self._doubt(run)
        return self._doubts[run.id]

    def _doubt(self, run: Run) -> str:
        folder, path = self.workspace.run(run.id), self.workspace.trained(self.tier, run.id)
        here, kept = described(folder), trained.read(path)
        if self.has_rows(run):
            then = kept.settings if kept is not None else here
            if then is not None and (changed := _changed(run, then, path)):
                return f"the rows of {run.id} were made with {changed} to train and measure it anew"
        if here is not None and (changed := _changed(run, here, folder / "run.json")):
            return f"{folder} was made with {changed}, or delete {folder} to train again"
        return ""

    def _lay(self, path: Path, row: ResultRow) -> None:
        first, where = self._rows.setdefault(row.cell, (row, path))
        self._runs.add(row.run)
        ours, theirs = ([getattr(one, name) for name in NUMBER] for one in (first, row))
        if ours != theirs:
            self._conflicts[row.cell] = (
                f"{where} and {path} disagree about {row.metric} of {row.model} on {row.dataset}, seed {row.seed}: "
                f"{_said(first)} and {_said(row)}; take away the file that is wrong"
            )

    def _read(self) -> Iterator[tuple[Path, ResultRow]]:
        """The finished rows of the tier, the protocol's own first."""
        own, known = self.workspace.results(self.tier, self.protocol), protocols.names()
        files = [path for path in own.parent.glob("*.csv") if path.stem in known]
        for path in own.parent.glob("shards/*.csv"):
            if (named := SHARD.fullmatch(path.stem)) and named["protocol"] in known:
                files.append(path)
        for path in sorted(files, key=lambda path: (path != own, path)):
            try:
                rows = results.read_of(path, self.tier, path.stem.partition(".")[0])
            except DataError as error:
                if path.stem.partition(".")[0] == self.protocol:
                    raise
                self.troubles.append(str(error))
                continue
            yield from ((path, row) for row in rows if row.cell and row.status in DONE)


def described(folder: Path) -> Mapping[str, Any] | None:
    """The settings in the run.json of a folder below runs/; None where there is none that can be read."""
    try:
        found = json.loads((folder / "run.json").read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _changed(run: Run, then: Mapping[str, Any], path: Path) -> str:
    try:
        return run.changed(then)
    except (KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error!r}); restore it, or delete it to go on without it"
        ) from error


def _said(row: ResultRow) -> str:
    return row.status if row.value is None else f"{row.censored}{row.value!r}"
