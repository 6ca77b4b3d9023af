"""Users, candidates and interviews over HTTP: who may, what is taken, what is refused and why."""

import itertools
from typing import Any

import pytest
from sqlalchemy import func, select

from core.db import transaction
from core.models import Answer, Candidate
from tests.support import factories as make
from tests.support.http import Clients, all_at_once, json_body, names, new_clients, refused
from tests.support.processes import Api

_number = itertools.count(1)


@pytest.fixture
def clients(api: Api) -> Clients:
    return new_clients(api)


def person(**more: Any) -> dict[str, Any]:
    return {"email": f"new{next(_number)}@example.com", "name": "Nadja Neu", **more}


def a_user(role: str = "interviewer", **more: Any) -> dict[str, Any]:
    return person(role=role, **more)


def test_only_staff_read_and_create_people_and_interviews(clients: Clients) -> None:
    made = {"users": a_user(), "candidates": person(), "interviews": {"title": "T", "position": "P"}}
    for noun, body in made.items():
        for role in ("interviewer", "candidate"):
            refused(clients.by(role).get(f"/api/{noun}"), 403, role)
            refused(clients.by(role).get(f"/api/{noun}/1"), 403, role)
            refused(clients.by(role).post(f"/api/{noun}", json=body), 403, role)
            refused(
                clients.by(role).patch(f"/api/{noun}/1", json={"title" if noun == "interviews" else "name": "x"}), 403
            )
        new = json_body(clients.recruiter.post(f"/api/{noun}", json=body), 201)
        assert {name: new[name] for name in body} == body
        assert json_body(clients.recruiter.get(f"/api/{noun}/{new['id']}")) == new
        refused(clients.recruiter.get(f"/api/{noun}/{2**62}"), 404, noun[:-1], 2**62)
        refused(
            clients.recruiter.patch(f"/api/{noun}/{2**62}", json={"name": "x"} if "name" in new else {"title": "x"}),
            404,
        )


def test_recruiters_cannot_create_staff(clients: Clients) -> None:
    for role in ("admin", "recruiter"):
        refused(clients.recruiter.post("/api/users", json=a_user(role)), 403, role)
        refused(clients.recruiter.patch(f"/api/users/{clients.people.ids[role]}", json={"name": "x"}), 403, role)
        refused(clients.recruiter.patch(f"/api/users/{clients.people.interviewer_id}", json={"role": role}), 403, role)
        json_body(clients.admin.post("/api/users", json=a_user(role)), 201)
    json_body(clients.recruiter.post("/api/users", json=a_user("candidate")), 201)


def test_a_taken_address_names_its_owner(clients: Clients) -> None:
    for noun, body in (("users", a_user), ("candidates", person)):
        first = json_body(clients.admin.post(f"/api/{noun}", json=body()), 201)
        second = json_body(clients.admin.post(f"/api/{noun}", json=body()), 201)
        for taken in (first["email"], first["email"].upper()):
            again = clients.admin.post(f"/api/{noun}", json=body() | {"email": taken})
            assert refused(again, 409, first["id"])[f"{noun[:-1]}_id"] == first["id"]
            change = clients.admin.patch(f"/api/{noun}/{second['id']}", json={"email": taken})
            assert refused(change, 409, first["id"])[f"{noun[:-1]}_id"] == first["id"]
        json_body(clients.admin.patch(f"/api/{noun}/{first['id']}", json={"email": first["email"].upper()}))


def test_concurrent_creates_with_one_address_make_one_user(clients: Clients) -> None:
    body = a_user(email=f"ÄRGER{next(_number)}@EXAMPLE.com")
    answers = all_at_once(lambda _: clients.admin.post("/api/users", json=body), range(8))
    made = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert len(made) == 1
    for answer in answers:
        if answer.status_code != 201:
            assert refused(answer, 409)["user_id"] == made[0]


def test_a_user_belongs_to_at_most_one_candidate(clients: Clients) -> None:
    user = clients.people.ids["candidate"]
    other = json_body(clients.recruiter.post("/api/candidates", json=person()), 201)
    for answer in (
        clients.recruiter.post("/api/candidates", json=person(user_id=user)),
        clients.recruiter.patch(f"/api/candidates/{other['id']}", json={"user_id": user}),
    ):
        assert refused(answer, 409, user)["candidate_id"] == clients.people.candidate_id
    names(clients.recruiter.post("/api/candidates", json=person(user_id=clients.people.interviewer_id)), "user_id")
    names(clients.recruiter.post("/api/candidates", json=person(user_id=2**62)), "user_id")


def test_a_patch_updates_only_the_fields_it_names(clients: Clients) -> None:
    made = json_body(clients.recruiter.post("/api/candidates", json=person(source="fair")), 201)
    path = f"/api/candidates/{made['id']}"
    changed = json_body(clients.recruiter.patch(path, json={"source": None, "hired_at": "2026-03-01T12:00:00+02:00"}))
    assert changed == made | {"source": None, "hired_at": "2026-03-01T10:00:00Z"}
    assert json_body(clients.recruiter.get(path)) == changed
    names(clients.recruiter.patch(path, json={}), "body")
    names(clients.recruiter.patch(path, json={"name": None}), "name")
    names(clients.recruiter.patch(path, json={"created_at": "2026-03-01T12:00:00Z"}), "created_at")


