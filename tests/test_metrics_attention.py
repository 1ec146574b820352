"""The metrics of models that attend and remember, on readers whose every step is known."""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reprise.core.dataset import Dataset, DatasetInfo, Examples, Objects, Split
from reprise.core.errors import ContractError, NothingToMeasure, UsageError
from reprise.core.metric import Measurement, Metric
from reprise.core.model import Attends, Attention, Remembers
from reprise.core.randomness import seeded
from reprise.metrics._attention import Steps, assigned, attended, matches, tight
from reprise.metrics._windows_drawn import COLOURS, scale, with_windows
from reprise.metrics.attended_reconstructions import AttendedReconstructions
from reprise.metrics.count_accuracy import CountAccuracy
from reprise.metrics.foreground_ari import ForegroundARI
from reprise.metrics.memory import Memory, between
from reprise.metrics.parsing import Parsing
from reprise.metrics.slots import Slots, joint_counts, normalized_mutual_information, purity
from reprise.metrics.windows import Windows, cut, pairwise_overlap

SIDE, CLASSES, STEPS = 24, 4, 3


@dataclass(frozen=True)
class Tiles(Dataset):
    """Up to two 6 x 6 tiles, never overlapping, the brighter the higher their class; image i has i % 3 of them."""

    count: int = 60
    silent: bool = False  # says nothing of objects

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo("tiles", (1, SIDE, SIDE), objects=2)

    def split(self, name: Split) -> Examples:
        random = np.random.default_rng(7)
        image = np.zeros((self.count, 1, SIDE, SIDE), np.uint8)
        owner = np.full((self.count, SIDE, SIDE), 255, np.uint8)
        label = np.full((self.count, 2), -1, np.int64)
        box = np.full((self.count, 2, 4), -1, np.float32)
        for i in range(self.count):
            for o in range(i % 3):
                x, y = random.integers(0, 6) + 12 * o, random.integers(0, 18)
                label[i, o], box[i, o] = random.integers(CLASSES), (x, y, x + 6, y + 6)
                image[i, 0, y : y + 6, x : x + 6] = 200 + 15 * label[i, o]
                owner[i, y : y + 6, x : x + 6] = o
        if self.silent:
            return Examples(image)
        return Examples(image, None, Objects(label, box), owner)

    @property
    def digest(self) -> str:
        return "0" * 12


DATA = Tiles()
TEST = DATA.split("test")
ALL = np.arange(len(TEST))
assert TEST.owner is not None
OWNER = TEST.owner


class Oracle(Attends, Remembers):
    """Reads every tile in one step, in order, with slot = class; parts of it can be spoilt.

    A tile's place is told from the image alone: the model is not told which images it is asked about.
    """

    device = torch.device("cpu")

    def __init__(
        self,
        slot_of: Any = None,
        slots: int = CLASSES,
        sharpness: float = 1.0,
        steps: Any = None,
        whole: bool = False,
        margin: float = 0.0,
    ) -> None:
        self.slot_of = slot_of or (lambda label: label)
        self.slots, self.sharpness, self.whole, self.margin = slots, sharpness, whole, margin
        self.steps = steps or (lambda count: count)
        self.asked: list[bool] = []

    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        self.asked.append(sample)
        assert TEST.objects is not None
        where = {image.tobytes(): i for i, image in enumerate(TEST.image[ALL])}
        images = [where[(one * 255).round().to(torch.uint8).numpy().tobytes()] for one in x]
        batch = len(images)
        present, window = torch.zeros(batch, STEPS), torch.zeros(batch, STEPS, 4)
        layer = torch.zeros(batch, STEPS, *x.shape[1:])
        what, slot = torch.zeros(batch, STEPS, 2), torch.full((batch, STEPS, self.slots), 1.0)
        slot = slot / max(self.slots, 1)
        for b, i in enumerate(images):
            count = int((TEST.objects.label[i] >= 0).sum())
            for step in range(min(self.steps(count), STEPS)):
                present[b, step] = 1
                if step >= count:
                    window[b, step] = torch.tensor([0.0, 0, 3, 3])
                    continue
                o, label = step, int(TEST.objects.label[i, step])
                mine = torch.from_numpy(OWNER[np.array([i])][0] == o)
                grow = torch.tensor([-1.0, -1, 1, 1]) * self.margin
                window[b, step] = torch.from_numpy(TEST.objects.box[i, o]) + grow
                layer[b, step] = (
                    x[b] * (mine if not self.whole else 1.0) * (step == 0 or not self.whole)
                )
                what[b, step] = torch.tensor([float(label), -float(label)])
                if self.slots:
                    slot[b, step] = (1 - self.sharpness) / self.slots
                    slot[b, step, self.slot_of(label)] += self.sharpness
        return Attention(present, torch.full_like(present, 0.9), window, layer, what, slot)

    def recall(self, draws: int) -> Tensor:
        shade = torch.linspace(0, 1, self.slots)[:, None, None, None, None]
        return shade.expand(self.slots, 1 + draws, 1, 5, 5)


