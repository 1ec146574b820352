"""DooD, its ablations and AIRs against the straightforward code, and what all that draw part by part promise."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as D

from reprise.baselines.difference_air import DifferenceAIR
from reprise.core.dataset import DatasetInfo
from reprise.core.errors import UsageError
from reprise.core.model import Completes, Draws, Itemizes, Matches, Varies
from reprise.core.run import Run
from reprise.core.spec import dataset
from reprise.core.spec import model as model_spec
from reprise.models.dood import DooD
from reprise.nn import drawing, nvil
from reprise.nn.active import Active
from reprise.nn.drawing import EXEMPLAR, REFIT, Parts
from reprise.nn.pose import inverse_map, warp
from reprise.training.engine import choose, computing

from .noise import Answer, Noise
from .straightforward_dood import as_ours, straightforward_dood
from .test_attend import double, gradients, noise
from .test_gnm import count

__all__ = ["double", "noise"]  # fixtures

PUBLISHED = DatasetInfo("mnist", (1, 50, 50), objects=1)
OMNIGLOT = DatasetInfo("omniglot", (1, 50, 50), objects=1)
SMALL = DatasetInfo("small", (1, 12, 12), objects=1)
FEW = {"parts": 3, "features": 8}

VARIANTS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "DooD": (DooD, {}),
    "DooD, points": (DooD, {"affine_on": "points"}),
    "DooD, paper": (DooD, {"fidelity": "paper", "affine_on": "points"}),
    "DooD, paper, image": (DooD, {"fidelity": "paper"}),
    "-EG": (DooD, {"guided": False}),
    "-EG, points": (DooD, {"guided": False, "affine_on": "points"}),
    "-EG, paper": (DooD, {"guided": False, "fidelity": "paper", "affine_on": "points"}),
    "-SP": (DooD, {"prior": "independent"}),
    "-SP, points": (DooD, {"prior": "independent", "affine_on": "points"}),
    "-SP, paper": (DooD, {"prior": "independent", "fidelity": "paper"}),
    "-dR": (DooD, {"renderer": "mlp"}),
    "-dR, normal": (DooD, {"renderer": "mlp", "likelihood": "normal"}),
    "-dR, paper": (DooD, {"renderer": "mlp", "fidelity": "paper"}),
    "-EG, -SP, -dR": (DooD, {"guided": False, "prior": "independent", "renderer": "mlp"}),
    "Difference-AIR": (DifferenceAIR, {}),
    "Difference-AIR, normal": (DifferenceAIR, {"likelihood": "normal"}),
    "AIR": (DifferenceAIR, {"difference": False}),
}
THREE: list[tuple[type[Any], dict[str, Any]]] = [
    (DooD, {}),
    (DooD, {"fidelity": "paper", "affine_on": "points"}),
    (DifferenceAIR, {}),
]
NAMES = ["DooD", "DooD, paper", "Difference-AIR"]
every = pytest.mark.parametrize("name", VARIANTS)
three = pytest.mark.parametrize(("cls", "changes"), THREE, ids=NAMES)


def made(cls: type[Any], data: DatasetInfo = SMALL, **changes: Any) -> Any:
    """Somewhat trained: no weight is zero, and a part more is as likely as not."""
    few = FEW | ({"mixtures": 3} if cls is DooD else {})
    model = cls(dataclasses.replace(cls.recipe(data).config, **{**few, **changes}), data)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.04 * torch.randn_like(parameter))
        if cls is DooD:
            model.q_stop[-1].bias.fill_(0.4)
        else:
            model.where_head[-1].bias[0] = 0.4
            model.where_head[-1].bias[3] = 0.3
    return model


def variant(name: str, **changes: Any) -> Any:
    cls, its = VARIANTS[name]
    return made(cls, **{**its, **changes})


def undropped(model: Any) -> Any:
    """In training, but for dropout, which both draw in their own way."""
    model.train()
    model.image.eval()
    if model.residual is not None:
        model.residual.eval()
    return model


def ink_of(batch: int, side: int = 12) -> Tensor:
    """Images with ink in the middle: (B, 1, S, S)."""
    x = torch.zeros(batch, 1, side, side)
    inner = slice(side // 4, -(side // 4))
    x[:, :, inner, inner] = torch.rand_like(x[:, :, inner, inner])
    return x


# The oracle.


@pytest.mark.usefixtures("double")
@every
def test_loss_terms_and_every_gradient_are_the_straightforward_codes(name: str) -> None:
    """In fp64. 1e-6: the published code keeps probabilities 1e-9 away from 0 and 1, ours are logits."""
    model = undropped(variant(name))
    plain = straightforward_dood(model)
    x = ink_of(5)
    parts = 0.0
    for _ in range(2):  # the second time, the signal's statistics have a past
        found = []
        for each in (model, plain):
            torch.manual_seed(6)
            loss, terms = each.loss(x, torch.tensor(0.0))
            values = {k: v.detach().clone() for k, v in terms.items()}
            found.append(({"loss": loss.detach(), **values}, gradients(each, loss)))
        (ours, our_gradients), (theirs, their_gradients) = found
        parts += float(ours["parts"])
        assert ours.keys() == theirs.keys()
        for term, expected in theirs.items():
            assert float(ours[term]) == pytest.approx(float(expected), rel=1e-6, abs=1e-8), term
        assert our_gradients.keys() == their_gradients.keys()
        for parameter, expected in their_gradients.items():
            wanted = as_ours(parameter, expected)
            error = float((our_gradients[parameter] - wanted).norm() / (1e-9 + wanted.norm()))
            assert error < 1e-6, (parameter, error)
    assert 0 < parts / 2 < FEW["parts"], "no example of a drawing that stops"


@pytest.mark.usefixtures("double")
@every
def test_log_weights_are_the_straightforward_codes(name: str) -> None:
    model = variant(name, reads=4).eval()
    plain = straightforward_dood(model)
    x = ink_of(2)
    with torch.no_grad():
        torch.manual_seed(5)
        ours = model.log_weights(x, 3)
        torch.manual_seed(5)
        theirs = plain.log_weights(x.repeat(3, 1, 1, 1), 1)  # one by one, the noise in one draw
    torch.testing.assert_close(ours.flatten(), theirs.flatten(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["DooD", "DooD, points", "-EG", "Difference-AIR", "AIR"])
def test_a_workers_fp32_is_the_straightforward_codes(name: str) -> None:
    """As trainings and evaluations compute it."""
    model = undropped(variant(name))
    plain = straightforward_dood(model)
    x, engine = ink_of(4), choose("cpu", "fp32", 1)
    torch.manual_seed(5)
    theirs = gradients(plain, plain.loss(x, torch.tensor(0.0))[0])
    torch.manual_seed(6)
    their_weights = plain.eval().log_weights(x, 1)
    with computing(engine):
        torch.manual_seed(5)
        placed = engine.place(model)
        x = x.to(memory_format=torch.channels_last)
        ours = gradients(placed, placed.loss(x, torch.tensor(0.0))[0])
        torch.manual_seed(6)
        our_weights = placed.eval().log_weights(x, 1)
    torch.testing.assert_close(our_weights, their_weights, rtol=1e-4, atol=1e-2)
    for layer in sorted({name.rpartition(".")[0] for name in theirs}):
        names = [name for name in theirs if name.rpartition(".")[0] == layer]
        expected = torch.cat([as_ours(name, theirs[name]).flatten() for name in names])
        error = torch.cat([ours[name].flatten() for name in names]) - expected
        assert float(error.norm() / (1e-6 + expected.norm())) < 2e-3, layer


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", ["DooD", "-EG", "Difference-AIR"])
def test_dropout_acts_where_the_straightforward_code_has_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both with one mask that depends on the place in the map alone: torch's dropout sees (B, 16, S, S)."""
    model = variant(name).train()
    plain = straightforward_dood(model)
    side = SMALL.shape[1] - 4
    keep = 2.0 * (torch.rand(16, side, side) < 0.5)

    def dropped(maps: Tensor, p: float, training: bool) -> Tensor:
        assert p == 0.5
        return maps * keep if training else maps

    flat = keep.permute(1, 2, 0).flatten()
    monkeypatch.setattr(drawing, "half", lambda maps, training: maps * flat if training else maps)
    monkeypatch.setattr("torch.nn.functional.dropout", dropped)
    x, found = ink_of(4), []
    for each in (model, plain):
        torch.manual_seed(5)
        loss, _ = each.loss(x, torch.tensor(0.0))
        first = [g for key, g in gradients(each, loss).items() if key.endswith("first.weight")]
        found.append((float(loss.detach()), first))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-6, atol=1e-6)


