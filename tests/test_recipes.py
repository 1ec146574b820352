"""The published settings of every model, and the defaults of every metric and data set, as a file.

A change of one shows in review, and asks for a version.

`python -m tests.test_recipes` (from the repository's root) writes the file anew.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from reprise.core.dataset import DatasetInfo
from reprise.core.errors import UsageError
from reprise.core.model import GenerativeModel
from reprise.core.spec import Kind, Spec, build, load, model, names

SNAPSHOT = Path(__file__).with_name("recipes.json")
KINDS: tuple[Kind, ...] = ("metric", "dataset")
INFOS = (
    DatasetInfo("mnist4", (1, 128, 128), objects=4),
    DatasetInfo("mnist10", (1, 128, 128), objects=10),
    DatasetInfo("digits4", (1, 64, 64), objects=4),
    DatasetInfo("arrow_room", (3, 128, 128), "rgb", objects=4),
    DatasetInfo("multimnist", (1, 50, 50), objects=2),
    DatasetInfo("omniglot", (1, 50, 50), objects=1),
)


def recipes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in sorted(names("model")):
        cls = load(model(name))
        assert issubclass(cls, GenerativeModel)
        for info in INFOS:
            try:
                recipe = cls.recipe(info)
            except UsageError:
                continue
            found[f"{name} v{cls.version} on {info.name}"] = {
                "config": dataclasses.asdict(recipe.config),
                "training": recipe.training.settings(),
            }
    return found


def defaults() -> dict[str, Any]:
    """Of metrics and data sets: the options, what a tier changes of them, and what a metric says of itself."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        for name in sorted(names(kind)):
            part = Spec(kind, name)
            cls = load(part)
            options = {
                field.name: "needed" if field.default is dataclasses.MISSING else field.default
                for field in dataclasses.fields(cls)
                if field.init
            }
            said: dict[str, Any] = {"options": options, "tiers": dict(cls.tiers)}
            if kind == "metric" and "needed" not in options.values():
                said |= {"dialect": build(part).dialect, "raised": dict(cls.raised)}
            found[f"{kind} {name} v{cls.version}"] = said
    return found


def snapshot() -> str:
    return json.dumps({**recipes(), **defaults()}, indent=1, sort_keys=True, default=str) + "\n"


def test_a_changed_default_is_seen() -> None:
    """Old weights and numbers would silently answer to the new meaning: raise the version of the model, the metric or
    the data set, then write the file anew.
    """
    assert json.loads(snapshot()) == json.loads(SNAPSHOT.read_text())


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot())
