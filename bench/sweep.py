"""The status sweep at a million sessions, against the same rows written by plain SQL.

``python -m bench.sweep --sessions 1000000 --due 50000``. GREENROOM_DATABASE_URL names a server on which databases
may be made and dropped (as a superuser); absent, an embedded one is started.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
from psycopg import sql
from sqlalchemy import event, text

from bench.sweep_fill import NOW, fill
from bench.sweep_plain import sweep as plain_sweep
from core.db import engine, transaction
from core.migrations import migrate
from core.sessions import apply_moves, update_statuses
from tests.support.processes import postgres_server

TEMPLATE, COPY = "bench_sweep", "bench_sweep_copy"
FEW = 10
"""The memory is measured with one due session in so many, too."""

SUMS = {
    "sessions": "SELECT status, to_jsonb(s)::text FROM sessions s",
    "session_events": """
        SELECT kind || coalesce(' ' || new_status, ''), (to_jsonb(e) - 'id')::text FROM session_events e
        WHERE kind <> 'created'""",
    "notifications": "SELECT category, (to_jsonb(n) - 'id' - 'created_at')::text FROM notifications n",
    "notification_receipts": """
        SELECT n.category, r.user_id || n.dedupe_key
        FROM notification_receipts r JOIN notifications n ON n.id = r.notification_id""",
    "push_events": """
        SELECT concat_ws(' ', type, payload->>'status', payload->>'category'),
               destination || coalesce(audience, '') || (payload::jsonb - 'notification_id' - 'created_at')::text
        FROM push_events""",
}
"""The rows that both must write alike, without generated ids and clock times: a group and a row's text."""


