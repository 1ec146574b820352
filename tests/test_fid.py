"""FID: the distance of two normal distributions, and the features that it is taken of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from reprise.core import reductions
from reprise.core.dataset import Dataset, DatasetInfo, Examples, Split
from reprise.core.errors import DataError, UsageError
from reprise.core.reductions import frechet_distance
from reprise.data.mnist import MNIST
from reprise.metrics import _features
from reprise.metrics._evaluation import some
from reprise.metrics._features import WEIGHTS, classifier_for, extractor, inception_weights
from reprise.metrics.fid import FID, normal

from .drawers import Bars, measure

DIGITS = MNIST("digits")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRISE_CACHE", str(cache))


class Sampler:
    """Its samples are these images, in order."""

    device = CPU

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.drawn = torch.from_numpy(images).float() / 255, 0

    def sample(self, n: int) -> Tensor:
        self.drawn += n
        return self.images[self.drawn - n : self.drawn]


def train_images(begin: int, end: int) -> np.ndarray:
    """Training digits in the order in which FID takes them."""
    train = DIGITS.split("train")
    real = some(len(train), begin)
    return np.asarray(train.image[np.setdiff1d(some(len(train), end), real)])


# The distance -------------------------------------------------------------------------------------------------------


def test_the_distance_of_two_bells_on_a_line_is_the_textbooks() -> None:
    means, factors = np.array([[1.0], [4.0]]), np.array([[[2.0]], [[7.0]]])
    assert frechet_distance(means, factors) == pytest.approx((1 - 4) ** 2 + (2 - 7) ** 2)


def test_the_distance_of_normals_that_share_their_axes_adds_up_over_axes() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    one, other = np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.0, 0.5])
    factors = np.stack([np.diag(one) @ turn, np.diag(other) @ turn])
    means = np.array([[0.0, 0, 0], [1, 2, 3]]) @ turn
    assert frechet_distance(means, factors) == pytest.approx(14 + np.square(one - other).sum())


@pytest.mark.parametrize(("n", "d"), [(200, 7), (12, 20)])
def test_the_distance_is_that_by_a_square_root_of_a_matrix_whatever_the_rank(
    n: int, d: int
) -> None:
    random = np.random.default_rng(1)
    one = random.normal(size=(n, d)) @ random.normal(size=(d, d))
    other = random.normal(size=(n, d)) @ random.normal(size=(d, d)) + 0.5
    normals = [normal(one), normal(other)]
    means, factors = (np.stack(parts) for parts in zip(*normals, strict=True))
    for features, (mean, factor) in zip((one, other), normals, strict=True):
        assert mean == pytest.approx(features.mean(0))
        assert factor.T @ factor == pytest.approx(np.cov(features, rowvar=False))
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    tiny = 1e-10 * np.eye(d)  # sqrtm needs full rank
    root = sqrtm((a + tiny) @ (b + tiny))
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(a + b - 2 * root.real)
    found = frechet_distance(means, factors)
    assert found == pytest.approx(expected, rel=1e-4)
    assert found == pytest.approx(frechet_distance(means[::-1], factors[::-1]))


def test_nothing_is_as_near_as_itself() -> None:
    mean, factor = normal(np.random.default_rng(2).normal(size=(50, 8)))
    same = frechet_distance(np.stack([mean, mean]), np.stack([factor, factor]))
    assert same == pytest.approx(0, abs=1e-12)
    assert same >= 0
    # and no sign or turn of the factors matters
    turned = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0] @ factor
    same = frechet_distance(np.stack([mean, mean]), np.stack([factor, turned]))
    assert same == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="two means"):
        frechet_distance(mean[None], factor[None])


# FID ----------------------------------------------------------------------------------------------------------------


def test_the_very_images_have_distance_zero_others_little_and_noise_much() -> None:
    how = FID(images=300)
    noise = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), np.uint8)
    same = measure(how, Sampler(train_images(0, 300)), DIGITS)
    others = measure(how, Sampler(train_images(300, 600)), DIGITS)
    faint = measure(how, Sampler(train_images(300, 600) // 2), DIGITS)
    far = measure(how, Sampler(noise), DIGITS)
    assert same.value == pytest.approx(0, abs=1e-6)
    assert 0.1 < others.value < faint.value / 5 < far.value / 5
    assert (others.n, others.stderr) == (300, None)
    assert others.arrays["factor"].shape == (2, 64, 64)


def test_real_images_against_real_ones_are_those_that_come_next() -> None:
    real = measure(FID(images=300, of="real"), Sampler(train_images(0, 0)), DIGITS)
    assert real.value == measure(FID(images=300), Sampler(train_images(300, 600)), DIGITS).value


def test_the_number_follows_from_what_is_stored() -> None:
    how = FID(images=200)
    found = measure(how, Sampler(train_images(200, 400) // 2), DIGITS)
    again = reductions.reduced(how.reduction, found.arrays, how.dialect)
    assert (again.value, again.stderr, again.n) == (found.value, found.stderr, found.n)


def test_more_images_than_there_are_cannot_be_compared() -> None:
    with pytest.raises(UsageError, match="needs 1400 training images; digits has 1285"):
        measure(FID(images=1_400), Sampler(train_images(0, 0)), DIGITS)
    with pytest.raises(UsageError, match="needs 1400 training images"):
        measure(FID(images=700, of="real"), Sampler(train_images(0, 0)), DIGITS)


@dataclass(frozen=True)
class Turnable(Dataset):
    """Digits, and white images where they are turned."""

    source: str = "mnist"
    rotation: int = 0

    @property
    def info(self) -> DatasetInfo:
        return DIGITS.info

    def split(self, name: Split) -> Examples:
        examples = DIGITS.split(name)
        images = np.asarray(examples.image)
        return Examples(
            np.full_like(images, 7 * self.rotation) if self.rotation else images, examples.label
        )

    @property
    def digest(self) -> str:
        return "0" * 12


def test_the_official_rotation_turns_the_real_images_of_three_sets_alone() -> None:
    samples = train_images(0, 200)
    for source, turned in (
        ("mnist", True),
        ("emnist", True),
        ("kmnist", True),
        ("omniglot", False),
    ):
        found = measure(FID(images=200, rotation="official"), Sampler(samples), Turnable(source))
        assert (found.value > 1) == turned
        plain = measure(FID(images=200), Sampler(samples), Turnable(source))
        assert plain.value == pytest.approx(0, abs=1e-6)
        assert found.dialect == plain.dialect, "the classifier saw no turned image"
    with pytest.raises(UsageError, match="cannot"):
        measure(FID(images=20, rotation="official"), Sampler(samples), Bars())


# The domain's features ----------------------------------------------------------------------------------------------


def test_the_domain_classifier_reads_digits_that_it_has_not_seen() -> None:
    network, test = classifier_for(DIGITS), DIGITS.split("test")
    assert test.label is not None
    with torch.no_grad():
        found = network(torch.from_numpy(test.image[:]).float() / 255).argmax(1).numpy()
    assert (found == test.label).mean() > 0.95


def test_domain_features_have_about_unit_variance_over_training_images() -> None:
    features = extractor("domain", DIGITS, CPU)(DIGITS.split("train").image[:], "it")
    assert features.shape == (1_285, 64)
    assert features.var(0).mean() == pytest.approx(1, abs=0.25)


def test_the_classifier_is_the_same_whenever_it_is_trained_and_whatever_came_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digests = {classifier_for(DIGITS).digest}
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path))
    torch.manual_seed(99)
    with torch.inference_mode():
        digests.add(classifier_for(DIGITS).digest)
    assert len(digests) == 1
    (kept,) = tmp_path.rglob("domain-*.npz")
    kept.write_bytes(kept.read_bytes()[:-200])
    with pytest.raises(DataError, match="is no whole classifier"):
        classifier_for(DIGITS)


def test_weights_that_somebody_changed_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path))
    network = classifier_for(DIGITS)
    (kept,) = tmp_path.rglob("domain-*.npz")
    with np.load(kept) as stored:
        arrays = dict(stored)
    arrays["read.bias"] = arrays["read.bias"] + 1
    np.savez(kept, **arrays)
    with pytest.raises(DataError, match=f"expected {network.digest}"):
        classifier_for(DIGITS)


def test_other_training_images_make_other_features() -> None:
    bars = classifier_for(Bars())
    assert bars.digest != classifier_for(DIGITS).digest
    assert bars.read.out_features == 3
    with pytest.raises(UsageError, match="bars has no classes"):
        classifier_for(Bars(classes=False))


# Inception ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("REPRISE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def test_without_weights_the_error_says_which_file_belongs_where(no_weights: Path) -> None:
    for name in ("inception_softmax", "inception_pool3"):
        with pytest.raises(DataError, match=str(no_weights / "data" / WEIGHTS)):
            measure(FID(name), Sampler(train_images(0, 10)), DIGITS)


@pytest.mark.parametrize("place", [f"data/{WEIGHTS}", f"torch/hub/checkpoints/{WEIGHTS}"])
def test_weights_are_found_in_two_places_and_another_file_is_refused(
    place: str, no_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = no_weights / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"others")
    with pytest.raises(DataError, match="begins with 0cc3c7bd"):
        inception_weights()
    true = hashlib.sha256(b"others").hexdigest()[:8]
    monkeypatch.setattr(_features, "WEIGHTS", WEIGHTS)
    renamed = path.with_name(f"inception_v3_google-{true}.pth")
    path.rename(renamed)
    monkeypatch.setattr(_features, "WEIGHTS", renamed.name)
    assert inception_weights() == renamed


def test_inceptions_features_are_probabilities_or_pooled(
    no_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        from torchvision import models
    except (ImportError, RuntimeError):
        pytest.skip("needs the torchvision of this torch: `pip install 'reprise[fid]'`")
    path = no_weights / "data" / "fresh.pth"
    path.parent.mkdir()
    torch.save(models.inception_v3(weights=None, init_weights=False).state_dict(), path)
    monkeypatch.setattr(_features, "inception_weights", lambda: path)
    images = train_images(0, 4)
    probability = extractor("inception_softmax", DIGITS, CPU)
    assert probability.digest == "0cc3c7bd"
    found = probability(images, "it")
    assert found.shape == (4, 1_000)
    assert found.sum(1) == pytest.approx(np.ones(4), abs=1e-5)
    pooled = extractor("inception_pool3", DIGITS, CPU)(images, "it")
    assert pooled.shape == (4, 2_048)
    assert (pooled >= 0).all()
    # three equal channels are what a gray image is
    colour = np.repeat(images, 3, 1)
    assert np.allclose(probability(colour, "it"), found, atol=1e-6)
