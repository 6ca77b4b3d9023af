"""Sending to servers that behave well and badly: each mail ends in the state that the rules say, and is taken once."""

import time
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any
from uuid import UUID

import pytest

from core import emails
from core.clock import utcnow
from core.db import transaction
from core.models import EmailAttachment
from dispatcher.mail.sender import PERMIT_SECONDS
from dispatcher.mail.server import MailServer
from tests.support import factories
from tests.support.mail_sending import (
    IMPATIENT,
    admin_notices,
    mail,
    queued,
    send,
    statuses,
    suppressed,
    time_passes,
    wait_of,
)
from tests.support.processes import free_port
from tests.support.smtp_server import CUT, HANG, TAKE_AND_CUT, Script, Talk, serving

MINUTE = timedelta(minutes=1)


def at(stage: str, answer: str, *, times: int = 10**6) -> Script:
    """A server that answers so at this stage, as often as said."""
    left = times

    def script(now_at: str, talk: Talk) -> str | None:
        nonlocal left
        if now_at != stage or left == 0:
            return None
        left -= 1
        return answer

    return script


def test_a_mail_is_sent_as_it_was_queued(database: str) -> None:
    [id_] = queued(to_address="cäcilie@bücher.example", to_name="Cäcilie", subject="Grüße", text_body=".\n..dots\n")
    with transaction() as db:
        db.add(EmailAttachment(email_id=id_, ordinal=1, filename="a.txt", content_type="text/plain", content=b"\0\xff"))
    before = mail(id_)

    with serving() as server:
        sent = send(server)

    [taken] = server.box.accepted
    row = mail(id_)
    assert (row.status, row.attempts, row.last_error) == ("sent", 1, None)
    assert row.sent_at is not None
    assert before.created_at <= row.sent_at
    assert (row.lease_owner, row.lease_until) == (None, None)
    assert (sent.found, sent.done, sent.failed) == (1, 1, 0)
    assert (taken.sender, taken.recipient) == ("greenroom@localhost", "cäcilie@xn--bcher-kva.example")
    read = message_from_bytes(taken.content, policy=policy.default)
    assert read["Message-ID"] == row.message_id
    assert read["Subject"] == "Grüße"
    body = read.get_body(("plain",))
    assert body is not None
    assert body.get_content().splitlines() == [".", "..dots"]
    assert [part.get_payload(decode=True) for part in read.iter_attachments()] == [b"\0\xff"]


def test_many_mails_go_over_few_connections_that_stay_open(database: str) -> None:
    ids = queued(120)
    with serving() as server:
        sent = send(server, concurrency=3)
    assert statuses(ids) == ["sent"] * 120
    assert sorted(one.message_id for one in server.box.accepted) == sorted(mail(id_).message_id[1:-1] for id_ in ids)
    assert server.box.connections == 3
    assert sent.done == 120


def test_a_server_without_extensions_is_served_too(database: str) -> None:
    ids = queued(5)
    with serving(extensions=()) as server:
        send(server)
    assert statuses(ids) == ["sent"] * 5


