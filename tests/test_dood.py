"""DooD: how it starts, its pen, samples, begun drawings, new exemplars, and where paper and code part."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from reprise.core.dataset import DatasetInfo
from reprise.models.dood import DooD
from reprise.nn.active import Active
from reprise.nn.distributions import Mixture, Tilted
from reprise.nn.drawing import Parts

from .noise import Noise
from .test_attend import noise
from .test_drawing import OMNIGLOT, PUBLISHED, VARIANTS, ink_of, made, strokes, variant

__all__ = ["noise"]  # a fixture

SYNTHETIC = DatasetInfo("strokes", (1, 50, 50), objects=1)
FEW = DatasetInfo("few", (1, 12, 12), objects=1)


def fresh(data: DatasetInfo = FEW, **changes: Any) -> Any:
    """Untrained, with the published settings of `data` for 12 x 12 pixels."""
    config = DooD.recipe(DatasetInfo(data.name, (1, 12, 12), objects=1)).config
    return DooD(type(config)(**{**vars(config), **changes}), FEW).eval()


# How it starts.


@pytest.mark.parametrize(
    ("data", "changes", "going_on", "sigma", "slope", "whole"),
    [
        (PUBLISHED, {}, 2.0, 0.0136, 0.805, 0.476),
        (PUBLISHED, {"affine_on": "points"}, 2.0, 0.0092, 0.805, 0.476),
        (OMNIGLOT, {}, 10.0, 0.0105, 0.886, 1.475),
        (OMNIGLOT, {"affine_on": "points"}, 10.0, 0.0092, 0.805, 0.476),
        (SYNTHETIC, {}, 10.0, 0.0136, 0.805, 0.476),
        (PUBLISHED, {"fidelity": "paper"}, 2.0, 0.0136, 0.805, 0.476),
    ],
)
def test_posteriors_start_as_published(
    data: DatasetInfo, changes: dict[str, Any], going_on: float, sigma: float, slope: float, whole: float
) -> None:  # fmt: skip
    model = fresh(data, **changes)
    with torch.no_grad():
        reading = model.read(ink_of(3), "mode")
        z = reading.parts
        assert (z.present == 1).all()
        log_q = math.log(1 / (1 + math.exp(-going_on)))
        assert reading.log_q["stop"].flatten().tolist() == pytest.approx([log_q] * 18, rel=1e-3)
        assert z.where[0, 0].tolist() == pytest.approx([0, 0, 0.998, 0], abs=1e-3)
        for t in range(6):
            assert z.pen[1, t].tolist() == pytest.approx([sigma, slope, whole], abs=6e-4)
        layout = model.layout(model.q_layout[-1].bias)
        assert layout.diagonal.tolist() == pytest.approx([0.018] * 4, abs=1e-4)
        assert float(layout.corner) == 0
    assert float(z.what.std()) > 0.01, "q(s) starts with weights"


def test_priors_start_as_published() -> None:
    model = fresh()
    with torch.no_grad():
        hidden, glimpse = torch.randn(2, 256), torch.randn(2, 256)
        stop = model.prior_stop(glimpse).probability
        layout = model.prior_layout(hidden)
        stroke = model.prior_stroke(hidden, torch.randn(2, 4), glimpse)
    assert stop.tolist() == pytest.approx([1 / (1 + math.exp(-1))] * 2)
    assert layout.logits[0].tolist() == [4.0] + [-4.0] * 39
    scale = 0.25 + 0.75 / (1 + math.exp(-4))
    mean = layout.parts.mean[1]
    assert mean[0].tolist() == pytest.approx([0, 0, scale, 0], abs=1e-6)
    assert float((mean - mean[0]).abs().max()) < 0.01
    assert (mean[1:] != mean[:1]).all()
    assert layout.parts.diagonal.unique().tolist() == pytest.approx([0.018], abs=1e-4)
    assert (stroke.logits[0, 0, :5] == 4).all(), "as coded: five components of the first point"
    assert (stroke.logits[0, 0, 5:] == -4).all()
    assert (stroke.logits[0, 1:] == -4).all()
    assert stroke.parts.diagonal.unique().tolist() == pytest.approx([0.2], abs=1e-3)
    assert float((stroke.parts.mean - 0.5).abs().max()) < 0.01
    meant = fresh(fidelity="paper")
    with torch.no_grad():
        logits = meant.prior_stroke(hidden, torch.randn(2, 4), glimpse).logits[0]
    assert (logits[:, 0] == 4).all()
    assert (logits[:, 1:] == -4).all()


def test_the_independent_prior_is_the_published_one() -> None:
    model = fresh(prior="independent")
    with torch.no_grad():
        hidden = torch.randn(2, 256)
        layout, stroke = model.prior_layout(hidden), model.prior_stroke(hidden, hidden, None)
        assert model.prior_stop(hidden).probability.tolist() == [0.5, 0.5]
    assert layout.parts.mean[1, 0].tolist() == pytest.approx([0, 0, 0.8, 0])
    assert layout.parts.diagonal[1, 0].tolist() == pytest.approx([0.2, 0.2, 0.2, 0.4])
    assert stroke.parts.mean.shape == (2, 5, 1, 2)
    assert stroke.parts.mean.unique().tolist() == [0.5]
    assert stroke.parts.diagonal.unique().tolist() == pytest.approx([0.2])


def test_untrained_bounds_are_where_the_published_code_has_them() -> None:
    """On a batch of synthetic strokes: 650 to 920 nats below zero, 4,200 with a neural renderer."""
    common = DooD.recipe(PUBLISHED).config
    models: dict[str, Any] = {
        "strokes": DooD(common, PUBLISHED),
        "pixels": DooD(dataclasses.replace(common, renderer="mlp"), PUBLISHED),
    }
    z = strokes(models["strokes"], 24)
    where = torch.cat([z.where[..., :2], torch.full((24, 6, 1), 0.5), z.where[..., 3:]], 2)
    pen = torch.tensor([0.026, 0.7, 0.46]).expand(24, 6, 3)
    with torch.no_grad():
        x = models["strokes"].canvas(z._replace(where=where, pen=pen))
        found = {name: float(model.eval().elbo(x).mean()) for name, model in models.items()}
    assert found["strokes"] == pytest.approx(-750, abs=250)
    assert found["pixels"] == pytest.approx(-4_200, abs=900)


# Drawing.


def test_a_stroke_is_as_bright_as_its_slope_says() -> None:
    """Its brightest pixel is tanh(1 / r), however many points fell on it; one that is not there is dark."""
    model = made(DooD)
    z = strokes(model, 4)
    present = torch.tensor([1.0, 1, 1, 0])
    with torch.no_grad():
        drawn = model.stroke(present, z.where[:, 0], z.what[:, 0], z.pen[:, 0])
    brightest = drawn.amax((1, 2, 3)).tolist()
    assert brightest == pytest.approx([math.tanh(1 / 0.5)] * 3 + [0.0])


@pytest.mark.parametrize("name", ["DooD", "DooD, points", "-dR"])
def test_a_stroke_off_the_canvas_is_dark_and_harmless(name: str) -> None:
    model = variant(name)
    where = torch.tensor([[40.0, 40.0, 0.5, 0.0]], requires_grad=True)
    what = torch.rand(1, 10, requires_grad=True)
    pen = torch.tensor([[0.01, 0.5, 0.5]], requires_grad=True)
    drawn = model.stroke(torch.ones(1), where, what, pen)
    assert float(drawn.detach().amax()) < 1e-3
    drawn.sum().backward()
    for part in (where, what, pen):
        assert part.grad is not None
        assert part.grad.isfinite().all()


@pytest.mark.parametrize("guided", [True, False])
def test_the_whole_has_the_slope_of_the_first_step_and_unguided_of_the_last(guided: bool) -> None:
    model = made(DooD, guided=guided)
    z = strokes(model, 2)
    slopes = torch.tensor([0.3, 0.6, 1.2]).expand(2, 3)
    z = z._replace(pen=torch.cat([z.pen[..., :2], slopes[..., None]], 2))
    with torch.no_grad():
        each = [model.stroke(*(part[:, t] for part in z)) for t in range(3)]
        expected = (sum(each) / (0.3 if guided else 1.2)).tanh()
        torch.testing.assert_close(model.decode(z), expected)


def test_strokes_shrink_with_their_frames_only_where_pictures_are_placed() -> None:
    """The share of ink of one spot: as a picture in a frame of half the size it covers a quarter."""
    areas = {}
    for affine_on in ("image", "points"):
        model = made(DooD, DatasetInfo("large", (1, 80, 80), objects=1), affine_on=affine_on)
        spot, pen = torch.full((2, 10), 0.5), torch.tensor([0.04, 0.9, 0.5]).expand(2, 3)
        where = torch.tensor([[0.0, 0, 1, 0], [0, 0, 0.5, 0]])
        with torch.no_grad():
            whole, small = model.stroke(torch.ones(2), where, spot, pen).sum((1, 2, 3)).tolist()
        areas[affine_on] = small / whole
    assert areas["image"] == pytest.approx(0.25, abs=0.03)
    assert areas["points"] == pytest.approx(1)


# The pen, and what it tells.


def test_as_coded_the_image_chooses_the_pen_and_with_the_median_it_does_not() -> None:
    told, silent = (variant("DooD", rendering=r).eval() for r in ("inferred", "median"))
    silent.load_state_dict(told.state_dict())
    x = ink_of(5)
    with torch.no_grad():
        for model, count in ((told, 5), (silent, 1)):
            pens = model.read(x, "mode").parts.pen
            assert len(pens[:, 0].unique(dim=0)) == count
            at_training = model.train().read(x).parts.pen
            assert len(at_training[:, 0].unique(dim=0)) == 5, "what trains is told in any case"
            model.eval()


def test_with_the_median_the_likelihood_depends_on_the_image_through_what_is_drawn_alone(
    noise: Noise,
) -> None:
    """Given the latents, another image's log p(x | z) is had from the canvas that the first one gave."""
    model = variant("DooD", rendering="median").eval()
    model.pen_median.copy_(torch.tensor([0.02, 0.4, 0.7]))
    with torch.no_grad():
        z = model.infer(ink_of(2))
        free = z._replace(pen=model.pen_median.expand(*z.pen.shape))
        assert torch.equal(model.decode(z), model.decode(free))
        other = z._replace(pen=z.pen + 0.01)
        assert (model.decode(other) != model.decode(z)).any()


