"""The web application: routes, errors, the hub and its relay."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broadcaster import Broadcast
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import WebSocketRoute

from api import emails, errors, flows, health, metrics, notifications, people, reports, sessions, unsubscribe
from api.board import mail, report
from api.prefect import Prefect
from api.realtime.endpoint import StompEndpoint
from api.realtime.hub import Hub
from api.realtime.relay import OutboxBackend
from api.realtime.unread import UnreadCounter
from api.requests import RequestLog
from core.jwks import key_set
from core.settings import Settings, settings

log = logging.getLogger(__name__)

LOCALHOST = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"
"""Where a developer's frontend runs: allowed unless ALLOWED_ORIGINS says otherwise."""


def create_app(config: Settings | None = None) -> FastAPI:
    """The application for these settings (absent: the process's)."""
    config = config or settings()
    config.secret()  # without one no token can be checked: the start fails, and not the first request
    if config.jwks_url and not config.jwt_secret:
        key_set(config.jwks_url).start()
    hub, backend = Hub(), OutboxBackend(config.database())
    unread = UnreadCounter(hub)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        broadcast = Broadcast(backend=backend)
        routing = asyncio.create_task(hub.run(broadcast))
        routing.add_done_callback(_stop_process)
        # The hub subscribes before the relay starts, so that the first batch has a subscriber.
        await asyncio.sleep(0)
        await broadcast.connect()
        unread_counting = asyncio.create_task(unread.run())
        async with Prefect(config) as app.state.prefect:
            yield
        unread_counting.cancel()
        routing.remove_done_callback(_stop_process)
        routing.cancel()
        await broadcast.disconnect()

    app = FastAPI(title="Greenroom", version="0.1.0", description=__doc__, lifespan=lifespan)
    app.state.backend = backend
    app.state.metrics = metrics.Metrics(hub, backend)
    origins = config.allowed_origins
    if "*" in origins:
        log.warning("GREENROOM_ALLOWED_ORIGINS is *: pages of every origin may send requests and open sockets")
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins or (config.public_url.rstrip("/"),),
        allow_origin_regex=None if origins else LOCALHOST,
        allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id"),
        expose_headers=(
            "Content-Disposition",
            "Content-Range",
            "ETag",
            "Last-Id",
            "Location",
            "Retry-After",
            "X-Request-Id",
        ),
        allow_credentials=True,
    )
    app.add_middleware(RequestLog, on_response=app.state.metrics.request)
    errors.install(app)
    for part in (
        people,
        sessions,
        notifications,
        emails,
        reports,
        unsubscribe,
        flows,
        health,
        metrics,
        mail,
        report,
    ):
        app.include_router(part.router)
    app.router.routes.append(WebSocketRoute("/ws", StompEndpoint(hub, config)))
    return app


def _stop_process(routing: "asyncio.Task[None]") -> None:
    # A stopped hub would lose messages without a sign; a process that ends is started again.
    log.critical("the hub stopped routing; ending the process", exc_info=routing.exception())
    os.kill(os.getpid(), signal.SIGTERM)
