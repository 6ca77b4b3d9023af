"""Metrics for Prometheus: this process's requests and sockets, and the database's state of mails, reports and jobs."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple, get_args

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope

from api.local import is_loopback
from api.realtime.hub import Hub
from api.realtime.relay import OutboxBackend
from core import jobs, outbox
from core.db import transaction
from core.emails import stats
from core.emails.kinds import EmailKind
from core.errors import Forbidden
from core.models import EmailStatus, ReportStatus
from core.queues import QUANTILES, Durations, StatusCount
from core.reports import stats as report_stats
from core.reports.registry import ReportType
from core.settings import settings

router = APIRouter(tags=["health"])

FRESH_SECONDS: Final = 5.0
"""However often /metrics is read, the database is queried at most once in this time."""
PATIENCE: Final = 3.0
"""How long a response waits for the database; then it comes without the database's metrics."""
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LIMITS: Final = ("WS_QUEUE_BYTES", "WS_SEND_SECONDS")
_SHARED: Final = (
    f"From the database, at most {FRESH_SECONDS:g} seconds old: the same in every API process, so take max, not sum."
)
_OWN: Final = "Of this API process: sum over all."
_WAITS: Final = """
    SELECT extract(epoch FROM clock_timestamp() - created_at) FROM push_events WHERE id > :cursor ORDER BY id LIMIT 1
"""

disable_created_metrics()  # type: ignore[no-untyped-call]


class DatabaseStats(NamedTuple):
    """What was read from the database: mails, reports, jobs, the newest push id, the age of the oldest unrouted."""

    mail: stats.MailStats
    reports: report_stats.ReportStats
    jobs: list[jobs.JobStats]
    newest: int
    lag: float


