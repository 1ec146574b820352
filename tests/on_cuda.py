"""A training step of every model on a CUDA device, and what metrics ask of it: a real device, or a pretended one.

    python -m reprise.tests.on_cuda PRECISION [LIBRARY [MODEL ...]]

prints one line of JSON per model: [label, [what went wrong]].

The pretended device is of torch's fake tensors: they have shapes, types and a device, and no numbers. They refuse what
goes wrong first on a real one: tensors of two devices in one operation, types that do not fit under autocast, and a
host that waits for a number. That it sends none while a step is under way, `NothingSent` sees. LIBRARY is
pretended_cuda.cpp, compiled; it must be there before torch is.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__" and len(sys.argv) > 2:
    ctypes.CDLL(sys.argv[2])

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from reprise.core import protocol
from reprise.core.dataset import DatasetInfo
from reprise.core.errors import UsageError
from reprise.core.model import (
    Attends,
    Completes,
    Decomposes,
    Draws,
    GenerativeModel,
    Itemizes,
    Locates,
    Relaxes,
    Remembers,
    Resamples,
    Traverses,
    Varies,
)
from reprise.core.spec import Spec, checked, load, model, names
from reprise.launch.contract import KINDS
from reprise.training.engine import Engine, Precision

PRETENDED = __name__ == "__main__" and len(sys.argv) > 2
# one for all: caches of nn/ outlive a model
FAKE = FakeTensorMode() if PRETENDED else contextlib.nullcontext()
if PRETENDED:
    torch.cuda._lazy_init = lambda: None
    # shapes of the one operation used here that torch knows on CUDA and not without numbers
    META = torch.library.Library("aten", "IMPL", "Meta")

    @torch.library.impl(META, "_thnn_fused_gru_cell")
    def _gru(gates: Tensor, _: Tensor, hidden: Tensor, *biases: Tensor) -> tuple[Tensor, Tensor]:
        return torch.empty_like(hidden), hidden.new_empty(len(hidden), 5 * hidden.shape[1])

    @torch.library.impl(META, "_thnn_fused_gru_cell_backward")
    def _gru_backward(upstream: Tensor, kept: Tensor, has_bias: bool) -> tuple[Tensor, ...]:
        batch, size = upstream.shape
        gates = [upstream.new_empty(batch, 3 * size) for _ in range(2)]
        biases = [upstream.new_empty(3 * size) for _ in range(2)]
        return (*gates, torch.empty_like(upstream), *biases)


BATCH, PARTICLES = 4, 3
# Of loops two turns, and one more than was trained where more are read: later ones ask nothing new of a device.
SHORT = {"objects": 2, "parts": 2, "draw_steps": 2, "reads": 3}
OF_DRAWERS = DatasetInfo("strokes", (1, 50, 50), objects=2)


def specs() -> list[Spec]:
    """Every model of the house, and once every option that a protocol gives it; of numbers one stands for all."""
    known = {model(name) for name in names("model")}
    for name in protocol.names():
        known |= {spec.trained_for(1.0) for spec in protocol.load(name)[1].models.values()}
    found, seen = [], set[tuple[str, object]]()
    ours = (spec for spec in known if spec.name in names("model"))
    # plain models first, then variants with many options, of which fewer are needed
    for spec in sorted(ours, key=lambda spec: (bool(spec.options), -len(spec.options), str(spec))):
        options = [(k, value if isinstance(value, str | bool) else "") for k, value in spec.options]
        parts = {(spec.name, option) for option in (None, *options)}
        if not parts <= seen:
            found.append(spec)
            seen |= parts
    return found


FAULTS = {
    "waits for the device": "DataDependentOutputException|synchronizing",
    "sends a number": "sent from the host|synchronizing",
    "on two devices": "FakeTensorDeviceMismatchError|same device",
    "overwrites": "modified by an inplace operation",
}


def broken(fault: str) -> Spec:
    """A model that goes wrong in a way that only a GPU shows, or for the last, anywhere."""
    return model("laboratory:Faulty", fault=f"loss {fault}")


def infos(spec: Spec) -> Iterator[DatasetInfo]:
    """The smallest data of each number of channels that the model is made for."""
    known: set[int] = set()
    for info in (*KINDS, OF_DRAWERS):
        if info.shape[0] not in known:
            with contextlib.suppress(UsageError):
                checked(type(load(spec).recipe(info).config), dict(spec.options), "model")
                known.add(info.shape[0])
                yield info


def built(spec: Spec, data: DatasetInfo, engine: Engine) -> GenerativeModel[object]:
    """The model on the device."""
    recipe = load(spec).recipe(data)
    options = checked(type(recipe.config), dict(spec.options), "model")
    config = dataclasses.replace(recipe.config, **options)
    short = {k: v for k, v in SHORT.items() if getattr(config, k, None) is not None}
    try:
        made: GenerativeModel[object] = load(spec)(dataclasses.replace(config, **short), data)
    except UsageError:  # an option that has no effect beside the others
        made = load(spec)(config, data)
    if not PRETENDED:
        return engine.place(made)
    for part in made.modules():  # `.to` keeps a fake parameter where it was
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(moved(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = moved(buffer)
    return made


def moved(tensor: Tensor) -> Tensor:
    """As large, on the device; convolution weights in channels-last order, as the engine places them."""
    there = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
    return there.to(memory_format=torch.channels_last) if there.ndim == 4 else there


def train(it: GenerativeModel[object], engine: Engine, data: DatasetInfo, spec: Spec) -> None:
    """One update, during which the host does not wait."""
    training = load(spec).recipe(data).training
    x = torch.rand(BATCH, *data.shape, device="cuda").to(memory_format=torch.channels_last)
    step = torch.full((), 3.0, device="cuda")
    optimizer = engine.optimizer(it.train(), training)
    with never_waiting():
        engine.update(it, optimizer, x, step, training.clip_norm)


class NothingSent(TorchDispatchMode):
    """Raises where a tensor goes from the host to the device, for which the host waits, too."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # fmt: skip
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            source = args[-1] if func is torch.ops.aten.copy_.default else args[0]
            if source.device.type == "cpu" and out.device.type == "cuda":
                raise RuntimeError(f"a tensor {tuple(source.shape)} is sent from the host")
        return out


