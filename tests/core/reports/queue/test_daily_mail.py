"""The daily reports reach those who subscribe: each day once, the newest day only, whoever finishes last."""

import threading
from datetime import UTC, date, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from core import reports
from core.clock import utcnow
from core.db import transaction
from core.models import NotificationPreference
from core.reports.queue import outcomes
from core.reports.queue.claims import ClaimedReport
from core.reports.queue.outcomes import Failure
from core.settings import settings
from tests.support.factories import People
from tests.support.report_queue import claim, content, finish, made, mailed, new_people, row

LARGE = 5 * 1024 * 1024 + 1


@pytest.fixture
def people(database: str) -> People:
    """An admin and a recruiter who subscribe, and others who do not."""
    who = new_people()
    new_people()
    for role in ("admin", "recruiter"):
        wish(who, role, "email", "instant")
    wish(who, "interviewer", "email", "instant")  # of a time when they were staff
    return who


def wish(who: People, role: str, channel: str, delivery: str) -> None:
    with transaction() as db:
        named = {"user_id": who.ids[role], "category": "daily_report", "channel": channel}
        db.merge(NotificationPreference(**named, delivery=delivery))


def subscribers(who: People) -> list[str]:
    with transaction() as db:
        found = db.execute(
            text("SELECT email FROM users WHERE id IN (:a, :b) ORDER BY 1"),
            {"a": who.ids["admin"], "b": who.ids["recruiter"]},
        )
        return list(found.scalars())


def notified() -> list[int]:
    with transaction() as db:
        return list(
            db.execute(text("SELECT user_id FROM notifications WHERE category = 'daily_report' ORDER BY id")).scalars()
        )


def request_day(day: date | None = None, until: date | None = None) -> list[ClaimedReport]:
    """A day's reports, claimed: the PDF first."""
    reports.enqueue_daily(now=utcnow(), date=day, until=until)
    return sorted(claim(100), key=lambda one: str(one.dedupe_key), reverse=True)


def test_one_mail_has_both_reports_when_the_last_is_ready(people: People) -> None:
    pdf, csv = request_day()
    assert finish(pdf, b"%PDF", filename="Dashboard.pdf")
    assert (mailed("daily/"), notified()) == ([], [])
    assert finish(csv, filename="Sessions.csv")
    files = ["Dashboard.pdf", "Sessions.csv"]
    assert mailed("daily/") == [(address, files) for address in subscribers(people)]
    assert notified() == [people.ids["admin"], people.ids["recruiter"]]
    assert not finish(csv)
    assert (len(mailed("daily/")), len(notified())) == (2, 2)
    kept = row(pdf.id)
    assert kept.expires_at is not None and kept.finished_at is not None
    assert kept.expires_at - kept.finished_at > timedelta(days=80)


