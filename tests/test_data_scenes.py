"""Digit scenes keep the rules that were measured on the published samples, and are the same for everyone."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats

from reprise.core.dataset import SPLITS, Split
from reprise.core.errors import DataError, UsageError
from reprise.core.spec import build, dataset
from reprise.data import _registry
from reprise.data._digits import Source
from reprise.data._glyphs import glyphs
from reprise.data.scenes import Layout, Rule, Scenes, paint

SMALL = {"train": 4_000, "valid": 300, "test": 300}
NATIVE = {"digits": 64, "mnist": 128}
sources = pytest.mark.parametrize(
    "source", ["digits", pytest.param("mnist", marks=pytest.mark.mnist)]
)
rules = pytest.mark.parametrize("rule", ["mnist4", "mnist10", "mnist4_10"])


def scenes(rule: Rule, source: Source = "digits") -> Scenes:
    """Scenes on the canvas where the source's digits have their native size."""
    if source == "mnist":
        try:
            _registry.present("mnist")
        except DataError as error:
            pytest.skip(f"needs the real MNIST files: {error}")
    return Scenes(rule, source, NATIVE[source], **SMALL)


def centres(box: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(box[..., :2] + box[..., 2:], dtype=np.float64) / 2


@sources
def test_mnist4_digits_mirror_each_other_about_both_centre_axes(source: Source) -> None:
    data = scenes("mnist4", source)
    objects = data.split("train").objects
    assert objects is not None
    x, y = np.moveaxis(centres(objects.box), -1, 0)  # (N, 4), clockwise from the top left
    for left, right in ((0, 1), (3, 2)):
        assert np.abs(x[:, left] + x[:, right] - data.canvas).max() <= 1
        assert np.abs(y[:, left] - y[:, right]).max() <= 0.5
    for upper, lower in ((0, 3), (1, 2)):
        assert np.abs(y[:, upper] + y[:, lower] - data.canvas).max() <= 1
        assert np.abs(x[:, upper] - x[:, lower]).max() <= 0.5


@sources
def test_mnist4_counts_up_clockwise_from_a_uniform_class_at_a_uniform_place(source: Source) -> None:
    data = scenes("mnist4", source)
    layout, objects = data.layout("train"), data.split("train").objects
    assert objects is not None
    first = objects.label[:, 0]
    np.testing.assert_array_equal(objects.label, first[:, None] + np.arange(4))
    assert stats.chisquare(np.bincount(first, minlength=7)).pvalue > 1e-3
    offsets = data.canvas // 2 - 20 * data.canvas // 128 + 1
    for near in (layout.x[:, 0], layout.y[:, 0]):
        counts = np.bincount(near)
        assert len(counts) == offsets
        assert stats.chisquare(counts).pvalue > 1e-3


@sources
def test_every_glyph_of_a_class_is_equally_likely(source: Source) -> None:
    data = dataclasses.replace(scenes("mnist10", source), train=30_000)
    used, known = data.layout("train").glyph, data.glyphs("train").label
    for digit in range(10):
        of_class = np.flatnonzero(known == digit)
        column = used[:, digit]
        assert set(column) <= set(of_class)
        thirds = np.searchsorted(of_class, column) * 3 // len(of_class)
        sizes = np.bincount(np.arange(len(of_class)) * 3 // len(of_class))
        expected = sizes / sizes.sum() * len(column)
        assert stats.chisquare(np.bincount(thirds), expected).pvalue > 1e-4


@sources
def test_mnist10_shows_every_digit_once_in_the_quadrant_of_its_set(source: Source) -> None:
    data = scenes("mnist10", source)
    layout, objects = data.layout("train"), data.split("train").objects
    assert objects is not None
    assert (objects.label == np.arange(10)).all()
    half = data.canvas // 2
    quadrant = (layout.x >= half) + 2 * (layout.y >= half)  # 0 1 / 2 3
    for same in ((0, 1), (2, 3, 4), (5, 6, 7), (8, 9)):
        assert (quadrant[:, same] == quadrant[:, same[:1]]).all()
    assert (quadrant[:, 0] + quadrant[:, 8] == 3).all()  # opposite corners
    assert (quadrant[:, 2] + quadrant[:, 5] == 3).all()
    assert set(quadrant[:, 0]) == {0, 3}
    assert set(quadrant[:, 2]) == {1, 2}
    swaps = (quadrant[:, 0] == 3) + 2 * (quadrant[:, 2] == 2)
    assert stats.chisquare(np.bincount(swaps, minlength=4)).pvalue > 1e-3


@sources
def test_mnist10_repeats_the_places_of_0_and_1_for_8_and_9_and_keeps_digits_apart(
    source: Source,
) -> None:
    data = scenes("mnist10", source)
    layout = data.layout("train")
    place = np.stack([layout.x, layout.y], axis=-1) % (data.canvas // 2)  # (N, 10, 2)
    np.testing.assert_array_equal(place[:, [0, 1]], place[:, [8, 9]])
    assert (place[:, [2, 3, 4]] != place[:, [5, 6, 7]]).any()
    apart = 24 * data.canvas // 128
    for digits in ((0, 1), (2, 3, 4), (5, 6, 7), (8, 9)):
        for a, b in combinations(digits, 2):
            distance = np.abs(place[:, a] - place[:, b]).max(axis=-1)
            assert distance.min() == apart


def test_mnist10_spacing_has_the_percentiles_measured_on_the_published_samples() -> None:
    layout = Scenes("mnist10", "digits", 128, **SMALL).layout("train")
    place = np.stack([layout.x, layout.y], axis=-1)
    pairs = np.abs(place[:, 0] - place[:, 1]).max(-1)
    triples = np.concatenate(
        [np.abs(place[:, a] - place[:, b]).max(-1) for a, b in combinations((2, 3, 4), 2)]
    )
    for distance in (pairs, triples):
        found = np.percentile(distance, [5, 10, 25, 50])
        assert np.abs(found - [24, 25, 27, 30.5]).max() <= 1


@sources
@rules
def test_boxes_are_tight_disjoint_and_hold_all_the_ink(rule: Rule, source: Source) -> None:
    data = scenes(rule, source)
    examples = data.split("test")
    assert examples.objects is not None
    image = examples.image[:][:, 0]
    for picture, labels, boxes in zip(
        image, examples.objects.label, examples.objects.box.astype(int), strict=True
    ):
        assert ((labels >= 0) == (boxes >= 0).all(-1)).all()
        covered = np.zeros(picture.shape, dtype=int)
        for x0, y0, x1, y1 in boxes[labels >= 0]:
            inside = picture[y0:y1, x0:x1] > 0
            edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
            assert all(edge.any() for edge in edges)
            covered[y0:y1, x0:x1] += 1
        assert covered.max() == 1
        assert not picture[covered == 0].any()


@sources
def test_mnist10_scenes_have_ten_components(source: Source) -> None:
    data = scenes("mnist10", source)
    patch = 20 * data.canvas // 128
    layout = data.layout("test")
    solid = np.full((len(data.glyphs("test").label), patch - 1, patch - 1), 255, dtype=np.uint8)
    # Strokes of one digit may be apart, so its patch (less one row and column) is painted solid.
    for picture in paint(solid, layout, data.canvas)[:, 0]:
        assert ndimage.label(picture, structure=np.ones((3, 3)))[1] == 10


@rules
def test_an_image_is_the_same_whatever_batch_it_is_asked_for_in(rule: Rule) -> None:
    data = scenes(rule)
    image = data.split("valid").image
    whole = image[:]
    assert whole.shape == (300, 1, 64, 64)
    assert whole.dtype == np.uint8
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(image[order], whole[order])
    np.testing.assert_array_equal(image[np.array([7])], whole[7:8])
    np.testing.assert_array_equal(image[290:310], whole[290:])
    longer = dataclasses.replace(data, valid=500).split("valid")
    np.testing.assert_array_equal(longer.image[:300], whole)


@pytest.mark.parametrize(
    ("rule", "digest"),
    [("mnist4", "2c776c871f22"), ("mnist10", "0825c1450bdb"), ("mnist4_10", "b2cd87041a80")],
)
def test_the_scenes_of_version_1_are_these_on_every_machine(rule: Rule, digest: str) -> None:
    assert Scenes.version == 1
    assert scenes(rule).digest == digest


def test_another_seed_and_another_split_give_other_scenes() -> None:
    data = scenes("mnist10")
    layouts = [data.layout(name).x[:300] for name in SPLITS]
    layouts.append(dataclasses.replace(data, seed=1).layout("train").x[:300])
    for one, other in combinations(layouts, 2):
        assert (one != other).mean() > 0.9


@sources
def test_no_split_shares_a_digit_with_another(source: Source) -> None:
    data = scenes("mnist4", source)
    seen: dict[Split, set[bytes]] = {
        name: {patch.tobytes() for patch in data.glyphs(name).patch} for name in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        assert not seen[one] & seen[other]


def test_mnist4_10_is_half_of_each_and_says_which() -> None:
    examples = scenes("mnist4_10").split("train")
    assert examples.objects is not None
    assert examples.label is not None
    count = (examples.objects.label >= 0).sum(1)
    np.testing.assert_array_equal(count, np.where(examples.label == 1, 10, 4))
    assert (examples.label == 1).mean() == 0.5


@pytest.mark.parametrize("canvas", [32, 64, 128])
def test_glyphs_are_centred_by_their_ink(canvas: int) -> None:
    found = glyphs("digits", "train", canvas)
    patch = 20 * canvas // 128
    assert found.patch.shape[1:] == (patch, patch)
    # One pixel of the native 10 x 10 patch; half a pixel where it was averaged down.
    slack = {32: 0.5, 64: 0.5, 128: 1.0}[canvas]
    assert np.abs(centres(found.box) - patch / 2).max() <= slack


def test_any_layout_can_be_painted_and_overlapping_ink_adds_up_to_white() -> None:
    data = scenes("mnist4")
    layout = data.layout("test").rows(slice(0, 20))
    gone = Layout(layout.glyph.copy(), layout.x, layout.y)
    gone.glyph[:, 2] = -1
    whole, less = data.render("test", layout), data.render("test", gone)
    objects = data.split("test").objects
    assert objects is not None
    boxes = objects.box[:20, 2].astype(int)
    for before, after, (x0, y0, x1, y1) in zip(whole[:, 0], less[:, 0], boxes, strict=True):
        assert not after[y0:y1, x0:x1].any()
        before[y0:y1, x0:x1] = 0
        np.testing.assert_array_equal(before, after)

    patch = data.glyphs("test").patch
    twice = Layout(np.array([[3, 5]]), np.array([[9, 9]]), np.array([[30, 30]]))
    painted = data.render("test", twice)[0, 0, 30:40, 9:19]
    np.testing.assert_array_equal(
        painted, np.minimum(patch[3].astype(int) + patch[5].astype(int), 255)
    )
    nothing = Layout(*(np.full((2, 4), -1) for _ in range(3)))
    assert not data.render("test", nothing).any()
    with pytest.raises(ValueError, match="off the canvas"):
        data.render("test", Layout(np.array([[0]]), np.array([[55]]), np.array([[0]])))


def test_asking_for_scenes_never_changes_them() -> None:
    data = scenes("mnist4")
    with pytest.raises(ValueError, match="read-only"):
        data.layout("train").x[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        data.glyphs("train").patch[0] = 0
    image = data.split("train").image
    first = image[:4]
    first[:] = 0
    assert image[:4].any()


def test_embedded_scenes_never_pass_for_mnist() -> None:
    assert Scenes("mnist10").info.name == "mnist10"
    assert Scenes("mnist10").info.shape == (1, 128, 128)
    demo = build(dataset("scenes", rule="mnist4_10", **Scenes.tiers["demo"]))
    assert demo.info.name == "digits4_10"
    assert demo.info.objects == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canvas": 100}, "canvas=100"),
        ({"test": 0}, "test=0"),
        ({"source": "letters"}, "letters"),
        ({"rule": "mnist5"}, "mnist5"),
    ],
)
def test_an_impossible_option_is_named(options: dict[str, str | int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(dataset("scenes", **{"rule": "mnist4", **options}))