def test_quiet_hours_have_start_and_stop_in_the_users_zone(clients: Clients) -> None:
    quiet = {"quiet_from": "22:00:00", "quiet_until": "07:00:00"}
    made = json_body(clients.recruiter.post("/api/users", json=a_user(**quiet)), 201)
    assert made["quiet_from"] == "22:00:00"
    path = f"/api/users/{made['id']}"
    names(clients.recruiter.patch(path, json={"quiet_from": None}), "quiet_from")
    names(clients.recruiter.patch(path, json={"quiet_until": None}), "quiet_until")
    names(clients.recruiter.patch(path, json=quiet | {"quiet_until": "07:00:00+02:00"}), "quiet_until")
    assert json_body(clients.recruiter.patch(path, json=dict.fromkeys(quiet)))["quiet_from"] is None


def test_an_interview_contains_its_questions(clients: Clients) -> None:
    questions = [{"text": f"{n}?", "skill": "SQL", "weight": 1.5, "max_score": 10} for n in range(3)]
    body = {"title": "T", "position": "P", "reminder_offsets": [60, 1440, 60], "questions": questions}
    made = json_body(clients.recruiter.post("/api/interviews", json=body), 201)
    assert made["reminder_offsets"] == [1440, 60]
    assert [(q["ordinal"], q["text"], q["weight"]) for q in made["questions"]] == [
        (n + 1, f"{n}?", 1.5) for n in range(3)
    ]
    path = f"/api/interviews/{made['id']}"
    first, second, third = made["questions"]
    given = ("id", "text", "skill", "required", "weight", "max_score")
    swapped = [{name: q[name] for name in given} for q in (third, first)]
    new = {"text": "new?", "skill": "Go"}
    changed = json_body(clients.recruiter.patch(path, json={"questions": [swapped[0], new, swapped[1]]}))
    assert [q["text"] for q in changed["questions"]] == ["2?", "new?", "0?"]
    assert [changed["questions"][n]["id"] for n in (0, 2)] == [third["id"], first["id"]]
    names(clients.recruiter.patch(path, json={"questions": [new | {"id": second["id"]}]}), "questions.0.id")
    names(clients.recruiter.patch(path, json={"questions": [swapped[0], swapped[0]]}), "questions.0.id")
    names(clients.recruiter.post("/api/interviews", json=body | {"questions": swapped}), "questions.0.id")
    assert json_body(clients.recruiter.get(path)) == changed


def test_a_question_with_answers_cannot_be_removed(api: Api) -> None:
    clients = new_clients(api, questions=2)
    with transaction() as db:
        session_id = make.session(db, now=make.datetime.now().astimezone(), people=clients.people, status="in_progress")
    answer = {"question_id": clients.people.question_ids[0], "text": "so"}
    json_body(clients.candidate.post(f"/api/sessions/{session_id}/answers", json=answer), 201)
    path = f"/api/interviews/{clients.people.interview_id}"
    kept = json_body(clients.recruiter.get(path))
    refused(clients.recruiter.patch(path, json={"questions": [], "title": "without"}), 409, "answers")
    assert json_body(clients.recruiter.get(path)) == kept
    with transaction() as db:
        assert db.scalar(select(func.count()).where(Answer.question_id == answer["question_id"])) == 1


def test_lists_page_by_id_and_filter_by_role(clients: Clients) -> None:
    wanted = sorted(json_body(clients.admin.post("/api/users", json=a_user()), 201)["id"] for _ in range(7))
    seen: list[int] = []
    cursor: dict[str, Any] = {}
    while True:
        page = json_body(clients.admin.get("/api/users", params={"limit": 3, "role": "interviewer", **cursor}))
        assert len(page["items"]) <= 3
        assert {user["role"] for user in page["items"]} <= {"interviewer"}
        seen += [user["id"] for user in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
        json_body(clients.admin.post("/api/users", json=a_user("candidate")), 201)
    assert seen == sorted(set(seen))
    assert set(wanted) <= set(seen)
    names(clients.admin.get("/api/users", params={"role": "king"}), "role")


def test_every_list_has_the_last_push_id(clients: Clients) -> None:
    for noun in ("users", "candidates", "interviews", "sessions"):
        answer = clients.recruiter.get(f"/api/{noun}", params={"limit": 1})
        assert answer.headers["last-id"] == str(json_body(answer)["last_id"])
    before = json_body(clients.recruiter.get("/api/users"))["last_id"]
    json_body(clients.recruiter.post("/api/sessions", json=clients.new_session()), 201)
    assert json_body(clients.recruiter.get("/api/users"))["last_id"] > before


def test_deleting_a_person_frees_their_address(clients: Clients) -> None:
    made = json_body(clients.recruiter.post("/api/candidates", json=person()), 201)
    with transaction() as db:
        db.get_one(Candidate, made["id"]).deleted_at = make.datetime.now().astimezone()
    refused(clients.recruiter.get(f"/api/candidates/{made['id']}"), 404)
    names(clients.recruiter.post("/api/sessions", json=clients.new_session(candidate_id=made["id"])), "candidate_id")
    json_body(clients.recruiter.post("/api/candidates", json=person(email=made["email"])), 201)
