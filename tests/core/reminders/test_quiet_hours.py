"""Reminders follow their recipient's quiet hours and zone, whoever else is at the session or the person."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text, update

from core import interviews, people, sessions
from core.clock import utcnow
from core.db import transaction
from core.interviews import InterviewPatch
from core.locks import WORK_CHANNEL
from core.models import Candidate, Reminder
from core.people import CandidatePatch, UserPatch
from core.sessions import NewSession, NewStatus
from tests.support import factories
from tests.support.factories import People
from tests.support.processes import eventually
from tests.support.reminders import FAR, booked, held, minutes, planned, statuses, windows
from tests.support.reminders import people as some_people

DAY, HOUR = 24 * 60, 60


def change(who: People, role: str, **given: Any) -> None:
    with transaction() as db:
        people.change_user(db, who.ids[role], UserPatch(**given), by=who.viewer("admin"), now=utcnow())


def due(session_id: UUID, party: str, offset: int) -> datetime:
    return windows(session_id)[party, offset][0]


NIGHT = {"quiet_from": time(10), "quiet_until": time(13)}
"""Around FAR's time of day, by UTC."""


@pytest.mark.parametrize("party", ["interviewer", "candidate"])
def test_new_quiet_hours_move_planned_reminders_of_that_party(database: str, party: str) -> None:
    who = some_people(reminder_offsets=[DAY, HOUR])
    id_ = booked(who, FAR, now=utcnow())
    before = windows(id_)
    change(who, party, **NIGHT)
    moved = windows(id_)
    assert moved[party, DAY] == (FAR - timedelta(hours=23), FAR - timedelta(hours=22, minutes=30))
    assert {key: at for key, at in moved.items() if key != (party, DAY)} == {
        key: at for key, at in before.items() if key != (party, DAY)
    }, "an offset below 4 h stays, and so does the other side"
    change(who, party, quiet_from=None, quiet_until=None)
    assert windows(id_) == before
    assert statuses(id_) == ["planned"] * 4


def test_a_new_zone_moves_quiet_hours(database: str) -> None:
    who = some_people(reminder_offsets=[DAY])
    change(who, "interviewer", quiet_from=time(22), quiet_until=time(7))
    id_ = booked(who, FAR, now=utcnow())
    assert due(id_, "interviewer", DAY) == FAR - timedelta(days=1)
    change(who, "interviewer", timezone="Pacific/Kiritimati")  # 02:00 there, 14 h ahead
    assert due(id_, "interviewer", DAY) == FAR - timedelta(days=1) + timedelta(hours=5)
    change(who, "interviewer", timezone="Etc/GMT+12")  # midnight there, 12 h behind
    assert due(id_, "interviewer", DAY) == FAR - timedelta(days=1) + timedelta(hours=7)


def test_a_new_name_moves_no_reminders(database: str) -> None:
    who = some_people(reminder_offsets=[DAY])
    id_ = booked(who, FAR, now=utcnow())
    with transaction() as db:
        db.execute(update(Reminder).values(due_at=FAR))  # as if by hand
    change(who, "interviewer", name="Another")
    assert due(id_, "interviewer", DAY) == FAR


def test_reminders_past_by_the_new_hours_are_skipped(database: str) -> None:
    """As when it is planned anew."""
    who = some_people(reminder_offsets=[6 * HOUR])
    now = utcnow()
    start = now + timedelta(hours=5, minutes=30)
    change(who, "interviewer", quiet_from=(now - timedelta(hours=2)).time(), quiet_until=(now + minutes(90)).time())
    id_ = booked(who, start, now=now)
    assert due(id_, "interviewer", 6 * HOUR) == now + minutes(90)
    change(who, "interviewer", quiet_from=None, quiet_until=None)
    assert (1, "interviewer", 360, "skipped", "too late") in planned(id_)


def test_linking_a_user_applies_their_quiet_hours(database: str) -> None:
    who = some_people(reminder_offsets=[DAY])
    with transaction() as db:
        db.execute(update(Candidate).values(user_id=None))
    change(who, "candidate", **NIGHT)
    id_ = booked(who, FAR, now=utcnow())
    assert due(id_, "candidate", DAY) == FAR - timedelta(days=1)

    def sign_in(user_id: int | None) -> None:
        with transaction() as db:
            patch = CandidatePatch(user_id=user_id)
            people.change_candidate(db, who.candidate_id, patch, by=who.viewer("admin"), now=utcnow())

    sign_in(who.ids["candidate"])
    assert due(id_, "candidate", DAY) == FAR - timedelta(hours=23)
    sign_in(None)
    assert due(id_, "candidate", DAY) == FAR - timedelta(days=1)


def test_the_dispatcher_is_woken(database: str) -> None:
    who = some_people(reminder_offsets=[DAY])
    booked(who, FAR, now=utcnow())
    with psycopg.connect(database, autocommit=True) as listener:
        listener.execute(f"LISTEN {WORK_CHANNEL}")
        change(who, "interviewer", **NIGHT)
        assert [note.channel for note in listener.notifies(timeout=10, stop_after=1)] == [WORK_CHANNEL]


