"""``greenroom jobs``: every deployment with its schedule, its last run and its next, and what is late."""

import base64
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import httpx

from core.clock import utcnow
from core.errors import Unavailable
from core.settings import Settings

HEAD = ("JOB", "SCHEDULE", "LAST RUN", "NEXT RUN", "LATE")
_ENDED = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED", "RUNNING"]


class Job(NamedTuple):
    """One deployment as it stands; ``late`` runs are due and have not started."""

    name: str
    schedules: tuple[str, ...]
    paused: bool
    last: dict[str, Any] | None
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
        with _client(settings) as http:
            found = http.post("/deployments/filter", json={"sort": "NAME_ASC"}).raise_for_status().json()
            return [_job(http, deployment) for deployment in found]
    except httpx.HTTPError as error:
        raise Unavailable(
            f"Prefect's server at {settings.prefect_api_url} cannot be asked: {error or type(error).__name__}"
        ) from error


def _client(settings: Settings) -> httpx.Client:
    auth, kept = settings.prefect_api_auth_string, settings.state_dir / "prefect_auth"
    if auth is None and kept.exists():
        auth = kept.read_text().strip()
    headers = {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"} if auth else {}
    return httpx.Client(base_url=settings.prefect_api_url, headers=headers, timeout=10, trust_env=False)


def _job(http: httpx.Client, deployment: dict[str, Any]) -> Job:
    def runs(limit: int, sort: str, **state: Any) -> list[dict[str, Any]]:
        asked = {
            "deployments": {"id": {"any_": [deployment["id"]]}},
            "flow_runs": {"state": state},
            "sort": sort,
            "limit": limit,
        }
        found: list[dict[str, Any]] = http.post("/flow_runs/filter", json=asked).raise_for_status().json()
        return found

    last = runs(1, "EXPECTED_START_TIME_DESC", type={"any_": _ENDED})
    ahead = runs(1, "EXPECTED_START_TIME_ASC", name={"any_": ["Scheduled"]})
    return Job(
        name=deployment["name"],
        schedules=tuple(_schedule(one) for one in deployment["schedules"]),
        paused=deployment["paused"] or not any(one["active"] for one in deployment["schedules"] or [{"active": True}]),
        last=last[0] if last else None,
        next=datetime.fromisoformat(ahead[0]["expected_start_time"]) if ahead else None,
        late=len(runs(200, "EXPECTED_START_TIME_ASC", name={"any_": ["Late"]})),
    )


def _schedule(given: dict[str, Any]) -> str:
    schedule = given["schedule"]
    if "cron" in schedule:
        return f"{schedule['cron']} {schedule.get('timezone') or 'UTC'}"
    if "interval" in schedule:
        return f"every {timedelta(seconds=schedule['interval'])}"
    return str(schedule.get("rrule", "?"))


def _row(job: Job, now: datetime, zone: ZoneInfo) -> Sequence[str]:
    last = "never"
    if job.last:
        begun = job.last["start_time"] or job.last["expected_start_time"]
        took = f" in {job.last['total_run_time']:.1f} s" if job.last["state_type"] != "RUNNING" else ""
        last = f"{_when(datetime.fromisoformat(begun), now, zone)} {job.last['state_name']}{took}"
    upcoming = "paused" if job.paused else _when(job.next, now, zone) if job.next else "none"
    return job.name, ", ".join(job.schedules) or "by hand", last, upcoming, str(job.late or "")


def _when(at: datetime, now: datetime, zone: ZoneInfo) -> str:
    local = at.astimezone(zone)
    return f"{local:%H:%M:%S}" if local.date() == now.astimezone(zone).date() else f"{local:%Y-%m-%d %H:%M}"
