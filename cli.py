"""The command line: `run_protocol`, and `reprise` with its commands, of which `reprise --help` says what each does.

Whatever needs torch is imported inside the command that needs it, so that listing and showing start at once. An error
that the user can mend is one sentence and exit code 3; an interruption is 130 and can be called again.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from .core import protocol as protocols
from .core import results, spec
from .core.errors import DataError, UsageError, unknown
from .core.protocol import TIERS, Protocol, TierName
from .core.results import NoiseRow, PublishedValue, ResultRow
from .core.workspace import Shard, Workspace

if TYPE_CHECKING:
    from .launch.executors import Place
    from .launch.plan import Job, Request

HOLDS, FAILED, INCOMPLETE, USAGE, INTERRUPTED = 0, 1, 2, 3, 130
USAGE_HELP = """exit codes: 0 all is well; 1 a cell failed, or a check found a regression; 2 could not be judged;
3 something asked for cannot be done (one sentence says what); 130 interrupted, call again to go on"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The umbrella command; returns the exit code."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except UsageError as error:
        if arguments.verbose:
            traceback.print_exc()
        print(f"reprise: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("reprise: interrupted; call again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `reprise list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HOLDS


def run_protocol(argv: Sequence[str] | None = None) -> int:
    """`run_protocol X` is `reprise run X`."""
    return main(["run", *(sys.argv[1:] if argv is None else argv)])


def parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    whole = _Parser(
        prog="reprise",
        description="Re-run the tables and figures of papers, and say whether they agree.",
        epilog=USAGE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = _Parser(add_help=False)
    common.add_argument(
        "--root", type=Path, default=Path(), help="folder of results/, reports/ and runs/ (here)"
    )
    common.add_argument(
        "-v", "--verbose", action="store_true", help="show the traceback of an error, too"
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[common])
        made.set_defaults(command=function)
        return made

    add("list", _list, "the protocols, and how much of each is done")
    show = add(
        "show",
        _show,
        "one protocol: its question, published values, what is done and what is missing",
    )
    show.add_argument("protocol", metavar="PROTOCOL")
    show.add_argument("--tier", choices=get_args(TierName))

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
        "--models", type=_labels, default=(), metavar="A,B", help="only these rows of the table"
    )
    run.add_argument(
        "--datasets", type=_labels, default=(), metavar="A,B", help="only these datasets"
    )
    run.add_argument(
        "--metrics", type=_labels, default=(), metavar="A,B", help="only these metrics"
    )
    run.add_argument("--seeds", type=_count, metavar="N", help="how many seeds (the tier's number)")
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
        "--workers",
        type=_count,
        default=0,
        metavar="N",
        help="runs at a time (CPU: cores, at most 4)",
    )
    run.add_argument(
        "--budget",
        type=_seconds,
        metavar="40m",
        help="stop at a checkpoint after 90s, 40m, 2h or 1h30m",
    )
    run.add_argument(
        "--checkpoint-every",
        type=_seconds,
        default=60.0,
        metavar="60s",
        help="what a kill may cost",
    )
    run.add_argument(
        "--stall",
        type=_seconds,
        default=1800.0,
        metavar="30m",
        help="kill a run that makes no progress for so long",
    )
    run.add_argument(
        "--shard", type=_shard, metavar="I/N",
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
    queue.add_argument("--gpus", type=_whole, metavar="N", help="(1 where the partition has any)")
    queue.add_argument(
        "--time", type=_seconds, metavar="4h",
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

    report = add("report", _report, "write the pages of reports/ anew from the CSVs of results/")
    report.add_argument("protocols", nargs="*", metavar="PROTOCOL", help="(all that have results)")
    report.add_argument("--tier", choices=get_args(TierName), help="(all that have results)")

    check = add(
        "check", _check, "are the numbers still what they were? exit code 1 if one has moved"
    )
    check.add_argument(
        "--against", type=Path, required=True, metavar="PATH", help="a results folder, or one CSV"
    )
    check.add_argument("--current", type=Path, metavar="PATH", help="(results/ below --root)")
    check.add_argument("--tier", action="append", choices=get_args(TierName), default=[])
    check.add_argument(
        "--errors", type=float, default=3.0, metavar="Z", help="standard errors a mean may move (3)"
    )
    check.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="METRIC=X",
        help="a movement allowed whatever the noise",
    )
    check.add_argument(
        "--noise", type=Path, metavar="CSV", help="measured noise (results/noise.csv below --root)"
    )
    check.add_argument(
        "--same-weights",
        action="store_true",
        help="no weights were trained anew: evaluation's noise only",
    )
    check.add_argument(
        "--junit", type=Path, metavar="FILE", help="write JUnit XML for a CI service"
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")

    noise = add("noise", _noise, "measure how far numbers move by themselves; `check` reads it")
    noise.add_argument("protocol", metavar="PROTOCOL")
    noise.add_argument("--tier", choices=get_args(TierName), default="demo", help="(demo)")
    noise.add_argument("--models", type=_labels, default=(), metavar="A,B")
    noise.add_argument("--datasets", type=_labels, default=(), metavar="A,B")
    noise.add_argument("--metrics", type=_labels, default=(), metavar="A,B")
    noise.add_argument(
        "--sources", type=_labels, default=(), metavar="A,B",
        help="training seed, evaluation seed, test subset, threads, precision (all of them)",
    )  # fmt: skip
    noise.add_argument("--repeats", type=_count, default=5, metavar="N", help="numbers each (5)")
    noise.add_argument(
        "--images", type=_count, metavar="N", help="test images for the noise of evaluation (all)"
    )
    noise.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    noise.add_argument("--workers", type=_count, default=0, metavar="N", help="runs at a time")

    compare = add(
        "compare", _compare, "two results side by side: files, tiers (mini) or models (mini:GNM)"
    )
    compare.add_argument("left", metavar="A")
    compare.add_argument("right", metavar="B")

    merge = add(
        "merge",
        _merge,
        "join the CSVs of shards; exit code 2 if shards are missing, 3 (nothing is written) if rows conflict",
    )
    merge.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH",
        help="CSVs, or folders of them (the shards below results/)",
    )  # fmt: skip

    data = add(
        "data",
        _data,
        "fetch the files of a dataset, verify that they are the right ones, or render its images",
    )
    data.add_argument("action", choices=("fetch", "verify", "render", "unpack"))
    data.add_argument("name", metavar="NAME", help="a dataset's, or all (of fetch and verify)")
    data.add_argument(
        "archive", nargs="?", type=Path, metavar="FILE", help="the archive to unpack (arrow_room)"
    )
    rendering = data.add_argument_group("render")
    rendering.add_argument(
        "--tier", choices=get_args(TierName), help="as many images as this tier has (paper)"
    )
    rendering.add_argument(
        "--set", action="append", default=[], metavar="dataset.KEY=VALUE", help="dataset.train=1000"
    )
    rendering.add_argument(
        "--workers", type=_count, default=0, metavar="N", help="processes (one for each core)"
    )

    _label_arguments(
        add(
            "label",
            _label,
            "have people judge samples: make a page for them, or take what they exported",
        )
    )

    _evidence_arguments(
        add("bundle", _bundle, "everything behind a protocol's table, as one archive"),
        add(
            "verify-bundle",
            _verify_bundle,
            "make every number and table of a bundle again from its stored values; exit code 1 if one does not match",
        ),
    )

    proof = add(
        "self-test", _self_test, "put known bugs in, one at a time: is each of them caught?"
    )
    proof.add_argument("--only", action="append", default=[], metavar="BUG", help="by its name")
    proof.add_argument("--list", action="store_true", help="the bugs, and where they are put")
    proof.add_argument("--workers", type=_count, default=0, metavar="N", help="processes")

    contract = add(
        "check-model", _check_model, "does a class keep the contract of GenerativeModel?"
    )
    contract.add_argument(
        "model", metavar="MODULE:CLASS", help="or the name of a model of this repository"
    )
    return whole


def _run(arguments: argparse.Namespace) -> int:
    began = time.time()
    names = _asked(arguments)  # a mistyped name is told before torch is imported
    from .launch.processes import warm_up

    if arguments.executor != "slurm":  # there, workers begin elsewhere
        warm_up()
    from .launch.executors import Place, local
    from .launch.plan import collect, merged, plan
    from .launch.shards import part

    workspace = Workspace(arguments.root)
    requests = [request_of(arguments, name) for name in names]
    deadline = math.inf if arguments.budget is None else began + arguments.budget
    place = Place(
        arguments.device,
        arguments.precision,
        arguments.workers,
        deadline,
        arguments.checkpoint_every,
        arguments.stall,
    )
    asked = _asked_of_slurm(arguments)
    plans = part([plan(request, workspace) for request in requests], arguments.shard)
    for todo in plans:
        _say(
            f"{todo.name} at tier {todo.tier}: {len(todo.cells)} cells, {todo.missing} to do in {len(todo.jobs)} runs"
        )
    jobs = merged(plans)  # protocols share runs, and runs of all of them are made side by side
    if len(plans) > 1:
        _say(f"all of them: {sum(len(job.cells) for job in jobs)} cells to do in {len(jobs)} runs")
    if arguments.dry_run:
        return _dry_run(jobs, workspace, place)

    def collect_all() -> None:
        for todo in plans:
            collect(todo, workspace, arguments.shard)

    collect_all()
    outcome = None
    if jobs:
        from .launch.display import Display

        left = {
            job.run.id: (job.run.model.name, job.run.recipe.training.steps, len(job.cells))
            for job in jobs
        }
        display = Display(left, place.sized()[0])
        try:
            if arguments.executor == "slurm":
                from .launch.slurm import slurm

                outcome = slurm(jobs, workspace, place, asked, display, collect_all)
            else:
                outcome = local(jobs, workspace, place, display, collect_all)
        finally:
            display.close()
            collect_all()
    if outcome is None or not outcome.interrupted:
        for todo in plans:
            if arguments.shard is None:
                _print_report(workspace, todo.tier, todo.name)
            else:
                print(workspace.results(todo.tier, todo.name, arguments.shard))
    if outcome is None:
        return HOLDS
    plans = part([plan(request, workspace) for request in requests], arguments.shard)
    return _end(merged(plans), outcome)


def _asked(arguments: argparse.Namespace) -> list[str]:
    """The full names of the protocols to run, each once."""
    chosen = [protocols.load(name)[0] for name in arguments.protocols]
    if arguments.all:
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


def request_of(arguments: argparse.Namespace, name: str = "") -> Request:
    """What the arguments of `run_protocol` ask of one protocol, the first if none is named."""
    from .launch.plan import Request

    return Request(
        name or arguments.protocols[0],
        arguments.tier,
        arguments.models,
        arguments.datasets,
        arguments.metrics,
        arguments.seeds,
        tuple(_change(text) for text in arguments.set),
        tuple(_addition(text) for text in arguments.model),
    )


def _end(left: Sequence[Job], outcome: Any) -> int:
    """Say what failed and what is left."""
    for trouble in outcome.troubles:
        print(f"reprise: {trouble}", file=sys.stderr)
    if outcome.failed:
        _say(
            f"{outcome.failed} cells failed; their rows say why, and calling again tries them again"
        )
    if outcome.diverged:
        _say(
            f"{outcome.diverged} cells diverged; their rows say where, and calling again changes nothing"
        )
    if outcome.stopped or outcome.interrupted:
        why = "interrupted" if outcome.interrupted else "the budget is over"
        _say(
            f"{why}: {sum(len(job.cells) for job in left)} cells in {len(left)} runs are left; call again to go on"
        )
    if outcome.interrupted:
        return INTERRUPTED
    if outcome.mendable:
        return USAGE
    return FAILED if outcome.failed or outcome.diverged else HOLDS


def _dry_run(jobs: Sequence[Job], workspace: Workspace, place: Place) -> int:
    from tabulate import tabulate

    from .launch.display import duration
    from .launch.estimate import estimates

    lines, seconds, memory, disk, trouble = [], 0.0, 0, 0, False
    workers, threads = place.sized()
    for done, (job, found) in enumerate(estimates(jobs, workspace, place), 1):
        _say(f"timed {done} of {len(jobs)}: {job.run.id}")
        seconds, disk = seconds + found.seconds, disk + found.disk
        memory, trouble = max(memory, found.memory), trouble or bool(found.trouble)
        numbers = [
            f"{found.seconds_per_step:.3g}",
            f"{found.seconds / 3600:.2f}",
            _mebibytes(found.memory),
        ]
        shown = (
            [*numbers, _mebibytes(found.disk)] if not found.trouble else [found.trouble, "", "", ""]
        )
        lines.append([job.run.id, len(job.cells), found.steps_left, *shown])
    heads = ["run", "cells", "steps left", "s/step", "hours", "memory MiB", "disk MiB"]
    if lines:
        print(tabulate(lines, heads, disable_numparse=True))
    at_once = max(1, min(workers, len(lines)))
    cells = sum(len(job.cells) for job in jobs)
    print(
        f"{cells} cells to do in {len(lines)} runs; training takes {duration(seconds)} of work, about "
        f"{duration(seconds / at_once)} with {at_once} workers of {threads} threads; measuring comes on top; "
        f"peak memory {_mebibytes(memory * at_once)} MiB, disk {_mebibytes(disk)} MiB"
    )
    return USAGE if trouble else HOLDS


def _print_report(workspace: Workspace, tier: TierName, name: str) -> None:
    from .render import document, table

    _, protocol, _ = protocols.load(name)
    path = workspace.results(tier, name)
    written = document.report(workspace, tier, [name])
    laid = table.build(name, protocol, results.read(path, ResultRow), _published(name), tier)
    print(table.to_terminal(laid))
    print()
    for file in dict.fromkeys([path, *written]):
        print(file)


def _list(_: argparse.Namespace) -> int:
    from tabulate import tabulate

    workspace, lines = Workspace(_.root), []
    for name in protocols.names():
        _full, protocol, text = protocols.load(name)
        counts = [_progress(workspace, name, protocol, tier) for tier in TIERS]
        lines.append([name, *counts, text.strip().partition("\n")[0]])
    print(tabulate(lines, ["protocol", *TIERS, "question"], disable_numparse=True))
    print("\ncells measured of cells there are, per tier; `reprise show PROTOCOL` says more")
    return HOLDS


def _progress(workspace: Workspace, name: str, protocol: Protocol, tier: TierName) -> str:
    wanted = _wanted(name, protocol, tier)
    done = {
        row.key for row in _rows(workspace, tier, name) if row.status in ("ok", "n/a", "diverged")
    }
    return f"{len(wanted & done)}/{len(wanted)}"


def _wanted(name: str, protocol: Protocol, tier: TierName) -> set[tuple[str, str, str, int]]:
    cells = protocol.cells(name, protocol.seeds_for(tier), tier)
    return {(cell.model_label, cell.dataset_label, cell.metric_label, cell.seed) for cell in cells}


def _show(arguments: argparse.Namespace) -> int:
    workspace = Workspace(arguments.root)
    name, protocol, text = protocols.load(arguments.protocol)
    from .render import table

    measured = [tier for tier in TIERS if _rows(workspace, tier, name)]
    tier: TierName = arguments.tier or (measured[-1] if measured else "demo")
    rows = _rows(workspace, tier, name)
    print(
        f"{name} — {protocol.paper}\n\n{text.strip()}\n\nTier {tier}: {TIERS[tier].description}.\n"
    )
    print(table.to_terminal(table.build(name, protocol, rows, _published(name), tier)))
    missing = _wanted(name, protocol, tier) - {row.key for row in rows if row.status != "failed"}
    if missing:
        print(f"\n{len(missing)} cells are missing; `run_protocol {name} --tier {tier}` makes them")
    return HOLDS


def _report(arguments: argparse.Namespace) -> int:
    from .render import document

    workspace, written = Workspace(arguments.root), []
    chosen = [protocols.load(name)[0] for name in arguments.protocols]
    for tier in [arguments.tier] if arguments.tier else list(TIERS):
        there = [name for name in protocols.names() if workspace.results(tier, name).exists()]
        if absent := sorted(set(chosen) - set(there)) if arguments.tier else []:
            raise DataError(
                f"{workspace.results(tier, absent[0])} does not exist; "
                f"`run_protocol {absent[0]} --tier {tier}` makes it"
            )
        names = [name for name in there if not chosen or name in chosen]
        if names:
            written += document.report(workspace, tier, names)
    if not written:
        raise DataError(
            f"{workspace.root / 'results'} has no results to report; `run_protocol` makes some"
        )
    for file in written:
        print(file)
    return HOLDS


def _check(arguments: argparse.Namespace) -> int:
    from .render.check import Tolerance, check_folders

    workspace = Workspace(arguments.root)
    current = arguments.current or workspace.root / "results"
    _not_the_same(current, arguments.against)
    allowed = dict(_allowance(text) for text in arguments.allow)
    path = arguments.noise or workspace.noise
    # Noise that was asked for must be there; what is not measured yet is said cell by cell.
    noise = results.read(path, NoiseRow) if arguments.noise or path.exists() else []
    tolerance = Tolerance(arguments.errors, allowed, noise, arguments.same_weights)
    found = check_folders(current, arguments.against, tolerance, arguments.tier)
    found.write(arguments.junit, arguments.json)
    print(found)
    for line in _standing(workspace, {finding.key[:2] for finding in found.findings}):
        print(line)
    return found.code


def _not_the_same(current: Path, against: Path) -> None:
    """Raises UsageError where a file would be compared with itself, which would hold whatever it says."""
    for file in sorted(against.rglob("*.csv")) if against.is_dir() else [against]:
        if file.resolve() in (
            current.resolve(),
            (current / file.parent.name / file.name).resolve(),
        ):
            raise UsageError(
                f"{file} would be compared with itself; make fresh rows in a folder of their own (`run_protocol "
                "PROTOCOL --root build/again`) and name it here too (`--root build/again`), or name an older copy"
            )


