"""What a step spends its time on, by kind of operation."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from .contest import Work

KINDS = [
    (
        "compiled kernels",
        r"^_(ActivateAndNorm|NormAndELU|CompiledCompos|CompiledCompet|Resample)\w*$",
    ),
    ("convolutions", r"conv"),
    ("matrix products", r"::(mm|bmm|addmm|baddbmm|matmul|linear)$"),
    ("normalisation", r"(group|layer)_norm"),
    ("activations", r"elu|sigmoid|tanh|softplus|threshold|clamp|exp|log"),
    ("sampling grids", r"grid|interp|gather|scatter|index"),
    ("copies and layout", r"copy|pixel_|^_Moved|cat$|clone|fill|zero|empty|contiguous"),
]
STEPS = 5


def spent(make: Callable[..., Work], arguments: tuple[Any, ...], answer: Any) -> None:
    """Sends milliseconds per step by kind of operation, measured in this process."""
    step = make(*arguments)
    for _ in range(3):
        step()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    whole = (time.perf_counter() - began) / STEPS
    with torch.profiler.profile() as profile:
        for _ in range(STEPS):
            step()
    kinds: Counter[str] = Counter()
    for event in profile.key_averages():
        kind = next((name for name, pattern in KINDS if re.search(pattern, event.key)), "everything else")  # fmt: skip
        kinds[kind] += event.self_cpu_time_total / 1e3 / STEPS
    answer.send((1e3 * whole, dict(kinds)))
