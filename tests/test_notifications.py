"""Notifications in core: who gets them, what counts as unread, what time and preferences do to them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import notifications, preferences
from core.clock import utcnow
from core.db import transaction
from core.errors import Conflict, Forbidden, Invalid, NotFound
from core.models import Role
from core.notifications import NewNotification, Told, deliver_due, next_due, tell
from core.preferences import CATEGORIES, Wish
from tests import factories as make
from tests.factories import People, pushed
from tests.parts import Database, eventually

HOUR = timedelta(hours=1)


@pytest.fixture
def people(shared_database: Database) -> People:
    """People of this test's own, who came after whatever was told before."""
    with transaction() as db:
        return make.people(db)


@pytest.fixture
def others(shared_database: Database) -> People:
    """More of them."""
    with transaction() as db:
        return make.people(db)


def say(category: str = "completed", **more: Any) -> Told:
    return Told(category=category, title="Title", body="Body", dedupe_key=str(uuid4()), **more)


def write(people: People, by: str = "admin", *, now: datetime | None = None, **given: Any) -> int:
    """A notification that somebody wrote; gives its id."""
    with transaction() as db:
        new = NewNotification(title="Hear, hear", **given)
        return notifications.create(db, new, by=people.viewer(by), now=now or utcnow()).id


def told(*told: Told) -> int:
    with transaction() as db:
        return tell(db, told, now=utcnow())


def queue(people: People, role: str) -> str:
    return f"/user/{people.ids[role]}/queue/notifications"


def unread(people: People, *roles: str) -> list[int]:
    with transaction() as db:
        return [notifications.count(db, people.ids[role]) for role in roles]


def inbox(people: People, role: str, box: notifications.Box = "inbox") -> list[int]:
    with transaction() as db:
        return [item.id for item in notifications.page(db, box, by=people.viewer(role), after=0, limit=200)]


def heard(people: People, role: str) -> list[Any]:
    """What came to the user's queue, shortened to kind and what matters."""
    with transaction() as db:
        rows = db.execute(
            text("SELECT type, payload FROM push_events WHERE destination = :d ORDER BY id"), {"d": queue(people, role)}
        )
        short: dict[str, Callable[[dict[str, Any]], Any]] = {
            "notification.created": lambda data: data["notification_id"],
            "notification.read": lambda data: data["notification_ids"],
            "notification.archived": lambda data: data["notification_ids"],
            "notification.unread": lambda data: data["unread"],
        }
        return [(kind.removeprefix("notification."), short[kind](data)) for kind, data in rows]


def test_ones_own_is_announced_with_the_new_count_last(people: People) -> None:
    assert told(say(user_id=people.ids["candidate"]), say(user_id=people.ids["candidate"])) == 2
    ids = sorted(inbox(people, "candidate"))
    assert heard(people, "candidate") == [("created", ids[0]), ("created", ids[1]), ("unread", 2)]
    with transaction() as db:
        assert pushed(db, queue(people, "candidate"), "notification.unread") == [
            {"user_id": people.ids["candidate"], "unread": 2}
        ]


def test_the_same_key_is_told_once_however_often_at_once(people: People) -> None:
    one = say(user_id=people.ids["candidate"])
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: told(one), range(24)))
    assert sum(made) == 1
    assert [kind for kind, _ in heard(people, "candidate")] == ["created", "unread"]


def receipts(notification_id: int) -> list[tuple[int, bool, bool, bool]]:
    """Who has a receipt of it, and whether they saw, read and archived it."""
    with transaction() as db:
        rows = db.execute(
            text("""
                SELECT user_id, seen_at IS NOT NULL, read_at IS NOT NULL, archived_at IS NOT NULL
                FROM notification_receipts WHERE notification_id = :id ORDER BY user_id
            """),
            {"id": notification_id},
        )
        return [tuple(row) for row in rows]


def test_a_broadcast_has_no_rows_of_its_readers_until_they_touch_it(people: People) -> None:
    id_ = write(people)
    assert receipts(id_) == []
    assert unread(people, *people.ids) == [1, 1, 1, 1]
    with transaction() as db:
        notifications.mark_read(db, id_, by=people.viewer("candidate"), now=utcnow())
    assert receipts(id_) == [(people.ids["candidate"], True, True, False)]
    assert unread(people, "admin", "candidate") == [1, 0]


def test_a_roles_broadcast_is_that_roles(people: People) -> None:
    id_ = write(people, role="interviewer")
    assert unread(people, "admin", "recruiter", "interviewer", "candidate") == [0, 0, 1, 0]
    assert inbox(people, "interviewer") == [id_]
    for role in ("admin", "recruiter", "candidate"):
        assert inbox(people, role) == []
        with pytest.raises(NotFound), transaction() as db:
            notifications.mark_read(db, id_, by=people.viewer(role), now=utcnow())
    assert receipts(id_) == []


