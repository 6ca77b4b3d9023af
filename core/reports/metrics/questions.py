"""An interview's questions (reached, difficulty, discrimination), its skills, and AI scores compared with people's."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.reports.data import AiHuman, QuestionStats, SkillWeek, Spread
from core.reports.metrics.moments import ONE_INTERVIEW, build_query, week, within
from core.reports.metrics.periods import Span
from core.reports.metrics.spreads import SPREADS, spread

MIN_SESSIONS = 20
"""Below this number of sessions no correlation is reported."""
GRID = 50
"""Steps of the grid of AI against human scores, from no points to all."""

ANSWERED = f"""
    begun AS MATERIALIZED (SELECT id, {week("began")} AS week FROM moments WHERE {within("began")}),
    answered AS MATERIALIZED (
        SELECT begun.id, begun.week, question_id, coalesce(
                max(score) FILTER (WHERE source = 'human'), max(score) FILTER (WHERE source = 'ai')
            ) AS score,
            max(score) FILTER (WHERE source = 'human') AS human, max(score) FILTER (WHERE source = 'ai') AS ai,
            max(seconds) AS seconds
        FROM begun JOIN answers ON answers.session_id = begun.id GROUP BY 1, 2, 3
    ),
    shares AS MATERIALIZED (
        SELECT answered.*, ordinal, skill, CAST(weight AS float8) AS weight, CAST(score / max_score AS float8) AS share,
            CAST(human / max_score AS float8) AS human_share, CAST(ai / max_score AS float8) AS ai_share
        FROM answered JOIN questions ON questions.id = question_id
    )
"""  # noqa: S608 - our constants
"""The answers of the sessions started in the period, one a question: a person's score has precedence over the AI's."""

QUESTIONS = f"""
    WITH {ANSWERED},
    rest_shares AS (
        SELECT question_id, share,
            round(CAST((sum(weight * share) OVER by_session - weight * share)
                / nullif(sum(weight) OVER by_session - weight, 0) AS numeric), 12) AS rest
        FROM shares WHERE share IS NOT NULL WINDOW by_session AS (PARTITION BY id)
    ),
    discriminations AS (
        SELECT question_id, CASE WHEN count(*) >= {MIN_SESSIONS} AND min(share) < max(share) AND min(rest) < max(rest)
            THEN corr(share, CAST(rest AS float8)) END AS discrimination
        FROM rest_shares WHERE rest IS NOT NULL GROUP BY 1
    ),
    counted AS (
        SELECT question_id, count(*) AS answered, count(share) AS scored, avg(share) AS difficulty
        FROM shares GROUP BY 1
    ),
    furthest AS (SELECT id, max(ordinal) AS ordinal FROM shares GROUP BY 1),
    valued AS (
        SELECT question_id AS key, CAST(seconds AS float8) AS value, count(*) AS n
        FROM shares WHERE seconds IS NOT NULL GROUP BY 1, 2
    ),
    {SPREADS}
    SELECT q.ordinal, q.text, q.skill, q.required,
        (SELECT count(*) FROM furthest WHERE furthest.ordinal >= q.ordinal),
        coalesce(answered, 0), difficulty, coalesce(scored, 0), discrimination,
        coalesce(total, 0), ARRAY[low, first, median, third, high]
    FROM questions q LEFT JOIN counted ON counted.question_id = q.id
        LEFT JOIN discriminations ON discriminations.question_id = q.id
        LEFT JOIN spreads ON spreads.key = q.id
    WHERE q.interview_id = :interview ORDER BY q.ordinal
"""  # noqa: S608 - our constants
""""Question difficulty = mean score / max score; discrimination = correlation with the rest of the score, n ≥ 20"
(docs/domain.md, "Report definitions"): the rest is the weighted share of points of the session's other scored
answers."""

SKILLS = f"""
    WITH {ANSWERED}
    SELECT skill, week, avg(share), count(share) FROM shares WHERE share IS NOT NULL GROUP BY 1, 2
"""  # noqa: S608 - our constants
SKILL_NAMES = text("SELECT skill FROM questions WHERE interview_id = :interview GROUP BY skill ORDER BY min(ordinal)")

AI_HUMAN = f"""
    WITH {ANSWERED},
    scored_by_both AS MATERIALIZED (
        SELECT ai_share AS ai, human_share AS human FROM shares WHERE ai_share IS NOT NULL AND human_share IS NOT NULL
    )
    SELECT 0, count(*), CASE WHEN min(ai) < max(ai) AND min(human) < max(human) THEN corr(ai, human) END,
        avg(ai - human) FROM scored_by_both
    UNION ALL
    SELECT 1, count(*), round(least(ai, 1) * {GRID}) / {GRID}, round(least(human, 1) * {GRID}) / {GRID}
    FROM scored_by_both GROUP BY 3, 4
    ORDER BY 1, 3, 4
"""  # noqa: S608 - our constants
"""Answers scored by both, as shares of the maximum: one row for all of them, then one for each point of the grid."""


def questions(db: Session, given: Mapping[str, Any]) -> tuple[QuestionStats, ...]:
    """Each question of ``given["interview"]``, in order."""
    return tuple(
        QuestionStats._make((*figures, spread(timed, seconds) if timed else Spread(0)))
        for *figures, timed, seconds in db.execute(build_query(QUESTIONS, ONE_INTERVIEW), given)
    )


def skills(db: Session, span: Span, given: Mapping[str, Any]) -> tuple[SkillWeek, ...]:
    """Every skill of the interview in every week: the mean share of points of its scored answers."""
    found = {
        (skill, number): (mean, n) for skill, number, mean, n in db.execute(build_query(SKILLS, ONE_INTERVIEW), given)
    }
    first = 1 + len(span.before)
    return tuple(
        SkillWeek(skill, one.monday, *found.get((skill, number), (None, 0)))
        for skill in db.scalars(SKILL_NAMES, given)
        for number, one in enumerate(span.now, first)
    )


def ai_human(db: Session, given: Mapping[str, Any]) -> AiHuman:
    """The AI's scores compared with people's."""
    (_, n, correlation, difference), *points = db.execute(build_query(AI_HUMAN, ONE_INTERVIEW), given)
    return AiHuman(n, correlation, difference, tuple((ai, human, count) for _, count, ai, human in points))