class Metrics:
    """The metrics of one application; nothing that clients write is in a label."""

    def __init__(self, hub: Hub, relay: OutboxBackend) -> None:
        self._hub, self._relay = hub, relay
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "greenroom_http_requests",
            f"HTTP requests answered, by method, route template and status. {_OWN}",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "greenroom_http_request_seconds",
            f"Seconds from a request to the last byte of its answer, by method and route template. {_OWN}",
            ("method", "route"),
            registry=self._registry,
            buckets=_BUCKETS,
        )
        ProcessCollector(registry=self._registry)
        self._registry.register(self)
        self._reading: asyncio.Task[DatabaseStats | None] | None = None
        self._read_at = 0.0

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        route: Any = scope.get("route")
        # the template and never the path, which holds ids, signed links and whatever clients try
        named = getattr(route, "path_format", None) or getattr(route, "path", None) or "(none)"
        method = scope["method"] if scope["method"] in _METHODS else "(other)"
        self._requests.labels(method, named, str(status)).inc()
        self._seconds.labels(method, named).observe(seconds)

    async def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        if self._reading is None or (self._reading.done() and time.monotonic() - self._read_at >= FRESH_SECONDS):
            self._read_at = time.monotonic()
            # one read at a time, however many requests come and however long it takes
            self._reading = asyncio.create_task(run_in_threadpool(_read_stats, self._hub.cursor))
        await asyncio.wait((self._reading,), timeout=PATIENCE)
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The metrics whose values are kept elsewhere; called by the registry."""
        stats = self._reading.result() if self._reading and self._reading.done() else None
        yield _gauge(
            "greenroom_database_up", f"Whether the database answered within {PATIENCE:g} s. {_OWN}", stats is not None
        )
        connections, subscriptions = self._hub.counts()
        yield _gauge("greenroom_connections", f"Connections that are signed in. {_OWN}", connections)
        yield _gauge("greenroom_subscriptions", f"Subscriptions of those connections. {_OWN}", subscriptions)
        slow = CounterMetricFamily(
            "greenroom_slow_consumers_closed", f"Connections closed as too slow, by limit. {_OWN}", labels=["limit"]
        )
        for limit in _LIMITS:
            slow.add_metric([limit], self._hub.slow_closed[limit])
        yield slow
        yield _gauge(
            "greenroom_relay_up", f"Whether the log of pushes can be read. {_OWN}", self._relay.working.is_set()
        )
        yield _gauge(
            "greenroom_relay_routed_id", f"The newest push id routed to sockets. {_OWN}", self._hub.cursor or 0
        )
        if stats is not None:
            yield _gauge(
                "greenroom_relay_lag_seconds",
                f"Age of the oldest push that was not routed when the database was read, 0 for none. {_OWN}",
                stats.lag,
            )
            yield _gauge("greenroom_push_newest_id", f"The newest id of the log of pushes. {_SHARED}", stats.newest)
            yield from _mail_metrics(stats.mail)
            yield from _report_metrics(stats.reports)
            yield from _job_metrics(stats.jobs)


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, float(value))


def _by_state(name: str, about: str, states: tuple[Any, Any], kind: str, counts: Sequence[StatusCount]) -> Metric:
    """Every possible state and kind, with 0 for those without rows."""
    found = {(one.status, one.kind): one.n for one in counts}
    family = GaugeMetricFamily(name, f"{about}, by status and {kind}. {_SHARED}", labels=["status", kind])
    for pair in product(*map(get_args, states)):
        family.add_metric(list(pair), found.get(pair, 0))
    return family


def _retries(name: str, about: str, kinds: Any, kind: str, counts: Sequence[StatusCount]) -> Metric:
    family = GaugeMetricFamily(name, f"Attempts after the first, {about}. {_SHARED}", labels=[kind])
    for of in get_args(kinds):
        family.add_metric([of], sum(one.again for one in counts if one.kind == of))
    return family


def _quantiles(name: str, about: str, durations: Durations) -> Metric:
    family = GaugeMetricFamily(name, f"Quantiles of the seconds {about}", labels=["quantile"])
    for quantile, seconds in zip(QUANTILES, durations.seconds, strict=False):
        family.add_metric([f"{quantile:g}"], seconds)
    return family


def _window(newest: str, minutes: int) -> str:
    return f"among the newest {newest} in the last {minutes} minutes. A window and no counter. {_SHARED}"


def _mail_metrics(mail: stats.MailStats) -> Iterator[Metric]:
    yield _by_state("greenroom_mails", "Mails that are kept", (EmailStatus, EmailKind), "kind", mail.by_status)
    about = "of mails that are kept, by kind; a retry by hand counts from 0 again"
    yield _retries("greenroom_mail_retries", about, EmailKind, "kind", mail.by_status)
    yield _gauge(
        "greenroom_mail_overdue_seconds",
        f"How long the mail that waits longest for an attempt has been due, 0 when none is. {_SHARED}",
        mail.overdue_seconds,
    )
    yield _gauge(
        "greenroom_mail_suppressed_addresses",
        f"Entries of the list of addresses that get no more mail. {_SHARED}",
        mail.suppressed_addresses,
    )
    window = _window(f"{stats.RECENT_MAILS} mails made", stats.RECENT_MINUTES)
    yield _gauge("greenroom_mail_recently_accepted", f"Mails that a server accepted, {window}", mail.accepted.n)
    yield _quantiles(
        "greenroom_mail_accepted_seconds",
        "from the INSERT of a mail, moments before its commit, to the commit of the server's 250, a wait for its "
        f"due time and retries included, of those accepted {window}",
        mail.accepted,
    )


def _job_metrics(counts: list[jobs.JobStats]) -> Iterator[Metric]:
    runs = CounterMetricFamily(
        "greenroom_job_runs",
        f"Runs of a job that are over, by outcome; skipped: another run did its work. {_SHARED}",
        labels=["job", "end"],
    )
    rows = CounterMetricFamily(
        "greenroom_job_rows",
        f"Rows that completed runs of a job found, by outcome; dry runs left out. {_SHARED}",
        labels=["job", "outcome"],
    )
    late = CounterMetricFamily("greenroom_job_late_runs", f"Runs that did not start in time. {_SHARED}", labels=["job"])
    is_late = GaugeMetricFamily(
        "greenroom_job_is_late", f"Whether a run was late and no later one has started. {_SHARED}", labels=["job"]
    )
    success = GaugeMetricFamily(
        "greenroom_job_last_success_timestamp_seconds", f"When a run last completed. {_SHARED}", labels=["job"]
    )
    for one in counts:
        for end, count in one.runs.items():
            runs.add_metric([one.job, end], count)
        for outcome, count in one.rows.items():
            rows.add_metric([one.job, outcome], count)
        late.add_metric([one.job], one.late)
        is_late.add_metric([one.job], one.is_late)
        if one.completed_at is not None:
            success.add_metric([one.job], one.completed_at.timestamp())
    yield from (runs, rows, late, is_late, success)


def _report_metrics(reports: report_stats.ReportStats) -> Iterator[Metric]:
    yield _by_state("greenroom_reports", "Reports requested", (ReportStatus, ReportType), "type", reports.by_status)
    yield _retries("greenroom_report_retries", "of each report, by type", ReportType, "type", reports.by_status)
    yield _gauge(
        "greenroom_report_overdue_seconds",
        f"How long the report that waits longest for an attempt has been due, 0 when none is. {_SHARED}",
        reports.overdue_seconds,
    )
    yield _gauge("greenroom_report_kept_bytes", f"Bytes of all files that are kept. {_SHARED}", reports.kept_bytes)
    window = _window(f"{report_stats.RECENT_REPORTS} requested", report_stats.RECENT_MINUTES)
    yield _gauge("greenroom_report_recently_ready", f"Reports that became ready, {window}", reports.ready.n)
    yield _quantiles(
        "greenroom_report_ready_seconds",
        f"from the request to the file being kept, retries included, of those ready {window}",
        reports.ready,
    )


def _read_stats(cursor: int | None) -> DatabaseStats | None:
    try:
        with transaction() as db:
            db.execute(text("SET LOCAL statement_timeout = '10s'"))
            newest = outbox.newest_id(db)
            lag = 0.0 if cursor is None else float(db.scalar(text(_WAITS), {"cursor": cursor}) or 0)
            return DatabaseStats(
                stats.mail_stats(db), report_stats.report_stats(db), jobs.job_stats(db), newest, max(0.0, lag)
            )
    except SQLAlchemyError:
        return None


def _may_read(request: Request) -> None:
    if not settings().metrics_public and not is_loopback(request):
        raise Forbidden("Metrics are for this machine only; GREENROOM_METRICS_PUBLIC=true opens them to all.")


@router.get("/metrics", dependencies=[Depends(_may_read)], response_class=Response)
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus's text format, for loopback clients, or anyone where METRICS_PUBLIC is set."""
    measured: Metrics = request.app.state.metrics
    return Response(await measured.text(), media_type=None, headers={"Content-Type": CONTENT_TYPE_LATEST})
