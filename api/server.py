"""Serving the application with uvicorn."""

import uvicorn

from api.app import create_app
from core import logs
from core.settings import settings


def serve() -> None:
    """Serve HTTP and live updates until SIGTERM or Ctrl-C; sockets are closed with 1012 (restart)."""
    logs.setup("api")
    config = settings()
    uvicorn.run(
        create_app(config),
        host=config.host,
        port=config.port,
        ws="websockets-sansio",
        # Deflate costs twice the CPU a delivery and three times the memory a connection (measured, see FACTS).
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        # uvicorn believes X-Forwarded-* of every local process otherwise.
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
