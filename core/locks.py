"""One process at a time: locks on files. The kernel drops a lock with its process: a kill leaves nothing stale."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import progress
from .errors import UsageError
from .files import unwritable, write_bytes

__all__ = ["locked", "made_once"]


def _advancing() -> None:
    progress.report("waiting for another process", 0)


@contextlib.contextmanager
def locked(
    file: Path,
    waiting: Callable[[str], None] | None = None,
    stop: Callable[[], bool] | None = None,
    meanwhile: Callable[[], None] = _advancing,
    every: float = 0.1,
) -> Iterator[bool]:
    """Hold `file` locked; yields False if `stop()` came before the lock did.

    waiting: told once who holds it. meanwhile: called every so many seconds of waiting; it should report progress, for
    who waits does not hang. Raises UsageError where the file cannot be written or locked.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(file, error) from error
    with os.fdopen(handle, "r+b") as held:
        told = False
        while not _taken(handle, file):
            if waiting is not None and not told:
                owner = held.read(32).decode(errors="replace").strip() or "unknown"
                waiting(f"waiting for process {owner}, which is working on it")
                told = True
            meanwhile()
            if stop is not None and stop():
                yield False
                return
            time.sleep(every)
        with contextlib.suppress(OSError):
            # the number is for people, not worth failing on a full disk
            held.truncate(0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        try:
            yield True
        finally:
            held.truncate(0)


def _taken(handle: int, file: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UsageError(f"cannot lock {file}: {error.strerror}") from error
    return True


def made_once(path: Path, make: Callable[[], bytes]) -> None:
    """Make the file if it is not there; of several processes that ask, one makes it and the others wait for it.

    The empty lock beside it stays: whoever waits for one that was removed would not see the next.
    """
    if path.exists():
        return
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            write_bytes(path, make())
