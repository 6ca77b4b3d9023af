"""One-click unsubscribing (RFC 8058): links that cannot be forged, a page that changes nothing, a click that does."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from core import emails
from core.db import transaction
from core.emails import unsubscribe
from core.emails.draft import Recipient
from core.emails.unsubscribe import InvalidLink, build_link
from core.models import Candidate, Email, EmailSuppression, NotificationPreference
from tests.support import factories as make
from tests.support.http import Clients, json_body, new_clients
from tests.support.processes import Api, Database, forget_settings

NOW = datetime(2031, 3, 3, 9, tzinfo=UTC)


def signed(address: str, category: str = "report_ready") -> str:
    made = build_link(address, category)
    assert made is not None
    return urlsplit(made).path.removeprefix("/unsubscribe/")


@pytest.fixture
def browser(api: Api) -> Iterator[httpx.Client]:
    """Somebody without a token."""
    with httpx.Client(base_url=api.url, trust_env=False) as client:
        yield client


@contextmanager
def settings(monkeypatch: pytest.MonkeyPatch, **values: str | None) -> Iterator[None]:
    with monkeypatch.context() as now:
        for name, value in values.items():
            if value is None:
                now.delenv(f"GREENROOM_{name}", raising=False)
            else:
                now.setenv(f"GREENROOM_{name}", value)
        forget_settings()
        yield
    forget_settings()


@given(st.text(min_size=1, max_size=60), st.from_regex(r"[a-z_]{1,20}", fullmatch=True))
def test_an_unsubscribe_link_has_the_signed_subscription(address: str, category: str) -> None:
    try:
        address.encode()
    except UnicodeEncodeError:
        return
    assert unsubscribe.verify_link(signed(address, category)) == (address, category)


@given(st.data())
def test_a_modified_unsubscribe_link_is_invalid(data: st.DataObject) -> None:
    text = signed("ada@example.com")
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_.%/é "))
    changed = text[:place] + other + text[place + 1 :]
    try:
        assert unsubscribe.verify_link(changed) == unsubscribe.verify_link(text)  # unused bits of a last character
        assert place in (text.index(".") - 1, len(text) - 1) or changed == text
    except InvalidLink:
        pass


@given(st.text(max_size=200))
def test_invalid_unsubscribe_links(text: str) -> None:
    with pytest.raises(InvalidLink):
        unsubscribe.verify_link(text)


def test_an_unsubscribe_link_with_another_secret_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = signed("ada@example.com")
    with settings(monkeypatch, LINK_SECRET="another secret that is long enough, too"), pytest.raises(InvalidLink):
        unsubscribe.verify_link(ours)
    assert unsubscribe.verify_link(ours).address == "ada@example.com"


def test_without_a_secret_there_are_no_unsubscribe_links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = signed("ada@example.com")
    issuer = "https://issuer.example.com"
    elsewhere = {"JWKS_URL": f"{issuer}/keys", "JWT_ISSUER": issuer, "JWT_AUDIENCE": "us", "JWT_SECRET": None}
    with settings(monkeypatch, **elsewhere):
        assert build_link("ada@example.com", "report_ready") is None
        with pytest.raises(InvalidLink):
            unsubscribe.verify_link(ours)
    with settings(monkeypatch, LINK_SECRET="a secret for links that is long enough", **elsewhere):
        assert unsubscribe.verify_link(signed("ada@example.com")).address == "ada@example.com"
    with settings(monkeypatch, JWT_SECRET=None, STATE_DIR=str(tmp_path)):
        assert build_link("ada@example.com", "report_ready") is None


def test_an_unsubscribe_link_fits_a_header() -> None:
    assert len(build_link("a" * 64 + "@" + "b" * 185 + ".com", "report_ready") or "") < 900
    assert build_link("ä" * 64 + "@" + "日" * 250, "report_ready") is None


def suppressions(address: str) -> list[tuple[str, str]]:
    with transaction() as db:
        rows = db.execute(
            select(EmailSuppression.category, EmailSuppression.reason).where(EmailSuppression.address == address)
        )
        return [(category, reason) for category, reason in rows]


def a_mail(address: str) -> UUID:
    with transaction() as db:
        queued = emails.queue_email(db, Recipient(address), subject="S", text="T", now=NOW)
        db.execute(update(Email).where(Email.id == queued.id).values(category="report_ready"))
        return queued.id


def status(mail_id: UUID) -> str:
    with transaction() as db:
        return db.get_one(Email, mail_id).status


def test_get_does_not_unsubscribe_and_post_does(browser: httpx.Client) -> None:
    path = f"/unsubscribe/{signed('Ada@Example.com')}"
    mine, other = a_mail("ada@example.com"), a_mail("bob@example.com")
    for _ in range(2):
        page = browser.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "Ada@Example.com" in page.text
        assert '<form method="post">' in page.text
    assert (suppressions("ada@example.com"), status(mine)) == ([], "queued")
    for _ in range(2):  # as a mail program does it, and once more by hand
        done_ = browser.post(path, data={"List-Unsubscribe": "One-Click"})
        assert done_.status_code == 200
        assert "unsubscribed" in done_.text
    assert suppressions("ada@example.com") == [("report_ready", "unsubscribed")]
    assert (status(mine), status(other)) == ("suppressed", "queued")
    with transaction() as db:
        again = emails.queue_email(db, Recipient("ada@example.com"), subject="S", text="T", now=NOW)
        assert again.status == "queued"  # of another category


@pytest.mark.parametrize("body", [b"", b"\xff\xfe{", b"List-Unsubscribe=Nothing", b"x" * 100_000])
def test_the_body_does_not_matter(browser: httpx.Client, body: bytes) -> None:
    address = f"{len(body)}.body@example.com"
    assert browser.post(f"/unsubscribe/{signed(address)}", content=body).status_code == 200
    assert suppressions(address) == [("report_ready", "unsubscribed")]


def test_unsubscribing_a_user_sets_their_preference(api: Api, browser: httpx.Client) -> None:
    clients: Clients = new_clients(api)
    me = json_body(clients.admin.get(f"/api/users/{clients.people.ids['recruiter']}"))["email"]
    browser.post(f"/unsubscribe/{signed(me.upper())}").raise_for_status()
    with transaction() as db:
        p = NotificationPreference
        kept = db.execute(select(p.category, p.channel, p.delivery).where(p.user_id == clients.people.ids["recruiter"]))
        assert kept.all() == [("report_ready", "email", "off")]
        assert suppressions(me) == []


def test_a_candidate_who_can_sign_in_by_another_address(shared_database: Database) -> None:
    with transaction() as db:
        people = make.people(db)
        address = f"private-{people.candidate_id}@example.com"
        db.execute(update(Candidate).where(Candidate.id == people.candidate_id).values(email=address))
        unsubscribe.unsubscribe(db, signed(address, "completed"), now=NOW)
        session_id = make.session(db, now=NOW, people=people, status="completed")
        [queued] = emails.queue_interview_complete(db, [session_id], now=NOW)
        assert queued.status == "suppressed"
        db.execute(
            update(NotificationPreference)
            .where(NotificationPreference.user_id == people.ids["candidate"])
            .values(delivery="instant")
        )
        other = make.session(db, now=NOW, status="completed", people=people)
        assert emails.queue_interview_complete(db, [other], now=NOW)[0].status == "queued"


def test_unsubscribing_an_address_applies_to_its_user(shared_database: Database) -> None:
    with transaction() as db:
        people = make.people(db)
        db.execute(update(Candidate).where(Candidate.id == people.candidate_id).values(user_id=None))
        address = db.get_one(Candidate, people.candidate_id).email
        unsubscribe.unsubscribe(db, signed(address, "completed"), now=NOW)
        session_id = make.session(db, now=NOW, people=people, status="completed")
        assert emails.queue_interview_complete(db, [session_id], now=NOW)[0].status == "suppressed"


def test_a_user_can_turn_unsubscribed_mails_on_again(shared_database: Database) -> None:
    with transaction() as db:
        people = make.people(db)
        address = f"later-{people.candidate_id}@example.com"
        unsubscribe.unsubscribe(db, signed(address, "completed"), now=NOW)
        db.execute(update(Candidate).where(Candidate.id == people.candidate_id).values(email=address))
        session_id = make.session(db, now=NOW, people=people, status="completed")
        assert emails.queue_interview_complete(db, [session_id], now=NOW)[0].status == "suppressed"
        wish = {"category": "completed", "channel": "email", "delivery": "instant"}
        db.add(NotificationPreference(user_id=people.ids["candidate"], **wish))
        other = make.session(db, now=NOW, people=people, status="completed")
        assert emails.queue_interview_complete(db, [other], now=NOW)[0].status == "queued"
    assert suppressions(address) == []


@pytest.mark.parametrize("path", ["x", "x.y", "....", "%00", "é.é", "A" * 5000])
def test_an_invalid_unsubscribe_link_gives_an_error_page(browser: httpx.Client, path: str) -> None:
    for answer in (browser.get(f"/unsubscribe/{path}"), browser.post(f"/unsubscribe/{path}")):
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "does not work" in answer.text


def test_a_hostile_address_stays_text(browser: httpx.Client) -> None:
    page = browser.get(f"/unsubscribe/{signed('<script>alert(1)</script>$title@example.com')}")
    assert "<script" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;$title@example.com" in page.text


def test_the_unsubscribe_link_is_kept_out_of_logs_and_caches(browser: httpx.Client, api: Api) -> None:
    path = signed("hidden@example.com")
    for answer in (browser.get(f"/unsubscribe/{path}"), browser.post(f"/unsubscribe/{path}")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
    log = Path(api.log).read_text()
    assert path not in log
    assert path.partition(".")[0] not in log
    assert base64.b64encode(b"hidden@example.com").decode().rstrip("=") not in log
    assert "POST /unsubscribe/… 200" in log
