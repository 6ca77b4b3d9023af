"""``greenroom up``: the parts of the local stack, the order they start in, and the text that is printed at the end."""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import deployments
from core.errors import GreenroomError
from core.locks import DISPATCHER_LOCK, LOCKS
from core.settings import Settings
from core.settings_errors import PREFIX
from deployments.local import deployed, orchestrator, ports, postgres, probe, processes, state, welcome
from deployments.local.orchestrator import Orchestrator
from deployments.local.screen import Screen
from deployments.local.supervisor import Part, Supervisor
from deployments.schedules import pools

LOOPBACK = "127.0.0.1"
KILLED = 130  # the exit code after a second Ctrl-C
DISPATCHER_RUNNING = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "  # noqa: S608 - our own numbers
    "WHERE datname = current_database() AND locktype = 'advisory' AND granted "
    f"AND classid = {LOCKS} AND objid = {DISPATCHER_LOCK};"
)


def up(settings: Settings, *, out: Screen | None = None) -> int:
    """Run the whole stack in the foreground until Ctrl-C or SIGTERM; the exit code."""
    screen = out or Screen()
    state_dir = settings.state_dir.resolve()
    try:
        state.prepare(state_dir)
        with state.exclusive(state_dir):
            return asyncio.run(_Stack(settings, state_dir, screen).run())
    except GreenroomError as error:
        screen.trouble("greenroom", str(error))
        return 1
    except OSError as error:
        screen.trouble("greenroom", f"{state_dir} cannot be used: {error}")
        return 1


