"""StructDRAW's steps against Algorithm 1 to the letter: everything concatenated, one convolution per step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from reprise.nn.lstm import cell
from reprise.nn.structdraw import GRID, StructDRAW

WIDTH, STEPS = 8, 3


def built(**options: Any) -> StructDRAW:
    torch.manual_seed(0)
    draw = StructDRAW(WIDTH, **options)
    for lstm in (draw.lstm_enc, draw.lstm_dec):
        torch.nn.init.normal_(lstm.h_0)
        torch.nn.init.normal_(lstm.c_0)
    return draw


def literally(draw: StructDRAW, f_x: Tensor, z: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The means of every prior and posterior where these z were drawn, and the canvas at the end."""

    def step(lstm: Any, inputs: list[Tensor], state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:  # fmt: skip
        return cell(lstm.gates(torch.cat([*inputs, state[0]], 1)), state[1])

    enc, dec = (
        (lstm.h_0.expand(len(f_x), -1, -1, -1), lstm.c_0.expand(len(f_x), -1, -1, -1))
        for lstm in (draw.lstm_enc, draw.lstm_dec)
    )
    f, means = torch.zeros_like(f_x), []
    for z_l in z:
        prior = draw._gaussian(draw.interaction_dec, dec[0])
        enc = step(draw.lstm_enc, [f_x, f_x - f, dec[0]], enc)
        means += [prior.mean, draw._gaussian(draw.interaction_enc, enc[0]).mean]
        d = draw.decode_z(z_l.flatten(1) if draw.flat else z_l)
        d = d.unflatten(1, (WIDTH, GRID, GRID)) if draw.flat else d
        dec = step(draw.lstm_dec, [d, f] if draw.feed_canvas else [d], dec)
        f = f + draw.cnn_out(dec[0])
    return means, f


@pytest.mark.parametrize(
    "options", [{}, {"kernel": 3, "feed_canvas": False}, {"interaction": "cnn", "kernel": 3}]
)
def test_what_stays_the_same_may_be_convolved_once(options: dict[str, Any]) -> None:
    """Values, and the gradients of every parameter and of what the encoder saw."""
    draw, f_x = built(**options), torch.randn(2, WIDTH, GRID, GRID).requires_grad_()
    found = draw(f_x, STEPS, 2)
    means = [g.mean for pair in zip(found.prior, found.posterior, strict=True) for g in pair]
    # a z is a mean plus noise: the same z, with its gradient, for the letter of the algorithm
    expected, f = literally(draw, f_x, found.z)
    for ours, theirs in zip([*means, found.f], [*expected, f], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    of = [f_x, *draw.parameters()]
    one, other = (
        torch.autograd.grad(sum(m.square().sum() for m in (*those, canvas)), of, retain_graph=True)
        for those, canvas in ((means, found.f), (expected, f))
    )
    for parameter, a, b in zip(of, one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4, msg=f"of {tuple(parameter.shape)}")


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
