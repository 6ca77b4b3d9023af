"""The mail queue: once for a key, awake on commit, minding preferences and suppressions, by the thousand."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event, select, update

from core import emails, sessions
from core.clock import uuid7
from core.db import engine, transaction
from core.emails.draft import Recipient
from core.emails.queue.suppressions import suppress
from core.models import (
    Answer,
    Candidate,
    Email,
    EmailAttachment,
    InterviewSession,
    Report,
    ReportFile,
    ReportSlice,
)
from tests.support import factories as make
from tests.support.factories import People
from tests.support.processes import Database, eventually
from tests.support.session_mails import NOW, START, addresses, create, mails, move, of_kind, prefer


@pytest.fixture
def people(shared_database: Database) -> People:
    with transaction() as db:
        return make.people(db)


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is executed in the block."""
    seen: list[str] = []

    def note(*args: object) -> None:
        seen.append(str(args[2]))

    event.listen(engine(), "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine(), "before_cursor_execute", note)


def test_dispatchers_are_notified_on_commit(people: People) -> None:
    with psycopg.connect(engine().url.render_as_string(False).replace("+psycopg", ""), autocommit=True) as listening:
        listening.execute("LISTEN greenroom_work")

        def received() -> int:
            return len(list(listening.notifies(timeout=0.05)))

        to = Recipient("a@example.com")
        with transaction() as db:
            emails.queue_email(db, to, subject="S", text="T", now=NOW)
            assert received() == 0
            db.rollback()
        assert received() == 0
        with transaction() as db:
            for _ in range(3):
                emails.queue_email(db, to, subject="S", text="T", now=NOW)
        assert eventually(received, "a wake") == 1
        with transaction() as db:
            suppress(db, "a@example.com", reason="unknown", now=NOW)
            emails.queue_email(db, to, subject="S", text="T", now=NOW)
        assert received() == 0


def test_a_repeated_request_is_queued_once(people: People) -> None:
    session_id = create(people)
    with transaction() as db:
        first = emails.queue_interview_invitation(db, session_id, now=NOW)
        again = emails.queue_interview_invitation(db, session_id, now=NOW)
    assert first == again
    assert [queued.new for queued in first] == [False, False]
    with transaction() as db:
        reminded = [
            emails.queue_interview_reminder(
                db, session_id, to="candidate", offset_minutes=offset, send_by=START, now=NOW
            )
            for offset in (60, 60, 1440)
        ]
    assert len({queued.id for queued in reminded if queued}) == 2
    assert [mail.expires_at for mail in of_kind(session_id, "reminder")] == [START, START]


def test_concurrent_equal_requests_are_queued_once(people: People) -> None:
    with transaction() as db:
        session_id = make.session(db, now=NOW, people=people, status="completed")

    def thank(_: int) -> UUID:
        with transaction() as db:
            return emails.queue_interview_complete(db, [session_id], now=NOW)[0].id

    with ThreadPoolExecutor(8) as everybody:
        assert len(set(everybody.map(thank, range(8)))) == 1
    assert len(of_kind(session_id, "completion")) == 1


def test_a_reminder_without_recipient_is_refused(people: People) -> None:
    session_id = create(people, interviewer=False)
    with transaction() as db:
        arguments = {"to": "interviewer", "offset_minutes": 60, "send_by": START, "now": NOW}
        assert emails.queue_interview_reminder(db, session_id, **arguments) is None  # type: ignore[arg-type]


def test_preferences_stop_thanks_but_not_invitations(people: People) -> None:
    for category in ("completed", "scheduled", "invited", "cancelled"):
        prefer(people.ids["candidate"], category, "off")
    session_id = create(people, interviewer=False)
    assert [mail.status for mail in of_kind(session_id, "invitation")] == ["queued"]
    with transaction() as db:
        db.execute(update(InterviewSession).where(InterviewSession.id == session_id).values(status="cancelled"))
        session_id = make.session(db, now=NOW, people=people, status="in_progress")
    move(people, session_id, "completed", "interviewer")
    assert mails(session_id) == [("completion", "suppressed")]
    with transaction() as db:
        assert "turned" in str(db.scalar(select(Email.last_error).where(Email.session_id == session_id)))


def test_a_suppressed_address_in_any_case_of_letters(people: People) -> None:
    with transaction() as db:
        db.execute(update(Candidate).where(Candidate.id == people.candidate_id).values(email="Gone@Example.com"))
        suppress(db, "gone@EXAMPLE.com", reason="550 unknown", now=NOW)
        suppress(db, "GONE@example.com", reason="again", now=NOW)
    session_id = create(people, interviewer=False)
    with transaction() as db:
        [mail] = db.scalars(select(Email).where(Email.session_id == session_id)).all()
        assert (mail.status, mail.last_error) == ("suppressed", "550 unknown")


def test_a_pass_of_the_sweep_costs_as_many_statements_for_many_as_for_few(shared_database: Database) -> None:
    def closing(count: int) -> list[str]:
        with transaction() as db:
            some = []
            for _ in range(count):
                people = make.people(db, questions=1)
                since = NOW - timedelta(hours=3)
                some.append(make.session(db, now=NOW, status="interrupted", status_at=since, people=people))
                answer = Answer(session_id=some[-1], question_id=people.question_ids[0], source="ai", text="Yes.")
                answer.answered_at = since
                db.add(answer)
        with statements() as seen:
            swept = sessions.update_statuses(now=NOW)
        assert swept.counts["close"] == count
        with transaction() as db:
            queued = select(Email.kind).where(Email.session_id.in_(some), Email.status == "queued")
            assert db.scalars(queued).all() == ["completion"] * count
        return seen

    assert len(closing(40)) == len(closing(2))


def a_report(people: People, *, status: str = "ready", size: int = 3, **more: object) -> UUID:
    with transaction() as db:
        report_id = uuid7(NOW)
        row = {
            "id": report_id,
            "type": "dashboard_pdf",
            "status": status,
            "parameters": {"start": "2031-03-01T00:00:00+00:00", "end": "2031-03-02T00:00:00+00:00"},
            "request_hash": str(report_id),
            "requested_by": people.ids["recruiter"],
            "data_as_of": NOW,
        }
        db.add(Report(**row | more))
        db.flush()
        if status == "ready":
            file = {"filename": "dashboard.pdf", "content_type": "application/pdf", "sha256": "0"}
            db.add(ReportFile(report_id=report_id, size=size, **file))
            db.flush()
            db.add(ReportSlice(report_id=report_id, ordinal=0, content=b"x" * size))
    return report_id


def test_a_report_is_mailed_to_its_requester_once(people: People) -> None:
    report_id = a_report(people, email_to="boss@example.com")
    with transaction() as db:
        [first] = emails.queue_report_ready(db, report_id, now=NOW)
        assert emails.queue_report_ready(db, report_id, now=NOW) == [first._replace(new=False)]
        mail = db.get_one(Email, first.id)
        assert (mail.kind, mail.to_address, mail.category) == ("report", "boss@example.com", "report_ready")
        assert "boss" not in str(mail.idempotency_key)
        [file] = db.scalars(select(EmailAttachment).where(EmailAttachment.email_id == first.id))
        assert (file.filename, file.content) == ("dashboard.pdf", b"xxx")
        assert any(name.lower() == "list-unsubscribe" for name in mail.headers)
        assert emails.queue_report_ready(db, a_report(people), now=NOW) == []


def test_a_daily_report_goes_to_those_who_subscribed(people: People) -> None:
    report_id = a_report(people, dedupe_key="daily/2031-03-02/pdf", requested_by=None)
    prefer(people.ids["admin"], "daily_report", "instant")
    to = [Recipient(addresses(people)[role], role, user_id=people.ids[role]) for role in ("admin", "recruiter")]
    with transaction() as db:
        states = [queued.status for queued in emails.queue_report_ready(db, report_id, now=NOW, to=to)]
    assert states == ["queued", "suppressed"]


def test_a_report_that_failed_or_is_too_large_has_no_file(people: People) -> None:
    failed = a_report(people, status="failed", email_to="boss@example.com", last_error="The database was away.")
    large = a_report(people, size=emails.report_mails.MAX_ATTACHED_BYTES + 1, email_to="boss@example.com")
    for report_id in (failed, large):
        with transaction() as db:
            [queued] = emails.queue_report_ready(db, report_id, now=NOW)
            mail = db.get_one(Email, queued.id)
            assert ("The database was away." in (mail.text_body or "")) == (report_id == failed)
            assert (f"/reports/{report_id}\n" in (mail.text_body or "")) == (report_id == large)
            files = db.scalars(select(EmailAttachment).where(EmailAttachment.email_id == queued.id)).all()
            assert files == []
