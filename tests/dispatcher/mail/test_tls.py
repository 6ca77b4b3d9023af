"""TLS and signing in: what is needed is insisted on, what is only offered is taken, and no password goes in clear."""

import asyncio
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.clock import utcnow
from core.emails.queue.outcomes import AttemptResult
from core.settings import settings
from dispatcher.mail.mailer import Mailer
from dispatcher.mail.send_queue import Envelope
from dispatcher.mail.server import MailServer
from dispatcher.mail.smtp import Connection, Failed
from tests.support.mail_sending import mail, queued, send, statuses
from tests.support.smtp_server import Running, Talk, serving


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that vouches for itself, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), utcnow()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """A server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine trusts the certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


def refusal(server: MailServer) -> AttemptResult:
    with pytest.raises(Failed) as failed:
        Connection(server).open()
    return failed.value.end


@pytest.mark.usefixtures("trusted")
def test_starttls_and_a_password(database: str, tls: ssl.SSLContext) -> None:
    [id_] = queued()
    with serving(tls=tls, accounts={"me": "secret"}) as server:
        send(MailServer("127.0.0.1", server.port, "smtp+starttls", "me", "secret"))
    assert mail(id_).status == "sent"
    commands = server.box.commands
    assert commands[:4] == ["EHLO", "STAR", "EHLO", "AUTH"]
    assert len(server.box.accepted) == 1


@pytest.mark.usefixtures("trusted")
def test_smtps(database: str, tls: ssl.SSLContext) -> None:
    ids = queued(10)
    with serving(tls=tls, implicit=True) as server:
        send(MailServer("127.0.0.1", server.port, "smtps"))
    assert {mail(id_).status for id_ in ids} == {"sent"}
    assert "STAR" not in server.box.commands


@pytest.mark.usefixtures("trusted")
def test_a_long_mail_over_tls(database: str, tls: ssl.SSLContext) -> None:
    [id_] = queued(text_body="long\n" * 500_000)
    with serving(tls=tls) as server:
        send(MailServer("127.0.0.1", server.port, "smtp+starttls"))
    assert (mail(id_).status, mail(id_).last_error) == ("sent", None)
    assert server.box.accepted[0].content.count(b"long") == 500_000


def test_a_certificate_that_nobody_vouches_for_is_refused_where_tls_is_needed(
    database: str, tls: ssl.SSLContext
) -> None:
    [id_] = queued()
    with serving(tls=tls) as server:
        send(MailServer("127.0.0.1", server.port, "smtp+starttls"))
    row = mail(id_)
    assert (row.status, row.attempts) == ("queued", 1)
    assert "certificate" in str(row.last_error).lower()
    assert "MAIL" not in server.box.commands


def test_tls_that_is_only_offered_is_taken_whoever_vouches_for_it(database: str, tls: ssl.SSLContext) -> None:
    [id_] = queued()
    with serving(tls=tls) as server:
        send(MailServer("127.0.0.1", server.port, "smtp"))
    assert mail(id_).status == "sent"
    assert server.box.commands[:2] == ["EHLO", "STAR"]


def test_where_tls_is_needed_a_server_without_it_gets_no_mail() -> None:
    with serving() as server:
        end = refusal(MailServer("127.0.0.1", server.port, "smtp+starttls"))
    assert end.stage == "connect"
    assert "MAIL" not in server.box.commands


def test_what_was_said_in_clear_behind_starttls_is_nobodys_word(tls: ssl.SSLContext) -> None:
    def script(stage: str, talk: Talk) -> str | None:
        return "220 go on\r\n250 injected" if stage == "STARTTLS" else None

    with serving(script, tls=tls) as server:
        end = refusal(MailServer("127.0.0.1", server.port, "smtp+starttls"))
    assert end.stage == "connect"


def test_a_password_never_leaves_this_machine_in_clear() -> None:
    """Another host's name, this machine's address: the connection is made, and the password kept."""
    with serving(accounts={"me": "secret"}) as server:
        end = refusal(MailServer("127.0.0.2", server.port, "smtp", "me", "secret"))
    assert end.stage == "connect"
    assert "AUTH" not in server.box.commands


@pytest.mark.parametrize("ways", ["AUTH PLAIN LOGIN", "AUTH LOGIN"])
def test_signing_in_on_this_machine(ways: str) -> None:
    with serving(accounts={"me": "geheim: ü"}, ways=ways) as server:
        connection = Connection(MailServer("127.0.0.1", server.port, "smtp", "me", "geheim: ü")).open()
        connection.envelope(Envelope("a@example.com", "b@example.com", 14, ascii=True, smtputf8=False))
        assert connection.deliver(b"Subject: x\r\n\r\n").code == 250
        connection.hang_up()


@pytest.mark.parametrize(("password", "ways"), [("mistaken", "AUTH PLAIN LOGIN"), ("secret", "AUTH CRAM-MD5")])
def test_who_cannot_sign_in_loses_no_mail(database: str, password: str, ways: str) -> None:
    [id_] = queued()
    with serving(accounts={"me": "secret"}, ways=ways) as server:
        send(MailServer("127.0.0.1", server.port, "smtp", "me", password))
    assert mail(id_).status == "queued"
    assert password not in str(mail(id_).last_error)


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file with a token, as something else keeps it fresh."""
    path = tmp_path / "token"
    path.write_text("ya29.first\n")
    path.chmod(0o600)
    return path


