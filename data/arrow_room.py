"""The Arrow room: four objects in a CLEVR-like room, of which an arrow points at the odd one out.

Jiang & Ahn, "Generative Neurosymbolic Machines", NeurIPS 2020, section 4. The published images lie behind short links
without checksums. So there are two sources: "render", our own pictures of the same rule, which are called *ArrowRoom-R*
wherever they are named and are never the published set; and "archive", the published files, where a user has them.

Rendered scenes are a function of (seed, split, index): `_arrow_scene` draws what stands where, `_arrow_render` makes
the picture with Mitsuba 3 (`pip install 'reprise[render]'`). They are rendered once, into the cache folder
(REPRISE_CACHE, or the user's), by whoever needs them first; `reprise data render arrow_room --tier mini` does it ahead
of time. `_arrow_report` lays renders beside real images and measures them (reports/arrow_room.md). On one machine they
are the same to the byte every time. Of two processors (EPYC, Xeon) the first ten test scenes agreed, the digest of all
splits did not; every row carries it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..core import progress
from ..core.dataset import SPLITS, Dataset, DatasetInfo, Examples, Objects, Split
from ..core.errors import DataError, UsageError
from ..core.randomness import stream
from ..core.workspace import cache_folder, data_root
from . import _arrow_archive, _arrow_scene
from ._arrow_scene import SHAPES, Thing
from ._shards import SHARD, Make, Shards, Truth

__all__ = ["ArrowRoom"]


@dataclass(frozen=True)
class ArrowRoom(Dataset):
    """source: "render" (ArrowRoom-R) or "archive" (the published files). canvas: 32, 64 or 128 pixels.

    train, valid, test: how many images of each split (a longer split begins with the same images). seed: names all
    randomness of the renders, and must be 0 for the archive. `Examples.objects` has, for renders, the class of each
    object as its place in ("cube", "cylinder", "sphere", "arrow") and the box of what can be seen of it, in the order
    left, middle, right, arrow; `Examples.label` is the place of the odd one out: 0 left, 1 middle, 2 right. The archive
    has no boxes: objects and label are None. `truths` has everything that is known of each scene.
    """

    source: Literal["render", "archive"] = "render"
    canvas: int = 128
    train: int = 60_000
    valid: int = 6_000
    test: int = 6_000
    seed: int = 0

    tiers: ClassVar = {
        "demo": {"canvas": 64, "train": 320, "valid": 64, "test": 256},
        "mini": {"train": 6_000, "valid": 500, "test": 1_000},
    }

    def __post_init__(self) -> None:
        if self.canvas not in (32, 64, 128):
            raise UsageError(f"dataset.canvas={self.canvas} is not one of 32, 64, 128")
        for name in SPLITS:
            if getattr(self, name) < 1:
                raise UsageError(
                    f"dataset.{name}={getattr(self, name)} is too few; expected at least 1 image"
                )
        if self.source == "archive" and self.seed != 0:
            raise UsageError(
                f"dataset.seed={self.seed} means nothing for source='archive'; expected 0"
            )

    @property
    def info(self) -> DatasetInfo:
        """`arrow-room-r` for our renders, `arrow-room` for the archive, so that nobody takes one for the other."""
        shape = (3, self.canvas, self.canvas)
        if self.source == "archive":
            return DatasetInfo("arrow-room", shape, "rgb", objects=4)
        return DatasetInfo("arrow-room-r", shape, "rgb", objects=4, stand_in="ArrowRoom-R")

    @property
    def digest(self) -> str:
        """Of every image of every split."""
        digest = hashlib.sha256()
        for name in SPLITS:
            digest.update(bytes.fromhex(self.split_digest(name)))
        return digest.hexdigest()[:12]

    @property
    def unmade(self) -> int:
        """Of all splits, where they can be rendered here; none of the published archive's."""
        if self.source == "archive" or importlib.util.find_spec("mitsuba") is None:
            return 0
        return sum(len(self.workshop(name)[0].missing()) for name in SPLITS)

    def split_digest(self, name: Split) -> str:
        """SHA-256 of the SHA-256s of a split's images, in order; hexadecimal."""
        digest = hashlib.sha256()
        for truth in self.truths(name):
            digest.update(bytes.fromhex(truth["sha256"]))
        return digest.hexdigest()

    def split(self, name: Split) -> Examples:
        """The images of one split, memory-mapped; made now where they are not there yet."""
        truths = self.truths(name)
        images = self.workshop(name)[0].images()
        if self.source == "archive":
            return Examples(images)
        objects = Objects(
            label=np.array([[SHAPES.index(o["shape"]) for o in t["objects"]] for t in truths]),
            box=np.array([[o["pixel_box"] for o in t["objects"]] for t in truths], np.float32),
        )
        label = np.array([[o["unique"] for o in t["objects"]].index(True) for t in truths])
        return Examples(images, label, objects)

    def truths(self, name: Split) -> list[Truth]:
        """All that is known of each scene of a split, made now where it is not there yet. Of a render, ready for JSON:

        dataset ("ArrowRoom-R"), split, image_index, seed, renderer, sha256 (of the pixels), material, unique_slot, and
        objects, in the order left, middle, right, front (the arrow). Of each object: shape, color, material, slot,
        unique, 3d_coords (its centre; z up, the ground at 0), rotation (yaw in degrees, counter-clockwise from above:
        where the arrow points), pixel_coords (x, y of the centre in pixels, and its depth), pixel_box (tight x0, y0,
        x1, y1, ends exclusive, of the pixels whose middle shows it; -1 where none does), visible_pixels, and
        silhouette_box (of the whole object, whatever hides it). Of an image of the archive: file, and scene if it has
        one.
        """
        self.prepare(name)
        return _truths(self.workshop(name)[0])

    def scene(self, name: Split, index: int) -> tuple[Thing, ...]:
        """What stands where in one rendered scene; needs no renderer and no images."""
        return _arrow_scene.sample(self.seed, name, index)

    def draw(
        self, things: tuple[Thing, ...], pattern: int = 0
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """A picture (3, canvas, canvas) of any scene, lawful or not, and which thing (its place; -1: none) each pixel
        shows (canvas, canvas). pattern: which of the renderer's sets of random numbers. Needs Mitsuba.
        """
        drawn = _renderer(self.canvas).render(things, pattern)
        return drawn.image, drawn.mask

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the camera of the renders sees points of the world (N, 3): x and y in pixels of the canvas, (N, 2)."""
        return _arrow_scene.project(points)[:, :2] * self.canvas

    def annotated(self, train: int) -> ArrowRoom:
        """The renders of this canvas, whose truth is known, `train` to learn from; alike for every source and seed."""
        return dataclasses.replace(self, source="render", seed=0, train=train)

    def prepare(self, name: Split, workers: int = 0) -> None:
        """Make the images of a split that are not there. workers: processes; 0 for as many as there are cores.

        Raises DataError, naming what to do, where they have to be rendered and Mitsuba is not installed.
        """
        shards, make = self.workshop(name)
        if shards.whole:
            return
        if self.source == "render":
            _need_mitsuba(self, name)
        with shards.alone():
            shards.gather()
            missing = shards.missing()
            workers = min(workers or _cores(), 1 + len(missing) // 8)
            if workers == 1:
                made = shards.count - len(missing)
                for done, index in enumerate(missing, made):
                    progress.report(self._doing(name), done, shards.count)
                    shards.write(index, make)
                    if (done + 1) % SHARD == 0:
                        shards.gather()
            else:
                self._prepare_with(workers, name, shards)
            shards.gather()
            if not shards.whole:
                raise DataError(
                    f"{shards.folder} is not whole after its images were made; call again"
                )

    def workshop(self, name: Split) -> tuple[Shards, Make]:
        """Where a split's images are kept, and the function that makes one of them."""
        count, folder = getattr(self, name), f"v{self.version}-{self.canvas}"
        if self.source == "archive":
            # Another archive is another folder of the cache.
            home = hashlib.sha256(str(data_root().resolve()).encode()).hexdigest()
            shards = Shards(
                cache_folder() / "arrow-room" / f"{folder}-{home[:8]}" / name,
                count,
                self.info.shape,
            )
            return shards, lambda index: _arrow_archive.read(name, count, self.canvas, index)
        shards = Shards(
            cache_folder() / "arrow-room-r" / f"{folder}-s{self.seed}" / name,
            count,
            self.info.shape,
        )
        return shards, functools.partial(render, self.seed, name, self.canvas)

    def _doing(self, name: Split) -> str:
        return (
            f"render ArrowRoom-R {name}" if self.source == "render" else f"read Arrow room {name}"
        )

    def _prepare_with(self, workers: int, name: Split, shards: Shards) -> None:
        """Processes of their own rather than a pool's: the caller may be a worker itself, and may not have children."""
        options = json.dumps(dataclasses.asdict(self))
        package = str(__package__)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with tempfile.TemporaryFile() as said:
            processes = [
                subprocess.Popen(
                    [sys.executable, "-m", f"{package}._arrow_worker", options, name]
                    + [str(number) for number in (k, workers, os.getpid())],
                    stderr=said,
                    stdin=subprocess.DEVNULL,
                    env=environment,
                )
                for k in range(workers)
            ]
            try:
                while any(process.poll() is None for process in processes):
                    if any(process.poll() for process in processes):
                        break  # one has failed
                    shards.gather()
                    done = shards.count - len(shards.missing())
                    progress.report(self._doing(name), done, shards.count)
                    time.sleep(0.5)
            finally:
                for process in processes:
                    process.terminate()
                for process in processes:
                    process.wait()
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
        if code := next((process.returncode for process in processes if process.returncode), 0):
            raise DataError(
                f"a process that makes images of {self.info.name} ended with {code}: "
                f"{lines[-1] if lines else 'it said nothing'}"
            )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=8)
