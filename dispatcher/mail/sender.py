"""One sender: a connection, and the mails it sends one after the other, in a thread of its own."""

import logging
import time
from concurrent.futures import CancelledError
from typing import NamedTuple

from core.db import transaction
from core.emails.queue import rate_limit
from core.emails.queue.claims import ClaimedMail
from core.emails.queue.outcomes import AttemptResult, StateUpdate, describe, release, retry_policy
from dispatcher.backoff import Backoff
from dispatcher.mail.circuit_breaker import CircuitBreaker, CircuitOpen
from dispatcher.mail.completer import Completer, Permit
from dispatcher.mail.send_queue import Ready, SendQueue
from dispatcher.mail.server import MailServer
from dispatcher.mail.smtp import CLOSING, Connection, Failed, LoginRefused

log = logging.getLogger(__name__)

IDLE_SECONDS = 30.0
"""How long a connection stays open with nothing to send."""
LONGEST_PAUSE = 60.0
PERMIT_SECONDS = 0.1
"""How old a permit may be when DATA begins; it is asked for while the mail before is on its way."""


class Stopped(Exception):
    """The dispatcher is stopping: what has not come to DATA does not come to it any more."""


class Ahead(NamedTuple):
    """The next mail of a long queue, for which a permit is asked already."""

    ready: Ready
    permit: Permit


