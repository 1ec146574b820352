"""What the commands share: exit codes, whose rows are meant, and how to say something to a person who waits."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, Protocol

from ..core.protocol import TIERS, TierName
from ..core.results import rows_of
from ..core.workspace import Workspace

HOLDS, FAILED, INCOMPLETE, USAGE, INTERRUPTED = 0, 1, 2, 3, 130


class Add(Protocol):
    """Makes the parser of a command: its name, the function that it calls, and what `--help` says of it."""

    def __call__(self, name: str, function: Any, text: str, /) -> argparse.ArgumentParser: ...


def tier_of(asked: TierName | None, workspace: Workspace, name: str) -> TierName:
    """The tier that was asked for, or the largest that has rows of the protocol; the smallest where none has."""
    if asked is not None:
        return asked
    return next((tier for tier in reversed(list(TIERS)) if rows_of(workspace, tier, name)), "demo")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def counted(count: int, noun: str) -> str:
    """As in '1 run' and '2 runs'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f}"


class Paced:
    """A watcher that says every five seconds how far the work is and how long it will take."""

    def __init__(self) -> None:
        self.what, self.began, self.first, self.last = "", 0.0, 0, 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        from ..launch.display import duration

        now = time.monotonic()
        if what != self.what:
            self.what, self.began, self.first, self.last = what, now, done, 0.0
        if now - self.last < 5:
            return
        self.last, text = now, f"{what}: {done:,} of {total:,}"
        if done > self.first:
            pace = (now - self.began) / (done - self.first)
            text += f", {pace:.2g} s each, {duration((total - done) * pace)} left"
        say(text)
