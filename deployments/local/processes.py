"""Processes by identity: started so that none outlives us, ended by group and id, never by name."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from deployments.local import state

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None) if LINUX else None


@dataclass(frozen=True)
class User:
    """The account that a process runs as, when not our own."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Kept:
    """What is remembered of a process on disk: enough to know it again, and how it wants to be ended."""

    pid: int
    started: str
    signal: int


async def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    output: IO[bytes],
    dies_by: signal.Signals = signal.SIGTERM,
    user: User | None = None,
) -> asyncio.subprocess.Process:
    """Start a process in its own session, its output in this file; on Linux it gets ``dies_by`` when we die."""
    account = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
    return await asyncio.create_subprocess_exec(
        *command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_follow(dies_by),
        **account,  # type: ignore[arg-type]
    )


def _follow(dies_by: signal.Signals) -> Callable[[], None] | None:
    """What the child does between fork and exec, so that it does not outlive its parent."""
    if _libc is None:
        return None
    libc, parent = _libc, os.getpid()

    def follow() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(dies_by))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return follow


def adopt_orphans() -> None:
    """On Linux, become the parent of what our parts leave behind when they are killed; see ``strays``."""
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap(ours: set[int]) -> None:
    """Bury adopted processes that ended; ``ours`` are waited for elsewhere."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ChildProcessError):
            if child.pid not in ours and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def descendants(pid: int | None = None) -> list[psutil.Process]:
    """Every living process below this one (our own without a pid), each known by its id and start time."""
    try:
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return children


def end_group(pid: int, number: int) -> None:
    """Send a signal to the group that this process leads; nothing when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def end(process: asyncio.subprocess.Process, *, by: int, within: float) -> None:
    """End a process, its group and all its descendants: asked first, killed after ``within`` seconds."""
    below = descendants(process.pid)
    end_group(process.pid, by)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), within)
    end_group(process.pid, signal.SIGKILL)
    await process.wait()
    await end_all(below)


async def end_all(processes: list[psutil.Process], *, ask: float = 0.0) -> None:
    """End these processes by identity: SIGTERM and up to ``ask`` seconds, then SIGKILL."""
    for number, wait in ((signal.SIGTERM, ask), (signal.SIGKILL, 5.0)):
        if wait == 0.0:
            continue
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        await until(lambda: not any(alive(process) for process in processes), wait)


def alive(process: psutil.Process) -> bool:
    """Whether this very process still runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


async def until(true: Callable[[], bool], seconds: float) -> bool:
    """Look at a condition every 50 ms until it is true; False when the time is over first."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not true():
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def started(pid: int) -> str | None:
    """When this process started, as the system tells it; None when there is none. Pid and start are an identity."""
    if LINUX:
        try:
            # the second field may hold spaces and brackets, so from the last bracket on: state, …, field 22 in ticks
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607  (the system's own)
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C", "PATH": "/bin:/usr/bin"},
    )
    return shown.stdout.strip() or None


def keep(path: Path, pid: int, number: int) -> None:
    """Remember a process, so that a later supervisor can end it should we be killed."""
    if (start := started(pid)) is not None:
        state.write(path, json.dumps(asdict(Kept(pid, start, number))))


async def end_leftovers(run_dir: Path) -> list[str]:
    """End what a killed supervisor left running, newest first; returns the names of those found."""
    found = []
    files = sorted(run_dir.glob("*.pid"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files:
        try:
            kept = Kept(**json.loads(path.read_text()))
        except (ValueError, TypeError):
            path.unlink(missing_ok=True)
            continue

        def there(kept: Kept = kept) -> bool:
            return started(kept.pid) == kept.started

        if there():
            found.append(path.stem)
            below = descendants(kept.pid)
            end_group(kept.pid, kept.signal)
            if not await until(lambda: not there(), 10):
                end_group(kept.pid, signal.SIGKILL)
                await until(lambda: not there(), 5)
            await end_all(below)
        path.unlink(missing_ok=True)
    return found
