"""Claims of due mails under a lease, and send permits, which are checked right before DATA.

Whether a mail is due is decided by ``now``; leases, expiry and the time of DATA are by the database's clock.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import preferences
from core.db import array
from core.emails.kinds import FOLLOW_SCHEDULE, KINDS
from core.emails.queue.outcomes import (
    AttemptResult,
    StateUpdate,
    UpdatedMail,
    complete,
    describe,
    release,
    retry_policy,
)

LEASE = timedelta(seconds=30)
"""How long a mail stays claimed by a process that does not renew its lease."""
BYTES = 32 * 1024 * 1024
"""Bytes of all mails of one claim together; a single mail may be larger."""
RESCUED_AT_ONCE = 500


class ClaimedFile(NamedTuple):
    """An attachment of a claimed mail."""

    filename: str
    content_type: str
    content: bytes


class ClaimedMail(NamedTuple):
    """A claimed mail; ``owner`` is unique to the claim."""

    id: UUID
    kind: str
    priority: int
    due_at: datetime
    attempts: int
    to_address: str
    to_name: str | None
    reply_to: str | None
    message_id: str
    subject: str
    text_body: str | None
    html_body: str | None
    headers: dict[str, Any]
    created_at: datetime
    owner: str
    files: tuple[ClaimedFile, ...] = ()


def _listed(names: Iterable[str]) -> str:
    """Our own names as an SQL list."""
    return ", ".join(f"'{name}'" for name in names)


_TRUE_IN = " ".join(f"WHEN '{name}' THEN s.status IN ({_listed(KINDS[name].true_in)})" for name in FOLLOW_SCHEDULE)

# What stops a queued mail; the first reason counts. A stopped retry of an uncertain mail stays uncertain: whether the
# earlier attempt arrived is still not known.
_STOPPED = f"""
    CASE
        WHEN e.expires_at <= clock_timestamp() THEN 'expired'
        WHEN EXISTS (
            SELECT FROM email_suppressions x WHERE x.address = lower(e.to_address) AND x.category IN ('', e.category)
        ) OR e.category IN ({_listed(preferences.OPTIONAL_MAILS)}) AND EXISTS (
            SELECT FROM notification_preferences p
            WHERE p.category = e.category AND p.channel = 'email' AND p.delivery = 'off' AND p.user_id IN (
                SELECT id FROM users WHERE lower(email) = lower(e.to_address) AND deleted_at IS NULL
                UNION ALL SELECT user_id FROM candidates
                WHERE lower(email) = lower(e.to_address) AND deleted_at IS NULL
            )
        ) THEN 'suppressed'
        WHEN e.session_id IS NOT NULL AND e.kind IN ({_listed(FOLLOW_SCHEDULE)}) AND NOT EXISTS (
            SELECT FROM sessions s
            WHERE s.id = e.session_id AND s.deleted_at IS NULL
                AND (e.schedule_version IS NULL OR e.schedule_version = s.schedule_version)
                AND CASE e.kind {_TRUE_IN} END
        ) THEN 'cancelled'
    END
"""  # noqa: S608 - names of our own
_REASON = """
    CASE {0}
        WHEN 'expired' THEN 'its time was over before it could be sent'
        WHEN 'suppressed' THEN 'its address gets no more mail'
        WHEN 'cancelled' THEN 'its session was cancelled, rescheduled or is over'
    END
"""
_STATUS = """
    CASE
        WHEN {0} IS NULL THEN 'sending'
        WHEN emails.uncertain_at IS NOT NULL THEN 'uncertain'
        ELSE {0}
    END
"""

_DUE = text(f"""
    SELECT e.id, {_STOPPED},
        coalesce(octet_length(e.text_body), 0) + coalesce(octet_length(e.html_body), 0) + coalesce(
            (SELECT sum(octet_length(a.content)) FROM email_attachments a WHERE a.email_id = e.id), 0
        )
    FROM emails e
    WHERE e.status = 'queued' AND e.due_at <= :now
    ORDER BY e.priority, e.due_at LIMIT :limit
    FOR UPDATE OF e SKIP LOCKED
""")  # noqa: S608 - constants of this module

_CLAIM = text(f"""
    UPDATE emails SET
        status = {_STATUS.format("selected.stopped")},
        lease_owner = CASE WHEN selected.stopped IS NULL THEN CAST(:owner AS text) END,
        lease_until = CASE WHEN selected.stopped IS NULL THEN clock_timestamp() + CAST(:lease AS interval) END,
        data_started_at = NULL,
        last_error = coalesce({_REASON.format("selected.stopped")}, emails.last_error)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:stopped AS text[])) AS selected(id, stopped)
    WHERE emails.id = selected.id
    RETURNING emails.status, emails.id, kind, priority, due_at, attempts, to_address, to_name, reply_to, message_id,
        subject, text_body, html_body, headers, created_at
""")  # noqa: S608 - constants of this module

_FILES = text("""
    SELECT email_id, filename, content_type, content FROM email_attachments
    WHERE email_id = ANY(CAST(:ids AS uuid[])) ORDER BY email_id, ordinal
""")


class ClaimedBatch(NamedTuple):
    """The result of a claim: mails to send, most urgent first; the statuses of stopped mails; whether more are due."""

    mails: list[ClaimedMail]
    stopped: list[str]
    more: bool


def claim(db: Session, *, owner: str, now: datetime, limit: int) -> ClaimedBatch:
    """Claim up to ``limit`` due mails under a lease; mails that may no longer be sent get their final status instead.

    ``owner`` must be new for each claim: it distinguishes this claim from all others, our own earlier ones included.
    """
    due = db.execute(_DUE, {"now": now, "limit": limit}).all()
    selected: list[tuple[UUID, str | None]] = []
    weight = 0
    for id_, stopped, size in due:
        if selected and weight + size > BYTES:
            break
        selected.append((id_, stopped))
        weight += size
    if not selected:
        return ClaimedBatch([], [], more=False)
    given = {
        "ids": array([id_ for id_, _ in selected]),
        "stopped": array([stopped for _, stopped in selected]),
        "owner": owner,
        "lease": LEASE,
    }
    rows = db.execute(_CLAIM, given).all()
    claimed = sorted((ClaimedMail._make((*row[1:], owner, ())) for row in rows if row[0] == "sending"), key=urgency)
    files: dict[UUID, list[ClaimedFile]] = {}
    for id_, *file in db.execute(_FILES, {"ids": array([mail.id for mail in claimed])}) if claimed else ():
        files.setdefault(id_, []).append(ClaimedFile(*file))
    return ClaimedBatch(
        [mail._replace(files=tuple(files[mail.id])) if mail.id in files else mail for mail in claimed],
        [row[0] for row in rows if row[0] != "sending"],
        more=len(selected) < len(due) or len(due) == limit,
    )


def urgency(mail: ClaimedMail) -> tuple[int, datetime]:
    """The sort key of sending: the smaller priority first, then the earlier due time."""
    return mail.priority, mail.due_at


# The «|| ''» keeps the planner from the indexes by status, so that rows are found by id: statistics are stale when a
# long queue starts to be sent.
#
# The last statement before DATA. It sees what an earlier cancel wrote, and a later cancel sees this: both write the
# mail's row. Locked rows are skipped, and requested again a moment later.
ACQUIRE = text(f"""
    WITH owned AS MATERIALIZED (
        SELECT e.id, {_STOPPED} AS stopped
        FROM emails e
        JOIN unnest((SELECT CAST(:ids AS uuid[])), (SELECT CAST(:owners AS text[]))) AS requested(id, owner)
            ON requested.id = e.id AND requested.owner = e.lease_owner
        WHERE e.status || '' = 'sending'
        ORDER BY e.id FOR UPDATE OF e SKIP LOCKED
    )
    UPDATE emails SET
        status = {_STATUS.format("owned.stopped")},
        data_started_at = CASE WHEN owned.stopped IS NULL THEN clock_timestamp() END,
        attempts = emails.attempts + CAST(owned.stopped IS NULL AND emails.data_started_at IS NULL AS int),
        lease_owner = CASE WHEN owned.stopped IS NULL THEN emails.lease_owner END,
        lease_until = CASE WHEN owned.stopped IS NULL THEN emails.lease_until END,
        last_error = coalesce({_REASON.format("owned.stopped")}, emails.last_error)
    FROM owned WHERE emails.id = owned.id
    RETURNING emails.id, emails.status
""")  # noqa: S608 - constants of this module


def acquire_permits(db: Session, mails: Sequence[tuple[UUID, str]]) -> dict[UUID, str]:
    """Request send permits, by mail and lease owner: ``sending`` where DATA may start once this transaction commits.

    Another status says what stopped the mail. A mail left out is locked at the moment, or claimed by another owner. An
    owner who does not know whether the commit succeeded may request it again: it is permitted again, and counted once.
    """
    if not mails:
        return {}
    return {row.id: row.status for row in db.execute(ACQUIRE, acquire_parameters(mails))}


def acquire_parameters(mails: Sequence[tuple[UUID, str]]) -> dict[str, str]:
    """The parameters of ``ACQUIRE``."""
    return {"ids": array([id_ for id_, _ in mails]), "owners": array([owner for _, owner in mails])}


_RENEW = text("""
    UPDATE emails SET lease_until = clock_timestamp() + CAST(:lease AS interval)
    WHERE id IN (
        SELECT e.id FROM emails e
        JOIN unnest((SELECT CAST(:ids AS uuid[])), (SELECT CAST(:owners AS text[]))) AS requested(id, owner)
            ON requested.id = e.id AND requested.owner = e.lease_owner
        WHERE e.status || '' = 'sending' ORDER BY e.id FOR UPDATE OF e SKIP LOCKED
    )
""")


def renew(db: Session, mails: Iterable[tuple[UUID, str]]) -> None:
    """Renew the leases of these mails, where their owners still hold them."""
    leases = list(mails)
    if leases:
        given = {"ids": array([id_ for id_, _ in leases]), "owners": array([owner for _, owner in leases])}
        db.execute(_RENEW, {**given, "lease": LEASE})


_EXPIRED_LEASES = text("""
    SELECT id, lease_owner, kind, attempts, data_started_at IS NOT NULL FROM emails
    WHERE status = 'sending' AND lease_until < clock_timestamp()
    ORDER BY lease_until LIMIT :limit FOR UPDATE SKIP LOCKED
""")
_RETRY_UNCERTAIN = text("""
    UPDATE emails SET status = 'queued', due_at = retry_at, retry_at = NULL, data_started_at = NULL
    WHERE id IN (
        SELECT id FROM emails WHERE status = 'uncertain' AND retry_at <= :now
        ORDER BY retry_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
""")


def rescue(db: Session, *, now: datetime) -> list[UpdatedMail]:
    """Requeue mails whose lease expired before DATA, and uncertain mails whose retry is due.

    Mails whose lease expired after DATA started become uncertain; returns those.
    """
    found = db.execute(_EXPIRED_LEASES, {"limit": RESCUED_AT_ONCE}).all()
    updates = [
        _lease_expired(id_, owner, kind, attempts) if begun else release(id_, owner)
        for id_, owner, kind, attempts, begun in found
    ]
    updated = complete(db, updates, now=now)
    db.execute(_RETRY_UNCERTAIN, {"now": now, "limit": RESCUED_AT_ONCE})
    return [mail for mail in updated if mail.status == "uncertain"]


def _lease_expired(id_: UUID, owner: str, kind: str, attempts: int) -> StateUpdate:
    result = AttemptResult("dot", why="its lease expired while it was being sent; whether it arrived is unknown")
    return StateUpdate(id_, owner, retry_policy(result, kind, attempts), describe(result))


_NEXT = text("""
    SELECT least(
        (SELECT min(due_at) FROM emails WHERE status = 'queued'),
        (SELECT min(lease_until) FROM emails WHERE lease_until IS NOT NULL),
        (SELECT min(retry_at) FROM emails WHERE status = 'uncertain' AND retry_at IS NOT NULL)
    )
""")


def next_due(db: Session) -> datetime | None:
    """When the next mail is due or the next lease expires; None: neither."""
    found: datetime | None = db.execute(_NEXT).scalar_one()
    return found


def count_due(db: Session, *, now: datetime, sample: int) -> tuple[int, list[UUID]]:
    """How many mails are due, and the first few, for a dry run."""
    due = "FROM emails WHERE status = 'queued' AND due_at <= :now OR status = 'uncertain' AND retry_at <= :now"
    count = db.execute(text(f"SELECT count(*) {due}"), {"now": now}).scalar_one()
    ids = db.execute(text(f"SELECT id {due} ORDER BY priority, due_at LIMIT :n"), {"now": now, "n": sample})
    return int(count), list(ids.scalars())
