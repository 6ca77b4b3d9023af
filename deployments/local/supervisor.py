"""The supervisor: starts parts, waits until they are ready, starts again what dies, ends all in order."""

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
STEADY_SECONDS = 60.0
STEP_SECONDS = 300.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Part:
    """A long-lived child process: what to run, when it is ready, how it ends.

    ``ready`` gets the process's id and is asked again and again; ``before`` runs before each start.
    Parts of a higher layer stand on those of lower ones and are ended before them. What a part started is ended with
    it, also when it was killed. Not so with ``minds_children``: it asks them itself, and when it is killed they go on.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[int], Awaitable[bool]]
    layer: int = 0
    ready_seconds: float = 90.0
    stop: signal.Signals = signal.SIGTERM
    stop_seconds: float = 10.0
    user: processes.SystemUser | None = None
    before: Callable[[], Awaitable[None]] | None = None
    minds_children: bool = False
    hint: str = ""


class NotReady(GreenroomError):
    """A part that did not become ready: which, why, what its log says, what to do."""

    def __init__(self, name: str, why: str, log: Path, hint: str = "") -> None:
        self.name = name
        said = [f"  {line}" for line in state.tail(log)]
        super().__init__("\n".join([f"{name} {why}. The end of {log}:", *said, *([hint] if hint else [])]))


@dataclass
class _Running:
    part: Part
    log: Path
    process: asyncio.subprocess.Process | None = None
    since: float = 0.0
    watch: asyncio.Task[None] | None = None


class Supervisor:
    """Keeps parts running; ``stop`` ends them all, and after it no process of theirs is left."""

    def __init__(self, state_dir: Path, screen: Screen, *, back_off: Sequence[float] = BACK_OFF) -> None:
        self.state_dir, self.screen, self.back_off = state_dir, screen, back_off
        self._running: dict[str, _Running] = {}

    async def start(self, part: Part) -> float:
        """Start a part and keep it running; the seconds it took to be ready.

        Raises NotReady when it dies first, or takes longer than it may.
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
        with _appending(log) as output:
            process = await processes.spawn(command, env=self._marked(name, env), output=output, capture=capture)
        try:
            written, _ = await asyncio.wait_for(process.communicate(), STEP_SECONDS)
        except TimeoutError:
            raise NotReady(name, f"did not end within {STEP_SECONDS:.0f} s", log) from None
        finally:
            if process.returncode is None:
                await processes.end(process, by=signal.SIGTERM, within=5)
        if process.returncode:
            raise NotReady(name, f"failed: it {_how(process.returncode)}", log)
        return (written or b"").decode(errors="replace"), self._now() - begun

    async def stop(self) -> None:
        """End every part, the highest layer first; nothing of theirs is left after it."""
        parts = list(self._running.values())
        watches = [running.watch for running in parts if running.watch]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        for layer in sorted({running.part.layer for running in parts}, reverse=True):
            await asyncio.gather(*(self._end(each) for each in parts if each.part.layer == layer))
        await processes.end_all(processes.leftovers(self.state_dir), ask=2)

    def kill(self) -> None:
        """SIGKILL to every part's group at once: a person asked twice."""
        for pid in self.pids().values():
            processes.signal_group(pid, signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        """The process of each part."""
        return {name: each.process.pid for name, each in self._running.items() if each.process}

    def log(self, name: str) -> Path:
        """The file that takes this part's output."""
        return self.state_dir / "log" / f"{name}.log"

    async def _launch(self, running: _Running) -> asyncio.subprocess.Process:
        part = running.part
        if part.before:
            await part.before()
        with _appending(running.log) as output:
            spawning = asyncio.ensure_future(
                processes.spawn(
                    part.command,
                    env=self._marked(part.name, part.env),
                    output=output,
                    dies_by=part.stop,
                    user=part.user,
                )
            )
            try:
                running.process = await asyncio.shield(spawning)
            except asyncio.CancelledError:
                running.process = await spawning  # so that stop() knows of it
                raise
        running.since = self._now()
        processes.keep(self._pid_file(part), running.process.pid, part.stop)
        return running.process

    async def _until_ready(self, running: _Running, process: asyncio.subprocess.Process) -> str | None:
        """Wait for the part; what is wrong when it will not come."""
        part = running.part
        died = asyncio.create_task(process.wait())
        deadline = self._now() + part.ready_seconds
        try:
            while True:
                if died.done():
                    return f"{_how(died.result())} before it was ready"
                if await part.ready(process.pid):
                    return None
                if self._now() > deadline:
                    return f"was not ready within {part.ready_seconds:.0f} s"
                await asyncio.wait([died], timeout=POLL_SECONDS)
        finally:
            died.cancel()

    async def _keep_running(self, running: _Running, process: asyncio.subprocess.Process) -> None:
        """Wait for the part's death and start it again, for ever."""
        part, attempt = running.part, 0
        while True:
            code = await process.wait()
            gone = self._now()
            if gone - running.since >= STEADY_SECONDS:
                attempt = 0
            if not part.minds_children:
                await processes.end_all(processes.leftovers(self.state_dir, part.name), ask=2)
            trouble: str | None = _how(code)
            while trouble:
                pause = self.back_off[min(attempt, len(self.back_off) - 1)]
                attempt += 1
                self.screen.trouble(part.name, f"{trouble}; starting it again in {pause:g} s")
                await asyncio.sleep(pause)
                trouble, process = await self._again(running, process)
            self.screen.ready(part.name, self._now() - gone, "is back")

    async def _again(
        self, running: _Running, before: asyncio.subprocess.Process
    ) -> tuple[str | None, asyncio.subprocess.Process]:
        """One attempt to start a part again: what was wrong, and its process."""
        try:
            process = await self._launch(running)
        except (GreenroomError, OSError) as error:
            return f"could not be started ({error})", before
        if (trouble := await self._until_ready(running, process)) is None:
            return None, process
        if process.returncode is None:
            await self._end(running)
        return f"{trouble} (see {running.log})", process

    async def _end(self, running: _Running) -> None:
        if running.process:
            part = running.part
            await processes.end(running.process, by=part.stop, within=part.stop_seconds, alone=part.minds_children)
        self._pid_file(running.part).unlink(missing_ok=True)

    def _marked(self, name: str, env: Mapping[str, str]) -> dict[str, str]:
        return {**env, processes.MARK: str(self.state_dir), processes.PART: name}

    def _pid_file(self, part: Part) -> Path:
        return self.state_dir / "run" / f"{part.name}.pid"

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _appending(log: Path) -> IO[bytes]:
    """The log, with a line that tells one start from the next."""
    output = log.open("ab", buffering=0)
    output.write(f"--- {utcnow():%Y-%m-%d %H:%M:%S} UTC\n".encode())
    return output


def _how(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
