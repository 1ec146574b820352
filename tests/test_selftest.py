"""The self-test: bugs are put in for real, what catches them is found out, and survivors are shown."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from reprise import cli
from reprise.core.errors import UsageError
from reprise.guard import selftest
from reprise.guard.mutants import MUTANTS, Mutant
from reprise.guard.promises import PROMISES, Promise
from reprise.guard.selftest import Guarded, chosen, copied, patched, table

SOURCE = Path(__file__).resolve().parent.parent


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the self-test forks from a clean one."""
    return subprocess.run(
        [sys.executable, "-m", "reprise.cli", "self-test", *words], capture_output=True, text=True
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_applies_and_changes_one_place(mutant: Mutant) -> None:
    text = (SOURCE / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.before) == 1
    assert mutant.before != mutant.after
    compile(text.replace(mutant.before, mutant.after), mutant.file, "exec")


def test_there_are_enough_mutants_of_every_part() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 12
    folders = {mutant.file.partition("/")[0] for mutant in MUTANTS}
    assert folders >= {"core", "nn", "models", "baselines", "data", "metrics", "training", "render"}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: str(promise.__name__))
def test_the_code_as_it_is_keeps_every_promise(promise: Promise) -> None:
    promise()


def test_every_promise_is_asked() -> None:
    import inspect

    from reprise.guard import promises

    helpers = {"close", "probe", "fitted", "ruler", "row", "printed"}
    own = {
        name
        for name, thing in vars(promises).items()
        if inspect.isfunction(thing) and thing.__module__ == promises.__name__
    }
    assert own - helpers == {promise.__name__ for promise in PROMISES}
    assert all(promise.__doc__ for promise in PROMISES)


def test_a_copy_is_changed_and_the_source_is_not(tmp_path: Path) -> None:
    mutant = MUTANTS[0]
    whole, tree = tmp_path / "whole", tmp_path / "mutant"
    copied(SOURCE, whole)
    patched(whole, tree, mutant)
    for folder, count in ((SOURCE, 0), (whole / "reprise", 0), (tree / "reprise", 1)):
        assert (folder / mutant.file).read_text(encoding="utf-8").count(mutant.after) == count
    gone = dataclasses.replace(mutant, before="not in the file")
    with pytest.raises(UsageError, match="must follow the source"):
        patched(whole, tmp_path / "other", gone)


def test_a_survivor_is_shown_and_costs_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = list(MUTANTS[:2])
    found = [Guarded(two[0].name, promise="a law"), Guarded(two[1].name)]
    assert "1 of 2 mutants caught (50 %)" in table(found, two)
    monkeypatch.setattr(selftest, "run", lambda *_: iter(found))
    named = [word for mutant in two for word in ("--only", mutant.name)]
    assert cli.main(["self-test", *named]) == 1
    assert "MISSED" in capsys.readouterr().out
    with pytest.raises(UsageError, match="did you mean"):
        chosen(["samples are not clampt"])


PROMISES_OF_A_COPY = """
import os, time

def it_ends():
    {what}

PROMISES = (it_ends,)
"""
SMALL_RUNS_OF_A_COPY = """
def reference():
    return "rows", "noise"

def moved(before, noise):
    return ""
"""


def small_package(folder: Path, what: str) -> Path:
    """A package of which the self-test asks one promise only, which does this."""
    (folder / "guard").mkdir(parents=True)
    (folder / "guard" / "promises.py").write_text(PROMISES_OF_A_COPY.format(what=what))
    (folder / "guard" / "small.py").write_text(SMALL_RUNS_OF_A_COPY)
    for file in ("__init__.py", "cli.py", "guard/__init__.py"):
        (folder / file).touch()
    return folder


def test_a_bug_that_hangs_or_kills_is_caught_and_the_others_are_asked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "PARTS", ("guard",))
    monkeypatch.setattr(selftest, "SOURCE", small_package(tmp_path, "pass"))
    bugs = {"harmless": "None", "for ever": "time.sleep(1e6)", "dies": "os._exit(7)", "too": "..."}
    found = selftest.run(
        [Mutant(name, "guard/promises.py", "pass", how) for name, how in bugs.items()], 1
    )
    assert not next(found).caught
    monkeypatch.setattr(selftest, "LIMIT", 2.0)  # what starts first has waited for torch
    hung = next(found)
    assert (hung.name, hung.promise, hung.caught) == ("for ever", "it hung", True)
    monkeypatch.undo()
    assert [(one.name, one.promise, one.caught) for one in found] == [
        ("dies", "its process died", True), ("too", "", False),
    ]  # fmt: skip


def test_a_guard_that_hangs_on_the_code_as_it_is_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(selftest, "PARTS", ("guard",))
    monkeypatch.setattr(selftest, "SOURCE", small_package(tmp_path, "time.sleep(1e6)"))
    monkeypatch.setattr(selftest, "LIMIT", 1.0)
    monkeypatch.setattr(selftest, "chosen", lambda _: [])
    assert cli.main(["self-test"]) == 3
    err = capsys.readouterr().err
    assert err.startswith("reprise: the guard of the code as it is did not end within 1 s; mend ")
    assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_bugs_are_caught_for_real() -> None:
    names = ("LL is the ELBO", "the spread over seeds divides by n")
    done = command(*(word for name in names for word in ("--only", name)), "--workers", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 mutants caught (100 %)" in done.stdout
    assert "a known likelihood is measured" in done.stdout
    assert "LL moved, worse" in done.stdout, "the regression check has seen it as well"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_change_that_is_no_bug_is_not_caught(tmp_path: Path) -> None:
    """The guard is no comparison of bytes: another order of the same sum passes, and is reported as a survivor."""
    code = (
        "from reprise.guard import selftest\n"
        "from reprise.guard.mutants import Mutant\n"
        "import sys\n"
        "if __name__ == '__main__':\n"
        "    one = Mutant('harmless', 'nn/distributions.py', 'return self.mean + self.std * normal(self.mean)',\n"
        "                 'return normal(self.mean) * self.std + self.mean')\n"
        "    (found,) = selftest.run([one], 1)\n"
        "    sys.exit(found.caught)\n"
    )
    (tmp_path / "harmless.py").write_text(code)
    done = subprocess.run([sys.executable, str(tmp_path / "harmless.py")], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
