"""From a move over HTTP to an unmodified @stomp/stompjs client: ``python -m bench.live``."""

import argparse
import os
import platform
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import psutil

from core.db import transaction
from tests.support import factories as make
from tests.support import processes


def main() -> None:
    """Print latencies of moves at a steady rate, and the CPU time of a move."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=20, help="moves a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=3, help="subscribed stompjs clients")
    given = parser.parse_args()
    os.environ["GREENROOM_JWT_SECRET"] = processes.SECRET
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pg").mkdir()
        (Path(folder) / "api").mkdir()
        os.chmod(folder, 0o755)  # noqa: S103 - run as root, PostgreSQL runs as another user
        with (
            processes.postgres_server(Path(folder) / "pg", durable=True) as postgres,
            processes.own_database(postgres) as url,
            processes.api_process(url, Path(folder) / "api") as api,
        ):
            measure(api, given.rate, given.seconds, given.clients)


def measure(api: processes.Api, rate: float, seconds: float, clients: int) -> None:
    """Move sessions back and forth at the rate, and time each message at each client."""
    now = datetime.now(UTC)
    with transaction() as db:
        people = [make.people(db) for _ in range(40)]
        sessions = [make.session(db, now=now, people=p, status="in_progress") for p in people]
    moves = int(rate * seconds)
    watching = [processes.JsClient(processes.install_js_clients()) for _ in range(clients)]
    for client in watching:
        client.connect(api.ws, processes.token(people[0].ids["recruiter"]))
        client.subscribe("all", "/topic/sessions")
    answered: list[float] = []
    lock = threading.Lock()

    def move(number: int, at: float) -> None:
        time.sleep(max(0.0, at - time.monotonic()))
        place = number % len(sessions)
        status = "interrupted" if (number // len(sessions)) % 2 == 0 else "in_progress"
        client = api.as_user(people[place].ids["candidate"])
        began = time.perf_counter()
        answer = client.post(f"/api/sessions/{sessions[place]}/status", json={"status": status})
        took = time.perf_counter() - began
        assert answer.status_code == 200, answer.text
        with lock:
            answered.append(took * 1000)

    for p in people:
        api.as_user(p.ids["candidate"]).get("/health/live")
    process = psutil.Process(api.process.pid)
    cpu, start = sum(process.cpu_times()[:2]), time.monotonic() + 0.2
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: move(n, start + n / rate), range(moves)))
    latencies: list[float] = []
    for client in watching:
        got = 0
        while got < moves:
            event = client.wait("message", subscription="all")
            if event["body"]["type"] == "session.moved":
                sent = datetime.fromisoformat(event["body"]["at"]).timestamp() * 1000
                latencies.append(event["at"] - sent)
                got += 1
        client.__exit__()
    wall = time.monotonic() - start
    cpu = sum(process.cpu_times()[:2]) - cpu

    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{moves} moves at {rate:g}/s to {clients} @stomp/stompjs clients on /topic/sessions, fsync on")
    print("| ms | p50 | p95 | p99 | max |\n|---|---|---|---|---|")
    print(row("push row written (just before its commit) → message in the client", latencies))
    print(row("HTTP request → answer", answered))
    print(f"API: {cpu / moves * 1000:.2f} ms of CPU time a move, {cpu / wall:.0%} of one core; none missing: ", end="")
    print(f"{len(latencies)} of {moves * clients} messages")


def row(what: str, values: list[float]) -> str:
    """One line of the table."""
    cuts = statistics.quantiles(values, n=100)
    return f"| {what} | {cuts[49]:.1f} | {cuts[94]:.1f} | {cuts[98]:.1f} | {max(values):.1f} |"


if __name__ == "__main__":
    main()
