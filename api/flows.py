"""Flows over HTTP: what Prefect's server knows of our deployments and their runs."""

import base64
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Header, Path, Response
from pydantic import BaseModel, Field

from api.deps import LastIdNow, Pages, ViewerWithoutDb
from api.prefect import DeployedFlow, Server, ShownRun
from core.fields import Input
from core.prefect_rest import Run
from core.viewers import STAFF, require

router = APIRouter(prefix="/api/flows", tags=["flows"])

Name = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,100}$")]


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

    @classmethod
    def of(cls, run: Run) -> Self:
        """The run as clients get it."""
        return cls(**_fields(run))


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

    @classmethod
    def of(cls, flow: DeployedFlow) -> Self:
        """The deployment as clients get it."""
        deployment, coming, past = flow
        return cls(
            **deployment.model_dump(include={"name", "description", "paused", "tags", "parameters"}),
            schedules=[
                ScheduleOut(cron=s.get("cron"), timezone=s.get("timezone") or "UTC", active=one.active)
                for one in deployment.schedules
                for s in [one.schedule]
            ],
            next_run=RunOut.of(coming) if coming else None,
            last_run=RunOut.of(past) if past else None,
        )


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

    @classmethod
    def of_shown(cls, shown: ShownRun) -> Self:
        """The run with its result, as clients get it."""
        run, flow, table = shown
        artifact = ArtifactOut.model_validate(table.model_dump()) if table else None
        return cls(**_fields(run), flow=flow, result=table.result if table else None, artifact=artifact)


def _fields(run: Run) -> dict[str, Any]:
    names = {"id", "name", "expected_start_time", "start_time", "end_time", "parameters"}
    kind, name, message = (run.state.type, run.state.name, run.state.message) if run.state else _NO_STATE
    return {**run.model_dump(include=names), "state": kind, "state_name": name, "message": message}


_NO_STATE = ("PENDING", "Pending", None)
"""Of a run that the server is just making: what it gives a run that was made without a state."""


class NewRun(Input):
    """A run to start now."""

    parameters: dict[str, Any] = Field(default_factory=dict)
    dry_run: bool | None = None

    def all_parameters(self) -> dict[str, Any]:
        """The parameters, ``dry_run`` among them if it was given beside them."""
        return self.parameters | ({} if self.dry_run is None else {"dry_run": self.dry_run})


class FlowPatch(Input):
    """What may be changed of a deployment over HTTP."""

    paused: bool


@router.get("")
async def list_flows(viewer: ViewerWithoutDb, prefect: Server, last_id: LastIdNow) -> Flows:
    """Every deployment with its schedule, its next and its last run."""
    require(viewer, *STAFF)
    return Flows(items=[FlowOut.of(flow) for flow in await prefect.flows()], last_id=last_id)


@router.get("/runs/{run_id}")
async def read_run(run_id: UUID, viewer: ViewerWithoutDb, prefect: Server) -> RunDetail:
    """One run, its state and its result."""
    require(viewer, *STAFF)
    return RunDetail.of_shown(await prefect.run(run_id))


@router.get("/{name}/runs")
async def list_runs(name: Name, viewer: ViewerWithoutDb, prefect: Server, pages: Pages, last_id: LastIdNow) -> Runs:
    """A deployment's runs, newest first."""
    require(viewer, *STAFF)
    runs, offset = await prefect.newest_runs(name, limit=pages.limit, offset=pages.after_id())
    next_ = None if offset is None else base64.urlsafe_b64encode(str(offset).encode()).decode().rstrip("=")
    return Runs(items=[RunOut.of(run) for run in runs], next=next_, last_id=last_id)


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
    key = f"http/{viewer.id}/{name}/{idempotency_key}" if idempotency_key else None
    run = await prefect.start(name, given.all_parameters(), key=key)
    response.headers["Location"] = f"/api/flows/runs/{run.id}"
    return RunOut.of(run)


@router.patch("/{name}", status_code=200)
async def change_flow(name: Name, given: FlowPatch, viewer: ViewerWithoutDb, prefect: Server) -> FlowOut:
    """Pause a deployment's schedule, or let it go on."""
    require(viewer, "admin")
    return FlowOut.of(await prefect.pause(name, paused=given.paused))
