"""Five pages with fourteen charts by our engine, compared with the usual ways: ``python -m bench.report_engine``.

Each way runs in a process of its own, one after the other; CPU is that of all of its processes.
"""

import argparse
import asyncio
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import psutil
from pypdf import PdfReader

from dispatcher.reports.pdf import Engine, find_browser

WAYS = {
    "engine": "our engine, warm",
    "engine-2": "our engine, warm, two at once",
    "kaleido-report": "kaleido, one browser a report, then a print",
    "kaleido-chart": "kaleido one-shot a chart, then a print",
    "matplotlib": "matplotlib and reportlab",
}
_SUBREAPER = 36
"""prctl(2): orphans become this process's children, so that their CPU time is counted."""


def main() -> None:
    """Print a line a way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=10, help="reports of our engine")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(asyncio.run(_measure(given.way, given.reports))))
        return
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {find_browser()}")
    print("                                                first   then: wall    CPU  reports per    pages    KB")
    print("                                                    s            s      s  CPU-second")
    for way, name in WAYS.items():
        reports = given.reports if way.startswith("engine") else 3 if way == "matplotlib" else 1
        command = [sys.executable, "-m", "bench.report_engine", "--way", way, "--reports", str(reports)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if ended.returncode:
            raise SystemExit(f"{name} failed:\n{ended.stderr}")
        got = json.loads(ended.stdout.splitlines()[-1])
        print(
            f"{name:46}{got['first']:7.2f}{got['wall']:13.2f}{got['cpu']:7.2f}{1 / got['cpu']:12.2f}"
            f"{got['pages']:9}{got['size'] / 1024:6.0f}",
            flush=True,
        )


async def _measure(way: str, reports: int) -> dict[str, Any]:
    os.environ.setdefault("BROWSER_PATH", str(find_browser()))  # kaleido's own setting
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    if way.startswith("engine"):
        from bench.report_content import document  # noqa: PLC0415 - so that no way is measured with another's imports

        async with Engine(at_once=2) as engine:
            return await _timed(lambda: engine.pdf(document()), reports, 2 if way == "engine-2" else 1)
    from bench import report_plain  # noqa: PLC0415

    make = {
        "kaleido-report": report_plain.kaleido_a_report,
        "kaleido-chart": report_plain.kaleido_a_chart,
        "matplotlib": report_plain.matplotlib_reportlab,
    }[way]
    # Ways that start a browser for each report have no warm-up, so the first report counts, too.
    return await _timed(make, reports, 1, warm=way == "matplotlib")


async def _timed(
    make: Callable[[], Awaitable[bytes]], reports: int, at_once: int, *, warm: bool = True
) -> dict[str, Any]:
    began, cpu = time.perf_counter(), _cpu()
    pdf = await make()
    first, spent = time.perf_counter() - began, _cpu() - cpu
    walls = [first]
    if warm:
        await asyncio.gather(*(make() for _ in range(2)))  # every tab has drawn once
        cpu, walls = _cpu(), []
        for _ in range(0, reports, at_once):
            began = time.perf_counter()
            await asyncio.gather(*(make() for _ in range(at_once)))
            walls.append((time.perf_counter() - began) / at_once)
        spent = (_cpu() - cpu) / (len(walls) * at_once)
    pages = len(PdfReader(BytesIO(pdf)).pages)
    return {"first": first, "wall": statistics.median(walls), "cpu": spent, "pages": pages, "size": len(pdf)}


def _cpu() -> float:
    """CPU seconds of this process, its ended children, and its living children with their ended ones."""
    ours = psutil.Process()
    total = 0.0
    for process in (ours, *ours.children(recursive=True)):
        try:
            total += sum(
                process.cpu_times()[:4]
            )  # a zombie's too: it counts here until it is reaped, then as an ended child
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    main()
