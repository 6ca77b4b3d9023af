"""Suppressions: addresses that get no more mail of one category, or of any."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db import array
from core.models import EmailSuppression

ANY_CATEGORY = ""
"""The category that stands for all mail."""
UNSUBSCRIBED = "unsubscribed"
"""The reason of suppressions by the recipients themselves."""


def suppress(
    db: Session,
    address: str,
    *,
    reason: str,
    now: datetime,
    category: str = ANY_CATEGORY,
    data: dict[str, Any] | None = None,
) -> None:
    """Suppress mails of the category to this address, in upper or lower case; a second time changes nothing.

    ``reason`` is shown to staff. Mails already queued are stopped before DATA.
    """
    # Lowered by PostgreSQL here and in every comparison: Python lowers some letters differently.
    address_ = func.lower(literal(address))
    row = insert(EmailSuppression).values(address=address_, category=category, reason=reason, data=data, created_at=now)
    db.execute(row.on_conflict_do_nothing())


_SUPPRESSED = text("""
    SELECT DISTINCT ON (place) place, s.reason
    FROM unnest(CAST(:addresses AS text[]), CAST(:categories AS text[])) WITH ORDINALITY
         AS mails(address, category, place)
    JOIN email_suppressions s ON s.address = lower(mails.address) AND s.category IN ('', mails.category)
    ORDER BY place, s.category
""")


def find_suppressed(db: Session, mails: Sequence[tuple[str, str]]) -> dict[int, str]:
    """Which of the (address, category) pairs are suppressed: by index, the reason."""
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
    """Delete an unsubscription from before the recipient could sign in, when they have since turned the mails on."""
    given = {"address": address, "category": category, "user_id": user_id, "reason": UNSUBSCRIBED}
    return db.scalar(_LIFT, given) is not None
