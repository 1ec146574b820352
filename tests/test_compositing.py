"""Compositing against cell by cell affine_grid and grid_sample, sums written out; both ways that the code can take."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reprise.nn import compositing
from reprise.nn.compositing import compete, composite, masked, over, straight_through_clamp
from reprise.nn.fused import kernels

from .straightforward import paste_literally

SIDE = 48


def scene() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Glimpses, weights, scales, shifts: tiny, wide, beyond the rim, off the canvas, one on another; in float64."""
    scale = torch.tensor(
        [[[0.02, 0.02], [1.9, 0.3], [0.17, 0.17], [0.99, 1.0]],
         [[0.05, 1.5], [0.3, 0.2], [0.3, 0.25], [1e-4, 1e-4]],
         [[0.2, 0.2], [0.2, 0.2], [0.1, 0.1], [0.15, 0.1]]]
    )  # fmt: skip
    shift = torch.tensor(
        [[[0.99, -0.99], [0.0, 1.3], [-1.2, -0.4], [0.0, 0.0]],
         [[0.5, 0.1], [-0.97, 0.97], [-0.9, 0.9], [0.3, 0.3]],
         [[0.3, 0.3], [0.31, 0.33], [0.6, 0.35], [3.0, -3.0]]]
    )  # fmt: skip
    return torch.rand(3, 4, 4, 9, 9).double(), torch.rand(3, 4).double(), scale.double(), shift.double()  # fmt: skip


