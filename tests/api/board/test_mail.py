"""/mail as a person opens it: real mails through the real capture server, hostile ones included."""

import os
import re
import smtplib
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from tests.support import processes
from tests.support.processes import Database, eventually, free_port


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where mails are captured."""
    return tmp_path_factory.mktemp("captured")


@pytest.fixture(scope="module")
def smtp(folder: Path) -> Iterator[int]:
    """The local stack's capture server; gives its port."""
    port = free_port()
    command = [sys.executable, "-m", "deployments.local.capture", "--port", str(port), "--folder", str(folder)]
    process = subprocess.Popen(command, cwd=processes.ROOT)
    try:
        eventually(lambda: _greets(port), "the capture server greets")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _greets(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def page(shared_database: Database, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A browser's way to the pages."""
    with (
        processes.api_process(shared_database.url, tmp_path_factory.mktemp("api"), CAPTURED_MAIL=str(folder)) as api,
        httpx.Client(base_url=api.url, trust_env=False, timeout=20) as client,
    ):
        yield client


def send(port: int, message: EmailMessage | bytes) -> None:
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        data = message if isinstance(message, bytes) else message.as_bytes(policy=SMTP)
        smtp.sendmail("from@example.com", ["to@example.com"], data)


def newest(page: httpx.Client) -> str:
    """The path of the mail at the top of the list."""
    found = re.search(r'href="(/mail/[^"?]+)"', page.get("/mail").text)
    assert found
    return found[1]


def mail(subject: str, html: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "a@example.com", "b@example.com"
    message.set_content("As text.\n")
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message


def test_without_captured_mail_there_is_no_page(api: processes.Api) -> None:
    answer = httpx.get(f"{api.url}/mail", trust_env=False)
    assert answer.status_code == 404


def test_a_mail_is_listed_and_shown(page: httpx.Client, smtp: int) -> None:
    send(smtp, mail("Grüße an Zoë", "<h1>Hello</h1>"))
    assert "Grüße an Zoë" in page.get("/mail").text
    path = newest(page)
    shown = page.get(path)
    assert shown.status_code == 200
    assert "b@example.com" in shown.text
    frame = re.search(r"<iframe[^>]*>", shown.text)
    assert frame
    assert "sandbox=" in frame[0]
    assert "allow-scripts" not in frame[0]
    assert "allow-same-origin" not in frame[0]
    assert "As text." in page.get(f"{path}?view=text").text
    assert "<h1>Hello</h1>" in page.get(f"{path}/html").text


def test_hostile_mail_is_shown_as_text(page: httpx.Client, smtp: int) -> None:
    script = "<script>alert(1)</script>"
    send(smtp, mail(f"{script} subject", f"{script}<form action=https://evil.example><img src=https://evil.example/x>"))
    assert script not in page.get("/mail").text
    path = newest(page)
    assert script not in page.get(path).text
    body = page.get(f"{path}/html")
    policy = body.headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "form-action 'none'", "img-src data:", "sandbox"):
        assert rule in policy
    assert "script-src" not in policy
    assert "allow-scripts" not in policy
    assert body.headers["X-Content-Type-Options"] == "nosniff"


def test_attachments_are_saved_never_shown(page: httpx.Client, smtp: int) -> None:
    message = mail("With files", "<p>x</p>")
    content = bytes(range(256)) * 20_000
    message.add_attachment(content, maintype="application", subtype="xhtml+xml", filename='../../etc/"pass\\wd.html')
    send(smtp, message)
    path = newest(page)
    file = page.get(f"{path}/files/0")
    assert file.content == content
    assert file.headers["Content-Type"] == "application/octet-stream"
    disposition = file.headers["Content-Disposition"]
    assert disposition.startswith("attachment;")
    assert "/" not in disposition.split("filename=")[1].split(";")[0]
    assert page.get(f"{path}/files/9").status_code == 404


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no headers at all",
        b"Subject: =?broken?Q?=ff?=\r\n\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/html; charset=none\r\n\r\n<b>\xff",
        b"Content-Type: text/plain; charset=utf-7\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!",
        b"Subject: Gr\xfc\xdfe\r\nFrom: \xd0\xb6@example.com\r\n\xff: x\r\n\r\n8 bits",
        b"Content-Type: text/html; charset=utf-7\r\n\r\n+2AA-",
        b'Content-Type: text/plain; charset="a\0b"\r\nX-Envelope-To: nobody\r\n\r\nx',
        b"Content-Type: text/plain; name*" + b"9" * 900 + b"=a\r\n\r\nx",
        b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!",
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(3000)),
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(90))
        + b"x\r\n" * 200_000,
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\ncut in the mid",
    ],
)
def test_broken_mail_breaks_no_page(page: httpx.Client, smtp: int, data: bytes) -> None:
    send(smtp, data)
    assert page.get("/mail").status_code == 200
    path = newest(page)
    for view in ("", "?view=html", "?view=text", "?view=calendar", "?view=source", "/source"):
        assert page.get(path + view).status_code == 200
    saved = page.get(f"{path}/source").content
    assert saved.startswith(b"X-Envelope-From: from@example.com\r\nX-Envelope-To: to@example.com\r\n")
    assert saved.rstrip().endswith(data.rstrip())


def test_envelope_headers_inside_a_mail_are_ignored(page: httpx.Client, smtp: int) -> None:
    send(smtp, b"X-Envelope-To: liar@example.com\r\nSubject: whom to\r\n\r\nx")
    first = page.get("/mail").text.split("</li>")[0]
    assert "whom to" in first
    assert "to@example.com" in first
    assert "liar" not in first


