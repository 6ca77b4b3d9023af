"""The jobs by the hundred thousand rows: ``python -m bench.jobs [--due 100000] [--seconds 60] [--sessions 1000000]``.

Reminders and notifications by two workers and two dispatchers at once, and against plain SQL; how exact reminders
are with a dispatcher; and cleanup of a fifth of all sessions. An embedded PostgreSQL is started for it, as the local
stack runs it.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg

from bench import jobs_exact, jobs_fill, jobs_plain
from core import cleanup, notifications, reminders
from core.clock import utcnow
from core.db import snapshot
from core.emails import session_mails
from core.reports import metrics
from core.reports.data import Dashboard, Period
from core.results import JobResult
from tests.support.processes import PostgresServer, eventually, own_database, postgres_server

BATCH = 200
COUNTED = {
    "reminders sent": "SELECT count(*) FROM reminders WHERE status = 'sent'",
    "mails": "SELECT count(*) FROM emails WHERE kind = 'reminder'",
    **{
        f"{category}: {what}": query.format(category)
        for category in ("reminder", "announcement")
        for what, query in {
            "notifications": "SELECT count(*) FROM notifications WHERE category = '{}' AND status = 'delivered'",
            "receipts": """
                SELECT count(*) FROM notification_receipts JOIN notifications ON id = notification_id
                WHERE category = '{}'""",
            "pushed": """
                SELECT count(*) FROM push_events
                WHERE type = 'notification.created' AND payload->>'category' = '{}'""",
        }.items()
    },
}
"""Counts of each effect; every due row has exactly one."""


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--due", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--worker", choices=("core", "plain", "cleanup"), help=argparse.SUPPRESS)
    parser.add_argument("--now", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker)
        return
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder), durable=True) as server:
        print(f"{given.due} due reminders and {given.due} pending notifications; batches of {BATCH} and 500")
        together(server, given.due)
        cost(server, given.due)
        jobs_exact.precision(server, given.seconds)
        cleaning(server, given.sessions)


# sending


def together(server: PostgresServer, due: int) -> None:
    """Two workers and two dispatchers at once on all due rows: exactly one effect each."""
    with own_database(server) as url, tempfile.TemporaryDirectory() as folder:
        _fill(url, due)
        with _backend_cpu(server, url) as spent:
            begun = time.monotonic()
            dispatchers = [jobs_exact.dispatcher(url, folder) for _ in range(2)]
            results = _workers("core", 2, url)
            eventually(lambda: _all_done(url, due), "nothing is left", seconds=60)
            wall = time.monotonic() - begun
            times = [psutil.Process(each.pid).cpu_times() for each in dispatchers]
            for each in dispatchers:
                each.kill()
                each.wait()
    theirs = sum(each.user + each.system for each in times)
    client, rendering = (sum(one[name] for one in results) for name in ("client", "rendering"))
    ours = sum(one["reminders"] for one in results), sum(one["notifications"] for one in results)
    print(
        f"2 workers and 2 dispatchers: {2 * due} rows in {wall:.1f} s, {2 * due / wall:.0f}/s; the workers sent"
        f" {ours[0]:.0f} reminders and {ours[1]:.0f} notifications, the dispatchers the rest; CPU a row"
        f" {1e6 * (client + theirs + spent[0]) / (2 * due):.0f} µs (workers {1e6 * client / (2 * due):.0f}, of it"
        f" rendering {1e6 * rendering / (2 * due):.0f}; dispatchers, their starts included,"
        f" {1e6 * theirs / (2 * due):.0f}; backends {1e6 * spent[0] / (2 * due):.0f}); every count is {due}",
        flush=True,
    )


def cost(server: PostgresServer, due: int) -> None:
    """One worker, and plain SQL that writes the same: CPU time a row, with the share of rendering."""
    rest: dict[str, float] = {}
    for what in ("core", "plain"):
        with own_database(server) as url:
            _fill(url, due)
            with _backend_cpu(server, url) as spent:
                [one] = _workers(what, 1, url)
            assert (one["reminders"], one["notifications"]) == (due, due), one
            assert _all_done(url, due)
        cpu = one["client"] + spent[0]
        rest[what] = cpu - one["rendering"]
        print(
            f"1 × {what}: {2 * due} rows in {one['wall']:.1f} s, {2 * due / one['wall']:.0f}/s; CPU a row"
            f" {1e6 * cpu / (2 * due):.0f} µs (client {1e6 * one['client'] / (2 * due):.0f}, of it rendering"
            f" {1e6 * one['rendering'] / (2 * due):.0f}; backend {1e6 * spent[0] / (2 * due):.0f});"
            f" {1e6 * one['rendering'] / due:.0f} µs a reminder is rendering",
            flush=True,
        )
    print(f"core without rendering / plain SQL: {rest['core'] / rest['plain']:.2f} (target: at most 2)", flush=True)


def _fill(url: str, due: int) -> None:
    now = utcnow()
    jobs_fill.reminders(url, due=due, start=now + timedelta(minutes=59), now=now, pending=True)


def _all_done(url: str, due: int) -> bool:
    """Whether everything was sent; asserts that nothing was sent twice."""
    with psycopg.connect(url) as db:
        counts = {name: db.execute(query).fetchone()[0] for name, query in COUNTED.items()}  # type: ignore[index,arg-type]
    assert max(counts.values()) <= due, counts
    return set(counts.values()) == {due}


def worker(what: str) -> None:
    """One worker in this process; prints its result for its parent."""
    result: dict[str, float] = {"rendering": 0.0}
    url = os.environ["GREENROOM_DATABASE_URL"]
    if what == "core":
        _time_rendering(result)
    before, begun, memory = time.process_time(), time.monotonic(), psutil.Process().memory_info().rss
    if what == "core":
        result["reminders"] = _until_nothing_is_left(lambda: reminders.send_due(now=utcnow(), batch=BATCH))
        result["notifications"] = notifications.deliver_due(now=utcnow()).done
    elif what == "plain":
        with psycopg.connect(url) as db:
            result["reminders"] = jobs_plain.send(db, now=utcnow(), batch=BATCH)
            result["notifications"] = jobs_plain.deliver(db, now=utcnow(), batch=500)
    else:
        result |= _cleaned()
    result["wall"] = time.monotonic() - begun
    result["client"] = time.process_time() - before
    result["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory) / 1e6
    print(result)


def _until_nothing_is_left(send: Callable[[], JobResult]) -> int:
    done = 0
    while (sent := send()).found or sent.counts["locked"]:
        done += sent.done
    return done


def _time_rendering(result: dict[str, float]) -> None:
    real = session_mails.render

    def timed(*given: Any, **more: Any) -> Any:
        begun = time.process_time()
        try:
            return real(*given, **more)
        finally:
            result["rendering"] += time.process_time() - begun

    session_mails.render = timed  # type: ignore[assignment]


def _workers(what: str, number: int, url: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "bench.jobs", "--worker", what]
    environment = os.environ | {
        "GREENROOM_DATABASE_URL": url,
        "GREENROOM_JWT_SECRET": "a secret of the benchmark's own, long",
    }
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(number)]
    results = []
    for process in running:
        out, _ = process.communicate()
        assert process.returncode == 0
        results.append(eval(out.strip().splitlines()[-1], {}))  # noqa: S307 - our own child's dict
    return results


@contextmanager
def _backend_cpu(server: PostgresServer, url: str) -> Iterator[list[float]]:
    """CPU seconds of the database's backends while the block runs, sampled until each ends."""
    seen: dict[int, float] = {}
    name, stop, spent = url.rsplit("/", 1)[1], threading.Event(), [0.0]

    def sample() -> None:
        with psycopg.connect(server.url, autocommit=True) as db:
            while not stop.wait(0.05):
                for (pid,) in db.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", [name]):
                    try:
                        times = psutil.Process(pid).cpu_times()
                    except psutil.Error:
                        continue
                    seen[pid] = times.user + times.system

    watching = threading.Thread(target=sample)
    watching.start()
    yield spent
    stop.set()
    watching.join()
    spent[0] = sum(seen.values())


