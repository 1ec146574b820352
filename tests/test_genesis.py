"""GENESIS: published sizes, masks and mixture against the literal formulas, bounds in order, fast gradients."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from reprise.baselines.genesis import GENESIS, GENESISConfig, break_stick
from reprise.core.dataset import DatasetInfo
from reprise.core.errors import UsageError
from reprise.core.model import Decomposes
from reprise.nn.chunks import sum_over_chunks
from reprise.nn.distributions import ceiling, image_log_prob
from reprise.nn.gating import gate, normalised, normalised_gate
from reprise.training.engine import choose, computing

from .straightforward_genesis import StraightforwardGENESIS
from .test_gnm import count

TINY = DatasetInfo("tiny", (1, 32, 32), objects=3)
COLOUR = DatasetInfo("colour", (3, 32, 32), "rgb", objects=4)


def made(data: DatasetInfo = TINY, **changes: Any) -> GENESIS:
    """Somewhat trained: no parameter is zero, the running statistics are some batch's."""
    config = dataclasses.replace(GENESIS.recipe(data).config, **changes)
    model = GENESIS(config, data)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        for _ in range(3):
            model.loss(torch.rand(8, *data.shape), torch.tensor(0.0))
    return model


def straightforward(model: GENESIS) -> StraightforwardGENESIS:
    plain = copy.deepcopy(model)
    plain.__class__ = StraightforwardGENESIS
    assert isinstance(plain, StraightforwardGENESIS)
    return plain


def seeded(seed: int, call: Any, *arguments: Any) -> Any:
    torch.manual_seed(seed)
    return call(*arguments)


def test_it_has_the_measured_sizes_to_the_unit() -> None:
    gray = DatasetInfo("a", (1, 128, 128), objects=4)
    rgb = DatasetInfo("b", (3, 128, 128), "rgb", objects=4)
    assert count(GENESIS(GENESISConfig(), rgb)) == 13_397_732
    assert count(GENESIS(GENESISConfig(), gray)) == 13_393_890
    assert count(GENESIS(GENESISConfig(decoder_layers=4), rgb)) == 13_406_980
    assert count(GENESIS(GENESISConfig(components=11), gray)) == 13_393_890


def test_the_recipe_has_the_published_changes_and_a_component_more_than_objects() -> None:
    sets = {"mnist4": (1, 4), "mnist10": (1, 10), "arrow": (3, 4)}
    recipes = {
        name: GENESIS.recipe(DatasetInfo(name, (channels, 128, 128), objects=objects))
        for name, (channels, objects) in sets.items()
    }
    assert {k: r.config.components for k, r in recipes.items()} == {"mnist4": 5, "mnist10": 11, "arrow": 5}  # fmt: skip
    assert {k: r.config.beta for k, r in recipes.items()} == {"mnist4": 10, "mnist10": 10, "arrow": 15}  # fmt: skip
    for recipe in recipes.values():
        assert (recipe.config.objective, recipe.config.decoder_layers) == ("beta", 3)
        training = recipe.training
        assert (training.optimizer, training.lr, training.lr_until) == ("adam", 1e-4, None)
        assert training.clip_norm is None


def test_data_it_does_not_fit_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="objects >= 1"):
        GENESIS.recipe(DatasetInfo("a", (1, 64, 64)))
    with pytest.raises(UsageError, match=r"128 \(64 or 32\) pixels"):
        GENESIS.recipe(DatasetInfo("a", (1, 28, 28), objects=1))


def test_masks_add_up_to_one_and_the_layers_to_the_image() -> None:
    model, x = made(), torch.rand(3, 1, 32, 32)
    assert isinstance(model, Decomposes)
    with torch.no_grad():
        layers = seeded(1, model.decompose, x)
        image = seeded(1, lambda: model.decode(model.infer(x)))
    assert layers.mask.shape == layers.component.shape == (3, 4, 1, 32, 32)
    assert (layers.mask >= 0).all()
    assert torch.allclose(layers.mask.sum(1), torch.ones(3, 1, 32, 32), atol=1e-5)
    assert torch.allclose((layers.mask * layers.component).sum(1), image, atol=1e-6)


