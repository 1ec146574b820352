"""Reductions: how a number follows from the values that are stored beside its cell. No torch here.

A metric names its own as text, `mean(value)`: the function, and the array that it is taken of. Whoever has the arrays,
the text and the row's dialect can make the number again; an evidence bundle (evidence/) lets anybody do so.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .detection import Detections, average_precision
from .errors import UsageError

__all__ = [
    "NAMES",
    "Arrays",
    "Reduced",
    "argument",
    "digest",
    "frechet_distance",
    "mean",
    "reduced",
]

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Reduced:
    """What a reduction makes: the columns of a row that it determines."""

    value: float
    stderr: float | None
    n: int
    censored: Literal["", ">"] = ""


def mean(values: NDArray[Any]) -> Reduced:
    """The mean of per-example values (N,), with its standard error (ddof=1; None for a single one)."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"per-example values must have shape (N,), N > 0; got {values.shape}")
    spread = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return Reduced(float(values.mean()), spread, len(values))


def digest(arrays: Arrays) -> str:
    """Of names, types, shapes and values: twelve hexadecimal digits, as rows have them."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()[:12]


def _mean(arrays: Arrays, name: str, _: Mapping[str, str]) -> Reduced:
    return mean(arrays[name])


def _fraction(arrays: Arrays, name: str, _: Mapping[str, str]) -> Reduced:
    """The share of successes (N,) bool, with the standard error of a binomial."""
    verdict = arrays[name]
    if verdict.ndim != 1 or len(verdict) == 0 or verdict.dtype != np.bool_:
        raise ValueError(f"verdicts must be bool, (N,), N > 0; got {verdict.dtype} {verdict.shape}")
    value = float(verdict.mean())
    return Reduced(value, math.sqrt(value * (1 - value) / len(verdict)), len(verdict))


def _exact_fraction(arrays: Arrays, name: str, words: Mapping[str, str]) -> Reduced:
    """The same of things that are all there are, told without chance: no other draw would tell otherwise."""
    found = _fraction(arrays, name, words)
    return Reduced(found.value, None, found.n)


def _steps_until(arrays: Arrays, name: str, words: Mapping[str, str]) -> Reduced:
    """Mean over repeats of the steps until a score reached `target`, from the scores (R, E) taken every `every` steps.

    Scores after the end are NaN. Censored where a repeat ended without having reached the target.
    """
    score, every, target = arrays[name], float(words["every"]), float(words["target"])
    if score.ndim != 2 or score.dtype.kind != "f" or not np.isfinite(score).any(1).all():
        raise ValueError(f"scores must be floats (R, E), some in each repeat; got {score.shape}")
    steps = np.sum(~np.isnan(score), 1) * every
    if "steps" in arrays and not np.array_equal(arrays["steps"], steps):
        raise ValueError(f"the stored steps are not those of scores every {every:g}")
    found = mean(steps)
    reached = bool((np.nanmax(score, 1) >= target).all())
    return Reduced(found.value, found.stderr, found.n, "" if reached else ">")


def _average_precision(arrays: Arrays, name: str, words: Mapping[str, str]) -> Reduced:
    """The mean over thresholds of the APs of boxes, from what was predicted and what is true, image after image."""
    box, confidence, true = (
        np.asarray(arrays[key], np.float64) for key in (name, "confidence", "true")
    )
    predictions, objects = arrays["predictions"], arrays["objects"]
    for count, parts in ((predictions, box), (predictions, confidence), (objects, true)):
        if count.ndim != 1 or count.dtype.kind not in "iu" or count.sum() != len(parts):
            raise ValueError("predictions and objects must count the boxes of each image")
    if box.shape[1:] != (4,) or true.shape[1:] != (4,) or min(predictions.min(), objects.min()) < 0:
        raise ValueError("boxes must have shape (N, 4)")
    cuts, true_cuts = np.cumsum(predictions)[:-1], np.cumsum(objects)[:-1]
    images = [
        Detections(*parts)
        for parts in zip(
            np.split(box, cuts), np.split(confidence, cuts), np.split(true, true_cuts), strict=True
        )
    ]
    precision, _ = average_precision(images, words["interpolation"], words["iou"])
    return Reduced(float(precision.mean(1).mean()), None, len(images))


def frechet_distance(means: NDArray[Any], factors: NDArray[Any]) -> float:
    """The squared Frechet distance of two normal distributions (Dowson & Landau 1982), at least 0.

        |mu_1 - mu_2|^2 + tr(Sigma_1 + Sigma_2 - 2 (Sigma_1 Sigma_2)^(1/2))

    means: (2, D). factors: (2, R, D), of each covariance Sigma = F^T F. No square root of a matrix is taken: the
    eigenvalues of Sigma_1 Sigma_2 are the squared singular values of F_1 F_2^T, of whatever rank.
    """
    means, factors = np.asarray(means, np.float64), np.asarray(factors, np.float64)
    if (
        means.ndim != 2
        or factors.ndim != 3
        or (2, means.shape[1]) != factors.shape[::2]
        or len(means) != 2
    ):
        raise ValueError(
            f"expected two means (2, D) and factors (2, R, D); got {means.shape} and {factors.shape}"
        )
    shared = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    distance = np.square(means[0] - means[1]).sum() + np.square(factors).sum() - 2 * shared
    return max(0.0, float(distance))


def _frechet_distance(arrays: Arrays, name: str, words: Mapping[str, str]) -> Reduced:
    """Of two sets of `images` features each, from the factors of their covariances and `mean` (2, D)."""
    return Reduced(frechet_distance(arrays["mean"], arrays[name]), None, int(words["images"]))


_FUNCTIONS: Mapping[str, Callable[[Arrays, str, Mapping[str, str]], Reduced]] = {
    "mean": _mean,
    "fraction": _fraction,
    "exact_fraction": _exact_fraction,
    "steps_until": _steps_until,
    "average_precision": _average_precision,
    "frechet_distance": _frechet_distance,
}
NAMES = tuple(_FUNCTIONS)


def argument(reduction: str) -> str:
    """The array that a reduction is taken of: `value` of `mean(value)`. Raises UsageError for any other text."""
    return _parsed(reduction)[1]


def reduced(reduction: str, arrays: Arrays, dialect: str) -> Reduced:
    """The number that the arrays make. Raises UsageError where they cannot be reduced so, saying why."""
    function, name = _parsed(reduction)
    words = dict(word.split("=", 1) for word in dialect.split() if "=" in word)
    try:
        found = _FUNCTIONS[function](arrays, name, words)
    except KeyError as error:
        raise UsageError(f"{reduction} needs {error.args[0]!r}, which is not there") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{reduction} cannot be computed: {error}") from error
    if not math.isfinite(found.value):
        raise UsageError(f"{reduction} is {found.value}, not a finite number")
    return found


def _parsed(reduction: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\w+)\((\w+)\)", reduction)
    if match is None or match[1] not in _FUNCTIONS:
        raise UsageError(
            f"{reduction!r} is no reduction; expected one of {', '.join(NAMES)} of an array, such as mean(value)"
        )
    return match[1], match[2]
