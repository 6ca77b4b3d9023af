"""Threads that an event loop waits for, and that no process waits for at its end."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future


def run_in_thread(run: Callable[[], None], name: str) -> asyncio.Future[None]:
    """Start it in a thread of its own; the future ends with it. Cancelling the future does not end the thread."""
    ended: Future[None] = Future()

    def work() -> None:
        ended.set_running_or_notify_cancel()
        try:
            run()
        except BaseException as error:
            ended.set_exception(error)
            raise
        ended.set_result(None)

    waited_for = asyncio.wrap_future(ended)
    threading.Thread(target=work, name=name, daemon=True).start()
    return waited_for
