"""The outbox: the push events of a transaction, written as its last statements, in commit order."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import event, text
from sqlalchemy.orm import Session, SessionTransaction

from core import db as database
from core.events import PushEvent
from core.locks import LOCKS, OUTBOX_LOCK, PUSH_CHANNEL, WORK_CHANNEL
from core.models import PushEventRow

_KEY = "outbox"


@dataclass(frozen=True, slots=True)
class PushMessage:
    """One row of ``push_events``, as readers get it; ``payload`` is JSON."""

    id: int
    destination: str
    audience: str | None
    type: str
    payload: str
    created_at: datetime

    def body(self) -> bytes:
        """The message's body: an envelope around the payload, with the destination as clients name it."""
        at = self.created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        seen = client_destination(self.destination)
        return (
            f'{{"id":{self.id},"type":"{self.type}","at":"{at}","destination":"{seen}","data":{self.payload}}}'
        ).encode()


def client_destination(destination: str) -> str:
    """The destination as clients name it: a user's queue without the user's id."""
    if destination.startswith("/user/"):
        return "/user" + destination[destination.index("/", len("/user/")) :]
    return destination


def publish(db: Session, change: PushEvent, *, dedupe_key: str | None = None) -> None:
    """Publish an event when this transaction commits; the rollback of a savepoint drops those published in it.

    An event whose ``dedupe_key`` was used before is not written; only for events with one destination.
    """
    _collected(db).append((change, dedupe_key))


def publish_many(db: Session, changes: Iterable[PushEvent]) -> None:
    """Publish several events, in order."""
    _collected(db).extend((change, None) for change in changes)


Finish = Callable[[], Iterable[PushEvent]]
Compute = Callable[[Session, Sequence[Any]], Finish]


@dataclass(frozen=True, slots=True)
class _LateEvents:
    compute: Compute
    subjects: tuple[Hashable, ...]


def publish_late(db: Session, compute: Compute, *subjects: Hashable) -> None:
    """Publish the events that ``compute`` returns for the subjects, each subject once a transaction.

    ``compute`` runs after all other work; the ``Finish`` it returns runs under the outbox's lock, where it sees every
    transaction whose push events have lower ids. It delays every publisher, so it has to be quick. Neither may publish.
    """
    if subjects:
        _collected(db).append((_LateEvents(compute, subjects), None))


_Collected = list[tuple[PushEvent | _LateEvents, str | None]]


def _collected(db: Session) -> _Collected:
    collected: _Collected = db.info.setdefault(_KEY, [])
    return collected


_COLUMNS = ("destination", "audience", "type", "payload", "dedupe_key")


def _write(db: Session) -> None:
    collected = db.info.pop(_KEY, None)
    if not collected:
        return
    rows: list[tuple[Any, ...]] = []
    late: dict[Compute, dict[Hashable, None]] = {}
    for change, key in collected:
        if isinstance(change, _LateEvents):
            late.setdefault(change.compute, {}).update(dict.fromkeys(change.subjects))
        else:
            rows += _rows(change, key)
    finishes = [compute(db, list(subjects)) for compute, subjects in late.items()]
    # Held until commit, and taken after all other work, so that a slow transaction stalls no other publisher:
    # ids are assigned under it, which makes their order the order of commits.
    db.execute(text("SELECT pg_advisory_xact_lock(:a, :b)"), {"a": LOCKS, "b": OUTBOX_LOCK})
    for finish in finishes:
        for change in finish():
            rows += _rows(change, None)
    if not rows:
        return
    columns = dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    database.insert_many(db, PushEventRow, columns, conflict_target="(dedupe_key) WHERE dedupe_key IS NOT NULL")
    db.execute(text("SELECT pg_notify(:channel, '')"), {"channel": PUSH_CHANNEL})


def _rows(change: PushEvent, key: str | None) -> list[tuple[Any, ...]]:
    payload, audience = change.model_dump_json(), change.audience()
    return [(destination, audience, change.type, payload, key) for destination in change.destinations()]


database.last_statements.append(_write)


@event.listens_for(Session, "after_transaction_create")
def _mark(db: Session, transaction: SessionTransaction) -> None:
    if transaction.nested:
        _marks[transaction] = len(_collected(db))


@event.listens_for(Session, "after_soft_rollback")
def _forget(db: Session, transaction: SessionTransaction) -> None:
    # A failed flush is a transaction of its own; what must be dropped is all since the savepoint around it.
    undone: SessionTransaction = transaction
    while not undone.nested and undone.parent is not None:
        undone = undone.parent
    del _collected(db)[_marks.get(undone, 0) :]


_marks: WeakKeyDictionary[SessionTransaction, int] = WeakKeyDictionary()
"""How many events were collected when each savepoint began."""


def wake(db: Session) -> None:
    """Notify the dispatchers, when this transaction commits, that there may be work due."""
    db.execute(text("SELECT pg_notify(:channel, '')"), {"channel": WORK_CHANNEL})


READ_AFTER = """
    SELECT id, destination, audience, type, payload::text, created_at
    FROM push_events WHERE id > %(cursor)s ORDER BY id LIMIT %(limit)s
"""
"""The query of readers, in psycopg's parameter style: the relay runs it on its own asynchronous connection."""


def read_after(db: Session, cursor: int, *, limit: int = 1000) -> Sequence[PushMessage]:
    """The rows of the log after ``cursor``, in commit order, at most ``limit``."""
    rows = db.connection().exec_driver_sql(READ_AFTER, {"cursor": cursor, "limit": limit})
    return [PushMessage(*row) for row in rows]


NEWEST_ID = """
    SELECT greatest((SELECT max(id) FROM push_events), (SELECT pruned_through FROM push_log), 0)
"""


def newest_id(db: Session) -> int:
    """The newest id of the log, 0 when nothing was ever published: the cursor for a client that has read a snapshot."""
    return int(db.execute(text(NEWEST_ID)).scalar_one())