def test_the_median_pen_is_that_of_the_last_batchs_first_strokes() -> None:
    model = variant("DooD").train()
    x = ink_of(7)
    torch.manual_seed(2)
    pens = model.read(x).parts.pen[:, 0]
    torch.manual_seed(2)
    model.loss(x, torch.tensor(0.0))
    torch.testing.assert_close(model.pen_median, pens.detach().median(0).values)
    model.eval().elbo(x)
    torch.testing.assert_close(model.pen_median, pens.detach().median(0).values)


def test_as_the_paper_says_the_pen_is_learnt_and_the_same_for_all() -> None:
    model = variant("DooD, paper").eval()
    with torch.no_grad():
        model.pen_logit.copy_(torch.tensor([0.0, 1.0, -1.0]))
        inferred, drawn = model.infer(ink_of(3)).pen, model.prior(3).pen
    assert len(inferred.flatten(0, 1).unique(dim=0)) == 1
    assert torch.equal(inferred, drawn)
    assert float(inferred[0, 0, 0]) == pytest.approx(0.0225)


def test_as_the_paper_says_coordinates_are_not_tied() -> None:
    model = variant("DooD, paper")
    with torch.no_grad():
        p = model.prior_layout(torch.randn(2, 256))
        assert not p.parts.corner.any()
        assert not model.control_point(torch.randn(4, 5)).corner.any()
        assert variant("DooD").control_point(torch.randn(4, 5)).corner.all()


