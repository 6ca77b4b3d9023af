"""Routing in one process: any subscriptions, any rows."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.realtime.hub import Hub, Subscription
from api.realtime.relay import Position
from api.realtime.stomp import SERVER, Parser
from core.events import ACCOUNTS
from core.models import Role
from core.outbox import PushMessage
from tests.support.hub import Consumer, subscription

KEYS = ("/topic/sessions", "/topic/flows", "/topic/notifications", "/user/7/queue/notifications")
ROLES: tuple[Role, ...] = ("admin", "recruiter", "candidate")
AT = datetime(2026, 1, 1, tzinfo=UTC)


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
            hub.route([PushMessage(id_, key, audience, "x", "{}", AT)])
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


def test_account_events_reach_only_the_users_connections() -> None:
    hub, mine, other = Hub(), Consumer(), Consumer()
    hub.join(mine, 7)
    hub.join(other, 8)
    hub.route([PushMessage(1, ACCOUNTS, None, "x", '{"user_id":7,"token_version":2,"role":"admin"}', AT)])
    assert (mine.accounts, other.accounts, mine.frames) == ([(2, "admin")], [], [])
    hub.leave(mine, 7)
    hub.leave(other, 8)
    hub.leave(other, 8)
    assert hub.counts() == (0, 0)


def test_a_restored_log_sends_resync_to_all() -> None:
    hub, consumer = Hub(), Consumer()
    hub.move_to(Position(900))
    hub.add(subscription(consumer, KEYS[0]))
    hub.add(subscription(consumer, KEYS[3], "q"))
    hub.move_to(Position(500, restored=True))
    first, second = consumer.messages()
    assert (first.headers["message-id"], hub.cursor) == ("500", 500), "to resume from where the restored log is"
    assert b'"type":"resync"' in first.body
    assert b'"destination":"/user/queue/notifications"' in second.body
