"""The published Arrow room, where a user has it: `point-out-the-wrong-guy-split/` below the data root.

Four folders `split-00000-20000` ... `split-60000-80000`, each with `images/*.png` and, in CLEVR's format,
`scenes/*.json`. Train is the first three; of the fourth the first 6,000 images are valid and the next 6,000 test. Files
are in the order of the last integer of their names. The archive has no checksum anywhere, so none is checked: the
digest in a row says which images were read. It is never fetched (its links are short links that may change).
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Split
from ..core.errors import DataError
from ..core.workspace import data_root
from ._shards import Truth

FOLDER = "point-out-the-wrong-guy-split"
PARTS = ("split-00000-20000", "split-20000-40000", "split-40000-60000", "split-60000-80000")
VALID = 6_000


@functools.lru_cache(maxsize=8)
def files(root: Path, split: Split, count: int) -> tuple[Path, ...]:
    """The first `count` images of a split. Raises DataError where the archive is not there or holds fewer."""
    where = root / FOLDER
    found: list[Path] = []
    for part in PARTS[:3] if split == "train" else PARTS[3:]:
        folder = where / part / "images"
        if not folder.is_dir():
            raise DataError(
                f"{folder} does not exist; source='archive' reads the published Arrow room, unpacked as "
                f"{where}/{PARTS[0]}/images/*.png and so on (let REPRISE_DATA name the folder that holds {FOLDER}); "
                "without source='archive' the scenes are rendered here (ArrowRoom-R)"
            )
        found += sorted(folder.glob("*.png"), key=last_integer)
        if split == "train" and len(found) >= count:
            break
    first = VALID if split == "test" else 0
    last = min(first + count, VALID if split == "valid" else len(found))
    chosen = found[first:last]
    if len(chosen) < count:
        raise DataError(
            f"{where} has {len(chosen)} images for {split}, expected {count}; "
            f"ask for fewer with --set dataset.{split}={max(len(chosen), 1)}, or unpack the whole archive"
        )
    return tuple(chosen)


def last_integer(path: Path) -> int:
    """The last integer of a file's name. Raises DataError for a name without one."""
    numbers = re.findall(r"\d+", path.stem)
    if not numbers:
        raise DataError(
            f"{path} has no number in its name; expected a file such as CLEVR_new_000017.png"
        )
    return int(numbers[-1])


def read(split: Split, count: int, side: int, index: int) -> tuple[NDArray[np.uint8], Truth]:
    """Image `index` of a split, (3, side, side) uint8 by PIL's bilinear reduction, and its scene if it has one."""
    from PIL import Image

    path = files(data_root(), split, count)[index]
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}; unpack the archive again") from error
    truth: Truth = {
        "dataset": "Arrow room",
        "split": split,
        "image_index": index,
        "file": path.name,
    }
    scene = path.parent.parent / "scenes" / f"{path.stem}.json"
    if scene.exists():
        try:
            truth["scene"] = json.loads(scene.read_text())
        except ValueError as error:
            raise DataError(f"{scene} cannot be read: {error}; unpack the archive again") from error
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1)), truth
