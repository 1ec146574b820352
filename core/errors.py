"""The errors a person is meant to read: one sentence each, shown without a traceback, exit code 3."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable


class UsageError(Exception):
    """Something the caller asked for cannot be done; the message says what was wrong and what to do."""


class DataError(UsageError):
    """A data file is missing, truncated or not the one that was expected."""


class ContractError(UsageError):
    """A class does not keep the contract of GenerativeModel, Dataset or Metric."""


class BrokenCodeError(ContractError):
    """A visitor's module raised when it was imported."""


class StaleError(UsageError):
    """Weights or rows were made under another meaning of the same name."""


class NothingToMeasure(Exception):
    """A metric found nothing that its number could be about; the cell reads "n/a", and the message says why."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """An error for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(map(repr, names))}"
    if any("," in each for each in names):
        hint += r"; where commas separate names, one inside a name is written \,"
    return UsageError(f"unknown {kind} {name!r}; {hint}")


def told(error: BaseException) -> str:
    """What somebody else's code raised, in one clause: kind, words, file and line."""
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    places = [(f.filename, f.lineno) for f in frames if not f.filename.startswith("<frozen")]
    if isinstance(error, SyntaxError) and error.filename:
        places, text = [(error.filename, error.lineno)], str(error.msg)
    where = " ({}, line {})".format(*places[-1]) if places else ""
    return f"{type(error).__name__}: {text}{where}" if text else f"{type(error).__name__}{where}"
