"""What each client command does to its connection (STOMP 1.2, "Client Frames")."""

import asyncio
import json
import re
from collections.abc import Callable
from importlib.metadata import version as version_of
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.errors import problem, problem_of
from api.realtime.connection import StompConnection
from api.realtime.destinations import authorise
from api.realtime.hub import Subscription
from api.realtime.refusals import FORBIDDEN, LIMIT, PROTOCOL, UNAUTHENTICATED, Refused
from api.realtime.stomp import Frame, ProtocolError, heart_beat, negotiate
from core import sessions, tokens
from core.clock import utcnow
from core.db import transaction
from core.errors import Forbidden, GreenroomError, Invalid, NotFound, NotSignedIn, Unavailable
from core.fields import Input, Moment, Prose
from core.models import SessionStatus
from core.viewers import Viewer

SERVER: Final = f"greenroom/{version_of('greenroom')}"
_UPDATE: Final = re.compile(r"/app/session/([0-9a-fA-F-]{36})/update")
_START_SECONDS: Final = 5.0
TRANSACTION_FRAMES: Final = 100
Result = TypeVar("Result")


class Update(Input):
    """The body of a SEND to ``/app/session/{id}/update``."""

    status: SessionStatus | None = None
    reason: Prose | None = None
    activity: bool | None = None
    no_show_party: Literal["candidate", "interviewer"] | None = None
    scheduled_start: Moment | None = None


async def connect(connection: StompConnection, frame: Frame) -> None:
    """Sign the client in: the first frame must be CONNECT or STOMP, with a token."""
    if frame.command not in ("CONNECT", "STOMP"):
        raise ProtocolError(f"{frame.command} before CONNECT")
    version = negotiate(frame.headers.get("accept-version"))
    if version is None:
        raise Refused(PROTOCOL, "supported versions are 1.0, 1.1 and 1.2", {"version": "1.0,1.1,1.2"})
    every = connection.settings.ws_heart_beat_ms
    sends, expects = heart_beat(frame.headers.get("heart-beat"), (every, every))
    token = _token(frame)
    connection.cancel("connect")
    try:
        async with asyncio.timeout(_START_SECONDS):
            await connection.hub.started.wait()
    except TimeoutError:
        raise Unavailable("The log of pushes cannot be read yet; try again.") from None
    claims = tokens.verify(token)
    connection.join(claims.sub)
    viewer, until = await _in_transaction(lambda db: tokens.viewer_of(db, claims))
    connection.signed_in(viewer, until)
    connection.answer(
        "CONNECTED",
        {
            "version": version,
            "heart-beat": f"{every},{every}",
            "user-name": str(viewer.id),
            "server": SERVER,
        },
    )
    connection.use_version(version, sends, expects)


async def act(connection: StompConnection, frame: Frame) -> None:
    """Execute a signed-in client's frame."""
    if frame.command in ("SEND", "ACK", "NACK") and (name := frame.headers.get("transaction")) is not None:
        _keep(connection, name, frame)
        return
    match frame.command:
        case "SUBSCRIBE":
            await _subscribe(connection, frame)
        case "UNSUBSCRIBE":
            _unsubscribe(connection, frame)
        case "SEND":
            await _send(connection, frame)
        case "BEGIN" | "COMMIT" | "ABORT":
            await _transact(connection, frame)
        case "CONNECT" | "STOMP":
            raise ProtocolError("already connected")
        case _:
            """ACK, NACK and DISCONNECT need nothing but their receipt."""


def _keep(connection: StompConnection, name: str, frame: Frame) -> None:
    """Keep a frame until its transaction's COMMIT; all kept together have one frame's limit, and one in number."""
    if name not in connection.transactions:
        raise ProtocolError("no such transaction was begun")
    kept = [frame, *(frame for frames in connection.transactions.values() for frame in frames)]
    if len(kept) > TRANSACTION_FRAMES:
        raise Refused(LIMIT, f"more than {TRANSACTION_FRAMES} frames in open transactions")
    limit = connection.settings.ws_frame_bytes
    if limit and sum(len(one.body) + sum(map(len, one.headers.values())) for one in kept) > limit:
        raise Refused(LIMIT, f"over the limit WS_FRAME_BYTES ({limit}) in open transactions")
    connection.transactions[name].append(frame)


def _token(frame: Frame) -> str:
    given = frame.headers.get("Authorization") or frame.headers.get("authorization")
    if given:
        scheme, _, token = given.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return token.strip()
    elif passcode := frame.headers.get("passcode"):
        return passcode
    raise NotSignedIn("CONNECT needs a token, in the header Authorization: Bearer … or passcode")


async def _in_transaction(work: Callable[[Session], Result]) -> Result:
    """Run core's work in a transaction, in a thread, so that it does not block the other connections."""

    def run() -> Result:
        with transaction() as db:
            return work(db)

    try:
        return await run_in_threadpool(run)
    except (OperationalError, InterfaceError, PoolTimeout):
        raise Unavailable("The database is away for a moment; try again.") from None


