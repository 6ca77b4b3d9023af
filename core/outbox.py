"""The outbox: what a transaction announces, written as its last statements in commit order."""

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
class Pushed:
    """One row of the log, as readers get it; ``payload`` is JSON."""

    id: int
    destination: str
    audience: str | None
    type: str
    payload: str
    created_at: datetime

    def body(self) -> bytes:
        """The message's body: the envelope around the payload; a user's queue is named as its owner sees it."""
        at = self.created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        seen = seen_as(self.destination)
        return (
            f'{{"id":{self.id},"type":"{self.type}","at":"{at}","destination":"{seen}","data":{self.payload}}}'
        ).encode()


def seen_as(destination: str) -> str:
    """The destination as clients know it: a user's queue without whose it is."""
    if destination.startswith("/user/"):
        return "/user" + destination[destination.index("/", len("/user/")) :]
    return destination


def publish(db: Session, change: PushEvent, *, dedupe_key: str | None = None) -> None:
    """Announce a change when this transaction commits; a rolled-back savepoint forgets it.

    A ``dedupe_key`` seen before makes it nothing, so it goes with events of one destination only.
    """
    _collected(db).append((change, dedupe_key))


def publish_many(db: Session, changes: Iterable[PushEvent]) -> None:
    """Announce several changes, in order."""
    _collected(db).extend((change, None) for change in changes)


Finish = Callable[[], Iterable[PushEvent]]
Compute = Callable[[Session, Sequence[Any]], Finish]


@dataclass(frozen=True, slots=True)
class _Later:
    compute: Compute
    subjects: tuple[Hashable, ...]


def publish_late(db: Session, compute: Compute, *subjects: Hashable) -> None:
    """Announce what ``compute`` makes of the subjects, each once a transaction, when nobody else can commit a push.

    It is called after all other work, and what it gives is called under the outbox's lock: that sees every
    transaction whose pushes have lower ids, and it stalls every publisher, so it has to be quick. Neither may publish.
    """
    if subjects:
        _collected(db).append((_Later(compute, subjects), None))


_Collected = list[tuple[PushEvent | _Later, str | None]]


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
        if isinstance(change, _Later):
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
    database.insert_many(db, PushEventRow, columns, once="(dedupe_key) WHERE dedupe_key IS NOT NULL")
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
    # A failed flush is a transaction of its own; what it takes with it is all since the savepoint around it.
    undone: SessionTransaction = transaction
    while not undone.nested and undone.parent is not None:
        undone = undone.parent
    del _collected(db)[_marks.get(undone, 0) :]


_marks: WeakKeyDictionary[SessionTransaction, int] = WeakKeyDictionary()
"""How much was collected when each savepoint began."""


def wake(db: Session) -> None:
    """Let the dispatchers look for work as soon as this transaction commits, and not before."""
    db.execute(text("SELECT pg_notify(:channel, '')"), {"channel": WORK_CHANNEL})


READ_AFTER = """
    SELECT id, destination, audience, type, payload::text, created_at
    FROM push_events WHERE id > %(cursor)s ORDER BY id LIMIT %(limit)s
"""
"""The reader's query, as psycopg takes it: the relay runs it on its own asynchronous connection."""


def read_after(db: Session, cursor: int, *, limit: int = 1000) -> Sequence[Pushed]:
    """The rows of the log after ``cursor``, in commit order, at most ``limit``."""
    rows = db.connection().exec_driver_sql(READ_AFTER, {"cursor": cursor, "limit": limit})
    return [Pushed(*row) for row in rows]


NEWEST = """
    SELECT greatest((SELECT max(id) FROM push_events), (SELECT pruned_through FROM push_log), 0)
"""


def newest(db: Session) -> int:
    """The newest id of the log, 0 when nothing was ever pushed: where a reader of a snapshot subscribes from."""
    return int(db.execute(text(NEWEST)).scalar_one())
