"""The compiled half of nn/compositing.py; threads and pointers are those of nn/_fused_cpu.py.

Arrays: glimpse (B, O, G G 4), three colours and the mask of one pixel after the other; logits, of those that are masked
first, the same, fp32 or the bits of bf16; presence and weight (B, O); scale and shift (B, O, 2); foreground
(B, S, S, 3), mask and answers (B, S, S). All but logits are fp32. Positions and rows: nn/_resampling_cpu.py.

The four numbers of a pixel are one vector to the compiler where they stand together, in the glimpse and in a canvas of
one image's own. They are written out one by one, all of them read before any is written, or it would not see that.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
import torch
from numba import carray, njit

from ._fused_cpu import FAST, _floats, _pointer, _read, _run, _scratch, _share, _sigmoid, _write
from ._resampling_cpu import _of_box, _positions, _row, _row_backward

F32 = np.float32
EMPTY = F32(1e-15)  # nn/compositing.py


@njit(inline="always")
def _four(array, at):
    return array[at], array[at + 1], array[at + 2], array[at + 3]


@njit(inline="always")
def _put(array, at, r, g, b, m):
    array[at], array[at + 1], array[at + 2], array[at + 3] = r, g, b, m


@njit(inline="always")
def _less(left, right):
    """left - right, of four."""
    return left[0] - right[0], left[1] - right[1], left[2] - right[2], left[3] - right[3]


@njit(inline="always")
def _mixed(left, step, share):
    """left + share step, of four."""
    return (
        left[0] + share * step[0], left[1] + share * step[1], left[2] + share * step[2], left[3] + share * step[3]
    )  # fmt: skip


@njit(inline="always")
def _dot(left, right):
    return (left[0] * right[0] + left[1] * right[1]) + (left[2] * right[2] + left[3] * right[3])


@njit(inline="always")
def _room(side, size):
    """For one object after the other: of both axes first and share, gradients of positions; rows of a glimpse.

    Asked for once: the heap serves one thread at a time.
    """
    first = np.empty((2, side), np.int32)
    share, of_position = np.empty((2, side), F32), np.empty((2, side), F32)
    return first, share, of_position, np.zeros((3, 4 * size + 8), F32)


# One object of one image: its glimpse (G, 4 G), its box (2,) and (2,), and the image's canvases.


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _add(glimpse, weight, scale, shift, canvas, answers, room):
    """Adds it to canvas (S, 4 S), colours times answers and masks, and to answers (S, S)."""
    size, (first, share, _, rows) = len(glimpse), room
    first_x, first_y, share_x, share_y = first[0], first[1], share[0], share[1]
    row, slope = rows[0], rows[1]
    x0, x1 = _positions(scale[0], shift[0], size, first_x, share_x)
    y0, y1 = _positions(scale[1], shift[1], size, first_y, share_y)
    for i in range(y0, y1):
        _row(glimpse, first_y[i], share_y[i], row, slope)
        pixels, answer_of = canvas[i], answers[i]
        for k in range(x0, x1):
            j = 4 * (np.int64(first_x[k]) + 1)
            left = _four(row, j)
            value = _mixed(left, _less(_four(row, j + 4), left), share_x[k])
            answer = weight * value[3]
            r, g, b, m = _four(pixels, 4 * k)
            r, g, b = r + answer * value[0], g + answer * value[1], b + answer * value[2]
            _put(pixels, 4 * k, r, g, b, m + value[3])
            answer_of[k] += answer


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _add_backward(
    glimpse, weight, scale, shift, field, of_answers, of_glimpse, of_scale, of_shift, room
):
    """Adds to the three before the last; returns the gradient of the weight. field: see `_divide_backward`."""
    size, (first, share_of, of_position, rows) = len(glimpse), room
    first_x, first_y, share_x, share_y = first[0], first[1], share_of[0], share_of[1]
    of_x, of_y, row, slope, of_row = of_position[0], of_position[1], rows[0], rows[1], rows[2]
    of_position[:] = 0
    x0, x1 = _positions(scale[0], shift[0], size, first_x, share_x)
    y0, y1 = _positions(scale[1], shift[1], size, first_y, share_y)
    of_weight = F32(0)
    for i in range(y0, y1):
        _row(glimpse, first_y[i], share_y[i], row, slope)
        of_row[:] = 0
        of_pixels, of_answer_of = field[i], of_answers[i]
        of_height = F32(0)
        for k in range(x0, x1):
            j, share = 4 * (np.int64(first_x[k]) + 1), share_x[k]
            left = _four(row, j)
            step = _less(_four(row, j + 4), left)
            value = _mixed(left, step, share)
            r, g, b, m = _four(of_pixels, 4 * k)
            of_answer = of_answer_of[k] + (r * value[0] + g * value[1] + b * value[2])
            of_weight += of_answer * value[3]
            answer = weight * value[3]
            of_value = answer * r, answer * g, answer * b, weight * of_answer + m
            of_x[k] += _dot(of_value, step)
            below = _four(slope, j)
            of_height += _dot(of_value, _mixed(below, _less(_four(slope, j + 4), below), share))
            before, after = _four(of_row, j), _four(of_row, j + 4)
            r, g, b, m = _mixed(before, of_value, F32(1) - share)
            after = _mixed(after, of_value, share)
            _put(of_row, j, r, g, b, m)
            _put(of_row, j + 4, after[0], after[1], after[2], after[3])
        of_y[i] += of_height
        _row_backward(of_row, first_y[i], share_y[i], of_glimpse)
    _of_box(scale, shift, 0, size, x0, x1, of_x, of_scale, of_shift)
    _of_box(scale, shift, 1, size, y0, y1, of_y, of_scale, of_shift)
    return of_weight


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _divide(canvas, answers, foreground, mask):
    """The last two of one image, when all of its objects are there."""
    for i in range(len(answers)):
        for k in range(len(answers)):
            share = F32(1) / (answers[i, k] + EMPTY)
            foreground[i, k, 0] = canvas[i, 4 * k] * share
            foreground[i, k, 1] = canvas[i, 4 * k + 1] * share
            foreground[i, k, 2] = canvas[i, 4 * k + 2] * share
            mask[i, k] = canvas[i, 4 * k + 3]


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _divide_backward(foreground, answers, of_foreground, of_mask, field, of_answers):
    """Writes the last two: field (S, 4 S), of what an object adds to the canvas, and of_answers.

    d foreground / d answer_o = (colour_o - foreground) / Σ answers; here without colour_o.
    """
    for i in range(len(answers)):
        for k in range(len(answers)):
            share = F32(1) / (answers[i, k] + EMPTY)
            r, g, b = of_foreground[i, k, 0], of_foreground[i, k, 1], of_foreground[i, k, 2]
            r, g, b = r * share, g * share, b * share
            of_answers[i, k] = -(
                r * foreground[i, k, 0] + g * foreground[i, k, 1] + b * foreground[i, k, 2]
            )
            _put(field[i], 4 * k, r, g, b, of_mask[i, k])


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _masked(logits, b, o, presence, value, glimpse):
    """Fills value with the sigmoids of one object, and glimpse with what is pasted of it; both (P 4,)."""
    for t in range(len(value)):
        value[t] = _sigmoid(_read(logits, b, o, t))
    for p in range(len(value) // 4):
        mask = presence * value[4 * p + 3]
        glimpse[4 * p] = value[4 * p] * mask
        glimpse[4 * p + 1] = value[4 * p + 1] * mask
        glimpse[4 * p + 2] = value[4 * p + 2] * mask
        glimpse[4 * p + 3] = mask


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _masked_backward(value, presence, of_glimpse, of_logits, b, o):
    """Writes of_logits; of_glimpse is used up. Returns the gradient of presence."""
    of_presence = F32(0)
    for p in range(len(value) // 4):
        red, green, blue, of_mask = _four(of_glimpse, 4 * p)
        mask = value[4 * p + 3]
        of_mask += red * value[4 * p] + green * value[4 * p + 1] + blue * value[4 * p + 2]
        of_presence += of_mask * mask
        mask *= presence
        _put(of_glimpse, 4 * p, red * mask, green * mask, blue * mask, presence * of_mask)
    for t in range(len(value)):
        _write(of_logits, b, o, t, of_glimpse[t] * value[t] * (F32(1) - value[t]))
    return of_presence


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _forward(glimpse, weight, scale, shift, foreground, mask, answers, size):
    """Writes foreground and mask; adds to answers, which begin as zeros."""
    side = answers.shape[1]
    canvas, room = _scratch(4 * side * side).reshape(side, 4 * side), _room(side, size)
    for b in range(len(glimpse)):
        canvas[:] = 0
        for o in range(glimpse.shape[1]):
            _add(
                glimpse[b, o].reshape(size, -1), weight[b, o], scale[b, o], shift[b, o], canvas, answers[b], room
            )  # fmt: skip
        _divide(canvas, answers[b], foreground[b], mask[b])


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _forward_masked(logits, presence, weight, scale, shift, foreground, mask, answers, size):
    """The same of logits, whose glimpses are never all there."""
    side, numbers = answers.shape[1], logits.shape[2]
    canvas, room = _scratch(4 * side * side).reshape(side, 4 * side), _room(side, size)
    value, glimpse = _scratch(numbers), _scratch(numbers)
    for b in range(len(logits)):
        canvas[:] = 0
        for o in range(logits.shape[1]):
            _masked(logits, b, o, presence[b, o], value, glimpse)
            _add(
                glimpse.reshape(size, -1), weight[b, o], scale[b, o], shift[b, o], canvas, answers[b], room
            )  # fmt: skip
        _divide(canvas, answers[b], foreground[b], mask[b])


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _backward(
    glimpse, weight, scale, shift, foreground, answers, of_foreground, of_mask,
    of_glimpse, of_weight, of_scale, of_shift, size,
):  # fmt: skip
    """Adds to the four before the last, which begin as zeros."""
    side = answers.shape[1]
    field, of_answers = np.empty((side, 4 * side), F32), np.empty((side, side), F32)
    room = _room(side, size)
    for b in range(len(glimpse)):
        _divide_backward(foreground[b], answers[b], of_foreground[b], of_mask[b], field, of_answers)
        for o in range(glimpse.shape[1]):
            of_weight[b, o] += _add_backward(
                glimpse[b, o].reshape(size, -1), weight[b, o], scale[b, o], shift[b, o], field, of_answers,
                of_glimpse[b, o].reshape(size, -1), of_scale[b, o], of_shift[b, o], room,
            )  # fmt: skip


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _backward_masked(
    logits, presence, weight, scale, shift, foreground, answers, of_foreground, of_mask,
    of_logits, of_presence, of_weight, of_scale, of_shift, size,
):  # fmt: skip
    """Writes of_logits; adds to the four after it."""
    side, numbers = answers.shape[1], logits.shape[2]
    field, of_answers = np.empty((side, 4 * side), F32), np.empty((side, side), F32)
    room = _room(side, size)
    value, glimpse, of_glimpse = _scratch(numbers), _scratch(numbers), _scratch(numbers)
    for b in range(len(logits)):
        _divide_backward(foreground[b], answers[b], of_foreground[b], of_mask[b], field, of_answers)
        for o in range(logits.shape[1]):
            _masked(logits, b, o, presence[b, o], value, glimpse)
            of_glimpse[:] = 0
            of_weight[b, o] += _add_backward(
                glimpse.reshape(size, -1), weight[b, o], scale[b, o], shift[b, o], field, of_answers,
                of_glimpse.reshape(size, -1), of_scale[b, o], of_shift[b, o], room,
            )  # fmt: skip
            of_presence[b, o] += _masked_backward(value, presence[b, o], of_glimpse, of_logits, b, o)  # fmt: skip


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
    return (call[2], call[6], call[6], call[4] - 1), (call[2], call[6], call[6])


@njit(inline="always")
def _numbers(call):
    """The shape of glimpses."""
    return call[2], call[3], call[5] * call[5] * call[4]


def _forward_given(data):
    call = carray(data, 15, np.int64)
    _, _, first, last = _share(call)
    coloured, plain = _canvases(call)
    weight, scale, shift = _boxes(call, 8)
    _forward(
        _floats(call[7], _numbers(call))[first:last], weight[first:last], scale[first:last], shift[first:last],
        _floats(call[11], coloured)[first:last], _floats(call[12], plain)[first:last],
        _floats(call[13], plain)[first:last], call[5],
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
        _floats(call[7], _numbers(call))[first:last], weight[first:last], scale[first:last], shift[first:last],
        _floats(call[11], coloured)[first:last], _floats(call[12], plain)[first:last],
        _floats(call[13], coloured)[first:last], _floats(call[14], plain)[first:last],
        _floats(call[15], _numbers(call))[first:last], of_weight[first:last], of_scale[first:last],
        of_shift[first:last], call[5],
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


# What lies behind, by the rows of all images, B of P pixels: front, image and their gradients (B, P 3) in fp32,
# mask (B, P), logits (B, 1, P 3).


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _over(front, mask, logits, value, image):
    """image = front + (1 - mask) sigmoid(logits). value: room for a row, (P 3,)."""
    for b in range(len(front)):
        for t in range(len(value)):
            value[t] = _sigmoid(_read(logits, b, 0, t))
        before, hidden, after = front[b], mask[b], image[b]
        for p in range(len(hidden)):
            seen = F32(1) - hidden[p]
            red, green, blue = value[3 * p], value[3 * p + 1], value[3 * p + 2]
            after[3 * p] = before[3 * p] + seen * red
            after[3 * p + 1] = before[3 * p + 1] + seen * green
            after[3 * p + 2] = before[3 * p + 2] + seen * blue


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _over_backward(mask, logits, of_image, value, of_mask, of_logits):
    """Writes the last two."""
    for b in range(len(mask)):
        for t in range(len(value)):
            value[t] = _sigmoid(_read(logits, b, 0, t))
        hidden, of_pixels, of_hidden = mask[b], of_image[b], of_mask[b]
        for p in range(len(hidden)):
            seen = F32(1) - hidden[p]
            red, green, blue = value[3 * p], value[3 * p + 1], value[3 * p + 2]
            r, g, b_ = of_pixels[3 * p], of_pixels[3 * p + 1], of_pixels[3 * p + 2]
            of_hidden[p] = -(r * red + g * green + b_ * blue)
            value[3 * p] = seen * r * red * (F32(1) - red)
            value[3 * p + 1] = seen * g * green * (F32(1) - green)
            value[3 * p + 2] = seen * b_ * blue * (F32(1) - blue)
        for t in range(len(value)):
            _write(of_logits, b, 0, t, value[t])


# 2, 3: B, P; from 4: addresses.


@njit(inline="always")
def _colours(call, at):
    return _floats(call[at], (call[2], 3 * call[3]))


@njit(inline="always")
def _plane(call, at):
    return _floats(call[at], (call[2], call[3]))


@njit(forceinline=True)
def _over_share(call, logits):
    _, _, first, last = _share(call)
    front, mask, image = _colours(call, 4), _plane(call, 5), _colours(call, 7)
    value = _scratch(3 * call[3])
    _over(front[first:last], mask[first:last], logits[first:last], value, image[first:last])


@njit(forceinline=True)
def _over_backward_share(call, logits, of_logits):
    _, _, first, last = _share(call)
    mask, of_image, of_mask = _plane(call, 4), _colours(call, 6), _plane(call, 7)
    value = _scratch(3 * call[3])
    _over_backward(
        mask[first:last], logits[first:last], of_image[first:last], value, of_mask[first:last], of_logits[first:last]
    )  # fmt: skip


def _over_fp32(data):
    call = carray(data, 9, np.int64)
    _over_share(call, _floats(call[6], (call[2], 1, 3 * call[3])))


def _over_bf16(data):
    call = carray(data, 9, np.int64)
    _over_share(call, carray(_pointer(call[6]), (call[2], 1, 3 * call[3]), np.uint16))


def _over_backward_fp32(data):
    call = carray(data, 10, np.int64)
    shape = (call[2], 1, 3 * call[3])
    _over_backward_share(call, _floats(call[5], shape), _floats(call[8], shape))


def _over_backward_bf16(data):
    call = carray(data, 10, np.int64)
    shape = (call[2], 1, 3 * call[3])
    logits = carray(_pointer(call[5]), shape, np.uint16)
    _over_backward_share(call, logits, carray(_pointer(call[8]), shape, np.uint16))


def _sizes(glimpse, canvas):
    batch, objects, size, _, channels = glimpse.shape
    return [batch, objects, channels, size, canvas.shape[-1]]


def forward(glimpse, boxes, canvases, presence=None):
    """Adds to foreground, mask and answers, the canvases. boxes: weight, scale, shift.

    glimpse: (B, O, G, G, C + 1); with presence, of logits.
    """
    sizes = _sizes(glimpse, canvases[1])
    if presence is None:
        _run(_forward_given, sizes, [glimpse, *boxes, *canvases])
        return
    kernel = _forward_bf16 if glimpse.dtype == torch.bfloat16 else _forward_fp32
    _run(kernel, sizes, [glimpse, *boxes, *canvases, presence])


def backward(glimpse, boxes, canvases, found, presence=None, of_presence=None):
    """Adds to the gradients found, of glimpse and boxes, and to of_presence; those of logits are written.

    canvases: foreground, answers, and the gradients of foreground and mask.
    """
    sizes = _sizes(glimpse, canvases[1])
    if presence is None:
        _run(_backward_given, sizes, [glimpse, *boxes, *canvases, *found])
        return
    kernel = _backward_bf16 if glimpse.dtype == torch.bfloat16 else _backward_fp32
    _run(kernel, sizes, [glimpse, *boxes, *canvases, *found, presence, of_presence])


def over(front, mask, logits, image):
    """Writes image. front, logits and image (B, S, S, 3), mask (B, 1, S, S)."""
    kernel = _over_bf16 if logits.dtype == torch.bfloat16 else _over_fp32
    _run(kernel, [mask.numel() // mask.shape[3], mask.shape[3]], [front, mask, logits, image])


def over_backward(mask, logits, of_image, of_mask, of_logits):
    """Writes of_mask and of_logits."""
    kernel = _over_backward_bf16 if logits.dtype == torch.bfloat16 else _over_backward_fp32
    sizes = [mask.numel() // mask.shape[3], mask.shape[3]]
    _run(kernel, sizes, [mask, logits, of_image, of_mask, of_logits])
