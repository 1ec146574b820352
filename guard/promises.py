"""What must hold whatever is changed: laws and known answers, all of them together in seconds.

Each promise is a function that raises AssertionError when it is broken; its docstring is what it promises. They use
nothing but public interfaces and what is known without this repository: closed forms, scipy, torch's distributions.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, distributions, nn

from ..baselines.convdraw import ConvDRAW
from ..baselines.genesis import GENESIS
from ..baselines.ppca import PPCA, PPCAConfig
from ..baselines.vae import VAE
from ..core import spec
from ..core.dataset import SPLITS, Dataset, DatasetInfo, Examples, Split
from ..core.detection import Detections, eleven_points, intersection_over_union
from ..core.metric import Measurement
from ..core.model import GenerativeModel, Recipe, Training
from ..core.order import order_agreement
from ..core.randomness import seeded
from ..core.results import PublishedValue, ResultRow
from ..core.run import Run
from ..core.verdict import Verdict, judge, margin_of
from ..data.scenes import Scenes
from ..launch.work import trained
from ..metrics._judge_finder import Found
from ..metrics._judge_rules import displacement
from ..metrics.log_marginal import LogMarginal
from ..metrics.structure_accuracy import Judge, StructureAccuracy
from ..models.gnm import GNM
from ..nn.distributions import Bernoulli, Gaussian, image_log_prob, linear
from ..render.check import Outcome, Tolerance, check
from ..training import checkpoint
from ..training.engine import choose
from ..training.fit import fit

SMALL = DatasetInfo("dots8", (1, 8, 8), objects=1)
HALF = DatasetInfo("half64", (1, 64, 64), objects=4)
NO_LIKELIHOOD = 1e6  # a sigma so large that every image is as likely as any other


def close(found: Any, expected: Any, within: float = 1e-5) -> None:
    """Raise AssertionError unless all numbers agree, relatively or absolutely."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    assert np.allclose(found, expected, rtol=within, atol=within), f"{found}, not {expected}"


# Something to train and to measure, of no size.


class Point(NamedTuple):
    """z: (B, 1)."""

    z: Tensor


@dataclass(frozen=True)
class ProbeConfig:
    """dropout: of a layer that only trains."""

    dropout: float = 0.1


