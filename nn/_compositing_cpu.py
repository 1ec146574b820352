"""The compiled half of nn/compositing.py; threads and pointers are those of nn/_fused_cpu.py.

Arrays: glimpse (B, O, C + 1, G, G), its last channel the mask; logits (B, O, G G (C + 1)) of those that are masked
first, fp32 or the bits of bf16; presence and weight (B, O); scale and shift (B, O, 2); foreground (B, C, S, S), mask
and answers (B, S, S). All but logits are fp32. Positions and rows are those of nn/_resampling_cpu.py.
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


# One object of one image: its glimpse (C + 1, G, G), its box (2,) and (2,), and the image's canvases.


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _add(glimpse, weight, scale, shift, foreground, mask, answers):
    """Adds it to the canvases; the foreground is not divided by the answers yet."""
    channels, size = glimpse.shape[:2]
    colours, side = channels - 1, mask.shape[0]
    first_x, first_y = np.empty(side, np.int32), np.empty(side, np.int32)
    share_x, share_y = np.empty(side, F32), np.empty(side, F32)
    row, slope = np.zeros(size + 2, F32), np.zeros(size + 2, F32)
    value, answer = np.empty(side, F32), np.empty(side, F32)
    x0, x1 = _positions(scale[0], shift[0], size, first_x, share_x)
    y0, y1 = _positions(scale[1], shift[1], size, first_y, share_y)
    for i in range(y0, y1):
        _row(glimpse[colours], first_y[i], share_y[i], row, slope)
        _between(row, first_x, share_x, x0, x1, value)
        for k in range(x0, x1):
            mask[i, k] += value[k]
            answer[k] = weight * value[k]
            answers[i, k] += answer[k]
        for c in range(colours):
            _row(glimpse[c], first_y[i], share_y[i], row, slope)
            _between(row, first_x, share_x, x0, x1, value)
            for k in range(x0, x1):
                foreground[c, i, k] += answer[k] * value[k]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _add_backward(
    glimpse, weight, scale, shift, of_shared, of_answers, of_mask, of_glimpse, of_scale, of_shift
):
    """Adds to the last three; returns the gradient of the weight."""
    channels, size = glimpse.shape[:2]
    colours, side = channels - 1, of_mask.shape[0]
    first_x, first_y = np.empty(side, np.int32), np.empty(side, np.int32)
    share_x, share_y = np.empty(side, F32), np.empty(side, F32)
    of_x, of_y = np.zeros(side, F32), np.zeros(side, F32)  # gradients of the positions
    row, slope = np.zeros((channels, size + 2), F32), np.zeros((channels, size + 2), F32)
    value, of_value = np.empty((channels, side), F32), np.empty((channels, side), F32)
    of_answer, of_row = np.empty(side, F32), np.zeros(size + 2, F32)
    x0, x1 = _positions(scale[0], shift[0], size, first_x, share_x)
    y0, y1 = _positions(scale[1], shift[1], size, first_y, share_y)
    of_weight = F32(0)
    for i in range(y0, y1):
        for c in range(channels):
            _row(glimpse[c], first_y[i], share_y[i], row[c], slope[c])
            _between(row[c], first_x, share_x, x0, x1, value[c])
        for k in range(x0, x1):
            of_answer[k] = of_answers[i, k]
        for c in range(colours):
            for k in range(x0, x1):
                of_answer[k] += of_shared[c, i, k] * value[c, k]
                of_value[c, k] = weight * value[colours, k] * of_shared[c, i, k]
        for k in range(x0, x1):
            of_weight += of_answer[k] * value[colours, k]
            of_value[colours, k] = weight * of_answer[k] + of_mask[i, k]
        for c in range(channels):
            of_y[i] += _of_positions(row[c], slope[c], first_x, share_x, x0, x1, of_value[c], of_x)
            _of_pixels(
                first_x, share_x, x0, x1, of_value[c], of_row, first_y[i], share_y[i], of_glimpse[c]
            )
    _of_box(scale, shift, 0, size, x0, x1, of_x, of_scale, of_shift)
    _of_box(scale, shift, 1, size, y0, y1, of_y, of_scale, of_shift)
    return of_weight


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _divide(foreground, answers):
    """Of one image, when all of its objects are there."""
    for c in range(len(foreground)):
        for i in range(foreground.shape[1]):
            for k in range(foreground.shape[2]):
                foreground[c, i, k] /= answers[i, k] + EMPTY


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _divide_backward(foreground, answers, of_foreground, of_shared, of_answers):
    """Writes the last two: d foreground / d answer_o = (colour_o - foreground) / Σ answers, without colour_o."""
    of_answers[:] = 0
    for c in range(len(foreground)):
        for i in range(foreground.shape[1]):
            for k in range(foreground.shape[2]):
                shared = of_foreground[c, i, k] / (answers[i, k] + EMPTY)
                of_shared[c, i, k] = shared
                of_answers[i, k] -= shared * foreground[c, i, k]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _apart(flat, planes):
    """Pixels (P C,) as planes (C, P). Of four channels, the number that there are, the compiler makes vectors."""
    channels, count = planes.shape
    if channels == 4:
        for p in range(count):
            planes[0, p] = flat[4 * p]
            planes[1, p] = flat[4 * p + 1]
            planes[2, p] = flat[4 * p + 2]
            planes[3, p] = flat[4 * p + 3]
    else:
        for p in range(count):
            for c in range(channels):
                planes[c, p] = flat[p * channels + c]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _together(planes, flat):
    """The reverse."""
    channels, count = planes.shape
    if channels == 4:
        for p in range(count):
            flat[4 * p] = planes[0, p]
            flat[4 * p + 1] = planes[1, p]
            flat[4 * p + 2] = planes[2, p]
            flat[4 * p + 3] = planes[3, p]
    else:
        for p in range(count):
            for c in range(channels):
                flat[p * channels + c] = planes[c, p]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _masked(logits, b, o, presence, flat, value, glimpse):
    """Fills value (C + 1, P) with the sigmoids of one object, glimpse with what is pasted of it; flat is room."""
    last = len(value) - 1
    for t in range(len(flat)):
        flat[t] = _sigmoid(_read(logits, b, o, t))
    _apart(flat, value)
    for p in range(value.shape[1]):
        glimpse[last, p] = presence * value[last, p]
    for c in range(last):
        for p in range(value.shape[1]):
            glimpse[c, p] = value[c, p] * glimpse[last, p]


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _masked_backward(value, presence, of_glimpse, flat, of_logits, b, o):
    """Writes of_logits; of_glimpse is used up. Returns the gradient of presence."""
    last, of_presence = len(value) - 1, F32(0)
    for c in range(last):
        for p in range(value.shape[1]):
            of_glimpse[last, p] += of_glimpse[c, p] * value[c, p]
            of_glimpse[c, p] *= presence * value[last, p]
    for p in range(value.shape[1]):
        of_presence += of_glimpse[last, p] * value[last, p]
        of_glimpse[last, p] *= presence
    for c in range(last + 1):
        for p in range(value.shape[1]):
            of_glimpse[c, p] *= value[c, p] * (F32(1) - value[c, p])
    _together(of_glimpse, flat)
    for t in range(len(flat)):
        _write(of_logits, b, o, t, flat[t])
    return of_presence


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _forward(glimpse, weight, scale, shift, foreground, mask, answers):
    """Adds to foreground, mask and answers, which begin as zeros."""
    for b in range(len(glimpse)):
        for o in range(glimpse.shape[1]):
            _add(glimpse[b, o], weight[b, o], scale[b, o], shift[b, o], foreground[b], mask[b], answers[b])  # fmt: skip
        _divide(foreground[b], answers[b])


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _forward_masked(logits, presence, weight, scale, shift, foreground, mask, answers, size):
    """The same of logits (B, O, G G (C + 1)), whose glimpses are never all there."""
    channels, pixels = foreground.shape[1] + 1, size * size
    flat = _scratch(channels * pixels)
    value = _scratch(channels * pixels).reshape(channels, pixels)
    planes = _scratch(channels * pixels).reshape(channels, pixels)
    glimpse = planes.reshape(channels, size, size)
    for b in range(len(logits)):
        for o in range(logits.shape[1]):
            _masked(logits, b, o, presence[b, o], flat, value, planes)
            _add(
                glimpse, weight[b, o], scale[b, o], shift[b, o], foreground[b], mask[b], answers[b]
            )
        _divide(foreground[b], answers[b])


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _backward(
    glimpse, weight, scale, shift, foreground, answers, of_foreground, of_mask,
    of_glimpse, of_weight, of_scale, of_shift,
):  # fmt: skip
    """Adds to the last four, which begin as zeros."""
    of_shared, of_answers = np.empty(foreground.shape[1:], F32), np.empty(answers.shape[1:], F32)
    for b in range(len(glimpse)):
        _divide_backward(foreground[b], answers[b], of_foreground[b], of_shared, of_answers)
        for o in range(glimpse.shape[1]):
            of_weight[b, o] += _add_backward(
                glimpse[b, o], weight[b, o], scale[b, o], shift[b, o], of_shared, of_answers, of_mask[b],
                of_glimpse[b, o], of_scale[b, o], of_shift[b, o],
            )  # fmt: skip


@njit(cache=True, fastmath=FAST, error_model="numpy")
def _backward_masked(
    logits, presence, weight, scale, shift, foreground, answers, of_foreground, of_mask,
    of_logits, of_presence, of_weight, of_scale, of_shift, size,
):  # fmt: skip
    """Writes of_logits; adds to the four after it."""
    of_shared, of_answers = np.empty(foreground.shape[1:], F32), np.empty(answers.shape[1:], F32)
    channels, pixels = foreground.shape[1] + 1, size * size
    flat = _scratch(channels * pixels)
    value = _scratch(channels * pixels).reshape(channels, pixels)
    planes = _scratch(channels * pixels).reshape(channels, pixels)
    of_planes = _scratch(channels * pixels).reshape(channels, pixels)
    glimpse = planes.reshape(channels, size, size)
    of_glimpse = of_planes.reshape(channels, size, size)
    for b in range(len(logits)):
        _divide_backward(foreground[b], answers[b], of_foreground[b], of_shared, of_answers)
        for o in range(logits.shape[1]):
            _masked(logits, b, o, presence[b, o], flat, value, planes)
            of_planes[:] = 0
            of_weight[b, o] += _add_backward(
                glimpse, weight[b, o], scale[b, o], shift[b, o], of_shared, of_answers, of_mask[b],
                of_glimpse, of_scale[b, o], of_shift[b, o],
            )  # fmt: skip
            of_presence[b, o] += _masked_backward(value, presence[b, o], of_planes, flat, of_logits, b, o)  # fmt: skip


# 2 to 6: B, O, C + 1, G, S; from 7: addresses.


@njit(inline="always")
def _boxes(call, at):
    """weight, scale and shift, or their gradients, from this address on."""
    objects = (call[2], call[3])
    boxes = (call[2], call[3], 2)
    return _floats(call[at], objects), _floats(call[at + 1], boxes), _floats(call[at + 2], boxes)


@njit(inline="always")
def _canvases(call):
    """Shapes: coloured and plain."""
    return (call[2], call[4] - 1, call[6], call[6]), (call[2], call[6], call[6])


@njit(inline="always")
def _glimpses(call, address):
    return _floats(address, (call[2], call[3], call[4], call[5], call[5]))


@njit(inline="always")
def _numbers(call):
    """The shape of logits."""
    return call[2], call[3], call[5] * call[5] * call[4]


def _forward_given(data):
    call = carray(data, 15, np.int64)
    _, _, first, last = _share(call)
    coloured, plain = _canvases(call)
    weight, scale, shift = _boxes(call, 8)
    _forward(
        _glimpses(call, call[7])[first:last], weight[first:last], scale[first:last], shift[first:last],
        _floats(call[11], coloured)[first:last], _floats(call[12], plain)[first:last],
        _floats(call[13], plain)[first:last],
    )  # fmt: skip


@njit(inline="always")
def _forward_share(call, logits):
    _, _, first, last = _share(call)
    coloured, plain = _canvases(call)
    weight, scale, shift = _boxes(call, 8)
    presence = _floats(call[14], (call[2], call[3]))
    _forward_masked(
        logits[first:last], presence[first:last], weight[first:last], scale[first:last], shift[first:last],
        _floats(call[11], coloured)[first:last], _floats(call[12], plain)[first:last],
        _floats(call[13], plain)[first:last], call[5],
    )  # fmt: skip


def _forward_fp32(data):
    call = carray(data, 16, np.int64)
    _forward_share(call, _floats(call[7], _numbers(call)))


def _forward_bf16(data):
    call = carray(data, 16, np.int64)
    _forward_share(call, carray(_pointer(call[7]), _numbers(call), np.uint16))


def _backward_given(data):
    call = carray(data, 20, np.int64)
    _, _, first, last = _share(call)
    coloured, plain = _canvases(call)
    weight, scale, shift = _boxes(call, 8)
    of_weight, of_scale, of_shift = _boxes(call, 16)
    _backward(
        _glimpses(call, call[7])[first:last], weight[first:last], scale[first:last], shift[first:last],
        _floats(call[11], coloured)[first:last], _floats(call[12], plain)[first:last],
        _floats(call[13], coloured)[first:last], _floats(call[14], plain)[first:last],
        _glimpses(call, call[15])[first:last], of_weight[first:last], of_scale[first:last], of_shift[first:last],
    )  # fmt: skip


@njit(inline="always")
def _backward_share(call, logits, of_logits):
    _, _, first, last = _share(call)
    coloured, plain = _canvases(call)
    weight, scale, shift = _boxes(call, 8)
    of_weight, of_scale, of_shift = _boxes(call, 16)
    presence, of_presence = (
        _floats(call[19], (call[2], call[3])),
        _floats(call[20], (call[2], call[3])),
    )
    _backward_masked(
        logits[first:last], presence[first:last], weight[first:last], scale[first:last], shift[first:last],
        _floats(call[11], coloured)[first:last], _floats(call[12], plain)[first:last],
        _floats(call[13], coloured)[first:last], _floats(call[14], plain)[first:last],
        of_logits[first:last], of_presence[first:last], of_weight[first:last], of_scale[first:last],
        of_shift[first:last], call[5],
    )  # fmt: skip


def _backward_fp32(data):
    call = carray(data, 22, np.int64)
    shape = _numbers(call)
    _backward_share(call, _floats(call[7], shape), _floats(call[15], shape))


def _backward_bf16(data):
    call = carray(data, 22, np.int64)
    shape = _numbers(call)
    logits = carray(_pointer(call[7]), shape, np.uint16)
    _backward_share(call, logits, carray(_pointer(call[15]), shape, np.uint16))


def forward(glimpse, boxes, canvases, presence=None):
    """Adds to foreground, mask and answers, the canvases. boxes: weight, scale, shift.

    With presence, glimpse is logits (B, O, G, G, C + 1).
    """
    if presence is None:
        sizes = [*glimpse.shape[:4], canvases[1].shape[-1]]
        _run(_forward_given, sizes, [glimpse, *boxes, *canvases])
        return
    batch, objects, size, _, channels = glimpse.shape
    kernel = _forward_bf16 if glimpse.dtype == torch.bfloat16 else _forward_fp32
    sizes = [batch, objects, channels, size, canvases[1].shape[-1]]
    _run(kernel, sizes, [glimpse, *boxes, *canvases, presence])


def backward(glimpse, boxes, canvases, found, presence=None, of_presence=None):
    """Adds to the gradients found, of glimpse and boxes, and to of_presence; those of logits are written.

    canvases: foreground, answers, and the gradients of foreground and mask.
    """
    if presence is None:
        sizes = [*glimpse.shape[:4], canvases[1].shape[-1]]
        _run(_backward_given, sizes, [glimpse, *boxes, *canvases, *found])
        return
    batch, objects, size, _, channels = glimpse.shape
    kernel = _backward_bf16 if glimpse.dtype == torch.bfloat16 else _backward_fp32
    sizes = [batch, objects, channels, size, canvases[1].shape[-1]]
    _run(kernel, sizes, [glimpse, *boxes, *canvases, *found, presence, of_presence])
