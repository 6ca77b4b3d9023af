"""Due reminders, pending notifications and old sessions by the hundred thousand: one INSERT … SELECT a table."""

from datetime import datetime

import psycopg

_PEOPLE = """
    INSERT INTO users (email, name, role, timezone)
    SELECT 'i' || k || '@example.com', 'Interviewer ' || k, 'interviewer', 'Europe/Lisbon'
    FROM generate_series(1, %(n)s) k;
    INSERT INTO users (email, name, role, timezone)
    SELECT 'c' || k || '@example.com', 'Candidate ' || k, 'candidate', 'America/New_York'
    FROM generate_series(1, %(n)s) k;
    INSERT INTO candidates (user_id, email, name, timezone)
    SELECT id, email, name, timezone FROM users WHERE role = 'candidate' ORDER BY id;
    INSERT INTO interviews (title, position, reminder_offsets)
    SELECT 'Interview ' || k, 'Engineer', '{60}' FROM generate_series(1, 20) k;
"""
_SESSIONS = """
    INSERT INTO sessions (id, candidate_id, interview_id, interviewer_id, status, status_at, scheduled_start,
                          scheduled_end, ics_uid, sweep_at, invitation_expires_at)
    SELECT gen_random_uuid(), c.id, 1 + c.id %% 20, i.id, 'scheduled', %(now)s::timestamptz - interval '3 days',
           %(start)s::timestamptz + c.place * %(step)s * interval '1 second',
           %(start)s::timestamptz + c.place * %(step)s * interval '1 second' + interval '1 hour',
           gen_random_uuid()::text, NULL, NULL
    FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM candidates) c
    JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM users WHERE role = 'interviewer') i USING (place)
"""
_REMINDERS = """
    INSERT INTO reminders (session_id, schedule_version, recipient, offset_minutes, due_at, send_by)
    SELECT id, 1, party, 60, scheduled_start - interval '60 min', scheduled_start - interval '30 min'
    FROM sessions CROSS JOIN (VALUES ('candidate'), ('interviewer')) p(party)
"""
_PENDING = """
    INSERT INTO notifications (user_id, category, title, body, not_before, dedupe_key)
    SELECT id, 'announcement', 'Title', 'Body', %(now)s, 'pending/' || id FROM users
"""


def _run(db: psycopg.Connection, script: str, **given: object) -> None:
    for statement in filter(str.strip, script.split(";")):
        db.execute(statement, given)  # type: ignore[arg-type]


def reminders(url: str, *, due: int, start: datetime, now: datetime, step: float = 0.0, pending: bool = False) -> None:
    """So many planned reminders, two a session, whose sessions start ``step`` seconds apart; and notifications."""
    with psycopg.connect(url) as db:
        _run(db, _PEOPLE, n=due // 2)
        _run(db, _SESSIONS, start=start, now=now, step=step)
        _run(db, _REMINDERS)
        if pending:
            _run(db, _PENDING, now=now)
    _analyze(url)


_ENDED = """
    INSERT INTO sessions (id, candidate_id, interview_id, status, status_at, ics_uid, sweep_at, created_at,
                          invitation_expires_at, started_at, ended_at)
    SELECT gen_random_uuid(), 1 + k %% 1000, 1 + k %% 20, status, at, k::text, NULL, at - interval '10 days', at,
           CASE WHEN status IN ('completed', 'abandoned') THEN at - interval '1 hour' END, at
    FROM (
        SELECT k,
               CASE WHEN k <= %(old)s THEN (ARRAY['abandoned', 'expired'])[1 + k %% 2]
                    ELSE (ARRAY['completed', 'abandoned', 'expired', 'no_show', 'cancelled'])[1 + k %% 5] END AS status,
               CASE WHEN k <= %(old)s THEN %(now)s::timestamptz - interval '31 days' - k * interval '1 s'
                    WHEN k %% 5 IN (1, 2) THEN %(now)s::timestamptz - interval '10 days'
                    ELSE %(now)s::timestamptz - interval '90 days' END AS at
        FROM generate_series(1, %(sessions)s) k
    ) ended;
    INSERT INTO push_events (destination, type, payload, created_at)
    SELECT '/topic/sessions', 'session.late', '{}', %(now)s::timestamptz - interval '8 days'
    FROM generate_series(1, %(old)s)
"""


def sessions(url: str, *, sessions: int, old: int, now: datetime) -> None:
    """Ended sessions, of which ``old`` are to be cleaned up, and as many old pushes."""
    with psycopg.connect(url) as db:
        _run(db, _PEOPLE, n=1000)
        _run(db, _ENDED, sessions=sessions, old=old, now=now)
    _analyze(url)


def _analyze(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("VACUUM ANALYZE")
