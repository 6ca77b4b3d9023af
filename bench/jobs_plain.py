"""The rows that reminders and notifications write, as one hand-written statement a batch, texts fixed: the baseline."""

from datetime import datetime

import psycopg

TEXT, HTML, FILE = "x" * 500, "x" * 8800, b"x" * 590
"""About as long as a rendered reminder's."""

_SEND = """
    WITH due AS MATERIALIZED (
        SELECT r.id, r.session_id, r.recipient, r.send_by, s.scheduled_start
        FROM reminders r JOIN sessions s ON s.id = r.session_id
        WHERE r.status = 'planned' AND r.due_at <= %(now)s AND s.status = 'scheduled'
        ORDER BY r.due_at, r.id LIMIT %(batch)s FOR UPDATE OF r, s SKIP LOCKED
    ), whom AS MATERIALIZED (
        SELECT due.*, i.title, u.id AS user_id, u.email, u.name, gen_random_uuid() AS email_id,
               row_number() OVER () AS place
        FROM due JOIN sessions s ON s.id = due.session_id JOIN interviews i ON i.id = s.interview_id
        JOIN candidates c ON c.id = s.candidate_id
        JOIN users u ON u.id = CASE due.recipient WHEN 'candidate' THEN c.user_id ELSE s.interviewer_id END
    ), rendered AS MATERIALIZED (
        SELECT * FROM unnest(%(texts)s::text[], %(htmls)s::text[], %(files)s::bytea[]) WITH ORDINALITY
            AS given(text, html, file, place)
    ), mails AS (
        INSERT INTO emails (id, kind, priority, session_id, schedule_version, to_address, to_name, message_id, subject,
                            text_body, html_body, category, idempotency_key, due_at, expires_at)
        SELECT email_id, 'reminder', 1, session_id, 1, email, name, email_id::text, title, text, html, 'reminder',
               'reminder/' || session_id || recipient, %(now)s, send_by
        FROM whom JOIN rendered USING (place)
        ON CONFLICT (idempotency_key) DO NOTHING
    ), files AS (
        INSERT INTO email_attachments (email_id, ordinal, filename, content_type, content)
        SELECT email_id, 1, 'invite.ics', 'text/calendar', file FROM whom JOIN rendered USING (place)
    ), delivered AS (
        INSERT INTO notifications (user_id, category, title, body, session_id, not_before, status, delivered_at,
                                   dedupe_key)
        SELECT user_id, 'reminder', 'Interview coming up', title || scheduled_start, session_id, %(now)s, 'delivered',
               %(now)s, session_id || '/1/reminder/' || recipient || '/60' FROM whom
        ON CONFLICT (dedupe_key) DO NOTHING RETURNING id, user_id, title, body, session_id
    ), receipts AS (
        INSERT INTO notification_receipts (user_id, notification_id) SELECT user_id, id FROM delivered
    ), done AS (
        UPDATE reminders r SET status = 'sent', sent_at = clock_timestamp() FROM due WHERE r.id = due.id
    )
    SELECT id, user_id, title, body, session_id FROM delivered
"""
_PUSH = """
    INSERT INTO push_events (destination, type, payload)
    SELECT '/user/' || user_id || '/queue/notifications', kind, payload FROM (
        SELECT n.user_id, 1 AS place, 'notification.created' AS kind, json_build_object(
            'notification_id', n.id, 'user_id', n.user_id, 'role', NULL, 'category', n.category, 'title', n.title,
            'body', n.body, 'data', n.data, 'session_id', n.session_id, 'delivered_at', n.delivered_at,
            'expires_at', NULL
        ) AS payload FROM notifications n WHERE n.id = ANY(%(ids)s)
        UNION ALL
        SELECT user_id, 2, 'notification.unread', json_build_object('user_id', user_id, 'unread', count(*))
        FROM notification_receipts
        WHERE user_id = ANY(%(users)s) AND read_at IS NULL AND archived_at IS NULL GROUP BY user_id
    ) AS pushed ORDER BY place
"""


_DELIVER = """
    WITH due AS MATERIALIZED (
        SELECT id FROM notifications WHERE status = 'pending' AND not_before <= %(now)s
        ORDER BY not_before, id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
    ), delivered AS (
        UPDATE notifications n SET status = 'delivered', delivered_at = %(now)s FROM due WHERE n.id = due.id
        RETURNING n.id, n.user_id
    ), receipts AS (
        INSERT INTO notification_receipts (user_id, notification_id) SELECT user_id, id FROM delivered
    )
    SELECT id, user_id FROM delivered
"""


def deliver(db: psycopg.Connection, *, now: datetime, batch: int) -> int:
    """Deliver every pending notification; how many."""
    total = 0
    while True:
        with db.transaction():
            delivered = db.execute(_DELIVER, {"now": now, "batch": batch}).fetchall()
            if not delivered:
                return total
            _push(db, [id_ for id_, _ in delivered], [user for _, user in delivered])
        total += len(delivered)


def _push(db: psycopg.Connection, ids: list[int], users: list[int]) -> None:
    db.execute("SELECT pg_advisory_xact_lock(7747, 1)")
    db.execute(_PUSH, {"ids": ids, "users": users})
    db.execute("SELECT pg_notify('greenroom_push', '')")


def send(db: psycopg.Connection, *, now: datetime, batch: int) -> int:
    """Send everything that is due; how many."""
    total, rendered = 0, {"texts": [TEXT] * batch, "htmls": [HTML] * batch, "files": [FILE] * batch}
    while True:
        with db.transaction():
            given = {"now": now, "batch": batch, **rendered}
            delivered = db.execute(_SEND, given).fetchall()
            if not delivered:
                return total
            _push(db, [row[0] for row in delivered], [row[1] for row in delivered])
        total += len(delivered)