def literally(glimpse: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
    colours, masks, answers = [], [], []
    for o in range(glimpse.shape[1]):
        place = scale[:, o], shift[:, o], SIDE
        colours.append(paste_literally(glimpse[:, o, :3], *place))
        masks.append(paste_literally(glimpse[:, o, 3:], *place))
        heavy = glimpse[:, o, 3:] * weight[:, o, None, None, None]
        answers.append(paste_literally(heavy, *place))
    foreground = torch.zeros_like(colours[0])
    for colour, answer in zip(colours, answers, strict=True):
        foreground = foreground + colour * answer / (sum(answers) + 1e-15)
    return foreground, torch.stack(masks).sum(0)


def ours(glimpse: Tensor, weight: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    return composite(glimpse, weight, scale, shift, SIDE)


@pytest.mark.parametrize("whole", [False, True])
def test_compositing_is_the_sum_that_algorithm_2_writes_with_its_gradients(
    whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if whole:  # as on a GPU
        monkeypatch.setattr(compositing, "_windows", lambda a_x, a_y: compositing._whole(3, 2))
    results, given = [], scene()
    for function in (literally, ours):
        inputs = [part.clone().requires_grad_() for part in given]
        foreground, mask = function(*inputs)
        weight = torch.linspace(-3, 3, foreground.numel()).view_as(foreground).cos()
        ((foreground * weight).sum() + (mask.square() * weight[:, :1]).sum()).backward()
        results.append([foreground.detach(), mask.detach(), *(part.grad for part in inputs)])
    for literal, fast in zip(*results, strict=True):
        assert literal is not None
        assert fast is not None
        assert (literal - fast).norm() <= 1e-9 * literal.norm()
    assert results[1][1] is not None
    assert torch.eq(results[1][1], 0).any()  # pixels where no object is


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_compiled_it_is_the_same(threads: int) -> None:
    pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
    torch.manual_seed(0)
    results, given = [], [part.float() for part in scene()]
    before = torch.get_num_threads()
    torch.set_num_threads(
        threads
    )  # of three images: more than each, fewer, and more threads than images
    for compiled in (False, True):
        inputs = [part.to(torch.float32 if compiled else torch.float64) for part in given]
        inputs = [part.clone().requires_grad_() for part in inputs]
        with kernels(compiled):
            foreground, mask = ours(*inputs)
        assert ("Compiled" in type(foreground.grad_fn).__name__) == compiled
        weight = torch.linspace(-3, 3, foreground.numel()).view_as(foreground).cos()
        ((foreground * weight).sum() + (mask.square() * weight[:, :1]).sum()).backward()
        results.append([foreground.detach(), mask.detach(), *(part.grad for part in inputs)])
    torch.set_num_threads(before)
    for exact, found in zip(*results, strict=True):
        assert exact is not None
        assert found is not None
        assert (exact - found).norm() <= 1e-5 * exact.norm()


@pytest.mark.parametrize("colours", [3, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_masked_glimpses_are_composited_as_if_they_were_written_down(
    colours: int, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    """With every gradient, out to where a sigmoid is 0 and 1, as near to exact as torch's operations in fp32."""
    pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
    torch.manual_seed(0)
    _, *boxes = scene()
    shape = (12, colours + 1, 9, 9)
    logits = torch.linspace(-95, 95, 12 * (colours + 1) * 81)[
        torch.randperm(12 * (colours + 1) * 81)
    ]
    logits = logits.view(shape).to(dtype, memory_format=layout).unflatten(0, (3, 4))
    logits[0, 0, :, 0, :2] = torch.tensor([0.0, -3e-6])
    presence, results = torch.rand(3, 4), []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    for kind, compiled in ((torch.float64, False), (torch.float32, False), (torch.float32, True)):
        given = [
            logits if compiled else logits.to(kind),
            *(part.to(kind) for part in (*boxes, presence)),
        ]
        given = [part.clone().requires_grad_() for part in given]
        with kernels(compiled):
            glimpse, weight, scale, shift, there = given
            foreground, mask = composite(glimpse, weight, scale, shift, SIDE, there)
        kernel = compiled and colours == 3  # what there is one for
        assert ("Compiled" in type(foreground.grad_fn).__name__) == kernel
        wave = torch.linspace(-3, 3, foreground.numel(), dtype=kind).view_as(foreground).cos()
        loss = (foreground * wave).sum() + (mask.square() * wave[:, :1]).sum()
        found = torch.autograd.grad(loss, given)
        assert [part.dtype for part in found] == [part.dtype for part in given]
        results.append([foreground.detach(), mask.detach(), *found])
    torch.set_num_threads(before)
    for place, (exact, plain, ours) in enumerate(zip(*results, strict=True)):
        rounded = 4e-3 if place == 2 and dtype == torch.bfloat16 else 0  # the gradient of logits
        least = max(1e-5, rounded) * exact.norm()
        assert (exact - ours).norm() <= max(least, 2 * (exact - plain).norm()), place


def test_masks_are_the_last_sigmoid_times_presence_and_colours_times_that() -> None:
    logits = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    presence = torch.rand(2, 3, dtype=torch.float64)
    found, value = masked(logits, presence), 1 / (1 + (-logits).exp())
    there = presence[:, :, None, None] * value[:, :, 3]
    assert torch.allclose(found[:, :, 3], there)
    for c in range(3):
        assert torch.allclose(found[:, :, c], value[:, :, c] * there)


def test_a_logit_that_is_no_number_is_not_swallowed() -> None:
    pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
    logits = torch.zeros(2, 1, 4, 3, 3)
    logits[1, 0, 2, 1, 1] = torch.nan
    box = torch.full((2, 1, 2), 0.8), torch.zeros(2, 1, 2)
    with kernels(True):
        foreground, _ = composite(logits, torch.ones(2, 1), *box, SIDE, torch.ones(2, 1))
    assert foreground[0].isfinite().all()
    assert foreground[1].isnan().any()


@pytest.mark.parametrize("compiled", [False, True])
def test_where_no_object_is_there_is_nothing(compiled: bool) -> None:
    """And no gradient that is not finite, although shares are 0 / 1e-15 there."""
    if compiled:
        pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
    glimpse, weight, scale, shift = (part.float().requires_grad_() for part in scene())
    with kernels(compiled):
        foreground, mask = composite(glimpse, weight, scale, shift, SIDE)
    nobody = torch.eq(mask, 0).expand_as(foreground)
    assert nobody.any()
    assert (foreground[nobody] == 0).all()
    foreground.square().sum().backward()
    for part in (glimpse, weight, scale, shift):
        assert part.grad is not None
        assert part.grad.isfinite().all()


def test_the_nearer_object_hides_the_other() -> None:
    glimpse = torch.ones(1, 2, 4, 8, 8)
    glimpse[0, 1, :3] = 0.25
    boxes = torch.full((1, 2, 2), 0.5), torch.zeros(1, 2, 2)
    foreground, mask = composite(glimpse, torch.tensor([[1e-6, 1.0]]), *boxes, SIDE)
    assert foreground[0, :, SIDE // 2, SIDE // 2].tolist() == pytest.approx([0.25] * 3, abs=1e-4)
    assert mask[0, 0, SIDE // 2, SIDE // 2] == 2


def test_memory_order_changes_no_value() -> None:
    glimpse, weight, scale, shift = scene()
    in_rows = glimpse.transpose(2, 3).contiguous().transpose(2, 3)
    foreground, _ = ours(in_rows, weight, scale, shift)
    assert torch.equal(foreground, ours(glimpse, weight, scale, shift)[0])


def test_a_clamp_passes_its_gradient_straight_through() -> None:
    x = torch.tensor([-0.5, 0.5, 3.0], requires_grad=True)
    clamped = straight_through_clamp(x, 0, 1)
    clamped.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert clamped.tolist() == [0, 0.5, 1]
    assert x.grad is not None
    assert x.grad.tolist() == [1, 2, 3]


# --- competing for pixels ---------------------------------------------------------------------------------------------


def test_competing_objects_share_a_pixel_by_a_softmax_that_absent_ones_take_part_in() -> None:
    """Two objects as large as the canvas, and one beside it: (e^2 · 0.5 + e^0.3 · 0.3) / (e^2 + e^0.3 + e^0)."""
    mask = torch.tensor([0.5, 0.3, 0.7], dtype=torch.float64)
    colour = torch.tensor([0.9, 0.2, 0.4], dtype=torch.float64)
    glimpse = torch.stack([mask * colour, mask], 1)[None, :, :, None, None].expand(1, 3, 2, 4, 4)
    scale = torch.tensor([2.0, 2.0, 0.1], dtype=torch.float64)[None, :, None].expand(1, 3, 2)
    shift = torch.tensor([0.0, 0.0, 9.0], dtype=torch.float64)[None, :, None].expand(1, 3, 2)
    weight = torch.tensor([[4.0, 1.0, 50.0]], dtype=torch.float64)
    found = compete(glimpse, weight, scale, shift, 8)[0, :, 4, 4]
    near, far, absent = math.exp(2), math.exp(0.3), 1.0
    total = near + far + absent
    assert found[1].item() == pytest.approx((near * 0.5 + far * 0.3) / total)
    assert found[0].item() == pytest.approx((near * 0.45 + far * 0.06) / total)


@pytest.mark.parametrize("heaviest", [1.0, 100.0])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_compiled_the_competition_is_the_same(threads: int, heaviest: float) -> None:
    """A logit near 100 has seven digits, and its exponential five."""
    pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
    torch.manual_seed(0)
    results, (glimpse, weight, scale, shift) = [], [part.float() for part in scene()]
    given = glimpse, heaviest * weight, scale, shift
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    for kind, compiled in ((torch.float64, False), (torch.float32, True)):
        inputs = [part.to(kind, copy=True).requires_grad_() for part in given]
        glimpse, weight, scale, shift = inputs
        with kernels(compiled):
            together = compete(glimpse, weight, scale, shift, SIDE)
        assert ("Compiled" in type(together.grad_fn).__name__) == compiled
        wave = torch.linspace(-3, 3, together.numel(), dtype=kind).view_as(together).cos()
        gradients = torch.autograd.grad((together.square() * wave).sum(), inputs)
        results.append([together.detach(), *gradients])
    torch.set_num_threads(before)
    for place, (exact, found) in enumerate(zip(*results, strict=True)):
        assert (exact - found).norm() <= 5e-5 * exact.norm(), place


def test_a_competitor_that_is_no_number_is_not_swallowed() -> None:
    pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
    for channel in (0, 1):
        glimpse = torch.rand(2, 2, 2, 3, 3)
        glimpse[1, 0, channel, 1, 1] = torch.nan
        box = torch.full((2, 2, 2), 0.8), torch.zeros(2, 2, 2)
        with kernels(True):
            together = compete(glimpse, torch.full((2, 2), 60.0), *box, SIDE)
        assert together[0].isfinite().all()
        assert together[1].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (1, 3, 5, 7)])
def test_what_lies_in_front_of_a_background_hides_it_as_far_as_its_mask_says(
    shape: tuple[int, int, int, int], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    """With every gradient; masks below 0 and above 1, as a straight-through clamp lets them be, and large logits."""
    pytest.importorskip("numba", reason="compiled kernels need the extra `fast`")
    torch.manual_seed(0)
    front, logits = torch.rand(shape), 40 * torch.randn(shape)
    front = front.to(memory_format=layout)
    logits, mask = logits.to(dtype, memory_format=layout), 2 * torch.randn(shape)[:, :1]
    results = []
    for compiled in (True, False):
        given = [part if compiled else part.double() for part in (front, mask, logits)]
        given = [part.clone().requires_grad_() for part in given]
        with kernels(compiled):
            image = over(*given)
        assert ("Compiled" in type(image.grad_fn).__name__) == compiled
        if not compiled:
            literally = given[0] + (1 - given[1]) / (1 + (-given[2]).exp())
            torch.testing.assert_close(image, literally)
        wave = torch.linspace(-3, 3, image.numel(), dtype=image.dtype).view_as(image).cos()
        results.append([image.detach(), *torch.autograd.grad((image.square() * wave).sum(), given)])
    assert [part.dtype for part in results[0]] == [torch.float32, torch.float32, torch.float32, dtype]  # fmt: skip
    for place, (found, exact) in enumerate(zip(*results, strict=True)):
        least = 4e-3 if place == 3 and dtype == torch.bfloat16 else 1e-6
        assert (found - exact).norm() <= least * exact.norm(), place
