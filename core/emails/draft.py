"""A mail before it is queued: recipient, contents and attachments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from core.emails.kinds import EmailKind

Party = Literal["candidate", "interviewer", "other"]
"""The recipient's part in the session; ``other`` for those who have none, such as a report's requester."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """The recipient of a mail, with their zone; ``user_id`` once they can sign in."""

    address: str
    name: str | None = None
    timezone: str = "UTC"
    party: Party = "other"
    user_id: int | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file attached to a mail; ``text/calendar`` also becomes the invitation that mail programs act on."""

    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A rendered mail to one address, as the queue stores it.

    ``headers`` are those that ``core.emails.mime`` does not write itself; preferences and suppressions are checked
    for ``category``.
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
