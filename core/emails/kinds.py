"""Every kind of mail and what is true of it: the one table from which queue, rendering, API and database derive.

A new kind is a row here and a folder of templates of its name (docs/how-to/add-a-mail.md).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from sqlalchemy import Table

from core.models import STATUSES, Email, SessionStatus
from core.models.base import one_of

CalendarMethod = Literal["REQUEST", "CANCEL", "PUBLISH"]
"""REQUEST makes or changes the event, CANCEL takes it out; PUBLISH shows it to who may have lost the invitation,
without asking them to answer again (RFC 5546)."""


@dataclass(frozen=True, slots=True)
class MailKind:
    """What is true of every mail of a kind."""

    priority: int
    """What goes first when many wait: the smaller number."""
    category: str | None = None
    """What preferences and suppressions are asked for; None: the mail itself says (an invitation's is the state)."""
    calendar: CalendarMethod | None = None
    """How the session's event is attached, if at all."""
    resent_when_uncertain: bool = False
    """Worse missed than got twice; mail programs take the second for the first by its Message-ID."""
    true_in: tuple[SessionStatus, ...] = ()
    """Of a kind that says when a session is: the states of the session in which that is still true. One that waits is
    cancelled in every other state, and when the session is rescheduled."""
    on_demand_in: tuple[SessionStatus, ...] = ()
    """States of the session in which staff may ask for it; none: they never may."""


_STANDING = tuple(status for status in STATUSES if status not in ("cancelled", "expired"))
KINDS: dict[str, MailKind] = {
    "generic": MailKind(5, category="generic"),
    "invitation": MailKind(
        4,
        calendar="REQUEST",
        resent_when_uncertain=True,
        true_in=_STANDING,
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
        on_demand_in=("scheduled",),
    ),
    "completion": MailKind(6, category="completed", on_demand_in=("completed",)),
    "report": MailKind(7),
}

if TYPE_CHECKING:
    EmailKind = str
    OnDemandKind = str
else:
    # what pydantic, and with it the OpenAPI document, needs; a type checker cannot read the table
    EmailKind = Literal[tuple(KINDS)]
    OnDemandKind = Literal["generic", *(name for name, kind in KINDS.items() if kind.on_demand_in)]

RESENT_WHEN_UNCERTAIN = frozenset(name for name, kind in KINDS.items() if kind.resent_when_uncertain)
FOLLOW_SCHEDULE = tuple(name for name, kind in KINDS.items() if kind.true_in)

cast(Table, Email.__table__).append_constraint(one_of("kind", KINDS))
