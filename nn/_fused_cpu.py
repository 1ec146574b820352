"""The compiled half of nn/fused.py. Imported only when it is needed: numba takes half a second.

Arrays: x, out, grad (B, R, T), fp32 or the bits of bf16 as uint16; a row holds T / C pixels of C channels each.
gain, shift (C,). moments (B, 2, G): mean and 1 / standard deviation of each group. sums (threads, 2, C).
blocks (R T / BLOCK,) int32: where every BLOCK numbers of a sample of x stand in out and grad; empty: where they are.

The samples are shared out among the threads of torch's own OpenMP pool, which wait spinning for the next operation: any
other thread would find all cores taken. `GOMP_parallel` of the library that torch has loaded runs a function of
one pointer on each of them; here that pointer is to a list of addresses and sizes. Where torch has no GNU OpenMP
(macOS, Windows) one thread does all.

Whatever a kernel calls is inlined, or the process that compiles it would have other last bits than those that find it
in numba's cache: tests/test_kernels.py.
"""

# The names and loops are numba's: plain functions over arrays, no types that mypy could check.
# mypy: ignore-errors

from __future__ import annotations

import ctypes
import platform
from array import array
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.core import codegen, config
from numba.extending import intrinsic, overload

from .pixels import BLOCK

if platform.machine() in ("x86_64", "AMD64") and not (config.CPU_FEATURES or config.CPU_NAME):
    # LLVM takes half of AVX-512's registers on most of Intel's processors; the whole are a quarter faster here. Holds
    # for what is compiled from here on, unless NUMBA_CPU_FEATURES or NUMBA_CPU_NAME say otherwise.
    config.CPU_FEATURES = f"{codegen.get_host_cpu_features()},-prefer-256-bit"

F32, U32 = np.float32, np.uint32
LINE = 64  # bytes of a cache's line
# Sums may be reordered and products contracted, or no loop over a row could use vectors; NaN and infinity stay.
FAST = {"contract", "reassoc", "nsz"}
ROUND = F32(1.5 * 2**23 + 127)
ROUND_BITS = ROUND.view(np.uint32)


@intrinsic
def _float_of_bits(context, bits):
    """The float32 that has these 32 bits."""
    return types.float32(types.uint32), lambda c, builder, s, args: builder.bitcast(
        args[0], ir.FloatType()
    )


@intrinsic
def _bits_of_float(context, value):
    """The 32 bits of a float32."""
    return types.uint32(types.float32), lambda c, builder, s, args: builder.bitcast(
        args[0], ir.IntType(32)
    )


@intrinsic
def _pointer(context, address):
    """An address as a pointer that carray takes."""
    return types.voidptr(types.int64), lambda c, builder, s, args: builder.inttoptr(
        args[0], ir.IntType(8).as_pointer()
    )


@intrinsic
def _call(context, address):
    """What the C function `int f(void)` at this address returns."""

    def generate(c, builder, s, args):
        function = ir.FunctionType(ir.IntType(32), [])
        return builder.call(builder.inttoptr(args[0], function.as_pointer()), [])

    return types.int32(types.int64), generate


def _read(array, i, r, t):
    raise NotImplementedError


def _write(array, i, r, t, value):
    raise NotImplementedError


@overload(_read, inline="always")
def _read_of(array, i, r, t):
    if array.dtype == types.uint16:
        return lambda array, i, r, t: _float_of_bits(U32(array[i, r, t]) << U32(16))
    return lambda array, i, r, t: array[i, r, t]


@overload(_write, inline="always")
def _write_of(array, i, r, t, value):
    if array.dtype == types.float32:

        def write(array, i, r, t, value):
            array[i, r, t] = value

        return write

    def write(array, i, r, t, value):
        bits = _bits_of_float(value)
        rounded = (bits + U32(0x7FFF) + ((bits >> U32(16)) & U32(1))) >> U32(16)  # to nearest even
        array[i, r, t] = rounded if value == value else U32(0x7FC0)

    return write


