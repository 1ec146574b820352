"""What holds for every compiled kernel: nn/_*_cpu.py."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import reprise

pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")

MODULES = sorted(path.stem for path in (Path(reprise.__file__).parent / "nn").glob("_*_cpu.py"))


@pytest.mark.parametrize("name", MODULES)
def test_a_kernel_is_one_piece(name: str) -> None:
    """Whatever a kernel calls is part of it.

    A function left on its own is optimised twice, alone and inside the kernel. The process that compiles calls the one,
    all that find the kernel in numba's cache the other, and the first run on a machine had other last bits than every
    later one.
    """
    from numba.core.registry import CPUDispatcher

    module = importlib.import_module(f"reprise.nn.{name}")
    functions: dict[str, Any] = {
        key: value for key, value in vars(module).items() if isinstance(value, CPUDispatcher)
    }
    assert functions
    options = {key: value.targetoptions for key, value in functions.items()}
    within = {
        key
        for key, its in options.items()
        if its.get("forceinline") or its.get("inline") == "always"
    }
    assert set(functions) == within
