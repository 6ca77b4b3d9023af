"""One client's STOMP connection: frames in, answers and messages out."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final, Protocol

from api.realtime.hub import Hub, Subscription, unstored
from api.realtime.outgoing import Outgoing, Socket
from api.realtime.refusals import (
    FORBIDDEN,
    LIMIT,
    OUR_FAULT,
    PROTOCOL,
    RESTARTED,
    SILENT_BEATS,
    SLOW,
    UNAUTHENTICATED,
    Refused,
)
from api.realtime.stomp import HEART_BEAT, Frame, LimitExceeded, Parser, ProtocolError, check, dump
from core.clock import utcnow
from core.errors import GreenroomError, NotSignedIn, Unavailable
from core.events import user_queue
from core.models import Role
from core.settings import Settings
from core.viewers import Viewer

log = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 10.0
"""Seconds for the client to answer our close; without WS_SEND_SECONDS, also for writing what was queued before it."""
_SLOW_CLOSE_SECONDS: Final = 1.0
_MESSAGE_CHARACTERS: Final = 300


class Commands(Protocol):
    """What client frames do to their connection (``api.realtime.commands``)."""

    async def connect(self, connection: "StompConnection", frame: Frame, /) -> None:
        """Sign the client in with its first frame."""

    async def act(self, connection: "StompConnection", frame: Frame, /) -> None:
        """Execute a signed-in client's frame."""


