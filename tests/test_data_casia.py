"""CASIA's files are read whole or not at all: tested on synthetic bytes, for the data may not be passed on."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reprise.core.dataset import SPLITS
from reprise.core.errors import DataError, UsageError
from reprise.core.spec import build, dataset
from reprise.data import _gnt, _registry, casia
from reprise.data._hanzi_strokes import COMPOSED
from reprise.data.casia import CASIA

WRITERS, NAMES = 20, tuple(COMPOSED)


def record(tag: bytes, pixels: NDArray[np.uint8]) -> bytes:
    height, width = pixels.shape
    head = struct.pack("<I2sHH", 10 + width * height, tag, width, height)
    return head + pixels.tobytes()


def sample(seed: int) -> NDArray[np.uint8]:
    """A stroke across a sheet of some size, dark as it may be."""
    random = np.random.default_rng(seed)
    height, width = random.integers(20, 90, 2)
    pixels = np.full((height, width), 255, np.uint8)
    pixels[height // 2 :, width // 2] = random.integers(0, 200)
    pixels[height // 2, :] = random.integers(0, 200)
    return pixels


def gb(character: str) -> bytes:
    return character.encode("gb2312").ljust(2, b"\0")


def write(path: Path, records: Iterable[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records))
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty writers of all characters; a letter, a code that is none, and 永 among them; no writer 3 wrote 因."""
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    for writer in range(WRITERS):
        half = "HWDB1.1trn_gnt" if writer < 15 else "HWDB1.1tst_gnt"
        records = [
            record(b"A\0", sample(1)),
            record(b"\xff\xff", sample(2)),
            record(gb("永"), sample(3)),
        ]
        for label, name in enumerate(NAMES):
            if not (name == "因" and writer == 3):
                records.insert(label % 4, record(gb(name), sample(100 * writer + label)))
        write(tmp_path / "casia" / "HWDB1.1" / half / f"{1001 + writer}-c.gnt", records)
    return tmp_path


def first(root: Path) -> Path:
    return root / "casia" / "HWDB1.1" / "HWDB1.1trn_gnt" / "1001-c.gnt"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    pixels = [
        np.random.default_rng(i).integers(0, 256, (5 + i, 9), dtype=np.uint8) for i in range(4)
    ]
    tags = [b"\xb0\xa1", b"A\0", gb("林"), b"\xb0\xa1"]  # 啊 is the first character of GB2312
    path = write(tmp_path / "x.gnt", map(record, tags, pixels))
    found = _gnt.index(path, {"啊", "A", "林"})
    assert [one.character for one in found] == ["啊", "A", "林", "啊"]
    for one, expected in zip(found, pixels, strict=True):
        np.testing.assert_array_equal(one.pixels(), expected)
    assert [one.character for one in _gnt.index(path, "林")] == ["林"]
    assert _gnt.index(path, "永") == []


@pytest.mark.parametrize(
    ("tag", "character"),
    [
        (b"\xb0\xa1", "啊"),
        (b"A\0", "A"),
        ("〇".encode("gb18030"), "〇"),  # not in GB2312
        (b"\xff\xff", None),
        (b"\0\0", None),
        (b"AB", None),
    ],
)
def test_codes_are_gb2312_or_else_gb18030_and_never_an_exception(
    tag: bytes, character: str | None
) -> None:
    assert _gnt.decoded(tag) == character


@pytest.mark.parametrize("cut", [1, 400, 5])
def test_a_truncated_file_is_named_with_the_byte_where_it_ends(cut: int, tmp_path: Path) -> None:
    whole = record(gb("林"), np.zeros((20, 20), np.uint8)) + record(
        gb("明"), np.zeros((20, 20), np.uint8)
    )
    path = write(tmp_path / "x.gnt", [whole[:-cut] if cut > 5 else whole[: 410 + cut]])
    with pytest.raises(DataError, match=rf"{path} is truncated.*at byte 410.*unpack it again"):
        _gnt.index(path, "明")


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<I2sHH", 411, b"\xb0\xa1", 20, 20),
        struct.pack("<I2sHH", 10, b"\xb0\xa1", 0, 20),
        struct.pack(">I2sHH", 410, b"\xb0\xa1", 20, 20),
        b"PK\3\4 not a GNT file at all"[:10],
    ],
)
def test_a_record_of_the_wrong_size_is_refused(head: bytes, tmp_path: Path) -> None:
    good = record(gb("林"), np.zeros((20, 20), np.uint8))
    path = write(tmp_path / "x.gnt", [good, head, bytes(400)])
    with pytest.raises(
        DataError, match=r"not a whole GNT file: the record at byte 410.*10 \+ width"
    ):
        _gnt.index(path, "林")


def test_an_empty_file_and_one_that_shrinks_are_refused(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.gnt", [])
    with pytest.raises(DataError, match=r"empty\.gnt is empty"):
        _gnt.index(empty, "林")
    path = write(tmp_path / "x.gnt", [record(gb("林"), sample(0))])
    (one,) = _gnt.index(path, "林")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="has become shorter"):
        one.pixels()


