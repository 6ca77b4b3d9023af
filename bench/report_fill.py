"""A million sessions of two years for the reports, and their other rows: one INSERT … SELECT a table."""

from datetime import UTC, datetime

import psycopg

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
INTERVIEWS, POSITIONS, SKILLS, QUESTIONS = 20, 12, 5, 7
CANDIDATE_SHARE, INTERVIEWER_SHARE = 10, 200
"""Sessions a candidate, sessions an interviewer."""
SCORED_SHARE = 5
"""One completed session in so many has answers."""

# Random statuses; two thirds have an interviewer, and one completed in ten was never planned.
_SESSIONS = """
    WITH given AS (SELECT CAST(%(now)s AS timestamptz) AS now, CAST(%(interviewers)s AS int) AS interviewers),
    lots AS (
        SELECT k, lot, CASE
            WHEN lot < 55 THEN 'completed' WHEN lot < 63 THEN 'abandoned' WHEN lot < 71 THEN 'no_show'
            WHEN lot < 81 THEN 'expired' WHEN lot < 89 THEN 'cancelled' WHEN lot < 94 THEN 'invited'
            ELSE 'scheduled' END AS status
        FROM (SELECT k, (k * 61 + k / %(candidates)s * 37) %% 100 AS lot
              FROM generate_series(0, %(sessions)s - 1) AS k) AS drawn
    ),
    made AS (
        SELECT k, lot, status, now, interviewers, now - CASE
            WHEN status IN ('invited', 'scheduled') THEN random() * interval '13 days'
            ELSE interval '15 days' + random() * interval '730 days' END AS created_at
        FROM lots, given
    ),
    planned AS (
        SELECT *, CASE
            WHEN status = 'scheduled' THEN date_trunc('hour', now) + (1 + k / interviewers) * interval '1 hour'
            WHEN status IN ('invited', 'expired') OR status = 'completed' AND k %% 10 = 9 THEN NULL
            ELSE date_trunc('hour', created_at + interval '1 day' + random() * interval '10 days') END AS start
        FROM made
    ),
    begun AS (
        SELECT *, CASE WHEN status IN ('completed', 'abandoned')
            THEN coalesce(start, created_at + interval '2 days') + random() * interval '6 minutes' END AS started_at
        FROM planned
    )
    INSERT INTO sessions (id, candidate_id, interview_id, interviewer_id, recruiter_id, status, status_at,
        scheduled_start, scheduled_end, invitation_expires_at, ics_uid, opened_at, started_at, ended_at, no_show_party,
        score, decision, decided_at, sweep_at, created_at, deleted_at)
    SELECT uuidv7(created_at - clock_timestamp()), 1 + k %% %(candidates)s, 1 + k / %(candidates)s %% %(interviews)s,
        CASE WHEN k %% 3 > 0 THEN 3 + k %% interviewers END, 2, status, least(created_at + interval '12 days', now),
        start, start + interval '1 hour',
        CASE WHEN status IN ('invited', 'expired') OR k %% 2 = 0 THEN created_at + interval '14 days' END, 'uid',
        CASE WHEN lot < 76 THEN created_at + interval '3 hours' END, started_at,
        CASE WHEN started_at IS NOT NULL THEN started_at + interval '20 minutes' + random() * interval '1 hour'
             WHEN status NOT IN ('invited', 'scheduled') THEN coalesce(start, created_at + interval '14 days') END,
        CASE WHEN status = 'no_show' THEN CASE WHEN k %% 5 = 0 THEN 'interviewer' ELSE 'candidate' END END,
        CASE WHEN status = 'completed' THEN round((30 + 70 * sqrt(random()))::numeric, 2) END,
        CASE WHEN status = 'completed' AND k %% 7 > 0
             THEN CASE WHEN k %% 4 = 0 THEN 'advance' WHEN k %% 4 = 1 THEN 'hold' ELSE 'reject' END END,
        CASE WHEN status = 'completed' AND k %% 7 > 0
             THEN started_at + interval '1 hour' + random() * interval '9 days' END,
        CASE WHEN status IN ('invited', 'scheduled') THEN now + interval '1 day' END, created_at,
        CASE WHEN status IN ('abandoned', 'expired') AND created_at < now - interval '45 days' THEN now END
    FROM begun ORDER BY created_at
"""
_AROUND = (
    """
    INSERT INTO users (id, email, name, role)
    SELECT n, 'i' || n || '@x', 'Interviewer ' || n, 'interviewer' FROM generate_series(3, 2 + %(interviewers)s) n
    UNION ALL SELECT 1, 'a@x', 'Ada', 'admin' UNION ALL SELECT 2, 'r@x', 'Rui', 'recruiter'
    """,
    """
    INSERT INTO candidates (id, email, name, applied_at, hired_at)
    SELECT n, 'c' || n || '@x', 'Candidate ' || n, applied,
           CASE WHEN n %% 8 = 0 THEN applied + interval '9 days' + random() * interval '30 days' END
    FROM (SELECT n, CAST(%(now)s AS timestamptz) - interval '40 days' - random() * interval '730 days' AS applied
          FROM generate_series(1, %(candidates)s) n) AS people
    """,
    """
    INSERT INTO interviews (id, title, position, pass_score)
    SELECT n, 'Interview ' || n, 'Position ' || n %% %(positions)s, 55 + n %% 3 * 5
    FROM generate_series(1, %(interviews)s) n
    """,
    """
    INSERT INTO questions (id, interview_id, ordinal, text, skill, required, weight)
    SELECT 10 * i + n, i, n, 'Why?', 'skill ' || n %% %(skills)s, n < 6, n
    FROM generate_series(1, %(interviews)s) i, generate_series(1, %(questions)s) n
    """,
)
_AFTER = (
    """
    INSERT INTO feedback (session_id, interviewer_id, recommendation, submitted_at)
    SELECT id, interviewer_id, 'yes', ended_at + random() * interval '70 hours' FROM sessions
    WHERE status = 'completed' AND interviewer_id IS NOT NULL AND random() < 0.9
    """,
    """
    INSERT INTO answers (session_id, question_id, source, score, seconds, answered_at)
    SELECT s.id, 10 * s.interview_id + q, 'ai', least(5, round((random() * 3 + s.score / 40)::numeric, 1)),
           20 + random() * 300, s.started_at + q * interval '3 minutes'
    FROM sessions s, generate_series(1, %(questions)s) q
    WHERE s.status = 'completed' AND abs(hashtext(s.id::text)) %% %(scored)s = 0
    """,
    """
    INSERT INTO answers (session_id, question_id, source, score, scored_by, answered_at)
    SELECT session_id, question_id, 'human', greatest(0, least(5, score + round((random() - 0.5)::numeric, 1))), 3,
           answered_at + interval '1 hour'
    FROM answers WHERE abs(hashtext(session_id::text || 'human')) %% 2 = 0
    """,
    """
    INSERT INTO reminders (session_id, schedule_version, recipient, offset_minutes, due_at, send_by, status, reason,
                           sent_at)
    SELECT s.id, 1, recipient, minutes, due, due + interval '30 minutes',
           CASE WHEN due > %(now)s THEN 'planned' WHEN luck < 0.02 THEN 'skipped' WHEN luck < 0.1 THEN 'void'
                ELSE 'sent' END,
           CASE WHEN due <= %(now)s AND luck < 0.02 THEN 'missed its window' END,
           CASE WHEN due <= %(now)s AND luck >= 0.1 THEN due + random() * interval '1 minute' END
    FROM (SELECT id, scheduled_start, random() AS luck FROM sessions WHERE scheduled_start IS NOT NULL) s
    CROSS JOIN (VALUES ('candidate', 60), ('interviewer', 60), ('candidate', 1440)) AS offsets(recipient, minutes)
    CROSS JOIN LATERAL (SELECT scheduled_start - minutes * interval '1 minute' AS due) AS at
    ORDER BY s.id
    """,
    """
    INSERT INTO emails (id, kind, status, session_id, to_address, message_id, subject, text_body, due_at, created_at,
                        sent_at)
    SELECT uuidv7(at - clock_timestamp()), 'invitation', CASE WHEN luck < 0.003 THEN 'dead' WHEN luck < 0.004
               THEN 'uncertain' WHEN luck < 0.01 THEN 'suppressed' ELSE 'sent' END,
           id, 'c@x', id || '/' || n || '@x', 'Your interview',
           CASE WHEN at > CAST(%(now)s AS timestamptz) - interval '90 days' THEN repeat('Dear candidate. ', 20) END,
           at, at, at + interval '1 second'
    FROM (SELECT id, n, created_at + n * interval '1 hour' AS at, random() AS luck
          FROM sessions, generate_series(1, 2) n) AS mails
    ORDER BY at
    """,
    """
    INSERT INTO notifications (role, category, title, body, not_before, status, created_at, delivered_at)
    SELECT 'admin', CASE WHEN n %% 50 = 0 THEN 'job_late' ELSE 'mail_dead' END, 'Job late', 'A run is late.', at,
           'delivered', at, at
    FROM generate_series(1, 20000) n,
         LATERAL (SELECT CAST(%(now)s AS timestamptz) - n * interval '50 minutes' AS at) AS times
    """,
)


def fill(url: str, *, sessions: int) -> None:
    """Fill a migrated, empty database; a superuser's connection spares the checks of foreign keys."""
    given = {
        "now": NOW,
        "sessions": sessions,
        "candidates": max(sessions // CANDIDATE_SHARE, 100),
        "interviewers": max(sessions // INTERVIEWER_SHARE, 20),
        "interviews": INTERVIEWS,
        "positions": POSITIONS,
        "skills": SKILLS,
        "questions": QUESTIONS,
        "scored": SCORED_SHARE,
    }
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET session_replication_role = replica")
        db.execute("SELECT setseed(0.42)")
        for statement in (*_AROUND, _SESSIONS, *_AFTER):
            db.execute(statement, given)
        db.execute("VACUUM ANALYZE")
        db.execute("CHECKPOINT")
