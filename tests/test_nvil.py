"""NVIL's gradient against the exact one, by enumeration of all decisions: a toy, and the whole models."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.baselines.air import AIR
from reprise.models.dmvae import DMVAE
from reprise.nn import nvil

from .noise import Noise
from .straightforward_air import straightforward_air, sum_of
from .test_attend import double, draws_per_step, made, noise

__all__ = ["double", "noise"]  # fixtures


class Toy(nn.Module):
    """T decisions, each after a 1; a decision's logit depends on those before, the value of all on all of them."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.logit = nn.Parameter(torch.randn(steps, dtype=torch.float64))
        self.past = nn.Parameter(torch.randn(steps, steps, dtype=torch.float64))
        self.value = nn.Parameter(100 * torch.randn(2**steps, dtype=torch.float64))
        self.cost = nn.Parameter(10 * torch.randn(steps, dtype=torch.float64))

    def paths(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """(log q of each decision, before, likelihood, cost of each step paid) for every bit string, (1, T) each."""
        for bits in itertools.product([0.0, 1.0], repeat=self.steps):
            drawn = torch.tensor([bits], dtype=torch.float64)
            alive = drawn.cumprod(1)
            before = torch.cat([torch.ones(1, 1, dtype=torch.float64), alive[:, :-1]], 1)
            logit = self.logit + torch.tril(self.past, -1) @ alive[0]
            log_q = -F.binary_cross_entropy_with_logits(logit[None], drawn, reduction="none")
            index = int(sum(2**t * int(a) for t, a in enumerate(alive[0])))
            yield log_q, before, self.value[index][None], alive * self.cost.square()


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("baseline", [0.0, -250.0])
def test_the_surrogates_expected_gradient_is_the_exact_one(steps: int, baseline: float) -> None:
    toy = Toy(steps)
    parameters = list(toy.parameters())
    exact, surrogate = torch.zeros(()), torch.zeros(())
    for log_q, before, likelihood, paid in toy.paths():
        # What is drawn after the end has probabilities of its own, which add up to 1 whatever they are.
        probability = log_q.sum().exp()
        elbo = likelihood - paid.sum(1)
        exact = exact + (probability * elbo).sum()
        reward = likelihood[:, None] - paid.flip(1).cumsum(1).flip(1)
        before_each = torch.cat(
            [torch.zeros(1, 1), before[:, :-1]], 1
        )  # sees what was decided before
        b = baseline + 30 * before_each
        added = nvil.surrogate(log_q, before, reward - b)
        surrogate = surrogate + (probability.detach() * (elbo + added)).sum()
    ours = torch.autograd.grad(surrogate, parameters, allow_unused=True, retain_graph=True)
    theirs = torch.autograd.grad(exact, parameters, allow_unused=True)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(torch.zeros(()) if found is None else found,
                                   torch.zeros(()) if expected is None else expected)  # fmt: skip


def test_its_value_moves_nothing_but_the_decisions() -> None:
    log_q, reward = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    baseline, before = torch.randn(2, 3, requires_grad=True), torch.tensor([[1.0, 1, 0]] * 2)
    total = nvil.surrogate(log_q, before, reward - baseline)
    assert total.shape == (2,)
    d_q, d_reward, d_baseline = torch.autograd.grad(
        total.sum(), [log_q, reward, baseline], allow_unused=True
    )
    torch.testing.assert_close(d_q, (before * (reward - baseline)).detach())
    assert d_reward is None
    assert d_baseline is None


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        (AIR, {}),
        (AIR, {"difference": True}),
        (DMVAE, {"memory": 4, "information": 0.0}),
    ],
)
def test_the_whole_models_expected_gradient_is_the_exact_one(
    cls: type[Any], changes: dict[str, Any], noise: Noise
) -> None:
    """All other noise fixed: Σ_n q(n) ELBO(n), differentiated, against Σ_n q(n) (gradient of the loss given n).

    The ELBOs and q(n) are the straightforward code's. Statistics of the baseline stand still.
    """
    model = made(cls, gradient="nvil", **changes).eval()
    plain = straightforward_air(model).eval()
    names = [name for name, _ in model.named_parameters() if not name.startswith("baseline.")]
    parameters = dict(model.named_parameters())
    chosen = [parameters[name] for name in names]
    x, step = torch.rand(1, 1, 50, 50), torch.tensor(22_000.0)
    total, ours, theirs = (
        0.0,
        [torch.zeros_like(p) for p in chosen],
        [torch.zeros_like(p) for p in chosen],
    )
    for n in range(4):
        noise.presences([1] * n + [0] * (3 - n), draws_per_step(model))
        noise.restart()
        loss, _ = model.loss(x, step)
        noise.restart()
        _, terms = plain.loss(x, step)
        noise.restart()
        steps = plain.walk(x, [0.0] * 3, True)
        probability = sum_of([s.before * s.log_q for s in steps]).exp().squeeze()
        weight = float(probability.detach())
        total += weight
        for sums, value, share in ((ours, loss, weight), (theirs, -probability * terms["elbo"], 1.0)):  # fmt: skip
            found = torch.autograd.grad(value, chosen, allow_unused=True)
            for so_far, g in zip(sums, found, strict=True):
                if g is not None:
                    so_far.add_(g, alpha=share)
    assert total == pytest.approx(1)
    assert max(float(g.norm()) for g in theirs) > 1
    for name, found_here, expected in zip(names, ours, theirs, strict=True):
        error = float((found_here - expected).norm() / (1e-6 + expected.norm()))
        assert error < 1e-8, (name, float(expected.norm()))


