"""The compiled half of training/optimizers.py; threads and pointers are those of nn/_fused_cpu.py.

Kernels are given a table of pieces, (N, 1 + k) int64: the length of a piece, at most PIECE fp32 numbers, and its
address in each of k tensors. Who works on which piece does not matter: no sum goes over two of them here.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numba import carray, njit

from ._fused_cpu import FAST, _floats, _pointer, _run, _share

F32 = np.float32
PIECE = 1 << 14


@lru_cache(maxsize=64)
def _cut(lengths):
    """Of tensors of these lengths, for every piece: which it is of, how many bytes lie before it, and its length."""
    lengths = np.array(lengths, np.int64)
    counts = -(-lengths // PIECE)
    of = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(of)) - np.repeat(counts.cumsum() - counts, counts)
    return of, 4 * PIECE * number, np.minimum(lengths[of] - PIECE * number, PIECE)


def _pieces(*kinds):
    """The table of k lists of tensors: the n-th of every list are alike in shape and memory."""
    of, before, length = _cut(tuple(map(torch.Tensor.numel, kinds[0])))
    addresses = np.array([list(map(torch.Tensor.data_ptr, tensors)) for tensors in kinds])
    return torch.from_numpy(np.vstack((length, addresses[:, of] + before)).T.copy())


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _square(x):
    """The sum of squares of a piece."""
    total = F32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    return total


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _update(p, g, square, scale, lr, alpha, eps):
    """One step of RMSprop on a piece, with its gradient times `scale`."""
    rest = F32(1) - alpha
    for i in range(len(p)):
        d = scale * g[i]
        s = alpha * square[i] + rest * d * d
        square[i] = s
        p[i] -= lr * (d / (np.sqrt(s) + eps))


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _update_by_moments(p, g, mean, square, scale, rate, root, rest1, rest2, eps):
    """One step of Adam on a piece, with its gradient times `scale`.

    rate and root hold the corrections of the moments. rest1 and rest2 are 1 - beta, which fp32 would subtract badly.
    """
    for i in range(len(p)):
        d = scale * g[i]
        m = mean[i] + rest1 * (d - mean[i])
        s = square[i] + rest2 * (d * d - square[i])
        mean[i] = m
        square[i] = s
        p[i] -= rate * m / (root * np.sqrt(s) + eps)


# 2: N; from 3: addresses.


def _squares_of_pieces(data):
    call = carray(data, 6, np.int64)
    _, _, first, last = _share(call)
    table, sums = carray(_pointer(call[3]), (call[2], 2), np.int64), _floats(call[4], call[2])
    for n in range(first, last):
        length, address = table[n]
        sums[n] = _square(_floats(address, length))


def _update_of_pieces(data):
    call = carray(data, 6, np.int64)
    _, _, first, last = _share(call)
    table = carray(_pointer(call[3]), (call[2], 4), np.int64)
    scale, lr, alpha, eps = _floats(call[4], 4)
    for n in range(first, last):
        length, p, g, square = table[n]
        _update(
            _floats(p, length), _floats(g, length), _floats(square, length), scale, lr, alpha, eps
        )


def _moments_of_pieces(data):
    call = carray(data, 6, np.int64)
    _, _, first, last = _share(call)
    table = carray(_pointer(call[3]), (call[2], 5), np.int64)
    scale, rate, root, rest1, rest2, eps = _floats(call[4], 6)
    for n in range(first, last):
        length, p, g, mean, square = table[n]
        _update_by_moments(
            _floats(p, length), _floats(g, length), _floats(mean, length), _floats(square, length),
            scale, rate, root, rest1, rest2, eps,
        )  # fmt: skip


def norm(gradients):
    """The norm of all of them together, fp32, 0-d."""
    if not gradients:
        return torch.zeros(())
    table = _pieces(gradients)
    sums = torch.empty(len(table))
    _run(_squares_of_pieces, [len(table)], [table, sums])
    return sums.double().sum().sqrt().float()


def rmsprop(parameters, gradients, squares, scale, lr, alpha, eps):
    """Updates parameters and mean squares."""
    if parameters:
        table = _pieces(parameters, gradients, squares)
        options = torch.tensor([float(scale), lr, alpha, eps])
        _run(_update_of_pieces, [len(table)], [table, options])


def adam(parameters, gradients, means, squares, scale, step, lr, betas, eps):
    """Updates parameters and both moments; `step` counts from 1."""
    if parameters:
        beta1, beta2 = betas
        table = _pieces(parameters, gradients, means, squares)
        rate, root = lr / (1 - beta1**step), (1 - beta2**step) ** -0.5
        options = torch.tensor([float(scale), rate, root, 1 - beta1, 1 - beta2, eps])
        _run(_moments_of_pieces, [len(table)], [table, options])
