"""The mails of a session's changes: to whom and of which kind, in the change's transaction, taken back with it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from core import emails, sessions
from core.db import transaction
from core.errors import DoubleBooked
from core.models import (
    Candidate,
    Email,
    EmailAttachment,
    Notification,
    User,
)
from core.sessions.create import INVITATION_DAYS
from core.sessions.snapshot import lock
from tests.support import factories as make
from tests.support.factories import People
from tests.support.processes import Database, eventually
from tests.support.session_mails import (
    NOW,
    START,
    addresses,
    another_interviewer,
    change,
    create,
    mails,
    move,
    of_kind,
    sent,
)


@pytest.fixture
def people(shared_database: Database) -> People:
    with transaction() as db:
        return make.people(db)


def test_scheduling_mails_both_sides(people: People) -> None:
    session_id, to = create(people), addresses(people)
    invited = of_kind(session_id, "invitation")
    assert {mail.to_address for mail in invited} == {to["candidate"], to["interviewer"]}
    for mail in invited:
        assert mail.message_id == f"<{mail.id}@localhost>"
        assert (mail.reply_to, mail.schedule_version, mail.on_demand) == (to["recruiter"], 1, False)
        assert mail.expires_at == START + timedelta(hours=1)
        assert mail.subject
        assert mail.text_body
        assert mail.html_body
    with transaction() as db:
        files = db.scalars(select(EmailAttachment).where(EmailAttachment.email_id.in_([m.id for m in invited]))).all()
        assert [file.content_type.split(";")[0] for file in files] == ["text/calendar"] * 2


def test_inviting_without_a_time_or_an_interviewer(people: People) -> None:
    session_id = create(people, start=None, interviewer=False)
    [mail] = of_kind(session_id, "invitation")
    assert mail.to_address == addresses(people)["candidate"]
    assert mail.expires_at == NOW + timedelta(days=INVITATION_DAYS)


def test_a_candidate_who_cannot_sign_in_gets_the_mail_only(people: People) -> None:
    with transaction() as db:
        db.execute(update(Candidate).where(Candidate.id == people.candidate_id).values(user_id=None))
    session_id = create(people, interviewer=False)
    assert len(of_kind(session_id, "invitation")) == 1
    with transaction() as db:
        assert db.scalars(select(Notification).where(Notification.session_id == session_id)).all() == []


def test_scheduling_cancels_an_unsent_invitation(people: People) -> None:
    session_id = create(people, start=None)
    change(people, session_id, scheduled_start=START)
    with transaction() as db:
        rows = db.execute(select(Email.status, Email.idempotency_key).where(Email.session_id == session_id)).all()
    assert sorted((status, key.rsplit("/", 1)[1]) for status, key in rows) == [
        ("cancelled", "invited"),
        ("cancelled", "invited"),
        ("queued", "scheduled"),
        ("queued", "scheduled"),
    ]


def test_rescheduling_replaces_what_was_not_sent(people: People) -> None:
    session_id = create(people)
    change(people, session_id, scheduled_start=START + timedelta(hours=3))
    with transaction() as db:
        rows = db.execute(
            select(Email.kind, Email.status, Email.schedule_version).where(Email.session_id == session_id)
        ).all()
    assert sorted(map(tuple, rows)) == [("invitation", "cancelled", 1)] * 2 + [("reschedule", "queued", 2)] * 2
    assert {mail.expires_at for mail in of_kind(session_id, "reschedule")} == {START + timedelta(hours=4)}
    change(people, session_id, scheduled_start=START + timedelta(hours=6))
    assert [mail.schedule_version for mail in of_kind(session_id, "reschedule")] == [3, 3]


@pytest.mark.parametrize(
    ("state", "becomes"),
    [
        ({"status": "sent", "data_started_at": NOW}, "sent"),
        ({"status": "sending", "data_started_at": NOW}, "sending"),
        ({"status": "sending", "lease_owner": "one", "lease_until": NOW}, "cancelled"),
        ({"status": "dead"}, "dead"),
        ({"status": "uncertain", "data_started_at": NOW}, "uncertain"),
        ({"status": "queued", "attempts": 3}, "cancelled"),
        ({"status": "uncertain", "data_started_at": NOW, "uncertain_at": NOW, "retry_at": NOW}, "uncertain"),
        ({"status": "queued", "uncertain_at": NOW}, "uncertain"),
    ],
)
@pytest.mark.parametrize("how", ["reschedule", "cancel"])
def test_which_mails_a_change_cancels(people: People, state: dict[str, object], becomes: str, how: str) -> None:
    session_id = create(people, interviewer=False)
    [mail] = of_kind(session_id, "invitation")
    with transaction() as db:
        db.execute(update(Email).where(Email.id == mail.id).values(**state))
    if how == "cancel":
        move(people, session_id, "cancelled")
    else:
        change(people, session_id, scheduled_start=START + timedelta(hours=3))
    with transaction() as db:
        row = db.get_one(Email, mail.id)
        assert row.status == becomes
        assert (row.lease_owner, row.retry_at) == (None, None)


def test_a_new_interviewer_is_invited_and_the_former_gets_a_removal_notice(people: People) -> None:
    session_id, other = create(people), another_interviewer()
    sent(session_id)
    change(people, session_id, interviewer_id=other)
    with transaction() as db:
        replaced = db.get_one(User, other).email
    to = addresses(people)
    assert [mail.to_address for mail in of_kind(session_id, "reschedule")] == [to["candidate"]]
    assert [mail.to_address for mail in of_kind(session_id, "invitation")] == [replaced]
    assert [mail.to_address for mail in of_kind(session_id, "cancellation")] == [to["interviewer"]]
    change(people, session_id, interviewer_id=people.interviewer_id)
    assert [mail.to_address for mail in of_kind(session_id, "invitation")] == [to["interviewer"]]
    assert sorted(m.to_address for m in of_kind(session_id, "cancellation")) == sorted([to["interviewer"], replaced])


def test_a_new_interviewer_while_scheduling(people: People) -> None:
    session_id, other = create(people, start=None), another_interviewer()
    sent(session_id)
    change(people, session_id, scheduled_start=START, interviewer_id=other)
    to = addresses(people)
    assert [mail.to_address for mail in of_kind(session_id, "cancellation")] == [to["interviewer"]]
    assert len(of_kind(session_id, "invitation")) == 2


def test_a_replaced_interviewer_who_returns_gets_the_cancellation(people: People) -> None:
    session_id, other = create(people, start=None), another_interviewer()
    sent(session_id)
    for given in ({"interviewer_id": other}, {"interviewer_id": people.interviewer_id, "scheduled_start": START}):
        change(people, session_id, **given)
        sent(session_id)
    move(people, session_id, "cancelled")
    to = addresses(people)
    recipients = {mail.to_address for mail in of_kind(session_id, "cancellation")}
    assert recipients == {to["candidate"], to["interviewer"]}


@pytest.mark.parametrize("already_sent", [True, False])
def test_a_new_interviewer_before_scheduling(people: People, already_sent: bool) -> None:
    """The candidate's invitation says nothing of the interviewer: it is only sent again if it was taken back."""
    session_id, other = create(people, start=None), another_interviewer()
    if already_sent:
        sent(session_id)
    change(people, session_id, interviewer_id=other)
    to = addresses(people)
    with transaction() as db:
        invited = {db.get_one(User, other).email} | (set() if already_sent else {to["candidate"]})
    assert {mail.to_address for mail in of_kind(session_id, "invitation")} == invited
    assert [mail.to_address for mail in of_kind(session_id, "cancellation")] == [to["interviewer"]]
    assert of_kind(session_id, "reschedule") == []


