"""Omniglot: handwritten characters of fifty alphabets, 105 x 105 and binary, each drawn by twenty people.

Lake, Salakhutdinov & Tenenbaum, "Human-level concept learning through probabilistic program induction", Science 2015.
Background: 964 characters of 30 alphabets; evaluation: 659 of 20 others; and twenty runs of one-shot classification
within an alphabet, made of evaluation drawings. The published pictures are black on white; here ink is True.

Read from the official archives, or from local copies of the same pixels; the content is checked either way.
Axes: `N` drawings.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ..core import progress
from ..core.errors import DataError
from ..core.workspace import data_root
from . import _registry

SIDE = 105
RUNS, WAYS = 20, 20
Part = Literal["background", "evaluation"]

# The alphabets of the published smaller training sets, 136 and 156 characters.
SMALL = {
    "small1": ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"),
    "small2": ("Greek", "Japanese_(katakana)", "Latin", "Sanskrit", "Tagalog"),
}

# Of the ink, packed, with every drawing's character, alphabet or class (`_digest`), whatever it was read from.
CONTENT = {
    "background": "67e47f6afda33101a934089699850769fc8671f671239041da1b20073fcb2c73",
    "evaluation": "a779a86fc3faf7566be154a4c6e6fc7bb92ed9fec3df93dc62c360d73a103b26",
    "one_shot": "d345eb57374691feb57e4489013b89f93834082411bd725948f8481a975d4085",
}
DAMAGE = (OSError, EOFError, KeyError, ValueError, struct.error, zlib.error, zipfile.BadZipFile)


class Drawings(NamedTuple):
    """Drawings sorted by alphabet, character and drawer. packed: (N, 1379) uint8, see `ink`. label: (N,) character.

    names: of the characters, `Alphabet/characterNN`.
    """

    packed: NDArray[np.uint8]
    label: NDArray[np.int64]
    names: tuple[str, ...]


class Runs(NamedTuple):
    """The twenty runs, one after the other, each 20 drawings to learn from and then 20 to classify.

    packed: (800, 1379) uint8, see `ink`. label: (800,), 0..19: a drawing to learn from has its own place as its class.
    """

    packed: NDArray[np.uint8]
    label: NDArray[np.int64]


def ink(packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(N, 105, 105), True where there is ink."""
    bits = np.unpackbits(packed, axis=1, count=SIDE * SIDE)
    return bits.reshape(-1, SIDE, SIDE).view(bool)


def drawings(part: Part) -> Drawings:
    """All drawings of one half. Raises DataError where its files are missing or are not the published ones."""
    return _drawings(part, data_root())


def runs() -> Runs:
    """The runs of one-shot classification. Raises DataError as `drawings` does."""
    return _runs(data_root())


@lru_cache(maxsize=2)
def _drawings(part: Part, root: Path) -> Drawings:
    (file,) = (file for file in _registry.present("omniglot") if part in file.path)
    path = _registry.checked("omniglot", file)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                names = tuple(str(name) for name in arrays["char_names"])
                found = Drawings(arrays["images_packed"], arrays["char"].astype(np.int64), names)
        else:
            found = _from_zip(path, part)
    except DAMAGE as error:
        raise _damaged(path, error, "omniglot") from error
    digest = hashlib.sha256("\n".join(found.names).encode())
    _check(path, "omniglot", part, _digest(digest, found.packed, found.label))
    return found


def _from_zip(path: Path, part: Part) -> Drawings:
    """`images_background/Greek/character01/0394_01.png` and so on."""
    with zipfile.ZipFile(path) as archive:
        pattern = re.compile(rf"images_{part}/([^/]+/character\d+)/\d+_\d+\.png")
        members = {
            name: match[1] for name in archive.namelist() if (match := pattern.fullmatch(name))
        }
        order = sorted(members)
        packed = _read(archive, order, f"read Omniglot, {part}")
    names = sorted(set(members.values()))
    label = np.searchsorted(np.array(names), np.array([members[name] for name in order]))
    return Drawings(packed, label.astype(np.int64), tuple(names))


@lru_cache(maxsize=1)
def _runs(root: Path) -> Runs:
    (file,) = _registry.present("one_shot")
    path = _registry.checked("one_shot", file)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                halves = [
                    arrays[f"{half}_packed"].reshape(RUNS, WAYS, -1) for half in ("train", "test")
                ]
                found = _joined(np.concatenate(halves, axis=1), arrays["test_label"])
        else:
            found = _runs_from_zip(path)
    except DAMAGE as error:
        raise _damaged(path, error, "one_shot") from error
    _check(path, "one_shot", "one_shot", _digest(hashlib.sha256(), found.packed, found.label))
    return found


def _runs_from_zip(path: Path) -> Runs:
    """`run01/training/class01.png`, `run01/test/item01.png` and so on; `run01/class_labels.txt` says what is what."""
    with zipfile.ZipFile(path) as archive:
        # Wherever in the archive the folders lie; what a Macintosh adds about them begins with a dot.
        pattern = re.compile(r"(?:.*/)?(run\d\d/(?:[a-z]+/)?[a-z_]+\d*\.(?:png|txt))")
        member = {
            match[1]: name for name in archive.namelist() if (match := pattern.fullmatch(name))
        }
        order, answers = [], []
        for number in range(1, RUNS + 1):
            run = f"run{number:02d}"
            training = [f"{run}/training/class{place:02d}.png" for place in range(1, WAYS + 1)]
            test = [f"{run}/test/item{place:02d}.png" for place in range(1, WAYS + 1)]
            order += training + test
            text = archive.read(member[f"{run}/class_labels.txt"]).decode("ascii")
            pairs = dict(line.split() for line in text.splitlines() if line.strip())
            answers.append([training.index(pairs[name]) for name in test])
        packed = _read(archive, [member[name] for name in order], "read the one-shot runs")
    return _joined(packed.reshape(RUNS, 2 * WAYS, -1), np.array(answers))


def _joined(packed: NDArray[np.uint8], answers: NDArray[np.integer]) -> Runs:
    own = np.broadcast_to(np.arange(WAYS), (RUNS, WAYS))
    label = np.concatenate([own, answers], axis=1).astype(np.int64)
    return Runs(packed.reshape(2 * RUNS * WAYS, -1), label.reshape(-1))


def _read(archive: zipfile.ZipFile, members: Iterable[str], what: str) -> NDArray[np.uint8]:
    """The ink of black-on-white pictures, packed: (N, 1379)."""
    rows = []
    for name in progress.track(list(members), what):
        try:
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                white = np.asarray(picture.convert("1"))
        except UnidentifiedImageError as error:
            raise ValueError(f"{name} is no picture") from error
        if white.shape != (SIDE, SIDE):
            raise ValueError(f"{name} has {white.shape} pixels, expected {SIDE} x {SIDE}")
        rows.append(np.packbits(~white))
    if not rows:
        raise ValueError("it holds none of the drawings")
    return np.stack(rows)


def _digest(digest: hashlib._Hash, packed: NDArray[np.uint8], label: NDArray[np.int64]) -> str:
    digest.update(packed.tobytes() + label.astype("<i8").tobytes())
    return digest.hexdigest()


def _check(path: Path, name: str, part: str, found: str) -> None:
    if found != CONTENT[part]:
        raise DataError(
            f"{path} has the content digest {found}, expected {CONTENT[part]}; "
            f"mend it with `reprise data fetch {name}`"
        )


def _damaged(path: Path, error: BaseException, name: str) -> DataError:
    return DataError(f"cannot read {path}: {error}; mend it with `reprise data fetch {name}`")
