"""The two ends of an SMTP connection: answers in order, and whether what was written has left this process."""

import asyncio
from collections import deque
from typing import cast

from core.emails.queue.outcomes import Reply
from dispatcher.mail.reply_parser import Garbage, Replies


class Line(asyncio.Protocol):
    """A connection as asyncio sees it; who sends mail over it waits with ``changed``."""

    def __init__(self) -> None:
        self.replies: deque[Reply] = deque()
        self.lost: str | None = None
        self.expected = 1
        """Answers that are still to come, the greeting among them."""
        self.transport: asyncio.Transport
        self.parser = Replies()
        self._waiter: asyncio.Future[None] | None = None
        self.held_back = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        # Writing is to be «paused» exactly while bytes of ours wait in this process. TLS pauses at its limit, so that 0
        # would be for ever; other transports pause past it.
        tls = transport.get_extra_info("sslcontext") is not None
        self.transport.set_write_buffer_limits(high=1 if tls else 0, low=0)

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self.parser.feed(data):
                if self.expected == 0:
                    self.end(f"the server said {reply.code} unasked")
                    return
                self.expected -= 1
                self.replies.append(reply)
        except Garbage as error:
            self.end(f"the server sent {error}")
        self._wake()

    def eof_received(self) -> None:
        # at once: a transport that closes by itself would first send what waits, the final dot included
        self.end("the server closed the connection")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = self.lost or (f"the connection broke: {error}" if error else "the server closed the connection")
        self._wake()

    def pause_writing(self) -> None:
        self.held_back = True

    def resume_writing(self) -> None:
        self.held_back = False
        self._wake()

    def end(self, why: str) -> None:
        """Nothing more is sent or understood."""
        self.lost = self.lost or why
        self.transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def changed(self, deadline: float, what: str) -> None:
        """Wait until something arrived, left or was lost; nothing by the deadline is a loss."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(deadline):
                await self._waiter
        except TimeoutError:
            self.end(f"the server kept us waiting too long {what}")
        finally:
            self._waiter = None
