"""What a GPU would refuse is found without one: on_cuda.py, on a device that is pretended, or on a real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from . import on_cuda

HERE = Path(__file__).parent
TORCH = Path(torch.__file__).parent
REAL = torch.cuda.is_available()
SPECS = [str(spec) for spec in on_cuda.specs()]
pytestmark = pytest.mark.timeout(900)  # the first test waits for every model to have been tried


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """[the pretended device, compiled], or nothing where there is a real one."""
    if REAL:
        return []
    if torch.version.cuda:
        pytest.skip("this build of torch has CUDA and finds no device: it cannot be pretended")
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if not compiler:
        pytest.skip("no C++ compiler; Debian: apt-get install g++")
    made = tmp_path_factory.mktemp("cuda") / "pretended_cuda.so"
    include = [f"-I{TORCH / 'include'}"]
    link = [f"-L{TORCH / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{TORCH / 'lib'}"]
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-std=c++20",
        *include,
        str(HERE / "pretended_cuda.cpp"),
        "-o",
        str(made),
    ]
    subprocess.run([*command, *link], check=True)
    return [str(made)]


@pytest.fixture(scope="module", params=["fp32", "bf16"] if REAL else ["bf16"])
def found(request: pytest.FixtureRequest, library: list[str]) -> dict[str, list[str]]:
    """What went wrong, by model."""
    command = [sys.executable, "-W", "ignore", "-m", "reprise.tests.on_cuda", request.param]
    visited = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run(
        [*command, *library], capture_output=True, text=True, timeout=800, env=visited
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("spec", SPECS)
def test_a_model_trains_and_answers_on_cuda_and_its_step_never_waits(
    spec: str, found: dict[str, list[str]]
) -> None:
    assert found[spec] == []


@pytest.mark.parametrize("fault", on_cuda.FAULTS)
def test_what_goes_wrong_is_said(fault: str, found: dict[str, list[str]]) -> None:
    said = found[str(on_cuda.broken(fault))]
    assert said
    assert all(re.search(on_cuda.FAULTS[fault], line) for line in said), said