@three
def test_the_features_of_each_step_have_a_dropout_of_their_own(
    cls: type[Any], changes: dict[str, Any]
) -> None:
    model = made(cls, **changes).train()
    x = ink_of(2)
    at_a_step = model.targets(x, 1)
    one, another = (at_a_step(Active.all(x)) for _ in range(2))
    assert one.shape == (2, 8)
    assert (one != another).any()
    model.eval()
    at_a_step = model.targets(x, 2)
    one, another = (at_a_step(Active.all(x)) for _ in range(2))
    assert one.shape == (4, 8)
    assert (one == another).all()
    assert (one == torch.cat([model.image(x)] * 2)).all()


# Sizes and settings.


SIZES: list[tuple[type[Any], dict[str, Any], int]] = [
    (DooD, {}, 21_138_668),
    (DooD, {"affine_on": "points"}, 21_138_668),
    (DooD, {"guided": False}, 11_485_964),
    (DooD, {"prior": "independent"}, 20_265_899),
    (DooD, {"renderer": "mlp"}, 21_849_776),
    (DifferenceAIR, {}, 20_055_142),
    (DifferenceAIR, {"difference": False}, 11_320_710),
]


@pytest.mark.parametrize(("cls", "changes", "size"), SIZES)
def test_it_has_the_measured_sizes_to_the_unit(
    cls: type[Any], changes: dict[str, Any], size: int
) -> None:
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(DooD, "_start", lambda self: None)
        model = cls(dataclasses.replace(cls.recipe(PUBLISHED).config, **changes), PUBLISHED)
    assert count(model) == size


