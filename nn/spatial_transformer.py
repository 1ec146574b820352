"""Pasting glimpses onto a canvas: the inverse spatial transformer (Jaderberg et al. 2015), separably.

An axis-aligned box has centre (t_x, t_y) in [-1, 1] and extent (s_x, s_y) as a fraction of the canvas. Bilinear
sampling with zero padding (`grid_sample`, align_corners=False) then factorises over the two axes:

    canvas = A_y · glimpse · A_xᵀ      with  A[i, g] = max(0, 1 - |p_i - g|),

p_i being canvas pixel i in the glimpse's pixel coordinates. Two small matrix products replace a gather over the
whole canvas for every glimpse; for additive rendering the sum over glimpses folds into the second product.
tests/test_spatial_transformer.py holds it against affine_grid and grid_sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .resampling import possible, resample


def interpolation(scale: Tensor, shift: Tensor, canvas: int, glimpse: int) -> Tensor:
    """The matrix A of one axis: scale, shift (...,) -> (..., canvas, glimpse), in fp32 at least.

    The 1e-15 that GNM's authors add in the divisions is kept; it only guards against a scale of exactly 0.
    """
    dtype = torch.promote_types(scale.dtype, torch.float32)
    scale, shift = scale.to(dtype) + 1e-15, shift.to(dtype)
    pixel = (
        torch.arange(canvas, device=scale.device, dtype=dtype) * 2 + 1
    ) / canvas - 1  # centres, in [-1, 1]
    source = (pixel - shift[..., None]) / scale[..., None]  # (..., canvas)
    position = ((source + 1) * glimpse - 1) / 2
    # a row has two entries at most: what lies before and behind its position
    before = position.detach().floor().clamp(-2, glimpse)
    share = position - before
    index = torch.stack([before, before + 1], -1).long()  # (..., canvas, 2)
    inside = (index >= 0) & (index < glimpse)
    weight = torch.stack([1 - share, share], -1) * inside
    empty = weight.new_zeros(*position.shape, glimpse)
    return empty.scatter_add(-1, index.clamp(0, glimpse - 1), weight)


def paste(glimpse: Tensor, scale: Tensor, shift: Tensor, canvas: int) -> Tensor:
    """Each glimpse on a canvas of its own: (..., C, G, G), (..., 2), (..., 2) -> (..., C, canvas, canvas).

    The last axis of scale and shift is (x, y): columns first, as in affine_grid.
    """
    if possible(glimpse, scale):
        alone = glimpse.reshape(-1, 1, *glimpse.shape[-3:])
        scale, shift = scale.reshape(-1, 1, 2), shift.reshape(-1, 1, 2)
        pasted = resample(alone, scale, shift, canvas, add=False)
        return pasted.view(*glimpse.shape[:-2], canvas, canvas)
    size = glimpse.shape[-1]
    a_x = interpolation(scale[..., 0], shift[..., 0], canvas, size)[..., None, :, :]
    a_y = interpolation(scale[..., 1], shift[..., 1], canvas, size)[..., None, :, :]
    return a_y @ glimpse.to(a_y.dtype) @ a_x.mT


def paste_sum(glimpse: Tensor, scale: Tensor, shift: Tensor, canvas: int) -> Tensor:
    """The sum of all O pasted glimpses: (B, O, C, G, G), (B, O, 2), (B, O, 2) -> (B, C, canvas, canvas)."""
    if possible(glimpse, scale):
        return resample(glimpse, scale, shift, canvas, add=True)[:, 0]
    size, channels = glimpse.shape[-1], glimpse.shape[-3]
    a_x = interpolation(scale[..., 0], shift[..., 0], canvas, size)  # (B, O, canvas, G)
    a_y = interpolation(scale[..., 1], shift[..., 1], canvas, size)
    rows = glimpse.to(a_x.dtype) @ a_x.mT[:, :, None]  # (B, O, C, G, canvas)
    rows = rows.transpose(1, 2).flatten(2, 3)  # (B, C, O G, canvas)
    columns = a_y.permute(0, 2, 1, 3).flatten(2)  # (B, canvas, O G)
    if channels == 1:
        return torch.bmm(columns, rows[:, 0])[:, None]
    return columns[:, None] @ rows


def crop(image: Tensor, scale: Tensor, shift: Tensor, glimpse: int) -> Tensor:
    """What each of O boxes shows: (B, C, H, H), (B, O, 2), (B, O, 2) -> (B, O, C, glimpse, glimpse).

    The forward spatial transformer: a box's content at the glimpse's resolution, zero beyond the image. It is the
    paste of the image onto the glimpse by the inverse box, and separable for the same reason.
    """
    size, objects = image.shape[-1], scale.shape[-2]
    inverse = 1 / (scale + 1e-15)
    if possible(image, scale):
        return resample(image[:, None], inverse, -shift * inverse, glimpse, add=False)
    a_x = interpolation(inverse[..., 0], -(shift * inverse)[..., 0], glimpse, size)
    a_y = interpolation(inverse[..., 1], -(shift * inverse)[..., 1], glimpse, size)
    rows: Tensor = a_y.flatten(1, 2)[:, None] @ image.to(a_y.dtype)  # (B, C, O G, W)
    rows = rows.view(*rows.shape[:2], objects, glimpse, size).transpose(1, 2)  # (B, O, C, G, W)
    return rows @ a_x.mT[:, :, None]
