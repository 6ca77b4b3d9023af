"""The status sweep as hand-written set-based SQL: the same rows, without Python code between the statements.

The baseline for ``core.sessions.update_statuses``: the same claims, updates, history, notifications,
receipts and pushes, the same lock and NOTIFY, committed in batches of the same size.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

TABLES = """
    CREATE TEMP TABLE batch (
        place int, id uuid, sweep_at timestamptz, old text, rule text, status text, interviewer_id bigint,
        candidate_user_id bigint, name text, title text, scheduled_start timestamptz, schedule_version int,
        ended_at timestamptz, deadline_hours int, score numeric, next_sweep timestamptz
    ) ON COMMIT DELETE ROWS;
    CREATE TEMP TABLE delivered (LIKE notifications) ON COMMIT DELETE ROWS;
"""

CLAIM = """
    WITH claimed AS (
        SELECT s.id, s.sweep_at, s.status, s.status_at, s.interviewer_id, c.user_id, c.name, i.title,
               s.scheduled_start, s.scheduled_end, s.schedule_version, s.invitation_expires_at, s.late_version,
               s.started_at, s.ended_at, s.feedback_overdue_at, s.interview_id, i.completion_ratio,
               coalesce(s.last_activity_at, s.started_at, s.status_at) AS last_sign,
               coalesce(s.started_at, s.status_at)
                   + make_interval(mins => i.duration_minutes + i.overrun_minutes) AS planned,
               i.no_show_minutes, i.idle_minutes, i.resume_minutes, i.feedback_deadline_hours,
               (SELECT true FROM feedback f WHERE f.session_id = s.id LIMIT 1) IS NOT NULL AS has_feedback
        FROM sessions s
        JOIN candidates c ON c.id = s.candidate_id
        JOIN interviews i ON i.id = s.interview_id
        WHERE s.deleted_at IS NULL AND s.sweep_at <= %(now)s AND s.status_at < %(now)s
            AND (s.sweep_at, s.id) > (%(after)s, %(after_id)s)
        ORDER BY s.sweep_at, s.id LIMIT %(batch)s
        FOR UPDATE OF s SKIP LOCKED
    ), checked AS (
        SELECT *, CASE status
            WHEN 'invited' THEN invitation_expires_at
            WHEN 'scheduled' THEN least(scheduled_start + make_interval(mins => no_show_minutes), scheduled_end)
            WHEN 'in_progress' THEN greatest(planned, last_sign + interval '2 min')
            WHEN 'interrupted' THEN least(status_at + make_interval(mins => resume_minutes),
                                          greatest(planned, last_sign + interval '2 min'))
            WHEN 'completed' THEN CASE WHEN interviewer_id IS NOT NULL AND NOT has_feedback
                AND feedback_overdue_at IS NULL THEN ended_at + make_interval(hours => feedback_deadline_hours) END
        END AS first_due, CASE status
            WHEN 'scheduled' THEN CASE WHEN late_version IS DISTINCT FROM schedule_version
                THEN scheduled_start + interval '5 min' END
            WHEN 'in_progress' THEN last_sign + make_interval(mins => idle_minutes)
        END AS second_due
        FROM claimed
    ), evaluated AS (
        SELECT *, CASE
            WHEN first_due <= %(now)s THEN CASE status
                WHEN 'invited' THEN 'expire' WHEN 'scheduled' THEN 'no_show' WHEN 'completed' THEN 'feedback_overdue'
                ELSE 'close' END
            WHEN second_due <= %(now)s THEN CASE status WHEN 'scheduled' THEN 'late' ELSE 'interrupt' END
        END AS rule
        FROM checked
    )
    INSERT INTO batch
    SELECT row_number() OVER (ORDER BY sweep_at, id), id, sweep_at, status, rule,
           CASE rule WHEN 'expire' THEN 'expired' WHEN 'no_show' THEN 'no_show' WHEN 'interrupt' THEN 'interrupted'
               WHEN 'close' THEN CASE WHEN answered.enough THEN 'completed' ELSE 'abandoned' END
               ELSE status END,
           interviewer_id, user_id, name, title, scheduled_start, schedule_version,
           CASE WHEN rule IN ('expire', 'no_show', 'close') THEN coalesce(ended_at, %(now)s) ELSE ended_at END,
           feedback_deadline_hours,
           scored.score,
           CASE WHEN rule = 'late' THEN first_due
               WHEN rule = 'interrupt' THEN least(%(now)s + make_interval(mins => resume_minutes), first_due)
               WHEN rule = 'close' AND answered.enough AND interviewer_id IS NOT NULL AND NOT has_feedback
                   AND feedback_overdue_at IS NULL
                   THEN coalesce(ended_at, %(now)s) + make_interval(hours => feedback_deadline_hours)
               WHEN rule IS NULL THEN least(first_due, second_due) END
    FROM evaluated
    LEFT JOIN LATERAL (
        SELECT count(a.question_id) >= completion_ratio * count(q.id) AS enough
        FROM questions q LEFT JOIN LATERAL (
            SELECT question_id FROM answers WHERE session_id = evaluated.id AND question_id = q.id LIMIT 1
        ) a ON true
        WHERE q.interview_id = evaluated.interview_id AND q.required
    ) answered ON rule = 'close'
    LEFT JOIN LATERAL (
        SELECT round(100 * sum(weight * best.score / max_score) / sum(weight), 2) AS score
        FROM (SELECT DISTINCT ON (question_id) question_id, score FROM answers
              WHERE session_id = evaluated.id AND score IS NOT NULL ORDER BY question_id, source DESC) best
        JOIN questions q ON q.id = best.question_id
    ) scored ON rule = 'close' AND answered.enough
