"""Small runs whose numbers are known from the code as it is: trained, measured, and checked as any other result."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ..core import spec
from ..core.randomness import seeded
from ..core.results import NoiseRow, ResultRow, read, to_csv
from ..core.run import Run
from ..launch.work import trained
from ..render.check import Tolerance, check
from ..training import checkpoint
from ..training.engine import choose, computing
from ..training.fit import fit

# Linear models of small scenes learn in a second what there is to learn: enough for a number that noise hardly moves.
DATA = spec.dataset("scenes", rule="mnist4", source="digits", canvas=32, train=512, valid=64, test=64)  # fmt: skip
# A proposal twice as wide as the posterior: bounds that differ with the particles, so that a wrong one shows.
MODEL = spec.model("ppca", widen=2.0)
STEPS = (("batch_size", 32), ("clip_norm", 50.0), ("steps", 60))
METRICS: dict[str, spec.Spec] = {
    "LL": spec.metric("log_marginal", particles=20),
    "LL, 1 particle": spec.metric("log_marginal", particles=1),
}
SEEDS = 5


def reference() -> tuple[str, str]:
    """The rows of seed 0, and the noise of training over five other seeds, both as CSV."""
    rows = list(_rows([0]))
    others = list(_rows(range(1, SEEDS + 1)))
    noise = []
    for row in rows:
        values = [o.value for o in others if o.metric == row.metric and o.value is not None]
        noise.append(
            NoiseRow(
                tier=row.tier,
                model=row.model,
                dataset=row.dataset,
                metric=row.metric,
                source="training seed",
                std=statistics.stdev(values),
                repeats=len(values),
                degrees=len(values) - 1,
                mean=statistics.fmean(values),
                dialect=row.dialect,
                values=" ".join(f"{value:.6g}" for value in values),
                how="other seeds",
            )
        )
    return to_csv(rows, ResultRow), to_csv(noise, NoiseRow)


def moved(before: str, noise: str) -> str:
    """What the regression check finds of this code's rows beside those of `before`; "" where all holds."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "before.csv", Path(folder) / "noise.csv"
        for file, text in zip(files, (before, noise), strict=True):
            file.write_text(text, encoding="utf-8")
        old, spread = read(files[0], ResultRow), read(files[1], NoiseRow)
    found = check(list(_rows([0])), old, Tolerance(noise=spread))
    return "; ".join(
        f"{one.key[-1]} {one.outcome.value}"
        + (f" {one.detail}, tolerance {one.tolerance:.2g}" if one.tolerance is not None else f": {one.detail}")
        for one in found.findings
        if one.outcome.code
    )  # fmt: skip


def _rows(seeds: Iterable[int]) -> Iterable[ResultRow]:
    engine = choose("cpu", "fp32", 1)
    for seed in seeds:
        run = Run(MODEL, DATA, STEPS, seed)
        with tempfile.TemporaryDirectory() as folder:
            fit(run, engine, Path(folder))
            weights = checkpoint.load(Path(folder) / checkpoint.FILE, run)
        assert weights is not None
        for label, named in METRICS.items():
            metric: Any = spec.build(named)
            with computing(engine), seeded(run.stream("measure", label)), torch.no_grad():
                found = metric(trained(run, weights, engine), spec.build(DATA))
            value = float(found.value)
            yield ResultRow(
                protocol="self_test", tier="demo", model="PPCA", train=str(DATA), dataset="MNIST-4",
                metric=label, seed=seed, dialect=f"{metric.dialect} {found.dialect}".strip(),
                value=value if math.isfinite(value) else None, stderr=found.stderr, n=found.n,
                better=metric.better, data_digest=run.data.digest, precision="fp32", device=str(engine),
            )  # fmt: skip
