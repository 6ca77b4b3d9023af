"""The supervisor: starts parts, waits until they are ready, restarts those that exit, ends all in order."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from core.clock import utcnow
from core.errors import GreenroomError
from deployments.local import processes, state
from deployments.local.screen import Screen

BACK_OFF = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STABLE_SECONDS = 60.0
STEP_SECONDS = 300.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Part:
    """A long-lived child process: what to run, when it is ready, how it ends.

    ``ready`` gets the process's id and is polled; ``before`` runs before each start.
    Parts of a higher layer depend on those of lower ones and are ended before them. A part's descendants are ended with
    it, also when it was killed, except with ``ends_own_children``: it ends them itself, and they survive its kill.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[int], Awaitable[bool]]
    layer: int = 0
    ready_seconds: float = 90.0
    stop: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    user: processes.OsAccount | None = None
    before: Callable[[], Awaitable[None]] | None = None
    ends_own_children: bool = False
    hint: str = ""


class NotReady(GreenroomError):
    """A part that did not become ready: its name, the reason, the end of its log, what to do."""

    def __init__(self, name: str, why: str, log: Path, hint: str = "") -> None:
        self.name = name
        end = [f"  {line}" for line in state.tail(log)]
        super().__init__("\n".join([f"{name} {why}. The end of {log}:", *end, *([hint] if hint else [])]))


@dataclass
class _Running:
    part: Part
    log: Path
    process: asyncio.subprocess.Process | None = None
    since: float = 0.0
    watch: asyncio.Task[None] | None = None