def measure(how: Metric, model: Any, data: Dataset = DATA, seed: int = 0) -> Measurement:
    with seeded(seed), torch.inference_mode():
        return how(model, data)


# Matching -----------------------------------------------------------------------------------------------------------


def test_a_tight_box_ends_where_the_ink_ends() -> None:
    layer = np.zeros((2, 3, 1, 8, 10), np.float32)
    layer[0, 1, 0, 2:5, 3:9] = 0.5
    layer[0, 1, 0, 0, 0] = 0.04  # below a tenth of the brightest
    layer[1, 2, 0, 7, 9] = 1.0
    box = tight(layer)
    assert box[0, 1].tolist() == [3, 2, 9, 5]
    assert box[1, 2].tolist() == [9, 7, 10, 8]
    assert box[0, 0].tolist() == [0, 0, 0, 0]


def stepped(*boxes: tuple[float, ...], shift: float = 0.0) -> Steps:
    box = np.array([boxes], dtype=np.float64)
    count = len(boxes)
    return Steps(
        np.ones((1, count), bool),
        box + shift,
        box,
        np.zeros((1, count, 1)),
        np.zeros((1, count, 0)),
    )


def placed(*boxes: tuple[float, ...]) -> Objects:
    return Objects(np.zeros((1, len(boxes)), np.int64), np.array([boxes], dtype=np.float32))


FIRST = np.array([0])


def test_matching_takes_the_best_assignment_and_not_the_first_come() -> None:
    # step 0 overlaps both objects, step 1 only the first: greedily step 1 would be left over
    steps = stepped((2, 0, 12, 10), (-4, 0, 6, 10))
    objects = placed((0, 0, 10, 10), (6, 0, 16, 10))
    assert matches(steps, objects, FIRST).tolist() == [[1, 0]]


def test_an_object_is_matched_once_and_an_absent_one_never() -> None:
    steps = stepped((0, 0, 10, 10), (0, 0, 9, 10))
    assert matches(steps, placed((0, 0, 10, 10)), FIRST).tolist() == [[0, -1]]
    nothing = Objects(np.full((1, 1), -1, np.int64), np.array([[[0, 0, 10, 10]]], np.float32))
    assert matches(steps, nothing, FIRST).tolist() == [[-1, -1]]


def test_below_the_least_overlap_a_window_centred_inside_the_object_is_matched_to_it() -> None:
    speck = stepped((4, 4, 6, 6))  # overlap 0.04, centre inside
    assert matches(speck, placed((0, 0, 10, 10)), FIRST).tolist() == [[0]]
    outside = speck._replace(window=speck.window + 30)
    assert matches(outside, placed((0, 0, 10, 10)), FIRST).tolist() == [[-1]]


def test_an_assignment_never_takes_a_pair_that_is_not_allowed() -> None:
    gain = np.array([[0.9, 0.8], [0.7, 0.1]])
    assert assigned(gain, gain > 0.5) == [(0, 1), (1, 0)]
    assert assigned(gain, np.zeros((2, 2), bool)) == []
    # nor does the gain of such a pair count for the assignment that has it
    tempting = np.array([[0.9, 0.32], [0.6, 0.28]])
    assert assigned(tempting, tempting >= 0.3) == [(0, 1), (1, 0)]
    assert assigned(np.zeros((0, 2)), np.zeros((0, 2), bool)) == []


def test_every_tile_is_matched_to_the_step_that_reads_it() -> None:
    assert TEST.objects is not None
    found = matches(attended(Oracle(), TEST, ALL, "test"), TEST.objects, ALL)
    there = TEST.objects.label >= 0
    assert np.array_equal(found[:, :2] >= 0, there)
    assert np.array_equal(found[:, :2][there], np.nonzero(there)[1])


