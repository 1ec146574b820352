"""Decompositions: the layers that a model takes an image apart into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.dataset import Dataset
from ..core.errors import ContractError, UsageError
from ..core.metric import Measurement, Metric
from ..core.model import Decomposes
from ..core.progress import track
from ._evaluation import as_bytes, as_floats, chunks, test_split
from .reconstructions import as_rgb

__all__ = ["Decompositions"]

AT_ONCE = 4  # K components of an image are K images
EMPTY = 0.001  # a mask with less than this share of an image shows nothing


@dataclass(frozen=True)
class Decompositions(Metric):
    """images: of the test split. shown: at most this many components in the grid, those that hold most of an image."""

    better = "neither"
    requires = (Decomposes,)

    images: int = 6
    shown: int = 11

    def __post_init__(self) -> None:
        if min(self.images, self.shown) < 1:
            raise UsageError(f"decompositions needs images >= 1 and shown >= 1; got {self}")

    @property
    def dialect(self) -> str:
        """Of one draw of the latents; see `effective_components`."""
        return "draws=1 weight=contrast"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """The effective number of components that share what stands out in an image, mean over images.

        Near 1 where one component takes everything; on MNIST-4, 4 where every digit has its own.
        Arrays: masks (N, K, 1, H, W), components (N, K, C, H, W), uint8; grid (2N, 1 + M, 3, H, W) uint8, two rows per
        image: the input, then masks; the sum of the layers, then each component through its mask, in the model's
        order; M the most components that are not empty in an image, or `shown`; value, per image. Raises ContractError
        for masks that are negative or do not add up to 1.
        """
        test, index = test_split(data, self.images)
        inputs = test.image[index]
        masks, components = [], []
        for part in track(chunks(np.arange(len(index)), AT_ONCE), "decompositions"):
            x = as_floats(inputs[part], model.device)
            mask, component = (field.float().cpu() for field in model.decompose(x))
            refuse(mask.numpy(), component.numpy(), x.shape, type(model).__name__)
            masks.append(mask.numpy().astype(np.float64))
            components.append(as_bytes(component, f"a component of {type(model).__name__}"))
        mask, component = np.concatenate(masks), np.concatenate(components)
        share = shares(mask, inputs)
        layers = (mask * component).round().astype(np.uint8)  # (N, K, C, H, W)
        whole = (mask * component).sum(1).round().clip(0, 255).astype(np.uint8)
        filled = int((mask.mean((2, 3, 4)) >= EMPTY).sum(1).max())
        shown = np.sort(np.argsort(-share, 1, kind="stable")[:, : min(self.shown, filled)], 1)
        bytes_of_mask = (mask * 255).round().clip(0, 255).astype(np.uint8)
        rows = []
        for image, chosen in enumerate(shown):
            for first, others in (
                (inputs[image], bytes_of_mask[image, chosen]),
                (whole[image], layers[image, chosen]),
            ):
                rows.append(np.concatenate([as_rgb(first[None]), as_rgb(others)]))
        return Measurement.mean(
            effective_components(share),
            masks=bytes_of_mask, components=component, grid=np.stack(rows),
        )  # fmt: skip


def shares(mask: NDArray[np.float64], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, K): how much of what stands out in each image (N, C, H, W) each component holds; they add up to 1.

    What stands out is weighed by its distance from the image's median colour: digits on black, objects in a grey room.
    An image of one colour is weighed evenly.
    """
    contrast = np.abs(images - np.median(images, (2, 3), keepdims=True)).sum(1)  # (N, H, W)
    flat = contrast.max((1, 2), keepdims=True) == 0
    contrast = np.where(flat, 1.0, contrast)
    held = np.einsum("nkhw,nhw->nk", mask[:, :, 0], contrast)
    total: NDArray[np.float64] = held / held.sum(1, keepdims=True)
    return total


def effective_components(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp of the entropy of the shares (N, K): (N,), between 1 and K."""
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    effective: NDArray[np.float64] = np.exp(-(share * logarithm).sum(1))
    return effective


def refuse(mask: NDArray[Any], component: NDArray[Any], images: tuple[int, ...], name: str) -> None:
    """Raise ContractError unless mask and component have a Decomposition's shapes and the masks add up to 1."""
    batch, channels, height, width = images
    layers = mask.shape[1] if mask.ndim == 5 else 0
    expected = (batch, layers, 1, height, width), (batch, layers, channels, height, width)
    if layers < 1 or (mask.shape, component.shape) != expected:
        raise ContractError(
            f"{name}.decompose must return mask (B, K, 1, H, W) and component (B, K, C, H, W); got {mask.shape} and "
            f"{component.shape} for images {tuple(images)}"
        )
    total = mask.sum(1)
    if not np.isfinite(mask).all() or mask.min() < -1e-4 or np.abs(total - 1).max() > 1e-3:
        raise ContractError(
            f"{name}.decompose must return masks that are at least 0 and add up to 1; the least is {mask.min():.3g}, "
            f"the sums are {total.min():.4g} to {total.max():.4g}"
        )
