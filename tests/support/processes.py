"""What fixtures are made of: servers as child processes, databases from a template, an API to talk to."""

import asyncio
import fcntl
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psycopg

from core import db as core_db
from core import settings as core_settings
from core.migrations import migrate
from core.tokens import create_token
from deployments.local import ports
from deployments.local import postgres as embedded

ROOT = Path(__file__).parents[2]
SECRET = "a secret of the tests, long enough for HS256"
NOBODY_THERE = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "GREENROOM_CAPTURE_PORT": "9"}
"""Where a test that starts no server finds none: the defaults may be those of a stack that runs beside the tests."""
PATIENCE = 60.0
"""Seconds to wait for a condition before the test fails."""


def eventually(condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE) -> Any:
    """The condition's value once it is true; fails the test when it never is."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.02)
    return value


def free_port() -> int:
    """A TCP port that nobody listens on, and that no outgoing connection takes until a server does."""
    return ports.free()


def use_database(url: str) -> None:
    """Let this process's core work on the database at ``url``."""
    os.environ["GREENROOM_DATABASE_URL"] = url
    forget_settings()


def forget_settings() -> None:
    """Read settings anew, and drop the engine that was made of the old ones."""
    if core_db.engine.cache_info().currsize:
        core_db.engine().dispose()
    core_settings.settings.cache_clear()
    core_db.engine.cache_clear()
    core_db._sessions.cache_clear()


@dataclass(frozen=True)
class PostgresServer:
    """The run's PostgreSQL."""

    url: str
    """Of its maintenance database."""
    template: str

    def url_of(self, database: str) -> str:
        """The URL of one of its databases."""
        return self.url.rsplit("/", 1)[0] + "/" + database


@dataclass(frozen=True)
class Database:
    """A database of a test's own."""

    url: str


_FAST = ("max_connections=200", "fsync=off", "full_page_writes=off", "synchronous_commit=off")
"""A test's database need not outlive a power cut; processes that are killed lose nothing by these."""


@contextmanager
def postgres_server(folder: Path, *, durable: bool = False) -> Iterator[PostgresServer]:
    """An embedded PostgreSQL with a migrated template; ``durable`` as the local stack runs it, for what is measured."""
    (folder / "run").mkdir()
    server, process = _postgres(folder, () if durable else _FAST)
    try:
        found = PostgresServer(server.url("postgres"), "template_greenroom")
        with psycopg.connect(found.url, autocommit=True) as admin:
            admin.execute("CREATE DATABASE template_greenroom")
        migrate(found.url_of("template_greenroom"))
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _postgres(folder: Path, options: Sequence[str]) -> tuple[embedded.Postgres, "subprocess.Popen[bytes]"]:
    """The server, ready; started again on another port when somebody was quicker to take the one it had chosen."""
    log = folder / "postgres.log"
    for _ in range(5):
        server, _ = asyncio.run(embedded.prepare(folder, say=lambda _: None))
        account: dict[str, Any] = {}
        if server.user is not None:
            account = {"user": server.user.uid, "group": server.user.gid, "extra_groups": []}
        command = [*server.command(), *(f"-c{option}" for option in options)]
        with log.open("ab") as out:
            process = subprocess.Popen(command, **account, start_new_session=True, stdout=out, stderr=out)
        if _comes(server, process):
            return server, process
        if "could not create any TCP/IP sockets" not in log.read_text():
            break
    raise AssertionError(f"PostgreSQL does not start:\n{log.read_text()[-3000:]}")


def _comes(server: embedded.Postgres, process: "subprocess.Popen[bytes]") -> bool:
    """Wait until it accepts connections, or has ended."""
    eventually(lambda: process.poll() is not None or server.ready(process.pid), "PostgreSQL accepts connections")
    return process.poll() is None


