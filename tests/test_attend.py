"""AIR, DAIR and the frame they share with DM-VAE: held against the straightforward code, and to their promises."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprise.baselines.air import AIR, AIRConfig
from reprise.core.dataset import DatasetInfo
from reprise.core.errors import UsageError
from reprise.core.run import Run
from reprise.core.spec import dataset
from reprise.core.spec import model as model_spec
from reprise.models.dmvae import DMVAE, Memory
from reprise.nn.attend import extent
from reprise.training.engine import choose, computing

from .noise import Noise
from .straightforward_air import straightforward_air
from .test_gnm import count

DIGITS = DatasetInfo("multimnist", (1, 50, 50), objects=2)
CHARACTERS = DatasetInfo("characters", (1, 64, 64), objects=3)
TINY = DatasetInfo("tiny", (1, 8, 8), objects=2)

VARIANTS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "AIR": (AIR, {}),
    "AIR, cool": (AIR, {"presence_temperature": 0.7}),
    "AIR, nvil": (AIR, {"gradient": "nvil"}),
    "AIR, normalised signal": (AIR, {"gradient": "nvil", "normalize_signal": True}),
    "AIR, pixels": (AIR, {"embed": "pixels", "objects": 2}),
    "AIR, as in its paper": (AIR, {"likelihood": "normal", "pose": 3, "scale_mean": -1.0}),
    "DAIR": (AIR, {"difference": True}),
    "DAIR, nvil": (AIR, {"difference": True, "gradient": "nvil"}),
    "DAIR, all through": (
        AIR,
        {"difference": True, "residual_detach": False, "crop_from": "residual"},
    ),
    "DAIR, without a state": (AIR, {"difference": True, "recurrence": "none"}),
    "DM-VAE": (DMVAE, {}),
    "DM-VAE, straight through, to the letter": (
        DMVAE,
        {"straight_through": True, "generator": "literal", "kl_type": "relaxed"},
    ),
    "DM-VAE, relaxed": (DMVAE, {"kl_type": "relaxed", "information": 10.0, "memory": 7}),
    "DM-VAE, no information": (DMVAE, {"information": 0.0, "type_temperature": 0.5}),
    "DM-VAE, information to come": (DMVAE, {"information_from": 1e5}),
    "DM-VAE, nvil": (DMVAE, {"gradient": "nvil"}),
}  # fmt: skip
BOTH: list[tuple[type[Any], dict[str, Any]]] = [
    (AIR, {}),
    (AIR, {"gradient": "nvil"}),
    (DMVAE, {"memory": 5}),
    (DMVAE, {"kl_type": "relaxed"}),
]


def made(cls: type[Any], data: DatasetInfo = DIGITS, **changes: Any) -> Any:
    """Somewhat trained: no parameter is zero, and an object more is as likely as not."""
    model = cls(dataclasses.replace(cls.recipe(data).config, **changes), data)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        model.presence[-1].bias.fill_(0.3)
        model.prior_logit.fill_(-0.2)
    return model


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything in fp64, also what is computed in fp32 at least: rounding can then excuse nothing."""

    monkeypatch.setattr(Tensor, "float", Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Noise:
    return Noise(monkeypatch)


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {name: g for name, g in zip(names, found, strict=True) if g is not None}


def draws_per_step(model: Any) -> int:
    """Calls of `uniform` in each step, the last of which is that of z_pres."""
    return 2 if isinstance(model, DMVAE) else 1


# The oracle.


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", VARIANTS)
def test_loss_terms_and_every_gradient_are_the_straightforward_codes(name: str) -> None:
    """In fp64 both orders of operations agree to rounding: 1e-9 is a million times what it comes to."""
    cls, changes = VARIANTS[name]
    model = made(cls, **changes).train()
    plain = straightforward_air(model)
    x = torch.rand(4, 1, 50, 50)
    for step in (0.0, 12_345.0):  # the second time, the baseline's statistics have a past
        found = []
        for each in (model, plain):
            torch.manual_seed(5)
            loss, terms = each.loss(x, torch.tensor(step))
            values = {k: v.detach().clone() for k, v in terms.items()}
            found.append(({"loss": loss.detach(), **values}, gradients(each, loss)))
        (ours, our_gradients), (theirs, their_gradients) = found
        assert ours.keys() == theirs.keys()
        for term, expected in theirs.items():
            assert float(ours[term]) == pytest.approx(float(expected), rel=1e-9, abs=1e-9), term
        assert our_gradients.keys() == their_gradients.keys()
        for parameter, expected in their_gradients.items():
            error = float((our_gradients[parameter] - expected).norm() / (1e-12 + expected.norm()))
            assert error < 1e-9, (parameter, error)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", [n for n in VARIANTS if "information" not in n])
@pytest.mark.parametrize("prior", ["annealed", "uniform"])
def test_log_weights_are_the_straightforward_codes(name: str, prior: str) -> None:
    cls, changes = VARIANTS[name]
    model = made(cls, count_prior=prior, **changes)
    plain = straightforward_air(model)
    x = torch.rand(2, 1, 50, 50)
    with torch.no_grad():
        torch.manual_seed(5)
        ours = model.log_weights(x, 3)
        torch.manual_seed(5)
        theirs = plain.log_weights(
            x.repeat(3, 1, 1, 1), 1
        )  # particle by particle, the noise in one draw
    torch.testing.assert_close(ours.flatten(), theirs.flatten(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["AIR", "DAIR", "DM-VAE"])
def test_a_workers_fp32_is_the_straightforward_codes(name: str) -> None:
    """As trainings compute it. Gradients to 1e-3 by layer: ReLUs at their kink may go either way in fp32."""
    cls, changes = VARIANTS[name]
    model = made(cls, **changes).train()
    plain = straightforward_air(model)
    x, engine = torch.rand(4, 1, 50, 50), choose("cpu", "fp32", 1)
    torch.manual_seed(5)
    theirs = gradients(plain, plain.loss(x, torch.tensor(9_000.0))[0])
    with computing(engine):
        torch.manual_seed(5)
        placed = engine.place(model)
        loss = placed.loss(x.to(memory_format=torch.channels_last), torch.tensor(9_000.0))[0]
        ours = gradients(placed, loss)
    for layer in sorted({name.rpartition(".")[0] for name in theirs}):
        names = [name for name in theirs if name.rpartition(".")[0] == layer]
        expected = torch.cat([theirs[name].flatten() for name in names])
        error = torch.cat([ours[name].flatten() for name in names]) - expected
        assert float(error.norm() / expected.norm()) < 1e-3, layer


# Sizes and settings.


def test_air_has_the_measured_sizes_to_the_unit() -> None:
    concrete = AIRConfig()
    assert count(AIR(concrete, DIGITS)) == 1_811_069
    assert count(AIR(dataclasses.replace(concrete, embed="pixels"), DIGITS)) == 3_566_845
    assert count(AIR(dataclasses.replace(concrete, difference=True), DIGITS)) == 1_811_069
    grown = count(AIR(concrete, CHARACTERS)) - count(AIR(concrete, DIGITS))
    assert grown == (64**2 - 50**2) * 256  # the embedding's first layer, nothing else


def test_the_recipe_is_the_papers() -> None:
    for cls in (AIR, DMVAE):
        digits, characters = cls.recipe(DIGITS), cls.recipe(CHARACTERS)
        assert (digits.training.steps, characters.training.steps) == (271_800, 633_000)
        for recipe in (digits, characters):
            training = recipe.training
            assert (training.batch_size, training.optimizer, training.lr) == (64, "adam", 1e-4)
        assert (digits.config.scale_std, characters.config.scale_std) == (0.32, 0.7)
        assert digits.config.objects == 3
    assert AIR.recipe(DIGITS).config.gradient == "concrete"


@pytest.mark.parametrize("shape", [(3, 50, 50), (1, 50, 64)])
def test_images_it_cannot_read_are_refused_with_the_reason(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="square grey"):
        AIR.recipe(DatasetInfo("odd", shape, objects=2))


def test_nvils_baseline_learns_at_a_rate_of_its_own() -> None:
    model = made(AIR, gradient="nvil")
    others, baseline = model.parameter_groups()
    assert baseline["lr"] == 1e-3
    assert {id(p) for p in baseline["params"]} == {id(p) for p in model.baseline.parameters()}
    assert "lr" not in others
    assert len(made(AIR).parameter_groups()) == 1


# The count and its prior.


def test_the_odds_of_one_more_object_fall_as_published() -> None:
    model = made(AIR, DIGITS)
    x = torch.rand(1, 1, 50, 50)
    for step, odds in [(0, 1e4), (20_000, 1.0), (40_000, 1e-4), (45_000, 1e-5), (90_000, 1e-5)]:
        model.loss(x, torch.tensor(float(step)))
        assert float(model.prior_logit) == pytest.approx(math.log(odds), abs=1e-5)


def count_probabilities(model: Any, prior: str) -> list[float]:
    """p(n), n = 0 ... T: n decisions for one more, then one against."""
    more = model.prior_logits(prior).double().sigmoid().tolist()
    going = [math.prod(more[:n]) for n in range(len(more) + 1)]
    return [p * (1 - more[n] if n < len(more) else 1) for n, p in enumerate(going)]


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_the_count_prior_is_a_distribution(steps: int) -> None:
    model = made(AIR, TINY, objects=steps)
    model.prior_logit.fill_(math.log(0.25))
    annealed = count_probabilities(model, "annealed")
    assert sum(annealed) == pytest.approx(1)
    ratios = [b / a for a, b in itertools.pairwise(annealed[:-1])]
    assert ratios == pytest.approx([0.2] * (steps - 1))
    assert count_probabilities(model, "uniform") == pytest.approx([1 / (steps + 1)] * (steps + 1))


@pytest.mark.parametrize("prior", ["annealed", "uniform"])
def test_counts_are_drawn_from_that_prior(prior: str) -> None:
    model = made(AIR, TINY, count_prior=prior)
    with torch.no_grad():
        present = model.prior(8_000).present
    assert ((present == 0) | (present == 1)).all()
    assert (present.diff(dim=1) <= 0).all(), "an object after the end"
    share = torch.bincount(present.sum(1).long(), minlength=4) / 8_000
    expected = torch.tensor(count_probabilities(model, prior))
    assert float((share - expected).abs().max()) < 5 * math.sqrt(0.25 / 8_000)


def test_the_count_prior_of_an_evaluation_is_not_part_of_a_run() -> None:
    data = dataset("multimnist")
    plain, uniform = Run(model_spec("air"), data), Run(model_spec("air", count_prior="uniform"), data)  # fmt: skip
    assert plain.id == uniform.id
    assert plain.settings == uniform.settings
    assert (plain.evaluation, uniform.evaluation) == ({}, {"count_prior": "uniform"})


def test_training_does_not_look_at_the_count_prior_of_the_evaluation() -> None:
    x = torch.rand(2, 1, 8, 8)
    values = []
    for prior in ("annealed", "uniform"):
        torch.manual_seed(1)
        model = made(AIR, TINY, count_prior=prior)
        values.append(float(model.loss(x, torch.tensor(30_000.0))[0].detach()))
    assert values[0] == values[1]


# The likelihood and the bounds.


@pytest.mark.parametrize(("cls", "changes"), BOTH)
def test_a_blank_image_without_objects_costs_only_the_count_and_the_margin(
    cls: type[Any], changes: dict[str, Any]
) -> None:
    model = made(cls, **changes)
    with torch.no_grad():
        model.presence[-1].bias.fill_(-1e4)
        weights = model.log_weights(torch.zeros(2, 1, 50, 50), 2)
    log_p_none = -math.log1p(math.exp(-0.2))
    expected = log_p_none + 2_500 * math.log1p(-1e-4)
    assert weights.flatten().tolist() == pytest.approx([expected] * 4, rel=1e-4)


def soft(cls: type[Any], **changes: Any) -> Any:
    """8 x 8 pixels under wide noise, posteriors near the prior: its evidence can be had by draws from the prior."""
    few = {"what": 3} if cls is AIR else {"noise": 3, "slot": 8, "memory": 4}
    wide = {"likelihood": "normal", "sigma": 1.5, "glimpse": 6, "objects": 2}
    model = made(cls, TINY, **{**wide, **few, **changes})
    with torch.no_grad():
        net = model.appearance
        last = (net.decoder if cls is AIR else net.generator)[-1]
        last.bias.zero_()
        for layer in (model.where[-1], model.presence[-1], last):
            layer.weight.mul_(3)
        near = torch.cat([model.pose_mean + 0.2 * model.pose_std, model.pose_std.log() + 0.1])
        model.where[-1].bias.copy_(near)
    return model


@pytest.mark.parametrize("cls", [AIR, DMVAE])
@pytest.mark.parametrize("prior", ["annealed", "uniform"])
def test_importance_weights_and_draws_from_the_prior_give_one_evidence(
    cls: type[Any], prior: str
) -> None:
    """log p(x) belongs to the generative model: a density of q, a mask or a prior out of place would show."""
    model = soft(cls, count_prior=prior)
    x = torch.rand(2, 1, 8, 8)
    particles = 4_000
    with torch.no_grad():
        weights = model.log_weights(x, particles).double()
        canvas = model.decode(model.prior(particles))
        of_each = [model.log_likelihood(image.expand_as(canvas), canvas) for image in x]
        likelihood = torch.stack(of_each, 1).double()
    estimates, errors = [], []
    for each in (weights, likelihood):
        ratio = (each - each.max(0).values).exp()
        estimates.append(ratio.mean(0).log() + each.max(0).values)
        errors.append(ratio.std(0) / ratio.mean(0) / math.sqrt(particles))
    spread = (errors[0].square() + errors[1].square()).sqrt()
    assert float(spread.max()) < 0.05, "too few particles to tell"
    assert ((estimates[0] - estimates[1]).abs() < 4 * spread).all(), (estimates, spread)


@pytest.mark.parametrize("cls", [AIR, DMVAE])
def test_more_particles_tighten_the_bound(cls: type[Any]) -> None:
    model = soft(cls, sigma=0.5)
    x = torch.rand(1, 1, 8, 8).expand(300, -1, -1, -1)
    with torch.no_grad():
        bounds = [model.elbo(x), *(model.log_marginal(x, k) for k in (1, 5, 25))]
    error = float(bounds[0].std()) * math.sqrt(2 / 300)
    assert float((bounds[0].mean() - bounds[1].mean()).abs()) < 5 * error
    for looser, tighter in ((bounds[0], bounds[2]), (bounds[2], bounds[3])):
        error = float((looser.var() + tighter.var()).sqrt()) / math.sqrt(300)
        assert float(tighter.mean() - looser.mean()) > 2 * error


@pytest.mark.parametrize(("cls", "changes"), BOTH)
@torch.no_grad()
def test_nothing_but_the_likelihood_is_left_where_posteriors_are_priors(
    cls: type[Any], changes: dict[str, Any]
) -> None:
    model = made(cls, **changes)
    pose = torch.cat([model.pose_mean, model.pose_std.log()])
    for head, bias in ((model.presence[-1], model.prior_logit), (model.where[-1], pose)):
        silence(head, bias)
    net = model.appearance
    if isinstance(net, Memory):
        silence(net.h_m[-1], torch.tensor(0.1))  # all keys are one: every slot as likely
        for head in (net.epsilon_prior[-1], net.epsilon_posterior[-1]):
            silence(head, torch.linspace(-1, 1, 64))
    else:
        silence(net.encoder[-1], torch.tensor(0.0))
    x = torch.rand(3, 1, 50, 50)
    reading = model.read(x, "relaxed")
    for name, cost in model.costs(reading).items():
        assert float(cost.abs().max()) < 1e-4, name
    for name, term in model.log_weight_terms(x, 2).items():
        if name != "log_likelihood":
            assert float(term.abs().max()) < 1e-4, name


def silence(layer: Any, bias: Tensor) -> None:
    layer.weight.zero_()
    layer.bias.copy_(bias)


@torch.no_grad()
def test_log_weights_are_what_a_hand_computes(noise: Noise) -> None:
    """One object with every head constant and no noise; window of half the canvas, patch of 0.2 all over."""
    model = made(AIR)
    l, window = 0.7, (0.0, 0.0, 0.0, 0.0)
    silence(model.presence[-1], torch.tensor(l))
    silence(model.where[-1], torch.tensor([*window, *[-1.0] * 4]))
    net = model.appearance
    silence(net.encoder[-1], torch.tensor([0.5] * 50 + [-2.0] * 50))
    silence(net.decoder[-1], torch.tensor(math.log(0.25)))  # sigmoid: 0.2
    noise.normal_is = lambda call, like: torch.zeros_like(like)
    noise.presences([1, 0, 0], 1)
    terms = {k: float(v) for k, v in model.log_weight_terms(torch.zeros(1, 1, 50, 50), 1).items()}
    more, less = math.log(1 / (1 + math.exp(0.2))), math.log(1 / (1 + math.exp(-0.2)))
    yes, no = -math.log1p(math.exp(-l)), -math.log1p(math.exp(l))
    assert terms["presence"] == pytest.approx(more + less - yes - no, abs=1e-5)
    # at the mean of q and of p: log p - log q = Σ log(std of q / std of p)
    assert terms["where"] == pytest.approx(4 * -1 - 2 * math.log(0.32), abs=1e-5)
    assert terms["what"] == pytest.approx(50 * (-0.5 * 0.25 - 2), abs=1e-4)
    # pixel centres (2 i + 1) / 50 - 1 lie in the glimpse at 28 / 2 (1 + centre / s) - 1/2; a pixel more fades out
    at = [14 * (1 + ((2 * i + 1) / 50 - 1) / 0.5) - 0.5 for i in range(50)]
    line = [max(0.0, min(1.0, p + 1, 28 - p)) for p in at]
    black = sum(math.log1p(-min(max(0.2 * a * b, 1e-4), 1 - 1e-4)) for a in line for b in line)
    assert terms["log_likelihood"] == pytest.approx(black, rel=1e-5)


# Masks.


@pytest.mark.parametrize(("cls", "changes"), [(AIR, {}), (AIR, {"difference": True}), (DMVAE, {})])
@pytest.mark.parametrize("present", [0, 1, 2])
def test_what_is_drawn_after_the_last_object_changes_nothing(
    cls: type[Any], changes: dict[str, Any], present: int, noise: Noise
) -> None:
    """Nor does what is decided of its presence: neither loss nor log-weights nor the canvas move by a bit."""
    changes = changes | ({"information": 0.0} if cls is DMVAE else {})
    model = made(cls, gradient="nvil", **changes).eval()
    x = torch.rand(2, 1, 50, 50)
    before, before_uniform = noise.normal_is, noise.uniform_is

    def values(other: int, tail: int) -> list[Tensor]:
        each = draws_per_step(model)
        noise.presences([1] * present + [0] + [tail] * (2 - present), each)
        forced = noise.uniform_is
        noise.normal_is = lambda call, like: before(call + other * (call >= 2 * present), like)
        noise.uniform_is = lambda call, like: (
            before_uniform(call + other, like)
            if call >= each * present and (call + 1) % each
            else forced(call, like)
        )
        calls: tuple[Callable[[], Tensor], ...] = (
            lambda: model.loss(x, torch.tensor(30_000.0))[0],
            lambda: model.log_weights(x, 1),
            lambda: model.decode(model.infer(x)),
        )
        found = []
        for call in calls:
            noise.restart()
            with torch.no_grad():
                found.append(call())
        return found

    for ours, others in zip(values(0, 0), values(100, 1), strict=True):
        if ours.dim():
            assert torch.equal(ours, others)
        else:  # the baseline's regression sees only what was decided as well
            assert float(ours) == pytest.approx(float(others), rel=1e-6)


def test_what_is_drawn_of_an_object_changes_everything(noise: Noise) -> None:
    """The test above can fail."""
    model = made(AIR)
    noise.presences([1, 0, 0], 1)
    x, found = torch.rand(1, 1, 50, 50), []
    before = noise.normal_is
    for other in (0, 100):
        noise.restart()
        noise.normal_is = functools.partial(
            lambda more, call, like: before(call + more, like), other
        )
        found.append(float(model.log_weights(x, 1).detach()))
    assert found[0] != found[1]


# Where it looks, and what it says of it.


@torch.no_grad()
def looking_at(model: Any, scale: tuple[float, float], shift: tuple[float, float]) -> None:  # fmt: skip
    """Every step looks at this window, and means it; two objects are there."""
    pose = [*(math.log(s / (1 - s)) for s in scale), *(math.atanh(t) for t in shift)]
    silence(model.where[-1], torch.tensor([*pose, *[-6.0] * 4]))


def test_windows_are_in_pixels_and_boxes_are_what_is_painted() -> None:
    model = made(AIR)
    looking_at(model, (0.4, 0.2), (0.5, -0.5))
    with torch.no_grad():
        net = model.appearance
        silence(net.decoder[-1], torch.tensor(2.0))
        patch = torch.full((28, 28), -20.0)
        patch[14:, :] = 3.0  # the lower half is bright
        net.decoder[-1].bias.copy_(patch.flatten())
        seen = model.attend(torch.rand(2, 1, 50, 50), sample=False)
        found = model.locate(torch.rand(2, 1, 50, 50))
    # centre x 37.5, half 10; centre y 12.5, half 5
    torch.testing.assert_close(seen.window, torch.tensor([27.5, 7.5, 47.5, 17.5]).expand(2, 3, 4))
    centre = torch.tensor([27.5, 12.5, 47.5, 17.5]).expand(2, 3, 4)
    assert float((found.box - centre).abs().max()) <= 1.0
    assert found.what.shape == (2, 3, 50)
    assert (found.presence.diff(dim=1) <= 0).all()


@pytest.mark.parametrize(
    ("cls", "changes", "slots", "what"), [(AIR, {}, 0, 50), (DMVAE, {"memory": 4}, 4, 96)]
)
@pytest.mark.parametrize("sample", [True, False])
@torch.no_grad()
def test_what_each_step_paints_adds_up_to_the_image(
    cls: type[Any], changes: dict[str, Any], slots: int, what: int, sample: bool
) -> None:
    model = made(cls, **changes)
    x = torch.rand(6, 1, 50, 50)
    torch.manual_seed(2)
    seen = model.attend(x, sample)
    assert seen.layer.shape == (6, 3, 1, 50, 50)
    assert seen.what.shape == (6, 3, what)
    assert seen.slot.shape == (6, 3, slots)
    if slots:
        torch.testing.assert_close(seen.slot.sum(-1), torch.ones(6, 3))
    torch.manual_seed(2)
    scene = model.read(x, "sample" if sample else "mode").scene
    torch.testing.assert_close(seen.layer.sum(1), model.decode(scene), rtol=0, atol=1e-5)
    assert torch.equal(seen.present, scene.present)
    assert 0 < float(seen.present.mean()) <= 1
    assert (seen.layer[seen.present == 0] == 0).all()
    assert (seen.layer[seen.present == 1].amax((-3, -2, -1)) > 0).all()


@torch.no_grad()
def test_the_mode_is_no_draw_and_a_sample_is() -> None:
    model = made(DMVAE)
    x = torch.rand(2, 1, 50, 50)
    assert torch.equal(model.attend(x, False).layer, model.attend(x, False).layer)
    assert not torch.equal(model.attend(x).window, model.attend(x).window)
    assert torch.equal(model.locate(x).box, model.locate(x).box)


def test_a_probability_is_that_of_one_more_given_those_before() -> None:
    model = made(AIR)
    with torch.no_grad():
        silence(model.presence[-1], torch.tensor(math.log(4.0)))
        seen = model.attend(torch.rand(500, 1, 50, 50))
        located = model.locate(torch.rand(1, 1, 50, 50))
    torch.testing.assert_close(seen.probability, torch.full((500, 3), 0.8))
    assert located.presence[0].tolist() == pytest.approx([0.8, 0.64, 0.512])
    expected = torch.tensor([0.8, 0.64, 0.512])
    assert float((seen.present.mean(0) - expected).abs().max()) < 5 * 0.5 / math.sqrt(500)


def test_extents_are_tight_and_exclusive() -> None:
    painted = torch.zeros(3, 1, 10, 12)
    painted[0, 0, 2:5, 7:11] = 0.5
    painted[0, 0, 0, 0] = 0.04  # below a tenth of the brightest
    painted[1, 0, 9, 11] = 1.0
    found = extent(painted).tolist()
    assert found == [[7, 2, 11, 5], [11, 9, 12, 10], [0, 0, 0, 0]]


def test_what_is_pasted_is_what_would_be_cropped() -> None:
    """A smooth patch survives paste and crop through the model's own windows."""
    from reprise.nn.spatial_transformer import crop, paste

    line = torch.linspace(0, math.pi, 28).sin()
    patch = torch.outer(line, line)[None, None]
    whole = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[0.0, 0.0]]])
    again = crop(paste(patch, whole[0][:, 0], whole[1][:, 0], 50), *whole, 28)[:, 0]
    assert float((again - patch).abs().max()) < 0.04
    for seed in range(5):
        torch.manual_seed(seed)
        scale, shift = 0.5 + 0.3 * torch.rand(1, 1, 2), 0.2 * torch.randn(1, 1, 2).clamp(-1, 1)
        shift = shift.clamp(scale - 1, 1 - scale)  # all of it on the canvas
        again = crop(paste(patch, scale[:, 0], shift[:, 0], 50), scale, shift, 28)[:, 0]
        inner = (again - patch)[..., 2:-2, 2:-2]
        assert float(inner.abs().max()) < 0.06