def test_as_the_paper_says_the_posterior_does_not_see_the_image_itself() -> None:
    """All of it that is left is Δ: with an x that is drawn already, and one that is not there, q is the same."""
    model = variant("DooD, paper").eval()
    x = ink_of(2)
    with torch.no_grad():
        seen = []
        for image in (x, 0 * x):
            canvas, target = image, model.image(image)
            inked, every = torch.ones(2), Active.all(x)
            context, stop_context, left = model._context(image, canvas, target, inked, every)
            glimpses = model._glimpses(image, left, torch.randn(2, 4), every)
            seen.append([*context, stop_context, *glimpses])
    for ours, others in zip(*seen, strict=True):
        torch.testing.assert_close(ours, others)


def test_an_image_without_ink_has_no_share_of_it_left() -> None:
    model = variant("DooD").eval()
    blank = torch.zeros(2, 1, 12, 12)
    with torch.no_grad():
        assert model.log_weights(blank, 2).isfinite().all()
        context, _, _ = model._context(
            blank, blank, torch.zeros(2, 8), blank.sum((1, 2, 3)), Active.all(blank)
        )
    assert context[-1].tolist() == [[0.0], [0.0]]
    model.train().loss(blank, torch.tensor(0.0))[0].backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


# Samples.


def test_samples_are_tempered_as_coded() -> None:
    model = variant("DooD")
    mean, diagonal, corner = torch.randn(3, 3, 4), torch.rand(3, 3, 4) + 0.1, torch.rand(3, 3)
    p = Mixture(torch.randn(3, 3), Tilted(mean, diagonal, corner))
    cold = model._tempered(p, "layout")
    lower = torch.diag_embed(diagonal)
    lower[..., 1, 0] = corner
    covariance = lower @ lower.mT
    factor = torch.tensor([0.01, 0.01, 0.7, 0.7])
    wanted = covariance * (factor[:, None] * factor).sqrt()
    lower = torch.diag_embed(cold.parts.diagonal)
    lower[..., 1, 0] = cold.parts.corner
    torch.testing.assert_close(lower @ lower.mT, wanted)
    assert torch.equal(cold.logits, p.logits)
    assert torch.equal(cold.parts.mean, mean)
    q = Mixture(p.logits, Tilted(mean[..., :2], diagonal[..., :2], corner))
    point = model._tempered(q, "stroke").parts
    torch.testing.assert_close(point.diagonal, 0.1 * diagonal[..., :2])
    torch.testing.assert_close(point.corner, 0.1 * corner)
    assert variant("DooD, paper")._tempered(p, "layout") is p


