"""What a mail is before it is queued: to whom, what it says, what goes with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from core.emails.kinds import EmailKind

Party = Literal["candidate", "interviewer", "other"]
"""As whom someone is written to; ``other`` for who is no party of the session: a report's requester."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody to write to, in their own zone; ``user_id`` once they can sign in."""

    address: str
    name: str | None = None
    timezone: str = "UTC"
    party: Party = "other"
    user_id: int | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a mail; ``text/calendar`` also becomes the invitation mail programs act on."""

    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A rendered mail to one address, as the queue stores it.

    ``headers`` are those beyond what ``core.emails.mime`` writes itself; ``category`` is what preferences and
    suppressions are asked for.
    """

    kind: EmailKind
    to_address: str
    to_name: str | None
    reply_to: str | None
    subject: str
    text: str
    html: str | None
    category: str
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
