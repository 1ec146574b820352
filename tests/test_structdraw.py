"""StructDRAW's steps against Algorithm 1 to the letter: everything concatenated, one convolution per step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reprise.nn.structdraw import GRID, StructDRAW

from .straightforward import StraightforwardStructDRAW, plainly

WIDTH, STEPS = 8, 3


def built(**options: Any) -> StructDRAW:
    torch.manual_seed(0)
    draw = StructDRAW(WIDTH, **options)
    for lstm in (draw.lstm_enc, draw.lstm_dec):
        torch.nn.init.normal_(lstm.h_0)
        torch.nn.init.normal_(lstm.c_0)
    return draw


@pytest.mark.parametrize(
    "options", [{}, {"kernel": 3, "feed_canvas": False}, {"interaction": "cnn", "kernel": 3}]
)
def test_what_stays_the_same_may_be_convolved_once(options: dict[str, Any]) -> None:
    """Values, and the gradients of every parameter and of what the encoder saw."""
    draw, f_x = built(**options), torch.randn(2, WIDTH, GRID, GRID).requires_grad_()
    literally = plainly(draw)
    assert isinstance(literally, StraightforwardStructDRAW)
    results = []
    for module in (draw, literally):
        torch.manual_seed(1)  # the same noise in the same order
        drawing = module(f_x, STEPS, 2)
        pairs = zip(drawing.prior, drawing.posterior, strict=True)
        values = [*drawing.z, drawing.f, *(g.mean for pair in pairs for g in pair)]
        of = [f_x, *draw.parameters()]
        gradients = torch.autograd.grad(sum(value.square().sum() for value in values), of)
        results.append((values, gradients))
    (ours, found), (theirs, expected) = results
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for parameter, a, b in zip(of, found, expected, strict=True):
        assert (a - b).norm() < 1e-5 * b.norm(), tuple(parameter.shape)


def test_an_image_is_drawn_as_often_as_its_particles_ask() -> None:
    """Particles outermost, as in `repeat`; and a prior is that of every draw."""
    draw, f_x = built(), torch.randn(2, WIDTH, GRID, GRID)
    with torch.no_grad():
        torch.manual_seed(1)
        found = draw(f_x, STEPS, 6)
        torch.manual_seed(1)
        expected = draw(f_x.repeat(3, 1, 1, 1), STEPS, 6)
    assert torch.allclose(found.f, expected.f, atol=1e-5)
    for ours, theirs in zip(found.posterior, expected.posterior, strict=True):
        assert torch.allclose(ours.mean, theirs.mean, atol=1e-5)
    assert all(len(p.mean) == len(p.std) == 6 for p in found.prior)


def test_the_prior_draws_something_else_for_every_image() -> None:
    draw = built()
    with torch.no_grad():
        found = draw(None, STEPS, 4)
    assert found.posterior == []
    assert len(torch.unique(found.z[0], dim=0)) == 4
    assert torch.equal(draw.replay(found.z), found.f)
