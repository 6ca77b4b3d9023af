"""How reports end when something else goes wrong: their mail, or whatever was made beside them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from core import emails, reports
from core.clock import utcnow
from core.db import transaction
from core.reports.document import Document
from core.reports.queue import outcomes
from core.reports.queue.outcomes import Failure
from core.settings import settings
from dispatcher.reports.pdf import Engine
from dispatcher.reports.renderer import Renderer
from tests.support import report_queue
from tests.support.factories import People
from tests.support.report_queue import claim, days, finish, mailed, new_people, pushed, request_report, row, time_passes


@pytest.fixture
def people(database: str) -> People:
    """People, and nothing in the queue."""
    return new_people()


def broken(error: Exception) -> Callable[..., None]:
    """A mail that cannot be written."""

    def queue(*_: object, **__: object) -> None:
        raise error

    return queue


def test_a_report_completes_when_its_mail_cannot_be_queued(
    people: People, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(emails, "queue_report_ready", broken(KeyError("a template without its word")))
    bad, good = (request_report(people, **days(n), email_to="boss@example.com").id for n in range(2))
    claimed = {one.id: one for one in claim()}
    with transaction() as db:
        assert outcomes.mark_failed(db, claimed[bad], Failure("No paper.", retry=False), now=utcnow())
    assert finish(claimed[good])
    assert [row(id_).status for id_ in (bad, good)] == ["failed", "ready"]
    assert (pushed(bad)[-1], pushed(good)[-1]) == ("failed", "ready")
    assert [category for id_ in (bad, good) for _, category in report_queue.notified(id_)] == [
        "report_failed",
        "report_ready",
    ]
    assert [record.message for record in caplog.records if record.exc_info] == ["a report could not be mailed"] * 2


def test_a_daily_notice_is_created_once_when_its_mail_fails(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes.daily_mail, "notify_subscribers", broken(KeyError("a template without its word")))
    reports.enqueue_daily(now=utcnow())
    assert all(finish(claimed) for claimed in claim())
    assert claim() == [] and mailed("daily/") == []


def test_a_database_error_is_not_taken_for_a_mail_error(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    away = OperationalError("SELECT", {}, Exception("the connection was closed"))
    monkeypatch.setattr(emails, "queue_report_ready", broken(away))
    requested = request_report(people, email_to="boss@example.com")
    [claimed] = claim()
    with pytest.raises(OperationalError), transaction() as db:
        outcomes.mark_failed(db, claimed, Failure("No paper.", retry=False), now=utcnow())
    assert row(requested.id).status == "running", "it is tried again"


def lost(times: int) -> None:
    """Whoever took what is due was lost, so many times."""
    for _ in range(times):
        assert claim()
        time_passes()


def test_a_report_lost_once_is_claimed_normally(people: People) -> None:
    requested = {request_report(people, **days(n)).id for n in range(3)}
    lost(1)
    assert {one.id for one in claim(idle=False)} == requested


def test_a_report_lost_twice_is_claimed_alone_by_an_idle_renderer(people: People) -> None:
    first, second = (request_report(people, **days(n)).id for n in range(2))
    lost(2)
    third = request_report(people, **days(2)).id
    assert claim(idle=False) == [], "nor what is behind it: else it might never have its turn"
    [one] = claim()
    assert (one.id, one.alone, one.attempts) == (first, True, 3)
    assert [each.id for each in claim()] == [second]
    [other] = claim(idle=False)
    assert (other.id, other.alone) == (third, False)


def test_earlier_reports_are_claimed_before_it(people: People) -> None:
    reports.enqueue_daily(now=utcnow())
    lost(2)
    requested = request_report(people).id
    assert [one.id for one in claim(idle=False)] == [requested], "people come before days"
    assert [one.alone for one in claim()] == [True, True], "a day's go together, alone"


def test_a_renderer_processes_it_alone(people: People) -> None:
    for n in range(2):
        request_report(people, "dashboard_pdf", **days(n))
    lost(2)
    requested = [request_report(people, "dashboard_pdf", **days(n)).id for n in range(2, 6)]
    seen: list[int] = []

    class SlowEngine(Engine):
        """Says how many it is asked for at once, and prints nothing."""

        printing_now = 0

        async def pdf(self, document: Document, *, seconds: float = 20.0) -> bytes:
            self.printing_now += 1
            seen.append(self.printing_now)
            await asyncio.sleep(0.2)
            self.printing_now -= 1
            return b"%PDF"

    async def drain(**more: Any) -> None:
        async with Renderer(settings().model_copy(update=more), engine=SlowEngine()) as renderer:
            await renderer.drain()

    asyncio.run(drain(report_concurrency=4))
    assert seen[:2] == [1, 1] and max(seen) > 1
    assert {row(id_).status for id_ in requested} == {"ready"}
