"""The long-lived process that does what cannot wait for a schedule; any number of them may run.

It holds a shared advisory lock while its loop lives, which is how health checks know; it listens for work in
PostgreSQL; and it announces what Prefect's runs go through.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta

import psycopg
import uvloop
from psycopg import sql

from core import logs, notifications, reminders
from core.clock import utcnow
from core.db import transaction
from core.locks import DISPATCHER_LOCK, LOCKS, WORK_CHANNEL
from core.settings import settings
from dispatcher import janitor
from dispatcher.backoff import Backoff
from dispatcher.flow_states import Watcher
from dispatcher.mail.mailer import Mailer
from dispatcher.mail.run_recorder import Recorder
from dispatcher.mail.stats import Tally
from dispatcher.prefect_api import PrefectServer
from dispatcher.reports.renderer import Renderer
from dispatcher.reports.run_recorder import ReportRunRecorder

log = logging.getLogger(__name__)

STOP_SECONDS = 1.5

Work = Callable[[], Awaitable[datetime | None]]
"""Does what is due, and says when the next is; None: nothing is planned. May be called with nothing due."""
SOON = timedelta(seconds=0.5)


def run() -> None:
    """Dispatch until SIGTERM or SIGINT, then stop within two seconds."""
    logs.setup("dispatcher")
    settings().database()
    uvloop.run(_main())


async def _main() -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    dispatching, stopping = asyncio.create_task(_everything()), asyncio.create_task(stop.wait())
    await asyncio.wait([dispatching, stopping], return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        log.info("stopping")
        # a thread may be waiting for a PostgreSQL that does not answer, and nothing else would end it
        force = threading.Timer(STOP_SECONDS, _exit)
        force.daemon = True
        force.start()
        dispatching.cancel()
    stopping.cancel()
    with suppress(asyncio.CancelledError):
        await dispatching


def _exit() -> None:
    log.warning("stopped without waiting for the database; it rolls back what was under way")
    logging.shutdown()
    os._exit(0)


async def _everything() -> None:
    tally = Tally()
    async with (
        ReportRunRecorder(_prefect()) as recorder,
        Renderer(settings(), recorder=recorder) as renderer,
        Recorder(_prefect(), tally),
        Mailer(settings(), tally=tally) as mailer,
    ):
        await dispatch((mailer.look, renderer.fetch_due, remind, notify))


async def remind() -> datetime | None:
    """Send the reminders whose time has come."""
    return await asyncio.to_thread(_remind)


def _remind() -> datetime | None:
    more = reminders.send_due(now=utcnow()).left
    with transaction() as db:
        due = reminders.next_due(db)
    return None if due is None else max(due, utcnow() + SOON) if more else due


async def notify() -> datetime | None:
    """Deliver notifications whose time has come."""
    return await asyncio.to_thread(_notify)


def _notify() -> datetime | None:
    notifications.deliver_due(now=utcnow())
    with transaction() as db:
        due = notifications.next_due(db)
    # what is due and was not delivered is locked by somebody: it is looked at again in a moment
    return None if due is None else max(due, utcnow() + SOON)


async def dispatch(work: tuple[Work, ...]) -> None:
    """Everything a dispatcher does, until cancelled."""
    wakes = [asyncio.Event() for _ in work]
    async with asyncio.TaskGroup() as together:
        together.create_task(_live(wakes))
        together.create_task(Watcher(_prefect()).run())
        together.create_task(janitor.keep(_prefect()))
        for each, wake in zip(work, wakes, strict=True):
            together.create_task(_keep_at(each, wake))


def _prefect() -> PrefectServer:
    return PrefectServer(settings().prefect_api_url, settings().prefect_api_auth_string)


async def _live(wakes: list[asyncio.Event]) -> None:
    """Hold the lock that says we live, and pass on every NOTIFY; PostgreSQL away is waited for."""
    backoff = Backoff()
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(
                settings().database(),
                autocommit=True,
                connect_timeout=5,
                application_name="greenroom dispatcher",
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
            ) as connection:
                await connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", (LOCKS, DISPATCHER_LOCK))
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(WORK_CHANNEL)))
                log.info("listening for work")
                backoff.reset()
                _wake(wakes)  # what was announced while nobody listened
                async for _ in connection.notifies():
                    _wake(wakes)
        except psycopg.Error as error:
            if backoff.first:
                log.warning("PostgreSQL is away: %s", str(error).strip() or type(error).__name__)
        await backoff.sleep()


def _wake(wakes: list[asyncio.Event]) -> None:
    for wake in wakes:
        wake.set()


async def _keep_at(work: Work, wake: asyncio.Event) -> None:
    """Call a work function whenever something is due or it is woken; one that fails is called again."""
    backoff = Backoff()
    while True:
        wake.clear()
        try:
            due = await work()
            backoff.reset()
        except Exception:
            log.exception("work failed; it is tried again", extra={"work": getattr(work, "__name__", repr(work))})
            await backoff.sleep()
            continue
        with suppress(TimeoutError):
            async with asyncio.timeout(None if due is None else max(0.0, (due - utcnow()).total_seconds())):
                await wake.wait()
