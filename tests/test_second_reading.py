"""Published values were read twice: each from the paper's text, the second time without sight of the first.

protocols/second_reading/<name>.csv: model, dataset, metric; text: what the copy at hand says, garbled where it is
garbled; printed: what was read of it, `?` for a character that cannot be read; spread: what stands after the
±, if anything does; table: where it stands.

A number that the text does not print, but a figure or the authors' files hold, was copied twice from the one record of
those; so the second reading checks the copying, and not the source, which the confidence names. Where that record gives
several seeds (`.17/.16/.19/.18`) or their range (`2.15–2.2`), what is laid beside ours is the middle, marked `~`.
"""

from __future__ import annotations

import csv
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from reprise.core import protocol as protocols
from reprise.core.results import PublishedValue, read

FOLDER = protocols.published_path("any").parent
SECOND = FOLDER / "second_reading"
PUBLISHED = {path.stem: read(path, PublishedValue) for path in sorted(FOLDER.glob("*.csv"))}
WITH_VALUES = [name for name, values in PUBLISHED.items() if values]

Key = tuple[str, str, str]


def second(name: str) -> dict[Key, dict[str, str]]:
    path = SECOND / f"{name}.csv"
    assert path.is_file(), f"{path} is missing: every published value is read a second time"
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    found = {(line["model"], line["dataset"], line["metric"]): line for line in lines}
    assert len(found) == len(lines), "a cell was read twice in the same file"
    return found


def test_no_second_reading_is_left_without_its_first() -> None:
    assert {path.stem for path in SECOND.glob("*.csv")} == set(WITH_VALUES)


@pytest.mark.parametrize("name", WITH_VALUES)
def test_both_readings_are_of_the_same_cells(name: str) -> None:
    assert set(second(name)) == {value.key for value in PUBLISHED[name]}


@pytest.mark.parametrize("name", WITH_VALUES)
def test_both_readings_agree_or_the_doubt_is_on_record(name: str) -> None:
    again = second(name)
    for value in PUBLISHED[name]:
        line = again[value.key]
        assert (float(line["spread"]) if line["spread"] else None) == value.spread
        if line["printed"] == value.printed:
            continue
        assert value.confidence == "doubtful digit", f"{value.key}: {value.printed}, {line}"
        assert line["text"] in value.note, "the note must give both readings"
        assert len(line["printed"]) == len(value.printed)
        for ours, theirs in zip(value.printed, line["printed"], strict=True):
            assert theirs in (ours, "?"), f"{value.key}: the readings contradict each other"


@pytest.mark.parametrize("name", WITH_VALUES)
def test_a_second_reading_is_of_its_text(name: str) -> None:
    """Only what no printed number has may be dropped or given up."""
    for line in second(name).values():
        if line["printed"].startswith("~") and re.search(r"\d[–/]", line["text"]):
            assert line["printed"] == middle(line["text"])
            continue
        kept = line["printed"].rstrip("?")
        assert line["text"].startswith(kept)
        rest = line["text"][len(kept) :].removesuffix(f"±{line['spread']}")
        assert not rest or not rest[-1].isdigit(), "a digit was dropped"
        assert line["table"]


def middle(text: str) -> str:
    """`~2.2` of `2.15–2.2` or of `2.1/2.2`: their mean, to the fewest decimals among them, halves upwards."""
    parts = [Decimal(part) for part in re.split("[–/]", text.removesuffix("%"))]
    digits = min(-int(part.as_tuple().exponent) for part in parts)
    mean = sum(parts, Decimal()) / len(parts)
    return f"~{mean.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)}{text[len(text.removesuffix('%')) :]}"


@pytest.mark.parametrize("name", WITH_VALUES)
def test_what_no_text_prints_says_where_it_was_found(name: str) -> None:
    for value in PUBLISHED[name]:
        found_elsewhere = value.confidence not in ("clean", "doubtful digit")
        if value.printed.startswith("~") or value.page == "not in the paper":
            assert found_elsewhere, value.key
        if value.confidence == "recovered, doubtful":
            assert value.note, f"{value.key}: the note must name the doubt"


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_no_value_stands_without_its_page_table_row_and_column(name: str) -> None:
    for value in PUBLISHED[name]:
        for part in ("page", "table", "row", "column"):
            assert getattr(value, part), f"{value.key} has no {part}"
        assert value.printed
        if name in WITH_VALUES:
            assert second(name)[value.key]["table"] == value.table


def test_the_readings_travel_with_the_project() -> None:
    listed = (Path(__file__).resolve().parent.parent / "pyproject.toml").read_text()
    assert "second_reading/*.csv" in listed