# Counting -----------------------------------------------------------------------------------------------------------


def test_counts_are_right_where_every_object_has_its_step() -> None:
    found = measure(CountAccuracy(), Oracle())
    assert found.value == 1.0
    assert found.arrays["confusion"].tolist() == [[20, 0, 0, 0], [0, 20, 0, 0], [0, 0, 20, 0]]


def test_the_confusion_matrix_says_what_goes_wrong() -> None:
    three = measure(
        CountAccuracy(), Oracle(steps=lambda count: 3 * (count > 0))
    )  # pyro's failure: 0 or 3 steps
    assert three.value == pytest.approx(1 / 3)
    assert three.arrays["confusion"].tolist() == [[20, 0, 0, 0], [0, 0, 0, 20], [0, 0, 0, 20]]
    none = measure(CountAccuracy(), Oracle(steps=lambda count: 0))
    assert none.arrays["confusion"][:, 0].tolist() == [20, 20, 20]


def test_counts_are_of_drawn_steps_unless_the_mode_is_asked_for() -> None:
    for presence, drawn in (("sampled", True), ("mode", False)):
        reader = Oracle()
        how = CountAccuracy(presence=presence)  # type: ignore[arg-type]
        measure(how, reader)
        assert set(reader.asked) == {drawn}
        assert how.dialect == f"presence={presence}"


# Slots --------------------------------------------------------------------------------------------------------------


def slots(quantity: str, model: Any, **more: Any) -> float:
    return measure(Slots(quantity=quantity, **more), model).value  # type: ignore[arg-type]


def test_a_slot_for_every_class_is_pure_and_shares_all_information() -> None:
    reader = Oracle()
    assert slots("purity", reader) == 1.0
    assert slots("nmi", reader) == pytest.approx(1.0)
    assert slots("used", reader) == CLASSES
    assert slots("conditional_entropy", reader) == pytest.approx(0.0, abs=1e-6)
    usage = slots("usage_entropy", reader)
    assert slots("mutual_information", reader) == pytest.approx(usage, abs=1e-6)
    assert 0 < usage <= math.log(CLASSES) + 1e-9


def test_nothing_depends_on_which_slot_is_called_what() -> None:
    permuted = Oracle(slot_of=lambda label: [2, 0, 3, 1][label])
    split = Oracle(slot_of=lambda label: [0, 0, 2, 3][label])
    for quantity in typing.get_args(typing.get_type_hints(Slots)["quantity"]):
        assert slots(quantity, permuted) == pytest.approx(slots(quantity, Oracle()), abs=1e-6)
    assert slots("nmi", split) < 1.0


def test_one_slot_for_all_classes_shares_nothing() -> None:
    lump = Oracle(slot_of=lambda label: 2)
    assert slots("nmi", lump) == 0.0
    assert slots("used", lump) == 1
    assert slots("usage_entropy", lump) == pytest.approx(0.0, abs=1e-6)
    single = Oracle(slot_of=lambda label: 0, slots=1)  # a memory of one slot
    assert slots("nmi", single) == 0.0
    assert slots("conditional_entropy", single) == 0.0


def test_a_flat_posterior_has_the_entropy_of_all_slots_and_tells_nothing() -> None:
    flat = Oracle(sharpness=0.0, slots=15)
    assert slots("conditional_entropy", flat) == pytest.approx(math.log(15), abs=1e-6)
    assert slots("mutual_information", flat) == pytest.approx(0.0, abs=1e-6)


def test_purity_and_nmi_of_a_hand_made_table() -> None:
    joint = np.array([[3, 1], [0, 4]])
    assert purity(joint) == 7 / 8

    def h(*p: float) -> float:
        return -sum(q * math.log(q) for q in p)

    shared = h(0.5, 0.5) + h(3 / 8, 5 / 8) - h(3 / 8, 1 / 8, 0.5)
    expected = shared / ((h(0.5, 0.5) + h(3 / 8, 5 / 8)) / 2)
    assert normalized_mutual_information(joint) == pytest.approx(expected)
    assert normalized_mutual_information(np.array([[8]])) == 0.0
    assert joint_counts(np.array([0, 2, 2]), np.array([1, 0, 1]), 4).tolist() == [
        [0, 1],
        [0, 0],
        [1, 1],
        [0, 0],
    ]


