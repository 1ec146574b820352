"""Convolutions of small maps against torch's own, with every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.nn import convolution
from reprise.nn.convolution import convolve, convolved


@pytest.mark.parametrize(
    ("size", "k", "padding", "stride", "kind"),
    [
        ((1, 1), 3, 1, 1, "few"), ((2, 2), 3, 1, 1, "few"), ((4, 4), 3, 1, 1, "few"), ((4, 4), 3, 0, 1, "few"),
        ((3, 5), 3, 2, 2, "few"), ((8, 8), 4, 1, 2, "few"), ((6, 7), 3, 1, 1, "torch"), ((12, 8), 4, 1, 2, "torch"),
        ((3, 4), 1, 0, 1, "linear"), ((4, 4), 4, 0, 1, "linear"), ((3, 3), 3, 0, 2, "linear"),
    ],
)  # fmt: skip
def test_values_and_gradients_are_torchs(
    size: tuple[int, int], k: int, padding: int, stride: int, kind: str
) -> None:
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, dtype=torch.double, requires_grad=True)
        for shape in ((3, 5, *size), (4, 5, k, k), (4,))
    )
    ours = convolved(x, weight, bias, padding, stride)
    theirs = F.conv2d(x, weight, bias, stride, padding)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    made_by = {"_ConvolvedBackward": "few", "ConvolutionBackward0": "torch"}
    assert made_by.get(type(ours.grad_fn).__name__, "linear") == kind
    grad = torch.randn_like(ours)
    found = torch.autograd.grad(ours, (x, weight, bias), grad)
    expected = torch.autograd.grad(theirs, (x, weight, bias), grad)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_under_autocast_it_is_bf16_and_gradients_are_those_of_the_parameters() -> None:
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, requires_grad=True) for shape in ((8, 16, 4, 4), (8, 16, 3, 3), (8,))
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = convolved(x, weight, bias, 1)
        expected = F.conv2d(x, weight, bias, padding=1)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
    ours, theirs = (
        torch.autograd.grad(y.float().square().sum(), (x, weight, bias)) for y in (found, expected)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.02 * b.norm()


@pytest.mark.parametrize("size", [(4, 4), (1, 3), (8, 8)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_sees_one_pixel_is_a_linear_layer_with_torchs_values_and_gradients(
    size: tuple[int, int], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 4, 1, dtype=torch.double)
    x = torch.randn(3, 5, *size, dtype=torch.double).to(memory_format=layout).requires_grad_()
    assert layer.bias is not None
    ours, theirs = convolve(x, layer), layer(x)
    assert ("Convolution" not in type(ours.grad_fn).__name__) == (size != (8, 8))
    inputs, grad = (x, layer.weight, layer.bias), torch.randn_like(theirs)
    found, expected = (torch.autograd.grad(y, inputs, grad) for y in (ours, theirs))
    for a, b in zip((ours, *found), (theirs, *expected), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "padding": 1, "bias": False},
        {"kernel_size": 3, "padding": 1, "groups": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
        {"kernel_size": (1, 3), "padding": (0, 1)},
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": 4},
        {"kernel_size": 3, "padding": 1},
    ],
    ids=str,
)
def test_a_layer_of_whatever_kind_says_what_it_says_alone(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(4, 6, **options), torch.randn(2, 4, 4, 4)
    assert torch.allclose(convolve(x, layer), layer(x), atol=1e-6)


@pytest.mark.parametrize("sizes", [(8, 1, 6, 10), (3, 4, 5, 8), (16, 8, 3, 2)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pairs_of_pixels_give_torchs_values_and_gradients(
    sizes: tuple[int, int, int, int], layout: torch.memory_format
) -> None:
    """Also at the ends of a row, where a neighbour is missing."""
    torch.manual_seed(0)
    inputs, outputs, height, width = sizes
    x = torch.randn(2, inputs, height, width, dtype=torch.double)
    x = x.to(memory_format=layout).requires_grad_()
    weight = torch.randn(outputs, inputs, 3, 3, dtype=torch.double, requires_grad=True)
    bias = torch.randn(outputs, dtype=torch.double, requires_grad=True)
    ours, theirs = convolution._in_pairs(x, weight, bias), F.conv2d(x, weight, bias, padding=1)
    grad = torch.randn_like(theirs)
    found, expected = (torch.autograd.grad(y, (x, weight, bias), grad) for y in (ours, theirs))
    for a, b in zip((ours, *found), (theirs, *expected), strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("inputs", "outputs", "width", "lower", "paired"),
    [(8, 1, 24, True, True), (8, 1, 23, True, False), (8, 1, 24, False, False), (32, 1, 24, True, False)],
)  # fmt: skip
def test_few_channels_in_bf16_are_convolved_in_pairs(
    inputs: int, outputs: int, width: int, lower: bool, paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    calls, in_pairs = [], convolution._in_pairs

    def counted(*given: Tensor) -> Tensor:
        calls.append(given)
        return in_pairs(*given)

    monkeypatch.setattr(convolution, "_in_pairs", counted)
    torch.manual_seed(0)
    layer, x = nn.Conv2d(inputs, outputs, 3, padding=1), torch.randn(2, inputs, 8, width)
    with torch.autocast("cpu", torch.bfloat16, enabled=lower):
        ours, theirs = convolve(x, layer), layer(x)
    assert bool(calls) == paired
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs)
    inputs_of = list(layer.parameters())
    found, expected = (torch.autograd.grad(y.float().square().sum(), inputs_of) for y in (ours, theirs))  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() <= 0.02 * b.norm()


@pytest.mark.parametrize(
    ("size", "k", "padding", "stride"), [((16, 16), 4, 1, 2), ((10, 18), 2, 0, 2), ((16, 19), 3, 1, 3)]
)  # fmt: skip
@pytest.mark.parametrize("lower", [False, True], ids=["fp32", "bf16"])
def test_grey_images_are_convolved_in_blocks(
    size: tuple[int, int], k: int, padding: int, stride: int, lower: bool
) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(1, 6, k, stride, padding), torch.randn(3, 1, *size)
    assert convolution._grey(x, layer.weight, padding, stride)
    assert not convolution._grey(x.requires_grad_(), layer.weight, padding, stride)
    x = x.detach()
    with torch.autocast("cpu", torch.bfloat16, enabled=lower):
        ours, theirs = convolve(x, layer), layer(x)
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs)
    found, expected = (
        torch.autograd.grad(y.float().square().sum(), list(layer.parameters())) for y in (ours, theirs)
    )  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= (0.02 if lower else 1e-5) * b.norm()


def test_many_small_maps_are_convolved_in_another_basis_where_no_gradient_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It adds and subtracts what nearly cancels: the error is some times that of torch's own, and small."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(96, 64, 3, padding=1), torch.randn(convolution.MANY, 96, 4, 4)
    calls, filtered = [], convolution._filtered

    def counted(*given: Any) -> Tensor:
        calls.append(given)
        return filtered(*given)

    monkeypatch.setattr(convolution, "_filtered", counted)
    with torch.no_grad():
        ours, theirs = convolve(x, layer), layer(x)
        exact = layer.double()(x.double())
        layer.float()
        assert len(calls) == 1
        convolve(x[1:], layer)
        with torch.autocast("cpu", torch.bfloat16):
            convolve(x, layer)
    convolve(x, layer)
    assert len(calls) == 1, "too few, or in bf16, or with a gradient"
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert float((ours - exact).norm()) < 10 * float((theirs - exact).norm())
    assert float((ours - exact).abs().max()) < 1e-5
