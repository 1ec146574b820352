"""The training loop: a run, from its last checkpoint to its last step.

Step t's batch and noise depend on (run, t) alone. So a run that was killed and called again ends in the same
weights, bit for bit, and no state of a loader or generator needs saving.
"""

from __future__ import annotations

import csv
import io
import math
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core import progress
from ..core.dataset import Dataset, Images
from ..core.errors import ContractError, DataError, StaleError, UsageError
from ..core.files import write_text
from ..core.randomness import seeded
from ..core.run import Run
from ..core.spec import SHARES
from . import checkpoint
from .checkpoint import Checkpoint
from .engine import Engine, computing, set_rate

LOG = "log.csv"
LOG_EVERY = 100


@dataclass(frozen=True)
class Fitted:
    """How far a run came. status: "stopped" can be called again; "diverged" has a non-finite loss, see note."""

    status: Literal["finished", "stopped", "diverged"]
    step: int
    note: str = ""


def never() -> bool:
    """The `stop` of a run that has all the time it needs."""
    return False


class Stop:
    """Says when to stop early: after a deadline, or once a signal has come.

    As a context manager it turns the first such signal into a request, heeded at the next step; a second one,
    or the first while `at_once` is set (nothing half-done is worth keeping), interrupts immediately.
    """

    def __init__(
        self,
        deadline: float = math.inf,
        signals: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM),
        orphaned: Callable[[], bool] = never,
    ) -> None:
        """deadline: on `time.time`'s clock, which processes share. orphaned: whether nobody waits for us any more."""
        self.deadline, self.signals, self.orphaned = deadline, signals, orphaned
        self.signalled = self.at_once = False

    def __call__(self) -> bool:
        """Whether to stop now."""
        return self.signalled or time.time() >= self.deadline or self.orphaned()

    def __enter__(self) -> Stop:
        """Listen for signals."""
        self._before = {number: signal.signal(number, self._heard) for number in self.signals}
        return self

    def __exit__(self, *_: object) -> None:
        """Hand the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        interrupt = self.at_once or self.signalled
        self.signalled = True
        if interrupt:
            raise KeyboardInterrupt


def fit(
    run: Run,
    engine: Engine,
    folder: Path,
    *,
    stop: Callable[[], bool] = never,
    checkpoint_every: float = 60.0,
    log_every: int = LOG_EVERY,
    commit: str = "",
    data: Dataset | None = None,
) -> Fitted:
    """Train `run` to its last step, or until `stop()`; resumes from `folder`/checkpoint.pt.

    On the way the weights after each of SHARES of the training are kept, so that whatever can be measured at its end
    can be measured along it.

    checkpoint_every: seconds. log_every: steps per line of log.csv, whose values are means over those steps.
    commit: of this code, for the checkpoint's record.
    data: in the place of the run's, where nothing but the time of a step is asked for.
    Raises UsageError, DataError or StaleError; whatever was finished by then is on disk.
    """
    training = run.recipe.training
    path = folder / checkpoint.FILE
    last = checkpoint.load(path, run)
    data = data or run.data
    if last is not None and last.step >= training.steps:
        refuse_other_images(path, last, data)
        progress.report("train", last.step, training.steps)
        return Fitted("finished", last.step)
    images, digest = data.split("train").image, data.digest
    if last is not None:
        engine = engine.keeping(last.precision, last.threads, last.fused, last.compiled)
        _check_data(path, last, digest)
    with computing(engine), seeded(0):  # step t is seeded below; this restores the caller's state
        model = engine.place(run.build_model()).train()
        optimizer = engine.optimizer(model, training)
        start, sums, count, seconds = 0, dict[str, float](), 0, 0.0
        devices: tuple[str, ...] = (str(engine),)
        commits: tuple[str, ...] = (commit,) if commit else ()
        if last is not None:
            model.load_state_dict(last.model)
            optimizer.load_state_dict(last.optimizer)
            start, sums, count, seconds = last.step, dict(last.sums), last.count, last.seconds
            devices = (*last.devices, *(d for d in devices if d not in last.devices))
            commits = (*last.commits, *(c for c in commits if c not in last.commits))
        update = engine.updating(model, optimizer, training.clip_norm)
        log = _Log(folder / LOG, start)
        began = saved = time.monotonic()
        logged, logged_step = began, start
        # The host looks at every step's numbers, on CUDA only now and then: a look waits for the device.
        look_every = 1 if engine.device.type == "cpu" else 50
        unseen: list[tuple[int, dict[str, Tensor]]] = []

        def save(step: int, share: float = 1.0) -> None:
            """The checkpoint; with a share of the training, the snapshot after it."""
            whole = share == 1
            log.flush()
            now = Checkpoint(
                step=step,
                model=model.state_dict(),
                optimizer=optimizer.state_dict() if whole else {},
                precision=engine.precision,
                threads=engine.threads,
                devices=devices,
                data_digest=digest,
                seconds=seconds + time.monotonic() - began,
                sums=sums,
                count=count,
                commits=commits,
                fused=engine.fused,
                compiled=engine.compiled,
            )
            checkpoint.save(path if whole else checkpoint.snapshot(folder, share), run, now)

        if last is None and training.steps == 0:
            save(0)
        kept: dict[int, list[float]] = {}
        for share in SHARES:
            kept.setdefault(max(1, round(share * training.steps)), []).append(share)
        for t, batch in _batches(run, images, start, engine):
            compiling = engine.compiled and t == start
            progress.report("compile" if compiling else "train", t, training.steps)
            torch.manual_seed(run.stream("step", t))
            step = torch.full((), t / training.time_scale, device=engine.device)
            set_rate(optimizer, training.rate(t / training.time_scale))
            x = engine.images(batch)
            unseen.append((t, update(x, step)))
            done = t + 1
            now = time.monotonic()
            finished, halted = done == training.steps, stop()
            due = now - saved >= checkpoint_every
            on_line = done % log_every == 0 or finished
            keep = done in kept
            if not (finished or halted or due or on_line or keep or done % look_every == 0):
                continue
            for at, terms in unseen:
                values = _values(terms)
                # A gradient that is not finite has already spoilt the weights, whatever the loss says.
                if not math.isfinite(values["loss"] + values["gradient_norm"]):
                    log.flush()
                    listed = ", ".join(f"{k}={v:.6g}" for k, v in values.items())
                    return Fitted(
                        "diverged", at, f"loss or gradient not finite at step {at}: {listed}"
                    )
                sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
                count += 1
            unseen.clear()
            if on_line:
                rate = (done - logged_step) / max(time.monotonic() - logged, 1e-9)
                log.line(done, {name: total / count for name, total in sums.items()}, rate)
                sums, count, logged, logged_step = {}, 0, time.monotonic(), done
            for share in kept.get(done, ()):
                save(done, share)
            if finished or halted or due:
                save(done)
                saved = time.monotonic()
            if halted and not finished:
                return Fitted("stopped", done)
    progress.report("train", training.steps, training.steps)
    return Fitted("finished", training.steps)


def refuse_other_images(path: Path, last: Checkpoint, data: Dataset) -> None:
    """Raise StaleError where the images at hand are not those that the checkpoint at `path` was trained on.

    Where none are at hand, or their digest is of another kind, nothing can be said.
    """
    there = _at_hand(data)
    if len(there) == len(last.data_digest):
        _check_data(path, last, there)


def _at_hand(data: Dataset) -> str:
    """The digest of images that are there, else "": what is trained outlives them, and none are drawn to compare."""
    try:
        return "" if data.unmade else data.digest
    except DataError:
        return ""


def _check_data(path: Path, last: Checkpoint, digest: str) -> None:
    """Raise StaleError where the checkpoint at `path` was trained on other images than there are now."""
    if last.data_digest != digest:
        raise StaleError(
            f"{path} was trained on data with digest {last.data_digest}, the files now have {digest}; "
            f"restore the files, or delete {path.parent} to train again"
        )


def _values(terms: dict[str, Tensor]) -> dict[str, float]:
    numbers = torch.stack([value.float() for value in terms.values()]).tolist()
    return dict(zip(terms, numbers, strict=True))


def _batches(
    run: Run, images: Images, start: int, engine: Engine
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(t, batch) from step `start` on: each epoch is a permutation of the images, its incomplete last batch dropped."""
    steps, size = run.recipe.training.steps, run.recipe.training.batch_size
    per_epoch = len(images) // size
    if per_epoch == 0:
        raise UsageError(
            f"{run.dataset} has {len(images)} training images; expected at least training.batch_size={size}"
        )
    order: dict[int, NDArray[np.int64]] = {}

    def make(t: int) -> NDArray[np.uint8]:
        epoch, place = divmod(t, per_epoch)
        if epoch not in order:
            order.clear()
            order[epoch] = np.random.default_rng(run.stream("epoch", epoch)).permutation(
                len(images)
            )
        batch = images[order[epoch][place * size : (place + 1) * size]]
        if batch.shape != (size, *run.data.info.shape) or batch.dtype != np.uint8:
            raise ContractError(
                f"{run.dataset} gave images {batch.dtype} {batch.shape}; "
                f"expected uint8 {(size, *run.data.info.shape)}"
            )
        return np.require(batch, requirements=["C", "W"])

    if engine.device.type == "cpu":
        for t in range(start, steps):
            yield t, make(t)
        return
    with ThreadPoolExecutor(1) as pool:  # the host makes the next batch while the device computes
        coming = pool.submit(make, start)
        for t in range(start, steps):
            batch = coming.result()
            if t + 1 < steps:
                coming = pool.submit(make, t + 1)
            yield t, batch


