"""One SMTP connection: smtplib's client, which here always knows how far the present mail has come.

smtplib's ``sendmail`` asks for no permit before DATA, and does not say on which side of the final dot a connection was
lost. Here commands wait for the next ``getreply``, which writes and reads (only QUIT is written without); so several
go in one packet (RFC 2920). What else smtplib lacks, tests/dispatcher/mail/test_smtplib_gaps.py shows by running it.
"""

import math
import re
import select
import smtplib
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from core.emails.queue.outcomes import AttemptResult, Reply, Stage
from dispatcher.mail.send_queue import Envelope
from dispatcher.mail.server import MailServer

CHUNK = 16384
"""Bytes of one write: what one TLS record holds, so that of a write that fails the server can read nothing."""
TICK_SECONDS = 0.1
"""How long one call of the system waits; deadlines are checked in between."""
LINE_BYTES, REPLY_BYTES = 4096, 65536
READY, ACCEPTED, SEND_CONTENT, CLOSING, LOGIN_REFUSED = range(220, 221), range(200, 300), range(354, 355), 421, 535
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\r?\n", re.DOTALL)
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]+")
_BREAKS = re.compile(rb"\r\n|\r|\n")


class Failed(Exception):
    """An attempt that ended before the server took the mail: where, and with which answer."""

    def __init__(self, end: AttemptResult) -> None:
        self.end = end
        super().__init__(f"{end.stage}: {end.reply.code if end.reply else end.why}")


class LoginRefused(Failed):
    """The server does not let us in, which says nothing of any mail."""


