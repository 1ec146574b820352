"""A sum over examples whose activations never exist all at once: forwards and backwards, a few examples at a time.

What a network keeps for its backward pass grows with the batch; when the result is one number that every example adds
to, each example's gradient is known as soon as the example is: it is computed at once, and its activations are dropped.
Nothing is computed twice. On a CPU the activations of one example also stay in the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]


def sum_over_chunks(
    function: Function,
    size: int,
    examples: Sequence[Tensor],
    shared: Sequence[Tensor] = (),
    parameters: Sequence[Tensor] = (),
) -> Tensor:
    """sum_b function(examples[b], shared): a scalar, differentiable once in all tensors given.

    function(*chunk, *shared) -> (b,): called with `size` examples at a time. examples: tensors (B, ...), cut along
    their first axis; shared: tensors that every call gets whole; parameters: what `function` reads besides.
    """
    if not torch.is_grad_enabled():
        chunks = zip(*(t.split(size) for t in examples), strict=True)
        return torch.stack([function(*chunk, *shared).sum() for chunk in chunks]).sum()
    counts = (len(examples), len(shared))
    total: Tensor = _SumOverChunks.apply(function, size, counts, *examples, *shared, *parameters)  # type: ignore[no-untyped-call]
    return total


class _SumOverChunks(torch.autograd.Function):
    """forward makes the gradients of the sum; backward multiplies them by the gradient that arrives."""

    @staticmethod
    def forward(
        ctx: Any, function: Function, size: int, counts: tuple[int, int], *tensors: Tensor
    ) -> Tensor:
        cut, whole = counts
        needed = ctx.needs_input_grad[3:]
        leaves = [t.detach().requires_grad_(n) for t, n in zip(tensors, needed, strict=True)]
        examples, shared, parameters = (
            leaves[:cut],
            leaves[cut : cut + whole],
            tensors[cut + whole :],
        )
        total = torch.zeros((), device=tensors[0].device)
        gradients: list[Tensor | None] = [
            torch.zeros_like(t) if n else None for t, n in zip(tensors, needed, strict=True)
        ]
        for begin in range(0, len(examples[0]), size):
            chunk = [
                t.detach()[begin : begin + size].requires_grad_(n)
                for t, n in zip(examples, needed, strict=False)
            ]
            inputs = [*chunk, *shared, *parameters]
            with torch.enable_grad():
                value = function(*chunk, *shared).sum()
            wanted = [t for t, n in zip(inputs, needed, strict=True) if n]
            found = iter(torch.autograd.grad(value, wanted, allow_unused=True))
            for place, (gradient, n) in enumerate(zip(gradients, needed, strict=True)):
                part = next(found) if n else None
                if gradient is None or part is None:
                    continue
                if place < cut:
                    gradient[begin : begin + size] = part
                else:
                    gradient += part
            total += value.detach()
        ctx.gradients = gradients
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        return (None, None, None, *(g if g is None else g.mul_(upstream) for g in gradients))