def test_its_parts_have_the_measured_sizes_to_the_unit() -> None:
    model = DooD(DooD.recipe(PUBLISHED).config, PUBLISHED)
    sizes = {name: count(part) for name, part in model.named_children()}
    thousands = {
        "layout_rnn": 398, "stroke_rnn": 402, "q_layout": 265, "q_stop": 132, "q_stroke": 269,
        "global_slope": 263, "local_pen": 264, "p_stop": 132, "p_layout": 234, "p_stroke": 507,
        "baseline_rnn": 603, "baseline": 198,
    }  # fmt: skip
    assert {name: round(sizes[name] / 1e3) for name in thousands} == thousands
    assert sizes["image"] == sizes["residual"] == 8_734_432
    assert model.scale_logit.numel() == 2_500


def test_the_recipe_is_the_codes() -> None:
    for cls, beta in ((DooD, 4.0), (DifferenceAIR, 5.0)):
        for data in (PUBLISHED, OMNIGLOT):
            config, training = cls.recipe(data).config, cls.recipe(data).training
            assert (training.steps, training.batch_size, training.optimizer) == (
                500_000,
                64,
                "adam",
            )
            assert (training.lr, training.clip_norm, config.baseline_lr) == (1e-4, None, 1e-3)
            assert (config.parts, config.beta, config.signal_decay) == (6, beta, 0.8)
            assert (config.scale_least, config.scale_most, config.scale_lr) == (0.01, 1.0, None)
    kinds = [cls.recipe(OMNIGLOT).config.likelihood for cls in (DooD, DifferenceAIR)]
    assert kinds == ["laplace", "normal"]
    assert DifferenceAIR.recipe(PUBLISHED).config.likelihood == "laplace"


@pytest.mark.parametrize("cls", [DooD, DifferenceAIR])
@pytest.mark.parametrize("shape", [(3, 50, 50), (1, 50, 64)])
def test_images_it_cannot_draw_are_refused_with_the_reason(
    cls: type[Any], shape: tuple[int, int, int]
) -> None:
    data = DatasetInfo("odd", shape, objects=1)
    with pytest.raises(UsageError, match="square grey"):
        cls.recipe(data)
    with pytest.raises(UsageError, match="square grey"):
        cls(cls.recipe(PUBLISHED).config, data)


@three
def test_the_baseline_and_the_pixels_scale_learn_at_rates_of_their_own(
    cls: type[Any], changes: dict[str, Any]
) -> None:
    model = made(cls, **changes)
    others, scale, baseline = model.parameter_groups()
    nets = [*model.baseline_rnn.parameters(), *model.baseline.parameters()]
    assert baseline["lr"] == 1e-3
    assert {id(p) for p in baseline["params"]} == {id(p) for p in nets}
    assert "lr" not in others
    assert "lr" not in scale
    model = made(cls, scale_lr=0.5, **changes)
    assert model.parameter_groups()[1] == {"params": [model.scale_logit], "lr": 0.5}


def test_they_have_all_the_capabilities() -> None:
    for capability in (Draws, Varies, Matches, Itemizes):
        assert issubclass(DooD, capability)
        assert issubclass(DifferenceAIR, capability)
    assert issubclass(DooD, Completes)
    assert not issubclass(DifferenceAIR, Completes)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("dood", {"rendering": "median"}),
        ("dood", {"reads": 10}),
        ("difference_air", {"refit": "shape"}),
    ],
)
def test_what_only_an_evaluation_looks_at_is_not_part_of_a_run(
    name: str, option: dict[str, Any]
) -> None:
    data = dataset("multimnist")
    plain, other = Run(model_spec(name), data), Run(model_spec(name, **option), data)
    assert plain.id == other.id
    assert other.evaluation == option


# Stopping.


