"""The daily reports are requested: each day once, by the platform's clocks, whatever runs were lost."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import text

from core.db import transaction
from core.errors import Invalid
from core.reports import enqueue_daily
from core.results import JobResult
from tests.support.processes import forget_settings

NOW = datetime(2026, 3, 10, 6, tzinfo=UTC)


@pytest.fixture
def zone(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Set GREENROOM_TIMEZONE by it, then forget the settings."""
    yield monkeypatch
    monkeypatch.undo()
    forget_settings()


def requests() -> list[tuple[str, str, str, str]]:
    with transaction() as db:
        found = db.execute(
            text("SELECT dedupe_key, status, parameters->>'start', parameters->>'end' FROM reports ORDER BY 1")
        )
        return [tuple(row) for row in found]


def days() -> list[str]:
    return sorted({key.split("/")[1] for key, *_ in requests()})


def counts(result: JobResult) -> tuple[int, int, int]:
    return result.found, result.done, result.skipped


def test_yesterday_is_requested_once(database: str) -> None:
    assert counts(enqueue_daily(now=NOW)) == (2, 2, 0)
    bounds = ("queued", "2026-03-09T00:00:00+00:00", "2026-03-10T00:00:00+00:00")
    assert requests() == [("daily/2026-03-09/dashboard_csv", *bounds), ("daily/2026-03-09/dashboard_pdf", *bounds)]
    assert counts(enqueue_daily(now=NOW + timedelta(hours=5))) == (2, 0, 2)
    assert len(requests()) == 2


@pytest.mark.parametrize(
    ("name", "now", "day", "start", "end"),
    [
        ("Pacific/Kiritimati", "2026-03-10T06:00+14:00", "2026-03-09", "2026-03-09T00:00:00+14:00", 24),
        ("Etc/GMT+12", "2026-03-10T06:00-12:00", "2026-03-09", "2026-03-09T00:00:00-12:00", 24),
        ("Europe/Berlin", "2026-03-30T06:00+02:00", "2026-03-29", "2026-03-29T00:00:00+01:00", 23),
        ("Europe/Berlin", "2026-10-26T06:00+01:00", "2026-10-25", "2026-10-25T00:00:00+02:00", 25),
        ("America/New_York", "2028-03-01T06:00-05:00", "2028-02-29", "2028-02-29T00:00:00-05:00", 24),
        ("America/New_York", "2027-03-01T06:00-05:00", "2027-02-28", "2027-02-28T00:00:00-05:00", 24),
        # at midnight the clocks of Santiago go from 24:00 to 01:00
        ("America/Santiago", "2026-09-07T06:00-03:00", "2026-09-06", "2026-09-06T01:00:00-03:00", 23),
    ],
)
def test_a_day_is_from_local_midnight_to_the_next(
    zone: pytest.MonkeyPatch, name: str, now: str, day: str, start: str, end: int
) -> None:
    zone.setenv("GREENROOM_TIMEZONE", name)
    forget_settings()
    enqueue_daily(now=datetime.fromisoformat(now))
    assert days() == [day]
    first, last = (datetime.fromisoformat(moment) for moment in requests()[0][2:])
    assert first == datetime.fromisoformat(start)
    assert last - first == timedelta(hours=end)


def test_missed_days_are_requested_later(database: str) -> None:
    enqueue_daily(now=NOW)
    result = enqueue_daily(now=NOW + timedelta(days=4))
    assert counts(result) == (8, 8, 0)
    assert days() == [f"2026-03-{day:02}" for day in range(9, 14)]
    enqueue_daily(now=NOW + timedelta(days=400))
    assert len(days()) == 5 + 31, "not for ever"


def test_missed_days_before_a_manual_request_are_requested(database: str) -> None:
    enqueue_daily(now=NOW)
    later = NOW + timedelta(days=4)
    enqueue_daily(now=later, date=date(2026, 3, 13))
    assert counts(enqueue_daily(now=later)) == (6, 6, 0)
    assert days() == [f"2026-03-{day:02}" for day in range(9, 14)]
    assert counts(enqueue_daily(now=later)) == (2, 0, 2)


def test_a_late_run_requests_its_own_day(database: str) -> None:
    enqueue_daily(now=NOW + timedelta(days=2))
    enqueue_daily(now=NOW)
    assert days() == ["2026-03-09", "2026-03-11"]


def test_backfill_of_a_date_and_a_range(database: str) -> None:
    assert counts(enqueue_daily(now=NOW, date=date(2026, 2, 1))) == (2, 2, 0)
    given = {"date": date(2026, 1, 31), "until": date(2026, 2, 2)}
    looked = enqueue_daily(now=NOW, dry_run=True, **given)
    assert counts(looked) == (6, 0, 2)
    assert looked.sample[0] == {"date": "2026-01-31", "type": "dashboard_pdf"}
    assert counts(enqueue_daily(now=NOW, **given)) == (6, 4, 2)
    assert days() == ["2026-01-31", "2026-02-01", "2026-02-02"]


@pytest.mark.parametrize(
    ("first", "last", "why"),
    [
        (date(2026, 3, 10), None, "2026-03-10 is not over"),
        (date(2026, 3, 1), date(2026, 3, 10), "until: 2026-03-10 is not over"),
        (date(2026, 3, 2), date(2026, 3, 1), "lies before"),
        (date(2024, 1, 1), date(2026, 1, 1), "732 days are too many"),
        (None, date(2026, 3, 1), "date: is missing"),
    ],
)
def test_invalid_days(database: str, first: date | None, last: date | None, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        enqueue_daily(now=NOW, date=first, until=last)
    assert requests() == []


def test_concurrent_runs_request_once(database: str) -> None:
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(enqueue_daily(now=NOW).done)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(done) == 2
    assert len(requests()) == 2
