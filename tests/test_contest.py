"""What counts in a contest: of short work the second of a turn, of long work all there is."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from reprise.benchmarks import contest
from reprise.benchmarks.contest import Contest, Contestant


@pytest.mark.parametrize(("short", "of_a_turn"), [(60.0, 2), (0.0, 1)], ids=["short", "long"])
def test_work_that_others_slow_down_does_not_count(
    short: float, of_a_turn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "SHORT", short)
    marks = tmp_path / "marks"
    leave_a_mark = (os.system, f"printf . >> '{marks}'")
    with Contest([Contestant("one", partial, leave_a_mark)], warm=1) as held:
        for _ in range(3):
            held.turn("one")
        seconds = held.times()["one"].seconds
    assert len(marks.read_text()) == 1 + 3 * of_a_turn
    assert len(seconds) == 3
