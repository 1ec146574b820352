"""ResultRow, PublishedValue and NoiseRow: one number per line, long format; reading and writing CSV. No torch here."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from .errors import DataError
from .files import write_text
from .workspace import Shard, Workspace

Status = Literal["ok", "failed", "diverged", "n/a", "not available yet", "missing"]


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One measured number: what it is, how much, and where it came from. Empty text or None: not known or not meant."""

    # what it is
    protocol: str
    tier: str
    model: str  # the label printed in the paper, as are dataset and metric
    train: str  # the spec of the dataset that the weights were trained on
    dataset: str
    metric: str
    dialect: str = ""
    seed: int = 0
    stand_in: str = ""  # the images that stood in for the published ones, in training or measuring; "" if none did
    # the number
    status: Status = "ok"
    value: float | None = None
    stderr: float | None = None
    n: int | None = None
    censored: Literal["", ">"] = ""
    better: str = ""
    note: str = ""  # for a failure: the error in one sentence
    # where it came from
    model_spec: str = ""
    dataset_spec: str = ""
    metric_spec: str = ""
    run: str = ""
    cell: str = ""
    commit: str = ""  # of the code that measured
    dirty: bool | None = None
    trained_commit: str = ""  # of the code that trained; several if it went on under another
    torch: str = ""
    device: str = ""
    precision: str = ""
    steps: int | None = None
    parameters: int | None = None
    data_digest: str = ""
    artifact: str = ""  # path of the stored arrays below runs/, empty if none
    artifact_digest: str = ""
    # timing columns: the only ones that may differ between two runs of the same thing
    train_seconds: float | None = None
    measure_seconds: float | None = None
    finished: str = ""  # UTC, ISO 8601

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Which cell of its protocol and tier this row fills."""
        return self.model, self.dataset, self.metric, self.seed

    @property
    def untrained(self) -> bool:
        """Whether it was measured on a model as it is initialised: it tells nothing of how its run was trained."""
        return self.status == "ok" and self.steps == 0


# Without one of these columns a row would say more than was written: that it was measured, say. `stand_in` may be
# missing below tier paper, where no number is compared in value: there are files of before it was a column.
NEEDED = (
    "protocol", "tier", "model", "train", "dataset", "metric", "dialect", "seed", "status", "value", "stderr", "n",
    "censored", "better",
)  # fmt: skip
TIMING = ("train_seconds", "measure_seconds", "finished")

Confidence = Literal[
    "clean",
    "doubtful digit",
    "read off a figure",
    "recovered from the authors' files",
    "recovered, doubtful",
]


@dataclass(frozen=True, kw_only=True)
class PublishedValue:
    """One published number, as printed, with where it is printed.

    model, dataset, metric: labels as printed, those of the protocol. value: None where the paper gives none (then
    `note` says so). printed: the text as it stands in the paper, so that its digits are known.
    spread and spread_kind: e.g. 0.3 and "std over 5 seeds". n: what it was computed from (250 images), if said.
    A percentage is printed "73.5%", and its value is the fraction 0.735, as a metric measures it; "1.2k" is 1200.
    confidence: "recovered, doubtful" where the authors' files leave a doubt, which `note` names.
    dialect: the `key=value` words that our dialect must also say for the two to be comparable; none if empty.
    page: a number, or the section where the text at hand is not divided into pages ("section 2.1").
    Every value is read a second time, in protocols/second_reading/.
    """

    model: str
    dataset: str
    metric: str
    value: float | None
    printed: str
    spread: float | None = None
    spread_kind: str = ""
    seeds: int | None = None
    n: int | None = None
    better: Literal["higher", "lower", "neither"] = "neither"
    page: str = ""
    table: str = ""
    row: str = ""
    column: str = ""
    confidence: Confidence = "clean"
    note: str = ""
    dialect: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Which cells it is laid beside."""
        return self.model, self.dataset, self.metric

    @property
    def resolution(self) -> float | None:
        """Half of the last printed digit, the least difference that the printed number can show; None without one."""
        read = _PRINTED.fullmatch(self.printed.strip())
        if self.value is None or read is None:
            return None
        return float(0.5 * 10.0 ** -len(read["decimals"] or "") * _UNITS[read["unit"]])


_UNITS = {"": 1.0, "%": 0.01, "k": 1e3, "M": 1e6}
_PRINTED = re.compile(
    rf"[<>~]?\s*[-+−]?(?=\.?\d)(\d[\d,]*)?(\.(?P<decimals>\d*))?\s*(?P<unit>[{''.join(_UNITS)}]?)"
)
"""A number as papers print it: `0.984`, `.65`, `>2000`, `~79%`, `10,964`, `2.9M`."""


Source = Literal["training seed", "evaluation seed", "test subset", "threads", "precision"]


@dataclass(frozen=True, kw_only=True)
class NoiseRow:
    """How far one number moves by itself: what `reprise noise` measured, and what the tolerances of `check` rest on.

    source: what was changed between the repeats, and nothing else: the seed of training (and with it that of
    evaluation); the seed of evaluation alone; which test images; the number of threads; the precision of training.
    std: of one number (ddof=1 over `repeats` numbers; of pairs, their root mean square difference over sqrt 2).
    degrees: degrees of freedom of std. values: the numbers, separated by spaces. how: what was done, in words.
    """

    tier: str
    model: str
    dataset: str
    metric: str
    source: Source
    std: float
    repeats: int
    degrees: int
    mean: float
    values: str
    how: str
    dialect: str = ""
    run: str = ""
    commit: str = ""
    torch: str = ""
    device: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """Of which noise of which number this is the measurement."""
        return self.tier, self.model, self.dataset, self.metric, self.source


