"""Reports' data as they might be read, the same every time: nothing, one session, few, a season, a flood."""

from datetime import timedelta
from random import Random
from uuid import UUID

from core.reports.data import (
    AiHuman,
    AnswerEntry,
    Attention,
    CandidateReport,
    Dashboard,
    FeedbackEntry,
    FeedbackTimes,
    InterviewReport,
    Load,
    Operations,
    QuestionStats,
    Ratio,
    Scores,
    SessionEntry,
    SkillStats,
    SkillWeek,
    Spread,
    Stage,
    Stamp,
    Wait,
)
from tests.support.report_sample_parts import (
    AS_OF,
    HOSTILE,
    NAMES,
    POSITIONS,
    SIZES,
    SKILLS,
    ZONE,
    histogram,
    outcomes,
    period,
    spread,
    totals,
    weeks,
)

__all__ = ["HOSTILE", "NAMES", "SIZES", "ZONE", "candidate", "dashboard", "interview", "period"]


def dashboard(
    n: int, *, days: int = 84, names: tuple[str, ...] = NAMES, positions: tuple[str, ...] = POSITIONS
) -> Dashboard:
    """The dashboard over n sessions."""
    rng = Random(n)
    now, then = totals(n), totals(round(n * 0.84), -0.03 if n > 100 else 0.0)
    held = [max(1, round(now.completed * 0.7 * 0.78**i * 0.24)) for i in range(len(names))] if n > 1 else [1] * n
    return Dashboard(
        stamp=Stamp(period(days), AS_OF, n),
        totals=now,
        previous=then,
        funnel=_funnel(n),
        weeks=weeks(n, days),
        previous_weeks=weeks(round(n * 0.84), days, days, -0.03 if n > 100 else 0.0),
        histogram=histogram(now.completed),
        pass_scores=(55.0, 58.0, 62.0, 65.0) if n > 1 else (62.0,) * min(n, 1),
        scores=spread(rng, now.completed, 63, 12),
        positions=tuple(
            Scores(p, spread(rng, max(1, now.completed // (i + 3)), 66 - 2 * i, 12), _outliers(rng, n))
            for i, p in enumerate(positions[: min(len(positions), n)])
        ),
        feedback=_feedback(now.completed, now.feedback_in_time.part),
        interviewers=tuple(Load(names[i], k, round(k * 0.83, 2)) for i, k in enumerate(held)),
        interviewer_count=len(held),
        heat=_heat(rng, n),
        attention=_attention(names, n),
        attention_count=min(n, 30) if n < 100_000 else 4_120,
        operations=Operations(Ratio(round(n * 1.86), round(n * 1.9)), n * 6, n // 200, n // 160, n // 100),
    )


def interview(
    n: int, *, title: str = "Backend engineering", questions: int = 9, names: tuple[str, ...] = ()
) -> InterviewReport:
    """One interview's analytics over n sessions."""
    rng = Random(n)
    now = totals(n)
    started = now.show.part
    question_rows = tuple(
        QuestionStats(
            i + 1,
            (names or _QUESTIONS)[i % len(names or _QUESTIONS)],
            SKILLS[i % len(SKILLS)],
            i % 4 != 3,
            round(started * (0.985**i) * (0.93 if i > 4 else 1)),
            round(started * (0.985**i) * (0.93 if i > 4 else 1) * (0.99 if i % 4 != 3 else 0.71)),
            0.45 + 0.04 * ((i * 7) % 9) if n else None,
            round(started * 0.9),
            None if n < 20 or i == 2 else round(0.2 + 0.06 * ((i * 5) % 8), 2),
            spread(rng, started, 170 + 37 * ((i * 3) % 7), 60, top=3000),
        )
        for i in range(questions)
    )
    return InterviewReport(
        stamp=Stamp(period(), AS_OF, n),
        interview_id=1,
        title=title,
        position="Backend Engineer",
        duration_minutes=60,
        pass_score=62.0,
        totals=now,
        previous=totals(round(n * 0.84), -0.03 if n > 100 else 0.0),
        outcomes=outcomes(n, True),
        weeks=weeks(n),
        histogram=histogram(now.completed),
        scores=spread(rng, now.completed, 63, 12),
        started=started,
        questions=question_rows if n else tuple(q._replace(seconds=Spread(0)) for q in question_rows),
        skills=tuple(
            SkillWeek(
                skill, week.monday, 0.5 + 0.03 * ((i * 5 + j * 3) % 11), max(1, week.totals.completed // (1 + i % 3))
            )
            for i, skill in enumerate(SKILLS)
            for j, week in enumerate(weeks(n))
            if week.totals.completed
        ),
        ai_human=_ai_human(rng, round(now.completed * 4)),
    )


def candidate(
    n: int, *, name: str = "Maya Lindqvist", names: tuple[str, ...] = NAMES, title: str = "Backend engineering"
) -> CandidateReport:
    """One candidate's analytics over n sessions."""
    rng = Random(n)
    shown = min(n, 100)
    statuses = ("completed", "completed", "no_show", "abandoned", "completed")
    lines = []
    for i in range(shown):
        status = statuses[i % 5]
        start = AS_OF - timedelta(days=9 * (shown - i), hours=3)
        done = status == "completed"
        lines.append(
            SessionEntry(
                UUID(int=i + 1),
                title if i % 2 == 0 else "Reliability and operations",
                POSITIONS[0 if i % 2 == 0 else 3],
                names[i % len(names)] if i % 3 else None,
                status,
                start - timedelta(days=5),
                start - timedelta(days=4),
                start,
                None if status == "no_show" else start + timedelta(minutes=2),
                start + timedelta(minutes=52),
                round(rng.uniform(48, 88), 1) if done else None,
                62.0 if i % 2 == 0 else 65.0,
                ("advance", "reject", None)[i % 3] if done else None,
                start + timedelta(days=1) if done else None,
                i > 2 and i % 5 == 3,
            )
        )
    done_lines = [line for line in lines if line.score is not None][-5:]
    return CandidateReport(
        stamp=Stamp(period(364), AS_OF, n),
        candidate_id=4,
        name=name,
        email="maya@example.com",
        source="referral",
        applied_at=AS_OF - timedelta(days=80) if n else None,
        hired_at=None,
        withdrawn_at=None,
        sessions=tuple(lines),
        skills=tuple(
            SkillStats(POSITIONS[0], s, 0.45 + 0.07 * ((i * 3) % 6), 1 + i, None if n < 2 else 0.6, 0 if n < 2 else 40)
            for i, s in enumerate(SKILLS[: min(6, n)])
        ),
        answers=tuple(
            AnswerEntry(
                line.session_id,
                q + 1,
                (title, *_QUESTIONS)[q],
                SKILLS[q % 6],
                ("ai", "human")[q % 3 == 0],
                round(rng.uniform(1, 5), 1) if q != 4 else None,
                5.0,
                60 * q + 95,
                names[0] if q % 3 == 0 else None,
            )
            for line in done_lines
            for q in range(8)
        ),
        feedback=tuple(
            FeedbackEntry(
                line.session_id,
                line.interview,
                names[i % len(names)],
                ("strong_yes", "yes", "no")[i % 3],
                _COMMENTS[i % 3],
                AS_OF - timedelta(days=i + 1),
                i % 3 != 2,
            )
            for i, line in enumerate(done_lines)
        ),
        attendance={
            "completed": sum(line.status == "completed" for line in lines),
            "abandoned": sum(line.status == "abandoned" for line in lines),
            "no_show": sum(line.status == "no_show" for line in lines),
            "interviewer_no_show": 0,
            "late": shown // 6,
            "cancelled": shown // 9,
        },
        show=Ratio(sum(line.status != "no_show" for line in lines), shown),
    )


def _funnel(n: int) -> tuple[Stage, ...]:
    names = ("invited", "opened", "started", "completed", "advanced", "hired")
    return tuple(
        Stage(name, round(n * share)) for name, share in zip(names, (1, 0.93, 0.86, 0.774, 0.35, 0.08), strict=True)
    )


def _outliers(rng: Random, n: int) -> tuple[float, ...]:
    return tuple(round(rng.uniform(4, 24), 1) for _ in range(min(6, n // 100)))


def _feedback(n: int, in_time: int) -> FeedbackTimes:
    if not n:
        return FeedbackTimes(Ratio(0, 0), (), Wait(0))
    share = in_time / n
    curve = [
        (i / 33, min(0.97, share * (1 - (1 - min(i / 33, 1)) ** 2.2) + (0.05 * (i / 33 - 1) if i > 33 else 0)))
        for i in range(100)
    ]
    return FeedbackTimes(Ratio(in_time, n), tuple(curve), Wait(n, 48.0, 72.0))


def _heat(rng: Random, n: int) -> dict[tuple[int, int], int]:
    spots = [(d, h) for d in range(1, 6) for h in range(8, 19)]
    weights = [rng.uniform(0.3, 1) * (3 if h in (11, 14) else 1) / (1 + (d == 5)) for d, h in spots]
    found: dict[tuple[int, int], int] = {}
    if n <= 5000:
        for spot in rng.choices(spots, weights, k=n):
            found[spot] = found.get(spot, 0) + 1
        return found
    return {spot: round(n * w / sum(weights)) for spot, w in zip(spots, weights, strict=True)}


def _attention(names: tuple[str, ...], n: int) -> tuple[Attention, ...]:
    kinds = ("feedback_overdue", "undecided", "no_show", "interviewer_no_show", "expiring", "mail")
    return tuple(
        Attention(
            kinds[i % 6], UUID(int=i + 1), names[i % len(names)], POSITIONS[i % 5], AS_OF - timedelta(hours=7 * i + 3)
        )
        for i in range(min(n, 30))
    )


def _ai_human(rng: Random, n: int) -> AiHuman:
    if not n:
        return AiHuman(0, None, None, ())
    found: dict[tuple[float, float], int] = {}
    for _ in range(min(n, 4000)):
        ai = min(1, max(0, rng.gauss(0.62, 0.17)))
        spot = round(round(ai * 50) / 50, 2), round(round(min(1, max(0, ai + rng.gauss(-0.03, 0.09))) * 50) / 50, 2)
        found[spot] = found.get(spot, 0) + max(1, n // 4000)
    return AiHuman(n, 0.84 if n > 2 else None, 0.03, tuple((x, y, k) for (x, y), k in sorted(found.items())))


_QUESTIONS = (
    "Tell us about a service you are proud of.",
    "Design a rate limiter for a public API.",
    "How do you find the cause of a slow query?",
    "When would you choose a queue over a call?",
    "Explain an isolation level that surprised you, and what you changed because of it in the system you then had.",
    "How do you test code that talks to other services?",
    "Review this handler: what would you change?",
    "What should every service log, and what never?",
    "What would you like to learn next?",
)

_COMMENTS = (
    "Clear thinking, and asked the right questions before designing anything.",
    None,
    "Struggled with the trade-offs; <b>needs</b> another round.\nWould see again.",
)
