"""GNM in its Arrow configuration to the unit: parameters, schedules, rendering and objective against literal ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch import distributions as D

from reprise.core.dataset import DatasetInfo
from reprise.core.model import GenerativeModel
from reprise.core.spec import model as spec
from reprise.launch.contract import check_model
from reprise.models.gnm import GNM
from reprise.models.gnm.config import ArrowConfig, GNMConfig
from reprise.models.gnm.networks import Background, Latents
from reprise.nn.distributions import ceiling, image_log_prob

from .straightforward import paste_literally
from .test_gnm import count

ARROW = DatasetInfo("arrow_room", (3, 128, 128), "rgb", objects=4)
HALF = DatasetInfo("arrow_room", (3, 64, 64), "rgb", objects=4)


def somewhat_trained(config: ArrowConfig | None = None, data: DatasetInfo = HALF) -> GNM:
    """Weights away from their beginning, so that no part is zero or equal to another."""
    model = GNM(config or ArrowConfig(), data)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


# The network.


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (ArrowConfig(), 8_636_446),
        (ArrowConfig(draw_steps=8), 8_652_830),
        (ArrowConfig(kernel=3), 12_306_462),  # Table 7's kernel, against Table 3
        (ArrowConfig(global_prior="gaussian"), 6_821_918),  # 6.82M
        (ArrowConfig(interaction="cnn"), 3_775_134),
        (ArrowConfig(interaction="cnn", kernel=3), 7_445_150),
    ],
)
def test_the_whole_and_its_variants_have_the_measured_number_of_parameters(
    config: ArrowConfig, parameters: int
) -> None:
    assert count(GNM(config, ARROW)) == parameters


PARTS = {
    "encoder": 632_608,
    "global_latent.decode_z": 2_648_576,
    "global_latent.lstm_enc": 266_752,
    "global_latent.lstm_dec": 201_216,
    "global_latent.interaction_dec": 1_346_624,
    "global_latent.interaction_enc": 1_346_624,
    "global_latent.cnn_out": 147_584,
    "local": 51_467,
    "object_decoder": 689_248,
    "background.decoder": 92_203,
    "background.of_global": 26_452,
    "background.of_image": 1_187_092,
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_the_measured_number_of_parameters(part: str) -> None:
    assert count(GNM(ArrowConfig(), ARROW).get_submodule(part)) == PARTS[part]


@pytest.mark.parametrize(("data", "glimpse"), [(ARROW, 64), (HALF, 32)])
def test_shapes(data: DatasetInfo, glimpse: int) -> None:
    model, x = GNM(ArrowConfig(), data), torch.rand(2, *data.shape)
    with torch.no_grad():
        z = model.infer(x)
        assert model.encoder(x).shape == (2, 128, 4, 4)
        assert z.z_global.shape == (2, 4, 32)
        assert z.z_what.shape == (2, 16, 64)
        assert z.z_background.shape == (2, 10)
        assert model.objects(z)[0].shape == (2, 16, 4, glimpse, glimpse)
        assert background_of(model, z).shape == x.shape
        assert model.decode(z).shape == x.shape


def test_data_choose_the_configuration() -> None:
    assert GNM.recipe(ARROW).config == GNM.recipe(HALF).config == ArrowConfig()
    assert GNM.recipe(DatasetInfo("mnist4", (1, 128, 128))).config == GNMConfig()


@pytest.mark.parametrize(
    "options",
    [
        {"interaction": "cnn", "rendering": "paper"},
        {"global_prior": "gaussian", "curriculum": "boxes"},
    ],
)
def test_every_reading_keeps_the_contract(options: dict[str, str | int]) -> None:
    assert "state: all of it is in state_dict" in list(check_model(spec("gnm", **options), HALF))


# Rendering.


def paste_of(model: GNM, z: Latents, cell: int, glimpse: Tensor) -> Tensor:
    """A glimpse (B, C, G, G) where the specification puts that of a cell."""
    i, j = divmod(cell, 4)
    where = z.z_where[:, cell]
    s, r = where[:, 0].sigmoid(), where[:, 1].exp()
    t_x = (2 / 4) * (j + 0.5 + where[:, 2].tanh()) - 1
    t_y = (2 / 4) * (i + 0.5 + where[:, 3].tanh()) - 1
    scale, shift = torch.stack([s / r.sqrt(), s * r.sqrt()], -1), torch.stack([t_x, t_y], -1)
    return paste_literally(glimpse, scale, shift, model.data.shape[1])


def glimpse_of(model: GNM, z: Latents, cell: int) -> tuple[Tensor, Tensor]:
    """Colour and mask."""
    glimpse = model.object_decoder(z.z_what[:, cell, :, None, None]).sigmoid()
    return glimpse[:, :3], glimpse[:, 3:]


def background_of(model: GNM, z: Latents) -> Tensor:
    assert isinstance(model.background, Background)
    image: Tensor = model.background.decoder(z.z_background[:, :, None, None]).sigmoid()
    return image


def decode_literally(model: GNM, z: Latents, early: bool = False) -> Tensor:
    """The released code's rendering, cell by cell with grid_sample."""
    y, w, m = [], [], []
    for cell in range(16):
        colour, alpha = glimpse_of(model, z, cell)
        alpha = alpha * z.z_pres[:, cell, :, None, None]
        near = (-z.z_depth[:, cell, :, None, None]).sigmoid()
        y.append(paste_of(model, z, cell, alpha * colour))
        w.append(paste_of(model, z, cell, alpha * near))
        m.append(paste_of(model, z, cell, alpha))
    total = torch.stack(w).sum(0) + 1e-15
    foreground = torch.stack([a * b / total for a, b in zip(y, w, strict=True)]).sum(0)
    mask = torch.stack(m).sum(0)
    mask = mask + (mask.clamp(1e-15, 1 - 1e-15) - mask).detach()
    if early:
        mask = torch.full_like(mask, 0.9)
    return foreground + (1 - mask) * background_of(model, z)


