"""Who is told what when a session changes (DOMAIN, "Who is told what"; the mails are the mail queue's)."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from core.models import SessionStatus
from core.notifications import Told
from core.sessions.facts import Facts

Occasion = Literal["invited", "rescheduled", "late", "feedback_overdue"] | SessionStatus
Party = Literal["candidate", "interviewer", "recruiters"]

_BOTH: tuple[Party, ...] = ("candidate", "interviewer")
_ALL: tuple[Party, ...] = ("candidate", "interviewer", "recruiters")
_STAFF: tuple[Party, ...] = ("interviewer", "recruiters")

WHO: dict[Occasion, tuple[Party, ...]] = {
    "invited": _BOTH,
    "scheduled": _BOTH,
    "rescheduled": _ALL,
    "cancelled": _ALL,
    "late": _BOTH,
    "no_show": _STAFF,
    "abandoned": _STAFF,
    "expired": _STAFF,
    "completed": _ALL,
    "feedback_overdue": _STAFF,
}

_WORDS: dict[tuple[Occasion, Party | None], tuple[str, str]] = {
    ("invited", "candidate"): ("You are invited to an interview", "{title}: open it any time until {until}."),
    ("invited", None): ("Candidate invited", "{name} is invited to {title}."),
    ("scheduled", "candidate"): ("Your interview is scheduled", "{title} on {start}."),
    ("scheduled", None): ("Interview scheduled", "{name}, {title}, on {start}."),
    ("rescheduled", "candidate"): ("Your interview has a new time", "{title} is now on {start}."),
    ("rescheduled", None): ("Interview rescheduled", "{name}, {title}, is now on {start}."),
    ("cancelled", "candidate"): ("Your interview is cancelled", "{title} will not take place."),
    ("cancelled", None): ("Interview cancelled", "{name}, {title}, will not take place."),
    ("late", "candidate"): ("Your interview has begun", "{title} started on {start}. You can still join."),
    ("late", None): ("Nobody has joined yet", "{name}, {title}, was due to start on {start}."),
    ("no_show", None): ("Interview missed", "{name} and {title}: it did not start."),
    ("abandoned", None): ("Interview abandoned", "{name} left {title} unfinished."),
    ("expired", None): ("Invitation expired", "{name} did not start {title} in time."),
    ("completed", "candidate"): ("Your interview is complete", "Thank you for taking {title}."),
    ("completed", "interviewer"): (
        "Feedback due",
        "{name} completed {title}: your feedback is due by {deadline}.",
    ),
    ("completed", "recruiters"): ("Interview completed", "{name} completed {title}."),
    ("feedback_overdue", None): ("Feedback overdue", "{name}, {title}: feedback was due by {deadline}."),
}


def told(s: Facts, occasion: Occasion, *, now: datetime) -> Iterator[Told]:
    """The notifications of one occasion; the session is as it was before it, times are in UTC.

    The key names session, schedule and occasion, and the moment where an occasion can come again.
    """
    words = _Words(s, now)
    for party in WHO.get(occasion, ()):
        title, body = _WORDS.get((occasion, party)) or _WORDS[occasion, None]
        user_id = {"candidate": s.candidate_user_id, "interviewer": s.interviewer_id, "recruiters": None}[party]
        if user_id is None and party != "recruiters":
            continue
        yield Told(
            category=occasion,
            title=title,
            body=body.format_map(words),
            dedupe_key=told_key(s, occasion, party, now),
            user_id=user_id,
            role="recruiter" if party == "recruiters" else None,
            session_id=s.id,
        )


def told_key(s: Facts, occasion: Occasion, party: Party, now: datetime) -> str:
    """The key that makes an occasion be told once: lateness and overdue feedback once a schedule, moves each time."""
    once = occasion in ("late", "feedback_overdue")
    return f"{s.id}/{s.schedule_version}/{occasion}/{party}" + ("" if once else f"/{now.isoformat()}")


def _moment(at: datetime | None) -> str:
    return f"{at:%-d %B %Y, %H:%M} UTC" if at else "a time to be agreed"


class _Words(dict[str, str]):
    """What the bodies can say of a session; each word is made when it is asked for."""

    def __init__(self, s: Facts, now: datetime) -> None:
        super().__init__(name=s.candidate_name, title=s.title)
        self._s, self._now = s, now

    def __missing__(self, word: str) -> str:
        s = self._s
        match word:
            case "start":
                return _moment(s.scheduled_start)
            case "until":
                return _moment(s.invitation_expires_at)
            case "deadline":
                return _moment((s.ended_at or self._now) + timedelta(hours=s.feedback_deadline_hours))
        raise KeyError(word)
