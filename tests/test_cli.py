"""The command line: bad input gets one clear sentence and exit code 3, and nothing is lost."""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise import cli
from reprise.commands import run
from reprise.commands._arguments import as_seconds
from reprise.commands._common import tier_of
from reprise.core import protocol as protocols
from reprise.core import results
from reprise.core.errors import UsageError
from reprise.core.files import write_bytes
from reprise.core.results import ResultRow
from reprise.core.workspace import Workspace
from reprise.launch.plan import Request

from .bundles import measure
from .laboratory_cli import installed

print_report = run.print_report  # which the laboratory leaves out


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("reprise.launch.processes.warm_up", lambda: None)
    with installed():
        yield


BAD = {
    "unknown protocol 'tabel1'; did you mean 'table1'": ["run", "tabel1"],
    "unknown protocol 'tinny'; did you mean 'tiny'": ["show", "tinny"],
    "unknown model 'sketch'; did you mean 'Sketch'": ["run", "tiny", "--models", "sketch"],
    "unknown dataset 'Blob'; did you mean 'Blobs'": ["run", "tiny", "--datasets", "Blob"],
    "unknown metric 'Bond'; did you mean 'Bound'": ["run", "tiny", "--metrics", "Bond"],
    "unknown --set key 'model.sgima'; did you mean 'model.sigma'": [
        "run", "tiny", "--set", "model.sgima=1",
    ],
    "unknown --set key 'training.step'; did you mean 'training.steps'": [
        "run", "tiny", "--set", "training.step=1",
    ],
    "unknown --set key 'modle.lr'": ["run", "tiny", "--set", "modle.lr=1"],
    "model.latents='many' has the wrong type; expected int": [
        "run", "tiny", "--set", "model.latents=many",
    ],
    "training.lr='fast' has the wrong type; expected float": [
        "run", "tiny", "--set", "model.lr=fast",
    ],
    "dataset.count='1.5' has the wrong type; expected int": [
        "run", "tiny", "--set", "dataset.count=1.5",
    ],
    "no protocol was named": ["run"],
    "unknown paper 'gmn'; did you mean 'gnm'": ["run", "--all", "gmn"],
    "unknown paper ''": ["run", "tiny", "--all", ""],
    "--set training.steps was given twice": [
        "run", "tiny", "--set", "training.steps=5", "--set", "training.steps=6",
    ],
    "--set training.lr and --set model.lr are the same option": [
        "run", "tiny", "--set", "training.lr=1", "--set", "model.lr=2",
    ],
    "--slurm account was given twice": [
        "run", "tiny", "--executor", "slurm", "--slurm", "account=a", "--slurm", "account=b",
    ],
    "--allow LL was given twice": ["check", "--against", ".", "--allow", "LL=1", "--allow", "LL=2"],
    "expected KEY=VALUE": ["run", "tiny", "--set", "model.lr"],
    "expected LABEL=MODULE:CLASS": ["run", "tiny", "--model", "laboratory:Sketch"],
    "cannot import 'no_such_lab'": ["run", "tiny", "--model", "X=no_such_lab:SLATE"],
    "has no 'SLATE'": ["run", "tiny", "--model", "X=laboratory:SLATE"],
    "does not derive from": ["run", "tiny", "--model", "X=laboratory:Blobs"],
    "the protocol has a row of that name": ["run", "tiny", "--model", "Slow=laboratory:Sketch"],
    "Mute.log_weights(x, 3) has shape (2,); expected (3, 2)": ["check-model", "laboratory:Mute"],
    "unknown model 'gmn'; did you mean 'gnm'": ["check-model", "gmn"],
    "expected MODULE:CLASS": ["run", "tiny", "--model", "X=my_lab.grid"],
    r"one inside a name is written \,": ["run", "dmvae_objectives", "--models", "DM-VAE, γ=0"],
    "'Two\\rlines'": ["run", "tiny", "--model", "Two\rlines=laboratory:Sketch"],
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_gets_one_sentence_and_exit_code_3(
    message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*BAD[message], "--root", str(tmp_path)]) == 3
    out, err = capsys.readouterr()
    assert message in err
    assert err.startswith("reprise: ")
    assert err.count("\n") == 1
    assert out == "" or BAD[message][0] == "check-model"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run", "tiny", "--tier", "huge"],
        ["run", "tiny", "--budget", "soon"],
        ["run", "tiny", "--seeds", "0"],
        ["run", "tiny", "--stall", "0s"],
        ["run", "tiny", "--models", ""],  # a shell variable that is not set
        ["run", "tiny", "--datasets", " , "],
        ["noise", "tiny", "--sources", ""],
        ["run", "tiny", "--device", "tpu"],
        ["dance"],
    ],
)
def test_a_command_that_cannot_be_read_exits_with_3(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 3
    assert capsys.readouterr().err.count("\n") == 1


def _parsers() -> dict[str, argparse.ArgumentParser]:
    (commands,) = (
        action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return dict(commands.choices)


@pytest.mark.parametrize("command", _parsers())
def test_the_beginning_of_an_option_is_not_the_option(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--seed 5` would be `--seeds 5`, five times the work and another row."""
    known = [name for name in _parsers()[command]._option_string_actions if name[:2] == "--"]
    for option in known:
        begun = {option[:length] for length in range(3, len(option))} - set(known)
        for begin in begun:
            for words in ([begin, "5"], [f"{begin}=5"], ["--root", "x", begin]):
                with pytest.raises(SystemExit) as stopped:
                    cli.main([command, *words])
                assert stopped.value.code == 3
                err = capsys.readouterr().err
                assert f"unknown option {begin!r}" in err
                assert err.count("\n") == 1


def test_a_mistyped_option_is_told_with_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words, meant in (
        (["run", "tiny", "--seed", "5"], "--seeds"),
        (["run", "tiny", "--metric=Bound"], "--metrics"),
        (["check", "--agianst", "x"], "--against"),  # before what is required and lacks
    ):
        with pytest.raises(SystemExit):
            cli.main(words)
        assert f"did you mean {meant!r}?" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cli.main(["run", "tiny", "--root", str(tmp_path / "file")]) == 3
    err = capsys.readouterr().err
    assert f"cannot write {tmp_path / 'file'}" in err
    assert "--root" in err


def test_what_cannot_be_written_is_told_with_what_would_move_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRISE_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "file").touch()
    for where, named_by, remedy in (
        ("file/results.csv", "", "--root"),
        ("file/cache/judge.npz", "", "REPRISE_CACHE"),
        ("file/found.json", "--json", "--json"),
    ):
        with pytest.raises(UsageError, match=f"another folder with {remedy} or"):
            write_bytes(tmp_path / where, b"", named_by)


@pytest.mark.parametrize("command", ["list", "show tiny", "run tiny"])
def test_what_the_system_refuses_is_one_sentence_too(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that no file system takes; where a person sees a traceback, they take it for a fault of ours."""
    refused = tmp_path / ("x" * 300)
    assert cli.main([*command.split(), "--root", str(refused)]) == 3
    err = capsys.readouterr().err
    assert err.startswith("reprise: ")
    assert str(refused) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("encoding", "letter"), [("latin-1", r"\u2014"), ("utf-8", "—")])
def test_a_terminal_that_lacks_a_letter_shows_its_number(
    encoding: str, letter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dashes, ± and τ stand in what is printed, whatever the locale."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding=encoding))
    assert cli.main(["show", "gnm_supp_table3", "--root", str(tmp_path)]) == 0
    sys.stdout.flush()
    assert letter in shown.getvalue().decode(encoding)


def test_a_damaged_results_file_is_named_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results" / "demo" / "tiny.csv"
    path.parent.mkdir(parents=True)
    path.write_text("protocol,tier\ntiny\n")
    assert cli.main(["run", "tiny", "--root", str(tmp_path)]) == 3
    assert "tiny.csv, line 1" in capsys.readouterr().err
    assert path.read_text() == "protocol,tier\ntiny\n"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("40m", 2400), ("2h", 7200), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert as_seconds(text) == seconds


def test_who_asks_for_another_precision_is_told_what_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = (("training.steps", "5"),)
    measure(
        Request("tiny", "demo", ("Sketch",), (), ("Bound",), changes=steps), Workspace(tmp_path)
    )
    said = "tiny: 1 cell already trained in fp32, not in bf16"
    words = ["run", "tiny", "--models", "Sketch", "--metrics", "Bound", "--set", "training.steps=5"]
    for precision, told in (
        ([], False),
        (["--precision", "fp32"], False),
        (["--precision", "bf16"], True),
    ):
        assert cli.main([*words, *precision, "--root", str(tmp_path)]) == 0
        assert (said in capsys.readouterr().err) == told


def test_a_list_says_how_much_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in protocols.names())
    assert "0/42" in out


def test_listing_starts_in_a_blink(tmp_path: Path) -> None:
    import subprocess

    script = "import sys, reprise.cli; sys.exit(reprise.cli.main(['list']))"
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, cwd=tmp_path
        )
        times.append(time.perf_counter() - began)
    # Half a second on an idle machine; torch alone takes more than one. Here the machine may be busy.
    assert min(times) < 2.0


def _one_row(root: Path, value: float, tier: str = "demo") -> Path:
    """A results file of GNM's parameter counts, as a run would leave it."""
    path = root / "results" / tier / "gnm_supp_table3.csv"
    row = ResultRow(
        protocol="gnm_supp_table3", tier=tier, model="GNM", train="scenes(rule='mnist4')",
        dataset="MNIST-4", metric="Parameters", dialect="exact", value=value, n=1, better="neither",
    )  # fmt: skip
    results.write(path, [row], ResultRow)
    return path


def test_the_report_is_printed_and_its_files_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _one_row(tmp_path, 2_930_708)
    print_report(Workspace(tmp_path), "demo", "gnm_supp_table3")
    out = capsys.readouterr().out
    assert "GNM" in out
    printed = [Path(line) for line in out.splitlines() if line.startswith(str(tmp_path))]
    assert {".csv", ".md", ".html", ".pdf"} <= {path.suffix for path in printed}
    assert all(path.exists() for path in printed)


def test_a_damaged_file_of_another_tier_stops_nobody_who_named_a_tier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who names none is told: the damaged file may be of the largest tier that was measured."""
    _one_row(tmp_path, 2_930_708)
    damaged = _one_row(tmp_path, 2_930_708, "paper")
    damaged.write_text(damaged.read_text() + "and a half")
    name, root = "gnm_supp_table3", ["--root", str(tmp_path)]
    for words, code in ((["show", name], 0), (["bundle", name], 3), (["label", "export", name], 3)):
        assert cli.main([*words, *root]) == 3
        assert str(damaged) in capsys.readouterr().err
        assert cli.main([*words, "--tier", "mini", *root]) == code  # of which there is nothing
        assert str(damaged) not in capsys.readouterr().err


def test_the_tier_that_is_not_named_is_the_largest_with_rows(tmp_path: Path) -> None:
    place, name = Workspace(tmp_path), "gnm_supp_table3"
    assert tier_of(None, place, name) == "demo"
    for tier in ("demo", "paper", "mini"):
        _one_row(tmp_path, 2_930_708, tier)
    assert tier_of(None, place, name) == "paper"
    assert tier_of("mini", place, name) == "mini"
    place.results("paper", name).unlink()
    assert tier_of(None, place, name) == "mini"


def test_check_exits_with_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _one_row(tmp_path / "before", 2_930_708)
    for value, code in ((2_930_708, 0), (2_930_709, 1)):
        _one_row(tmp_path / "now", value)
        arguments = ["check", "--root", str(tmp_path / "now"), "--against", str(before)]
        assert cli.main(arguments) == code
    assert "REGRESSED" in capsys.readouterr().out
    assert cli.main(["check", "--against", str(tmp_path / "nowhere")]) == 3
    assert cli.main(["compare", str(before), "nothing", "--root", str(tmp_path / "now")]) == 3
    assert cli.main(["compare", str(before), "demo:GNM", "--root", str(tmp_path / "now")]) == 0


def test_check_prints_the_verdicts_of_the_rows_that_it_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of --current, whatever lies below --root: the published 2.9M there, three parameters here."""
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for folder, value in ((right, 2_930_708), (wrong, 3), (tmp_path / "before", 3)):
        _one_row(folder, value, "paper")
    against = ["check", "--against", str(tmp_path / "before")]
    for words, said in (
        (
            ["--root", str(right), "--current", str(wrong)],
            "0 of 12 published cells equivalent, 1 d",
        ),
        (["--root", str(wrong), "--current", str(right)], "1 of 12 published cells equivalent, 11"),
        (["--root", str(right)], "1 of 12 published cells equivalent, 11"),
    ):
        assert cli.main([*against, *words]) == (0 if str(wrong) == words[-1] else 1)
        assert said in capsys.readouterr().out


def test_check_does_not_call_it_holding_when_a_file_is_compared_with_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows of a clone are those that were committed; a copy of them elsewhere is another matter."""
    file, copy = _one_row(tmp_path, 2_930_708), _one_row(tmp_path / "copy", 2_930_708)
    results = tmp_path / "results"
    for against in (file, file.parent, results):
        assert cli.main(["check", "--root", str(tmp_path), "--against", str(against)]) == 3
        assert "compared with itself" in capsys.readouterr().err
    assert cli.main(["check", "--current", str(file), "--against", str(results)]) == 3
    assert cli.main(["check", "--root", str(tmp_path), "--against", str(copy.parent)]) == 0


def test_of_several_protocols_each_makes_what_it_has_of_the_labels_that_were_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def asked(*words: str) -> dict[str, tuple[str, ...]]:
        arguments = cli.parser().parse_args(["run", "gnm_presence", "gnm_detections", *words])
        found = run.requests_of(arguments, run.protocols_asked(arguments))
        return {request.protocol: request.models for request in found}

    assert asked() == {"gnm_presence": (), "gnm_detections": ()}
    both = asked("--models", "GNM,SPACE")
    assert both == {"gnm_presence": ("GNM",), "gnm_detections": ("GNM", "SPACE")}
    assert asked("--models", "SPACE") == {"gnm_detections": ("SPACE",)}
    assert "left out, having no models of those names: gnm_presence\n" in capsys.readouterr().err
    with pytest.raises(UsageError, match="unknown model 'SPAC'; did you mean 'SPACE'"):
        asked("--models", "SPAC")
    with pytest.raises(UsageError, match="unknown metric 'Found'; known: 'Detections'"):
        asked(
            "--models", "SPACE", "--metrics", "Found"
        )  # the one has no SPACE, the other no such number
    mine = asked("--models", "Mine", "--model", "Mine=gnm")
    assert mine == {"gnm_presence": ("Mine",), "gnm_detections": ("Mine",)}


def test_of_several_protocols_each_is_changed_where_it_has_the_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Figure 2 has samples and no particles; a key that none of the protocols has is still an error."""

    def asked(*words: str) -> dict[str, tuple[tuple[str, str], ...]]:
        only = ["--models", "VAE", "--datasets", "MNIST-4"]
        arguments = cli.parser().parse_args(["run", "gnm_table1", "gnm_figure2", *only, *words])
        found = run.requests_of(arguments, run.protocols_asked(arguments))
        return {request.protocol: request.changes for request in found}

    particles, steps = ("metric.particles", "2"), ("training.steps", "9")
    both = asked("--set", "metric.particles=2", "--set", "training.steps=9")
    assert both == {"gnm_table1": (particles, steps), "gnm_figure2": (steps,)}
    err = capsys.readouterr().err
    assert err == "--set metric.particles changes nothing of: gnm_figure2\n"
    assert asked("--set", "training.steps=9") == dict.fromkeys(both, (steps,))
    assert capsys.readouterr().err == ""
    with pytest.raises(UsageError, match=r"'metric.particle'; did you mean 'metric.particles'"):
        asked("--set", "metric.particle=2")


def test_a_report_of_what_has_no_results_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _one_row(tmp_path, 2_930_708)
    for tier in ([], ["--tier", "demo"]):
        asked = ["report", "gnm_supp_table3", "gnm_figure2", *tier, "--root", str(tmp_path)]
        assert cli.main(asked) == 3
        out, err = capsys.readouterr()
        assert "gnm_figure2.csv does not exist; `run_protocol gnm_figure2 --tier demo`" in err
        assert out == ""
    assert not (tmp_path / "reports").exists()
    assert cli.main(["report", "gnm_supp_table3", "--root", str(tmp_path)]) == 0


def test_all_of_a_paper_are_its_protocols_and_no_others() -> None:
    asked = run.protocols_asked(
        cli.parser().parse_args(["run", "tiny", "gnm_table1", "--all", "gnm"])
    )
    papers = [name for name in protocols.names() if name.startswith("gnm_")]
    assert asked == ["tiny", "gnm_table1", *(name for name in papers if name != "gnm_table1")]


def test_make_demo_runs_every_protocol_of_the_paper_at_tier_demo() -> None:
    recipe = (Path(__file__).parent.parent / "Makefile").read_text().partition("\ndemo:")[2]
    command = recipe.splitlines()[1].split()
    assert command[0] == "$(BIN)/run_protocol"
    arguments = cli.parser().parse_args(["run", *command[1:]])
    assert arguments.tier == "demo"
    assert set(run.protocols_asked(arguments)) == {
        n for n in protocols.names() if n.startswith("gnm_")
    }
