"""A linear layer that one pass calls several times with few rows: its weight's gradient is made of many at once.

Autograd makes a matrix as large as the weight for every call and adds them up. For a weight of 35 MB and calls with
ten rows that traffic is most of a backward pass. Inside `gathering` calls hand in their rows, and products are made of
at least ENOUGH of them, added where they are made. The same numbers but for the order of the sum:
tests/test_gathered.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ENOUGH = 512  # rows, from which on a product costs what its rows cost


class Gathered(nn.Linear):
    """nn.Linear for (N, inputs); inside `gathering` it is differentiable once."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) -> (N, outputs)."""
        # torch's own compiler cannot follow what calls hand in
        if torch.compiler.is_compiling() or _shared is None:
            return super().forward(x)
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(x)
        if self not in _shared:
            kind, rows = x.device.type, _Rows()
            lower = torch.is_autocast_enabled(kind)
            dtype = torch.get_autocast_dtype(kind) if lower else self.weight.dtype
            _shared[self] = _Weight.apply(self.weight, dtype, rows), rows  # type: ignore[no-untyped-call]
        weight, rows = _shared[self]
        called: Tensor = _Call.apply(x, weight, self.bias, rows)  # type: ignore[no-untyped-call]
        return called


_shared: dict[Gathered, tuple[Tensor, _Rows]] | None = None
"""Inside `gathering`: each layer's weight as all calls use it, in autocast's precision, and where they hand in rows."""


@contextlib.contextmanager
def gathering() -> Iterator[None]:
    """One pass, in which no weight changes. Differentiate what it gives whenever you like.

    Explicit, because nothing tells when a weight has changed: torch's fused optimisers do not count versions.
    """
    global _shared
    outer, _shared = _shared, {}
    try:
        yield
    finally:
        _shared = outer


class _Rows:
    """Rows of the layer's inputs and of its outputs' gradients, of one backward pass."""

    def __init__(self) -> None:
        self.task, self.waiting = -1, 0
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.total: Tensor | None = None

    def add(self, gradient: Tensor, x: Tensor) -> None:
        task = torch._C._current_graph_task_id()
        if task != self.task:  # one that did not ask for the weight's gradient may have left some
            self.task, self.waiting, self.pairs, self.total = task, 0, [], None
        self.pairs.append((gradient, x))
        self.waiting += len(x)
        if self.waiting >= ENOUGH:
            self._multiply()

    def _multiply(self) -> None:
        gradients, inputs = zip(*self.pairs, strict=True)
        alone = len(inputs) == 1
        gradient, x = (g[0] if alone else torch.cat(g) for g in (gradients, inputs))
        if self.total is None:
            self.total = gradient.T @ x
        else:
            self.total.addmm_(gradient.T, x)
        self.pairs, self.waiting = [], 0

    def close(self) -> Tensor | None:
        """The gradient of the weight; nothing is kept."""
        if self.pairs:
            self._multiply()
        total, self.total = self.total, None
        return total


class _Weight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, dtype: torch.dtype, rows: _Rows) -> Tensor:
        ctx.rows, ctx.dtype = rows, weight.dtype
        ctx.set_materialize_grads(False)
        return weight.detach() if dtype == weight.dtype else weight.to(dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, None, None]:
        """Runs when every call has been differentiated."""
        total = ctx.rows.close()
        return None if total is None else total.to(ctx.dtype), None, None


class _Call(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, rows: _Rows) -> Tensor:
        ctx.rows, ctx.dtypes = rows, (x.dtype, bias.dtype)
        x = x.to(weight.dtype)
        ctx.save_for_backward(x, weight)
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, weight, bias.to(weight.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_bias = ctx.dtypes
        ctx.rows.add(gradient, x)
        dx = (gradient @ weight).to(of_x) if ctx.needs_input_grad[0] else None
        return dx, None, gradient.sum(0).to(of_bias), None
