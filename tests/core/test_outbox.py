"""The outbox: nothing pushed that did not commit, nothing lost, and ids in the order of commits."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from core import outbox
from core.db import transaction
from core.events import SessionUpdated
from core.models import User
from core.outbox import read_after
from tests.support.processes import eventually


def change(number: int = 0) -> SessionUpdated:
    return SessionUpdated(session_id=UUID(int=number), changed=("test",), last_activity_at=datetime.now(UTC))


def numbers(db: Session) -> list[int]:
    rows = [row for row in read_after(db, 0, limit=100_000) if row.destination == "/topic/sessions"]
    return [UUID(_data(row)["session_id"]).int for row in rows]


def _data(row: outbox.PushMessage) -> dict[str, Any]:
    return dict(json.loads(row.payload))


class Undo(Exception):
    pass


def test_a_rolled_back_transaction_pushes_nothing(database: str) -> None:
    with pytest.raises(Undo), transaction() as db:
        outbox.publish(db, change())
        raise Undo
    with transaction() as db:
        assert read_after(db, 0) == []


Step = st.recursive(
    st.integers(1, 10**6),
    lambda inner: st.tuples(st.sampled_from(["commit", "rollback"]), st.lists(inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(Step, max_size=6))
def test_rolled_back_savepoints_forget_what_they_collected(database: str, steps: list[Any]) -> None:
    """Any nesting of savepoints: pushed is exactly what no rolled-back savepoint stood around, in order."""

    def run(db: Session, steps: list[Any]) -> list[int]:
        kept: list[int] = []
        for step in steps:
            if isinstance(step, int):
                outbox.publish(db, change(step))
                kept.append(step)
                continue
            end, inner = step
            savepoint = db.begin_nested()
            within = run(db, inner)
            if end == "commit":
                savepoint.commit()
                kept += within
            else:
                savepoint.rollback()
        return kept

    with transaction() as db:
        before = outbox.newest_id(db)
    with transaction() as db:
        expected = run(db, steps)
    with transaction() as db:
        rows = [row for row in read_after(db, before) if row.destination == "/topic/sessions"]
    assert [UUID(_data(row)["session_id"]).int for row in rows] == expected


def test_a_flush_that_fails_forgets_its_savepoint_alone(database: str) -> None:
    with transaction() as db:
        outbox.publish(db, change(1))
        with pytest.raises(IntegrityError), db.begin_nested():
            outbox.publish(db, change(2))
            db.add(User(email="x@example.com", name="x", role="no such role"))
            db.flush()
        outbox.publish(db, change(3))
    with transaction() as db:
        assert numbers(db) == [1, 3]


def test_a_reader_by_cursor_misses_none_of_many_late_commits(database: str) -> None:
    """Thirty-two writers at once, each slow to commit; a reader that only ever asks for id > cursor sees all."""
    writers, each = 32, 12
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        cursor = 0
        while True:
            last = done.is_set()
            with transaction() as db:
                rows = read_after(db, cursor, limit=7)
            seen.extend(row.id for row in rows)
            if rows:
                cursor = rows[-1].id
            elif last:
                return

    def write(writer: int) -> None:
        for number in range(each):
            with transaction() as db:
                outbox.publish(db, change(writer * each + number))
                db.execute(text("SELECT pg_sleep(:s)"), {"s": (writer * 7 + number) % 5 / 500})

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(writers)))
    done.set()
    reader.join()
    with psycopg.connect(database) as direct:
        ids = [id_ for (id_,) in direct.execute("SELECT id FROM push_events ORDER BY id")]
    assert len(ids) == writers * each * 2
    assert seen == ids


def test_ids_are_assigned_in_commit_order(database: str) -> None:
    first_may_end = threading.Event()
    first_has_published = threading.Event()

    def first() -> None:
        with transaction() as db:
            outbox.publish(db, change(1))
            first_has_published.set()
            first_may_end.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    first_has_published.wait(10)
    with transaction() as db:
        outbox.publish(db, change(2))
    first_may_end.set()
    thread.join()
    with transaction() as db:
        assert numbers(db) == [2, 1]


def test_a_dedupe_key_makes_one_push(database: str) -> None:
    key = str(uuid4())

    def publish(_: int) -> None:
        with transaction() as db:
            outbox.publish(db, OneDestination(session_id=UUID(int=1), changed=()), dedupe_key=key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(24)))
    with transaction() as db:
        assert len(read_after(db, 0)) == 1


class OneDestination(SessionUpdated):
    def destinations(self) -> tuple[str, ...]:
        return ("/topic/sessions",)


def test_a_killed_transaction_leaves_nothing_and_holds_no_lock(database: str) -> None:
    """The database ends a publisher's connection at its commit: nothing is pushed, and the next one goes on."""
    with (
        psycopg.connect(database, autocommit=True) as admin,
        pytest.raises(OperationalError, match=r"terminat|closed|lost"),
        transaction() as db,
    ):
        outbox.publish(db, change(1))
        pid = db.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        eventually(
            lambda: not admin.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone(),
            "the backend is gone",
        )
    with transaction() as db:
        outbox.publish(db, change(2))
    with transaction() as db:
        assert numbers(db) == [2]


def test_the_body_is_the_contracts_envelope(database: str) -> None:
    with transaction() as db:
        outbox.publish(db, change(5))
    with transaction() as db:
        row = read_after(db, 0)[0]
    body = json.loads(row.body())
    assert list(body) == ["id", "type", "at", "destination", "data"]
    assert body["id"] == row.id
    assert body["destination"] == f"/topic/session/{UUID(int=5)}"
    assert body["data"]["changed"] == ["test"]
    assert datetime.fromisoformat(body["at"]).tzinfo is not None


def test_a_user_queue_has_its_client_name() -> None:
    assert outbox.client_destination("/user/12/queue/notifications") == "/user/queue/notifications"
    assert outbox.client_destination("/topic/sessions") == "/topic/sessions"
