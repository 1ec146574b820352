"""The self-test of the guard: every mutant is tried in a copy of the package, and something must catch it.

Two things guard: the promises (promises.py), and the regression check of a small run against the same run of the code
as it is, with the noise of other seeds for tolerance. A mutant that neither catches has survived, and is shown.
No torch here: each mutant has a process of its own, forked from a clean one that has imported torch but none of this
package, so that the mutated copy is all it ever sees. One that takes too long is killed: a mutant that hangs is caught.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from tabulate import tabulate

from ..core import progress
from ..core.errors import UsageError, unknown
from .mutants import MUTANTS, Mutant

__all__ = ["Guarded", "chosen", "copied", "patched", "run", "table"]

PACKAGE = __package__.partition(".")[0]
SOURCE = Path(__file__).resolve().parent.parent
PARTS = (
    "core", "nn", "models", "baselines", "data", "metrics", "protocols", "training", "launch", "render",
    "evidence", "guard", "commands",
)  # fmt: skip
PRELOADED = ("torch", "torch._dynamo", "numpy", "scipy.special", "sklearn.datasets", "tabulate")
LIMIT = 600.0  # seconds that one guard may take on a machine that does other things besides
HUNG = "it hung"


@dataclass(frozen=True)
class Guarded:
    """What the guard said of one copy. promise, check: which promise broke, and what moved; "" if none did.

    name: of the mutant, "" for the code as it is. reference: the lines of its small runs.
    """

    name: str
    promise: str = ""
    check: str = ""
    seconds: float = 0.0
    reference: str = ""
    noise: str = ""

    @property
    def caught(self) -> bool:
        """Whether anything was noticed."""
        return bool(self.promise or self.check)


def chosen(names: Iterable[str] = ()) -> list[Mutant]:
    """The mutants of these names, or all. Raises UsageError for a name that does not exist."""
    known = {mutant.name: mutant for mutant in MUTANTS}
    for name in names:
        if name not in known:
            raise unknown("mutant", name, known)
    return [known[name] for name in names] or list(MUTANTS)


def run(mutants: Sequence[Mutant], workers: int = 0) -> Iterator[Guarded]:
    """What becomes of each mutant, as they finish. Raises UsageError where the guard is not fit to judge.

    That is where it finds fault with the code as it is, or where a mutant no longer applies to the source.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory(prefix="reprise-self-test-") as folder:
        whole = Path(folder) / "as it is"
        copied(SOURCE, whole)
        trees = {
            m.name: patched(whole, Path(folder) / f"mutant {i}", m) for i, m in enumerate(mutants)
        }
        at_once = workers or min(cores or 1, 4)
        (plain,) = _guards([("", str(whole), "", "")], at_once)
        if plain.promise == HUNG:
            raise UsageError(
                f"the guard of the code as it is did not end within {LIMIT:.0f} s; "
                "mend what hangs, or try again when the machine does less besides"
            )
        if plain.caught:
            raise UsageError(
                f"the guard finds fault with the code as it is ({plain.promise or plain.check}); "
                "mend that first: until then nothing it says of mutants means anything"
            )
        asked = [(name, str(tree), plain.reference, plain.noise) for name, tree in trees.items()]
        for done, ended in enumerate(_guards(asked, at_once), 1):
            progress.report("self-test", done, len(asked))
            yield ended


def _guards(asked: Iterable[Asked], workers: int) -> Iterator[Guarded]:
    """What the guard says of each copy, as they end; one that takes LIMIT seconds is killed."""
    context, waiting = _context(), list(asked)
    active: dict[Connection, _Guard] = {}
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_answer, args=(theirs, *waiting[0]))
                process.start()
                theirs.close()
                active[ours] = _Guard(waiting.pop(0)[0], process, time.monotonic())
            first = min(guard.began for guard in active.values())
            heard = wait(list(active), max(0.0, first + LIMIT - time.monotonic()))
            for pipe, guard in list(active.items()):
                late = time.monotonic() - guard.began >= LIMIT
                if pipe in heard or late:
                    ended = guard.ended(pipe if pipe in heard else None)
                    del active[pipe]
                    pipe.close()
                    yield ended
    finally:
        for guard in active.values():
            guard.process.kill()


