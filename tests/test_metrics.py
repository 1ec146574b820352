"""Each metric measures what it says, on models and images whose answer is known."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reprise.baselines.ppca import PPCA, PPCAConfig
from reprise.core.dataset import Dataset, DatasetInfo, Examples, Objects, Split
from reprise.core.errors import ContractError, NothingToMeasure, UsageError
from reprise.core.metric import Measurement, Metric
from reprise.core.model import (
    GenerativeModel,
    Locates,
    Location,
    Recipe,
    Resamples,
    Training,
    evaluation_option,
)  # fmt: skip
from reprise.core.protocol import TIERS
from reprise.core.randomness import seeded
from reprise.core.spec import build, checked, load, metric, names
from reprise.metrics._evaluation import as_bytes, evaluation_dialect, some
from reprise.metrics.discriminator_steps import DiscriminatorSteps, Epochs, network
from reprise.metrics.likelihood_scale import LikelihoodScale
from reprise.metrics.log_marginal import IMAGES, PARTICLES, LogMarginal
from reprise.metrics.parameters import Parameters
from reprise.metrics.presence import Presence
from reprise.metrics.reconstructions import COLOUR, Reconstructions, with_boxes
from reprise.metrics.resampling import Resampling
from reprise.metrics.samples import Samples

SIDE = 16


def bars(n: int, seed: int) -> NDArray[np.uint8]:
    """Gray bars, lying or standing, of random place, width and brightness: (n, 1, SIDE, SIDE)."""
    random = np.random.default_rng(seed)
    images = np.zeros((n, 1, SIDE, SIDE), np.uint8)
    for image in images:
        at, width = random.integers(0, SIDE - 4), random.integers(2, 5)
        view = image[0] if random.integers(2) else image[0].T
        view[at : at + width] = random.integers(64, 256)
    return images


@dataclass(frozen=True)
class Bars(Dataset):
    """Bars, one object each."""

    train: int = 2_000
    test: int = 300

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo("bars", (1, SIDE, SIDE), objects=2)

    def split(self, name: Split) -> Examples:
        n = self.train if name == "train" else self.test
        image = bars(n, {"train": 1, "valid": 2, "test": 3}[name])
        label = np.tile(np.array([[0, -1]]), (n, 1))
        return Examples(image, None, Objects(label, np.full((n, 2, 4), -1, np.float32)))

    @property
    def digest(self) -> str:
        return "0" * 12


@dataclass(frozen=True)
class FakeConfig:
    sigma: float = 0.5
    presence: Literal["discrete", "relaxed"] = evaluation_option("discrete")
    width: int = 3


class FakeLatents(NamedTuple):
    image: Tensor


class Fake(GenerativeModel[FakeLatents]):
    """A model of given images: a sample is one of them, a reconstruction is the input and `error`."""

    def __init__(
        self, images: Tensor | None = None, weight: float = 0.0, error: float = 0.0
    ) -> None:
        super().__init__(FakeConfig(), Bars().info)
        self.config = FakeConfig()
        self.images = images if images is not None else torch.zeros(10, 1, SIDE, SIDE)
        self.weight, self.error = weight, error
        self.unused = nn.Parameter(torch.zeros(7))
        self.register_buffer("temperature", torch.ones(5))
        self.asked: list[tuple[int, int]] = []
        self.drawn = 0

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        return Recipe(FakeConfig(), Training(1))

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        self.asked.append((len(x), particles))
        w = torch.randn(particles, len(x)) + x.sum((1, 2, 3))
        return torch.where(x.sum((1, 2, 3)) > 0, w, self.weight)

    def prior(self, n: int) -> FakeLatents:
        taken = torch.arange(self.drawn, self.drawn + n) % len(self.images)
        self.drawn += n
        return FakeLatents(self.images[taken])

    def infer(self, x: Tensor) -> FakeLatents:
        return FakeLatents(x + self.error)

    def decode(self, z: FakeLatents) -> Tensor:
        return z.image


class Locator(Fake, Locates):
    """Sees two objects in every image, of which the second is present where the top row is lit."""

    def locate(self, x: Tensor) -> Location:
        second = (x[:, 0, 0].amax(1) > 0).float()
        presence = torch.stack([torch.full_like(second, 0.9), second], 1)
        box = torch.tensor([[2.0, 3.0, 7.0, 9.0], [-4.0, 10.0, 5.0, 14.0]]).expand(len(x), 2, 4)
        return Location(box, presence, torch.zeros(len(x), 2, 1))


class Resampler(Fake, Resamples):
    """Row r is gray r / 5; every other draw is brighter by `error`."""

    def resample(self, x: Tensor | None, rows: int, draws: int) -> Tensor:
        level = torch.arange(rows)[:, None] / 5 + self.error * (torch.arange(draws) % 2)
        start = x[:, None].expand(rows, draws, -1, -1, -1) * 0 if x is not None else 0
        return start + level[:, :, None, None, None].expand(rows, draws, 1, SIDE, SIDE)


def measure(how: Metric, model: Any, data: Dataset | None = None, seed: int = 0) -> Measurement:
    """As the launcher does: a seeded generator, no gradients."""
    with seeded(seed), torch.inference_mode():
        return how(model, data or Bars())


# All metrics.


@pytest.mark.parametrize("name", sorted(names("metric")))
def test_a_metric_keeps_its_contract(name: str) -> None:
    cls = load(metric(name))
    assert issubclass(cls, Metric)
    made = build(metric(name))
    assert cls.better in ("higher", "lower", "neither")
    assert all("=" in pair or pair.isalpha() for pair in made.dialect.split())
    assert cls.tiers.keys() <= TIERS.keys() - {"paper"}
    for options in cls.tiers.values():
        assert checked(cls, dict(options), name)


def test_some_examples_are_a_fair_part_of_all_whatever_their_order() -> None:
    assert some(10, None).tolist() == list(range(10))
    assert some(3, 100).tolist() == [0, 1, 2]
    for at_most in range(1, 50):
        assert len(set(some(50, at_most).tolist())) == at_most
    for total, at_most in [(600, 50), (6_000, 50), (6_000, 512), (6_000, 1_000), (60_000, 6_000)]:
        chosen = some(total, at_most)
        sorted_by_class = np.bincount(chosen * 10 // total, minlength=10)
        assert np.abs(sorted_by_class - at_most / 10).max() < 4 * math.sqrt(at_most / 10)
        for kinds in (2, 3, 10):  # alternating, as the scenes of MNIST-4-10 do
            counts = np.bincount(chosen % kinds, minlength=kinds)
            assert np.abs(counts - at_most / kinds).max() < 4 * math.sqrt(at_most / kinds)


def test_bytes_are_the_nearest_ones_and_never_hide_a_number_that_is_none() -> None:
    assert as_bytes(torch.tensor([-1.0, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 7.0]), "it").tolist() == [
        0, 0, 0, 1, 255, 255,
    ]  # fmt: skip
    with pytest.raises(FloatingPointError, match="it has pixels that are not finite"):
        as_bytes(torch.tensor([0.0, float("nan")]), "it")


def test_the_dialect_of_a_model_is_its_evaluation_options_and_sigma() -> None:
    model = Fake()
    assert evaluation_dialect(model) == "presence=discrete sigma=0.5"
    model.config = dataclasses.replace(model.config, presence="relaxed", width=9)
    assert evaluation_dialect(model) == "presence=relaxed sigma=0.5"


# Log-likelihood.


@pytest.fixture(scope="module")
def ruler() -> PPCA:
    torch.manual_seed(0)
    return PPCA(PPCAConfig(latent=4, widen=1.2), Bars().info)


def test_the_log_likelihood_is_the_exact_one_within_a_twentieth_of_a_nat(ruler: PPCA) -> None:
    data = Bars(test=64)
    x = torch.from_numpy(data.split("test").image[:]).float() / 255
    exact = ruler.exact_log_marginal(x).mean().item()
    measured = measure(LogMarginal(particles=500), ruler, data)
    assert measured.value == pytest.approx(exact, abs=0.05)
    assert measured.n == 64


def test_more_particles_tighten_the_bound_for_every_image(ruler: PPCA) -> None:
    arrays = measure(LogMarginal(particles=100), ruler, Bars(test=50)).arrays
    assert (arrays["elbo"] <= arrays["ll10"]).all()
    assert (arrays["ll10"] <= arrays["value"]).all()
    assert arrays["elbo"].mean() < arrays["value"].mean() - 0.01
    assert ((arrays["ess"] >= 1) & (arrays["ess"] <= 100)).all()


def test_an_exact_proposal_gives_the_same_number_with_one_particle_as_with_many(
    ruler: PPCA,
) -> None:
    exact = PPCA(PPCAConfig(latent=4, widen=1.0), Bars().info)
    one, many = (measure(LogMarginal(particles=k), exact, Bars(test=8)) for k in (1, 30))
    assert one.value == pytest.approx(many.value, abs=1e-9)
    assert many.arrays["ess"] == pytest.approx(np.full(8, 30))
    assert "ll10" not in one.arrays


def test_memory_is_bounded_whatever_is_asked_and_every_pair_is_scored_once() -> None:
    model = Fake()
    measure(LogMarginal(particles=60), model, Bars(test=37))
    assert all(images <= IMAGES and particles <= PARTICLES for images, particles in model.asked)
    assert sum(images * particles for images, particles in model.asked) == 37 * 60


def test_the_same_seed_gives_the_same_likelihood_and_another_seed_another(ruler: PPCA) -> None:
    values = [
        measure(LogMarginal(particles=20), ruler, Bars(test=20), seed).value for seed in (1, 1, 2)
    ]
    assert values[0] == values[1] != values[2]


def test_only_as_many_images_are_scored_as_asked_for(ruler: PPCA) -> None:
    measured = measure(LogMarginal(particles=2, images=10), ruler, Bars(test=30))
    assert measured.n == len(measured.arrays["value"]) == 10
    spread = measured.arrays["value"].std(ddof=1) / math.sqrt(10)
    assert measured.stderr == pytest.approx(spread)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_an_error_that_names_the_image(weight: float) -> None:
    @dataclass(frozen=True)
    class OneBlack(Bars):
        def split(self, name: Split) -> Examples:
            examples = super().split(name)
            np.asarray(examples.image)[21] = 0
            return examples

    with pytest.raises(
        FloatingPointError, match="log weights of Fake are not finite at test image 21"
    ):
        measure(LogMarginal(particles=3), Fake(weight=weight), OneBlack(test=40))


def test_weights_of_the_wrong_shape_break_the_contract() -> None:
    class Transposed(Fake):
        def log_weights(self, x: Tensor, particles: int) -> Tensor:
            return super().log_weights(x, particles).T

    with pytest.raises(ContractError, match=r"log_weights must return \(particles, batch\)"):
        measure(LogMarginal(particles=5), Transposed())


def test_images_of_another_size_than_the_datas_break_the_contract() -> None:
    class Cropped(Fake):
        def decode(self, z: FakeLatents) -> Tensor:
            return super().decode(z)[..., 1:, 1:]

    shapes = rf"\({{}}, 1, {SIDE - 1}, {SIDE - 1}\); expected shape \({{}}, 1, {SIDE}, {SIDE}\)"
    with pytest.raises(ContractError, match="Cropped.decode .*" + shapes.format(3, 3)):
        Cropped().sample(3)
    with pytest.raises(ContractError, match="Cropped.decode .*" + shapes.format(5, 5)):
        Cropped().reconstruct(torch.rand(5, 1, SIDE, SIDE))


def test_the_likelihood_says_how_the_model_was_asked_to_score() -> None:
    measured = measure(LogMarginal(particles=3), Fake(), Bars(test=4))
    assert measured.dialect == "presence=discrete sigma=0.5"
    assert LogMarginal(particles=3).dialect == "particles=3"


# D-Steps.

QUICK = DiscriminatorSteps(pool=320, held_out=100, cap=40, every=10, repeats=2, batch=16)


def floats(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).float() / 255


def test_samples_like_the_data_are_never_found_out() -> None:
    real = measure(QUICK, Fake(floats(bars(420, 9))))
    assert real.censored == ">"
    assert real.value == 40
    assert real.n == 2
    accuracy = real.arrays["accuracy"]
    assert accuracy.shape == (2, 4)
    assert np.abs(accuracy - 0.5).max() < 0.15
    assert real.arrays["area"] == pytest.approx(20, rel=0.2)


def test_real_images_are_held_against_other_real_ones_as_a_control(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, set[bytes]] = {"one side": set(), "other side": set()}

    class Recorder:
        def __init__(self, *_: Any) -> None: ...

        def step(self, generated: NDArray[np.uint8], real: NDArray[np.uint8]) -> None:
            seen["one side"] |= {image.tobytes() for image in generated}
            seen["other side"] |= {image.tobytes() for image in real}

        def accuracy(self, generated: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
            seen["one side"] |= {image.tobytes() for image in generated}
            return 0.5

    monkeypatch.setattr("reprise.metrics.discriminator_steps.Discriminator", Recorder)
    control = dataclasses.replace(QUICK, control="real", pool=60, held_out=30, cap=200)
    found = measure(control, Fake(), Bars(train=200))
    whole = {image.tobytes() for image in Bars(train=200).split("train").image[:]}
    assert not seen["one side"] & seen["other side"]
    assert 80 < len(seen["one side"]) <= 90
    assert 50 < len(seen["other side"]) <= 60
    assert seen["one side"] | seen["other side"] <= whole
    assert found.censored == ">"
    assert "control=real" in control.dialect
    assert "control" not in QUICK.dialect
    assert "pool" not in found.dialect
    fewer = measure(dataclasses.replace(control, pool=180), Fake(), Bars(train=200))
    assert fewer.dialect.endswith(" real_pool=100 other_pool=70")
    with pytest.raises(UsageError, match="real images needs 92 training images"):
        measure(control, Fake(), Bars(train=90))


def test_noise_is_found_out_at_once() -> None:
    noise = torch.rand(420, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = measure(QUICK, Fake(noise))
    assert found.censored == ""
    assert found.value == 10
    assert found.arrays["steps"].tolist() == [10, 10]
    assert np.isnan(found.arrays["accuracy"][:, 1:]).all()
    assert (found.arrays["accuracy"][:, 0] >= 0.9).all()


def test_d_steps_are_the_same_for_the_same_seed_and_no_two_repeats_are_one() -> None:
    short = dataclasses.replace(QUICK, cap=10, batch=8)
    fake = floats(bars(420, 9)) * 0.8
    first, again = (measure(short, Fake(fake), seed=5).arrays["accuracy"] for _ in range(2))
    assert np.array_equal(first, again, equal_nan=True)
    assert not np.array_equal(first[0], first[1], equal_nan=True)


def test_no_image_is_both_trained_and_scored_on(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: dict[str, set[bytes]] = {"generated": set(), "real": set()}
    scored: dict[str, set[bytes]] = {"generated": set(), "real": set()}

    seeds: list[int] = []

    class Recorder:
        def __init__(self, *_: Any) -> None:
            seeds.append(torch.initial_seed())

        def step(self, generated: NDArray[np.uint8], real: NDArray[np.uint8]) -> None:
            assert len(generated) == len(real) == 16
            trained["generated"] |= {image.tobytes() for image in generated}
            trained["real"] |= {image.tobytes() for image in real}

        def accuracy(self, generated: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
            assert len(generated) == len(real) == 100
            scored["generated"] |= {image.tobytes() for image in generated}
            scored["real"] |= {image.tobytes() for image in real}
            return 0.5

    monkeypatch.setattr("reprise.metrics.discriminator_steps.Discriminator", Recorder)
    numbered = np.zeros((420, 1, SIDE, SIDE), np.uint8)
    numbered[:, 0, 0, 0], numbered[:, 0, 0, 1] = np.divmod(np.arange(420), 256)
    measure(dataclasses.replace(QUICK, cap=200), Fake(floats(numbered)))
    assert len(set(seeds)) == 2, "every repeat has its own initial weights"
    assert len(trained["generated"]) == 320
    assert len(scored["generated"]) == 100
    assert not trained["generated"] & scored["generated"]
    assert trained["real"] <= {image.tobytes() for image in Bars().split("train").image[:]}
    assert scored["real"] <= {image.tobytes() for image in Bars().split("test").image[:]}


def test_every_image_comes_once_before_any_comes_again() -> None:
    epochs = Epochs(np.arange(100, 112), np.random.default_rng(0))
    for _ in range(3):
        assert sorted(np.concatenate([epochs.next(4) for _ in range(3)])) == list(range(100, 112))
    ragged = Epochs(np.arange(10), np.random.default_rng(0))
    for _ in range(5):
        assert len(set(np.concatenate([ragged.next(4), ragged.next(4)]))) == 8


@pytest.mark.parametrize("side", [8, 16, 32, 64, 128])
def test_the_classifier_ends_in_16_cells_whatever_the_canvas(side: int) -> None:
    found = network((3, side, side))(torch.zeros(2, 3, side, side))
    assert found.shape == (2, 1)


def test_the_classifier_is_gnms_encoder_at_its_arrow_width() -> None:
    encoder = network((3, 128, 128))[0]  # type: ignore[index]
    assert sum(p.numel() for p in encoder.parameters()) == 632_608


def test_images_that_the_classifier_cannot_take_are_refused() -> None:
    with pytest.raises(UsageError, match="square images"):
        network((1, 28, 28))
    with pytest.raises(
        UsageError, match="needs 1000 test and 32 training images; bars has 300 and 2000"
    ):
        measure(DiscriminatorSteps(), Fake())


def test_the_grain_of_d_steps_is_the_papers() -> None:
    short = dataclasses.replace(QUICK, every=None, cap=100, repeats=1, target=1.0, batch=2)
    measured = measure(short, Fake(floats(bars(420, 9))))
    assert measured.dialect == "every=40"
    assert measured.value == 80


# The scale of likelihoods.


def gaussian(image: NDArray[np.float64]) -> float:
    """log N(x; image, 0.25 I) of every test image, by torch's own density; the mean."""
    x = torch.from_numpy(Bars().split("test").image[:] / 255)
    log_prob = torch.distributions.Normal(torch.from_numpy(image), 0.5).log_prob(x)
    return float(log_prob.sum((1, 2, 3)).mean())


