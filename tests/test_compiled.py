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
from reprise.nn.blocks import ConvStack, Layer, SubPixelStack
from reprise.nn.distributions import first_draw, normal, uniform
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


def test_draws_keep_their_order() -> None:
    """Of which the last is needed first, and one by nobody: a compiler would begin with what it needs."""

    def several(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first_draw()
        early, between, _, late = normal(x), uniform(x), normal(x[:2]), normal(x)
        first = (late @ late.T).sin()
        return (first * between).cos(), (early @ first).sum(), late

    x = torch.zeros(5, 5)
    found = []
    for function in (torch.compile(several, fullgraph=True, options={"fallback_random": True}), several):  # fmt: skip
        torch.manual_seed(3)
        found.append([*function(x), *function(x), torch.get_rng_state()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_layers_have_their_kernels_when_compiled(precision: engine.Precision) -> None:
    """Norms, with pixels that stay and that are moved, few pixels and few channels: once each, values and gradients."""
    pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
    torch.manual_seed(0)
    whole = engine.choose("cpu", precision, 1, compiled=True)
    layers = torch.nn.Sequential(  # type: ignore[call-overload]
        ConvStack(1, [Layer(4, 16, 2), Layer(3, 16), Layer(4, 32, 2)]),
        SubPixelStack(32, [Layer(1, 16, 2), Layer(3, 8), Layer(1, 8, 2), Layer(3, 1)], act=torch.nn.ReLU),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    x = torch.rand(4, 1, 16, 16).to(memory_format=torch.channels_last)
    found = []
    with engine.computing(whole):
        for forward in (torch.compile(layers, fullgraph=True), layers):
            with whole.autocast():
                image = forward(x)
            image.float().square().sum().backward()
            found.append([image.detach(), *(p.grad for p in layers.parameters())])
            layers.zero_grad()
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() <= (1e-5 if precision == "fp32" else 0.02) * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("axes", [[], [4, 4, 2, 2], [2, 4, 8]])
def test_the_operators_of_norms_keep_what_torchs_compiler_asks_of_them(
    axes: list[int], dtype: torch.dtype
) -> None:
    """Shapes and memory as they say they are, whether pixels are moved and whether kernels can move them."""
    pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
    x = torch.randn(2, 12, 64, 1).to(dtype).to(memory_format=torch.channels_last)
    weight, bias = torch.rand(12), torch.rand(12)
    order = {0: [], 4: [0, 2, 1, 3], 3: [2, 0, 1]}[len(axes)]
    forward = torch.ops.reprise.activate_and_norm.default
    backward = torch.ops.reprise.activate_and_norm_backward.default
    torch.library.opcheck(forward, (x, weight, bias, 1, 1e-5, 1.0, axes, order))
    out, moments = forward(x, weight, bias, 1, 1e-5, 1.0, axes, order)
    grad = torch.randn_like(out)
    torch.library.opcheck(backward, (x, weight, moments, grad, 1.0, axes, order))


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
