"""Requests that a client may repeat: the first answer is kept for a day and given again."""

import hashlib
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.errors import Invalid
from core.models import IdempotencyKey

KEPT = timedelta(hours=24)


class StoredResponse(NamedTuple):
    """What was answered: the HTTP status and the JSON body."""

    status: int
    body: Any


def hash_of(body: bytes) -> str:
    """What tells two bodies apart."""
    return hashlib.sha256(body).hexdigest()


def claim(db: Session, *, user_id: int, route: str, key: str, body_hash: str, now: datetime) -> StoredResponse | None:
    """Take the key for this request, or give the answer it had.

    A request with the same key that still runs is waited for. Raises Invalid when the key came with another body.
    """
    kept = _existing(db, user_id=user_id, route=route, key=key, body_hash=body_hash, now=now)
    return StoredResponse(kept.status or 500, kept.answer) if kept else None


def first_requested_at(db: Session, *, user_id: int, route: str, key: str, body_hash: str, now: datetime) -> datetime:
    """When the request with this key came first, within the day: tells it from an older one with the same key.

    For requests whose answer somebody else keeps. Raises Invalid when the key came with another body.
    """
    kept = _existing(db, user_id=user_id, route=route, key=key, body_hash=body_hash, now=now)
    return kept.created_at if kept else now


def _existing(
    db: Session, *, user_id: int, route: str, key: str, body_hash: str, now: datetime
) -> IdempotencyKey | None:
    """The row of the request that has the key; None: it is this one's now."""
    k = IdempotencyKey
    same = (k.user_id == user_id, k.route == route, k.key == key)
    db.execute(delete(k).where(*same, k.created_at < now - KEPT))
    claimed = db.execute(
        insert(k)
        .values(user_id=user_id, route=route, key=key, body_hash=body_hash, created_at=now)
        .on_conflict_do_nothing()
        .returning(k.key)
    ).one_or_none()
    if claimed:
        return None
    kept = db.scalars(select(k).where(*same)).one()
    if kept.body_hash != body_hash:
        raise Invalid("Idempotency-Key", "was used with another body; use a new key for a new request")
    return kept


def keep(db: Session, answer: StoredResponse, *, user_id: int, route: str, key: str) -> None:
    """Keep the answer with the claimed key; it is there once the transaction commits, and only then."""
    k = IdempotencyKey
    same = (k.user_id == user_id, k.route == route, k.key == key)
    db.execute(update(k).where(*same).values(status=answer.status, answer=answer.body))