def _standing(workspace: Workspace, parts: set[tuple[str, str]]) -> list[str]:
    """What the verdicts of these (protocol, tier) are now, beside the published values; and of all together."""
    from .render import table

    tables, lines = [], []
    for name, tier in sorted(parts):
        rows = _rows(workspace, tier, name) if tier in TIERS and name in protocols.names() else []
        if rows:
            laid = table.build(name, protocols.load(name)[1], rows, _published(name), tier)
            tables.append(laid)
            if laid.has_published:
                lines.append(f"verdicts of {name} ({tier}): {laid.summary}")
    total = table.overall(tables)
    return [*lines, f"verdicts of all: {total}"] if len(lines) > 1 else lines


def _noise(arguments: argparse.Namespace) -> int:
    """Measure noise, print it, and keep it in results/noise.csv."""
    name = protocols.load(arguments.protocol)[0]
    from tabulate import tabulate

    from .core import progress
    from .launch.executors import Place, local
    from .launch.noise import SOURCES, measure
    from .launch.plan import Request

    def make(jobs: Sequence[Job], where: Workspace, place: Place) -> None:
        if not jobs:
            return
        _say(f"{sum(len(job.cells) for job in jobs)} cells to do in {len(jobs)} runs first")
        from .launch.display import Display

        left = {
            job.run.id: (job.run.model.name, job.run.recipe.training.steps, len(job.cells))
            for job in jobs
        }
        display = Display(left, place.sized()[0])
        try:
            outcome = local(jobs, where, place, display)
        finally:
            display.close()
        if outcome.interrupted:
            raise KeyboardInterrupt

    workspace = Workspace(arguments.root)
    request = Request(name, arguments.tier, arguments.models, arguments.datasets, arguments.metrics)
    place = Place(arguments.device, "", arguments.workers)
    with progress.watched_by(_Paced()):
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


