"""State updates and send permits in one round trip: nine of ten completions need nothing else.

The statements are those of ``outcomes.complete`` and ``claims.acquire_permits``; what costs is the round trip, of which
a transaction of SQLAlchemy makes six.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from sqlalchemy.dialects.postgresql.psycopg import dialect

from core.emails.queue.claims import ACQUIRE, acquire_parameters
from core.emails.queue.outcomes import COMPLETE, StateUpdate, UpdatedMail, complete_parameters

_dialect = dialect()  # type: ignore[no-untyped-call]
# the queries as psycopg takes them
_begin, _write = (str(statement.compile(dialect=_dialect)).encode() for statement in (ACQUIRE, COMPLETE))


def can_pipeline(ended: Sequence[StateUpdate]) -> bool:
    """Whether these verdicts ask for nothing beside their rows: nobody is told, no address suppressed, none woken."""
    return all(e.verdict.status == "sent" for e in ended)


def complete(
    connection: Connection[Any], asking: Sequence[tuple[UUID, str]], ended: Sequence[StateUpdate]
) -> tuple[list[UpdatedMail], dict[UUID, str]]:
    """``outcomes.complete`` and ``acquire_permits`` in a transaction of their own, committed; what they give."""
    with connection.pipeline():
        wrote = connection.execute(_write, complete_parameters(ended), prepare=True) if ended else None
        began = connection.execute(_begin, acquire_parameters(asking), prepare=True) if asking else None
        connection.commit()
    return [UpdatedMail._make(row) for row in wrote or ()], dict(began or ())
