"""The dashboard's metrics at a million sessions: time, CPU and plan of every query; and its CSV, with its memory.

``python -m bench.report_metrics --sessions 1000000``. GREENROOM_DATABASE_URL names a server on which a database may
be made and dropped (as a superuser); absent, an embedded one is started, configured as ``greenroom up`` does.
"""

import argparse
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from statistics import median
from typing import Any

import psutil
import psycopg
from sqlalchemy import event, text

from bench import sweep
from bench.report_fill import NOW, fill
from core.db import engine, snapshot
from core.migrations import migrate
from core.reports import csv, metrics
from core.reports.data import Period
from tests.support.processes import use_database

NAME = "bench_reports"
ZONE = "Europe/Berlin"
NAMES = {
    "alike AS": "counts of all weeks",
    "owed AS": "feedback",
    "hired_at - applied_at": "time to hire",
    "planned - invited": "scheduling delay",
    "decided - ended": "time to decision",
    "cells AS": "scores",
    "AS held": "interviewers",
    "undone AS": "attention",
    "AS starts": "heat map",
    "AS reminded": "reminders, mails, late runs",
}
"""Queries by a text that only they contain."""


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with _database(given.sessions):
        for days in (90, 365):
            _measure(_period(days), given.rounds, f"{days} days")
        _stream(_period(10_000))
        _explain(_period(90))


def _period(days: int) -> Period:
    end = NOW.replace(hour=0)
    return Period(end - timedelta(days=days), end, ZONE)


def _measure(period: Period, rounds: int, name: str) -> None:
    """The median and the least time of each query, with all cores and with one, and its CPU time with one."""
    took: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for _ in range(rounds):
        with snapshot() as db, _watched(db) as seen:
            dashboard = metrics.dashboard(db, period, as_of=NOW)
        for query, wall, _ in seen:
            took.setdefault(query, []).append(wall)
        with snapshot() as db, _watched(db, cores=1) as seen:
            metrics.dashboard(db, period, as_of=NOW)
        for query, wall, busy in seen:
            alone.setdefault(query, []).append(wall)
            cpu.setdefault(query, []).append(busy)
    print(
        f"\n{name}: {dashboard.stamp.n} sessions of the period; load {os.getloadavg()[0]:.1f}; seconds, median (least):"
    )
    lines = [*NAMES.values(), "in all"]
    for query in lines:
        cells = (f"{median(of[query]):.2f} ({min(of[query]):.2f})" for of in (took, alone, cpu))
        print("  {:30} two cores {}  one core {}  CPU {}".format(query, *cells), flush=True)


@contextmanager
def _watched(db: Any, cores: int = 2) -> Iterator[list[tuple[str, float, float]]]:
    """Each query's name, time and the backend's CPU time, and those of all of them."""
    seen: list[tuple[str, float, float]] = []
    backend = psutil.Process(db.scalar(text("SELECT pg_backend_pid()")))
    began: list[float] = []

    def before(*_: Any) -> None:
        began[:] = [time.perf_counter(), _cpu(backend)]

    def after(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        name = next((name for mark, name in NAMES.items() if mark in statement), "")
        seen.append((name, time.perf_counter() - began[0], _cpu(backend) - began[1]))
        if cores == 1 and "max_parallel_workers_per_gather" in statement:
            connection.connection.cursor().execute("SET LOCAL max_parallel_workers_per_gather = 0")

    event.listen(engine(), "before_cursor_execute", before)
    event.listen(engine(), "after_cursor_execute", after)
    wall, cpu = time.perf_counter(), _cpu(backend)
    try:
        yield seen
    finally:
        seen.append(("in all", time.perf_counter() - wall, _cpu(backend) - cpu))
        event.remove(engine(), "before_cursor_execute", before)
        event.remove(engine(), "after_cursor_execute", after)


def _stream(period: Period) -> None:
    """All sessions as CSV, read and discarded."""
    with snapshot() as db:
        chunks = csv.rows(db, period)
        size, lines = sum(len(next(chunks)) for _ in range(3)), 0
        peak, wall, cpu = _peak(), time.perf_counter(), time.process_time()
        for some in chunks:
            size += len(some)
            lines += some.count(b"\r\n")
    print(
        f"\nCSV: {lines} rows, {size / 1e6:.0f} MB in {time.perf_counter() - wall:.1f} s"
        f" (CPU of the client {time.process_time() - cpu:.1f} s);"
        f" peak memory grew by {(_peak() - peak) / 1e6:.1f} MB after the first pieces"
    )


def _explain(period: Period) -> None:
    statements: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    with snapshot() as db:
        event.listen(engine(), "before_cursor_execute", note)
        metrics.dashboard(db, period, as_of=NOW)
        event.remove(engine(), "before_cursor_execute", note)
    with snapshot() as db:
        cursor = db.connection().connection.cursor()
        for statement, parameters in statements:
            name = next((name for mark, name in NAMES.items() if mark in statement), None)
            if name is None:
                cursor.execute(statement, parameters)  # it tunes those after it
                continue
            cursor.execute("EXPLAIN (ANALYZE, BUFFERS) " + statement, parameters)
            plan = "\n".join(line if len(line) < 180 else line[:150] + " …" for (line,) in cursor.fetchall())
            print(f"\nPlan, {name}:\n{plan}")


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _database(sessions: int) -> Iterator[None]:
    with sweep.server() as url:
        sweep.recreate(url, NAME)
        try:
            migrate(sweep.at(url, NAME))
            began = time.time()
            fill(sweep.at(url, NAME), sessions=sessions)
            with psycopg.connect(sweep.at(url, NAME)) as db:
                counted = db.execute(
                    "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM answers),"
                    " (SELECT count(*) FROM reminders), (SELECT count(*) FROM emails),"
                    " pg_database_size(current_database()) / 1e9, version()"
                ).fetchone()
            assert counted
            print("{} sessions, {} answers, {} reminders, {} mails, {:.1f} GB, {}".format(*counted))
            print(f"filled in {time.time() - began:.0f} s", flush=True)
            use_database(sweep.at(url, NAME))
            yield
        finally:
            engine().dispose()
            sweep.drop(url, NAME)


if __name__ == "__main__":
    main()