@dataclass(frozen=True)
class _Guard:
    """One guard at work on the copy of a mutant."""

    name: str
    process: BaseProcess
    began: float

    def ended(self, pipe: Connection | None) -> Guarded:
        """What it said in the end; its process is gone then. pipe: None for one that is late."""
        seconds = time.monotonic() - self.began
        try:
            found = Guarded(*pipe.recv()) if pipe else Guarded(self.name, HUNG, seconds=seconds)
        except EOFError:
            found = Guarded(self.name, "its process died", seconds=seconds)
        self.process.kill()
        self.process.join()
        return found


def copied(source: Path, folder: Path) -> None:
    """The package's own files below `folder`/reprise."""
    target = folder / PACKAGE
    for part in PARTS:
        shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("__init__.py", "cli.py"):
        shutil.copy2(source / file, target / file)


def patched(whole: Path, folder: Path, mutant: Mutant) -> Path:
    """Another copy with one place changed. Raises UsageError unless the place is there, exactly once."""
    text = (whole / PACKAGE / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.before) != 1:
        raise UsageError(
            f"mutant {mutant.name!r}: {mutant.file} reads {mutant.before!r} in {text.count(mutant.before)} places; "
            "expected one, so guard/mutants.py must follow the source"
        )
    shutil.copytree(whole, folder, copy_function=os.link)
    file = folder / PACKAGE / mutant.file
    file.unlink()  # the copy shares its files with the whole one
    file.write_text(text.replace(mutant.before, mutant.after), encoding="utf-8")
    return folder


def table(results: Sequence[Guarded], order: Sequence[Mutant]) -> str:
    """Bug, what caught it, and the catch rate."""
    found = {one.name: one for one in results}
    lines = []
    for mutant in order:
        one = found[mutant.name]
        verdict = "caught" if one.caught else "MISSED"
        lines.append([mutant.name, mutant.file, verdict, one.promise or "–", one.check or "–"])
    heads = ["Bug", "File", "", "Promise that broke", "Regression check of small runs"]
    text = tabulate(lines, heads, tablefmt="simple", disable_numparse=True)
    caught = sum(one.caught for one in results)
    by_check = sum(bool(one.check) for one in results)
    return (
        f"{text}\n\n{caught} of {len(results)} mutants caught ({100 * caught / len(results):.0f} %); "
        f"by a promise {sum(bool(one.promise) for one in results)}, by the regression check {by_check}"
    )


def _context() -> ForkServerContext | SpawnContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


Asked = tuple[str, str, str, str]
"""What `_guarded` is called with."""
Answer = tuple[str, str, str, float, str, str]
"""The fields of Guarded: an instance would be of the copy's class, which the driver does not know."""


def _answer(pipe: Connection, *asked: str) -> None:
    """The whole life of a guard's process."""
    pipe.send(_guarded(*asked))


def _guarded(name: str, folder: str, reference: str, noise: str) -> Answer:
    """In a process of its own: forget this package, import the copy in `folder`, and ask it."""
    began = time.monotonic()
    for module in [m for m in sys.modules if m == PACKAGE or m.startswith(f"{PACKAGE}.")]:
        del sys.modules[module]
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    try:
        promises = importlib.import_module(f"{PACKAGE}.guard.promises")
        small = importlib.import_module(f"{PACKAGE}.guard.small")
    except Exception as error:
        return name, f"it does not start: {error!r}", "", time.monotonic() - began, "", ""
    assert str(promises.__file__).startswith(folder), "the copy was not what was imported"
    import torch

    torch.set_num_threads(1)
    broken = moved = rows = spread = ""
    for promise in promises.PROMISES:
        try:
            promise()
        except Exception:
            broken = promise.__name__.replace("_", " ")
            break
    try:
        if reference:
            moved = small.moved(reference, noise)
        else:
            rows, spread = small.reference()
    except Exception as error:
        moved = f"{type(error).__name__}: {error}"
    return name, broken, moved, time.monotonic() - began, rows, spread
