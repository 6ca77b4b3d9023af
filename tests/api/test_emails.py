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
from tests.support.http import Asking, all_at_once, asking, done, names, refused
from tests.support.processes import Api
from tests.support.session_mails import EMAILS, own_words, queued


@pytest.fixture
def ask(api: Api) -> Asking:
    return asking(api)


def file(content: bytes = b"hi", name: str = "note.txt", type_: str = "text/plain") -> dict[str, str]:
    return {"filename": name, "content_type": type_, "content": base64.b64encode(content).decode()}


def a_session(ask: Asking, status: SessionStatus = "scheduled", **more: Any) -> UUID:
    with transaction() as db:
        return make.session(db, now=datetime.now(UTC), people=ask.people, status=status, **more)


def in_state(mail_id: str, **values: Any) -> None:
    with transaction() as db:
        db.execute(update(Email).where(Email.id == UUID(mail_id)).values(**values))


def test_ones_own_words(ask: Asking) -> None:
    body = own_words(html="<p>Good <b>day</b></p>", attachments=[file(), file(b"\x00\xff", "über.bin", "image/png")])
    mail = done(ask.recruiter.post(EMAILS, json=body), 202)
    assert (mail["status"], mail["kind"], mail["to_address"]) == ("queued", "generic", "ada@example.com")
    assert (mail["requested_by"], mail["on_demand"]) == (ask.people.ids["recruiter"], True)
    seen = done(ask.admin.get(f"{EMAILS}/{mail['id']}"))
    assert mail.items() <= seen.items()
    assert (seen["text_body"], seen["html_body"]) == ("Good day", "<p>Good <b>day</b></p>")
    assert seen["reply_to"] == done(ask.admin.get(f"/api/users/{ask.people.ids['recruiter']}"))["email"]
    assert [(a["filename"], a["content_type"], a["size"]) for a in seen["attachments"]] == [
        ("note.txt", "text/plain", 2),
        ("über.bin", "image/png", 2),
    ]
    with transaction() as db:
        files = select(EmailAttachment.content).where(EmailAttachment.email_id == UUID(mail["id"]))
        assert db.scalars(files.order_by(EmailAttachment.ordinal)).all() == [b"hi", b"\x00\xff"]


def test_who_may(ask: Asking, api: Api) -> None:
    mail_id = queued(ask)
    for role in ("interviewer", "candidate"):
        client = ask.by(role)
        refused(client.post(EMAILS, json=own_words()), 403, role)
        refused(client.get(EMAILS), 403)
        refused(client.get(f"{EMAILS}/{mail_id}"), 403)
        refused(client.post(f"{EMAILS}/{mail_id}/cancel"), 403)
        refused(client.post(f"{EMAILS}/{mail_id}/retry"), 403)
    refused(httpx.get(api.url + EMAILS, trust_env=False), 401)
    refused(ask.admin.get(f"{EMAILS}/{uuid4()}"), 404)
    refused(ask.admin.post(f"{EMAILS}/{uuid4()}/cancel"), 404)
    names(ask.admin.get(f"{EMAILS}/7"), "email_id")


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
def test_bad_input_is_named(ask: Asking, more: dict[str, Any], field: str) -> None:
    names(ask.recruiter.post(EMAILS, json=own_words(**more)), field)


@pytest.mark.parametrize(
    ("kind", "status", "recipient"),
    [
        ("invitation", "invited", "candidate"),
        ("invitation", "scheduled", "interviewer"),
        ("reminder", "scheduled", "candidate"),
        ("completion", "completed", "candidate"),
    ],
)
def test_what_a_session_tells_again(ask: Asking, kind: str, status: SessionStatus, recipient: str) -> None:
    session_id = a_session(
        ask, status, **({"scheduled_start": None, "scheduled_end": None} if status == "invited" else {})
    )
    body = {"kind": kind, "session_id": str(session_id), "recipient": recipient}
    first, again = (done(ask.recruiter.post(EMAILS, json=body), 202) for _ in range(2))
    assert first["id"] != again["id"]
    assert (first["kind"], first["session_id"], first["schedule_version"]) == (kind, str(session_id), 1)
    assert recipient in first["to_address"]
    assert (first["expires_at"] is None) == (kind == "completion")


