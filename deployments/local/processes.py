"""Child processes: started so that none outlives its supervisor, ended by process group and id, never by name."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from deployments.local import state

# in the environment of every process of a stack, inherited by its children: the STATE_DIR, and which part it is
MARK, PART = "GREENROOM_STACK", "GREENROOM_PART"
POLL_SECONDS = 0.05
PR_SET_PDEATHSIG = 1
LINUX = sys.platform == "linux"
_libc = ctypes.CDLL(None) if LINUX else None


@dataclass(frozen=True)
class OsAccount:
    """The account that a process runs as, when not our own."""

    uid: int
    gid: int


async def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    output: IO[bytes],
    capture: bool = False,
    parent_death_signal: signal.Signals = signal.SIGTERM,
    user: OsAccount | None = None,
) -> asyncio.subprocess.Process:
    """Start a process in its own session; its output goes to this file, or its stdout to us with ``capture``.

    On Linux it gets ``parent_death_signal`` when this process ends, however it ends (prctl(2), PR_SET_PDEATHSIG).
    """
    account: dict[str, Any] = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
    return await asyncio.create_subprocess_exec(
        *command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else output,
        stderr=output,
        start_new_session=True,  # the terminal's Ctrl-C reaches the supervisor alone, which ends all in order
        preexec_fn=_parent_death_signal_setter(parent_death_signal),
        **account,
    )


def _parent_death_signal_setter(parent_death_signal: signal.Signals) -> Callable[[], None] | None:
    """What the child calls between fork and exec so as not to outlive its parent; None where that is impossible."""
    if _libc is None:
        return None  # the next start ends the processes that are left: see terminate_leftovers
    libc, parent = _libc, os.getpid()

    def follow() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(parent_death_signal))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return follow


async def until(true: Callable[[], bool], seconds: float) -> bool:
    """Check a condition every 50 ms until it is true; False when the time is over first."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not true():
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def alive(process: psutil.Process) -> bool:
    """Whether this very process still runs; a zombie does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def signal_group(pid: int, number: int) -> None:
    """Send a signal to the group that this process leads; nothing when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def terminate(process: asyncio.subprocess.Process, *, by: int, within: float, alone: bool = False) -> None:
    """End a process, its group and all its descendants: by the signal ``by``, after ``within`` seconds by SIGKILL.

    With ``alone`` only the process gets the signal, because it ends its children itself.
    """
    if process.returncode is not None:
        return  # its id may belong to another process by now
    below = _descendants(process.pid)
    if alone:
        process.send_signal(by)
    else:
        signal_group(process.pid, by)
    if not await until(lambda: process.returncode is not None and not any(map(alive, below)), within):
        signal_group(process.pid, signal.SIGKILL)
    await process.wait()
    await terminate_all(below)


async def terminate_all(processes: list[psutil.Process], *, grace: float = 0.0) -> None:
    """End these processes by identity: SIGTERM and up to ``grace`` seconds, then SIGKILL."""
    for number, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        if wait:
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
            await until(lambda: not any(alive(process) for process in processes), wait)


def leftovers(state_dir: Path, part: str | None = None) -> list[psutil.Process]:
    """Every living process that a stack on this STATE_DIR (or one part of it) started, whatever its parent now is."""
    found = []
    for process in psutil.process_iter():
        try:
            env = process.environ()
            ours = env.get(MARK) == str(state_dir) and part in (None, env.get(PART))
            if ours and process.pid != os.getpid() and alive(process):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # another user's, or it just ended
    return found


def started(pid: int) -> str | None:
    """When this process started, as the system reports it; None: it does not run. Pid and start identify a process."""
    if LINUX:
        try:
            # the second field may hold spaces and brackets, so from the last bracket on: state, …, field 22 in ticks
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    try:
        process = psutil.Process(pid)
        return str(process.create_time()) if alive(process) else None
    except psutil.Error:
        return None


def save_pid_file(path: Path, pid: int, stop: int) -> None:
    """Write a process's id, start and stop signal to a file, so that a later supervisor can end it."""
    if (start := started(pid)) is not None:
        state.write(path, f"{pid}\n{start}\n{stop}\n")


async def terminate_leftovers(state_dir: Path, *, within: float = 10.0) -> list[str]:
    """End the processes that a killed supervisor left running, the newest first; returns their names.

    Each gets its own stop signal, and SIGKILL when it has not ended ``within`` these seconds.
    """
    found = []
    files = (state_dir / "run").glob("*.pid")
    for path in sorted(files, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            pid, start, stop = path.read_text().split()
            if started(int(pid)) == start:
                found.append(path.stem)
                await _terminate_leftover(int(pid), start, int(stop), within)
        except ValueError:
            pass  # not ours, or incomplete: it identifies no process
        path.unlink(missing_ok=True)
    if below := leftovers(state_dir):
        found.append(f"{len(below)} of their children")
        await terminate_all(below, grace=3)
    return found


async def _terminate_leftover(pid: int, start: str, stop: int, within: float) -> None:
    below = _descendants(pid)
    signal_group(pid, stop)
    if not await until(lambda: started(pid) != start, within):
        signal_group(pid, signal.SIGKILL)
        await until(lambda: started(pid) != start, 5)
    await terminate_all(below)


def _descendants(pid: int) -> list[psutil.Process]:
    """Every living descendant of this process, each identified by its id and start time."""
    try:
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return children