@contextlib.contextmanager
def never_waiting() -> Iterator[None]:
    """On a real device, waiting for it raises; fake tensors do when they are read."""
    if PRETENDED:
        with NothingSent():  # type: ignore[no-untyped-call]
            yield
        return
    set_mode: Callable[[str], None] = torch.cuda.set_sync_debug_mode
    set_mode("error")
    try:
        yield
    finally:
        set_mode("default")


def questions(it: GenerativeModel[object], x: Tensor) -> Iterator[str]:
    """Ask whatever it can be asked but to match, which fits in a loop of its own; yield what is asked, before it is."""
    yield "log_weights"
    it.log_weights(x, PARTICLES)
    yield "sample"
    it.sample(BATCH)
    yield "reconstruct"
    it.reconstruct(x)
    if isinstance(it, Locates):
        yield "locate"
        it.locate(x)
    if isinstance(it, Resamples):
        yield "resample"
        it.resample(x, BATCH, 2)
        it.resample(None, 1, 2)
    if isinstance(it, Decomposes):
        yield "decompose"
        it.decompose(x)
    if isinstance(it, Traverses):
        yield "move"
        it.move(
            x,
            torch.zeros(BATCH, dtype=torch.int64, device="cuda"),
            torch.zeros(2, 2, device="cuda"),
        )
        yield "interpolate"
        it.interpolate(x, x.flip(0), 3)
    if isinstance(it, Remembers):
        yield "recall"
        it.recall(2)
    if isinstance(it, Attends):
        yield "attend"
        it.attend(x, True)
        it.attend(x, False)
    if isinstance(it, Draws):
        yield "draw"
        it.draw(x, True)
        it.draw(x, False)
    if isinstance(it, Completes):
        yield "complete"
        it.complete(it.begin(BATCH), 2)
    if isinstance(it, Varies):
        yield "vary"
        it.vary(x, 2)
    if isinstance(it, Relaxes):
        yield "relaxed_elbo"
        it.relaxed_elbo(x)
    if isinstance(it, Itemizes):
        yield "log_weight_terms"
        it.log_weight_terms(x, PARTICLES)


def faults(spec: Spec, precision: Precision) -> list[str]:
    """What goes wrong: `Error: message (file:line)` each.

    A model is asked everything, on data of one channel and of three; a variant takes a step and scores images.
    """
    engine = Engine(torch.device("cuda"), precision, 1)
    found = []
    kinds = list(infos(spec))
    assert kinds, f"no data for {spec}"
    for data in kinds[:1] if spec.options else kinds:
        asked = "building"
        try:
            with FAKE:
                it = built(spec, data, engine)
                asked = "training"
                train(it, engine, data, spec)
                # with gradients: a drawing model that keeps none leaves out what has stopped, and may wait for that
                x = torch.rand(BATCH, *data.shape, device="cuda")
                for question in questions(it.eval(), x):
                    if spec.options and asked == "log_weights":
                        break
                    asked = question
        except Exception as error:
            ours = [
                frame
                for frame in traceback.extract_tb(error.__traceback__)
                if "/torch/" not in frame.filename and frame.name != "__torch_dispatch__"
            ]
            where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            message = " ".join(str(error).split())[:300]
            found.append(f"{data.name}, {asked}: {type(error).__name__}: {message} ({where})")
    return found


if __name__ == "__main__":
    chosen: Precision = "bf16" if sys.argv[1] == "bf16" else "fp32"
    wanted = sys.argv[3:]
    for each in (*specs(), *map(broken, FAULTS)):
        if wanted and each.name not in wanted:
            continue
        print(json.dumps([str(each), faults(each, chosen)]), flush=True)