class Connection(smtplib.SMTP):
    """A connection to a mail server, for one thread. ``stage`` is how far the present mail has come."""

    def __init__(self, server: MailServer, on_slow: Callable[[], None] = lambda: None) -> None:
        """``on_slow`` is called when a mail takes longer than ``deliver`` was asked to allow."""
        super().__init__(local_hostname=server.helo, timeout=server.timeouts.connect)
        self.sock: Any
        self.server, self.aborted = server, False
        self._poll, self._slow_at, self._on_slow = select.poll(), math.inf, on_slow
        self._unsent = self._received = b""
        self._content_end, self._expected = 0, 1  # within ``_unsent``; replies to come, the greeting among them
        self._behind: Envelope | None = None
        self.stage: Stage = "connect"
        self.sent = 0
        """Mails it has carried."""

    def open(self) -> Self:
        """Connect, greet, secure and log in. Raises Failed at stage ``connect``."""
        server = self.server
        try:
            sock = socket.create_connection((server.host, server.port), self.timeout)
            self.use(sock, secured=server.scheme == "smtps")
            self._ask(READY)
            self.ehlo_or_helo_if_needed()
            if server.scheme != "smtps" and (server.secured or self.has_extn("starttls")):
                self._ask(READY, "STARTTLS")
                self.use(self.sock, secured=True)
                self.ehlo_resp = self.helo_resp = None
                self.ehlo_or_helo_if_needed()
            if server.user is not None:
                self._log_in()
        except OSError as error:  # TLS, time and smtplib's errors are among them
            self.close()
            raise Failed(AttemptResult("connect", why=str(error) or type(error).__name__)) from error
        self.stage = "sender"
        return self

    @property
    def usable(self) -> bool:
        """Whether another mail may be tried on it: the server has not hung up, nor said anything unasked."""
        if (sock := self.sock) is None or self._expected:
            return sock is not None
        with suppress(ValueError):  # its thread closes it while another asks
            (poll := select.poll()).register(sock, select.POLLIN)
            return not poll.poll(0)
        return False

    def envelope(self, to: Envelope) -> None:
        """MAIL and RCPT, unless they were sent behind the mail before.

        Raises Failed; when the server refused, the connection is ready for the next mail.
        """
        behind, self._behind, self.stage = self._behind, None, "sender"
        if behind is not None and behind is not to:
            self.reset()
        first: tuple[str, ...] = ()
        then: tuple[str, ...] = ()
        if behind is not to:
            if (refusal := self._refusal(to)) is not None:
                raise Failed(AttemptResult("sender", refusal))
            commands, together = self._commands(to), self.has_extn("pipelining")
            first, then = (commands, ()) if together else (commands[:1], commands[1:])
        self._ask(ACCEPTED, *first)
        self.stage = "recipient"
        self._ask(ACCEPTED, *then)

    def deliver(self, content: bytes, behind: Envelope | None = None, *, slow_after: float = math.inf) -> Reply:
        """DATA, the content and the final dot: the server's answer to it. Raises Failed.

        ``stage`` becomes ``dot`` once the last byte may have left this process, and never later than that. ``behind``
        is the envelope of the mail that will follow: where the server allows, it saves a packet each way.
        """
        self.stage, self._slow_at = "data", time.monotonic() + slow_after
        self._ask(SEND_CONTENT, "DATA")
        self.send(stuffed(content))
        self._content_end = len(self._unsent)
        if behind is not None and self.has_extn("pipelining") and self._refusal(behind) is None:
            self._behind = behind
            for command in self._commands(behind):
                self.putcmd(command)
        reply = self.reply()
        if self.stage == "data":  # it answered before the end: what was begun cannot be taken back, but ended
            self.close()
            raise Failed(AttemptResult("data", reply))
        self.stage, self.sent = "sender", self.sent + 1
        if reply.code == CLOSING:
            self.close()
        return reply

    def reset(self) -> None:
        """Forget the present mail, before DATA; a connection that cannot is closed."""
        self._behind = None
        with suppress(Failed):  # it is closed then
            self.putcmd("RSET")
            while self._expected:  # a pipelined RCPT's answer may come first
                reply = self.reply()
            if reply.code != 250:
                self.close()

    def hang_up(self) -> None:
        """Close, after a QUIT whose answer is not waited for; in the middle of a mail without."""
        if self.usable and not self._expected:
            with suppress(OSError):  # the server was faster
                self.putcmd("QUIT")
                self._write()
        self.close()

    def abort(self) -> None:
        """End whatever its thread is doing; before the final dot the server throws the present mail away."""
        self.aborted = True
        with suppress(OSError, AttributeError):  # it is not connected
            # not the method of an SSLSocket: that would first make the other thread's next write a plain one
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def use(self, sock: socket.socket, *, secured: bool) -> None:
        """Go on over this socket, which is connected already."""
        if secured:
            sock.settimeout(self.timeout)
            sock = self.server.tls.wrap_socket(sock, server_hostname=self.server.host)
            sock.settimeout(TICK_SECONDS)
        else:  # by the system's timeouts, which TLS sockets ignore, at half the system calls of Python's
            sock.setblocking(True)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 0, int(TICK_SECONDS * 1e6)))
        self.sock = sock
        self._poll.register(sock, select.POLLIN)

    def send(self, s: Any) -> None:
        """Keep a command, or the content, until ``getreply``."""
        self._unsent += s.encode() if isinstance(s, str) else s
        self._expected += 1

    def getreply(self) -> tuple[int, bytes]:
        """Write what was kept and read a reply (RFC 5321, 4.2), within limits of time and size. Raises Failed."""
        code, more, lines, size = b"", b"-", list[bytes](), 0
        try:
            self._write()
            timeouts = self.server.timeouts
            deadline = time.monotonic() + (timeouts.dot if self.stage == "dot" else timeouts.command)
            while more == b"-":
                while (end := self._received.find(b"\n") + 1) == 0 and len(self._received) <= LINE_BYTES:
                    try:
                        received = self.sock.recv(CHUNK)
                    except (BlockingIOError, TimeoutError):
                        self._tick(deadline)
                        continue
                    if not received:
                        raise smtplib.SMTPServerDisconnected("the server closed the connection")
                    self._received += received
                line, self._received = self._received[:end], self._received[end:]
                found, size = _LINE.fullmatch(line), size + end
                if found is None or end > LINE_BYTES or size > REPLY_BYTES or code not in (b"", found[1]):
                    raise smtplib.SMTPServerDisconnected("the server sent what is no SMTP")
                code, more, said = found.groups()
                lines.append((said or b"").strip())
            unasked = bool(self._received) and self._expected == 1
            if unasked and self.stage == "connect":  # RFC 3207: it might be taken for what comes after STARTTLS
                raise smtplib.SMTPServerDisconnected("the server spoke unasked")
        except OSError as error:
            self.close()
            raise Failed(AttemptResult(self.stage, why=str(error) or type(error).__name__)) from error
        self._expected -= 1
        if unasked:
            self.close()  # nobody could say what the next reply is of
        return int(code), b"\n".join(lines)

    def _write(self) -> None:
        """Write all that was kept; of content no more than until the server answers."""
        rest, content, self._unsent, self._content_end = memoryview(self._unsent), self._content_end, b"", 0
        if self.sock is None or self.aborted:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        deadline = time.monotonic() + self.server.timeouts.block
        while rest:
            if content > 0 and self._poll.poll(0):
                return
            try:
                written = self.sock.send(rest[:CHUNK])
            except (BlockingIOError, TimeoutError):
                self._tick(deadline)
                continue
            if 0 < content <= written:
                self.stage = "dot"
            rest, content = rest[written:], content - written
            deadline = time.monotonic() + self.server.timeouts.block

    def _tick(self, deadline: float) -> None:
        """Nothing came and nothing left for a while. Raises TimeoutError past the deadline."""
        now = time.monotonic()
        if now >= self._slow_at:
            self._slow_at = math.inf
            self._on_slow()
        if now >= deadline:
            raise TimeoutError("the server kept us waiting too long")

    def _ask(self, good: range, *commands: str) -> None:
        """Send these and take the next reply; one that is not good ends the attempt at this stage. Raises Failed."""
        for command in commands:
            self.putcmd(command)
        reply = self.reply()
        if reply.code in good:
            return
        if self.stage == "connect" or reply.code == CLOSING or reply.code < 400:
            self.close()
        else:
            self.reset()
        raise Failed(AttemptResult(self.stage, reply))

    def reply(self) -> Reply:
        """The next reply, as text. Raises Failed."""
        code, said = self.getreply()
        return Reply(code, _CONTROLS.sub(" ", said.decode("utf-8", "replace")).strip(" "))

    def _refusal(self, to: Envelope) -> Reply | None:
        """What the server would say to such a mail, when it has announced that it cannot take it."""
        limit = self.esmtp_features.get("size", "")
        if limit.isdigit() and 0 < int(limit) < to.size:
            return Reply(552, f"larger than the {limit} bytes that the server takes")
        if to.smtputf8 and not self.has_extn("smtputf8"):
            return Reply(553, "the server takes no international addresses")
        return None

    def _commands(self, to: Envelope) -> tuple[str, str]:
        options = f" SIZE={to.size}" if self.has_extn("size") else ""
        options += " BODY=8BITMIME" if not to.ascii and self.has_extn("8bitmime") else ""
        options += " SMTPUTF8" if to.smtputf8 else ""
        return f"MAIL FROM:<{to.sender}>{options}", f"RCPT TO:<{to.recipient}>"

    def _log_in(self) -> None:
        """AUTH (RFC 4954). Not by smtplib's ``auth``, which takes no password but in ASCII, and 503 for a success."""
        code, said = 0, "the server offers no way to log in that we know"
        try:
            for command, *responses in self.server.logins(self.esmtp_features.get("auth", "").upper().split()):
                code, _ = self.docmd(command)
                for response in responses:
                    code, _ = self.docmd(response) if code == 334 else (code, b"")
                if code == 235:
                    return
                said = f"the login was refused with {code}"
                if code != LOGIN_REFUSED:
                    break
        except OSError as error:
            said = f"the token cannot be read: {error.strerror}"
        self.close()
        raise LoginRefused(AttemptResult("connect", why=said))


def stuffed(content: bytes) -> bytes:
    """The content as DATA carries it: lines end in CRLF, leading dots doubled, and the final dot (RFC 5321, 4.5.2)."""
    ends = content.count(b"\r\n")
    if ends != content.count(b"\n") or ends != content.count(b"\r"):
        content = _BREAKS.sub(b"\r\n", content)
    if content.startswith(b".") or b"\n." in content:
        content = (b"." if content.startswith(b".") else b"") + content.replace(b"\n.", b"\n..")
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")
