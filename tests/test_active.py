"""Rows that still matter: which they are, that others cost nothing, and that drawings lose nothing by it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reprise.baselines import difference_air
from reprise.models import dood
from reprise.models.dood import DooD
from reprise.nn import drawing
from reprise.nn.active import Active

from .straightforward_dood import as_ours, straightforward_dood
from .test_attend import double, gradients
from .test_drawing import ink_of, undropped, variant

__all__ = ["double"]  # a fixture


def alive(*rows: int, of: int) -> Tensor:
    found = torch.zeros(of)
    found[list(rows)] = 1
    return found


@pytest.mark.parametrize(("size", "count"), [(1, 1), (5, 2), (16, 5), (64, 1), (64, 64), (400, 0)])
def test_what_is_alive_is_computed_and_the_rest_is_what_it_is_said_to_be(
    size: int, count: int
) -> None:
    going = alive(*torch.randperm(size)[:count].tolist(), of=size)
    x = torch.randn(size, 3)
    calls: list[int] = []

    def network(part: Tensor) -> Tensor:
        calls.append(len(part))
        return part.square()

    found = Active(going)(network, x, otherwise=torch.tensor([7.0, 8.0, 9.0]))
    computed = (found == x.square()).all(1)
    assert computed[going > 0].all()
    assert (found[~computed] == torch.tensor([7.0, 8.0, 9.0])).all()
    assert calls == [int(computed.sum())]
    assert calls[0] <= max(count + -(-size // 8) - 1, 1)


def test_kernels_meet_few_sizes() -> None:
    found = [Active(alive(*range(count), of=400)).rows for count in range(401)]
    assert len({400 if rows is None else len(rows) for rows in found}) == 9


def test_gradients_reach_the_rows_that_are_computed_and_no_other() -> None:
    x = torch.randn(16, 3, requires_grad=True)
    layer = nn.Linear(3, 2)
    going = alive(3, 4, 9, of=16)
    plain = going[:, None] * layer(x)
    masked = going[:, None] * Active(going)(layer, x)
    torch.testing.assert_close(masked, plain)
    for ours, theirs in zip(
        torch.autograd.grad(masked.square().sum(), [x, *layer.parameters()]),
        torch.autograd.grad(plain.square().sum(), [x, *layer.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("going", [alive(0, 1, 2, 5, 9, of=16), torch.ones(16)])
def test_few_rows_at_a_time_give_the_same_and_only_without_gradients(going: Tensor) -> None:
    x, sizes = torch.randn(16, 3), []

    def network(part: Tensor, other: Tensor) -> Tensor:
        sizes.append(len(part))
        return part + 2 * other

    whole = Active(going)(network, x, x)
    assert len(sizes) == 1
    torch.testing.assert_close(Active(going)(network, x, x, at_most=4), whole)
    assert len(sizes) == 2, "gradients are kept: all at once"
    with torch.no_grad():
        torch.testing.assert_close(Active(going)(network, x, x, at_most=4), whole)
    assert max(sizes[2:]) == 4
    assert sum(sizes[2:]) == sizes[0]


def test_every_row_may_be_asked_for() -> None:
    assert Active.all(torch.zeros(9)).rows is None


@pytest.mark.parametrize("name", ["DooD", "DooD, paper", "Difference-AIR", "AIR"])
def test_drawings_that_have_stopped_are_not_computed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 16 goes on after the second step: from then on two rows are computed, for the sake of one."""
    model, sizes = undropped(variant(name, parts=6)), []
    last = model.q_stroke if isinstance(model, DooD) else model.what_head
    last.register_forward_hook(lambda module, given, found: sizes.append(len(found)))

    def stop(logit: Tensor, draw: drawing.Draw) -> Tensor:
        return alive(0, of=16) if len(sizes) >= 2 else torch.ones(16)

    monkeypatch.setattr(dood if isinstance(model, DooD) else difference_air, "stop", stop)
    with torch.no_grad():
        reading = model.read(ink_of(16))
    assert reading.parts.present.sum(1).tolist() == [6.0] + [2.0] * 15
    assert sizes == [16, 16, 2, 2, 2, 2]
    assert all(torch.isfinite(part).all() for part in reading.parts)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", ["DooD", "DooD, paper", "-SP", "-dR", "Difference-AIR", "AIR"])
def test_where_most_have_stopped_loss_and_gradients_are_the_straightforward_codes(
    name: str,
) -> None:
    """As in test_drawing, with so many images that some rows are left out at every step."""
    model = undropped(variant(name, parts=4))
    plain, x, found = straightforward_dood(model), ink_of(24), []
    for each in (model, plain):
        torch.manual_seed(6)
        loss, _ = each.loss(x, torch.tensor(0.0))
        found.append((float(loss.detach()), gradients(each, loss)))
    (ours, our_gradients), (theirs, their_gradients) = found
    assert ours == pytest.approx(theirs, rel=1e-6)
    for parameter, expected in their_gradients.items():
        wanted = as_ours(parameter, expected)
        error = float((our_gradients[parameter] - wanted).norm() / (1e-9 + wanted.norm()))
        assert error < 1e-6, (parameter, error)


def test_a_training_step_on_a_gpu_computes_every_row_and_does_not_ask_how_many() -> None:
    there = torch.zeros(16, device="meta")  # who asks it for a number is refused
    x = torch.randn(16, 3, device="meta")
    assert Active(there).rows is None
    assert Active(there)(lambda part: part.square(), x).shape == (16, 3)
    with torch.no_grad(), pytest.raises(RuntimeError, match="meta"):
        Active(there)