async def _subscribe(connection: StompConnection, frame: Frame) -> None:
    viewer, limit = _viewer(connection), connection.settings.ws_subscriptions
    id_, destination = frame.headers.get("id"), frame.headers["destination"]
    # STOMP 1.0 knows a subscription by its destination when it has no id.
    name = id_ if id_ is not None else destination
    if name in connection.subscriptions:
        raise ProtocolError("a subscription with this id exists")
    if limit and len(connection.subscriptions) >= limit:
        raise Refused(LIMIT, f"over the limit WS_SUBSCRIPTIONS ({limit})")
    ack = frame.headers.get("ack", "auto")
    if ack not in ("auto", "client", "client-individual"):
        raise ProtocolError("ack must be auto, client or client-individual")
    try:
        key = await _in_transaction(lambda db: authorise(db, destination, by=viewer))
    except (Forbidden, NotFound) as error:
        raise Refused(FORBIDDEN, str(error)) from None
    if connection.closed:
        return
    subscription = Subscription(
        connection,
        id_,
        destination,
        key,
        viewer.role,
        connection.version,
        explicit_ack=ack != "auto" and connection.version == "1.2",
    )
    connection.subscriptions[name] = subscription
    connection.hub.add(subscription)
    # Nothing awaits between registering and this answer: every message after last-id comes live.
    if (receipt := frame.headers.get("receipt")) is not None:
        connection.answer("RECEIPT", {"receipt-id": receipt, "last-id": str(connection.hub.cursor or 0)})


def _unsubscribe(connection: StompConnection, frame: Frame) -> None:
    name = frame.headers.get("id") or frame.headers.get("destination") or ""
    if (subscription := connection.subscriptions.pop(name, None)) is not None:
        connection.hub.remove(subscription)


async def _transact(connection: StompConnection, frame: Frame) -> None:
    name = frame.headers["transaction"]
    if frame.command == "BEGIN":
        if name in connection.transactions or len(connection.transactions) >= TRANSACTION_FRAMES:
            raise ProtocolError("this transaction was begun before, or too many are open")
        connection.transactions[name] = []
        return
    frames = connection.transactions.pop(name, None)
    if frames is None:
        raise ProtocolError("no such transaction was begun")
    if frame.command == "COMMIT":
        for kept in frames:
            if kept.command == "SEND":
                await _send(connection, kept)


async def _send(connection: StompConnection, frame: Frame) -> None:
    destination = frame.headers["destination"]
    if not destination.startswith("/app/"):
        raise Refused(FORBIDDEN, f"SEND to {destination} is refused: clients send to /app, the server to topics")
    try:
        if destination == "/app/token":
            await _renew(connection, frame)
        elif (match := _UPDATE.fullmatch(destination)) and (session_id := _uuid(match[1])):
            await _update(connection, session_id, frame)
        else:
            raise NotFound("destination", destination)
    except ValidationError as error:
        errors = [
            {
                "field": ".".join(str(part) for part in e["loc"]) or "body",
                "reason": str(e["msg"]).removeprefix("Value error, "),
            }
            for e in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        detail = "; ".join(f"{e['field']}: {e['reason']}" for e in errors)
        connection.problem(problem(422, detail, errors=errors), frame.headers.get("receipt"))
    except GreenroomError as error:
        connection.problem(problem_of(error), frame.headers.get("receipt"))


async def _update(connection: StompConnection, session_id: UUID, frame: Frame) -> None:
    viewer = _viewer(connection)
    given = Update.model_validate(_json(frame.body))
    now = utcnow()

    def work(db: Session) -> None:
        if given.status is None and not given.activity:
            raise Invalid("status", "give a status to move to, or activity: true")
        if given.status is not None:
            move = sessions.NewStatus.model_validate(given.model_dump(exclude={"activity"}, exclude_none=True))
            sessions.move(db, session_id, move, by=viewer, now=now)
        if given.activity:
            sessions.note_activity(db, session_id, by=viewer, now=now)

    await _in_transaction(work)


async def _renew(connection: StompConnection, frame: Frame) -> None:
    body = _json(frame.body)
    token = body.get("token") if isinstance(body, dict) else None
    if not isinstance(token, str):
        raise NotSignedIn('Send {"token": "…"} to /app/token.')
    claims = tokens.verify(token)
    viewer, until = await _in_transaction(lambda db: tokens.viewer_of(db, claims))
    if viewer.id != _viewer(connection).id:
        raise Forbidden("A connection keeps its user; open another one for another user.")
    connection.signed_in(viewer, until)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body or b"{}")
    except ValueError:
        raise Invalid("body", "is not JSON") from None


def _viewer(connection: StompConnection) -> Viewer:
    if connection.viewer is None:
        raise Refused(UNAUTHENTICATED, "CONNECT first")
    return connection.viewer


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
