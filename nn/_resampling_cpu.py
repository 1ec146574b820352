"""The compiled half of nn/resampling.py; threads and pointers are those of nn/_fused_cpu.py.

Arrays, all fp32: source (B, O or 1, C, G, G), scale and shift (B, O, 2), out (B, O or 1, C, S, S). Along one axis,
`first` is the earlier of the two source pixels that a pixel of the result lies between, `share` that of the later; the
source is thought of with a border of zeros, one pixel wide, and what lies beyond it is left out.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

import numpy as np
from numba import carray, njit

from ._fused_cpu import FAST, _floats, _run, _share

F32, U32 = np.float32, np.uint32
ONE = np.int32(1)  # indices are made U32: of others numba asks whether they are negative


@njit(inline="always")
def _positions(scale, shift, size, first, share):
    """Fills first and share of every pixel of one axis; returns the range of those that see the source."""
    pixels = len(first)
    scale = scale + F32(1e-15)
    begin, end = pixels, 0
    for i in range(pixels):
        pixel = F32(i * 2 + 1) / F32(pixels) - F32(1)
        position = (((pixel - shift) / scale + F32(1)) * F32(size) - F32(1)) / F32(2)
        if position >= F32(-1) and position < F32(size):
            before = np.floor(position)
            first[i] = np.int32(before)
            share[i] = position - before
            begin, end = min(begin, i), i + 1
    return begin, end


@njit(inline="always")
def _row(source, first, share, row, slope):
    """One row of the source at a height between two of its pixels, and its slope with the height.

    Into the middle of row and slope: they are a pixel longer at both ends. Rows are taken out of their arrays before
    the loop, or the compiler would ask in every turn of it whether an index is negative, and make no vectors.
    """
    size, length = source.shape
    pixel = (len(row) - length) // 2
    row, slope = row[pixel : pixel + length], slope[pixel : pixel + length]
    upper, lower = source[max(first, 0)], source[min(first + 1, size - 1)]
    if first < 0:
        for j in range(length):
            slope[j] = lower[j]
            row[j] = share * lower[j]
    elif first + 1 >= size:
        for j in range(length):
            slope[j] = -upper[j]
            row[j] = (F32(1) - share) * upper[j]
    else:
        for j in range(length):
            above = upper[j]
            step = lower[j] - above
            slope[j] = step
            row[j] = above + share * step


@njit(inline="always")
def _row_backward(of_row, first, share, of_source):
    """Adds to the gradient of the source what that of a row at this height says; `_row` is the way there."""
    size, length = of_source.shape
    pixel = (len(of_row) - length) // 2
    of_row = of_row[pixel : pixel + length]
    if first >= 0:
        upper = of_source[first]
        for j in range(length):
            upper[j] += (F32(1) - share) * of_row[j]
    if first + 1 < size:
        lower = of_source[first + 1]
        for j in range(length):
            lower[j] += share * of_row[j]


@njit(inline="always")
def _between(row, first, share, x0, x1, out):
    """What lies at each pixel of a row between two of its source's."""
    for k in range(x0, x1):
        left = row[first[k] + 1]
        out[k] = left + share[k] * (row[first[k] + 2] - left)


@njit(inline="always")
def _of_positions(row, slope, first, share, x0, x1, grad, of_x):
    """Adds to the gradients of a row's positions, along it; returns that of its height."""
    first, share, grad, of_x = first[x0:x1], share[x0:x1], grad[x0:x1], of_x[x0:x1]
    along = F32(0)
    for k in range(len(first)):
        at = U32(first[k] + ONE)
        left, below = row[at], slope[at]
        of_x[k] += grad[k] * (row[at + U32(1)] - left)
        along += grad[k] * (below + share[k] * (slope[at + U32(1)] - below))
    return along


@njit(inline="always")
def _of_pixels(first, share, x0, x1, grad, of_row, first_y, share_y, of_source):
    """Adds to the gradients of the source's pixels (G, G) what a row at this height knows of them."""
    of_row[:] = 0
    first, share, grad = first[x0:x1], share[x0:x1], grad[x0:x1]
    for k in range(len(first)):
        at = U32(first[k] + ONE)
        later = share[k] * grad[k]
        of_row[at] += grad[k] - later
        of_row[at + U32(1)] += later
    _row_backward(of_row, first_y, share_y, of_source)


