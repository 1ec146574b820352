"""Files appear whole: write to a temporary name, flush to the disk, rename."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import UsageError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success it takes the name `path`, else it is gone.

    A reader therefore sees the old file or the new one and never a part of either, whatever
    kills the writer. A full disk raises UsageError and leaves the old file as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}; choose another folder with --root "
            "or make this one writable"
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; nothing was replaced") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def write_bytes(path: Path, content: bytes) -> bool:
    """Write `content` to `path` whole; True if the file changed, False if it already read so."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            return False
    with writing(path) as file:
        file.write(content)
    return True


def write_text(path: Path, content: str) -> bool:
    """`write_bytes` for UTF-8 text."""
    return write_bytes(path, content.encode())
