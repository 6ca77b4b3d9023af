"""Unread counts after a broadcast: it changes no user's rows, so each process counts for the users connected to it."""

import asyncio
import logging
import time
from typing import Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from api.realtime.hub import Hub
from core import outbox
from core.db import snapshot
from core.events import BROADCASTS, NotificationUnread, user_queue
from core.models import Role
from core.notifications import counts
from core.outbox import PushMessage

log = logging.getLogger(__name__)

QUEUE: Final = "notifications"
_PAUSE_SECONDS: Final = 0.25
_PAUSE_SHARE: Final = 4
"""The shortest pause after a count, and its length as a multiple of the count's duration: many broadcasts must not keep
the database busy with counts, and the last one is still counted."""
_PATIENCE_SECONDS: Final = 5.0
_COUNTS_A_SLICE: Final = 500


class UnreadCounter:
    """Sends the counts that no row of the log carries; none is older than what its user was sent before.

    Counts made in a transaction are in the log. One counted here, in a snapshot whose newest row is N, is sent once
    everything through N was routed, unless the log brought its user a count after N in the meantime.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        hub.observers.append(self)
        self._roles: set[Role | None] = set()
        self._wanted = asyncio.Event()
        self._logged: dict[str, int] | None = None
        """While counting: for each queue the id of the newest count that the log brought since counting started."""

    def routing(self, row: PushMessage) -> None:
        """Record a row that is being routed."""
        if row.destination == BROADCASTS:
            self._roles.add(row.audience)  # type: ignore[arg-type]  # a check constraint of its column
            self._wanted.set()
        elif self._logged is not None and row.type == NotificationUnread.type:
            self._logged[row.destination] = row.id

    def restored(self) -> None:
        """The database was restored: counts of the old log are void."""
        self._logged = None
        self._roles.add(None)
        self._wanted.set()

    async def run(self) -> None:
        """Count after broadcasts were delivered or withdrawn, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            roles, self._roles = self._roles, set()
            began = time.monotonic()
            try:
                await self._count(roles)
            except Exception as error:
                unavailable = isinstance(error, SQLAlchemyError | TimeoutError)
                log.warning("unread counts could not be sent; trying again", exc_info=None if unavailable else error)
                self._roles |= roles
                self._wanted.set()
            await asyncio.sleep(max(_PAUSE_SECONDS, _PAUSE_SHARE * (time.monotonic() - began)))

    async def _count(self, roles: set[Role | None]) -> None:
        users = [user for user, role in self._hub.listeners(QUEUE) if None in roles or role in roles]
        if not users:
            return
        self._logged = {}
        try:
            newest, unread = await run_in_threadpool(_count_users, users)
            # A log restored meanwhile may never reach that id; then the next count is of the new log.
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._hub.reached(newest)
            for place, (user_id, number) in enumerate(unread.items(), 1):
                if self._logged is None:
                    return
                key = user_queue(user_id, QUEUE)
                if self._logged.get(key, 0) <= newest:
                    change = NotificationUnread(user_id=user_id, unread=number)
                    self._hub.send_unstored(change.type, key, change.model_dump())
                if place % _COUNTS_A_SLICE == 0:
                    await asyncio.sleep(0)
        finally:
            self._logged = None


def _count_users(users: list[int]) -> tuple[int, dict[int, int]]:
    with snapshot() as db:
        return outbox.newest_id(db), counts(db, users)
