"""Ink of Bézier curves: the separable form is the double sum; ends, direction, shifts, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reprise.nn.splines import SAMPLES, bezier, ink

from .straightforward_dood import bezier_literally, ink_literally


def curves(batch: int = 6, points: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Control points (batch, points, 2), some of them off the canvas."""
    return torch.rand(batch, points, 2, dtype=dtype) * 1.4 - 0.2


def pens(batch: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    """As thin and as thick as DooD's: (batch,)."""
    return torch.linspace(0.005, 0.04, batch, dtype=dtype)


@pytest.mark.parametrize("points", [2, 5])
def test_the_separable_form_is_the_double_sum(points: int) -> None:
    """To 4e-6 of the brightest pixel for pens of 0.01 and thicker; fp32 holds the exponent of thinner ones worse."""
    p, sigma = curves(points=points), pens()
    exact = ink_literally(p.double(), sigma.double(), 50)
    error = (ink(p, sigma, 50).double() - exact).abs().amax((1, 2)) / exact.amax((1, 2)).clamp(1)
    assert float(error[sigma >= 0.01].max()) < 4e-6
    assert float(error.max()) < 3e-5
    in_double = ink(p.double(), sigma.double(), 50)
    torch.testing.assert_close(in_double, exact, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("points", [2, 3, 5, 8])
def test_a_curve_is_de_casteljaus(points: int) -> None:
    p = curves(points=points, dtype=torch.float64)
    torch.testing.assert_close(bezier(p), bezier_literally(p), rtol=1e-13, atol=1e-14)


def test_a_curve_begins_and_ends_at_its_outer_control_points() -> None:
    p = curves()
    curve = bezier(p)
    assert curve.shape == (6, SAMPLES, 2)
    torch.testing.assert_close(curve[:, 0], p[:, 0])
    torch.testing.assert_close(curve[:, -1], p[:, -1])
    straight = torch.tensor([[0.1, 0.2], [0.9, 0.6]])
    half = bezier(straight, samples=3)[1]
    assert half.tolist() == pytest.approx([0.5, 0.4])


def test_a_stroke_drawn_backwards_is_the_same_stroke() -> None:
    p, sigma = curves(), pens()
    torch.testing.assert_close(ink(p.flip(1), sigma, 50), ink(p, sigma, 50), rtol=1e-4, atol=1e-3)
    p, sigma = p.double(), sigma.double()
    torch.testing.assert_close(ink(p.flip(1), sigma, 50), ink(p, sigma, 50), rtol=1e-10, atol=1e-10)


def test_a_stroke_moved_by_whole_pixels_is_its_picture_moved() -> None:
    """x goes right and y down, both one in 50 per pixel."""
    p, sigma = curves(dtype=torch.float64), pens(dtype=torch.float64)
    shift = torch.tensor([3 / 50, 7 / 50], dtype=torch.float64)
    still, moved = ink(p, sigma, 50), ink(p + shift, sigma, 50)
    torch.testing.assert_close(moved[:, 7:, 3:], still[:, :-7, :-3], rtol=1e-9, atol=1e-9)


def test_x_is_the_column_and_y_the_row() -> None:
    spot = torch.tensor([[0.2, 0.8]]).expand(5, 2)
    picture = ink(spot, torch.tensor(0.02), 50)
    row, column = divmod(int(picture.argmax()), 50)
    assert (row, column) == (40, 10)
    assert float(picture[40, 10]) == pytest.approx(SAMPLES)


def test_a_thicker_pen_leaves_more_ink_everywhere() -> None:
    p = curves()
    thin, thick = ink(p, torch.full((6,), 0.01), 50), ink(p, torch.full((6,), 0.02), 50)
    assert (thick >= thin).all()
    assert float(thick.max()) <= SAMPLES


def test_its_gradients_are_those_of_differences() -> None:
    p = curves(2, dtype=torch.float64).requires_grad_()
    sigma = torch.tensor([0.05, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q, s: ink(q, s, 6, 9), (p, sigma))


def test_leading_axes_are_only_batches() -> None:
    p, sigma = curves(6).view(2, 3, 5, 2), pens(6).view(2, 3)
    torch.testing.assert_close(ink(p, sigma, 20).flatten(0, 1), ink(p.flatten(0, 1), sigma.flatten(), 20))  # fmt: skip


def test_gradients_come_after_a_first_call_that_wanted_none() -> None:
    """What is kept between calls must not remember the mode of the first."""
    with torch.inference_mode():
        bezier(torch.rand(7, 2), samples=13)
    p = torch.rand(7, 2, requires_grad=True)
    bezier(p, samples=13).sum().backward()
    assert p.grad is not None


def test_the_precision_of_the_networks_does_not_touch_the_ink() -> None:
    p, sigma = curves(), pens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ink(p, sigma, 50)
    assert torch.equal(found, ink(p, sigma, 50))
