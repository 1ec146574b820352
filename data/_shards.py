"""Images that are made once and then read: shards of a split on the disk, resumable, memory-mapped.

A split lies in one folder. Image i of shard k is first written as `parts/<i>.npz`, whole or not at all; when all of a
shard's images are there, `<first>.npy` (N, C, H, W) and, before it, `<first>.json` (what is known of each image, and
the SHA-256 of its pixels) take their place. Whatever kills the work loses the images that were being made and no other.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import progress
from ..core.errors import DataError
from ..core.files import write_bytes, write_text, writing
from ..core.locks import locked

SHARD = 500  # images
# What numpy, zipfile and zlib raise for a damaged archive; the last is an array as large as no image is.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile, MemoryError)
Truth = dict[str, Any]
Make = Callable[[int], tuple[NDArray[np.uint8], Truth]]
"""Called as make(i): image i (C, H, W) and what is known of it, ready for JSON."""

_CHECKED: set[tuple[str, int, int]] = set()  # files whose images were compared with their digests


@dataclass(frozen=True)
class Shards:
    """The first `count` images of a split below `folder`."""

    folder: Path
    count: int
    shape: tuple[int, int, int]

    @property
    def starts(self) -> range:
        """The first image of every shard."""
        return range(0, self.count, SHARD)

    def size(self, start: int) -> int:
        """How many images the shard has to hold."""
        return min(SHARD, self.count - start)

    def missing(self) -> list[int]:
        """The images that are neither in a shard nor a part, in order."""
        made = {int(path.stem) for path in (self.folder / "parts").glob("*.npz")}
        return [
            i
            for start in self.starts
            for i in range(start + self._held(start), start + self.size(start))
            if i not in made
        ]

    @property
    def whole(self) -> bool:
        """Whether every image is in a shard."""
        return all(self._held(start) >= self.size(start) for start in self.starts)

    def write(self, index: int, make: Make) -> None:
        """Make one image and keep it, unless it is there."""
        path = self._part(index)
        if path.exists():
            return
        image, truth = make(index)
        if image.shape != self.shape or image.dtype != np.uint8:
            raise ValueError(
                f"image {index} is {image.dtype} {image.shape}, expected uint8 {self.shape}"
            )
        buffer = io.BytesIO()
        np.savez(buffer, image=image, truth=np.array(json.dumps(truth)))
        write_bytes(path, buffer.getvalue())

    def gather(self) -> None:
        """Make shards of the parts where all of a shard's images are there."""
        made = {int(path.stem) for path in (self.folder / "parts").glob("*.npz")}
        for start in self.starts:
            held, size = self._held(start), self.size(start)
            if held < size and made.issuperset(range(start + held, start + size)):
                self._merge(start, held, size)
                held = size
            for i in made.intersection(range(start, start + held)):
                self._part(i).unlink(missing_ok=True)

    def _merge(self, start: int, held: int, size: int) -> None:
        images = np.empty((size, *self.shape), np.uint8)
        truths: list[Truth] = []
        if held:  # a shorter split was made before
            images[:held] = self._loaded(start)
            truths += self._truths(start)
        for i in range(start + held, start + size):
            path = self._part(i)
            try:
                with path.open("rb") as packed, np.load(packed, allow_pickle=False) as part:
                    images[i - start] = part["image"]
                    truths.append(json.loads(str(part["truth"])))
            except UNREADABLE as error:
                path.unlink()
                raise DataError(
                    f"{path} cannot be read ({error}) and was removed; call again"
                ) from error
            truths[-1]["sha256"] = hashlib.sha256(images[i - start].tobytes()).hexdigest()
        # The truths first: a shard is there when its images are. More truths than images do no harm.
        write_text(self._images(start).with_suffix(".json"), json.dumps(truths))
        with writing(self._images(start)) as file:
            np.save(file, images)

    def _part(self, index: int) -> Path:
        return self.folder / "parts" / f"{index:06d}.npz"

    def _images(self, start: int) -> Path:
        return self.folder / f"{start:06d}.npy"

    def _held(self, start: int) -> int:
        """How many images the shard on the disk holds."""
        return len(self._loaded(start)) if self._images(start).exists() else 0

    def _loaded(self, start: int) -> NDArray[np.uint8]:
        path = self._images(start)
        try:
            images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{path} cannot be read: {error}; remove it, and its images are made again"
            ) from error
        return images

    def _truths(self, start: int) -> list[Truth]:
        path = self._images(start).with_suffix(".json")
        try:
            truths: list[Truth] = json.loads(path.read_text())[: self._held(start)]
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read: {error}; remove {self.folder} and make the images again"
            ) from error
        return truths

    def truths(self) -> list[Truth]:
        """What is known of each image, and the SHA-256 of its pixels, in order."""
        found = [truth for start in self.starts for truth in self._truths(start)]
        return found[: self.count]

    def images(self) -> Mapped:
        """The images, memory-mapped. Raises DataError where a shard cannot be read."""
        parts = []
        for start in progress.track(self.starts, f"check {self.folder.name}"):
            self._check(start)
            parts.append(self._loaded(start)[: self.size(start)])
        return Mapped(parts, self.count)

    def _check(self, start: int) -> None:
        """Raise DataError unless every image of a shard is the one whose SHA-256 was noted when it was made.

        Rows carry the digest of these; read once for each process and version of the file, at the pace of a disk.
        """
        path = self._images(start)
        found = path.stat()
        version = (str(path), found.st_mtime_ns, found.st_size)
        if version in _CHECKED:
            return
        for index, (image, truth) in enumerate(
            zip(self._loaded(start), self._truths(start), strict=False), start
        ):
            if hashlib.sha256(image.tobytes()).hexdigest() != truth.get("sha256"):
                raise DataError(
                    f"image {index} of {path} is not the one that was made; remove {path}, "
                    "and its images are made again"
                )
        _CHECKED.add(version)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else makes these images inside; waits for whoever does."""

        def meanwhile() -> None:
            what = f"{self.folder.name}: another process makes these images"
            progress.report(what, self.count - len(self.missing()), self.count)

        with locked(self.folder / "lock", meanwhile=meanwhile, every=1):
            yield


class Mapped:
    """uint8 images (N, C, H, W) in memory-mapped pieces of SHARD; `mapped[index]` copies what is asked for."""

    def __init__(self, parts: Sequence[NDArray[np.uint8]], count: int) -> None:
        self.parts, self.count = list(parts), count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        if isinstance(index, slice):
            index = np.arange(self.count)[index]
        index = np.asarray(index)
        if index.dtype == bool:
            (index,) = np.nonzero(index)
        if len(index) and not (-self.count <= index.min() and index.max() < self.count):
            raise IndexError(f"image {index.max()} of {self.count}")
        index = index % self.count
        found = np.empty((len(index), *self.parts[0].shape[1:]), np.uint8)
        shard = index // SHARD
        for number in np.unique(shard):
            here = shard == number
            found[here] = self.parts[number][index[here] % SHARD]
        return found
