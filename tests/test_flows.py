"""Flows, the watcher and the dispatcher, on a real Prefect server and a real PostgreSQL."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from prefect import State, flow, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_engine import run_flow
from prefect.states import Pending
from pydantic import BaseModel
from sqlalchemy import text

from core.clock import utcnow
from core.db import transaction
from core.events import FLOWS, FlowState
from core.models import Base, InterviewSession
from flows import dispatcher, watcher
from flows.prefect_api import PrefectServer
from flows.run import headline, job, lock_key, step
from flows.sessions import update_session_statuses
from flows.watcher import Watcher
from tests import factories, parts, prefect_server
from tests.prefect_server import PrefectProcess


@pytest.fixture(scope="module")
def prefect(postgres: parts.PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectProcess]:
    with prefect_server.running(postgres, tmp_path_factory.mktemp("prefect")) as server:
        yield server


class Counted(BaseModel):
    """The smallest result a job can have."""

    now: datetime
    dry_run: bool
    done: int = 1


def history(server: PrefectProcess, run_id: UUID | str) -> list[tuple[str, str]]:
    """What the server remembers of a run: state names and ids, in order; not what the scheduler planned ahead."""
    with server.http() as http:
        states = http.get("/flow_run_states/", params={"flow_run_id": str(run_id)}).json()
    return [(s["name"], s["id"]) for s in sorted(states, key=lambda s: s["timestamp"])]


def told(run_id: UUID | str | None = None) -> list[dict[str, Any]]:
    """What was pushed about a run, or about all, in order."""
    with transaction() as db:
        return [data for data in factories.pushed(db, FLOWS, "flow.state") if run_id in (None, UUID(data["run_id"]))]


def keys() -> list[str]:
    with transaction() as db:
        return list(db.execute(text("SELECT dedupe_key FROM push_events WHERE type = 'flow.state'")).scalars())


async def until(condition: Callable[[], Any], what: str, *, seconds: float = parts.PATIENCE) -> Any:
    """The condition's value once it is true, without holding up the loop."""
    return await asyncio.to_thread(parts.eventually, condition, what, seconds=seconds)


def invited(*, expired: timedelta) -> UUID:
    """A session whose invitation expired this long ago."""
    with transaction() as db:
        now = utcnow()
        return factories.session(
            db,
            now=now - timedelta(days=2),
            status="invited",
            scheduled_start=None,
            scheduled_end=None,
            invitation_expires_at=now - expired,
        )


def status(session_id: UUID) -> str:
    with transaction() as db:
        row = db.get(InterviewSession, session_id)
        assert row
        return row.status


def everything() -> dict[str, list[Any]]:
    """Every row of every table, with the transaction that wrote it."""
    with transaction() as db:
        query = "SELECT xmin::text, row::text FROM {} row ORDER BY 2"
        return {name: list(db.execute(text(query.format(name)))) for name in Base.metadata.tables}


async def sweep(**parameters: Any) -> State[Any]:
    state: State[Any] = await update_session_statuses(**parameters, return_state=True)
    return state


# flows