def _compare(arguments: argparse.Namespace) -> int:
    from .render.compare import compare, select

    workspace = Workspace(arguments.root)
    print(compare(select(workspace, arguments.left), select(workspace, arguments.right)))
    return HOLDS


def _merge(arguments: argparse.Namespace) -> int:
    from tabulate import tabulate

    from .launch.shards import merge

    merged, conflicts = merge(Workspace(arguments.root), arguments.paths)
    if conflicts:
        lines = [
            [one.row.protocol, *one.row.key, name, f"{one.first}: {first}\n{one.second}: {second}"]
            for one in conflicts
            for name, (first, second) in one.differences.items()
        ]
        heads = ["protocol", "model", "dataset", "metric", "seed", "column", "says"]
        print(tabulate(lines, heads, disable_numparse=True))
        raise UsageError(
            f"{len(conflicts)} cells stand in two files that disagree; nothing was written: "
            "leave out one of the files, or measure these cells again"
        )
    for one in merged:
        print(f"{one.path}: {one.rows} rows, joined from {len(one.files)} files")
    if missing := [f"{shard} of {one.path.stem}" for one in merged for shard in one.missing]:
        _say(f"missing: shard {', shard '.join(missing)}")
        return INCOMPLETE
    return HOLDS


def _data(arguments: argparse.Namespace) -> int:
    from .core import progress
    from .data import _registry

    if (arguments.action == "unpack") != (arguments.archive is not None):
        raise UsageError("`reprise data unpack NAME FILE` takes a file, and no other action does")
    if arguments.action == "unpack":
        with progress.watched_by(_Paced()):
            print(_registry.unpack(arguments.name, arguments.archive))
        return HOLDS
    if arguments.action == "render":
        return _render(arguments)
    if arguments.action == "fetch":
        last = 0.0

        def watch(what: str, done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > 2:
                last = time.monotonic()
                _say(f"{what}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")

        with progress.watched_by(watch):
            _each(_registry.fetchable(), arguments.name, _fetch)
        return HOLDS
    _each(_registry.datasets(), arguments.name, _verify)
    return HOLDS


def _each(known: Sequence[str], name: str, act: Callable[[str], None]) -> None:
    """Do something with the files of one dataset, or with those of all: what fails then stops none of the others."""
    if name != "all":
        act(name)
        return
    failures = []
    for one in known:
        try:
            act(one)
        except DataError as error:
            failures.append(f"{one}: {error}")
            _say(failures[-1])
    if failures:
        names = ", ".join(failure.partition(":")[0] for failure in failures)
        raise DataError(
            f"{len(failures)} of {len(known)} datasets are not whole: {names}; what was wrong is above"
        )


def _fetch(name: str) -> None:
    from .data import _registry

    for path in _registry.fetch(name):
        print(path)


def _verify(name: str) -> None:
    from .data import _registry

    checks = _registry.verify(name)
    for check in checks:
        print(check)
    if not all(check.ok for check in checks):
        raise DataError(f"{name} is not whole; mend it with `reprise data fetch {name}`")


def _render(arguments: argparse.Namespace) -> int:
    """Make the images of a dataset ahead of time; what is there is not made again."""
    from .core import progress
    from .core.dataset import SPLITS

    options: dict[str, spec.Value] = {}
    for key, value in map(_change, arguments.set):
        kind, _, name = key.partition(".")
        if kind != "dataset":
            raise UsageError(f"--set {key} changes no dataset; expected dataset.KEY=VALUE")
        options[name] = value
    named = spec.dataset(arguments.name)
    cls = spec.load(named)
    if not hasattr(cls, "prepare"):
        raise UsageError(f"{arguments.name} has no images to render; they are there at once")
    data = spec.build(named.with_options(**{**cls.tiers.get(arguments.tier, {}), **options}))
    watch = _Paced()
    with progress.watched_by(watch):
        for split in SPLITS:
            data.prepare(split, arguments.workers)
            found = data.split_digest(split)[:12]
            print(f"{data.info.name} {split}: {len(data.split(split)):,} images, digest {found}")
    return HOLDS


class _Paced:
    """A watcher that says every five seconds how far the work is and how long it will take."""

    def __init__(self) -> None:
        self.what, self.began, self.first, self.last = "", 0.0, 0, 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        from .launch.display import duration

        now = time.monotonic()
        if what != self.what:
            self.what, self.began, self.first, self.last = what, now, done, 0.0
        if now - self.last < 5:
            return
        self.last, text = now, f"{what}: {done:,} of {total:,}"
        if done > self.first:
            pace = (now - self.began) / (done - self.first)
            text += f", {pace:.2g} s each, {duration((total - done) * pace)} left"
        _say(text)


def _label_arguments(label: argparse.ArgumentParser) -> None:
    label.add_argument("action", choices=("export", "import"))
    label.add_argument("what", metavar="PROTOCOL|FILE", help="export PROTOCOL, import FILE.csv")
    exporting = label.add_argument_group("export")
    exporting.add_argument(
        "--tier", choices=get_args(TierName), help="whose samples (the largest tier measured)"
    )
    exporting.add_argument("--models", type=_labels, default=(), metavar="A,B", help="(all)")
    exporting.add_argument("--datasets", type=_labels, default=(), metavar="A,B", help="(all)")
    exporting.add_argument(
        "--images", type=_count, default=250, metavar="N", help="per model and dataset (250)"
    )
    exporting.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER", help="where the page goes (here)"
    )


