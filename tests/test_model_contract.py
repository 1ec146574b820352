"""Every model of models/ and baselines/ keeps the contract; a class that does not is told which method and shape."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from reprise.core import spec
from reprise.core.dataset import DatasetInfo
from reprise.core.errors import ContractError, UsageError
from reprise.core.spec import FOLDERS, model
from reprise.core.workspace import Workspace
from reprise.launch.contract import check_model
from reprise.launch.plan import Request, plan

ROOT = Path(__file__).resolve().parent.parent
MODELS = [
    name
    for name, where in spec.names("model").items()
    if where.split(".")[1] in FOLDERS["model"] and where.startswith("reprise.")
]


@pytest.fixture(autouse=True)
def _visit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_models_are_found() -> None:
    assert {
        "gnm", "vae", "convdraw", "genesis", "ppca", "air", "dmvae", "dood", "difference_air",
    } <= set(MODELS)  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_keeps_the_contract(name: str) -> None:
    findings = list(check_model(model(name)))
    assert "state: all of it is in state_dict" in findings
    assert not any("every box" in finding for finding in findings)  # boxes are in pixels


def test_a_visitor_is_checked_like_a_resident() -> None:
    assert "state: all of it is in state_dict" in list(check_model(model("laboratory:Sketch")))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("Mute", r"Mute\.log_weights\(x, 3\) has shape \(2,\); expected \(3, 2\)"),
        ("Unfinished", "Unfinished lacks decode, infer"),
        ("Forgetful", r"Forgetful\.log_weights differs after its state_dict was loaded"),
        ("Cooling", r"Cooling\.loss: an update gives another loss after its state_dict was loaded"),
        ("Steering", "an update gives another gradient_norm after its state_dict was loaded"),
        ("Drifting", "an update gives another mean after its state_dict was loaded"),
        (
            "Raising",
            r"Raising\.decode raised RuntimeError: no paint left .*laboratory\.py, line \d+",
        ),
        ("Random", r"Random\.loss differs between two calls with the same seed"),
        ("Vector", r"Vector\.loss has shape \(2,\); expected \(\)"),
        ("Blobs", "Blobs does not derive from"),
    ],
)
def test_what_is_wrong_is_named(broken: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        list(check_model(model(f"laboratory:{broken}")))


@pytest.mark.parametrize(
    ("name", "slots"), [("laboratory:Reader", 4), ("air", None), ("dmvae", 15)]
)
def test_the_capabilities_of_a_reading_model_are_checked(name: str, slots: int | None) -> None:
    findings = list(check_model(model(name)))
    assert any(finding.startswith("Attends: ") for finding in findings)
    assert any(finding.startswith("Itemizes: log_likelihood, ") for finding in findings)
    assert "Relaxes" in findings
    assert (f"Remembers: {slots} slots" in findings) == (slots is not None)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("Blinking", r"Blinking\.attend\(x, True\)\.present must be 1 .* 0 from the first 0 on"),
        ("Smearing", r"Smearing\.attend\(x, True\)\.layer must be zero where present is 0"),
        ("Wavering", r"Wavering\.attend\(x, False\)\.layer differs under another seed"),
        ("Mirrored", r"Mirrored\.attend\(x, True\)\.window must be \(x0, y0, x1, y1\)"),
        ("Overconfident", r"\.slot must add up to 1 over slots; it is off by 3"),
        ("Absent", r"Absent\.attend\(x, True\)\.slot has shape \(2, 2, 2\); expected \(2, 2, 4\)"),
        ("Dreaming", r"Dreaming\.recall\(2\)\[:, 0\] differs under another seed"),
        ("Glaring", r"Glaring\.recall\(2\) must lie in \[0, 1\]; it goes from .* to 1\."),
        ("Tense", r"Tense\.relaxed_elbo\(x\) has shape \(\); expected \(2,\)"),
        ("Embezzling", r"Embezzling\.log_weight_terms must add up .* off by 5 nats"),
        ("Vague", r"Vague\.log_weight_terms .* 'log_likelihood'; got \['everything'\]"),
    ],
)
def test_a_broken_capability_is_named(broken: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        list(check_model(model(f"laboratory:{broken}")))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            "Miscounting",
            r"got box \(2, 2, 4\), presence \(2, 1\) and what \(2, 2, 3\) for 2 images",
        ),
        ("Boasting", r"Boasting\.locate\(x\)\.presence must lie in \[0, 1\]; it goes from 2"),
        ("Endless", r"Endless\.locate\(x\)\.box is not finite"),
    ],
)
def test_objects_that_are_not_well_located_are_named(broken: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        list(check_model(model(f"laboratory:{broken}")))


def test_boxes_in_shares_of_the_canvas_are_pointed_out_and_not_refused() -> None:
    """Nothing forbids objects of one pixel; they are seldom what is meant."""
    pixels, shares = (list(check_model(model(f"laboratory:{n}"))) for n in ("Finder", "Sharing"))
    assert pixels[-1] == "Locates: 2 objects"
    assert shares[-1].startswith("Locates: 2 objects; but every box lies in [0, 1]")


@pytest.mark.parametrize(
    ("name", "parts", "completes"),
    [("laboratory:Draughtsman", 2, True), ("dood", 6, True), ("difference_air", 6, False)],
)
def test_the_capabilities_of_a_drawing_model_are_checked(
    name: str, parts: int, completes: bool
) -> None:
    findings = list(check_model(model(name), DatasetInfo("small", (1, 12, 12), objects=1)))
    assert f"Draws: {parts} parts" in findings
    assert {"Varies", "Matches"} <= set(findings)
    assert ("Completes" in findings) == completes


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("Restless", r"Restless\.draw\(x, True\)\.canvas must not change where present is 0"),
        ("Resurrecting", r"\.draw\(x, True\)\.present must be 1 .* 0 from the first 0 on"),
        ("Undecided", r"Undecided\.draw\(x, False\)\.canvas differs under another seed"),
        ("Blinding", r"Blinding\.begin\(2\) must lie in \[0, 1\]; it goes from"),
        ("Repeating", r"Repeating\.complete\(x, 2\) gives the same image twice"),
        ("Turned", r"Turned\.match\(support, query, 1, 2\) has shape \(2, 1\); expected \(1, 2\)"),
        ("Learning", r"Learning\.match\(support, query, 1, 2\) changed decoder\.bias"),
        ("Freezing", r"Freezing\.match\(support, query, 1, 2\) left conv\.weight frozen"),
    ],
)
def test_a_broken_drawing_capability_is_named(broken: str, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        list(check_model(model(f"laboratory:{broken}")))


def test_a_class_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="is it installed"):
        list(check_model(model("no_such_lab:SLATE")))
    with pytest.raises(UsageError, match="has no 'SLATE'"):
        list(check_model(model("laboratory:SLATE")))


@pytest.mark.parametrize("name", MODELS)
def test_config_and_training_share_no_name(name: str) -> None:
    """So that `--set model.x` can mean only one thing; the contract's own check, on every file at once."""
    from reprise.core.model import Training
    from reprise.launch.contract import KINDS

    cls = spec.load(model(name))
    for info in KINDS:
        try:
            config = cls.recipe(info).config
        except UsageError:
            continue
        names = {f.name for f in dataclasses.fields(config)}
        assert not names & {f.name for f in dataclasses.fields(Training)}


