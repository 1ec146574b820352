"""The Arrow room keeps its rule, is the same for everyone, and survives being killed while it is rendered."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from reprise.core import progress
from reprise.core.dataset import SPLITS
from reprise.core.errors import DataError, UsageError
from reprise.core.spec import build, dataset
from reprise.data import _arrow_archive, _arrow_render, _arrow_scene, _shards, arrow_room
from reprise.data._arrow_scene import COLOURS, SHAPES, SLOTS, Thing
from reprise.data._shards import Shards
from reprise.data.arrow_room import ArrowRoom, render

needs_mitsuba = pytest.mark.skipif(
    importlib.util.find_spec("mitsuba") is None,
    reason="renders: needs Mitsuba 3, `pip install 'reprise[render]'`",
)
TINY = ArrowRoom(canvas=32, train=12, valid=3, test=2)


@functools.lru_cache(maxsize=1)
def scenes() -> list[tuple[Thing, ...]]:
    return [_arrow_scene.sample(0, "train", index) for index in range(2_000)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- the rule -----------------------------------------------------------------------------------------------------


def test_two_share_a_shape_the_third_has_another_and_the_fourth_is_an_arrow() -> None:
    for things in scenes():
        assert [thing.slot for thing in things] == list(SLOTS)
        *three, arrow = things
        assert arrow.shape == "arrow"
        assert not arrow.unique
        (odd,) = [thing for thing in three if thing.unique]
        (common,) = {thing.shape for thing in three if not thing.unique}
        assert odd.shape != common
        assert "arrow" not in (odd.shape, common)


def test_the_arrow_points_at_the_odd_one_out_to_three_degrees() -> None:
    errors = []
    for *three, arrow in scenes():
        (odd,) = [thing for thing in three if thing.unique]
        (x, y, _), (u, v, _) = arrow.position, odd.position
        error = (arrow.yaw - math.degrees(math.atan2(v - y, u - x)) + 180) % 360 - 180
        errors.append(error)
    assert np.abs(errors).max() <= 3
    assert stats.kstest(errors, stats.uniform(-3, 6).cdf).pvalue > 1e-3


def test_shapes_slots_colours_and_materials_are_uniform_and_independent() -> None:
    pairs, slots, materials = Counter[Any](), Counter[Any](), Counter[Any]()
    colours = Counter[Any]()
    for things in scenes():
        (chosen,) = [place for place, thing in enumerate(things) if thing.unique]
        pairs[things[(chosen + 1) % 3].shape, things[chosen].shape] += 1
        slots[chosen] += 1
        (material,) = {thing.material for thing in things}  # one for the whole image
        materials[material] += 1
        colours[things[0].colour, things[3].colour] += 1
    for counter, size in ((pairs, 6), (slots, 3), (materials, 2), (colours, 64)):
        assert len(counter) == size
        assert stats.chisquare(list(counter.values())).pvalue > 1e-3


def test_the_arrow_is_nearest_nothing_touches_and_all_can_be_seen() -> None:
    reach = {"cube": math.sqrt(2) * 0.85, "arrow": 1.0}
    for things in scenes():
        positions = np.array([thing.position for thing in things])
        assert _arrow_scene.project(positions)[:, 2].argmin() == 3
        for one, other in combinations(things, 2):
            apart = math.dist(one.position[:2], other.position[:2])
            assert apart >= reach.get(one.shape, 0.85) + reach.get(other.shape, 0.85)
        for thing in things:
            x0, y0, x1, y1 = _arrow_scene.projected_box(thing)
            seen = (min(x1, 1) - max(x0, 0)) * (min(y1, 1) - max(y0, 0))
            assert seen >= 0.5 * (x1 - x0) * (y1 - y0)


def test_objects_lie_where_and_are_as_large_as_in_the_published_samples() -> None:
    # Of each slot, 5th, 50th and 95th percentile of the box's middle in pixels, and the median height: as measured on
    # the 250 published samples and ten published inputs. Widths are in reports/arrow_room.md.
    published = {
        "left": ((20, 25, 36), (53, 59, 66), 30),
        "middle": ((57, 63, 72), (43, 46, 52), 23),
        "right": ((91, 101, 109), (54, 59, 66), 30),
        "front": ((42, 64, 84), (78, 91, 106), 25),
    }
    for place, slot in enumerate(SLOTS):
        boxes = [_arrow_scene.projected_box(things[place]) for things in scenes()]
        x0, y0, x1, y1 = np.clip(np.array(boxes) * 128, 0, 128).T
        x, y, height = published[slot]
        assert np.abs(np.percentile((x0 + x1) / 2, [5, 50, 95]) - x).max() <= 3
        assert np.abs(np.percentile((y0 + y1) / 2, [5, 50, 95]) - y).max() <= 2
        assert abs(np.median(y1 - y0) - height) <= 2.5


def test_a_scene_depends_on_seed_split_and_index_alone() -> None:
    assert _arrow_scene.sample(0, "train", 1_234) == scenes()[1_234]
    assert len({_arrow_scene.sample(seed, name, 7) for seed in (0, 1) for name in SPLITS}) == 6
    assert ArrowRoom().scene("train", 5) == scenes()[5]


def test_the_scenes_of_version_1_are_these_on_every_machine() -> None:
    assert ArrowRoom.version == 1
    things = scenes()[0]
    assert [(thing.shape, thing.colour) for thing in things] == [
        ("cylinder", "brown"),
        ("cube", "brown"),
        ("cube", "green"),
        ("arrow", "cyan"),
    ]
    places = [[*thing.position, thing.yaw] for thing in things]
    np.testing.assert_allclose(
        places,
        [
            [-2.144, -1.965, 0.85, 188.26],
            [-1.519, 0.501, 0.85, 255.43],
            [1.269, 1.861, 0.85, 295.78],
            [3.755, -2.036, 0.21, 178.444],
        ],
        atol=1e-3,
    )


# --- the camera and the shapes ------------------------------------------------------------------------------------


def test_the_camera_looks_at_the_origin_and_the_lens_is_clevrs() -> None:
    x, y, depth = _arrow_scene.project(np.zeros((1, 3)))[0]
    assert (x, y) == pytest.approx((0.5, 0.5))
    assert depth == pytest.approx(11.26, abs=0.01)
    up, right = np.eye(3)[2:], _arrow_scene.to_world(np.array([[1.0, 0, 0]]))
    assert _arrow_scene.project(up)[0, 1] < 0.5
    assert _arrow_scene.project(right)[0] == pytest.approx((0.5 + 35 / 32 / depth, 0.5, depth))


@pytest.mark.parametrize("shape", SHAPES)
def test_meshes_are_closed_point_outwards_and_have_their_size(shape: str) -> None:
    mesh = _arrow_scene.mesh(shape)
    corner = mesh.vertex[mesh.face]  # (F, 3, 3)
    across = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    real = np.linalg.norm(across, axis=1) > 1e-9  # the poles of what is turned have empty triangles
    facing = (across[:, None] * mesh.normal[mesh.face]).sum(-1)
    assert (facing[real] > 0).all()
    # The volume by the divergence theorem: only a closed surface with outward faces has the right one.
    volume = (corner[:, 0] * across).sum() / 6
    r = 0.85
    expected = {
        "cube": 8 * r**3,
        "cylinder": 2 * math.pi * r**3,
        "sphere": 4 / 3 * math.pi * r**3,
        "arrow": 0.42 * (0.95 * 0.54 + 1.05 * 0.62),
    }
    assert volume == pytest.approx(expected[shape], rel=0.04)


# --- images -------------------------------------------------------------------------------------------------------


@needs_mitsuba
def test_an_image_depends_neither_on_the_processes_nor_on_the_order(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, int, int]] = []
    with progress.watched_by(lambda *event: heard.append(event)):
        TINY.prepare("train", workers=2)
    assert heard[-1][0] == "render ArrowRoom-R train"
    assert heard[-1][2] == 12
    together, digest = TINY.split("train").image[:], TINY.split_digest("train")
    for index in (11, 0, 5):
        image, truth = render(0, "train", 32, index)
        np.testing.assert_array_equal(image, together[index])
        kept = {key: value for key, value in TINY.truths("train")[index].items() if key != "sha256"}
        assert json.loads(json.dumps(truth)) == kept
    monkeypatch.setenv("REPRISE_CACHE", str(cache / "another"))
    TINY.prepare("train", workers=1)
    np.testing.assert_array_equal(TINY.split("train").image[:], together)
    assert TINY.split_digest("train") == digest
    # A longer split begins with the same images, which are not rendered again.
    longer = dataclasses.replace(TINY, train=13)
    kept_part = cache / "another" / "arrow-room-r" / "v1-32-s0" / "train"
    assert Shards(kept_part, 13, (3, 32, 32)).missing() == [12]
    np.testing.assert_array_equal(longer.split("train").image[:12], together)


@needs_mitsuba
def test_boxes_are_tight_around_what_can_be_seen(cache: Path) -> None:
    data = dataclasses.replace(TINY, canvas=64)
    examples, truths = data.split("valid"), data.truths("valid")
    assert examples.objects is not None
    assert examples.label is not None
    renderer = arrow_room._renderer(64)
    for index, truth in enumerate(truths):
        mask = renderer.render(data.scene("valid", index), 0).mask
        assert truth["objects"][examples.label[index]]["unique"]
        for place, (box, described) in enumerate(
            zip(examples.objects.box[index].astype(int), truth["objects"], strict=True)
        ):
            seen = mask == place
            x0, y0, x1, y1 = box
            assert seen.sum() == seen[y0:y1, x0:x1].sum() == described["visible_pixels"]
            assert all(
                edge.any() for edge in (seen[y0, :], seen[y1 - 1, :], seen[:, x0], seen[:, x1 - 1])
            )
            assert SHAPES[examples.objects.label[index, place]] == described["shape"]
            # Two independent answers to where the object is: the renderer's rays and our projection.
            whole = np.clip(described["silhouette_box"], 0, 64)
            assert (box[:2] >= whole[:2] - 0.6).all()
            assert (box[2:] <= whole[2:] + 0.6).all()
        arrow = truth["objects"][3]  # nothing hides it
        inside = np.clip(arrow["silhouette_box"], 0, 64)
        assert np.abs(np.array(arrow["pixel_box"]) - inside).max() <= 1.5


@needs_mitsuba
def test_the_room_has_the_tones_of_the_published_backgrounds(cache: Path) -> None:
    renderer = arrow_room._renderer(64)
    images = [renderer.render(things, i).image for i, things in enumerate(scenes()[:6])]
    image = np.stack(images) / 255  # (N, 3, H, W)
    assert image.mean() == pytest.approx(0.60, abs=0.04)
    assert image[:, :, 0].mean() == pytest.approx(0.54, abs=0.02)
    assert image[:, :, -1].mean() == pytest.approx(0.65, abs=0.03)
    # Far from objects and shadows nothing of the sampling is seen: neighbours differ by rounding alone.
    corner = np.stack(images)[:, :, :8, :8].astype(int)
    assert np.abs(np.diff(corner, axis=-1)).max() <= 2


@needs_mitsuba
def test_colours_and_materials_can_be_told_apart(cache: Path) -> None:
    renderer = arrow_room._renderer(32)
    things = scenes()[0]
    seen: dict[tuple[str, str], NDArray[np.float64]] = {}
    for material in ("rubber", "metal"):
        for colour in COLOURS:
            changed = tuple(
                dataclasses.replace(thing, colour=colour, material=material) for thing in things
            )
            drawn = renderer.render(changed, 0)
            seen[material, colour] = drawn.image[:, drawn.mask == 0].mean(1) / 255
    for material in ("rubber", "metal"):
        for one, other in combinations(COLOURS, 2):
            assert np.abs(seen[material, one] - seen[material, other]).max() > 0.05


@needs_mitsuba
def test_a_kill_loses_only_the_images_in_flight_and_leaves_no_wrong_file(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataclasses.replace(TINY, train=24)
    command = [
        sys.executable,
        "-m",
        "reprise.cli",
        "data",
        "render",
        "arrow_room",
        "--workers",
        "2",
    ]
    for key in ("canvas", "train"):
        command += ["--set", f"dataset.{key}={getattr(data, key)}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    quiet = subprocess.DEVNULL
    killed = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    parts = cache / "arrow-room-r" / "v1-32-s0" / "train" / "parts"
    deadline = time.monotonic() + 60
    while len(list(parts.glob("*.npz"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    shards = data.workshop("train")[0]
    with shards.alone():  # the workers, too, are gone or about to be: they hold no lock
        settled = -1
        while settled != (settled := len(list(parts.glob("*.npz")))):
            time.sleep(1)
    made = sorted(int(path.stem) for path in parts.glob("*.npz"))
    assert 4 <= len(made) < 24
    assert shards.missing() == sorted(set(range(24)) - set(made))
    before = {path: path.stat().st_mtime_ns for path in parts.glob("*.npz")}
    for index in (made[0], made[-1]):
        with np.load(shards._part(index)) as part:
            np.testing.assert_array_equal(part["image"], render(0, "train", 32, index)[0])
    rendered: list[int] = []
    _, make = data.workshop("train")

    def noted(index: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        rendered.append(index)
        return make(index)

    monkeypatch.setattr(ArrowRoom, "workshop", lambda self, name: (shards, noted))
    data.prepare("train", workers=1)
    assert sorted(rendered) == sorted(set(range(24)) - set(made))
    assert not any(path.exists() for path in before)  # gathered into the shard
    np.testing.assert_array_equal(data.split("train").image[7:8][0], render(0, "train", 32, 7)[0])


# --- shards -------------------------------------------------------------------------------------------------------


def counted(index: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    return np.full((1, 2, 2), index % 251, np.uint8), {"image_index": index}


def filled(folder: Path, count: int) -> Shards:
    shards = Shards(folder, count, (1, 2, 2))
    for index in shards.missing():
        shards.write(index, counted)
    shards.gather()
    assert shards.whole
    return shards


def test_images_of_many_shards_are_read_in_any_order_without_loading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shards, "SHARD", 20)
    shards = filled(tmp_path, 45)
    images = shards.images()
    assert [len(part) for part in images.parts] == [20, 20, 5]
    assert all(isinstance(part, np.memmap) for part in images.parts)
    index = np.random.default_rng(0).permutation(45)
    np.testing.assert_array_equal(images[index][:, 0, 0, 0], index)
    np.testing.assert_array_equal(images[18:22][:, 0, 0, 0], np.arange(18, 22))
    assert images[np.array([-1])][0, 0, 0, 0] == 44
    assert images[np.array([], dtype=np.int64)].shape == (0, 1, 2, 2)
    with pytest.raises(IndexError, match="45"):
        images[np.array([45])]
    assert [truth["image_index"] for truth in shards.truths()] == list(range(45))
    assert not list((tmp_path / "parts").iterdir())


def test_a_shorter_split_is_the_beginning_of_a_longer_one(tmp_path: Path) -> None:
    filled(tmp_path, 30)
    longer = Shards(tmp_path, 50, (1, 2, 2))
    assert longer.missing() == list(range(30, 50))
    filled(tmp_path, 50)
    shorter = Shards(tmp_path, 10, (1, 2, 2))
    assert shorter.whole
    assert len(shorter.images()) == len(shorter.truths()) == 10


def test_a_damaged_file_is_named_and_never_read(tmp_path: Path) -> None:
    shards = Shards(tmp_path, 3, (1, 2, 2))
    for index in range(3):
        shards.write(index, counted)
    part = tmp_path / "parts" / "000001.npz"
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(DataError, match=r"000001\.npz cannot be read.*call again"):
        shards.gather()
    assert shards.missing() == [1]
    filled(tmp_path, 3)
    images = tmp_path / "000000.npy"
    images.write_bytes(images.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"000000\.npy cannot be read.*remove it"):
        shards.images()


# --- the archive --------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive: one image in each of the first three folders, and three valid and two test images."""
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    monkeypatch.setattr(_arrow_archive, "VALID", 3)
    root = tmp_path / _arrow_archive.FOLDER
    rows = np.arange(48, dtype=np.uint8)[:, None, None]
    number = 0
    for part, count in zip(_arrow_archive.PARTS, (1, 1, 1, 5), strict=True):
        (root / part / "images").mkdir(parents=True)
        (root / part / "scenes").mkdir()
        for _ in range(count):
            picture = np.broadcast_to(rows + number, (48, 48, 4)).copy()
            picture[..., 3] = 255
            name = f"CLEVR_new_{number}"  # no zeros before: 10 must not come before 9
            Image.fromarray(picture, "RGBA" if number % 2 else None).save(
                root / part / "images" / f"{name}.png"
            )
            scene = {"objects": [{"shape": "arrow", "pixel_coords": [1, 2, 3]}], "n": number}
            (root / part / "scenes" / f"{name}.json").write_text(json.dumps(scene))
            number += 2
    return root