def _label(arguments: argparse.Namespace) -> int:
    from .render.label import export, import_labels

    workspace = Workspace(arguments.root)
    if arguments.action == "import":
        written, sentence = import_labels(workspace, Path(arguments.what))
        print(sentence)
        for file in written:
            print(file)
        return HOLDS
    name, _, _ = protocols.load(arguments.what)
    measured = [tier for tier in TIERS if _rows(workspace, tier, name)]
    tier = arguments.tier or (measured[-1] if measured else "demo")
    made = export(
        workspace,
        name,
        tier,
        arguments.models,
        arguments.datasets,
        arguments.images,
        arguments.out,
    )
    print(f"{made.items} images of {name} at tier {tier}, shuffled and without names")
    print(f"{made.page}  for the raters")
    print(f"{made.key}  says which is which: keep it from them")
    return HOLDS


def _evidence_arguments(bundle: argparse.ArgumentParser, verify: argparse.ArgumentParser) -> None:
    bundle.add_argument("protocol", metavar="PROTOCOL")
    bundle.add_argument("--tier", choices=get_args(TierName), help="(the largest that has results)")
    bundle.add_argument(
        "-o", "--out", type=Path, metavar="FILE.zip", help="(PROTOCOL-TIER.zip, here)"
    )
    verify.add_argument("file", type=Path, metavar="FILE.zip")


