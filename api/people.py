"""Users, candidates and interviews over HTTP."""

from datetime import datetime, time
from typing import Annotated

from fastapi import APIRouter, Path, Response

from api.deps import Create, Db, LastId, Out, Page, Pages, Viewer
from core import interviews, people
from core.clock import utcnow
from core.fields import Id
from core.models import Role

router = APIRouter(prefix="/api", tags=["people and interviews"])

PathId = Annotated[Id, Path()]


class UserOut(Out):
    """A user as staff see them."""

    id: int
    email: str
    name: str
    role: Role
    timezone: str
    quiet_from: time | None
    quiet_until: time | None
    token_version: int
    created_at: datetime


class CandidateOut(Out):
    """A candidate as staff see them."""

    id: int
    user_id: int | None
    email: str
    name: str
    timezone: str
    source: str | None
    applied_at: datetime | None
    hired_at: datetime | None
    withdrawn_at: datetime | None
    created_at: datetime


class QuestionOut(Out):
    """One question of an interview."""

    id: int
    ordinal: int
    text: str
    skill: str
    required: bool
    weight: float
    max_score: float


class InterviewOut(Out):
    """An interview with its questions."""

    id: int
    title: str
    position: str
    duration_minutes: int
    reminder_offsets: list[int]
    no_show_minutes: int
    idle_minutes: int
    resume_minutes: int
    overrun_minutes: int
    completion_ratio: float
    pass_score: float
    feedback_deadline_hours: int
    created_at: datetime
    questions: list[QuestionOut]


@router.post("/users", status_code=201, response_model=UserOut)
def create_user(given: people.NewUser, create: Create) -> Response:
    """Create a user."""
    return create(lambda: UserOut.model_validate(people.create_user(create.db, given, by=create.viewer)))


@router.get("/users")
def list_users(db: Db, viewer: Viewer, pages: Pages, last_id: LastId, role: Role | None = None) -> Page[UserOut]:
    """Users, by id."""
    rows = people.users(db, by=viewer, role=role, after=pages.after_id(), limit=pages.limit + 1)
    return pages.page(UserOut, rows, last_id)


@router.get("/users/{user_id}")
def read_user(user_id: PathId, db: Db, viewer: Viewer) -> UserOut:
    """One user."""
    return UserOut.model_validate(people.get_user(db, user_id, by=viewer))


@router.patch("/users/{user_id}")
def change_user(user_id: PathId, given: people.UserPatch, db: Db, viewer: Viewer) -> UserOut:
    """Change a user; a new role or a raised token version closes their sockets."""
    return UserOut.model_validate(people.change_user(db, user_id, given, by=viewer, now=utcnow()))


@router.post("/candidates", status_code=201, response_model=CandidateOut)
def create_candidate(given: people.NewCandidate, create: Create) -> Response:
    """Create a candidate."""
    return create(
        lambda: CandidateOut.model_validate(people.create_candidate(create.db, given, by=create.viewer, now=utcnow()))
    )


@router.get("/candidates")
def list_candidates(db: Db, viewer: Viewer, pages: Pages, last_id: LastId) -> Page[CandidateOut]:
    """Candidates, by id."""
    rows = people.candidates(db, by=viewer, after=pages.after_id(), limit=pages.limit + 1)
    return pages.page(CandidateOut, rows, last_id)


@router.get("/candidates/{candidate_id}")
def read_candidate(candidate_id: PathId, db: Db, viewer: Viewer) -> CandidateOut:
    """One candidate."""
    return CandidateOut.model_validate(people.get_candidate(db, candidate_id, by=viewer))


@router.patch("/candidates/{candidate_id}")
def change_candidate(candidate_id: PathId, given: people.CandidatePatch, db: Db, viewer: Viewer) -> CandidateOut:
    """Change a candidate."""
    return CandidateOut.model_validate(people.change_candidate(db, candidate_id, given, by=viewer, now=utcnow()))


@router.post("/interviews", status_code=201, response_model=InterviewOut)
def create_interview(given: interviews.NewInterview, create: Create) -> Response:
    """Create an interview with its questions."""
    return create(lambda: InterviewOut.model_validate(interviews.create(create.db, given, by=create.viewer)))


@router.get("/interviews")
def list_interviews(db: Db, viewer: Viewer, pages: Pages, last_id: LastId) -> Page[InterviewOut]:
    """Interviews, by id."""
    rows = interviews.page(db, by=viewer, after=pages.after_id(), limit=pages.limit + 1)
    return pages.page(InterviewOut, rows, last_id)


@router.get("/interviews/{interview_id}")
def read_interview(interview_id: PathId, db: Db, viewer: Viewer) -> InterviewOut:
    """One interview."""
    return InterviewOut.model_validate(interviews.get(db, interview_id, by=viewer))


@router.patch("/interviews/{interview_id}")
def change_interview(interview_id: PathId, given: interviews.InterviewPatch, db: Db, viewer: Viewer) -> InterviewOut:
    """Change an interview; ``questions`` is the whole new list."""
    return InterviewOut.model_validate(interviews.change(db, interview_id, given, by=viewer))