@every
def test_a_drawing_that_has_stopped_stays_so(name: str) -> None:
    model = variant(name, parts=6).eval()
    with torch.no_grad():
        reading = model.read(ink_of(40))
        made_up = model.prior(40).present
    present, before = reading.parts.present, reading.before
    for each in (present, made_up):
        assert ((each == 0) | (each == 1)).all()
        assert (each.diff(dim=1) <= 0).all()
    assert 0 < float(present.mean()) < 1
    assert torch.equal(before, torch.cat([torch.ones(40, 1), present[:, :-1]], 1))


def shifted(noise_is: Answer, shift: float) -> Answer:
    """Other noise from the second step on."""
    return lambda call, like: noise_is(call, like) + shift * (call >= 2)


@pytest.mark.parametrize("name", [n for n in VARIANTS if not n.startswith("-EG") or "paper" in n])
def test_nothing_after_the_stop_changes_anything(name: str, noise: Noise) -> None:
    """One part, then other noise for all that would come: the same canvas, the same costs, the same log-weights.

    Not so for DooD-EG as coded, whose pen is that of the last step, taken or not.
    """
    model = variant(name, parts=4).eval()
    x, found = ink_of(2), []
    noise.presences([1, 0, 0, 0], 1)
    first = noise.normal_is
    for shift in (0.0, 0.7):
        noise.restart()
        noise.normal_is = shifted(first, shift)
        with torch.no_grad():
            reading = model.read(x)
            noise.restart()
            weights = model.log_weights(x, 1)
        found.append((reading.canvas, weights, *model.costs(reading).values()))
        assert reading.parts.present.tolist() == [[1, 0, 0, 0]] * 2
        assert (reading.canvas[:, 1:] == reading.canvas[:, :1]).all()
    for ours, others in zip(*found, strict=True):
        torch.testing.assert_close(ours, others, rtol=1e-5, atol=1e-5)


@every
def test_what_is_read_is_decoded_to_its_last_canvas(name: str) -> None:
    model = variant(name).eval()
    x = ink_of(3)
    with torch.no_grad():
        torch.manual_seed(1)
        image = model.decode(model.infer(x))
        torch.manual_seed(1)
        reading = model.read(x)
        torch.manual_seed(1)
        drawing_ = model.draw(x)
    torch.testing.assert_close(image, reading.canvas[:, -1])
    torch.testing.assert_close(image.clamp(0, 1), drawing_.canvas[:, -1])
    assert drawing_.where.shape == (3, 3, 4)
    assert drawing_.what.shape == (3, 3, 10)


@three
def test_it_may_read_more_at_test_time_than_in_training(
    cls: type[Any], changes: dict[str, Any]
) -> None:
    model = made(cls, reads=10, **changes)
    x = ink_of(2)
    assert model.train().read(x).parts.present.shape == (2, 3)
    with torch.no_grad():  # dropout left on, as some measure
        assert model.read(x).parts.present.shape == (2, 10)
    assert model.eval().read(x).parts.present.shape == (2, 10)
    assert model.prior(2).present.shape == (2, 10)
    plain = made(cls, **changes).eval()
    assert plain.read(x).parts.present.shape == (2, 3)


