"""Claiming mails: a locked row is passed over and not waited for, and each moment is checked by the right clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.clock import utcnow
from core.db import transaction
from core.emails.queue import claims
from core.emails.queue.claims import LEASE
from tests.support import factories
from tests.support.mail_sending import mail, queued, statuses, time_passes

HOUR = timedelta(hours=1)


@contextmanager
def not_queued() -> Iterator[Session]:
    """A transaction in which a statement that waits a second for a lock fails."""
    with transaction() as db:
        db.execute(text("SET LOCAL lock_timeout = '1s'"))
        yield db


@contextmanager
def locked(database: str, *ids: UUID) -> Iterator[None]:
    """These mails are locked by another connection, as by a cancel that has not committed."""
    with psycopg.connect(database) as other:
        other.execute("SELECT FROM emails WHERE id = ANY(%s) FOR UPDATE", [list(ids)])
        yield
        other.rollback()


def claim(owner: str = "me", **given: Any) -> list[UUID]:
    with transaction() as db:
        return [one.id for one in claims.claim(db, owner=owner, **({"now": utcnow(), "limit": 100} | given)).mails]


# locked rows


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_claim_passes_over_a_locked_mail(database: str, place: int) -> None:
    ids = queued(3)
    free = [id_ for id_ in ids if id_ != ids[place]]
    with locked(database, ids[place]), not_queued() as db:
        batch = claims.claim(db, owner="me", now=utcnow(), limit=100)
        assert [one.id for one in batch.mails] == free
    assert sorted(statuses(free)) == ["sending", "sending"]
    assert mail(ids[place]).status == "queued"
    assert claim("later") == [ids[place]], "it was left as it was, for the next claim"


def test_a_claim_of_nothing_but_locked_mails_is_empty(database: str) -> None:
    ids = queued(2)
    with locked(database, *ids), not_queued() as db:
        batch = claims.claim(db, owner="me", now=utcnow(), limit=100)
        assert (batch.mails, batch.stopped, batch.more) == ([], [], False)
    assert statuses(ids) == ["queued", "queued"]


def test_a_locked_mail_takes_no_place_in_a_claim(database: str) -> None:
    """The limit counts what is taken: else a row that is locked for long would hold up those behind it."""
    ids = queued(3)
    with locked(database, ids[0]), not_queued() as db:
        assert [one.id for one in claims.claim(db, owner="me", now=utcnow(), limit=2).mails] == ids[1:]


def test_a_lease_is_renewed_past_a_locked_mail(database: str) -> None:
    held, free = queued(2)
    claim()
    time_passes()
    with locked(database, held), not_queued() as db:
        claims.renew(db, [(held, "me"), (free, "me")])
    until = {id_: mail(id_).lease_until for id_ in (held, free)}
    now = utcnow()
    assert until[held] < now < until[free]  # type: ignore[operator]


def test_leases_that_ran_out_are_taken_back_past_a_locked_mail(database: str) -> None:
    held, free = queued(2)
    claim()
    time_passes()
    with locked(database, held), not_queued() as db:
        assert claims.rescue(db, now=utcnow()) == []
    assert statuses([held, free]) == ["sending", "queued"]


def test_uncertain_mails_are_queued_again_past_a_locked_one(database: str) -> None:
    held, free = queued(2, status="uncertain", kind="invitation", retry_at=utcnow() - HOUR)
    with locked(database, held), not_queued() as db:
        claims.rescue(db, now=utcnow())
    assert statuses([held, free]) == ["uncertain", "queued"]


# whose lease


def test_a_lease_is_renewed_by_its_owner_alone(database: str) -> None:
    [id_] = queued()
    claim("first")
    before = mail(id_).lease_until
    with transaction() as db:
        claims.renew(db, [(id_, "second")])
    assert mail(id_).lease_until == before
    with transaction() as db:
        claims.renew(db, [(id_, "first")])
    after = mail(id_).lease_until
    assert before is not None and after is not None
    assert before < after <= utcnow() + LEASE


# by which clock


def test_what_is_due_goes_by_now(database: str) -> None:
    """A late run takes what was due at its own time."""
    now = utcnow()
    [before], [after] = queued(due_at=now - 2 * HOUR), queued(due_at=now - HOUR / 2)
    assert claim("late", now=now - HOUR) == [before]
    assert claim("in time", now=now) == [after]


def test_whether_a_mail_has_expired_goes_by_the_clock(database: str) -> None:
    """A claim whose ``now`` lies before the mail's end sends nothing that is over by then."""
    now = utcnow()
    [id_] = queued(due_at=now - 2 * HOUR, expires_at=now - HOUR / 2)
    assert claim(now=now - HOUR) == []
    assert mail(id_).status == "expired"


