"""Where jobs run: on a Slurm cluster, one task for each run, submitted through submitit (the extra `slurm`).

A task is `executors.local` with one job and one worker, on whatever node the queue gives it: a hang, a crash or a cell
that fails means there what it means here. The folder of results, runs and reports must be on a disk that all nodes
see; it is the only channel: a task writes cells, `slurm/progress.json` and, at its end, `slurm/ended.json` below
runs/<run>/, and this command reads them. So this command may be interrupted, or its machine switched off: calling again
finds the tasks in the queue by their names and waits for them, and submits nothing twice.

Near its time limit, Slurm sends a task SIGUSR2: it stops at a checkpoint and puts itself back into the queue, as
often as it takes, as long as it makes progress. Preempted, requeued and lost to a node that died, it is started again
by Slurm, and goes on from its last checkpoint; where Slurm gives up on it, this command submits it anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from ..core.errors import UsageError
from ..core.files import write_text
from ..core.workspace import Workspace
from ..training import checkpoint
from . import cells
from .display import Display, duration
from .estimate import Estimate, estimates
from .executors import Outcome, Place, Signals, local
from .known import DONE
from .plan import Job
from .processes import warm_up

FOLDER = "slurm"  # below runs/<run>/: what submitit writes, the task's progress, how it ended
CPUS = 4  # of a task, unless --slurm cpus_per_task says otherwise
SAVING = 120  # seconds between SIGUSR2 and the time limit: enough to finish a step and write a checkpoint
UNTIMED = (
    240  # minutes asked for where nothing could be timed: a task that needs more requeues itself
)
WRITE_EVERY = 2.0  # seconds between two versions of progress.json
AGAIN_WITHIN = 5.0  # seconds in which a second Ctrl-C cancels
MEMORY = {
    "mem_gb",
    "mem",
    "mem_per_cpu",
    "mem_per_gpu",
}  # what --slurm may call it; sbatch wants only one of them
FRUITLESS = 3  # submissions in a row that neither advance a checkpoint nor finish a cell, until a run counts as failed
HEARD = (signal.SIGTERM, signal.SIGUSR2)  # by a task: somebody ends it; its time is nearly over
OVER_WITHOUT_FAULT = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "TIMEOUT", "REQUEUED", "KILLED")


@dataclass(frozen=True)
class Asked:
    """What a task asks the queue for. gpus: None for one where the partition has any. minutes: None for the estimate's.

    Memory is the estimate's, unless it is one of the parameters.
    parameters: further ones, `--slurm KEY=VALUE`: what submitit or sbatch call them.
    """

    partition: str = ""
    gpus: int | None = None
    minutes: int | None = None
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass
class _Watched:
    """A run that is in the queue. task: Slurm's job id. ours: submitted by this call, so with all cells of `job`."""

    job: Job
    task: str
    ours: bool
    left: set[str] | None = None  # cells that were not measured when we last looked
    heard: dict[str, Any] = field(default_factory=dict)


