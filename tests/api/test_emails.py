"""Mails over HTTP: who may ask, what is refused and by which name, a full queue, another try, taking one back."""

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, update

from core.clock import uuid7
from core.db import transaction
from core.emails.queue.suppressions import suppress
from core.models import Email, EmailAttachment, InterviewSession, SessionStatus
from core.notifications.system import notify_mail_trouble
from tests.support import factories as make
from tests.support.http import Clients, all_at_once, json_body, names, new_clients, refused
from tests.support.processes import Api
from tests.support.session_mails import EMAILS, generic_mail, queued


@pytest.fixture
def clients(api: Api) -> Clients:
    return new_clients(api)


def file(content: bytes = b"hi", name: str = "note.txt", type_: str = "text/plain") -> dict[str, str]:
    return {"filename": name, "content_type": type_, "content": base64.b64encode(content).decode()}


def a_session(clients: Clients, status: SessionStatus = "scheduled", **more: Any) -> UUID:
    with transaction() as db:
        return make.session(db, now=datetime.now(UTC), people=clients.people, status=status, **more)


def in_state(mail_id: str, **values: Any) -> None:
    with transaction() as db:
        db.execute(update(Email).where(Email.id == UUID(mail_id)).values(**values))


def test_a_generic_mail(clients: Clients) -> None:
    body = generic_mail(html="<p>Good <b>day</b></p>", attachments=[file(), file(b"\x00\xff", "über.bin", "image/png")])
    mail = json_body(clients.recruiter.post(EMAILS, json=body), 202)
    assert (mail["status"], mail["kind"], mail["to_address"]) == ("queued", "generic", "ada@example.com")
    assert (mail["requested_by"], mail["on_demand"]) == (clients.people.ids["recruiter"], True)
    seen = json_body(clients.admin.get(f"{EMAILS}/{mail['id']}"))
    assert mail.items() <= seen.items()
    assert (seen["text_body"], seen["html_body"]) == ("Good day", "<p>Good <b>day</b></p>")
    assert seen["reply_to"] == json_body(clients.admin.get(f"/api/users/{clients.people.ids['recruiter']}"))["email"]
    assert [(a["filename"], a["content_type"], a["size"]) for a in seen["attachments"]] == [
        ("note.txt", "text/plain", 2),
        ("über.bin", "image/png", 2),
    ]
    with transaction() as db:
        files = select(EmailAttachment.content).where(EmailAttachment.email_id == UUID(mail["id"]))
        assert db.scalars(files.order_by(EmailAttachment.ordinal)).all() == [b"hi", b"\x00\xff"]


def test_who_may(clients: Clients, api: Api) -> None:
    mail_id = queued(clients)
    for role in ("interviewer", "candidate"):
        client = clients.by(role)
        refused(client.post(EMAILS, json=generic_mail()), 403, role)
        refused(client.get(EMAILS), 403)
        refused(client.get(f"{EMAILS}/{mail_id}"), 403)
        refused(client.post(f"{EMAILS}/{mail_id}/cancel"), 403)
        refused(client.post(f"{EMAILS}/{mail_id}/retry"), 403)
    refused(httpx.get(api.url + EMAILS, trust_env=False), 401)
    refused(clients.admin.get(f"{EMAILS}/{uuid4()}"), 404)
    refused(clients.admin.post(f"{EMAILS}/{uuid4()}/cancel"), 404)
    names(clients.admin.get(f"{EMAILS}/7"), "email_id")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"to": "nobody"}, "to"),
    ({"to": "a@b\r\nBcc: c@d"}, "to"),
    ({"to": "x@-.-"}, "to"),
    ({"to": None}, "to"),
    ({"subject": "a\r\nBcc: eve@example.com"}, "subject"),
    ({"subject": ""}, "subject"),
    ({"subject": None}, "subject"),
    ({"text": None}, "text"),
    ({"text": "a\x00b"}, "text"),
    ({"html": "\x00"}, "html"),
    ({"html": "x" * 200_001}, "html"),
    ({"kind": "cancellation"}, "kind"),
    ({"session_id": str(uuid4())}, "session_id"),
    ({"recipient": "candidate"}, "recipient"),
    ({"from": "boss@example.com"}, "from"),
    ({"attachments": [file() | {"content": "%%%"}]}, "attachments.0.content"),
    ({"attachments": [file() | {"content": "aGk"}]}, "attachments.0.content"),
    ({"attachments": [file(name="a\r\nb")]}, "attachments.0.filename"),
    ({"attachments": [file(type_="text/plain\r\nX: y")]}, "attachments.0.content_type"),
    ({"attachments": [file(type_="multipart/mixed")]}, "attachments.0.content_type"),
    ({"attachments": [file(type_="message/rfc822")]}, "attachments.0.content_type"),
    ({"attachments": [file()] * 21}, "attachments"),
    ({"attachments": [file(b"x" * 6_000_000)] * 2}, "attachments"),
]