class Probe(GenerativeModel[Point]):
    """Remembers every step it was shown and which images; learns one number per pixel."""

    steps: Tensor
    shown: Tensor
    shown_so_far: Tensor

    def __init__(self, config: ProbeConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.config, self.shape = config, data.shape
        self.mean = nn.Parameter(torch.zeros(data.shape))
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("steps", torch.full((16,), math.nan))
        self.register_buffer("shown", torch.zeros(16))
        self.register_buffer("shown_so_far", torch.zeros((), dtype=torch.int64))

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """Eight steps, schedules squeezed to a quarter, a gradient that is clipped."""
        training = Training(8, 4, "rmsprop", lr=0.01, clip_norm=0.5, time_scale=0.25)
        return Recipe(ProbeConfig(), training)

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error, with noise."""
        at = int(self.shown_so_far)
        self.steps[at], self.shown[at] = step, x.mean()
        self.shown_so_far.add_(1)
        noisy = self.dropout(self.mean.expand_as(x)) + 0.1 * torch.randn_like(x)
        loss = 100 * (x - noisy).square().mean()
        return loss, {"error": loss}

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """No use is made of it."""
        return -(x - self.mean).square().flatten(1).sum(1).expand(particles, -1)

    def prior(self, n: int) -> Point:
        """Standard normal."""
        return Point(torch.randn(n, 1))

    def infer(self, x: Tensor) -> Point:
        """Standard normal."""
        return self.prior(len(x))

    def decode(self, z: Point) -> Tensor:
        """Far outside [0, 1]."""
        return self.mean + 5 * z.z[:, :, None, None]


@dataclass(frozen=True)
class Dots(Dataset):
    """Three splits of noise; `asked` hears which of them is read."""

    @property
    def info(self) -> DatasetInfo:
        """8 x 8."""
        return SMALL

    def split(self, name: Split) -> Examples:
        """20 images, brighter from split to split."""
        ASKED.append(name)
        brightness = {"train": 40, "valid": 120, "test": 200}[name]
        random = np.random.default_rng(brightness)
        image = random.integers(brightness - 40, brightness + 40, (20, 1, 8, 8), dtype=np.uint8)
        return Examples(image)

    @property
    def digest(self) -> str:
        """Never changes."""
        return "0" * 12


ASKED: list[str] = []


def probe(**training: Any) -> Run:
    """A run of the probe on the dots."""
    return Run(
        spec.model(f"{__name__}:Probe"),
        spec.dataset(f"{__name__}:Dots"),
        tuple(sorted(training.items())),
    )


def fitted(run: Run, folder: Path, **options: Any) -> Probe:
    """The probe with the weights that training leaves."""
    engine = choose("cpu", "fp32", 1)
    fit(run, engine, folder, **options)
    weights = checkpoint.load(folder / checkpoint.FILE, run)
    assert weights is not None
    model = trained(run, weights, engine)
    assert isinstance(model, Probe)
    return model


def ruler(widen: float = 1.0) -> PPCA:
    """A model whose log p(x) is known."""
    with seeded(1):
        model = PPCA(PPCAConfig(latent=3, widen=widen), SMALL)
        model.weight.data *= 5
    return model


def row(value: float | None, seed: int = 0, **changes: Any) -> ResultRow:
    """A result of tier `paper`."""
    base = ResultRow(protocol="p", tier="paper", model="A", train="", dataset="D", metric="M")
    return dataclasses.replace(base, value=value, seed=seed, better="higher", **changes)


def printed(text: str, **changes: Any) -> PublishedValue:
    """A published value of the same cell."""
    return PublishedValue(
        model="A", dataset="D", metric="M", value=float(text), printed=text, better="higher", **changes
    )  # fmt: skip


# Training.


def schedules_are_read_at_the_published_step() -> None:
    """Step t of training is shown to the model as t / time_scale, beginning with 0."""
    with tempfile.TemporaryDirectory() as folder:
        close(fitted(probe(), Path(folder)).steps[:8], 4.0 * np.arange(8))
    between = linear(torch.tensor([0.0, 10.0, 15.0, 20.0, 30.0]), 1.0, 3.0, 10, 20)
    close(between, [1, 1, 2, 3, 3])


def an_interrupted_run_is_the_uninterrupted_one() -> None:
    """Training that was stopped and called again sees the same batches and ends in the same weights."""
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        whole = fitted(probe(), Path(a))
        left = iter([False, False, True])
        fit(probe(), choose("cpu", "fp32", 1), Path(b), stop=lambda: next(left))
        again = fitted(probe(), Path(b))
    assert torch.equal(whole.shown, again.shown), "other batches"
    assert torch.equal(whole.mean, again.mean), "other weights"


def every_epoch_shows_every_image_once() -> None:
    """Batches of one epoch are disjoint and together the training split."""
    images = Dots().split("train").image[:].mean((1, 2, 3)) / 255
    with tempfile.TemporaryDirectory() as folder:
        shown = fitted(probe(batch_size=1, steps=16), Path(folder)).shown
    assert len(set(np.round(np.asarray(shown), 5))) == 16, "an image came twice in an epoch"
    assert all(np.abs(images - float(one)).min() < 1e-4 for one in shown), "not a training image"


def gradients_are_clipped() -> None:
    """No update is made of gradients longer than clip_norm, and the length before is what is logged."""
    engine = choose("cpu", "fp32", 1)
    with seeded(0):
        model = Probe(ProbeConfig(), SMALL)
        training = Training(1, 4, "rmsprop", clip_norm=0.5)
        optimizer = engine.optimizer(model, training)
        terms = engine.update(model, optimizer, torch.ones(4, 1, 8, 8), torch.zeros(()), 0.5)
    assert model.mean.grad is not None
    assert float(terms["gradient_norm"]) > 1
    close(model.mean.grad.norm(), 0.5, 1e-3)


def measured_models_are_in_evaluation_mode() -> None:
    """Nothing that only trains (dropout) is active when a model is measured."""
    with tempfile.TemporaryDirectory() as folder:
        assert not fitted(probe(steps=1), Path(folder)).training


# Likelihoods.


def a_known_likelihood_is_measured() -> None:
    """log p(x) of a model whose log p(x) is known: exactly when q is the posterior, nearly with many particles else."""
    data, x = Dots(), torch.from_numpy(Dots().split("test").image[:]).float() / 255
    with seeded(3), torch.no_grad():
        exact = ruler().exact_log_marginal(x)
        close(ruler().log_marginal(x, 7), exact)
        close(ruler().elbo(x, 7), exact)
        close(LogMarginal(particles=7)(ruler(), data).value, exact.mean())
        wide = ruler(1.3)
        truth = wide.exact_log_marginal(x).mean()
        close(wide.log_marginal(x, 4000).mean(), truth, 1e-3)
        measured = LogMarginal(particles=4000)(wide, data)
        close(measured.value, truth, 1e-3)
        assert measured.arrays["elbo"].mean() < measured.value - 0.05, "a bound above the number"


def metrics_read_the_test_split_alone() -> None:
    """A likelihood is that of test images: neither training nor validation images are read."""
    with seeded(0), torch.no_grad():
        ASKED.clear()
        LogMarginal(particles=2)(ruler(), Dots())
    assert set(ASKED) == {"test"}, f"read {sorted(set(ASKED))}"


def densities_are_those_of_the_textbook() -> None:
    """Gaussian and Bernoulli densities and divergences are torch's; an image's is the sum over its pixels."""
    with seeded(5):
        mean, other, z = torch.randn(3, 50)
        std, wide = torch.rand(2, 50) + 0.3
        a, b = Gaussian(mean, std), Gaussian(other, wide)
        p, q = distributions.Normal(mean, std), distributions.Normal(other, wide)
        close(a.log_prob(z), p.log_prob(z))
        close(a.kl(b), distributions.kl_divergence(p, q), 1e-4)
        close(
            a.kl_to(0.5, 2.0), distributions.kl_divergence(p, distributions.Normal(0.5, 2.0)), 1e-4
        )
        coin, fair = Bernoulli(mean), distributions.Bernoulli(logits=mean)
        hit = (z > 0).float()
        close(coin.log_prob(hit), fair.log_prob(hit), 1e-4)
        divergence = distributions.kl_divergence(fair, distributions.Bernoulli(logits=other))
        close(coin.kl(Bernoulli(other)), divergence, 1e-4)
        x, image = torch.rand(2, 4, 1, 8, 8)
        density = distributions.Normal(image, 0.2).log_prob(x).sum((1, 2, 3))
        close(image_log_prob(x, image, 0.2), density, 1e-4)
        draws = Gaussian(torch.full((20_000,), 2.0), torch.tensor(0.5)).sample()
        close([draws.mean(), draws.std()], [2.0, 0.5], 0.02)


def without_a_likelihood_the_bound_is_minus_the_divergence() -> None:
    """Where every image is equally likely, log p - log q of the scoring is minus the KL terms of the objective."""
    late = torch.tensor(1e9)
    for cls in (VAE, ConvDRAW, GNM):
        config = dataclasses.replace(cls.recipe(HALF).config, sigma=NO_LIKELIHOOD)
        with seeded(7), torch.no_grad():
            model = cls(config, HALF).eval()
            for parameter in model.parameters():
                parameter.mul_(1.5)  # so that prior and posterior differ
            x = torch.rand(2, *HALF.shape)
            flat = float(image_log_prob(x, x, NO_LIKELIHOOD)[0])
            drawn = -(model.log_weights(x, 24) - flat).mean(1).double()
            repeats = [model.loss(x, late)[1] for _ in range(3)]
        kinds = [name for name in repeats[0] if name.startswith("kl")]
        analytic = np.array([sum(float(terms[name]) for name in kinds) for terms in repeats])
        error = math.hypot(float(drawn.std()) / math.sqrt(len(drawn)), analytic.std(ddof=1))
        assert kinds
        assert (
            abs(float(drawn.mean()) - analytic.mean()) < 5 * error + 0.02 * analytic.mean() + 0.1
        ), f"{cls.__name__}: the bound has {drawn.mean():.4g}, the objective {analytic.mean():.4g}"


def an_objective_is_the_sum_of_what_it_reports() -> None:
    """loss = -log p(x | z) + beta KL + the rest, each as reported; beta warms up from 0 and is what was asked for."""
    x = torch.rand(2, *HALF.shape, generator=torch.Generator().manual_seed(0))
    for cls in (VAE, ConvDRAW, GNM):
        config = dataclasses.replace(cls.recipe(HALF).config, beta=3.0)
        with seeded(8), torch.no_grad():
            model = cls(config, HALF)
            for step, beta in ((0.0, 0.0), (50_000.0, 1.5), (1e9, 3.0)):
                loss, terms = model.loss(x, torch.tensor(step))
                close(terms["beta"], beta)
                warmed = terms["kl"] if "kl" in terms else terms["kl_global"]
                rest = [
                    v
                    for k, v in terms.items()
                    if k.startswith(("kl_", "aux_")) and k != "kl_global"
                ]
                expected = -terms["log_likelihood"] + beta * warmed + sum(rest)
                close(loss, expected, 1e-4)


def all_latents_of_gnm_pay() -> None:
    """GNM's objective has a divergence for each latent, to the learned prior and to the fixed one."""
    with seeded(0), torch.no_grad():
        terms = GNM(GNM.recipe(HALF).config, HALF).loss(
            torch.rand(1, *HALF.shape), torch.tensor(1e9)
        )[1]
    for kind in ("kl", "aux"):
        found = {name.partition("_")[2] for name in terms if name.startswith(f"{kind}_")} - {
            "global"
        }
        assert found == {"pres", "where", "depth", "what"}, f"{kind}: {sorted(found)}"


def mixtures_are_normalised() -> None:
    """Components that are all alike are one component, however many there are and whatever their masks."""
    with seeded(9), torch.no_grad():
        model = GENESIS(GENESIS.recipe(HALF).config, HALF)
        x, logits = torch.rand(2, 1, 8, 8), torch.randn(2, 1, 1, 8, 8).expand(2, 5, 1, 8, 8)
        mask = torch.randn(2, 5, 1, 8, 8).log_softmax(1)
        found = model.log_likelihood(x, mask, logits)
        density = distributions.Normal(logits[:, 0].sigmoid(), model.config.sigma).log_prob(x)
        close(found, density.sum((1, 2, 3)), 1e-4)
        layers = model.eval().decompose(torch.rand(1, *HALF.shape))
        close(layers.mask.sum(1), torch.ones(1, 1, 64, 64), 1e-4)


# What is drawn and what is not.


def samples_are_images() -> None:
    """Whatever a decoder gives, samples and reconstructions lie in [0, 1]."""
    with seeded(2), torch.no_grad():
        model = Probe(ProbeConfig(), SMALL)
        for images in (model.sample(50), model.reconstruct(torch.rand(50, 1, 8, 8))):
            assert 0 <= float(images.min()) <= float(images.max()) <= 1


def what_is_inferred_for_good_is_not_drawn() -> None:
    """Boxes are posterior means: the same under every seed. Samples have the modes below z^g, but another z^g each."""
    with torch.no_grad():
        with seeded(0):
            model = GNM(GNM.recipe(HALF).config, HALF).eval()
        x = torch.rand(2, *HALF.shape)
        found = []
        for seed in (1, 2):
            with seeded(seed):
                found.append(model.locate(x))
        for a, b in zip(*found, strict=True):
            assert torch.equal(a, b), "a box was drawn"
        with seeded(3):
            z = model.prior(2)
        f = model.global_latent.replay(list(z.z_global.unbind(1)))
        for mode, mine in zip(model.mode(z.z_global, f), z, strict=True):
            close(mine, mode, 1e-4)
        assert not torch.equal(z.z_global[0], z.z_global[1])


# Data and judges.


def train_and_test_scenes_are_different() -> None:
    """No split shares a layout or a digit with another."""
    scenes = Scenes("mnist4", source="digits", canvas=64, train=64, valid=64, test=64)
    layouts = {name: scenes.layout(name) for name in SPLITS}
    digits = {name: {p.tobytes() for p in scenes.glyphs(name).patch} for name in layouts}
    for one, other in itertools.combinations(SPLITS, 2):
        same = (layouts[one].x[:, 0] == layouts[other].x[:, 0]).mean()
        assert same < 0.5, f"{one} and {other} have the same places"
        assert len(digits[one] & digits[other]) < 0.02 * len(digits[other])


def scenes_obey_their_rule() -> None:
    """MNIST-4: digits c to c + 3 clockwise, at mirrored places, each box tight around its ink."""
    scenes = Scenes("mnist4", source="digits", canvas=64, train=8, valid=8, test=8)
    test = scenes.split("test")
    assert test.objects is not None
    assert (np.diff(test.objects.label, axis=1) == 1).all()
    corner = scenes.layout("test")
    side = scenes.glyphs("test").patch.shape[1]
    assert (corner.x[:, 0] + corner.x[:, 1] == 64 - side).all()
    image = test.image[np.arange(8)][:, 0]
    for picture, boxes in zip(image, test.objects.box.astype(int), strict=True):
        covered = np.zeros_like(picture, bool)
        for x0, y0, x1, y1 in boxes:
            ink = picture[y0:y1, x0:x1] > 0
            edges = (ink[0], ink[-1], ink[:, 0], ink[:, -1])
            assert all(edge.any() for edge in edges), "a box is not tight"
            covered[y0:y1, x0:x1] = True
        assert not picture[~covered].any(), "ink outside all boxes"


def boxes_overlap_as_counted_by_hand() -> None:
    """Intersection over union of boxes in pixels whose ends are exclusive; average precision counted by hand."""
    a = np.array([[0.0, 0.0, 2.0, 2.0]])
    others = [
        [1.0, 0.0, 3.0, 2.0],
        [0.0, 0.0, 2.0, 2.0],
        [2.0, 0.0, 4.0, 2.0],
        [0.0, 0.0, 1.0, 2.0],
    ]
    close(intersection_over_union(a, np.array(others))[0], [1 / 3, 1, 0, 1 / 2])
    half = Detections(a, np.array([0.9]), np.array([[0.0, 0.0, 1.0, 2.0]]))
    exact = Detections(a, np.array([0.9]), a)
    twice = Detections(np.repeat(a, 2, 0), np.array([0.9, 0.8]), np.array([*a, [9, 9, 10, 10]]))
    known = (([half], 0.0), ([exact], 1.0), ([exact, half], 6 / 11 * 0.5), ([twice], 6 / 11))
    for images, expected in known:
        close(eleven_points(images, np.array([0.5]))[0].mean(), expected)


def the_judge_draws_the_line_where_it_says() -> None:
    """A digit out of place by less than the tolerance is right, by more is wrong, and so is a wrong order of digits."""
    tolerance = StructureAccuracy().tolerance
    assert f"tolerance={tolerance:g} threshold=0.25" in StructureAccuracy().dialect
    assert tolerance == 6

    def far(shift: float, digits: tuple[int, ...] = (3, 4, 5, 6)) -> float:
        centre = np.array([[30.0, 40.0], [98.0, 40.0], [98.0, 88.0], [30.0 + shift, 88.0]])
        probability = np.zeros((4, 11), np.float32)
        probability[np.arange(4), list(digits)] = 1
        return displacement(Found(centre, probability, np.full(4, 20.0)), "mnist4", 128)

    close([far(0.0), far(5.0), far(7.0)], [0.0, 5.0, 7.0])
    assert far(0.0, (3, 4, 6, 5)) == math.inf

    # MNIST-10: 0, 1 | 2, 3, 4 | 8, 9 | 5, 6, 7 clockwise, and 8 stands in its quadrant as 0 in its own, 9 as 1.
    places = {0: (20, 20), 1: (50, 45), 2: (80, 20), 3: (110, 20), 4: (90, 50),
              8: (84, 84), 9: (114, 109), 5: (15, 80), 6: (45, 90), 7: (20, 115)}  # fmt: skip

    def ten(**moved: tuple[float, float]) -> float:
        centre = np.array([moved.get(f"d{digit}", places[digit]) for digit in places], float)
        probability = np.zeros((10, 11), np.float32)
        probability[np.arange(10), list(places)] = 1
        return displacement(Found(centre, probability, np.full(10, 20.0)), "mnist10", 128)

    close([ten(), ten(d8=(89, 84)), ten(d9=(114, 116))], [0.0, 5.0, 7.0])
    close(ten(d8=places[9], d9=places[8]), math.hypot(30, 25))
    assert ten(d2=places[5], d5=places[2]) == math.inf
    nothing = Found(np.zeros((0, 2)), np.zeros((0, 11), np.float32), np.zeros(0))
    assert displacement(nothing, "mnist4", 128) == math.inf

    class Fixed(Judge):
        def displacements(self, images: Any, threshold: float = 0.25) -> Any:
            return np.array([0.0, 5.9, 6.1, math.inf])

    verdicts = Fixed.verdicts(Fixed(None, "mnist4", 128), np.zeros((4, 1, 128, 128), np.uint8))  # type: ignore[arg-type]  # its reader is not asked
    assert verdicts.tolist() == [True, True, False, False]


# Statistics.


def spreads_divide_by_n_minus_one() -> None:
    """Standard deviations over seeds and standard errors over images are the unbiased ones."""
    close(
        judge([row(v, s) for s, v in enumerate((1.0, 2.0, 3.0))], None, tier="paper", seeds=3).std
        or 0,
        1.0,
    )
    close(Measurement.mean(np.array([1.0, 2.0, 3.0])).stderr or 0, 1 / math.sqrt(3))


def a_pass_must_be_earned() -> None:
    """One seed is never a pass; an interval that leaves the margin is none; holes are never averaged over."""

    def verdict(*values: float | None, seeds: int = 0, **published: Any) -> Verdict:
        rows = [
            row(v, s) if v is not None else row(v, s, status="failed") for s, v in enumerate(values)
        ]
        return judge(
            rows, printed("0.90", **published), tier="paper", seeds=seeds or len(values)
        ).verdict

    alone = judge([row(0.90, stderr=1e-4, n=9)], printed("0.90"), tier="paper")
    assert alone.verdict is Verdict.INCONCLUSIVE
    assert alone.interval is None, "an interval without a spread"
    assert alone.reason.startswith("one seed is never a pass")
    assert verdict(0.899, 0.901, 0.9) is Verdict.EQUIVALENT
    # t = 2.92 with two degrees of freedom: 0.9 +- 0.0051 leaves the margin of 0.005; the normal's 1.64 would not
    assert verdict(0.897, 0.9, 0.903) is Verdict.INCONCLUSIVE
    assert verdict(0.900, 0.901, None) is Verdict.MISSING
    assert verdict(0.900, 0.901, seeds=3) is Verdict.MISSING
    assert verdict(0.990, 0.991, 0.992) is Verdict.BETTER
    assert verdict(0.800, 0.801, 0.802) is Verdict.WORSE
    close(margin_of(printed("0.90"))[0], 0.005)
    close(margin_of(printed("0.90", spread=0.1))[0], 0.2)


def unlike_numbers_are_refused() -> None:
    """Another dialect, other data or another tier are not compared in value."""
    value = printed("0.90", dialect="particles=100")

    def verdict(tier: str = "paper", **changes: Any) -> Verdict:
        dialect = {"dialect": "particles=100", **changes}
        rows = [row(v, s, **dialect) for s, v in enumerate((0.899, 0.901, 0.9))]
        return judge(rows, value, tier=tier, seeds=3).verdict

    assert verdict() is Verdict.EQUIVALENT
    assert verdict(dialect="particles=10") is Verdict.INCOMPARABLE
    assert verdict(stand_in="other images") is Verdict.INCOMPARABLE
    assert verdict("mini") is Verdict.INCOMPARABLE


def orders_are_compared_by_kendalls_tau() -> None:
    """tau-b of a column with a tie, and its permutation p, counted by hand."""
    pairs = [([row(o)], printed(t)) for o, t in ((3.0, "3"), (2.0, "1"), (1.0, "1"))]
    found = order_agreement(pairs)
    assert found is not None
    assert found.tau is not None
    assert found.p is not None
    close([found.tau, found.p], [2 / math.sqrt(6), 1 / 3])


def a_movement_is_found_in_both_directions() -> None:
    """The regression check lets noise pass and nothing else, up or down; a failed cell has regressed."""
    before, same = [row(100.0, stderr=1.0, n=9)], Tolerance(same_weights=True)
    after = {104.0: Outcome.HOLDS, 96.0: Outcome.HOLDS, 105.0: Outcome.BETTER, 95.0: Outcome.WORSE}
    for value, outcome in after.items():
        assert check([row(value, stderr=1.0, n=9)], before, same).findings[0].outcome is outcome
    assert check([row(None, status="failed")], before).code == 1
    assert check([], before).code == 2


Promise = Callable[[], None]
PROMISES: tuple[Promise, ...] = (
    spreads_divide_by_n_minus_one, a_pass_must_be_earned, unlike_numbers_are_refused,
    orders_are_compared_by_kendalls_tau, a_movement_is_found_in_both_directions, boxes_overlap_as_counted_by_hand,
    the_judge_draws_the_line_where_it_says, train_and_test_scenes_are_different, scenes_obey_their_rule,
    densities_are_those_of_the_textbook, samples_are_images, metrics_read_the_test_split_alone,
    a_known_likelihood_is_measured, schedules_are_read_at_the_published_step,
    an_interrupted_run_is_the_uninterrupted_one, every_epoch_shows_every_image_once, gradients_are_clipped,
    measured_models_are_in_evaluation_mode, mixtures_are_normalised, what_is_inferred_for_good_is_not_drawn,
    all_latents_of_gnm_pay, an_objective_is_the_sum_of_what_it_reports,
    without_a_likelihood_the_bound_is_minus_the_divergence,
)  # fmt: skip
