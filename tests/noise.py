"""Noise that a test decides: what `normal` and `uniform` of nn/distributions.py hand out, call by call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from reprise.models import dmvae
from reprise.nn import concrete, distributions

from . import straightforward_air, straightforward_dood, straightforward_space

Answer = Callable[[int, Tensor], Tensor]
"""(how many calls there were before, a tensor of the shape that is asked for) -> noise."""


class Noise:
    """Hands out standard normal and uniform noise, the same at every `restart`, unless told otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.normal_is: Answer = lambda call, like: seeded(torch.randn, 2 * call, like)
        self.uniform_is: Answer = lambda call, like: seeded(torch.rand, 2 * call + 1, like)
        self.restart()
        modules = (
            concrete, distributions, dmvae, straightforward_air, straightforward_dood, straightforward_space,
        )  # fmt: skip
        for module in modules:
            for name in ("normal", "uniform"):
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, getattr(self, name))

    def restart(self) -> None:
        self.normals = self.uniforms = 0

    def normal(self, like: Tensor) -> Tensor:
        self.normals += 1
        return self.normal_is(self.normals - 1, like)

    def uniform(self, like: Tensor) -> Tensor:
        self.uniforms += 1
        return self.uniform_is(self.uniforms - 1, like)

    def presences(self, present: Sequence[int], per_step: int) -> None:
        """Draw these z_pres. per_step: calls of `uniform` in each step, z_pres the last of them."""

        def answer(call: int, like: Tensor) -> Tensor:
            if (call + 1) % per_step or call // per_step >= len(present):
                return seeded(torch.rand, 2 * call + 1, like)
            return torch.full_like(like, 1.0 - present[call // per_step])  # present if u < q

        self.uniform_is = answer


def seeded(draw: Callable[..., Tensor], seed: int, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return draw(like.shape, dtype=like.dtype, generator=generator)
