from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from reprise.core.dataset import DatasetInfo


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def mnist4() -> DatasetInfo:
    return DatasetInfo("mnist4", (1, 128, 128), objects=4)


@pytest.fixture(scope="session")
def half_size() -> DatasetInfo:
    return DatasetInfo("digits4", (1, 64, 64), objects=4)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium, driven by Playwright; REPRISE_BROWSER=required turns a missing one into a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        why = "no Chromium: `apt-get install chromium` and `pip install 'reprise[browser]'` let this test run"
        if os.environ.get("REPRISE_BROWSER") == "required":
            pytest.fail(why)
        pytest.skip(why)
    # Debian's package; in a container there is neither a sandbox nor a GPU, and nothing may call home.
    flags = [
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-component-update",
    ]
    flags += ["disable-background-networking", "disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--headless", *(f"--{flag}" for flag in flags)]
        )
        yield browser
        browser.close()


FAULTY_FILES = ("test_faults_", "test_slurm", "test_launch", "test_shards")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """`make faults`: what was done to the program, how often, and how often something was lost or wrong.

    A test of faults fails if anything at all is, so its tries count as lost together.
    """
    target = os.environ.get("REPRISE_FAULTS")
    if not target:
        return
    table: dict[str, list[int]] = {}
    for kind in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(kind, []):
            file, _, name = report.nodeid.rpartition("/")[2].partition("::")
            if not file.startswith(FAULTY_FILES) or (kind == "passed" and report.when != "call"):
                continue
            words = name.partition("[")[0].removeprefix("test_").replace("_", " ")
            tries = int(dict(report.user_properties).get("tries", 1))
            line = table.setdefault(words, [0, 0])
            line[0] += tries
            line[1] += tries * (kind != "passed")
    lines = ["| what holds | tries | broken |", "|---|---|---|"]
    lines += [f"| {words} | {tries} | {broken} |" for words, (tries, broken) in table.items()]
    totals = [sum(column) for column in zip(*table.values(), strict=True)] if table else [0, 0]
    lines.append(f"| **together** | {totals[0]} | {totals[1]} |")
    terminalreporter.write_line("\n".join(lines))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text("\n".join(lines) + "\n")
