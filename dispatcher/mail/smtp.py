"""One SMTP connection that always knows how far it came.

aiosmtplib has no seam between RCPT and DATA, and cannot tell a connection lost before the final dot from one lost
after it; both are what «exactly once» rests on. MAIL and RCPT go in one packet where the server allows (RFC 2920).
"""

import asyncio
import re
from base64 import b64encode
from typing import NamedTuple

from core.emails.queue.outcomes import AttemptResult, Reply, Stage
from dispatcher.mail.server import MailServer
from dispatcher.mail.transport import Line

CHUNK = 65536
CLOSING = 421
_BREAKS = re.compile(rb"\r\n|\r|\n")


class Failed(Exception):
    """An attempt that ended before the server took the mail: where, and with which answer."""

    def __init__(self, end: AttemptResult) -> None:
        self.end = end
        super().__init__(f"{end.stage}: {end.reply.code if end.reply else end.why}")


class Envelope(NamedTuple):
    """From whom and to whom a mail goes, and what else its server must be able to take."""

    sender: str
    recipient: str
    size: int
    ascii: bool
    smtputf8: bool


class Connection:
    """An open connection to a mail server; make one with ``open``. ``stage`` is how far the present mail came."""

    def __init__(self, server: MailServer, line: Line) -> None:
        self._server, self._line = server, line
        self._times = server.timeouts
        self._extensions: dict[str, str] = {}
        self.stage: Stage = "connect"
        self.sent = 0
        """Mails it has carried."""
        self._behind: Envelope | None = None

    @classmethod
    async def open(cls, server: MailServer) -> "Connection":
        """Connect, greet, secure and sign in. Raises Failed at stage ``connect``."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(server.timeouts.connect):
                tls = server.tls if server.scheme == "smtps" else None
                _, line = await loop.create_connection(Line, server.host, server.port, ssl=tls)
        except OSError as error:  # TLS and time are among them
            raise Failed(AttemptResult("connect", why=str(error) or "no connection in time")) from error
        connection = cls(server, line)
        try:
            await connection._greet()
        except BaseException as error:
            line.transport.abort()
            if isinstance(error, OSError):
                raise Failed(AttemptResult("connect", why=f"TLS: {error}")) from error
            raise
        return connection

    @property
    def usable(self) -> bool:
        """Whether another mail may be tried on it."""
        return self._line.lost is None and not self._line.transport.is_closing()

    async def envelope(self, to: Envelope) -> None:
        """MAIL and RCPT, unless they were sent behind the mail before.

        Raises Failed; when the server refused, the connection is ready for the next mail.
        """
        behind, self._behind = self._behind, None
        if behind is not None and behind is not to:
            await self.reset()
        self.stage = "sender"
        pipelining = "PIPELINING" in self._extensions
        if behind is not to:
            mail, rcpt = self._commands(to)
            self._say(mail, *([rcpt] if pipelining else []))
        reply = await self._answer("after MAIL")
        if reply.code >= 300:
            await self._refused("sender", reply)
        self.stage = "recipient"
        if not pipelining:
            self._say(f"RCPT TO:<{to.recipient}>")
        reply = await self._answer("after RCPT")
        if reply.code >= 300:
            await self._refused("recipient", reply)

    async def data(self, content: bytes, behind: Envelope | None = None) -> Reply:
        """DATA, the content and the final dot: the server's answer to it. Raises Failed.

        ``stage`` becomes ``dot`` once the last byte may have left this process, and never later than that. ``behind``
        is the envelope of the mail that will follow: where the server allows, it saves a packet each way.
        """
        self.stage = "data"
        self._say("DATA")
        reply = await self._answer("after DATA")
        if reply.code != 354:
            await self._refused("data", reply)
        await asyncio.sleep(0)  # a server that hung up behind its answer is noticed before anything is sent
        await self._pour(stuffed(content), self._sent_behind(behind))
        self.stage = "dot"
        reply = await self._answer("after the final dot", self._times.dot)
        self.stage = "sender"
        self.sent += 1
        if reply.code == CLOSING:
            self._line.end("the server is closing")
        return reply

    async def reset(self) -> None:
        """Forget the present mail, before DATA; a connection that cannot is no longer usable."""
        self._behind = None
        try:
            self._say("RSET")
            for _ in range(self._line.expected + len(self._line.replies)):  # a pipelined RCPT's answer may come first
                reply = await self._answer("after RSET")
        except Failed:
            return
        if reply.code != 250:
            self._line.end("the server refused RSET")

    def close(self) -> None:
        """QUIT without waiting for the answer; in the middle of a mail, hang up."""
        if self.usable and self._line.expected == 0:
            self._say("QUIT")
            self._line.transport.close()
        else:
            self._line.transport.abort()

    def abort(self) -> None:
        """Hang up, wherever the present mail is; before the final dot the server throws it away."""
        self._line.transport.abort()

    async def _pour(self, content: bytes, behind: bytes) -> None:
        """Write all of it, and wait until none of it waits in this process. Raises Failed while the dot still does."""
        line, loop = self._line, asyncio.get_running_loop()
        line.expected += 1
        for start in range(0, len(content), CHUNK):
            chunk, last = content[start : start + CHUNK], start + CHUNK >= len(content)
            if line.lost is None and not line.replies:
                line.transport.write(chunk + behind if last else chunk)
                if line.transport.is_closing():
                    line.lost = "the connection broke while the mail was sent"  # at this write: nothing of it has left
                    raise self._failed()
                if last and behind:
                    return  # should some of it wait, it may be what is behind the dot, so the dot counts as gone
                deadline = loop.time() + self._times.block
                while line.held_back and line.lost is None and not line.replies:
                    try:
                        await line.changed(deadline, "to take the mail")
                    finally:  # when it left in the moment in which we were told to stop
                        self.stage = "dot" if last and not line.held_back else "data"
                if last and not line.held_back:
                    return  # even when the connection was lost meanwhile: it was after the dot had left
            if line.replies:
                # answered before the end; what was begun cannot be taken back, so the connection ends
                reply = line.replies.popleft()
                line.end("the server answered before the end")
                if reply.code >= 400:
                    raise Failed(AttemptResult("data", reply))
            if line.lost is not None:
                raise self._failed()

    def _sent_behind(self, to: Envelope | None) -> bytes:
        """The commands that may go in one packet with the end of the mail before (RFC 2920)."""
        if to is None or "PIPELINING" not in self._extensions:
            return b""
        try:
            commands = self._commands(to)
        except Failed:
            return b""  # told when its turn comes
        self._behind = to
        self._line.expected += len(commands)
        return "".join(f"{command}\r\n" for command in commands).encode()

    def _commands(self, to: Envelope) -> tuple[str, str]:
        """MAIL and RCPT for this server. Raises Failed when it cannot take such a mail."""
        command = f"MAIL FROM:<{to.sender}>"
        limit = self._extensions.get("SIZE", "")
        if "SIZE" in self._extensions:
            if limit.isdigit() and 0 < int(limit) < to.size:
                raise Failed(
                    AttemptResult("sender", Reply(552, f"larger than the {limit} bytes that the server takes"))
                )
            command += f" SIZE={to.size}"
        if not to.ascii and "8BITMIME" in self._extensions:
            command += " BODY=8BITMIME"
        if to.smtputf8:
            if "SMTPUTF8" not in self._extensions:
                raise Failed(AttemptResult("sender", Reply(553, "the server takes no international addresses")))
            command += " SMTPUTF8"
        return command, f"RCPT TO:<{to.recipient}>"

    async def _refused(self, stage: Stage, reply: Reply) -> None:
        if reply.code == CLOSING:
            self._line.end("the server is closing")
        elif reply.code < 400:
            self._line.end(f"the server said {reply.code}, which is no answer here")
        elif self.usable:
            await self.reset()
        raise Failed(AttemptResult(stage, reply))

    async def _greet(self) -> None:
        await self._expect(220, "for its greeting", self._times.greeting)
        await self._hello()
        if self._server.scheme != "smtps" and (self._server.secured or "STARTTLS" in self._extensions):
            self._say("STARTTLS")
            await self._expect(220, "after STARTTLS")
            await self._secure()
            await self._hello()
        if self._server.user is not None:
            await self._sign_in(self._server.user, self._server.password or "")
        self.stage = "sender"

    async def _secure(self) -> None:
        server, line = self._server, self._line
        if line.lost is not None or line.replies or line.parser.pending:
            # RFC 3207: what was said in clear before TLS is nobody's word
            raise Failed(AttemptResult("connect", why="the server spoke between STARTTLS and TLS"))
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._times.connect):  # asyncio's own limit does not hold when the peer goes away
            secured = await loop.start_tls(line.transport, line, server.tls, server_hostname=server.host)
        if secured is None:
            raise Failed(AttemptResult("connect", why="TLS: the server closed the connection"))
        line.connection_made(secured)

    async def _hello(self) -> None:
        self._say(f"EHLO {self._server.helo}")
        reply = await self._answer("after EHLO")
        self._extensions = {}
        if reply.code >= 500:
            self._say(f"HELO {self._server.helo}")
            await self._expect(250, "after HELO")
            return
        if reply.code != 250:
            raise Failed(AttemptResult("connect", reply))
        for offered in reply.text.split("\n")[1:]:
            name, _, more = offered.partition(" ")
            self._extensions[name.upper()] = more.strip()

    async def _sign_in(self, user: str, password: str) -> None:
        ways = self._extensions.get("AUTH", "").upper().split()
        if "PLAIN" in ways:
            self._say("AUTH PLAIN " + _base64(f"\0{user}\0{password}"))
        elif "LOGIN" in ways:
            self._say("AUTH LOGIN")
            await self._expect(334, "after AUTH")
            self._say(_base64(user))
            await self._expect(334, "after the user")
            self._say(_base64(password))
        else:
            raise Failed(
                AttemptResult("connect", why="the server offers no way of signing in that we know (PLAIN, LOGIN)")
            )
        await self._expect(235, "after signing in")

    async def _expect(self, code: int, when: str, seconds: float | None = None) -> None:
        reply = await self._answer(when, seconds)
        if reply.code != code:
            raise Failed(AttemptResult("connect", reply))

    def _say(self, *commands: str) -> None:
        if self._line.lost is not None:
            raise self._failed()
        self._line.expected += len(commands)
        self._line.transport.write("".join(f"{command}\r\n" for command in commands).encode())

    async def _answer(self, when: str, seconds: float | None = None) -> Reply:
        line = self._line
        if not line.replies:
            deadline = asyncio.get_running_loop().time() + (seconds or self._times.command)
            while not line.replies:
                if line.lost is not None:
                    raise self._failed()
                await line.changed(deadline, when)
        return line.replies.popleft()

    def _failed(self) -> Failed:
        return Failed(AttemptResult(self.stage, why=self._line.lost or "the connection was lost"))


def _base64(said: str) -> str:
    return b64encode(said.encode()).decode()


def stuffed(content: bytes) -> bytes:
    """The content as DATA carries it: lines end in CRLF, leading dots doubled, and the final dot (RFC 5321, 4.5.2)."""
    ends = content.count(b"\r\n")
    if ends != content.count(b"\n") or ends != content.count(b"\r"):
        content = _BREAKS.sub(b"\r\n", content)
    if content.startswith(b".") or b"\n." in content:
        content = (b"." if content.startswith(b".") else b"") + content.replace(b"\n.", b"\n..")
    return content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")
