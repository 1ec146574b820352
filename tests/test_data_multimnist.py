"""Multi-MNIST has its counts, its statistics and its boxes, and is the same for everyone."""

from __future__ import annotations

import dataclasses
import functools
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from reprise.core.dataset import SPLITS, Examples, Split
from reprise.core.errors import DataError, UsageError
from reprise.core.spec import build, dataset
from reprise.data import _registry, multimnist
from reprise.data._digits import STAND_IN, Source
from reprise.data.multimnist import Kind, MultiMNIST

sources = pytest.mark.parametrize(
    "source", ["digits", pytest.param("mnist", marks=pytest.mark.mnist)]
)
layouts = pytest.mark.parametrize("kind", ["aak", "pyro"])


def data(kind: Kind = "aak", source: Source = "digits", per_count: int = 2_000) -> MultiMNIST:
    if source == "mnist":
        try:
            _registry.present("mnist")
        except DataError as error:
            pytest.skip(f"needs the real MNIST files: {error}")
    return MultiMNIST(kind, source=source, per_count=per_count, valid=500, test=500)


def boxes(examples: Examples) -> NDArray[np.int64]:
    assert examples.objects is not None
    return examples.objects.box.astype(np.int64)


def counts(examples: Examples) -> NDArray[np.int64]:
    assert examples.label is not None
    return examples.label


@functools.lru_cache(maxsize=4)
def statistics(kind: Kind, source: Source) -> dict[str, float]:
    """Of the training images at their published number: intensities in [0, 1], entropies in nats."""
    examples = MultiMNIST(kind, source=source).split("train")
    levels = np.zeros(256)
    for start in range(0, len(examples), 4_000):
        levels += np.bincount(examples.image[start : start + 4_000].ravel(), minlength=256)
    levels /= len(examples)
    x = np.arange(256) / 255
    return {
        "mean": levels @ x / 2_500,
        "inked": levels[1:].sum() / 2_500,
        "squares": levels @ x**2,
        "floor": levels @ (special.entr(x) + special.entr(1 - x)),
    }


@pytest.mark.mnist
@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("aak", {"mean": 0.0424, "inked": 0.062, "squares": 91.1, "floor": 46.5}),
        ("pyro", {"mean": 0.0243, "inked": 0.045, "squares": 47.6, "floor": 40.6}),
    ],
)
def test_the_statistics_are_those_of_a_trial_apart_from_its_choice_of_digits(
    kind: Kind, known: dict[str, float]
) -> None:
    """The trial's 1,000 digits held more ink than MNIST's, whose mean is 0.1307 of 28 x 28 pixels."""
    data(kind, "mnist")
    found, heavier = statistics(kind, "mnist"), 0.0424 / (0.1307 * 784 / 2_500)
    for name, value in known.items():
        assert found[name] * heavier == pytest.approx(value, rel=0.03), name


@sources
def test_the_mean_intensity_is_that_of_the_digits(source: Source) -> None:
    """No digit is likelier for being small, none is cut: on average one digit's ink on 2,500 pixels."""
    pool = data("aak", source).pool("train")
    assert statistics("aak", source)["mean"] == pytest.approx(
        pool.ink.sum(dtype=np.int64) / len(pool.ink) / 255 / 2_500, rel=0.01
    )
    if source == "mnist":  # MNIST's mean is 0.1307 of 28 x 28 pixels
        assert statistics("aak", source)["mean"] == pytest.approx(0.1307 * 784 / 2_500, rel=0.01)


def test_enlarged_embedded_digits_are_as_high_as_mnist_and_hold_a_fifth_more_ink() -> None:
    assert statistics("aak", "digits") == pytest.approx(
        {"mean": 0.0483, "inked": 0.0832, "squares": 85.2, "floor": 105.5}, rel=0.02
    )
    height = data().pool("train").box[:, 3]
    assert 18 <= np.percentile(height, 5) <= np.percentile(height, 95) <= 21


