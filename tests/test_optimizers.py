"""The compiled update and gradient norm say what torch's optimiser says, and keep its state."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from reprise.nn.fused import kernels
from reprise.training import optimizers
from reprise.training.optimizers import Adam, RMSprop, clip_and_step

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


Kind = type[RMSprop] | type[Adam]
both = pytest.mark.parametrize("kind", [RMSprop, Adam])


def trained(
    kind: Kind, network: nn.Module, compiled: bool, bound: float, steps: int = 6
) -> tuple[RMSprop | Adam, list[Tensor]]:
    """The optimiser after some steps, and the norms."""
    optimizer, norms = kind(groups(network), 1e-3), []
    with kernels(compiled):
        for step in range(steps):
            give_gradients(network, step)
            norms.append(clip_and_step([optimizer], bound))
    return optimizer, norms


@both
@pytest.mark.parametrize("bound", [1.0, 1e9, float("inf")])
def test_steps_are_those_of_torch(bound: float, kind: Kind) -> None:
    torch.manual_seed(0)
    ours = network()
    theirs = copy.deepcopy(ours)
    ours_after, norms = trained(kind, ours, True, bound)
    theirs_after, their_norms = trained(kind, theirs, False, bound)
    assert torch.allclose(torch.stack(norms), torch.stack(their_norms), rtol=1e-6)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
        left, right = ours_after.state[a], theirs_after.state[b]
        assert left.keys() == right.keys()
        for key in left:
            assert torch.allclose(left[key], right[key], rtol=1e-5)
            assert left[key].stride() == right[key].stride()


@both
def test_either_goes_on_with_the_state_of_the_other(kind: Kind) -> None:
    torch.manual_seed(0)
    ours = network()
    optimizer, _ = trained(kind, ours, True, 1.0, steps=2)
    theirs = copy.deepcopy(ours)
    torchs = torch.optim.RMSprop if kind is RMSprop else torch.optim.Adam
    after = torchs(groups(theirs), 1e-3)
    after.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    back = kind(groups(ours), 1e-3)
    back.load_state_dict(copy.deepcopy(after.state_dict()))
    for each in (ours, theirs):
        give_gradients(each, 7)
    with kernels(True):
        clip_and_step([back], 1e9)
    after.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@both
def test_the_number_of_threads_changes_nothing(kind: Kind) -> None:
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        one = network()
        _, norms = trained(kind, one, True, 1.0)
        results.append([*norms, *one.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_beside_another_optimiser_both_are_clipped_by_the_norm_of_all() -> None:
    """As SPACE trains: RMSprop and Adam, one bound; and one that has no compiled code."""
    torch.manual_seed(0)
    ours = network()
    theirs = copy.deepcopy(ours)
    for it, compiled in ((ours, True), (theirs, False)):
        first, second, third, *others = it.parameters()
        parts: list[torch.optim.Optimizer] = [
            RMSprop([{"params": [first, second]}], 1e-3),
            Adam([third], 1e-3),
            torch.optim.Adam(others, fused=True),
        ]
        with kernels(compiled):
            for step in range(3):
                give_gradients(it, step)
                clip_and_step(parts, 0.5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (RMSprop, {"momentum": 0.9}),
        (RMSprop, {"weight_decay": 0.1}),
        (RMSprop, {"centered": True}),
        (Adam, {"weight_decay": 0.1}),
        (Adam, {"amsgrad": True}),
    ],
    ids=str,
)
def test_a_group_that_asks_for_more_gets_it(kind: Kind, more: dict[str, object]) -> None:
    torch.manual_seed(0)
    ours = network()
    theirs = copy.deepcopy(ours)
    for it, compiled in ((ours, True), (theirs, False)):
        first, *others = it.parameters()
        optimizer = kind([{"params": [first], **more}, {"params": others}], 1e-3)
        with kernels(compiled):
            for step in range(3):
                give_gradients(it, step)
                clip_and_step([optimizer], 1.0)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_parameter_that_joins_later_counts_its_own_steps() -> None:
    """Adam's corrections are of how often a parameter was updated."""
    torch.manual_seed(0)
    ours = network()
    theirs = copy.deepcopy(ours)
    for it, compiled in ((ours, True), (theirs, False)):
        optimizer = Adam(groups(it), 1e-3)
        with kernels(compiled):
            for step in range(4):
                give_gradients(it, step)
                if step < 2:
                    next(iter(it.parameters())).grad = None
                clip_and_step([optimizer], 1e9)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


@both
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen_in_the_norm_and_in_the_parameters(
    bad: float, kind: Kind
) -> None:
    one = network()
    give_gradients(one, 0)
    first = next(one.parameters())
    assert first.grad is not None
    first.grad[0, 0, 0, 0] = bad
    with kernels(True):
        norm = clip_and_step([kind(groups(one), 1e-3)], 1.0)
    assert not norm.isfinite()
    assert first[0, 0, 0, 0].isnan()


def test_a_gradient_that_lies_otherwise_takes_torchs_way() -> None:
    one = network()
    give_gradients(one, 0)
    first = next(one.parameters())
    with kernels(True):
        assert optimizers.compilable([first])
        assert first.grad is not None
        first.grad = first.grad.contiguous()
        assert not optimizers.compilable([first])
    assert not optimizers.compilable([next(iter(network().parameters()))])
