"""Prefect's server as a part of the stack: its settings, and the checks that it and its worker are ready.

Prefect itself is not imported here: the supervisor would be 60 MB larger for as long as it runs.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil

from core.errors import GreenroomError
from deployments.local import probe
from deployments.schedules import pools

DATABASE_VARIABLES = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
POOL = pools.LOCAL["GREENROOM_POOL"]

# of another Prefect (Cloud, another profile): with these our clients would not find or not trust our server
FOREIGN = ("PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_CLOUD_API_URL")

# a value from the environment takes precedence over these
CLIENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_COLORS": "false",
    "PREFECT_CLI_COLORS": "false",
}
SERVER = {
    # the default keeps 90 days of events and every run for ever
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_SIZE": "3",  # each idle connection is 3 to 10 MB of PostgreSQL
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT__SERVER_FINAL": "1",  # as «prefect server start» sets it: no second application is created in this process
}


@dataclass(frozen=True)
class Orchestrator:
    """Where Prefect's server listens, its sign-in and its database."""

    home: Path
    host: str
    port: int
    auth: str
    database: str

    @property
    def url(self) -> str:
        """The address of the UI, and the base of the API."""
        return f"http://{self.host}:{self.port}"

    def client_env(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What a process needs to find this server, on top of its environment."""
        kept = {name: value for name, value in environ.items() if name not in (*FOREIGN, *DATABASE_VARIABLES)}
        return {
            **CLIENT,
            **kept,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_API_AUTH_STRING": self.auth,
        }

    def server_env(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What the server itself needs."""
        return {
            **SERVER,
            **self.client_env(environ),
            "PREFECT_SERVER_API_HOST": self.host,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_API_AUTH_STRING": self.auth,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database,
        }

    def command(self) -> list[str]:
        """The server as one process: Prefect's own command would keep a parent, or import twice."""
        return [
            *(sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
            *("--host", self.host, "--port", str(self.port)),
            *("--log-level", "warning", "--no-access-log"),
            # a browser on the UI keeps its sockets open; without a limit they would delay every stop
            *("--timeout-graceful-shutdown", "2"),
        ]

    async def request(self, path: str, body: Any = None) -> Any:
        """The server's answer to a GET, or to a POST with a body; None when it is not a 200."""
        return await probe.request_json(self.host, self.port, f"/api{path}", auth=self.auth, body=body)

    async def ready(self, pid: int) -> bool:
        """Whether the server answers and reaches its database."""
        return await probe.answers(self.host, self.port, "/api/ready")

    async def worker_ready(self, pid: int) -> bool:
        """Whether a worker of our pool has been online since this process started."""
        workers = await self.request(f"/work_pools/{POOL}/workers/filter", {})
        try:
            begun = psutil.Process(pid).create_time()
        except psutil.Error:
            return False
        return any(_online_since(worker, begun) for worker in workers or ())


def _online_since(worker: Mapping[str, str], begun: float) -> bool:
    beat = datetime.fromisoformat(worker["last_heartbeat_time"])
    return worker["status"] == "ONLINE" and beat.timestamp() >= begun


def own_database(environ: Mapping[str, str]) -> str | None:
    """Prefect's database as set in the environment, if it is."""
    return next((environ[name] for name in DATABASE_VARIABLES if environ.get(name)), None)


def database_beside(url: str) -> str:
    """The database ``prefect`` on the server of this URL, as Prefect's driver wants it."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql+asyncpg", path="/prefect"))


def port() -> int:
    """The port Prefect's server listens on.

    Raises GreenroomError when the variable holds something else.
    """
    chosen = os.environ.get("PREFECT_SERVER_API_PORT") or "4200"
    if not chosen.isdecimal() or not 0 < int(chosen) < 65536:
        raise GreenroomError(f"PREFECT_SERVER_API_PORT must be a port (is {chosen!r}).")
    return int(chosen)