def test_a_name_in_any_script_is_kept(page: httpx.Client, smtp: int) -> None:
    message = mail("Report")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="Übersicht für 面接.pdf")
    send(smtp, message)
    path = newest(page)
    assert "Übersicht für 面接.pdf" in page.get(path).text
    saved = page.get(f"{path}/files/0").headers["Content-Disposition"]
    assert unquote(saved.split("filename*=UTF-8''")[1]) == "Übersicht für 面接.pdf"
    assert 'filename="_bersicht f_r __.pdf"' in saved


@pytest.mark.parametrize(
    "written",
    [
        b"filename*=utf-8''%0d%0aSet-Cookie:%20a=b%00%22;%20filename=x%e2%80%ae.exe",
        b'filename="..\\..\\x"; filename=evil.html"',
        b"filename=../../../etc/passwd",
        b"filename=\xff\xfe%2f.html",
        b'filename=".."',
    ],
)
def test_file_names_cannot_escape_the_header(page: httpx.Client, smtp: int, written: bytes) -> None:
    send(
        smtp, b"Content-Type: text/html\r\nContent-Disposition: attachment; " + written + b"\r\n\r\n<script>1</script>"
    )
    file = page.get(f"{newest(page)}/files/0")
    assert file.status_code == 200
    assert "set-cookie" not in file.headers
    assert file.headers["X-Content-Type-Options"] == "nosniff"
    assert file.headers["Content-Type"] == "application/octet-stream"
    parsed = re.fullmatch(
        r"attachment; filename=\"([^\"]+)\"; filename\*=UTF-8''([^;]+)", file.headers["Content-Disposition"]
    )
    assert parsed
    for name in (parsed[1], unquote(parsed[2])):
        assert not re.search(r"[/\\\x00-\x1f\u202e]", name)
        assert name.strip(".")


def test_an_invitation_is_shown_with_its_calendar(page: httpx.Client, smtp: int) -> None:
    message = mail("Come", "<p>Come</p>")
    ics = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nSUMMARY:<script>1</script>\r\nEND:VCALENDAR\r\n"
    message.add_alternative(ics, subtype="calendar", params={"method": "REQUEST"})
    message.add_attachment(ics.encode(), maintype="application", subtype="ics", filename="invite.ics")
    send(smtp, message)
    path = newest(page)
    shown = page.get(path).text
    assert [tab for tab in ("HTML", "Text", "Calendar", "Source") if f">{tab}</a>" in shown] == [
        "HTML",
        "Text",
        "Calendar",
        "Source",
    ]
    calendar = page.get(f"{path}?view=calendar").text
    assert "METHOD:REQUEST" in calendar
    assert "SUMMARY:&lt;script&gt;" in calendar
    assert page.get(f"{path}/files/0").content == ics.encode()
    assert page.get(f"{path}/files/1").status_code == 404


def test_our_own_pages_run_no_script(page: httpx.Client, smtp: int) -> None:
    send(smtp, mail('"><img src=x onerror=alert(1)>'))
    for path in ("/mail", newest(page)):
        answer = page.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-src 'self'" in policy
        assert not re.search(r"script-src|unsafe-inline|unsafe-eval", policy)
        assert "<img" not in answer.text
        assert "<script" not in answer.text
        style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
        assert style
        assert f"'sha256-{b64encode(sha256(style[1].encode()).digest()).decode()}'" in policy


def test_the_list_has_pages(page: httpx.Client, smtp: int, folder: Path) -> None:
    with smtplib.SMTP("127.0.0.1", smtp) as session:
        for number in range(120):
            session.sendmail("from@example.com", ["to@example.com"], f"Subject: many {number}\r\n\r\n".encode())
    seen, path = [], "/mail"
    while path:
        text = page.get(path).text
        listed = re.findall(r'href="/mail/([^"?]+)"', text)
        assert len(listed) <= 50
        seen += listed
        older = re.search(r'href="(/mail\?before=[^"]+)"', text)
        path = older[1] if older else ""
    assert seen == sorted((file.name for file in folder.glob("*.eml")), reverse=True)
    assert len(seen) >= 120


def test_only_regular_files_with_a_mails_name_are_listed(page: httpx.Client, folder: Path, tmp_path: Path) -> None:
    """A link, a pipe, a folder, a file half-written: none is listed, none is read, none stops the page."""
    secret = tmp_path / "secret.eml"
    secret.write_text("Subject: secret\r\n\r\nsecret")
    made = {kind: folder / f"29991231T235959.00000{n}Z-0001.eml" for n, kind in enumerate(("link", "pipe", "folder"))}
    made["link"].symlink_to(secret)
    os.mkfifo(made["pipe"])
    made["folder"].mkdir()
    other = folder / ".20261123T180000.000000Z-0001.eml.half"
    other.write_text("Subject: half-written")
    try:
        listed = page.get("/mail")
        assert listed.status_code == 200
        assert "29991231T" not in listed.text
        assert "half-written" not in listed.text
        for path in (*made.values(), other):
            for view in ("", "/html", "/source", "/files/0"):
                assert page.get(f"/mail/{path.name}{view}").status_code == 404
    finally:
        for path in (made["link"], made["pipe"], other):
            path.unlink()
        made["folder"].rmdir()


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "nothing.eml", "a%00b", "x" * 300])
def test_no_other_file_is_read(page: httpx.Client, name: str) -> None:
    assert page.get(f"/mail/{name}").status_code == 404
    assert page.get(f"/mail/{name}/source").status_code == 404


def test_only_loopback_clients_may_read_captured_mails(page: httpx.Client) -> None:
    assert page.get("/mail", headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 404
    assert page.get("/mail", headers={"Host": "rebound.example"}).status_code == 404
