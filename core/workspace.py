"""Where things are: results/, reports/ and runs/ below one folder, the data root, and the cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import UsageError

NOISE = "noise.csv"  # beside the tiers' folders
BY_HAND = (
    "_by_hand"  # ends the name of what people judged of a protocol's samples (render/label.py)
)


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` parts of the runs, from 1."""

    index: int
    count: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """`2/4`. Raises UsageError for anything else."""
        index, _, count = text.partition("/")
        if not (index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
            raise UsageError(f"{text!r} is not a shard; expected I/N with 1 <= I <= N, such as 2/4")
        return cls(int(index), int(count))

    def __str__(self) -> str:
        """`2/4`."""
        return f"{self.index}/{self.count}"


@dataclass(frozen=True)
class Workspace:
    """The folder that results, reports and runs are written below (the clone, unless told otherwise)."""

    root: Path

    def results(self, tier: str, protocol: str, shard: Shard | None = None) -> Path:
        """The CSV of one protocol at one tier, or of one shard of it: `shards/gnm_table1.2-of-4.csv`."""
        folder = self.root / "results" / tier
        if shard is None:
            return folder / f"{protocol}.csv"
        return folder / "shards" / f"{protocol}.{shard.index}-of-{shard.count}.csv"

    def trained(self, tier: str, run_id: str) -> Path:
        """What is kept beside the results of how a run was trained (core/trained.py)."""
        return self.root / "results" / tier / "trained" / f"{run_id}.json"

    def labels(self, tier: str, protocol: str, rater: str) -> Path:
        """What one person said of the samples of a protocol (render/label.py)."""
        return self.root / "results" / tier / "labels" / f"{protocol}-{rater}.json"

    @property
    def noise(self) -> Path:
        """The CSV of measured noise, of all tiers."""
        return self.root / "results" / NOISE

    def reports(self, tier: str) -> Path:
        """The folder of one tier's pages."""
        return self.root / "reports" / tier

    def run(self, run_id: str) -> Path:
        """The folder of one run: run.json, checkpoint, log.csv, cells/."""
        return self.root / "runs" / run_id


def row_files(folder: Path) -> list[Path]:
    """The CSVs of rows below a folder such as results/, those of shards too; below a root, those of its results/.

    Measured noise lies beside the tiers, but a line of it is no row of results.
    """
    below = folder / "results" if (folder / "results").is_dir() else folder
    return sorted(file for file in below.rglob("*.csv") if file.name != NOISE)


def unsharded(path: Path) -> list[Path]:
    """The CSVs of rows that `path` names: itself, or those below it but for shards'; none where nothing is.

    A shard's rows stand in its protocol's own file once they are merged, and would count twice.
    """
    if not path.is_dir():
        return [path] if path.exists() else []
    return [file for file in row_files(path) if file.parent.name != "shards"]


def data_root() -> Path:
    """REPRISE_DATA, or the user's cache folder."""
    if chosen := os.environ.get("REPRISE_DATA"):
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("reprise"))


def cache_folder() -> Path:
    """Where what can be made again is kept: REPRISE_CACHE, or the user's cache folder.

    Not the data root, which may be read-only.
    """
    if chosen := os.environ.get("REPRISE_CACHE"):
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("reprise"))
