"""How connections end: abruptly, in crowds, at a restart, with the hub; and that nothing of them is left."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from api.realtime import commands, connection, wire
from api.realtime.connection import StompConnection
from core.clock import utcnow
from core.db import transaction
from core.events import ACCOUNTS, AccountChanged
from core.outbox import PushMessage
from tests.support import factories as make
from tests.support.processes import token, use_database
from tests.support.stomp_client import Edge, edge_here, flow_state, locked, publish, until

GONE = "postgresql://nobody@127.0.0.1:1/nowhere"


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


@pytest.fixture
async def edge(database: str) -> AsyncIterator[Edge]:
    """The edge in this process; when the test ends nobody may be left, nor any object or task of theirs."""
    async with edge_here(database) as here:
        before = len(asyncio.all_tasks())
        yield here
        await here.empty()
        await until(lambda: len(asyncio.all_tasks()) <= before, "no task of a connection is left")

        def kept() -> list[StompConnection]:
            gc.collect()
            return [one for one in gc.get_objects() if isinstance(one, StompConnection)]

        await until(lambda: not kept(), "no connection is kept by a timer or anything else")


async def test_two_hundred_connections_open_and_close(edge: Edge, people: make.People) -> None:
    """In every way to go: politely, by closing, by dying, by being refused; half of them with subscriptions."""
    bearer = token(people.ids["recruiter"])

    async def visit(number: int) -> None:
        client = await edge.client(bearer if number % 8 else None)
        if number % 8 and number % 2:
            await client.subscribe("/topic/flows")
            await client.subscribe("/user/queue/errors", "e")
        match number % 4:
            case 0:
                await client.do("DISCONNECT", receipt="bye")
                assert (await client.next()).command in ("RECEIPT", "ERROR")
                await client.closed()
            case 1:
                await client.ws.close()
            case 2:
                client.reset()
            case 3:
                await client.send_text("FLY\n\n\0")
                assert (await client.refused())[1] == 1002

    for start in range(0, 200, 20):
        await asyncio.gather(*(visit(number) for number in range(start, start + 20)))


async def test_a_client_disconnects_in_the_middle_of_a_frame(edge: Edge, people: make.People) -> None:
    client = await edge.client(token(people.ids["recruiter"]))
    await client.subscribe("/topic/flows")
    await client.send_text("SEND\ndestination:/app/x\n\nhal")
    client.ws.transport.write(b"\x81\xfe")
    assert edge.hub.counts() == (1, 1)
    client.reset()
    await edge.empty()


async def test_a_client_disconnects_while_its_subscription_is_authorised(
    edge: Edge, people: make.People, session: UUID
) -> None:
    client = await edge.client(token(people.ids["recruiter"]))
    with locked("sessions"):
        await client.do("SUBSCRIBE", id="s", destination=f"/topic/session/{session}")
        await is_blocked_by_lock()
        client.reset()
        await until(lambda: not edge.sockets, "its socket is gone while the database still thinks")
    await edge.empty()


async def is_blocked_by_lock() -> None:
    """Until somebody waits for a lock that a test holds."""
    waits = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )

    def any_blocked() -> Any:
        with transaction() as db:
            return db.scalar(waits)

    await until(any_blocked, "somebody waits for the lock")


async def test_a_token_revoked_during_sign_in_is_refused(edge: Edge, people: make.People) -> None:
    """The change is routed after the connection joined and before its sign-in has read the user."""
    user = people.ids["interviewer"]
    client = await edge.client()
    with locked("users"):
        await client.do("CONNECT", {"accept-version": "1.2", "passcode": token(user)})
        await until(lambda: edge.hub.counts()[0] == 1, "the connection joined")
        change = f'{{"user_id":{user},"token_version":2,"role":"interviewer"}}'
        edge.hub.route([PushMessage(1, ACCOUNTS, None, "account.changed", change, utcnow())])
    error, code = await client.refused()
    assert "withdrawn" in error.headers["message"]
    assert code == 4401


async def test_an_old_account_event_does_not_revoke_a_new_token(edge: Edge, people: make.People) -> None:
    """A log that is read late brings changes from before the sign-in; other people's changes are not one's own."""
    user = people.ids["interviewer"]
    with transaction() as db:
        db.execute(text("UPDATE users SET token_version = 3 WHERE id = :id"), {"id": user})
    client = await edge.client(token(user, version=3))
    for whose, version in ((user, 2), (people.ids["recruiter"], 9), (user, 3)):
        change = f'{{"user_id":{whose},"token_version":{version},"role":"interviewer"}}'
        edge.hub.route([PushMessage(1, ACCOUNTS, None, "account.changed", change, utcnow())])
    await client.alive()
    client.reset()


async def test_nothing_after_the_revocation_in_a_batch_is_delivered(edge: Edge, people: make.People) -> None:
    """What a batch brings before the change is written, in order, then ERROR, then the close; nothing after it."""
    user = people.ids["recruiter"]
    client = await edge.client(token(user))
    begin = await client.subscribe("/topic/flows")
    change = AccountChanged(user_id=user, token_version=2, role="recruiter")
    await asyncio.to_thread(publish, *[flow_state()] * 10, change, *[flow_state()] * 10)
    ids = [int((await client.next("MESSAGE")).headers["message-id"]) for _ in range(10)]
    assert ids == list(range(begin + 1, begin + 11))
    assert (await client.refused())[1] == 4401


async def test_connections_during_a_database_outage(
    edge: Edge, people: make.People, session: UUID, database: str
) -> None:
    """Connecting and subscribing are refused with "come again", and who is there already stays."""
    bearer = token(people.ids["recruiter"])
    there, subscribing, connecting = await edge.client(bearer), await edge.client(bearer), await edge.client()
    use_database(GONE)
    await subscribing.do("SUBSCRIBE", id="s", destination=f"/topic/session/{session}", receipt="r")
    await connecting.do("CONNECT", {"accept-version": "1.2", "passcode": bearer})
    for client in (subscribing, connecting):
        error, code = await client.refused()
        assert "try again" in error.headers["message"]
        assert code == 1012
    use_database(database)
    await there.subscribe("/topic/flows")
    last = await asyncio.to_thread(publish, flow_state())
    assert (await there.next("MESSAGE")).headers["message-id"] == str(last)
    there.reset()


async def test_connect_waits_until_the_log_is_read(
    database: str, people: make.People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that cannot read at the start would lose messages in silence; once it reads, all is well."""
    monkeypatch.setattr(commands, "_START_SECONDS", 0.3)
    async with edge_here(GONE) as here:
        client = await here.client()
        await client.do("CONNECT", {"accept-version": "1.2", "passcode": token(people.ids["recruiter"])})
        error, code = await client.refused()
        assert "cannot be read yet" in error.headers["message"]
        assert code == 1012
        assert not here.backend.working.is_set()
        here.backend._url = database
        await until(here.hub.started.is_set, "the relay reads")
        client = await here.client(token(people.ids["recruiter"]))
        last = publish(flow_state())
        assert await client.subscribe("/topic/flows") <= last
        client.reset()


