"""The tree of errors, which carry facts; each edge (HTTP, STOMP, command line) maps it once to its own codes."""

from datetime import datetime
from uuid import UUID


class GreenroomError(Exception):
    """An error that a person can act on; its ``str()`` is safe to show."""


class BadSettings(GreenroomError):
    """Invalid settings, with which no process starts: name → reason."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))


class NotFound(GreenroomError):
    """A row that does not exist, or that the viewer may not see."""

    def __init__(self, noun: str, id: object) -> None:
        self.noun, self.id = noun, id
        super().__init__(f"There is no {noun} {id} that you may see.")


class Forbidden(GreenroomError):
    """An action that the viewer's role does not allow."""


class NotSignedIn(GreenroomError):
    """The token is missing, invalid, expired or revoked."""


class Invalid(GreenroomError):
    """Input that breaks a rule no schema can express: the field and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{field}: {reason}")


class Unavailable(GreenroomError):
    """A service we depend on cannot be reached for now; ``retry_after`` in seconds."""

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class QueueFull(Unavailable):
    """The queue has reached its capacity, and nothing was queued; ``retry_after`` in seconds."""


class Conflict(GreenroomError):
    """A change that the present state does not allow; ``facts`` name the states or the other row."""

    def __init__(self, message: str, **facts: object) -> None:
        self.facts = facts
        super().__init__(message)


class IllegalMove(Conflict):
    """A session cannot go from this state to that one."""

    def __init__(self, session_id: UUID, old: str, new: str, why: str = "") -> None:
        super().__init__(
            f"Session {session_id} cannot go from {old} to {new}{': ' + why if why else ''}.",
            session_id=session_id,
            old=old,
            new=new,
        )


class AlreadyOpen(Conflict):
    """The candidate already has an open session of this interview."""

    def __init__(self, other: UUID | None) -> None:
        super().__init__(f"The candidate already has an open session of this interview: {other}.", session_id=other)


class DoubleBooked(Conflict):
    """The interviewer is busy at that time."""

    def __init__(self, other: UUID | None, start: datetime | None = None) -> None:
        at = f" at {start:%Y-%m-%d %H:%M} UTC" if start else ""
        super().__init__(f"The interviewer is already booked{at} for session {other}.", session_id=other)
