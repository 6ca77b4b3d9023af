"""``greenroom up`` as a newcomer meets it, and as kill −9 leaves it: real processes, nothing mocked."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from tests.support import smtp_server, stack_faults
from tests.support.processes import ROOT, JsClient, PostgresServer, eventually
from tests.support.stack_process import Stack

ADMIN, RECRUITER, CANDIDATE = "admin@demo.example", "recruiter@demo.example", "candidate@demo.example"
SWEEP = "update-session-statuses"
OF_A_TEST = "Of a test"
"""The position of interviews that are not the demo's."""
SCHEDULES = {
    "cleanup-sessions": "0 2 * * *",
    "generate-daily-reports": "0 6 * * *",
    "process-pending-notifications": "*/5 * * * *",
    "send-reminders": "0 * * * *",
    SWEEP: "*/10 * * * *",
}


def test_the_stack_is_ready_and_lists_every_part(stack: Stack) -> None:
    health = stack.healthy()
    assert health["code"] == 200
    parts = ("postgres", "relay", "prefect", "worker", "dispatcher", "mail")
    assert {part: health[part] for part in parts} == dict.fromkeys(parts, "ok")
    output = "\n".join(stack.lines)
    for shown in (f"127.0.0.1:{stack.port}", f"127.0.0.1:{stack.prefect_port}", ADMIN, CANDIDATE):
        assert shown in output
    mails = httpx.get(f"{stack.url}/mail", timeout=10, trust_env=False)
    assert mails.status_code == 200
    assert "Captured mail" in mails.text


def test_the_demo_is_there(stack: Stack) -> None:
    with stack.client(ADMIN) as admin:
        assert [u["role"] for u in admin.get("/api/users?limit=4").json()["items"]] == [
            "admin",
            "recruiter",
            "interviewer",
            "candidate",
        ]
        assert len(admin.get("/api/candidates?limit=200").json()["items"]) == 40
        interviews = admin.get("/api/interviews").json()["items"]
        assert len([each for each in interviews if each["position"] != OF_A_TEST]) == 6
    query = """
        SELECT count(*), count(DISTINCT status) FROM sessions
        WHERE interview_id NOT IN (SELECT id FROM interviews WHERE position = %s)
    """
    with psycopg.connect(stack.database_url) as db:
        assert db.execute(query, [OF_A_TEST]).fetchone() == (600, 9)


def test_prefect_lists_the_deployments_with_their_schedules(stack: Stack) -> None:
    user, _, password = (stack.state_dir / "prefect_auth").read_text().strip().partition(":")
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.prefect_port}", trust_env=False, timeout=10) as prefect:
        assert prefect.get("/").status_code == 200
        assert prefect.post("/api/deployments/filter", json={}).status_code == 401
        deployments = prefect.post("/api/deployments/filter", json={}, auth=(user, password)).json()
        automations = prefect.post("/api/automations/filter", json={}, auth=(user, password)).json()
    assert {d["name"]: d["schedules"][0]["schedule"]["cron"] for d in deployments if d["schedules"]} == SCHEDULES
    assert all(d["description"] for d in deployments)
    assert len(automations) == 1
    with stack.client(RECRUITER) as recruiter:

        def sweep() -> Any:
            return {flow["name"]: flow for flow in recruiter.get("/api/flows").json()["items"]}[SWEEP]

        assert sweep()["schedules"][0]["active"] is True
        planned = eventually(lambda: sweep()["next_run"], "Prefect's scheduler has planned the next run")
    assert planned["state"] == "SCHEDULED"


