"""Prefect's server as routes ask it: deployments and runs, and what goes wrong as errors of ours."""

import asyncio
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import httpx
from fastapi import Depends, Request

from api.parameters import check_parameters
from core.errors import GreenroomError, Invalid, NotFound, Unavailable
from core.prefect_rest import PAGE, Deployment, PrefectRest, ResultTable, Run
from core.settings import Settings

NEWEST_RUNS = 100_000
"""How far back a list of runs can be paged: Prefect counts from the newest each time."""
_UNKNOWN = "It may have done what it was asked; with an Idempotency-Key a run that is asked for again is started once."
_REFUSED = (httpx.codes.UNPROCESSABLE_ENTITY, httpx.codes.CONFLICT, httpx.codes.BAD_REQUEST)


class DeployedFlow(NamedTuple):
    """A deployment with its next run and its last one."""

    deployment: Deployment
    next_run: Run | None
    last_run: Run | None


class ShownRun(NamedTuple):
    """A run with its flow's name, and the artifact that shows its result, once it has one."""

    run: Run
    flow: str
    table: ResultTable | None


class Prefect(PrefectRest):
    """Prefect's REST API. Raises Unavailable when its server is away, with nothing half done."""

    def __init__(self, settings: Settings) -> None:
        timeout = httpx.Timeout(5.0, connect=1.0)
        super().__init__(settings.prefect_api_url, settings.prefect_api_auth_string, timeout=timeout)

    async def request(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """The answer's JSON. Raises Unavailable, Invalid (Prefect refuses the input) and NotFound."""
        try:
            return await super().request(method, path, body, **query)
        except httpx.HTTPStatusError as error:
            raise _refusal(error.response, path) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise Unavailable("Prefect's server is away; nothing was done. Try again.", retry_after=5) from None
        except httpx.HTTPError:
            raise Unavailable(f"Prefect's server did not answer. {_UNKNOWN}", retry_after=5) from None

    async def deployment(self, name: str) -> Deployment:
        """The deployment of this name. Raises NotFound."""
        for found in await self.deployments(name={"any_": [name]}):
            return found
        raise NotFound("flow", name)

    async def flows(self) -> list[DeployedFlow]:
        """Every deployment, by name."""
        return list(await asyncio.gather(*map(self._with_runs, await self.deployments())))

    async def _with_runs(self, deployment: Deployment) -> DeployedFlow:
        of_it = {"deployment_id": {"any_": [str(deployment.id)]}}
        scheduled, others = {"any_": ["SCHEDULED"]}, {"not_any_": ["SCHEDULED"]}
        coming, past = await asyncio.gather(
            self.runs({**of_it, "state": {"type": scheduled}}, sort="EXPECTED_START_TIME_ASC", limit=1),
            self.runs({**of_it, "state": {"type": others}}, sort="EXPECTED_START_TIME_DESC", limit=1),
        )
        return DeployedFlow(deployment, next(iter(coming), None), next(iter(past), None))

    async def run(self, run_id: UUID) -> ShownRun:
        """One run with its result. Raises NotFound."""
        run = Run.model_validate(await self.request("GET", f"/flow_runs/{run_id}"))
        flow = await self.flow_name(run)
        return ShownRun(run, flow, await self.result_table(run_id, flow))

    async def newest_runs(self, name: str, *, limit: int, offset: int) -> tuple[list[Run], int | None]:
        """A deployment's runs, newest first, and the offset of the next page, if there is one. Raises NotFound."""
        if offset > NEWEST_RUNS:
            raise Invalid("cursor", f"lies more than {NEWEST_RUNS} runs back")
        limit = min(limit, PAGE - 1)  # one more is asked for, to know of a next page
        where = {"deployment_id": {"any_": [str((await self.deployment(name)).id)]}}
        runs = await self.runs(where, sort="EXPECTED_START_TIME_DESC", limit=limit + 1, offset=offset)
        return runs[:limit], offset + limit if runs[limit:] else None

    async def start(self, name: str, parameters: dict[str, Any], *, key: str | None) -> Run:
        """Start a run of this deployment, once for a key. Raises NotFound and Invalid."""
        deployment = await self.deployment(name)
        check_parameters(parameters, deployment.parameter_openapi_schema.get("properties", {}))
        wanted: dict[str, Any] = {"parameters": {**deployment.parameters, **parameters}}
        body = {**wanted, "state": {"type": "SCHEDULED"}, **({"idempotency_key": key} if key else {})}
        row = await self.request("POST", f"/deployments/{deployment.id}/create_flow_run", body)
        if row["parameters"] != wanted["parameters"]:
            raise Invalid("Idempotency-Key", "was used with another body; use a new key for a new request")
        return Run.model_validate(row)

    async def pause(self, name: str, *, paused: bool) -> DeployedFlow:
        """Pause a deployment's schedule, or let it go on. Raises NotFound."""
        deployment = await self.deployment(name)
        await self.request("PATCH", f"/deployments/{deployment.id}", {"paused": paused})
        return await self._with_runs(await self.deployment(name))


def _refusal(answer: httpx.Response, path: str) -> GreenroomError:
    """What the server's refusal means to who asked."""
    if answer.status_code == httpx.codes.NOT_FOUND:
        return NotFound("run or flow", path.rsplit("/", 1)[-1])
    if answer.status_code in _REFUSED:
        return Invalid("parameters", str(answer.json().get("detail", "refused by Prefect"))[:500])
    return Unavailable(f"Prefect's server answered {answer.status_code}; nothing was done.", retry_after=5)


def _prefect(request: Request) -> Prefect:
    prefect: Prefect = request.app.state.prefect
    return prefect


Server = Annotated[Prefect, Depends(_prefect)]
