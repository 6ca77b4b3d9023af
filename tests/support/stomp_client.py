"""A raw STOMP client that sends what it likes and stops reading when it likes, and the edge in this very process."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

import uvicorn
from broadcaster import Broadcast
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from api.realtime.endpoint import StompEndpoint
from api.realtime.hub import Hub
from api.realtime.relay import OutboxBackend
from api.realtime.stomp import SERVER, Frame, Parser, dump
from api.server import uvicorn_options
from core import outbox
from core.db import transaction
from core.events import FlowState, PushEvent
from core.settings import load
from tests.support.processes import PATIENCE, free_port

SUB_PROTOCOLS = ("v12.stomp", "v11.stomp", "v10.stomp")


class Client:
    """One WebSocket that speaks STOMP by our own codec, and holds what came against the contract's form."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.parser = Parser(0, commands=SERVER)
        self.beats: list[float] = []
        """When heart-beats came."""

    @classmethod
    async def open(
        cls, url: str, *, sub_protocols: Sequence[str] | None = SUB_PROTOCOLS, receive_buffer: int = 0, **more: Any
    ) -> Self:
        """Open a socket; with a receive buffer of so many bytes a client that stops reading is soon felt."""
        if receive_buffer:
            host, port = url.removeprefix("ws://").split("/")[0].split(":")
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await asyncio.to_thread(sock.connect, (host, int(port)))
            more |= {"sock": sock, "max_queue": 1}
        ws = await connect(
            url, subprotocols=sub_protocols, compression=None, max_size=None, ping_interval=None, proxy=None, **more
        )
        return cls(ws)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.ws.state is not State.CLOSED:  # a transport that has closed by itself has no loop to abort in
            self.ws.transport.abort()

    async def send_text(self, data: bytes | str) -> None:
        """Send one WebSocket message as it is."""
        await self.ws.send(data)

    async def do(self, command: str, headers: Mapping[str, str] | None = None, body: bytes = b"", **more: str) -> None:
        """Send one frame."""
        await self.send_text(frame(command, headers, body, **more).decode())

    async def connect(self, token: str, **headers: str) -> Frame:
        """Sign in; gives CONNECTED."""
        await self.do("CONNECT", {"accept-version": "1.2", "Authorization": f"Bearer {token}", **headers})
        connected = await self.next("CONNECTED")
        self.parser.version = connected.headers["version"]
        return connected

    async def subscribe(self, destination: str, id_: str = "s", **headers: str) -> int:
        """Subscribe and wait for the receipt; gives its last-id."""
        await self.do("SUBSCRIBE", headers, destination=destination, id=id_, receipt=f"subscribed {id_}")
        receipt = await self.next("RECEIPT")
        assert receipt.headers["receipt-id"] == f"subscribed {id_}"
        return int(receipt.headers["last-id"])

    async def next(self, command: str | None = None) -> Frame:
        """The next frame, which must be of this command."""
        while True:
            async with asyncio.timeout(PATIENCE):
                message = await self.ws.recv()
            frames = list(self.parser.feed(message))
            assert isinstance(message, str), "frames come as text messages"
            assert self.parser.held == 0, "no frame is cut over messages"
            if message == "\n":
                self.beats.append(asyncio.get_running_loop().time())
                continue
            (got,) = frames  # one frame a message
            assert command in (None, got.command), got
            return got

    async def receipts(self, count: int) -> list[str]:
        """The ids of the next frames, which must be receipts."""
        return [(await self.next("RECEIPT")).headers["receipt-id"] for _ in range(count)]

    async def alive(self) -> None:
        """The connection still answers."""
        await self.do("UNSUBSCRIBE", id="nobody", receipt="alive")
        assert await self.receipts(1) == ["alive"]

    async def refused(self) -> tuple[Frame, int | None]:
        """The ERROR that must come next, and the close code after it."""
        error = await self.next("ERROR")
        assert error.headers["message"]
        assert error.body
        return error, await self.closed()

    async def closed(self) -> int | None:
        """The close code that must come now; None when the socket ended without a close frame."""
        try:
            rest = await self.next()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None
        raise AssertionError(f"not closed, but {rest}")

    def reset(self) -> None:
        """Die at once: a TCP reset, with no word of STOMP or WebSocket."""
        sock = self.ws.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.ws.state is not State.CLOSED:  # a transport that has closed by itself has no loop to abort in
            self.ws.transport.abort()


def frame(command: str, headers: Mapping[str, str] | None = None, body: bytes = b"", **more: str) -> bytes:
    """The bytes of a frame."""
    return dump(Frame(command, {**(headers or {}), **more}, body))


def flow_state(size: int = 0) -> PushEvent:
    """A push to ``/topic/flows`` whose body is a little more than ``size``."""
    now = datetime.now(UTC)
    return FlowState(
        flow="test",
        deployment=None,
        run_id=uuid4(),
        run_name="r",
        state="COMPLETED",
        state_name="Completed",
        message=None,
        occurred_at=now,
        expected_start_time=None,
        start_time=None,
        end_time=None,
        result={"filling": "x" * size},
    )


def publish(*pushed: PushEvent) -> int:
    """Push in one transaction; gives the id of the last."""
    with transaction() as db:
        outbox.publish_many(db, pushed)
    with transaction() as db:
        return outbox.newest_id(db)


@contextmanager
def locked(table: str) -> Iterator[None]:
    """Whoever reads the table waits until the block ends."""
    with transaction() as db:
        db.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


async def until(condition: Any, what: str, *, seconds: float = PATIENCE) -> Any:
    """The condition's value once it is true, while this loop goes on."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not (value := condition()):
        assert loop.time() < deadline, f"never came true: {what}"
        await asyncio.sleep(0.01)
    return value


class Edge:
    """The STOMP edge in this process: its hub can be looked into."""

    def __init__(self, hub: Hub, backend: OutboxBackend, url: str, server: uvicorn.Server) -> None:
        self.hub, self.backend, self.url = hub, backend, url
        self.sockets = server.server_state.connections

    async def client(self, token: str | None = None, **more: Any) -> Client:
        """A new client, signed in when there is a token."""
        client = await Client.open(self.url, **more)
        if token is not None:
            await client.connect(token)
        return client

    async def empty(self) -> None:
        """Wait until nobody is left in the hub, nor any socket."""
        await until(lambda: self.hub.counts() == (0, 0), "the hub is empty")
        await until(lambda: not self.sockets, "every socket is closed")


@asynccontextmanager
async def edge_here(database_url: str, **settings: Any) -> AsyncIterator[Edge]:
    """Serve ``/ws`` from this loop, by uvicorn as in production, with these settings."""
    config = load().model_copy(update={"port": free_port(), **settings})
    hub, backend = Hub(), OutboxBackend(database_url)
    broadcast = Broadcast(backend=backend)
    routing = asyncio.create_task(hub.run(broadcast))
    await asyncio.sleep(0)
    await broadcast.connect()
    app = Starlette(routes=[WebSocketRoute("/ws", StompEndpoint(hub, config))])
    server = uvicorn.Server(uvicorn.Config(app, **uvicorn_options(config) | {"lifespan": "off"}))
    serving = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started, "the edge serves")
        yield Edge(hub, backend, f"ws://127.0.0.1:{config.port}/ws", server)
        assert not routing.done(), routing.exception()
    finally:
        server.should_exit = True
        await serving
        routing.cancel()
        await broadcast.disconnect()
