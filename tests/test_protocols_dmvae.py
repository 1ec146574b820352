"""The DM-VAE protocols: Table I as printed, claims about cells that exist, every silence of the paper."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reprise.core import protocol as protocols
from reprise.core.claims import Outcome
from reprise.core.protocol import TIERS, Protocol, TierName
from reprise.core.results import PublishedValue, ResultRow, read
from reprise.core.run import Run
from reprise.core.spec import exists
from reprise.protocols import _dmvae

NAMES = [name for name in protocols.names() if name.startswith("dmvae_")]

# Typed a second time from the text of the paper, by columns.
SECOND = {
    "Multi-MNIST": "185.1 6.3 189.5 3.9 154.0 12.1 154.2 11.2",
    "CASIA-CHAR": "1310.6 28.8 1302.4 19.4 1277.9 26.1 1228.3 33.3",
}
MODELS = ["AIR", "DAIR", "DM-VAE (mem=15)", "DM-VAE (mem=50)"]


def load(name: str) -> Protocol:
    return protocols.load(name)[1]


def published() -> list[PublishedValue]:
    return read(protocols.published_path("dmvae_table1"), PublishedValue)


def everything(name: str) -> set[tuple[str, str, str]]:
    """All cells, those too that are made only for who names them."""
    whole = dataclasses.replace(load(name), sizes={})
    return {(c.model_label, c.dataset_label, c.metric_label) for c in whole.cells(name, 1)}


def test_every_item_of_the_paper_has_its_protocol() -> None:
    items = ("table1", "figure3_left", "figure3_right", "figure4", "figure5", "figure6", "figure7")
    extra = ("objectives", "estimators", "objects")
    assert {f"dmvae_{item}" for item in (*items, *extra)} == set(NAMES)


def test_table_1_agrees_with_a_second_reading() -> None:
    first = {value.key: value for value in published()}
    for column, text in SECOND.items():
        numbers = text.split()
        for model, mean, spread in zip(MODELS, numbers[::2], numbers[1::2], strict=True):
            labels = [column] if column == "Multi-MNIST" else [column, _dmvae.OWN_FILES]
            for label in labels:
                value = first.pop((model, label, "NLL"))
                assert (value.printed, value.spread) == (mean, float(spread))
                assert value.value == float(mean)
                assert (value.table, value.row, value.column) == ("Table I", model, column)
    assert not first


def test_the_published_spread_is_of_no_stated_kind_and_the_column_lower_better() -> None:
    for value in published():
        assert "not stated" in value.spread_kind
        assert value.seeds == 10
        assert value.better == "lower"


def test_the_differences_that_the_claims_rest_on_are_those_printed() -> None:
    mean = {value.key[:2]: value.value or 0.0 for value in published()}
    less = [
        mean[model, data] - mean["AIR", data]
        for model in MODELS[2:]
        for data in ("Multi-MNIST", "CASIA-CHAR")
    ]
    assert less == pytest.approx([-31.1, -32.7, -30.9, -82.3])
    assert mean[MODELS[2], "CASIA-CHAR"] - mean[MODELS[3], "CASIA-CHAR"] == pytest.approx(49.6)


def test_no_number_on_characters_is_comparable_in_value() -> None:
    for value in published():
        assert ("characters=authors" in value.dialect) == (value.column == "CASIA-CHAR")
        assert value.dialect.startswith("estimator=nelbo likelihood=bernoulli")
    assert load("dmvae_table1").metrics["NLL"].options == ()  # the default is nelbo


def test_own_files_are_asked_of_nobody_who_does_not_name_them() -> None:
    for name in NAMES:
        for tier in TIERS:
            for cell in load(name).cells(name, 1, tier):
                assert cell.train.name != "casia"
    assert any(key[1] == _dmvae.OWN_FILES for key in everything("dmvae_table1"))


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_is_about_cells_of_its_protocol(name: str) -> None:
    """With the cells it names a claim can be decided; rows for all cells leave none unmeasured."""
    protocol = load(name)
    cells = everything(name)
    rows = [
        ResultRow(protocol=name, tier="mini", model=m, train="t", dataset=d, metric=k, seed=seed, value=float(seed))
        for m, d, k in cells
        for seed in range(3)
    ]  # fmt: skip
    for claim in protocol.claims:
        assert claim.test(rows, 3).outcome != "not measured", claim.text
        assert claim.test([], 3).outcome == "not measured"
    assert protocol.claims


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tier", [tier for tier in TIERS if tier != "demo"])
def test_the_cells_of_every_claim_are_made_at_the_tiers_that_decide_it(
    name: str, tier: TierName
) -> None:
    protocol = load(name)
    rows = [
        ResultRow(
            protocol=name, tier=tier, model=c.model_label, train="t", dataset=c.dataset_label,
            metric=c.metric_label, seed=c.seed, value=1.0,
        )
        for c in protocol.cells(name, 3, tier)
    ]  # fmt: skip
    outcomes: list[Outcome] = [claim.test(rows, 3).outcome for claim in protocol.claims]
    assert "not measured" not in outcomes


@pytest.mark.parametrize("name", NAMES)
def test_a_small_tier_has_the_seeds_that_its_question_needs(name: str) -> None:
    protocol = load(name)
    asked = {tier: protocol.seeds_for(tier) for tier in TIERS}
    assert asked["demo"] == 1
    one = ("dmvae_figure3_left", "dmvae_estimators")  # curves, and shares of one bound
    of_characters = ("dmvae_figure6", "dmvae_figure7")  # pictures of a stand-in
    assert asked["mini"] == (1 if name in one + of_characters else 3)
    assert asked["paper"] == {"dmvae_table1": 10}.get(name, 1 if name in one else 3)


def test_figures_share_the_runs_of_the_tables() -> None:
    def runs(name: str, tier: TierName) -> set[Any]:
        return {
            (dataclasses.replace(c.model, trained=1.0), c.train)
            for c in load(name).cells(name, 1, tier)
        }

    for tier in ("mini", "paper"):
        tables = runs("dmvae_table1", tier) | runs("dmvae_objectives", tier)
        for name in ("figure3_right", "figure4", "figure5", "figure6", "figure7", "objects"):
            assert runs(f"dmvae_{name}", tier) <= tables, name
        assert len(runs("dmvae_figure3_left", tier) - tables) == 5
        assert len(runs("dmvae_objectives", tier) - runs("dmvae_table1", tier)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_share_weights_do(name: str) -> None:
    """An option that says the default changes no run; a count prior never does; a temperature does."""
    found = {}
    for cell in load(name).cells(name, 1):
        if exists(cell.model) and exists(cell.train):
            whole = dataclasses.replace(cell.model, trained=1.0)
            found[cell.model_label, cell.dataset_label] = Run(whole, cell.train).id
    if name == "dmvae_estimators":
        for (label, data), run in found.items():
            assert run == found[label.removesuffix(", n uniform"), data]
    if name == "dmvae_figure3_left":
        table = load("dmvae_table1")
        assert (
            found["T = 2/3", "Multi-MNIST"]
            == Run(table.models["DM-VAE (mem=15)"], table.datasets["Multi-MNIST"]).id
        )
        assert len(set(found.values())) == 6


@pytest.mark.parametrize("tier", [tier for tier in TIERS if tier != "demo"])
def test_a_tier_changes_how_long_a_model_is_trained_and_not_how_often_it_looks(
    tier: TierName,
) -> None:
    """How many objects it reads is an option of the model, whose tier says how many updates are made."""
    from pathlib import Path

    from reprise.core.workspace import Workspace
    from reprise.launch.plan import Request, plan

    request = Request("dmvae_objectives", tier, seeds=1)
    runs = {c.run for c in plan(request, Workspace(Path("nowhere"))).cells if c.run is not None}
    assert runs
    for run in runs:
        assert run.recipe.config.objects == 3
        assert run.recipe.training.steps > 1_000
    changed = Request(
        "dmvae_objectives", tier, seeds=1, changes=(("model.objects", "5"), ("model.steps", "7"))
    )
    for cell in plan(changed, Workspace(Path("nowhere"))).cells:
        assert cell.run is not None
        assert (cell.run.recipe.config.objects, cell.run.recipe.training.steps) == (5, 7)


def test_under_the_papers_labels_stands_the_papers_objective() -> None:
    models = {**load("dmvae_table1").models, **load("dmvae_objectives").models}
    for label, spec in models.items():
        if spec.name == "dmvae":
            kind = dict(spec.options)["kl_type"]
            assert kind == ("categorical" if "corrected" in label else "relaxed"), label
            assert (dict(spec.options).get("information") == 0.0) == label.endswith("γ=0")


def test_the_ledger_has_every_silence_and_every_slip_of_the_paper() -> None:
    entries = {entry.what: entry for name in NAMES for entry in load(name).deviations}
    for silence in (
        "likelihood of a pixel", "prior of the number of objects", "strength of the memory's keys",
        "size and start of the memory", "temperatures of the Concrete distributions", "information loss",
        "KL of the type", "what '±' means in Table I", "numbers of parameters", "size of a glimpse, and most objects",
        "reparameterisation of s", "the characters", "starting values", "covariance of ε", "decoder of a patch",
        "distribution of places and sizes", "AIR", "DAIR", "estimator of the negative log-likelihood",
        "how near to 0 and 1 the canvas may come", "where patches overlap", "how the digits of Multi-MNIST lie",
    ):  # fmt: skip
        assert silence in entries, silence
    for name in NAMES:
        of = [entry.what for entry in load(name).deviations]
        assert len(of) == len(set(of))
