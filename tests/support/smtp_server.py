"""An SMTP server that misbehaves as a script says: the other end of what sends our mail.

In this process for a scripted test (``serving``), or as one of its own that keeps a record of every mail it accepts:
``python -m tests.support.smtp_server --record FILE [--faults SHARE]``, which prints its port.
"""

import argparse
import asyncio
import base64
import contextlib
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

HANG, CUT = "hang", "cut"
"""What a script may answer besides a line: never anything, or the connection's end."""
TAKE_AND_CUT = "take and cut"
"""After the final dot: accept the mail, and hang up without saying so."""
EXTENSIONS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^>]+)>", re.IGNORECASE | re.MULTILINE)

Script = Callable[[str, "Talk"], str | None]
"""What to say at a stage (banner, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, body, dot); None: what a good server says."""


@dataclass(frozen=True)
class Accepted:
    """A mail that the server took: it said 250 after the dot, or would have."""

    sender: str
    recipient: str
    content: bytes
    connection: int

    @property
    def message_id(self) -> str:
        """Its Message-ID, without the brackets."""
        found = _MESSAGE_ID.search(self.content)
        return found[1].decode() if found else ""


@dataclass
class Mailbox:
    """What a server knows: how it behaves, and what it was given."""

    script: Script = lambda stage, talk: None
    extensions: tuple[str, ...] = EXTENSIONS
    accounts: dict[str, str] = field(default_factory=dict)
    """Passwords by user."""
    tokens: dict[str, str] = field(default_factory=dict)
    """OAuth access tokens by user, for XOAUTH2."""
    ways: str = "AUTH PLAIN LOGIN"
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    """TLS from the first byte, instead of STARTTLS."""
    accepted: list[Accepted] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    """The recipient of every DATA command."""
    connections: int = 0
    commands: list[str] = field(default_factory=list)
    record: IO[str] | None = None

    def accept(self, mail: Accepted) -> None:
        """Keep the mail; on the record before the client hears of it."""
        if self.record is not None:
            self.record.write(f"{mail.message_id} {time.time():.6f}\n")
            self.record.flush()
        else:
            self.accepted.append(mail)


class Talk(asyncio.Protocol):
    """One connection, as the server sees it."""

    def __init__(self, box: Mailbox) -> None:
        self.box = box
        self.mails = 0
        """Mails that this connection has carried."""
        self.secured = False
        self.user: str | None = None
        self.sender = self.recipient = ""
        self._buffer = bytearray()
        self._in_data = self._deaf = False
        self._login: list[str] | None = None
        self._challenged = False
        self.line = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.box.connections += 1
        self.number = self.box.connections
        self._say("banner", "220 mail.example ESMTP")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._deaf and self._step():
            pass

    def _step(self) -> bool:
        if self._in_data:
            return self._content()
        line, found, rest = bytes(self._buffer).partition(b"\r\n")
        if not found:
            return False
        self._buffer = bytearray(rest)
        self._command(line.decode("utf-8", "replace"))
        return True

    def _content(self) -> bool:
        if self._buffer and self._act("body"):
            return False
        end = self._buffer.find(b"\r\n.\r\n")
        if end < 0:
            return False
        content = bytes(self._buffer[: end + 2]).replace(b"\r\n..", b"\r\n.").removeprefix(b".")
        del self._buffer[: end + 5]
        self._in_data = False
        self.mails += 1
        mail = Accepted(self.sender, self.recipient, content, self.number)
        asked = self.box.script("dot", self)
        if asked is None or asked == TAKE_AND_CUT or asked.startswith("2"):
            self.box.accept(mail)
        self._do(asked if asked != TAKE_AND_CUT else CUT, "250 2.0.0 taken")
        return True

    def _command(self, line: str) -> None:
        self.line = line
        if self._challenged:  # XOAUTH2: the error was sent as a challenge, and the refusal comes after an empty line
            self._challenged = False
            self._say("AUTH", "501 5.5.2 an empty line was expected" if line else "535 5.7.8 wrong token")
            return
        if self._login is not None:
            self._sign_in(line)
            return
        verb = line[:4].upper()
        self.box.commands.append(verb)
        if verb in ("EHLO", "HELO"):
            self._greet()
        elif verb == "STAR" and self.box.tls is None:
            self._say("STARTTLS", "502 5.5.1 not here")
        elif verb == "STAR":
            self.transport.pause_reading()  # what comes next is for TLS
            self._say("STARTTLS", "220 go on")
            self._deaf = True
            self._task = asyncio.create_task(self._secure())
        elif verb == "AUTH":
            self._authenticate(line)
        elif verb == "MAIL":
            self.sender = line[line.index("<") + 1 : line.index(">")]
            known = self.user or not (self.box.accounts or self.box.tokens)
            self._say("MAIL", "250 2.1.0 ok" if known else "530 5.7.0 who are you")
        elif verb == "RCPT":
            self.recipient = line[line.index("<") + 1 : line.rindex(">")]
            self._say("RCPT", "250 2.1.5 ok")
        elif verb == "DATA":
            self.box.begun.append(self.recipient)
            asked = self.box.script("DATA", self)
            self._in_data = asked is None or asked.startswith("354")
            self._do(asked, "354 go on")
        elif verb == "QUIT":
            self._do(None, "221 bye")
            self.transport.close()
        else:
            self._say(verb, "250 2.0.0 ok")

    def _greet(self) -> None:
        offered = [*self.box.extensions]
        if self.box.tls and not self.secured and not self.box.implicit:
            offered.append("STARTTLS")
        if self.box.accounts or self.box.tokens:
            offered.append(self.box.ways)
        lines = ["mail.example", *offered]
        self._say("EHLO", "\r\n".join(f"250{'-' if one != lines[-1] else ' '}{one}" for one in lines))

    def _authenticate(self, line: str) -> None:
        _, way, *more = line.split(" ")
        if way == "PLAIN":
            _, user, password = base64.b64decode(more[0]).decode().split("\0")
            self._signed_in(user, password)
        elif way == "XOAUTH2":
            user, bearer, *_ = base64.b64decode(more[0]).decode().split("\1")
            user, token = user.removeprefix("user="), bearer.removeprefix("auth=Bearer ")
            self.user = user if self.box.tokens.get(user) == token else None
            self._challenged = self.user is None
            error = base64.b64encode(b'{"status":"401","schemes":"bearer","scope":"https://mail.example/"}').decode()
            self._say("AUTH", f"334 {error}" if self._challenged else "235 2.7.0 welcome")
        else:
            self._login = []
            self._say("AUTH", "334 VXNlcm5hbWU6")

    def _sign_in(self, line: str) -> None:
        assert self._login is not None
        self._login.append(base64.b64decode(line).decode())
        if len(self._login) == 1:
            self._say("AUTH", "334 UGFzc3dvcmQ6")
            return
        user, password = self._login
        self._login = None
        self._signed_in(user, password)

    def _signed_in(self, user: str, password: str) -> None:
        known = self.box.accounts.get(user) == password
        self.user = user if known else None
        self._say("AUTH", "235 2.7.0 welcome" if known else "535 5.7.8 wrong")

    async def _secure(self) -> None:
        assert self.box.tls is not None
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(self.transport, self, self.box.tls, server_side=True)
        except OSError:
            return
        assert secured is not None
        self.transport, self.secured, self._deaf = secured, True, False
        self.data_received(b"")  # what has come meanwhile

    def _say(self, stage: str, good: str) -> None:
        self._do(self.box.script(stage, self), good)

    def _act(self, stage: str) -> bool:
        """Whether the script wants something at this stage; then it is done."""
        asked = self.box.script(stage, self)
        if asked is not None:
            self._do(asked, "")
        return asked is not None

    def _do(self, asked: str | None, good: str) -> None:
        if asked == HANG:
            self._deaf = True
        elif asked == CUT:
            self._deaf = True
            self.transport.abort()
        else:
            answer = good if asked is None else asked
            self.transport.write(answer.encode("latin-1") + (b"" if answer.endswith("\n") else b"\r\n"))
            if answer.startswith("421"):
                self._deaf = True
                self.transport.close()


