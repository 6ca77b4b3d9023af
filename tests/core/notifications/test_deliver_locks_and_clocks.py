"""Delivering and expiring notifications: a locked one is passed over, and each moment is checked by the right clock."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text

from core.clock import utcnow
from core.db import engine, transaction
from core.errors import Invalid
from core.notifications import deliver_due, next_due
from tests.support import factories
from tests.support.factories import People
from tests.support.notifications import write

HOUR = timedelta(hours=1)
FAR = datetime(2031, 5, 14, 12, tzinfo=UTC)


@pytest.fixture
def people(database: str) -> People:
    with transaction() as db:
        return factories.people(db)


def statuses() -> list[str]:
    with transaction() as db:
        return list(db.execute(text("SELECT status FROM notifications ORDER BY id")).scalars())


@contextmanager
def locked(database: str, notification_id: int) -> Iterator[None]:
    """Another connection holds the notification, as a pass that is at work; who waits a second for it fails."""
    with psycopg.connect(database) as other:
        setting = sql.SQL("ALTER DATABASE {} SET lock_timeout = '1s'").format(sql.Identifier(other.info.dbname))
        other.execute(setting)
        other.commit()
        engine().dispose()  # connections made from now on have it
        other.execute("SELECT FROM notifications WHERE id = %s FOR UPDATE", [notification_id])
        yield
        other.rollback()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_locked_one_is_left_to_who_has_it(database: str, people: People, place: int) -> None:
    now = utcnow()
    ids = [write(people, now=now - 2 * HOUR, not_before=now - HOUR, role="candidate") for _ in range(3)]
    with locked(database, ids[place]):
        assert deliver_due(now=now, batch=2).counts["delivered"] == 2
        assert statuses()[place] == "pending"
    assert deliver_due(now=now).counts["delivered"] == 1
    assert statuses() == ["delivered"] * 3


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_that_expires_and_is_locked_is_left_too(database: str, people: People, place: int) -> None:
    now = utcnow()
    ids = [write(people, now=now - 2 * HOUR, expires_at=now - HOUR, role="candidate") for _ in range(3)]
    with locked(database, ids[place]):
        assert deliver_due(now=now, batch=2).counts["expired"] == 2
        assert statuses()[place] == "delivered"
    assert deliver_due(now=now).counts["expired"] == 1
    assert statuses() == ["expired"] * 3


def test_what_is_due_goes_by_now(people: People) -> None:
    """A late run delivers what was due at its own time, and leaves the rest to the next."""
    now = utcnow()
    for ago in (2 * HOUR, HOUR / 2):
        write(people, now=now - 9 * HOUR, not_before=now - ago, role="candidate")
    assert deliver_due(now=now - HOUR).counts["delivered"] == 1
    assert statuses() == ["delivered", "pending"]
    assert deliver_due(now=now).counts["delivered"] == 1
    assert statuses() == ["delivered", "delivered"]


def test_a_dry_run_of_a_time_to_come_counts_what_will_be_over_by_then(people: People) -> None:
    write(people, now=FAR - 2 * HOUR, not_before=FAR - HOUR, expires_at=FAR, role="candidate")
    before, after = (deliver_due(now=at, dry_run=True) for at in (FAR - HOUR / 60, FAR))
    assert (before.counts["delivered"], before.counts["expired"], before.skipped) == (1, 0, 0)
    assert (after.counts["delivered"], after.counts["expired"], after.skipped) == (0, 1, 1)
    assert statuses() == ["pending"]


def test_the_next_due_is_the_first_that_is_delivered_or_expires(people: People) -> None:
    def soonest() -> datetime | None:
        with transaction() as db:
            return next_due(db)

    assert soonest() is None
    write(people, now=FAR, not_before=FAR + 3 * HOUR, role="candidate")
    assert soonest() == FAR + 3 * HOUR
    write(people, now=FAR, expires_at=FAR + 2 * HOUR, role="candidate")
    assert soonest() == FAR + 2 * HOUR
    write(people, now=FAR, not_before=FAR + HOUR, expires_at=FAR + 9 * HOUR, role="candidate")
    assert soonest() == FAR + HOUR


@pytest.mark.parametrize("expires", [FAR - HOUR, FAR, FAR + HOUR / 2, FAR + HOUR])
def test_one_that_is_over_before_anybody_can_read_it_is_refused(people: People, expires: datetime) -> None:
    with pytest.raises(Invalid, match="leaves no time") as error:
        write(people, now=FAR, not_before=FAR + HOUR, expires_at=expires)
    assert error.value.field == "expires_at"
    assert statuses() == []
