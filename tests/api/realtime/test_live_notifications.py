"""Notifications to real @stomp/stompjs clients of a real API: who gets what, and counts that agree with the table."""

import random
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from core.db import transaction
from tests.support.http import Clients, json_body, new_clients
from tests.support.processes import Api, JsClient, token

QUEUE, ALIAS, TOPIC = "/user/queue/notifications", "/queue/notifications", "/topic/notifications"


@pytest.fixture
def clients(api: Api) -> Clients:
    """People of this test's own, with clients."""
    return new_clients(api)


@dataclass
class Sockets:
    """Real clients, each a Node process of its own."""

    folder: Path
    api: Api
    stack: ExitStack = field(default_factory=ExitStack)

    def of(self, user_id: int, queue: str = QUEUE) -> JsClient:
        """A client of this user, subscribed to their notifications and to broadcasts."""
        client = self.stack.enter_context(JsClient(self.folder))
        client.connect(self.api.ws, token(user_id))
        client.subscribe("own", queue)
        client.subscribe("all", TOPIC)
        return client


@pytest.fixture
def sockets(api: Api, js_clients: Path) -> Iterator[Sockets]:
    """A maker of clients, which are closed after the test."""
    made = Sockets(js_clients, api)
    with made.stack:
        yield made


def write(clients: Clients, **given: Any) -> dict[str, Any]:
    """What the recruiter writes."""
    return json_body(clients.recruiter.post("/api/notifications", json={"title": "Hear, hear", **given}), 201)


def count(client: JsClient, unread: int) -> dict[str, Any]:
    """Wait for this count; gives the message."""
    while True:
        body = client.next("own")
        if body["type"] == "notification.unread" and body["data"]["unread"] == unread:
            return body


def test_a_users_notification_reaches_only_their_sockets(clients: Clients, sockets: Sockets) -> None:
    user = clients.people.ids["candidate"]
    both = [sockets.of(user), sockets.of(user, ALIAS)]
    other = sockets.of(clients.people.ids["interviewer"])
    made = write(clients, user_id=user, body="For you alone", data={"link": "/sessions/7"})
    created = [client.next("own") for client in both]
    assert created[0] == created[1]
    assert created[0]["type"] == "notification.created"
    assert created[0]["data"] == {
        name: made[name]
        for name in ("user_id", "role", "category", "title", "body", "data", "session_id", "expires_at")
    } | {"notification_id": made["id"], "delivered_at": made["delivered_at"].replace("+00:00", "Z")}
    assert [count(client, 1)["id"] for client in both] == [created[0]["id"] + 1] * 2
    # Reading it on one socket's behalf reaches both.
    json_body(clients.candidate.post(f"/api/notifications/{made['id']}/read"))
    for client in both:
        assert client.next("own")["data"]["notification_ids"] == [made["id"]]
        count(client, 0)
    # What comes later comes after: nothing of this ever reached the other.
    mark = write(clients, user_id=clients.people.ids["interviewer"])
    assert other.next("own")["data"]["notification_id"] == mark["id"]
    count(other, 1)
    assert {body["data"]["user_id"] for body in other.bodies("own")} == {clients.people.ids["interviewer"]}
    assert other.bodies("all") == []


def test_broadcasts_to_all_and_to_a_role(clients: Clients, sockets: Sockets) -> None:
    by_role = {role: sockets.of(clients.people.ids[role]) for role in ("recruiter", "interviewer", "candidate")}
    to_role = write(clients, role="interviewer")
    count(by_role["interviewer"], 1)
    to_all = write(clients)
    for role, client in by_role.items():
        expected = [to_role["id"], to_all["id"]] if role == "interviewer" else [to_all["id"]]
        count(client, len(expected))
        assert [body["data"]["notification_id"] for body in client.bodies("all")] == expected
        assert all(body["type"] == "notification.unread" for body in client.bodies("own"))
    # Taken back, it leaves everybody's inbox and count.
    assert clients.admin.delete(f"/api/notifications/{to_all['id']}").status_code == 204
    for role, client in by_role.items():
        count(client, role == "interviewer")
        assert client.bodies("all")[-1]["type"] == "notification.archived"


def test_resuming_from_an_unstored_count(clients: Clients, sockets: Sockets) -> None:
    client = sockets.of(clients.people.ids["candidate"])
    made = write(clients)
    body = count(client, 1)
    topic = client.bodies("all")
    assert topic[0]["data"]["notification_id"] == made["id"]
    # Its id is a row's that was routed before it, so that nothing is skipped by a client that resumes from it.
    assert body["id"] >= topic[0]["id"]
    with transaction() as db:
        stored = text("SELECT count(*) FROM push_events WHERE destination = :d AND type = 'notification.unread'")
        assert db.scalar(stored, {"d": f"/user/{clients.people.ids['candidate']}/queue/notifications"}) == 0


# -- a thousand random operations -----------------------------------------------------------------------------------

