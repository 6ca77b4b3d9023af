"""The jobs whatever the clocks do: around changes of time and leap days, on machines whose clock is in any zone."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
import yaml
from prefect.server.schemas.schedules import CronSchedule

from core.reports.queue.daily import enqueue_daily
from tests.support import job_data, smtp_server
from tests.support.processes import ROOT, PostgresServer, forget_settings, own_database

ZONES = ("Pacific/Kiritimati", "Etc/GMT+12", "America/New_York")
"""The machine's: 14 h ahead, 12 h behind (there is no zone further), and one whose clocks change."""
MOMENTS = {
    "an ordinary day": "2027-05-11T12:00:00+00:00",
    "Lisbon's clocks go forward": "2027-03-28T00:59:58+00:00",
    "Lisbon's clocks go back": "2027-10-31T00:59:58+00:00",
    "New York's clocks go forward": "2027-03-14T06:59:58+00:00",
    "New York's clocks go back": "2027-11-07T05:59:58+00:00",
    "into a leap day": "2028-02-28T23:59:58+00:00",
    "out of a leap day": "2028-02-29T23:59:58+00:00",
    "a month after a leap day": "2028-03-30T12:00:00+00:00",
}
SIZE = 3
OUTCOME = {
    "sessions": "SELECT status, status_at - %(now)s, deleted_at - %(now)s, late_version FROM sessions",
    "events": "SELECT kind, new_status, actor, at - %(now)s FROM session_events",
    "reminders": """
        SELECT recipient, offset_minutes, status, reason, due_at - %(now)s, send_by - %(now)s FROM reminders""",
    "notifications": "SELECT category, status, not_before - %(now)s, delivered_at - %(now)s FROM notifications",
    "mails": "SELECT kind, status, due_at - %(now)s, expires_at - %(now)s, text_body IS NULL FROM emails",
    "reports": "SELECT dedupe_key, parameters->>'start', parameters->>'end' FROM reports",
}
"""What the jobs leave, its times as seen from the slot they ran for."""


def outcome(url: str, now: datetime) -> dict[str, list[Any]]:
    with psycopg.connect(url) as db:
        return {name: sorted(map(str, db.execute(query, {"now": now}))) for name, query in OUTCOME.items()}


def all_jobs(postgres: PostgresServer, now: datetime, **variables: str) -> dict[str, list[Any]]:
    """What all jobs leave of a data set that is due at this moment, each in a process with these variables."""
    with own_database(postgres) as url:
        job_data.fill(SIZE, now)
        before = outcome(url, now)
        for job in job_data.JOBS:
            process = job_data.started(job, now, **variables)
            process.join(60)
            assert process.exitcode == 0, job
        found = outcome(url, now)
    assert all(found[name] != before[name] for name in OUTCOME), "every job had something to do"
    return found


@pytest.fixture(scope="module")
def ordinary(postgres: PostgresServer) -> dict[str, list[Any]]:
    """The outcome on an ordinary day, on a machine in UTC."""
    with smtp_server.serving() as server:
        smtp = {"GREENROOM_SMTP_URL": f"smtp://127.0.0.1:{server.port}"}
        return all_jobs(postgres, datetime.fromisoformat(MOMENTS["an ordinary day"]), TZ="UTC", **smtp)


@pytest.mark.parametrize("moment", [name for name in MOMENTS if name != "an ordinary day"])
def test_clocks_do_not_affect_a_jobs_outcome(
    postgres: PostgresServer, ordinary: dict[str, list[Any]], moment: str
) -> None:
    """All of it goes by durations; where a day of the platform's zone counts, the machine's is not asked."""
    now = datetime.fromisoformat(MOMENTS[moment])
    zone = ZONES[len(moment) % len(ZONES)]
    with smtp_server.serving() as server:
        found = all_jobs(postgres, now, TZ=zone, GREENROOM_SMTP_URL=f"smtp://127.0.0.1:{server.port}")
    assert found == ordinary, f"{moment}, on a machine in {zone}"


@pytest.mark.parametrize("zone", ZONES)
def test_daily_reports_use_the_platforms_day_in_any_machine_zone(
    database: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between the two midnights, where the machine's date is another than the platform's."""
    monkeypatch.setenv("GREENROOM_TIMEZONE", "Pacific/Apia")
    forget_settings()
    with pytest.MonkeyPatch.context() as machine:
        machine.setenv("TZ", zone)
        time.tzset()
        nows = [datetime(2027, 3, 28, hour, tzinfo=UTC) for hour in range(24)]
        days = [enqueue_daily(now=now, dry_run=True).data["last"] for now in nows]
    time.tzset()
    assert days == [str((now + timedelta(hours=13)).date() - timedelta(days=1)) for now in nows]


PLATFORMS = {
    "Europe/Lisbon": ("2027-03-27", "2027-10-30"),
    "Europe/Berlin": ("2027-03-27", "2027-10-30"),
    "America/New_York": ("2027-03-13", "2027-11-06"),
    "Australia/Lord_Howe": ("2027-04-03", "2027-10-02"),
    "Pacific/Kiritimati": ("2028-02-28",),
    "Etc/GMT+12": ("2028-02-28",),
}
"""Zones of a platform, and a day shortly before their clocks change, or before a leap day."""
EVERY = {"every-5-minutes": 5, "every-10-minutes": 10, "hourly": 60}


@pytest.mark.parametrize("zone", PLATFORMS)
async def test_schedules_neither_skip_nor_repeat_at_a_clock_change(zone: str) -> None:
    """As Prefect's server plans the runs of prefect.yaml: each day once, and every few minutes is every few minutes."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    schedules = [one for deployment in deployments for one in deployment.get("schedules", ())]
    assert {one["slug"] for one in schedules} == {*EVERY, "daily-at-02", "daily-at-06"}
    for day in PLATFORMS[zone]:
        start = datetime.fromisoformat(f"{day}T00:00:00+00:00")
        for one in schedules:
            planned = CronSchedule(cron=one["cron"], timezone=one["timezone"].replace(PLATFORM, zone))
            times = await planned.get_dates(n=1000, start=start, end=start + timedelta(days=4))
            if one["slug"] in EVERY:
                moments = [at.timestamp() for at in times]
                gaps = {later - sooner for sooner, later in pairwise(moments)}
                assert gaps == {60 * EVERY[one["slug"]]}, one["slug"]
            else:
                dates = [at.astimezone(ZoneInfo(zone)).date() for at in times]
                assert dates == [dates[0] + timedelta(days=n) for n in range(len(dates))], one["slug"]
                assert len(dates) >= 4, one["slug"]


PLATFORM = "{{ $GREENROOM_TIMEZONE }}"
"""How prefect.yaml names the platform's zone."""