def algorithm_2(model: GNM, z: Latents) -> Tensor:
    """The supplement's rendering to the letter."""
    x, gamma, m = [], [], []
    for cell in range(16):
        colour, mask = glimpse_of(model, z, cell)
        near = (-z.z_depth[:, cell, :, None, None]).sigmoid()
        x.append(paste_of(model, z, cell, colour))
        answer = mask * z.z_pres[:, cell, :, None, None] * near
        gamma.append(paste_of(model, z, cell, answer))
        m.append(paste_of(model, z, cell, mask))
    total = torch.stack(gamma).sum(0) + 1e-15
    foreground = torch.stack([a * b / total for a, b in zip(x, gamma, strict=True)]).sum(0)
    mask = torch.stack(m).sum(0).clamp(max=1)
    return foreground + (1 - mask) * background_of(model, z)


def far_and_wide(model: GNM, n: int = 2) -> Latents:
    """Latents with boxes from 1 pixel to the whole image, at the edge of their reach, over one another, and absent."""
    z = model.infer(torch.rand(n, *model.data.shape))
    where = torch.randn(n, 16, 4) * torch.tensor([2.0, 0.7, 3.0, 3.0])
    where[:, 0, 0], where[:, 1, 0] = -5, 4
    z_pres = torch.rand(n, 16, 1).round() * torch.rand(n, 16, 1)
    return z._replace(z_where=where, z_pres=z_pres, z_depth=2 * torch.randn(n, 16, 1))


@pytest.mark.parametrize("data", [HALF, ARROW])
def test_decoding_is_the_literal_rendering(data: DatasetInfo) -> None:
    model = somewhat_trained(data=data)
    with torch.no_grad():
        z = far_and_wide(model)
        expected = decode_literally(model, z)
        assert (model.decode(z) - expected).norm() < 1e-4 * expected.norm()


