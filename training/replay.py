"""One update of a training, captured once and replayed from then on.

On CUDA an update of these models is hundreds of kernels of a few microseconds each, and the host cannot call them as
fast as the device runs them; a CUDA graph is called once. The captured code is not run again: whatever differs between
two steps has to be in tensors that stay where they are. These are the batch, the step's number and the learning rates;
noise comes from torch's generator, which a replay reads as the step itself would.

tests/test_replay.py holds trainings with replays against the same without, bit for bit, on a pretended graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from ..core.errors import UsageError

WARM = 3
"""Updates before the capture, as torch asks for: what is made at first use (handles, caches, states of the optimiser)
is not captured. They count: a training loses none."""

Update = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""(x, step) to the loss, its terms and the gradient's norm, as 0-d tensors."""


class Recorder(Protocol):
    """What captures: a CUDA graph, or what a test pretends to be one."""

    def beside(self) -> contextlib.AbstractContextManager[None]:
        """Where the updates before the capture are made."""

    def capture(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """What `work` returns, without numbers yet, and a function that does what `work` does and fills it."""


class CudaGraph:
    """torch's, on a stream of its own: what autograd keeps of a parameter belongs to the stream that first used it."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """See Recorder."""
        main = torch.cuda.current_stream()
        self.stream.wait_stream(main)
        with torch.cuda.stream(self.stream):
            yield
        main.wait_stream(self.stream)

    def capture(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """See Recorder."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            out = work()
        return out, graph.replay


class Replayed:
    """`update`, captured after WARM calls. Every call must have a batch of the same shape."""

    def __init__(self, update: Update, recorder: Recorder, name: str) -> None:
        """name: of the model, for messages."""
        self.update, self.recorder, self.name = update, recorder, name
        self.calls = 0
        self.terms: tuple[str, ...] = ()
        self.replay: Callable[[], None] | None = None

    def __call__(self, x: Tensor, step: Tensor) -> dict[str, Tensor]:
        """What `update` returns, in memory of its own. Raises UsageError for what cannot be captured."""
        self.calls += 1
        if self.calls <= WARM:
            with self.recorder.beside():
                return self.update(x, step)
        if self.replay is None:
            self.x, self.step = x.clone(), step.clone()
            try:
                self.values, self.replay = self.recorder.capture(self._work)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                raise UsageError(
                    f"a step of {self.name} cannot be captured in a graph ({reason}); run it without --compile"
                ) from error
        self.x.copy_(x)
        self.step.copy_(step)
        self.replay()
        return dict(zip(self.terms, self.values.clone().unbind(), strict=True))

    def _work(self) -> Tensor:
        terms = self.update(self.x, self.step)
        self.terms = tuple(terms)
        return torch.stack([value.float() for value in terms.values()])
