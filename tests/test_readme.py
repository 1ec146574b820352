"""The README keeps its word: the example keeps the contract, the numbers stand in rows, the pictures exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from reprise.core.results import ResultRow, read
from reprise.core.spec import model
from reprise.launch.contract import check_model

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_model_in_30_lines_keeps_the_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    _, _, methods = example.partition("class Tiny(")
    assert len([line for line in methods.splitlines() if line.strip()]) <= 30
    folder = tmp_path / "my_lab"
    folder.mkdir()
    (folder / "tiny.py").write_text(example)
    monkeypatch.syspath_prepend(tmp_path)
    assert list(check_model(model("my_lab.tiny:Tiny")))


def test_every_number_of_the_results_stands_in_a_committed_row() -> None:
    blocks = re.findall(r"<!-- rows: (\S+) (\S+) -->\n(.*?)<!-- end -->", README, re.DOTALL)
    assert blocks
    for path, dataset, block in blocks:
        rows = {
            (r.model, r.metric): r for r in read(ROOT / path, ResultRow) if r.dataset == dataset
        }
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
                row = rows[name, metric]
                assert row.value is not None
                decimals = len(ours.partition(".")[2])
                assert ours == f"{row.censored}{row.value:.{decimals}f}".replace("-", "−")


def test_every_file_that_is_named_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
