"""Requests the daily reports: the dashboard of each past day, once (docs/domain.md, "Daily reports")."""

from collections.abc import Sequence
from datetime import date as Day  # noqa: N812 - parameters are named date
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import outbox
from core.clock import uuid7
from core.db import array, insert_many, transaction
from core.errors import Invalid
from core.models import Report
from core.reports.queue.claims import NOT_AVAILABLE, requeue
from core.reports.queue.parameters import request_hash
from core.results import SAMPLE, JobResult
from core.settings import settings

TYPES = ("dashboard_pdf", "dashboard_csv")
MAX_CATCH_UP_DAYS = 31
"""Maximum days that a run goes back for days without reports."""
MAX_DAYS = 366
"""Maximum days in one request."""
_DAY = timedelta(days=1)


def enqueue_daily(
    *, now: datetime, dry_run: bool = False, date: Day | None = None, until: Day | None = None
) -> JobResult:
    """Request the reports of yesterday, in the platform's zone, and of earlier days that a lost run left out.

    With ``date``, request those of that day instead, or of each day from it to ``until``. A day's reports are requested
    once, however often this runs, and again when they failed or their files were removed. Raises Invalid for days that
    are not over, in the wrong order, or too many.

    Of the result ``found`` are due, ``done`` were requested now, ``skipped`` had been before; its data are the
    ``first`` and the ``last`` day.
    """
    zone = ZoneInfo(settings().timezone)
    with transaction() as db:
        days = requested_days(date, until, now=now) or _missing_days(db, _yesterday(now))
        wanted = [(day, kind) for day in days for kind in TYPES]
        keys = {daily_key(day, kind): (day, kind) for day, kind in wanted}
        before = set(db.scalars(_BEFORE, {"keys": array(list(keys))}))
        new = {key: of for key, of in keys.items() if key not in before}
        inserted = 0 if dry_run or not new else _enqueue_day(db, new, zone, now)
    sample = [{"date": str(day), "type": kind} for day, kind in new.values()]
    return JobResult(
        now=now,
        dry_run=dry_run,
        found=len(wanted),
        done=inserted,
        skipped=len(wanted) - (len(new) if dry_run else inserted),
        sample=sample[:SAMPLE],
        data={"first": min(days).isoformat(), "last": max(days).isoformat()},
    )


def requested_days(date: Day | None, until: Day | None, *, now: datetime) -> list[Day]:
    """``date``, or each day from it to ``until``; empty when neither is given.

    Raises Invalid as ``enqueue_daily`` does.
    """
    if date is None and until is None:
        return []
    if date is None:
        raise Invalid("date", "is missing: until is the last day of a range that starts with date")
    yesterday, last = _yesterday(now), until or date
    if last > yesterday:
        raise Invalid("until" if until else "date", f"{last} is not over; the last day that is over is {yesterday}")
    if last < date:
        raise Invalid("until", f"{last} lies before {date}")
    days = _range(date, last)
    if len(days) > MAX_DAYS:
        raise Invalid("until", f"{len(days)} days are too many; request at most {MAX_DAYS} at once")
    return days


def _yesterday(now: datetime) -> Day:
    return now.astimezone(ZoneInfo(settings().timezone)).date() - _DAY


def daily_key(day: Day, kind: str) -> str:
    """The dedupe key by which a day's report is requested once."""
    return f"daily/{day.isoformat()}/{kind}"


def day_of(dedupe_key: str | None) -> Day | None:
    """The day of the report with this key; None: it is not a daily report."""
    parts = (dedupe_key or "").split("/")
    return Day.fromisoformat(parts[1]) if len(parts) == 3 and parts[0] == "daily" else None


def bounds(day: Day, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """From local midnight to the next: 23 to 25 hours."""
    first, last = (datetime.combine(d, time(), zone) for d in (day, day + _DAY))
    return first, last


_BEFORE = text(f"""
    SELECT dedupe_key FROM reports WHERE dedupe_key = ANY(CAST(:keys AS text[])) AND NOT {NOT_AVAILABLE}
""")  # noqa: S608 - a constant of ours
_REQUESTED_DAYS = text("SELECT DISTINCT split_part(dedupe_key, '/', 2) FROM reports WHERE dedupe_key LIKE 'daily/%'")


def _missing_days(db: Session, yesterday: Day) -> list[Day]:
    requested = {Day.fromisoformat(day) for day in db.scalars(_REQUESTED_DAYS)}
    first = max(min(requested, default=yesterday), yesterday - (MAX_CATCH_UP_DAYS - 1) * _DAY)
    # yesterday always, so that a run with nothing to do reports it as skipped
    return [day for day in _range(first, yesterday) if day not in requested] or [yesterday]


def _range(first: Day, last: Day) -> list[Day]:
    return [first + n * _DAY for n in range((last - first).days + 1)]


def _enqueue_day(db: Session, new: dict[str, tuple[Day, str]], zone: ZoneInfo, now: datetime) -> int:
    requeued = requeue(db, list(new))
    given: list[dict[str, Any]] = []
    for day, _ in new.values():
        start, end = bounds(day, zone)
        given.append({"start": start.isoformat(), "end": end.isoformat()})
    kinds: Sequence[str] = [kind for _, kind in new.values()]
    inserted = insert_many(
        db,
        Report,
        {
            "id": [uuid7(now) for _ in new],
            "type": list(kinds),
            "parameters": given,
            "request_hash": [request_hash(kind, one) for kind, one in zip(kinds, given, strict=True)],
            "dedupe_key": list(new),
        },
        conflict_target="(dedupe_key)",
        returning=("id",),
    )
    if inserted:
        outbox.wake(db)
    return requeued + len(inserted)
