"""Verdicts and leave to send in one round trip: nine of ten settlements are nothing else.

The statements are those of ``outcomes.write`` and ``claims.begin``; what costs is the way there and back, which a
transaction of SQLAlchemy goes six times.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from sqlalchemy.dialects.postgresql.psycopg import dialect

from core.emails.queue.claims import BEGIN, given_to_begin
from core.emails.queue.outcomes import WRITE, Ended, Written, given_to_write

_dialect = dialect()  # type: ignore[no-untyped-call]
# the queries as psycopg takes them
_begin, _write = (str(statement.compile(dialect=_dialect)).encode() for statement in (BEGIN, WRITE))


def settles(ended: Sequence[Ended]) -> bool:
    """Whether these verdicts ask for nothing beside their rows: nobody is told, no address suppressed, none woken."""
    return all(e.verdict.status == "sent" for e in ended)


def settle(
    connection: Connection[Any], asking: Sequence[tuple[UUID, str]], ended: Sequence[Ended]
) -> tuple[list[Written], dict[UUID, str]]:
    """``write`` and ``begin`` in a transaction of their own, committed; what they give."""
    with connection.pipeline():
        wrote = connection.execute(_write, given_to_write(ended), prepare=True) if ended else None
        began = connection.execute(_begin, given_to_begin(asking), prepare=True) if asking else None
        connection.commit()
    return [Written._make(row) for row in wrote or ()], dict(began or ())
