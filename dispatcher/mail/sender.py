"""One hand: a connection, and the mails it sends one after the other."""

import asyncio
import logging
from typing import NamedTuple, Protocol

from core.clock import utcnow
from core.emails.queue.claims import ClaimedMail
from core.emails.queue.outcomes import AttemptResult, StateUpdate, describe, release, retry_policy
from dispatcher.mail.circuit_breaker import Away, Link
from dispatcher.mail.completer import Settler
from dispatcher.mail.server import MailServer
from dispatcher.mail.smtp import CLOSING, Connection, Envelope, Failed

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
LEAVE_SECONDS = 0.1
"""How old a leave to send may be when DATA begins; it is asked for while the mail before is on its way."""


class Ready(NamedTuple):
    """A claimed mail as it goes out."""

    mail: ClaimedMail
    envelope: Envelope
    content: bytes


class Ahead(NamedTuple):
    """The next mail of a long queue, for which leave is asked already: gives when it was got, or nothing."""

    ready: Ready
    leave: asyncio.Task[float | None]


class Shop(Protocol):
    """What the hands of one process share."""

    server: MailServer
    link: Link
    settler: Settler
    stopping: bool

    async def take(self) -> Ready:
        """The most urgent mail, once there is one."""

    def take_ahead(self) -> Ready | None:
        """The most urgent mail, if there is one that may go right behind another."""

    async def turn(self) -> None:
        """Wait for a turn at the pace that is set."""

    def give_back(self, ready: Ready) -> None:
        """Leave a mail to another hand."""

    def away(self) -> None:
        """The server cannot be reached: nothing more is taken for now."""

    def others_connected(self, hand: "Hand") -> bool:
        """Whether another hand has an open connection."""

    def done(self, ready: Ready, ended: StateUpdate | None) -> None:
        """A mail is out of this process's hands; with a verdict to be written, unless that is done."""


