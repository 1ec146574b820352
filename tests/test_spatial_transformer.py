"""The separable paste against affine_grid and grid_sample, and the known cases of the specification."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reprise.nn.spatial_transformer import paste, paste_sum

from .straightforward import paste_literally


def boxes(*values: float) -> Tensor:
    return torch.tensor([values])


def test_a_full_box_gives_the_patch_itself() -> None:
    patch = torch.rand(1, 3, 128, 128)
    pasted = paste(patch, boxes(1, 1), boxes(0, 0), 128)
    assert (pasted - patch).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("scale", "shift", "rows", "columns"),
    [((0.5, 0.5), (0, 0), (32, 96), (32, 96)), ((0.25, 0.5), (0.5, -0.25), (16, 80), (80, 112))],
)
def test_a_patch_of_ones_lands_where_the_box_says(
    scale: tuple[float, float], shift: tuple[float, float], rows: tuple[int, int], columns: tuple[int, int]
) -> None:  # fmt: skip
    expected = torch.zeros(128, 128)
    expected[rows[0] : rows[1], columns[0] : columns[1]] = 1
    pasted = paste(torch.ones(1, 1, 64, 64), boxes(*scale), boxes(*shift), 128)[0, 0]
    inside = expected.bool()
    # At the rim, bilinear sampling with zero padding blends: only pixels whose centre is inside are compared.
    assert torch.allclose(pasted[inside].round(), expected[inside])
    assert pasted[~inside].max() < 0.51
    core = pasted[rows[0] + 1 : rows[1] - 1, columns[0] + 1 : columns[1] - 1]
    assert torch.allclose(core, torch.ones_like(core))


def extremes() -> tuple[Tensor, Tensor]:
    scale = torch.tensor(
        [[0.02, 0.02], [1.9, 0.3], [0.168, 0.168], [0.9999, 1.0], [0.05, 1.5], [0.3, 0.2]]
    )
    shift = torch.tensor(
        [[0.99, -0.99], [0.0, 1.3], [-1.2, -0.4], [0.0, 0.0], [0.5, 0.1], [-0.97, 0.97]]
    )
    return scale, shift


def test_the_separable_paste_is_the_literal_one_with_its_gradients() -> None:
    scale, shift = extremes()
    glimpse = torch.rand(6, 2, 32, 32)
    results = []
    for function in (paste_literally, paste):
        inputs = [t.double().requires_grad_() for t in (glimpse, scale, shift)]
        canvas = function(inputs[0], inputs[1], inputs[2], 128)
        weight = torch.linspace(-1, 1, canvas.numel(), dtype=canvas.dtype).view_as(canvas).cos()
        (canvas * weight).sum().backward()
        results.append([canvas.detach(), *(t.grad for t in inputs)])
    for literal, separable in zip(*results, strict=True):
        assert literal is not None
        assert separable is not None
        assert (literal - separable).abs().max() <= 1e-9 * literal.abs().max()


def test_the_folded_sum_is_the_sum_of_the_pasted() -> None:
    scale, shift = (t.view(2, 3, 2) for t in extremes())
    for channels in (1, 3):
        glimpse = torch.rand(2, 3, channels, 32, 32)
        together = paste_sum(glimpse, scale, shift, 64)
        assert torch.allclose(together, paste(glimpse, scale, shift, 64).sum(1), atol=1e-5)
