"""The hub: one subscription to the relay a process, routed by destination in one task."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from broadcaster import Broadcast

from api.realtime.outgoing import Cork
from api.realtime.relay import LOG, LogBatch, Position
from api.realtime.stomp import message
from core.events import ACCOUNTS
from core.models import Role
from core.outbox import PushMessage, client_destination

_SLICE_BYTES: Final = 65536
_SLICE_DELIVERED_BYTES: Final = 2**20


class Consumer(Protocol):
    """A connection, as the hub uses it."""

    def deliver(self, frame: bytes) -> None:
        """Put one frame into the outgoing queue. Never raises."""

    def account_changed(self, token_version: int, role: Role) -> None:
        """The user's earlier tokens are no longer valid."""


class LogObserver(Protocol):
    """Is called for every row that is routed (``api.realtime.unread``)."""

    def routing(self, row: PushMessage) -> None:
        """The row is being routed. Never raises."""

    def restored(self) -> None:
        """The database was restored: the log is another one."""


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """One SUBSCRIBE of one connection; ``key`` is the destination as the log names it."""

    consumer: Consumer
    id: str | None
    destination: str
    key: str
    role: Role
    version: str
    explicit_ack: bool = False

    def frame(self, message_id: int, body: bytes) -> bytes:
        """The MESSAGE that carries the body to this subscription."""
        ack = str(message_id) if self.explicit_ack else None
        return message(self.destination, self.id, message_id, body, ack=ack, version=self.version)


class Hub:
    """The subscriptions of this process; routes every row of the log to them."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, dict[Subscription, None]] = {}
        self._users: dict[int, dict[Consumer, None]] = {}
        self.cursor: int | None = None
        """The newest id that was routed; None until the log was read once."""
        self.started = asyncio.Event()
        """Set once the log was read; before that, no committed message would reach a subscription."""
        self.cork = Cork()
        """Closed while several rows are routed, so that sockets that can write their frames together."""
        self.observers: list[LogObserver] = []
        self._moved = asyncio.Event()
        self.slow_closed: Counter[str] = Counter()
        """How many connections were closed as too slow, by the limit they broke (for metrics)."""

    async def run(self, broadcast: Broadcast) -> None:
        """Route what the relay yields, for ever."""
        async with broadcast.subscribe(LOG) as news:
            async for event in news:  # type: ignore[union-attr]
                match event.message if event else None:
                    case Position() as at:
                        self.move_to(at)
                    case LogBatch() as batch:
                        await self._route_in_slices(batch.rows)
                        batch.taken.set()

    async def _route_in_slices(self, rows: Sequence[PushMessage]) -> None:
        place = 0
        while place < len(rows):
            with self.cork if len(rows) - place > 1 else nullcontext():
                place = self._route_slice(rows, place)
            # Now the event loop writes and reads sockets: a large batch must neither delay other connections nor
            # fill the queue of a consumer that would read in time.
            await asyncio.sleep(0)

    def _route_slice(self, rows: Sequence[PushMessage], place: int) -> int:
        """Route rows from this index on, up to one slice's bytes read or delivered; returns the index of the next."""
        size = delivered = 0
        while place < len(rows) and size < _SLICE_BYTES and delivered < _SLICE_DELIVERED_BYTES:
            size, delivered = size + len(rows[place].payload), delivered + self.route((rows[place],))
            place += 1
        return place

    def move_to(self, at: Position) -> None:
        """Continue from this position of the log; after a restore every client is sent ``resync``."""
        self.cursor = at.newest
        self.started.set()
        if at.restored:
            self._resync()
            for observer in self.observers:
                observer.restored()
        self._notify_moved()

    async def reached(self, id_: int) -> None:
        """Wait until everything of the log through this id was routed."""
        while self.cursor is None or self.cursor < id_:
            await self._moved.wait()

    def _notify_moved(self) -> None:
        self._moved.set()
        self._moved.clear()

    def listeners(self, queue: str) -> list[tuple[int, Role]]:
        """The users subscribed in this process to their queue of this name, with their roles."""
        named = re.compile(rf"/user/(\d+)/queue/{queue}")
        found = ((named.fullmatch(key), there) for key, there in self._subscriptions.items())
        return [(int(match[1]), next(iter(there)).role) for match, there in found if match]

    def send_unstored(self, kind: str, key: str, data: dict[str, Any]) -> None:
        """Deliver a message that is not in the log to a queue's subscriptions."""
        cursor = self.cursor or 0
        self._deliver(tuple(self._subscriptions.get(key, ())), cursor, unstored(kind, key, data, cursor), None)

    def counts(self) -> tuple[int, int]:
        """How many connections are signed in, and how many subscriptions they have (for metrics)."""
        return sum(map(len, self._users.values())), sum(map(len, self._subscriptions.values()))

    def join(self, consumer: Consumer, user_id: int) -> None:
        """Call the consumer's ``account_changed`` when the user's account changes."""
        self._users.setdefault(user_id, {})[consumer] = None

    def leave(self, consumer: Consumer, user_id: int) -> None:
        """Remove the consumer: its connection is over."""
        there = self._users.get(user_id, {})
        there.pop(consumer, None)
        if not there:
            self._users.pop(user_id, None)

    def add(self, subscription: Subscription) -> None:
        """From now on the subscription gets every message of its destination that is routed."""
        self._subscriptions.setdefault(subscription.key, {})[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """The subscription gets nothing more."""
        there = self._subscriptions.get(subscription.key, {})
        there.pop(subscription, None)
        if not there:
            self._subscriptions.pop(subscription.key, None)

    def route(self, rows: Iterable[PushMessage]) -> int:
        """Deliver each row to its destination's subscriptions, in order; returns the bytes that were delivered."""
        given = 0
        for row in rows:
            if row.destination == ACCOUNTS:
                self._account_changed(row)
            elif subscriptions := self._subscriptions.get(row.destination):
                given += self._deliver(tuple(subscriptions), row.id, row.body(), row.audience)
            for observer in self.observers:
                observer.routing(row)
            self.cursor = row.id
        self._notify_moved()
        return given

    @staticmethod
    def _deliver(subscriptions: Sequence[Subscription], id_: int, body: bytes, audience: str | None) -> int:
        """Deliver one message; a frame is built once for all subscriptions that share it."""
        given = 0
        frames: dict[tuple[str | None, str, str, bool], bytes] = {}
        for subscription in subscriptions:
            if audience is not None and audience != subscription.role:
                continue
            alike = (subscription.id, subscription.destination, subscription.version, subscription.explicit_ack)
            frame = frames.get(alike)
            if frame is None:
                frame = frames[alike] = subscription.frame(id_, body)
            subscription.consumer.deliver(frame)
            given += len(frame)
        return given

    def _account_changed(self, row: PushMessage) -> None:
        data = json.loads(row.payload)
        for consumer in tuple(self._users.get(data["user_id"], ())):
            consumer.account_changed(data["token_version"], data["role"])

    def _resync(self) -> None:
        for key, subscriptions in list(self._subscriptions.items()):
            body = unstored("resync", key, {"reason": "the server's log was restored"}, self.cursor or 0)
            self._deliver(tuple(subscriptions), self.cursor or 0, body, None)


def unstored(kind: str, destination: str, data: dict[str, Any], cursor: int) -> bytes:
    """The body of a message that is not in the log; its id is the newest routed one, so that resuming stays right."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = {"id": cursor, "type": kind, "at": at, "destination": client_destination(destination), "data": data}
    return json.dumps(body, separators=(",", ":")).encode()
