"""A checkpoint is the whole truth of a run at one step; it holds tensors and plain values, never code.

It is an ordinary `torch.save` file, written whole. Reading it checks every byte against the archive's checksums
and executes nothing. A checkpoint made under another meaning of the same name is refused, never adapted.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from ..core.errors import DataError, StaleError
from ..core.files import writing
from ..core.run import Run
from .engine import Engine, Precision

FORMAT = 1
FILE = "checkpoint.pt"


def snapshot(folder: Path, share: float) -> Path:
    """Where the weights after a share of the training are kept, without the state of the optimiser."""
    return folder / "snapshots" / f"{share:g}.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` updates.

    precision, threads, fused, compiled: what the run began with. devices: every device that took part, in order.
    seconds: time spent training. sums: the log's running sums since its last line, and `count`, over how many steps
    they run.
    commits: of the code that made the updates; none in a checkpoint of before they were kept.
    """

    step: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    precision: Precision
    threads: int
    devices: tuple[str, ...]
    data_digest: str
    seconds: float
    sums: dict[str, float]
    count: int
    commits: tuple[str, ...] = ()
    fused: bool = False
    compiled: bool = False


def initial(run: Run, engine: Engine) -> Checkpoint:
    """The weights that a training of `run` begins with."""
    return Checkpoint(
        step=0,
        model=engine.place(run.build_model()).state_dict(),
        optimizer={},
        precision=engine.precision,
        threads=engine.threads,
        devices=(str(engine),),
        data_digest="",  # no image has been read
        seconds=0.0,
        sums={},
        count=0,
        fused=engine.fused,
    )


def save(path: Path, run: Run, checkpoint: Checkpoint) -> None:
    """Write the checkpoint whole. Raises UsageError where the folder cannot be written."""
    content = {
        "format": FORMAT,
        "run": run.id,
        # JSON text: whatever a third party's config holds, the file stays one of tensors and plain values.
        "identity": json.dumps(run.identity, sort_keys=True),
        "settings": json.dumps(run.settings, sort_keys=True),
        **{name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__},
    }
    with writing(path) as file:
        torch.save(content, file)


def load(path: Path, run: Run, device: torch.device | str = "cpu") -> Checkpoint | None:
    """The checkpoint of `run`, or None if there is none yet.

    Raises DataError for a file that is damaged or holds more than tensors and plain values, StaleError for one
    of another format or made under other settings. Nothing in the file is executed.
    """
    if not path.exists():
        return None
    mend = f"delete {path} to train this run again from its start"
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [(info.file_size, info.compress_size) for info in archive.infolist()]
            # torch stores tensors as they are; what would grow in memory was not written by `save`
            if any(size != stored for size, stored in sizes):
                raise zipfile.BadZipFile("it is compressed")
            if sum(size for size, _ in sizes) > path.stat().st_size:
                raise zipfile.BadZipFile("its parts overlap")
            damaged = archive.testzip()  # torch itself reads past a wrong checksum
        if damaged is not None:
            raise zipfile.BadZipFile(f"wrong checksum in {damaged}")
        content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} holds something other than tensors and plain values; it was not executed; {mend}"
        ) from error
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is truncated or damaged ({reason}); {mend}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise StaleError(
            f"{path} has checkpoint format {found}; this version reads format {FORMAT}; {mend}"
        )
    try:
        if content["run"] != run.id:
            raise StaleError(f"{path} belongs to run {content['run']}, not to {run.id}; {mend}")
        if changed := run.changed(json.loads(content["settings"])):
            raise StaleError(
                f"{path} was trained with {changed}, or delete {path.parent} to train again"
            )
        if content["precision"] not in get_args(Precision):
            raise DataError(f"{path} names a precision {content['precision']!r}; {mend}")
        known = Checkpoint.__dataclass_fields__.keys() & content.keys()
        return Checkpoint(**{name: content[name] for name in known})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no checkpoint of this program ({error}); {mend}") from error