def test_a_manual_run_moves_sessions_and_every_state_is_pushed_once(stack: Stack, js_clients: Path) -> None:
    """The newcomer's path: run the flow, watch its states and the demo's moves in @stomp/stompjs."""
    with stack.client(ADMIN) as admin, stack.client(RECRUITER) as recruiter, JsClient(js_clients) as client:
        client.connect(stack.ws, stack.token(RECRUITER))
        client.subscribe("flows", "/topic/flows")
        client.subscribe("sessions", "/topic/sessions")
        # the schedule's own run, should its minute come now, would do this one's work
        assert admin.patch(f"/api/flows/{SWEEP}", json={"paused": True}).json()["paused"] is True
        eventually(lambda: not _under_way(admin), "no scheduled run is under way")
        with psycopg.connect(stack.database_url) as db:
            db.execute(
                "UPDATE sessions SET invitation_expires_at = now() - interval '1 minute', status_at = now() - interval"
                " '1 day', sweep_at = to_timestamp(0) WHERE id IN"
                " (SELECT id FROM sessions WHERE status = 'invited' ORDER BY id LIMIT 3)"
            )
        assert recruiter.post(f"/api/flows/{SWEEP}/runs", json={}).status_code == 403
        for parameters in ({"now": "foo"}, {"zork": 1}, {"dry_run": "perhaps"}):
            refused = admin.post(f"/api/flows/{SWEEP}/runs", json={"parameters": parameters})
            assert refused.status_code == 422
            assert refused.json()["errors"][0]["field"] == f"parameters.{next(iter(parameters))}"
        started = admin.post(f"/api/flows/{SWEEP}/runs", json={})
        assert started.status_code == 202, started.text
        run_id = started.json()["id"]
        assert started.headers["Location"] == f"/api/flows/runs/{run_id}"

        def finished() -> bool:
            client.wait("message", subscription="flows", seconds=60)
            return any(
                b["data"]["run_id"] == run_id and b["data"]["state"] == "COMPLETED" for b in client.bodies("flows")
            )

        eventually(finished, "the run completed on /topic/flows", seconds=90)
        states = [b["data"] for b in client.bodies("flows") if b["data"]["run_id"] == run_id]
        names = [s["state_name"] for s in states]
        assert names[-1] == "Completed"
        assert "Running" in names
        assert len(names) == len(set(names))
        assert states[-1]["flow"] == SWEEP
        assert states[-1]["result"]["done"] >= 3
        client.subscribe("mark", "/topic/notifications")
        moved = [b["data"] for b in client.bodies("sessions") if b["type"] == "session.moved"]
        assert len([m for m in moved if m["status"] == "expired" and m["by"] == "system"]) >= 3
        once = {"Idempotency-Key": run_id}
        first, again = (admin.post(f"/api/flows/{SWEEP}/runs", json={"dry_run": True}, headers=once) for _ in range(2))
        assert first.json()["id"] == again.json()["id"]
        assert admin.post(f"/api/flows/{SWEEP}/runs", json={"dry_run": False}, headers=once).status_code == 422
        detail = recruiter.get(f"/api/flows/runs/{run_id}").json()
        assert detail["state"] == "COMPLETED"
        assert detail["result"]["done"] == states[-1]["result"]["done"]
        assert admin.patch(f"/api/flows/{SWEEP}", json={"paused": False}).json()["paused"] is False


def _under_way(client: httpx.Client) -> bool:
    runs = client.get(f"/api/flows/{SWEEP}/runs").json()["items"]
    return any(run["state"] in ("PENDING", "RUNNING") for run in runs)


def test_without_prefect_the_api_is_ready_and_degraded(stack: Stack) -> None:
    prefect = stack.pid("prefect")
    os.kill(prefect, signal.SIGSTOP)
    try:
        health = stack.health()
        assert health["code"] == 200
        assert (health["status"], health["prefect"], health["postgres"]) == ("degraded", "degraded", "ok")
        with stack.client(ADMIN) as admin:
            answer = admin.post(f"/api/flows/{SWEEP}/runs", json={})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
    finally:
        os.kill(prefect, signal.SIGCONT)
    stack.healthy()


class Mover(threading.Thread):
    """Moves one candidate's sessions to and fro over HTTP, and remembers what was answered with 2xx."""

    def __init__(self, stack: Stack, sessions: list[str]) -> None:
        super().__init__(daemon=True)
        self.client = stack.client(CANDIDATE)
        self.sessions, self.stopping = sessions, threading.Event()
        self.answered: list[tuple[str, str]] = []
        self.refused = 0

    def run(self) -> None:
        turns = itertools.cycle(("interrupted", "in_progress"))
        for status in turns:
            for session_id in self.sessions:
                self._move(session_id, status)
            if self.stopping.is_set() and status == "in_progress":
                return

    def _move(self, session_id: str, status: str) -> None:
        """Until it is moved: a try whose answer was lost may have done it, which 409 then says."""
        while True:
            try:
                answer = self.client.post(f"/api/sessions/{session_id}/status", json={"status": status})
            except httpx.TransportError:
                self.refused += 1
            else:
                if answer.status_code == 200:
                    self.answered.append((session_id, answer.json()["status_at"]))
                    return
                if answer.status_code == 409:
                    return
                assert answer.status_code == 503, answer.text
                self.refused += 1
            time.sleep(0.05)


