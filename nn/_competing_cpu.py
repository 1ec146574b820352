"""The compiled half of `compete` in nn/compositing.py; threads and pointers are those of nn/_fused_cpu.py.

Arrays, all fp32: glimpse (B, O, C + 1, G, G), its last channel the mask; weight (B, O); scale and shift (B, O, 2);
together (B, C + 1, S, S). Of each pixel (B, S, S): `top`, the highest of all objects' weight times mask, and `total`,
the sum of exp(weight times mask - top). Positions and rows are those of nn/_resampling_cpu.py.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import carray, njit

from ._fused_cpu import FAST, _floats, _powers, _run, _share
from ._resampling_cpu import _between, _of_box, _of_pixels, _of_positions, _positions, _row

F32 = np.float32


@njit(inline="always")
def _exp(x):
    """exp(x) for x <= 0."""
    power, p = _powers(x, F32(-87))
    return power * p + power


@njit(inline="always")
def _room(side, size, channels):
    """For one object after the other: of both axes first and share, gradients of positions; rows; what lies at pixels.

    Asked for once: the heap serves one thread at a time.
    """
    first = np.empty((2, side), np.int32)
    share, of_position = np.empty((2, side), F32), np.empty((2, side), F32)
    rows, values = np.zeros((3, channels, size + 2), F32), np.empty((3, channels, side), F32)
    return first, share, of_position, rows, values


# One object of one image: its glimpse (C + 1, G, G), its box (2,) and (2,), and the image's canvases.


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _raise(mask, weight, scale, shift, top, room):
    """Raises top to its weight times mask (G, G)."""
    size, (first, share, _, rows, values) = mask.shape[0], room
    first_x, first_y, share_x, share_y = first[0], first[1], share[0], share[1]
    row, slope, value = rows[0, 0], rows[1, 0], values[0, 0]
    x0, x1 = _positions(scale[0], shift[0], size, first_x, share_x)
    y0, y1 = _positions(scale[1], shift[1], size, first_y, share_y)
    for i in range(y0, y1):
        _row(mask, first_y[i], share_y[i], row, slope)
        _between(row, first_x, share_x, x0, x1, value)
        for k in range(x0, x1):
            top[i, k] = max(top[i, k], weight * value[k])


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _add(glimpse, weight, scale, shift, top, total, together, room):
    """Adds it to total and together, which count it as absent so far; together is not divided by the total yet."""
    channels, size = glimpse.shape[:2]
    first, share, _, rows, values = room
    first_x, first_y, share_x, share_y = first[0], first[1], share[0], share[1]
    row, slope, value, answer = rows[0, 0], rows[1, 0], values[0, 0], values[1, 0]
    x0, x1 = _positions(scale[0], shift[0], size, first_x, share_x)
    y0, y1 = _positions(scale[1], shift[1], size, first_y, share_y)
    for i in range(y0, y1):
        for c in range(channels - 1, -1, -1):
            _row(glimpse[c], first_y[i], share_y[i], row, slope)
            _between(row, first_x, share_x, x0, x1, value)
            if c == channels - 1:
                for k in range(x0, x1):
                    answer[k] = _exp(weight * value[k] - top[i, k])
                    total[i, k] += answer[k] - _exp(-top[i, k])
            for k in range(x0, x1):
                together[c, i, k] += answer[k] * value[k]


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _add_backward(
    glimpse, weight, scale, shift, top, total, of_together, of_shares, of_glimpse, of_scale, of_shift, room
):  # fmt: skip
    """Adds to the three before the last; returns the gradient of the weight.

    of_shares: what of a share's no object has alone.
    """
    channels, size = glimpse.shape[:2]
    last, (first, share_of, of_position, rows, values) = channels - 1, room
    first_x, first_y, share_x, share_y = first[0], first[1], share_of[0], share_of[1]
    of_x, of_y, row, slope, of_row = of_position[0], of_position[1], rows[0], rows[1], rows[2, 0]
    value, of_value, share, of_share = values[0], values[1], values[2, 0], values[2, 1]
    of_position[:] = 0
    x0, x1 = _positions(scale[0], shift[0], size, first_x, share_x)
    y0, y1 = _positions(scale[1], shift[1], size, first_y, share_y)
    of_weight = F32(0)
    for i in range(y0, y1):
        for c in range(channels):
            _row(glimpse[c], first_y[i], share_y[i], row[c], slope[c])
            _between(row[c], first_x, share_x, x0, x1, value[c])
        for k in range(x0, x1):
            share[k] = _exp(weight * value[last, k] - top[i, k]) / total[i, k]
            of_share[k] = of_shares[i, k]
        for c in range(channels):
            for k in range(x0, x1):
                of_share[k] += of_together[c, i, k] * value[c, k]
                of_value[c, k] = of_together[c, i, k] * share[k]
        for k in range(x0, x1):
            of_logit = share[k] * of_share[k]
            of_weight += of_logit * value[last, k]
            of_value[last, k] += of_logit * weight
        for c in range(channels):
            of_y[i] += _of_positions(row[c], slope[c], first_x, share_x, x0, x1, of_value[c], of_x)
            _of_pixels(
                first_x, share_x, x0, x1, of_value[c], of_row, first_y[i], share_y[i], of_glimpse[c]
            )
    _of_box(scale, shift, 0, size, x0, x1, of_x, of_scale, of_shift)
    _of_box(scale, shift, 1, size, y0, y1, of_y, of_scale, of_shift)
    return of_weight


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _forward(glimpse, weight, scale, shift, together, top, total):
    """Adds to together and top, which begin as zeros; writes total."""
    objects, last = glimpse.shape[1], glimpse.shape[2] - 1
    room = _room(top.shape[1], glimpse.shape[3], last + 1)
    for b in range(len(glimpse)):
        for o in range(objects):
            _raise(glimpse[b, o, last], weight[b, o], scale[b, o], shift[b, o], top[b], room)
        for i in range(top.shape[1]):
            for k in range(top.shape[2]):
                total[b, i, k] = F32(objects) * _exp(-top[b, i, k])
        for o in range(objects):
            _add(
                glimpse[b, o], weight[b, o], scale[b, o], shift[b, o], top[b], total[b], together[b], room
            )  # fmt: skip
        for c in range(last + 1):
            for i in range(top.shape[1]):
                for k in range(top.shape[2]):
                    together[b, c, i, k] /= total[b, i, k]


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _backward(
    glimpse, weight, scale, shift, together, top, total, of_together,
    of_glimpse, of_weight, of_scale, of_shift,
):  # fmt: skip
    """Adds to the last four, which begin as zeros."""
    of_shares, room = (
        np.empty(top.shape[1:], F32),
        _room(top.shape[1], glimpse.shape[3], glimpse.shape[2]),
    )
    for b in range(len(glimpse)):
        of_shares[:] = 0
        for c in range(together.shape[1]):
            for i in range(top.shape[1]):
                for k in range(top.shape[2]):
                    of_shares[i, k] -= of_together[b, c, i, k] * together[b, c, i, k]
        for o in range(glimpse.shape[1]):
            of_weight[b, o] += _add_backward(
                glimpse[b, o], weight[b, o], scale[b, o], shift[b, o], top[b], total[b], of_together[b], of_shares,
                of_glimpse[b, o], of_scale[b, o], of_shift[b, o], room,
            )  # fmt: skip


# 2 to 6: B, O, C + 1, G, S; from 7: addresses.


@njit(inline="always")
def _objects(call, at):
    """glimpse, weight, scale and shift, or their gradients, from this address on; a thread's share of them."""
    _, _, first, last = _share(call)
    glimpses = (call[2], call[3], call[4], call[5], call[5])
    boxes = (call[2], call[3], 2)
    return (
        _floats(call[at], glimpses)[first:last], _floats(call[at + 1], (call[2], call[3]))[first:last],
        _floats(call[at + 2], boxes)[first:last], _floats(call[at + 3], boxes)[first:last],
    )  # fmt: skip


