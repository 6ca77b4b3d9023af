"""What mails say: every kind for everybody, in the reader's zone, with nothing in it that breaks out."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from core.db import engine, transaction
from core.emails.content import (
    Recruiter,
    ReportNotice,
    SessionDetails,
    render,
    render_generic,
    render_report,
    session_details,
)
from core.emails.draft import Attachment, Draft, Recipient
from core.errors import BadSettings, Invalid
from core.models import Candidate, InterviewSession, User
from core.settings import load, settings
from tests.support import factories
from tests.support.mail_samples import IRIS, KINDS, MAYA, NOW, OPEN, START, a_session, called
from tests.support.processes import Database, forget_settings

STATES: dict[str, dict[str, Any]] = {
    "scheduled": {},
    "scheduled, AI only": {"interviewer": None},
    "invited": OPEN,
    "invited, AI only": OPEN | {"interviewer": None},
    "completed": {"status": "completed", "ended_at": START + timedelta(minutes=52)},
    "nobody has a name or a recruiter": {
        "recruiter": None,
        "candidate": Recipient("m@example.com", None, "UTC", "candidate"),
        "interviewer": Recipient("i@example.com", None, "UTC", "interviewer", 3),
    },
}


class Page(HTMLParser):
    """Tags, addresses, styles and visible text of an HTML mail."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(html)
        self.close()
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(f"{tag} {name}", value or "") for name, value in attrs]
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._inside and "title" not in self._inside:
            self.text += data

    def urls(self) -> list[str]:
        """Where its urls lead."""
        return [value for name, value in self.attributes if name == "a href"]


def every_mail(session: SessionDetails) -> Iterator[Draft]:
    """Every mail that the session can cause, to everybody."""
    former = Recipient("ines@example.com", "Inês Prado", "Asia/Kolkata", "interviewer", 9)
    for kind in KINDS:
        for recipient in (session.candidate, session.interviewer, former):
            if recipient is not None:
                before = NOW if kind == "reschedule" else None
                yield render(kind, session, recipient, now=NOW, previous_start=before, reason="It is so.\nSorry.")


@pytest.mark.parametrize("state", STATES)
def test_html_and_plain_text_of_every_kind_agree(state: str) -> None:
    session = a_session(**STATES[state])
    for mail in every_mail(session):
        assert mail.html
        page = Page(mail.html)
        headline, *paragraphs = [line.strip() for line in mail.text.split("\n") if line.strip()]
        assert mail.subject and headline and "None" not in mail.subject + mail.text + page.text
        shown = page.text.replace(" ", "")
        for line in paragraphs:
            if not line.startswith(("--", "(", ">", "http", "Stop these mails")) and not line.endswith(":"):
                assert line.replace(" ", "") in shown, f"{line!r} is not in the HTML of {mail.subject!r}"
        for link in page.urls():
            assert link in mail.text


@pytest.mark.parametrize("state", STATES)
def test_mails_load_nothing_and_refer_only_to_us(state: str) -> None:
    for mail in every_mail(a_session(**STATES[state])):
        page = Page(mail.html or "")
        assert not {"img", "script", "link", "iframe", "object", "form"} & set(page.tags)
        assert not [value for _, value in page.attributes if "url(" in value]
        assert "@import" not in (mail.html or "") and "url(" not in (mail.html or "")
        assert all(link.startswith("http://localhost:8080/") for link in page.urls())
        assert len((mail.html or "").encode()) < 30_000  # Gmail cuts a mail at 102 KB


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></style><b>bold</b>",
    "{{ 7 * 7 }}{% include 'x' %}",
    "a\r\nBcc: victim@example.com\r\n\r\nbody",
    "&lt;i&gt; &amp; \u202egnp.exe\u202c",
)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_cannot_inject_markup_or_line_breaks(hostile: str) -> None:
    named = a_session(
        title=hostile,
        position=hostile,
        candidate=called(MAYA, hostile),
        interviewer=called(IRIS, hostile),
        recruiter=Recruiter(hostile, "rita@example.com", deleted=False),
    )
    harmless = a_session(title="x", position="y")
    for kind in KINDS:
        for who in ("candidate", "interviewer"):
            mail, plain = (
                render(kind, s, s.recipient(who), now=NOW, reason=reason)
                for s, reason in (  # type: ignore[arg-type]
                    (named, hostile.replace("\r", "").replace("\n", " ")),
                    (harmless, "z"),
                )
            )
            page, expected = Page(mail.html or ""), Page(plain.html or "")
            # the same facts, less the row that a title like the position does not need
            extra = expected.tags - page.tags
            assert page.tags - expected.tags == Counter() and set(extra) <= {"tr", "td", "bdi"}, kind
            assert "\n" not in mail.subject and "\r" not in mail.subject
            assert "\u202e" not in mail.subject + (mail.to_name or "")
            assert "Bcc: victim" not in mail.text.splitlines()


