"""The open sessions: in progress, interrupted, scheduled and invited."""

from datetime import datetime, timedelta

from deployments.demo.past_sessions import SILENT, invite_and_schedule
from deployments.demo.people import CANDIDATE, INTERVIEWER
from deployments.demo.planner import Planner, Slot, coming_time
from deployments.demo.session_rows import SessionBuilder

# Minutes around the full hour before now. They are close together, so that at any time within the hour the next sweeps
# have sessions to move, and others are still to start.
_SOON = [-4, 1, 6, 12, 18, 25, 31, 38, 44, 51, 57, 64, 72, 81, 95, 110, 135, 160]
_EXPIRING = [15, 35, 55, 75, 110, 180, 300, 540]
_OF_DEMO_USERS: dict[int, tuple[int | None, int]] = {13: (CANDIDATE, INTERVIEWER), 24: (None, INTERVIEWER)}
"""The sessions of the users who can sign in, so that each has upcoming ones; by index in the order of starts."""
SCHEDULED, INVITED, IN_PROGRESS, INTERRUPTED = 45, 40, 9, 6


def add_open_sessions(planner: Planner) -> None:
    """One hundred sessions that are not over."""
    for n in range(IN_PROGRESS):
        _running(planner, n)
    for n in range(INTERRUPTED):
        _paused(planner, n)
    for n in sorted(range(SCHEDULED), key=lambda n: n not in _OF_DEMO_USERS):
        _scheduled(planner, n)
    for n in range(INVITED):
        _invited(planner, n)


def _running(planner: Planner, n: int) -> None:
    """Started within the hour; some without activity for a few minutes."""
    rng, base = planner.rng, planner.base
    slot = planner.slot(
        base - timedelta(minutes=12 + 3 * n),
        timedelta(days=rng.uniform(1, 5)),
        person_id=CANDIDATE if n == 0 else None,
        interviewer_id=INTERVIEWER if n == 1 else None,
        guided=0.66 if n else 0.0,
    )
    session = _started(planner, slot)
    _answer_until(session, base - timedelta(minutes=rng.uniform(0.2, 7)))
    planner.add(session)


def _paused(planner: Planner, n: int) -> None:
    """Interrupted a moment ago; some will be resumed, the sweep ends the others."""
    rng, base = planner.rng, planner.base
    slot = planner.slot(base - timedelta(minutes=30 + 2 * n), timedelta(days=rng.uniform(1, 5)))
    session = _started(planner, slot)
    if n % 2:
        since = base - timedelta(minutes=rng.uniform(0, 9))
        _answer_until(session, since)
        session.move("interrupted", since, "candidate", "lost the connection")
    else:
        _answer_until(session, base - session.interview.minutes("idle") - timedelta(minutes=1))
        session.move("interrupted", base, "system", SILENT)
    planner.add(session)


def _scheduled(planner: Planner, n: int) -> None:
    """The next hours first, then the fortnight."""
    rng, base = planner.rng, planner.base
    start = base + timedelta(minutes=_SOON[n]) if n < len(_SOON) else coming_time(rng, base)
    person_id, interviewer_id = _OF_DEMO_USERS.get(n, (None, None))
    lead = start - base + timedelta(days=rng.uniform(0.5, 6))
    slot = planner.slot(start, lead, person_id=person_id, interviewer_id=interviewer_id)
    session = planner.new_session(slot)
    invite_and_schedule(session, slot, before=min(base, start))
    planner.add(session)


def _invited(planner: Planner, n: int) -> None:
    """A few invitations run out today."""
    rng, base = planner.rng, planner.base
    ahead = timedelta(minutes=_EXPIRING[n]) if n < len(_EXPIRING) else timedelta(days=rng.uniform(0.6, 9))
    lead = max(ahead, timedelta(days=2)) + timedelta(days=rng.uniform(0.1, 4))
    slot = planner.slot(base + ahead, lead, person_id=CANDIDATE if n == 6 else None, guided=0.3, busy=False)
    session = planner.new_session(slot)
    session.create(slot.created, expires=slot.start, opened=rng.random() < 0.5)
    planner.add(session)


def _started(planner: Planner, slot: Slot) -> SessionBuilder:
    session = planner.new_session(slot)
    invite_and_schedule(session, slot)
    session.move("in_progress", slot.start + timedelta(minutes=planner.rng.uniform(0, 2)), "candidate")
    return session


def _answer_until(session: SessionBuilder, silent_since: datetime) -> None:
    session.answer(len(session.interview.questions) - 1, session.row["started_at"], until=silent_since)
    session.row |= {"last_activity_at": silent_since, "activity_pushed_at": silent_since}
