"""Ends what a run of the tests has started once the run is over, however it ended: kill −9 included.

Each pytest process, a worker of xdist too, starts one of these in a session of its own and holds the other end of its
standard input. When that end is closed, every process that carries the run's mark in its environment is asked to end,
and killed when it has not; so is every process of a local stack whose state is in the run's folder (a stack gives some
of them an environment of their own), and all children of either. The kernel's own means (PR_SET_PDEATHSIG) is not
enough here: it goes by the thread that started a child, and tests start servers from threads that end before them.
"""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psutil

MARK = "TEST_RUN_MARK"
"""In the environment of everything that a pytest process starts: which one it was."""
STACK = "GREENROOM_STACK"
"""In the environment of everything that a local stack starts: its state directory, see deployments/local/processes."""
ASK_SECONDS = 5.0
"""After which a process that was asked to end is killed; PostgreSQL writes its checkpoint in that time."""
GIVE_UP_SECONDS = 60.0
_LOOK_SECONDS = 0.1


class Watched:
    """The run's side: as long as this process lives, its watchdog waits."""

    def __init__(self, folder: Path, *, remove: bool) -> None:
        """With the run's folder for temporary files, which goes with the run if ``remove``."""
        mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        os.environ[MARK] = mark
        self._process = subprocess.Popen(
            [sys.executable, __file__, mark, str(folder), *(["remove"] if remove else [])],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # what ends the run, Ctrl-C too, must not end the watchdog
        )
        os.register_at_fork(after_in_child=self._pipe.close)  # a child without exec would keep the end open

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def keep_folder(self) -> None:
        """Somebody will want to look into it."""
        self._pipe.write(b"keep")
        self._pipe.flush()


def marked(mark: str, folder: str) -> set[psutil.Process]:
    """Every living process of the run, and all below them."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # another user's, or just gone
            environment = process.environ()
            state_dir = Path(environment.get(STACK, os.devnull))
            if environment.get(MARK) == mark or state_dir.is_relative_to(folder):
                found |= {process, *process.children(recursive=True)}
    return {process for process in found if process.pid != os.getpid() and _alive(process)}


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def end_all(mark: str, folder: str) -> None:
    """Look until none is left: one that was just being started may come after the first look."""
    begun, asked = time.monotonic(), set[psutil.Process]()
    while (left := marked(mark, folder)) and time.monotonic() - begun < GIVE_UP_SECONDS:
        late = time.monotonic() - begun > ASK_SECONDS
        for process in left if late else left - asked:
            with contextlib.suppress(psutil.Error):
                (process.kill if late else process.terminate)()
        asked |= left
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    mark, folder, *remove = sys.argv[1:]
    keep = sys.stdin.read()  # this ends when the run does
    end_all(mark, folder)
    if remove and not keep:
        shutil.rmtree(folder, ignore_errors=True)