REFUSALS = [
    # stage, answer, state, minutes until the next attempt, suppressed
    ("banner", "421 4.3.2 busy", "queued", 1, False),
    ("banner", "554 5.3.2 not for you", "queued", 1, False),
    ("banner", "SSH-2.0-OpenSSH_9.2", "queued", 1, False),
    ("EHLO", "421 4.3.2 busy", "queued", 1, False),
    ("MAIL", "451 4.3.0 later", "queued", 1, False),
    ("MAIL", "421 4.3.2 closing", "queued", 1, False),
    ("MAIL", "552 5.3.4 too big", "dead", None, False),
    ("MAIL", "550 5.7.1 we do not like you", "dead", None, False),
    ("MAIL", "what?", "queued", 1, False),
    ("RCPT", "450 4.2.1 busy", "queued", 1, False),
    ("RCPT", "421 4.3.2 closing", "queued", 1, False),
    ("RCPT", "550 5.1.1 nobody here", "dead", None, True),
    ("RCPT", "550 nobody here", "dead", None, True),
    ("RCPT", "550 5.7.1 relaying denied", "dead", None, False),
    ("RCPT", "552 5.2.2 mailbox full", "dead", None, False),
    ("RCPT", "x" * 70_000, "queued", 1, False),
    ("DATA", "451 4.3.0 later", "queued", 1, False),
    ("DATA", "421 4.3.2 closing", "queued", 1, False),
    ("DATA", "554 5.7.1 no", "dead", None, False),
    ("DATA", "250 what a fine command", "queued", 1, False),
    ("dot", "451 4.3.0 later", "queued", 1, False),
    ("dot", "421 4.3.2 closing", "queued", 1, False),
    ("dot", "550 5.7.1 spam", "dead", None, False),
    ("dot", "552 5.2.2 mailbox full", "dead", None, False),
    ("dot", "550-5.1.1 nobody\r\n550 5.1.1 here", "dead", None, True),
    ("dot", "354 go on", "uncertain", None, False),
    ("dot", "\0\0\0", "uncertain", None, False),
    *((stage, CUT, "queued", 1, False) for stage in ("banner", "EHLO", "MAIL", "RCPT", "DATA")),
    *((stage, HANG, "queued", 1, False) for stage in ("banner", "EHLO", "MAIL", "RCPT", "DATA")),
    ("dot", CUT, "uncertain", None, False),
    ("dot", HANG, "uncertain", None, False),
    ("dot", TAKE_AND_CUT, "uncertain", None, False),
]


@pytest.mark.parametrize(("stage", "answer", "state", "minutes", "bounced"), REFUSALS)
def test_each_fault_ends_as_the_rules_say(
    database: str, stage: str, answer: str, state: str, minutes: int | None, bounced: bool
) -> None:
    [id_] = queued(to_address="Some.Body@example.com")
    began, timeouts = utcnow(), IMPATIENT if answer == HANG else None
    with serving(at(stage, answer)) as server:
        send(server, timeouts=timeouts)
        row = mail(id_)
        assert (row.status, row.attempts) == (state, 1)
        assert row.last_error
        assert (row.lease_owner is None) or state == "uncertain"
        assert (suppressed() == {"some.body@example.com": "unknown recipient"}) is bounced
        assert admin_notices() == ([f"mail_{state}"] if state in ("dead", "uncertain") else [])
        if minutes is not None:
            assert minutes * MINUTE <= wait_of(row, began) <= minutes * MINUTE * 1.2 + MINUTE
            assert row.data_started_at is None
        time_passes()
        send(server, timeouts=timeouts)
    # what is not to be tried again is not, however much time passes
    assert mail(id_).attempts == (2 if state == "queued" else 1)
    assert len(server.box.accepted) == (1 if answer == TAKE_AND_CUT else 0)


@pytest.mark.parametrize(
    ("kind", "again"), [("invitation", True), ("reschedule", True), ("cancellation", True), ("reminder", False)]
)
def test_of_uncertain_mails_three_kinds_are_sent_again_with_the_same_message_id(
    database: str, kind: str, again: bool
) -> None:
    [id_] = queued(kind=kind)
    began = utcnow()
    with serving(at("dot", TAKE_AND_CUT, times=1)) as server:
        send(server)
        row = mail(id_)
        assert (row.status, row.attempts, row.uncertain_at is not None) == ("uncertain", 1, True)
        assert admin_notices() == ["mail_uncertain"]
        assert (row.retry_at is not None) is again
        if again:
            assert MINUTE <= wait_of(row, began) <= 2.2 * MINUTE
        send(server)
        assert mail(id_).status == "uncertain"  # its time has not come
        time_passes()
        send(server)
    row = mail(id_)
    assert (row.status, row.attempts) == (("sent", 2) if again else ("uncertain", 1))
    assert row.uncertain_at is not None  # that people were notified of it is not forgotten
    assert [one.message_id for one in server.box.accepted] == [row.message_id[1:-1]] * (2 if again else 1)


