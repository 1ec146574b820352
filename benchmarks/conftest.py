"""Collects what the benchmarks measured, in benchmarks/results.csv and the page that is made of it, RESULTS.md.

`--write-results`, as `make bench` calls it, replaces both. `--update-results` replaces the lines that were measured
now. Each line says when, at which commit, on which machine and how busy that was.
"""

from __future__ import annotations

import csv
import io
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from tabulate import tabulate

from reprise.core.files import write_text
from reprise.launch.provenance import provenance
from reprise.training.engine import cores

HERE = Path(__file__).parent
LINES, PAGE = HERE / "results.csv", HERE / "RESULTS.md"


@dataclass(frozen=True)
class Line:
    """load: average when the session began."""

    work: str
    measured: str
    target: str
    verdict: str
    date: str
    commit: str
    load: str
    machine: str


@dataclass
class Findings:
    """lines: of the table. sections: Markdown that follows it, by heading."""

    lines: list[Line] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def line(self, work: str, measured: str, target: str, met: bool | None) -> None:
        """met: None where there is nothing to meet, or nothing could be measured."""
        verdict = {True: "met", False: "NOT MET", None: ""}[met]
        found = Line(
            work, measured, target, verdict, today(), code(), f"{self.load:.2f}", machine()
        )
        self.lines.append(found)


KEY = pytest.StashKey[Findings]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-results", action="store_true", help="write RESULTS.md anew")
    parser.addoption("--update-results", action="store_true", help="what is measured now, into it")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[KEY] = Findings()


@pytest.fixture
def findings(request: pytest.FixtureRequest) -> Findings:
    return request.config.stash[KEY]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    findings = config.stash[KEY]
    if not (findings.lines or findings.sections):
        return
    terminalreporter.section("how fast")
    if findings.lines:
        terminalreporter.write_line(table(findings.lines, "simple"))
    lines, sections = findings.lines, findings.sections
    if config.getoption("--update-results"):
        lines = updated(stored(), lines)
        sections = sections_of(PAGE.read_text("utf-8")) | sections
    elif not config.getoption("--write-results"):
        return
    out = io.StringIO()
    writer = csv.DictWriter(out, [part.name for part in fields(Line)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, lines))
    write_text(LINES, out.getvalue())
    write_text(PAGE, page(lines, sections))
    terminalreporter.write_line(f"\nwritten: {PAGE}")


def stored() -> list[Line]:
    """What stands in results.csv."""
    with LINES.open(newline="", encoding="utf-8") as file:
        return [Line(**line) for line in csv.DictReader(file)]


def updated(before: Iterable[Line], now: Iterable[Line]) -> list[Line]:
    """Each line where its work stood, the newer of two; work that is new stands at the end."""
    newer = {(line.work, line.machine): line for line in now}
    kept = [newer.pop((line.work, line.machine), line) for line in before]
    return [*kept, *newer.values()]


def sections_of(text: str) -> dict[str, str]:
    """What follows the table, by heading."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return {title: body.strip() for title, body in zip(parts[::2], parts[1::2], strict=True)}


def table(lines: Iterable[Line], style: str) -> str:
    shown = [(x.work, x.measured, x.target, x.verdict, x.date, x.commit, x.load) for x in lines]
    head = ["work", "measured", "target", "", "date", "commit", "load"]
    return tabulate(shown, head, style, disable_numparse=True)


def page(lines: list[Line], sections: dict[str, str]) -> str:
    told = "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())
    machines = dict.fromkeys(line.machine for line in lines)
    tables = "\n\n".join(
        f"{name}:\n\n{table([line for line in lines if line.machine == name], 'github')}"
        for name in machines
    )
    return f"""# How fast

`make bench` writes this page. Every ratio is of medians; the contestants work in turns, each in a process of its own.
Of work below a second each turn has two, and the second counts: the first finds the machine as another left it.
In lines older than commit 925ccce it is the first.
The opponent is the straightforward code of [tests/straightforward.py](../tests/straightforward.py): torch's own layers,
eager fp32, glimpses pasted one by one with `affine_grid` and `grid_sample`, every particle through the whole model.
Load: the machine's average when a session began.

{tables}
{told}"""


def today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def code() -> str:
    made_by = provenance()
    return made_by.commit[:7] + "-dirty" * bool(made_by.dirty)


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    python, version = platform.python_version(), torch.__version__
    return (
        f"{processor()}, {cores()} cores, {memory:.0f} GiB, {gpu}; Python {python}, torch {version}"
    )


def processor() -> str:
    """The model name and the instructions that matter here."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    flags = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {f}" in text]
    return f"{[*names, platform.machine()][0]} ({', '.join(flags)})"
