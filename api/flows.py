"""Flows over HTTP: what Prefect's server knows of our deployments, asked through its REST API."""

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import httpx
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from pydantic import BaseModel, Field

from api.deps import LastIdNow, Pages, ViewerWithoutDb
from api.parameters import check_parameters
from core.errors import Invalid, NotFound, Unavailable
from core.fields import Input
from core.settings import Settings
from core.viewers import STAFF, require

router = APIRouter(prefix="/api/flows", tags=["flows"])


class RunOut(BaseModel):
    """One run of a flow."""

    id: UUID
    name: str
    state: str
    state_name: str
    message: str | None
    expected_start_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    parameters: dict[str, Any]


class ScheduleOut(BaseModel):
    """When a deployment runs by itself."""

    cron: str | None
    timezone: str | None
    active: bool


class FlowOut(BaseModel):
    """A deployment with its schedule, its next run and its last one."""

    name: str
    description: str | None
    paused: bool
    tags: list[str]
    schedules: list[ScheduleOut]
    parameters: dict[str, Any]
    next_run: RunOut | None
    last_run: RunOut | None


class Flows(BaseModel):
    """Every deployment."""

    items: list[FlowOut]
    next: None = None
    last_id: int


class Runs(BaseModel):
    """Runs of one deployment, newest first."""

    items: list[RunOut]
    next: str | None
    last_id: int


class ArtifactOut(BaseModel):
    """What a run shows in Prefect's UI: a table of its result, and a line that says it."""

    id: UUID
    key: str
    description: str | None


class RunDetail(RunOut):
    """One run with its result, once it has one, and the artifact that shows it."""

    flow: str | None
    result: dict[str, Any] | None
    artifact: ArtifactOut | None


