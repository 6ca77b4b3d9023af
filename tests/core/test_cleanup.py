"""Retention: what is old goes, everything else stays, and nobody is kept waiting for it."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core import outbox
from core.cleanup import clean_up
from core.db import transaction
from core.events import ALL_SESSIONS
from core.models import (
    EmailAttachment,
    IdempotencyKey,
    Notification,
    NotificationReceipt,
    Report,
    ReportFile,
    ReportSlice,
    SessionStatus,
)
from tests.support import factories

NOW = datetime(2024, 3, 1, 2, tzinfo=UTC)
"""The morning after a leap day."""
TICK = timedelta(microseconds=1)


def days(n: float) -> timedelta:
    return timedelta(days=n)


def session(status: SessionStatus, age: timedelta, **more: Any) -> UUID:
    with transaction() as db:
        return factories.session(db, now=NOW - age, status=status, status_at=NOW - age, **more)


def rows(query: str, **given: Any) -> Sequence[Any]:
    with transaction() as db:
        return db.execute(text(query), given).all()


def undeleted() -> set[UUID]:
    return {id_ for (id_,) in rows("SELECT id FROM sessions WHERE deleted_at IS NULL")}


def test_old_abandoned_and_expired_sessions_are_soft_deleted(database: str) -> None:
    gone = {session("abandoned", days(30) + TICK), session("expired", days(200))}
    kept = {
        session("abandoned", days(30)),
        session("expired", days(29)),
        session("expired", days(200), legal_hold=True),
        session("completed", days(200)),
        session("cancelled", days(200)),
        session("no_show", days(200)),
    }
    before = {row.id: row for row in rows("SELECT * FROM sessions")}
    result = clean_up(now=NOW)
    assert undeleted() == kept
    assert (result.found, result.done, result.counts) == (2, 2, {"sessions": 2})
    assert {one["session_id"] for one in result.sample} == {str(id_) for id_ in gone}
    for row in rows("SELECT * FROM sessions"):
        expected = before[row.id]._asdict() | ({"deleted_at": NOW} if row.id in gone else {})
        assert row._asdict() == expected, "nothing else of them changes: reports go on counting"


def test_retention_is_a_setting(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.processes import forget_settings  # noqa: PLC0415

    id_ = session("expired", days(8))
    monkeypatch.setenv("GREENROOM_RETENTION_DAYS", "7")
    forget_settings()
    try:
        assert clean_up(now=NOW).counts == {"sessions": 1}
    finally:
        monkeypatch.undo()
        forget_settings()
    assert id_ not in undeleted()


def push(age: timedelta) -> int:
    query = """
        INSERT INTO push_events (destination, type, payload, created_at)
        VALUES ('/topic/sessions', 'session.late', '{}', :at) RETURNING id"""
    with transaction() as db:
        return int(db.execute(text(query), {"at": NOW - age}).scalar_one())


def test_pruning_removes_a_prefix_and_stores_pruned_through(database: str) -> None:
    old = [push(days(9)), push(days(8)), push(days(7) + TICK)]
    kept = [push(days(7)), push(days(8)), push(days(1))]
    result = clean_up(now=NOW, batch=2)
    assert result.counts == {"push_events": 3}
    left = [id_ for (id_,) in rows("SELECT id FROM push_events WHERE type = 'session.late' ORDER BY id")]
    assert left == kept, "an older one behind a younger stays: only a prefix goes"
    [(through,)] = rows("SELECT pruned_through FROM push_log")
    assert through == old[-1]
    clean_up(now=NOW)
    assert rows("SELECT pruned_through FROM push_log") == [(old[-1],)]


def test_an_empty_and_a_wholly_old_log(database: str) -> None:
    assert clean_up(now=NOW).found == 0
    newest = [push(days(9)) for _ in range(3)][-1]
    assert clean_up(now=NOW, batch=3).counts == {"push_events": 3}
    with transaction() as db:
        assert outbox.newest_id(db) >= newest, "a reader still knows where the log has come to"


def test_cleanup_of_files_bodies_keys_and_receipts(database: str) -> None:
    with transaction() as db:
        who = factories.people(db)
        reports = {}
        for name, expires in (("old", NOW), ("young", NOW + TICK), ("for ever", None)):
            reports[name] = uuid4()
            db.add(
                Report(id=reports[name], type="dashboard_csv", status="ready", parameters={}, request_hash=name,
                       expires_at=expires)
            )  # fmt: skip
            db.flush()
            db.add(ReportFile(report_id=reports[name], filename="a", content_type="text/csv", size=1, sha256=""))
            db.flush()
            db.add(ReportSlice(report_id=reports[name], ordinal=0, content=b"a"))
        mails = {}
        old, young = {"created_at": NOW - days(90) - TICK}, {"created_at": NOW - days(90)}
        for name, more in {
            "sent": {"status": "sent"} | old,
            "dead": {"status": "dead"} | old,
            "young": {"status": "sent"} | young,
            "queued": {"status": "queued"} | old,
            "sending": {"status": "sending", "lease_until": NOW} | old,
            "waits for people": {"status": "uncertain"} | old,
            "retries": {"status": "uncertain", "retry_at": NOW} | old,
        }.items():
            mails[name] = factories.email(db, now=NOW, **more)
            db.add(EmailAttachment(email_id=mails[name], ordinal=1, filename="a", content_type="a/b", content=b"a"))
        for key, age in (("old", timedelta(hours=24) + TICK), ("young", timedelta(hours=24))):
            db.add(IdempotencyKey(user_id=who.interviewer_id, route="r", key=key, body_hash="", created_at=NOW - age))
        for title, deleted in (("deleted", NOW), ("there", None)):
            row = Notification(
                user_id=who.interviewer_id, category="announcement", title=title, body="", not_before=NOW,
                deleted_at=deleted, status="cancelled" if deleted else "delivered",
            )  # fmt: skip
            db.add(row)
            db.flush()
            db.add(NotificationReceipt(user_id=who.interviewer_id, notification_id=row.id))
    expected = {"report_files": 1, "mails": 3, "idempotency_keys": 1, "receipts": 1}
    counted = clean_up(now=NOW, dry_run=True)
    assert (counted.counts, counted.done, counted.found) == (expected, 0, 6)
    assert len(rows("SELECT FROM report_files")) == 3, "a dry run changes nothing"

    assert clean_up(now=NOW, batch=1).counts == expected

    assert {id_ for (id_,) in rows("SELECT report_id FROM report_files")} == {reports["young"], reports["for ever"]}
    assert len(rows("SELECT FROM report_slices")) == 2
    assert len(rows("SELECT FROM reports")) == 3
    with_words = {id_ for (id_,) in rows("SELECT id FROM emails WHERE text_body IS NOT NULL AND html_body IS NOT NULL")}
    assert with_words == {mails[name] for name in ("young", "queued", "sending", "retries")}
    assert {id_ for (id_,) in rows("SELECT email_id FROM email_attachments")} == with_words
    assert len(rows("SELECT FROM emails WHERE subject = 'Good news'")) == 7, "that they were sent stays known"
    assert rows("SELECT key FROM idempotency_keys") == [("young",)]
    assert rows("SELECT title FROM notification_receipts JOIN notifications ON id = notification_id") == [("there",)]


def test_cleanup_pushes_one_summary(database: str) -> None:
    for age in (31, 32, 33):
        session("expired", days(age))
    assert clean_up(now=NOW, batch=1).done == 3
    clean_up(now=NOW + days(1))
    with transaction() as db:
        pushed = factories.pushed(db, ALL_SESSIONS)
    assert pushed == [{"cleaned_at": "2024-03-01T02:00:00Z", "removed": {"sessions": 3}}]


def test_locked_rows_are_skipped_until_the_next_run(database: str) -> None:
    mine, other = session("expired", days(31)), session("expired", days(32))
    ready, go = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction() as db:
            db.execute(text("SELECT FROM sessions WHERE id = :id FOR UPDATE"), {"id": mine})
            ready.set()
            assert go.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert ready.wait(20)
    result = clean_up(now=NOW)
    go.set()
    thread.join()
    assert (result.done, undeleted()) == (1, {mine})
    assert clean_up(now=NOW).done == 1
    assert undeleted() == set()
    assert {id_ for (id_,) in rows("SELECT id FROM sessions")} == {mine, other}


def test_concurrent_runs_do_each_effect_once(database: str) -> None:
    for _ in range(20):
        session("expired", days(31))
    for _ in range(50):
        push(days(9))
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(clean_up(now=NOW, batch=3).done)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    clean_up(now=NOW)
    assert sum(done) <= 70
    assert undeleted() == set()
    assert rows("SELECT count(*) FROM push_events WHERE type = 'session.late'") == [(0,)]
    assert len(rows("SELECT FROM push_events WHERE type = 'session.cleaned'")) == 1
