"""What work costs at least: its arithmetic and its bytes, at the rates that this machine reaches."""

from __future__ import annotations

import contextlib
import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import reprise
from reprise.benchmarks.contest import Work
from reprise.training.engine import cores, keep_freed_memory

SIDE = 2048  # of the matrices whose product is timed
BLOCK = 1 << 28  # bytes that are copied
WRITE_NOTHING = ("empty", "new_empty", "empty_like", "detach", "alias", "lift_fresh")


class Rates(NamedTuple):
    """Operations a second in a product of matrices, by precision; bytes a second read and written by a copy."""

    fp32: float
    bf16: float
    memory: float


class Cost(NamedTuple):
    """One piece of work: floating-point operations, bytes, and seconds (the median of some)."""

    operations: float
    traffic: float
    seconds: float


class Counting(TorchDispatchMode):
    """Of what torch does inside: operations of its products and convolutions, bytes that it reads and writes.

    An operation reads each of its arguments once and writes its results; views cost nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations, self.traffic = 0.0, 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if (counted := flop_registry.get(func.overloadpacket)) is not None:
            self.operations += counted(*args, **kwargs, out_val=out)
        if not func.is_view and func.overloadpacket.__name__ not in WRITE_NOTHING:
            self.moved(tree_leaves((args, kwargs, out)))
        return out

    def moved(self, tensors: list[Any]) -> None:
        """Count their bytes; what is expanded lies in memory once."""
        self.traffic += sum(
            min(t.numel() * t.itemsize, t.untyped_storage().nbytes())
            for t in tensors
            if isinstance(t, Tensor)
        )


@contextlib.contextmanager
def kernels_counted(by: Counting) -> Iterator[None]:
    """Inside, what compiled kernels (nn/_*_cpu.py) are given is counted as read or written once."""
    folder = Path(reprise.__file__).parent / "nn"
    names = sorted(path.stem for path in folder.glob("_*_cpu.py"))
    with contextlib.ExitStack() as stack:
        for name in names:
            module = importlib.import_module(f"reprise.nn.{name}")
            stack.enter_context(mock.patch.object(module, "_run", _counting(module._run, by)))
        yield


def _counting(run: Callable[..., None], by: Counting) -> Callable[..., None]:
    def counted(kernel: Any, sizes: Any, tensors: list[Tensor], *rest: Any) -> None:
        by.moved(tensors)
        run(kernel, sizes, tensors, *rest)

    return counted


def cost(make: Callable[..., Work], arguments: tuple[Any, ...], rounds: int, answer: Any) -> None:
    """Sends the Cost of work as this process does it. rounds: that are timed; without any, seconds is 0."""
    work, counting = make(*arguments), Counting()
    for _ in range(3 if rounds else 1):
        work()
    with kernels_counted(counting), counting:
        work()
    seconds = [_timed(work) for _ in range(rounds)]
    answer.send(
        Cost(counting.operations, counting.traffic, statistics.median(seconds) if seconds else 0.0)
    )


def rates(answer: Any) -> None:
    """Sends the Rates of this machine, on all of its cores: the best of some."""
    torch.set_num_threads(cores())
    keep_freed_memory()

    def of_products(dtype: torch.dtype) -> float:
        a, b = torch.randn(2, SIDE, SIDE).to(dtype)
        return 2 * SIDE**3 / min(_timed(lambda: a @ b) for _ in range(10))

    source, target = torch.zeros(2, BLOCK // 4)
    copying = min(_timed(lambda: target.copy_(source)) for _ in range(10))
    fp32, bf16 = of_products(torch.float32), of_products(torch.bfloat16)
    answer.send(Rates(fp32, bf16, 2 * BLOCK / copying))


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
