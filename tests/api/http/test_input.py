"""Bad input over HTTP: 422 names the field, whatever it is, and nothing ever answers with a bug of ours."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.db import transaction
from core.models import InterviewSession
from tests.support import factories as make
from tests.support.http import Clients, json_body, names, new_clients, refused, soon
from tests.support.processes import Api

LONG = "x" * 201
USER = {"email": "ok@example.com", "name": "Ok", "role": "candidate"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def clients(api: Api) -> Clients:
    return new_clients(api, questions=2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("email", value)
            for value in ("", "no", "a@b@c", "a b@c", "a@b\nBcc: x@y", "a@\x00b", "<a@b>", "a\x85@b", 7)
        ),
        ("email", "x" * 65 + "@example.com"),
        ("email", "a@" + "x" * 253),
        *(("name", value) for value in ("", "   ", LONG, 7, None, [], "a\r\nBcc: x@y", "a\x00b", "\x1b[31m", "a\x85b")),
        *(("name", f"a{line_end}b") for line_end in "\n\v\f\r\x1c\x1d\x1e\u2028\u2029"),
        *(("role", value) for value in ("king", "Admin", "", None, 1)),
        *(
            ("timezone", value)
            for value in ("", "Mars/Base", "UTC+1", "../UTC", "/etc/passwd", "a" * 5000, "a\x00", None)
        ),
        *(("quiet_from", value) for value in ("25:00", "noon", {})),
        ("token_version", 3),
        ("id", 1),
        ("nonsense", 1),
    ],
)
def test_a_users_fields(clients: Clients, field: str, value: object) -> None:
    names(clients.admin.post("/api/users", json=USER | {field: value}), field)


@pytest.mark.parametrize("value", [0, -1, 2**31, 2**63, 10**30, 1.5, "2.5", True, "x"])
def test_a_token_version(clients: Clients, value: object) -> None:
    names(
        clients.admin.patch(f"/api/users/{clients.people.interviewer_id}", json={"token_version": value}),
        "token_version",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("candidate_id", value) for value in (0, -1, 2**63, 2**62, 10**40, 1.5, "x", None, [1])),
        *(("interview_id", value) for value in (2**63, 2**62)),
        *(("interviewer_id", value) for value in (2**63, 2**62, "x")),
        ("scheduled_start", "2000-01-01T00:00:00Z"),
        ("scheduled_start", "1969-12-31T00:00:00Z"),
        *(("scheduled_start", f"{year}-01-01T00:00:00Z") for year in ("9999", "9001", "10000", "-0001")),
        *(("scheduled_start", value) for value in ("2030-01-01T00:00:00", "tomorrow", "", 1e300, 10**30, True, {})),
        ("invitation_expires_at", "2000-01-01T00:00:00Z"),
        ("invitation_expires_at", "2030-01-01"),
        *(("retry_of", value) for value in ("x", 1, "0" * 32, "018f0000-0000-7000-8000-000000000000")),
        ("status", "completed"),
    ],
)
def test_a_sessions_fields(clients: Clients, field: str, value: object) -> None:
    names(clients.recruiter.post("/api/sessions", json=clients.new_session(**{field: value})), field)


def test_the_interviewer_must_have_that_role(clients: Clients) -> None:
    for role in ("admin", "recruiter", "candidate"):
        user = clients.people.ids[role]
        names(clients.recruiter.post("/api/sessions", json=clients.new_session(interviewer_id=user)), "interviewer_id")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("duration_minutes", 0),
        ("duration_minutes", 7 * 1440 + 1),
        ("reminder_offsets", [14]),
        ("reminder_offsets", [60] * 11),
        ("completion_ratio", 1.01),
        ("completion_ratio", 0.12345),
        ("pass_score", 101),
        ("pass_score", "NaN"),
        ("pass_score", "Infinity"),
        ("questions", [{"text": "t", "skill": "s", "weight": 0}]),
        ("questions", [{"text": "t", "skill": "s", "max_score": 1e9}]),
        ("questions", [{"text": "t\x00", "skill": "s"}]),
        ("questions", [{"text": "x" * 10_001, "skill": "s"}]),
        ("questions", [{"text": "t", "skill": "s"}] * 201),
        ("questions", None),
    ],
)
def test_an_interviews_fields(clients: Clients, field: str, value: object) -> None:
    body = {"title": "T", "position": "P", field: value}
    answer = clients.recruiter.post("/api/interviews", json=body)
    assert refused(answer, 422)["errors"][0]["field"].split(".")[0] == field


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"nonsense", b"\x00", b"\xff\xfe\xfd", b'{"name": "\xff"}', b'{"name": "a\nb"}', b"{'name': 1}"),
        *(b"[]", b"[{}]", b"null", b"1", b'"text"', b"NaN", b"[" * 20_000, b"[" * 20_000 + b"]" * 20_000),
        *(b'{"name": ' + b"9" * 5000 + b"}", b'{"\\ud800": 1}'),
    ],
)
@pytest.mark.parametrize("path", ["/api/users", "/api/sessions", "/api/sessions/{session}/answers"])
def test_a_body_that_is_no_object(clients: Clients, path: str, content: bytes) -> None:
    answer = clients.admin.post(path.format(session="0" * 32), content=content, headers=JSON)
    body = refused(answer, 422)
    assert [error["field"] for error in body["errors"]] == ["body"]


def test_json_values_that_postgresql_cannot_store(clients: Clients) -> None:
    for value in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b'"\\ud800"', b'"\\u0000"'):
        content = b'{"email": "ok@example.com", "role": "candidate", "name": %b}' % value
        names(clients.admin.post("/api/users", content=content, headers=JSON), "name")
        content = b'{"title": "T", "position": "P", "pass_score": %b}' % value
        names(clients.admin.post("/api/interviews", content=content, headers=JSON), "pass_score")
    names(clients.admin.post("/api/users", content=json.dumps(USER), headers={"Content-Type": "text/plain"}), "body")
    two = clients.admin.post("/api/users", json={"email": "no", "name": "", "role": "king", "more": 1})
    names(two, "email", "name", "role", "more")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(({"limit": value}, "limit") for value in ("0", "-1", "201", "1000", "x", "", "1e2")),
        *(
            ({"cursor": value}, "cursor")
            for value in ("", "x", "é", "\x00", "e30", "LTE", "MTAwMDAwMDAwMDAwMDAwMDAwMDA")
        ),
    ],
)
@pytest.mark.parametrize("noun", ["users", "sessions"])
def test_pages(clients: Clients, noun: str, query: dict[str, str], field: str) -> None:
    names(clients.admin.get(f"/api/{noun}", params=query), field)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "sleeping"}, "status.0"),
        ({"candidate_id": "0"}, "candidate_id"),
        ({"interviewer_id": str(2**63)}, "interviewer_id"),
        ({"start": "2026-01-01T00:00:00"}, "start"),
        ({"end": "9999-01-01T00:00:00Z"}, "end"),
        ({"start": "2026-01-02T00:00:00Z", "end": "2026-01-02T00:00:00Z"}, "end"),
    ],
)
def test_filters_of_sessions(clients: Clients, query: dict[str, str], field: str) -> None:
    names(clients.admin.get("/api/sessions", params=query), field)


@pytest.mark.parametrize("id_", ["0", "-1", "x", str(2**63), "1" * 400, "%00", "1.5", "%F0%9F%99%82"])
def test_ids_in_paths(clients: Clients, id_: str) -> None:
    names(clients.admin.get(f"/api/users/{id_}"), "user_id")
    names(clients.admin.get(f"/api/sessions/{id_}"), "session_id")


def test_unknown_routes(api: Api, clients: Clients) -> None:
    for path in ("/", "/nope", "/api", "/api/nope", "/api/users/1/nope", "/%00", "/..%2f..%2fetc/passwd", "/docs/nope"):
        refused(clients.admin.get(path), 404)
    for method, path in (
        ("DELETE", "/api/users"),
        ("PUT", "/api/sessions/1"),
        ("POST", "/health/live"),
    ):
        answer = clients.admin.request(method, path)
        refused(answer, 405)
        assert answer.headers["allow"]


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["2030-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "", "\x00", "\ud800", "1e400", 2**63, 10**400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


LIKE: dict[str | None, st.SearchStrategy[Any]] = {
    "integer": st.integers(1, 6) | st.integers(-(2**65), 2**65),
    "number": st.floats(0, 100) | st.floats(),
    "boolean": st.booleans(),
    "date-time": st.datetimes().map(lambda at: at.isoformat() + "Z"),
    "time": st.times().map(str),
}


def shaped(document: dict[str, Any], schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Something like the schema: mostly what it asks for, sometimes anything at all."""
    if ref := schema.get("$ref"):
        return shaped(document, document["components"]["schemas"][ref.rsplit("/", 1)[-1]])
    if choices := schema.get("anyOf"):
        return st.one_of(*(shaped(document, choice) for choice in choices)) | JUNK
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "properties" in schema:
        fields = {name: shaped(document, inner) for name, inner in schema["properties"].items()}
        needed = {name: fields.pop(name) for name in schema.get("required", ())}
        return st.fixed_dictionaries(needed, optional=fields | {"extra": JUNK})
    if schema.get("type") == "array":
        return st.lists(shaped(document, schema["items"]), max_size=4) | JUNK
    return LIKE.get(schema.get("format") or schema.get("type"), st.text(min_size=1, max_size=12)) | JUNK


