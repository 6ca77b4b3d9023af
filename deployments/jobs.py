"""``greenroom jobs``: every deployment with its schedule, its last run and its next, and what is late."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import httpx

from core.clock import utcnow
from core.errors import Unavailable
from core.prefect_rest import PAGE, Deployment, PrefectRest, Run
from core.settings import Settings

HEAD = ("JOB", "SCHEDULE", "LAST RUN", "NEXT RUN", "LATE")
_BEGUN = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED", "RUNNING"]


class Job(NamedTuple):
    """One deployment as it stands; ``late`` counts runs that are due and have not started, up to a page of them."""

    name: str
    schedules: tuple[str, ...]
    paused: bool
    last: Run | None
    next: datetime | None
    late: int


def report(settings: Settings) -> Iterator[str]:
    """The lines of the table, times in the platform's zone. Raises Unavailable when Prefect's server is away."""
    zone = ZoneInfo(settings.timezone)
    now = utcnow()
    rows = [HEAD, *(_row(job, now, zone) for job in jobs(settings))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def jobs(settings: Settings) -> list[Job]:
    """Every deployment, by name. Raises Unavailable when Prefect's server is away."""
    try:
        return asyncio.run(_read_jobs(settings))
    except httpx.HTTPError as error:
        raise Unavailable(
            f"Prefect's server at {settings.prefect_api_url} cannot be asked: {error or type(error).__name__}"
        ) from error


async def _read_jobs(settings: Settings) -> list[Job]:
    auth, kept = settings.prefect_api_auth_string, settings.state_dir / "prefect_auth"
    if auth is None and kept.exists():
        auth = kept.read_text().strip()
    async with PrefectRest(settings.prefect_api_url, auth) as server:
        return [await _read_job(server, deployment) for deployment in await server.deployments()]


async def _read_job(server: PrefectRest, deployment: Deployment) -> Job:
    async def runs(limit: int, sort: str, **state: Any) -> list[Run]:
        where = {"deployment_id": {"any_": [str(deployment.id)]}, "state": state}
        return await server.runs(where, sort=sort, limit=limit)

    last = await runs(1, "EXPECTED_START_TIME_DESC", type={"any_": _BEGUN})
    ahead = await runs(1, "EXPECTED_START_TIME_ASC", name={"any_": ["Scheduled"]})
    scheduled = bool(deployment.schedules)
    return Job(
        name=deployment.name,
        schedules=tuple(_schedule(one.schedule) for one in deployment.schedules),
        paused=deployment.paused or (scheduled and not any(one.active for one in deployment.schedules)),
        last=last[0] if last else None,
        next=ahead[0].expected_start_time if ahead else None,
        late=len(await runs(PAGE, "EXPECTED_START_TIME_ASC", name={"any_": ["Late"]})),
    )


def _schedule(schedule: dict[str, Any]) -> str:
    if "cron" in schedule:
        return f"{schedule['cron']} {schedule.get('timezone') or 'UTC'}"
    if "interval" in schedule:
        return f"every {timedelta(seconds=schedule['interval'])}"
    return str(schedule.get("rrule", "?"))


def _row(job: Job, now: datetime, zone: ZoneInfo) -> Sequence[str]:
    last = "never"
    if job.last and job.last.state:
        begun = job.last.start_time or job.last.expected_start_time or job.last.state.timestamp
        took = f" in {job.last.total_run_time:.1f} s" if job.last.state.type != "RUNNING" else ""
        last = f"{_when(begun, now, zone)} {job.last.state.name}{took}"
    upcoming = "paused" if job.paused else _when(job.next, now, zone) if job.next else "none"
    return job.name, ", ".join(job.schedules) or "by hand", last, upcoming, str(job.late or "")


def _when(at: datetime, now: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local:%H:%M:%S}" if local.date() == now.astimezone(zone).date() else f"{local:%Y-%m-%d %H:%M}"
