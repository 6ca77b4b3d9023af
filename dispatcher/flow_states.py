"""Prefect's run states → ``flow.state`` push events: each once, whatever process ran the flow and however it ended.

An event only wakes, as NOTIFY does: the truth is the run's history of states, read by run id. So it changes nothing
when an event comes twice, is dropped by a full queue, or is lost with a killed server. The id of a state is the dedupe
key.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import InterfaceError, OperationalError

from core import jobs
from core.clock import utcnow
from core.db import transaction
from core.events import FLOWS, FlowState
from core.models import PushEventRow
from core.prefect_rest import Run, RunState
from dispatcher import prefect_api
from dispatcher.backoff import Backoff
from dispatcher.prefect_api import FINAL_STATES, PrefectServer, RunEvents

log = logging.getLogger(__name__)

TROUBLE = (*prefect_api.TROUBLE, OperationalError, InterfaceError)
CATCH_UP_SECONDS = 30.0
"""How often all runs that may have changed are read, whatever events came."""
OVERLAP = timedelta(minutes=2)
"""How far behind the newest published state each catch-up begins."""
RESTART_OVERLAP = timedelta(minutes=10)
FIRST_CATCH_UP = timedelta(hours=1)
"""Where the first catch-up begins when nothing has ever been published."""
MAX_AGE = timedelta(days=6)
"""Older states are left alone: the log keeps 7 days, and with its row an older state's dedupe key is gone."""
BATCH = 200
MAX_REMEMBERED = 10_000
MESSAGE_CHARS = 1000

StateOfRun = tuple[UUID, FlowState]
"""A state's id, and the push event that publishes it."""


class FlowStateWatcher:
    """Publishes every state of every flow run. Any number of watchers may run beside each other."""

    def __init__(self, server: PrefectServer) -> None:
        self._server = server
        self._published: dict[UUID, None] = {}
        self._newest: datetime | None = None
        self._oldest = utcnow()

    async def run(self) -> None:
        """Watch until cancelled; a server or a database that is away is waited for."""
        backoff = Backoff()
        while True:
            try:
                await self._watch(backoff)
            except TROUBLE as error:
                if backoff.first:
                    log.warning("watching Prefect's runs was interrupted: %s", str(error) or type(error).__name__)
            except Exception:
                log.exception("watching Prefect's runs failed; starting again")
            await backoff.sleep()

    async def _watch(self, backoff: Backoff) -> None:
        if self._newest is None:
            self._newest = await asyncio.to_thread(newest_published) or utcnow() - FIRST_CATCH_UP
            self._oldest = self._newest - RESTART_OVERLAP
        # listening begins before catching up, so that nothing falls in between
        async with self._server as server, server.run_events() as events:
            await self._catch_up()
            log.info("watching Prefect's runs", extra={"server": server.url})
            backoff.reset()
            await self._follow(events)

    async def _follow(self, events: RunEvents) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + CATCH_UP_SECONDS
        while True:
            if ids := await _changed_runs(events, until=due):
                self._advance(await self._publish(await self._server.runs_by_id(ids)))
            if loop.time() >= due:
                await self._catch_up()
                due = loop.time() + CATCH_UP_SECONDS

    async def _catch_up(self) -> None:
        """Publish what was not, from before the newest state that was."""
        since = max(self._oldest, (self._newest or utcnow()) - OVERLAP, utcnow() - MAX_AGE)
        newest = []
        async for runs in self._server.runs_changed_since(since):
            newest.append(await self._publish(runs))
        # only now: a catch-up that broke off begins again where it began
        self._advance(max(filter(None, newest), default=None))

    def _advance(self, at: datetime | None) -> None:
        if at is not None and (self._newest is None or at > self._newest):
            self._newest = at

    async def _publish(self, runs: Iterable[Run]) -> datetime | None:
        """Publish those states of these runs that were not yet; when the newest of them was entered."""
        fresh: list[StateOfRun] = []
        for run in runs:
            if run.state_id is None or run.state_id in self._published:
                continue
            try:
                fresh += await self._unpublished(run)
            except TROUBLE:
                raise
            except Exception:
                log.exception("a run's states could not be published", extra={"run_id": str(run.id)})
                self._remember([run.state_id])
        fresh.sort(key=lambda one: one[1].occurred_at)
        for start in range(0, len(fresh), BATCH):
            await asyncio.to_thread(store, fresh[start : start + BATCH])
        self._remember(state_id for state_id, _ in fresh)
        return fresh[-1][1].occurred_at if fresh else None

    async def _unpublished(self, run: Run) -> list[StateOfRun]:
        oldest = max(self._oldest, utcnow() - MAX_AGE)
        history = await self._server.states(run)
        unpublished = [state for state in history if state.id not in self._published and state.timestamp >= oldest]
        if not unpublished:
            self._remember(state.id for state in history)
            return []
        if history[-1].id != run.state_id:  # it went on after it was read, and has times now that it had not then
            run = next(iter(await self._server.runs_by_id([run.id])), run)
        flow, deployment = await self._server.flow_name(run), await self._server.deployment_name(run)
        final = unpublished[-1].type in FINAL_STATES
        table = await self._server.result_table(run.id, flow) if final else None
        result = table.result if table else None
        return [(state.id, _flow_state(run, state, flow, deployment, result)) for state in unpublished]

    def _remember(self, states: Iterable[UUID]) -> None:
        self._published.update(dict.fromkeys(states))
        for state in list(self._published)[: max(0, len(self._published) - MAX_REMEMBERED)]:
            del self._published[state]


async def _changed_runs(events: RunEvents, *, until: float) -> set[UUID]:
    """The runs that changed: waits for the first, and takes along what has already come."""
    found: set[UUID] = set()
    try:
        async with asyncio.timeout_at(until) as waiting:
            while len(found) < BATCH:
                if (run_id := await events.next()) is not None:
                    found.add(run_id)
                    waiting.reschedule(asyncio.get_running_loop().time())
    except TimeoutError:
        pass
    return found


def _flow_state(
    run: Run, state: RunState, flow: str, deployment: str | None, result: dict[str, Any] | None
) -> FlowState:
    final = state.type in FINAL_STATES
    begun = run.start_time is not None and run.start_time <= state.timestamp
    return FlowState(
        flow=flow,
        deployment=deployment,
        run_id=run.id,
        run_name=run.name,
        state=state.type,
        state_name=state.name,
        message=state.message[:MESSAGE_CHARS] if state.message else None,
        occurred_at=state.timestamp,
        expected_start_time=run.expected_start_time,
        start_time=run.start_time if begun else None,
        end_time=run.end_time if final else None,
        result=result if final else None,
    )


def store(states: list[StateOfRun]) -> None:
    """Publish these states, in order, those published before left out; count them, and notify admins of trouble.

    One that the log refuses is logged and left out.
    """
    try:
        with transaction() as db:
            jobs.record_states(db, states, now=utcnow())
    except TROUBLE:
        raise
    except Exception:
        if len(states) == 1:
            log.exception("a run's state could not be published", extra={"run_id": str(states[0][1].run_id)})
            return
        for one in states:
            store([one])


def newest_published() -> datetime | None:
    """When the state was entered that was published last; None when there is none."""
    with transaction() as db:
        row = select(PushEventRow.payload).where(PushEventRow.destination == FLOWS).order_by(PushEventRow.id.desc())
        payload = db.execute(row.limit(1)).scalar_one_or_none()
    return FlowState.model_validate(payload).occurred_at if payload else None
