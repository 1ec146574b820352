"""Randomness has a name: a seed is a function of what it is for, never of what ran before."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator


def stream(*names: object) -> int:
    """A 63-bit seed for one named use of randomness, the same on every machine."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's default generators (CPU and current CUDA device) inside; restore them after."""
    import torch

    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
