"""One session as rows: the same rows that core writes, with times in the past."""

import json
from collections.abc import Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from core.models import SessionStatus
from core.sessions.deadlines import LATE_AFTER
from core.sessions.moves import CORRECTIONS, ENDED, MOVES, Actor
from deployments.demo.interviews import DemoInterview, DemoQuestion
from deployments.demo.people import ADMIN, RECRUITER, DemoPerson

SWEEP = timedelta(minutes=10)


def next_sweep(at: datetime) -> datetime:
    """The scheduled status sweep at or after a moment."""
    start = datetime.fromtimestamp(0, UTC)
    return start - (start - at) // SWEEP * SWEEP


@dataclass(slots=True)
class SessionBuilder:
    """A session with its history, answers and feedback, built step by step."""

    rng: Random
    person: DemoPerson
    interview: DemoInterview
    interviewer_id: int | None
    retry_of: UUID | None = None
    row: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    feedback: dict[str, Any] | None = None

    @property
    def id(self) -> UUID:
        found: UUID = self.row["id"]
        return found

    @property
    def status(self) -> SessionStatus:
        found: SessionStatus = self.row["status"]
        return found

    def create(
        self, at: datetime, *, start: datetime | None = None, expires: datetime | None = None, opened: bool = True
    ) -> None:
        """Invite, or schedule when there is a start."""
        id_ = _uuid7(self.rng, at)
        self.row = {
            "id": id_,
            "candidate_id": self.person.id,
            "interview_id": self.interview.id,
            "interviewer_id": self.interviewer_id,
            "recruiter_id": RECRUITER,
            "status": "scheduled" if start else "invited",
            "status_at": at,
            "scheduled_start": start,
            "scheduled_end": start + self.interview.minutes("duration") if start else None,
            "schedule_version": 1,
            "invitation_expires_at": expires,
            "ics_uid": f"{id_}@greenroom",
            "ics_sequence": 0,
            "opened_at": at + timedelta(minutes=self.rng.uniform(4, 900)) if opened else None,
            "started_at": None,
            "last_activity_at": None,
            "activity_pushed_at": None,
            "ended_at": None,
            "no_show_party": None,
            "score": None,
            "decision": None,
            "decided_at": None,
            "retry_of": self.retry_of,
            "late_version": None,
            "feedback_overdue_at": None,
            "created_at": at,
        }
        self._event("created", "recruiter", at, new_status=self.status)

    def schedule(self, at: datetime, start: datetime, actor: Actor) -> None:
        """Schedule an invited session."""
        self.row |= {"scheduled_start": start, "scheduled_end": start + self.interview.minutes("duration")}
        self.move("scheduled", at, actor)

    def reschedule(self, at: datetime, start: datetime, reason: str) -> None:
        """Reschedule; history has both times."""
        old, version = self.row["scheduled_start"], self.row["schedule_version"] + 1
        self.row |= {
            "scheduled_start": start,
            "scheduled_end": start + self.interview.minutes("duration"),
            "schedule_version": version,
            "ics_sequence": self.row["ics_sequence"] + 1,
        }
        data = {
            "scheduled_start": start.isoformat(),
            "previous_start": old.isoformat(),
            "interviewer_id": self.interviewer_id,
            "previous_interviewer_id": self.interviewer_id,
            "schedule_version": version,
        }
        self._event("rescheduled", "recruiter", at, reason=reason, data=data)

    def move(
        self,
        to: SessionStatus,
        at: datetime,
        actor: Actor,
        reason: str | None = None,
        *,
        party: str | None = None,
    ) -> None:
        """One legal move, with the rows that core writes for it."""
        old = self.status
        if actor not in MOVES[old, to]:
            raise AssertionError(f"the demo moves {old} to {to} as {actor}")
        self.row |= {"status": to, "status_at": at, "no_show_party": party}
        if to == "in_progress":
            self.row |= {"started_at": self.row["started_at"] or at, "last_activity_at": at, "ended_at": None}
            if self.row["opened_at"] is None or self.row["opened_at"] > at:
                self.row["opened_at"] = at - timedelta(minutes=2)
            if self.interviewer_id and self.row["scheduled_start"] is None:
                self.row |= {"scheduled_start": at, "scheduled_end": at + self.interview.minutes("duration")}
        elif to in ENDED:
            self.row["ended_at"] = self.row["ended_at"] or at
        kind = "corrected" if (old, to) in CORRECTIONS else "moved"
        self._event(kind, actor, at, old_status=old, new_status=to, reason=reason)

    def mark_late_before(self, until: datetime) -> None:
        """Record lateness if a sweep ran before this time."""
        at = next_sweep(self.row["scheduled_start"] + LATE_AFTER)
        if at < until:
            version = self.row["late_version"] = self.row["schedule_version"]
            self._event("late", "system", at, dedupe_key=f"late/{version}")

    def answer(
        self, count: int, begin: datetime, *, skipped: Set[int] = frozenset(), until: datetime | None = None
    ) -> datetime:
        """Answer the first ``count`` questions one after the other; returns the time of the last answer."""
        rng, at = self.rng, begin
        attempt = 0 if self.retry_of is None else rng.randrange(1, 3)
        ability = min(0.97, max(0.1, self.person.ability + self.person.progress * attempt + rng.gauss(0, 0.05)))
        for question in self.interview.questions[:count]:
            if question.id in skipped:
                continue
            seconds = question.seconds * rng.lognormvariate(-0.1, 0.3)
            ends = at + timedelta(seconds=seconds + rng.uniform(3, 20))
            if until and ends > until:
                break
            at = ends
            share = min(1.0, max(0.0, ability + question.ease + rng.gauss(0, 0.12)))
            self._score(question, "ai", share, at, round(seconds))
            if self.interviewer_id and rng.random() < 0.6:
                self._score(question, "human", share + rng.gauss(-0.02, 0.08), at, None)
        self.row |= {"last_activity_at": at, "activity_pushed_at": at}
        return at

    def computed_score(self) -> float:
        """The score as core computes it, 0–100, for the decision; the stored score is computed by core."""
        best: dict[int, float] = {}
        for given in sorted(self.answers, key=lambda a: str(a["source"])):
            best[given["question_id"]] = float(given["score"])
        scored = [q for q in self.interview.questions if q.id in best]
        whole = sum(q.weight for q in scored)
        return 100 * sum(q.weight * best[q.id] / q.max_score for q in scored) / whole if whole else 0.0

    def answered(self) -> set[int]:
        return {given["question_id"] for given in self.answers}

    def follow_up(self, base: datetime) -> None:
        """Add feedback (in time, late or never) and the decision, as far as they are due."""
        rng, ended = self.rng, self.row["ended_at"]
        decided_after = self.events[-1]["at"] + timedelta(minutes=10)
        if self.interviewer_id and self.status == "completed":
            deadline = ended + timedelta(hours=self.interview.row["feedback_deadline_hours"])
            outcome = rng.random()
            share = rng.betavariate(1.6, 3.2) if outcome < 0.82 else rng.uniform(1.05, 2.2)
            given = max(ended + (deadline - ended) * share, decided_after) if outcome < 0.92 else None
            overdue = next_sweep(deadline)
            if overdue <= base and (given is None or given > overdue):
                self.row["feedback_overdue_at"] = overdue
                self._event("feedback_overdue", "system", overdue, dedupe_key=self._dedupe_key("feedback_overdue"))
            if given is None or given > base:
                return
            self._give_feedback(given)
            decided_after = given
        if self.status == "completed" and rng.random() < 0.93:
            at = decided_after + timedelta(hours=rng.uniform(2, 70))
            if at <= base:
                score, passing = self.computed_score(), float(self.interview.row["pass_score"])
                decision = "advance" if score >= passing + 2 else "hold" if score >= passing - 3 else "reject"
                self.decide(decision, at)

    def decide(self, decision: str, at: datetime) -> None:
        self.row |= {"decision": decision, "decided_at": at}
        self._event("updated", "recruiter", at, data={"decision": decision})

    def _give_feedback(self, at: datetime) -> None:
        margin = self.computed_score() - float(self.interview.row["pass_score"]) + self.rng.gauss(0, 6)
        said = "strong_yes" if margin > 14 else "yes" if margin > 0 else "no" if margin > -14 else "strong_no"
        self.feedback = {
            "session_id": self.id,
            "interviewer_id": self.interviewer_id,
            "recommendation": said,
            "comment": self.rng.choice(_COMMENTS[said]),
            "submitted_at": at,
        }
        self._event("feedback", "interviewer", at, data={"recommendation": said})

    def _score(self, question: DemoQuestion, source: str, share: float, at: datetime, seconds: int | None) -> None:
        # Interviewers and the AI score in halves.
        points = min(question.max_score, max(0.0, round(share * question.max_score * 2) / 2))
        self.answers.append(
            {
                "session_id": self.id,
                "question_id": question.id,
                "source": source,
                "text": self.rng.choice(_ANSWERS) if source == "ai" else None,
                "score": points,
                "seconds": seconds,
                "scored_by": self.interviewer_id if source == "human" else None,
                "answered_at": at if source == "ai" else at + timedelta(seconds=self.rng.uniform(5, 60)),
            }
        )

    def _dedupe_key(self, kind: str) -> str:
        return f"{kind}/{self.row['schedule_version']}"

    def _event(self, kind: str, actor: Actor, at: datetime, **given: Any) -> None:
        who = {
            "candidate": self.person.user_id,
            "interviewer": self.interviewer_id,
            "recruiter": RECRUITER,
            "admin": ADMIN,
            "system": None,
        }
        self.events.append(
            {
                "session_id": self.id,
                "kind": kind,
                "old_status": given.get("old_status"),
                "new_status": given.get("new_status"),
                "actor": actor,
                "actor_id": who[actor],
                "reason": given.get("reason"),
                "data": json.dumps(given.get("data", {})),
                "at": at,
                "dedupe_key": given.get("dedupe_key"),
            }
        )


