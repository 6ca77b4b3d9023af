"""The edge under another ASGI server, over a restart, and when the hub fails."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from starlette.types import Message

from api.realtime.endpoint import StompEndpoint
from api.realtime.hub import Hub
from api.realtime.relay import Position
from core import sessions
from core.clock import utcnow
from core.db import transaction
from core.events import ACCOUNTS
from core.outbox import PushMessage
from core.settings import Settings
from tests.support import factories as make
from tests.support import processes
from tests.support.processes import JsClient, eventually, free_port, token
from tests.support.stomp_client import Client, flow_state, frame, publish


@pytest.fixture
def people(database: str) -> make.People:
    """People in this test's database."""
    with transaction() as db:
        return make.people(db)


@pytest.fixture
def session(people: make.People) -> UUID:
    """A session of theirs."""
    with transaction() as db:
        return make.session(db, now=datetime.now(UTC), people=people)


@asynccontextmanager
async def over_asgi(hub: Hub, settings: Settings, **scope: Any) -> AsyncIterator[tuple[Any, Any]]:
    """The endpoint under a plain ASGI server: the events to it, and those from it."""
    to: asyncio.Queue[Message] = asyncio.Queue()
    of: asyncio.Queue[Message] = asyncio.Queue(maxsize=8)
    to.put_nowait({"type": "websocket.connect"})
    endpoint = StompEndpoint(hub, settings)
    serving = asyncio.create_task(endpoint({"type": "websocket", "headers": [], **scope}, to.get, of.put))
    yield to, of
    async with asyncio.timeout(processes.PATIENCE):
        await serving


async def test_another_asgi_server_works(database: str, people: make.People) -> None:
    """Without our wire: frames go by ASGI's send; a peer that takes none is given up, and the application ends."""
    hub = Hub()
    hub.move_to(Position(0))
    config = Settings(ws_send_seconds=0.2)
    hello = frame("CONNECT", {"accept-version": "1.2", "passcode": token(people.ids["recruiter"])})
    wanted = frame("SUBSCRIBE", id="s", destination="/topic/flows", receipt="r")
    rows = [PushMessage(n, "/topic/flows", None, "flow.state", f'{{"n":{n}}}', utcnow()) for n in range(1, 31)]
    async with over_asgi(hub, config, subprotocols=["v12.stomp"]) as (to, of):
        assert await of.get() == {"type": "websocket.accept", "subprotocol": "v12.stomp"}
        await to.put({"type": "websocket.receive", "text": (hello + wanted).decode()})
        assert [(await of.get())["text"].split("\n")[0] for _ in range(2)] == ["CONNECTED", "RECEIPT"]
        hub.route(rows[:20])
        for n in range(1, 21):
            assert f"\nmessage-id:{n}\n" in (await of.get())["text"]
        await to.put({"type": "websocket.receive", "bytes": frame("DISCONNECT", receipt="bye")})
        assert "RECEIPT" in (await of.get())["text"]
        assert (await of.get())["code"] == 1000
        await to.put({"type": "websocket.disconnect", "code": 1000})
    async with over_asgi(hub, config) as (to, of):
        await of.get()
        await to.put({"type": "websocket.receive", "text": (hello + wanted).decode()})
        assert [(await of.get())["text"].split("\n")[0] for _ in range(2)] == ["CONNECTED", "RECEIPT"]
        hub.route(rows)  # more than it takes, and nobody takes any
    assert hub.counts() == (0, 0)


@pytest.fixture
def js_client(js_clients: Path) -> Iterator[JsClient]:
    """One @stomp/stompjs client."""
    with JsClient(js_clients) as opened:
        yield opened


async def test_a_restart_and_a_stopped_hub(
    database: str, people: make.People, session: UUID, js_client: JsClient, tmp_path: Path
) -> None:
    """SIGTERM closes every socket with 1012, @stomp/stompjs comes again and sees what moves then.

    A hub that fails ends its process in the same way, instead of routing nothing in silence.
    """
    port, bearer = str(free_port()), token(people.ids["recruiter"])
    wanted = [{"id": "s", "destination": f"/topic/session/{session}"}]
    with processes.api_process(database, tmp_path, PORT=port) as api:
        js_client.connect(api.ws, bearer, reconnectDelay=100, resubscribe=wanted)
        js_client.wait("subscribed", id="s")
        clients = [await Client.open(api.ws) for _ in range(3)]
        stalled = await Client.open(api.ws, receive_buffer=4096)
        for client in (*clients[:2], stalled):
            await client.connect(bearer)
            await client.subscribe("/topic/flows")
        publish(*[flow_state(50_000) for _ in range(100)])
        while int((await clients[0].next("MESSAGE")).headers["message-id"]) < 100:
            pass
        clients[1].reset()
        api.process.send_signal(signal.SIGTERM)
        for client in (clients[0], clients[2]):
            assert await client.closed() == 1012
        assert js_client.wait("closed")["code"] == 1012
        eventually(lambda: api.process.poll() is not None, "a client that reads nothing holds up no restart", seconds=4)
    with processes.api_process(database, tmp_path, PORT=port) as api:
        js_client.wait("subscribed", id="s")
        now = utcnow()
        with transaction() as db:
            move = sessions.NewStatus(status="cancelled")
            sessions.move(db, session, move, by=people.viewer("recruiter"), now=now)
        assert js_client.next("s")["data"]["status"] == "cancelled"
        client = await Client.open(api.ws)
        await client.connect(bearer)
        poison = text("INSERT INTO push_events (destination, type, payload) VALUES (:to, 'x', '[]')")
        with transaction() as db:
            db.execute(poison, {"to": ACCOUNTS})
        assert await client.closed() == 1012
        eventually(lambda: api.process.poll() is not None, "the process ended")
        assert "the hub stopped routing" in api.log.read_text()
        assert js_client.wait("closed")["code"] == 1012
