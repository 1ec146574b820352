"""What is installed is what is here, and what is here is small."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_SHIPPED = {"tests", "benchmarks", "build", "dist", "runs", "results", "reports"}


def test_the_list_of_packages_is_true() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(("reprise", *file.parent.relative_to(ROOT).parts))
        for file in ROOT.rglob("*.py")
        if file.relative_to(ROOT).parts[0] not in NOT_SHIPPED
        and not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
    }
    assert sorted(listed) == sorted(found)


def test_what_is_kept_in_the_repository_is_small() -> None:
    """Data sets and checkpoints stay out of it, and whoever clones it gets every page of every report."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    sizes = {file.name: file.stat().st_size for file in files if file.exists()}
    large = {name: size for name, size in sizes.items() if size > 1_500_000}
    assert not large
