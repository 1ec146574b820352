"""A visitor's own module: a model, data and metrics small enough to train in milliseconds.

Not part of reprise; tests name its classes as a visitor would, `laboratory:Sketch`, with this folder on PYTHONPATH.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reprise.core.dataset import Dataset, DatasetInfo, Examples, Split
from reprise.core.errors import NothingToMeasure
from reprise.core.metric import Measurement, Metric
from reprise.core.model import (
    Attends,
    Attention,
    Completes,
    Drawing,
    Draws,
    GenerativeModel,
    Itemizes,
    Locates,
    Location,
    Matches,
    Recipe,
    Relaxes,
    Remembers,
    Training,
    Varies,
    evaluation_option,
)


class Latents(NamedTuple):
    z: Tensor  # (B, D)


@dataclass(frozen=True)
class SketchConfig:
    latents: int = 3
    sigma: float = 0.3
    slow: float = 0.0  # seconds wasted per step, so that a test can interrupt
    diverge_at: int = -1
    spread: float = evaluation_option(1.0)


class Sketch(GenerativeModel[Latents]):
    """p(z) = N(0, I), p(x | z) = N(decoder(z), sigma^2), with a dropout-like noise in its encoder."""

    seen: Tensor

    def __init__(self, config: SketchConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.config, self.shape = config, data.shape
        pixels = math.prod(data.shape)
        self.conv = nn.Conv2d(data.shape[0], data.shape[0], 3, padding=1)
        self.encoder = nn.Linear(pixels, 2 * config.latents)
        self.decoder = nn.Linear(config.latents, pixels)
        self.register_buffer("seen", torch.zeros(()))

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        return Recipe(SketchConfig(), Training(steps=1000, batch_size=8, lr=1e-3))

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = self.encoder(self.conv(x).flatten(1)).float().chunk(2, -1)
        return mean, nn.functional.softplus(spread) + 1e-3

    def _log_weights(self, x: Tensor) -> Tensor:
        mean, spread = self._posterior(x)
        noise = torch.randn_like(mean)
        z = mean + spread * noise
        image = self.decoder(z).float().view(len(x), *self.shape)
        log_p = -0.5 * ((x - image) / self.config.sigma).square().flatten(1).sum(-1)
        log_p = log_p - x[0].numel() * math.log(self.config.sigma * math.sqrt(2 * math.pi))
        total: Tensor = log_p + (-0.5 * z.square() + 0.5 * noise.square() + spread.log()).sum(-1)
        return total

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.config.slow:
            time.sleep(self.config.slow)
        self.seen.add_(1)
        loss = -self._log_weights(x).mean()
        if self.config.diverge_at >= 0:
            loss = loss * torch.where(step >= self.config.diverge_at, math.nan, 1.0)
        return loss, {"elbo": -loss, "time": step}

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        return torch.stack([self._log_weights(x) for _ in range(particles)])

    def prior(self, n: int) -> Latents:
        spread = self.config.spread
        return Latents(torch.randn(n, self.config.latents, device=self.device) * spread)

    def infer(self, x: Tensor) -> Latents:
        mean, spread = self._posterior(x)
        return Latents(mean + spread * torch.randn_like(mean))

    def decode(self, z: Latents) -> Tensor:
        image: Tensor = self.decoder(z.z)
        return image.view(-1, *self.shape)


@dataclass(frozen=True)
class SteppingConfig(SketchConfig):
    steps: int = 2
    reads: int | None = 3


class Stepping(Sketch):
    """Has steps of its own, as its training has, and an option that may be none."""

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        return Recipe(SteppingConfig(), Training(steps=1000, batch_size=8, lr=1e-3))


class Branching(Sketch):
    """What it computes depends on a number that it computed: nothing that could be compiled whole."""

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = super().loss(x, step)
        return (loss, terms) if loss > 0 else (-loss, terms)


class Mute(Sketch):
    """Breaks the contract: log_weights has the wrong shape."""

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        return super().log_weights(x, particles).sum(0)


class Unfinished(GenerativeModel[Latents]):
    """Breaks the contract: two methods are missing."""

    def __init__(self, config: SketchConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)

    recipe = Sketch.recipe
    loss = Sketch.loss
    log_weights = Sketch.log_weights
    prior = Sketch.prior


class Forgetful(Sketch):
    """Breaks the contract: training changes a number that no checkpoint knows."""

    def __init__(self, config: SketchConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.steps = 0

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.steps += 1
        return super().loss(x, step)

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        return super().log_weights(x, particles) + self.steps


class Cooling(Sketch):
    """Breaks the contract: training changes a number that its loss alone knows."""

    def __init__(self, config: SketchConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.temperature = 1.0

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.temperature *= 0.9
        loss, terms = super().loss(x, step)
        return loss * self.temperature, terms


class Steering(Sketch):
    """Breaks the contract: training changes a number that its gradients alone know."""

    def __init__(self, config: SketchConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.pull = 1.0

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.pull *= 0.9
        loss, terms = super().loss(x, step)
        pulled = self.decoder.bias.sum() * self.pull
        return loss + pulled - pulled.detach(), terms


class Drifting(Sketch):
    """Breaks the contract: training changes a number that one of its buffers alone knows."""

    mean: Tensor

    def __init__(self, config: SketchConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.register_buffer("mean", torch.zeros(()))
        self.decay = 0.9

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = super().loss(x, step)
        self.mean.lerp_(loss.detach(), self.decay)
        self.decay *= 0.9
        return loss, terms


class Raising(Sketch):
    """Breaks the contract: decode raises."""

    def decode(self, z: Latents) -> Tensor:
        raise RuntimeError("no paint left")


class Random(Sketch):
    """Breaks the contract: draws from a generator that nobody seeds."""

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        value, terms = super().loss(x, step)
        return value * float(np.random.default_rng().uniform(1, 2)), terms


class Vector(Sketch):
    """Breaks the contract: one loss per image."""

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return -self._log_weights(x), {}


class Reader(Sketch, Attends, Remembers, Relaxes, Itemizes):
    """Reads an image in two steps of its own, and has all the capabilities of such a model."""

    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        side, mean = x.shape[-1], self._posterior(x)[0]
        mean = mean + torch.randn_like(mean) if sample else mean
        present = x.new_tensor([[1.0, 0.0], [1.0, 1.0]])[torch.arange(len(x)) % 2]
        layer = self.decode(Latents(mean))[:, None].expand(-1, 2, -1, -1, -1)
        return Attention(
            present=present,
            probability=x.new_full((len(x), 2), 0.5),
            window=x.new_tensor([0, 0, side, side]).expand(len(x), 2, 4),
            layer=layer * present[..., None, None, None],
            what=mean[:, None].expand(-1, 2, -1),
            slot=x.new_full((len(x), 2, 4), 0.25),
        )

    def recall(self, draws: int) -> Tensor:
        z = torch.randn(4, 1 + draws, self.config.latents)
        z[:, 0] = 0
        patches: Tensor = (
            self.decode(Latents(z.flatten(0, 1))).sigmoid().unflatten(0, (4, 1 + draws))
        )
        return patches

    def relaxed_elbo(self, x: Tensor) -> Tensor:
        elbo: Tensor = self._log_weights(x)
        return elbo

    def log_weight_terms(self, x: Tensor, particles: int) -> dict[str, Tensor]:
        weights = self.log_weights(x, particles)
        return {"log_likelihood": weights - 5, "z": torch.full_like(weights, 5)}


class Finder(Sketch, Locates):
    """Sees two objects in every image."""

    def locate(self, x: Tensor) -> Location:
        what = self._posterior(x)[0][:, None].expand(-1, 2, -1)
        box = x.new_tensor([[0.0, 0.0, 1.0, 1.0], [2.0, 3.0, 4.0, 5.0]]).expand(len(x), 2, 4)
        return Location(box, what.mean(-1).sigmoid(), what)


class Miscounting(Finder):
    """Breaks the contract: fewer presences than boxes."""

    def locate(self, x: Tensor) -> Location:
        found = super().locate(x)
        return found._replace(presence=found.presence[:, :1])


class Boasting(Finder):
    """Breaks the contract: a presence that is no probability."""

    def locate(self, x: Tensor) -> Location:
        found = super().locate(x)
        return found._replace(presence=found.presence + 2)


class Endless(Finder):
    """Breaks the contract: a box without an end."""

    def locate(self, x: Tensor) -> Location:
        found = super().locate(x)
        return found._replace(box=found.box / 0)


class Sharing(Finder):
    """Keeps the contract, but its boxes are shares of the canvas."""

    def locate(self, x: Tensor) -> Location:
        found = super().locate(x)
        return found._replace(box=found.box / x.shape[-1])


class Blinking(Reader):
    """Breaks the contract: an object after the end."""

    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        seen = super().attend(x, sample)
        return seen._replace(present=1 - seen.present)


class Smearing(Reader):
    """Breaks the contract: a step that is not there paints."""

    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        seen = super().attend(x, sample)
        return seen._replace(layer=seen.layer + 0.1)


class Wavering(Reader):
    """Breaks the contract: its mode is a draw."""

    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        return super().attend(x, True)


class Mirrored(Reader):
    """Breaks the contract: windows have their corners the wrong way round."""

    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        seen = super().attend(x, sample)
        return seen._replace(window=seen.window.flip(-1))


class Overconfident(Reader):
    """Breaks the contract: probabilities of slots are logits."""

    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        seen = super().attend(x, sample)
        return seen._replace(slot=4 * seen.slot)


class Absent(Reader):
    """Breaks the contract: attends to other slots than it remembers."""

    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        seen = super().attend(x, sample)
        return seen._replace(slot=seen.slot[..., :2] * 2)


class Dreaming(Reader):
    """Breaks the contract: the first patch of a slot is a draw like the others."""

    def recall(self, draws: int) -> Tensor:
        return super().recall(draws + 1)[:, 1:]


class Glaring(Reader):
    """Breaks the contract: patches are no pixels."""

    def recall(self, draws: int) -> Tensor:
        return 2 * super().recall(draws)


class Tense(Reader):
    """Breaks the contract: one relaxed ELBO for the whole batch."""

    def relaxed_elbo(self, x: Tensor) -> Tensor:
        return super().relaxed_elbo(x).mean()


class Embezzling(Reader):
    """Breaks the contract: a term is missing from the sum."""

    def log_weight_terms(self, x: Tensor, particles: int) -> dict[str, Tensor]:
        terms = super().log_weight_terms(x, particles)
        return {"log_likelihood": terms["log_likelihood"]}


class Vague(Reader):
    """Breaks the contract: no term is the likelihood's."""

    def log_weight_terms(self, x: Tensor, particles: int) -> dict[str, Tensor]:
        return {"everything": self.log_weights(x, particles)}


