"""The relay: a broadcaster backend that tails the outbox's log and never raises."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from broadcaster import BroadcastBackend, Event

from core.outbox import CHANNEL, NEWEST, READ_AFTER, Pushed

log = logging.getLogger(__name__)

LOG: Final = "log"
"""The one broadcaster channel: batches of the log, in order. Destinations are the hub's to tell apart."""
RESTORED: Final = "restored"
"""Sent on LOG in place of a batch when the log is behind the cursor: another database stands there now."""

_BATCH: Final = 500
_POLL_SECONDS: Final = 1.0
_BACK_OFF: Final = (0.1, 0.2, 0.5, 1.0, 2.0)


class OutboxBackend(BroadcastBackend):
    """Yields the log's rows with ``id > cursor`` in commit order, woken by NOTIFY or by the next second.

    The table is the truth: a lost wake costs a second, a lost connection a reconnect, never a row. It never raises,
    because broadcaster's listener would die of it and leave its subscribers waiting for ever.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._cursor: int | None = None
        self._failures = 0
        self._caught_up = False
        self.working = asyncio.Event()
        """Set while the log can be read; health says so."""

    async def connect(self) -> None:
        """Nothing yet: the first read connects, as every later one does after a loss."""

    async def disconnect(self) -> None:
        """Give the database connection back."""
        if self._connection is not None:
            await self._connection.close()
        self.working.clear()

    async def subscribe(self, channel: str) -> None:
        """Nothing: there is one channel and it is always read."""

    async def unsubscribe(self, channel: str) -> None:
        """Nothing: there is one channel and it is always read."""

    async def publish(self, channel: str, message: Any) -> None:
        """Refused: what is announced goes through the outbox, in a transaction."""
        raise RuntimeError("announce through core.outbox.publish, inside a transaction")

    async def next_published(self) -> Event:
        """The next batch of rows; waits as long as it takes."""
        while True:
            try:
                if self._connection is None:
                    if event := await self._open():
                        return event
                elif self._caught_up:
                    await self._wait(self._connection)
                if rows := await self._read():
                    return Event(LOG, rows)  # type: ignore[arg-type]
            except (psycopg.Error, OSError) as error:
                await self._lost(error)

    async def _open(self) -> Event | None:
        self._connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=5, application_name="greenroom relay"
        )
        await self._connection.execute(f"LISTEN {CHANNEL}")
        found = await self._connection.execute(NEWEST)
        row = await found.fetchone()
        newest = int(row[0]) if row else 0
        before, self._failures = self._cursor, 0
        if before is None or newest < before:
            self._cursor = newest
        self.working.set()
        if before is None:
            return Event(LOG, newest)  # type: ignore[arg-type]
        log.info("the log is being read again", extra={"cursor": before, "newest": newest})
        return Event(LOG, RESTORED) if newest < before else None

    async def _read(self) -> Sequence[Pushed]:
        if self._connection is None:
            return ()
        found = await self._connection.execute(READ_AFTER, {"cursor": self._cursor, "limit": _BATCH})
        rows = [Pushed(*row) for row in await found.fetchall()]
        self._caught_up = len(rows) < _BATCH
        if rows:
            self._cursor = rows[-1].id
        return rows

    async def _wait(self, connection: psycopg.AsyncConnection[Any]) -> None:
        async for _ in connection.notifies(timeout=_POLL_SECONDS, stop_after=1):
            pass

    async def _lost(self, error: Exception) -> None:
        self.working.clear()
        self._caught_up = False
        if self._failures == 0:
            log.warning("the log cannot be read; trying again", extra={"error": str(error).splitlines()[0:1]})
        if self._connection is not None:
            broken, self._connection = self._connection, None
            await broken.close()
        await asyncio.sleep(_BACK_OFF[min(self._failures, len(_BACK_OFF) - 1)])
        self._failures += 1