def _truths(shards: Shards) -> list[Truth]:
    return shards.truths()


def _need_mitsuba(data: ArrowRoom, name: Split) -> None:
    from . import _arrow_render

    try:
        _arrow_render.mitsuba()
    except DataError as error:
        changed = " ".join(
            f"--set dataset.{f.name}={getattr(data, f.name)}"
            for f in dataclasses.fields(data)
            if getattr(data, f.name) != f.default
        )
        raise DataError(
            f"{error}, and `reprise data render arrow_room {changed}".rstrip()
            + f"` then makes the {getattr(data, name):,} {name} images of ArrowRoom-R"
        ) from error


@functools.lru_cache(maxsize=2)
def _renderer(canvas: int) -> Any:
    from ._arrow_render import Renderer

    return Renderer(canvas)


def render(seed: int, name: Split, canvas: int, index: int) -> tuple[NDArray[np.uint8], Truth]:
    """One scene: its picture (3, canvas, canvas) and everything that is known of it (`ArrowRoom.truths`)."""
    things = _arrow_scene.sample(seed, name, index)
    pattern = stream("arrow_room", seed, name, index, "samples")
    drawn = _renderer(canvas).render(things, pattern)
    truth: Truth = {
        "dataset": "ArrowRoom-R",
        "split": name,
        "image_index": index,
        "seed": seed,
        "renderer": f"mitsuba {_renderer(canvas).version}",
        "material": things[0].material,
        "unique_slot": next(thing.slot for thing in things if thing.unique),
        "objects": [_described(thing, drawn.mask == place) for place, thing in enumerate(things)],
    }
    return drawn.image, truth


def _described(thing: Thing, mask: NDArray[np.bool_]) -> Truth:
    """One object's part of the truth; mask: (H, W), the pixels that show it."""
    side = len(mask)
    x, y, depth = _arrow_scene.project(np.array([thing.position]))[0]
    rows, columns = np.nonzero(mask)
    box = [-1, -1, -1, -1]
    if len(rows):
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return {
        "shape": thing.shape,
        "color": thing.colour,
        "material": thing.material,
        "slot": thing.slot,
        "unique": thing.unique,
        "3d_coords": [round(value, 4) for value in thing.position],
        "rotation": round(thing.yaw, 4),
        "pixel_coords": [round(x * side, 3), round(y * side, 3), round(depth, 4)],
        "pixel_box": [int(edge) for edge in box],
        "visible_pixels": int(mask.sum()),
        "silhouette_box": [round(edge * side, 3) for edge in _arrow_scene.projected_box(thing)],
    }
