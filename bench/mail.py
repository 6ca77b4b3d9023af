"""Mail: from commit to accepted, and a long queue drained beside a bare aiosmtplib loop: ``python -m bench.mail``."""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiosmtplib
import psutil
import uvloop
from sqlalchemy import text

from core.clock import uuid7
from core.db import insert_many, transaction
from core.emails import mime
from core.emails.queue import claims
from core.models import Email
from tests.support import factories as make
from tests.support import processes

CONNECTIONS = 5
SENDER = "greenroom@localhost"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=10, help="mails a second, for the latency")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--mails", type=int, default=20_000, help="mails of the queue to drain")
    given = parser.parse_args()
    os.environ["GREENROOM_JWT_SECRET"] = processes.SECRET
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pg").mkdir()
        os.chmod(folder, 0o755)  # noqa: S103 - run as root, PostgreSQL runs as another user
        with processes.postgres_server(Path(folder) / "pg", durable=True) as postgres:
            with processes.own_database(postgres) as url:
                latency(url, Path(folder), given.rate, given.seconds)
            with processes.own_database(postgres) as url:
                drain(url, Path(folder), given.mails)


def latency(url: str, folder: Path, rate: float, seconds: float) -> None:
    """Queue at a steady rate, and compare when each commit returned with when the server took the mail."""
    record = folder / "latency"
    committed: dict[str, float] = {}
    with smtp_server(record) as port, dispatcher(url, port, folder):
        with transaction() as db:  # the first opens the connections
            make.email(db, now=datetime.now(UTC))
        processes.eventually(lambda: len(accepted(record)) == 1, "the dispatcher sends")
        start = time.monotonic() + 0.2
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            with transaction() as db:
                id_ = make.email(db, now=datetime.now(UTC), **CONTENT)
            committed[f"{id_}@greenroom.test"] = time.time()
        processes.eventually(lambda: len(accepted(record)) == len(committed) + 1, "all were accepted")
        taken = dict(accepted(record))
    waits = [(taken[id_] - at) * 1000 for id_, at in committed.items()]
    cuts = statistics.quantiles(waits, n=100)
    print(f"\n{len(waits)} mails at {rate:g}/s: commit returned → accepted by the server")
    print("| ms | p50 | p95 | p99 | max |\n|---|---|---|---|---|")
    print(f"| `greenroom dispatcher` | {cuts[49]:.0f} | {cuts[94]:.0f} | {cuts[98]:.0f} | {max(waits):.0f} |")


def drain(url: str, folder: Path, mails: int) -> None:
    """Time a queue of mails through the dispatcher, and the same bytes through a bare loop, one after the other."""
    fill(mails)
    contents = rendered_mails()
    size = sum(map(len, contents)) / len(contents)
    rows = [("bare aiosmtplib", *bare(folder, contents))]
    record = folder / "drain"
    with smtp_server(record) as port, dispatcher(url, port, folder) as process:
        processes.eventually(lambda: accepted(record), "the first is accepted", seconds=120)
        cpu, first = cpu_of(process.pid), len(accepted(record))
        began = time.monotonic()
        processes.eventually(lambda: count(record) >= mails, "the queue is empty", seconds=3600)
        took, used = time.monotonic() - began, cpu_of(process.pid) - cpu
        rate, per_mail = (mails - first) / took, used / (mails - first)
        processes.eventually(lambda: statuses() == {"sent": mails}, "every mail is marked sent")
    assert len({id_ for id_, _ in accepted(record)}) == count(record) == mails
    rows.append(("`greenroom dispatcher`", rate, per_mail))
    rows.append(("bare aiosmtplib, again", *bare(folder, contents)))
    base = statistics.fmean(row[1] for row in rows if row[0].startswith("bare"))
    rows.append(("the same on uvloop", *bare(folder, contents, uvloop.run)))
    print(f"\n{mails} queued mails of {size / 1024:.0f} KiB over {CONNECTIONS} connections to one server process")
    print("| | mails/s | CPU a mail, ms | of the bare loop |\n|---|---|---|---|")
    for name, rate, per_mail in rows:
        print(f"| {name} | {rate:.0f} | {per_mail * 1000:.2f} | {rate / base:.2f} |")


