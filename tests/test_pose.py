"""Shifted, scaled and turned frames: against affine_grid and grid_sample, and points against pictures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reprise.nn.pose import frame, inverse_frame, inverse_map, look, move, place, warp
from reprise.nn.splines import ink

from .straightforward_dood import look_literally, matrix_literally, place_literally

IDENTITY = torch.tensor([[0.0, 0.0, 1.0, 0.0]])


def poses(batch: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    """(batch, 4): as far and as large as a model's."""
    low = torch.tensor([-0.5, -0.5, 0.3, -0.8], dtype=dtype)
    return low + torch.rand(batch, 4, dtype=dtype) * (-2 * low + torch.tensor([0, 0, 1.3, 0]))


def whole(matrix: Tensor) -> Tensor:
    """With the row 0 0 1: (..., 3, 3)."""
    last = matrix.new_tensor([0.0, 0, 1]).expand(*matrix.shape[:-2], 1, 3)
    return torch.cat([matrix, last], -2)


def test_a_frame_is_the_published_matrix() -> None:
    pose = poses()
    torch.testing.assert_close(whole(frame(pose)), matrix_literally(pose))
    quarter = frame(torch.tensor([0.1, 0.2, 0.5, math.pi / 2]))
    expected = torch.tensor([[0.0, -0.5, 0.1], [0.5, 0.0, 0.2]])
    torch.testing.assert_close(quarter, expected, rtol=0, atol=1e-7)


def test_the_inverse_frame_undoes_the_frame() -> None:
    pose = poses(dtype=torch.float64)
    product = whole(inverse_frame(pose)) @ whole(frame(pose))
    torch.testing.assert_close(product, torch.eye(3, dtype=torch.float64).expand(8, 3, 3))


def test_the_inverse_of_any_map_undoes_it() -> None:
    matrix = torch.eye(2, 3) + 0.4 * torch.randn(8, 2, 3)
    product = whole(inverse_map(matrix)) @ whole(matrix)
    torch.testing.assert_close(product, torch.eye(3).expand(8, 3, 3), rtol=0, atol=1e-4)
    pose = poses()
    torch.testing.assert_close(inverse_map(frame(pose)), inverse_frame(pose), rtol=1e-4, atol=1e-5)


def test_looking_and_placing_are_grid_samples() -> None:
    image, pose = torch.rand(8, 2, 13, 13), poses()
    torch.testing.assert_close(look(image, pose), look_literally(image, pose), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        place(image, pose), place_literally(image, pose), rtol=1e-4, atol=1e-4
    )


def test_the_identity_changes_nothing() -> None:
    image, pose = torch.rand(3, 1, 12, 12), IDENTITY.expand(3, 4)
    for act in (look, place):
        torch.testing.assert_close(act(image, pose), image, rtol=0, atol=1e-5)
    points = torch.rand(3, 5, 2)
    torch.testing.assert_close(move(points, frame(pose)), points)
    torch.testing.assert_close(warp(image, torch.eye(2, 3).expand(3, 2, 3)), image, rtol=0, atol=1e-5)  # fmt: skip


def smooth(batch: int, side: int) -> Tensor:
    """Pictures that a bilinear grid can hold, dark at their edges."""
    points = 0.3 + 0.4 * torch.rand(batch, 5, 2)
    return ink(points, torch.full((batch,), 0.06), side)[:, None] / 100


def test_what_was_placed_is_seen_where_it_is() -> None:
    picture = smooth(8, 64)
    pose = poses()
    pose[:, 2] = 0.9
    pose[:, :2] *= 0.3
    back = look(place(picture, pose), pose)
    torch.testing.assert_close(back, picture, rtol=0, atol=0.05 * float(picture.max()))


def test_a_placed_picture_is_empty_outside_its_frame() -> None:
    placed = place(torch.ones(1, 1, 41, 41), torch.tensor([[0.5, 0.0, 0.25, 0.0]]))[0, 0]
    ys, xs = torch.nonzero(placed > 0.5, as_tuple=True)
    # the canvas is [-1, 1] from the centre of pixel 0 to that of pixel 40
    assert (int(xs.min()), int(xs.max()), int(ys.min()), int(ys.max())) == (25, 35, 15, 25)


def centre(picture: Tensor) -> Tensor:
    """The centre of mass of each picture, in pixels: (B, 2) as (x, y)."""
    weight = picture[:, 0] / picture[:, 0].sum((1, 2), keepdim=True)
    along = torch.arange(picture.shape[-1], dtype=picture.dtype)
    return torch.stack([(weight.sum(1) * along).sum(1), (weight.sum(2) * along).sum(1)], 1)


def test_points_move_as_their_picture_does() -> None:
    """Variants M and MT agree to a pixel: one has its grid at index / S, the other at index / (S - 1)."""
    side, points, pose = 50, 0.3 + 0.4 * torch.rand(8, 5, 2), poses()
    pose[:, :2] *= 0.5
    pose[:, 2] = 0.4 + 0.6 * torch.rand(8)
    sigma = torch.full((8,), 0.03)
    pictures = place(ink(points, sigma, side)[:, None], pose)
    drawn = ink(move(points, frame(pose)), sigma * pose[:, 2], side)[:, None]
    assert float((centre(pictures) - centre(drawn)).norm(dim=1).max()) < 1
    other_way = place(ink(points, sigma, side)[:, None], pose * torch.tensor([1, 1, 1, -1]))
    assert float((pictures - drawn).abs().mean()) < 0.5 * float((other_way - drawn).abs().mean())
    upright = IDENTITY.expand(8, 4)
    same = place(ink(points, sigma, side)[:, None], upright)
    torch.testing.assert_close(
        same, ink(move(points, frame(upright)), sigma, side)[:, None], rtol=1e-3, atol=1e-3
    )


def test_points_are_mapped_in_coordinates_from_minus_one_to_one() -> None:
    point = torch.tensor([[0.75, 0.5]])  # (0.5, 0)
    pose = torch.tensor([0.2, -0.4, 0.5, math.pi / 2])  # to (0.2, -0.4 + 0.25)
    assert move(point, frame(pose))[0].tolist() == pytest.approx([0.6, 0.425])


def test_gradients_reach_the_pose() -> None:
    pose = poses(2, torch.float64).requires_grad_()
    points = torch.rand(2, 5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, q: move(q, frame(p)), (pose, points))
    assert torch.autograd.gradcheck(inverse_frame, (pose,))
    pose = poses(2).requires_grad_()
    place(torch.rand(2, 1, 9, 9), pose).square().sum().backward()
    assert pose.grad is not None
    assert (pose.grad != 0).all()