def _bundle(arguments: argparse.Namespace) -> int:
    """Exit code 1 if a number is not what its own stored values make."""
    from .core import progress
    from .evidence.bundle import bundle

    workspace = Workspace(arguments.root)
    name, _, _ = protocols.load(arguments.protocol)
    measured = [tier for tier in TIERS if _rows(workspace, tier, name)]
    tier = arguments.tier or (measured[-1] if measured else "demo")
    with progress.watched_by(_Paced()):
        made = bundle(workspace, name, tier, arguments.out or Path(f"{name}-{tier}.zip"))
    counted = (f"{made.counts[state]} {state}" for state in ("recomputable", "as recorded", "missing"))  # fmt: skip
    print(f"{name}, tier {tier}: {sum(made.counts.values())} numbers, {', '.join(counted)}")
    for cell, why in made.unmade:
        print(f"  not recomputable: {cell}: {why}")
    for sentence in made.missing:
        print(f"  missing: {sentence}")
    for sentence in made.wrong:
        print(f"  wrong: {sentence}")
    print(f"{made.path}  {made.size / 2**20:.1f} MiB")
    return FAILED if made.wrong else HOLDS


def _verify_bundle(arguments: argparse.Namespace) -> int:
    from .core import progress
    from .evidence.verify import verify

    with progress.watched_by(_Paced()):
        found = verify(arguments.file)
    print(found)
    return found.code


