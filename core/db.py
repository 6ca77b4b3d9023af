"""The database: one engine a process, ``transaction()``, ``snapshot()`` and bulk inserts."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Table, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, sessionmaker

from core.settings import settings

LastStatement = Callable[[Session], None]
last_statements: list[LastStatement] = []
"""What ``transaction()`` runs just before it commits; the outbox registers itself here."""


def driver_url(url: str) -> str:
    """The same PostgreSQL URL, for SQLAlchemy with psycopg 3."""
    return "postgresql+psycopg://" + url.split("://", 1)[1]


@lru_cache(maxsize=1)
def engine() -> Engine:
    """The process's engine. A connection that was lost when the server restarted is replaced before use."""
    return create_engine(
        driver_url(settings().database()),
        pool_pre_ping=True,
        # The parameters of a failed statement would be logged with its error: addresses, and the links in mails.
        hide_parameters=True,
        # As many as the API lets work at the same time (api.deps): those beyond the pool are opened anew each time.
        pool_size=8,
        max_overflow=12,
        connect_args={"options": "-c timezone=UTC", "connect_timeout": 5},
    )


@lru_cache(maxsize=1)
def _sessions() -> sessionmaker[Session]:
    return sessionmaker(engine(), expire_on_commit=False)


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction: committed when the block ends, rolled back when it raises.

    The events published in it are written as its last statements.
    """
    with _sessions().begin() as db:
        yield db
        db.flush()
        for statement in last_statements:
            statement(db)


@contextmanager
def snapshot() -> Iterator[Session]:
    """One read-only view of the database, the same for every statement in the block."""
    with _sessions()() as db:
        db.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        db.execute(text("SET TRANSACTION READ ONLY"))
        yield db


def insert_many(
    db: Session,
    table: type[Any] | Table,
    columns: Mapping[str, Any],
    *,
    conflict_target: str = "",
    returning: Sequence[str] = (),
) -> Sequence[Any]:
    """Insert rows in one statement, in order, given as columns: a list holds one value a row, a scalar is for all rows.

    ``conflict_target`` is that of ON CONFLICT DO NOTHING, as SQL. Returns the ``returning`` columns.
    Some twenty times less work for the client than one set of parameters a row.
    """
    lists = {name: values for name, values in columns.items() if isinstance(values, list)}
    if not all(lists.values()):
        return ()
    target: Table = table if isinstance(table, Table) else table.__table__
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(
        f'input."{name}"' if name in lists else f"CAST(:{name} AS {_type(target, name)})" for name in columns
    )
    listed = ", ".join(f'"{name}"' for name in lists)
    arrays = ", ".join(f"CAST(:{name} AS {_type(target, name)}[])" for name in lists)
    conflict = f" ON CONFLICT {conflict_target} DO NOTHING" if conflict_target else ""
    output = f" RETURNING {', '.join(returning)}" if returning else ""
    statement = text(
        f'INSERT INTO "{target.name}" ({names}) SELECT {values}'  # noqa: S608 - names are our tables' own
        f" FROM unnest({arrays}) WITH ORDINALITY AS input({listed}, place) ORDER BY place{conflict}{output}"
    )
    result = db.execute(statement, {**columns, **{name: array(values) for name, values in lists.items()}})
    return result.all() if returning else ()


@lru_cache(maxsize=512)
def _type(table: Table, name: str) -> str:
    return table.c[name].type.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]


def array(values: Sequence[Any]) -> str:
    """The values as one PostgreSQL array literal, for ``CAST(:name AS …[])``.

    psycopg accepts the list itself, at several times the work; a sweep passes millions of values.
    """
    write = _LITERALS.get
    return "{" + ",".join([write(type(value), _quoted)(value) for value in values]) + "}"


def _quoted(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


_LITERALS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "NULL",
    datetime: datetime.isoformat,
    UUID: str,
    int: str,
    dict: lambda value: _quoted(json.dumps(value)),
    bytes: lambda value: f'"\\\\x{value.hex()}"',
}
"""How a type is written in an array literal; any other type is quoted, which is always correct."""