def test_concurrent_completions_mail_once(people: People) -> None:
    both = request_day()
    begun = threading.Barrier(2)

    def complete(claimed: ClaimedReport) -> None:
        with transaction() as db:
            begun.wait(30)
            assert outcomes.mark_ready(db, claimed, made(), now=utcnow())

    threads = [threading.Thread(target=complete, args=(one,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(mailed("daily/")), len(notified())) == (2, 2)


def test_subscribers_without_notification_get_only_the_mail(people: People) -> None:
    wish(people, "recruiter", "in_app", "off")
    for claimed in request_day():
        finish(claimed)
    assert len(mailed("daily/")) == 2
    with transaction() as db:
        assert list(db.execute(text("SELECT user_id FROM notification_receipts")).scalars()) == [people.ids["admin"]]


def test_subscribers_of_the_notification_get_no_mail(people: People) -> None:
    wish(people, "recruiter", "email", "off")
    wish(people, "recruiter", "in_app", "instant")
    for claimed in request_day():
        finish(claimed)
    assert len(mailed("daily/")) == 1
    assert notified() == [people.ids["admin"], people.ids["recruiter"]]
    with transaction() as db:
        receipts = db.execute(text("SELECT user_id FROM notification_receipts ORDER BY 1")).scalars()
        assert list(receipts) == sorted(notified())


def test_a_failed_or_large_report_does_not_block_the_other(people: People) -> None:
    pdf, csv = request_day()
    assert finish(pdf, b"x" * LARGE, filename="Dashboard.pdf")
    with transaction() as db:
        assert outcomes.mark_failed(db, csv, Failure("No paper.", retry=False), now=utcnow())
    assert [files for _, files in mailed("daily/")] == [[], []]
    with transaction() as db:
        [body, _] = db.execute(text("SELECT text_body FROM emails ORDER BY id")).scalars()
        assert list(db.execute(text("SELECT role FROM notifications WHERE category = 'job_failed'")).scalars()) == [
            "admin"
        ]
    assert f"{settings().public_url}/reports/{pdf.id}" in body
    assert str(csv.id) not in body


def test_a_backfill_notifies_only_of_yesterday(people: People) -> None:
    yesterday = utcnow().astimezone(UTC).date() - timedelta(days=1)
    for claimed in request_day(yesterday - timedelta(days=9), yesterday - timedelta(days=5)):
        assert finish(claimed)
    assert (mailed("daily/"), notified()) == ([], []), "long over"
    many = request_day(yesterday - timedelta(days=4), yesterday)
    assert len(many) == 10
    for claimed in many:
        assert finish(claimed)
    assert len(mailed("daily/")) == len(mailed(f"daily/{yesterday}")) == 2
    assert len(notified()) == 2


def test_an_invalid_address_does_not_block_the_others(people: People) -> None:
    with transaction() as db:
        db.execute(text("UPDATE users SET email = 'x@-y-.com' WHERE id = :id"), {"id": people.ids["admin"]})
    for claimed in request_day():
        assert finish(claimed)
    with transaction() as db:
        found = db.execute(text("SELECT to_address, status FROM emails ORDER BY status")).all()
    assert [tuple(each) for each in found] == [("x@-y-.com", "dead"), (subscribers(people)[0], "queued")]


def test_a_failed_day_can_be_requested_again(people: People) -> None:
    yesterday = utcnow().astimezone(UTC).date() - timedelta(days=1)
    first = request_day()
    for claimed in first:
        with transaction() as db:
            assert outcomes.mark_failed(db, claimed, Failure("No browser.", retry=False), now=utcnow())
    assert reports.enqueue_daily(now=utcnow(), dry_run=True).done == 0
    assert reports.enqueue_daily(now=utcnow(), date=yesterday).done == 2
    again = claim(100)
    assert {one.id for one in again} == {one.id for one in first}
    assert [one.attempts for one in again] == [1, 1]
    for claimed in again:
        assert finish(claimed)
    assert (len(mailed("daily/")), len(notified())) == (2, 2)
    assert reports.enqueue_daily(now=utcnow(), date=yesterday).skipped == 2


def test_a_removed_day_can_be_requested_again(people: People) -> None:
    day = utcnow().astimezone(UTC).date() - timedelta(days=100)
    pdf, csv = request_day(day)
    assert finish(pdf) and finish(csv)
    with transaction() as db:
        db.execute(text("DELETE FROM report_files WHERE report_id = :id"), {"id": pdf.id})
    assert reports.enqueue_daily(now=utcnow(), date=day).done == 1
    [again] = claim()
    assert again.id == pdf.id and finish(again, b"%PDF")
    assert content(pdf.id) == b"%PDF"


def test_an_expired_day_can_be_requested_before_its_file_is_removed(people: People) -> None:
    day = utcnow().astimezone(UTC).date() - timedelta(days=100)
    pdf, csv = request_day(day)
    assert finish(pdf, b"old") and finish(csv)
    with transaction() as db:
        db.execute(text("UPDATE reports SET expires_at = now() WHERE id = :id"), {"id": pdf.id})
    assert reports.enqueue_daily(now=utcnow(), date=day).done == 1
    [again] = claim()
    assert again.id == pdf.id and finish(again, b"%PDF")
    assert content(pdf.id) == b"%PDF"


def test_a_retried_run_requests_its_report(database: str) -> None:
    given = reports.NewReport(type="dashboard_csv")
    with transaction() as db:
        first = reports.enqueue_as_system(db, given, key="flow-run/1", now=utcnow())
    [claimed] = claim()
    with transaction() as db:
        assert outcomes.mark_failed(db, claimed, Failure("No paper.", retry=False), now=utcnow())
        assert reports.enqueue_as_system(db, given, key="flow-run/1", now=utcnow()) == first._replace(new=False)
    assert [one.id for one in claim()] == [first.id]


def test_a_day_without_reports_notifies_nobody(people: People) -> None:
    for claimed in request_day():
        with transaction() as db:
            assert outcomes.mark_failed(db, claimed, Failure("No paper.", retry=False), now=utcnow())
    assert (mailed("daily/"), notified()) == ([], [])


def test_daily_reports_are_made_without_subscribers(database: str) -> None:
    ids: list[UUID] = [claimed.id for claimed in request_day() if finish(claimed)]
    assert [row(id_).status for id_ in ids] == ["ready", "ready"]
    assert mailed("daily/") == []