def _self_test(arguments: argparse.Namespace) -> int:
    """Exit code 1 if a bug survives; 3 if the guard finds fault with the code as it is."""
    from .core import progress
    from .guard import selftest

    mutants = selftest.chosen(arguments.only)
    if arguments.list:
        for mutant in mutants:
            print(f"{mutant.name}  ({mutant.file})")
        return HOLDS
    with progress.watched_by(_Paced()):
        found = list(selftest.run(mutants, arguments.workers))
    print(selftest.table(found, mutants))
    return HOLDS if all(one.caught for one in found) else FAILED


def _check_model(arguments: argparse.Namespace) -> int:
    from .launch.contract import check_model

    for finding in check_model(spec.model(arguments.model)):
        print(f"ok  {finding}", flush=True)
    print(f"{arguments.model} keeps the contract")
    return HOLDS


def _rows(workspace: Workspace, tier: str, name: str) -> list[ResultRow]:
    path = workspace.results(tier, name)
    return results.read(path, ResultRow) if path.exists() else []


def _published(name: str) -> list[PublishedValue]:
    path = protocols.published_path(name)
    return results.read(path, PublishedValue) if path.exists() else []


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f}"


def _labels(text: str) -> tuple[str, ...]:
    """`A,B` as ("A", "B"); a comma that belongs to a label is written `\\,`, as reports do: `DM-VAE\\, γ=0`."""
    parts = (part.strip().replace("\\,", ",") for part in re.split(r"(?<!\\),", text))
    return tuple(part for part in parts if part)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration; expected 90s, 40m, 2h or 1h30m"
        )
    return sum(
        float(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] for number, unit in parts
    )


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _shard(text: str) -> Shard:
    try:
        return Shard.read(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _asked_of_slurm(arguments: argparse.Namespace) -> Any:
    """What the arguments ask of a Slurm queue. Raises UsageError where no queue was asked for."""
    from .launch.slurm import Asked

    parameters = []
    for text in arguments.slurm:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--slurm {text!r} cannot be read; expected KEY=VALUE such as account=lab"
            )
        parameters.append((key, value))
    minutes = None if arguments.time is None else max(1, math.ceil(arguments.time / 60))
    asked = Asked(arguments.partition, arguments.gpus, minutes, tuple(parameters))
    if asked != Asked() and arguments.executor != "slurm":
        raise UsageError("--partition, --gpus, --time and --slurm belong to --executor slurm")
    return asked


def _change(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise UsageError(f"--set {text!r} cannot be read; expected KEY=VALUE such as model.lr=3e-4")
    if key.partition(".")[0] not in ("model", "training", "dataset", "metric"):
        raise unknown("--set key", key, ["model.", "training.", "dataset.", "metric."])
    return key.strip(), value.strip()


def _allowance(text: str) -> tuple[str, float]:
    metric, _, amount = text.rpartition("=")
    try:
        return metric, float(amount)
    except ValueError:
        raise UsageError(
            f"--allow {text!r} cannot be read; expected METRIC=X such as LL=0.5"
        ) from None


def _addition(text: str) -> tuple[str, spec.Spec]:
    label, equals, where = text.partition("=")
    if not equals or not label.strip() or not where.strip():
        raise UsageError(
            f"--model {text!r} cannot be read; expected LABEL=MODULE:CLASS such as SLATE=my_lab.slate:SLATE"
        )
    return label.strip(), spec.model(where.strip())


if __name__ == "__main__":
    sys.exit(main())
