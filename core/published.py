"""The published values of a protocol, from `protocols/<name>.csv`; each must find its cell. No torch here."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

from . import results
from .errors import DataError, unknown
from .protocol import Protocol, load, published_path
from .results import PublishedValue

__all__ = ["checked", "published"]


def published(name: str) -> list[PublishedValue]:
    """All of a protocol, of which the full name is given; none where it has no such file. Raises DataError as below."""
    path = published_path(name)
    if not path.exists():
        return []
    return checked(results.read(path, PublishedValue), load(name)[1], path)


def checked(values: list[PublishedValue], protocol: Protocol, path: Path) -> list[PublishedValue]:
    """The values of a file, whole. A label that no cell has would drop a number without a word.

    Raises DataError naming the line: for such a label, a cell with two values, a value without its printed digits.
    """
    everywhere = dataclasses.replace(protocol, sizes={})
    cells = {
        (cell.model_label, cell.dataset_label, cell.metric_label)
        for cell in everywhere.cells("", 1)
    }
    seen: set[tuple[str, str, str]] = set()
    for number, value in enumerate(values):
        wrong = ""
        for kind, label in zip(("model", "dataset", "metric"), value.key, strict=True):
            labels = getattr(protocol, f"{kind}s")
            if label not in labels:
                wrong = wrong or str(unknown(kind, label, labels))
        if not wrong and value.key not in cells:
            wrong = f"the protocol has no cell {', '.join(value.key)}"
        if not wrong and value.key in seen:
            wrong = f"a second value of {', '.join(value.key)}"
        if not wrong and value.value is not None and value.resolution is None:
            wrong = f"{value.printed!r} is no printed number; expected its digits, such as 0.984, 73.5% or 2.9M"
        if wrong:
            raise DataError(f"{path}, line {_line(path, number)}: {wrong}")
        seen.add(value.key)
    return values


def _line(path: Path, number: int) -> int:
    """In which line the row of that number, from 0, ends; a note may have several."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        for _ in range(number + 2):  # the header, too
            next(reader)
        return reader.line_num
