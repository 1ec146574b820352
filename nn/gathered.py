"""A large linear layer that one pass calls many times with few rows: its weight's gradient is made of several calls at
once.

Autograd makes a matrix as large as the weight for every call and adds them up. For a weight of 35 MB and calls with
ten rows that traffic is most of a backward pass. Here calls hand in their rows, and products are made of at least
ENOUGH of them, added where they are made. The same numbers but for the order of the sum: tests/test_gathered.py.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ENOUGH = 64  # rows, from which on a product costs what its rows cost


class Gathered(nn.Linear):
    """nn.Linear for (N, inputs); differentiable once."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) -> (N, outputs)."""
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return super().forward(x)
        weight, rows = _shared(self)
        called: Tensor = _Call.apply(x, weight, self.bias, rows)  # type: ignore[no-untyped-call]
        return called


class _Rows:
    """Rows of the layer's inputs and of its outputs' gradients, of one backward pass."""

    def __init__(self) -> None:
        self.task, self.waiting = -1, 0
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.total: Tensor | None = None

    def add(self, gradient: Tensor, x: Tensor) -> None:
        task = torch._C._current_graph_task_id()
        if (
            task != self.task
        ):  # a pass that did not ask for the weight's gradient may have left some
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


_weights: WeakKeyDictionary[Gathered, tuple[tuple[Any, ...], Tensor, _Rows]] = WeakKeyDictionary()


def _shared(layer: Gathered) -> tuple[Tensor, _Rows]:
    """The weight as all calls use it until it changes, in autocast's precision; its gradient comes from the rows."""
    weight, kind = layer.weight, layer.weight.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    now = (weight.data_ptr(), weight._version, dtype)
    if layer not in _weights or _weights[layer][0] != now:
        rows = _Rows()
        _weights[layer] = now, _Weight.apply(weight, dtype, rows), rows  # type: ignore[no-untyped-call]
    return _weights[layer][1:]


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
