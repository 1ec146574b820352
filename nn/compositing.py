"""Objects in front of one another and of a background: responsibilities and masks.

`composite` is GNM's (its supplement, Algorithm 2), `compete` SPACE's. Glimpses of several colours and one mask are
pasted where their boxes are. At a pixel where several objects lie, each answers for a share of it, in proportion to its
mask times its weight (the nearer, the heavier), or to exp of that:

    share_o = weight_o mask_o / Σ_o' weight_o' mask_o'       foreground = Σ_o share_o colour_o       mask = Σ_o mask_o
    share_o = exp(weight_o mask_o) / Σ_o' exp(weight_o' mask_o')          every channel = Σ_o share_o channel_o

Pasting is linear and a weight is one number per object, so that weight_o mask_o needs no canvas of its own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .resampling import possible
from .spatial_transformer import interpolation, paste

EMPTY = 1e-15  # where no object is, shares are 0 / EMPTY
COLOUR = 4  # channels that the compiled kernels of `composite` are for: three and a mask


def shares(mask: Tensor, weight: Tensor) -> Tensor:
    """Who answers for each pixel: masks (B, O, 1, H, W) and weights (B, O) -> (B, O, 1, H, W)."""
    answer = weight[:, :, None, None, None] * mask
    return answer / (answer.sum(1, keepdim=True) + EMPTY)


def straight_through_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """x clamped, with the gradient of x itself."""
    return x + (x.clamp(low, high) - x).detach()


def masked(logits: Tensor, presence: Tensor) -> Tensor:
    """Glimpses as they are pasted: (B, O, C + 1, G, G), (B, O) -> the same shape, fp32 at least.

    The last channel becomes its sigmoid times presence, the mask; the others their sigmoid times the mask.
    """
    value = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
    colour, mask = value.split([logits.shape[2] - 1, 1], 2)
    mask = presence[:, :, None, None, None] * mask
    return torch.cat([mask * colour, mask], 2)


def composite(
    glimpse: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    canvas: int,
    presence: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Foreground (B, C, canvas, canvas) and sum of masks (B, 1, canvas, canvas), of glimpses (B, O, C + 1, G, G).

    The glimpse's last channel is its mask. weight: (B, O). scale, shift: (B, O, 2), as in `paste`.
    With presence, (B, O), glimpses are logits, and `masked` first.
    """
    if possible(glimpse, scale) and glimpse.shape[2] == COLOUR:
        inputs = (part.float() for part in (weight, scale, shift))
        there = None if presence is None else presence.float()
        given = glimpse.float() if presence is None else glimpse
        foreground, mask = _CompiledComposite.apply(given, *inputs, canvas, there)  # type: ignore[no-untyped-call]
        return foreground, mask
    if presence is not None:
        glimpse = masked(glimpse, presence)
    size = glimpse.shape[-1]
    a_x = interpolation(scale[..., 0], shift[..., 0], canvas, size)  # (B, O, canvas, G)
    a_y = interpolation(scale[..., 1], shift[..., 1], canvas, size)
    # (B, O, G_y, C + 1, G_x): in this order both products are plain ones, and nothing is rearranged between them
    rows = glimpse.to(a_x.dtype).transpose(2, 3)
    foreground, mask = _Composite.apply(rows, weight.to(a_x.dtype), a_x, a_y)  # type: ignore[no-untyped-call]
    return foreground, mask