def test_what_a_session_cannot_tell(ask: Asking) -> None:
    for kind, status in (("invitation", "cancelled"), ("reminder", "invited"), ("completion", "scheduled")):
        with transaction() as db:
            session_id = make.session(db, now=datetime.now(UTC), status=status)  # type: ignore[arg-type]
        body = {"kind": kind, "session_id": str(session_id)}
        refused(ask.recruiter.post(EMAILS, json=body), 409, session_id, status)
    begun = datetime.now(UTC) - timedelta(minutes=2)
    with transaction() as db:
        session_id = make.session(
            db, now=datetime.now(UTC), scheduled_start=begun, scheduled_end=begun + timedelta(hours=1)
        )
    refused(ask.recruiter.post(EMAILS, json={"kind": "reminder", "session_id": str(session_id)}), 409, "too late")
    refused(ask.recruiter.post(EMAILS, json={"kind": "invitation", "session_id": str(uuid4())}), 404)
    names(ask.recruiter.post(EMAILS, json={"kind": "invitation"}), "session_id")
    alone = a_session(ask, interviewer_id=None)
    body = {"kind": "invitation", "session_id": str(alone)}
    names(ask.recruiter.post(EMAILS, json=body | {"recipient": "interviewer"}), "recipient")
    names(ask.recruiter.post(EMAILS, json=body | {"to": "a@example.com"}), "to")


def test_a_repeated_request_queues_once(ask: Asking) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    answers = all_at_once(lambda _: ask.recruiter.post(EMAILS, json=own_words(), headers=headers), range(6))
    assert len({done(answer, 202)["id"] for answer in answers}) == 1
    names(ask.recruiter.post(EMAILS, json=own_words(subject="Other"), headers=headers), "Idempotency-Key")


def test_a_suppressed_address_is_told_to_who_asks(ask: Asking) -> None:
    with transaction() as db:
        suppress(db, "gone@example.com", reason="550 5.1.1 unknown", now=datetime.now(UTC))
    mail = done(ask.recruiter.post(EMAILS, json=own_words(to="Gone@example.com")), 202)
    assert (mail["status"], mail["last_error"]) == ("suppressed", "550 5.1.1 unknown")


def test_a_list(ask: Asking) -> None:
    session_id = a_session(ask)
    body = {"kind": "invitation", "session_id": str(session_id)}
    made = [done(ask.recruiter.post(EMAILS, json=body), 202)["id"] for _ in range(4)]
    in_state(made[1], status="dead")
    in_state(made[2], status="uncertain")
    where = {"session_id": str(session_id)}

    def listed(**more: Any) -> list[str]:
        return [mail["id"] for mail in done(ask.admin.get(EMAILS, params=where | more))["items"]]

    assert listed() == sorted(made, reverse=True)
    assert set(listed(status=["dead", "uncertain"])) == set(made[1:3])
    assert listed(kind="generic") == []
    first = done(ask.admin.get(EMAILS, params=where | {"limit": 3}))
    assert isinstance(first["last_id"], int)
    assert "text_body" not in first["items"][0]
    rest = done(ask.admin.get(EMAILS, params=where | {"limit": 3, "cursor": first["next"]}))
    assert [mail["id"] for page in (first, rest) for mail in page["items"]] == listed()
    assert rest["next"] is None
    names(ask.admin.get(EMAILS, params={"status": "lost"}), "status.0")
    names(ask.admin.get(EMAILS, params={"cursor": "x"}), "cursor")


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
def test_taking_one_back(ask: Asking, state: dict[str, Any], allowed: bool) -> None:
    mail_id = queued(ask)
    if state:
        in_state(mail_id, **state)
    answer = ask.recruiter.post(f"{EMAILS}/{mail_id}/cancel")
    if allowed:
        assert done(answer)["status"] == "cancelled"
    else:
        assert refused(answer, 409, state["status"])["old"] == state["status"]


