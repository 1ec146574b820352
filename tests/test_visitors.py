"""A visitor's code that cannot be read costs its own rows: one sentence with file and line, and the others go on."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from reprise.core.dataset import DatasetInfo
from reprise.core.errors import BrokenCodeError, ContractError, UsageError
from reprise.core.run import Run
from reprise.core.spec import convert, dataset, load, model
from reprise.core.workspace import Workspace
from reprise.launch.contract import check_model
from reprise.launch.plan import Request, plan

from .driving import call, table

HEAD = """
import dataclasses
from dataclasses import dataclass
import torch
from laboratory import Sketch, SketchConfig
from reprise.core.model import Recipe, Training
"""
BODY = """
@dataclass(frozen=True)
class MineConfig(SketchConfig):
    {field}

class Mine(Sketch):
    @classmethod
    def recipe(cls, data):
        {recipe}
"""
GOOD, PLAIN = "return Recipe(MineConfig(), Training(steps=10, batch_size=8))", "cap: float = 1.0"
IMPORTS = {
    "x = (": r"SyntaxError: '\(' was never closed \(.*, line 7\)",
    "x = y": r"NameError: name 'y' is not defined \(.*, line 7\)",
    "import no_such_dependency": r"No module named 'no_such_dependency' \(.*, line 7\)",
    "raise SystemExit(0)": r"SystemExit: 0 \(.*, line 7\)",
}
RECIPES = {
    "raise RuntimeError('no\\nrecipe')": r"RuntimeError: no recipe \(.*, line 16\)",
    "return Recipe(MineConfig(), None)": "training=None; expected a Training",
    "return Recipe(MineConfig, Training(steps=1))": "instance of a frozen dataclass",
    "return None": "returned None; expected a Recipe",
    "return Recipe(MineConfig(), Training(steps='many'))": r"training\.steps='many' has the wrong type",
    "return Recipe(MineConfig(), Training(steps=1, lr=float('nan')))": r"training\.lr=nan is not finite",
}
FIELDS = {
    "cap: float = float('inf')": r"MineConfig\.cap=inf, which cannot be kept",
    "cap: float = float('nan')": r"MineConfig\.cap=nan, which cannot be kept",
    "dtype: object = torch.float32": r"MineConfig\.dtype=torch\.float32, which cannot be kept",
    "cap: 'Nothing' = 1": "NameError: name 'Nothing' is not defined",
}
COUNTER = itertools.count()


@pytest.fixture(autouse=True)
def _visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.syspath_prepend(str(tmp_path))


def saved(folder: Path, first: str = "", recipe: str = GOOD, field: str = PLAIN) -> str:
    """The name of a module in `folder` that nobody has imported yet."""
    name = f"visitor{next(COUNTER)}"
    text = HEAD + first + "\n" + BODY.format(field=field, recipe=recipe)
    (folder / f"{name}.py").write_text(text)
    return name


@pytest.mark.parametrize("line", IMPORTS)
def test_a_module_that_cannot_be_imported_says_where_in_one_sentence(
    line: str, tmp_path: Path
) -> None:
    spec = model(f"{saved(tmp_path, first=line)}:Mine")
    for ask in (lambda: load(spec), lambda: list(check_model(spec))):
        with pytest.raises(BrokenCodeError, match=IMPORTS[line]) as told:
            ask()
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("recipe", "field", "message"),
    [
        *((recipe, PLAIN, message) for recipe, message in RECIPES.items()),
        *((GOOD, field, message) for field, message in FIELDS.items()),
    ],
)
def test_a_recipe_that_is_none_is_refused_before_anything_is_trained(
    recipe: str, field: str, message: str, tmp_path: Path
) -> None:
    spec = model(f"{saved(tmp_path, recipe=recipe, field=field)}:Mine")
    for ask in (
        lambda: Run(spec, dataset("laboratory:Blobs")).recipe,
        lambda: list(check_model(spec, DatasetInfo("blobs", (1, 8, 8)))),
    ):
        with pytest.raises(ContractError, match=message) as told:
            ask()
        assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "name", [":Tiny", ".tiny:Tiny", "tiny:", "my lab:Tiny", "a:b:C", "a..b:C", "my_lab.tiny"]
)
def test_a_name_that_cannot_be_read_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be read; expected MODULE:CLASS"):
        load(model(name))


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_an_option_is_a_finite_number(text: str) -> None:
    for hint in (float, float | None):
        with pytest.raises(UsageError, match=r"model\.lr=.* is not finite"):
            convert(text, hint, "model.lr")


def test_a_visitors_model_is_asked_for_by_its_label_or_by_being_there(tmp_path: Path) -> None:
    good, bad = (f"{saved(tmp_path, first=line)}:Mine" for line in ("", "x = y"))
    extra = (("Good", model(good)), ("Bad", model(bad)))

    def labels(*models: str) -> dict[str, str]:
        asked = Request("gnm_table1", "demo", models, ("MNIST-4",), ("LL",), extra=extra)
        return {p.row.model: p.row.status for p in plan(asked, Workspace(tmp_path)).cells}

    assert labels("Good") == {"Good": "ok"}
    assert labels("VAE") == {"VAE": "ok", "Good": "ok", "Bad": "failed"}
    assert labels("VAE", "Bad") == {"VAE": "ok", "Bad": "failed"}


def test_one_broken_model_costs_its_own_row_and_takes_no_number_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    good, bad = saved(tmp_path), saved(tmp_path, recipe="raise RuntimeError('no recipe')")
    asked = (
        "run", "tiny", "--model", f"Bad={bad}:Mine", "--model", f"Good={good}:Mine",
        "--models", "Bad,Good", "--metrics", "Bound", "--set", "training.steps=20",
    )  # fmt: skip
    code, _, err = call(tmp_path, *asked)
    assert (code, "Traceback" in err) == (3, False)
    assert f"reprise: {bad}:Mine.recipe raised RuntimeError: no recipe" in err
    first = {row["model"]: row for row in table(tmp_path)}
    assert {name: row["status"] for name, row in first.items()} == {
        "Good [steps=20]": "ok",
        "Bad [steps=20]": "failed",
    }
    assert f"{bad}.py, line 16" in first["Bad [steps=20]"]["note"]
    (tmp_path / f"{good}.py").write_text("x = y")
    code, _, err = call(tmp_path, *asked, "--dry-run")
    assert (code, f"{good} cannot be imported" in err) == (3, True)
    code, _, err = call(tmp_path, *asked)
    assert code == 3
    assert "2 cells failed" in err
    again = {row["model"]: row for row in table(tmp_path)}
    assert again["Good [steps=20]"] == first["Good [steps=20]"], (
        "a number stays when its code breaks"
    )


@pytest.mark.parametrize("name", ["My Data/v1", "", "..", "-s0", "MNIST", "a\n", "é"])
def test_a_dataset_whose_name_is_no_part_of_a_folders_is_refused(name: str) -> None:
    with pytest.raises(ContractError, match="the dataset name"):
        DatasetInfo(name, (1, 8, 8))
    assert DatasetInfo("arrow-room_r.2", (1, 8, 8)).name == "arrow-room_r.2"
