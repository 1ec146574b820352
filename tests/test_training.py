"""Training: exact resumption, checkpoints that cannot lie or harm, and loud divergence."""

from __future__ import annotations

import csv
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reprise.core.dataset import Examples
from reprise.core.errors import ContractError, DataError, StaleError, UsageError
from reprise.core.model import Recipe
from reprise.core.run import Run
from reprise.core.spec import SHARES, dataset, model
from reprise.training import checkpoint, engine
from reprise.training.fit import LOG, _batches, fit, never


@pytest.fixture(autouse=True)
def _visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


CPU = engine.choose("cpu", threads=1)


def sketch(seed: int = 0, steps: int = 60, **options: float) -> Run:
    return Run(
        model("laboratory:Sketch", **options),
        dataset("laboratory:Blobs"),
        (("steps", steps),),
        seed,
    )


def every(n: int) -> Callable[[], bool]:
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls % n == 0

    return stop


def weights(folder: Path, run: Run) -> checkpoint.Checkpoint:
    found = checkpoint.load(folder / checkpoint.FILE, run)
    assert found is not None
    return found


@pytest.mark.parametrize(("optimizer", "precision"), [("rmsprop", "fp32"), ("adam", "bf16")])
def test_an_interrupted_run_ends_in_the_same_weights(
    tmp_path: Path, optimizer: str, precision: str
) -> None:
    run = Run(
        model("laboratory:Sketch"),
        dataset("laboratory:Blobs"),
        (("optimizer", optimizer), ("steps", 60)),
    )
    chosen = engine.choose("cpu", precision, 1)
    assert fit(run, chosen, tmp_path / "whole", log_every=8).status == "finished"
    stop, calls = every(13), 1
    while fit(run, chosen, tmp_path / "parts", stop=stop, log_every=8).status == "stopped":
        calls += 1
    assert calls > 3
    whole, parts = weights(tmp_path / "whole", run), weights(tmp_path / "parts", run)
    assert whole.model.keys() == parts.model.keys()
    assert all(torch.equal(whole.model[name], parts.model[name]) for name in whole.model)
    assert whole.model["seen"] == 60  # buffers count: each step was taken once

    def log(name: str) -> list[dict[str, str]]:
        with (tmp_path / name / LOG).open() as file:
            lines = list(csv.DictReader(file))
        return [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines]

    assert log("whole") == log("parts")
    assert [line["step"] for line in log("whole")] == [
        "8",
        "16",
        "24",
        "32",
        "40",
        "48",
        "56",
        "60",
    ]


def test_kept_weights_are_those_of_their_step_however_often_it_was_interrupted(
    tmp_path: Path,
) -> None:
    run = sketch(steps=60)
    fit(run, CPU, tmp_path / "whole")
    while fit(run, CPU, tmp_path / "parts", stop=every(7)).status == "stopped":
        pass
    for share in SHARES:
        step = max(1, round(share * 60))
        whole = checkpoint.load(checkpoint.snapshot(tmp_path / "whole", share), run)
        parts = checkpoint.load(checkpoint.snapshot(tmp_path / "parts", share), run)
        assert whole is not None
        assert parts is not None
        assert whole.step == parts.step == step
        assert whole.model["seen"] == step  # its buffers are of that step as well
        assert all(torch.equal(whole.model[name], parts.model[name]) for name in whole.model)


def test_seeds_differ_and_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    fit(sketch(0), CPU, tmp_path / "0")
    fit(sketch(1), CPU, tmp_path / "1")
    first, second = weights(tmp_path / "0", sketch(0)), weights(tmp_path / "1", sketch(1))
    assert not torch.equal(first.model["decoder.weight"], second.model["decoder.weight"])
    before = (tmp_path / "0" / checkpoint.FILE).read_bytes()
    fit(sketch(0), CPU, tmp_path / "0")
    assert (tmp_path / "0" / checkpoint.FILE).read_bytes() == before


