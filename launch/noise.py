"""How far numbers move by themselves: `reprise noise` measures it, and `reprise check` takes its tolerances from it.

One thing is changed at a time:

source          | what is changed                                     | what stays
----------------|-----------------------------------------------------|----------------------------------------
training seed   | the run's seed: initial weights, batches, noise, and with them the evaluation's seed | everything else
evaluation seed | the seed that one evaluation draws from             | the weights, the test images
test subset     | which test images: disjoint parts of the test split | the weights, the seed
threads         | threads while measuring                             | the weights, the test images, the seed
precision       | fp32 or bf16 in training                            | the seed; compared in pairs, seed by seed

Where a metric keeps one value per test image, two of these cost less: the noise of evaluation is
measured image by image (`images` of them are enough) and that of the test images is their spread, both over sqrt n.

A run whose rounding differs anywhere leaves the other's path after some steps. So the row of precision also says how
much of the noise of the training seed is to be expected from rounding alone, on another machine for instance.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ..core import results, spec
from ..core.artifacts import read_arrays, stored_at
from ..core.dataset import Dataset, DatasetInfo, Examples, Images, Objects, Split
from ..core.errors import DataError, UsageError, unknown
from ..core.metric import Measurement, Metric
from ..core.randomness import seeded
from ..core.results import NoiseRow, Source
from ..core.workspace import Workspace
from ..training import checkpoint
from ..training.checkpoint import Checkpoint
from ..training.engine import Engine, choose, computing
from ..training.fit import refuse_other_images
from .executors import Place
from .known import Known
from .plan import Job, Planned, Request, plan
from .provenance import provenance
from .work import trained

SOURCES: tuple[Source, ...] = get_args(Source)
THREADS = (1, 2, 3, 4)
"""More threads than there are cores are slow and still sum in another order, which is what is asked here."""

Make = Callable[[Sequence[Job], Workspace, Place], None]
"""Called as make(jobs, workspace, place): trains and measures what is missing."""


def measure(
    request: Request,
    workspace: Workspace,
    place: Place,
    make: Make,
    sources: Iterable[str] = SOURCES,
    repeats: int = 5,
    images: int | None = None,
) -> list[NoiseRow]:
    """The noise of every cell that `request` names, and results/noise.csv brought up to date with it.

    images: so many test images are enough to learn the noise of evaluation from; all when None.
    Cells that are not there are made first (seeds 0 to `repeats` - 1 for training noise, else seed 0).
    Raises UsageError for an unknown source, for fewer than two repeats, and where a cell has no number.
    """
    for source in sources:
        if source not in SOURCES:
            raise unknown("source of noise", source, SOURCES)
    if repeats < 2:
        raise UsageError(f"noise cannot be told from {repeats} repeat; expected at least 2")
    over_seeds = {"training seed", "precision"} & set(sources)
    asked = dataclasses.replace(request, seeds=repeats if over_seeds else 1)
    todo = plan(asked, workspace)
    make(todo.jobs, workspace, place)
    found: list[NoiseRow] = []
    for planned in todo.cells:
        if planned.cell.seed or planned.run is None or "exact" in planned.row.dialect:
            continue
        same = [
            other
            for other in todo.cells
            if other.row.key[:3] == planned.row.key[:3] and other.run is not None
        ]
        # Measured anew, and kept at once: an hour of measuring must not be lost with the next cell.
        for row in _of_cell(planned, same, asked, workspace, place, make, sources, repeats, images):
            found.append(row)
            write(workspace.noise, [row])
    return found


def write(path: Path, rows: Iterable[NoiseRow]) -> None:
    """Put `rows` into the CSV at `path`, each in the place of the one of the same key."""
    known = {row.key: row for row in results.read(path, NoiseRow)} if path.exists() else {}
    known |= {row.key: row for row in rows}
    ordered = sorted(known.values(), key=lambda row: (*row.key[:4], SOURCES.index(row.source)))
    results.write(path, ordered, NoiseRow)


def _of_cell(
    planned: Planned,
    seeds: Sequence[Planned],
    request: Request,
    workspace: Workspace,
    place: Place,
    make: Make,
    sources: Iterable[str],
    repeats: int,
    images: int | None,
) -> Iterator[NoiseRow]:
    """One row per source for one cell; `seeds` are the same cell under every seed."""
    assert planned.run is not None
    ours = [_value(workspace, one) for one in seeds]
    if "training seed" in sources:
        how = f"trained and measured under seeds 0 to {repeats - 1}"
        yield _row(planned, workspace, "training seed", ours, how)
    if "precision" in sources:
        other = "bf16" if _stored(workspace, planned)["precision"] == "fp32" else "fp32"
        apart = Workspace(workspace.root / "runs" / f"noise-{other}")
        theirs = dataclasses.replace(place, precision=other)
        twins = plan(request, apart)
        keys = {one.row.key for one in seeds}
        jobs = [
            Job(job.run, tuple(one for one in job.cells if one.row.key in keys))
            for job in twins.jobs
        ]
        make([job for job in jobs if job.cells], apart, theirs)
        values = [_value(apart, one) for one in twins.cells if one.row.key in keys]
        yield _paired(planned, workspace, ours, values, other)
    path = workspace.run(planned.run.id) / checkpoint.FILE
    weights = checkpoint.load(path, planned.run)
    if weights is None:
        if {"evaluation seed", "test subset", "threads"} & set(sources):
            raise DataError(
                f"{workspace.run(planned.run.id)} has no checkpoint, only its rows are known; "
                "measure noise where the run was trained, or ask for other sources"
            )
        return
    refuse_other_images(path, weights, planned.run.data)
    engine = choose("cpu" if place.device == "auto" else place.device, "fp32", weights.threads)
    engine = engine.keeping("fp32", weights.threads, weights.fused)
    own, data = planned.run.stream("measure", planned.id), spec.build(planned.cell.dataset)
    per_image = _per_image(workspace, planned)
    if "evaluation seed" in sources:
        names = [planned.run.stream("noise", planned.id, repeat) for repeat in range(repeats)]
        metric = spec.build(planned.cell.metric)
        if images is not None and per_image is not None and hasattr(metric, "images"):
            metric = dataclasses.replace(metric, images=min(images, len(per_image)))
        seen = [_evaluated(planned, weights, engine, seed, data, metric) for seed in names]
        values = [float(found.value) for found in seen]
        how = f"the weights of seed 0 measured {repeats} times, each from another seed"
        if per_image is None:
            yield _row(planned, workspace, "evaluation seed", values, how)
        else:
            each = np.stack([found.arrays["value"] for found in seen])  # (R, N)
            std = math.sqrt(each.var(0, ddof=1).mean() / len(per_image))
            how += f", on {each.shape[1]} test images of {len(per_image)}"
            degrees = each.shape[1] * (repeats - 1)
            yield _row(planned, workspace, "evaluation seed", values, how, std, degrees)
    if "test subset" in sources:
        if per_image is not None:
            std = float(per_image.std(ddof=1)) / math.sqrt(len(per_image))
            how = f"the spread of one measurement over its {len(per_image)} test images"
            values = [float(per_image.mean())]
            yield _row(planned, workspace, "test subset", values, how, std, len(per_image) - 1)
        else:
            subsets = [Part(data, part, repeats) for part in range(repeats)]
            found_in = [_evaluated(planned, weights, engine, own, subset) for subset in subsets]
            how = f"the weights of seed 0 measured on {repeats} disjoint parts of the test split"
            yield _row(planned, workspace, "test subset", [f.value for f in found_in], how)
    if "threads" in sources:
        engines = [engine.keeping("fp32", threads, weights.fused) for threads in THREADS]
        values = [_evaluated(planned, weights, one, own, data).value for one in engines]
        counts = ", ".join(map(str, THREADS))
        how = f"the weights of seed 0 measured with {counts} threads"
        yield _row(planned, workspace, "threads", values, how)


def _evaluated(
    planned: Planned,
    weights: Checkpoint,
    engine: Engine,
    seed: int,
    data: Dataset,
    metric: Metric | None = None,
) -> Measurement:
    """The cell measured from this seed, on these data, by this engine, by its own metric or a variant of it."""
    assert planned.run is not None
    metric = metric or spec.build(planned.cell.metric)
    with computing(engine), seeded(0):
        model = trained(planned.run, weights, engine)
        torch.manual_seed(seed)
        with torch.no_grad():
            found = metric(model, data)
    assert isinstance(found, Measurement)
    return found


def _per_image(workspace: Workspace, planned: Planned) -> NDArray[np.float64] | None:
    """(N,) values whose mean the number is, where the metric kept one per test image; else None."""
    stored = _stored(workspace, planned)
    runs = workspace.root / "runs"
    if not stored["artifact"] or stored_at(runs, stored["artifact"]) is None:
        return None
    values = read_arrays(runs, stored["artifact"]).get("value")
    if values is None or values.shape != (stored["n"],) or stored["n"] < 2:
        return None
    return values


def _stored(workspace: Workspace, planned: Planned) -> dict[str, Any]:
    """What was measured of a cell: in runs/, or in a committed CSV of its tier."""
    assert planned.run is not None
    stored = Known(workspace, planned.row.tier, planned.row.protocol).measured(planned)
    if stored is None or stored["value"] is None:
        what = f"{planned.cell.metric_label} of {planned.run.id}"
        why = f"{stored['status']}: {stored['note']}" if stored else "it was not measured"
        raise DataError(f"the noise of {what} cannot be told, it has no number ({why})")
    return stored


def _value(workspace: Workspace, planned: Planned) -> float:
    return float(_stored(workspace, planned)["value"])


def _row(
    planned: Planned,
    workspace: Workspace,
    source: Source,
    values: Sequence[float],
    how: str,
    std: float | None = None,
    degrees: int | None = None,
) -> NoiseRow:
    stored, made_by = _stored(workspace, planned), provenance()
    assert planned.run is not None
    return NoiseRow(
        tier=planned.row.tier,
        model=planned.row.model,
        dataset=planned.row.dataset,
        metric=planned.row.metric,
        source=source,
        std=statistics.stdev(values) if std is None else std,
        repeats=len(values),
        degrees=len(values) - 1 if degrees is None else degrees,
        mean=statistics.fmean(values),
        values=" ".join(f"{value:.8g}" for value in values),
        how=how,
        dialect=str(stored["dialect"]),
        run=planned.run.id,
        commit=made_by.commit,
        torch=str(torch.__version__),
        device=str(stored["device"]),
    )


def _paired(
    planned: Planned,
    workspace: Workspace,
    ours: Sequence[float],
    theirs: Sequence[float],
    precision: str,
) -> NoiseRow:
    """Of pairs that differ in precision alone: two numbers of std s differ by s sqrt 2."""
    differences = [b - a for a, b in zip(ours, theirs, strict=True)]
    std = math.sqrt(statistics.fmean(d * d for d in differences) / 2)
    how = f"the same seeds trained in {precision}: on average {statistics.fmean(differences):+.4g}"
    return _row(planned, workspace, "precision", theirs, how, std, len(differences))


class Part(Dataset):
    """One of `of` disjoint random parts of another dataset's test split; everything else is that dataset's."""

    def __init__(self, whole: Dataset, part: int, of: int) -> None:
        self.whole, self.part, self.of = whole, part, of

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["whole"], name)

    @property
    def info(self) -> DatasetInfo:
        """That of the whole."""
        return self.whole.info

    @property
    def digest(self) -> str:
        """That of the whole, and which part."""
        return f"{self.whole.digest}/{self.part}of{self.of}"

    def split(self, name: Split) -> Examples:
        """The whole's, but for the test split."""
        all_of_them = self.whole.split(name)
        if name != "test":
            return all_of_them
        # Not every `of`-th image, for the scenes of MNIST-4-10 alternate between two kinds.
        shuffled = np.random.default_rng(0).permutation(len(all_of_them))
        index = np.sort(shuffled[self.part :: self.of])
        objects, label = all_of_them.objects, all_of_them.label
        return Examples(
            _Selected(all_of_them.image, index),
            None if label is None else label[index],
            None if objects is None else Objects(objects.label[index], objects.box[index]),
            None if all_of_them.owner is None else _Selected(all_of_them.owner, index),
        )


@dataclasses.dataclass(frozen=True)
class _Selected:
    """Some of other images, by index."""

    images: Images
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, wanted: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        return self.images[self.index[wanted]]