class Draughtsman(Sketch, Draws, Completes, Varies, Matches):
    """Draws an image in two parts of its own, and has all the capabilities of such a model."""

    def draw(self, x: Tensor, sample: bool = True) -> Drawing:
        mean = self._posterior(x)[0]
        mean = mean + torch.randn_like(mean) if sample else mean
        present = x.new_tensor([[1.0, 0.0], [1.0, 1.0]])[torch.arange(len(x)) % 2]
        image = self.decode(Latents(mean)).sigmoid()
        canvas = torch.stack([image, image * (1 - 0.5 * present[:, 1, None, None, None])], 1)
        where = x.new_tensor([0.0, 0, 1, 0]).expand(len(x), 2, 4)
        return Drawing(present, canvas, mean[:, None].expand(-1, 2, -1), where)

    def begin(self, n: int) -> Tensor:
        return self.sample(n)

    def complete(self, x: Tensor, draws: int) -> Tensor:
        return self.vary(x, draws)

    def vary(self, x: Tensor, draws: int) -> Tensor:
        return torch.stack([self.reconstruct(x) for _ in range(draws)], 1)

    def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
        return -(query[:, None] - support).square().flatten(2).sum(2)


class Restless(Draughtsman):
    """Breaks the contract: goes on drawing after the end."""

    def draw(self, x: Tensor, sample: bool = True) -> Drawing:
        seen = super().draw(x, sample)
        return seen._replace(canvas=torch.stack([0.5 * seen.canvas[:, 0], seen.canvas[:, 1]], 1))


