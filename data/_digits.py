"""Handwritten digits by source and split: MNIST, or the small ones embedded in scikit-learn.

MNIST (70,000 digits, 28 x 28): the last 5,000 training digits are "valid", the other 55,000 "train"; "test" is its own
test set. scikit-learn's digits (1,797, 8 x 8; the test half of UCI's optical recognition set) come without a split: of
every seven in file order the first five are "train", the sixth "valid", the seventh "test" (1,285, 256 and 256).
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Split
from ..core.errors import DataError
from ..core.workspace import data_root
from . import _registry

Source = Literal["mnist", "digits"]
SIDE: dict[Source, int] = {"mnist": 28, "digits": 8}
STAND_IN: dict[Source, str] = {"mnist": "", "digits": "scikit-learn's digits"}
_MNIST_VALID = 5_000

# SHA-256 of the four official idx files, unpacked: the content, whatever layout it was read from.
MNIST_CONTENT = {
    "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class Digits(NamedTuple):
    """N digits, white on black. image: (N, S, S) uint8. label: (N,) int64."""

    image: NDArray[np.uint8]
    label: NDArray[np.int64]


def digits(source: Source, split: Split) -> Digits:
    """The digits of one split in file order. Raises DataError when MNIST's files are missing or wrong."""
    if source == "digits":
        return _embedded(split)
    arrays = _mnist(data_root())
    part = "test" if split == "test" else "train"
    image, label = arrays[f"{part}_images"], arrays[f"{part}_labels"].astype(np.int64)
    if split == "train":
        return Digits(image[:-_MNIST_VALID], label[:-_MNIST_VALID])
    if split == "valid":
        return Digits(image[-_MNIST_VALID:], label[-_MNIST_VALID:])
    return Digits(image, label)


def _embedded(split: Split) -> Digits:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # grey levels 0..16
    # Seven is prime to ten: the file repeats 0..9 in places, and every split must hold every class.
    chosen = {"train": (0, 1, 2, 3, 4), "valid": (5,), "test": (6,)}[split]
    rows = np.isin(np.arange(len(images)) % 7, chosen)
    return Digits(images[rows], bunch.target[rows].astype(np.int64))


@lru_cache(maxsize=1)
def _mnist(root: Path) -> dict[str, NDArray[np.uint8]]:
    """The four arrays of MNIST from whichever layout lies in `root`."""
    files = _registry.present("mnist")
    paths = [_registry.checked("mnist", file) for file in files]
    try:
        if len(paths) == 1:
            with np.load(paths[0], allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in MNIST_CONTENT}
        else:
            arrays = {key: read_idx(path) for key, path in zip(MNIST_CONTENT, paths, strict=True)}
    except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(
            f"cannot read {paths[0].parent}: {error}; mend it with `reprise data fetch mnist`"
        ) from error
    for key, expected in MNIST_CONTENT.items():
        found = idx_digest(arrays[key])
        if found != expected:
            raise DataError(
                f"{key} of {paths[0].parent} has the content digest {found}, expected {expected}; "
                "mend it with `reprise data fetch mnist`"
            )
    return arrays


def read_idx(path: Path) -> NDArray[np.uint8]:
    """A gzipped idx file of unsigned bytes, the format of MNIST. Raises ValueError if it is not one."""
    with gzip.open(path) as file:
        return parse_idx(file.read(), path.name)


def parse_idx(content: bytes, name: str) -> NDArray[np.uint8]:
    """The array of an unpacked idx file of unsigned bytes. Raises ValueError, with its name, if it is not one."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"{name} does not begin like an idx file of unsigned bytes")
    axes = content[3]
    shape = struct.unpack_from(f">{axes}i", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()


def idx_digest(array: NDArray[np.uint8]) -> str:
    """SHA-256 of `array` written as an (unpacked) idx file."""
    header = struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    return hashlib.sha256(header + np.ascontiguousarray(array).tobytes()).hexdigest()
