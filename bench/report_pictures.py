"""Every page of the three PDF reports of the demo data, as Chromium prints it: the pictures of docs/reference/reports.

``python -m bench.report_pictures [FOLDER]`` (default docs/reference/reports) loads the demo into a database of its own,
renders each report as the dispatcher does, and converts the pages to PNG with poppler's ``pdftoppm``; ``pngquant``
makes the files smaller where it is installed. It prints the time of each report, and fails if one is larger than
500 KB.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from core.db import snapshot
from core.reports import candidate, dashboard, interview, metrics
from core.reports.data import Period
from core.reports.document import Document
from deployments.demo import load
from dispatcher.reports.pdf import Engine
from tests.support.processes import own_database, postgres_server

ROOT = Path(__file__).parent.parent
DPI = 88
LARGEST = 500_000
"""Bytes of a report."""
NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
PERIOD = Period(datetime(2026, 10, 12, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC), "UTC")
MOST_SCORED = """
    SELECT candidate_id FROM sessions WHERE score IS NOT NULL
    GROUP BY candidate_id ORDER BY count(*) DESC, candidate_id LIMIT 1
"""


def documents() -> dict[str, Document]:
    """The three reports of the demo data, laid out; the candidate is the one with the most scores."""
    load(now=NOW)
    made = {}
    for name, lay_out, gather in (
        ("dashboard", dashboard.lay_out, lambda db: metrics.dashboard(db, PERIOD, as_of=NOW)),
        ("interview", interview.lay_out, lambda db: metrics.interview(db, 1, PERIOD, as_of=NOW)),
        (
            "candidate",
            candidate.lay_out,
            lambda db: metrics.candidate(db, db.scalar(text(MOST_SCORED)), None, as_of=NOW),
        ),
    ):
        began = time.perf_counter()
        with snapshot() as db:
            made[name] = lay_out(gather(db))
        print(f"{name}: gathered and laid out in {time.perf_counter() - began:.2f} s")
    return made


async def printed(found: dict[str, Document]) -> dict[str, bytes]:
    """The reports as PDF, each printed twice: the second time warm."""
    async with Engine() as engine:
        made = {}
        for name, document in found.items():
            await engine.pdf(document)
            began = time.perf_counter()
            made[name] = await engine.pdf(document)
            print(f"{name}: printed in {time.perf_counter() - began:.2f} s, {len(made[name]) / 1000:.0f} KB")
    return made


def pictures(name: str, pdf: bytes, folder: Path) -> None:
    """One PNG a page, in few colours."""
    for old in folder.glob(f"{name}-*.png"):
        old.unlink()
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(pdf)
        file.flush()
        subprocess.run(["pdftoppm", "-r", str(DPI), "-png", file.name, str(folder / name)], check=True)
    for page in sorted(folder.glob(f"{name}-*.png")):
        if shutil.which("pngquant"):
            subprocess.run(["pngquant", "--force", "--skip-if-larger", "--ext=.png", "64", str(page)], check=False)
        print(f"{page.name}: {page.stat().st_size / 1000:.0f} KB")


def main() -> None:
    """Make the pictures, and print the size of each."""
    os.environ.setdefault("GREENROOM_JWT_SECRET", "of the pictures only, thirty-two and more")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference" / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as state, postgres_server(Path(state)) as server, own_database(server):
        found = documents()
    made = asyncio.run(printed(found))
    for name, pdf in made.items():
        pictures(name, pdf, folder)
    assert all(len(pdf) < LARGEST for pdf in made.values()), "a report is larger than 500 KB"


if __name__ == "__main__":
    main()
