"""A real Slurm controller and node on loopback: runs that are tasks of a queue end as they would have here.

Needs Debian's packages slurmctld, slurmd, slurm-client and munge (`.ci/run` installs them), and submitit.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reprise.core.workspace import Workspace
from reprise.launch import cells, slurm
from reprise.launch.display import Display
from reprise.launch.plan import Request, plan

from . import driving
from .driving import HERE, call, started, statuses, wait

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scontrol", "scancel")
# Slow enough to be interfered with; one thread, as workers have here.
SLOW = ("run", "tiny", "--models", "Slow", "--metrics", "Bound,Bound-4", "--set", "model.slow=0.04")
ONE_CORE = ("--executor", "slurm", "--slurm", "cpus_per_task=1")
QUEUE = (*ONE_CORE, "--time", "10m", "--slurm", "mem_gb=2")  # both given: nothing is timed
OFTEN = ("--checkpoint-every", "0.4s")
CONFIGURATION = """
ClusterName=reprise
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=20
SlurmdTimeout=4
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def table(root: Path) -> list[dict[str, str]]:
    """The rows but for timing, and for the state of the repository, which somebody may be working in."""
    mutable = ("commit", "dirty", "trained_commit")
    return [
        {key: value for key, value in row.items() if key not in mutable}
        for row in driving.table(root)
    ]


@dataclass
class Cluster:
    """One controller and one node."""

    folder: Path
    environment: dict[str, str]
    daemons: dict[str, subprocess.Popen[bytes]]
    began: float
    crashes: int = 0  # of the controller, which was started again each time

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def start_node(self) -> None:
        self.start("node", "slurmd", "-D", "-N", socket.gethostname().partition(".")[0])

    @contextlib.contextmanager
    def with_controller(self) -> Iterator[None]:
        """A controller that is started again when it crashes, as systemd would do (Restart=on-failure).

        Debian 12's (22.05.8) has been seen to die of a null pointer (kernel log: "srvcn: segfault at 0 in
        slurmctld-wlm"), twice, during the test of a node that dies. It reads its state from the disk and goes on;
        having lost what it did last, it may start a task twice, and drains the node ("Duplicate jobid"). Then the node
        is brought back, as an operator would.
        """
        over = threading.Event()

        def supervise() -> None:
            while not over.wait(0.2 if not self.crashes else 1.0):
                if self.daemons["controller"].poll() is not None:
                    self.crashes += 1
                    self.start("controller", "slurmctld", "-D")
                elif self.crashes and "drain" in self.told("sinfo", "--noheader", "--format=%T"):
                    self.told("scontrol", "update", "nodename=ALL", "state=resume")

        self.start("controller", "slurmctld", "-D")
        watcher = threading.Thread(target=supervise)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self.daemons["controller"].kill()
            self.daemons["controller"].wait()

    def kill_node(self) -> None:
        """As when the power fails: the daemon, those that watch the tasks, and the tasks."""
        gone = [self.daemons["node"].pid, *self.tasks()]
        # All at the same moment: none may tell the controller how another one died.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in gone:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.daemons["node"].wait()

    def tasks(self) -> list[int]:
        """The processes of tasks on the node, which know this configuration, and the daemons that watch over them."""
        found = set()
        mark = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if mark in variables and any(v.startswith(b"SLURM_JOB_ID=") for v in variables):
                    found.add(int(entry.name))
        # slurmstepd hides its variables behind its title, `slurmstepd: [2.batch]`
        titles = [f"slurmstepd: [{task}." for task, _ in self.queue()]
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                title = (entry / "cmdline").read_bytes().decode(errors="replace")
                if title.startswith(tuple(titles)) and entry.stat().st_ctime > self.began:
                    found.add(int(entry.name))
        return sorted(found)

    def told(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    def queue(self) -> list[tuple[str, str]]:
        """(id, state) of every task in the queue."""
        lines = self.told("squeue", "--noheader", "--format=%i %T").splitlines()
        return [(line.split()[0], line.split()[1]) for line in lines]

    def start_at_once(self, task: str) -> None:
        """Let a requeued task run. Slurm has it wait for two minutes from when it is done with the try before, which
        may be after it has called it pending: told too early, it forgets. And a node that was told to end a task
        refuses it within the same second ("Job credential revoked"), which only a test is quick enough to ask.
        """
        time.sleep(1.5)

        def waits_no_more() -> bool:
            if (task, "PENDING") not in self.queue():
                return True
            self.told("scontrol", "update", f"JobId={task}", "StartTime=now")
            time.sleep(1)
            return False

        assert until(waits_no_more)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: Callable[[], bool], seconds: float = 150.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.1)
    return False