def test_the_baseline_learns_the_rewards_and_leaves_what_it_looks_at_alone() -> None:
    net = nvil.Baseline(4).train()
    seen = torch.randn(64, 3, 4)
    truth = -300 + 40 * seen[..., 0]
    before = torch.ones(64, 3)
    looked = seen.clone().requires_grad_()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        baseline, regression = net.fit(looked, before, truth)
        optimizer.zero_grad()
        regression.backward()
        optimizer.step()
        losses.append(float(regression.detach()))
    assert looked.grad is None
    assert not baseline.requires_grad
    assert losses[-1] < 0.1 * losses[0]
    assert float((baseline - truth).abs().mean()) < 20
    mean, std = net.spread()
    assert float(mean) == pytest.approx(float(truth.mean()), rel=1e-3)
    assert float(std) == pytest.approx(float(truth.std(correction=0)), rel=1e-2)


def test_steps_that_are_not_taken_teach_the_baseline_nothing() -> None:
    seen, before = torch.randn(8, 3, 4), torch.tensor([[1.0, 0.0, 0.0]] * 8)
    reward = torch.randn(8, 3)
    found = []
    for other in (0.0, 1e6):
        torch.manual_seed(0)
        net = nvil.Baseline(4).train()
        spoilt = reward + other * (1 - before)
        found.append((*net.fit(seen, before, spoilt), *net.spread()))
    for ours, others in zip(*found, strict=True):
        assert torch.equal(ours, others)


def test_an_evaluation_leaves_the_statistics_alone() -> None:
    net = nvil.Baseline(4).eval()
    net.fit(torch.randn(2, 3, 4), torch.ones(2, 3), torch.randn(2, 3))
    assert float(net.updates) == float(net.mean) == 0
    assert [float(part) for part in net.spread()] == [0, 1]


def test_a_batch_does_not_enter_its_own_baseline() -> None:
    """Or the baseline would depend on what was drawn, and the gradient be biased."""
    seen, before, past = torch.randn(8, 3, 4), torch.ones(8, 3), torch.randn(8, 3)
    found = []
    for reward in (torch.randn(8, 3), 1e3 * torch.randn(8, 3)):
        torch.manual_seed(0)
        net = nvil.Baseline(4).train()
        net.fit(seen, before, past)
        baseline, _ = net.fit(seen, before, reward)
        found.append(baseline)
    assert torch.equal(*found)
