"""SPACE to the unit: parameters, likelihood, objective and weights against the straightforward code."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reprise.baselines._space_background import Background, BroadcastDecoder
from reprise.baselines._space_foreground import Foreground
from reprise.baselines.space import SPACE, SPACEConfig
from reprise.core.dataset import DatasetInfo
from reprise.core.errors import UsageError
from reprise.core.run import Run
from reprise.core.spec import dataset, model
from reprise.nn.distributions import ceiling
from reprise.training import checkpoint
from reprise.training.engine import choose, computing
from reprise.training.fit import fit

from .straightforward_space import broadcast_literally, straightforward_space
from .test_fast_and_straightforward import loss_and_gradients
from .test_gnm import count

RGB = DatasetInfo("rgb", (3, 128, 128), "rgb", objects=4)
SMALL = DatasetInfo("rgb", (3, 64, 64), "rgb", objects=4)


def made(data: DatasetInfo, **changes: Any) -> SPACE:
    """SPACE by its recipe, somewhat trained: no parameter is zero."""
    space = SPACE(dataclasses.replace(SPACE.recipe(data).config, **changes), data)
    with torch.no_grad():
        for parameter in space.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return space


def smooth(batch: int, data: DatasetInfo) -> Tensor:
    """Images without detail: where a box's pixel falls between two of the image, a rounding error turns a gradient."""
    coarse = torch.rand(batch, data.shape[0], 8, 8)
    return nn.functional.interpolate(coarse, size=data.shape[1:], mode="bicubic").clamp(0, 1)


def test_every_part_has_the_measured_number_of_parameters() -> None:
    """2,358,191 with the authors' 1,024 constants of the boundary loss, which are a buffer here."""
    space = SPACE(SPACEConfig(), RGB)
    assert count(space.foreground) == 2_358_191 - 1_024
    assert space.foreground.frame.numel() == 1_024
    assert count(Background(3, 128, 5)) == 2_950_484
    assert count(space) + 1_024 == 5_308_675
    assert count(SPACE(SPACEConfig(components=1), RGB)) + 1_024 == 7_689_939


@pytest.mark.parametrize("grid", [4, 8, 16])
def test_all_grids_have_the_same_parameters_and_their_cells(grid: int) -> None:
    net = Foreground(3, 128, grid, 32, 8.8)
    assert count(net) == 2_357_167
    assert net(torch.rand(1, 3, 128, 128)).where.mean.shape == (1, grid**2, 4)
    _, centre = net.box(torch.zeros(1, grid**2, 4))
    assert torch.allclose(centre[0, 1] - centre[0, 0], torch.tensor([2 / grid, 0.0]))  # row-major


def test_grids_and_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.grid=5"):
        SPACE(SPACEConfig(grid=5), RGB)
    with pytest.raises(UsageError, match=r"model\.grid=16 does not fit an image of 64"):
        SPACE(SPACEConfig(grid=16), SMALL)
    with pytest.raises(UsageError, match="space is configured for grey or RGB"):
        SPACE.recipe(DatasetInfo("tiny", (1, 28, 28)))


# The straightforward code: (data, changes of the recipe's config).
CASES: list[tuple[DatasetInfo, dict[str, Any]]] = [
    (RGB, {"components": 2}),
    (SMALL, {"components": 1}),
    (SMALL, {"grid": 8, "components": 3}),
    (DatasetInfo("mnist4", (1, 128, 128)), {}),
    (DatasetInfo("digits4", (1, 64, 64)), {}),
    (DatasetInfo("digits4", (1, 64, 64)), {"kl": "all", "temperature_end": 0.5}),
]


