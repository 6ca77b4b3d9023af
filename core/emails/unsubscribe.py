"""One-click unsubscribing (RFC 8058): signed links that need no sign-in, and what following one does."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select, union, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.emails.queue.suppressions import UNSUBSCRIBED, suppress
from core.errors import BadSettings, NotFound
from core.models import Candidate, Email, NotificationPreference, User
from core.settings import settings

_PURPOSE = b"greenroom: unsubscribe links, version 1"
_MAX_LINK_CHARS = 900
"""Maximum characters of a link: it must fit in a header line of at most 998 (RFC 5322, section 2.1.1)."""


class MailSubscription(NamedTuple):
    """What a link unsubscribes from: mails of one category to one address."""

    address: str
    category: str


class InvalidLink(NotFound):
    """A link that was not signed here, or was truncated or changed."""

    def __init__(self) -> None:
        super().__init__("link", "like this")


_DESCRIPTIONS = {
    "completed": "mails about completed interviews",
    "daily_report": "daily reports by mail",
    "report_ready": "mails about reports",
}


def describe(category: str) -> str:
    """A description of the category's mails, for people."""
    return _DESCRIPTIONS.get(category, "mails of this kind")


def build_link(address: str, category: str) -> str | None:
    """The link that unsubscribes the address from the category; it never expires, and anyone who has it may use it.

    None when there is no secret to sign it with (JWKS_URL without LINK_SECRET), or it would be too long for a header.
    """
    key = _key()
    if key is None:
        return None
    payload = f"{category}\n{address}".encode()
    url = f"{settings().public_url.rstrip('/')}/unsubscribe/{_text(payload)}.{_text(_sign(key, payload))}"
    return url if len(url) <= _MAX_LINK_CHARS else None


def verify_link(signed: str) -> MailSubscription:
    """The subscription in a link's last part, its signature verified. Raises InvalidLink."""
    key = _key()
    payload, _, signature = signed.partition(".")
    if key is None or not hmac.compare_digest(_bytes(signature), _sign(key, _bytes(payload))):
        raise InvalidLink
    category, _, address = _bytes(payload).decode().partition("\n")
    return MailSubscription(address, category)


def unsubscribe(db: Session, signed: str, *, now: datetime) -> MailSubscription:
    """Unsubscribe as the link says, queued mails included; a second time changes nothing. Raises InvalidLink.

    For users it turns off their preference, which they can turn on again; for anybody else it adds a suppression.
    """
    subscription = verify_link(signed)
    same = func.lower(subscription.address)
    users: Sequence[int] = db.scalars(
        union(
            select(User.id).where(func.lower(User.email) == same, User.deleted_at.is_(None)),
            select(Candidate.user_id).where(
                func.lower(Candidate.email) == same, Candidate.deleted_at.is_(None), Candidate.user_id.is_not(None)
            ),
        )
    ).all()
    if users:
        rows = [
            {"user_id": id_, "category": subscription.category, "channel": "email", "delivery": "off"}
            for id_ in sorted(users)
        ]
        row = insert(NotificationPreference).values(rows)
        keys = [NotificationPreference.user_id, NotificationPreference.category, NotificationPreference.channel]
        db.execute(row.on_conflict_do_update(index_elements=keys, set_={"delivery": "off"}))
    else:
        suppress(db, subscription.address, category=subscription.category, reason=UNSUBSCRIBED, now=now)
    waiting = (Email.status == "queued", func.lower(Email.to_address) == same, Email.category == subscription.category)
    # Locked in the order of ids, as everywhere.
    locked = select(Email.id).where(*waiting).order_by(Email.id).with_for_update()
    db.execute(update(Email).where(Email.id.in_(locked)).values(status="suppressed", last_error=UNSUBSCRIBED))
    return subscription


def _key() -> bytes | None:
    try:
        secret = settings().link_secret or settings().secret()
    except BadSettings:
        # A dispatcher needs the token secret for nothing else: a mail without the link is better than no mail.
        return None
    return hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256) if secret else None


def _sign(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(part: str) -> bytes:
    """The decoded base64url; empty for invalid input, which matches no signature."""
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw
