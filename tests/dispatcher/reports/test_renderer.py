"""Reports made by the dispatcher's renderer with the real browser, and what faults on the way cost: nothing doubled."""

import asyncio
import csv
import io
import os
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pypdf
import pytest
from sqlalchemy import text

from core import reports
from core.clock import utcnow
from core.db import transaction
from core.models import Answer
from core.reports import build
from core.reports.document import Document
from core.reports.queue import files, outcomes
from core.settings import settings
from dispatcher.reports import renderer as renderer_module
from dispatcher.reports.failures import classify
from dispatcher.reports.pdf import Engine
from dispatcher.reports.renderer import Renderer
from tests.support import factories, report_queue
from tests.support.factories import People
from tests.support.processes import eventually
from tests.support.report_queue import claim, content, days, last_push, mailed, pushed, request_report, row, time_passes

pytestmark = pytest.mark.servers


@pytest.fixture
def people(database: str) -> People:
    """People with a few sessions."""
    now = utcnow()
    with transaction() as db:
        who = factories.people(db, questions=3)
        for day in range(1, 9):
            id_ = factories.session(
                db, now=now - timedelta(days=day), people=who, status="completed", score=50 + 5 * day
            )
            for question in who.question_ids:
                db.add(Answer(session_id=id_, question_id=question, answered_at=now, source="ai", score=5))
        return who


def render(*, engine: Engine | None = None, **more: Any) -> None:
    """Make all that is due, as a dispatcher does."""

    async def drain() -> None:
        async with Renderer(settings().model_copy(update=more), engine=engine) as renderer:
            await renderer.drain()

    asyncio.run(drain())


def once(requested: UUID, people: People, *, to: str | None = None) -> None:
    """Nothing of the report's end is missing or doubled."""
    assert row(requested).status == "ready"
    assert pushed(requested).count("ready") == 1
    assert pushed(requested)[-1] == "ready"
    assert report_queue.files(requested) == 1
    assert report_queue.notified(requested) == [(people.ids["recruiter"], "report_ready")]
    assert [address for address, _ in mailed(str(requested))] == ([to] if to else [])


def test_all_four_report_types(people: People) -> None:
    subject = {"interview_pdf": {"interview_id": people.interview_id}}
    subject["candidate_pdf"] = {"candidate_id": people.candidate_id}
    kinds = ("dashboard_pdf", "dashboard_csv", "interview_pdf", "candidate_pdf")
    requested = {
        kind: request_report(people, kind, email_to="boss@example.com", **subject.get(kind, {})).id for kind in kinds
    }
    render()
    for kind, id_ in requested.items():
        once(id_, people, to="boss@example.com")
        push = last_push(id_)
        assert push["size"] == len(content(id_))
        if kind == "dashboard_csv":
            rows = list(csv.reader(io.StringIO(content(id_).decode())))
            assert len(rows) == 9
            assert push["content_type"].startswith("text/csv")
            assert push["filename"].endswith(".csv")
        else:
            pdf = pypdf.PdfReader(io.BytesIO(content(id_)))
            assert len(pdf.pages) >= 1
            assert (push["content_type"], push["filename"][-4:]) == ("application/pdf", ".pdf")
    page_text = pypdf.PdfReader(io.BytesIO(content(requested["candidate_pdf"]))).pages[0].extract_text()
    assert "Cäcilie" in page_text
    assert "Cäcilie" in last_push(requested["candidate_pdf"])["filename"]


def test_a_report_of_a_deleted_subject_fails(people: People) -> None:
    requested = request_report(people, "interview_pdf", interview_id=people.interview_id, email_to="boss@example.com")
    with transaction() as db:
        db.execute(text("UPDATE reports SET parameters = jsonb_set(parameters, '{interview_id}', '999999')"))
    render()
    assert pushed(requested.id) == ["queued", "running", "failed"]
    assert last_push(requested.id)["reason"] == "The interview that it is about is no longer there."
    assert report_queue.notified(requested.id) == [(people.ids["recruiter"], "report_failed")]
    assert len(mailed(str(requested.id))) == 1


class Struck(Engine):
    """The real engine, whose browser is killed while it prints the first document."""

    struck = 0

    async def pdf(self, document: Document, *, seconds: float = 20.0) -> bytes:
        if not self.struck:
            await self.warm()
            assert self.pid is not None
            self.struck += 1
            asyncio.get_running_loop().call_later(0.05, os.kill, self.pid, signal.SIGKILL)
        return await super().pdf(document, seconds=seconds)


def test_a_killed_browser_costs_one_attempt(people: People) -> None:
    requested = request_report(people, "dashboard_pdf", email_to="boss@example.com")

    async def twice() -> None:
        async with Struck() as engine, Renderer(settings(), engine=engine) as renderer:
            await renderer.drain()
            assert pushed(requested.id) == ["queued", "running", "queued"]
            assert last_push(requested.id)["reason"] == "It could not be printed."
            await asyncio.to_thread(time_passes)
            await renderer.drain()

    asyncio.run(twice())
    once(requested.id, people, to="boss@example.com")
    assert row(requested.id).attempts == 2


class Cut(Engine):
    """The real engine, with the database away as soon as a document is printed."""

    def __init__(self, database: str, seconds: float) -> None:
        super().__init__()
        self._database, self._seconds = database, seconds

    async def pdf(self, document: Document, *, seconds: float = 20.0) -> bytes:
        printed = await super().pdf(document, seconds=seconds)
        asyncio.get_running_loop().call_later(self._seconds, cut, self._database, True)
        cut(self._database, False)
        return printed


def cut(database: str, allowed: bool) -> None:
    """Let nobody in, and throw out who is; or let them in again."""
    server, name = database.rsplit("/", 1)
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}".encode())
        if not allowed:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