async def test_a_run_moves_what_is_due_and_shows_its_typed_result(prefect: PrefectProcess, database: str) -> None:
    due, later = invited(expired=timedelta(hours=1)), invited(expired=-timedelta(hours=1))

    state = await sweep()

    assert (status(due), status(later)) == ("expired", "invited")
    swept = await state.result()
    assert (swept.found, swept.done, swept.failed, swept.by_rule) == (1, 1, 0, {"expire": 1})
    run_id = state.state_details.flow_run_id
    with prefect.http() as http:
        [shown] = http.post("/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [str(run_id)]}}}).json()
        run = http.get(f"/flow_runs/{run_id}").json()
    assert (shown["key"], shown["type"]) == ("update-session-statuses", "table")
    assert json.loads(shown["data"]) == [swept.model_dump(mode="json")]
    assert shown["description"] == "Found 1, done 1, skipped 0, failed 0 (expire 1)."
    slot = datetime.fromisoformat(run["expected_start_time"])
    assert swept.now == slot
    assert run["name"] == f"update-session-statuses/{slot:%Y-%m-%dT%H:%M:%S}Z".replace(":00Z", "Z")


async def test_a_dry_run_counts_and_writes_nothing(prefect: PrefectProcess, database: str) -> None:
    due = invited(expired=timedelta(hours=1))
    before = everything()

    state = await sweep(dry_run=True)

    swept = await state.result()
    assert (swept.found, swept.done, swept.dry_run) == (1, 0, True)
    assert swept.sample == [{"session_id": str(due), "status": "invited", "rule": "expire"}]
    assert status(due) == "invited"
    assert everything() == before


async def test_only_a_dry_run_may_look_ahead(prefect: PrefectProcess, database: str) -> None:
    soon = invited(expired=-timedelta(hours=1))
    tomorrow = utcnow() + timedelta(days=1)

    refused = await sweep(now=tomorrow)
    assert refused.is_failed()
    assert "now: " in str(refused.message)
    assert "only a dry run may look ahead" in str(refused.message)
    assert status(soon) == "invited"

    ahead = await (await sweep(now=tomorrow, dry_run=True)).result()
    assert (ahead.found, ahead.now) == (1, tomorrow)

    naive = await sweep(now=datetime(2026, 1, 1))
    assert "has no time zone" in str(naive.message)


async def test_trouble_is_retried(prefect: PrefectProcess, database: str) -> None:
    """PostgreSQL cuts the connection in mid-transaction: the step is done again, and the run completes."""
    tries = 0

    def cut_once(*, now: datetime, dry_run: bool) -> Counted:
        nonlocal tries
        tries += 1
        with transaction() as db:
            if tries == 1:
                db.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            db.execute(text("SELECT 1"))
        return Counted(now=now, dry_run=dry_run)

    @flow(name="troubled")
    async def troubled() -> Counted:
        return await step(cut_once, now=utcnow(), dry_run=False)

    assert (await troubled()).done == 1
    assert tries == 2


async def test_a_bug_is_not_retried(prefect: PrefectProcess, database: str) -> None:
    tries = 0

    def wrong(*, now: datetime, dry_run: bool) -> Counted:
        nonlocal tries
        tries += 1
        with transaction() as db:
            db.execute(text("SELECT * FROM no_such_table"))
        raise AssertionError

    @flow(name="wrong")
    async def buggy() -> Counted:
        return await step(wrong, now=utcnow(), dry_run=False)

    state = await buggy(return_state=True)
    assert state.is_failed()
    assert "no_such_table" in str(state.message)
    assert tries == 1


async def test_a_second_run_at_once_is_skipped(prefect: PrefectProcess, database: str) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(*, now: datetime, dry_run: bool) -> Counted:
        begun.set()
        assert go.wait(parts.PATIENCE)
        return Counted(now=now, dry_run=dry_run)

    def quick(*, now: datetime, dry_run: bool) -> Counted:
        return Counted(now=now, dry_run=dry_run)

    @flow(name="slow")
    async def one_at_a_time(fast: bool = False, dry_run: bool = False) -> Any:
        return await job(quick if fast else slow, now=None, dry_run=dry_run)

    async def run(**parameters: Any) -> State[Any]:
        return await one_at_a_time(**parameters, return_state=True)

    first = asyncio.create_task(run())
    await asyncio.to_thread(begun.wait, parts.PATIENCE)
    second = await run(fast=True)
    looking = await run(fast=True, dry_run=True)
    go.set()

    assert (second.name, second.is_completed()) == ("Skipped", True)
    assert second.message == "Skipped: another run of this flow is at work."
    assert looking.name == "Completed", "a dry run disturbs nobody"
    assert (await first).name == "Completed"
    assert (await run(fast=True)).name == "Completed", "the lock was given back"


def test_a_flows_lock_is_its_names_own() -> None:
    assert lock_key("update-session-statuses") == lock_key("update-session-statuses") != lock_key("send-reminders")
    assert 100 <= lock_key("update-session-statuses") < 2**31


def test_a_result_reads_as_one_line() -> None:
    assert headline({"dry_run": True, "found": 2, "done": 0, "by_rule": {"expire": 2}}) == (
        "Dry run: found 2, done 0 (expire 2)."
    )


def hourly(at: datetime) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        schedule=IntervalSchedule(interval=timedelta(hours=1), anchor_date=at), slug=f"at-{at:%S}", active=True
    )


