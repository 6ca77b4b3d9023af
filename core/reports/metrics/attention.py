"""The attention list: what is unfinished of the period and needs a person, as of now."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from core.db import array
from core.reports.data import Attention
from core.reports.metrics.feedback import WITHDRAWN, FeedbackCounts
from core.reports.metrics.moments import build_query, within

KINDS = ("interviewer_no_show", "mail", "feedback_overdue", "no_show", "undecided", "expiring")
"""The most urgent first."""
MAX_ITEMS = 30
UNDECIDED_AFTER = timedelta(days=3)
"""Since the session's end."""
EXPIRING_WITHIN = timedelta(days=2)
"""From now; reported only when the period did not end longer ago than that."""

_UNFINISHED = f"""
        SELECT id, 'expiring' AS kind, expires AS at FROM moments
        WHERE status = 'invited' AND invited < :end AND :end >= :present AND expires >= :as_of AND expires < :expiring
            AND deleted_at IS NULL AND NOT {WITHDRAWN}
        UNION ALL
        SELECT id, CASE no_show_party WHEN 'interviewer' THEN 'interviewer_no_show' ELSE 'no_show' END, planned
        FROM moments
        WHERE status = 'no_show' AND no_show_party IS NOT NULL AND {within("planned")} AND deleted_at IS NULL
            AND NOT {WITHDRAWN} AND NOT EXISTS (SELECT FROM sessions retries WHERE retries.retry_of = moments.id)
        UNION ALL
        SELECT id, 'undecided', ended FROM moments
        WHERE status = 'completed' AND decision IS NULL AND ended <= :undecided AND {within("began")}
            AND deleted_at IS NULL AND NOT {WITHDRAWN}
            AND (interviewer_id IS NULL OR EXISTS (SELECT FROM feedback WHERE feedback.session_id = moments.id))
"""  # noqa: S608 - our constants

ATTENTION = f"""
    WITH unfinished AS MATERIALIZED ({_UNFINISHED}),
    mails AS MATERIALIZED (
        SELECT session_id, to_address, kind || ' ' || status AS what, created_at FROM emails
        WHERE status IN ('dead', 'uncertain') AND {within("created_at")}
    ),
    listed AS (
        SELECT newest.*, urgency FROM unnest(CAST(:kinds AS text[])) WITH ORDINALITY AS kinds(name, urgency),
        LATERAL (
            SELECT *, row_number() OVER () AS place FROM (
                SELECT kind, id, NULL AS address, NULL AS what, at FROM unfinished WHERE kind = kinds.name
                UNION ALL
                SELECT 'mail', session_id, to_address, what, created_at FROM mails WHERE kinds.name = 'mail'
                UNION ALL
                SELECT 'feedback_overdue', id, NULL, NULL, due
                FROM unnest(CAST(:overdue AS uuid[]), CAST(:due AS timestamptz[])) AS missing(id, due)
                WHERE kinds.name = 'feedback_overdue'
                ORDER BY at DESC, id LIMIT {MAX_ITEMS}
            ) AS ordered
        ) AS newest
        ORDER BY place, urgency LIMIT {MAX_ITEMS}
    )
    SELECT listed.kind, listed.id, coalesce(listed.address, users.name, candidates.name),
        coalesce(listed.what, title), listed.at,
        (SELECT count(*) FROM unfinished) + (SELECT count(*) FROM mails)
    FROM listed LEFT JOIN sessions ON sessions.id = listed.id
        LEFT JOIN users ON users.id = sessions.interviewer_id AND listed.kind = 'feedback_overdue'
        LEFT JOIN candidates ON candidates.id = sessions.candidate_id
        LEFT JOIN interviews ON interviews.id = sessions.interview_id
    ORDER BY listed.urgency, listed.place
"""  # noqa: S608 - our constants
"""Sessions and mails of the period that need a person; the newest of each kind.

- an interviewer's or a candidate's no-show without a new attempt (``retry_of``), by scheduled start;
- feedback that is missing after its deadline, by the deadline;
- completed sessions without a decision three days after their end, with feedback given, by start;
- open invitations created before the period's end that expire within two days from now;
- mails that are dead or uncertain, by creation.

Soft-deleted sessions, and those of candidates who withdrew, are left out. When there are more than MAX_ITEMS, the kinds
take turns.
"""


def attention(db: Session, feedback: FeedbackCounts, given: Mapping[str, Any]) -> tuple[tuple[Attention, ...], int]:
    """At most MAX_ITEMS items, the most urgent first, and how many there are; missing feedback was counted before."""
    as_of, missing = given["as_of"], feedback.newest_missing
    more = {
        "undecided": as_of - UNDECIDED_AFTER,
        "present": as_of - EXPIRING_WITHIN,
        "expiring": as_of + EXPIRING_WITHIN,
        "overdue": array([id_ for id_, _ in missing]),
        "due": array([due for _, due in missing]),
        "kinds": "{" + ",".join(KINDS) + "}",
    }
    rows = db.execute(build_query(ATTENTION), {**given, **more}).all()
    return tuple(Attention(*row[:5]) for row in rows), rows[0][5] + feedback.missing if rows else 0
