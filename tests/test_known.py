"""What is measured already is believed only while its name means what it meant; editing one's own model is noticed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .driving import call, call_here, table

MINE = """
from dataclasses import dataclass
from laboratory import Sketch, SketchConfig
from reprise.core.model import Recipe, Training
from .parts import weigh

@dataclass(frozen=True)
class MineConfig(SketchConfig):
    sigma: float = 0.3

class Mine(Sketch):
    version = 1

    @classmethod
    def recipe(cls, data):
        return Recipe(MineConfig(), Training(steps=20, batch_size=8, lr=1e-3))

    def log_weights(self, x, particles):
        return weigh(super().log_weights(x, particles))
"""
PARTS = "def weigh(weights):\n    return weights\n"
ASKED = (
    "run",
    "tiny",
    "--model",
    "Mine=my_lab.mine:Mine",
    "--models",
    "Mine",
    "--metrics",
    "Bound",
)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A visitor's package: a model, and a module that it takes a function from."""
    folder = tmp_path / "lab" / "my_lab"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "mine.py").write_text(MINE)
    (folder / "parts.py").write_text(PARTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lab"), prepend=":")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # two edits may fall into one second
    return folder


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_a_visitors_model_that_was_edited_is_not_taken_for_the_one_that_was_measured(
    lab: Path, tmp_path: Path
) -> None:
    root, mine = tmp_path / "root", lab / "mine.py"
    assert call(root, *ASKED, "--seeds", "2")[0] == 0
    before = table(root)
    assert [row["seed"] for row in before] == ["0", "1"]
    edit(mine, "sigma: float = 0.3", "sigma: float = 0.3  # of a pixel, in [0, 1]")
    code, _, err = call(root, *ASKED, "--seeds", "2")
    assert (code, "0 to do" in err) == (0, True), "a comment changes no number"

    other = "other code of my_lab.mine:Mine"
    for path, old, new, seeds, why in (
        (
            mine,
            "sigma: float = 0.3",
            "sigma: float = 0.5",
            "2",
            "model.sigma=0.3, which now reads 0.5",
        ),
        (mine, "return weigh(super()", "return 2 * weigh(super()", "2", other),
        # Of a third seed nothing is there, but it would stand beside the others.
        (lab / "parts.py", "return weights", "return -weights", "3", other),
    ):
        edit(path, old, new)
        code, _, err = call(root, *ASKED, "--seeds", seeds)
        assert code == 3
        assert why in err
        assert "raise the version of my_lab.mine:Mine" in err
        edit(path, new, old)
    assert table(root) == before

    edit(mine, "sigma: float = 0.3", "sigma: float = 0.5")
    edit(mine, "version = 1", "version = 2")
    code, _, err = call(root, *ASKED)
    assert code == 0, err
    (row,) = table(root)  # the second seed was of another model, and is none of this one's
    assert row["run"] not in {old["run"] for old in before}
    assert row["value"] != before[0]["value"]


def test_weights_and_cells_of_an_edited_model_are_refused_where_only_runs_knows_them(
    lab: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    assert call(root, *ASKED)[0] == 0
    (folder,) = (path.parent for path in root.glob("runs/*/run.json"))
    described = (folder / "run.json").read_bytes()
    edit(lab / "parts.py", "return weights", "return -weights")
    shutil.rmtree(root / "results")
    code, _, err = call(root, *ASKED)
    assert code == 3
    assert "other code of my_lab.mine:Mine" in err
    assert f"delete {folder} to train again" in err
    # A cell that was not measured before finds weights, or finished cells, of the other model.
    for checkpoint in (True, False):
        if not checkpoint:
            (folder / "checkpoint.pt").unlink()
        code, _, err = call(root, *ASKED[:-1], "Bound-4")
        assert code == 3
        assert "other code of my_lab.mine:Mine" in err
        assert (folder / "run.json").read_bytes() == described
    shutil.rmtree(folder)
    code, _, err = call(root, *ASKED)
    assert code == 0, err


def test_a_default_of_a_model_that_changed_is_noticed_by_what_was_kept_of_its_training(
    tmp_path: Path,
) -> None:
    """Rows are committed with how their runs were trained; rows of which nothing was kept stay as they are."""
    asked = ("run", "tiny", "--models", "Sketch", "--metrics", "Bound")
    assert call_here(tmp_path, *asked)[0] == 0
    shutil.rmtree(tmp_path / "runs")
    (kept,) = tmp_path.glob("results/demo/trained/*.json")
    found = json.loads(kept.read_text())
    del found["settings.source"]  # as of a class of this package
    found["settings.model"]["no_more"] = (
        1.0  # what is no option of the training any more changed no weights
    )
    kept.write_text(json.dumps(found))
    code, _, err = call_here(tmp_path, *asked)
    assert (code, "0 to do" in err) == (0, True), err
    found["settings.model"]["sigma"] = 0.7
    kept.write_text(json.dumps(found))
    code, _, err = call_here(tmp_path, *asked)
    assert code == 3
    assert "model.sigma=0.7, which now reads 0.3 under the same name; raise the version" in err


def test_a_cell_that_has_diverged_is_no_success_in_any_later_call(tmp_path: Path) -> None:
    asked = ("run", "tiny", "--models", "Sketch,Diverging", "--metrics", "Bound")
    for _ in range(2):
        code, _, err = call_here(tmp_path, *asked)
        assert code == 1
        assert "1 cell diverged" in err
    code, _, err = call_here(tmp_path, "run", "tiny", "--models", "Sketch", "--metrics", "Bound")
    assert code == 0, err