def test_nobody_has_missed_what_was_told_before_they_came(shared_database: Database) -> None:
    with transaction() as db:
        first = make.people(db)
    write(first)
    with transaction() as db:
        second = make.people(db)
    assert unread(first, "candidate") == [1]
    assert unread(second, "candidate") == [0]
    assert inbox(second, "candidate") == []


def test_ones_own_is_nobody_elses(people: People, others: People) -> None:
    told(say(user_id=people.ids["candidate"]))
    (id_,) = inbox(people, "candidate")
    for viewer in (people.viewer("admin"), others.viewer("candidate")):
        for act in (notifications.mark_read, notifications.mark_archived):
            with pytest.raises(NotFound), transaction() as db:
                act(db, id_, by=viewer, now=utcnow())
    assert receipts(id_) == [(people.ids["candidate"], False, False, False)]


def test_read_and_archived_count_once_and_say_so_once(people: People) -> None:
    candidate = people.viewer("candidate")
    told(*(say(user_id=candidate.id) for _ in range(3)))
    third, second, first = inbox(people, "candidate")
    for act, id_ in (
        (notifications.mark_read, first),
        (notifications.mark_archived, second),
        (notifications.mark_archived, first),
    ):
        for _ in range(2):
            with transaction() as db:
                act(db, id_, by=candidate, now=utcnow())
    assert heard(people, "candidate")[4:] == [
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


def test_read_all_reads_own_and_broadcasts_and_names_them(people: People) -> None:
    candidate = people.viewer("candidate")
    told(say(user_id=candidate.id), say(user_id=candidate.id))
    for given in ({}, {"role": "candidate"}, {"role": "recruiter"}):
        write(people, **given)
    ids = sorted(inbox(people, "candidate"))
    assert len(ids) == 4
    with transaction() as db:
        notifications.mark_archived(db, ids[0], by=candidate, now=utcnow())
        assert notifications.read_all(db, by=candidate, now=utcnow()) == 3
    with transaction() as db:
        assert notifications.read_all(db, by=candidate, now=utcnow()) == 0
    assert heard(people, "candidate")[3:] == [("archived", [ids[0]]), ("read", ids[1:]), ("unread", 0)]
    assert unread(people, "candidate", "recruiter") == [0, 2]
    assert inbox(people, "candidate", "unread") == []
    assert sorted(inbox(people, "candidate")) == ids[1:]


def test_what_is_listed_is_seen_and_still_unread(people: People) -> None:
    candidate = people.viewer("candidate")
    told(say(user_id=candidate.id))
    broadcast = write(people)
    with transaction() as db:
        items = notifications.page(db, "inbox", by=candidate, after=0, limit=10)
        notifications.mark_seen(db, items, by=candidate, now=utcnow())
    assert receipts(broadcast) == [(candidate.id, True, False, False)]
    with transaction() as db:
        again = notifications.page(db, "inbox", by=candidate, after=0, limit=10)
    assert all(item.seen_at and not item.read_at for item in again)
    assert unread(people, "candidate") == [2]


def test_pages_go_by_delivery_and_never_repeat(people: People) -> None:
    later = write(people, user_id=people.ids["candidate"], not_before=utcnow() + timedelta(milliseconds=1))
    for number in range(7):
        told(say(user_id=people.ids["candidate"])) if number % 2 else write(people, role="candidate")
    eventually(lambda: deliver_due(now=utcnow()).delivered, "the pending one is due")
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


def test_a_pending_one_is_nowhere_until_it_is_due(people: People) -> None:
    now = utcnow()
    id_ = write(people, now=now, user_id=people.ids["candidate"], not_before=now + HOUR)
    assert inbox(people, "candidate") == []
    assert heard(people, "candidate") == []
    with transaction() as db:
        due = next_due(db)
        assert due is not None
        assert due <= now + HOUR
    assert deliver_due(now=now).delivered == 0
    preview = deliver_due(now=now + 2 * HOUR, dry_run=True)
    assert (preview.found, preview.delivered, preview.done) == (1, 1, 0)
    assert preview.sample == [{"notification_id": id_, "title": "Hear, hear"}]
    assert inbox(people, "candidate") == []
    done = deliver_due(now=now + HOUR)
    assert (done.found, done.delivered, done.done, done.expired) == (1, 1, 1, 0)
    assert done.sample == preview.sample
    assert heard(people, "candidate") == [("created", id_), ("unread", 1)]
    assert deliver_due(now=now + HOUR).found == 0


def test_many_due_at_once_are_each_delivered_once_by_many_passes_at_once(people: People) -> None:
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
    assert sum(one.delivered for one in passes) == 90
    with transaction() as db:
        own = pushed(db, queue(people, "candidate"), "notification.created")
        broadcast = [
            data
            for data in pushed(db, "/topic/notifications", "notification.created")
            if data["notification_id"] in set(ids)
        ]
    assert sorted(data["notification_id"] for data in own + broadcast) == ids
    assert unread(people, "candidate") == [90]


def test_what_is_over_before_it_is_delivered_never_is(people: People) -> None:
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
    assert (done.expired, done.skipped, done.delivered) == (1, 1, 0)
    assert inbox(people, "candidate") == []
    assert heard(people, "candidate") == []
    with transaction() as db:
        assert db.scalar(text("SELECT status FROM notifications WHERE id = :id"), {"id": id_}) == "expired"


def test_what_expires_leaves_the_inbox_and_the_count(people: People) -> None:
    now = utcnow()
    soon = now + timedelta(milliseconds=200)
    own = write(people, now=now, user_id=people.ids["candidate"], expires_at=soon)
    to_all = write(people, now=now, expires_at=soon)
    kept = write(people, now=now, user_id=people.ids["candidate"])
    assert unread(people, "candidate", "admin") == [3, 1]
    eventually(lambda: deliver_due(now=utcnow()).expired, "the two expired")
    assert inbox(people, "candidate") == [kept]
    assert unread(people, "candidate", "admin") == [1, 0]
    assert heard(people, "candidate")[-2:] == [("archived", [own]), ("unread", 1)]
    with transaction() as db:
        gone = pushed(db, "/topic/notifications", "notification.archived")[-1]
    assert (gone["notification_ids"], gone["role"], gone["user_id"]) == ([to_all], None, None)


def test_what_is_taken_back_leaves_every_inbox(people: People, others: People) -> None:
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
    assert heard(people, "candidate") == [("created", own), ("unread", 1), ("archived", [own]), ("unread", 0)]
    assert deliver_due(now=now + 2 * HOUR).delivered == 0
    assert inbox(people, "candidate") == []


def test_what_the_house_told_nobody_takes_back(people: People) -> None:
    told(say(user_id=people.ids["candidate"]))
    with pytest.raises(NotFound), transaction() as db:
        notifications.withdraw(db, inbox(people, "candidate")[0], by=people.viewer("admin"), now=utcnow())


def test_writing_twice_with_one_key_writes_once(people: People) -> None:
    key = str(uuid4())
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: write(people, user_id=people.ids["candidate"], dedupe_key=key), range(16)))
    assert len(ids) == 1
    assert heard(people, "candidate") == [("created", ids.pop()), ("unread", 1)]
    # Nobody can take away a key of the house's own.
    assert told(Told("completed", "Title", "Body", dedupe_key=key, user_id=people.ids["candidate"])) == 1


