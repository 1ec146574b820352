"""Published values find their cells: a line that would be dropped, or could not be compared, is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprise import cli
from reprise.core import protocol as protocols
from reprise.core.errors import DataError
from reprise.core.published import checked, published
from reprise.core.results import PublishedValue, read, write


@pytest.mark.parametrize("name", protocols.names())
def test_every_published_value_finds_its_cell(name: str) -> None:
    path = protocols.published_path(name)
    assert published(name) == read(path, PublishedValue)


GOOD = {"model": "VAE", "dataset": "MNIST-4", "metric": "LL", "value": 10895.0, "printed": "10895"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "VEA"}, "unknown model 'VEA'; did you mean 'VAE'?"),
        ({"dataset": "MNIST4"}, "unknown dataset 'MNIST4'; did you mean 'MNIST-4'?"),
        ({"metric": "ll"}, "unknown metric 'll'"),
        ({"model": "GNM (as coded)", "metric": "S-Acc"}, "no cell GNM (as coded), MNIST-4, S-Acc"),
        ({"printed": ""}, "'' is no printed number"),
        ({"printed": "N/A"}, "'N/A' is no printed number"),
        ({"dataset": "MNIST-10"}, "a second value of VAE, MNIST-10, LL"),
    ],
)
def test_a_line_that_finds_no_cell_is_named(
    change: dict[str, str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Wherever published values are read; the line is that of the file, whose notes may have several."""
    path = tmp_path / "gnm_table1.csv"
    first = PublishedValue(**{**GOOD, "dataset": "MNIST-10", "note": "one\ntwo"})  # type: ignore[arg-type]
    second = PublishedValue(**{**GOOD, **change})  # type: ignore[arg-type]
    write(path, [first, second], PublishedValue)
    with pytest.raises(DataError) as error:
        checked([first, second], protocols.load("gnm_table1")[1], path)
    assert f"{path}, line 4: " in str(error.value)
    assert words in str(error.value)
    monkeypatch.setattr("reprise.core.published.published_path", lambda _: path)
    assert cli.main(["show", "table1", "--tier", "paper", "--root", str(tmp_path)]) == 3
    assert words in capsys.readouterr().err


def test_a_value_that_the_paper_does_not_give_needs_no_digits() -> None:
    value = PublishedValue(**{**GOOD, "value": None, "printed": "", "note": "not run"})  # type: ignore[arg-type]
    assert checked([value], protocols.load("gnm_table1")[1], Path("nowhere.csv")) == [value]
