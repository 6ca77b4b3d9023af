"""Translates violated session constraints into conflicts that name the other session."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from psycopg import errors as pg
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.errors import AlreadyOpen, DoubleBooked
from core.models import BUSY, OPEN, InterviewSession, User


@contextmanager
def translate_conflicts(
    db: Session,
    session_id: UUID,
    candidate_id: int,
    interview_id: int,
    *,
    busy: tuple[int | None, datetime | None, datetime | None],
) -> Iterator[None]:
    """A savepoint that translates a violated constraint into AlreadyOpen or DoubleBooked, with the other session.

    ``busy`` is the interviewer with the start and end of the time to book.
    """
    interviewer_id, start, end = busy
    s = InterviewSession
    if interviewer_id is not None:
        # One booking of an interviewer at a time: two overlapping ones would each wait for the other's exclusion check.
        db.execute(select(User.id).where(User.id == interviewer_id).with_for_update(key_share=True))
    try:
        with db.begin_nested():
            yield
    except IntegrityError as error:
        if isinstance(error.orig, pg.UniqueViolation | pg.ExclusionViolation):
            name = error.orig.diag.constraint_name
            others = select(s.id).where(s.id != session_id, s.deleted_at.is_(None)).limit(1)
            if name == "sessions_one_open":
                same = others.where(s.candidate_id == candidate_id, s.interview_id == interview_id)
                raise AlreadyOpen(db.scalar(same.where(s.status.in_(OPEN)))) from error
            if name == "sessions_double_booked":
                during = func.tstzrange(s.scheduled_start, s.scheduled_end).op("&&")(func.tstzrange(start, end))
                same = others.where(s.interviewer_id == interviewer_id, s.status.in_(BUSY), during)
                raise DoubleBooked(db.scalar(same), start) from error
        raise
