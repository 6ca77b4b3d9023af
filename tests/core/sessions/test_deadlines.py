"""The rules of the status sweep, held against the sentences that say them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from core.models import STATUSES
from core.sessions.deadlines import Rule, due_rule, next_check
from core.sessions.snapshot import SessionSnapshot
from tests.support.sweep_data import INTERVIEWER, NOW, TICK, minutes


# The rules once more, as docs/domain.md says them, with no thought for speed.
def sentences(s: SessionSnapshot, now: datetime) -> Iterator[Rule]:
    last_sign = s.last_activity_at or s.started_at or s.status_at
    begun = s.started_at or s.status_at
    past_its_time = now >= begun + minutes(s.duration_minutes) + minutes(s.overrun_minutes)
    silent = now - last_sign >= minutes(2)
    if s.status == "invited" and now >= s.invitation_expires_at:  # type: ignore[operator]
        yield "expire"
    if s.status == "scheduled":
        assert s.scheduled_start
        assert s.scheduled_end
        if now >= min(s.scheduled_start + minutes(s.no_show_minutes), s.scheduled_end):
            yield "no_show"
    if s.status == "interrupted" and now - s.status_at >= minutes(s.resume_minutes):
        yield "close"
    if s.status in ("in_progress", "interrupted") and past_its_time and silent:
        yield "close"
    if s.status == "in_progress" and now - last_sign >= minutes(s.idle_minutes):
        yield "interrupt"
    if s.status == "scheduled" and now >= s.scheduled_start + minutes(5) and s.late_version != s.schedule_version:  # type: ignore[operator]
        yield "late"
    if s.status == "completed" and s.interviewer_id and s.ended_at and not s.has_feedback:
        overdue = now >= s.ended_at + timedelta(hours=s.feedback_deadline_hours)
        if overdue and s.feedback_overdue_at is None:
            yield "feedback_overdue"


def first_sentence(s: SessionSnapshot, now: datetime) -> Rule | None:
    return next(sentences(s, now), None)


moments = st.integers(-300, 300).map(lambda n: NOW + minutes(n)) | st.integers(-18_000_000, 18_000_000).map(
    lambda n: NOW + timedelta(milliseconds=n)
)
patience = st.integers(0, 120)


@st.composite
def any_snapshot(draw: st.DrawFn) -> SessionSnapshot:
    start = draw(moments)
    return SessionSnapshot(
        id=UUID(int=1),
        status=draw(st.sampled_from(STATUSES)),
        status_at=draw(moments),
        candidate_id=1,
        candidate_user_id=None,
        candidate_name="Cleo",
        interview_id=1,
        title="Interview",
        interviewer_id=draw(st.none() | st.just(INTERVIEWER)),
        scheduled_start=start,
        scheduled_end=start + minutes(draw(st.integers(1, 120))),
        schedule_version=draw(st.integers(1, 2)),
        invitation_expires_at=draw(moments),
        started_at=draw(st.none() | moments),
        last_activity_at=draw(st.none() | moments),
        activity_pushed_at=None,
        ended_at=draw(st.none() | moments),
        late_version=draw(st.none() | st.integers(1, 2)),
        feedback_overdue_at=draw(st.none() | moments),
        has_feedback=draw(st.booleans()),
        sweep_at=None,
        duration_minutes=draw(st.integers(1, 120)),
        no_show_minutes=draw(patience),
        idle_minutes=draw(patience),
        resume_minutes=draw(patience),
        overrun_minutes=draw(patience),
        feedback_deadline_hours=draw(st.integers(0, 6)),
    )


@given(any_snapshot(), moments)
def test_the_rules_agree_with_the_domain(s: SessionSnapshot, now: datetime) -> None:
    assert due_rule(s, now) == first_sentence(s, now)


@given(any_snapshot(), moments)
def test_next_check_is_the_first_moment_a_rule_is_due(s: SessionSnapshot, now: datetime) -> None:
    check_at = next_check(s)
    if first_sentence(s, now):
        assert check_at is not None
        assert check_at <= now
    if check_at is not None:
        assert first_sentence(s, check_at)
        assert first_sentence(s, check_at - TICK) is None