def test_a_connection_cut_in_the_middle_of_a_long_mail_is_no_doubt(database: str) -> None:
    """Its final dot was still here: whatever the server has, it is no mail."""
    [id_] = queued(text_body="long\n" * 2_000_000)
    with serving(at("body", CUT, times=1)) as server:
        send(server)
        row = mail(id_)
        assert (row.status, row.attempts, row.uncertain_at) == ("queued", 1, None)
        assert server.box.accepted == []
        time_passes()
        send(server)
    assert mail(id_).status == "sent"
    [taken] = server.box.accepted
    assert taken.content.count(b"long") == 2_000_000


def test_a_server_that_does_not_read_times_out(database: str) -> None:
    [id_] = queued(text_body="long\n" * 2_000_000)
    with serving(at("body", HANG)) as server:
        deaf = server.box

        def script(stage: str, talk: Talk) -> str | None:
            if stage == "body":
                talk.transport.pause_reading()
                return HANG
            return None

        deaf.script = script
        send(server, timeouts=IMPATIENT)
    assert (mail(id_).status, mail(id_).uncertain_at) == ("queued", None)


def test_a_server_that_answers_in_the_middle_of_a_mail_is_believed(database: str) -> None:
    [id_] = queued(text_body="long\n" * 2_000_000)
    with serving(at("body", "552 5.3.4 enough")) as server:
        send(server)
    row = mail(id_)
    assert row.status == "dead"
    assert "552" in str(row.last_error)


def test_attempts_are_limited(database: str) -> None:
    [id_] = queued()
    with serving(at("RCPT", "450 4.2.1 busy")) as server:
        waits = []
        for _ in range(6):
            began = utcnow()
            send(server)
            row = mail(id_)
            if row.status == "queued":
                waits.append(round(wait_of(row, began) / MINUTE))
                time_passes()
    assert (row.status, row.attempts) == ("dead", 6)
    for wait, expected in zip(waits, (1, 5, 15, 60, 180), strict=True):
        assert expected <= wait <= expected * 1.2 + 1
    assert admin_notices() == ["mail_dead"]


def test_421_in_mid_way_costs_no_mail_an_attempt(database: str) -> None:
    """A server that wants a new connection after every third mail."""
    ids = queued(20)

    def script(stage: str, talk: Talk) -> str | None:
        return "421 4.7.0 enough for one connection" if stage == "MAIL" and talk.mails == 3 else None

    with serving(script) as server:
        send(server)
    assert statuses(ids) == ["sent"] * 20
    assert {mail(id_).attempts for id_ in ids} == {1}
    assert len(server.box.accepted) == 20


def test_an_old_permit_is_requested_again(database: str) -> None:
    """The answer to one mail takes long; the next was permitted meanwhile, and nothing is known of it any more."""
    ids = queued(20)

    def script(stage: str, talk: Talk) -> str | None:
        if stage == "dot" and talk.mails == 1:
            time.sleep(3 * PERMIT_SECONDS)
        return None

    with serving(script) as server:
        sent = send(server)
    assert sent.counts["released"] == 2  # one behind each of the two that took long
    assert statuses(ids) == ["sent"] * 20
    assert {mail(id_).attempts for id_ in ids} == {1}
    assert len(server.box.accepted) == 20


def test_a_connection_that_was_closed_while_idle_costs_no_attempt(database: str) -> None:
    """The server hangs up after each mail, without a word."""
    ids = queued(10)

    def script(stage: str, talk: Talk) -> str | None:
        return CUT if stage == "MAIL" and talk.mails else None

    with serving(script) as server:
        send(server)
    assert statuses(ids) == ["sent"] * 10
    assert {mail(id_).attempts for id_ in ids} == {1}


def test_a_server_that_allows_one_connection_costs_no_attempt(database: str) -> None:
    ids = queued(30)

    def script(stage: str, talk: Talk) -> str | None:
        return "421 4.7.0 too many connections" if stage == "banner" and talk.number > 1 else None

    with serving(script) as server:
        send(server, concurrency=5)
    assert len(server.box.accepted) == len({one.message_id for one in server.box.accepted}) == len(ids)
    assert statuses(ids) == ["sent"] * 30