"""

UPDATE = """
    UPDATE sessions s SET
        status = b.status,
        status_at = CASE WHEN b.status <> b.old THEN %(now)s ELSE s.status_at END,
        ended_at = b.ended_at,
        no_show_party = CASE WHEN b.status = b.old THEN s.no_show_party WHEN b.rule = 'no_show' THEN 'candidate' END,
        score = CASE WHEN b.rule = 'close' AND b.status = 'completed' THEN b.score ELSE s.score END,
        late_version = CASE WHEN b.rule = 'late' THEN s.schedule_version ELSE s.late_version END,
        feedback_overdue_at = CASE WHEN b.rule = 'feedback_overdue' THEN %(now)s ELSE s.feedback_overdue_at END,
        sweep_at = b.next_sweep
    FROM batch b WHERE s.id = b.id
"""

EVENTS = """
    INSERT INTO session_events (session_id, kind, old_status, new_status, actor, reason, at, dedupe_key)
    SELECT id, CASE WHEN status <> old THEN 'moved' ELSE rule END,
           CASE WHEN status <> old THEN old END, CASE WHEN status <> old THEN status END, 'system',
           CASE rule WHEN 'expire' THEN 'the invitation expired' WHEN 'no_show' THEN 'it was not started in time'
               WHEN 'interrupt' THEN 'no sign of life' WHEN 'close' THEN 'it was not resumed in time' END,
           %(now)s, CASE WHEN status = old THEN rule || '/' || schedule_version END
    FROM batch WHERE rule IS NOT NULL ORDER BY place
    ON CONFLICT (session_id, dedupe_key) DO NOTHING
