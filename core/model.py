"""GenerativeModel: six methods to write, four that follow; and the capabilities a model may have.

Axes: `K` particles, `B` batch, `O` objects, `C H W` image.

To write                     | returns            | note
-----------------------------|--------------------|------------------------------------------------------------
recipe(data)   (classmethod) | Recipe             | published settings for this data, each with its source
loss(x, step)                | (scalar, terms)    | the training objective; need not be the negative ELBO
log_weights(x, particles)    | (K, B) nats        | log p(x, z_k) - log q(z_k | x), z_k ~ q; summed over pixels
prior(n)                     | latents            | the model's own NamedTuple, every field (n, ...)
infer(x)                     | latents            | one draw per image
decode(z)                    | (B, C, H, W)       | mean image; in [0, 1] once clamped

From these follow `elbo`, `log_marginal`, `sample` and `reconstruct`. A model never scores itself.
"""

from __future__ import annotations

import abc
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, final

import torch
from torch import Tensor, nn

from .dataset import DatasetInfo
from .errors import ContractError, UsageError, told
from .spec import Value, checked

Z = TypeVar("Z")


@dataclass(frozen=True)
class Training:
    """How a model is trained. Every field can change the weights, so every field is identity.

    steps: parameter updates. optimizer: "rmsprop" or "adam", torch's defaults otherwise.
    clip_norm: global gradient norm, None for no clipping.
    time_scale: schedules are read at `step / time_scale`, so that a shorter run passes through all of them;
    1 at the published length.
    lr_until, lr_after: from published step `lr_until` on the rate is `lr_after`; None for a constant rate. Groups
    of parameters with rates of their own fall by the same factor.
    """

    steps: int
    batch_size: int = 32
    optimizer: str = "rmsprop"
    lr: float = 1e-4
    clip_norm: float | None = 1.0
    time_scale: float = 1.0
    lr_until: float | None = None
    lr_after: float | None = None

    def rate(self, step: float) -> float:
        """The learning rate at a published step, as a multiple of `lr`."""
        if self.lr_until is None or self.lr_after is None or step < self.lr_until:
            return 1.0
        return self.lr_after / self.lr

    def settings(self) -> dict[str, Any]:
        """Every field as plain values; the two of the rate only where it changes, as before there were such."""
        fields = dataclasses.asdict(self)
        return {
            k: v for k, v in fields.items() if not (k in ("lr_until", "lr_after") and v is None)
        }


@dataclass(frozen=True)
class Recipe:
    """The published settings of one model on one dataset: its config (a frozen dataclass) and its training."""

    config: Any
    training: Training


def checked_recipe(recipe: Any, name: str) -> Recipe:
    """What the `recipe` of the model `name` returned, if it is one. Raises ContractError that says what is wrong."""
    config: Any = getattr(recipe, "config", None)
    parameters = getattr(type(config), "__dataclass_params__", None)
    if not isinstance(recipe, Recipe) or parameters is None or not parameters.frozen:
        raise ContractError(
            f"{name}.recipe returned {recipe!r}; expected a Recipe whose config is an instance of a frozen dataclass"
        )
    if not isinstance(recipe.training, Training):
        raise ContractError(f"{name}.recipe gave training={recipe.training!r}; expected a Training")
    try:
        checked(Training, dataclasses.asdict(recipe.training), "training")
        checked(type(config), {}, "model")
    except Exception as error:
        raise ContractError(
            f"{name}.recipe gave settings that cannot be read: {told(error)}"
        ) from error
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        try:
            json.dumps(value, allow_nan=False, default=dataclasses.asdict)
        except (TypeError, ValueError) as error:
            raise ContractError(
                f"{name}.recipe gave {type(config).__name__}.{field.name}={value!r}, which cannot be kept beside the "
                "weights; expected finite numbers, text, booleans, None, and lists of them"
            ) from error
    return recipe


def evaluation_option(default: Any, scores: bool = True) -> Any:
    """A config field that cannot change weights, only what is made of them; it is no part of a run's identity.

    scores: it changes likelihoods, which then name it in their dialect; if not, what is drawn or matched alone.
    """
    return dataclasses.field(default=default, metadata={"evaluation": True, "scores": scores})


