"""Convolutions of small maps against torch's own, with every gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from reprise.nn.convolution import convolved


@pytest.mark.parametrize(
    ("size", "padding"),
    [((1, 1), 1), ((2, 2), 1), ((4, 4), 1), ((4, 4), 0), ((3, 5), 2), ((6, 7), 1)],
)
def test_values_and_gradients_are_torchs(size: tuple[int, int], padding: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(*shape, dtype=torch.double, requires_grad=True)
        for shape in ((3, 5, *size), (4, 5, 3, 3), (4,))
    )
    ours = convolved(x, weight, bias, padding)
    theirs = F.conv2d(x, weight, bias, padding=padding)
    assert torch.equal(ours, theirs)
    assert ("Convolved" in type(ours.grad_fn).__name__) == (size != (6, 7)), (
        "few pixels, and only those"
    )
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
