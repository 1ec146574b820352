"""The published settings of every model, as a file: a change of a default shows in review, and asks for a version.

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
from reprise.core.spec import load, model, names

SNAPSHOT = Path(__file__).with_name("recipes.json")
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


def test_a_changed_default_is_seen() -> None:
    """Old weights would silently answer to the new meaning: raise the model's version, then write the file anew."""
    assert recipes() == json.loads(SNAPSHOT.read_text())


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(recipes(), indent=1, sort_keys=True) + "\n")
