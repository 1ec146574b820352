"""kill -9 at twenty random moments of everything that takes time, and a disk that fills in the midst of it.

Nothing that was finished is lost, no file is ever a part of one, and one more call ends as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.core import results
from reprise.core.files import write_text
from reprise.core.results import ResultRow
from reprise.core.run import Run
from reprise.core.spec import dataset, model
from reprise.training import checkpoint

HERE = Path(__file__).parent
KILLS = 20


class Server:
    """laboratory_faults.py, and what it forks."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "laboratory_faults.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def act(
        self, folder: Path, *act: Any, largest: int = 0, kill_after: float | None = None
    ) -> int:
        """Let a fork do something; its exit code, -9 if it was killed `kill_after` seconds from its start."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = json.dumps([str(folder), largest, *map(plain, act)]) + "\n"
        self.process.stdin.write(line.encode())
        number = int(self.process.stdout.readline())
        if kill_after is not None:
            over, _, _ = select.select([self.process.stdout], [], [], kill_after)
            if not over:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        return int(self.process.stdout.readline())


def plain(argument: Any) -> Any:
    return str(argument) if isinstance(argument, Path) else argument


@pytest.fixture(scope="module")
def forks() -> Iterator[Server]:
    server = Server()
    assert server.process.stdout is not None
    assert server.process.stdout.readline() == b"ready\n"
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.process.wait(30) == 0
    server.process.stdout.close()


def killed(
    forks: Server,
    act: tuple[Any, ...],
    seconds: float,
    look: Callable[[], None],
    finished: Callable[[], None],
) -> None:
    """Begin `act` until KILLS of its forks have died at a random moment; look around after each.

    Whenever it comes to its end nevertheless, `finished` compares, and clears the ground for another beginning.
    """
    folder, moments, deaths = act[1], random.Random(0), 0
    for _ in range(10 * KILLS):
        began = time.monotonic()
        code = forks.act(folder, *act, kill_after=moments.uniform(0, seconds))
        seconds = min(seconds, time.monotonic() - began) if code == 0 else seconds
        assert code in (0, -signal.SIGKILL), (folder / "said.txt").read_text()
        look()
        if code == 0:
            finished()
        deaths += code != 0
        if deaths == KILLS:
            break
    assert deaths == KILLS
    assert forks.act(folder, *act) == 0, (folder / "said.txt").read_text()
    finished()


def timed(forks: Server, folder: Path, *act: Any) -> float:
    """How long an uninterrupted act takes."""
    began = time.monotonic()
    assert forks.act(folder, *act) == 0, (folder / "said.txt").read_text()
    return time.monotonic() - began


# --- training and measuring -----------------------------------------------------------------------------------------


def rows(root: Path) -> list[ResultRow]:
    path = root / "results" / "demo" / "tiny.csv"
    found = results.read(path, ResultRow) if path.exists() else []
    return [replace(row, train_seconds=None, measure_seconds=None, finished="") for row in found]


class Watch:
    """A look around after a kill: steps, cells and rows only grow, whatever is there is whole, no row is wrong."""

    def __init__(self, root: Path, reference: Path, tally: dict[str, int]) -> None:
        self.root, self.tally, self.expected = root, tally, rows(reference)
        self.step, self.kept, self.rows = 0, dict[Path, bytes](), list[ResultRow]()
        counted = dataset("laboratory:Blobs", count=48)
        self.run = Run(model("laboratory:Sketch"), counted, (("steps", 60),))

    def __call__(self) -> None:
        found = checkpoint.load(self.root / "runs" / self.run.id / checkpoint.FILE, self.run)
        step = found.step if found is not None else 0
        self.tally["lost"] += step < self.step
        self.step = step
        for path, content in self.kept.items():
            self.tally["lost"] += not path.exists()
            self.tally["wrong"] += path.exists() and path.read_bytes() != content
        for path in self.root.glob("runs/*/cells/*.json"):
            self.tally["wrong"] += json.loads(path.read_text())["status"] != "ok"
            self.kept[path] = path.read_bytes()
        now = rows(self.root)
        self.tally["lost"] += sum(row not in now for row in self.rows)
        self.tally["wrong"] += sum(row not in self.expected for row in now)
        self.rows = now

    def forget(self) -> None:
        self.step, self.kept, self.rows = 0, {}, []


@pytest.fixture(scope="module")
def whole(forks: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """What an uninterrupted run leaves, and how many seconds it takes."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, timed(forks, folder, "run", folder)


