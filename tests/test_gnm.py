"""GNM to the unit: parameters, shapes, schedules, and the objective against a literal one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as D

from reprise.core.dataset import DatasetInfo
from reprise.core.errors import UsageError
from reprise.models.gnm import GNM
from reprise.models.gnm.config import GNMConfig
from reprise.models.gnm.networks import Latents

from .straightforward import paste_literally


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("steps", [4, 8])
def test_the_whole_has_the_published_number_of_parameters(mnist4: DatasetInfo, steps: int) -> None:
    assert count(GNM(GNMConfig(draw_steps=steps), mnist4)) == 2_930_708


PARTS = {
    "encoder": 258_784,
    "global_latent.decode_z": 808_960,
    "global_latent.lstm_enc": 67_840,
    "global_latent.lstm_dec": 51_456,
    "global_latent.interaction_dec": 822_336,
    "global_latent.interaction_enc": 822_336,
    "global_latent.cnn_out": 36_928,
    "local": 11_891,
    "object_decoder": 50_177,
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_the_measured_number_of_parameters(mnist4: DatasetInfo, part: str) -> None:
    assert count(GNM(GNMConfig(), mnist4).get_submodule(part)) == PARTS[part]


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (GNMConfig(kernel=3), 3_848_212),  # what Table 7's kernel would give, against Table 3
        (GNMConfig(global_prior="gaussian"), 2_099_796),  # 2.10M
        (GNMConfig(interaction="cnn"), 791_508),  # 0.79M
        (GNMConfig(interaction="cnn", kernel=3), 1_709_012),  # 1.71M
    ],
)
def test_variants_have_the_size_that_the_specification_measured(
    mnist4: DatasetInfo, config: GNMConfig, parameters: int
) -> None:
    assert count(GNM(config, mnist4)) == parameters


def test_shapes(mnist4: DatasetInfo) -> None:
    model, x = GNM(GNMConfig(), mnist4), torch.rand(3, 1, 128, 128)
    z = model.infer(x)
    assert model.encoder(x).shape == (3, 64, 4, 4)
    assert z.z_global.shape == (3, 4, 32)
    assert z.z_where.shape == (3, 16, 4)
    assert model.decode(z).shape == (3, 1, 128, 128)


def test_boxes_begin_at_a_quarter_of_the_image_in_their_cells(mnist4: DatasetInfo) -> None:
    model = GNM(GNMConfig(), mnist4)
    where = model.local(torch.zeros(1, 64, 4, 4)).where.mean
    extent, centre = model.box(where)
    assert torch.allclose(extent, torch.tensor(-1.0).sigmoid().expand(1, 16, 2), atol=0.02)
    assert centre[0, 0].tolist() == pytest.approx([-0.75, -0.75], abs=0.02)
    assert centre[0, 1].tolist() == pytest.approx(
        [-0.25, -0.75], abs=0.03
    )  # row-major: the next cell is to the right
    assert centre[0, 15].tolist() == pytest.approx([0.75, 0.75], abs=0.02)


def test_a_centre_moves_one_cell_at_most(mnist4: DatasetInfo) -> None:
    model = GNM(GNMConfig(), mnist4)
    far = torch.tensor([0.0, 0.0, 50.0, -50.0]).expand(1, 16, 4)
    _, centre = model.box(far)
    _, still = model.box(torch.zeros(1, 16, 4))
    assert torch.allclose(centre - still, torch.tensor([0.5, -0.5]).expand(1, 16, 2))


def test_ratio_keeps_the_area_of_a_box(mnist4: DatasetInfo) -> None:
    model = GNM(GNMConfig(), mnist4)
    where = torch.randn(2, 16, 4)
    extent, _ = model.box(where)
    assert torch.allclose(extent.prod(-1), where[..., 0].sigmoid().square(), rtol=1e-4)
    assert torch.allclose(extent[..., 1] / extent[..., 0], where[..., 1].exp(), rtol=1e-4)


def test_located_boxes_are_what_decoding_paints(mnist4: DatasetInfo) -> None:
    """Overlays are believable only if a box drawn on the image is where the renderer puts the glimpse."""
    model = GNM(GNMConfig(), mnist4)
    x = torch.rand(1, 1, 128, 128)
    location = model.locate(x)
    where = model.local(model.encoder(x)).where.mean
    z_pres = torch.zeros(1, 16, 1)
    z_pres[0, 6] = 1
    with torch.no_grad():
        z = Latents(x, z_pres, where, where[..., :1], torch.randn(1, 16, 20), torch.zeros(1, 0))
        image = model.decode(z)[0, 0]
    ys, xs = torch.nonzero(
        image > 0.25, as_tuple=True
    )  # the glimpse is about 0.5 everywhere before training
    x0, y0, x1, y1 = location.box[0, 6].tolist()
    painted = [xs.min().item(), ys.min().item(), xs.max().item() + 1, ys.max().item() + 1]
    assert painted == pytest.approx([x0, y0, x1, y1], abs=1.5)


def decode_literally(model: GNM, z: Latents) -> Tensor:
    """Cell by cell with grid_sample, as the specification writes it."""
    canvas = torch.zeros(len(z.z_pres), *model.data.shape)
    for cell in range(16):
        i, j = divmod(cell, 4)
        glimpse = model.object_decoder(z.z_what[:, cell, :, None, None]).sigmoid()
        where = z.z_where[:, cell]
        s, r = where[:, 0].sigmoid(), where[:, 1].exp()
        scale = torch.stack([s / r.sqrt(), s * r.sqrt()], -1)
        t_x = (2 / 4) * (j + 0.5 + where[:, 2].tanh()) - 1
        t_y = (2 / 4) * (i + 0.5 + where[:, 3].tanh()) - 1
        pasted = paste_literally(glimpse, scale, torch.stack([t_x, t_y], -1), model.data.shape[1])
        canvas = canvas + z.z_pres[:, cell, :, None, None] * pasted
    return canvas


def test_decoding_is_the_literal_rendering(mnist4: DatasetInfo) -> None:
    model = GNM(GNMConfig(), mnist4)
    z = model.infer(torch.rand(2, 1, 128, 128))._replace(z_pres=torch.rand(2, 16, 1))
    with torch.no_grad():
        assert torch.allclose(model.decode(z), decode_literally(model, z), atol=2e-5)


def test_the_objective_is_the_sum_that_the_specification_writes(mnist4: DatasetInfo) -> None:
    """loss() against torch.distributions, term by term, from the same draws."""
    model, x, step = GNM(GNMConfig(), mnist4), torch.rand(3, 1, 128, 128), torch.tensor(50_000.0)
    torch.manual_seed(5)
    total, terms = model.loss(x, step)
    torch.manual_seed(5)  # the same draws in the same order
    f_x = model.encoder(x)
    q, drawing = model.local(f_x), model.global_latent(f_x, 4, 3)
    p = model.local(drawing.f)
    tau = 0.5
    u = torch.rand_like(q.pres.logit).clamp(1e-7, 1 - 1e-7)
    z_pres = torch.sigmoid((q.pres.logit + torch.log(u) - torch.log1p(-u)) / tau)
    where, depth, what = q.where.sample(), q.depth.sample(), q.what.sample()
    z = Latents(f_x, z_pres, where, depth, what, torch.zeros(3, 0))

    def kl(a: D.Distribution, b: D.Distribution) -> Tensor:
        return D.kl_divergence(a, b).flatten(1).sum(1)

    expected = -D.Normal(decode_literally(model, z), 0.2).log_prob(x).flatten(1).sum(1)
    for a, b in zip(drawing.posterior, drawing.prior, strict=True):
        expected = expected + 0.5 * kl(D.Normal(*a), D.Normal(*b))  # beta at step 50,000
    expected = expected + kl(D.Bernoulli(logits=q.pres.logit), D.Bernoulli(logits=p.pres.logit))
    expected = expected + kl(
        D.Bernoulli(logits=q.pres.logit), D.Bernoulli(torch.full_like(q.pres.logit, 1e-3))
    )
    where_prior = D.Normal(torch.tensor([-1.6, 0, 0, 0]), torch.tensor([0.1, 0.3, 1, 1]))
    for a, b, fixed in [
        (q.where, p.where, where_prior),
        (q.depth, p.depth, D.Normal(0.0, 1.0)),
        (q.what, p.what, D.Normal(0.0, 1.0)),
    ]:
        expected = expected + kl(D.Normal(*a), D.Normal(*b))
        gated = z_pres.clamp_min(1e-5) * D.kl_divergence(D.Normal(*a), fixed)
        expected = expected + gated.flatten(1).sum(1)
    assert total.item() == pytest.approx(expected.mean().item(), rel=1e-4)
    assert terms["beta"].item() == 0.5
    assert model.temperature.item() == 0.5


def test_the_gates_of_the_auxiliary_terms_carry_gradient(mnist4: DatasetInfo) -> None:
    """Detached, nothing would press empty cells off (gotcha 8): presence must feel the cost of where."""
    model = GNM(GNMConfig(), mnist4)
    _, terms = model.loss(torch.rand(2, 1, 128, 128), torch.tensor(0.0))
    (gradient,) = torch.autograd.grad(terms["aux_where"], model.local.pres.weight)
    assert gradient.abs().sum() > 0


def test_log_weights_score_the_structure_that_was_drawn(mnist4: DatasetInfo) -> None:
    """The authors' relaxed scoring is another number."""
    model, x = GNM(GNMConfig(), mnist4), torch.rand(2, 1, 128, 128)
    with torch.no_grad():
        weights = model.log_weights(x, 7)
        assert weights.shape == (7, 2)
        relaxed = GNM(GNMConfig(presence="relaxed"), mnist4)
        relaxed.load_state_dict(model.state_dict())
        assert not torch.allclose(relaxed.elbo(x, 20), model.elbo(x, 20), rtol=1e-6)


