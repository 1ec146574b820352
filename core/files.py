"""Files appear whole: write to a temporary name, flush to the disk, rename."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import UsageError
from .workspace import cache_folder

STALE = (
    3600.0  # seconds after which a part that nobody writes to is what a killed process left behind
)


def unwritable(path: Path, error: OSError, named_by: str = "") -> UsageError:
    """The error for what cannot be written.

    named_by: the option that names it; without one, it is where REPRISE_CACHE or `--root` say.
    """
    if not named_by:
        named_by = "REPRISE_CACHE" if path.is_relative_to(cache_folder()) else "--root"
    return UsageError(
        f"cannot write {path}: {error.strerror}; choose another folder with {named_by} or make this one writable"
    )


@contextlib.contextmanager
def writing(path: Path, named_by: str = "") -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success it takes the name `path`, else it is gone.

    A reader therefore sees the old file or the new one and never a part of either, whatever
    kills the writer. A full disk raises UsageError and leaves the old file as it was. named_by: as of `unwritable`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise unwritable(path, error, named_by) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        why = error.strerror or error  # numpy's own say only how much was written
        raise UsageError(f"cannot write {path}: {why}; nothing was replaced") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _sweep(path: Path) -> None:
    """Remove what writers of `path` left behind when they were killed long ago."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):  # somebody else may be sweeping
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def write_bytes(path: Path, content: bytes, named_by: str = "") -> bool:
    """Write `content` to `path` whole; True if the file changed, False if it already read so."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return False
    with writing(path, named_by) as file:
        file.write(content)
    return True


def write_text(path: Path, content: str, named_by: str = "") -> bool:
    """`write_bytes` for UTF-8 text."""
    return write_bytes(path, content.encode(), named_by)