def test_one_bad_mail_does_not_hold_up_the_others(database: str) -> None:
    [bad] = queued(to_address="unknown@example.com")
    [unwritable] = queued(message_id="no message id")
    good = queued(10)

    def script(stage: str, talk: Talk) -> str | None:
        return "550 5.1.1 nobody" if stage == "RCPT" and "unknown" in talk.line else None

    with serving(script) as server:
        sent = send(server)
    assert statuses(good) == ["sent"] * 10
    assert statuses([bad, unwritable]) == ["dead", "dead"]
    assert mail(unwritable).last_error == "could not be written: ValueError"
    assert (sent.found, sent.done, sent.failed) == (12, 10, 2)
    assert sorted(admin_notices()) == ["mail_dead", "mail_dead"]


@pytest.mark.parametrize(("stage", "answer", "state"), [("MAIL", "554 5.7.1 no", "dead"), ("dot", CUT, "uncertain")])
def test_admins_are_notified_again_when_a_manual_retry_fails(
    database: str, stage: str, answer: str, state: str
) -> None:
    [id_] = queued()
    with transaction() as db:
        admin = factories.people(db).viewer("admin")
    for times in (1, 2):
        with serving(at(stage, answer)) as server:
            send(server)
        assert mail(id_).status == state
        assert admin_notices() == [f"mail_{state}"] * times
        with transaction() as db:
            emails.retry(db, id_, by=admin, now=utcnow())


def test_a_slow_server_gets_each_mail_with_a_fresh_permit(database: str) -> None:
    """A permit asked ahead would be too old each time: after the first of each connection it is not asked."""
    queued(12)

    def script(stage: str, talk: Talk) -> str | None:
        if stage == "dot":
            time.sleep(1.5 * PERMIT_SECONDS)
        return None

    with serving(script) as server:
        sent = send(server)
    assert sent.done == 12
    assert sent.counts["released"] <= 2


def test_an_unreachable_server_costs_no_attempts(database: str) -> None:
    ids = queued(50)
    send(MailServer("127.0.0.1", free_port()), concurrency=5)
    rows = [mail(id_) for id_ in ids]
    assert {row.status for row in rows} == {"queued"}
    tried = [row for row in rows if row.attempts]
    assert len(tried) == 1  # who found out; the rest waits untouched
    assert all(row.attempts == 1 for row in tried)
    with serving() as server:
        time_passes()
        send(server)
    assert statuses(ids) == ["sent"] * 50


def test_the_urgent_goes_first_and_then_the_older(database: str) -> None:
    now = utcnow()
    later = queued(1, priority=5, due_at=now - MINUTE)
    older = queued(1, priority=5, due_at=now - 2 * MINUTE)
    urgent = queued(1, priority=1, due_at=now)
    with serving() as server:
        send(server, concurrency=2)
    order = [UUID(one.message_id.split("@")[0]) for one in server.box.accepted]
    assert sorted(order, key=order.index)[:1] in (urgent, older)  # two senders: the first two go at once
    assert order.index(later[0]) == 2


def test_a_mail_too_big_for_the_server_is_not_even_begun(database: str) -> None:
    [id_] = queued(text_body="x" * 5000)
    with serving(extensions=("SIZE 1000",)) as server:
        send(server)
    assert mail(id_).status == "dead"
    assert "larger than the 1000 bytes" in str(mail(id_).last_error)
    assert server.box.begun == []


def test_an_international_address_needs_a_server_that_takes_it(database: str) -> None:
    [id_] = queued(to_address="用户@example.com")
    with serving(extensions=("8BITMIME",)) as server:
        send(server)
    assert mail(id_).status == "dead"
    assert server.box.begun == []


def test_logs_know_mails_by_id_and_nobody_by_name(database: str, caplog: pytest.LogCaptureFixture) -> None:
    [id_] = queued(to_address="private@example.com", subject="confidential", text_body="confidential")
    with caplog.at_level("INFO"), serving(at("RCPT", "550 5.1.1 private@example.com is not here")) as server:
        send(server)
    said: list[dict[str, Any]] = [vars(record) for record in caplog.records if record.name.startswith("dispatcher")]
    assert any(record.get("email_id") == str(id_) for record in said)
    assert not any("private" in str(record) or "confidential" in str(record) for record in said)
