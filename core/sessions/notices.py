"""The notifications of a changed session (docs/domain.md, "Who is notified"; its mails are in ``mails``)."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from core.emails.content import times
from core.models import SessionStatus
from core.notifications import Notice
from core.sessions.snapshot import SessionSnapshot
from core.settings import settings

NoticeKind = Literal["invited", "rescheduled", "late", "feedback_overdue"] | SessionStatus
Party = Literal["candidate", "interviewer", "recruiters"]

_BOTH: tuple[Party, ...] = ("candidate", "interviewer")
_ALL: tuple[Party, ...] = ("candidate", "interviewer", "recruiters")
_STAFF: tuple[Party, ...] = ("interviewer", "recruiters")

RECIPIENTS: dict[NoticeKind, tuple[Party, ...]] = {
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

_TEXTS: dict[tuple[NoticeKind, Party | None], tuple[str, str]] = {
    ("invited", "candidate"): ("You are invited to an interview", "{title}: open it any time until {until}."),
    ("invited", None): ("Candidate invited", "{name} is invited to {title}."),
    ("scheduled", "candidate"): ("Your interview is scheduled", "{title} on {start}."),
    ("scheduled", None): ("Interview scheduled", "{name}, {title}, on {start}."),
    ("rescheduled", "candidate"): ("Your interview was rescheduled", "{title} is on {start}."),
    ("rescheduled", None): ("Interview rescheduled", "{name}, {title}, is on {start}."),
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


_REMOVAL = ("Interview taken over", "{name}, {title}, is not yours any more.")


def session_notices(s: SessionSnapshot, kind: NoticeKind, *, now: datetime) -> Iterator[Notice]:
    """The notifications of one kind, for the session as it is after the change; times are in each reader's zone.

    The dedupe key names session, schedule and kind, and the moment for kinds that can be repeated.
    """
    for party in RECIPIENTS.get(kind, ()):
        user_id = _user_id(s, party)
        if user_id is not None or party == "recruiters":
            yield _notice(s, kind, party, user_id, notice_key(s, kind, party, now), now)


def reschedule_notices(before: SessionSnapshot, after: SessionSnapshot, *, now: datetime) -> Iterator[Notice]:
    """The notifications of a new time or interviewer.

    A new interviewer is notified that they have the session, the replaced one that they no longer have it.
    While the session has no time, nobody else is notified.
    """
    new = after.interviewer_id if after.interviewer_id != before.interviewer_id else None
    if after.scheduled_start:
        yield from (
            one for one in session_notices(after, "rescheduled", now=now) if one.user_id is None or one.user_id != new
        )
    if new is not None:
        kind: NoticeKind = "scheduled" if after.scheduled_start else "invited"
        yield _notice(after, kind, "interviewer", new, notice_key(after, kind, "interviewer", now), now)
    yield from removal_notices(before, after.interviewer_id, now=now)


def removal_notices(before: SessionSnapshot, interviewer_id: int | None, *, now: datetime) -> Iterator[Notice]:
    """The notification to an interviewer who was replaced or removed."""
    if before.interviewer_id in (None, interviewer_id):
        return
    title, body = _REMOVAL
    yield Notice(
        category="cancelled",
        title=title,
        body=body.format_map(_TextFields(before, "interviewer", now)),
        dedupe_key=f"{before.id}/{before.schedule_version}/replaced/{before.interviewer_id}/{now.isoformat()}",
        user_id=before.interviewer_id,
        session_id=before.id,
    )


def notice_key(s: SessionSnapshot, kind: NoticeKind, party: Party, now: datetime) -> str:
    """The dedupe key of a notification: lateness and overdue feedback once a schedule, moves each time."""
    once = kind in ("late", "feedback_overdue")
    return f"{s.id}/{s.schedule_version}/{kind}/{party}" + ("" if once else f"/{now.isoformat()}")


def _notice(s: SessionSnapshot, kind: NoticeKind, party: Party, user_id: int | None, key: str, now: datetime) -> Notice:
    title, body = _TEXTS.get((kind, party)) or _TEXTS[kind, None]
    return Notice(
        category=kind,
        title=title,
        body=body.format_map(_TextFields(s, party, now)),
        dedupe_key=key,
        user_id=user_id,
        role=None if user_id else "recruiter",
        session_id=s.id,
    )


def _user_id(s: SessionSnapshot, party: Party) -> int | None:
    return {"candidate": s.candidate_user_id, "interviewer": s.interviewer_id, "recruiters": None}[party]


class _TextFields(dict[str, str]):
    """The fields of the bodies, for one session and one party; each is formatted when it is used."""

    def __init__(self, s: SessionSnapshot, party: Party, now: datetime) -> None:
        super().__init__(name=s.candidate_name, title=s.title)
        self._s, self._party, self._now = s, party, now

    def __missing__(self, word: str) -> str:
        s = self._s
        match word:
            case "start":
                return self._moment(s.scheduled_start)
            case "until":
                return self._moment(s.invitation_expires_at)
            case "deadline":
                return self._moment((s.ended_at or self._now) + timedelta(hours=s.feedback_deadline_hours))
        raise KeyError(word)

    def _moment(self, at: datetime | None) -> str:
        if at is None:
            return "a time to be agreed"
        zones = {"candidate": self._s.candidate_zone, "interviewer": self._s.interviewer_zone}
        # A notification to a whole role has the platform's zone.
        local = at.astimezone(times.zone(zones.get(self._party) or settings().timezone))
        return f"{times.date(local)}, {local:%H:%M} {times.zone_name(local)}"
