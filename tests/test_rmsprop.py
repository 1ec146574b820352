"""The compiled update and gradient norm say what torch's optimiser says, and keep its state."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from reprise.nn.fused import kernels
from reprise.training import rmsprop
from reprise.training.rmsprop import RMSprop, clip_and_step

pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def network() -> nn.Module:
    """Parameters of one number and of several pieces, in both orders of memory, one that no gradient reaches."""
    parts = [
        nn.Conv2d(3, 5, 3),
        nn.Conv2d(5, 40, 1),
        nn.Linear(300, 130),
        nn.Linear(1, 1),
        nn.Linear(2, 2),
    ]
    return nn.ModuleList(parts).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def give_gradients(network: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for name, p in network.named_parameters():
        if not name.startswith("4"):
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape) * 10 ** float(torch.randn(())))


def groups(network: nn.Module) -> list[dict[str, object]]:
    first, *others = network.parameters()
    return [{"params": [first], "lr": 0.01}, {"params": others}]


def trained(
    network: nn.Module, compiled: bool, bound: float, steps: int = 6
) -> tuple[RMSprop, list[Tensor]]:
    """The optimiser after some steps, and the norms."""
    optimizer, norms = RMSprop(groups(network), 1e-3), []
    with kernels(compiled):
        for step in range(steps):
            give_gradients(network, step)
            norms.append(clip_and_step([optimizer], bound))
    return optimizer, norms


@pytest.mark.parametrize("bound", [1.0, 1e9, float("inf")])
def test_steps_are_those_of_torch(bound: float) -> None:
    torch.manual_seed(0)
    ours = network()
    theirs = copy.deepcopy(ours)
    ours_after, norms = trained(ours, True, bound)
    theirs_after, their_norms = trained(theirs, False, bound)
    assert torch.allclose(torch.stack(norms), torch.stack(their_norms), rtol=1e-6)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
        left, right = ours_after.state[a], theirs_after.state[b]
        assert left.keys() == right.keys()
        for key in left:
            assert torch.allclose(left[key], right[key], rtol=1e-5)
            assert left[key].stride() == right[key].stride()


def test_either_goes_on_with_the_state_of_the_other() -> None:
    torch.manual_seed(0)
    ours = network()
    optimizer, _ = trained(ours, True, 1.0, steps=2)
    theirs = copy.deepcopy(ours)
    after = torch.optim.RMSprop(groups(theirs), 1e-3)
    after.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    back = RMSprop(groups(ours), 1e-3)
    back.load_state_dict(copy.deepcopy(after.state_dict()))
    for each in (ours, theirs):
        give_gradients(each, 7)
    with kernels(True):
        clip_and_step([back], 1e9)
    after.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_number_of_threads_changes_nothing() -> None:
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        one = network()
        _, norms = trained(one, True, 1.0)
        results.append([*norms, *one.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_beside_another_optimiser_both_are_clipped_by_the_norm_of_all() -> None:
    """As SPACE trains: RMSprop and Adam, one bound."""
    torch.manual_seed(0)
    ours = network()
    theirs = copy.deepcopy(ours)
    for it, compiled in ((ours, True), (theirs, False)):
        first, second, *others = it.parameters()
        parts = [RMSprop([{"params": [first, second]}], 1e-3), torch.optim.Adam(others, fused=True)]
        with kernels(compiled):
            for step in range(3):
                give_gradients(it, step)
                clip_and_step(parts, 0.5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "more", [{"momentum": 0.9}, {"weight_decay": 0.1}, {"centered": True}], ids=str
)
def test_a_group_that_asks_for_more_gets_it(more: dict[str, object]) -> None:
    torch.manual_seed(0)
    ours = network()
    theirs = copy.deepcopy(ours)
    for it, compiled in ((ours, True), (theirs, False)):
        first, *others = it.parameters()
        optimizer = RMSprop([{"params": [first], **more}, {"params": others}], 1e-3)
        with kernels(compiled):
            for step in range(3):
                give_gradients(it, step)
                clip_and_step([optimizer], 1.0)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen_in_the_norm_and_in_the_parameters(bad: float) -> None:
    one = network()
    give_gradients(one, 0)
    first = next(one.parameters())
    assert first.grad is not None
    first.grad[0, 0, 0, 0] = bad
    with kernels(True):
        norm = clip_and_step([RMSprop(groups(one), 1e-3)], 1.0)
    assert not norm.isfinite()
    assert first[0, 0, 0, 0].isnan()


def test_a_gradient_that_lies_otherwise_takes_torchs_way() -> None:
    one = network()
    give_gradients(one, 0)
    first = next(one.parameters())
    with kernels(True):
        assert rmsprop.compilable([first])
        assert first.grad is not None
        first.grad = first.grad.contiguous()
        assert not rmsprop.compilable([first])
    assert not rmsprop.compilable([next(iter(network().parameters()))])