@njit(inline="always")
def _of_box(scale, shift, axis, size, begin, end, of_position, of_scale, of_shift):
    """Adds to the gradients of a box along one axis: position = (((pixel - shift) / scale + 1) size - 1) / 2."""
    scale, shift = scale[axis] + F32(1e-15), shift[axis]
    total, moment = F32(0), F32(0)
    for i in range(begin, end):
        pixel = F32(i * 2 + 1) / F32(len(of_position)) - F32(1)
        total += of_position[i]
        moment += of_position[i] * (pixel - shift)
    half = F32(size) / (F32(2) * scale)
    of_shift[axis] -= half * total
    of_scale[axis] -= half * moment / scale


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _forward(source, scale, shift, out):
    """Adds to out what each box shows of its source."""
    batch, objects = scale.shape[:2]
    sources, channels, size = source.shape[1], source.shape[2], source.shape[3]
    outs, side = out.shape[1], out.shape[3]
    first_x, first_y = np.empty(side, np.int32), np.empty(side, np.int32)
    share_x, share_y = np.empty(side, F32), np.empty(side, F32)
    row, slope = np.zeros(size + 2, F32), np.zeros(size + 2, F32)
    for b in range(batch):
        for o in range(objects):
            x0, x1 = _positions(scale[b, o, 0], shift[b, o, 0], size, first_x, share_x)
            y0, y1 = _positions(scale[b, o, 1], shift[b, o, 1], size, first_y, share_y)
            for c in range(channels):
                of_source = source[b, min(o, sources - 1), c]
                of_out = out[b, min(o, outs - 1), c]
                for i in range(y0, y1):
                    _row(of_source, first_y[i], share_y[i], row, slope)
                    for k in range(x0, x1):  # in vectors of gathered numbers this would be slower
                        left = row[first_x[k] + 1]
                        of_out[i, k] += left + share_x[k] * (row[first_x[k] + 2] - left)


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _backward(source, scale, shift, grad, of_source, of_scale, of_shift):
    """Adds to the gradients; of_source is not wanted if it is empty."""
    batch, objects = scale.shape[:2]
    sources, channels, size = source.shape[1], source.shape[2], source.shape[3]
    outs, side = grad.shape[1], grad.shape[3]
    wanted = of_source.shape[0] > 0
    first_x, first_y = np.empty(side, np.int32), np.empty(side, np.int32)
    share_x, share_y = np.empty(side, F32), np.empty(side, F32)
    of_x, of_y = np.empty(side, F32), np.empty(side, F32)  # gradients of the positions
    row, slope = np.zeros(size + 2, F32), np.zeros(size + 2, F32)
    of_row = np.zeros(size + 2, F32)
    for b in range(batch):
        for o in range(objects):
            x0, x1 = _positions(scale[b, o, 0], shift[b, o, 0], size, first_x, share_x)
            y0, y1 = _positions(scale[b, o, 1], shift[b, o, 1], size, first_y, share_y)
            of_x[:] = 0
            of_y[:] = 0
            for c in range(channels):
                s = min(o, sources - 1)
                g = grad[b, min(o, outs - 1), c]
                for i in range(y0, y1):
                    _row(source[b, s, c], first_y[i], share_y[i], row, slope)
                    of_y[i] += _of_positions(row, slope, first_x, share_x, x0, x1, g[i], of_x)
                    if wanted:
                        _of_pixels(
                            first_x,
                            share_x,
                            x0,
                            x1,
                            g[i],
                            of_row,
                            first_y[i],
                            share_y[i],
                            of_source[b, s, c],
                        )
            _of_box(scale[b, o], shift[b, o], 0, size, x0, x1, of_x, of_scale[b, o], of_shift[b, o])
            _of_box(scale[b, o], shift[b, o], 1, size, y0, y1, of_y, of_scale[b, o], of_shift[b, o])


# 2 to 7: B, O, boxes per source (O or 1), C, G, S, and O or 1 of out; from 9: addresses.


def _forward_boxes(data):
    call = carray(data, 14, np.int64)
    _, _, first, last = _share(call)
    source = _floats(call[9], (call[2], call[4], call[5], call[6], call[6]))
    scale = _floats(call[10], (call[2], call[3], 2))
    shift = _floats(call[11], (call[2], call[3], 2))
    out = _floats(call[12], (call[2], call[8], call[5], call[7], call[7]))
    _forward(source[first:last], scale[first:last], shift[first:last], out[first:last])


def _backward_boxes(data):
    call = carray(data, 17, np.int64)
    _, _, first, last = _share(call)
    shape = (call[2], call[4], call[5], call[6], call[6])
    boxes = (call[2], call[3], 2)
    source, scale, shift = (
        _floats(call[9], shape),
        _floats(call[10], boxes),
        _floats(call[11], boxes),
    )
    grad = _floats(call[12], (call[2], call[8], call[5], call[7], call[7]))
    of_source = _floats(call[13], shape)
    if call[16] == 0:
        of_source = of_source[:0]
    else:
        of_source = of_source[first:last]
    of_scale, of_shift = _floats(call[14], boxes), _floats(call[15], boxes)
    _backward(
        source[first:last], scale[first:last], shift[first:last], grad[first:last], of_source,
        of_scale[first:last], of_shift[first:last],
    )  # fmt: skip


def _sizes(source, scale, out):
    batch, sources, channels, size = source.shape[:4]
    return [batch, scale.shape[1], sources, channels, size, out.shape[3], out.shape[1]]


def forward(source, scale, shift, out):
    """Adds to out."""
    _run(_forward_boxes, _sizes(source, scale, out), [source, scale, shift, out])


def backward(source, scale, shift, grad, of_source, of_scale, of_shift):
    """Adds to the gradients; of_source may be None."""
    anything = source if of_source is None else of_source
    tensors = [source, scale, shift, grad, anything, of_scale, of_shift]
    _run(_backward_boxes, _sizes(source, scale, grad), tensors, of_source is not None)
