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
from tests.support.report_queue import claim, content, finish, made, mailed, row, someone

LARGE = 5 * 1024 * 1024 + 1


@pytest.fixture
def people(database: str) -> People:
    """An admin and a recruiter who subscribe, and others who do not."""
    who = someone()
    someone()
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


def told() -> list[int]:
    with transaction() as db:
        return list(
            db.execute(text("SELECT user_id FROM notifications WHERE category = 'daily_report' ORDER BY id")).scalars()
        )


def asked(day: date | None = None, until: date | None = None) -> list[ClaimedReport]:
    """A day's reports, claimed: the PDF first."""
    reports.enqueue_daily(now=utcnow(), date=day, until=until)
    return sorted(claim(100), key=lambda one: str(one.dedupe_key), reverse=True)


def test_both_go_in_one_mail_when_the_last_is_ready(people: People) -> None:
    pdf, csv = asked()
    assert finish(pdf, b"%PDF", filename="Dashboard.pdf")
    assert (mailed("daily/"), told()) == ([], [])
    assert finish(csv, filename="Sessions.csv")
    files = ["Dashboard.pdf", "Sessions.csv"]
    assert mailed("daily/") == [(address, files) for address in subscribers(people)]
    assert told() == [people.ids["admin"], people.ids["recruiter"]]
    assert not finish(csv)
    assert (len(mailed("daily/")), len(told())) == (2, 2)
    kept = row(pdf.id)
    assert kept.expires_at is not None and kept.finished_at is not None
    assert kept.expires_at - kept.finished_at > timedelta(days=80)


def test_two_that_finish_at_once_mail_once(people: People) -> None:
    both = asked()
    begun = threading.Barrier(2)

    def end(claimed: ClaimedReport) -> None:
        with transaction() as db:
            begun.wait(30)
            assert outcomes.mark_ready(db, claimed, made(), now=utcnow())

    threads = [threading.Thread(target=end, args=(one,)) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(mailed("daily/")), len(told())) == (2, 2)


def test_who_turned_the_notification_off_gets_the_mail_alone(people: People) -> None:
    wish(people, "recruiter", "in_app", "off")
    for claimed in asked():
        finish(claimed)
    assert len(mailed("daily/")) == 2
    with transaction() as db:
        assert list(db.execute(text("SELECT user_id FROM notification_receipts")).scalars()) == [people.ids["admin"]]


def test_who_chose_the_notification_alone_gets_no_mail(people: People) -> None:
    wish(people, "recruiter", "email", "off")
    wish(people, "recruiter", "in_app", "instant")
    for claimed in asked():
        finish(claimed)
    assert len(mailed("daily/")) == 1
    assert told() == [people.ids["admin"], people.ids["recruiter"]]
    with transaction() as db:
        receipts = db.execute(text("SELECT user_id FROM notification_receipts ORDER BY 1")).scalars()
        assert list(receipts) == sorted(told())


def test_a_part_that_failed_or_is_too_large_does_not_keep_back_the_other(people: People) -> None:
    pdf, csv = asked()
    assert finish(pdf, b"x" * LARGE, filename="Dashboard.pdf")
    with transaction() as db:
        assert outcomes.mark_failed(db, csv, Failure("No paper.", retry=False), now=utcnow())
    assert [files for _, files in mailed("daily/")] == [[], []]
    with transaction() as db:
        [said, _] = db.execute(text("SELECT text_body FROM emails ORDER BY id")).scalars()
        assert list(db.execute(text("SELECT role FROM notifications WHERE category = 'job_failed'")).scalars()) == [
            "admin"
        ]
    assert f"{settings().public_url}/reports/{pdf.id}" in said
    assert str(csv.id) not in said


def test_of_a_backfill_nobody_is_told_but_of_yesterday(people: People) -> None:
    yesterday = utcnow().astimezone(UTC).date() - timedelta(days=1)
    for claimed in asked(yesterday - timedelta(days=9), yesterday - timedelta(days=5)):
        assert finish(claimed)
    assert (mailed("daily/"), told()) == ([], []), "long over"
    many = asked(yesterday - timedelta(days=4), yesterday)
    assert len(many) == 10
    for claimed in many:
        assert finish(claimed)
    assert len(mailed("daily/")) == len(mailed(f"daily/{yesterday}")) == 2
    assert len(told()) == 2


def test_an_address_that_is_none_does_not_keep_back_the_others(people: People) -> None:
    with transaction() as db:
        db.execute(text("UPDATE users SET email = 'x@-y-.com' WHERE id = :id"), {"id": people.ids["admin"]})
    for claimed in asked():
        assert finish(claimed)
    with transaction() as db:
        found = db.execute(text("SELECT to_address, status FROM emails ORDER BY status")).all()
    assert [tuple(each) for each in found] == [("x@-y-.com", "dead"), (subscribers(people)[0], "queued")]


def test_a_day_that_failed_is_made_when_it_is_asked_for_again(people: People) -> None:
    yesterday = utcnow().astimezone(UTC).date() - timedelta(days=1)
    first = asked()
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
    assert (len(mailed("daily/")), len(told())) == (2, 2)
    assert reports.enqueue_daily(now=utcnow(), date=yesterday).skipped == 2


def test_a_day_that_is_no_longer_kept_can_be_made_again(people: People) -> None:
    day = utcnow().astimezone(UTC).date() - timedelta(days=100)
    pdf, csv = asked(day)
    assert finish(pdf) and finish(csv)
    with transaction() as db:
        db.execute(text("DELETE FROM report_files WHERE report_id = :id"), {"id": pdf.id})
    assert reports.enqueue_daily(now=utcnow(), date=day).done == 1
    [again] = claim()
    assert again.id == pdf.id and finish(again, b"%PDF")
    assert content(pdf.id) == b"%PDF"


def test_a_day_that_expired_can_be_made_again_before_its_file_is_removed(people: People) -> None:
    day = utcnow().astimezone(UTC).date() - timedelta(days=100)
    pdf, csv = asked(day)
    assert finish(pdf, b"old") and finish(csv)
    with transaction() as db:
        db.execute(text("UPDATE reports SET expires_at = now() WHERE id = :id"), {"id": pdf.id})
    assert reports.enqueue_daily(now=utcnow(), date=day).done == 1
    [again] = claim()
    assert again.id == pdf.id and finish(again, b"%PDF")
    assert content(pdf.id) == b"%PDF"


def test_a_run_that_is_retried_makes_its_report_after_all(database: str) -> None:
    given = reports.NewReport(type="dashboard_csv")
    with transaction() as db:
        first = reports.enqueue_as_system(db, given, key="flow-run/1", now=utcnow())
    [claimed] = claim()
    with transaction() as db:
        assert outcomes.mark_failed(db, claimed, Failure("No paper.", retry=False), now=utcnow())
        assert reports.enqueue_as_system(db, given, key="flow-run/1", now=utcnow()) == first._replace(new=False)
    assert [one.id for one in claim()] == [first.id]


def test_nothing_is_told_of_a_day_of_which_nothing_is_there(people: People) -> None:
    for claimed in asked():
        with transaction() as db:
            assert outcomes.mark_failed(db, claimed, Failure("No paper.", retry=False), now=utcnow())
    assert (mailed("daily/"), told()) == ([], [])


def test_without_subscribers_it_is_made_all_the_same(database: str) -> None:
    ids: list[UUID] = [claimed.id for claimed in asked() if finish(claimed)]
    assert [row(id_).status for id_ in ids] == ["ready", "ready"]
    assert mailed("daily/") == []
