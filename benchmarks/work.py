"""The work that is timed: what each contestant prepares in its own process, and does once per call."""

from __future__ import annotations

import atexit
import contextlib
import copy
import math
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reprise.baselines.air import AIR
from reprise.baselines.convdraw import ConvDRAW
from reprise.baselines.difference_air import DifferenceAIR
from reprise.baselines.genesis import GENESIS
from reprise.baselines.space import SPACE
from reprise.baselines.vae import VAE
from reprise.benchmarks.contest import Work
from reprise.core.dataset import DatasetInfo
from reprise.core.model import GenerativeModel, Recipe
from reprise.core.run import Run
from reprise.core.spec import dataset, model
from reprise.data.glyphs import Glyphs
from reprise.data.multimnist import MultiMNIST
from reprise.data.scenes import Scenes
from reprise.metrics.log_marginal import LogMarginal
from reprise.models.dmvae import DMVAE
from reprise.models.dood import DooD
from reprise.models.gnm import GNM
from reprise.nn.attend import AttendInferRepeat
from reprise.nn.drawing import PartByPart
from reprise.nn.spatial_transformer import paste_sum
from reprise.tests.straightforward import (
    StraightforwardGNM,
    StraightforwardTraining,
    log_weights,
    plainly,
)
from reprise.tests.straightforward_air import straightforward_air
from reprise.tests.straightforward_dood import straightforward_dood
from reprise.tests.straightforward_genesis import StraightforwardGENESIS
from reprise.tests.straightforward_space import straightforward_space
from reprise.training.engine import Engine, Precision, choose, computing, cores, keep_freed_memory
from reprise.training.fit import fit

PROCESS = contextlib.ExitStack()  # what a contestant's process computes under, to its end
atexit.register(PROCESS.close)
BATCH, SIZE, STEP = 32, 128, 5_000.0
IMAGES, PARTICLES = 16, 25  # per call of log_weights, as metrics/log_marginal.py has them
MODELS: dict[str, type[GenerativeModel[Any]]] = {"gnm": GNM, "vae": VAE, "convdraw": ConvDRAW}
COLOURED: dict[str, type[GenerativeModel[Any]]] = {"gnm": GNM, "genesis": GENESIS, "space": SPACE}


def images(batch: int, size: int = SIZE) -> NDArray[np.uint8]:
    """(B, 1, S, S): MNIST-10 scenes of the embedded digits; a step's time does not depend on what is in them."""
    scenes = Scenes(rule="mnist10", source="digits", canvas=size, train=batch)
    return scenes.split("train").image[np.arange(batch)]


def built(name: str, size: int = SIZE, **changes: Any) -> tuple[GenerativeModel[Any], Any]:
    """(model, its published training) for grey images."""
    info = DatasetInfo("mnist10", (1, size, size), objects=10)
    cls = MODELS[name]
    recipe = cls.recipe(info)
    config = type(recipe.config)(**{**vars(recipe.config), **changes})
    torch.manual_seed(0)
    return cls(config, info), recipe.training


def our_step(
    name: str,
    precision: Precision | str = "",
    batch: int = BATCH,
    size: int = SIZE,
    compiled: bool = False,
    **changes: Any,
) -> Work:
    """One update as reprise's workers make it; compiled, after it gave what it gives without."""
    keep_freed_memory()
    engine = choose("cpu", precision, compiled=compiled)
    PROCESS.enter_context(computing(engine))
    plain, training = built(name, size, **changes)
    made = engine.place(copy.deepcopy(plain)).train()
    optimizer = engine.optimizer(made, training)
    batch_of_images, step = images(batch, size), torch.tensor(STEP)
    _agreeing(made, plain.train(), engine, engine.images(batch_of_images), step)

    def work() -> None:
        x = engine.images(batch_of_images)
        engine.update(made, optimizer, x, step, training.clip_norm)["loss"].item()

    return work


def their_step(name: str, keep_memory: bool = False) -> Work:
    """One update as the straightforward code makes it."""
    if keep_memory:
        keep_freed_memory()
    torch.set_num_threads(cores())
    update = StraightforwardTraining(straightforward(name))
    x = torch.from_numpy(images(BATCH)).float() / 255
    return lambda: update(x, STEP)


def straightforward(name: str) -> GenerativeModel[Any]:
    """The model in torch's own layers, glimpses pasted one by one."""
    made, _ = built(name)
    if isinstance(made, GNM):
        made.__class__ = StraightforwardGNM
    plain = plainly(made)
    assert isinstance(plain, GenerativeModel)
    return plain