def writing(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every route that takes a body: method, path and the body's schema."""
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            # Flows ask Prefect, which does not run here; their bodies are for that server to check.
            if method in ("post", "patch", "put") and "requestBody" in route and "/flows" not in path:
                yield method, path, route["requestBody"]["content"]["application/json"]["schema"]


def test_no_body_causes_a_server_error(clients: Clients) -> None:
    document = json_body(httpx.get(f"{clients.api.url}/openapi.json", trust_env=False))
    routes = list(writing(document))
    assert len(routes) >= 11
    with transaction() as db:
        session_id = make.session(db, now=make.datetime.now().astimezone(), people=clients.people, status="in_progress")
        invited = make.session(db, now=make.datetime.now().astimezone(), status="invited")
    ids = {"user_id": clients.people.ids["candidate"], "candidate_id": clients.people.candidate_id}
    ids |= {"interview_id": clients.people.interview_id}

    for method, path, schema in routes:

        @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(
            body=shaped(document, schema) | JUNK, role=st.sampled_from(sorted(clients.people.ids)), new=st.booleans()
        )
        def answers(method: str, path: str, body: Any, role: str, *, new: bool) -> None:
            where = path.format(session_id=invited if new else session_id, **ids)
            answer = clients.by(role).request(method, where, content=json.dumps(body), headers=JSON)
            assert answer.status_code < 500, (method, where, body, answer.text)
            if answer.status_code >= 400:
                refused(answer, answer.status_code)
            if answer.status_code == 422:
                assert answer.json()["errors"]

        answers(method, path)
        # Whatever was done to the people, the next route starts with the same roles.
    with transaction() as db:
        assert db.get_one(InterviewSession, session_id)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    query=st.dictionaries(
        st.sampled_from(["limit", "cursor", "status", "role", "start", "end", "candidate_id", "interview_id"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
        | st.integers().map(str)
        | st.datetimes().map(str),
        max_size=3,
    ),
    path=st.sampled_from(["users", "candidates", "interviews", "sessions", "sessions/x", "users/1", "interviews/99"]),
)
def test_no_query_causes_a_server_error(clients: Clients, query: dict[str, str], path: str) -> None:
    answer = clients.recruiter.get(f"/api/{path}", params=query)
    assert answer.status_code in (200, 404, 422), (path, query, answer.text)
    if answer.status_code != 200:
        refused(answer, answer.status_code)


def test_a_refused_request_has_no_effect(clients: Clients) -> None:
    before = json_body(clients.recruiter.get("/api/users"))["last_id"]
    refused(clients.recruiter.post("/api/sessions", json=clients.new_session(scheduled_start=soon(hours=-1))), 422)
    assert json_body(clients.recruiter.get("/api/users"))["last_id"] == before