T = TypeVar("T", ResultRow, PublishedValue, NoiseRow)


def to_csv(rows: Sequence[T], cls: type[T]) -> str:
    """Rows as CSV text with a header; floats with repr, so that reading gives the same number."""
    fields = [field.name for field in dataclasses.fields(cls)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(fields)
    for row in rows:
        writer.writerow(["" if getattr(row, f) is None else getattr(row, f) for f in fields])
    return out.getvalue()


def read(path: Path, cls: type[T]) -> list[T]:
    """All rows of a CSV file. Raises DataError naming the line for a missing column, a bad value, or a row of a cell
    that has one already.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; expected a CSV of {cls.__name__}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return parse(text, cls, str(path))


def read_all(paths: Iterable[Path]) -> list[ResultRow]:
    """The rows of several CSV files. Raises DataError where two of them hold a row of the same cell."""
    rows: list[ResultRow] = []
    first: dict[tuple[Any, ...], Path] = {}
    for path in paths:
        for row in read(path, ResultRow):
            cell = (row.protocol, row.tier, *row.key)
            if cell in first:
                raise DataError(
                    f"{first[cell]} and {path} both have a row of {row.protocol} at tier {row.tier} ({row.metric} of "
                    f"{row.model} on {row.dataset}, seed {row.seed}), and one cell has one row; name the file that is "
                    "meant, or move the other out of the folder"
                )
            first[cell] = path
            rows.append(row)
    return rows


def rows_of(
    workspace: Workspace, tier: str, name: str, shard: Shard | None = None
) -> list[ResultRow]:
    """The rows of one protocol at one tier, or of a shard of it; none where it has not been measured."""
    path = workspace.results(tier, name, shard)
    return read_of(path, tier, name) if path.exists() else []


def read_of(path: Path, tier: str, name: str) -> list[ResultRow]:
    """The rows of a file that is named after a tier and a protocol. Raises DataError where one is of another: it would
    pass for a row of these.
    """
    rows = read(path, ResultRow)
    for row in rows:
        if (row.tier, row.protocol) != (tier, name):
            raise DataError(
                f"{path} holds a row of {row.protocol} at tier {row.tier} ({row.metric} of {row.model} on "
                f"{row.dataset}, seed {row.seed}); expected rows of {name} at tier {tier} only: take it out"
            )
    return rows


def parse(text: str, cls: type[T], path: str) -> list[T]:
    """As `read`, of a text that is at hand; path: what it is called."""
    if cls is ResultRow and text and not text.endswith("\n"):
        raise DataError(f"{path} is truncated: its last line has no end; {_remedy(cls)}")
    hints = typing.get_type_hints(cls)
    reader = csv.DictReader(io.StringIO(text), strict=True)
    known = {field.name: field for field in dataclasses.fields(cls)}
    rows: list[T] = []
    seen = set[tuple[Any, ...]]()
    try:
        if cls is ResultRow and text:
            for name in NEEDED:
                _there(name, reader)
        for line in reader:
            if None in line or None in line.values():
                raise ValueError("the line has another number of columns than the header")
            if extra := line.keys() - known.keys():
                raise ValueError(f"unknown column {sorted(extra)[0]!r}")
            values = {key: _parse(text, hints[key]) for key, text in line.items()}
            made: Any = cls(**values)
            rows.append(made)
            if isinstance(made, ResultRow):
                if made.tier == "paper":
                    _there("stand_in", reader)
                cell = (made.protocol, made.tier, *made.key)
                if cell in seen:
                    named = f"{made.metric} of {made.model} on {made.dataset}, seed {made.seed},"
                    raise ValueError(f"{named} has a row already, which is no further seed")
                seen.add(cell)
    except (ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; {_remedy(cls)}") from error
    return rows


def _remedy(cls: type) -> str:
    remade = "" if cls is PublishedValue else " or delete it to remake it"
    return f"restore the file (git checkout){remade}"


def write(path: Path, rows: Iterable[T], cls: type[T]) -> bool:
    """Write rows whole; True if the file changed."""
    return write_text(path, to_csv(list(rows), cls))


_COLUMNS = typing.get_type_hints(ResultRow)


def fits(column: str, value: Any) -> bool:
    """Whether a column of results can hold a value: whether it would be read as it was written."""
    try:
        text = "" if value is None else str(value)
        text.encode()
        # a file's line ends are read as \n
        return "\r" not in text and bool(_parse(text, _COLUMNS[column]) == value)
    except ValueError:
        return False


def _there(column: str, reader: csv.DictReader[str]) -> None:
    if column not in (reader.fieldnames or ()):
        raise ValueError(f"the column {column!r} is missing")


def _parse(text: str, hint: Any) -> Any:
    options = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        if text not in options:
            raise ValueError(f"{text!r} is not one of {options}")
        return text
    if type(None) in options:
        if text == "":
            return None
        (hint,) = [option for option in options if option is not type(None)]
    if hint is bool:
        if text not in ("True", "False"):
            raise ValueError(f"{text!r} is not True or False")
        return text == "True"
    found = hint(text)
    if hint is float and not math.isfinite(found):
        raise ValueError(f"{text!r} is not a finite number")
    return found


def begins_with(dialect: str, before: str) -> bool:
    """Whether a measured dialect begins with what its metric says before it runs, word by word."""
    return f"{dialect} ".startswith(f"{before} ".lstrip())
