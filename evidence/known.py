"""What a bundle says, held against what is installed here: metrics, data sets, tiers, the protocol, published values.

Another version may say otherwise in good faith, so what is found here is a doubt and no contradiction. Names that
stand in the bundle are looked up and never imported, but for data sets that a protocol of this installation names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from functools import cache, cached_property
from typing import Any, cast

from ..core import protocol as protocols
from ..core import spec
from ..core.dataset import DatasetInfo, Split
from ..core.declared import UNKNOWN, Declared, declared
from ..core.errors import UsageError
from ..core.protocol import TIERS, Protocol, TierName
from ..core.published import published
from ..core.results import PublishedValue, ResultRow, begins_with
from ..core.spec import Kind, Spec
from . import crate
from .crate import Cell
from .ties import Ran, Specs, of_label, owns, same

__all__ = ["Known", "differences"]

# A data set of a hostile bundle, or one that is not installed, may fail in many ways.
NOT_TOLD = (UsageError, ImportError, ValueError, TypeError, LookupError, ArithmeticError)
_training = declared("model", f"{__package__.rpartition('.')[0]}.core.model:Training")
assert _training is not None
_TRAINING = _training.options.keys()  # what is no option of a config


class Known:
    """What this installation knows of one protocol at one tier."""

    def __init__(self, name: str, tier: str, bundled: Protocol) -> None:
        self.tier, self.bundled = cast(TierName, tier), bundled
        self.protocol = protocols.load(name)[1] if name in protocols.names() else None

    def reduction(self, row: ResultRow, cell: Cell) -> str | None:
        """How the metric of a row makes its number; None where that is not known here."""
        metric = self._metric(Specs.of(row), cell)
        found = None if metric is None else metric.attributes.get("reduction")
        return found if isinstance(found, str) else None

    def contradictions(self, row: ResultRow, cell: Cell, ran: Ran | None) -> Iterator[str]:
        """A sentence for whatever the dialect of a measured row says otherwise than the options that were used."""
        specs = Specs.of(row)
        metric = self._metric(specs, cell)
        if metric is None:
            return
        used = _used(specs, metric, ran)
        for key, value in _words(row, specs, metric) or ():
            if key in used and value != str(used[key]) and not same(value, used[key]):
                yield f"its dialect says {key}={value}; it was measured with {key}={used[key]}"

    def doubts(self, row: ResultRow, cell: Cell, ran: Ran | None) -> Iterator[str]:
        """A sentence for whatever a measured row says and this installation does not."""
        specs = Specs.of(row)
        metric = self._metric(specs, cell)
        if metric is None:
            yield (
                f"{specs.metric.name} of the version that measured is not known here; that the number is "
                f"{cell.reduction or 'what it is'} stands as it was recorded"
            )
        else:
            yield from self._of_metric(row, specs, cell, metric, ran)
            yield from self._stand_in(row, specs, metric)
        yield from self._defaults(specs, cell, ran)
        yield from self._tier(row, specs, ran)

    def _metric(self, specs: Specs, cell: Cell) -> Declared | None:
        found = declared("metric", specs.metric.name)
        if found is None or cell.identity is None:
            return found
        return found if self._is_version(found, specs, cell.identity[3][1]) else None

    def _is_version(self, found: Declared, specs: Specs, said: object) -> bool:
        """Of a data set, or of a metric on one: `Metric.version_on`. A visitor's has the digest of its source behind
        it, which says what was measured and not what is here.
        """
        version, raised = found.attributes.get("version"), found.attributes.get("raised")
        if isinstance(raised, Mapping) and raised:
            with contextlib.suppress(*NOT_TOLD):
                version = raised.get(self._info(specs.dataset).name, version)
        return said == version or str(said).partition(" ")[0] == str(version)

    def _of_metric(
        self, row: ResultRow, specs: Specs, cell: Cell, metric: Declared, ran: Ran | None
    ) -> Iterator[str]:
        name, options = specs.metric.name, dict(specs.metric.options)
        for word, ours, theirs in (
            ("its number", metric.attributes.get("reduction"), cell.reduction),
            ("which is better", metric.attributes.get("better"), row.better),
        ):
            if ours != theirs:
                shown = "not known" if ours is UNKNOWN else ours or "nothing"
                yield f"{word} is said to be {theirs or 'nothing'}; of {name} here it is {shown}"
        if row.status == "ok" and row.steps == 0 and metric.needs_training(options) is not False:
            yield f"it says that nothing was trained for it; {name} needs a trained model here"
        dialect, words = metric.dialect(options), _words(row, specs, metric)
        if dialect is None:
            yield f"the dialect of {name} cannot be read here"
        elif words is None:
            yield f"its dialect is {row.dialect!r}; that of {specs.metric} begins with {dialect!r} here"
        elif ran is not None:  # without, what it says of the model stands as it was recorded
            learns = metric.attributes.get("learns")
            known = {*metric.options, *_used(specs, metric, ran)}
            known |= set(learns) if isinstance(learns, tuple) else set()
            for key, value in words:
                if key not in known:
                    said = f"{key}={value}" if value else key
                    yield f"its dialect says {said}, of which nothing is known here"

    def _stand_in(self, row: ResultRow, specs: Specs, metric: Declared) -> Iterator[str]:
        reads = metric.attributes.get("reads")
        try:
            if reads is UNKNOWN or reads is None:
                raise UsageError(f"which images {specs.metric.name} reads is not known here")
            names = (
                self._info(specs.train).standing_in("train"),
                self._info(specs.dataset).standing_in(*cast(tuple[Split, ...], reads)),
            )
        except NOT_TOLD as error:
            yield f"which images stood in for the published ones cannot be told here: {error}"
            return
        expected = ", ".join(dict.fromkeys(name for name in names if name))
        if row.stand_in != expected:
            said, known = row.stand_in or "nothing", expected or "nothing"
            yield f"{said} is said to stand in for the published images; here {known} does"

    @cached_property
    def _datasets(self) -> set[str]:
        known = self.protocol
        own = [*known.datasets.values(), *known.train.values()] if known else []
        return {*spec.names("dataset"), *(one.name for one in own)}

    def _info(self, dataset: Spec) -> DatasetInfo:
        if dataset.name not in self._datasets:
            raise UsageError(f"{dataset.name} is no data set of this installation")
        return _info(dataset)

    def _defaults(self, specs: Specs, cell: Cell, ran: Ran | None) -> Iterator[str]:
        """An option that an identity does not have is the default of what is installed, or it is not what was used."""
        if cell.identity is None:
            return
        _, evaluation, *measured = cell.identity[:4]
        for mine, (_, version, differing) in zip((specs.dataset, specs.metric), measured, strict=True):  # fmt: skip
            found = declared(mine.kind, mine.name)
            if found is None or not self._is_version(found, specs, version):
                continue
            for key, value in mine.options:
                default = found.options.get(key, MISSING)
                if key not in differing and (default is UNKNOWN or not same(value, default)):
                    yield f"it says {mine}; its cell was measured without {key}={value!r}"
        if ran is None:
            return
        for key, value in specs.model.options:
            if key not in evaluation and key not in ran.settings["model"]:
                yield f"it says {specs.model}; neither its run nor its cell has {key}={value!r}"
        data = declared("dataset", specs.train.name)
        defaults = data.options if data else ran.settings["dataset"]
        for key, value in ran.settings["dataset"].items():
            default = defaults.get(key, MISSING)
            if key not in ran.dataset[1] and not same(value, default):
                yield f"its run.json says dataset.{key}={value!r}; its id says the default, {default!r}"

    def _tier(self, row: ResultRow, specs: Specs, ran: Ran | None) -> Iterator[str]:
        """What the protocol and the tier make of a label, against what was made; what `--set` changed left out."""
        label, changes = of_label(row.model, self.bundled)
        for mine, own, prefix in owns(row, specs, self.bundled):
            if own is None:
                if mine.kind != "model":
                    yield f"it was made with {mine}, for whose label the protocol has nothing"
                continue
            tier = self._changed(mine.kind, mine.name)
            if tier is None:
                yield f"what the tier changes of {mine.name} is not known here"
                continue
            expected, options = {**tier, **dict(own.options)}, dict(mine.options)
            if mine.kind == "model":  # a tier's options are of the configs that have them
                has = options.keys() | (ran.settings["model"].keys() if ran else set())
                expected = {k: v for k, v in expected.items() if k not in _TRAINING and k in has}
            for key in sorted(expected.keys() | options.keys()):
                ours = expected.get(key, MISSING)
                if f"{prefix}{key}" not in changes and not same(options.get(key, MISSING), ours):
                    yield f"it was made with {mine}; at tier {self.tier} {_said(key, ours)} here"
        if ran is None or label not in self.bundled.models:
            return
        budget = {**TIERS[self.tier].training, **(self._changed("model", specs.model.name) or {})}
        used = ran.settings["training"]
        for key in sorted(((budget.keys() & _TRAINING) | ran.training.keys()) - changes.keys()):
            ours = budget.get(key, MISSING)
            if not same(used.get(key, MISSING), ours):
                yield f"it was trained with {key}={used.get(key)}; at tier {self.tier} {_said(key, ours)} here"

    def _changed(self, kind: Kind, name: str) -> Mapping[str, Any] | None:
        found = declared(kind, name)
        tiers = found.attributes.get("tiers") if found else None
        return tiers.get(self.tier, {}) if isinstance(tiers, dict) else None


def _words(row: ResultRow, specs: Specs, metric: Declared) -> list[tuple[str, str]] | None:
    """What a dialect says beyond what its metric says before it runs; None where it does not begin with that."""
    dialect = metric.dialect(dict(specs.metric.options))
    if dialect is None or not begins_with(row.dialect, dialect):
        return None
    words = (word.partition("=") for word in row.dialect[len(dialect) :].split())
    return [(key, value) for key, _, value in words]


def _used(specs: Specs, metric: Declared, ran: Ran | None) -> dict[str, Any]:
    """The options of a measurement that a dialect may name, of its data, its metric and its model, where known."""
    chosen = {**dict(specs.dataset.options), **metric.options, **dict(specs.metric.options)}
    # a metric finds a value for an option that is none as it runs
    used: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
    model = declared("model", specs.model.name)
    if ran is not None:
        if model is not None and model.attributes.get("version") == ran.version:
            used |= model.evaluation
        used |= ran.settings["model"]
    used |= dict(specs.model.options)
    return {key: value for key, value in used.items() if value not in (UNKNOWN, MISSING)}


def _said(key: str, value: Any) -> str:
    return f"{key} stays as it is" if value is MISSING else f"it is {key}={value!r}"


@cache
def _info(dataset: Spec) -> DatasetInfo:
    info: DatasetInfo = spec.build(dataset).info
    return info


def differences(name: str, described: str, bundled: list[PublishedValue]) -> Iterator[str]:
    """Where the bundle's protocol and its published values are not those known here: the paper is no part of a run.

    described: protocol.json.
    """
    if name not in protocols.names():
        yield f"{name} is no protocol known here; its published values are taken as they stand"
        return
    _, known, docstring = protocols.load(name)
    ours = {value.key: value for value in published(name)}
    theirs = {value.key: value for value in bundled}
    if differing := [
        key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)
    ]:
        where = "; ".join(", ".join(key) for key in sorted(differing)[:3])
        yield f"{len(differing)} published values are not those known here ({where})"
    title = docstring.strip().partition("\n")[0] or name
    if described != crate.described(name, title, known):
        yield f"the protocol {name} is laid out otherwise here; the tables are those of the bundle's"
