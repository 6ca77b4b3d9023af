"""STOMP 1.2, 1.1 and 1.0 for a server, without I/O: bytes in, frames out.

Headers are never trimmed or padded, in 1.0 either: Spring takes them as they come and stompjs sends
``name:value`` without spaces; trimming for 1.0 peers that pad would corrupt other clients' values.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

VERSIONS: Final = ("1.2", "1.1", "1.0")
HEART_BEAT: Final = b"\n"

_REQUIRED_10: Final[dict[str, tuple[str, ...]]] = {
    "CONNECT": (),
    "STOMP": ("accept-version",),  # a 1.0 client does not know this command
    "SEND": ("destination",),
    "SUBSCRIBE": ("destination",),
    "UNSUBSCRIBE": (),  # either of two: see check
    "ACK": ("message-id",),
    "DISCONNECT": (),
    **dict.fromkeys(("BEGIN", "COMMIT", "ABORT"), ("transaction",)),
}
_REQUIRED_11: Final[dict[str, tuple[str, ...]]] = {
    **_REQUIRED_10,
    "CONNECT": ("accept-version",),  # and host, says the specification; @stomp/stompjs sends none
    "SUBSCRIBE": ("destination", "id"),
    "UNSUBSCRIBE": ("id",),
    "ACK": ("message-id", "subscription"),
    "NACK": ("message-id", "subscription"),
}
REQUIRED: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "1.0": _REQUIRED_10,
    "1.1": _REQUIRED_11,
    "1.2": {**_REQUIRED_11, "ACK": ("id",), "NACK": ("id",)},
}
CLIENT: Final = frozenset(REQUIRED["1.2"])
SERVER: Final = frozenset({"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"})
WITH_BODY: Final = frozenset({"SEND", "MESSAGE", "ERROR"})

# STOMP is CONNECT under another name ("CONNECT or STOMP Frame"), so it is not escaped either.
_UNESCAPED: Final = frozenset({"CONNECT", "CONNECTED", "STOMP"})
_UNESCAPE_11: Final = {"\\n": "\n", "\\c": ":", "\\\\": "\\"}
_UNESCAPE: Final = {"1.1": _UNESCAPE_11, "1.2": {**_UNESCAPE_11, "\\r": "\r"}}
_ESCAPE_12: Final = str.maketrans({"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c", "\0": " "})
_ESCAPE_11: Final = {**_ESCAPE_12, ord("\r"): " "}
_RAW: Final = str.maketrans({"\r": " ", "\n": " ", "\0": " "})
_ESCAPE: Final = {  # of names, of values
    "1.2": (_ESCAPE_12, _ESCAPE_12),
    "1.1": (_ESCAPE_11, _ESCAPE_11),
    "1.0": ({**_RAW, ord(":"): " "}, _RAW),
}

_EOLS: Final = re.compile(rb"[\r\n]*")
_BLANK_LINE: Final = re.compile(rb"\r?\n\r?\n")
_SEQUENCE: Final = re.compile(r"\\.?", re.DOTALL)


class ProtocolError(Exception):
    """The peer broke the protocol; the message goes into an ERROR frame and repeats no header value."""


class LimitExceeded(ProtocolError):
    """A peer went over {limit} ({value})."""

    def __init__(self, limit: str, value: int) -> None:
        super().__init__(f"over the limit {limit} ({value})")


@dataclass(frozen=True, slots=True)
class Frame:
    """One STOMP frame; headers are unescaped and in the order of the wire, the first of a repeated name."""

    command: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Parser:
    """Turns the bytes of one connection into frames, however WebSocket messages cut or join them.

    Set ``version`` once CONNECT is answered; it applies from the next frame on. A frame may be ``max_bytes``
    long, its NUL included (0: no limit). ``commands`` is CLIENT; a test's client passes SERVER.
    """

    __slots__ = ("_buffer", "_error", "_needed", "_scanned", "commands", "max_bytes", "version")

    def __init__(self, max_bytes: int = 65536, *, commands: frozenset[str] = CLIENT) -> None:
        self.version = "1.2"
        self.max_bytes = max_bytes
        self.commands = commands
        self._buffer = bytearray()
        self._scanned = 0  # octets of the first frame known to hold no NUL
        self._needed = 0  # octets the first frame has, once its content-length is known
        self._error: ProtocolError | None = None

    @property
    def held(self) -> int:
        """Octets kept of a frame not yet complete: under max_bytes once feed's iterator is exhausted."""
        return len(self._buffer)

    def feed(self, data: bytes | str) -> Iterator[Frame]:
        """Append ``data`` at once and yield the frames it completes; EOLs between frames yield nothing.

        Each frame is parsed when the iterator is advanced, so frames before a bad one are never lost and a version
        set between two frames is honoured; frames not consumed come first at the next feed. Raises
        ProtocolError at the bad frame, and again at every later use: the connection is to be closed.
        (STOMP 1.2, "Augmented BNF")
        """
        if self._error is None:
            self._buffer += data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        return iter(self._next, None)

    def _next(self) -> Frame | None:
        if self._error is not None:
            raise self._error.with_traceback(None)
        try:
            return self._parse_frame()
        except ProtocolError as error:
            self._error = error
            self._buffer.clear()
            raise

    def _parse_frame(self) -> Frame | None:
        buffer = self._buffer
        if buffer.startswith((b"\n", b"\r")):
            eols = _EOLS.match(buffer)
            del buffer[: eols.end() if eols else 0]
        if not buffer or len(buffer) < self._needed:
            return None
        # No frame is complete without its NUL, so octets without one are scanned only once.
        nul = buffer.find(0, self._scanned)
        self._scanned = nul if nul >= 0 else len(buffer)
        if self.max_bytes and self._scanned >= self.max_bytes:
            raise LimitExceeded("WS_FRAME_BYTES", self.max_bytes)
        if nul < 0:
            return None
        head, start = _split(buffer, nul)
        command, headers = _parse_head(head, self.version, self.commands)
        end = nul
        if (length := headers.get("content-length")) is not None:
            end = start + _count(length, "content-length")
            if self.max_bytes and end >= self.max_bytes:
                raise LimitExceeded("WS_FRAME_BYTES", self.max_bytes)
        if end > start and command not in WITH_BODY:
            raise ProtocolError(f"{command} must not have a body")
        if end >= len(buffer):
            self._needed = end + 1
            return None
        if buffer[end]:
            raise ProtocolError(f"no NUL where the content-length of {command} ends its body")
        body = bytes(buffer[start:end])
        del buffer[: end + 1]
        self._scanned = self._needed = 0
        return Frame(command, headers, body)


