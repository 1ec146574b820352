"""Networks for those rows of a batch that still matter, where a batch decides on the way which do.

Drawings stop at different steps, and every term of a step that is not taken is weighed by 0. Its networks need not be
computed then: values and gradients are the same without them. Densities and the noise of latents stay those of the
whole batch, so that, but for dropout, the same seed gives the same draws; tests/test_active.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SHARES = 8


def may_wait(device: torch.device) -> bool:
    """Whether the host may ask the device for a number now."""
    return device.type == "cpu" or not torch.is_grad_enabled()


class Active:
    """Rows of a batch of N: where `alive` (N,) is not 0, and as many others as make their number a multiple of N / 8.

    Few numbers, because kernels are prepared for every shape that they meet. Where none is alive one row is computed,
    without gradients: what is said of it counts nowhere.

    On a GPU a training step computes every row: the host would have to wait for `alive`, and no step of a training may
    wait. Without gradients, as in measuring with hundreds of particles, it does.
    """

    def __init__(self, alive: Tensor) -> None:
        self.size = len(alive)
        self.rows: Tensor | None = None
        self.none = False
        if not may_wait(alive.device):
            return
        share = -(-self.size // SHARES)
        count = min(-(-int(alive.count_nonzero()) // share) * share, self.size)
        self.none = count == 0
        if count < self.size:
            first = alive.detach().argsort(descending=True, stable=True)
            self.rows = first[: max(count, 1)].sort().values

    @classmethod
    def all(cls, like: Tensor) -> Active:
        """Every row of (N, ...)."""
        return cls(torch.ones(len(like), device=like.device))

    def __call__(
        self,
        network: Callable[..., Tensor],
        *inputs: Tensor,
        otherwise: Tensor | float = 0.0,
        at_most: int | None = None,
    ) -> Tensor:
        """network(*inputs) in these rows, `otherwise` (a row or a number) in others: (N, ...) each -> (N, ...).

        at_most: rows at a time where no gradients are kept, so that memory does not grow with how many are alive.
        """
        if self.rows is not None:
            inputs = tuple(whole.index_select(0, self.rows) for whole in inputs)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.none):
            if at_most is None or torch.is_grad_enabled():
                found = network(*inputs)
            else:
                parts = zip(*(rows.split(at_most) for rows in inputs), strict=True)
                found = torch.cat([network(*part) for part in parts])
        if self.rows is None:
            return found
        wide = (self.size, *found.shape[1:])
        if isinstance(otherwise, Tensor):
            others = otherwise.to(found.dtype).expand(wide)
        else:
            others = found.new_full((), otherwise).expand(wide)
        return others.index_copy(0, self.rows, found)
