"""One headless Chromium: started with two pipes and its own temporary folder, ended with all of its processes."""

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

import psutil

from dispatcher.reports.pdf.devtools import LARGEST, BrowserGone, Devtools
from dispatcher.reports.pdf.errors import RenderFailed
from dispatcher.reports.pdf.temp_dirs import TempDir

REAP_SECONDS = 2.0
"""Seconds to wait until a killed browser is gone; the kernel takes milliseconds."""
_DISCARD = "http://127.0.0.1:9"
"""The discard port, as a proxy for all requests to any network, loopback included."""
_NOT_RUN = (126, 127)
"""Exit codes of the shell, and of the dynamic linker, when a program cannot be run."""
_SWITCHES = (
    "--headless",
    "--no-sandbox",  # pages run no script, charts only plotly's; in containers and as root the sandbox does not work
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-translate",
    "--disable-hang-monitor",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-features=Translate,OptimizationHints,MediaRouter,DialMediaRouteProvider",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--password-store=basic",
    "--use-mock-keychain",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
    f"--proxy-server={_DISCARD}",
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)


class Browser:
    """A running browser. ``kill`` ends it at once, whatever state it is in."""

    def __init__(self, process: asyncio.subprocess.Process, folder: TempDir) -> None:
        assert process.stdin is not None  # noqa: S101 - created with PIPE
        assert process.stdout is not None  # noqa: S101
        self._process, self._folder = process, folder
        self.devtools = Devtools(process.stdout, process.stdin)
        self._first = True
        self._killing: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Where its temporary files are."""
        return self._folder.path

    @classmethod
    async def start(cls, program: Path) -> "Browser":
        """Start one. Raises RenderFailed with the end of its stderr when it exits at once."""
        try:
            folder = TempDir()
        except OSError as error:
            raise RenderFailed(f"No folder for the browser's temporary files: {error}", retry=True) from error
        try:
            process = await _spawn(program, folder.path)
        except OSError as error:
            folder.remove()
            raise RenderFailed(f"The browser {program} was not started: {error}", retry=True) from error
        except BaseException:
            folder.remove()
            raise
        self = cls(process, folder)
        try:
            await self.devtools.call("Target.setDiscoverTargets", discover=True)
        except BrowserGone as error:
            output = self._stderr_tail()
            await asyncio.shield(self.kill())
            ran = self._process.returncode not in _NOT_RUN
            raise RenderFailed(f"The browser {program} ended as it started: {output or error}", retry=ran) from error
        except BaseException:
            await asyncio.shield(self.kill())
            raise
        return self

    async def open_tab(self) -> str:
        """The session of an empty tab; the first is the one that the browser starts with."""
        call = self.devtools.call
        if self._first:
            self._first = False
            known = (await call("Target.getTargets"))["targetInfos"]
            target = next((one["targetId"] for one in known if one["type"] == "page"), None)
        else:
            target = None
        target = target or (await call("Target.createTarget", url="about:blank"))["targetId"]
        return str((await call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"])

    def kill(self, why: str = "The browser was ended.") -> "asyncio.Task[None]":
        """End all of its processes at once, stopped ones too; the task is done when its files are gone as well."""
        if self._killing is None:
            self._kill_processes()
            self.devtools.fail_all(why)
            self._killing = asyncio.create_task(self._reap(), name="reports-reap")
        return self._killing

    def memory(self) -> int:
        """Resident memory of its processes in bytes; shared pages count in each."""
        total = 0
        with contextlib.suppress(psutil.Error):
            for process in (root := psutil.Process(self.pid), *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
        return total

    def _kill_processes(self) -> None:
        # Not reaped yet, so the pid is still its own.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        # A process that left the group, or outlived its leader, is still in the session that was started for it.
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == self.pid:
                    os.kill(pid, signal.SIGKILL)

    async def _reap(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_SECONDS):
                await self._process.wait()
                await self.devtools.closed()
        for _ in range(50):
            if self._folder.remove():
                break
            await asyncio.sleep(0.02)  # processes that are ending may still write

    def _stderr_tail(self) -> str:
        try:
            lines = (self.folder / "stderr").read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return " ".join(line.strip() for line in lines[-3:])[:500]


async def _spawn(program: Path, folder: Path) -> asyncio.subprocess.Process:
    # It reads from 3 and writes to 4.
    command = ["/bin/sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh"]
    if setpriv := shutil.which("setpriv"):
        # When our process ends, the closed pipes end it, but not while it is stopped or busy.
        command += [setpriv, "--pdeathsig", "KILL", "--"]
    command += [str(program), *_SWITCHES, f"--user-data-dir={folder}/profile", "about:blank"]
    with (folder / "stderr").open("wb") as stderr:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            limit=LARGEST,
            start_new_session=True,
            cwd=folder,
            env=os.environ | {"TMPDIR": str(folder)},
        )