def test_without_a_memory_clusters_of_what_are_compared_with_the_classes() -> None:
    reader = Oracle(slots=0)
    with pytest.raises(NothingToMeasure, match="no memory slots"):
        slots("nmi", reader)
    assert slots("nmi", reader, groups="k-means") == pytest.approx(
        1.0
    )  # what is a function of the class
    assert slots("purity", reader, groups="k-means", clusters=1) < 1.0
    assert slots("nmi", reader, groups="k-means", clusters=1) == 0.0
    with pytest.raises(UsageError, match="no probabilities"):
        Slots(quantity="usage_entropy", groups="k-means")


def test_k_means_finds_clusters_that_no_two_vectors_share() -> None:
    class Noisy(Oracle):
        def attend(self, x: Tensor, sample: bool = True) -> Attention:
            found = super().attend(x, sample)
            return found._replace(what=found.what + 0.01 * torch.randn(found.what.shape))

    how = Slots(groups="k-means", clusters=CLASSES)
    assert measure(how, Noisy(slots=0)).value == pytest.approx(1.0)
    assert measure(how, Noisy(slots=0)).value == measure(how, Noisy(slots=0)).value


def test_a_model_that_takes_no_step_has_nothing_to_measure() -> None:
    idle = Oracle(steps=lambda count: 0)
    for how in (Slots(), Windows(), Windows(quantity="area"), Windows(quantity="first")):
        with pytest.raises(NothingToMeasure):
            measure(how, idle)
    assert measure(Windows(quantity="steps"), idle).value == 0.0


# Whose pixels ------------------------------------------------------------------------------------------------------


def test_foreground_ari_is_one_for_the_truth_and_zero_for_one_lump() -> None:
    found = measure(ForegroundARI(), Oracle())
    assert found.value == 1.0
    assert found.n == 20
    assert (found.arrays["image"] % 3 == 2).all()
    assert measure(ForegroundARI(), Oracle(whole=True)).value == 0.0
    assert measure(ForegroundARI(), Oracle(steps=lambda count: 0)).value == 0.0


def test_foreground_ari_does_not_care_which_step_comes_first() -> None:
    class Backwards(Oracle):
        def attend(self, x: Tensor, sample: bool = True) -> Attention:
            found = super().attend(x, sample)
            return found._replace(layer=found.layer.flip(1))

    assert measure(ForegroundARI(), Backwards()).value == 1.0


# Windows ------------------------------------------------------------------------------------------------------------


def test_windows_are_measured_in_shares_of_the_image() -> None:
    apart = measure(Windows(quantity="overlap"), Oracle())
    assert apart.value == 0.0
    assert apart.n == 20
    assert measure(Windows(quantity="area"), Oracle()).value == pytest.approx(36 / SIDE**2)
    assert measure(Windows(quantity="steps"), Oracle()).value == 1.0  # of 0, 1 and 2
    assert measure(Windows(quantity="first"), Oracle()).value == pytest.approx(
        0.75, abs=0.01
    )  # 1 and about 1/2
    assert measure(Windows(quantity="first"), Oracle(whole=True)).value == 1.0
    everything = Oracle(margin=100.0)
    assert measure(Windows(quantity="overlap"), everything).value == 1.0
    assert measure(Windows(quantity="area"), everything).value == 1.0


def test_the_overlap_of_several_windows_is_the_mean_over_their_pairs() -> None:
    three = np.array([[0.0, 0, 4, 4], [2.0, 0, 6, 4], [10.0, 10, 12, 12]])
    assert pairwise_overlap(three) == pytest.approx((8 / 24 + 0 + 0) / 3)
    assert cut(np.array([[-5.0, -5, 3, 30]]), 10, 20).tolist() == [[0, 0, 3, 20]]


# Pictures -----------------------------------------------------------------------------------------------------------


def test_the_windows_of_the_steps_have_the_colours_of_their_order() -> None:
    images = np.zeros((1, 1, 32, 32), np.uint8)
    window = np.array([[[4.0, 4, 10, 10], [16.0, 16, 24, 24]]])
    drawn = with_windows(images, window, np.array([[True, False]]))
    by = scale(32)
    assert drawn.shape == (1, 3, 32 * by, 32 * by)
    assert drawn[0, :, 4 * by - 1, 5 * by].tolist() == list(COLOURS[0])
    assert not (drawn[0].transpose(1, 2, 0) == COLOURS[1]).all(-1).any()
    both = with_windows(images, window, np.array([[True, True]]))
    assert both[0, :, 16 * by - 1, 20 * by].tolist() == list(COLOURS[1])


