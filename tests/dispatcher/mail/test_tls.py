"""TLS and signing in: what is needed is insisted on, what is only offered is taken, and no password goes in clear."""

import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.clock import utcnow
from core.emails.queue.outcomes import AttemptResult
from dispatcher.mail.server import MailServer
from dispatcher.mail.smtp import Connection, Envelope, Failed
from tests.support.mail_sending import mail, queued, send
from tests.support.smtp_server import Talk, serving


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


async def refusal(server: MailServer) -> AttemptResult:
    with pytest.raises(Failed) as failed:
        await Connection.open(server)
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


async def test_where_tls_is_needed_a_server_without_it_gets_no_mail() -> None:
    with serving() as server:
        end = await refusal(MailServer("127.0.0.1", server.port, "smtp+starttls"))
    assert end.stage == "connect"
    assert "MAIL" not in server.box.commands


async def test_what_was_said_in_clear_behind_starttls_is_nobodys_word(tls: ssl.SSLContext) -> None:
    def script(stage: str, talk: Talk) -> str | None:
        return "220 go on\r\n250 injected" if stage == "STARTTLS" else None

    with serving(script, tls=tls) as server:
        end = await refusal(MailServer("127.0.0.1", server.port, "smtp+starttls"))
    assert end.stage == "connect"


async def test_a_password_never_leaves_this_machine_in_clear() -> None:
    """Another host's name, this machine's address: the connection is made, and the password kept."""
    with serving(accounts={"me": "secret"}) as server:
        end = await refusal(MailServer("127.0.0.2", server.port, "smtp", "me", "secret"))
    assert end.stage == "connect"
    assert "AUTH" not in server.box.commands


@pytest.mark.parametrize("ways", ["AUTH PLAIN LOGIN", "AUTH LOGIN"])
async def test_signing_in_on_this_machine(ways: str) -> None:
    with serving(accounts={"me": "geheim: ü"}, ways=ways) as server:
        connection = await Connection.open(MailServer("127.0.0.1", server.port, "smtp", "me", "geheim: ü"))
        await connection.envelope(Envelope("a@example.com", "b@example.com", 14, ascii=True, smtputf8=False))
        assert (await connection.data(b"Subject: x\r\n\r\n")).code == 250
        connection.close()


@pytest.mark.parametrize(("password", "ways"), [("mistaken", "AUTH PLAIN LOGIN"), ("secret", "AUTH CRAM-MD5")])
def test_who_cannot_sign_in_loses_no_mail(database: str, password: str, ways: str) -> None:
    [id_] = queued()
    with serving(accounts={"me": "secret"}, ways=ways) as server:
        send(MailServer("127.0.0.1", server.port, "smtp", "me", password))
    assert mail(id_).status == "queued"
    assert password not in str(mail(id_).last_error)