@sources
@layouts
def test_there_are_exactly_as_many_images_of_each_count(kind: Kind, source: Source) -> None:
    examples = [data(kind, source).split(name) for name in SPLITS]
    assert [len(part) for part in examples] == [5_000, 500, 500]
    every = np.concatenate([counts(part) for part in examples])
    assert np.bincount(every).tolist() == [2_000, 2_000, 2_000]
    for part in examples:
        assert part.objects is not None
        np.testing.assert_array_equal((part.objects.label >= 0).sum(1), counts(part))
        assert stats.chisquare(np.bincount(counts(part))).pvalue > 1e-3  # shuffled


def test_the_published_sizes_are_20000_of_each_count_and_2000_for_test() -> None:
    whole = MultiMNIST(source="digits")
    sizes = {name: len(whole.split(name)) for name in SPLITS}
    assert sizes == {"train": 56_000, "valid": 2_000, "test": 2_000}
    every = np.concatenate([counts(whole.split(name)) for name in SPLITS])
    assert np.bincount(every).tolist() == [20_000, 20_000, 20_000]
    places = [multimnist.shares(60_000, name, 0, 2_000, 2_000) for name in SPLITS]
    assert np.array_equal(np.sort(np.concatenate(places)), np.arange(60_000))


@sources
def test_boxes_are_disjoint_on_the_canvas_tight_and_hold_all_the_ink(source: Source) -> None:
    examples = data("aak", source).split("test")
    image, box = examples.image[:][:, 0], boxes(examples)
    for picture, count, edges in zip(image, counts(examples), box, strict=True):
        covered = np.zeros((50, 50), dtype=int)
        assert (edges[count:] == -1).all()
        for x0, y0, x1, y1 in edges[:count]:
            assert min(x0, y0) >= 0
            assert max(x1, y1) <= 50
            inside = picture[y0:y1, x0:x1] > 0
            assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
            covered[y0:y1, x0:x1] += 1
        assert covered.max(initial=0) <= 1
        assert not picture[covered == 0].any()


@sources
@layouts
def test_owners_are_the_digits_whose_ink_is_there(kind: Kind, source: Source) -> None:
    examples = data(kind, source).split("test")
    assert examples.owner is not None
    image, owner = examples.image[:][:, 0], examples.owner[:]
    assert owner.shape == image.shape
    np.testing.assert_array_equal(owner == 255, image == 0)
    for mask, count, edges in zip(owner, counts(examples), boxes(examples), strict=True):
        assert set(np.unique(mask)) <= {*range(count), 255}
        for place, (x0, y0, x1, y1) in enumerate(edges[:count]):
            y, x = np.nonzero(mask == place)
            inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
            assert inside.all()
            assert len(x) > 5
            if kind == "aak":
                assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (x0, y0, x1, y1)


def test_places_are_uniform_and_depend_on_the_size_of_the_ink_alone() -> None:
    examples = data(per_count=20_000).split("train")
    one = boxes(examples)[counts(examples) == 1, 0]
    room = 50 - (one[:, 2:] - one[:, :2])
    for edge, most in ((one[:, 0], room[:, 0]), (one[:, 1], room[:, 1])):
        assert edge.min() == 0
        assert (edge == most).any()
        within = np.random.default_rng(0).random(len(edge))
        assert stats.kstest((edge + within) / (most + 1), stats.uniform.cdf).pvalue > 1e-3


def test_pyro_digits_are_reduced_to_a_side_of_28_by_a_normal_scale() -> None:
    where = data("pyro", per_count=20_000).where("train")
    side = where.side[where.side > 0]
    scale = np.random.default_rng(0).normal(1.3, 0.1, 1_000_000)
    expected = np.bincount((28 / scale).astype(int), minlength=60) / 1_000_000
    found = np.bincount(side, minlength=60) / len(side)
    assert np.abs(found - expected).max() < 0.01
    assert ((where.x + where.side < 50) | (where.glyph < 0)).all()  # the last place is never taken


