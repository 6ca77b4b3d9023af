"""Liveness and readiness: PostgreSQL and the relay decide; any other part that does not work is named as degraded."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from api.prefect import Prefect
from core.db import transaction
from core.locks import DISPATCHER_LOCK, LOCKS
from core.settings import SMTP_PORTS, settings

router = APIRouter(prefix="/health", tags=["health"])

_PATIENCE = 2.0


class NotWorking(Exception):
    """A part does not answer, and why."""


@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """200 while PostgreSQL and the relay work; every part is named, with the reason where it does not work."""
    prefect: Prefect = request.app.state.prefect
    checks: dict[str, Callable[[], Awaitable[None]]] = {
        "postgres": lambda: run_in_threadpool(_postgres),
        "relay": lambda: _relay(request),
        "prefect": lambda: _prefect(prefect),
        "worker": lambda: _worker(prefect),
        "dispatcher": lambda: run_in_threadpool(_dispatcher),
        "mail": _mail,
    }
    reasons = {
        part: reason
        for part, reason in zip(checks, await asyncio.gather(*map(_reason, checks.values())), strict=True)
        if reason
    }
    needed = {"postgres", "relay"} & reasons.keys()
    states = {part: ("down" if part in needed else "degraded") if part in reasons else "ok" for part in checks}
    status = "down" if needed else "degraded" if reasons else "ok"
    return JSONResponse({"status": status, **states, "reasons": reasons}, 503 if needed else 200)


async def _reason(check: Callable[[], Awaitable[None]]) -> str | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            await check()
    except TimeoutError:
        return f"no answer within {_PATIENCE:g} seconds"
    except Exception as error:  # noqa: BLE001 - any error is reported as the reason
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def _scalar(question: str, **facts: int) -> Any:
    try:
        with transaction() as db:
            return db.scalar(text(question), facts)
    except SQLAlchemyError:
        # The driver's message holds the host and the user.
        raise NotWorking("the database cannot be reached") from None


def _postgres() -> None:
    _scalar("SELECT 1")


def _dispatcher() -> None:
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = :a AND objid = :b AND granted"
    if not _scalar(held, a=LOCKS, b=DISPATCHER_LOCK):
        raise NotWorking("no dispatcher is running; start one with: greenroom dispatcher")


async def _relay(request: Request) -> None:
    if not request.app.state.backend.working.is_set():
        raise NotWorking("the log of pushes cannot be read")


async def _prefect(prefect: Prefect) -> None:
    await prefect.request("GET", "/health")


async def _worker(prefect: Prefect) -> None:
    pools = await prefect.request("POST", "/work_pools/filter", {})
    if not any(pool["status"] == "READY" for pool in pools):
        raise NotWorking("no worker is online; start one with: greenroom worker")


async def _mail() -> None:
    url = urlsplit(settings().smtp_url or f"smtp://127.0.0.1:{settings().capture_port}")
    reader, writer = await asyncio.open_connection(url.hostname, url.port or SMTP_PORTS[url.scheme])
    try:
        if url.scheme == "smtps":
            return  # it greets within TLS, which is the dispatcher's to check
        greeting = await reader.readline()
        if not greeting.startswith(b"220"):
            raise NotWorking("the mail server does not greet")
    finally:
        writer.close()
