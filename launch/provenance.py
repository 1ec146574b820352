"""Which code made a number."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Provenance:
    """commit: of the repository that this package is; "" and None where it is not a git checkout.

    dirty: whether anything but what runs write (results, reports, runs) differs from that commit.
    """

    commit: str
    dirty: bool | None

    def __str__(self) -> str:
        """As `git describe` writes it: the commit, with `-dirty` if anything differed from it."""
        return f"{self.commit}-dirty" if self.dirty else self.commit


def provenance(root: Path = ROOT) -> Provenance:
    """Of the package at `root`."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return Provenance("", None)  # installed inside somebody else's repository
    commit = _git(root, "rev-parse", "HEAD") or ""
    written = [f":(exclude){folder}" for folder in ("results", "reports", "runs")]
    status = _git(root, "status", "--porcelain", "--", ".", *written)
    return Provenance(commit, None if status is None else bool(status))


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