def test_pyro_digits_may_touch_but_never_saturate() -> None:
    made = data("pyro")
    examples = made.split("train")
    two = np.flatnonzero(counts(examples) == 2)
    box = boxes(examples)[two]
    meet = (box[:, 0, :2] < box[:, 1, 2:]).all(1) & (box[:, 1, :2] < box[:, 0, 2:]).all(1)
    assert meet.mean() > 0.1
    alone = multimnist.apart(made.pool("train"), made.where("train").rows(two)).astype(int)
    assert alone.sum(1).max() <= 255
    np.testing.assert_array_equal(alone.sum(1), examples.image[two][:, 0])


@layouts
def test_an_image_is_the_same_whatever_batch_it_is_asked_for_in(kind: Kind) -> None:
    examples = data(kind).split("valid")
    for images in (examples.image, examples.owner):
        assert images is not None
        whole = images[:]
        assert whole.dtype == np.uint8
        order = np.random.default_rng(0).permutation(500)
        np.testing.assert_array_equal(images[order], whole[order])
        np.testing.assert_array_equal(images[np.array([7])], whole[7:8])
        np.testing.assert_array_equal(images[490:510], whole[490:])
        assert len(images[np.array([], dtype=np.int64)]) == 0


@pytest.mark.parametrize(("kind", "digest"), [("aak", "460222b32764"), ("pyro", "76261d5beb57")])
def test_the_images_of_version_1_are_these_on_every_machine(kind: Kind, digest: str) -> None:
    assert MultiMNIST.version == 1
    assert data(kind).digest == digest


def test_another_seed_gives_other_images() -> None:
    one, other = data(), dataclasses.replace(data(), seed=1)
    assert (one.where("train").x != other.where("train").x).mean() > 0.5
    assert one.digest != other.digest


@sources
def test_clean_splits_share_no_digit_and_paper_splits_share_all(source: Source) -> None:
    clean = data("aak", source)
    seen: dict[Split, set[bytes]] = {
        name: {digit.tobytes() for digit in clean.pool(name).frame} for name in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        assert not seen[one] & seen[other]
    paper = dataclasses.replace(clean, digits="paper")
    for name in SPLITS:
        assert {d.tobytes() for d in paper.pool(name).frame} == seen["train"] | seen["valid"]


@layouts
def test_every_digit_of_the_pool_is_equally_likely(kind: Kind) -> None:
    made = data(kind, per_count=20_000)
    glyph = made.where("train").glyph
    used = np.bincount(glyph[glyph >= 0], minlength=len(made.pool("train").label))
    assert stats.chisquare(used).pvalue > 1e-3


def test_asking_for_images_never_changes_them() -> None:
    made = data()
    with pytest.raises(ValueError, match="read-only"):
        made.where("train").x[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        made.pool("train").ink[0] = 0
    examples = made.split("train")
    first = examples.image[:4]
    first[:] = 255
    assert not (examples.image[:4] == 255).all()


def test_embedded_images_never_pass_for_mnist() -> None:
    assert MultiMNIST().info.name == "multimnist"
    assert MultiMNIST().info.shape == (1, 50, 50)
    assert MultiMNIST().info.objects == 2
    assert MultiMNIST().info.stand_in == ""
    demo = build(dataset("multimnist", **MultiMNIST.tiers["demo"]))
    assert demo.info.name == "multidigits"
    assert demo.info.stand_in == STAND_IN["digits"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 0}, "test=0"),
        ({"per_count": 1_000, "valid": 1_500, "test": 1_500}, "leave none of the 3000"),
        ({"layout": "grid"}, "grid"),
        ({"digits": "dirty"}, "dirty"),
        ({"source": "letters"}, "letters"),
    ],
)
def test_an_impossible_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(dataset("multimnist", **options))