@pytest.mark.parametrize("name", MODELS)
def test_what_a_tier_changes_for_a_model_exists(name: str) -> None:
    """A misspelt key would be taken for an option of another configuration and change nothing."""
    from reprise.core.model import Training
    from reprise.core.protocol import TIERS
    from reprise.launch.contract import KINDS

    cls = spec.load(model(name))
    known = {f.name for f in dataclasses.fields(Training)}
    for info in KINDS:
        with contextlib.suppress(UsageError):
            known |= {f.name for f in dataclasses.fields(cls.recipe(info).config)}
    assert cls.tiers.keys() <= TIERS.keys() - {"paper"}, "the published settings are the paper's"
    for changed in cls.tiers.values():
        assert changed.keys() <= known


def test_a_tiers_changes_for_a_model_are_planned_and_the_command_line_wins(tmp_path: Path) -> None:
    def steps(**more: Any) -> int:
        asked = Request("gnm_table1", "demo", ("GENESIS",), ("MNIST-4",), ("LL",), **more)
        (cell,) = plan(asked, Workspace(tmp_path)).cells
        assert cell.run is not None
        return cell.run.recipe.training.steps

    assert steps() == spec.load(model("genesis")).tiers["demo"]["steps"]
    assert steps(changes=(("training.steps", "7"),)) == 7
