"""Where a training step of GNM spends its time, and how cost grows."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch
from tabulate import tabulate

from . import work
from .conftest import HERE, Findings
from .contest import CONTEXT, Contest, Contestant, Work

KINDS = [
    ("convolutions", r"conv"),
    ("matrix products", r"::(mm|bmm|addmm|baddbmm|matmul|linear)$"),
    ("normalisation", r"(group|layer)_norm"),
    ("activations", r"elu|sigmoid|tanh|softplus|threshold|clamp|exp|log"),
    ("sampling grids", r"grid|interp|gather|scatter|index"),
    ("copies and layout", r"copy|pixel_|cat$|clone|fill|zero|empty|contiguous"),
]
STEPS = 5


def spent(make: Callable[..., Work], arguments: tuple[Any, ...], answer: Any) -> None:
    """Sends milliseconds per step by kind of operation, measured in this process."""
    step = make(*arguments)
    for _ in range(3):
        step()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    whole = (time.perf_counter() - began) / STEPS
    with torch.profiler.profile() as profile:
        for _ in range(STEPS):
            step()
    kinds: Counter[str] = Counter()
    for event in profile.key_averages():
        kind = next((name for name, pattern in KINDS if re.search(pattern, event.key)), "everything else")  # fmt: skip
        kinds[kind] += event.self_cpu_time_total / 1e3 / STEPS
    answer.send((1e3 * whole, dict(kinds)))


def profiled(make: Callable[..., Work], *arguments: Any) -> tuple[float, dict[str, float]]:
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=spent, args=(make, arguments, theirs))
    process.start()
    result: tuple[float, dict[str, float]] = ours.recv()
    process.join()
    return result


def test_profile(findings: Findings) -> None:
    columns = {
        "straightforward": profiled(work.their_step, "gnm"),
        "same allocator": profiled(work.their_step, "gnm", True),
        "ours, fp32": profiled(work.our_step, "gnm", "fp32"),
        "ours": profiled(work.our_step, "gnm"),
    }
    names = [*(name for name, _ in KINDS), "everything else"]
    rows = [[name, *(round(kinds.get(name, 0.0), 1) for _, kinds in columns.values())] for name in names]  # fmt: skip
    rows.append(["a step, without the profiler", *(round(whole, 1) for whole, _ in columns.values())])  # fmt: skip
    findings.sections["Where a training step of GNM spends its time (ms)"] = (
        "torch's profiler, self time by kind of operation; it slows small operations down, so the parts add up to "
        "more than the whole.\n\n" + tabulate(rows, ["", *columns], "github")
    )


def points() -> dict[str, list[tuple[int, Contestant]]]:
    step, render, weigh = work.our_step, work.rendering, work.our_weights
    return {
        "batch": [(n, Contestant("", step, ("gnm", "", n))) for n in (8, 16, 32, 64)],
        "image side (px)": [(n, Contestant("", step, ("gnm", "", 32, n))) for n in (64, 128)],
        "draw steps": [
            (n, Contestant("", work.our_step_with_draws, (n,))) for n in (1, 2, 4, 8, 16)
        ],
        "cells (decoding and pasting alone)": [
            (n, Contestant("", render, (n,))) for n in (4, 16, 64)
        ],
        "particles per call (log weights of 16 images)": [
            (n, Contestant("", weigh, ("gnm", n))) for n in (1, 5, 25, 100)
        ],
    }


def test_growth(findings: Findings, request: pytest.FixtureRequest) -> None:
    measured: dict[str, list[tuple[int, float, float]]] = {}
    for axis, contestants in points().items():
        measured[axis] = []
        for n, contestant in contestants:
            with Contest([contestant]) as contest:
                for _ in range(5):
                    contest.work("")
                times = contest.times()[""]
            measured[axis].append((n, 1e3 * times.median, times.peak / 2**30))
    if request.config.getoption("--write-results"):
        drawn(measured, HERE / "growth.png")
    rows = [
        [axis, n, round(ms, 1), f"{peak:.2f}"]
        for axis, found in measured.items()
        for n, ms, peak in found
    ]
    findings.sections["How cost grows"] = (
        "GNM, one call after three; peak memory is that of the whole process, 0.3 GiB of it libraries.\n\n"
        "![time and memory against batch, image side, draw steps, cells and particles](growth.png)\n\n"
        + tabulate(rows, ["axis", "size", "ms", "peak GiB"], "github")
    )


def drawn(measured: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    """Time above, memory below; a dotted line is what proportional growth would be."""
    mpl.use("Agg")
    figure, axes = plt.subplots(2, len(measured), figsize=(15, 5), layout="constrained", sharex="col")  # fmt: skip
    for (above, below), (name, found) in zip(axes.T, measured.items(), strict=True):
        sizes, ms, peak = zip(*found, strict=True)
        above.plot(sizes, ms, "o-", color="C0")
        above.plot(sizes, [ms[0] * s / sizes[0] for s in sizes], ":", color="0.6")
        below.plot(sizes, peak, "o-", color="C1")
        for axis in (above, below):
            axis.set_ylim(0, None)
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_xticks(sizes)
        above.set_ylim(0, 1.15 * max(ms))
        below.set_xlabel(name)
    axes[0, 0].set_ylabel("ms")
    axes[1, 0].set_ylabel("peak GiB")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
