"""benchmarks/results.csv and the page that is made of it."""

from __future__ import annotations

import dataclasses

from reprise.benchmarks.conftest import PAGE, Line, page, sections_of, stored, updated


def test_the_page_is_made_of_the_lines() -> None:
    text = PAGE.read_text("utf-8")
    assert text == page(stored(), sections_of(text))


def test_what_is_measured_again_replaces_its_line_and_no_other() -> None:
    a, b = (Line(work, "1x", ">= 2x", "NOT MET", "then", "c", "0", "here") for work in "ab")
    again = dataclasses.replace(b, measured="3x", verdict="met", date="now")
    new, elsewhere = dataclasses.replace(a, work="c"), dataclasses.replace(a, machine="there")
    assert updated([a, b], [new, again, elsewhere]) == [a, again, new, elsewhere]
