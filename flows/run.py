"""What every flow shares: its slot, one retried step, its lock, late runs, and the result that people see."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import sqlalchemy.exc
from prefect import State, get_client, get_run_logger, runtime, task
from prefect.artifacts import acreate_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.states import Completed
from sqlalchemy import Connection, text

from core.clock import utcnow
from core.db import engine
from core.errors import Invalid, Unavailable
from core.locks import LOCKS
from core.results import JobResult
from core.settings import settings

RETRY_DELAYS = [1.0, 5.0, 15.0, 30.0]
"""Seconds; a restarted PostgreSQL is back well before the last."""
TRANSIENT_ERRORS = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    psycopg.OperationalError,
    ConnectionError,
    Unavailable,
)
"""What may be over in a moment. Everything else is a bug or bad input, which no retry mends."""


async def job(
    function: Callable[..., JobResult], *, now: datetime | None, dry_run: bool, own_slot: bool = False, **more: Any
) -> JobResult | State[Any]:
    """Do one job of core for its slot, alone, and show its typed result; the flow returns what this returns.

    It is skipped, with the reason as its final state, when a later slot is due too or another run is at it; not so
    a job that has something of its own to do for each slot. ``now`` replaces the scheduled time; ``dry_run`` counts
    and writes nothing.

    Raises Invalid for a ``now`` in the future that is no dry run.
    """
    slot = await _slot(now, dry_run=dry_run)
    if not own_slot and (later := await _later_run()) is not None:
        return _skipped(f"a later run is due as well and does this one's work: {later.name}")
    async with _exclusively(needed=not (dry_run or own_slot)) as alone:
        if not alone:
            return _skipped("another run of this flow is at work")
        result = await step(function, now=slot, dry_run=dry_run, **more)
    await _show_result(result)
    return result


async def step(function: Callable[..., JobResult], *, now: datetime, dry_run: bool, **more: Any) -> JobResult:
    """Run a synchronous function of core in a thread, as one task: transient errors are retried, bugs are not."""
    given = {"now": now, "dry_run": dry_run, **more}
    result: JobResult = await _in_thread.with_options(name=function.__name__)(function, given)
    return result


def _is_transient(_task: Any, _run: Any, state: State[Any]) -> bool:
    return isinstance(state.data, TRANSIENT_ERRORS) or isinstance(
        getattr(state.data, "exception", None), TRANSIENT_ERRORS
    )


@task(
    task_run_name="{function.__name__}",
    retries=len(RETRY_DELAYS),
    retry_delay_seconds=RETRY_DELAYS,
    retry_condition_fn=_is_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
async def _in_thread(function: Callable[..., Any], given: dict[str, Any]) -> Any:
    return await asyncio.to_thread(function, **given)


def scheduled_time() -> datetime:
    """When this run was to start, in UTC; of a run started by hand, when it was requested."""
    return _utc(runtime.flow_run.scheduled_start_time)


def slot_name() -> str:
    """The name of a run, which says its slot: ``update-session-statuses/2026-11-23T10:00Z``."""
    parameters = runtime.flow_run.parameters
    given = parameters.get("now")
    slot = _utc(given) if isinstance(given, datetime) else scheduled_time()
    stamp = f"{slot:%Y-%m-%dT%H:%M:%SZ}".replace(":00Z", "Z")
    return f"{runtime.flow_run.flow_name}/{stamp}{' (dry run)' if parameters.get('dry_run') else ''}"


async def _slot(now: datetime | None, *, dry_run: bool) -> datetime:
    if now is None:
        slot = scheduled_time()
        # Prefect's server rounds the wait to whole seconds, so a run may begin half a second before its slot
        await asyncio.sleep(max(0.0, (slot - utcnow()).total_seconds()))
        return slot
    if now.tzinfo is None:
        raise Invalid("now", "has no time zone; write it like 2026-11-23T10:00:00Z")
    if now > utcnow() and not dry_run:
        raise Invalid("now", f"{now:%Y-%m-%dT%H:%M:%S%z} lies in the future; only a dry run may look ahead")
    return now.astimezone(UTC)


async def _later_run() -> FlowRun | None:
    """The newest scheduled run of this deployment that is due too; None for a run that was started by hand.

    Missed runs all start when a worker returns, oldest first: only the newest has anything left to do.
    """
    run = _flow_run()
    if run is None or not run.auto_scheduled or run.deployment_id is None or run.expected_start_time is None:
        return None
    due = FlowRunFilter(
        expected_start_time=FlowRunFilterExpectedStartTime(after_=run.expected_start_time, before_=utcnow()),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_DOES_THE_WORK)),
    )
    async with get_client() as client:
        found = await client.read_flow_runs(
            flow_run_filter=due,
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
        )
    later = [
        other
        for other in found
        if other.auto_scheduled
        and other.state_name != _SKIPPED
        and other.expected_start_time
        and other.expected_start_time > run.expected_start_time
    ]
    return max(later, key=lambda other: _utc(other.expected_start_time), default=None)


_DOES_THE_WORK = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]
"""States in which a later run does this one's work, or did: not if it failed, crashed, was cancelled or skipped."""
_SKIPPED = "Skipped"


