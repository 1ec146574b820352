"""RMSprop in one pass over the parameters, and the norm of all gradients: what torch's CPU code needs a dozen for.

Compiled code where an engine asks for it (nn/fused.py), torch's own everywhere else; tests/test_rmsprop.py holds one
against the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..nn.fused import enabled


class RMSprop(torch.optim.RMSprop):
    """torch's, with a second way to take a step. The state is torch's, so that either way goes on with the other's."""

    def __init__(self, groups: Any, lr: float) -> None:
        super().__init__(groups, lr=lr, foreach=True)

    @property
    def is_plain(self) -> bool:
        """Whether no group asks for more than the rule itself: momentum, say, or weight decay."""
        more = ("momentum", "weight_decay", "centered", "maximize", "differentiable")
        return not any(group[option] for group in self.param_groups for option in more)

    @torch.no_grad()
    def step_scaled(self, scale: Tensor) -> None:
        """One step with every gradient times `scale`, which is not written into them.

        For groups that are plain, and gradients that are `compilable`.
        """
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    self.state[p]["step"] = torch.zeros(())
                    self.state[p]["square_avg"] = torch.zeros_like(
                        p, memory_format=torch.preserve_format
                    )
                self.state[p]["step"] += 1
            gradients = [p.grad for p in parameters]
            squares = [self.state[p]["square_avg"] for p in parameters]
            rule = (group["lr"], group["alpha"], group["eps"])
            _compiled().rmsprop(parameters, gradients, squares, scale, *rule)


def clip_and_step(optimizers: Sequence[torch.optim.Optimizer], bound: float) -> Tensor:
    """One step of every optimiser with the gradients scaled so that their norm, over all of them, is at most `bound`.

    Returns the norm before. Gradients are scaled or not after; they are not meant to be read.
    """
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    parameters = [p for group in groups for p in group["params"] if p.grad is not None]
    if not compilable(parameters):
        before = torch.nn.utils.clip_grad_norm_(parameters, bound, foreach=True)
        for optimizer in optimizers:
            optimizer.step()
        return before
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm: Tensor = _compiled().norm(gradients)
    scale = (bound / (norm + 1e-6)).clamp(max=1.0)  # as torch clips
    for optimizer in optimizers:
        if type(optimizer) is RMSprop and optimizer.is_plain:
            optimizer.step_scaled(scale)
        else:
            mine = [p for group in optimizer.param_groups for p in group["params"]]
            torch._foreach_mul_([p.grad for p in mine if p.grad is not None], scale)
            optimizer.step()
    return norm


def compilable(parameters: Sequence[Tensor]) -> bool:
    """Whether compiled code may be used, and can: fp32 on the CPU, and every gradient in memory as its parameter is."""
    return enabled() and all(map(_is_plain, parameters))


def _is_plain(p: Tensor) -> bool:
    g = p.grad
    return (
        g is not None
        and p.dtype == g.dtype == torch.float32
        and p.device.type == "cpu"
        and (
            p.is_contiguous()
            or (p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last))
        )
        # the stride of an axis of one says nothing
        and all(a == b for n, a, b in zip(p.shape, p.stride(), g.stride(), strict=True) if n > 1)
    )


@lru_cache
def _compiled() -> Any:
    from ..nn import _updating_cpu

    return _updating_cpu
