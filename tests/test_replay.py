"""A training whose updates are captured and replayed is the training without, bit for bit.

There need be no GPU. A pretended graph notes every operation of torch that one update makes, below autograd, and
replays them as a CUDA graph does: with the numbers that were written in the code, on the memory that was there, with
the noise that torch's generator has now. It refuses what a capture refuses first: a host that reads a number.
That none is sent either, tests/on_cuda.py sees.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from reprise.core.errors import UsageError
from reprise.core.randomness import seeded
from reprise.core.run import Run
from reprise.core.spec import Spec, dataset, load, model
from reprise.training import checkpoint
from reprise.training.engine import Engine, computing, set_rate
from reprise.training.fit import LOG, fit
from reprise.training.optimizers import hold_rates
from reprise.training.replay import WARM, CudaGraph, Replayed, Update

from . import on_cuda

aten = torch.ops.aten
REFUSED = {
    aten._local_scalar_dense.default: "reads a number",
    aten.nonzero.default: "asks how many there are",
}


class Note:
    """One operation as it was called."""

    def __init__(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.out: Any = None
        self.writes = [a for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]

    @property
    def is_view(self) -> bool:
        """Whether it moves no numbers."""
        return any(r.alias_info for r in self.func._schema.returns) and not self.writes

    def fresh(self, out: Any) -> list[Any]:
        """What of it was made, and is no part of what was given."""
        whole = out if len(self.func._schema.returns) > 1 else (out,)
        parts = (
            zip(whole, self.func._schema.returns, strict=True) if self.func._schema.returns else ()
        )
        made = [part for part, returned in parts if not returned.alias_info]
        return pytree.tree_leaves(made)

    def again(self) -> None:
        """The same operation, its results where the first ones are."""
        if self.is_view:
            return
        out = self.func(*self.args, **self.kwargs)
        for old, new in zip(self.fresh(self.out), self.fresh(out), strict=True):
            if isinstance(new, Tensor):  # what nobody asked for is None
                old.copy_(new)


def _as_it_is(given: Any) -> Any:
    """The same memory in the shape that it has now: lists grow later, and some operations change a tensor's shape."""
    return given.detach() if isinstance(given, Tensor) else given


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Noting(TorchDispatchMode):
    """Notes operations, and what was in the memory that they were given."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.notes: list[Note] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # by address
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in REFUSED:
            raise RuntimeError(f"operation not permitted when stream is capturing: {REFUSED[func]}")
        kwargs = kwargs or {}
        note = Note(func, pytree.tree_map(_as_it_is, args), pytree.tree_map(_as_it_is, kwargs))
        for tensor in pytree.tree_leaves((note.args, note.kwargs)):
            # all of it: operations of a norm do not say that they overwrite its running moments
            if isinstance(tensor, Tensor) and _address(tensor) not in self.made | set(self.before):
                whole = tensor.new_empty(0).set_(tensor.untyped_storage())
                self.before[_address(tensor)] = whole, whole.clone()
        out = func(*args, **kwargs)
        note.out = pytree.tree_map(_as_it_is, out)
        fresh = [made for made in note.fresh(note.out) if isinstance(made, Tensor)]
        self.made |= set(map(_address, fresh))
        self.notes.append(note)
        return out


class Pretended:
    """See the module. A capture computes nothing: whatever it overwrote is put back."""

    def __init__(self) -> None:
        self.warmed = self.replays = 0

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        self.warmed += 1
        yield

    def capture(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        state = torch.get_rng_state()
        with Noting() as noting:
            out = work()
        torch.set_rng_state(state)
        for now, was in noting.before.values():
            now.copy_(was)

        def replay() -> None:
            self.replays += 1
            with torch.no_grad():
                for note in noting.notes:
                    note.again()

        return out, replay


STEPS = WARM + 4
MODELS = ("gnm", "vae", "convdraw", "genesis", "space", "air", "dmvae", "difference_air", "dood")


@pytest.fixture(autouse=True)
def without_onednn() -> Iterator[None]:
    """Its recurrent layers hand their backward pass more than numbers."""
    torch._C._set_mkldnn_enabled(False)
    yield
    torch._C._set_mkldnn_enabled(True)


@pytest.fixture(autouse=True)
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's optimisers take what they need for a capture on accelerators alone, and only there no step may wait."""
    monkeypatch.setattr("reprise.nn.active.may_wait", lambda _: not torch.is_grad_enabled())
    for name in ("adam", "rmsprop"):
        its = sys.modules[f"torch.optim.{name}"]
        monkeypatch.setattr(its, "_get_capturable_supported_devices", lambda: ["cpu"])


class Trained:
    """A model and its optimiser after some steps: other images, another noise and another rate in each."""

    def __init__(self, spec: Spec, engine: Engine) -> None:
        self.data, self.engine = next(on_cuda.infos(spec)), engine
        self.training = load(spec).recipe(self.data).training
        self.said: list[dict[str, Tensor]] = []
        with seeded(0):
            torch.manual_seed(0)
            self.model = on_cuda.built(spec, self.data, engine).train()
            self.optimizer = engine.optimizer(self.model, self.training)

    def plain(self, x: Tensor, step: Tensor) -> dict[str, Tensor]:
        return self.engine.update(self.model, self.optimizer, x, step, self.training.clip_norm)

    def replayed(self, graph: Pretended) -> Update:
        return Replayed(self.plain, graph, type(self.model).__name__)

    def go_on(self, update: Update, steps: range) -> Trained:
        with computing(self.engine), seeded(0):
            for t in steps:
                torch.manual_seed(100 + t)
                x = torch.rand(on_cuda.BATCH, *self.data.shape)
                x = x.to(self.engine.device, memory_format=torch.channels_last)
                set_rate(self.optimizer, 1.0 / (1 + t))
                self.said.append(update(x, torch.full((), 1000.0 * t, device=x.device)))
        return self

    def is_as(self, other: Trained) -> bool:
        for ours, theirs in zip(self.said, other.said, strict=True):
            assert ours.keys() == theirs.keys()
            for key in ours:
                torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0, equal_nan=True)
        ours, theirs = self.model.state_dict(), other.model.state_dict()
        return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def on_the_cpu(name: str) -> Trained:
    """With rates in tensors, whether it is captured or not: a product with a number is rounded once less."""
    made = Trained(model(name), Engine(torch.device("cpu"), "fp32", 1))
    hold_rates(made.optimizer.param_groups, made.engine.device)
    return made


