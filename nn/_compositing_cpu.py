"""The compiled half of nn/compositing.py; threads and pointers are those of nn/_fused_cpu.py.

Arrays, all fp32: glimpse (B, O, C + 1, G, G), its last channel the mask; weight (B, O); scale and shift (B, O, 2);
foreground (B, C, S, S), mask and answers (B, S, S). Positions and rows are those of nn/_resampling_cpu.py.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
import torch
from numba import carray, njit

from ._fused_cpu import FAST, _floats, _pointer, _read, _run, _scratch, _share, _sigmoid, _write
from ._resampling_cpu import _of_box, _of_pixels, _of_positions, _positions, _row

F32 = np.float32
EMPTY = F32(1e-15)  # nn/compositing.py


@njit(inline="always")
def _between(row, first, share, x0, x1, out):
    """What lies at each pixel of a row between two of its source's."""
    for k in range(x0, x1):
        left = row[first[k] + 1]
        out[k] = left + share[k] * (row[first[k] + 2] - left)


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _forward(glimpse, weight, scale, shift, foreground, mask, answers):
    """Adds to foreground, mask and answers, which begin as zeros."""
    batch, objects, channels, size = glimpse.shape[:4]
    colours, side = channels - 1, mask.shape[1]
    first_x, first_y = np.empty(side, np.int32), np.empty(side, np.int32)
    share_x, share_y = np.empty(side, F32), np.empty(side, F32)
    row, slope = np.zeros(size + 2, F32), np.zeros(size + 2, F32)
    value, answer = np.empty(side, F32), np.empty(side, F32)
    for b in range(batch):
        for o in range(objects):
            x0, x1 = _positions(scale[b, o, 0], shift[b, o, 0], size, first_x, share_x)
            y0, y1 = _positions(scale[b, o, 1], shift[b, o, 1], size, first_y, share_y)
            for i in range(y0, y1):
                _row(glimpse[b, o, colours], first_y[i], share_y[i], row, slope)
                _between(row, first_x, share_x, x0, x1, value)
                for k in range(x0, x1):
                    mask[b, i, k] += value[k]
                    answer[k] = weight[b, o] * value[k]
                    answers[b, i, k] += answer[k]
                for c in range(colours):
                    _row(glimpse[b, o, c], first_y[i], share_y[i], row, slope)
                    _between(row, first_x, share_x, x0, x1, value)
                    for k in range(x0, x1):
                        foreground[b, c, i, k] += answer[k] * value[k]
        for c in range(colours):
            for i in range(side):
                for k in range(side):
                    foreground[b, c, i, k] /= answers[b, i, k] + EMPTY


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _backward(
    glimpse, weight, scale, shift, foreground, answers, of_foreground, of_mask,
    of_glimpse, of_weight, of_scale, of_shift,
):  # fmt: skip
    """Adds to the last four, which begin as zeros."""
    batch, objects, channels, size = glimpse.shape[:4]
    colours, side = channels - 1, answers.shape[1]
    first_x, first_y = np.empty(side, np.int32), np.empty(side, np.int32)
    share_x, share_y = np.empty(side, F32), np.empty(side, F32)
    of_x, of_y = np.empty(side, F32), np.empty(side, F32)  # gradients of the positions
    row, slope = np.zeros((channels, size + 2), F32), np.zeros((channels, size + 2), F32)
    value, of_value = np.empty((channels, side), F32), np.empty((channels, side), F32)
    of_answer, of_row = np.empty(side, F32), np.zeros(size + 2, F32)
    # d foreground / d answer_o = (colour_o - foreground) / Σ answers: what of it no object has for itself, here
    of_shared, of_answers = np.empty((colours, side, side), F32), np.empty((side, side), F32)
    for b in range(batch):
        of_answers[:] = 0
        for c in range(colours):
            for i in range(side):
                for k in range(side):
                    shared = of_foreground[b, c, i, k] / (answers[b, i, k] + EMPTY)
                    of_shared[c, i, k] = shared
                    of_answers[i, k] -= shared * foreground[b, c, i, k]
        for o in range(objects):
            x0, x1 = _positions(scale[b, o, 0], shift[b, o, 0], size, first_x, share_x)
            y0, y1 = _positions(scale[b, o, 1], shift[b, o, 1], size, first_y, share_y)
            heavy, of_heavy = weight[b, o], F32(0)
            of_x[:] = 0
            of_y[:] = 0
            for i in range(y0, y1):
                for c in range(channels):
                    _row(glimpse[b, o, c], first_y[i], share_y[i], row[c], slope[c])
                    _between(row[c], first_x, share_x, x0, x1, value[c])
                for k in range(x0, x1):
                    of_answer[k] = of_answers[i, k]
                for c in range(colours):
                    for k in range(x0, x1):
                        of_answer[k] += of_shared[c, i, k] * value[c, k]
                        of_value[c, k] = heavy * value[colours, k] * of_shared[c, i, k]
                for k in range(x0, x1):
                    of_heavy += of_answer[k] * value[colours, k]
                    of_value[colours, k] = heavy * of_answer[k] + of_mask[b, i, k]
                for c in range(channels):
                    of_y[i] += _of_positions(
                        row[c], slope[c], first_x, share_x, x0, x1, of_value[c], of_x
                    )
                    _of_pixels(
                        first_x,
                        share_x,
                        x0,
                        x1,
                        of_value[c],
                        of_row,
                        first_y[i],
                        share_y[i],
                        of_glimpse[b, o, c],
                    )
            of_weight[b, o] += of_heavy
            _of_box(scale[b, o], shift[b, o], 0, size, x0, x1, of_x, of_scale[b, o], of_shift[b, o])
            _of_box(scale[b, o], shift[b, o], 1, size, y0, y1, of_y, of_scale[b, o], of_shift[b, o])


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _masked(logits, presence, out):
    """out (N, C + 1, P) of logits (N, P, C + 1): the last channel's sigmoid times presence, the others' times that."""
    glimpses, pixels, channels = logits.shape
    value = _scratch(pixels * channels).reshape(pixels, channels)
    for n in range(glimpses):
        _sigmoids(logits, n, value)
        for p in range(pixels):
            out[n, channels - 1, p] = presence[n] * value[p, channels - 1]
        for c in range(channels - 1):
            for p in range(pixels):
                out[n, c, p] = value[p, c] * out[n, channels - 1, p]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _masked_backward(logits, presence, grad, of_logits, of_presence):
    """Writes the last two."""
    glimpses, pixels, channels = logits.shape
    value = _scratch(pixels * channels).reshape(pixels, channels)
    of_value = _scratch(pixels * channels).reshape(1, pixels, channels)
    for n in range(glimpses):
        _sigmoids(logits, n, value)
        total = F32(0)
        for p in range(pixels):
            of_mask = grad[n, channels - 1, p]
            mask = value[p, channels - 1]
            for c in range(channels - 1):
                of_mask += grad[n, c, p] * value[p, c]
                of_value[0, p, c] = grad[n, c, p] * presence[n] * mask
            of_value[0, p, channels - 1] = presence[n] * of_mask
            total += of_mask * mask
        of_presence[n] = total
        for p in range(pixels):
            for c in range(channels):
                slope = value[p, c] * (F32(1) - value[p, c])
                _write(of_logits, n, p, c, of_value[0, p, c] * slope)


