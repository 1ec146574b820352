"""The compiled half of nn/lstm.py; threads and pointers are those of nn/_fused_cpu.py.

Arrays, P the pixels of all examples: gates (P, 4, C), fp32 or the bits of bf16, input, forget, output, candidate;
all others (1, P, C) in fp32.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
import torch
from numba import carray, njit

from ._fused_cpu import FAST, _expm1, _floats, _pointer, _read, _run, _share, _sigmoid, _write

F32 = np.float32


@njit(inline="always")
def _tanh(x):
    """Of exp(-2 |x|) - 1, which is as precise near zero as far from it."""
    e = _expm1(F32(-2) * abs(x))
    return np.copysign(e / (F32(2) + e), x)


@njit(fastmath=FAST, error_model="numpy", forceinline=True)
def _put(array, p, n, k, value):
    """`_write` once: numba's own inlining of it does not bear repeating in one function."""
    _write(array, p, n, k, value)


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _forward(gates, c, h, c_next, first, last):
    """Writes h and c_next, of pixels from first to last."""
    for p in range(first, last):
        for k in range(gates.shape[2]):
            i, f = _sigmoid(_read(gates, p, 0, k)), _sigmoid(_read(gates, p, 1, k))
            c_next[0, p, k] = f * c[0, p, k] + i * _tanh(_read(gates, p, 3, k))
        for k in range(gates.shape[2]):
            o = _sigmoid(_read(gates, p, 2, k))
            h[0, p, k] = o * _tanh(c_next[0, p, k])


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _backward(gates, c, c_next, of_h, of_c_next, of_gates, of_c, first, last):
    """Writes of_gates and of_c."""
    one = F32(1)
    for p in range(first, last):
        for k in range(gates.shape[2]):
            o, t = _sigmoid(_read(gates, p, 2, k)), _tanh(c_next[0, p, k])
            of_c[0, p, k] = of_c_next[0, p, k] + of_h[0, p, k] * o * (one - t * t)
            _put(of_gates, p, 2, k, of_h[0, p, k] * t * o * (one - o))
        for k in range(gates.shape[2]):
            i, g = _sigmoid(_read(gates, p, 0, k)), _tanh(_read(gates, p, 3, k))
            _put(of_gates, p, 0, k, of_c[0, p, k] * g * i * (one - i))
            _put(of_gates, p, 3, k, of_c[0, p, k] * i * (one - g * g))
        for k in range(gates.shape[2]):
            f = _sigmoid(_read(gates, p, 1, k))
            _put(of_gates, p, 1, k, of_c[0, p, k] * c[0, p, k] * f * (one - f))
            of_c[0, p, k] *= f


# 2, 3: P, C; from 4: addresses.


@njit(inline="always")
def _plain(call, at):
    return _floats(call[at], (1, call[2], call[3]))


@njit(inline="always")
def _gates(call):
    return call[2], 4, call[3]


@njit(forceinline=True)
def _forward_share(call, gates):
    _, _, first, last = _share(call)
    _forward(gates, _plain(call, 5), _plain(call, 6), _plain(call, 7), first, last)


@njit(forceinline=True)
def _backward_share(call, gates, of_gates):
    _, _, first, last = _share(call)
    c, c_next, of_h, of_c_next = _plain(call, 5), _plain(call, 6), _plain(call, 7), _plain(call, 8)
    _backward(gates, c, c_next, of_h, of_c_next, of_gates, _plain(call, 10), first, last)


def _forward_fp32(data):
    call = carray(data, 9, np.int64)
    _forward_share(call, _floats(call[4], _gates(call)))


def _forward_bf16(data):
    call = carray(data, 9, np.int64)
    _forward_share(call, carray(_pointer(call[4]), _gates(call), np.uint16))


def _backward_fp32(data):
    call = carray(data, 12, np.int64)
    _backward_share(call, _floats(call[4], _gates(call)), _floats(call[9], _gates(call)))


def _backward_bf16(data):
    call = carray(data, 12, np.int64)
    gates = carray(_pointer(call[4]), _gates(call), np.uint16)
    _backward_share(call, gates, carray(_pointer(call[9]), _gates(call), np.uint16))


def forward(gates, c, h, c_next):
    """Writes h and c_next (P, C), of gates (P, 4 C) and c (P, C)."""
    kernel = _forward_bf16 if gates.dtype == torch.bfloat16 else _forward_fp32
    _run(kernel, c.shape, [gates, c, h, c_next])


def backward(gates, c, c_next, of_h, of_c_next, of_gates, of_c):
    """Writes of_gates (P, 4 C) and of_c (P, C)."""
    kernel = _backward_bf16 if gates.dtype == torch.bfloat16 else _backward_fp32
    _run(kernel, c.shape, [gates, c, c_next, of_h, of_c_next, of_gates, of_c])
