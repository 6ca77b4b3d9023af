"""Between the senders and the database: results and permits to send, many in one transaction.

While one transaction is under way, what comes waits for the next; so the busier the senders are, the fewer commits a
mail costs, and nobody waits when they are not.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core.clock import utcnow
from core.db import transaction
from core.emails.queue import claims, outcomes, pipelined
from core.emails.queue.claims import ClaimedMail
from core.emails.queue.outcomes import StateUpdate, UpdatedMail
from core.models import Email
from core.notifications.system import notify_mail_trouble
from core.settings import settings
from dispatcher.backoff import Backoff
from dispatcher.mail.threads import run_in_thread

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.02
LOCKED_SECONDS = 0.05
"""After how long to try again a row that somebody else had locked."""

Claim = tuple[UUID, str]
"""A mail and the name under which its lease is held."""
Permit = Future[float | None]
"""Since when (by ``time.monotonic``) DATA may begin; None: the mail was stopped. A grant counts its attempt."""


class Completed(NamedTuple):
    """What one transaction did, by mail: permits or what stopped it; new states; and what has to be asked again."""

    permits: dict[UUID, str]
    updated: list[UpdatedMail]
    locked: set[UUID]


class Completer:
    """Writes results and gets permits, in a thread, until closed. While PostgreSQL cannot be reached they wait."""

    def __init__(
        self, *, busy: Callable[[], int], on_completed: Callable[[list[UpdatedMail], list[str]], None]
    ) -> None:
        """``busy`` says how many senders may ask for a permit soon; ``on_completed`` gets the mails whose state was
        written and the states of those that were stopped, in the completer's thread."""
        self._busy, self._on_completed = busy, on_completed
        self._requests: dict[Claim, Permit] = {}
        self._results: dict[Claim, StateUpdate] = {}
        self._changed = threading.Condition()
        self._gathering = self._closing = self._given_up = False
        self._thread = run_in_thread(self._run, "complete mails")

    def request_permit(self, mail: ClaimedMail) -> Permit:
        """Ask whether DATA may begin. Once granted, the attempt is counted, and a loss is uncertain."""
        permit: Permit = Future()
        with self._changed:
            self._requests[mail.id, mail.owner] = permit
            if not self._gathering or len(self._requests) >= self._busy():
                self._changed.notify()
        return permit

    def complete(self, result: StateUpdate) -> None:
        """Have a result written."""
        with self._changed:
            self._results[result.id, result.owner] = result
            if not self._gathering:
                self._changed.notify()

    @property
    def pending(self) -> bool:
        """Whether a result is still to be written."""
        return bool(self._results)

    async def close(self, within: float) -> None:
        """Write what is left, for at most this many seconds; what cannot be written is left to its lease."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.wait([self._thread], timeout=within)
        with self._changed:
            self._given_up = True
            self._changed.notify()
            if self._results:
                log.warning("mails were left to their leases", extra={"mails": len(self._results)})

    def _run(self) -> None:
        database = Database()
        try:
            self._complete_all(database)
        finally:
            database.close()

    def _complete_all(self, database: "Database") -> None:
        backoff, took = Backoff(), GATHER_SECONDS  # at first senders are connecting, one after the other
        while (batch := self._gather(min(took, GATHER_SECONDS))) is not None:
            requests, results = batch
            began = time.monotonic()
            try:
                completed = database.complete(list(requests), list(results.values()))
            except Exception:
                if backoff.first:
                    log.exception("mails wait for the database; it is tried again")
                self._pause(backoff.delay())
                continue
            backoff.reset()
            took = time.monotonic() - began
            self._answer(requests, results, completed)
            if completed.locked:
                self._pause(LOCKED_SECONDS)

    def _gather(self, seconds: float) -> tuple[dict[Claim, Permit], dict[Claim, StateUpdate]] | None:
        """What is to be done next, once there is something; None at the end.

        The senders that are at work are waited for as long as a commit takes: one for all is sooner than two.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._results or self._closing)
            self._gathering = True
            self._changed.wait_for(lambda: self._closing or len(self._requests) >= self._busy(), seconds)
            self._gathering = False
            if self._given_up or (self._closing and not self._results and not self._requests):
                return None
            for claim in [claim for claim, permit in self._requests.items() if permit.cancelled()]:
                del self._requests[claim]
            # a mail that was lost and claimed anew is asked for by one claim at a time: the answer names the mail alone
            asked = {claim[0]: claim for claim in self._requests}.values()
            return {claim: self._requests[claim] for claim in asked}, dict(self._results)

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._given_up, seconds)

    def _answer(self, requests: dict[Claim, Permit], results: dict[Claim, StateUpdate], completed: Completed) -> None:
        """Pass on what was done; what was locked stays, to be asked again."""
        now, stopped = time.monotonic(), []
        with self._changed:
            for claim, result in results.items():
                if claim[0] not in completed.locked and self._results.get(claim) is result:
                    del self._results[claim]
            for claim in requests:
                if claim[0] in completed.permits or claim[0] not in completed.locked:
                    self._requests.pop(claim, None)
            if self._given_up:
                return
        for (id_, _), permit in requests.items():
            status = completed.permits.get(id_)
            if status is None and id_ in completed.locked:
                continue
            if status not in (None, "sending"):
                stopped.append(str(status))
            if permit.set_running_or_notify_cancel():
                permit.set_result(now if status == "sending" else None)
        self._on_completed(completed.updated, stopped)


class Database:
    """Where results are written and permits given: over a connection that is kept, when that is all there is to do."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None

    def complete(self, requests: Sequence[Claim], results: Sequence[StateUpdate]) -> Completed:
        """Write the results and give permits, in one transaction; not both when something fails."""
        if not requests and not results:
            return Completed({}, [], set())
        if not pipelined.can_pipeline(results):
            return complete(requests, results)
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    settings().database(), connect_timeout=5, autocommit=True, options="-c timezone=UTC"
                )
            updated, permits = pipelined.complete(self._connection, requests, results)
        except BaseException:
            self.close()
            raise
        return Completed(permits, updated, still_locked(requests, results, updated, permits))

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def complete(requests: Sequence[Claim], results: Sequence[StateUpdate]) -> Completed:
    """The same with all that results may need: admins notified, addresses suppressed, dispatchers woken."""
    now = utcnow()
    with transaction() as db:
        updated = outcomes.complete(db, results, now=now)
        permits = claims.acquire_permits(db, requests)
        for mail in updated:
            notify_admins(db, mail)
    return Completed(permits, updated, still_locked(requests, results, updated, permits))


def still_locked(
    requests: Sequence[Claim], results: Sequence[StateUpdate], updated: Sequence[UpdatedMail], permits: dict[UUID, str]
) -> set[UUID]:
    """What was passed over because somebody else had locked it."""
    done = permits.keys() | {mail.id for mail in updated}
    left = [
        claim for claim in {(result.id, result.owner) for result in results}.union(requests) if claim[0] not in done
    ]
    if not left:
        return set()
    with transaction() as db:
        return outcomes.still_held(db, left)


def notify_admins(db: Session, mail: UpdatedMail) -> None:
    """Have a mail that is dead or uncertain seen by people; that this fails must not keep other mails from going."""
    if mail.status not in ("dead", "uncertain"):
        return
    try:
        with db.begin_nested():
            notify_mail_trouble(db, db.get_one(Email, mail.id), now=utcnow())
    except OperationalError:
        raise
    except Exception:
        log.exception("admins could not be notified of a mail", extra={"email_id": str(mail.id)})
