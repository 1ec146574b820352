"""ELU by hand is torch's: values, gradients, in every layout, and in bf16 within its rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reprise.nn.channels_last import broadcast_elu, elu


def gradients(y: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weight = torch.linspace(-3, 3, y.numel(), dtype=torch.float64).cos().view(y.shape)
    weight = weight.bfloat16().to(y.dtype)  # the same numbers in every precision
    return [y.detach(), *torch.autograd.grad(y, inputs, weight)]


def relative(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(
        float((a.double() - b.double()).norm() / b.double().norm())
        for a, b in zip(ours, theirs, strict=True)
    )


# bf16 rounds each image's sums of gradients once, before they are added up and may cancel
BOUNDS = [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)]


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
def test_elu_is_torchs_with_its_gradient(dtype: torch.dtype, bound: float) -> None:
    x = torch.randn(3, 4, 5, 5).to(dtype).requires_grad_()
    twin = x.detach().double().requires_grad_()
    expected = gradients(F.elu(twin), [twin])
    assert relative(gradients(elu(x * 1), [x]), expected) < bound


@pytest.mark.parametrize(("dtype", "bound"), BOUNDS)
def test_elu_of_a_vector_per_image_plus_one_map_sums_its_gradients(
    dtype: torch.dtype, bound: float
) -> None:
    vector, place = torch.randn(5, 8).to(dtype), torch.randn(1, 8, 6, 6).to(dtype)
    twins = [t.double().requires_grad_() for t in (vector, place)]
    vector.requires_grad_()
    place.requires_grad_()
    found = gradients(broadcast_elu(vector, place, dtype), [vector, place])
    expected = gradients(F.elu(twins[0][:, :, None, None] + twins[1]), twins)
    assert relative(found, expected) < bound
