"""What needs people: admins are told of mails that are dead or uncertain."""

from datetime import datetime

from sqlalchemy.orm import Session

from core.models import Email
from core.notifications import Told, tell

_WORDS = {
    "dead": ("A mail was not delivered", "The {kind} mail {id} could not be delivered."),
    "uncertain": ("A mail may not have arrived", "Nobody can say whether the {kind} mail {id} was accepted."),
}


def attention_key(email: Email) -> str:
    """The key that makes an attempt be told once; after a retry by hand attempts are counted from 1 again."""
    return f"mail/{email.id}/{email.status}/{email.due_at.isoformat()}/{email.attempts}"


def attention(db: Session, email: Email, *, now: datetime) -> None:
    """Tell admins, in the transaction that made it so, that a mail is dead or uncertain: once for each attempt.

    A mail in any other state is nothing. Says which mail it is, and neither to whom nor why: that is in its list.
    """
    if email.status not in _WORDS:
        return
    title, body = _WORDS[email.status]
    told = Told(
        category=f"mail_{email.status}",
        title=title,
        body=body.format(kind=email.kind, id=email.id),
        dedupe_key=attention_key(email),
        role="admin",
        data={"email_id": str(email.id)},
    )
    tell(db, [told], now=now)