def test_the_archive_is_read_in_the_order_of_its_numbers_and_reduced_as_its_authors_do(
    archive: Path,
) -> None:
    data = ArrowRoom("archive", 32, 3, 3, 2)
    assert data.info.name == "arrow-room"
    numbers = {"train": [0, 2, 4], "valid": [6, 8, 10], "test": [12, 14]}
    for name in SPLITS:
        examples = data.split(name)
        assert examples.objects is None
        for index, (number, truth) in enumerate(zip(numbers[name], data.truths(name), strict=True)):
            assert truth["scene"]["n"] == number
            (path,) = archive.glob(f"*/images/CLEVR_new_{number}.png")
            small = Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(
                examples.image[np.array([index])][0], np.asarray(small).transpose(2, 0, 1)
            )
    assert data.digest == data.digest
    assert data.digest != dataclasses.replace(data, train=2).digest


def test_a_missing_or_short_archive_is_told_with_what_to_do(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"has 3 images for valid, expected 4.*dataset\.valid=3"):
        ArrowRoom("archive", 32, 3, 4, 2).split("valid")
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match=r"split-00000-20000/images does not exist.*REPRISE_DATA"):
        ArrowRoom("archive", 32, 3, 3, 2).split("train")


# --- names and errors ---------------------------------------------------------------------------------------------


