"""Metric: one number of one trained model on one dataset; or, a TrainingMetric, of how its training went.

To add one, write `metrics/<name>.py` with one frozen dataclass that derives from `Metric`, named in `__all__`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import numpy as np
from numpy.typing import NDArray

from . import reductions
from .dataset import Dataset, Split
from .errors import ContractError
from .spec import Value


@dataclass(frozen=True)
class Measurement:
    """A number, how sure it is, and what was seen on the way.

    value: the number; stderr: its standard error over the n things it was computed from, None where none is known.
    censored: ">" if the true value is larger than `value` (a cap was hit), else "".
    arrays: stored as .npz beside the cell: samples for galleries, per-example values, curves.
    dialect: what the metric learnt about itself only while it ran (the digest of a judge, say).
    """

    value: float
    stderr: float | None = None
    n: int = 1
    censored: Literal["", ">"] = ""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    dialect: str = ""

    def checked(self, metric: str) -> Measurement:
        """This, if a row can hold it. Raises ContractError that names the metric and the field."""
        stderr, n = self.stderr, self.n
        for field_, value, holds, expected in (
            ("censored", self.censored, self.censored in ("", ">"), "'' or '>'"),
            ("dialect", self.dialect, isinstance(self.dialect, str), "text"),
            (
                "stderr",
                stderr,
                stderr is None or (math.isfinite(stderr) and stderr >= 0),
                "None, or a finite number that is not negative",
            ),
            ("n", n, isinstance(n, int | np.integer) and n >= 1, "an integer of at least 1"),
        ):
            if not holds:
                raise ContractError(
                    f"{metric} returned a Measurement with {field_}={value!r}; expected {expected}"
                )
        return self

    @classmethod
    def mean(
        cls, values: NDArray[np.float64], name: str = "value", **arrays: NDArray[Any]
    ) -> Measurement:
        """The mean of per-example values (N,), which are kept as `arrays[name]`. Standard error with ddof=1."""
        values = np.asarray(values, dtype=np.float64)
        found = reductions.mean(values)
        return cls(found.value, found.stderr, found.n, arrays={name: values, **arrays})


class Metric(abc.ABC):
    """A frozen dataclass called as `metric(model, data)`; its fields are its options.

    better: which direction is better, "neither" for a description (parameters, samples).
    requires: the classes a model must derive from; a cell whose model lacks one reads "n/a".
    tiers: options that a tier changes; a protocol's own options win.
    version: raise it when the same options begin to mean another number. raised: the same by `DatasetInfo.name`, where
    the number of one data set alone changed its meaning.
    reads: the splits whose images the number depends on: where they stand in for the published ones, its row says so.
    drawn: whether the n things behind a standard error are drawn from the model, so that every seed has its own. Test
    images are not: all seeds share them, and further seeds take nothing of their noise away.
    needs_training: whether the number depends on what training makes of the weights. Where it does not (a count of
    parameters, a control that has no model in it) it is measured on the model as it is initialised, at step 0, and no
    training is asked for.
    reduction: how the number follows from the stored arrays (core/reductions.py), "" where it does not: then nobody
    who has the arrays alone can make it again.
    learns: the words that only `Measurement.dialect` says and that are no options of the model or the metric.
    """

    better: ClassVar[Literal["higher", "lower", "neither"]]
    requires: ClassVar[tuple[type, ...]] = ()
    version: ClassVar[int] = 1
    raised: ClassVar[Mapping[str, int]] = {}
    tiers: ClassVar[Mapping[str, Mapping[str, Value]]] = {}
    reads: ClassVar[tuple[Split, ...]] = ("test",)
    drawn: ClassVar[bool] = False
    reduction: ClassVar[str] = "mean(value)"
    learns: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def version_on(cls, data: str) -> int:
        """The version of a number on the data set of that name."""
        return cls.raised.get(data, cls.version)

    @property
    def needs_training(self) -> bool:
        """Of this metric with these options; see the class."""
        return True

    @property
    @abc.abstractmethod
    def dialect(self) -> str:
        """Everything that makes two numbers of this name incomparable, as `key=value` pairs joined by spaces."""

    @abc.abstractmethod
    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """Measure `model` (in eval mode, no gradients) on `data`.

        torch's default generator has been seeded for this cell: draw from it freely, and take
        `torch.initial_seed()` for anything else that needs a seed. Report progress with `core.progress.track`.
        Raise `core.errors.NothingToMeasure` where this model and these data leave the number without a meaning.
        """


class TrainingMetric(Metric):
    """A number of the training itself, read from its log: called as `metric.of_log(log)`.

    The log is that of the very run which the row names, up to the step whose weights its other cells are measured with.
    """

    @abc.abstractmethod
    def of_log(self, log: Mapping[str, NDArray[np.float64]]) -> Measurement:
        """Measure a log: "step" (S,), updates made; "loss" and every named term (S,), means since the line before."""

    @final
    def __call__(self, model: Any, data: Dataset) -> Measurement:
        """A model does not know how it was trained. Raises ContractError."""
        raise ContractError(
            f"{type(self).__name__} is read from a training's log; call of_log, as launch/work.py does"
        )
