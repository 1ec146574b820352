"""Progress of many runs on one display: bars on a terminal, a line every ten seconds elsewhere. No torch here."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from .plan import Job

LINE_EVERY = 10.0  # seconds between lines where there is no terminal


@dataclass
class _Running:
    """What is known of a run that is being worked on."""

    model: str
    what: str = "start"
    done: int = 0
    total: int = 0
    first: tuple[float, int] = (0.0, 0)  # when `what` was first heard of, and how far it was then
    heard: float = 0.0
    cell_began: float = 0.0

    @property
    def rate(self) -> float:
        """Parts of `what` per second since it began here; 0 while unknown."""
        seconds, parts = self.heard - self.first[0], self.done - self.first[1]
        return parts / seconds if parts > 0 and seconds > 0 else 0.0

    def __str__(self) -> str:
        if not self.total:
            return self.what
        text = f"{self.what} {self.done:,}/{self.total:,}"
        if self.rate:
            left = duration((self.total - self.done) / self.rate)
            text += f", {self.rate:.3g}/s, {left} left"
        return text


class Display:
    """Call `start`, `heard`, `measured` and `end` as things happen; `tick` now and then."""

    def __init__(
        self, left: dict[str, tuple[str, int, int]], workers: int, out: TextIO | None = None
    ) -> None:
        """left: run id -> (name of its model, training steps, cells) of every job to come."""
        self.left, self.workers, self.out = dict(left), workers, out or sys.stderr
        self.cells = sum(cells for _, _, cells in left.values())
        self.cells_done = 0
        self.running: dict[str, _Running] = {}
        self.pace: dict[str, float] = {}  # model -> seconds per training step
        self.spent, self.count = 0.0, 0  # seconds spent measuring, cells measured
        self.began = self.printed = time.monotonic()
        self.bars: dict[str, tqdm[Any]] = {}
        self.whole: tqdm[Any] | None = None
        if self.out.isatty():
            self.whole = tqdm(
                total=self.cells,
                file=self.out,
                unit="cell",
                bar_format="{desc} |{bar}| {n}/{total} cells{postfix}",
            )

    @classmethod
    def of(cls, jobs: Sequence[Job], workers: int, **more: Any) -> Self:
        """The display of these jobs, none of which has begun. more: what else the class asks for."""
        left = {job.run.id: (job.run.model.name, job.steps, len(job.cells)) for job in jobs}
        return cls(left, workers, **more)

    def start(self, run: str) -> None:
        """A worker takes the run up."""
        self.running[run] = _Running(self.left[run][0])

    def heard(self, run: str, what: str, done: int, total: int) -> None:
        """A worker says how far it is."""
        state, now = self.running[run], time.monotonic()
        if what != state.what or done < state.done or not state.total:
            state.what, state.first = what, (now, done)
        state.done, state.total, state.heard = done, total, now
        if what == "train":
            model, _, cells = self.left[run]
            self.left[run] = (model, total - done, cells)
            if state.rate:
                self.pace[model] = 1 / state.rate

    def measuring(self, run: str) -> None:
        """A cell begins."""
        self.running[run].cell_began = time.monotonic()

    def measured(self, run: str) -> None:
        """A cell is done, or failed."""
        model, steps, cells = self.left[run]
        self.left[run] = (model, steps, max(cells - 1, 0))
        self.cells_done += 1
        if began := self.running[run].cell_began:
            self.spent, self.count = self.spent + time.monotonic() - began, self.count + 1

    def end(self, run: str) -> None:
        """The run is over, whatever became of it."""
        self.left.pop(run, None)
        self.running.pop(run, None)
        if run in self.bars:
            self.bars.pop(run).close()

    def note(self, text: str) -> None:
        """A sentence between the bars."""
        if self.whole is not None:
            self.whole.write(text, file=self.out)
        else:
            print(text, file=self.out, flush=True)

    def remaining(self) -> float | None:
        """Seconds until all is done at the pace seen so far; None while nothing is known."""
        if not self.pace:
            return None
        typical = sum(self.pace.values()) / len(self.pace)
        per_cell = self.spent / self.count if self.count else 0.0
        jobs = [
            steps * self.pace.get(model, typical) + cells * per_cell
            for model, steps, cells in self.left.values()
        ]
        return max(sum(jobs) / self.workers, max(jobs, default=0.0))

    def about(self) -> str:
        """What is left, in words; until a cell has been timed, of the training alone."""
        remaining = self.remaining()
        untimed = not self.count and any(cells for _, _, cells in self.left.values())
        if remaining is None or (untimed and remaining < 1):
            return "no estimate yet"
        return f"about {duration(remaining)} left" + " before anything is measured" * untimed

    def tick(self) -> None:
        """Redraw, if it is time."""
        about = self.about()
        if self.whole is not None:
            self.whole.n = self.cells_done
            self.whole.set_description_str(
                f"{duration(time.monotonic() - self.began)} gone", refresh=False
            )
            self.whole.set_postfix_str(about)
            for run, state in self.running.items():
                if run not in self.bars:
                    self.bars[run] = tqdm(
                        total=1,
                        file=self.out,
                        leave=False,
                        bar_format="  {desc} |{bar:20}| {postfix}",
                    )
                    self.bars[run].set_description_str(run, refresh=False)
                bar = self.bars[run]
                bar.total, bar.n = max(state.total, 1), state.done
                bar.set_postfix_str(str(state))
            return
        if time.monotonic() - self.printed < LINE_EVERY:
            return
        self.printed = time.monotonic()
        now = "; ".join(f"{run}: {state}" for run, state in self.running.items())
        print(f"{self.cells_done}/{self.cells} cells, {about} | {now}", file=self.out, flush=True)

    def close(self) -> None:
        """Take the bars away."""
        for bar in self.bars.values():
            bar.close()
        if self.whole is not None:
            self.whole.close()


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`, `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
