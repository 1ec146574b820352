"""`reprise run`, also called `run_protocol`: train and measure what is missing, and report it."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from ..core import protocol as protocols
from ..core import results
from ..core.errors import UsageError, unknown
from ..core.protocol import TierName
from ..core.published import published
from ..core.results import ResultRow
from ..core.workspace import Workspace
from ._arguments import (
    as_addition,
    as_change,
    as_count,
    as_labels,
    as_patience,
    as_seconds,
    as_shard,
    as_whole,
    once,
)
from ._common import FAILED, HOLDS, INCOMPLETE, INTERRUPTED, USAGE, Add, counted, mebibytes, say

if TYPE_CHECKING:
    from ..launch.executors import Outcome, Place
    from ..launch.plan import Job, Plan, Request


def add_to(add: Add) -> None:
    """Its arguments."""
    run = add("run", _run, "train and measure what is missing of protocols, and report it")
    run.add_argument(
        "protocols",
        nargs="*",
        metavar="PROTOCOL",
        help="`reprise list` shows them; table1 is short for gnm_table1",
    )
    run.add_argument("--all", metavar="PAPER", help="every protocol of a paper: gnm")
    run.add_argument("--tier", choices=get_args(TierName), default="demo", help="how large (demo)")
    run.add_argument(
        "--models", type=as_labels, default=(), metavar="A,B",
        help="only these rows of the table; a comma inside a label is written \\,: 'DM-VAE\\, γ=0'",
    )  # fmt: skip
    run.add_argument(
        "--datasets", type=as_labels, default=(), metavar="A,B", help="only these datasets"
    )
    run.add_argument(
        "--metrics", type=as_labels, default=(), metavar="A,B", help="only these metrics"
    )
    run.add_argument(
        "--seeds", type=as_count, metavar="N", help="how many seeds (the tier's number)"
    )
    run.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change an option: model.lr=3e-4, training.steps=500, dataset.canvas=64, metric.particles=10",
    )  # fmt: skip
    run.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="LABEL=MODULE:CLASS",
        help="add a row of your own",
    )
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    run.add_argument(
        "--precision", choices=("fp32", "bf16"), default="", help="(bf16 on CUDA, fp32 on the CPU)"
    )
    run.add_argument(
        "--compile",
        action="store_true",
        help="CPU: compile models before they are trained, which pays off for long trainings, but not of all models; "
        "CUDA: capture a training's step in a graph and replay it",
    )
    run.add_argument(
        "--workers",
        type=as_count,
        default=0,
        metavar="N",
        help="runs at a time (CPU: cores, at most 4)",
    )
    run.add_argument(
        "--budget",
        type=as_seconds,
        metavar="40m",
        help="stop at a checkpoint after 90s, 40m, 2h or 1h30m; exit code 2 while something is left to do",
    )
    run.add_argument(
        "--checkpoint-every",
        type=as_seconds,
        default=60.0,
        metavar="60s",
        help="what a kill may cost",
    )
    run.add_argument(
        "--stall",
        type=as_patience,
        default=1800.0,
        metavar="30m",
        help="kill a run that makes no progress for so long",
    )
    run.add_argument(
        "--shard", type=as_shard, metavar="I/N",
        help="only the I-th of N parts of the runs, into results/<tier>/shards/; `reprise merge` joins them",
    )  # fmt: skip
    run.add_argument("--executor", choices=("local", "slurm"), default="local", help="(local)")
    queue = run.add_argument_group(
        "--executor slurm",
        "Every run is one task of a Slurm queue, which requeues itself from its checkpoint near its time limit. "
        "What a task asks for comes from timing a few steps here, unless it is given. The folder --root must be on a "
        "disk that all nodes see. Ctrl-C leaves the tasks in the queue, and the same command finds them again; "
        "a second Ctrl-C within five seconds cancels them.",
    )  # fmt: skip
    queue.add_argument("--partition", default="", metavar="NAME", help="(the cluster's default)")
    queue.add_argument("--gpus", type=as_whole, metavar="N", help="(1 where the partition has any)")
    queue.add_argument(
        "--time", type=as_seconds, metavar="4h",
        help="limit (1.5 x training + 30m); the memory is still timed for, unless --slurm mem_gb=N gives it",
    )  # fmt: skip
    queue.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE",
        help="anything else that sbatch takes: account=lab, constraint=h100, cpus_per_task=8",
    )  # fmt: skip
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="time a few steps; print cells, hours, memory and disk",
    )


def _run(arguments: argparse.Namespace) -> int:
    began = time.time()
    names = protocols_asked(arguments)  # a mistyped name is told before torch is imported
    from ..launch.processes import warm_up

    if arguments.executor != "slurm":  # there, workers begin elsewhere
        warm_up()
    from ..launch.executors import Outcome, Place, local
    from ..launch.plan import collect, merged, plan
    from ..launch.shards import part

    workspace = Workspace(arguments.root)
    requests = requests_of(arguments, names)
    deadline = math.inf if arguments.budget is None else began + arguments.budget
    place = Place(
        arguments.device,
        arguments.precision,
        arguments.workers,
        deadline,
        arguments.checkpoint_every,
        arguments.stall,
        compiled=arguments.compile,
    )
    asked = asked_of_slurm(arguments)
    plans = part([plan(request, workspace) for request in requests], arguments.shard)
    for trouble in dict.fromkeys(trouble for todo in plans for trouble in todo.troubles):
        say(f"left out: {trouble}")
    for todo in plans:
        say(
            f"{todo.name} at tier {todo.tier}: {counted(len(todo.cells), 'cell')}, {todo.missing} to do in "
            f"{counted(len(todo.jobs), 'run')}"
        )
    jobs = merged(plans)  # protocols share runs, and runs of all of them are made side by side
    if len(plans) > 1:
        say(f"all of them: {_work(jobs)}")
    if arguments.dry_run:
        code = _dry_run(jobs, workspace, place)
        return USAGE if _tell_broken(plans) else code

    def collect_all() -> None:
        for todo in plans:
            collect(todo, workspace, arguments.shard)

    collect_all()
    for todo in plans:
        _tell_precision(todo, workspace, arguments)
    outcome = None
    if jobs:
        from ..launch.display import Display

        display = Display.of(jobs, place.sized()[0])
        try:
            if arguments.executor == "slurm":
                from ..launch.slurm import slurm

                outcome = slurm(jobs, workspace, place, asked, display, collect_all)
            else:
                outcome = local(jobs, workspace, place, display, collect_all)
        finally:
            display.close()
            collect_all()
    if outcome is None or not outcome.interrupted:
        for todo in plans:
            if arguments.shard is None:
                print_report(workspace, todo.tier, todo.name)
            else:
                print(workspace.results(todo.tier, todo.name, arguments.shard))
    if outcome is not None:
        plans = part([plan(request, workspace) for request in requests], arguments.shard)
    return _end(plans, outcome or Outcome())


def protocols_asked(arguments: argparse.Namespace) -> list[str]:
    """The full names of the protocols to run, each once."""
    chosen = [protocols.load(name)[0] for name in arguments.protocols]
    if arguments.all is not None:
        known = protocols.names()
        found = [name for name in known if name.startswith(f"{arguments.all}_")]
        if not found:
            raise unknown("paper", arguments.all, {name.partition("_")[0] for name in known})
        chosen += found
    if not chosen:
        raise UsageError(
            "no protocol was named; `reprise list` shows them, --all gnm takes all of a paper"
        )
    return list(dict.fromkeys(chosen))


def requests_of(arguments: argparse.Namespace, names: Sequence[str]) -> list[Request]:
    """What the arguments ask of each protocol. Of several, each makes what it has of the labels that were named, and
    those that have nothing of them are left out; what `--set` changes is changed wherever there is such an option.

    Raises UsageError for a label that none of those has that are not left out.
    """
    requests = [request_of(arguments, name) for name in names]
    if len(requests) == 1:
        return requests
    for axis in ("models", "datasets", "metrics"):
        known = [getattr(protocols.load(request.protocol)[1], axis) for request in requests]
        visitors = {label for label, _ in requests[0].extra} if axis == "models" else set()
        everywhere = visitors.union(*known)
        wanted = getattr(requests[0], axis)
        for label in wanted:
            if label not in everywhere:
                raise unknown(axis.removesuffix("s"), label, sorted(everywhere))
        kept, without = [], []
        for request, labels in zip(requests, known, strict=True):
            here = tuple(label for label in wanted if label in labels or label in visitors)
            if here or not wanted:
                changes: dict[str, Any] = {axis: here}
                kept.append(dataclasses.replace(request, **changes))
            else:
                without.append(request.protocol)
        if without:
            say(f"left out, having no {axis} of those names: {', '.join(without)}")
        requests = kept
    return _with_what_fits(requests)


def _with_what_fits(requests: Sequence[Request]) -> list[Request]:
    """The requests, each with those changes of `--set` that fit something of it; without any, it is made as it is.

    Raises UsageError for a key that fits nothing of any of them.
    """
    from ..launch.plan import keys_that_fit

    changes = requests[0].changes
    if not changes or len(requests) == 1:  # then `plan` says so
        return list(requests)
    fitting = [keys_that_fit(request) for request in requests]
    for key, _ in changes:
        without = [
            request.protocol
            for request, (fit, _) in zip(requests, fitting, strict=True)
            if key not in fit
        ]
        if len(without) == len(requests):
            raise unknown("--set key", key, set[str]().union(*(known for _, known in fitting)))
        if without:
            say(f"--set {key} changes nothing of: {', '.join(without)}")
    return [
        dataclasses.replace(request, changes=tuple((k, v) for k, v in changes if k in fit))
        for request, (fit, _) in zip(requests, fitting, strict=True)
    ]


def request_of(arguments: argparse.Namespace, name: str = "") -> Request:
    """What the arguments of `run_protocol` ask of one protocol, the first if none is named."""
    from ..launch.plan import Request

    return Request(
        name or arguments.protocols[0],
        arguments.tier,
        arguments.models,
        arguments.datasets,
        arguments.metrics,
        arguments.seeds,
        tuple(once("--set", map(as_change, arguments.set)).items()),
        tuple(as_addition(text) for text in arguments.model),
    )


def asked_of_slurm(arguments: argparse.Namespace) -> Any:
    """What the arguments ask of a Slurm queue. Raises UsageError where no queue was asked for."""
    from ..launch.slurm import Asked

    parameters = []
    for text in arguments.slurm:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--slurm {text!r} cannot be read; expected KEY=VALUE such as account=lab"
            )
        parameters.append((key, value))
    minutes = None if arguments.time is None else max(1, math.ceil(arguments.time / 60))
    once("--slurm", parameters)
    asked = Asked(arguments.partition, arguments.gpus, minutes, tuple(parameters))
    if asked != Asked() and arguments.executor != "slurm":
        raise UsageError("--partition, --gpus, --time and --slurm belong to --executor slurm")
    return asked


def _work(jobs: Sequence[Job]) -> str:
    """What is to do."""
    cells = counted(sum(len(job.cells) for job in jobs), "cell")
    return f"{cells} to do in {counted(len(jobs), 'run')}"


def _end(plans: Sequence[Plan], outcome: Outcome) -> int:
    """Say what failed and what is left; a cell that was asked for and has diverged, now or before, is no success."""
    from ..launch.plan import merged

    left = merged(plans)
    asked = {planned.id for plan in plans for planned in plan.cells}
    diverged = asked & {cell for plan in plans for cell in plan.diverged}
    for trouble in outcome.troubles:
        print(f"reprise: {trouble}", file=sys.stderr)
    broken = _tell_broken(plans)
    if failed := outcome.failed + broken:
        say(f"{counted(failed, 'cell')} failed; the rows say why, and calling again tries again")
    if diverged:
        say(
            f"{counted(len(diverged), 'cell')} diverged; the rows say where, and calling again changes nothing"
        )
    if outcome.stopped or outcome.interrupted:
        why = "interrupted" if outcome.interrupted else "the budget is over"
        say(f"{why}: {_work(left)}; call again to go on")
    if outcome.interrupted:
        return INTERRUPTED
    # What failed is tried again by the call that goes on.
    if outcome.stopped and not outcome.mendable:
        return INCOMPLETE
    if outcome.mendable or broken:
        return USAGE
    return FAILED if outcome.failed or diverged else HOLDS


def _tell_broken(plans: Sequence[Plan]) -> int:
    """Say which models' code cannot be read; how many cells that costs."""
    broken = [planned for plan in plans for planned in plan.broken]
    for note in dict.fromkeys(planned.row.note for planned in broken):
        print(f"reprise: {note}", file=sys.stderr)
    return len(broken)


