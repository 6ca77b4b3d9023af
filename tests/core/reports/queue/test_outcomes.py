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
from tests.support.report_queue import ask, claim, days, finish, mailed, pushed, row, someone, time_passes


@pytest.fixture
def people(database: str) -> People:
    """People, and nothing in the queue."""
    return someone()


def broken(error: Exception) -> Callable[..., None]:
    """A mail that cannot be written."""

    def queue(*_: object, **__: object) -> None:
        raise error

    return queue


def test_a_report_ends_although_its_mail_cannot_be_written(
    people: People, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(emails, "queue_report_ready", broken(KeyError("a template without its word")))
    bad, good = (ask(people, **days(n), email_to="boss@example.com").id for n in range(2))
    claimed = {one.id: one for one in claim()}
    with transaction() as db:
        assert outcomes.mark_failed(db, claimed[bad], Failure("No paper.", retry=False), now=utcnow())
    assert finish(claimed[good])
    assert [row(id_).status for id_ in (bad, good)] == ["failed", "ready"]
    assert (pushed(bad)[-1], pushed(good)[-1]) == ("failed", "ready")
    assert [category for id_ in (bad, good) for _, category in report_queue.told(id_)] == [
        "report_failed",
        "report_ready",
    ]
    assert [record.message for record in caplog.records if record.exc_info] == ["a report could not be mailed"] * 2


def test_nobody_is_told_of_a_day_twice_when_its_mail_cannot_be_written(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes.daily_mail, "notify_subscribers", broken(KeyError("a template without its word")))
    reports.enqueue_daily(now=utcnow())
    assert all(finish(claimed) for claimed in claim())
    assert claim() == [] and mailed("daily/") == []


def test_a_database_that_is_away_is_no_bug_of_the_mail(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    away = OperationalError("SELECT", {}, Exception("the connection was closed"))
    monkeypatch.setattr(emails, "queue_report_ready", broken(away))
    asked = ask(people, email_to="boss@example.com")
    [claimed] = claim()
    with pytest.raises(OperationalError), transaction() as db:
        outcomes.mark_failed(db, claimed, Failure("No paper.", retry=False), now=utcnow())
    assert row(asked.id).status == "running", "it is tried again"


def lost(times: int) -> None:
    """Whoever took what is due was lost, so many times."""
    for _ in range(times):
        assert claim()
        time_passes()


def test_what_was_lost_once_is_taken_as_before(people: People) -> None:
    asked = {ask(people, **days(n)).id for n in range(3)}
    lost(1)
    assert {one.id for one in claim(idle=False)} == asked


def test_what_was_lost_twice_is_taken_alone_and_by_idle_hands(people: People) -> None:
    first, second = (ask(people, **days(n)).id for n in range(2))
    lost(2)
    third = ask(people, **days(2)).id
    assert claim(idle=False) == [], "nor what is behind it: else it might never have its turn"
    [one] = claim()
    assert (one.id, one.alone, one.attempts) == (first, True, 3)
    assert [each.id for each in claim()] == [second]
    [other] = claim(idle=False)
    assert (other.id, other.alone) == (third, False)


def test_what_waits_before_it_is_not_kept_back(people: People) -> None:
    reports.enqueue_daily(now=utcnow())
    lost(2)
    asked = ask(people).id
    assert [one.id for one in claim(idle=False)] == [asked], "people come before days"
    assert [one.alone for one in claim()] == [True, True], "a day's go together, alone"


def test_a_renderer_has_nothing_in_hand_beside_it(people: People) -> None:
    for n in range(2):
        ask(people, "dashboard_pdf", **days(n))
    lost(2)
    asked = [ask(people, "dashboard_pdf", **days(n)).id for n in range(2, 6)]
    seen: list[int] = []

    class Counting(Engine):
        """Says how many it is asked for at once, and prints nothing."""

        printing_now = 0

        async def pdf(self, document: Document, *, seconds: float = 20.0) -> bytes:
            self.printing_now += 1
            seen.append(self.printing_now)
            await asyncio.sleep(0.2)
            self.printing_now -= 1
            return b"%PDF"

    async def drain(**more: Any) -> None:
        async with Renderer(settings().model_copy(update=more), engine=Counting()) as renderer:
            await renderer.drain()

    asyncio.run(drain(report_concurrency=4))
    assert seen[:2] == [1, 1] and max(seen) > 1
    assert {row(id_).status for id_ in asked} == {"ready"}
