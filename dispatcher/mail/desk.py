"""Where what became of mails is written, and leave to send is given."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core.clock import utcnow
from core.db import transaction
from core.emails.queue import claims, outcomes, pipelined
from core.emails.queue.outcomes import StateUpdate, UpdatedMail
from core.models import Email
from core.notifications.system import notify_mail_trouble
from core.settings import settings

log = logging.getLogger(__name__)

Held = tuple[UUID, str]
"""A mail and the name under which its lease is held."""


class Settled(NamedTuple):
    """What one transaction did: leave to send, or what stopped the mail; verdicts; and what is to be asked again."""

    begun: dict[UUID, str]
    written: list[UpdatedMail]
    held: set[UUID]


class Desk:
    """Where settlements are written: over a connection that is kept, when that is all there is to do."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None

    def settle(self, asking: Sequence[Held], ended: Sequence[StateUpdate]) -> Settled:
        """Write the verdicts and give leave to send, in one transaction; not both when something fails."""
        if not pipelined.can_pipeline(ended):
            return settle(asking, ended)
        try:
            if self._connection is None:
                self._connection = psycopg.connect(settings().database(), connect_timeout=5, options="-c timezone=UTC")
            written, begun = pipelined.complete(self._connection, asking, ended)
        except BaseException:
            self.close()
            raise
        return Settled(begun, written, still_held(asking, ended, written, begun))

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def settle(asking: Sequence[Held], ended: Sequence[StateUpdate]) -> Settled:
    """The same with all that verdicts may ask for: admins told, addresses suppressed, dispatchers woken."""
    now = utcnow()
    with transaction() as db:
        written = outcomes.complete(db, ended, now=now)
        begun = claims.acquire_permits(db, asking)
        for mail in written:
            tell_admins(db, mail)
    return Settled(begun, written, still_held(asking, ended, written, begun))


def still_held(
    asking: Sequence[Held], ended: Sequence[StateUpdate], written: Sequence[UpdatedMail], begun: dict[UUID, str]
) -> set[UUID]:
    """What was passed over because somebody else had locked it."""
    done = begun.keys() | {mail.id for mail in written}
    left = [pair for pair in {(e.id, e.owner) for e in ended}.union(asking) if pair[0] not in done]
    if not left:
        return set()
    with transaction() as db:
        return outcomes.still_held(db, left)


def tell_admins(db: Session, mail: UpdatedMail) -> None:
    """Have a mail that is dead or uncertain seen by people; that this fails must not keep other mails from going."""
    if mail.status not in ("dead", "uncertain"):
        return
    try:
        with db.begin_nested():
            notify_mail_trouble(db, db.get_one(Email, mail.id), now=utcnow())
    except OperationalError:
        raise
    except Exception:
        log.exception("admins could not be told of a mail", extra={"email_id": str(mail.id)})