def main() -> None:
    """Fill, measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--due", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--run", choices=("core", "plain", "explain"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        # Plain SQL writes no mails, so core writes none here; bench.mail measures those.
        apply_moves.mail_moves = lambda *_, **__: None
        print(json.dumps({"core": run_core, "plain": run_plain, "explain": run_explained}[given.run](given.batch)))
        return
    with server() as url, _databases(url, given.sessions, given.due) as filled:
        _measure(filled, given.rounds, given.batch)


def _measure(server: str, rounds: int, batch: int) -> None:
    results: dict[str, list[dict[str, Any]]] = {"core": [], "plain": []}
    for number in range(rounds):
        sums = {}
        for who in ("core", "plain") if number % 2 == 0 else ("plain", "core"):
            with _copy(server) as url:
                results[who].append(_child(who, url, batch))
                sums[who] = _sums(url)
            print(f"round {number + 1}, {_format(who, results[who][-1])}", flush=True)
        assert sums["core"] == sums["plain"], "the two leave different rows"
    print("\nThe same rows, by table and kind (count, checksum):")
    for table, groups in sums["core"].items():
        print(f"  {table}: " + ", ".join(f"{kind} {count}" for kind, count, _ in groups))
    print("\nMedians:")
    for who, runs in results.items():
        print("  " + _format(who, {key: median(run[key] for run in runs) for key in runs[0]}))
    for key, name in (("wall", "wall time"), ("cpu", "CPU time, client and backend")):
        ratio = median(run[key] for run in results["core"]) / median(run[key] for run in results["plain"])
        least = min(run[key] for run in results["core"]) / min(run[key] for run in results["plain"])
        print(f"  {name}: core / plain = {ratio:.2f}, of the least disturbed rounds {least:.2f} (target: at most 1.5)")
    with _copy(server) as url:
        with psycopg.connect(url) as db:
            db.execute(
                "UPDATE sessions SET sweep_at = NULL WHERE sweep_at <= %s AND abs(hashtext(id::text)) %% %s > 0",
                [NOW, FEW],
            )
        few = _child("core", url, batch)
    most = max(run["memory"] for run in results["core"])
    peaks = f"{few['memory']:.1f} MB for {few['done']} due sessions, {most:.1f} MB for {results['core'][0]['done']}"
    print(f"\nPeak memory of the client above its start: {peaks}")
    with _copy(server) as url:
        plans = _child("explain", url, batch)
    print(f"\n{plans['by_index']} of {plans['claims']} claims by index sessions_sweep.")
    print(f"Read whole by any statement of the pass: {', '.join(plans['scanned']) or 'no table'}.")
    for name, plan in plans["shown"].items():
        print(f"\nThe {name}:\n{plan}")


def _format(who: str, run: dict[str, Any]) -> str:
    return (
        f"{who:5}: {run['done']:.0f} done, wall {run['wall']:.2f} s, CPU {run['cpu']:.2f} s"
        f" (client {run['client']:.2f}, backend {run['backend']:.2f}), {run['done'] / run['wall']:.0f} sessions/s"
    )


def run_core(batch: int) -> dict[str, float]:
    """One pass of core in this process, measured."""
    with transaction() as db:
        backend = psutil.Process(db.scalar(text("SELECT pg_backend_pid()")))
    with _measured(backend) as result:
        result["done"] = update_statuses(now=NOW, batch=batch).done
    return result


def run_plain(batch: int) -> dict[str, float]:
    """One pass of plain SQL, measured."""
    with psycopg.connect(os.environ["GREENROOM_DATABASE_URL"], options="-c timezone=UTC") as db:
        with _measured(psutil.Process(db.info.backend_pid)) as result:
            plain_sweep(db, now=NOW, batch=batch)
        counted = "SELECT count(*) FROM session_events WHERE at = %s AND kind <> 'created'"
        result["done"] = db.execute(counted, [NOW]).fetchone()[0]  # type: ignore[index]
    return result


def run_explained(batch: int) -> dict[str, Any]:
    """One pass of core with every claim's plan, as it was executed."""
    plans: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        if (said := diagnostic.message_primary or "").startswith("duration"):
            plans.append("\n".join(_short(line) for line in said.splitlines()))

    @event.listens_for(engine(), "connect")
    def _(connection: psycopg.Connection, _: object) -> None:
        connection.execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on;"
            " SET auto_explain.log_buffers = on; SET client_min_messages = log"
        )
        connection.commit()
        connection.add_notice_handler(note)

    update_statuses(now=NOW, batch=batch)
    claims = [plan for plan in plans if "FOR UPDATE SKIP LOCKED" in plan]
    facts = [plan for plan in plans if "ORDER BY sessions.sweep_at" in plan and "SKIP LOCKED" not in plan]
    scans = [line for plan in plans for line in plan.splitlines() if "Seq Scan on " in line]
    return {
        "claims": len(claims),
        "by_index": sum("sessions_sweep" in plan for plan in claims),
        "scanned": sorted({line.split("Seq Scan on ")[1].split()[0] for line in scans}),
        "shown": {
            f"{name} {what}": found[place]
            for what, found in (("claim", claims), ("facts", facts))
            for name, place in (("first", 0), ("middle", len(found) // 2))
        },
    }


def _short(line: str) -> str:
    return line if len(line) < 240 else line[:200] + " …"


@contextmanager
def _measured(backend: psutil.Process) -> Iterator[dict[str, float]]:
    """Times in seconds, the growth of this process above its start in MB."""
    result: dict[str, float] = {}
    memory, client, server, wall = psutil.Process().memory_info().rss, time.process_time(), _cpu(backend), time.time()
    yield result
    result["wall"] = time.time() - wall
    result["client"] = time.process_time() - client
    result["backend"] = _cpu(backend) - server
    result["cpu"] = result["client"] + result["backend"]
    result["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory) / 1e6


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _child(what: str, url: str, batch: int) -> dict[str, Any]:
    """The result of one run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.sweep", "--run", what, "--batch", str(batch)],
        env=os.environ | {"GREENROOM_DATABASE_URL": url},
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(done.stdout))


def _sums(url: str) -> dict[str, list[tuple[str, int, str]]]:
    with psycopg.connect(url, options="-c timezone=UTC") as db:
        return {
            table: db.execute(
                "SELECT kind, count(*), sum(hashtextextended(content, 0)::numeric)::text"  # noqa: S608 - our own constants
                f" FROM ({query}) AS rows(kind, content) GROUP BY kind ORDER BY kind"
            ).fetchall()
            for table, query in SUMS.items()
        }


@contextmanager
def server() -> Iterator[str]:
    """The URL of the server that was given, or of one of our own while the block lasts."""
    if url := os.environ.get("GREENROOM_DATABASE_URL"):
        yield url
        return
    with tempfile.TemporaryDirectory() as folder, postgres_server(Path(folder)) as own:
        yield own.url


@contextmanager
def _databases(url: str, sessions: int, due: int) -> Iterator[str]:
    """The filled template, dropped when the block ends."""
    recreate(url, TEMPLATE)
    try:
        migrate(at(url, TEMPLATE))
        began = time.time()
        fill(at(url, TEMPLATE), sessions=sessions, due=due)
        with psycopg.connect(at(url, TEMPLATE)) as db:
            facts = (
                "SELECT count(*), count(*) FILTER (WHERE sweep_at <= %s), pg_database_size(current_database()) / 1e9"
            )
            counted = db.execute(facts + ", version() FROM sessions", [NOW]).fetchone()
        assert counted
        print(f"{counted[0]} sessions, {counted[1]} to check, {counted[2]:.1f} GB, in {time.time() - began:.0f} s")
        print(counted[3], flush=True)
        yield url
    finally:
        for name in (COPY, TEMPLATE):
            drop(url, name)


@contextmanager
def _copy(url: str) -> Iterator[str]:
    """An identical copy of the template."""
    recreate(url, COPY, TEMPLATE)
    try:
        yield at(url, COPY)
    finally:
        drop(url, COPY)


def recreate(url: str, name: str, template: str = "template1") -> None:
    """Create a database as a copy of another, replacing it if it exists."""
    drop(url, name)
    with psycopg.connect(url, autocommit=True) as admin:
        names = sql.Identifier(name), sql.Identifier(template)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(*names))


def drop(url: str, name: str) -> None:
    """Drop a database if it exists, with its connections."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def at(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


if __name__ == "__main__":
    main()