class NewRun(Input):
    """A run to start now."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    dry_run: bool | None = None


class FlowPatch(Input):
    """What may be changed of a deployment over HTTP."""

    paused: bool


class Prefect:
    """Prefect's REST API. Raises Unavailable when its server is away, with nothing half done."""

    def __init__(self, settings: Settings) -> None:
        user, _, password = (settings.prefect_api_auth_string or "").partition(":")
        self._client = httpx.AsyncClient(
            base_url=settings.prefect_api_url,
            auth=httpx.BasicAuth(user, password) if user else None,
            timeout=httpx.Timeout(5.0, connect=1.0),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. Raises Unavailable, Invalid (Prefect refuses the input) and NotFound."""
        try:
            answer = await self._client.request(method, path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise Unavailable("Prefect's server is away; nothing was done. Try again.", retry_after=5) from None
        except httpx.HTTPError:
            raise Unavailable(f"Prefect's server did not answer. {_UNKNOWN}", retry_after=5) from None
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise NotFound("run or flow", path.rsplit("/", 1)[-1])
        if answer.status_code in (httpx.codes.UNPROCESSABLE_ENTITY, httpx.codes.CONFLICT, httpx.codes.BAD_REQUEST):
            raise Invalid("parameters", str(answer.json().get("detail", "refused by Prefect"))[:500])
        if answer.is_error:
            raise Unavailable(f"Prefect's server answered {answer.status_code}; nothing was done.", retry_after=5)
        return answer.json() if answer.content else None

    async def deployment(self, name: str) -> dict[str, Any]:
        """The deployment of this name. Raises NotFound."""
        wanted = {"deployments": {"name": {"any_": [name]}}}
        for found in await self.ask("POST", "/deployments/filter", wanted):
            return dict(found)
        raise NotFound("flow", name)

    async def runs(self, deployment_id: str, *, sort: str, limit: int, offset: int = 0, states: Any = None) -> Any:
        """Runs of a deployment."""
        where: dict[str, Any] = {"deployment_id": {"any_": [deployment_id]}}
        if states:
            where["state"] = {"type": states}
        return await self.ask(
            "POST", "/flow_runs/filter", {"flow_runs": where, "sort": sort, "limit": limit, "offset": offset}
        )


def _prefect(request: Request) -> Prefect:
    prefect: Prefect = request.app.state.prefect
    return prefect


_UNKNOWN = "It may have done what it was asked; with an Idempotency-Key a run that is asked for again is started once."
Server = Annotated[Prefect, Depends(_prefect)]
Name = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,100}$")]
NEWEST_RUNS = 100_000
"""How far back a list of runs can be paged: Prefect counts from the newest each time."""
AT_ONCE = 200
"""More runs Prefect does not give at once."""


def _run(row: dict[str, Any]) -> dict[str, Any]:
    state = row.get("state") or {}
    return {
        **{key: row[key] for key in ("id", "name", "expected_start_time", "start_time", "end_time", "parameters")},
        "state": row["state_type"],
        "state_name": row["state_name"],
        "message": state.get("message"),
    }


@router.get("")
async def list_flows(viewer: ViewerWithoutDb, prefect: Server, last_id: LastIdNow) -> Flows:
    """Every deployment with its schedule, its next and its last run."""
    require(viewer, *STAFF)
    deployments = await prefect.ask("POST", "/deployments/filter", {"sort": "NAME_ASC"})
    return Flows(items=list(await asyncio.gather(*(_flow(prefect, d) for d in deployments))), last_id=last_id)


async def _flow(prefect: Prefect, row: dict[str, Any]) -> FlowOut:
    coming, past = await asyncio.gather(
        prefect.runs(row["id"], sort="EXPECTED_START_TIME_ASC", limit=1, states={"any_": ["SCHEDULED"]}),
        prefect.runs(row["id"], sort="EXPECTED_START_TIME_DESC", limit=1, states={"not_any_": ["SCHEDULED"]}),
    )
    return FlowOut(
        name=row["name"],
        description=row["description"],
        paused=row["paused"],
        tags=row["tags"],
        schedules=[
            ScheduleOut(
                cron=s["schedule"].get("cron"), timezone=s["schedule"].get("timezone") or "UTC", active=s["active"]
            )
            for s in row["schedules"]
        ],
        parameters=row["parameters"],
        next_run=_first(coming),
        last_run=_first(past),
    )


def _first(runs: Sequence[dict[str, Any]]) -> RunOut | None:
    return RunOut.model_validate(_run(runs[0])) if runs else None


@router.get("/runs/{run_id}")
async def read_run(run_id: UUID, viewer: ViewerWithoutDb, prefect: Server) -> RunDetail:
    """One run, its state and its result."""
    require(viewer, *STAFF)
    row = await prefect.ask("GET", f"/flow_runs/{run_id}")
    flow = await prefect.ask("GET", f"/flows/{row['flow_id']}")
    shown = await _artifact(prefect, run_id, flow["name"])
    more = {"flow": flow["name"], "artifact": shown, "result": _result(shown)}
    return RunDetail.model_validate({**_run(row), **more})


async def _artifact(prefect: Prefect, run_id: UUID, flow: str) -> dict[str, Any] | None:
    """The table that the run shows (flows.run); None while there is none."""
    wanted = {"flow_run_id": {"any_": [str(run_id)]}, "type": {"any_": ["table"]}, "key": {"any_": [flow]}}
    newest = {"artifacts": wanted, "sort": "CREATED_DESC", "limit": 1}
    found: list[dict[str, Any]] = await prefect.ask("POST", "/artifacts/filter", newest)
    return found[0] if found else None


def _result(shown: dict[str, Any] | None) -> dict[str, Any] | None:
    """The table's one row."""
    data = shown["data"] if shown else None
    rows = json.loads(data) if isinstance(data, str) else data
    return dict(rows[0]) if rows else None


@router.get("/{name}/runs")
async def list_runs(name: Name, viewer: ViewerWithoutDb, prefect: Server, pages: Pages, last_id: LastIdNow) -> Runs:
    """A deployment's runs, newest first."""
    require(viewer, *STAFF)
    deployment = await prefect.deployment(name)
    offset = pages.after_id()
    if offset > NEWEST_RUNS:
        raise Invalid("cursor", f"lies more than {NEWEST_RUNS} runs back")
    limit = min(pages.limit, AT_ONCE - 1)
    rows = await prefect.runs(deployment["id"], sort="EXPECTED_START_TIME_DESC", limit=limit + 1, offset=offset)
    next_ = base64.urlsafe_b64encode(str(offset + limit).encode()).decode().rstrip("=") if rows[limit:] else None
    return Runs(items=[RunOut.model_validate(_run(r)) for r in rows[:limit]], next=next_, last_id=last_id)


@router.post("/{name}/runs", status_code=202)
async def start_run(
    name: Name,
    given: NewRun,
    viewer: ViewerWithoutDb,
    prefect: Server,
    response: Response,
    idempotency_key: Annotated[str | None, Header(pattern=r"^[\x21-\x7e]{1,255}$")] = None,
) -> RunOut:
    """Run a deployment now; its states come on ``/topic/flows``."""
    require(viewer, "admin")
    deployment = await prefect.deployment(name)
    parameters = given.parameters | ({} if given.dry_run is None else {"dry_run": given.dry_run})
    check_parameters(parameters, deployment["parameter_openapi_schema"].get("properties", {}))
    wanted: dict[str, Any] = {"parameters": {**deployment["parameters"], **parameters}, "state": {"type": "SCHEDULED"}}
    if idempotency_key:
        wanted["idempotency_key"] = f"http/{viewer.id}/{name}/{idempotency_key}"
    row = await prefect.ask("POST", f"/deployments/{deployment['id']}/create_flow_run", wanted)
    if row["parameters"] != wanted["parameters"]:
        raise Invalid("Idempotency-Key", "was used with another body; use a new key for a new request")
    response.headers["Location"] = f"/api/flows/runs/{row['id']}"
    return RunOut.model_validate(_run(row))


@router.patch("/{name}", status_code=200)
async def change_flow(name: Name, given: FlowPatch, viewer: ViewerWithoutDb, prefect: Server) -> FlowOut:
    """Pause a deployment's schedule, or let it go on."""
    require(viewer, "admin")
    deployment = await prefect.deployment(name)
    await prefect.ask("PATCH", f"/deployments/{deployment['id']}", {"paused": given.paused})
    return await _flow(prefect, await prefect.deployment(name))
