"""Prefect's REST API over httpx: requests, pages, typed rows, and how a run's result is read.

For every process that has to know of runs without importing Prefect, whose own client costs 27 MB and 1.4 s of CPU at
each start.
"""

import base64
import json
import logging
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError

log = logging.getLogger(__name__)

PAGE = 200
"""The most rows that Prefect's server gives at once."""
MAX_NAMES = 1000
"""Names of flows and deployments that are kept; they are few, but ids of deleted ones must not pile up."""


class RunState(BaseModel):
    """One state of a run's history; Prefect gives the event of the change the same id."""

    id: UUID
    type: str
    name: str
    message: str | None = None
    timestamp: datetime


class Run(BaseModel):
    """A flow run as it is now; ``state`` is the newest of its history, None while the server is making the run."""

    id: UUID
    name: str
    flow_id: UUID
    deployment_id: UUID | None
    state: RunState | None
    auto_scheduled: bool
    expected_start_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    total_run_time: float
    parameters: dict[str, Any]

    @property
    def state_id(self) -> UUID | None:
        """The id of the newest state."""
        return self.state.id if self.state else None


class DeploymentSchedule(BaseModel):
    """When a deployment runs by itself; ``schedule`` has ``cron``, ``interval`` (seconds) or ``rrule``."""

    active: bool
    schedule: dict[str, Any]


class Deployment(BaseModel):
    """A flow as it is deployed."""

    id: UUID
    flow_id: UUID
    name: str
    description: str | None
    paused: bool
    tags: list[str]
    schedules: list[DeploymentSchedule]
    parameters: dict[str, Any]
    parameter_openapi_schema: dict[str, Any]


class ResultTable(BaseModel):
    """The artifact that shows a run's result: a table with one row, and a line that says it."""

    id: UUID
    key: str
    description: str | None
    data: Any

    @property
    def result(self) -> dict[str, Any] | None:
        """The table's row; None when it has none."""
        rows = json.loads(self.data) if isinstance(self.data, str) else self.data
        return rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else None


class PrefectRest:
    """The server whose API is at ``url``; ``auth`` is its auth string, if it wants one. Open it with ``async with``.

    Every method raises ``httpx.HTTPError`` when the server is away (HTTPStatusError when it refuses).
    """

    def __init__(self, url: str, auth: str | None = None, *, timeout: float | httpx.Timeout = 10.0) -> None:
        self.url = url.rstrip("/")
        self.auth = auth
        self._timeout = timeout
        self._names: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Basic {base64.b64encode(self.auth.encode()).decode()}"} if self.auth else {}
        self._http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def request(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer's JSON; None when it is empty."""
        answer = (await self._http.request(method, path, json=body, params=query)).raise_for_status()
        return answer.json() if answer.content else None

    async def pages(self, path: str, body: dict[str, Any]) -> AsyncIterator[list[Any]]:
        """Every row that a filter gives, a page at a time; the body's ``sort`` should be by what does not change."""
        offset, full = 0, True
        while full:
            rows = await self.request("POST", path, {**body, "limit": PAGE, "offset": offset})
            yield rows
            offset, full = offset + PAGE, len(rows) == PAGE

    async def runs(self, where: dict[str, Any], *, flow: str | None = None, **more: Any) -> list[Run]:
        """The runs that match, at most a page; ``more`` are ``sort``, ``limit`` and ``offset``."""
        flows = {"flows": {"name": {"any_": [flow]}}} if flow else {}
        return parse_runs(await self.request("POST", "/flow_runs/filter", {"flow_runs": where, **flows, **more}))

    async def runs_by_id(self, ids: Iterable[UUID]) -> list[Run]:
        """These runs; those that were deleted are left out."""
        return await self.runs({"id": {"any_": [str(id_) for id_ in ids]}})

    async def deployments(self, **where: Any) -> list[Deployment]:
        """The deployments that match, by name."""
        body = {"deployments": where, "sort": "NAME_ASC"}
        return [
            Deployment.model_validate(row) async for rows in self.pages("/deployments/filter", body) for row in rows
        ]

    async def result_table(self, run_id: UUID, flow: str) -> ResultTable | None:
        """The artifact in which a run of this flow shows its result (see ``flows.run``); None while there is none."""
        where = {"flow_run_id": {"any_": [str(run_id)]}, "type": {"any_": ["table"]}, "key": {"any_": [flow]}}
        rows = await self.request("POST", "/artifacts/filter", {"artifacts": where, "sort": "CREATED_DESC", "limit": 1})
        return ResultTable.model_validate(rows[0]) if rows else None

    async def flow_name(self, run: Run) -> str:
        """The name of the run's flow; its id when it was deleted."""
        return await self._name(f"/flows/{run.flow_id}") or str(run.flow_id)

    async def deployment_name(self, run: Run) -> str | None:
        """The name of the run's deployment; None when it has none, or it was deleted."""
        return await self._name(f"/deployments/{run.deployment_id}") if run.deployment_id else None

    async def _name(self, path: str) -> str | None:
        if path not in self._names:
            try:
                name = str((await self.request("GET", path))["name"])
            except httpx.HTTPStatusError as error:
                if error.response.status_code == httpx.codes.NOT_FOUND:
                    return None
                raise
            if len(self._names) >= MAX_NAMES:
                self._names.clear()
            self._names[path] = name
        return self._names[path]


def parse_runs(rows: Iterable[Any]) -> list[Run]:
    """The rows as runs; one that is not understood is logged and left out, so that it holds up no other."""
    runs = []
    for row in rows:
        try:
            runs.append(Run.model_validate(row))
        except ValidationError:
            log.exception("a run of Prefect's was not understood", extra={"run": str(row)[:1000]})
    return runs