class Hand:
    """Takes mails from the shop and sends them, until cancelled or the shop is stopping."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._connection: Connection | None = None
        self._ahead: Ahead | None = None
        self._begun_at: float | None = None
        self._took = 0.0
        self._pause = 1.0
        self.busy = False
        self.idle_since = 0.0

    @property
    def connected(self) -> bool:
        """Whether its connection is open."""
        return self._connection is not None and self._connection.usable

    async def run(self) -> None:
        """Send one mail after the other."""
        while not self._shop.stopping:
            ready = self._ahead.ready if self._ahead else await self._shop.take()
            self.busy = True
            try:
                waits = await self._send(ready)
            finally:
                self.busy, self.idle_since = False, asyncio.get_running_loop().time()
            if waits:
                await asyncio.sleep(self._pause)
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._drop_ahead()

    def hang_up(self) -> None:
        """Close the connection; it is opened again when needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _send(self, ready: Ready) -> bool:
        """Send a mail, or find out that it cannot be; whether this hand should rest, having left it to another."""
        mail, self._begun_at = ready.mail, None
        try:
            end = await self._attempt(ready)
        except asyncio.CancelledError:
            mine = self._drop_ahead() is not ready
            if mine:
                self._shop.done(ready, self._broken_off(ready, "the dispatcher was stopped"))
            raise
        except Away:
            await self._know(ready)
            self._shop.done(ready, self._untried(ready))
            return False
        except Exception as error:
            log.exception("a mail could not be sent", extra={"email_id": str(mail.id)})
            await self._know(ready)
            self._shop.done(ready, self._broken_off(ready, f"an error of ours: {type(error).__name__}", tried=True))
            return False
        if not self.connected:
            self.hang_up()
        if isinstance(end, AttemptResult) and end.stage == "connect" and not self._shop.link.suspect:
            # a server that only wants fewer connections costs no mail an attempt
            if self._begun_at is None:
                self._shop.give_back(ready)
            else:
                self._shop.done(ready, self._untried(ready))
            return True
        self._shop.done(ready, self._ended(mail, end) if isinstance(end, AttemptResult) else end)
        return False

    async def _attempt(self, ready: Ready) -> AttemptResult | StateUpdate | None:
        """How the attempt ended; a verdict when there was none; None when that is written: it was stopped."""
        try:
            await self._shop.turn()
            connection = await self._enveloped(ready)
            if not await self._know(ready):
                self._begun_at = await self._leave(ready)
            if self._begun_at is None:
                await connection.reset()
                return None
            if asyncio.get_running_loop().time() - self._begun_at > LEAVE_SECONDS:
                await connection.reset()
                return self._untried(ready)
            if self._took < LEAVE_SECONDS:  # leave for the next would grow old while a slow server takes this one
                self._look_ahead()
            behind = self._ahead.ready.envelope if self._ahead else None
            loop = asyncio.get_running_loop()
            begun, patience = loop.time(), loop.call_later(LEAVE_SECONDS, self._leave_to_others)
            try:
                return AttemptResult("dot", await connection.data(ready.content, behind))
            finally:
                patience.cancel()
                self._took = loop.time() - begun
        except Failed as failed:
            await self._know(ready)
            return failed.end

    async def _leave(self, ready: Ready) -> float | None:
        """When DATA was allowed to begin; None when the mail was stopped."""
        allowed = await self._shop.settler.may_begin(ready.mail)
        return asyncio.get_running_loop().time() if allowed else None

    def _look_ahead(self) -> None:
        """Ask leave for the next mail of a long queue while this one is on its way."""
        if (ready := self._shop.take_ahead()) is not None:
            self._ahead = Ahead(ready, asyncio.create_task(self._leave(ready)))

    async def _know(self, ready: Ready) -> bool:
        """Whether leave was asked ahead for this mail; then what it came to is known from here on."""
        if self._ahead is None or self._ahead.ready is not ready:
            return False
        self._begun_at = await self._ahead.leave
        self._ahead = None
        return True

    def _leave_to_others(self) -> None:
        """The mail before takes long: the one ahead need not wait for it."""
        if self._ahead is not None and self._ahead.leave.done():
            self._drop_ahead()

    def _drop_ahead(self) -> Ready | None:
        """Give back the mail for which leave was asked ahead: it has not come to DATA."""
        if self._ahead is None:
            return None
        (ready, leave), self._ahead = self._ahead, None
        got = leave.done() and not leave.cancelled() and leave.exception() is None and leave.result() is not None
        leave.cancel()
        self._shop.done(ready, release(ready.mail.id, ready.mail.owner, attempts=-1 if got else 0))
        return ready

    async def _enveloped(self, ready: Ready) -> Connection:
        """A connection on which this mail is at DATA. Raises Failed."""
        while True:
            connection = await self._connected()
            try:
                await connection.envelope(ready.envelope)
            except Failed as failed:
                reply = failed.end.reply
                closing = failed.end.stage == "sender" and (reply is None or reply.code == CLOSING)
                if closing and connection.sent:
                    connection.sent = 0
                    continue  # it was closed while it was idle, or had carried its share: no word about this mail
                raise
            return connection

    async def _connected(self) -> Connection:
        if self._connection is not None and self._connection.usable:
            return self._connection
        self.hang_up()
        link = self._shop.link
        async with link.opening:
            if link.closed(utcnow()):
                raise Away
            try:
                self._connection = await Connection.open(self._shop.server)
            except Failed:
                if not self._shop.others_connected(self):
                    self._shop.away()
                raise
            if link.works():
                log.info("the mail server is back")
        self._pause = 1.0
        return self._connection

    def _ended(self, mail: ClaimedMail, end: AttemptResult) -> StateUpdate:
        verdict = retry_policy(end, mail.kind, mail.attempts + 1)
        if verdict.status != "sent":
            code = end.reply.code if end.reply else None
            seen = {"email_id": str(mail.id), "status": verdict.status, "stage": end.stage, "code": code}
            log.warning("a mail was not accepted", extra=seen)
        error = None if verdict.status == "sent" else describe(end)
        return StateUpdate(mail.id, mail.owner, verdict, error, attempts=1 if self._begun_at is None else 0)

    def _untried(self, ready: Ready) -> StateUpdate:
        return release(ready.mail.id, ready.mail.owner, attempts=0 if self._begun_at is None else -1)

    def _broken_off(self, ready: Ready, why: str, *, tried: bool = False) -> StateUpdate:
        """The verdict on a mail in whose middle this hand stopped: the connection is cut, so only the dot matters."""
        stage = self._connection.stage if self._connection and self._begun_at is not None else "sender"
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        if stage != "dot" and not tried:
            return self._untried(ready)
        return self._ended(ready.mail, AttemptResult(stage, why=why))
