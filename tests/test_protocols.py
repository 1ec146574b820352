"""Every protocol names things that exist and carries the published values exactly as they are printed."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest

from reprise.core import protocol as protocols
from reprise.core.protocol import Block, Cell, Gallery, Table, TierName
from reprise.core.results import PublishedValue, ResultRow, read, to_csv
from reprise.core.spec import Spec, build, exists, names
from reprise.protocols._gnm import UNKNOWN_NUMBERS

ALL = protocols.names()
TABLES = [
    name for name in ALL if isinstance(protocols.load(name)[1], Table) and name.startswith("gnm_")
]

# Typed a second time from the text of the paper, by columns rather than by rows: ARROW, MNIST-10, MNIST-4.
# Where the text layer is unreadable, "?" stands for the digit.
TABLE1_MODELS = ["GNM", "GENESIS", "ConvDRAW", "ConvDRAW-8", "VAE"]
TABLE1 = {
    ("ARROW", "S-Acc"): "0.976 0.092 0.176 0.420 0.036",
    ("ARROW", "D-Steps"): "11099 1900 3800 3499 5499",
    ("ARROW", "LL"): "33809 33241 3374? 33749 3367?",
    ("MNIST-10", "S-Acc"): "0.824 0.000 0.000 0.000 0.000",
    ("MNIST-10", "D-Steps"): "2760 160 1200 1680 279",
    ("MNIST-10", "LL"): "10450 9560 10544 10590 1003?",
    ("MNIST-4", "S-Acc"): "0.984 0.296 0.048 0.604 0.000",
    ("MNIST-4", "D-Steps"): "3920 200 2400 3440 319",
    ("MNIST-4", "LL"): "10964 10496 11020 11036 10895",
}
SUPPLEMENT_TABLE1 = {
    "S-Acc": "0.692 0.852 0.916 0.960 0.016 0.000 0.004 0.560 0.880",
    "D-Steps": "5279 6639 1719 3599 199 959 1759 2399 1759",
    "LL": "10693 10692 10684 10693 10084 10756 10775 10429 10479",
}
SUPPLEMENT_TABLE1_MODELS = [
    "GNM", "GNM-8", "GNM-β-2", "GNM-8-β-2", "GENESIS", "ConvDRAW", "ConvDRAW-8", "ConvDRAW-β-10", "ConvDRAW-8-β-10",
]  # fmt: skip
SUPPLEMENT_TABLE2 = {  # GNM on MNIST-10, GNM on MNIST-4, SPACE on MNIST-10, SPACE on MNIST-4
    "AP@.5": "0.905 0.905 0.905 0.906",
    "AP@[.5:.95]": "0.459 0.487 0.453 0.464",
    "z^what accuracy": "0.984 0.983 0.980 0.979",
}
SUPPLEMENT_TABLE3 = {
    "ARROW": "8.6M 13.9M 4.7M 1.5M",
    "MNIST-10": "2.9M 13.9M 1.5M 1.5M",
    "MNIST-4": "2.9M 13.9M 1.5M 1.5M",
}
COLUMNS = {  # of the supplement's Table 2, whose datasets are rows
    "AP@.5": "Avg. Precision IoU Threshold = 0.5",
    "AP@[.5:.95]": "Avg. Precision IoU Threshold in [0.5:0.05:0.95]",
    "z^what accuracy": "Classification Accuracy",
}
DOUBTFUL = {
    ("ConvDRAW", "ARROW", "LL"), ("ConvDRAW-8", "ARROW", "LL"), ("VAE", "ARROW", "LL"), ("VAE", "MNIST-10", "LL"),
}  # fmt: skip


def published(name: str) -> list[PublishedValue]:
    return read(protocols.published_path(name), PublishedValue)


def specs(name: str) -> set[Spec]:
    protocol = protocols.load(name)[1]
    axes = (protocol.models, protocol.datasets, protocol.metrics, protocol.train)
    return {spec for axis in axes for spec in axis.values()}


def test_all_protocols_are_read_without_importing_torch() -> None:
    code = (
        "import sys; from reprise.core import protocol as p, results as r\n"
        "for name in p.names():\n"
        "    list(p.load(name)[1].cells(name, 1)); r.read(p.published_path(name), r.PublishedValue)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_items_of_the_paper_are_all_there() -> None:
    expected = {
        "gnm_table1",
        "gnm_figure2",
        "gnm_ablations",
        "gnm_beta_sweep",
        "gnm_curriculum",
        "gnm_decompositions",
        "gnm_detections",
        "gnm_traversals",
        "gnm_supp_table1",
        "gnm_supp_table2",
        "gnm_supp_table3",
        "gnm_supp_figure1",
    }
    assert expected | {f"gnm_supp_figure{n}" for n in (2, 3, 4, 5, 6, 7)} <= set(ALL)


def test_every_protocol_has_a_file_of_published_values_and_no_file_lacks_its_protocol() -> None:
    folder = protocols.published_path("any").parent
    assert sorted(path.stem for path in folder.glob("*.csv")) == ALL


@pytest.mark.parametrize("name", ALL)
def test_a_protocol_says_what_it_asks_costs_and_expects(name: str) -> None:
    _, protocol, text = protocols.load(name)
    first, *paragraphs = text.strip().split("\n\n")
    assert first.endswith("?"), "the first line is the question"
    citation = {
        "gnm": "Jiang & Ahn 2020",
        "dmvae": "Min et al. 2020",
        "dood": "Liang et al. 2022",
    }[name.partition("_")[0]]
    assert protocol.paper.startswith(citation)
    assert any(paragraph.startswith("Cost") for paragraph in paragraphs)
    assert any(paragraph.startswith("Expect") for paragraph in paragraphs)
    assert any("code" in paragraph or "authors" in paragraph for paragraph in paragraphs)
    assert protocol.deviations
    for entry in protocol.deviations:
        assert all(text for key, text in vars(entry).items() if key != "effects"), entry.what


@pytest.mark.parametrize("name", ALL)
def test_what_a_deviation_changes_is_measured_in_cells_that_a_protocol_has(name: str) -> None:
    """Both labels of an effect meet in two cells that differ in nothing else."""
    for effect in (e for entry in protocols.load(name)[1].deviations for e in entry.effects):
        place = ("model", "dataset", "metric").index(effect.axis)
        cells = protocols.load(effect.protocol)[1].cells(effect.protocol, 1)
        found: dict[str, set[tuple[str, ...]]] = {effect.ours: set(), effect.other: set()}
        for cell in cells:
            labels = (cell.model_label, cell.dataset_label, cell.metric_label)
            if labels[place] in found:
                found[labels[place]].add(labels[:place] + labels[place + 1 :])
        assert found[effect.ours] & found[effect.other], effect


@pytest.mark.parametrize("name", ALL)
def test_every_name_exists_unless_the_protocol_says_that_it_is_pending(name: str) -> None:
    pending = protocols.load(name)[1].pending
    assert {spec.name for spec in specs(name) if not exists(spec)} <= set(pending)
    assert {spec.name for spec in specs(name)} >= set(pending), "pending, but not used"
    existing = names("model") | names("dataset") | names("metric")
    assert not set(pending) & set(existing), "pending, but it exists"


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_one_that_its_class_has(name: str) -> None:
    from reprise.core.run import Run

    for spec in specs(name):
        if exists(spec) and spec.kind != "model":
            build(spec)
    for trained in {(cell.model, cell.train) for cell in protocols.load(name)[1].cells(name, 1)}:
        if all(exists(spec) for spec in trained):
            assert Run(*trained).recipe


@pytest.mark.parametrize("name", ALL)
def test_published_values_and_cells_meet(name: str) -> None:
    protocol = dataclasses.replace(protocols.load(name)[1], sizes={})  # whatever a tier leaves out
    cells = [(c.model_label, c.dataset_label, c.metric_label) for c in protocol.cells(name, 1)]
    values = [value.key for value in published(name)]
    assert len(set(cells)) == len(cells)
    assert len(set(values)) == len(values)
    assert set(values) <= set(cells)
    if not name.startswith("gnm_"):  # its own test file says which cells have a value
        assert values or "no published item" in protocol.paper or isinstance(protocol, Gallery)
        return
    if UNKNOWN_NUMBERS[0] in protocol.deviations:
        assert set(values) < set(cells)  # the deviation says why the rest has none
    elif values:
        assert set(cells) == set(values)
    else:
        assert isinstance(protocol, Gallery) or "no published item" in protocol.paper


@pytest.mark.parametrize("name", ALL)
def test_published_values_are_kept_as_the_writer_writes_them(name: str) -> None:
    text = protocols.published_path(name).read_text(encoding="utf-8")
    assert text == to_csv(published(name), PublishedValue)


@pytest.mark.parametrize("name", TABLES)
def test_a_number_is_the_one_that_is_printed(name: str) -> None:
    for value in published(name):
        scale = 1e6 if value.printed.endswith("M") else 1.0
        assert value.value == pytest.approx(float(value.printed.rstrip("M")) * scale, rel=1e-12)
        assert value.row == value.model.removesuffix(" (as coded)")
        assert value.column in (
            f"{value.dataset} {value.metric}",
            value.dataset,
            COLUMNS.get(value.metric),
        )
        assert value.table.startswith("Table")
        assert value.n == (250 if value.metric == "S-Acc" else None)
        assert value.better == ("neither" if value.metric == "Parameters" else "higher")


def test_table_1_agrees_with_a_second_reading_of_the_paper() -> None:
    first = {value.key: value for value in published("gnm_table1")}
    for dataset in ("ARROW", "MNIST-10", "MNIST-4"):  # GNM's number, for the scores that it is of
        coded, plain = (first[label, dataset, "LL"] for label in ("GNM (as coded)", "GNM"))
        del first[coded.key]
        assert coded.note.endswith(plain.note)
        assert plain == dataclasses.replace(coded, model="GNM", note=plain.note)
    assert len(first) == 45
    for (dataset, metric), column in TABLE1.items():
        for model, text in zip(TABLE1_MODELS, column.split(), strict=True):
            value = first.pop((model, dataset, metric))
            if text.endswith("?"):
                assert value.printed[:-1] == text[:-1]
                assert value.confidence == "doubtful digit"
            else:
                assert value.printed == text
    assert not first


def test_doubtful_digits_are_marked_and_no_others() -> None:
    marked = {
        value.key
        for name in ALL
        for value in published(name)
        if value.confidence == "doubtful digit"
    }
    assert marked == DOUBTFUL
    for value in published("gnm_table1"):
        if value.key in DOUBTFUL:
            assert "last digit" in value.note or "or" in value.note


def test_the_supplement_agrees_with_a_second_reading() -> None:
    table1 = {value.key: value.printed for value in published("gnm_supp_table1")}
    assert table1 == {
        (model, "MNIST-4-10", metric): text
        for metric, column in SUPPLEMENT_TABLE1.items()
        for model, text in zip(SUPPLEMENT_TABLE1_MODELS, column.split(), strict=True)
    }
    table2 = {value.key: value.printed for value in published("gnm_supp_table2")}
    rows = [(model, dataset) for model in ("GNM", "SPACE") for dataset in ("MNIST-10", "MNIST-4")]
    assert table2 == {
        (*row, metric): text
        for metric, column in SUPPLEMENT_TABLE2.items()
        for row, text in zip(rows, column.split(), strict=True)
    }
    table3 = {value.key: value.printed for value in published("gnm_supp_table3")}
    assert table3 == {
        (model, dataset, "Parameters"): text
        for dataset, column in SUPPLEMENT_TABLE3.items()
        for model, text in zip(["GNM", "GENESIS", "ConvDRAW", "VAE"], column.split(), strict=True)
    }


@pytest.mark.parametrize("name", ["gnm_table1", "gnm_supp_table1"])
def test_published_numbers_are_possible(name: str) -> None:
    per_pixel = -math.log(0.2) - 0.5 * math.log(2 * math.pi)
    for value in published(name):
        assert value.value is not None
        colour = value.dataset == "ARROW"
        if value.metric == "LL":
            ceiling = (3 if colour else 1) * 128 * 128 * per_pixel
            assert 0.8 * ceiling < value.value < ceiling
        if value.metric == "S-Acc":  # a share of 250 images
            assert value.value * 250 == pytest.approx(round(value.value * 250), abs=1e-9)
        if value.metric == "D-Steps":  # counted from 0 or from 1
            assert value.value % (every := 100 if colour else 40) in (0, every - 1)
            assert ("counted from 0" in value.note) == (value.value % every != 0)


@pytest.mark.parametrize("name", TABLES)
def test_a_published_number_says_what_ours_must_say_to_be_comparable(name: str) -> None:
    dialects = {  # D-Steps: the authors' classifier is not described, so ranks alone can be compared
        "LL": "particles=100 sigma=0.2", "D-Steps": "classifier=authors", "S-Acc": "", "Parameters": "",
        "AP@.5": "interpolation=11-point", "AP@[.5:.95]": "interpolation=11-point", "z^what accuracy": "control=none",
    }  # fmt: skip
    for value in published(name):
        relaxed = value.metric == "LL" and value.model.startswith("GNM")
        expected = "particles=100 presence=relaxed sigma=0.2" if relaxed else dialects[value.metric]
        assert value.dialect == expected


def test_the_row_as_coded_scores_the_weights_of_gnm_and_trains_no_others() -> None:
    from reprise.core.run import Run

    protocol = protocols.load("table1")[1]
    assert protocol.only["GNM (as coded)"] == ("LL",)
    data = protocol.datasets["MNIST-4"]
    plain, coded = Run(protocol.models["GNM"], data), Run(protocol.models["GNM (as coded)"], data)
    assert plain.id == coded.id
    assert plain.recipe.config != coded.recipe.config


def test_figures_share_the_runs_of_table_1() -> None:
    table = protocols.load("table1")[1]
    runs = {(model, data) for model in table.models.values() for data in table.datasets.values()}
    for name in (
        "gnm_figure2",
        "gnm_supp_table3",
        "gnm_supp_figure1",
        "gnm_supp_figure2",
        "gnm_supp_figure5",
        "gnm_supp_figure6",
    ):
        assert {(cell.model, cell.train) for cell in protocols.load(name)[1].cells(name, 1)} <= runs


def as_rows(name: str, values: dict[tuple[str, str, str], float]) -> list[ResultRow]:
    return [
        ResultRow(protocol=name, tier="paper", model=m, train="t", dataset=d, metric=k, seed=seed, value=value,
                  stderr=1e-9)
        for (m, d, k), value in values.items()
        for seed in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["gnm_table1", "gnm_supp_table1", "gnm_supp_table2"])
def test_claims_are_about_cells_and_hold_of_the_published_numbers_but_where_they_say_not(
    name: str,
) -> None:
    protocol = protocols.load(name)[1]
    keys = {(c.model_label, c.dataset_label, c.metric_label) for c in protocol.cells(name, 3)}
    values = {value.key: value.value for value in published(name) if value.value is not None}
    assert protocol.claims
    for claim in protocol.claims:
        assert claim.test(as_rows(name, dict.fromkeys(keys, 1.0)), 3).outcome != "not measured"
        assert claim.test([], 3).outcome == "not measured"
        contrary = "say the contrary" in claim.source
        expected = "does not hold" if contrary else "holds"
        assert claim.test(as_rows(name, values), 3).outcome == expected, claim.text


def test_what_the_beta_sweep_lays_beside_its_cells_is_what_the_tables_print() -> None:
    tables = {
        value.key: value for name in ("gnm_table1", "gnm_supp_table1") for value in published(name)
    }
    sweep = published("gnm_beta_sweep")
    assert len(sweep) == 2 * (
        3 + 3 + 8
    )  # beta 1 on two datasets, without GNM-8; eight rows on MNIST-4-10
    assert all(value == tables[value.key] for value in sweep)
    known = {(c.model_label, c.dataset_label, c.metric_label) for c in cells_of("gnm_beta_sweep")}
    assert {value.key for value in sweep} == known & set(tables)


def cells_of(name: str, tier: TierName = "paper") -> list[Cell]:
    return list(protocols.load(name)[1].cells(name, 1, tier))


def test_the_sweep_crosses_four_betas_with_four_models() -> None:
    options = {tuple(spec.options) for spec in protocols.load("gnm_beta_sweep")[1].models.values()}
    betas = {dict(o).get("beta", 1.0) for o in options}
    assert betas == {1.0, 2.0, 5.0, 10.0}
    assert len(protocols.load("gnm_beta_sweep")[1].models) == len(options) * 2 == 16


def test_no_published_average_precision_is_above_the_ceiling_of_its_rule() -> None:
    for value in published("gnm_supp_table2"):
        assert value.value is not None
        if value.metric.startswith("AP"):
            assert value.value < 10 / 11


def test_protocols_share_the_runs_of_the_tables_and_train_few_at_tier_demo() -> None:
    """`make demo` runs all of them: what each trains beyond the tables is counted here."""

    def runs(name: str) -> set[tuple[Spec, Spec]]:
        return {(cell.model.trained_for(1), cell.train) for cell in cells_of(name, "demo")}

    earlier = [
        "gnm_table1",
        "gnm_figure2",
        *(f"gnm_supp_figure{n}" for n in (1, 3, 4, 5, 6, 7)),
        "gnm_supp_table1",
    ]
    known = set().union(*(runs(name) for name in earlier))
    extra = {
        "gnm_supp_table2": 2,  # SPACE on both MNIST sets
        "gnm_representation": 0,
        "gnm_detections": 1,  # SPACE on the Arrow room
        "gnm_decompositions": 0,
        "gnm_traversals": 0,
        "gnm_beta_sweep": 0,
        "gnm_ablations": 3,  # on MNIST-4
        "gnm_curriculum": 1,
        "gnm_detection_curves": 0,
        "gnm_readings": 1,  # kernels of 3
    }
    for name, few in extra.items():
        assert len(runs(name) - known) == few, name
        known |= runs(name)


def test_the_first_command_trains_every_model_on_digits_and_gnm_on_the_arrow_room() -> None:
    """`make table1` is a person's first command: under five minutes on two cores, rendering included."""
    made = {(cell.dataset_label, cell.model_label) for cell in cells_of("gnm_table1", "demo")}
    models = protocols.load("gnm_table1")[1].models
    arrow = {("ARROW", "GNM"), ("ARROW", "GNM (as coded)")}
    assert made == {("MNIST-4", label) for label in models} | arrow


