"""Where jobs run: here, in processes of this machine. A cluster is one more function: `slurm.slurm` has the same shape.

One process per job, so whatever a model does to its process ends with it. A worker that dies costs its own cells a row
that says so, and so does one that hangs: it is killed after `Place.stall` seconds without progress. Each worker has a
pipe of its own: one that is killed while it writes can block no other.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import torch

from ..core import progress
from ..core.errors import UsageError
from ..core.workspace import Workspace
from ..training.engine import Engine, choose, cores, keep_freed_memory
from ..training.fit import Stop
from . import cells
from .display import Display, duration
from .plan import Job, Planned
from .processes import processes
from .provenance import Provenance, provenance
from .work import Ended, work

REPORT_EVERY = 0.3  # seconds between two progress messages of a worker
PARTING = 5.0  # seconds that a worker has to exit in when all it had to write is written
AWAKE = 2.0  # the longest gap between two looks of the driver that counts as a worker's silence, in seconds


@dataclass(frozen=True)
class Place:
    """How to compute; none of it enters an identity.

    workers: 0 to choose. deadline: on time.time's clock. checkpoint_every: seconds.
    stall: seconds without progress after which a worker counts as hung. threads: of each worker, 0 to choose.
    compiled: as an Engine is (training/engine.py).
    """

    device: str = "auto"
    precision: str = ""
    workers: int = 0
    deadline: float = math.inf
    checkpoint_every: float = 60.0
    stall: float = 1800.0
    threads: int = 0
    compiled: bool = False

    def engine(self, threads: int = 0) -> Engine:
        """With so many threads, or those of this place. Raises UsageError for one that is not there."""
        return choose(self.device, self.precision, threads or self.threads, self.compiled)

    def sized(self) -> tuple[int, int]:
        """(workers, threads of each). Never a function of what is left to do: threads can change last bits."""
        on_cuda = self.device != "cpu" and torch.cuda.is_available()
        workers = self.workers or (1 if on_cuda else min(cores(), 4))
        return workers, self.threads or max(1, cores() // workers)


@dataclass(frozen=True)
class Signals:
    """Which signals stop a driver, and which one it stops its workers with; they ignore all others of these.

    A terminal sends SIGINT to every process, so workers are told by SIGTERM; a cluster sends SIGTERM and SIGUSR2 to
    every process, so there it is the other way round. again_kills: whether a second signal kills the workers.
    """

    heard: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    passed: int = signal.SIGTERM
    again_kills: bool = True

    def in_worker(self) -> None:
        """Ignore, in a worker, what is not meant for it."""
        for number in {*self.heard, signal.SIGINT, signal.SIGTERM} - {self.passed}:
            signal.signal(number, signal.SIG_IGN)


TERMINAL = Signals()


@dataclass
class Outcome:
    """What became of the jobs.

    failed: how many cells. interrupted: by a signal, the first of which was `signal`.
    stopped: some cells are left to do.
    mendable: whether something failed that the user can mend; troubles: a sentence about each such thing.
    """

    failed: int = 0
    stopped: bool = False
    interrupted: bool = False
    signal: int = 0
    mendable: bool = False
    troubles: list[str] = field(default_factory=list)


def local(
    jobs: Sequence[Job],
    workspace: Workspace,
    place: Place,
    display: Display,
    collected: Any = None,
    signals: Signals = TERMINAL,
) -> Outcome:
    """Work through `jobs` in processes of this machine; `collected()` is called after each.

    The first of `signals` lets every worker stop at a checkpoint, a second one kills them.
    """
    place.engine()  # say now what is wrong with them
    made_by, (workers, threads) = provenance(), place.sized()
    waiting, active = list(jobs), dict[str, _Worker]()
    outcome = Outcome()
    looked = time.monotonic()
    with _signals(active, outcome, display, signals):
        while waiting or active:
            if waiting and (outcome.interrupted or time.time() >= place.deadline):
                outcome.stopped, waiting = True, []
            while waiting and len(active) < workers and not outcome.interrupted:
                job = waiting.pop(0)
                display.start(job.run.id)
                active[job.run.id] = worker = _Worker(
                    job, workspace, place, threads, made_by, signals
                )
                if outcome.interrupted:  # while it was made, which can take seconds
                    worker.stop(signals.passed)
            handles = [w.pipe for w in active.values()] + [
                w.process.sentinel for w in active.values()
            ]
            multiprocessing.connection.wait(handles, timeout=0.5) if handles else None
            # A machine that slept, or a driver that was stopped, is no silence of the workers.
            passed, looked = min(time.monotonic() - looked, AWAKE), time.monotonic()
            for run, worker in list(active.items()):
                if worker.listen(display, outcome) or worker.hangs(passed, display, outcome):
                    del active[run]
                    if worker.unattempted:
                        waiting.insert(0, Job(worker.job.run, worker.unattempted))
                    else:
                        display.end(run)
                    if collected is not None:
                        collected()
            display.tick()
    stored = [
        cells.read(workspace, job.run.id, planned.id) for job in jobs for planned in job.cells
    ]
    outcome.failed = sum(cell is not None and cell["status"] == "failed" for cell in stored)
    return outcome


class _Worker:
    """The parent's side of one worker process. unattempted: cells that a death kept from being tried."""

    def __init__(
        self,
        job: Job,
        workspace: Workspace,
        place: Place,
        threads: int,
        made_by: Provenance,
        signals: Signals,
    ) -> None:
        self.job, self.workspace, self.stall = job, workspace, place.stall
        self.silent = 0.0  # seconds since it was last heard of
        self.tried: set[str] = set()
        self.measuring = ""
        self.unattempted: tuple[Planned, ...] = ()
        self.stopping = False
        context = processes()
        self.pipe, theirs = context.Pipe(duplex=False)
        arguments = (theirs, job, workspace, place, threads, made_by, signals)
        self.process: BaseProcess = context.Process(
            target=_work_here, args=arguments, name=job.run.id
        )
        self.process.start()
        theirs.close()

    def listen(self, display: Display, outcome: Outcome) -> bool:
        """Pass on what the worker said; True once it is over."""
        run, dead = self.job.run.id, not self.process.is_alive()
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.poll():
                kind, *content = self.pipe.recv()
                self.silent = 0.0
                if kind == "progress":
                    display.heard(run, *content)
                elif kind == "measuring":
                    self.measuring = content[0]
                    display.measuring(run)
                elif kind == "cell":
                    self.tried.add(content[0])
                    self.measuring = ""
                    display.measured(run)
                elif kind == "note":
                    display.note(content[0])
                elif kind == "trouble":
                    if content[0] not in outcome.troubles:
                        outcome.troubles.append(content[0])
                else:
                    self._ended(content[0], outcome)
                    return True
        if dead:
            self.process.join()
            code = self.process.exitcode or 0
            cause = f"signal {-code}" if code < 0 else f"exit code {code}"
            if code == -signal.SIGKILL:
                cause += ", as when memory runs out"
            self._lost(f"worker died ({cause})", display, outcome)
        return dead

    def hangs(self, passed: float, display: Display, outcome: Outcome) -> bool:
        """Whether nothing was heard for too long; then it is killed, and where it hung stands in output.txt."""
        self.silent += passed
        if self.silent < self.stall:
            return False
        self._signal(signal.SIGABRT)  # faulthandler writes the stack
        self._part()
        self._lost(f"no progress for {duration(self.stall)}", display, outcome)
        return True

    def stop(self, number: int) -> None:
        """Ask it to stop at a checkpoint. Once: a second signal would tell it not to wait for one."""
        if not self.stopping:
            self.stopping = True
            self._signal(number)

    def _part(self) -> None:
        """Wait for its end, and not for threads that a model left behind."""
        self.process.join(PARTING)
        self.process.kill()
        self.process.join()

    def _signal(self, number: int) -> None:
        if self.process.pid is not None and self.process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def _ended(self, ended: Ended, outcome: Outcome) -> None:
        self._part()
        outcome.mendable |= ended.mendable
        outcome.stopped |= ended.status == "stopped"

    def _lost(self, cause: str, display: Display, outcome: Outcome) -> None:
        """A death while a cell was measured costs that cell; one before that costs all of the run's."""
        run = self.job.run.id
        if outcome.interrupted:  # killed on request: the next call goes on from the checkpoint
            outcome.stopped = True
            return
        note = f"{cause}; what it printed is in runs/{run}/output.txt"
        display.note(f"{run}: {note}")
        left = [planned for planned in self.job.cells if planned.id not in self.tried]
        lost = [planned for planned in left if self.measuring in ("", planned.id)]
        self.unattempted = tuple(planned for planned in left if planned not in lost)
        for planned in lost:
            display.measured(run)
            failure = {"status": "failed", "note": note, "dialect": planned.row.dialect}
            with contextlib.suppress(UsageError):
                cells.write(self.workspace, run, planned.id, failure)


