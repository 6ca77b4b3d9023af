"""Waiting between attempts, a little longer each time."""

import asyncio
import random


class Backoff:
    """Sleeps 0.1, 0.2, 0.4 … up to ``most`` seconds, with jitter so that many do not come back at once."""

    def __init__(self, *, most: float = 2.0) -> None:
        self._most = most
        self._next = 0.1

    @property
    def first(self) -> bool:
        """Whether this is the first failure since the last success: the time to log it, once."""
        return self._next == 0.1

    def reset(self) -> None:
        """The last attempt succeeded: the next wait is the shortest again."""
        self._next = 0.1

    def delay(self) -> float:
        """Seconds to wait now: longer than the last time."""
        seconds = self._next * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing
        self._next = min(self._next * 2, self._most)
        return seconds

    async def sleep(self) -> None:
        """Wait, longer than the last time."""
        await asyncio.sleep(self.delay())
