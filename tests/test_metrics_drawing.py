"""The metrics of drawing models, on drawers whose every part is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score
from torch import Tensor

from reprise.core.errors import ContractError, NothingToMeasure, UsageError
from reprise.core.model import Drawing
from reprise.metrics.completions import Completions
from reprise.metrics.drawings import Drawings
from reprise.metrics.exemplars import Exemplars
from reprise.metrics.linear_probe import LinearProbe, gather
from reprise.metrics.part_counts import PartCounts
from reprise.metrics.silhouette import Silhouette

from .drawers import SIDE, Bars, Drawer, measure

# Part counts ----------------------------------------------------------------------------------------------------------


def test_parts_are_counted_image_by_image() -> None:
    found = measure(PartCounts(), Drawer(), Bars())
    assert found.value == 2.0
    assert found.n == 30
    assert found.arrays["count"].tolist() == [1, 2, 3] * 10
    assert found.arrays["histogram"].tolist() == [0, 10, 10, 10]
    assert found.dialect == "cap=3"


def test_the_share_at_the_cap_is_of_images_drawn_with_all_the_parts_there_can_be() -> None:
    assert measure(PartCounts("at_cap"), Drawer(), Bars()).value == pytest.approx(1 / 3)
    roomy = measure(PartCounts("at_cap"), Drawer(steps=5), Bars())
    assert roomy.value == 0.0
    assert roomy.arrays["histogram"].tolist() == [0, 10, 10, 10, 0, 0]
    assert roomy.dialect == "cap=5"


def test_with_dropout_a_model_is_in_train_mode_as_long_as_it_draws() -> None:
    model = Drawer()
    assert measure(PartCounts(dropout=True), model, Bars()).arrays["histogram"].tolist() == [
        0,
        0,
        10,
        20,
    ]
    assert not model.training
    assert measure(PartCounts(), model, Bars()).value == 2.0


# Silhouette -----------------------------------------------------------------------------------------------------------


def test_the_silhouette_is_scikit_learns_of_the_parts_of_training_images() -> None:
    data = Bars(train=300)
    found = measure(Silhouette(clusters=3, vectors=400, shown=50), Drawer(noise=0.3), data)
    assert found.n == 400
    assert 0 < found.value < 1
    # the parts themselves: drawn once more, with the same seed
    torch.manual_seed(0)
    how = Silhouette(clusters=3, vectors=400)
    parts = how._parts(Drawer(noise=0.3), data)
    assert found.value == pytest.approx(
        silhouette_score(parts.what, found.arrays["cluster"]), abs=1e-12
    )
    assert np.array_equal(found.arrays["part"], parts.part[found.arrays["shown"]])


def test_parts_of_three_kinds_make_three_pure_clusters_the_largest_first() -> None:
    class Kinds(Drawer):
        def draw(self, x: Tensor, sample: bool = True) -> Drawing:
            found = super().draw(x, sample)
            kind = 10 * found.what[..., :1]
            return found._replace(what=torch.cat([kind, torch.rand_like(kind)], -1))

    data = Bars(train=90)
    found = measure(Silhouette(clusters=3, vectors=1_000, shown=1_000), Kinds(), data)
    assert found.n == 30 + 60 + 90  # as many as there are, fewer than asked for
    assert found.value > 0.9
    assert np.bincount(found.arrays["cluster"]).tolist() == [90, 60, 30]
    # what a part adds is one bar: those of the largest cluster lie on top
    ink = found.arrays["part"][:, 0].sum(2) > 0  # (V, H)
    for kind in range(3):
        of_kind = ink[found.arrays["cluster"] == kind]
        assert of_kind[:, 4 * kind : 4 * kind + 2].all()
        assert of_kind.sum() == 2 * len(of_kind)
    assert found.arrays["tsne"].shape == (180, 2)


def test_the_picture_shows_as_many_parts_as_asked_for_and_does_not_change_the_number() -> None:
    data, drawer = Bars(train=90), Drawer(noise=0.3)
    few, none = (measure(Silhouette(3, 100, shown), drawer, data) for shown in (20, 0))
    assert few.value == none.value
    assert few.arrays["tsne"].shape == (20, 2)
    assert few.arrays["part"].shape == (20, 1, SIDE, SIDE)
    assert none.arrays["tsne"].shape == (0, 2)


def test_parts_that_are_all_alike_have_no_silhouette() -> None:
    class Same(Drawer):
        def draw(self, x: Tensor, sample: bool = True) -> Drawing:
            found = super().draw(x, sample)
            return found._replace(what=torch.zeros_like(found.what))

    with pytest.raises(NothingToMeasure, match="1 different parts"):
        measure(Silhouette(clusters=2, vectors=50), Same(), Bars())


# Linear probe ---------------------------------------------------------------------------------------------------------


def test_a_probe_reads_a_class_that_the_parts_say() -> None:
    found = measure(LinearProbe(), Drawer(noise=0.1), Bars(train=200))
    assert found.value == 1.0
    assert found.n == 30
    assert found.arrays["chance"] == pytest.approx(1 / 3)


def test_a_probe_that_is_shown_noise_reads_at_chance() -> None:
    class Blind(Drawer):
        def draw(self, x: Tensor, sample: bool = True) -> Drawing:
            found = super().draw(torch.ones_like(x), sample)
            return found._replace(what=torch.randn_like(found.what))

    found = measure(LinearProbe(), Blind(), Bars(train=300, test=600))
    assert found.value == pytest.approx(1 / 3, abs=4 * 0.02)


def test_features_are_what_and_where_of_parts_that_are_there_and_zero_else() -> None:
    features = gather(Drawer(steps=4), Bars(), "test", None)
    assert features.feature.shape == (30, 4 * 6)
    parts = features.feature.reshape(30, 4, 6)
    for image in range(30):
        count = 1 + image % 3
        assert (parts[image, :count, 0] == np.arange(count)).all()
        assert (parts[image, :count, 3] == 4 * np.arange(count)).all()
        assert (parts[image, count:] == 0).all()  # where there is no part, the drawer says 99
    assert features.label.tolist() == [0, 1, 2] * 10


def test_images_without_classes_cannot_be_probed() -> None:
    with pytest.raises(UsageError, match="bars has none"):
        measure(LinearProbe(), Drawer(), Bars(classes=False))


# Galleries ------------------------------------------------------------------------------------------------------------


def test_a_drawing_grows_part_by_part_beside_its_target() -> None:
    found = measure(Drawings(images=30), Drawer(steps=4), Bars())
    assert found.value == 0.0
    grid, inputs = found.arrays["grid"], found.arrays["inputs"]
    assert grid.shape == (30, 5, 1, SIDE, SIDE)
    assert np.array_equal(grid[:, 0], inputs)
    for image, count in enumerate(found.arrays["count"]):
        assert count == 1 + image % 3
        for part in range(count):
            assert np.array_equal(
                grid[image, 1 + part, 0, : 4 * part + 4], inputs[image, 0, : 4 * part + 4]
            )
            assert (grid[image, 1 + part, 0, 4 * part + 4 :] == 0).all()
        assert (grid[image, 1 + count :] == 255).all()


def test_the_closest_of_many_drawings_is_kept() -> None:
    one, many = (measure(Drawings(20, best_of), Drawer(error=0.5), Bars()) for best_of in (1, 50))
    assert many.value < one.value / 100
    assert (many.arrays["value"] <= one.arrays["value"]).all()


def test_completions_stand_beside_what_was_begun() -> None:
    found = measure(Completions(rows=3, draws=4), Drawer(), Bars())
    grid = found.arrays["grid"]
    assert grid.shape == (3, 5, 1, SIDE, SIDE)
    assert (grid[:, :, :, :2] == 255).all()
    assert (grid[:, 1::2, :, 4:6] == 255).all()
    assert (grid[:, 0::2, :, 4:6] == 0).all()
    # two draws of four are 1 in a sixth of the pixels: a variance of 1/3 (ddof 1) there
    assert found.value == pytest.approx(np.sqrt(1 / 3 / 6))


def test_exemplars_stand_beside_their_target() -> None:
    found = measure(Exemplars(images=6, draws=3), Drawer(), Bars())
    grid = found.arrays["grid"]
    assert grid.shape == (6, 4, 1, SIDE, SIDE)
    assert np.array_equal(grid[:, 0], grid[:, 1])
    assert (grid[:, 2] == np.round(grid[:, 0] * 0.5)).all()
    assert (grid[:, 3] == 0).all()
    assert found.value > 0


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        ({"present": torch.full((1, 3), 0.5)}, "present in"),
        ({"present": torch.tensor([[0.0, 1.0, 0.0]])}, "present in"),
        ({"where": torch.zeros(1, 3, 3)}, "where"),
        ({"what": torch.zeros(1, 2, 5)}, "what"),
        ({"canvas": torch.zeros(1, 3, 1, 5, 5)}, "canvas"),
    ],
)
def test_a_drawing_of_the_wrong_kind_is_refused(spoilt: dict[str, Tensor], message: str) -> None:
    class Wrong(Drawer):
        def draw(self, x: Tensor, sample: bool = True) -> Drawing:
            found = super().draw(x, sample)
            return found._replace(**{k: v.expand(len(x), *v.shape[1:]) for k, v in spoilt.items()})

    for how in (PartCounts(), Drawings(), LinearProbe(), Silhouette(vectors=20)):
        with pytest.raises(ContractError, match=message):
            measure(how, Wrong(), Bars())


def test_numbers_that_are_not_finite_are_refused() -> None:
    class Lost(Drawer):
        def draw(self, x: Tensor, sample: bool = True) -> Drawing:
            found = super().draw(x, sample)
            return found._replace(where=found.where / 0)

    with pytest.raises(FloatingPointError, match="diverge"):
        measure(PartCounts(), Lost(), Bars())


def test_galleries_of_the_wrong_shape_are_refused() -> None:
    class Wrong(Drawer):
        def complete(self, x: Tensor, draws: int) -> Tensor:
            return super().complete(x, draws)[:, 1:]

        def vary(self, x: Tensor, draws: int) -> Tensor:
            return super().vary(x, draws).flatten(0, 1)

    for how, name in ((Completions(), "complete"), (Exemplars(), "vary")):
        with pytest.raises(ContractError, match=f"Wrong.{name} must return shape"):
            measure(how, Wrong(), Bars())
