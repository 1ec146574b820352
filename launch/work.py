"""The unit of work: one run and its missing cells. The only place where a model, a dataset and a metric meet.

    config -> data -> model -> fit -> checkpoint -> each cell's metric -> cells/<cell>.json

Weights are always read back from the checkpoint before they are measured, so a cell cannot tell whether its run was
trained just now or last year. What no training changes is measured before it, on the weights that it begins with. A
cell that fails leaves a row that says so, and the others go on.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from ..core import spec
from ..core.dataset import Dataset
from ..core.errors import ContractError, DataError, NothingToMeasure, StaleError, UsageError
from ..core.files import write_text
from ..core.locks import locked
from ..core.metric import Measurement, Metric, TrainingMetric
from ..core.model import GenerativeModel
from ..core.randomness import seeded
from ..core.run import Run
from ..core.workspace import Workspace
from ..training import checkpoint
from ..training.checkpoint import Checkpoint
from ..training.engine import Engine, computing
from ..training.fit import LOG, Fitted, Stop, fit, read_log
from . import cells
from .known import DONE, described
from .plan import Job, Planned
from .provenance import Provenance

Tell = Callable[[str, str], None]
"""Called as tell(kind, text): "measuring" and "cell" with the id of a cell that begins or ends; "note" with a sentence;
"trouble" with one about something that the user can mend."""


@dataclass(frozen=True)
class Ended:
    """How a job ended. status: "stopped" can be called again.

    mendable: whether something failed that is for the user to mend (a missing file, a full disk); it was told.
    """

    status: Literal["finished", "stopped"]
    mendable: bool = False


def work(
    job: Job,
    workspace: Workspace,
    engine: Engine,
    made_by: Provenance,
    stop: Stop,
    tell: Tell,
    checkpoint_every: float = 60.0,
) -> Ended:
    """Train what is not trained, measure what is not measured; everything finished is on disk at once."""
    folder = workspace.run(job.run.id)
    try:
        working = _Work(job, workspace, engine, made_by, stop, tell, checkpoint_every)
        if not job.trains:  # cells are written whole: nobody has to wait for the end of a training
            return working()
        waiting = lambda sentence: tell("note", f"{job.run.id}: {sentence}")  # noqa: E731
        with locked(folder / "lock", waiting, stop) as mine:
            return working() if mine else Ended("stopped")
    except UsageError as error:
        tell("trouble", str(error))
        return Ended("finished", mendable=True)


@dataclass
class _Work:
    """One job, with its run locked if it is trained. mendable: as in `Ended`, so far."""

    job: Job
    workspace: Workspace
    engine: Engine
    made_by: Provenance
    stop: Stop
    tell: Tell
    checkpoint_every: float
    mendable: bool = False

    def __post_init__(self) -> None:
        self.run, self.folder = self.job.run, self.workspace.run(self.job.run.id)
        self.weights = dict[float, Checkpoint]()  # by share of the training
        self.common: dict[str, Any] = {
            "commit": self.made_by.commit,
            "dirty": self.made_by.dirty,
            "torch": str(torch.__version__),
        }

    def __call__(self) -> Ended:
        # The other holder of the lock, if there was one, may have done our work.
        done = [p for p in self.job.cells if _is_done(self.workspace, self.run, p)]
        for planned in done:
            self.tell("cell", planned.id)
        todo = [planned for planned in self.job.cells if planned not in done]
        untrained = [planned for planned in todo if not planned.needs_training]
        trained = [planned for planned in todo if planned.needs_training]
        if not todo:
            return Ended("finished")
        try:
            _describe(self.run, self.workspace)
        except Exception as error:
            return self._lost(todo, error)
        stopped = not self._measured(untrained)
        if trained and not stopped:
            try:
                fitted = self._fitted()
                if fitted.status == "diverged":
                    self._diverged(trained, fitted)
            except Exception as error:
                return self._lost(trained, error)
            stopped = fitted.status == "stopped"
            if fitted.status == "finished":
                stopped = not self._measured(trained)
        return Ended("stopped" if stopped else "finished", self.mendable)

    def _fitted(self) -> Fitted:
        return fit(
            self.run,
            self.engine,
            self.folder,
            stop=self.stop,
            checkpoint_every=self.checkpoint_every,
            commit=str(self.made_by),
        )

    def _diverged(self, some: Sequence[Planned], fitted: Fitted) -> None:
        """Write that the training of these cells has."""
        for planned in some:
            self._write(planned, status="diverged", note=fitted.note, steps=fitted.step)
            self.tell("cell", planned.id)
        self.tell("note", f"{self.run.id} diverged: {fitted.note}")

    def _lost(self, some: Sequence[Planned], error: Exception) -> Ended:
        """Write that none of these cells can be measured."""
        self._told(self.run.id, error)
        with contextlib.suppress(UsageError):  # on a full disk not even this can be written
            for planned in some:
                self._failed(planned, error)
        return Ended("finished", self.mendable)

    def _measured(self, some: Sequence[Planned]) -> bool:
        """Measure these cells, each on the weights that it asks for; False if it was stopped on the way."""
        for planned in some:
            if self.stop():
                return False
            self.tell("measuring", planned.id)
            try:
                weights = self._weights(planned)
                found = _measure(planned, weights, self.workspace, self.engine, self.stop)
                self._write(planned, **found)
            except NothingToMeasure as error:
                self.tell("note", f"{planned.cell.metric_label} of {self.run.id}: {error}")
                self._write(planned, status="n/a", note=one_line(str(error)))
            except Exception as error:
                self._told(f"{planned.cell.metric_label} of {self.run.id}", error)
                with contextlib.suppress(UsageError):
                    self._failed(planned, error)
            else:
                (self.folder / f"error-{planned.id}.txt").unlink(missing_ok=True)
            self.tell("cell", planned.id)
        return True

    def _weights(self, planned: Planned) -> Checkpoint:
        share = planned.cell.model.trained if planned.needs_training else 0.0
        if share not in self.weights:
            self.weights[share] = (
                _kept(self.run, self.folder, share)
                if share
                else checkpoint.initial(self.run, self.engine)
            )
        return self.weights[share]

    def _told(self, what: str, error: Exception) -> None:
        mendable = isinstance(error, UsageError)
        self.mendable |= mendable
        self.tell("trouble" if mendable else "note", f"{what}: {sentence(error)}")

    def _failed(self, planned: Planned, error: Exception) -> None:
        told = "".join(traceback.format_exception(error))
        write_text(self.folder / f"error-{planned.id}.txt", _written(told))
        self._write(planned, status="failed", note=sentence(error))

    def _write(self, planned: Planned, **found: Any) -> None:
        found = {"dialect": planned.row.dialect, **self.common, **found}
        cells.write(self.workspace, self.run.id, planned.id, found)


def _kept(run: Run, folder: Path, share: float) -> Checkpoint:
    """What a finished training left behind after a share of its steps. Raises DataError if that is not there."""
    path = folder / checkpoint.FILE if share == 1 else checkpoint.snapshot(folder, share)
    found = checkpoint.load(path, run)
    if found is None:
        raise DataError(
            f"the weights after {share:.0%} of the training are not in {path}: it was trained before they were kept, "
            f"or they were deleted; delete {folder} to train again"
        )
    return found


def _measure(
    planned: Planned, weights: Checkpoint, workspace: Workspace, engine: Engine, stop: Stop
) -> dict[str, Any]:
    """One number. The model is made anew for every cell, so no metric sees what another left behind."""
    assert planned.run is not None
    run = planned.run
    metric, data = spec.build(planned.cell.metric), spec.build(planned.cell.dataset)
    assert isinstance(metric, Metric)
    if not isinstance(data, Dataset):
        raise ContractError(f"{planned.cell.dataset.name} is not a reprise Dataset")
    began = time.monotonic()
    # The run's own number of threads: sums in another order would change last bits. Metrics are computed in fp32.
    measuring = engine.keeping("fp32", weights.threads, weights.fused)
    stop.at_once = True  # a cell has no half
    try:
        with computing(measuring), seeded(0):
            model = trained(run, weights, measuring)
            torch.manual_seed(run.stream("measure", planned.id))
            with torch.no_grad():
                if isinstance(metric, TrainingMetric):
                    found = metric.of_log(read_log(workspace.run(run.id) / LOG, weights.step))
                else:
                    found = metric(model, data)
    finally:
        stop.at_once = False
    if not isinstance(found, Measurement):
        raise ContractError(
            f"{planned.cell.metric.name} returned {type(found).__name__}; expected a Measurement"
        )
    found.checked(planned.cell.metric.name)
    if not math.isfinite(found.value):
        raise ArithmeticError(f"the value is {found.value}, not a finite number")
    artifact, digest = cells.write_arrays(workspace, run.id, planned.id, found.arrays)
    on = ", ".join(weights.devices)
    dialect = " ".join(part for part in (metric.dialect, found.dialect) if part)
    return {
        "status": "ok",
        "value": float(found.value),
        "stderr": None if found.stderr is None else float(found.stderr),
        "n": int(found.n),
        "censored": found.censored,
        "dialect": dialect,
        "device": on if str(measuring) in weights.devices else f"{on}; measured on {measuring}",
        "precision": weights.precision,
        "steps": weights.step,
        "trained_commit": ", ".join(weights.commits),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "data_digest": data.digest if metric.reads else "",
        "artifact": artifact,
        "artifact_digest": digest,
        "train_seconds": round(weights.seconds, 1),
        "measure_seconds": round(time.monotonic() - began, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def trained(run: Run, weights: Checkpoint, engine: Engine) -> GenerativeModel[Any]:
    """The model with its trained weights, in eval mode, ready to be measured."""
    model = engine.place(run.build_model())
    model.load_state_dict(weights.model)
    return model.eval()


def sentence(error: BaseException) -> str:
    """An error in one line."""
    text = one_line(str(error))
    if isinstance(error, UsageError):
        return text
    return f"{type(error).__name__}: {text}"[:400] if text else type(error).__name__


def one_line(text: str) -> str:
    """Text that can stand in a row: no line ends, of whatever kind."""
    return _written(" ".join(text.split()))


def _written(text: str) -> str:
    """Text that can be written as UTF-8: the name of a file, in a message, may be bytes of any kind."""
    return text.encode(errors="backslashreplace").decode()


def _is_done(workspace: Workspace, run: Run, planned: Planned) -> bool:
    stored = cells.read(workspace, run.id, planned.id)
    whole = cells.arrays_are_whole(workspace, run.id, planned.id)
    return stored is not None and stored["status"] in DONE and whole


def _describe(run: Run, workspace: Workspace) -> None:
    """Write run.json: for people, and for whoever asks later what the cells of this folder were made with.

    Raises StaleError where the folder has weights or finished cells that were made under other settings.
    """
    folder = workspace.run(run.id)
    if (then := described(folder)) is not None and (changed := run.changed(then)):
        names = [path.stem for path in (folder / "cells").glob("*.json")]
        stored = [cells.read(workspace, run.id, name) for name in names]
        finished = any(cell is not None and cell["status"] in DONE for cell in stored)
        if finished or (folder / checkpoint.FILE).exists():
            raise StaleError(f"{folder} was made with {changed}, or delete {folder} to train again")
    text = json.dumps(_description(run), indent=1, sort_keys=True)
    write_text(folder / "run.json", text + "\n")


def _description(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "model": str(run.model),
        "dataset": str(run.dataset),
        "identity": run.identity,
        "settings": run.settings,
    }
