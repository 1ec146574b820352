"""The errors a person is meant to read: one sentence each, shown without a traceback, exit code 3."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """Something the caller asked for cannot be done; the message says what was wrong and what to do."""


class DataError(UsageError):
    """A data file is missing, truncated or not the one that was expected."""


class ContractError(UsageError):
    """A class does not keep the contract of GenerativeModel, Dataset or Metric."""


class StaleError(UsageError):
    """Weights or rows were made under another meaning of the same name."""


class NothingToMeasure(Exception):
    """A metric found nothing that its number could be about; the cell reads "n/a", and the message says why."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """An error for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
    return UsageError(f"unknown {kind} {name!r}; {hint}")