# cleanup


def cleaning(server: PostgresServer, sessions: int) -> None:
    """Cleanup of a fifth of all sessions: the longest time a lock is held, and the memory; and of a tenth."""
    for share in (50, 5):
        with own_database(server) as url:
            old = sessions // share
            jobs_fill.sessions(url, sessions=sessions, old=old, now=utcnow())
            now = utcnow()
            before = _reported(now)
            assert before.stamp.n == sessions
            [result] = _workers("cleanup", 1, url)
            with psycopg.connect(url) as db:
                gone = db.execute("SELECT count(*) FROM sessions WHERE deleted_at IS NOT NULL").fetchone()
            assert gone == (old,), gone
            assert _reported(now) == before, "what reports say has changed"
        print(
            f"\ncleanup of {old} of {sessions} sessions and {old} pushes: {result['wall']:.1f} s in"
            f" {result['transactions']:.0f} transactions, the longest {1000 * result['longest']:.0f} ms (no lock is"
            f" held longer); client's memory +{result['memory']:.1f} MB; the dashboard of half a year is unchanged",
            flush=True,
        )


def _reported(now: datetime) -> Dashboard:
    """The dashboard of the last half year."""
    with snapshot() as db:
        return metrics.dashboard(db, Period(now - timedelta(days=182), now, "UTC"), as_of=now)


def _cleaned() -> dict[str, float]:
    real, took = cleanup.transaction, list[float]()

    @contextmanager
    def timed() -> Iterator[Any]:
        begun = time.monotonic()
        with real() as db:
            yield db
        took.append(time.monotonic() - begun)

    cleanup.transaction = timed  # type: ignore[assignment]
    done = cleanup.clean_up(now=utcnow()).done
    return {"done": done, "transactions": len(took), "longest": max(took)}


if __name__ == "__main__":
    main()
