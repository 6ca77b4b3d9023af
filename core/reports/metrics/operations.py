"""Operations figures: reminders, mails, and runs of jobs."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.reports.data import Operations, Ratio

LATE = "missed its window"
"""The reason of a reminder that was skipped as too late, as ``core.reminders`` writes it."""

_OPERATIONS = text(f"""
    SELECT sent_by, due, mails.sent, mails.dead, mails.uncertain, late.runs FROM
        (SELECT count(*) FILTER (WHERE status = 'sent' AND sent_at <= send_by) AS sent_by,
            count(*) FILTER (WHERE status = 'sent' OR reason = '{LATE}') AS due
         FROM reminders WHERE due_at >= :start AND due_at < :end AND status IN ('sent', 'skipped')) AS reminded,
        (SELECT count(*) FILTER (WHERE status = 'sent') AS sent, count(*) FILTER (WHERE status = 'dead') AS dead,
            count(*) FILTER (WHERE status = 'uncertain') AS uncertain
         FROM emails WHERE created_at >= :start AND created_at < :end) AS mails,
        (SELECT count(*) AS runs FROM notifications
         WHERE user_id IS NULL AND role = 'admin' AND category = 'job_late' AND status = 'delivered'
             AND delivered_at >= :start AND delivered_at < :end) AS late
""")  # noqa: S608 - our constants


def operations(db: Session, given: Mapping[str, Any]) -> Operations:
    """Reminders by due time: those sent by ``send_by`` (docs/domain.md, "Reminders"), of those sent or skipped as too
    late; mails by creation, with their present status; late job runs of which admins were notified."""
    in_time, due, *counts = db.execute(_OPERATIONS, given).one()
    return Operations(Ratio(in_time, due), *counts)
