"""The watcher: every state of every run is pushed once, whatever is killed."""

import asyncio
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

from prefect import State, flow

from core.clock import utcnow
from core.events import FlowState
from dispatcher import flow_states
from tests.support.flow_runs import (
    history,
    invited,
    pushed,
    pushed_once,
    run_of,
    status,
    sweep,
    until,
    watched,
    watching,
)
from tests.support.prefect_server import PrefectProcess


async def test_every_state_of_a_run_is_pushed_once(prefect: PrefectProcess, database: str) -> None:
    due = invited(expired=timedelta(hours=1))
    async with watching(prefect):
        state = await sweep()
        found = await pushed_once(prefect, run_of(state))
    assert status(due) == "expired"
    assert [data["state"] for data in found] == ["PENDING", "RUNNING", "COMPLETED"]
    first, *_, last = found
    assert (first["flow"], first["deployment"]) == ("update-session-statuses", None)
    assert (first["start_time"], first["end_time"], first["result"]) == (None, None, None)
    assert last["result"] == (await state.result()).model_dump(mode="json")
    assert last["start_time"]
    assert last["end_time"]
    assert last["run_name"].startswith("update-session-statuses/2")


async def test_a_state_is_pushed_at_once(prefect: PrefectProcess, database: str) -> None:
    """Not by catching up: events wake the watcher."""
    async with watching(prefect):
        await pushed_once(prefect, run_of(await watched(return_state=True)))
        begun = time.monotonic()
        await pushed_once(prefect, run_of(await watched(return_state=True)))
    assert time.monotonic() - begun < flow_states.CATCH_UP_SECONDS / 3


async def test_states_missed_without_a_watcher_are_pushed_at_its_start(prefect: PrefectProcess, database: str) -> None:
    async with watching(prefect):
        before = run_of(await watched(return_state=True))
        await pushed_once(prefect, before)
    missed = [run_of(await watched(return_state=True)) for _ in range(3)]
    assert not any(pushed(run) for run in missed)
    async with watching(prefect):
        for run in [before, *missed]:
            await pushed_once(prefect, run)


async def test_two_watchers_push_each_state_once(prefect: PrefectProcess, database: str) -> None:
    async with watching(prefect, watchers=2):
        runs = [run_of(s) for s in await asyncio.gather(*(watched(return_state=True) for _ in range(5)))]
        for run in runs:
            await pushed_once(prefect, run)
        await asyncio.sleep(0.5)
    for run in runs:
        assert len(pushed(run)) == len(history(prefect, run))


async def test_a_killed_prefect_server_costs_no_state(prefect: PrefectProcess, database: str) -> None:
    """kill -9 while a run is under way: it goes on when the server is back, and every state is pushed once."""
    async with watching(prefect):
        await pushed_once(prefect, run_of(await watched(return_state=True)))
        back, name = asyncio.Event(), f"waits {uuid4()}"

        @flow(name=name)
        async def waits() -> None:
            await back.wait()

        async def run() -> State[None]:
            return await waits(return_state=True)

        running = asyncio.create_task(run())
        await until(lambda: [d for d in pushed() if (d["flow"], d["state"]) == (name, "RUNNING")], "the run has begun")
        await asyncio.to_thread(prefect.end)
        await asyncio.to_thread(prefect.start)
        back.set()
        state = await running
        assert [d["state_name"] for d in await pushed_once(prefect, run_of(state))] == [
            "Pending",
            "Running",
            "Completed",
        ]
        await pushed_once(prefect, run_of(await watched(return_state=True)))


async def test_irrelevant_events_do_not_stop_the_watcher(prefect: PrefectProcess, database: str) -> None:
    def event(resource: str) -> dict[str, Any]:
        return {
            "id": str(uuid4()),
            "occurred": utcnow().isoformat(),
            "event": "prefect.flow-run.Nonsense",
            "resource": {"prefect.resource.id": resource},
        }

    async with watching(prefect):
        await pushed_once(prefect, run_of(await watched(return_state=True)))
        with prefect.http() as http:
            bad = [event("prefect.flow-run.no-uuid"), event(f"prefect.flow-run.{uuid4()}"), event("something.else")]
            http.post("/events", json=bad).raise_for_status()
        await pushed_once(prefect, run_of(await watched(return_state=True)))
    assert all(data["state_name"] != "Nonsense" for data in pushed())


def test_a_state_that_cannot_be_stored_does_not_block_the_others(database: str) -> None:
    def change(message: str) -> flow_states.StateOfRun:
        fields: dict[str, Any] = dict.fromkeys(FlowState.model_fields)
        fields |= {"flow": "f", "run_id": uuid4(), "run_name": "r", "state": "RUNNING", "state_name": "Running"}
        return uuid4(), FlowState(**fields | {"message": message, "occurred_at": utcnow()})

    class Unwritable(FlowState):
        def model_dump_json(self, **_: Any) -> str:
            return "no JSON"

    state_id, bad = change("bad")
    flow_states.store([change("one"), (state_id, Unwritable(**bad.model_dump())), change("two")])
    assert [data["message"] for data in pushed()] == ["one", "two"]
