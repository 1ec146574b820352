"""Trained: how a run was trained, kept beside the results, so that a report can say it when runs/ is gone. No torch.

One small JSON file per run, results/<tier>/trained/<run>.json, is committed with the rows: every effective setting, the
recipe's value where a setting differs from it, and the learning curve, thinned. (Below results/ every .csv holds rows.)
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import DataError
from .files import write_text
from .spec import Value

__all__ = ["Trained", "differing", "read", "read_curve", "thinned", "write"]

MOST_POINTS = 100  # of a kept curve
DIGITS = 5  # significant ones of a kept curve
LEFT_OUT = ("steps_per_second",)  # timing is no part of what a run is

Settings = Mapping[str, Mapping[str, Value]]
Log = Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What is known of one run.

    settings: "model", "training", "dataset" -> every effective option. recipe: the same three -> the value that the
    model's recipe and the protocol's dataset give, for the options that differ from them.
    log: column -> one value per kept step, "step" first; None where the value was not finite.
    """

    run: str
    settings: Settings
    recipe: Settings
    log: Log = field(default_factory=dict)


def read_curve(path: Path) -> dict[str, tuple[float, ...]]:
    """The columns of a run's log.csv; {} if there is none. Raises DataError where it is damaged."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file, strict=True))
        return {name: tuple(float(line[name]) for line in lines) for name in (lines or [{}])[0]}
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise DataError(f"{path} is damaged ({error}); delete it to go on without it") from error


def thinned(log: Mapping[str, Sequence[float]]) -> dict[str, tuple[float | None, ...]]:
    """At most 100 lines of a log, evenly spaced, the last one always; five significant digits, no timing."""
    count = len(next(iter(log.values()), ()))
    few = min(count, MOST_POINTS)
    kept = [count - 1 - (few - 1 - i) * count // few for i in range(few)]
    return {
        name: tuple(_rounded(values[line], name == "step") for line in kept)
        for name, values in log.items()
        if name not in LEFT_OUT
    }


def _rounded(value: float, whole: bool) -> float | None:
    if not math.isfinite(value):
        return None
    return int(value) if whole else float(f"{value:.{DIGITS}g}")


def write(path: Path, trained: Trained) -> bool:
    """Write the file whole, one setting or column per line, so that a change shows; True if it changed."""
    groups: list[tuple[str, Mapping[str, Any]]] = [
        *((f"settings.{kind}", options) for kind, options in sorted(trained.settings.items())),
        *((f"recipe.{kind}", options) for kind, options in sorted(trained.recipe.items())),
        ("log", trained.log),
    ]
    parts = [f'"run": {json.dumps(trained.run)}']
    for name, values in groups:
        lines = [f"  {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in values.items()]
        parts.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n }")
    return write_text(path, "{" + ",\n ".join(parts) + "}\n")


def read(path: Path) -> Trained | None:
    """What is kept of a run, None if nothing is. Raises DataError for a file that is damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Trained(
            run=str(stored["run"]),
            settings=_settings(stored, "settings"),
            recipe=_settings(stored, "recipe"),
            log={str(name): tuple(map(_number, values)) for name, values in stored["log"].items()},
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error}); restore it (git checkout) or delete it to go on without it"
        ) from error


def _settings(stored: Mapping[str, Any], prefix: str) -> dict[str, dict[str, Value]]:
    return {
        kind.partition(".")[2]: dict(values)
        for kind, values in stored.items()
        if kind.startswith(f"{prefix}.")
    }


def _number(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{value!r} is not a number")
    return value


def differing(settings: Settings, others: Settings) -> dict[str, dict[str, Value]]:
    """The values of `others` where `settings` has another one, per kind."""
    kinds: Iterable[str] = settings.keys() & others.keys()
    return {
        kind: {
            name: others[kind][name]
            for name, value in settings[kind].items()
            if name in others[kind] and others[kind][name] != value
        }
        for kind in kinds
    }
