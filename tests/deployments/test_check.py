"""The doctor: real breakages, each named with what to do, and never a traceback."""

import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from core import settings as core_settings
from deployments import check
from deployments.check import installation
from tests.support import processes
from tests.support.processes import ROOT, SECRET, PostgresServer, free_port

pytestmark = pytest.mark.servers

PORTS = {"GREENROOM_PORT": "the API", "PREFECT_SERVER_API_PORT": "Prefect's server", "GREENROOM_CAPTURE_PORT": "mail"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine where nothing is set and nothing is missing."""
    for name in [name for name in os.environ if name.startswith(("GREENROOM_", "PREFECT_"))]:
        monkeypatch.delenv(name)
    for name in PORTS:
        monkeypatch.setenv(name, str(free_port()))
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def run_check(capsys: pytest.CaptureFixture[str], code: int) -> list[str]:
    """The lines of a report that ends with this code."""
    core_settings.settings.cache_clear()
    ended = check.report()
    lines = capsys.readouterr().out.splitlines()
    assert ended == code, "\n".join(lines)
    assert all(line[:9] in ("ok       ", "warn     ", "missing  ") for line in lines)
    return lines


def problems(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("ok ")]


def test_a_complete_installation_has_no_findings(here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run_check(capsys, 0)
    checked = [line.split()[1] for line in lines]
    assert list(dict.fromkeys(checked)) == [
        *("python", "packages", "prefect", "settings", "node", "browser", "fonts", "tokens", "state"),
        *("database", "ports", "stack"),
    ]
    assert problems(lines) == []
    assert list(Path.cwd().iterdir()) == []


def test_a_taken_port_is_reported_with_its_owner_and_setting(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, part in PORTS.items():
        with socket.create_server(("127.0.0.1", int(os.environ[name]))):
            [line] = problems(run_check(capsys, 1))
        for word in ("missing", os.environ[name], part, f"process {os.getpid()}", name):
            assert word in line


def test_invalid_settings_stop_the_checks_that_need_them(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here.setenv("GREENROOM_TIMEZONE", "Mars/Base")
    here.setenv("GREENROOM_DATABASE_URL", "mysql://u:hunter2@h/d")
    lines = run_check(capsys, 1)
    wrong = [line for line in lines if line.startswith("missing")]
    assert [line.split()[2] for line in wrong] == ["GREENROOM_DATABASE_URL:", "GREENROOM_TIMEZONE:"]
    assert "hunter2" not in "".join(lines)
    assert not any("ports" in line for line in lines)


def test_a_misspelt_setting_is_named_with_the_nearest(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here.setenv("GREENROOM_DATABSE_URL", "postgresql://h/d")
    Path(".env").write_text("GREENROOM_TIMEZON=UTC\n")
    lines = [line for line in run_check(capsys, 1) if line.startswith("missing")]
    assert ["GREENROOM_DATABASE_URL?" in line for line in lines] == [True, False]
    assert "did you mean GREENROOM_TIMEZONE?" in lines[1]


def test_packages_that_differ_from_the_lock(
    here: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here.setattr(installation, "ROOT", tmp_path)
    [line] = problems(run_check(capsys, 0))
    assert "no " in line
    wanted = (
        "fastapi==0.1 \\\n    --hash=sha256:00",
        "no-such-package==1",
        "no-such-package==2 ; sys_platform == 'vms'",
    )
    (tmp_path / "requirements.lock").write_text("\n".join(wanted))
    [line] = problems(run_check(capsys, 1))
    for word in ("fastapi is ", "locked 0.1", "no-such-package is not installed", "setup.sh"):
        assert word in line


def test_node_is_only_for_the_tests(here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here.setenv("PATH", str(Path.cwd()))
    [line] = problems(run_check(capsys, 0))
    for word in ("warn", "node and npm", "apt-get install nodejs npm", "brew install node"):
        assert word in line


def test_a_browser_that_cannot_be_run(here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    here.setenv("GREENROOM_BROWSER_PATH", "/no/browser")
    [line] = problems(run_check(capsys, 1))
    for word in ("missing", "/no/browser", "apt-get install chromium-headless-shell", "GREENROOM_BROWSER_PATH"):
        assert word in line
    Path("broken").write_text("#!/bin/sh\necho 'libnss3.so: cannot open' >&2; exit 127\n")
    Path("broken").chmod(0o755)
    here.setenv("GREENROOM_BROWSER_PATH", str(Path("broken").absolute()))
    [line] = problems(run_check(capsys, 1))
    for word in ("missing", "libnss3.so: cannot open", "chromium-headless-shell"):
        assert word in line


def test_a_state_directory_that_cannot_be_created(here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    here.setenv("GREENROOM_STATE_DIR", "file/var")
    [line] = problems(run_check(capsys, 1))
    for word in ("missing", "file", "GREENROOM_STATE_DIR"):
        assert word in line


def test_the_set_database(
    here: pytest.MonkeyPatch, postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    here.setenv("GREENROOM_JWT_SECRET", SECRET)
    here.setenv("GREENROOM_DATABASE_URL", f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d")
    lines = run_check(capsys, 1)
    [line] = problems(lines)
    assert "cannot be reached" in line
    assert "hunter2" not in "".join(lines)
    here.setenv("GREENROOM_DATABASE_URL", postgres.url)
    [line] = problems(run_check(capsys, 1))
    assert "greenroom migrate" in line
    here.setenv("GREENROOM_DATABASE_URL", postgres.url_of(postgres.template))
    lines = run_check(capsys, 0)
    assert problems(lines) == []
    assert any("newest schema" in line for line in lines)


def test_a_deployment_without_a_secret_is_warned(
    here: pytest.MonkeyPatch, postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    here.setenv("GREENROOM_DATABASE_URL", postgres.url_of(postgres.template))
    [line] = problems(run_check(capsys, 0))
    for word in ("warn", "GREENROOM_JWT_SECRET", "openssl rand"):
        assert word in line


def test_a_running_stack_with_its_ports_and_health(
    here: pytest.MonkeyPatch, postgres: PostgresServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "var" / "run").mkdir(parents=True)
    lock = tmp_path / "var" / "run" / "up.lock"
    lock.write_text(str(os.getpid()))
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        [line] = problems(run_check(capsys, 0))
        assert "does not answer" in line
        with processes.api_process(postgres.url_of(postgres.template), tmp_path / "var") as api:
            here.setenv("GREENROOM_PORT", str(api.port))
            lines = run_check(capsys, 0)
    assert f"{api.port} is held by our own stack" in "".join(lines)
    [line] = problems(lines)
    for word in (f"process {os.getpid()}", "degraded", "dispatcher", "greenroom dispatcher"):
        assert word in line


def test_the_exit_code_of_the_command(here: pytest.MonkeyPatch) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "deployments.cli", "check"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "GREENROOM_PORT": "http"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "GREENROOM_PORT" in ended.stdout
