"""What a deviation changes: the numbers of both readings beside one another, from the rows that have both. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core.protocol import Deviation, Effect
from .table import Entry, ResultTable

__all__ = ["words"]


def words(deviation: Deviation, table_of: Callable[[str], ResultTable], tier: str) -> str:
    """What was measured of a deviation's other readings at a tier, in sentences; "" if it has none.

    table_of: a protocol's name -> its table at that tier.
    """
    return " ".join(
        _sentence(effect, table_of(effect.protocol), tier) for effect in deviation.effects
    )


def _sentence(effect: Effect, table: ResultTable, tier: str) -> str:
    """“GNM (as coded)”, tier mini, n=1: LL on MNIST-4 9668 beside 9670 (gnm_table1)."""
    pairs = _pairs(effect, table.entries)
    if not pairs:
        return f"“{effect.other}” ({effect.protocol}) has not been measured at tier {tier}."
    behind = {_behind(*pair) for pair in pairs}
    common = f", {behind.pop()}" if len(behind) == 1 else ""
    measured = [
        f"{_where(effect, other)} {other.ours.body} beside {ours.ours.body}"
        + ("" if common else f" ({_behind(ours, other)})")
        for ours, other in pairs
    ]
    return f"“{effect.other}”, tier {tier}{common}: {'; '.join(measured)} ({effect.protocol})."


def _pairs(effect: Effect, entries: Iterable[Entry]) -> list[tuple[Entry, Entry]]:
    """(ours, other) wherever both have numbers and all other labels are the same, in reading order."""
    measured = [entry for entry in entries if entry.has_number]

    def key(entry: Entry) -> tuple[str, ...]:
        return entry.dataset, entry.metric if effect.axis == "model" else entry.model

    ours = {key(e): e for e in measured if getattr(e, effect.axis) == effect.ours}
    others = [e for e in measured if getattr(e, effect.axis) == effect.other]
    return [(ours[key(e)], e) for e in others if key(e) in ours]


def _where(effect: Effect, entry: Entry) -> str:
    """What the two numbers have in common: "LL on MNIST-4"; two metrics are those of a model."""
    subject = entry.metric if effect.axis == "model" else entry.model
    return f"{subject} on {entry.heading}"


def _behind(ours: Entry, other: Entry) -> str:
    """How many seeds stand behind each; and their precisions where these differ, which is then part of the effect."""
    seeds = ours.seeds if ours.seeds == other.seeds else f"{other.seeds} and {ours.seeds}"
    mine, theirs = _precision(ours), _precision(other)
    return seeds if mine == theirs else f"{seeds}, trained in {theirs} and {mine}"


def _precision(entry: Entry) -> str:
    return ", ".join(dict.fromkeys(row.precision for row in entry.rows)) or "a precision not told"
