"""The edge's limits and heart-beats, in a real API process with tight settings."""

import asyncio
import itertools
import json
import re
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import psutil
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from api.realtime import commands
from api.realtime.connection import StompConnection
from api.realtime.hub import Hub
from core.clock import utcnow
from core.db import transaction
from core.events import SessionUpdated
from core.settings import Settings
from tests.support import factories as make
from tests.support import processes
from tests.support.processes import Api, Database, token
from tests.support.stomp_client import Client, flow_state, frame, publish, until

LARGE = 100_000


@pytest.fixture(scope="module")
def tight(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API whose limits are soon reached."""
    settings = {
        "WS_HEART_BEAT_MS": "200",
        "WS_FRAME_BYTES": "4096",
        "WS_CONNECT_SECONDS": "1",
        "WS_SUBSCRIPTIONS": "3",
        "WS_QUEUE_BYTES": str(3 * LARGE),
        "WS_SEND_SECONDS": "1",
    }
    with processes.api_process(shared_database.url, tmp_path_factory.mktemp("tight"), **settings) as running:
        yield running


@pytest.fixture(scope="module")
def recruiter(shared_database: Database) -> str:
    """A recruiter's token."""
    with transaction() as db:
        return token(make.people(db).ids["recruiter"])


async def test_heart_beats_both_ways_and_none(tight: Api, recruiter: str) -> None:
    """Who wants beats gets them while idle, who wants none gets none, who promises some and is silent is closed."""
    wanting, quiet, silent, beating = [await Client.open(tight.ws) for _ in range(4)]
    began = time.monotonic()
    for client, header in ((wanting, "0,150"), (quiet, "0,0"), (silent, "100,0"), (beating, "100,0")):
        connected = await client.connect(recruiter, **{"heart-beat": header})
        assert connected.headers["heart-beat"] == "200,200"

    async def beat() -> None:
        while True:
            await beating.send_text("\n")
            await asyncio.sleep(0.1)

    beats, end = asyncio.create_task(beat()), asyncio.create_task(silent.refused())
    waiting = asyncio.create_task(wanting.next())
    await until(lambda: len(wanting.beats) >= 5, "five beats come")
    took = wanting.beats[-1] - wanting.beats[0]
    assert took / 4 >= 0.12, "not many more than were agreed"
    error, code = await end
    assert (error.headers["message"], code) == ("no heart-beat for 0.6 seconds", 1002)
    assert time.monotonic() - began >= 0.6
    await until(lambda: time.monotonic() - began > 1.5, "a silent client would be gone by now")
    for client in (quiet, beating):
        await client.alive()
        assert client.beats == []
    for task in (beats, waiting):
        task.cancel()
    for client in (wanting, quiet, beating):
        client.reset()


class RecordingSocket:
    """A socket that takes everything and notes when."""

    def __init__(self) -> None:
        self.written: list[tuple[float, bytes]] = []

    def write(self, frame: bytes) -> bool:
        self.written.append((time.monotonic(), frame))
        return True

    async def send(self, frame: bytes) -> None:
        raise AssertionError("nothing has to wait")

    async def close(self, code: int, reason: str, *, patience: float) -> None:
        """Nothing to do."""

    def abort(self) -> None:
        """Nothing to do."""


async def test_no_heart_beats_are_sent_between_frequent_messages() -> None:
    """A heart-beat goes out only after nine tenths of an interval without any frame, and never later."""
    socket = RecordingSocket()
    connection = StompConnection(socket, Hub(), Settings(ws_connect_seconds=0), commands)
    connection.use_version("1.2", 100, 0)
    for _ in range(50):
        connection.deliver(b"busy")
        await asyncio.sleep(0.01)
    await until(lambda: [one for _, one in socket.written[-3:]] == [b"\n"] * 3, "three beats come when idle")
    connection.socket_closed()
    for (before, _), (at, what) in itertools.pairwise(socket.written):
        assert what == b"busy" or at - before >= 0.089


async def test_clients_that_never_connect_are_closed(tight: Api, recruiter: str) -> None:
    """A socket that only sends EOLs, and one that sends half a CONNECT, get an ERROR that names the limit."""
    for data in ("\n", "CONNECT\naccept-version:1.2\n"):
        async with await Client.open(tight.ws) as client:
            await client.send_text(data)
            error, code = await client.refused()
            assert error.headers["message"] == "no CONNECT within WS_CONNECT_SECONDS (1)"
            assert code == 4429


async def test_subscriptions(tight: Api, recruiter: str) -> None:
    async with await Client.open(tight.ws) as client:
        await client.connect(recruiter)
        for id_ in "abc":
            await client.subscribe("/topic/flows", id_)
        await client.do("UNSUBSCRIBE", id="a")
        await client.subscribe("/topic/flows", "d")
        await client.do("SUBSCRIBE", id="e", destination="/topic/flows", receipt="one too many")
        error, code = await client.refused()
        assert error.headers["message"] == "over the limit WS_SUBSCRIPTIONS (3)"
        assert (error.headers["receipt-id"], code) == ("one too many", 4429)


def websocket_frame(data: bytes) -> bytes:
    return WebSocketFrame(Opcode.TEXT, data).serialize(mask=True)


async def _frame_too_large(ws: ClientConnection) -> None:
    await ws.send(frame("SEND", {}, b"x" * 5000, destination="/app/x").decode())


async def _content_length_too_large(ws: ClientConnection) -> None:
    await ws.send("SEND\ndestination:/app/x\ncontent-length:5000\n\nx\0")


async def _unterminated_frame(ws: ClientConnection) -> None:
    while True:
        await ws.send("x" * 1000)
        await asyncio.sleep(0)  # or this client never reads


async def _message_too_large(ws: ClientConnection) -> None:
    await ws.send("x" * 5_000_000)


async def _unterminated_message(ws: ClientConnection) -> None:
    async def fragments() -> AsyncIterator[str]:
        while True:
            yield "x" * 1000
            await asyncio.sleep(0)

    await ws.send(fragments())


async def _message_announced(ws: ClientConnection) -> None:
    """Its head alone, in the same segment as a whole message that comes before it."""
    before = websocket_frame(frame("ACK", id="1", receipt="before"))
    ws.transport.write(before + b"\x81\xff" + (2**40).to_bytes(8, "big") + b"mask")


@pytest.mark.parametrize(
    "attack",
    [
        _frame_too_large,
        _content_length_too_large,
        _unterminated_frame,
        _message_too_large,
        _unterminated_message,
        _message_announced,
    ],
)
async def test_frame_bytes(tight: Api, recruiter: str, attack: Any) -> None:
    async with await Client.open(tight.ws) as client:
        await client.connect(recruiter)
        attacking = asyncio.create_task(attack(client.ws))
        if attack is _message_announced:
            assert await client.receipts(1) == ["before"]
        error, code = await client.refused()
        assert error.headers["message"] == "over the limit WS_FRAME_BYTES (4096)"
        assert code == 4429
        attacking.cancel()
        await asyncio.gather(attacking, return_exceptions=True)


async def test_a_message_may_join_many_frames(tight: Api, recruiter: str) -> None:
    async with await Client.open(tight.ws) as client:
        await client.connect(recruiter)
        await client.send_text(frame("ACK", {"x": "y" * 3000}, id="1", receipt="r").decode() * 5)
        assert await client.receipts(5) == ["r"] * 5


async def _delays(client: Client, count: int) -> list[float]:
    """Seconds from each commit to its message's arrival at the client."""
    delays = []
    for _ in range(count):
        committed = time.monotonic()
        id_ = await asyncio.to_thread(publish, flow_state())
        while int((await client.next("MESSAGE")).headers["message-id"]) < id_:
            pass
        delays.append(time.monotonic() - committed)
    return delays


def _ports(api: Api) -> set[int]:
    """The clients' ports that the API holds sockets to."""
    found = psutil.Process(api.process.pid).net_connections("tcp")
    return {at.raddr.port for at in found if at.raddr and at.laddr.port == api.port}


async def test_slow_consumers_are_closed_without_delaying_others(tight: Api, recruiter: str) -> None:
    """Ten clients stop reading while megabytes are pushed to them; who reads gets everything, as fast as before."""
    server = psutil.Process(tight.process.pid)
    with transaction() as db:
        session = make.session(db, now=utcnow(), people=make.people(db))
    reading = await Client.open(tight.ws)
    await reading.connect(recruiter)
    await reading.subscribe("/topic/flows")
    before = statistics.quantiles(await _delays(reading, 20), n=10)[-1]
    stalled = [await Client.open(tight.ws, receive_buffer=4096) for _ in range(10)]
    for client in stalled:
        await client.connect(recruiter)
        await client.subscribe(f"/topic/session/{session}")
    memory, opened = server.memory_info().rss, _ports(tight)
    pushing = asyncio.create_task(asyncio.to_thread(_push_large, session, 90))
    during = statistics.quantiles(await _delays(reading, 40), n=10)[-1]
    await pushing
    assert during <= before + 0.1, f"{before:.3f} s before, {during:.3f} s while others stall"
    held = {client.ws.transport.get_extra_info("sockname")[1] for client in stalled}
    assert held <= opened
    await until(lambda: not held & _ports(tight), "every stalled client's socket is dropped", seconds=5)
    assert server.memory_info().rss - memory < 60e6, "nobody's 9 MB were kept for them"
    log = tight.log.read_text()
    assert len(re.findall(r"slow consumer closed.*WS_QUEUE_BYTES", log)) == 10, log[-3000:]
    for client in stalled:
        assert await _last_frame_of(client) in (None, 1006)
    await reading.alive()
    reading.reset()


async def test_a_slow_consumer_that_reads_again_gets_4500(tight: Api, recruiter: str) -> None:
    with transaction() as db:
        session = make.session(db, now=utcnow(), people=make.people(db))
    async with await Client.open(tight.ws, receive_buffer=65536) as client:
        await client.connect(recruiter)
        await client.subscribe(f"/topic/session/{session}")
        closed = tight.log.read_text().count("slow consumer closed")
        await asyncio.to_thread(_push_large, session, 90)
        await until(lambda: tight.log.read_text().count("slow consumer closed") > closed, "the server gave up")
        assert await _last_frame_of(client) == 4500


def _push_large(session: UUID, count: int) -> None:
    for _ in range(count // 10):
        publish(*[_large(session) for _ in range(10)])


def _large(session: UUID) -> SessionUpdated:
    return SessionUpdated(session_id=session, changed=("x" * LARGE,))


async def _last_frame_of(client: Client) -> int | None:
    """Read all that still comes, message by message with no gap; gives the close code."""
    ids = []
    try:
        while True:
            ids.append(json.loads((await client.next("MESSAGE")).body)["id"])
    except ConnectionClosed as closed:
        assert ids == sorted(set(ids))
        return closed.rcvd.code if closed.rcvd else None
