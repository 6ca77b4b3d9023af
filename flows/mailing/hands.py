"""One hand: a connection, and the mails it sends one after the other."""

import asyncio
import logging
from typing import NamedTuple, Protocol

from core.clock import utcnow
from core.emails.claims import Claimed
from core.emails.outcomes import End, Ended, in_words, judge, released
from flows.mailing.link import Away, Link
from flows.mailing.servers import MailServer
from flows.mailing.settling import Settler
from flows.mailing.smtp import Connection, Failed

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0
CLOSING = 421


class Ready(NamedTuple):
    """A claimed mail as it goes out."""

    mail: Claimed
    address: str
    smtputf8: bool
    content: bytes


class Shop(Protocol):
    """What the hands of one process share."""

    server: MailServer
    sender: str
    link: Link
    settler: Settler
    stopping: bool

    async def take(self) -> Ready:
        """The most urgent mail, once there is one."""

    async def turn(self) -> None:
        """Wait for a turn at the pace that is set."""

    def give_back(self, ready: Ready) -> None:
        """Leave a mail to another hand."""

    def away(self) -> None:
        """The server cannot be reached: nothing more is taken for now."""

    def others_connected(self, hand: "Hand") -> bool:
        """Whether another hand has an open connection."""

    def done(self, ready: Ready, ended: Ended | None) -> None:
        """A mail is out of this process's hands; with a verdict to be written, unless that is done."""


class Hand:
    """Takes mails from the shop and sends them, until cancelled or the shop is stopping."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._connection: Connection | None = None
        self._begun = False
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
            ready = await self._shop.take()
            self.busy = True
            try:
                waits = await self._send(ready)
            finally:
                self.busy, self.idle_since = False, asyncio.get_running_loop().time()
            if waits:
                await asyncio.sleep(self._pause)
                self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def hang_up(self) -> None:
        """Close the connection; it is opened again when needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _send(self, ready: Ready) -> bool:
        """Send a mail, or find out that it cannot be; whether this hand should rest, having left it to another."""
        mail, self._begun = ready.mail, False
        try:
            end = await self._attempt(ready)
        except asyncio.CancelledError:
            self._shop.done(ready, self._broken_off(mail, "the dispatcher was stopped", tried=False))
            raise
        except Away:
            self._shop.done(ready, released(mail.id, mail.owner))
            return False
        except Exception as error:
            log.exception("a mail could not be sent", extra={"email_id": str(mail.id)})
            self._shop.done(ready, self._broken_off(mail, f"an error of ours: {type(error).__name__}", tried=True))
            return False
        if not self.connected:
            self.hang_up()
        if end is not None and end.stage == "connect" and not self._shop.link.suspect:
            self._shop.give_back(ready)  # a server that only wants fewer connections costs no mail an attempt
            return True
        self._shop.done(ready, None if end is None else self._ended(mail, end))
        return False

    async def _attempt(self, ready: Ready) -> End | None:
        """How the attempt ended; None when the mail was stopped before DATA, which is written by then."""
        try:
            await self._shop.turn()
            connection = await self._enveloped(ready)
            if not await self._shop.settler.may_begin(ready.mail):
                await connection.reset()
                return None
            self._begun = True
            return End("dot", await connection.data(ready.content))
        except Failed as failed:
            return failed.end

    async def _enveloped(self, ready: Ready) -> Connection:
        """A connection on which this mail is at DATA. Raises Failed."""
        while True:
            connection = await self._connected()
            try:
                await connection.envelope(self._shop.sender, ready.address, ready.content, smtputf8=ready.smtputf8)
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

    def _ended(self, mail: Claimed, end: End) -> Ended:
        verdict = judge(end, mail.kind, mail.attempts + 1)
        if verdict.status != "sent":
            code = end.reply.code if end.reply else None
            seen = {"email_id": str(mail.id), "status": verdict.status, "stage": end.stage, "code": code}
            log.warning("a mail was not accepted", extra=seen)
        error = None if verdict.status == "sent" else in_words(end)
        return Ended(mail.id, mail.owner, verdict, error, tried=not self._begun)

    def _broken_off(self, mail: Claimed, why: str, *, tried: bool) -> Ended:
        """The verdict on a mail in whose middle this hand stopped: the connection is cut, so only the dot matters."""
        stage = self._connection.stage if self._connection and self._begun else "sender"
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        if stage != "dot" and not tried:
            return released(mail.id, mail.owner)
        return self._ended(mail, End(stage, why=why))
