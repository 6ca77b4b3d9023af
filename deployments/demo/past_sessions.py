"""Sessions of the past: one builder for each status to end in."""

from collections.abc import Callable
from datetime import datetime, timedelta

from core.models import SessionStatus
from core.sessions.moves import Actor
from deployments.demo.planner import Planner, Slot
from deployments.demo.session_rows import SessionBuilder, next_sweep

# The reasons as the status sweep writes them.
EXPIRED, MISSED, SILENT, UNRESUMED = (
    "the invitation expired",
    "it was not started in time",
    "no sign of life",
    "it was not resumed in time",
)
INVITED_FOR = timedelta(days=14)


def add_past_session(planner: Planner, outcome: SessionStatus, start: datetime) -> None:
    """One session that was to start at that time and ended in this status."""
    lead = INVITED_FOR if outcome == "expired" else timedelta(days=planner.rng.uniform(1.5, 7))
    expired = outcome == "expired"
    slot = planner.slot(start, lead, guided=0.3 if expired else 0.66, busy=not expired)
    session = planner.new_session(slot)
    _BUILDERS[outcome](session, slot)
    session.follow_up(planner.base)
    planner.add(session)


def invite_and_schedule(session: SessionBuilder, slot: Slot, *, before: datetime | None = None) -> None:
    """Invite and schedule, or schedule at once; some are rescheduled once. All of it ``before`` (absent: the start)."""
    rng, created = session.rng, slot.created
    wait = (before or slot.start) - created
    if rng.random() < 0.6:
        session.create(created, expires=created + INVITED_FOR)
        session.schedule(created + wait * rng.uniform(0.05, 0.4), slot.start, "candidate")
        return
    first = slot.start - timedelta(days=rng.randrange(1, 4))
    if first - created < timedelta(hours=6) or rng.random() < 0.7:
        session.create(created, start=slot.start)
        return
    session.create(created, start=first)
    at = created + min(first - created, wait) * rng.uniform(0.1, 0.8)
    session.reschedule(at, slot.start, rng.choice(("The candidate asked.", "The interviewer is ill.", "A holiday.")))


def start_session(session: SessionBuilder, slot: Slot) -> datetime:
    """Candidate and interviewer join, more or less in time; returns the start."""
    rng = session.rng
    if slot.interviewer_id is None and rng.random() < 0.4:
        # An interview by AI needs no scheduled time.
        session.create(slot.created, expires=slot.created + INVITED_FOR)
        session.move("in_progress", slot.start, "candidate")
        return slot.start
    invite_and_schedule(session, slot)
    patience = session.interview.minutes("no_show")
    at = slot.start + min(timedelta(minutes=rng.triangular(-2, 11, 0.5)), patience * 0.9)
    if rng.random() < 0.02:
        missed = next_sweep(slot.start + patience)
        session.mark_late_before(missed)
        session.move("no_show", missed, "system", MISSED, party="candidate")
        at = missed + timedelta(minutes=rng.uniform(1, 4))
        session.move("in_progress", at, "candidate")
        return at
    session.mark_late_before(at)
    session.move("in_progress", at, "interviewer" if slot.interviewer_id and rng.random() < 0.2 else "candidate")
    return at


def interrupt(session: SessionBuilder, at: datetime) -> datetime:
    """The candidate disconnects or becomes idle, which the sweep detects; returns when it became interrupted."""
    if session.rng.random() < 0.4:
        now = at + timedelta(seconds=session.rng.uniform(10, 90))
        session.move("interrupted", now, "candidate", "lost the connection")
    else:
        now = next_sweep(at + session.interview.minutes("idle"))
        session.move("interrupted", now, "system", SILENT)
    return now