def test_cancelling(people: People) -> None:
    session_id, to = create(people), addresses(people)
    sent(session_id)
    move(people, session_id, "cancelled", reason="The position is filled")
    gone = of_kind(session_id, "cancellation")
    assert {mail.to_address for mail in gone} == {to["candidate"], to["interviewer"]}
    assert all("The position is filled" in (mail.text_body or "") for mail in gone)


@pytest.mark.parametrize("status", ["in_progress", "no_show"])
def test_moves_that_mail_nobody(people: People, status: str) -> None:
    session_id = create(people)
    before = mails(session_id)
    move(people, session_id, status, "interviewer")
    assert mails(session_id) == before


def test_completing_thanks_the_candidate(people: People) -> None:
    with transaction() as db:
        session_id = make.session(db, now=NOW, people=people, status="in_progress")
    move(people, session_id, "completed", "interviewer")
    [mail] = of_kind(session_id, "completion")
    assert (mail.to_address, mail.category, mail.expires_at) == (addresses(people)["candidate"], "completed", None)


def test_a_change_that_fails_mails_nobody(people: People) -> None:
    create(people)
    with transaction() as db:
        rival = make.people(db)
    session_id = create(rival, start=None, interviewer=False)
    with pytest.raises(DoubleBooked):
        change(rival, session_id, scheduled_start=START, interviewer_id=people.interviewer_id)
    assert mails(session_id) == [("invitation", "queued")]