# The objective.


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        (DooD, {"beta": 1.0}),
        (DooD, {"beta": 1.0, "guided": False, "affine_on": "points"}),
        (DooD, {"beta": 3.0, "fidelity": "paper", "affine_on": "points"}),
        (DifferenceAIR, {"beta": 1.0}),
        (DifferenceAIR, {"beta": 1.0, "difference": False}),
    ],
)
def test_the_expected_gradient_is_the_exact_one(
    cls: type[Any], changes: dict[str, Any], baseline: bool, noise: Noise
) -> None:
    """All other noise fixed: Σ_n q(n) objective(n), differentiated, against Σ_n q(n) (gradient of the loss given n).

    Objectives and q(n) are the straightforward code's. Signals are not standardised: statistics stand still. As coded
    this holds for β = 1 alone, else the signal is another one on purpose; as the paper says, for every β.
    """
    model = made(cls, parts=2, **changes).eval()
    if not baseline:
        torch.nn.init.zeros_(model.baseline[-1].weight)
        torch.nn.init.zeros_(model.baseline[-1].bias)
    plain = straightforward_dood(model)
    apart = ("baseline.", "baseline_rnn.", "image.vector.0", "residual.vector.0")
    names = [name for name, _ in model.named_parameters() if not name.startswith(apart)]
    x, step = ink_of(1), torch.tensor(0.0)
    of_model, of_plain = dict(model.named_parameters()), dict(plain.named_parameters())
    ours = [torch.zeros_like(of_model[name]) for name in names]
    theirs = [torch.zeros_like(p) for p in ours]
    total = 0.0
    for n in range(3):
        noise.presences([1] * n + [0] * (2 - n), 1)
        noise.restart()
        loss, _ = model.loss(x, step)
        noise.restart()
        steps, canvas = plain.walk(x)
        assert [float(s.alive.squeeze()) for s in steps] == [1.0] * n + [0.0] * (2 - n)
        beta = plain.beta_of_stop()
        objective = plain.likelihood(x, canvas).squeeze()
        for each in steps:
            for name in each.log_q:
                weight = beta if name == "stop" else 1.0
                objective = objective - weight * each.cost(name).squeeze()
        log_probability = sum(((s.before * s.log_q["stop"]).squeeze() for s in steps), torch.zeros(()))  # fmt: skip
        probability = log_probability.exp()
        weight = float(probability.detach())
        total += weight
        for sums, value, share, parameters in (
            (ours, loss, weight, of_model),
            (theirs, -probability * objective, 1.0, of_plain),
        ):
            chosen = [parameters[name] for name in names]
            for so_far, g in zip(sums, torch.autograd.grad(value, chosen, allow_unused=True), strict=True):  # fmt: skip
                if g is not None:
                    so_far.add_(g, alpha=share)
    assert total == pytest.approx(1, abs=1e-6)
    stop = names.index("q_stop.4.bias" if cls is DooD else "where_head.4.bias")
    assert float(theirs[stop].norm()) > 1e-3
    for name, found, expected in zip(names, ours, theirs, strict=True):
        error = float((found - expected).norm() / (1e-4 + expected.norm()))
        assert error < 1e-5, (name, float(expected.norm()))


@pytest.mark.usefixtures("double")
def test_the_papers_beta_weighs_the_stop_variables_alone(noise: Noise) -> None:
    x, found = ink_of(3), {}
    for beta in (1.0, 3.0):
        torch.manual_seed(3)
        model = undropped(made(DooD, fidelity="paper", beta=beta))
        noise.restart()
        with pytest.MonkeyPatch.context() as patch:  # what NVIL adds has a value, but no meaning
            patch.setattr(nvil, "surrogate", lambda q, *_: torch.zeros(len(q)))
            loss, terms = model.loss(x, torch.tensor(0.0))
        found[beta] = {k: float(v.detach()) for k, v in terms.items()} | {"loss": float(loss.detach())}  # fmt: skip
    one, three_ = found[1.0], found[3.0]
    for each, beta in ((one, 1.0), (three_, 3.0)):
        kl = each["kl_stop"] + each["kl_where"] + each["kl_what"]
        assert each["elbo"] == pytest.approx(each["log_likelihood"] - kl)
        rest = each["loss"] + each["elbo"] - each["baseline"]
        assert rest == pytest.approx((beta - 1) * each["kl_stop"])
    assert one["elbo"] == three_["elbo"]


def soft(cls: type[Any], **changes: Any) -> Any:
    """8 x 8 pixels under wide noise, posteriors near the prior: its evidence can be had by draws from the prior."""
    tiny = DatasetInfo("tiny", (1, 8, 8), objects=1)
    wide = {"parts": 2, "scale_least": 2.0, "scale_most": 4.0}
    few = {"what": 2} if cls is DifferenceAIR else {"mixtures": 2}
    model = made(cls, tiny, **{**wide, **few, **changes}).eval()
    with torch.no_grad():
        if cls is DifferenceAIR:
            model.decoder[-1].bias.fill_(1.5)
            bias = torch.tensor([0.3, 0, 0, 0.2, 0.1, -1.4, -1.4, -1.4, -0.6])
            model.where_head[-1].bias.copy_(bias)
            model.what_head[-1].bias.copy_(torch.tensor([0.1, 0.1, 0.6, 0.6]))
            return model
        model.p_stop[-1].bias.fill_(0.2)
        model.q_layout[-1].bias.copy_(torch.tensor([0.1, 0, 0.5, 0, -1.3, -1.3, -1.8, -0.8, 0.1]))
        layouts = model.p_layout[-1].bias.view(2, 10)
        layouts[:, 0] = 0.0
        layouts[:, 1:] = torch.tensor([0, 0, 0.4, 0, -1.4, -1.4, -1.9, -0.9, 0])
        layouts[1, 1] = 0.1
        model.q_stroke[-1].bias.copy_(torch.tensor([0.1, 0, -1.9, -1.9, 0.1]).repeat(5))
        strokes = model.p_stroke[-1].bias.view(5, 2, 6)
        strokes[..., 0] = 0.0
        strokes[..., 1:] = torch.tensor([0, 0, -2, -2, 0])
    return model