@pytest.mark.parametrize(("more", "field"), BAD)
def test_bad_input_is_named(clients: Clients, more: dict[str, Any], field: str) -> None:
    names(clients.recruiter.post(EMAILS, json=generic_mail(**more)), field)


@pytest.mark.parametrize(
    ("kind", "status", "recipient"),
    [
        ("invitation", "invited", "candidate"),
        ("invitation", "scheduled", "interviewer"),
        ("reminder", "scheduled", "candidate"),
        ("completion", "completed", "candidate"),
    ],
)
def test_a_sessions_mail_is_queued_again(clients: Clients, kind: str, status: SessionStatus, recipient: str) -> None:
    session_id = a_session(
        clients, status, **({"scheduled_start": None, "scheduled_end": None} if status == "invited" else {})
    )
    body = {"kind": kind, "session_id": str(session_id), "recipient": recipient}
    first, again = (json_body(clients.recruiter.post(EMAILS, json=body), 202) for _ in range(2))
    assert first["id"] != again["id"]
    assert (first["kind"], first["session_id"], first["schedule_version"]) == (kind, str(session_id), 1)
    assert recipient in first["to_address"]
    assert (first["expires_at"] is None) == (kind == "completion")


def test_a_sessions_mail_that_is_not_possible_is_refused(clients: Clients) -> None:
    for kind, status in (("invitation", "cancelled"), ("reminder", "invited"), ("completion", "scheduled")):
        with transaction() as db:
            session_id = make.session(db, now=datetime.now(UTC), status=status)  # type: ignore[arg-type]
        body = {"kind": kind, "session_id": str(session_id)}
        refused(clients.recruiter.post(EMAILS, json=body), 409, session_id, status)
    begun = datetime.now(UTC) - timedelta(minutes=2)
    with transaction() as db:
        session_id = make.session(
            db, now=datetime.now(UTC), scheduled_start=begun, scheduled_end=begun + timedelta(hours=1)
        )
    refused(clients.recruiter.post(EMAILS, json={"kind": "reminder", "session_id": str(session_id)}), 409, "too late")
    refused(clients.recruiter.post(EMAILS, json={"kind": "invitation", "session_id": str(uuid4())}), 404)
    names(clients.recruiter.post(EMAILS, json={"kind": "invitation"}), "session_id")
    alone = a_session(clients, interviewer_id=None)
    body = {"kind": "invitation", "session_id": str(alone)}
    names(clients.recruiter.post(EMAILS, json=body | {"recipient": "interviewer"}), "recipient")
    names(clients.recruiter.post(EMAILS, json=body | {"to": "a@example.com"}), "to")


def test_a_repeated_request_queues_once(clients: Clients) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    answers = all_at_once(lambda _: clients.recruiter.post(EMAILS, json=generic_mail(), headers=headers), range(6))
    assert len({json_body(answer, 202)["id"] for answer in answers}) == 1
    names(clients.recruiter.post(EMAILS, json=generic_mail(subject="Other"), headers=headers), "Idempotency-Key")


def test_a_suppressed_address_is_refused_with_the_reason(clients: Clients) -> None:
    with transaction() as db:
        suppress(db, "gone@example.com", reason="550 5.1.1 unknown", now=datetime.now(UTC))
    mail = json_body(clients.recruiter.post(EMAILS, json=generic_mail(to="Gone@example.com")), 202)
    assert (mail["status"], mail["last_error"]) == ("suppressed", "550 5.1.1 unknown")


def test_a_list(clients: Clients) -> None:
    session_id = a_session(clients)
    body = {"kind": "invitation", "session_id": str(session_id)}
    made = [json_body(clients.recruiter.post(EMAILS, json=body), 202)["id"] for _ in range(4)]
    in_state(made[1], status="dead")
    in_state(made[2], status="uncertain")
    where = {"session_id": str(session_id)}

    def listed(**more: Any) -> list[str]:
        return [mail["id"] for mail in json_body(clients.admin.get(EMAILS, params=where | more))["items"]]

    assert listed() == sorted(made, reverse=True)
    assert set(listed(status=["dead", "uncertain"])) == set(made[1:3])
    assert listed(kind="generic") == []
    first = json_body(clients.admin.get(EMAILS, params=where | {"limit": 3}))
    assert isinstance(first["last_id"], int)
    assert "text_body" not in first["items"][0]
    rest = json_body(clients.admin.get(EMAILS, params=where | {"limit": 3, "cursor": first["next"]}))
    assert [mail["id"] for page in (first, rest) for mail in page["items"]] == listed()
    assert rest["next"] is None
    names(clients.admin.get(EMAILS, params={"status": "lost"}), "status.0")
    names(clients.admin.get(EMAILS, params={"cursor": "x"}), "cursor")


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        ({}, True),
        ({"status": "queued", "attempts": 2, "last_error": "451"}, True),
        ({"status": "sending", "lease_owner": "x"}, True),
        ({"status": "sending", "lease_owner": "x", "data_started_at": datetime.now(UTC)}, False),
        *(
            ({"status": status}, False)
            for status in ("sent", "uncertain", "dead", "suppressed", "cancelled", "expired")
        ),
    ],
)
def test_cancelling_a_mail(clients: Clients, state: dict[str, Any], allowed: bool) -> None:
    mail_id = queued(clients)
    if state:
        in_state(mail_id, **state)
    answer = clients.recruiter.post(f"{EMAILS}/{mail_id}/cancel")
    if allowed:
        assert json_body(answer)["status"] == "cancelled"
    else:
        assert refused(answer, 409, state["status"])["old"] == state["status"]