def test_a_retry_of_an_uncertain_mail_goes_by_now_and_a_lease_by_the_clock(database: str) -> None:
    now = utcnow()
    [retried] = queued(status="uncertain", kind="invitation", retry_at=now - HOUR / 2)
    [leased] = queued(due_at=now - 2 * HOUR)
    assert claim() == [leased]
    with transaction() as db:
        db.execute(text("UPDATE emails SET lease_until = :at WHERE id = :id"), {"at": now - HOUR / 2, "id": leased})
    with transaction() as db:
        claims.rescue(db, now=now - HOUR)
    assert statuses([retried, leased]) == ["uncertain", "queued"], "the lease is over, the retry not yet due"
    with transaction() as db:
        claims.rescue(db, now=now)
    assert mail(retried).status == "queued"


# when there is something to do


def test_the_next_due_is_the_first_of_turns_retries_and_ends_of_leases(database: str) -> None:
    now = utcnow()

    def soonest() -> datetime | None:
        with transaction() as db:
            return claims.next_due(db)

    assert soonest() is None
    [leased] = queued()
    claim()
    assert soonest() == mail(leased).lease_until
    with transaction() as db:
        db.execute(text("UPDATE emails SET lease_until = :at"), {"at": now + 4 * HOUR})
    queued(due_at=now + 3 * HOUR)
    assert soonest() == now + 3 * HOUR
    queued(status="uncertain", kind="invitation", retry_at=now + 2 * HOUR)
    assert soonest() == now + 2 * HOUR
    queued(status="uncertain", due_at=now)
    queued(status="dead", due_at=now)
    assert soonest() == now + 2 * HOUR, "what nobody will try again is not waited for"


def test_a_dry_run_counts_turns_and_retries_that_have_come(database: str) -> None:
    now = utcnow()
    turn, retry = queued(priority=5), queued(status="uncertain", kind="invitation", priority=1, retry_at=now - HOUR)
    queued(due_at=now + HOUR)
    queued(status="uncertain", kind="invitation", retry_at=now + HOUR)
    queued(status="uncertain")
    queued(status="sent")
    with transaction() as db:
        assert claims.count_due(db, now=utcnow(), sample=10) == (2, [*retry, *turn])
        assert claims.count_due(db, now=utcnow(), sample=1) == (2, retry)
        assert claims.count_due(db, now=now - 2 * HOUR, sample=10) == (0, [])


def test_an_attempt_is_counted_though_an_earlier_one_had_begun(database: str) -> None:
    [id_] = queued(attempts=1, data_started_at=utcnow() - HOUR)
    claim()
    assert mail(id_).data_started_at is None
    with transaction() as db:
        assert claims.acquire_permits(db, [(id_, "me")]) == {id_: "sending"}
    assert mail(id_).attempts == 2


# the session a mail is about


@pytest.mark.parametrize(
    ("kind", "status", "sent"),
    [
        ("invitation", "invited", True),
        ("invitation", "scheduled", True),
        ("invitation", "in_progress", True),
        ("invitation", "cancelled", False),
        ("invitation", "expired", False),
        ("reschedule", "scheduled", True),
        ("reschedule", "cancelled", False),
        ("reminder", "scheduled", True),
        ("reminder", "in_progress", False),
        ("reminder", "completed", False),
        ("reminder", "no_show", False),
        ("completion", "completed", True),
        ("cancellation", "cancelled", True),
    ],
)
def test_a_mail_is_sent_only_while_its_session_is_as_it_says(database: str, kind: str, status: Any, sent: bool) -> None:
    """Changed by hand, so that nothing has withdrawn the mail."""
    with transaction() as db:
        session_id = factories.session(db, now=utcnow(), status=status)
    [id_] = queued(kind=kind, session_id=session_id, schedule_version=1)
    assert claim() == ([id_] if sent else [])
    assert mail(id_).status == ("sending" if sent else "cancelled")


@pytest.mark.parametrize("kind", ["invitation", "reschedule", "reminder"])
@pytest.mark.parametrize(
    ("change", "sent"),
    [
        ("schedule_version = 2", False),
        ("deleted_at = now()", False),
        ("legal_hold = true", True),
    ],
)
def test_a_mail_of_an_older_schedule_or_a_deleted_session_is_not_sent(
    database: str, kind: str, change: str, sent: bool
) -> None:
    with transaction() as db:
        session_id = factories.session(db, now=utcnow())
        db.execute(text(f"UPDATE sessions SET {change}"))  # noqa: S608 - the test's own words
    [id_] = queued(kind=kind, session_id=session_id, schedule_version=1)
    assert claim() == ([id_] if sent else [])


@pytest.mark.parametrize("kind", ["invitation", "reschedule", "reminder"])
def test_a_mail_that_names_no_schedule_is_of_any(database: str, kind: str) -> None:
    with transaction() as db:
        session_id = factories.session(db, now=utcnow(), schedule_version=5)
    [id_] = queued(kind=kind, session_id=session_id)
    assert claim() == [id_]
