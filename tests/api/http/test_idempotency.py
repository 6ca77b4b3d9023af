"""Idempotency-Key: a request that is repeated is done once, and answered as the first time."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import func, select, update

from core import idempotency
from core.db import transaction
from core.errors import Invalid
from core.models import Candidate, IdempotencyKey
from tests.support import factories as make
from tests.support.http import Clients, all_at_once, json_body, names, new_clients, refused
from tests.support.processes import Api, Database

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.fixture
def clients(api: Api) -> Clients:
    return new_clients(api, questions=1)


def candidate(name: str = "Once") -> dict[str, str]:
    return {"email": f"{uuid4().hex}@example.com", "name": name}


def post(client: httpx.Client, path: str, body: object, key: str) -> httpx.Response:
    return client.post(
        path, content=json.dumps(body), headers={"Content-Type": "application/json", "Idempotency-Key": key}
    )


def how_many(email: str) -> int:
    with transaction() as db:
        return db.scalar(select(func.count()).where(Candidate.email == email)) or 0


def test_a_repeated_key_gets_the_first_response(clients: Clients) -> None:
    body, key = candidate(), uuid4().hex
    first = post(clients.recruiter, "/api/candidates", body, key)
    made = json_body(first, 201)
    json_body(clients.recruiter.patch(f"/api/candidates/{made['id']}", json={"name": "Changed since"}))
    again = post(clients.recruiter, "/api/candidates", body, key)
    assert json_body(again, 201) == made
    assert how_many(body["email"]) == 1
    other = post(clients.recruiter, "/api/candidates", body | {"name": "Other"}, key)
    names(other, "Idempotency-Key")


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
def test_invalid_keys_are_refused(clients: Clients, key: str) -> None:
    answer = clients.recruiter.post("/api/candidates", json=candidate(), headers={"Idempotency-Key": key.encode()})
    names(answer, "Idempotency-Key")


def test_the_longest_key(clients: Clients) -> None:
    json_body(post(clients.recruiter, "/api/candidates", candidate(), "~" * 255), 201)


def test_concurrent_requests_with_one_key_create_once(clients: Clients) -> None:
    body, key = candidate(), uuid4().hex
    answers = all_at_once(lambda _: post(clients.recruiter, "/api/candidates", body, key), range(8))
    assert len({json_body(answer, 201)["id"] for answer in answers}) == 1
    assert how_many(body["email"]) == 1


def test_a_key_belongs_to_a_user_and_a_route(clients: Clients) -> None:
    key = uuid4().hex
    made = [
        json_body(post(client, path, body, key), 201)
        for client, path, body in (
            (clients.recruiter, "/api/candidates", candidate()),
            (clients.admin, "/api/candidates", candidate()),
            (clients.admin, "/api/users", candidate() | {"role": "candidate"}),
            (clients.admin, "/api/interviews", {"title": "T", "position": "P"}),
            (clients.admin, "/api/sessions", clients.new_session()),
        )
    ]
    assert made[0]["id"] != made[1]["id"]


def test_a_refused_request_does_not_store_its_key(clients: Clients) -> None:
    """Only what was done is remembered: a conflict that went away is tried again with the same key."""
    body, key = candidate(), uuid4().hex
    first = json_body(clients.recruiter.post("/api/candidates", json=body), 201)
    refused(post(clients.recruiter, "/api/candidates", body, key), 409, first["id"])
    json_body(clients.recruiter.patch(f"/api/candidates/{first['id']}", json={"email": f"{uuid4().hex}@example.com"}))
    json_body(post(clients.recruiter, "/api/candidates", body, key), 201)


def test_answers_and_feedback_too(clients: Clients) -> None:
    with transaction() as db:
        session_id = make.session(db, now=datetime.now(UTC), people=clients.people, status="in_progress")
        other = make.session(db, now=datetime.now(UTC), status="completed")
    path, key = f"/api/sessions/{session_id}", uuid4().hex
    body = {"question_id": clients.people.question_ids[0], "score": 3}
    for _ in range(3):
        assert json_body(post(clients.interviewer, f"{path}/answers", body, key), 201) == {"id": str(session_id)}
    with transaction() as db:
        assert len(make.pushed(db, f"/topic/session/{session_id}", "session.updated")) == 1
    names(post(clients.interviewer, f"{path}/answers", body | {"score": 4}, key), "Idempotency-Key")
    refused(post(clients.interviewer, f"/api/sessions/{other}/answers", body, key), 404)


def test_a_replay_is_authorised_again(clients: Clients) -> None:
    body, key = candidate(), uuid4().hex
    json_body(post(clients.recruiter, "/api/candidates", body, key), 201)
    json_body(clients.admin.patch(f"/api/users/{clients.people.ids['recruiter']}", json={"token_version": 2}))
    refused(post(clients.recruiter, "/api/candidates", body, key), 401)


def test_after_a_day_a_key_is_new(clients: Clients) -> None:
    key = uuid4().hex
    first = json_body(post(clients.recruiter, "/api/candidates", candidate(), key), 201)
    with transaction() as db:
        aged = IdempotencyKey.created_at - timedelta(hours=24, minutes=1)
        db.execute(update(IdempotencyKey).where(IdempotencyKey.key == key).values(created_at=aged))
    second = json_body(post(clients.recruiter, "/api/candidates", candidate(), key), 201)
    assert second["id"] != first["id"]


def test_a_day_is_counted_by_now(shared_database: Database) -> None:
    with transaction() as db:
        user = make.people(db).ids["admin"]
    given = {"user_id": user, "route": "/api/x", "key": uuid4().hex}
    kept = idempotency.StoredResponse(201, {"id": 1})
    with transaction() as db:
        assert idempotency.claim(db, **given, body_hash="a", now=NOW) is None
        idempotency.store_response(db, kept, **given)
    with transaction() as db:
        assert idempotency.claim(db, **given, body_hash="a", now=NOW + idempotency.RETENTION) == kept
        with pytest.raises(Invalid):
            idempotency.claim(db, **given, body_hash="b", now=NOW + idempotency.RETENTION)
        later = NOW + idempotency.RETENTION + timedelta(microseconds=1)
        assert idempotency.claim(db, **given, body_hash="b", now=later) is None