@pytest.fixture
def running_sessions(stack: Stack) -> list[str]:
    """Sessions of the demo's candidate that are in progress."""
    with psycopg.connect(stack.database_url) as db:
        made = db.execute(
            "INSERT INTO interviews (title, position)"
            " SELECT 'Killing ' || n, %s FROM generate_series(1, 5) n RETURNING id",
            [OF_A_TEST],
        ).fetchall()
        found = db.execute(
            """
            INSERT INTO sessions (id, candidate_id, interview_id, status, status_at, started_at, last_activity_at,
                                  ics_uid, sweep_at)
            SELECT gen_random_uuid(), c.id, i, 'in_progress', now(), now(), now(), gen_random_uuid()::text,
                   now() + interval '1 day'
            FROM candidates c, unnest(%s::bigint[]) i WHERE c.user_id = 4
            RETURNING id::text
            """,
            ([id_ for (id_,) in made],),
        ).fetchall()
    return [id_ for (id_,) in found]


def test_kills_during_moves(stack: Stack, js_clients: Path, running_sessions: list[str]) -> None:
    """API, dispatcher, worker and PostgreSQL die in turn: the stack comes back, and no answered move is missing."""
    mover = Mover(stack, running_sessions)
    with JsClient(js_clients) as client:
        wanted = [{"id": "all", "destination": "/topic/sessions"}]
        client.connect(stack.ws, stack.token(RECRUITER), reconnectDelay=200, resubscribe=wanted)
        client.wait("subscribed", id="all")
        mover.start()
        for part in ("api", "dispatcher", "worker", "postgres"):
            moves = len(mover.answered)
            eventually(lambda before=moves: len(mover.answered) > before, f"moves go on before {part} dies")
            stack.kill(part)
            stack.healthy()
            stack.wait_for_output(rf"{part}.*(again|restart)", seconds=5)
        # Whatever the client lost with its sockets: from its last subscription on it misses nothing.
        with psycopg.connect(stack.database_url) as db:
            (seen_from,) = db.execute("SELECT max(id) FROM push_events").fetchone() or (0,)
        eventually(lambda: client.wait("message", subscription="all")["body"]["id"] > seen_from, "moves arrive again")
        subscribed = max(int(e["lastId"]) for e in client.seen if e["event"] == "subscribed")
        moves = len(mover.answered)
        eventually(lambda: len(mover.answered) > moves + 50, "fifty more moves")
        mover.stopping.set()
        mover.join(30)
        with psycopg.connect(stack.database_url) as db:
            rows = db.execute(
                "SELECT id FROM push_events WHERE destination = '/topic/sessions' AND id > %s ORDER BY id",
                (subscribed,),
            ).fetchall()
            pushed = db.execute(
                "SELECT payload->>'session_id', payload->>'moved_at' FROM push_events"
                " WHERE destination = '/topic/sessions' AND type = 'session.moved'"
            ).fetchall()
        last = rows[-1][0]
        while client.bodies("all")[-1]["id"] < last:
            client.wait("message", subscription="all")
        received = [b["id"] for b in client.bodies("all") if b["id"] > subscribed]
        assert received == [id_ for (id_,) in rows]
    assert mover.refused > 0, "nothing was killed while a move was under way"
    assert set(mover.answered) <= set(pushed)


def test_a_second_stack_on_the_same_state_is_an_error(stack: Stack) -> None:
    done = _up(stack.environment)
    assert done.returncode == 1
    assert "already running" in done.stderr + done.stdout


def test_a_taken_port_is_reported_with_instructions(stack: Stack, tmp_path: Path) -> None:
    done = _up(stack.environment | {"GREENROOM_STATE_DIR": str(tmp_path)})
    assert done.returncode == 1
    output = done.stderr + done.stdout
    for shown in (str(stack.port), "GREENROOM_PORT", str(stack.prefect_port), "PREFECT_SERVER_API_PORT"):
        assert shown in output


def _up(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deployments.cli", "up"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_ctrl_c_leaves_no_process_and_the_second_start_reuses_the_state(stack: Stack) -> None:
    assert stack.process
    with psycopg.connect(stack.database_url) as db:
        kept = "INSERT INTO interviews (title, position) VALUES ('Kept', %s) RETURNING id"
        written = db.execute(kept, [OF_A_TEST]).fetchone()
    everything = psutil.Process(stack.process.pid).children(recursive=True)
    assert len(everything) >= 6
    assert stack.stop() == 0
    assert [p for p in everything if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    stack.start()
    stack.healthy()
    with psycopg.connect(stack.database_url) as db:
        assert db.execute("SELECT id FROM interviews WHERE id = %s", written).fetchone() == written
    assert stack.stop(signal.SIGTERM) == 0


@pytest.mark.soak
def test_killed_parts_do_not_change_the_final_tables(
    stack: Stack, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It puts its own rows in the place of the demo's: who comes after it gets a new stack."""
    with smtp_server.serving() as server, stack_faults.paused(stack) as admin:
        monkeypatch.setenv("GREENROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        stack_faults.kill_parts(admin, postgres, server.box)
    stack.forget()
