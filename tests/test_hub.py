"""Routing in one process: any subscriptions and any rows, then the same fed by a log that is cut, restored and lost."""

import asyncio
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from broadcaster import Broadcast
from hypothesis import given
from hypothesis import strategies as st

from api.realtime import hub as hub_module
from api.realtime import relay
from api.realtime.hub import Hub, Subscription
from api.realtime.relay import OutboxBackend, Position
from api.realtime.stomp import SERVER, Frame, Parser
from core.events import ACCOUNTS
from core.models import Role
from core.outbox import Pushed
from tests.edge import flow_state, publish, until
from tests.parts import PostgresServer, use_database

KEYS = ("/topic/sessions", "/topic/flows", "/topic/notifications", "/user/7/queue/notifications")
ROLES: tuple[Role, ...] = ("admin", "recruiter", "candidate")
AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(eq=False)
class Consumer:
    """Keeps what it is given."""

    frames: list[bytes] = field(default_factory=list)
    accounts: list[tuple[int, Role]] = field(default_factory=list)

    def deliver(self, frame: bytes) -> None:
        self.frames.append(frame)

    def account_changed(self, token_version: int, role: Role) -> None:
        self.accounts.append((token_version, role))

    def messages(self) -> list[Frame]:
        return list(Parser(0, commands=SERVER).feed(b"".join(self.frames)))

    def ids(self) -> list[int]:
        return [int(one.headers["message-id"]) for one in self.messages()]


def subscription(
    consumer: Consumer, key: str, id_: str = "s", role: Role = "admin", version: str = "1.2", ack: bool = False
) -> Subscription:
    return Subscription(consumer, id_, key, key, role, version, explicit_ack=ack)


subscribing = st.tuples(
    st.integers(0, 4),
    st.sampled_from(KEYS),
    st.sampled_from("ab"),
    st.sampled_from(ROLES),
    st.sampled_from(("1.2", "1.1")),
    st.booleans(),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.sampled_from((*KEYS, "/topic/nobody")), st.sampled_from((None, *ROLES))),
        st.tuples(st.just("subscribe"), subscribing),
        st.tuples(st.just("unsubscribe"), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(steps, st.integers(1, 5))
def test_every_subscription_gets_its_rows_in_order(taken: list[Any], gap: int) -> None:
    """Whoever comes and goes: to each consumer goes, for each of its subscriptions of the time, each row of its key
    and audience, in the order of the log; and a frame is built once for all who share it."""
    hub, consumers = Hub(), [Consumer() for _ in range(5)]
    here: list[tuple[int, Subscription]] = []
    expected: list[list[tuple[int, str]]] = [[] for _ in consumers]
    built: Counter[int] = Counter()
    id_ = 0
    for kind, *rest in taken:
        if kind == "subscribe":
            who, key, name, role, version, ack = rest[0]
            made = subscription(consumers[who], key, name, role, version, ack)
            hub.add(made)
            here.append((who, made))
        elif kind == "unsubscribe" and here:
            hub.remove(here.pop(rest[0] % len(here))[1])
        elif kind == "row":
            key, audience = rest
            id_ += gap
            hub.route([Pushed(id_, key, audience, "x", "{}", AT)])
            shared = set()
            for who, made in here:
                if made.key == key and audience in (None, made.role):
                    expected[who].append((id_, made.id or ""))
                    shared.add((made.id, made.version, made.explicit_ack))
            built[id_] = len(shared)
            assert hub.cursor == id_
    for consumer, wanted in zip(consumers, expected, strict=True):
        got = consumer.messages()
        assert [int(one.headers["message-id"]) for one in got] == [id_ for id_, _ in wanted]
        assert Counter((int(one.headers["message-id"]), one.headers["subscription"]) for one in got) == Counter(wanted)
        assert all(one.body.startswith(b'{"id":' + one.headers["message-id"].encode()) for one in got)
    frames = {id(frame): frame for consumer in consumers for frame in consumer.frames}
    parser = Parser(0, commands=SERVER)
    of_ids = Counter(int(next(parser.feed(frame)).headers["message-id"]) for frame in frames.values())
    assert of_ids == +built
    for _, made in here:
        hub.remove(made)
    assert hub.counts() == (0, 0)


def test_account_changes_reach_the_users_connections_only() -> None:
    hub, mine, other = Hub(), Consumer(), Consumer()
    hub.join(mine, 7)
    hub.join(other, 8)
    hub.route([Pushed(1, ACCOUNTS, None, "x", '{"user_id":7,"token_version":2,"role":"admin"}', AT)])
    assert (mine.accounts, other.accounts, mine.frames) == ([(2, "admin")], [], [])
    hub.leave(mine, 7)
    hub.leave(other, 8)
    hub.leave(other, 8)
    assert hub.counts() == (0, 0)


def test_a_restored_log_is_told_to_all() -> None:
    hub, consumer = Hub(), Consumer()
    hub.move_to(Position(900))
    hub.add(subscription(consumer, KEYS[0]))
    hub.add(subscription(consumer, KEYS[3], "q"))
    hub.move_to(Position(500, restored=True))
    first, second = consumer.messages()
    assert (first.headers["message-id"], hub.cursor) == ("500", 500), "to resume from where the restored log is"
    assert b'"type": "resync"' in first.body
    assert b'"destination": "/user/queue/notifications"' in second.body


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


async def test_no_more_is_read_than_is_routed(database: str) -> None:
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


async def test_a_large_batch_lets_others_have_their_turn(tail: Tailing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_BREATH_BYTES", 20_000)
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


async def test_a_lost_notify_costs_a_second(tail: Tailing, database: str) -> None:
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
    """While it is away the relay tries on; without the tables it tries on too; then everybody is told to resync."""
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


async def test_a_permission_that_comes_and_goes(
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


async def test_a_server_that_hangs_is_left(tail: Tailing, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stands and answers nothing: a new one is made, and nothing is lost."""
    monkeypatch.setattr(relay, "_ANSWER_SECONDS", 0.3)
    pid = int(psycopg.connect(database).execute(CUT.replace("pg_terminate_backend(pid)", "pid")).fetchone()[0])  # type: ignore[index]
    os.kill(pid, signal.SIGSTOP)
    try:
        last = await asyncio.to_thread(publish, flow_state())
        await tail.has([last])
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_whatever_goes_wrong_it_never_raises(tail: Tailing, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a bug")

    with monkeypatch.context() as planted:
        planted.setattr(relay, "Pushed", broken)
        last = await asyncio.to_thread(publish, flow_state())
        await until(lambda: not tail.backend.working.is_set(), "health knows")
    await tail.has([last])
    with pytest.raises(RuntimeError, match="outbox"):
        await tail.backend.publish("x", "y")
