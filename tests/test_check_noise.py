"""Tolerances from measured noise, each with its origin; and what CI services read."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from reprise import cli
from reprise.core.results import NoiseRow, ResultRow, read, write
from reprise.core.workspace import Workspace
from reprise.render.check import Outcome, Report, Tolerance, check, check_folders

ROW = ResultRow(
    protocol="p", tier="mini", model="GNM", train="t", dataset="D", metric="LL", dialect="k=1",
    value=100.0, stderr=50.0, n=100, better="higher", device="cpu x1 thread", precision="fp32",
)  # fmt: skip
NOISE = NoiseRow(
    tier="mini", model="GNM", dataset="D", metric="LL", dialect="k=1", source="training seed",
    std=2.0, repeats=5, degrees=4, mean=100.0, values="", how="",
)  # fmt: skip
EVALUATION = dataclasses.replace(NOISE, source="evaluation seed", std=0.1, degrees=30)
THREADS = dataclasses.replace(NOISE, source="threads", std=1.0, degrees=3)
PRECISION = dataclasses.replace(NOISE, source="precision", std=2.5, degrees=5)


def row(**changes: Any) -> ResultRow:
    return dataclasses.replace(ROW, **changes)


def finding(now: list[ResultRow], before: list[ResultRow], **tolerance: Any) -> Any:
    return check(now, before, Tolerance(**tolerance)).findings[0]


def test_the_tolerance_follows_the_measured_noise_and_not_the_test_images() -> None:
    """With a standard error of 50 over the test images a fall by 30 is nothing; the images are the same, though."""
    fallen = finding([row(value=70.0)], [row()], noise=[NOISE])
    assert fallen.outcome is Outcome.WORSE
    quantile = stats.t.ppf(stats.norm.cdf(3), 4)
    assert fallen.tolerance == pytest.approx(quantile * 2.0 * math.sqrt(2))
    assert "training seed 2 (5 repeats)" in fallen.origin
    held = finding([row(value=70.0)], [row()])
    assert held.outcome is Outcome.HOLDS
    assert "own standard errors" in held.origin
    assert "not measured" in held.origin


def test_the_same_weights_leave_only_the_noise_of_evaluation() -> None:
    noise = [NOISE, EVALUATION]
    moved = finding([row(value=99.0)], [row()], noise=noise, same_weights=True)
    assert moved.outcome is Outcome.WORSE
    assert "evaluation seed" in moved.origin
    assert finding([row(value=99.0)], [row()], noise=noise).outcome is Outcome.HOLDS


@pytest.mark.parametrize(
    ("what", "value", "more"),
    [("device", "cpu x2 threads", THREADS), ("precision", "bf16", PRECISION)],
)
def test_what_the_rows_say_has_changed_adds_its_noise(
    what: str, value: str, more: NoiseRow
) -> None:
    noise = [NOISE, more]
    plain = finding([row()], [row()], noise=noise)
    other = finding([row(**{what: value})], [row()], noise=noise)
    assert plain.tolerance < other.tolerance
    assert more.source in other.origin
    absent = finding([row(**{what: value})], [row()], noise=[NOISE])
    assert f"noise of the {more.source} was not measured" in absent.origin


def test_more_seeds_shrink_the_tolerance() -> None:
    one = finding([row()], [row()], noise=[NOISE])
    four = finding([row(seed=s) for s in range(4)], [row(seed=s) for s in range(4)], noise=[NOISE])
    assert four.tolerance == pytest.approx(one.tolerance / 2)


def test_noise_of_another_cell_or_dialect_is_not_borrowed() -> None:
    others: list[dict[str, Any]]
    others = [{"dialect": "k=2"}, {"model": "VAE"}, {"tier": "demo"}, {"metric": "S-Acc"}]
    for changes in others:
        other = dataclasses.replace(NOISE, **changes)
        assert "not measured" in finding([row()], [row()], noise=[other]).origin


def test_a_spread_of_zero_is_no_knowledge() -> None:
    silent = dataclasses.replace(NOISE, std=0.0)
    assert "too small to be seen" in finding([row()], [row()], noise=[silent]).origin
    unknown = finding([row(stderr=None, value=99.0)], [row(stderr=None)], noise=[silent])
    assert unknown.outcome is Outcome.UNKNOWN


def test_a_share_of_no_successes_is_no_certainty() -> None:
    before = row(value=0.0, stderr=0.0, n=250)
    after = row(value=0.004, stderr=math.sqrt(0.004 * 0.996 / 250), n=250)
    assert finding([after], [before]).outcome is Outcome.HOLDS
    many = row(value=0.2, stderr=math.sqrt(0.2 * 0.8 / 250), n=250)
    assert finding([many], [before], same_weights=True).outcome is Outcome.BETTER


def test_a_tolerance_that_no_share_can_leave_shows_nothing() -> None:
    half = row(value=0.5, stderr=math.sqrt(0.25 / 250), n=250)
    none = row(value=0.0, stderr=0.0, n=250)
    for std, outcome in ((0.04, Outcome.WORSE), (0.1, Outcome.UNKNOWN)):
        noise = [dataclasses.replace(NOISE, std=std)]
        assert finding([none], [half], noise=noise).outcome is outcome
        assert finding([half], [half], noise=noise).outcome is Outcome.HOLDS


@pytest.mark.parametrize("repeats", [2, 3])
def test_noise_of_too_few_repeats_lets_nothing_hold(repeats: int) -> None:
    """Of three the tolerance is 27 standard deviations wide, in which a model that learnt nothing may lie."""
    noise = [dataclasses.replace(NOISE, std=108.0, repeats=repeats, degrees=repeats - 1)]
    before = row(value=2183.0)
    for value in (0.0, 2182.0, 2500.0):
        found = finding([row(value=value)], [before], noise=noise)
        assert found.outcome is Outcome.UNKNOWN
        assert "noise known so badly" in found.detail
        assert "`reprise noise p --tier mini --repeats 5`" in found.detail
    assert finding([before], [before], noise=noise).outcome is Outcome.HOLDS
    beyond = [row(value=-1e6)]
    assert finding(beyond, [before], noise=noise).outcome is Outcome.WORSE
    allowed = {"LL": 300.0}
    for value, outcome in ((2000.0, Outcome.HOLDS), (0.0, Outcome.WORSE)):
        found = finding([row(value=value)], [before], noise=noise, absolute=allowed)
        assert (found.outcome, found.origin) == (outcome, "given with --allow")


def test_noise_of_no_degrees_is_no_knowledge() -> None:
    for degrees in (0, -1):
        noise = [dataclasses.replace(NOISE, degrees=degrees)]
        assert finding([row(value=0.0)], [row()], noise=noise).outcome is Outcome.UNKNOWN


def test_many_standard_errors_are_still_a_tolerance() -> None:
    """Of nine the upper tail of a normal is 0 in floating point, which would make any tolerance infinite."""
    noise = [dataclasses.replace(NOISE, degrees=200)]
    found = finding([row(value=0.0)], [row()], noise=noise, z=9.0)
    assert (found.outcome, found.tolerance) == (Outcome.WORSE, pytest.approx(28, abs=2))
    assert finding([row(value=0.0)], [row()], noise=noise, z=50.0).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("repeats", [3, 5])
def test_equal_code_is_called_moved_as_rarely_as_three_standard_errors_say(repeats: int) -> None:
    """However few repeats the noise was measured with: Student's t pays for not knowing it well."""
    random = np.random.default_rng(repeats)
    wrong = 0
    for _ in range(2_000):
        values = random.normal(0.0, 1.0, repeats)
        noise = dataclasses.replace(NOISE, std=float(values.std(ddof=1)), degrees=repeats - 1)
        now, before = random.normal(0.0, 1.0, 2)
        moved = finding([row(value=now)], [row(value=before)], noise=[noise])
        wrong += moved.outcome.code == 1
        assert (moved.outcome is Outcome.UNKNOWN) == (repeats == 3 and moved.outcome.code != 1)
    assert wrong / 2_000 < 0.0027 + 3 * math.sqrt(0.0027 / 2_000)