class Resurrecting(Draughtsman):
    """Breaks the contract: a part after the end."""

    def draw(self, x: Tensor, sample: bool = True) -> Drawing:
        seen = super().draw(x, sample)
        return seen._replace(present=1 - seen.present)


class Undecided(Draughtsman):
    """Breaks the contract: its mode is a draw."""

    def draw(self, x: Tensor, sample: bool = True) -> Drawing:
        return super().draw(x, True)


class Blinding(Draughtsman):
    """Breaks the contract: begins with more than white."""

    def begin(self, n: int) -> Tensor:
        return super().begin(n) + 1


class Repeating(Draughtsman):
    """Breaks the contract: its exemplars are one."""

    def vary(self, x: Tensor, draws: int) -> Tensor:
        return super().vary(x, draws)[:, :1].expand(-1, draws, -1, -1, -1)


class Turned(Draughtsman):
    """Breaks the contract: support and query the wrong way round."""

    def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
        return super().match(support, query, parses, steps).T


class Learning(Draughtsman):
    """Breaks the contract: a match trains the model."""

    def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
        self.decoder.bias.add_(0.01)
        return super().match(support, query, parses, steps)


class Freezing(Draughtsman):
    """Breaks the contract: after a match nothing trains any more."""

    def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
        self.requires_grad_(False)
        return super().match(support, query, parses, steps)


@dataclass(frozen=True)
class FaultyConfig(SketchConfig):
    fault: str = ""