def test_only_staff_write(people: People) -> None:
    for role in ("interviewer", "candidate"):
        with pytest.raises(Forbidden):
            write(people, role)
        with pytest.raises(Forbidden), transaction() as db:
            notifications.withdraw(db, 1, by=people.viewer(role), now=utcnow())


# -- preferences --------------------------------------------------------------------------------------------------


def wish(people: People, role: str, category: str, **channels: str) -> None:
    with transaction() as db:
        given = [Wish(category=category, **channels)]  # type: ignore[arg-type]
        notifications.change_preferences(db, given, by=people.viewer(role))


def test_off_in_the_app_is_neither_counted_nor_pushed_nor_listed(people: People) -> None:
    wish(people, "candidate", "completed", in_app="off")
    assert told(say(user_id=people.ids["candidate"]), say("scheduled", user_id=people.ids["candidate"])) == 2
    (kept,) = inbox(people, "candidate")
    assert heard(people, "candidate") == [("unread", 0), ("created", kept), ("unread", 1)]
    wish(people, "candidate", "completed", in_app="instant")
    assert unread(people, "candidate") == [1]
    told(say(user_id=people.ids["candidate"]))
    assert unread(people, "candidate") == [2]


def test_a_broadcast_turned_off_leaves_that_users_inbox_and_count_alone(people: People, others: People) -> None:
    with transaction() as db:
        tell(db, [say("no_show", role="recruiter"), say("cancelled", role="recruiter")], now=utcnow())
    assert unread(people, "recruiter") == [2]
    wish(people, "recruiter", "no_show", in_app="off")
    assert heard(people, "recruiter") == [("unread", 1)]
    assert len(inbox(people, "recruiter")) == 1
    wish(people, "recruiter", "cancelled", in_app="off")
    assert unread(people, "recruiter", "admin") == [0, 0]
    assert unread(others, "recruiter") == [2]


