"""Collects what the benchmarks measured; with `--write-results`, as `make bench` calls it, writes RESULTS.md."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from tabulate import tabulate

from reprise.training.engine import cores

HERE = Path(__file__).parent


@dataclass
class Findings:
    """lines: of the table. sections: Markdown that follows it, by heading. load: average when the session began."""

    lines: list[tuple[str, str, str, str]] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def line(self, work: str, measured: str, target: str, met: bool | None) -> None:
        """met: None where there is nothing to meet, or nothing could be measured."""
        self.lines.append((work, measured, target, {True: "met", False: "NOT MET", None: ""}[met]))


KEY = pytest.StashKey[Findings]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-results", action="store_true", help="write benchmarks/RESULTS.md")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[KEY] = Findings()


@pytest.fixture
def findings(request: pytest.FixtureRequest) -> Findings:
    return request.config.stash[KEY]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    findings = config.stash[KEY]
    if not findings.lines:
        return
    terminalreporter.section("how fast")
    terminalreporter.write_line(table(findings, "simple"))
    if config.getoption("--write-results"):
        (HERE / "RESULTS.md").write_text(page(findings), encoding="utf-8")
        terminalreporter.write_line(f"\nwritten: {HERE / 'RESULTS.md'}")


def table(findings: Findings, style: str) -> str:
    return tabulate(findings.lines, ["work", "measured", "target", ""], style)


def page(findings: Findings) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    sections = "".join(f"\n## {title}\n\n{text}\n" for title, text in findings.sections.items())
    return f"""# How fast

`make bench` writes this page. Every ratio is of medians; the contestants work in turns, each in a process of its own.
The opponent is the straightforward code of [tests/straightforward.py](../tests/straightforward.py): torch's own layers,
eager fp32, glimpses pasted one by one with `affine_grid` and `grid_sample`, every particle through the whole model.

{datetime.now(UTC):%Y-%m-%d}, {processor()}, {cores()} cores, {memory:.0f} GiB, {gpu};
Python {platform.python_version()}, torch {torch.__version__}. Load average when it began: {findings.load:.2f}.

{table(findings, "github")}
{sections}"""


def processor() -> str:
    """The model name and the instructions that matter here."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    flags = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {f}" in text]
    return f"{[*names, platform.machine()][0]} ({', '.join(flags)})"