def slurm(
    jobs: Sequence[Job],
    workspace: Workspace,
    place: Place,
    asked: Asked,
    display: Display,
    collected: Any = None,
) -> Outcome:
    """Work through `jobs` as tasks of a Slurm queue; `collected()` is called whenever cells have come.

    The first SIGINT leaves the tasks in the queue, a second one soon after it cancels them; SIGTERM leaves them.
    Raises UsageError where there is no Slurm, no submitit, or the queue refuses what was asked for.
    """
    _need_slurm()
    workspace = Workspace(workspace.root.resolve())
    queue, outcome = _Queue(workspace), Outcome()
    watched: dict[str, _Watched] = {}
    waiting: list[Job] = []
    there = queue.now()
    if there is None:
        raise UsageError("--executor slurm: the queue does not answer (`squeue`); try again later")
    for job in jobs:
        if (name := queue.name(job.run.id)) in there:
            display.start(job.run.id)
            watched[job.run.id] = _Watched(job, there[name].task, ours=False)
            display.note(f"{job.run.id}: is in the queue already, as Slurm job {there[name].task}")
        else:
            waiting.append(job)
    requests = _requests(waiting, workspace, place, asked, display)
    attempts: dict[
        str, tuple[object, int]
    ] = {}  # run -> how far it was, submissions without progress
    pause, leaving = 1.0, _Leaving()
    with leaving:
        while (waiting or watched) and not leaving.asked:
            if time.time() >= place.deadline:
                queue.cancel([one.task for one in watched.values()])
                outcome.stopped, waiting = True, []
            while waiting and (not place.workers or len(watched) < place.workers):
                job = waiting.pop(0)
                task = _submit(job, workspace, place, requests[job.run.id], queue)
                display.start(job.run.id)
                watched[job.run.id] = _Watched(job, task, ours=True)
            changed = False
            queued = queue.now()
            for run, one in list(watched.items()):
                changed |= _look(one, workspace, display, queued, queue)
                if queued is None or queue.name(run) in queued:
                    continue
                changed = True
                del watched[run]
                left = _over(one, workspace, queue, outcome, display, attempts)
                if left is not None:
                    waiting.append(left)
                    if run not in requests:
                        requests |= _requests([left], workspace, place, asked, display)
                else:
                    display.end(run)
            if changed and collected is not None:
                collected()
            pause = 1.0 if changed else min(pause * 1.5, 15.0)
            leaving.sleep(pause if watched else 0.0, display)
        if leaving.asked and watched:
            outcome.interrupted = outcome.stopped = True
            tasks = [one.task for one in watched.values()]
            if leaving.cancels(display, len(tasks)):
                queue.cancel(tasks)
                display.note(f"{len(tasks)} tasks cancelled; each stops at a checkpoint")
    stored = [
        cells.read(workspace, job.run.id, planned.id) for job in jobs for planned in job.cells
    ]
    outcome.failed = sum(cell is not None and cell["status"] == "failed" for cell in stored)
    return outcome


class _Leaving:
    """SIGINT and SIGTERM while the tasks are watched: a wish to leave, not to stop them."""

    def __init__(self) -> None:
        self.asked = self.again = self.terminal = False

    def __enter__(self) -> _Leaving:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._heard) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.again |= self.asked and number == signal.SIGINT
        self.terminal |= number == signal.SIGINT
        self.asked = True

    def sleep(self, seconds: float, display: Display) -> None:
        """Wait, with an eye on the display; shorter once somebody wants to leave."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.asked:
            display.tick()
            time.sleep(0.1)

    def cancels(self, display: Display, tasks: int) -> bool:
        """Say what leaving means, and wait for the second Ctrl-C that means the other thing."""
        more = f"; Ctrl-C within {AGAIN_WITHIN:.0f} s cancels them" if self.terminal else ""
        display.note(
            f"{tasks} tasks stay in the queue (`squeue --me`) and go on without this command; "
            f"the same command finds them again{more}"
        )
        until = time.monotonic() + (AGAIN_WITHIN if self.terminal else 0.0)
        while time.monotonic() < until and not self.again:
            time.sleep(0.1)
        return self.again


@dataclass(frozen=True)
class _Queued:
    task: str
    state: str
    reason: str


class _Queue:
    """Slurm's queue, by its own commands. A task's name says which run of which folder it is."""

    def __init__(self, workspace: Workspace) -> None:
        self.mark = hashlib.sha256(str(workspace.root).encode()).hexdigest()[:8]

    def name(self, run: str) -> str:
        """The name of a run's task."""
        return f"reprise-{self.mark}-{run}"

    def now(self) -> dict[str, _Queued] | None:
        """Our tasks that wait or run, by name; None while the controller does not answer."""
        told = _told("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%T|%j|%r")
        if told is None:
            return None
        lines = [line.strip().split("|") for line in told.splitlines() if line.count("|") == 3]
        ours = f"reprise-{self.mark}-"
        return {n: _Queued(task, state, why) for task, state, n, why in lines if n.startswith(ours)}

    def ended_as(self, task: str) -> str:
        """The state of a task that has left the queue; "" once the controller has forgotten it.

        A script that fails because it was sent SIGTERM was ended by somebody else: tasks listen to it, and say so.
        Slurm itself does it, in its log "due to node failure", where a node is back before the order to kill what
        ran on it has arrived; the order then meets the same job, requeued. A script that ends with submitit's 255 has
        asked to be requeued, and Slurm took its end for that of the job. Both states are here called KILLED.
        """
        told = _told("scontrol", "show", "job", task, "--oneliner") or ""
        found = re.search(r"\bJobState=(\w+)", told)
        state = found.group(1) if found else ""
        may_go_on = re.search(r"\bExitCode=(0:15|255:0)\b", told)
        return "KILLED" if state == "FAILED" and may_go_on else state

    def cancel(self, tasks: Sequence[str]) -> None:
        """Let tasks stop at a checkpoint and leave the queue."""
        if tasks:
            _told("scancel", *tasks)


