"""Where a training step of GNM spends its time, what it would take at the machine's own rates, and how cost grows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from tabulate import tabulate

from reprise.benchmarks import limits, profile, work
from reprise.benchmarks.contest import CONTEXT, Contest, Contestant, Work
from reprise.training.engine import cores

from .conftest import HERE, Findings, processor


def apart(measure: Callable[..., None], *arguments: Any) -> Any:
    """What `measure(*arguments, answer)` sends from a process of its own."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=measure, args=(*arguments, theirs))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def profiled(make: Callable[..., Work], *arguments: Any) -> tuple[float, dict[str, float]]:
    result: tuple[float, dict[str, float]] = apart(profile.spent, make, arguments)
    return result


def test_profile(findings: Findings) -> None:
    columns = {
        "straightforward": profiled(work.their_step, "gnm"),
        "same allocator": profiled(work.their_step, "gnm", True),
        "ours, fp32": profiled(work.our_step, "gnm", "fp32"),
        "ours, bf16": profiled(work.our_step, "gnm", "bf16"),
    }
    names = [*(name for name, _ in profile.KINDS), "everything else"]
    rows = [[name, *(round(kinds.get(name, 0.0), 1) for _, kinds in columns.values())] for name in names]  # fmt: skip
    rows.append(["a step, without the profiler", *(round(whole, 1) for whole, _ in columns.values())])  # fmt: skip
    findings.sections[f"Where a training step of GNM spends its time (ms), on {processor()}"] = (
        "torch's profiler, self time by kind of operation; it slows small operations down, so the parts add up to "
        "more than the whole.\n\n" + tabulate(rows, ["", *columns], "github")
    )


Made = tuple[Callable[..., Work], tuple[Any, ...]]
LIMITED: dict[str, tuple[Made, Made]] = {
    "step of GNM, bf16": ((work.our_step, ("gnm", "bf16")), (work.their_step, ("gnm",))),
    "step of GNM, Arrow room, bf16": (
        (work.our_colour_step, ("gnm", "bf16")),
        (work.their_colour_step, ("gnm",)),
    ),
    "step of the VAE, bf16": ((work.our_step, ("vae", "bf16")), (work.their_step, ("vae",))),
    "step of ConvDRAW, bf16": (
        (work.our_step, ("convdraw", "bf16")),
        (work.their_step, ("convdraw",)),
    ),
    "step of AIR, fp32": (
        (work.our_reading_step, ("AIR", "fp32")),
        (work.their_reading_step, ("AIR",)),
    ),
    "step of DM-VAE, 15 slots, fp32": (
        (work.our_reading_step, ("DM-VAE, 15 slots", "fp32")),
        (work.their_reading_step, ("DM-VAE, 15 slots",)),
    ),
    **{
        f"LL of {name.upper()}, 16 images, 100 particles, fp32": (
            (work.our_particles, (name,)),
            (work.their_particles, (name,)),
        )
        for name in ("gnm", "vae", "convdraw")
    },
}
"""Ours, and the straightforward code."""


def test_limits(findings: Findings) -> None:
    rates: limits.Rates = apart(limits.rates)
    rows = []
    for name, ((make, arguments), (plain, its)) in LIMITED.items():
        ours: limits.Cost = apart(limits.cost, make, arguments, 7)
        asked: limits.Cost = apart(limits.cost, plain, its, 0)
        precision = rates.bf16 if "bf16" in name else rates.fp32
        arithmetic = min(asked.operations, ours.operations) / precision
        memory = ours.traffic / rates.memory
        rows.append(
            [
                name,
                f"{asked.operations / 1e9:.1f}",
                f"{ours.operations / 1e9:.1f}",
                f"{1e3 * arithmetic:.1f}",
                f"{ours.traffic / 1e9:.2f}",
                f"{1e3 * memory:.1f}",
                f"{1e3 * ours.seconds:.1f}",
            ]
        )
    head = ["work", "GFLOP", "GFLOP, ours", "ms, the fewer", "GB, ours", "ms", "ours, ms"]
    findings.sections[f"What it would take at the machine's own rates, on {processor()}"] = (
        f"{cores()} cores multiply matrices of {limits.SIDE:,} x {limits.SIDE:,} at {rates.fp32 / 1e12:.2f} TFLOP/s in "
        f"fp32 and {rates.bf16 / 1e12:.1f} in bf16, and copy at {rates.memory / 1e9:.0f} GB/s, read and written.\n"
        "GFLOP: of products and convolutions, forwards and backwards, in the straightforward code, without its grids; "
        "and in\nours, without what a likelihood's decoder makes in one kernel with a norm. For a "
        "likelihood ours encodes\nan image once, not once per particle; some of what ours has more is products with "
        "zeros. GB: what our operations read and\nwrite, each of their tensors once, as if no cache held any of it "
        "between them. The ms beside them are at these rates. What\nours takes beyond both is calls, small matrices "
        "and maps that fill no vector.\n\n"
        + tabulate(rows, head, "github", disable_numparse=True, colalign=("left", *["right"] * 6))
    )


def points() -> dict[str, list[tuple[int, Contestant]]]:
    step, render, weigh = work.our_step, work.rendering, work.our_weights
    return {
        "batch": [(n, Contestant("", step, ("gnm", "bf16", n))) for n in (8, 16, 32, 64)],
        "image side (px)": [(n, Contestant("", step, ("gnm", "bf16", 32, n))) for n in (64, 128)],
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
    if request.config.getoption("--write-results") or request.config.getoption("--update-results"):
        drawn(measured, HERE / "growth.png")
    rows = [
        [axis, n, round(ms, 1), f"{peak:.2f}"]
        for axis, found in measured.items()
        for n, ms, peak in found
    ]
    findings.sections["How cost grows"] = (
        f"On {processor()}. GNM in bf16 (particles in fp32), one call after three; peak memory is that of the whole "
        "process, 0.3 GiB of it libraries.\n\n"
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
        above.set_ylim(0, 1.15 * max(ms))
        below.set_ylim(0, 1.15 * max(peak))
        for axis in (above, below):
            axis.spines[["top", "right"]].set_visible(False)
            axis.set_xscale("log", base=2)
            axis.set_xticks(sizes, [str(size) for size in sizes])
            axis.minorticks_off()
        below.set_xlabel(name.replace(" (", "\n("))
    axes[0, 0].set_ylabel("ms")
    axes[1, 0].set_ylabel("peak GiB")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)
