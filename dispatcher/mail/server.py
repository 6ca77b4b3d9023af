"""Where mail goes: the server, how it is secured and who we are there, as SMTP_URL says."""

import ssl
from base64 import b64encode
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from core.emails.addresses import ascii_host, message_host
from core.settings import SMTP_PORTS, Settings

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Timeouts:
    """Seconds for each stage. After the final dot RFC 5321 (4.5.3.2.6) wants ten minutes: giving up makes doubles."""

    connect: float = 10
    command: float = 60
    block: float = 60
    dot: float = 600


@dataclass(frozen=True)
class MailServer:
    """An SMTP server as the settings name it."""

    host: str
    port: int
    scheme: str = "smtp"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    helo: str = "localhost"
    timeouts: Timeouts = Timeouts()
    token_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> "MailServer":
        """The server of SMTP_URL, or the capture server of the local stack."""
        helo = message_host(settings.public_url)
        if settings.smtp_url is None:
            return cls("127.0.0.1", settings.capture_port, helo=helo)
        url = urlsplit(settings.smtp_url)
        host = url.hostname or ""
        return cls(
            host if ":" in host else ascii_host(host),
            url.port or SMTP_PORTS[url.scheme],
            url.scheme,
            None if url.username is None else unquote(url.username),
            None if url.password is None else unquote(url.password),
            helo,
            token_file=settings.smtp_token_file,
        )

    @property
    def secured(self) -> bool:
        """Whether TLS is needed: when the scheme says so, and for a password that leaves this machine."""
        return self.scheme != "smtp" or (self.user is not None and self.host not in LOOPBACK)

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """The certificate is checked where TLS is needed; where it is only offered, any is better than none."""
        context = ssl.create_default_context()
        if not self.secured:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def logins(self, offered: Collection[str]) -> Iterator[tuple[str, ...]]:
        """AUTH commands to try, each with its responses to challenges. Raises OSError when the token cannot be read."""
        if self.token_file is not None and "XOAUTH2" in offered:
            for _ in range(2):  # it may be renewed between reading and use
                token = self.token_file.read_text("latin-1").strip()
                # one that is refused is answered with a challenge, and that is to be answered with an empty line
                yield "AUTH XOAUTH2 " + _base64(f"user={self.user}\1auth=Bearer {token}\1\1"), ""
        elif self.token_file is None and "PLAIN" in offered:
            yield ("AUTH PLAIN " + _base64(f"\0{self.user}\0{self.password}"),)
        elif self.token_file is None and "LOGIN" in offered:
            yield "AUTH LOGIN", _base64(self.user or ""), _base64(self.password or "")


def _base64(said: str) -> str:
    return b64encode(said.encode()).decode()
