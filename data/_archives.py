"""Unpacking what was fetched: all of an archive or nothing, below its own folder, and no larger than it may be.

An archive is somebody else's file. A member that would lie outside the folder, a link, a device, a name that stands
twice, or more bytes than were promised, and nothing of it is unpacked.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ..core import progress
from ..core.errors import DataError

MEMBERS = 1_000_000  # the most that an archive may hold: a name costs a disk something, too
_DAMAGED = (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error)
Member = tuple[str, bool, IO[bytes] | None]
"""Name, whether it is a plain file or a folder, and the content of a file."""


class _Refused(Exception):
    """Why nothing of an archive was unpacked."""


def unpack(archive: Path, folder: Path, size: int) -> None:
    """Unpack a .zip or a .tar(.gz, .bz2, .xz) as `folder`, unless it is there; it appears whole.

    An archive of one folder becomes `folder` itself, whatever that one is called.
    size: bytes of all files together, at most. Raises DataError, and nothing is unpacked, where the archive is damaged,
    holds more, or holds something that is no plain file or folder below its own.
    """
    if folder.exists():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        begun = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}") from error
    try:
        reader = _zip if zipfile.is_zipfile(archive) else _tar
        with contextlib.closing(reader(archive)) as members:
            _unpack(members, begun, size, archive.name)
        top = list(begun.iterdir())
        whole = top[0] if len(top) == 1 and top[0].is_dir() else begun
        whole.chmod(0o755)
        os.replace(whole, folder)
    except (_Refused, tarfile.TarError, zipfile.BadZipFile, *_DAMAGED) as error:
        raise DataError(f"{archive}: {error}; nothing was unpacked") from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def _unpack(members: Iterator[Member], folder: Path, size: int, name: str) -> None:
    left, seen = size, set[PurePosixPath]()
    for member, plain, content in members:
        path = _below(member)
        if not plain:
            raise _Refused(f"{member!r} is neither a file nor a folder")
        if content is not None and path in seen:
            raise _Refused(f"{member!r} stands in it twice")
        if len(seen) == MEMBERS:
            raise _Refused(f"it holds more than {MEMBERS:,} files")
        seen.add(path)
        target = folder / path
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            while chunk := content.read(1 << 20):
                left -= len(chunk)
                if left < 0:  # counted as it comes out, whatever the archive claims
                    raise _Refused(f"it holds more than the {size:,} bytes that it should")
                file.write(chunk)
                progress.report(f"unpack {name}", size - left, size)


def _below(member: str) -> PurePosixPath:
    """The path of a member below the folder, if that is where it lies."""
    path = PurePosixPath(member)
    if not path.parts or path.is_absolute() or ".." in path.parts or re.search(r"[\\:\0]", member):
        raise _Refused(f"{member!r} would lie outside of its folder")
    return path


def _zip(path: Path) -> Generator[Member, None, None]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            if info.is_dir() or not plain:
                yield info.filename, plain, None
                continue
            with archive.open(info) as content:
                yield info.filename, True, content


def _tar(path: Path) -> Generator[Member, None, None]:
    with tarfile.open(path) as archive:
        for info in archive:
            content = archive.extractfile(info) if info.isreg() else None
            yield info.name, info.isreg() or info.isdir(), content
