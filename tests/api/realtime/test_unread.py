"""Counts after broadcasts, made in one process beside the log: whatever comes between, none goes back in time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from api.realtime.hub import Hub, Subscription
from api.realtime.relay import Position
from api.realtime.stomp import SERVER, Parser
from api.realtime.unread import UnreadCounter
from core import outbox
from core.clock import utcnow
from core.db import transaction
from core.events import BROADCASTS, user_queue
from core.models import Role
from core.notifications import Notice, notify
from tests.support import factories as make
from tests.support.factories import People
from tests.support.stomp_client import until


@dataclass(eq=False)
class Socket:
    """Keeps what it is given."""

    frames: list[bytes] = field(default_factory=list)

    def deliver(self, frame: bytes) -> None:
        self.frames.append(frame)

    def account_changed(self, token_version: int, role: Role) -> None:
        raise AssertionError("nobody's account changed")

    def counts(self) -> list[tuple[int, int]]:
        """The counts that came, each with its message's id."""
        bodies = [json.loads(one.body) for one in Parser(0, commands=SERVER).feed(b"".join(self.frames))]
        return [(body["id"], body["data"]["unread"]) for body in bodies if body["type"] == "notification.unread"]


class WatchedHub(Hub):
    """A hub that remembers what it was asked to reach."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for: list[int] = []

    async def reached(self, id_: int) -> None:
        self.waited_for.append(id_)
        await super().reached(id_)


@dataclass
class Stage:
    """A hub that is fed by hand, with one of the four users at each of four sockets."""

    hub: WatchedHub
    people: People
    sockets: dict[str, Socket]

    def route(self, how_many: int | None = None) -> None:
        """Route the next rows of the log: so many, or all there are."""
        with transaction() as db:
            self.hub.route(outbox.read_after(db, self.hub.cursor or 0, limit=how_many or 1000))

    async def come(self, role: str, *counts: int) -> None:
        """Wait until these counts came to the socket, and no others."""
        socket = self.sockets[role]
        await until(lambda: len(socket.counts()) >= len(counts), f"{counts} came to the {role}")
        assert [number for _, number in socket.counts()] == list(counts)


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    with transaction() as db:
        people = make.people(db)
    hub = WatchedHub()
    hub.move_to(Position(0))
    sockets = {}
    for role, user_id in people.ids.items():
        sockets[role] = Socket()
        for destination in (user_queue(user_id, "notifications"), BROADCASTS):
            hub.add(Subscription(sockets[role], destination, destination, destination, role, "1.2"))  # type: ignore[arg-type]
    counting = asyncio.create_task(UnreadCounter(hub).run())
    yield Stage(hub, people, sockets)
    counting.cancel()


def notify_in_transaction(**to: Any) -> None:
    with transaction() as db:
        notify(db, [Notice("completed", "Title", "Body", str(uuid4()), **to)], now=utcnow())


def is_blocked_by_lock(url: str) -> bool:
    with psycopg.connect(url) as db:
        query = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return db.execute(query).fetchone() is not None


async def test_after_a_broadcast_each_connected_user_gets_their_own_count(database: str) -> None:
    async with staged() as stage:
        notify_in_transaction(user_id=stage.people.ids["candidate"])
        notify_in_transaction()
        stage.route()
        await stage.come("candidate", 1, 2)
        for role in ("admin", "recruiter", "interviewer"):
            await stage.come(role, 1)
        assert stage.sockets["candidate"].counts()[-1] == (stage.hub.cursor, 2)


async def test_a_role_broadcast_counts_for_that_role_only(database: str) -> None:
    async with staged() as stage:
        notify_in_transaction(role="recruiter")
        stage.route()
        await stage.come("recruiter", 1)
        notify_in_transaction()
        stage.route()
        await stage.come("recruiter", 1, 2)
        await stage.come("admin", 1)


async def test_a_count_is_sent_after_its_snapshot_is_routed(database: str) -> None:
    """Counted after three more were committed that are not routed yet: what the log says of them comes first."""
    async with staged() as stage:
        notify_in_transaction()
        for _ in range(3):
            notify_in_transaction(user_id=stage.people.ids["candidate"])
        stage.route(1)
        newest = 1 + 3 * 2
        await until(lambda: stage.hub.waited_for, "the counting waits for the log")
        for _ in range(newest - 1):
            stage.route(1)
            await asyncio.sleep(0)
        assert stage.hub.waited_for == [newest]
        await stage.come("candidate", 2, 3, 4, 4)
        assert [id_ for id_, _ in stage.sockets["candidate"].counts()] == [3, 5, 7, 7]


async def test_a_count_older_than_a_logged_one_is_not_sent(database: str) -> None:
    """The query is held up; meanwhile the log brings this user, and nobody else, a newer count."""
    async with staged() as stage:
        notify_in_transaction()
        with transaction() as db:
            db.execute(text("LOCK TABLE notification_receipts IN ACCESS EXCLUSIVE MODE"))
            stage.route()
            await until(lambda: is_blocked_by_lock(database), "the counting waits for the table")
            candidate = Notice("completed", "Title", "Body", str(uuid4()), user_id=stage.people.ids["candidate"])
            notify(db, [candidate], now=utcnow())
        stage.route()
        await stage.come("admin", 1)
        await stage.come("candidate", 2)
        notify_in_transaction()
        stage.route()
        await stage.come("admin", 1, 2)
        await stage.come("candidate", 2, 3)


async def test_many_broadcasts_at_once_are_counted_together_and_the_last_one_too(database: str) -> None:
    async with staged() as stage:
        for _ in range(30):
            notify_in_transaction()
        stage.route()
        await until(lambda: any(n == 30 for _, n in stage.sockets["admin"].counts()), "the last one's count came")
        for _ in range(30):
            notify_in_transaction()
            stage.route()
        await until(lambda: any(n == 60 for _, n in stage.sockets["admin"].counts()), "the last one's count came")
        assert len(stage.sockets["admin"].counts()) < 30


async def test_a_restored_log_discards_counts_in_progress(database: str) -> None:
    async with staged() as stage:
        for _ in range(5):
            notify_in_transaction()
        stage.route(1)
        await until(lambda: stage.hub.waited_for, "the counting waits for the log")
        with psycopg.connect(database, autocommit=True) as db:
            db.execute("DELETE FROM push_events WHERE id > 2")
            db.execute("DELETE FROM notifications WHERE id > 2")
        stage.hub.move_to(Position(2, restored=True))
        notify_in_transaction()
        stage.route()
        await until(stage.sockets["admin"].counts, "a count came")
        assert {number for _, number in stage.sockets["admin"].counts()} == {3}


async def test_a_database_outage_only_delays_a_count(database: str, caplog: pytest.LogCaptureFixture) -> None:
    async with staged() as stage:
        notify_in_transaction()
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute("ALTER TABLE notification_receipts RENAME TO gone")
            stage.route()
            await until(lambda: "trying again" in caplog.text, "it was tried")
            admin.execute("ALTER TABLE gone RENAME TO notification_receipts")
        await stage.come("admin", 1)