def our_particles(name: str) -> Work:
    """100 particles for each of 16 images, as the metric `log_marginal` asks for them."""
    weights = our_weights(name, PARTICLES)

    def work() -> None:
        for _ in range(100 // PARTICLES):
            weights()

    return work


def their_particles(name: str, keep_memory: bool = False) -> Work:
    """The same, one particle after the other."""
    if keep_memory:
        keep_freed_memory()
    torch.set_num_threads(cores())
    plain = straightforward(name).eval()
    x = torch.from_numpy(images(IMAGES)).float() / 255

    def work() -> None:
        with torch.no_grad():
            log_weights(plain, x, 100)

    return work


COLOUR = DatasetInfo("arrow", (3, SIZE, SIZE), "rgb", objects=4)


def _coloured(name: str) -> tuple[GenerativeModel[Any], Recipe, Tensor]:
    """A model of colour images with its published training, and a batch of random pixels."""
    cls = COLOURED[name]
    recipe = cls.recipe(COLOUR)
    torch.manual_seed(0)
    return (
        cls(recipe.config, COLOUR),
        recipe,
        torch.rand(recipe.training.batch_size, *COLOUR.shape),
    )


def our_colour_step(name: str, precision: Precision) -> Work:
    """One update on colour images, as reprise's workers make it."""
    keep_freed_memory()
    engine = choose("cpu", precision)
    PROCESS.enter_context(computing(engine))
    model, recipe, x = _coloured(name)
    model = engine.place(model).train()
    optimizer = engine.optimizer(model, recipe.training)
    x, step = x.to(memory_format=torch.channels_last), torch.tensor(STEP)

    def work() -> None:
        engine.update(model, optimizer, x, step, recipe.training.clip_norm)["loss"].item()

    return work


def their_colour_step(name: str, keep_memory: bool = False) -> Work:
    """The same as the straightforward code makes it."""
    if keep_memory:
        keep_freed_memory()
    torch.set_num_threads(cores())
    model, recipe, x = _coloured(name)
    plain = plainly(model)
    if isinstance(model, SPACE):
        plain = straightforward_space(model)
    else:
        plain.__class__ = StraightforwardGENESIS if name == "genesis" else StraightforwardGNM
    assert isinstance(plain, GenerativeModel)
    training = StraightforwardTraining(plain, clip_norm=recipe.training.clip_norm or math.inf)
    return lambda: training(x, STEP)


READERS: dict[str, tuple[type[AttendInferRepeat], dict[str, Any]]] = {
    "AIR": (AIR, {}),
    "DAIR": (AIR, {"difference": True}),
    "DM-VAE, 15 slots": (DMVAE, {}),
    "DM-VAE, 50 slots": (DMVAE, {"memory": 50}),
}


def _reader(name: str) -> tuple[AttendInferRepeat, Recipe, NDArray[np.uint8]]:
    """A model that reads 50 x 50 images, with its published training, and a batch of such."""
    info = DatasetInfo("multimnist", (1, 50, 50), objects=2)
    cls, changes = READERS[name]
    recipe = cls.recipe(info)
    torch.manual_seed(0)
    made = cls(type(recipe.config)(**{**vars(recipe.config), **changes}), info)  # type: ignore[call-arg]
    scenes = MultiMNIST(source="digits", per_count=200, valid=100, test=100).split("train")
    return made, recipe, scenes.image[np.arange(recipe.training.batch_size)]


def our_reading_step(name: str, precision: Precision, compiled: bool = False) -> Work:
    """One update on multi-MNIST, as reprise's workers make it; compiled, after it gave what it gives without."""
    keep_freed_memory()
    engine = choose("cpu", precision, compiled=compiled)
    PROCESS.enter_context(computing(engine))
    reader, recipe, batch = _reader(name)
    made = engine.place(copy.deepcopy(reader)).train()
    optimizer, step = engine.optimizer(made, recipe.training), torch.tensor(STEP)
    _agreeing(made, reader.train(), engine, engine.images(batch), step)

    def work() -> None:
        x = engine.images(batch)
        engine.update(made, optimizer, x, step, recipe.training.clip_norm)["loss"].item()

    return work


def _agreeing(
    made: GenerativeModel[Any],
    plain: GenerativeModel[Any],
    engine: Engine,
    x: Tensor,
    step: Tensor,
) -> None:
    """Nothing where the engine compiles nothing. Raises AssertionError where what it compiled is another model."""
    if engine.compiled and engine.precision == "fp32":
        _agree(made, plain, x, step)
    elif engine.compiled:
        _agree_in_bf16(made, plain, engine, x, step)


def _agree(
    compiled: GenerativeModel[Any], plain: GenerativeModel[Any], x: Tensor, step: Tensor
) -> None:
    """In fp32. Raises AssertionError where the two give another loss or other gradients for the same draws."""
    for made in (compiled, plain):
        torch.manual_seed(0)
        loss, terms = made.loss(x, step)
        loss.backward()
        if made is compiled:
            found = {name: float(term.detach()) for name, term in terms.items()}
    expected = {name: float(term.detach()) for name, term in terms.items()}
    for name, value in expected.items():
        close = math.isclose(found[name], value, rel_tol=1e-4, abs_tol=1e-3)
        assert close, (name, found[name], value)
    for (name, theirs), ours in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        if theirs.grad is not None and ours.grad is not None:
            error = float((ours.grad - theirs.grad).norm() / theirs.grad.norm().clamp(min=1e-12))
            # a pixel's coordinate in another last bit moves a whole step of a bilinear image's slope
            assert error < 2e-3, (name, error)
        ours.grad = theirs.grad = None


def _agree_in_bf16(
    compiled: GenerativeModel[Any],
    plain: GenerativeModel[Any],
    engine: Engine,
    x: Tensor,
    step: Tensor,
) -> None:
    """bf16 is rounded elsewhere when compiled. Raises AssertionError where that is worse than without: the gradient's
    distance from that of fp32 for the same draws, or the loss's, is more than half as large again."""

    def gradient(
        made: GenerativeModel[Any], how: AbstractContextManager[object]
    ) -> tuple[float, Tensor]:
        torch.manual_seed(0)
        with how:
            loss, _ = made.loss(x, step)
        loss.backward()
        flat = torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None])
        for parameter in made.parameters():
            parameter.grad = None
        return float(loss.detach()), flat

    exact, direction = gradient(plain, contextlib.nullcontext())
    errors = []
    for made in (plain, compiled):
        loss, found = gradient(made, engine.autocast())
        errors.append((abs(loss - exact) / abs(exact), float((found - direction).norm())))
    (loss_error, error), (compiled_loss_error, compiled_error) = errors
    assert compiled_loss_error <= 1.5 * loss_error + 1e-3, (compiled_loss_error, loss_error)
    assert compiled_error <= 1.5 * error, (compiled_error, error)


