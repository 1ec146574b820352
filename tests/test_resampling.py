"""The compiled resampling of boxes says what the matrices of nn/spatial_transformer.py say, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from reprise.nn import resampling
from reprise.nn.fused import kernels
from reprise.nn.spatial_transformer import crop, paste, paste_sum

pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")

# scale and shift of a box, (x, y) each: inside, filling, wider than the canvas, partly and wholly outside, the least
BOXES = [
    ((0.5, 0.3), (0.1, -0.4)), ((1.0, 1.0), (0.0, 0.0)), ((1.7, 2.5), (0.3, 0.2)), ((0.4, 0.6), (0.9, -1.1)),
    ((0.3, 0.3), (2.5, 0.0)), ((0.2, 0.2), (-3.0, 3.0)), ((0.05, 0.05), (0.33, 0.71)), ((0.05, 0.9), (-0.99, 0.5)),
]  # fmt: skip
SIDE, CANVAS = 9, 17
FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "paste": lambda source, scale, shift: paste(source, scale, shift, CANVAS),
    "paste_sum": lambda source, scale, shift: paste_sum(source, scale, shift, CANVAS),
    "crop": lambda source, scale, shift: crop(source[:, 0], scale, shift, SIDE),
}


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def boxes(objects: int) -> tuple[Tensor, Tensor]:
    """Every box once as an image's first, (B, O, 2) each."""
    both = torch.tensor(BOXES)  # (B, 2, 2)
    both = torch.stack([both.roll(o, 0) for o in range(objects)], 1)
    return both[:, :, 0], both[:, :, 1]


def result(name: str, inputs: list[Tensor], compiled: bool) -> list[Tensor]:
    """out, and the gradients of source, scale and shift."""
    leaves = [part.clone().requires_grad_() for part in inputs]
    with kernels(compiled):
        out = FUNCTIONS[name](*leaves)
    generator = torch.Generator().manual_seed(1)
    out.backward(torch.randn(out.shape, generator=generator))
    grads = [leaf.grad for leaf in leaves]
    return [out.detach(), *(grad for grad in grads if grad is not None)]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("objects", [1, 2, 3])
def test_wherever_the_boxes_are_values_and_gradients_are_those_of_the_matrices(
    name: str, channels: int, objects: int
) -> None:
    side = CANVAS if name == "crop" else SIDE
    torch.manual_seed(0)
    inputs = [torch.randn(len(BOXES), objects, channels, side, side), *boxes(objects)]
    plain, compiled = (result(name, inputs, how) for how in (False, True))
    assert len(plain) == len(compiled) == 4
    for a, b in zip(plain, compiled, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5 * float(a.abs().max()))


def test_no_object_leaves_the_canvas_empty() -> None:
    none = torch.zeros(2, 0, 2)
    with kernels(True):
        canvas = paste_sum(torch.zeros(2, 0, 1, SIDE, SIDE), none, none, CANVAS)
    assert canvas.shape == (2, 1, CANVAS, CANVAS)
    assert not canvas.any()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_glimpses_in_bf16_are_resampled_in_fp32(name: str) -> None:
    side = CANVAS if name == "crop" else SIDE
    torch.manual_seed(0)
    source = torch.randn(len(BOXES), 2, 1, side, side).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = result(name, [source, *boxes(2)], True)
    full = result(name, [source.float(), *boxes(2)], True)
    assert half[0].dtype == torch.float32
    torch.testing.assert_close(half[0], full[0])
    torch.testing.assert_close(half[1].float(), full[1], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_result_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    inputs = [torch.randn(len(BOXES), 2, 1, SIDE, SIDE), *boxes(2)]
    expected = result("paste_sum", inputs, True)
    torch.set_num_threads(threads)
    for a, b in zip(expected, result("paste_sum", inputs, True), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("add", [False, True])
def test_the_operators_for_torchs_compiler_are_the_same_function(add: bool) -> None:
    scale, shift = boxes(3)
    source = torch.rand(len(BOXES), 3, 2, SIDE, SIDE)
    inputs = [part.clone().requires_grad_() for part in (source, scale, shift)]
    forward, backward = (
        getattr(torch.ops.reprise, name).default for name in ("resample", "resample_backward")
    )
    operator: Any = resampling._ByOperators.apply
    torch.library.opcheck(forward, (source, scale, shift, CANVAS, add))
    grad = torch.rand_like(forward(source, scale, shift, CANVAS, add))
    torch.library.opcheck(backward, (source, scale, shift, grad, True))
    again = [part.clone().requires_grad_() for part in (source, scale, shift)]
    out = operator(*inputs, CANVAS, add)
    with kernels(True):
        expected = resampling.resample(again[0], again[1], again[2], CANVAS, add)
    weight = torch.rand_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.equal(out, expected)
    for ours, theirs in zip(inputs, again, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)
    nobody_asks = (source, scale.clone().requires_grad_(), shift)  # for the source's gradient
    operator(*nobody_asks, CANVAS, add).sum().backward()
    assert nobody_asks[1].grad is not None