def test_schedules_are_read_in_published_steps(tmp_path: Path) -> None:
    run = Run(
        model("laboratory:Sketch"),
        dataset("laboratory:Blobs"),
        (("steps", 10), ("time_scale", 0.5)),
    )
    fit(run, CPU, tmp_path, log_every=1)
    with (tmp_path / LOG).open() as file:
        assert [float(line["time"]) for line in csv.DictReader(file)] == [
            2.0 * t for t in range(10)
        ]


DROPPING = (("lr_after", 1e-4), ("lr_until", 60.0), ("steps", 60), ("time_scale", 0.5))


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_a_rate_that_drops_at_a_published_step_drops_there_interrupted_or_not(
    tmp_path: Path, optimizer: str
) -> None:
    run = Run(
        model("laboratory:Sketch"), dataset("laboratory:Blobs"), (*DROPPING, ("optimizer", optimizer))
    )  # fmt: skip
    rates: list[float] = []
    update = engine.Engine.update

    def noted(*arguments: Any) -> Any:
        rates.append(arguments[2].param_groups[0]["lr"])
        return update(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Engine, "update", noted)
        fit(run, CPU, tmp_path / "whole")
        # published step 60 is step 30 of a run at half length
        assert rates == pytest.approx([1e-3] * 30 + [1e-4] * 30)
        rates.clear()
        stop = every(13)
        while fit(run, CPU, tmp_path / "parts", stop=stop).status == "stopped":
            pass
        assert rates == pytest.approx([1e-3] * 30 + [1e-4] * 30)
    whole, parts = weights(tmp_path / "whole", run), weights(tmp_path / "parts", run)
    assert all(torch.equal(whole.model[name], parts.model[name]) for name in whole.model)


def test_groups_with_rates_of_their_own_drop_by_the_same_factor() -> None:
    groups = [{"params": [torch.ones(1, requires_grad=True)], "lr": lr} for lr in (1e-2, 1e-3)]
    optimizer = torch.optim.Adam(groups)
    high, low = [1e-2, 1e-3], [1e-3, 1e-4]
    for rate, expected in ((1.0, high), (0.1, low), (0.1, low), (1.0, high)):
        engine.set_rate(optimizer, rate)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)


def test_a_run_at_a_constant_rate_is_the_run_it_was_before_rates_could_drop() -> None:
    """Its id and its settings, which old checkpoints carry, know nothing of a drop; one with a drop is another run."""
    assert sketch().id == "sketch-blobs-s0-1123c478"
    assert not {"lr_until", "lr_after"} & sketch().settings["training"].keys()
    assert "lr_until" not in sketch().identity["training"]
    changed = Run(model("laboratory:Sketch"), dataset("laboratory:Blobs"), DROPPING)
    assert changed.settings["training"]["lr_until"] == 60.0
    assert changed.identity["training"]["lr_after"] == 1e-4
    with pytest.raises(UsageError, match="given together"):
        _ = Run(model("laboratory:Sketch"), dataset("laboratory:Blobs"), DROPPING[:1]).recipe


def test_an_epoch_shows_every_image_once(tmp_path: Path) -> None:
    run = sketch(steps=16)  # 64 images, batches of 8: two epochs
    images = run.data.split("train").image
    seen = [batch for _, batch in _batches(run, images, 0, CPU)]
    pixels = images[slice(None)]
    for epoch in (seen[:8], seen[8:]):
        assert sorted(x.tobytes() for batch in epoch for x in batch) == sorted(
            x.tobytes() for x in pixels
        )
    assert any((a != b).any() for a, b in zip(seen[:8], seen[8:], strict=True))


def test_a_resumed_run_keeps_the_precision_it_began_with(tmp_path: Path) -> None:
    fit(sketch(), engine.choose("cpu", "bf16", 1), tmp_path, stop=every(20))
    fit(sketch(), engine.choose("cpu", "fp32", 2), tmp_path)
    assert weights(tmp_path, sketch()).precision == "bf16"
    assert weights(tmp_path, sketch()).threads == 1


