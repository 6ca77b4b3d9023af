"""``/ws``: STOMP over WebSocket."""

import asyncio
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send

from api.realtime.connection import Connection
from api.realtime.hub import Hub
from core.settings import Settings

SUB_PROTOCOLS = ("v12.stomp", "v11.stomp", "v10.stomp")
_LOCAL = ("localhost", "127.0.0.1", "::1")


class StompEndpoint:
    """The ASGI application behind ``/ws``: one connection a socket."""

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
        await self._serve(receive, send)

    async def _serve(self, receive: Receive, send: Send) -> None:
        connection = Connection(_WebSocket(send), self._hub, self._settings)
        reader = asyncio.create_task(_read(connection, receive))
        over = asyncio.create_task(connection.closed.wait())
        try:
            await asyncio.wait((reader, over), return_when=asyncio.FIRST_COMPLETED)
            if connection.closed.is_set():
                await connection.finish()
        finally:
            connection.end(1000, "")
            reader.cancel()
            over.cancel()


class _WebSocket:
    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, frame: str) -> None:
        await self._send({"type": "websocket.send", "text": frame})

    async def close(self, code: int, reason: str) -> None:
        await self._send({"type": "websocket.close", "code": code, "reason": reason})


async def _read(connection: Connection, receive: Receive) -> None:
    """Read until the client has gone or the connection is over."""
    while not connection.closed.is_set():
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        text, data = event.get("text"), event.get("bytes")
        await connection.receive(text if text is not None else data or b"")


def origin_allowed(origin: str | None, host: str, settings: Settings) -> bool:
    """Whether a browser's page of this origin may open a socket; what is no browser sends none (RFC 6455, 10.2).

    Without ALLOWED_ORIGINS: the server's own origin and any port of localhost.
    """
    if origin is None:
        return True
    if settings.allowed_origins:
        return "*" in settings.allowed_origins or origin.lower() in {o.lower() for o in settings.allowed_origins}
    try:
        parts, public = urlsplit(origin), urlsplit(settings.public_url)
        same = (parts.scheme, parts.netloc) == (public.scheme, public.netloc)
        return same or parts.netloc.lower() == host.lower() or parts.hostname in _LOCAL
    except ValueError:
        return False
