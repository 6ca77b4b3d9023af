"""Requesting reports: what may be requested, once while unfinished, no more than may wait, and its notifications."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import text

from core import reports
from core.clock import utcnow
from core.db import transaction
from core.errors import Forbidden, GreenroomError, Invalid, QueueFull
from core.reports import NewReport
from core.reports.queue import claims, outcomes
from core.reports.queue.outcomes import ATTEMPTS, Failure
from core.reports.queue.parameters import parameters_of, period_of, request_hash
from tests.support import report_queue
from tests.support.factories import People
from tests.support.http import all_at_once
from tests.support.processes import Database, forget_settings
from tests.support.report_queue import (
    NOW,
    claim,
    days,
    finish,
    last_push,
    mailed,
    new_people,
    pushed,
    request_report,
    row,
    time_passes,
)


@pytest.fixture
def people(shared_database: Database) -> People:
    """New people, and nothing in the queue."""
    with transaction() as db:
        db.execute(text("DELETE FROM reports WHERE status IN ('queued', 'running')"))
    return new_people()


@pytest.fixture
def setting(shared_database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Set one of Greenroom's settings."""

    def set_(name: str, value: str) -> None:
        monkeypatch.setenv(f"GREENROOM_{name}", value)
        forget_settings()

    yield set_
    monkeypatch.undo()
    forget_settings()


def test_each_report_type_has_its_parameters(people: People) -> None:
    by, now = people.viewer("recruiter"), utcnow()
    with transaction() as db:
        requested = [
            reports.generate_dashboard_pdf(db, by=by, now=now),
            reports.generate_dashboard_csv(db, by=by, now=now),
            reports.generate_interview_pdf(db, people.interview_id, by=by, now=now),
            reports.generate_candidate_pdf(db, people.candidate_id, by=by, now=now),
        ]
    kinds = [row(one.id).type for one in requested]
    assert kinds == ["dashboard_pdf", "dashboard_csv", "interview_pdf", "candidate_pdf"]
    assert [row(one.id).parameters.keys() for one in requested] == [
        {"start", "end"},
        {"start", "end"},
        {"interview_id", "start", "end"},
        {"candidate_id"},
    ]
    assert [pushed(one.id) for one in requested] == [["queued"]] * 4
    with transaction() as db, pytest.raises(Invalid, match="email_to"):
        reports.generate_dashboard_pdf(db, by=by, now=now, email_to="no address")


def test_a_period_that_is_not_given_is_the_last_thirty_days(setting: Any) -> None:
    setting("TIMEZONE", "Europe/Berlin")
    given = parameters_of(NewReport(type="dashboard_pdf"), now=NOW)
    assert given == {"start": "2026-02-07T23:00:00+00:00", "end": "2026-03-09T23:00:00+00:00"}
    assert parameters_of(NewReport(type="dashboard_pdf"), now=NOW + timedelta(hours=13)) == given, "all of the day"
    over_the_change = parameters_of(NewReport(type="dashboard_pdf", end=date(2026, 4, 15)), now=NOW)
    assert over_the_change == {"start": "2026-03-15T23:00:00+00:00", "end": "2026-04-14T22:00:00+00:00"}


SAME_DAY = [
    {"start": "2026-03-01", "end": "2026-03-02"},
    {"start": "2026-03-01T00:00:00Z", "end": "2026-03-02T00:00:00Z"},
    {"start": "2026-03-01T02:00:00+02:00", "end": "2026-03-01T19:00:00-05:00"},
    {"start": date(2026, 3, 1), "end": datetime(2026, 3, 2, tzinfo=UTC)},
]


def test_equal_periods_in_other_notations_are_one_request(people: People) -> None:
    requested = [request_report(people, **given) for given in SAME_DAY]
    assert [one.new for one in requested] == [True, False, False, False]
    assert len({one.id for one in requested}) == 1


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "interview_pdf"}, "interview_id", "is needed"),
    ({"type": "candidate_pdf"}, "candidate_id", "is needed"),
    ({"type": "interview_pdf", "interview_id": 10**12}, "interview_id", "there is no interview"),
    ({"type": "candidate_pdf", "candidate_id": 10**12}, "candidate_id", "there is no candidate"),
    ({"type": "dashboard_pdf", "interview_id": 1}, "interview_id", "does not go with"),
    ({"type": "interview_pdf", "interview_id": 1, "candidate_id": 1}, "candidate_id", "does not go with"),
    ({"start": "2026-03-02", "end": "2026-03-01"}, "start", "would be empty"),
    ({"start": "2026-03-01", "end": "2026-03-01"}, "start", "would be empty"),
    ({"start": "2999-01-01"}, "start", "would be empty"),
    ({"start": "2020-01-01", "end": "2026-03-01"}, "start", "at most 1830"),
    ({"email_to": "a@-.-"}, "email_to", "domain"),
]


