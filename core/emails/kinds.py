"""Every kind of mail and its properties: the one table from which queue, rendering, API and database derive theirs.

A new kind is a row here and a folder of templates of its name (docs/how-to/add-a-mail.md).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import Table

from core.models import STATUSES, Email, SessionStatus
from core.models.base import one_of

CalendarMethod = Literal["REQUEST", "CANCEL", "PUBLISH"]
"""REQUEST creates or changes the event, CANCEL removes it; PUBLISH shows it to recipients who may have lost the
invitation, without asking them to reply again (RFC 5546)."""


@dataclass(frozen=True, slots=True)
class MailKind:
    """The properties of all mails of a kind."""

    priority: int
    """The order of sending when many are due: the smaller number first."""
    category: str | None = None
    """The category that preferences and suppressions are checked for; None: set by each mail (an invitation: by the
    session's state)."""
    calendar: CalendarMethod | None = None
    """The method of the attached calendar event; None: none is attached."""
    resent_when_uncertain: bool = False
    """For mails worse missed than received twice; mail programs recognize the second copy by its Message-ID."""
    true_in: tuple[SessionStatus, ...] = ()
    """For kinds that state a session's schedule: the states of the session in which they are still true. A queued mail
    is cancelled when the session is in another state, or was rescheduled."""
    parties: tuple[Literal["candidate", "interviewer"], ...] = ("candidate", "interviewer")
    """Who of a session gets it."""
    valid_until: Literal["start", "end"] | None = None
    """When it is over: at the session's start or at its end (without a time, when the invitation expires)."""
    on_demand_in: tuple[SessionStatus, ...] = ()
    """States of the session in which staff may request the mail; empty: never."""


_STANDING = tuple(status for status in STATUSES if status not in ("cancelled", "expired"))
KINDS: dict[str, MailKind] = {
    "generic": MailKind(5, category="generic"),
    "invitation": MailKind(
        4,
        calendar="REQUEST",
        resent_when_uncertain=True,
        true_in=_STANDING,
        valid_until="end",
        on_demand_in=("invited", "scheduled"),
    ),
    "reschedule": MailKind(
        3,
        category="rescheduled",
        calendar="REQUEST",
        resent_when_uncertain=True,
        true_in=_STANDING,
    ),
    "cancellation": MailKind(2, category="cancelled", calendar="CANCEL", resent_when_uncertain=True),
    "reminder": MailKind(
        1,
        category="reminder",
        calendar="PUBLISH",
        true_in=("invited", "scheduled"),
        valid_until="start",
        on_demand_in=("scheduled",),
    ),
    "completion": MailKind(6, category="completed", parties=("candidate",), on_demand_in=("completed",)),
    "report": MailKind(7),
}

if TYPE_CHECKING:
    EmailKind = str
    OnDemandKind = str
else:
    # for pydantic and the OpenAPI document; a type checker cannot evaluate the table
    EmailKind = Literal[tuple(KINDS)]
    OnDemandKind = Literal["generic", *(name for name, kind in KINDS.items() if kind.on_demand_in)]

RESENT_WHEN_UNCERTAIN = frozenset(name for name, kind in KINDS.items() if kind.resent_when_uncertain)
FOLLOW_SCHEDULE = tuple(name for name, kind in KINDS.items() if kind.true_in)

cast(Table, Email.__table__).append_constraint(one_of("kind", KINDS))
