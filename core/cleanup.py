"""Retention: what has been kept long enough goes, in small transactions (DOMAIN, "The jobs", 1)."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from core import outbox
from core.db import transaction
from core.events import SessionsCleaned
from core.idempotency import KEPT
from core.results import SAMPLE, JobResult
from core.settings import settings

BATCH = 1000
FILES = 20
"""Rows of a batch that carry whole files."""
PUSHES_KEPT = timedelta(days=7)
MAILS_KEPT = timedelta(days=90)


class Rule(NamedTuple):
    """One thing that is not kept for ever: what counts it, and what removes a batch of it and gives how many."""

    kind: str
    counting: TextClause
    remove: Callable[[Session, dict[str, Any]], int]
    batch: int = BATCH


def clean_up(*, now: datetime, dry_run: bool = False, batch: int | None = None) -> JobResult:
    """Remove what is older than it is kept: each batch a transaction of its own, so that no lock is held for long.

    What others have locked is left to the next run; a killed run has done what it committed, and the next does the
    rest. A run that removed something publishes one summary, once for its slot. ``dry_run`` writes nothing. The result
    counts what was removed by its kind; the sample holds sessions.
    """
    result = JobResult(now=now, dry_run=dry_run)
    times = {
        "now": now,
        "sessions_before": now - timedelta(days=settings().retention_days),
        "pushes_before": now - PUSHES_KEPT,
        "mails_before": now - MAILS_KEPT,
        "keys_before": now - KEPT,
    }
    with transaction() as db:
        result.sample = [{"session_id": str(id_)} for id_ in db.scalars(_SAMPLE, {**times, "sample": SAMPLE})]
    for rule in RULES:
        if dry_run:
            with transaction() as db:
                count = int(db.execute(rule.counting, times).scalar_one())
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
    """Removes batches by one statement: what ``claim`` selects, and locks, of the ``old`` is what is written.

    Materialized, because a plan that looked for it again would claim more than a batch.
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
# What may still be sent keeps its words. A mail is at rest in these states, and an uncertain one that waits for people.
_OLD_MAILS = """
    FROM emails WHERE created_at < :mails_before AND (text_body IS NOT NULL OR html_body IS NOT NULL)
        AND (status NOT IN ('queued', 'sending', 'uncertain') OR status = 'uncertain' AND retry_at IS NULL)
"""
_GONE = "FROM notification_receipts r JOIN notifications n ON n.id = r.notification_id WHERE n.deleted_at IS NOT NULL"
_OLD_KEYS = "FROM idempotency_keys WHERE created_at < :keys_before"


_HEAD = text("""
    WITH head AS (SELECT id, created_at FROM push_events ORDER BY id LIMIT :batch)
    SELECT max(id), count(*) FROM head
    WHERE id < coalesce((SELECT min(id) FROM head WHERE created_at >= :pushes_before), 9223372036854775807)
""")


def _prune(db: Session, given: dict[str, Any]) -> int:
    """Remove the oldest ids, up to the first that is kept, and say so in the same transaction: readers ask for both."""
    db.execute(text("SELECT FROM push_log FOR UPDATE"))  # a prefix is cut by one at a time
    through, count = db.execute(_HEAD, given).one()
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
        _GONE,
        claim="SELECT r.user_id, r.notification_id {old} {few} FOR UPDATE OF r",
        writes=(
            "DELETE FROM notification_receipts r USING old"
            " WHERE (r.user_id, r.notification_id) = (old.user_id, old.notification_id)",
        ),
    ),
)
