"""The pieces of ``greenroom up``, with real processes, ports, mails and a real PostgreSQL."""

import asyncio
import io
import os
import signal
import smtplib
import socket
import sys
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from deployments.local import ports, postgres, processes, state
from deployments.local.screen import Screen
from deployments.local.supervisor import NotReady, Part, Supervisor
from tests.support.supervised import SLEEP, child

pytestmark = pytest.mark.servers


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    state.prepare(tmp_path / "var")
    return tmp_path / "var"


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
async def supervisor(state_dir: Path, output: io.StringIO) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(state_dir, Screen(output), back_off=(0.05, 0.3, 0.6))
    yield supervisor
    await supervisor.stop()


async def until(true: Callable[[], bool], seconds: float = 20) -> None:
    assert await processes.until(true, seconds), "it did not come true in time"


async def test_a_killed_part_is_restarted(supervisor: Supervisor, tmp_path: Path, output: io.StringIO) -> None:
    await supervisor.start(child(tmp_path))
    first = supervisor.pids()["child"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: "is back" in output.getvalue())
    assert supervisor.pids()["child"] != first
    assert "child        was ended by SIGKILL; starting it again in 0.05 s\n" in output.getvalue()
    assert state.tail(tmp_path / "var" / "run" / "child.pid")[0] == str(supervisor.pids()["child"])


async def test_a_part_that_keeps_failing_is_restarted_with_back_off(
    supervisor: Supervisor, tmp_path: Path, output: io.StringIO
) -> None:
    await supervisor.start(child(tmp_path, last="sys.exit(7) if (here / 'die').exists() else time.sleep(600)"))
    (tmp_path / "die").touch()
    os.kill(supervisor.pids()["child"], signal.SIGTERM)
    starts = tmp_path / "starts"
    await until(lambda: len(starts.read_text().splitlines()) >= 5)
    times = [float(line) for line in starts.read_text().splitlines()]
    gaps = [later - earlier for earlier, later in pairwise(times[1:])]
    assert gaps[0] >= 0.3
    assert all(gap >= 0.6 for gap in gaps[1:])
    assert "exit code 7" in output.getvalue()
    assert "in 0.6 s" in output.getvalue()


