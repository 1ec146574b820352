"""How work reports that it advances, without knowing who watches.

A loop says `for batch in track(batches, "LL")`; whoever runs the work installs a watcher.
Without one, tracking costs nothing and prints nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Watcher = Callable[[str, int, int], None]
"""Called as watcher(what, done, total); total is 0 when it is not known."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextlib.contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Let `watcher` hear of all progress made inside."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def report(what: str, done: int, total: int = 0) -> None:
    """Say that `done` of `total` parts of `what` are done."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(what, done, total)


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, reporting after each."""
    size = total if total is not None else len(items) if isinstance(items, Sized) else 0
    for done, item in enumerate(items):
        report(what, done, size)
        yield item
    report(what, size, size)
