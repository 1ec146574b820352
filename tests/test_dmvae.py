"""DM-VAE: published sizes, addressing, both readings of the KL, the information loss, the memory."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from reprise.core.dataset import DatasetInfo
from reprise.core.model import Attends, Itemizes, Locates, Relaxes, Remembers
from reprise.models.dmvae import DMVAE, Belief, DMVAEConfig
from reprise.nn import concrete

from .noise import Noise
from .test_attend import CHARACTERS, DIGITS, TINY, made, noise, silence
from .test_gnm import count

__all__ = ["noise"]  # a fixture


def dmvae(**changes: Any) -> tuple[Any, Any]:
    """(the model, somewhat trained; its memory)"""
    model = made(DMVAE, **changes)
    return model, model.appearance


def fresh(data: DatasetInfo = DIGITS, **changes: Any) -> Any:
    return DMVAE(DMVAEConfig(**changes), data)


def test_it_has_the_measured_sizes_to_the_unit() -> None:
    options = [(k, e) for k in (15, 50) for e in ("mlp", "pixels")]
    sizes = {(k, e): count(fresh(memory=k, embed=e)) for k, e in options}
    assert sizes == {
        (15, "mlp"): 2_200_794, (50, "mlp"): 2_238_874,
        (15, "pixels"): 3_956_570, (50, "pixels"): 3_994_650,
    }  # fmt: skip
    grown = count(fresh(CHARACTERS)) - sizes[15, "mlp"]
    assert grown == (64**2 - 50**2) * 256  # the embedding's first layer, nothing else
    slots = [fresh(memory=k).appearance.slots.numel() for k in (15, 50)]
    assert slots == [960, 3_200]


def test_it_has_all_the_capabilities() -> None:
    for capability in (Attends, Locates, Remembers, Relaxes, Itemizes):
        assert issubclass(DMVAE, capability)


def test_training_starts_as_the_recipe_says() -> None:
    model = fresh(memory_range=0.5)
    net = model.appearance
    assert 0.45 < float(net.slots.detach().abs().max()) <= 0.5
    assert float(net.log_key_strength.detach().exp()) == pytest.approx(5)
    assert (net.generator[-1].bias == -2).all()
    assert (model.presence[-1].bias == 2).all()
    assert model.where[-1].bias.tolist() == [0, 0, 0, 0, -2, -2, -2, -2]


# Addressing.


def test_the_key_strength_stays_between_1_and_30() -> None:
    _, net = dmvae()
    for raw, strength in [(-5.0, 1.0), (math.log(12.0), 12.0), (9.0, 30.0)]:
        with torch.no_grad():
            net.log_key_strength.fill_(raw)
        assert net.prepare().norm(dim=-1).tolist() == pytest.approx([strength] * 15)


def test_a_key_strength_beyond_its_bound_can_come_back() -> None:
    _, net = dmvae()
    for raw in (-5.0, 9.0):
        with torch.no_grad():
            net.log_key_strength.fill_(raw)
        net.advance(torch.tensor(0.0))
        net.prepare().sum().backward()
        assert net.log_key_strength.grad
        net.log_key_strength.grad = None


def test_types_are_drawn_and_scored_in_fp32_whatever_the_precision() -> None:
    """Noise in bf16 has 256 values: the likeliest slot would be drawn too often, and a KL be a nat beside the mark."""
    model, _ = dmvae(kl_type="relaxed")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reading = model.read(torch.rand(2, 1, 50, 50), "relaxed")
        costs = model.costs(reading)
    belief = reading.belief
    for part in (belief.log_q, belief.drawn, *belief[3:], reading.drawn, *costs.values()):
        assert part.dtype == torch.float32


def test_slots_are_addressed_by_the_cosine_of_what_is_seen() -> None:
    _, net = dmvae(memory=4)
    glimpse = torch.rand(3, 28**2)
    with torch.no_grad():
        q = net.address(glimpse, net.prepare()).exp()
        x, m = net.h_x(glimpse), net.h_m(net.slots)
        for b in range(3):
            scores = [
                math.exp(float(net.log_key_strength.exp() * (x[b] @ m[k]) / (x[b].norm() * m[k].norm())))
                for k in range(4)
            ]  # fmt: skip
            assert q[b].tolist() == pytest.approx([s / sum(scores) for s in scores], rel=1e-4)


def test_orthogonal_keys_can_be_told_apart_only_by_their_strength() -> None:
    """Without one, the likeliest of 15 slots can have no more than 0.345; with 10, 0.999."""
    for strength, best in [(1.0, math.e / (math.e + 14)), (10.0, 0.999)]:
        scores = torch.zeros(15)
        scores[3] = strength
        assert float(scores.softmax(0)[3]) == pytest.approx(best, abs=5e-4)


def test_each_type_is_drawn_as_often_as_addressed() -> None:
    _, net = dmvae(memory=3)
    with torch.no_grad():
        net.log_key_strength.fill_(1.0)
        glimpse = torch.rand(1, 28**2).expand(20_000, -1)
        code, belief = net.infer(glimpse, net.prepare(), "sample")
        mode, likeliest = net.infer(glimpse[:5], net.prepare(), "mode")
    weights = code[:, :3]
    assert ((weights == 0) | (weights == 1)).all()
    assert (weights.sum(1) == 1).all()
    assert weights.mean(0).tolist() == pytest.approx(belief.log_q[0].exp().tolist(), abs=0.02)
    torch.testing.assert_close(belief.m, net.slots.detach()[weights.argmax(1)])
    assert (mode[:, :3].argmax(1) == likeliest.log_q.argmax(1)).all()
    assert torch.equal(mode[:, 3:], likeliest.mean)


def test_the_type_sees_the_glimpse_alone() -> None:
    """So that it can be asked of a patch that was made up; the rest of the image must not matter."""
    model, _ = dmvae()
    looked = []
    x = torch.rand(1, 1, 50, 50)
    with torch.no_grad():
        silence(model.where[-1], torch.tensor([-1.5, -1.5, 0.0, 0.0, *[-6.0] * 4]))
        for edge in (0.0, 1.0):
            changed = x.clone()
            changed[..., :8, :] = edge  # outside a window of a fifth around the centre
            torch.manual_seed(0)
            looked.append(model.attend(changed, sample=False).slot[:, 0])
    torch.testing.assert_close(*looked)


# The two readings of the objective.


@pytest.mark.parametrize("kl_type", ["categorical", "relaxed"])
def test_the_temperature_follows_its_schedule(kl_type: str) -> None:
    model, net = dmvae(kl_type=kl_type)
    x = torch.rand(1, 1, 50, 50)
    expected = {0: 1.0, 12_500: 0.65, 25_000: 0.3, 99_999: 0.3}
    for step, temperature in expected.items():
        model.loss(x, torch.tensor(float(step)))
        wanted = temperature if kl_type == "categorical" else 2 / 3
        assert float(net.temperature) == pytest.approx(wanted)
    model, net = dmvae(kl_type=kl_type, type_temperature=0.1)
    model.loss(x, torch.tensor(1_000.0))
    assert float(net.temperature) == pytest.approx(0.1)


def test_the_categorical_kl_is_capped_and_the_relaxed_one_is_not() -> None:
    """A type that stands out by 10 costs log 15 at most as a category, 8.9 as a Concrete variable."""
    costs = {}
    for kl_type in ("categorical", "relaxed"):
        _, net = dmvae(kl_type=kl_type)
        log_q = torch.tensor([10.0] + [0.0] * 14).log_softmax(0).expand(4_000, 15)
        net.temperature.fill_(0.5)
        one = torch.ones(4_000, 32)
        belief = Belief(log_q, concrete.categorical(log_q, 0.5), torch.zeros(4_000, 64), one, one, one)  # fmt: skip
        with torch.no_grad():
            costs[kl_type] = float(net.kl(belief)["type"].mean())
    assert costs["categorical"] == pytest.approx(2.70, abs=0.01)
    assert costs["relaxed"] == pytest.approx(8.9, abs=0.3)


# The information loss.


@pytest.mark.parametrize("kl_type", ["categorical", "relaxed"])
def test_the_information_loss_leaves_the_elbo_alone(kl_type: str) -> None:
    """γ = 0 is the paper's ablation: the same ELBO under the same noise, and a loss that is minus it."""
    x, found = torch.rand(3, 1, 50, 50), {}
    for gamma in (0.0, 1.0, 10.0):
        torch.manual_seed(7)
        model, _ = dmvae(kl_type=kl_type, information=gamma)
        torch.manual_seed(8)
        loss, terms = model.loss(x, torch.tensor(100.0))
        found[gamma] = {k: float(v.detach()) for k, v in terms.items()} | {"loss": float(loss.detach())}  # fmt: skip
    assert len({each["elbo"] for each in found.values()}) == 1
    assert found[0.0]["loss"] == pytest.approx(-found[0.0]["elbo"])
    for gamma in (1.0, 10.0):
        each = found[gamma]
        assert each["loss"] == pytest.approx(-each["elbo"] - gamma * each["information"], rel=1e-6)
        assert each["information"] < 0