def test_characters_are_chosen_by_their_code_and_split_at_random(root: Path) -> None:
    data = CASIA()
    splits = {name: data.split(name) for name in SPLITS}
    count = WRITERS * 50 - 1
    assert {name: len(part) for name, part in splits.items()} == {
        "train": count - count // 10 - count // 20,
        "valid": count // 20,
        "test": count // 10,
    }
    rows = np.concatenate([data.rows(name) for name in SPLITS])
    assert np.array_equal(np.sort(rows), np.arange(count))
    labels = np.concatenate([part.label for part in splits.values() if part.label is not None])
    expected = np.full(50, WRITERS)
    expected[NAMES.index("因")] -= 1  # fewer of a class is no error: the real set has such classes
    assert np.array_equal(np.bincount(labels), expected)
    assert splits["test"].image[:3].shape == (3, 1, 64, 64)
    assert splits["test"].objects is None


def test_an_image_is_the_sample_of_its_label(root: Path) -> None:
    test, rows = CASIA().split("test"), CASIA().rows("test")
    samples = casia._samples(300, "raw", root)
    assert test.label is not None
    for image, label, row in zip(test.image[:20], test.label[:20], rows[:20], strict=True):
        pixels = sample(100 * int(samples.writer[row]) + int(label))
        np.testing.assert_array_equal(image[0], casia.prepared(pixels))


def test_by_writer_no_writer_is_in_two_splits(root: Path) -> None:
    data, samples = CASIA(held_out="writer"), casia._samples(300, "raw", root)
    writers = {name: set(samples.writer[data.rows(name)].tolist()) for name in SPLITS}
    assert {name: len(found) for name, found in writers.items()} == {
        "train": 15,
        "valid": 1,
        "test": 4,
    }
    assert len(set.union(*writers.values())) == WRITERS


def test_per_class_takes_the_first_writers(root: Path) -> None:
    data = CASIA(per_class=7)
    assert sum(len(data.split(name)) for name in SPLITS) == 350
    assert casia._samples(7, "raw", root).writer.max() == 7  # writer 3 wrote no 因


def test_images_are_the_same_each_time_and_others_with_another_seed(root: Path) -> None:
    digest = CASIA().digest
    casia._samples.cache_clear()
    casia._digest.cache_clear()
    assert CASIA().digest == digest
    assert dataclasses.replace(CASIA(), seed=1).digest != digest
    assert dataclasses.replace(CASIA(), contrast="max").digest != digest


@pytest.mark.parametrize("shape", [(100, 40), (40, 100), (30, 30), (7, 3), (1, 1)])
def test_a_sample_keeps_its_proportions_its_ink_and_a_margin(shape: tuple[int, int]) -> None:
    image = casia.prepared(np.zeros(shape, np.uint8)) / 255
    inner = 64 * (1 - 2 * 0.06)
    height, width = (np.array(shape) / max(shape) * inner).tolist()
    assert image.sum() == pytest.approx(height * width, rel=0.01)
    rows, columns = np.nonzero(image)
    assert np.ptp(rows) + 1 == pytest.approx(height, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(width, abs=2)
    assert min(rows.min(), columns.min()) >= 3
    np.testing.assert_allclose(image, image[::-1, ::-1], atol=1 / 255)


def test_paper_is_black_ink_is_bright_and_max_makes_the_darkest_white() -> None:
    pixels = np.full((64, 64), 255, np.uint8)
    assert not casia.prepared(pixels).any()
    assert not casia.prepared(pixels, "max").any()
    pixels[20:40, 20:40] = 155
    assert casia.prepared(pixels).max() == 100
    assert casia.prepared(pixels, "max").max() == 255


def test_missing_files_are_explained_with_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    for attempt in (lambda: CASIA().split("train"), lambda: _registry.fetch("casia")):
        with pytest.raises(
            DataError, match=r"licence.*casia/HWDB1\.1 in .*REPRISE_DATA.*hanzi"
        ) as caught:
            attempt()
        assert str(tmp_path) in str(caught.value)


def test_damage_anywhere_is_found_before_anything_is_trained(root: Path) -> None:
    path = first(root)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{path} is truncated"):
        CASIA().split("train")


def test_a_character_of_which_there_is_no_sample_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    write(first(tmp_path), [record(gb(name), sample(0)) for name in NAMES if name not in "林因"])
    with pytest.raises(DataError, match="no sample of 林因"):
        CASIA().split("train")


def test_it_says_that_the_characters_are_our_choice() -> None:
    info = CASIA().info
    assert (info.name, info.shape) == ("casia", (1, 64, 64))
    assert "our choice" in info.stand_in


@pytest.mark.parametrize(
    ("options", "message"),
    [({"per_class": 0}, "per_class=0"), ({"contrast": "min"}, "min"), ({"held_out": "ink"}, "ink")],
)
def test_an_impossible_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(dataset("casia", **options))