@contextmanager
def own_database(server: PostgresServer) -> Iterator[str]:
    """A fresh copy of the template, used by this process until the block ends."""
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(server.url, autocommit=True) as admin:
        # file by file: a third of the time that writing every page to the log takes (40 ms), a thousand times a run
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {server.template} STRATEGY FILE_COPY")
        before = os.environ.get("GREENROOM_DATABASE_URL")
        use_database(server.url_of(name))
        try:
            yield server.url_of(name)
        finally:
            forget_settings()
            if before is None:
                del os.environ["GREENROOM_DATABASE_URL"]
            else:
                os.environ["GREENROOM_DATABASE_URL"] = before
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@dataclass
class Api:
    """A running API, and who may ask it."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path
    clients: dict[int, httpx.Client] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        """Where its sockets open."""
        return f"ws://127.0.0.1:{self.port}/ws"

    def as_user(self, user_id: int, role: str = "any", *, version: int = 1) -> httpx.Client:
        """A client that asks as the user."""
        if user_id not in self.clients:
            headers = {"Authorization": f"Bearer {token(user_id, role, version=version)}"}
            self.clients[user_id] = httpx.Client(base_url=self.url, headers=headers, timeout=10, trust_env=False)
        return self.clients[user_id]


def token(user_id: int, role: str = "any", *, version: int = 1, lifetime: timedelta = timedelta(hours=1)) -> str:
    """A token for a user, signed with the tests' secret."""
    return create_token(user_id, role, version=version, now=datetime.now(UTC), lifetime=lifetime)


@contextmanager
def api_process(database_url: str, folder: Path, **settings: str | None) -> Iterator[Api]:
    """``greenroom api`` on a free port; extra settings by their names without the prefix, None for not set."""
    port = int(settings.get("PORT") or free_port())
    wanted = {
        "CAPTURE_PORT": NOBODY_THERE["GREENROOM_CAPTURE_PORT"],
        "DATABASE_URL": database_url,
        "PORT": str(port),
        "JWT_SECRET": SECRET,
        "STATE_DIR": str(folder),
        **settings,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    given = {f"GREENROOM_{name}": value for name, value in wanted.items() if value is not None}
    environment = {"PREFECT_API_URL": NOBODY_THERE["PREFECT_API_URL"]} | kept | given
    log = folder / "api.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "api"], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    running = Api(port, process, log)
    try:
        eventually(lambda: _ready(running), "the API is ready")
        yield running
    finally:
        for client in running.clients.values():
            client.close()
        process.terminate()
        process.wait(10)


def _ready(api: Api) -> bool:
    assert api.process.poll() is None, f"the API ended:\n{api.log.read_text()}"
    try:
        return httpx.get(f"{api.url}/health/ready", timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def install_js_clients() -> Path:
    """The folder of the real STOMP clients, installed by npm from the lock when they are not there."""
    folder = ROOT / "tests" / "js"
    with (folder / "package.json").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # the tests' processes would install into one folder at once
        if not (folder / "node_modules" / ".package-lock.json").exists():
            done = subprocess.run(["npm", "ci"], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, f"npm could not install the STOMP clients:\n{done.stderr[-2000:]}"
    return folder


class JsClient:
    """One @stomp/stompjs client in a Node process of its own."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["node", "client.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.seen: list[dict[str, Any]] = []
        """Every event so far, in order."""
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._events.put(json.loads(line))

    def do(self, action: str, **more: Any) -> None:
        """Tell the client to do something."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"do": action, **more}) + "\n")
        self._process.stdin.flush()

    def wait(self, event: str, *, seconds: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        """The next event of this name with these fields; those before it are kept in ``seen``."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                got = self._events.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {event} {fields} came; seen: {self.seen[-5:]}") from None
            self.seen.append(got)
            if got["event"] == event and all(got.get(name) == value for name, value in fields.items()):
                return got

    def connect(self, url: str, token: str, **more: Any) -> dict[str, Any]:
        """Connect as the token's user; gives CONNECTED."""
        self.do("connect", url=url, headers={"Authorization": f"Bearer {token}"}, **more)
        return self.wait("connected")

    def subscribe(self, id_: str, destination: str, **headers: str) -> int:
        """Subscribe, and wait until the server says so; gives the last-id."""
        self.do("subscribe", id=id_, destination=destination, headers=headers)
        return int(self.wait("subscribed", id=id_)["lastId"])

    def bodies(self, subscription: str) -> list[dict[str, Any]]:
        """The bodies seen so far on a subscription."""
        return [e["body"] for e in self.seen if e["event"] == "message" and e["subscription"] == subscription]

    def next(self, subscription: str, **fields: Any) -> dict[str, Any]:
        """The next body on a subscription."""
        return dict(self.wait("message", subscription=subscription, **fields)["body"])
