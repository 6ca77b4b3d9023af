"""The bytes of a mail, read back by the standard library: nothing injected, nothing lost, no line too long."""

import re
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, message_from_string, policy
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.emails import mime
from core.emails.addresses import FromAddress, default_sender, envelope, message_host, one_line, sender
from core.emails.content import render
from core.emails.draft import Attachment
from core.errors import Invalid
from core.models import Email
from core.reports.filenames import filename
from tests.support.mail_samples import KINDS, MAYA, NOW, a_session

OURS = ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Auto-Submitted", "X-Auto-Response-Suppress"]
BODY = ["Content-Type", "Content-Transfer-Encoding"]
WORDS = st.text(max_size=300)


def a_mail(**columns: Any) -> Email:
    """A row as the queue keeps it; arguments are its columns."""
    return Email(
        **{
            "id": UUID(int=42),
            "to_address": "maya@example.com",
            "to_name": "Maya Lindqvist",
            "reply_to": "rita@example.com",
            "message_id": "<42@localhost>",
            "subject": "Hello",
            "text_body": "Hello.\n",
            "html_body": "<p>Hello.</p>\n",
            "headers": {},
            "created_at": NOW,
            **columns,
        }
    )


def read(raw: bytes) -> Message:
    """The mail as somebody else reads it; every line is within SMTP's limit and ends in CRLF."""
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    return message_from_bytes(raw, policy=policy.compat32)


def decoded(header: Any) -> str:
    """A header's text, decoded."""
    return str(make_header(decode_header(str(header).replace("\r\n", ""))))


def body(part: Message) -> str:
    """A text part's text, with LF."""
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", content)
    return content.decode().replace("\r\n", "\n")


@given(subject=WORDS, name=WORDS, value=WORDS)
@example(subject="=?utf-8?b?QmNjOiB4?=", name="=?utf-8?q?admin=40example.com?=", value="=?x?=")
@example(subject="a\r\nBcc: victim@example.com", name='", victim@example.com, "', value="\r\n\r\nbody")
@example(subject="x" * 2000, name="x " * 70, value="面" * 300)
def test_no_header_can_be_injected_and_every_text_comes_back(subject: str, name: str, value: str) -> None:
    raw = mime.build(a_mail(subject=subject, to_name=name, headers={"X-Greenroom": value}))
    assert raw.isascii()
    found = read(raw)
    assert found.keys() == [*OURS, "Reply-To", "X-Greenroom", "Content-Type"]
    assert decoded(found["Subject"]) == one_line(subject, 2000)
    assert decoded(found["X-Greenroom"]) == one_line(value, 2000)
    ((_, address),) = getaddresses([found["To"]])
    assert address == "maya@example.com"
    assert all(len(line) <= 78 or " " not in line.strip() for line in raw.split(b"\r\n\r\n")[0].decode().split("\r\n"))


@given(st.text(max_size=140))
def test_a_display_name_comes_back_and_hides_no_address(name: str) -> None:
    found = read(mime.build(a_mail(to_name=name)))
    ((shown, address),) = getaddresses([str(found["To"]).replace("\r\n", "")])
    assert address == "maya@example.com"
    assert decoded(shown) == one_line(name, 150)


@given(text=st.text(max_size=2000), html=st.text(max_size=2000))
def test_bodies_round_trip(text: str, html: str) -> None:
    found = read(mime.build(a_mail(text_body=text, html_body=html)))
    assert found.get_content_type() == "multipart/alternative"
    parts = found.get_payload()
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]  # type: ignore[union-attr]
    for part, given_ in zip(parts, (text, html), strict=True):
        expected = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "", re.sub(r"\r\n?", "\n", given_))
        assert body(part) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5000,
        "ä" * 3000,
        "面接" * 1500,
        ".\n..\n.hidden\n",
        "From here\n",
        "trailing  \n\t\n",
        "--=_2a\n--=_" + "0" * 30,
    ],
)
def test_long_and_unusual_text_survives_smtp(text: str) -> None:
    raw = mime.build(a_mail(text_body=text, html_body=None))
    assert max(len(line) for line in raw.split(b"\r\n")) <= 78
    assert body(read(raw)) == text