WITHOUT_A_LEAK: list[tuple[type[Any], dict[str, Any]]] = [
    (DooD, {"rendering": "median"}),
    (DooD, {"fidelity": "paper", "affine_on": "points"}),
    (DifferenceAIR, {}),
    (DifferenceAIR, {"difference": False}),
]


@pytest.mark.parametrize(("cls", "changes"), WITHOUT_A_LEAK)
def test_importance_weights_and_draws_from_the_prior_give_one_evidence(
    cls: type[Any], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """log p(x) belongs to the generative model: a density of q, a mask or a prior out of place would show.

    Where draws from the prior are tempered, here they are not; a pen that is told by the image has no evidence at all.
    """
    if cls is DooD:
        monkeypatch.setattr(DooD, "_tempered", lambda self, p, of: p)
    model = soft(cls, **changes)
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
    assert float(spread.max()) < 0.08, f"too few particles to tell: {spread}"
    assert ((estimates[0] - estimates[1]).abs() < 4 * spread).all(), (estimates, spread)


@three
def test_more_particles_tighten_the_bound(cls: type[Any], changes: dict[str, Any]) -> None:
    model = soft(cls, **{**changes, "scale_least": 0.2, "scale_most": 0.6})
    x = torch.rand(1, 1, 8, 8).expand(200, -1, -1, -1)
    with torch.no_grad():
        bounds = [model.elbo(x), *(model.log_marginal(x, k) for k in (1, 5, 25))]
    error = float(bounds[0].std()) * math.sqrt(2 / 200)
    assert float((bounds[0].mean() - bounds[1].mean()).abs()) < 5 * error
    for looser, tighter in ((bounds[0], bounds[2]), (bounds[2], bounds[3])):
        error = float((looser.var() + tighter.var()).sqrt()) / math.sqrt(200)
        assert float(tighter.mean() - looser.mean()) > 2 * error


@three
def test_the_terms_of_the_weights_add_up(cls: type[Any], changes: dict[str, Any]) -> None:
    model, x = made(cls, **changes).eval(), ink_of(2)
    with torch.no_grad():
        torch.manual_seed(0)
        terms = model.log_weight_terms(x, 3)
        torch.manual_seed(0)
        weights = model.log_weights(x, 3)
    assert set(terms) == {"log_likelihood", "stop", "where", "what"}
    torch.testing.assert_close(sum(terms.values()), weights)


@three
def test_no_image_is_likelier_than_the_least_scale_allows(
    cls: type[Any], changes: dict[str, Any]
) -> None:
    """2,500 ln(1 / 0.02) = 9,780 nats for 50 x 50 pixels; the scale starts at 0.505."""
    model = made(cls, **changes)
    with torch.no_grad():
        torch.nn.init.zeros_(model.scale_logit)
        assert model.scale().unique().tolist() == pytest.approx([0.505])
        model.scale_logit.fill_(100.0)
        assert float(model.scale().max()) <= 1
        model.scale_logit.fill_(-100.0)
        x = ink_of(2)
        found = model.log_likelihood(x, x)
    assert (found / 144).tolist() == pytest.approx([math.log(1 / 0.02)] * 2, rel=1e-5)
    assert 2_500 * math.log(1 / 0.02) == pytest.approx(9_780, abs=0.1)


@three
def test_images_from_the_prior_lie_between_black_and_white(
    cls: type[Any], changes: dict[str, Any]
) -> None:
    model = made(cls, **changes).eval()
    with torch.no_grad():
        images = model.sample(16)
    assert images.shape == (16, 1, 12, 12)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert (images.flatten(1).amax(1) > 0.1).any()


# Other exemplars, and whether two images are exemplars of one thing.


def literal_map(raw: Tensor, limits: Any, degrees: bool) -> Tensor:
    """(7,) -> (2, 3), number by number."""

    def bound(r: float, by: float) -> float:
        return by * math.tanh(r / 2)  # = -by + 2 by sigmoid(r)

    r = raw.tolist()
    tx, ty = bound(r[0], limits.shift), bound(r[1], limits.shift)
    sx, sy = 1 + bound(r[2], limits.scale), 1 + bound(r[3], limits.scale)
    angle = bound(r[4], limits.angle)
    angle = math.radians(angle) if degrees else angle
    a, b = bound(r[5], limits.shear), bound(r[6], limits.shear)
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor(
        [
            [(c * (1 + a * b) + s * a) * sx, (-s * (1 + a * b) + a * c) * sy, tx],
            [(c * b + s) * sx, (-s * b + c) * sy, ty],
        ]
    )


@three
@pytest.mark.parametrize("limits", [EXEMPLAR, REFIT])
def test_an_exemplars_map_is_the_published_one(
    cls: type[Any], changes: dict[str, Any], limits: Any
) -> None:
    model = made(cls, **changes)
    raw = 2 * torch.randn(4, 7)
    degrees = cls is DooD and model.config.fidelity == "code"
    expected = torch.stack([literal_map(row, limits, degrees) for row in raw])
    torch.testing.assert_close(model.affine(raw, limits), expected, rtol=1e-5, atol=1e-6)
    identity = torch.eye(2, 3).expand(1, -1, -1)
    torch.testing.assert_close(model.affine(torch.zeros(1, 7), limits), identity)
    furthest = model.affine(torch.tensor([[99.0] * 4 + [0.0] * 3]), limits)[0]
    assert furthest[:, 2].tolist() == pytest.approx([limits.shift] * 2)
    assert [float(furthest[0, 0]), float(furthest[1, 1])] == pytest.approx([1 + limits.scale] * 2)
    assert (0.2, 0.4, 0.25 * math.pi, 0.3 * math.pi) == REFIT
    assert (0.1, 0.1, 0.1 * math.pi, 0.1 * math.pi) == EXEMPLAR


def strokes(model: Any, batch: int, upright: bool = False) -> Parts:
    """Latents that draw: two parts each, well on the canvas."""
    steps = model.config.parts
    present = torch.tensor([1.0, 1.0, *[0.0] * (steps - 2)]).expand(batch, -1)
    where = torch.randn(batch, steps, 4) * torch.tensor([0.2, 0.2, 0.05, 0.3])
    where[..., 2] += 0.8
    if upright:
        where = torch.tensor([0.0, 0, 1, 0]).expand(batch, steps, 4)
    what = torch.rand(batch, steps, 10)
    pen = torch.tensor([0.03, 0.5, 0.6]).expand(batch, steps, 3)
    return Parts(present, where, what, pen if isinstance(model, DooD) else pen[..., :0])


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)


