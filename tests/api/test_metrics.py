"""/metrics: what Prometheus reads is what happened."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from core import emails
from core.clock import utcnow
from core.db import transaction
from core.emails.queue.suppressions import suppress
from core.events import SessionUpdated
from tests.support import factories as make
from tests.support import processes
from tests.support.processes import Api, Database, JsClient, PostgresServer, eventually, token
from tests.support.prometheus import Samples, measured
from tests.support.stomp_client import Client, flow_state, publish


def test_requests_and_sockets_are_counted_without_client_input(api: Api, js_clients: Path) -> None:
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=datetime.now(UTC), people=people)
    recruiter = api.as_user(people.ids["recruiter"])
    for _ in range(3):
        recruiter.get(f"/api/sessions/{session_id}")
    recruiter.get("/api/no-such/secret-word")
    with JsClient(js_clients) as client:
        client.connect(api.ws, token(people.ids["recruiter"]))
        client.subscribe("a", "/topic/sessions")
        client.subscribe("b", "/topic/notifications")
        now = measured(api)
    labels = (("method", "GET"), ("route", "/api/sessions/{session_id}"), ("status", "200"))
    assert now["greenroom_http_requests_total", labels] == 3
    assert now["greenroom_connections", ()] == 1
    assert now["greenroom_subscriptions", ()] == 2
    assert now["greenroom_relay_up", ()] == 1
    assert not any("secret-word" in value or str(session_id) in value for _, given in now for _, value in given)


def test_mail_is_counted_by_state_and_kind(api: Api) -> None:
    with transaction() as db:
        people = make.people(db)
        session_id = make.session(db, now=utcnow(), people=people)
        emails.queue_interview_invitation(db, session_id, now=utcnow())

    def queued() -> float:
        return sum(
            value
            for (name, labels), value in measured(api).items()
            if name.startswith("greenroom_mail") and ("status", "queued") in labels and ("kind", "invitation") in labels
        )

    eventually(lambda: queued() >= 1, "the queued invitation is counted")


@pytest.fixture
def own(database: str, tmp_path: Path) -> Iterator[Api]:
    """An API on a database of the test's own."""
    with processes.api_process(database, tmp_path) as running:
        yield running


def once(api: Api, true: Callable[[Samples], bool], what: str) -> Samples:
    """What is measured as soon as this is so: what the database says is some seconds old."""
    kept: Samples = {}

    def is_counted() -> bool:
        kept.clear()
        kept.update(measured(api))
        return true(kept)

    eventually(is_counted, what)
    return kept


def mails(samples: Samples) -> dict[tuple[str, str], float]:
    """How many mails there are, by status and kind, where there are any."""
    by = {tuple(value for _, value in labels): n for (name, labels), n in samples.items() if name == "greenroom_mails"}
    return {(status, kind): n for (kind, status), n in by.items() if n}


def test_metrics_agree_with_the_tables(own: Api, database: str, tmp_path: Path) -> None:
    """States, retries, delay, acceptance and suppression, exactly; and the same in another process."""
    now = utcnow()
    ago = now - timedelta(minutes=10)
    with transaction() as db:
        make.email(db, now=now, due_at=now - timedelta(seconds=100), created_at=now)
        make.email(db, now=now, due_at=now + timedelta(hours=1), attempts=3, kind="reminder", created_at=now)
        for seconds in (1, 2, 3, 4):
            make.email(db, now=now, status="sent", attempts=1, created_at=ago, sent_at=ago + timedelta(seconds=seconds))
        old = now - timedelta(hours=3)
        make.email(db, now=now, status="sent", attempts=2, created_at=old, sent_at=old + timedelta(hours=1))
        make.email(db, now=now, status="dead", attempts=6, created_at=now)
        make.email(db, now=now, status="uncertain", attempts=1, kind="report", created_at=now)
        make.email(db, now=now, status="suppressed", created_at=now)
        suppress(db, "gone@example.com", reason="unknown recipient", now=now)
    seen = once(own, lambda found: len(mails(found)) > 0, "the mails are counted")
    assert mails(seen) == {
        ("queued", "generic"): 1,
        ("queued", "reminder"): 1,
        ("sent", "generic"): 5,
        ("dead", "generic"): 1,
        ("uncertain", "report"): 1,
        ("suppressed", "generic"): 1,
    }
    assert seen["greenroom_mail_retries", (("kind", "generic"),)] == 6
    assert seen["greenroom_mail_retries", (("kind", "reminder"),)] == 2
    assert 100 <= seen["greenroom_mail_overdue_seconds", ()] < 100 + processes.PATIENCE
    assert seen["greenroom_mail_recently_accepted", ()] == 4
    took = {labels[0][1]: n for (name, labels), n in seen.items() if name == "greenroom_mail_accepted_seconds"}
    assert took == pytest.approx({"0.5": 2.5, "0.9": 3.7, "0.99": 3.97, "1": 4})
    assert seen["greenroom_mail_suppressed_addresses", ()] == 1
    (tmp_path / "other").mkdir()
    with processes.api_process(database, tmp_path / "other") as second:
        again = measured(second)
    shared = ("greenroom_mails", "greenroom_mail_retries", "greenroom_mail_accepted", "greenroom_push_newest")
    same = {key: n for key, n in seen.items() if key[0].startswith(shared)}
    assert len(same) > 60
    assert same.items() <= again.items()


