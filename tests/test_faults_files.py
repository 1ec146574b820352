"""Files that are truncated, garbled or hostile: refused by name, or read as written, never as something else."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reprise import cli
from reprise.core import results
from reprise.core.artifacts import Artifacts
from reprise.core.errors import DataError, StaleError
from reprise.core.results import ResultRow
from reprise.core.run import Run
from reprise.core.spec import dataset, model
from reprise.core.workspace import Workspace
from reprise.data import _arrow_archive, _shards
from reprise.data._archives import unpack
from reprise.data._shards import Shards
from reprise.launch import cells
from reprise.training import checkpoint, engine
from reprise.training.fit import fit

TRIES = 60


@pytest.fixture(autouse=True)
def _visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def garbled(whole: bytes) -> Iterator[bytes]:
    """Cut anywhere, a bit flipped anywhere, a block zeroed or another file's, a tail too many: none is `whole`."""
    chance = random.Random(0)
    for n in range(TRIES):
        at = chance.randrange(len(whole))
        flipped = bytearray(whole)
        flipped[at] ^= 1 << chance.randrange(8)
        block = chance.randbytes(64) if n % 2 else bytes(64)
        kinds = (whole[:at], bytes(flipped), whole[:at] + block + whole[at + 64 :])
        if kinds[n % 3] != whole:
            yield kinds[n % 3]
    yield b""
    yield bytes(len(whole))


def sketch() -> Run:
    return Run(model("laboratory:Sketch"), dataset("laboratory:Blobs"), (("steps", 6),))


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        assert isinstance(other, dict)
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_a_garbled_checkpoint_is_refused_or_reads_as_it_was_written(
    tmp_path: Path, tally: dict[str, int]
) -> None:
    tally["tries"] = TRIES + 2
    fit(sketch(), engine.choose("cpu", threads=1), tmp_path)
    path = tmp_path / checkpoint.FILE
    whole, first = path.read_bytes(), checkpoint.load(path, sketch())
    assert first is not None
    refused = 0
    for content in garbled(whole):
        path.write_bytes(content)
        try:
            found = checkpoint.load(path, sketch())
        except (DataError, StaleError) as error:
            assert str(path) in str(error)  # noqa: PT017  # either this or the same weights
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
        else:  # a byte that carries nothing: padding, a date
            assert found is not None
            tally["wrong"] += not same(vars(found), vars(first))
    assert refused > TRIES // 2


@pytest.mark.parametrize("content", [{"format": 1}, {"format": 1, "run": 3}, [1, 2], None])
def test_a_checkpoint_of_something_else_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / checkpoint.FILE
    torch.save(content, path)
    with pytest.raises((DataError, StaleError), match="delete"):
        checkpoint.load(path, sketch())


def test_a_checkpoint_that_would_grow_in_memory_is_refused_before_it_does(tmp_path: Path) -> None:
    fit(sketch(), engine.choose("cpu", threads=1), tmp_path)
    path = tmp_path / checkpoint.FILE
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(DataError, match="it is compressed"):
        checkpoint.load(bomb, sketch())


ROW = ResultRow(
    protocol="p", tier="demo", model="GNM", train="t", dataset="D", metric="LL", value=9670.125,
    stderr=1.5, n=10, run="r", cell="c0ffee", dirty=False, finished="2026-01-02T03:04:05+00:00",
)  # fmt: skip


def test_a_garbled_cell_counts_as_not_measured_and_never_as_another_number(
    tmp_path: Path, tally: dict[str, int]
) -> None:
    tally["tries"] = TRIES + 2
    place = Workspace(tmp_path)
    cells.write(place, "run", "cell", cells.measured(ROW))
    path = cells.path(place, "run", "cell")
    whole = path.read_bytes()
    stored = cells.read(place, "run", "cell")
    assert stored == cells.measured(ROW)
    for content in (*garbled(whole), whole.replace(b"9670.125", b"9570.125")):
        path.write_bytes(content)
        tally["wrong"] += cells.read(place, "run", "cell") not in (None, stored)
    old = json.loads(whole)
    del old[cells.CHECKSUM]  # as cells were written before they had one
    path.write_text(json.dumps(old))
    assert cells.read(place, "run", "cell") == stored