@asynccontextmanager
async def _exclusively(*, needed: bool) -> AsyncIterator[bool]:
    """Hold this flow's lock while the block runs; False when another run holds it.

    The lock lives on a connection of its own, so that PostgreSQL frees it however this process ends. Should the
    connection be lost on the way the work goes on: core's jobs are safe beside themselves, only wasteful.
    """
    if not needed:
        yield True
        return
    taking = _in_thread.with_options(name=take_lock.__name__)
    connection: Connection | None = await taking(take_lock, {"key": lock_key(str(runtime.flow_run.flow_name))})
    try:
        yield connection is not None
    finally:
        if connection is not None:
            await asyncio.to_thread(connection.close)


def lock_key(flow: str) -> int:
    """The second number of a flow's advisory lock: fixed by its name, and clear of those in core.locks."""
    return 100 + zlib.crc32(flow.encode()) % (2**31 - 100)


def take_lock(*, key: int) -> Connection | None:
    # no transaction is left open while the run goes on: it would hold back vacuum
    connection = engine().connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        connection.detach()  # closing it ends the connection, and the lock with it; the pool would keep both
        query = text("SELECT pg_try_advisory_lock(:class, :key)")
        if connection.execute(query, {"class": LOCKS, "key": key}).scalar_one():
            return connection
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def _skipped(why: str) -> State[Any]:
    get_run_logger().info("Skipped: %s.", why)
    return Completed(name=_SKIPPED, message=f"Skipped: {why}.")


async def _show_result(result: JobResult) -> None:
    """The result as a table of the run: people see it in the UI, and core.prefect_rest reads it by run id."""
    headline = result.headline()
    get_run_logger().info(headline)
    about = "\n\n".join(filter(None, [headline, session_links(result)]))
    try:
        await acreate_table_artifact(
            key=str(runtime.flow_run.flow_name), table=[result.model_dump(mode="json")], description=about
        )
    except (PrefectException, httpx.HTTPError) as error:
        # the work is done and committed: a run that cannot show it has not failed
        get_run_logger().warning("The result could not be shown: %s", error)


def session_links(result: JobResult) -> str:
    """The sample's sessions as Markdown, each a link to where it opens; empty when it has none."""
    ids = dict.fromkeys(one["session_id"] for one in result.sample if "session_id" in one)
    return ", ".join(f"[{id_}]({settings().session_page(id_)})" for id_ in ids)


def _flow_run() -> FlowRun | None:
    context = FlowRunContext.get()
    return context.flow_run if context else None


def _utc(moment: datetime | None) -> datetime:
    """The same moment as the standard library's type, in UTC: Prefect's own may be a subclass."""
    if moment is None:
        return utcnow()
    return datetime.fromtimestamp(moment.timestamp(), UTC)
