"""A connection's outgoing queue: bypassed while the socket takes frames at once, else bounded in bytes and in time."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)


class Socket(Protocol):
    """Where frames are written: a WebSocket, or a SockJS transport."""

    def write(self, frame: bytes) -> bool:
        """Write one frame now; False when that would block. Raises OSError when the socket is gone."""

    async def send(self, frame: bytes) -> None:
        """Write one frame as soon as the socket takes it. Raises OSError when the socket is gone."""

    async def close(self, code: int, reason: str, *, patience: float) -> None:
        """Close the socket; the peer has ``patience`` seconds to read what was written and to answer."""

    def abort(self) -> None:
        """Close the transport at once and discard what was not written."""


class Cork:
    """While it is closed, sockets may buffer frames, so that many to one peer cost one system call (as TCP_CORK does).

    It is opened before the event loop runs anything else: no other code meets a socket with buffered frames.
    """

    def __init__(self) -> None:
        self.closed = False
        self.held: list[Callable[[], None]] = []
        """The callbacks that write each socket's buffered frames."""

    def __enter__(self) -> None:
        self.closed = True

    def __exit__(self, *_: object) -> None:
        self.closed = False
        held, self.held = self.held, []
        for flush in held:
            flush()


class Outgoing:
    """The frames to be written to one socket, in order.

    ``max_bytes`` may wait and one frame may take ``seconds`` (0: no limit); past either, ``slow`` is called once with
    the limit's name and nothing more is accepted: a message is never dropped from the middle.
    """

    __slots__ = ("_bytes", "_frames", "_max_bytes", "_refused", "_seconds", "_slow", "_socket", "_task", "written_at")

    def __init__(self, socket: Socket, slow: Callable[[str], None], *, max_bytes: int, seconds: float) -> None:
        self._socket, self._slow = socket, slow
        self._max_bytes, self._seconds = max_bytes, seconds
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._refused = False
        self._task: asyncio.Task[None] | None = None
        self.written_at = time.monotonic()
        """When the socket last took a frame."""

    def put(self, frame: bytes) -> None:
        """Queue a frame; it is written at once, or as soon as those before it are. Never raises."""
        if self._refused:
            return
        if self._task is None:
            try:
                if self._socket.write(frame):
                    self.written_at = time.monotonic()
                    return
            except OSError:
                # The socket is closed; its reader sees that, too, and ends the connection.
                self._refused = True
                return
        self._bytes += len(frame)
        # A single frame larger than the limit is still sent: the queue is empty in front of it.
        if self._max_bytes and self._bytes > self._max_bytes and self._frames:
            self._refuse("WS_QUEUE_BYTES")
            return
        self._frames.append(frame)
        if self._task is None:
            self._task = asyncio.create_task(self._drain())

    async def drained(self) -> None:
        """Wait until the queue is empty: all was written, or nothing more will be."""
        while self._task is not None:
            await asyncio.wait((self._task,))

    def stop(self) -> None:
        """Accept nothing more and drop what is queued."""
        self._refused = True
        self._frames.clear()
        if self._task is not None:
            self._task.cancel()

    def _refuse(self, limit: str) -> None:
        if not self._refused:
            self._refused = True
            self._slow(limit)

    async def _drain(self) -> None:
        try:
            while self._frames:
                frame = self._frames[0]
                async with asyncio.timeout(self._seconds or None):
                    await self._socket.send(frame)
                self.written_at = time.monotonic()
                if self._frames:  # stop may have cleared them
                    self._frames.popleft()
                self._bytes -= len(frame)
        except TimeoutError:
            self._refuse("WS_SEND_SECONDS")
        except OSError:
            self._refused = True
        except Exception:
            # Frames in the middle may be lost now, so the client has to reconnect and resume.
            log.exception("a frame could not be written")
            self._refused = True
            self._socket.abort()
        finally:
            self._task = None
