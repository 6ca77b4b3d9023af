"""Trouble around the API: the database away, too many at once, proxies that lie; and what it says of itself."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.support import processes
from tests.support.http import Clients, json_body, new_clients, refused
from tests.support.processes import Api, Database, PostgresServer, eventually, token


@pytest.fixture
def clients(api: Api) -> Clients:
    return new_clients(api)


@pytest.fixture
def lonely(database: str, tmp_path: Path) -> Iterator[Api]:
    """An API on a database that the test may take away."""
    with processes.api_process(database, tmp_path) as running:
        yield running


def get(api: Api, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{api.url}{path}", headers=headers, timeout=20, trust_env=False)


def test_a_2xx_is_committed_before_it_is_answered(clients: Clients, shared_database: Database) -> None:
    with psycopg.connect(shared_database.url, autocommit=True) as other:
        for _ in range(50):
            email = f"{uuid4().hex}@example.com"
            made = json_body(clients.recruiter.post("/api/candidates", json={"email": email, "name": "x"}), 201)
            found = other.execute("SELECT id FROM candidates WHERE email = %s", [email]).fetchone()
            assert found == (made["id"],)


def test_many_concurrent_requests_are_served(clients: Clients) -> None:
    """More at once than threads and connections together: each keeps a connection while it waits for a thread."""
    headers = {"Authorization": f"Bearer {token(clients.people.ids['admin'])}"}

    async def crowd() -> list[int]:
        limits = httpx.Limits(max_connections=150, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=clients.api.url, headers=headers, limits=limits, trust_env=False
        ) as client:
            requests = (client.get("/api/users", params={"limit": 1}, timeout=60) for _ in range(300))
            return [answer.status_code for answer in await asyncio.gather(*requests)]

    began = time.monotonic()
    assert set(asyncio.run(crowd())) == {200}
    assert time.monotonic() - began < 25, "it stood still until the pool gave up"


def test_requests_over_the_limit_get_503_with_retry_after(clients: Clients, shared_database: Database) -> None:
    headers = {"Authorization": f"Bearer {token(clients.people.ids['admin'])}"}

    async def crowd() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=600, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=clients.api.url, headers=headers, limits=limits, trust_env=False
        ) as client:
            requests = [asyncio.create_task(client.get("/api/users", timeout=60)) for _ in range(560)]
            await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
            holder.rollback()
            return list(await asyncio.gather(*requests))

    with psycopg.connect(shared_database.url) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        answers = asyncio.run(crowd())
    full = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(full) < 100
    for answer in full:
        refused(answer, 503, "Too many")
        assert answer.headers["retry-after"] == "1"


def test_requests_survive_a_database_restart(lonely: Api, database: str, postgres: PostgresServer) -> None:
    clients = new_clients(lonely)
    name = database.rsplit("/", 1)[1]
    path, body = "/api/candidates", {"email": "away@example.com", "name": "Away"}
    json_body(clients.recruiter.get(path))
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")  # type: ignore[call-overload]
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        for answer in (clients.recruiter.get(path), clients.recruiter.post(path, json=body)):
            problem = refused(answer, 503)
            assert int(answer.headers["retry-after"]) > 0
            assert name not in str(problem)
        ready = get(lonely, "/health/ready")
        assert ready.status_code == 503
        assert ready.json()["postgres"] == "down"
        assert name not in ready.text
        eventually(lambda: get(lonely, "/health/ready").json()["relay"] == "down", "the relay is down, too")
        assert get(lonely, "/health/live").status_code == 200
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")  # type: ignore[call-overload]
    eventually(lambda: get(lonely, "/health/ready").status_code == 200, "it is ready again")
    json_body(clients.recruiter.post(path, json=body), 201)


def test_readiness_names_parts_that_do_not_work(api: Api) -> None:
    answer = get(api, "/health/ready")
    assert answer.status_code == 200
    body = answer.json()
    parts_ = ("postgres", "relay", "prefect", "worker", "dispatcher", "mail")
    assert [body[part] for part in ("status", *parts_)] == ["degraded", "ok", "ok", *["degraded"] * 4]
    assert set(body["reasons"]) == {"prefect", "worker", "dispatcher", "mail"}
    assert "greenroom dispatcher" in body["reasons"]["dispatcher"]


def test_liveness_and_openapi(api: Api) -> None:
    assert get(api, "/health/live").json() == {"status": "ok"}
    assert "swagger" in get(api, "/docs").text.lower()
    document = get(api, "/openapi.json").json()
    assert {"/api/users", "/api/sessions/{session_id}/status", "/api/flows", "/health/ready"} <= document[
        "paths"
    ].keys()


def test_a_prefect_timeout_does_not_claim_that_nothing_was_done(
    shared_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_up() -> None:
        with suppress(OSError):
            while True:
                connection, _ = silent.accept()
                connection.recv(65536)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Thread(target=hang_up, daemon=True).start()
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/api")
        with processes.api_process(shared_database.url, tmp_path) as running:
            answer = new_clients(running).admin.patch("/api/flows/update-session-statuses", json={"paused": True})
        silent.shutdown(socket.SHUT_RDWR)
    refused(answer, 503, "Idempotency-Key")
    assert "nothing was done" not in answer.text
    assert answer.headers["Retry-After"] == "5"


def test_flows_need_prefect_and_a_staff_role(clients: Clients) -> None:
    run = "/api/flows/update-session-statuses/runs"
    for role in ("interviewer", "candidate"):
        refused(clients.by(role).get("/api/flows"), 403, role)
        refused(clients.by(role).get(run), 403, role)
    for role in ("recruiter", "interviewer", "candidate"):
        refused(clients.by(role).post(run, json={}), 403, role)
        refused(clients.by(role).patch("/api/flows/update-session-statuses", json={"paused": True}), 403, role)
    for answer in (clients.recruiter.get("/api/flows"), clients.recruiter.get(run), clients.admin.post(run, json={})):
        refused(answer, 503, "Prefect")
        assert int(answer.headers["retry-after"]) > 0
    refused(clients.admin.get("/api/flows/runs/x"), 422, "run_id")
    refused(clients.admin.post(run, json={"dry_run": "perhaps"}), 422, "dry_run")
    refused(clients.admin.post(run, json={"at": "noon"}), 422, "at")


def test_forwarded_headers_are_ignored(clients: Clients) -> None:
    claims = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "evil.example"}
    answer = clients.admin.get("/api/users/", headers=claims | {"Forwarded": "proto=https;host=evil.example"})
    assert answer.status_code == 307
    assert answer.headers["location"] == f"{clients.api.url}/api/users"


def test_clients_that_disconnect_early_do_not_affect_others(clients: Clients, shared_database: Database) -> None:
    question = (
        f"GET /api/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token(clients.people.ids['admin'])}\r\n\r\n"
    )
    with psycopg.connect(shared_database.url) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        for _ in range(40):
            with socket.create_connection(("127.0.0.1", clients.api.port)) as client:
                client.sendall(question.encode())
    json_body(clients.admin.get("/api/users"))