"""

NOTIFICATIONS = """
    WITH texts AS (
        SELECT *, CASE WHEN status <> old THEN status ELSE rule END AS occasion,
               to_char(scheduled_start AT TIME ZONE 'UTC', 'FMDD FMMonth YYYY, HH24:MI') || ' UTC' AS start,
               to_char((ended_at + make_interval(hours => deadline_hours)) AT TIME ZONE 'UTC',
                       'FMDD FMMonth YYYY, HH24:MI') || ' UTC' AS deadline
        FROM batch WHERE rule IS NOT NULL AND rule <> 'interrupt'
    ), lines AS (
        SELECT place, id, schedule_version, occasion, party, user_id, role, given.title, body
        FROM texts, LATERAL (VALUES
            (1, 'candidate', candidate_user_id, NULL::text, 'late',
             'Your interview has begun', format('%%s started on %%s. You can still join.', title, start)),
            (1, 'candidate', candidate_user_id, NULL, 'completed',
             'Your interview is complete', format('Thank you for taking %%s.', title)),
            (2, 'interviewer', interviewer_id, NULL, 'late',
             'Nobody has joined yet', format('%%s, %%s, was due to start on %%s.', name, title, start)),
            (2, 'interviewer', interviewer_id, NULL, 'completed', 'Feedback due',
             format('%%s completed %%s: your feedback is due by %%s.', name, title, deadline)),
            (3, 'recruiters', NULL, 'recruiter', 'completed',
             'Interview completed', format('%%s completed %%s.', name, title)),
            (2, 'interviewer', interviewer_id, NULL, 'no_show',
             'Interview missed', format('%%s and %%s: it did not start.', name, title)),
            (3, 'recruiters', NULL, 'recruiter', 'no_show',
             'Interview missed', format('%%s and %%s: it did not start.', name, title)),
            (2, 'interviewer', interviewer_id, NULL, 'abandoned',
             'Interview abandoned', format('%%s left %%s unfinished.', name, title)),
            (3, 'recruiters', NULL, 'recruiter', 'abandoned',
             'Interview abandoned', format('%%s left %%s unfinished.', name, title)),
            (2, 'interviewer', interviewer_id, NULL, 'expired',
             'Invitation expired', format('%%s did not start %%s in time.', name, title)),
            (3, 'recruiters', NULL, 'recruiter', 'expired',
             'Invitation expired', format('%%s did not start %%s in time.', name, title)),
            (2, 'interviewer', interviewer_id, NULL, 'feedback_overdue', 'Feedback overdue',
             format('%%s, %%s: feedback was due by %%s.', name, title, deadline)),
            (3, 'recruiters', NULL, 'recruiter', 'feedback_overdue', 'Feedback overdue',
             format('%%s, %%s: feedback was due by %%s.', name, title, deadline))
        ) AS given(party_place, party, user_id, role, for_occasion, title, body)
        WHERE for_occasion = occasion AND (user_id IS NOT NULL OR role IS NOT NULL)
        ORDER BY place, party_place
    ), made AS (
        INSERT INTO notifications
            (user_id, role, category, title, body, session_id, not_before, status, delivered_at, dedupe_key)
        SELECT user_id, role, occasion, title, body, id, %(now)s, 'delivered', %(now)s,
               id || '/' || schedule_version || '/' || occasion || '/' || party
               || CASE WHEN occasion IN ('late', 'feedback_overdue') THEN '' ELSE '/' || %(now_text)s END
        FROM lines
        ON CONFLICT (dedupe_key) DO NOTHING
        RETURNING *
    ), receipts AS (
        INSERT INTO notification_receipts (user_id, notification_id)
        SELECT user_id, id FROM made WHERE user_id IS NOT NULL
    )
    INSERT INTO delivered SELECT * FROM made