def _told(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _need_slurm() -> None:
    if lacking := [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]:
        raise UsageError(
            f"--executor slurm: there is no {lacking[0]} here; call on a machine that submits to a Slurm cluster, "
            "or divide the runs with --shard"
        )
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise UsageError(
            "--executor slurm needs submitit; install it with `pip install 'reprise[slurm]'`"
        ) from None


def _requests(
    jobs: Sequence[Job], workspace: Workspace, place: Place, asked: Asked, display: Display
) -> dict[str, dict[str, Any]]:
    """What each run asks the queue for, in submitit's words; a run is timed unless its time and memory were given."""
    if not jobs:
        return {}
    import torch

    gpus = asked.gpus
    if gpus is None:
        gpus = int(place.device != "cpu" and _has_gpus(asked.partition))
    common: dict[str, Any] = {
        "cpus_per_task": CPUS,
        "slurm_signal_delay_s": SAVING,
        "stderr_to_stdout": True,
    }
    if asked.partition:
        common["slurm_partition"] = asked.partition
    if gpus:
        common["gpus_per_node"] = gpus
    further, known = {}, _parameters()
    for key, text in asked.parameters:
        value: str | int = int(text) if text.isdigit() else text
        name = key.replace("-", "_")
        if name in known:
            common[known[name]] = value
        else:
            further[key.replace("_", "-")] = value
    if further:
        common["slurm_additional_parameters"] = further
    if asked.minutes is not None:
        common["timeout_min"] = asked.minutes
    # Without a request for memory many clusters lend the whole node to each task. On a GPU the estimate is of the GPU's
    # memory, which no queue divides.
    wants_memory = not gpus and not MEMORY & {key.replace("-", "_") for key, _ in asked.parameters}
    if asked.minutes is not None and not wants_memory:
        return {job.run.id: dict(common) for job in jobs}
    if gpus and not torch.cuda.is_available():
        display.note(
            f"no GPU here to time a step on: each task asks for {duration(UNTIMED * 60)}, and for more when that "
            "is over; --time says otherwise"
        )
        return {job.run.id: {"timeout_min": UNTIMED, **common} for job in jobs}
    found: dict[str, dict[str, Any]] = {}
    threads = int(common["cpus_per_task"])
    timing = dataclasses.replace(place, workers=1, threads=threads)
    display.note(f"timing a few steps of {len(jobs)} runs here; data that they lack is made first")
    for done, (job, estimate) in enumerate(estimates(jobs, workspace, timing), 1):
        display.note(f"timed {done} of {len(jobs)}: {job.run.id}")
        found[job.run.id] = {**_sized(estimate, wants_memory), **common}
    return found


def _sized(estimate: Estimate, wants_memory: bool) -> dict[str, Any]:
    """Half as much time again as training takes, and half an hour for measuring; twice the memory, and 4 GB."""
    if estimate.trouble:
        return {"timeout_min": UNTIMED}
    asked: dict[str, Any] = {"timeout_min": math.ceil(1.5 * estimate.seconds / 60) + 30}
    if wants_memory:
        asked["mem_gb"] = math.ceil(2 * estimate.memory / 2**30) + 4
    return asked


def _has_gpus(partition: str) -> bool:
    told = _told("sinfo", "--noheader", "--format=%G", *([f"-p{partition}"] if partition else []))
    return "gpu" in (told or "")


def _parameters() -> dict[str, str]:
    """Names that submitit knows, as it wants them in `update_parameters`."""
    import submitit

    shared = ("timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
    own = submitit.SlurmExecutor._valid_parameters()
    return {name: f"slurm_{name}" for name in own} | {name: name for name in shared}


def _submit(
    job: Job, workspace: Workspace, place: Place, request: Mapping[str, Any], queue: _Queue
) -> str:
    """Submit one task; Slurm's id of it."""
    import submitit

    run = job.run.id
    folder = workspace.run(run) / FOLDER
    threads = int(request["cpus_per_task"])
    task = Task(job, workspace.root, dataclasses.replace(place, workers=1, threads=threads))
    try:
        (folder / "ended.json").unlink(missing_ok=True)
        executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=1_000_000)
        executor.update_parameters(name=queue.name(run), **request)
        return str(executor.submit(task).job_id)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror}") from error
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise UsageError(
            f"Slurm refused the task of {run}: {reason}; see --partition, --gpus, --time and --slurm"
        ) from error
    except (ValueError, TypeError, AssertionError, NameError) as error:
        said = " ".join(str(error).split())[:300]
        raise UsageError(f"--slurm: {said}") from error