@pytest.mark.parametrize("category", [name for name, category in CATEGORIES.items() if category.own_time])
@pytest.mark.parametrize("role", ["interviewer", "candidate"])
def test_ones_own_interview_time_cannot_be_turned_off(people: People, role: Role, category: str) -> None:
    for channel in CATEGORIES[category].channels:
        with pytest.raises(Invalid, match="own interview time"):
            wish(people, role, category, **{channel: "off"})
        # Whatever a table of wishes may hold from when they had another role.
        with transaction() as db:
            db.execute(
                text("INSERT INTO notification_preferences VALUES (:u, :c, :ch, 'off')"),
                {"u": people.ids[role], "c": category, "ch": channel},
            )
            assert preferences.wants(db, people.ids[role], category, channel)
    told(say(category, user_id=people.ids[role]))
    assert unread(people, role) == [1]


def test_what_everybody_may_turn_off_is_all_the_rest(people: People) -> None:
    """DOMAIN, "Who is told what": each category is for the roles of its row, and only their own time is fixed."""
    expected = {
        "admin": {"report_ready", "report_failed", "daily_report", "job_late", "job_failed", "mail", "announcement"},
        "recruiter": {
            "rescheduled", "cancelled", "no_show", "abandoned", "expired", "completed", "feedback_overdue",
            "report_ready", "report_failed", "daily_report", "announcement",
        },
        "interviewer": {"no_show", "abandoned", "expired", "completed", "feedback_overdue", "announcement"},
        "candidate": {"completed", "announcement"},
    }  # fmt: skip
    fixed = {"invited", "scheduled", "rescheduled", "cancelled", "reminder", "late"}
    for role, categories in expected.items():
        with transaction() as db:
            shown = {one.category: one for one in preferences.of(db, people.viewer(role))}
        assert {name for name, one in shown.items() if one.may_turn_off} == categories
        always = {name for name, one in shown.items() if not one.may_turn_off}
        assert always == (fixed if role in ("interviewer", "candidate") else set())


def test_daily_reports_come_by_mail_to_who_asked(people: People) -> None:
    def wants(role: str) -> bool:
        with transaction() as db:
            return preferences.wants(db, people.ids[role], "daily_report", "email")

    assert not wants("recruiter")
    wish(people, "recruiter", "daily_report", email="instant")
    assert wants("recruiter")
    wish(people, "recruiter", "daily_report", email="off")
    assert not wants("recruiter")
    with pytest.raises(Invalid, match="not for the role"):
        wish(people, "candidate", "daily_report", email="instant")
    with pytest.raises(Invalid, match="never comes by email"):
        wish(people, "recruiter", "no_show", email="instant")


def test_many_wishes_are_asked_for_in_one_query(people: People, others: People) -> None:
    wish(people, "candidate", "completed", email="off")
    pairs = [
        (who.ids["candidate"], category)
        for who in (people, others)
        for category in ("completed", "announcement", "daily_report", "reminder", "of their own making")
    ]
    with transaction() as db:
        assert preferences.unwanted(db, pairs, "email") == {
            (people.ids["candidate"], "completed"),
            (people.ids["candidate"], "daily_report"),
            (others.ids["candidate"], "daily_report"),
        }
        assert preferences.unwanted(db, pairs, "in_app") == set()


# -- counts under concurrency -----------------------------------------------------------------------------------------


def test_a_later_count_is_never_older_than_one_before_it(people: People) -> None:
    """Tellers and readers at once, slow to commit: every count in the log is what the log before it adds up to."""
    candidate = people.viewer("candidate")
    told(*(say(user_id=candidate.id) for _ in range(40)))
    ids = inbox(people, "candidate")

    def pause(db: Session, number: int) -> None:
        db.execute(text("SELECT pg_sleep(:s)"), {"s": number % 7 / 500})

    def act(number: int) -> None:
        with transaction() as db:
            if number % 3 == 0:
                tell(db, [say(user_id=candidate.id)], now=utcnow())
            elif number % 3 == 1:
                notifications.mark_read(db, ids[number % 40], by=candidate, now=utcnow())
            else:
                notifications.mark_archived(db, ids[(number * 7) % 40], by=candidate, now=utcnow())
            pause(db, number)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(act, range(150)))
    alive: set[int] = set()
    counted = 0
    for kind, what in heard(people, "candidate"):
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
            tell(db, [say(user_id=people.ids["candidate"])], now=utcnow())
            raise Undo
        tell(db, [say(user_id=people.ids["interviewer"])], now=utcnow())
    assert heard(people, "candidate") == []
    assert [kind for kind, _ in heard(people, "interviewer")] == ["created", "unread"]


def test_two_tabs_of_one_user_never_wait_for_each_other(people: People) -> None:
    """Listing and reading all at once lock receipts in one order: no deadlock, and each is said to be read once."""
    candidate = people.viewer("candidate")
    tabs, rounds = 4, 12
    start = threading.Barrier(tabs, action=lambda: told(*(say(user_id=candidate.id) for _ in range(100))))

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
    said = [id_ for data in events for id_ in data["notification_ids"]]
    assert len(said) == len(set(said)) == 100 * rounds