def _completed(session: SessionBuilder, slot: Slot) -> None:
    rng = session.rng
    if rng.random() < 0.008:
        invite_and_schedule(session, slot)
        missed = next_sweep(slot.start + session.interview.minutes("no_show"))
        session.mark_late_before(missed)
        session.move("no_show", missed, "system", MISSED, party="candidate")
        # A call by telephone, corrected the next morning.
        session.answer(len(session.interview.questions), slot.start + timedelta(minutes=10))
        session.row |= {"last_activity_at": None, "activity_pushed_at": None}
        late = session.answers[-1]["answered_at"] + timedelta(hours=rng.uniform(1, 3))
        corrector: Actor = "interviewer" if slot.interviewer_id else "admin"
        session.move("completed", late, corrector, "It took place by telephone.")
        return
    at = start_session(session, slot)
    total = len(session.interview.questions)
    skipped = {q.id for q in session.interview.questions if not q.required and rng.random() < 0.25}
    if rng.random() < 0.06:
        skipped.add(rng.choice([q.id for q in session.interview.questions if q.required]))
    last = session.answer(total, at, skipped=skipped)
    outcome = rng.random()
    if outcome < 0.07 and session.interview.enough(session.answered()):
        since = interrupt(session, last)
        session.move("completed", next_sweep(since + session.interview.minutes("resume")), "system", UNRESUMED)
    elif outcome < 0.17:
        # Resumed in time, and completed.
        since = interrupt(session, last)
        back = since + session.interview.minutes("resume") * rng.uniform(0.1, 0.7)
        session.move("in_progress", back, "candidate")
        session.move("completed", back + timedelta(minutes=rng.uniform(1, 4)), "candidate")
    elif slot.interviewer_id and outcome < 0.6:
        session.move("completed", last + timedelta(minutes=rng.uniform(1, 6)), "interviewer")
    else:
        session.move("completed", last + timedelta(seconds=rng.uniform(5, 120)), "candidate")


def _abandoned(session: SessionBuilder, slot: Slot) -> None:
    rng = session.rng
    at = start_session(session, slot)
    # Most who abandon do so early.
    total = len(session.interview.questions)
    count = min(total - 1, int(rng.triangular(0, total, 2)))
    while count and session.interview.enough({q.id for q in session.interview.questions[:count]}):
        count -= 1
    last = session.answer(count, at)
    if rng.random() < 0.45:
        session.move(
            "abandoned", last + timedelta(minutes=rng.uniform(1, 5)), "candidate", rng.choice(_ABANDON_REASONS)
        )
        return
    since = interrupt(session, last)
    session.move("abandoned", next_sweep(since + session.interview.minutes("resume")), "system", UNRESUMED)


def _no_show(session: SessionBuilder, slot: Slot) -> None:
    rng = session.rng
    invite_and_schedule(session, slot)
    missed = next_sweep(slot.start + session.interview.minutes("no_show"))
    if slot.interviewer_id and rng.random() < 0.3:
        at = slot.start + session.interview.minutes("no_show") * rng.uniform(0.8, 0.98)
        session.mark_late_before(at)
        if rng.random() < 0.2:
            session.move("no_show", at, "recruiter", "The interviewer was ill.", party="interviewer")
        else:
            session.move("no_show", at, "interviewer", party="candidate")
        return
    session.mark_late_before(missed)
    session.move("no_show", missed, "system", MISSED, party="candidate")


def _expired(session: SessionBuilder, slot: Slot) -> None:
    session.create(slot.created, expires=slot.start, opened=session.rng.random() < 0.4)
    session.move("expired", next_sweep(slot.start), "system", EXPIRED)


def _cancelled(session: SessionBuilder, slot: Slot) -> None:
    rng = session.rng
    outcome = rng.random()
    if outcome < 0.1:
        at = start_session(session, slot)
        last = session.answer(rng.randrange(3), at)
        session.move("cancelled", last + timedelta(minutes=2), "admin", "The wrong interview was sent.")
        return
    if outcome < 0.4:
        session.create(slot.created, expires=slot.created + INVITED_FOR, opened=rng.random() < 0.6)
    else:
        invite_and_schedule(session, slot)
    since = session.events[-1]["at"]
    at = since + (slot.start - since) * rng.uniform(0.1, 0.9)
    actor: Actor = "candidate" if rng.random() < 0.55 else "recruiter"
    session.move("cancelled", at, actor, rng.choice(_CANCEL_REASONS[actor]))


_ABANDON_REASONS = ["I have to go.", "My connection is too slow.", None, "This is not the role I applied for."]
_CANCEL_REASONS: dict[Actor, list[str | None]] = {
    "candidate": ["I accepted another offer.", "The time no longer suits me.", None],
    "recruiter": ["The position is on hold.", "Another interview comes first."],
}
_BUILDERS: dict[SessionStatus, Callable[[SessionBuilder, Slot], None]] = {
    "completed": _completed,
    "abandoned": _abandoned,
    "no_show": _no_show,
    "expired": _expired,
    "cancelled": _cancelled,
}