@pytest.mark.parametrize("status", ["dead", "uncertain"])
def test_another_try(ask: Asking, status: str) -> None:
    mail_id, now = queued(ask), datetime.now(UTC)
    before = done(ask.recruiter.get(f"{EMAILS}/{mail_id}"))
    gone = {"status": status, "attempts": 6, "data_started_at": now, "retry_at": now, "last_error": "550 no"}
    in_state(mail_id, **gone)
    again = done(ask.recruiter.post(f"{EMAILS}/{mail_id}/retry"))
    assert (again["status"], again["attempts"], again["message_id"]) == ("queued", 0, before["message_id"])
    assert datetime.fromisoformat(again["due_at"]) >= now
    with transaction() as db:
        row = db.get_one(Email, UUID(mail_id))
        assert (row.data_started_at, row.retry_at, row.lease_owner) == (None, None, None)
    refused(ask.recruiter.post(f"{EMAILS}/{mail_id}/retry"), 409, "queued")


@pytest.mark.parametrize("status", ["queued", "sending", "sent", "suppressed", "cancelled", "expired"])
def test_no_other_try(ask: Asking, status: str) -> None:
    mail_id = queued(ask)
    in_state(mail_id, status=status)
    refused(ask.recruiter.post(f"{EMAILS}/{mail_id}/retry"), 409, status)


def test_too_late_for_another_try(ask: Asking) -> None:
    def refused_for(mail_id: str, word: str, **state: Any) -> None:
        in_state(mail_id, status="dead", **state)
        refused(ask.recruiter.post(f"{EMAILS}/{mail_id}/retry"), 409, word)

    refused_for(queued(ask), "expired", expires_at=datetime.now(UTC))
    refused_for(queued(ask), "kept", text_body=None)
    with transaction() as db:
        suppress(db, "later@example.com", reason="550 unknown", now=datetime.now(UTC))
    refused_for(queued(ask), "550 unknown", to_address="Later@example.com")
    session_id = a_session(ask)
    mail = done(ask.recruiter.post(EMAILS, json={"kind": "reminder", "session_id": str(session_id)}), 202)
    for values, word in (({"schedule_version": 2}, "rescheduled"), ({"status": "cancelled"}, "cancelled")):
        with transaction() as db:
            one = update(InterviewSession).where(InterviewSession.id == session_id)
            db.execute(one.values(schedule_version=1).values(**values))
        refused_for(mail["id"], word)


def test_admins_are_told_once_an_attempt(ask: Asking) -> None:
    mail_id = queued(ask)
    for attempts, status in ((1, "sent"), (1, "dead"), (1, "dead"), (2, "uncertain"), (3, "dead")):
        in_state(mail_id, status=status, attempts=attempts)
        with transaction() as db:
            notify_mail_trouble(db, db.get_one(Email, UUID(mail_id)), now=datetime.now(UTC))
    with transaction() as db:
        told = [one for one in make.pushed(db, "/topic/notifications") if mail_id in json.dumps(one)]
        assert [(one["role"], one["category"]) for one in told] == [
            ("admin", "mail_dead"),
            ("admin", "mail_uncertain"),
            ("admin", "mail_dead"),
        ]
        assert "ada@example.com" not in json.dumps(told)


def test_logs_have_ids_and_no_addresses(ask: Asking, api: Api) -> None:
    address = f"secret-{uuid4().hex}@example.com"
    queued(ask, to=address, text=f"words {address}")
    names(ask.recruiter.post(EMAILS, json=own_words(to=f"{address} x")), "to")
    assert address not in Path(api.log).read_text()


def test_ids_are_in_order_of_time() -> None:
    now = datetime.now(UTC)
    assert uuid7(now) < uuid7(now + timedelta(milliseconds=1))
