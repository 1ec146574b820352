"""The metrics of object representations, on cases whose answer is known by hand or by COCO's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprise.core.dataset import Dataset, DatasetInfo, Examples, Objects, Split
from reprise.core.detection import Detections, coco, eleven_points, hits, intersection_over_union
from reprise.core.errors import ContractError, NothingToMeasure, UsageError
from reprise.core.metric import Measurement, Metric
from reprise.core.model import Decomposes, Decomposition, Locates, Location
from reprise.core.randomness import seeded
from reprise.data.scenes import Scenes
from reprise.metrics.average_precision import AveragePrecision
from reprise.metrics.decompositions import Decompositions, effective_components, shares
from reprise.metrics.detections import TRUE
from reprise.metrics.detections import Detections as Overlay
from reprise.metrics.matched_objects import MatchedObjects
from reprise.metrics.presence import Presence
from reprise.metrics.reconstructions import COLOUR
from reprise.metrics.what_classification import WhatClassification, gather, nearest_objects

HALF = np.array([0.5])
THRESHOLDS = np.arange(50, 100, 5) / 100
SCENES = Scenes("mnist10", source="digits", canvas=64, train=300, valid=40, test=60)
FOUR = Scenes("mnist4", source="digits", canvas=64, train=300, valid=40, test=60)


def measure(how: Metric, model: Any, data: Dataset = SCENES, seed: int = 0) -> Measurement:
    """As the launcher does: a seeded generator, no gradients."""
    with seeded(seed), torch.inference_mode():
        return how(model, data)


# Hand-made images: unit squares far apart, of which a prediction hits one (side 1) or misses all (far away).


def square(at: float, side: float = 1.0) -> list[float]:
    return [at, 0.0, at + side, side]


def image(predicted: list[tuple[float, float]], true: list[float]) -> Detections:
    """Predictions as (confidence, left edge), true boxes by their left edge."""
    box = np.array([square(at) for _, at in predicted]).reshape(-1, 4)
    confidence = np.array([c for c, _ in predicted], dtype=np.float64)
    return Detections(box, confidence, np.array([square(at) for at in true]).reshape(-1, 4))


def ap(images: list[Detections], rule: Any = eleven_points) -> float:
    return float(rule(images, HALF)[0].mean())


KNOWN = {
    "one object, found": ([image([(0.9, 0)], [0])], 1.0),
    "one object, missed": ([image([(0.9, 50)], [0])], 0.0),
    "nothing predicted": ([image([], [0])], 0.0),
    # precision 1 up to recall 1/2: r = 0 ... 0.5, six of eleven points
    "one of two": ([image([(0.9, 0)], [0, 10])], 6 / 11),
    # a false one first: hits at ranks 2 and 3, precision 1/2 then 2/3; the best at recall >= r is 2/3 for all r
    "a false one before two": ([image([(0.9, 50), (0.8, 0), (0.7, 10)], [0, 10])], 2 / 3),
    # hit, miss, hit: precision 1 for r <= 1/2 (6 points), 2/3 above (5 points)
    "a false one between two": (
        [image([(0.9, 0), (0.8, 50), (0.7, 10)], [0, 10])],
        (6 + 5 * 2 / 3) / 11,
    ),
    # the second prediction of the same object is false, and so is everything in an image without objects
    "found twice": ([image([(0.9, 0), (0.8, 0)], [0])], 1.0),
    "found twice, the rest later": (
        [image([(0.9, 0), (0.8, 0), (0.7, 10)], [0, 10])],
        (6 + 5 * 2 / 3) / 11,
    ),
    "an empty image": ([image([(0.95, 0)], []), image([(0.9, 0)], [0])], 0.5),
    # pooled over images: the confident miss of one image counts before the hit of the other
    "two images": ([image([(0.9, 50)], [0]), image([(0.8, 0)], [0])], 6 / 11 * 0.5),
    # nine of ten: recall 0.9 exactly, so ten points of eleven
    "nine of ten": ([image([(0.9, 10 * k) for k in range(9)], [10 * k for k in range(10)])], 10 / 11),
    # three of ten reach recall 0.3, which floating point puts below 0.1 * 3
    "three of ten": ([image([(0.9, 10 * k) for k in range(3)], [10 * k for k in range(10)])], 4 / 11),
}  # fmt: skip


@pytest.mark.parametrize("case", KNOWN)
def test_the_11_point_ap_of_a_hand_made_case_is_the_one_by_hand(case: str) -> None:
    images, expected = KNOWN[case]
    assert ap(images) == pytest.approx(expected, abs=1e-12)


def test_the_ceiling_is_ten_elevenths_unless_every_object_is_found() -> None:
    whole = [image([(0.9, 10 * k) for k in range(10)], [10 * k for k in range(10)])] * 100
    assert ap(whole) == 1.0
    missed = image([(0.9, 10 * k) for k in range(9)], [10 * k for k in range(10)])
    assert ap([*whole[1:], missed]) == pytest.approx(10 / 11)  # 999 of 1,000 objects
    assert ap([*whole[1:], missed], coco) > 0.98  # COCO's has no such ceiling
    assert round(10 / 11, 3) == 0.909


def test_a_prediction_belongs_to_the_object_it_overlaps_most_even_when_that_is_taken() -> None:
    """COCO's rule would give the second prediction the neighbour that is left."""
    true = np.array([[0.0, 0, 10, 10], [4.0, 0, 14, 10]])
    box = np.array([[0.0, 0, 10, 10], [1.0, 0, 11, 10]])  # overlap .82 and .54
    one = Detections(box, np.array([0.9, 0.8]), true)
    assert hits(one, HALF)[:, 0].tolist() == [True, False]
    assert ap([one]) == pytest.approx(6 / 11)
    assert coco([one], HALF)[1][0] == 1.0


