"""One interview's figures."""

from datetime import datetime

from sqlalchemy.orm import Session

from core.errors import NotFound
from core.models import Interview
from core.reports.data import InterviewReport, Period, Stamp
from core.reports.metrics.moments import ONE_INTERVIEW, build_query, query_parameters, tune, within
from core.reports.metrics.periods import span
from core.reports.metrics.questions import ai_human, questions, skills
from core.reports.metrics.scores import scores
from core.reports.metrics.totals import period_totals

STARTED = f"SELECT count(*) FROM moments WHERE {within('began')}"  # noqa: S608 - our constants


def interview(db: Session, interview_id: int, period: Period, *, as_of: datetime) -> InterviewReport:
    """All figures of one interview in a period; consistent when ``db`` is one snapshot. Raises NotFound.

    Deleted interviews are reported, too.
    """
    found = db.get(Interview, interview_id)
    if found is None:
        raise NotFound("interview", interview_id)
    tune(db)
    cut = span(period)
    parameters = query_parameters(cut, as_of=as_of, interview=interview_id)
    totals = period_totals(db, cut, parameters)
    scored = scores(db, parameters, ONE_INTERVIEW)
    return InterviewReport(
        stamp=Stamp(period, as_of, totals.n),
        interview_id=interview_id,
        title=found.title,
        position=found.position,
        duration_minutes=found.duration_minutes,
        pass_score=float(found.pass_score),
        totals=totals.now,
        previous=totals.before,
        outcomes=totals.outcomes,
        weeks=totals.weeks,
        histogram=scored.histogram,
        scores=scored.spread,
        started=db.execute(build_query(STARTED, ONE_INTERVIEW), parameters).scalar_one(),
        questions=questions(db, parameters),
        skills=skills(db, cut, parameters),
        ai_human=ai_human(db, parameters),
    )
