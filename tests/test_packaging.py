"""What is installed is what is here."""

from __future__ import annotations

import tomllib
from pathlib import Path

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
