"""One interview's figures."""

from datetime import datetime

from sqlalchemy.orm import Session

from core.errors import NotFound
from core.models import Interview
from core.reports.data import InterviewReport, Period, Stamp
from core.reports.metrics.moments import ONE_INTERVIEW, given, over, tune, within
from core.reports.metrics.periods import span
from core.reports.metrics.questions import ai_human, questions, skills
from core.reports.metrics.scores import scores
from core.reports.metrics.totals import period_totals

STARTED = f"SELECT count(*) FROM moments WHERE {within('began')}"  # noqa: S608 - our own words


def interview(db: Session, interview_id: int, period: Period, *, as_of: datetime) -> InterviewReport:
    """All figures of one interview in a period; consistent when ``db`` is one snapshot. Raises NotFound.

    An interview that was deleted since is reported on all the same.
    """
    found = db.get(Interview, interview_id)
    if found is None:
        raise NotFound("interview", interview_id)
    tune(db)
    cut = span(period)
    asked = given(cut, as_of=as_of, interview=interview_id)
    told = period_totals(db, cut, asked)
    scored = scores(db, asked, ONE_INTERVIEW)
    return InterviewReport(
        stamp=Stamp(period, as_of, told.n),
        interview_id=interview_id,
        title=found.title,
        position=found.position,
        duration_minutes=found.duration_minutes,
        pass_score=float(found.pass_score),
        totals=told.now,
        previous=told.before,
        outcomes=told.outcomes,
        weeks=told.weeks,
        histogram=scored.histogram,
        scores=scored.spread,
        started=db.execute(over(STARTED, ONE_INTERVIEW), asked).scalar_one(),
        questions=questions(db, asked),
        skills=skills(db, cut, asked),
        ai_human=ai_human(db, asked),
    )