OPERATIONS, WORKERS = 1000, 8


def test_counts_agree_with_the_table_after_a_thousand_random_operations(clients: Clients, sockets: Sockets) -> None:
    """Several clients at once create, read and archive, for one and for all; everybody watches on two sockets."""
    roles = ("recruiter", "interviewer", "candidate")
    users = {clients.people.ids[role]: role for role in roles}
    watching = {user: [sockets.of(user, queue) for queue in (QUEUE, ALIAS)] for user in users}
    by_user = {user: clients.by(role) for user, role in users.items()}
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown when the test fails

    def work(worker: int) -> None:
        chance = random.Random(seed + worker)
        for _ in range(OPERATIONS // WORKERS):
            user = chance.choice(list(users))
            what = chance.choices(("own", "role", "all", "read", "archive", "read-all"), (20, 7, 5, 40, 26, 2))[0]
            if what in ("own", "role", "all"):
                to = {"own": {"user_id": user}, "role": {"role": users[user]}, "all": {}}[what]
                write(clients, **to)
            elif what == "read-all":
                json_body(by_user[user].post("/api/notifications/read-all"))
            else:
                items = json_body(by_user[user].get("/api/notifications", params={"limit": 20}))["items"]
                if items:
                    json_body(by_user[user].post(f"/api/notifications/{chance.choice(items)['id']}/{what}"))

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))

    marks = {user: write(clients, user_id=user, title="The end")["id"] for user in users}
    table, histories = recounted(users), added_up(users)
    for user, both in watching.items():
        answer = json_body(by_user[user].get("/api/notifications/unread-count"))
        assert answer["unread"] == table[user] > 0
        assert histories[user][-1][1] == table[user]
        for client in both:
            while not any(body["data"].get("notification_id") == marks[user] for body in client.bodies("own")):
                client.wait("message", subscription="own")
            while unread(client)[-1]["data"]["unread"] != table[user]:
                client.wait("message", subscription="own")
            never_older(client, histories[user])
        changes = [[b for b in client.bodies("own") if b["type"] != "notification.unread"] for client in both]
        assert changes[0] == changes[1]


def unread(client: JsClient) -> list[dict[str, Any]]:
    return [body for body in client.bodies("own") if body["type"] == "notification.unread"]


def never_older(client: JsClient, history: list[tuple[int, int]]) -> None:
    """Every count that came was true at some point of the log up to its id, and at none before the one of the last."""
    at = 0
    for body in unread(client):
        # Places of the log at which this count holds, from the last count's on: each holds until the next.
        ends = [id_ for id_, _ in history[1:]] + [body["id"] + 1]
        holds = [
            max(at, since)
            for (since, number), end in zip(history, ends, strict=True)
            if number == body["data"]["unread"] and end > at and since <= body["id"]
        ]
        assert holds, f"{body} is older than what was said at {at}"
        at = holds[0]


def recounted(users: dict[int, str]) -> dict[int, int]:
    """What the tables say each has not read, row by row, without the query under test."""
    with transaction() as db:
        notifications = db.execute(text("SELECT id, user_id, role, status, delivered_at FROM notifications")).all()
        receipts = {
            (row.user_id, row.notification_id): row
            for row in db.execute(text("SELECT * FROM notification_receipts")).all()
        }
        came = dict(db.execute(text("SELECT id, created_at FROM users")).tuples().all())
    found: dict[int, int] = defaultdict(int)
    for user, role in users.items():
        for one in notifications:
            receipt = receipts.get((user, one.id))
            mine = one.user_id == user if one.user_id else one.role in (None, role) and one.delivered_at >= came[user]
            open_ = receipt is None or (receipt.read_at is None and receipt.archived_at is None)
            found[user] += one.status == "delivered" and mine and open_
    return found


def added_up(users: dict[int, str]) -> dict[int, list[tuple[int, int]]]:
    """What the log says each had not read after each of its ids; every count in it is what it adds up to there."""
    with transaction() as db:
        rows = db.execute(
            text("SELECT id, destination, audience, type, payload FROM push_events WHERE type LIKE 'notification.%'")
        )
        log = sorted(rows.all(), key=lambda row: row.id)
        came = dict(db.execute(text("SELECT id, created_at FROM users")).tuples().all())
    found = {}
    for user, role in users.items():
        open_: set[int] = set()
        history = [(0, 0)]
        for row in log:
            own = row.destination == f"/user/{user}/queue/notifications"
            if not own and (row.destination != TOPIC or row.audience not in (None, role)):
                continue
            data = row.payload
            if row.type == "notification.unread":
                assert data["unread"] == len(open_), (row.id, user)
            elif row.type == "notification.created":
                if datetime.fromisoformat(data["delivered_at"]) >= came[user]:
                    open_.add(data["notification_id"])
            else:
                open_ -= set(data["notification_ids"])
            history.append((row.id, len(open_)))
        found[user] = history
    return found