def _uuid7(rng: Random, at: datetime) -> UUID:
    """As ``core.clock.uuid7``, but the same for the same seed."""
    millis = int(at.timestamp() * 1000)
    bits = rng.getrandbits(74)
    return UUID(int=millis << 80 | 0x7 << 76 | (bits >> 62) << 64 | 0b10 << 62 | bits & (1 << 62) - 1)


_ANSWERS = [
    "Gave a clear example from a recent project and named what they would do differently.",
    "Started from the users, then worked towards the constraints.",
    "Knew the terms, was less sure of the reasons.",
    "Asked two good questions before answering.",
    "Compared two approaches and chose one with a reason.",
    "Needed a hint, then went on alone.",
    "Answered briefly; the main point was there.",
    "Drew a sketch in words and found the weak spot themselves.",
    "Went into detail early and lost the thread.",
    "Named the trade-off, the measure and the way back.",
]

_COMMENTS = {
    "strong_yes": ["Would like to work with them tomorrow.", "The clearest answers this month."],
    "yes": ["Solid throughout; a little quick at the end.", "Good judgement, asks before assuming."],
    "no": ["Not yet: needs more practice with the core of the role.", "Polite and prepared, but the depth is missing."],
    "strong_no": ["Could not explain the basics.", "Too far from what the role needs."],
}
