"""The compiled half of training/rmsprop.py; threads and pointers are those of nn/_fused_cpu.py.

Tensors are given as a table of pieces, (N, 4) int64: the addresses of a piece of the parameter, its gradient and its
mean square (0 where there is none), and its length. A piece has at most PIECE fp32 numbers. Who works on which piece
does not matter: no sum goes over two of them here.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
import torch
from numba import carray, njit

from ._fused_cpu import FAST, _floats, _pointer, _run, _share

F32 = np.float32
PIECE = 1 << 14


def pieces(parameters, gradients, squares=None):
    """The table of tensors that are alike in shape and memory."""
    lengths = np.array([p.numel() for p in parameters], np.int64)
    first = np.zeros((len(parameters), 3), np.int64)
    for column, tensors in enumerate((parameters, gradients, squares)):
        if tensors is not None:
            first[:, column] = [tensor.data_ptr() for tensor in tensors]
    counts = -(-lengths // PIECE)
    of = np.repeat(np.arange(len(parameters)), counts)
    number = np.arange(len(of)) - np.repeat(counts.cumsum() - counts, counts)
    table = np.empty((len(of), 4), np.int64)
    table[:, :3] = np.where(first[of] > 0, first[of] + 4 * PIECE * number[:, None], 0)
    table[:, 3] = np.minimum(lengths[of] - PIECE * number, PIECE)
    return torch.from_numpy(table)


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _square(x):
    """The sum of squares of a piece."""
    total = F32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    return total


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _update(p, g, square, scale, lr, alpha, eps):
    """One step of RMSprop on a piece, with its gradient times `scale`."""
    rest = F32(1) - alpha
    for i in range(len(p)):
        d = scale * g[i]
        s = alpha * square[i] + rest * d * d
        square[i] = s
        p[i] -= lr * (d / (np.sqrt(s) + eps))


# 2: N; from 3: addresses.


def _squares_of_pieces(data):
    call = carray(data, 6, np.int64)
    _, _, first, last = _share(call)
    table, sums = carray(_pointer(call[3]), (call[2], 4), np.int64), _floats(call[4], call[2])
    for n in range(first, last):
        sums[n] = _square(_floats(table[n, 1], table[n, 3]))


def _update_of_pieces(data):
    call = carray(data, 6, np.int64)
    _, _, first, last = _share(call)
    table = carray(_pointer(call[3]), (call[2], 4), np.int64)
    scale, lr, alpha, eps = _floats(call[4], 4)
    for n in range(first, last):
        p, g, square = (
            _floats(table[n, 0], table[n, 3]),
            _floats(table[n, 1], table[n, 3]),
            _floats(table[n, 2], table[n, 3]),
        )
        _update(p, g, square, scale, lr, alpha, eps)


def norm(table):
    """The norm of all gradients together, fp32, 0-d."""
    sums = torch.empty(len(table))
    if len(table):
        _run(_squares_of_pieces, [len(table)], [table, sums])
    return sums.double().sum().sqrt().float()


def rmsprop(table, scale, lr, alpha, eps):
    """Updates parameters and mean squares."""
    if len(table):
        options = torch.tensor([float(scale), lr, alpha, eps])
        _run(_update_of_pieces, [len(table)], [table, options])
