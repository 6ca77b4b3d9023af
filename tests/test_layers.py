"""The import layers hold, and their check fails for a planted violation."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command

from core.migrations import config
from tests.support.processes import ROOT

PLANTED = [
    ("core/clock.py", "import prefect"),
    ("core/clock.py", "import fastapi"),
    ("core/clock.py", "import api.app"),
    ("core/db.py", "import core.outbox"),
    ("core/events.py", "import core.sessions"),
    ("core/cleanup.py", "import core.prefect_rest"),
    ("core/prefect_rest.py", "import core.db"),
    ("core/prefect_rest.py", "import dispatcher.prefect_api"),
    ("flows/sessions.py", "import fastapi"),
    ("api/app.py", "import flows.sessions"),
    ("api/app.py", "import prefect"),
    ("api/deps.py", "import deployments.cli"),
    ("api/app.py", "import dispatcher.main"),
    ("dispatcher/main.py", "import flows.run"),
    ("dispatcher/main.py", "import api.app"),
    ("dispatcher/main.py", "import fastapi"),
    ("core/logs.py", "import core.sessions"),
    ("core/jwks.py", "import core.emails"),
    ("core/emails/draft.py", "import core.emails.session_mails"),  # a circle
    ("dispatcher/backoff.py", "import dispatcher.janitor"),  # a circle
]


def lint(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, to plant violations in."""
    folder = tmp_path_factory.mktemp("packages")
    for package in ("core", "dispatcher", "flows", "api", "deployments"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_layers_hold(copy: Path) -> None:
    result = lint(copy)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(("file", "line"), PLANTED)
def test_a_planted_violation_fails(copy: Path, file: str, line: str) -> None:
    path = copy / file
    kept = path.read_text()
    path.write_text(f"{kept}\n{line}\n")
    try:
        result = lint(copy)
    finally:
        path.write_text(kept)
    assert result.returncode == 1, result.stdout
    assert "BROKEN" in result.stdout


def test_no_test_module_is_imported() -> None:
    """What tests share is in tests/support: a test module that others import can be neither moved nor run alone."""
    other = re.compile(
        r"^\s*(?:from|import)\s+tests\.(?!support\b)\S*.*|^\s*from\s+tests\s+import\s+(?!support\b).*", re.M
    )
    found = {
        str(path.relative_to(ROOT)): lines
        for folder in ("tests", "bench")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (lines := other.findall(path.read_text()))
    }
    assert found == {}


def test_models_and_migrations_agree(database: str) -> None:
    command.check(config(database))
