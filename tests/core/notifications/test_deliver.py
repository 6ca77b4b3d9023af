"""What time does to notifications, and who takes them back."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from core import notifications
from core.clock import utcnow
from core.db import transaction
from core.errors import Conflict, Forbidden, NotFound
from core.notifications import NewNotification, deliver_due, next_due
from tests.support import factories as make
from tests.support.factories import People, pushed
from tests.support.notifications import inbox, new_notice, pushed_to, queue, send_notices, unread, write
from tests.support.processes import Database, eventually

HOUR = timedelta(hours=1)


@pytest.fixture
def people(shared_database: Database) -> People:
    """People of this test's own, who were added after all earlier notifications."""
    with transaction() as db:
        return make.people(db)


@pytest.fixture
def others(shared_database: Database) -> People:
    """More of them."""
    with transaction() as db:
        return make.people(db)


def test_pages_go_by_delivery_and_never_repeat(people: People) -> None:
    later = write(people, user_id=people.ids["candidate"], not_before=utcnow() + timedelta(milliseconds=1))
    for number in range(7):
        send_notices(new_notice(user_id=people.ids["candidate"])) if number % 2 else write(people, role="candidate")
    eventually(lambda: deliver_due(now=utcnow()).counts["delivered"], "the pending one is due")
    everything = inbox(people, "candidate")
    assert everything[0] == later
    assert len(everything) == 8
    seen, after = [], 0
    while True:
        with transaction() as db:
            items = notifications.page(db, "inbox", by=people.viewer("candidate"), after=after, limit=3)
        if not items:
            break
        seen += [item.id for item in items]
        after = items[-1].id
    assert seen == everything


def test_a_pending_notification_is_hidden_until_due(people: People) -> None:
    now = utcnow()
    id_ = write(people, now=now, user_id=people.ids["candidate"], not_before=now + HOUR)
    assert inbox(people, "candidate") == []
    assert pushed_to(people, "candidate") == []
    with transaction() as db:
        due = next_due(db)
        assert due is not None
        assert due <= now + HOUR
    assert deliver_due(now=now).counts["delivered"] == 0
    preview = deliver_due(now=now + 2 * HOUR, dry_run=True)
    assert (preview.found, preview.counts["delivered"], preview.done) == (1, 1, 0)
    assert preview.sample == [{"notification_id": id_, "title": "Hear, hear"}]
    assert inbox(people, "candidate") == []
    done = deliver_due(now=now + HOUR)
    assert (done.found, done.counts["delivered"], done.done, done.counts["expired"]) == (1, 1, 1, 0)
    assert done.sample == preview.sample
    assert pushed_to(people, "candidate") == [("created", id_), ("unread", 1)]
    assert deliver_due(now=now + HOUR).found == 0


def test_concurrent_passes_deliver_each_notification_once(people: People) -> None:
    now = utcnow()
    with transaction() as db:
        ids = [
            notifications.create(
                db,
                NewNotification(
                    title=f"{number}",
                    not_before=now - HOUR,
                    user_id=people.ids["candidate"] if number % 3 else None,
                ),
                by=people.viewer("admin"),
                now=now - 2 * HOUR,
            ).id
            for number in range(90)
        ]
    with ThreadPoolExecutor(6) as pool:
        passes = list(pool.map(lambda _: deliver_due(now=now, batch=7), range(6)))
    assert sum(one.counts["delivered"] for one in passes) == 90
    with transaction() as db:
        own = pushed(db, queue(people, "candidate"), "notification.created")
        broadcast = [
            data
            for data in pushed(db, "/topic/notifications", "notification.created")
            if data["notification_id"] in set(ids)
        ]
    assert sorted(data["notification_id"] for data in own + broadcast) == ids
    assert unread(people, "candidate") == [90]


def test_an_expired_notification_is_never_delivered(people: People) -> None:
    """The run is late: by its own time it would be due, by the clock it is over."""
    now = utcnow()
    id_ = write(
        people,
        now=now - 3 * HOUR,
        user_id=people.ids["candidate"],
        not_before=now - 2 * HOUR,
        expires_at=now - HOUR,
    )
    done = deliver_due(now=now - 90 * HOUR / 60)
    assert (done.counts["expired"], done.skipped, done.counts["delivered"]) == (1, 1, 0)
    assert inbox(people, "candidate") == []
    assert pushed_to(people, "candidate") == []
    with transaction() as db:
        assert db.scalar(text("SELECT status FROM notifications WHERE id = :id"), {"id": id_}) == "expired"


def test_expiry_removes_from_inbox_and_count(people: People) -> None:
    now = utcnow()
    soon = now + timedelta(milliseconds=200)
    own = write(people, now=now, user_id=people.ids["candidate"], expires_at=soon)
    to_all = write(people, now=now, expires_at=soon)
    kept = write(people, now=now, user_id=people.ids["candidate"])
    assert unread(people, "candidate", "admin") == [3, 1]
    eventually(lambda: deliver_due(now=utcnow()).counts["expired"], "the two expired")
    assert inbox(people, "candidate") == [kept]
    assert unread(people, "candidate", "admin") == [1, 0]
    assert pushed_to(people, "candidate")[-2:] == [("archived", [own]), ("unread", 1)]
    with transaction() as db:
        gone = pushed(db, "/topic/notifications", "notification.archived")[-1]
    assert (gone["notification_ids"], gone["role"], gone["user_id"]) == ([to_all], None, None)


def test_withdrawing_removes_from_every_inbox(people: People, others: People) -> None:
    now = utcnow()
    own = write(people, "recruiter", user_id=people.ids["candidate"])
    pending = write(people, "recruiter", now=now, user_id=people.ids["candidate"], not_before=now + HOUR)
    for by in (others.viewer("recruiter"), people.viewer("candidate")):
        with pytest.raises((NotFound, Forbidden)), transaction() as db:
            notifications.withdraw(db, own, by=by, now=now)
    for id_, by in ((own, people.viewer("recruiter")), (pending, others.viewer("admin"))):
        with transaction() as db:
            notifications.withdraw(db, id_, by=by, now=now)
        with pytest.raises(Conflict), transaction() as db:
            notifications.withdraw(db, id_, by=by, now=now)
    assert pushed_to(people, "candidate") == [("created", own), ("unread", 1), ("archived", [own]), ("unread", 0)]
    assert deliver_due(now=now + 2 * HOUR).counts["delivered"] == 0
    assert inbox(people, "candidate") == []


def test_system_notifications_cannot_be_withdrawn(people: People) -> None:
    send_notices(new_notice(user_id=people.ids["candidate"]))
    with pytest.raises(NotFound), transaction() as db:
        notifications.withdraw(db, inbox(people, "candidate")[0], by=people.viewer("admin"), now=utcnow())
