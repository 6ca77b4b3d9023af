"""What becomes of a mail after an attempt (docs/domain.md, "What becomes of an attempt"), and writing it."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import outbox
from core.db import array
from core.emails.kinds import RESENT_WHEN_UNCERTAIN
from core.emails.queue.suppressions import suppress
from core.models import EmailStatus

Stage = Literal["connect", "sender", "recipient", "data", "dot"]
"""How far an attempt came: ``data`` from the DATA command on, ``dot`` once the final dot may have been sent."""

DELAYS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180))
"""Between one attempt and the next, plus up to JITTER of it; after the last delay there is one more attempt."""
JITTER = 0.2
ATTEMPTS = len(DELAYS) + 1
NO_SUCH_MAILBOX = frozenset(("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"))
"""RFC 3463 and 7505: the address is wrong, moved, or its domain accepts no mail. Not 5.7, which is about the sender."""
ERROR_CHARS = 500

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")


class Reply(NamedTuple):
    """A server's reply: its code (RFC 5321) and its text, lines joined."""

    code: int
    text: str = ""

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463), or an empty string."""
        found = _ENHANCED.match(self.text)
        return found[0] if found else ""


class AttemptResult(NamedTuple):
    """How an attempt ended: its stage and the reply; without a reply the connection was lost or did not speak SMTP."""

    stage: Stage
    reply: Reply | None = None
    why: str = ""


class Decision(NamedTuple):
    """The new status of a mail; ``delay``: it is retried after it; ``suppress``: its address is suppressed."""

    status: EmailStatus
    delay: timedelta | None = None
    suppress: bool = False


def retry_policy(result: AttemptResult, kind: str, attempt: int) -> Decision:
    """The decision after attempt number ``attempt``, counted from 1. A pure function: the whole table is here."""
    delay = DELAYS[attempt - 1] if 1 <= attempt < ATTEMPTS else None
    retried = Decision("queued", delay) if delay else Decision("dead")
    code = result.reply.code if result.reply else 0
    if result.stage == "connect":
        return retried  # whatever the reply, it is about us or the server, not about this mail
    if 400 <= code < 500:
        return retried
    if 500 <= code < 600:
        return Decision("dead", suppress=_no_such_mailbox(result))
    if result.stage != "dot":
        return retried
    if 200 <= code < 300:
        return Decision("sent")
    return Decision("uncertain", delay if kind in RESENT_WHEN_UNCERTAIN else None)


def _no_such_mailbox(result: AttemptResult) -> bool:
    """Whether a refusal means that the mailbox does not exist."""
    if result.reply is None or result.stage == "sender":
        return False
    if result.reply.enhanced:
        return result.reply.enhanced in NO_SUCH_MAILBOX
    return result.stage == "recipient" and result.reply.code == 550


def describe(result: AttemptResult) -> str:
    """The result as a line for staff."""
    reply = f"{result.reply.code} {result.reply.text}" if result.reply else result.why or "the connection was lost"
    return f"{_STAGE_NAMES[result.stage]}: {reply}".strip()[:ERROR_CHARS].replace("\x00", "")


_STAGE_NAMES: dict[Stage, str] = {
    "connect": "connecting",
    "sender": "MAIL",
    "recipient": "RCPT",
    "data": "DATA",
    "dot": "after the final dot",
}


class StateUpdate(NamedTuple):
    """The decision after an attempt, to be written if ``owner`` still holds the mail's lease.

    ``attempts`` is added to the count, which a send permit raises: 1 for an attempt that ended before it had a permit,
    -1 for one that had a permit and did not start.
    """

    id: UUID
    owner: str
    decision: Decision
    error: str | None = None
    attempts: int = 0


class UpdatedMail(NamedTuple):
    """A mail whose new status was written."""

    id: UUID
    kind: str
    status: EmailStatus
    attempts: int
    to_address: str
    session_id: UUID | None
    error: str | None


def release(id_: UUID, owner: str, *, attempts: int = 0) -> StateUpdate:
    """A claimed mail that was not tried, queued again for the next claim."""
    return StateUpdate(id_, owner, Decision("queued", timedelta(0)), attempts=attempts)


# SKIP LOCKED: whoever holds the row is about to commit, and waiting here could deadlock. That a mail was accepted is
# written even when its lease has expired meanwhile, as long as nobody else has claimed it since.
COMPLETE = text(f"""
    WITH updates AS (
        SELECT * FROM unnest(
            (SELECT CAST(:ids AS uuid[])), (SELECT CAST(:owners AS text[])), (SELECT CAST(:statuses AS text[])),
            (SELECT CAST(:seconds AS float8[])), (SELECT CAST(:errors AS text[])), (SELECT CAST(:attempts AS int[]))
        ) AS updates(id, owner, status, seconds, error, attempts)
    ), owned AS MATERIALIZED (
        SELECT emails.id, updates.owner
        FROM emails JOIN updates ON updates.id = emails.id AND updates.owner = emails.lease_owner
        WHERE emails.status || '' = 'sending' OR updates.status = 'sent' AND emails.status IN ('uncertain', 'queued')
        ORDER BY emails.id FOR UPDATE OF emails SKIP LOCKED
    )
    UPDATE emails SET
        status = updates.status,
        attempts = emails.attempts + updates.attempts,
        due_at = CASE
            WHEN updates.status = 'queued' AND updates.seconds > 0
                THEN clock_timestamp() + updates.seconds * (1 + {JITTER} * random()) * interval '1 second'
            ELSE emails.due_at
        END,
        retry_at = CASE
            WHEN updates.status = 'uncertain' AND updates.seconds IS NOT NULL
                THEN clock_timestamp() + updates.seconds * (1 + {JITTER} * random()) * interval '1 second'
        END,
        uncertain_at = CASE WHEN updates.status = 'uncertain' THEN clock_timestamp() ELSE emails.uncertain_at END,
        sent_at = CASE WHEN updates.status = 'sent' THEN clock_timestamp() END,
        data_started_at = CASE WHEN updates.status = 'queued' THEN NULL ELSE emails.data_started_at END,
        lease_owner = CASE WHEN updates.status = 'uncertain' THEN emails.lease_owner END,
        lease_until = NULL,
        last_error = coalesce(updates.error, emails.last_error)
    FROM updates, owned
    WHERE emails.id = owned.id AND updates.id = owned.id AND updates.owner = owned.owner
    RETURNING emails.id, emails.kind, emails.status, emails.attempts, emails.to_address, emails.session_id,
        updates.error
