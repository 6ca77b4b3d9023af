"""The dependencies of routes: a transaction, the viewer, the page of a list, and idempotent creation."""

import base64
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from anyio import CapacityLimiter
from fastapi import Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from core import idempotency, outbox, tokens
from core.clock import utcnow
from core.db import transaction
from core.errors import Invalid, NotSignedIn, Unavailable
from core.viewers import Viewer as Viewing

# Fewer than the pool has connections. A request keeps its connection between its steps, and each step needs a
# thread: with every connection held so, and every thread waiting for a connection, no request could proceed.
_slots = CapacityLimiter(8)
MOST_WAITING = 500
"""Requests that may wait for the database; the next one gets 503 with Retry-After."""


async def _slot() -> AsyncIterator[None]:
    if _slots.statistics().tasks_waiting >= MOST_WAITING:
        raise Unavailable("Too many requests at once; nothing was done. Try again.", retry_after=1)
    async with _slots:
        yield


def _db(slot: Annotated[None, Depends(_slot, scope="function")]) -> Iterator[Session]:
    with transaction() as db:
        yield db


# scope="function": committed before the response is sent, so that a 2xx means committed.
Db = Annotated[Session, Depends(_db, scope="function")]


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header (RFC 6750, section 2.1). Raises NotSignedIn."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NotSignedIn("Sign in with a token: Authorization: Bearer …")
    return token.strip()


def _viewer(db: Db, authorization: Annotated[str | None, Header(include_in_schema=False)] = None) -> Viewing:
    return tokens.sign_in(db, bearer(authorization))[0]


Viewer = Annotated[Viewing, Depends(_viewer)]


def _viewer_without_db(authorization: Annotated[str | None, Header(include_in_schema=False)] = None) -> Viewing:
    with transaction() as db:
        return tokens.sign_in(db, bearer(authorization))[0]


ViewerWithoutDb = Annotated[Viewing, Depends(_viewer_without_db)]
"""The viewer, for a route that then waits for another server: no database connection is held meanwhile."""


class Out(BaseModel):
    """An answer's body, read from a row's attributes."""

    model_config = ConfigDict(from_attributes=True)


Item = TypeVar("Item", bound=BaseModel)


class Page(BaseModel, Generic[Item]):
    """One page of a list; ``next`` is the cursor of the following one, ``last_id`` the push id to subscribe from."""

    items: list[Item]
    next: str | None
    last_id: int


@dataclass(frozen=True, slots=True)
class Paging:
    """The requested page: at most ``limit`` items after the one the cursor names."""

    limit: int
    cursor: str | None

    def after_id(self) -> int:
        """The numeric id that the cursor names, 0 for the first page. Raises Invalid."""
        key = self._key()
        if not (key.isascii() and key.isdigit() and len(key) < 19):
            raise _bad_cursor()
        return int(key)

    def after_uuid(self) -> UUID | None:
        """The UUID that the cursor names, None for the first page. Raises Invalid."""
        if self.cursor is None:
            return None
        try:
            return UUID(self._key())
        except ValueError:
            raise _bad_cursor() from None

    def _key(self) -> str:
        if self.cursor is None:
            return "0"
        try:
            return base64.urlsafe_b64decode(self.cursor.encode() + b"=" * (-len(self.cursor) % 4)).decode()
        except ValueError:
            raise _bad_cursor() from None

    def page(self, kind: type[Item], rows: Sequence[Any], last_id: int) -> Page[Item]:
        """The page of the rows, of which there may be one more than ``limit``: then there is a next page."""
        shown = rows[: self.limit]
        more = len(rows) > self.limit
        next_ = base64.urlsafe_b64encode(str(shown[-1].id).encode()).decode().rstrip("=") if more else None
        return Page(items=[kind.model_validate(row) for row in shown], next=next_, last_id=last_id)


def _bad_cursor() -> Invalid:
    return Invalid("cursor", "is not one that a list of ours gave as next")


def _paging(limit: Annotated[int, Query(ge=1, le=200)] = 50, cursor: str | None = None) -> Paging:
    return Paging(limit, cursor)


Pages = Annotated[Paging, Depends(_paging)]


def _last_id(db: Db, response: Response) -> int:
    newest = outbox.newest_id(db)
    response.headers["Last-Id"] = str(newest)
    return newest


LastId = Annotated[int, Depends(_last_id)]
"""The newest push id before the route reads anything; also sent as the header Last-Id."""


def _last_id_now(response: Response) -> int:
    with transaction() as db:
        return _last_id(db, response)


LastIdNow = Annotated[int, Depends(_last_id_now)]
"""The same for routes with a ``ViewerWithoutDb``."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class IdempotentCreate:
    """Runs a POST that creates at most once for an ``Idempotency-Key``, in the request's transaction."""

    def __init__(self, db: Session, viewer: Viewing, route: str, key: str | None, body: bytes) -> None:
        self.db, self.viewer, self._route, self._key, self._body = db, viewer, route, key, body

    def __call__(self, make: Callable[[], BaseModel], *, status: int = 201, under: str = "") -> JSONResponse:
        """Create and answer, or repeat the answer stored for this key; with ``under``, a Location header of
        ``under``/id. Raises Invalid."""
        answer = self._once(make, status)
        headers = {"Location": f"{under}/{answer.body['id']}"} if under else None
        return JSONResponse(answer.body, answer.status, headers)

    def _once(self, make: Callable[[], BaseModel], status: int) -> idempotency.StoredResponse:
        if self._key is None:
            return idempotency.StoredResponse(status, make().model_dump(mode="json"))
        if not _KEY.fullmatch(self._key):
            raise Invalid("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
        given = {"user_id": self.viewer.id, "route": self._route, "key": self._key}
        body_hash = idempotency.hash_of(self._body)
        kept = idempotency.claim(self.db, **given, body_hash=body_hash, now=utcnow())  # type: ignore[arg-type]
        if kept is None:
            kept = idempotency.StoredResponse(status, make().model_dump(mode="json"))
            idempotency.store_response(self.db, kept, **given)  # type: ignore[arg-type]
        return kept


async def _body(request: Request) -> bytes:
    return await request.body()


def _creating(
    db: Db,
    viewer: Viewer,
    request: Request,
    body: Annotated[bytes, Depends(_body)],
    idempotency_key: Annotated[str | None, Header()] = None,
) -> IdempotentCreate:
    return IdempotentCreate(db, viewer, request.url.path, idempotency_key, body)


Create = Annotated[IdempotentCreate, Depends(_creating)]