def test_renders_never_pass_for_the_published_images() -> None:
    assert ArrowRoom().info.name == "arrow-room-r"
    assert ArrowRoom().info.shape == (3, 128, 128)
    assert ArrowRoom("archive").info.name == "arrow-room"
    demo = build(dataset("arrow_room", **ArrowRoom.tiers["demo"]))
    assert demo.info.shape == (3, 64, 64)
    assert [getattr(ArrowRoom(), name) for name in SPLITS] == [60_000, 6_000, 6_000]


def test_without_mitsuba_the_command_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    _arrow_render.mitsuba.cache_clear()
    with pytest.raises(DataError) as caught:
        TINY.split("train")
    _arrow_render.mitsuba.cache_clear()
    for text in (
        "pip install 'reprise[render]'",
        "`reprise data render arrow_room --set dataset.canvas=32 --set dataset.train=12",
        "12 train images of ArrowRoom-R",
    ):
        assert text in str(caught.value)
    assert not (cache / "arrow-room-r").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canvas": 100}, "canvas=100"),
        ({"test": 0}, "test=0"),
        ({"source": "web"}, "web"),
        ({"source": "archive", "seed": 1}, "seed=1"),
    ],
)
def test_an_impossible_option_is_named(options: dict[str, str | int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(dataset("arrow_room", **options))
