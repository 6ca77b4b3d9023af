"""Sends due reminders: claims them with their sessions, checks both again, queues mails, creates notifications."""

import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from core.db import array, transaction
from core.emails import QueuedMail, ReminderMail, queue_interview_reminders
from core.emails.content import SessionDetails, session_details, times
from core.emails.session_mails import SessionParty
from core.models import Email
from core.notifications import Notice, notify
from core.notifications.system import notify_mail_trouble
from core.results import SAMPLE, JobResult

log = logging.getLogger(__name__)

BATCH = 200
MISSED = "missed its window"
VOID_REASONS = (
    "the session is not scheduled any more",
    "the session has another schedule",
    "the interview has no such offset",
)


class DueReminder(NamedTuple):
    """A claimed reminder; ``problem`` says why it is not sent."""

    id: int
    session_id: UUID
    version: int
    party: SessionParty
    offset_minutes: int
    send_by: datetime
    problem: str | None


def send_due(*, now: datetime, dry_run: bool = False, batch: int = BATCH) -> JobResult:
    """Send every reminder that is due at ``now`` and still within its window; skip the others, with the reason.

    Each batch is claimed with its sessions, written and published in one transaction. Rows locked by others are left to
    the next pass, so however many passes run, each reminder is sent once. The end of the window is checked by the
    database's clock. ``dry_run`` writes nothing. The result counts by outcome, and as ``locked`` those that another
    process had locked and that are still due.
    """
    sent = JobResult(now=now, dry_run=dry_run)
    if dry_run:
        with transaction() as db:
            _preview(db, sent)
        return sent
    more = True
    while more:
        with transaction() as db:
            claimed = claim(db, now=now, limit=batch)
            _complete(db, sent, claimed)
            more = len(claimed) == batch
            if not more:
                given = {"now": now, "ids": array([due.id for due in claimed])}
                sent.counts += Counter(locked=db.execute(_LOCKED, given).scalar_one())
    return sent


def next_due(db: Session) -> datetime | None:
    """When the next reminder is due; None: none is planned."""
    due: datetime | None = db.execute(text("SELECT min(due_at) FROM reminders WHERE status = 'planned'")).scalar_one()
    return due


_CLAIM = text("""
    SELECT reminders.id FROM reminders JOIN sessions ON sessions.id = reminders.session_id
    WHERE reminders.status = 'planned' AND reminders.due_at <= :now
    ORDER BY reminders.due_at, reminders.id LIMIT :limit
    FOR UPDATE OF reminders, sessions SKIP LOCKED
""")
_LOCKED = text("""
    SELECT count(*) FROM reminders
    WHERE status = 'planned' AND due_at <= :now AND id <> ALL(CAST(:ids AS bigint[]))
""")
_PROBLEM = f"""
    CASE
        WHEN s.status <> 'scheduled' OR s.deleted_at IS NOT NULL THEN '{VOID_REASONS[0]}'
        WHEN s.schedule_version <> r.schedule_version THEN '{VOID_REASONS[1]}'
        WHEN NOT r.offset_minutes = ANY(i.reminder_offsets) THEN '{VOID_REASONS[2]}'
        WHEN greatest(CAST(:now AS timestamptz), clock_timestamp()) > r.send_by THEN '{MISSED}'
    END
"""
_DUE = f"""
    SELECT r.id, r.session_id, r.schedule_version, r.recipient, r.offset_minutes, r.send_by, {_PROBLEM}
    FROM reminders r JOIN sessions s ON s.id = r.session_id JOIN interviews i ON i.id = s.interview_id
    WHERE r.status = 'planned' AND {{}}
    ORDER BY r.due_at, r.id
"""  # noqa: S608 - constants of this module
_CLAIMED = text(_DUE.format("r.id = ANY(CAST(:ids AS bigint[]))"))


def claim(db: Session, *, now: datetime, limit: int) -> list[DueReminder]:
    """Lock due reminders together with their sessions, then read both again.

    The second statement sees what was committed before the locks were taken, such as a cancellation.
    """
    ids = list(db.scalars(_CLAIM, {"now": now, "limit": limit}))
    if not ids:
        return []
    return [DueReminder._make(row) for row in db.execute(_CLAIMED, {"ids": array(ids), "now": now})]


def _complete(db: Session, sent: JobResult, claimed: Sequence[DueReminder]) -> None:
    outcomes: dict[int, tuple[str, str | None]] = {
        due.id: ("void" if due.problem in VOID_REASONS else "skipped", due.problem) for due in claimed if due.problem
    }
    sendable = [due for due in claimed if due.problem is None]
    try:
        with db.begin_nested():
            outcomes |= _send(db, sendable, now=sent.now)
    except (OperationalError, InterfaceError):
        raise
    except Exception:
        log.exception("a batch of reminders could not be written; trying them one by one")
        outcomes |= _complete_one_by_one(db, sent, sendable)
    _write(db, outcomes)
    sent.found += len(claimed)
    for due in claimed:
        status, reason = outcomes[due.id]
        outcome = "sent" if status == "sent" else reason or status
        sent.counts[outcome] += 1
        sent.done += status == "sent"
        sent.skipped += status != "sent" and not outcome.startswith(_FAILED)
        if len(sent.sample) < SAMPLE:
            sent.sample.append({"session_id": str(due.session_id), "to": due.party, "outcome": outcome})


