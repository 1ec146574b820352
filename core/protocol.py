"""Protocol: the cells of a published table or figure, named without importing any of them.

To add one, write `protocols/<name>.py` with a module-level `protocol`, and beside it `protocols/<name>.csv`
with the published values (core/results.py says its columns). The keys of the dictionaries are the labels
printed in the paper: headings, and the keys by which published values find their cells; no part of any identity.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from .claims import Claim
from .errors import unknown
from .spec import SHARES, Spec, Value, dataset, metric, model

__all__ = [
    "TIERS",
    "Cell",
    "Claim",
    "Curves",
    "Deviation",
    "Effect",
    "Gallery",
    "Plot",
    "Protocol",
    "Table",
    "Tier",
    "after",
    "dataset",
    "load",
    "metric",
    "model",
    "names",
    "through_training",
]

TierName: TypeAlias = Literal["demo", "mini", "paper"]
Axis: TypeAlias = Literal["model", "dataset", "metric"]
Block: TypeAlias = Mapping[Axis, tuple[str, ...]]
"""Some of a protocol's cells: those whose labels are named on every axis that it has."""


@dataclass(frozen=True)
class Tier:
    """One of the three sizes of every protocol.

    training: overrides of every recipe's Training. seeds: how many, None for the protocol's own number.
    """

    name: TierName
    training: Mapping[str, Value]
    seeds: int | None
    description: str


# time_scale: the schedules are squeezed so that the shorter run passes through them. mini: as a run of 300,000 steps
# would (the length at which the authors of ClevrTex trained GNM). demo: the longest, of 100,000 steps, ends as it does.
TIERS: Mapping[TierName, Tier] = {
    "demo": Tier(
        "demo",
        {"steps": 300, "batch_size": 16, "time_scale": 0.003},
        1,
        "embedded digits and a few renders, half-size canvas, minutes on two CPU cores",
    ),
    "mini": Tier(
        "mini",
        {"steps": 9_000, "time_scale": 0.03},
        1,
        "images of the published size, schedules scaled to a shorter budget",
    ),
    "paper": Tier("paper", {}, None, "the published settings"),
}


@dataclass(frozen=True)
class Cell:
    """One number of a table: a model trained on `train`, measured on `dataset` by `metric`, and its labels."""

    protocol: str
    model_label: str
    dataset_label: str
    metric_label: str
    model: Spec
    train: Spec
    dataset: Spec
    metric: Spec
    seed: int


@dataclass(frozen=True)
class Effect:
    """Where both readings of a deviation are measured: two rows, or two columns, of one protocol.

    protocol: its name. ours, other: the labels on `axis` of the reading that the defaults use and of the other one.
    """

    protocol: str
    ours: str
    other: str
    axis: Literal["model", "metric"] = "model"


@dataclass(frozen=True)
class Deviation:
    """An entry of the deviation ledger: where paper, code and we differ, and which reading is used.

    effects: where another reading is an option, the cells that say what it changes.
    """

    what: str
    paper: str
    code: str
    ours: str
    source: str
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What every protocol says; use Table, Plot or Gallery.

    paper: the citation of the published item. train: label of a model or of a dataset -> the dataset that is trained
    on there, where it is not the one that is measured on (transfer); the model's wins. seeds: as many as at tier
    `paper`. seeds_at: tier -> how many, where that is not the tier's own: where the spread over seeds is part of the
    question. only: model label -> the metric labels it has cells for (all when absent); only_on: the same of dataset
    labels. sizes: tier -> the blocks of cells that are made at that tier, where the whole would be too long for it;
    whoever names others gets them.
    pending: names of models, datasets or metrics that do not exist yet; their cells read "not available yet".
    by_hand: metric label -> dataset label -> what the paper's authors, who judged samples by eye, called a success;
    a labelling page asks it of people (render/label.py).
    deviations: this item's part of the deviation ledger. claims: what the paper says of the item, and how that is
    tested on the rows. draw: makes the figure, where the layouts below cannot.
    """

    paper: str
    models: Mapping[str, Spec]
    datasets: Mapping[str, Spec]
    metrics: Mapping[str, Spec]
    train: Mapping[str, Spec] = field(default_factory=dict)
    seeds: int = 1
    seeds_at: Mapping[TierName, int] = field(default_factory=dict)
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sizes: Mapping[TierName, tuple[Block, ...]] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    by_hand: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    deviations: tuple[Deviation, ...] = ()
    claims: tuple[Claim, ...] = ()
    draw: Callable[..., Any] | None = None

    def seeds_for(self, tier: TierName) -> int:
        """How many seeds this protocol has at a tier."""
        return self.seeds_at.get(tier) or TIERS[tier].seeds or self.seeds

    def trained_on(self, model_label: str, dataset_label: str) -> Spec:
        """The dataset that a cell's model is trained on."""
        own = self.train.get(dataset_label, self.datasets[dataset_label])
        return self.train.get(model_label, own)

    def cells(self, name: str, seeds: int, tier: TierName = "paper") -> Iterator[Cell]:
        """All cells of a tier in reading order, seeds innermost."""
        blocks = self.sizes.get(tier, ({},))
        for model_label, model_spec in self.models.items():
            metrics = self.only.get(model_label, tuple(self.metrics))
            datasets = self.only_on.get(model_label, tuple(self.datasets))
            for dataset_label, dataset_spec in self.datasets.items():
                if dataset_label not in datasets:
                    continue
                for metric_label in (label for label in self.metrics if label in metrics):
                    labels = (model_label, dataset_label, metric_label)
                    if not any(_holds(block, labels) for block in blocks):
                        continue
                    train = self.trained_on(model_label, dataset_label)
                    specs = (model_spec, train, dataset_spec, self.metrics[metric_label])
                    for seed in range(seeds):
                        yield Cell(name, *labels, *specs, seed)