@given(name=st.text(max_size=200), content=st.binary(max_size=300), type_=st.text(max_size=60))
def test_attachments_round_trip_with_any_name(name: str, content: bytes, type_: str) -> None:
    raw = mime.build(a_mail(), [Attachment(name, type_, content)])
    assert raw.isascii()
    found = read(raw)
    assert found.get_content_type() == "multipart/mixed"
    _, file = found.get_payload()
    assert file.keys() == ["Content-Type", "Content-Disposition", "Content-Transfer-Encoding"]  # type: ignore[union-attr]
    assert file.get_payload(decode=True) == content  # type: ignore[union-attr]
    assert file.get_content_disposition() == "attachment"  # type: ignore[union-attr]
    assert file.get_filename() and not re.search(r"[/\\\x00-\x1f]", file.get_filename() or "")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("Lebenslauf Müller.pdf", "Lebenslauf Müller.pdf"),
        ("履歴書.pdf", "履歴書.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.exe", "x.exe"),
        ('a"; filename="b.exe', "a'; filename='b.exe"),
        ("  ", "file"),
        ("a" * 300 + ".pdf", "a" * 116 + ".pdf"),
        ("a" * 300, "a" * 120),
        ("a." + "b" * 300, "a." + "b" * 118),
        ("面" * 300 + ".pdf", "面" * 83 + ".pdf"),
        *((filename(f"Interview {letter * 99} 2026-01-01 to 2026-12-31", "pdf"),) * 2 for letter in "a面"),
    ],
)
def test_file_names_keep_their_script_and_lose_their_path(given_: str, kept: str) -> None:
    found = read(mime.build(a_mail(), [Attachment(given_, "application/pdf", b"x")]))
    file = found.get_payload()[1]
    assert (file.get_content_type(), file.get_filename()) == ("application/pdf", kept)  # type: ignore[union-attr]


@pytest.mark.parametrize("character", ["a", "é", "面", "😀", '"'])
def test_the_longest_file_name_fits_smtp_line_limits(character: str) -> None:
    found = read(mime.build(a_mail(), [Attachment(character * 900 + ".pdf", "application/pdf", b"x")]))
    assert found.get_payload()[1].get_filename().endswith(".pdf")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given_", "sent"),
    [
        ("text/csv", "text/csv; charset=utf-8"),
        ("multipart/mixed; boundary=x", "application/octet-stream"),
        ("message/rfc822", "application/octet-stream"),
        ("text/html\r\nX-Bad: 1", "text/html; charset=utf-8"),
        ("nonsense", "application/octet-stream"),
    ],
)
def test_content_types_are_what_they_may_be(given_: str, sent: str) -> None:
    found = read(mime.build(a_mail(), [Attachment("x", given_, b"x")]))
    file = found.get_payload()[1]
    assert str(file["Content-Type"]).split(";\r\n name=")[0] == sent  # type: ignore[index]
    assert file["X-Bad"] is None  # type: ignore[index]


@pytest.mark.parametrize("kind", KINDS)
def test_an_invitation_is_both_acted_on_and_a_file(kind: str) -> None:
    draft = render(kind, a_session(), MAYA, now=NOW)  # type: ignore[arg-type]
    found = read(mime.build(a_mail(text_body=draft.text, html_body=draft.html), draft.attachments))
    kinds = [part["Content-Type"].replace("\r\n", "") for part in found.walk() if not part.is_multipart()]
    acted_on = [one for one in kinds if one.startswith("text/calendar")]
    files = [part.get_filename() for part in found.walk() if part.get_content_disposition() == "attachment"]
    expected = {
        "invitation": (["text/calendar; charset=utf-8; method=REQUEST"], ["invite.ics"]),
        "reschedule": (["text/calendar; charset=utf-8; method=REQUEST"], ["invite.ics"]),
        "cancellation": (["text/calendar; charset=utf-8; method=CANCEL"], ["cancel.ics"]),
        "reminder": (['text/calendar; charset=utf-8; method=PUBLISH; name="interview.ics"'], ["interview.ics"]),
        "completion": ([], []),
    }
    assert (acted_on, files) == expected[kind]
    texts = [body(part) for part in found.walk() if part.get_content_type() in ("text/plain", "text/html")]
    assert texts == [draft.text, draft.html]


