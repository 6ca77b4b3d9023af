"""What becomes of a mail after an attempt: the table of outcomes (DOMAIN, "Mail"), and writing them down."""

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
"""How far an attempt came: ``data`` from the DATA command on, ``dot`` once the final dot may have left us."""

DELAYS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180))
"""Between one attempt and the next, up to a fifth longer; after the last of them nothing is tried any more."""
JITTER = 0.2
ATTEMPTS = len(DELAYS) + 1
NO_SUCH_MAILBOX = frozenset(("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"))
"""RFC 3463 and 7505: the address is wrong, moved, or of a domain that takes no mail. Not 5.7, which is about us."""
ERROR_CHARS = 500

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")


class Reply(NamedTuple):
    """A server's answer: its code (RFC 5321) and its text, lines joined."""

    code: int
    text: str = ""

    @property
    def enhanced(self) -> str:
        """The enhanced status code (RFC 3463), or nothing."""
        found = _ENHANCED.match(self.text)
        return found[0] if found else ""


class AttemptResult(NamedTuple):
    """How an attempt ended: where, and with which answer; with none, the connection was lost or spoke no SMTP."""

    stage: Stage
    reply: Reply | None = None
    why: str = ""


class Decision(NamedTuple):
    """What becomes of the mail; with ``delay`` it is tried again, with ``suppress`` its address gets no more."""

    status: EmailStatus
    delay: timedelta | None = None
    suppress: bool = False


def retry_policy(result: AttemptResult, kind: str, attempt: int) -> Decision:
    """The verdict on attempt number ``attempt``, counted from 1. Pure: the whole table is here."""
    again = DELAYS[attempt - 1] if 1 <= attempt < ATTEMPTS else None
    retried = Decision("queued", again) if again else Decision("dead")
    code = result.reply.code if result.reply else 0
    if result.stage == "connect":
        return retried  # whatever the server said, it was about us or itself and not about this mail
    if 400 <= code < 500:
        return retried
    if 500 <= code < 600:
        return Decision("dead", suppress=_no_such_mailbox(result))
    if result.stage != "dot":
        return retried
    if 200 <= code < 300:
        return Decision("sent")
    return Decision("uncertain", again if kind in RESENT_WHEN_UNCERTAIN else None)


def _no_such_mailbox(result: AttemptResult) -> bool:
    """Whether a refusal says that there is no such mailbox."""
    if result.reply is None or result.stage == "sender":
        return False
    if result.reply.enhanced:
        return result.reply.enhanced in NO_SUCH_MAILBOX
    return result.stage == "recipient" and result.reply.code == 550


def describe(result: AttemptResult) -> str:
    """The end as staff read it."""
    said = f"{result.reply.code} {result.reply.text}" if result.reply else result.why or "the connection was lost"
    return f"{_STAGE_NAMES[result.stage]}: {said}".strip()[:ERROR_CHARS].replace("\x00", "")


_STAGE_NAMES: dict[Stage, str] = {
    "connect": "connecting",
    "sender": "MAIL",
    "recipient": "RCPT",
    "data": "DATA",
    "dot": "after the final dot",
}


class StateUpdate(NamedTuple):
    """An attempt's verdict to be written, for who held the mail's lease as ``owner``.

    ``attempts`` is added to those counted: 1 for one that ended before it had leave to begin, which counts it; -1 for
    one that had leave and did not begin.
    """

    id: UUID
    owner: str
    decision: Decision
    error: str | None = None
    attempts: int = 0


class UpdatedMail(NamedTuple):
    """A mail whose new state was written."""

    id: UUID
    kind: str
    status: EmailStatus
    attempts: int
    to_address: str
    session_id: UUID | None
    error: str | None


def release(id_: UUID, owner: str, *, attempts: int = 0) -> StateUpdate:
    """A mail given back untried, for whoever claims it next."""
    return StateUpdate(id_, owner, Decision("queued", timedelta(0)), attempts=attempts)


# SKIP LOCKED: whoever holds the row is about to commit, and a wait here could close a ring of waits. That a mail was
# accepted is written even when its lease had run out meanwhile, as long as nobody else has claimed it since.
COMPLETE = text(f"""
    WITH given AS (
        SELECT * FROM unnest(
            (SELECT CAST(:ids AS uuid[])), (SELECT CAST(:owners AS text[])), (SELECT CAST(:statuses AS text[])),
            (SELECT CAST(:seconds AS float8[])), (SELECT CAST(:errors AS text[])), (SELECT CAST(:attempts AS int[]))
        ) AS given(id, owner, status, seconds, error, attempts)
    ), mine AS MATERIALIZED (
        SELECT emails.id, given.owner
        FROM emails JOIN given ON given.id = emails.id AND given.owner = emails.lease_owner
        WHERE emails.status || '' = 'sending' OR given.status = 'sent' AND emails.status IN ('uncertain', 'queued')
        ORDER BY emails.id FOR UPDATE OF emails SKIP LOCKED
    )
    UPDATE emails SET
        status = given.status,
        attempts = emails.attempts + given.attempts,
        due_at = CASE
            WHEN given.status = 'queued' AND given.seconds > 0
                THEN clock_timestamp() + given.seconds * (1 + {JITTER} * random()) * interval '1 second'
            ELSE emails.due_at
        END,
        retry_at = CASE
            WHEN given.status = 'uncertain' AND given.seconds IS NOT NULL
                THEN clock_timestamp() + given.seconds * (1 + {JITTER} * random()) * interval '1 second'
        END,
        uncertain_at = CASE WHEN given.status = 'uncertain' THEN clock_timestamp() ELSE emails.uncertain_at END,
        sent_at = CASE WHEN given.status = 'sent' THEN clock_timestamp() END,
        data_started_at = CASE WHEN given.status = 'queued' THEN NULL ELSE emails.data_started_at END,
        lease_owner = CASE WHEN given.status = 'uncertain' THEN emails.lease_owner END,
        lease_until = NULL,
        last_error = coalesce(given.error, emails.last_error)
    FROM given, mine
    WHERE emails.id = mine.id AND given.id = mine.id AND given.owner = mine.owner
    RETURNING emails.id, emails.kind, emails.status, emails.attempts, emails.to_address, emails.session_id, given.error
""")  # noqa: S608 - our own number


def complete(db: Session, updates: Sequence[StateUpdate], *, now: datetime) -> list[UpdatedMail]:
    """Write down what became of these mails, each by who holds its lease.

    Gives those that were written. One left out was locked just now or is no longer the owner's, see ``still_held``.
    Whatever is to be tried again wakes the dispatchers, which then know when.
    """
    if not updates:
        return []
    updated = [UpdatedMail._make(row) for row in db.execute(COMPLETE, complete_parameters(updates))]
    decisions = {e.id: e.decision for e in updates}
    for mail in sorted(updated, key=lambda mail: mail.to_address.lower()):  # in one order, whoever else does the same
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
    JOIN unnest(CAST(:ids AS uuid[]), CAST(:owners AS text[])) AS given(id, owner)
        ON given.id = emails.id AND given.owner = emails.lease_owner
    WHERE emails.status || '' = 'sending'
""")


def still_held(db: Session, mails: Sequence[tuple[UUID, str]]) -> set[UUID]:
    """Which of these mails their owners still hold."""
    if not mails:
        return set()
    given = {"ids": array([id_ for id_, _ in mails]), "owners": array([owner for _, owner in mails])}
    return set(db.execute(_HELD, given).scalars())
