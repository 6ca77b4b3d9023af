"""Live updates to unmodified @stomp/stompjs clients: by HTTP, by /app, with who may see what."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core import sessions
from core.clock import utcnow
from core.db import transaction
from tests.support import factories as make
from tests.support.processes import Api, JsClient, eventually, token


@pytest.fixture
def people(api: Api) -> make.People:
    """People of this test's own."""
    with transaction() as db:
        return make.people(db)


@pytest.fixture
def scheduled(people: make.People) -> UUID:
    """A session of theirs, in two hours."""
    with transaction() as db:
        return make.session(db, now=datetime.now(UTC), people=people)


@pytest.fixture
def client(js_clients: Path) -> Iterator[JsClient]:
    """One @stomp/stompjs client."""
    with JsClient(js_clients) as opened:
        yield opened


@pytest.fixture
def another(js_clients: Path) -> Iterator[JsClient]:
    """A second one."""
    with JsClient(js_clients) as opened:
        yield opened


def test_connected_has_the_headers_of_the_contract(api: Api, client: JsClient, people: make.People) -> None:
    headers = client.connect(api.ws, token(people.ids["recruiter"]))["headers"]
    assert headers["version"] == "1.2"
    assert headers["heart-beat"] == "10000,10000"
    assert headers["user-name"] == str(people.ids["recruiter"])
    assert headers["server"].startswith("greenroom/")


def test_a_move_by_http_reaches_both_topics(api: Api, client: JsClient, people: make.People, scheduled: UUID) -> None:
    client.connect(api.ws, token(people.ids["recruiter"]))
    client.subscribe("one", f"/topic/session/{scheduled}")
    client.subscribe("all", "/topic/sessions")
    answer = api.as_user(people.ids["candidate"]).post(
        f"/api/sessions/{scheduled}/status", json={"status": "in_progress"}
    )
    assert answer.status_code == 200, answer.text
    for subscription, destination in (("one", f"/topic/session/{scheduled}"), ("all", "/topic/sessions")):
        message = client.wait("message", subscription=subscription)
        body, headers = message["body"], message["headers"]
        assert headers["destination"] == body["destination"] == destination
        assert headers["message-id"] == str(body["id"])
        assert headers["content-type"] == "application/json"
        assert body["type"] == "session.moved"
        assert body["at"].endswith("Z")
        assert body["data"]["session_id"] == str(scheduled)
        assert (body["data"]["previous"], body["data"]["status"]) == ("scheduled", "in_progress")
        assert body["data"]["by"] == "candidate"


def test_a_move_over_stomp_acts_as_the_signed_in_user(
    api: Api, client: JsClient, another: JsClient, people: make.People, scheduled: UUID
) -> None:
    another.connect(api.ws, token(people.ids["interviewer"]))
    another.subscribe("s", f"/topic/session/{scheduled}")
    client.connect(api.ws, token(people.ids["candidate"]))
    client.subscribe("s", f"/topic/session/{scheduled}")
    update = {"status": "in_progress", "reason": "here I am", "activity": True}
    client.do("send", destination=f"/app/session/{scheduled}/update", body=update, headers={"receipt": "r1"})
    for watching in (client, another):
        body = watching.next("s")
        assert body["data"]["status"] == "in_progress"
        assert body["data"]["reason"] == "here I am"
    with transaction() as db:
        row = sessions.get(db, scheduled, by=people.viewer("admin"))
        assert row.status == "in_progress"
        assert row.last_activity_at is not None


@pytest.mark.parametrize(
    ("role", "update", "status", "expected"),
    [
        ("candidate", {"status": "expired"}, 409, "scheduled to expired"),
        ("candidate", {"status": "no_show"}, 403, "you are candidate"),
        ("recruiter", {"status": "flying"}, 422, "status"),
        ("recruiter", {"speed": 9}, 422, "speed"),
        ("recruiter", {}, 422, "status"),
        ("recruiter", ["not", "an", "object"], 422, "body"),
    ],
)
def test_a_refused_update_keeps_the_connection(
    api: Api,
    client: JsClient,
    people: make.People,
    scheduled: UUID,
    role: str,
    update: object,
    status: int,
    expected: str,
) -> None:
    client.connect(api.ws, token(people.ids[role]))
    client.subscribe("problems", "/user/queue/errors")
    client.do("send", destination=f"/app/session/{scheduled}/update", body=update, headers={"receipt": "r7"})
    body = client.next("problems")
    assert body["type"] == "error"
    assert body["destination"] == "/user/queue/errors"
    assert body["data"]["status"] == status
    assert body["data"]["request"] == "r7"
    assert expected in str(body["data"])
    client.wait("receipt", id="r7")
    client.subscribe("still-here", "/topic/notifications")


def test_an_unknown_app_destination_is_reported_as_an_error(api: Api, client: JsClient, people: make.People) -> None:
    client.connect(api.ws, token(people.ids["recruiter"]))
    client.subscribe("problems", "/user/queue/errors")
    client.do("send", destination=f"/app/session/{uuid4()}/update", body={"status": "cancelled"}, headers={})
    assert client.next("problems")["data"]["status"] == 404
    client.do("send", destination="/app/nowhere", body={}, headers={})
    assert client.next("problems")["data"]["status"] == 404


