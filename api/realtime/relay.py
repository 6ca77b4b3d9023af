"""The relay: a broadcaster backend that tails the outbox's log and never raises."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from broadcaster import BroadcastBackend, Event

from core.locks import PUSH_CHANNEL
from core.outbox import NEWEST_ID, READ_AFTER, PushMessage

log = logging.getLogger(__name__)

LOG: Final = "log"
"""The one broadcaster channel: the log, in order. The hub routes by destination."""

_BATCH: Final = 500
_POLL_SECONDS: Final = 1.0
_BACK_OFF: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_ANSWER_SECONDS: Final = 10.0
_NETWORK: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}
"""A server that vanished without closing its connections is noticed in seconds (PostgreSQL, "Connection Strings")."""
_KNOWN: Final = """
    SELECT EXISTS (SELECT FROM push_events WHERE id = %(cursor)s)
        OR coalesce(%(cursor)s <= (SELECT pruned_through FROM push_log), false)
"""
"""Whether the log still has the row of the cursor, or pruned it: else it was restored."""


@dataclass(frozen=True, slots=True)
class Position:
    """The id that reading continues from; ``restored``: the database was restored, so what was read before is void."""

    newest: int
    restored: bool = False


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Rows of the log, in commit order. No more are read until its reader has ``taken`` it."""

    rows: Sequence[PushMessage]
    taken: asyncio.Event = field(default_factory=asyncio.Event)


class OutboxBackend(BroadcastBackend):
    """Yields the log's rows with ``id > cursor`` in commit order, woken by NOTIFY or by the next second.

    The table is the truth: a lost NOTIFY costs a second, a lost connection a reconnect, never a row. It never raises,
    because that would end broadcaster's listener and let its subscribers wait for ever.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._cursor: int | None = None
        self._failures = 0
        self._caught_up = False
        self._given: LogBatch | None = None
        self.working = asyncio.Event()
        """Set while the log can be read; /health/ready reports it."""

    async def connect(self) -> None:
        """Nothing yet: the first read connects, as every later one does after a loss."""

    async def disconnect(self) -> None:
        """Close the database connection."""
        if self._connection is not None:
            await self._connection.close()
        self.working.clear()

    async def subscribe(self, channel: str) -> None:
        """Nothing: there is one channel and it is always read."""

    async def unsubscribe(self, channel: str) -> None:
        """Nothing: there is one channel and it is always read."""

    async def publish(self, channel: str, message: Any) -> None:
        """Refused: events are published through the outbox, in a transaction."""
        raise RuntimeError("publish through core.outbox.publish, inside a transaction")

    async def next_published(self) -> Event:
        """The next batch of rows, or a new position; waits as long as it takes."""
        if self._given is not None:
            # broadcaster's queue has no bound: a log that grows faster than it is routed stays in the table.
            await self._given.taken.wait()
            self._given = None
        while True:
            try:
                if news := await self._next():
                    return Event(LOG, news)  # type: ignore[arg-type]
            except (psycopg.Error, OSError) as error:
                await self._disconnected(str(error).splitlines()[0:1])
            except Exception:
                log.exception("the log cannot be read, and not because of the database")
                await self._disconnected(["see above"])

    async def _next(self) -> Position | LogBatch | None:
        if self._connection is not None and self._caught_up:
            async for _ in self._connection.notifies(timeout=_POLL_SECONDS, stop_after=1):
                pass
        # A server that hangs neither answers nor fails.
        async with asyncio.timeout(_ANSWER_SECONDS):
            if self._connection is None:
                return await self._open()
            return await self._read(self._connection)

    async def _open(self) -> Position | None:
        connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, application_name="greenroom relay", **_NETWORK
        )
        self._connection = connection
        await connection.execute(f"LISTEN {PUSH_CHANNEL}")
        newest = int(await _value(connection, NEWEST_ID) or 0)
        before = self._cursor
        if before is None:
            self._cursor = newest
            return Position(newest)
        log.info("the log is being read again", extra={"cursor": before, "newest": newest})
        # A missing row that was not pruned means a restored log, even when its ids have passed the cursor again.
        if newest < before or not await _value(connection, _KNOWN, {"cursor": before}):
            log.warning("the log was restored", extra={"cursor": before, "newest": newest})
            self._cursor = newest
            return Position(newest, restored=True)
        return None

    async def _read(self, connection: psycopg.AsyncConnection[Any]) -> LogBatch | None:
        found = await connection.execute(READ_AFTER, {"cursor": self._cursor, "limit": _BATCH})
        rows = [PushMessage(*row) for row in await found.fetchall()]
        self._failures = 0
        self._caught_up = len(rows) < _BATCH
        self.working.set()
        if not rows:
            return None
        self._cursor = rows[-1].id
        self._given = LogBatch(rows)
        return self._given

    async def _disconnected(self, why: list[str]) -> None:
        self.working.clear()
        self._caught_up = False
        if self._failures == 0:
            log.warning("the log cannot be read; trying again", extra={"error": why})
        if self._connection is not None:
            broken, self._connection = self._connection, None
            await broken.close()
        await asyncio.sleep(_BACK_OFF[min(self._failures, len(_BACK_OFF) - 1)])
        self._failures += 1


async def _value(connection: psycopg.AsyncConnection[Any], query: str, given: dict[str, Any] | None = None) -> Any:
    row = await (await connection.execute(query, given)).fetchone()
    return row[0] if row else None