PARAGRAPH = "Your interview for Senior Engineer is on Thursday at 10:00 (Europe/Lisbon). Zoë and Łukasz look forward. "
CONTENT: dict[str, Any] = {
    "text_body": PARAGRAPH * 10,
    "html_body": "<!doctype html><html><body>" + f"<p style='margin:0 0 16px'>{PARAGRAPH}</p>" * 40 + "</body></html>",
}


def fill(mails: int) -> None:
    """A queue like that after an import."""
    now = datetime.now(UTC)
    for start in range(0, mails, 1000):
        ids = [uuid7(now) for _ in range(min(1000, mails - start))]
        with transaction() as db:
            insert_many(
                db,
                Email,
                {
                    "id": ids,
                    "kind": "generic",
                    "to_address": [f"candidate{start + n}@example.com" for n in range(len(ids))],
                    "message_id": [f"<{id_}@greenroom.test>" for id_ in ids],
                    "subject": "Your interview is confirmed",
                    "due_at": now,
                    "headers": "{}",
                    **CONTENT,
                },
            )
    with transaction() as db:
        db.execute(text("ANALYZE emails"))


def rendered_mails() -> list[bytes]:
    """Every queued mail as the bytes that are sent; the claims are rolled back."""
    contents, more = [], True
    with transaction() as db:
        while more:
            batch = claims.claim(db, owner="bench", now=datetime.now(UTC), limit=1000)
            contents += [mime.build(mail) for mail in batch.mails]
            more = batch.more
        db.rollback()
    return contents


def bare(folder: Path, contents: list[bytes], run: Callable[[Any], Any] = asyncio.run) -> tuple[float, float]:
    """Mails a second and CPU seconds a mail of a loop that only sends, in a process of its own."""
    record = folder / f"bare{time.monotonic_ns()}"
    fork = multiprocessing.get_context("fork")  # the child inherits the contents without copying them
    _given[:] = contents
    with smtp_server(record) as port, ProcessPoolExecutor(1, fork) as pool:
        took, cpu = pool.submit(_bare, port, run).result()
    assert count(record) == len(contents)
    return len(contents) / took, cpu / len(contents)


_given: list[bytes] = []


def _bare(port: int, run: Callable[[Any], tuple[float, float]]) -> tuple[float, float]:
    numbers = iter(enumerate(_given))

    async def one(connection: aiosmtplib.SMTP) -> None:
        for number, content in numbers:
            await connection.sendmail(SENDER, [f"candidate{number}@example.com"], content)

    async def together() -> tuple[float, float]:
        options: dict[str, Any] = {"hostname": "127.0.0.1", "port": port, "start_tls": False}
        connections = [aiosmtplib.SMTP(**options) for _ in range(CONNECTIONS)]
        for connection in connections:
            await connection.connect()
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.gather(*(one(connection) for connection in connections))
        return time.monotonic() - began, time.process_time() - cpu

    return run(together())


@contextlib.contextmanager
def smtp_server(record: Path) -> Iterator[int]:
    """The server of the tests in a process of its own; its port."""
    command = [sys.executable, "-m", "tests.support.smtp_server", "--record", str(record)]
    process = subprocess.Popen(command, cwd=processes.ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def dispatcher(url: str, port: int, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """``greenroom dispatcher``, as it is deployed; without Prefect's server, which mail does not need."""
    environment = os.environ | {
        "GREENROOM_DATABASE_URL": url,
        "GREENROOM_SMTP_URL": f"smtp://127.0.0.1:{port}",
        "GREENROOM_EMAIL_CONCURRENCY": str(CONNECTIONS),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }
    command = [sys.executable, "-m", "deployments.cli", "dispatcher"]
    with (folder / "dispatcher.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=processes.ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def accepted(record: Path) -> list[tuple[str, float]]:
    """Message-ID and time of each mail that the server accepted."""
    lines = record.read_text().splitlines() if record.exists() else []
    return [(id_, float(at)) for id_, at in (line.split(" ") for line in lines)]


def count(record: Path) -> int:
    """How many mails the server accepted."""
    return record.read_bytes().count(b"\n")


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far."""
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


def statuses() -> dict[str, int]:
    """How many mails are in which state."""
    with transaction() as db:
        return dict(map(tuple, db.execute(text("SELECT status, count(*) FROM emails GROUP BY status"))))


if __name__ == "__main__":
    main()