def _split(buffer: bytearray, nul: int) -> tuple[str, int]:
    """The command and header lines, joined by LF, and where the body starts."""
    end = buffer.find(b"\n\n", 0, nul)
    start = end + 2
    if end < 0 or buffer.find(b"\r", 0, end) >= 0:
        blank = _BLANK_LINE.search(buffer, 0, nul)
        if blank is None:
            raise ProtocolError("a frame ended before the blank line that ends its headers")
        end, start = blank.span()
    try:
        head = buffer[:end].decode()
    except UnicodeDecodeError:
        raise ProtocolError("command or headers are not valid UTF-8") from None
    if "\r" in head:
        head = head.replace("\r\n", "\n")
        if "\r" in head:
            raise ProtocolError("a carriage return inside a header")
    return head, start


def _parse_head(head: str, version: str, commands: frozenset[str]) -> tuple[str, dict[str, str]]:
    command, *lines = head.split("\n")
    if command not in commands:
        # no backslash in what is quoted: @stomp/stompjs cannot unescape one
        shown = "".join(c if c.isprintable() and c != "\\" else "?" for c in command[:32])
        raise ProtocolError(f"unknown command {shown}")
    escapes = _UNESCAPE.get(version) if "\\" in head and command not in _UNESCAPED else None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ProtocolError(f"a header line of {command} has no colon")
        if not name:
            raise ProtocolError(f"a header of {command} has no name")
        if escapes is not None:
            name, value = _unescape(name, escapes), _unescape(value, escapes)
        if name not in headers:  # the first wins (STOMP 1.2, "Repeated Header Entries")
            headers[name] = value
    return command, headers


def _unescape(text: str, escapes: Mapping[str, str]) -> str:
    try:
        return _SEQUENCE.sub(lambda sequence: escapes[sequence[0]], text)
    except KeyError:
        raise ProtocolError("undefined escape sequence in a header") from None


