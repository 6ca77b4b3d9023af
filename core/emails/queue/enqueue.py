"""Queues rendered mails, one or a thousand in a handful of statements, in the caller's transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.orm import Session

from core import outbox, preferences
from core.clock import uuid7
from core.db import array, insert_many
from core.emails.addresses import message_host
from core.emails.draft import Draft
from core.emails.kinds import KINDS
from core.emails.queue.suppressions import find_suppressed, lift_unsubscribed
from core.errors import QueueFull
from core.locks import EMAIL_QUEUE_LOCK, LOCKS
from core.models import Email, EmailAttachment, EmailStatus
from core.settings import settings

LONGEST_RETRY_AFTER = 300
"""Maximum ``retry_after`` of a full queue, in seconds."""


@dataclass(frozen=True, slots=True)
class NewMail:
    """A draft to queue; with ``problem``, the reason why it could not be rendered, it is stored as dead.

    With a ``key`` it is queued once; without one it is queued each time.
    """

    draft: Draft
    key: str | None = None
    user_id: int | None = None
    session_id: UUID | None = None
    schedule_version: int | None = None
    expires_at: datetime | None = None
    problem: str | None = None


class QueuedMail(NamedTuple):
    """A mail in the queue; ``new`` is False when its key was queued before."""

    id: UUID
    status: EmailStatus
    new: bool


def enqueue(
    db: Session, mails: Sequence[NewMail], *, now: datetime, requested_by: int | None = None, on_demand: bool = False
) -> list[QueuedMail]:
    """Queue the mails, in order, and wake the dispatchers when this transaction commits.

    A mail that its recipient has turned off, or whose address is suppressed, is stored as ``suppressed``, with the
    reason. With ``on_demand``, raises QueueFull when the queue has reached its capacity.
    """
    if not mails:
        return []
    suppressed_places = _find_suppressed(db, mails)
    problems = {place: mail.problem for place, mail in enumerate(mails) if mail.problem}
    reasons = suppressed_places | problems
    if on_demand:
        _check_capacity(db, len(mails) - len(reasons), now)
    ids = [uuid7(now) for _ in mails]
    host = message_host(settings().public_url)
    inserted = insert_many(
        db,
        Email,
        {
            "id": ids,
            "kind": [mail.draft.kind for mail in mails],
            "status": [_status(place, suppressed_places, problems) for place in range(len(mails))],
            "last_error": [reasons.get(place) for place in range(len(mails))],
            "priority": [KINDS[mail.draft.kind].priority for mail in mails],
            "on_demand": on_demand,
            "requested_by": requested_by,
            "session_id": [mail.session_id for mail in mails],
            "schedule_version": [mail.schedule_version for mail in mails],
            "to_address": [mail.draft.to_address for mail in mails],
            "to_name": [mail.draft.to_name for mail in mails],
            "reply_to": [mail.draft.reply_to for mail in mails],
            "message_id": [f"<{id_}@{host}>" for id_ in ids],
            "subject": [mail.draft.subject for mail in mails],
            "text_body": [None if mail.problem else mail.draft.text for mail in mails],
            "html_body": [mail.draft.html for mail in mails],
            "headers": [dict(mail.draft.headers) for mail in mails],
            "category": [mail.draft.category for mail in mails],
            "idempotency_key": [mail.key for mail in mails],
            "due_at": now,
            "expires_at": [mail.expires_at for mail in mails],
        },
        conflict_target="(idempotency_key)",
        returning=("id", "status"),
    )
    new: dict[UUID, EmailStatus] = dict(map(tuple, inserted))
    _attach(db, [(id_, mail.draft) for id_, mail in zip(ids, mails, strict=True) if id_ in new])
    if "queued" in new.values():
        outbox.wake(db)
    before = _existing(db, [mail.key for id_, mail in zip(ids, mails, strict=True) if id_ not in new])
    return [
        QueuedMail(id_, new[id_], True) if id_ in new else QueuedMail(*before[mail.key], False)
        for id_, mail in zip(ids, mails, strict=True)
    ]


def _status(place: int, suppressed_places: Collection[int], problems: Collection[int]) -> EmailStatus:
    return "dead" if place in problems else "suppressed" if place in suppressed_places else "queued"


def _find_suppressed(db: Session, mails: Sequence[NewMail]) -> dict[int, str]:
    """The mails that will not be sent: by index, the reason."""
    found: dict[int, str] = {}
    users = _users_of(db, mails)
    pairs = {(users[place], mails[place].draft.category) for place in users}
    turned_off = preferences.find_turned_off(db, pairs, "email")
    for place, user_id in users.items():
        if (user_id, mails[place].draft.category) in turned_off:
            found[place] = "the recipient turned these mails off"
    stopped = find_suppressed(db, [(mail.draft.to_address, mail.draft.category) for mail in mails])
    for place in stopped.keys() & users.keys():
        mail = mails[place]
        if lift_unsubscribed(db, mail.draft.to_address, mail.draft.category, user_id=users[place]):
            del stopped[place]
    return found | stopped


_BY_ADDRESS = text("""
    SELECT place - 1, u.id FROM unnest(CAST(:addresses AS text[])) WITH ORDINALITY AS recipients(address, place)
    JOIN users u ON lower(u.email) = lower(recipients.address) AND u.deleted_at IS NULL
