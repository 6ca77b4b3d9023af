"""Close codes, and the error that ends a connection with one of them."""

from collections.abc import Mapping
from typing import Final

PROTOCOL, RESTARTED, UNAUTHENTICATED, FORBIDDEN, LIMIT, SLOW, OUR_FAULT = 1002, 1012, 4401, 4403, 4429, 4500, 1011
"""Close codes (docs/reference/live-updates.md, "Close codes"; 1011 is RFC 6455's for a fault of ours)."""

SILENT_BEATS: Final = 3
"""A client is disconnected after this many missed heart-beats, as by Spring's simple broker."""


class Refused(Exception):
    """The connection ends with an ERROR frame and this close code."""

    def __init__(self, code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.code, self.headers = code, headers or {}
        super().__init__(message)
