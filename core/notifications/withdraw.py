"""Publishes that notifications left their recipients' inboxes: expired or withdrawn."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from sqlalchemy.orm import Session

from core import outbox
from core.events import NotificationArchived
from core.models import Role
from core.notifications import unread


class WithdrawnNotification(NamedTuple):
    """A notification that was visible until this transaction."""

    id: int
    user_id: int | None
    role: Role | None


def publish_withdrawn(db: Session, withdrawn: Sequence[WithdrawnNotification], *, now: datetime) -> None:
    """Publish that the notifications are in no inbox any more, with the new counts of the users they were addressed to.

    For a broadcast, each API process counts for its connected users.
    """
    for (user_id, role), some in groupby(
        sorted(withdrawn, key=_recipient_key), key=lambda one: (one.user_id, one.role)
    ):
        ids = tuple(one.id for one in some)
        outbox.publish(db, NotificationArchived(user_id=user_id, role=role, notification_ids=ids, archived_at=now))
    unread.publish_counts(db, *(one.user_id for one in withdrawn if one.user_id is not None))


def _recipient_key(one: WithdrawnNotification) -> tuple[int, str, int]:
    return one.user_id or 0, one.role or "", one.id
