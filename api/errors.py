"""The tree of errors, mapped once to HTTP: RFC 9457 problem details."""

import logging
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from api.requests import loggable_path
from core.errors import Conflict, Forbidden, GreenroomError, Invalid, NotFound, NotSignedIn, QueueFull, Unavailable

log = logging.getLogger(__name__)

STATUS: dict[type[GreenroomError], int] = {
    NotSignedIn: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Invalid: 422,
    QueueFull: 429,
    Unavailable: 503,
}


def status_of(error: GreenroomError) -> int:
    """The HTTP status of an error of ours."""
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)


def problem(status: int, detail: str, **more: Any) -> dict[str, Any]:
    """A problem document (RFC 9457, section 3.1); ``more`` are extension members."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}


def problem_of(error: GreenroomError) -> dict[str, Any]:
    """The problem document of an error of ours: over HTTP, and to ``/user/queue/errors``."""
    more: dict[str, Any] = {}
    if isinstance(error, Conflict):
        more = {name: _plain(fact) for name, fact in error.facts.items()}
    if isinstance(error, Invalid):
        more = {"errors": [{"field": error.field, "reason": error.reason}]}
    return problem(status_of(error), str(error), **more)


def _plain(fact: object) -> object:
    return str(fact) if isinstance(fact, UUID | datetime) else fact


def _answer(body: dict[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body, body["status"], headers, media_type="application/problem+json")


async def _known_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GreenroomError)  # noqa: S101 - registered for it
    headers = {}
    if isinstance(error, NotSignedIn):
        headers = {"WWW-Authenticate": "Bearer"}
    if isinstance(error, Unavailable):
        headers = {"Retry-After": str(error.retry_after)}
    return _answer(problem_of(error), headers)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    if any(e["type"] == "json_invalid" for e in error.errors()):
        return _not_json()
    errors = [
        {
            "field": ".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]),
            "reason": str(e["msg"]).removeprefix("Value error, "),
        }
        for e in error.errors()
    ]
    detail = "; ".join(f"{e['field']}: {e['reason']}" for e in errors)
    return _answer(problem(422, detail, errors=errors))


def _not_json() -> JSONResponse:
    return _answer(problem_of(Invalid("body", "is not JSON")))


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # FastAPI's own, for a body that is not UTF-8, or nested or numbered beyond what the parser takes.
        return _not_json()
    return _answer(problem(error.status_code, str(error.detail)), error.headers)


async def _database_unavailable(_: Request, error: Exception) -> JSONResponse:
    log.warning("database unavailable: %s", type(error).__name__)
    body = problem(503, "The database is away or busy for a moment. Try again.")
    return _answer(body, {"Retry-After": "2"})


async def _constraint(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, IntegrityError)  # noqa: S101 - registered for it
    name = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    return _answer(problem(409, f"This breaks the constraint {name}.", constraint=name))


async def _bug(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, loggable_path(request.url.path), exc_info=error)
    return _answer(problem(500, "Something is wrong on our side; nothing was changed."))


def install(app: FastAPI) -> None:
    """Let the app answer every error as a problem document."""
    app.add_exception_handler(GreenroomError, _known_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for kind in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(kind, _database_unavailable)
    app.add_exception_handler(IntegrityError, _constraint)
    app.add_exception_handler(Exception, _bug)
