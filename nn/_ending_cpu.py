"""The compiled half of `activate_norm_and_convolve` in nn/fused.py; threads and pointers are those of nn/_fused_cpu.py.

x (B, R, T), fp32, rows as there. weight (O, 9, W C): of each place of a 3 x 3 kernel, over a line of pixels.
out (B, O, H, W). places: where every BLOCK numbers of a sample go in an image with zeros around it, in which a thread
works. One sample at a time is read, which stays in the cache, and no map as large as x is written.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numba import carray, njit

from ._fused_cpu import (
    FAST,
    _activated,
    _floats,
    _move_block,
    _options,
    _pointer,
    _repeat,
    _run,
    _share,
    _threads,
)
from .fused import NARROW
from .pixels import BLOCK, blocks

F32 = np.float32
CHANNELS = NARROW  # of x: as a constant, or their sum would be no vectors'


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _scale(x, i, gain, shift, eps, curved, parts):
    """Fills the first two of parts (4, T), so that what they scale and offset has mean and variance as asked for."""
    _, rows, length = x.shape
    scale, offset, total, square = parts[0], parts[1], parts[2], parts[3]
    # about a value of the sample itself, or the variance of a large mean would cancel
    origin = _activated(x[i, 0, 0], curved)
    total[:] = 0
    square[:] = 0
    for r in range(rows):
        for t in range(length):
            y = _activated(x[i, r, t], curved) - origin
            total[t] += y
            square[t] += y * y
    mean, variance = F32(0), F32(0)
    for t in range(length):
        mean += total[t]
        variance += square[t]
    mean /= F32(rows * length)
    variance = max(variance / F32(rows * length) - mean * mean, F32(0))
    by = F32(1) / np.sqrt(variance + F32(eps))
    _repeat(gain, scale)
    _repeat(shift, offset)
    for t in range(length):
        scale[t] *= by
        offset[t] -= (mean + origin) * scale[t]


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _convolve(image, weight, bias, products, out):
    """out (O, H, W) of image (H + 2, BLOCK + W C + BLOCK), which has zeros around it."""
    outputs, height, width = out.shape
    left, middle, right = BLOCK - CHANNELS, BLOCK, BLOCK + CHANNELS
    for o in range(outputs):
        w = weight[o]
        for y in range(height):
            p, q, r = image[y], image[y + 1], image[y + 2]
            for t in range(len(products)):
                above = p[left + t] * w[0, t] + p[middle + t] * w[1, t] + p[right + t] * w[2, t]
                here = q[left + t] * w[3, t] + q[middle + t] * w[4, t] + q[right + t] * w[5, t]
                below = r[left + t] * w[6, t] + r[middle + t] * w[7, t] + r[right + t] * w[8, t]
                products[t] = above + here + below
            for x in range(width):
                total = bias[o]
                for c in range(CHANNELS):
                    total += products[x * CHANNELS + c]
                out[o, y, x] = total


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _end(x, gain, shift, weight, bias, out, eps, curved, places, room):
    """out = convolution(GroupNorm(activation(x))), one group."""
    batch, rows, length = x.shape
    height, line, many = out.shape[2], weight.shape[2], length // BLOCK
    parts, there = room[: 4 * length].reshape(4, length), room[4 * length :][:length]
    products, flat = room[5 * length :][:line], room[5 * length + line :]
    flat[:] = 0
    image = flat.reshape(height + 2, line + 2 * BLOCK)
    scale, offset = parts[0], parts[1]
    to, at, size = flat.ctypes.data, there.ctypes.data, np.int64(4)
    for i in range(batch):
        _scale(x, i, gain, shift, eps, curved, parts)
        for r in range(rows):
            for t in range(length):
                there[t] = _activated(x[i, r, t], curved) * scale[t] + offset[t]
            for b in range(many):
                place = np.int64(places[r * many + b])
                _move_block(flat, to + place * size, at + b * BLOCK * size)
        _convolve(image, weight, bias, products, out[i])


@njit(forceinline=True)
def _share_of_end(call):
    thread, threads, first, last = _share(call)
    batch, outputs, height, width = call[2], call[5], call[6], call[7]
    x = _floats(call[10], (batch, call[3], call[4]))[first:last]
    gain, shift = _floats(call[11], CHANNELS), _floats(call[12], CHANNELS)
    weight, bias = _floats(call[13], (outputs, 9, width * CHANNELS)), _floats(call[14], outputs)
    out = _floats(call[15], (batch, outputs, height, width))[first:last]
    eps, curved = _floats(call[16], 2)
    places = carray(_pointer(call[17]), call[8], np.int32)
    room = _floats(call[18], (threads, call[9]))[thread]
    if curved:
        _end(x, gain, shift, weight, bias, out, eps, curved, places, room)
    else:
        _end(x, gain, shift, weight, bias, out, eps, None, places, room)


def _end_of_images(data):
    _share_of_end(carray(data, 20, np.int64))


@lru_cache
def _places(move, height, width):
    """Where every BLOCK numbers of an image go in one with zeros around it, (H W C / BLOCK,) int32."""
    line = width * CHANNELS
    to = np.arange(height * line // BLOCK) if move is None else blocks(move, CHANNELS).numpy()
    row, column = np.divmod(to.astype(np.int64) * BLOCK, line)
    places = (row + 1) * (line + 2 * BLOCK) + BLOCK + column
    return torch.from_numpy(places.astype(np.int32))


def end(x, tile, gain, shift, weight, bias, eps, alpha, move, out):
    """Writes out. x: read as `tile` says; weight (O, C, 3, 3)."""
    outputs, height, width = out.shape[1:]
    places, line = _places(move, height, width), width * CHANNELS
    size = 5 * tile[1] + line + (height + 2) * (line + 2 * BLOCK)
    room = torch.empty(_threads(len(x)), size)
    lines = weight.permute(0, 2, 3, 1).reshape(outputs, 9, CHANNELS).repeat(1, 1, width)
    tensors = [x, gain, shift, lines, bias, out, _options(eps, alpha), places, room]
    sizes = [len(x), *tile, outputs, height, width, len(places), size]
    _run(_end_of_images, sizes, tensors)