def absent(what: str) -> None:
    """Skip, or fail where REPRISE_SLURM=required says that the queue has to be there."""
    if os.environ.get("REPRISE_SLURM") == "required":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking:
        absent(
            f"there is no {lacking[0]} here: apt-get install slurmctld slurmd slurm-client munge"
        )
    if importlib.util.find_spec("submitit") is None:
        absent("submitit is not installed: pip install 'reprise[slurm]'")
    if os.geteuid() != 0:
        absent("a Slurm node that starts tasks wants root")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o755)
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(
        host=host, folder=folder, user="root", controller=free_port(), node=free_port()
    )
    (folder / "slurm.conf").write_text(text)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), environment.get("PYTHONPATH", "")])
    made = Cluster(folder, environment, {}, time.time())
    munge = folder / "munge"
    made.start(
        "munge", "munged", "--foreground", "--force", f"--key-file={munge / 'key'}",
        f"--socket={munge / 'socket'}", f"--pid-file={munge / 'pid'}",
        f"--log-file={munge / 'log'}", f"--seed-file={munge / 'seed'}",
    )  # fmt: skip
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PYTHONPATH")}
    os.environ.update({name: environment[name] for name in before})
    try:
        assert until((munge / "socket").exists), (folder / "munge.out").read_text()
        with made.with_controller():
            try:
                made.start_node()
                ready = until(lambda: "idle" in made.told("sinfo", "--noheader", "--format=%T"))
                assert ready, "\n".join(path.read_text() for path in folder.glob("*.out"))
                yield made
            finally:
                made.told("scancel", "--user=root")
                made.kill_node()
        assert made.crashes < 5, "the controller does not stay up"
    finally:
        made.daemons["munge"].kill()
        made.daemons["munge"].wait()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(autouse=True)