def over(front: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
    """What lies in front of a background, (B, C, H, W): front + (1 - mask) sigmoid(logits), in fp32 at least.

    front and logits: (B, C, H, W). mask: (B, 1, H, W).
    """
    known = (front.dtype, mask.dtype) == (torch.float32, torch.float32)
    of_pixels = mask.shape[2:] == front.shape[2:] and front.shape == logits.shape
    if possible(logits, front) and known and of_pixels and front.shape[1] == COLOUR - 1:
        image: Tensor = _CompiledOver.apply(front, mask, logits)  # type: ignore[no-untyped-call]
        return image
    value = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
    return front + (1 - mask) * value


def softmax_shares(mask: Tensor, weight: Tensor) -> Tensor:
    """Who answers for each pixel where objects compete: (B, O, 1, H, W) and weights (B, O) -> (B, O, 1, H, W).

    Where an object has no mask it has exp(0), not nothing.
    """
    return (mask * weight[:, :, None, None, None]).softmax(1)


def compete(glimpse: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, canvas: int) -> Tensor:
    """Σ_o share_o glimpse_o, with `softmax_shares`: (B, O, C + 1, G, G) -> (B, C + 1, canvas, canvas).

    A glimpse's last channel is its mask. weight: (B, O). scale, shift: (B, O, 2), as in `paste`.
    """
    if possible(glimpse, scale):
        inputs = (part.float() for part in (glimpse, weight, scale, shift))
        together: Tensor = _CompiledCompetition.apply(*inputs, canvas)  # type: ignore[no-untyped-call]
        return together
    pasted = paste(glimpse, scale, shift, canvas)
    return (softmax_shares(pasted[:, :, -1:], weight) * pasted).sum(1)


class _Composite(torch.autograd.Function):
    """`composite`, some images at a time; the canvases of the objects are made again for the gradient.

    So there are never more canvases than those of a few images. On a CPU it goes image by image, and an object's canvas
    is a window as large as the image's largest box: it stays in the cache, and nobody multiplies zeros.
    """

    @staticmethod
    def forward(
        ctx: Any, glimpse: Tensor, weight: Tensor, a_x: Tensor, a_y: Tensor
    ) -> tuple[Tensor, Tensor]:
        device, side, colours = glimpse.device.type, a_x.shape[2], glimpse.shape[3] - 1
        autocast = torch.is_autocast_enabled(device)
        ctx.product = torch.get_autocast_dtype(device) if autocast else a_x.dtype
        ctx.parts = _windows(a_x, a_y) if device == "cpu" else _whole(len(glimpse), 32)
        summed = a_x.new_empty(len(glimpse), side, colours + 2, side)  # (B, H, C + 2, W)
        with torch.autocast(device, enabled=False):
            for some, window in ctx.parts:
                g, x, y = (part[some].to(ctx.product) for part in (glimpse, a_x, a_y))
                _, pasted = _paste(g, window.cut(x, window.left), window.cut(y, window.top))
                colour, alpha, answer = _layers(pasted, weight[some])
                summed[some] = window.add(torch.cat([answer * colour, answer, alpha], 3), side)
        shared, answers, mask = summed.transpose(1, 2).split([colours, 1, 1], 1)
        foreground = shared / (answers + EMPTY)
        ctx.save_for_backward(glimpse, weight, a_x, a_y, foreground, answers)
        return foreground, mask.contiguous()

    @staticmethod
    def backward(
        ctx: Any, of_foreground: Tensor, of_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        glimpse, weight, a_x, a_y, foreground, answers = ctx.saved_tensors
        # d foreground / d answer_o = (colour_o - foreground) / Σ answers: what of it no object has for itself, here
        of_shared = of_foreground / (answers + EMPTY)
        of_answers = -(of_shared * foreground).sum(1, keepdim=True)
        fields = torch.cat([of_shared, of_answers, of_mask], 1).transpose(1, 2)  # (B, H, C + 2, W)
        found = [torch.empty_like(glimpse), torch.empty_like(weight)]
        found += [torch.zeros_like(a_x), torch.zeros_like(a_y)]
        for some, window in ctx.parts:
            g, x, y = (part[some].to(ctx.product) for part in (glimpse, a_x, a_y))
            x, y = window.cut(x, window.left), window.cut(y, window.top)
            half, pasted = _paste(g, x, y)
            colour, alpha, answer = _layers(pasted, weight[some])
            field = window.look(fields[some])  # (B, O or 1, H, C + 2, W)
            of_shared, of_answers, of_mask = field.split([colour.shape[3], 1, 1], 3)
            of_answer = (of_shared * colour).sum(3, keepdim=True) + of_answers
            found[1][some] = (of_answer * alpha).sum((2, 3, 4))
            of_alpha = weight[some][:, :, None, None, None] * of_answer + of_mask
            of_pasted = torch.cat([answer * of_shared, of_alpha], 3).to(ctx.product)
            of_pasted = of_pasted.flatten(2, 3)  # (B, O, H (C + 1), W)
            of_half = (
                (of_pasted @ x).unflatten(2, half.shape[2:4]).flatten(3)
            )  # (B, O, H, (C + 1) G)
            found[0][some] = (y.mT @ of_half).unflatten(3, g.shape[3:])
            window.put(of_pasted.mT @ half.flatten(2, 3), found[2][some], window.left)
            window.put(of_half @ g.flatten(3).mT, found[3][some], window.top)
        return found[0], found[1], found[2], found[3]


class _CompiledComposite(torch.autograd.Function):
    """`composite` pixel by pixel, where a box is. In autograd's hands: the inputs and three canvases.

    What masked glimpses look like is known to one object at a time, in the cache, and found again for the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        glimpse: Tensor,
        weight: Tensor,
        scale: Tensor,
        shift: Tensor,
        canvas: int,
        presence: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        batch, _, channels = glimpse.shape[:3]
        boxes = [part.contiguous() for part in (weight, scale, shift)]
        source = glimpse.permute(0, 1, 3, 4, 2).contiguous()  # as the decoder leaves it in memory
        there = None if presence is None else presence.contiguous()
        foreground = weight.new_empty(batch, canvas, canvas, channels - 1)
        mask = weight.new_empty(batch, 1, canvas, canvas)
        answers = torch.zeros_like(mask)
        _compiled().forward(source, boxes, [foreground, mask, answers], there)
        ctx.save_for_backward(source, *boxes, foreground, answers, there)
        return foreground.permute(0, 3, 1, 2), mask  # channels-last, as images are

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_foreground: Tensor, of_mask: Tensor) -> tuple[Tensor | None, ...]:
        source, weight, scale, shift, foreground, answers, presence = ctx.saved_tensors
        boxes = [weight, scale, shift]
        of_foreground = of_foreground.permute(0, 2, 3, 1).contiguous()
        canvases = [foreground, answers, of_foreground, of_mask.contiguous()]
        found = [torch.zeros_like(part) for part in boxes]
        if presence is None:
            of_source = torch.zeros_like(source)
            _compiled().backward(source, boxes, canvases, [of_source, *found])
            return of_source.permute(0, 1, 4, 2, 3), *found, None, None
        of_source, of_presence = torch.empty_like(source), torch.zeros_like(presence)
        _compiled().backward(source, boxes, canvases, [of_source, *found], presence, of_presence)
        return of_source.permute(0, 1, 4, 2, 3), *found, None, of_presence


class _CompiledOver(torch.autograd.Function):
    """`over`; in autograd's hands: mask and logits."""

    @staticmethod
    def forward(ctx: Any, front: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
        front, logits = (part.permute(0, 2, 3, 1).contiguous() for part in (front, logits))
        mask, image = mask.contiguous(), torch.empty_like(front)
        _compiled().over(front, mask, logits, image)
        ctx.save_for_backward(mask, logits)
        return image.permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mask, logits = ctx.saved_tensors
        of_mask, of_logits = torch.empty_like(mask), torch.empty_like(logits)
        pixels = of_image.permute(0, 2, 3, 1).contiguous()
        _compiled().over_backward(mask, logits, pixels, of_mask, of_logits)
        return of_image, of_mask, of_logits.permute(0, 3, 1, 2)


class _CompiledCompetition(torch.autograd.Function):
    """`compete` pixel by pixel, where a box is. In autograd's hands: the inputs, the result, and two plain canvases."""

    @staticmethod
    def forward(
        ctx: Any, glimpse: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, canvas: int
    ) -> Tensor:
        objects = [part.contiguous() for part in (glimpse, weight, scale, shift)]
        batch, _, channels = glimpse.shape[:3]
        together = weight.new_zeros(batch, channels, canvas, canvas)
        top, total = (weight.new_zeros(batch, canvas, canvas) for _ in range(2))
        _competing().forward(objects, [together, top, total])
        ctx.save_for_backward(*objects, together, top, total)
        return together

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, of_together: Tensor) -> tuple[Tensor | None, ...]:
        objects, canvases = list(ctx.saved_tensors[:4]), list(ctx.saved_tensors[4:])
        found = [torch.zeros_like(part) for part in objects]
        _competing().backward(objects, canvases, of_together.contiguous(), found)
        return *found, None


@lru_cache
def _compiled() -> Any:
    from . import _compositing_cpu

    return _compositing_cpu


@lru_cache
def _competing() -> Any:
    from . import _competing_cpu

    return _competing_cpu


def _paste(glimpse: Tensor, a_x: Tensor, a_y: Tensor) -> tuple[Tensor, Tensor]:
    """Glimpses (B, O, G, C, G) stretched vertically, (B, O, H, C, G), and on their canvases, (B, O, H, C, W)."""
    half = (a_y @ glimpse.flatten(3)).unflatten(3, glimpse.shape[3:])
    canvas = (half.flatten(2, 3) @ a_x.mT).unflatten(2, half.shape[2:4])
    return half, canvas


def _layers(pasted: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Colours, mask, and weight times mask, of canvases (B, O, H, C + 1, W); in fp32 at least."""
    pasted = pasted.to(weight.dtype)
    alpha = pasted[..., -1:, :]
    return pasted[..., :-1, :], alpha, weight[:, :, None, None, None] * alpha


class _Window(NamedTuple):
    """The square of `size` pixels of the canvas in which each object of one image lies.

    top, left: first row and column, for each object. Where they are None the window is the whole canvas.
    """

    size: int = 0
    top: list[int] | None = None
    left: list[int] | None = None

    def cut(self, a: Tensor, start: list[int] | None) -> Tensor:
        """The rows of an interpolation matrix that belong to the window: (B, O, canvas, G) -> (B, O, size, G)."""
        if start is None:
            return a
        return torch.stack([a[0, o, at : at + self.size] for o, at in enumerate(start)])[None]

    def put(self, cut: Tensor, a: Tensor, start: list[int] | None) -> None:
        """The reverse: writes into `a`."""
        if start is None:
            a.copy_(cut)
            return
        for o, at in enumerate(start):
            a[0, o, at : at + self.size] = cut[0, o]

    def add(self, parts: Tensor, canvas: int) -> Tensor:
        """Windows (B, O, H, C, W) summed where they lie: (B, canvas, C, canvas)."""
        if self.top is None or self.left is None:
            return parts.sum(1)
        total = parts.new_zeros(1, canvas, parts.shape[3], canvas)
        for o, (i, j) in enumerate(zip(self.top, self.left, strict=True)):
            total[0, i : i + self.size, :, j : j + self.size] += parts[0, o]
        return total

    def look(self, field: Tensor) -> Tensor:
        """What each object sees of (B, canvas, C, canvas): (B, O, H, C, W), or (B, 1, H, C, W) of the whole canvas."""
        if self.top is None or self.left is None:
            return field[:, None]
        n, places = self.size, zip(self.top, self.left, strict=True)
        return torch.stack([field[0, i : i + n, :, j : j + n] for i, j in places])[None]


def _whole(batch: int, at_once: int) -> list[tuple[slice, _Window]]:
    """Some images at a time and whole canvases: nothing waits for the device."""
    return [(slice(at, at + at_once), _Window()) for at in range(0, batch, at_once)]


def _windows(a_x: Tensor, a_y: Tensor) -> list[tuple[slice, _Window]]:
    """Image by image, each with windows as large as its largest box, in steps of 8 pixels."""
    side, starts, ends = a_x.shape[2], [], []
    for a in (a_x, a_y):
        covered = (a.amax(-1) > 0).to(
            torch.uint8
        )  # (B, O, canvas); no weight of an interpolation is negative
        some = covered.amax(-1)
        starts.append(covered.argmax(-1) * some)
        ends.append((side - covered.flip(-1).argmax(-1)) * some)
    start, end = torch.stack(starts), torch.stack(ends)  # (2, B, O)
    size = ((end - start).amax((0, 2)) + 7).div(8, rounding_mode="floor") * 8
    size = size.clamp(8, side)  # (B,)
    left, top = torch.minimum(start, side - size[:, None]).tolist()
    windows = zip(size.tolist(), top, left, strict=True)
    return [(slice(at, at + 1), _Window(*window)) for at, window in enumerate(windows)]
