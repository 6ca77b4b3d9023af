"""Sessions over HTTP: who sees and does what, conflicts that name the other, pages and filters."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.db import transaction
from core.models import SessionStatus
from tests.support import factories as make
from tests.support.factories import People
from tests.support.http import Clients, all_at_once, json_body, names, new_clients, refused, soon
from tests.support.processes import Api

CONFIDENTIAL = ("score", "decision", "decided_at", "legal_hold")


@pytest.fixture
def clients(api: Api) -> Clients:
    return new_clients(api, questions=2)


def now() -> datetime:
    return datetime.now(UTC)


def a_session(people: People, status: SessionStatus = "scheduled", **more: Any) -> UUID:
    with transaction() as db:
        return make.session(db, now=now(), people=people, status=status, **more)


def pushed(session_id: UUID | str, type_: str | None = None) -> list[dict[str, Any]]:
    with transaction() as db:
        return make.pushed(db, f"/topic/session/{session_id}", type_)


def test_inviting_and_scheduling(clients: Clients) -> None:
    for role in ("interviewer", "candidate"):
        refused(clients.by(role).post("/api/sessions", json=clients.new_session()), 403, role)
    invited = json_body(clients.recruiter.post("/api/sessions", json=clients.new_session()), 201)
    assert (invited["status"], invited["recruiter_id"]) == ("invited", clients.people.ids["recruiter"])
    path = f"/api/sessions/{invited['id']}"
    assert json_body(clients.recruiter.get(path)) == invited
    start = soon(days=1)
    change = {"scheduled_start": start, "interviewer_id": clients.people.interviewer_id, "reason": "by phone"}
    scheduled = json_body(clients.admin.patch(path, json=change))
    assert (scheduled["status"], scheduled["schedule_version"]) == ("scheduled", 1)
    moved = json_body(clients.recruiter.get(f"{path}/events"))["items"][-1]
    assert (moved["kind"], moved["new_status"], moved["reason"]) == ("moved", "scheduled", "by phone")
    again = json_body(clients.recruiter.patch(path, json={"scheduled_start": soon(days=2)}))
    assert (again["status"], again["schedule_version"]) == ("scheduled", 2)
    kinds = ["session.created", "session.moved", "session.rescheduled"]
    assert [len(pushed(invited["id"], kind)) for kind in kinds] == [1, 1, 1]


def test_times_come_back_in_utc(clients: Clients) -> None:
    body = clients.new_session(scheduled_start="2031-07-01T12:00:00+05:30")
    made = json_body(clients.recruiter.post("/api/sessions", json=body), 201)
    assert made["scheduled_start"] == "2031-07-01T06:30:00Z"
    assert pushed(made["id"], "session.created")[0]["scheduled_start"] == made["scheduled_start"]


def test_who_sees_a_session(clients: Clients, api: Api) -> None:
    stranger = new_clients(api)
    session_id = a_session(clients.people, "completed", score=71, decision="advance", decided_at=now(), legal_hold=True)
    path = f"/api/sessions/{session_id}"
    for role in ("admin", "recruiter", "interviewer"):
        seen = json_body(clients.by(role).get(path))
        assert [seen[name] for name in CONFIDENTIAL[:2]] == [71, "advance"]
        assert seen["legal_hold"] is True
    for shown in (json_body(clients.candidate.get(path)), *json_body(clients.candidate.get("/api/sessions"))["items"]):
        assert [shown[name] for name in CONFIDENTIAL] == [None] * 4
    for role in ("interviewer", "candidate"):
        client = stranger.by(role)
        for answer in (
            client.get(path),
            client.get(f"{path}/events"),
            client.post(f"{path}/status", json={"status": "cancelled"}),
            client.post(f"{path}/activity"),
            client.post(f"{path}/answers", json={"question_id": clients.people.question_ids[0]}),
            client.post(f"{path}/feedback", json={"recommendation": "yes"}),
        ):
            refused(answer, 404, session_id)
        refused(client.patch(path, json={"legal_hold": False}), 403, role)
        assert json_body(client.get("/api/sessions"))["items"] == []
    missing = f"/api/sessions/{uuid4()}"
    refused(clients.admin.get(missing), 404)
    refused(clients.admin.patch(missing, json={"legal_hold": True}), 404)
    refused(clients.admin.post(f"{missing}/status", json={"status": "cancelled"}), 404)


def test_the_candidates_first_get_sets_opened_at_once(clients: Clients) -> None:
    session_id = a_session(clients.people, "invited", scheduled_start=None, scheduled_end=None)
    path = f"/api/sessions/{session_id}"
    for role in ("admin", "recruiter", "interviewer"):
        assert json_body(clients.by(role).get(path))["opened_at"] is None
    json_body(clients.candidate.get("/api/sessions"))
    replies = all_at_once(lambda _: json_body(clients.candidate.get(path)), range(5))
    opened = json_body(clients.candidate.get(path))["opened_at"]
    assert opened
    assert {reply["opened_at"] for reply in replies} <= {opened, None}
    assert [change["changed"] for change in pushed(session_id, "session.updated")] == [["opened_at"]]


def test_the_last_id_precedes_pushes_caused_by_the_read(clients: Clients) -> None:
    session_id = a_session(clients.people)
    answer = clients.candidate.get(f"/api/sessions/{session_id}")
    newest = json_body(clients.recruiter.get("/api/sessions", params={"limit": 1}))["last_id"]
    assert int(answer.headers["last-id"]) < newest


def test_an_illegal_move_names_both_states(clients: Clients) -> None:
    path = f"/api/sessions/{a_session(clients.people, 'completed')}/status"
    answer = clients.candidate.post(path, json={"status": "in_progress"})
    body = refused(answer, 409, "completed", "in_progress")
    assert (body["old"], body["new"]) == ("completed", "in_progress")


def test_a_move_by_the_wrong_role(clients: Clients) -> None:
    session_id = a_session(clients.people)
    path = f"/api/sessions/{session_id}/status"
    for role in ("recruiter", "admin"):
        refused(clients.by(role).post(path, json={"status": "in_progress"}), 403, "candidate", "interviewer", role)
    refused(clients.admin.post(path, json={"status": "no_show"}), 403, "recruiter")
    names(clients.candidate.post(path, json={"status": "sleeping"}), "status")
    names(clients.candidate.post(path, json={"status": "cancelled", "no_show_party": "candidate"}), "no_show_party")
    names(clients.candidate.post(path, json={"status": "cancelled", "scheduled_start": soon()}), "scheduled_start")
    assert pushed(session_id) == []
    moved = json_body(clients.candidate.post(path, json={"status": "in_progress"}))
    assert moved["status"] == "in_progress"
    assert moved["score"] is None
    assert [(m["previous"], m["status"], m["by"]) for m in pushed(session_id)] == [
        ("scheduled", "in_progress", "candidate")
    ]


def test_of_concurrent_equal_moves_one_succeeds(clients: Clients) -> None:
    session_id = a_session(clients.people)
    path = f"/api/sessions/{session_id}/status"
    answers = all_at_once(lambda _: clients.candidate.post(path, json={"status": "in_progress"}), range(6))
    assert sorted(a.status_code for a in answers) == [200] + [409] * 5
    assert len(pushed(session_id, "session.moved")) == 1


def test_a_conflict_names_the_other_open_session(clients: Clients) -> None:
    answers = all_at_once(lambda _: clients.recruiter.post("/api/sessions", json=clients.new_session()), range(6))
    [made] = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer.status_code != 201:
            assert refused(answer, 409, made)["session_id"] == made


def test_of_concurrent_bookings_one_succeeds(clients: Clients, api: Api) -> None:
    """They would wait for each other for good; PostgreSQL then ends all but one as a deadlock."""
    start, interviewer = soon(days=3), clients.people.interviewer_id
    others = [new_clients(api) for _ in range(8)]

    def book(other: Clients) -> Any:
        return clients.recruiter.post(
            "/api/sessions", json=other.new_session(scheduled_start=start, interviewer_id=interviewer)
        )

    answers = all_at_once(book, others)
    [made] = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer.status_code != 201:
            assert refused(answer, 409, made, "booked")["session_id"] == made


def test_starting_without_a_schedule_names_the_current_conflict(clients: Clients, api: Api) -> None:
    other, third = new_clients(api), new_clients(api)
    a_session(third.people, interviewer_id=clients.people.interviewer_id)  # in two hours: not in the way
    busy = a_session(other.people, "in_progress", interviewer_id=clients.people.interviewer_id)
    invited = a_session(clients.people, "invited", scheduled_start=None, scheduled_end=None)
    answer = clients.candidate.post(f"/api/sessions/{invited}/status", json={"status": "in_progress"})
    assert refused(answer, 409, busy)["session_id"] == str(busy)


def test_rescheduling_needs_a_pending_and_deciding_a_finished_session(clients: Clients) -> None:
    path = f"/api/sessions/{a_session(clients.people)}"
    refused(clients.recruiter.patch(path, json={"decision": "advance"}), 409, "scheduled")
    names(clients.recruiter.patch(path, json={"scheduled_start": None}), "scheduled_start")
    names(clients.recruiter.patch(path, json={"invitation_expires_at": soon()}), "invitation_expires_at")
    names(clients.recruiter.patch(path, json={"reason": "none"}), "body")
    json_body(clients.candidate.post(f"{path}/status", json={"status": "cancelled", "reason": "ill"}))
    refused(clients.recruiter.patch(path, json={"scheduled_start": soon()}), 409, "cancelled")
    decided = json_body(clients.recruiter.patch(path, json={"decision": "hold", "legal_hold": True}))
    assert (decided["decision"], decided["legal_hold"]) == ("hold", True)
    names(clients.recruiter.patch(path, json={"decision": "maybe"}), "decision")


def test_activity_answers_and_feedback(clients: Clients) -> None:
    session_id = a_session(clients.people)
    path, question = f"/api/sessions/{session_id}", clients.people.question_ids[0]
    refused(clients.candidate.post(f"{path}/activity"), 409, "scheduled")
    refused(clients.candidate.post(f"{path}/answers", json={"question_id": question, "text": "x"}), 409, "scheduled")
    refused(clients.interviewer.post(f"{path}/feedback", json={"recommendation": "yes"}), 409, "scheduled")
    json_body(clients.candidate.post(f"{path}/status", json={"status": "in_progress"}))
    for role in ("interviewer", "recruiter", "admin"):
        refused(clients.by(role).post(f"{path}/activity"), 403, role)
    for _ in range(3):
        assert clients.candidate.post(f"{path}/activity").status_code == 204
    assert len(pushed(session_id, "session.updated")) == 1
    for role in ("recruiter", "admin"):
        refused(clients.by(role).post(f"{path}/answers", json={"question_id": question, "score": 1}), 403, role)
    refused(clients.candidate.post(f"{path}/answers", json={"question_id": question, "score": 5}), 403)
    refused(clients.candidate.post(f"{path}/answers", json={"question_id": question, "source": "human"}), 403)
    json_body(
        clients.candidate.post(f"{path}/answers", json={"question_id": question, "text": "so", "seconds": 3}), 201
    )
    json_body(
        clients.interviewer.post(f"{path}/answers", json={"answers": [{"question_id": question, "score": 4}]}), 201
    )
    strange, most = (
        new_clients(clients.api, questions=1).people.question_ids[0],
        {"question_id": question, "score": 5.01},
    )
    names(clients.interviewer.post(f"{path}/answers", json={"question_id": strange}), "answers.0.question_id")
    names(clients.interviewer.post(f"{path}/answers", json={"answers": [most]}), "answers.0.score")
    names(clients.interviewer.post(f"{path}/answers", json={"answers": []}), "answers")
    for bad in (-1, "NaN", 1e9, 0.001):
        names(clients.interviewer.post(f"{path}/answers", json=most | {"score": bad}), "answers.0.score")
    assert json_body(clients.interviewer.post(f"{path}/status", json={"status": "completed"}))["score"] == 80
    for role in ("candidate", "recruiter", "admin"):
        refused(clients.by(role).post(f"{path}/feedback", json={"recommendation": "yes"}), 403, role)
    names(clients.interviewer.post(f"{path}/feedback", json={"recommendation": "perhaps"}), "recommendation")
    json_body(clients.interviewer.post(f"{path}/feedback", json={"recommendation": "strong_yes", "comment": "!"}), 201)
    json_body(clients.recruiter.patch(path, json={"decision": "advance"}))
    shown = {
        role: [event["kind"] for event in json_body(clients.by(role).get(f"{path}/events"))["items"]]
        for role in clients.people.ids
    }
    assert shown["candidate"] == ["moved", "moved"]
    assert shown["interviewer"] == shown["admin"] == ["moved", "moved", "feedback", "updated"]
    refused(new_clients(clients.api).candidate.get(f"{path}/events"), 404)
