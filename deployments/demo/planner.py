"""The demo's calendar: who is free when, and the times of its sessions."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import pi, sin
from random import Random
from uuid import UUID

from deployments.demo.interviews import DemoInterview
from deployments.demo.people import CANDIDATE, INTERVIEWERS, DemoPerson
from deployments.demo.session_rows import SessionBuilder

DAYS = 90
PAST_INTERVIEWS = 3
"""Of the candidate who can sign in: the other interviews are for their open sessions."""


@dataclass(frozen=True, slots=True)
class Slot:
    """People who are free for an interview at a time, and when the session was created."""

    person: DemoPerson
    interview: DemoInterview
    interviewer_id: int | None
    created: datetime
    start: datetime
    retry_of: UUID | None


@dataclass(slots=True)
class Planner:
    """Chooses people and times; ``past_sessions`` and ``open_sessions`` add what happened."""

    rng: Random
    base: datetime
    people: list[DemoPerson]
    interviews: list[DemoInterview]
    sessions: list[SessionBuilder] = field(default_factory=list)
    _latest: dict[tuple[int, int], SessionBuilder] = field(default_factory=dict)
    _busy: dict[tuple[str, int], list[tuple[datetime, datetime]]] = field(default_factory=dict)

    def slot(
        self,
        start: datetime,
        lead: timedelta,
        *,
        person_id: int | None = None,
        interviewer_id: int | None = None,
        guided: float = 0.66,
        busy: bool = True,
    ) -> Slot:
        """A candidate, an interview and, as often as ``guided``, an interviewer, all free at that time.

        An invitation's expiry makes nobody ``busy``.
        """
        rng = self.rng
        for _ in range(5000):
            person = self.people[person_id - 1] if person_id else rng.choice(self.people)
            interview = rng.choice(self.interviews)
            if person.id == CANDIDATE and (interview.id > PAST_INTERVIEWS) != bool(person_id):
                continue
            created, end = start - lead, start + interview.minutes("duration")
            last = self._latest.get((person.id, interview.id))
            if person.row["applied_at"] > created or (person.until and end > person.until):
                continue
            if last and (last.row["ended_at"] is None or last.row["ended_at"] > created):
                continue
            who = interviewer_id or (rng.choice(INTERVIEWERS) if rng.random() < guided else None)
            if not busy or self._book([("candidate", person.id)] + ([("interviewer", who)] if who else []), start, end):
                return Slot(person, interview, who, created, start, last.id if last else None)
        raise AssertionError(f"nobody is free on {start}")

    def new_session(self, slot: Slot) -> SessionBuilder:
        """The builder of a session in this slot, not yet created."""
        return SessionBuilder(self.rng, slot.person, slot.interview, slot.interviewer_id, slot.retry_of)

    def add(self, session: SessionBuilder) -> None:
        """Add a session that is built to its end, or to the present."""
        opened, over = session.row["opened_at"], session.row["ended_at"] or self.base
        if opened and opened > over:
            session.row["opened_at"] = None
        self.sessions.append(session)
        self._latest[session.person.id, session.interview.id] = session

    def _book(self, who: list[tuple[str, int]], start: datetime, end: datetime) -> bool:
        # A quarter of an hour on both sides: interviews overrun.
        start, end = start - timedelta(minutes=15), end + timedelta(minutes=15)
        if any(a < end and start < b for one in who for a, b in self._busy.get(one, ())):
            return False
        for one in who:
            self._busy.setdefault(one, []).append((start, end))
        return True


def past_time(rng: Random, base: datetime) -> datetime:
    """A quarter of an hour between 8 and 17 UTC on one of the past days.

    More of them recently, with a monthly wave; few on weekends.
    """
    while True:
        ago = rng.randrange(1, DAYS)
        if rng.random() < (1.1 - 0.5 * ago / DAYS + 0.25 * sin(2 * pi * ago / 30)) / 1.4:
            break
    day = base - timedelta(days=ago)
    if day.weekday() >= 5 and rng.random() < 0.9:
        day += timedelta(days=2 if ago > DAYS - 3 else -2)
    return day.replace(hour=8) + timedelta(minutes=15 * rng.randrange(36))


def coming_time(rng: Random, base: datetime) -> datetime:
    """A quarter of an hour in working hours of the next fortnight."""
    day = base + timedelta(days=rng.triangular(0.2, 13, 2))
    if day.weekday() >= 5:
        day += timedelta(days=-2 if day > base + timedelta(days=12) else 2)
    start = day.replace(hour=8, minute=0, second=0, microsecond=0) + timedelta(minutes=15 * rng.randrange(36))
    return max(start, base + timedelta(hours=4))
