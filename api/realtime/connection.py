"""One client's STOMP connection: frames in, answers and messages out."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from api.realtime import commands
from api.realtime.hub import Hub, Subscription, unstored
from api.realtime.outgoing import Outgoing
from api.realtime.refusals import FORBIDDEN, LIMIT, OUR_FAULT, PROTOCOL, SILENT_BEATS, SLOW, UNAUTHENTICATED, Refused
from api.realtime.stomp import HEART_BEAT, Frame, LimitExceeded, Parser, ProtocolError, check, dump
from core.clock import utcnow
from core.errors import GreenroomError, NotSignedIn
from core.models import Role
from core.settings import Settings
from core.viewers import Viewer

log = logging.getLogger(__name__)


class Socket(Protocol):
    """Where the frames go: a WebSocket, or whatever SockJS makes of one."""

    async def send(self, frame: str) -> None:
        """Write one frame; returns when the transport takes more."""

    async def close(self, code: int, reason: str) -> None:
        """Close the socket."""


class Connection:
    """The state of one client: who they are, what they subscribed to, what is on its way to them."""

    def __init__(self, socket: Socket, hub: Hub, settings: Settings) -> None:
        self.hub, self.settings = hub, settings
        self.viewer: Viewer | None = None
        # Until CONNECTED names a version nothing is unescaped by any client, so nothing may be escaped.
        self.version = "1.0"
        self.subscriptions: dict[str, Subscription] = {}
        self.transactions: dict[str, list[Frame]] = {}
        self.closed = asyncio.Event()
        """Set once the connection is over; ``ending`` says how."""
        self.ending: tuple[int, str] = (1000, "")
        self._socket = socket
        self._parser = Parser(settings.ws_frame_bytes)
        self._outgoing = Outgoing(
            self._send, self._slow, max_bytes=settings.ws_queue_bytes, seconds=settings.ws_send_seconds
        )
        self._last_sent = self._last_received = time.monotonic()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._user_id: int | None = None
        self._account: tuple[int, Role] | None = None
        if settings.ws_connect_seconds:
            message = f"no CONNECT within WS_CONNECT_SECONDS ({settings.ws_connect_seconds:g})"
            self.after("connect", settings.ws_connect_seconds, lambda: self.refuse(LIMIT, message))

    async def receive(self, data: bytes | str) -> None:
        """Act on what came over the socket. Never raises; what breaks the protocol ends the connection."""
        self._last_received = time.monotonic()
        if self.closed.is_set():
            return
        frame: Frame | None = None
        try:
            for frame in self._parser.feed(data):
                await self._act(frame)
                if self.closed.is_set():
                    return
        except LimitExceeded as error:
            self.refuse(LIMIT, str(error))
        except ProtocolError as error:
            self.refuse(PROTOCOL, str(error), _receipt(frame))
        except Refused as error:
            self.refuse(error.code, str(error), {**_receipt(frame), **error.headers})
        except GreenroomError as error:
            code = UNAUTHENTICATED if isinstance(error, NotSignedIn) else FORBIDDEN
            self.refuse(code, str(error), _receipt(frame))
        except Exception:
            log.exception("a frame could not be acted on", extra={"user_id": self._user_id})
            self.refuse(OUR_FAULT, "Something is wrong on our side; reconnect and resume.", _receipt(frame))

    async def _act(self, frame: Frame) -> None:
        if self.viewer is None:
            await commands.connect(self, frame)
            return
        check(frame, self.version)
        await commands.act(self, frame)
        if (receipt := frame.headers.get("receipt")) and frame.command != "SUBSCRIBE":
            self.answer("RECEIPT", {"receipt-id": receipt})
        if frame.command == "DISCONNECT":
            self.end(1000, "")

    def answer(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a frame of our own."""
        self.deliver(dump(Frame(command, headers, body), self.version).decode())

    def deliver(self, frame: str) -> None:
        """Put one frame into the outgoing queue."""
        if not self.closed.is_set():
            self._outgoing.put(frame)

    def problem(self, problem: Mapping[str, object], request: str | None) -> None:
        """Tell the client on ``/user/queue/errors`` what is wrong with a request to ``/app``."""
        cursor = self.hub.cursor or 0
        body = unstored("error", "/user/queue/errors", {**problem, "request": request}, cursor)
        for subscription in self.subscriptions.values():
            if subscription.destination == "/user/queue/errors":
                self.deliver(subscription.frame(cursor, body))

    def refuse(self, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Send ERROR, then close with the code (STOMP 1.2, "ERROR")."""
        if self.closed.is_set():
            return
        log.info("connection refused", extra={"code": code, "reason": message, "user_id": self._user_id})
        # No backslash in a header of ours: @stomp/stompjs does not unescape as 1.2 says.
        summary = message.replace("\\", "/").replace("\n", " ")
        self.answer("ERROR", {"message": summary, "content-type": "text/plain", **(headers or {})}, message.encode())
        self.end(code, summary)

    def end(self, code: int, reason: str) -> None:
        """Stop taking anything; what is queued is still written before the socket closes."""
        if self.closed.is_set():
            return
        self.ending = (code, reason)
        self.closed.set()
        for timer in self._timers.values():
            timer.cancel()
        for subscription in self.subscriptions.values():
            self.hub.remove(subscription)
        if self._user_id is not None:
            self.hub.leave(self, self._user_id)

    async def finish(self) -> None:
        """Write what is still queued, then close the socket."""
        if self.ending[0] != SLOW:
            await self._outgoing.idle.wait()
        self._outgoing.stop()
        code, reason = self.ending
        # A close reason has at most 123 octets (RFC 6455, section 5.5).
        await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))

    def join(self, user_id: int) -> None:
        """Hear of the end of the user's tokens from now on: before their version is read, so that none slips by."""
        self._user_id = user_id
        self.hub.join(self, user_id)

    def account_changed(self, token_version: int, role: Role) -> None:
        """The user's tokens of before ended."""
        self._account = (token_version, role)
        if self.viewer is not None and (self.viewer.token_version, self.viewer.role) != self._account:
            self.refuse(UNAUTHENTICATED, "The token was withdrawn; sign in again.")

    def signed_in(self, viewer: Viewer, until: datetime) -> None:
        """Take the viewer whose token was checked; at ``until`` the connection ends."""
        self.viewer = viewer
        if (connect := self._timers.pop("connect", None)) is not None:
            connect.cancel()
        if self._account is not None:
            self.account_changed(*self._account)
        seconds = (until - utcnow()).total_seconds()
        self.after("token", max(0.0, seconds), lambda: self.refuse(UNAUTHENTICATED, "token expired"))

    def speak(self, version: str, sends: int, expects: int) -> None:
        """Speak the negotiated version, with heart-beats every so many milliseconds each way (0: none)."""
        self.version = self._parser.version = version
        if sends:
            self._beat(sends / 1000)
        if expects:
            self._listen(expects * SILENT_BEATS / 1000)

    def after(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        """Act once the seconds have passed, unless the connection is over or the timer set anew."""
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(seconds, act)

    def _beat(self, every: float) -> None:
        quiet = time.monotonic() - self._last_sent
        # A heart-beat a little early is fine; one late is not.
        if quiet >= every * 0.9:
            self.deliver(HEART_BEAT.decode())
            quiet = 0.0
        self.after("beat", max(0.01, every * 0.9 - quiet), lambda: self._beat(every))

    def _listen(self, patience: float) -> None:
        silent = time.monotonic() - self._last_received
        if silent >= patience:
            self.refuse(PROTOCOL, f"no heart-beat for {patience:g} seconds")
            return
        self.after("listen", patience - silent, lambda: self._listen(patience))

    async def _send(self, frame: str) -> None:
        await self._socket.send(frame)
        self._last_sent = time.monotonic()

    def _slow(self, limit: str) -> None:
        log.warning("slow consumer closed", extra={"limit": limit, "user_id": self._user_id})
        self.end(SLOW, f"slow consumer: {limit}")


def _receipt(frame: Frame | None) -> dict[str, str]:
    receipt = frame.headers.get("receipt") if frame else None
    return {"receipt-id": receipt} if receipt else {}
