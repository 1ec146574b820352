"""What is missing: a protocol at one tier, what was asked for, and what is already there, as jobs.

A job is one run and its missing cells. A cell is done if its id stands in a committed CSV of the tier or in
runs/<id>/cells/, and what its run was made with is what its name still means (known.py). Runs are
shared by every cell, label and protocol that names the same one.

Options win in this order: the protocol's own, the tier's, the default. What `--set` changes wins over all, and such
cells stand under the label `GNM [lr=0.0003]`: a row of their own, which overwrites nobody's and is never compared
with the published value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from ..core import protocol as protocols
from ..core import results, spec
from ..core.errors import BrokenCodeError, ContractError, StaleError, UsageError, unknown
from ..core.locks import locked
from ..core.metric import Metric
from ..core.model import Training
from ..core.protocol import TIERS, Cell, Protocol, TierName
from ..core.results import ResultRow, begins_with
from ..core.run import Run
from ..core.spec import Spec, Value
from ..core.workspace import Shard, Workspace
from . import cells
from .keep import keep
from .known import DONE, Known


@dataclass(frozen=True)
class Request:
    """What was asked for. models, datasets, metrics: labels, all of them when empty. seeds: None for the tier's number.

    changes: `--set` as (key, text). extra: `--model` as (label, spec).
    """

    protocol: str
    tier: TierName = "paper"
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    seeds: int | None = None
    changes: tuple[tuple[str, str], ...] = ()
    extra: tuple[tuple[str, Spec], ...] = ()


@dataclass(frozen=True)
class Planned:
    """A cell with every option resolved. row: its columns that say what it is.

    run: None for a cell that will not be measured; then `row` has its status and note already ("failed" where the
    model's code cannot be read).
    """

    cell: Cell
    run: Run | None
    row: ResultRow

    @property
    def id(self) -> str:
        """Hash of the run, the model's evaluation options, the data and the metric."""
        return self.row.cell

    @property
    def needs_training(self) -> bool:
        """Whether its run must be trained for it."""
        metric = spec.build(self.cell.metric)
        assert isinstance(metric, Metric)
        return metric.needs_training


@dataclass(frozen=True)
class Job:
    """One run and its missing cells; all of them name the same run id, with evaluation options of their own."""

    run: Run
    cells: tuple[Planned, ...]

    @property
    def trains(self) -> bool:
        """Whether any cell of it needs a trained model."""
        return any(planned.needs_training for planned in self.cells)

    @property
    def steps(self) -> int:
        """Of its training, however many are made already; 0 where it has none."""
        return self.run.recipe.training.steps if self.trains else 0


@dataclass(frozen=True)
class Plan:
    """All cells that were asked for, what is known of them, and the jobs that remain.

    diverged: the ids of those that are known to have. troubles: a sentence about each file that could not be read and
    that this protocol does not need.
    """

    name: str
    tier: TierName
    protocol: Protocol
    cells: tuple[Planned, ...]
    jobs: tuple[Job, ...]
    diverged: frozenset[str] = frozenset()
    troubles: tuple[str, ...] = ()

    @cached_property
    def broken(self) -> tuple[Planned, ...]:
        """The cells whose model's code cannot be read, or gives no recipe."""
        return tuple(planned for planned in self.cells if _is_broken(planned))

    @cached_property
    def missing(self) -> int:
        """How many cells remain."""
        return sum(len(job.cells) for job in self.jobs)


def plan(request: Request, workspace: Workspace) -> Plan:
    """Raises UsageError for any name, key or value that does not exist, before anything is done.

    Raises StaleError where a cell was measured when its run's name meant something else.
    """
    name, protocol, _ = protocols.load(request.protocol)
    if request.tier not in get_args(TierName):
        raise unknown("tier", request.tier, get_args(TierName))
    protocol = _chosen(protocol, request)
    seeds = request.seeds or protocol.seeds_for(request.tier)
    changes = _Changes(request.changes)
    planned = tuple(
        _resolve(cell, request.tier, protocol, changes)
        for cell in protocol.cells(name, seeds, request.tier)
    )
    if not any(_is_broken(p) for p in planned):  # what fits its options nobody knows
        changes.check_used()
    planned = tuple({p.row.key: p for p in planned}.values())
    known = Known(workspace, request.tier, name)
    jobs, diverged = _jobs(planned, known, workspace)
    return Plan(name, request.tier, protocol, planned, jobs, diverged, tuple(known.troubles))


def keys_that_fit(request: Request) -> tuple[set[str], set[str]]:
    """Which keys of `--set` fit something of what is asked for, and all that would. Raises UsageError as `plan`."""
    name, protocol, _ = protocols.load(request.protocol)
    protocol = _chosen(protocol, request)
    changes = _Changes(request.changes)
    for cell in protocol.cells(name, 1, request.tier):
        _resolve(cell, request.tier, protocol, changes)
    return changes.used, changes.known


def merged(plans: Iterable[Plan]) -> tuple[Job, ...]:
    """The jobs of several plans, each run once, with every cell that any of them misses."""
    missing: dict[str, dict[str, Planned]] = {}
    runs: dict[str, Run] = {}
    for job in (job for plan in plans for job in plan.jobs):
        runs.setdefault(job.run.id, job.run)
        cells_of_run = missing.setdefault(job.run.id, {})
        for planned in job.cells:
            cells_of_run.setdefault(planned.id, planned)
    return tuple(Job(runs[name], tuple(found.values())) for name, found in missing.items())


def collect(plan: Plan, workspace: Workspace, shard: Shard | None = None) -> bool:
    """Lay what runs/ knows into results/<tier>/<protocol>.csv, or into the shard's; True if the file changed.

    Rows that were not asked for stay, but for those that are not what their label means any more beside what was
    measured now: numbers of a run that now has another id, and other seeds of a cell that has. Rows stand in the
    protocol's order, so the same cells give the same bytes.
    """
    path = workspace.results(plan.tier, plan.name, shard)
    with locked(workspace.root / "runs" / "collect.lock"):
        known = Known(workspace, plan.tier, plan.name)
        there = results.rows_of(workspace, plan.tier, plan.name, shard)
        rows = {row.key: row for row in there}
        done = {row.key for row in there if row.status in DONE}
        names = {p.row.key: p.run.id for p in plan.cells if p.run is not None}
        for planned in plan.cells:
            row = planned.row
            if _is_broken(planned) and row.key in done:
                continue  # what was measured before its code broke
            if planned.run is not None:
                found = known.measured(planned)  # what was written once stays as it is
                if found is None or known.doubt(planned.run):
                    continue
                row = cells.row(row, found)
                for other in _superseded(rows.values(), planned, names):
                    del rows[other.key]
            rows[planned.row.key] = row
        _, whole, _ = protocols.load(plan.name)
        ordered = in_order(rows.values(), whole)
        changed = results.write(path, ordered, ResultRow)
        # A training that was begun anew tells nothing of rows that were measured from the weights before it, and
        # a cell that needs none tells nothing of any.
        made: dict[str, bool] = {}
        for row in ordered:
            if cells.path(workspace, row.run, row.cell).exists():
                made[row.run] = made.get(row.run, False) or not row.untrained
        runs = {p.run.id: (p.run, p.cell) for p in reversed(plan.cells) if p.run is not None}
        for name in runs.keys() & made.keys():
            run, cell = runs[name]
            keep(workspace, plan.tier, run, _paper_dataset(plan.protocol, cell), anew=made[name])
        return changed


def _paper_dataset(protocol: Protocol, cell: Cell) -> Spec:
    """What the protocol trains on, before any tier or change."""
    return protocol.trained_on(cell.model_label, cell.dataset_label)


def in_order(rows: Iterable[ResultRow], protocol: Protocol) -> list[ResultRow]:
    """Rows as they stand in a results file: in the protocol's order."""
    return sorted(rows, key=lambda row: _place(protocol, row))


def _chosen(protocol: Protocol, request: Request) -> Protocol:
    """The protocol with `--model` added and the filters applied."""
    models = dict(protocol.models)
    for label, added in request.extra:
        if label in models:
            raise UsageError(
                f"--model {label!r}: the protocol has a row of that name; choose another"
            )
        models[label] = added
    visitors = tuple(label for label, _ in request.extra)
    wanted = request.models
    if wanted and not set(visitors).intersection(wanted):  # then one is named by being there
        wanted = (*wanted, *visitors)
    # What is named is made, at a tier for which it is too long, too.
    named = {"model": wanted, "dataset": request.datasets, "metric": request.metrics}
    blocks = tuple(
        {
            # The first block is what most models are made for, and visitors with them.
            axis: (*labels, *visitors) if axis == "model" and place == 0 else labels
            for axis, labels in block.items()
            if not named[axis]
        }
        for place, block in enumerate(protocol.sizes.get(request.tier, ({},)))
    )
    return dataclasses.replace(
        protocol,
        sizes={request.tier: blocks},
        models=_filtered("model", models, wanted),
        datasets=_filtered("dataset", protocol.datasets, request.datasets),
        metrics=_filtered("metric", protocol.metrics, request.metrics),
    )


def _filtered(kind: str, known: Mapping[str, Spec], wanted: Sequence[str]) -> dict[str, Spec]:
    for label in wanted:
        if label not in known:
            raise unknown(kind, label, known)
    return {label: value for label, value in known.items() if not wanted or label in wanted}


class _Changes:
    """`--set` keys: `model.x` and `training.x` (one namespace), `dataset.x`, `metric.x`; each must fit somewhere."""

    def __init__(self, changes: Iterable[tuple[str, str]]) -> None:
        self.all = dict(changes)
        self.used: set[str] = set()
        self.known: set[str] = set()

    def of(self, prefixes: tuple[str, ...], fields: Iterable[str]) -> dict[str, Value]:
        """The changes to a thing with these fields."""
        possible = {f"{prefix}.{name}": name for prefix in prefixes for name in fields}
        self.known |= possible.keys()
        found = {key: possible[key] for key in self.all if key in possible}
        self.used |= found.keys()
        return {name: self.all[key] for key, name in found.items()}

    @property
    def of_model(self) -> dict[str, Value]:
        """Those to a model and its training as they were written, for one whose options nobody knows."""
        parts = ((key.partition("."), text) for key, text in self.all.items())
        return {name: text for (kind, _, name), text in parts if kind in ("model", "training")}

    def check_used(self) -> None:
        """Raise UsageError for a key that fits nothing that was asked for."""
        for key in self.all:
            if key not in self.used:
                raise unknown("--set key", key, self.known)


def _resolve(cell: Cell, tier: TierName, protocol: Protocol, changes: _Changes) -> Planned:
    """Apply the tier and the changes; settle what needs no measuring."""
    for part in (cell.model, cell.train, cell.dataset, cell.metric):
        if part.name in protocol.pending and not spec.exists(part):
            return _settled(
                cell, tier, "not available yet", f"{part.kind} {part.name} is not implemented yet"
            )
    label: dict[str, Value] = {}

    def options(part: Spec) -> Spec:
        cls = spec.load(part)
        own = {**cls.tiers.get(tier, {}), **dict(part.options)}
        before = spec.build(Spec(part.kind, part.name, tuple(sorted(own.items()))))
        names = [f.name for f in dataclasses.fields(cls) if f.init]
        wanted = spec.checked(cls, changes.of((part.kind,), names), part.kind)
        changed = {k: v for k, v in wanted.items() if v != getattr(before, k)}
        label.update({f"{part.kind}.{k}": v for k, v in changed.items()})
        return Spec(part.kind, part.name, tuple(sorted({**own, **changed}.items())))

    train, test, metric_spec = options(cell.train), options(cell.dataset), options(cell.metric)
    metric = spec.build(metric_spec)
    if not isinstance(metric, Metric):
        raise ContractError(f"{metric_spec.name} is not a reprise Metric")
    whole = dataclasses.replace(cell.model, trained=1.0)  # the run is the same, however far it is
    base = Run(whole, train, (), cell.seed)
    resolved = dataclasses.replace(cell, train=train, dataset=test, metric=metric_spec)
    try:
        _ = base.model_class
    except BrokenCodeError as error:
        return _settled(_labelled(resolved, label | changes.of_model), tier, "failed", str(error))
    of_model = base.model_class.tiers.get(tier, {})
    fields = {f.name for f in dataclasses.fields(Training)}
    budget = {**TIERS[tier].training, **{k: v for k, v in of_model.items() if k in fields}}
    base = dataclasses.replace(base, training=tuple(sorted(budget.items())))
    _ = base.data  # a name that does not exist is no "n/a"
    try:
        published = base.published
    except ContractError as error:
        return _settled(_labelled(resolved, label | changes.of_model), tier, "failed", str(error))
    except UsageError as error:  # the model says that it cannot fit these data
        return _settled(resolved, tier, "n/a", str(error))
    known = {f.name for f in dataclasses.fields(published.config)}
    # A tier's `steps` are the training's, also where a config has steps of its own (as many as an image is read in).
    own = {k: v for k, v in of_model.items() if k in known - fields} | dict(cell.model.options)
    base = dataclasses.replace(base, model=whole.with_options(**own))
    run = _changed_run(base, published.config, changes, label)
    resolved = _labelled(resolved, label)
    resolved = dataclasses.replace(
        resolved, model=dataclasses.replace(run.model, trained=cell.model.trained)
    )
    lacking = [need.__name__ for need in metric.requires if not issubclass(run.model_class, need)]
    if lacking:
        note = f"{run.model_class.__name__} lacks the capability {' and '.join(lacking)}"
        return _settled(resolved, tier, "n/a", note)
    data = spec.build(test)
    row = _row(
        resolved,
        tier,
        run=run.id,
        cell=spec.identifier(run.identity_of_cell(cell.model.trained, test, metric_spec), 12),
        dialect=metric.dialect,
        stand_in=", ".join(
            dict.fromkeys(
                filter(
                    None,
                    (
                        run.data.info.standing_in("train"),
                        data.info.standing_in(*metric.reads),
                    ),
                )
            )
        ),
        better=metric.better,
    )
    return Planned(resolved, run, row)


def _labelled(cell: Cell, changed: Mapping[str, Value]) -> Cell:
    """The cell under a label of its own, where something was changed."""
    if not changed:
        return cell
    shown = ", ".join(f"{key}={value}" for key, value in sorted(changed.items()))
    return dataclasses.replace(cell, model_label=f"{cell.model_label} [{shown}]")


def _changed_run(base: Run, config: Any, changes: _Changes, label: dict[str, Value]) -> Run:
    """`base` with `--set model.x` and `--set training.x`, each wherever a field has that name."""
    of_config = changes.of(("model",), [f.name for f in dataclasses.fields(config)])
    own = {f.name for f in dataclasses.fields(config)}
    names = [f.name for f in dataclasses.fields(Training)]
    of_training = changes.of(("training",), names)
    of_both = changes.of(("model",), [name for name in names if name not in own])
    for name in of_training.keys() & of_both.keys():
        raise UsageError(
            f"--set training.{name} and --set model.{name} are the same option here; give it once"
        )
    of_training |= of_both
    training = tuple(sorted({**dict(base.training), **of_training}.items()))
    run = Run(base.model.with_options(**of_config), base.dataset, training, base.seed)
    for kind, before, after in (
        ("model", base.recipe.config, run.recipe.config),
        ("training", base.recipe.training, run.recipe.training),
    ):
        for f in dataclasses.fields(after):
            if getattr(before, f.name) != getattr(after, f.name):
                shared = kind == "training" and f.name in own
                label[f"training.{f.name}" if shared else f.name] = getattr(after, f.name)
    return run


def _row(of: Cell, tier: TierName, **more: Any) -> ResultRow:
    return ResultRow(
        protocol=of.protocol,
        tier=tier,
        model=of.model_label,
        train=str(of.train),
        dataset=of.dataset_label,
        metric=of.metric_label,
        seed=of.seed,
        model_spec=str(of.model),
        dataset_spec=str(of.dataset),
        metric_spec=str(of.metric),
        **more,
    )


def _settled(
    cell: Cell, tier: TierName, status: Literal["n/a", "not available yet", "failed"], note: str
) -> Planned:
    return Planned(cell, None, _row(cell, tier, status=status, note=note))


def _is_broken(planned: Planned) -> bool:
    """Whether it will not be measured because its model's code cannot be read, or gives no recipe."""
    return planned.run is None and planned.row.status == "failed"


def _jobs(
    planned: Sequence[Planned], known: Known, workspace: Workspace
) -> tuple[tuple[Job, ...], frozenset[str]]:
    """The jobs that remain, and the ids of the cells that have diverged."""
    missing: dict[str, list[Planned]] = {}
    diverged = set[str]()
    for one in planned:
        if one.run is None:
            continue
        found = known.measured(one)
        done = found is not None and found["status"] in DONE
        if (done or known.has_rows(one.run)) and (doubt := known.doubt(one.run)):
            raise StaleError(doubt)
        if found is not None and found["status"] == "ok" and (doubt := _other_words(one, found)):
            raise StaleError(doubt)
        if found is not None and found["status"] == "diverged":
            diverged.add(one.id)
        if not done or not cells.arrays_are_whole(workspace, one.run.id, one.id):
            cells_of_run = missing.setdefault(one.run.id, [])
            if one.id not in [other.id for other in cells_of_run]:
                cells_of_run.append(one)
    jobs = (Job(found[0].run, tuple(found)) for found in missing.values() if found[0].run)
    return tuple(jobs), frozenset(diverged)


def _other_words(planned: Planned, found: Mapping[str, Any]) -> str:
    """Why a number is not what its metric now means by the same name, as a sentence; "" if it is."""
    now, then, metric = planned.row.dialect, found["dialect"], planned.cell.metric
    if begins_with(then, now):
        return ""
    return (
        f"{planned.row.metric} of {planned.row.model} on {planned.row.dataset} was measured as {then!r}, which now "
        f"reads {now!r} under the same name; raise the version of {metric.name} to measure it anew"
    )


def _superseded(
    rows: Iterable[ResultRow], planned: Planned, names: Mapping[Any, str]
) -> list[ResultRow]:
    """The rows beside a measured cell, of its label and training, that are of another run than the label now means, and
    its other seeds of which the cell was another. names: key -> id of the run, where known.
    """
    run, row, cell = planned.run, planned.row, planned.cell
    assert run is not None

    def meant(other: ResultRow) -> bool:
        of_seed = dataclasses.replace(run, seed=other.seed)
        if other.run != (names.get(other.key) or of_seed.id):
            return False
        if other.key[:3] != row.key[:3]:
            return True
        identity = of_seed.identity_of_cell(cell.model.trained, cell.dataset, cell.metric)
        return other.cell == spec.identifier(identity, 12)

    return [
        other
        for other in rows
        if other.run
        and other.key != row.key
        and (other.model, other.train) == (row.model, row.train)
        and not meant(other)
    ]


def _place(protocol: Protocol, row: ResultRow) -> tuple[Any, ...]:
    """Where a row stands: in the protocol's order, a changed model after its own, a visitor after all others."""

    def index(labels: Mapping[str, Spec], label: str) -> int:
        return list(labels).index(label) if label in labels else len(labels)

    own = row.model if row.model in protocol.models else row.model.partition(" [")[0]
    return (
        index(protocol.models, own),
        own,
        row.model,
        index(protocol.datasets, row.dataset),
        row.dataset,
        index(protocol.metrics, row.metric),
        row.metric,
        row.seed,
    )