def test_the_papers_rendering_is_algorithm_2() -> None:
    model = somewhat_trained(ArrowConfig(rendering="paper"))
    with torch.no_grad():
        z = far_and_wide(model)
        expected = algorithm_2(model, z)
        assert (model.decode(z) - expected).norm() < 1e-4 * expected.norm()
        assert not torch.allclose(decode_literally(model, z), expected, atol=0.05)


GREY = DatasetInfo("scenes", (1, 64, 64), objects=4)


@pytest.mark.parametrize(
    ("config", "data", "decoded"),
    [
        (GNMConfig(), GREY, (8, 32)),
        (ArrowConfig(), HALF, (8, 32)),
        (ArrowConfig(rendering="paper"), HALF, (32, 32)),  # which pastes what is absent, too
    ],
)
def test_what_is_absent_is_decoded_for_gradients_alone(
    config: GNMConfig, data: DatasetInfo, decoded: tuple[int, int]
) -> None:
    """Nobody sees it; but what it would look like is what its presence is judged by."""
    model, rows = GNM(config, data).eval(), list[int]()
    model.object_decoder.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    with torch.no_grad():
        z = model.infer(torch.rand(2, *data.shape))
        present = torch.zeros_like(z.z_pres)
        present[:, [1, 6, 7, 12]] = 1
        z = z._replace(z_pres=present)
        image = model.decode(z)
    torch.testing.assert_close(image, model.decode(z).detach())
    assert tuple(rows) == decoded


def test_without_objects_there_is_the_background() -> None:
    model = somewhat_trained()
    with torch.no_grad():
        z = model.prior(2)
        z = z._replace(z_pres=torch.zeros_like(z.z_pres))
        assert torch.allclose(model.decode(z), background_of(model, z))


# The objective.


