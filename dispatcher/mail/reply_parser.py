"""SMTP's answers (RFC 5321, section 4.2): bytes in, replies out, cut anywhere."""

import re
from collections.abc import Iterator

from core.emails.queue.outcomes import Reply

LINE_BYTES = 4096
"""Longest line taken; the RFC's limit is 512, and servers exceed it."""
REPLY_BYTES = 65536
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class Garbage(Exception):
    """What came is no SMTP; nothing after it can be understood either."""


class Replies:
    """The parser of one connection's answers."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[str] = []
        self._code = b""
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether an answer has begun and is not complete."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> Iterator[Reply]:
        """The replies that are complete with these bytes. Raises Garbage, after those that came before it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if (reply := self._line(line.removesuffix(b"\r"))) is not None:
                yield reply
        if len(self._rest) > LINE_BYTES:
            raise Garbage("a line that does not end")

    def _line(self, line: bytes) -> Reply | None:
        read = _LINE.fullmatch(line)
        if len(line) > LINE_BYTES or read is None:
            raise Garbage(f"an answer that is none: {_shown(line[:80])!r}")
        code, more, said = read.groups()
        self._size += len(line)
        if (self._lines and code != self._code) or self._size > REPLY_BYTES:
            raise Garbage("an answer that changes its code, or does not end")
        self._code = code
        self._lines.append(_shown(said or b""))
        if more == b"-":
            return None
        reply = Reply(int(code), "\n".join(self._lines))
        self._lines, self._size = [], 0
        return reply


def _shown(said: bytes) -> str:
    return _CONTROLS.sub(" ", said.decode("utf-8", "replace")).strip()
