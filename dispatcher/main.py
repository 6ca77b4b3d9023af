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
from dispatcher.flow_states import FlowStateWatcher
from dispatcher.mail.mailer import Mailer
from dispatcher.mail.run_recorder import MailRunRecorder
from dispatcher.mail.stats import SendStats
from dispatcher.prefect_api import PrefectServer
from dispatcher.reports.renderer import Renderer
from dispatcher.reports.run_recorder import ReportRunRecorder

log = logging.getLogger(__name__)

STOP_SECONDS = 1.5

Work = Callable[[], Awaitable[datetime | None]]
"""Does what is due, and says when the next is; None: nothing is planned. May be called with nothing due."""
RECHECK = timedelta(seconds=0.5)
"""What is due and was not taken is locked by somebody else; after this time it is looked for again."""


def run() -> None:
    """Dispatch until SIGTERM or SIGINT, then stop within two seconds."""
    logs.setup("dispatcher")
    settings().database()
    uvloop.run(_main())


async def _main() -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    dispatching, stopping = asyncio.create_task(_run_all()), asyncio.create_task(stop.wait())
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


async def _run_all() -> None:
    mail_stats = SendStats()
    async with (
        ReportRunRecorder(_prefect()) as recorder,
        Renderer(settings(), recorder=recorder) as renderer,
        MailRunRecorder(_prefect(), mail_stats),
        Mailer(settings(), stats=mail_stats) as mailer,
    ):
        await dispatch((mailer.fetch_due, renderer.fetch_due, send_reminders, deliver_notifications))


async def send_reminders() -> datetime | None:
    """Send the reminders whose time has come."""
    return await asyncio.to_thread(_send_reminders)


def _send_reminders() -> datetime | None:
    locked = reminders.send_due(now=utcnow()).counts["locked"]
    with transaction() as db:
        due = reminders.next_due(db)
    return None if due is None else max(due, utcnow() + RECHECK) if locked else due


async def deliver_notifications() -> datetime | None:
    """Deliver notifications whose time has come."""
    return await asyncio.to_thread(_deliver_notifications)


def _deliver_notifications() -> datetime | None:
    notifications.deliver_due(now=utcnow())
    with transaction() as db:
        due = notifications.next_due(db)
    return None if due is None else max(due, utcnow() + RECHECK)


async def dispatch(work: tuple[Work, ...]) -> None:
    """Everything a dispatcher does, until cancelled."""
    wakes = [asyncio.Event() for _ in work]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_listen(wakes))
        tasks.create_task(FlowStateWatcher(_prefect()).run())
        tasks.create_task(janitor.run(_prefect()))
        for each, wake in zip(work, wakes, strict=True):
            tasks.create_task(_call_when_due(each, wake))


def _prefect() -> PrefectServer:
    return PrefectServer(settings().prefect_api_url, settings().prefect_api_auth_string)


async def _listen(wakes: list[asyncio.Event]) -> None:
    """Hold the lock that shows this process is alive, and wake the work at each NOTIFY; reconnects when need be."""
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
                log.warning("PostgreSQL cannot be reached: %s", str(error).strip() or type(error).__name__)
        await backoff.sleep()


def _wake(wakes: list[asyncio.Event]) -> None:
    for wake in wakes:
        wake.set()


async def _call_when_due(work: Work, wake: asyncio.Event) -> None:
    """Call a work function whenever something is due or a NOTIFY came; one that fails is called again."""
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
