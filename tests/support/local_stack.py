"""The local stack as the fault tests need it: data laid out in it, runs started, parts killed, mails counted."""

import email
import random
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from psycopg import sql

from core.models import Base
from tests.support.processes import eventually
from tests.support.stack_process import Stack

PATIENCE = 120.0
"""Seconds in which a part that was killed is back, on a machine with more to do."""
_TABLES = [table.name for table in Base.metadata.sorted_tables]
_NUMBERED = [table.name for table in Base.metadata.sorted_tables if "id" in table.c and table.c.id.identity is not None]
_AHEAD = sql.SQL("""
    SELECT setval(pg_get_serial_sequence({name}, 'id'),
                  greatest(nextval(pg_get_serial_sequence({name}, 'id')), (SELECT max(id) + 1 FROM {table})))
""")
_REST = """
    UPDATE emails SET lease_until = CASE WHEN status = 'sending' THEN now() - interval '1 s' END,
                      due_at = least(due_at, now())
    WHERE status = 'queued' AND due_at > now() OR status = 'sending' AND lease_owner = ANY(%s)
"""


class StackAdmin:
    """One stack, asked as an admin."""

    def __init__(self, stack: Stack, admin: str) -> None:
        self.stack = stack
        self.http = stack.client(admin)
        self.killed: Counter[str] = Counter()
        self._before: set[Path] = set()

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's body, once there is one: parts that were killed come back."""

        def answered() -> httpx.Response | None:
            try:
                answer = self.http.request(method, path, json=body)
            except httpx.TransportError:
                return None
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer: httpx.Response = eventually(answered, f"{method} {path} is answered", seconds=PATIENCE)
        assert answer.is_success, answer.text
        return answer.json()

    def start(self, job: str, **parameters: Any) -> str:
        """Have the worker run a job; the run's id."""
        return str(self.request("POST", f"/api/flows/{job}/runs", {"parameters": parameters})["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as it is now."""
        found: dict[str, Any] = self.request("GET", f"/api/flows/runs/{run_id}")
        return found

    def completed(self, run_id: str) -> None:
        """Wait until the run has done its work."""
        eventually(lambda: self.run(run_id)["state_name"] == "Completed", f"run {run_id} completes", seconds=PATIENCE)

    def begun(self, runs: int) -> None:
        """Wait until so many runs have a process."""
        eventually(lambda: len(self.flows()) >= runs, f"{runs} runs have begun", seconds=PATIENCE)

    def flows(self) -> list[psutil.Process]:
        """The living processes of runs, whoever their parent is by now."""
        return [one for one in psutil.process_iter(["cmdline"]) if self._is_flow(one)]

    def _is_flow(self, process: psutil.Process) -> bool:
        if "prefect.engine" not in (process.info["cmdline"] or ()):
            return False
        try:
            ours = process.environ().get("GREENROOM_STACK") == str(self.stack.state_dir.resolve())
            return bool(ours and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    def kill(self, part: str, chance: random.Random) -> None:
        """Kill one part, and wait until another has taken its place; of a run's process none does."""
        if part != "flow":
            self.stack.kill(part)
        elif living := self.flows():
            chance.choice(living).send_signal(signal.SIGKILL)
        else:
            return
        self.killed[part] += 1

    def abandon(self, runs: list[str]) -> None:
        """Let who is at work at these runs come to an end, and see to it that nobody begins any more."""
        self._nobody_at_work()
        user, _, password = (self.stack.state_dir / "prefect_auth").read_text().strip().partition(":")
        base = f"http://127.0.0.1:{self.stack.prefect_port}/api"
        with httpx.Client(base_url=base, auth=(user, password), timeout=30, trust_env=False) as prefect:
            for run in runs:
                eventually(lambda run=run: _deleted(prefect, run), "the run is taken back", seconds=PATIENCE)
        self._nobody_at_work()

    def _nobody_at_work(self) -> None:
        eventually(lambda: not self.flows(), "nobody is at work at a run", seconds=PATIENCE)

    def database(self) -> psycopg.Connection[Any]:
        """A connection, once PostgreSQL takes one."""

        def connected() -> psycopg.Connection[Any] | None:
            try:
                return psycopg.connect(self.stack.database_url, autocommit=True, connect_timeout=5)
            except psycopg.OperationalError:
                return None

        found: psycopg.Connection[Any] = eventually(connected, "PostgreSQL takes connections", seconds=PATIENCE)
        return found

    def lay_out(self, source: str) -> datetime:
        """Make the stack's rows those of the database at ``source``, and tell the dispatcher; when that was."""
        self._before = set(self._mailbox())
        at: datetime = eventually(lambda: self._copied(source), "the rows are laid out")
        return at

    def _copied(self, source: str) -> datetime | None:
        everything = sql.SQL(", ").join(map(sql.Identifier, _TABLES))
        try:
            with psycopg.connect(source) as given, self.database() as db, db.transaction():
                at: tuple[datetime] | None = db.execute("SELECT clock_timestamp()").fetchone()
                db.execute(sql.SQL("TRUNCATE {}").format(everything))
                for name in _TABLES:
                    table = sql.Identifier(name)
                    with (
                        given.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(table)) as rows,
                        db.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(table)) as into,
                    ):
                        for row in rows:
                            into.write(row)
                for name in _NUMBERED:
                    db.execute(_AHEAD.format(name=sql.Literal(name), table=sql.Identifier(name)))
                db.execute("SELECT pg_notify('greenroom_work', '')")
        except psycopg.OperationalError:
            return None  # those who are at work in the tables may get in each other's way; a deadlock is one of these
        return at[0] if at else None

    def at_rest(self) -> bool:
        """Whether no mail waits. Waits end at once, and the leases of processes that are gone."""
        with self.database() as db:
            owners = db.execute("SELECT DISTINCT lease_owner FROM emails WHERE status = 'sending'").fetchall()
            dead = [owner for (owner,) in owners if not psutil.pid_exists(int(owner.split("/")[1]))]
            db.execute(_REST, [dead])
            db.execute("SELECT pg_notify('greenroom_work', '')")
            return db.execute("SELECT FROM emails WHERE status IN ('queued', 'sending')").fetchone() is None

    def mailed(self) -> list[str]:
        """Message-IDs of what the stack's mail server took since the data was laid out."""
        new = sorted(set(self._mailbox()) - self._before)
        return [str(email.message_from_bytes(one.read_bytes())["Message-ID"]).strip() for one in new]

    def _mailbox(self) -> Iterator[Path]:
        return (self.stack.state_dir / "mail").glob("*.eml")


def _deleted(prefect: httpx.Client, run: str) -> bool:
    try:
        return prefect.delete(f"/flow_runs/{run}").is_success
    except httpx.TransportError:
        return False
