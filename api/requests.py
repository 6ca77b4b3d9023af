"""Every request gets an id, which the response and the log have, and one log line when it is answered."""

import logging
import re
import time
from collections.abc import Callable
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_VALID_ID = re.compile(r"[\w.:-]{1,128}")


def loggable_path(path: str) -> str:
    """The path without secrets: the signed part of an unsubscribe link is a key, and names an address."""
    return "/unsubscribe/…" if path.startswith("/unsubscribe/") else path


class RequestLog:
    """ASGI middleware: takes the caller's ``X-Request-Id`` or makes one, answers with it, and logs it.

    The query is not logged: it may hold what people typed. ``on_response`` is called for each: scope, status, seconds.
    """

    def __init__(self, app: ASGIApp, on_response: Callable[[Scope, int, float], None]) -> None:
        self._app, self._on_response = app, on_response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an HTTP request; other kinds of connections log for themselves."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        request_id = given if _VALID_ID.fullmatch(given) else uuid4().hex
        began, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            self._on_response(scope, status, seconds)
            quiet = scope["path"].startswith("/health/") and status < 500
            log.log(
                logging.DEBUG if quiet else logging.INFO,
                "%s %s %s",
                scope["method"],
                loggable_path(scope["path"]),
                status,
                extra={"request_id": request_id, "ms": round(seconds * 1000, 1)},
            )
