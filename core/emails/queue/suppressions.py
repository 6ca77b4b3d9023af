"""Addresses that get no more mail: of one category, or of any kind."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db import array
from core.models import EmailSuppression

ANY = ""
"""The category that means every kind of mail."""
UNSUBSCRIBED = "unsubscribed"
"""The reason of what people ended themselves."""


def suppress(
    db: Session, address: str, *, reason: str, now: datetime, category: str = ANY, data: dict[str, Any] | None = None
) -> None:
    """Send this address, in any case of letters, no more mail of the category; again is nothing.

    ``reason`` is shown to staff. Mails that already wait are stopped before DATA.
    """
    # Lowered by PostgreSQL here and wherever it is compared: Python lowers some letters otherwise.
    address_ = func.lower(literal(address))
    row = insert(EmailSuppression).values(address=address_, category=category, reason=reason, data=data, created_at=now)
    db.execute(row.on_conflict_do_nothing())


_SUPPRESSED = text("""
    SELECT DISTINCT ON (place) place, s.reason
    FROM unnest(CAST(:addresses AS text[]), CAST(:categories AS text[])) WITH ORDINALITY
         AS given(address, category, place)
    JOIN email_suppressions s ON s.address = lower(given.address) AND s.category IN ('', given.category)
    ORDER BY place, s.category
""")


def suppressed(db: Session, mails: Sequence[tuple[str, str]]) -> dict[int, str]:
    """Which of the (address, category) must not be sent: their places, with the reason."""
    if not mails:
        return {}
    given = {"addresses": array([address for address, _ in mails]), "categories": array([c for _, c in mails])}
    return {place - 1: reason for place, reason in db.execute(_SUPPRESSED, given)}


_LIFT = text("""
    DELETE FROM email_suppressions s
    WHERE s.address = lower(:address) AND s.category = :category AND s.reason = :reason
        AND NOT EXISTS (SELECT FROM email_suppressions WHERE address = s.address AND category = '')
        AND EXISTS (
            SELECT FROM notification_preferences p
            WHERE p.user_id = :user_id AND p.category = s.category AND p.channel = 'email' AND p.delivery = 'instant'
        )
    RETURNING s.address
""")


def lift_unsubscribed(db: Session, address: str, category: str, *, user_id: int) -> bool:
    """Let mails go again that somebody unsubscribed from before they could sign in, and since asked for as a user."""
    given = {"address": address, "category": category, "user_id": user_id, "reason": UNSUBSCRIBED}
    return db.scalar(_LIFT, given) is not None