""")


def _users_of(db: Session, mails: Sequence[NewMail]) -> dict[int, int]:
    """The user whose preferences apply, by index: the mail's ``user_id``, else the user with its address."""
    optional = [place for place, mail in enumerate(mails) if not preferences.is_mandatory(mail.draft.category)]
    named = {place: id_ for place in optional if (id_ := mails[place].user_id) is not None}
    others = [place for place in optional if place not in named]
    if others:
        found = db.execute(_BY_ADDRESS, {"addresses": array([mails[place].draft.to_address for place in others])})
        named |= {others[index]: user_id for index, user_id in found}
    return named


def _check_capacity(db: Session, wanted: int, now: datetime) -> None:
    """Raise QueueFull unless ``wanted`` more on-demand mails may wait; serializes with others until the commit."""
    capacity = settings().email_queue_capacity
    if not (capacity and wanted):
        return
    db.execute(text("SELECT pg_advisory_xact_lock(:a, :b)"), {"a": LOCKS, "b": EMAIL_QUEUE_LOCK})
    waiting = select(Email.due_at).where(Email.status == "queued", Email.on_demand).limit(capacity).subquery()
    count, next_due = db.execute(select(func.count(), func.min(waiting.c.due_at))).one()
    if count + wanted > capacity:
        seconds = ceil((next_due - now).total_seconds()) if next_due else 1
        raise QueueFull(
            f"{count} mails are waiting, which is the limit; nothing was queued.",
            retry_after=min(max(seconds, 1), LONGEST_RETRY_AFTER),
        )


def _attach(db: Session, inserted: Sequence[tuple[UUID, Draft]]) -> None:
    files = [(id_, place, file) for id_, draft in inserted for place, file in enumerate(draft.attachments)]
    insert_many(
        db,
        EmailAttachment,
        {
            "email_id": [id_ for id_, _, _ in files],
            "ordinal": [place for _, place, _ in files],
            "filename": [file.filename for _, _, file in files],
            "content_type": [file.content_type for _, _, file in files],
            "content": [file.content for _, _, file in files],
        },
    )


_EXISTING = select(Email.idempotency_key, Email.id, Email.status).where(
    Email.idempotency_key.in_(bindparam("keys", expanding=True))
)


def _existing(db: Session, keys: Sequence[str | None]) -> dict[str | None, tuple[UUID, EmailStatus]]:
    """The mails that were queued with these keys before."""
    if not keys:
        return {}
    return {key: (id_, status) for key, id_, status in db.execute(_EXISTING, {"keys": list(keys)})}
