"""Checks docs/how-to/add-a-job.md in a copy of the tree: the function, the flow, the deployment, and a run of it."""

import asyncio
import os
import subprocess
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile

import httpx
import yaml
from sqlalchemy import text

import core
from core.clock import utcnow
from core.db import transaction
from tests.support import factories
from tests.support.recipes import in_the_copy, step

in_the_copy(core)

now = utcnow()
with transaction() as db:
    factories.session(db, now=now, status="completed", ended_at=now - timedelta(days=4))

with step(1, "The function"):
    undecided = import_module("core.undecided")
    results = [undecided.notify_undecided(now=now, dry_run=dry_run) for dry_run in (True, False, False)]
    assert [result.found for result in results] == [1, 1, 1]
    assert [result.done for result in results] == [0, 1, 0]
    with transaction() as db:
        rows = db.execute(text("SELECT role, body FROM notifications WHERE category = 'undecided'")).all()
    assert [tuple(row) for row in rows] == [("recruiter", "Completed more than 3 days ago and still undecided: 1.")]

with step(2, "The flow"):
    flow = import_module("flows.undecided").notify_undecided
    assert flow.name == "notify-undecided"

with step(3, "The deployment"):
    written = yaml.safe_load(Path("prefect.yaml").read_text())
    (entry,) = [one for one in written["deployments"] if one["name"] == flow.name]
    assert "greenroom" in entry["tags"]
    assert all("slug" in schedule for schedule in entry["schedules"])
    # of all deployments only this one: Prefect takes a second for each
    with NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({**written, "deployments": [entry]}, file)
        file.flush()
        deploy = [sys.executable, "-m", "deployments.schedules.deploy", file.name]
        done = subprocess.run(deploy, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    with httpx.Client(base_url=os.environ["PREFECT_API_URL"], auth=(user, password), trust_env=False) as prefect:
        found = prefect.get("/deployments/name/notify-undecided/notify-undecided").raise_for_status().json()
    assert found["entrypoint"] == "flows.undecided.notify_undecided"
    assert [schedule["schedule"]["cron"] for schedule in found["schedules"]] == ["0 7 * * 1-5"]

with step(2, "The flow"):
    state = asyncio.run(flow(dry_run=True, return_state=True))
    assert state.name == "Completed", state.message
