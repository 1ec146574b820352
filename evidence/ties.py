"""What ties a number to the label it stands under: row, run, cell and protocol of one bundle must tell the same.

A run is named after the hash of its identity, and a cell after that of its own; a row says of which specs both were
made, and the protocol which specs a label stands for. Nothing that is installed here is asked (`known.py` does that).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core import spec
from ..core.errors import UsageError
from ..core.protocol import Protocol
from ..core.results import ResultRow
from ..core.spec import Spec
from . import crate
from .crate import Cell, Evidence

__all__ = ["Ran", "Specs", "contradictions", "of_label", "owns", "read_run", "same"]


@dataclass(frozen=True)
class Ran:
    """run.json: what a run was made of. model, dataset: the name and the options that differ from the defaults.

    version: of the model. training: what differs from the recipe's. settings: "model", "training", "dataset" -> every
    effective option.
    """

    model: tuple[str, Mapping[str, Any]]
    version: int
    dataset: tuple[str, Mapping[str, Any]]
    training: Mapping[str, Any]
    seed: int
    settings: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Specs:
    """The four specs of a row, read."""

    model: Spec
    train: Spec
    dataset: Spec
    metric: Spec

    @classmethod
    def of(cls, row: ResultRow) -> Specs:
        """Raises ValueError for a text that is none."""
        return cls(
            spec.read("model", row.model_spec),
            spec.read("dataset", row.train),
            spec.read("dataset", row.dataset_spec),
            spec.read("metric", row.metric_spec),
        )


def contradictions(
    rows: Sequence[ResultRow],
    protocol: Protocol,
    evidence: Evidence,
    runs: Mapping[str, Ran],
) -> Iterator[str]:
    """A sentence for whatever cannot be true of one and the same measurement. runs: those whose run.json is there."""
    for row in rows:
        specs = Specs.of(row)
        cell = evidence.cells[row.cell] if row.status == "ok" else None
        found = [*_of_label(row, specs, protocol, runs.get(row.run))]
        if row.run:
            found += _of_run(row, specs, runs.get(row.run))
        if cell is not None:
            found += _of_cell(row, specs, cell)
        yield from (f"{crate.label(row)}: {sentence}" for sentence in found)


# What a label stands for ----------------------------------------------------------------------------------------------


def of_label(model: str, protocol: Protocol) -> tuple[str, dict[str, str]]:
    """`GNM [lr=0.0003]`: the label in the protocol, and what `--set` changed."""
    label, _, said = model.partition(" [")
    words = [word.partition("=") for word in said[:-1].split(", ")]
    if model in protocol.models or not said.endswith("]") or not all(word[1] for word in words):
        return model, {}
    return label, {key: value for key, _, value in words}


def owns(
    row: ResultRow, specs: Specs, protocol: Protocol
) -> Iterator[tuple[Spec, Spec | None, str]]:
    """(a spec of the row, what the protocol has for its label, how `--set` calls its options): four of them.

    None: a visitor's model, or a label that the protocol had once.
    """
    label, _ = of_label(row.model, protocol)
    known = row.dataset in protocol.datasets
    yield specs.model, protocol.models.get(label), ""
    yield specs.train, protocol.trained_on(label, row.dataset) if known else None, "dataset."
    yield specs.dataset, protocol.datasets.get(row.dataset), "dataset."
    yield specs.metric, protocol.metrics.get(row.metric), "metric."


def _of_label(row: ResultRow, specs: Specs, protocol: Protocol, ran: Ran | None) -> Iterator[str]:
    _, changes = of_label(row.model, protocol)
    for mine, own, prefix in owns(row, specs, protocol):
        if own is None:
            continue
        kept = {key: value for key, value in own.options if f"{prefix}{key}" not in changes}
        if (mine.name, mine.trained) != (own.name, own.trained) or not _within(kept, dict(mine.options)):  # fmt: skip
            yield f"it was made with {mine}; its label stands for {own} in the protocol"
    everything: dict[str, list[Any]] = {}
    for prefix, options in (
        ("", dict(specs.model.options)),
        ("dataset.", dict(specs.dataset.options)),
        ("dataset.", dict(specs.train.options)),
        ("metric.", dict(specs.metric.options)),
        ("", ran.settings["model"] if ran else {}),
        ("", ran.settings["training"] if ran else {}),
    ):
        for key, value in options.items():
            everything.setdefault(prefix + key, []).append(value)
    for key, value in changes.items():
        values = everything.get(key, [])
        if (values or ran) and not any(same(value, one) or value == str(one) for one in values):
            yield f"its label says {key}={value}, which neither its specs nor its run do"


def same(said: Any, value: Any) -> bool:
    """Whether an option of a spec is the value that was used; `--set` writes options as text."""
    if isinstance(said, bool) == isinstance(value, bool) and said == value:
        return True
    if not isinstance(said, str):
        return False
    try:
        return (value is None and said == "none") or spec.convert(said, type(value), "") == value
    except UsageError:
        return False


def _within(some: Mapping[str, Any], options: Mapping[str, Any]) -> bool:
    """Whether all of `some` are among the options of a spec."""
    return all(key in options and same(options[key], value) for key, value in some.items())


# What a run is --------------------------------------------------------------------------------------------------------


def read_run(run: str, text: str) -> Ran:
    """run.json, held against the name of the run. Raises ValueError for one that is not that run's."""
    try:
        found = json.loads(text, object_pairs_hook=crate.once)
        identity, settings = found["identity"], found["settings"]
        model, version, of_model = identity["model"]
        dataset, _, of_dataset = identity["dataset"]
        training, seed, said = identity["training"], identity["seed"], found["id"]
        parts = {kind: settings[kind] for kind in ("model", "training", "dataset")}
        if not all(isinstance(one, dict) for one in (of_model, of_dataset, training, *parts.values())):  # fmt: skip
            raise TypeError("expected objects")
        if not isinstance(model, str) or not isinstance(dataset, str) or type(seed) is not int:
            raise TypeError("expected names and a seed")
        specs = spec.read("model", found["model"]), spec.read("dataset", found["dataset"])
    except KeyError as error:
        raise ValueError(f"it does not say {error.args[0]!r}") from None
    except (TypeError, RecursionError) as error:
        raise ValueError(f"it is not what describes a run ({error})") from None
    begins = spec.readable(Spec("model", model))
    ends = f"-s{seed}-{spec.identifier(identity, 8)}"
    if said != run or not (run.startswith(f"{begins}-") and run.endswith(ends)):
        raise ValueError(f"it is of another run: what it describes is called {begins}-…{ends}")
    for kind, differing in (("model", of_model), ("dataset", of_dataset), ("training", training)):
        for key, value in differing.items():
            if key not in parts[kind] or parts[kind][key] != value:
                raise ValueError(
                    f"its identity says {kind}.{key}={value}, its settings {parts[kind].get(key)}"
                )
    for mine, name, differing in zip(specs, (model, dataset), (of_model, of_dataset), strict=True):
        if mine.name != name or not _within(differing, dict(mine.options)):
            raise ValueError(f"it says {mine}; its identity is of {name} with {_shown(differing)}")
    return Ran((model, of_model), version, (dataset, of_dataset), training, seed, parts)