def test_the_scale_of_a_likelihood_is_that_of_a_constant_image_under_the_models_sigma() -> None:
    black, mean, itself = (
        measure(LikelihoodScale(shows="black"), Fake()),
        measure(LikelihoodScale(shows="mean"), Fake()),
        measure(LikelihoodScale(shows="itself"), Fake()),
    )
    whole = Bars().split("train").image[:].mean(0) / 255
    assert black.value == pytest.approx(gaussian(np.zeros_like(whole)), rel=1e-6)
    assert mean.value == pytest.approx(gaussian(whole), rel=1e-6)
    assert itself.value == pytest.approx(SIDE**2 * (math.log(2) - 0.5 * math.log(2 * math.pi)))
    assert itself.stderr == 0
    assert np.allclose(mean.arrays["shown"], whole, atol=1e-6)
    assert black.dialect == "sigma=0.5"
    few, many = (LikelihoodScale(shows="mean", learnt=n) for n in (10, 2_000))
    assert measure(few, Fake()).value < measure(many, Fake()).value


def test_pixels_that_are_not_normal_with_one_sigma_have_no_such_scale() -> None:
    data = Bars()
    drawn = PPCA(PPCAConfig(latent=2), data.info)  # its sigma is learnt
    with pytest.raises(NothingToMeasure, match="pixels of PPCA are not normal with a config"):
        measure(LikelihoodScale(), drawn)