def test_noise_is_no_result_and_disturbs_no_reader(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    write(place.results("mini", "p"), [ROW], ResultRow)
    write(place.noise, [NOISE], NoiseRow)
    assert read(place.noise, NoiseRow) == [NOISE]
    shutil.copytree(tmp_path / "results", tmp_path / "copy")
    assert check_folders(tmp_path / "results", tmp_path / "copy").code == 0


# What CI services read.

HOSTILE = '<script>&"]]>\x00\x1b\ud800 ‮\n'


def hostile() -> Report:
    before = [
        row(model=HOSTILE),
        row(model="gone"),
        row(model="held"),
        row(model="nan", value=math.nan),
    ]
    failed = row(model=HOSTILE, status="failed", value=None, note=HOSTILE)
    return check([failed, row(model="held"), row(model="new"), row(model="nan")], before)


def test_the_junit_file_is_what_ci_services_read() -> None:
    report = hostile()
    root = ElementTree.fromstring(report.to_junit())
    assert root.tag == "testsuites"
    allowed: dict[str, tuple[set[str], set[str]]] = {  # tag -> attributes that must be there, children that may be
        "testsuites": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"testsuite"}),
        "testsuite": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"testcase"}),
        "testcase": ({"name", "classname", "time"}, {"failure", "error", "skipped"}),
        "failure": ({"type", "message"}, set()),
        "error": ({"type", "message"}, set()),
        "skipped": ({"message"}, set()),
    }  # fmt: skip
    for element in root.iter():
        attributes, children = allowed[element.tag]
        assert set(element.attrib) == attributes
        assert {child.tag for child in element} <= children
    for whole in root.iter("testsuite"):
        cases = list(whole.iter("testcase"))
        assert int(whole.attrib["tests"]) == len(cases)
        for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(whole.attrib[kind]) == sum(case.find(tag) is not None for case in cases)
    (suite,) = root
    assert [suite.attrib[k] for k in ("tests", "failures", "errors", "skipped")] == list("5121")


