"""What people should look at: what the period left undone, as of now."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from core.db import array
from core.reports.data import Attention
from core.reports.metrics.feedback import WITHDRAWN, Given
from core.reports.metrics.moments import over, within

KINDS = ("interviewer_no_show", "mail", "feedback_overdue", "no_show", "undecided", "expiring")
"""The most urgent first."""
MOST = 30
UNDECIDED_AFTER = timedelta(days=3)
"""Since the session's end."""
EXPIRING_WITHIN = timedelta(days=2)
"""From now; only a report of a period that is not over for longer than that tells it."""

_UNDONE = f"""
        SELECT id, 'expiring' AS kind, expires AS at FROM moments
        WHERE status = 'invited' AND invited < :end AND :end >= :present AND expires >= :as_of AND expires < :expiring
            AND deleted_at IS NULL AND NOT {WITHDRAWN}
        UNION ALL
        SELECT id, CASE no_show_party WHEN 'interviewer' THEN 'interviewer_no_show' ELSE 'no_show' END, planned
        FROM moments
        WHERE status = 'no_show' AND no_show_party IS NOT NULL AND {within("planned")} AND deleted_at IS NULL
            AND NOT {WITHDRAWN} AND NOT EXISTS (SELECT FROM sessions again WHERE again.retry_of = moments.id)
        UNION ALL
        SELECT id, 'undecided', ended FROM moments
        WHERE status = 'completed' AND decision IS NULL AND ended <= :undecided AND {within("began")}
            AND deleted_at IS NULL AND NOT {WITHDRAWN}
            AND (interviewer_id IS NULL OR EXISTS (SELECT FROM feedback WHERE feedback.session_id = moments.id))
"""  # noqa: S608 - our own words

ATTENTION = f"""
    WITH undone AS MATERIALIZED ({_UNDONE}),
    mails AS MATERIALIZED (
        SELECT session_id, to_address, kind || ' ' || status AS what, created_at FROM emails
        WHERE status IN ('dead', 'uncertain') AND {within("created_at")}
    ),
    kept AS (
        SELECT newest.*, urgency FROM unnest(CAST(:kinds AS text[])) WITH ORDINALITY AS kinds(name, urgency),
        LATERAL (
            SELECT *, row_number() OVER () AS place FROM (
                SELECT kind, id, NULL AS address, NULL AS what, at FROM undone WHERE kind = kinds.name
                UNION ALL
                SELECT 'mail', session_id, to_address, what, created_at FROM mails WHERE kinds.name = 'mail'
                UNION ALL
                SELECT 'feedback_overdue', id, NULL, NULL, due
                FROM unnest(CAST(:overdue AS uuid[]), CAST(:due AS timestamptz[])) AS missing(id, due)
                WHERE kinds.name = 'feedback_overdue'
                ORDER BY at DESC, id LIMIT {MOST}
            ) AS ordered
        ) AS newest
        ORDER BY place, urgency LIMIT {MOST}
    )
    SELECT kept.kind, kept.id, coalesce(kept.address, users.name, candidates.name), coalesce(kept.what, title), kept.at,
        (SELECT count(*) FROM undone) + (SELECT count(*) FROM mails)
    FROM kept LEFT JOIN sessions ON sessions.id = kept.id
        LEFT JOIN users ON users.id = sessions.interviewer_id AND kept.kind = 'feedback_overdue'
        LEFT JOIN candidates ON candidates.id = sessions.candidate_id
        LEFT JOIN interviews ON interviews.id = sessions.interview_id
    ORDER BY kept.urgency, kept.place
"""  # noqa: S608 - our own words
"""Sessions and mails of the period that wait for people; of each kind the newest.

- an interviewer's or a candidate's no-show without a new attempt (``retry_of``), by planned start;
- feedback whose deadline has passed and that is missing, by the deadline;
- completed sessions without a decision three days after their end, feedback given, by begin;
- open invitations made before the period's end that expire within two days from now;
- mails that are dead or uncertain, by when they were made.

What is soft-deleted, or of a candidate who withdrew, waits for nobody. When there is more than fits, each kind has its
share.
"""


def attention(db: Session, feedback: Given, given: Mapping[str, Any]) -> tuple[tuple[Attention, ...], int]:
    """At most MOST, the most urgent first, and how many there are; the feedback that is missing was read before."""
    as_of, missing = given["as_of"], feedback.newest_missing
    more = {
        "undecided": as_of - UNDECIDED_AFTER,
        "present": as_of - EXPIRING_WITHIN,
        "expiring": as_of + EXPIRING_WITHIN,
        "overdue": array([id_ for id_, _ in missing]),
        "due": array([due for _, due in missing]),
        "kinds": "{" + ",".join(KINDS) + "}",
    }
    rows = db.execute(over(ATTENTION), {**given, **more}).all()
    return tuple(Attention(*row[:5]) for row in rows), rows[0][5] + feedback.missing if rows else 0
