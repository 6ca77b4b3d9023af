"""Who may send which mail now: leases, the permit before DATA, and mailers beside each other."""

import asyncio
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from core import preferences, sessions
from core.clock import utcnow
from core.db import transaction
from core.emails.queue import claims, outcomes, rate_limit
from core.emails.queue.claims import LEASE, ClaimedBatch
from core.emails.queue.outcomes import AttemptResult, Decision, Reply, StateUpdate, retry_policy
from core.emails.queue.suppressions import suppress
from core.preferences import PreferenceChange
from core.sessions import NewStatus
from core.settings import settings
from dispatcher.mail.completer import Completer
from dispatcher.mail.drain import send_due
from dispatcher.mail.mailer import ABORT_SECONDS, STOP_SECONDS, WRITE_SECONDS, Mailer
from dispatcher.mail.send_queue import Envelope
from dispatcher.mail.server import MailServer
from dispatcher.mail.smtp import Connection, Failed
from tests.support import factories, processes
from tests.support.mail_sending import admin_notices, mail, queued, send, statuses, time_passes
from tests.support.smtp_server import HANG, Talk, serving

DAY = timedelta(days=1)


def claim(owner: str = "me", *, limit: int = 100) -> ClaimedBatch:
    with transaction() as db:
        return claims.claim(db, owner=owner, now=utcnow(), limit=limit)


def begin(*mails: tuple[UUID, str]) -> dict[UUID, str]:
    with transaction() as db:
        return claims.acquire_permits(db, mails)


def rescue() -> list[UUID]:
    with transaction() as db:
        return [one.id for one in claims.rescue(db, now=utcnow())]


def write(*ended: StateUpdate) -> list[str]:
    with transaction() as db:
        return [one.status for one in outcomes.complete(db, ended, now=utcnow())]


# claims


def test_a_mail_is_claimed_by_one(database: str) -> None:
    ids = queued(200)
    taken: list[list[UUID]] = []
    start = threading.Barrier(4)

    def take(number: int) -> None:
        start.wait(10)
        while found := [one.id for one in claim(f"sender {number}", limit=7).mails]:
            taken.append(found)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, range(4)))
    assert Counter(id_ for found in taken for id_ in found) == Counter(ids)


def test_a_claim_takes_what_is_due_by_urgency(database: str) -> None:
    now = utcnow()
    [later] = queued(due_at=now + DAY)
    old = queued(3, priority=5, due_at=now - DAY)
    urgent = queued(3, priority=1)
    first, second = claim(limit=4), claim(limit=4)
    assert [one.id for one in first.mails] == [*urgent, old[0]]
    assert first.more
    assert {one.id for one in second.mails} == set(old[1:])
    assert not second.more
    with transaction() as db:
        assert claims.next_due(db) == min(mail(id_).lease_until or now for id_ in (*old, *urgent))
    write(*(StateUpdate(one.id, one.owner, Decision("sent")) for one in (*first.mails, *second.mails)))
    with transaction() as db:
        assert claims.next_due(db) == mail(later).due_at