class Sender:
    """Takes mails from the queue and sends them, until the queue is closed."""

    def __init__(
        self, server: MailServer, queue: SendQueue, breaker: CircuitBreaker, completer: Completer, *, rate: float = 0
    ) -> None:
        self._server, self._queue, self._breaker, self._completer = server, queue, breaker, completer
        self._rate = rate
        self._connection: Connection | None = None
        self._current: Ready | None = None
        self._permit: Permit | None = None
        self._ahead: Ahead | None = None
        self._aborted = False
        self._took = 0.0
        self._pause = 1.0

    @property
    def busy(self) -> bool:
        """Whether a mail is being sent."""
        return self._current is not None

    def run(self) -> None:
        """Send one mail after the other."""
        while (ready := self._next()) is not None:
            self._current = ready
            try:
                pauses = self._send(ready)
            finally:
                self._current = None
            if pauses:
                self._queue.closed.wait(self._pause)
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
        self._requeue_ahead()
        self._hang_up()

    def abort(self) -> None:
        """By another thread: end what is being sent, wherever it is."""
        self._aborted = True
        connection, permit, ahead = self._connection, self._permit, self._ahead
        for asked in (permit, ahead.permit if ahead else None):
            if asked is not None:
                asked.cancel()
        if connection is not None:
            connection.abort()

    def abandon(self) -> None:
        """By another thread, after ``abort`` did not help: what waits for a name server or a connection is requeued.

        Its thread may still say the same, and nothing else: it does not get past connecting any more.
        """
        ready, connection = self._current, self._connection
        if ready is not None and (connection is None or connection.stage == "connect"):
            self._done(ready, self._untried(ready))

    def _next(self) -> Ready | None:
        if self._queue.closed.is_set():
            return None
        if self._ahead is not None:
            (ready, self._permit), self._ahead = self._ahead, None
            return ready
        self._permit = None
        while (taken := self._queue.take(IDLE_SECONDS)) is None and not self._queue.closed.is_set():
            self._hang_up()
        return taken

    def _send(self, ready: Ready) -> bool:
        """Send a mail, or find out that it cannot be; whether to pause, having left it to another sender."""
        try:
            end = self._attempt(ready)
        except (Stopped, CircuitOpen):
            self._done(ready, self._untried(ready))
            return False
        except LoginRefused:
            self._done(ready, self._untried(ready))
            return not self._breaker.tripped
        except Exception as error:
            log.exception("a mail could not be sent", extra={"email_id": str(ready.mail.id)})
            stage = self._connection.stage if self._connection and self._permitted() else "sender"
            if self._connection is not None:
                self._connection.close()  # in whatever state it is
            self._done(
                ready, self._result(ready.mail, AttemptResult(stage, why=f"an error of ours: {type(error).__name__}"))
            )
            return False
        if self._connection is not None and not self._connection.usable:
            self._hang_up()
        if isinstance(end, AttemptResult) and self._aborted and end.reply is None:
            stopped = end._replace(why="the dispatcher was stopped")
            self._done(ready, self._result(ready.mail, stopped) if end.stage == "dot" else self._untried(ready))
        elif isinstance(end, AttemptResult) and end.stage == "connect" and not self._breaker.tripped:
            # a server that only wants fewer connections costs no mail an attempt
            if self._permitted():
                self._done(ready, self._untried(ready))
            else:
                self._queue.put(ready)
            return True
        else:
            self._done(ready, self._result(ready.mail, end) if isinstance(end, AttemptResult) else end)
        return False

    def _attempt(self, ready: Ready) -> AttemptResult | StateUpdate | None:
        """An AttemptResult when the mail was tried, a StateUpdate when it was not, None when it was stopped, which is
        written already.
        """
        try:
            self._take_turn()
            if self._permit is not None:
                self._permitted_at(ready)  # asked ahead; meanwhile the replies to its envelope come
            connection = self._at_data(ready)
            permitted_at = self._permitted_at(ready)
            if permitted_at is None:
                connection.reset()
                return None
            if time.monotonic() - permitted_at > PERMIT_SECONDS:
                connection.reset()
                return self._untried(ready)
            if self._took < PERMIT_SECONDS:  # the permit for the next would grow old while a slow server takes this one
                self._ask_ahead()
            behind = self._ahead.ready.envelope if self._ahead else None
            began = time.monotonic()
            try:
                return AttemptResult("dot", connection.deliver(ready.content, behind, slow_after=PERMIT_SECONDS))
            finally:
                self._took = time.monotonic() - began
        except Failed as failed:
            if isinstance(failed, LoginRefused):
                raise
            return failed.end

    def _take_turn(self) -> None:
        """Wait for a turn at the pace of EMAIL_RATE."""
        backoff = Backoff()
        while self._rate:
            try:
                with transaction() as db:
                    seconds = rate_limit.take_turn(db, self._rate)
            except Exception:
                if backoff.first:
                    log.exception("no turn could be taken; it is tried again")
                again, seconds = True, backoff.delay()
            else:
                again = False
            if self._queue.closed.wait(seconds):
                raise Stopped
            if not again:
                return

    def _at_data(self, ready: Ready) -> Connection:
        """A connection on which this mail is at DATA. Raises Failed."""
        while True:
            connection = self._connected()
            try:
                connection.envelope(ready.envelope)
            except Failed as failed:
                reply = failed.end.reply
                closing = failed.end.stage == "sender" and (reply is None or reply.code == CLOSING)
                if closing and connection.sent and not self._aborted:
                    continue  # it was closed while it was idle, or had carried its share: no word about this mail
                raise
            return connection

    def _connected(self) -> Connection:
        if self._connection is not None and self._connection.usable:
            return self._connection
        self._hang_up()
        connection = self._connection = Connection(self._server, self._requeue_slow_ahead)
        if self._aborted:
            raise Stopped
        self._breaker.connect(connection)
        self._pause = 1.0
        return connection

    def _permitted_at(self, ready: Ready) -> float | None:
        """Since when DATA may begin; None when the mail was stopped."""
        if self._permit is None:
            self._permit = self._completer.request_permit(ready.mail)
        if self._aborted:
            self._permit.cancel()
        try:
            return self._permit.result()
        except CancelledError:
            raise Stopped from None

    def _permitted(self) -> bool:
        """Whether the mail being sent has a permit: what was asked is waited for, since it counts the attempt."""
        return _granted(self._permit)

    def _ask_ahead(self) -> None:
        """Ask a permit for the next mail of a long queue while this one is on its way."""
        if not self._rate and not self._breaker.tripped and (ready := self._queue.take_ahead()) is not None:
            self._ahead = Ahead(ready, self._completer.request_permit(ready.mail))
            if self._aborted:
                self._ahead.permit.cancel()

    def _requeue_slow_ahead(self) -> None:
        """The mail before takes long: the one ahead need not wait for it."""
        if self._ahead is not None and self._ahead.permit.done():
            self._requeue_ahead()

    def _requeue_ahead(self) -> None:
        """Requeue the mail for which a permit was asked ahead: it has not come to DATA."""
        if self._ahead is not None:
            (ready, permit), self._ahead = self._ahead, None
            self._done(ready, release(ready.mail.id, ready.mail.owner, attempts=-1 if _granted(permit) else 0))

    def _hang_up(self) -> None:
        """Close the connection; another is opened when needed."""
        if self._connection is not None:
            self._connection.hang_up()
            self._breaker.forget(self._connection)
            self._connection = None

    def _done(self, ready: Ready, result: StateUpdate | None) -> None:
        """A mail is no longer this sender's; with a result to be written, unless that is done."""
        if result is not None:
            self._completer.complete(result)
        self._queue.done(ready)

    def _result(self, mail: ClaimedMail, end: AttemptResult) -> StateUpdate:
        decision = retry_policy(end, mail.kind, mail.attempts + 1)
        if decision.status != "sent":
            code = end.reply.code if end.reply else None
            seen = {"email_id": str(mail.id), "status": decision.status, "stage": end.stage, "code": code}
            log.warning("a mail was not accepted", extra=seen)
        error = None if decision.status == "sent" else describe(end)
        return StateUpdate(mail.id, mail.owner, decision, error, attempts=0 if self._permitted() else 1)

    def _untried(self, ready: Ready) -> StateUpdate:
        return release(ready.mail.id, ready.mail.owner, attempts=-1 if self._permitted() else 0)


def _granted(permit: Permit | None) -> bool:
    try:
        return permit is not None and permit.result() is not None
    except CancelledError:
        return False