def test_attended_reconstructions_are_pairs_and_the_oracle_makes_no_error() -> None:
    found = measure(AttendedReconstructions(images=18, pairs=3), Oracle())
    assert found.value == 0.0
    assert found.n == 18
    grid, side = found.arrays["grid"], SIDE * scale(SIDE)
    assert grid.shape == (6, 6, 3, side, side)  # 16 pairs and two white ones
    assert (grid[-1, 2:] == 255).all()
    assert measure(AttendedReconstructions(images=18), Oracle(steps=lambda count: 0)).value > 0


def test_a_memory_of_one_shade_a_slot_has_all_its_variance_between_slots() -> None:
    found = measure(Memory(draws=3, rows=2), Oracle())
    assert found.value == pytest.approx(1.0)
    assert found.arrays["grid"].shape == (2, 4, 1, 5, 5)
    assert found.arrays["slot"].tolist() == [0, 1]
    random = np.random.default_rng(0)
    alike = random.normal(size=(1, 200, 4)) + np.zeros((5, 1, 1))
    assert between(alike) == pytest.approx(0.0)
    assert between(random.normal(size=(5, 400, 4))) < 0.02
    assert between(np.zeros((3, 2, 4))) == 0.0


def test_rows_by_use_begin_with_the_slot_that_is_read_most() -> None:
    reader = Oracle(slot_of=lambda label: {0: 3, 1: 3, 2: 3, 3: 1}[label])
    found = measure(Memory(draws=2, order="use"), reader)
    use = found.arrays["use"]
    assert use.sum() == 60
    assert found.arrays["slot"][0] == 3
    assert use[0] == use[2] == 0
    assert found.arrays["slot"].tolist()[:2] == [3, 1]
    assert np.array_equal(found.arrays["grid"], found.arrays["recalled"][found.arrays["slot"]])


def test_a_parse_adds_up_step_by_step_and_names_its_slots() -> None:
    found = measure(Parsing(images=60), Oracle())
    assert found.value == 0.0
    grid, side = found.arrays["grid"], SIDE * scale(SIDE)
    assert grid.shape == (60, 3 + STEPS, 3, side, side)
    assert np.array_equal(grid[:, 1], grid[:, -1])  # the whole is the image
    assert TEST.objects is not None
    assert np.array_equal(found.arrays["slot"][:, :2], TEST.objects.label)
    assert (found.arrays["slot"][:, 2] == -1).all()
    bare = measure(Parsing(images=60), Oracle(slots=0))
    assert (bare.arrays["slot"] == -1).all()
    blank = measure(Parsing(images=3), Oracle(), Tiles(silent=True)).arrays["grid"]
    assert (blank[:, 0] == 255).all()


# What is refused ---------------------------------------------------------------------------------------------------


def test_data_that_do_not_say_what_is_there_are_refused() -> None:
    for how in (CountAccuracy(), Slots(), ForegroundARI()):
        with pytest.raises(UsageError, match="tiles does not"):
            measure(how, Oracle(), Tiles(silent=True))


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"present": torch.full((1, 1), 0.5)}, "present in"),
        ({"present": torch.tensor([[0.0, 1.0, 0.0]])}, "present in"),
        ({"window": torch.zeros(1, 1, 3)}, "window"),
    ],
)
def test_an_attention_of_the_wrong_kind_is_refused(spoilt: dict[str, Tensor], message: str) -> None:
    class Wrong(Oracle):
        def attend(self, x: Tensor, sample: bool = True) -> Attention:
            found = super().attend(x, sample)
            return found._replace(
                **{k: v.expand(len(x), STEPS, *v.shape[2:]) for k, v in spoilt.items()}
            )

    with pytest.raises(ContractError, match=message):
        measure(CountAccuracy(), Wrong())


def test_numbers_that_are_not_finite_are_refused() -> None:
    class Lost(Oracle):
        def attend(self, x: Tensor, sample: bool = True) -> Attention:
            found = super().attend(x, sample)
            return found._replace(window=found.window / 0)

    with pytest.raises(FloatingPointError, match="diverge"):
        measure(Windows(), Lost())
