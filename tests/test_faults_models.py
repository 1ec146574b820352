"""A visitor's model may do anything: its own cells say in one sentence what it did, and nobody else's are touched."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from .driving import call, started, table

CALL = ("run", "faulty", "--workers", "2", "--set", "training.steps=20")
HANGING = ("loss hangs", "log_weights hangs deaf")
# A busy machine may need some seconds to start a worker; who hangs for good hangs longer.
STALL = ("--models", ",".join(HANGING), "--stall", "20s")
# fault -> (statuses of Bound and Parameters, words of the note): parameters are counted before any training.
DIED = "; what it printed is in runs/"
EXPECTED = {
    "init raises": ("failed", "failed", "RuntimeError: init has no paint left"),
    "init lingers": ("ok", "ok", ""),
    "loss raises": ("failed", "ok", "RuntimeError: loss has no paint left"),
    "log_weights raises": ("failed", "ok", "RuntimeError: log_weights has no paint left"),
    "decode raises": ("failed", "ok", "RuntimeError: decode has no paint left"),
    "loss exits": ("failed", "ok", f"worker died (exit code 0){DIED}"),
    "loss is gone": ("failed", "ok", f"worker died (exit code 7){DIED}"),
    "loss is killed": ("failed", "ok", f"worker died (signal 9, as when memory runs out){DIED}"),
    "loss hangs": ("failed", "ok", f"no progress for 20 s{DIED}"),
    "log_weights hangs deaf": ("failed", "ok", f"no progress for 20 s{DIED}"),
    "loss eats memory": ("failed", "ok", "t allocate memory"),
    "log_weights eats lists": ("failed", "ok", "MemoryError"),
    "loss prints": ("ok", "ok", ""),
    "loss per image": ("failed", "ok", "Faulty.loss: the loss is no scalar tensor of floats"),
    "loss alone": ("failed", "ok", "Faulty.loss returned Tensor; expected (scalar, dictionary"),
    "loss of integers": ("failed", "ok", "Faulty.loss: the loss is no scalar tensor of floats"),
    "loss with a number": ("failed", "ok", "Faulty.loss: elbo is no scalar tensor of floats"),
    "loss elsewhere": ("failed", "ok", "meta"),
    "loss nan": ("diverged", "ok", "loss or gradient not finite at step 0: loss=nan"),
    "log_weights swapped": ("failed", "ok", "Faulty.log_weights(x, 2) returned shape (16, 2); expected"),
    "decode one image": ("failed", "ok", "Faulty.decode returned shape (1, 8, 8); expected"),
}  # fmt: skip


@pytest.fixture(scope="module")
def called(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str, str]:
    root = tmp_path_factory.mktemp("faulty")
    others = ",".join(["Sketch", *(fault for fault in EXPECTED if fault not in HANGING)])
    code, out, err = call(root, *CALL, "--models", others)
    hung, more, said = call(root, *CALL, *STALL)
    return root, max(code, hung), out + more, err + said


def by_model(root: Path) -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in table(root, name="faulty"):
        found.setdefault(row["model"].partition(" [")[0], {})[row["metric"]] = row
    return found


@pytest.mark.parametrize("fault", EXPECTED)
def test_a_fault_costs_its_own_cells_and_the_row_says_which(
    fault: str, called: tuple[Path, int, str, str]
) -> None:
    rows = by_model(called[0])[fault]
    bound, parameters, words = EXPECTED[fault]
    assert (rows["Bound"]["status"], rows["Parameters"]["status"]) == (bound, parameters)
    for row in rows.values():
        assert "\n" not in row["note"]
        if row["status"] == "ok":
            assert float(row["value"])
            assert row["note"] == ""
        else:
            assert words in row["note"]
            assert row["value"] == ""


def test_every_fault_is_tried_and_a_healthy_model_beside_them_is_measured(
    called: tuple[Path, int, str, str],
) -> None:
    root, code, _, err = called
    found = by_model(root)
    assert found.keys() == {"Sketch", *EXPECTED}
    assert [row["status"] for row in found["Sketch"].values()] == ["ok", "ok"]
    assert code == 3  # some break the contract: that is for the user to mend, and told
    told = [line for line in err.splitlines() if line.startswith("reprise: ")]
    assert any("Faulty.loss returned Tensor; expected" in line for line in told)
    assert "cells failed; the rows say why" in err
    assert "Traceback" not in err


def test_what_a_model_prints_stands_in_its_own_file_and_nowhere_else(
    called: tuple[Path, int, str, str],
) -> None:
    root, _, out, err = called
    assert "printed to" not in out + err
    assert "\0" not in out + err
    said = [path.read_bytes() for path in root.glob("runs/*/output.txt")]
    assert sum(b"printed to stdout" in text and b"printed to stderr" in text for text in said) == 1


def test_where_a_worker_hung_is_written_down(called: tuple[Path, int, str, str]) -> None:
    notes = by_model(called[0])["loss hangs"]["Bound"]["note"]
    text = (called[0] / notes.rpartition(" ")[2]).read_text()
    assert "in _fail" in text
    assert "in loss" in text


# One of each kind that failed otherwise: in which place, alone, with its process, in silence, for good.
MENDED = (
    "Sketch", "init raises", "decode raises", "loss exits", "loss is killed", "log_weights hangs deaf",
    "loss eats memory", "loss per image", "loss nan",
)  # fmt: skip


def test_once_it_is_mended_the_next_call_fills_the_holes(
    called: tuple[Path, int, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = called[0]
    before = [row for row in table(root, timing=True, name="faulty") if row["status"] != "failed"]
    monkeypatch.setenv("LABORATORY_MENDED", "1")
    code, _, err = call(root, *CALL, "--models", ",".join(MENDED))
    assert code == 1, err  # what diverged stays so, and every call says it
    after = table(root, timing=True, name="faulty")
    assert [row for row in after if row in before] == before
    mended = [row["status"] for row in after if row["model"].partition(" [")[0] in MENDED]
    assert len(mended) == 2 * len(MENDED)
    assert set(mended) == {"ok", "diverged"}


def test_a_dry_run_shows_no_print_and_waits_for_no_hanging_model(tmp_path: Path) -> None:
    asked = (*CALL, "--models", "loss prints,loss hangs", "--stall", "20s", "--dry-run")
    with started(tmp_path, *asked) as process:
        out, _ = process.communicate(timeout=250)
    assert process.returncode == 3
    assert "printed to" not in out
    assert re.search(r"^not timed, and in none of these numbers: .*: no answer for 20 s", out, re.M)
    assert os.listdir(tmp_path) == []
