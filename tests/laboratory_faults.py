"""A process that has imported everything and forks at once: what a test kills at a moment of its choosing.

`python tests/laboratory_faults.py` reads lines of JSON, [folder, largest file in bytes or 0, act, arguments...]; for
each it forks, says the child's process id, and when the child is over its exit code. What the child said is in
`said.txt` of the folder. An act ends as the command line would: 0, or 3 after a sentence.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from numpy.typing import NDArray

from reprise.core.errors import UsageError
from reprise.core.workspace import Workspace
from reprise.data import _registry, _shards
from reprise.launch import plan, work
from reprise.launch.provenance import Provenance
from reprise.render import document
from reprise.training.engine import choose
from reprise.training.fit import Stop

COUNT, SIDE = 60, 24  # images to prepare, in shards of 20


def run(root: str) -> None:
    """Train, measure and collect what is missing of `tiny`, in this very process."""
    workspace = Workspace(Path(root))
    request = plan.Request(
        "tiny",
        "demo",
        ("Sketch",),
        metrics=("Bound", "Bound-4"),
        changes=(("training.steps", "60"),),
    )
    todo = plan.plan(request, workspace)
    troubles: list[str] = []

    def tell(kind: str, text: str) -> None:
        plan.collect(todo, workspace)
        if kind == "trouble":
            troubles.append(text)

    made_by = Provenance("", None)
    for job in todo.jobs:
        work.work(job, workspace, choose("cpu", "fp32", 1), made_by, Stop(signals=()), tell, 0.02)
    plan.collect(todo, workspace)
    if troubles:
        raise UsageError(troubles[0])


def image(index: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """One of the images that `prepare` makes; it takes a moment."""
    noise = np.random.default_rng(index)
    for _ in range(20):
        picture = noise.integers(0, 255, (1, SIDE, SIDE)).astype(np.uint8)
    return picture, {"image_index": index}


def prepare(folder: str) -> None:
    """Make images and gather them in shards, as a dataset does."""
    _shards.SHARD = 20
    shards = _shards.Shards(Path(folder), COUNT, (1, SIDE, SIDE))
    with shards.alone():
        shards.gather()
        for index in shards.missing():
            shards.write(index, image)
            if index % 20 == 19:
                shards.gather()
        shards.gather()


def fetch(root: str, url: str, sha256: str, size: int) -> None:
    """Fetch one file."""
    os.environ.update(REPRISE_DATA=root, NO_PROXY="*")
    _registry.FILES["toy"] = ((_registry.File("toy/toy.bin", sha256, size, (url,)),),)
    _registry.fetch("toy")


def report(root: str, name: str) -> None:
    """Write the pages of one protocol."""
    document.report(Workspace(Path(root)), "demo", [name])


ACTS: dict[str, Callable[..., None]] = {
    "run": run,
    "prepare": prepare,
    "fetch": fetch,
    "report": report,
}


def child(folder: str, largest: int, act: str, *arguments: Any) -> int:
    said = os.open(Path(folder) / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    try:
        ACTS[act](*arguments)
    except UsageError as error:
        print(f"reprise: {error}", flush=True)
        return 3
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def main() -> None:
    torch.set_num_threads(1)  # a fork of a process with threads is no copy
    with tempfile.TemporaryDirectory() as folder:  # what is imported here no fork has to import
        run(folder)
    print("ready", flush=True)
    for line in sys.stdin:
        number = os.fork()
        if number == 0:
            os._exit(child(*json.loads(line)))
        print(number, flush=True)
        _, status = os.waitpid(number, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    with importlib.import_module("laboratory_cli").installed():
        main()
