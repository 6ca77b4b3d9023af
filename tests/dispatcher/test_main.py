"""The dispatcher as a process: it lives in pg_locks, is woken, and does what is due without Prefect."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from core.clock import utcnow
from core.db import transaction
from core.locks import WORK_CHANNEL
from dispatcher import main
from tests.support import prefect_server, processes
from tests.support.flow_runs import pushed_once, run_of, until, watched
from tests.support.prefect_server import PrefectProcess
from tests.support.processes import eventually
from tests.support.reminders import people, soon, statuses


def holders(database: str) -> list[int]:
    """The PostgreSQL processes that hold the lock of a living dispatcher."""
    with psycopg.connect(database) as db:
        found = db.execute(
            "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database WHERE datname = current_database() "
            "AND locktype = 'advisory' AND classid = 7747 AND objid = 2 AND mode = 'ShareLock' AND granted"
        )
        return [pid for (pid,) in found]


@pytest.fixture
def dispatcher_process(prefect: PrefectProcess, database: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"PREFECT_API_URL": prefect.url, "PREFECT_API_AUTH_STRING": prefect_server.AUTH}
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "dispatcher"],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=out,
        )
    yield process
    process.kill()
    process.wait()


async def test_a_dispatcher_is_in_pg_locks_pushes_states_and_stops_at_once(
    prefect: PrefectProcess, database: str, dispatcher_process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    await until(lambda: holders(database), "it says that it lives")
    run = run_of(await watched(return_state=True))
    await pushed_once(prefect, run)
    begun = time.monotonic()
    dispatcher_process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(dispatcher_process.wait, 5) == 0
    assert time.monotonic() - begun < 2
    assert holders(database) == []
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"ts", "level", "part", "message"} <= set(lines[0])
    assert {line["part"] for line in lines} == {"dispatcher"}
    assert prefect_server.AUTH.split(":")[1] not in (tmp_path / "log").read_text()


async def test_a_killed_dispatcher_is_no_longer_in_pg_locks(
    database: str, dispatcher_process: subprocess.Popen[bytes]
) -> None:
    await until(lambda: holders(database), "it says that it lives")
    dispatcher_process.kill()
    await until(lambda: not holders(database), "its lock is gone")


async def test_notify_starts_work_also_after_a_reconnect(database: str, prefect: PrefectProcess) -> None:
    called = 0

    async def work() -> datetime | None:
        nonlocal called
        called += 1
        return None

    dispatching = asyncio.create_task(main.dispatch((work,)))
    try:
        await until(lambda: holders(database), "it lives")

        async def wakes() -> None:
            await asyncio.sleep(0.3)
            before = called
            with psycopg.connect(database, autocommit=True) as db:
                db.execute(f"NOTIFY {WORK_CHANNEL}")
            await until(lambda: called > before, "the work was called")

        await wakes()
        [pid] = holders(database)
        with psycopg.connect(database, autocommit=True) as db:
            db.execute("SELECT pg_terminate_backend(%s)", (pid,))
        await until(lambda: holders(database) not in ([], [pid]), "it lives on a new connection")
        await wakes()
    finally:
        dispatching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await dispatching


async def test_work_is_called_at_its_due_time(database: str) -> None:
    called: list[datetime] = []

    async def work() -> datetime | None:
        called.append(utcnow())
        if len(called) == 2:
            raise ValueError("once")
        return utcnow() + timedelta(seconds=0.2) if len(called) < 4 else None

    keeping = asyncio.create_task(main._call_when_due(work, asyncio.Event()))
    await asyncio.sleep(1.5)
    keeping.cancel()
    assert len(called) == 4, "at its time, again after it failed, and not without a reason"
    assert called[1] - called[0] >= timedelta(seconds=0.2)


def rows(query: str, **given: Any) -> list[tuple[Any, ...]]:
    with transaction() as db:
        return [tuple(row) for row in db.execute(text(query), given)]


def test_the_dispatcher_sends_reminders_when_they_are_due(database: str, tmp_path: Path) -> None:
    """It knows of them when they are planned, and needs no Prefect for it."""
    environment = os.environ | {
        "PREFECT_API_URL": f"http://127.0.0.1:{processes.free_port()}/api",
        "GREENROOM_SMTP_URL": f"smtp://127.0.0.1:{processes.free_port()}",
    }
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", "dispatcher"],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=out,
        )
    try:
        eventually(lambda: "listening for work" in (tmp_path / "log").read_text(), "the dispatcher is up", seconds=60)
        ids = [soon(people(reminder_offsets=[60]), due_in=2 + n / 4) for n in range(6)]
        eventually(lambda: all(statuses(id_) == ["sent", "sent"] for id_ in ids), "all are sent", seconds=60)
    finally:
        process.kill()
        process.wait()
    early = rows("""
        SELECT count(*) FROM reminders r JOIN emails e ON e.session_id = r.session_id AND e.kind = 'reminder'
        WHERE e.created_at < r.due_at""")
    assert early == [(0,)], "none before its time"
    assert rows("SELECT count(*) FROM emails WHERE kind = 'reminder'") == [(12,)]
