"""The open sessions: what runs at this moment, what comes next, and who is still invited."""

from datetime import datetime, timedelta

from deployments.demo.past_sessions import SILENT, appoint
from deployments.demo.people import CANDIDATE, INTERVIEWER
from deployments.demo.planner import Planner, Slot, coming_time
from deployments.demo.session_rows import SessionBuilder

# Minutes around the full hour before now. The present is dense: whenever in the hour somebody looks, the next
# sweeps find something to move, and somebody still to wait for.
_SOON = [-4, 1, 6, 12, 18, 25, 31, 38, 44, 51, 57, 64, 72, 81, 95, 110, 135, 160]
_EXPIRING = [15, 35, 55, 75, 110, 180, 300, 540]
_MINE: dict[int, tuple[int | None, int]] = {13: (CANDIDATE, INTERVIEWER), 24: (None, INTERVIEWER)}
"""Those of the people who sign in, so that each finds something to come; by their place in the order of starts."""
SCHEDULED, INVITED, IN_PROGRESS, INTERRUPTED = 45, 40, 9, 6


def add_open_sessions(planner: Planner) -> None:
    """One hundred sessions that are not over."""
    for n in range(IN_PROGRESS):
        _running(planner, n)
    for n in range(INTERRUPTED):
        _paused(planner, n)
    for n in sorted(range(SCHEDULED), key=lambda n: n not in _MINE):
        _scheduled(planner, n)
    for n in range(INVITED):
        _invited(planner, n)


def _running(planner: Planner, n: int) -> None:
    """Started within the hour; some fell silent a few minutes ago."""
    rng, base = planner.rng, planner.base
    slot = planner.slot(
        base - timedelta(minutes=12 + 3 * n),
        timedelta(days=rng.uniform(1, 5)),
        person_id=CANDIDATE if n == 0 else None,
        interviewer_id=INTERVIEWER if n == 1 else None,
        guided=0.66 if n else 0.0,
    )
    session = _arrived(planner, slot)
    _answer_until(session, base - timedelta(minutes=rng.uniform(0.2, 7)))
    planner.keep(session)


def _paused(planner: Planner, n: int) -> None:
    """Interrupted a moment ago; some will come back, the others the sweep closes."""
    rng, base = planner.rng, planner.base
    slot = planner.slot(base - timedelta(minutes=30 + 2 * n), timedelta(days=rng.uniform(1, 5)))
    session = _arrived(planner, slot)
    if n % 2:
        since = base - timedelta(minutes=rng.uniform(0, 9))
        _answer_until(session, since)
        session.move("interrupted", since, "candidate", "lost the connection")
    else:
        _answer_until(session, base - session.interview.minutes("idle") - timedelta(minutes=1))
        session.move("interrupted", base, "system", SILENT)
    planner.keep(session)


def _scheduled(planner: Planner, n: int) -> None:
    """The next hours first, then the fortnight."""
    rng, base = planner.rng, planner.base
    start = base + timedelta(minutes=_SOON[n]) if n < len(_SOON) else coming_time(rng, base)
    person_id, interviewer_id = _MINE.get(n, (None, None))
    lead = start - base + timedelta(days=rng.uniform(0.5, 6))
    slot = planner.slot(start, lead, person_id=person_id, interviewer_id=interviewer_id)
    session = planner.begin(slot)
    appoint(session, slot, before=min(base, start))
    planner.keep(session)


def _invited(planner: Planner, n: int) -> None:
    """A few invitations run out today."""
    rng, base = planner.rng, planner.base
    ahead = timedelta(minutes=_EXPIRING[n]) if n < len(_EXPIRING) else timedelta(days=rng.uniform(0.6, 9))
    lead = max(ahead, timedelta(days=2)) + timedelta(days=rng.uniform(0.1, 4))
    slot = planner.slot(base + ahead, lead, person_id=CANDIDATE if n == 6 else None, guided=0.3, busy=False)
    session = planner.begin(slot)
    session.create(slot.created, expires=slot.start, opened=rng.random() < 0.5)
    planner.keep(session)


def _arrived(planner: Planner, slot: Slot) -> SessionBuilder:
    session = planner.begin(slot)
    appoint(session, slot)
    session.move("in_progress", slot.start + timedelta(minutes=planner.rng.uniform(0, 2)), "candidate")
    return session


def _answer_until(session: SessionBuilder, silent_since: datetime) -> None:
    session.answer(len(session.interview.questions) - 1, session.row["started_at"], until=silent_since)
    session.row |= {"last_activity_at": silent_since, "activity_pushed_at": silent_since}