def test_the_log_and_what_was_routed_of_it(own: Api) -> None:
    ids = [publish(flow_state()) for _ in range(5)]
    seen = once(own, lambda found: found.get(("greenroom_push_newest_id", ()), 0) >= ids[-1], "the newest id is seen")
    assert seen["greenroom_push_newest_id", ()] == ids[-1]
    caught_up = once(own, lambda found: found["greenroom_relay_routed_id", ()] == ids[-1], "all was routed")
    assert caught_up["greenroom_relay_up", ()] == 1
    once(own, lambda found: found["greenroom_relay_lag_seconds", ()] == 0, "nothing waits")


@contextmanager
def closed(server: PostgresServer, database: str) -> Iterator[None]:
    """Nobody can connect to this database, and who was is not any more."""
    name = database.rsplit("/", 1)[1]
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_metrics_without_the_database(own: Api, database: str, postgres: PostgresServer) -> None:
    assert measured(own)["greenroom_database_up", ()] == 1
    with closed(postgres, database):
        down = once(own, lambda found: found["greenroom_database_up", ()] == 0, "the database is missed")
        assert not any(name.startswith(("greenroom_mail", "greenroom_push")) for name, _ in down)
        assert down["process_resident_memory_bytes", ()] > 0
        once(own, lambda found: found["greenroom_relay_up", ()] == 0, "the relay cannot read")
    once(own, lambda found: found["greenroom_database_up", ()] == 1, "the database is back")
    once(own, lambda found: found["greenroom_relay_up", ()] == 1, "the relay reads again")


async def test_a_slow_consumer_that_is_closed_is_counted(shared_database: Database, tmp_path: Path) -> None:
    with transaction() as db:
        people = make.people(db)
        session = make.session(db, now=utcnow(), people=people)
    slow = ("greenroom_slow_consumers_closed_total", (("limit", "WS_QUEUE_BYTES"),))
    with processes.api_process(shared_database.url, tmp_path, WS_QUEUE_BYTES="100000") as api:
        assert measured(api)[slow] == 0
        async with await Client.open(api.ws, receive_buffer=4096) as client:
            await client.connect(token(people.ids["recruiter"]))
            await client.subscribe(f"/topic/session/{session}")
            for _ in range(10):
                publish(*[SessionUpdated(session_id=session, changed=("x" * 100_000,)) for _ in range(10)])
            seen = once(api, lambda found: found[slow] > 0, "the slow one is counted")
            assert seen[slow] == 1


def test_metrics_are_refused_to_other_machines(api: Api) -> None:
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        answer = httpx.get(f"{api.url}/metrics", headers={header: "203.0.113.7"}, trust_env=False)
        assert answer.status_code == 403


def test_metrics_are_public_with_the_setting(shared_database: Database, tmp_path: Path) -> None:
    with processes.api_process(shared_database.url, tmp_path, METRICS_PUBLIC="true") as api:
        answer = httpx.get(f"{api.url}/metrics", headers={"X-Forwarded-For": "203.0.113.7"}, trust_env=False)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")


def test_client_input_creates_no_series(api: Api) -> None:
    with httpx.Client(base_url=api.url, trust_env=False, timeout=20) as client:
        client.get("/health/live")
        before = {key for key in measured(api) if key[0].startswith("greenroom_http")}
        for number in range(50):
            client.get(f"/no/such/{number}")
            client.request(("PROPFIND", "MKCOL", "NOTIFY", "LOCK", "BIND")[number % 5], "/health/live")
            client.get(f"/unsubscribe/{number}")
        seen = measured(api)
    added = {key for key in seen if key[0].startswith("greenroom_http")} - before
    routes = {value for _, labels in added for name, value in labels if name == "route"}
    assert routes <= {"(none)", "/health/live", "/unsubscribe/{signed}", "/metrics"}
    assert len(added) < 80
    assert seen["greenroom_http_requests_total", labels_of("GET", "(none)", "404")] >= 50
    assert seen["greenroom_http_requests_total", labels_of("(other)", "/health/live", "405")] == 50
    assert seen["greenroom_http_request_seconds_count", labels_of("GET", "/unsubscribe/{signed}")] == 50


def labels_of(method: str, route: str, status: str | None = None) -> tuple[tuple[str, str], ...]:
    """The labels of a request, as samples have them."""
    return (("method", method), ("route", route), *((("status", status),) if status else ()))