@pytest.mark.parametrize("status", ["dead", "uncertain"])
def test_retrying_a_mail(clients: Clients, status: str) -> None:
    mail_id, now = queued(clients), datetime.now(UTC)
    before = json_body(clients.recruiter.get(f"{EMAILS}/{mail_id}"))
    gone = {"status": status, "attempts": 6, "data_started_at": now, "retry_at": now, "last_error": "550 no"}
    in_state(mail_id, **gone)
    again = json_body(clients.recruiter.post(f"{EMAILS}/{mail_id}/retry"))
    assert (again["status"], again["attempts"], again["message_id"]) == ("queued", 0, before["message_id"])
    assert datetime.fromisoformat(again["due_at"]) >= now
    with transaction() as db:
        row = db.get_one(Email, UUID(mail_id))
        assert (row.data_started_at, row.retry_at, row.lease_owner) == (None, None, None)
    refused(clients.recruiter.post(f"{EMAILS}/{mail_id}/retry"), 409, "queued")


@pytest.mark.parametrize("status", ["queued", "sending", "sent", "suppressed", "cancelled", "expired"])
def test_which_mails_cannot_be_retried(clients: Clients, status: str) -> None:
    mail_id = queued(clients)
    in_state(mail_id, status=status)
    refused(clients.recruiter.post(f"{EMAILS}/{mail_id}/retry"), 409, status)


def test_an_expired_mail_cannot_be_retried(clients: Clients) -> None:
    def refused_for(mail_id: str, word: str, **state: Any) -> None:
        in_state(mail_id, status="dead", **state)
        refused(clients.recruiter.post(f"{EMAILS}/{mail_id}/retry"), 409, word)

    refused_for(queued(clients), "expired", expires_at=datetime.now(UTC))
    refused_for(queued(clients), "kept", text_body=None)
    with transaction() as db:
        suppress(db, "later@example.com", reason="550 unknown", now=datetime.now(UTC))
    refused_for(queued(clients), "550 unknown", to_address="Later@example.com")
    session_id = a_session(clients)
    mail = json_body(clients.recruiter.post(EMAILS, json={"kind": "reminder", "session_id": str(session_id)}), 202)
    for values, word in (({"schedule_version": 2}, "rescheduled"), ({"status": "cancelled"}, "cancelled")):
        with transaction() as db:
            one = update(InterviewSession).where(InterviewSession.id == session_id)
            db.execute(one.values(schedule_version=1).values(**values))
        refused_for(mail["id"], word)


def test_admins_are_notified_once_an_attempt(clients: Clients) -> None:
    mail_id = queued(clients)
    for attempts, status in ((1, "sent"), (1, "dead"), (1, "dead"), (2, "uncertain"), (3, "dead")):
        in_state(mail_id, status=status, attempts=attempts)
        with transaction() as db:
            notify_mail_trouble(db, db.get_one(Email, UUID(mail_id)), now=datetime.now(UTC))
    with transaction() as db:
        admins_notices = [one for one in make.pushed(db, "/topic/notifications") if mail_id in json.dumps(one)]
        assert [(one["role"], one["category"]) for one in admins_notices] == [
            ("admin", "mail_dead"),
            ("admin", "mail_uncertain"),
            ("admin", "mail_dead"),
        ]
        assert "ada@example.com" not in json.dumps(admins_notices)


def test_logs_have_ids_and_no_addresses(clients: Clients, api: Api) -> None:
    address = f"secret-{uuid4().hex}@example.com"
    queued(clients, to=address, text=f"words {address}")
    names(clients.recruiter.post(EMAILS, json=generic_mail(to=f"{address} x")), "to")
    assert address not in Path(api.log).read_text()


def test_ids_are_in_order_of_time() -> None:
    now = datetime.now(UTC)
    assert uuid7(now) < uuid7(now + timedelta(milliseconds=1))
