"""A full mail queue: exact when everybody asks at once, and in nobody's way but theirs who ask."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, update

from core.db import transaction
from core.emails.queue.enqueue import LONGEST_RETRY_AFTER
from core.emails.queue.suppressions import suppress
from core.models import Email
from tests.support.http import all_at_once, json_body, new_clients, refused, soon
from tests.support.processes import Api, Database, api_process
from tests.support.session_mails import EMAILS, generic_mail, queued


@pytest.fixture(autouse=True)
def nothing_waits(shared_database: Database) -> Iterator[None]:
    """A test's mails do not count for the next one's capacity."""
    yield
    with transaction() as db:
        db.execute(update(Email).where(Email.status == "queued").values(status="sent"))


CAPACITY = 5


@pytest.fixture(scope="module")
def small(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API whose mail queue is soon full."""
    folder = tmp_path_factory.mktemp("small")
    with api_process(shared_database.url, folder, EMAIL_QUEUE_CAPACITY=str(CAPACITY)) as running:
        yield running


def queued_mails() -> int:
    with transaction() as db:
        return db.scalar(select(func.count()).where(Email.status == "queued", Email.on_demand)) or 0


def test_a_full_queue_is_exact(small: Api) -> None:
    clients = new_clients(small)
    key = {"Idempotency-Key": uuid4().hex}
    first = json_body(clients.recruiter.post(EMAILS, json=generic_mail(), headers=key), 202)
    answers = all_at_once(lambda _: clients.recruiter.post(EMAILS, json=generic_mail()), range(16))
    assert sorted(answer.status_code for answer in answers) == [202] * (CAPACITY - 1) + [429] * (17 - CAPACITY)
    assert queued_mails() == CAPACITY
    for answer in answers:
        if answer.status_code == 429:
            refused(answer, 429, CAPACITY)
            assert 1 <= int(answer.headers["retry-after"]) <= LONGEST_RETRY_AFTER
    # a repeated request is answered as it was, and the system's own mails are never refused
    assert json_body(clients.recruiter.post(EMAILS, json=generic_mail(), headers=key), 202) == first
    made = json_body(
        clients.recruiter.post("/api/sessions", json=clients.new_session(scheduled_start=soon(days=1))), 201
    )
    with transaction() as db:
        assert db.scalar(select(func.count()).where(Email.session_id == UUID(made["id"]))) == 1
    # one that will not be sent takes no room, and one that left gives it
    with transaction() as db:
        suppress(db, "gone@example.org", reason="unknown", now=datetime.now(UTC))
    assert (
        json_body(clients.recruiter.post(EMAILS, json=generic_mail(to="gone@example.org")), 202)["status"]
        == "suppressed"
    )
    json_body(clients.recruiter.post(f"{EMAILS}/{first['id']}/cancel"))
    json_body(clients.recruiter.post(EMAILS, json=generic_mail()), 202)
    refused(clients.recruiter.post(EMAILS, json=generic_mail()), 429)


def test_retry_after_of_a_full_queue(small: Api) -> None:
    clients = new_clients(small)
    for _ in range(CAPACITY):
        queued(clients)
    with transaction() as db:
        later = datetime.now(UTC) + timedelta(seconds=100)
        db.execute(update(Email).where(Email.status == "queued").values(due_at=later))
    answer = clients.recruiter.post(EMAILS, json=generic_mail())
    assert 80 <= int(answer.headers["retry-after"]) <= 100