@pytest.mark.parametrize("name", [n for n, (cls, _) in VARIANTS.items() if cls is DooD])
def test_samples_vary_and_stay_on_the_canvas(name: str) -> None:
    model = variant(name).eval()
    with torch.no_grad():
        images, z = model.sample(12), model.prior(12)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert isinstance(z, Parts)
    assert z.pen.shape == (12, 3, 3)
    assert (z.what[0] != z.what[1]).any()


def test_each_stroke_from_the_prior_sees_those_before(noise: Noise) -> None:
    """Another first stroke, then the same noise: the second one's place is another. Unguided it sees latents alone."""
    model = variant("DooD").eval()
    second = []
    for sigma in (0.01, 0.04):
        noise.restart()
        noise.uniform_is = lambda call, like: torch.full_like(like, 0.3)
        model.pen_median.copy_(
            torch.tensor([sigma, 0.5, 0.5])
        )  # the latents of step 1 are the same
        with torch.no_grad():
            z = model.prior(1)
        second.append(z)
    assert torch.equal(second[0].where[:, 0], second[1].where[:, 0])
    assert torch.equal(second[0].what[:, 0], second[1].what[:, 0])
    assert not torch.equal(second[0].where[:, 1], second[1].where[:, 1])


# Drawings that somebody has begun.


@pytest.mark.parametrize("name", ["DooD", "DooD, paper", "-EG", "-SP", "-dR"])
def test_begun_drawings_are_gone_on_with(name: str) -> None:
    """Strokes only add ink to what was understood of the beginning."""
    model = variant(name).eval()
    with torch.no_grad():
        begun = model.begin(4)
        torch.manual_seed(1)
        found = model.complete(begun, 5)
        torch.manual_seed(1)
        understood = model.read(begun).canvas[:, -1]
    assert begun.shape == (4, 1, 12, 12)
    assert 0 <= float(begun.min()) <= float(begun.max()) <= 1
    assert found.shape == (4, 5, 1, 12, 12)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert (found >= understood[:, None] - 1e-4).all()
    assert float((found - understood[:, None]).amax()) > 0.1
    assert (found[:, 0] != found[:, 1]).any()


