"""One-click unsubscribing (RFC 8058): a signed link that needs no sign-in, and what a click on it does."""

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
_LONGEST = 900
"""Characters of a link: it stands in a header line of at most 998 (RFC 5322, section 2.1.1)."""


class MailSubscription(NamedTuple):
    """What a link ends: mails of one category to one address."""

    address: str
    category: str


class InvalidLink(NotFound):
    """A link that was not made here, or was cut or changed on its way."""

    def __init__(self) -> None:
        super().__init__("link", "like this")


_DESCRIPTIONS = {
    "completed": "mails about completed interviews",
    "daily_report": "daily reports by mail",
    "report_ready": "mails about reports",
}


def describe(category: str) -> str:
    """What mails of the category are, in words."""
    return _DESCRIPTIONS.get(category, "mails of this kind")


def link(address: str, category: str) -> str | None:
    """The link that ends mails of the category to the address; whoever holds it may use it, for ever.

    None when there is nothing to sign it with (JWKS_URL without LINK_SECRET), or it would be too long for a header.
    """
    key = _key()
    if key is None:
        return None
    said = f"{category}\n{address}".encode()
    made = f"{settings().public_url.rstrip('/')}/unsubscribe/{_text(said)}.{_text(_sign(key, said))}"
    return made if len(made) <= _LONGEST else None


def read(signed: str) -> MailSubscription:
    """What a link's last part ends. Raises NotALink."""
    key = _key()
    said, _, signature = signed.partition(".")
    if key is None or not hmac.compare_digest(_bytes(signature), _sign(key, _bytes(said))):
        raise InvalidLink
    category, _, address = _bytes(said).decode().partition("\n")
    return MailSubscription(address, category)


def unsubscribe(db: Session, signed: str, *, now: datetime) -> MailSubscription:
    """End what the link names, waiting mails included; again is nothing. Raises NotALink.

    For who can sign in it is their preference, which they can turn on again; for anybody else a suppression.
    """
    subscription = read(signed)
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
        wishes = [
            {"user_id": id_, "category": subscription.category, "channel": "email", "delivery": "off"}
            for id_ in sorted(users)
        ]
        row = insert(NotificationPreference).values(wishes)
        keys = [NotificationPreference.user_id, NotificationPreference.category, NotificationPreference.channel]
        db.execute(row.on_conflict_do_update(index_elements=keys, set_={"delivery": "off"}))
    else:
        suppress(db, subscription.address, category=subscription.category, reason=UNSUBSCRIBED, now=now)
    waiting = (Email.status == "queued", func.lower(Email.to_address) == same, Email.category == subscription.category)
    # Locked by id, as everybody does who locks several mails.
    locked = select(Email.id).where(*waiting).order_by(Email.id).with_for_update()
    db.execute(update(Email).where(Email.id.in_(locked)).values(status="suppressed", last_error=UNSUBSCRIBED))
    return subscription


def _key() -> bytes | None:
    try:
        secret = settings().link_secret or settings().secret()
    except BadSettings:
        # A worker needs no token's secret for anything else: a mail without the link is better than no mail.
        return None
    return hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256) if secret else None


def _sign(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, hashlib.sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(part: str) -> bytes:
    """What base64url stands for; nothing for what is none, so that it matches no signature."""
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw
