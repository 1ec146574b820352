"""Run: a model trained on a dataset with a seed; its identity, and everything that can change its weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .dataset import Dataset
from .errors import ContractError, UsageError, told, unknown
from .model import GenerativeModel, Recipe, Training, checked_recipe
from .randomness import stream
from .sources import source, with_source
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
        try:
            recipe = self.model_class.recipe(self.data.info)
        except UsageError:
            raise
        except Exception as error:
            raise ContractError(f"{self.model.name}.recipe raised {told(error)}") from error
        return checked_recipe(recipe, self.model.name)

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
        chosen = checked(type(self.published.config), options, "model")
        try:
            config = dataclasses.replace(self.published.config, **chosen)
        except UsageError:
            raise
        except Exception as error:  # the config's own check
            raise UsageError(f"{self.model} cannot be: {told(error)}") from error
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
        settings = {
            "model": config,
            "training": self.recipe.training.settings(),
            "dataset": dataclasses.asdict(self.data),  # type: ignore[call-overload]  # every Dataset is a dataclass
        }
        code = {"model": source(self.model_class), "dataset": source(type(self.data))}
        if visitors := {part: digest for part, digest in code.items() if digest}:
            settings["source"] = visitors
        return settings

    def changed(self, then: Mapping[str, Mapping[str, Any]]) -> str:
        """What has changed since something was made under the settings `then`, and the remedy; "" if nothing has.

        An option that there was not yet stands at its default: who adds one whose default changes what was done before
        raises the version. One that is no longer among the settings changes no weights any more.
        """
        now = json.loads(json.dumps(self.settings))
        _, _, model = self.identity["model"]
        _, _, dataset = self.identity["dataset"]
        chosen = {"model": model, "dataset": dataset, "training": self.identity["training"]}
        for part in now:
            before = then.get(part, {}) if part == "source" else then[part]
            for key in sorted(now[part]):
                old, new = before.get(key, "absent"), now[part][key]
                if old == new or (old == "absent" and key not in chosen.get(part, {})):
                    continue
                of_data = part == "dataset" or (part, key) == ("source", "dataset")
                name = self.dataset.name if of_data else self.model.name
                what = f"{part}.{key}={old!r}, which now reads {new!r}"
                if part == "source":
                    what = f"other code of {name} than it has now,"
                return f"{what} under the same name; raise the version of {name}"
        return ""

    @cached_property
    def id(self) -> str:
        """`gnm-mnist10-s0-1f3a9c2e`: readable prefix and hash of the identity; also the folder under runs/."""
        name = readable(self.model)
        return f"{name}-{self.data.info.name}-s{self.seed}-{identifier(self.identity, 8)}"

    def identity_of_cell(self, share: float, test: Spec, metric: Spec) -> list[Any]:
        """What the id of a cell is the hash of, 12 digits: this run, how far it was, and what was measured on what."""
        parts: list[Any] = [self.id, self.evaluation]
        data, measured = build(test), build(metric)
        version = measured.version_on(data.info.name)
        parts.append([test.name, with_source(data.version, type(data)), non_defaults(data)])
        parts.append([metric.name, with_source(version, type(measured)), non_defaults(measured)])
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
