"""Locks: one process at a time, who waits does not hang, and a kill leaves nothing stale."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reprise.core.errors import UsageError
from reprise.core.locks import locked, made_once
from reprise.core.progress import watched_by


def until(true: Callable[[], bool]) -> None:
    for _ in range(1500):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to that")


def test_of_all_who_ask_one_makes_the_file_and_the_others_take_it(tmp_path: Path) -> None:
    made, seen = [], list[str]()

    def make() -> bytes:
        made.append(1)
        until(lambda: len(seen) >= 2)  # the others are waiting
        return b"made"

    def ask(_: int) -> bytes:
        with watched_by(lambda what, done, total: seen.append(what)):
            made_once(tmp_path / "deep" / "a.npz", make)
        return (tmp_path / "deep" / "a.npz").read_bytes()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(ask, range(3))) == [b"made"] * 3
    assert len(made) == 1
    assert set(seen) == {"waiting for another process"}


def test_whoever_is_killed_while_making_leaves_it_to_the_next(tmp_path: Path) -> None:
    path, begun = tmp_path / "a.npz", tmp_path / "begun"
    script = (
        "import pathlib, time\nfrom reprise.core.locks import made_once\n"
        f"made_once(pathlib.Path({str(path)!r}), "
        f"lambda: (pathlib.Path({str(begun)!r}).touch(), time.sleep(60)) and b'slow')"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        until(begun.exists)
        with locked(path.with_suffix(".lock"), stop=lambda: True) as mine:
            assert not mine
        process.kill()
    made_once(path, lambda: b"quick")
    assert path.read_bytes() == b"quick"


def test_what_fails_is_not_kept_and_frees_the_lock(tmp_path: Path) -> None:
    def fails() -> bytes:
        raise UsageError("no scenes")

    for _ in range(2):
        with pytest.raises(UsageError, match="no scenes"):
            made_once(tmp_path / "a.npz", fails)
    made_once(tmp_path / "a.npz", lambda: b"made")
    assert (tmp_path / "a.npz").read_bytes() == b"made"


def test_who_waits_is_told_for_whom_once(tmp_path: Path) -> None:
    said = list[str]()
    with (
        locked(tmp_path / "lock"),
        locked(tmp_path / "lock", said.append, lambda: len(said) > 0, every=0) as mine,
    ):
        assert not mine
    (sentence,) = said
    assert sentence.startswith("waiting for process ")
    with locked(tmp_path / "lock") as mine:
        assert mine


def test_a_lock_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UsageError, match=r"cannot write .*lock"),
        locked(tmp_path / "file" / "lock"),
    ):
        pass
