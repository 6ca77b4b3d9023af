"""The mailer: takes what is due and has it sent over a few connections that stay open."""

import asyncio
import logging
import os
import secrets
import socket
from datetime import datetime, timedelta
from types import TracebackType
from typing import NamedTuple, Self
from uuid import UUID

from core.clock import utcnow
from core.db import transaction
from core.emails import addresses, mime
from core.emails.queue import claims
from core.emails.queue.claims import LEASE, ClaimedMail
from core.emails.queue.outcomes import Decision, StateUpdate, UpdatedMail, release
from core.settings import Settings
from dispatcher.backoff import Backoff
from dispatcher.mail.circuit_breaker import Link
from dispatcher.mail.completer import Settler
from dispatcher.mail.desk import tell_admins
from dispatcher.mail.sender import Hand, Ready
from dispatcher.mail.server import MailServer
from dispatcher.mail.smtp import Envelope
from dispatcher.mail.stats import Tally

log = logging.getLogger(__name__)

IDLE_SECONDS = 30.0
"""How long a connection stays open with nothing to send."""
LEAST, MOST = 10, 100
"""Mails of one claim: about as many as go in a second, so that what is urgent does not wait behind them."""
TIDY_SECONDS = 5.0
SOON = timedelta(seconds=0.5)
STOP_SECONDS, WRITE_SECONDS = 0.8, 0.4
"""When we are to stop: for mails that are being sent, then for writing what became of them."""


class Found(NamedTuple):
    """What a look found: mails to send, what was stopped, what cannot be sent, and whether or when there is more."""

    ready: list[Ready]
    stopped: list[str]
    unwritable: list[StateUpdate]
    lost: list[UpdatedMail]
    more: bool
    due: datetime | None


