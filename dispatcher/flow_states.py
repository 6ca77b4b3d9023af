"""Prefect's run states → ``flow.state`` push events: each once, whatever process ran the flow and however it ended.

An event only wakes, as NOTIFY does: the truth is the run's history of states, read by run id. So what an event tells
twice, or a full queue drops, or a killed server forgets, changes nothing. The id of a state is the dedupe key.
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
from dispatcher import prefect_api
from dispatcher.backoff import Backoff
from dispatcher.prefect_api import TERMINAL, Changes, PrefectServer, Run, RunState

log = logging.getLogger(__name__)

TROUBLE = (*prefect_api.TROUBLE, OperationalError, InterfaceError)
LOOK_BACK_SECONDS = 30.0
OVERLAP = timedelta(minutes=2)
"""How far each look back reaches behind the newest state told."""
RESTART_OVERLAP = timedelta(minutes=10)
FIRST_LOOK = timedelta(hours=1)
HORIZON = timedelta(days=6)
"""Older states are left alone: the log keeps 7 days, and with its row an older state's dedupe key is gone."""
BATCH = 200
REMEMBERED = 10_000
MESSAGE_CHARS = 1000

Told = tuple[UUID, FlowState]


class Watcher:
    """Announces every state of every flow run. Any number of watchers may run beside each other."""

    def __init__(self, server: PrefectServer) -> None:
        self._server = server
        self._told: dict[UUID, None] = {}
        self._newest: datetime | None = None
        self._floor = utcnow()

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
            self._newest = await asyncio.to_thread(newest_told) or utcnow() - FIRST_LOOK
            self._floor = self._newest - RESTART_OVERLAP
        # listening begins before looking back, so that nothing falls in between
        async with self._server as server, server.changes() as changes:
            await self._look_back()
            log.info("watching Prefect's runs", extra={"server": server.url})
            backoff.reset()
            await self._follow(changes)

    async def _follow(self, changes: Changes) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + LOOK_BACK_SECONDS
        while True:
            if ids := await _changed(changes, until=due):
                self._seen(await self._announce(await self._server.runs(ids)))
            if loop.time() >= due:
                await self._look_back()
                due = loop.time() + LOOK_BACK_SECONDS

    async def _look_back(self) -> None:
        """Announce what was not told, from before the newest state that was."""
        since = max(self._floor, (self._newest or utcnow()) - OVERLAP, utcnow() - HORIZON)
        newest = []
        async for runs in self._server.runs_since(since):
            newest.append(await self._announce(runs))
        # only now: a look back that broke off begins again where it began
        self._seen(max(filter(None, newest), default=None))

    def _seen(self, at: datetime | None) -> None:
        if at is not None and (self._newest is None or at > self._newest):
            self._newest = at

    async def _announce(self, runs: Iterable[Run]) -> datetime | None:
        """Tell what these runs went through and was not told; when the newest of it happened."""
        fresh: list[Told] = []
        for run in runs:
            if run.state_id is None or run.state_id in self._told:
                continue
            try:
                fresh += await self._untold(run)
            except TROUBLE:
                raise
            except Exception:
                log.exception("a run's states could not be told", extra={"run_id": str(run.id)})
                self._remember([run.state_id])
        fresh.sort(key=lambda told: told[1].occurred_at)
        for start in range(0, len(fresh), BATCH):
            await asyncio.to_thread(store, fresh[start : start + BATCH])
        self._remember(state_id for state_id, _ in fresh)
        return fresh[-1][1].occurred_at if fresh else None

    async def _untold(self, run: Run) -> list[Told]:
        floor = max(self._floor, utcnow() - HORIZON)
        history = await self._server.states(run)
        untold = [state for state in history if state.id not in self._told and state.timestamp >= floor]
        if not untold:
            self._remember(state.id for state in history)
            return []
        if history[-1].id != run.state_id:  # it went on after it was read, and has times now that it had not then
            run = next(iter(await self._server.runs([run.id])), run)
        flow, deployment = await self._server.flow_name(run), await self._server.deployment_name(run)
        result = await self._server.result(run, flow) if untold[-1].type in TERMINAL else None
        return [(state.id, _flow_state(run, state, flow, deployment, result)) for state in untold]

    def _remember(self, states: Iterable[UUID]) -> None:
        self._told.update(dict.fromkeys(states))
        for state in list(self._told)[: max(0, len(self._told) - REMEMBERED)]:
            del self._told[state]


async def _changed(changes: Changes, *, until: float) -> set[UUID]:
    """The runs that changed: waits for the first, and takes along what has already come."""
    found: set[UUID] = set()
    try:
        async with asyncio.timeout_at(until) as waiting:
            while len(found) < BATCH:
                if (run_id := await changes.next()) is not None:
                    found.add(run_id)
                    waiting.reschedule(asyncio.get_running_loop().time())
    except TimeoutError:
        pass
    return found


def _flow_state(
    run: Run, state: RunState, flow: str, deployment: str | None, result: dict[str, Any] | None
) -> FlowState:
    over = state.type in TERMINAL
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
        end_time=run.end_time if over else None,
        result=result if over else None,
    )


def store(told: list[Told]) -> None:
    """Push these states, in order, those pushed before left out; count them, and tell admins of trouble.

    One that the log refuses is logged and left out.
    """
    try:
        with transaction() as db:
            jobs.note(db, told, now=utcnow())
    except TROUBLE:
        raise
    except Exception:
        if len(told) == 1:
            log.exception("a run's state could not be pushed", extra={"run_id": str(told[0][1].run_id)})
            return
        for one in told:
            store([one])


def newest_told() -> datetime | None:
    """When the state happened that was pushed last; None when there is none."""
    with transaction() as db:
        row = select(PushEventRow.payload).where(PushEventRow.destination == FLOWS).order_by(PushEventRow.id.desc())
        payload = db.execute(row.limit(1)).scalar_one_or_none()
    return FlowState.model_validate(payload).occurred_at if payload else None
