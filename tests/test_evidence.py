"""An evidence bundle: the same inputs give the same bytes, tables follow from the values, no change goes unseen."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import re
import shutil
import struct
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise import cli
from reprise.core import reductions, results
from reprise.core.errors import UsageError
from reprise.core.metric import Measurement
from reprise.core.results import ResultRow
from reprise.core.workspace import Workspace
from reprise.evidence import crate
from reprise.evidence.bundle import bundle
from reprise.evidence.crate import Digest
from reprise.evidence.verify import Verified, verify
from reprise.launch.plan import Request

from .bundles import contents, forged, measure, with_manifest, written
from .laboratory_cli import installed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SCRIPT = HERE / "laboratory_cli.py"
CELLS = ("Bound", "Bound-4", "Raises", "Needy")


@pytest.fixture(scope="module", autouse=True)
def _protocols() -> Iterator[None]:
    with installed():
        yield


@pytest.fixture(scope="module")
def laboratory(_protocols: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with real runs of small models: numbers that can be made again, one that cannot, failures and n/a."""
    where, steps = Workspace(tmp_path_factory.mktemp("laboratory")), (("training.steps", "5"),)
    for request in (
        Request("tiny", "demo", ("Sketch", "Sketch (wide)"), (), CELLS, changes=steps),
        Request("faulty", "demo", ("Sketch",), changes=steps),
    ):
        measure(request, where)
    return where.root


@pytest.fixture
def whole(laboratory: Path, tmp_path: Path) -> Path:
    """A bundle of which everything can be made again."""
    path = tmp_path / "tiny.zip"
    bundle(Workspace(laboratory), "tiny", "demo", path)
    return path


def flipped(content: bytes) -> bytes:
    """One digit, or else the last byte, is another."""
    place = next((i for i in reversed(range(len(content))) if content[i : i + 1].isdigit()), -1)
    place %= len(content)
    other = ord("7") if content[place : place + 1] != b"7" else ord("3")
    return content[:place] + bytes([other]) + content[place + 1 :]


# What holds -----------------------------------------------------------------------------------------------------------


def test_a_bundle_of_real_runs_verifies(whole: Path) -> None:
    found = verify(whole)
    assert (found.code, found.troubles, found.open) == (0, [], [])
    assert found.count("recomputed") == 4
    assert found.without == 4  # two raise, two are n/a
    assert "byte for byte" in str(found)


