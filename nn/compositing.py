"""Objects in front of one another and of a background: responsibilities and masks (GNM's supplement, Algorithm 2).

Glimpses of several colours and one mask are pasted where their boxes are. At a pixel where several objects lie, each
answers for a share of it, in proportion to its mask times its weight (the nearer, the heavier):

    share_o = weight_o mask_o / Σ_o' weight_o' mask_o'       foreground = Σ_o share_o colour_o       mask = Σ_o mask_o

Pasting is linear and a weight is one number per object, so that weight_o mask_o needs no canvas of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .spatial_transformer import interpolation

EMPTY = 1e-15  # where no object is, shares are 0 / EMPTY


def shares(mask: Tensor, weight: Tensor) -> Tensor:
    """Who answers for each pixel: masks (B, O, 1, H, W) and weights (B, O) -> (B, O, 1, H, W)."""
    answer = weight[:, :, None, None, None] * mask
    return answer / (answer.sum(1, keepdim=True) + EMPTY)


def straight_through_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """x clamped, with the gradient of x itself."""
    return x + (x.clamp(low, high) - x).detach()


def composite(
    glimpse: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, canvas: int
) -> tuple[Tensor, Tensor]:
    """Foreground (B, C, canvas, canvas) and sum of masks (B, 1, canvas, canvas), of glimpses (B, O, C + 1, G, G).

    The glimpse's last channel is its mask. weight: (B, O). scale, shift: (B, O, 2), as in `paste`.
    """
    size = glimpse.shape[-1]
    a_x = interpolation(scale[..., 0], shift[..., 0], canvas, size)  # (B, O, canvas, G)
    a_y = interpolation(scale[..., 1], shift[..., 1], canvas, size)
    # (B, O, G_y, C + 1, G_x): in this order both products are plain ones, and nothing is rearranged between them
    rows = glimpse.to(a_x.dtype).transpose(2, 3)
    foreground, mask = _Composite.apply(rows, weight.to(a_x.dtype), a_x, a_y)  # type: ignore[no-untyped-call]
    return foreground, mask


class _Composite(torch.autograd.Function):
    """`composite`, some images at a time; the canvases of the objects are made again for the gradient.

    So there are never more canvases than those of a few images, and on a CPU they stay in its cache.
    """

    @staticmethod
    def forward(
        ctx: Any, glimpse: Tensor, weight: Tensor, a_x: Tensor, a_y: Tensor
    ) -> tuple[Tensor, Tensor]:
        device = glimpse.device.type
        autocast = torch.is_autocast_enabled(device)
        ctx.product = torch.get_autocast_dtype(device) if autocast else a_x.dtype
        ctx.images = 1 if device == "cpu" else 32
        ctx.save_for_backward(glimpse, weight, a_x, a_y)
        (batch, _, _, channels, _), side = glimpse.shape, a_x.shape[2]
        foreground = a_x.new_empty(batch, channels - 1, side, side)
        mask = a_x.new_empty(batch, 1, side, side)
        with torch.autocast(device, enabled=False):
            for at in range(0, batch, ctx.images):
                some = slice(at, at + ctx.images)
                factors = (part[some].to(ctx.product) for part in (glimpse, a_x, a_y))
                colour, alpha = _split(_pasted(*factors)[1])
                share = _shares(alpha, weight[some])[0]
                foreground[some] = (share * colour).sum(1).transpose(1, 2)
                mask[some] = alpha.sum(1).transpose(1, 2)
        return foreground, mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        glimpse, weight, a_x, a_y = ctx.saved_tensors
        found = [torch.empty_like(part) for part in (glimpse, weight, a_x, a_y)]
        for at in range(0, len(glimpse), ctx.images):
            some = slice(at, at + ctx.images)
            # (B, 1, H, C, W), as the canvases (B, O, H, C + 1, W)
            of_foreground, of_mask = (g[some].transpose(1, 2)[:, None] for g in gradients)
            g, x, y = (part[some].to(ctx.product) for part in (glimpse, a_x, a_y))
            half, pasted = _pasted(g, x, y)
            colour, alpha = _split(pasted)
            share, total = _shares(alpha, weight[some])
            foreground = (share * colour).sum(1, keepdim=True)
            # d foreground / d (weight_o mask_o) = (colour_o - foreground) / total
            of_answer = ((colour - foreground) * of_foreground).sum(3, keepdim=True) / total
            found[1][some] = (of_answer * alpha).sum((2, 3, 4))
            of_alpha = weight[some][:, :, None, None, None] * of_answer + of_mask
            of_pasted = torch.cat([share * of_foreground, of_alpha], 3).to(ctx.product)
            of_pasted = of_pasted.flatten(2, 3)  # (B, O, H (C + 1), W)
            found[2][some] = of_pasted.mT @ half.flatten(2, 3)
            of_half = (
                (of_pasted @ x).unflatten(2, half.shape[2:4]).flatten(3)
            )  # (B, O, H, (C + 1) G)
            found[3][some] = of_half @ g.flatten(3).mT
            found[0][some] = (y.mT @ of_half).unflatten(3, g.shape[3:])
        return found[0], found[1], found[2], found[3]


def _pasted(glimpse: Tensor, a_x: Tensor, a_y: Tensor) -> tuple[Tensor, Tensor]:
    """Glimpses stretched vertically, (B, O, H, C, G), and on their canvases, (B, O, H, C, W)."""
    half = (a_y @ glimpse.flatten(3)).unflatten(3, glimpse.shape[3:])
    canvas = (half.flatten(2, 3) @ a_x.mT).unflatten(2, half.shape[2:4])
    return half, canvas


def _split(pasted: Tensor) -> tuple[Tensor, Tensor]:
    """Colours and mask of canvases (B, O, H, C + 1, W), in fp32 at least."""
    pasted = pasted.to(torch.promote_types(pasted.dtype, torch.float32))
    return pasted[..., :-1, :], pasted[..., -1:, :]


def _shares(alpha: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """`shares` of (B, O, H, 1, W), and the sums that they are shares of, (B, 1, H, 1, W)."""
    answer = weight[:, :, None, None, None] * alpha
    total = answer.sum(1, keepdim=True) + EMPTY
    return answer / total, total
