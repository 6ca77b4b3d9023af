"""Prefect's server as the dispatcher needs it: its REST API and its event socket.

Spoken directly, because importing Prefect's client costs the dispatcher 27 MB and 1.4 s of CPU at every start.
"""

import base64
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from core.clock import utcnow

log = logging.getLogger(__name__)

TROUBLE = (httpx.HTTPError, WebSocketException, OSError, EOFError)
"""What a server that is away, restarting or overloaded looks like; TimeoutError is an OSError."""
PAGE = 200
TERMINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_ACTIVE = ["PENDING", "RUNNING", "PAUSED", "CANCELLING"]
_WAITING = ["Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Resuming"]
_RUN = "prefect.flow-run."


class RunState(BaseModel):
    """One state of a run's history; Prefect gives the event of the change the same id."""

    id: UUID
    type: str
    name: str
    message: str | None
    timestamp: datetime


class Run(BaseModel):
    """A flow run as it is now; ``state_id`` names the newest state of its history."""

    id: UUID
    name: str
    flow_id: UUID
    deployment_id: UUID | None
    state_id: UUID | None
    auto_scheduled: bool
    expected_start_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None


class PrefectServer:
    """The server whose API is at ``url``; ``auth`` is its auth string, if it wants one. Open it with ``async with``."""

    def __init__(self, url: str, auth: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._auth = auth
        self._names: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        headers = {}
        if self._auth:
            headers["Authorization"] = f"Basic {base64.b64encode(self._auth.encode()).decode()}"
        self._http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=10, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def answers(self) -> None:
        """Raises one of TROUBLE when the server is away."""
        await self._get("/health")

    async def runs(self, ids: Iterable[UUID]) -> list[Run]:
        """These runs; those that were deleted are left out."""
        return _valid(await self._post("/flow_runs/filter", {"flow_runs": {"id": {"any_": [str(i) for i in ids]}}}))

    async def runs_since(self, since: datetime) -> AsyncIterator[list[Run]]:
        """Every run that may have changed its state since then, in pages."""
        soon = utcnow() + timedelta(minutes=1)
        changed = {
            "operator": "or_",
            "end_time": {"after_": since.isoformat()},
            "expected_start_time": {"after_": since.isoformat(), "before_": soon.isoformat()},
            "state": {"operator": "or_", "type": {"any_": _ACTIVE}, "name": {"any_": _WAITING}},
        }
        page = {"flow_runs": changed, "sort": "EXPECTED_START_TIME_ASC", "limit": PAGE}
        offset, full = 0, True
        while full:
            rows = await self._post("/flow_runs/filter", {**page, "offset": offset})
            yield _valid(rows)
            offset, full = offset + PAGE, len(rows) == PAGE

    async def states(self, run: Run) -> list[RunState]:
        """A run's history, oldest first; without the first state of a run that the scheduler planned ahead."""
        answer = await self._get("/flow_run_states/", flow_run_id=str(run.id))
        history = sorted((RunState.model_validate(row) for row in answer), key=lambda state: state.timestamp)
        planned = run.auto_scheduled and history and history[0].type == "SCHEDULED"
        return history[1:] if planned else history

    async def result(self, run: Run, flow: str) -> dict[str, Any] | None:
        """The typed result that the run showed, see ``flows.run``; None when it had none."""
        wanted = {"flow_run_id": {"any_": [str(run.id)]}, "key": {"any_": [flow]}, "type": {"any_": ["table"]}}
        found = await self._post("/artifacts/filter", {"artifacts": wanted, "sort": "CREATED_DESC", "limit": 1})
        data = found[0]["data"] if found else None
        rows = json.loads(data) if isinstance(data, str) else data
        return rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else None

    async def flow_name(self, run: Run) -> str:
        """The name of the run's flow."""
        return await self._name(f"/flows/{run.flow_id}") or str(run.flow_id)

    async def deployment_name(self, run: Run) -> str | None:
        """The name of the run's deployment; None when it has none, or it was deleted."""
        return await self._name(f"/deployments/{run.deployment_id}") if run.deployment_id else None

    async def begin(self, flow: str, *, name: str, key: str, tags: list[str]) -> UUID:
        """A run of the flow, running from now on; asked again with the same key, the same run.

        It belongs to the flow's deployment of the same name, if there is one.
        """
        flow_id = (await self._post("/flows/", {"name": flow}))["id"]
        deployment = await self._http.get(f"/deployments/name/{flow}/{flow}")
        found = deployment.json()["id"] if deployment.is_success else None
        state = {"type": "RUNNING", "name": "Running"}
        run = {"flow_id": flow_id, "deployment_id": found, "name": name, "idempotency_key": key, "tags": tags}
        return UUID((await self._post("/flow_runs/", {**run, "state": state}))["id"])

    async def show(self, run_id: UUID, flow: str, row: dict[str, Any], description: str) -> None:
        """The run's typed result, as ``flows.run`` shows it and ``result`` reads it."""
        table = {"key": flow, "type": "table", "data": json.dumps([row]), "description": description}
        await self._post("/artifacts/", {**table, "flow_run_id": str(run_id)})

    async def link(self, run_id: UUID, key: str, url: str, text: str) -> None:
        """A link among what the run shows."""
        said = "".join(f"\\{each}" if each in "[]()\\`*_<>!&#" else each for each in text)
        link = {"key": key, "type": "markdown", "data": f"[{said}]({url})", "description": said}
        await self._post("/artifacts/", {**link, "flow_run_id": str(run_id)})

    async def end(self, run_id: UUID, *, state: str, message: str) -> None:
        """Bring the run to this final state, whatever it was in."""
        final = {"type": state, "name": state.title(), "message": message}
        await self._post(f"/flow_runs/{run_id}/set_state", {"state": final, "force": True})

    async def running(self, flow: str, *, tag: str, since: datetime) -> list[UUID]:
        """Runs of the flow with this tag that have been running since then or longer."""
        wanted = {
            "state": {"type": {"any_": ["RUNNING"]}},
            "tags": {"all_": [tag]},
            "start_time": {"before_": since.isoformat()},
        }
        body = {"flows": {"name": {"any_": [flow]}}, "flow_runs": wanted, "limit": PAGE}
        return [run.id for run in _valid(await self._post("/flow_runs/filter", body))]

    async def unfinished(self, tag: str, *, since: Mapping[str, datetime]) -> list[tuple[Run, str]]:
        """Runs with this tag that have been in one of these states since its time or longer, with which."""
        wanted = {
            "state": {"type": {"any_": list(since)}},
            "tags": {"all_": [tag]},
            "expected_start_time": {"before_": max(since.values()).isoformat()},
        }
        rows = await self._post("/flow_runs/filter", {"flow_runs": wanted, "limit": PAGE})
        found = [(row, row["state"]["type"], datetime.fromisoformat(row["state"]["timestamp"])) for row in rows]
        return [(run, state) for row, state, at in found if at <= since[state] for run in _valid([row])]

    async def has_heartbeat(self, run: Run, *, since: datetime) -> bool:
        """Whether the run's process has given a sign of life since then."""
        events = {
            "event": {"name": [f"{_RUN}heartbeat"]},
            "resource": {"id": [f"{_RUN}{run.id}"]},
            "occurred": {"since": since.isoformat()},
        }
        return bool((await self._post("/events/filter", {"filter": events, "limit": 1}))["events"])

    async def _name(self, path: str) -> str | None:
        if path not in self._names:
            answer = await self._http.get(path)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            if len(self._names) >= 1000:  # flows and deployments are few; ids of deleted ones must not pile up
                self._names.clear()
            self._names[path] = str(answer.raise_for_status().json()["name"])
        return self._names[path]

    async def _get(self, path: str, **query: str) -> Any:
        return (await self._http.get(path, params=query)).raise_for_status().json()

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        return (await self._http.post(path, json=body)).raise_for_status().json()

    @asynccontextmanager
    async def changes(self) -> AsyncIterator["Changes"]:
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
            await socket.send(json.dumps({"type": "auth", "token": self._auth}))
            if json.loads(await socket.recv()).get("type") != "auth_success":
                raise ConnectionRefusedError("Prefect's server refused PREFECT_API_AUTH_STRING")
            await socket.send(json.dumps({"type": "filter", "backfill": False, "filter": events}))
            yield Changes(socket)


class Changes:
    """The stream of changes, as the ids of the runs that changed."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def next(self) -> UUID | None:
        """The next run that changed; None for an event that says nothing we understand. May be cancelled."""
        text = await self._socket.recv()
        try:
            name = json.loads(text)["event"]["resource"]["prefect.resource.id"]
            return UUID(name.removeprefix(_RUN))
        except (ValueError, LookupError, TypeError, AttributeError):
            log.exception("an event of Prefect's was not understood", extra={"event": text[:1000]})
            return None


def _valid(rows: list[Any]) -> list[Run]:
    found = []
    for row in rows:
        try:
            found.append(Run.model_validate(row))
        except ValidationError:
            log.exception("a run of Prefect's was not understood", extra={"run": str(row)[:1000]})
    return found