def known(model: Any, z: Parts, monkeypatch: pytest.MonkeyPatch, joint: Tensor) -> None:
    """Let every image's explanation be the known one."""
    monkeypatch.setattr(model, "explain", lambda x, parses, by="joint": (z, joint))


@pytest.mark.parametrize(
    ("cls", "changes", "upright"),
    [(DooD, {"affine_on": "points"}, False), (DooD, {}, True), (DooD, {"renderer": "mlp"}, False),
     (DifferenceAIR, {}, False)],
)  # fmt: skip
def test_an_exemplar_without_noise_is_the_reconstruction(
    cls: type[Any], changes: dict[str, Any], upright: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of strokes placed as pictures only where frames are upright: an exemplar's ink does not shrink with its frame."""
    model = made(cls, **changes).eval()
    z = strokes(model, 3, upright)
    known(model, z, monkeypatch, torch.zeros(3, 1))
    quiet(monkeypatch)
    with torch.no_grad():
        found, expected = model.vary(ink_of(3), 2), model.decode(z).clamp(0, 1)
    assert found.shape == (3, 2, 1, 12, 12)
    for draw in (0, 1):
        torch.testing.assert_close(found[:, draw], expected, rtol=1e-4, atol=1e-4)


@three
def test_exemplars_differ_from_each_other(cls: type[Any], changes: dict[str, Any]) -> None:
    model = made(cls, **changes).eval()
    with torch.no_grad():
        found = model.vary(ink_of(2), 3)
    assert found.shape == (2, 3, 1, 12, 12)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert (found[:, 0] != found[:, 1]).any()


@three
def test_the_map_moves_points_and_pictures_alike(cls: type[Any], changes: dict[str, Any]) -> None:
    """Under a shift by three pixels the redrawn image is the drawn one, shifted by three pixels."""
    side = 48
    data = DatasetInfo("large", (1, side, side), objects=1)
    model = made(cls, data, **changes).eval()
    z = strokes(model, 2, upright=True)
    z = z._replace(what=0.3 + 0.4 * z.what)
    edited = model.editable(z)
    identity, shifted = torch.eye(2, 3).expand(2, -1, -1), torch.eye(2, 3).repeat(2, 1, 1)
    # points lie on a canvas of S steps, pixels' centres S - 1 steps apart from one edge to the other
    shifted[:, 0, 2] = 2 * 3 / (side if cls is DooD else side - 1)
    with torch.no_grad():
        still, moved = model.redraw(z, edited, identity), model.redraw(z, edited, shifted)
    torch.testing.assert_close(moved[..., 3:], still[..., :-3], rtol=1e-3, atol=1e-3)
    warped = warp(still, inverse_map(shifted))
    torch.testing.assert_close(warped, moved, rtol=0, atol=0.1)


def test_an_explanation_is_the_best_of_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """By log p(x, z) in general; by log p(x | z) for exemplars."""
    model = made(DooD).eval()
    x, readings = ink_of(2), []
    read = model.read

    def remembered(*arguments: Any, **named: Any) -> Any:
        readings.append(read(*arguments, **named))
        return readings[-1]

    monkeypatch.setattr(model, "read", remembered)
    for by in ("joint", "likelihood"):
        readings.clear()
        with torch.no_grad():
            z, joint = model.explain(x, 3, by=by)
        assert z.what.shape == (6, 3, 10)
        assert joint.shape == (2, 3)
        for parse, reading in enumerate(readings):
            assert len(reading.before) == 40
            likelihood = model.log_likelihood(x.repeat(20, 1, 1, 1), reading.canvas[:, -1])
            p, present = reading.log_p, reading.parts.present
            prior = (reading.before * p["stop"] + present * (p["where"] + p["what"])).sum(1)
            score = likelihood + prior if by == "joint" else likelihood
            for image in range(2):
                best = int(score[image::2].argmax()) * 2 + image
                assert torch.equal(z.what[image * 3 + parse], reading.parts.what[best])
                expected = float((likelihood + prior)[best].detach())
                assert float(joint[image, parse]) == pytest.approx(expected, rel=1e-5)


def matching(cls: type[Any], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """(a model with fine pixels, latents of two explanations for each of three images, their pictures)."""
    model = made(cls, **changes).eval()
    with torch.no_grad():
        model.scale_logit.fill_(-3.0)
        z = strokes(model, 6, upright=True)
        images = model.redraw(z, model.editable(z), torch.eye(2, 3).expand(6, -1, -1)).clamp(0, 1)
    known(model, z, monkeypatch, torch.tensor([[0.0, -1.0], [2.0, 0.0], [0.0, 0.0]]))
    return model, z, images


@three
def test_matching_prefers_the_image_whose_explanation_drew_the_query(
    cls: type[Any], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, images = matching(cls, changes, monkeypatch)
    with torch.no_grad():
        for which in (0, 1):
            found = model.match(images[::2], images[which::2], parses=2, steps=3)
            assert found.shape == (3, 3)
            assert found.argmax(1).tolist() == [0, 1, 2]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@three
def test_before_any_fitting_a_match_is_what_the_formula_says(
    cls: type[Any], changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, z, images = matching(cls, changes, monkeypatch)
    query = ink_of(2)
    with torch.no_grad():
        found = model.match(images[::2], query, parses=2, steps=0)
        size = model.editable(z).shape[2]
        shape = size * float(D.Normal(0.0, 0.001).log_prob(torch.zeros(())))  # per part; two of two
        for i in range(3):
            log_w = torch.tensor([[0.0, -1.0], [2.0, 0.0], [0.0, 0.0]])[i].log_softmax(0)
            for j in range(2):
                each = [
                    float(log_w[k] + shape + model.log_likelihood(query[j : j + 1], images[2 * i + k][None]))
                    for k in (0, 1)
                ]  # fmt: skip
                expected = float(torch.tensor(each).logsumexp(0))
                assert float(found[j, i]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_match_is_fitted_whatever_the_caller_has_switched_off(
    grad_mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, images = matching(DooD, {"shape_noise": 0.05}, monkeypatch)
    query = images[1:2].roll(1, dims=-1)
    with grad_mode():
        found = [model.match(images[::2], query, parses=2, steps=steps) for steps in (0, 20)]
    assert (found[1] > found[0] + 1).all()


def test_what_a_match_may_change_is_held_to_the_explanation() -> None:
    model = made(DooD)
    z = strokes(model, 2)
    start = model.editable(z)
    edited, raw, image = start + 0.002, torch.zeros(2, 7), ink_of(2)
    with torch.no_grad():
        found = model._fitted(z, start, edited, raw, image)
        drawn = model.redraw(z, edited, torch.eye(2, 3).expand(2, -1, -1))
        per_stroke = D.Normal(0.0, 0.001).log_prob(torch.full((10,), 0.002)).sum()
        expected = model.log_likelihood(image, drawn) + per_stroke
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_as_coded_airs_map_is_made_and_not_used() -> None:
    x = torch.rand(2, 1, 12, 12)
    matrix = torch.tensor([[1.0, 0.2, 0.1], [0.0, 1.1, 0.0]]).expand(2, -1, -1)
    as_coded, mended = (made(DifferenceAIR, refit=refit) for refit in ("shape", "affine"))
    assert torch.equal(as_coded.transformed(x, matrix), x)
    torch.testing.assert_close(mended.transformed(x, matrix), warp(x, inverse_map(matrix)))
