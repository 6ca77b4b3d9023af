"""Requests that a client may repeat: the first response is stored for 24 hours and returned again."""

import hashlib
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.errors import Invalid
from core.models import IdempotencyKey

RETENTION = timedelta(hours=24)


class StoredResponse(NamedTuple):
    """A stored response: the HTTP status and the JSON body."""

    status: int
    body: Any


def hash_of(body: bytes) -> str:
    """The SHA-256 of a body, by which a repeated request is compared with the first."""
    return hashlib.sha256(body).hexdigest()


def claim(db: Session, *, user_id: int, route: str, key: str, body_hash: str, now: datetime) -> StoredResponse | None:
    """Claim the key for this request and return None, or return the response stored for it.

    Waits for a request with the same key that still runs. Raises Invalid when the key was used with another body.
    """
    kept = _existing(db, user_id=user_id, route=route, key=key, body_hash=body_hash, now=now)
    return StoredResponse(kept.status or 500, kept.answer) if kept else None


def first_requested_at(db: Session, *, user_id: int, route: str, key: str, body_hash: str, now: datetime) -> datetime:
    """When the request with this key first arrived, within the last 24 hours; an older one counts as another request.

    For requests whose response is stored elsewhere. Raises Invalid when the key was used with another body.
    """
    kept = _existing(db, user_id=user_id, route=route, key=key, body_hash=body_hash, now=now)
    return kept.created_at if kept else now


def _existing(
    db: Session, *, user_id: int, route: str, key: str, body_hash: str, now: datetime
) -> IdempotencyKey | None:
    """The row of the earlier request with the key; None: this request has claimed it."""
    k = IdempotencyKey
    same = (k.user_id == user_id, k.route == route, k.key == key)
    db.execute(delete(k).where(*same, k.created_at < now - RETENTION))
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


def store_response(db: Session, answer: StoredResponse, *, user_id: int, route: str, key: str) -> None:
    """Store the response with the claimed key, in the caller's transaction."""
    k = IdempotencyKey
    same = (k.user_id == user_id, k.route == route, k.key == key)
    db.execute(update(k).where(*same).values(status=answer.status, answer=answer.body))