class Mailer:
    """Sends what is due whenever ``look`` is called; open it with ``async with``. Any number may run, anywhere."""

    def __init__(self, settings: Settings, *, server: MailServer | None = None, tally: Tally | None = None) -> None:
        self.server = server or MailServer.of(settings)
        self._from = addresses.sender(settings.mail_from).address
        self.link = Link()
        self.tally = tally or Tally()
        self.stopping = False
        self._rate, self._concurrency = settings.email_rate, settings.email_concurrency
        self._name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._claims = 0
        self._queue: asyncio.PriorityQueue[tuple[tuple[int, datetime], int, Ready]] = asyncio.PriorityQueue()
        self._number = self._taken = 0
        self._held: dict[UUID, str] = {}
        self._changed = asyncio.Event()
        self._batch, self._claimed_at, self._tidied_at, self._drained = LEAST, 0.0, 0.0, True
        self._looking: asyncio.Task[Found] | None = None

    async def __aenter__(self) -> Self:
        self._hands = [Hand(self) for _ in range(self._concurrency)]
        self.settler = Settler(hands=self._busy, on_written=self.tally.written, on_stopped=self.tally.add)
        self._sending = [asyncio.create_task(hand.run(), name="send mails") for hand in self._hands]
        self._keeping = asyncio.create_task(self._keep(), name="hold mails")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is being sent gets a moment to end; all else goes back into the queue."""
        self.stopping = True
        self._keeping.cancel()
        self._empty()
        busy = {task for hand, task in zip(self._hands, self._sending, strict=True) if hand.busy}
        waiting: set[asyncio.Task[object]] = {*busy, *([self._looking] if self._looking else [])}
        for task in set(self._sending) - busy:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting, timeout=STOP_SECONDS)
        if self._looking is not None and self._looking.done() and not self._looking.exception():
            self._receive(self._looking.result())
            self._empty()
        for task in busy:
            task.cancel()
        await asyncio.gather(*self._sending, self._keeping, return_exceptions=True)
        for hand in self._hands:
            hand.hang_up()
        await self.settler.close(WRITE_SECONDS)

    @property
    def busy(self) -> bool:
        """Whether mails are in our hands."""
        return bool(self._held)

    async def look(self, now: datetime | None = None) -> datetime | None:
        """Take what is due and have it sent, while there is room; when to look again, None: nothing is planned."""
        await self._room()
        if self.link.closed(utcnow()):
            return self.link.closed_until
        loop = asyncio.get_running_loop()
        limit = 1 if self.link.suspect else self._adapted(loop.time())
        tidy = self._drained or loop.time() - self._tidied_at >= TIDY_SECONDS
        self._claims += 1
        work = asyncio.to_thread(
            find,
            sender=self._from,
            owner=f"{self._name}/{self._claims}",
            now=now or utcnow(),
            limit=limit,
            tidy=tidy,
        )
        self._looking = asyncio.create_task(work)
        # shielded: a claim that was made must be known, to be given back
        found = await asyncio.shield(self._looking)
        self._looking = None
        if tidy:
            self._tidied_at = loop.time()
        self._receive(found)
        self._drained = not found.more
        if found.more:
            return utcnow()
        # what is due and was not taken is locked by somebody: it is looked at again in a moment
        return None if found.due is None else max(found.due, utcnow() + SOON)

    async def drain(self, now: datetime) -> None:
        """Send all that is due at ``now``, and wait until it is done or the server cannot be reached."""
        taken = 1
        while taken and not self.link.suspect:
            before = self._taken
            await self.look(now)
            while self.busy and (self._drained or self.link.suspect):
                await self._change()
            # what was given back is due again once that is written
            await self.settler.all_written()
            taken = self._taken - before

    def _adapted(self, at: float) -> int:
        """How many to claim, by how long the last full claim took to be sent."""
        if not self._drained:
            took = at - self._claimed_at
            self._batch = min(MOST, self._batch * 2) if took < 0.5 else self._batch
            self._batch = max(LEAST, self._batch // 2) if took > 2 else self._batch
        self._claimed_at = at
        return self._batch

    async def _room(self) -> None:
        while self._queue.qsize() > self._batch // 2 or (self.link.suspect and self.busy):
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _receive(self, found: Found) -> None:
        self.tally.found(len(found.ready) + len(found.stopped) + len(found.unwritable))
        for outcome in found.stopped:
            self.tally.add(outcome)
        for mail in found.lost:
            self.tally.written(mail)
        for ended in found.unwritable:
            self.settler.end(ended)
        self._taken += len(found.ready)
        for ready in found.ready:
            self._held[ready.mail.id] = ready.mail.owner
            self.give_back(ready)

    async def take(self) -> Ready:
        """The most urgent mail, once there is one."""
        ready = (await self._queue.get())[2]
        self._changed.set()
        return ready

    def take_ahead(self) -> Ready | None:
        """The most urgent mail, if there is one that may go right behind another."""
        if self.stopping or self._rate or self.link.suspect or self._queue.empty():
            return None
        self._changed.set()
        return self._queue.get_nowait()[2]

    async def turn(self) -> None:
        """Wait for a turn at the pace of EMAIL_RATE."""
        backoff = Backoff()
        while self._rate:
            try:
                wait = await asyncio.to_thread(next_turn, self._rate)
            except Exception:
                if backoff.first:
                    log.exception("no turn could be taken; it is tried again")
                await backoff.sleep()
            else:
                await asyncio.sleep(wait)
                return

    def give_back(self, ready: Ready) -> None:
        """Leave a mail to the next free hand."""
        self._number += 1
        self._queue.put_nowait((claims.urgency(ready.mail), self._number, ready))

    def away(self) -> None:
        """The server cannot be reached: what is not being sent goes back, and little is taken until it answers."""
        if self.link.failed(utcnow()):
            log.warning("the mail server cannot be reached; mails wait", extra={"server": self.server.host})
        self._empty()

    def others_connected(self, hand: Hand) -> bool:
        """Whether another hand has an open connection."""
        return any(other.connected for other in self._hands if other is not hand)

    def done(self, ready: Ready, ended: StateUpdate | None) -> None:
        """A mail is out of our hands; with a verdict to be written, unless that is done."""
        if self._held.get(ready.mail.id) == ready.mail.owner:
            del self._held[ready.mail.id]
        if ended is not None:
            self.settler.end(ended)
        self._changed.set()

    def _busy(self) -> int:
        return sum(hand.busy for hand in self._hands)

    def _empty(self) -> None:
        while not self._queue.empty():
            _, _, ready = self._queue.get_nowait()
            self.done(ready, release(ready.mail.id, ready.mail.owner))

    async def _keep(self) -> None:
        """Renew the leases of what is in our hands, and close connections that nobody needs."""
        loop, backoff = asyncio.get_running_loop(), Backoff()
        renewed = loop.time()
        while True:
            await asyncio.sleep(1)
            for hand in self._hands:
                if not hand.busy and hand.idle_since < loop.time() - IDLE_SECONDS:
                    hand.hang_up()
            if loop.time() - renewed < LEASE.total_seconds() / 3:
                continue
            try:
                await asyncio.to_thread(renew, list(self._held.items()))
                renewed = loop.time()
                backoff.reset()
            except Exception:
                if backoff.first:
                    log.exception("leases of mails could not be renewed; it is tried again")
                await backoff.sleep()


def find(*, sender: str, owner: str, now: datetime, limit: int, tidy: bool) -> Found:
    """Claim what is due, and write each mail as it goes out."""
    with transaction() as db:
        lost = claims.rescue(db, now=now) if tidy else []
        for mail in lost:
            tell_admins(db, mail)
        batch = claims.claim(db, owner=owner, now=now, limit=limit)
        due = None if batch.more else claims.next_due(db)
    written = [written_out(mail, sender) for mail in batch.mails]
    ready = [one for one in written if isinstance(one, Ready)]
    unwritable = [one for one in written if isinstance(one, StateUpdate)]
    return Found(ready, batch.stopped, unwritable, lost, batch.more, due)


def written_out(mail: ClaimedMail, sender: str) -> Ready | StateUpdate:
    """The mail as it goes out; one that cannot be written never will be."""
    try:
        to = addresses.envelope(mail.to_address)
        content = mime.build(mail, mail.files)
    except Exception as error:
        log.exception("a mail could not be written", extra={"email_id": str(mail.id)})
        return StateUpdate(
            mail.id, mail.owner, Decision("dead"), f"could not be written: {type(error).__name__}", attempts=1
        )
    # what it was written from is not needed any more, and may be large
    slim = mail._replace(text_body=None, html_body=None, headers={}, files=())
    return Ready(slim, Envelope(sender, to.address, len(content), content.isascii(), to.smtputf8), content)


def next_turn(rate: float) -> float:
    """Seconds until this mail may go."""
    with transaction() as db:
        return claims.take_turn(db, rate)


def renew(held: list[tuple[UUID, str]]) -> None:
    """Hold these mails for another lease."""
    if held:
        with transaction() as db:
            claims.renew(db, held)
