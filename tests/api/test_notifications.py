"""Notifications and preferences over HTTP: who may, what is refused and how, and what a page is."""

from typing import Any

import pytest

from core.clock import utcnow
from core.db import transaction
from core.notifications import Notice, notify
from tests.support.http import Clients, all_at_once, json_body, names, new_clients, refused, soon
from tests.support.processes import Api


@pytest.fixture
def clients(api: Api) -> Clients:
    """People of this test's own, with clients."""
    return new_clients(api)


def write(clients: Clients, **given: Any) -> dict[str, Any]:
    """What the recruiter writes."""
    return json_body(clients.recruiter.post("/api/notifications", json={"title": "Hear, hear", **given}), 201)


def test_a_notification_is_read_as_it_was_created(clients: Clients) -> None:
    given = {
        "user_id": clients.people.ids["candidate"],
        "title": "Ωmega <b>& 'quotes'</b> 🎉",
        "body": "Two\nlines",
        "category": "culture_fit",
        "data": {"link": "/sessions/7", "count": 3, "share": 0.5, "done": True, "none": None},
        "expires_at": soon(days=1),
    }
    made = write(clients, **given)
    assert made["created_by"] == clients.people.ids["recruiter"]
    assert made["status"] == "delivered"
    items = json_body(clients.candidate.get("/api/notifications"))["items"]
    assert [item["id"] for item in items] == [made["id"]]
    assert {name: items[0][name] for name in given if name != "expires_at"} == {
        name: value for name, value in given.items() if name != "expires_at"
    }
    assert json_body(clients.candidate.get(f"/api/notifications/{made['id']}"))["seen_at"] is not None
    assert "created_by" not in items[0]


def test_pages_boxes_and_the_count(clients: Clients) -> None:
    ids = [write(clients, user_id=clients.people.ids["candidate"])["id"] for _ in range(5)]
    first = json_body(clients.candidate.get("/api/notifications", params={"limit": 3}))
    second = json_body(clients.candidate.get("/api/notifications", params={"limit": 3, "cursor": first["next"]}))
    assert [item["id"] for item in first["items"] + second["items"]] == ids[::-1]
    assert second["next"] is None
    assert json_body(clients.candidate.post(f"/api/notifications/{ids[0]}/read"))["read_at"]
    assert json_body(clients.candidate.post(f"/api/notifications/{ids[1]}/archive"))["archived_at"]
    for box, expected in (("inbox", [4, 3, 2, 0]), ("unread", [4, 3, 2]), ("archived", [1])):
        items = json_body(clients.candidate.get("/api/notifications", params={"box": box}))["items"]
        assert [item["id"] for item in items] == [ids[place] for place in expected]
    answer = clients.candidate.get("/api/notifications/unread-count")
    assert json_body(answer)["unread"] == 3
    assert answer.headers["Last-Id"] == str(answer.json()["last_id"])
    assert json_body(clients.candidate.post("/api/notifications/read-all")) == {"read": 3}
    assert json_body(clients.candidate.get("/api/notifications/unread-count"))["unread"] == 0


def test_who_may(clients: Clients) -> None:
    for person in (clients.interviewer, clients.candidate):
        refused(person.post("/api/notifications", json={"title": "x"}), 403, "recruiter")
        refused(person.delete("/api/notifications/1"), 403, "recruiter")
    made = write(clients, user_id=clients.people.ids["candidate"])
    for path in ("", "/read", "/archive"):
        ask_for = clients.interviewer.post if path else clients.interviewer.get
        refused(ask_for(f"/api/notifications/{made['id']}{path}"), 404, made["id"])
        refused(ask_for(f"/api/notifications/{2**62}{path}"), 404)
    assert clients.recruiter.delete(f"/api/notifications/{made['id']}").status_code == 204
    refused(clients.recruiter.delete(f"/api/notifications/{made['id']}"), 409, "cancelled")
    refused(clients.candidate.get(f"/api/notifications/{made['id']}"), 404)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "title"),
        ({"title": ""}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"title": "x" * 201}, "title"),
        ({"title": "\x00"}, "title"),
        ({"title": "x", "body": "\x00"}, "body"),
        ({"title": "x", "body": "x" * 10_001}, "body"),
        ({"title": "x", "colour": "red"}, "colour"),
        ({"title": "x", "user_id": 2**63}, "user_id"),
        ({"title": "x", "user_id": 2**62}, "user_id"),
        ({"title": "x", "user_id": 0}, "user_id"),
        ({"title": "x", "role": "boss"}, "role"),
        ({"title": "x", "category": "Not a slug"}, "category"),
        ({"title": "x", "category": "cancelled\n"}, "category"),
        ({"title": "x", "not_before": "tomorrow"}, "not_before"),
        ({"title": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"title": "x", "not_before": "2999-01-02T00:00:00Z", "expires_at": "2999-01-01T00:00:00Z"}, "expires_at"),
        ({"title": "x", "session_id": "00000000-0000-7000-8000-000000000000"}, "session_id"),
        ({"title": "x", "dedupe_key": ""}, "dedupe_key"),
        ({"title": "x", "data": {str(n): n for n in range(51)}}, "data"),
    ],
)
def test_bad_input_is_named(clients: Clients, given: dict[str, Any], field: str) -> None:
    names(clients.recruiter.post("/api/notifications", json=given), field)


