"""How fast a request for a flow run over HTTP is answered: ``python -m bench.runs [--calls 30]``.

On the whole local stack, in a folder of its own. Its worker is stopped meanwhile, so that what is measured is the
request and not the start of thirty processes; the runs are dry, and execute when it continues.
"""

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.stack_process import Stack

FLOW = "update-session-statuses"


def main() -> None:
    """Print the latencies of POST /api/flows/{name}/runs, and of reading the run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=30)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: S103 - run as root, PostgreSQL runs as another user
        with Stack(Path(folder) / "var") as stack:
            stack.healthy()
            measure(stack, calls)


def measure(stack: Stack, calls: int) -> None:
    """Request runs one after another, and read each."""
    worker = stack.pid("worker")
    os.kill(worker, signal.SIGSTOP)
    posts: list[float] = []
    gets: list[float] = []
    try:
        with stack.client("admin@demo.example") as admin:
            admin.get("/api/flows").raise_for_status()  # connections are open, as in a server that is in use
            for _ in range(calls):
                begun = time.perf_counter()
                answer = admin.post(f"/api/flows/{FLOW}/runs", json={"dry_run": True})
                posts.append(time.perf_counter() - begun)
                assert answer.status_code == 202, answer.text
                begun = time.perf_counter()
                admin.get(answer.headers["Location"]).raise_for_status()
                gets.append(time.perf_counter() - begun)
    finally:
        os.kill(worker, signal.SIGCONT)
    print(f"{calls} calls on the local stack, load {os.getloadavg()[0]:.1f}; target for POST: p99 below 200 ms")
    for name, seconds in (("POST /api/flows/{name}/runs", posts), ("GET /api/flows/runs/{id}", gets)):
        cuts = statistics.quantiles(seconds, n=100, method="inclusive")
        print(
            f"{name}: p50 {1000 * cuts[49]:.1f} ms, p99 {1000 * cuts[98]:.1f} ms, max {1000 * max(seconds):.1f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()