_FAILED = "could not be written"


def _complete_one_by_one(
    db: Session, sent: JobResult, sendable: Sequence[DueReminder]
) -> dict[int, tuple[str, str | None]]:
    """Send the reminders in a savepoint each, so that one that cannot be written does not stop the others."""
    outcomes: dict[int, tuple[str, str | None]] = {}
    for due in sendable:
        try:
            with db.begin_nested():
                outcomes |= _send(db, [due], now=sent.now)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            log.exception("a reminder could not be written", extra={"reminder_id": due.id})
            outcomes[due.id] = "skipped", f"{_FAILED}: {type(error).__name__}"
            sent.failed += 1
    return outcomes


def _send(db: Session, sendable: Sequence[DueReminder], *, now: datetime) -> dict[int, tuple[str, str | None]]:
    """Queue the mails and notify the users; returns status and reason by reminder id."""
    found = session_details(db, list({due.session_id for due in sendable}))
    mails = [ReminderMail(found[d.session_id], d.party, d.offset_minutes, d.send_by) for d in sendable]
    queued = queue_interview_reminders(db, mails, now=now)
    notices = [_notice(found[due.session_id], due) for due in sendable]
    notify(db, [one for one in notices if one], now=now)
    for mail in queued:
        if mail is not None and mail.new and mail.status == "dead":
            notify_mail_trouble(db, db.get_one(Email, mail.id), now=now)
    return {due.id: _outcome(mail, one) for due, mail, one in zip(sendable, queued, notices, strict=True)}


def _outcome(mail: QueuedMail | None, notices: Notice | None) -> tuple[str, str | None]:
    if mail is None:
        return "skipped", "there is nobody to remind"
    if mail.status in ("suppressed", "dead"):
        return ("sent" if notices else "skipped"), f"the mail is {mail.status}"
    return "sent", None


def _notice(a: SessionDetails, due: DueReminder) -> Notice | None:
    """The notification to one party; None for somebody who cannot sign in."""
    recipient = a.recipient(due.party)
    if recipient is None or recipient.user_id is None or a.scheduled_start is None:
        return None
    local = a.scheduled_start.astimezone(times.zone(recipient.timezone))
    start = f"{times.date(local)}, {local:%H:%M} {times.zone_name(local)}"
    to_candidate = due.party == "candidate"
    return Notice(
        category="reminder",
        title="Your interview is coming up" if to_candidate else "Interview coming up",
        body=f"{a.title} is on {start}." if to_candidate else f"{a.candidate.name}, {a.title}, is on {start}.",
        dedupe_key=reminder_key(due.session_id, due.version, due.party, due.offset_minutes),
        user_id=recipient.user_id,
        session_id=due.session_id,
    )


def reminder_key(session_id: UUID, version: int, party: SessionParty, offset_minutes: int) -> str:
    """The dedupe key: one notification for each schedule, recipient and offset."""
    return f"{session_id}/{version}/reminder/{party}/{offset_minutes}"


_WRITE = text("""
    UPDATE reminders SET
        status = changes.status, reason = changes.reason,
        sent_at = CASE WHEN changes.status = 'sent' THEN clock_timestamp() END
    FROM unnest(
        CAST(:ids AS bigint[]), CAST(:statuses AS text[]), CAST(:reasons AS text[])
    ) AS changes(id, status, reason)
    WHERE reminders.id = changes.id
""")


def _write(db: Session, outcomes: dict[int, tuple[str, str | None]]) -> None:
    if outcomes:
        statuses, reasons = zip(*outcomes.values(), strict=True)
        given = {"ids": array(list(outcomes)), "statuses": array(statuses), "reasons": array(reasons)}
        db.execute(_WRITE, given)


_COUNT = text(f"""
    SELECT problem, count(*) FROM ({_DUE.format("r.due_at <= :now")}) AS due(a, b, c, d, e, f, problem) GROUP BY 1
""")  # noqa: S608 - constants of this module
_SAMPLE = text(_DUE.format("r.due_at <= :now") + " LIMIT :sample")


def _preview(db: Session, sent: JobResult) -> None:
    for problem, count in db.execute(_COUNT, {"now": sent.now}):
        sent.found += count
        sent.skipped += count if problem else 0
        sent.counts[problem or "would be sent"] += count
    for row in db.execute(_SAMPLE, {"now": sent.now, "sample": SAMPLE}):
        due = DueReminder._make(row)
        outcome = due.problem or "would be sent"
        sent.sample.append({"session_id": str(due.session_id), "to": due.party, "outcome": outcome})