@pytest.mark.parametrize(
    ("role", "destination"),
    [
        ("candidate", "/topic/sessions"),
        ("interviewer", "/topic/sessions"),
        ("candidate", "/topic/flows"),
        ("interviewer", "/topic/flows"),
        ("admin", "/user/1/queue/notifications"),
        ("admin", "/internal/accounts"),
        ("admin", "/topic/*"),
        ("admin", "/topic/nothing"),
        ("recruiter", "/topic/session/not-a-session"),
        ("recruiter", "/topic/session/00000000-0000-4000-8000-000000000000"),
    ],
)
def test_what_is_forbidden_gets_error_and_4403(
    api: Api, client: JsClient, people: make.People, role: str, destination: str
) -> None:
    client.connect(api.ws, token(people.ids[role]))
    client.do("subscribe", id="x", destination=destination, headers={})
    assert client.wait("error")["headers"]["receipt-id"].startswith("subscribed-x")
    assert client.wait("closed")["code"] == 4403


def test_only_participants_and_staff_subscribe_to_a_session(
    api: Api, js_clients: Path, people: make.People, scheduled: UUID
) -> None:
    with transaction() as db:
        strangers = make.people(db)
    for who, allowed in (
        (people.ids["candidate"], True),
        (people.ids["interviewer"], True),
        (strangers.ids["recruiter"], True),
        (strangers.ids["admin"], True),
        (strangers.ids["candidate"], False),
        (strangers.ids["interviewer"], False),
    ):
        with JsClient(js_clients) as client:
            client.connect(api.ws, token(who))
            client.do("subscribe", id="s", destination=f"/topic/session/{scheduled}", headers={})
            if allowed:
                client.wait("subscribed", id="s")
            else:
                assert client.wait("closed")["code"] == 4403


@pytest.mark.parametrize("destination", ["/topic/sessions", "/queue/notifications", "/user/4/queue/notifications"])
def test_clients_do_not_send_to_topics(api: Api, client: JsClient, people: make.People, destination: str) -> None:
    client.connect(api.ws, token(people.ids["admin"]))
    client.do("send", destination=destination, body={"fake": True}, headers={})
    assert "refused" in client.wait("error")["headers"]["message"]
    assert client.wait("closed")["code"] == 4403


def test_user_queues_and_the_alias_deliver_only_ones_own(
    api: Api, client: JsClient, another: JsClient, people: make.People
) -> None:
    client.connect(api.ws, token(people.ids["interviewer"]))
    client.subscribe("q", "/user/queue/notifications")
    client.subscribe("alias", "/queue/notifications")
    another.connect(api.ws, token(people.ids["candidate"]))
    another.subscribe("q", "/user/queue/notifications")
    with transaction() as db:
        other = make.people(db)
    given = {
        "candidate_id": other.candidate_id,
        "interview_id": people.interview_id,
        "interviewer_id": people.interviewer_id,
        "scheduled_start": (utcnow() + timedelta(days=2)).isoformat(),
    }
    answer = api.as_user(people.ids["recruiter"]).post("/api/sessions", json=given)
    assert answer.status_code == 201, answer.text
    for subscription, destination in (("q", "/user/queue/notifications"), ("alias", "/queue/notifications")):
        message = client.wait("message", subscription=subscription)
        assert message["headers"]["destination"] == destination
        assert message["body"]["type"] == "notification.created"
        assert message["body"]["destination"] == "/user/queue/notifications"
        assert message["body"]["data"]["user_id"] == people.interviewer_id
    another.subscribe("after", "/topic/notifications")
    assert another.bodies("q") == []


def test_a_role_broadcast_reaches_that_role_only(
    api: Api, client: JsClient, another: JsClient, people: make.People, scheduled: UUID
) -> None:
    client.connect(api.ws, token(people.ids["recruiter"]))
    another.connect(api.ws, token(people.ids["candidate"]))
    for one in (client, another):
        one.subscribe("b", "/topic/notifications")
    another.subscribe("s", f"/topic/session/{scheduled}")
    cancelled = api.as_user(people.ids["recruiter"]).post(
        f"/api/sessions/{scheduled}/status", json={"status": "cancelled"}
    )
    assert cancelled.status_code == 200, cancelled.text
    body = client.next("b")
    assert body["data"]["role"] == "recruiter"
    assert another.next("s")["id"] < body["id"]
    answer = api.as_user(people.ids["recruiter"]).get("/api/sessions")
    assert answer.json()["last_id"] >= body["id"]
    assert another.bodies("b") == []


def test_raising_the_token_version_closes_the_sockets(
    api: Api, client: JsClient, another: JsClient, people: make.People
) -> None:
    client.connect(api.ws, token(people.ids["interviewer"]))
    another.connect(api.ws, token(people.ids["candidate"]))
    admin = api.as_user(people.ids["admin"])
    user = f"/api/users/{people.ids['interviewer']}"
    assert admin.patch(user, json={"token_version": 2}).status_code == 200
    assert client.wait("closed")["code"] == 4401
    assert admin.patch(f"/api/users/{people.ids['candidate']}", json={"role": "interviewer"}).status_code == 200
    assert another.wait("closed")["code"] == 4401