@njit(inline="always")
def _sigmoids(logits, n, value):
    """Those of one glimpse (P, C + 1)."""
    pixels, channels = value.shape
    flat, given = value.reshape(1, 1, pixels * channels), logits[n].reshape(1, 1, pixels * channels)
    for i in range(pixels * channels):
        flat[0, 0, i] = _sigmoid(_read(given, 0, 0, i))


# 2 to 4: N, P, C + 1; from 5: addresses.


@njit(inline="always")
def _masked_share(call, logits):
    _, _, first, last = _share(call)
    presence, out = _floats(call[6], call[2]), _floats(call[7], (call[2], call[4], call[3]))
    _masked(logits[first:last], presence[first:last], out[first:last])


@njit(inline="always")
def _masked_backward_share(call, logits, of_logits):
    _, _, first, last = _share(call)
    presence, grad = _floats(call[6], call[2]), _floats(call[7], (call[2], call[4], call[3]))
    of_presence = _floats(call[9], call[2])
    _masked_backward(
        logits[first:last], presence[first:last], grad[first:last], of_logits[first:last], of_presence[first:last]
    )  # fmt: skip


def _masked_fp32(data):
    call = carray(data, 9, np.int64)
    _masked_share(call, _floats(call[5], (call[2], call[3], call[4])))


