"""Serving the application with uvicorn."""

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.realtime.wire import Wire
from core import logs
from core.settings import Settings, settings


def serve() -> None:
    """Serve HTTP and live updates until SIGTERM or Ctrl-C; sockets are closed with 1012 (restart)."""
    logs.setup("api")
    config = settings()
    uvicorn.Server(server_config(create_app(config), config)).run()


def server_config(app: FastAPI, config: Settings) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        app,
        host=config.host,
        port=config.port,
        ws=Wire,
        # A message may join several frames; one larger than this is not read at all.
        ws_max_size=4 * config.ws_frame_bytes or None,  # type: ignore[arg-type]
        # Deflate costs twice the CPU a delivery and three times the memory a connection (measured, see FACTS).
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
    )