def test_a_database_outage_before_the_report_is_stored(people: People, database: str) -> None:
    requested = request_report(people, "dashboard_pdf", email_to="boss@example.com")
    render(engine=Cut(database, 1.5))
    once(requested.id, people, to="boss@example.com")
    assert row(requested.id).attempts == 1, "what was printed is not printed again"


def test_a_full_disk(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = request_report(people)
    with monkeypatch.context() as full:
        full.setattr(files, "IN_MEMORY", 1)
        full.setattr(tempfile, "tempdir", "/proc/nowhere")
        render()
        assert pushed(requested.id)[-1] == "queued"
        assert "lacked memory" in last_push(requested.id)["reason"]
    time_passes()
    render()
    once(requested.id, people)


def test_an_internal_error_is_reported_without_details(people: People) -> None:
    request_report(people)
    [claimed] = claim()
    verdict = classify(claimed, KeyError("/home/secret"))
    assert not verdict.retry
    assert "secret" not in verdict.reason


def test_a_report_fails_after_too_many_lost_leases(people: People) -> None:
    requested = request_report(people)
    for _ in range(outcomes.ATTEMPTS):
        assert len(claim()) == 1
        time_passes()
    render()
    assert pushed(requested.id)[-1] == "failed"
    assert last_push(requested.id)["reason"] == outcomes.TOO_MANY_LOST_LEASES


async def test_two_dispatchers_render_each_report_once(people: People) -> None:
    requested = [
        (await asyncio.to_thread(request_report, people, **days(n), email_to="boss@example.com")).id for n in range(20)
    ]
    async with Renderer(settings()) as one, Renderer(settings()) as other:
        await asyncio.gather(one.drain(), other.drain())
    for id_ in requested:
        once(id_, people, to="boss@example.com")
        assert row(id_).attempts == 1


async def test_reports_in_progress_are_released_on_stop(people: People) -> None:
    requested = [request_report(people, "dashboard_pdf", **days(n)).id for n in range(3)]
    async with Renderer(settings()) as renderer:
        await renderer.fetch_due()
        assert sum(row(id_).status == "running" for id_ in requested) == 2
    assert [row(id_).status for id_ in requested] == ["queued"] * 3
    assert [row(id_).attempts for id_ in requested] == [0] * 3


async def test_a_lease_is_held_while_a_report_takes_long(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer_module, "RENEW_SECONDS", 0.05)
    requested = request_report(people, "dashboard_pdf")
    slow, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Engine):
        async def pdf(self, document: Document, *, seconds: float = 20.0) -> bytes:
            slow.set()
            await go_on.wait()
            return await super().pdf(document, seconds=seconds)

    async with Renderer(settings(), engine=Slow()) as renderer:
        await renderer.fetch_due()
        await slow.wait()
        with transaction() as db:
            db.execute(text("UPDATE reports SET lease_until = clock_timestamp() + interval '1 s'"))
        soon = utcnow() + timedelta(seconds=10)
        await asyncio.to_thread(
            eventually, lambda: (row(requested.id).lease_until or soon) > soon, "the lease is renewed"
        )
        go_on.set()
        await renderer.drain()
    once(requested.id, people)


async def test_long_csv_reports_do_not_block_mail_threads(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, list_rows = threading.Event(), build.write_rows
    monkeypatch.setattr(build, "write_rows", lambda *given: go_on.wait(30) and list_rows(*given))
    for n in range(5):
        request_report(people, **days(n))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    async with Renderer(settings().model_copy(update={"report_concurrency": 5})) as renderer:
        await renderer.fetch_due()
        async with asyncio.timeout(5):
            await asyncio.gather(*(asyncio.to_thread(utcnow) for _ in range(3)))
        go_on.set()
        await renderer.drain()


def test_a_large_list_is_stored_and_read_in_slices(people: People) -> None:
    with transaction() as db:
        db.execute(
            text("""
            INSERT INTO sessions (id, candidate_id, interview_id, status, status_at, ics_uid, created_at)
            SELECT gen_random_uuid(), :candidate, :interview, 'expired', now(), gen_random_uuid()::text,
                now() - interval '2 days' FROM generate_series(1, 20000)
            """),
            {"candidate": people.candidate_id, "interview": people.interview_id},
        )
    requested = request_report(people)
    render()
    size = int(last_push(requested.id)["size"])
    assert size > 2 * files.SLICE
    with transaction() as db:
        slices = db.execute(text("SELECT octet_length(content) FROM report_slices ORDER BY ordinal")).scalars().all()
    assert sum(slices) == size and set(slices[:-1]) == {files.SLICE}
    assert content(requested.id).count(b"\r\n") >= 20000
    assert b"".join(files.read(requested.id, 0, size - 1)) == content(requested.id)


def test_the_daily_reports_are_made_and_mailed(people: People) -> None:
    with transaction() as db:
        db.execute(
            text("""
            INSERT INTO notification_preferences (user_id, category, channel, delivery)
            VALUES (:user_id, 'daily_report', 'email', 'instant')
            """),
            {"user_id": people.ids["admin"]},
        )
    reports.enqueue_daily(now=utcnow())
    reports.enqueue_daily(now=utcnow(), date=utcnow().date() - timedelta(days=3))
    render(report_concurrency=1)
    [(_, attached)] = mailed("daily/")
    assert [name.rsplit(".")[-1] for name in attached] == ["pdf", "csv"]
    with transaction() as db:
        as_of = db.execute(text("SELECT data_as_of, count(*) FROM reports WHERE status = 'ready' GROUP BY 1")).all()
    assert [count for _, count in as_of] == [2, 2], "a day's are of one snapshot"
