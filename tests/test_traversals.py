"""Traversals: what is measured of pushed objects and of ways between scenes, on pictures whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from reprise.core.dataset import DatasetInfo
from reprise.core.errors import ContractError, NothingToMeasure, UsageError
from reprise.core.model import Locates, Location, Traverses
from reprise.data.scenes import Scenes
from reprise.metrics.traversals import Traversals, detour, share_swept

DATA = Scenes("mnist4", source="digits", canvas=64, train=8, valid=4, test=12)
BOX = (20.0, 24.0, 28.0, 30.0)


class Block(Locates, Traverses):
    """Sees a white block in every image, and moves it; `stirs`: something else changes with it."""

    device = torch.device("cpu")

    def __init__(self, *, seen: float = 0.9, stirs: bool = False, channels: int = 1) -> None:
        self.seen, self.stirs, self.channels = seen, stirs, channels

    def locate(self, x: Tensor) -> Location:
        box = torch.tensor([[0.0, 0.0, 4.0, 4.0], BOX]).expand(len(x), 2, 4)
        presence = torch.tensor([0.1, self.seen]).expand(len(x), 2)
        return Location(box=box, presence=presence, what=torch.zeros(len(x), 2, 3))

    def move(self, x: Tensor, object: Tensor, shifts: Tensor) -> Tensor:
        assert object.tolist() == [1] * len(x), "the surest object"
        images = torch.zeros(len(x), len(shifts), self.channels, 64, 64)
        x0, y0, x1, y1 = (int(edge) for edge in BOX)
        for step, (right, down) in enumerate(shifts.round().int().tolist()):
            rows, columns = slice(y0 + down, y1 + down), slice(x0 + right, x1 + right)
            images[:, step, :, rows, columns] = 1
            if self.stirs and (right or down):
                images[:, step, :, :4, :4] = 1
        return images

    def interpolate(self, x0: Tensor, x1: Tensor, steps: int) -> Tensor:
        share = torch.linspace(0, 1, steps).view(1, -1, 1, 1, 1)
        return torch.lerp(x0[:, None], x1[:, None], share)


def test_an_object_that_moves_alone_changes_nothing_outside_its_swept_box() -> None:
    found = Traversals(images=3, steps=5)(Block(), DATA)
    assert found.value == 1.0
    assert found.n == 3
    assert found.arrays["moved"].shape == (3, 2, 5, 1, 64, 64)
    assert found.arrays["grid"].shape == (9, 7, 3, 64, 64)
    moved = found.arrays["moved"][0]
    assert np.nonzero(moved[0, -1, 0].any(0))[0].tolist() == list(range(36, 44)), (
        "16 px to the right"
    )
    assert np.nonzero(moved[1, 0, 0].any(1))[0].tolist() == list(range(8, 14)), "16 px up"


def test_what_stirs_elsewhere_is_counted() -> None:
    block, corner = 2 * 8 * 6, 4 * 4  # pixels: the block leaves one place whole and fills another
    found = Traversals(images=2, steps=5)(Block(stirs=True), DATA)
    assert found.value == pytest.approx(block / (block + corner))


def test_shares_are_those_of_squared_changes() -> None:
    rest = np.zeros((1, 1, 4, 4), np.uint8)
    moved = np.zeros((1, 2, 1, 1, 4, 4), np.uint8)
    moved[0, 0, 0, 0, 1, 2] = 20  # in the swept box: from column 1 to column 2
    moved[0, 0, 0, 0, 3, 3] = 10
    box = np.array([[1.0, 1.0, 2.0, 2.0]])
    shifts = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert share_swept(moved, rest, box, shifts) == pytest.approx([400 / 500])
    assert share_swept(moved * 0, rest, box, shifts) == pytest.approx([1.0])


def test_a_fade_is_the_straight_way_and_a_thing_that_moves_a_longer_one() -> None:
    fade = np.linspace(0, 200, 5).astype(np.uint8)[None, :, None, None, None]
    assert detour(np.broadcast_to(fade, (1, 5, 1, 8, 8))) == pytest.approx([1.0])
    moving = np.zeros((1, 5, 1, 1, 8), np.uint8)
    for step in range(5):
        moving[0, step, 0, 0, step] = 255  # every step as far as the whole way
    assert detour(moving) == pytest.approx([4.0])


def test_the_way_begins_and_ends_at_neighbouring_images() -> None:
    found = Traversals(images=3, steps=4)(Block(), DATA)
    way, grid = found.arrays["interpolated"], found.arrays["grid"]
    assert np.array_equal(way[0, -1], way[1, 0])
    assert np.array_equal(way[2, -1], way[0, 0])
    assert np.array_equal(grid[2, -1], grid[5, 0])


def test_where_nothing_is_seen_there_is_nothing_to_push() -> None:
    with pytest.raises(NothingToMeasure, match="seen in 0 of 12"):
        Traversals()(Block(seen=0.2), DATA)


def test_wrong_images_and_wrong_options_are_refused() -> None:
    with pytest.raises(ContractError, match=r"Block\.move must return"):
        Traversals(steps=3)(Block(channels=3), DATA)
    for wrong in ({"images": 1}, {"steps": 1}, {"reach": 0.0}):
        with pytest.raises(UsageError):
            Traversals(**wrong)


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 64, 64)])
def test_gnm_moves_one_object_and_nothing_else(shape: tuple[int, int, int]) -> None:
    """With masks that overlap, what an object uncovers lies where it was: still inside its way."""
    from reprise.models.gnm import GNM

    info = DatasetInfo("any", shape, "rgb" if shape[0] == 3 else "gray", objects=4)
    model = GNM(GNM.recipe(info).config, info).eval()
    x = torch.rand(2, *shape)
    with torch.no_grad():
        location = model.locate(x)
        surest = location.presence.argmax(1)
        along = torch.tensor(
            [[0.0, 0.0], [8.0, 0.0], [-8.0, 0.0], [0.0, 0.0], [0.0, 8.0], [0.0, -8.0]]
        )
        images = (model.move(x, surest, along) * 255).round().byte().numpy()
    box = location.box[torch.arange(2), surest].double().numpy()
    moved, shifts = images.reshape(2, 2, 3, *shape), along.double().numpy().reshape(2, 3, 2)
    assert (moved[:, :, 1:] != moved[:, :, :1]).any(), "it moves"
    assert (share_swept(moved, images[:, 0], box, shifts) > 0.99).all()