def _look(
    one: _Watched,
    workspace: Workspace,
    display: Display,
    queued: Mapping[str, _Queued] | None,
    queue: _Queue,
) -> bool:
    """Pass on how far a task is; True if cells have come since we last looked."""
    run = one.job.run.id
    left = {p.id for p in one.job.cells if not _done(workspace, run, p.id)}
    before = {p.id for p in one.job.cells} if one.left is None else one.left
    for _ in before - left:
        display.measured(run)
    one.left = left
    entry = (queued or {}).get(queue.name(run))
    if entry is not None and entry.state == "PENDING":
        display.heard(run, f"pending ({entry.reason})", 0, 0)
    elif entry is not None:
        told = _read(workspace.run(run) / FOLDER / "progress.json")
        if told.get("task") == entry.task and isinstance(told.get("what"), str):
            display.heard(run, told["what"], int(told["done"]), int(told["total"]))
        else:
            display.heard(run, entry.state.lower(), 0, 0)
    return bool(before - left)


def _over(
    one: _Watched,
    workspace: Workspace,
    queue: _Queue,
    outcome: Outcome,
    display: Display,
    attempts: dict[str, tuple[object, int]],
) -> Job | None:
    """A task has left the queue: what became of it, and the job that is to be submitted next, if any."""
    run, state = one.job.run.id, queue.ended_as(one.task)
    ended = _read(workspace.run(run) / FOLDER / "ended.json")
    if ended.get("task") != one.task:
        ended = {}
    outcome.mendable |= bool(ended.get("mendable"))
    for trouble in ended.get("troubles", ()):
        if trouble not in outcome.troubles:
            outcome.troubles.append(trouble)
    tried = set(ended.get("tried", ())) if ended.get("status") == "finished" else set()
    left = [p for p in one.job.cells if p.id not in tried and not _done(workspace, run, p.id)]
    if not left:
        return None
    rest = Job(one.job.run, tuple(left))
    far = _far(workspace, run)
    before, fruitless = attempts.get(run, (None, 0))
    fruitless = fruitless + 1 if far == before else 0
    attempts[run] = (far, fruitless)
    more = not one.ours if ended.get("status") == "finished" else state in OVER_WITHOUT_FAULT
    if more and fruitless < FRUITLESS and not outcome.stopped:
        display.note(f"{run}: Slurm job {one.task} ended as {state or 'unknown'}; submitted again")
        return rest
    if ended.get("status") == "stopped" or state == "CANCELLED":
        display.note(f"{run}: Slurm job {one.task} was cancelled; calling again goes on")
        outcome.stopped = True
        return None
    note = f"Slurm job {one.task} ended without a result ({state or 'state unknown'})"
    if state == "OUT_OF_MEMORY":
        note += ": ask for more with --slurm mem_gb=N"
    note += f"; what it printed is in runs/{run}/{FOLDER}/{one.task}_0_log.out"
    display.note(f"{run}: {note}")
    for planned in left:
        display.measured(run)
        failure = {"status": "failed", "note": note, "dialect": planned.row.dialect}
        with contextlib.suppress(UsageError):
            cells.write(workspace, run, planned.id, failure)
    return None


