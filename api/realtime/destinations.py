"""The destinations, their names in the log, and who may subscribe."""

import re
from uuid import UUID

from sqlalchemy.orm import Session

from core import sessions
from core.errors import Forbidden, NotFound
from core.events import ALL_SESSIONS, BROADCASTS, FLOWS, user_queue
from core.viewers import STAFF, Viewer

_SESSION = re.compile(r"/topic/session/([0-9a-fA-F-]{36})")
_USER_QUEUES = {
    "/user/queue/notifications": "notifications",
    "/queue/notifications": "notifications",
    "/user/queue/reports": "reports",
    "/user/queue/errors": "errors",
}
_STAFF_TOPICS = (ALL_SESSIONS, FLOWS)


def authorise(db: Session, destination: str, *, by: Viewer) -> str:
    """The destination as the log names it, when the viewer may subscribe to it.

    Raises Forbidden, and NotFound for what does not exist.
    """
    if queue := _USER_QUEUES.get(destination):
        return user_queue(by.id, queue)
    if destination == BROADCASTS:
        return destination
    if destination in _STAFF_TOPICS:
        if by.role not in STAFF:
            raise Forbidden(f"{destination} is for {' and '.join(STAFF)}; you are {by.role}.")
        return destination
    if match := _SESSION.fullmatch(destination):
        session_id = _uuid(match[1])
        if session_id is not None:
            sessions.may_follow(db, session_id, by=by)
            return f"/topic/session/{session_id}"
    raise NotFound("destination", destination)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