@contextlib.contextmanager
def _signals(
    active: dict[str, _Worker], outcome: Outcome, display: Display, signals: Signals
) -> Iterator[None]:
    """Pass what is heard on to the workers."""

    def heard(number: int, _frame: FrameType | None) -> None:
        again, outcome.interrupted = outcome.interrupted, True
        outcome.signal = outcome.signal or number
        if not again:
            more = "; once more to kill" if signals.again_kills else ""
            display.note(f"stopping at a checkpoint{more}")
        for worker in list(active.values()):
            if not again:
                worker.stop(signals.passed)
            elif signals.again_kills:
                worker.process.kill()

    before = {number: signal.signal(number, heard) for number in signals.heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for worker in active.values():  # only after an exception of our own
            worker.process.kill()


def _work_here(
    pipe: Connection,
    job: Job,
    workspace: Workspace,
    place: Place,
    threads: int,
    made_by: Provenance,
    signals: Signals,
) -> None:
    """The whole life of a worker process."""
    signals.in_worker()
    parent = multiprocessing.parent_process()
    stop = Stop(
        place.deadline, (signals.passed,), lambda: parent is not None and not parent.is_alive()
    )
    last = ("", 0.0)

    def say(*message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # the driver was killed; finish what is at hand
            pipe.send(message)

    def watch(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if what != last[0] or done == total or now - last[1] >= REPORT_EVERY:
            last = (what, now)
            say("progress", what, done, total)

    ended = Ended("stopped")
    try:
        with stop, progress.watched_by(watch):
            _redirect_output(workspace, job.run.id)
            faulthandler.enable()  # a worker that crashes or hangs says where
            keep_freed_memory()
            engine = place.engine(threads)
            ended = work(job, workspace, engine, made_by, stop, say, place.checkpoint_every)
    except KeyboardInterrupt:
        pass
    except UsageError as error:
        say("trouble", str(error))
        ended = Ended("finished", mendable=True)
    say("end", ended)


def _redirect_output(workspace: Workspace, run: str) -> None:
    """Whatever a model or its libraries print goes to runs/<id>/output.txt, not between the bars."""
    folder = workspace.run(run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "output.txt").open("ab") as file:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    except OSError as error:
        raise UsageError(
            f"cannot write {folder}: {error.strerror}; choose another folder with --root or make this one writable"
        ) from error
