"""Launching: nothing finished is lost, nothing wrong enters the CSV, and calling again is all the mending there is.

Each test drives the real command line with the laboratory's tiny model, in processes of its own where something happens
to one.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from reprise.core.protocol import TIERS
from reprise.core.workspace import Workspace
from reprise.launch import executors
from reprise.launch.display import Display
from reprise.launch.estimate import estimates
from reprise.launch.executors import Place
from reprise.launch.plan import Job, Request, plan

from .driving import call, call_here, files, started, statuses, table, wait
from .laboratory_cli import installed

STEPS = TIERS["demo"].training["steps"]
SLOW = ("run", "tiny", "--models", "Slow", "--metrics", "Bound,Bound-4", "--workers", "2")
TINY = ("run", "tiny", "--models", "Sketch,Sketch (wide)", "--metrics", "Bound,Bound-4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted call leaves behind."""
    root = tmp_path_factory.mktemp("whole")
    code, _, err = call(root, *SLOW)
    assert code == 0, err
    return root


def test_killed_at_any_moment_and_called_again_the_csv_is_identical(
    whole: Path, tmp_path: Path
) -> None:
    checkpoint = "runs/*/checkpoint.pt"
    seen: set[int] = set()

    def a_new_checkpoint() -> bool:
        now = {path.stat().st_mtime_ns for path in tmp_path.glob(checkpoint)}
        fresh = bool(now - seen)
        seen.update(now)
        return fresh

    moments: list[Callable[[], bool]] = [
        files(tmp_path, "runs/*/run.json"),  # before the first step
        a_new_checkpoint,  # while training
        a_new_checkpoint,  # while training, after a resumption
        files(tmp_path, "runs/*/cells/*.json"),  # between two cells
    ]
    for moment in moments:
        with started(tmp_path, *SLOW, "--checkpoint-every", "0.4s") as process:
            wait(process, moment)
    code, _, err = call(tmp_path, *SLOW)
    assert code == 0, err
    assert table(tmp_path) == table(whole)


def test_when_all_is_done_calling_again_changes_no_byte(whole: Path, tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}

    before = content()
    code, _, err = call_here(whole, *SLOW)
    assert (code, "0 to do" in err) == (0, True)
    assert content() == before
    # The committed CSV is memory enough: a fresh clone has no runs/.
    shutil.copytree(whole / "results", tmp_path / "results")
    code, _, err = call_here(tmp_path, *SLOW)
    assert (code, "0 to do" in err) == (0, True)
    assert table(tmp_path, timing=True) == table(whole, timing=True)


def test_a_budget_stops_at_a_checkpoint_and_calling_again_goes_on(
    whole: Path, tmp_path: Path
) -> None:
    stopped = 0
    for budget in (4, 8, 16, 32, 64):  # a busy machine needs longer
        code, _, err = call_here(tmp_path, *SLOW, "--budget", f"{budget}s")
        if code == 0:
            assert "the budget is over" not in err
            break
        assert code == 2, err  # what a script loops on
        stopped += 1
        assert "to do in 1 run; call again to go on" in err
    assert stopped > 0
    assert table(tmp_path) == table(whole)


def test_an_interruption_stops_at_a_checkpoint_with_exit_code_130(
    whole: Path, tmp_path: Path
) -> None:
    with started(tmp_path, *SLOW, "--checkpoint-every", "1h") as process:
        wait(process, files(tmp_path, "runs/*/run.json"))
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: driver and workers alike
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "call again to go on" in err
    assert list(tmp_path.glob("runs/*/checkpoint.pt")), err
    assert call_here(tmp_path, *SLOW)[0] == 0
    assert table(tmp_path) == table(whole)