def compared(space: SPACE, x: Tensor) -> dict[str, float]:
    """Relative errors to the straightforward code: of the loss, and of every layer's gradients."""
    plain = straightforward_space(space)
    theirs = loss_and_gradients(plain.train(), x, 5_000.0)
    engine = choose("cpu", "fp32", 1)
    with computing(engine):
        ours = loss_and_gradients(
            engine.place(space).train(), x.to(memory_format=torch.channels_last), 5_000.0
        )
    # What no gradient reaches: what decodes masks when there is one component only, and a prior's unused steps.
    assert ours.keys() <= theirs.keys()
    assert all(theirs[name].abs().max() == 0 for name in theirs.keys() - ours.keys())
    errors = {}
    for layer in sorted({name.rpartition(".")[0] or name for name in ours}):
        names = [name for name in ours if (name.rpartition(".")[0] or name) == layer]
        expected = torch.cat([theirs[name].flatten() for name in names])
        error = torch.cat([ours[name].flatten() for name in names]) - expected
        errors[layer] = float(error.norm() / expected.norm())
    mine = dict(space.named_buffers())
    for name, buffer in plain.named_buffers():
        assert torch.allclose(mine[name].float(), buffer.float(), rtol=1e-4, atol=1e-5), name
    return errors


@pytest.mark.parametrize(("data", "changes"), CASES)
def test_loss_and_every_gradient_are_those_of_the_straightforward_code(
    data: DatasetInfo, changes: dict[str, Any]
) -> None:
    """In fp64. In fp32 a softmax over importances of up to 100, and samples that fall to another side of a pixel's
    centre, leave more than rounding in single gradients of either code.
    """
    space = made(data, **changes).double()
    errors = compared(space, torch.rand(2, *data.shape, dtype=torch.float64))
    assert max(errors.values()) < 1e-6, max(errors, key=lambda name: errors[name])


