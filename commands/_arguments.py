"""Texts of the command line as values; argparse, or the user, is told what was expected."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import TypeVar

from ..core import spec
from ..core.errors import UsageError, unknown
from ..core.workspace import Shard

T = TypeVar("T")


def as_labels(text: str) -> tuple[str, ...]:
    """`A,B` as ("A", "B"). A comma in parentheses belongs to its label; any other of a label is written `\\,`, as
    reports do: `DM-VAE\\, γ=0`.
    """
    separated = re.split(r"(?<!\\),(?![^(]*\))", text)
    parts = (part.strip().replace("\\,", ",") for part in separated)
    labels = tuple(part for part in parts if part)
    if not labels:  # a shell variable that is not set would mean all of them
        raise argparse.ArgumentTypeError(f"{text!r} names none; leave the option out for all")
    return labels


def as_count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def as_whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def as_seconds(text: str) -> float:
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration; expected 90s, 40m, 2h or 1h30m"
        )
    return sum(
        float(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] for number, unit in parts
    )


def as_patience(text: str) -> float:
    seconds = as_seconds(text)
    if not seconds:
        raise argparse.ArgumentTypeError(f"{text!r} would kill every run; expected 20s, 30m or 2h")
    return seconds


def as_shard(text: str) -> Shard:
    try:
        return Shard.read(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def as_change(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise UsageError(f"--set {text!r} cannot be read; expected KEY=VALUE such as model.lr=3e-4")
    if key.partition(".")[0] not in ("model", "training", "dataset", "metric"):
        raise unknown("--set key", key, ["model.", "training.", "dataset.", "metric."])
    return key.strip(), value.strip()


def once(option: str, pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """The pairs as a dict. Raises UsageError for a key that is there twice: only one of the values could be meant."""
    found: dict[str, T] = {}
    for key, value in pairs:
        if key in found:
            raise UsageError(f"{option} {key} was given twice; give it once")
        found[key] = value
    return found


def as_allowance(text: str) -> tuple[str, float]:
    metric, _, amount = text.rpartition("=")
    try:
        if metric.strip():
            return metric.strip(), float(amount)
    except ValueError:
        pass
    raise UsageError(f"--allow {text!r} cannot be read; expected METRIC=X such as LL=0.5")


def as_addition(text: str) -> tuple[str, spec.Spec]:
    label, equals, where = text.rpartition("=")  # a label may have one of its own: `DM-VAE, γ=0`
    label, where = label.strip(), where.strip()
    if not equals or not label or not where:
        raise UsageError(
            f"--model {text!r} cannot be read; expected LABEL=MODULE:CLASS such as SLATE=my_lab.slate:SLATE; "
            "--models A,B chooses among the rows that there are"
        )
    if " [" in label or "\\" in label or not label.isprintable():
        raise UsageError(
            f"--model {label!r}: a label has no ' [', after which stands what --set changed, no backslash and no line "
            "end; choose another"
        )
    return label, spec.model(where)
