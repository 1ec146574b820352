"""Who may import whom: DESIGN section 9, as a table."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "core": set(),
    "nn": {"core"},
    "models": {"core", "nn"},
    "baselines": {"core", "nn"},
    "metrics": {"core", "nn"},
    "data": {"core"},
    "protocols": {"core"},
    "training": {"core", "nn"},  # the engine says which kernels nn uses
    "render": {"core"},
    "evidence": {"core", "render"},
    "launch": {"core", "training"},
    # it asks all of them whether they keep their promises, and nobody but the command line asks it
    "guard": {
        "core",
        "nn",
        "models",
        "baselines",
        "data",
        "metrics",
        "training",
        "launch",
        "render",
    },
    "commands": {"core", "launch", "render", "data", "evidence", "guard"},
    "cli.py": {"core", "commands"},
}
WITHOUT_TORCH = (
    "cli",
    "core.results",
    "core.protocol",
    "core.spec",
    "core.reductions",
    "evidence.verify",
    "launch.display",
    "launch.processes",
    "guard.selftest",
)


def ours(file: Path) -> set[str]:
    """The folders of this repository that a file imports from, itself left out."""
    package = file.relative_to(ROOT).parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            names = [alias.name for alias in node.names] if not any(base) else [base[0]]
            found |= {name for name in names if name}
        elif isinstance(node, ast.ImportFrom | ast.Import):
            modules = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
            )
            assert not any(m.split(".")[0] == "reprise" for m in modules), (
                f"{file}: imports are relative inside"
            )
    return found - {file.relative_to(ROOT).parts[0]}


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_imports_go_one_way(part: str) -> None:
    files = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py"))
    for file in files:
        assert ours(file) <= ALLOWED[part], (
            f"{file.relative_to(ROOT)} imports {ours(file) - ALLOWED[part]}"
        )


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_listing_reporting_and_checking_start_without_torch(module: str) -> None:
    script = f"import sys, reprise.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_all_protocols_are_listed_without_torch() -> None:
    script = (
        "import sys; from reprise.cli import main; main(['list']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "gnm_table1" in done.stdout