class StompConnection:
    """The state of one client: the viewer, the subscriptions, the outgoing queue."""

    def __init__(self, socket: Socket, hub: Hub, settings: Settings, commands: Commands) -> None:
        self.hub, self.settings = hub, settings
        self._commands = commands
        self.viewer: Viewer | None = None
        # Before CONNECTED names a version, clients unescape nothing, so nothing may be escaped.
        self.version = "1.0"
        self.subscriptions: dict[str, Subscription] = {}
        self.transactions: dict[str, list[Frame]] = {}
        self.closed = False
        """True once the connection is over: it takes nothing more, and nothing is delivered to it."""
        self._socket = socket
        self._parser = Parser(settings.ws_frame_bytes)
        self._outgoing = Outgoing(
            socket, self._slow, max_bytes=settings.ws_queue_bytes, seconds=settings.ws_send_seconds
        )
        self._heard_at = time.monotonic()
        self._acting = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._finishing: asyncio.Task[None] | None = None
        self._user_id: int | None = None
        self._account: tuple[int, Role] | None = None
        if settings.ws_connect_seconds:
            message = f"no CONNECT within WS_CONNECT_SECONDS ({settings.ws_connect_seconds:g})"
            self.after("connect", settings.ws_connect_seconds, lambda: self.refuse(LIMIT, message))

    async def receive(self, data: bytes | str) -> None:
        """Execute the frames in this data. Never raises; a breach of the protocol ends the connection."""
        if self.closed:
            return
        self._acting = True
        try:
            await self._act_on_frames(self._parser.feed(data))
        finally:
            # Only now is the socket read again: heart-beats that came meanwhile were not read yet.
            self._acting = False
            self._heard_at = time.monotonic()

    async def _act_on_frames(self, frames: Iterator[Frame]) -> None:
        frame: Frame | None = None
        try:
            while not self.closed:
                frame = None  # an error in the next frame must not carry this one's receipt
                if (frame := next(frames, None)) is None:
                    return
                await self._act(frame)
        except LimitExceeded as error:
            self.refuse(LIMIT, str(error))
        except ProtocolError as error:
            self.refuse(PROTOCOL, str(error), _receipt(frame))
        except Refused as error:
            self.refuse(error.code, str(error), {**_receipt(frame), **error.headers})
        except GreenroomError as error:
            code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), FORBIDDEN)
            self.refuse(code, str(error), _receipt(frame))
        except Exception:
            log.exception("a frame could not be executed", extra={"user_id": self._user_id})
            self.refuse(OUR_FAULT, "Something is wrong on our side; reconnect and resume.", _receipt(frame))

    async def _act(self, frame: Frame) -> None:
        if self.viewer is None:
            await self._commands.connect(self, frame)
            return
        check(frame, self.version)
        await self._commands.act(self, frame)
        if (receipt := frame.headers.get("receipt")) is not None and frame.command != "SUBSCRIBE":
            self.answer("RECEIPT", {"receipt-id": receipt})
        if frame.command == "DISCONNECT":
            self.close(1000, "")

    def too_big(self) -> None:
        """Refuse a WebSocket message so large that it was not read at all."""
        self.refuse(LIMIT, str(LimitExceeded("WS_FRAME_BYTES", self.settings.ws_frame_bytes)))

    def answer(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a frame of our own."""
        self.deliver(dump(Frame(command, headers, body), self.version))

    def deliver(self, frame: bytes) -> None:
        """Put one frame into the outgoing queue."""
        if not self.closed:
            self._outgoing.put(frame)

    def problem(self, problem: Mapping[str, object], request: str | None) -> None:
        """Send the problem of a request to ``/app`` to ``/user/queue/errors``."""
        cursor = self.hub.cursor or 0
        body = unstored("error", user_queue(self._user_id or 0, "errors"), {**problem, "request": request}, cursor)
        for subscription in tuple(self.subscriptions.values()):
            if subscription.destination == "/user/queue/errors":
                self.deliver(subscription.frame(cursor, body))

    def refuse(self, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Send ERROR, then close with the code (STOMP 1.2, "ERROR")."""
        if self.closed:
            return
        # It may quote what a client sent, at any length.
        message = message[:_MESSAGE_CHARACTERS]
        log.info("connection refused", extra={"code": code, "reason": message, "user_id": self._user_id})
        # No escape but that of the colon in a header of ours: @stomp/stompjs does not unescape as 1.2 says.
        summary = " ".join(message.replace("\\", "/").split())
        self.answer("ERROR", {"message": summary, "content-type": "text/plain", **(headers or {})}, message.encode())
        self.close(code, summary)

    def close(self, code: int, reason: str) -> None:
        """Accept nothing more; what is queued is still written before the socket closes."""
        if not self.closed:
            self._detach()
            self._finishing = asyncio.create_task(self._finish(code, reason))

    def socket_closed(self) -> None:
        """The socket is closed: nothing more can be written."""
        self._detach()
        self._outgoing.stop()

    def _detach(self) -> None:
        self.closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for subscription in self.subscriptions.values():
            self.hub.remove(subscription)
        self.subscriptions.clear()
        self.transactions.clear()
        if self._user_id is not None:
            self.hub.leave(self, self._user_id)

    async def _finish(self, code: int, reason: str) -> None:
        slow = code == SLOW
        try:
            if not slow:
                async with asyncio.timeout(self.settings.ws_send_seconds or _CLOSE_SECONDS):
                    await self._outgoing.drained()
            self._outgoing.stop()
            # A close reason has at most 123 octets (RFC 6455, section 5.5).
            short = reason.encode()[:120].decode(errors="ignore")
            await self._socket.close(code, short, patience=_SLOW_CLOSE_SECONDS if slow else _CLOSE_SECONDS)
        except OSError:
            # Closed already, or it takes no data (TimeoutError): no close frame can be delivered.
            self._abort()
        except Exception:
            log.exception("a connection could not be closed in order", extra={"user_id": self._user_id})
            self._abort()

    def _abort(self) -> None:
        self._outgoing.stop()
        self._socket.abort()

    def join(self, user_id: int) -> None:
        """Receive the user's account changes from now on: before the version is read, so that none is missed."""
        if not self.closed:
            self._user_id = user_id
            self.hub.join(self, user_id)

    def account_changed(self, token_version: int, role: Role) -> None:
        """The user's earlier tokens are no longer valid."""
        self._account = (token_version, role)
        viewer = self.viewer
        # A change older than this sign-in comes late when the relay lags; it ended earlier tokens.
        if viewer and token_version >= viewer.token_version and self._account != (viewer.token_version, viewer.role):
            self.refuse(UNAUTHENTICATED, "The token was withdrawn; sign in again.")

    def signed_in(self, viewer: Viewer, until: datetime) -> None:
        """Set the viewer whose token was checked; at ``until`` the connection ends."""
        self.viewer = viewer
        if self._account is not None:
            self.account_changed(*self._account)
        seconds = (until - utcnow()).total_seconds()
        self.after("token", max(0.0, seconds), lambda: self.refuse(UNAUTHENTICATED, "token expired"))

    def use_version(self, version: str, sends: int, expects: int) -> None:
        """Use the negotiated version, with heart-beats every so many milliseconds each way (0: none)."""
        self.version = self._parser.version = version
        if sends:
            self._beat(sends / 1000)
        if expects:
            self._watch_heart_beats(expects * SILENT_BEATS / 1000)

    def after(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        """Call ``act`` after these seconds, unless the connection is over or the timer was set again."""
        self.cancel(name)
        if not self.closed:
            self._timers[name] = asyncio.get_running_loop().call_later(seconds, act)

    def cancel(self, name: str) -> None:
        """Cancel the timer, if there is one."""
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _beat(self, every: float) -> None:
        quiet = time.monotonic() - self._outgoing.written_at
        # A heart-beat a little early is fine; one late is not.
        if quiet >= every * 0.9:
            self.deliver(HEART_BEAT)
            quiet = 0.0
        self.after("beat", max(0.01, every * 0.9 - quiet), lambda: self._beat(every))

    def _watch_heart_beats(self, patience: float) -> None:
        silent = 0.0 if self._acting else time.monotonic() - self._heard_at
        if silent >= patience:
            self.refuse(PROTOCOL, f"no heart-beat for {patience:g} seconds")
            return
        self.after("listen", patience - silent, lambda: self._watch_heart_beats(patience))

    def _slow(self, limit: str) -> None:
        self.hub.slow_closed[limit] += 1
        log.warning("slow consumer closed", extra={"limit": limit, "user_id": self._user_id})
        self.close(SLOW, f"slow consumer: {limit}")


_CODES: Final[dict[type[GreenroomError], int]] = {NotSignedIn: UNAUTHENTICATED, Unavailable: RESTARTED}


def _receipt(frame: Frame | None) -> dict[str, str]:
    receipt = frame.headers.get("receipt") if frame else None
    return {"receipt-id": receipt} if receipt is not None else {}
