"""Composed characters are made of their parts, look inked like handwriting, and survive being interrupted."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reprise.core import progress
from reprise.core.dataset import SPLITS, Examples
from reprise.core.errors import DataError, UsageError
from reprise.core.spec import build, dataset
from reprise.core.workspace import cache_folder, data_root
from reprise.data import _counter, _hanzi_render, _hanzi_strokes, _registry, hanzi
from reprise.data._hanzi_strokes import COMPOSED, PARTS, Strokes, characters
from reprise.data.hanzi import Hanzi

SMALL = Hanzi("typed", per_class=20)
kinds = pytest.mark.parametrize("strokes", ["typed", "makemeahanzi"])


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache folder of this file's own, shared by its tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPRISE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def there(strokes: Strokes) -> dict[str, tuple[_hanzi_strokes.Part, _hanzi_strokes.Part]]:
    try:
        return characters(strokes)
    except DataError as error:
        pytest.skip(f"needs the stroke file: {error}")


def drawn(strokes: Strokes, count: int = 6) -> list[_hanzi_render.Drawn]:
    """A few images of every character."""
    found = []
    for label, parts in enumerate(there(strokes).values()):
        keys = _counter.keys(label, np.arange(count))
        hand = _hanzi_render.hands(_counter.keys(1_000 + label, np.arange(count)))
        found.append(_hanzi_render.draw(parts, keys, hand, 64))
    return found


def boxes(examples: Examples) -> NDArray[np.int64]:
    assert examples.objects is not None
    return examples.objects.box.astype(np.int64)


# --- which characters ----------------------------------------------------------------------------------------------


def test_fifty_characters_of_gb2312_share_thirty_one_parts() -> None:
    assert len(COMPOSED) == 50
    assert {part for two in COMPOSED.values() for part in two} == set(PARTS)
    assert len(PARTS) == 31
    level_one = range(0xB0A1, 0xD7FA)
    assert all(int.from_bytes(name.encode("gb2312")) in level_one for name in COMPOSED)


@kinds
def test_every_character_has_the_strokes_of_its_two_parts(strokes: Strokes) -> None:
    found = there(strokes)
    assert len(found) == (50 if strokes == "makemeahanzi" else 15)
    assert list(found) == [name for name in COMPOSED if name in found]
    for character, two in found.items():
        assert tuple(part.name for part in two) == COMPOSED[character]
        for part in two:
            assert len(part.strokes) == PARTS[part.name]
            assert all(line.shape[0] >= 2 and line.shape[1] == 2 for line in part.strokes)
            every = np.concatenate(part.strokes)
            assert every.min() >= 0
            assert every.max() <= 1


def test_the_parts_stand_where_the_character_has_them() -> None:
    found = there("makemeahanzi")

    def middle(box: NDArray[np.float64]) -> NDArray[np.float64]:
        return (box[:2] + box[2:]) / 2

    for words, axis in (
        (_hanzi_strokes.LEFT_RIGHT, 0),
        (_hanzi_strokes.TOP_BOTTOM, 1),
        (_hanzi_strokes.HAT_UNDER, 1),
    ):
        for word in words.split():
            one, two = found[word[0]]
            assert middle(two.box)[axis] > middle(one.box)[axis] + 0.1
    for word in _hanzi_strokes.FRAME_INNER.split():
        one, two = found[word[0]]
        assert (one.box[:2] < two.box[:2]).all()
        assert (one.box[2:] > two.box[2:] + 0.04).all()  # and not the stroke that closes it


# --- the stroke files ----------------------------------------------------------------------------------------------


def package(found: dict[str, tuple[NDArray[np.int64], ...]], path: Path) -> None:
    """These medians as the npm package has them."""
    with tarfile.open(path, "w:gz") as archive:
        for character, lines in {**found, "永": ()}.items():
            upright = [[[x, 900 - y] for x, y in line.tolist()] for line in lines]
            content = json.dumps({"strokes": [], "medians": upright}).encode()
            member = tarfile.TarInfo(f"package/{character}.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def packed(found: dict[str, tuple[NDArray[np.int64], ...]], path: Path) -> None:
    """These medians as arrays."""
    lines = [line for two in found.values() for line in two]
    np.savez(
        path,
        char=np.array(list(found)),
        char_offsets=np.cumsum([0] + [len(two) for two in found.values()]).astype(np.int32),
        stroke_offsets=np.cumsum([0] + [len(line) for line in lines]).astype(np.int32),
        median_points=np.concatenate(lines).astype(np.int16),
    )


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Roots with the same random medians in each of the two layouts."""
    random = np.random.default_rng(0)
    found = {
        character: tuple(
            random.integers(0, 900, (random.integers(2, 6), 2)) for _ in range(PARTS[a] + PARTS[b])
        )
        for character, (a, b) in COMPOSED.items()
    }
    monkeypatch.setattr(_hanzi_strokes, "CONTENT", _hanzi_strokes.content_digest(found))
    files, roots = [], {}
    for name, write, suffix in (("package", package, "tgz"), ("packed", packed, "npz")):
        path = tmp_path / name / f"hanzi.{suffix}"
        path.parent.mkdir()
        write(found, path)
        files.append((_registry.File(path.name, _registry.sha256(path), path.stat().st_size),))
        roots[name] = path.parent
    monkeypatch.setitem(_registry.FILES, "hanzi", tuple(files))
    return roots


