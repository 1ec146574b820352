"""GNT, the format of CASIA-HWDB: records of one handwritten character each, one after the other until the file ends.

A record, little-endian: its size in bytes (uint32, 10 + width * height), the character (two bytes, GB2312; an ASCII one
is followed by a zero byte), width and height (uint16), and width * height grey levels, row by row from the top, 255 for
paper.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError

_HEAD = struct.Struct("<I2sHH")


class Record(NamedTuple):
    """Where one record is: the file, the byte at which its pixels begin, their shape, and whose character it is."""

    path: Path
    offset: int
    width: int
    height: int
    character: str

    def pixels(self) -> NDArray[np.uint8]:
        """(height, width), 255 for paper. Raises DataError where the file has become shorter."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.width * self.height)
        if len(content) < self.width * self.height:
            raise DataError(f"{self.path} has become shorter than it was when it was indexed")
        return np.frombuffer(content, np.uint8).reshape(self.height, self.width)


@functools.lru_cache(maxsize=1 << 16)
def decoded(tag: bytes) -> str | None:
    """The character of a tag code: GB2312 or else GB18030; an ASCII one without its padding; None for neither."""
    code = tag.rstrip(b"\0")
    for encoding in ("gb2312", "gb18030"):
        try:
            character = code.decode(encoding)
        except UnicodeDecodeError:
            continue
        return character if len(character) == 1 else None
    return None


def index(path: Path, characters: Iterable[str]) -> list[Record]:
    """The records of these characters, in the order of the file; no pixel is read.

    A record whose code is no character at all is passed over like one of another character.

    Raises DataError, with the byte at which it happens, where the file is truncated or is no GNT file.
    """
    wanted, found, offset = frozenset(characters), [], 0
    try:
        size_of_file = path.stat().st_size
        with path.open("rb") as file:
            while head := file.read(_HEAD.size):
                if len(head) < _HEAD.size:
                    raise DataError(
                        f"{path} is truncated: {len(head)} bytes at byte {offset}, expected a head of {_HEAD.size}; "
                        "unpack it again"
                    )
                size, tag, width, height = _HEAD.unpack(head)
                if size != _HEAD.size + width * height or not width * height:
                    raise DataError(
                        f"{path} is not a whole GNT file: the record at byte {offset} says {size} bytes and "
                        f"{width} x {height} pixels, expected 10 + width * height bytes; unpack it again"
                    )
                if offset + size > size_of_file:
                    raise DataError(
                        f"{path} is truncated: the record at byte {offset} has {size} bytes, "
                        f"of which {size_of_file - offset} are there; unpack it again"
                    )
                character = decoded(tag)
                if character in wanted:
                    found.append(Record(path, offset + _HEAD.size, width, height, character))
                offset += size
                file.seek(offset)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not offset:
        raise DataError(f"{path} is empty; unpack it again")
    return found