@pytest.mark.parametrize(
    "body",
    [
        b'{"title": "x", "data": {"a": "\\u0000"}}',
        b'{"title": "x", "data": {"a": "\\ud800"}}',
        b'{"title": "x", "data": {"\\ud800": 1}}',
        b'{"title": "x", "data": {"a": 1e999}}',
        b'{"title": "x", "data": {"a": NaN}}',
        b'{"title": "x", "data": {"a": 9007199254740993}}',
        b'{"title": "x", "data": {"a": ' + b"9" * 4000 + b"}}",
        b'{"title": "x", "data": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
        b'{"title": "\\ud800"}',
        b'{"title": "x", "category": "\\ud800"}',
    ],
)
def test_hostile_json_is_refused_and_leaves_nothing(clients: Clients, body: bytes) -> None:
    before = json_body(clients.candidate.get("/api/notifications/unread-count"))["unread"]
    headers = {"Content-Type": "application/json"}
    refused(clients.recruiter.post("/api/notifications", content=body, headers=headers), 422)
    assert json_body(clients.candidate.get("/api/notifications/unread-count"))["unread"] == before


def test_a_notification_has_one_user_or_one_role(clients: Clients) -> None:
    both = {"title": "x", "user_id": clients.people.ids["candidate"], "role": "candidate"}
    names(clients.recruiter.post("/api/notifications", json=both), "role")


def test_a_pending_notification_can_be_withdrawn(clients: Clients) -> None:
    made = write(clients, user_id=clients.people.ids["candidate"], not_before=soon())
    assert (made["status"], made["delivered_at"]) == ("pending", None)
    assert json_body(clients.candidate.get("/api/notifications"))["items"] == []
    refused(clients.candidate.get(f"/api/notifications/{made['id']}"), 404)
    assert clients.admin.delete(f"/api/notifications/{made['id']}").status_code == 204


def test_a_repeated_request_creates_once(clients: Clients) -> None:
    given = {"title": "Once", "user_id": clients.people.ids["candidate"]}
    headers = {"Idempotency-Key": f"write-{clients.people.candidate_id}"}
    answers = all_at_once(lambda _: clients.recruiter.post("/api/notifications", json=given, headers=headers), range(6))
    assert len({json_body(answer, 201)["id"] for answer in answers}) == 1
    assert json_body(clients.candidate.get("/api/notifications/unread-count"))["unread"] == 1


def test_preferences_are_given_back_as_they_were_shown(clients: Clients) -> None:
    shown = json_body(clients.candidate.get("/api/preferences"))
    assert {item["category"]: (item["in_app"], item["email"], item["may_turn_off"]) for item in shown["items"]} == {
        "invited": ("instant", "instant", False),
        "scheduled": ("instant", "instant", False),
        "rescheduled": ("instant", "instant", False),
        "cancelled": ("instant", "instant", False),
        "reminder": ("instant", "instant", False),
        "late": ("instant", None, False),
        "completed": ("instant", "instant", True),
        "announcement": ("instant", None, True),
    }
    assert json_body(clients.candidate.put("/api/preferences", json=shown)) == shown
    off = {"items": [{"category": "completed", "email": "off"}]}
    changed = json_body(clients.candidate.put("/api/preferences", json=off))
    assert {item["category"] for item in changed["items"] if item["email"] == "off"} == {"completed"}
    assert json_body(clients.candidate.get("/api/preferences")) == changed
    daily = {item["category"]: item for item in json_body(clients.recruiter.get("/api/preferences"))["items"]}[
        "daily_report"
    ]
    assert (daily["in_app"], daily["email"]) == ("instant", "off")


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"category": "reminder", "email": "off"}, "items.0.email"),
        ({"category": "late", "in_app": "off"}, "items.0.in_app"),
        ({"category": "late", "email": "instant"}, "items.0.email"),
        ({"category": "job_failed", "in_app": "off"}, "items.0.category"),
        ({"category": "nonsense", "in_app": "off"}, "items.0.category"),
        ({"category": "completed", "email": "weekly"}, "items.0.email"),
        ({"category": "completed", "sms": "off"}, "items.0.sms"),
        ({"email": "off"}, "items.0.category"),
    ],
)
def test_invalid_preferences_are_named(clients: Clients, item: dict[str, str], field: str) -> None:
    both = {"items": [item, {"category": "completed", "email": "off"}]}
    names(clients.candidate.put("/api/preferences", json=both), field)
    shown = json_body(clients.candidate.get("/api/preferences"))["items"]
    assert {one["category"]: one for one in shown}["completed"]["email"] == "instant", "none of it was kept"


def test_a_long_inbox_is_read_at_once(clients: Clients) -> None:
    with transaction() as db:
        user = clients.people.ids["candidate"]
        notify(db, [Notice("completed", "T", "B", f"{user}/{n}", user_id=user) for n in range(300)], now=utcnow())
    page = json_body(clients.candidate.get("/api/notifications", params={"limit": 200}))
    assert len(page["items"]) == 200
    assert json_body(clients.candidate.post("/api/notifications/read-all")) == {"read": 300}
