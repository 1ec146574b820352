"""A contest: several ways to do the same work, each in a process of its own, timed in turns.

Processes, because an allocator's settings are those of a process and the straightforward code shall meet the default
ones. In turns, because a machine's speed drifts: round by round, every contestant works while the others sleep.

A turn of short work is two, of which the second counts. The first finds the last contestant's threads still spinning on
the cores, as OpenMP's do for some milliseconds, and its own numbers out of the caches: 5 ms more than the steps after
it, of a training step of 60 as of one of 250. Steps of a training follow one another.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

Work = Callable[[], Any]
CONTEXT = multiprocessing.get_context("spawn")
SHORT = 1.0  # seconds


@dataclass(frozen=True)
class Contestant:
    """make(*arguments) prepares the work and returns what does it once; it is called in the contestant's process."""

    name: str
    make: Callable[..., Work]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Times:
    """seconds of each round. peak: bytes of the process's largest resident set."""

    seconds: tuple[float, ...]
    peak: int

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


@dataclass
class _Process:
    process: Any
    pipe: Connection
    seconds: list[float] = field(default_factory=list)
    last: float = 0.0

    def once(self) -> float:
        self.pipe.send("work")
        answer = self.pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        self.last = float(answer)
        return self.last


class Contest:
    """`with Contest([...]) as contest:` starts and warms all; `contest.turn(name)` times one once."""

    def __init__(self, contestants: Sequence[Contestant], warm: int = 3) -> None:
        self.contestants, self.warm = contestants, warm

    def __enter__(self) -> Contest:
        self._running = {}
        for contestant in self.contestants:
            ours, theirs = CONTEXT.Pipe()
            process = CONTEXT.Process(target=_work, args=(theirs, contestant), daemon=True)
            process.start()
            theirs.close()
            running = self._running[contestant.name] = _Process(process, ours)
            for _ in range(self.warm):
                running.once()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for running in self._running.values():
            running.process.kill()
            running.process.join()

    def turn(self, name: str) -> None:
        """Let one contestant work and note its time."""
        self.ready(name)
        self.work(name)

    def ready(self, name: str) -> None:
        """What a turn begins with: work that does not count, if it is short."""
        running = self._running[name]
        if running.last < SHORT:
            running.once()

    def work(self, name: str) -> None:
        """Let one contestant that is `ready` work once and note its time."""
        running = self._running[name]
        running.seconds.append(running.once())

    def times(self) -> dict[str, Times]:
        """What was measured so far."""
        result = {}
        for name, running in self._running.items():
            running.pipe.send("peak")
            result[name] = Times(tuple(running.seconds), running.pipe.recv())
        return result


def _work(pipe: Connection, contestant: Contestant) -> None:
    work: Work | None = None
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        if asked == "peak":
            pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
            continue
        try:
            work = work or contestant.make(*contestant.arguments)
            began = time.perf_counter()
            work()
            pipe.send(time.perf_counter() - began)
        except Exception as error:
            pipe.send(f"{contestant.name}: {type(error).__name__}: {error}")
