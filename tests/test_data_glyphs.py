"""Glyphs are white on black, as large as asked, in splits that share nothing, and say what they are."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import importlib
import inspect
import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from reprise.core import protocol as protocols
from reprise.core.dataset import SPLITS, DatasetInfo, Split
from reprise.core.errors import DataError, UsageError
from reprise.core.metric import Metric
from reprise.core.protocol import Table
from reprise.core.spec import Spec, build, dataset, load, metric, model, names
from reprise.core.workspace import Workspace, data_root
from reprise.data import _digits, _glyph_files, _omniglot, _registry, _strokes, glyphs
from reprise.data._glyph_files import NAMES, Name
from reprise.data.glyphs import Glyphs, Source, resized, rotated
from reprise.launch import plan as planning

DEMO = dict(Glyphs.tiers["demo"])
SOURCES: tuple[Source, ...] = get_args(Source)
Pixels = NDArray[np.uint8]


def demo(source: Source, **options: Any) -> Glyphs:
    made: Glyphs = build(dataset("glyphs", source=source, **{**DEMO, **options}))
    return made


def real(source: Name, **options: Any) -> Glyphs:
    """A set from its real files, as much of it as there is; skips where there is nothing."""
    name = "mnist" if source == "mnist" else source
    try:
        _registry.present(name, part=True)
    except DataError as error:
        pytest.skip(f"needs real files: {error}")
    return Glyphs(source, extent="part", **options)


def pixels(data: Glyphs, name: Split) -> Pixels:
    return np.asarray(data.split(name).image[:])[:, 0]


def labels(data: Glyphs, name: Split) -> NDArray[np.int64]:
    label = data.split(name).label
    assert label is not None
    return label


# --- what every set keeps, on the embedded ones ---------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_images_are_bytes_of_the_shape_that_info_says(source: Source) -> None:
    data = demo(source)
    assert data.info.shape == (1, 28, 28)
    for name, count in zip(SPLITS, (1_285, 256, 256), strict=True):
        examples = data.split(name)
        assert len(examples) == count
        assert examples.image[:5].shape == (5, *data.info.shape)
        assert examples.image[:5].dtype == np.uint8
        label = labels(data, name)
        assert label.dtype == np.int64
        assert label.shape == (count,)
        assert label.min() >= 0
        assert label.max() < len(data.names)


@pytest.mark.parametrize("source", SOURCES)
def test_ink_is_white_on_a_black_ground(source: Source) -> None:
    image = pixels(demo(source), "train")
    assert image.max() == 255
    assert (image < 64).mean() > 0.5  # most of an image is ground
    assert image[:, 8:-8, 8:-8].mean() > 2 * image[:, [0, -1]].mean()


@pytest.mark.parametrize("source", SOURCES)
def test_no_image_is_in_two_splits(source: Source) -> None:
    digests = [{row.tobytes() for row in pixels(demo(source), name)} for name in SPLITS]
    assert not digests[0] & digests[1] | digests[0] & digests[2] | digests[1] & digests[2]


def test_the_same_options_give_the_same_images_and_others_another_digest() -> None:
    def made() -> list[str]:
        found = []
        for cached in (glyphs._on_canvas, glyphs._digest):
            cached.cache_clear()
        for data in (demo("strokes"), demo("strokes", seed=1), demo("mnist", rotation=30)):
            image = pixels(data, "valid")
            found += [data.digest, hashlib.sha256(image.tobytes()).hexdigest()]
        return found

    first = made()
    assert first == made()
    assert len(set(first)) == len(first)
    assert demo("mnist").digest != demo("mnist", canvas=32).digest


def test_the_strokes_of_a_seed_do_not_depend_on_how_many_are_drawn() -> None:
    style = _strokes.Style()
    few, many = (_strokes.draw(3, count, 20, style) for count in (7, 300))
    np.testing.assert_array_equal(few.image, many.image[:7])
    assert set(many.label) == {1, 2, 3, 4, 5}


def test_a_stroke_lies_along_its_curve() -> None:
    """A straight curve from a point to another leaves its ink on the line between them."""
    along = np.linspace(0.2, 0.8, _strokes.POINTS)
    curve = np.stack([along, np.full_like(along, 0.5)], axis=-1)[
        None, None
    ]  # to the right, halfway down
    (image,) = _strokes._painted(curve, np.array([1]), 50, 0.02)
    row, column = (np.flatnonzero((image > 128).any(axis)) for axis in (1, 0))
    assert (row.min(), row.max()) == pytest.approx((25, 25), abs=1)
    assert (column.min(), column.max()) == pytest.approx((10, 40), abs=1)
    expected = np.tanh(np.tanh(1 / 0.7) / 0.46) * 255  # both slopes, at the brightest pixel
    assert image.max() == round(expected)


def test_the_demo_has_five_sets_that_differ_and_none_passes_for_a_published_one() -> None:
    made = [demo(source) for source in NAMES]
    assert len({data.digest for data in made}) == len(NAMES)
    said = [data.info.stand_in for data in made]
    assert len(set(said)) == len(NAMES)
    assert all(said)
    assert len({data.info.name for data in made}) == len(NAMES)
    assert not {data.info.name for data in made} & set(NAMES)
    kinds = {data.info.stand_in.partition(" (")[0].partition(",")[0] for data in made}
    assert kinds == {"scikit-learn's digits", "synthetic strokes"}


def test_shared_images_cannot_be_written_to() -> None:
    examples = demo("mnist").split("train")
    with pytest.raises(ValueError, match="read-only"):
        examples.image[:1][:] = 1
    with pytest.raises(ValueError, match="read-only"):
        labels(demo("mnist"), "train")[0] = 1


def test_letters_that_are_stored_transposed_are_turned_back_on_request() -> None:
    digits = pixels(demo("digits"), "train")
    transposed = pixels(demo("emnist"), "train").transpose(0, 2, 1)
    np.testing.assert_allclose(
        transposed.astype(int), digits, atol=1
    )  # resized rows first, each way
    np.testing.assert_array_equal(pixels(demo("emnist", upright=True), "train"), digits)
    assert demo("emnist", upright=True).info.name == "digits"


# --- resizing and rotating --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "canvas"), [(28, 50), (105, 50), (8, 28), (28, 120)])
def test_resizing_is_bilinear_and_antialiased(side: int, canvas: int) -> None:
    """torch's own antialiased interpolation is written after Pillow's, which torchvision calls: an oracle."""
    image = np.random.default_rng(0).integers(0, 256, (4, side, side), dtype=np.uint8)
    ours = resized(image, canvas).astype(np.float64)
    theirs = functional.interpolate(
        torch.from_numpy(image)[:, None].double(), (canvas, canvas), mode="bilinear", antialias=True
    )
    np.testing.assert_allclose(ours, theirs[:, 0].numpy(), atol=1.5)  # Pillow rounds twice


def test_a_quarter_turn_is_exact_and_anticlockwise() -> None:
    image = np.random.default_rng(1).integers(0, 256, (3, 20, 20), dtype=np.uint8)
    np.testing.assert_array_equal(
        rotated(image, np.array([0.0, 90.0, 180.0])),
        np.stack([np.rot90(part, turns) for turns, part in enumerate(image)]),
    )


def test_images_are_turned_by_every_angle_up_to_the_one_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[NDArray[np.float64]] = []

    def spy(image: Pixels, degrees: NDArray[np.float64]) -> Pixels:
        assert image.shape[1:] == (120, 120)
        seen.append(degrees)
        return rotated(image, degrees)

    monkeypatch.setattr(glyphs, "rotated", spy)
    glyphs._on_canvas.cache_clear()
    plain, turned = demo("mnist"), demo("mnist", rotation=30)
    examples = turned.split("train")
    (degrees,) = seen
    assert -30 <= degrees.min() < -29
    assert 29 < degrees.max() <= 30
    assert abs(degrees.mean()) < 1
    assert np.std(degrees) == pytest.approx(60 / np.sqrt(12), rel=0.05)
    np.testing.assert_array_equal(labels(plain, "train"), labels(turned, "train"))
    assert (examples.image[:] != plain.split("train").image[:]).any((1, 2, 3)).mean() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "letters"}, "letters"),
        ({"source": "mnist", "extent": "half"}, "half"),
        ({"source": "mnist", "canvas": 4}, "canvas=4"),
        ({"source": "mnist", "rotation": -30}, "rotation=-30"),
        ({"source": "mnist", "upright": True}, "source='emnist'"),
        ({"source": "mnist", "alphabets": "small1"}, "source='omniglot'"),
    ],
)
def test_an_impossible_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(dataset("glyphs", **options))


# --- the official files, in little ------------------------------------------------------------------------------------


def register(
    monkeypatch: pytest.MonkeyPatch, name: str, contents: Mapping[str, bytes], root: Path
) -> list[Path]:
    """Write files below `root` and make them the only layout of `name`."""
    monkeypatch.setenv("REPRISE_DATA", str(root))
    files = []
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        files.append(_registry.File(path, hashlib.sha256(content).hexdigest(), len(content)))
    monkeypatch.setitem(_registry.FILES, name, (tuple(files),))
    return [root / path for path in contents]


def idx(array: NDArray[np.integer]) -> bytes:
    header = struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), compresslevel=1, mtime=0)


def npy(array: Pixels) -> bytes:
    with io.BytesIO() as target:
        np.save(target, array)
        return target.getvalue()


def packed(members: Mapping[str, bytes]) -> bytes:
    with io.BytesIO() as target:
        with zipfile.ZipFile(target, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return target.getvalue()


def png(ink: NDArray[np.bool_]) -> bytes:
    """As Omniglot has them: one bit, black ink."""
    with io.BytesIO() as target:
        Image.fromarray(~ink).save(target, "PNG")
        return target.getvalue()


def random_images(count: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


KMNIST_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def kmnist_files(train: Pixels, test: Pixels) -> dict[str, bytes]:
    classes = [np.arange(len(image)) % 10 for image in (train, test)]
    arrays: list[NDArray[Any]] = [train, classes[0], test, classes[1]]
    pairs = zip(KMNIST_FILES, arrays, strict=True)
    return {f"kmnist/{name}-ubyte.gz": idx(array) for name, array in pairs}


def test_kmnist_is_read_from_its_four_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = random_images(120), random_images(30, 1)
    monkeypatch.setattr(_glyph_files, "_KMNIST_COUNT", {"train": 120, "test": 30})
    register(monkeypatch, "kmnist", kmnist_files(train, test), tmp_path)
    data = Glyphs("kmnist", canvas=28)
    np.testing.assert_array_equal(pixels(data, "train"), train[:110])
    np.testing.assert_array_equal(pixels(data, "valid"), train[110:])
    np.testing.assert_array_equal(pixels(data, "test"), test)
    np.testing.assert_array_equal(labels(data, "valid"), np.arange(110, 120) % 10)
    assert data.info == DatasetInfo("kmnist", (1, 28, 28))


def test_files_of_another_number_of_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "kmnist", kmnist_files(random_images(12), random_images(3)), tmp_path)
    with pytest.raises(DataError, match=r"expected 60000 images.*reprise data fetch kmnist"):
        Glyphs("kmnist").split("test")


def test_emnist_is_read_transposed_from_the_split_balanced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = {"train": random_images(94), "test": random_images(47, 1)}
    members = {}
    for half, image in halves.items():
        members[f"gzip/emnist-balanced-{half}-images-idx3-ubyte.gz"] = idx(image)
        members[f"gzip/emnist-balanced-{half}-labels-idx1-ubyte.gz"] = idx(
            np.arange(len(image)) % 47
        )
        members[f"gzip/emnist-letters-{half}-images-idx3-ubyte.gz"] = b"not to be read"
    monkeypatch.setattr(_glyph_files, "_EMNIST_COUNT", {"train": 94, "test": 47})
    register(monkeypatch, "emnist", {"emnist/gzip.zip": packed(members)}, tmp_path)
    data = Glyphs("emnist", canvas=28)
    assert len(data.names) == 47
    np.testing.assert_array_equal(pixels(data, "test"), halves["test"])
    np.testing.assert_array_equal(labels(data, "test"), np.arange(47))
    upright = pixels(Glyphs("emnist", canvas=28, upright=True), "test")
    np.testing.assert_array_equal(upright, halves["test"].transpose(0, 2, 1))
    both = np.concatenate([pixels(data, "train"), pixels(data, "valid")])
    assert sorted(map(bytes, both)) == sorted(map(bytes, halves["train"]))


def quickdraw_files(count: int) -> dict[str, Pixels]:
    drawings = random_images(10 * count).reshape(10, count, 784)
    return {
        f"quickdraw/{name}.npy": part
        for name, part in zip(_registry.QUICKDRAW, drawings, strict=True)
    }


def test_quickdraw_takes_as_many_of_each_category_and_holds_out_a_fifth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = quickdraw_files(40)
    monkeypatch.setattr(_glyph_files, "PER_CATEGORY", 24)
    files = {path: npy(array) for path, array in arrays.items()}
    register(monkeypatch, "quickdraw", files, tmp_path)
    data = Glyphs("quickdraw", canvas=28)
    assert [len(data.split(name)) for name in SPLITS] == [176, 16, 48]
    together = np.concatenate([labels(data, name) for name in SPLITS])
    np.testing.assert_array_equal(np.bincount(together), np.full(10, 24))
    for name in SPLITS:
        for row, label in zip(pixels(data, name), labels(data, name), strict=True):
            assert (arrays[f"quickdraw/{data.names[label]}.npy"] == row.reshape(-1)).all(1).any()
    every = {row.tobytes() for name in SPLITS for row in pixels(data, name)}
    assert len(every) == 240
    first = np.concatenate([array[:24] for array in arrays.values()])
    assert every != {row.tobytes() for row in first}  # chosen at random, not the first


def omniglot_members(
    part: str, alphabets: tuple[str, ...], seed: int
) -> tuple[dict[str, bytes], NDArray[np.bool_]]:
    """Three characters of each alphabet by four people, and their ink in the order of their names."""
    ink = np.random.default_rng(seed).random((12 * len(alphabets), 105, 105)) < 0.1
    names = [
        f"images_{part}/{alphabet}/character{character:02d}/{number:04d}_{drawer:02d}.png"
        for number, (alphabet, character) in enumerate(
            (a, c) for a in sorted(alphabets) for c in (1, 2, 3)
        )
        for drawer in (1, 2, 3, 4)
    ]
    members = {name: png(one) for name, one in zip(names, ink, strict=True)}
    shuffled = np.random.default_rng(seed).permutation(len(names))
    folders = {f"images_{part}/": b""}
    return folders | {names[place]: members[names[place]] for place in shuffled}, ink


@pytest.fixture
def toy_omniglot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The ink of a small Omniglot, background and evaluation, in its official archives."""
    background, ink = omniglot_members("background", ("Greek", "Korean", "Hebrew"), 0)
    evaluation, other = omniglot_members("evaluation", ("Angelic",), 1)
    contents = {
        "omniglot/images_background.zip": packed(background),
        "omniglot/images_evaluation.zip": packed(evaluation),
    }
    register(monkeypatch, "omniglot", contents, tmp_path)
    for part, drawn, alphabets in (
        ("background", ink, ("Greek", "Hebrew", "Korean")),
        ("evaluation", other, ("Angelic",)),
    ):
        names = "\n".join(f"{a}/character{c:02d}" for a in alphabets for c in (1, 2, 3))
        label = np.repeat(np.arange(len(drawn) // 4), 4).astype("<i8")
        bits = np.packbits(drawn.reshape(len(drawn), -1), axis=1)
        content = hashlib.sha256(names.encode() + bits.tobytes() + label.tobytes()).hexdigest()
        monkeypatch.setitem(_omniglot.CONTENT, part, content)
    return ink, other


def test_omniglot_is_turned_to_white_ink_and_split_by_alphabet(
    toy_omniglot: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> None:
    background, evaluation = toy_omniglot
    data = Glyphs("omniglot", canvas=105)
    np.testing.assert_array_equal(pixels(data, "test"), evaluation * np.uint8(255))
    assert [len(data.split(name)) for name in SPLITS] == [33, 3, 12]
    both = [row.tobytes() for name in ("train", "valid") for row in pixels(data, name)]
    assert sorted(both) == sorted((row * np.uint8(255)).tobytes() for row in background)
    assert data.names[:3] == ("Greek/character01", "Greek/character02", "Greek/character03")
    np.testing.assert_array_equal(labels(data, "test"), np.repeat([9, 10, 11], 4))
    assert data.names[9] == "Angelic/character01"


def test_the_small_sets_are_alphabets_of_the_background(
    toy_omniglot: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> None:
    small = Glyphs("omniglot", alphabets="small1", canvas=105)
    alphabets = {
        small.names[label].partition("/")[0]
        for name in ("train", "valid")
        for label in labels(small, name)
    }
    assert alphabets == {"Greek", "Korean"}
    assert small.info.name == "omniglot-small1"
    assert len(small.split("test")) == 12


def test_other_pixels_in_omniglots_archive_are_refused(
    toy_omniglot: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_omniglot.CONTENT, "evaluation", "0" * 64)
    with pytest.raises(DataError, match=r"content digest.*reprise data fetch omniglot"):
        Glyphs("omniglot").split("test")


@pytest.mark.parametrize("name", ["emnist", "kmnist", "quickdraw", "omniglot"])
def test_missing_and_damaged_files_are_named_with_the_command_that_mends_them(
    name: Name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    mend = f"reprise data fetch {name}"
    with pytest.raises(DataError, match=f"{name} is not in .*{mend}"):
        Glyphs(name).split("test")
    for file in _registry.FILES[name][0]:
        (tmp_path / file.path).parent.mkdir(exist_ok=True)
        (tmp_path / file.path).write_bytes(b"half of it")
    with pytest.raises(DataError, match=f"truncated.*{mend}"):
        Glyphs(name).split("test")
    # The right digest, but nothing that can be read.
    register(
        monkeypatch, name, {f.path: b"half of it" for f in _registry.FILES[name][0]}, tmp_path / "b"
    )
    with pytest.raises(DataError, match=f"cannot read .*{mend}"):
        Glyphs(name).split("test")


# --- parts ------------------------------------------------------------------------------------------------------------


def test_a_part_never_passes_for_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    (tmp_path / "kmnist.npz").write_bytes(b"a part")
    with pytest.raises(DataError, match=r"kmnist.npz is, but holds only a part: the first 7,011"):
        Glyphs("kmnist").split("test")
    for source in NAMES:
        whole, part = Glyphs(source).info, Glyphs(source, extent="part").info
        assert (whole.name, whole.stand_in, whole.stand_in_train) == (source, "", "")
        if source in ("mnist", "omniglot"):
            assert part == whole
        else:
            assert part.name == f"{source}-part"
            assert "partial" in part.standing_in("train")


def test_a_whole_test_set_beside_a_partial_training_set_stands_in_for_nothing() -> None:
    info = Glyphs("kmnist", extent="part").info
    assert info.standing_in("test") == ""
    assert (
        info.standing_in("train") == info.standing_in("train", "test") == info.standing_in("valid")
    )
    assert info.standing_in("train").startswith("partial KMNIST")
    letters = Glyphs("emnist", extent="part").info
    assert letters.standing_in("test") == letters.standing_in("train") == letters.stand_in


def planned(tier: Any, train: Spec, test: Spec, measured: Spec) -> str:
    """What a row says of its images."""
    table = Table(
        paper="none",
        models={"PPCA": model("ppca")},
        train={"PPCA": train},
        datasets={"D": test},
        metrics={"M": measured},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "load", lambda name: (name, table, ""))
        (cell,) = planning.plan(planning.Request("none", tier), Workspace(Path("unused"))).cells[:1]
    assert cell.run is not None, "n/a would stand in for nothing, too"
    return cell.row.stand_in


def test_every_row_says_which_of_its_images_are_partial() -> None:
    of = {source: dataset("glyphs", source=source) for source in NAMES}
    likelihood, steps = metric("log_marginal"), metric("discriminator_steps")
    said = functools.partial(planned, "mini", of["mnist"])
    assert said(of["mnist"], likelihood) == ""
    assert said(of["omniglot"], likelihood) == ""
    assert said(of["kmnist"], likelihood) == ""  # the test set is whole
    assert said(of["kmnist"], steps).startswith("partial KMNIST")  # and this reads training images
    assert said(of["emnist"], likelihood).startswith("partial EMNIST (letters A-M")
    assert said(of["quickdraw"], likelihood).startswith("partial QuickDraw (7 of 10")
    assert planned("mini", of["kmnist"], of["mnist"], likelihood).startswith("partial KMNIST")
    both = planned("mini", of["kmnist"], of["emnist"], likelihood)
    assert both.count("partial") == 2
    assert planned("paper", of["kmnist"], of["emnist"], likelihood) == ""
    assert "digits" in planned("demo", of["mnist"], of["mnist"], likelihood)


def test_metrics_that_look_at_training_images_say_so() -> None:
    for name in names("metric"):
        cls = load(metric(name))
        assert issubclass(cls, Metric)
        source = inspect.getsource(importlib.import_module(cls.__module__))
        if 'split("train")' in source or "in SPLITS" in source:
            assert "train" in cls.reads, f"{name} reads training images; say so in its `reads`"


def test_a_part_is_the_same_whichever_files_it_was_cut_out_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small part of KMNIST: from a local copy, and from the official files; other images are refused."""
    train, test = random_images(120), random_images(30, 1)
    monkeypatch.setattr(_glyph_files, "_KMNIST_COUNT", {"train": 120, "test": 30})
    monkeypatch.setattr(_glyph_files, "_PREFIX", 24)
    register(monkeypatch, "kmnist", kmnist_files(train, test), tmp_path / "official")
    monkeypatch.setitem(_glyph_files.CONTENT, "kmnist", "unknown")
    with pytest.raises(
        DataError, match=r"has the content digest \w{64}, expected unknown"
    ) as caught:
        Glyphs("kmnist", extent="part").split("train")
    content = str(caught.value).partition("content digest ")[2][:64]
    monkeypatch.setitem(_glyph_files.CONTENT, "kmnist", content)
    data, found = Glyphs("kmnist", extent="part", canvas=28), []
    found.append((data.digest, pixels(data, "train")))
    with io.BytesIO() as target:
        np.savez_compressed(
            target, train_prefix_images=train[:24], train_prefix_labels=np.arange(24, dtype=np.uint8) % 10,
            test_images=test, test_labels=np.arange(30, dtype=np.uint8) % 10,
        )  # fmt: skip
        register(monkeypatch, "kmnist", {"kmnist.npz": target.getvalue()}, tmp_path / "local")
    found.append((data.digest, pixels(data, "train")))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert len(found[0][1]) == 22


# --- the real files ---------------------------------------------------------------------------------------------------

REAL = [
    pytest.param("mnist", (55_000, 5_000, 10_000), 10, marks=pytest.mark.mnist),
    pytest.param("emnist", (7_334, 666, 2_000), 13, marks=pytest.mark.glyphs),
    pytest.param("kmnist", (6_427, 584, 10_000), 10, marks=pytest.mark.glyphs),
    pytest.param("quickdraw", (14_666, 1_333, 3_999), 7, marks=pytest.mark.glyphs),
    pytest.param("omniglot", (17_674, 1_606, 13_180), 964, marks=pytest.mark.glyphs),
]


@pytest.mark.parametrize(("source", "counts", "classes"), REAL)
def test_the_real_sets_have_their_counts_their_classes_and_their_polarity(
    source: Name, counts: tuple[int, ...], classes: int
) -> None:
    data = real(source)
    assert data.info.shape == (1, 50, 50)
    assert tuple(len(data.split(name)) for name in SPLITS) == counts
    train, test = labels(data, "train"), labels(data, "test")
    assert len(np.unique(train)) == classes
    if source == "omniglot":
        assert (test.min(), test.max()) == (964, 964 + 658)
        assert (np.bincount(test)[964:] == 20).all()
    else:
        assert set(test) == set(train)
    image = pixels(data, "test")[:2_000].astype(np.float64) / 255
    assert image[:, [0, -1]].mean() < 0.25
    assert image[:, 15:35, 15:35].mean() > image[:, [0, -1]].mean()
    assert 0.05 < image.mean() < 0.25


@pytest.mark.glyphs
def test_kmnists_test_set_is_whole_and_balanced() -> None:
    np.testing.assert_array_equal(np.bincount(labels(real("kmnist"), "test")), np.full(10, 1_000))


@pytest.mark.glyphs
@pytest.mark.mnist
def test_letters_are_transposed_unless_asked_to_be_upright() -> None:
    """The stroke of an I, and of an L before its foot, stands: it is higher than it is wide."""

    def tall(upright: bool) -> float:
        data = real("emnist", upright=upright)
        image = pixels(data, "train")[labels(data, "train") == data.names.index("I")] > 128
        height, width = (image.any(axis).sum(1) for axis in (2, 1))
        return float(np.mean(height > width))

    assert tall(upright=True) > 0.8
    assert tall(upright=False) < 0.3


@pytest.mark.glyphs
@pytest.mark.parametrize(("alphabets", "characters"), [("small1", 136), ("small2", 156)])
def test_the_small_sets_have_their_published_number_of_characters(
    alphabets: str, characters: int
) -> None:
    data = real("omniglot", alphabets=alphabets)
    assert (
        len(np.unique(np.concatenate([labels(data, "train"), labels(data, "valid")]))) == characters
    )
    assert len(data.split("train")) + len(data.split("valid")) == 20 * characters


@pytest.mark.glyphs
def test_omniglot_packed_as_its_archives_are_is_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation half, written as black-on-white pictures and read back, keeps its pinned content."""
    real("omniglot")
    found, root = _omniglot.drawings("evaluation"), data_root()
    ink = _omniglot.ink(found.packed)
    members = {}
    for place, (one, label) in enumerate(zip(ink, found.label, strict=True)):
        members[f"images_evaluation/{found.names[label]}/{label:04d}_{place % 20 + 1:02d}.png"] = (
            png(one)
        )
    contents = {
        "omniglot/images_background.zip": b"not read",
        "omniglot/images_evaluation.zip": packed(members),
    }
    register(monkeypatch, "omniglot", contents, tmp_path)
    assert data_root() != root
    again = _omniglot.drawings("evaluation")
    np.testing.assert_array_equal(again.packed, found.packed)
    assert again.names == found.names


@pytest.mark.glyphs
def test_a_part_of_quickdraw_is_the_beginning_of_its_official_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Official files that begin with the drawings at hand give the same part; any other drawing is refused."""
    data = real("quickdraw")
    expected, pool = data.digest, _glyph_files._quickdraw(True, data_root())
    whole = np.concatenate([pool.train.image, pool.test.image])
    order = np.empty(len(whole), np.int64)
    chosen = _glyph_files._chosen("quickdraw", "test", len(whole), len(whole) // 5)
    order[np.flatnonzero(~chosen)] = np.arange((~chosen).sum())
    order[np.flatnonzero(chosen)] = np.arange((~chosen).sum(), len(whole))
    rows, start, files = whole[order].reshape(len(whole), 784), 0, {}
    for name in _registry.QUICKDRAW:
        count = _glyph_files._AT_HAND.get(name, 0)
        more = random_images(5).reshape(5, 784)
        files[f"quickdraw/{name}.npy"] = np.concatenate([rows[start : start + count], more])
        start += count
    register(monkeypatch, "quickdraw", {path: npy(a) for path, a in files.items()}, tmp_path / "a")
    assert data.digest == expected
    files["quickdraw/eye.npy"][17] ^= 1
    register(monkeypatch, "quickdraw", {path: npy(a) for path, a in files.items()}, tmp_path / "b")
    with pytest.raises(DataError, match="content digest"):
        data.split("test")


def test_the_name_of_a_run_says_what_it_was_trained_on() -> None:
    made = [Glyphs("kmnist"), Glyphs("kmnist", extent="part"), demo("kmnist")]
    assert [data.info.name for data in made] == ["kmnist", "kmnist-part", "strokes-many"]
    assert dataclasses.replace(made[0], rotation=30).info == made[0].info
    assert _digits.STAND_IN["digits"] == demo("mnist").info.stand_in