@dataclass
class _Stack:
    settings: Settings
    state_dir: Path
    screen: Screen
    times: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.state_dir, self.screen)
        self.api_host = ports.reachable(self.settings.host)

    async def run(self) -> int:
        """Start everything, wait for a signal, stop everything."""
        loop, stop_requested, killed = asyncio.get_running_loop(), asyncio.Event(), False

        def request_stop() -> None:
            nonlocal killed
            if stop_requested.is_set():
                killed = True
                self.supervisor.kill()
            stop_requested.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, request_stop)
        code = 0
        starting = asyncio.create_task(self._start())
        stop = asyncio.create_task(stop_requested.wait())
        await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and (problem := _problem(starting)):
            self.screen.trouble("greenroom", f"not started: {problem}")
            code = 1
        else:
            await stop
        begun = loop.time()
        if self.supervisor.pids():
            self.screen.block("stopping …")
        starting.cancel()
        await asyncio.wait([starting])
        await self.supervisor.stop()
        self.settings.database_file.unlink(missing_ok=True)
        self.screen.note("greenroom", f"all stopped after {loop.time() - begun:.1f} s")
        return KILLED if killed else code

    async def _start(self) -> None:
        begun = asyncio.get_running_loop().time()
        if left := await processes.terminate_leftovers(self.state_dir):
            self.screen.note("greenroom", f"ended processes of an earlier stack: {', '.join(left)}")
        self._check_ports()
        database, prefect_database, fresh = await self._databases()
        prefect = self._prefect(prefect_database)
        env = self._env(database, prefect)
        async with asyncio.TaskGroup() as together:
            together.create_task(self._start_prefect(prefect, env))
            greenroom = together.create_task(self._start_greenroom(env, database, fresh))
        total = asyncio.get_running_loop().time() - begun
        self.screen.block(
            welcome.block(
                settings=self.settings,
                prefect=prefect,
                tokens=greenroom.result(),
                times=self.times,
                bold=self.screen.bold,
                mail=self.settings.smtp_url is None,
            )
        )
        self.screen.block(f"ready in {total:.1f} s")

    async def _start_prefect(self, prefect: Orchestrator, env: dict[str, str]) -> None:
        """Start server, worker and deploy step at once: each imports Prefect for seconds, then waits for the server."""
        server = Part(
            "prefect",
            prefect.command(),
            prefect.server_env(env),
            prefect.ready,
            layer=1,
            hint="If its database is of a newer Prefect, move the state folder away.",
        )
        # a run in progress needs no worker: it reports its state itself, and goes on when the worker is killed
        # Prefect stores runs in a subfolder of TMPDIR that has the same name for every user of the machine
        own = {**env, "TMPDIR": str(state.empty_folder(self.state_dir / "tmp"))}
        command = self._command("worker")
        worker = Part("worker", command, own, prefect.worker_ready, layer=2, stop_seconds=15, ends_own_children=True)
        async with asyncio.TaskGroup() as together:
            serving = together.create_task(self._start_part(server))
            together.create_task(self._deploy(prefect, env, serving))
            together.create_task(self._start_part(worker))

    async def _deploy(self, prefect: Orchestrator, env: dict[str, str], serving: asyncio.Task[None]) -> None:
        """Deploy prefect.yaml, unless the server has its deployments already."""
        file, mark = _prefect_file(), self.state_dir / "deployed.json"
        now = deployed.fingerprint(file, env)
        if deployed.remembered(mark).get("fingerprint") == now:
            await asyncio.wait([serving])
            if await deployed.current(prefect, mark, now):
                self.screen.note("deployments", "unchanged")
                return
        command = [sys.executable, "-m", "deployments.schedules.deploy", str(file)]
        _, seconds = await self.supervisor.run("deployments", command, env)
        self._report_ready("deployments", seconds, "done")
        await deployed.remember(prefect, mark, now)

    async def _start_greenroom(self, env: dict[str, str], database: str, fresh: bool) -> list[list[str]]:
        """Prepare the database's content, then start the parts that need no Prefect; the tokens of the demo's users."""
        tokens = await self._data(env, fresh)

        async def dispatcher_running(pid: int) -> bool:
            try:
                return await postgres.query(database, DISPATCHER_RUNNING) not in ("", "0")
            except GreenroomError:
                return False

        async def api_answers(pid: int) -> bool:
            return await probe.answers(self.api_host, self.settings.port, "/health/ready")

        async def capture_greets(pid: int) -> bool:
            return await probe.accepts(LOOPBACK, self.settings.capture_port)

        async with asyncio.TaskGroup() as together:
            if self.settings.smtp_url is None:
                folder, port = self.state_dir / "mail", str(self.settings.capture_port)
                command = (sys.executable, "-m", "deployments.local.capture", "--port", port, "--folder", str(folder))
                together.create_task(self._start_part(Part("mail", command, env, capture_greets, layer=2)))
            together.create_task(self._start_part(self._part("api", env, api_answers)))
            together.create_task(self._start_part(self._part("dispatcher", env, dispatcher_running)))
        return tokens

    async def _data(self, env: dict[str, str], fresh: bool) -> list[list[str]]:
        """Schema and, at the first start, demo data; role, email and token of the demo's users."""
        pending = self.state_dir / "demo_pending"  # kept until the demo is loaded, over failed attempts and restarts
        if fresh:
            pending.touch()
        command = [sys.executable, "-m", "deployments.local.data", *(["--demo"] if pending.exists() else [])]
        written, seconds = await self.supervisor.run("database", command, env, capture=True)
        pending.unlink(missing_ok=True)
        lines = [line.split() for line in written.splitlines()]
        steps = ", ".join(f"{line[1]} {line[2]} s" for line in lines if line[:1] == ["done"])
        self._report_ready("database", seconds, f"({steps}) done")
        return [line[1:] for line in lines if line[:1] == ["token"]]

    async def _databases(self) -> tuple[str, str, bool]:
        """The databases' URLs, Greenroom's and Prefect's, and whether they are new."""
        own = orchestrator.own_database(os.environ)
        if self.settings.database_url:
            if own is None:
                await postgres.create_databases(self.settings.database_url, ("prefect",))
            return self.settings.database_url, own or orchestrator.database_beside(self.settings.database_url), False
        begun = asyncio.get_running_loop().time()
        server, fresh = await postgres.prepare(self.state_dir, say=lambda text: self.screen.note("postgres", text))

        async def ready(pid: int) -> bool:
            return server.ready(pid)

        part = Part(
            "postgres",
            server.command(),
            {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            ready,
            stop=postgres.STOP,
            stop_seconds=30,
            user=server.user,
            before=server.clear,
        )
        await self.supervisor.start(part)
        await postgres.create_databases(server.url("postgres"), postgres.DATABASES)
        state.write(self.settings.database_file, server.url("greenroom"))
        self._report_ready("postgres", asyncio.get_running_loop().time() - begun)
        return server.url("greenroom"), own or server.url("prefect", "postgresql+asyncpg"), fresh

    def _prefect(self, database: str) -> Orchestrator:
        auth = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
        home = self.state_dir / "prefect"
        home.mkdir(mode=0o700, exist_ok=True)
        return Orchestrator(
            home=home,
            host=LOOPBACK,
            port=orchestrator.port(),
            auth=auth or state.secret(self.state_dir / "prefect_auth", prefix="greenroom:"),
            database=database,
        )

    def _env(self, database: str, prefect: Orchestrator) -> dict[str, str]:
        """The environment of every part: ours, the settings (.env's, too), and the addresses of the other parts."""
        if self.settings.jwt_secret is None and self.settings.jwks_url is None:
            state.secret(self.state_dir / "jwt_secret")
        fields = Settings.model_fields
        given = {
            name: getattr(self.settings, name)
            for name in self.settings.model_fields_set
            if fields[name].validation_alias is None  # else it is one of Prefect's own, which client_env sets
        }
        chosen = {
            PREFIX + name.upper(): ",".join(value) if isinstance(value, tuple) else str(value)
            for name, value in given.items()
            if value is not None
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return {
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",  # by default glibc keeps a heap for each thread
            **prefect.client_env(os.environ),
            **chosen,
            **pools.LOCAL,
            "PATH": path,  # a deployment's «python» is ours, whether the virtual environment is activated or not
            f"{PREFIX}DATABASE_URL": database,
            f"{PREFIX}SMTP_URL": self.settings.smtp_url or f"smtp://{LOOPBACK}:{self.settings.capture_port}",
            f"{PREFIX}STATE_DIR": str(self.state_dir),
            **({f"{PREFIX}CAPTURED_MAIL": str(self.state_dir / "mail")} if self.settings.smtp_url is None else {}),
            f"{PREFIX}TIMEZONE": self.settings.timezone,  # prefect.yaml refers to it even when it is not set
        }

    def _check_ports(self) -> None:
        fixed = [
            ports.FixedPort("the API", self.settings.host, self.settings.port, f"{PREFIX}PORT"),
            ports.FixedPort("Prefect's server", LOOPBACK, orchestrator.port(), "PREFECT_SERVER_API_PORT"),
        ]
        if self.settings.smtp_url is None:
            fixed.append(ports.FixedPort("mail capture", LOOPBACK, self.settings.capture_port, f"{PREFIX}CAPTURE_PORT"))
        ports.check(fixed)

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "deployments.cli", *words]

    def _part(self, name: str, env: dict[str, str], ready: Callable[[int], Awaitable[bool]]) -> Part:
        return Part(name, self._command(name), env, ready, layer=2)

    async def _start_part(self, part: Part) -> None:
        self._report_ready(part.name, await self.supervisor.start(part))

    def _report_ready(self, name: str, seconds: float, what: str = "ready") -> None:
        self.times[name] = seconds
        self.screen.ready(name, seconds, what)


def _prefect_file() -> Path:
    """The project's prefect.yaml: in the current folder, or beside the packages.

    Raises GreenroomError when there is none.
    """
    for folder in (Path.cwd(), Path(deployments.__file__).resolve().parent.parent):
        if (folder / "prefect.yaml").exists():
            return folder / "prefect.yaml"
    raise GreenroomError("There is no prefect.yaml here: run this in the project's folder.")


def _problem(task: asyncio.Task[None]) -> str | None:
    """The message to print for a task that failed; None for one that did not."""
    if task.cancelled() or (error := task.exception()) is None:
        return None
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, GreenroomError) else "".join(traceback.format_exception(error))