def test_a_signal_while_a_worker_is_started_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes seconds, and who sends one SIGTERM sends no second one."""
    made: list[str] = []

    class Late(executors._Worker):
        def __init__(self, job: Job, *others: Any) -> None:
            super().__init__(job, *others)
            made.append(job.run.id)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(executors, "_Worker", Late)
    endless = ("--models", "Sketch,Slow", "--set", "training.steps=100000", "--workers", "2")
    code, _, err = call_here(tmp_path, "run", "tiny", *endless, "--metrics", "Bound")
    assert code == 130, err
    assert "call again to go on" in err
    assert len(made) == 1


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    """A call whose metrics fail in every way there is."""
    root = tmp_path_factory.mktemp("mixed")
    code, _, err = call_here(
        root, "run", "tiny", "--models", "Sketch,Sketch (wide),Diverging,To come"
    )
    return root, code, err


def test_one_failed_cell_never_stops_or_hides_the_others(mixed: tuple[Path, int, str]) -> None:
    root, code, err = mixed
    found = statuses(root)
    for model in ("Sketch", "Sketch (wide)"):
        assert [found[model, metric] for metric in ("Bound", "Bound-4", "Raises", "NaN")] == [
            "ok", "ok", "failed", "failed",
        ]  # fmt: skip
        assert found[model, "Dies"] == "failed"
        assert found[model, "Needy"] == found[model, "Pointless"] == "n/a"
    assert found["Diverging", "Bound"] == "diverged"
    assert found["To come", "Bound"] == "not available yet"
    assert code == 1
    assert "6 cells failed" in err
    assert "6 cells diverged" in err
    notes = {row["metric"]: row["note"] for row in table(root) if row["model"] == "Sketch"}
    assert notes["Raises"] == "RuntimeError: the judge has no paper"
    assert "not a finite number" in notes["NaN"]
    assert "signal 9" in notes["Dies"]
    assert notes["Needy"] == "Sketch lacks the capability Unheard"
    errors = list(root.glob("runs/*/error-*.txt"))
    assert any("the judge has" in path.read_text() for path in errors)


def test_a_measurement_that_no_row_can_hold_costs_its_cell_and_not_the_table(
    tmp_path: Path,
) -> None:
    for _ in range(2):
        code, _, err = call_here(tmp_path, "run", "odd", "--set", "training.steps=20")
        assert code == 3, err
        rows = {row["metric"]: row for row in table(tmp_path, name="odd")}
        assert {metric: row["status"] for metric, row in rows.items()} == {
            "Bound": "ok", "Below": "failed", "Wide": "failed",
        }  # fmt: skip
        for metric, field in (("Below", "censored='<'"), ("Wide", "stderr=nan")):
            assert f"laboratory:Broken returned a Measurement with {field}" in rows[metric]["note"]


def test_labels_that_differ_in_scoring_share_one_training(mixed: tuple[Path, int, str]) -> None:
    root, _, _ = mixed
    rows = [row for row in table(root) if row["metric"] == "Bound" and row["status"] == "ok"]
    assert len({row["run"] for row in rows}) == 1
    assert len({row["cell"] for row in rows}) == len(rows) == 2


def test_rows_carry_their_provenance(whole: Path) -> None:
    for row in table(whole, timing=True):
        assert row["torch"]
        assert row["device"].startswith("cpu x")
        assert row["precision"] == "fp32"
        assert row["steps"] == str(STEPS)
        assert row["parameters"] == "656"
        assert row["data_digest"] == "000000000030"
        assert row["train"] == "laboratory:Blobs(count=48)"
        assert row["trained_commit"].removesuffix("-dirty") == row["commit"]
        assert float(row["train_seconds"]) > 0
        artifact = whole / "runs" / row["artifact"]
        assert artifact.exists()
        assert row["dialect"] == f"particles={2 if row['metric'] == 'Bound' else 4}"


def test_a_changed_option_gets_a_row_of_its_own(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    root = tmp_path / "copy"
    before = table(root)
    code, _, err = call_here(root, *SLOW, "--set", "model.lr=2e-3", "--set", "training.steps=5")
    assert code == 0, err
    after = table(root)
    assert [row for row in after if row in before] == before
    new = [row for row in after if row not in before]
    assert {row["model"] for row in new} == {"Slow [lr=0.002, steps=5]"}
    assert {row["steps"] for row in new} == {"5"}


def test_two_drivers_on_one_folder_do_the_work_once(whole: Path, tmp_path: Path) -> None:
    with started(tmp_path, *SLOW) as first, started(tmp_path, *SLOW) as second:
        outputs = [first.communicate(timeout=120), second.communicate(timeout=120)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert "waiting for process" in outputs[0][1] + outputs[1][1]
    assert table(tmp_path) == table(whole)
    (log,) = tmp_path.glob("runs/*/log.csv")
    assert [line.split(",")[0] for line in log.read_text().splitlines()[1:]] == [
        "100",
        "200",
        "300",
    ]


def test_damaged_files_are_named_and_mended_by_the_next_call(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(whole, root)
    shutil.rmtree(root / "results")
    damaged, *_ = sorted(root.glob("runs/*/cells/*.json"))
    damaged.write_text(damaged.read_text()[:40])
    (checkpoint,) = root.glob("runs/*/checkpoint.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    code, _, err = call_here(root, *SLOW)
    assert code == 3
    assert "checkpoint.pt is truncated or damaged" in err
    assert "Traceback" not in err
    assert sorted(statuses(root).values()) == ["failed", "ok"]  # what was measured stays
    checkpoint.unlink()
    assert call_here(root, *SLOW)[0] == 0
    assert table(root) == table(whole)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"0" * 4096)


def test_a_full_disk_loses_nothing(whole: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small file system that can be filled")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    try:
        with started(disk, *SLOW, "--checkpoint-every", "0.3s") as process:
            wait(process, files(disk, "runs/*/checkpoint.pt"))
            fill(disk / "filler")
            _, err = process.communicate(timeout=60)
        assert process.returncode == 3, err
        assert "No space left on device" in err
        assert "Traceback" not in err
        (disk / "filler").unlink()
        code, _, err = call_here(disk, *SLOW)
        assert code == 0, err
        assert table(disk) == table(whole)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


def test_a_driver_that_is_killed_leaves_no_worker_behind(tmp_path: Path) -> None:
    with started(tmp_path, *SLOW, "--set", "training.steps=100000") as process:
        wait(process, files(tmp_path, "runs/*/run.json"))
        time.sleep(0.5)
        os.kill(process.pid, signal.SIGKILL)  # the driver alone
        process.wait()
        for _ in range(300):
            if not exists(process.pid):
                return
            time.sleep(0.1)
        raise AssertionError("a worker went on without its driver")


def exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_display_promises_no_end_before_a_cell_has_been_timed() -> None:
    shown = Display({"a": ("m", 100, 2)}, 1)
    assert shown.about() == "no estimate yet"
    shown.start("a")
    shown.pace["m"] = 3.0
    assert shown.about() == "about 5 min left before anything is measured"
    shown.left["a"] = ("m", 0, 2)
    assert shown.about() == "no estimate yet"
    shown.spent, shown.count = 40.0, 1
    assert shown.about() == "about 80 s left"


def test_a_display_counts_no_step_of_a_run_that_is_not_trained(tmp_path: Path) -> None:
    with installed():
        for metrics, steps in (("Parameters",), 0), (("Bound", "Parameters"), STEPS):
            (job,) = plan(
                Request("faulty", "demo", ("Sketch",), (), metrics), Workspace(tmp_path)
            ).jobs
            assert Display.of([job], 1).left == {
                job.run.id: ("laboratory:Sketch", steps, len(metrics))
            }


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(tmp_path: Path) -> None:
    code, out, _ = call_here(tmp_path, *SLOW, "--dry-run")
    assert code == 0
    assert "2 cells to do in 1 run" in out
    assert "peak memory" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [STEPS, 20])  # in the short training several shares are one step
def test_the_disk_that_a_dry_run_names_is_what_the_run_then_takes(
    steps: int, tmp_path: Path
) -> None:
    place, changes = Workspace(tmp_path), (("training.steps", str(steps)), ("model.latents", "60"))
    with installed():
        asked = Request("tiny", "demo", ("Sketch",), (), ("Bound",), changes=changes)
        ((job, found),) = estimates(plan(asked, place).jobs, place, Place("cpu", workers=1))
    assert not found.trouble
    words = [word for key, value in changes for word in ("--set", f"{key}={value}")]
    only = ("--models", "Sketch", "--metrics", "Bound", "--device", "cpu")
    code, _, err = call_here(tmp_path, "run", "tiny", *only, *words)
    assert code == 0, err
    left = [file for file in place.run(job.run.id).rglob("*") if file.parent.name != "cells"]
    assert found.disk == pytest.approx(sum(f.stat().st_size for f in left if f.is_file()), rel=0.03)


def test_what_a_run_is_can_be_read(whole: Path) -> None:
    (description,) = whole.glob("runs/*/run.json")
    content = json.loads(description.read_text())
    assert content["id"] == description.parent.name
    assert content["settings"]["training"]["steps"] == STEPS


def test_protocols_asked_for_together_are_one_list_of_runs_and_end_as_one_by_one(
    tmp_path: Path,
) -> None:
    """`tiny` and its `twin` name the same runs: each is trained once, and both tables are written."""
    together, apart = tmp_path / "together", tmp_path / "apart"
    only = ("--models", "Sketch,Sketch (wide)", "--metrics", "Bound,Bound-4")
    code, _, err = call_here(together, "run", "tiny", "twin", *only)
    assert code == 0, err
    assert "tiny at tier demo: 4 cells, 4 to do in 1 run" in err
    assert "twin at tier demo: 4 cells, 4 to do in 1 run" in err
    assert "all of them: 4 cells to do in 1 run" in err
    for name in ("tiny", "twin"):
        assert call_here(apart, "run", name, *only)[0] == 0
    ours, theirs = (
        {name: table(root, name=name) for name in ("tiny", "twin")} for root in (together, apart)
    )
    assert ours == theirs
    assert [row["value"] for row in ours["tiny"]] == [row["value"] for row in ours["twin"]]
    assert len(list(together.glob("runs/*/run.json"))) == 1


def test_a_number_without_a_meaning_is_not_applicable_and_no_failure(tmp_path: Path) -> None:
    asked = ("run", "tiny", "--models", "Sketch", "--metrics", "Pointless")
    code, _, err = call_here(tmp_path, *asked)
    assert code == 0, err
    (row,) = table(tmp_path)
    assert (row["status"], row["note"], row["value"]) == ("n/a", "there is nothing to see", "")
    before = (tmp_path / "results" / "demo" / "tiny.csv").read_bytes()
    assert "0 to do in 0 runs" in call_here(tmp_path, *asked)[2]
    assert (tmp_path / "results" / "demo" / "tiny.csv").read_bytes() == before


def test_any_metric_can_be_measured_along_a_training(tmp_path: Path) -> None:
    code, _, err = call_here(
        tmp_path, "run", "tiny", "--models", "Sketch,Half", "--metrics", "Bound"
    )
    assert code == 0, err
    half, whole = sorted(table(tmp_path), key=lambda row: int(row["steps"]))
    assert half["run"] == whole["run"]
    assert half["cell"] != whole["cell"]
    assert int(half["steps"]) * 2 == int(whole["steps"]) == STEPS
    assert half["value"] != whole["value"]
    assert "after 50% of its training" in half["model_spec"]


def test_what_a_training_logged_is_a_number_of_its_run_up_to_the_weights_step(
    tmp_path: Path,
) -> None:
    code, _, err = call_here(tmp_path, "run", "course")
    assert code == 0, err
    half, whole = sorted(table(tmp_path, name="course"), key=lambda row: int(row["steps"]))
    assert half["run"] == whole["run"]
    with (tmp_path / "runs" / whole["run"] / "log.csv").open(newline="") as file:
        log = {int(line["step"]): float(line["loss"]) for line in csv.DictReader(file)}
    for row in (half, whole):  # the last twentieth of either is one line
        assert float(row["value"]) == log[max(step for step in log if step <= int(row["steps"]))]
        assert row["artifact"]
    assert half["value"] != whole["value"]


def test_weights_that_were_not_kept_are_said_to_be_missing(tmp_path: Path) -> None:
    call_here(tmp_path, "run", "tiny", "--models", "Sketch", "--metrics", "Bound")
    (kept,) = tmp_path.glob("runs/*/snapshots/0.5.pt")
    kept.unlink()
    code, _, _ = call_here(tmp_path, "run", "tiny", "--models", "Half", "--metrics", "Bound")
    assert code == 3
    (row,) = [row for row in table(tmp_path) if row["model"] == "Half"]
    assert row["status"] == "failed"
    assert "50% of the training" in row["note"]


def test_what_no_training_changes_is_measured_without_one_and_stays_when_there_is(
    tmp_path: Path,
) -> None:
    asked = ("run", "faulty", "--models", "Sketch")
    code, _, err = call_here(tmp_path, *asked, "--metrics", "Parameters")
    assert code == 0, err
    assert "train " not in err
    assert not list(tmp_path.glob("runs/*/checkpoint.pt"))
    (counted,) = table(tmp_path, timing=True, name="faulty")
    assert (counted["status"], counted["steps"], counted["trained_commit"]) == ("ok", "0", "")
    code, _, err = call_here(tmp_path, *asked)
    assert code == 0, err
    now = {row["metric"]: row for row in table(tmp_path, timing=True, name="faulty")}
    assert now["Parameters"] == counted
    assert now["Bound"]["steps"] == str(STEPS)


@pytest.mark.skipif(
    find_spec("mitsuba") is None, reason="needs Mitsuba: pip install 'reprise[render]'"
)
def test_a_dry_run_draws_no_image_and_says_how_many_have_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "cache"))
    asked = ("run", "gnm_presence", "--tier", "demo", "--datasets", "Arrow room", "--dry-run")
    code, out, err = call(tmp_path, *asked)
    assert code == 0, err
    assert re.search(r"^\d[\d,]* images of arrow_room\(.*\) have to be drawn first", out, re.M)
    assert not list((tmp_path / "cache").glob("**/*.npz"))