def _done(workspace: Workspace, run: str, cell: str) -> bool:
    stored = cells.read(workspace, run, cell)
    return stored is not None and stored["status"] in DONE


def _far(workspace: Workspace, run: str) -> tuple[int, int]:
    """How far a run is: changes whenever its checkpoint advances or a cell is finished."""
    folder = workspace.run(run)
    saved = 0
    with contextlib.suppress(OSError):
        saved = (folder / checkpoint.FILE).stat().st_mtime_ns
    names = [path.stem for path in (folder / "cells").glob("*.json")]
    return saved, sum(_done(workspace, run, name) for name in names)


def _read(path: Path) -> dict[str, Any]:
    """A small JSON file that a task has written; {} where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# --- on the node ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One run on one node: what submitit pickles, calls there, and calls again after a requeue."""

    job: Job
    root: Path
    place: Place

    def __call__(self) -> str:
        """Work, and say in ended.json how it ended. Raises SystemExit where the task is to begin again later."""
        requeue = signal.getsignal(
            signal.SIGUSR2
        )  # submitit's: calls `checkpoint` and `scontrol requeue`
        run, workspace = self.job.run, Workspace(self.root)
        folder = workspace.run(run.id) / FOLDER
        (folder / "ended.json").unlink(missing_ok=True)
        # Slurm signals every process of a task; those that are started from here on do not listen.
        for number in HEARD:
            signal.signal(number, signal.SIG_IGN)
        warm_up()
        far = _far(workspace, run.id)
        display = _Written.of([self.job], 1, folder=folder)
        outcome = local(
            [self.job], workspace, self.place, display, signals=Signals(HEARD, signal.SIGINT, False)
        )
        if outcome.signal == signal.SIGUSR2 and callable(requeue):
            if _far(workspace, run.id) != far:
                requeue(signal.SIGUSR2, None)
            note = "nothing was finished within the limit of time; ask for more with --time"
            for planned in self.job.cells:
                if not _done(workspace, run.id, planned.id):
                    failure = {"status": "failed", "note": note, "dialect": planned.row.dialect}
                    cells.write(workspace, run.id, planned.id, failure)
        stopped = outcome.stopped and outcome.signal != signal.SIGUSR2
        ended = {
            "task": os.environ["SLURM_JOB_ID"],
            "status": "stopped" if stopped else "finished",
            "tried": [planned.id for planned in self.job.cells],
            "mendable": outcome.mendable,
            "troubles": outcome.troubles,
        }
        write_text(folder / "ended.json", json.dumps(ended) + "\n")
        return str(ended["status"])

    def checkpoint(self) -> Any:
        """What submitit calls after a requeue: the same again; the run goes on from its checkpoint."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class _Written(Display):
    """A display that also writes, now and then, how far the one run of a task is."""

    def __init__(self, left: dict[str, tuple[str, int, int]], workers: int, folder: Path) -> None:
        super().__init__(left, workers, sys.stdout)
        self.folder, self.written = folder, 0.0

    def heard(self, run: str, what: str, done: int, total: int) -> None:
        """As a display hears it; written where the command that waits can read it."""
        super().heard(run, what, done, total)
        if time.monotonic() - self.written < WRITE_EVERY:
            return
        self.written = time.monotonic()
        task = os.environ["SLURM_JOB_ID"]
        told = {"task": task, "what": what, "done": done, "total": total}
        with contextlib.suppress(UsageError):  # a full disk is told by what matters
            write_text(self.folder / "progress.json", json.dumps(told) + "\n")
