"""A reminder's window is checked by ``now`` and by the database's clock: past by either, it is over."""

from datetime import datetime
from uuid import UUID

import pytest
from sqlalchemy import text

from core import reminders
from core.clock import utcnow
from core.db import transaction
from core.models import Reminder
from tests.support.reminders import booked, mails, minutes, notified, people, planned, soon, statuses, windows

MISSED = ("skipped", "missed its window")


def missed_half_an_hour_ago() -> tuple[UUID, datetime]:
    """A session whose reminders were due an hour ago and could be sent for half an hour; and when they were due."""
    id_ = soon(people(reminder_offsets=[90]), due_in=-3600, offset=90)
    due_at, send_by = windows(id_)["candidate", 90]
    assert due_at < send_by < utcnow()
    return id_, due_at


@pytest.mark.parametrize("later", [0, 10, 29])
def test_a_late_run_sends_nothing_whose_window_is_over_by_the_clock(database: str, later: float) -> None:
    """Its ``now`` is the time it was to run at, which lies in the window; it runs half an hour after that."""
    id_, due_at = missed_half_an_hour_ago()
    result = reminders.send_due(now=due_at + minutes(later))
    assert (result.found, result.done, result.skipped) == (2, 0, 2)
    assert {row[3:] for row in planned(id_)} == {MISSED}
    assert (mails(id_), notified(id_)) == ([], [])


def test_a_late_hourly_run_sends_nothing_either(database: str) -> None:
    id_, due_at = missed_half_an_hour_ago()
    assert reminders.plan_and_send(now=due_at).counts == {"missed its window": 2}
    assert (mails(id_), notified(id_)) == ([], [])


def test_a_dry_run_of_a_time_gone_by_says_what_would_happen_now(database: str) -> None:
    id_, due_at = missed_half_an_hour_ago()
    result = reminders.send_due(now=due_at, dry_run=True)
    assert result.counts == {"missed its window": 2}
    assert statuses(id_) == ["planned", "planned"]


@pytest.mark.parametrize(("later", "outcome"), [(30, "would be sent"), (30.01, "missed its window")])
def test_a_dry_run_of_a_time_to_come_goes_by_that_time(database: str, later: float, outcome: str) -> None:
    """By the clock the window has not even begun."""
    start = utcnow() + minutes(600)
    id_ = booked(people(reminder_offsets=[60]), start, now=utcnow())
    due_at, _ = windows(id_)["candidate", 60]
    assert reminders.send_due(now=due_at + minutes(later), dry_run=True).counts == {outcome: 2}
    assert reminders.send_due(now=due_at - minutes(0.01), dry_run=True).found == 0


def test_when_a_reminder_was_sent_is_by_the_clock_and_what_is_due_is_by_now(database: str) -> None:
    """A run that is a little late takes what was due at its own time, and leaves the rest to the next."""
    first = soon(people(reminder_offsets=[60]), due_in=-600)
    second = soon(people(reminder_offsets=[60]), due_in=-60)
    with transaction() as db:
        before: datetime = db.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert reminders.send_due(now=utcnow() - minutes(5)).done == 2
    assert (statuses(first), statuses(second)) == (["sent", "sent"], ["planned", "planned"])
    with transaction() as db:
        sent_at = [one.sent_at for one in db.query(Reminder).filter_by(session_id=first)]
    assert all(at is not None and at >= before for at in sent_at)


def test_each_offset_has_a_notification_and_a_mail_of_its_own(database: str) -> None:
    """Two reminders of one schedule to one person are two notifications and two mails."""
    id_ = soon(people(reminder_offsets=[60, 59]), due_in=-90)
    assert reminders.send_due(now=utcnow()).done == 4
    assert len(notified(id_)) == 4
    assert len(mails(id_)) == 4
