"""The relay and the hub behind it, fed by a real log that is cut, restored, dropped and closed to them."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from broadcaster import Broadcast

from api.realtime import hub as hub_module
from api.realtime import relay
from api.realtime.hub import Hub
from api.realtime.relay import OutboxBackend, Position
from tests.support.hub import Consumer, subscription
from tests.support.processes import PostgresServer, use_database
from tests.support.stomp_client import flow_state, publish, until


@dataclass
class Tailing:
    """A hub that tails the log by a relay, with one consumer of ``/topic/flows``."""

    hub: Hub
    backend: OutboxBackend
    consumer: Consumer

    async def has(self, ids: list[int], *, seconds: float = 10.0) -> None:
        """Wait until exactly these came."""
        wanted = len(ids)
        await until(lambda: len(self.consumer.frames) >= wanted, f"{wanted} messages came", seconds=seconds)
        assert self.consumer.ids() == ids

    async def types(self, wanted: list[str]) -> None:
        """Wait until messages of these types came."""
        await until(lambda: len(self.consumer.frames) >= len(wanted), f"{wanted} came")
        got = ["resync" if b'"resync"' in one.body else "flow" for one in self.consumer.messages()]
        assert got == wanted


@asynccontextmanager
async def tailing(url: str) -> AsyncIterator[Tailing]:
    hub, backend, consumer = Hub(), OutboxBackend(url), Consumer()
    broadcast = Broadcast(backend=backend)
    routing = asyncio.create_task(hub.run(broadcast))
    await asyncio.sleep(0)
    await broadcast.connect()
    hub.add(subscription(consumer, "/topic/flows"))
    try:
        yield Tailing(hub, backend, consumer)
        assert not routing.done()
    finally:
        routing.cancel()
        await broadcast.disconnect()


@pytest.fixture
async def tail(database: str) -> AsyncIterator[Tailing]:
    """A relay that has begun to read this test's log."""
    async with tailing(database) as made:
        await until(made.backend.working.is_set, "the log is read")
        yield made


def everything(url: str) -> list[int]:
    """The ids of the log."""
    with psycopg.connect(url) as db:
        return [row[0] for row in db.execute("SELECT id FROM push_events ORDER BY id")]