"""

LOCK = "SELECT pg_advisory_xact_lock(7747, 1)"

PUSHES = """
    INSERT INTO push_events (destination, audience, type, payload)
    SELECT destination, audience, type, payload::json FROM (
        SELECT 1, place::bigint, n, CASE n WHEN 1 THEN '/topic/session/' || id ELSE '/topic/sessions' END, NULL,
               'session.moved', format(
                   '{"session_id":"%%s","status":"%%s","previous":"%%s","moved_at":"%%s","by":"system","reason":"%%s",'
                   '"no_show_party":%%s}', id, status, old, %(now_json)s::text,
                   CASE rule WHEN 'expire' THEN 'the invitation expired' WHEN 'no_show' THEN
                       'it was not started in time' WHEN 'interrupt' THEN 'no sign of life'
                       ELSE 'it was not resumed in time' END,
                   CASE WHEN rule = 'no_show' THEN '"candidate"' ELSE 'null' END)
        FROM batch, generate_series(1, 2) n WHERE status <> old
        UNION ALL
        SELECT 1, place, n, CASE n WHEN 1 THEN '/topic/session/' || id ELSE '/topic/sessions' END, NULL,
               'session.late', format('{"session_id":"%%s","scheduled_start":"%%s","schedule_version":%%s}', id,
                   to_char(scheduled_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), schedule_version)
        FROM batch, generate_series(1, 2) n WHERE rule = 'late'
        UNION ALL
        SELECT 2, id, 1, CASE WHEN user_id IS NULL THEN '/topic/notifications'
                   ELSE '/user/' || user_id || '/queue/notifications' END,
               role, 'notification.created', format(
                   '{"notification_id":%%s,"user_id":%%s,"role":%%s,"category":%%s,"title":%%s,"body":%%s,'
                   '"data":{},"session_id":"%%s","delivered_at":"%%s","expires_at":null}', id,
                   coalesce(user_id::text, 'null'),
                   coalesce('"' || role || '"', 'null'), to_json(category), to_json(title), to_json(body), session_id,
                   %(now_json)s::text)
        FROM delivered
    ) AS pushes(kind, place, n, destination, audience, type, payload)
    ORDER BY kind, place, n
    ON CONFLICT (dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
"""

UNREAD = """
    INSERT INTO push_events (destination, type, payload)
    SELECT '/user/' || u.id || '/queue/notifications', 'notification.unread',
           format('{"user_id":%%s,"unread":%%s}', u.id, (
               SELECT count(*) FROM notification_receipts r JOIN notifications n ON n.id = r.notification_id
               WHERE r.user_id = u.id AND r.read_at IS NULL AND r.archived_at IS NULL
                   AND n.user_id = u.id AND n.status = 'delivered'
           ) + (
               SELECT count(*) FROM notifications n
               WHERE n.user_id IS NULL AND (n.role IS NULL OR n.role = u.role) AND n.status = 'delivered'
                   AND n.delivered_at >= u.created_at AND NOT EXISTS (
                       SELECT FROM notification_receipts r WHERE r.user_id = u.id AND r.notification_id = n.id
                           AND (r.read_at IS NOT NULL OR r.archived_at IS NOT NULL)
                   ) AND NOT EXISTS (
                       SELECT FROM notification_preferences p WHERE p.user_id = u.id AND p.category = n.category
                           AND p.channel = 'in_app' AND p.delivery = 'off'
                   )
           ))::json
    FROM users u WHERE u.id IN (SELECT user_id FROM delivered) ORDER BY u.id
"""

NOTIFY = "SELECT pg_notify('greenroom_push', '')"


def sweep(db: psycopg.Connection[Any], *, now: datetime, batch: int) -> int:
    """One pass; returns how many sessions were checked."""
    db.execute(TABLES)
    db.commit()
    given: dict[str, Any] = {
        "now": now,
        "now_text": now.isoformat(),
        "now_json": now.isoformat().replace("+00:00", "Z"),
        "batch": batch,
        "after": datetime.fromtimestamp(0, now.tzinfo),
        "after_id": UUID(int=0),
    }
    checked = 0
    while True:
        found = db.execute(CLAIM, given).rowcount
        last = db.execute("SELECT sweep_at, id FROM batch ORDER BY place DESC LIMIT 1").fetchone()
        db.execute(UPDATE, given)
        db.execute(EVENTS, given)
        db.execute(NOTIFICATIONS, given)
        db.execute(LOCK)
        db.execute(PUSHES, given)
        db.execute(UNREAD, given)
        db.execute(NOTIFY)
        db.commit()
        checked += found
        if found < batch or last is None:
            return checked
        given |= {"after": last[0], "after_id": last[1]}