@dataclass(frozen=True, kw_only=True)
class Table(Protocol):
    """A table: which axes are rows and which are columns, outermost first."""

    rows: tuple[Axis, ...] = ("model",)
    columns: tuple[Axis, ...] = ("dataset", "metric")


@dataclass(frozen=True, kw_only=True)
class Plot(Protocol):
    """A figure of numbers: one axis of the protocol along x, one as colour, one as panels."""

    x: Axis = "model"
    hue: Axis = "model"
    panels: Axis = "metric"


@dataclass(frozen=True, kw_only=True)
class Curves(Protocol):
    """A figure of numbers against training steps: a line per model and a panel per dataset and metric.

    Its models are those that `through_training` names.
    """


def through_training(
    models: Mapping[str, Spec], shares: tuple[float, ...] = SHARES
) -> dict[str, Spec]:
    """Each model after each share of its training and at its end: `AIR, 10 %` … `AIR`."""
    return {
        after(label, share): spec.trained_for(share)
        for label, spec in models.items()
        for share in (*shares, 1.0)
    }


def after(label: str, share: float) -> str:
    """What a model is called after a share of its training; at the end, what it is called anyway."""
    return label if share == 1 else f"{label}, {share * 100:g} %"


@dataclass(frozen=True, kw_only=True)
class Gallery(Protocol):
    """A figure of images: arrays that metrics stored beside their cells.

    array: which stored array (N, C, H, W), or (R, D, C, H, W) for a grid. rows x columns tiles per panel.
    reference: a second stored array, shown once per dataset before the models (the real images); "" for none.
    stacked: datasets stand below one another, each with its models, where a panel needs the width of the page.
    """

    array: str = "samples"
    reference: str = ""
    rows: int = 2
    columns: int = 4
    stacked: bool = False


def _holds(block: Block, labels: tuple[str, str, str]) -> bool:
    """Whether a cell of these labels, of model, dataset and metric, is in the block."""
    axes: tuple[Axis, ...] = ("model", "dataset", "metric")
    pairs = zip(axes, labels, strict=True)
    return all(label in block[axis] for axis, label in pairs if axis in block)


_FOLDER = Path(__file__).resolve().parent.parent / "protocols"


def names() -> list[str]:
    """The names of all protocols: the files of the folder."""
    return sorted(file.stem for file in _FOLDER.glob("*.py") if not file.stem.startswith("_"))


def load(name: str) -> tuple[str, Protocol, str]:
    """(full name, protocol, its docstring). `table1` is short for `gnm_table1`. Raises UsageError if unknown."""
    known = names()
    full = name if name in known else f"gnm_{name}"
    if full not in known:
        raise unknown(
            "protocol",
            name,
            [*known, *(n.removeprefix("gnm_") for n in known if n.startswith("gnm_"))],
        )
    module = importlib.import_module(f"{__package__.rpartition('.')[0]}.protocols.{full}")
    return full, module.protocol, module.__doc__ or ""


def published_path(name: str) -> Path:
    """Where the published values of a protocol are kept."""
    return _FOLDER / f"{name}.csv"