def run(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    with psycopg.connect(url, autocommit=True) as db:
        for statement in statements:
            db.execute(statement)  # type: ignore[call-overload]


CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'greenroom relay'"


async def test_rows_come_in_order_over_many_batches(tail: Tailing, database: str) -> None:
    """Thousands of rows of many writers at once, none lost or twice; a router that rests does not fill the memory."""
    sizes = (1, 1700, 3, 500, 499, 501, 1)
    await asyncio.gather(*(asyncio.to_thread(publish, *[flow_state()] * size) for size in sizes))
    ids = everything(database)
    assert len(ids) == sum(sizes)
    await tail.has(ids)
    assert tail.hub.cursor == ids[-1]


async def test_fetching_pauses_until_routed(database: str) -> None:
    """A log that grows faster than it is routed waits in the table, not in broadcaster's queue."""
    publish(flow_state())
    backend = OutboxBackend(database)
    first = (await backend.next_published()).message
    assert first == Position(everything(database)[-1])
    publish(*[flow_state()] * 1200)
    batch: Any = (await backend.next_published()).message
    more = asyncio.create_task(backend.next_published())
    await until(lambda: len(batch.rows) == relay._BATCH, "a batch is full")
    done, _ = await asyncio.wait((more,), timeout=0.1)
    assert not done
    batch.taken.set()
    assert len((await more).message.rows) == relay._BATCH  # type: ignore[attr-defined]
    await backend.disconnect()


async def test_a_large_batch_yields_to_other_tasks(tail: Tailing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_SLICE_BYTES", 20_000)
    turns = 0
    longest = 0

    async def other() -> None:
        nonlocal turns, longest
        while True:
            before = len(tail.consumer.frames)
            await asyncio.sleep(0)
            turns, longest = turns + 1, max(longest, len(tail.consumer.frames) - before)

    beside = asyncio.create_task(other())
    await asyncio.to_thread(publish, *[flow_state(1000)] * 400)
    await until(lambda: len(tail.consumer.frames) == 400, "all came")
    beside.cancel()
    assert longest < 20


async def test_a_cut_connection_loses_nothing(tail: Tailing, database: str) -> None:
    for _ in range(3):
        await asyncio.to_thread(publish, flow_state())
        run(database, CUT)
        await asyncio.to_thread(publish, flow_state(), flow_state())
    await tail.has(everything(database))


async def test_a_lost_notify_is_noticed_within_a_second(tail: Tailing, database: str) -> None:
    insert = "INSERT INTO push_events (destination, type, payload) VALUES ('/topic/flows', 'flow.state', '{}')"
    run(database, insert)
    await tail.has(everything(database), seconds=2.5)


@pytest.mark.parametrize("beyond", [False, True])
async def test_a_restored_log_means_resync(tail: Tailing, database: str, beyond: bool) -> None:
    """Also when the restored log's ids went on past the cursor already, as a restore's advanced sequence lets them."""
    await asyncio.to_thread(publish, *[flow_state()] * 5)
    ids = everything(database)
    await tail.has(ids)
    tail.consumer.frames.clear()
    lost = f"DELETE FROM push_events WHERE id > {ids[2]}"  # noqa: S608
    ahead = f"SELECT setval(pg_get_serial_sequence('push_events', 'id'), {ids[-1] + 1_000_000})"
    insert = "INSERT INTO push_events (destination, type, payload) VALUES ('/topic/flows', 'flow.state', '{}')"
    lock = "LOCK TABLE push_events IN ACCESS EXCLUSIVE MODE"
    with psycopg.connect(database) as db:  # all at once, as a restore is
        for statement in (lock, lost, ahead, *([insert] if beyond else []), CUT):
            db.execute(statement)  # type: ignore[call-overload]
    await tail.types(["resync"])
    newest = everything(database)[-1]
    assert tail.hub.cursor == newest
    assert tail.consumer.ids() == [newest]
    last = await asyncio.to_thread(publish, flow_state())
    await tail.has([newest, last])


async def test_pruning_is_no_restore(tail: Tailing, database: str) -> None:
    await asyncio.to_thread(publish, *[flow_state()] * 3)
    ids = everything(database)
    await tail.has(ids)
    prune = f"UPDATE push_log SET pruned_through = {ids[-1]}"  # noqa: S608
    run(database, prune, "DELETE FROM push_events", CUT)
    last = await asyncio.to_thread(publish, flow_state())
    await tail.has([*ids, last])


async def test_a_database_dropped_and_made_anew(tail: Tailing, database: str, postgres: PostgresServer) -> None:
    """While it is away the relay tries on; without the tables it tries on too; then everybody gets a resync."""
    await asyncio.to_thread(publish, *[flow_state()] * 5)
    await tail.has(everything(database))
    tail.consumer.frames.clear()
    name = database.rsplit("/", 1)[1]
    run(postgres.url, f"DROP DATABASE {name} WITH (FORCE)")
    await until(lambda: not tail.backend.working.is_set(), "it is known to be away")
    run(postgres.url, f"CREATE DATABASE {name}")
    await until(lambda: tail.backend._failures >= 3, "it tries on")
    assert not tail.backend.working.is_set()
    run(postgres.url, f"DROP DATABASE {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {postgres.template}")
    use_database(database)
    await tail.types(["resync"])
    last = await asyncio.to_thread(publish, flow_state())
    await tail.has([0, last])


@contextmanager
def reader(postgres: PostgresServer, database: str) -> Iterator[str]:
    """A login that may only read the log; gives its URL."""
    name = f"reader_{secrets.token_hex(4)}"
    run(database, f"CREATE ROLE {name} LOGIN PASSWORD 'x'", f"GRANT SELECT ON push_events, push_log TO {name}")
    try:
        yield f"postgresql://{name}:x@{database.split('@')[1]}"
    finally:
        run(database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_a_revoked_permission_is_retried(
    database: str, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Connecting works and reading does not: it backs off, says so once, and health knows."""
    with reader(postgres, database) as url:
        name = url.split("//")[1].split(":")[0]
        async with tailing(url) as tail:
            await until(tail.backend.working.is_set, "the log is read")
            run(database, f"REVOKE SELECT ON push_events FROM {name}")  # noqa: S608
            await until(lambda: tail.backend._failures >= 3, "it tries on")
            assert not tail.backend.working.is_set()
            assert sum("cannot be read" in one.message for one in caplog.records) == 1
            last = await asyncio.to_thread(publish, flow_state())
            run(database, f"GRANT SELECT ON push_events TO {name}")
            await tail.has([last])
            assert tail.backend.working.is_set()


async def test_a_hanging_server_is_reconnected(tail: Tailing, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stands and answers nothing: a new one is made, and nothing is lost."""
    monkeypatch.setattr(relay, "_ANSWER_SECONDS", 0.3)
    pid = int(psycopg.connect(database).execute(CUT.replace("pg_terminate_backend(pid)", "pid")).fetchone()[0])  # type: ignore[index]
    os.kill(pid, signal.SIGSTOP)
    try:
        last = await asyncio.to_thread(publish, flow_state())
        await tail.has([last])
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_the_backend_never_raises(tail: Tailing, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a bug")

    with monkeypatch.context() as planted:
        planted.setattr(relay, "PushMessage", broken)
        last = await asyncio.to_thread(publish, flow_state())
        await until(lambda: not tail.backend.working.is_set(), "health knows")
    await tail.has([last])
    with pytest.raises(RuntimeError, match="outbox"):
        await tail.backend.publish("x", "y")
