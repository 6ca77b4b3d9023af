"""Reminders under way while the session is cancelled, rescheduled or begun: real transactions, whoever comes first."""

import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import text

from core import reminders, sessions
from core.clock import utcnow
from core.db import transaction
from core.reminders import sending
from core.results import JobResult
from core.sessions import NewStatus, SessionPatch
from tests.support.processes import eventually
from tests.support.reminders import held, mails, minutes, notified, people, planned, soon, statuses


def test_a_cancel_before_sending_prevents_it(database: str) -> None:
    who = people(reminder_offsets=[60])
    id_ = soon(who)

    def cancel(db: Any) -> None:
        sessions.move(db, id_, NewStatus(status="cancelled"), by=who.viewer("recruiter"), now=utcnow())

    with held(cancel) as commit:
        during = reminders.send_due(now=utcnow())
        assert (during.found, during.counts["locked"]) == (0, 2), "locked: left for a moment"
        commit()
    after = reminders.send_due(now=utcnow())
    assert (after.found, after.counts["locked"]) == (0, 0)
    assert statuses(id_) == ["void", "void"]
    assert (mails(id_), notified(id_)) == ([], [])


def test_a_reschedule_before_sending_keeps_only_the_new_time(database: str) -> None:
    who = people(reminder_offsets=[60])
    id_ = soon(who)

    def move(db: Any) -> None:
        patch = SessionPatch(scheduled_start=utcnow() + minutes(600))
        sessions.change(db, id_, patch, by=who.viewer("recruiter"), now=utcnow())

    with held(move) as commit:
        assert reminders.send_due(now=utcnow()).found == 0
        commit()
    assert reminders.send_due(now=utcnow()).found == 0
    assert statuses(id_) == ["void", "void", "planned", "planned"]
    assert mails(id_) == []


def test_a_cancel_after_enqueue_cancels_the_mails(database: str) -> None:
    who = people(reminder_offsets=[60])
    id_ = soon(who)

    def send(db: Any) -> None:
        sending._complete(db, JobResult(now=utcnow()), sending.claim(db, now=utcnow(), limit=10))

    def cancel() -> None:
        with transaction() as db:
            sessions.move(db, id_, NewStatus(status="cancelled"), by=who.viewer("recruiter"), now=utcnow())

    with held(send) as commit:
        cancelling = threading.Thread(target=cancel)
        cancelling.start()
        eventually(_someone_waits, "the cancel waits for the session")
        commit()
        cancelling.join(20)
    assert statuses(id_) == ["sent", "sent"]
    assert [state for _, state in mails(id_)] == ["cancelled", "cancelled"]


def _someone_waits() -> bool:
    with transaction() as db:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(db.execute(text(query)).scalar_one())


def test_concurrent_senders_cancels_and_reschedules(database: str) -> None:
    """Two senders against people who cancel, reschedule and start: nobody waits for ever, and each outcome is whole."""
    everyone = [people(reminder_offsets=[60]) for _ in range(24)]
    ids = {soon(who, due_in=-1): who for who in everyone}
    errors: list[Exception] = []
    go = threading.Barrier(4)

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            go.wait()
            try:
                work()
            except Exception as error:  # noqa: BLE001 - asserted below
                errors.append(error)

        return run

    def send() -> None:
        while reminders.send_due(now=utcnow(), batch=3).counts["locked"]:
            pass

    def change(which: int) -> Callable[[], None]:
        def run() -> None:
            for n, (id_, who) in enumerate(ids.items()):
                if n % 3 != which:
                    continue
                with transaction() as db:
                    if which:
                        sessions.move(db, id_, NewStatus(status="cancelled"), by=who.viewer("recruiter"), now=utcnow())
                    else:
                        patch = SessionPatch(scheduled_start=utcnow() + minutes(600))
                        sessions.change(db, id_, patch, by=who.viewer("recruiter"), now=utcnow())

        return run

    threads = [threading.Thread(target=guarded(work)) for work in (send, send, change(0), change(1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not errors
    reminders.send_due(now=utcnow())
    for n, id_ in enumerate(ids):
        old = [status for version, *_, status, _ in planned(id_) if version == 1]
        assert set(old) <= {"sent", "void"}, "nothing is left planned"
        sent, left_alone = old.count("sent"), n % 3 == 2
        assert len(notified(id_)) == sent
        assert [state for _, state in mails(id_)] == ["queued" if left_alone else "cancelled"] * sent
        assert not left_alone or sent == 2


def test_two_senders_send_each_once(database: str) -> None:
    ids = [soon(people(reminder_offsets=[60]), due_in=-1) for _ in range(30)]
    done: list[int] = []

    def send() -> None:
        while (result := reminders.send_due(now=utcnow(), batch=4)).found or result.counts["locked"]:
            done.append(result.done)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(done) == 60
    assert all(len(mails(id_)) == 2 and len(notified(id_)) == 2 for id_ in ids)