# Galleries and counts.


def test_parameters_are_counted_exactly_and_buffers_are_none() -> None:
    assert measure(Parameters(), Fake()).value == 7


def test_samples_are_kept_as_bytes_beside_real_images() -> None:
    images = floats(bars(30, 4))
    measured = measure(Samples(images=20), Fake(images))
    assert np.array_equal(measured.arrays["samples"], bars(30, 4)[:20])
    assert measured.arrays["data"].shape == (20, 1, SIDE, SIDE)
    assert measured.arrays["data"].dtype == np.uint8
    assert measured.value == pytest.approx(float(images[:20].mean()), abs=1e-6)


def test_samples_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(FloatingPointError, match="a sample of Fake has pixels that are not finite"):
        measure(Samples(), Fake(torch.full((4, 1, SIDE, SIDE), math.nan)))


def test_the_reconstruction_error_is_the_one_that_was_made() -> None:
    assert measure(Reconstructions(images=5), Fake()).value == 0
    measured = measure(
        Reconstructions(images=5), Fake(torch.zeros(1, 1, SIDE, SIDE), error=51 / 255)
    )
    inputs = measured.arrays["inputs"].astype(float) / 255
    expected = np.square(np.minimum(inputs + 0.2, 1) - inputs).mean()
    assert measured.value == pytest.approx(expected, rel=1e-6)
    assert measured.arrays["grid"].shape == (5, 2, 3, SIDE, SIDE)
    assert "box" not in measured.arrays