def test_at_tier_demo_the_costliest_models_in_colour_are_left_to_who_names_them() -> None:
    """A run of ConvDRAW-8 on the Arrow room takes three minutes of a core, and all protocols have twenty of two."""
    in_colour = {
        (cell.model.name, dict(cell.model.options).get("curriculum"))
        for name in ALL
        for cell in cells_of(name, "demo")
        if cell.train.name == "arrow_room"
    }
    assert in_colour == {
        ("gnm", None), ("gnm", "off"), ("genesis", None), ("vae", None), ("space", None),
    }  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_a_column_of_the_arrow_room_says_how_ours_came_about(name: str) -> None:
    from reprise.protocols import _gnm, _gnm_baselines

    protocol = protocols.load(name)[1]
    used = {spec.name for spec in specs(name)}
    expected = {
        "arrow_room": _gnm.ARROW_ROOM,
        "space": _gnm_baselines.SPACE,
        "genesis": _gnm_baselines.GENESIS,
    }
    if "arrow_room" in used:
        expected["gnm"] = _gnm.GNM_ARROW
    for what, entries in expected.items():
        if what in used:
            assert set(entries) <= set(protocol.deviations), what
    assert len(set(protocol.deviations)) == len(protocol.deviations), "an entry stands twice"


def test_renders_are_called_arrowroom_r_in_every_planned_row(tmp_path: Path) -> None:
    from reprise.core.workspace import Workspace
    from reprise.launch.plan import Request, plan

    for tier in ("demo", "mini", "paper"):
        asked = Request("gnm_table1", tier, models=("VAE",), metrics=("LL",), seeds=1)
        rows = {p.row.dataset: p.row for p in plan(asked, Workspace(tmp_path)).cells}
        assert rows["ARROW"].stand_in == "ArrowRoom-R"
        assert rows["MNIST-4"].stand_in == ("scikit-learn's digits" if tier == "demo" else "")
    archive = Request(
        "gnm_table1", "paper", ("VAE",), ("ARROW",), ("LL",), 1, (("dataset.source", "archive"),)
    )
    (cell,) = plan(archive, Workspace(tmp_path)).cells
    assert cell.row.stand_in == ""


