"""A real Prefect server for the tests, as a process that can be killed and started again."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from tests.support.processes import PostgresServer, eventually, free_port

AUTH = "tests:of the flows"
LATE_SECONDS = 3
"""After which a run that nobody took is late; Prefect's default is 15."""
PAGE = 200
"""How many runs, deployments or artifacts the server gives at once, at most."""


class PrefectProcess:
    """Prefect's server on a database of its own; it keeps its port over a restart."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self._port = free_port()
        self._environment = os.environ | {
            "PREFECT_API_URL": self.url,
            "PREFECT_HOME": str(folder),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_API_AUTH_STRING": AUTH,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_ENABLED": "false",
            # the same rules as by default, looked at more often
            "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": str(LATE_SECONDS),
            "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
            "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
            "DO_NOT_TRACK": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its API answers."""
        return f"http://127.0.0.1:{self._port}/api"

    def http(self) -> httpx.Client:
        """A client of its REST API, signed in."""
        user, _, password = AUTH.partition(":")
        return httpx.Client(base_url=self.url, auth=(user, password), timeout=10, trust_env=False)

    def found(self, kind: str, **filters: Any) -> list[dict[str, Any]]:
        """Every one of this kind (``flow_runs``, ``deployments``, ``artifacts``) that the filters let through.

        Other tests of the same process have used the server before, so a filter has to name what the caller made.
        """
        order = {"flow_runs": "ID_DESC", "deployments": "NAME_ASC", "artifacts": "ID_DESC"}[kind]
        by_id: dict[str, dict[str, Any]] = {}
        offset, full = 0, True
        with self.http() as http:
            while full:
                page = {**filters, "sort": order, "limit": PAGE, "offset": offset}
                rows: list[dict[str, Any]] = http.post(f"/{kind}/filter", json=page).raise_for_status().json()
                by_id |= {row["id"]: row for row in rows}
                offset, full = offset + PAGE, len(rows) == PAGE
        return list(by_id.values())

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        with (self._folder / "server.log").open("ab") as out:
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port), "--log-level", "warning"],
                cwd=self._folder,
                env=self._environment,
                stdout=out,
                stderr=out,
            )
        eventually(self._answers, "Prefect's server answers", seconds=180)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended:\n{(self._folder / 'server.log').read_text()[-3000:]}"
        try:
            return httpx.get(f"{self.url}/ready", timeout=5, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def end(self, by: signal.Signals = signal.SIGKILL) -> None:
        """End it, by default without giving it a chance to finish anything."""
        if self._process is not None:
            self._process.send_signal(by)
            self._process.wait(30)
            self._process = None


@contextmanager
def running(postgres: PostgresServer, folder: Path) -> Iterator[PrefectProcess]:
    """A server, used by this process's Prefect until the block ends."""
    name = f"prefect_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    server = PrefectProcess(folder, postgres.url_of(name).replace("postgresql:", "postgresql+asyncpg:"))
    server.start()
    try:
        ours = {
            PREFECT_API_URL: server.url,
            PREFECT_API_AUTH_STRING: AUTH,
            PREFECT_HOME: folder,
            PREFECT_LOGGING_TO_API_ENABLED: False,  # its thread would outlive the server
        }
        with temporary_settings(ours):
            yield server
            # What its client still has to say must be said now: at its end this process would wait, event by event,
            # for a server that is gone.
            EventsWorker.drain_all(timeout=30)
    finally:
        server.end()
