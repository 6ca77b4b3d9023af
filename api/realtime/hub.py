"""The hub: one subscription to the relay a process, routed by destination in one task."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from broadcaster import Broadcast

from api.realtime.relay import LOG, RESTORED
from api.realtime.stomp import message
from core.events import ACCOUNTS
from core.models import Role
from core.outbox import Pushed, seen_as


class Consumer(Protocol):
    """Somebody with a socket, as the hub sees them."""

    def deliver(self, frame: str) -> None:
        """Put one frame into the outgoing queue."""

    def account_changed(self, token_version: int, role: Role) -> None:
        """The user's tokens of before ended."""


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

    def frame(self, message_id: int, body: bytes) -> str:
        """The MESSAGE that carries the body to this subscription."""
        ack = str(message_id) if self.explicit_ack else None
        return message(self.destination, self.id, message_id, body, ack=ack, version=self.version).decode()


class Hub:
    """Who is subscribed to what in this process, and the way there for every row of the log."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, dict[Subscription, None]] = {}
        self._users: dict[int, dict[Consumer, None]] = {}
        self.cursor: int | None = None
        """The newest id that was routed; None until the log was read once."""

    async def run(self, broadcast: Broadcast) -> None:
        """Route what the relay yields, for ever."""
        async with broadcast.subscribe(LOG) as batches:
            async for event in batches:  # type: ignore[union-attr]
                batch: Any = event.message if event else ()
                if isinstance(batch, int):
                    self.cursor = batch
                elif batch == RESTORED:
                    self._resync()
                else:
                    self.route(batch)

    def join(self, consumer: Consumer, user_id: int) -> None:
        """Let the consumer hear of what ends the user's tokens."""
        self._users.setdefault(user_id, {})[consumer] = None

    def leave(self, consumer: Consumer, user_id: int) -> None:
        """The consumer is gone."""
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

    def route(self, rows: Iterable[Pushed]) -> None:
        """Give each row to its destination's subscriptions, in order; a frame is built once for all that share it."""
        for row in rows:
            if row.destination == ACCOUNTS:
                self._account_changed(row)
            elif subscriptions := self._subscriptions.get(row.destination):
                self._deliver(tuple(subscriptions), row.id, row.body(), row.audience)
            self.cursor = row.id

    @staticmethod
    def _deliver(subscriptions: Sequence[Subscription], id_: int, body: bytes, audience: str | None) -> None:
        frames: dict[tuple[str | None, str, str, bool], str] = {}
        for subscription in subscriptions:
            if audience is not None and audience != subscription.role:
                continue
            alike = (subscription.id, subscription.destination, subscription.version, subscription.explicit_ack)
            frame = frames.get(alike)
            if frame is None:
                frame = frames[alike] = subscription.frame(id_, body)
            subscription.consumer.deliver(frame)

    def _account_changed(self, row: Pushed) -> None:
        data = json.loads(row.payload)
        for consumer in tuple(self._users.get(data["user_id"], ())):
            consumer.account_changed(data["token_version"], data["role"])

    def _resync(self) -> None:
        """Another database stands behind the log: everybody has to fetch the state anew."""
        for key, subscriptions in list(self._subscriptions.items()):
            body = unstored("resync", key, {"reason": "the server's log was restored"}, self.cursor or 0)
            self._deliver(tuple(subscriptions), self.cursor or 0, body, None)


def unstored(kind: str, destination: str, data: dict[str, Any], cursor: int) -> bytes:
    """The body of a message that is not in the log; its id is the newest routed one, so that resuming stays right."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps(
        {"id": cursor, "type": kind, "at": at, "destination": seen_as(destination), "data": data}
    ).encode()
