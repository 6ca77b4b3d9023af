"""Serving the application with uvicorn."""

from typing import Any

import uvicorn

from api.app import create_app
from api.realtime.wire import Wire
from core import logs
from core.settings import Settings, settings


def serve() -> None:
    """Serve HTTP and live updates until SIGTERM or Ctrl-C; sockets are closed with 1012 (restart)."""
    logs.setup("api")
    config = settings()
    uvicorn.run(create_app(config), **uvicorn_options(config))


def uvicorn_options(config: Settings) -> dict[str, Any]:
    """uvicorn's options."""
    return {
        "host": config.host,
        "port": config.port,
        "ws": Wire,
        # A message may join several frames; one larger than this is refused before it is read.
        "ws_max_size": 4 * config.ws_frame_bytes or None,
        # Deflate costs twice the CPU a delivery and three times the memory a connection (measured).
        "ws_per_message_deflate": False,
        "log_config": None,
        "access_log": False,
        # uvicorn trusts X-Forwarded-* of every local process otherwise.
        "proxy_headers": False,
        "timeout_graceful_shutdown": 5,
    }
