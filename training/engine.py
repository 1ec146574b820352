"""How the arithmetic is done: device, precision, threads, memory layout, compilation, optimiser. Never what is
computed.

A model file stays readable as the paper; whatever makes it fast is here. Device, threads and compilation stay out of a
run's identity; they can change last bits and precision more, so every row records them, and a resumed run keeps what it
began with.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ..core.errors import ContractError, UsageError
from ..core.model import GenerativeModel, Training
from ..nn.distributions import first_draw
from ..nn.fused import installed, kernels
from ..nn.gathered import gathering
from .optimizers import Adam, RMSprop, clip_and_step, hold_rates
from .replay import CudaGraph, Replayed, Update

_deterministic: Any = torch.utils.deterministic  # a module with properties, which mypy cannot see
Precision = Literal["fp32", "bf16"]
"""fp32: IEEE single precision throughout, TF32 off. bf16: torch's autocast; parameters and optimiser stay fp32."""


ROOM = 2 << 30
"""Bytes of a worker's heap that are huge pages as it grows into them."""


class Several:
    """Optimisers of several kinds as one: what the loop asks of torch's, asked of each in turn.

    state_dict holds all of their states, so that resuming is exact.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = list(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all of them."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """Update every parameter once."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """{"parts": one state_dict per optimiser}."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        for part, its_state in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(its_state)


Optimizer: TypeAlias = torch.optim.Optimizer | Several