def test_only_objects_that_are_present_get_a_box() -> None:
    measured = measure(Reconstructions(images=20), Locator())
    grid, presence = measured.arrays["grid"], measured.arrays["presence"]
    assert grid.shape == (20, 3, 3, SIDE, SIDE)
    assert {True, False} == set((presence[:, 1] > 0.5).tolist())
    for columns, present in zip(grid, presence > 0.5, strict=True):
        assert (
            columns[2, :, 2, 1:8] == np.array(COLOUR)[:, None]
        ).all()  # top side of the first box
        assert (columns[2, :, 14, :6] == np.array(COLOUR)[:, None]).all() == present[1]


def test_a_box_is_drawn_around_what_it_holds_and_not_beyond_the_image() -> None:
    black = np.zeros((1, 3, SIDE, SIDE), np.uint8)
    box = np.array([[[2, 3, 7, 9], [-4, 10, 5, 14]]], np.float32)
    drawn = with_boxes(black, box, np.array([[True, True]]))[0, 0] > 0
    expected = np.zeros((SIDE, SIDE), bool)
    expected[2:10, 1:8] = True
    expected[3:9, 2:7] = False
    expected[[9, 14], :6] = True
    expected[9:15, 5] = True
    assert np.array_equal(drawn, expected)
    assert not black.any()