def refuse_idle(config: Any, recipe: Any, idle: Iterable[str], because: str) -> None:
    """Raise UsageError if a field in `idle` was set, that is, differs from the recipe's config.

    It would do nothing under the option that `because` names, and train the same model again under another id.
    """
    for name in idle:
        if (value := getattr(config, name)) != getattr(recipe, name):
            raise UsageError(
                f"model.{name}={value} has no effect with model.{because}: leave one of the two out"
            )


class GenerativeModel(nn.Module, abc.ABC, Generic[Z]):
    """p(x, z) and q(z | x). Built as `cls(config, data)` with a config that `recipe(data)` made.

    State that training changes (temperatures, multipliers, baselines) is a buffer, so a checkpoint is the
    whole truth. version: raise it when old weights must no longer answer to the name.
    tiers: what a tier changes for this model alone, where squeezing the published settings does not do: fields of
    Training, and options of the configs that have them; a protocol's own options win.
    """

    version: ClassVar[int] = 1
    tiers: ClassVar[Mapping[str, Mapping[str, Value]]] = {}

    @abc.abstractmethod
    def __init__(self, config: Any, data: DatasetInfo) -> None:
        super().__init__()
        self._image_shape = data.shape

    @classmethod
    @abc.abstractmethod
    def recipe(cls, data: DatasetInfo) -> Recipe:
        """The published config and training for `data`. Raises UsageError where the model cannot fit it."""

    @abc.abstractmethod
    def loss(self, x: Tensor, step: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective to minimise, averaged over the batch, and its named scalar terms.

        x: (B, C, H, W) in [0, 1]. step: 0-dimensional float tensor on x's device, counted in *published*
        steps (the training loop divides by `time_scale`); a tensor, so that no schedule needs the host.
        """

    @abc.abstractmethod
    def log_weights(self, x: Tensor, particles: int) -> Tensor:
        """log p(x, z_k) - log q(z_k | x) for z_k ~ q(z | x): (K, B), nats, summed over pixels."""

    @abc.abstractmethod
    def prior(self, n: int) -> Z:
        """n draws of the latents, as the model's samples are drawn in its paper."""

    @abc.abstractmethod
    def infer(self, x: Tensor) -> Z:
        """One draw of the latents per image."""

    @abc.abstractmethod
    def decode(self, z: Z) -> Tensor:
        """Mean image of each latent: (B, C, H, W)."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters as torch's optimisers take them; one group unless the model needs several rates.

        A group with a key "optimizer" ("rmsprop" or "adam") is updated by that one, not by the training's.
        """
        return [{"params": list(self.parameters())}]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @final
    def elbo(self, x: Tensor, particles: int = 1) -> Tensor:
        """Monte Carlo estimate of the evidence lower bound: (B,), nats."""
        return self._weights(x, particles).mean(0)

    @final
    def log_marginal(self, x: Tensor, particles: int) -> Tensor:
        """Importance-sampled log p(x): logsumexp_k log w_k - log K: (B,), nats."""
        return self._weights(x, particles).logsumexp(0) - math.log(particles)

    @final
    def sample(self, n: int) -> Tensor:
        """n images from the prior: (n, C, H, W) in [0, 1]."""
        return self._images(self.decode(self.prior(n)), (n, *self._image_shape)).clamp(0, 1)

    @final
    def reconstruct(self, x: Tensor) -> Tensor:
        """Mean image of one posterior draw: (B, C, H, W) in [0, 1]."""
        return self._images(self.decode(self.infer(x)), tuple(x.shape)).clamp(0, 1)

    def _weights(self, x: Tensor, particles: int) -> Tensor:
        """`log_weights`, whose axes must not be swapped without a word: a mean over the wrong one is a number, too."""
        found = self.log_weights(x, particles)
        expected = (particles, len(x))
        if not isinstance(found, Tensor) or tuple(found.shape) != expected:
            raise ContractError(
                f"{type(self).__name__}.log_weights(x, {particles}) returned {_described(found)}; "
                f"expected shape {expected}"
            )
        return found

    def _images(self, found: Tensor, shape: tuple[int, ...]) -> Tensor:
        if not isinstance(found, Tensor) or tuple(found.shape) != shape:
            raise ContractError(
                f"{type(self).__name__}.decode returned {_described(found)}; expected shape {shape}"
            )
        return found


def _described(found: Any) -> str:
    return f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__


class Location(NamedTuple):
    """Where a model sees objects. box: (B, O, 4) as (x0, y0, x1, y1) in pixels. presence: (B, O) in [0, 1].

    what: (B, O, D), the appearance of each object.
    """

    box: Tensor
    presence: Tensor
    what: Tensor


class Locates(abc.ABC):
    """A model that says where objects are."""

    @abc.abstractmethod
    def locate(self, x: Tensor) -> Location:
        """Boxes, presence probabilities and appearances: posterior means, no sampling."""


def checked_location(found: Any, name: str, images: int) -> Location:
    """What the `locate` of the model `name` returned for so many images, if it is a Location.

    Raises ContractError for other shapes, or a presence that is no probability. Whether the numbers are finite is left
    to the caller: after a training that diverged they are not.
    """
    if not isinstance(found, Location) or not all(isinstance(field, Tensor) for field in found):
        raise ContractError(
            f"{name}.locate returned {_described(found)}; expected a Location of tensors"
        )
    box, presence, what = (tuple(field.shape) for field in found)
    batch = (images, *presence[1:2])
    if presence != batch or box != (*batch, 4) or what != (*batch, *what[2:3]):
        raise ContractError(
            f"{name}.locate must return box (B, O, 4), presence (B, O) and what (B, O, D); got box {box}, "
            f"presence {presence} and what {what} for {images} images"
        )
    if ((found.presence < -1e-5) | (found.presence > 1 + 1e-5)).any():
        least, most = float(found.presence.min()), float(found.presence.max())
        raise ContractError(
            f"{name}.locate(x).presence must lie in [0, 1]; it goes from {least:.3g} to {most:.3g}"
        )
    return found


class Resamples(abc.ABC):
    """A model with a global latent z^g above a structured one z^s."""

    @abc.abstractmethod
    def resample(self, x: Tensor | None, rows: int, draws: int) -> Tensor:
        """`draws` images for each of `rows` fixed z^g: (rows, draws, C, H, W) in [0, 1].

        z^g is inferred from x (rows, C, H, W), or drawn from the prior when x is None; z^s ~ p(z^s | z^g).
        """


class Decomposition(NamedTuple):
    """An image as K layers. mask: (B, K, 1, H, W), at least 0, their sum over K is 1. component: (B, K, C, H, W).

    The mean image is the sum over K of mask times component.
    """

    mask: Tensor
    component: Tensor


class Decomposes(abc.ABC):
    """A model that explains every pixel by components."""

    @abc.abstractmethod
    def decompose(self, x: Tensor) -> Decomposition:
        """Masks and components of one posterior draw per image, in the model's own order."""


class Traverses(abc.ABC):
    """A model whose latents can be moved by hand: the place of one object, or the scene as a whole."""

    @abc.abstractmethod
    def move(self, x: Tensor, object: Tensor, shifts: Tensor) -> Tensor:
        """Images in which one object moves and nothing else: (B, S, C, H, W) in [0, 1].

        object: (B,), the index of each image's object, in the order of `locate`. shifts: (S, 2), how far from where
        it was inferred, (x, y) in pixels; beyond the reach of its latent it stays at the edge of that reach.
        Everything is the mode of the posterior, no sampling.
        """

    @abc.abstractmethod
    def interpolate(self, x0: Tensor, x1: Tensor, steps: int) -> Tensor:
        """Images on the straight line from the global latent of x0 to that of x1: (B, steps, C, H, W) in [0, 1].

        x0, x1: (B, C, H, W). The first and last images are those of the two ends, one posterior draw each; everything
        below the global latent is the mode of its prior.
        """


class Attention(NamedTuple):
    """How an image is read, `T` steps one after another. A step that puts nothing down has `present` 0.

    present: (B, T) in {0, 1}; 0 from the first 0 on. probability: (B, T), that step t is present given that those
    before it are. window: (B, T, 4), where each step looks, (x0, y0, x1, y1) in pixels, not cut at the image's edge.
    layer: (B, T, C, H, W), what each step paints onto the canvas; zero where it is not present.
    what: (B, T, D), the appearance. slot: (B, T, M), the probabilities of the M memory slots; M = 0 without a memory.
    """

    present: Tensor
    probability: Tensor
    window: Tensor
    layer: Tensor
    what: Tensor
    slot: Tensor


class Attends(abc.ABC):
    """A model that reads an image object by object, part by part or stroke by stroke, and decides when to stop."""

    @abc.abstractmethod
    def attend(self, x: Tensor, sample: bool = True) -> Attention:
        """The steps taken on each image: latents drawn from the posterior, or its mode (a presence above one half)."""


class Drawing(NamedTuple):
    """How an image is drawn, `T` parts (strokes, say) one after another.

    present: (B, T) in {0, 1}; 0 from the first 0 on. canvas: (B, T, C, H, W) in [0, 1], the image after each part.
    what: (B, T, D), each part in a frame of its own. where: (B, T, 4), that frame: shift x, shift y (the canvas is
    [-1, 1]), scale, angle in radians.
    """

    present: Tensor
    canvas: Tensor
    what: Tensor
    where: Tensor


class Draws(abc.ABC):
    """A model that draws an image again, part by part, and decides when to stop."""

    @abc.abstractmethod
    def draw(self, x: Tensor, sample: bool = True) -> Drawing:
        """The parts of each image: latents drawn from the posterior, or its mode (a presence above one half)."""


class Completes(abc.ABC):
    """A model that goes on with a drawing that somebody has begun."""

    @abc.abstractmethod
    def begin(self, n: int) -> Tensor:
        """n drawings of one part, from the prior: (n, C, H, W) in [0, 1]."""

    @abc.abstractmethod
    def complete(self, x: Tensor, draws: int) -> Tensor:
        """`draws` ways to go on from each begun drawing, from the prior: (B, draws, C, H, W) in [0, 1]."""


class Varies(abc.ABC):
    """A model that draws new exemplars of what it is shown."""

    @abc.abstractmethod
    def vary(self, x: Tensor, draws: int) -> Tensor:
        """`draws` new exemplars of each image: (B, draws, C, H, W) in [0, 1]."""


class Matches(abc.ABC):
    """A model that says how likely one image is as another exemplar of what a second one shows."""

    @abc.abstractmethod
    def match(self, support: Tensor, query: Tensor, parses: int, steps: int) -> Tensor:
        """log p(query | support) up to a constant: (S, C, H, W), (Q, C, H, W) -> (Q, S), nats.

        parses: how many explanations of each support image are tried. steps: of gradient descent that fit each of
        them to each query. Gradients are switched on inside where the caller has switched them off.
        """


class Remembers(abc.ABC):
    """A model with a memory whose slots stand for kinds of things."""

    @abc.abstractmethod
    def recall(self, draws: int) -> Tensor:
        """What each slot stands for: (M, 1 + draws, C, G, G) in [0, 1].

        First the patch at the mean of the slot's prior, then `draws` patches drawn from that prior.
        """


class Relaxes(abc.ABC):
    """A model that is trained on a continuous relaxation of its discrete latents."""

    @abc.abstractmethod
    def relaxed_elbo(self, x: Tensor) -> Tensor:
        """The objective with relaxed latents, without auxiliary terms: (B,), nats; no bound on the model's log p(x).

        Temperatures and priors are those at the end of training.
        """


class Itemizes(abc.ABC):
    """A model whose log-weights say what they are made of."""

    @abc.abstractmethod
    def log_weight_terms(self, x: Tensor, particles: int) -> dict[str, Tensor]:
        """Terms (K, B) in nats that add up to `log_weights`: "log_likelihood", and log p - log q of each latent."""
