"""``/ws``: STOMP over WebSocket."""

import asyncio
from urllib.parse import SplitResult, urlsplit

from starlette.types import Receive, Scope, Send

from api.realtime import commands
from api.realtime.connection import StompConnection
from api.realtime.hub import Hub
from api.realtime.outgoing import Cork
from api.realtime.wire import KEY, Wire
from core.settings import Settings

SUB_PROTOCOLS = ("v12.stomp", "v11.stomp", "v10.stomp")
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PORTS = {"http": 80, "https": 443}


class StompEndpoint:
    """The ASGI application behind ``/ws``: one connection a socket, in one task."""

    def __init__(self, hub: Hub, settings: Settings) -> None:
        self._hub, self._settings = hub, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket from its handshake to its close."""
        await receive()
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if not origin_allowed(headers.get(b"origin"), headers.get(b"host", ""), self._settings):
            # Before accepting, a close is an HTTP 403 (ASGI, "WebSocket", "Close").
            await send({"type": "websocket.close", "code": 1008, "reason": "Origin not allowed"})
            return
        offered = scope.get("subprotocols", [])
        chosen = next((name for name in SUB_PROTOCOLS if name in offered), None)
        await send({"type": "websocket.accept", "subprotocol": chosen})
        wire = scope.get("state", {}).get(KEY)
        await self._serve(WireSocket(wire, self._hub.cork) if wire is not None else AsgiSocket(send), receive)

    async def _serve(self, socket: "WireSocket | AsgiSocket", receive: Receive) -> None:
        connection = StompConnection(socket, self._hub, self._settings, commands)
        try:
            await _read(connection, receive)
        except asyncio.CancelledError:
            if not socket.aborted:
                raise
        finally:
            connection.socket_closed()


async def _read(connection: StompConnection, receive: Receive) -> None:
    """Read until the socket is closed, by the client or by us."""
    while (event := await receive())["type"] != "websocket.disconnect":
        if event.get("too_big"):
            connection.too_big()
            continue
        text, data = event.get("text"), event.get("bytes")
        await connection.receive(text if text is not None else data or b"")


class WireSocket:
    """The socket where uvicorn runs our protocol class (``api.realtime.wire``)."""

    aborted = False

    def __init__(self, wire: Wire, cork: Cork) -> None:
        self._wire = wire
        wire.cork = cork
        self.write, self.send = wire.write, wire.send_when_free

    async def close(self, code: int, reason: str, *, patience: float) -> None:
        self._wire.close(code, reason, patience=patience)

    def abort(self) -> None:
        self._wire.transport.abort()


class AsgiSocket:
    """The socket under any other ASGI server, which decides when a peer that reads nothing is disconnected."""

    def __init__(self, send: Send) -> None:
        self._send, self._task = send, asyncio.current_task()
        self.aborted = False

    def write(self, frame: bytes) -> bool:
        return False

    async def send(self, frame: bytes) -> None:
        await self._send({"type": "websocket.send", "text": frame.decode()})

    async def close(self, code: int, reason: str, *, patience: float) -> None:
        async with asyncio.timeout(patience):
            await self._send({"type": "websocket.close", "code": code, "reason": reason})

    def abort(self) -> None:
        self.aborted = True
        if self._task is not None:
            self._task.cancel()


def origin_allowed(origin: str | None, host: str, settings: Settings) -> bool:
    """Whether a page of this origin may open a socket; clients that are not browsers send none (RFC 6455, 10.2).

    Without ALLOWED_ORIGINS: the server's own origin and any port of localhost.
    """
    if origin is None:
        return True
    if settings.allowed_origins:
        return "*" in settings.allowed_origins or origin.lower() in {o.lower() for o in settings.allowed_origins}
    try:
        page = urlsplit(origin)
        own = _origin(page) == _origin(urlsplit(settings.public_url)) or page.netloc.lower() == host.lower() != ""
    except ValueError:
        return False
    return page.scheme in _PORTS and (own or page.hostname in _LOCAL)


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    """Scheme, host and port, which the scheme gives when it is left out (RFC 6454, section 4)."""
    return url.scheme, url.hostname, url.port or _PORTS.get(url.scheme)