async def test_of_missed_runs_only_the_newest_does_the_work(prefect: PrefectProcess, database: str) -> None:
    """Two runs that the scheduler planned are due, as after an hour without a worker; a run by hand is never late."""
    due = invited(expired=timedelta(hours=1))
    soon = utcnow() + timedelta(seconds=7)
    async with get_client() as client:
        deployment_id = await client.create_deployment(
            flow_id=await client.create_flow(update_session_statuses),
            name=f"missed-{uuid4()}",
            schedules=[hourly(soon), hourly(soon + timedelta(seconds=1))],
        )
        by_hand = await client.create_flow_run_from_deployment(deployment_id, state=Pending())
        of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
        missed: list[Any] = []
        async with asyncio.timeout(parts.PATIENCE):
            while len(missed) < 2:
                await asyncio.sleep(0.2)
                runs: list[Any] = await client.read_flow_runs(
                    deployment_filter=of_it, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=3
                )
                missed = [run for run in runs if run.auto_scheduled]
        await asyncio.sleep(max(0.0, (soon + timedelta(seconds=1.2) - utcnow()).total_seconds()))

        async def execute(run: Any) -> State[Any]:
            if not run.state.is_pending():
                await client.set_flow_run_state(run.id, Pending())  # as a worker does when it takes a run
            run = await client.read_flow_run(run.id)
            execute_flow: Any = run_flow
            state: State[Any] = await execute_flow(update_session_statuses, flow_run=run, return_type="state")
            return state

        hand = await execute(by_hand)
        assert hand.name == "Completed"
        assert status(due) == "expired"
        due = invited(expired=timedelta(hours=1))

        older = await execute(missed[0])
        assert older.name == "Skipped"
        assert "a later run is due as well" in str(older.message)
        assert status(due) == "invited"

        newest = await execute(missed[1])
        assert newest.name == "Completed"
        assert status(due) == "expired"
        assert (await newest.result()).now == missed[1].expected_start_time
        await client.delete_deployment(deployment_id)


# the watcher


@flow(name="watched")
async def watched() -> None:
    """Does nothing."""


