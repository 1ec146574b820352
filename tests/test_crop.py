"""The separable crop against affine_grid and grid_sample."""

from __future__ import annotations

import torch

from reprise.nn.spatial_transformer import crop, paste

from .straightforward_space import crop_literally
from .test_spatial_transformer import extremes


def test_the_whole_image_is_its_own_crop() -> None:
    image = torch.rand(2, 3, 32, 32)
    cropped = crop(image, torch.ones(2, 1, 2), torch.zeros(2, 1, 2), 32)
    assert (cropped[:, 0] - image).abs().max() < 1e-5


def test_the_separable_crop_is_the_literal_one_with_its_gradients() -> None:
    scale, shift = (t.view(2, 3, 2) for t in extremes())
    scale = (
        scale - 0.003
    )  # a scale of exactly 1 would sample at pixels' centres, where the gradient has two values
    image = torch.rand(2, 3, 48, 48)
    results = []
    for separable in (False, True):
        inputs = [t.double().requires_grad_() for t in (image, scale, shift)]
        if separable:
            glimpse = crop(inputs[0], inputs[1], inputs[2], 16)
        else:
            many = inputs[0].repeat_interleave(3, 0)
            glimpse = crop_literally(many, inputs[1].flatten(0, 1), inputs[2].flatten(0, 1), 16)
            glimpse = glimpse.unflatten(0, (2, 3))
        weight = torch.linspace(-1, 1, glimpse.numel(), dtype=glimpse.dtype).view_as(glimpse).cos()
        (glimpse * weight).sum().backward()
        results.append([glimpse.detach(), *(t.grad for t in inputs)])
    for literal, ours in zip(*results, strict=True):
        assert literal is not None
        assert ours is not None
        assert (literal - ours).abs().max() <= 1e-9 * literal.abs().max()


def test_what_was_pasted_is_cropped_again() -> None:
    glimpse = torch.nn.functional.interpolate(torch.rand(1, 1, 4, 4), size=16, mode="bilinear")
    scale, shift = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.25, -0.125]]])
    canvas = paste(glimpse[:, None], scale, shift, 128)[:, 0]
    inner = (crop(canvas, scale, shift, 16)[:, 0] - glimpse)[..., 2:-2, 2:-2]
    assert inner.abs().max() < 0.05
