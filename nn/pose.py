"""Frames that are shifted, scaled and turned: the spatial transformer with a rotation (Jaderberg et al. 2015).

A pose is (shift x, shift y, scale, angle). In coordinates in which the image is [-1, 1]², its frame is

    A = [[s cos θ, -s sin θ, t_x], [s sin θ, s cos θ, t_y]],

so that `look` shows what lies in the frame and `place` puts a picture there. Turned frames are not separable, as
axis-aligned ones are (nn/spatial_transformer.py). Corners are aligned: -1 and 1 are centres of the outermost pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def frame(pose: Tensor) -> Tensor:
    """A: (..., 4) -> (..., 2, 3)."""
    x, y, scale, angle = pose.unbind(-1)
    c, s = scale * angle.cos(), scale * angle.sin()
    return torch.stack([torch.stack([c, -s, x], -1), torch.stack([s, c, y], -1)], -2)


def inverse_frame(pose: Tensor) -> Tensor:
    """The map back into the frame: (..., 4) -> (..., 2, 3)."""
    x, y, scale, angle = pose.unbind(-1)
    c, s = angle.cos() / scale, angle.sin() / scale
    rows = ([c, s, -(c * x + s * y)], [-s, c, s * x - c * y])
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def inverse_map(matrix: Tensor) -> Tensor:
    """The inverse of an affine map: (..., 2, 3) -> (..., 2, 3)."""
    linear = torch.linalg.inv(matrix[..., :2].float())
    return torch.cat([linear, -linear @ matrix[..., 2:].float()], -1)


def warp(image: Tensor, matrix: Tensor) -> Tensor:
    """Pixel p of the result is `image` at matrix · p, bilinear, 0 outside: (B, C, S, S), (B, 2, 3) -> (B, C, S, S)."""
    with torch.autocast(image.device.type, enabled=False):
        grid = F.affine_grid(matrix.float(), list(image.shape), align_corners=True)
        return F.grid_sample(image.float(), grid, padding_mode="zeros", align_corners=True)


def look(image: Tensor, pose: Tensor) -> Tensor:
    """The glimpse that a frame shows, as large as the image: (B, C, S, S), (B, 4) -> (B, C, S, S)."""
    return warp(image, frame(pose))


def place(image: Tensor, pose: Tensor) -> Tensor:
    """A picture of a frame's content where the frame is: (B, C, S, S), (B, 4) -> (B, C, S, S)."""
    return warp(image, inverse_frame(pose))


def move(points: Tensor, matrix: Tensor) -> Tensor:
    """Points in [0, 1]² under an affine map of [-1, 1]²: (..., P, 2), (..., 2, 3) -> (..., P, 2)."""
    turned = (2 * points - 1) @ matrix[..., :2].mT + matrix[..., None, :, 2]
    return (turned + 1) / 2
