"""Prefect's server as the dispatcher needs it: runs that it makes and ends itself, and the socket of events."""

import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from core.clock import utcnow
from core.prefect_rest import PrefectRest, Run, RunState, parse_runs

log = logging.getLogger(__name__)

TROUBLE = (httpx.HTTPError, WebSocketException, OSError, EOFError)
"""What a server that is away, restarting or overloaded looks like; TimeoutError is an OSError."""
FINAL_STATES = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_ACTIVE = ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]
_WAITING = ["Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Resuming"]
_RUN = "prefect.flow-run."


class PrefectServer(PrefectRest):
    """The server's REST API, and its socket of events. Each method may raise one of TROUBLE."""

    async def check_health(self) -> None:
        """Raises one of TROUBLE when the server is away."""
        await self.request("GET", "/health")

    async def runs_changed_since(self, since: datetime) -> AsyncIterator[list[Run]]:
        """Every run that may have changed its state since then, in pages."""
        soon = utcnow() + timedelta(minutes=1)
        changed = {
            "operator": "or_",
            "end_time": {"after_": since.isoformat()},
            "expected_start_time": {"after_": since.isoformat(), "before_": soon.isoformat()},
            "state": {"operator": "or_", "type": {"any_": _ACTIVE}, "name": {"any_": _WAITING}},
        }
        body = {"flow_runs": changed, "sort": "EXPECTED_START_TIME_ASC"}
        async for rows in self.pages("/flow_runs/filter", body):
            yield parse_runs(rows)

    async def states(self, run: Run) -> list[RunState]:
        """A run's history, oldest first; without the first state of a run that the scheduler planned ahead."""
        rows = await self.request("GET", "/flow_run_states/", flow_run_id=str(run.id))
        history = sorted((RunState.model_validate(row) for row in rows), key=lambda state: state.timestamp)
        planned = run.auto_scheduled and history and history[0].type == "SCHEDULED"
        return history[1:] if planned else history

    async def begin(self, flow: str, *, name: str, key: str, tags: list[str]) -> UUID:
        """A run of the flow, running from now on; asked again with the same key, the same run.

        It belongs to the flow's deployment of the same name, if there is one.
        """
        flow_id = (await self.request("POST", "/flows/", {"name": flow}))["id"]
        same_name = await self.deployments(name={"any_": [flow]})
        deployment_id = next((str(one.id) for one in same_name if str(one.flow_id) == flow_id), None)
        run = {"flow_id": flow_id, "deployment_id": deployment_id, "name": name, "idempotency_key": key, "tags": tags}
        body = {**run, "state": {"type": "RUNNING", "name": "Running"}}
        return UUID((await self.request("POST", "/flow_runs/", body))["id"])

    async def show(self, run_id: UUID, flow: str, row: dict[str, Any], description: str) -> None:
        """The run's result, as ``flows.run`` shows it and ``result_table`` reads it."""
        table = {"key": flow, "type": "table", "data": json.dumps([row]), "description": description}
        await self.request("POST", "/artifacts/", {**table, "flow_run_id": str(run_id)})

    async def create_link_artifact(self, run_id: UUID, key: str, url: str, text: str) -> None:
        """A link among what the run shows."""
        escaped = "".join(f"\\{each}" if each in "[]()\\`*_<>!&#" else each for each in text)
        link = {"key": key, "type": "markdown", "data": f"[{escaped}]({url})", "description": escaped}
        await self.request("POST", "/artifacts/", {**link, "flow_run_id": str(run_id)})

    async def end(self, run_id: UUID, *, state: str, message: str) -> None:
        """Bring the run to this final state, whatever it was in."""
        final = {"type": state, "name": state.title(), "message": message}
        await self.request("POST", f"/flow_runs/{run_id}/set_state", {"state": final, "force": True})

    async def running(self, flow: str, *, tag: str, since: datetime) -> list[UUID]:
        """Runs of the flow with this tag that have been running since then or longer."""
        where = {
            "state": {"type": {"any_": ["RUNNING"]}},
            "tags": {"all_": [tag]},
            "start_time": {"before_": since.isoformat()},
        }
        return [run.id for run in await self.runs(where, flow=flow)]

    async def unfinished(self, tag: str, *, since: Mapping[str, datetime]) -> list[Run]:
        """Runs with this tag that have been in one of these states since its time or longer."""
        where = {
            "state": {"type": {"any_": list(since)}},
            "tags": {"all_": [tag]},
            "expected_start_time": {"before_": max(since.values()).isoformat()},
        }
        return [run for run in await self.runs(where) if run.state and run.state.timestamp <= since[run.state.type]]

    async def has_heartbeat(self, run: Run, *, since: datetime) -> bool:
        """Whether the run's process has given a sign of life since then."""
        events = {
            "event": {"name": [f"{_RUN}heartbeat"]},
            "resource": {"id": [f"{_RUN}{run.id}"]},
            "occurred": {"since": since.isoformat()},
        }
        return bool((await self.request("POST", "/events/filter", {"filter": events, "limit": 1}))["events"])

    @asynccontextmanager
    async def run_events(self) -> AsyncIterator["RunEvents"]:
        """Listen to state changes of runs, from now on.

        Raises one of TROUBLE when the server is away, ConnectionRefusedError when it does not let us in.
        """
        events = {
            "event": {"prefix": [_RUN], "exclude_name": [f"{_RUN}heartbeat"]},
            "occurred": {
                "since": utcnow().isoformat(),
                # the server ends the stream at this time without a word
                "until": (utcnow() + timedelta(days=3650)).isoformat(),
            },
        }
        url = f"ws{self.url.removeprefix('http')}/events/out"
        async with connect(
            url, subprotocols=[Subprotocol("prefect")], open_timeout=10, close_timeout=0.2, proxy=None
        ) as socket:
            await socket.send(json.dumps({"type": "auth", "token": self.auth}))
            if json.loads(await socket.recv()).get("type") != "auth_success":
                raise ConnectionRefusedError("Prefect's server refused PREFECT_API_AUTH_STRING")
            await socket.send(json.dumps({"type": "filter", "backfill": False, "filter": events}))
            yield RunEvents(socket)


class RunEvents:
    """The stream of events, as the ids of the runs that changed."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def next(self) -> UUID | None:
        """The next run that changed; None for an event that was not understood. May be cancelled."""
        text = await self._socket.recv()
        try:
            name = json.loads(text)["event"]["resource"]["prefect.resource.id"]
            return UUID(name.removeprefix(_RUN))
        except (ValueError, LookupError, TypeError, AttributeError):
            log.exception("an event of Prefect's was not understood", extra={"event": text[:1000]})
            return None