def test_a_results_file_that_was_cut_anywhere_but_between_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    whole = [replace(ROW, seed=seed) for seed in range(2)]
    results.write(path, whole, ResultRow)
    text = path.read_bytes()
    for end in range(1, len(text)):
        path.write_bytes(text[:end])
        try:
            assert results.read(path, ResultRow) == whole[: text[:end].count(b"\n") - 1]
            assert text[end - 1 : end] == b"\n"
        except DataError as error:
            assert "restore the file" in str(error)  # noqa: PT017
    for content in garbled(text):
        path.write_bytes(content)
        try:
            results.read(path, ResultRow)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_garbled_arrays_are_left_out_of_a_report_and_measured_again(
    tmp_path: Path, tally: dict[str, int]
) -> None:
    tally["tries"] = TRIES + 2
    place = Workspace(tmp_path)
    noise = np.random.default_rng(0).normal(size=(20, 20))
    arrays = {"value": noise, "zero": noise * 0}
    artifact, known = cells.write_arrays(place, "run", "cell", arrays)
    path, row = tmp_path / "runs" / artifact, replace(ROW, artifact=artifact, artifact_digest=known)
    whole = path.read_bytes()
    assert cells.arrays_are_whole(place, "run", "cell")
    noticed = 0
    for content in garbled(whole):
        path.write_bytes(content)
        found = Artifacts(tmp_path / "runs", [row]).get(row.key, {})
        assert set(found) in (set(), set(arrays))
        noticed += not cells.arrays_are_whole(place, "run", "cell")
        if cells.arrays_are_whole(place, "run", "cell") and found:
            tally["wrong"] += not np.array_equal(found["value"], noise)
    assert noticed > TRIES // 2
    huge = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        huge, {"descr": "<f8", "fortran_order": False, "shape": (10**7, 10**7)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("value.npy", huge.getvalue())
    assert row.key not in Artifacts(tmp_path / "runs", [row])


def counted(index: int) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], dict[str, int]]:
    return np.full((1, 2, 2), index, np.uint8), {"image_index": index}


def test_a_flipped_bit_in_prepared_images_is_found_before_anybody_trains_on_it(
    tmp_path: Path,
) -> None:
    shards = Shards(tmp_path, 5, (1, 2, 2))
    for index in shards.missing():
        shards.write(index, counted)
    shards.gather()
    assert shards.images()[np.array([3])][0, 0, 0, 0] == 3
    path = tmp_path / "000000.npy"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1  # of image 3
    path.write_bytes(bytes(content))
    os.utime(path, (1, 1))
    with pytest.raises(DataError, match=r"image 3 of .*000000\.npy is not the one that was made"):
        shards.images()
    path.unlink()
    for index in shards.missing():
        shards.write(index, counted)
    shards.gather()
    assert shards.images()[np.array([3])][0, 0, 0, 0] == 3


def test_a_garbled_image_that_waits_for_its_shard_is_removed_and_made_again(
    tmp_path: Path, tally: dict[str, int]
) -> None:
    tally["tries"] = TRIES + 2
    shards = Shards(tmp_path, 2, (1, 2, 2))
    for index in (0, 1):
        shards.write(index, counted)
    part = tmp_path / "parts" / "000001.npz"
    whole = part.read_bytes()
    for content in garbled(whole):
        for file in (tmp_path / "000000.npy", tmp_path / "000000.json"):
            file.unlink(missing_ok=True)
        shards.write(0, counted)
        part.write_bytes(content)
        try:
            shards.gather()
        except DataError as error:
            assert str(part) in str(error)  # noqa: PT017
            assert shards.missing() == [1]
        else:
            made = shards.images()[slice(None)].tolist()
            tally["wrong"] += made != [[[[0, 0], [0, 0]]], [[[1, 1], [1, 1]]]]
    assert _shards.UNREADABLE


# --- archives -------------------------------------------------------------------------------------------------------


