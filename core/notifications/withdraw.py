"""Notifications that are over for whoever was told: expired, or taken back."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from sqlalchemy.orm import Session

from core import outbox
from core.events import NotificationArchived
from core.models import Role
from core.notifications import unread


class Withdrawn(NamedTuple):
    """A notification that was visible until this transaction."""

    id: int
    user_id: int | None
    role: Role | None


def announce_withdrawn(db: Session, gone: Sequence[Withdrawn], *, now: datetime) -> None:
    """Announce that the notifications are in nobody's inbox any more, with the new counts of whose own they were.

    After a broadcast's, each API process counts for its connected users.
    """
    for (user_id, role), some in groupby(sorted(gone, key=_recipient_key), key=lambda one: (one.user_id, one.role)):
        ids = tuple(one.id for one in some)
        outbox.publish(db, NotificationArchived(user_id=user_id, role=role, notification_ids=ids, archived_at=now))
    unread.announce(db, *(one.user_id for one in gone if one.user_id is not None))


def _recipient_key(one: Withdrawn) -> tuple[int, str, int]:
    return one.user_id or 0, one.role or "", one.id