# Relaxation and its like.


@pytest.mark.parametrize(("cls", "changes"), BOTH)
def test_the_relaxed_elbo_is_the_objective_of_training(
    cls: type[Any], changes: dict[str, Any]
) -> None:
    model, x = made(cls, **changes), torch.rand(3, 1, 50, 50)
    with torch.no_grad():
        torch.manual_seed(4)
        _, terms = model.loss(x, torch.tensor(30_000.0))
        torch.manual_seed(4)
        relaxed = model.relaxed_elbo(x)
    assert relaxed.shape == (3,)
    assert float(relaxed.mean()) == pytest.approx(float(terms["elbo"]), rel=1e-6)


@pytest.mark.parametrize(("cls", "changes"), BOTH)
@torch.no_grad()
def test_the_terms_of_the_log_weights_add_up(cls: type[Any], changes: dict[str, Any]) -> None:
    model, x = made(cls, **changes), torch.rand(3, 1, 50, 50)
    torch.manual_seed(4)
    terms = model.log_weight_terms(x, 4)
    torch.manual_seed(4)
    weights = model.log_weights(x, 4)
    latents = {"presence", "where", "what"} if cls is AIR else {"presence", "where", "type", "epsilon"}  # fmt: skip
    assert terms.keys() == {"log_likelihood", *latents}
    torch.testing.assert_close(sum(terms.values()), weights)


def test_dair_looks_at_what_is_left_and_air_at_the_image() -> None:
    """A second digit beside the first: DAIR's second look sees it alone."""
    for difference in (False, True):
        model = made(AIR, difference=difference)
        x = torch.rand(2, 1, 50, 50)
        torch.manual_seed(3)
        reading = model.read(x, "sample")
        embedded = reading.seen[..., :128]
        assert torch.equal(embedded[:, 0], model._embed(x.flatten(1)))
        first = reading.scene._replace(present=reading.alive * torch.tensor([1.0, 0.0, 0.0]))
        left = x - model.decode(first) if difference else x
        torch.testing.assert_close(embedded[:, 1], model._embed(left.flatten(1)), rtol=1e-4, atol=1e-5)  # fmt: skip


def test_without_a_state_each_look_depends_on_what_is_left_alone() -> None:
    """Two images of which the same is left are read alike, whatever was read of them before."""
    model = made(AIR, difference=True, recurrence="none")
    assert model.lstm is None
    reading = model.read(torch.rand(4, 1, 50, 50), "sample")
    hidden = model.memoryless(reading.seen[..., :128])
    torch.testing.assert_close(model.presence(hidden)[..., 0], reading.logit)
    with pytest.raises(UsageError, match="without a state, every step"):
        made(AIR, recurrence="none")


def test_a_scene_from_the_prior_has_the_priors_poses() -> None:
    with torch.no_grad():
        pose = made(AIR, TINY).prior(4_000).pose
    assert pose.std((0, 1)).tolist() == pytest.approx([0.32, 0.32, 1, 1], rel=0.05)
    assert pose.mean((0, 1)).tolist() == pytest.approx([0.0] * 4, abs=0.05)


def test_decoding_adds_what_is_present() -> None:
    model = made(AIR)
    with torch.no_grad():
        scene = model.prior(2)
        alone = [
            model.decode(scene._replace(present=F.one_hot(torch.tensor([t, t]), 3).float()))
            for t in range(3)
        ]
        together = model.decode(scene._replace(present=torch.ones(2, 3)))
    torch.testing.assert_close(together, torch.stack(alone).sum(0), rtol=1e-5, atol=1e-5)
