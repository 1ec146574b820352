"""RMSprop and Adam in one pass over the parameters, and the norm of all gradients: torch's CPU code needs several.

Compiled code where an engine asks for it (nn/fused.py), torch's own everywhere else; tests/test_optimizers.py holds one
against the other.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..nn.fused import enabled


class InOnePass(abc.ABC):
    """One of torch's with a second way to take a step. The state is torch's: either goes on with the other's."""

    beyond: ClassVar[tuple[str, ...]]
    """Options that ask for more than the rule itself."""
    param_groups: list[dict[str, Any]]

    @property
    def is_plain(self) -> bool:
        """Whether no group asks for more than the rule."""
        return not any(group[option] for group in self.param_groups for option in self.beyond)

    @abc.abstractmethod
    def step_scaled(self, scale: Tensor) -> None:
        """One step with every gradient times `scale`, which is not written into them.

        For groups that are plain, and gradients that are `compilable`.
        """


class RMSprop(InOnePass, torch.optim.RMSprop):
    """torch's."""

    beyond = ("momentum", "weight_decay", "centered", "maximize", "differentiable")

    def __init__(self, groups: Any, lr: float) -> None:
        super().__init__(groups, lr=lr, foreach=True)

    @torch.no_grad()
    def step_scaled(self, scale: Tensor) -> None:
        """See InOnePass."""
        for group, parameters, gradients in _with_gradients(self):
            (squares,) = _states(self, parameters, "square_avg")
            rule = (group["lr"], group["alpha"], group["eps"])
            _compiled().rmsprop(parameters, gradients, squares, scale, *rule)


class Adam(InOnePass, torch.optim.Adam):
    """torch's, by its `fused` code."""

    beyond = ("weight_decay", "amsgrad", "maximize", "differentiable")

    def __init__(self, groups: Any, lr: float) -> None:
        super().__init__(groups, lr=lr, fused=True)

    @torch.no_grad()
    def step_scaled(self, scale: Tensor) -> None:
        """See InOnePass."""
        for group, parameters, gradients in _with_gradients(self):
            means, squares = _states(self, parameters, "exp_avg", "exp_avg_sq")
            rule = (group["lr"], group["betas"], group["eps"])
            steps = [int(self.state[p]["step"]) for p in parameters]
            # a parameter that the loss does not always reach has had fewer
            for step in sorted(set(steps)):
                alike = [n for n, its in enumerate(steps) if its == step]
                kinds = ([of[n] for n in alike] for of in (parameters, gradients, means, squares))
                _compiled().adam(*kinds, scale, step, *rule)


def _with_gradients(
    optimizer: torch.optim.Optimizer,
) -> Iterator[tuple[dict[str, Any], list[Tensor], list[Tensor]]]:
    """Each group in which some parameters have a gradient, with those parameters and gradients."""
    for group in optimizer.param_groups:
        parameters = [p for p in group["params"] if p.grad is not None]
        if parameters:
            yield group, parameters, [p.grad for p in parameters]


def _states(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], *names: str
) -> list[list[Tensor]]:
    """What torch's rule keeps for each parameter, by name, from zero; one step is counted."""
    for p in parameters:
        state = optimizer.state[p]
        if not state:
            state["step"] = torch.zeros(())
            for name in names:
                state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)
    torch._foreach_add_([optimizer.state[p]["step"] for p in parameters], 1)
    return [[optimizer.state[p][name] for p in parameters] for name in names]


def hold_rates(groups: Sequence[dict[str, Any]], device: torch.device | None) -> None:
    """Make learning rates tensors on the device, which a captured step reads where they are; without one, numbers.

    What a group began with is kept as the number it was.
    """
    for group in groups:
        if device is not None:
            rate = group.setdefault("initial_lr", float(group["lr"]))
            group["lr"] = torch.full((), rate, device=device)
        elif isinstance(group["lr"], Tensor):
            group["lr"] = float(group["lr"])
        group["capturable"] = device is not None


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
        if isinstance(optimizer, InOnePass) and optimizer.is_plain:
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
        and p.is_cpu
        and (
            p.is_contiguous()
            or (p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last))
        )
        and (p.stride() == g.stride() or _is_alike(p, g))
    )


def _is_alike(p: Tensor, g: Tensor) -> bool:
    """Whether two tensors of one shape lie alike in memory: the stride of an axis of one says nothing."""
    return all(a == b for n, a, b in zip(p.shape, p.stride(), g.stride(), strict=True) if n > 1)


@lru_cache
def _compiled() -> Any:
    from ..nn import _updating_cpu

    return _updating_cpu
