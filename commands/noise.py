"""`reprise noise`: how far numbers move by themselves."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from ..core import protocol as protocols
from ..core.protocol import TierName
from ..core.workspace import Workspace
from ._arguments import as_count, as_labels
from ._common import HOLDS, Add, Paced, counted, say

if TYPE_CHECKING:
    from ..launch.executors import Place
    from ..launch.plan import Job


def add_to(add: Add) -> None:
    """Its arguments."""
    noise = add("noise", _noise, "measure how far numbers move by themselves; `check` reads it")
    noise.add_argument("protocol", metavar="PROTOCOL")
    noise.add_argument("--tier", choices=get_args(TierName), default="demo", help="(demo)")
    noise.add_argument("--models", type=as_labels, default=(), metavar="A,B")
    noise.add_argument("--datasets", type=as_labels, default=(), metavar="A,B")
    noise.add_argument("--metrics", type=as_labels, default=(), metavar="A,B")
    noise.add_argument(
        "--sources", type=as_labels, default=(), metavar="A,B",
        help="training seed, evaluation seed, test subset, threads, precision (all of them)",
    )  # fmt: skip
    noise.add_argument("--repeats", type=as_count, default=5, metavar="N", help="numbers each (5)")
    noise.add_argument(
        "--images", type=as_count, metavar="N", help="test images for the noise of evaluation (all)"
    )
    noise.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    noise.add_argument("--workers", type=as_count, default=0, metavar="N", help="runs at a time")


def _noise(arguments: argparse.Namespace) -> int:
    """Measure noise, print it, and keep it in results/noise.csv."""
    name = protocols.load(arguments.protocol)[0]
    from tabulate import tabulate

    from ..core import progress
    from ..launch.executors import Place, local
    from ..launch.noise import SOURCES, measure
    from ..launch.plan import Request

    def make(jobs: Sequence[Job], where: Workspace, place: Place) -> None:
        if not jobs:
            return
        cells = counted(sum(len(job.cells) for job in jobs), "cell")
        say(f"first, {cells} to do in {counted(len(jobs), 'run')}")
        from ..launch.display import Display

        display = Display.of(jobs, place.sized()[0])
        try:
            outcome = local(jobs, where, place, display)
        finally:
            display.close()
        for trouble in outcome.troubles:
            say(f"reprise: {trouble}")
        if outcome.interrupted:
            raise KeyboardInterrupt

    workspace = Workspace(arguments.root)
    request = Request(name, arguments.tier, arguments.models, arguments.datasets, arguments.metrics)
    place = Place(arguments.device, "", arguments.workers)
    with progress.watched_by(Paced()):
        found = measure(
            request,
            workspace,
            place,
            make,
            arguments.sources or SOURCES,
            arguments.repeats,
            arguments.images,
        )
    lines = [
        [
            row.model,
            row.dataset,
            row.metric,
            row.source,
            f"{row.std:.4g}",
            f"{row.mean:.6g}",
            row.how,
        ]
        for row in found
    ]
    heads = ["Model", "Dataset", "Metric", "Source", "Std", "Mean", ""]
    print(tabulate(lines, heads, disable_numparse=True))
    print(f"\n{workspace.noise}")
    return HOLDS