def with_token(server: Running, token_file: Path, scheme: str = "smtp+starttls") -> MailServer:
    return MailServer("127.0.0.1", server.port, scheme, "me@example.com", token_file=token_file)


XOAUTH2: dict[str, Any] = {"tokens": {"me@example.com": "ya29.first"}, "ways": "AUTH PLAIN LOGIN XOAUTH2"}


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_a_login_by_token(database: str, tls: ssl.SSLContext, token_file: Path, scheme: str) -> None:
    ids = queued(5)
    with serving(tls=tls, implicit=scheme == "smtps", **XOAUTH2) as server:
        send(with_token(server, token_file, scheme))
    assert statuses(ids) == ["sent"] * 5
    assert server.box.commands.count("AUTH") == server.box.connections


@pytest.mark.usefixtures("trusted")
def test_the_token_is_read_anew_at_each_login(database: str, tls: ssl.SSLContext, token_file: Path) -> None:
    """A server that wants a new connection for each mail, and another token for each connection."""
    ids = queued(6)

    def script(stage: str, talk: Talk) -> str | None:
        if stage == "banner":
            talk.box.tokens["me@example.com"] = f"ya29.{talk.number}"
            token_file.write_text(f"ya29.{talk.number}")
        return "421 4.7.0 enough for one connection" if stage == "MAIL" and talk.mails else None

    with serving(script, tls=tls, **XOAUTH2) as server:
        send(with_token(server, token_file), concurrency=1)
    assert statuses(ids) == ["sent"] * 6
    assert server.box.commands.count("AUTH") == server.box.connections == 6
    assert {mail(id_).attempts for id_ in ids} == {1}


@pytest.mark.usefixtures("trusted")
def test_a_token_that_is_refused_is_read_once_more(database: str, tls: ssl.SSLContext, token_file: Path) -> None:
    """It was renewed meanwhile: the challenge is answered with an empty line, and 535 with another try."""
    [id_] = queued()
    answers: list[str] = []

    def script(stage: str, talk: Talk) -> str | None:
        if stage == "AUTH" and not answers:
            talk.box.tokens["me@example.com"] = "ya29.second"
            token_file.write_text("ya29.second")
        if stage == "AUTH":
            answers.append(talk.line)
        return None

    with serving(script, tls=tls, **(XOAUTH2 | {"tokens": {"me@example.com": "ya29.other"}})) as server:
        send(with_token(server, token_file))
    assert (mail(id_).status, mail(id_).attempts) == ("sent", 1)
    assert [line[:12] for line in answers] == ["AUTH XOAUTH2", "", "AUTH XOAUTH2"]
    assert server.box.connections == 1


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("why", ["refused", "unreadable", "not offered"])
def test_a_token_that_does_not_serve_costs_no_mail_an_attempt(
    database: str, tls: ssl.SSLContext, token_file: Path, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    """The circuit breaker keeps all mails in the queue; nobody reads the token in a log or a row."""
    ids = queued(20)
    accepts = XOAUTH2 | ({"tokens": {"me@example.com": "ya29.other"}} if why == "refused" else {})
    if why == "unreadable":
        token_file.unlink()
    with caplog.at_level("DEBUG"), serving(tls=tls, **accepts) as server:
        if why == "not offered":
            server.box.ways = "AUTH PLAIN LOGIN"
        send(with_token(server, token_file), concurrency=5)
        assert statuses(ids) == ["queued"] * 20
        assert [(row.attempts, row.last_error) for row in map(mail, ids)] == [(0, None)] * 20
        assert server.box.connections == 1  # one sender finds out
        assert server.box.commands.count("AUTH") == (2 if why == "refused" else 0)
        assert any(record.name == "dispatcher.mail.circuit_breaker" for record in caplog.records)
        assert not any("ya29" in str(vars(record)) for record in caplog.records)
        server.box.ways, server.box.tokens["me@example.com"] = "AUTH XOAUTH2", "ya29.first"
        token_file.write_text("ya29.first")
        send(with_token(server, token_file))
    assert statuses(ids) == ["sent"] * 20
    assert {mail(id_).attempts for id_ in ids} == {1}


@pytest.mark.usefixtures("trusted")
async def test_a_token_that_is_refused_slows_the_sender(database: str, tls: ssl.SSLContext, token_file: Path) -> None:
    """However often it is woken, a dispatcher tries no more logins than the pause allows."""
    ids = await asyncio.to_thread(queued, 3)
    with serving(tls=tls, **(XOAUTH2 | {"tokens": {"me@example.com": "ya29.other"}})) as server:
        async with Mailer(settings(), server=with_token(server, token_file)) as mailer:
            await mailer.drain(utcnow())
            tried = server.box.connections
            for _ in range(10):
                again = await mailer.fetch_due()
                assert again is not None
                assert again > utcnow()
    assert tried == server.box.connections == 1
    assert await asyncio.to_thread(statuses, ids) == ["queued"] * 3