def test_the_information_loss_is_the_recognition_of_what_each_slot_makes() -> None:
    """At most 0, K log K below it where nothing is recognised; it reaches everything that takes part (eq. 8)."""
    _, net = dmvae(memory=6)
    net.gamma.fill_(2.0)
    total, terms = net.auxiliary()
    assert float(total.detach()) == pytest.approx(2 * float(terms["information"].detach()))
    reached = torch.autograd.grad(total, list(net.parameters()), allow_unused=True)
    names = [name for name, _ in net.named_parameters()]
    nothing = {name for name, g in zip(names, reached, strict=True) if g is None or not g.any()}
    assert {name.split(".")[0] for name in nothing} == {"epsilon_posterior"}
    with torch.no_grad():
        silence(net.h_m[-1], torch.tensor(0.1))  # all keys alike
        _, terms = net.auxiliary()
    assert float(terms["information"]) == pytest.approx(-6 * math.log(6), rel=1e-5)


def test_the_information_loss_can_wait() -> None:
    model, net = dmvae(information=3.0, information_from=500.0)
    x = torch.rand(1, 1, 50, 50)
    for step, gamma in [(499.0, 0.0), (500.0, 3.0)]:
        loss, terms = model.loss(x, torch.tensor(step))
        assert float(net.gamma) == gamma
        expected = -float(terms["elbo"].detach()) - gamma * float(terms["information"].detach())
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)


