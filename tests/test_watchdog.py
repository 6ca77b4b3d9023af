"""A run of the tests that is killed, or stopped by Ctrl-C, leaves nothing of what it started."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.processes import ROOT, eventually
from tests.support.watchdog import MARK, marked

pytestmark = pytest.mark.servers

# Starts what its fixtures start, and a browser if it is to; says what that is, and waits to be killed.
INNER = """
import asyncio, json, os, pathlib
import psutil, pytest
from dispatcher.reports.pdf import Engine
from tests.support.processes import JsClient
from tests.support.watchdog import MARK

pytestmark = pytest.mark.servers

async def browse(say):
    async with Engine(at_once=1) as engine:
        await engine.warm()
        say()
        await asyncio.Event().wait()

def test_is_killed(js_clients, tmp_path_factory, {fixtures}):
    def say():
        below = psutil.Process().children(recursive=True)
        started = [(one.pid, " ".join(one.cmdline())) for one in below if "watchdog" not in str(one.cmdline())]
        folder = str(tmp_path_factory.getbasetemp())
        said = {{"pid": os.getpid(), "mark": os.environ[MARK], "folder": folder, "started": started}}
        pathlib.Path({up!r} + ".new").write_text(json.dumps(said))
        pathlib.Path({up!r} + ".new").rename({up!r})
    with JsClient(js_clients):
        if {browser}:
            asyncio.run(browse(say))
        else:
            say()
            asyncio.run(asyncio.Event().wait())
"""
SERVERS = {"postgres -D": "PostgreSQL", "client.mjs": "Node"}
ALL_SERVERS = SERVERS | {
    "prefect.server": "Prefect's server",
    "deployments.cli api": "the API",
    "--headless": "Chromium",
}


@dataclass
class Run:
    """A run of pytest whose only test waits."""

    process: "subprocess.Popen[bytes]"
    worker: int
    """The process that runs the test."""
    mark: str
    folder: Path
    started: list[psutil.Process]

    def left(self) -> list[psutil.Process]:
        """What of it is still there."""
        alive = [one for one in self.started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        return alive + list(marked(self.mark, str(self.folder)))


@contextmanager
def started_run(folder: Path, *options: str, everything: bool = False) -> Iterator[Run]:
    """The run, once all is started; ``everything`` for Prefect's server, the API and a browser too."""
    up, fixtures = folder / "up", "postgres, api, prefect" if everything else "postgres"
    (folder / "test_inner.py").write_text(INNER.format(up=str(up), fixtures=fixtures, browser=everything))
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *options]
    ours = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), str(folder / "test_inner.py")]
    with (folder / "log").open("wb") as out:
        process = subprocess.Popen([*command, *ours], cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
    try:
        log = folder / "log"
        eventually(lambda: up.exists() or process.poll() is not None, "all is started", seconds=300)
        assert up.exists(), log.read_text()
        said = json.loads(up.read_text())
        for sign, name in (ALL_SERVERS if everything else SERVERS).items():
            assert any(sign in line for _, line in said["started"]), f"{name} was not started: {said['started']}"
        started = [psutil.Process(pid) for pid, _ in said["started"]]
        yield Run(process, said["pid"], said["mark"], Path(said["folder"]), started)
    finally:
        process.kill()
        process.wait(30)


def test_a_run_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """PostgreSQL, which runs under another account when we are root, Prefect's server, the API, Chromium and Node."""
    with started_run(tmp_path, everything=True) as run:
        assert run.process.pid == run.worker
        os.kill(run.worker, signal.SIGKILL)
        eventually(lambda: not run.left(), "nothing of it is left")
        eventually(lambda: not run.folder.exists(), "its folder is removed")


def test_a_worker_that_is_killed_leaves_nothing_and_the_run_ends(tmp_path: Path) -> None:
    with started_run(tmp_path, "-n", "1") as run:
        assert run.process.pid != run.worker
        os.kill(run.worker, signal.SIGKILL)
        eventually(lambda: not run.left(), "nothing of it is left")
        assert run.process.wait(120) == pytest.ExitCode.TESTS_FAILED
        assert "crashed" in (tmp_path / "log").read_text()


def test_a_run_of_several_processes_that_is_killed_leaves_neither_them_nor_theirs(tmp_path: Path) -> None:
    with started_run(tmp_path, "-n", "1") as run:
        worker = psutil.Process(run.worker)
        os.kill(run.process.pid, signal.SIGKILL)
        eventually(lambda: not worker.is_running(), "the worker is gone")
        eventually(lambda: not run.left(), "nothing of it is left")
        eventually(lambda: not run.folder.parent.exists(), "the run's folder is removed")


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """As a terminal sends it: to every process of the run that has not left its group."""
    with started_run(tmp_path) as run:
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.process.wait(120) == pytest.ExitCode.INTERRUPTED
        eventually(lambda: not run.left(), "nothing of it is left")
        eventually(lambda: not run.folder.exists(), "its folder is removed")


def test_without_the_mark_a_process_is_left_alone(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as stranger:
        assert stranger.pid not in {one.pid for one in marked(os.environ[MARK], str(tmp_path))}
    with subprocess.Popen(command, stdin=subprocess.PIPE) as ours:
        assert ours.pid in {one.pid for one in marked(os.environ[MARK], str(tmp_path))}
