"""What the benchmarks say that work costs: operations and bytes, of torch's operations and of compiled kernels."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reprise.benchmarks.limits import Counting, kernels_counted
from reprise.nn.fused import activate_and_norm, installed, kernels


def test_a_product_and_its_gradients() -> None:
    """2 m k n operations each; fp32 numbers are read and written once, views are free."""
    a, b = torch.randn(8, 32, requires_grad=True), torch.randn(32, 16, requires_grad=True)
    with Counting() as counting:
        product = (a.view(2, 4, 32).flatten(0, 1) @ b).T
    assert counting.operations == 2 * 8 * 32 * 16
    assert counting.traffic == 4 * (8 * 32 + 32 * 16 + 8 * 16)
    with counting:
        product.sum().backward()
    assert counting.operations == 3 * 2 * 8 * 32 * 16


def test_a_convolution_and_its_gradients() -> None:
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 3, 3, requires_grad=True)
    with Counting() as counting:
        F.conv2d(x, weight, padding=1).sum().backward()
    assert counting.operations == 2 * 2 * (2 * 64 * 5 * 3 * 9)  # nobody asks for the gradient of x


def test_what_is_expanded_is_read_once() -> None:
    row = torch.randn(1, 64).expand(1000, 64)
    with Counting() as counting:
        row.sum()
    assert counting.traffic == 4 * (64 + 1)


def test_a_compiled_kernel_is_counted() -> None:
    if not installed():
        pytest.skip("compiled kernels need the extra `fast`")
    norm, traffic = nn.GroupNorm(1, 8), []
    for batch in (2, 4):
        x = torch.randn(batch, 8, 16, 16).to(memory_format=torch.channels_last)
        counting = Counting()
        with kernels(True), kernels_counted(counting), counting, torch.no_grad():
            activate_and_norm(x, nn.ReLU(), norm)
        traffic.append(counting.traffic)
    image = 4 * x[0].numel()
    assert 4 * image <= traffic[1] - traffic[0] < 4.1 * image  # two more are read, and written