@asynccontextmanager
async def watching(prefect: PrefectProcess, *, watchers: int = 1) -> AsyncIterator[None]:
    """Watchers at work until the block ends, each as in a dispatcher of its own."""
    tasks = [
        asyncio.create_task(Watcher(PrefectServer(prefect.url, prefect_server.AUTH)).run()) for _ in range(watchers)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def told_once(prefect: PrefectProcess, run_id: UUID) -> list[dict[str, Any]]:
    """What was pushed of a run, after checking that it is each of its states once, in order."""
    expected = history(prefect, run_id)
    await until(lambda: len(told(run_id)) >= len(expected), f"all of {expected} are told; told: {told(run_id)}")
    found = told(run_id)
    assert [data["state_name"] for data in found] == [name for name, _ in expected]
    assert {f"prefect:{state_id}" for _, state_id in expected} <= set(keys())
    return found


def run_of(state: State[Any]) -> UUID:
    assert state.state_details.flow_run_id
    return state.state_details.flow_run_id


async def test_every_state_of_a_run_is_told_once(prefect: PrefectProcess, database: str) -> None:
    due = invited(expired=timedelta(hours=1))
    async with watching(prefect):
        state = await sweep()
        found = await told_once(prefect, run_of(state))
    assert status(due) == "expired"
    assert [data["state"] for data in found] == ["PENDING", "RUNNING", "COMPLETED"]
    first, *_, last = found
    assert (first["flow"], first["deployment"]) == ("update-session-statuses", None)
    assert (first["start_time"], first["end_time"], first["result"]) == (None, None, None)
    assert last["result"] == (await state.result()).model_dump(mode="json")
    assert last["start_time"]
    assert last["end_time"]
    assert last["run_name"].startswith("update-session-statuses/2")


async def test_a_state_is_told_at_once(prefect: PrefectProcess, database: str) -> None:
    """Not by looking back: events wake the watcher."""
    async with watching(prefect):
        await told_once(prefect, run_of(await watched(return_state=True)))
        begun = time.monotonic()
        await told_once(prefect, run_of(await watched(return_state=True)))
    assert time.monotonic() - begun < watcher.LOOK_BACK_SECONDS / 3


async def test_what_happened_while_no_watcher_ran_is_told_when_one_starts(
    prefect: PrefectProcess, database: str
) -> None:
    async with watching(prefect):
        before = run_of(await watched(return_state=True))
        await told_once(prefect, before)
    missed = [run_of(await watched(return_state=True)) for _ in range(3)]
    assert not any(told(run) for run in missed)
    async with watching(prefect):
        for run in [before, *missed]:
            await told_once(prefect, run)


async def test_two_watchers_tell_each_state_once(prefect: PrefectProcess, database: str) -> None:
    async with watching(prefect, watchers=2):
        runs = [run_of(s) for s in await asyncio.gather(*(watched(return_state=True) for _ in range(5)))]
        for run in runs:
            await told_once(prefect, run)
        await asyncio.sleep(0.5)
    for run in runs:
        assert len(told(run)) == len(history(prefect, run))


async def test_a_killed_prefect_server_costs_no_state(prefect: PrefectProcess, database: str) -> None:
    """kill -9 while a run is under way: it goes on when the server is back, and every state is told once."""
    async with watching(prefect):
        await told_once(prefect, run_of(await watched(return_state=True)))
        before = len([data for data in told() if data["state"] == "RUNNING"])

        back = asyncio.Event()

        @flow(name="watched")
        async def waits() -> None:
            await back.wait()

        async def run() -> State[None]:
            return await waits(return_state=True)

        running = asyncio.create_task(run())
        await until(lambda: [d for d in told() if d["state"] == "RUNNING"][before:], "the run has begun")
        await asyncio.to_thread(prefect.end)
        await asyncio.to_thread(prefect.start)
        back.set()
        state = await running
        assert [d["state_name"] for d in await told_once(prefect, run_of(state))] == ["Pending", "Running", "Completed"]
        await told_once(prefect, run_of(await watched(return_state=True)))


async def test_events_that_mean_nothing_do_not_stop_the_watcher(prefect: PrefectProcess, database: str) -> None:
    def event(resource: str) -> dict[str, Any]:
        return {
            "id": str(uuid4()),
            "occurred": utcnow().isoformat(),
            "event": "prefect.flow-run.Nonsense",
            "resource": {"prefect.resource.id": resource},
        }

    async with watching(prefect):
        await told_once(prefect, run_of(await watched(return_state=True)))
        with prefect.http() as http:
            bad = [event("prefect.flow-run.no-uuid"), event(f"prefect.flow-run.{uuid4()}"), event("something.else")]
            http.post("/events", json=bad).raise_for_status()
        await told_once(prefect, run_of(await watched(return_state=True)))
    assert all(data["state_name"] != "Nonsense" for data in told())


def test_a_state_that_the_log_refuses_does_not_hold_up_the_others(database: str) -> None:
    def change(message: str) -> watcher.Told:
        fields: dict[str, Any] = dict.fromkeys(FlowState.model_fields)
        fields |= {"flow": "f", "run_id": uuid4(), "run_name": "r", "state": "RUNNING", "state_name": "Running"}
        return uuid4(), FlowState(**fields | {"message": message, "occurred_at": utcnow()})

    class Unwritable(FlowState):
        def model_dump_json(self, **_: Any) -> str:
            return "no JSON"

    state_id, bad = change("bad")
    watcher.store([change("one"), (state_id, Unwritable(**bad.model_dump())), change("two")])
    assert [data["message"] for data in told()] == ["one", "two"]


# the dispatcher


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


async def test_a_dispatcher_lives_in_pg_locks_tells_runs_and_stops_at_once(
    prefect: PrefectProcess, database: str, dispatcher_process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    await until(lambda: holders(database), "it says that it lives")
    run = run_of(await watched(return_state=True))
    await told_once(prefect, run)
    begun = time.monotonic()
    dispatcher_process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(dispatcher_process.wait, 5) == 0
    assert time.monotonic() - begun < 2
    assert holders(database) == []
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {"ts", "level", "part", "message"} <= set(lines[0])
    assert {line["part"] for line in lines} == {"dispatcher"}
    assert prefect_server.AUTH.split(":")[1] not in (tmp_path / "log").read_text()


async def test_a_killed_dispatcher_no_longer_lives_in_pg_locks(
    database: str, dispatcher_process: subprocess.Popen[bytes]
) -> None:
    await until(lambda: holders(database), "it says that it lives")
    dispatcher_process.kill()
    await until(lambda: not holders(database), "its lock is gone")


async def test_notify_wakes_work_also_after_the_connection_was_lost(database: str, prefect: PrefectProcess) -> None:
    called = 0

    async def work() -> datetime | None:
        nonlocal called
        called += 1
        return None

    dispatching = asyncio.create_task(dispatcher.dispatch((work,)))
    try:
        await until(lambda: holders(database), "it lives")

        async def wakes() -> None:
            await asyncio.sleep(0.3)
            before = called
            with psycopg.connect(database, autocommit=True) as db:
                db.execute(f"NOTIFY {dispatcher.CHANNEL}")
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


async def test_work_is_called_when_it_said_it_would_be_due(database: str) -> None:
    called: list[datetime] = []

    async def work() -> datetime | None:
        called.append(utcnow())
        if len(called) == 2:
            raise ValueError("once")
        return utcnow() + timedelta(seconds=0.2) if len(called) < 4 else None

    keeping = asyncio.create_task(dispatcher._keep_at(work, asyncio.Event()))
    await asyncio.sleep(1.5)
    keeping.cancel()
    assert len(called) == 4, "at its time, again after it failed, and not without a reason"
    assert called[1] - called[0] >= timedelta(seconds=0.2)