def loss_literally(model: GNM, x: Tensor, step: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Every term by torch.distributions, schedules written out; draws in the order of `loss`."""
    f_x = model.encoder(x)
    q, drawing = model.local(f_x), model.global_latent(f_x, model.config.draw_steps, len(x))
    p = model.local(drawing.f)
    tau = 1 - 0.5 * min(max((step - 1000) / 19_000, 0), 1)
    rho = 0.1 - 0.099 * min(step / 4000, 1)
    u = torch.rand_like(q.pres.logit).clamp(1e-7, 1 - 1e-7)
    z_pres = torch.sigmoid((q.pres.logit + torch.log(u) - torch.log1p(-u)) / tau)
    early = step < 499
    if early:
        z_pres = z_pres.clamp(max=0.99)
    assert isinstance(model.background, Background)
    raw_q = model.background.of_image(f_x.flatten(1))
    raw_p = model.background.of_global(torch.cat(drawing.z, 1))
    q_b, p_b = (D.Normal(raw[:, :10], torch.log1p(raw[:, 10:].exp())) for raw in (raw_q, raw_p))
    where, depth, what = q.where.sample(), q.depth.sample(), q.what.sample()
    z_b = q_b.mean + q_b.stddev * torch.randn_like(q_b.mean)
    z = Latents(f_x, z_pres, where, depth, what, z_b)

    def kl(a: D.Distribution, b: D.Distribution) -> Tensor:
        return D.kl_divergence(a, b).flatten(1).sum(1)

    presence = D.Bernoulli(logits=q.pres.logit)
    likelihood = D.Normal(decode_literally(model, z, early), 0.2).log_prob(x).flatten(1).sum(1)
    loss = -likelihood
    for a, b in zip(drawing.posterior, drawing.prior, strict=True):
        loss = loss + min(step / 100_000, 1) * kl(D.Normal(*a), D.Normal(*b))
    loss = loss + kl(presence, D.Bernoulli(logits=p.pres.logit))
    loss = loss + kl(presence, D.Bernoulli(torch.full_like(q.pres.logit, rho)))
    where_prior = D.Normal(torch.tensor([-1.5, 0, 0, 0]), torch.tensor([0.1, 0.3, 1, 1]))
    beta_aw = 10 - 9 * min(step / 500, 1)
    for a, b, fixed, weight in [
        (q.where, p.where, where_prior, beta_aw),
        (q.depth, p.depth, D.Normal(0.0, 1.0), 1),
        (q.what, p.what, D.Normal(0.0, 1.0), 1),
    ]:
        loss = loss + kl(D.Normal(*a), D.Normal(*b))
        gated = z_pres.clamp_min(1e-5) * D.kl_divergence(D.Normal(*a), fixed)
        loss = loss + weight * gated.flatten(1).sum(1)
    beta_b = 50 - 49 * min(step / 50_000, 1)
    loss = loss + kl(q_b, p_b) + beta_b * kl(q_b, D.Normal(0.0, 1.0))
    return loss.mean(), {"likelihood": likelihood.mean()}


@pytest.mark.parametrize("step", [0.0, 250.0, 499.0, 2_000.0, 60_000.0])
def test_the_objective_and_its_gradients_are_those_that_the_specification_writes(
    step: float,
) -> None:
    model, x = somewhat_trained(), torch.rand(2, 3, 64, 64)
    found = []
    for function in (loss_literally, lambda m, x, s: m.loss(x, torch.tensor(s))):
        torch.manual_seed(5)
        loss, _ = function(model, x, step)
        names, parameters = zip(*model.named_parameters(), strict=True)
        found.append([loss.detach(), *torch.autograd.grad(loss, parameters, allow_unused=True)])
    assert found[1][0].item() == pytest.approx(found[0][0].item(), rel=1e-4)
    layers: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, literal, ours in zip(names, *(each[1:] for each in found), strict=True):
        if literal is not None:
            layers.setdefault(name.rpartition(".")[0], []).append((literal, ours))
    assert len(layers) > 50
    for layer, pairs in layers.items():
        literal, ours = (torch.cat([part.flatten() for part in side]) for side in zip(*pairs, strict=True))  # fmt: skip
        assert (ours - literal).norm() <= 1e-4 * literal.norm(), layer  # some are 0 while beta is


SCHEDULES = {
    "beta_where": [10, 5.5, 1, 1, 1, 1, 1, 1, 1],
    "beta_background": [50, 49.755, 49.51, 48.04, 46.08, 39.71, 30.4, 1, 1],
    "beta": [0, 0.0025, 0.005, 0.02, 0.04, 0.105, 0.2, 0.5, 1],
    "temperature": [1, 1, 1, 0.974, 0.921, 0.75, 0.5, 0.5, 0.5],
}


def test_schedules_pass_through_the_released_values() -> None:
    model, x = GNM(ArrowConfig(), HALF), torch.rand(1, 3, 64, 64)
    found: dict[str, list[float]] = {name: [] for name in SCHEDULES}
    for step in (0, 250, 500, 2_000, 4_000, 10_500, 20_000, 50_000, 100_000):
        with torch.no_grad():
            _, terms = model.loss(x, torch.tensor(float(step)))
        for name in SCHEDULES:
            value = model.temperature if name == "temperature" else terms[name]
            found[name].append(value.item())
    for name, expected in SCHEDULES.items():
        assert found[name] == pytest.approx(expected, abs=5e-4), name


@pytest.mark.parametrize(("step", "early"), [(0.0, True), (498.0, True), (499.0, False)])
def test_the_curriculum_holds_for_499_steps(step: float, early: bool) -> None:
    """x̃ = x_fg + 0.1 x_b in all of the image: the code's steps 1 to 499 are 0 to 498 here."""
    model = somewhat_trained()
    with torch.no_grad():
        z = far_and_wide(model)
        rendered = model.render(z, torch.tensor(step) < model.config.mask_until)  # type: ignore[attr-defined]
        assert torch.allclose(rendered, decode_literally(model, z, early), atol=1e-4)


def test_no_curriculum_is_neither_masks_nor_weight() -> None:
    model, x = somewhat_trained(), torch.rand(2, 3, 64, 64)
    without = GNM(ArrowConfig(curriculum="off"), HALF)
    without.load_state_dict(model.state_dict())
    losses = []
    for each in (model, without):
        torch.manual_seed(1)
        losses.append(each.loss(x, torch.tensor(0.0)))
    assert losses[1][1]["beta_background"] == 1
    assert losses[1][1]["beta_where"] == 10
    assert losses[1][1]["log_likelihood"] != losses[0][1]["log_likelihood"]
    torch.manual_seed(1)
    later, _ = model.loss(x, torch.tensor(499.0))
    assert without.loss(x, torch.tensor(499.0))[1]["log_likelihood"].isfinite()
    assert later.isfinite()


def test_the_supplements_curriculum_fills_boxes_and_leaves_the_rest() -> None:
    model = somewhat_trained(ArrowConfig(curriculum="boxes"))
    with torch.no_grad():
        z = model.prior(1)
        z_pres = torch.zeros(1, 16, 1)
        z_pres[0, 5] = 1
        z = z._replace(z_pres=z_pres)
        image = model.render(z, torch.tensor(True))
        background = background_of(model, z)
        colour, _ = glimpse_of(model, z, 5)
        box = paste_of(model, z, 5, torch.ones_like(colour))
        colour = paste_of(model, z, 5, colour)
    expected = 0.9 * colour + 0.1 * background
    assert torch.allclose(image[box == 1], expected[box == 1], atol=1e-5)
    assert torch.equal(image[box == 0], background[box == 0])
    assert 0.02 < (box == 1).float().mean() < 0.5


def test_background_terms_reach_their_networks() -> None:
    model = somewhat_trained()
    _, terms = model.loss(torch.rand(2, 3, 64, 64), torch.tensor(600.0))
    for term, parts in (("kl_background", ("of_image", "of_global")), ("aux_background", ("of_image",))):  # fmt: skip
        for part in parts:
            weight = model.background.get_submodule(part).get_parameter("0.weight")
            (gradient,) = torch.autograd.grad(terms[term], weight, retain_graph=True)
            assert gradient.abs().sum() > 0


# The likelihood.


@pytest.mark.parametrize("presence", ["discrete", "relaxed"])
def test_log_weights_score_all_that_was_drawn(presence: str) -> None:
    """Every latent by torch.distributions, the background among them, at the same draws."""
    model, x = somewhat_trained(ArrowConfig(presence=presence)), torch.rand(2, 3, 64, 64)  # type: ignore[arg-type]
    with torch.no_grad():
        model.temperature.fill_(0.5)
        torch.manual_seed(2)
        weights = model.log_weights(x, 3)
        torch.manual_seed(2)
        repeated = model.encoder(x).repeat(3, 1, 1, 1)
        drawing = model.global_latent(repeated, 4, 6)
        q, p = model.local(repeated), model.local(drawing.f)
        q_b, p_b = model.background.posterior(repeated), model.background.prior(torch.stack(drawing.z, 1))  # fmt: skip
        u = torch.rand_like(q.pres.logit)
        z_pres = (u < q.pres.logit.sigmoid()).float()
        if presence == "relaxed":
            z_pres = ((q.pres.logit + u.logit()) / 0.5).sigmoid()
        z = Latents(
            torch.stack(drawing.z, 1), z_pres, q.where.sample(), q.depth.sample(), q.what.sample(), q_b.sample()
        )  # fmt: skip
        expected = image_log_prob(x.repeat(3, 1, 1, 1), decode_literally(model, z), 0.2)
        for sign, (g, s, b) in {1: (drawing.prior, p, p_b), -1: (drawing.posterior, q, q_b)}.items():  # fmt: skip
            parts = [(D.Normal(*each), z_l) for each, z_l in zip(g, drawing.z, strict=True)]
            parts += [(D.Normal(*s.where), z.z_where), (D.Normal(*s.depth), z.z_depth)]
            parts += [(D.Normal(*s.what), z.z_what), (D.Normal(*b), z.z_background)]
            for distribution, value in parts:
                expected = expected + sign * distribution.log_prob(value).flatten(1).sum(1)
            pi = s.pres.logit.sigmoid()
            mass = z_pres * pi.log() + (1 - z_pres) * (-s.pres.logit).sigmoid().log()
            expected = expected + sign * mass.flatten(1).sum(1)
    assert torch.allclose(weights.view(-1), expected, rtol=1e-4)


def test_more_particles_tighten_the_bound_and_none_passes_the_ceiling() -> None:
    model, x = somewhat_trained(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        bounds = [
            torch.stack([model.log_marginal(x, particles) for _ in range(repeats)]).mean()
            for particles, repeats in ((1, 20), (10, 8), (100, 1))
        ]
    assert bounds[0] <= bounds[1] <= bounds[2] < ceiling(3 * 64 * 64, 0.2)
    perfect = torch.rand(1, 3, 128, 128)
    assert image_log_prob(perfect, perfect, 0.2).item() == pytest.approx(33_939.43, abs=0.01)


# What the latents mean.


def test_located_boxes_are_what_decoding_paints() -> None:
    model = somewhat_trained(data=ARROW)
    with torch.no_grad():
        x = torch.rand(1, 3, 128, 128)
        f_x = model.encoder(x)
        q = model.local(f_x)
        z_pres = torch.zeros(1, 16, 1)
        z_pres[0, 6] = 1
        z = Latents(f_x, z_pres, q.where.mean, q.depth.mean, q.what.mean, torch.zeros(1, 10))
        difference = (model.decode(z) - background_of(model, z))[0].abs().sum(0)
        ys, xs = torch.nonzero(difference > 0.05, as_tuple=True)
        painted = [xs.min().item(), ys.min().item(), xs.max().item() + 1, ys.max().item() + 1]
        assert painted == pytest.approx(model.locate(x).box[0, 6].tolist(), abs=2.5)


@pytest.mark.parametrize("source", ["posterior", "prior"])
def test_resampling_draws_the_background_anew(source: str) -> None:
    model = somewhat_trained()
    with torch.no_grad():
        model.local.pres.get_parameter("bias").fill_(
            -20
        )  # no objects: what is seen is the background
        x = torch.rand(2, 3, 64, 64) if source == "posterior" else None
        images = model.resample(x, 2, 3)
    assert images.shape == (2, 3, 3, 64, 64)
    assert (images[:, 0] - images[:, 1]).abs().amax((1, 2, 3)).min() > 0.01


@pytest.mark.parametrize("rendering", ["code", "paper", "mnist"])
def test_a_decomposition_adds_up_to_the_image(rendering: str) -> None:
    if rendering == "mnist":
        data = DatasetInfo("mnist4", (1, 64, 64))
        model = GNM(GNMConfig(), data)
    else:
        data = HALF
        model = somewhat_trained(ArrowConfig(rendering=rendering))  # type: ignore[arg-type]
    with torch.no_grad():
        model.local.where.get_parameter("bias")[0] = 0.5  # large boxes overlap
        x = torch.rand(2, *data.shape)
        torch.manual_seed(4)
        mask, component = model.decompose(x)
        torch.manual_seed(4)
        z = model.infer(x)
        assert z.z_pres.min() == 0  # some are absent
        image = model.decode(z)
    assert mask.shape == (2, 17, 1, 64, 64)
    assert component.shape == (2, 17, *data.shape)
    assert mask.min() >= 0
    assert torch.allclose(mask.sum(1), torch.ones(2, 1, 64, 64), atol=1e-5)
    assert torch.allclose((mask * component).sum(1), image, atol=1e-5)
    if rendering == "code":
        assert component.min() >= 0
        assert component.max() <= 1 + 1e-5
    absent = z.z_pres[..., 0] == 0
    assert mask[:, :-1][absent].max() == 0


def test_one_object_moves_by_as_many_pixels_as_asked_and_the_rest_stays() -> None:
    model = GNM(GNMConfig(), DatasetInfo("mnist4", (1, 64, 64)))
    with torch.no_grad():
        list(model.object_decoder.parameters())[-1].fill_(-4)  # dim: overlaps stay below 1
        model.local.pres.get_parameter("bias").fill_(20)  # all present
        x, shifts = torch.rand(2, 1, 64, 64), torch.tensor([[0.0, 0.0], [5.0, -3.0], [500.0, 0.0]])
        images = model.move(x, torch.tensor([5, 10]), shifts)
        f_x = model.encoder(x)
        q = model.local(f_x)
        for b, cell in enumerate((5, 10)):
            one = torch.zeros(1, 16, 1)
            one[0, cell] = 1
            where, depth, what = (part.mean[b : b + 1] for part in (q.where, q.depth, q.what))
            z = Latents(f_x[:1], one, where, depth, what, torch.zeros(1, 0))
            alone = model.decode(z)[0]
            rest = images[b, 0] - alone
            rolled = torch.roll(alone, (-3, 5), (1, 2))
            assert torch.allclose(images[b, 1], rest + rolled, atol=1e-4)
        far, _ = model.box(q.where.mean)
        assert images[:, 2].isfinite().all()
        assert far.isfinite().all()
        assert not torch.allclose(images[:, 2], images[:, 0], atol=1e-3)  # at the edge of its reach


@pytest.mark.parametrize("options", [{}, {"global_prior": "gaussian"}, {"interaction": "cnn"}])
def test_interpolation_begins_and_ends_at_its_images(options: dict[str, str]) -> None:
    model = somewhat_trained(ArrowConfig(**options))  # type: ignore[arg-type]
    x0, x1 = torch.rand(2, 2, 3, 64, 64)
    with torch.no_grad():
        torch.manual_seed(6)
        images = model.interpolate(x0, x1, 5)
        assert images.shape == (2, 5, 3, 64, 64)
        torch.manual_seed(6)
        for place, x in ((0, x0), (-1, x1)):
            z = model.infer(x).z_global
            f = model.global_latent.replay(list(z.unbind(1)))
            expected = model.decode(model.mode(z, f)).clamp(0, 1)
            assert torch.allclose(images[:, place], expected, atol=1e-4)


# Training.


def squares(n: int) -> Tensor:
    """Coloured squares of 12 pixels, up to three, on grey: (n, 3, 64, 64)."""
    image = torch.full((n, 3, 64, 64), 0.6)
    for each in image:
        for _ in range(int(torch.randint(1, 4, ()))):
            x, y = torch.randint(2, 50, (2,)).tolist()
            each[:, y : y + 12, x : x + 12] = torch.rand(3, 1, 1)
    return image


def train(model: GenerativeModel[Latents], images: Tensor, steps: int, scale: float) -> list[float]:
    optimizer, losses = torch.optim.RMSprop(model.parameters(), lr=1e-4), []
    for step in range(steps):
        x = images[torch.randint(len(images), (4,))]
        optimizer.zero_grad()
        loss, terms = model.loss(x, torch.tensor(step / scale))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert math.isfinite(loss.item())
        assert math.isfinite(terms["present"].item())
        losses.append(-terms["log_likelihood"].item())
    return losses


def test_training_explains_coloured_squares_better_than_before() -> None:
    losses = train(GNM(ArrowConfig(), HALF), squares(32), 30, 0.01)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
