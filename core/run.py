"""Run: a model trained on a dataset with a seed; its identity, and everything that can change its weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .dataset import Dataset
from .errors import ContractError, UsageError, unknown
from .model import GenerativeModel, Recipe, Training
from .randomness import stream
from .spec import Spec, Value, build, checked, identifier, load, readable


@dataclass(frozen=True)
class Run:
    """All that determines weights, and nothing else. Device, workers and paths cannot enter it.

    model: a name and the config options that differ from the recipe. dataset: a name and options.
    training: what differs from the recipe's Training. seed: names all randomness of the run.
    """

    model: Spec
    dataset: Spec
    training: tuple[tuple[str, Value], ...] = ()
    seed: int = 0

    @cached_property
    def data(self) -> Dataset:
        """The dataset, made (its files are not read yet)."""
        made = build(self.dataset)
        if not isinstance(made, Dataset):
            raise ContractError(f"{self.dataset.name} is not a reprise Dataset")
        return made

    @cached_property
    def model_class(self) -> type[GenerativeModel[Any]]:
        """The model's class."""
        cls = load(self.model)
        if not issubclass(cls, GenerativeModel):
            raise ContractError(
                f"{self.model.name} ({cls.__name__}) does not derive from reprise.core.model.GenerativeModel"
            )
        return cls

    @cached_property
    def published(self) -> Recipe:
        """The recipe as the model's file gives it, before this run's changes."""
        recipe = self.model_class.recipe(self.data.info)
        if not isinstance(recipe, Recipe) or not dataclasses.is_dataclass(recipe.config):
            raise ContractError(
                f"{self.model.name}.recipe must return a Recipe(config, training) whose config is a dataclass"
            )
        return recipe

    @cached_property
    def recipe(self) -> Recipe:
        """What will be run: the published recipe with this run's changes. Raises UsageError for a wrong key or type."""
        config_keys = {f.name for f in dataclasses.fields(self.published.config)}
        training_keys = {f.name for f in dataclasses.fields(Training)}
        options = dict(self.model.options)
        if wrong := options.keys() - config_keys:
            raise unknown(
                "option",
                f"model.{sorted(wrong)[0]}",
                [f"model.{key}" for key in config_keys | training_keys],
            )
        config = dataclasses.replace(
            self.published.config, **checked(type(self.published.config), options, "model")
        )
        training = dataclasses.replace(
            self.published.training, **checked(Training, dict(self.training), "training")
        )
        if training.steps < 0 or training.batch_size < 1 or training.time_scale <= 0:
            raise UsageError(
                f"training.steps must be >= 0, batch_size >= 1 and time_scale > 0; got {training}"
            )
        if (training.lr_until is None) != (training.lr_after is None):
            raise UsageError(
                f"training.lr_until and training.lr_after must be given together or not at all; got {training}"
            )
        return Recipe(config, training)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the id is the hash of: names, versions, and what differs from the defaults."""
        evaluation = {
            f.name for f in dataclasses.fields(self.recipe.config) if f.metadata.get("evaluation")
        }
        config = _difference(self.recipe.config, self.published.config)
        return {
            "model": [
                self.model.name,
                self.model_class.version,
                {k: v for k, v in config.items() if k not in evaluation},
            ],
            "dataset": [self.dataset.name, self.data.version, non_defaults(self.data)],
            "training": _difference(self.recipe.training, self.published.training),
            "seed": self.seed,
        }

    @cached_property
    def evaluation(self) -> dict[str, Value]:
        """The evaluation options that differ from the defaults: part of a cell's identity, never of the run's."""
        changed = _difference(self.recipe.config, self.published.config)
        options = dataclasses.fields(self.recipe.config)
        return {
            f.name: changed[f.name]
            for f in options
            if f.metadata.get("evaluation") and f.name in changed
        }

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Every value that the weights depend on, defaults included; kept with them, so that a change shows."""
        config = dataclasses.asdict(self.recipe.config)
        for f in dataclasses.fields(self.recipe.config):
            if f.metadata.get("evaluation"):
                del config[f.name]
        return {
            "model": config,
            "training": self.recipe.training.settings(),
            "dataset": dataclasses.asdict(self.data),  # type: ignore[call-overload]  # every Dataset is a dataclass
        }

    @cached_property
    def id(self) -> str:
        """`gnm-mnist10-s0-1f3a9c2e`: readable prefix and hash of the identity; also the folder under runs/."""
        name = readable(self.model)
        return f"{name}-{self.data.info.name}-s{self.seed}-{identifier(self.identity, 8)}"

    def identity_of_cell(self, share: float, test: Spec, metric: Spec) -> list[Any]:
        """What the id of a cell is the hash of, 12 digits: this run, how far it was, and what was measured on what."""
        parts: list[Any] = [self.id, self.evaluation]
        for thing in (test, metric):
            made = build(thing)
            parts.append([thing.name, made.version, non_defaults(made)])
        return parts if share == 1 else [*parts, ["trained", share]]

    def __reduce__(self) -> tuple[Any, ...]:
        """What travels to a worker process: the fields, not what was derived from them."""
        return Run, (self.model, self.dataset, self.training, self.seed)

    def stream(self, *names: object) -> int:
        """A seed for one named use of randomness: `run.stream("step", t)`, `run.stream("measure", cell)`."""
        return stream(self.id, *names)

    def build_model(self) -> GenerativeModel[Any]:
        """A freshly initialised model; the same weights every time."""
        from .randomness import seeded

        with seeded(self.stream("init")):
            return self.model_class(self.recipe.config, self.data.info)


def _difference(now: Any, published: Any) -> dict[str, Value]:
    mine, theirs = dataclasses.asdict(now), dataclasses.asdict(published)
    return {key: value for key, value in mine.items() if value != theirs[key]}


def non_defaults(thing: Any) -> dict[str, Value]:
    """The fields of a dataset or metric that differ from their defaults."""
    result: dict[str, Value] = {}
    for f in dataclasses.fields(thing):
        value = getattr(thing, f.name)
        if f.default is dataclasses.MISSING or value != f.default:
            result[f.name] = value
    return result