def test_a_claim_has_a_weight(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BYTES", 2500)
    queued(4, text_body="x" * 1000, html_body=None)
    heavy = queued(1, text_body="x" * 9000, priority=9)
    sizes, more = [], True
    while more:
        batch = claim()
        sizes.append(len(batch.mails))
        more = batch.more
    assert sizes == [2, 2, 1]
    assert mail(heavy[0]).status == "sending"


@pytest.mark.parametrize("moment", ["claim", "begin"])
@pytest.mark.parametrize("why", ["expired", "suppressed", "unsubscribed", "cancelled", "rescheduled", "started"])
def test_what_may_not_be_sent_any_more_is_not(database: str, why: str, moment: str) -> None:
    now = utcnow()
    with transaction() as db:
        session_id = factories.session(db, now=now)
        version = db.execute(text("SELECT schedule_version FROM sessions")).scalar_one()
    about = {"kind": "reminder", "session_id": session_id, "schedule_version": version, "category": "reminder"}
    [id_] = queued(to_address="Zoë@Example.com", expires_at=now + DAY, **about)

    def happen() -> None:
        with transaction() as db:
            if why == "expired":
                db.execute(text("UPDATE emails SET expires_at = clock_timestamp()"))
            elif why == "suppressed":
                suppress(db, "zoË@example.com", reason="bounced", now=now)
            elif why == "unsubscribed":
                suppress(db, "zoë@example.com", reason="asked", category="reminder", now=now)
                suppress(db, "zoë@example.com", reason="asked", category="report_ready", now=now)
            elif why == "cancelled":
                db.execute(text("UPDATE sessions SET status = 'cancelled'"))
            elif why == "rescheduled":
                db.execute(text("UPDATE sessions SET schedule_version = schedule_version + 1"))
            else:
                db.execute(text("UPDATE sessions SET status = 'in_progress'"))

    if moment == "claim":
        happen()
        batch = claim()
        assert batch.mails == []
        [ended] = batch.stopped
    else:
        [taken] = claim().mails
        happen()
        ended = begin((id_, taken.owner))[id_]
    expected = {"expired": "expired", "suppressed": "suppressed", "unsubscribed": "suppressed"}.get(why, "cancelled")
    row = mail(id_)
    assert (ended, row.status, row.data_started_at, row.attempts) == (expected, expected, None, 0)
    assert row.last_error
    assert row.lease_owner is None


@pytest.mark.parametrize("moment", ["claim", "begin", "retry"])
@pytest.mark.parametrize("address", ["account", "candidate"])
def test_what_somebody_turned_off_meanwhile_is_not_sent(database: str, address: str, moment: str) -> None:
    """By a link, or in their preferences: claimed mails, and those that wait for a retry, are stopped too."""
    with transaction() as db:
        people = factories.people(db)
        db.execute(text("UPDATE users SET email = 'Account@example.com' WHERE role = 'candidate'"))
        db.execute(text("UPDATE candidates SET email = 'Candidate@example.com'"))
    [id_] = queued(kind="completion", category="completed", to_address=f"{address}@example.com")
    [other] = queued(to_address=f"{address}@example.com")

    def turn_off() -> None:
        with transaction() as db:
            preferences.update(db, [PreferenceChange(category="completed", email="off")], by=people.viewer("candidate"))

    if moment == "claim":
        turn_off()
        [taken] = claim().mails
    else:
        taken, completion = claim().mails
        if moment == "retry":
            begin((id_, completion.owner))
        turn_off()
        if moment == "begin":
            assert begin((id_, completion.owner)) == {id_: "suppressed"}
        else:
            later = retry_policy(AttemptResult("dot", Reply(451)), "completion", 1)
            assert write(StateUpdate(id_, completion.owner, later)) == ["queued"]
            time_passes()
            assert claim().mails == []
    assert mail(id_).status == "suppressed"
    assert begin((other, taken.owner)) == {other: "sending"}


def test_a_cancellation_is_sent_though_its_session_is_cancelled(database: str) -> None:
    with transaction() as db:
        session_id = factories.session(db, now=utcnow(), status="cancelled")
    [id_] = queued(kind="cancellation", session_id=session_id, schedule_version=1)
    [taken] = claim().mails
    assert begin((id_, taken.owner)) == {id_: "sending"}


# leases


def test_only_the_lease_owner_gets_a_permit_and_the_attempt_counts_once(database: str) -> None:
    [id_] = queued()
    [taken] = claim("first").mails
    assert begin((id_, "somebody else")) == {}
    for _ in range(2):  # whoever lost the connection at the commit asks again
        assert begin((id_, taken.owner)) == {id_: "sending"}
    row = mail(id_)
    assert (row.attempts, row.data_started_at is not None) == (1, True)


def test_a_lease_that_ran_out_before_data_gives_the_mail_back(database: str) -> None:
    [id_] = queued()
    claim("gone")
    assert rescue() == []
    assert mail(id_).status == "sending"
    time_passes()
    assert rescue() == []
    row = mail(id_)
    assert (row.status, row.attempts, row.lease_owner) == ("queued", 0, None)
    [again] = claim("second").mails
    assert begin((id_, "gone")) == {}  # who was slow and not dead finds out before DATA
    assert begin((id_, again.owner)) == {id_: "sending"}


@pytest.mark.parametrize("kind", ["generic", "invitation"])
def test_a_lease_that_ran_out_after_data_began_is_uncertain(database: str, kind: str) -> None:
    [id_] = queued(kind=kind)
    [taken] = claim("gone").mails
    begin((id_, taken.owner))
    time_passes()
    assert rescue() == [id_]
    row = mail(id_)
    assert (row.status, row.attempts, row.uncertain_at is not None) == ("uncertain", 1, True)
    assert (row.retry_at is not None) == (kind == "invitation")
    time_passes()
    rescue()
    assert mail(id_).status == ("queued" if kind == "invitation" else "uncertain")


def test_who_was_slow_and_not_dead_may_still_say_that_it_was_taken(database: str) -> None:
    """The database was away longer than the lease; nobody has tried again: the truth is better than doubt."""
    ids = queued(kind="generic") + queued(kind="invitation")
    taken = claim("slow").mails
    begin(*((one.id, one.owner) for one in taken))
    time_passes()
    rescue()
    assert statuses(ids) == ["uncertain", "uncertain"]
    time_passes()
    rescue()
    assert statuses(ids) == ["uncertain", "queued"]
    assert write(*(StateUpdate(one.id, one.owner, Decision("sent")) for one in taken)) == ["sent", "sent"]
    assert claim("other").mails == []


def test_who_was_slow_says_nothing_once_somebody_else_has_it(database: str) -> None:
    [id_] = queued(kind="invitation")
    [slow] = claim("slow").mails
    begin((id_, slow.owner))
    for _ in range(2):
        time_passes()
        rescue()
    [other] = claim("other").mails
    lost = retry_policy(AttemptResult("dot"), "invitation", 1)
    assert write(StateUpdate(id_, slow.owner, Decision("sent"))) == []
    assert write(StateUpdate(id_, slow.owner, lost)) == []
    assert mail(id_).lease_owner == other.owner


async def test_a_claim_that_was_lost_gets_nothing_of_the_one_that_followed_it(database: str) -> None:
    """Both of one mailer, after its database was away for longer than a lease: permit and result are the holder's."""
    [id_] = await asyncio.to_thread(queued)
    [lost] = (await asyncio.to_thread(claim, "me/1")).mails
    await asyncio.to_thread(time_passes)
    assert await asyncio.to_thread(rescue) == []
    [held] = (await asyncio.to_thread(claim, "me/2")).mails
    for pair in ((lost, held), (held, lost)):
        completer = Completer(busy=lambda: 2, on_completed=lambda *_: None)
        permits = [completer.request_permit(one) for one in pair]
        granted = [await asyncio.to_thread(permit.result, 10) is not None for permit in permits]
        await completer.close(1)
        assert granted == [one is held for one in pair]
    given = outcomes.release(id_, "me/1"), StateUpdate(id_, "me/2", Decision("sent"))
    assert await asyncio.to_thread(write, *given) == ["sent"]
    assert (await asyncio.to_thread(mail, id_)).status == "sent"


def test_a_renewed_lease_does_not_run_out(database: str) -> None:
    [mine, other] = queued(2)
    claim("me")
    time_passes()
    with transaction() as db:
        claims.renew(db, [(mine, "me"), (UUID(int=1), "me")])
    rescue()
    assert mail(mine).status == "sending"
    until = mail(mine).lease_until
    assert until is not None
    assert until > utcnow() + LEASE / 2
    assert statuses([mine, other]) == ["sending", "queued"]


def test_a_retry_of_an_uncertain_mail_that_is_stopped_stays_uncertain(database: str) -> None:
    with transaction() as db:
        session_id = factories.session(db, now=utcnow())
    [id_] = queued(kind="invitation", session_id=session_id, schedule_version=1)
    [taken] = claim("gone").mails
    begin((id_, taken.owner))
    for _ in range(2):
        time_passes()
        rescue()
    with transaction() as db:
        db.execute(text("UPDATE sessions SET status = 'cancelled'"))
    assert claim("other").stopped == ["uncertain"]
    assert (mail(id_).status, mail(id_).retry_at) == ("uncertain", None)


def test_a_locked_row_is_passed_over_and_not_waited_for(database: str) -> None:
    [id_, other] = queued(2)
    taken = claim().mails
    with transaction() as db:
        db.execute(text("SELECT FROM emails WHERE id = :id FOR UPDATE"), {"id": id_})
        assert begin(*((one.id, one.owner) for one in taken)) == {other: "sending"}
        with transaction() as beside:
            assert outcomes.still_held(beside, [(id_, "me"), (other, "him")]) == {id_}
        assert write(StateUpdate(id_, "me", Decision("dead"))) == []
    assert begin((id_, "me")) == {id_: "sending"}


# beside each other


def test_two_mailers_and_a_sweep_send_each_mail_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = queued(150)
    with serving() as server:
        monkeypatch.setenv("GREENROOM_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
        processes.forget_settings()
        with ThreadPoolExecutor(3) as pool:
            results = list(pool.map(lambda _: send_due(now=utcnow()), range(3)))
    assert statuses(ids) == ["sent"] * 150
    assert sorted(one.message_id for one in server.box.accepted) == sorted(f"{id_}@greenroom.test" for id_ in ids)
    assert sum(one.done for one in results) == 150


def test_a_dry_run_counts_and_sends_nothing(database: str) -> None:
    ids = queued(12)
    queued(due_at=utcnow() + DAY)
    with transaction() as db:
        before = db.execute(text("SELECT xmin::text, emails::text FROM emails ORDER BY id")).all()
    result = send_due(now=utcnow(), dry_run=True)
    assert (result.found, result.done, result.dry_run) == (12, 0, True)
    assert result.sample == [{"email_id": str(id_)} for id_ in ids[:10]]
    with transaction() as db:
        assert db.execute(text("SELECT xmin::text, emails::text FROM emails ORDER BY id")).all() == before


def test_a_mail_whose_session_was_cancelled_never_arrives(database: str) -> None:
    """Recruiters cancel while mails go out. A cancel that found the mail unsent has stopped it, for good."""
    now = utcnow()
    with transaction() as db:
        people = [factories.people(db) for _ in range(60)]
        booked = [factories.session(db, now=now, people=one) for one in people]
    ids = [queued(kind="reminder", session_id=one, schedule_version=1)[0] for one in booked]
    at_data = threading.Event()

    def script(stage: str, talk: Talk) -> str | None:
        if stage == "DATA":
            at_data.set()
        return None

    def cancel(number: int) -> None:
        with transaction() as db:
            by = people[number].viewer("recruiter")
            sessions.move(db, booked[number], NewStatus(status="cancelled"), by=by, now=utcnow())

    with serving(script) as server, ThreadPoolExecutor(3) as pool:
        sending = pool.submit(send, server)
        at_data.wait(10)
        list(pool.map(cancel, range(59, -1, -1)))
        sending.result()
        taken = Counter(one.message_id for one in server.box.accepted)
    for id_ in ids:
        row = mail(id_)
        assert row.status in ("sent", "cancelled")
        assert taken[f"{id_}@greenroom.test"] == (row.status == "sent")
    assert set(statuses(ids)) == {"sent", "cancelled"}


def test_while_a_cancel_is_under_way_a_mail_is_neither_sent_nor_given_up(database: str) -> None:
    """What the cancel comes to decides; one that is rolled back has cost nothing."""
    ids = queued(2)
    at_rcpt, decided = threading.Semaphore(0), threading.Event()

    def script(stage: str, talk: Talk) -> str | None:
        if stage == "RCPT":
            at_rcpt.release()
            decided.wait(10)
        return None

    with serving(script) as server, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send, server)
        at_rcpt.acquire(timeout=10)
        with pytest.raises(ZeroDivisionError), transaction() as db:
            db.execute(
                text("UPDATE emails SET status = 'cancelled', lease_owner = NULL WHERE id = :id"), {"id": ids[0]}
            )
            with transaction() as beside:
                beside.execute(text("UPDATE emails SET status = 'cancelled' WHERE id = :id"), {"id": ids[1]})
            decided.set()
            processes.eventually(lambda: "RSET" in server.box.commands, "the cancelled one is given up")
            assert server.box.begun == []
            1 / 0  # noqa: B018
        sending.result()
    assert statuses(ids) == ["sent", "cancelled"]
    assert [one.message_id for one in server.box.accepted] == [mail(ids[0]).message_id[1:-1]]


def test_a_pace_is_kept_by_all_together(database: str) -> None:
    """Turns are a tenth of a second apart, however many ask for them; what was not used is not saved up."""

    def next_at() -> datetime:
        with transaction() as db:
            at: datetime = db.execute(text("SELECT next_at FROM email_pace")).scalar_one()
            return at

    def turn(_: int) -> float:
        with transaction() as db:
            return rate_limit.take_turn(db, 10)

    assert turn(0) == 0.0
    first = next_at()
    with ThreadPoolExecutor(3) as pool:
        waits = list(pool.map(turn, range(15)))
    assert next_at() - first >= 15 * timedelta(seconds=0.1)
    assert max(waits) > 0.0
    with transaction() as db:
        db.execute(text("UPDATE email_pace SET next_at = now() - interval '1 hour'"))
    before = utcnow()
    assert turn(0) == 0.0
    assert next_at() > before


def test_a_mailer_keeps_the_pace(database: str) -> None:
    ids = queued(6)
    began = utcnow()
    with serving() as server:
        send(server, rate=20)
    assert statuses(ids) == ["sent"] * 6
    with transaction() as db:
        assert db.execute(text("SELECT next_at FROM email_pace")).scalar_one() >= began + 6 * timedelta(seconds=0.05)
        last = db.execute(text("SELECT max(data_started_at) FROM emails")).scalar_one()
    assert last >= began + 5 * timedelta(seconds=0.05)  # nobody began before their turn


# the end of a process


async def test_a_mailer_that_is_stopped_requeues_what_it_has_not_begun(database: str) -> None:
    """One mail hangs after its final dot; the others of the claim are untouched."""
    hung = await asyncio.to_thread(queued, 2)
    waiting = await asyncio.to_thread(queued, 8)
    hanging = threading.Semaphore(0)

    def script(stage: str, talk: Talk) -> str | None:
        if stage == "dot":
            hanging.release()
            return HANG
        return None

    with serving(script) as server:
        ours = settings().model_copy(update={"email_concurrency": 2})
        async with Mailer(ours, server=MailServer("127.0.0.1", server.port)) as mailer:
            await mailer.fetch_due()
            for _ in range(2):
                await asyncio.to_thread(hanging.acquire, timeout=10)
    ids = {*hung, *waiting}
    states = Counter(await asyncio.to_thread(statuses, list(ids)))
    assert states == {"uncertain": 2, "queued": 8}
    assert await asyncio.to_thread(admin_notices) == ["mail_uncertain"] * 2
    rows = [await asyncio.to_thread(mail, id_) for id_ in ids]
    assert all(row.lease_owner is None and row.attempts == 0 for row in rows if row.status == "queued")


async def test_a_mailer_stops_at_once_though_no_connection_comes_about(database: str) -> None:
    """A connection that nobody answers cannot be broken off; its mails are requeued without it."""
    ids = await asyncio.to_thread(queued, 5)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, ExitStack() as waiting:
        address = deaf.getsockname()
        for _ in range(4):  # until the system answers nobody any more
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(address)
        async with Mailer(settings(), server=MailServer(*address)) as mailer:
            await mailer.fetch_due()
            began = time.monotonic()
        assert time.monotonic() - began < STOP_SECONDS + ABORT_SECONDS + WRITE_SECONDS
    rows = [await asyncio.to_thread(mail, id_) for id_ in ids]
    assert {(row.status, row.attempts, row.lease_owner) for row in rows} == {("queued", 0, None)}


async def test_what_is_behind_a_mail_that_hangs_is_sent_by_another_sender(database: str) -> None:
    ids = await asyncio.to_thread(queued, 12)
    hung: list[int] = []

    def script(stage: str, talk: Talk) -> str | None:
        if stage != "dot" or hung:
            return None
        hung.append(talk.number)
        return HANG

    with serving(script) as server:
        ours = settings().model_copy(update={"email_concurrency": 2})
        async with asyncio.timeout(20), Mailer(ours, server=MailServer("127.0.0.1", server.port)) as mailer:
            while len(server.box.accepted) < len(ids) - 1:
                await mailer.fetch_due()
                await asyncio.sleep(0.05)
    assert Counter(await asyncio.to_thread(statuses, ids)) == {"sent": 11, "uncertain": 1}
    assert {(await asyncio.to_thread(mail, id_)).attempts for id_ in ids} == {1}


@pytest.mark.parametrize(("at", "stage"), [("dot", "dot"), ("body", "data"), ("DATA", "data")])
def test_what_left_in_the_moment_of_the_stop_is_past_its_dot(at: str, stage: str) -> None:
    """Else the mail would be requeued as untried, and sent twice; and only that is."""
    content = b"Subject: long\r\n\r\n" + b"x" * 70 * (1 << 18)  # more than the system takes from us at once

    def script(now_at: str, talk: Talk) -> str | None:
        if now_at != at:
            return None
        connection.abort()  # from another thread
        return HANG

    with serving(script) as server:
        connection = Connection(MailServer("127.0.0.1", server.port)).open()
        connection.envelope(Envelope("a@example.com", "b@example.com", len(content), ascii=True, smtputf8=False))
        with pytest.raises(Failed) as failed:
            connection.deliver(content)
        assert failed.value.end.stage == connection.stage == stage
        assert not connection.usable


async def test_a_mailer_waits_for_an_unreachable_database(database: str, postgres: processes.PostgresServer) -> None:
    """Connections to it break between the final dot and the result: what was taken is marked so in the end."""
    ids = await asyncio.to_thread(queued, 6)

    def script(stage: str, talk: Talk) -> str | None:
        if stage == "dot":
            with psycopg.connect(postgres.url, autocommit=True) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    (database.rsplit("/", 1)[1],),
                )
        return None

    with serving(script) as server:
        async with Mailer(settings(), server=MailServer("127.0.0.1", server.port)) as mailer:
            await mailer.drain(utcnow())
    assert Counter(await asyncio.to_thread(statuses, ids)) == {"sent": 6}
    assert len(server.box.accepted) == 6