def test_a_name_that_resembles_a_url_is_not_linked() -> None:
    named = a_session(candidate=called(MAYA, "Free prize at https://evil.example/x or evil.example"))
    mail = render("invitation", named, IRIS, now=NOW)
    for text in (mail.text, mail.html or ""):  # a subject is never made a link
        assert "evil.example" not in text and "https://evil" not in text
        assert "evil.\u2060example" in text


def test_right_to_left_names_are_isolated() -> None:
    mail = render("reminder", a_session(candidate=called(MAYA, "محمد")), IRIS, now=NOW)
    assert "Your interview with \u2068محمد\u2069 is tomorrow at 09:00" in mail.text


def test_times_are_in_the_recipients_zone_and_name_it() -> None:
    to_candidate, to_interviewer = (render("invitation", a_session(), who, now=NOW) for who in (MAYA, IRIS))
    assert "14:00–15:00\n    Lisbon time (UTC)" in to_candidate.text
    assert "09:00–10:00\n    New York time (UTC−5)" in to_interviewer.text
    assert "14:00–15:00 Lisbon time (UTC)" in to_interviewer.text  # theirs, beside it
    assert to_candidate.subject == "Your interview on Tue 24 Nov 2026, 14:00 Lisbon time: Backend Engineer"


@pytest.mark.parametrize(
    ("now", "zone", "expected"),
    [
        (datetime(2026, 11, 24, 12, tzinfo=UTC), "Europe/Lisbon", "today at 14:00"),
        (datetime(2026, 11, 23, 23, 59, tzinfo=UTC), "Europe/Lisbon", "tomorrow at 14:00"),
        (datetime(2026, 11, 22, 14, tzinfo=UTC), "Europe/Lisbon", "on Tue 24 Nov 2026 at 14:00"),
        # 14:00 UTC is the 25th in Auckland; on the 24th there it is tomorrow, though it is the 24th in UTC, too
        (datetime(2026, 11, 24, 3, tzinfo=UTC), "Pacific/Auckland", "tomorrow at 03:00"),
    ],
)
def test_a_reminder_counts_days_in_the_recipients_zone(now: datetime, zone: str, expected: str) -> None:
    reader = Recipient("x@example.com", "X", zone, "candidate")
    mail = render("reminder", a_session(candidate=reader), reader, now=now)
    assert f"Your interview is {expected}" in mail.text


def test_reschedule_mails_for_a_new_time_and_a_new_interviewer() -> None:
    moved = render("reschedule", a_session(), MAYA, now=NOW, previous_start=START - timedelta(days=4, hours=1))
    assert "(before: Fri 20 Nov 2026, 13:00)" in moved.text
    assert moved.subject == "New time for your interview: Tue 24 Nov 2026, 14:00 Lisbon time"
    same = render("reschedule", a_session(), MAYA, now=NOW, previous_start=START)
    assert "Your interview has a new interviewer" in same.text and "before" not in same.text
    assert "new time" not in same.text.lower()


def test_a_replaced_interviewer_gets_a_removal_notice() -> None:
    former = Recipient("ines@example.com", "Inês Prado", "UTC", "interviewer", 9)
    mail = render("reschedule", a_session(), former, now=NOW, previous_start=START)
    assert mail.kind == "cancellation" and mail.category == "cancelled"
    assert "You no longer hold this interview" in mail.text
    assert b"METHOD:CANCEL" in mail.attachments[0].content


def test_replies_go_to_the_recruiter_while_they_exist() -> None:
    assert render("invitation", a_session(), MAYA, now=NOW).reply_to == "rita@example.com"
    for recruiter in (
        None,
        Recruiter("Rita", "rita@example.com", deleted=True),
        Recruiter("Rita", "no address", deleted=False),
    ):
        mail = render("invitation", a_session(recruiter=recruiter), MAYA, now=NOW)
        assert mail.reply_to is None and "nswer this mail" not in mail.text


def test_only_optional_mails_have_unsubscribe_text() -> None:
    drafts = {kind: render(kind, a_session(), MAYA, now=NOW) for kind in KINDS}
    drafts["generic"] = render_generic(MAYA, subject="Hello", text="Hello")  # type: ignore[index]
    report = render_report(ReportNotice("Dashboard", daily=True), Recipient("rita@example.com"), now=NOW)
    assert report.category == "daily_report"
    for mail in (*drafts.values(), report):
        offered = mail.headers.get("List-Unsubscribe", "")
        assert bool(offered) == (mail.kind in ("completion", "report")), mail.kind
        if offered:
            assert mail.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
            assert offered.strip("<>") in mail.text and offered.strip("<>") in (mail.html or "")


