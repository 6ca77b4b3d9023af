"""The jobs by the hundred thousand: ``python -m bench.jobs [--due 100000] [--seconds 60] [--sessions 1000000]``.

Reminders and notifications sent by two workers at once, against plain SQL; how exact reminders are with a dispatcher;
and cleanup of a fifth of all sessions. An embedded PostgreSQL is started for it, as the local stack runs it.
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
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import psutil
import psycopg

from bench import jobs_fill, jobs_plain
from core import cleanup, notifications, reminders
from core.clock import utcnow
from core.emails import queueing
from tests.parts import PostgresServer, own_database, postgres_server

BATCH = 200
SECRET = "a secret of the benchmark's own, long"
COUNTED = {
    "reminders sent": "SELECT count(*) FROM reminders WHERE status = 'sent'",
    "mails": "SELECT count(*) FROM emails WHERE kind = 'reminder'",
    "their notifications": "SELECT count(*) FROM notifications WHERE category = 'reminder' AND status = 'delivered'",
    "their receipts": """
        SELECT count(*) FROM notification_receipts JOIN notifications ON id = notification_id
        WHERE category = 'reminder'""",
    "pushed": """
        SELECT count(*) FROM push_events WHERE type = 'notification.created' AND payload->>'category' = 'reminder'""",
}


def main() -> None:
    """Measure, compare, print."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--due", type=int, default=100_000)
    ask.add_argument("--seconds", type=int, default=60)
    ask.add_argument("--sessions", type=int, default=1_000_000)
    ask.add_argument("--worker", choices=("core", "plain", "cleanup"), help=argparse.SUPPRESS)
    ask.add_argument("--now", help=argparse.SUPPRESS)
    given = ask.parse_args()
    if given.worker:
        worker(given.worker)
        return
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder), durable=True) as server:
        sending(server, given.due)
        precision(server, given.seconds)
        cleaning(server, given.sessions)


# sending


def sending(server: PostgresServer, due: int) -> None:
    """Two workers over all that is due: exactly one effect each; then one of each kind, for the cost."""
    print(f"\n{due} due reminders, {due} pending notifications; batches of {BATCH}")
    for what, workers in (("core", 2), ("core", 1), ("plain", 1)):
        with own_database(server) as url:
            now = utcnow()
            jobs_fill.reminders(url, due=due, start=now + timedelta(minutes=59), now=now, pending=workers == 2)
            with _backend_cpu(server, url) as spent:
                begun = time.monotonic()
                results = _workers(what, workers, url)
                wall = time.monotonic() - begun
            with psycopg.connect(url) as db:
                counts = {name: db.execute(query).fetchone()[0] for name, query in COUNTED.items()}  # type: ignore[index,arg-type]
                left = db.execute("SELECT count(*) FROM notifications WHERE status = 'pending'").fetchone()
            assert set(counts.values()) == {due}, counts
            assert left == (0,)
        sent = sum(one["done"] for one in results)
        assert sent == due, sent
        client, rendering = (sum(one[name] for one in results) for name in ("client", "rendering"))
        other = sum(one["notifications"] for one in results)
        cpu = client + spent[0]
        print(
            f"{workers} × {what}: reminders and notifications in {wall:.1f} s; a row: CPU {1e6 * cpu / due:.0f} µs"
            f" (client {1e6 * client / due:.0f}, backend {1e6 * spent[0] / due:.0f}),"
            f" rendering {1e6 * rendering / due:.0f} µs of it, pending notifications {1e6 * other / due:.0f} µs client;"
            f" reminders {due / max(one['wall'] for one in results):.0f}/s; every count {due}",
            flush=True,
        )