def test_objects_found_are_counted_beside_those_that_are_there() -> None:
    lit = (Bars().split("test").image[:][:, 0, 0].max(1) > 0).astype(float)
    values = {
        how: measure(Presence(count=how), Locator()).value for how in ("found", "there", "right")
    }
    assert values["found"] == pytest.approx(1 + lit.mean())
    assert values["there"] == 1
    assert values["right"] == pytest.approx(1 - lit.mean())


def test_metrics_name_what_a_model_must_be_able_to_do() -> None:
    assert Presence.requires == (Locates,)
    assert Resampling.requires == (Resamples,)
    assert not isinstance(Fake(), Presence.requires + Resampling.requires)


def test_resampling_measures_how_far_the_draws_of_a_row_differ() -> None:
    assert measure(Resampling(source="prior", rows=3, draws=4), Resampler()).value == 0
    measured = measure(Resampling(source="prior", rows=3, draws=4), Resampler(error=0.2))
    assert measured.value == pytest.approx(
        0.2 / math.sqrt(3), rel=1e-6
    )  # std, ddof=1, of 0, .2, 0, .2
    assert (
        measured.arrays["grid"].shape == measured.arrays["resampled"].shape == (3, 4, 1, SIDE, SIDE)
    )


def test_resampling_from_images_shows_them_first() -> None:
    measured = measure(Resampling(source="posterior", rows=3, draws=4), Resampler())
    grid = measured.arrays["grid"]
    assert grid.shape == (3, 5, 1, SIDE, SIDE)
    assert np.array_equal(grid[:, 0], Bars().split("test").image[some(300, 3)])
    assert np.array_equal(grid[:, 1:], measured.arrays["resampled"])


def test_resampled_images_of_the_wrong_shape_break_the_contract() -> None:
    class Flat(Resampler):
        def resample(self, x: Tensor | None, rows: int, draws: int) -> Tensor:
            return super().resample(x, rows, draws).flatten(0, 1)

    with pytest.raises(ContractError, match=r"resample must return \(rows, draws, C, H, W\)"):
        measure(Resampling(), Flat())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LogMarginal(particles=0),
        lambda: LogMarginal(images=0),
        lambda: DiscriminatorSteps(target=0.5),
        lambda: DiscriminatorSteps(pool=5),
        lambda: DiscriminatorSteps(cap=10),
        lambda: Resampling(draws=1),
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="needs"):
        wrong()


def test_the_scale_is_measured_on_the_images_of_the_likelihood() -> None:
    assert LikelihoodScale.tiers == LogMarginal.tiers