async def test_the_time_to_send_is_limited(database: str, people: make.People) -> None:
    """With no limit of bytes, one write that takes too long closes; nobody waits longer for the close itself."""
    async with edge_here(database, ws_queue_bytes=0, ws_send_seconds=0.5) as here:
        bearer = token(people.ids["recruiter"])
        stalled, reading = await here.client(bearer, receive_buffer=4096), await here.client(bearer)
        for client in (stalled, reading):
            await client.subscribe("/topic/flows")
        large = [flow_state(200_000) for _ in range(50)]
        last = await asyncio.to_thread(publish, *large)
        while int((await reading.next("MESSAGE")).headers["message-id"]) < last:
            pass
        await until(lambda: here.hub.counts() == (1, 1), "the stalled one was closed", seconds=3)
        await until(lambda: len(here.sockets) == 1, "its socket was dropped", seconds=3)
        await reading.alive()
        reading.reset()
        await here.empty()


@pytest.mark.parametrize("last_frame", ["FLY\n\n\0", "DISCONNECT\n\n\0", ""])
async def test_closing_an_unread_socket_does_not_block(
    database: str, people: make.People, monkeypatch: pytest.MonkeyPatch, last_frame: str
) -> None:
    """A client that reads nothing is refused, or says goodbye, or closes: its socket is dropped all the same."""
    monkeypatch.setattr(connection, "_CLOSE_SECONDS", 0.3)
    monkeypatch.setattr(wire, "_FLUSH_SECONDS", 0.3)
    async with edge_here(database, ws_queue_bytes=0, ws_send_seconds=0) as here:
        client = await here.client(token(people.ids["recruiter"]), receive_buffer=4096)
        await client.subscribe("/topic/flows")
        last = await asyncio.to_thread(publish, *[flow_state(200_000) for _ in range(50)])
        await until(lambda: here.hub.cursor == last, "they were routed")
        if last_frame:
            await client.send_text(last_frame)
        else:
            client.ws.transport.write(WebSocketFrame(Opcode.CLOSE, b"").serialize(mask=True))
        await here.empty()


async def test_heart_beats_are_not_missed_while_a_frame_is_processed(
    database: str, people: make.People, session: UUID
) -> None:
    """What takes the database long is no fault of the client's, whose heart-beats are not read meanwhile."""
    async with edge_here(database, ws_heart_beat_ms=100) as here:
        client = await here.client()
        await client.connect(token(people.ids["recruiter"]), **{"heart-beat": "100,0"})
        with locked("sessions"):
            await client.do("SUBSCRIBE", id="s", destination=f"/topic/session/{session}", receipt="r")
            began = time.monotonic()
            await is_blocked_by_lock()
            await until(lambda: time.monotonic() - began > 0.6, "twice a client's patience has passed")
        assert await client.receipts(1) == ["r"]
        client.reset()