def read_log(path: Path, last: int) -> dict[str, NDArray[np.float64]]:
    """The columns of a training's log.csv up to step `last`, each (S,).

    Raises DataError where it is not there, is damaged, or ends before `last`: whoever deleted it must train again.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in csv.DictReader(file) if int(line["step"]) <= last]
        log = {name: np.array([float(line[name]) for line in lines]) for name in lines[0]}
    except (OSError, ValueError, KeyError, IndexError, TypeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); delete its folder to train again"
        ) from error
    # Between two lines a snapshot may be taken; at a training's end there is a line.
    if log["step"][-1] + LOG_EVERY <= last:
        raise DataError(
            f"{path} ends at step {log['step'][-1]:.0f}, the weights are those of step {last}; "
            "delete its folder to train again"
        )
    return log


class _Log:
    """log.csv: step, loss, named terms, gradient_norm, steps_per_second; cut to the checkpoint's step on resumption."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if start > 0 and path.exists():
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    lines = [dict(line) for line in csv.DictReader(file)]
                self.rows = [line for line in lines if int(line["step"]) <= start]
            except (ValueError, KeyError, csv.Error) as error:
                raise DataError(
                    f"{path} is damaged ({error}); delete it to go on without it"
                ) from error
        self.changed = False

    def line(self, step: int, means: dict[str, float], rate: float) -> None:
        self.rows.append({"step": step, **means, "steps_per_second": f"{rate:.4g}"})
        self.changed = True

    def flush(self) -> None:
        if not self.changed:
            return
        out = io.StringIO()
        writer = csv.DictWriter(out, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, out.getvalue())
        self.changed = False