def test_an_invalid_address_does_not_stop_the_session(people: People) -> None:
    with transaction() as db:
        db.execute(update(Candidate).where(Candidate.id == people.candidate_id).values(email="x@-.-"))
    session_id = create(people)
    assert mails(session_id) == [("invitation", "dead"), ("invitation", "queued")]
    with transaction() as db:
        [dead] = db.scalars(select(Email).where(Email.session_id == session_id, Email.status == "dead"))
        recipients = select(Notification).where(Notification.data["email_id"].astext == str(dead.id))
        [notification] = db.scalars(recipients)
        assert (notification.role, notification.category) == ("admin", "mail_dead")


WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
Fence = Callable[[Session], int]


@pytest.mark.parametrize("first", ["cancel", "data"])
def test_cancelling_during_the_last_statement_before_data(people: People, first: str) -> None:
    """Whichever commits first decides; the other waits for it and sees what it did."""
    session_id = create(people, interviewer=False)
    [mail] = of_kind(session_id, "invitation")
    with transaction() as db:
        db.execute(update(Email).where(Email.id == mail.id).values(status="sending", lease_owner="me"))

    def data(db: Session) -> int:
        fence = text(
            "UPDATE emails SET data_started_at = clock_timestamp()"
            " WHERE id = :id AND lease_owner = 'me' AND status = 'sending'"
        )
        return int(db.execute(fence, {"id": mail.id}).rowcount)  # type: ignore[attr-defined]

    def cancel(db: Session) -> int:
        wanted = sessions.NewStatus(status="cancelled")
        sessions.move(db, session_id, wanted, by=people.viewer("recruiter"), now=NOW)
        return 0

    def apart(work: Fence) -> int:
        with transaction() as db:
            return work(db)

    steps = {"cancel": cancel, "data": data}
    [second] = steps.keys() - {first}
    with ThreadPoolExecutor(1) as other:
        with transaction() as db:
            steps[first](db)
            waiting = other.submit(apart, steps[second])
            eventually(lambda: db.scalar(WAITING), "the other waits")
        result = waiting.result(20)
    with transaction() as db:
        row = db.get_one(Email, mail.id)
        assert row.status == ("cancelled" if first == "cancel" else "sending")
        assert (row.data_started_at is None) == (first == "cancel")
        if first == "cancel":
            assert result == 0


def test_locks_are_taken_in_one_order(people: People) -> None:
    """The session before its mails: who holds the session can be waited for by everybody, and waits for nobody."""
    session_id = create(people)
    [mail, _] = of_kind(session_id, "invitation")
    with ThreadPoolExecutor(1) as other:
        with transaction() as db:
            lock(db, session_id)

            def take_back() -> None:
                with transaction() as theirs:
                    emails.cancel(theirs, mail.id, by=people.viewer("recruiter"))

            waiting = other.submit(take_back)
            eventually(lambda: db.scalar(WAITING), "the other waits")
            # Had the other locked the mail first, this would be a deadlock.
            db.execute(update(Email).where(Email.id == mail.id).values(priority=9))
        waiting.result(20)
    with transaction() as db:
        assert db.get_one(Email, mail.id).status == "cancelled"
