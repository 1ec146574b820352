"""Data files are fetched whole or not at all, and only the right ones are ever read."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import re
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reprise.cli import main
from reprise.core import progress
from reprise.core.dataset import SPLITS
from reprise.core.errors import DataError, UsageError
from reprise.core.workspace import data_root
from reprise.data import _digits, _registry
from reprise.data.mnist import MNIST
from reprise.data.scenes import Scenes

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """A mirror whose manners the first part of the path chooses: good, cut, short, wrong, rude or dead."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        manner, asked = self.path.split("/")[1], self.headers["Range"]
        self.asked.append((manner, asked))
        if manner == "dead":
            self.send_error(503)
            return
        content = {"short": CONTENT[:100_000], "wrong": CONTENT[::-1]}.get(manner, CONTENT)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if manner == "rude":
            start = 0  # knows no ranges and sends the whole file
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        # "cut" promises everything and hangs up after 100,000 bytes
        self.wfile.write(content[start : start + 100_000] if manner == "cut" else content[start:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[list[tuple[str, str | None]]]:
    """The requests (manner, Range) that a server on loopback got; an empty data root."""
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path / "root"))
    monkeypatch.setenv("NO_PROXY", "*")
    requests: list[tuple[str, str | None]] = []
    handler = type("Handler", (Mirror,), {"asked": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(Mirror, "at", f"http://127.0.0.1:{server.server_port}", raising=False)
        try:
            yield requests
        finally:
            server.shutdown()
            thread.join()


def register(monkeypatch: pytest.MonkeyPatch, *manners: str) -> Path:
    """Make "toy" a data set of one file with these mirrors; the path that the file will have."""
    urls = tuple(f"{Mirror.at}/{manner}/toy.bin" for manner in manners)  # type: ignore[attr-defined]
    file = _registry.File("toy/toy.bin", SHA256, len(CONTENT), urls)
    monkeypatch.setitem(_registry.FILES, "toy", ((file,),))
    return data_root() / file.path


Asked = list[tuple[str, str | None]]


def test_a_file_is_fetched_once_and_progress_is_reported(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register(monkeypatch, "good")
    heard: list[tuple[str, int, int]] = []
    with progress.watched_by(lambda *event: heard.append(event)):
        assert _registry.fetch("toy") == [path]
    assert path.read_bytes() == CONTENT
    assert heard[-1] == ("fetch toy.bin", len(CONTENT), len(CONTENT))
    assert _registry.fetch("toy") == [path]
    assert asked == [("good", None)]
    assert [check.ok for check in _registry.verify("toy")] == [True]
    assert [entry.name for entry in path.parent.iterdir()] == ["toy.bin"]


def test_a_cut_download_goes_on_where_it_stopped(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register(monkeypatch, "cut")
    with pytest.raises(DataError, match="goes on where it stopped"):
        _registry.fetch("toy")
    assert not path.exists()
    assert [check.ok for check in _registry.verify("toy")] == [False]
    assert asked == [("cut", None), ("cut", "bytes=100000-")]
    assert _registry.fetch("toy") == [path]
    assert asked[2:] == [("cut", "bytes=200000-")]
    assert path.read_bytes() == CONTENT


def test_another_mirror_goes_on_where_the_last_was_cut(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register(monkeypatch, "cut", "good")
    _registry.fetch("toy")
    assert asked[-1] == ("good", "bytes=200000-")
    assert path.read_bytes() == CONTENT


def test_a_mirror_without_ranges_sends_the_file_anew(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register(monkeypatch, "cut", "rude")
    _registry.fetch("toy")
    assert asked[-1] == ("rude", "bytes=200000-")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("manner", ["dead", "wrong", "short"])
def test_a_bad_mirror_gives_way_to_the_next(
    manner: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register(monkeypatch, manner, "good")
    _registry.fetch("toy")
    assert path.read_bytes() == CONTENT
    assert {m for m, _ in asked} == {manner, "good"}


def test_a_mirror_that_cannot_be_reached_gives_way_to_the_next(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register(monkeypatch, "good")
    ((file,),) = _registry.FILES["toy"]
    closed = _registry.File(
        file.path, file.sha256, file.size, ("http://127.0.0.1:9/toy.bin", *file.urls)
    )
    monkeypatch.setitem(_registry.FILES, "toy", ((closed,),))
    _registry.fetch("toy")
    assert path.read_bytes() == CONTENT


def test_a_wrong_file_never_takes_the_name_and_both_digests_are_told(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register(monkeypatch, "wrong", "dead")
    with pytest.raises(DataError) as caught:
        _registry.fetch("toy")
    message = str(caught.value)
    assert str(path) in message
    assert SHA256 in message
    assert hashlib.sha256(CONTENT[::-1]).hexdigest() in message
    assert "503" in message
    assert "reprise data fetch toy" in message
    assert list(path.parent.iterdir()) == []


def test_a_part_of_another_file_is_thrown_away(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register(monkeypatch, "good")
    path.parent.mkdir(parents=True)
    (path.parent / ".toy.bin.part").write_bytes(bytes(1000))
    _registry.fetch("toy")
    assert asked == [("good", "bytes=1000-"), ("good", None)]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("damage", ["truncated", "not the expected file", "missing"])
def test_a_damaged_file_is_named_with_both_digests_and_mended_by_fetching(
    damage: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register(monkeypatch, "good")
    ((file,),) = _registry.FILES["toy"]
    _registry.fetch("toy")
    broken = {"truncated": CONTENT[:-7], "not the expected file": CONTENT[:-1] + b"?"}
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(broken[damage])
    with pytest.raises(DataError) as caught:
        _registry.checked("toy", file)
    (check,) = _registry.verify("toy")
    assert not check.ok
    for text in (str(caught.value), str(check)):
        assert damage in text
        assert str(path) in text
        assert SHA256 in text
        if damage in broken:
            assert hashlib.sha256(broken[damage]).hexdigest() in text
    assert "reprise data fetch toy" in str(caught.value)
    _registry.fetch("toy")
    assert _registry.checked("toy", file).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_named(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path / "file"))
    path = register(monkeypatch, "good")
    with pytest.raises(DataError, match=f"cannot write {path}.*REPRISE_DATA"):
        _registry.fetch("toy")


def test_an_unknown_name_gets_the_nearest() -> None:
    for act in (_registry.fetch, _registry.verify):
        with pytest.raises(UsageError, match="did you mean 'mnist'"):
            act("mnits")
    assert _registry.datasets() == [
        "emnist", "hanzi", "kmnist", "mnist", "omniglot", "one_shot", "quickdraw"
    ]  # fmt: skip


# --- files whose digest nobody publishes, and all data sets at once -------------------------------------------------


def register_unpublished(monkeypatch: pytest.MonkeyPatch, *manners: str) -> Path:
    """`register`, of a file that has neither digest nor size."""
    path = register(monkeypatch, *manners)
    ((file,),) = _registry.FILES["toy"]
    unpublished = dataclasses.replace(file, sha256="", size=None)
    monkeypatch.setitem(_registry.FILES, "toy", ((unpublished,),))
    return path


def test_a_file_without_a_digest_is_trusted_once_and_held_to_it(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register_unpublished(monkeypatch, "good")
    (missing,) = _registry.verify("toy")
    assert (missing.ok, missing.finding) == (False, "missing")
    assert _registry.fetch("toy") == [path]
    assert path.read_bytes() == CONTENT
    assert path.with_name("toy.bin.sha256").read_text() == f"{SHA256}  toy.bin\n"
    (check,) = _registry.verify("toy")
    assert check.ok
    assert "none is published" in check.finding
    _registry.fetch("toy")
    assert len(asked) == 1
    path.write_bytes(CONTENT[:-1])
    (check,) = _registry.verify("toy")
    assert not check.ok
    assert f"when it was fetched {SHA256}" in check.finding
    with pytest.raises(DataError, match=r"changed.*reprise data fetch toy"):
        _registry.checked("toy", _registry.FILES["toy"][0][0])
    assert _registry.fetch("toy") == [path]
    assert path.read_bytes() == CONTENT


def test_half_a_file_without_a_digest_is_never_trusted(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register_unpublished(monkeypatch, "cut")
    with pytest.raises(DataError, match="no mirror gave"):
        _registry.fetch("toy")
    assert not path.exists()
    assert not path.with_name("toy.bin.sha256").exists()
    register_unpublished(monkeypatch, "good")
    _registry.fetch("toy")
    assert path.read_bytes() == CONTENT
    assert {range_ for _, range_ in asked} == {
        None
    }  # in one piece: two halves could be of two files


def test_a_file_without_a_digest_that_was_put_there_is_left_to_who_reads_it(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = register_unpublished(monkeypatch, "good")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something")
    (check,) = _registry.verify("toy")
    assert check.ok
    assert "checked when read" in check.finding
    assert _registry.checked("toy", _registry.FILES["toy"][0][0]) == path
    _registry.fetch("toy")  # nobody knows that it is whole
    assert path.read_bytes() == CONTENT


def test_all_data_sets_are_fetched_and_one_that_fails_stops_no_other(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {}
    for name, manner in (("a", "dead"), ("b", "good"), ("c", "good")):
        register(monkeypatch, manner)
        ((file,),) = _registry.FILES["toy"]
        made[name] = ((dataclasses.replace(file, path=f"{name}/toy.bin"),),)
    by_hand = ((_registry.File("d.npz", SHA256, len(CONTENT)),),)
    monkeypatch.setattr(_registry, "FILES", {**made, "d": by_hand})
    assert main(["data", "fetch", "all"]) == 3
    said = capsys.readouterr()
    assert "1 of 3 datasets are not whole: a;" in said.err
    assert "/b/toy.bin" in said.out
    assert "/c/toy.bin" in said.out
    monkeypatch.setattr(_registry, "FILES", {"b": made["b"], "c": made["c"]})
    before = len(asked)
    assert main(["data", "fetch", "all"]) == 0
    assert main(["data", "verify", "all"]) == 0
    assert len(asked) == before
    (data_root() / "c" / "toy.bin").unlink()
    assert main(["data", "verify", "all"]) == 3
    assert "1 of 2 datasets are not whole: c;" in capsys.readouterr().err


def test_every_file_has_a_digest_or_is_of_no_known_size() -> None:
    """A size or a digest that was made up would be worse than none."""
    for layouts in _registry.FILES.values():
        for file in (file for files in layouts for file in files):
            if file.sha256:
                assert re.fullmatch("[0-9a-f]{64}", file.sha256), file.path
                assert file.size is not None
                assert file.size > 0
            else:
                assert file.size is None
                assert file.urls
    parts = {
        name for name, layouts in _registry.FILES.items() for files in layouts if files[0].part
    }
    assert parts == {"emnist", "kmnist", "quickdraw"}


def test_a_part_serves_only_who_asks_for_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    whole = _registry.File("whole.bin", SHA256, len(CONTENT))
    part = _registry.File("part.bin", SHA256, len(CONTENT), part="half of it")
    monkeypatch.setitem(_registry.FILES, "toy", ((whole,), (part,)))
    (tmp_path / "part.bin").write_bytes(CONTENT)
    assert _registry.present("toy", part=True) == (part,)
    with pytest.raises(DataError, match=r"part.bin is, but holds only a part: half of it\); fetch"):
        _registry.present("toy")
    (check,) = _registry.verify("toy")
    assert "a part: half of it" in check.finding
    (tmp_path / "whole.bin").write_bytes(CONTENT)
    assert _registry.present("toy") == _registry.present("toy", part=True) == (whole,)


# --- MNIST's two layouts ------------------------------------------------------------------------------------------


def idx(array: NDArray[np.uint8]) -> bytes:
    header = struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), compresslevel=1, mtime=0)


def lay_out(
    arrays: dict[str, NDArray[np.uint8]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Write `arrays` in both layouts below `root`/idx and `root`/npz, and register their digests."""
    files = []
    for file, key in zip(_registry.FILES["mnist"][0], _digits.MNIST_CONTENT, strict=True):
        path = root / "idx" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(idx(arrays[key]))
        files.append(_registry.File(file.path, _registry.sha256(path), path.stat().st_size))
    packed = root / "npz" / "mnist.npz"
    packed.parent.mkdir()
    with packed.open("wb") as target:
        np.savez_compressed(target, **arrays)  # type: ignore[arg-type]  # numpy's stub takes a bool for a keyword
    npz = _registry.File("mnist.npz", _registry.sha256(packed), packed.stat().st_size)
    monkeypatch.setitem(_registry.FILES, "mnist", (tuple(files), (npz,)))
    return root / "idx", root / "npz"


@pytest.fixture
def toy_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A small MNIST of scikit-learn's digits, in both layouts."""
    image, label = _digits.digits("digits", "train")
    framed = np.pad(image.repeat(2, 1).repeat(2, 2), ((0, 0), (6, 6), (6, 6)))
    arrays = {
        "train_images": framed[:900],
        "train_labels": label[:900].astype(np.uint8),
        "test_images": framed[900:],
        "test_labels": label[900:].astype(np.uint8),
    }
    content = {key: _digits.idx_digest(array) for key, array in arrays.items()}
    monkeypatch.setattr(_digits, "MNIST_CONTENT", content)
    monkeypatch.setattr(_digits, "_MNIST_VALID", 300)
    return lay_out(arrays, tmp_path, monkeypatch)


def same_data(roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = (MNIST(), Scenes("mnist10", train=50, valid=50, test=50))
    digests, images = [], []
    for root in roots:
        monkeypatch.setenv("REPRISE_DATA", str(root))
        digests.append([data.digest for data in kinds])
        images.append([data.split("valid").image[:50] for data in kinds])
    assert digests[0] == digests[1]
    for one, other in zip(*images, strict=True):
        np.testing.assert_array_equal(one, other)


def test_both_layouts_are_the_same_data(
    toy_mnist: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    same_data(toy_mnist, monkeypatch)


@pytest.mark.mnist
def test_both_layouts_of_the_real_files_are_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        _registry.present("mnist")
    except DataError as error:
        pytest.skip(f"needs the real MNIST files: {error}")
    same_data(lay_out(_digits._mnist(data_root()), tmp_path, monkeypatch), monkeypatch)


@pytest.mark.parametrize("layout", [0, 1])
def test_damaged_mnist_is_refused_with_the_command_that_mends_it(
    layout: int, toy_mnist: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = toy_mnist[layout]
    monkeypatch.setenv("REPRISE_DATA", str(root))
    file = _registry.FILES["mnist"][layout][0]
    path = root / file.path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{path}: truncated.*reprise data fetch mnist") as caught:
        MNIST().split("train")
    assert file.sha256 in str(caught.value)
    assert _registry.sha256(path) in str(caught.value)


def test_other_content_in_the_right_file_is_refused(
    toy_mnist: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(toy_mnist[1]))
    monkeypatch.setitem(_digits.MNIST_CONTENT, "test_labels", "0" * 64)
    with pytest.raises(DataError, match=r"test_labels of .* has the content digest"):
        MNIST().split("train")


def test_a_fetch_that_was_cut_between_files_hides_no_other_layout(
    toy_mnist: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked, packed = toy_mnist
    first = _registry.FILES["mnist"][0][0].path
    (packed / first).parent.mkdir()
    (packed / first).write_bytes((unpacked / first).read_bytes())
    monkeypatch.setenv("REPRISE_DATA", str(packed))
    assert len(MNIST().split("valid")) == 300


def test_missing_mnist_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"reprise data fetch mnist.*REPRISE_DATA"):
        Scenes("mnist4").split("train")
    assert [check.ok for check in _registry.verify("mnist")] == [False] * 4
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path / "mistyped"))
    with pytest.raises(DataError, match=r"mistyped \(there is no such folder\)"):
        Scenes("mnist4").split("train")


def test_a_file_that_is_not_idx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\0\0\x0d\1\0\0\0\1abcd"))  # floats
    with pytest.raises(ValueError, match=r"x\.gz does not begin like an idx file"):
        _digits.read_idx(path)


# --- The digits themselves ----------------------------------------------------------------------------------------


@pytest.mark.mnist
def test_mnist_has_its_known_sizes_and_classes() -> None:
    try:
        splits = {name: MNIST().split(name) for name in SPLITS}
    except DataError as error:
        pytest.skip(f"needs the real MNIST files: {error}")
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 55_000,
        "valid": 5_000,
        "test": 10_000,
    }
    train = splits["train"]
    assert train.label is not None
    assert train.image[:5].shape == (5, *MNIST().info.shape)
    assert train.label[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_embedded_digits_are_split_without_overlap_and_every_split_has_every_class() -> None:
    data = MNIST("digits")
    assert data.info.name == "digits"
    splits = [data.split(name) for name in SPLITS]
    assert [len(split) for split in splits] == [1285, 256, 256]
    for split in splits:
        assert split.label is not None
        assert np.bincount(split.label, minlength=10).min() >= 10
        assert split.image[:3].shape == (3, *data.info.shape)
        assert split.image[:].max() == 255
    assert data.digest == MNIST("digits").digest != Scenes("mnist4", "digits").digest