@pytest.mark.parametrize(("data", "changes"), [(SMALL, {}), *CASES[3:]])
def test_in_fp32_they_agree_within_rounding(data: DatasetInfo, changes: dict[str, Any]) -> None:
    errors = compared(made(data, **changes), smooth(2, data))
    assert errors["loss"] < 1e-5
    assert sorted(errors.values())[len(errors) // 2] < 1e-4


@pytest.mark.parametrize(("data", "changes"), [*CASES[1:3], CASES[4]])
def test_log_weights_are_those_of_torch_distributions(
    data: DatasetInfo, changes: dict[str, Any]
) -> None:
    """Importance weights against the fixed priors at their final values and the background's conditional ones."""
    space = made(data, **changes)
    x = torch.rand(2, *data.shape)
    space.train().loss(x, torch.tensor(0.0))  # moves BatchNorm's running statistics
    plain = straightforward_space(space).eval()
    space.eval()
    weights = []
    with torch.no_grad():
        for each in (space, plain):
            torch.manual_seed(1)
            weights.append(each.log_weights(x, 3))
    assert weights[0].shape == (3, 2)
    assert torch.allclose(weights[0], weights[1], rtol=1e-5)


@pytest.mark.parametrize(("kl", "pays"), [("present", False), ("all", True)])
def test_whether_a_cell_without_an_object_pays_for_its_other_latents(kl: str, pays: bool) -> None:
    """The paper's prior and the authors' code; on a black image of which no cell says that there is anything."""
    data = DatasetInfo("digits4", (1, 64, 64))
    space = made(data, kl=kl, temperature_end=0.05).eval()
    with torch.no_grad():
        state = space.state_dict()
        state["foreground.pres.weight"].zero_()
        state["foreground.pres.bias"].fill_(-100)
    x, late = torch.zeros(2, 1, 64, 64), torch.tensor(1e9)
    with torch.no_grad():
        before = space.log_weights(x, 1), space.loss(x, late)[1]["kl_where"]
        state["foreground.shift.bias"] += 1.0  # elsewhere, and farther from the prior
        after = space.log_weights(x, 1), space.loss(x, late)[1]["kl_where"]
    assert (not torch.allclose(before[0], after[0], atol=0.1)) == pays
    assert (float(after[1]) > 1) == pays


def test_the_relaxed_reading_of_the_weights_is_another_number() -> None:
    data = DatasetInfo("digits4", (1, 64, 64))
    space = made(data).eval()
    relaxed = SPACE(dataclasses.replace(space.config, presence="relaxed"), data).eval()
    relaxed.load_state_dict(space.state_dict())
    x = torch.rand(2, 1, 64, 64)
    weights = []
    with torch.no_grad():
        for each in (space, relaxed):
            torch.manual_seed(1)
            weights.append(each.log_weights(x, 1))
    assert not torch.allclose(weights[0], weights[1], rtol=1e-3)


def test_more_particles_tighten_the_bound() -> None:
    data = DatasetInfo("digits4", (1, 64, 64))
    space = made(data).eval()
    with torch.no_grad():
        weights = space.log_weights(torch.rand(4, 1, 64, 64) * 0.1, 100)
    elbo = weights.mean(0)
    ten = (weights.view(10, 10, -1).logsumexp(1) - math.log(10)).mean(0)
    hundred = weights.logsumexp(0) - math.log(100)
    assert elbo.mean() <= ten.mean() <= hundred.mean()


def test_likelihoods_of_a_training_batch_are_refused() -> None:
    space = SPACE(SPACEConfig(components=2), SMALL)
    with pytest.raises(UsageError, match=r"call model\.eval\(\) first"):
        space.log_weights(torch.rand(1, 3, 64, 64), 1)


@pytest.mark.parametrize("components", [0, 1, 3])
def test_a_perfect_picture_has_the_ceiling_as_its_likelihood_and_nothing_more(
    components: int,
) -> None:
    """The weights of the mixture, 1e-5 added to each, still sum to 1: p(x | z) is a density."""
    data = DatasetInfo("rgb", (3, 64, 64))
    space = SPACE(SPACEConfig(components=components, sigma=0.2, background_sigma=0.2), data).eval()
    x = torch.zeros(2, *data.shape)
    with torch.no_grad():
        layers = space.foreground.render(*space.infer(x)[:4])._replace(mean=x)
        scene = space.background(x) if space.background is not None else None
        if scene is not None:
            scene = scene._replace(component=torch.zeros_like(scene.component))
        value = space._log_likelihood(x, layers, scene)
    assert value.tolist() == pytest.approx([ceiling(3 * 64 * 64, 0.2)] * 2, rel=1e-6)


@pytest.mark.parametrize(("data", "changes"), [*CASES[1:3], CASES[4]])
def test_masks_sum_to_one_and_with_their_components_are_the_mean_image(
    data: DatasetInfo, changes: dict[str, Any]
) -> None:
    space = made(data, **changes).eval()
    x = torch.rand(2, *data.shape)
    with torch.no_grad():
        torch.manual_seed(1)
        mask, component = space.decompose(x)
        torch.manual_seed(1)
        image = space.decode(space.infer(x))
    layers = space.config.grid**2 + max(space.config.components, 1)
    assert mask.shape == (2, layers, 1, *data.shape[1:])
    assert component.shape == (2, layers, *data.shape)
    assert mask.min() >= 0
    assert torch.allclose(mask.sum(1), torch.ones_like(mask[:, 0]), atol=1e-5)
    assert torch.allclose((mask * component).sum(1), image, atol=1e-5)


def test_the_nearer_object_covers_the_farther_one() -> None:
    space = made(SMALL)
    z_where = torch.zeros(1, 16, 4)
    z_where[:, :, 2:] = (
        -20.0 * (space.foreground.cell - 2).sign()
    )  # every box as near the middle as it can be
    z_pres, z_depth = torch.zeros(1, 16, 1), torch.zeros(1, 16, 1)
    z_pres[:, [5, 10]] = 1
    z_depth[:, 5], z_depth[:, 10] = -3.0, 3.0
    nn.init.zeros_(space.foreground.opacity.weight)
    space.foreground.opacity.bias = nn.Parameter(torch.full((1,), 5.0))
    cover = space.foreground.cover(z_pres, z_where, z_depth, torch.randn(1, 16, 32))
    assert cover[0, 5, 0, 30:34, 30:34].min() > 0.98
    assert cover[0, 10, 0, 30:34, 30:34].max() < 0.01


def test_a_vector_and_a_map_go_through_batchnorm_apart() -> None:
    """The first layer of the broadcast decoder never forms its input; outputs and running statistics are the same."""
    decoder = BroadcastDecoder(3, 16)
    assert not decoder.first.weight.requires_grad or decoder.first.weight.shape == (32, 34, 3, 3)
    twin = BroadcastDecoder(3, 16)
    twin.load_state_dict(decoder.state_dict())
    for training in (True, False):
        z = torch.randn(7, 32)
        ours, theirs = decoder.train(training)(z), broadcast_literally(twin.train(training), z)
        assert ours.shape == (7, 3, 16, 16)
        assert torch.allclose(ours, theirs, atol=1e-5)
    for name, buffer in twin.named_buffers():
        assert torch.allclose(dict(decoder.named_buffers())[name], buffer, rtol=1e-5, atol=1e-6)


SCHEDULE = [  # step, rho, mean of the scale, tau: the rooms' released settings
    (0, 0.1, -1.0, 2.5), (4_000, 0.1, -1.0, 2.1), (7_000, 0.055, -1.0, 1.8), (10_000, 0.01, -1.0, 1.5),
    (15_000, 0.01, -1.5, 1.0), (20_000, 0.01, -2.0, 0.5), (160_000, 0.01, -2.0, 0.5),
]  # fmt: skip


@pytest.mark.parametrize(("step", "rate", "scale", "temperature"), SCHEDULE)
def test_schedules(step: float, rate: float, scale: float, temperature: float) -> None:
    space = SPACE(SPACEConfig(components=0), SMALL)
    now, where, _ = space._fixed_priors(torch.tensor(float(step)))
    assert now.item() == pytest.approx(rate, rel=1e-5)
    assert where.mean.tolist() == pytest.approx([scale, scale, 0, 0])
    assert where.std.tolist() == pytest.approx([0.1, 0.1, 1, 1])
    space.loss(torch.rand(1, 3, 64, 64), torch.tensor(float(step)))
    assert space.state_dict()["temperature"].item() == pytest.approx(temperature)


@pytest.mark.parametrize(("step", "rate"), [(0, 0.1), (2_000, 0.0505), (4_000, 1e-3), (50_000, 1e-3)])  # fmt: skip
def test_schedules_on_grey_images_are_gnms(step: float, rate: float, mnist4: DatasetInfo) -> None:
    space = SPACE(SPACE.recipe(mnist4).config, mnist4)
    now, where, _ = space._fixed_priors(torch.tensor(float(step)))
    assert now.item() == pytest.approx(rate, rel=1e-5)
    assert where.mean.tolist() == pytest.approx([-1.6, -1.6, 0, 0])
    _, terms = space.loss(torch.rand(1, 1, 128, 128), torch.tensor(float(step)))
    assert "boundary" not in terms
    assert "kl_mask" not in terms


def test_the_boundary_loss_is_for_its_first_steps() -> None:
    space, x = made(SMALL, components=0), torch.rand(1, 3, 64, 64)

    def difference(step: float) -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            total, terms = space.loss(x, torch.tensor(step))
        kl = sum(value for name, value in terms.items() if name.startswith("kl"))
        return float((total + terms["log_likelihood"] - kl).item() / terms["boundary"].item())

    assert difference(99_999.0) == pytest.approx(1.0, rel=1e-4)
    assert difference(100_000.0) == pytest.approx(0.0, abs=1e-4)


def test_a_box_well_around_its_object_costs_nothing_and_one_that_cuts_it_does() -> None:
    """The object: a disc's worth of alpha in the middle of cell 5's box, or all over it."""
    net = Foreground(3, 128, 4, 32, 8.8)
    z_pres, z_where = torch.zeros(1, 16, 1), torch.zeros(1, 16, 4)
    z_pres[:, 5] = (
        1  # centre (48, 48), extent sigmoid(0) = 64 pixels: rows and columns 16..79, the frame 12 wide
    )
    floor: float = 128**2 * -torch.distributions.Normal(0.0, 0.7).log_prob(torch.zeros(())).item()

    def excess(low: int, high: int) -> float:
        alpha = torch.zeros(1, 1, 128, 128)
        alpha[..., low:high, low:high] = 1
        return float(net.boundary_loss(z_pres, z_where, alpha).item()) - floor

    assert excess(32, 64) == pytest.approx(0, abs=0.05)
    inside_frame = (1000 / 1024) ** 2 / (
        2 * 0.7**2
    )  # nats per pixel of the frame that the object reaches
    # its outermost and innermost rings of pixels blend with what is beside them, as every pasted edge does
    assert inside_frame * (62**2 - 42**2) < excess(16, 80) < inside_frame * (64**2 - 40**2)
    z_pres.zero_()
    assert excess(16, 80) == pytest.approx(0, abs=0.05)


def test_samples_have_the_priors_rate_of_presence(mnist4: DatasetInfo) -> None:
    config = dataclasses.replace(SPACE.recipe(mnist4).config, rate_end=0.25)
    z = SPACE(config, mnist4).prior(500)
    assert z.z_pres.mean().item() == pytest.approx(0.25, abs=0.02)
    assert z.z_where.mean((0, 1)).tolist() == pytest.approx([-1.6, -1.6, 0, 0], abs=0.05)
    assert z.z_where.std((0, 1)).tolist() == pytest.approx([0.1, 0.1, 1, 1], rel=0.05)
    assert z.z_mask.shape == (500, 0, 32)


def test_boxes_are_in_pixels_and_presence_in_the_unit_interval(mnist4: DatasetInfo) -> None:
    space = made(mnist4).eval()
    with torch.no_grad():
        box, presence, what = space.locate(torch.rand(2, *mnist4.shape))
    assert box.shape == (2, 16, 4)
    assert what.shape == (2, 16, 20)
    extent = box[..., 2:] - box[..., :2]
    assert ((extent > 0) & (extent < 128)).all()
    middle = (box[..., 2:] + box[..., :2])[0, 5] / 2
    assert (
        (middle > 16) & (middle < 80)
    ).all()  # cell (1, 1) spans 32..64; a centre moves one cell at most
    assert ((presence > 0) & (presence < 1)).all()


def test_the_foreground_has_rmsprop_and_the_background_adam() -> None:
    space = SPACE(SPACEConfig(components=2), SMALL)
    optimizer = choose("cpu").optimizer(space, SPACE.recipe(SMALL).training)
    first, second = optimizer.param_groups
    assert (first["lr"], second["lr"]) == (1e-5, 1e-3)
    assert "alpha" in first
    assert "betas" in second
    assert sum(p.numel() for p in first["params"]) == count(space.foreground)


def test_a_run_with_two_optimisers_that_is_interrupted_ends_in_the_same_weights(
    tmp_path: Path,
) -> None:
    run = Run(
        model("space", components=2),
        dataset("scenes", rule="mnist4", source="digits", canvas=64, train=8),
        (("steps", 6), ("batch_size", 2)),
    )
    engine = choose("cpu", "fp32", 1)
    assert fit(run, engine, tmp_path / "whole").status == "finished"
    calls = 0

    def every_second() -> bool:
        nonlocal calls
        calls += 1
        return calls % 2 == 0

    while fit(run, engine, tmp_path / "parts", stop=every_second).status == "stopped":
        pass
    ends = [checkpoint.load(tmp_path / name / checkpoint.FILE, run) for name in ("whole", "parts")]
    whole, parts = (end.model for end in ends if end is not None)
    assert calls >= 6
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def _moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_one_update_moves_both_parts() -> None:
    space = made(SMALL, components=2)
    engine, training = choose("cpu", "fp32"), SPACE.recipe(SMALL).training
    optimizer = engine.optimizer(space, training)
    before = {name: p.detach().clone() for name, p in space.named_parameters()}
    engine.update(space, optimizer, torch.rand(2, 3, 64, 64), torch.tensor(0.0), 1.0)
    assert _moved(before, dict(space.named_parameters())) == {"foreground", "background"}