def _of_run(row: ResultRow, specs: Specs, ran: Ran | None) -> Iterator[str]:
    begins = spec.readable(specs.model)
    if not re.fullmatch(rf"{begins}-.+-s{row.seed}-[0-9a-f]{{8}}", row.run):
        yield f"its run is {row.run}, not one of {specs.model.name} with this seed"
    if ran is None:
        return
    for mine, (name, differing), kind in (
        (specs.model, ran.model, "model"),
        (specs.train, ran.dataset, "dataset"),
    ):
        options, used = dict(mine.options), ran.settings[kind]
        # an option of a model that its run does not know changes no weights; then it is the cell's
        common = {key: value for key, value in options.items() if key in used or kind == "dataset"}
        if (
            mine.name != name
            or not _within(differing, options)
            or not all(key in used and same(value, used[key]) for key, value in common.items())
        ):
            yield f"it says {mine}; its run has {name} with {_shown({**used, **differing})}"
    steps = ran.settings["training"].get("steps")
    if row.status == "ok" and row.steps is not None and isinstance(steps, int):
        share = specs.model.trained
        made = steps if share == 1 else max(1, round(share * min(steps, 2**53)))
        # none for a number that no training changes; `known` knows of which that is true
        if row.steps not in (made, 0):
            yield f"it says {row.steps} steps; its run was trained for {made}"


def _shown(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in options.items())


# What a cell is -------------------------------------------------------------------------------------------------------


def _of_cell(row: ResultRow, specs: Specs, cell: Cell) -> Iterator[str]:
    if not row.run or cell.run != row.run:
        yield f"its run is {row.run!r}; {crate.EVIDENCE} says that its cell is of {cell.run!r}"
    if row.artifact not in ("", f"{row.run}/cells/{row.cell}.npz"):
        yield f"its values are said to be {row.artifact}, which are another cell's"
    if cell.identity is None:
        return
    if spec.identifier(cell.identity, 12) != row.cell:
        yield f"its cell is {row.cell}; what {crate.EVIDENCE} says it is makes another id"
        return
    run, evaluation, (dataset, _, of_data), (metric, _, of_metric), *more = cell.identity
    if not (
        run == row.run
        and (more[0][1] if more else 1) == specs.model.trained
        and (dataset, metric) == (specs.dataset.name, specs.metric.name)
        and _within(evaluation, dict(specs.model.options))
        and _within(of_data, dict(specs.dataset.options))
        and _within(of_metric, dict(specs.metric.options))
    ):
        said = json.dumps(cell.identity)
        yield f"its cell is of {said[:300]}, which is not what the row says"