@intrinsic
def _above(context, bits, origin):
    """bits - origin, both uint32, as a signed number in fp32. Numba's own integers would be of 64 bits."""

    def generate(c, builder, s, args):
        return builder.sitofp(builder.sub(*args), ir.FloatType())

    return types.float32(types.uint32, types.uint32), generate


@njit(inline="always")
def _whole(x):
    """(n, 2 ** n), n = x / ln 2 rounded to a whole number."""
    # added to so large a number, x / ln 2 loses its fraction; the last bits are n + 127, the exponent of 2 ** n
    bits = _bits_of_float(x * F32(1.4426950408889634) + ROUND)
    n = _above(bits, ROUND_BITS)  # FAST would cancel a subtraction of floats
    return n, _float_of_bits(bits << U32(23))


@njit(inline="always")
def _powers(x, least):
    """(2 ** n, p), exp(x) = 2 ** n (p + 1), for least <= x <= 0 in fp32.

    x = n ln 2 + r, |r| <= ln 2 / 2; p is Taylor's series in r.
    """
    x = max(x, least)
    n, power = _whole(x)
    r = x - n * F32(0.693359375) + n * F32(2.12194440e-4)  # ln 2 in two parts
    p = F32(1 / 5040)
    p = p * r + F32(1 / 720)
    p = p * r + F32(1 / 120)
    p = p * r + F32(1 / 24)
    p = p * r + F32(1 / 6)
    p = p * r + F32(1 / 2)
    return power, p * r * r + r


@njit(inline="always")
def _expm1(x):
    """exp(x) - 1 for x <= 0."""
    power, p = _powers(x, F32(-20))  # there it is -1
    return power * p + (power - F32(1))


@njit(inline="always")
def _expm1_of_bf16(x):
    """exp(x) - 1 for x <= 0 to 2 ** -17, where x itself is known to 2 ** -9."""
    x = max(x, F32(-20))
    n, power = _whole(x)
    r = x - n * F32(0.6931471805599453)
    p = F32(4.19212144e-2)  # of all quartics that begin with r, that of the least error
    p = p * r + F32(1.67539011e-1)
    p = p * r + F32(4.99989508e-1)
    p = p * r * r + r
    return power * p + (power - F32(1))


@njit(inline="always")
def _sigmoid(x):
    """1 / (1 + exp(-x)), as precise below as above."""
    power, p = _powers(-abs(x), F32(-87))
    e = power * p + power
    return (F32(1) if x >= F32(0) else e) / (F32(1) + e) if x == x else x


def _activated(x, curved):
    raise NotImplementedError


@overload(_activated, inline="always")
def _activated_of(x, curved):
    """CELU where `curved` is a number, ReLU where it is None: a matter of types, so that each is a loop of its own."""
    if isinstance(curved, types.NoneType):
        return lambda x, curved: max(x, F32(0))
    return lambda x, curved: max(x, F32(0)) + _expm1(min(x, F32(0)))


def _active(x, i, r, t, curved):
    raise NotImplementedError


@overload(_active, inline="always")
def _active_of(x, i, r, t, curved):
    """The activation of a number of x (B, R, T), as precise as x is."""
    if isinstance(curved, types.NoneType) or x.dtype == types.float32:
        return lambda x, i, r, t, curved: _activated(_read(x, i, r, t), curved)

    def active(x, i, r, t, curved):
        value = _read(x, i, r, t)
        return max(value, F32(0)) + _expm1_of_bf16(min(value, F32(0)))

    return active


def _slope(y, curved):
    raise NotImplementedError


@overload(_slope, inline="always")
def _slope_of(y, curved):
    """The activation's derivative where its value is y."""
    if isinstance(curved, types.NoneType):
        return lambda y, curved: F32(1) if y > F32(0) else F32(0)
    return lambda y, curved: min(y, F32(0)) + F32(1)


def _kept(active, x, i, r, t, curved):
    raise NotImplementedError


