"""What the five sets of the DooD paper are read from, and which of their images are train, valid and test.

Liang, Tenenbaum, Le & Siddharth, "Drawing out of Distribution with Neuro-Symbolic Generative Models", NeurIPS 2022.
Whole, from the official files:

MNIST 60,000 and 10,000. EMNIST, split "balanced" (Cohen et al. 2017): 112,800 and 18,800 of 47 classes.
KMNIST (Clanuwat et al. 2018): 60,000 and 10,000.
QuickDraw: of ten categories of Google's 28 x 28 bitmaps 5,000 drawings each; a fifth of all is test. The script that
the authors used, to all appearances, draws both at random without a seed; ours are fixed permutations, so its 50,000
drawings are others of the same files.
Omniglot: background 19,280, evaluation 13,180.

A part, the same images for everyone, of those sets that could not be had whole when this was written; it is cut out of
the official files where they are there, and its content is checked:

EMNIST: the first 10,000 test images of the split *letters* (A to L and half of M), of which a fixed fifth is test;
other classes than those of "balanced", and the same people may have drawn train and test. KMNIST: the first 7,011
training images (the test set is whole). QuickDraw: the first 1,000 to 3,999 drawings of seven of the ten categories.

Of the training images a twelfth is valid (the paper has none): the last ones of MNIST and KMNIST, whose order is
random, and a fixed permutation's of the others. Within a split images are in the order of the files.
Axes: `N` images.
"""

from __future__ import annotations

import gzip
import hashlib
import string
import struct
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ..core import progress
from ..core.dataset import Split
from ..core.errors import DataError
from ..core.randomness import stream
from ..core.workspace import data_root
from . import _counter, _digits, _omniglot, _registry
from ._counter import Integers
from ._omniglot import DAMAGE
from ._registry import QUICKDRAW

Name = Literal["mnist", "emnist", "kmnist", "quickdraw", "omniglot"]
NAMES: tuple[Name, ...] = get_args(Name)
Alphabets = Literal["all", "small1", "small2"]
Pixels = NDArray[np.uint8]

SIDE: dict[Name, int] = {"mnist": 28, "emnist": 28, "kmnist": 28, "quickdraw": 28, "omniglot": 105}

# What is only a part: how rows name it, in all splits, and in the training (and validation) images alone.
PART: dict[Name, str] = {
    "emnist": "partial EMNIST (letters A-M, 10,000 images of the letters test set)",
    "quickdraw": "partial QuickDraw (7 of 10 categories, 19,998 drawings)",
}
PART_TRAIN: dict[Name, str] = {"kmnist": "partial KMNIST (first 7,011 training images)"}

PER_CATEGORY = 5_000
_LETTERS, _PREFIX = 10_000, 7_011
_HELD_OUT, _VALID = 5, 12  # one in so many
# How many drawings of each category are at hand, the first of its file; in the order of the list.
_AT_HAND = {"eye": 3_000, "bicycle": 3_000, "tree": 2_000, "book": 3_999, "airplane": 3_999, "smiley face": 1_000,
            "apple": 3_000}  # fmt: skip

_LETTER_NAMES = string.digits + string.ascii_uppercase
CLASSES: dict[Name, tuple[str, ...]] = {
    "mnist": tuple(string.digits),
    # The classes of "balanced": lower case is merged with upper case where they look alike.
    "emnist": (*_LETTER_NAMES, *"abdefghnqrt"),
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "quickdraw": QUICKDRAW,
}

_EMNIST_COUNT = {"train": 112_800, "test": 18_800}
_KMNIST_COUNT = {"train": 60_000, "test": 10_000}

# SHA-256 of the images and labels of each part, whatever they were read from (`_digest`).
CONTENT: dict[Name, str] = {
    "emnist": "7f5b9c2be38e6a24d67673c5dff3a97bfd7a030092b439ed12cbfc7925cab940",
    "kmnist": "53ed99206a5862fafee2d86de01bc7a9cf13732cdfe286e73c703e1f3866f803",
    "quickdraw": "b726bb1a694d1e73dde6f9d3e57f9bfa862898e9efb63c73e307a09a7719c1a1",
}


