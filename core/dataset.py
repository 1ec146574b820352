"""Dataset: what images there are, always the same ones in the same order.

To add one, write `data/<name>.py` with one frozen dataclass that derives from `Dataset`, named in
`__all__`. Its fields are its options and enter the identity of every run trained on it.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError
from .spec import Value

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class DatasetInfo:
    """What a model may know of its data before it has seen any.

    name: short, of a-z, 0-9, `_`, `-` and `.`, part of run ids and so of folders (`mnist10`). shape: (C, H, W).
    objects: the most objects one image can hold; 0 where that means nothing.
    stand_in: what these images are called where they stand in for the published ones ("ArrowRoom-R"); "" where they
    are the published ones. It is written into every row, and no number measured on them is comparable in value.
    stand_in_train: the same where only the training and validation images are others ("partial KMNIST"): whoever is
    only measured on this data set's test images is comparable.
    """

    name: str
    shape: tuple[int, int, int]
    pixels: Literal["gray", "binary", "rgb"] = "gray"
    objects: int = 0
    stand_in: str = ""
    stand_in_train: str = ""

    def __post_init__(self) -> None:
        """Raises ContractError for a name that could not be part of a folder's."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", self.name):
            raise ContractError(
                f"the dataset name {self.name!r} must be of a-z, 0-9, _, - and ., and begin with a letter or digit"
            )

    def standing_in(self, *splits: Split) -> str:
        """What the images of these splits are called where any of them stand in for the published ones; else ""."""
        only_test = all(split == "test" for split in splits)
        return self.stand_in or ("" if only_test else self.stand_in_train)


class Images(Protocol):
    """uint8 images (N, C, H, W), indexed by an integer array; an ndarray, a memory map, or made on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: NDArray[np.int64] | slice, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Objects:
    """Ground truth of N images with at most O objects; rows past an image's count hold -1.

    label: (N, O) int64 class. box: (N, O, 4) float32, tight (x0, y0, x1, y1) in pixels, x1 and y1 exclusive.
    """

    label: NDArray[np.int64]
    box: NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """One split: `image[i]` belongs to `label[i]`, `objects[i]` and `owner[i]`.

    owner: (N, H, W) uint8, which object a pixel's ink comes from (most of it, where several meet), 255 for none;
    made on demand or memory-mapped like the images.
    """

    image: Images
    label: NDArray[np.int64] | None = None
    objects: Objects | None = None
    owner: Images | None = None

    def __len__(self) -> int:
        return len(self.image)


class Dataset(abc.ABC):
    """A frozen dataclass whose fields are its options.

    version: raise it when the same options begin to mean other images.
    tiers: options that a tier changes, e.g. {"demo": {"canvas": 64}}; a protocol's own options win.
    """

    version: ClassVar[int] = 1
    tiers: ClassVar[Mapping[str, Mapping[str, Value]]] = {}

    @property
    @abc.abstractmethod
    def info(self) -> DatasetInfo:
        """Name, image shape and kind of pixels; cheap, reads no data."""

    @property
    def unmade(self) -> int:
        """How many images have to be drawn and kept before any can be had, where that takes hours; cheap, draws none.

        0 where the files are there, or are missing, where an image is made when it is asked for, and where all are
        drawn within a minute or so.
        """
        return 0

    @abc.abstractmethod
    def split(self, name: Split) -> Examples:
        """The examples of one split, in a fixed order. Raises DataError when the files are not there."""

    @property
    @abc.abstractmethod
    def digest(self) -> str:
        """Hexadecimal digest of the content (first 12 digits of a SHA-256), written into every row."""