@pytest.fixture(autouse=True)
def _visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.mark.parametrize("phase", ["training", "measuring"])
def test_killed_twenty_times_a_run_ends_in_the_same_rows(
    phase: str,
    forks: Server,
    whole: tuple[Path, float],
    tmp_path: Path,
    tally: dict[str, int],
) -> None:
    tally["tries"] = KILLS
    reference, seconds = whole
    watch = Watch(tmp_path, reference, tally)

    def begin() -> None:
        watch.forget()
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        if phase == "measuring":  # all is trained
            (name,) = [path.name for path in reference.glob("runs/*-*")]
            (tmp_path / "runs" / name).mkdir(parents=True)
            for file in ("checkpoint.pt", "log.csv"):
                shutil.copy(reference / "runs" / name / file, tmp_path / "runs" / name)

    def finished() -> None:
        tally["lost"] += sum(row not in rows(tmp_path) for row in rows(reference))
        assert len(rows(tmp_path)) == 2
        begin()

    begin()
    act = ("run", tmp_path)
    if phase == "measuring":
        seconds = timed(forks, tmp_path, *act)
        begin()
    killed(forks, act, seconds, watch, finished)


@pytest.mark.parametrize("largest", [1000, 5000], ids=["the first file", "a checkpoint"])
def test_a_disk_that_is_full_while_a_run_works_is_told_and_costs_nothing(
    largest: int, forks: Server, whole: tuple[Path, float], tmp_path: Path
) -> None:
    assert forks.act(tmp_path, "run", tmp_path, largest=largest) == 3
    said = (tmp_path / "said.txt").read_text()
    assert "File too large" in said
    assert said.count("\n") == 1
    assert {row.status for row in rows(tmp_path)} <= {"failed"}
    assert forks.act(tmp_path, "run", tmp_path) == 0
    assert rows(tmp_path) == rows(whole[0])


def test_a_disk_that_is_full_while_cells_are_measured_keeps_the_training(
    forks: Server, whole: tuple[Path, float], tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "results")
    (cells,) = tmp_path.glob("runs/*/cells")
    arrays = max(path.stat().st_size for path in cells.glob("*.npz"))
    shutil.rmtree(cells)
    (trained,) = tmp_path.glob("runs/*/checkpoint.pt")
    before = trained.read_bytes()
    assert forks.act(tmp_path, "run", tmp_path, largest=arrays - 1) == 3
    assert "File too large" in (tmp_path / "said.txt").read_text()
    assert all(row in rows(whole[0]) or row.status == "failed" for row in rows(tmp_path))
    assert rows(tmp_path) != rows(whole[0])
    assert trained.read_bytes() == before
    assert forks.act(tmp_path, "run", tmp_path) == 0
    assert rows(tmp_path) == rows(whole[0])


# --- data -----------------------------------------------------------------------------------------------------------