class Images(NamedTuple):
    """N images, white on black. image: (N, S, S) uint8. label: (N,) int64, into `names`."""

    image: Pixels
    label: Integers


class _Files(NamedTuple):
    """What was read: images to train on, and to test with."""

    train: Images
    test: Images


def images(name: Name, split: Split, *, part: bool = False, alphabets: Alphabets = "all") -> Images:
    """The images of one split. Raises DataError where the files are missing, damaged or not the published ones."""
    if name == "mnist":
        return Images(*_digits.digits("mnist", split))
    if name == "omniglot":
        return _omniglot_images(split, alphabets)
    files = {"emnist": _emnist, "kmnist": _kmnist, "quickdraw": _quickdraw}[name](part, data_root())
    if split == "test":
        return files.test
    count = len(files.train.label)
    if name == "kmnist":
        valid = np.arange(count) >= count - count // _VALID
    else:
        valid = _chosen(name, "valid", count, count // _VALID)
    return _rows(files.train, valid if split == "valid" else ~valid)


def names(name: Name, *, part: bool = False, alphabets: Alphabets = "all") -> tuple[str, ...]:
    """What the labels stand for. Raises DataError where Omniglot, whose files say it, is not there."""
    if name == "omniglot":
        return _omniglot.drawings("background").names + _omniglot.drawings("evaluation").names
    if name == "emnist" and part:
        return tuple(string.ascii_uppercase[:13])
    return CLASSES[name]


def _omniglot_images(split: Split, alphabets: Alphabets) -> Images:
    """Evaluation characters are numbered on where the background's end, so that no two share a label."""
    background = _omniglot.drawings("background")
    if split == "test":
        test = _omniglot.drawings("evaluation")
        return Images(_grey(test.packed), test.label + len(background.names))
    alphabet = np.array([name.partition("/")[0] for name in background.names])[background.label]
    if alphabets == "all":
        rows = np.arange(len(alphabet))
    else:
        rows = np.flatnonzero(np.isin(alphabet, _omniglot.SMALL[alphabets]))
    valid = _chosen("omniglot", "valid", len(rows), len(rows) // _VALID)
    rows = rows[valid if split == "valid" else ~valid]
    return Images(_grey(background.packed[rows]), background.label[rows])


def _grey(packed: Pixels) -> Pixels:
    grey: Pixels = _omniglot.ink(packed).view(np.uint8)
    grey *= 255
    return grey


@lru_cache(maxsize=1)
def _kmnist(part: bool, root: Path) -> _Files:
    files, paths = _open("kmnist", part)
    try:
        if len(paths) == 1:
            with np.load(paths[0], allow_pickle=False) as arrays:
                parts = [arrays[f"train_prefix_{kind}"] for kind in ("images", "labels")]
                parts += [arrays[f"test_{kind}"] for kind in ("images", "labels")]
        else:
            parts = [_digits.read_idx(path) for path in paths]
            for array, count in zip(parts, np.repeat(list(_KMNIST_COUNT.values()), 2), strict=True):
                _expect(array, int(count))
            if part:
                parts[:2] = [array[:_PREFIX] for array in parts[:2]]
    except DAMAGE as error:
        raise _damaged("kmnist", paths[0].parent, error) from error
    train, test = (Images(image, label.astype(np.int64)) for image, label in (parts[:2], parts[2:]))
    if part:
        _check("kmnist", files, train, test)
    return _Files(train, test)


@lru_cache(maxsize=1)
def _emnist(part: bool, root: Path) -> _Files:
    """As the idx files hold them: transposed. That is what torchvision gives, and what the authors' code trains on."""
    files, (path,) = _open("emnist", part)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                # This copy was made upright.
                pool = Images(
                    arrays["images"].transpose(0, 2, 1), arrays["labels"].astype(np.int64) - 1
                )
        else:
            with zipfile.ZipFile(path) as archive:
                if not part:
                    balanced = (_emnist_idx(archive, "balanced", half) for half in _EMNIST_COUNT)
                    return _Files(*balanced)
                image, label = _emnist_idx(archive, "letters", "test")
                pool = Images(image[:_LETTERS], label[:_LETTERS] - 1)
    except DAMAGE as error:
        raise _damaged("emnist", path, error) from error
    pool = Images(np.ascontiguousarray(pool.image), pool.label)
    _check("emnist", files, pool)
    return _held_out("emnist", pool)


def _emnist_idx(archive: zipfile.ZipFile, split: str, half: str) -> Images:
    image, label = (
        _digits.parse_idx(gzip.decompress(archive.read(f"gzip/{name}")), name)
        for name in (
            f"emnist-{split}-{half}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")
        )
    )
    if split == "balanced":
        _expect(image, _EMNIST_COUNT[half])
        _expect(label, _EMNIST_COUNT[half])
    return Images(image, label.astype(np.int64))


@lru_cache(maxsize=1)
def _quickdraw(part: bool, root: Path) -> _Files:
    files, paths = _open("quickdraw", part)
    image, label = [], []
    try:
        if len(paths) == 1:
            with np.load(paths[0], allow_pickle=False) as arrays:
                every, of, called = (arrays[key] for key in ("images", "labels", "names"))
                for category, count in _AT_HAND.items():
                    image.append(every[of == list(called).index(category)][:count])
                    label.append(np.full(count, QUICKDRAW.index(category)))
        else:
            for place, path in enumerate(paths):
                drawings = np.load(path, mmap_mode="r", allow_pickle=False).reshape(-1, 28, 28)
                if part:
                    rows = np.arange(_AT_HAND.get(QUICKDRAW[place], 0))
                else:
                    seed = stream("quickdraw", QUICKDRAW[place])
                    rows = np.sort(_counter.shuffled(seed, len(drawings))[:PER_CATEGORY])
                image.append(np.asarray(drawings[rows]))
                label.append(np.full(len(rows), place))
    except DAMAGE as error:
        raise _damaged("quickdraw", paths[0].parent, error) from error
    pool = Images(np.concatenate(image), np.concatenate(label).astype(np.int64))
    if part:
        _check("quickdraw", files, pool)
    return _held_out("quickdraw", pool)


def _held_out(name: Name, pool: Images) -> _Files:
    """A fixed permutation's first fifth is test."""
    count = len(pool.label)
    test = _chosen(name, "test", count, count // _HELD_OUT)
    return _Files(_rows(pool, ~test), _rows(pool, test))


def _chosen(name: Name, what: str, count: int, chosen: int) -> NDArray[np.bool_]:
    """(count,): which of them are the first `chosen` of a permutation that has this name."""
    mask = np.zeros(count, dtype=bool)
    mask[_counter.shuffled(stream("glyphs", name, what), count)[:chosen]] = True
    return mask


def _rows(images: Images, rows: NDArray[np.bool_]) -> Images:
    return Images(images.image[rows], images.label[rows])


def _open(name: Name, part: bool) -> tuple[tuple[_registry.File, ...], list[Path]]:
    """The files of the layout that is there, and their paths, each with the right digest."""
    files = _registry.present(name, part=part)
    return files, [
        _registry.checked(name, file)
        for file in progress.track(files, f"check the files of {name}")
    ]


def _expect(array: Pixels, count: int) -> None:
    if array.shape not in ((count,), (count, 28, 28)):
        raise ValueError(f"an array of shape {array.shape}, expected {count} images or labels")


def _check(name: Name, files: Sequence[_registry.File], *parts: Images) -> None:
    found = _digest(*parts)
    if found != CONTENT[name]:
        raise DataError(
            f"the part of {name} in {files[0].path} has the content digest {found}, expected {CONTENT[name]}; "
            f"mend it with `reprise data fetch {name}`"
        )


def _digest(*parts: Images) -> str:
    digest = hashlib.sha256()
    for image, label in parts:
        digest.update(struct.pack("<q", len(label)) + np.ascontiguousarray(image).tobytes())
        digest.update(label.astype("<i8").tobytes())
    return digest.hexdigest()


def _damaged(name: Name, path: Path, error: BaseException) -> DataError:
    return DataError(f"cannot read {path}: {error}; mend it with `reprise data fetch {name}`")