def test_a_checkpoint_names_every_code_that_trained_it(tmp_path: Path) -> None:
    fit(sketch(), CPU, tmp_path, stop=every(20), commit="aaa")
    fit(sketch(), CPU, tmp_path, stop=every(20), commit="aaa")
    fit(sketch(), CPU, tmp_path, commit="bbb-dirty")
    assert weights(tmp_path, sketch()).commits == ("aaa", "bbb-dirty")


@pytest.mark.parametrize("stop", [every(20), never])
def test_neither_half_a_training_nor_a_whole_one_answers_for_other_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Callable[[], bool]
) -> None:
    fit(sketch(), CPU, tmp_path, stop=stop)
    monkeypatch.setattr("laboratory.Blobs.digest", "0" * 10 + "ff")
    with pytest.raises(
        StaleError, match=r"trained on data with digest 0{10}40, .* now have 0{10}ff"
    ):
        fit(sketch(), CPU, tmp_path)


def _gone(data: object) -> str:
    raise DataError("the files are not there")


@pytest.mark.parametrize(
    ("what", "now"),
    [
        ("digest", property(_gone)),  # trained weights outlive their images
        ("digest", "another kind of digest"),
        ("unmade", 10),  # to compare, nothing is drawn
    ],
)
def test_a_whole_training_is_measured_where_its_images_cannot_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, now: object
) -> None:
    fit(sketch(), CPU, tmp_path)
    monkeypatch.setattr("laboratory.Blobs.digest", "0" * 10 + "ff")
    monkeypatch.setattr(f"laboratory.Blobs.{what}", now)
    assert fit(sketch(), CPU, tmp_path).status == "finished"


def test_divergence_stops_the_run_and_names_step_and_terms(tmp_path: Path) -> None:
    outcome = fit(sketch(diverge_at=20), CPU, tmp_path)
    assert (outcome.status, outcome.step) == ("diverged", 20)
    assert "elbo=nan" in outcome.note
    assert not (tmp_path / checkpoint.FILE).exists()  # spoilt weights are never kept