def test_a_hostile_name_is_text_in_every_output() -> None:
    report = hostile()
    root = ElementTree.fromstring(report.to_junit())
    names = [case.attrib["name"] for case in root.iter("testcase")]
    assert names[0].startswith('<script>&"]]>')
    assert not any(c in "".join(names) for c in "\x00\x1b\ud800")
    found = json.loads(report.to_json())
    assert found["code"] == report.code
    assert [one["outcome"] for one in found["findings"]] == ["fails", "missing", "holds", "unknown", "new"]  # fmt: skip
    assert found["findings"][3]["reference"] is None, "not a number is no JSON"


def test_the_command_writes_both_files_and_prints_every_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Workspace(tmp_path)
    write(place.results("mini", "p"), [row(value=70.0)], ResultRow)
    write(tmp_path / "before" / "mini" / "p.csv", [ROW], ResultRow)
    write(place.noise, [NOISE], NoiseRow)
    asked = ["check", "--root", str(tmp_path), "--against", str(tmp_path / "before")]
    files = ["--junit", str(tmp_path / "out" / "j.xml"), "--json", str(tmp_path / "out" / "j.json")]
    assert cli.main([*asked, *files]) == 1
    said = capsys.readouterr().out
    assert "training seed 2 (5 repeats)" in said
    assert "REGRESSED: 0 of 1 reference cells within tolerance; 1 moved, worse" in said
    ElementTree.parse(tmp_path / "out" / "j.xml")
    assert json.loads((tmp_path / "out" / "j.json").read_text())["code"] == 1
    assert cli.main([*asked, "--noise", str(tmp_path / "absent.csv")]) == 3
