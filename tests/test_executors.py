"""Where runs are made is said on the command line; what is not there is told in one sentence, and nothing is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprise import cli

TABLE = ("run", "gnm_table1", "--tier", "demo", "--models", "GNM", "--metrics", "LL")
REFUSED = {
    "there is no sbatch here; call on a machine that submits to a Slurm cluster": ("--executor", "slurm"),
    "belong to --executor slurm": ("--partition", "gpu"),
    "expected KEY=VALUE such as account=lab": ("--executor", "slurm", "--slurm", "account"),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_a_queue_that_is_not_there_or_was_not_asked_for_is_told_in_one_sentence(
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("reprise.launch.processes.warm_up", lambda: None)  # nothing is started
    monkeypatch.setenv("PATH", str(tmp_path / "no programs"))
    assert cli.main([*TABLE, *REFUSED[words], "--root", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert words in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("reprise: ")
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.glob("runs/*/*"))  # no run was begun
