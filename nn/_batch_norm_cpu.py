"""The compiled half of nn/batch_norm.py; threads, pointers and the exponential are those of nn/_fused_cpu.py.

Arrays: x, out, grad, of_x (B, R, T), fp32 or the bits of bf16 as uint16; a row holds T / C pixels of C channels each.
origin, mean, scale, offset, constant, slope (T,), fp32: of each number of a row. sums (threads, 2, T), fp64.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
import torch
from numba import carray, njit

from ._fused_cpu import (
    FAST,
    _activated,
    _floats,
    _pointer,
    _read,
    _run,
    _share,
    _slope,
    _threads,
    _write,
)

F32 = np.float32
ROWS = 128  # that are summed in fp32, before their sums are added in fp64
CURVED = F32(1)  # ELU is CELU with alpha 1


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _moments(x, origin, sums):
    """Adds the sums of x - origin and of its square over all rows."""
    batch, rows, length = x.shape
    first, second = np.empty(length, F32), np.empty(length, F32)
    for i in range(batch):
        for start in range(0, rows, ROWS):
            first[:] = 0
            second[:] = 0
            for r in range(start, min(start + ROWS, rows)):
                for t in range(length):
                    y = _read(x, i, r, t) - origin[t]
                    first[t] += y
                    second[t] += y * y
            for t in range(length):
                sums[0, t] += first[t]
                sums[1, t] += second[t]


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _activate(x, scale, offset, out):
    """out = ELU(scale x + offset)."""
    batch, rows, length = x.shape
    for i in range(batch):
        for r in range(rows):
            for t in range(length):
                y = scale[t] * _read(x, i, r, t) + offset[t]
                _write(out, i, r, t, _activated(y, CURVED))


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _upstream(x, mean, scale, offset, grad, of_x, sums):
    """Writes the gradient of scale (x - mean) + offset; adds its sum, and that of it times x - mean, over all rows."""
    batch, rows, length = x.shape
    first, second = np.empty(length, F32), np.empty(length, F32)
    for i in range(batch):
        for start in range(0, rows, ROWS):
            first[:] = 0
            second[:] = 0
            for r in range(start, min(start + ROWS, rows)):
                for t in range(length):
                    away = _read(x, i, r, t) - mean[t]
                    y = _activated(scale[t] * away + offset[t], CURVED)
                    d = _read(grad, i, r, t) * _slope(y, CURVED)
                    first[t] += d
                    second[t] += d * away
                    _write(of_x, i, r, t, d)
            for t in range(length):
                sums[0, t] += first[t]
                sums[1, t] += second[t]


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _gradient(x, mean, scale, constant, slope, of_x):
    """From the gradient d there to scale d - constant - slope (x - mean)."""
    batch, rows, length = x.shape
    for i in range(batch):
        for r in range(rows):
            for t in range(length):
                away = _read(x, i, r, t) - mean[t]
                d = _read(of_x, i, r, t)
                _write(of_x, i, r, t, scale[t] * d - constant[t] - slope[t] * away)


# 2 to 4: B, R, T; from 5: addresses.


@njit(inline="always")
def _shape(call):
    return call[2], call[3], call[4]


@njit(inline="always")
def _row(call, at):
    return _floats(call[at], call[4])


@njit(inline="always")
def _sums_of_thread(call, at):
    thread, threads, _, _ = _share(call)
    return carray(_pointer(call[at]), (threads, 2, call[4]), np.float64)[thread]


@njit(forceinline=True)
def _moments_share(call, x):
    _, _, first, last = _share(call)
    _moments(x[first:last], _row(call, 6), _sums_of_thread(call, 7))


@njit(forceinline=True)
def _activate_share(call, x, out):
    _, _, first, last = _share(call)
    _activate(x[first:last], _row(call, 7), _row(call, 8), out[first:last])


@njit(forceinline=True)
def _upstream_share(call, x, grad, of_x):
    _, _, first, last = _share(call)
    mean, scale, offset = _row(call, 8), _row(call, 9), _row(call, 10)
    sums = _sums_of_thread(call, 11)
    _upstream(x[first:last], mean, scale, offset, grad[first:last], of_x[first:last], sums)


@njit(forceinline=True)
def _gradient_share(call, x, of_x):
    _, _, first, last = _share(call)
    _gradient(
        x[first:last], _row(call, 7), _row(call, 8), _row(call, 9), _row(call, 10), of_x[first:last]
    )


def _moments_fp32(data):
    call = carray(data, 9, np.int64)
    _moments_share(call, _floats(call[5], _shape(call)))


def _moments_bf16(data):
    call = carray(data, 9, np.int64)
    _moments_share(call, carray(_pointer(call[5]), _shape(call), np.uint16))


def _activate_fp32(data):
    call = carray(data, 10, np.int64)
    shape = _shape(call)
    _activate_share(call, _floats(call[5], shape), _floats(call[6], shape))


def _activate_bf16(data):
    call = carray(data, 10, np.int64)
    x = carray(_pointer(call[5]), _shape(call), np.uint16)
    _activate_share(call, x, carray(_pointer(call[6]), _shape(call), np.uint16))


def _upstream_fp32(data):
    call = carray(data, 13, np.int64)
    shape = _shape(call)
    _upstream_share(call, _floats(call[5], shape), _floats(call[6], shape), _floats(call[7], shape))


def _upstream_bf16(data):
    call = carray(data, 13, np.int64)
    x = carray(_pointer(call[5]), _shape(call), np.uint16)
    grad = carray(_pointer(call[6]), _shape(call), np.uint16)
    _upstream_share(call, x, grad, carray(_pointer(call[7]), _shape(call), np.uint16))


def _gradient_fp32(data):
    call = carray(data, 12, np.int64)
    shape = _shape(call)
    _gradient_share(call, _floats(call[5], shape), _floats(call[6], shape))


def _gradient_bf16(data):
    call = carray(data, 12, np.int64)
    x = carray(_pointer(call[5]), _shape(call), np.uint16)
    _gradient_share(call, x, carray(_pointer(call[6]), _shape(call), np.uint16))


def _sums(x):
    return torch.zeros(_threads(len(x)), 2, x.shape[2], dtype=torch.float64)


def moments(x, origin):
    """The sums of x - origin and of its square, (2, T)."""
    sums = _sums(x)
    kernel = _moments_bf16 if x.dtype == torch.bfloat16 else _moments_fp32
    _run(kernel, x.shape, [x, origin, sums])
    return sums.sum(0)


def activate(x, scale, offset, out):
    """Writes out."""
    kernel = _activate_bf16 if x.dtype == torch.bfloat16 else _activate_fp32
    _run(kernel, x.shape, [x, out, scale, offset])


def upstream(x, grad, of_x, mean, scale, offset):
    """Writes the gradient of scale (x - mean) + offset; returns its sum, and that of it times x - mean, (2, T)."""
    sums = _sums(x)
    kernel = _upstream_bf16 if x.dtype == torch.bfloat16 else _upstream_fp32
    _run(kernel, x.shape, [x, grad, of_x, mean, scale, offset, sums])
    return sums.sum(0)


def gradient(x, of_x, mean, scale, constant, slope):
    """Makes of that in of_x the gradient of x."""
    kernel = _gradient_bf16 if x.dtype == torch.bfloat16 else _gradient_fp32
    _run(kernel, x.shape, [x, of_x, mean, scale, constant, slope])
