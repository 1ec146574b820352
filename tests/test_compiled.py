"""--compile: torch's compiler makes a model's loss and gradients, and nothing but last bits tells."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reprise.core.errors import UsageError
from reprise.core.randomness import seeded
from reprise.core.run import Run
from reprise.core.spec import dataset, model
from reprise.training import checkpoint, engine
from reprise.training.fit import fit

# torch's compiler imports what torch itself calls deprecated
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
WHOLE = engine.choose("cpu", "fp32", 1, compiled=True)


@pytest.fixture(autouse=True)
def _visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def sketch(steps: int = 60) -> Run:
    return Run(model("laboratory:Sketch"), dataset("laboratory:Blobs"), (("steps", steps),))


def every(n: int) -> Callable[[], bool]:
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls % n == 0

    return stop


def loaded(folder: Path) -> checkpoint.Checkpoint:
    found = checkpoint.load(folder / checkpoint.FILE, sketch())
    assert found is not None
    return found


def one_update(compiled: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The terms of one update, and the gradients."""
    run, chosen = sketch(), dataclasses.replace(WHOLE, compiled=compiled)
    with engine.computing(chosen), seeded(0):
        placed = chosen.place(run.build_model()).train()
        optimizer = chosen.optimizer(placed, run.recipe.training)
        x = chosen.images(run.data.split("train").image[np.arange(8)])
        terms = chosen.update(placed, optimizer, x, torch.tensor(5.0), None)
    return terms, {name: p.grad for name, p in placed.named_parameters() if p.grad is not None}


def test_the_draws_the_loss_and_every_gradient_are_those_of_the_model_as_it_stands() -> None:
    """What the models proper make of it is tried before they are timed, in benchmarks/work.py: that takes minutes."""
    terms, gradients = one_update(compiled=True)
    plain_terms, plain = one_update(compiled=False)
    assert terms.keys() == plain_terms.keys()
    for name, value in plain_terms.items():
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-5), name
    assert gradients.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-5)


def test_an_interrupted_run_ends_in_the_same_weights_and_stays_compiled(tmp_path: Path) -> None:
    assert fit(sketch(), WHOLE, tmp_path / "whole").status == "finished"
    fit(sketch(), WHOLE, tmp_path / "parts", stop=every(23))
    fit(sketch(), dataclasses.replace(WHOLE, compiled=False), tmp_path / "parts")
    whole, parts = loaded(tmp_path / "whole"), loaded(tmp_path / "parts")
    assert parts.compiled
    assert parts.devices == (str(WHOLE),) == whole.devices
    assert "compiled" in str(WHOLE)
    assert all(torch.equal(whole.model[name], parts.model[name]) for name in whole.model)


def test_a_run_that_began_without_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(sketch(), dataclasses.replace(WHOLE, compiled=False), tmp_path, stop=every(23))

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", never)
    assert fit(sketch(), WHOLE, tmp_path).status == "finished"
    assert not loaded(tmp_path).compiled


def test_what_cannot_be_compiled_says_so(tmp_path: Path) -> None:
    run = Run(model("laboratory:Branching"), dataset("laboratory:Blobs"), (("steps", 2),))
    with pytest.raises(UsageError, match=r"Branching\.loss cannot be compiled .*without --compile"):
        fit(run, WHOLE, tmp_path)


def test_a_compiler_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler"):
        engine.choose("cpu", "fp32", 1, compiled=True)