def test_a_cell_is_made_where_any_block_of_its_tier_names_it() -> None:
    axes = {"models": "AB", "datasets": "XY", "metrics": "MN"}
    specs_of = {
        axis: {label: Spec("model", label) for label in text} for axis, text in axes.items()
    }
    blocks: tuple[Block, ...] = ({"dataset": ("X",)}, {"model": ("A",), "metric": ("M",)})
    protocol = Table(paper="", sizes={"demo": blocks}, **specs_of)  # type: ignore[arg-type]
    made = [
        c.model_label + c.dataset_label + c.metric_label for c in protocol.cells("p", 1, "demo")
    ]
    assert made == ["AXM", "AXN", "AYM", "BXM", "BXN"]
    assert len(list(protocol.cells("p", 2))) == 16


def test_a_model_has_cells_on_its_datasets_alone_also_when_it_is_named(tmp_path: Path) -> None:
    """Algorithm 2 has no meaning without masks, which the digits have not."""
    from reprise.core.workspace import Workspace
    from reprise.launch.plan import Request, plan

    for tier in ("demo", "mini", "paper"):
        asked = Request("gnm_readings", tier, models=("GNM (Algorithm 2)", "GENESIS"))
        found = {(p.row.model, p.row.dataset) for p in plan(asked, Workspace(tmp_path)).cells}
        assert found == {("GNM (Algorithm 2)", "ARROW"), ("GENESIS", "MNIST-4")}