def test_both_layouts_hold_the_same_strokes(
    toy: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    for root in toy.values():
        monkeypatch.setenv("REPRISE_DATA", str(root))
        read.append(_hanzi_strokes.medians())
    for character in COMPOSED:
        for one, other in zip(read[0][character], read[1][character], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("layout", ["package", "packed"])
def test_damaged_strokes_are_refused_with_the_command_that_mends_them(
    layout: str, toy: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(toy[layout]))
    (path,) = toy[layout].iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"truncated.*reprise data fetch hanzi"):
        _hanzi_strokes.medians()
    path.write_bytes(whole)
    monkeypatch.setattr(_hanzi_strokes, "CONTENT", "0" * 64)
    with pytest.raises(DataError, match=r"content digest.*reprise data fetch hanzi"):
        _hanzi_strokes.medians()


def test_missing_strokes_say_how_to_get_them_and_typed_ones_need_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"reprise data fetch hanzi.*REPRISE_DATA"):
        _hanzi_strokes.medians()
    assert len(SMALL.split("train")) > 0


# --- the images ----------------------------------------------------------------------------------------------------


@kinds
def test_images_are_inked_like_tightly_cropped_handwriting(strokes: Strokes) -> None:
    image = np.concatenate([part.image for part in drawn(strokes)]) / 255
    assert image.mean() == pytest.approx(0.15, abs=0.015)
    assert (image > 0.1).mean() == pytest.approx(0.25, abs=0.025)
    assert 0.65 < image.max(axis=(1, 2)).min() < 0.85  # ink between 0.7 and 1
    assert image.max() > 0.99


@kinds
def test_boxes_and_owners_are_those_of_the_ink_of_each_part(strokes: Strokes) -> None:
    for piece in drawn(strokes):
        image, owner, box = piece.image, piece.owner, piece.box
        np.testing.assert_array_equal((owner == 255) | (image >= 16), True)
        assert (image[owner == 255] < 48).all()  # two blurs may meet, no stroke is nobody's
        for mask, edges in zip(owner, box, strict=True):
            assert set(np.unique(mask)) == {0, 1, 255}
            for place, (x0, y0, x1, y1) in enumerate(edges):
                y, x = np.nonzero(mask == place)
                assert 0 <= x0 <= x.min() < x.max() < x1 <= 64
                assert 0 <= y0 <= y.min() < y.max() < y1 <= 64


@kinds
def test_a_part_is_drawn_where_its_strokes_run(strokes: Strokes) -> None:
    """Without any shaking, the middle of each stroke carries the ink of its own part."""
    for two, still in zip(there(strokes).values(), _still(strokes), strict=True):
        owner = still.owner
        lines, _ = _hanzi_render.moved(two, np.zeros(1, np.uint64), _plain(), shake=0)
        for place, part in enumerate(lines):
            for line in part:
                middle = line[0, :-1] * 0.5 + line[0, 1:] * 0.5
                x, y = (middle * 64).astype(int).T
                assert np.isin(owner[0, y, x], place).any()
                assert (owner[0, y, x] != 255).all()


def _plain() -> _hanzi_render.Hand:
    return _hanzi_render.Hand(np.eye(2)[None], np.array([0.05]), np.ones(1))


def _still(strokes: Strokes) -> list[_hanzi_render.Drawn]:
    return [
        _hanzi_render.draw(two, np.zeros(1, np.uint64), _plain(), 64, shake=0)
        for two in there(strokes).values()
    ]


def test_a_character_fills_the_image_but_for_its_margin() -> None:
    for piece in drawn("typed"):
        box = piece.box
        low, high = box[:, :, :2].min(1), box[:, :, 2:].max(1)
        longer = (high - low).max(1)
        assert (longer >= 58).all()
        assert np.abs((low + high) / 2 - 32).max() <= 1.5
        assert piece.image.shape == (6, 64, 64)