class Faulty(Sketch):
    """A visitor's model that goes wrong in the way its option says, unless LABORATORY_MENDED is set."""

    def __init__(self, config: FaultyConfig, data: DatasetInfo) -> None:
        super().__init__(config, data)
        self.fault = "" if os.environ.get("LABORATORY_MENDED") else config.fault
        self._fail("init")

    @classmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        return Recipe(FaultyConfig(), Training(steps=1000, batch_size=8, lr=1e-3))

    def _fail(self, where: str) -> None:
        place, _, how = self.fault.partition(" ")
        if place != where:
            return
        if how == "raises":
            raise RuntimeError(f"{where} has\nno paint left")
        if how == "exits":
            raise SystemExit(0)
        if how == "is gone":
            os._exit(7)
        if how == "is killed":
            os.kill(os.getpid(), 9)
        if how == "hangs":
            time.sleep(1e6)
        if how == "hangs deaf":
            for number in (signal.SIGTERM, signal.SIGABRT, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(1e6)
        if how == "eats memory":
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
            torch.ones(2**30)
        if how == "lingers":
            threading.Thread(target=time.sleep, args=(1e6,)).start()
        if how == "eats lists":
            raise MemoryError
        if how == "prints":
            os.write(1, b"\x80\x04end\n\0" * 10_000)
            print("printed to stdout", file=sys.stdout)
            print("printed to stderr", file=sys.stderr)

    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self._fail("loss")
        loss, terms = super().loss(x, step)
        if self.fault == "loss waits for the device":
            loss = loss if loss > 0 else 2 * loss
        if self.fault == "loss sends a number":
            loss = loss * torch.tensor(2.0, device=loss.device)
        if self.fault == "loss on two devices":
            loss = loss + (x + torch.zeros(x.shape)).mean()
        if self.fault == "loss overwrites":
            root = self.encoder.weight.exp()
            loss = loss + root.mean()
            root.zero_()
        odd: dict[str, Any] = {
            "loss per image": (loss + x.new_zeros(len(x)), terms),
            "loss alone": loss,
            "loss of integers": (loss.long(), terms),
            "loss with a number": (loss, {"elbo": 1.0}),
            "loss elsewhere": (loss.to("meta"), terms),
            "loss nan": (loss * math.nan, terms),
        }
        return odd.get(self.fault, (loss, terms))  # type: ignore[no-any-return]

    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        self._fail("log_weights")
        found = super().log_weights(x, particles)
        return found.T if self.fault == "log_weights swapped" else found

    def decode(self, z: Latents) -> Tensor:
        self._fail("decode")
        found = super().decode(z)
        return found[0] if self.fault == "decode one image" else found


@dataclass(frozen=True)
class Blobs(Dataset):
    """Blurred squares, 8x8, from a seed."""

    count: int = 64
    tiers: ClassVar[dict[str, dict[str, Any]]] = {"demo": {"count": 48}}

    @property
    def info(self) -> DatasetInfo:
        return DatasetInfo("blobs", (1, 8, 8), objects=1)

    def split(self, name: Split) -> Examples:
        rng = np.random.default_rng({"train": 0, "valid": 1, "test": 2}[name])
        image = np.zeros((self.count, 1, 8, 8), np.uint8)
        for one in image:
            i, j = rng.integers(0, 5, 2)
            one[0, i : i + 3, j : j + 3] = rng.integers(100, 255)
        return Examples(image)

    @property
    def digest(self) -> str:
        return f"{self.count:012x}"


def _test_images(data: Dataset) -> Tensor:
    image: NDArray[np.uint8] = data.split("test").image[np.arange(16)]
    return torch.from_numpy(image).float() / 255


@dataclass(frozen=True)
class Bound(Metric):
    particles: int = 2
    better: ClassVar[Literal["higher"]] = "higher"

    @property
    def dialect(self) -> str:
        return f"particles={self.particles}"

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        x = _test_images(data)
        values = model.log_marginal(x.to(model.device), self.particles).double().cpu().numpy()
        samples = model.sample(4).float().cpu().numpy()
        return Measurement.mean(values, samples=samples)


@dataclass(frozen=True)
class Broken(Metric):
    """Fails in the way its field says."""

    how: str = "raise"
    better: ClassVar[Literal["neither"]] = "neither"

    @property
    def dialect(self) -> str:
        return ""

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        if self.how == "die":
            os.kill(os.getpid(), 9)
        if self.how == "nothing":
            raise NothingToMeasure("there is\rnothing to see")
        if self.how == "nan":
            return Measurement(math.nan)
        if self.how == "below":
            return Measurement(1.0, censored="<")  # type: ignore[arg-type]
        if self.how == "wide":
            return Measurement(1.0, math.nan)
        raise RuntimeError("the judge has\nno paper")


class Unheard:
    """A capability no model here has."""


@dataclass(frozen=True)
class Needy(Metric):
    better: ClassVar[Literal["neither"]] = "neither"
    requires: ClassVar[tuple[type, ...]] = (Unheard,)

    @property
    def dialect(self) -> str:
        return ""

    def __call__(self, model: Any, data: Dataset) -> Measurement:
        raise AssertionError("never called")
