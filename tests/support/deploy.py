"""Deploying prefect.yaml to the tests' Prefect server, as a start does it, and taking it back."""

import os
import subprocess
import sys
from typing import Any

from dispatcher.janitor import TAG
from tests.support.prefect_server import AUTH, PrefectProcess
from tests.support.processes import ROOT


def deploy(prefect: PrefectProcess, **variables: str) -> dict[str, dict[str, Any]]:
    """Deploy with these variables and none else of ours; what the server says of each deployment then."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
    environment = kept | {"PREFECT_API_URL": prefect.url, "PREFECT_API_AUTH_STRING": AUTH, **variables}
    command = [sys.executable, "-m", "deployments.cli", "deploy", "prefect.yaml"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return deployments(prefect)


def deployments(prefect: PrefectProcess) -> dict[str, dict[str, Any]]:
    """What the server says of each deployment of prefect.yaml now; other tests' own are left out."""
    found = prefect.found("deployments", deployments={"tags": {"all_": [TAG]}})
    return {one["name"]: one for one in found}


def withdraw(prefect: PrefectProcess) -> None:
    """Leave no deployment to whoever uses the server next, nor runs of one."""
    with prefect.http() as http:
        for one in deployments(prefect).values():
            http.delete(f"/deployments/{one['id']}").raise_for_status()