def their_reading_step(name: str, keep_memory: bool = False) -> Work:
    """The same as the straightforward code makes it: torch's Adam, one loop over parameters."""
    if keep_memory:
        keep_freed_memory()
    torch.set_num_threads(cores())
    made, recipe, batch = _reader(name)
    training = StraightforwardTraining(
        straightforward_air(made), clip_norm=recipe.training.clip_norm or math.inf
    )
    # foreach, its default
    training.optimizer = torch.optim.Adam(made.parameter_groups(), lr=1e-4)  # type: ignore[assignment]  # or RMSprop
    x = torch.from_numpy(batch).float() / 255
    return lambda: training(x, STEP)


DRAWERS: dict[str, tuple[type[PartByPart], dict[str, Any]]] = {
    "DooD": (DooD, {}),
    "DooD, points": (DooD, {"affine_on": "points"}),
    "Difference-AIR": (DifferenceAIR, {}),
    "AIR": (DifferenceAIR, {"difference": False}),
}
DRAWN = 2  # images whose log-weights are timed


def _drawer(name: str) -> tuple[PartByPart, Recipe, NDArray[np.uint8]]:
    """A model that draws 50 x 50 images, with its published training, and a batch of such."""
    digits = Glyphs(source="digits")
    cls, changes = DRAWERS[name]
    recipe = cls.recipe(digits.info)
    torch.manual_seed(0)
    made = cls(type(recipe.config)(**{**vars(recipe.config), **changes}), digits.info)  # type: ignore[call-arg]
    return made, recipe, digits.split("train").image[np.arange(recipe.training.batch_size)]


def our_drawing_step(name: str, precision: Precision) -> Work:
    """One update on 50 x 50 digits, as reprise's workers make it."""
    keep_freed_memory()
    engine = choose("cpu", precision)
    PROCESS.enter_context(computing(engine))
    drawer, recipe, batch = _drawer(name)
    made = engine.place(drawer).train()
    optimizer, step = engine.optimizer(made, recipe.training), torch.tensor(STEP)

    def work() -> None:
        x = engine.images(batch)
        engine.update(made, optimizer, x, step, recipe.training.clip_norm)["loss"].item()

    return work


def parts_drawn(name: str) -> float:
    """How many parts an untrained model draws, on average: what it starts from is the published code's."""
    made, _, batch = _drawer(name)
    with torch.no_grad():
        drawn = made.infer(torch.from_numpy(batch).float() / 255).present.sum(1).mean()
    return float(drawn)


