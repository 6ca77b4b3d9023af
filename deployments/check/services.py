"""Checks of what runs: the database, the ports, a running stack and its health."""

import os
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from core.errors import GreenroomError
from core.settings import Settings
from core.settings_errors import PREFIX
from deployments.check.findings import SET_UP, Finding, Findings, run, short_message

LOOPBACK = "127.0.0.1"
EXTENSIONS = {"btree_gist": "Greenroom", "pg_trgm": "Prefect"}


def embedded() -> Findings:
    """Whether the embedded PostgreSQL's programs are installed."""
    from deployments.local.postgres import program

    get = f"Install it as locked: {SET_UP}; or set {PREFIX}DATABASE_URL to a server of your own"
    try:
        lacking = [name for name in ("postgres", "initdb", "psql") if not os.access(program(name), os.X_OK)]
    except GreenroomError as error:
        yield Finding("missing", short_message(error))
        return
    if lacking:
        yield Finding("missing", f"the embedded PostgreSQL lacks {', '.join(lacking)}", get)
    else:
        yield Finding("ok", f"embedded, {run(program('postgres'), '--version')}")


def database(url: str) -> Findings:
    """Whether the set database can be reached, has its extensions, and is at the newest schema."""
    import psycopg
    from alembic.script import ScriptDirectory

    from core.migrations import config

    try:
        connection = psycopg.connect(url, connect_timeout=5, autocommit=True)
    except psycopg.Error as error:
        get = f"Start it, or set {PREFIX}DATABASE_URL right; without one greenroom up brings its own"
        yield Finding("missing", f"it cannot be reached: {short_message(error)}", get)
        return
    with connection as db:
        server = db.execute("SHOW server_version").fetchone()
        offered = {name for (name,) in db.execute("SELECT name FROM pg_available_extensions").fetchall()}
        known = db.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone()
        found = {row for (row,) in db.execute("SELECT version_num FROM alembic_version")} if known == (True,) else set()
    yield Finding("ok", f"PostgreSQL {server[0] if server else '?'}")
    for name in EXTENSIONS.keys() - offered:
        get = "Install the server's contrib package (Debian: postgresql-contrib)"
        yield Finding("missing", f"the extension {name}, which {EXTENSIONS[name]} needs, is not available there", get)
    if found != set(ScriptDirectory.from_config(config(url)).get_heads()):
        at = f"at {', '.join(sorted(found))}, not at the newest schema" if found else "empty"
        yield Finding("missing", f"the database is {at}", "Migrate it: greenroom migrate")
    else:
        yield Finding("ok", "at the newest schema")


def ports(settings: Settings) -> Findings:
    """Whether the ports are free, or held by our own stack."""
    from deployments.local import orchestrator
    from deployments.local.ports import available, listener

    wanted = [
        ("the API", settings.host, settings.port, f"{PREFIX}PORT"),
        ("Prefect's server", LOOPBACK, orchestrator.port(), "PREFECT_SERVER_API_PORT"),
    ]
    if settings.smtp_url is None:
        wanted.append(("mail capture", LOOPBACK, settings.capture_port, f"{PREFIX}CAPTURE_PORT"))
    ours = _listening(_supervisor(settings.state_dir))
    for part, host, port, variable in wanted:
        if port in ours:
            yield Finding("ok", f"{port} is held by our own stack ({part})")
        elif available(host, port):
            yield Finding("ok", f"{port} is free for {part}")
        else:
            who = listener(port)
            get = f"End that process, or choose another port with {variable}"
            yield Finding("missing", f"{port}, which {part} needs, is taken{f' by {who}' if who else ''}", get)


def _supervisor(state_dir: Path) -> int | None:
    """The process id of the supervisor that holds this state directory's lock, if one does."""
    lock = state_dir / "run" / "up.lock"
    if not lock.exists():
        return None
    with lock.open("r") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except OSError:
            return int(file.read().strip() or 0) or None
    return None


def _listening(supervisor: int | None) -> set[int]:
    """The ports that a stack's processes listen on."""
    import psutil

    if supervisor is None:
        return set()
    try:
        head = psutil.Process(supervisor)
        family = [head, *head.children(recursive=True)]
    except psutil.Error:
        return set()
    return {
        connection.laddr.port
        for process in family
        for connection in _sockets(process)
        if connection.status == psutil.CONN_LISTEN and connection.laddr
    }


def _sockets(process: Any) -> list[Any]:
    import psutil

    try:
        return list(process.net_connections(kind="tcp"))
    except (psutil.Error, OSError):
        return []


def stack(settings: Settings) -> Findings:
    """Whether a stack is running, and what /health/ready reports."""
    import httpx

    from deployments.local.ports import reachable

    supervisor = _supervisor(settings.state_dir)
    here = f"running (process {supervisor})" if supervisor else "none is running on this state directory"
    try:
        url = f"http://{reachable(settings.host)}:{settings.port}/health/ready"
        answer = httpx.get(url, timeout=5, trust_env=False).json()
        says = f"{url} says {answer['status']}"
        reasons = "; ".join(f"{part}: {reason}" for part, reason in answer["reasons"].items())
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        if supervisor:
            yield Finding("warn", f"{here}, but its API does not answer", f"See {settings.state_dir}/log/api.log")
        else:
            yield Finding("ok", here, "Start one: greenroom up")
        return
    yield Finding("warn" if reasons else "ok", f"{here}; {says}{f' ({reasons})' if reasons else ''}")
