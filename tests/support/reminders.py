"""Sessions whose reminders are due or planned, what became of them, and a transaction that holds others up."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import update

from core import reminders, sessions
from core.clock import utcnow
from core.db import transaction
from core.models import Email, Notification, Reminder
from core.sessions import NewSession
from tests.support import factories
from tests.support.factories import People

FAR = datetime(2030, 5, 14, 12, tzinfo=UTC)
"""A start in the future of any clock, where only planning is looked at."""
Row = tuple[int, str, int, str, str | None]


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


def people(**interview: Any) -> People:
    with transaction() as db:
        return factories.people(db, **interview)


def booked(who: People, start: datetime, *, now: datetime) -> UUID:
    """A session as a recruiter schedules it."""
    given = NewSession(
        candidate_id=who.candidate_id,
        interview_id=who.interview_id,
        interviewer_id=who.interviewer_id,
        scheduled_start=start,
    )
    with transaction() as db:
        return sessions.create(db, given, by=who.viewer("recruiter"), now=now)


def planned(session_id: UUID) -> list[Row]:
    """Version, recipient, offset, status and reason of each reminder, in order."""
    r = Reminder
    with transaction() as db:
        rows = db.query(r).where(r.session_id == session_id)
        rows = rows.order_by(r.schedule_version, r.recipient, r.offset_minutes.desc())
        return [(row.schedule_version, row.recipient, row.offset_minutes, row.status, row.reason) for row in rows]


def statuses(session_id: UUID) -> list[str]:
    return [status for *_, status, _ in planned(session_id)]


def windows(session_id: UUID) -> dict[tuple[str, int], tuple[datetime, datetime]]:
    with transaction() as db:
        rows = db.query(Reminder).where(Reminder.session_id == session_id)
        return {(row.recipient, row.offset_minutes): (row.due_at, row.send_by) for row in rows}


def mails(session_id: UUID) -> list[tuple[str, str]]:
    """To whom reminder mails were queued, with their state."""
    with transaction() as db:
        rows = (
            db.query(Email).where(Email.session_id == session_id, Email.kind == "reminder").order_by(Email.to_address)
        )
        return [(row.to_address, row.status) for row in rows]


def notified(session_id: UUID) -> list[int | None]:
    """Which users have a notification of category reminder."""
    with transaction() as db:
        n = Notification
        return [
            row.user_id
            for row in db.query(n).where(n.session_id == session_id, n.category == "reminder").order_by(n.user_id)
        ]


def soon(who: People, *, due_in: float = 0.0, offset: int = 60) -> UUID:
    """A scheduled session whose reminders of this offset are due in so many seconds; the earlier ones are void."""
    start = utcnow() + minutes(offset) + timedelta(seconds=due_in)
    with transaction() as db:
        now = utcnow() - timedelta(days=3)
        s = factories.session(
            db, now=now, people=who, scheduled_start=start, scheduled_end=start + minutes(60), status="scheduled"
        )
        reminders.plan(db, [s], now=now)
        gone = update(Reminder).where(Reminder.session_id == s, Reminder.offset_minutes > offset)
        db.execute(gone.values(status="void"))
        return s


@contextmanager
def held(work: Callable[[Any], None]) -> Iterator[Callable[[], None]]:
    """A transaction of another thread that has done its work and waits; call what is given to let it commit."""
    ready, go = threading.Event(), threading.Event()

    def run() -> None:
        with transaction() as db:
            work(db)
            db.flush()
            ready.set()
            assert go.wait(20)

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(20)

    def commit() -> None:
        go.set()
        thread.join(20)

    try:
        yield commit
    finally:
        commit()