@pytest.mark.parametrize(("given", "field", "why"), BAD)
def test_invalid_parameters_are_named(people: People, given: dict[str, Any], field: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as caught:
        request_report(people, **{"type": "dashboard_pdf"} | given)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "value", ["2026-02-30", "2026-03-01T00:00:00", "yesterday", 20260301, 1.5, True, [], "9999-01-01", "20260301", ""]
)
def test_invalid_times(value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        NewReport(type="dashboard_pdf", start=value)
    assert [error["loc"][0] for error in caught.value.errors()] == ["start"]


def test_who_may_request_reports(people: People) -> None:
    for role in ("interviewer", "candidate"):
        with pytest.raises(Forbidden):
            request_report(people, role=role)


moments = st.datetimes(datetime(2022, 1, 1), datetime(2026, 6, 1), timezones=st.just(UTC))
zones = st.integers(-12, 14).map(lambda hours: timezone(timedelta(hours=hours)))


@given(moments, st.timedeltas(timedelta(microseconds=1), timedelta(days=1000)), zones, zones)
def test_the_request_hash_depends_on_moments_not_notation(
    start: datetime, length: timedelta, one: timezone, other: timezone
) -> None:
    def hashed(zone: timezone, *, more: timedelta = timedelta(0)) -> str:
        given = NewReport(type="dashboard_pdf", start=start.astimezone(zone), end=(start + length + more))
        parameters = parameters_of(given, now=NOW)
        period = period_of(json.loads(json.dumps(parameters)))
        assert period is not None and (period.start, period.end - more) == (start, start + length)
        return request_hash("dashboard_pdf", parameters)

    assert hashed(one) == hashed(other)
    assert hashed(one, more=timedelta(microseconds=1)) != hashed(one)


def test_the_request_hash_depends_on_type_subject_and_address() -> None:
    given = [("dashboard_pdf", {}, None), ("dashboard_csv", {}, None), ("dashboard_pdf", {}, "a@b.example")]
    given += [("interview_pdf", {"interview_id": n}, None) for n in (1, 2, 11)]
    assert len({request_hash(*one) for one in given}) == len(given)


def test_equal_unfinished_requests_are_one(people: People) -> None:
    first = request_report(people)
    assert request_report(people) == first._replace(new=False)
    assert request_report(people, role="admin").new, "somebody else's is another"
    assert request_report(people, email_to="boss@example.com").new, "and so is one that is to be mailed"
    [claimed] = claim(1)
    assert request_report(people) == first._replace(new=False, status="running")
    finish(claimed)
    assert request_report(people).new


def test_concurrent_equal_requests_are_one(people: People) -> None:
    requested = all_at_once(lambda _: request_report(people), range(16))
    assert len({one.id for one in requested}) == 1
    assert sum(one.new for one in requested) == 1
    assert pushed(requested[0].id) == ["queued"]


def test_a_full_queue_is_exact(people: People, setting: Any) -> None:
    setting("REPORT_QUEUE_CAPACITY", "5")
    first = request_report(people, **days(0))

    def again(number: int) -> bool:
        try:
            return request_report(people, **days(number)).new
        except QueueFull as full:
            assert full.retry_after >= 1 and "5" in str(full)
            return False

    assert sum(all_at_once(again, range(1, 17))) == 4
    assert request_report(people, **days(0)) == first._replace(new=False), "what is there already takes no room"
    reports.enqueue_daily(now=utcnow())
    with transaction() as db:
        assert reports.enqueue_as_system(db, NewReport(type="dashboard_csv"), key="k", now=utcnow()).new
    [claimed] = claim(1)
    assert not again(20), "one that is being made still counts"
    finish(claimed)
    assert again(20)


def test_capacity_zero_means_unlimited(people: People, setting: Any) -> None:
    setting("REPORT_QUEUE_CAPACITY", "0")
    assert all(one.new for one in all_at_once(lambda n: request_report(people, **days(n)), range(12)))


def test_the_system_requests_once_for_a_key(people: People) -> None:
    given = NewReport(type="dashboard_csv")
    with transaction() as db:
        first = reports.enqueue_as_system(db, given, key="flow-run/1", now=utcnow())
        assert reports.enqueue_as_system(db, given, key="flow-run/1", now=utcnow()) == first._replace(new=False)
        assert reports.enqueue_as_system(db, given, key="flow-run/2", now=utcnow()).new
    assert pushed(first.id) == []


def test_from_request_to_ready(people: People) -> None:
    requested = request_report(people, email_to="boss@example.com")
    [claimed] = claim()
    assert claim() == []
    assert finish(claimed, b"x" * 10)
    assert pushed(requested.id) == ["queued", "running", "ready"]
    push = last_push(requested.id)
    assert push["url"] == f"/api/reports/{requested.id}/file"
    assert (push["size"], push["filename"], push["report_type"]) == (10, "Sessions.csv", "dashboard_csv")
    assert report_queue.notified(requested.id) == [(people.ids["recruiter"], "report_ready")]
    assert mailed(str(requested.id)) == [("boss@example.com", ["Sessions.csv"])]
    kept = row(requested.id)
    assert (kept.status, kept.lease_owner, kept.attempts) == ("ready", None, 1)
    assert kept.expires_at is not None and kept.finished_at is not None
    assert kept.expires_at - kept.finished_at > timedelta(days=29)
    # who comes second, from another process that took it for lost, changes nothing
    assert not finish(claimed)
    assert (pushed(requested.id)[2:], report_queue.files(requested.id)) == (["ready"], 1)


def test_errors_are_retried_and_then_fail(people: People) -> None:
    requested = request_report(people, email_to="boss@example.com")
    for attempt in range(1, ATTEMPTS + 1):
        time_passes()
        [claimed] = claim()
        assert claimed.attempts == attempt
        with transaction() as db:
            assert outcomes.mark_failed(db, claimed, Failure("No paper.", retry=True), now=utcnow()) == (
                attempt == ATTEMPTS
            )
            assert outcomes.mark_failed(db, claimed, Failure("No paper.", retry=True), now=utcnow()) is None
        if attempt < ATTEMPTS:
            assert claim() == [], "not at once"
    assert pushed(requested.id) == ["queued", "running"] * ATTEMPTS + ["failed"]
    assert last_push(requested.id)["reason"] == "No paper."
    assert report_queue.notified(requested.id) == [(people.ids["recruiter"], "report_failed")]
    assert mailed(str(requested.id)) == [("boss@example.com", [])]
    assert request_report(people, email_to="boss@example.com").new


def test_failed_system_reports_notify_admins(people: People) -> None:
    with transaction() as db:
        requested = reports.enqueue_as_system(db, NewReport(type="dashboard_csv"), key="nobody", now=utcnow())
    [claimed] = claim()
    with transaction() as db:
        assert outcomes.mark_failed(db, claimed, Failure("Gone.", retry=False), now=utcnow())
    assert report_queue.notified(requested.id) == [(None, "job_failed")]
    assert pushed(requested.id) == []


def test_an_expired_lease_is_claimed_and_fences_the_old_owner(people: People) -> None:
    requested = request_report(people)
    [old] = claim(owner="old")
    with transaction() as db:
        claims.renew(db, [old])
    assert claim(owner="new") == []
    time_passes()
    with transaction() as db:
        due = claims.next_due(db)
        assert due is not None and due < utcnow()
    [new] = claim(owner="new")
    assert (new.id, new.attempts) == (requested.id, 2)
    with transaction() as db:
        claims.renew(db, [old])
        claims.release(db, [old])
        assert outcomes.mark_failed(db, old, Failure("Late.", retry=False), now=utcnow()) is None
    assert not finish(old, b"old")
    assert finish(new, b"new")
    assert report_queue.content(requested.id) == b"new"


def test_releasing_a_claim_restores_the_report(people: People) -> None:
    requested = request_report(people)
    [claimed] = claim()
    with transaction() as db:
        claims.release(db, [claimed])
    assert (row(requested.id).status, row(requested.id).attempts) == ("queued", 0)
    assert pushed(requested.id) == ["queued", "running", "queued"]
    assert len(claim()) == 1


def test_user_requests_come_before_daily_reports(people: People) -> None:
    reports.enqueue_daily(now=utcnow())
    requested = request_report(people)
    assert [one.id for one in claim(1)] == [requested.id]


def test_a_refused_request_has_no_effect(people: People) -> None:
    with pytest.raises(GreenroomError):
        request_report(people, type="candidate_pdf", candidate_id=10**12)
    with transaction() as db:
        mine = {"id": people.ids["recruiter"]}
        assert db.execute(text("SELECT count(*) FROM reports WHERE requested_by = :id"), mine).scalar_one() == 0