class Running:
    """A server in a thread of this process."""

    def __init__(self, box: Mailbox) -> None:
        self.box, self.port = box, 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        tls = self.box.tls if self.box.implicit else None
        opening = self._loop.create_server(lambda: Talk(self.box), "0.0.0.0", 0, ssl=tls)  # noqa: S104 - 127.0.0.2 too
        self._server = self._loop.run_until_complete(opening)
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    def stop(self) -> None:
        """Close everything."""

        def end() -> None:
            self._server.close()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_soon(self._loop.stop)

        self._loop.call_soon_threadsafe(end)
        self._thread.join(10)
        self._loop.close()


@contextmanager
def serving(script: Script | None = None, **more: object) -> Iterator[Running]:
    """A server that behaves as the script says, until the block ends."""
    box = Mailbox(**({"script": script} if script else {}), **more)  # type: ignore[arg-type]
    running = Running(box)
    try:
        yield running
    finally:
        running.stop()


FAULTS = {
    "banner": ("421 4.3.2 busy", CUT, "HTTP/1.1 400 Bad Request"),
    "EHLO": ("421 4.3.2 busy", CUT),
    "MAIL": ("451 4.3.0 later", "421 4.3.2 closing", CUT, "garbage"),
    "RCPT": ("450 4.2.1 busy", "421 4.3.2 closing", CUT),
    "DATA": ("451 4.3.0 later", "421 4.3.2 closing", CUT, "garbage"),
    "body": (CUT,),
    "dot": ("451 4.3.0 later", "421 4.3.2 closing", CUT, TAKE_AND_CUT, TAKE_AND_CUT, "garbage"),
}
"""What goes wrong at random; all of it is over at the next try."""


def faulty(share: float) -> Script:
    """A server that does something wrong in this share of all its answers."""

    def script(stage: str, talk: Talk) -> str | None:
        if stage in FAULTS and random.random() < share:
            return random.choice(FAULTS[stage])
        return None

    return script


async def _serve(box: Mailbox, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Talk(box), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until killed."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--record", type=Path, required=True)
    asked.add_argument("--port", type=int, default=0)
    asked.add_argument("--faults", type=float, default=0.0)
    given = asked.parse_args()
    with given.record.open("a") as record, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(Mailbox(script=faulty(given.faults), record=record), given.port))


if __name__ == "__main__":
    main()
