"""Does bf16 train as well as fp32? Learning curves and final LL of several seeds of each, side by side.

    run_protocol table1 --tier mini --models GNM --datasets MNIST-4 --metrics LL --seeds 3 \\
        --set training.steps=2000 --precision fp32 --root /tmp/fp32          # the same with bf16
    python -m reprise.benchmarks.precision fp32=/tmp/fp32 bf16=/tmp/bf16

writes benchmarks/PRECISION.md and benchmarks/precision.png.
"""

from __future__ import annotations

import csv
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
from tabulate import tabulate

from reprise.core.results import ResultRow, read

HERE = Path(__file__).parent


class Trained(NamedTuple):
    """One run. curve: training log-likelihood, nats per image, by step. final: LL on test images and its error."""

    precision: str
    seed: int
    steps: list[int]
    curve: list[float]
    final: ResultRow


def trained(root: Path, precision: str) -> list[Trained]:
    """Every run below `root` that has a measured LL."""
    found = []
    for row in read(root / "results" / "mini" / "gnm_table1.csv", ResultRow):
        if row.metric != "LL" or row.status != "ok" or not row.run or "coded" in row.model:
            continue
        if row.precision != precision:
            raise SystemExit(f"{root}: {row.run} was trained in {row.precision}, not {precision}")
        with (root / "runs" / row.run / "log.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        curve = [float(line["log_likelihood"]) for line in lines]
        found.append(Trained(precision, row.seed, [int(line["step"]) for line in lines], curve, row))  # fmt: skip
    return found


def drawn(runs: list[Trained], path: Path) -> None:
    """Left the curves, right each curve less the mean of the fp32 curves."""
    mpl.use("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    fp32 = [run.curve for run in runs if run.precision == "fp32"]
    reference = [statistics.mean(values) for values in zip(*fp32, strict=True)]
    colours = {"fp32": "C0", "bf16": "C1"}
    for run in runs:
        first = run is next(r for r in runs if r.precision == run.precision)
        style = {"color": colours[run.precision], "lw": 1, "label": run.precision if first else None}  # fmt: skip
        left.plot(run.steps, run.curve, **style)
        difference = [value - mean for value, mean in zip(run.curve, reference, strict=True)]
        right.plot(run.steps, difference, **style)
    left.set_ylabel("training log-likelihood (nats per image)")
    right.set_ylabel("less the mean of fp32 (nats)")
    for axis in (left, right):
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def page(runs: list[Trained]) -> str:
    """The final LL of every run, and how far the means of both precisions are apart."""
    rows = [
        [r.precision, r.seed, f"{r.final.value:.1f}", f"{r.final.stderr:.1f}", f"{r.curve[-1]:.1f}", r.final.device]
        for r in runs
    ]  # fmt: skip
    by = {p: [r.final.value or 0.0 for r in runs if r.precision == p] for p in ("fp32", "bf16")}
    means = {p: statistics.mean(values) for p, values in by.items()}
    spread = {p: statistics.stdev(values) for p, values in by.items()}
    last = runs[0].steps[-1]
    return f"""# Does bf16 train as well as fp32?

GNM on MNIST-4 with real digits, {last:,} steps of tier mini's schedules, {len(by["fp32"])} seeds of each precision. LL: {runs[0].final.dialect},
on {runs[0].final.n} test images; measured in fp32 always. Written by `python -m reprise.benchmarks.precision`, whose head has the commands.

{tabulate(rows, ["training", "seed", "LL (nats)", "std. error over images", "training log-likelihood, last 100 steps", "device"], "github")}

Mean over seeds: fp32 {means["fp32"]:.1f} (standard deviation {spread["fp32"]:.1f}), bf16 {means["bf16"]:.1f} ({spread["bf16"]:.1f}): bf16 is
{means["bf16"] - means["fp32"]:+.1f} nats from fp32.

![learning curves](precision.png)
"""  # noqa: E501


def main() -> None:
    """See the module."""
    roots = dict(argument.split("=", 1) for argument in sys.argv[1:])
    if set(roots) != {"fp32", "bf16"}:
        raise SystemExit("usage: python -m reprise.benchmarks.precision fp32=FOLDER bf16=FOLDER")
    runs = [run for precision, root in roots.items() for run in trained(Path(root), precision)]
    drawn(runs, HERE / "precision.png")
    (HERE / "PRECISION.md").write_text(page(runs), encoding="utf-8")
    print(page(runs))


if __name__ == "__main__":
    main()
