"""/metrics: what Prometheus reads is what happened."""

from datetime import UTC, datetime
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from core import emails
from core.clock import utcnow
from core.db import transaction
from tests import factories as make
from tests.parts import Api, JsClient, eventually, token


def measured(api: Api) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels."""
    answer = httpx.get(f"{api.url}/metrics", trust_env=False, timeout=20)
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_and_sockets_are_counted_without_what_people_wrote(api: Api, js_clients: Path) -> None:
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


def test_strangers_may_not_look(api: Api) -> None:
    answer = httpx.get(f"{api.url}/metrics", headers={"X-Forwarded-For": "203.0.113.7"}, trust_env=False)
    assert answer.status_code == 403
