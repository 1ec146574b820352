"""What a job would cost: a few real steps, timed in a process of their own."""

from __future__ import annotations

import dataclasses
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from ..core.dataset import Dataset, DatasetInfo, Examples, Split
from ..core.errors import UsageError
from ..core.run import Run
from ..core.spec import SHARES
from ..core.workspace import Workspace
from ..training import checkpoint
from ..training.engine import keep_freed_memory
from ..training.fit import fit
from .display import duration
from .executors import Place
from .plan import Job
from .processes import processes
from .work import sentence

WARM, STEPS, SECONDS = 2, 10, 5.0  # steps not counted, steps counted at most, seconds at most


@dataclass(frozen=True)
class Estimate:
    """seconds_per_step: median. memory: peak bytes of the process, or of the GPU. disk: bytes of the checkpoint and of
    all snapshots that the training will have kept at its end; what its cells store comes on top.

    trouble: why it could not be timed, else "". unmade: images that must be drawn before the training can begin; then
    the steps were timed on noise.
    """

    steps_left: int
    seconds_per_step: float = 0.0
    memory: int = 0
    disk: int = 0
    trouble: str = ""
    unmade: int = 0

    @property
    def seconds(self) -> float:
        """Training time that is left."""
        return self.steps_left * self.seconds_per_step


def estimates(
    jobs: Sequence[Job], workspace: Workspace, place: Place
) -> Iterator[tuple[Job, Estimate]]:
    """Time each job, one after the other; runs that differ in their seed alone are timed once.

    One that is not trained takes no step, and is not timed.
    """
    timed: dict[object, Estimate] = {}
    context = processes()
    _, threads = place.sized()
    for job in jobs:
        run = job.run
        if not job.steps:
            yield job, Estimate(0)
            continue
        kind = (run.model, run.dataset, run.training)
        if kind not in timed:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_time_here, args=(theirs, run, place, threads))
            process.start()
            theirs.close()
            try:
                if ours.poll(place.stall):
                    timed[kind] = ours.recv()
                else:
                    timed[kind] = Estimate(0, trouble=f"no answer for {duration(place.stall)}")
            except EOFError:
                timed[kind] = Estimate(0, trouble="the process died")
            process.kill()
            process.join()
        found, left = timed[kind], job.steps
        try:
            last = checkpoint.load(workspace.run(run.id) / checkpoint.FILE, run)
            left -= last.step if last is not None else 0
        except UsageError as error:
            found = Estimate(0, trouble=str(error))
        yield job, dataclasses.replace(found, steps_left=left)


def _time_here(pipe: Connection, run: Run, place: Place, threads: int) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # what a model prints must stand neither in the table nor beside it
    os.dup2(silence, 2)
    keep_freed_memory()
    ticks: list[float] = []

    def stop() -> bool:  # called after every step
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        ticks.append(time.monotonic())
        return len(ticks) >= WARM + STEPS or ticks[-1] - ticks[0] > SECONDS

    try:
        engine = place.engine(threads)
        with tempfile.TemporaryDirectory() as folder:
            unmade = run.data.unmade
            fit(run, engine, Path(folder), stop=stop, data=_Noise(run) if unmade else None)
            disk = _weights(run, Path(folder))
    except Exception as error:
        pipe.send(Estimate(0, trouble=sentence(error)))
        return
    counted = ticks[WARM - 1 :] if len(ticks) > WARM else ticks
    gaps = sorted(after - before for before, after in itertools.pairwise(counted))
    if torch.cuda.is_initialized():
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send(Estimate(0, gaps[len(gaps) // 2] if gaps else 0.0, memory, disk, unmade=unmade))


def _weights(run: Run, folder: Path) -> int:
    """Bytes of all weights that the training which began in `folder` leaves at its end; 0 where it has diverged."""
    path = folder / checkpoint.FILE
    last = checkpoint.load(path, run)
    if last is None:
        return 0
    one = checkpoint.snapshot(folder, SHARES[0])
    checkpoint.save(one, run, dataclasses.replace(last, optimizer={}))
    # A file for each share, also where a short training has the same step for several.
    return path.stat().st_size + len(SHARES) * one.stat().st_size


class _Noise(Dataset):
    """A batch of the shape of images of which there are none yet; a step takes as long."""

    def __init__(self, run: Run) -> None:
        self._info, self._count = run.data.info, run.recipe.training.batch_size

    @property
    def info(self) -> DatasetInfo:
        return self._info

    @property
    def digest(self) -> str:
        return "noise"

    def split(self, name: Split) -> Examples:
        random = np.random.default_rng(0)
        return Examples(random.integers(0, 256, (self._count, *self.info.shape), np.uint8))