@dataclass(frozen=True)
class Engine:
    """Where and how one process computes.

    fused: compiled kernels of nn/fused.py, on CPUs only. compiled: what every step repeats is prepared at its start. On
    a CPU a model's loss and its gradients are compiled whole by torch's own compiler, which takes a minute or two; on
    CUDA the whole update is captured in a graph (replay.py).
    """

    device: torch.device
    precision: Precision
    threads: int
    fused: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        """`cpu x2 threads, fused, compiled`, or the GPU's name: what a row says in its column `device`."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device) + ", captured" * self.captured
        fused, compiled = ", fused" * self.fused, ", compiled" * self.compiled
        return f"cpu x{self.threads} thread{'s' if self.threads != 1 else ''}{fused}{compiled}"

    @property
    def captured(self) -> bool:
        """Whether updates are captured in a graph."""
        return self.compiled and self.device.type == "cuda"

    def keeping(
        self, precision: Precision, threads: int, fused: bool, compiled: bool = False
    ) -> Engine:
        """This engine with what a resumed run began with: each of them can change last bits."""
        return dataclasses.replace(
            self, precision=precision, threads=threads, fused=fused, compiled=compiled
        )

    def autocast(self) -> AbstractContextManager[Any]:
        """The forward pass runs inside; a no-op in fp32."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def place(self, model: GenerativeModel[Any]) -> GenerativeModel[Any]:
        """The model on the device, convolution weights in channels-last order (values unchanged)."""
        model.to(device=self.device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.compiled and not self.captured:
            model.loss = _compiled(model)  # type: ignore[method-assign, assignment]
        return model

    def images(self, batch: Any) -> Tensor:
        """uint8 images (B, C, H, W) as float in [0, 1] on the device; they travel as bytes."""
        x = torch.from_numpy(batch)
        if self.device.type == "cuda":
            x = x.pin_memory().to(self.device, non_blocking=True)
        return x.to(torch.float32, memory_format=torch.channels_last).div_(255)

    def optimizer(self, model: GenerativeModel[Any], training: Training) -> Optimizer:
        """RMSprop or Adam with torch's defaults over the model's parameter groups.

        A group may name an "optimizer" of its own beside its "lr"; all others have the training's.
        """
        kinds: dict[str, list[dict[str, Any]]] = {}
        for group in model.parameter_groups():
            kind = group.get("optimizer", training.optimizer)
            options = {key: value for key, value in group.items() if key != "optimizer"}
            kinds.setdefault(kind, []).append(options)
        parts = [_optimizer(kind, groups, training.lr) for kind, groups in kinds.items()]
        return parts[0] if len(parts) == 1 else Several(parts)

    def updating(
        self, model: GenerativeModel[Any], optimizer: Optimizer, clip_norm: float | None
    ) -> Update:
        """`update` for one training, captured where this engine captures. To be called when all states are loaded."""

        def update(x: Tensor, step: Tensor) -> dict[str, Tensor]:
            return self.update(model, optimizer, x, step, clip_norm)

        hold_rates(optimizer.param_groups, self.device if self.captured else None)
        return Replayed(update, CudaGraph(), type(model).__name__) if self.captured else update

    def update(
        self,
        model: GenerativeModel[Any],
        optimizer: Optimizer,
        x: Tensor,
        step: Tensor,
        clip_norm: float | None,
    ) -> dict[str, Tensor]:
        """One parameter update; the loss, its terms and the gradient's norm before clipping, as 0-d tensors.

        Nothing in here waits for the device, so that it can be captured in a graph.
        """
        optimizer.zero_grad(set_to_none=True)
        with self.autocast(), gathering():
            loss, terms = _objective(model, model.loss(x, step))
        loss.backward()
        parts = optimizer.parts if isinstance(optimizer, Several) else [optimizer]
        norm = clip_and_step(parts, float("inf") if clip_norm is None else clip_norm)
        named = {"loss": loss, **terms, "gradient_norm": norm}
        return {name: value.detach() for name, value in named.items()}


def _compiled(model: GenerativeModel[Any]) -> Callable[[Tensor, Tensor], Any]:
    """model.loss, compiled whole for the shapes of one training; it draws the same numbers as without.

    Raises UsageError, when it is first called, for a model that cannot be compiled.
    """
    plain = model.loss

    def one_pass(x: Tensor, step: Tensor) -> Any:
        first_draw()
        found = plain(x, step)
        first_draw()
        return found

    # fallback_random: torch's own generator. Compiled code has another, whose draws no oracle could be held against.
    # cpp_wrapper: what calls the kernels is compiled, too; of some hundred calls a step Python's are a twentieth.
    options: dict[str, Any] = {"fallback_random": True, "cpp_wrapper": True}
    whole = torch.compile(one_pass, fullgraph=True, dynamic=False, options=options)

    def loss(x: Tensor, step: Tensor) -> Any:
        try:
            return whole(x, step)
        except torch._dynamo.exc.TorchDynamoException as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = " ".join(lines[:2])
            raise UsageError(
                f"{type(model).__name__}.loss cannot be compiled ({reason}); run it without --compile"
            ) from error

    return loss


def _objective(model: GenerativeModel[Any], found: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """What `loss` returned, if it is what it must be: nothing here waits for the device."""
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict):
        loss, terms = found
        wrong = [
            name
            for name, value in {"the loss": loss, **terms}.items()
            if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point()
        ]
        if not wrong:
            return loss, terms
        raise ContractError(
            f"{type(model).__name__}.loss: {wrong[0]} is no scalar tensor of floats"
        )
    raise ContractError(
        f"{type(model).__name__}.loss returned {type(found).__name__}; expected (scalar, dictionary of terms)"
    )


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Make every group's learning rate `rate` times the one it began with, which the optimiser's state keeps."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group["initial_lr"] * rate)
        elif rate != 1.0 or "initial_lr" in group:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate


def _optimizer(kind: str, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    if kind == "rmsprop":
        return RMSprop(groups, lr)
    if kind == "adam":
        return Adam(groups, lr)
    raise UsageError(f"training.optimizer={kind!r} is not known; expected 'rmsprop' or 'adam'")


def choose(
    device: str = "auto", precision: str = "", threads: int = 0, compiled: bool = False
) -> Engine:
    """An engine for this machine. Raises UsageError for a device, or a compiler, that is not there.

    device: "auto" (CUDA where there is one), "cpu" or "cuda". precision: "" is bf16 on CUDA and fp32 on the CPU.
    threads: 0 is all cores of this process.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device {device!r} is not known; expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "device 'cuda' was asked for and torch finds none; use --device cpu, or install a CUDA build of torch"
        )
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    chosen = precision or ("bf16" if kind == "cuda" else "fp32")
    if chosen not in get_args(Precision):
        raise UsageError(f"precision {precision!r} is not known; expected fp32 or bf16")
    if compiled and kind == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        raise UsageError(
            "--compile needs a C++ compiler: g++, or what the environment variable CXX names "
            "(Debian: apt-get install g++)"
        )
    count = threads or cores()
    fused = kind == "cpu" and installed()
    known: Precision = "bf16" if chosen == "bf16" else "fp32"
    return Engine(torch.device(kind), known, count, fused, compiled)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def computing(engine: Engine) -> Iterator[None]:
    """Threads, kernels and deterministic algorithms as `engine` says, inside; what was set before, after."""
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
    )
    # cuBLAS reads this when its handle is made; without it its sums may come in another order after a restart.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(engine.threads)
    # On CUDA a few operations have no deterministic kernel (sampling a grid backwards): they run, the rest is exact.
    cuda = engine.device.type == "cuda"
    torch.use_deterministic_algorithms(not cuda)
    _deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False  # it would choose kernels by the clock
    torch.backends.cudnn.allow_tf32 = False
    try:
        with kernels(engine.fused):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
        _deterministic.fill_uninitialized_memory = before[3]
        torch.backends.cudnn.deterministic = before[4]
        torch.backends.cudnn.benchmark = before[5]
        torch.backends.cudnn.allow_tf32 = before[6]


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, for the rest of its life; True where that is possible (glibc).

    By default every large activation is mapped afresh each step and the kernel zeroes its pages again: a third to
    a half of a straightforward training step on a CPU. For worker processes, whose memory ends with them.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    M_MXFAST, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = 1, -1, -2, -4, -8
    settings = (
        (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 << 20), (M_ARENA_MAX, 1),
        (M_MXFAST, 0),  # or the scraps beside aligned blocks are gathered at every large request
    )  # fmt: skip
    accepted = [mallopt(parameter, value) == 1 for parameter, value in settings]
    _in_huge_pages(ROOM)
    return all(accepted)


def _in_huge_pages(size: int) -> None:
    """Let the next `size` bytes of the heap be made of pages of 2 MiB, where the kernel has them for who asks.

    The heap grows by so much and is empty again: addresses, not memory. Does nothing where that is not to be had.
    """
    libc, MADV_HUGEPAGE, page = ctypes.CDLL(None), 14, os.sysconf("SC_PAGE_SIZE")
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(size))
    if block is None:
        return
    start = -(-block // page) * page
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(block + size - start), MADV_HUGEPAGE)
    libc.free(ctypes.c_void_p(block))
