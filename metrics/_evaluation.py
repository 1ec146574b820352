"""What the metrics share: which images, as floats or as bytes, and how a model was asked to score them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.dataset import Dataset, Examples
from ..core.model import GenerativeModel
from ..core.progress import track
from ..core.randomness import stream

BATCH = 100
"""Images per call of the model where nothing else is said. Part of the code, never of a number's identity."""


def some(total: int, at_most: int | None) -> NDArray[np.int64]:
    """Sorted indices of at most `at_most` of `total` examples (None: all), the same for every model and machine.

    Neither the first ones, for a dataset may be sorted by class, nor every tenth, for it may alternate between two
    kinds (the scenes of MNIST-4-10 do): those whose hash is smallest.
    """
    if at_most is None or at_most >= total:
        return np.arange(total, dtype=np.int64)
    by_hash = sorted(range(total), key=lambda index: stream("some examples", index))
    return np.sort(np.array(by_hash[:at_most], dtype=np.int64))


def test_split(data: Dataset, at_most: int | None) -> tuple[Examples, NDArray[np.int64]]:
    """The test split and the indices of the examples to measure on."""
    test = data.split("test")
    return test, some(len(test), at_most)


def chunks(index: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """`index` in parts of at most `size`."""
    return [index[at : at + size] for at in range(0, len(index), size)]


def as_floats(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 (B, C, H, W) -> float32 in [0, 1] on the device."""
    return torch.from_numpy(images).to(device).float() / 255


def as_bytes(images: Tensor, whose: str) -> NDArray[np.uint8]:
    """Images in [0, 1] (..., C, H, W) -> uint8, so that models and data are told apart by no finer grain than 8 bit.

    Raises FloatingPointError for values that are not finite, which bytes would hide.
    """
    if not bool(torch.isfinite(images).all()):
        raise FloatingPointError(
            f"{whose} has pixels that are not finite; did its training diverge?"
        )
    return (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def sample_bytes(model: GenerativeModel[Any], n: int, what: str) -> NDArray[np.uint8]:
    """n samples of the model as uint8 (n, C, H, W)."""
    parts = [
        as_bytes(model.sample(len(part)), f"a sample of {type(model).__name__}")
        for part in track(chunks(np.arange(n), BATCH), what)
    ]
    return np.concatenate(parts)


def evaluation_dialect(model: GenerativeModel[Any]) -> str:
    """How the model was asked to score: its config's options that change likelihoods, and sigma, as key=value.

    Two log-likelihoods under another value of these are different numbers. Empty where there are none.
    """
    config = getattr(model, "config", None)
    if not dataclasses.is_dataclass(config):
        return ""
    bernoulli = getattr(config, "likelihood", "normal") == "bernoulli"
    options = [
        f"{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if field.metadata.get("scores")
        or field.name == "likelihood"
        or (field.name == "sigma" and not bernoulli)
    ]
    return " ".join(sorted(options))


def pixel_sigma(model: GenerativeModel[Any]) -> float | None:
    """The standard deviation of the model's pixels, where its config says one; None where they are not normal."""
    config = getattr(model, "config", None)
    if getattr(config, "likelihood", "normal") != "normal":
        return None
    sigma = getattr(config, "sigma", None)
    return None if sigma is None else float(sigma)