def zipped(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def tarred(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0
) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


def linked(path: Path) -> Path:
    entry = zipfile.ZipInfo("images/a")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "/etc")
    return path


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "a way up": lambda f: zipped(f / "a.zip", ("good", b"1"), ("../out", b"2")),
    "a way up in the middle": lambda f: zipped(f / "a.zip", ("x/../../out", b"2")),
    "a way up for Windows": lambda f: zipped(f / "a.zip", ("..\\out", b"2")),
    "an absolute path": lambda f: zipped(f / "a.zip", (f"{f}/out", b"2")),
    "a drive": lambda f: zipped(f / "a.zip", ("C:/out", b"2")),
    "a link in a zip": lambda f: linked(f / "a.zip"),
    "a bomb": lambda f: zipped(f / "a.zip", ("zeros", bytes(50_000_000))),
    "a name twice": lambda f: zipped(f / "a.zip", ("a", b"1"), ("A/../a", b"2")),
    "a tar's way up": lambda f: tarred(f / "a.tar.gz", member("../out", size=1)),
    "a tar's absolute path": lambda f: tarred(f / "a.tar.gz", member(f"{f}/out", size=1)),
    "a tar's link": lambda f: tarred(
        f / "a.tar.gz", member("x", tarfile.SYMTYPE, str(f)), member("x/out", size=1)
    ),
    "a tar's hard link": lambda f: tarred(f / "a.tar.gz", member("x", tarfile.LNKTYPE, "/etc/passwd")),
    "a tar's device": lambda f: tarred(f / "a.tar.gz", member("x", tarfile.CHRTYPE)),
    "a tar's bomb": lambda f: tarred(f / "a.tar.gz", member("zeros", size=50_000_000)),
}  # fmt: skip


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_archive_is_refused_whole_and_writes_nothing_anywhere(
    how: str, tmp_path: Path
) -> None:
    path = HOSTILE[how](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=f"{path.name}.*nothing was unpacked"):
        unpack(path, tmp_path / "into", 1_000_000)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_size_that_an_archive_only_claims_does_not_get_more_past_the_limit(
    tmp_path: Path,
) -> None:
    path = zipped(tmp_path / "a.zip", ("zeros", bytes(5_000_000)))
    content = path.read_bytes().replace(
        (5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    )
    path.write_bytes(content)
    with pytest.raises(DataError, match="nothing was unpacked"):
        unpack(path, tmp_path / "into", 1_000_000)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_garbled_archive_is_refused_or_unpacked_as_it_was(
    tmp_path: Path, tally: dict[str, int]
) -> None:
    tally["tries"] = TRIES + 2
    whole = zipped(tmp_path / "a.zip", ("a/one", b"1" * 500), ("two", bytes(range(256)) * 9))
    content = whole.read_bytes()
    for garbage in garbled(content):
        whole.write_bytes(garbage)
        into = tmp_path / "into"
        try:
            unpack(whole, into, 1_000_000)
        except DataError:
            assert not into.exists()
        else:
            for file in (file for file in into.rglob("*") if file.is_file()):
                tally["wrong"] += file.read_bytes() not in (b"1" * 500, bytes(range(256)) * 9)
            shutil.rmtree(into)


def test_the_command_unpacks_what_a_user_has_where_its_dataset_looks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path / "data"))
    evil = HOSTILE["a way up"](tmp_path)
    assert cli.main(["data", "unpack", "arrow_room", str(evil)]) == 3
    assert "would lie outside of its folder; nothing was unpacked" in capsys.readouterr().err
    name = f"any name/{_arrow_archive.PARTS[0]}/images/CLEVR_new_000001.png"
    honest = zipped(tmp_path / "b.zip", ("any name/", b""), (name, b"png"))
    assert cli.main(["data", "unpack", "arrow_room", str(honest)]) == 0
    where = tmp_path / "data" / _arrow_archive.FOLDER
    assert (where / Path(name).relative_to("any name")).read_bytes() == b"png"
    assert cli.main(["data", "unpack", "arrow_room", str(honest)]) == 3
    assert cli.main(["data", "unpack", "mnist", str(honest)]) == 3
    assert cli.main(["data", "unpack", "arrow_room"]) == 3
    assert cli.main(["data", "fetch", "mnist", str(honest)]) == 3


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_honest_archive_is_unpacked_whole(kind: str, tmp_path: Path) -> None:
    if kind == "zip":
        path = zipped(tmp_path / "a.zip", ("images/", b""), ("images/a.bin", bytes(9)), ("b", b""))
    else:
        path = tarred(
            tmp_path / "a.tar.gz", member("images", tarfile.DIRTYPE), member("images/a.bin", size=9), member("b")
        )  # fmt: skip
    unpack(path, tmp_path / "into", 9)
    found = {
        str(f.relative_to(tmp_path / "into")) for f in (tmp_path / "into").rglob("*") if f.is_file()
    }
    assert found == {"images/a.bin", "b"}
    assert (tmp_path / "into" / "images" / "a.bin").read_bytes() == bytes(9)
    unpack(path, tmp_path / "into", 9)  # there already: left as it is