@overload(_kept, inline="always")
def _kept_of(active, x, i, r, t, curved):
    """The activation of x, once more: an exponential was kept in `active`; what ReLU does costs less than memory."""
    if isinstance(curved, types.NoneType):
        return lambda active, x, i, r, t, curved: _active(x, i, r, t, curved)
    return lambda active, x, i, r, t, curved: active[r, t]


def _keep(active, r, t, y, curved):
    raise NotImplementedError


@overload(_keep, inline="always")
def _keep_of(active, r, t, y, curved):
    if isinstance(curved, types.NoneType):
        return lambda active, r, t, y, curved: None

    def keep(active, r, t, y, curved):
        active[r, t] = y

    return keep


@intrinsic
def _move_block(context, array, to, at):
    """BLOCK numbers, of the kind that `array` has, from one address to another."""

    def generate(c, builder, s, args):
        block = ir.VectorType(ir.IntType(array.dtype.bitwidth), BLOCK).as_pointer()
        to, at = (builder.inttoptr(address, block) for address in args[1:])
        builder.store(
            builder.load(at, align=array.dtype.bitwidth // 8), to, align=array.dtype.bitwidth // 8
        )
        return c.get_dummy_value()

    return types.none(array, types.int64, types.int64), generate


@njit(inline="always")
def _scratch(length):
    """Room for so many floats that begins with a cache line: a vector across two costs twice."""
    room = np.empty(length + 16, F32)
    skipped = (-room.ctypes.data // 4) % 16
    return room[skipped : skipped + length]


@njit(inline="always")
def _room_like(array, room, rows, length):
    """Rows of one sample in the precision of `array`, (1, rows, length), where there is room for as many floats."""
    return room.view(array.dtype)[: rows * length].reshape(1, rows, length)


def _fetching(to_write):
    @intrinsic
    def fetch(context, address):
        def generate(c, builder, s, args):
            pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
            name = "llvm.prefetch.p0"
            called = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            line = builder.inttoptr(args[0], pointer)
            builder.call(called, [line, number(to_write), number(2), number(1)])
            return c.get_dummy_value()

        return types.none(types.int64), generate

    return fetch


_fetch_line, _fetch_line_to_write = _fetching(0), _fetching(1)


@njit(inline="always")
def _fetch(address, size):
    """Asks for so many bytes, to have them in the second cache when they are read; waits for nothing.

    The processor does the same for what is read in a row, but begins late, and does not for what is to be written.
    """
    for byte in range(0, size, LINE):
        _fetch_line(address + byte)


@njit(inline="always")
def _fetch_to_write(address, size):
    for byte in range(0, size, LINE):
        _fetch_line_to_write(address + byte)


@njit(inline="always")
def _address(array, i):
    """Where sample i of an array begins, or the last where there are fewer."""
    i = min(i, len(array) - 1)
    return array.ctypes.data + i * array.shape[1] * array.shape[2] * array.itemsize


@njit(inline="always")
def _repeat(channels, row):
    """Fills row (T,) with channels (C,), once for every pixel."""
    for begin in range(0, len(row), len(channels)):
        for c in range(len(channels)):
            row[begin + c] = channels[c]


@njit(inline="always")
def _number_groups(channels, groups, row):
    """Fills row (T,) with the group that each of its numbers belongs to."""
    size = channels // groups
    for begin in range(0, len(row), size):
        row[begin : begin + size] = begin // size % groups


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _forward(x, gain, shift, out, moments, eps, curved, blocks, room):
    """out = GroupNorm(activation(x)), and its moments. room: (8 + R) T floats."""
    batch, rows, length = x.shape
    groups, channels = moments.shape[2], len(gain)
    count = F32(rows * length // groups)
    room = room.reshape(8 + rows, length)
    total, square, scale, offset = room[0], room[1], room[2], room[3]
    active = room[8:]  # of one sample: it stays in the cache
    _repeat(gain, room[4])
    _repeat(shift, room[5])
    gain, shift, group = room[4], room[5], room[6].view(np.int32)
    _number_groups(channels, groups, group)
    moves, size, line, there = len(blocks) > 0, BLOCK * out.itemsize, length * out.itemsize, out
    if moves:  # a row is written beside, and then moved
        there = _room_like(out, room[7], 1, length)
    for i in range(batch):
        # about a value of the sample itself, or the variance of a large mean would cancel
        origin = _active(x, i, 0, 0, curved)
        total[:] = 0
        square[:] = 0
        to, ahead = _address(out, i), _address(x, i + 1)
        for r in range(rows):
            _fetch_to_write(to + r * line, line)
            for t in range(length):
                y = _active(x, i, r, t, curved)
                _keep(active, r, t, y, curved)
                y -= origin
                total[t] += y
                square[t] += y * y
        moments[i] = 0
        for t in range(length):
            moments[i, 0, group[t]] += total[t]
            moments[i, 1, group[t]] += square[t]
        for g in range(groups):
            mean = moments[i, 0, g] / count
            variance = max(moments[i, 1, g] / count - mean * mean, F32(0))
            moments[i, 0, g] = mean + origin
            moments[i, 1, g] = F32(1) / np.sqrt(variance + F32(eps))
        for t in range(length):
            g = group[t]
            scale[t] = gain[t] * moments[i, 1, g]
            offset[t] = shift[t] - moments[i, 0, g] * scale[t]
        k, at = 0 if moves else i, there.ctypes.data
        for r in range(rows):
            _fetch(ahead + r * line, line)
            n = 0 if moves else r
            for t in range(length):
                y = _kept(active, x, i, r, t, curved)
                _write(there, k, n, t, y * scale[t] + offset[t])
            if moves:
                for b in range(length // BLOCK):
                    block = np.int64(blocks[r * (length // BLOCK) + b])
                    _move_block(out, to + block * size, at + b * size)


@njit(cache=True, fastmath=FAST, error_model="numpy", forceinline=True)
def _backward(x, gain, moments, grad, of_x, of_shift, of_gain, curved, blocks, room):
    """The gradient of x into of_x; those of gain and shift (C,) are added to what is there.

    room: (12 + 2 R) T floats.
    """
    batch, rows, length = x.shape
    groups, channels = moments.shape[2], len(gain)
    count = F32(rows * length // groups)
    room = room.reshape(12 + 2 * rows, length)
    mean, scale, constant, slope = room[0], room[1], room[2], room[3]
    sum_grad, sum_product, shift_of_row, gain_of_row = room[4], room[5], room[6], room[7]
    active = room[12 : 12 + rows]
    _repeat(gain, room[8])
    gain, group, of_group = room[8], room[9].view(np.int32), room[10:12]
    _number_groups(channels, groups, group)
    shift_of_row[:] = 0
    gain_of_row[:] = 0
    moves, size, line, there = len(blocks) > 0, BLOCK * grad.itemsize, length * grad.itemsize, grad
    if moves:  # the gradient of one sample, where its pixels came from
        there = _room_like(grad, room[12 + rows :].reshape(-1), rows, length)
    for i in range(batch):
        k = 0 if moves else i
        if moves:
            to, at = there.ctypes.data, _address(grad, i)
            for b in range(len(blocks)):
                _move_block(grad, to + b * size, at + np.int64(blocks[b]) * size)
        for t in range(length):
            g = group[t]
            mean[t], scale[t] = moments[i, 0, g], moments[i, 1, g]
        sum_grad[:] = 0
        sum_product[:] = 0
        of_sample, ahead, ahead_of = _address(of_x, i), _address(x, i + 1), _address(grad, i + 1)
        for r in range(rows):
            _fetch_to_write(of_sample + r * line, line)
            for t in range(length):
                y = _active(x, i, r, t, curved)
                _keep(active, r, t, y, curved)
                d = _read(there, k, r, t)
                sum_grad[t] += d
                sum_product[t] += d * (y - mean[t])
        for t in range(length):
            sum_product[t] *= scale[t]
            shift_of_row[t] += sum_grad[t]
            gain_of_row[t] += sum_product[t]
        of_group[:] = 0
        for t in range(length):
            of_group[0, group[t]] += gain[t] * sum_grad[t]
            of_group[1, group[t]] += gain[t] * sum_product[t]
        for t in range(length):
            slope[t] = scale[t] * scale[t] * of_group[1, group[t]] / count
            constant[t] = scale[t] * of_group[0, group[t]] / count - slope[t] * mean[t]
            scale[t] *= gain[t]
        for r in range(rows):
            _fetch(ahead + r * line, line)
            _fetch(ahead_of + r * line, line)
            for t in range(length):
                y = _kept(active, x, i, r, t, curved)
                d = scale[t] * _read(there, k, r, t) - constant[t] - slope[t] * y
                _write(of_x, i, r, t, d * _slope(y, curved))
    for begin in range(0, length, channels):
        for c in range(channels):
            of_shift[c] += shift_of_row[begin + c]
            of_gain[c] += gain_of_row[begin + c]


@njit(inline="always")
def _share(call):
    """The number of this thread, how many there are, its first sample and the last + 1."""
    batch = call[2]
    if call[0] == 0:
        return 0, 1, 0, batch
    thread, threads = np.int64(_call(call[0])), np.int64(_call(call[1]))
    return thread, threads, batch * thread // threads, batch * (thread + 1) // threads


@njit(inline="always")
def _floats(address, shape):
    return carray(_pointer(address), shape, F32)


@njit(forceinline=True)
def _forward_share(call, x, out):
    thread, threads, first, last = _share(call)
    gain, shift = _floats(call[9], call[6]), _floats(call[10], call[6])
    moments = _floats(call[11], (call[2], 2, call[5]))
    eps, curved = _floats(call[12], 2)
    room = _floats(call[13], (threads, (8 + call[3]) * call[4]))[thread]
    blocks = carray(_pointer(call[14]), call[15], np.int32)
    x, out, moments = x[first:last], out[first:last], moments[first:last]
    if curved:
        _forward(x, gain, shift, out, moments, eps, curved, blocks, room)
    else:
        _forward(x, gain, shift, out, moments, eps, None, blocks, room)


@njit(forceinline=True)
def _backward_share(call, x, grad, of_x):
    thread, threads, first, last = _share(call)
    gain = _floats(call[10], call[6])
    moments = _floats(call[11], (call[2], 2, call[5]))
    _, curved = _floats(call[12], 2)
    of_gain, of_shift = _floats(call[13], (threads, 2, call[6]))[thread]
    of_gain[:] = 0
    of_shift[:] = 0
    room = _floats(call[14], (threads, (12 + 2 * call[3]) * call[4]))[thread]
    blocks = carray(_pointer(call[15]), call[16], np.int32)
    x, grad, of_x, moments = x[first:last], grad[first:last], of_x[first:last], moments[first:last]
    if curved:
        _backward(x, gain, moments, grad, of_x, of_shift, of_gain, curved, blocks, room)
    else:
        _backward(x, gain, moments, grad, of_x, of_shift, of_gain, None, blocks, room)


# Threads get their room from torch, before they begin: one heap serves all of them (training/engine.py), and whoever
# asks it for memory while another does is put to sleep, for longer than a small kernel takes.
# What a thread runs: a C function of a pointer to int64s. 0, 1: addresses of omp_get_thread_num and
# omp_get_num_threads, or 0 to be alone; 2 to 6: B, R, T, groups, C; from 7: addresses of the arrays, then the length
# of `blocks`. Compiling one takes two seconds, once; then it lies in a cache.


@lru_cache
def _compiled(function):
    return cfunc("void(voidptr)", cache=True)(function)


def _forward_fp32(data):
    call = carray(data, 16, np.int64)
    shape = (call[2], call[3], call[4])
    _forward_share(call, _floats(call[7], shape), _floats(call[8], shape))


def _forward_bf16(data):
    call = carray(data, 16, np.int64)
    shape = (call[2], call[3], call[4])
    x = carray(_pointer(call[7]), shape, np.uint16)
    out = carray(_pointer(call[8]), shape, np.uint16)
    _forward_share(call, x, out)


def _backward_fp32(data):
    call = carray(data, 17, np.int64)
    shape = (call[2], call[3], call[4])
    _backward_share(call, _floats(call[7], shape), _floats(call[8], shape), _floats(call[9], shape))


def _backward_bf16(data):
    call = carray(data, 17, np.int64)
    shape = (call[2], call[3], call[4])
    x = carray(_pointer(call[7]), shape, np.uint16)
    grad = carray(_pointer(call[8]), shape, np.uint16)
    of_x = carray(_pointer(call[9]), shape, np.uint16)
    _backward_share(call, x, grad, of_x)


NOWHERE = torch.empty(0, dtype=torch.int32)


def forward(x, tile, gain, shift, out, moments, eps, alpha, blocks=None):
    """Writes out and moments. x, out: tensors of B samples, read as `tile` says, (R, T). gain, shift (C,)."""
    kernel = _forward_bf16 if x.dtype == torch.bfloat16 else _forward_fp32
    blocks = NOWHERE if blocks is None else blocks
    room = torch.empty(_threads(len(x)), (8 + tile[0]) * tile[1])
    tensors = [x, out, gain, shift, moments, _options(eps, alpha), room, blocks]
    _run(kernel, [len(x), *tile, moments.shape[2], len(gain)], tensors, len(blocks))


def backward(x, tile, gain, moments, grad, of_x, alpha, blocks=None):
    """Writes of_x; returns the gradients of gain and shift, (2, C)."""
    kernel = _backward_bf16 if x.dtype == torch.bfloat16 else _backward_fp32
    blocks = NOWHERE if blocks is None else blocks
    threads = _threads(len(x))
    sums, room = (
        torch.empty(threads, 2, len(gain)),
        torch.empty(threads, (12 + 2 * tile[0]) * tile[1]),
    )
    tensors = [x, grad, of_x, gain, moments, _options(0.0, alpha), sums, room, blocks]
    _run(kernel, [len(x), *tile, moments.shape[2], len(gain)], tensors, len(blocks))
    return sums.sum(0)


@lru_cache
def _options(eps, alpha):
    return torch.tensor([eps, alpha])


def _threads(samples):
    return min(torch.get_num_threads(), samples) if _openmp() else 1


def _run(kernel, sizes, tensors, flag=0):
    threads = _threads(sizes[0])
    openmp = _openmp() if threads > 1 else None
    about = (openmp.number, openmp.count) if openmp else (0, 0)
    call = array("q", (*about, *sizes, *(t.data_ptr() for t in tensors), flag))
    kernel, (address, _) = _compiled(kernel), call.buffer_info()
    if openmp:
        openmp.parallel(kernel.address, address, threads, 0)
    else:
        kernel.ctypes(address)


class _OpenMP(NamedTuple):
    """GOMP_parallel, and the addresses of omp_get_thread_num and omp_get_num_threads."""

    parallel: Any
    number: int
    count: int


@lru_cache
def _openmp():
    """Torch's own GNU OpenMP, or None. Other packages bring theirs: the loader is asked for what torch itself calls."""
    torch_cpu = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    if not torch_cpu.exists():
        return None
    library = ctypes.CDLL(str(torch_cpu))  # names are looked up in it, and then in what it needs
    try:
        parallel = library.GOMP_parallel
        functions = library.omp_get_thread_num, library.omp_get_num_threads
    except AttributeError:
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    number, count = (ctypes.cast(f, ctypes.c_void_p).value for f in functions)
    return _OpenMP(parallel, number, count)