def test_a_smaller_tier_makes_a_part_of_a_protocol_and_the_paper_tier_all_of_it() -> None:
    for name in ALL:
        part, whole = (set(cells_of(name, tier)) for tier in ("demo", "paper"))
        assert part
        assert part <= whole
        assert len(whole) == len(cells_of(name))
    assert len(cells_of("gnm_beta_sweep", "demo")) == 16
    assert len(cells_of("gnm_beta_sweep", "mini")) == len(cells_of("gnm_beta_sweep")) == 96


def test_the_figure_of_the_sweep_is_drawn_from_rows_and_published_values_alone() -> None:
    from reprise.core.results import ResultRow
    from reprise.protocols.gnm_beta_sweep import draw

    common = {"protocol": "gnm_beta_sweep", "tier": "demo", "train": "", "dataset": "MNIST-4-10"}
    rows = [
        ResultRow(model=model, metric=metric, value=value, **common)  # type: ignore[arg-type]
        for metric in ("S-Acc", "LL")
        for model, value in (("GNM", 0.5), ("GNM-β-2", 0.7), ("ConvDRAW-β-10", 0.6))
    ]
    figure = draw(rows, published("gnm_beta_sweep"), {})
    assert len(figure.axes) == 2, "only the dataset that has numbers"
    ours, theirs = figure.axes[0].lines[:2]
    assert ours.get_xydata().tolist() == [[0, 0.5], [1, 0.7]]
    assert theirs.get_xydata().tolist() == [[0, 0.692], [1, 0.916]]
    diverged = dataclasses.replace(rows[0], seed=1, status="diverged", value=None)
    ours = draw([*rows, diverged], [], {}).axes[0].lines[0]
    assert ours.get_xydata().tolist() == [[1, 0.7]], "nothing is averaged over holes"
    assert draw([], [], {}).axes, "an empty figure while nothing is measured"