def test_an_image_depends_on_its_own_key_and_writer_alone() -> None:
    two = characters("typed")["杏"]
    keys = _counter.keys(1, np.arange(20))
    hand = _hanzi_render.hands(keys)
    whole = _hanzi_render.draw(two, keys, hand, 64)
    some = slice(5, 9)
    part = _hanzi_render.draw(two, keys[some], hand.rows(some), 64)
    np.testing.assert_array_equal(whole.image[some], part.image)
    np.testing.assert_array_equal(whole.owner[some], part.owner)
    np.testing.assert_array_equal(whole.box[some], part.box)
    assert len({image.tobytes() for image in whole.image}) == 20


# --- the splits ----------------------------------------------------------------------------------------------------


def test_a_tenth_is_test_and_every_image_is_in_one_split() -> None:
    rows = [SMALL.rows(name) for name in SPLITS]
    assert [len(part) for part in rows] == [255, 15, 30]
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(300))
    for name, part in zip(SPLITS, rows, strict=True):
        examples = SMALL.split(name)
        assert examples.label is not None
        np.testing.assert_array_equal(examples.label, part // 20)
        assert examples.objects is not None
        for label, parts in zip(examples.label, examples.objects.label, strict=True):
            assert tuple(SMALL.part_names[place] for place in parts) == COMPOSED[SMALL.names[label]]
        assert examples.owner is not None
        assert examples.image[:].shape == (len(part), 1, 64, 64)
        assert examples.owner[:].shape == (len(part), 64, 64)
        for mask, edges in zip(examples.owner[:], boxes(examples), strict=True):
            y, x = np.nonzero(mask == 1)
            assert edges[1, 0] <= x.min() < x.max() < edges[1, 2]
            assert edges[1, 1] <= y.min() < y.max() < edges[1, 3]


def test_by_writer_no_hand_is_in_two_splits_and_a_hand_is_one_in_all_characters() -> None:
    data = dataclasses.replace(SMALL, held_out="writer")
    writers = [set((data.rows(name) % 20).tolist()) for name in SPLITS]
    assert [len(found) for found in writers] == [17, 1, 2]
    for one, other in combinations(writers, 2):
        assert not one & other
    assert [len(data.rows(name)) for name in SPLITS] == [255, 15, 30]
    # One writer's ink is as dark in every character; otherwise each image has its own.
    for chosen, alike in ((data, True), (SMALL, False)):
        image = hanzi._drawn(chosen, cache_folder(), data_root()).image
        darkest = image.reshape(15, 20, -1).max(-1).astype(int)
        assert (np.ptp(darkest, axis=0).max() <= 6) == alike


def test_the_images_of_version_1_are_these_on_every_machine() -> None:
    assert Hanzi.version == 1
    assert SMALL.digest == "c77b5d80cca1"


def test_another_seed_gives_other_images() -> None:
    assert dataclasses.replace(SMALL, seed=1).digest != SMALL.digest


def test_drawing_goes_on_where_it_was_interrupted_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SMALL.digest
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path))
    asked: list[str] = []
    draw = hanzi._of_one

    def interrupted(data: Hanzi, character: str) -> _hanzi_render.Drawn:
        asked.append(character)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return draw(data, character)

    monkeypatch.setattr(hanzi, "_of_one", interrupted)
    heard: list[tuple[str, int, int]] = []
    with pytest.raises(KeyboardInterrupt), progress.watched_by(lambda *event: heard.append(event)):
        SMALL.prepare("train")
    assert heard[-1][1:] == (4, 15)
    assert SMALL.digest == whole
    assert len(asked) == 5 + 11
    (broken, *_) = tmp_path.rglob("*.npz")
    broken.write_bytes(broken.read_bytes()[:-50])
    hanzi._drawn.cache_clear()
    with pytest.raises(DataError, match=rf"{broken} cannot be read.*remove it"):
        SMALL.split("test")


def test_asking_for_images_never_changes_them() -> None:
    examples = SMALL.split("test")
    examples.image[:][:] = 0
    assert SMALL.split("test").image[:].any()


def test_stand_ins_are_named() -> None:
    assert (Hanzi().info.name, Hanzi().info.stand_in) == ("hanzi", "composed characters")
    demo = build(dataset("hanzi", **Hanzi.tiers["demo"]))
    assert (demo.info.name, demo.info.stand_in) == ("hanzi-typed", "composed characters (typed)")
    assert demo.info.shape == Hanzi().info.shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 5}, "per_class=5"),
        ({"strokes": "seal"}, "seal"),
        ({"held_out": "ink"}, "ink"),
    ],
)
def test_an_impossible_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(dataset("hanzi", **options))
