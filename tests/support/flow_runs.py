"""What the tests of flows share: runs of real flows, what Prefect remembers of them, and what was pushed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import State, flow
from sqlalchemy import text

from core.clock import utcnow
from core.db import transaction
from core.events import FLOWS
from core.models import Base, InterviewSession
from dispatcher.flow_states import FlowStateWatcher
from dispatcher.prefect_api import PrefectServer
from flows.sessions import update_session_statuses
from tests.support import factories, prefect_server, processes
from tests.support.prefect_server import PrefectProcess


def history(server: PrefectProcess, run_id: UUID | str) -> list[tuple[str, str]]:
    """What the server remembers of a run: state names and ids, in order; not what the scheduler planned ahead."""
    with server.http() as http:
        states = http.get("/flow_run_states/", params={"flow_run_id": str(run_id)}).json()
    return [(s["name"], s["id"]) for s in sorted(states, key=lambda s: s["timestamp"])]


def pushed(run_id: UUID | str | None = None) -> list[dict[str, Any]]:
    """What was pushed about a run, or about all, in order."""
    with transaction() as db:
        return [data for data in factories.pushed(db, FLOWS, "flow.state") if run_id in (None, UUID(data["run_id"]))]


def keys() -> list[str]:
    with transaction() as db:
        return list(db.execute(text("SELECT dedupe_key FROM push_events WHERE type = 'flow.state'")).scalars())


async def until(condition: Callable[[], Any], what: str, *, seconds: float = processes.PATIENCE) -> Any:
    """The condition's value once it is true, without holding up the loop."""
    return await asyncio.to_thread(processes.eventually, condition, what, seconds=seconds)


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


@flow(name="watched")
async def watched() -> None:
    """Does nothing."""


@asynccontextmanager
async def watching(prefect: PrefectProcess, *, watchers: int = 1) -> AsyncIterator[None]:
    """Watchers at work until the block ends, each as in a dispatcher of its own."""
    tasks = [
        asyncio.create_task(FlowStateWatcher(PrefectServer(prefect.url, prefect_server.AUTH)).run())
        for _ in range(watchers)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pushed_once(prefect: PrefectProcess, run_id: UUID) -> list[dict[str, Any]]:
    """What was pushed of a run, after checking that it is each of its states once, in order."""
    expected = history(prefect, run_id)
    await until(lambda: len(pushed(run_id)) >= len(expected), f"all of {expected} are pushed; pushed: {pushed(run_id)}")
    found = pushed(run_id)
    assert [data["state_name"] for data in found] == [name for name, _ in expected]
    assert {f"prefect:{state_id}" for _, state_id in expected} <= set(keys())
    return found


def run_of(state: State[Any]) -> UUID:
    assert state.state_details.flow_run_id
    return state.state_details.flow_run_id
