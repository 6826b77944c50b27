"""Runs on a Ray cluster of three nodes, started as docs/cluster.md says; what dies changes no record."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import SUPPORT, marked
from support.disturbed import PER_UNIT, TASKS, Run, assert_sound, assert_whole, environment, undisturbed
from support.forked_runs import DEADLINE, TESTS, Forker
from support.verdict import Reference, contents

pytestmark = pytest.mark.cluster
pytest.importorskip("ray")
LIMIT = 10  # seconds of silence
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text()
COMMANDS = [line for block in re.findall(r"^```run\n(.*?)^```", PAGE, re.S | re.M) for line in block.splitlines()]
SECRET = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # for whoever talks to the cluster
SMALL = "--memory=5000000000 --object-store-memory=100000000"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass
class RayNodes:
    """The cluster: its address, and each node's raylet."""

    address: str
    environment: dict[str, str]
    raylets: list[int]

    def processes(self, name: str = "") -> list[int]:
        """Ids of the cluster's living processes whose command has this name."""
        return [
            pid
            for pid, command in marked.processes(self.environment).items()
            if Path(command.partition(" ")[0]).name.startswith(name) and alive(pid)
        ]


def alive(pid: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def parent(pid: int) -> int:
    return int(re.findall(r"^PPid:\t(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.M)[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


STUBS = {  # of Slurm, for a job on this machine alone; and `ray stop` would end every cluster here
    "scontrol": "echo this-machine",
    "getent": "echo 127.0.0.1",
    "srun": 'while [ "$1" != ray ]; do shift; done; exec "$@"',
    "ray": f'[ "$1" = stop ] || exec {Path(sys.executable).parent}/ray "$@"',
    "w2s": f'exec {sys.executable} -m benchmark.cli "$@"',
}


def test_the_pages_slurm_script_runs(tmp_path: Path) -> None:
    """As the page has it but for the suite, the folders and the GPUs. First of all, as it wants no other cluster."""
    (script,) = re.findall(r"^```sbatch\n(.*?)^```", PAGE, re.S | re.M)
    small = "smoke --tasks digits-to-uci --methods naive,ensemble,ground_truth --seeds 1 --conditions ood"
    for there, here in (
        ("6379", str(free_port())),
        ("--suite paper", f"--suite {small}"),
        (" --device cuda", ""),
        ("/shared/", f"{tmp_path}/"),
        ("ray symmetric-run", f"ray symmetric-run {SMALL} --include-dashboard=false"),
    ):
        assert there in script
        script = script.replace(there, here)
    (tmp_path / "bin").mkdir()
    for name, line in STUBS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = for_ray(tmp_path)
    job = {"SLURM_JOB_NODELIST": "this-machine", "SLURM_JOB_NUM_NODES": "1"}
    job |= {"SLURM_CPUS_PER_TASK": "1", "SLURM_GPUS_PER_TASK": "0"}
    environment |= {**job, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"}
    try:
        done = subprocess.run(
            ["bash"], input=script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=DEADLINE
        )
    finally:
        for pid in marked.processes(environment):
            os.kill(pid, signal.SIGKILL)
    if "Ray is already started on this node" in done.stderr:
        pytest.skip("there is a Ray cluster on this machine")
    assert f"1 units run, results in {tmp_path}/w2s-results/paper" in done.stdout, (done.stdout, done.stderr)
    assert done.returncode == 0


def for_ray(folder: Path) -> dict[str, str]:
    """The environment of a cluster, by which its processes are known; with a cache of its own in a folder."""
    own = {**marked.token(), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", **SECRET}
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, **own, "W2S_CACHE": str(folder / "cache of the nodes")}


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[RayNodes]:
    """Three nodes of one core each, by the page's commands."""
    environment = for_ray(folder)
    port = free_port()
    cluster = RayNodes(f"127.0.0.1:{port}", environment, [])
    try:
        for command in COMMANDS:
            if command.startswith("ray start"):
                call = f"{command} {SMALL}{' --include-dashboard=false' * ('--head' in command)}"
                call = call.replace("6379", str(port))
                begun = subprocess.run(shlex.split(call), env=environment, capture_output=True, timeout=DEADLINE)
                assert begun.returncode == 0, (call, begun.stdout, begun.stderr)
                cluster.raylets += [pid for pid in cluster.processes("raylet") if pid not in cluster.raylets]
        assert len(cluster.raylets) == 3
        yield cluster
    finally:
        for pid in cluster.processes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def forker(folder: Path) -> Iterator[Forker]:
    """Who starts runs."""
    (folder / "local").mkdir()
    forker = Forker(folder / "local", environment(folder / "local") | SECRET)
    yield forker
    forker.close()


@pytest.fixture(scope="module")
def reference(forker: Forker) -> Reference:
    """What a run in one process leaves."""
    return undisturbed(forker, forker.folder)


@pytest.fixture
def on_ray(nodes: RayNodes, forker: Forker, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts runs on the cluster."""
    runs: list[Run] = []

    def begin(hold_from: int | None, *options: str, **more: Any) -> Run:
        cluster = ("--executor", "ray", "--ray-address", nodes.address)
        runs.append(Run(forker, tmp_path, hold_from, *cluster, *options, **more))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


def test_a_stopped_run_leaves_the_cluster_and_the_next_one_survives_the_loss_of_a_worker_and_of_a_node(
    nodes: RayNodes, reference: Reference, on_ray: Callable[..., Run]
) -> None:
    run = on_ray(1)
    run.wait_until_held(at_once=3)
    os.kill(run.process.pid, signal.SIGTERM)
    ended = run.ended()
    assert ended.status == 130, ended
    assert ended.out.splitlines()[-1] == (
        f"stopped: 1 units run, {len(TASKS) - 1} left, results in {run.results}; the same command goes on from there"
    )
    assert assert_sound(run.results, reference) == PER_UNIT
    assert len(nodes.processes("raylet")) == 3

    run = on_ray(0)
    run.wait_until_held(at_once=3)
    run.wait_for(lambda: all(path.read_text() for path in run.held.iterdir()))
    node, workers = nodes.raylets.pop(), [int(path.read_text()) for path in run.held.iterdir()]
    assert [parent(worker) for worker in workers].count(node) == 1
    os.kill(next(worker for worker in workers if parent(worker) != node), signal.SIGKILL)
    os.kill(node, signal.SIGKILL)  # with its worker
    run.release()
    ended = run.ended()
    assert ended.status == 0, ended
    assert ended.out.splitlines()[-1] == f"{len(TASKS) - 1} units run, results in {run.results}"
    assert_whole(run.results, reference)


def test_units_that_die_hang_or_fail_are_named_and_the_rest_is_done(
    reference: Reference, on_ray: Callable[..., Run]
) -> None:
    bad = ("bad-encoder-exits", "bad-supervisor-dies", "bad-supervisor-hangs")
    forks = {"W2S_TEST_WAY": "forks", "W2S_TEST_LINGERS": "1"}
    run = on_ray(None, "--limit", str(LIMIT), tasks=[*bad, *TASKS], environment=forks)
    ended = run.ended()
    assert ended.status == 1, ended
    said = [line for line in ended.out.splitlines() if "printed by a plug-in" not in line]
    assert said[-4] == f"{len(TASKS)} units run, {len(bad)} failed, results in {run.results}", ended
    exits, dies, hangs = sorted(said[-3:])
    assert exits == f"{bad[0]} (ood): encoder 'columns' of task '{bad[0]}': SystemExit: 5"
    assert dies == (
        f"{bad[1]} (ood): its worker died 3 times, last with WorkerCrashedError (killed, or out of memory?)"
    )
    assert hangs == f"{bad[2]} (ood): stopped: it said nothing for more than {LIMIT} seconds (--limit)"
    assert_whole(run.results, reference)


def test_the_pages_commands_run(nodes: RayNodes, tmp_path: Path) -> None:
    """`w2s run` in processes, on Ray on this machine, and on the cluster; on one small task and three methods."""
    small = "--tasks digits-to-uci --methods naive,ensemble,ground_truth --seeds 1 --conditions ood --cache cache"
    commands = [command for command in COMMANDS if command.startswith("w2s run")]
    assert len(commands) == 3
    for number, command in enumerate(commands):
        call = command.replace("127.0.0.1:6379", nodes.address).replace("w2s", f"{sys.executable} -m benchmark.cli", 1)
        begun = time.monotonic()
        done = subprocess.run(
            shlex.split(f"{call} {small} --results {number}"),
            cwd=tmp_path, env=nodes.environment, capture_output=True, text=True, timeout=DEADLINE,
        )  # fmt: skip
        assert done.returncode == 0, (time.monotonic() - begun, done.stdout, done.stderr)
        assert done.stdout.splitlines()[-1] == f"1 units run, results in {number}"
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.parametrize("executor", ["processes", "ray", "ray, cache at an address"])
def test_a_large_domain_is_read_by_all_workers_a_share_each(
    nodes: RayNodes, tmp_path: Path, one_reader: dict[str, bytes], executor: str
) -> None:
    name, _, at_an_address = executor.partition(", ")
    joined = ["--ray-address", nodes.address] if name == "ray" else ["--workers", "2"]
    if at_an_address:
        joined += ["--cache", f"file://{tmp_path}/cache"]
    makers = read_in_chunks(nodes, tmp_path, "--executor", name, *joined)
    assert sorted(chunk for chunk, _ in makers) == CHUNKS, "each chunk was made once"
    assert len({maker for _, maker in makers}) > 1
    assert contents(tmp_path / "results") == one_reader
    assert len(list((tmp_path / "cache").rglob("00000?.safetensors"))) == len(CHUNKS)


CHUNKS = ["0-1024", "1024-2048", "2048-3072", "3072-4000"]


@pytest.fixture(scope="module")
def one_reader(nodes: RayNodes, folder: Path) -> dict[str, bytes]:
    """What one process makes of it."""
    alone = folder / "one reader"
    alone.mkdir()
    makers = read_in_chunks(nodes, alone, "--executor", "local")
    assert sorted(chunk for chunk, _ in makers) == CHUNKS
    return contents(alone / "results")


def read_in_chunks(nodes: RayNodes, folder: Path, *options: str) -> list[tuple[str, str]]:
    """Run the task of streamed_run.py; each chunk and who made it."""
    makers = folder / "makers"
    makers.mkdir()
    asked = ["run", "--plugin", str(SUPPORT / "streamed_run.py"), "--tasks", "read-in-chunks"]
    asked += ["--conditions", "ood", "--methods", "naive,ground_truth", "--seeds", "1", "--suite", "smoke"]
    call = [sys.executable, "-m", "benchmark.cli", *asked, "--results", "results", "--cache", "cache", *options]
    environment = {**nodes.environment, "W2S_TEST_MAKERS": str(makers)}
    done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return [tuple(path.name.rsplit("-", 1)) for path in makers.iterdir()]  # type: ignore[misc]


def test_what_the_page_names_exists() -> None:
    from typer.testing import CliRunner

    from benchmark.cli import app

    options = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "300"}).stdout
    for option in set(re.findall(r"w2s run [^\n]*?(--[a-z-]+)", PAGE)) | {"--limit", "--workers", "--cache"}:
        assert option in options
