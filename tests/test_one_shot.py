"""One-shot classification: by a model that matches, and by the modified Hausdorff distance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from reprise.core.dataset import Dataset, DatasetInfo, Examples, Split
from reprise.core.errors import ContractError, UsageError
from reprise.core.workspace import data_root
from reprise.metrics._episodes import episodes
from reprise.metrics.modified_hausdorff import ModifiedHausdorff, centred, modified_hausdorff
from reprise.metrics.one_shot import OneShot

from .drawers import Bars, Drawer, Runs, measure

# Lake's runs, in percent, by the demonstration that comes with them.
ERRORS = [45, 35, 40, 25, 30, 15, 60, 35, 40, 55, 15, 70, 65, 35, 15, 25, 30, 40, 70, 30]


class Exact(Drawer):
    """Undoes the pixel by which the queries of `Runs` are moved."""

    def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
        return super().match(support, query.roll(-1, -1), parses, steps)


def test_a_query_belongs_to_the_support_under_which_it_is_likeliest() -> None:
    model = Exact()
    found = measure(OneShot(parses=5, steps=7), model, Runs())
    assert found.value == 1.0
    assert found.n == 12
    assert model.asked == [(4, 4, 5, 7)] * 3
    assert found.arrays["score"].shape == (3, 4, 4)
    wrong = measure(OneShot(), Exact(), Runs(wrong=1))
    assert wrong.value == 0.75
    assert wrong.arrays["accuracy"].tolist() == [0.75] * 3
    assert wrong.arrays["verdict"].tolist() == [False, True, True, True] * 3


def test_supports_need_not_come_in_the_order_of_their_classes() -> None:
    for how, model in ((OneShot(), Exact()), (ModifiedHausdorff(), None)):
        assert measure(how, model, Runs(turned=True)).value == 1.0
        assert measure(how, model, Runs(turned=True, wrong=1)).value == 0.75
    found = episodes(Runs(turned=True), None, "it")
    assert found.label.tolist() == [[1, 2, 3, 0]] * 3
    assert found.support.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]]
    assert found.query.tolist() == [[4, 5, 6, 7], [12, 13, 14, 15], [20, 21, 22, 23]]


def test_two_ways_add_the_other_direction_and_take_away_the_support() -> None:
    one, two = (
        measure(OneShot(3, 1, way), Drawer(), Runs()).arrays["score"] for way in ("one", "two")
    )
    image = Runs().split("test").image[:].reshape(3, 2, 4, -1) / 255.0
    size = image.sum(-1)  # (E, 2, W)
    distance = np.square(image[:, 1, :, None] - image[:, 0, None]).sum(-1)  # (E, Q, S)
    assert one == pytest.approx(-distance + size[:, 1, :, None], abs=1e-3)
    there_and_back = -2 * distance + size[:, 1, :, None] + size[:, 0, None] + 3 * size[:, 0, None]
    assert two == pytest.approx(there_and_back, abs=1e-3)


def test_only_as_many_episodes_are_played_as_asked_for() -> None:
    assert measure(OneShot(episodes=2), Exact(), Runs()).n == 8
    assert measure(ModifiedHausdorff(episodes=1), None, Runs()).n == 4


def test_scores_of_the_wrong_shape_or_without_a_value_are_refused() -> None:
    class Flat(Drawer):
        def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
            return super().match(support, query, parses, steps)[0]

    class Lost(Drawer):
        def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
            return super().match(support, query, parses, steps) / 0

    with pytest.raises(ContractError, match=r"Flat\.match must return shape \(4, 4\)"):
        measure(OneShot(), Flat(), Runs())
    with pytest.raises(FloatingPointError, match="not finite"):
        measure(OneShot(), Lost(), Runs())


def test_data_without_episodes_are_refused() -> None:
    for how in (OneShot(), ModifiedHausdorff()):
        with pytest.raises(UsageError, match="bars has none"):
            measure(how, Drawer(), Bars(test=31))
        with pytest.raises(UsageError, match="bars has none"):
            measure(how, Drawer(), Bars(classes=False))


def test_the_modified_hausdorff_distance_is_the_larger_of_two_means() -> None:
    a, b = KDTree([[0.0, 0.0], [0.0, 2.0]]), KDTree([[0.0, 0.0]])
    assert modified_hausdorff(a, b) == modified_hausdorff(b, a) == 1.0  # max((0 + 2) / 2, 0)
    random = np.random.default_rng(0)
    one, other = random.random((8, 2)), random.random((5, 2))
    by_hand = np.linalg.norm(one[:, None] - other[None], axis=-1)
    assert modified_hausdorff(KDTree(one), KDTree(other)) == pytest.approx(
        max(by_hand.min(0).mean(), by_hand.min(1).mean())
    )
    assert modified_hausdorff(KDTree(one), KDTree(one)) == 0.0


def test_ink_is_compared_whatever_its_place() -> None:
    ink = np.zeros((9, 9), bool)
    ink[1, 1:4] = ink[2:5, 1] = True
    points = centred(ink)
    assert points.mean(0) == pytest.approx([0, 0])
    assert np.allclose(points, centred(np.roll(ink, (3, 2), (0, 1))))
    with pytest.raises(UsageError, match="no ink"):
        centred(np.zeros((9, 9), bool))
    found = measure(ModifiedHausdorff(), None, Runs())
    assert found.value == 1.0
    assert np.allclose(found.arrays["distance"][:, range(4), [1, 2, 3, 0]], 0)
    assert found.arrays["error"].tolist() == [0, 0, 0]


def test_of_equally_near_supports_the_first_is_taken() -> None:
    @dataclass(frozen=True)
    class Alike(Runs):
        def raw(self) -> NDArray[np.bool_]:
            ink = super().raw()
            return np.broadcast_to(ink[:1], ink.shape)

    assert measure(ModifiedHausdorff(), None, Alike()).arrays["predicted"].tolist() == [[0] * 4] * 3


@dataclass(frozen=True)
class LakesRuns(Dataset):
    """The 20 runs as they are stored, 105 x 105."""

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo("lake", (1, 105, 105))

    @cached_property
    def stored(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        path = data_root() / "omniglot_oneshot.npz"
        if not path.is_file():
            pytest.skip(f"needs the one-shot runs of Omniglot, {path} (set REPRISE_DATA)")
        with np.load(path) as file:
            sides = [
                np.unpackbits(file[f"{side}_packed"], axis=1)[:, :11025].reshape(20, 20, 105, 105)
                for side in ("train", "test")
            ]
            label = np.stack([np.tile(np.arange(20), (20, 1)), file["test_label"]], 1)
        return np.stack(sides, 1).reshape(-1, 105, 105) > 0, label.reshape(-1).astype(np.int64)

    def split(self, name: Split) -> Examples:
        return Examples((self.raw() * np.uint8(255))[:, None], self.stored[1])

    def raw(self) -> NDArray[np.bool_]:
        return self.stored[0]

    @property
    def digest(self) -> str:
        return "0" * 12


@pytest.mark.slow
def test_lakes_runs_have_the_published_errors_to_the_digit() -> None:
    found = measure(ModifiedHausdorff(), None, LakesRuns())
    assert np.rint(found.arrays["error"] * 100).astype(int).tolist() == ERRORS
    assert found.value == 1 - 0.3875
    assert found.n == 400
