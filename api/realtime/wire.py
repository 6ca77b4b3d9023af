"""uvicorn's WebSocket protocol class, extended to write to its transport directly.

ASGI's ``send`` cannot write without a task, nor end a socket whose peer reads nothing: its close would wait for ever
behind what the transport holds. This rests on code of uvicorn that is not public, hence its pin in pyproject.toml; any
other server gets the plain ASGI path of ``api.realtime.endpoint``.
"""

import struct
from asyncio import BaseTransport, TimerHandle
from typing import Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import State

from api.realtime.outgoing import Cork

KEY: Final = "greenroom.wire"
"""The key of the wire in the scope's ``state``."""

_HELD_BYTES: Final = 65536
_FLUSH_SECONDS: Final = 5.0
_RESTART_SECONDS: Final = 1.0
_TEXT: Final = 0x80 | Opcode.TEXT


class Wire(WebSocketsSansIOProtocol):
    """One WebSocket whose frames are written without a task, and whose close has a time limit."""

    _too_big = False
    _cut: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """The socket is open."""
        super().connection_made(transport)
        self.cork = Cork()
        self._held: list[bytes] = []
        self._held_bytes = 0

    def write(self, frame: bytes) -> bool:
        """Write one text message, buffered while the cork is closed; False (not written) while the transport is full.

        Raises ClientDisconnected once the socket is closing.
        """
        if self.close_sent or self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        if not self.writable.is_set():
            return False
        if not self.cork.closed:
            self.transport.write(_head(len(frame)) + frame)
            return True
        if not self._held:
            self.cork.held.append(self._flush)
        self._held += (_head(len(frame)), frame)
        self._held_bytes += len(frame)
        if self._held_bytes >= _HELD_BYTES:
            self._flush()
        return True

    def _flush(self) -> None:
        if self._held and not self.disconnected and not self.transport.is_closing():
            self.transport.write(b"".join(self._held))
        self._held.clear()
        self._held_bytes = 0

    async def send_when_free(self, frame: bytes) -> None:
        """Write one text message as soon as the transport takes it. Raises ClientDisconnected."""
        while not self.write(frame):
            await self.writable.wait()

    def close(self, code: int, reason: str, *, patience: float) -> None:
        """Write the close frame after what the transport holds; a peer that does not answer in time is disconnected."""
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.stop_keepalive()
        self.transport.write(Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=False))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        if self.read_paused:  # the peer's answer has to get through
            self.read_paused = False
            self.transport.resume_reading()
        if self._too_big:  # nothing is parsed any more, so the peer's answer would not be seen: end our half now
            self.transport.write_eof()
        self.close_timer = self.loop.call_later(patience, self.transport.abort)

    async def run_asgi(self) -> None:
        """Run the application, which finds this wire in its scope."""
        self.scope["state"][KEY] = self
        await super().run_asgi()
        self.scope["state"].pop(KEY, None)
        self._cut_off_within(_FLUSH_SECONDS)

    def handle_parser_exception(self) -> None:
        """Let the application refuse a message that is too big with an ERROR frame, after the messages before it."""
        if self._too_big:
            return
        self.handle_events()
        closing = self.conn.close_sent
        if closing and closing.code == CloseCode.MESSAGE_TOO_BIG and self.handshake_complete and not self.close_sent:
            self._too_big = True
            self.conn.data_to_send()  # discarded: the close frame that websockets wrote without any ERROR
            self.queue.put_nowait({"type": "websocket.receive", "too_big": True})  # type: ignore[arg-type]
            return
        super().handle_parser_exception()
        self._cut_off_within(_FLUSH_SECONDS)

    def handle_close(self, event: Frame) -> None:
        """Answer the peer's close; what it has not read within the time limit is discarded."""
        super().handle_close(event)
        self._cut_off_within(_FLUSH_SECONDS)

    def keepalive_timeout(self) -> None:
        """Close a peer that does not answer pings, whatever is still queued for it."""
        super().keepalive_timeout()
        self._cut_off_within(_FLUSH_SECONDS)

    def shutdown(self) -> None:
        """Close with 1012; a peer that does not read must not hold up the restart."""
        if self.handshake_complete and not self.close_sent and self.conn.state is not State.OPEN:
            self.transport.close()  # it is closing already, where uvicorn's shutdown would raise
        else:
            super().shutdown()
        self._cut_off_within(_RESTART_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
        super().connection_lost(exc)

    def _cut_off_within(self, seconds: float) -> None:
        # A transport that closes waits, without limit, for its peer to read what it still holds.
        if self.transport.is_closing() and not self.disconnected and self._cut is None:
            self._cut = self.loop.call_later(seconds, self.transport.abort)


def _head(length: int) -> bytes:
    """The head of an unfragmented, unmasked text frame (RFC 6455, section 5.2)."""
    if length < 126:
        return bytes((_TEXT, length))
    if length < 65536:
        return struct.pack("!BBH", _TEXT, 126, length)
    return struct.pack("!BBQ", _TEXT, 127, length)
