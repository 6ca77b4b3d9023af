"""State updates and send permits in one round trip: nine of ten completions need nothing else.

The statements are those of ``outcomes.complete`` and ``claims.acquire_permits``; the cost is in the round trips, of
which a transaction through SQLAlchemy makes six.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from sqlalchemy.dialects.postgresql.psycopg import dialect

from core.emails.queue.claims import ACQUIRE, acquire_parameters
from core.emails.queue.outcomes import COMPLETE, StateUpdate, UpdatedMail, complete_parameters

_dialect = dialect()  # type: ignore[no-untyped-call]
# the queries in psycopg's parameter style
_begin, _write = (str(statement.compile(dialect=_dialect)).encode() for statement in (ACQUIRE, COMPLETE))


def can_pipeline(updates: Sequence[StateUpdate]) -> bool:
    """Whether these updates only write rows: they notify nobody, suppress no address and wake no dispatcher."""
    return all(e.decision.status == "sent" for e in updates)


def complete(
    connection: Connection[Any], requests: Sequence[tuple[UUID, str]], updates: Sequence[StateUpdate]
) -> tuple[list[UpdatedMail], dict[UUID, str]]:
    """``outcomes.complete`` and ``acquire_permits`` in one committed transaction; returns the results of both.

    The connection commits by itself: PostgreSQL makes one transaction of all that comes in one pipeline.
    """
    with connection.pipeline():
        completed = connection.execute(_write, complete_parameters(updates), prepare=True) if updates else None
        permitted = connection.execute(_begin, acquire_parameters(requests), prepare=True) if requests else None
    return [UpdatedMail._make(row) for row in completed or ()], dict(permitted or ())
