from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from reprise.core.dataset import DatasetInfo


def _of_the_process() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """The same draws for every test; and none leaves torch otherwise than it was found (threads too many make all the
    tests that follow several times slower).
    """
    torch.manual_seed(0)
    before = _of_the_process()
    yield
    assert _of_the_process() == before


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


LONG_FILES = tuple(
    f"test_{name}.py"
    for name in (
        "slurm",
        "faults_models",
        "judge",
        "on_cuda",
        "known",
        "launch",
        "arrow_judge",
        "shards",
        "selftest",
    )
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait for other processes, or take longest, go first: or one process ends long after the other."""
    items.sort(key=lambda item: item.path.name not in LONG_FILES)


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Iterator[dict[str, int]]:
    """What a test of faults counts: tries; finished things that were lost; wrong things that were believed."""
    counted = {"tries": 1, "lost": 0, "wrong": 0}
    record_property("tally", counted)
    yield counted
    assert (counted["lost"], counted["wrong"]) == (0, 0)


FAULTY_FILES = ("test_faults_", "test_slurm", "test_launch", "test_shards")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """`make faults`: what was done to the program, how often, and how often something was lost or wrong.

    A test without a tally tries once and asserts that nothing is; where a test fails, the table says so.
    """
    target = os.environ.get("REPRISE_FAULTS")
    if not target:
        return
    table: dict[str, dict[str, int]] = {}
    for kind in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(kind, []):
            file, _, name = report.nodeid.rpartition("/")[2].partition("::")
            if not file.startswith(FAULTY_FILES) or (kind == "passed" and report.when != "call"):
                continue
            words = name.partition("[")[0].removeprefix("test_").replace("_", " ")
            line = table.setdefault(
                words, dict.fromkeys(("tries", "lost", "wrong", "failed", "skipped"), 0)
            )
            counted = dict(report.user_properties).get("tally", {"tries": 1})
            for column, count in counted.items():
                line[column] += count * (kind in ("passed", "failed"))
            line["failed"] += kind in ("failed", "error")
            line["skipped"] += kind == "skipped"
    lines = ["| what was tried, and holds | tries | lost | wrong |", "|---|---|---|---|"]
    for words, line in table.items():
        if line["failed"]:
            words += f" — **no: {line['failed']} of its tests failed**"
        if line["skipped"]:
            words += f" — {line['skipped']} of its tests were skipped here"
        lines.append(f"| {words} | {line['tries']} | {line['lost']} | {line['wrong']} |")
    totals = [sum(line[column] for line in table.values()) for column in ("tries", "lost", "wrong")]
    lines.append("| **together** | " + " | ".join(map(str, totals)) + " |")
    terminalreporter.write_line("\n".join(lines))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text("\n".join(lines) + "\n", encoding="utf-8")
