"""A connection's outgoing queue: bounded in bytes and in time, drained by one task while it holds anything."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

Write = Callable[[str], Awaitable[None]]
Slow = Callable[[str], None]


class Outgoing:
    """Frames on their way to one socket, in order.

    ``max_bytes`` may wait and one write may take ``seconds`` (0: no limit); past either, ``slow`` is called once with
    the limit's name and nothing more is taken: a message is never dropped from the middle.
    """

    __slots__ = ("_bytes", "_frames", "_max_bytes", "_refused", "_seconds", "_slow", "_task", "_write", "idle")

    def __init__(self, write: Write, slow: Slow, *, max_bytes: int, seconds: float) -> None:
        self._write, self._slow = write, slow
        self._max_bytes, self._seconds = max_bytes, seconds
        self._frames: deque[str] = deque()
        self._bytes = 0
        self._refused = False
        self._task: asyncio.Task[None] | None = None
        self.idle = asyncio.Event()
        self.idle.set()

    def put(self, frame: str) -> None:
        """Take a frame; it is written as soon as those before it are."""
        if self._refused:
            return
        self._bytes += len(frame)
        # A lone frame larger than the limit still goes: nothing waits in front of it.
        if self._max_bytes and self._bytes > self._max_bytes and self._frames:
            self._refuse("WS_QUEUE_BYTES")
            return
        self._frames.append(frame)
        if self._task is None:
            self.idle.clear()
            self._task = asyncio.create_task(self._drain())

    def stop(self) -> None:
        """Take nothing more and let go of what waits."""
        self._refused = True
        self._frames.clear()
        if self._task is not None:
            self._task.cancel()

    def _refuse(self, limit: str) -> None:
        self._refused = True
        self._slow(limit)

    async def _drain(self) -> None:
        try:
            while self._frames:
                frame = self._frames[0]
                async with asyncio.timeout(self._seconds or None):
                    await self._write(frame)
                if self._frames:
                    self._frames.popleft()
                self._bytes -= len(frame)
        except TimeoutError:
            self._refuse("WS_SEND_SECONDS")
        except OSError:
            # The socket is gone; its reader is told so and closes the connection.
            self._refused = True
        finally:
            self._task = None
            self.idle.set()
