"""The command line with the laboratory's protocols, driven: as a process of its own, or in this one.

A call in a process of its own is what a user makes: it can be killed, and has an environment. Each takes seconds, for
it imports torch twice, as does what its workers are forked from. One that is to end by itself can be made here.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from reprise import cli
from reprise.core.results import TIMING

from .laboratory_cli import installed

HERE = Path(__file__).parent


@contextlib.contextmanager
def started(root: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process group of its own, of which nothing remains after."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "laboratory_cli.py"), *arguments, "--root", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def call(root: Path, *arguments: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command."""
    with started(root, *arguments) as process:
        out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def call_here(root: Path, *arguments: str) -> tuple[int, str, str]:
    """The same of a call in this process, whose workers are forked from one that has imported torch long ago."""
    out, err = io.StringIO(), io.StringIO()
    with installed(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([*arguments, "--root", str(root)])
    return code, out.getvalue(), err.getvalue()


def table(root: Path, timing: bool = False, name: str = "tiny") -> list[dict[str, str]]:
    with (root / "results" / "demo" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows if timing else [{k: v for k, v in r.items() if k not in TIMING} for r in rows]


def statuses(root: Path) -> dict[tuple[str, str], str]:
    return {(row["model"], row["metric"]): row["status"] for row in table(root)}


def files(root: Path, pattern: str) -> Callable[[], bool]:
    return lambda: bool(list(root.glob(pattern)))


def wait(process: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    for _ in range(6000):
        if until() or process.poll() is not None:
            return
        time.sleep(0.02)
    raise AssertionError("it never came to that")