def _masked_bf16(data):
    call = carray(data, 9, np.int64)
    _masked_share(call, carray(_pointer(call[5]), (call[2], call[3], call[4]), np.uint16))


def _masked_backward_fp32(data):
    call = carray(data, 11, np.int64)
    shape = (call[2], call[3], call[4])
    _masked_backward_share(call, _floats(call[5], shape), _floats(call[8], shape))


def _masked_backward_bf16(data):
    call = carray(data, 11, np.int64)
    shape = (call[2], call[3], call[4])
    logits = carray(_pointer(call[5]), shape, np.uint16)
    _masked_backward_share(call, logits, carray(_pointer(call[8]), shape, np.uint16))


def masked(logits, presence, out):
    """Writes out (N, C + 1, P). Tensors logits (N, P, C + 1), fp32 or bf16, and presence (N,)."""
    kernel = _masked_bf16 if logits.dtype == torch.bfloat16 else _masked_fp32
    _run(kernel, list(logits.shape), [logits, presence, out])


def masked_backward(logits, presence, grad, of_logits, of_presence):
    """Writes the last two."""
    kernel = _masked_backward_bf16 if logits.dtype == torch.bfloat16 else _masked_backward_fp32
    _run(kernel, list(logits.shape), [logits, presence, grad, of_logits, of_presence])


# 2 to 6: B, O, C + 1, G, S; from 7: addresses.


@njit(inline="always")
def _inputs(call):
    batch, objects = call[2], call[3]
    boxes = (batch, objects, 2)
    return (
        _floats(call[7], (batch, objects, call[4], call[5], call[5])),
        _floats(call[8], (batch, objects)),
        _floats(call[9], boxes),
        _floats(call[10], boxes),
    )


def _forward_images(data):
    call = carray(data, 15, np.int64)
    _, _, first, last = _share(call)
    glimpse, weight, scale, shift = _inputs(call)
    batch, colours, side = call[2], call[4] - 1, call[6]
    foreground = _floats(call[11], (batch, colours, side, side))
    mask = _floats(call[12], (batch, side, side))
    answers = _floats(call[13], (batch, side, side))
    _forward(
        glimpse[first:last], weight[first:last], scale[first:last], shift[first:last],
        foreground[first:last], mask[first:last], answers[first:last],
    )  # fmt: skip


def _backward_images(data):
    call = carray(data, 20, np.int64)
    _, _, first, last = _share(call)
    glimpse, weight, scale, shift = _inputs(call)
    batch, objects, colours, side = call[2], call[3], call[4] - 1, call[6]
    coloured, plain = (batch, colours, side, side), (batch, side, side)
    foreground, answers = _floats(call[11], coloured), _floats(call[12], plain)
    of_foreground, of_mask = _floats(call[13], coloured), _floats(call[14], plain)
    of_glimpse = _floats(call[15], (batch, objects, call[4], call[5], call[5]))
    of_weight = _floats(call[16], (batch, objects))
    of_scale = _floats(call[17], (batch, objects, 2))
    of_shift = _floats(call[18], (batch, objects, 2))
    _backward(
        glimpse[first:last], weight[first:last], scale[first:last], shift[first:last],
        foreground[first:last], answers[first:last], of_foreground[first:last], of_mask[first:last],
        of_glimpse[first:last], of_weight[first:last], of_scale[first:last], of_shift[first:last],
    )  # fmt: skip


def forward(glimpse, weight, scale, shift, foreground, mask, answers):
    """Adds to the last three."""
    sizes = [*glimpse.shape[:4], mask.shape[-1]]
    _run(_forward_images, sizes, [glimpse, weight, scale, shift, foreground, mask, answers])


def backward(
    glimpse, weight, scale, shift, foreground, answers, of_foreground, of_mask,
    of_glimpse, of_weight, of_scale, of_shift,
):  # fmt: skip
    """Adds to the last four."""
    tensors = [
        glimpse, weight, scale, shift, foreground, answers, of_foreground, of_mask,
        of_glimpse, of_weight, of_scale, of_shift,
    ]  # fmt: skip
    _run(_backward_images, [*glimpse.shape[:4], answers.shape[-1]], tensors)