def _count(text: str, what: str) -> int:
    # isdigit alone takes other scripts' digits; int alone takes signs, spaces and underscores
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ProtocolError(f"{what} is not a non-negative integer")
    return int(text)


def dump(frame: Frame, version: str = "1.2") -> bytes:
    """The bytes of exactly one frame, whatever its headers hold.

    A content-length is added when there is a body, and corrected when it is wrong. What the version cannot
    escape becomes a space, so that no header can be injected and a message still reaches its 1.0 subscribers:
    NUL in all, CR in 1.1, CR and LF (and a colon in a name) in 1.0 and in CONNECT and CONNECTED. Raises
    ValueError for what no peer can cause: an unknown command, an empty header name, a body on a frame that
    has none. (STOMP 1.2, "Value Encoding")
    """
    return _dump(frame.command, frame.headers, frame.body, version)


def message(
    destination: str,
    subscription: str | None,
    message_id: str | int,
    body: bytes,
    *,
    ack: str | None = None,
    content_type: str = "application/json",
    version: str = "1.2",
) -> bytes:
    """The bytes of a MESSAGE; no subscription for a 1.0 client that gave no id. (STOMP 1.2, "MESSAGE")"""
    headers = {"destination": destination, "message-id": str(message_id), "content-type": content_type}
    if subscription is not None:
        headers["subscription"] = subscription
    if ack is not None:
        headers["ack"] = ack
    headers["content-length"] = str(len(body))
    return _dump("MESSAGE", headers, body, version)


def _dump(command: str, headers: Mapping[str, str], body: bytes, version: str) -> bytes:
    if command not in CLIENT and command not in SERVER:
        raise ValueError(f"no STOMP command: {command!r}")
    if body and command not in WITH_BODY:
        raise ValueError(f"{command} must not have a body")
    if "" in headers:
        raise ValueError(f"a header of {command} has no name")
    length = headers.get("content-length")
    if (body or length is not None) and length != str(len(body)):
        headers = {**headers, "content-length": str(len(body))}
    head = "".join([f"{name}:{value}\n" for name, value in headers.items()])
    lines = len(headers)
    # counting is the fast way to see that no name or value has a character to escape
    if head.count(":") != lines or head.count("\n") != lines or "\\" in head or "\r" in head or "\0" in head:
        names, values = _ESCAPE["1.0" if command in _UNESCAPED else version]
        head = "".join([f"{n.translate(names)}:{v.translate(values)}\n" for n, v in headers.items()])
    return b"%b\n%b\0" % (f"{command}\n{head}".encode("utf-8", "replace"), body)


def check(frame: Frame, version: str) -> None:
    """ProtocolError if the version lacks the command or the frame a required header. ("Client Frames")"""
    required = REQUIRED[version].get(frame.command)
    if required is None:
        raise ProtocolError(f"{frame.command} is not a command of STOMP {version}")
    for name in required:
        if name not in frame.headers:
            raise ProtocolError(f"{frame.command} without the header {name}")
    if frame.command == "UNSUBSCRIBE" and not frame.headers.keys() & {"id", "destination"}:
        raise ProtocolError("UNSUBSCRIBE without the header id or destination")


def negotiate(accept_version: str | None) -> str | None:
    """The highest version in common, if any; 1.0 without a header. (STOMP 1.2, "Protocol Negotiation")"""
    if accept_version is None:
        return "1.0"
    offered = {version.strip() for version in accept_version.split(",")}
    return next((version for version in VERSIONS if version in offered), None)


def heart_beat(client_header: str | None, ours: tuple[int, int]) -> tuple[int, int]:
    """Milliseconds between the server's heart-beats, and between the client's; 0 for none.

    ``ours`` is what the server can send and wants to get. Raises ProtocolError when the client's header is
    not two non-negative integers. (STOMP 1.2, "Heart-beating")
    """
    if client_header is None:
        return 0, 0
    sends, _, wants = client_header.partition(",")
    client_sends, client_wants = _count(sends, "heart-beat"), _count(wants, "heart-beat")
    can_send, want = ours
    return (
        max(can_send, client_wants) if can_send and client_wants else 0,
        max(client_sends, want) if client_sends and want else 0,
    )
