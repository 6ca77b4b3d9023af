"""The DevTools protocol over a browser's two pipes: JSON messages that end with a zero byte.

Ours rather than choreographer's: that one keeps both ends of both pipes open and blocks threads on them, so that the
end of the browser is no end of file, and closing waits for the browser that it should end.
"""

import asyncio
import contextlib
import json
from typing import Any

LARGEST = 256 * 1024 * 1024
"""Limit of a message in bytes; a larger one ends the connection."""


class BrowserGone(Exception):
    """The browser has ended, or a page of it crashed."""


class CommandRefused(Exception):
    """The browser answered with an error; the message is the browser's."""


class Devtools:
    """One browser's connection. Every wait ends when the browser does; other time limits are the caller's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._last = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}
        self._gone: str | None = None
        self._ended = asyncio.Event()
        self._reading = asyncio.create_task(self._read(), name="reports-devtools")

    @property
    def gone(self) -> bool:
        """Whether nothing more will be answered."""
        return self._gone is not None

    async def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """The browser's result. Raises BrowserGone, CommandRefused."""
        if self._gone is not None:
            raise BrowserGone(self._gone)
        self._last = number = self._last + 1
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\0")
            await self._writer.drain()
            return await answer
        except (ConnectionError, RuntimeError) as error:
            raise BrowserGone(str(error)) from error
        finally:
            self._answers.pop(number, None)

    def event(self, method: str, session: str = "") -> asyncio.Future[dict[str, Any]]:
        """The next such event; to be called before the command that causes it."""
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if self._gone is not None:
            waiting.set_exception(BrowserGone(self._gone))
        else:
            self._events[session, method] = waiting
        return waiting

    async def wait_until_gone(self) -> str:
        """Wait until nothing more will be answered; returns the reason."""
        await self._ended.wait()
        return self._gone or ""

    def fail_all(self, why: str) -> None:
        """Fail all pending and later calls with this reason."""
        if self._gone is not None:
            return
        self._gone = why
        self._ended.set()
        for waiting in (*self._answers.values(), *self._events.values()):
            if not waiting.done():
                waiting.set_exception(BrowserGone(why))
                waiting.exception()  # its caller may have been cancelled: no «exception was never retrieved»
        self._events.clear()
        self._writer.close()

    async def closed(self) -> None:
        """Wait until both pipes are closed, which the kernel does for a killed browser."""
        await self._reading
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await asyncio.sleep(0)  # asyncio closes the process's transport a step later

    async def _read(self) -> None:
        why = "The browser ended."
        try:
            while True:
                self._take(json.loads((await self._reader.readuntil(b"\0"))[:-1]))
        except asyncio.IncompleteReadError:
            pass
        except (OSError, ValueError, asyncio.LimitOverrunError) as error:
            why = f"The browser's answer could not be read: {error}"
        finally:
            self.fail_all(why)

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            answer = self._answers.get(message["id"])
            if answer is None or answer.done():
                return
            if "error" in message:
                answer.set_exception(CommandRefused(message["error"].get("message", "no reason given")))
            else:
                answer.set_result(message["result"])
            return
        if message["method"] in ("Target.targetCrashed", "Inspector.targetCrashed"):
            self.fail_all("A page of the browser crashed.")
            return
        waiting = self._events.pop((message.get("sessionId", ""), message["method"]), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message["params"])
