"""Does a class keep the contract of GenerativeModel? Says which method does not, and which shape was wrong."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..core import spec
from ..core.dataset import DatasetInfo
from ..core.errors import ContractError, UsageError, told
from ..core.model import (
    Attends,
    Completes,
    Decomposes,
    Draws,
    GenerativeModel,
    Itemizes,
    Locates,
    Matches,
    Recipe,
    Relaxes,
    Remembers,
    Resamples,
    Training,
    Traverses,
    Varies,
    checked_location,
    checked_recipe,
)
from ..core.randomness import seeded
from ..core.spec import Spec
from ..training.engine import Optimizer, choose, computing

# Data that a model may be made for, the smallest first; a model need fit one of them only.
KINDS = (
    DatasetInfo("gray8", (1, 8, 8), objects=1),
    DatasetInfo("binary28", (1, 28, 28), "binary", objects=1),
    DatasetInfo("gray64", (1, 64, 64), objects=4),
    DatasetInfo("gray128", (1, 128, 128), objects=4),
    DatasetInfo("rgb64", (3, 64, 64), "rgb", objects=4),
    DatasetInfo("rgb128", (3, 128, 128), "rgb", objects=4),
)
BATCH, PARTICLES = 2, 3


def check_model(model: Spec, data: DatasetInfo | None = None) -> Iterator[str]:
    """Yield what holds, one sentence at a time; raise ContractError at the first thing that does not.

    data: what to make the model for; the first of KINDS that its recipe accepts when None.
    """
    cls = spec.load(model)
    name = cls.__name__
    if not issubclass(cls, GenerativeModel):
        raise ContractError(f"{name} does not derive from reprise.core.model.GenerativeModel")
    if lacking := sorted(getattr(cls, "__abstractmethods__", ())):
        raise ContractError(
            f"{name} lacks {', '.join(lacking)}; core/model.py says what each returns"
        )
    for final in ("elbo", "log_marginal", "sample", "reconstruct"):
        if getattr(cls, final) is not getattr(GenerativeModel, final):
            raise ContractError(
                f"{name}.{final} is overridden; it is final, and follows from the six methods"
            )
    yield "all six methods are there"
    recipe, data = _recipe(cls, data)
    yield f"recipe({data.name}): {recipe.training}"
    config = dataclasses.replace(
        recipe.config, **spec.checked(type(recipe.config), dict(model.options), "model")
    )
    with computing(choose("cpu", "fp32")):
        yield from _behaviour(cls, config, data, recipe.training)


def _recipe(
    cls: type[GenerativeModel[Any]], data: DatasetInfo | None
) -> tuple[Recipe, DatasetInfo]:
    refusals = []
    for info in KINDS if data is None else (data,):
        try:
            recipe = _call(cls, "recipe", cls.recipe, info)
        except ContractError:
            raise
        except UsageError as error:
            refusals.append(f"{info.name}: {error}")
            continue
        recipe = checked_recipe(recipe, cls.__name__)
        training = {f.name for f in dataclasses.fields(Training)}
        for f in dataclasses.fields(recipe.config):
            if f.name in training:
                raise ContractError(
                    f"{type(recipe.config).__name__}.{f.name} is the name of a Training field too; "
                    "`--set model.x` could mean either, rename it"
                )
        return recipe, info
    raise ContractError(
        f"{cls.__name__}.recipe accepts none of the data that were tried: {'; '.join(refusals)}"
    )


def _behaviour(
    cls: type[GenerativeModel[Any]], config: Any, data: DatasetInfo, training: Training
) -> Iterator[str]:
    name, engine = cls.__name__, choose("cpu", "fp32")

    def build(seed: int) -> GenerativeModel[Any]:
        with seeded(seed):
            return engine.place(_call(cls, "__init__", cls, config, data))

    model = build(0)
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ContractError(f"{name} has no parameters")
    grouped = [
        p
        for group in _call(cls, "parameter_groups", model.parameter_groups)
        for p in group["params"]
    ]
    if sorted(map(id, grouped)) != sorted(map(id, parameters.values())):
        raise ContractError(
            f"{name}.parameter_groups has {len(grouped)} parameters; "
            f"expected each of the model's {len(parameters)} exactly once"
        )
    with seeded(1):
        pixels = torch.rand(BATCH, *data.shape)
    x = pixels.to(memory_format=torch.channels_last)
    step = torch.zeros(())

    def loss(of: GenerativeModel[Any]) -> tuple[Tensor, dict[str, Tensor]]:
        with seeded(2):
            return _call(cls, "loss", of.loss, x, step)  # type: ignore[no-any-return]

    optimizer = engine.optimizer(model, training)
    result = loss(model.train())
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
        raise ContractError(
            f"{name}.loss returned {type(result).__name__}; expected (scalar, dictionary of terms)"
        )
    value, terms = result
    _shaped(name, "loss", value, ())
    for key, term in terms.items():
        _shaped(name, f"loss, term {key!r},", term, ())
    if set(terms) & {"loss", "gradient_norm", "step", "steps_per_second"}:
        raise ContractError(
            f"{name}.loss names a term {sorted(terms)}; loss, gradient_norm and step are taken"
        )
    _call(cls, "loss(...).backward", value.backward)
    gradients = {key: p.grad for key, p in parameters.items() if p.grad is not None}
    if not gradients:
        raise ContractError(f"{name}.loss gives no parameter a gradient")
    for key, gradient in gradients.items():
        if not gradient.isfinite().all():
            raise ContractError(f"{name}.loss gives {key} a gradient that is not finite")
    yield f"loss: a finite scalar, {len(gradients)} of {len(parameters)} parameters have a gradient"
    if not torch.equal(value, loss(build(0).train())[0]):
        raise ContractError(
            f"{name}.loss differs between two calls with the same seed; draw from torch's generator only"
        )
    yield "loss: the same under the same seed"
    optimizer.step()

    def update(of: GenerativeModel[Any], by: Optimizer, step: float) -> dict[str, Any]:
        """The loss and its terms before, and all state after."""
        at = torch.tensor(step)
        with seeded(2):
            terms = _call(cls, "loss", engine.update, of.train(), by, x, at, training.clip_norm)
        return {**terms, **of.state_dict()}

    update(model, optimizer, 1.0)
    model.eval()
    with torch.no_grad():
        weights = _seeded(cls, "log_weights", model.log_weights, x, PARTICLES)
        _shaped(name, f"log_weights(x, {PARTICLES})", weights, (PARTICLES, BATCH))
        for method, draw, argument in (("prior", model.prior, BATCH), ("infer", model.infer, x)):
            latents = _seeded(cls, method, draw, argument)
            _latents(name, method, latents)
            image = _call(cls, "decode", model.decode, latents)
            _shaped(name, f"decode({method}(...))", image, (BATCH, *data.shape))
        yield f"log_weights: {(PARTICLES, BATCH)}; prior, infer and decode: {(BATCH, *data.shape)}"
        other = build(3)
        try:
            other.load_state_dict(model.state_dict())
        except RuntimeError as error:
            raise ContractError(
                f"{name}: its state_dict does not load into a new {name}: {error}"
            ) from error
        again = _seeded(cls, "log_weights", other.eval().log_weights, x, PARTICLES)
        if not torch.equal(weights, again):
            raise ContractError(
                f"{name}.log_weights differs after its state_dict was loaded into a new {name}; "
                "state that training changes must be a parameter or a buffer"
            )
    resumed = engine.optimizer(other, training)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    there, here = update(model, optimizer, 2.0), update(other, resumed, 2.0)
    for key, found in there.items():
        if isinstance(found, Tensor) and (key not in here or not torch.equal(found, here[key])):
            raise ContractError(
                f"{name}.loss: an update gives another {key} after its state_dict was loaded into a new {name}; "
                "state that training changes must be a parameter or a buffer"
            )
    yield "state: all of it is in state_dict"
    model.eval()
    with torch.no_grad():
        yield from _capabilities(cls, model, x)


def _capabilities(
    cls: type[GenerativeModel[Any]], model: GenerativeModel[Any], x: Tensor
) -> Iterator[str]:
    name = cls.__name__
    if isinstance(model, Locates):
        found = checked_location(_call(cls, "locate", model.locate, x), name, BATCH)
        for field, value in found._asdict().items():
            _finite(name, f"locate(x).{field}", value)
        shares = bool(((found.box >= 0) & (found.box <= 1)).all())
        hint = "; but every box lies in [0, 1]: are they shares of the canvas? A box is in pixels"
        yield f"Locates: {found.presence.shape[1]} objects{hint * shares}"
    if isinstance(model, Resamples):
        for given, rows in ((x, BATCH), (None, 1)):
            images = _seeded(cls, "resample", model.resample, given, rows, 2)
            _shaped(name, "resample(x, rows, draws)", images, (rows, 2, *x.shape[1:]))
        yield "Resamples"
    if isinstance(model, Decomposes):
        parts = _seeded(cls, "decompose", model.decompose, x)
        count = parts.mask.shape[1] if parts.mask.ndim == 5 else -1
        _shaped(name, "decompose(x).mask", parts.mask, (BATCH, count, 1, *x.shape[2:]))
        _shaped(name, "decompose(x).component", parts.component, (BATCH, count, *x.shape[1:]))
        off = float((parts.mask.sum(1) - 1).abs().max())
        if off > 1e-3 or float(parts.mask.min()) < 0:
            raise ContractError(
                f"{name}.decompose(x).mask must be at least 0 and add up to 1 over components; it is off by {off:.2g}"
            )
        yield f"Decomposes: {count} components"
    if isinstance(model, Traverses):
        first = torch.zeros(BATCH, dtype=torch.int64, device=x.device)
        moved = _call(cls, "move", model.move, x, first, x.new_tensor([[0.0, 0.0], [2.0, 0.0]]))
        _shaped(name, "move(x, object, shifts)", moved, (BATCH, 2, *x.shape[1:]))
        between = _seeded(cls, "interpolate", model.interpolate, x, x.flip(0), 3)
        _shaped(name, "interpolate(x0, x1, steps)", between, (BATCH, 3, *x.shape[1:]))
        yield "Traverses"
    slots = None
    if isinstance(model, Remembers):
        slots = _remembers(cls, model, x)
        yield f"Remembers: {slots} slots"
    if isinstance(model, Attends):
        yield f"Attends: {_attends(cls, model, x, slots)} steps"
    if isinstance(model, Draws):
        yield f"Draws: {_draws(cls, model, x)} parts"
    if isinstance(model, Completes):
        begun = _seeded(cls, "begin", model.begin, BATCH)
        _shaped(name, f"begin({BATCH})", begun, (BATCH, *x.shape[1:]))
        _within(name, f"begin({BATCH})", begun)
        _several(name, "complete(x, 2)", _seeded(cls, "complete", model.complete, begun, 2), x)
        yield "Completes"
    if isinstance(model, Varies):
        _several(name, "vary(x, 2)", _seeded(cls, "vary", model.vary, x, 2), x)
        yield "Varies"
    if isinstance(model, Matches):
        _matches(cls, model, x)
        yield "Matches"
    if isinstance(model, Relaxes):
        relaxed = _seeded(cls, "relaxed_elbo", model.relaxed_elbo, x)
        _shaped(name, "relaxed_elbo(x)", relaxed, (BATCH,))
        yield "Relaxes"
    if isinstance(model, Itemizes):
        yield f"Itemizes: {', '.join(_itemizes(cls, model, x))}"


def _attends(cls: type[Any], model: Attends, x: Tensor, slots: int | None) -> int:
    """The steps, of draws and of the mode. slots: of a model that remembers."""
    name = cls.__name__
    for sample in (True, False):
        method = f"attend(x, {sample})"
        seen = _seeded(cls, method, model.attend, x, sample)
        steps = seen.present.shape[1] if seen.present.ndim == 2 else -1
        _shaped(name, f"{method}.present", seen.present, (BATCH, steps))
        _shaped(name, f"{method}.probability", seen.probability, (BATCH, steps))
        _shaped(name, f"{method}.window", seen.window, (BATCH, steps, 4))
        _shaped(name, f"{method}.layer", seen.layer, (BATCH, steps, *x.shape[1:]))
        _shaped(name, f"{method}.what", seen.what, (BATCH, steps, seen.what.shape[-1]))
        remembered = seen.slot.shape[-1] if slots is None else slots
        _shaped(name, f"{method}.slot", seen.slot, (BATCH, steps, remembered))
        _within(name, f"{method}.probability", seen.probability)
        _stops(name, method, seen.present)
        if (seen.window[..., 2:] < seen.window[..., :2]).any():
            raise ContractError(
                f"{name}.{method}.window must be (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1"
            )
        if seen.layer[seen.present == 0].any():
            raise ContractError(f"{name}.{method}.layer must be zero where present is 0")
        if remembered:
            _within(name, f"{method}.slot", seen.slot)
            off = float((seen.slot.sum(-1) - 1).abs().max())
            if off > 1e-3:
                raise ContractError(
                    f"{name}.{method}.slot must add up to 1 over slots; it is off by {off:.2g}"
                )
    with seeded(5):
        again = _call(cls, method, model.attend, x, False)
    _same(name, method, seen, again)
    return int(steps)


def _draws(cls: type[Any], model: Draws, x: Tensor) -> int:
    """The parts, of draws and of the mode."""
    name = cls.__name__
    for sample in (True, False):
        method = f"draw(x, {sample})"
        seen = _seeded(cls, method, model.draw, x, sample)
        parts = seen.present.shape[1] if seen.present.ndim == 2 else -1
        _shaped(name, f"{method}.present", seen.present, (BATCH, parts))
        _shaped(name, f"{method}.canvas", seen.canvas, (BATCH, parts, *x.shape[1:]))
        _shaped(name, f"{method}.what", seen.what, (BATCH, parts, seen.what.shape[-1]))
        _shaped(name, f"{method}.where", seen.where, (BATCH, parts, 4))
        _within(name, f"{method}.canvas", seen.canvas)
        _stops(name, method, seen.present)
        still = seen.present[:, 1:] == 0
        changed = (seen.canvas.diff(dim=1).flatten(2).abs().amax(2) > 1e-5) & still
        if changed.any():
            raise ContractError(f"{name}.{method}.canvas must not change where present is 0")
    with seeded(5):
        again = _call(cls, method, model.draw, x, False)
    _same(name, method, seen, again)
    return int(parts)


def _several(name: str, method: str, images: Tensor, x: Tensor) -> None:
    """Two images for each of x, which are not one image twice."""
    _shaped(name, method, images, (BATCH, 2, *x.shape[1:]))
    _within(name, method, images)
    if torch.equal(images[:, 0], images[:, 1]):
        raise ContractError(f"{name}.{method} gives the same image twice; its draws must differ")


def _matches(cls: type[Any], model: Matches, x: Tensor) -> None:
    """Shape, with gradients off as in measuring; what was fitted is no parameter."""
    assert isinstance(model, torch.nn.Module)
    method = "match(support, query, 1, 2)"
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        found = _seeded(cls, "match", model.match, x, x.flip(0)[:1], 1, 2)
    _shaped(cls.__name__, method, found, (1, BATCH))
    for key, value in model.state_dict().items():
        if not torch.equal(value, before[key]):
            raise ContractError(f"{cls.__name__}.{method} changed {key}; a match leaves no trace")
    for key, parameter in model.named_parameters():
        if parameter.grad is not None or not parameter.requires_grad:
            raise ContractError(
                f"{cls.__name__}.{method} left {key} frozen or with a gradient; a match leaves no trace"
            )


def _stops(name: str, method: str, present: Tensor) -> None:
    if not ((present == 0) | (present == 1)).all() or (present.diff(dim=1) > 0).any():
        raise ContractError(
            f"{name}.{method}.present must be 1 for every step taken and 0 from the first 0 on; got "
            f"{present.tolist()}"
        )


def _same(name: str, method: str, latents: Any, again: Any) -> None:
    for field, first, second in zip(latents._fields, latents, again, strict=True):
        if not torch.equal(first, second):
            raise ContractError(
                f"{name}.{method}.{field} differs under another seed; without sampling it is the posterior's mode"
            )


def _remembers(cls: type[Any], model: Remembers, x: Tensor) -> int:
    """The number of slots."""
    name, draws = cls.__name__, 2
    patches = _seeded(cls, "recall", model.recall, draws)
    slots, side = (patches.shape[0], patches.shape[-1]) if patches.ndim == 5 else (-1, -1)
    _shaped(name, f"recall({draws})", patches, (slots, 1 + draws, x.shape[1], side, side))
    _within(name, f"recall({draws})", patches)
    with seeded(5):
        again = _call(cls, "recall", model.recall, draws)
    if not torch.equal(patches[:, 0], again[:, 0]):
        raise ContractError(
            f"{name}.recall({draws})[:, 0] differs under another seed; it is the patch at the mean of each slot's prior"
        )
    return int(slots)


def _itemizes(cls: type[Any], model: Itemizes, x: Tensor) -> list[str]:
    """The names of the terms."""
    name = cls.__name__
    terms = _seeded(cls, "log_weight_terms", model.log_weight_terms, x, PARTICLES)
    if not isinstance(terms, dict) or "log_likelihood" not in terms:
        raise ContractError(
            f"{name}.log_weight_terms must return a dictionary with the key 'log_likelihood'; got "
            f"{sorted(terms) if isinstance(terms, dict) else type(terms).__name__}"
        )
    for key, term in terms.items():
        _shaped(name, f"log_weight_terms(x, {PARTICLES})[{key!r}]", term, (PARTICLES, BATCH))
    assert isinstance(model, GenerativeModel)
    weights = _seeded(cls, "log_weights", model.log_weights, x, PARTICLES)
    total = torch.stack(list(terms.values())).sum(0)
    if not torch.allclose(total, weights, rtol=1e-5, atol=1e-2):
        raise ContractError(
            f"{name}.log_weight_terms must add up to log_weights under the same seed; they are off by "
            f"{float((total - weights).abs().max()):.3g} nats"
        )
    return list(terms)


def _call(cls: type[Any], method: str, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except UsageError:
        raise
    except Exception as error:
        raise ContractError(f"{cls.__name__}.{method} raised {told(error)}") from error


def _seeded(cls: type[Any], method: str, call: Callable[..., Any], *arguments: Any) -> Any:
    with seeded(4):
        return _call(cls, method, call, *arguments)


def _shaped(name: str, method: str, value: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor):
        raise ContractError(
            f"{name}.{method} returned {type(value).__name__}; expected a tensor of shape {shape}"
        )
    if tuple(value.shape) != shape:
        raise ContractError(f"{name}.{method} has shape {tuple(value.shape)}; expected {shape}")
    _finite(name, method, value)


def _finite(name: str, method: str, value: Tensor) -> None:
    if not value.isfinite().all():
        raise ContractError(f"{name}.{method} is not finite")


def _within(name: str, method: str, value: Tensor) -> None:
    least, most = float(value.min()), float(value.max())
    if least < -1e-5 or most > 1 + 1e-5:
        raise ContractError(
            f"{name}.{method} must lie in [0, 1]; it goes from {least:.3g} to {most:.3g}"
        )


def _latents(name: str, method: str, latents: Any) -> None:
    if not isinstance(latents, tuple) or not hasattr(latents, "_fields"):
        raise ContractError(
            f"{name}.{method} returned {type(latents).__name__}; expected a NamedTuple of tensors"
        )
    for field, value in zip(latents._fields, latents, strict=True):
        if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] != BATCH:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ContractError(
                f"{name}.{method}: field {field} has shape {shape}; expected ({BATCH}, ...)"
            )