def waits() -> bool:
    """Whether a transaction waits for another."""
    query = """
        SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                       WHERE NOT granted AND datname = current_database())"""
    with transaction() as db:
        return bool(db.execute(text(query)).scalar_one())


@contextmanager
def in_a_thread(work: Callable[[], None]) -> Iterator[None]:
    """The work goes on beside the block, and is done when it ends; what it raises is raised here."""
    with ThreadPoolExecutor(1) as beside:
        working = beside.submit(work)
        yield
        working.result(20)


@pytest.mark.parametrize("party", ["interviewer", "candidate"])
def test_a_concurrently_scheduled_session_has_the_new_hours(database: str, party: str) -> None:
    """Whoever commits first: the booking, or the change."""
    who = some_people(reminder_offsets=[DAY])
    ids: list[UUID] = []

    def book(db: Any) -> None:
        given = NewSession(
            candidate_id=who.candidate_id,
            interview_id=who.interview_id,
            interviewer_id=who.interviewer_id,
            scheduled_start=FAR,
        )
        ids.append(sessions.create(db, given, by=who.viewer("recruiter"), now=utcnow()))

    with held(book) as commit, in_a_thread(lambda: change(who, party, **NIGHT)):
        eventually(waits, "the change waits for the booking")
        commit()
    assert due(ids[0], party, DAY) == FAR - timedelta(hours=23)


@pytest.mark.parametrize("party", ["interviewer", "candidate"])
def test_a_session_scheduled_during_the_change_has_the_new_hours(database: str, party: str) -> None:
    who = some_people(reminder_offsets=[DAY])
    booked(who, FAR + timedelta(days=1), now=utcnow())
    ids: list[UUID] = []

    def hours(db: Any) -> None:
        people.change_user(db, who.ids[party], UserPatch(**NIGHT), by=who.viewer("admin"), now=utcnow())

    with transaction() as db:
        another = factories.people(db, reminder_offsets=[DAY]).interview_id

    def book() -> None:
        given = NewSession(
            candidate_id=who.candidate_id,
            interview_id=another,
            interviewer_id=who.interviewer_id,
            scheduled_start=FAR,
        )
        with transaction() as db:
            ids.append(sessions.create(db, given, by=who.viewer("recruiter"), now=utcnow()))

    with held(hours) as commit, in_a_thread(book):
        eventually(waits, "the booking waits for the change")
        commit()
    assert due(ids[0], party, DAY) == FAR - timedelta(hours=23)


@pytest.mark.parametrize("party", ["interviewer", "candidate"])
def test_a_cancel_meanwhile_locks_in_the_same_order(database: str, party: str) -> None:
    """It notifies both sides, whose rows the change holds: with sessions locked first, one waits for the other."""
    who = some_people(reminder_offsets=[DAY])
    id_ = booked(who, FAR, now=utcnow())

    def hours(db: Any) -> None:
        people.change_user(db, who.ids[party], UserPatch(**NIGHT), by=who.viewer("admin"), now=utcnow())

    def cancel() -> None:
        with transaction() as db:
            sessions.move(db, id_, NewStatus(status="cancelled"), by=who.viewer("recruiter"), now=utcnow())

    with held(hours) as commit, in_a_thread(cancel):
        eventually(waits, "the cancel waits for the change")
        commit()
    assert statuses(id_) == ["void", "void"]

    other = booked(who, FAR, now=utcnow())

    def held_cancel(db: Any) -> None:
        sessions.move(db, other, NewStatus(status="cancelled"), by=who.viewer("recruiter"), now=utcnow())

    with held(held_cancel) as commit, in_a_thread(lambda: change(who, party, timezone="Asia/Kathmandu")):
        eventually(waits, "the change waits for the cancel")
        commit()
    assert statuses(other) == ["void", "void"]


def test_an_interviews_new_rules_lock_its_sessions_in_the_same_order(database: str) -> None:
    who, others = some_people(reminder_offsets=[DAY]), some_people()
    with transaction() as db:
        now = utcnow()
        first = factories.session(db, now=now, people=who)
        second = factories.session(
            db, now=now + timedelta(seconds=1), people=replace(others, interview_id=who.interview_id)
        )
    assert first < second

    def touch(db: Any, id_: UUID, wait: str = "") -> None:
        db.execute(text(f"SELECT FROM sessions WHERE id = :id FOR UPDATE {wait}"), {"id": id_})

    with transaction() as db:  # now it lies behind the other
        db.execute(text("UPDATE sessions SET legal_hold = false WHERE id = :id"), {"id": first})

    def new_rules() -> None:
        with transaction() as db:
            given = InterviewPatch(idle_minutes=20)
            interviews.change(db, who.interview_id, given, by=who.viewer("admin"))

    with held(lambda db: touch(db, first)) as commit, in_a_thread(new_rules):
        eventually(waits, "the change waits for who has the first session")
        with transaction() as db:
            touch(db, second, "NOWAIT")
        commit()