class Supervisor:
    """Keeps parts running; ``stop`` ends them all with all their descendants."""

    def __init__(self, state_dir: Path, screen: Screen, *, back_off: Sequence[float] = BACK_OFF) -> None:
        self.state_dir, self.screen, self.back_off = state_dir, screen, back_off
        self._running: dict[str, _Running] = {}

    async def start(self, part: Part) -> float:
        """Start a part and keep it running; the seconds it took to be ready.

        Raises NotReady when it exits first, or takes longer than ``ready_seconds``.
        """
        begun = self._now()
        state.rotate(self.log(part.name))
        running = _Running(part, self.log(part.name))
        self._running[part.name] = running
        process = await self._launch(running)
        if trouble := await self._until_ready(running, process):
            raise NotReady(part.name, trouble, running.log, part.hint)
        running.watch = asyncio.create_task(self._keep_running(running, process), name=f"watch {part.name}")
        return self._now() - begun

    async def run(
        self, name: str, command: Sequence[str], env: Mapping[str, str], *, capture: bool = False
    ) -> tuple[str, float]:
        """Run a short-lived step to its end; its output when captured (else it is in the log), and the seconds.

        Raises NotReady when it fails, or takes longer than ``STEP_SECONDS``.
        """
        begun = self._now()
        log = self.log(name)
        state.rotate(log)
        with _open_log(log) as output:
            process = await processes.spawn(command, env=self._with_marker(name, env), output=output, capture=capture)
        try:
            written, _ = await asyncio.wait_for(process.communicate(), STEP_SECONDS)
        except TimeoutError:
            raise NotReady(name, f"did not end within {STEP_SECONDS:.0f} s", log) from None
        finally:
            if process.returncode is None:
                await processes.terminate(process, by=signal.SIGTERM, within=5)
        if process.returncode:
            raise NotReady(name, f"failed: it {_exit_reason(process.returncode)}", log)
        return (written or b"").decode(errors="replace"), self._now() - begun

    async def stop(self) -> None:
        """End every part with all its descendants, the highest layer first."""
        parts = list(self._running.values())
        watches = [running.watch for running in parts if running.watch]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        for layer in sorted({running.part.layer for running in parts}, reverse=True):
            await asyncio.gather(*(self._stop_part(each) for each in parts if each.part.layer == layer))
        await processes.terminate_all(processes.leftovers(self.state_dir), grace=2)

    def kill(self) -> None:
        """SIGKILL to every part's group at once, on a second Ctrl-C."""
        for pid in self.pids().values():
            processes.signal_group(pid, signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        """The process of each part."""
        return {name: each.process.pid for name, each in self._running.items() if each.process}

    def log(self, name: str) -> Path:
        """The file with this part's output."""
        return self.state_dir / "log" / f"{name}.log"

    async def _launch(self, running: _Running) -> asyncio.subprocess.Process:
        part = running.part
        if part.before:
            await part.before()
        with _open_log(running.log) as output:
            spawning = asyncio.ensure_future(
                processes.spawn(
                    part.command,
                    env=self._with_marker(part.name, part.env),
                    output=output,
                    parent_death_signal=part.stop,
                    user=part.user,
                )
            )
            try:
                running.process = await asyncio.shield(spawning)
            except asyncio.CancelledError:
                running.process = await spawning  # so that stop() knows of it
                raise
        running.since = self._now()
        processes.save_pid_file(self._pid_file(part), running.process.pid, part.stop)
        return running.process

    async def _until_ready(self, running: _Running, process: asyncio.subprocess.Process) -> str | None:
        """Wait until the part is ready; the reason when it does not become ready."""
        part = running.part
        died = asyncio.create_task(process.wait())
        deadline = self._now() + part.ready_seconds
        try:
            while True:
                if died.done():
                    return f"{_exit_reason(died.result())} before it was ready"
                if await part.ready(process.pid):
                    return None
                if self._now() > deadline:
                    return f"was not ready within {part.ready_seconds:.0f} s"
                await asyncio.wait([died], timeout=POLL_SECONDS)
        finally:
            died.cancel()

    async def _keep_running(self, running: _Running, process: asyncio.subprocess.Process) -> None:
        """Wait until the part exits and start it again, for ever."""
        part, attempt = running.part, 0
        while True:
            code = await process.wait()
            gone = self._now()
            if gone - running.since >= STABLE_SECONDS:
                attempt = 0
            if not part.ends_own_children:
                await processes.terminate_all(processes.leftovers(self.state_dir, part.name), grace=2)
            trouble: str | None = _exit_reason(code)
            while trouble:
                pause = self.back_off[min(attempt, len(self.back_off) - 1)]
                attempt += 1
                self.screen.trouble(part.name, f"{trouble}; starting it again in {pause:g} s")
                await asyncio.sleep(pause)
                trouble, process = await self._restart(running, process)
            self.screen.ready(part.name, self._now() - gone, "is back")

    async def _restart(
        self, running: _Running, before: asyncio.subprocess.Process
    ) -> tuple[str | None, asyncio.subprocess.Process]:
        """One attempt to start a part again: the reason when it failed, and its process."""
        try:
            process = await self._launch(running)
        except (GreenroomError, OSError) as error:
            return f"could not be started ({error})", before
        if (trouble := await self._until_ready(running, process)) is None:
            return None, process
        if process.returncode is None:
            await self._stop_part(running)
        return f"{trouble} (see {running.log})", process

    async def _stop_part(self, running: _Running) -> None:
        if running.process:
            part = running.part
            await processes.terminate(
                running.process, by=part.stop, within=part.stop_seconds, alone=part.ends_own_children
            )
        self._pid_file(running.part).unlink(missing_ok=True)

    def _with_marker(self, name: str, env: Mapping[str, str]) -> dict[str, str]:
        return {**env, processes.MARK: str(self.state_dir), processes.PART: name}

    def _pid_file(self, part: Part) -> Path:
        return self.state_dir / "run" / f"{part.name}.pid"

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _open_log(log: Path) -> IO[bytes]:
    """The log, opened for appending, with a line that separates this start from the last."""
    output = log.open("ab", buffering=0)
    output.write(f"--- {utcnow():%Y-%m-%d %H:%M:%S} UTC\n".encode())
    return output


def _exit_reason(code: int) -> str:
    """An exit code as text."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
