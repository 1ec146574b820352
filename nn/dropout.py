"""Dropout of a half from single random bits: torch draws a number for every element, which on a CPU takes longer than
the networks around it."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache
def _table(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Row b holds twice the eight bits of b: (256, 8)."""
    with torch.inference_mode(False):  # kept, so it must serve those who need gradients, too
        byte = torch.arange(256, device=device)[:, None]
        return (2 * (byte >> torch.arange(8, device=device) & 1)).to(dtype)


def mask(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 or 2, each with probability 1/2 and independently: what dropout multiplies with."""
    count = shape.numel()
    words = torch.empty((count + 63) // 64, dtype=torch.int64, device=device)
    words.random_(torch.iinfo(torch.int64).min, None)
    values = F.embedding(words.view(torch.uint8).int(), _table(dtype, device))
    return values.view(-1)[:count].view(shape)


def half(x: Tensor, training: bool) -> Tensor:
    """x, in training with half of its elements set to 0 and the others doubled (Srivastava et al. 2014, inverted)."""
    return x * mask(x.shape, x.dtype, x.device) if training else x