def test_the_same_inputs_give_the_same_bytes(laboratory: Path, whole: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(laboratory, tmp_path / "copy")  # other times, another place
    again = tmp_path / "again.zip"
    bundle(Workspace(copy), "tiny", "demo", again)
    assert again.read_bytes() == whole.read_bytes()
    assert str(laboratory).encode() not in b"".join(contents(whole).values())


def test_a_bundle_holds_everything_behind_the_table(laboratory: Path, whole: Path) -> None:
    files = contents(whole)
    rows = results.read(Workspace(laboratory).results("demo", "tiny"), ResultRow)
    assert results.parse(files["results.csv"].decode(), ResultRow, "") == rows
    for row in rows:
        if row.status != "ok":
            continue
        with np.load(laboratory / "runs" / row.artifact) as stored:
            for name in stored.files:
                found = np.load(io.BytesIO(files[crate.values_path(row.run, row.cell, name)]))
                assert found.dtype == stored[name].dtype
                np.testing.assert_array_equal(found, stored[name])
        for name in ("run.json", "log.csv"):
            path = laboratory / "runs" / row.run / name
            assert files[f"runs/{row.run}/{name}"] == path.read_bytes()
    assert files["constraints.txt"] == (ROOT / "constraints.txt").read_bytes()


def test_a_run_may_be_a_link_to_another_disk_and_a_row_may_name_no_other_place(
    laboratory: Path, whole: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(laboratory, tmp_path / "copy")
    rows = results.read(Workspace(root).results("demo", "tiny"), ResultRow)
    row = next(row for row in rows if row.artifact)
    (root / "runs" / row.run).rename(tmp_path / "elsewhere")
    (root / "runs" / row.run).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    made = bundle(Workspace(root), "tiny", "demo", tmp_path / "linked.zip")
    assert made.counts["missing"] == 0
    assert made.path.read_bytes() == whole.read_bytes()

    outside = tmp_path / "elsewhere" / "cells" / f"{row.cell}.npz"
    for hostile in (str(outside), f"../../elsewhere/cells/{row.cell}.npz"):
        assert (root / "runs" / hostile).resolve().is_file()
        changed = [dataclasses.replace(r, artifact=hostile) if r == row else r for r in rows]
        results.write(Workspace(root).results("demo", "tiny"), changed, ResultRow)
        made = bundle(Workspace(root), "tiny", "demo", tmp_path / "hostile.zip")
        assert made.counts["missing"] == 1
        assert any(why == f"runs/{hostile} is not there" for _, why in made.unmade)


def test_what_cannot_be_made_again_is_said_and_the_exit_code_is_2(
    laboratory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "faulty.zip"
    root = shutil.copytree(laboratory, tmp_path / "copy")
    assert cli.main(["bundle", "faulty", "--root", str(root), "-o", str(path)]) == 0
    out = capsys.readouterr().out
    assert "2 numbers, 1 recomputable, 1 as recorded, 0 missing" in out
    assert cli.main(["verify-bundle", str(path)]) == 2
    out = capsys.readouterr().out
    assert "Parameters, seed 0 (as recorded): parameters stores nothing but the number" in out

    rows = results.read(Workspace(root).results("demo", "faulty"), ResultRow)
    (root / "runs" / next(row for row in rows if row.artifact).artifact).unlink()
    (root / "runs" / rows[0].run / "log.csv").unlink()
    assert cli.main(["bundle", "faulty", "--root", str(root), "-o", str(path)]) == 0
    out = capsys.readouterr().out
    assert "0 recomputable, 1 as recorded, 1 missing" in out
    assert "is not there" in out
    assert f"missing: runs/{rows[0].run}/log.csv" in out
    assert cli.main(["verify-bundle", str(path)]) == 2
    out = capsys.readouterr().out
    assert "Bound, seed 0 (missing)" in out
    assert f"runs/{rows[0].run}/log.csv" in out
    readme = contents(path)["README.md"].decode()
    assert "log.csv is not there" in readme
    assert "stores nothing but the number" in readme


def test_a_stored_array_that_is_not_the_rows_is_found_when_bundling(
    laboratory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(laboratory, tmp_path / "copy")
    rows = results.read(Workspace(root).results("demo", "tiny"), ResultRow)
    first, second, *_ = [row for row in rows if row.artifact]
    shutil.copy(root / "runs" / first.artifact, root / "runs" / second.artifact)
    cli.main(["bundle", "tiny", "--root", str(root), "-o", str(tmp_path / "a.zip")])
    assert "is not what the row was measured with" in capsys.readouterr().out

    root = shutil.copytree(laboratory, tmp_path / "other")
    wrong = [dataclasses.replace(r, value=1.5) if r.key == first.key else r for r in rows]
    results.write(Workspace(root).results("demo", "tiny"), wrong, ResultRow)
    assert cli.main(["bundle", "tiny", "--root", str(root), "-o", str(tmp_path / "a.zip")]) == 1
    assert "instead of 1.5" in capsys.readouterr().out
    assert verify(tmp_path / "a.zip").code == 1


def test_the_crate_is_described_as_ro_crate_asks(whole: Path) -> None:
    files = contents(whole)
    document = json.loads(files[crate.METADATA])
    assert document["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    entities = {entity["@id"]: entity for entity in document["@graph"]}
    assert len(entities) == len(document["@graph"])
    assert all("@type" in entity for entity in entities.values())
    descriptor = entities["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert descriptor["about"] == {"@id": "./"}
    root = entities["./"]
    assert root["@type"] == "Dataset"
    assert all(root[key] for key in ("name", "description", "datePublished", "license", "author"))
    assert entities[root["license"]["@id"]]["name"] == "MIT"
    assert [entities[author["@id"]]["name"] for author in root["author"]] == ["The reprise authors"]
    parts = {part["@id"] for part in root["hasPart"]}
    assert parts == files.keys() - {crate.METADATA}
    for name in parts:
        entity = entities[name]
        assert entity["@type"] == "File"
        assert entity["encodingFormat"]
        assert entity["description"]
        if name != crate.MANIFEST:
            assert entity["contentSize"] == str(len(files[name]))
            assert entity["sha256"] == Digest.of(files[name]).sha256

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if value.keys() == {"@id"}:
                yield value["@id"]
            else:
                for one in value.values():
                    yield from references(one)
        elif isinstance(value, list):
            for one in value:
                yield from references(one)

    for entity in entities.values():
        for target in references({k: v for k, v in entity.items() if k != "@id"}):
            known = target in entities or target == "https://w3id.org/ro/crate/1.1"
            assert known, f"{entity['@id']} names {target}, which is nowhere"
    rows = results.parse(files["results.csv"].decode(), ResultRow, "")
    for action in root["mentions"]:
        run = entities[action["@id"]]
        assert run["@type"] == "CreateAction"
        assert run["result"]
        commits = {entities[one["@id"]]["softwareVersion"] for one in run["instrument"]}
        mine = [row for row in rows if action["@id"] == f"#run-{row.run}"]
        assert commits >= {row.commit for row in mine if row.commit}
        data = {entities[one["@id"]].get("identifier") for one in run["object"]}
        assert data >= {row.data_digest for row in mine if row.data_digest}


# What is caught -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [False, True], ids=["manifest as it was", "manifest made anew"])
def test_no_file_can_be_changed_removed_or_added_unseen(
    told: bool, whole: Path, tmp_path: Path
) -> None:
    files = contents(whole)
    end: Callable[[Mapping[str, bytes]], Mapping[str, bytes]] = with_manifest if told else dict
    for name in files:
        if told and name == crate.MANIFEST:
            continue  # there is no telling it anew when it is changed
        found = verify(written(tmp_path / "a.zip", end({**files, name: flipped(files[name])})))
        assert found.code == 1, f"{name} was changed"
        named = any(trouble.startswith(name) for trouble in found.troubles)
        assert told or named or name == crate.MANIFEST, found.troubles
        rest = {other: content for other, content in files.items() if other != name}
        found = verify(written(tmp_path / "a.zip", end(rest)))
        assert found.code == 1, f"{name} was removed"
        said = any(trouble.startswith(name) for trouble in found.troubles)
        by_row = any("its arrays have the digest" in trouble for trouble in found.troubles)
        assert said or (name.startswith("values/") and by_row), found.troubles
    for name in ("more.txt", "values/a/b/value.npy", "runs/x/log.csv"):
        assert verify(written(tmp_path / "a.zip", end({**files, name: b"1\n"}))).code == 1, name


def edited(text: bytes, column: str, value: str) -> bytes:
    """The rows with one column of the first measured row changed."""
    rows = results.parse(text.decode(), ResultRow, "")
    place = next(i for i, row in enumerate(rows) if row.status == "ok")
    kind = type(getattr(rows[place], column))
    rows[place] = dataclasses.replace(rows[place], **{column: kind(value)})
    return results.to_csv(rows, ResultRow).encode()


def reducing(files: dict[str, bytes], how: bytes) -> dict[str, bytes]:
    return {**files, crate.EVIDENCE: files[crate.EVIDENCE].replace(b"mean(value)", how)}


def other_values(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files with one value of the first measured row changed in its last digits, and the row's digest with it."""
    rows = results.parse(files[crate.ROWS].decode(), ResultRow, "")
    row = next(row for row in rows if row.status == "ok")
    paths = [path for path in files if path.startswith(f"values/{row.run}/{row.cell}/")]
    arrays = {path.rpartition("/")[2][:-4]: np.load(io.BytesIO(files[path])) for path in paths}
    arrays["value"][3] += 1e-9
    out = io.BytesIO()
    np.save(out, arrays["value"])
    rows_of = edited(files[crate.ROWS], "artifact_digest", reductions.digest(arrays))
    path = crate.values_path(row.run, row.cell, "value")
    return {**files, path: out.getvalue(), crate.ROWS: rows_of}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: {**f, crate.ROWS: edited(f[crate.ROWS], "value", "1.5")}, "the stored values make value"),
        (lambda f: {**f, crate.ROWS: edited(f[crate.ROWS], "stderr", "0.5")}, "the stored values make stderr"),
        (lambda f: {**f, crate.ROWS: edited(f[crate.ROWS], "n", "7")}, "the stored values make n"),
        (lambda f: {**f, crate.ROWS: edited(f[crate.ROWS], "censored", ">")}, "the stored values make censored"),
        (lambda f: {**f, crate.ROWS: edited(f[crate.ROWS], "artifact_digest", "0" * 12)}, "its arrays have the digest"),
        (lambda f: {**f, crate.ROWS: edited(f[crate.ROWS], "tier", "paper")}, "has a row of tiny, tier paper"),
        (lambda f: reducing(f, b"fraction(value)"), "verdicts must be bool"),
        (lambda f: reducing(f, b"exec(value)"), "is no reduction"),
        (other_values, "the stored values make value"),
    ],
)  # fmt: skip
def test_who_makes_all_digests_and_tables_anew_is_contradicted_by_the_values(
    change: Callable[[dict[str, bytes]], dict[str, bytes]],
    sentence: str,
    whole: Path,
    tmp_path: Path,
) -> None:
    files = contents(whole)
    assert contents(written(tmp_path / "same.zip", forged(files))) == files
    found = verify(written(tmp_path / "a.zip", forged(change(files))))
    assert found.code == 1
    assert any(sentence in trouble for trouble in found.troubles), found.troubles


def test_what_is_left_out_must_be_said_to_be(whole: Path, tmp_path: Path) -> None:
    files = contents(whole)
    for name in [
        name for name in files if name.endswith(("log.csv", "run.json", "constraints.txt"))
    ]:
        rest = {other: content for other, content in files.items() if other != name}
        found = verify(written(tmp_path / "a.zip", forged(rest)))
        assert f"{name} is not there, and the bundle does not say so" in found.troubles


@pytest.mark.parametrize("name", ["more.txt", "values/a/b/value.npy", "runs/x/log.csv"])
def test_what_belongs_to_no_row_is_no_evidence(name: str, whole: Path, tmp_path: Path) -> None:
    found = verify(written(tmp_path / "a.zip", forged({**contents(whole), name: b"1\n"})))
    assert found.troubles == [f"{name} belongs to no row of results.csv"]


def test_a_published_value_that_is_not_the_papers_is_not_believed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(ROOT / "results" / "mini", root / "results" / "mini")
    path = tmp_path / "a.zip"
    made = bundle(Workspace(root), "gnm_table1", "mini", path)  # without runs/
    measured = len(results.read(root / "results" / "mini" / "gnm_table1.csv", ResultRow))
    assert measured > 9
    assert made.counts == {"missing": measured}
    found = verify(path)
    assert (found.code, found.count("missing")) == (2, measured)
    assert not any("published" in sentence for sentence in found.open)
    files = contents(path)
    for part, old, new in (
        (crate.PUBLISHED, b"10964", b"9964"),
        (crate.PROTOCOL, b'"S-Acc": "structure_accuracy"', b'"S-Acc": "nll"'),
    ):
        assert old in files[part]
        changed = forged({**files, part: files[part].replace(old, new)})
        sentences = verify(written(path, changed)).open
        assert any("known here" in s or "laid out otherwise" in s for s in sentences), part


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (crate.EVIDENCE, b"{"),
        (crate.EVIDENCE, b"[]"),
        (crate.EVIDENCE, b"[" * 100_000),
        (crate.EVIDENCE, b'{"format": 2}'),
        (crate.EVIDENCE, b'{"format": 1, "format": 1}'),
        (crate.EVIDENCE, b"\xff\xfe"),
        (crate.PROTOCOL, b"{}"),
        (crate.PROTOCOL, b'{"models": NaN}'),
        (crate.ROWS, b"protocol,tier\ntiny\n"),
        (crate.ROWS, b'"'),
        (crate.CITATION, b"title: x\n"),
        (crate.MANIFEST, b"nonsense\n"),
        ("values", b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        ("values", b"\x93NUMPY\x01\x00"),
        ("values", b"PK"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_one_sentence(
    part: str, content: bytes, whole: Path, tmp_path: Path
) -> None:
    files = contents(whole)
    name = next(name for name in files if name.startswith(part))
    end = dict if name == crate.MANIFEST else with_manifest
    found = verify(written(tmp_path / "a.zip", end({**files, name: content})))
    assert found.code == 1
    assert any(name.rpartition("/")[2] in trouble for trouble in found.troubles), found.troubles


def test_a_text_of_a_row_cannot_break_out_of_its_line(whole: Path, tmp_path: Path) -> None:
    for odd in ("Visitor\n| Sketch | 999 |", "a\u202eb", "a\u2028b"):
        files = contents(whole)
        rows = edited(files[crate.ROWS], "model", odd)
        found = verify(written(tmp_path / "a.zip", with_manifest({**files, crate.ROWS: rows})))
        assert found.code == 1
        assert "cannot be printed in its place" in found.troubles[-1]


def test_rows_with_other_line_ends_are_other_bytes(whole: Path, tmp_path: Path) -> None:
    files = contents(whole)
    changed = {**files, crate.ROWS: files[crate.ROWS].replace(b"\n", b"\r\n")}
    found = verify(written(tmp_path / "a.zip", with_manifest(changed)))
    assert any(s.startswith("results.csv is not what its sources make") for s in found.troubles)


def test_nothing_long_is_read_into_memory_or_searched_for_ever(whole: Path, tmp_path: Path) -> None:
    files = contents(whole)
    long = {**files, crate.README: bytes(2**26 + 1)}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in with_manifest(long).items():
            archive.writestr(name, content)
    found = verify(tmp_path / "a.zip")
    assert any("more than any such file" in trouble for trouble in found.troubles)
    spaces = b"title: a" + b" " * 10**6 + b"b\n"
    label = edited(files[crate.ROWS], "model", "x [" + "a" * 10**5 + "]")
    began = time.monotonic()
    for part, content in ((crate.CITATION, spaces), (crate.ROWS, label)):
        verify(written(tmp_path / "a.zip", with_manifest({**files, part: content})))
    assert time.monotonic() - began < 20


def test_json_that_can_be_read_in_two_ways_is_not_read() -> None:
    with pytest.raises(ValueError, match="a key stands twice"):
        crate.from_json('{"value": 1, "value": 2}')


def test_an_array_that_claims_to_be_huge_takes_no_memory(whole: Path, tmp_path: Path) -> None:
    files = contents(whole)
    name = next(name for name in files if name.endswith("value.npy"))
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    text = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head + b"\n" + bytes(80)
    found = verify(written(tmp_path / "a.zip", with_manifest({**files, name: text})))
    assert any("is not what it holds" in trouble for trouble in found.troubles)


# Hostile archives -----------------------------------------------------------------------------------------------------


def climbing(path: Path, name: str) -> None:
    placeholder = "?" * len(name)  # zipfile itself would mend some of the names
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(placeholder, "x")
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), name.encode()))


def linked(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("results.csv")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("results.csv", "a")
        archive.writestr("resultz.csv", "b")
    path.write_bytes(path.read_bytes().replace(b"resultz", b"results"))


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.writestr(f"{number}.txt", bytes(10 * 2**20))


def overlapping(path: Path) -> None:
    """Many directory entries of one and the same data."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", os.urandom(100_000))
        first = archive.filelist[0]
        for number in range(50):
            other = zipfile.ZipInfo(f"b{number}.txt")
            for slot in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
                setattr(other, slot, getattr(first, slot))
            archive.filelist.append(other)
            archive.NameToInfo[other.filename] = other
        archive._didModify = True  # type: ignore[attr-defined]


def lying(path: Path) -> None:
    """The directory says that a file is short; it is not."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(crate.MANIFEST, bytes(2**20))
        archive.filelist[0].file_size = 10


def truncated(path: Path) -> None:
    climbing(path, "results.csv")
    path.write_bytes(path.read_bytes()[:-10])


def prose(path: Path) -> None:
    path.write_text("hello")


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    **{
        f"climbs by {name!r}": (functools.partial(climbing, name=name), "climb out")
        for name in ("../a", "/etc/a", "a/../../b", "C:\\a", "..", "a//b", "a\x00b", "a/./b", "a\x1b[2Jb")
    },
    "a link": (linked, "no plain file"),
    "a folder": (functools.partial(climbing, name="values/"), "an entry for a folder"),
    "a name twice": (twice, "in it twice"),
    "a bomb": (bomb, "made to fill"),
    "overlapping files": (overlapping, "made to fill"),
    "a lie about a size": (lying, "manifest-sha256.txt"),
    "a truncated archive": (truncated, "no zip archive"),
    "no archive": (prose, "no zip archive"),
    "an empty archive": (lambda path: zipfile.ZipFile(path, "w").close(), "manifest-sha256.txt is missing"),
}  # fmt: skip


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_archive_is_refused_in_a_sentence_and_writes_nothing(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    make, sentence = HOSTILE[how]
    make(folder / "a.zip")
    assert cli.main(["verify-bundle", "a.zip"]) == 1
    out = capsys.readouterr().out
    assert sentence in out
    assert "\x1b" not in out
    assert "NOT verified" in out
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "a.zip"]


def test_what_is_not_there_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["verify-bundle", str(tmp_path / "a.zip")],
        ["verify-bundle", str(tmp_path)],
        ["bundle", "tiny", "--root", str(tmp_path)],
        ["bundle", "tinny", "--root", str(tmp_path)],
    ):
        assert cli.main(arguments) == 3
        err = capsys.readouterr().err
        assert err.startswith("reprise: ")
        assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("field", "odd"),
    [
        *[
            ("run", odd)
            for odd in ("../x", "a/b-s0-12345678", "a:b-s0-12345678", "a\nb-s0-12345678")
        ],
        ("model_spec", ""),  # rows that another program wrote
        ("metric_spec", "no spec"),
    ],
)
def test_what_no_bundle_can_be_made_of_is_refused_and_nothing_is_written(
    field: str, odd: str, laboratory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(laboratory, tmp_path / "root")
    rows = results.read(Workspace(root).results("demo", "tiny"), ResultRow)
    change: dict[str, Any] = {field: odd}
    changed = [dataclasses.replace(row, **change) for row in rows]
    results.write(Workspace(root).results("demo", "tiny"), changed, ResultRow)
    path = tmp_path / "out" / "a.zip"
    assert cli.main(["bundle", "tiny", "--root", str(root), "-o", str(path)]) == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search("measure (it )?again", err)
    assert not path.parent.exists()


def test_an_array_that_no_bundle_can_hold_is_said_to_be_missing(
    laboratory: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(laboratory, tmp_path / "root")
    rows = results.read(Workspace(root).results("demo", "tiny"), ResultRow)
    place = next(i for i, row in enumerate(rows) if row.artifact)
    arrays = {"value": np.ones(3), "phase": np.ones(3, complex)}
    np.savez(root / "runs" / rows[place].artifact, allow_pickle=False, **arrays)
    rows[place] = dataclasses.replace(rows[place], artifact_digest=reductions.digest(arrays))
    results.write(Workspace(root).results("demo", "tiny"), rows, ResultRow)
    made = bundle(Workspace(root), "tiny", "demo", tmp_path / "a.zip")
    assert any("complex128, which no bundle can" in why for _, why in made.unmade)
    assert verify(tmp_path / "a.zip").code == 2


def test_labels_cannot_steer_a_terminal() -> None:
    counts = {("LL\x1b[2J", "mean(\x07)"): Counter({"recomputed": 1})}
    text = str(Verified("a\x1b[2J", counts, troubles=["b\x1b[31m\rc"], open=["\x07"]))
    assert all(character.isprintable() or character == "\n" for character in text)


# Reductions -----------------------------------------------------------------------------------------------------------


def test_every_reduction_gives_what_its_metric_gives() -> None:
    values = np.random.default_rng(0).normal(size=257)
    found = Measurement.mean(values)
    assert reductions.mean(values) == reductions.Reduced(found.value, found.stderr, found.n)
    assert found.value == pytest.approx(sum(values.tolist()) / 257)
    assert found.stderr == pytest.approx(np.std(values, ddof=1) / 257**0.5)
    verdict = {"verdict": np.array([True, False, False, True, True])}
    one = reductions.reduced("fraction(verdict)", verdict, "")
    assert (one.value, one.n) == (0.6, 5)
    assert one.stderr == pytest.approx((0.6 * 0.4 / 5) ** 0.5)
    nan = float("nan")
    score = {"accuracy": np.array([[0.5, 0.95, nan], [0.6, 0.7, 0.8]])}
    steps = reductions.reduced("steps_until(accuracy)", score, "every=40 target=0.9")
    assert (steps.value, steps.n, steps.censored) == (100.0, 2, ">")
    score["accuracy"] = score["accuracy"][:1]
    fast = reductions.reduced("steps_until(accuracy)", score, "every=40 target=0.9")
    assert (fast.value, fast.stderr, fast.censored) == (80.0, None, "")
    normals = {"mean": np.array([[1.0], [4.0]]), "factor": np.array([[[2.0]], [[7.0]]])}
    far = reductions.reduced("frechet_distance(factor)", normals, "features=domain images=30")
    assert (far.value, far.stderr, far.n) == (34.0, None, 30)


@pytest.mark.parametrize(
    ("reduction", "dialect"),
    [("mean(other)", ""), ("mean()", ""), ("max(value)", ""), ("mean(words)", ""), ("mean(empty)", ""),
     ("fraction(value)", ""), ("steps_until(value)", "every=1 target=1"), ("steps_until(grid)", "target=1"),
     ("steps_until(grid)", "every=x target=1"), ("mean(nan)", ""), ("frechet_distance(grid)", "images=3")],
)  # fmt: skip
def test_what_cannot_be_reduced_is_a_sentence(reduction: str, dialect: str) -> None:
    arrays = {
        "value": np.ones(3), "words": np.array(["a", "b"]), "empty": np.zeros(0), "grid": np.ones((2, 2)),
        "nan": np.full(3, np.nan),
    }  # fmt: skip
    with pytest.raises(UsageError):
        reductions.reduced(reduction, arrays, dialect)
