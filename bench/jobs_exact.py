"""How punctual reminders are with a running dispatcher: part of ``python -m bench.jobs``."""

import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from statistics import quantiles
from typing import Any

import psycopg

from bench import jobs_fill
from core.clock import utcnow
from tests.support.processes import PostgresServer, own_database


def precision(server: PostgresServer, seconds: int) -> None:
    """20 reminders due a second, and a dispatcher: from ``due_at`` to the committed row."""
    with own_database(server) as url, tempfile.TemporaryDirectory() as folder:
        now = utcnow()
        first = now + timedelta(seconds=8)
        start = first + timedelta(minutes=60)
        jobs_fill.reminders(url, due=20 * seconds, start=start, now=now, step=0.1)
        process = dispatcher(url, folder)
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
            f" earliest {min(late):.3f}, latest {max(late):.3f} (polled each 20 ms)",
            flush=True,
        )


def dispatcher(url: str, folder: str) -> "subprocess.Popen[bytes]":
    """A real dispatcher, without a mail server and Prefect: mails stay queued."""
    environment = os.environ | {
        "GREENROOM_DATABASE_URL": url,
        "GREENROOM_JWT_SECRET": "a secret of the benchmark's own, long",
        "GREENROOM_STATE_DIR": folder,
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "GREENROOM_SMTP_URL": "smtp://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "deployments.cli", "dispatcher"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