def test_the_headers_of_a_mail() -> None:
    at = datetime(2026, 11, 23, 10, 30, 0, tzinfo=timezone(timedelta(hours=1)))
    mail = a_mail(
        created_at=at, headers={"References": "<a@b>", "List-Unsubscribe": "<https://x.example/" + "u" * 400 + ">"}
    )
    raw = mime.build(mail, sender=FromAddress("Acme Ltd., Hiring", "jobs@acme.example"))
    found = read(raw)
    assert found["From"] == '"Acme Ltd., Hiring" <jobs@acme.example>'
    assert found["To"] == "Maya Lindqvist <maya@example.com>"
    assert found["Reply-To"] == "rita@example.com"
    assert found["Message-ID"] == "<42@localhost>"
    assert parsedate_to_datetime(found["Date"]) == at and found["Date"].endswith("09:30:00 +0000")
    assert found["Auto-Submitted"] == "auto-generated"
    assert found["List-Unsubscribe"] == "<https://x.example/" + "u" * 400 + ">"
    assert raw == mime.build(mail, sender=FromAddress("Acme Ltd., Hiring", "jobs@acme.example")), (
        "the same at every attempt"
    )


@pytest.mark.parametrize("name", ["Bcc", "subject", "Bad Name", "X:Y", "X\r\nBcc", "", "Content-Type", "DATE"])
def test_a_forbidden_header_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="header"):
        mime.build(a_mail(headers={name: "x"}))


@pytest.mark.parametrize("id_", ["", "42@localhost", "<42>", "<4 2@x>", "<42@x>\r\nBcc: y", "<<42@x>", "<ä@x>"])
def test_an_invalid_message_id_is_refused(id_: str) -> None:
    with pytest.raises(ValueError, match="Message-ID"):
        mime.build(a_mail(message_id=id_))


@pytest.mark.parametrize(
    ("address", "sent", "smtputf8"),
    [
        ("maya@example.com", "maya@example.com", False),
        ("maya@bücher.example", "maya@xn--bcher-kva.example", False),
        ("maya@STRAẞE.de", "maya@xn--strae-oqa.de", False),  # IDNA 2008; that of 2003 would write to strasse.de
        ("面接@例え.テスト", "面接@xn--r8jz45g.xn--zckzah", True),
        ("a..b@docomo.example", '"a..b"@docomo.example', False),
        ("o'brien+jobs@example.com", "o'brien+jobs@example.com", False),
    ],
)
def test_international_addresses(address: str, sent: str, smtputf8: bool) -> None:
    assert envelope(address) == (sent, smtputf8)
    raw = mime.build(a_mail(to_address=address, to_name="Zoë"))
    assert raw.isascii() is not smtputf8
    (mailbox,) = message_from_string(raw.decode(), policy=policy.SMTPUTF8)["To"].addresses
    assert mailbox.display_name == "Zoë"
    assert (mailbox.username, mailbox.domain) == (address.rpartition("@")[0], sent.rpartition("@")[2])
    assert f" <{sent}>\r\n".encode() in raw


@pytest.mark.parametrize(
    "address",
    [
        "",
        "x",
        "@example.com",
        "x@",
        "a b@example.com",
        "x@exa mple.com",
        "x@a..b",
        "x@-",
        "x\r\nRCPT TO:<y@z>@example.com",
        "x@example.com>\r\nBcc: y",
        "é,b@example.com",
        "é<b@example.com",
        "a@b@c\x00",
        "x" * 65 + "@example.com",
        "x@" + "ä" * 70,
    ],
)
def test_invalid_addresses_are_refused(address: str) -> None:
    with pytest.raises(Invalid):
        envelope(address)


@given(st.text(max_size=60))
def test_an_accepted_address_is_one_smtp_token(text: str) -> None:
    for address in (text, f"{text}@example.com", f"x@{text}"):
        try:
            taken, smtputf8 = envelope(address)
        except Invalid:
            continue
        assert not re.search(r"[\s\x00-\x1f<>]", re.sub(r'^".*"@', "@", taken))
        assert "\r" not in taken and "\n" not in taken
        assert taken.rpartition("@")[2].isascii() and (taken.isascii() or smtputf8)


def test_who_mails_are_from() -> None:
    assert default_sender() == FromAddress("Greenroom", "greenroom@localhost")
    assert sender('"Acme, \\"Jobs\\"" <jobs@acme.example>') == FromAddress('Acme, "Jobs"', "jobs@acme.example")
    assert sender("jobs@acme.example") == FromAddress("", "jobs@acme.example")
    assert message_host("https://bücher.example:8443/x") == "xn--bcher-kva.example"
    assert message_host("http://[::1]:8080") == "[::1]"
    assert NOW.tzinfo is UTC