def test_a_hit_needs_more_than_the_threshold() -> None:
    half = Detections(np.array([[0.0, 0, 1, 2]]), np.array([0.9]), np.array([[0.0, 0, 1, 1]]))
    assert intersection_over_union(half.box, half.true)[0, 0] == 0.5
    assert ap([half]) == 0.0
    assert coco([half], HALF)[1][0] == 1.0  # COCO's needs no more than the threshold
    boxes = np.array([[0.0, 0, 4, 2], [2.0, 1, 4, 3], [5.0, 5, 6, 6], [1.0, 1, 1, 1]])
    expected = np.array([[1, 2 / 10, 0, 0], [2 / 10, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    assert intersection_over_union(boxes, boxes) == pytest.approx(expected)


def scattered(n: int, seed: int, noise: float = 2.0) -> list[Detections]:
    """Images with 1 to 6 objects on a grid, most of them found, somewhat shifted, and a few false ones."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        corner = 40.0 * random.permutation(9)[: random.integers(1, 7), None] + np.array([[0.0]])
        true = np.concatenate([corner, corner, corner + 20, corner + 20], 1)
        found = true[random.random(len(true)) < 0.9] + 0.0
        found += random.normal(0, noise, found.shape)
        false = random.uniform(0, 300, (random.integers(0, 3), 1)) + np.array([[0.0, 0, 15, 15]])
        box = np.concatenate([found, false])
        images.append(Detections(box, random.uniform(0.5, 1, len(box)), true))
    return images


@pytest.mark.parametrize("rule", [eleven_points, coco])
def test_the_order_of_images_and_of_predictions_changes_nothing(rule: Any) -> None:
    images = scattered(40, 0)
    if rule is eleven_points:  # presences saturate: equal confidences must not bring the order in
        images = [Detections(i.box, i.confidence.round(1), i.true) for i in images]
    expected = rule(images, THRESHOLDS)[0]
    random = np.random.default_rng(1)
    shuffled = [images[k] for k in random.permutation(len(images))]
    assert np.array_equal(rule(shuffled, THRESHOLDS)[0], expected)
    other = scattered(40, 0)
    turned = [Detections(i.box[::-1], i.confidence[::-1], i.true[::-1]) for i in other]
    assert rule(turned, THRESHOLDS)[0] == pytest.approx(rule(other, THRESHOLDS)[0])


def test_ap_falls_with_the_threshold_and_precision_with_recall() -> None:
    precision, recall = eleven_points(scattered(60, 2), THRESHOLDS)
    assert precision.shape == (10, 11)
    assert (np.diff(precision.mean(1)) <= 0).all()
    assert (np.diff(recall) <= 0).all()
    assert (np.diff(precision, axis=1) <= 0).all()
    assert 0.3 < precision[0].mean() < 1


def test_a_false_prediction_never_helps_and_doubling_the_data_changes_nothing() -> None:
    images = scattered(30, 3)
    before = ap(images)
    for confidence in (0.55, 0.8, 0.99):
        far = Detections(
            np.concatenate([images[0].box, [[900.0, 900, 910, 910]]]),
            np.append(images[0].confidence, confidence),
            images[0].true,
        )
        assert ap([far, *images[1:]]) <= before
    assert ap(images + images) == pytest.approx(before)


def test_where_boxes_do_not_compete_coco_and_ours_see_the_same_hits() -> None:
    """Objects lie apart, so best box and best free box are one: only the interpolation differs."""
    images = scattered(50, 4, noise=1.0)
    ours, theirs = eleven_points(images, THRESHOLDS), coco(images, THRESHOLDS)
    assert ours[1] == pytest.approx(theirs[1])  # recall
    reached = theirs[0][:, ::10]  # COCO's precision at the same eleven recalls
    assert ours[0] == pytest.approx(reached, abs=1e-9)


# On scenes with known boxes.


@dataclass(frozen=True)
class OracleConfig:
    digits: int = 16


class Oracle(torch.nn.Module, Locates):
    """Knows the scenes of `data` by heart: their boxes, grown by `margin`, their first `miss` objects left out.

    z^what is the one-hot class with noise; with fresh weights, noise alone.
    """

    seen: ClassVar[list[int]] = []

    def __init__(
        self,
        config: OracleConfig | None = None,
        info: DatasetInfo | None = None,
        data: Dataset = SCENES,
        margin: float = 0.0,
        miss: int = 0,
        shift: float = 0.0,
        knows: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = config or OracleConfig()
        self.data, self.margin, self.miss, self.shift, self.knows = data, margin, miss, shift, knows
        self.weight = torch.nn.Parameter(torch.randn(10, self.config.digits))
        self.answers: dict[bytes, tuple[Any, Any]] = {}

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def _answers(self) -> dict[bytes, tuple[Any, Any]]:
        if not self.answers:
            for name in ("train", "valid", "test"):
                examples = self.data.split(name)
                assert examples.objects is not None
                pairs = zip(examples.objects.box, examples.objects.label, strict=True)
                for picture, known in zip(examples.image[:], pairs, strict=True):
                    self.answers[picture.tobytes()] = known
        return self.answers

    def locate(self, x: Tensor) -> Location:
        known = [
            self._answers()[(one * 255).round().to(torch.uint8).numpy().tobytes()] for one in x
        ]
        box = torch.from_numpy(np.stack([b for b, _ in known]))
        label = torch.from_numpy(np.stack([c for _, c in known]))
        grow = torch.tensor([-self.margin, -self.margin, self.margin, self.margin]) + self.shift
        presence = torch.where(label >= 0, 0.9, 0.1)
        presence[:, : self.miss] = 0.2
        one_hot = torch.nn.functional.one_hot(label.clamp_min(0), self.config.digits).float()
        what = self.knows * one_hot + torch.randn(one_hot.shape)
        return Location(box + grow, presence, what)


def test_the_true_boxes_have_an_average_precision_of_one() -> None:
    for interpolation in ("11-point", "101-point"):
        for iou in ("0.5", "0.5:0.95"):
            how = AveragePrecision(iou=iou, interpolation=interpolation)
            assert measure(how, Oracle()).value == pytest.approx(1.0)


def test_looser_boxes_are_found_at_lower_thresholds_only() -> None:
    found = measure(AveragePrecision(), Oracle(margin=1.0))
    assert found.arrays["ap"][0] == pytest.approx(1.0)
    assert found.arrays["ap"][-1] == 0.0
    assert found.value == pytest.approx(found.arrays["ap"].mean())
    assert found.arrays["threshold"].tolist() == [k / 100 for k in range(50, 100, 5)]
    assert found.n == 60
    half = measure(AveragePrecision(iou="0.5"), Oracle(margin=1.0))
    assert half.value == found.arrays["ap"][0]


def test_a_missed_object_in_every_image_costs_two_points_of_eleven() -> None:
    measured = measure(AveragePrecision(iou="0.5"), Oracle(miss=1))
    assert measured.value == pytest.approx(10 / 11)  # recall 0.9 is still reached
    assert measured.arrays["recall"][0] == pytest.approx(0.9)
    assert measure(
        AveragePrecision(iou="0.5"), Oracle(data=FOUR, miss=1), FOUR
    ).value == pytest.approx(8 / 11)
    nothing = measure(AveragePrecision(interpolation="101-point"), Oracle(miss=10))
    assert nothing.value == measure(AveragePrecision(), Oracle(miss=10)).value == 0.0


def test_the_two_rules_are_two_dialects_and_so_are_two_thresholds() -> None:
    made = [AveragePrecision(i, j) for i in ("0.5", "0.5:0.95") for j in ("11-point", "101-point")]
    assert len({how.dialect for how in made}) == 4
    assert "interpolation=11-point" in AveragePrecision().dialect.split()


@dataclass(frozen=True)
class Blank(Dataset):
    """Images of which nothing is known."""

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo("blank", (1, 8, 8))

    def split(self, name: Split) -> Examples:
        return Examples(np.zeros((4, 1, 8, 8), np.uint8))

    @property
    def digest(self) -> str:
        return "0" * 12


@pytest.mark.parametrize(
    "how", [AveragePrecision(), WhatClassification(), MatchedObjects(), Overlay()]
)
def test_data_that_do_not_say_what_is_there_are_refused(how: Metric) -> None:
    with pytest.raises(UsageError, match="needs a dataset that says what objects are there"):
        measure(how, Oracle(), Blank())


@pytest.mark.parametrize("how", [AveragePrecision(), Presence()])
def test_locations_of_the_wrong_shape_or_without_numbers_are_refused(how: Metric) -> None:
    class Flat(Oracle):
        def locate(self, x: Tensor) -> Location:
            found = super().locate(x)
            return found._replace(box=found.box.flatten(1))

    class Diverged(Oracle):
        def locate(self, x: Tensor) -> Location:
            found = super().locate(x)
            return found._replace(box=found.box * float("nan"))

    class Fewer(Oracle):
        def locate(self, x: Tensor) -> Location:
            found = super().locate(x)
            return found._replace(presence=found.presence[:, :3])

    class Logits(Oracle):
        def locate(self, x: Tensor) -> Location:
            found = super().locate(x)
            return found._replace(presence=found.presence.logit())

    class Pair(Oracle):
        def locate(self, x: Tensor) -> Location:
            return super().locate(x)[:2]  # type: ignore[return-value]

    for refused, message in {
        Flat: r"Flat.locate must return box \(B, O, 4\)",
        Fewer: r"got box \(60, 10, 4\), presence \(60, 3\) and what .* for 60 images",
        Logits: r"Logits.locate\(x\).presence must lie in \[0, 1\]; it goes from 2.2 to 2.2",
        Pair: "Pair.locate returned tuple; expected a Location of tensors",
    }.items():
        with pytest.raises(ContractError, match=message):
            measure(how, refused())
    with pytest.raises(
        FloatingPointError, match=r"Diverged.locate gives numbers that are not finite"
    ):
        measure(how, Diverged())


# z^what classification.

QUICK = WhatClassification(vectors=1_500)


def test_a_latent_that_holds_the_class_is_read_and_one_that_does_not_is_chance() -> None:
    knowing = measure(QUICK, Oracle(knows=8.0))
    assert knowing.value > 0.98
    assert knowing.n == 600
    assert knowing.arrays["discarded"].tolist() == [0, 0, 0]
    assert knowing.arrays["vectors"].tolist() == [1_500, 150, 600]
    ignorant = measure(QUICK, Oracle(knows=0.0))
    assert abs(ignorant.value - 0.1) < 4 * 0.3 / np.sqrt(600)


def test_the_controls_take_away_what_was_learnt() -> None:
    """Permuted classes leave chance; an untrained model's z^what is that of fresh weights in the same cells."""
    untrained = measure(WhatClassification(vectors=1_500, control="untrained"), Oracle(knows=8.0))
    assert abs(untrained.value - 0.1) < 4 * 0.3 / np.sqrt(600)
    assert untrained.n == 600
    how = WhatClassification(vectors=800, control="shuffled", permutations=12)
    shuffled = measure(how, Oracle(knows=8.0))
    assert shuffled.n == 12
    assert shuffled.stderr is not None
    assert abs(shuffled.value - 0.1) < 4 * shuffled.stderr < 0.15
    # one permutation scatters by far more than its 600 vectors alone would: whole classes are taken for one
    assert shuffled.arrays["value"].std(ddof=1) > 2 * 0.3 / np.sqrt(600)


def test_the_same_seed_gives_the_same_accuracy_and_another_seed_another_classifier() -> None:
    curves = [
        measure(QUICK, Oracle(knows=2.0), seed=seed).arrays["validation"] for seed in (1, 1, 2)
    ]
    assert np.array_equal(curves[0], curves[1])
    assert not np.array_equal(curves[0], curves[2])


def test_the_epoch_that_reads_the_validation_vectors_best_is_the_one_that_is_scored() -> None:
    long = measure(WhatClassification(vectors=200, epochs=40), Oracle(knows=2.0))
    best = int(long.arrays["validation"][0].argmax())
    short = measure(WhatClassification(vectors=200, epochs=best + 1), Oracle(knows=2.0))
    assert short.value == long.value
    assert np.array_equal(short.arrays["predicted"], long.arrays["predicted"])


def test_an_object_takes_the_class_of_the_nearest_one_and_the_far_ones_are_left_out() -> None:
    box = np.array([[[0.0, 0, 4, 4], [9.0, 0, 13, 4], [40.0, 40, 44, 44]]])
    true = np.array([[[0, 0, 2, 2], [10, 0, 12, 4], [-1, -1, -1, -1]]], np.float32)
    nearest, distance = nearest_objects(box, true, np.array([[7, 3, -1]]))
    assert nearest[0, :2].tolist() == [7, 3]
    assert distance[0] == pytest.approx([np.sqrt(2), 0, np.hypot(31, 40)])
    _, none = nearest_objects(box, true, np.array([[-1, -1, -1]]))
    assert np.isinf(none).all()

    moved = Oracle(knows=8.0, shift=100.0)  # every box lies far from every object
    with pytest.raises(NothingToMeasure, match="sees no object within 5 pixels"):
        measure(QUICK, moved)
    assert measure(MatchedObjects(), moved).value == 0.0
    assert measure(MatchedObjects(), Oracle()).value == 1.0
    near = measure(MatchedObjects(), Oracle(shift=3.0))  # 3 pixels along each axis: within 5
    assert near.value == 1.0
    assert near.arrays["distance"].max() <= 3 * np.sqrt(2) + 1e-6
    with pytest.raises(NothingToMeasure, match="sees no object in 60 images"):
        measure(MatchedObjects(), Oracle(miss=10))


def test_training_vectors_are_no_more_than_asked_for_and_never_of_the_test_split() -> None:
    model = Oracle(knows=8.0)
    few = gather(model, model, SCENES, "train", 5.0, 120, None)
    assert few.what.shape == (120, 16)
    assert set(few.label.tolist()) == set(range(10))
    assert len(gather(model, model, SCENES, "train", 5.0, 10**6, None).label) == 3_000
    assert len(gather(model, model, SCENES, "test", 5.0, None, 7).label) == 70


# Overlays.


def test_an_overlay_shows_true_boxes_and_over_them_the_boxes_seen() -> None:
    measured = measure(Overlay(images=5), Oracle(margin=2.0))
    overlay = measured.arrays["overlay"]
    assert overlay.shape == (5, 3, 64, 64)
    assert overlay.dtype == np.uint8
    for colour in (COLOUR, TRUE):
        assert (overlay == np.array(colour)[:, None, None]).all(1).any((1, 2)).all()
    hidden = measure(Overlay(images=5), Oracle()).arrays["overlay"]  # red lies on blue
    assert not (hidden == np.array(TRUE)[:, None, None]).all(1).any()
    assert measure(Overlay(images=5), Oracle()).value == 1.0
    assert measure(Overlay(images=5), Oracle(miss=2)).value == pytest.approx(0.8)


# Decompositions.


class Slices(torch.nn.Module, Decomposes):
    """K vertical slices of the image, each its own component; `sharp` 0 spreads every mask evenly.

    idle: components beside them that hold nothing.
    """

    def __init__(
        self, components: int = 4, sharp: float = 1.0, total: float = 1.0, idle: int = 0
    ) -> None:
        super().__init__()
        self.components, self.sharp, self.total, self.idle = components, sharp, total, idle

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def decompose(self, x: Tensor) -> Decomposition:
        k, width = self.components, x.shape[-1]
        of = (torch.arange(width) * k // width)[None, :] == torch.arange(k)[:, None]  # (K, W)
        mask = self.sharp * of.float() + (1 - self.sharp) / k
        mask = (self.total * mask)[None, :, None, None].expand(len(x), k, 1, x.shape[-2], width)
        mask = torch.cat([mask.new_zeros(len(x), self.idle, *mask.shape[2:]), mask], 1)
        return Decomposition(mask, x[:, None].expand(-1, k + self.idle, -1, -1, -1))


def test_the_layers_add_up_to_the_image_and_are_shown_beside_it() -> None:
    measured = measure(Decompositions(images=3), Slices())
    grid, masks = measured.arrays["grid"], measured.arrays["masks"]
    assert grid.shape == (6, 5, 3, 64, 64)
    assert masks.shape == (3, 4, 1, 64, 64)
    assert measured.arrays["components"].shape == (3, 4, 1, 64, 64)
    for row in range(0, 6, 2):
        assert np.array_equal(grid[row, 0], grid[row + 1, 0])  # the input and the sum of the layers
        assert np.array_equal(grid[row + 1, 1:].max(0), grid[row, 0])  # each pixel is in one layer
        assert (grid[row, 1:].sum(0) == 255).all()  # masks


def test_effective_components_are_as_many_as_share_what_stands_out() -> None:
    share = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    assert effective_components(share) == pytest.approx([1, 2, 4])
    assert measure(Decompositions(), Slices(components=1)).value == pytest.approx(1)
    assert measure(Decompositions(), Slices(sharp=0.0)).value == pytest.approx(4)
    assert 1 < measure(Decompositions(), Slices(components=4)).value <= 4


def test_black_around_the_digits_counts_for_nothing() -> None:
    images = np.zeros((1, 1, 8, 8), np.uint8)
    images[0, 0, 2, 1] = 255  # one lit pixel, in the left half
    mask: NDArray[np.float64] = np.zeros((1, 2, 1, 8, 8))
    mask[0, 0, 0, :, :4], mask[0, 1, 0, :, 4:] = 1, 1
    assert shares(mask, images).tolist() == [[1.0, 0.0]]
    assert shares(mask, 0 * images).tolist() == [[0.5, 0.5]]
    assert shares(mask, 255 - images).tolist() == [[1.0, 0.0]]


def test_of_many_components_those_that_hold_most_are_shown_in_the_models_order() -> None:
    whole = measure(Decompositions(images=2), Slices(components=8))
    part = measure(Decompositions(images=2, shown=3), Slices(components=8))
    assert part.arrays["grid"].shape[1] == 4
    layers = whole.arrays["grid"][1, 1:].sum((1, 2, 3), dtype=np.int64)
    kept = part.arrays["grid"][1, 1:].sum((1, 2, 3), dtype=np.int64)
    assert sorted(kept) == sorted(layers)[-3:]
    assert list(kept) == [value for value in layers if value in kept]


def test_components_that_hold_nothing_are_stored_and_not_shown() -> None:
    found, plain = (measure(Decompositions(), Slices(idle=idle)) for idle in (9, 0))
    assert found.arrays["masks"].shape[1] == 13
    assert np.array_equal(found.arrays["grid"], plain.arrays["grid"])
    assert found.value == plain.value


def test_masks_that_do_not_add_up_to_one_break_the_contract() -> None:
    with pytest.raises(ContractError, match="masks that are at least 0 and add up to 1"):
        measure(Decompositions(), Slices(total=0.9))

    class Flat(Slices):
        def decompose(self, x: Tensor) -> Decomposition:
            found = super().decompose(x)
            return found._replace(mask=found.mask[:, :, 0])

    with pytest.raises(ContractError, match=r"Flat.decompose must return mask \(B, K, 1, H, W\)"):
        measure(Decompositions(), Flat())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: AveragePrecision(images=0),
        lambda: WhatClassification(vectors=0),
        lambda: WhatClassification(within=0.0),
        lambda: MatchedObjects(within=-1.0),
        lambda: Overlay(images=0),
        lambda: Decompositions(shown=0),
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="needs"):
        wrong()


def test_objects_of_a_split_are_those_of_its_images() -> None:
    """The oracle above rests on it: boxes are tight around lit pixels."""
    test = SCENES.split("test")
    assert isinstance(test.objects, Objects)
    picture, boxes = test.image[:][0, 0], test.objects.box[0].astype(int)
    for x0, y0, x1, y1 in boxes:
        inside = picture[y0:y1, x0:x1] > 0
        assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()  # noqa: PT018
