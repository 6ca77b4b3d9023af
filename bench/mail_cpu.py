"""CPU time a mail of the dispatcher, of checkouts in turns: ``python -m bench.mail_cpu --tree ../before --tree .``.

Each round drains a queue of its own on a PostgreSQL of its own with each checkout; all use this Python's packages.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Print each round, and the medians."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--tree", type=Path, action="append", default=[], help="a checkout, as often as wanted")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--mails", type=int, default=3000)
    given = asked.parse_args()
    if not given.tree:
        print(*drain(given.mails))
        return
    found: dict[Path, list[float]] = {tree: [] for tree in given.tree}
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.mails} mails a round; ms of CPU a mail")
    for number in range(given.rounds):
        for tree in found if number % 2 == 0 else reversed(found):
            command = [sys.executable, str(Path(__file__).resolve()), "--mails", str(given.mails)]
            environment = os.environ | {"PYTHONPATH": str(tree.resolve())}
            said = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            cpu, rate = map(float, said.stdout.split())
            found[tree].append(cpu)
            print(f"{tree}: {cpu:.3f} ({rate:.0f} mails/s)", flush=True)
    for tree, figures in found.items():
        print(f"{tree}: median {statistics.median(figures):.3f}, least {min(figures):.3f}, most {max(figures):.3f}")


def drain(mails: int) -> tuple[float, float]:
    """Milliseconds of CPU a mail, and mails a second, of the dispatcher of the checkout on PYTHONPATH."""
    from bench import mail as bench  # noqa: PLC0415 - of the checkout that is measured
    from tests.support import processes  # noqa: PLC0415

    os.environ["GREENROOM_JWT_SECRET"] = processes.SECRET
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pg").mkdir()
        folder.chmod(0o755)  # run as root, PostgreSQL runs as another user
        server = processes.postgres_server(folder / "pg", durable=True)
        with server as postgres, processes.own_database(postgres) as url:
            bench.fill(mails)
            record = folder / "record"
            with bench.smtp_server(record) as port, bench.dispatcher(url, port, folder) as process:
                processes.eventually(lambda: bench.accepted(record), "the first is accepted", seconds=120)
                cpu, first, began = bench.cpu_of(process.pid), bench.count(record), time.monotonic()
                processes.eventually(lambda: bench.count(record) >= mails, "the queue is empty", seconds=600)
                took, used = time.monotonic() - began, bench.cpu_of(process.pid) - cpu
    return used / (mails - first) * 1000, (mails - first) / took


if __name__ == "__main__":
    main()