def test_a_completion_goes_on_from_the_last_stroke(noise: Noise) -> None:
    """The first stroke it adds comes from the state after the last one that was understood, not after the last step."""
    model = variant("DooD", parts=4).eval()
    x = ink_of(2)
    noise.presences([1, 1, 0, 0], 1)
    started = []
    unroll = model._unroll

    def remembered(state: Any, *rest: Any) -> Any:
        started.append(state)
        return unroll(state, *rest)

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_unroll", remembered)
        model.complete(x, 3)
        noise.restart()
        _, states = model.follow(x, "sample")
    (state,) = started
    assert (state.alive == 1).all()
    for name in ("layout", "stroke", "where", "what"):
        expected = getattr(states[1], name).repeat_interleave(3, 0)
        torch.testing.assert_close(getattr(state, name), expected)


@pytest.mark.parametrize("fidelity", ["code", "paper"])
def test_as_coded_the_first_look_at_a_begun_drawing_is_at_the_ink(fidelity: str) -> None:
    """Before tanh; as the paper says, it is at the canvas like every other look."""
    model = made(DooD, parts=1, fidelity=fidelity).eval()
    looked: list[torch.Tensor] = []
    model.image.register_forward_pre_hook(lambda module, given: looked.append(given[0]))
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        model.q_stop[-1].bias.fill_(50.0)
        z = strokes(made(DooD, parts=2), 3)
        begun = model.canvas(z._replace(pen=model.usual_pen().expand(3, 2, 3)))
        read = model.follow(begun, "sample")
        patch.setattr(model, "follow", lambda *_: read)
        looked.clear()
        model.complete(begun, 1)
        canvas = read[0].canvas[:, -1]
        slope = read[0].parts.pen[:, 0, 2, None, None, None]
        expected = slope * canvas.clamp(0, 1 - 1e-6).atanh() if fidelity == "code" else canvas
    assert canvas.amax() > 0.1
    torch.testing.assert_close(looked[0], expected, rtol=1e-4, atol=1e-4)


def test_a_drawing_of_which_nothing_was_understood_begins_anew(noise: Noise) -> None:
    model = variant("DooD", parts=3).eval()
    model.pen_median.copy_(torch.tensor([0.02, 0.4, 0.7]))
    noise.presences([0, 0, 0], 1)
    started = []
    unroll = model._unroll

    def remembered(*arguments: Any) -> Any:
        started.append(arguments)
        return unroll(*arguments)

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_unroll", remembered)
        model.complete(ink_of(2), 2)
    state, together, pen = started[0][:3]
    assert not any(part.any() for part in state[:4])
    assert not together.any()
    assert pen[:, :2].unique(dim=0).tolist() == [pytest.approx([0.02, 0.4])]


# New exemplars.


def test_an_exemplars_noise_is_the_published_one() -> None:
    model = made(DooD, pen_noise=True)
    z = strokes(model, 4_000)
    noisy = model.perturb(z)
    spread = (noisy.what - z.what).std((0, 1)).view(5, 2)
    assert spread[:, 0].tolist() == pytest.approx([0, 0.003, 0.1, 0.003, 0], rel=0.05)
    assert spread[:, 1].tolist() == pytest.approx([0, 0.003, 0.1, 0.003, 0], rel=0.05)
    assert (noisy.pen - z.pen).std((0, 1)).tolist() == pytest.approx([0.001, 0.01, 0.01], rel=0.05)
    assert torch.equal(noisy.where, z.where)
    assert torch.equal(made(DooD).perturb(z).pen, z.pen)


def test_what_may_be_edited_are_the_points_on_the_canvas() -> None:
    """Drawn as they are, under the identity, they are the drawing where points are moved anyway."""
    model = variant("DooD, points").eval()
    z = strokes(model, 3)
    with torch.no_grad():
        edited = model.editable(z)
        again = model.redraw(z, edited, torch.eye(2, 3).expand(3, -1, -1))
        torch.testing.assert_close(again, model.decode(z), rtol=1e-4, atol=1e-4)
    assert edited.shape == (3, 3, 10)
