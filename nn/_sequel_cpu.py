"""The compiled half of `activate_norm_and_follow` in nn/fused.py; threads and pointers are those of nn/_fused_cpu.py.

x (B, R, T), fp32, rows as there. One sample at a time is read, and what is made of it stays in the cache until what
follows is made of that: no map between is written.

A norm is (gain (C,), shift (C,), eps), of one group. A sub-pixel layer makes four pixels of each of BEFORE channels:
(weight (BEFORE, 4 C), bias). A convolution is that of NARROW channels: weight (O, 9, W NARROW), of each place of a
3 x 3 kernel, over a line of pixels; bias (O,); and places for what it sees. places: where every BLOCK numbers of a
sample go. room: (parts (4, T), one row (T,)).
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
    _address,
    _floats,
    _move_block,
    _pointer,
    _repeat,
    _run,
    _share,
    _threads,
)
from .fused import BEFORE, NARROW, tile
from .pixels import BLOCK, blocks

F32 = np.float32


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _scale(x, i, norm, curved, parts):
    """Fills the first two of parts (4, T), so that what they scale and offset has mean and variance as asked for."""
    _, rows, length = x.shape
    gain, shift, eps = norm
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
    by = F32(1) / np.sqrt(variance + eps)
    _repeat(gain, scale)
    _repeat(shift, offset)
    for t in range(length):
        scale[t] *= by
        offset[t] -= (mean + origin) * scale[t]


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _convolve(image, weight, bias, products, out):
    """out (O, H, W) of image (H + 2, BLOCK + W C + BLOCK), which has zeros around it."""
    outputs, height, width = out.shape
    left, middle, right = BLOCK - NARROW, BLOCK, BLOCK + NARROW
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
                for c in range(NARROW):
                    total += products[x * NARROW + c]
                out[o, y, x] = total


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _norm_and_move(x, i, norm, curved, places, to, room):
    """GroupNorm(activation(x[i])), each of its blocks at its place from the address `to` on."""
    _, rows, length = x.shape
    many, size = length // BLOCK, np.int64(4)
    parts, there = room
    _scale(x, i, norm, curved, parts)
    scale, offset, at = parts[0], parts[1], there.ctypes.data
    for r in range(rows):
        for t in range(length):
            there[t] = _activated(x[i, r, t], curved) * scale[t] + offset[t]
        for b in range(many):
            place = np.int64(places[r * many + b])
            _move_block(there, to + place * size, at + b * BLOCK * size)


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _norm_and_widen(x, i, norm, layer, curved, wide, room):
    """wide (1, R', T) = layer(GroupNorm(activation(x[i])))."""
    _, rows, length = x.shape
    (weight, bias), (parts, there) = layer, room
    # both constants where this is inlined, or the sum over channels would be no vectors'
    pixels, outputs = length // BEFORE, weight.shape[1]
    _scale(x, i, norm, curved, parts)
    scale, offset = parts[0], parts[1]
    wide = wide.reshape(rows * pixels, outputs)
    for r in range(rows):
        for t in range(length):
            there[t] = _activated(x[i, r, t], curved) * scale[t] + offset[t]
        for k in range(pixels):
            pixel, out = there[k * BEFORE :], wide[r * pixels + k]
            for t in range(outputs):
                total = bias[t]
                for c in range(BEFORE):
                    total += pixel[c] * weight[c, t]
                out[t] = total


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _convolved(x, norm, last, curved, room, image, products, out):
    """out (B, O, H, W) = convolution(GroupNorm(activation(x)))."""
    weight, bias, places = last
    image[:] = 0
    for i in range(len(x)):
        _norm_and_move(x, i, norm, curved, places, image.ctypes.data, room)
        _convolve(image, weight, bias, products, out[i])


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _upscaled(x, norms, layer, places, curved, room, wide, out):
    """out (B, R', T) = GroupNorm(activation(layer(GroupNorm(activation(x))))), its pixels moved."""
    for i in range(len(x)):
        _norm_and_widen(x, i, norms[0], layer, curved, wide, room)
        _norm_and_move(wide, 0, norms[1], curved, places, _address(out, i), room)


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _upscaled_and_convolved(x, norms, layer, last, curved, room, wide, image, products, out):
    """out (B, O, H, W) = convolution(GroupNorm(activation(layer(GroupNorm(activation(x))))))."""
    weight, bias, places = last
    image[:] = 0
    for i in range(len(x)):
        _norm_and_widen(x, i, norms[0], layer, curved, wide, room)
        _norm_and_move(wide, 0, norms[1], curved, places, image.ctypes.data, room)
        _convolve(image, weight, bias, products, out[i])


# A call's numbers: after those of nn/_fused_cpu.py (0 to 4), 5: H, 6: W, 7: O, 8: floats of a thread's room; from 9:
# addresses.


@njit(inline="always")
def _x_and_room(call):
    """This thread's samples of x, where they begin and end, what a norm needs, and the rest of the room."""
    thread, threads, first, last = _share(call)
    length = call[4]
    x = _floats(call[9], (call[2], call[3], length))[first:last]
    room = _floats(call[10], (threads, call[8]))[thread]
    few = room[: 4 * length].reshape(4, length), room[4 * length : 5 * length]
    return x, first, last, few, room[5 * length :]


@njit(inline="always")
def _norm(call, at, channels, eps):
    return _floats(call[at], channels), _floats(call[at + 1], channels), eps


@njit(inline="always")
def _last(call, at):
    """The convolution, and the addresses from `at` on: weight, bias, places."""
    height, width, outputs = call[5], call[6], call[7]
    weight = _floats(call[at], (outputs, 9, width * NARROW))
    places = carray(_pointer(call[at + 2]), height * width * NARROW // BLOCK, np.int32)
    return weight, _floats(call[at + 1], outputs), places


@njit(inline="always")
def _seen(call, room):
    """The image that the convolution sees, one line of products, and the rest of the room."""
    height, line = call[5], call[6] * NARROW
    size = (height + 2) * (line + 2 * BLOCK)
    image, room = room[:size].reshape(height + 2, line + 2 * BLOCK), room[size:]
    return image, room[:line], room[line:]


@njit(forceinline=True)
def _share_of_convolved(call):
    x, first, last, few, room = _x_and_room(call)
    eps, _, curved = _floats(call[11], 3)
    norm, ending = _norm(call, 13, NARROW, eps), _last(call, 15)
    image, products, _ = _seen(call, room)
    out = _floats(call[12], (call[2], call[7], call[5], call[6]))[first:last]
    if curved:
        _convolved(x, norm, ending, curved, few, image, products, out)
    else:
        _convolved(x, norm, ending, None, few, image, products, out)


@njit(forceinline=True)
def _share_of_upscaled(call):
    x, first, last, few, room = _x_and_room(call)
    eps, inner_eps, curved = _floats(call[11], 3)
    norms = _norm(call, 13, BEFORE, inner_eps), _norm(call, 17, BEFORE, eps)
    layer = _floats(call[15], (BEFORE, 4 * BEFORE)), _floats(call[16], 4 * BEFORE)
    blocks = x.shape[1] * x.shape[2] * 4 // BLOCK
    rows = blocks * BLOCK // x.shape[2]
    wide = room.reshape(1, rows, x.shape[2])
    out = _floats(call[12], (call[2], rows, x.shape[2]))[first:last]
    places = carray(_pointer(call[19]), blocks, np.int32)
    if curved:
        _upscaled(x, norms, layer, places, curved, few, wide, out)
    else:
        _upscaled(x, norms, layer, places, None, few, wide, out)


@njit(forceinline=True)
def _share_of_upscaled_and_convolved(call):
    x, first, last, few, room = _x_and_room(call)
    eps, inner_eps, curved = _floats(call[11], 3)
    norms = _norm(call, 13, BEFORE, inner_eps), _norm(call, 17, NARROW, eps)
    layer = _floats(call[15], (BEFORE, 4 * NARROW)), _floats(call[16], 4 * NARROW)
    ending = _last(call, 19)
    image, products, wide = _seen(call, room)
    out = _floats(call[12], (call[2], call[7], call[5], call[6]))[first:last]
    rows = call[5] * call[6] * NARROW // x.shape[2]
    wide = wide.reshape(1, rows, x.shape[2])
    if curved:
        _upscaled_and_convolved(x, norms, layer, ending, curved, few, wide, image, products, out)
    else:
        _upscaled_and_convolved(x, norms, layer, ending, None, few, wide, image, products, out)


def _convolved_images(data):
    _share_of_convolved(carray(data, 19, np.int64))


def _upscaled_images(data):
    _share_of_upscaled(carray(data, 21, np.int64))


def _upscaled_and_convolved_images(data):
    _share_of_upscaled_and_convolved(carray(data, 23, np.int64))


@lru_cache
def _places(move, height, width):
    """Where every BLOCK numbers of an image go in one with zeros around it, (H W C / BLOCK,) int32."""
    line = width * NARROW
    to = np.arange(height * line // BLOCK) if move is None else blocks(move, NARROW).numpy()
    row, column = np.divmod(to.astype(np.int64) * BLOCK, line)
    places = (row + 1) * (line + 2 * BLOCK) + BLOCK + column
    return torch.from_numpy(places.astype(np.int32))


@lru_cache
def _in_order(move, channels):
    """Where every BLOCK numbers of an image go in one without, (H W C / BLOCK,) int32."""
    return blocks(move, channels) * BLOCK


def follow(x, norm, alpha, layer, convolution, move, out):
    """Writes out. layer: weight, bias and norm of a sub-pixel layer; convolution: weight and bias; either may be None.

    What the convolution or, without one, whoever comes next sees is H x W.
    """
    rows, length = tile(x)
    norms, size, height, width, outputs, ending = [norm], 5 * length, *out.shape[2:], 0, []
    widening = []
    if layer is not None:
        weight, bias, after = layer
        norms.append(after)
        widening = [weight.flatten(1).T.contiguous(), bias, after.weight, after.bias]
        size += rows * length // BEFORE * len(weight)
    if convolution is not None:
        weight, bias = convolution
        outputs, line = len(weight), width * NARROW
        lines = weight.permute(0, 2, 3, 1).reshape(outputs, 9, NARROW).repeat(1, 1, width)
        ending = [lines, bias, _places(move, height, width)]
        size += (height + 2) * (line + 2 * BLOCK) + line
        kernel = _convolved_images if layer is None else _upscaled_and_convolved_images
    else:
        kernel = _upscaled_images
        ending = [_in_order(move, out.shape[1])]
    room = torch.empty(_threads(len(x)), size)
    options = _options(norms[-1].eps, norms[0].eps, alpha)
    tensors = [x, room, options, out, norm.weight, norm.bias, *widening, *ending]
    _run(kernel, [len(x), rows, length, height, width, outputs, size], tensors)


@lru_cache
def _options(*numbers):
    return torch.tensor(numbers)
