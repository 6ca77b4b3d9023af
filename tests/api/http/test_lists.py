"""Lists of sessions and of their history over HTTP: whose they show, pages and filters."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from core.db import transaction
from core.models import InterviewSession, SessionEvent, SessionStatus
from tests.support import factories as make
from tests.support.factories import People
from tests.support.http import Clients, json_body, new_clients, soon
from tests.support.processes import Api


@pytest.fixture
def clients(api: Api) -> Clients:
    return new_clients(api)


def now() -> datetime:
    return datetime.now(UTC)


def a_session(people: People, status: SessionStatus = "scheduled", **more: Any) -> UUID:
    with transaction() as db:
        return make.session(db, now=now(), people=people, status=status, **more)


def test_lists_show_candidates_and_interviewers_only_theirs(clients: Clients, api: Api) -> None:
    other = new_clients(api)
    mine, theirs = a_session(clients.people), a_session(other.people)
    alone = a_session(clients.people, "completed", interviewer_id=None)
    for role, wanted in (("candidate", {mine, alone}), ("interviewer", {mine})):
        seen = {UUID(s["id"]) for s in json_body(clients.by(role).get("/api/sessions"))["items"]}
        assert seen == wanted
        narrowed = clients.by(role).get("/api/sessions", params={"candidate_id": other.people.candidate_id})
        assert json_body(narrowed)["items"] == []
    seen = {UUID(s["id"]) for s in json_body(clients.recruiter.get("/api/sessions"))["items"]}
    assert {mine, theirs, alone} <= seen


def test_pages_give_each_session_once_while_new_ones_come(clients: Clients) -> None:
    began = now() - timedelta(days=1)
    with transaction() as db:
        for n in range(250):
            made_at = began + timedelta(milliseconds=n)
            make.session(db, now=made_at, people=clients.people, status="cancelled", created_at=made_at)
    wanted = {"candidate_id": clients.people.candidate_id, "limit": 37}
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    pages = 0
    while True:
        pages += 1
        page = json_body(clients.recruiter.get("/api/sessions", params=wanted | cursor))
        seen += [row["id"] for row in page["items"]]
        if page["next"] is None:
            break
        assert len(page["items"]) == 37
        cursor = {"cursor": page["next"]}
        a_session(clients.people, "cancelled")
    assert pages == 7
    assert len(seen) == len(set(seen)) == 250
    assert seen == sorted(seen, reverse=True)


def test_filters_by_status_person_and_time(clients: Clients) -> None:
    at = now() + timedelta(days=30)
    other = new_clients(clients.api).people
    ids = {
        status: a_session(
            clients.people,
            status,
            scheduled_start=at + timedelta(hours=n),
            scheduled_end=at + timedelta(hours=n + 1),
            interviewer_id=other.interviewer_id if n else clients.people.interviewer_id,
        )
        for n, status in enumerate(("scheduled", "cancelled", "no_show"))
    }

    def found(**wanted: Any) -> set[UUID]:
        mine = {"candidate_id": clients.people.candidate_id} | wanted
        return {UUID(row["id"]) for row in json_body(clients.recruiter.get("/api/sessions", params=mine))["items"]}

    assert found() == set(ids.values())
    assert found(status="scheduled") == {ids["scheduled"]}
    assert found(status=["scheduled", "no_show"]) == {ids["scheduled"], ids["no_show"]}
    assert found(interviewer_id=other.interviewer_id) == {ids["cancelled"], ids["no_show"]}
    assert found(interview_id=other.interview_id) == set()
    assert found(candidate_id=other.candidate_id) == set()
    assert found(start=(at + timedelta(hours=1)).isoformat()) == {ids["cancelled"], ids["no_show"]}
    assert found(end=(at + timedelta(hours=1)).isoformat()) == {ids["scheduled"]}


def test_history_pages_oldest_first(clients: Clients) -> None:
    session_id = a_session(clients.people)
    path = f"/api/sessions/{session_id}"
    for n in range(1, 6):
        json_body(clients.recruiter.patch(path, json={"scheduled_start": soon(days=n)}))
    first = json_body(clients.recruiter.get(f"{path}/events", params={"limit": 3}))
    rest = json_body(clients.recruiter.get(f"{path}/events", params={"limit": 3, "cursor": first["next"]}))
    versions = [event["data"]["schedule_version"] for event in first["items"] + rest["items"]]
    assert versions == [2, 3, 4, 5, 6]
    assert rest["next"] is None
    with transaction() as db:
        events = select(func.count()).where(SessionEvent.session_id == session_id)
        assert db.scalar(events) == 5
        assert db.get_one(InterviewSession, session_id).ics_sequence == 5
