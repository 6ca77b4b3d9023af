"""``greenroom up`` under a test's eyes: a process whose words can be waited for, and whose parts can be killed."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from tests.support.processes import ROOT, eventually, free_port

START_SECONDS = 120.0
"""A first start makes a database cluster and Prefect's tables, beside whatever else this machine does."""


class Stack:
    """One local stack on ports and a state folder of its own."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.port, self.prefect_port, self.mail_port = free_port(), free_port(), free_port()
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("GREENROOM_", "PREFECT_"))
        } | {
            "GREENROOM_STATE_DIR": str(state_dir),
            "GREENROOM_PORT": str(self.port),
            "GREENROOM_CAPTURE_PORT": str(self.mail_port),
            "PREFECT_SERVER_API_PORT": str(self.prefect_port),
        }
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.up:
            self.stop()

    @property
    def up(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        self.lines.clear()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "up"],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        self.wait_for_output(r"^ready in ", seconds=START_SECONDS)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        for line in process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_for_output(self, pattern: str, *, seconds: float = 60, after: int = 0) -> str:
        """The first line that matches; fails when the stack ends or never says it."""
        deadline = time.monotonic() + seconds
        while True:
            for line in list(self.lines)[after:]:
                if re.search(pattern, line):
                    return line
            assert self.process is not None
            ended = self.process.poll()
            assert ended is None, f"the stack ended ({ended}):\n" + "\n".join(self.lines)
            assert time.monotonic() < deadline, f"never said {pattern!r}:\n" + "\n".join(self.lines)
            time.sleep(0.05)

    def stop(self, by: signal.Signals = signal.SIGINT) -> int:
        """End it as a terminal's Ctrl-C would, and give its exit code."""
        assert self.process is not None
        self.process.send_signal(by)
        return self.process.wait(60)

    def forget(self) -> None:
        """Stop it, and leave no state: the next start is a first one, with the demo's data."""
        self.stop()
        shutil.rmtree(self.state_dir)

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        """Where its sockets open."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def database_url(self) -> str:
        """The embedded database."""
        return (self.state_dir / "run" / "database_url").read_text().strip()

    def pid(self, part: str) -> int:
        """The process of a part that runs now."""
        return int((self.state_dir / "run" / f"{part}.pid").read_text().splitlines()[0])

    def kill(self, part: str) -> None:
        """Kill −9 a part, and wait until another process has taken its place."""
        old = self.pid(part)
        os.kill(old, signal.SIGKILL)
        eventually(lambda: self._replaced(part, old), f"{part} was started again", seconds=60)

    def _replaced(self, part: str, old: int) -> bool:
        try:
            new = self.pid(part)
        except (OSError, IndexError):
            return False
        return new != old and psutil.pid_exists(new)

    def health(self) -> dict[str, object]:
        """What /health/ready says, with its code."""
        try:
            answer = httpx.get(f"{self.url}/health/ready", timeout=10, trust_env=False)
        except httpx.TransportError as error:
            return {"code": 0, "status": type(error).__name__}
        return {"code": answer.status_code, **answer.json()}

    def healthy(self, seconds: float = 90) -> dict[str, object]:
        """Wait until every part is ok."""
        eventually(lambda: self.health()["status"] == "ok", "every part is ok", seconds=seconds)
        return self.health()

    def token(self, email: str) -> str:
        """A demo user's token, from the command line as a person gets it."""
        command = [sys.executable, "-m", "deployments.cli", "token", "--user", email]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def client(self, email: str) -> httpx.Client:
        """An HTTP client that asks as a demo user."""
        headers = {"Authorization": f"Bearer {self.token(email)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=15, trust_env=False)