# The memory.


@pytest.mark.parametrize("changes", [{}, {"kl_type": "relaxed"}, {"information": 0.0}])
def test_every_slot_learns_in_the_first_step(changes: dict[str, Any]) -> None:
    model = fresh(**changes).train()
    net = model.appearance
    before = net.slots.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model.loss(torch.rand(4, 1, 50, 50), torch.tensor(0.0))[0].backward()
    optimizer.step()
    assert (net.slots.detach() != before).any(1).all()
    assert net.log_key_strength.grad is not None
    assert float(net.log_key_strength.grad) != 0


def test_recalling_shows_each_slots_mean_and_then_draws(noise: Noise) -> None:
    model, net = dmvae(memory=5)
    with torch.no_grad():
        torch.manual_seed(0)
        seen = model.recall(7)
        torch.manual_seed(1)
        again = model.recall(7)
        p = net.variation(net.slots)
        mean = net.generate(p.mean, net.slots).view(5, 1, 28, 28)
    assert seen.shape == (5, 8, 1, 28, 28)
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1
    torch.testing.assert_close(seen[:, 0], mean, rtol=1e-5, atol=1e-6)
    assert torch.equal(seen[:, 0], again[:, 0])
    assert (seen[:, 1:] != again[:, 1:]).flatten(1).any(1).all()
    assert (seen[:, 1] != seen[:, 2]).flatten(1).any(1).all()
    with torch.no_grad():  # a slot that varies little looks like its mean
        net.epsilon_prior[-1].bias[32:] = -20.0
        narrow = model.recall(7)
    spread = (narrow[:, 1:] - narrow[:, :1]).abs().mean()
    assert float(spread) < 0.2 * float((seen[:, 1:] - seen[:, :1]).abs().mean())


def test_scenes_from_the_prior_use_every_slot_alike() -> None:
    model = made(DMVAE, TINY, memory=4)
    with torch.no_grad():
        code = model.prior(3_000).code
    share = code[..., :4].mean((0, 1))
    assert share.tolist() == pytest.approx([0.25] * 4, abs=5 * 0.5 / math.sqrt(9_000))
    assert (code[..., :4].amax(-1) == 1).all()


def test_straight_through_reads_one_slot_and_learns_from_all_of_them() -> None:
    _, net = dmvae(memory=3, straight_through=True)
    net.temperature.fill_(1.0)
    code, belief = net.infer(torch.rand(6, 28**2), net.prepare(), "relaxed")
    weights = code[:, :3]
    assert sorted(set(weights.detach().round(decimals=5).flatten().tolist())) == [0.0, 1.0]
    assert torch.equal(weights.argmax(1), belief.drawn.argmax(1))
    (gradient,) = torch.autograd.grad(weights[:, 0].sum(), net.log_key_strength)
    assert gradient != 0


def test_a_relaxed_address_reads_a_mixture_of_slots() -> None:
    _, net = dmvae(memory=3)
    net.temperature.fill_(1.0)
    with torch.no_grad():
        code, belief = net.infer(torch.rand(6, 28**2), net.prepare(), "relaxed")
    weights = code[:, :3]
    torch.testing.assert_close(weights, belief.drawn.exp())
    torch.testing.assert_close(weights.sum(1), torch.ones(6))
    torch.testing.assert_close(belief.m, weights @ net.slots.detach())
    assert (weights.amax(1) < 1).any()
