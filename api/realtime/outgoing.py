"""A connection's outgoing queue: unused while the socket takes frames at once, else bounded in bytes and in time."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)


class Socket(Protocol):
    """Where the frames go: a WebSocket, or whatever SockJS makes of one."""

    def write(self, frame: bytes) -> bool:
        """Write one frame now; False when that would have to wait. Raises OSError when the socket is gone."""

    async def send(self, frame: bytes) -> None:
        """Write one frame as soon as the socket takes it. Raises OSError when the socket is gone."""

    async def close(self, code: int, reason: str, *, patience: float) -> None:
        """Close the socket; the peer has so many seconds to take what was written and to answer."""

    def abort(self) -> None:
        """Drop the socket at once, with whatever was not written."""


class Cork:
    """While it is closed, sockets may hold frames back, so that many to one peer cost one system call.

    It is drawn before the loop goes on: nothing else ever finds a socket that holds frames back.
    """

    def __init__(self) -> None:
        self.closed = False
        self.held: list[Callable[[], None]] = []
        """What writes the frames that each socket holds back."""

    def __enter__(self) -> None:
        self.closed = True

    def __exit__(self, *_: object) -> None:
        self.closed = False
        held, self.held = self.held, []
        for flush in held:
            flush()


class Outgoing:
    """Frames on their way to one socket, in order.

    ``max_bytes`` may wait and one frame may take ``seconds`` (0: no limit); past either, ``slow`` is called once with
    the limit's name and nothing more is taken: a message is never dropped from the middle.
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
        """Take a frame; it is written at once, or as soon as those before it are. Never raises."""
        if self._refused:
            return
        if self._task is None:
            try:
                if self._socket.write(frame):
                    self.written_at = time.monotonic()
                    return
            except OSError:
                # The socket is gone; its reader is told so and ends the connection.
                self._refused = True
                return
        self._bytes += len(frame)
        # A lone frame larger than the limit still goes: nothing waits in front of it.
        if self._max_bytes and self._bytes > self._max_bytes and self._frames:
            self._refuse("WS_QUEUE_BYTES")
            return
        self._frames.append(frame)
        if self._task is None:
            self._task = asyncio.create_task(self._drain())

    async def drained(self) -> None:
        """Wait until nothing waits any more: all was written, or nothing more will be."""
        while self._task is not None:
            await asyncio.wait((self._task,))

    def stop(self) -> None:
        """Take nothing more and let go of what waits."""
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
                if self._frames:  # stop may have taken them
                    self._frames.popleft()
                self._bytes -= len(frame)
        except TimeoutError:
            self._refuse("WS_SEND_SECONDS")
        except OSError:
            self._refused = True
        except Exception:
            # Whatever it is, frames in the middle may be missing now, so that the client has to come again.
            log.exception("a frame could not be written")
            self._refused = True
            self._socket.abort()
        finally:
            self._task = None
