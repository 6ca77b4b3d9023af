"""/mail as a person opens it: real mails through the real capture server, hostile ones included."""

import re
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import httpx
import pytest

from tests import parts
from tests.parts import Database, eventually, free_port


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where mails are captured."""
    return tmp_path_factory.mktemp("captured")


@pytest.fixture(scope="module")
def smtp(folder: Path) -> Iterator[int]:
    """The local stack's capture server; gives its port."""
    port = free_port()
    command = [sys.executable, "-m", "deployments.local.capture", "--port", str(port), "--folder", str(folder)]
    process = subprocess.Popen(command, cwd=parts.ROOT)
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
        parts.api_process(shared_database.url, tmp_path_factory.mktemp("api"), CAPTURED_MAIL=str(folder)) as api,
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


def test_without_captured_mail_there_is_no_page(api: parts.Api) -> None:
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


def test_hostile_mail_is_words(page: httpx.Client, smtp: int) -> None:
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
    ],
)
def test_broken_mail_breaks_no_page(page: httpx.Client, smtp: int, data: bytes) -> None:
    send(smtp, data)
    assert page.get("/mail").status_code == 200
    path = newest(page)
    for view in ("", "?view=text", "?view=source", "/source"):
        assert page.get(path + view).status_code == 200


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "nothing.eml", "a%00b", "x" * 300])
def test_no_other_file_is_read(page: httpx.Client, name: str) -> None:
    assert page.get(f"/mail/{name}").status_code == 404
    assert page.get(f"/mail/{name}/source").status_code == 404


def test_only_this_machine_may_look(page: httpx.Client) -> None:
    assert page.get("/mail", headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 404
    assert page.get("/mail", headers={"Host": "rebound.example"}).status_code == 404