""")  # noqa: S608 - our own number


def complete(db: Session, updates: Sequence[StateUpdate], *, now: datetime) -> list[UpdatedMail]:
    """Write the decisions on these mails, where their owners still hold the leases.

    Returns the mails written. One left out is locked at the moment, or no longer the owner's: see ``still_held``.
    Wakes the dispatchers when a mail is to be retried, so that they know when.
    """
    if not updates:
        return []
    updated = [UpdatedMail._make(row) for row in db.execute(COMPLETE, complete_parameters(updates))]
    decisions = {e.id: e.decision for e in updates}
    for mail in sorted(updated, key=lambda mail: mail.to_address.lower()):  # in one order, against deadlocks
        if decisions[mail.id].suppress:
            suppress(db, mail.to_address, reason="unknown recipient", now=now, data={"email_id": str(mail.id)})
    if any(decisions[mail.id].delay is not None for mail in updated):
        outbox.wake(db)
    return updated


def complete_parameters(updates: Sequence[StateUpdate]) -> dict[str, str]:
    """The parameters of ``COMPLETE``."""
    return {
        "ids": array([e.id for e in updates]),
        "owners": array([e.owner for e in updates]),
        "statuses": array([e.decision.status for e in updates]),
        "seconds": array([None if e.decision.delay is None else e.decision.delay.total_seconds() for e in updates]),
        "errors": array([e.error for e in updates]),
        "attempts": array([e.attempts for e in updates]),
    }


_HELD = text("""
    SELECT emails.id FROM emails
    JOIN unnest(CAST(:ids AS uuid[]), CAST(:owners AS text[])) AS requested(id, owner)
        ON requested.id = emails.id AND requested.owner = emails.lease_owner
    WHERE emails.status || '' = 'sending'
""")


def still_held(db: Session, mails: Sequence[tuple[UUID, str]]) -> set[UUID]:
    """The mails whose leases their owners still hold."""
    if not mails:
        return set()
    given = {"ids": array([id_ for id_, _ in mails]), "owners": array([owner for _, owner in mails])}
    return set(db.execute(_HELD, given).scalars())
