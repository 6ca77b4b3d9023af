"""What every flow shares, on a real Prefect server and a real PostgreSQL."""

import asyncio
import json
import threading
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from prefect import State, flow, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_engine import run_flow
from prefect.states import Pending
from sqlalchemy import text

from core.clock import utcnow
from core.db import transaction
from core.results import JobResult
from core.settings import settings
from flows.run import job, lock_key, session_links, step, take_lock
from flows.sessions import update_session_statuses
from tests.support import processes
from tests.support.flow_runs import everything, invited, status, sweep
from tests.support.prefect_server import PrefectProcess


def one_done(now: datetime, *, dry_run: bool) -> JobResult:
    return JobResult(now=now, dry_run=dry_run, done=1)


async def test_a_run_moves_what_is_due_and_shows_its_typed_result(prefect: PrefectProcess, database: str) -> None:
    due, later = invited(expired=timedelta(hours=1)), invited(expired=-timedelta(hours=1))

    state = await sweep()

    assert (status(due), status(later)) == ("expired", "invited")
    swept = await state.result()
    assert (swept.found, swept.done, swept.failed, swept.counts) == (1, 1, 0, {"expire": 1})
    run_id = state.state_details.flow_run_id
    with prefect.http() as http:
        [shown] = http.post("/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [str(run_id)]}}}).json()
        run = http.get(f"/flow_runs/{run_id}").json()
    assert (shown["key"], shown["type"]) == ("update-session-statuses", "table")
    assert json.loads(shown["data"]) == [swept.model_dump(mode="json")]
    summary, link = shown["description"].split("\n\n")
    assert summary == "Found 1, done 1, skipped 0, failed 0 (expire 1)."
    assert link == f"[{due}](http://localhost:8080/#session/{due})"
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


async def test_a_future_now_needs_a_dry_run(prefect: PrefectProcess, database: str) -> None:
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


async def test_transient_errors_are_retried(prefect: PrefectProcess, database: str) -> None:
    """PostgreSQL cuts the connection in mid-transaction: the step is done again, and the run completes."""
    tries = 0

    def cut_once(*, now: datetime, dry_run: bool) -> JobResult:
        nonlocal tries
        tries += 1
        with transaction() as db:
            if tries == 1:
                db.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            db.execute(text("SELECT 1"))
        return one_done(now, dry_run=dry_run)

    @flow(name="troubled")
    async def troubled() -> JobResult:
        return await step(cut_once, now=utcnow(), dry_run=False)

    assert (await troubled()).done == 1
    assert tries == 2


async def test_a_bug_is_not_retried(prefect: PrefectProcess, database: str) -> None:
    tries = 0

    def wrong(*, now: datetime, dry_run: bool) -> JobResult:
        nonlocal tries
        tries += 1
        with transaction() as db:
            db.execute(text("SELECT * FROM no_such_table"))
        raise AssertionError

    @flow(name="wrong")
    async def buggy() -> JobResult:
        return await step(wrong, now=utcnow(), dry_run=False)

    state = await buggy(return_state=True)
    assert state.is_failed()
    assert "no_such_table" in str(state.message)
    assert tries == 1


async def test_a_second_run_at_once_is_skipped(prefect: PrefectProcess, database: str) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(*, now: datetime, dry_run: bool) -> JobResult:
        begun.set()
        assert go.wait(processes.PATIENCE)
        return one_done(now, dry_run=dry_run)

    def not_blocking(*, now: datetime, dry_run: bool) -> JobResult:
        return one_done(now, dry_run=dry_run)

    @flow(name="slow")
    async def one_at_a_time(fast: bool = False, dry_run: bool = False) -> Any:
        return await job(not_blocking if fast else slow, now=None, dry_run=dry_run)

    async def run(**parameters: Any) -> State[Any]:
        return await one_at_a_time(**parameters, return_state=True)

    first = asyncio.create_task(run())
    await asyncio.to_thread(begun.wait, processes.PATIENCE)
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


def test_the_headline_of_a_result() -> None:
    assert JobResult(now=utcnow(), done=1).headline() == "Found 0, done 1, skipped 0, failed 0."
    dry = JobResult(now=utcnow(), dry_run=True, found=2, counts={"expire": 2, "close": 0})
    assert dry.headline() == "Dry run: found 2, done 0, skipped 0, failed 0 (expire 2)."


def test_two_results_add_up_to_one() -> None:
    now = utcnow()
    first = JobResult(now=now, found=3, done=2, skipped=1, counts={"sent": 2, "expired": 1}, sample=[{"id": 1}] * 7)
    second = JobResult(now=now + timedelta(1), found=2, failed=2, counts={"sent": 1, "dead": 1}, sample=[{"id": 2}] * 7)
    both = first + second
    assert (both.now, both.found, both.done, both.skipped, both.failed) == (now, 5, 2, 1, 2)
    assert both.counts == {"sent": 3, "expired": 1, "dead": 1}
    assert [one["id"] for one in both.sample] == [1] * 7 + [2] * 3
    assert (first.found, first.counts, len(first.sample)) == (3, {"sent": 2, "expired": 1}, 7), "left as they were"
    assert JobResult.model_validate_json(both.model_dump_json()) == both


def test_a_result_links_to_the_sessions_of_its_sample() -> None:
    one = {"part": "reminders", "session_id": "01a1fadc-22e1-751c-8ebe-1b994c3a9344", "to": "candidate"}
    result = JobResult(now=utcnow(), sample=[one, {"notification_id": 5, "title": "Soon"}, one])
    assert session_links(result) == f"[{one['session_id']}]({settings().session_page(one['session_id'])})"


def hourly(at: datetime) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        schedule=IntervalSchedule(interval=timedelta(hours=1), anchor_date=at), slug=f"at-{at:%S}", active=True
    )


async def test_only_the_newest_of_missed_runs_does_the_work(prefect: PrefectProcess, database: str) -> None:
    """Runs that the scheduler planned are due, as after hours without a worker; a run by hand is never late.

    A later one that found another at work has done nobody's work.
    """
    due = invited(expired=timedelta(hours=1))
    soon = utcnow() + timedelta(seconds=4)
    async with get_client() as client:
        deployment_id = await client.create_deployment(
            flow_id=await client.create_flow(update_session_statuses),
            name=f"missed-{uuid4()}",
            schedules=[hourly(soon + timedelta(seconds=more)) for more in range(3)],
        )
        by_hand = await client.create_flow_run_from_deployment(deployment_id, state=Pending())
        of_it = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
        missed: list[Any] = []
        async with asyncio.timeout(processes.PATIENCE):
            while len(missed) < 3:
                await asyncio.sleep(0.2)
                runs: list[Any] = await client.read_flow_runs(
                    deployment_filter=of_it, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=4
                )
                missed = [run for run in runs if run.auto_scheduled]
        await asyncio.sleep(max(0.0, (soon + timedelta(seconds=2.2) - utcnow()).total_seconds()))

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

        other = await asyncio.to_thread(take_lock, key=lock_key("update-session-statuses"))
        assert other is not None
        newest = await execute(missed[2])
        other.close()
        assert (newest.name, status(due)) == ("Skipped", "invited")

        newest_left = await execute(missed[1])
        assert newest_left.name == "Completed"
        assert status(due) == "expired"
        assert (await newest_left.result()).now == missed[1].expected_start_time
        await client.delete_deployment(deployment_id)
