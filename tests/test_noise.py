"""Noise is measured one source at a time, and kept where `check` finds it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise import cli
from reprise.core import spec
from reprise.core.errors import StaleError, UsageError
from reprise.core.results import NoiseRow, read
from reprise.core.workspace import Workspace
from reprise.launch import work
from reprise.launch.executors import Place
from reprise.launch.noise import SOURCES, Part, measure
from reprise.launch.plan import Request, plan
from reprise.launch.provenance import Provenance
from reprise.training.engine import choose
from reprise.training.fit import Stop

from .laboratory_cli import installed

ONE = Request("tiny", "demo", ("Sketch",), (), ("Bound",), changes=(("training.steps", "5"),))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workspace]:
    with installed():
        yield Workspace(tmp_path)


def make(jobs: Any, where: Workspace, place: Place) -> None:
    for job in jobs:
        engine = choose("cpu", place.precision, 1)
        work.work(job, where, engine, Provenance("", None), Stop(signals=()), lambda *_: None)


def test_every_source_is_measured_and_kept(place: Workspace) -> None:
    found = {row.source: row for row in measure(ONE, place, Place("cpu"), make, repeats=3)}
    assert set(found) == set(SOURCES)
    assert {row.key for row in read(place.noise, NoiseRow)} == {row.key for row in found.values()}
    for row in found.values():
        assert row.model == "Sketch [steps=5]"
        assert row.dialect == "particles=2"
        assert row.how
        assert row.repeats == len(row.values.split())
    training = found["training seed"]
    values = [float(value) for value in training.values.split()]
    assert training.std == pytest.approx(statistics.stdev(values), rel=1e-5)
    assert training.std > 0
    assert found["evaluation seed"].std > 0
    assert found["threads"].std < 1e-3 * training.std, "threads change last bits, not numbers"
    assert found["test subset"].degrees == 15, "one value per test image was kept"


def test_measuring_again_replaces_and_adds(place: Workspace) -> None:
    measure(ONE, place, Place("cpu"), make, ["evaluation seed"], 2)
    before = read(place.noise, NoiseRow)
    measure(ONE, place, Place("cpu"), make, ["evaluation seed", "threads"], 3)
    after = read(place.noise, NoiseRow)
    assert [row.source for row in before] == ["evaluation seed"]
    assert [(row.source, row.repeats) for row in after] == [("evaluation seed", 3), ("threads", 4)]


def test_what_cannot_be_measured_is_said(place: Workspace) -> None:
    with pytest.raises(UsageError, match="did you mean 'threads'"):
        measure(ONE, place, Place("cpu"), make, ["thread"])
    with pytest.raises(UsageError, match="at least 2"):
        measure(ONE, place, Place("cpu"), make, ["threads"], 1)

    def fail(jobs: Any, where: Workspace, _: Place) -> None:
        return None

    with pytest.raises(UsageError, match="not measured"):
        measure(ONE, place, Place("cpu"), fail, ["training seed"], 2)


def test_weights_that_were_trained_on_other_images_say_nothing(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(ONE, place, Place("cpu"), make, ["evaluation seed"], 2)
    monkeypatch.setattr("laboratory.Blobs.digest", "0" * 10 + "ff")
    with pytest.raises(StaleError, match="trained on data with digest"):
        measure(ONE, place, Place("cpu"), make, ["threads"])


def test_why_a_run_could_not_be_made_is_said(
    place: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (job,) = plan(replace(ONE, seeds=1, changes=()), place).jobs
    in_the_way = place.run(job.run.id) / "output.txt"
    in_the_way.mkdir(parents=True)
    asked = ["noise", "tiny", "--models", "Sketch", "--metrics", "Bound", "--sources", "threads"]
    assert cli.main([*asked, "--root", str(place.root)]) == 3
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("reprise: ")]
    assert len(told) == 2
    assert f"cannot write {in_the_way.parent}" in told[0]
    assert "has no number (it was not measured)" in told[1]


def test_the_parts_of_a_test_split_are_disjoint_and_together_the_whole() -> None:
    few = {"canvas": 64, "train": 2, "valid": 2, "test": 20}
    data = spec.build(spec.dataset("scenes", rule="mnist4", source="digits", **few))
    parts = [Part(data, part, 3).split("test") for part in range(3)]
    seen = np.concatenate([part.image[np.arange(len(part))] for part in parts])
    whole = data.split("test").image[np.arange(20)]
    assert sorted(image.tobytes() for image in seen) == sorted(image.tobytes() for image in whole)
    for part in parts:
        assert part.objects is not None
        assert len(part.objects.box) == len(part)
    assert len(Part(data, 0, 3).split("train")) == 2, "training images are left alone"
    assert Part(data, 0, 3).rule == "mnist4", "what else a dataset knows it still knows"


def test_evaluation_noise_of_few_images_is_scaled_to_all_of_them(place: Workspace) -> None:
    """The noise of a mean over n images is that of one image over sqrt n, however many images it was learnt from."""
    (whole,) = measure(ONE, place, Place("cpu"), make, ["evaluation seed"], 60)
    means = [float(value) for value in whole.values.split()]
    assert whole.std == pytest.approx(statistics.stdev(means), rel=0.35)
    assert whole.degrees == 16 * 59