def _tell_precision(todo: Plan, workspace: Workspace, arguments: argparse.Namespace) -> None:
    """Say which cells stay as they are though they were trained in another precision than the one asked for."""
    asked = {planned.id for planned in todo.cells}
    others = Counter(
        row.precision
        for row in results.rows_of(workspace, todo.tier, todo.name, arguments.shard)
        if row.cell in asked and row.status == "ok" and not row.untrained
    )
    for precision, count in others.items():
        if arguments.precision and precision not in ("", arguments.precision):
            say(
                f"{todo.name}: {counted(count, 'cell')} already trained in {precision}, not in "
                f"{arguments.precision}; what was measured is not made again"
            )


def _dry_run(jobs: Sequence[Job], workspace: Workspace, place: Place) -> int:
    from tabulate import tabulate

    from ..launch.display import duration
    from ..launch.estimate import estimates

    lines, seconds, memory, disk = [], 0.0, 0, 0
    unmade: dict[str, int] = {}
    untimed: dict[str, list[str]] = {}  # why -> the runs
    workers, threads = place.sized()
    for done, (job, found) in enumerate(estimates(jobs, workspace, place), 1):
        say(f"timed {done} of {len(jobs)}: {job.run.id}")
        seconds, disk = seconds + found.seconds, disk + found.disk
        memory = max(memory, found.memory)
        if found.trouble:
            untimed.setdefault(found.trouble, []).append(job.run.id)
        if found.unmade:
            unmade[str(job.run.dataset)] = found.unmade
        numbers = [
            f"{found.seconds_per_step:.3g}",
            f"{found.seconds / 3600:.2f}",
            mebibytes(found.memory),
        ]
        shown = (
            [*numbers, mebibytes(found.disk)] if not found.trouble else ["not timed", "", "", ""]
        )
        lines.append([job.run.id, len(job.cells), found.steps_left, *shown])
    heads = ["run", "cells", "steps left", "s/step", "hours", "memory MiB", "disk MiB"]
    if lines:
        print(tabulate(lines, heads, disable_numparse=True))
    at_once = max(1, min(workers, len(lines)))
    print(
        f"{_work(jobs)}; training takes {duration(seconds)} of work, about "
        f"{duration(seconds / at_once)} with {counted(at_once, 'worker')} of {counted(threads, 'thread')}; "
        "measuring comes on top; "
        f"peak memory {mebibytes(memory * at_once)} MiB, disk {mebibytes(disk)} MiB"
    )
    for data, images in unmade.items():
        print(f"{images:,} images of {data} have to be drawn first; its steps were timed on noise")
    for why, runs in untimed.items():
        print(f"not timed, and in none of these numbers: {', '.join(runs)}: {why}")
    return USAGE if untimed else HOLDS


def print_report(workspace: Workspace, tier: TierName, name: str) -> None:
    """Write a protocol's pages; its table, and where everything is, on the terminal."""
    from ..render import document, table

    _, protocol, _ = protocols.load(name)
    path = workspace.results(tier, name)
    written = document.report(workspace, tier, [name])
    laid = table.build(name, protocol, results.read(path, ResultRow), published(name), tier)
    print(table.to_terminal(laid))
    print()
    for file in dict.fromkeys([path, *written]):
        print(file)
