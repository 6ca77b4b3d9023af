"""The mailer: takes what is due and has it sent over a few connections that stay open."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

from core.clock import utcnow
from core.db import transaction
from core.emails import addresses, mime
from core.emails.queue import claims
from core.emails.queue.claims import LEASE, ClaimedMail
from core.emails.queue.outcomes import Decision, StateUpdate, UpdatedMail, release
from core.settings import Settings
from dispatcher.backoff import Backoff
from dispatcher.mail.circuit_breaker import CircuitBreaker
from dispatcher.mail.completer import Completer, notify_admins
from dispatcher.mail.send_queue import Envelope, Ready, SendQueue
from dispatcher.mail.sender import Sender
from dispatcher.mail.server import MailServer
from dispatcher.mail.stats import SendStats
from dispatcher.mail.threads import run_in_thread

log = logging.getLogger(__name__)

LEAST, MOST = 10, 100
"""Mails of one claim: about as many as go in a second, so that what is urgent does not wait behind them."""
RESCUE_SECONDS, RENEW_SECONDS = 5.0, LEASE.total_seconds() / 3
SOON = timedelta(seconds=0.5)
STOP_SECONDS, ABORT_SECONDS, WRITE_SECONDS = 0.8, 0.1, 0.4
"""When we are to stop: for mails that are being sent, for senders that were aborted, for writing what became of all."""


class Found(NamedTuple):
    """What was found due: mails to send, what was stopped, what cannot be sent, and whether or when there is more."""

    ready: list[Ready]
    stopped: list[str]
    unwritable: list[StateUpdate]
    lost: list[UpdatedMail]
    more: bool
    due: datetime | None


class Mailer:
    """Sends what is due whenever ``fetch_due`` is called; open it with ``async with``. Any number may run, anywhere."""

    def __init__(self, settings: Settings, *, server: MailServer | None = None, stats: SendStats | None = None) -> None:
        self._server = server or MailServer.of(settings)
        self._from = addresses.sender(settings.mail_from).address
        self._stats = stats or SendStats()
        self._rate, self._concurrency = settings.email_rate, settings.email_concurrency
        self._name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._claims = self._taken = 0
        self._queue = SendQueue(self._notify, senders=self._concurrency)
        self._breaker = CircuitBreaker(self._release_queued)
        self._changed, self._waits = asyncio.Event(), False
        self._batch, self._claimed_at, self._rescued_at, self._drained = LEAST, 0.0, 0.0, True
        self._fetching: asyncio.Task[Found] | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._completer = Completer(busy=self._busy, on_completed=self._completed)
        self._senders = [
            Sender(self._server, self._queue, self._breaker, self._completer, rate=self._rate)
            for _ in range(self._concurrency)
        ]
        self._sending = {run_in_thread(sender.run, "send mails"): sender for sender in self._senders}
        self._renewing = asyncio.create_task(self._renew(), name="renew leases of mails")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What is being sent gets a moment to end; all else is requeued."""
        self._renewing.cancel()
        self._queue.close()
        self._release_queued()
        waited_for: set[asyncio.Future[Any]] = {*self._sending, *([self._fetching] if self._fetching else [])}
        await asyncio.wait(waited_for, timeout=STOP_SECONDS)
        if self._fetching is not None and self._fetching.done() and not self._fetching.exception():
            self._receive(self._fetching.result())
        unfinished = {thread: sender for thread, sender in self._sending.items() if not thread.done()}
        if unfinished:
            for sender in unfinished.values():
                sender.abort()
            _, stuck = await asyncio.wait(unfinished, timeout=ABORT_SECONDS)
            for thread in stuck:
                unfinished[thread].abandon()
                thread.cancel()
        self._release_queued()
        await asyncio.gather(self._renewing, return_exceptions=True)
        await self._completer.close(WRITE_SECONDS)

    @property
    def busy(self) -> bool:
        """Whether mails are here."""
        return not self._queue.empty

    async def fetch_due(self, now: datetime | None = None) -> datetime | None:
        """Take what is due and have it sent, while there is room; when to call again, None: nothing is planned."""
        await self._until(self._has_room)
        if self._breaker.is_open(utcnow()):
            return self._breaker.open_until
        limit = 1 if self._breaker.tripped else self._adapted(self._loop.time())
        rescue = self._drained or self._loop.time() - self._rescued_at >= RESCUE_SECONDS
        self._claims += 1
        work = asyncio.to_thread(
            find,
            sender=self._from,
            owner=f"{self._name}/{self._claims}",
            now=now or utcnow(),
            limit=limit,
            rescue=rescue,
        )
        self._fetching = asyncio.create_task(work)
        # shielded: a claim that was made must be known, to be requeued
        found = await asyncio.shield(self._fetching)
        self._fetching = None
        if rescue:
            self._rescued_at = self._loop.time()
        self._receive(found)
        self._drained = not found.more
        if found.more:
            return utcnow()
        # what is due and was not taken is locked by somebody: it is asked for again in a moment
        return None if found.due is None else max(found.due, utcnow() + SOON)

    async def drain(self, now: datetime) -> None:
        """Send all that is due at ``now``, and wait until it is done or the server cannot be used."""
        taken = 1
        while taken and not self._breaker.tripped:
            before = self._taken
            await self.fetch_due(now)
            await self._until(lambda: self._queue.empty or not (self._drained or self._breaker.tripped))
            # what was requeued is due again once that is written
            await self._until(lambda: not self._completer.pending)
            taken = self._taken - before

    def _adapted(self, at: float) -> int:
        """How many to claim, by how long the last full claim took to be sent."""
        if not self._drained:
            took = at - self._claimed_at
            self._batch = min(MOST, self._batch * 2) if took < 0.5 else self._batch
            self._batch = max(LEAST, self._batch // 2) if took > 2 else self._batch
        self._claimed_at = at
        self._queue.low = self._batch // 2
        return self._batch

    def _has_room(self) -> bool:
        return self._queue.depth <= self._queue.low and not (self._breaker.tripped and self.busy)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait until this is so; whichever thread brings it about calls ``_notify`` afterwards."""
        while True:
            self._changed.clear()
            self._waits = True
            if condition():
                return
            await self._changed.wait()

    def _notify(self) -> None:
        """By any thread: something changed that ``_until`` may wait for."""
        if self._waits:
            self._waits = False
            self._loop.call_soon_threadsafe(self._changed.set)

    def _completed(self, updated: list[UpdatedMail], stopped: list[str]) -> None:
        """By the completer's thread."""
        self._loop.call_soon_threadsafe(self._record, updated, stopped)

    def _record(self, updated: list[UpdatedMail], stopped: list[str]) -> None:
        for mail in updated:
            self._stats.updated(mail)
        for outcome in stopped:
            self._stats.add(outcome)
        self._changed.set()

    def _receive(self, found: Found) -> None:
        self._stats.found(len(found.ready) + len(found.stopped) + len(found.unwritable))
        self._record(found.lost, found.stopped)
        for result in found.unwritable:
            self._completer.complete(result)
        self._taken += len(found.ready)
        for ready in found.ready:
            self._queue.put(ready)

    def _release_queued(self) -> None:
        """By any thread: what no sender has is requeued, for whoever claims it next."""
        for ready in self._queue.take_all():
            self._completer.complete(release(ready.mail.id, ready.mail.owner))
            self._queue.done(ready)

    def _busy(self) -> int:
        return sum(sender.busy for sender in self._senders)

    async def _renew(self) -> None:
        """Renew the leases of the mails that are here."""
        backoff, seconds = Backoff(), RENEW_SECONDS
        while True:
            await asyncio.sleep(seconds)
            try:
                await asyncio.to_thread(renew, self._queue.held())
            except Exception:
                if backoff.first:
                    log.exception("leases of mails could not be renewed; it is tried again")
                seconds = backoff.delay()
            else:
                backoff.reset()
                seconds = RENEW_SECONDS


def find(*, sender: str, owner: str, now: datetime, limit: int, rescue: bool) -> Found:
    """Claim what is due, and write each mail as it goes out."""
    with transaction() as db:
        lost = claims.rescue(db, now=now) if rescue else []
        for mail in lost:
            notify_admins(db, mail)
        batch = claims.claim(db, owner=owner, now=now, limit=limit)
        due = None if batch.more else claims.next_due(db)
    rendered = [render(mail, sender) for mail in batch.mails]
    ready = [one for one in rendered if isinstance(one, Ready)]
    unwritable = [one for one in rendered if isinstance(one, StateUpdate)]
    return Found(ready, batch.stopped, unwritable, lost, batch.more, due)


def render(mail: ClaimedMail, sender: str) -> Ready | StateUpdate:
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


def renew(held: list[tuple[UUID, str]]) -> None:
    """Hold these mails for another lease."""
    if held:
        with transaction() as db:
            claims.renew(db, held)