@pytest.mark.parametrize("name", MODELS)
def test_replays_are_the_steps_themselves(name: str) -> None:
    plain, captured, graph = on_the_cpu(name), on_the_cpu(name), Pretended()
    plain.go_on(plain.plain, range(STEPS))
    captured.go_on(captured.replayed(graph), range(STEPS))
    assert (graph.warmed, graph.replays) == (WARM, STEPS - WARM)
    assert captured.is_as(plain)


def test_what_differs_from_step_to_step_must_be_in_tensors() -> None:
    """The pretended graph has teeth: a rate that is a number stays what it was when it was captured."""
    plain, captured = on_the_cpu("vae"), on_the_cpu("vae")
    for made in (plain, captured):
        hold_rates(made.optimizer.param_groups, None)
    plain.go_on(plain.plain, range(STEPS))
    captured.go_on(captured.replayed(Pretended()), range(STEPS))
    with pytest.raises(AssertionError):
        captured.is_as(plain)


def test_it_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    """Rates are numbers again where nothing is captured; a resumed training warms up and captures anew."""
    whole, first = on_the_cpu("gnm"), on_the_cpu("gnm")
    whole.go_on(whole.replayed(Pretended()), range(2 * STEPS))
    first.go_on(first.replayed(Pretended()), range(STEPS))
    states = {"model": first.model.state_dict(), "optimizer": first.optimizer.state_dict()}
    torch.save(states, tmp_path / "states.pt")
    states = torch.load(tmp_path / "states.pt", weights_only=True)
    second = Trained(model("gnm"), first.engine)
    second.model.load_state_dict(states["model"])
    second.optimizer.load_state_dict(states["optimizer"])
    hold_rates(second.optimizer.param_groups, None)
    assert all(isinstance(group["lr"], float) for group in second.optimizer.param_groups)
    hold_rates(second.optimizer.param_groups, second.engine.device)
    second.said = first.said
    assert second.go_on(second.replayed(Pretended()), range(STEPS, 2 * STEPS)).is_as(whole)


def test_a_training_interrupted_while_it_replays_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop around it: an engine that captures, on the CPU; where it does not, with rates in tensors, too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr("reprise.training.engine.CudaGraph", Pretended)
    monkeypatch.setattr(Engine, "captured", property(lambda its: its.compiled))
    options = (("steps", 20), ("lr_until", 12), ("lr_after", 1e-4))
    run = Run(model("laboratory:Sketch"), dataset("laboratory:Blobs"), options)
    engine = Engine(torch.device("cpu"), "fp32", 1, compiled=True)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls % 9 == 0

    def held(groups: list[dict[str, Any]], _: torch.device | None) -> None:
        hold_rates(groups, engine.device)

    for part in range(3):
        status = fit(run, engine, tmp_path / "parts", stop=stop).status
        assert status == ("finished" if part == 2 else "stopped")
    fit(run, engine, tmp_path / "whole")
    monkeypatch.setattr("reprise.training.engine.hold_rates", held)
    fit(run, dataclasses.replace(engine, compiled=False), tmp_path / "plain")
    found = [
        checkpoint.load(tmp_path / name / checkpoint.FILE, run)
        for name in ("parts", "whole", "plain")
    ]
    weights = [last.model for last in found if last is not None]
    assert len(weights) == 3
    for others in weights[:2]:
        assert all(torch.equal(others[name], weights[2][name]) for name in weights[2])
    log = (tmp_path / "whole" / LOG).read_text("utf-8").splitlines()
    plain = (tmp_path / "plain" / LOG).read_text("utf-8").splitlines()
    assert [line.rpartition(",")[0] for line in log] == [line.rpartition(",")[0] for line in plain]


def test_a_model_whose_step_waits_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    spec = on_cuda.broken("waits for the device")
    made = Trained(spec, Engine(torch.device("cpu"), "fp32", 1))
    with pytest.raises(UsageError, match=r"a step of Faulty cannot be captured .*--compile"):
        made.go_on(made.replayed(Pretended()), range(STEPS))
    assert len(made.said) == WARM


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", MODELS)
def test_on_a_real_device_they_are_the_steps_themselves(name: str) -> None:
    engine = Engine(torch.device("cuda"), "fp32", 1, compiled=True)
    plain, captured = Trained(model(name), engine), Trained(model(name), engine)
    hold_rates(plain.optimizer.param_groups, engine.device)
    plain.go_on(plain.plain, range(STEPS))
    update = engine.updating(captured.model, captured.optimizer, captured.training.clip_norm)
    assert isinstance(update, Replayed)
    assert isinstance(update.recorder, CudaGraph)
    assert captured.go_on(update, range(STEPS)).is_as(plain)
