"""Between the hands and the database: verdicts and leave to send, many in one transaction.

While one transaction is under way, what comes waits for the next; so the busier the hands are, the fewer commits a mail
costs, and nobody waits when they are not.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from core.emails.queue.claims import ClaimedMail
from core.emails.queue.outcomes import StateUpdate, UpdatedMail
from dispatcher.backoff import Backoff
from dispatcher.mail.desk import Desk, Held, Settled

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.02
LOCKED_SECONDS = 0.05
"""How long to leave a row that somebody else had locked."""


class Settler:
    """Writes verdicts and asks for leave to send, until closed. PostgreSQL away is waited for: nothing is forgotten."""

    def __init__(
        self, *, hands: Callable[[], int], on_written: Callable[[UpdatedMail], None], on_stopped: Callable[[str], None]
    ) -> None:
        self._hands = hands
        self._asking: dict[Held, asyncio.Future[bool]] = {}
        self._ended: dict[Held, StateUpdate] = {}
        self._work, self._all_written = asyncio.Event(), asyncio.Event()
        self._on_written, self._on_stopped = on_written, on_stopped
        self._task = asyncio.create_task(self._run(), name="settle mails")

    async def may_begin(self, mail: ClaimedMail) -> bool:
        """Whether DATA may begin now. Once true, the attempt is counted, and a loss is uncertain."""
        key, leave = (mail.id, mail.owner), asyncio.get_running_loop().create_future()
        self._asking[key] = leave
        self._work.set()
        try:
            return bool(await leave)
        finally:
            self._asking.pop(key, None)

    def end(self, ended: StateUpdate) -> None:
        """Have a verdict written."""
        self._ended[ended.id, ended.owner] = ended
        self._all_written.clear()
        self._work.set()

    async def all_written(self) -> None:
        """Wait until every verdict so far is written."""
        if self._ended:
            await self._all_written.wait()

    async def close(self, within: float) -> None:
        """Write what is left, for at most this many seconds; what cannot be written is left to its lease."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.all_written()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if self._ended:
            log.warning("mails were left to their leases", extra={"mails": len(self._ended)})

    async def _run(self) -> None:
        desk = Desk()
        try:
            await self._settle_at(desk)
        finally:
            desk.close()

    async def _settle_at(self, desk: Desk) -> None:
        loop, backoff, took = asyncio.get_running_loop(), Backoff(), 0.0
        while True:
            await self._work.wait()
            await self._gather(min(took, GATHER_SECONDS))
            self._work.clear()
            # a mail that was lost and claimed anew is asked for by one claim at a time: the answer names the mail alone
            asking, ended = list({key[0]: key for key in self._asking}.values()), dict(self._ended)
            if not asking and not ended:
                continue
            begun = loop.time()
            try:
                settled = await asyncio.to_thread(desk.settle, asking, list(ended.values()))
            except Exception:
                if backoff.first:
                    log.exception("mails wait for the database; it is tried again")
                self._work.set()
                await backoff.sleep()
                continue
            backoff.reset()
            took = loop.time() - begun
            if self._pass_on(asking, ended, settled):
                await asyncio.sleep(LOCKED_SECONDS)
            if self._asking or self._ended:
                self._work.set()

    async def _gather(self, seconds: float) -> None:
        """Wait for the other hands that are at work, as long as a commit takes: one for all is sooner than two."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self._asking) < self._hands():
                    self._work.clear()
                    await self._work.wait()

    def _pass_on(self, asking: Sequence[Held], ended: dict[Held, StateUpdate], settled: Settled) -> bool:
        """Tell who waits; whether something was locked and has to be asked again."""
        for mail in settled.written:
            self._on_written(mail)
        for key, one in ended.items():
            if key[0] not in settled.held and self._ended.get(key) is one:
                del self._ended[key]
        if not self._ended:
            self._all_written.set()
        for key in asking:
            status = settled.begun.get(key[0])
            if status is None and key[0] in settled.held:
                continue
            if status not in (None, "sending"):
                self._on_stopped(str(status))
            leave = self._asking.pop(key, None)
            if leave is not None and not leave.done():
                leave.set_result(status == "sending")
        return bool(settled.held)