@njit(inline="always")
def _canvases(call):
    """together, top and total; a thread's share of them."""
    _, _, first, last = _share(call)
    plain = (call[2], call[6], call[6])
    return (
        _floats(call[11], (call[2], call[4], call[6], call[6]))[first:last],
        _floats(call[12], plain)[first:last], _floats(call[13], plain)[first:last],
    )  # fmt: skip


def _forward_images(data):
    call = carray(data, 15, np.int64)
    glimpse, weight, scale, shift = _objects(call, 7)
    together, top, total = _canvases(call)
    _forward(glimpse, weight, scale, shift, together, top, total)


def _backward_images(data):
    call = carray(data, 20, np.int64)
    _, _, first, last = _share(call)
    glimpse, weight, scale, shift = _objects(call, 7)
    together, top, total = _canvases(call)
    of_together = _floats(call[14], (call[2], call[4], call[6], call[6]))[first:last]
    of_glimpse, of_weight, of_scale, of_shift = _objects(call, 15)
    _backward(
        glimpse, weight, scale, shift, together, top, total, of_together,
        of_glimpse, of_weight, of_scale, of_shift,
    )  # fmt: skip


def forward(objects, canvases):
    """Adds to together and top, writes total, the canvases. objects: glimpse, weight, scale, shift."""
    _run(_forward_images, [*objects[0].shape[:4], canvases[0].shape[-1]], [*objects, *canvases])


def backward(objects, canvases, of_together, found):
    """Adds to the gradients found, of the objects."""
    tensors = [*objects, *canvases, of_together, *found]
    _run(_backward_images, [*objects[0].shape[:4], canvases[0].shape[-1]], tensors)
