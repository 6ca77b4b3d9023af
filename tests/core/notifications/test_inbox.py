"""Notifications in core: who gets them, what is in the inbox, and what counts as unread."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import notifications
from core.clock import utcnow
from core.db import transaction
from core.errors import Forbidden, NotFound
from core.notifications import Notice, notify
from tests.support import factories as make
from tests.support.factories import People, pushed
from tests.support.notifications import inbox, new_notice, pushed_to, queue, receipts, send_notices, unread, write
from tests.support.processes import Database


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


def test_a_users_notification_is_pushed_before_the_new_count(people: People) -> None:
    assert send_notices(new_notice(user_id=people.ids["candidate"]), new_notice(user_id=people.ids["candidate"])) == 2
    ids = sorted(inbox(people, "candidate"))
    assert pushed_to(people, "candidate") == [("created", ids[0]), ("created", ids[1]), ("unread", 2)]
    with transaction() as db:
        assert pushed(db, queue(people, "candidate"), "notification.unread") == [
            {"user_id": people.ids["candidate"], "unread": 2}
        ]


def test_concurrent_notices_with_one_key_are_created_once(people: People) -> None:
    one = new_notice(user_id=people.ids["candidate"])
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: send_notices(one), range(24)))
    assert sum(made) == 1
    assert [kind for kind, _ in pushed_to(people, "candidate")] == ["created", "unread"]


def test_a_broadcast_has_receipts_only_once_read(people: People) -> None:
    id_ = write(people)
    assert receipts(id_) == []
    assert unread(people, *people.ids) == [1, 1, 1, 1]
    with transaction() as db:
        notifications.mark_read(db, id_, by=people.viewer("candidate"), now=utcnow())
    assert receipts(id_) == [(people.ids["candidate"], True, True, False)]
    assert unread(people, "admin", "candidate") == [1, 0]


def test_a_role_broadcast_is_only_for_that_role(people: People) -> None:
    id_ = write(people, role="interviewer")
    assert unread(people, "admin", "recruiter", "interviewer", "candidate") == [0, 0, 1, 0]
    assert inbox(people, "interviewer") == [id_]
    for role in ("admin", "recruiter", "candidate"):
        assert inbox(people, role) == []
        with pytest.raises(NotFound), transaction() as db:
            notifications.mark_read(db, id_, by=people.viewer(role), now=utcnow())
    assert receipts(id_) == []


def test_new_users_have_no_unread_older_broadcasts(shared_database: Database) -> None:
    with transaction() as db:
        first = make.people(db)
    write(first)
    with transaction() as db:
        second = make.people(db)
    assert unread(first, "candidate") == [1]
    assert unread(second, "candidate") == [0]
    assert inbox(second, "candidate") == []


def test_a_users_notification_is_hidden_from_others(people: People, others: People) -> None:
    send_notices(new_notice(user_id=people.ids["candidate"]))
    (id_,) = inbox(people, "candidate")
    for viewer in (people.viewer("admin"), others.viewer("candidate")):
        for act in (notifications.mark_read, notifications.mark_archived):
            with pytest.raises(NotFound), transaction() as db:
                act(db, id_, by=viewer, now=utcnow())
    assert receipts(id_) == [(people.ids["candidate"], False, False, False)]


def test_read_and_archived_are_counted_and_pushed_once(people: People) -> None:
    candidate = people.viewer("candidate")
    send_notices(*(new_notice(user_id=candidate.id) for _ in range(3)))
    third, second, first = inbox(people, "candidate")
    for act, id_ in (
        (notifications.mark_read, first),
        (notifications.mark_archived, second),
        (notifications.mark_archived, first),
    ):
        for _ in range(2):
            with transaction() as db:
                act(db, id_, by=candidate, now=utcnow())
    assert pushed_to(people, "candidate")[4:] == [
        ("read", [first]),
        ("unread", 2),
        ("archived", [second]),
        ("unread", 1),
        ("archived", [first]),
        ("unread", 1),
    ]
    assert inbox(people, "candidate") == [third]
    assert inbox(people, "candidate", "unread") == [third]
    assert inbox(people, "candidate", "archived") == [second, first]


def test_read_all_reads_own_and_broadcasts(people: People) -> None:
    candidate = people.viewer("candidate")
    send_notices(new_notice(user_id=candidate.id), new_notice(user_id=candidate.id))
    for given in ({}, {"role": "candidate"}, {"role": "recruiter"}):
        write(people, **given)
    ids = sorted(inbox(people, "candidate"))
    assert len(ids) == 4
    with transaction() as db:
        notifications.mark_archived(db, ids[0], by=candidate, now=utcnow())
        assert notifications.read_all(db, by=candidate, now=utcnow()) == 3
    with transaction() as db:
        assert notifications.read_all(db, by=candidate, now=utcnow()) == 0
    assert pushed_to(people, "candidate")[3:] == [("archived", [ids[0]]), ("read", ids[1:]), ("unread", 0)]
    assert unread(people, "candidate", "recruiter") == [0, 2]
    assert inbox(people, "candidate", "unread") == []
    assert sorted(inbox(people, "candidate")) == ids[1:]


def test_what_is_listed_is_seen_and_still_unread(people: People) -> None:
    candidate = people.viewer("candidate")
    send_notices(new_notice(user_id=candidate.id))
    broadcast = write(people)
    with transaction() as db:
        items = notifications.page(db, "inbox", by=candidate, after=0, limit=10)
        notifications.mark_seen(db, items, by=candidate, now=utcnow())
    assert receipts(broadcast) == [(candidate.id, True, False, False)]
    with transaction() as db:
        again = notifications.page(db, "inbox", by=candidate, after=0, limit=10)
    assert all(item.seen_at and not item.read_at for item in again)
    assert unread(people, "candidate") == [2]


def test_creating_twice_with_one_key_creates_once(people: People) -> None:
    key = str(uuid4())
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: write(people, user_id=people.ids["candidate"], dedupe_key=key), range(16)))
    assert len(ids) == 1
    assert pushed_to(people, "candidate") == [("created", ids.pop()), ("unread", 1)]
    # Nobody can take away a key of the system's own.
    assert send_notices(Notice("completed", "Title", "Body", dedupe_key=key, user_id=people.ids["candidate"])) == 1


def test_only_staff_create_notifications(people: People) -> None:
    for role in ("interviewer", "candidate"):
        with pytest.raises(Forbidden):
            write(people, role)
        with pytest.raises(Forbidden), transaction() as db:
            notifications.withdraw(db, 1, by=people.viewer(role), now=utcnow())


def test_a_later_count_is_never_older_than_one_before_it(people: People) -> None:
    """Tellers and readers at once, slow to commit: every count in the log is what the log before it adds up to."""
    candidate = people.viewer("candidate")
    send_notices(*(new_notice(user_id=candidate.id) for _ in range(40)))
    ids = inbox(people, "candidate")

    def pause(db: Session, number: int) -> None:
        db.execute(text("SELECT pg_sleep(:s)"), {"s": number % 7 / 500})

    def act(number: int) -> None:
        with transaction() as db:
            if number % 3 == 0:
                notify(db, [new_notice(user_id=candidate.id)], now=utcnow())
            elif number % 3 == 1:
                notifications.mark_read(db, ids[number % 40], by=candidate, now=utcnow())
            else:
                notifications.mark_archived(db, ids[(number * 7) % 40], by=candidate, now=utcnow())
            pause(db, number)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(act, range(150)))
    alive: set[int] = set()
    counted = 0
    for kind, what in pushed_to(people, "candidate"):
        if kind == "created":
            alive.add(what)
        elif kind == "unread":
            assert what == len(alive)
            counted += 1
        else:
            alive -= set(what)
    assert counted > 50
    assert unread(people, "candidate") == [len(alive)]


def test_a_rolled_back_savepoint_announces_no_count(people: People) -> None:
    class Undo(Exception):
        pass

    with transaction() as db:
        with pytest.raises(Undo), db.begin_nested():
            notify(db, [new_notice(user_id=people.ids["candidate"])], now=utcnow())
            raise Undo
        notify(db, [new_notice(user_id=people.ids["interviewer"])], now=utcnow())
    assert pushed_to(people, "candidate") == []
    assert [kind for kind, _ in pushed_to(people, "interviewer")] == ["created", "unread"]


def test_concurrent_reads_of_one_user_do_not_block(people: People) -> None:
    """Listing and reading all at once lock receipts in one order: no deadlock, and each is said to be read once."""
    candidate = people.viewer("candidate")
    tabs, rounds = 4, 12
    start = threading.Barrier(
        tabs, action=lambda: send_notices(*(new_notice(user_id=candidate.id) for _ in range(100)))
    )

    def tab(number: int) -> None:
        for _ in range(rounds):
            start.wait(20)
            with transaction() as db:
                if number % 2:
                    items = notifications.page(db, "inbox", by=candidate, after=0, limit=100)
                    notifications.mark_seen(db, items, by=candidate, now=utcnow())
                else:
                    notifications.read_all(db, by=candidate, now=utcnow())

    with ThreadPoolExecutor(tabs) as pool:
        list(pool.map(tab, range(tabs)))
    assert unread(people, "candidate") == [0]
    with transaction() as db:
        events = pushed(db, queue(people, "candidate"), "notification.read")
    ids = [id_ for data in events for id_ in data["notification_ids"]]
    assert len(ids) == len(set(ids)) == 100 * rounds
