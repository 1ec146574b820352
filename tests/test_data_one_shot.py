"""An episode shows every class once and asks for every class once; the raw drawings are those of the images."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reprise.core.errors import DataError, UsageError
from reprise.core.spec import build, dataset
from reprise.core.workspace import data_root
from reprise.data import _omniglot, _registry
from reprise.data.glyphs import Glyphs, resized
from reprise.data.one_shot import OneShot

DEMO = dict(OneShot.tiers["demo"])
sources = pytest.mark.parametrize(
    "source", ["digits", pytest.param("omniglot", marks=pytest.mark.glyphs)]
)


def one_shot(source: str) -> OneShot:
    if source == "omniglot":
        try:
            _registry.present("one_shot")
        except DataError as error:
            pytest.skip(f"needs the real one-shot runs: {error}")
        return OneShot()
    made: OneShot = build(dataset("one_shot", **DEMO))
    return made


def labels(data: OneShot) -> NDArray[np.int64]:
    label = data.split("test").label
    assert label is not None
    return label.reshape(data.episodes, 2, data.ways)


@sources
def test_an_episode_is_its_supports_and_then_its_queries(source: str) -> None:
    data = one_shot(source)
    count = data.episodes * 2 * data.ways
    examples, raw = data.split("test"), data.raw()
    assert (data.episodes, data.ways) == (20, 20 if source == "omniglot" else 10)
    assert examples.image[:].shape == (count, *data.info.shape)
    assert examples.image[:].dtype == np.uint8
    assert raw.shape == (count, 105, 105)
    assert raw.dtype == np.bool_
    label = labels(data)
    assert label.dtype == np.int64
    for support, query in label:
        np.testing.assert_array_equal(support, np.arange(data.ways))
        np.testing.assert_array_equal(np.sort(query), np.arange(data.ways))
    queries = {tuple(query) for _, query in label}
    assert len(queries) > 15  # in an order that says nothing


@sources
def test_raw_drawings_are_those_of_the_images_and_their_ink_is_white(source: str) -> None:
    data = one_shot(source)
    image, raw = data.split("test").image[:][:, 0], data.raw()
    small = resized(raw.view(np.uint8) * np.uint8(255), data.canvas).astype(np.float64)
    if source == "omniglot":
        np.testing.assert_array_equal(small, image)
    apart = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(small, image, strict=True)]
    assert min(apart) > 0.8
    assert raw[:, 0].mean() < 0.1 < raw.mean() + 0.05
    assert raw.mean() < 0.4


@sources
def test_a_query_is_another_drawing_than_its_support_but_of_its_class(source: str) -> None:
    """The support that shares most ink is the right one far more often than by chance: no labels are mixed up."""
    data = one_shot(source)
    image = data.split("test").image[:].reshape(data.episodes, 2, data.ways, -1).astype(np.float64)
    image -= image.mean(-1, keepdims=True)
    image /= np.linalg.norm(image, axis=-1, keepdims=True)
    likeness = image[:, 1] @ image[:, 0].transpose(0, 2, 1)  # (E, query, support)
    assert likeness.max() < 1 - 1e-6
    assert (likeness.argmax(-1) == labels(data)[:, 1]).mean() > 3 / data.ways


def test_it_is_only_measured_on() -> None:
    for name in ("train", "valid"):
        with pytest.raises(DataError, match=f"one_shot has no {name} split.*source=omniglot"):
            one_shot("digits").split(name)


def test_the_stand_in_says_what_it_is() -> None:
    assert OneShot().info.stand_in == ""
    assert OneShot().info.name == "one-shot"
    assert OneShot().info.shape == Glyphs("omniglot").info.shape
    demo = one_shot("digits")
    assert demo.info.stand_in == "episodes of scikit-learn's digits"
    assert (
        demo.info.shape
        == build(dataset("glyphs", source="omniglot", **Glyphs.tiers["demo"])).info.shape
    )
    with pytest.raises(UsageError, match="canvas=4"):
        OneShot(canvas=4)


def test_shared_episodes_cannot_be_written_to() -> None:
    for array in (one_shot("digits").raw(), one_shot("digits").split("test").image):
        with pytest.raises(ValueError, match="read-only"):
            array[:1][:] = 1


# --- the official archive ---------------------------------------------------------------------------------------------


def archive(ink: NDArray[np.bool_], label: NDArray[np.int64], folder: str = "") -> bytes:
    """`all_runs.zip`, black on white, of ink (20, 2, 20, 105, 105) and the classes of the queries (20, 20)."""
    members = {f"{folder}__MACOSX/run01/training/._class01.png": b"not a picture"}
    for run, (support, query) in enumerate(ink, 1):
        at = f"{folder}run{run:02d}"
        answers = []
        for place in range(20):
            for kind, part in (("training/class", support), ("test/item", query)):
                with io.BytesIO() as target:
                    Image.fromarray(~part[place]).save(target, "PNG")
                    members[f"{at}/{kind}{place + 1:02d}.png"] = target.getvalue()
            right = label[run - 1, place] + 1
            answers.append(
                f"run{run:02d}/test/item{place + 1:02d}.png run{run:02d}/training/class{right:02d}.png"
            )
        members[f"{at}/class_labels.txt"] = "\n".join(reversed(answers)).encode() + b"\n"
    with io.BytesIO() as target:
        with zipfile.ZipFile(target, "w") as packed:
            for name, content in members.items():
                packed.writestr(name, content)
        return target.getvalue()


def content(ink: NDArray[np.bool_], label: NDArray[np.int64]) -> str:
    """The digest that pins ink (800, 105, 105) and labels (800,)."""
    bits = np.packbits(ink.reshape(800, -1), axis=1)
    return hashlib.sha256(bits.tobytes() + label.astype("<i8").tobytes()).hexdigest()


@pytest.mark.parametrize("folder", ["", "all_runs/"])
def test_the_runs_are_read_from_their_archive(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    ink = rng.random((20, 2, 20, 105, 105)) < 0.1
    answers = np.stack([rng.permutation(20) for _ in range(20)])
    path = tmp_path / "omniglot" / "all_runs.zip"
    path.parent.mkdir()
    path.write_bytes(archive(ink, answers, folder))
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    support = np.broadcast_to(np.arange(20), (20, 20))
    label = np.stack([support, answers], axis=1)
    expected = content(ink.reshape(800, 105, 105), label.reshape(-1))
    with pytest.raises(DataError, match=r"content digest.*reprise data fetch one_shot"):
        OneShot().split("test")
    monkeypatch.setitem(_omniglot.CONTENT, "one_shot", expected)
    np.testing.assert_array_equal(OneShot().raw(), ink.reshape(800, 105, 105))
    np.testing.assert_array_equal(labels(OneShot()), label)


def test_a_missing_or_damaged_archive_is_named_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"one_shot is not in .*reprise data fetch one_shot"):
        OneShot().split("test")
    path = tmp_path / "omniglot" / "all_runs.zip"
    path.parent.mkdir()
    ink = np.zeros((20, 2, 20, 105, 105), bool)
    whole = archive(ink, np.zeros((20, 20), np.int64))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot read .*all_runs.zip.*reprise data fetch one_shot"):
        OneShot().split("test")


@pytest.mark.glyphs
def test_the_real_runs_packed_as_their_archive_is_are_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = one_shot("omniglot")
    expected, root = data.digest, data_root()
    packed = archive(data.raw().reshape(20, 2, 20, 105, 105), labels(data)[:, 1])
    path = tmp_path / "omniglot" / "all_runs.zip"
    path.parent.mkdir()
    path.write_bytes(packed)
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    assert data_root() != root
    assert data.digest == expected


@pytest.mark.glyphs
def test_the_real_runs_are_made_of_evaluation_drawings() -> None:
    one_shot("omniglot")
    evaluation = {row.tobytes() for row in _omniglot.drawings("evaluation").packed}
    assert all(row.tobytes() in evaluation for row in _omniglot.runs().packed)