@pytest.mark.parametrize("size", [1.0, 30.0, 1e4])
def test_masks_are_shares_of_what_is_left_however_extreme_the_logits(size: float) -> None:
    logit = (size * torch.randn(2, 3, 1, 8, 8, dtype=torch.float64)).requires_grad_()
    log_mask = break_stick(logit)
    assert log_mask.isfinite().all()  # a share of 1 - 1e-4000 leaves a mask whose log is finite
    share = logit.detach().sigmoid()
    left = torch.cat([torch.ones_like(share[:, :1]), (1 - share).cumprod(1)], 1)
    literal = left * torch.cat([share, torch.ones_like(share[:, :1])], 1)
    assert torch.allclose(log_mask.exp(), literal, atol=1e-12)
    log_mask.sum().backward()
    assert logit.grad is not None
    assert logit.grad.isfinite().all()


def test_the_likelihood_is_a_mixture_in_every_pixel() -> None:
    model = made(COLOUR)
    x, logits = torch.rand(2, 3, 32, 32), torch.randn(2, 5, 3, 32, 32)
    log_mask = torch.randn(2, 5, 1, 32, 32).log_softmax(1)
    found = model.log_likelihood(x, log_mask, logits)
    for b in range(2):
        density = sum(
            log_mask[b, k].exp().double() * Normal(logits[b, k].double().sigmoid(), 0.2).log_prob(x[b].double()).exp()
            for k in range(5)
        )  # fmt: skip
        assert isinstance(density, Tensor)
        assert float(found[b]) == pytest.approx(float(density.log().sum()), rel=1e-5)


def test_where_a_sum_of_exponentials_underflows_the_likelihood_stays_finite() -> None:
    """A mask of e^-200 over the right component, sigma 0.01: every naive density is zero in fp32."""
    model = made(sigma=0.01)
    x = torch.ones(1, 1, 32, 32)
    log_mask = torch.cat([torch.full((1, 1, 1, 32, 32), -200.0), torch.zeros(1, 3, 1, 32, 32)], 1)
    logits = torch.full((1, 4, 1, 32, 32), -50.0)
    logits[:, 0] = 50.0
    naive = (log_mask.exp() * Normal(logits.sigmoid(), 0.01).log_prob(x[:, None]).exp()).sum(1).log()  # fmt: skip
    assert naive.isinf().all()
    best = float(Normal(torch.tensor(1.0), 0.01).log_prob(torch.tensor(1.0))) - 200
    assert float(model.log_likelihood(x, log_mask, logits)) == pytest.approx(32 * 32 * best, rel=1e-5)  # fmt: skip


@pytest.mark.parametrize("data", [TINY, COLOUR], ids=["gray", "colour"])
def test_log_weights_are_the_ratios_of_torchs_own_distributions(data: DatasetInfo) -> None:
    model, x = made(data), torch.rand(3, *data.shape)
    with torch.no_grad():
        ours = seeded(4, model.log_weights, x, 1)
        theirs = seeded(4, straightforward(model).log_weights, x, 1)
    assert torch.allclose(ours, theirs, rtol=1e-4)


def test_particles_together_and_one_by_one_estimate_the_same() -> None:
    model, x = made(), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        ours, theirs = model.log_weights(x, 30), straightforward(model).log_weights(x, 30)
    assert ours.shape == theirs.shape == (30, 2)
    spread = (ours.var(0) / 30 + theirs.var(0) / 30).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * spread).all()


def test_the_bounds_are_in_order_below_the_ceiling() -> None:
    model, x = made(), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        weights = model.log_weights(x, 100)
    elbo = weights.mean(0)
    ten = (weights.view(10, 10, 2).logsumexp(1) - math.log(10)).mean(0)
    hundred = weights.logsumexp(0) - math.log(100)
    assert (elbo <= ten).all()
    assert (ten <= hundred).all()
    assert (hundred < ceiling(32 * 32, 0.2)).all()


def test_scoring_sampling_and_decomposing_leave_the_running_statistics_alone() -> None:
    model, x = made().train(), torch.rand(2, 1, 32, 32)
    before = {name: value.clone() for name, value in model.named_buffers()}
    with torch.no_grad():
        scores = seeded(1, model.log_weights, x, 2)
        for call in (model.infer, model.decompose, model.reconstruct):
            call(x)
        model.sample(2)
        assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
        assert torch.equal(scores, seeded(1, model.eval().log_weights, x, 2))
        model.train().loss(x, torch.tensor(0.0))
    assert any(not torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_a_normalised_gate_is_torchs_two_operations() -> None:
    """Values, gradients and running statistics, which may be written to before the backward pass."""

    def passed(gated: Callable[..., Tensor], kind: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        # with means far from zero, or what they cost a sum would not be seen
        u = (torch.randn(4, 6, 5, 5) + 3 * torch.arange(6.0)[:, None, None]).to(kind)
        u = u.to(memory_format=torch.channels_last).requires_grad_()
        bias, gain, shift = (torch.randn(6).to(kind).requires_grad_() for _ in range(3))
        mean, variance = torch.randn(6).to(kind), torch.rand(6).to(kind)
        y = gated(u, bias, gain, shift, mean, variance, 0.1, 1e-5)
        with torch.no_grad():
            mean.add_(1)
        of_bias, *found = torch.autograd.grad(y.square().sum(), (bias, u, gain, shift), allow_unused=True)  # fmt: skip
        assert of_bias is None or not of_bias.any()
        return [y, mean, variance, *found]

    def elsewhere(u: Tensor, bias: Tensor, *rest: Any) -> Tensor:
        gated = gate(normalised(u, *rest))
        with torch.no_grad():
            rest[2].add_(0.1 * bias)
        return gated

    exact = passed(elsewhere, torch.float64)
    found = passed(normalised_gate, torch.float32)
    torch.testing.assert_close(found, [t.float() for t in exact], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("data", "changes", "training"),
    [(TINY, {}, True), (COLOUR, {}, True), (TINY, {"decoder_layers": 4}, True), (TINY, {}, False)],
    ids=["gray", "colour", "four layers", "running statistics"],
)
def test_in_fp32_loss_gradients_and_statistics_are_those_of_the_straightforward_code(
    data: DatasetInfo, changes: dict[str, Any], training: bool
) -> None:
    model = made(data, **changes).train(training)
    plain = straightforward(model)
    x, step = torch.rand(4, *data.shape), torch.tensor(5_000.0)
    (theirs, _) = seeded(3, plain.loss, x, step)
    theirs.backward()
    engine = choose("cpu", "fp32", 1)
    with computing(engine):
        (ours, _) = seeded(3, engine.place(model).loss, x.to(memory_format=torch.channels_last), step)  # fmt: skip
        ours.backward()
    assert float(ours.detach() / theirs.detach() - 1) == pytest.approx(0, abs=1e-5)
    layers: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    for layer, names in layers.items():
        expected, found = (
            torch.cat([of.get_parameter(name).grad.flatten() for name in names])  # type: ignore[union-attr]
            for of in (plain, model)
        )
        assert float(expected.norm()) > 0
        assert float((found - expected).norm() / expected.norm()) < 1e-4, layer
    for name, value in plain.named_buffers():
        assert torch.allclose(model.get_buffer(name), value, rtol=1e-4, atol=1e-5), name


def test_the_broadcast_decoder_is_convolutions_over_a_broadcast_map() -> None:
    model, z = made(COLOUR), torch.randn(2, 16)
    decoder = model.component_decoder
    assert decoder.side == 32 + 2 * 3
    with torch.no_grad():
        fast = decoder(z[None], decoder.positions())[0].sigmoid()
        literal = straightforward(model).image(z)
    assert fast.shape == (2, 3, 32, 32)
    assert torch.allclose(fast, literal, atol=1e-6)


def test_geco_has_one_goal_for_the_squared_error_whatever_sigma() -> None:
    """And a black image does not meet it, of which GENESIS's own number would be no test at sigma 0.2."""
    x = torch.zeros(1, 1, 32, 32)
    x[:, :, 8:16, 8:16] = 1.0
    for sigma in (0.2, 0.7):
        model = made(objective="geco", sigma=sigma)
        error = 2 * (0.5655 - math.log(0.7) - 0.5 * math.log(2 * math.pi)) * 0.7**2
        off = torch.full_like(x, math.sqrt(error))
        assert model.goal() * 32**2 == pytest.approx(-float(image_log_prob(off, 0 * x, sigma)))
        assert -float(image_log_prob(x, 0 * x, sigma)) > model.goal() * 32**2


def test_options_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match=r"beta=3.0 has no effect with model.objective=geco"):
        made(objective="geco", beta=3.0)
    with pytest.raises(UsageError, match=r"geco_lr=1.0 has no effect with model.objective=beta"):
        made(geco_lr=1.0)


def test_geco_raises_the_weight_of_the_kl_when_the_goal_is_met_and_faster_than_it_lowers_it() -> (
    None
):
    model, x = made(objective="geco", sigma=0.7), torch.rand(2, 1, 32, 32)
    model.geco_error.fill_(math.inf)  # `made` has taken steps
    model.geco_beta.fill_(1.0)
    goal, rate = 0.5655 * 32 * 32, 1e-5 * 4  # 64² / 32²
    beta = model._beta(torch.tensor(goal + 100))
    assert float(beta) == 1.0  # the step's own error counts from the next step on
    assert float(model.geco_beta) == pytest.approx(math.exp(-100 * rate), rel=1e-6)
    model._beta(torch.tensor(goal - 20_000))  # the moving mean is now 101 under the goal
    slack = goal - (0.99 * (goal + 100) + 0.01 * (goal - 20_000))
    assert float(model.geco_beta) == pytest.approx(math.exp((-100 + 10 * slack) * rate), rel=1e-5)
    _, terms = model.loss(x, torch.tensor(0.0))
    assert float(terms["beta"]) == pytest.approx(math.exp((-100 + 10 * slack) * rate), rel=1e-5)
    assert {"geco_beta", "geco_error"} <= model.state_dict().keys()


def test_a_sum_in_chunks_has_the_value_and_gradients_of_the_whole() -> None:
    layer = nn.Linear(3, 2)
    x, scale = torch.randn(5, 3, requires_grad=True), torch.randn(2, requires_grad=True)

    def function(x: Tensor, scale: Tensor) -> Tensor:
        return (F.elu(layer(x)) * scale).sum(1)

    tensors = (x, scale, *layer.parameters())
    whole = 3 * function(x, scale).sum()
    chunks = 3 * sum_over_chunks(function, 2, [x], [scale], list(layer.parameters()))
    assert torch.allclose(whole, chunks)
    of_whole, of_chunks = (torch.autograd.grad(total, tensors) for total in (whole, chunks))
    for a, b in zip(of_whole, of_chunks, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(whole, 3 * sum_over_chunks(function, 2, [x], [scale]))


def test_its_outputs_do_not_die_on_black_images() -> None:
    """At 1e-3 every pixel of every component saturates at black, and no gradient (0.006 here) brings it back."""
    data = DatasetInfo("a", (1, 32, 32), objects=1)
    recipe = GENESIS.recipe(data)
    torch.manual_seed(0)
    config = dataclasses.replace(recipe.config, objective="geco")  # so that no KL holds the latents
    model = GENESIS(config, data).train()
    adam = torch.optim.Adam(model.parameters(), recipe.training.lr)
    places = torch.Generator().manual_seed(1)
    for step in range(100):
        x = torch.zeros(2, 1, 32, 32)
        for image in x[:, 0]:
            row, column = torch.randint(4, 24, (2,), generator=places).tolist()
            image[row : row + 5, column : column + 3] = 1
        loss, _ = model.loss(x, torch.tensor(float(step)))
        adam.zero_grad()
        loss.backward()
        adam.step()
    gradient = model.component_decoder.last.weight.grad
    assert gradient is not None
    assert gradient.abs().max().item() > 0.1