def test_the_mean_log_weight_is_the_elbo_with_analytic_kls(half_size: DatasetInfo) -> None:
    """With pixels that hardly count, so that the five KLs do: 580 nats, each estimate within a few."""
    model, x = GNM(GNMConfig(sigma=20.0), half_size).eval(), torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        sampled = torch.cat([model.log_weights(x, 50) for _ in range(6)]).mean(1)
        parts = [model.loss(x, torch.tensor(1e7))[1] for _ in range(80)]
    kls = [sum(value for key, value in one.items() if key.startswith("kl_")) for one in parts]
    analytic = torch.stack([one["log_likelihood"] - kl for one, kl in zip(parts, kls, strict=True)])
    error = (sampled.var() / len(sampled) + analytic.var() / len(analytic)).sqrt()
    assert error < 8
    assert (sampled.mean() - analytic.mean()).abs() < 4 * error


def test_where_prior_and_presence_floor_are_those_of_the_config() -> None:
    assert torch.tensor(-1.6).sigmoid().item() * 128 == pytest.approx(21.5, abs=0.05)
    assert F.sigmoid(torch.tensor(-8.8)).item() == pytest.approx(1.5e-4, rel=0.01)


def test_samples_are_modes_as_the_authors_draw_them_or_draws(mnist4: DatasetInfo) -> None:
    """Below one z^g there is one mode and there are many draws."""
    model = GNM(GNMConfig(), mnist4)
    drawing = model.global_latent(None, 4, 1)
    z_global, f = torch.stack(drawing.z, 1), drawing.f
    modes, draws = (
        [below(z_global, f).z_what for _ in range(2)] for below in (model.mode, model.draw)
    )
    assert torch.equal(*modes)
    assert not torch.equal(*draws)
    for samples, below in (("mode", "mode"), ("drawn", "draw")):
        other = GNM(GNMConfig(samples=samples), mnist4)  # type: ignore[arg-type]
        other.mode, other.draw = (lambda *_: "mode"), (lambda *_: "draw")  # type: ignore[assignment, method-assign]
        assert other.prior(1) == below  # type: ignore[comparison-overlap]


def test_temperature_survives_in_the_state(mnist4: DatasetInfo) -> None:
    model = GNM(GNMConfig(), mnist4)
    model.loss(torch.rand(1, 1, 128, 128), torch.tensor(10_500.0))
    assert model.state_dict()["temperature"].item() == pytest.approx(0.75)


def test_other_images_are_refused_with_a_sentence() -> None:
    with pytest.raises(UsageError, match="gnm is configured for grey or colour images"):
        GNM.recipe(DatasetInfo("faces", (3, 96, 96)))
