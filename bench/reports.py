"""From a request over HTTP to ``report.ready`` in an unmodified @stomp/stompjs client: ``python -m bench.reports``."""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from sqlalchemy import text

from core.db import transaction
from deployments.demo import load
from tests.support import processes


def main() -> None:
    """Print latencies of reports of the demo data, one at a time and several at once, and the CPU time of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--type", default="dashboard_pdf")
    parser.add_argument(
        "--at-once", type=int, default=4, help="requests of the second round that are under way together"
    )
    given = parser.parse_args()
    os.environ["GREENROOM_JWT_SECRET"] = processes.SECRET
    with tempfile.TemporaryDirectory() as folder:
        for name in ("pg", "api"):
            (Path(folder) / name).mkdir()
        os.chmod(folder, 0o755)  # noqa: S103 - run as root, PostgreSQL runs as another user
        with (
            processes.postgres_server(Path(folder) / "pg", durable=True) as postgres,
            processes.own_database(postgres) as url,
            processes.api_process(url, Path(folder) / "api") as api,
            dispatcher(url, Path(folder) / "dispatcher.log") as process,
        ):
            print(load())
            measure(api, process, given.type, given.requests, given.at_once)


@contextmanager
def dispatcher(url: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A real dispatcher, without mail server and Prefect."""
    environment = os.environ | {
        "GREENROOM_DATABASE_URL": url,
        "GREENROOM_SMTP_URL": "smtp://127.0.0.1:9",
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
    }
    with log.open("wb") as out:
        command = [sys.executable, "-m", "deployments.cli", "dispatcher"]
        process = subprocess.Popen(command, cwd=processes.ROOT, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def measure(api: processes.Api, process: "subprocess.Popen[bytes]", kind: str, requests: int, at_once: int) -> None:
    """Request one report after another, each when the last is ready; then several at a time."""
    recruiter = api.as_user(2)
    with processes.JsClient(processes.install_js_clients()) as client:
        client.connect(api.ws, processes.token(2))
        client.subscribe("reports", "/user/queue/reports")
        began = time.monotonic()
        size = ready(client, [request_report(recruiter, kind, 0)])[0]["data"]["size"]
        cold = time.monotonic() - began
        before, began = cpu(process), time.monotonic()
        took = []
        for number in range(requests):
            sent = time.time()
            [event] = ready(client, [request_report(recruiter, kind, number)])
            took.append((event["came"] / 1000 - sent) * 1000)
        wall, spent = time.monotonic() - began, cpu(process) - before
        together = []
        for number in range(0, requests, at_once):
            sent = time.time()
            ids = [request_report(recruiter, kind, number + n) for n in range(at_once)]
            together += [(event["came"] / 1000 - sent) * 1000 for event in ready(client, ids)]
    with transaction() as db:
        stored = db.execute(
            text("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY finished_at - created_at) FROM reports")
        ).scalar_one()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, fsync on")
    print(f"{kind} of the demo data, {size / 1000:.0f} KB; the first, with the start of the browser: {cold:.1f} s")
    print("| request over HTTP → report.ready in @stomp/stompjs, ms | p50 | p95 | p99 | max |\n|---|---|---|---|---|")
    print(row(f"{requests} one after the other", took))
    print(row(f"{at_once} requested at once", together))
    print(
        f"dispatcher and browser: {spent / requests:.2f} s of CPU time a report, {requests / spent:.2f} reports "
        f"a second of CPU time; {spent / wall:.0%} of one core\n"
        f"row inserted → file stored, of all: p50 {stored.total_seconds():.2f} s"
    )


def request_report(client: httpx.Client, kind: str, number: int) -> str:
    """Request a report of a period of its own; returns its id."""
    answer = client.post("/api/reports", json={"type": kind, "start": f"2026-0{1 + number % 6}-{1 + number // 6:02}"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def ready(client: processes.JsClient, ids: list[str]) -> list[dict[str, object]]:
    """Wait until all are ready; the bodies, each with when it ``came``, in milliseconds since 1970."""
    wanted, found = set(ids), []
    while wanted:
        event = client.wait("message", subscription="reports")
        body = event["body"]
        assert body["type"] != "report.failed", body
        if body["type"] == "report.ready" and body["data"]["report_id"] in wanted:
            wanted.remove(body["data"]["report_id"])
            found.append({**body, "came": event["at"]})
    return found


def cpu(process: "subprocess.Popen[bytes]") -> float:
    """CPU seconds of the dispatcher and its descendants."""
    own = psutil.Process(process.pid)
    return sum(sum(one.cpu_times()[:2]) for one in (own, *own.children(recursive=True)))


def row(what: str, values: list[float]) -> str:
    """One line of the table."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return f"| {what} | {cuts[49]:.0f} | {cuts[94]:.0f} | {cuts[98]:.0f} | {max(values):.0f} |"


if __name__ == "__main__":
    main()
