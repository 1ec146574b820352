"""The README keeps its word: the example keeps the contract, the numbers stand in rows, the pictures exist."""

from __future__ import annotations

import csv
import re
import statistics
from pathlib import Path

import pytest
import torch

from reprise.core import spec
from reprise.core.dataset import DatasetInfo
from reprise.core.declared import declared
from reprise.core.results import ResultRow, read
from reprise.launch.contract import check_model

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)  # a model, a metric
WRITTEN_BY_HAND = ("README.md", "reports/findings.md", "data/README.md")


def test_the_model_in_30_lines_keeps_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example, _ = EXAMPLES
    _, _, methods = example.partition("class Tiny(")
    assert len([line for line in methods.splitlines() if line.strip()]) <= 30
    folder = tmp_path / "my_lab"
    folder.mkdir()
    (folder / "tiny.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    assert list(check_model(spec.model("my_lab.tiny:Tiny")))


def test_the_metric_measures_samples_and_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("tiny", "ink")
    (tmp_path / "their_lab").mkdir()
    for name, example in zip(names, EXAMPLES, strict=True):
        (tmp_path / "their_lab" / f"{name}.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    data = DatasetInfo("small", (1, 12, 12), objects=1)
    tiny = spec.load(spec.model("their_lab.tiny:Tiny"))
    named = spec.metric("their_lab.ink:Ink", images=50)
    with torch.no_grad():
        found = spec.build(named)(tiny(tiny.recipe(data).config, data), None).checked("Ink")
    assert 0 < found.value < 1
    assert found.n == 50
    ink = declared("metric", named.name)
    assert ink is not None
    assert ink.dialect(dict(named.options)) == "images=50"
    assert ink.attributes["drawn"]


@pytest.mark.parametrize("page", ["README.md", "reports/findings.md"])
def test_every_number_of_the_results_stands_in_a_committed_row(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- rows: (\S+) (\S+) -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert blocks
    for (
        path,
        of,
        block,
    ) in blocks:  # of: a dataset, whose columns are metrics; or `metric=LL`, over datasets
        rows: dict[tuple[str, str], list[ResultRow]] = {}
        for row in read(ROOT / path, ResultRow):
            if of in (row.dataset, f"metric={row.metric}"):
                column = row.metric if of == row.dataset else row.dataset
                rows.setdefault((row.model, column), []).append(row)
        head, _, *lines = [
            [cell.strip() for cell in line.strip("|\n").split("|")]
            for line in block.strip().splitlines()
        ]
        assert lines
        for name, *cells in lines:
            for metric, cell in zip(head[1:], cells, strict=True):
                ours = cell.partition(" / ")[0]
                if ours == "–":
                    assert (name, metric) not in rows
                    continue
                assert ours == written(rows[name, metric], ours), (name, metric)


def written(rows: list[ResultRow], like: str) -> str:
    """One seed's value, or mean ± standard deviation over several, with as many decimals as `like`."""
    values = [row.value for row in rows if row.value is not None]
    assert len(values) == len(rows)
    decimals = len(like.partition(" ")[0].partition(".")[2])
    numbers = [statistics.fmean(values), *([statistics.stdev(values)] if len(values) > 1 else [])]
    text = " ± ".join(f"{number:.{decimals}f}" for number in numbers)
    return f"{rows[0].censored}{text}".replace("-", "−")


def test_every_factor_of_speed_stands_in_the_benchmark() -> None:
    by_machine = {"EPYC": "AMD", "Xeon": "Intel"}
    with (ROOT / "benchmarks" / "results.csv").open(newline="", encoding="utf-8") as file:
        benchmark = list(csv.DictReader(file))
    section = README.partition("## How fast")[2].partition("\n## ")[0]
    head, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    titles = [column.split()[-1] for column in head if column]
    machines = [by_machine[title] for title in titles if title != "aim"]
    assert len(lines) > 10
    for name, *cells in lines:
        aim, its_aim = cells.pop(4), cells.pop()
        work = {"GNM, Arrow room": "GNM (Arrow room)", "VAE": "VAE, 128"}.get(name, name)
        step = rf"training step of {re.escape(work)}[ ,].*"
        kinds = [rf"{step} bf16$", rf"{step} fp32(, the default on a CPU)?$", rf"LL of {name} with"]
        for place, (factor, machine) in enumerate(zip(cells, machines, strict=True)):
            least = its_aim if place >= 4 else aim
            found = [
                line
                for line in benchmark
                if line["machine"].startswith(machine)
                and re.match(kinds[place // 2], line["work"], re.IGNORECASE)
                and line["target"] == f">= {least}x"
                and line["measured"].startswith(f"{factor.strip('*')}x (")
            ]
            if factor:
                assert found, (name, machine, factor)
                assert (found[0]["verdict"] == "met") == factor.startswith("**"), (name, factor)


@pytest.mark.parametrize("page", WRITTEN_BY_HAND)
def test_every_file_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)\)|<img src=\"([^\"]+)\"", text)
    assert targets
    for target in map("".join, targets):
        assert (ROOT / page).parent.joinpath(target).exists(), target