def _nothing_left(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.told("scancel", "--user=root")
    assert until(lambda: cluster.queue() == [])


pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted call leaves behind, without a queue and on one thread."""
    root = tmp_path_factory.mktemp("whole")
    code, _, err = call(root, *SLOW, "--workers", "64")
    assert code == 0, err
    return root


def running(cluster: Cluster, root: Path) -> Callable[[], bool]:
    """Whether a run has a checkpoint, and goes on."""
    seen = {path.stat().st_mtime_ns for path in root.glob("runs/*/checkpoint.pt")}
    return lambda: any(
        path.stat().st_mtime_ns not in seen for path in root.glob("runs/*/checkpoint.pt")
    )


def test_tasks_of_a_queue_give_the_rows_of_this_machine(cluster: Cluster, tmp_path: Path) -> None:
    """A run is timed, submitted and collected; a cell that kills its task costs nobody else's."""
    asked = ("run", "tiny", "--models", "Sketch", "--metrics", "Bound,Raises,Dies,Needy")
    here, there = tmp_path / "here", tmp_path / "there"
    assert call(here, *asked, "--workers", "64")[0] == 1
    code, _, err = call(there, *asked, "--executor", "slurm", "--slurm", "cpus_per_task=1")
    assert code == 1, err
    assert "timed 1 of 1" in err
    assert table(there) == table(here)
    assert statuses(there)["Sketch", "Dies"] == "failed"
    (script,) = there.glob("runs/*/slurm/*_submission.sh")
    text = script.read_text()
    assert "--time=31" in text  # a second of training and a half, and half an hour
    assert "--mem=" in text
    assert "gpu" not in text
    assert cluster.queue() == []


def test_a_cell_counts_once_however_long_its_task_takes_to_end(tmp_path: Path) -> None:
    """Between the last cell and the end of its task the queue is looked at again and again."""
    place = Workspace(tmp_path)
    todo = plan(Request("gnm_table1", "demo", ("VAE",), ("MNIST-4",)), place)
    (job,) = todo.jobs
    for planned in job.cells:
        finished = {"status": "ok", "value": 1.0, "dialect": planned.row.dialect}
        cells.write(place, job.run.id, planned.id, finished)
    display = Display({job.run.id: ("VAE", 300, len(job.cells))}, 1, io.StringIO())
    display.start(job.run.id)
    one = slurm._Watched(job, "1", ours=True)
    changes = [slurm._look(one, place, display, {}, slurm._Queue(place)) for _ in range(3)]
    assert changes == [True, False, False]
    assert display.cells_done == len(job.cells)


@pytest.mark.parametrize(
    ("given", "asked_for"),
    [((), ["mem"]), (("--slurm", "mem_gb=2"), ["mem"]), (("--slurm", "mem-per-cpu=900M"), ["mem-per-cpu"])],
)  # fmt: skip
def test_time_that_is_given_leaves_the_memory_to_the_estimate_unless_it_is_given_too(
    cluster: Cluster, tmp_path: Path, given: tuple[str, ...], asked_for: list[str]
) -> None:
    """Without a request for memory the first task would have its node to itself."""
    asked = ("run", "tiny", "--models", "Sketch", "--metrics", "Bound")
    code, _, err = call(tmp_path, *asked, *ONE_CORE, "--time", "10m", *given)
    assert code == 0, err
    assert ("timed 1 of 1" in err) == (not given)
    (script,) = tmp_path.glob("runs/*/slurm/*_submission.sh")
    text = script.read_text()
    assert "--time=10" in text
    assert re.findall(r"--(mem[\w-]*)=", text) == asked_for


def test_a_node_that_dies_mid_run_costs_no_weight_and_no_row(
    cluster: Cluster, whole: Path, tmp_path: Path
) -> None:
    with started(tmp_path, *SLOW, *QUEUE, *OFTEN) as process:
        wait(process, running(cluster, tmp_path))
        cluster.kill_node()
        down = until(lambda: "down" in cluster.told("sinfo", "--noheader", "--format=%T"))
        assert down
        ((task, state),) = cluster.queue()
        assert state == "PENDING"  # requeued by Slurm
        cluster.start_node()
        cluster.start_at_once(task)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert table(tmp_path) == table(whole)
    assert resumed(tmp_path)


@pytest.mark.parametrize(
    ("code", "state"),
    [("0:15", "KILLED"), ("255:0", "KILLED"), ("1:0", "FAILED"), ("0:9", "FAILED")],
)
def test_who_is_sent_away_or_asks_to_be_requeued_has_not_failed(
    code: str, state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = f"JobId=7 JobState=FAILED Reason=NonZeroExitCode Requeue=1 ExitCode={code} BatchHost=vm"
    monkeypatch.setattr(slurm, "_told", lambda *_: said)
    assert slurm._Queue(Workspace(tmp_path)).ended_as("7") == state


def trains_anew(root: Path) -> Callable[[], bool]:
    """Whether a task trains, now that we ask: its progress has been written since."""
    pattern = "runs/*/slurm/progress.json"
    seen = {path.stat().st_mtime_ns for path in root.glob(pattern)}
    return lambda: any(
        path.stat().st_mtime_ns not in seen and '"train"' in path.read_text()
        for path in root.glob(pattern)
    )


def resumed(root: Path) -> bool:
    """Whether the logs of the run's tasks tell of more than one beginning."""
    logs = [log.read_text() for log in root.glob("runs/*/slurm/*_0_log.out")]
    return sum(log.count("Starting with") for log in logs) > 1


def test_requeued_and_out_of_time_a_run_goes_on_from_its_checkpoint(
    cluster: Cluster, whole: Path, tmp_path: Path
) -> None:
    with started(tmp_path, *SLOW, *QUEUE, "--checkpoint-every", "1h") as process:
        for command in (("scontrol", "requeue"), ("scancel", "--signal=USR2")):
            assert until(lambda: [state for _, state in cluster.queue()] == ["RUNNING"])
            ((task, _),) = cluster.queue()
            assert until(trains_anew(tmp_path))
            cluster.told(*command, task)
            assert until(lambda: [state for _, state in cluster.queue()] == ["PENDING"])
            assert list(tmp_path.glob("runs/*/checkpoint.pt"))  # it stopped at one
            cluster.start_at_once(task)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert table(tmp_path) == table(whole)


def test_leaving_lets_tasks_go_on_and_the_same_command_finds_them(
    cluster: Cluster, whole: Path, tmp_path: Path
) -> None:
    with started(tmp_path, *SLOW, *QUEUE, *OFTEN) as process:
        wait(process, running(cluster, tmp_path))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=150)
    assert process.returncode == 130, err
    assert "1 tasks stay in the queue" in err
    ((task, _),) = cluster.queue()
    cluster.told("scontrol", "requeuehold", task)  # it must not end before we are back
    assert until(lambda: [state for _, state in cluster.queue()] == ["PENDING"])
    with started(tmp_path, *SLOW, *QUEUE) as process:
        assert process.stderr is not None
        assert any(
            f"is in the queue already, as Slurm job {task}" in line for line in process.stderr
        )
        cluster.told("scontrol", "release", task)
        cluster.start_at_once(task)
        _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert len(list(tmp_path.glob("runs/*/slurm/*_submission.sh"))) == 1
    assert table(tmp_path) == table(whole)


def test_a_second_ctrl_c_cancels_the_tasks_at_a_checkpoint(
    cluster: Cluster, tmp_path: Path
) -> None:
    endless = (*SLOW[:-1], "training.steps=100000", "--set", "model.slow=0.04")
    with started(tmp_path, *endless, *QUEUE, "--checkpoint-every", "1h") as process:
        assert until(lambda: bool(list(tmp_path.glob("runs/*/slurm/progress.json"))))
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=150)
    assert process.returncode == 130, err
    assert "1 tasks cancelled" in err
    assert until(lambda: cluster.queue() == [])
    assert list(tmp_path.glob("runs/*/checkpoint.pt"))


def test_what_the_queue_refuses_is_told_in_one_sentence(cluster: Cluster, tmp_path: Path) -> None:
    code, _, err = call(tmp_path, *SLOW, *QUEUE, "--partition", "nowhere")
    assert code == 3
    assert err.splitlines()[-1].startswith("reprise: Slurm refused the task of sketch-blobs-s0-")
    assert "nvalid partition" in err.splitlines()[-1]
    assert "Traceback" not in err