async def test_stopping_kills_a_part_that_ignores_sigterm_and_its_children(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    ignore_sigterm = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    grandchild = f"import signal, time; {ignore_sigterm}; print(flush=True); {SLEEP}"
    then = f"{ignore_sigterm}\nfor own in (False, True):\n" + (
        f"    run = subprocess.Popen([sys.executable, '-c', {grandchild!r}], stdout=-1, start_new_session=own)\n"
        "    run.stdout.readline()\n"
    )
    await supervisor.start(child(tmp_path, then, stop_seconds=0.2))
    part = psutil.Process(supervisor.pids()["child"])
    family = [part, *part.children()]
    assert len(family) == 3
    await supervisor.stop()
    assert not any(processes.alive(process) for process in family)
    assert processes.leftovers(tmp_path / "var") == []
    assert not (tmp_path / "var" / "run" / "child.pid").exists()


@pytest.mark.parametrize("stay", [False, True])
async def test_children_of_a_killed_part_are_killed_unless_configured(
    supervisor: Supervisor, tmp_path: Path, output: io.StringIO, stay: bool
) -> None:
    then = f"subprocess.Popen([sys.executable, '-c', 'import time; {SLEEP}'], start_new_session=True)"
    await supervisor.start(child(tmp_path, then, ends_own_children=stay))
    part = psutil.Process(supervisor.pids()["child"])
    (grandchild,) = part.children()
    part.kill()
    await until(lambda: "is back" in output.getvalue())
    assert processes.alive(grandchild) == stay
    await supervisor.stop()
    assert not processes.alive(grandchild)


async def test_higher_layers_are_stopped_first(supervisor: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    tell = (
        "import signal\ndef tell(*_):\n    with open({order!r}, 'a') as f: f.write({name!r})\n    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, tell)"
    )
    for layer, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        part = child(tmp_path / name, tell.format(order=str(order), name=name), layer=layer)
        await supervisor.start(Part(**{**vars(part), "name": name}))
    await supervisor.stop()
    assert order.read_text() == "cba"


async def test_a_part_that_does_not_become_ready_reports_the_reason(supervisor: Supervisor, tmp_path: Path) -> None:
    broken = child(tmp_path, "sys.exit('no such table')", hint="Make the table.")
    with pytest.raises(NotReady, match="exit code 1 before it was ready") as failed:
        await supervisor.start(broken)
    assert "no such table" in str(failed.value)
    assert "Make the table." in str(failed.value)
    (tmp_path / "slow").mkdir()
    slow = child(tmp_path / "slow", SLEEP, ready_seconds=0.1)
    with pytest.raises(NotReady, match="was not ready within"):
        await supervisor.start(slow)


async def test_a_failing_step_reports_the_reason(supervisor: Supervisor) -> None:
    with pytest.raises(NotReady, match="migrations failed: it ended with exit code 3"):
        await supervisor.run("migrations", [sys.executable, "-c", "raise SystemExit(3)"], {})
    secret, _ = await supervisor.run("token", [sys.executable, "-c", "print('hush')"], {}, capture=True)
    assert secret == "hush\n"
    assert "hush" not in supervisor.log("token").read_text()


SUPERVISOR = """
import asyncio, pathlib, sys
sys.path[:0] = {path!r}
from tests.support.supervised import child
from deployments.local.screen import Screen
from deployments.local.supervisor import Supervisor
async def main():
    await Supervisor(pathlib.Path({state_dir!r}), Screen()).start(child(pathlib.Path({folder!r}), {then!r}))
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("then", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["obedient", "stubborn"])
async def test_processes_of_a_killed_supervisor_are_stopped(tmp_path: Path, state_dir: Path, then: str) -> None:
    code = SUPERVISOR.format(
        path=[str(Path(__file__).parents[3]), *sys.path], state_dir=str(state_dir), folder=str(tmp_path), then=then
    )
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    await until(lambda: (tmp_path / "up").exists() and (state_dir / "run" / "child.pid").exists())
    part = psutil.Process(int((tmp_path / "up").read_text()))
    supervisor.kill()
    await supervisor.wait()
    if not then and processes.LINUX:
        await until(lambda: not processes.alive(part))  # without anybody's help
    await processes.terminate_leftovers(state_dir, within=0.5)
    assert not processes.alive(part)
    assert list((state_dir / "run").glob("*.pid")) == []


async def test_another_process_with_a_stored_pid_is_not_touched(state_dir: Path) -> None:
    (state_dir / "run" / "api.pid").write_text(f"{os.getpid()}\n1\n{int(signal.SIGKILL)}\n")
    assert await processes.terminate_leftovers(state_dir) == []


def test_a_second_stack_on_the_same_state_is_refused(state_dir: Path) -> None:
    with state.exclusive(state_dir):
        with pytest.raises(state.AlreadyUp, match=rf"process {os.getpid()}"), state.exclusive(state_dir):
            pass
        with pytest.raises(state.AlreadyUp), state.exclusive(state_dir):
            pass
    with state.exclusive(state_dir):
        pass


def test_secrets_are_kept_and_private(state_dir: Path) -> None:
    file = state_dir / "jwt_secret"
    secret = state.secret(file)
    assert len(secret) >= 32
    assert state.secret(file) == secret
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_taken_port_is_reported_with_its_owner_and_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        free = ports.free()
        with pytest.raises(ports.PortsTaken) as taken:
            ports.check(
                [
                    ports.FixedPort("mail capture", "127.0.0.1", free, "GREENROOM_CAPTURE_PORT"),
                    ports.FixedPort("the API", "127.0.0.1", port, "GREENROOM_PORT"),
                ]
            )
    assert f"Port {port}, which the API needs, is taken by" in str(taken.value)
    assert f"(process {os.getpid()})" in str(taken.value)
    assert "GREENROOM_PORT" in str(taken.value)
    assert str(free) not in str(taken.value)


async def test_a_captured_mail_is_a_file(supervisor: Supervisor, state_dir: Path) -> None:
    port, folder = ports.free(), state_dir / "mail"

    async def ready(pid: int) -> bool:
        return not ports.available("127.0.0.1", port)

    command = [sys.executable, "-m", "deployments.local.capture", "--port", str(port), "--folder", str(folder)]
    await supervisor.start(Part("mail", command, dict(os.environ), ready))
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Mira <mira@example.com>", "kai@example.com", "Grüße – 你好"
    mail.set_content("Bis morgen.\n.\nA line that is a dot, above.")

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as smtp:
            smtp.send_message(mail, to_addrs=["kai@example.com", "hidden@example.com"])

    await asyncio.to_thread(send)
    (kept,) = folder.iterdir()
    assert kept.suffix == ".eml"
    content = kept.read_bytes()
    envelope = b"X-Envelope-From: mira@example.com\r\nX-Envelope-To: kai@example.com, hidden@example.com\r\n"
    assert content.startswith(envelope)
    assert content.removeprefix(envelope).replace(b"\r\n", b"\n") == mail.as_bytes()


async def test_postgres_survives_a_kill_of_its_postmaster(
    supervisor: Supervisor, state_dir: Path, output: io.StringIO
) -> None:
    notes: list[str] = []
    server, fresh = await postgres.prepare(state_dir, say=notes.append)
    assert fresh
    url = server.url("greenroom")

    async def ready(pid: int) -> bool:
        return server.ready(pid)

    env = {"PATH": os.defpath, "LC_ALL": "C"}
    part = Part("postgres", server.command(), env, ready, stop=postgres.STOP, user=server.user, before=server.clear)
    await supervisor.start(part)
    await postgres.create_databases(server.url("postgres"), postgres.DATABASES)
    await postgres.create_databases(server.url("postgres"), postgres.DATABASES)
    await postgres.query(url, "CREATE EXTENSION btree_gist; CREATE TABLE kept (n int); INSERT INTO kept VALUES (42);")
    # a backend at work does not notice that its postmaster is gone
    busy = asyncio.create_task(postgres.query(url, "SELECT count(*) FROM generate_series(1, 10000000000) /* busy */;"))
    working = "query LIKE '%/* busy */%' AND state = 'active' AND pid <> pg_backend_pid()"
    while await postgres.query(url, f"SELECT count(*) FROM pg_stat_activity WHERE {working};") == "0":  # noqa: S608
        assert not busy.done()
    first = psutil.Process(supervisor.pids()["postgres"])
    first.kill()
    await until(lambda: "is back" in output.getvalue())
    assert await postgres.query(url, "SELECT n FROM kept;") == "42"
    with pytest.raises(Exception, match="terminating connection"):
        await busy

    await supervisor.stop()
    assert postgres.backends(server.data) == []
    again, fresh = await postgres.prepare(state_dir, say=notes.append)
    assert not fresh
    assert again.port == server.port
    with pytest.raises(Exception, match="refused"):
        await postgres.query(url, "SELECT 1;")