def their_drawing_step(name: str, keep_memory: bool = False) -> Work:
    """The same as the straightforward code makes it: torch's Adam over the same groups, nothing clipped."""
    if keep_memory:
        keep_freed_memory()
    torch.set_num_threads(cores())
    made, recipe, batch = _drawer(name)
    plain = straightforward_dood(made).train()
    optimizer = torch.optim.Adam(plain.parameter_groups(), lr=recipe.training.lr)
    x, step = torch.from_numpy(batch).float() / 255, torch.tensor(STEP)

    def work() -> None:
        optimizer.zero_grad()
        loss, _ = plain.loss(x, step)
        loss.backward()
        optimizer.step()
        loss.item()

    return work


def our_drawing_weights(name: str, particles: int) -> Work:
    """log_weights of two images, 25 particles at a time as the metric `log_marginal` asks for them."""
    keep_freed_memory()
    engine = choose("cpu", "fp32")
    PROCESS.enter_context(computing(engine))
    drawer, _, batch = _drawer(name)
    made, x = engine.place(drawer).eval(), engine.images(batch[:DRAWN])

    def work() -> None:
        with torch.no_grad():
            for _ in range(particles // PARTICLES):
                made.log_weights(x, PARTICLES)

    return work


def their_drawing_weights(name: str, particles: int) -> Work:
    """The same, one particle after the other."""
    torch.set_num_threads(cores())
    made, _, batch = _drawer(name)
    plain, x = straightforward_dood(made).eval(), torch.from_numpy(batch[:DRAWN]).float() / 255

    def work() -> None:
        with torch.no_grad():
            plain.log_weights(x, particles)

    return work


def drawing_weights(name: str, particles: int) -> Work:
    """The metric itself on 16 images, for its memory."""
    keep_freed_memory()
    engine = choose("cpu", "fp32")
    PROCESS.enter_context(computing(engine))
    drawer, _, _ = _drawer(name)
    made, digits = engine.place(drawer).eval(), Glyphs(source="digits")

    def work() -> None:
        with torch.no_grad():
            LogMarginal(particles=particles, images=IMAGES)(made, digits)

    return work


def painting(count: int) -> Work:
    """`count` MNIST-10 scenes of 128 x 128 pixels in random order."""
    split = Scenes(rule="mnist10", source="digits", canvas=SIZE).split("train")
    order = np.random.default_rng(0).permutation(60_000)[:count]
    return lambda: split.image[order]


def our_run(name: str, steps: int) -> Work:
    """A whole training run of a few steps, with its log and checkpoint, as a worker makes it: for its memory."""
    keep_freed_memory()
    scenes = dataset("scenes", rule="mnist10", source="digits", canvas=SIZE)
    run = Run(model(name), scenes, (("steps", steps),))

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            fit(run, choose("cpu"), Path(folder))

    return work


def rendering(glimpses: int) -> Work:
    """Decoding and pasting `glimpses` objects on each of BATCH canvases, forwards and backwards, as GNM does."""
    keep_freed_memory()
    engine = choose("cpu", "bf16")
    PROCESS.enter_context(computing(engine))
    gnm, _ = built("gnm")
    assert isinstance(gnm, GNM)
    decoder = gnm.object_decoder
    decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    what = torch.randn(BATCH, glimpses, 20, requires_grad=True)
    scale = torch.full((BATCH, glimpses, 2), 0.17)
    shift = torch.rand(BATCH, glimpses, 2) * 2 - 1

    def work() -> None:
        with engine.autocast():
            glimpse = decoder(what.flatten(0, 1)[:, :, None, None]).float().sigmoid()
            canvas = paste_sum(glimpse.unflatten(0, (BATCH, glimpses)), scale, shift, SIZE)
        canvas.square().sum().backward()

    return work


def gpu_steps(name: str, steps: int, captured: bool) -> Work:
    """Some updates on the GPU and one wait for it; captured: each is one replay of a graph."""
    engine = choose("cuda", compiled=captured)
    PROCESS.enter_context(computing(engine))
    made, training = built(name)
    made = engine.place(made).train()
    optimizer = engine.optimizer(made, training)
    batch = images(BATCH)
    step = torch.tensor(STEP, device=engine.device)
    update = engine.updating(made, optimizer, training.clip_norm)

    def work() -> None:
        for _ in range(steps):
            update(engine.images(batch), step)
        torch.cuda.synchronize()

    return work


def our_step_with_draws(draws: int) -> Work:
    """`our_step` of GNM with another number of StructDRAW's steps."""
    return our_step("gnm", "bf16", draw_steps=draws)


def our_weights(name: str, particles: int) -> Work:
    """One call of log_weights for IMAGES images."""
    keep_freed_memory()
    engine = choose("cpu", "fp32")
    PROCESS.enter_context(computing(engine))
    ours = engine.place(built(name)[0]).eval()
    x = torch.from_numpy(images(IMAGES)).float() / 255

    def work() -> None:
        with torch.no_grad():
            ours.log_weights(x, particles)

    return work
