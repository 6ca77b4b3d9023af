"""Retention: rows past their retention time are removed, in small transactions (docs/domain.md, "Retention")."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from core import outbox
from core.db import transaction
from core.events import SessionsCleaned
from core.idempotency import RETENTION
from core.results import SAMPLE, JobResult
from core.settings import settings

BATCH = 1000
FILES = 20
"""Rows of a batch, for tables that hold whole files."""
PUSH_RETENTION = timedelta(days=7)
MAIL_RETENTION = timedelta(days=90)


class Rule(NamedTuple):
    """The retention of one kind of row: a query that counts, and a function that removes a batch, giving its size."""

    kind: str
    count_query: TextClause
    remove: Callable[[Session, dict[str, Any]], int]
    batch: int = BATCH


def clean_up(*, now: datetime, dry_run: bool = False, batch: int | None = None) -> JobResult:
    """Remove rows past their retention time: each batch in its own transaction, so that no lock is held for long.

    Rows locked by others are left to the next run; of a killed run the committed batches stay removed, and the next
    run removes the rest. A run that removed rows publishes one summary, once for its slot. ``dry_run`` writes nothing.
    The result counts removed rows (of a dry run: rows to remove) by kind; the sample holds session ids.
    """
    result = JobResult(now=now, dry_run=dry_run)
    times = {
        "now": now,
        "sessions_before": now - timedelta(days=settings().retention_days),
        "pushes_before": now - PUSH_RETENTION,
        "mails_before": now - MAIL_RETENTION,
        "keys_before": now - RETENTION,
    }
    with transaction() as db:
        result.sample = [{"session_id": str(id_)} for id_ in db.scalars(_SAMPLE, {**times, "sample": SAMPLE})]
    for rule in RULES:
        if dry_run:
            with transaction() as db:
                count = int(db.execute(rule.count_query, times).scalar_one())
        else:
            count = sum(_batches(rule, {**times, "batch": batch or rule.batch}))
            result.done += count
        result.found += count
        if count:
            result.counts[rule.kind] = count
    if result.done:
        with transaction() as db:
            summary = SessionsCleaned(cleaned_at=now, removed=result.counts)
            outbox.publish(db, summary, dedupe_key=f"cleanup/{now.isoformat()}")
    return result


def _batches(rule: Rule, given: dict[str, Any]) -> Iterator[int]:
    removed = given["batch"]
    while removed >= given["batch"]:
        with transaction() as db:
            removed = rule.remove(db, given)
        yield removed


def _rule(kind: str, old: str, *, claim: str, writes: tuple[str, ...], batch: int = BATCH) -> Rule:
    """A rule that removes a batch by one statement: ``claim`` selects and locks some of the ``old`` rows to write.

    Materialized, because a plan that evaluated ``claim`` twice would claim more than a batch.
    """
    parts = ", ".join(f"part{n} AS ({write})" for n, write in enumerate(writes))
    find = claim.replace("{old}", old).replace("{few}", "LIMIT :batch")
    statement = text(f"WITH old AS MATERIALIZED ({find} SKIP LOCKED), {parts} SELECT count(*) FROM old")  # noqa: S608

    def remove(db: Session, given: dict[str, Any]) -> int:
        return int(db.execute(statement, given).scalar_one())

    return Rule(kind, text(f"SELECT count(*) {old}"), remove, batch)


_OLD_SESSIONS = """
    FROM sessions WHERE status IN ('abandoned', 'expired') AND deleted_at IS NULL AND NOT legal_hold
        AND status_at < :sessions_before
"""
_SAMPLE = text(f"SELECT id {_OLD_SESSIONS} ORDER BY status_at LIMIT :sample")
_OLD_FILES = "FROM report_files f JOIN reports r ON r.id = f.report_id WHERE r.expires_at <= :now"
# A mail that may still be sent keeps its body: a queued or sending one, and an uncertain one with a retry planned.
_OLD_MAILS = """
    FROM emails WHERE created_at < :mails_before AND (text_body IS NOT NULL OR html_body IS NOT NULL)
        AND (status NOT IN ('queued', 'sending', 'uncertain') OR status = 'uncertain' AND retry_at IS NULL)
"""
_OLD_RECEIPTS = (
    "FROM notification_receipts r JOIN notifications n ON n.id = r.notification_id WHERE n.deleted_at IS NOT NULL"
)
_OLD_KEYS = "FROM idempotency_keys WHERE created_at < :keys_before"


_PREFIX = text("""
    WITH head AS (SELECT id, created_at FROM push_events ORDER BY id LIMIT :batch)
    SELECT max(id), count(*) FROM head
    WHERE id < coalesce((SELECT min(id) FROM head WHERE created_at >= :pushes_before), 9223372036854775807)
""")


def _prune(db: Session, given: dict[str, Any]) -> int:
    """Remove the oldest ids, up to the first that stays, and store ``pruned_through`` in the same transaction.

    Readers read both in one snapshot.
    """
    db.execute(text("SELECT FROM push_log FOR UPDATE"))  # one transaction at a time removes a prefix
    through, count = db.execute(_PREFIX, given).one()
    if through is None:
        return 0
    db.execute(text("DELETE FROM push_events WHERE id <= :through"), {"through": through})
    db.execute(text("UPDATE push_log SET pruned_through = greatest(pruned_through, :through)"), {"through": through})
    return int(count)


_OLD_PUSHES = """
    FROM push_events WHERE id < coalesce(
        (SELECT id FROM push_events WHERE created_at >= :pushes_before ORDER BY id LIMIT 1), 9223372036854775807
    )
"""

RULES = (
    _rule(
        "sessions",
        _OLD_SESSIONS,
        claim="SELECT id {old} ORDER BY status_at {few} FOR UPDATE",
        writes=("UPDATE sessions s SET deleted_at = :now FROM old WHERE s.id = old.id",),
    ),
    Rule("push_events", text(f"SELECT count(*) {_OLD_PUSHES}"), _prune, 5 * BATCH),
    _rule(
        "report_files",
        _OLD_FILES,
        claim="SELECT f.report_id {old} {few} FOR UPDATE OF f",
        writes=("DELETE FROM report_files f USING old WHERE f.report_id = old.report_id",),
        batch=FILES,
    ),
    _rule(
        "mails",
        _OLD_MAILS,
        claim="SELECT id {old} ORDER BY created_at {few} FOR UPDATE",
        writes=(
            "DELETE FROM email_attachments a USING old WHERE a.email_id = old.id",
            "UPDATE emails e SET text_body = NULL, html_body = NULL FROM old WHERE e.id = old.id",
        ),
        batch=10 * FILES,
    ),
    _rule(
        "idempotency_keys",
        _OLD_KEYS,
        claim="SELECT user_id, route, key {old} ORDER BY created_at {few} FOR UPDATE",
        writes=(
            "DELETE FROM idempotency_keys k USING old"
            " WHERE (k.user_id, k.route, k.key) = (old.user_id, old.route, old.key)",
        ),
    ),
    _rule(
        "receipts",
        _OLD_RECEIPTS,
        claim="SELECT r.user_id, r.notification_id {old} {few} FOR UPDATE OF r",
        writes=(
            "DELETE FROM notification_receipts r USING old"
            " WHERE (r.user_id, r.notification_id) = (old.user_id, old.notification_id)",
        ),
    ),
)