def test_an_expired_token_closes_the_connection_unless_renewed(
    api: Api, client: JsClient, another: JsClient, people: make.People
) -> None:
    short = token(people.ids["recruiter"], lifetime=timedelta(seconds=3))
    client.connect(api.ws, short)
    another.connect(api.ws, short)
    another.subscribe("problems", "/user/queue/errors")
    fresh = {"token": token(people.ids["recruiter"])}
    another.do("send", destination="/app/token", body=fresh, headers={"receipt": "renewed"})
    another.wait("receipt", id="renewed")
    assert client.wait("error")["headers"]["message"] == "token expired"
    assert client.wait("closed")["code"] == 4401
    another.subscribe("still-here", "/topic/sessions")
    assert another.bodies("problems") == []


@pytest.mark.parametrize(
    ("bearer", "expected"),
    [("", "needs a token"), ("Bearer x.y.z", "not valid"), ("Basic abc", "needs a token")],
)
def test_no_token_no_connection(api: Api, client: JsClient, bearer: str, expected: str) -> None:
    client.do("connect", url=api.ws, headers={"Authorization": bearer} if bearer else {})
    assert expected in client.wait("error")["headers"]["message"]
    assert client.wait("closed")["code"] == 4401


def test_tokens_never_reach_the_log(api: Api, client: JsClient, people: make.People) -> None:
    good = token(people.ids["recruiter"])
    client.connect(api.ws, good)
    api.as_user(people.ids["recruiter"]).get("/api/sessions")
    client.do("send", destination="/app/token", body={"token": good + "x"}, headers={"receipt": "done"})
    client.wait("receipt", id="done")
    assert good.split(".")[2] not in api.log.read_text()


def test_nothing_is_delivered_after_unsubscribe(
    api: Api, client: JsClient, people: make.People, scheduled: UUID
) -> None:
    client.connect(api.ws, token(people.ids["recruiter"]))
    client.subscribe("gone", f"/topic/session/{scheduled}")
    client.subscribe("kept", f"/topic/session/{scheduled}")
    client.do("unsubscribe", id="gone")
    client.subscribe("mark", "/topic/notifications")
    api.as_user(people.ids["candidate"]).post(f"/api/sessions/{scheduled}/status", json={"status": "in_progress"})
    client.next("kept")
    assert client.bodies("gone") == []
    client.do("disconnect")
    client.wait("disconnected")


def test_one_batch_over_several_destinations_comes_in_order(api: Api, client: JsClient, people: make.People) -> None:
    """Many sessions moved in many transactions: each connection gets one rising sequence over its subscriptions."""
    now = datetime.now(UTC)
    with transaction() as db:
        watched = [make.session(db, now=now, people=make.people(db)) for _ in range(5)]
    client.connect(api.ws, token(people.ids["recruiter"]))
    client.subscribe("all", "/topic/sessions")
    for number, session_id in enumerate(watched):
        client.subscribe(f"s{number}", f"/topic/session/{session_id}")
    client.subscribe("b", "/topic/notifications")
    recruiter = people.viewer("recruiter")
    for hours in range(1, 6):
        with transaction() as db:
            for session_id in watched:
                patch = sessions.SessionPatch(scheduled_start=now + timedelta(days=1, hours=2 * hours))
                sessions.change(db, session_id, patch, by=recruiter, now=now)
    with transaction() as db:
        sessions.move(db, watched[0], sessions.NewStatus(status="cancelled"), by=recruiter, now=now)
    client.wait("message", subscription="b", seconds=10)
    eventually_last = f"/topic/session/{watched[0]}"
    while client.bodies("b")[-1]["data"]["title"] != "Interview cancelled":
        client.wait("message", subscription="b")
    ids = [e["body"]["id"] for e in client.seen if e["event"] == "message"]
    assert ids == sorted(ids)
    assert len(ids) == len(set(ids))
    assert len(client.bodies("all")) == 5 * 5 + 1
    assert [b["destination"] for b in client.bodies("s0")] == [eventually_last] * 6


def test_a_lost_notify_delays_by_a_second_without_loss(
    api: Api, client: JsClient, people: make.People, scheduled: UUID
) -> None:
    """The relay's database connection is cut; what was committed while it was away still comes."""
    client.connect(api.ws, token(people.ids["recruiter"]))
    client.subscribe("s", f"/topic/session/{scheduled}")
    cut = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'greenroom relay'")
    with transaction() as db:
        assert db.execute(cut).scalars().all() == [True]
        sessions.move(
            db, scheduled, sessions.NewStatus(status="in_progress"), by=people.viewer("candidate"), now=utcnow()
        )
    assert client.next("s")["data"]["status"] == "in_progress"
    eventually(lambda: "being read again" in api.log.read_text(), "the relay said that it reads again")