def test_a_damaged_checkpoint_is_named_and_the_remedy_given(tmp_path: Path) -> None:
    fit(sketch(), CPU, tmp_path)
    path = tmp_path / checkpoint.FILE
    whole = path.read_bytes()
    weight = weights(tmp_path, sketch()).model["decoder.weight"].numpy().tobytes()
    flipped = bytearray(whole)
    flipped[whole.index(weight) + 5] ^= 1  # one bit of one weight
    for content in (whole[: len(whole) // 2], b"", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"checkpoint\.pt is truncated or damaged.*delete"):
            fit(sketch(), CPU, tmp_path)


class _Hostile:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, ("touch executed",)


def test_a_hostile_checkpoint_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / checkpoint.FILE
    torch.save({"format": 1, "model": _Hostile()}, path)
    with pytest.raises(DataError, match="not executed"):
        fit(sketch(), CPU, tmp_path)
    path.write_bytes(pickle.dumps(_Hostile()))
    with pytest.raises(DataError, match="damaged"):
        fit(sketch(), CPU, tmp_path)
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_meaning_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(sketch(), CPU, tmp_path)
    before = sketch().id
    published = sketch().published
    changed = Recipe(replace(published.config, sigma=0.7), published.training)
    monkeypatch.setattr("laboratory.Sketch.recipe", lambda data: changed)
    assert sketch().id == before
    with pytest.raises(StaleError, match=r"model\.sigma=0\.3.*now reads 0\.7.*raise the version"):
        fit(sketch(), CPU, tmp_path)


def test_weights_of_before_an_option_was_there_stand_for_its_default(tmp_path: Path) -> None:
    """An option whose default is what was always done takes no weights away; one that was chosen is another run."""
    fit(sketch(), CPU, tmp_path)
    path = tmp_path / checkpoint.FILE
    content = torch.load(path, weights_only=True)
    settings = json.loads(content["settings"])
    del settings["model"]["sigma"]
    torch.save(content | {"settings": json.dumps(settings)}, path)
    assert checkpoint.load(path, sketch()) is not None
    chosen = replace(sketch(), model=sketch().model.with_options(sigma=0.7))
    torch.save(content | {"settings": json.dumps(settings), "run": chosen.id}, path)
    with pytest.raises(StaleError, match=r"model\.sigma='absent'.*now reads 0\.7"):
        checkpoint.load(path, chosen)
    del settings["model"]
    torch.save(content | {"settings": json.dumps(settings)}, path)
    with pytest.raises(DataError, match="no checkpoint"):
        checkpoint.load(path, sketch())


def test_another_format_or_run_is_refused(tmp_path: Path) -> None:
    fit(sketch(), CPU, tmp_path)
    with pytest.raises(StaleError, match="belongs to run"):
        checkpoint.load(tmp_path / checkpoint.FILE, sketch(1))
    torch.save({"format": 99}, tmp_path / checkpoint.FILE)
    with pytest.raises(StaleError, match="format 99"):
        fit(sketch(), CPU, tmp_path)


def test_too_little_data_and_unknown_choices_are_explained(tmp_path: Path) -> None:
    few = Run(model("laboratory:Sketch"), dataset("laboratory:Blobs", count=4))
    with pytest.raises(UsageError, match="has 4 training images; expected at least"):
        fit(few, CPU, tmp_path)
    odd = Run(model("laboratory:Sketch"), dataset("laboratory:Blobs"), (("optimizer", "sgd"),))
    with pytest.raises(UsageError, match="expected 'rmsprop' or 'adam'"):
        fit(odd, CPU, tmp_path)
    with pytest.raises(UsageError, match="expected fp32 or bf16"):
        engine.choose("cpu", "fp8")


def test_images_of_the_wrong_kind_are_a_contract_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def floats(self: object, name: str) -> Examples:
        return Examples(torch.zeros(64, 1, 8, 8).numpy())

    monkeypatch.setattr("laboratory.Blobs.split", floats)
    with pytest.raises(ContractError, match=r"float32.*expected uint8"):
        fit(sketch(), CPU, tmp_path)


def test_training_leaves_the_callers_generator_and_settings_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    fit(sketch(steps=3), CPU, tmp_path)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("before", [False, True])
def test_settings_of_torch_are_as_before_once_an_engine_has_computed(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cudnn = torch.backends.cudnn
    names = ("deterministic", "benchmark", "allow_tf32")
    for name in names:
        monkeypatch.setattr(cudnn, name, before)
    with engine.computing(CPU):
        assert [getattr(cudnn, name) for name in names] == [True, False, False]
    assert [getattr(cudnn, name) for name in names] == [before] * 3


HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not HUGE.exists() or "[never]" in HUGE.read_text(), reason="this kernel has no huge pages"
)
def test_what_a_worker_computes_on_lies_in_huge_pages_and_freed_memory_is_kept() -> None:
    """An activation of 64 MiB, made, forgotten and made again, costs no new page."""
    work = """
import re, resource, torch
from reprise.training.engine import keep_freed_memory
assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    x = torch.ones(16 << 20)
    del x
before = faults()
x = torch.ones(16 << 20)
huge = sum(map(int, re.findall(r"AnonHugePages: +(\\d+)", open("/proc/self/smaps").read())))
print(faults() - before, huge)
"""
    here = str(Path(engine.__file__).parents[2])
    told = subprocess.run(
        [sys.executable, "-c", work],
        env={**os.environ, "PYTHONPATH": here},
        capture_output=True,
        text=True,
        check=True,
    )
    faults, huge = map(int, told.stdout.split())
    assert faults < 1000, "of 16,384 pages of 4 KiB"
    assert huge > 32 << 10, "KiB: half of it at least"