def content(folder: Path) -> dict[str, bytes]:
    """The files that count: no lock, nothing half-written by somebody who was killed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("said.txt", "lock") and path.suffix != ".part"
    }


def test_preparing_data_killed_twenty_times_makes_the_same_images(
    forks: Server, tmp_path: Path, tally: dict[str, int]
) -> None:
    tally["tries"] = KILLS
    reference, folder = tmp_path / "whole", tmp_path / "killed"
    reference.mkdir()
    folder.mkdir()
    seconds = timed(forks, reference, "prepare", reference)
    expected = content(reference)
    made: set[str] = set()

    def look() -> None:
        now = content(folder)
        parts = {int(Path(name).stem) for name in now if name.startswith("parts")}
        shards = [name for name in now if name.endswith(".npy")]
        for name in shards:
            tally["wrong"] += now[name] != expected[name]
            parts |= set(range(int(Path(name).stem), int(Path(name).stem) + 20))
        tally["lost"] += len(made - {str(i) for i in parts})  # images
        made.update(str(i) for i in parts)

    def finished() -> None:
        now = content(folder)
        tally["lost"] += len(expected.keys() - now.keys())
        tally["wrong"] += sum(now[name] != expected.get(name) for name in now)
        made.clear()
        shutil.rmtree(folder)
        folder.mkdir()

    killed(forks, ("prepare", folder), seconds, look, finished)


def test_a_disk_that_is_full_while_data_are_prepared_is_told_and_mended(
    forks: Server, tmp_path: Path
) -> None:
    reference, folder = tmp_path / "whole", tmp_path / "full"
    reference.mkdir()
    folder.mkdir()
    timed(forks, reference, "prepare", reference)
    for largest, why in ((500, "File too large"), (5000, "written")):  # an image; a shard of twenty
        assert forks.act(folder, "prepare", folder, largest=largest) == 3
        said = (folder / "said.txt").read_text()
        assert "cannot write" in said
        assert why in said
    assert forks.act(folder, "prepare", folder) == 0
    assert content(folder) == content(reference)


CONTENT = np.random.default_rng(0).bytes(400_000)


class Slowly(BaseHTTPRequestHandler):
    """A mirror that takes half a second for the file."""

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        with contextlib.suppress(OSError):  # who asked was killed
            for begin in range(start, len(CONTENT), 20_000):
                self.wfile.write(CONTENT[begin : begin + 20_000])
                time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slowly) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/toy.bin"
        finally:
            server.shutdown()
            thread.join()


def test_fetching_killed_twenty_times_goes_on_where_it_was_and_ends_in_the_right_file(
    forks: Server, mirror: str, tmp_path: Path, tally: dict[str, int]
) -> None:
    tally["tries"] = KILLS
    path, part = tmp_path / "toy" / "toy.bin", tmp_path / "toy" / ".toy.bin.part"
    act = ("fetch", tmp_path, mirror, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    have = 0

    def look() -> None:
        nonlocal have
        now = path.read_bytes() if path.exists() else part.read_bytes() if part.exists() else b""
        tally["wrong"] += not CONTENT.startswith(now)
        tally["lost"] += len(now) < have
        have = len(now)

    def finished() -> None:
        nonlocal have
        have = 0
        tally["wrong"] += path.read_bytes() != CONTENT
        assert [file.name for file in path.parent.iterdir()] == ["toy.bin"]
        shutil.rmtree(path.parent)

    killed(forks, act, 0.5, look, finished)


def test_a_disk_that_is_full_while_data_are_fetched_is_told_and_mended(
    forks: Server, mirror: str, tmp_path: Path
) -> None:
    act = ("fetch", tmp_path, mirror, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert forks.act(tmp_path, *act, largest=100_000) == 3
    assert "File too large" in (tmp_path / "said.txt").read_text()
    assert not (tmp_path / "toy" / "toy.bin").exists()
    assert forks.act(tmp_path, *act) == 0
    assert (tmp_path / "toy" / "toy.bin").read_bytes() == CONTENT


# --- reporting ------------------------------------------------------------------------------------------------------

NAME = "gnm_supp_table3"


def measured(root: Path, value: float) -> Path:
    row = ResultRow(
        protocol=NAME, tier="demo", model="GNM", train="scenes(rule='mnist4')", dataset="MNIST-4",
        metric="Parameters", dialect="exact", value=value, n=1, better="neither",
    )  # fmt: skip
    results.write(root / "results" / "demo" / f"{NAME}.csv", [row], ResultRow)
    return root


@pytest.fixture(scope="module")
def reports(forks: Server, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """The pages of two results."""
    found = []
    for value in (1_000_000.0, 2_930_708.0):
        root = measured(tmp_path_factory.mktemp("report"), value)
        timed(forks, root, "report", root, NAME)
        found.append(content(root / "reports"))
    return found


def test_reporting_killed_twenty_times_leaves_old_pages_or_new_ones_and_no_part_of_either(
    forks: Server,
    reports: list[dict[str, bytes]],
    tmp_path: Path,
    tally: dict[str, int],
) -> None:
    tally["tries"] = KILLS
    old, new = reports
    assert old.keys() == new.keys()
    act = ("report", tmp_path, NAME)

    def begin() -> None:
        shutil.rmtree(tmp_path / "reports", ignore_errors=True)
        measured(tmp_path, 1_000_000.0)
        assert forks.act(tmp_path, *act) == 0, (tmp_path / "said.txt").read_text()
        measured(tmp_path, 2_930_708.0)

    def look() -> None:
        for name, page in content(tmp_path / "reports").items():
            tally["wrong"] += page not in (old[name], new[name])

    def finished() -> None:
        now = content(tmp_path / "reports")
        tally["lost"] += len(new.keys() - now.keys())
        tally["wrong"] += sum(now[name] != new.get(name) for name in now)
        begin()

    began = time.monotonic()
    begin()
    killed(forks, act, time.monotonic() - began, look, finished)


def test_a_disk_that_is_full_while_pages_are_written_is_told_and_mended(
    forks: Server, reports: list[dict[str, bytes]], tmp_path: Path
) -> None:
    measured(tmp_path, 2_930_708.0)
    assert forks.act(tmp_path, "report", tmp_path, NAME, largest=2000) == 3
    assert "File too large" in (tmp_path / "said.txt").read_text()
    assert forks.act(tmp_path, "report", tmp_path, NAME) == 0
    assert content(tmp_path / "reports") == reports[1]


def test_what_a_killed_writer_left_is_swept_away_when_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "cell[1].json"
    old, young, other = (
        tmp_path / name for name in (".cell[1].json.a.part", ".cell[1].json.b.part", ".x.c.part")
    )
    for part in (old, young, other):
        part.write_text("half")
    for part in (old, other):
        os.utime(part, (0, 0))
    write_text(path, "whole")
    assert {file.name for file in tmp_path.iterdir()} == {path.name, young.name, other.name}
