"""Where runs are made is said on the command line; what is not there is told in one sentence, and nothing is done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .test_launch import call

TINY = ("run", "tiny", "--models", "Sketch", "--metrics", "Bound")
REFUSED = {
    "there is no sbatch here; call on a machine that submits to a Slurm cluster": ("--executor", "slurm"),
    "belong to --executor slurm": ("--partition", "gpu"),
    "expected KEY=VALUE such as account=lab": ("--executor", "slurm", "--slurm", "account"),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_a_queue_that_is_not_there_or_was_not_asked_for_is_told_in_one_sentence(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))
    code, out, err = call(tmp_path, *TINY, *REFUSED[words])
    assert code == 3
    assert words in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("reprise: ")
    assert "Traceback" not in err
    assert out == ""
    assert not [name for name in os.listdir(tmp_path) if name != "runs"]