def test_all_mails_of_a_session_are_one_conversation() -> None:
    roots = {render(kind, a_session(), MAYA, now=NOW).headers["References"] for kind in KINDS}
    assert roots == {f"<session.{UUID(int=7)}@localhost>"}


@pytest.mark.parametrize("problem", [None, "There were no sessions in that time."])
def test_a_report_mail_has_the_period_and_the_file_or_the_reason(problem: str | None) -> None:
    files = (Attachment("dashboard.pdf", "application/pdf", b"%PDF" + bytes(284_000)),) if problem is None else ()
    start = datetime(2026, 11, 22, tzinfo=UTC)
    notice = ReportNotice("Dashboard", start, start + timedelta(days=1), NOW, files, problem=problem)
    mail = render_report(notice, Recipient("rita@example.com", "Rita", "Europe/Berlin"), now=NOW)
    assert "Sun 22 Nov 2026, UTC" in mail.text and "10:30 Berlin time (UTC+1)" in mail.text
    if problem:
        assert mail.subject == "Dashboard could not be made" and problem in mail.text and problem in (mail.html or "")
        assert not mail.attachments
    else:
        assert mail.subject == "Dashboard: Sun 22 Nov 2026, UTC" and "dashboard.pdf, 284 KB" in mail.text
        assert mail.attachments == files


@given(st.text(max_size=400))
def test_user_text_is_shown_verbatim(text: str) -> None:
    mail = render_generic(MAYA, subject="Words", text=text)
    assert mail.text == text
    page, empty = Page(mail.html or ""), Page(render_generic(MAYA, subject="Words", text="x").html or "")
    assert set(page.tags) <= set(empty.tags) | {"br", "a", "p"}
    expected = re.sub(r"\s|\ufffd|[\x00-\x1f]", "", text)
    assert expected in re.sub(r"\s|\ufffd|[\x00-\x1f]", "", page.text)


def test_given_html_is_sent_unchanged() -> None:
    mail = render_generic(MAYA, subject="x", text="y", html="<p>z</p>", reply_to="rita@example.com")
    assert (mail.text, mail.html, mail.reply_to) == ("y", "<p>z</p>", "rita@example.com")


def test_an_invalid_address_is_refused_or_omitted() -> None:
    with pytest.raises(Invalid):
        render("invitation", a_session(), Recipient("nowhere", "X", "UTC", "candidate"), now=NOW)
    broken = a_session(candidate=Recipient("nowhere", "X", "UTC", "candidate"))
    mail = render("invitation", broken, IRIS, now=NOW)
    assert b"nowhere" not in mail.attachments[0].content


def test_where_sessions_open_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_SESSION_URL", "https://app.example.com/interviews/{id}?from=mail")
    forget_settings()
    try:
        mail = render("invitation", a_session(), MAYA, now=NOW)
        assert f"https://app.example.com/interviews/{UUID(int=7)}?from=mail" in mail.text
        monkeypatch.setenv("GREENROOM_SESSION_URL", "https://app.example.com/interviews")
        with pytest.raises(BadSettings, match="GREENROOM_SESSION_URL"):
            load()
    finally:
        monkeypatch.delenv("GREENROOM_SESSION_URL")
        forget_settings()
    assert settings().session_url is None


def test_details_of_many_sessions_are_one_query(shared_database: Database) -> None:
    with transaction() as db:
        people = [factories.people(db) for _ in range(3)]
        ids = [factories.session(db, now=NOW, people=one) for one in people]
        alone = factories.session(db, now=NOW, people=people[0], status="completed", interviewer_id=None)
        db.get_one(User, people[1].interviewer_id).deleted_at = NOW
        db.get_one(User, people[1].ids["recruiter"]).deleted_at = NOW
        db.get_one(Candidate, people[2].candidate_id).timezone = "Asia/Tokyo"
    statements: list[str] = []

    def count(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(engine(), "before_cursor_execute", count)
    with transaction() as db:
        found = session_details(db, [*ids, alone, UUID(int=1)])
        assert len(statements) == 1
        assert set(found) == {*ids, alone}
        moved = db.get_one(InterviewSession, ids[0])
        moved.schedule_version = 2
        assert session_details(db, ids[:1])[ids[0]].schedule_version == 2, "what this transaction changed is seen"
    first, second, third = (found[id_] for id_ in ids)
    assert first.interviewer and first.interviewer.party == "interviewer"
    assert first.interviewer.user_id == people[0].interviewer_id
    assert first.reply_to and first.reply_to.startswith("recruiter")
    assert second.interviewer is None and second.reply_to is None and second.recruiter
    assert third.candidate.timezone == "Asia/Tokyo" and third.recipient("candidate") == third.candidate
    assert found[alone].interviewer is None and found[alone].ended_at is not None
    assert first.ics_uid == f"{ids[0]}@greenroom"
