"""Data, start-up, reports and memory: absolute figures."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from reprise.benchmarks import work
from reprise.benchmarks.contest import Contest, Contestant

from .conftest import Findings

ROOT = Path(__file__).parent.parent


def test_scenes(benchmark: BenchmarkFixture, findings: Findings) -> None:
    count = 2_000
    with Contest([Contestant("ours", work.painting, (count,))]) as contest:
        benchmark.pedantic(contest.work, ("ours",), rounds=10)
        rate = count / contest.times()["ours"].median
    findings.line("MNIST-10 scenes painted, one thread", f"{rate:,.0f} /s", ">= 20,000 /s", rate >= 20_000)  # fmt: skip


def called(*arguments: str) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "reprise.cli", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - began


@pytest.mark.parametrize("arguments", [("list",), ("show", "table1")])
def test_start_up(
    arguments: tuple[str, ...], benchmark: BenchmarkFixture, findings: Findings
) -> None:
    seconds: list[float] = []
    benchmark.pedantic(lambda: seconds.append(called(*arguments)), rounds=5)
    median = sorted(seconds)[2]
    findings.line(f"`reprise {' '.join(arguments)}`", f"{median:.2f} s", "< 0.5 s", median < 0.5)


def test_reports(benchmark: BenchmarkFixture, findings: Findings, tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(ROOT / "results")
    seconds: list[float] = []
    benchmark.pedantic(
        lambda: seconds.append(called("report", "--tier", "mini", "--root", str(tmp_path))), rounds=1
    )  # fmt: skip
    what = "`reprise report --tier mini`, every protocol"
    findings.line(what, f"{seconds[0]:.1f} s", "< 10 s", seconds[0] < 10)


@pytest.mark.parametrize("name", ["gnm", "vae", "convdraw"])
def test_memory(name: str, findings: Findings) -> None:
    with Contest([Contestant("ours", work.our_run, (name, 20))], warm=1) as contest:
        peak = contest.times()["ours"].peak / 2**30
    what = f"memory of a training run of {name.upper()}"
    findings.line(what, f"{peak:.2f} GiB at its peak", "< 2 GiB", peak < 2)