def worker(what: str) -> None:
    """One worker in this process; prints its result for its parent."""
    result: dict[str, float] = {"rendering": 0.0, "notifications": 0.0}
    url = os.environ["GREENROOM_DATABASE_URL"]
    if what == "core":
        _time_rendering(result)
    before, begun, memory = time.process_time(), time.monotonic(), psutil.Process().memory_info().rss
    if what == "core":
        result["done"] = _until_nothing_is_left(lambda: reminders.send_due(now=utcnow(), batch=BATCH))
    elif what == "plain":
        with psycopg.connect(url) as db:
            result["done"] = jobs_plain.send(db, now=utcnow(), batch=BATCH)
    else:
        result |= _cleaned()
    result["wall"] = time.monotonic() - begun
    result["client"] = time.process_time() - before
    if what == "core":
        notifications.deliver_due(now=utcnow())
        result["notifications"] = time.process_time() - before - result["client"]
    result["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory) / 1e6
    print(result)


def _until_nothing_is_left(send: Callable[[], reminders.Sent]) -> int:
    done = 0
    while (sent := send()).found or sent.left:
        done += sent.done
    return done


def _time_rendering(result: dict[str, float]) -> None:
    real = queueing.render

    def timed(*given: Any, **more: Any) -> Any:
        begun = time.process_time()
        try:
            return real(*given, **more)
        finally:
            result["rendering"] += time.process_time() - begun

    queueing.render = timed  # type: ignore[assignment]


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

    def look() -> None:
        with psycopg.connect(server.url, autocommit=True) as db:
            while not stop.wait(0.05):
                for (pid,) in db.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", [name]):
                    try:
                        times = psutil.Process(pid).cpu_times()
                    except psutil.Error:
                        continue
                    seen[pid] = times.user + times.system

    watching = threading.Thread(target=look)
    watching.start()
    yield spent
    stop.set()
    watching.join()
    spent[0] = sum(seen.values())


# precision


def precision(server: PostgresServer, seconds: int) -> None:
    """20 reminders due a second, and a dispatcher: from ``due_at`` to a row that others see."""
    with own_database(server) as url, tempfile.TemporaryDirectory() as folder:
        now = utcnow()
        first = now + timedelta(seconds=8)
        start = first + timedelta(minutes=60)
        jobs_fill.reminders(url, due=20 * seconds, start=start, now=now, step=0.1)
        environment = os.environ | {
            "GREENROOM_DATABASE_URL": url,
            "GREENROOM_JWT_SECRET": SECRET,
            "GREENROOM_STATE_DIR": folder,
            "PREFECT_API_URL": "http://127.0.0.1:9/api",
            "GREENROOM_SMTP_URL": "smtp://127.0.0.1:9",
        }
        command = [sys.executable, "-m", "deployments.cli", "dispatcher"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        late: list[float] = []
        try:
            with psycopg.connect(url, autocommit=True) as db:
                known: set[Any] = set()
                deadline = time.monotonic() + 8 + seconds + 60
                while len(known) < 20 * seconds and time.monotonic() < deadline:
                    query = """
                        SELECT e.id, extract(epoch FROM clock_timestamp() - s.scheduled_start + interval '1 hour')
                        FROM emails e JOIN sessions s ON s.id = e.session_id
                        WHERE e.kind = 'reminder' AND e.created_at > clock_timestamp() - interval '5 s'"""
                    for id_, seconds_late in db.execute(query):
                        if id_ not in known:
                            known.add(id_)
                            late.append(float(seconds_late))
                    time.sleep(0.02)
        finally:
            process.terminate()
            process.wait()
        assert len(late) == 20 * seconds, f"{len(late)} of {20 * seconds} were sent"
        cuts = quantiles(late, n=100)
        print(
            f"\n20 due a second for {seconds} s: due → committed mail row p50 {cuts[49]:.3f} s, p99 {cuts[98]:.3f} s,"
            f" earliest {min(late):.3f}, latest {max(late):.3f} (seen by a look each 20 ms)",
            flush=True,
        )


# cleanup


def cleaning(server: PostgresServer, sessions: int) -> None:
    """A fifth of all sessions is old: how long any lock is held, and what memory it takes, against a tenth of that."""
    for share in (50, 5):
        with own_database(server) as url:
            old = sessions // share
            jobs_fill.sessions(url, sessions=sessions, old=old, now=utcnow())
            counted = "SELECT status, count(*) FROM sessions GROUP BY 1 ORDER BY 1"
            with psycopg.connect(url) as db:
                before = db.execute(counted).fetchall()
            [result] = _workers("cleanup", 1, url)
            with psycopg.connect(url) as db:
                gone = db.execute("SELECT count(*) FROM sessions WHERE deleted_at IS NOT NULL").fetchone()
                assert gone == (old,), gone
                assert db.execute(counted).fetchall() == before, "what reports count has changed"
        print(
            f"\ncleanup of {old} of {sessions} sessions and {old} pushes: {result['wall']:.1f} s in"
            f" {result['transactions']:.0f} transactions, the longest {1000 * result['longest']:.0f} ms (no lock is"
            f" held longer); client's memory +{result['memory']:.1f} MB; counts by status unchanged",
            flush=True,
        )


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
