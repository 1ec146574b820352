"""The unit of work: one run and its missing cells. The only place where a model, a dataset and a metric meet.

    config -> data -> model -> fit -> checkpoint -> each cell's metric -> cells/<cell>.json

Weights are always read back from the checkpoint before they are measured, so a cell cannot tell whether its run was
trained just now or last year. A cell that fails leaves a row that says so, and the others go on.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch

from ..core import spec
from ..core.dataset import Dataset
from ..core.errors import ContractError, DataError, NothingToMeasure, StaleError, UsageError
from ..core.files import write_text
from ..core.metric import Measurement, Metric, TrainingMetric
from ..core.model import GenerativeModel
from ..core.randomness import seeded
from ..core.run import Run
from ..core.workspace import Workspace
from ..training import checkpoint
from ..training.checkpoint import Checkpoint
from ..training.engine import Engine, computing
from ..training.fit import LOG, Stop, fit, read_log
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
        waiting = lambda sentence: tell("note", f"{job.run.id}: {sentence}")  # noqa: E731
        with cells.locked(folder / "lock", waiting, stop) as mine:
            if not mine:
                return Ended("stopped")
            return _work(job, workspace, engine, made_by, stop, tell, checkpoint_every)
    except UsageError as error:
        tell("trouble", str(error))
        return Ended("finished", mendable=True)


def _work(
    job: Job,
    workspace: Workspace,
    engine: Engine,
    made_by: Provenance,
    stop: Stop,
    tell: Tell,
    checkpoint_every: float,
) -> Ended:
    run, folder = job.run, workspace.run(job.run.id)
    common: dict[str, Any] = {
        "commit": made_by.commit,
        "dirty": made_by.dirty,
        "torch": str(torch.__version__),
    }

    def fail(planned: Planned, error: BaseException) -> None:
        told = "".join(traceback.format_exception(error))
        write_text(folder / f"error-{planned.id}.txt", _written(told))
        _write(workspace, run, planned, {**common, "status": "failed", "note": sentence(error)})

    # The other holder of the lock, if there was one, may have done our work.
    todo = [planned for planned in job.cells if not _is_done(workspace, run, planned)]
    for planned in job.cells:
        if planned not in todo:
            tell("cell", planned.id)
    if not todo:
        return Ended("finished")
    try:
        _describe(run, workspace)
        fitted = fit(
            run, engine, folder, stop=stop, checkpoint_every=checkpoint_every, commit=str(made_by)
        )
        if fitted.status == "stopped":
            return Ended("stopped")
        if fitted.status == "diverged":
            for planned in todo:
                note = {"status": "diverged", "note": fitted.note, "steps": fitted.step}
                _write(workspace, run, planned, {**common, **note})
                tell("cell", planned.id)
            tell("note", f"{run.id} diverged: {fitted.note}")
            return Ended("finished")
    except Exception as error:
        mendable = isinstance(error, UsageError)
        tell("trouble" if mendable else "note", f"{run.id}: {sentence(error)}")
        with contextlib.suppress(UsageError):  # on a full disk not even this can be written
            for planned in todo:
                fail(planned, error)
        return Ended("finished", mendable)
    mendable = False
    weights: dict[float, Checkpoint] = {}
    for planned in todo:
        if stop():
            return Ended("stopped", mendable)
        tell("measuring", planned.id)
        try:
            share = planned.cell.model.trained
            if share not in weights:
                weights[share] = _weights(run, folder, share)
            measured = _measure(planned, weights[share], workspace, engine, stop)
            _write(workspace, run, planned, {**common, **measured})
        except NothingToMeasure as error:
            tell("note", f"{planned.cell.metric_label} of {run.id}: {error}")
            _write(workspace, run, planned, {**common, "status": "n/a", "note": str(error)})
        except Exception as error:
            mendable |= isinstance(error, UsageError)
            kind = "trouble" if isinstance(error, UsageError) else "note"
            tell(kind, f"{planned.cell.metric_label} of {run.id}: {sentence(error)}")
            with contextlib.suppress(UsageError):
                fail(planned, error)
        else:
            (folder / f"error-{planned.id}.txt").unlink(missing_ok=True)
        tell("cell", planned.id)
    return Ended("finished", mendable)


def _weights(run: Run, folder: Path, share: float) -> Checkpoint:
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
        "data_digest": data.digest,
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
    text = _written(" ".join(str(error).split()))
    if isinstance(error, UsageError):
        return text
    return f"{type(error).__name__}: {text}"[:400] if text else type(error).__name__


def _written(text: str) -> str:
    """Text that can be written as UTF-8: the name of a file, in a message, may be bytes of any kind."""
    return text.encode(errors="backslashreplace").decode()


def _is_done(workspace: Workspace, run: Run, planned: Planned) -> bool:
    stored = cells.read(workspace, run.id, planned.id)
    whole = cells.arrays_are_whole(workspace, run.id, planned.id)
    return stored is not None and stored["status"] in DONE and whole


def _write(workspace: Workspace, run: Run, planned: Planned, measured: dict[str, Any]) -> None:
    cells.write(workspace, run.id, planned.id, {"dialect": planned.row.dialect, **measured})


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
